"""Checks of notebook 02: order, position embeddings, the class token, interpolation."""

import math

import torch

from ..layers import interpolate_positions
from .reference import chosen, stated, whole, written

__all__ = [
    "same_to_attention",
    "unshuffle",
    "first_repeat",
    "grid_table",
    "place_class_token",
    "stretched",
    "crop_positions",
    "shift_matrix",
]


@chosen("b", "Only the order of the patches changes, and attention without positions has no use for the order.")
def same_to_attention():
    """Which changed photograph has the same patches in another order: "b", the rows of patches reversed."""
    leave = "Look for the change that leaves every patch as it is."
    return {
        "a": ("patches mirrored", f"Each patch is mirrored, too, and its embedding sees other pixels. {leave}"),
        "c": ("cut elsewhere", f"After half a patch the cuts fall on other pixels: these are other patches. {leave}"),
        "d": ("patches turned", f"Each patch is turned, too, and its pixels have other places in it. {leave}"),
    }


def shuffled_tokens():
    tokens = torch.tensor([[[5.0, 0.0], [1.0, 3.0], [4.0, 2.0], [0.0, 6.0]]])
    for x in (tokens, *(torch.randn(shape) for shape in ((2, 9, 4), (3, 12, 2), (4, 4, 4), (1, 5, 1), (2, 1, 3)))):
        N = x.shape[1]
        order = torch.randperm(N)
        while N > 1 and torch.equal(order[order], torch.arange(N)):  # its own inverse: then two mistakes look right
            order = torch.randperm(N)
        yield x[:, order], order


@written("Every token is back in its place, whatever the order was.", shuffled_tokens)
def unshuffle(wrong, shuffled, order):
    """A function `(shuffled, order) -> tokens` that undoes `shuffled = tokens[:, order]`."""
    twice = "This shuffles once more. Place n holds token order[n]; you need the place that holds token n."
    N = torch.arange(len(order))
    places = wrong.choose(
        order.argsort(),
        ("shuffled twice", twice, order),
        ("still shuffled", "The tokens are still in the shuffled order.", N),
        ("reversed", "This reads the list backwards, which undoes a reversal, not a shuffle.", N.flip(0)),
        ("order read backwards", "order was read from its end; that does not undo it.", order.flip(0)),
    )
    if wrong("batch shuffled", "The first axis is the batch, and tokens are the second: write shuffled[:, places]."):
        return shuffled[places]
    tokens = shuffled[:, places]
    return tokens[0] if wrong("batch lost", "The batch axis is gone: the answer is (B, N, D).") else tokens


@stated(
    "One fast hand takes places 6 apart for nearly the same place; slower hands tell them apart.",
    "Expected the first whole distance, from 1 up, at which the similarity is above 0.95.",
)
def first_repeat(wrong):
    """The first distance at which one hand of frequency 1 is back above a similarity of 0.95: 6."""
    return wrong.choose(
        6,
        ("distance zero", "A place is always like itself; start at distance 1.", 0),
        ("still alike", "With frequency 1 neighbours have a similarity of 0.54. Was this a slower hand?", 1),
        ("off by one", "cos 5 = 0.28. In a list that leaves out distance 0, index 0 is distance 1.", 5),
        ("not a place", "After 2 pi the hand is exactly back, but distances are whole numbers.", 2 * math.pi),
        ("rounded up", "cos 7 = 0.75, which is not above 0.95; the hand has gone on by most of a radian.", 7),
        ("opposite", "At distance 3 the similarity is -0.99: the hand points the opposite way.", 3),
        ("not a place", "A full turn is no whole number; distances are.", 6.28),
        *(("a later repeat", f"At distance {n} the hand is back, but it has been back before.", n) for n in (19, 25)),
        ("the best, not the first", "44 is a closer repeat (0.9998), but not the first above 0.95.", 44),
        ("degrees", "Angles are in radians here: a full turn is 2 pi, not 360.", 360),
    )


def two_tables():
    yield torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[10.0], [20.0]])
    for columns, rows, half in ((5, 3, 4), (4, 7, 2), (3, 3, 6), (6, 2, 3), (1, 4, 2), (4, 1, 5)):
        yield torch.randn(columns, half), torch.randn(rows, half)


