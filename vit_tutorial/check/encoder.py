"""Checks of notebook 04, the encoder block."""

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import EncoderBlock
from .verdict import Wrong, attempted, call, describe, exercise, expect_tensor, number, same

__all__ = [
    "layer_norm",
    "tokens_changed",
    "pre_norm_block",
    "drop_path",
    "repaired_block",
    "collapse_depths",
    "layer_scale",
]
SIZES = ((2, 5, 12), (1, 3, 8), (3, 4, 6))  # (B, N, D)


@exercise
def layer_norm(function):
    """`function(x, gamma, beta, eps)` normalises tokens `(B, N, D)`."""
    eps = 0.3  # large, so that its place shows
    for B, N, D in SIZES:
        x, gamma, beta = 2 * torch.randn(B, N, D) + 1, torch.rand(D) + 0.5, torch.randn(D)
        centred = x - x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, correction=0)
        unit = centred / (variance + eps).sqrt()

        def over(*axes, x=x, gamma=gamma, beta=beta):
            mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
            return gamma * (x - mean) / (variance + eps).sqrt() + beta

        unbiased = gamma * centred / (x.var(-1, keepdim=True) + eps).sqrt() + beta
        root = (variance + eps).sqrt()
        why_axis = "Each token has its own mean and variance, over its D numbers (axis -1); you took them over "
        why_affine = "Gamma multiplies the normalised token, beta is added after that: "
        mistakes = (
            ("norm over the tokens", over(1), f"{why_axis}the tokens (axis 1)."),
            ("norm over the batch", over(0), f"{why_axis}the images (axis 0)."),
            ("norm over tokens and numbers", over(1, 2), f"{why_axis}a whole image."),
            ("batch norm", over(0, 1), f"{why_axis}all images and tokens, which is BatchNorm."),
            (
                "unbiased variance",
                unbiased,
                "You divided by D - 1, var's default; LayerNorm divides by D: correction=0.",
            ),
            (
                "eps missing",
                gamma * centred / variance.sqrt() + beta,
                "Without eps a token of equal numbers becomes nan.",
            ),
            ("eps outside the root", gamma * centred / (variance.sqrt() + eps) + beta, "Eps belongs inside the root."),
            (
                "divided by the variance",
                gamma * centred / (variance + eps) + beta,
                "Divide by the root of the variance.",
            ),
            ("mean not subtracted", gamma * x / root + beta, "The mean is still there: subtract it first."),
            ("gamma and beta missing", unit, f"{why_affine}both are missing."),
            ("beta missing", gamma * unit, f"{why_affine}beta is missing."),
            ("gamma missing", unit + beta, f"{why_affine}gamma is missing."),
            ("gamma and beta swapped", beta * unit + gamma, f"{why_affine}you swapped them."),
            ("gamma after beta", gamma * (unit + beta), f"{why_affine}you added beta first."),
        )
        found = call(function, x, gamma, beta, eps)
        expect_tensor(found, F.layer_norm(x, (D,), gamma, beta, eps), mistakes, what="the normalised tokens")
    return "Each token has its own mean and variance, whatever stands beside it."


@exercise
def tokens_changed(answer):
    """Of 64 tokens one is changed: how many outputs change after LayerNorm, MLP, attention and the block."""
    parts = ("LayerNorm", "the MLP", "attention", "the block")
    if not isinstance(answer, (tuple, list, torch.Tensor)) or len(answer) != len(parts):
        raise Wrong(f"Expected four numbers ({', '.join(parts)}), found {describe(answer)}.", "not four numbers")
    attempted(tuple(answer))
    mistakes = (
        (
            "norm mixes tokens",
            "LayerNorm sees one token at a time: no other token feels the change (BatchNorm's would).",
        ),
        (
            "MLP mixes tokens",
            "The MLP sees one token at a time, all with the same weights: no other token feels the change.",
        ),
        ("attention alone", "In attention every token takes a share of every other, so that all feel the change."),
        ("block keeps tokens apart", "There is attention inside the block: every token takes a share of every other."),
    )
    for part, found, right, (mistake, why) in zip(parts, answer, (1, 1, 64, 64), mistakes, strict=True):
        if found == 63:
            raise Wrong(f"After {part} the changed token itself counts too.", "changed token not counted")
        if found not in (1, 64):
            raise Wrong(f"After {part}: expected a number from 1 to 64 that follows from its sums, found {found!r}.")
        if found != right:
            raise Wrong(why, mistake)
    return "Attention is the only part in which tokens meet; all else works on each token alone."


