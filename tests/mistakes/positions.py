"""Wrong answers to notebook 02's exercises, by name."""

import math

import torch

from vit_tutorial.layers import interpolate_positions

RIGHT = []


def unshuffle_wrong_way_round(shuffled, order):
    tokens = torch.empty_like(shuffled)
    for n in range(len(order)):
        tokens[:, n] = shuffled[:, order[n]]
    return tokens


def unshuffle_in_place(shuffled, order):
    shuffled[:, order] = shuffled.clone()
    return shuffled


def unshuffle_seeded(shuffled, order):
    torch.manual_seed(0)
    return shuffled[:, order.argsort()]


def colleague(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    x = patch_tokens + pos_embed[:, :N]
    return torch.cat([x, cls_token.expand(B, -1, -1)], dim=1)


def half_repaired(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    x = patch_tokens + pos_embed[:, :N]
    return torch.cat([cls_token.expand(B, -1, -1), x], dim=1)


def class_token_right(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    first = cls_token.expand(B, -1, -1) + pos_embed[:, :1]
    return torch.cat([first, patch_tokens + pos_embed[:, :N]], dim=1)


def append(patches, cls):
    return torch.cat([patches, cls.expand(len(patches), -1, -1)], dim=1)


def prepend(patches, cls):
    return torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1)


def last_with_its_own(patches, cls, pos):
    return append(patches + pos[:, 1:], cls + pos[:, :1])


def adds_in_place(patches, cls, pos):
    patches += pos[:, 1:]
    return prepend(patches, cls + pos[:, :1])


def not_expanded(patches, cls, pos):
    return torch.cat([cls, patches], dim=1) + pos


def crop(pos, grid, top, left, new_grid):
    places = pos[:, 1:].unflatten(1, grid)
    window = places[:, top : top + new_grid[0], left : left + new_grid[1]]
    return torch.cat([pos[:, :1], window.flatten(1, 2)], dim=1)


def crop_by_columns(pos, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [0] + [1 + y * grid[1] + x for x in range(left, left + width) for y in range(top, top + height)]
    return pos[:, chosen]


def crop_by_height(pos, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [0] + [1 + y * grid[0] + x for y in range(top, top + height) for x in range(left, left + width)]
    return pos[:, chosen]


def without_plus_one(pos, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [y * grid[1] + x for y in range(top, top + height) for x in range(left, left + width)]
    return torch.cat([pos[:, :1], pos[:, chosen]], dim=1)


def one_stretch(pos, grid, top, left, new_grid):
    start = 1 + top * grid[1] + left
    return torch.cat([pos[:, :1], pos[:, start : start + new_grid[0] * new_grid[1]]], dim=1)


def end_without_start(pos, grid, top, left, new_grid):
    places = pos[:, 1:].reshape(1, *grid, -1)[:, top : new_grid[0], left : new_grid[1]]
    return torch.cat([pos[:, :1], places.flatten(1, 2)], dim=1)


def turn(frequencies, k, upper=1, lower=-1):
    S, C = torch.diag((frequencies * k).sin()), torch.diag((frequencies * k).cos())
    return torch.cat([torch.cat([C, upper * S], 1), torch.cat([lower * S, C], 1)])


def pairs(frequencies, k):
    return torch.block_diag(*(turn(frequency[None], k) for frequency in frequencies))


def swapped(frequencies, k):
    S, C = torch.diag((frequencies * k).sin()), torch.diag((frequencies * k).cos())
    return torch.cat([torch.cat([S, C], 1), torch.cat([-C, S], 1)])


WRONG = [
    ("same_to_attention", "a", "patches mirrored"),
    ("same_to_attention", "e", "not a choice"),
    ("unshuffle", lambda shuffled, order: shuffled[:, order], "shuffled twice"),
    ("unshuffle", unshuffle_wrong_way_round, "shuffled twice"),
    ("unshuffle", lambda shuffled, order: shuffled[order], "shuffled twice + batch shuffled"),
    ("unshuffle", lambda shuffled, order: shuffled[order.argsort()], "batch shuffled"),
    ("unshuffle", lambda shuffled, order: shuffled.flip(1), "reversed"),
    ("unshuffle", lambda shuffled, order: shuffled[:, order.sort().values], "still shuffled"),
    ("unshuffle", lambda shuffled, order: shuffled[:, order.argsort(descending=True)], "reversed"),
    ("unshuffle", lambda shuffled, order: shuffled[0, order.argsort()], "batch lost"),
    ("unshuffle", lambda shuffled, order: shuffled[0, order], "shuffled twice + batch lost"),
    ("unshuffle", lambda shuffled, order: shuffled.sort(1).values, None),
    ("unshuffle", unshuffle_in_place, "changed in place"),
    ("unshuffle", unshuffle_seeded, "seeded"),
    ("unshuffle", lambda shuffled: shuffled, "wrong arguments"),
    ("unshuffle", lambda shuffled, order: None, "no return"),
    ("first_repeat", 0, "distance zero"),
    ("first_repeat", 2 * math.pi, "not a place"),
    ("first_repeat", 7, "rounded up"),
    ("first_repeat", "six", "not a number"),
    ("grid_table", lambda x, y: torch.stack([torch.cat([a, b]) for a in x for b in y]), "column by column"),
    ("grid_table", lambda x, y: torch.stack([torch.cat([b, a]) for b in y for a in x]), "halves swapped"),
    ("grid_table", lambda x, y: (y[:, None] + x).flatten(0, 1), "added, not joined"),
    ("grid_table", lambda x, y: torch.cat([x.repeat(len(y), 1), y.repeat(len(x), 1)], 1), "rows and columns together"),
    ("grid_table", lambda x, y: torch.stack([torch.cat([a, b]) for b in y for a in x])[None], "axis added"),
    ("grid_table", lambda x, y: x.repeat(len(y), 1), "one half only"),
    ("grid_table", lambda x, y: torch.cat([x, y]), "wrong shape"),
    ("stretched", 15.6, "corners aligned"),
    ("stretched", 22, "half left out"),
    ("stretched", 30, "too far right"),
    ("stretched", 6, "nearest place"),
    ("stretched", 2.5, "place, not number"),
    ("stretched", 17, None),
    ("place_class_token", colleague, "off by one + class token last"),
    ("place_class_token", half_repaired, "off by one"),
    ("place_class_token", class_token_right, "off by one"),
    ("place_class_token", lambda x, cls, pos: append(x, cls) + pos, "class token last"),
    ("place_class_token", last_with_its_own, "class token last"),
    ("place_class_token", lambda x, cls, pos: append(x, cls), "positions missing + class token last"),
    ("place_class_token", lambda x, cls, pos: prepend(x + pos[:, 1:], cls), "class token without position"),
    ("place_class_token", lambda x, cls, pos: prepend(x, cls), "positions missing"),
    ("place_class_token", lambda x, cls, pos: prepend(x, cls + pos[:, :1]), "patches without positions"),
    ("place_class_token", lambda x, cls, pos: x + pos[:, 1:], "class token missing"),
    ("place_class_token", adds_in_place, "changed in place"),
    ("place_class_token", not_expanded, "not for every image"),
    ("place_class_token", lambda x, cls, pos: prepend(x, cls) * pos, None),
    ("crop_positions", lambda pos, grid: pos, "wrong arguments"),
    ("crop_positions", lambda pos, grid, top, left, new: crop(pos, grid, top, left, new)[:, 1:], "class position lost"),
    ("crop_positions", one_stretch, "one long stretch"),
    ("crop_positions", lambda pos, grid, top, left, new: crop(pos, grid, left, top, new), "rows and columns swapped"),
    (
        "crop_positions",
        lambda pos, grid, top, left, new: crop(pos, grid[::-1], top, left, new),
        "sides of the grid swapped",
    ),
    (
        "crop_positions",
        lambda pos, grid, top, left, new: crop(pos, grid, top, left, new[::-1]),
        "height and width swapped",
    ),
    ("crop_positions", crop_by_columns, "column by column"),
    ("crop_positions", crop_by_height, "sides of the grid swapped"),
    ("crop_positions", without_plus_one, "class token counted as a place"),
    ("crop_positions", end_without_start, "size taken for the end"),
    ("crop_positions", lambda pos, grid, top, left, new: interpolate_positions(pos, grid, new), "resized"),
    ("crop_positions", lambda pos, grid, top, left, new: crop(pos, grid, top, left, new)[0], "leading axis lost"),
    (
        "crop_positions",
        lambda pos, grid, top, left, new: crop_by_columns(pos, grid, top, left, new)[:, 1:],
        "column by column + class position lost",
    ),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k).T, "turns backwards"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, -k), "turns backwards"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k, lower=1), "sign missing"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k, upper=-1), "sign missing"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, 1), "k left out"),
    ("shift_matrix", pairs, "pairs side by side"),
    ("shift_matrix", lambda frequencies, k: pairs(frequencies, -k), "turns backwards + pairs side by side"),
    ("shift_matrix", swapped, "sines and cosines swapped"),
    ("shift_matrix", lambda frequencies, k: turn(torch.deg2rad(frequencies), k), "degrees"),
    ("shift_matrix", lambda frequencies, k: torch.eye(2 * len(frequencies)), "ones instead of cosines"),
    ("shift_matrix", lambda frequencies, k: turn(frequencies, k)[0], "wrong shape"),
]
