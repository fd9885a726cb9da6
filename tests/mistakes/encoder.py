"""Checks of notebook 04: right answers in several styles pass, planted mistakes get their names, nothing raises."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import MLP, DropPath, EncoderBlock, MultiHeadAttention


def norm_by_hand(x, gamma, beta, eps):
    x = x - x.mean(dim=-1, keepdim=True)
    return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + eps) * gamma + beta


def norm_in_place(x, gamma, beta, eps):
    x -= x.mean(2)[..., None]
    x *= torch.rsqrt(x.var(2, unbiased=False)[..., None] + eps)
    return x.mul_(gamma).add_(beta)


def norm(axes=-1, correction=0, power=0.5, inside=True, use_eps=True, centre=True, affine="x * gamma + beta"):
    """A LayerNorm, right with the defaults, wrong with another."""

    def function(x, gamma, beta, eps):
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=correction, keepdim=True)
        eps = eps if use_eps else 0.0
        root = (variance + eps) ** power if inside else variance**power + eps
        x = (x - mean if centre else x) / root
        return eval(affine, {"x": x, "gamma": gamma, "beta": beta})

    return function


def drop(share="1 - rate", divisor="1 - rate", shape="(len(x), 1, 1)", always=False):
    """A drop path, right with the defaults, wrong with another."""

    def function(x, rate, training):
        if not (training or always) or rate == 0:
            return x
        names = {"rate": rate, "x": x, "len": len}
        keep = torch.rand(eval(shape, names)) < eval(share, names)
        return x * keep / eval(divisor, names)

    return function


def drop_with_bernoulli(x, rate, training):
    return x * torch.empty(x.shape[0], 1, 1).bernoulli_(1 - rate) / (1 - rate) if training else x


def drop_by_loop(x, rate, training):
    return torch.stack([image * (torch.rand(()).item() > rate) / (1 - rate) for image in x]) if training else x


def wiring(first, second=None):
    """`function(x, norm1, attn, norm2, mlp)` whose two steps are written as text in x (the stream), b, norm, part."""

    def function(x, norm1, attn, norm2, mlp):
        names = {"b": x, "norm1": norm1, "norm2": norm2, "attn": attn, "mlp": mlp}
        x = eval(first, {**names, "x": x, "norm": norm1, "part": attn})
        return eval(second or first, {**names, "x": x, "norm": norm2, "part": mlp})

    return function


def residual_by_hand(x, norm1, attn, norm2, mlp):
    skip = x
    x = attn(norm1(x))
    x = skip + x
    return mlp(norm2(x)).add(x)


def block(forward, drop_rate=0.1, always=False, use_module=False):
    """A block class for the repair: `forward` as for `wiring`, with dropout on both branches."""

    class Block(nn.Module):
        def __init__(self, embed_dim, num_heads):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
            self.attn, self.mlp = MultiHeadAttention(embed_dim, num_heads), MLP(embed_dim, 4 * embed_dim)
            self.drop = nn.Dropout(drop_rate)

        def forward(self, x):
            def noisy(part):
                if use_module:
                    return lambda x: self.drop(part(x))
                return lambda x: F.dropout(part(x), drop_rate, training=always or self.training)

            return forward(x, self.norm1, noisy(self.attn), self.norm2, noisy(self.mlp))

    return Block


def scaled(step, gammas=("gamma1", "gamma2")):
    """`function(x, norm1, attn, gamma1, norm2, mlp, gamma2)` whose step is written as text in x, norm, part, gamma."""

    def function(x, norm1, attn, gamma1, norm2, mlp, gamma2):
        names = {"gamma1": gamma1, "gamma2": gamma2}
        for norm, part, name in ((norm1, attn, gammas[0]), (norm2, mlp, gammas[1])):
            x = eval(step, {"x": x, "norm": norm, "part": part, "gamma": names.get(name, 1.0)})
        return x

    return function


def scaled_by_diagonal(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = attn(norm1(x)) @ torch.diag(gamma1) + x
    return mlp(norm2(x)) @ gamma2.diag() + x


PRE_NORM, POST_NORM = "x + part(norm(x))", "norm(x + part(x))"


def block_by_loop(x, norm1, attn, norm2, mlp):
    for norm, part in ((norm1, attn), (norm2, mlp)):
        x = torch.add(x, part(norm(x)))
    return x


def scaled_by_loop(x, *parts):
    for norm, part, gamma in (parts[:3], parts[3:]):
        x = torch.addcmul(x, gamma, part(norm(x)))
    return x


class BlockOfPackage(EncoderBlock):
    """Dropout on attention's branch and inside the MLP."""

    def __init__(self, embed_dim, num_heads):
        super().__init__(embed_dim, num_heads, dropout=0.1)


