"""Exercises 13.1, 13.3 to 13.5 and 13.7 to 13.9."""

import math

import torch
from torch import nn

from . import oracle, shaken

PAIRS = [(1, 2), (2, 4), (3, 6), (5, 8), (4, 4), (7, 10), (1, 12)]  # N, d
HEADS = [(1, 1, 2), (3, 2, 4), (5, 4, 6), (4, 4, 4), (8, 3, 2), (6, 1, 8), (12, 9, 10)]  # N, P, d
GRIDS = [(1, 1, 4, 100.0), (2, 3, 8, 50.0), (3, 2, 12, 10000.0), (1, 6, 16, 7.0), (5, 1, 4, 3.0), (4, 4, 24, 300.0)]
SIZES = [(1, 1, 2), (2, 3, 4), (3, 5, 2), (1, 6, 5), (4, 4, 4), (2, 1, 7)]  # B, N or P, D


def turned(vector, angles):
    """One vector, pair by pair."""
    half, found = len(angles), vector.double().clone()
    for i, angle in enumerate(angles.tolist()):
        a, b = vector[i].item(), vector[i + half].item()
        found[i] = a * math.cos(angle) - b * math.sin(angle)
        found[i + half] = a * math.sin(angle) + b * math.cos(angle)
    return found


@oracle(lambda: [(3 * torch.randn(N, d), 4 * torch.randn(N, d // 2)) for N, d in PAIRS])
def rotary_turn(x, angles):
    return torch.stack([turned(vector, row) for vector, row in zip(x, angles, strict=True)])


@oracle(lambda: GRIDS)
def grid_angles(rows, columns, d, temperature):
    table = torch.zeros(rows * columns, d // 2, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            for i in range(d // 4):
                frequency = temperature ** (-4 * i / d)
                table[y * columns + x, i], table[y * columns + x, d // 4 + i] = y * frequency, x * frequency
    return table


@oracle(lambda: [(*2 * torch.randn(3, N, d), 3 * torch.randn(P, d // 2)) for N, P, d in HEADS])
def repaired_rotary(q, k, v, angles):
    (N, d), first = q.shape, len(q) - len(angles)
    q, k = ([x[n].double() if n < first else turned(x[n], angles[n - first]) for n in range(N)] for x in (q, k))
    out = torch.zeros(N, d, dtype=torch.float64)
    for n in range(N):
        weights = torch.tensor([math.exp(float(q[n] @ k[m]) / d**0.5) for m in range(N)], dtype=torch.float64)
        for m in range(N):
            out[n] += weights[m] / weights.sum() * v[m]
    return out


def spread():
    """Tokens of usual size, some so small that eps counts, and zeros, with any number of axes in front."""
    for shape in [*SIZES, (4,), (6, 3), (2, 3, 2, 4)]:
        for x, eps in (
            (3 * torch.randn(shape) + 2, 1e-6),
            (1e-3 * torch.randn(shape), 1e-6),
            (torch.randn(shape), 0.1),
        ):
            yield x, torch.randn(shape[-1]), eps
        yield torch.zeros(shape), torch.randn(shape[-1]), 1e-3


@oracle(spread)
def rms_norm(x, weight, eps):
    rows = []
    for token in x.double().reshape(-1, x.shape[-1]):
        size = math.sqrt(sum(a * a for a in token.tolist()) / len(token) + eps)
        rows.append(token / size * weight)
    return torch.stack(rows).reshape(x.shape)


def layers():
    for (B, N, D), hidden in zip(SIZES, (3, 6, 2, 5, 4, 1), strict=True):
        yield torch.randn(B, N, D), *(shaken(nn.Linear(*sizes)) for sizes in ((D, hidden), (D, hidden), (hidden, D)))


@oracle(layers)
@torch.no_grad()
def swiglu(x, fc1_g, fc1_x, fc2):
    found = []
    for token in x.flatten(0, 1):
        gate = torch.tensor([g / (1 + math.exp(-g)) for g in fc1_g(token).tolist()])
        found.append(fc2(gate * fc1_x(token)))
    return torch.stack(found).reshape(x.shape)


class Mixing(nn.Module):
    """A block to which the order of the tokens matters."""

    def __init__(self, D):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(D, D), requires_grad=False)

    def forward(self, x):
        return torch.tanh(x @ self.weight) + (x.cumsum(1) + 0.5 * x.flip(1)) / x.shape[1]


def streams():
    for (B, P, D), R, L in zip(SIZES, (1, 2, 4, 1, 4, 3), (1, 2, 3, 2, 2, 4), strict=True):
        yield torch.randn(B, 1, D), torch.randn(R, D), torch.randn(B, P, D), [Mixing(D) for _ in range(L)]


@oracle(streams, lambda pair: tuple(pair))
def with_registers(cls_token, registers, patches, blocks):
    first, others = [], []
    for cls, own in zip(cls_token, patches, strict=True):
        x = torch.stack([cls[0], *registers, *own])[None]
        for block in blocks:
            x = block(x)
        first.append(x[0, 0])
        others.append(torch.stack([x[0, 1 + len(registers) + n] for n in range(len(own))]))
    return torch.stack(first), torch.stack(others)


@oracle(lambda: [(1, 1), (2, 4), (3, 2), (4, 4), (7, 14), (14, 7), (32, 8)])
def squeezed_places(count, trained):
    return torch.tensor([trained * (2 * i + 1) / (2 * count) - 0.5 for i in range(count)])
