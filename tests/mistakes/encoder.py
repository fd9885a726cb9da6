"""Planted mistakes in the exercises of notebook 04."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import MLP, MultiHeadAttention


def over_root(root, mean="x.mean(-1, keepdim=True)", affine="x * gamma + beta"):
    """`function(x, gamma, beta, eps)` whose divisor, mean and last line are written as text."""

    def function(x, gamma, beta, eps):
        names = {"x": x, "gamma": gamma, "beta": beta, "eps": eps}
        x = (x - eval(mean, names)) / eval(root, names)
        return eval(affine, {**names, "x": x})

    return function


def normed_in_place(x, gamma, beta, eps):
    x -= x.mean(-1, keepdim=True)
    return gamma * x / (x.square().mean(-1, keepdim=True) + eps).sqrt() + beta


def drop(keep, factor="/ (1 - rate)"):
    """`function(x, rate, training)` whose mask and factor are written as text."""

    def function(x, rate, training):
        if not training or rate == 0:
            return x
        return eval(f"x * ({keep}) {factor}", {"x": x, "rate": rate, "B": len(x), "N": x.shape[1], "torch": torch})

    return function


def always_dropped(x, rate, training):
    return x * (torch.rand(len(x), 1, 1) >= rate) / (1 - rate)


def seeded_drop(x, rate, training):
    torch.manual_seed(0)
    return x * (torch.rand(len(x), 1, 1) >= rate) / (1 - rate) if training else x


def seeded_by_numpy(x, rate, training):
    keep = np.random.default_rng(0).random(len(x)) >= rate
    return x * torch.from_numpy(keep)[:, None, None] / (1 - rate) if training else x


def dropped_in_place(x, rate, training):
    if training:
        x *= torch.rand(len(x), 1, 1) >= rate
        x /= 1 - rate
    return x


def divided_by_what_stayed(x, rate, training):
    keep = (torch.rand(len(x), 1, 1) >= rate).float()
    return x * keep / keep.mean() if training else x


def block(first, second=None):
    """`function(x, norm1, attn, norm2, mlp)` whose two lines are written as text."""

    def function(x, norm1, attn, norm2, mlp):
        names = {"b": x, "norm1": norm1, "attn": attn, "norm2": norm2, "mlp": mlp}
        x = eval(first, {**names, "x": x})
        return eval(second, {**names, "x": x})

    return function


def summed_in_place(x, norm1, attn, norm2, mlp):
    x += attn(norm1(x))
    x += mlp(norm2(x))
    return x


class Parts(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6), nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn, self.mlp = MultiHeadAttention(embed_dim, num_heads), MLP(embed_dim, 4 * embed_dim)


def repaired(*lines, parts=Parts):
    """The class with these lines as `forward`."""

    def forward(self, x):
        def drop(x, training=None):
            return F.dropout(x, 0.1, self.training if training is None else training)

        for line in lines:
            x = eval(line, {"self": self, "x": x, "drop": drop})
        return x

    return type("RepairedBlock", (parts,), {"forward": forward})


class OtherNames(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.attention, self.mlp = MultiHeadAttention(embed_dim, num_heads), MLP(embed_dim, 4 * embed_dim)

    def forward(self, x):
        x = x + F.dropout(self.attention(self.ln1(x)), 0.1, self.training)
        return x + F.dropout(self.mlp(self.ln2(x)), 0.1, self.training)


class OneHead(Parts):
    def __init__(self, embed_dim, num_heads):
        super().__init__(embed_dim, 1)


class Seeded(Parts):
    def __init__(self, embed_dim, num_heads):
        torch.manual_seed(42)
        super().__init__(embed_dim, num_heads)


class ImagesMixed(Parts):
    """PyTorch's attention, whose first axis is that of the tokens."""

    def __init__(self, embed_dim, num_heads):
        super().__init__(embed_dim, num_heads)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads)


