"""Exercises 12.2 to 12.4 and 12.7."""

import math

import torch

from . import SEED, oracle, safely

RIGHTS = [(0, 10), (10, 10), (9, 10), (1, 1), (0, 1), (45, 50), (3, 7), (500, 1000), (1, 3), (19, 400)]
ASKED = [(1, 2), (1, 3), (4, 3), (4, 2), (7, 2), (12, 5), (23, 4)]  # n, classes


def prints():
    """Fingerprints; in some pairs one is the other, as it is or mirrored."""
    for n, m in ((1, 1), (2, 3), (3, 2), (4, 4), (1, 5), (3, 1)):
        a, b = torch.randn(n, 3, 8, 8), torch.randn(m, 3, 8, 8)
        if n + m > 5:
            b[0], b[-1] = a[-1], a[0].flip(2)
        yield a, b


@oracle(prints, lambda d: torch.where(d.abs() < 2e-3, torch.zeros_like(d), d))  # some subtract nearly equal squares
def mirrored_distance(a, b):
    distance = torch.zeros(len(a), len(b), dtype=torch.float64)
    for i, one in enumerate(a.double()):
        for j, other in enumerate(b.double()):
            turned = torch.stack([other[..., 7 - column] for column in range(8)], dim=-1)
            distance[i, j] = min(((one - x) ** 2).sum() / (3 * 8 * 8) for x in (other, turned)) ** 0.5
    return distance


def split(answer, groups, holdout, seed):
    """The mask that an answer gives, as a list, and the groups on the test side; None where a group is torn apart."""
    own = groups.clone()
    mask = answer(own, holdout, seed)
    if torch.initial_seed() == seed:  # what is done to the generator with the seed that was given is asked for
        torch.manual_seed(SEED)
    if mask.dtype != torch.bool or mask.shape != groups.shape or not torch.equal(own, groups):
        return None
    test, training = set(groups[mask].tolist()), set(groups[~mask].tolist())
    return None if test & training else (mask.tolist(), frozenset(test))


@safely
def whole_groups(answer):
    pairs = torch.randperm(90_000)[:500].repeat(2)[torch.randperm(1000)]
    found = [split(answer, pairs, holdout, seed) for holdout, seed in ((0.2, 0), (0.2, 1), (0.2, 0), (0.35, 2))]
    if None in found or found[0] != found[2] or found[0] == found[1]:
        return False
    if any(abs(sum(mask) / 1000 - share) > 0.08 for (mask, _), share in zip(found[1:], (0.2, 0.2, 0.35), strict=True)):
        return False  # 4 sigma off, even where each group is drawn alone
    uneven = torch.tensor([5, 900, 5, 3, 42, 3, 3, 8, 77, 8, 0, 61])
    drawn = [split(answer, uneven, 0.5, seed) for seed in range(30)]
    if None in drawn or len(drawn[0][0]) != len(uneven):
        return False
    often = [sum(group in test for _, test in drawn) for group in set(uneven.tolist())]
    return min(often) > 0 and max(often) < 30


def two_numbers(pair):
    low, high = pair
    return torch.tensor([float(low), float(high)], dtype=torch.float64)


@oracle(lambda: RIGHTS, two_numbers)
def accuracy_interval(right, n):
    """Those q from which p = right / n lies 1.96 standard errors away, found by halving."""

    def search(inside, outside):
        for _ in range(60):
            q = (inside + outside) / 2
            far = abs(right / n - q) > 1.96 * math.sqrt(q * (1 - q) / n)
            inside, outside = (inside, q) if far else (q, outside)
        return inside

    return torch.tensor([search(right / n, 0.0), search(right / n, 1.0)], dtype=torch.float64)


def asked():
    """Confidences that are all different; and shares that are met exactly only where that is a short binary."""
    for n, classes in ASKED:
        confidence, chosen = torch.linspace(0.55, 0.98, n)[torch.randperm(n)], torch.randint(classes, (n,))
        rest = torch.rand(n, classes).scatter(1, chosen[:, None], 0.0)
        rest = rest / rest.sum(1, keepdim=True) * (1 - confidence)[:, None]
        probabilities = rest.scatter(1, chosen[:, None], confidence[:, None])
        wrong = (torch.rand(n) < 0.3) & (classes > 1)
        labels = torch.where(wrong, (chosen + 1) % classes, chosen)
        for wanted in (0.5, 0.75, 0.837, 1.0):
            yield probabilities, labels, wanted


@oracle(asked, lambda threshold: min(float(threshold), 9.0))
def answer_threshold(probabilities, labels, wanted):
    best = 9.0
    for threshold in map(max, probabilities.tolist()):
        answered = [n for n, row in enumerate(probabilities.tolist()) if max(row) >= threshold]
        right = sum(probabilities[n].tolist().index(max(probabilities[n].tolist())) == labels[n] for n in answered)
        if right / len(answered) >= wanted:
            best = min(best, threshold)
    return best
