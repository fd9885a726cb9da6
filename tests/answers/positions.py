"""Right answers to the exercises of notebook 02."""

import math
from fractions import Fraction

import numpy as np
import torch

VALUES = {
    "same_to_attention": ["b", " B ", "(b)", "b.", "B)"],
    "stretched": [18, 18.0, torch.tensor(18.0), Fraction(18), "18", np.float32(18), [18], torch.tensor([[18.0]])],
    "first_repeat": [6, 6.0, torch.tensor(6), Fraction(6), "6", np.int64(6), [6], torch.tensor([[6.0]])],
}


def unshuffle__argsort(shuffled, order):
    return shuffled[:, order.argsort()]


def unshuffle__assignment(shuffled, order):
    tokens = torch.empty_like(shuffled)
    tokens[:, order] = shuffled
    return tokens


def unshuffle__search(shuffled, order):
    return torch.stack([shuffled[:, order.tolist().index(n)] for n in range(len(order))], dim=1)


def unshuffle__inverse(shuffled, order):
    inverse = torch.zeros(len(order), dtype=torch.long)
    inverse[order] = torch.arange(len(order))
    return shuffled[:, inverse, :]


def unshuffle__loop(shuffled, order):
    tokens = shuffled.clone()
    for place, token in enumerate(order):
        tokens[:, token] = shuffled[:, place]
    return tokens


def unshuffle__scatter(shuffled, order):
    places = order[None, :, None].expand_as(shuffled)
    return torch.zeros_like(shuffled).scatter(1, places, shuffled)


def unshuffle__gather(shuffled, order):
    places = torch.sort(order).indices
    return shuffled.gather(1, places.view(1, -1, 1).expand(shuffled.shape))


def unshuffle__index_copy(shuffled, order):
    return torch.zeros_like(shuffled).index_copy(1, order, shuffled)


def unshuffle__matrix(shuffled, order):
    matrix = torch.eye(len(order))[order]
    return matrix.T @ shuffled


def unshuffle__numpy(shuffled, order):
    return torch.from_numpy(shuffled.numpy()[:, np.argsort(order.numpy())])


def unshuffle__pairs(shuffled, order):
    pairs = sorted(zip(order.tolist(), shuffled.unbind(1), strict=True), key=lambda pair: pair[0])
    return torch.stack([token for _, token in pairs], 1)


def unshuffle__index_select(shuffled, order):
    _, places = order.sort()
    return torch.index_select(shuffled, 1, places)


def unshuffle__comparison(shuffled, order):
    places = (order == torch.arange(len(order))[:, None]).int().argmax(dim=1)
    return shuffled[:, places]


def grid_table__coordinates(column_table, row_table):
    y, x = torch.meshgrid(torch.arange(len(row_table)), torch.arange(len(column_table)), indexing="ij")
    return torch.cat([column_table[x.flatten()], row_table[y.flatten()]], dim=1)


def grid_table__loops(column_table, row_table):
    return torch.stack([torch.cat([column, row]) for row in row_table for column in column_table])


def grid_table__repeat(column_table, row_table):
    columns, rows = len(column_table), len(row_table)
    return torch.cat([column_table.repeat(rows, 1), row_table.repeat_interleave(columns, dim=0)], dim=1)


def grid_table__expand(column_table, row_table):
    columns, rows = len(column_table), len(row_table)
    x, y = column_table[None].expand(rows, -1, -1), row_table[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=-1).reshape(rows * columns, -1)