@written("Each place has its column's vector and its row's, in the order in which patches are counted.", two_tables)
def grid_table(wrong, column_table, row_table):
    """A function `(column_table (columns, D/2), row_table (rows, D/2)) -> (N, D)`: the table of a whole grid."""
    columns, rows = len(column_table), len(row_table)
    x, y = column_table.repeat(rows, 1), row_table.repeat_interleave(columns, dim=0)
    along = "Row and column go on together, so most places never occur. Along a row of patches only the column changes."
    if wrong("column by column", "The places run down the columns; patches are counted row by row."):
        x, y = column_table.repeat_interleave(rows, dim=0), row_table.repeat(columns, 1)
    elif wrong("rows and columns together", along):
        y = row_table.repeat(columns, 1)
    elif wrong("rows and columns together", along, 1):
        x = column_table.repeat_interleave(rows, dim=0)
    if wrong("halves swapped", "The row's vector stands first; the column's comes first, as in sinusoidal_positions."):
        x, y = y, x
    joined = "Column and row were added. Join them: the first D/2 numbers are the column's, the others the row's."
    table = wrong.choose(
        torch.cat([x, y], dim=1),
        ("added, not joined", joined, x + y),
        ("one half only", "The row is missing: the second half of the numbers is its.", x),
        ("one half only", "The column is missing: the first half of the numbers is its.", y),
        (
            "taken in turn",
            "Numbers of column and row take turns here; the whole vector of the column comes first.",
            torch.stack([x, y], dim=2).flatten(1),
        ),
    )
    if wrong("grid kept", "Rows and columns of the grid are still two axes. Join them to N."):
        return table.unflatten(0, (rows, columns))
    return table[None] if wrong("axis added", "There is an axis of 1 in front; the answer is (N, D).") else table


def token_lists():
    yield whole(1, 2, 2), whole(1, 1, 2), whole(1, 3, 2)
    for B, N, D in ((1, 6, 4), (3, 4, 8), (2, 1, 4), (3, 3, 3)):
        yield torch.randn(B, N, D), torch.randn(1, 1, D), torch.randn(1, 1 + N, D)


@written("The class token stands first in every image, and each row of positions meets its own token.", token_lists)
def place_class_token(wrong, patch_tokens, cls_token, pos_embed):
    """A function `(patch_tokens, cls_token, pos_embed) -> (B, 1 + N, D)`: class token first, then positions."""
    B, N, _ = patch_tokens.shape
    once = "cls_token is there once, and every image needs it: cls_token.expand(B, -1, -1)."
    cls = cls_token if wrong("not for every image", once) else cls_token.expand(B, -1, -1)
    off = "Patch 0 gets row 0 of the positions, which belongs to the class token: every patch is one place off."
    bare = "The class token lost its own position, row 0: prepend first, then add the whole table."
    row, rows = pos_embed[:, :1], pos_embed[:, 1:]
    row, rows = wrong.choose(
        (row, rows),
        ("off by one", off, (row, pos_embed[:, :N])),
        ("off by one", off, (0, pos_embed[:, :N])),
        ("class token without position", bare, (0, rows)),
        ("patches without positions", "Only the class token got its position; each patch needs its own.", (row, 0)),
        ("positions missing", "No positions were added.", (0, 0)),
    )
    if wrong("class token missing", "The class token is missing: the answer has 1 + N tokens."):
        return patch_tokens + rows
    last = "The class token stands last. Row 0 of the positions, and the code that reads the answer, expect it first."
    if wrong("class token last", last):
        return torch.cat([patch_tokens, cls], dim=1) + pos_embed
    parts = [cls + row, patch_tokens + rows]
    return torch.cat(parts[::-1] if wrong("class token last", last, 1) else parts, dim=1)


@stated(
    "New place 4 lies at 2.5 in old places, halfway between two of them: so does its number.",
    "Expected what the straight line between two old places holds there.",
)
def stretched(wrong):
    """Four places hold 0, 3, 6 and 30 and are stretched to six: what new place 4 holds, 18."""
    return wrong.choose(
        18.0,
        ("corners aligned", "Here the first and last places stay where they were; map centres, with the halves.", 15.6),
        ("half left out", "4 x 4/6 leaves out the halves: the centre of place i lies at i + 0.5.", 22.0),
        ("too far right", "This is the last place's. Is the half taken off at the end, and the factor 4/6?", 30.0),
        ("nearest place", "This is old place 2's number alone; the new place lies between two.", 6.0),
        ("off by one", "This is new place 3. Places are counted from 0.", 5.5),
        ("place, not number", "This is where the new place lies. What does the line between its neighbours hold?", 2.5),
        ("bicubic", "This is bicubic, which looks at four old places; linear looks at two.", 18.28125),
    )


def tables():
    yield torch.arange(-1.0, 12).reshape(1, 13, 1), (3, 4), 1, 1, (2, 2)  # place n holds n, the class token -1
    for (rows, columns), top, left, window in (  # which stay in the grid if any two of these numbers are swapped
        ((5, 7), 1, 2, (3, 2)),
        ((8, 6), 3, 1, (2, 3)),
        ((9, 7), 0, 2, (5, 4)),
        ((6, 6), 4, 4, (2, 2)),
        ((4, 4), 0, 0, (4, 4)),
        ((5, 5), 3, 4, (1, 1)),
    ):
        yield torch.randn(1, 1 + rows * columns, 3), (rows, columns), top, left, window


