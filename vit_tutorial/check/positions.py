"""Checks of notebook 02: order, position embeddings, the class token, interpolation."""

import math

import torch

from ..layers import interpolate_positions
from .verdict import call, exercise, expect_choice, expect_number, expect_tensor

__all__ = ["same_to_attention", "unshuffle", "first_repeat", "place_class_token", "crop_positions", "shift_matrix"]


@exercise
def same_to_attention(answer):
    """Which changed photograph has the same patches in another order: "b", the rows of patches reversed."""
    expect_choice(
        answer,
        "b",
        {
            "a": (
                "patches mirrored",
                "Mirroring the whole photograph also mirrors the inside of each patch, so the embedding sees other "
                "pixels in each. Look for the change that leaves every patch as it is.",
            ),
            "c": (
                "cut elsewhere",
                "After a shift by half a patch the cuts fall on other pixels: these are other patches, not the same "
                "ones in another order.",
            ),
            "d": (
                "patches turned",
                "Turning the photograph also turns each patch, and a patch upside down has its pixels in other places. "
                "Look for the change that leaves every patch as it is.",
            ),
        },
    )
    return "Only the order of the patches changes, and attention without positions has no use for the order."


@exercise
def unshuffle(answer):
    """A function `(shuffled, order) -> tokens` that undoes `shuffled = tokens[:, order]`."""
    for B, N, D in ((1, 5, 3), (2, 9, 4), (3, 12, 2)):
        tokens = torch.randn(B, N, D)
        order = torch.randperm(N)
        while torch.equal(order[order], torch.arange(N)):  # its own inverse: then two mistakes look right
            order = torch.randperm(N)
        shuffled = tokens[:, order]
        mistakes = [
            (
                "shuffled twice",
                shuffled[:, order],
                "this shuffles once more. Place n of the shuffled list holds token order[n]; you need the place that "
                "holds token n.",
            ),
            ("still shuffled", shuffled, "the tokens are still in the shuffled order."),
            ("reversed", shuffled.flip(1), "this reads the list backwards, which undoes a reversal, not a shuffle."),
            ("batch lost", tokens[0], "the batch axis is gone: the answer is (B, N, D), also for one image."),
        ]
        expect_tensor(call(answer, shuffled, order), tokens, mistakes, what="the restored list")
    return "Every token is back in its place, whatever the order was."


@exercise
def first_repeat(answer):
    """The first distance at which one hand of frequency 1 is back above a similarity of 0.95: 6."""
    expect_number(
        answer,
        6,
        [
            ("distance zero", 0, "a place is always like itself; start at distance 1."),
            (
                "not a place",
                2 * math.pi,
                "after 2 pi the hand is exactly back, but distances between places are whole numbers.",
            ),
            ("opposite", 3, "at distance 3 the similarity is -0.99: the hand points the opposite way."),
            ("the best, not the first", 44, "44 is a closer repeat (similarity 0.9998), but not the first above 0.95."),
            ("degrees", 360, "angles are in radians here: a full turn is 2 pi, not 360."),
        ],
        what="the distance",
    )
    return "One fast hand takes places 6 apart for nearly the same place; slower hands tell them apart."


@exercise
def place_class_token(answer):
    """A function `(patch_tokens, cls_token, pos_embed) -> (B, 1 + N, D)`: class token first, then positions."""
    for B, N, D in ((1, 6, 4), (3, 4, 8), (2, 1, 4)):
        patches, cls, pos = torch.randn(B, N, D), torch.randn(1, 1, D), torch.randn(1, 1 + N, D)
        cls_rows = cls.expand(B, -1, -1)
        mistakes = [
            (
                "both faults",
                torch.cat([patches + pos[:, :N], cls_rows], dim=1),
                "both faults are still there: the class token is last, and patch 0 gets the position of row 0.",
            ),
            (
                "class token last",
                torch.cat([patches, cls_rows], dim=1) + pos,
                "the class token stands last. Row 0 of the positions, and the code that reads the answer, expect it "
                "first.",
            ),
            (
                "off by one",
                torch.cat([cls_rows, patches + pos[:, :N]], dim=1),
                "patch 0 gets row 0 of the positions, which belongs to the class token: every patch is one place off.",
            ),
            (
                "class token without position",
                torch.cat([cls_rows, patches + pos[:, 1:]], dim=1),
                "the patches are right, but the class token lost its own position: prepend first, then add.",
            ),
            (
                "positions missing",
                torch.cat([cls_rows, patches], dim=1),
                "the order is right, but no positions were added.",
            ),
            (
                "class token missing",
                patches + pos[:, 1:],
                "the class token is missing: the answer has 1 + N tokens.",
            ),
        ]
        found = call(answer, patches, cls, pos)
        expect_tensor(found, torch.cat([cls_rows, patches], dim=1) + pos, mistakes, what="the list of tokens")
    return "The class token stands first in every image, and each row of positions meets its own token."


