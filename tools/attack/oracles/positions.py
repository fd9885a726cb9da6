"""Exercises 2.2, 2.4, 2.5, 2.7 and 2.8."""

import math

import torch

from . import oracle

TOKENS = [(1, 1, 1), (2, 3, 4), (3, 5, 2), (1, 6, 5), (5, 4, 3), (4, 4, 4), (2, 1, 3), (3, 2, 1), (2, 17, 6), (1, 2, 8)]
CROPS = [  # grid, top, left, new grid, D
    *[((3, 4), 1, 1, (2, 2), 5), ((3, 4), 0, 0, (3, 4), 2), ((3, 4), 2, 3, (1, 1), 4), ((5, 2), 1, 0, (3, 2), 3)],
    *[((2, 5), 0, 1, (2, 3), 1), ((1, 1), 0, 0, (1, 1), 2), ((4, 4), 1, 2, (3, 2), 4), ((1, 7), 0, 3, (1, 4), 3)],
    *[((6, 1), 2, 0, (3, 1), 6), ((6, 5), 3, 1, (2, 4), 7), ((4, 3), 1, 0, (2, 3), 2), ((3, 5), 0, 2, (1, 3), 3)],
]
HANDS = [[1.0], [1.0, 0.5], [1.0, 0.1, 0.01, 0.001], [0.3, 1.7, 0.9], [0.25, 2.0, 1.1, 0.6, 0.05]]


@oracle(lambda: [(torch.randn(size), torch.randperm(size[1])) for size in [*TOKENS, (2, 8, 3), (1, 9, 1)]])
def unshuffle(shuffled, order):
    return torch.stack([shuffled[:, order.tolist().index(n)] for n in range(len(order))], dim=1)


@oracle(lambda: [(torch.randn(x, h), torch.randn(y, h)) for x, y, h in [(1, 1, 1), (3, 2, 2), (2, 5, 3), (4, 4, 1)]])
def grid_table(column_table, row_table):
    return torch.stack([torch.cat([column, row]) for row in row_table for column in column_table])


@oracle(lambda: [(torch.randn(B, N, D), torch.randn(1, 1, D), torch.randn(1, 1 + N, D)) for B, N, D in TOKENS])
def place_class_token(patch_tokens, cls_token, pos_embed):
    rows = [cls_token[0, 0] + 0 * patch_tokens[:, 0], *patch_tokens.unbind(1)]
    return torch.stack([row + pos_embed[0, n] for n, row in enumerate(rows)], dim=1)


@oracle(lambda: [(torch.randn(1, 1 + grid[0] * grid[1], D), grid, *window) for grid, *window, D in CROPS])
def crop_positions(pos_embed, grid, top, left, new_grid):
    places = [(top + y) * grid[1] + left + x for y in range(new_grid[0]) for x in range(new_grid[1])]
    return torch.stack([pos_embed[0, n] for n in (0, *(1 + place for place in places))])[None]


@oracle(lambda: [(torch.tensor(hands), k) for hands in HANDS for k in (0, 1, 5, -3)])
def shift_matrix(frequencies, k):
    half = len(frequencies)
    matrix = torch.zeros(2 * half, 2 * half)
    for i, angle in enumerate((frequencies.double() * k).tolist()):
        matrix[i, i] = matrix[half + i, half + i] = math.cos(angle)
        matrix[i, half + i], matrix[half + i, i] = math.sin(angle), -math.sin(angle)
    return matrix
