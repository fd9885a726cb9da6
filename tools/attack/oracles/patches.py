"""Exercises 1.2, 1.3, 1.4 and 1.6."""

import torch

from . import oracle

CUTS = [
    (2, 3, 4, 6, 2),
    (1, 3, 2, 2, 2),
    (3, 1, 3, 5, 1),
    (2, 2, 6, 9, 3),
    (1, 4, 8, 4, 4),
    (3, 3, 9, 9, 3),
]  # B, C, Y, X, P
PROJECTIONS = [  # B, N, C, P, D
    *[(2, 3, 3, 2, 4), (1, 1, 1, 1, 1), (3, 5, 2, 3, 18), (2, 4, 3, 2, 12), (4, 2, 1, 5, 3), (1, 6, 4, 2, 16)],
    *[(2, 2, 2, 2, 2), (3, 1, 3, 4, 9)],
]
MAPS = [(2, 3, 4, 5), (1, 1, 1, 1), (2, 5, 3, 3), (3, 4, 1, 6), (1, 7, 2, 3), (2, 6, 5, 1), (3, 3, 3, 3), (4, 2, 8, 9)]
WINDOWS = [  # B, C, Y, X, P, stride; many of these leave a rest at an edge
    *[(2, 3, 7, 9, 3, 2), (1, 1, 5, 5, 5, 1), (2, 2, 8, 6, 3, 2), (1, 3, 6, 9, 3, 3), (2, 1, 7, 10, 4, 3)],
    *[(3, 2, 8, 11, 4, 3), (2, 3, 3, 4, 1, 1), (1, 1, 9, 4, 4, 2), (2, 4, 5, 12, 5, 4), (4, 1, 6, 8, 2, 2)],
]


def pictures(sizes):
    return [(torch.randn(B, C, Y, X), *how) for B, C, Y, X, *how in sizes]


@oracle(lambda: pictures(CUTS))
def cut_patches(images, P, stride=None):
    """Small pictures `(B, N, C, P, P)`, row by row."""
    tops, lefts = ([n for n in range(side) if n % (stride or P) == 0 and n + P <= side] for side in images.shape[2:])
    return torch.stack([images[:, :, y : y + P, x : x + P] for y in tops for x in lefts], dim=1)


@oracle(
    lambda: [
        (torch.randn(B, N, C, P, P), torch.randn(D, C, P, P), 2 * torch.randn(D) + 1) for B, N, C, P, D in PROJECTIONS
    ]
)
def project(patches, weight, bias):
    """Tokens `(B, N, D)`: for each the sum of patch times filter, plus the filter's bias."""
    B, N = patches.shape[:2]
    numbers = [
        (patches[b, n] * one).sum() + bias[d] for b in range(B) for n in range(N) for d, one in enumerate(weight)
    ]
    return torch.stack(numbers).reshape(B, N, len(weight))


@oracle(lambda: pictures(MAPS))
def to_tokens(feature_map):
    rows, columns = feature_map.shape[2:]
    return torch.stack([feature_map[:, :, y, x] for y in range(rows) for x in range(columns)], dim=1)


@oracle(lambda: pictures(WINDOWS))
def overlapping_patches(images, P, stride):
    """Flat patches `(B, N, C*P*P)`, channel first."""
    return cut_patches.__wrapped__(images, P, stride).flatten(2)
