"""The checks of notebook 01: right answers in several styles pass, planted mistakes are recognised by name."""

from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F

from vit_tutorial.layers import patchify


def loops(images, P, S=None):
    """Windows of P x P pixels, S apart, with two loops."""
    Y, X = images.shape[2:]
    S = S or P
    tops, lefts = range(0, Y - P + 1, S), range(0, X - P + 1, S)
    return torch.stack([images[:, :, y : y + P, x : x + P].flatten(1) for y in tops for x in lefts], dim=1)


def six_axes(*order):
    """A cut by reshape, permute in this order, reshape."""

    def cut(images, P):
        B, C, Y, X = images.shape
        x = images.reshape(B, C, Y // P, P, X // P, P).permute(order)
        return x.reshape(B, (Y // P) * (X // P), C * P * P)

    return cut


def plain_reshape(images, P):
    return images.reshape(len(images), -1, images.shape[1] * P * P)


def grid_kept(images, P):
    columns = images.shape[3] // P
    return patchify(images, P).unflatten(1, (-1, columns))


def one_window_short(images, P, S):
    Y, X = images.shape[2:]
    return loops(images[:, :, : Y - (Y - P) % S - 1, : X - (X - P) % S - 1], P, S)


RIGHT = [
    ("patch_count", (60, 768)),
    ("patch_count", [60.0, torch.tensor(768)]),
    ("patch_count", (np.int64(60), np.float32(768))),
    ("cut_patches", loops),
    ("cut_patches", six_axes(0, 2, 4, 1, 3, 5)),
    ("cut_patches", lambda images, P: F.unfold(images, P, stride=P).mT),
    ("cut_patches", lambda images, P: torch.cat([F.unfold(image[None], P, stride=P) for image in images]).mT),
    ("to_tokens", lambda x: x.flatten(2).transpose(1, 2)),
    ("to_tokens", lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])),
    ("to_tokens", lambda x: torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], 1)),
    ("patch_budget", 24),
    ("patch_budget", torch.tensor(24)),
    ("patch_budget", np.array(24)),
    ("overlapping_patches", loops),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P, stride=S).transpose(1, 2)),
    (
        "overlapping_patches",
        lambda images, P, S: images.unfold(2, P, S).unfold(3, P, S).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2),
    ),
]

WRONG = [
    ("patch_count", (16, 768), "sum"),
    ("patch_count", (15360, 768), "pixels"),
    ("patch_count", (960, 768), "one side divided"),
    ("patch_count", (180, 256), "channels counted"),
    ("patch_count", (61, 768), "class token"),
    ("patch_count", (768, 60), "swapped"),
    ("patch_count", (256, 60), "swapped"),
    ("patch_count", (60, 256), "channels forgotten"),
    ("patch_count", (60, 48), "one row"),
    ("patch_count", (60, 16), "side"),
    ("patch_count", (60, 46080), "image"),
    ("patch_count", (60, "768"), "not a number"),
    ("patch_count", 60, "not two numbers"),
    ("patch_count", (60, 700), None),
    ("cut_patches", plain_reshape, "plain reshape"),
    ("cut_patches", six_axes(0, 4, 2, 1, 3, 5), "column by column"),
    ("cut_patches", six_axes(0, 2, 4, 3, 5, 1), "channels last"),
    ("cut_patches", six_axes(0, 2, 4, 1, 5, 3), "pixels transposed"),
    ("cut_patches", lambda images, P: patchify(images, P)[0], "batch lost"),
    ("cut_patches", lambda images, P: patchify(images, P)[:1], "batch lost"),
    ("cut_patches", lambda images, P: F.unfold(images, P, stride=P), "axes swapped"),
    ("cut_patches", lambda images, P: patchify(images, P).unflatten(2, (-1, P, P)), "not flattened"),
    ("cut_patches", grid_kept, "grid kept"),
    ("cut_patches", lambda images: images, "wrong arguments"),
    ("cut_patches", lambda images, P: None, "no return"),
    ("cut_patches", lambda images, P: patchify(images, P) + 1, None),
    ("cut_patches", lambda images, P: patchify(images, P)[:, :, 1:], "wrong shape"),
    ("to_tokens", lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "plain reshape"),
    ("to_tokens", lambda x: x.flatten(2), "transpose missing"),
    ("to_tokens", lambda x: x.flatten(2).mT.unflatten(1, x.shape[2:]), "grid kept"),
    ("to_tokens", lambda x: x.mT.flatten(2).mT, "column by column"),
    ("patch_budget", 16, "over budget"),
    ("patch_budget", 8, "over budget"),
    ("patch_budget", 32, "not the smallest"),
    ("patch_budget", 20, "does not divide"),
    ("patch_budget", 0, "does not divide"),
    ("patch_budget", -24, "does not divide"),
    ("patch_budget", float("nan"), "does not divide"),
    ("patch_budget", True, "not a number"),
    ("overlapping_patches", lambda images, P, S: loops(images, P), "no overlap"),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P, stride=S), "axes swapped"),
    ("overlapping_patches", one_window_short, "last windows missing"),
    ("overlapping_patches", lambda images, P, S: loops(images, P, S).unflatten(2, (-1, P, P)), "not flattened"),
    (
        "overlapping_patches",
        lambda images, P, S: F.unfold(images, P, stride=S).unflatten(1, (-1, P * P)).permute(0, 3, 2, 1).flatten(2),
        "channels last",
    ),
    (
        "overlapping_patches",
        lambda images, P, S: F.unfold(images.mT, P, stride=S).mT.unflatten(2, (-1, P, P)).mT.flatten(2),
        "column by column",
    ),
]

with suppress(ImportError):  # a style that many know; the course does not need it
    from einops import rearrange

    RIGHT += [
        ("cut_patches", lambda images, P: rearrange(images, "b c (y p) (x q) -> b (y x) (c p q)", p=P, q=P)),
        ("to_tokens", lambda x: rearrange(x, "b d y x -> b (y x) d")),
    ]
