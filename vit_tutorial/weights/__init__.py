"""Weights in and out: checkpoints of our own, models of torchvision, timm and transformers, and downloads.

Nothing here unpickles. State-dict names are timm's, so a timm model's weights load as they are.
"""

from .checkpoint import FORMAT, load, load_state, save, unwrapped
from .formats import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCHVISION_NAMES,
    as_ours,
    from_timm,
    from_torchvision,
    from_transformers,
    statistics,
    to_timm,
    to_torchvision,
    to_transformers,
)
from .hub import pretrained
from .patch_mean import PatchMeanViT
from .patch_pool import PatchPoolViT

__all__ = [
    "FORMAT",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "TORCHVISION_NAMES",
    "PatchMeanViT",
    "PatchPoolViT",
    "as_ours",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "load",
    "load_state",
    "pretrained",
    "save",
    "statistics",
    "to_timm",
    "to_torchvision",
    "to_transformers",
    "unwrapped",
]
