"""Notebook 00's checks: right answers in several styles, and wrong ones by name."""

import numpy as np
import torch

RIGHT = [
    ("token_count", 64),
    ("token_count", (32 // 4) ** 2),
    ("token_count", torch.tensor(64)),
    ("scale_pixels", lambda x: x / 255),
    ("scale_pixels", lambda x: x.float().div(255)),
    ("scale_pixels", lambda x: torch.from_numpy(x.numpy().astype(np.float32) / 255)),
    ("read_shape", "b"),
    ("read_shape", "B"),
    ("read_shape", "(b)"),
]
WRONG = [
    ("token_count", 8, "one side only"),
    ("token_count", 16, "pixels of a patch"),
    ("token_count", 1024, "pixels of the image"),
    ("token_count", 65, "class token counted"),
    ("token_count", "64", "not a number"),
    ("scale_pixels", lambda x: x.float(), "not scaled"),
    ("scale_pixels", lambda x: x.float() // 255, "whole division"),
    ("scale_pixels", lambda x: x / 256, "divided by 256"),
    ("scale_pixels", lambda x: x / 127.5 - 1, "shifted"),
    ("scale_pixels", lambda x: x // 255, "not floats"),
    ("scale_pixels", lambda x: (x / 255).flatten(), "wrong shape"),
    ("read_shape", "a", "batch and tokens swapped"),
    ("read_shape", "c", "tokens and width swapped"),
    ("read_shape", "e", "not a choice"),
    ("read_shape", "d", "batch taken for tokens"),
]