RIGHT = [
    ("layer_norm", norm()),
    ("layer_norm", norm_by_hand),
    ("layer_norm", norm_in_place),
    ("layer_norm", lambda x, gamma, beta, eps: F.layer_norm(x, x.shape[-1:], gamma, beta, eps)),
    ("tokens_changed", (1, 1, 64, 64)),
    ("tokens_changed", [1, 1.0, 64, 64]),
    ("tokens_changed", torch.tensor([1, 1, 64, 64])),
    ("drop_path", drop()),
    ("drop_path", drop_with_bernoulli),
    ("drop_path", drop_by_loop),
    ("drop_path", lambda x, rate, training: DropPath(rate).train(training)(x)),
    ("pre_norm_block", wiring(PRE_NORM)),
    ("pre_norm_block", residual_by_hand),
    ("pre_norm_block", block_by_loop),
    ("repaired_block", block(wiring(PRE_NORM))),
    ("repaired_block", block(residual_by_hand, use_module=True)),
    ("repaired_block", BlockOfPackage),
    ("collapse_depths", (3, 4, 6)),
    ("collapse_depths", [torch.tensor(3), 5, 5]),
    ("collapse_depths", np.array([3, 4, 5]).tolist()),
    ("layer_scale", scaled("x + gamma * part(norm(x))")),
    ("layer_scale", scaled_by_diagonal),
    ("layer_scale", scaled_by_loop),
]
WRONG = [
    ("layer_norm", norm(axes=1), "norm over the tokens"),
    ("layer_norm", norm(axes=0), "norm over the batch"),
    ("layer_norm", norm(axes=(1, 2)), "norm over tokens and numbers"),
    ("layer_norm", norm(axes=(0, 1)), "batch norm"),
    ("layer_norm", norm(correction=1), "unbiased variance"),
    ("layer_norm", norm(use_eps=False), "eps missing"),
    ("layer_norm", norm(inside=False), "eps outside the root"),
    ("layer_norm", norm(power=1), "divided by the variance"),
    ("layer_norm", norm(centre=False), "mean not subtracted"),
    ("layer_norm", norm(affine="x"), "gamma and beta missing"),
    ("layer_norm", norm(affine="x * gamma"), "beta missing"),
    ("layer_norm", norm(affine="x + beta"), "gamma missing"),
    ("layer_norm", norm(affine="x * beta + gamma"), "gamma and beta swapped"),
    ("layer_norm", norm(affine="(x + beta) * gamma"), "gamma after beta"),
    ("tokens_changed", (64, 1, 64, 64), "norm mixes tokens"),
    ("tokens_changed", (1, 64, 64, 64), "MLP mixes tokens"),
    ("tokens_changed", (1, 1, 1, 1), "attention alone"),
    ("tokens_changed", (1, 1, 64, 1), "block keeps tokens apart"),
    ("tokens_changed", (1, 1, 63, 64), "changed token not counted"),
    ("tokens_changed", (1, 64), "not four numbers"),
    ("drop_path", drop(always=True), "drop path in eval"),
    ("drop_path", drop(divisor="1"), "drop path without rescaling"),
    ("drop_path", drop(divisor="rate"), "divided by the rate"),
    ("drop_path", drop(divisor="1 / (1 - rate)"), "multiplied, not divided"),
    ("drop_path", drop(share="rate"), "kept and dropped swapped"),
    ("drop_path", drop(share="0.5"), "wrong share"),
    ("drop_path", drop(shape="(1, 1, 1)"), "one decision for the batch"),
    ("drop_path", drop(shape="(len(x), x.shape[1], 1)"), "decision not per image"),
    ("drop_path", drop(shape="x.shape"), "decision not per image"),
    ("pre_norm_block", wiring(POST_NORM), "post-norm"),
    ("pre_norm_block", wiring("norm(x) + part(norm(x))"), "residual from the normed input"),
    ("pre_norm_block", wiring("norm(x) + part(norm(x))", PRE_NORM), "residual from the normed input"),
    ("pre_norm_block", wiring(PRE_NORM, "norm(x) + part(norm(x))"), "residual from the normed input"),
    ("pre_norm_block", wiring("part(norm(x))"), "residual missing"),
    ("pre_norm_block", wiring("part(norm(x))", PRE_NORM), "residual missing"),
    ("pre_norm_block", wiring(PRE_NORM, "part(norm(x))"), "residual missing"),
    ("pre_norm_block", wiring("x + part(norm1(x))"), "one norm shared"),
    ("pre_norm_block", wiring("x + part(norm2(x))"), "one norm shared"),
    ("pre_norm_block", wiring("x + attn(norm2(x))", "x + mlp(norm1(x))"), "norms swapped"),
    ("pre_norm_block", wiring("x + part(x)"), "norm missing"),
    ("pre_norm_block", wiring("x + part(x)", PRE_NORM), "norm missing"),
    ("pre_norm_block", wiring("x + norm(part(x))"), "norm after the branch"),
    ("pre_norm_block", wiring(PRE_NORM, "x + part(norm(b))"), "branches in parallel"),
    ("pre_norm_block", wiring(PRE_NORM, "b + part(norm(x))"), "first branch lost"),
    ("pre_norm_block", wiring("x + mlp(norm2(x))", "x + attn(norm1(x))"), "MLP first"),
    ("repaired_block", block(wiring(PRE_NORM), always=True), "dropout in eval"),
    ("repaired_block", block(wiring(PRE_NORM), drop_rate=0.0), "dropout removed"),
    ("repaired_block", block(wiring("norm(x) + part(norm(x))")), "residual from the normed input"),
    ("repaired_block", block(wiring(POST_NORM)), "post-norm"),
    ("repaired_block", wiring(PRE_NORM), "not a module class"),
    ("repaired_block", int, "not a module class"),
    ("collapse_depths", (6, 4, 3), "wrong order"),
    ("collapse_depths", (24, 24, 24), "last instead of first"),
    ("collapse_depths", (3, 3, 3), "scale not used"),
    ("collapse_depths", 4, "not three depths"),
    ("collapse_depths", (1e-7, 2e-7, 3e-7), "not three depths"),
    ("layer_scale", scaled("gamma * (x + part(norm(x)))"), "stream scaled"),
    ("layer_scale", scaled("gamma * x + part(norm(x))"), "stream scaled"),
    ("layer_scale", scaled("x + part(gamma * norm(x))"), "scaled before the branch"),
    ("layer_scale", scaled("x + gamma * part(norm(x))", ("gamma1", "gamma1")), "one gamma shared"),
    ("layer_scale", scaled("x + gamma * part(norm(x))", ("gamma2", "gamma1")), "gammas swapped"),
    ("layer_scale", scaled("x + part(norm(x))"), "gamma missing"),
    ("layer_scale", scaled("x + gamma * part(norm(x))", ("gamma1", "1")), "gamma missing"),
    ("layer_scale", scaled("x + gamma * part(norm(x))", ("1", "gamma2")), "gamma missing"),
]
