"""Exercises 10.1, 10.3, 10.4, 10.6 and 10.7."""

import functools
import math
import tracemalloc

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import agrees, oracle, safely, shaken

ROWS = [(1, 2), (1, 5), (3, 4), (4, 17), (5, 5), (2, 9)]  # H, N
STACKS = [  # L, B, H, N, share to discard
    *[(1, 1, 1, 1, 0.5), (3, 2, 3, 5, 0.5), (2, 1, 2, 7, 0.3), (4, 3, 1, 4, 0.7), (3, 1, 4, 9, 0.25)],
    *[(2, 2, 2, 6, 0.0), (3, 2, 2, 8, 0.6), (2, 3, 5, 10, 0.75)],
]
STEPS = [(1, 1, 1), (2, 3, 4), (3, 1, 5), (1, 4, 2), (4, 4, 4), (2, 2, 7)]  # B, H, N
LENSES = [(1, 1, 1, 2, 2), (3, 2, 4, 5, 3), (2, 1, 3, 4, 7), (5, 4, 1, 6, 2), (3, 3, 3, 3, 3), (4, 5, 2, 8, 1)]
FEATURES = [(2, 3, 4), (5, 1, 1), (7, 3, 2), (4, 9, 6), (30, 2, 5), (6, 6, 6)]  # n, p, q
MANY = 400  # pictures, of which no table shall be made


def rows():
    """Rows and masses: one whose first patch holds just the mass, and others without a sum near it."""
    yield torch.tensor([[0.5, 0.25, 0.125, 0.125]]), 0.5
    for H, N in ROWS:
        for mass in (0.05, 0.5, 0.8, 0.97):
            near = torch.zeros(1)
            while near.min() < 2e-3:
                row = (2 * torch.randn(H, N) + torch.tensor([3.0] + [0.0] * (N - 1))).softmax(1)
                held = (row[:, 1:] / row[:, 1:].sum(1, keepdim=True)).sort(1, descending=True).values.cumsum(1)
                near = (held - mass).abs()
            yield row, mass


@oracle(rows, lambda mask: mask if mask.dtype == torch.bool else None)
def mass_mask(row, mass):
    mask = torch.zeros(len(row), row.shape[1] - 1, dtype=torch.bool)
    for kept, (_, *patches) in zip(mask, row.tolist(), strict=True):
        held = 0.0
        for place in sorted(range(len(patches)), key=lambda place: -patches[place]):
            kept[place] = held < mass
            held += patches[place] / sum(patches)
    return mask


def stacks():
    return [((3 * torch.randn(L, B, H, N, N)).softmax(-1), discard) for L, B, H, N, discard in STACKS]


def rolled(attention, discard, dropped):
    L, B, H, N, _ = attention.shape
    result = torch.eye(N, dtype=torch.float64).repeat(B, 1, 1)
    for layer, b in ((layer, b) for layer in range(L) for b in range(B)):
        mixing = torch.eye(N, dtype=torch.float64) / 2
        for i, row in enumerate((sum(attention[layer, b].double()) / H).tolist()):
            least = sorted(row)[dropped(discard, N)]
            kept = [weight * (weight >= least) for weight in row]
            mixing[i] += torch.tensor(kept).double() / sum(kept) / 2
        result[b] = mixing @ result[b]
    return result


DISCARDED = [  # how many weights of a row, by the conventions of quantile, topk and those who round
    *[lambda share, N: math.ceil(share * (N - 1)), lambda share, N: int(share * N), lambda share, N: round(share * N)]
]
ROLLOUTS = [functools.partial(rolled, dropped=dropped) for dropped in DISCARDED]


@safely
def repair_rollout(answer):
    return any(agrees(answer, rollout, stacks) for rollout in ROLLOUTS)


def steps():
    for B, H, N in STEPS:
        yield torch.randn(B, N, N), torch.randn(B, H, N, N).softmax(-1), 4 * torch.randn(B, H, N, N)


@oracle(steps)
def relevance_step(R, weights, gradients):
    (B, H, N, _), result = weights.shape, R.double()
    for b, i, j in torch.cartesian_prod(*map(torch.arange, (B, N, N))).tolist():
        for_it = sum(max(0.0, (weights[b, h, i, j] * gradients[b, h, i, j]).item()) for h in range(H)) / H
        result[b, i] += for_it * R[b, j]
    return result


class End(nn.Module):
    def __init__(self, D, classes):
        super().__init__()
        self.norm, self.head = nn.LayerNorm(D, eps=1e-6), nn.Linear(D, classes)


@oracle(lambda: [(shaken(End(D, C)).eval(), 3 * torch.randn(stages, B, N, D) + 1) for stages, B, N, D, C in LENSES])
@torch.no_grad()
def lens(model, tokens):
    tokens = tokens[:, :, 0].double()
    tokens = tokens - tokens.mean(-1, keepdim=True)
    tokens = tokens / (tokens.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    powers = model.double().head(tokens * model.norm.weight + model.norm.bias).exp()
    return powers / sum(powers.unbind(2))[:, :, None]


def features():
    """Two views that have something in common, far from 0; also the same twice, turned or moved."""
    for n, p, q in FEATURES:
        x = torch.randn(n, p) + 4 * torch.rand(p)
        yield x, 2 * torch.randn(n, q) + x[:, :1] - 3
    yield x, x.flip(1) + 5
    yield x, -2 * x + torch.arange(6)


def cka(x, y):
    K, L = (x @ x.T for x in (x.double() - sum(x.double()) / len(x) for x in (x, y)))
    return ((K * L).sum() / (K.square().sum() * L.square().sum()).sqrt()).item()


class Small(TorchDispatchMode):
    """Raises where a tensor is as large as a table of all pairs."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= MANY**2:
            raise MemoryError(str(function))
        return result


@safely
def linear_cka(answer):
    x, y = torch.randn(MANY, 3), torch.randn(MANY, 2)
    with Small():
        answer(x, y)  # a first call may load what it needs
    tracemalloc.start()  # sees NumPy's tables, not torch's
    try:
        answer(x, y)
        small = tracemalloc.get_traced_memory()[1] < 2 * MANY**2
    finally:
        tracemalloc.stop()
    return small and agrees(answer, cka, features)
