"""Exercises 16.1 to 16.4 and 16.6 to 16.8."""

import math

import torch

from . import agrees, oracle, safely

NUMBERS = {"a": 4, "small": 9, "red": 2, "star": 7, "below": 1, "blue": 3, "ring": 5, "and": 8, "cross": 6}
SENTENCES = [
    ("a red star", 5),
    ("a small blue ring below a small red cross", 9),
    ("A Small RED star, a blue Ring, and a cross", 12),
    ("ring", 1),
    ("below", 3),
    ("star and star", 6),
]


def numbered(sentence, numbers, T):
    plain = "".join(c for c in sentence.lower() if c != ",").split(" ")
    return tuple([numbers[word] for word in plain] + [0] * (T - len(plain)))


def whole(found):
    """The list, if it can look up vectors."""
    found = found.tolist() if hasattr(found, "tolist") else found
    return tuple(found) if not torch.as_tensor(found).is_floating_point() else ()


@safely
def word_numbers(answer):
    """Right for known words, and raises something at one that is not known."""
    for sentence in ("a dog", "dog", "a red star below"):
        try:
            answer(sentence, {k: v for k, v in NUMBERS.items() if k != "red"}, 6)
        except Exception:
            continue
        return False
    return agrees(answer, numbered, lambda: [(s, NUMBERS, T) for s, T in SENTENCES], whole)


def sentences():
    for B, T, D in ((1, 4, 2), (3, 5, 4), (2, 3, 3), (4, 4, 4), (1, 1, 1), (5, 2, 6)):
        lengths = [1 + (3 * b + B) % T for b in range(B)]
        tokens = torch.tensor([[1 + (t + b) % 4 if t < n else 0 for t in range(T)] for b, n in enumerate(lengths)])
        x = torch.randn(B, T, D)
        x[0, 0, -1] = 0.0
        yield x, tokens


@oracle(sentences)
def sentence_vector(x, tokens):
    rows = []
    for vectors, row in zip(x.double().tolist(), tokens.tolist(), strict=True):
        kept = [vector for vector, token in zip(vectors, row, strict=True) if token]
        rows.append([sum(column) / len(kept) for column in zip(*kept, strict=True)])
    return torch.tensor(rows)


def pairs():
    for B, D, temperature in ((1, 3, 0.1), (3, 2, 0.5), (4, 4, 0.07), (2, 7, 3.0)):
        yield 3 * torch.randn(B, D), 0.2 * torch.randn(B, D), temperature
    yield torch.randn(3, 5).double(), torch.randn(3, 5).double(), 0.02


def cosine(a, b):
    dot = sum(p * q for p, q in zip(a, b, strict=True))
    return dot / math.sqrt(sum(p * p for p in a) * sum(q * q for q in b))


@oracle(pairs)
def similarity(images, texts, temperature):
    return torch.tensor([[cosine(i, t) / temperature for t in texts.tolist()] for i in images.tolist()])


def logits():
    yield from ((2 * torch.randn(B, B),) for B in (1, 2, 3, 7))
    yield (torch.randn(4, 4).double(),)
    yield (torch.tensor([[200.0, -250.0, 100.0], [250.0, -100.0, 0.0], [-280.0, 150.0, 240.0]]),)


def log_sum(numbers):
    most = max(numbers)
    return most + math.log(sum(math.exp(n - most) for n in numbers))


def both_ways(logits):
    rows = logits.double().tolist()
    losses = [log_sum(row) - row[i] for x in (rows, [*zip(*rows, strict=True)]) for i, row in enumerate(x)]
    return torch.tensor(sum(losses) / len(losses), dtype=torch.double)


def with_slope(answer, reference, cases):
    """Right in number, and so is the slope in each logit, as small steps show it."""
    x, *more = list(cases())[2]
    leaf = x.clone().requires_grad_()
    answer(leaf * 1, *more).backward()
    steps = torch.eye(x.numel(), dtype=torch.double).view(-1, *x.shape) * 1e-4
    slopes = [(reference(x + step, *more) - reference(x - step, *more)) / 2e-4 for step in steps]
    return agrees(answer, reference, cases) and torch.allclose(
        leaf.grad.double().flatten(), torch.stack(slopes).double(), 1e-2, 1e-3
    )


@safely
def clip_loss(answer):
    return with_slope(answer, both_ways, logits)


def each_pair(logits, bias):
    total = 0.0
    for i, row in enumerate(logits.double().tolist()):
        for j, value in enumerate(row):
            total += log_sum([0.0, -(value + bias) if i == j else value + bias])
    return torch.tensor(total / len(logits), dtype=torch.double)


def with_bias():
    for n, (x,) in enumerate(logits()):
        yield x, (-10.0, 0.7, -1.5)[n % 3]


@safely
def siglip_loss(answer):
    return with_slope(answer, each_pair, with_bias)


def seen():
    for M, K, D in ((1, 3, 2), (8, 4, 3), (5, 1, 2), (4, 4, 4), (12, 6, 5)):
        yield 4 * torch.randn(M, D), torch.randn(K, D) * torch.tensor([5.0 ** (k % 5 - 2) for k in range(K)])[:, None]
    yield torch.randn(6, 3).double(), torch.tensor([[0.1, 0, 0], [0, 40, 0], [-2.0, 0, 3]]).double()


@oracle(seen, lambda classes: classes.double())  # whole numbers of any kind
def zero_shot(image_vectors, class_vectors):
    cosines = [[cosine(image, name) for name in class_vectors.tolist()] for image in image_vectors.tolist()]
    return torch.tensor([row.index(max(row)) for row in cosines])


def ranked():
    for M, k in ((1, 1), (3, 2), (5, 5), (8, 3), (13, 1)):
        yield torch.stack([torch.randperm(M) for _ in range(M)]) - M / 2, k
    yield torch.randn(9, 9).double(), 4
    yield torch.tensor([[1.0, 2, 2], [0, 3, 0], [5, 5, 4]]), 2


@oracle(ranked)
def recall(similarity, k):
    rows = similarity.tolist()
    return sum(sum(other > row[i] for other in row) < k for i, row in enumerate(rows)) / len(rows)
