"""Checks of notebook 01: cutting images into patches, and what patches cost."""

import torch
import torch.nn.functional as F

from ..layers import patchify
from .verdict import Wrong, call, describe, exercise, expect_number, expect_tensor, number

__all__ = ["patch_count", "cut_patches", "to_tokens", "patch_budget", "overlapping_patches"]


@exercise
def patch_count(answer):
    """`(patches, numbers in a patch)` of an image of 3 x 96 x 160 with P = 16: `(60, 768)`."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong(f"Expected two numbers (patches, numbers in a patch), found {describe(answer)}.", "not two numbers")
    count, length = answer
    swapped = "these are the numbers in one patch; the first answer is how many patches the image gives."
    expect_number(
        count,
        60,
        [
            ("sum", 16, "you added 6 rows and 10 columns of patches; each row has all the columns, so multiply."),
            ("pixels", 96 * 160, "these are pixels; a patch has 16 x 16 of them."),
            ("one side divided", 96 * 160 / 16, "you divided by P once; both sides are divided, so by P x P."),
            ("channels counted", 180, "a patch holds all three channels; they do not make three patches."),
            ("class token", 61, "this counts the class token; the question is about patches."),
            ("swapped", 768, swapped),
            ("swapped", 256, swapped),
        ],
        what="the number of patches",
    )
    expect_number(
        length,
        768,
        [
            ("channels forgotten", 256, "these are the pixels of a patch; each pixel has 3 numbers, one a channel."),
            ("one row", 48, "this is one row of pixels; a patch has 16 of them."),
            ("side", 16, "this is the side of a patch; count all pixels and all channels."),
            ("image", 3 * 96 * 160, "these are the numbers in the whole image."),
        ],
        what="the length of a patch",
    )
    return "60 patches of 768 numbers: the image's 46,080 numbers, none lost and none twice."


@exercise
def cut_patches(answer):
    """A function `(images, patch_size) -> (B, N, C*P*P)`: `patchify`."""
    for shape, P in (((2, 3, 8, 12), 4), ((3, 2, 6, 4), 2), ((1, 1, 9, 3), 3), ((1, 3, 4, 4), 4)):
        images = torch.randn(shape)
        B, C, Y, X = shape
        expected = patchify(images, P)
        N, length = expected.shape[1:]
        axes = images.reshape(B, C, Y // P, P, X // P, P)
        order = lambda *axis: axes.permute(axis).reshape(B, N, length)  # noqa: B023, E731
        mistakes = [
            (
                "plain reshape",
                images.reshape(B, N, length),
                "reshape alone keeps the order of memory: your patches are stretches of rows. Permute in between.",
            ),
            (
                "column by column",
                order(0, 4, 2, 1, 3, 5),
                "your patches run down the columns; count them as you read, row by row.",
            ),
            (
                "channels last",
                order(0, 2, 4, 3, 5, 1),
                "each patch is flattened pixel by pixel; flatten it channel by channel, (C, P, P).",
            ),
            (
                "pixels transposed",
                order(0, 2, 4, 1, 5, 3),
                "every patch is mirrored at its diagonal: its rows and columns have changed places.",
            ),
            ("batch lost", expected[0], "the batch axis is gone: the answer is (B, N, C*P*P), also for one image."),
            ("batch lost", expected[:1], "only the first image was cut; every image of the batch has patches."),
            (
                "axes swapped",
                expected.transpose(1, 2),
                "the patches are right, but they lie in the last axis: the answer is (B, N, C*P*P).",
            ),
            (
                "not flattened",
                expected.reshape(B, N, C, P, P),
                "the patches are right but still (C, P, P); flatten each to one row.",
            ),
            (
                "grid kept",
                expected.reshape(B, Y // P, X // P, length),
                "the patches are right but still lie in rows and columns; join these two axes to N.",
            ),
        ]
        found = call(answer, images, P)
        expect_tensor(found, expected, mistakes, what=f"the patches of images {shape}, P = {P},")
    return "Patches row by row, each channel first: the same as the package's patchify."


@exercise
def to_tokens(answer):
    """A function `(B, D, rows, columns) -> (B, N, D)`: token n holds the D numbers of patch n."""
    for B, D, rows, columns in ((2, 5, 3, 4), (1, 4, 2, 2), (3, 6, 1, 5)):
        x = torch.randn(B, D, rows, columns)
        N = rows * columns
        expected = x.flatten(2).transpose(1, 2)
        mistakes = [
            (
                "plain reshape",
                x.reshape(B, N, D),
                "still the broken version: token 0 holds numbers of several patches. Move D behind the patches first.",
            ),
            (
                "transpose missing",
                x.flatten(2),
                "the patches are joined, but this is (B, D, N); swap the last two axes.",
            ),
            (
                "column by column",
                x.transpose(2, 3).flatten(2).transpose(1, 2),
                "the tokens run down the columns; patches are counted row by row.",
            ),
            (
                "grid kept",
                x.permute(0, 2, 3, 1),
                "the D numbers stand together, but rows and columns are still two axes; join them to N.",
            ),
        ]
        expect_tensor(call(answer, x), expected, mistakes, what="the tokens")
    return "Token n now holds the D numbers of patch n."


@exercise
def patch_budget(answer):
    """The smallest patch size for ViT-B, 384 x 384, batch 64, whose attention maps fit in 8 GB: 24."""
    P = number(answer, "the patch size")
    if not P >= 1 or 384 % P:
        raise Wrong(f"P = {P:g} does not divide 384 into whole patches.", "does not divide")
    N = (384 / P) ** 2 + 1
    size = 64 * 4 * 12 * 12 * N**2 / 1e9
    if size > 8:
        why = f"At P = {P:g} there are {N:.0f} tokens, and the maps of 64 images take {size:.1f} GB, more than 8 GB."
        raise Wrong(why, "over budget")
    if P > 24:
        raise Wrong(f"P = {P:g} fits with {size:.2f} GB, but a smaller patch size fits as well.", "not the smallest")
    return f"P = 24: {N:.0f} tokens, {size:.1f} GB of attention maps. P = 16 would need 12.3 GB."


@exercise
def overlapping_patches(answer):
    """A function `(images, patch_size, stride) -> (B, N, C*P*P)`: windows of P x P pixels, `stride` apart."""
    for shape, P, S in (((2, 3, 8, 10), 4, 2), ((1, 2, 7, 9), 3, 2), ((2, 1, 6, 6), 3, 1), ((1, 3, 8, 4), 4, 4)):
        images = torch.randn(shape)
        expected = F.unfold(images, P, stride=S).transpose(1, 2)
        B, C, Y, X = shape
        rows, columns = (Y - P) // S + 1, (X - P) // S + 1
        windows = expected.reshape(B, rows, columns, C, P, P)
        mistakes = [
            (
                "no overlap",
                F.unfold(images, P, stride=P).transpose(1, 2),
                "these patches do not overlap: the window moves by stride, not by P.",
            ),
            (
                "axes swapped",
                expected.transpose(1, 2),
                "the windows are right, but they lie in the last axis, as unfold gives them; swap the last two axes.",
            ),
            (
                "last windows missing",
                windows[:, :-1, :-1].flatten(1, 2).flatten(2),
                "the last row and column of windows are missing: range(0, Y - P + 1, stride) starts one at Y - P.",
            ),
            (
                "column by column",
                windows.transpose(1, 2).flatten(1, 2).flatten(2),
                "the windows run down the columns; count them row by row.",
            ),
            (
                "channels last",
                windows.permute(0, 1, 2, 4, 5, 3).flatten(1, 2).flatten(2),
                "each window is flattened pixel by pixel; flatten it channel by channel, (C, P, P).",
            ),
            (
                "not flattened",
                windows.flatten(1, 2),
                "the windows are right but still (C, P, P); flatten each to one row.",
            ),
        ]
        found = call(answer, images, P, S)
        expect_tensor(found, expected, mistakes, what=f"the windows of images {shape}, P = {P}, stride {S},")
    return "Every window that fits, row by row; with stride = P this is patchify."