def grid_table__division(column_table, row_table):
    n = torch.arange(len(column_table) * len(row_table))
    return torch.cat((column_table[n % len(column_table)], row_table[n // len(column_table)]), dim=-1)


def grid_table__fill(column_table, row_table):
    (columns, half), rows = column_table.shape, len(row_table)
    table = torch.empty(rows, columns, 2 * half)
    table[:, :, :half] = column_table
    table[:, :, half:] = row_table[:, None]
    return table.flatten(0, 1)


def grid_table__one_row_at_a_time(column_table, row_table):
    parts = [torch.cat([column_table, row.expand(len(column_table), -1)], dim=1) for row in row_table]
    return torch.cat(parts)


def grid_table__product(column_table, row_table):
    pairs = torch.cartesian_prod(torch.arange(len(row_table)), torch.arange(len(column_table)))
    return torch.hstack([column_table[pairs[:, 1]], row_table[pairs[:, 0]]])


def grid_table__numpy(column_table, row_table):
    columns, rows = column_table.numpy(), row_table.numpy()
    table = np.concatenate([np.tile(columns, (len(rows), 1)), np.repeat(rows, len(columns), axis=0)], axis=1)
    return torch.from_numpy(table)


def grid_table__one_place_at_a_time(column_table, row_table):
    columns = len(column_table)
    table = torch.zeros(columns * len(row_table), 2 * column_table.shape[1])
    for n in range(len(table)):
        row, column = divmod(n, columns)
        table[n] = torch.cat([column_table[column], row_table[row]])
    return table


def place_class_token__whole(patch_tokens, cls_token, pos_embed):
    cls_rows = cls_token.expand(len(patch_tokens), -1, -1)
    return torch.cat([cls_rows, patch_tokens], dim=1) + pos_embed


def place_class_token__two_parts(patches, cls, pos):
    first = (cls + pos[:, :1]).repeat(len(patches), 1, 1)
    return torch.cat([first, patches + pos[:, 1:]], dim=1)


def place_class_token__filled(patches, cls, pos):
    tokens = pos.repeat(len(patches), 1, 1)
    tokens[:, 0] += cls[:, 0]
    tokens[:, 1:] += patches
    return tokens


def place_class_token__empty(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    x = torch.empty(B, N + 1, D)
    x[:, :1] = cls_token
    x[:, 1:] = patch_tokens
    return x + pos_embed


def place_class_token__one_image_at_a_time(patch_tokens, cls_token, pos_embed):
    return torch.stack([torch.vstack([cls_token[0], image]) + pos_embed[0] for image in patch_tokens])


def place_class_token__loop(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    rows = [cls_token[:, 0].expand(B, D) + pos_embed[:, 0]]
    for n in range(N):
        rows.append(patch_tokens[:, n] + pos_embed[:, n + 1])
    return torch.stack(rows, dim=1)


def place_class_token__expand_as(patch_tokens, cls_token, pos_embed):
    x = torch.cat((cls_token.expand_as(patch_tokens[:, :1]), patch_tokens), 1)
    x += pos_embed
    return x


def place_class_token__hstack(patches, cls, pos):
    tokens = torch.hstack([torch.tile(cls, (patches.size(0), 1, 1)), patches])
    return tokens.add(pos)


def place_class_token__numpy(patches, cls, pos):
    cls = np.repeat(cls.numpy(), len(patches), axis=0)
    return torch.from_numpy(np.concatenate([cls, patches.numpy()], axis=1) + pos.numpy())


def place_class_token__pad(patches, cls, pos):
    x = torch.nn.functional.pad(patches, (0, 0, 1, 0))
    x[:, 0] = cls.squeeze()
    return x + pos


def place_class_token__where(patches, cls, pos):
    B, N, D = patches.shape
    shifted = torch.cat([patches[:, :1], patches], dim=1)
    is_class = (torch.arange(N + 1) == 0).view(1, -1, 1)
    return torch.where(is_class, cls, shifted) + pos


def place_class_token__float64(patches, cls, pos):
    cls = cls.double() + torch.zeros(len(patches), 1, 1, dtype=torch.float64)
    return torch.cat([cls, patches.double()], dim=1) + pos.double()


def crop_positions__slice(pos_embed, grid, top, left, new_grid):
    (rows, columns), (height, width) = grid, new_grid
    places = pos_embed[:, 1:].reshape(1, rows, columns, -1)
    window = places[:, top : top + height, left : left + width].flatten(1, 2)
    return torch.cat([pos_embed[:, :1], window], dim=1)


def crop_positions__index(pos_embed, grid, top, left, new_grid):
    height, width = new_grid
    chosen = [0] + [1 + y * grid[1] + x for y in range(top, top + height) for x in range(left, left + width)]
    return pos_embed[:, chosen]


def crop_positions__narrow(pos, grid, top, left, new_grid):
    places = pos[0, 1:].T.reshape(-1, *grid)  # (D, rows, columns)
    window = places.narrow(1, top, new_grid[0]).narrow(2, left, new_grid[1])
    return torch.vstack([pos[0, :1], window.flatten(1).T])[None]


def crop_positions__rows(pos_embed, grid, top, left, new_grid):
    pieces = [pos_embed[:, :1]]
    for row in range(top, top + new_grid[0]):
        start = 1 + row * grid[1] + left
        pieces.append(pos_embed[:, start : start + new_grid[1]])
    return torch.cat(pieces, dim=1)


def crop_positions__numbers(pos_embed, grid, top, left, new_grid):
    numbers = torch.arange(grid[0] * grid[1]).reshape(grid)
    window = numbers[top : top + new_grid[0], left : left + new_grid[1]].flatten()
    return torch.cat([pos_embed[:, :1], pos_embed[:, 1:][:, window]], dim=1)


def crop_positions__mask(pos_embed, grid, top, left, new_grid):
    keep = torch.zeros(grid, dtype=torch.bool)
    keep[top : top + new_grid[0], left : left + new_grid[1]] = True
    keep = torch.cat([torch.tensor([True]), keep.flatten()])
    return pos_embed[:, keep]


def crop_positions__filled(pos_embed, grid, top, left, new_grid):
    height, width = new_grid
    cropped = torch.zeros(1, 1 + height * width, pos_embed.shape[2])
    cropped[:, 0] = pos_embed[:, 0]
    for i in range(height):
        for j in range(width):
            cropped[0, 1 + i * width + j] = pos_embed[0, 1 + (top + i) * grid[1] + left + j]
    return cropped


def crop_positions__split(pos_embed, grid, top, left, new_grid):
    cls, places = pos_embed.split([1, grid[0] * grid[1]], dim=1)
    places = places.view(*grid, -1)[top:][:, left:]
    window = places[: new_grid[0], : new_grid[1]]
    return torch.cat([cls, window.reshape(1, -1, pos_embed.size(-1))], dim=1)


def crop_positions__as_a_picture(pos_embed, grid, top, left, new_grid):
    rows, columns = grid
    picture = pos_embed[:, 1:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    picture = picture[:, :, top : top + new_grid[0], left : left + new_grid[1]]
    return torch.cat([pos_embed[:, :1], picture.flatten(2).transpose(1, 2)], dim=1)


def crop_positions__meshgrid(pos_embed, grid, top, left, new_grid):
    y, x = torch.meshgrid(torch.arange(new_grid[0]) + top, torch.arange(new_grid[1]) + left, indexing="ij")
    return pos_embed[:, torch.cat([torch.zeros(1, dtype=torch.long), 1 + (y * grid[1] + x).flatten()])]


def crop_positions__numpy(pos_embed, grid, top, left, new_grid):
    table = pos_embed.numpy()[0]
    window = table[1:].reshape(grid[0], grid[1], -1)[top : top + new_grid[0], left : left + new_grid[1]]
    return torch.tensor(np.concatenate([table[:1], window.reshape(-1, table.shape[1])]))[None]


def crop_positions__unfold(pos_embed, grid, top, left, new_grid):
    places = pos_embed[:, 1:].unflatten(1, grid)
    windows = places.unfold(1, new_grid[0], 1).unfold(2, new_grid[1], 1)  # (1, tops, lefts, D, height, width)
    window = windows[:, top, left].flatten(2).mT
    return torch.cat([pos_embed[:, 0:1], window], 1)


def shift_matrix__blocks(frequencies, k):
    S, C = torch.diag((frequencies * k).sin()), torch.diag((frequencies * k).cos())
    return torch.cat([torch.cat([C, S], dim=1), torch.cat([-S, C], dim=1)])


def shift_matrix__loop(frequencies, k):
    half = len(frequencies)
    matrix = torch.zeros(2 * half, 2 * half)
    for i in range(half):
        angle = frequencies[i] * k
        matrix[i, i] = matrix[half + i, half + i] = torch.cos(angle)
        matrix[i, half + i] = torch.sin(angle)
        matrix[half + i, i] = -torch.sin(angle)
    return matrix


def shift_matrix__math(frequencies, k):
    half = len(frequencies)
    matrix = torch.zeros(2 * half, 2 * half, dtype=torch.float64)
    for i, frequency in enumerate(frequencies.tolist()):
        matrix[i, i] = matrix[half + i, half + i] = math.cos(frequency * k)
        matrix[i, half + i], matrix[half + i, i] = math.sin(frequency * k), -math.sin(frequency * k)
    return matrix


def shift_matrix__complex(frequencies, k):
    turned = torch.exp(1j * frequencies * k)  # each hand is turned by it
    S, C = turned.imag.diag(), turned.real.diag()
    return torch.vstack([torch.hstack([C, S]), torch.hstack([-S, C])])


def shift_matrix__filled_blocks(frequencies, k):
    n = frequencies.shape[0]
    matrix = torch.zeros(2 * n, 2 * n)
    matrix[:n, :n] = matrix[n:, n:] = torch.diag(torch.cos(k * frequencies))
    matrix[:n, n:] = torch.diag(torch.sin(k * frequencies))
    matrix[n:, :n] = -matrix[:n, n:]
    return matrix


def shift_matrix__exponential(frequencies, k):
    F = torch.diag(frequencies)
    zero = torch.zeros_like(F)
    return torch.linalg.matrix_exp(k * torch.cat([torch.cat([zero, F], 1), torch.cat([-F, zero], 1)]))


def shift_matrix__power(frequencies, k):
    S, C = frequencies.double().sin().diag(), frequencies.double().cos().diag()
    one_step = torch.cat([torch.cat([C, S], 1), torch.cat([-S, C], 1)])
    return torch.linalg.matrix_power(one_step, k)


def shift_matrix__kronecker(frequencies, k):
    angles = frequencies * k
    same, across = torch.eye(2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    return torch.kron(same, angles.cos().diag()) + torch.kron(across, angles.sin().diag())


def shift_matrix__numpy(frequencies, k):
    angles = frequencies.numpy() * k
    S, C = np.diag(np.sin(angles)), np.diag(np.cos(angles))
    return torch.from_numpy(np.block([[C, S], [-S, C]]))


def shift_matrix__diagonals(frequencies, k):
    half = len(frequencies)
    C, S = torch.cos(frequencies * k), torch.sin(frequencies * k)
    return torch.diag(C.repeat(2)) + torch.diag(S, half) - torch.diag(S, -half)


def shift_matrix__permuted_pairs(frequencies, k):
    turns = [torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in frequencies * k]
    order = torch.arange(2 * len(frequencies)).reshape(-1, 2).T.flatten()  # sines first, then cosines
    return torch.block_diag(*turns)[order][:, order]


def shift_matrix__columns(frequencies, k):
    half, angles = len(frequencies), frequencies * k
    rows = []
    for i in range(half):
        rows.append(
            [float(angles[i].cos()) * (j == i) + float(angles[i].sin()) * (j == half + i) for j in range(2 * half)]
        )
    for i in range(half):
        rows.append(
            [-float(angles[i].sin()) * (j == i) + float(angles[i].cos()) * (j == half + i) for j in range(2 * half)]
        )
    return torch.tensor(rows)