@exercise
def crop_positions(answer):
    """A function `(pos_embed, grid, top, left, new_grid) -> (1, 1 + n, D)`: the positions of a window of the grid."""
    for grid, top, left, new_grid in (((5, 7), 1, 2, (3, 4)), ((6, 6), 2, 3, (3, 3)), ((8, 4), 0, 1, (2, 3))):
        (rows, columns), (height, width), D = grid, new_grid, 4
        pos = torch.randn(1, 1 + rows * columns, D)
        cls, places = pos[:, :1], pos[:, 1:].reshape(1, rows, columns, D)
        window = lambda x, y0, x0: x[:, y0 : y0 + height, x0 : x0 + width]  # noqa: B023, E731
        table = lambda x: torch.cat([cls, x.flatten(1, 2)], dim=1)  # noqa: B023, E731
        cut = window(places, top, left)  # (1, height, width, D)
        expected = table(cut)
        start = 1 + top * columns + left
        one_off = pos[:, :-1].reshape(1, rows, columns, D)
        mistakes = [
            ("class position lost", expected[:, 1:], "the position of the class token is gone; keep row 0."),
            (
                "one long stretch",
                torch.cat([cls, pos[:, start : start + height * width]], dim=1),
                "you took rows of the table that follow each other. A window has gaps between its rows: reshape to "
                "the grid first.",
            ),
            (
                "rows and columns swapped",
                table(window(places, left, top)),
                "top counts rows and left counts columns; here they have changed places.",
            ),
            (
                "column by column",
                table(cut.transpose(1, 2)),
                "the window is right but read column by column; patches are counted row by row.",
            ),
            (
                "class token counted as a place",
                table(window(one_off, top, left)),
                "the class token's row was counted as the first place of the grid: all places are one off.",
            ),
            (
                "resized",
                interpolate_positions(pos, grid, new_grid),
                "this squeezes the whole grid into the window. A crop keeps the places inside it as they are.",
            ),
            ("leading axis lost", expected[0], "the leading axis of 1 is gone: the answer is (1, 1 + n, D)."),
        ]
        found = call(answer, pos, grid, top, left, new_grid)
        expect_tensor(found, expected, mistakes, what="the cropped table")
    return "The window keeps its places, row by row, and the class token keeps its own."


@exercise
def shift_matrix(answer):
    """A function `(frequencies, k) -> (D, D)`: the matrix that takes the sinusoid of place n to that of place n + k."""
    for frequencies, k in ((torch.tensor([1.0, 0.1]), 3), (torch.rand(4) + 0.1, 1), (torch.tensor([0.7]), -2)):
        angles = frequencies * k
        S, C = angles.sin().diag(), angles.cos().diag()
        expected = torch.cat([torch.cat([C, S], 1), torch.cat([-S, C], 1)])
        turns = [torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles]
        mistakes = [
            (
                "turns backwards",
                expected.T,
                "this goes from place n to n - k. Look at the signs of the sines (or transpose).",
            ),
            (
                "sign missing",
                torch.cat([torch.cat([C, S], 1), torch.cat([S, C], 1)]),
                "a sign is missing: cos(a + b) = cos a cos b - sin a sin b.",
            ),
            (
                "pairs side by side",
                torch.block_diag(*turns),
                "this is right for sine and cosine side by side; here all sines come first, then all cosines.",
            ),
            (
                "ones instead of cosines",
                torch.eye(len(expected)),
                "the identity moves nothing; each hand has to turn by its frequency times k.",
            ),
        ]
        expect_tensor(call(answer, frequencies, k), expected, mistakes, what="the matrix")
    return "One matrix moves every place by k: in these embeddings, going k places on is a rotation."