@exercise
def drop_path(function):
    """`function(x, rate, training)` leaves out whole images `(B, N, D)` of a branch."""
    B, rate = 4000, 0.2
    x = torch.rand(B, 3, 2) + 1  # never 0
    expect_tensor(call(function, x, 0.0, True), x, what="the branch at rate 0")
    if not same(call(function, x, rate, False), x):
        raise Wrong(
            "With training=False the branch must come out as it went in: nothing dropped, nothing rescaled.",
            "drop path in eval",
        )
    found = call(function, x, rate, True)
    if not isinstance(found, torch.Tensor) or found.shape != x.shape:
        raise Wrong(f"Expected a tensor of shape {tuple(x.shape)}, found {describe(found)}.", "wrong shape")
    kept = found != 0
    images = kept.flatten(1).any(1)
    if not torch.equal(kept, images[:, None, None].expand_as(kept)):
        raise Wrong(
            "Some images lost a part of their branch: draw one number an image, of shape (B, 1, 1), and keep "
            "or drop all of its tokens together.",
            "decision not per image",
        )
    if images.all() or not images.any():
        fate = "kept" if images.all() else "dropped"
        raise Wrong(
            f"All {B} images were {fate} together: draw one number an image, of shape (B, 1, 1).",
            "one decision for the batch",
        )
    share = images.float().mean().item()
    if abs(share - rate) < 0.05:
        raise Wrong(
            f"Of {B} images {share:.0%} kept the branch at rate {rate}: the rate is the share that is dropped.",
            "kept and dropped swapped",
        )
    if abs(share - (1 - rate)) > 0.05:
        raise Wrong(
            f"Expected {1 - rate:.0%} of the images to keep the branch at rate {rate}, found {share:.0%}.",
            "wrong share",
        )
    mistakes = (
        (
            "drop path without rescaling",
            x,
            "The branches that stay are not rescaled, so that the mean falls: divide by 1 - rate.",
        ),
        ("divided by the rate", x / rate, "You divided by the rate: divide by the probability of staying, 1 - rate."),
        (
            "multiplied, not divided",
            x * (1 - rate),
            "You multiplied by 1 - rate: divide by it, for the few that stay stand in for the dropped ones.",
        ),
    )
    mistakes = [(name, value[images], why) for name, value, why in mistakes]
    expect_tensor(found[images], (x / (1 - rate))[images], mistakes, what="a branch that stays")
    return "Whole images lose the branch, as many as the rate says, and the mean of the branch stays where it was."


def wake(block):
    """Give a block weights under which each part matters: norms that differ, branches as loud as the tokens."""
    with torch.no_grad():
        for parameter in block.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
            else:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return block


def chain(x, wire, *branches):
    """Tokens `(B, N, D)` through one branch after another, each joined to the stream as `wire(x, *branch)` does it."""
    for branch in branches:
        x = wire(x, *branch)
    return x


def pre_norm(x, norm, part):
    return x + part(norm(x))


