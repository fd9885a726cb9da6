"""Right answers to the exercises of notebook 12."""

import math
import random
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

from vit_tutorial.datasets import copies

VALUES = {
    "copy_in_training": [32 / 39, 0.82, 82, "82 %", torch.tensor(1 - 7 / 39), Fraction(32, 39), "32/39", [0.8205]],
    "pictures_needed": [70, 70.0, torch.tensor(70), "70", np.int64(70), [70], Fraction(70)],
    "learned_in_grey": ["c", " C ", "c\n", "(c)", "c."],
}


def mirrored_distance__minimum(a, b):
    plain, mirrored = ((a[:, None] - other[None]).square().mean(dim=(2, 3, 4)) for other in (b, b.flip(3)))
    return torch.minimum(plain, mirrored).sqrt()


def mirrored_distance__loops(a, b):
    out = torch.empty(len(a), len(b))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i, j] = min((x - y).pow(2).mean().sqrt(), (x.flip(-1) - y).pow(2).mean().sqrt())
    return out


def mirrored_distance__cdist(a, b):
    both = [torch.cdist(a.flatten(1), x.flatten(1)) for x in (b, b.flip(3))]
    return torch.stack(both).amin(0) / a[0].numel() ** 0.5


def mirrored_distance__package(a, b):
    return copies.distances(a, b)


def mirrored_distance__numpy(a, b):
    a, b = a.numpy().astype(float), b.numpy().astype(float)
    plain = np.sqrt(((a[:, None] - b[None]) ** 2).mean(axis=(2, 3, 4)))
    turned = np.sqrt(((a[:, None] - b[None, ..., ::-1]) ** 2).mean(axis=(2, 3, 4)))
    return torch.from_numpy(np.minimum(plain, turned))


def mirrored_distance__sum_and_divide(a, b):
    n, m = len(a), len(b)
    x = a.reshape(n, 1, -1).expand(n, m, -1)
    rooted = []
    for other in (b, torch.flip(b, dims=[3])):
        y = other.reshape(1, m, -1).expand(n, m, -1)
        rooted.append(torch.sqrt(((x - y) ** 2).sum(2) / 192))
    return torch.min(rooted[0], rooted[1])


def mirrored_distance__a_turned(a, b):
    plain = torch.linalg.vector_norm(a.unsqueeze(1) - b.unsqueeze(0), dim=(2, 3, 4))
    turned = torch.linalg.vector_norm(a.fliplr().flip(1, 3).unsqueeze(1) - b.unsqueeze(0), dim=(2, 3, 4))
    return torch.where(plain < turned, plain, turned) / math.sqrt(3 * 8 * 8)


def mirrored_distance__row_by_row(a, b):
    columns = torch.arange(7, -1, -1)
    rows = []
    for x in a:
        near = ((b - x) ** 2).mean((1, 2, 3))
        mirrored = ((b[:, :, :, columns] - x) ** 2).mean((1, 2, 3))
        rows.append(near.minimum(mirrored) ** 0.5)
    return torch.stack(rows)


def mirrored_distance__einsum(a, b):
    a, b = a.double(), b.double()
    squares = torch.einsum("ncyx,ncyx->n", a, a)[:, None] + torch.einsum("mcyx,mcyx->m", b, b)
    inner = [torch.einsum("ncyx,mcyx->nm", a, other) for other in (b, b.flip(3))]
    return ((squares - 2 * torch.maximum(*inner)) / 192).clamp(min=0).sqrt()


def mirrored_distance__mse_loss(a, b):
    def rms(x, y):
        return F.mse_loss(x, y).sqrt().item()

    return torch.tensor([[min(rms(x, y), rms(x, y.flip(2))) for y in b] for x in a])


def mirrored_distance__stacked(a, b):
    views = torch.stack([b, b.flip(3)])  # (2, m, 3, 8, 8)
    squares = (a[None, :, None] - views[:, None]).flatten(3).pow(2)
    return squares.mean(3).sqrt().min(dim=0).values


def whole_groups__isin(groups, holdout, seed):
    kinds, generator = groups.unique(), torch.Generator().manual_seed(seed)
    chosen = kinds[torch.randperm(len(kinds), generator=generator)[: round(holdout * len(kinds))]]
    return torch.isin(groups, chosen)


def whole_groups__until_enough(groups, holdout, seed):
    torch.manual_seed(seed)
    test = torch.zeros(len(groups), dtype=torch.bool)
    for kind in groups.unique()[torch.randperm(len(groups.unique()))]:
        if test.float().mean() < holdout - 0.02:
            test |= groups == kind
    return test