@written("The window keeps its places, row by row, and the class token keeps its own.", tables)
def crop_positions(wrong, pos_embed, grid, top, left, new_grid):
    """A function `(pos_embed, grid, top, left, new_grid) -> (1, 1 + n, D)`: the positions of a window of the grid."""
    if wrong("resized", "This squeezes the whole grid into the window. A crop keeps the places inside as they are."):
        return interpolate_positions(pos_embed, grid, new_grid)
    (rows, columns), (height, width), cls = grid, new_grid, pos_embed[:, :1]
    if wrong("rows and columns swapped", "top counts rows and left counts columns; here they have changed places."):
        top, left = left, top
    if wrong("height and width swapped", "new_grid is (height, width), and height counts rows; here they are swapped."):
        height, width = width, height
    if wrong("sides of the grid swapped", "grid is (rows, columns): reshape to (1, rows, columns, D)."):
        rows, columns = columns, rows
    if wrong("corner left out", "The window begins at row top, column left; here it begins in the corner."):
        top = left = 0
    counted = "The class token's row was counted as the first place of the grid: all places are one off."
    places = pos_embed[:, :-1] if wrong("class token counted as a place", counted) else pos_embed[:, 1:]
    y, x = wrong.choose(
        (top + height, left + width),
        ("size taken for the end", "A slice ends at top + height, not at height.", (height, width)),
        ("one too many", "A slice leaves out its end, top + height: add no 1.", (top + height + 1, left + width + 1)),
    )
    first = "D is the last axis of the table, and stays it: reshape to (1, rows, columns, D)."
    places = places.reshape(1, -1, places.shape[1]).mT if wrong("D before the grid", first) else places
    window = places.unflatten(1, (rows, columns))[:, top:y, left:x]
    if wrong("column by column", "The window is read column by column; patches are counted row by row."):
        window = window.transpose(1, 2)
    window = window.flatten(1, 2)
    stretch = (
        "These rows of the table follow each other. A window has gaps between its rows: reshape to the grid first."
    )
    if wrong("one long stretch", stretch):
        window = places[:, top * columns + left :][:, : height * width]
    table = wrong.choose(
        torch.cat([cls, window], dim=1),
        ("class position lost", "The position of the class token is gone; keep row 0.", window),
        ("class position last", "The class token's row stands last; it comes first.", torch.cat([window, cls], dim=1)),
    )
    return (
        table[0] if wrong("leading axis lost", "The leading axis of 1 is gone: the answer is (1, 1 + n, D).") else table
    )


def turns():
    yield torch.tensor([0.6435]), 1  # sine 0.6, cosine 0.8
    yield torch.tensor([0.6435, 0.9273]), 1
    yield torch.tensor([1.0, 0.1]), 3
    yield torch.tensor([1.9, 1.2, 0.7, 0.2]) + 0.2 * torch.rand(4), 5
    yield torch.tensor([0.7]), -2
    yield torch.tensor([0.9, 0.4, 0.1]), 0


@written("One matrix moves every place by k: in these embeddings, going k places on is a rotation.", turns)
def shift_matrix(wrong, frequencies, k):
    """A function `(frequencies, k) -> (D, D)`: the matrix that takes the sinusoid of place n to that of place n + k."""
    if wrong("ones instead of cosines", "The identity moves nothing; each hand has to turn by its frequency times k."):
        return torch.eye(2 * len(frequencies))
    backwards = "This goes from place n to n - k. Look at the signs of the sines (or transpose)."
    angles = frequencies * wrong.choose(
        k,
        ("turns backwards", backwards, -k),
        ("k left out", "This goes one place on, whatever k is: the angle is the frequency times k.", 1),
    )
    if wrong("degrees", "The angles are in radians already; do not convert them."):
        angles = angles.deg2rad()
    S, C = angles.sin(), angles.cos()
    if wrong("sines and cosines swapped", "Cosines stand on the diagonal: at k = 0 nothing moves, and cos 0 = 1."):
        S, C = C, S
    sign = "A sign is missing: cos(a + b) = cos a cos b - sin a sin b, and sin(a + b) = sin a cos b + cos a sin b."
    upper, lower = wrong.choose((S, -S), ("sign missing", sign, (S, S)), ("sign missing", sign, (-S, -S)))
    pairs = "This is right for sine and cosine side by side; here all sines come first, then all cosines."
    if wrong("pairs side by side", pairs):
        turn = torch.stack([C, upper, lower, C], dim=1).unflatten(1, (2, 2))  # (D/2, 2, 2)
        return torch.block_diag(*turn)
    C, upper, lower = C.diag(), upper.diag(), lower.diag()
    return torch.cat([torch.cat([C, upper], dim=1), torch.cat([lower, C], dim=1)])
