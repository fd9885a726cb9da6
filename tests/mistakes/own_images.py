"""Wrong answers to notebook 12's exercises, as learners write them, and the mistakes that must be named."""

import math

import torch


def distance(a, b):
    return (a[:, None] - b[None]).square().mean(dim=(2, 3, 4)).sqrt()


def by_picture(groups, holdout, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(groups), generator=generator) < holdout


def by_group(groups, holdout, seed):
    kinds = groups.unique()
    generator = torch.Generator().manual_seed(seed)
    chosen = kinds[torch.randperm(len(kinds), generator=generator)[: round(holdout * len(kinds))]]
    return torch.isin(groups, chosen)


def without_the_first(groups, holdout, seed):
    kinds = groups.unique()[1:]
    generator = torch.Generator().manual_seed(seed)
    chosen = kinds[torch.randperm(len(kinds), generator=generator)[: round(holdout * len(kinds))]]
    return torch.isin(groups, chosen)


def without_the_seed(groups, holdout, seed):
    kinds = groups.unique()
    return torch.isin(groups, kinds[torch.randperm(len(kinds))[: round(holdout * len(kinds))]])


def plain(right, n):
    p = right / n
    return p - 1.96 * (p * (1 - p) / n) ** 0.5, p + 1.96 * (p * (1 - p) / n) ** 0.5


def not_divided(right, n, z=1.96):
    p = right / n
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


def precedence(right, n, z=1.96):
    p = right / n
    middle, half = p + z**2 / 2 * n, z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def only_the_half(right, n, z=1.96):
    middle, half = (sum(not_divided(right, n, z)) / 2, not_divided(right, n, z)[1] - not_divided(right, n, z)[0])
    return middle / (1 + z**2 / n) - half / 2, middle / (1 + z**2 / n) + half / 2


def threshold(probabilities, labels, wanted, pick=min, none=math.inf, share=None):
    confidence, chosen = probabilities.max(1)
    right = chosen == labels
    share = share or (lambda heard: right[heard].float().mean())
    good = [t.item() for t in confidence if share(confidence >= t) >= wanted]
    return pick(good) if good else none


def from_above(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(1)
    right, best = chosen == labels, math.inf
    for t in confidence.sort(descending=True).values:
        if right[confidence >= t].float().mean() < wanted:
            return best
        best = t.item()
    return best


def of_all(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(1)
    right = chosen == labels
    return threshold(probabilities, labels, wanted, share=lambda heard: (right & heard).float().mean())


def knowing(probabilities, labels, wanted):
    truth = probabilities[torch.arange(len(labels)), labels]
    right = probabilities.argmax(1) == labels
    good = [t.item() for t in truth if right[truth >= t].float().mean() >= wanted]
    return min(good) if good else math.inf


RIGHT = []

WRONG = [
    ("copy_in_training", 0.8, "counted itself"),
    ("copy_in_training", 80, "counted itself"),
    ("copy_in_training", 1, "taken for certain"),
    ("copy_in_training", "20 %", "the share held out"),
    ("mirrored_distance", distance, "mirror forgotten"),
    ("mirrored_distance", lambda a, b: torch.minimum(distance(a, b), distance(a, b.flip(2))), "upside down"),
    ("mirrored_distance", lambda a, b: torch.maximum(distance(a, b), distance(a, b.flip(3))), "the larger of two"),
    ("mirrored_distance", lambda a, b: torch.minimum(distance(a, b), distance(a, b.flip(3))) ** 2, "root forgotten"),
    ("mirrored_distance", lambda a, b: torch.minimum(distance(b, a), distance(b, a.flip(3))), "axes swapped"),
    ("mirrored_distance", lambda a, b: 192 * distance(a, b) ** 2, "mirror forgotten + sum for mean + root forgotten"),
    ("mirrored_distance", lambda a, b: (a - b).square().mean((1, 2, 3)).sqrt(), "wrong shape"),
    ("whole_groups", by_picture, "groups torn apart"),
    ("whole_groups", lambda groups, holdout, seed: ~by_group(groups, holdout, seed), "sides swapped"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, 3), "no chance"),
    ("whole_groups", without_the_seed, "not repeatable"),
    ("whole_groups", without_the_first, "not every group"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, seed).nonzero()[:, 0], "not a mask"),
    ("whole_groups", lambda groups, holdout, seed: torch.zeros(len(groups), dtype=torch.bool), "one side empty"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, 0.5, seed), "wrong share"),
    ("whole_groups", lambda groups, holdout, seed: by_group(groups, holdout, seed)[:-1], "wrong shape"),
    ("accuracy_interval", plain, "the plain interval"),
    ("accuracy_interval", lambda r, n: (max(0.0, plain(r, n)[0]), min(1.0, plain(r, n)[1])), "the plain interval"),
    ("accuracy_interval", not_divided, "ends not divided"),
    ("accuracy_interval", only_the_half, "half not divided"),
    ("accuracy_interval", precedence, "brackets forgotten"),
    ("accuracy_interval", lambda r, n: not_divided(r, n)[::-1], "ends not divided + upside down"),
    ("accuracy_interval", lambda r, n: [100 * v for v in plain(r, n)], "the plain interval + in per cent"),
    ("accuracy_interval", lambda right, n: plain(right, n)[0], "not a pair"),
    ("pictures_needed", 10, "too few"),
    ("pictures_needed", 40, "the plain interval"),
    ("pictures_needed", 60, "still below"),
    ("pictures_needed", 62, "one by one"),
    ("learned_in_grey", "a", "tested, not trained"),
    ("learned_in_grey", "b", "no gain"),
    ("learned_in_grey", "d", "not a choice"),
    ("answer_threshold", lambda p, y, wanted: threshold(p, y, wanted, pick=max), "the highest threshold"),
    ("answer_threshold", lambda p, y, wanted: threshold(p, y, wanted, none=1.0), "no infinity"),
    ("answer_threshold", lambda p, y, wanted: threshold(p, y, wanted, max, 0.0), "no infinity + the highest threshold"),
    ("answer_threshold", from_above, "stopped early"),
    ("answer_threshold", of_all, "right of all"),
    ("answer_threshold", knowing, "knows the truth"),
    ("answer_threshold", lambda p, y, wanted: wanted, "the accuracy itself"),
    ("answer_threshold", lambda p, y, wanted: 0.0, "no threshold"),
]
