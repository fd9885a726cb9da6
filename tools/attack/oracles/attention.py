"""Exercises 3.3 and 3.5 to 3.8."""

import torch
from torch import nn

from . import oracle, shaken

SIZES = [  # B, H, N, d
    *[(1, 1, 1, 1), (2, 3, 4, 5), (1, 2, 5, 3), (3, 1, 2, 8), (2, 4, 7, 2), (3, 3, 3, 3), (2, 2, 1, 6), (1, 1, 9, 16)],
    *[(4, 2, 3, 1), (1, 6, 2, 4)],
]


def attend(q, k, v, keep):
    """Query by query, in every image and head, among the keys that are kept."""
    mixed = torch.zeros(*q.shape[:3], v.shape[3], dtype=torch.float64)
    for b, image in enumerate(q.double()):
        for h, queries in enumerate(image):
            keys, values = k[b, h, keep[b]].double(), v[b, h, keep[b]].double()
            for i, query in enumerate(queries):
                powers = torch.stack([((query * key).sum() / len(query) ** 0.5).exp() for key in keys])
                mixed[b, h, i] = sum(power / powers.sum() * value for power, value in zip(powers, values, strict=True))
    return mixed


@oracle(lambda: [(1.5 * torch.randn(size), 2 * torch.randn(size) + 0.5) for size in SIZES])
def attention_weights(q, k):
    B, H, N, d = q.shape
    return attend(q, k, torch.eye(N).repeat(B, H, 1, 1), torch.ones(B, N).bool())


@oracle(lambda: [(torch.randn(B, N, H * d), H) for B, H, N, d in SIZES])
def split_heads(x, num_heads):
    d = x.shape[2] // num_heads
    return torch.stack([x[:, :, h * d : (h + 1) * d] for h in range(num_heads)], dim=1)


@oracle(lambda: [(torch.randn(size),) for size in SIZES])
def merge_heads(x):
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=2)


def layers():
    for B, H, N, d in SIZES:
        qkv, proj = nn.Linear(H * d, 3 * H * d, bias=d != 8), nn.Linear(H * d, H * d)
        yield 1.5 * torch.randn(B, N, H * d), shaken(qkv), shaken(proj), H


@oracle(layers)
@torch.no_grad()
def repair_attention(x, qkv, proj, num_heads):
    q, k, v = (split_heads.__wrapped__(part, num_heads) for part in qkv(x).chunk(3, dim=-1))
    mixed = merge_heads.__wrapped__(attend(q, k, v, torch.ones(x.shape[:2]).bool()))
    return proj(mixed.float())


def padded():
    """Some tokens are not kept, at least one of each image is; the others are loud."""
    for n, (B, H, N, d) in enumerate([*SIZES, (5, 2, 6, 4)]):
        keep = torch.rand(B, N) < (1.0, 0.6, 0.3)[n % 3]
        keep[torch.arange(B), torch.randint(N, (B,))] = True
        q, k, v = torch.randn(3, B, H, N, d)
        loud = ~keep[:, None, :, None]
        yield q, k * (1 + 2 * loud), v * (1 + 999 * loud), keep


masked_attention = oracle(padded)(attend)
