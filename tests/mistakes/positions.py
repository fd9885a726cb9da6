"""The checks of notebook 02: right answers in several styles pass, planted mistakes are recognised by name."""

import math
from fractions import Fraction

import torch

from vit_tutorial.layers import interpolate_positions


def unshuffle_by_assignment(shuffled, order):
    tokens = torch.empty_like(shuffled)
    tokens[:, order] = shuffled
    return tokens


def unshuffle_by_loop(shuffled, order):
    return torch.stack([shuffled[:, order.tolist().index(n)] for n in range(len(order))], dim=1)


def place(patches, cls, pos):
    return torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1) + pos


def place_in_two_parts(patches, cls, pos):
    return torch.cat([(cls + pos[:, :1]).repeat(len(patches), 1, 1), patches + pos[:, 1:]], dim=1)


def append(patches, cls):
    return torch.cat([patches, cls.expand(len(patches), -1, -1)], dim=1)


def prepend(patches, cls):
    return torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1)


def crop(pos, grid, top, left, new_grid):
    places = pos[:, 1:].unflatten(1, grid)
    window = places[:, top : top + new_grid[0], left : left + new_grid[1]]
    return torch.cat([pos[:, :1], window.flatten(1, 2)], dim=1)


def crop_by_index(pos, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [0] + [1 + y * grid[1] + x for y in range(top, top + height) for x in range(left, left + width)]
    return pos[:, chosen]


def crop_by_columns(pos, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [0] + [1 + y * grid[1] + x for x in range(left, left + width) for y in range(top, top + height)]
    return pos[:, chosen]


def one_stretch(pos, grid, top, left, new_grid):
    start = 1 + top * grid[1] + left
    return torch.cat([pos[:, :1], pos[:, start : start + new_grid[0] * new_grid[1]]], dim=1)


def turn(frequencies, k, sign=1):
    S, C = torch.diag((frequencies * k).sin()), torch.diag((frequencies * k).cos())
    return torch.cat([torch.cat([C, S], 1), torch.cat([-sign * S, C], 1)])


def turn_by_loop(frequencies, k):
    half = len(frequencies)
    matrix = torch.zeros(2 * half, 2 * half, dtype=torch.float64)
    for i, frequency in enumerate(frequencies.tolist()):
        matrix[i, i] = matrix[half + i, half + i] = math.cos(frequency * k)
        matrix[i, half + i], matrix[half + i, i] = math.sin(frequency * k), -math.sin(frequency * k)
    return matrix


def pairs(frequencies, k):
    return torch.block_diag(*(turn(frequency[None], k) for frequency in frequencies))


def place_in_place(patches, cls, pos):
    tokens = pos.repeat(len(patches), 1, 1)
    tokens[:, 0] += cls[:, 0]
    tokens[:, 1:] += patches
    return tokens


def crop_by_unfold(pos, grid, top, left, new_grid):
    places = pos[0, 1:].T.reshape(-1, *grid)  # (D, rows, columns)
    window = places.narrow(1, top, new_grid[0]).narrow(2, left, new_grid[1])
    return torch.vstack([pos[0, :1], window.flatten(1).T])[None]


def turn_by_complex(frequencies, k):
    turned = torch.exp(1j * frequencies * k)  # sine + i cosine of each hand is turned by it
    S, C = turned.imag.diag(), turned.real.diag()
    return torch.vstack([torch.hstack([C, S]), torch.hstack([-S, C])])


RIGHT = [
    ("same_to_attention", "b"),
    ("same_to_attention", " B "),
    ("same_to_attention", "(b)"),
    ("unshuffle", lambda shuffled, order: shuffled[:, order.argsort()]),
    ("unshuffle", unshuffle_by_assignment),
    ("unshuffle", unshuffle_by_loop),
    ("first_repeat", 6),
    ("first_repeat", torch.tensor(6)),
    ("first_repeat", Fraction(6)),
    ("place_class_token", place),
    ("place_class_token", place_in_two_parts),
    ("place_class_token", place_in_place),
    ("crop_positions", crop),
    ("crop_positions", crop_by_index),
    ("crop_positions", crop_by_unfold),
    ("shift_matrix", turn),
    ("shift_matrix", turn_by_loop),
    ("shift_matrix", turn_by_complex),
]

WRONG = [
    ("same_to_attention", "a", "patches mirrored"),
    ("same_to_attention", "c", "cut elsewhere"),
    ("same_to_attention", "d", "patches turned"),
    ("same_to_attention", "e", "not a choice"),
    ("unshuffle", lambda shuffled, order: shuffled[:, order], "shuffled twice"),
    ("unshuffle", lambda shuffled, order: shuffled, "still shuffled"),
    ("unshuffle", lambda shuffled, order: shuffled.flip(1), "reversed"),
    ("unshuffle", lambda shuffled, order: shuffled[0, order.argsort()], "batch lost"),
    ("unshuffle", lambda shuffled: shuffled, "wrong arguments"),
    ("unshuffle", lambda shuffled, order: None, "no return"),
    ("first_repeat", 0, "distance zero"),
    ("first_repeat", 2 * math.pi, "not a place"),
    ("first_repeat", 3, "opposite"),
    ("first_repeat", 44, "the best, not the first"),
    ("first_repeat", 360, "degrees"),
    ("first_repeat", 7, None),
    ("first_repeat", "6", "not a number"),
    ("place_class_token", lambda x, cls, pos: append(x + pos[:, :-1], cls), "both faults"),
    ("place_class_token", lambda x, cls, pos: append(x, cls) + pos, "class token last"),
    ("place_class_token", lambda x, cls, pos: prepend(x + pos[:, :-1], cls), "off by one"),
    ("place_class_token", lambda x, cls, pos: prepend(x + pos[:, 1:], cls), "class token without position"),
    ("place_class_token", lambda x, cls, pos: prepend(x, cls), "positions missing"),
    ("place_class_token", lambda x, cls, pos: x + pos[:, 1:], "class token missing"),
    ("crop_positions", lambda pos, grid: pos, "wrong arguments"),
    ("crop_positions", lambda pos, grid, top, left, new: crop(pos, grid, top, left, new)[:, 1:], "class position lost"),
    ("crop_positions", one_stretch, "one long stretch"),
    (
        "crop_positions",
        lambda pos, grid, top, left, new: crop(pos, grid, left, top, new),
        "rows and columns swapped",
    ),
    ("crop_positions", crop_by_columns, "column by column"),
    (
        "crop_positions",
        lambda pos, grid, top, left, new: crop(torch.cat([pos[:, :1], pos[:, :-1]], 1), grid, top, left, new),
        "class token counted as a place",
    ),
    ("crop_positions", lambda pos, grid, top, left, new: interpolate_positions(pos, grid, new), "resized"),
    ("crop_positions", lambda pos, grid, top, left, new: crop(pos, grid, top, left, new)[0], "leading axis lost"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k).T, "turns backwards"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, -k), "turns backwards"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k, sign=-1), "sign missing"),
    ("shift_matrix", pairs, "pairs side by side"),
    ("shift_matrix", lambda frequencies, k: torch.eye(2 * len(frequencies)), "ones instead of cosines"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k)[0], "wrong shape"),
]
