"""Exercises 14.2 to 14.5, 14.7, 14.8 and 14.10."""

import math

import torch

from . import agrees, oracle, safely

MASKS = [(1, 2, 1), (2, 6, 2), (3, 5, 4), (1, 9, 1), (4, 4, 2), (2, 16, 7)]  # B, N, K
SIZES = [(1, 2, 3), (2, 6, 5), (3, 5, 2), (1, 1, 4), (4, 4, 4), (2, 7, 3)]  # B, N, M


def shuffled(B, N):
    """A random order of N for each of B."""
    return torch.stack([torch.randperm(N) for _ in range(B)])


def indices(found):
    """The three parts, as they are usable: whole numbers, and True or False."""
    keep, restore, hidden = found
    kinds = keep.dtype.is_floating_point, restore.dtype.is_floating_point, hidden.dtype
    return (keep, restore, hidden) if kinds == (False, False, torch.bool) else ()


@oracle(lambda: [((shuffled(B, N) + 0.5) / N - 0.3, K) for B, N, K in MASKS], indices)
def masking(noise, K):
    keep, restore = [], []
    for row in noise.tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        keep.append(order[:K])
        restore.append([order.index(n) for n in range(len(row))])
    return torch.tensor(keep), torch.tensor(restore), torch.tensor([[place >= K for place in row] for row in restore])


def shortened():
    for (B, N, K), D in zip(MASKS, (3, 2, 4, 1, 4, 5), strict=True):
        yield torch.randn(B, K, D), torch.randn(1, 1, D), shuffled(B, N), torch.randn(1, N, D)


@oracle(shortened)
def put_back(x, mask_token, restore, places):
    images = []
    for tokens, row in zip(x, restore.tolist(), strict=True):
        own = [tokens[at] if at < len(tokens) else mask_token[0, 0] for at in row]
        images.append(torch.stack([token + places[0, n] for n, token in enumerate(own)]))
    return torch.stack(images)


def predictions():
    for (B, N, K), M in zip(MASKS, (3, 2, 4, 1, 4, 5), strict=True):
        yield 2 * torch.randn(B, N, M), torch.randn(B, N, M) + 1, shuffled(B, N) >= K
    yield torch.randn(2, 5, 3), torch.randn(2, 5, 3), shuffled(2, 5) >= torch.tensor([[1], [4]])


def mean_square(predicted, targets, hidden):
    parts = [(p - t) ** 2 for p, t in zip(predicted[hidden].flatten(), targets[hidden].flatten(), strict=True)]
    return torch.stack(parts).double().mean()


@safely
def hidden_loss(answer):
    """Right in number, with the gradient that belongs to it."""
    (predicted, targets, hidden), leaf = list(predictions())[1], torch.randn(2, 6, 2, requires_grad=True)
    answer(leaf + predicted, targets, hidden).backward()
    expected = 2 * (leaf.detach() + predicted - targets) * hidden[:, :, None] / (hidden.sum() * 2)
    return agrees(answer, mean_square, predictions) and torch.allclose(leaf.grad, expected, 1e-4, 1e-4)


def patches():
    for B, N, M in SIZES:
        yield (3 * torch.randn(B, N, M) + torch.randn(B, N, 1),)
        yield (1e-3 * torch.randn(B, N, M),)
        yield (torch.full((B, N, M), 0.25),)


@oracle(patches)
def normalised_patches(patches):
    rows = []
    for patch in patches.double().flatten(0, 1).tolist():
        mean = sum(patch) / len(patch)
        variance = sum((a - mean) ** 2 for a in patch) / (len(patch) - 1)
        rows.append([(a - mean) / math.sqrt(variance + 1e-6) for a in patch])
    return torch.tensor(rows).reshape(patches.shape)


MOMENTA = [0.9, 0.0, 1.0, 0.5, 0.3, 0.996]


@oracle(lambda: [(*2 * torch.randn(2, K), m) for K, m in zip((1, 3, 4, 2, 6, 5), MOMENTA, strict=True)])
def teacher_average(teacher, student, momentum):
    pairs = zip(teacher.tolist(), student.tolist(), strict=True)
    return torch.tensor([momentum * t + (1 - momentum) * s for t, s in pairs])


def answered():
    for (B, _, K), momentum, temperature in zip(SIZES, MOMENTA, (0.3, 0.2, 1.5, 0.1, 0.5, 0.04), strict=True):
        yield 2 * torch.rand(B, K) - 1, torch.rand(K) - 0.5, temperature, momentum
    yield 2 * torch.rand(3, 1) - 1, torch.rand(1), 0.2, 0.9


@oracle(answered, tuple)
def centred_target(answers, centre, temperature, momentum):
    target, (B, K) = torch.zeros(answers.shape), answers.shape
    for b in range(B):
        powers = [math.exp((answers[b, k].item() - centre[k].item()) / temperature) for k in range(K)]
        target[b] = torch.tensor([power / sum(powers) for power in powers])
    means = [sum(answers[b, k].item() for b in range(B)) / B for k in range(K)]
    return target, torch.tensor(
        [momentum * c + (1 - momentum) * m for c, m in zip(centre.tolist(), means, strict=True)]
    )


def gallery():
    for M, D, Q, k, C in ((1, 2, 1, 1, 1), (8, 3, 6, 2, 3), (9, 4, 5, 4, 2), (7, 5, 3, 7, 4), (15, 3, 9, 6, 3)):
        lengths = torch.tensor([4.0**n for n in torch.randint(-2, 3, (M,))])
        yield lengths[:, None] * torch.randn(M, D), torch.randint(C, (M,)), 3 * torch.randn(Q, D), k, C


@oracle(gallery, lambda labels: labels.double())  # whole numbers of any kind
def nearest_labels(features, labels, queries, k, num_classes):
    found = []
    for query in queries.double():
        cosines = [float(query @ f / query.norm() / f.norm()) for f in features.double()]
        nearest = sorted(range(len(cosines)), key=cosines.__getitem__)[-k:]
        votes = [sum(labels[m] == c for m in nearest) for c in range(num_classes)]
        found.append(votes.index(max(votes)))
    return torch.tensor(found)
