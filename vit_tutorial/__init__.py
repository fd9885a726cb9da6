"""Vision Transformers, built step by step: the helper package of the course.

`import vit_tutorial` loads torch alone; everything beyond layers and model loads when first used.
"""

from importlib import import_module

from .machine.threads import limit_threads, usable_cache

limit_threads()  # before torch is loaded, where the reader has not loaded it
usable_cache()

from .layers import (  # noqa: E402
    MLP,
    DropPath,
    EncoderBlock,
    MultiHeadAttention,
    PatchEmbedding,
    grid_size,
    interpolate_positions,
    patchify,
    sinusoidal_positions,
    unpatchify,
)
from .model import VisionTransformer, ViTConfig, normalise, set_image_size  # noqa: E402
from .modern import ModernConfig, ModernViT  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "DropPath",
    "EncoderBlock",
    "ModernConfig",
    "ModernViT",
    "MultiHeadAttention",
    "PatchEmbedding",
    "ViTConfig",
    "VisionTransformer",
    "grid_size",
    "interpolate_positions",
    "normalise",
    "patchify",
    "set_image_size",
    "sinusoidal_positions",
    "unpatchify",
]
MODULES = (
    "answers",
    "check",
    "course",
    "datasets",
    "dense",
    "drawings",
    "interpret",
    "metrics",
    "plots",
    "report",
    "training",
)
MODULES += ("weights", "widgets", "words")


def __getattr__(name):
    if name in MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
