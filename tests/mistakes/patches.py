"""Wrong answers to notebook 01's exercises, by name."""

import torch
import torch.nn.functional as F

from vit_tutorial.layers import patchify

RIGHT = []


def six_axes(*order):
    """A cut by reshape, permute in this order, reshape."""

    def cut(images, P):
        B, C, Y, X = images.shape
        x = images.reshape(B, C, Y // P, P, X // P, P).permute(order)
        return x.reshape(B, (Y // P) * (X // P), C, P, P)

    return cut


def unfold_and_reshape(images, P):
    B, C, Y, X = images.shape
    return images.unfold(2, P, P).unfold(3, P, P).reshape(B, -1, C, P, P)


def columns_outside(images, P):
    B, C, Y, X = images.shape
    return torch.stack([images[:, :, y : y + P, x : x + P] for x in range(0, X, P) for y in range(0, Y, P)], 1)


def columns_outside_flattened(images, P):
    return columns_outside(images, P).flatten(2)


def stacked_in_front(images, P):
    B, C, Y, X = images.shape
    return torch.stack([images[:, :, y : y + P, x : x + P] for y in range(0, Y, P) for x in range(0, X, P)])


def joined_to_the_channels(images, P):
    B, C, Y, X = images.shape
    return torch.cat([images[:, :, y : y + P, x : x + P] for y in range(0, Y, P) for x in range(0, X, P)], 1)


def x_and_y(images, P):
    B, C, Y, X = images.shape
    return torch.stack([images[:, :, x : x + P, y : y + P] for y in range(0, Y, P) for x in range(0, X, P)], 1)


def three_channels(images, P):
    B, C, Y, X = images.shape
    x = images.reshape(B, 3, Y // P, P, X // P, P)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, 3, P, P)


def sides_swapped(images, P):
    B, C, X, Y = images.shape
    x = images.reshape(B, C, Y // P, P, X // P, P)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C, P, P)


def split_the_other_way(images, P):
    B, C, Y, X = images.shape
    x = images.reshape(B, C, P, Y // P, P, X // P)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(B, -1, C, P, P)


def grid_kept(images, P):
    columns = images.shape[3] // P
    return patchify(images, P).unflatten(1, (-1, columns)).unflatten(3, (-1, P, P))


def pixels_and_channels_last(images, P):
    B, C, Y, X = images.shape
    x = images.permute(0, 2, 3, 1).reshape(B, Y // P, P, X // P, P, C)
    return x.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2)


def windows(images, P, S, tops, lefts):
    return torch.stack([images[:, :, y : y + P, x : x + P].flatten(1) for y in tops for x in lefts], dim=1)


def no_plus_one(images, P, S):
    Y, X = images.shape[2:]
    return windows(images, P, S, range(0, Y - P, S), range(0, X - P, S))


def one_window_short(images, P, S):
    Y, X = images.shape[2:]
    return windows(images, P, S, range(0, (Y - P) // S * S, S), range(0, (X - P) // S * S, S))


def sticking_out(images, P, S):
    Y, X = images.shape[2:]
    return windows(images, P, S, range(0, Y, S), range(0, X, S))


def padded(images, P, S):
    Y, X = images.shape[2:]
    rows, columns = -((P - Y) // S) + 1, -((P - X) // S) + 1  # ceil for floor
    images = F.pad(images, (0, (columns - 1) * S + P - X, 0, (rows - 1) * S + P - Y))
    return F.unfold(images, P, stride=S).mT


def not_overlapping_columns_first(images, P, S):
    Y, X = images.shape[2:]
    return torch.stack(
        [images[:, :, y : y + P, x : x + P] for x in range(0, X - P + 1, P) for y in range(0, Y - P + 1, P)], 1
    ).flatten(2)


def square(images, P, S):
    Y = images.shape[2]
    return windows(images, P, S, range(0, Y - P + 1, S), range(0, Y - P + 1, S))


WRONG = [
    ("patch_count", (18, 1200), "sum"),
    ("patch_count", (231, 400), "channels counted + channels forgotten"),
    ("patch_count", (1540, 1200), "one side divided"),
    ("patch_count", (1200, 77), "swapped"),
    ("patch_count", (400, 77), "channels forgotten + swapped"),
    ("patch_count", (77, "many"), "not a number"),
    ("patch_count", 77, "wrong count"),
    ("cut_patches", lambda images, P: images.reshape(len(images), -1, images.shape[1], P, P), "plain reshape"),
    ("cut_patches", lambda images, P: images.reshape(len(images), -1, 3 * P * P), "RuntimeError"),
    (
        "cut_patches",
        lambda images, P: images.reshape(len(images), -1, images.shape[1] * P * P),
        "plain reshape + flattened",
    ),
    ("cut_patches", lambda images, P: patchify(images, P), "flattened"),
    ("cut_patches", lambda images, P: F.unfold(images, P, stride=P), "flattened"),
    ("cut_patches", unfold_and_reshape, "channels not moved"),
    ("cut_patches", columns_outside, "column by column"),
    ("cut_patches", columns_outside_flattened, "column by column + flattened"),
    ("cut_patches", six_axes(0, 4, 2, 1, 3, 5), "column by column"),
    ("cut_patches", six_axes(0, 2, 4, 1, 5, 3), "pixels transposed"),
    ("cut_patches", six_axes(0, 4, 2, 1, 5, 3), "column by column + pixels transposed"),
    ("cut_patches", six_axes(0, 1, 2, 4, 3, 5), "channels not moved"),
    ("cut_patches", six_axes(0, 1, 2, 3, 4, 5), "plain reshape"),
    ("cut_patches", lambda images, P: six_axes(0, 2, 4, 1, 3, 5)(images, P).movedim(2, 4), "channels last"),
    ("cut_patches", pixels_and_channels_last, "channels last + flattened"),
    ("cut_patches", lambda images, P: six_axes(0, 2, 4, 1, 3, 5)(images, P)[:1], "batch lost"),
    ("cut_patches", lambda images, P: six_axes(0, 2, 4, 1, 3, 5)(images, P)[0], "batch lost"),
    ("cut_patches", stacked_in_front, "axes swapped"),
    ("cut_patches", joined_to_the_channels, "wrong shape"),
    ("cut_patches", three_channels, "RuntimeError"),
    ("cut_patches", x_and_y, "x and y swapped"),
    ("cut_patches", sides_swapped, "sides swapped"),
    ("cut_patches", split_the_other_way, "every few pixels"),
    ("cut_patches", grid_kept, "grid kept"),
    ("cut_patches", lambda images, P: images.reshape(-1, 3, P, P), "RuntimeError"),
    ("cut_patches", lambda images: images, "wrong arguments"),
    ("cut_patches", lambda images, P: None, "no return"),
    ("cut_patches", lambda images, P: six_axes(0, 2, 4, 1, 3, 5)(images, 2), "wrong shape"),
    ("project", lambda p, w, b: p.flatten(2) @ w.flatten(1).T, "bias left out"),
    ("project", lambda p, w, b: p.flatten(2) @ w.reshape(-1, len(w)) + b, "reshaped, not transposed"),
    ("project", lambda p, w, b: p.flatten(2) @ w.reshape(-1, len(w)), "reshaped, not transposed + bias left out"),
    ("project", lambda p, w, b: p.flatten(2) @ w.flatten(1) + b, "not transposed"),
    ("project", lambda p, w, b: p.flatten(2) @ w.movedim(1, 3).flatten(1).T + b, "pixels and filters out of step"),
    ("project", lambda p, w, b: p.movedim(2, 4).flatten(2) @ w.flatten(1).T + b, "pixels and filters out of step"),
    ("project", lambda p, w, b: p.mT.flatten(2) @ w.flatten(1).T + b, "pixels and filters out of step"),
    ("project", lambda p, w, b: (p[:, :, None] * w).mean((-3, -2, -1)) + b, "mean for sum"),
    ("project", lambda p, w, b: (p[:, :, None] * w).sum((-2, -1)) + b[:, None], "channels apart"),
    ("project", lambda p, w, b: torch.einsum("bnpq,dpq->bnd", p[:, :, 0], w[:, 0]) + b, "first channel only"),
    ("project", lambda p, w, b: F.linear(p.flatten(2), w.flatten(1), -b), "bias subtracted"),
    ("project", lambda p, w, b: F.linear(p.flatten(2), w.flatten(1)) + b.sum(), "bias summed"),
    ("project", lambda p, w, b: F.linear(p.flatten(2), w.flatten(1), b).relu(), "nonlinear"),
    ("project", lambda p, w, b: F.linear(p.flatten(2), w.flatten(1), b).mT, "axes swapped"),
    ("project", lambda p, w, b: F.linear(p.flatten(2), w.flatten(1), b)[0], "batch lost"),
    ("project", lambda p, w, b: F.linear(p.flatten(1), w.flatten(1), b), "RuntimeError"),
    ("to_tokens", lambda x: x.reshape(x.shape[0], -1, x.shape[1]), "plain reshape"),
    ("to_tokens", lambda x: x.transpose(1, 2).reshape(x.shape[0], -1, x.shape[1]), "wrong axes swapped"),
    ("to_tokens", lambda x: x.transpose(1, 3).reshape(x.shape[0], -1, x.shape[1]), "column by column"),
    ("to_tokens", lambda x: x.flatten(2), "transpose missing"),
    ("to_tokens", lambda x: x.mT.flatten(2), "column by column + transpose missing"),
    ("to_tokens", lambda x: x.permute(0, 2, 3, 1), "grid kept"),
    ("to_tokens", lambda x: x.permute(0, 3, 2, 1), "column by column + grid kept"),
    ("to_tokens", lambda x: x[0].flatten(1).T, "batch lost"),
    ("to_tokens", lambda x: x.flatten(2).permute(2, 0, 1), "axes swapped"),
    ("to_tokens", lambda x: x.flatten(1), "wrong shape"),
    ("patch_budget", 16, "over budget"),
    ("patch_budget", 32, "not the smallest"),
    ("patch_budget", 20, "does not divide"),
    ("patch_budget", -24, "does not divide"),
    ("patch_budget", float("nan"), "does not divide"),
    ("patch_budget", True, "not a number"),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P, stride=P).mT, "no overlap"),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P).mT, "stride left out"),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P, stride=S), "axes swapped"),
    ("overlapping_patches", lambda images, P, S: F.unfold(images, P, stride=P), "no overlap + axes swapped"),
    ("overlapping_patches", no_plus_one, "last windows missing"),
    ("overlapping_patches", one_window_short, "last windows missing"),
    ("overlapping_patches", sticking_out, "sticking out"),
    ("overlapping_patches", padded, "sticking out"),
    ("overlapping_patches", not_overlapping_columns_first, "no overlap + column by column"),
    ("overlapping_patches", square, "wrong shape"),
    (
        "overlapping_patches",
        lambda images, P, S: images.unfold(2, P, S).unfold(3, P, S).permute(0, 2, 3, 1, 4, 5).flatten(1, 2),
        "not flattened",
    ),
    (
        "overlapping_patches",
        lambda images, P, S: images.unfold(2, P, S).unfold(3, P, S).permute(0, 2, 3, 4, 5, 1).flatten(1, 2).flatten(2),
        "channels last",
    ),
]