def wrong_blocks(x, norm1, attn, norm2, mlp):
    """What wrongly wired blocks make of tokens `(B, N, D)`: `(mistake, value, why)`."""
    first, second, identity = (norm1, attn), (norm2, mlp), nn.Identity()
    y = pre_norm(x, *first)
    post_norm = chain(x, lambda x, norm, part: norm(x + part(x)), first, second)
    from_norm = chain(x, lambda x, norm, part: norm(x) + part(norm(x)), first, second)
    no_residual = chain(x, lambda x, norm, part: part(norm(x)), first, second)
    norm_last = chain(x, lambda x, norm, part: x + norm(part(x)), first, second)
    why_from_norm = "The residual starts at the normed tokens: norm a copy for the branch, add the branch to x itself."
    why_residual = "The residual is missing: add the branch to x instead of replacing x by it."
    why_shared = "One norm serves both branches: the second has its own, norm2."
    why_norm = "A norm is missing: each branch reads a normed copy of the stream."
    return (
        ("post-norm", post_norm, "That is post-norm, a norm on the stream after each sum: norm what the branch reads."),
        ("residual from the normed input", from_norm, why_from_norm),
        ("residual from the normed input", pre_norm(norm1(x) + attn(norm1(x)), *second), why_from_norm),
        ("residual from the normed input", norm2(y) + mlp(norm2(y)), why_from_norm),
        ("residual missing", no_residual, why_residual),
        ("residual missing", pre_norm(attn(norm1(x)), *second), why_residual),
        ("residual missing", mlp(norm2(y)), why_residual),
        ("one norm shared", chain(x, pre_norm, first, (norm1, mlp)), why_shared),
        ("one norm shared", chain(x, pre_norm, (norm2, attn), second), why_shared),
        ("norms swapped", chain(x, pre_norm, (norm2, attn), (norm1, mlp)), "The norms are swapped: norm1 comes first."),
        ("norm missing", chain(x, pre_norm, (identity, attn), (identity, mlp)), why_norm),
        ("norm missing", chain(x, pre_norm, first, (identity, mlp)), why_norm),
        ("norm missing", chain(x, pre_norm, (identity, attn), second), why_norm),
        ("norm after the branch", norm_last, "The norms stand behind the branches: put each in front of its branch."),
        (
            "branches in parallel",
            y + mlp(norm2(x)),
            "Both branches read the same x: the MLP reads what attention left.",
        ),
        (
            "first branch lost",
            x + mlp(norm2(y)),
            "The second sum starts at the block's input: start at attention's sum.",
        ),
        ("MLP first", chain(x, pre_norm, second, first), "The MLP comes first: attention, then MLP."),
    )


@exercise
def pre_norm_block(function):
    """`function(x, norm1, attn, norm2, mlp)` is the forward pass of a pre-norm block."""
    for B, N, D in SIZES:
        block = wake(EncoderBlock(D, 2))
        parts = (block.norm1, block.attn, block.norm2, block.mlp)
        x = 2 * torch.randn(B, N, D) + 1
        expected, mistakes = block(x), wrong_blocks(x, *parts)
        expect_tensor(call(function, x, *parts), expected, mistakes, what="the tokens after the block")
    return "The stream runs through untouched, and each branch reads a normed copy of it."


@exercise
def repaired_block(cls):
    """The class `RepairedBlock(embed_dim, num_heads)`, with both of its faults mended."""
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise Wrong(f"Expected a class that derives from nn.Module, found {describe(cls)}.", "not a module class")
    B, N, D = SIZES[0]
    x = 2 * torch.randn(B, N, D) + 1
    block = wake(cls(D, 2)).eval()
    once, again = call(block.forward, x), call(block.forward, x)
    if not isinstance(once, torch.Tensor):
        raise Wrong(f"Expected forward to return a tensor, found {describe(once)}.", "not a tensor")
    if not same(once, again):
        raise Wrong(
            "In eval mode two passes over the same tokens differ: dropout is still at work. F.dropout drops "
            "unless it is told training=False; pass training=self.training.",
            "dropout in eval",
        )
    parts = (block.norm1, block.attn, block.norm2, block.mlp)
    y = x + block.attn(block.norm1(x))
    expect_tensor(once, y + block.mlp(block.norm2(y)), wrong_blocks(x, *parts), what="the tokens after the block")
    block.train()
    if same(call(block.forward, x), call(block.forward, x)):
        raise Wrong(
            "In train mode nothing is dropped any more: keep dropout, and switch it off in eval mode alone.",
            "dropout removed",
        )
    return "The stream is free of norms, and dropout works in training alone."


