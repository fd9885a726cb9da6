"""Exercises 4.1, 4.3 to 4.5 and 4.7."""

import copy

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import agrees, alike, oracle, safely, shaken, state

SIZES = [(1, 1, 1), (2, 3, 4), (3, 5, 2), (1, 6, 5), (5, 4, 3), (4, 4, 4), (2, 1, 7), (2, 9, 16)]


def spread():
    """Tokens of usual size, some that are so small that eps counts, and some that are all alike."""
    for size in SIZES:
        for x, eps in ((3 * torch.randn(size) + 2, 1e-6), (1e-3 * torch.randn(size), 1e-6), (torch.randn(size), 0.1)):
            yield x, *torch.randn(2, size[-1]), eps
        yield torch.full(size, 2.0), *torch.randn(2, size[-1]), 1e-3


def normed(x, gamma, beta, eps=1e-6):
    x = x.double() - x.double().sum(-1, keepdim=True) / x.shape[-1]
    return x / ((x * x).sum(-1, keepdim=True) / x.shape[-1] + eps) ** 0.5 * gamma + beta


class Forbidding(TorchDispatchMode):
    """Raises where PyTorch's own LayerNorm is computed, whatever it is called by."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "layer_norm" not in str(function)
        return function(*args, **(kwargs or {}))


@safely
def layer_norm(answer):
    with Forbidding():
        answer(torch.randn(2, 3, 4), torch.randn(4), torch.randn(4), 1e-6)
    return agrees(answer, normed, spread)


def parts(D):
    """Four functions of tokens, none like another."""
    return [shaken(nn.Sequential(nn.Linear(D, D), nn.Sigmoid())) for _ in range(4)]


@oracle(lambda: [(torch.randn(size), *parts(size[-1])) for size in SIZES])
@torch.no_grad()
def pre_norm_block(x, norm1, attn, norm2, mlp, gamma1=1.0, gamma2=1.0):
    between = torch.stack([token + gamma1 * more for token, more in zip(x, attn(norm1(x)), strict=True)])
    return torch.stack([token + gamma2 * more for token, more in zip(between, mlp(norm2(between)), strict=True)])


def with_gammas():
    for size in SIZES:
        norm1, attn, norm2, mlp = parts(size[-1])
        gamma1, gamma2 = torch.randn(2, size[-1])
        yield torch.randn(size), norm1, attn, gamma1, norm2, mlp, gamma2 * (size[0] < 5)


@oracle(with_gammas)
def layer_scale(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    return pre_norm_block.__wrapped__(x, norm1, attn, norm2, mlp, gamma1, gamma2)


def kept(answer, x, rate):
    """Which images of x an answer keeps in training; some must be dropped or be kept as is right."""
    own = x.clone()
    found = answer(own, rate, True).detach()
    stays = torch.isclose(found.double(), x.double() / (1 - rate)).flatten(1).all(1)
    assert found.shape == x.shape and torch.equal(own, x) and (stays | (found == 0).flatten(1).all(1)).all()
    return stays


@safely
def drop_path(answer):
    for x in [torch.randn(size) + 4 for size in SIZES]:
        assert kept(answer, x, 0.0).all()
        for rate in (0.0, 0.2, 0.7):
            kept(answer, x, rate)
            own = x.clone()
            assert alike(answer(own, rate, False), x) and torch.equal(own, x)
    x = torch.randn(400, 2, 1) + 4
    for rate in (0.2, 0.7):
        first, second = kept(answer, x, rate), kept(answer, x, rate)
        for share, right in ((first, 1 - rate), (second, 1 - rate), (first == second, rate**2 + (1 - rate) ** 2)):
            assert abs(share.double().mean() - right) < 0.12
    return True


def evaluated(block, x):
    """A pre-norm block in eval mode, of the block's own parts."""
    h, attn = normed(x, block.norm1.weight, block.norm1.bias).float(), block.attn
    if isinstance(attn, nn.MultiheadAttention):
        h = h if attn.batch_first else h.transpose(0, 1)
        h = attn(h, h, h)[0] if attn.batch_first else attn(h, h, h)[0].transpose(0, 1)
    else:
        h = attn(h)
    x = x + h
    return x + block.mlp(normed(x, block.norm2.weight, block.norm2.bias).float())


def silent(block, *parts):
    """A copy of the block in which these parts give 0."""
    block = copy.deepcopy(block)
    for weight in [weight for part in parts for weight in getattr(block, part).parameters()]:
        weight.zero_()
    return block


@safely
@torch.no_grad()
def repaired_block(answer):
    for D, H, B, N in ((8, 2, 3, 5), (12, 4, 1, 1), (16, 4, 60, 8)):
        x, block = 3 * torch.randn(B, N, D), shaken(answer(D, H)).eval()
        before, right = state([block, x]), evaluated(block, x)
        assert isinstance(answer, type) and getattr(block.attn, "num_heads", H) == H
        assert all(alike(block(x), right) and alike(block(x[-1:]), right[-1:]) for _ in range(2))
        block.train()(x)
        assert all(part.training for part in block.modules()) and state([block.eval(), x]) == before
    assert alike(silent(block, "attn", "mlp").train()(x), x)  # the highway drops nothing
    with torch.enable_grad():
        block(x).square().sum().backward()  # it can be trained
        assert all(weight.grad is not None for weight in block.parameters())
    for part in ("attn", "mlp"):
        other = silent(block, part)  # the branch is dropped in part, and its mean stays
        branch, noise = other(x) - x, other.train()(x) - other.eval()(x)
        assert branch.flatten(0, 1).std(0).max() > 0.01
        mean, size = (branch * noise).sum() / branch.square().sum(), noise.square().sum() / branch.square().sum()
        assert abs(mean) < 0.06 and 0.01 < size < 1.2
    return True
