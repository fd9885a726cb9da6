"""Training: recipes, the loop, and its record."""

from .augment import batches, random_crop_flip
from .evaluation import Evaluation, MaskEvaluation, evaluate, evaluate_masks
from .finetune import freeze, new_head, rate_factors, without_head
from .history import History, hardware
from .optimizer import param_groups
from .recipe import RECIPES, Recipe
from .schedule import warmup_cosine
from .trainer import Trainer, train, train_epoch

__all__ = [
    "RECIPES",
    "Evaluation",
    "History",
    "MaskEvaluation",
    "Recipe",
    "Trainer",
    "batches",
    "evaluate",
    "evaluate_masks",
    "freeze",
    "hardware",
    "new_head",
    "param_groups",
    "random_crop_flip",
    "rate_factors",
    "train",
    "train_epoch",
    "warmup_cosine",
    "without_head",
]