def whole_groups__scores(groups, holdout, seed):
    score = torch.rand(int(groups.max()) + 1, generator=torch.Generator().manual_seed(seed))
    kinds = groups.unique()
    limit = score[kinds].sort().values[int(holdout * len(kinds))]
    return (score < limit)[groups]


def whole_groups__random_module(groups, holdout, seed):
    kinds = sorted(set(groups.tolist()))
    chosen = set(random.Random(seed).sample(kinds, round(holdout * len(kinds))))
    return torch.tensor([group in chosen for group in groups.tolist()])


def whole_groups__numpy(groups, holdout, seed):
    rng = np.random.default_rng(seed)
    kinds = np.unique(groups.numpy())
    chosen = rng.choice(kinds, size=max(1, int(round(holdout * len(kinds)))), replace=False)
    return torch.from_numpy(np.isin(groups.numpy(), chosen))


def whole_groups__inverse(groups, holdout, seed):
    kinds, number = groups.unique(return_inverse=True)
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed))
    return (order < holdout * len(kinds))[number]


def whole_groups__coins(groups, holdout, seed):
    kinds, number = torch.unique(groups, return_inverse=True)
    coins = torch.rand(len(kinds), generator=torch.Generator().manual_seed(seed))
    return coins[number] < holdout


def whole_groups__counted_pictures(groups, holdout, seed):
    kinds, counts = groups.unique(return_counts=True)
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed))
    before = counts[order].cumsum(0) - counts[order]
    chosen = kinds[order[before < holdout * len(groups)]]
    return (groups[:, None] == chosen).any(dim=1)


def whole_groups__rolled(groups, holdout, seed):
    kinds = groups.unique()
    shift = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed))
    number = torch.searchsorted(kinds, groups)
    return shift[number] >= len(kinds) - round(holdout * len(kinds))


def whole_groups__shuffled_list(groups, holdout, seed):
    kinds = groups.unique().tolist()
    random.Random(seed).shuffle(kinds)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    for kind in kinds[: math.ceil(holdout * len(kinds))]:
        mask[groups == kind] = True
    return mask


def whole_groups__dictionary(groups, holdout, seed):
    generator = torch.Generator()
    generator.manual_seed(seed)
    side = {kind: torch.rand(1, generator=generator).item() < holdout for kind in groups.unique().tolist()}
    return torch.BoolTensor([side[kind] for kind in groups.tolist()])


def accuracy_interval__formula(right, n):
    z = 1.96
    p = right / n
    middle = p + z**2 / (2 * n)
    root = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return (middle - root) / (1 + z**2 / n), (middle + root) / (1 + z**2 / n)


def accuracy_interval__divided_first(right, n, z=1.96):
    p, scale = right / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / scale, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return [middle - half, middle + half]


def accuracy_interval__quadratic(right, n):
    """Where |p - q| = z sqrt(q (1 - q) / n)."""
    p, c = right / n, 1.96**2 / n
    a, b = 1 + c, -(2 * p + c)
    root = math.sqrt(b * b - 4 * a * p * p)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def accuracy_interval__tensor(right, n):
    p, z2 = torch.tensor(right / n), 1.96**2
    half = (z2 * p * (1 - p) / n + z2**2 / (4 * n**2)).sqrt()
    return (p + z2 / (2 * n) + torch.tensor([-1.0, 1.0]) * half) / (1 + z2 / n)


def accuracy_interval__scipy(right, n):
    found = stats.binomtest(int(right), n).proportion_ci(confidence_level=0.95, method="wilson")
    return found.low, found.high


def accuracy_interval__numpy(right, n):
    p, z = np.float64(right) / n, 1.96
    signs = np.array([-1, 1])
    return (p + z**2 / 2 / n + signs * z * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)) / (1 + z**2 / n)


def accuracy_interval__counts(right, n):
    """All times n."""
    z2, wrong = 1.96**2, n - right
    half = 1.96 * math.sqrt(right * wrong / n + z2 / 4)
    return (right + z2 / 2 - half) / (n + z2), (right + z2 / 2 + half) / (n + z2)


def accuracy_interval__exact_z(right, n):
    z = stats.norm.ppf(0.975)
    p = right / n
    spread = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = (((p + z**2 / (2 * n)) + sign * spread) / (1 + z**2 / n) for sign in (-1, 1))
    return low, high