@exercise
def collapse_depths(answer):
    """Blocks without residuals until the tokens differ by less than 1e-6, for weights times 1, 2 and 3."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong(
            f"Expected three depths, for weights times 1, 2 and 3, found {describe(answer)}.", "not three depths"
        )
    attempted(tuple(answer))
    depths = [number(value, "each depth") for value in answer]
    if not all(depth == int(depth) for depth in depths):
        raise Wrong(f"Expected three whole numbers of blocks, found {describe(answer)}.", "not three depths")
    one, two, three = depths = [int(depth) for depth in depths]
    if one > three:
        raise Wrong(
            "Expected the collapse to come later with larger weights, found it earlier. Are the three in the "
            "order 1, 2, 3?",
            "wrong order",
        )
    if 24 in depths or 25 in depths:
        raise Wrong(
            "You found a depth at the far end of the stack: count the blocks until the difference falls below "
            "1e-6 for the first time.",
            "last instead of first",
        )
    if one == two == three:
        raise Wrong(
            "Expected three different stacks, found one depth three times. Is the weight scale handed on to measure?",
            "scale not used",
        )
    if not (1 <= one <= two <= three <= 12):
        raise Wrong(f"Expected depths between 1 and 12 that grow with the weights, found {depths}.")
    return "Larger weights make attention pick instead of average, which delays the collapse by a few blocks, no more."


def layer_scaled(x, norm, part, gamma):
    return x + gamma * part(norm(x))


@exercise
def layer_scale(function):
    """`function(x, norm1, attn, gamma1, norm2, mlp, gamma2)`: a pre-norm block with LayerScale."""
    for B, N, D in SIZES:
        block = wake(EncoderBlock(D, 2))
        x, gamma1, gamma2, off = 2 * torch.randn(B, N, D) + 1, torch.rand(D) + 0.2, torch.rand(D) - 1.5, torch.zeros(D)
        first, second = (block.norm1, block.attn, gamma1), (block.norm2, block.mlp, gamma2)
        whole = chain(x, lambda x, norm, part, gamma: gamma * (x + part(norm(x))), first, second)
        stream = chain(x, lambda x, norm, part, gamma: gamma * x + part(norm(x)), first, second)
        before = chain(x, lambda x, norm, part, gamma: x + part(gamma * norm(x)), first, second)
        shared = chain(x, layer_scaled, first, (*second[:2], gamma1))
        swapped = chain(x, layer_scaled, (*first[:2], gamma2), (*second[:2], gamma1))
        why_stream = "Gamma scales the stream: it belongs to the branch alone, or the highway fades block by block."
        why_missing = "A gamma is not used: each branch is multiplied by its own."
        mistakes = (
            ("stream scaled", whole, why_stream),
            ("stream scaled", stream, why_stream),
            ("scaled before the branch", before, "Gamma stands before the branch: scale what comes out of it."),
            ("one gamma shared", shared, "The MLP's branch has a gamma of its own, gamma2."),
            ("gammas swapped", swapped, "The gammas are swapped: gamma1 belongs to attention."),
            ("gamma missing", chain(x, pre_norm, first[:2], second[:2]), why_missing),
            ("gamma missing", pre_norm(layer_scaled(x, *first), *second[:2]), why_missing),
            ("gamma missing", layer_scaled(pre_norm(x, *first[:2]), *second), why_missing),
        )
        expected = chain(x, layer_scaled, first, second)
        expect_tensor(call(function, x, *first, *second), expected, mistakes, what="the tokens after the block")
        expect_tensor(call(function, x, *first[:2], off, *second[:2], off), x, what="the tokens at gamma = 0")
    return "With gamma at 0 the block hands its input on unchanged; training turns each branch up as it needs it."
