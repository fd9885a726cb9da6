"""What comes with other people's models: records of how pixels are normalised, odd layers, odd images."""

import json

import torch
from torch import nn

from vit_tutorial import VisionTransformer, interpret, weights, widgets

from .case import CONFIG, Case, cases
from .checkpoints import STATE, checkpoint, load

GROUP = "models"
HUB = {"model_type": "vit", "image_size": 16, "num_attention_heads": 3}
RIGHT = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PROCESSORS = {
    "a mean that is null": {"image_mean": None},
    "a mean that is a text": {"image_mean": "0.5"},
    "a mean of texts": {"image_mean": ["a", "b", "c"]},
    "a mean in a mean": {"image_mean": [[0.5], [0.5], [0.5]]},
    "a mean that is NaN": {"image_mean": float("nan")},
    "a std of 0": {"image_std": 0},
    "a std below 0": {"image_std": [-0.5] * 3},
    "a std that is a dict": {"image_std": {"a": 1}},
    "a factor of 0": {"rescale_factor": 0},
    "a factor that is a text": {"rescale_factor": "1/255"},
    "an infinite factor": {"rescale_factor": float("inf")},
    "a factor of 400 digits": {"rescale_factor": 10**400},
}


def with_processor(changes):
    def call():
        processor = json.loads(json.dumps(RIGHT)) | changes
        state = {f"vit.{name}": value for name, value in STATE.items()}
        return weights.from_transformers(state, HUB, processor).config.mean

    return lambda folder: call


def with_head(*layers):
    model = VisionTransformer(CONFIG)
    model.head = nn.Sequential(*layers)
    return model


SAVED = {
    "a head of two layers": (lambda: with_head(nn.Linear(12, 4), nn.Linear(4, 2)), "one linear layer.*Linear, Linear"),
    "a head of a norm": (lambda: with_head(nn.LayerNorm(12), nn.Linear(12, 2)), "found LayerNorm, Linear"),
    "a head for other classes": (lambda: with_head(nn.Linear(12, 9)), "2 classes.*found 9 outputs"),
    "no ViT": (lambda: nn.DataParallel(nn.Linear(2, 2)), "expected a VisionTransformer.*found Linear"),
}
BYTES = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
CALLS = {
    "AttentionExplorer of no ViT": lambda: widgets.AttentionExplorer(nn.Linear(2, 2), BYTES),
    "AttentionExplorer, two channels": lambda: widgets.AttentionExplorer(VisionTransformer(CONFIG), BYTES[:, :2]),
    "AttentionExplorer, another size": lambda: widgets.AttentionExplorer(VisionTransformer(CONFIG), BYTES[..., :8]),
    "EncoderStepper of no ViT": lambda: widgets.EncoderStepper(nn.Linear(2, 2), BYTES[0]),
    "PositionExplorer of no ViT": lambda: widgets.PositionExplorer(nn.Linear(2, 2)),
    "record of bytes": lambda: interpret.record(VisionTransformer(CONFIG), BYTES),
}


def saved(make):
    return lambda folder: lambda: weights.save(make(), folder / "model.safetensors")


CASES = [
    *cases(
        GROUP, with_processor, "error", {f"processor: {name}": (row, "expected") for name, row in PROCESSORS.items()}
    ),
    *cases(GROUP, saved, "error", {f"save: {name}": row for name, row in SAVED.items()}),
    *[Case(GROUP, name, lambda folder, call=call: call, "error", "expected") for name, call in CALLS.items()],
    *cases(
        GROUP, load, "error", {"checkpoint: unknown pooling": (checkpoint(patch_mean="max"), "a model config inside")}
    ),
    *cases(GROUP, load, "read", {"checkpoint: reads the patches": (checkpoint(patch_mean="norm last"), "read: ")}),
]