def accuracy_interval__mixed(right, n):
    """The middle as a mean of p and one half."""
    z2 = 1.96 * 1.96
    weight = n / (n + z2)
    p = right / n
    middle = weight * p + (1 - weight) * 0.5
    half = 1.96 * (weight * p * (1 - p) / (n + z2) + z2 / (4 * (n + z2) ** 2)) ** 0.5
    return middle - half, middle + half


def accuracy_interval__halving(right, n):
    def search(inside, outside):
        for _ in range(60):
            q = (inside + outside) / 2
            far = abs(right / n - q) > 1.96 * math.sqrt(q * (1 - q) / n)
            inside, outside = (inside, q) if far else (q, outside)
        return inside

    return search(right / n, 0.0), search(right / n, 1.0)


def accuracy_interval__fractions(right, n):
    p, z2 = Fraction(right, n), Fraction(196, 100) ** 2
    middle, scale = p + z2 / (2 * n), 1 + z2 / n
    root = Fraction(math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))))
    return (middle - root) / scale, (middle + root) / scale


def answer_threshold__first_from_below(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(dim=1)
    right = (chosen == labels).float()
    for threshold in confidence.sort().values.tolist():
        if right[confidence >= threshold].mean() >= wanted:
            return threshold
    return float("inf")


def answer_threshold__smallest(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(1)
    right = chosen == labels
    good = [t.item() for t in confidence if right[confidence >= t].float().mean() >= wanted]
    return min(good) if good else math.inf


def answer_threshold__sorted(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(1)
    order = confidence.argsort(descending=True)
    hits = (chosen == labels)[order].float().cumsum(0) / torch.arange(1, len(labels) + 1)
    good = (hits >= wanted).nonzero().flatten()
    return confidence[order[good[-1]]] if len(good) else math.inf


def answer_threshold__descent(probabilities, labels, wanted):
    best, hits = math.inf, 0
    order = sorted(zip(probabilities.tolist(), labels.tolist(), strict=True), key=lambda pair: -max(pair[0]))
    for answered, (row, label) in enumerate(order, start=1):
        hits += row.index(max(row)) == label
        if hits >= wanted * answered:
            best = max(row)
    return best


def answer_threshold__table(probabilities, labels, wanted):
    confidence, chosen = probabilities.amax(1), probabilities.argmax(1)
    heard = confidence[None] >= confidence[:, None]  # (threshold, picture)
    share = (heard * (chosen == labels)).sum(1) / heard.sum(1)
    return torch.where(share >= wanted, confidence, torch.inf).min()


def answer_threshold__numpy(probabilities, labels, wanted):
    p, y = probabilities.numpy(), labels.numpy()
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    order = np.argsort(confidence)
    right = right[order][::-1].cumsum()[::-1]
    good = np.flatnonzero(right >= wanted * np.arange(len(y), 0, -1))
    return confidence[order][good[0]] if good.size else np.inf


def answer_threshold__errors_counted(probabilities, labels, wanted):
    confidence, chosen = torch.max(probabilities, 1)
    errors = confidence[chosen != labels]
    for t in sorted(confidence.tolist()):
        answered = (confidence >= t).sum().item()
        if (errors >= t).sum().item() <= (1 - wanted) * answered + 1e-9:
            return t
    return float("inf")


def answer_threshold__generator(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(-1)
    right = chosen.eq(labels).double()
    return next((t for t in confidence.sort()[0] if right[confidence.ge(t)].mean() >= wanted), torch.tensor(torch.inf))


def answer_threshold__dropped_one_by_one(probabilities, labels, wanted):
    rows = [(max(row), row.index(max(row)) == label) for row, label in zip(probabilities.tolist(), labels, strict=True)]
    rows.sort()
    while rows and sum(bool(hit) for _, hit in rows) / len(rows) < wanted:
        rows.pop(0)
    return rows[0][0] if rows else math.inf


def answer_threshold__true_class(probabilities, labels, wanted):
    confidence = probabilities.topk(1).values.squeeze(1)
    right = probabilities[range(len(labels)), labels] == confidence
    best = torch.tensor(float("inf"))
    for t in confidence:
        heard = confidence >= t
        if (right & heard).sum() / heard.sum() >= wanted:
            best = torch.minimum(best, t)
    return best.item()


def answer_threshold__recursive(probabilities, labels, wanted):
    if len(labels) == 0:
        return math.inf
    confidence, chosen = probabilities.max(1)
    if (chosen == labels).float().mean() >= wanted:
        return confidence.min().item()
    rest = confidence > confidence.min()
    return answer_threshold__recursive(probabilities[rest], labels[rest], wanted)
