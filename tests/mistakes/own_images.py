"""Notebook 12's exercises: right answers in several styles pass, planted mistakes are recognised by name."""

import math

import torch


def loops(a, b):
    out = torch.empty(len(a), len(b))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i, j] = min((x - y).pow(2).mean().sqrt(), (x.flip(-1) - y).pow(2).mean().sqrt())
    return out


def pairs(flip=3, take=torch.minimum, end=lambda x: x.mean(2).sqrt()):
    def distance(a, b):
        one, two = ((a[:, None] - x[None]).square().flatten(2) for x in (b, b.flip(flip) if flip else b))
        return take(end(one), end(two))

    return distance


def by_group(groups, holdout, seed):
    kinds = groups.unique()
    generator = torch.Generator().manual_seed(seed)
    chosen = kinds[torch.randperm(len(kinds), generator=generator)[: round(holdout * len(kinds))]]
    return torch.isin(groups, chosen)


def by_loop(groups, holdout, seed):
    torch.manual_seed(seed)
    test = torch.zeros(len(groups), dtype=torch.bool)
    for kind in groups.unique()[torch.randperm(len(groups.unique()))]:
        if test.float().mean() < holdout - 0.02:
            test |= groups == kind
    return test


def by_picture(groups, holdout, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(groups), generator=generator) < holdout


def wilson(right, n, z=1.96, root=True, divide=True, at_p=False):
    p, scale = right / n, 1 + z * z / n
    middle = p if at_p else (p + z * z / (2 * n)) / scale
    half = p * (1 - p) / n + z * z / (4 * n * n)
    half = z * (half**0.5 if root else half) / (scale if divide else 1)
    return middle - half, middle + half


def by_quadratic(right, n):
    """Where |p - q| = z sqrt(q (1 - q) / n)."""
    p, c = right / n, 1.96**2 / n
    a, b = 1 + c, -(2 * p + c)
    root = math.sqrt(b * b - 4 * a * p * p)
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def plain(right, n):
    p = right / n
    return p - 1.96 * (p * (1 - p) / n) ** 0.5, p + 1.96 * (p * (1 - p) / n) ** 0.5


def threshold(pick=min, share=lambda right, answered: right[answered].float().mean(), truth=False):
    def find(probabilities, labels, wanted):
        confidence, chosen = probabilities.max(1)
        right = chosen == labels
        if truth:
            confidence = probabilities.gather(1, labels[:, None])[:, 0]
        good = [t.item() for t in confidence if share(right, confidence >= t) >= wanted]
        return pick(good) if good else math.inf

    return find


def by_sorting(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(1)
    order = confidence.argsort(descending=True)
    hits = (chosen == labels)[order].float().cumsum(0) / torch.arange(1, len(labels) + 1)
    good = (hits >= wanted).nonzero().flatten()
    return confidence[order[good[-1]]] if len(good) else math.inf


def by_score(groups, holdout, seed):
    score = torch.rand(int(groups.max()) + 1, generator=torch.Generator().manual_seed(seed))
    kinds = groups.unique()
    limit = score[kinds].sort().values[int(holdout * len(kinds))]
    return (score < limit)[groups]


def by_descent(probabilities, labels, wanted):
    best, hits = math.inf, 0
    order = sorted(zip(probabilities.tolist(), labels.tolist(), strict=True), key=lambda pair: -max(pair[0]))
    for answered, (row, label) in enumerate(order, start=1):
        hits += row.index(max(row)) == label
        if hits >= wanted * answered:
            best = max(row)
    return best


def by_cdist(a, b):
    both = [torch.cdist(a.flatten(1), x.flatten(1)) for x in (b, b.flip(3))]
    return torch.stack(both).amin(0) / a[0].numel() ** 0.5


RIGHT = [
    ("copy_in_training", 32 / 39),
    ("copy_in_training", 82),
    ("copy_in_training", torch.tensor(1 - 7 / 39)),
    ("mirrored_distance", loops),
    ("mirrored_distance", pairs()),
    ("mirrored_distance", by_cdist),
    ("whole_groups", by_group),
    ("whole_groups", by_loop),
    ("whole_groups", by_score),
    ("accuracy_interval", wilson),
    ("accuracy_interval", by_quadratic),
    ("accuracy_interval", lambda right, n: torch.tensor(wilson(right, n))),
    ("pictures_needed", 70),
    ("pictures_needed", torch.tensor(70)),
    ("pictures_needed", next(n for n in range(10, 1000, 10) if wilson(0.9 * n, n)[0] > 0.8)),
    ("answer_threshold", threshold()),
    ("answer_threshold", by_sorting),
    ("answer_threshold", by_descent),
]

WRONG = [
    ("copy_in_training", 0.8, "counted itself"),
    ("copy_in_training", 80, "counted itself"),
    ("copy_in_training", 1, "taken for certain"),
    ("copy_in_training", 7 / 39, "the other side"),
    ("copy_in_training", 0.5, "a coin"),
    ("copy_in_training", 0.2, "the share held out"),
    ("mirrored_distance", pairs(flip=None), "mirror forgotten"),
    ("mirrored_distance", pairs(flip=2), "upside down"),
    ("mirrored_distance", pairs(take=torch.maximum), "the larger of two"),
    ("mirrored_distance", pairs(end=lambda x: x.mean(2)), "root forgotten"),
    ("mirrored_distance", pairs(end=lambda x: x.sum(2).sqrt()), "sum for mean"),
    ("mirrored_distance", lambda a, b: loops(a, b).diagonal(), "only in step"),
    ("mirrored_distance", lambda a, b: loops(b, a)[:2, :2], "wrong shape"),
    ("whole_groups", by_picture, "groups torn apart"),
    ("whole_groups", lambda groups, holdout, seed: ~by_group(groups, holdout, seed), "sides swapped"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, 3), "no chance"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, seed).nonzero()[:, 0], "not a mask"),
    ("whole_groups", lambda groups, holdout, seed: torch.zeros(len(groups), dtype=torch.bool), "one side empty"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, 0.5, seed), "wrong share"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, seed)[:-1], "wrong shape"),
    ("accuracy_interval", plain, "the plain interval"),
    ("accuracy_interval", lambda right, n: wilson(right, n, 1.0), "one standard error"),
    ("accuracy_interval", lambda right, n: wilson(right, n)[::-1], "upside down"),
    ("accuracy_interval", lambda right, n: [100 * v for v in wilson(right, n)], "in per cent"),
    ("accuracy_interval", lambda right, n: wilson(right, n, root=False), "root forgotten"),
    ("accuracy_interval", lambda right, n: wilson(right, n, divide=False), "half not divided"),
    ("accuracy_interval", lambda right, n: wilson(right, n, at_p=True), "around p"),
    ("accuracy_interval", lambda right, n: wilson(right, n)[0], "not a pair"),
    ("pictures_needed", 10, "too few"),
    ("pictures_needed", 40, "the plain interval"),
    ("pictures_needed", 60, "the last that fails"),
    ("answer_threshold", threshold(pick=max), "the highest threshold"),
    ("answer_threshold", threshold(share=lambda r, a: (r & a).float().mean()), "right of all"),
    ("answer_threshold", threshold(truth=True), "knows the truth"),
    ("answer_threshold", lambda p, y, wanted: wanted, "the accuracy itself"),
    ("answer_threshold", lambda p, y, wanted: 0.0, "no threshold"),
]
