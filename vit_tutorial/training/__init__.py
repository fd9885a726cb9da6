"""Training: recipes, the loop, and its record."""

from .augment import batches, normalise, random_crop_flip
from .history import History, hardware
from .loop import Evaluation, evaluate, train, train_epoch
from .optimizer import param_groups
from .recipe import RECIPES, Recipe
from .schedule import warmup_cosine

__all__ = [
    "RECIPES",
    "Evaluation",
    "History",
    "Recipe",
    "batches",
    "evaluate",
    "hardware",
    "normalise",
    "param_groups",
    "random_crop_flip",
    "train",
    "train_epoch",
    "warmup_cosine",
]
