"""Exercises 1.2, 1.3 and 1.5."""

import torch

from . import oracle

CUTS = [  # B, C, Y, X, P
    *[(2, 3, 4, 6, 2), (1, 3, 2, 2, 2), (3, 1, 3, 5, 1), (2, 2, 6, 9, 3), (1, 3, 8, 4, 4), (1, 1, 5, 10, 5)],
    *[(3, 4, 10, 4, 2), (4, 3, 4, 12, 4), (1, 2, 3, 3, 3), (3, 3, 9, 9, 3), (2, 3, 8, 12, 2), (1, 1, 1, 1, 1)],
]
MAPS = [(2, 3, 4, 5), (1, 1, 1, 1), (2, 5, 3, 3), (3, 4, 1, 6), (1, 7, 2, 3), (2, 6, 5, 1), (3, 3, 3, 3), (4, 2, 8, 9)]
WINDOWS = [  # B, C, Y, X, P, stride; many of these leave a rest at an edge
    *[(2, 3, 7, 9, 3, 2), (1, 1, 5, 5, 5, 1), (2, 2, 8, 6, 3, 2), (1, 3, 6, 9, 3, 3), (2, 1, 7, 10, 4, 3)],
    *[(3, 2, 8, 11, 4, 3), (1, 2, 4, 5, 2, 1), (2, 3, 3, 4, 1, 1), (1, 1, 9, 4, 4, 2), (2, 4, 5, 12, 5, 4)],
    *[(1, 3, 10, 7, 4, 1), (4, 1, 6, 8, 2, 2), (1, 2, 12, 12, 5, 2), (2, 1, 5, 6, 4, 3), (1, 3, 4, 4, 4, 4)],
]


def pictures(sizes):
    return [(torch.randn(B, C, Y, X), *how) for B, C, Y, X, *how in sizes]


@oracle(lambda: pictures(CUTS))
def cut_patches(images, P, stride=None):
    """Small pictures `(B, N, C, P, P)`, row by row."""
    B, C, Y, X = images.shape
    tops, lefts = ([n for n in range(side) if n % (stride or P) == 0 and n + P <= side] for side in (Y, X))
    cut = torch.zeros(B, len(tops) * len(lefts), C, P, P)
    for n in range(cut.shape[1]):
        for i in range(P):
            for j in range(P):
                cut[:, n, :, i, j] = images[:, :, tops[n // len(lefts)] + i, lefts[n % len(lefts)] + j]
    return cut


@oracle(lambda: pictures(MAPS))
def to_tokens(feature_map):
    B, D, rows, columns = feature_map.shape
    tokens = torch.zeros(B, rows * columns, D)
    for y in range(rows):
        for x in range(columns):
            tokens[:, y * columns + x] = feature_map[:, :, y, x]
    return tokens


@oracle(lambda: pictures(WINDOWS))
def overlapping_patches(images, P, stride):
    """Flat patches `(B, N, C*P*P)`, channel first."""
    cut = cut_patches.__wrapped__(images, P, stride)
    return torch.tensor([[patch.flatten().tolist() for patch in image] for image in cut])
