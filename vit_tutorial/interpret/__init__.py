"""What looks inside a trained model, and how far to believe it.

Images are normalised as for `model(images)`: see `vit_tutorial.normalise`. Models are the course's own, timm's,
torchvision's or transformers', of any precision, compiled or parallel; they run in evaluation mode and are left as they
were found.
"""

from .attention import attention_distance, attention_rollout, class_map, head_maps, relevance, rollout
from .experiments import (
    cover_patches,
    deletion_curve,
    insertion_curve,
    integrated_gradients,
    occlusion,
    patch_sums,
    pointing_game,
    shuffle_curve,
    shuffle_patches,
)
from .recording import features, record
from .representation import filter_components, linear_cka, logit_lens, position_similarity, token_norms
from .tokens import Tokens

__all__ = [
    "Tokens",
    "attention_distance",
    "attention_rollout",
    "class_map",
    "cover_patches",
    "deletion_curve",
    "features",
    "filter_components",
    "head_maps",
    "insertion_curve",
    "integrated_gradients",
    "linear_cka",
    "logit_lens",
    "occlusion",
    "patch_sums",
    "pointing_game",
    "position_similarity",
    "record",
    "relevance",
    "rollout",
    "shuffle_curve",
    "shuffle_patches",
    "token_norms",
]
