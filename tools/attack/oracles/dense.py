"""Exercises 15.2 to 15.5 and 15.7 to 15.10."""

import torch

from . import ROUGH, oracle

PICTURES = [(1, 1, 1), (2, 5, 7), (1, 1, 8), (3, 6, 1), (2, 4, 4), (1, 9, 6)]  # n, Y, X


def numbers(found):
    """The numbers of a tensor, an array, a list or a tuple."""
    return found if isinstance(found, torch.Tensor) else torch.tensor([float(x) for x in found])


def heads():
    for B, Y, X, D, K in ((1, 2, 3, 4, 4), (3, 1, 5, 2, 3), (2, 4, 1, 5, 1), (2, 3, 3, 3, 3), (4, 2, 5, 6, 2)):
        yield torch.randn(B, 1 + Y * X, D), torch.randn(K, D), torch.randn(K) + 1, (Y, X)


@oracle(heads)
def to_map(tokens, weight, bias, grid):
    Y, X = grid
    maps = torch.zeros(len(tokens), len(weight), Y, X)
    for b, picture in enumerate(tokens.double()):
        for n, token in enumerate(picture[1:]):
            for k, row in enumerate(weight.double()):
                maps[b, k, n // X, n % X] = (row * token).sum() + bias[k]
    return maps


def regions(K, shape):
    """Whole numbers in stretches, so that most neighbours are alike."""
    return (torch.rand(shape).cumsum(dim=-1) * 0.7 + K * torch.rand(shape[0], shape[1], 1)).long() % K


def guesses():
    for shape, K in zip(PICTURES, (2, 5, 3, 4, 30, 7), strict=True):
        masks, predicted = regions(K, shape), regions(K, shape)
        predicted = torch.where(torch.rand(shape) < 0.5, masks, predicted)
        masks = torch.where(torch.rand(shape) < 0.2, 255, masks)
        yield predicted.byte(), masks.byte(), K
        yield predicted, masks, K + 1


def scores(found):
    """The numbers, with -7 for nan; None of half precision, which is too rough for shares."""
    found = numbers(found)
    return None if found.dtype in ROUGH else found.double().nan_to_num(-7.0)


@oracle(guesses, scores)
def iou(predicted, masks, num_classes):
    found = []
    for k in range(num_classes):
        pairs = [(p == k, m == k) for p, m in zip(predicted.flatten(), masks.flatten(), strict=True) if m != 255]
        either = sum(p or m for p, m in pairs)
        found.append(sum(p and m for p, m in pairs) / either if either else -7.0)
    return torch.tensor(found)


def drawn():
    for shape, K in zip(PICTURES, (2, 5, 3, 4, 9, 2), strict=True):
        yield (regions(K, shape),)
        yield (regions(K, shape).byte(),)


@oracle(drawn, lambda found: found.long() if found.dtype == torch.bool else None)
def outline(masks):
    lines = torch.zeros(masks.shape, dtype=torch.long)
    for i, picture in enumerate(masks.tolist()):
        places = {(y, x): kind for y, row in enumerate(picture) for x, kind in enumerate(row)}
        for (y, x), kind in places.items():
            around = ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
            lines[i, y, x] = any(places.get(place, kind) != kind for place in around)
    return lines


def crops():
    for C, Y, X, top, left, side in ((1, 6, 9, 3, 1, 3), (3, 8, 4, 2, 1, 2), (2, 5, 5, 0, 0, 5), (3, 4, 12, 0, 7, 4)):
        yield 2 * torch.randn(C, Y, X), torch.randint(7, (Y, X)).byte(), top, left, side


def halves(n, side):
    """For each of n pixels: the two places among `side` between which its middle lies, and the share of the second."""
    for i in range(n):
        at = min(max((i + 0.5) * side / n - 0.5, 0), side - 1)
        yield int(at), min(int(at) + 1, side - 1), at - int(at)


@oracle(crops, lambda found: (found[0], found[1].double()) if len(found) == 2 else ())
def moved_mask(image, mask, top, left, side):
    (Y, X), new, kinds = mask.shape, torch.zeros(image.shape).double(), torch.zeros(mask.shape)
    part = image[:, top : top + side, left : left + side].double()
    for y, (up, down, v) in enumerate(halves(Y, side)):
        for x, (west, east, u) in enumerate(halves(X, side)):
            upper = (1 - u) * part[:, up, west] + u * part[:, up, east]
            lower = (1 - u) * part[:, down, west] + u * part[:, down, east]
            new[:, y, x] = (1 - v) * upper + v * lower
            kinds[y, x] = mask[top + y // (Y // side), left + x // (X // side)]
    return new, kinds


def vectors():
    for N, D, query in ((1, 2, 0), (5, 3, 4), (7, 1, 3), (4, 6, 0), (10, 4, 6)):
        yield torch.randn(N, D) * 3 ** torch.randn(N, 1) + 0.2, query


@oracle(vectors)
def cosines(features, query):
    x = features.double()
    length = [sum(a * a for a in row.tolist()) ** 0.5 for row in x]
    dots = [sum(a * b for a, b in zip(row.tolist(), x[query].tolist(), strict=True)) for row in x]
    return torch.tensor([dot / a / length[query] for dot, a in zip(dots, length, strict=True)])


def clouds():
    for N, D in ((5, 4), (12, 3), (6, 15), (20, 6), (8, 7)):
        turn = torch.linalg.qr(torch.randn(D, D))[0]
        points = torch.randn(N, D)
        points = torch.linalg.qr(points - points.mean(dim=0))[0] if N > D else torch.randn(N, D)
        sizes = torch.tensor([8.0, 4.0, 2.0, *[0.05] * (D - 3)])
        yield ((points * sizes) @ turn.T + 3 * torch.randn(D),)


def signed(found):
    """Each column in the one of its two directions in which the sum of the cubes around the middle is positive."""
    kept = (found.double() - 0.5).pow(3).sum(dim=0) > 0
    return torch.where(kept, found.double(), 1 - found.double()) if found.dtype not in ROUGH else None


@oracle(clouds, signed)
def colours(features):
    x = features.double() - features.double().mean(dim=0)
    columns, spread = [], x.T @ x
    for _ in range(3):
        v = torch.ones(len(spread)).double() + torch.arange(len(spread)) / 7
        for _ in range(2000):  # the direction that grows most
            v = spread @ v
            v = v / v.norm()
        spread = spread - (v @ spread @ v) * torch.outer(v, v)
        column = x @ v
        columns.append((column - column.min()) / (column.max() - column.min()))
    return signed(torch.stack(columns, dim=1))


def shapes():
    for Y, X, share in ((1, 1, 1.0), (6, 9, 0.06), (1, 7, 0.3), (8, 1, 0.3), (5, 5, 1.0), (10, 6, 0.1), (4, 7, 0.0)):
        mask = torch.rand(Y, X) < share
        mask[torch.randint(Y, ()), torch.randint(X, ())] = True
        yield (mask,)


@oracle(shapes, lambda found: numbers(found).double())
def box_of(mask):
    places = [(y, x) for y, row in enumerate(mask.tolist()) for x, there in enumerate(row) if there]
    (top, left), (bottom, right) = ([f(place[i] for place in places) for i in (0, 1)] for f in (min, max))
    return torch.tensor([left, top, right + 1, bottom + 1])


def share(a, b):
    """Intersection over union of two boxes, as lists."""
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    both = sides[0] * sides[1]
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def scattered():
    yield torch.tensor([[1.0, 1.0, 3.0, 5.0]]), torch.tensor([[1.0, 1.0, 5.0, 5.0]])
    yield torch.zeros(0, 4), torch.zeros(0, 4)
    yield torch.zeros(0, 4), torch.tensor([[1.0, 1.0, 5.0, 5.0]])
    yield torch.tensor([[1.0, 1.0, 5.0, 5.0]]), torch.zeros(0, 4)
    yield torch.tensor([[7.0, 7.0, 9.0, 9.0]]), torch.tensor([[3.0, 3.0, 5.0, 5.0]])
    for A, B in ((1, 2), (5, 3), (9, 9), (14, 5), (4, 10), (12, 8)) * 3:
        corner = 10 * torch.rand(3, 2)
        base = torch.cat([corner, corner + 4 + 6 * torch.rand(3, 2)], dim=1)
        yield tuple(base[torch.randint(3, (n,))] + 2.5 * torch.rand(n, 4) for n in (A, B))


@oracle(scattered)
def match(found, truth):
    free, right = truth.tolist(), 0
    for box in found.tolist():
        best = max(free, key=lambda other: share(box, other), default=None)
        if best is not None and share(box, best) >= 0.5:
            free.remove(best)
            right += 1
    return right