def scaled(first, second):
    """`function(x, norm1, attn, gamma1, norm2, mlp, gamma2)` whose two lines are written as text."""

    def function(x, norm1, attn, gamma1, norm2, mlp, gamma2):
        names = {"norm1": norm1, "attn": attn, "gamma1": gamma1, "norm2": norm2, "mlp": mlp, "gamma2": gamma2}
        return eval(second, {**names, "x": eval(first, {**names, "x": x})})

    return function


STD, ROOT = "x.std(-1, keepdim=True)", "(x.var(-1, keepdim=True, correction=0) + eps).sqrt()"
KEEP = "torch.rand(B, 1, 1) >= rate"
ATTN, MLP_LINE = "x + attn(norm1(x))", "x + mlp(norm2(x))"
ATTN_DROP, MLP_DROP = "x + drop(self.attn(self.norm1(x)))", "x + drop(self.mlp(self.norm2(x)))"
SCALED = "x + gamma2 * mlp(norm2(x))"

RIGHT = []
WRONG = [
    ("layer_norm", lambda x, gamma, beta, eps: F.layer_norm(x, gamma.shape, gamma, beta, eps), "forbidden"),
    ("layer_norm", lambda x, g, b, eps: nn.LayerNorm(len(g), eps, elementwise_affine=False)(x) * g + b, "forbidden"),
    ("layer_norm", lambda x, g, b, eps: torch.native_layer_norm(x, g.shape, g, b, eps)[0], "forbidden"),
    ("layer_norm", lambda x, g, b, eps: F.batch_norm(x.mT, None, None, g, b, True).mT, "forbidden"),
    ("layer_norm", normed_in_place, "changed in place"),
    ("layer_norm", over_root(f"{STD} + eps"), "unbiased variance + eps outside the root"),
    ("layer_norm", over_root(STD), "unbiased variance + eps missing"),
    ("layer_norm", over_root("(x.std(-1, keepdim=True) ** 2 + 1e-6) ** 0.5"), "unbiased variance + another eps"),
    ("layer_norm", over_root("(x.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()"), "another eps"),
    ("layer_norm", over_root(ROOT, "x.mean()"), "one mean for all"),
    ("layer_norm", over_root("(((x - x.mean()) ** 2).mean(-1, True) + eps).sqrt()", "x.mean()"), "one mean for all"),
    (
        "layer_norm",
        over_root("x.std() + eps", "x.mean()"),
        "one norm for all + unbiased variance + eps outside the root",
    ),
    ("layer_norm", over_root("(x.var(correction=0) + eps).sqrt()"), "one variance for all"),
    ("layer_norm", over_root("((x**2).mean(-1, keepdim=True) + eps).sqrt()"), "squares of x"),
    ("layer_norm", over_root("(((x - x.mean(-1, True)) ** 2).sum(-1, True) + eps).sqrt()"), "sum, not mean"),
    ("layer_norm", over_root(ROOT, affine="x"), "gamma missing + beta missing"),
    ("layer_norm", over_root(ROOT, affine="x * beta + gamma"), "gamma and beta swapped"),
    ("layer_norm", over_root(ROOT, affine="(x + beta) * gamma"), "gamma after beta"),
    ("layer_norm", over_root(f"{ROOT} ** 2"), "divided by the variance"),
    (
        "layer_norm",
        over_root("(x.var(1, keepdim=True, correction=0) + eps).sqrt()", "x.mean(1, keepdim=True)", "x * gamma"),
        "norm over the tokens + beta missing",
    ),
    ("layer_norm", over_root(ROOT, "x.mean(-1)"), "RuntimeError"),
    ("layer_norm", lambda x, gamma, beta, eps: x.softmax(-1), "input not used"),
    ("layer_norm", over_root("(x.var(-1, keepdim=True, correction=0) + 2 * eps).sqrt()"), None),
    (
        "tokens_changed",
        (64, 64, 1, 1),
        "norm mixes tokens + MLP mixes tokens + attention alone + block keeps tokens apart",
    ),
    ("tokens_changed", (1, 1, 63, 63), "changed token not counted"),
    ("tokens_changed", (1, 1, 1, 64), "attention alone"),
    ("tokens_changed", (1, 64), "wrong count"),
    ("drop_path", always_dropped, "drop path in eval"),
    ("drop_path", seeded_drop, "seeded"),
    ("drop_path", seeded_by_numpy, "seeded"),
    ("drop_path", dropped_in_place, "changed in place"),
    ("drop_path", drop(KEEP, ""), "drop path without rescaling"),
    ("drop_path", drop(KEEP, "/ rate"), "divided by the rate"),
    ("drop_path", drop(KEEP, "* (1 - rate)"), "multiplied, not divided"),
    ("drop_path", drop("torch.rand(B, 1, 1) < rate"), "kept and dropped swapped"),
    ("drop_path", drop("torch.rand(B, 1, 1) < rate", "/ rate"), "kept and dropped swapped + divided by the rate"),
    ("drop_path", drop("torch.rand(1) >= rate"), "one decision for the batch"),
    ("drop_path", drop("torch.rand(()) >= rate", ""), "one decision for the batch + drop path without rescaling"),
    ("drop_path", drop("torch.rand(B, N, 1) >= rate"), "decision not per image"),
    ("drop_path", drop("torch.rand_like(x) >= rate", ""), "decision not per image + drop path without rescaling"),
    ("drop_path", drop("(torch.randperm(B) >= int(rate * B))[:, None, None]"), "fixed number"),
    ("drop_path", lambda x, rate, training: F.dropout(x, rate, training), "decision not per image"),
    ("drop_path", lambda x, rate, training: x, "nothing dropped + drop path without rescaling"),
    ("drop_path", lambda x, rate, training: x.mean(), "wrong shape"),
    ("drop_path", drop("torch.rand(B, 1, 1) >= 0.5"), None),
    ("drop_path", divided_by_what_stayed, None),
    ("pre_norm_block", block("norm1(x + attn(x))", "norm2(x + mlp(x))"), "post-norm"),
    ("pre_norm_block", block(ATTN, "norm2(x + mlp(x))"), "post-norm"),
    ("pre_norm_block", block("norm1(x) + attn(norm1(x))", MLP_LINE), "residual from the normed input"),
    ("pre_norm_block", block("attn(norm1(x))", "mlp(norm2(x))"), "residual missing"),
    ("pre_norm_block", block("x + attn(norm1(x))", "x + mlp(norm1(x))"), "one norm shared"),
    ("pre_norm_block", block("x + attn(norm2(x))", "x + mlp(norm1(x))"), "norms swapped"),
    ("pre_norm_block", block("x + attn(x)", "x + mlp(x)"), "norm missing"),
    ("pre_norm_block", block("x + norm1(attn(x))", "x + norm2(mlp(x))"), "norm after the branch"),
    ("pre_norm_block", block(ATTN, "x + mlp(norm2(b))"), "branches in parallel"),
    ("pre_norm_block", block(ATTN, "b + mlp(norm2(x))"), "first branch lost"),
    ("pre_norm_block", block(MLP_LINE, ATTN), "MLP first"),
    ("pre_norm_block", block(ATTN, "x"), "branch left out"),
    ("pre_norm_block", block("attn(norm1(x))", "x + mlp(norm1(x))"), "one norm shared + residual missing"),
    ("pre_norm_block", block("norm1(x) + attn(x)", MLP_LINE), "norm missing + residual from the normed input"),
    ("pre_norm_block", summed_in_place, "changed in place"),
    ("pre_norm_block", block("x + attn(norm1(x))[0]", MLP_LINE), "only the first"),
    ("pre_norm_block", block("x + attn(norm1(x), norm1(x))", MLP_LINE), "TypeError"),
    ("pre_norm_block", block("x - attn(norm1(x))", MLP_LINE), "branch subtracted"),
    ("pre_norm_block", block("x * attn(norm1(x))", MLP_LINE), None),
    ("repaired_block", block(ATTN, MLP_LINE), "not a module class"),
    ("repaired_block", int, "not a module class"),
    ("repaired_block", OtherNames, "part missing"),
    ("repaired_block", repaired(ATTN_DROP, MLP_DROP, parts=OneHead), "num_heads not used"),
    ("repaired_block", repaired(ATTN_DROP, MLP_DROP, parts=Seeded), "seeded"),
    (
        "repaired_block",
        repaired("x + drop(self.attn(self.norm1(x), True)[0])", "(x + drop(self.mlp(self.norm2(x))),)"),
        "not a tensor",
    ),
    ("repaired_block", repaired(ATTN_DROP, "x + drop(self.mlp(self.norm2(x)), True)"), "dropout in eval"),
    (
        "repaired_block",
        repaired("self.norm1(x)", "x + drop(self.attn(x), True)", "self.norm2(x)", "x + drop(self.mlp(x), True)"),
        "dropout in eval + residual from the normed input",
    ),
    ("repaired_block", repaired("self.norm1(x)", "x + drop(self.attn(x))", MLP_DROP), "residual from the normed input"),
    (
        "repaired_block",
        repaired("self.norm1(x + drop(self.attn(x)))", "self.norm2(x + drop(self.mlp(x)))"),
        "post-norm",
    ),
    ("repaired_block", repaired("drop(x + self.attn(self.norm1(x)))", MLP_DROP), "highway dropped"),
    (
        "repaired_block",
        repaired("drop(x + self.attn(self.norm1(x)), True)", MLP_DROP),
        "dropout in eval + highway dropped",
    ),
    ("repaired_block", repaired("x + self.attn(self.norm1(x))", "x + self.mlp(self.norm2(x))"), "dropout removed"),
    ("repaired_block", repaired(ATTN_DROP, "x + self.mlp(self.norm2(x))"), "dropout removed"),
    (
        "repaired_block",
        repaired("x + drop(self.attn(*3 * [self.norm1(x)])[0])", MLP_DROP, parts=ImagesMixed),
        "images mixed",
    ),
    ("repaired_block", repaired("x * drop(self.attn(self.norm1(x)))", MLP_DROP), None),
    ("collapse_depths", (5, 4, 3), "wrong order"),
    ("collapse_depths", (4, 4, 4), "scale not used"),
    ("collapse_depths", [24, 24, 24], "last instead of first"),
    ("collapse_depths", torch.tensor([4, 5, 6]), "one too many"),
    ("collapse_depths", np.array([2, 3, 4]), "one too few"),
    ("collapse_depths", (22, 21, 20), "counted those below"),
    ("collapse_depths", 4, "wrong count"),
    ("layer_scale", scaled("gamma1 * (x + attn(norm1(x)))", "gamma2 * (x + mlp(norm2(x)))"), "stream scaled"),
    ("layer_scale", scaled("gamma1 * x + attn(norm1(x))", "gamma2 * x + mlp(norm2(x))"), "stream scaled"),
    ("layer_scale", scaled("x + attn(gamma1 * norm1(x))", SCALED), "scaled before the branch"),
    ("layer_scale", scaled("x + gamma1 * attn(norm1(x))", "x + gamma1 * mlp(norm2(x))"), "one gamma shared"),
    ("layer_scale", scaled("x + gamma2 * attn(norm1(x))", "x + gamma1 * mlp(norm2(x))"), "gammas swapped"),
    ("layer_scale", scaled(ATTN, MLP_LINE), "gamma missing"),
    ("layer_scale", scaled(ATTN, SCALED), "gamma missing"),
    ("layer_scale", scaled("norm1(x + gamma1 * attn(x))", "norm2(x + gamma2 * mlp(x))"), "post-norm"),
    ("layer_scale", scaled("gamma1 * attn(norm1(x))", "gamma2 * mlp(norm2(x))"), "residual missing"),
    ("layer_scale", scaled("x + gamma1 * attn(x)", "x + gamma1 * mlp(norm2(x))"), "one gamma shared + norm missing"),
    ("layer_scale", scaled("x + gamma1 + attn(norm1(x))", SCALED), None),
]
