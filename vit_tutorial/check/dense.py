"""Checks of notebook 15, A label for every patch: a map of classes and its score, features alike, boxes."""

from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F

from .reference import chosen, stated, whole, written
from .verdict import Wrong, call

__all__ = [
    "patch_of_pixel",
    "to_map",
    "iou",
    "outline",
    "moved_mask",
    "which_layer",
    "cosines",
    "box_of",
    "match",
    "colours",
]


@stated(
    "Two rows of 5 patches lie above, 4 patches to the left, and the class token stands before them all.",
    "How many patches make a row? How many rows lie above the pixel's patch, how many patches to its left?",
    together=2,
)
def patch_of_pixel(wrong):
    """The number of the token whose patch holds row 20, column 33 of 48 x 40 pixels, P 8, with a class token: 15."""
    P = 1 if wrong("pixel counted", "That is a pixel's number. A token is a patch of 8 x 8 of them.") else 8
    wide = "A row has as many patches as fit into the *width*, 40 pixels."
    columns = 48 // P if wrong("rows for columns", wide) else 40 // P
    one = "Rows and columns of patches are counted from 0: divide and round down."
    row, column = wrong.choose(
        (20 // P, 33 // P),
        ("row and column exchanged", "The row says how far down, the column how far right.", (33 // P, 20 // P)),
        ("counted from 1", one, (20 // P + 1, 33 // P + 1)),
        ("not rounded down", "A pixel lies in one whole patch: round down.", (20 / P, 33 / P)),
    )
    down = "This counts column by column. Patches are numbered row by row."
    patch = column * (48 // P) + row if wrong("column by column", down) else row * columns + column
    return patch + wrong.choose(
        1,
        ("class token left out", "That is the number among the patches. The class token stands first.", 0),
        ("patches counted from 1", "Patch 0 is token 1: both are counted from 0.", 2),
    )


def tokens_and_heads():
    yield whole(1, 7, 2), whole(2, 2), whole(2, low=1, high=5), (2, 3)
    for B, Y, X, D, K in ((3, 4, 2, 5, 3), (2, 1, 4, 3, 1), (1, 5, 1, 4, 4), (2, 3, 3, 4, 2), (2, 2, 3, 6, 3)):
        yield torch.randn(B, 1 + Y * X, D), torch.randn(K, D), torch.randn(K), (Y, X)
    yield torch.randn(5, 7, 2).double().transpose(0, 2), torch.randn(5, 3).double().T, torch.rand(3).double(), (3, 2)


@written("A score for each class, and each patch at its place.", tokens_and_heads)
def to_map(wrong, tokens, weight, bias, grid):
    """A function `(tokens (B, 1 + N, D), weight (K, D), bias (K,), grid) -> (B, K, rows, columns)`."""
    rows, columns = grid
    last = "The last token is dropped here. The class token stands first: tokens[:, 1:]."
    x = tokens[:, :-1] if wrong("last token dropped", last) else tokens[:, 1:]
    turned = "Each row of weight belongs to a class: multiply by weight.T, or use F.linear."
    x = x @ (weight if wrong("weight not transposed", turned) else weight.T)
    x = x if wrong("bias missing", "The head has a bias for each class: add it.") else x + bias
    (B, _, K), flat = x.shape, "The patches stand in one row; put them back into rows and columns."
    alone = "reshape keeps the order of the numbers, and (B, N, K) has a patch's classes side by side: transpose first."
    across = "Patches are numbered row by row; this fills the grid column by column."
    sides = "grid is (rows, columns); here they come in the other order."
    maps = x.mT.reshape(B, K, rows, columns)
    maps = wrong.choose(
        maps,
        ("not transposed", alone, x.reshape(B, K, rows, columns)),
        ("column by column", across, x.mT.reshape(B, K, columns, rows).mT),
        *(("grid exchanged", sides, some) for some in (maps.mT, x.mT.reshape(B, K, columns, rows))),
        ("classes last", "The classes stand last; they stand where an image has its channels.", maps.movedim(1, 3)),
        *(("not in the grid", flat, some) for some in (x.mT, x)),
    )
    return wrong.choose(
        maps,
        ("class chosen", "This is the number of the best class; asked for is the logit of each.", maps.argmax(dim=1)),
        ("probabilities", "Logits are asked for, and no softmax.", maps.softmax(dim=1)),
    )


def listed(function, *inputs):
    """What the function returns; a list, tuple or array of numbers as a tensor."""
    found = call(function, *inputs)
    if isinstance(found, (list, tuple, np.ndarray)):
        with suppress(TypeError, ValueError, RuntimeError):  # no numbers: left as it is
            return torch.tensor([float(x) for x in found], dtype=torch.float64)
    return found


def blocks(n, Y, X, K):
    """Masks of K classes in blocks of 2 x 2 pixels: `(n, Y, X)` uint8."""
    small = torch.randint(K, (n, (Y + 1) // 2, (X + 1) // 2), dtype=torch.uint8)
    return small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, :Y, :X]


def scored():
    yield *torch.tensor([[[0, 0, 1], [0, 1, 0]], [[0, 1, 1], [1, 255, 0]]]).split(1), 3
    for n, Y, X, K in ((3, 5, 8, 4), (1, 1, 9, 2), (4, 6, 3, 3), (2, 7, 7, 20), (1, 2, 2, 6)):
        masks = blocks(n, Y, X, K)
        predicted = torch.where(torch.rand(n, Y, X) < 0.7, masks, torch.randint_like(masks, K))
        predicted[0, 0, 0], masks[0, 0, 0] = K - 1, 0
        masks[torch.rand(n, Y, X) < 0.2] = 255
        yield predicted, masks, K
        yield predicted.long().clamp(max=K - 2), masks.long(), K + 2  # classes that are not there, or not predicted
    yield predicted.mT, masks.mT, K
    yield predicted, torch.full_like(masks, 255), 3


PIXELS = "What both call the class, over what either does; pixels that nobody labelled are not held against it."


@written(PIXELS, scored, use=listed)
def iou(wrong, predicted, masks, num_classes):
    """A function `(predicted (n, Y, X), masks (n, Y, X), num_classes) -> (K,)`: intersection over union, or nan."""
    K, judged = num_classes, masks != 255
    p, m = (torch.stack([x == k for k in range(K)], dim=3) for x in (predicted, masks))  # (n, Y, X, K)
    if wrong("255 taken for class 0", "255 is no class: leave these pixels out, do not make them ground."):
        judged, m[..., 0] = judged | True, m[..., 0] | ~judged
    counts = "255 says that nobody knows: such a pixel counts neither in the intersection nor in the union."
    p = p if wrong("255 counted", counts) else p & judged[..., None]
    both, p, m = (x.sum(dim=(1, 2)).double() for x in (p & m, p, m))  # (n, K)
    if wrong("uint8 overflows", "In uint8, 13 * 20 is 4, and so masks * num_classes is wrong: masks.long() first."):
        pairs = (masks * K + predicted)[judged].long()
        table = pairs.bincount(minlength=K * K)[: K * K].view(1, K, K).double()
        both, p, m = table.diagonal(dim1=1, dim2=2), table.sum(dim=1), table.sum(dim=2)
    every = "This is {}. Add up the pixels of all pictures, then divide."
    each = wrong("mean over the pictures", every.format("a mean over the pictures' scores"))
    apart = wrong("one for each picture", every.format("a row for each picture"))
    both, p, m = (x if each or apart else x.sum(dim=0, keepdim=True) for x in (both, p, m))
    over = "This divides by {}; divide by the union."
    score = wrong.choose(
        both / (p + m - both),
        ("intersection counted twice", "The sum of both counts the intersection twice: subtract it.", both / (p + m)),
        ("Dice", "This is Dice, 2 I / (A + B). Intersection over union is I / (A + B - I).", 2 * both / (p + m)),
        ("precision", over.format("the predicted pixels"), both / p),
        ("recall", over.format("the mask's pixels"), both / m),
        ("over all pixels", over.format("all judged pixels"), both / judged.sum()),
        ("upside down", "This is union over intersection.", (p + m - both) / both),
        *(("one side for both", "This has one side above the line, not both.", x / (p + m - both)) for x in (p, m)),
    )
    fill = "A class that is neither there nor predicted has no score: nan, so that no mean counts it."
    absent = "A class that is predicted and not there scores 0, not nan."
    missing = m == 0 if wrong("nan where predicted", absent) else m + p == 0
    value = wrong.choose(torch.nan, *(("nan missing", fill, x) for x in (0.0, 1.0)))
    score = torch.where(missing, value, score)
    score = score if apart else score.nanmean(dim=0)
    return wrong.choose(
        score,
        *(("mean over the classes", "Asked for is a score for each.", x) for x in (score.nanmean(), score.mean())),
        ("ground left out", "The ground, class 0, has a score too.", score[1:]),
        ("intersection alone", "This is the intersection; divide it by the union.", both.sum(dim=0)),
    )


def drawn_masks():
    yield (torch.tensor([[[0, 0, 1, 1], [0, 2, 2, 1], [0, 0, 2, 0]]]),)
    for n, Y, X, K in ((2, 7, 10, 4), (1, 1, 6, 3), (3, 8, 1, 2), (1, 1, 1, 2), (2, 6, 6, 2), (1, 9, 12, 7)):
        yield (blocks(n, Y, X, K),)
        yield (blocks(n, Y, X, K).long(),)
    yield (torch.full((2, 3, 4), 5, dtype=torch.uint8),)
    yield (blocks(2, 9, 6, 5).mT,)


def marks(answer):
    """Raise `Wrong` where what is right in number is no mark."""
    if getattr(answer(torch.tensor([[[0, 1, 1]]])), "dtype", None) != torch.bool:
        raise Wrong("These are numbers, which an index takes for places; marks are bool.", "not True and False")


@written("A border is marked on both sides; the edge of the picture is none.", drawn_masks, also=(marks,))
def outline(wrong, masks):
    """A function `(masks (n, Y, X)) -> (n, Y, X)` bool: True beside, above or below a pixel of another class."""
    if wrong("all objects alike", "Where two objects touch there is a border too: compare classes, not masks > 0."):
        masks = (masks > 0).long()
    mixed = wrong("pictures mixed", "Pictures are compared with each other: rows are axis 1, columns axis 2.")
    masks = masks.permute(2, 0, 1) if mixed else masks
    (_, Y, X), right, left, down, up = masks.shape, (0, 1), (0, -1), (1, 0), (-1, 0)
    half, some = "Look both ways, not only {}: a border has two sides.", "Only {} are compared; look to all four sides."
    corners = [(y, x) for y in (-1, 1) for x in (-1, 1)]
    steps = wrong.choose(
        [right, left, down, up],
        ("one side of a border", half.format("right and down"), [right, down]),
        ("one side of a border", half.format("left and up"), [left, up]),
        ("columns alone", some.format("pixels side by side"), [right, left]),
        ("rows alone", some.format("pixels above each other"), [down, up]),
        ("diagonal neighbours", "Pixels that touch at a corner only do not count.", [right, left, down, up, *corners]),
    )
    beyond = "Outside of the picture there is no class; here {}."
    padding = wrong.choose(
        ("replicate", None),
        ("round the edge", beyond.format("the opposite edge lies there, as roll has it"), ("circular", None)),
        ("edge of the picture", beyond.format("0 lies there, and makes an outline"), ("constant", 0)),
        ("edge of the picture", beyond.format("something lies there, and makes an outline"), ("constant", -1)),
    )
    padded, masks = F.pad(masks[:, None].double(), (1, 1, 1, 1), *padding)[:, 0], masks.double()
    apart = torch.stack([padded[:, 1 + y : 1 + y + Y, 1 + x : 1 + x + X] - masks for y, x in steps])
    cancel = "Differences up and down cancel here where they are added: compare with each neighbour."
    sign = "Only the side with the {} number is marked: compare with != alone."
    lines = wrong.choose(
        (apart != 0).any(dim=0),
        ("differences cancel", cancel, apart.sum(dim=0) != 0),
        ("one side by number", sign.format("smaller"), (apart > 0).any(dim=0)),
        ("one side by number", sign.format("larger"), (apart < 0).any(dim=0)),
        ("all neighbours differ", "One neighbour of another class is enough: any, not all.", (apart != 0).all(dim=0)),
    )
    own = "Only the {} side of a border is marked; both belong to the outline."
    lines = wrong.choose(
        lines,
        ("inside marked", "True marks the pixels away from any border; it is to mark the others.", ~lines),
        ("one class's side", own.format("objects'"), lines & (masks > 0)),
        ("one class's side", own.format("ground's"), lines & (masks == 0)),
    )
    return lines.permute(1, 2, 0) if mixed else lines


def moves():
    yield whole(1, 4, 4, low=0), torch.arange(16, dtype=torch.uint8).view(4, 4) % 7, 1, 2, 2
    for C, Y, X, side, top, left in ((3, 8, 12, 4, 1, 6), (2, 6, 9, 3, 2, 4), (1, 4, 4, 4, 0, 0), (3, 4, 10, 2, 0, 3)):
        yield torch.rand(C, Y, X), blocks(1, Y + 1, X + 1, 7)[0, 1:, 1:], top, left, side
        yield torch.rand(C, Y, X), torch.randint(7, (Y, X)), top, left, side
    yield torch.rand(2, 12, 8).mT, blocks(1, 12, 8, 6)[0].T, 3, 5, 4


def resized(x, size, mode, **options):
    return F.interpolate(x[None].float(), size=size, mode=mode, **options)[0]


@written("Picture and mask move together, and no class appears that was not there.", moves)
def moved_mask(wrong, image, mask, top, left, side):
    """A function `(image (C, Y, X), mask (Y, X), top, left, side) -> (image, mask)`: the crop in the old size."""
    size, rows, columns = mask.shape, slice(top, top + side), slice(left, left + side)
    both = "Now the picture's crop has rows and columns exchanged as well. It was right."
    image = image[:, columns, rows] if wrong("picture's crop exchanged", both) else image[:, rows, columns]
    there = "top counts rows and left columns, in the mask as in the picture."
    mask = mask[columns, rows] if wrong("rows and columns exchanged", there) else mask[rows, columns]
    soft, between = resized(mask[None], size, "bilinear")[0], "Between classes 1 and 5 there is no 3: mode nearest."
    mask = wrong.choose(
        resized(mask[None], size, "nearest")[0],
        *(("mask blended", between, x) for x in (soft.floor(), soft, soft.round())),
        ("mask not resized", "The mask keeps the crop's size; it is to have the picture's.", mask),
    )
    fine = "The picture's resizing was right, {}. Only the mask's was wrong."
    other = resized(image, size, "bilinear", align_corners=True)
    image = wrong.choose(
        resized(image, size, "bilinear"),
        ("picture by nearest", fine.format("bilinear"), resized(image, size, "nearest")),
        ("picture aligned otherwise", fine.format("without align_corners"), other),
        ("picture not resized", "The picture keeps the crop's size.", image),
    )
    return wrong.choose((image, mask), ("pair swapped", "The image comes first, then the mask.", (mask, image)))


LAYER = "b"  # the statement that holds


@chosen(LAYER, "In both bodies a layer between has it best, and the last is worse: measure before you choose one.")
def which_layer():
    """Which statement on frozen features, layer by layer, the table supports."""
    return {
        "a": ("deeper is better", "Compare the last row of the table with those before it."),
        "c": ("shallow is better", "Compare the first row of the table with those after it."),
    }


def patches_alike():
    yield torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, -4.0], [-2.0, 1.0]]), 2
    for N, D, query in ((9, 4, 8), (1, 3, 0), (5, 1, 2), (6, 8, 0), (12, 3, 7)):
        yield torch.randn(N, D) * 4 ** torch.randn(N, 1) + 0.3, query
    yield (torch.randn(4, 7).double() + 1).T, 3


@written("Direction alone is compared: each patch with the one pointed at.", patches_alike)
def cosines(wrong, features, query):
    """A function `(features (N, D), query) -> (N,)`: the cosine of each patch with patch number `query`."""
    other = "This compares with another patch: query is a row of features, in which there is no class token."
    query += wrong.choose(0, *(("another patch", other, step) for step in (1, -1)))
    shifted = "A mean is taken off first. The cosine takes the vectors as they are."
    means = features.mean(dim=0), features.mean(dim=1, keepdim=True)
    features = wrong.choose(features, *(("centred", shifted, features - mean) for mean in means))
    unit, columns, D = F.normalize(features, dim=1), F.normalize(features, dim=0), features.shape[1]
    squares = features.square().sum(dim=1) * features[query].square().sum()
    still, apart = "Lengths still count in {}. Divide by both.", (features - features[query]).norm(dim=1)
    wide = "This gives each *column* length 1; each patch's vector shall have it: dim=1."
    alike = wrong.choose(
        unit @ unit[query],
        ("dot products", still.format("the dot product"), features @ features[query]),
        ("one length left in", still.format("this: that of each patch"), features @ unit[query]),
        ("one length left in", still.format("this: that of the query"), unit @ features[query]),
        *(("distances", still.format("the distance"), sign * apart) for sign in (1, -1)),
        (
            "lengths squared",
            "This divides by squares of lengths.",
            features @ features[query] / squares,
        ),
        ("mean for length", "A length is the root of the *sum* of squares, not of their mean.", unit @ unit[query] * D),
        ("columns normed", wide, columns @ columns[query]),
        ("all pairs", "These are the cosines of all pairs; asked for are those with one patch.", unit @ unit.T),
    )
    itself, one = torch.arange(len(unit)) == query % len(unit), "The query's own cosine, 1, belongs to the result."
    return wrong.choose(
        alike,
        ("one minus", "This is 1 - cosine, which is small for what is alike.", 1 - alike),
        ("angles", "These are angles; their cosine is asked for.", alike.clamp(-1, 1).acos()),
        ("sign lost", "Vectors in opposite directions have the cosine -1, not 1.", alike.abs()),
        ("softmax", "A cosine does not depend on the other patches: no softmax.", alike.softmax(dim=0)),
        ("order for cosines", "These are numbers of patches, in order.", alike.argsort(descending=True)),
        *(("query left out", one, alike.masked_fill(itself, x)) for x in (0.0, -1.0)),
        ("query left out", one, alike[~itself]),
    )


def scaled(x, dim=0):
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    return (x - low) / (high - low)


def spread():
    """Features whose first three components stand out, and in which the first patch is in the middle of none."""
    for N, D in ((4, 4), (12, 8), (6, 20), (30, 5), (7, 6), (10, 4)):
        middle = True
        while middle:
            x = torch.randn(N, D).double()
            U, _, Vh = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
            middle = ((scaled(U[:, :3])[0] - 0.5).abs() < 0.1).any()
        sizes = torch.tensor([9.0, 5.0, 2.5, *(0.1 * 0.6**n for n in range(len(Vh) - 3))]).double()
        x = U * sizes * (torch.arange(len(Vh)) < N - 1) @ Vh + 2 * torch.randn(D).double()
        yield (x.float() if D > 4 else x.T.contiguous().T,)


def turned(function, features):
    """What the function returns, each column so that its first entry is at least 0.5: a component's sign is free."""
    found = call(function, features)
    usual = isinstance(found, torch.Tensor) and found.ndim == 2 and found.is_floating_point() and len(found)
    return torch.where(found[0] < 0.5, 1 - found, found) if usual else found


def by_hand(answer):
    """Raise `Wrong` for what four patches show, of which each component is a column."""
    right = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = turned(answer, right * torch.tensor([8.0, 4.0, 2.0]) + 1)
    if isinstance(found, torch.Tensor) and found.shape == (4, 3):
        found = found.float()
        if not torch.allclose(torch.stack([found.amin(dim=0), found.amax(dim=0)]).mT, torch.eye(2)[1], atol=1e-3):
            raise Wrong("Each of the three columns is to go from 0 to 1.", "not from 0 to 1")
        if torch.allclose(found.flip(1), right, atol=1e-3):
            raise Wrong("The smallest component comes first, as eigh sorts; the largest is red.", "smallest first")


@written("What tells these patches apart most is red, then green, blue.", spread, use=turned, also=(by_hand,))
def colours(wrong, features):
    """A function `(features (N, D)) -> (N, 3)`: the first three principal components, each scaled to 0..1."""
    x, D = features.double(), features.shape[1]
    own, only = "Each of the D numbers has its mean over the patches, dim=0.", "The features are {}; only centre them."
    x = wrong.choose(
        x - x.mean(dim=0),
        ("not centred", "Not centred, the first component shows the mean: subtract the mean of all patches.", x),
        ("centred over the width", own, x - x.mean(dim=1, keepdim=True)),
    )
    x = wrong.choose(
        x,
        ("features standardised", only.format("divided by their spread"), x / x.std(dim=0)),
        ("lengths taken off", only.format("given length 1"), F.normalize(x, dim=1)),
    )
    V = torch.linalg.svd(x, full_matrices=False).Vh.T  # (D, components)
    V = wrong.choose(
        V[:, :3],
        ("smallest first", "The third component comes first; the largest is to be red.", V[:, :3].flip(1)),
        ("first one left out", "The first component is left out.", V[:, 1:4]),
        ("no components", "These are the first three features, and no components.", torch.eye(D).double()[:, :3]),
    )
    x = V if wrong("directions", "These are the directions; project each patch on them.") else x @ V
    low = "Subtract the smallest before you divide."
    return wrong.choose(
        scaled(x),
        ("scaled as a whole", "Each column is to go from 0 to 1 by itself; these share one range.", scaled(x, (0, 1))),
        ("scaled across the patch", "Each *column* goes from 0 to 1, not the three numbers of a patch.", scaled(x, 1)),
        ("not scaled", "The components are not scaled to 0..1.", x),
        *(("minimum left in", low, x / most) for most in (x.amax(dim=0), x.abs().amax(dim=0))),
        ("sigmoid", "A sigmoid does not reach 0 and 1, the ends of each column.", x.sigmoid()),
        ("clamped", "This cuts off what lies outside of 0..1; scale it.", x.clamp(0, 1)),
    )


def marked():
    yield (torch.tensor([[0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 0, 0]]).bool(),)
    for Y, X, share in ((7, 9, 0.05), (5, 12, 0.15), (1, 8, 0.3), (9, 1, 0.3), (6, 6, 1.0), (1, 1, 1.0), (8, 5, 0.0)):
        mask = torch.rand(Y, X) < share
        mask[torch.randint(Y, ()), torch.randint(X, ())] = True
        yield (mask,)
        yield (mask.flip(0).T,)
    yield (torch.eye(6, 4).bool().flip(1)[1:],)


@written("From the object's first pixel to the one behind its last, both ways.", marked, use=listed)
def box_of(wrong, mask):
    """A function `(mask (Y, X) bool) -> (4,)`: left, top, right, bottom; the last two are behind the object."""
    y, x = mask.nonzero().unbind(dim=1)
    walked = "The first and last pixel in reading order need not be the leftmost and the rightmost: take min and max."
    left, right = (x[0], x[-1]) if wrong("first and last pixel", walked) else (x.min(), x.max())
    top, bottom = y.min(), y.max()
    last = "right and bottom are exclusive, one more than the last pixel, as in a slice."
    ends = (right, bottom), (right + 1, bottom), (right, bottom + 1)
    right, bottom = wrong.choose(
        (right + 1, bottom + 1),
        *(("last pixel", last, some) for some in ends),
        ("one too many", "This is two more than the last pixel; one is asked for.", (right + 2, bottom + 2)),
    )
    first = "left and top are the object's first pixel, and not the one {} it."
    left, top = wrong.choose(
        (left, top),
        ("another first pixel", first.format("before"), (left - 1, top - 1)),
        ("another first pixel", first.format("after"), (left + 1, top + 1)),
    )
    width, height, middle = right - left, bottom - top, ((left + right) / 2, (top + bottom) / 2)
    exchanged, size = "A box is left, top, right, bottom: columns first.", "These are the width and the height."
    order = [(left, right, top, bottom), (top, bottom, left, right), (right, bottom, left, top)]
    order += [(left, top, bottom, right), (top, left, right, bottom)]
    box = wrong.choose(
        (left, top, right, bottom),
        ("rows first", exchanged, (top, left, bottom, right)),
        *(("another order", "The four come in the order left, top, right, bottom.", some) for some in order),
        ("width and height", f"{size} Asked for are right and bottom.", (left, top, width, height)),
        ("centre", "This is the centre and the size. Asked for are the edges.", (*middle, width, height)),
    )
    return torch.stack(box).double()


def spans(*ends):
    """Boxes 4 pixels high, from `left` to `right` each: `(K, 4)`."""
    return torch.tensor([[left, 0.0, right, 4.0] for left, right in ends])


def overlaps(found, truth):
    """Intersection over union: `(A, B)`."""
    sides = torch.minimum(found[:, None, 2:], truth[:, 2:]) - torch.maximum(found[:, None, :2], truth[:, :2])
    both, (a, b) = sides.clamp(min=0).prod(dim=2), ((x[:, 2:] - x[:, :2]).prod(dim=1) for x in (found, truth))
    return both / (a[:, None] + b - both)


def boxes_near():
    """Boxes found and true, `(A, 4)` and `(B, 4)`: after the first, no IoU is near 0.5, nor near its row's best."""
    true = spans((0, 10), (3, 13))  # whose IoU is 7/13
    yield spans((0, 2)), spans((0, 4))  # an IoU of 0.5
    for one, other in ((0, 1.9), (0, 4)), ((0, 4), (0, 1.9)), ((3, 9), (0, 4)), ((10, 12), (8, 10)):  # less than 0.5
        yield spans(one), spans(other)
    yield torch.tensor([[6.0, 6.0, 8.0, 8.0]]), torch.tensor([[2.0, 2.0, 4.0, 4.0]])  # apart both ways
    yield spans((2.5, 12.5), (-1, 9)), true  # the first fits on both, better on the second
    yield spans((2.5, 12.5), (-1, 9)), true.flip(0)
    yield spans((0, 10), (0.5, 10.5)), true  # the second fits the taken one best, the free one too
    yield spans((1.6, 11.6), (4, 14)), true  # the first takes what the second needs
    yield spans((4, 14), (1.6, 11.6)), true
    yield torch.zeros(0, 4), true
    yield true, torch.zeros(0, 4)
    for A, B, jitter in ((6, 4, 3.0), (12, 6, 4.0), (3, 8, 2.0), (10, 2, 4.0), (16, 9, 4.0), (1, 1, 1.0)):
        near = True
        while near:
            corner = 16 * torch.rand(max(1, B // 2), 2)
            some = torch.cat([corner, corner + 5 + 8 * torch.rand(len(corner), 2)], dim=1)
            found, truth = (some[torch.randint(len(some), (n,))] + jitter * (torch.rand(n, 4) - 0.5) for n in (A, B))
            ranked = overlaps(found, truth).sort(dim=1).values
            alike = ranked.diff(dim=1)[ranked[:, 1:] > 0.4] < 1e-3
            near = ((ranked - 0.5).abs() < 1e-3).any() or alike.any()
        yield found, truth
        yield found.double().T.contiguous().T, truth.double()


@written("Every true box counts once, for the surest that lies on it.", boxes_near)
def match(wrong, found, truth):
    """A function `(found (A, 4), truth (B, 4)) -> int`: how many found boxes, the surest first, lie on a true one."""
    if wrong("width and height", "The last two are right and bottom; here they are taken for width and height."):
        found, truth = (torch.cat([x[:, :2], x[:, :2] + x[:, 2:]], dim=1) for x in (found, truth))
    more = wrong("sides one longer", "right and bottom are exclusive: a side is right - left, without + 1.")
    sides = torch.minimum(found[:, None, 2:], truth[:, 2:]) - torch.maximum(found[:, None, :2], truth[:, :2]) + more
    apart = "Boxes that lie apart have negative sides, and two of these make an area: clamp(min=0)."
    both = (sides if wrong("boxes apart overlap", apart) else sides.clamp(min=0)).prod(dim=2)
    a, b = ((x[:, 2:] - x[:, :2] + more).prod(dim=1) for x in (found, truth))
    a, over = a[:, None], "This divides by {}; divide by the union."
    overlap = both / wrong.choose(
        a + b - both,
        ("intersection counted twice", "The intersection is in both areas: subtract it once.", a + b),
        ("over one box", over.format("the found box"), a),
        ("over one box", over.format("the true box"), b),
        ("over one box", over.format("the smaller box"), torch.minimum(a, b)),
    )
    least = "An IoU of at least 0.5 is asked for; here it {}."
    fits = wrong.choose(
        overlap >= 0.5,
        ("more than 0.5", least.format("has to be more"), overlap > 0.5),
        ("any overlap", least.format("may be any"), overlap > 0),
    )
    again = "What is found a second time is wrong: remember which true boxes are taken."
    twice = wrong("found twice", again)
    blocked = wrong("taken box blocks", "The best true box may be taken and another one that fits be free: look on.")
    first = wrong("first that fits", "Of the free true boxes take the one with the *largest* IoU.")
    late = wrong("least sure first", "The surest come first and choose first: keep the order of found.")
    right, taken = 0, set()
    for i in range(len(found))[:: -1 if late else 1]:
        fitting = [j for j in range(len(truth)) if fits[i, j] and (blocked or twice or j not in taken)]
        best = (fitting[0] if first else max(fitting, key=overlap[i].__getitem__)) if fitting else None
        right += bool(fitting) and (twice or best not in taken)
        taken.add(best)
    near = "True boxes near any found one count here, also by one that has another box."
    return wrong.choose(
        right,
        ("pairs counted", "These are pairs. A found box takes one true box, and takes it away.", int(fits.sum())),
        ("true boxes counted", near, int(fits.any(dim=0).sum())),
        *(("share", "How many is asked for, not which share.", right / max(1, len(x))) for x in (found, truth)),
        *(("misses counted", "These are the others; count the right ones.", len(x) - right) for x in (found, truth)),
    )
