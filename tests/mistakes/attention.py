"""Checks of notebook 03: right answers in several styles pass, planted mistakes get their names, nothing raises."""

import torch
import torch.nn.functional as F

from vit_tutorial.check.attention import TOKENS

WEIGHTS = (TOKENS @ TOKENS.T).softmax(-1)


def weights(over=-1, divisor="d**0.5", after="1", swapped=False, softmax=True):
    """Attention weights, right with the defaults, wrong with another."""

    def function(q, k):
        B, H, N, d = q.shape
        if swapped:
            q, k = k, q
        scores = q @ k.transpose(-2, -1) / eval(divisor, {"d": d, "H": H})
        return (scores.softmax(over) if softmax else scores) / eval(after, {"d": d})

    return function


def weights_with_einsum(q, k):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.size(-1) ** -0.5
    powers = torch.exp(scores)
    return powers / powers.sum(3, keepdim=True)


def weights_by_loop(q, k):
    result = torch.empty(*q.shape[:3], k.shape[2])
    for place in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        b, h, i = place
        scores = torch.stack([q[b, h, i].dot(key) for key in k[b, h]])
        result[b, h, i] = F.softmax(scores / q.shape[-1] ** 0.5, dim=0)
    return result


def split(code):
    """`function(x, num_heads)` whose result is written as text."""
    return lambda x, H: eval(code, {"x": x, "torch": torch, "B": len(x), "N": x.shape[1], "H": H, "d": x.shape[2] // H})


def merge(code):
    """`function(x)` whose result is written as text."""
    return lambda x: eval(code, {"x": x, "torch": torch, **dict(zip("BHNd", x.shape, strict=True))})


def multi_head(over=-1, divisor="d**0.5", merge="transpose(1, 2).reshape(B, N, D)", split=True):
    """Multi-head attention, right with the defaults, wrong with another."""

    def function(x, qkv, proj, H):
        B, N, D = x.shape
        d = D // H
        q, k, v = (
            part.reshape(B, N, H, d).transpose(1, 2) if split else part.reshape(B, H, N, d)
            for part in qkv(x).split(D, dim=2)
        )
        mixed = (q @ k.transpose(-2, -1) / eval(divisor, {"d": d, "D": D})).softmax(over) @ v
        return proj(eval(f"mixed.{merge}", {"mixed": mixed, "B": B, "N": N, "D": D}))

    return function


def multi_head_by_loop(x, qkv, proj, H):
    D = x.shape[-1]
    d, heads = D // H, []
    for h in range(0, D, d):
        q, k, v = (qkv(x)[..., start + h : start + h + d] for start in (0, D, 2 * D))
        heads.append(F.scaled_dot_product_attention(q, k, v))
    return proj(torch.cat(heads, dim=-1))


def masked(code):
    """`function(q, k, v, keep)` whose result is written as text in v, w (weights), s (scores), keep, inf."""

    def function(q, k, v, keep):
        s = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        return eval(code, {"q": q, "k": k, "v": v, "s": s, "w": s.softmax(-1), "keep": keep, "inf": torch.inf})

    return function


def masked_by_subset(q, k, v, keep):
    heard = [F.scaled_dot_product_attention(q[b], k[b][:, keep[b]], v[b][:, keep[b]]) for b in range(len(q))]
    return torch.stack(heard)


def multi_head_with_einsum(x, qkv, proj, H):
    q, k, v = qkv(x).unflatten(-1, (3, H, -1)).unbind(2)  # each (B, N, H, d)
    weights = torch.einsum("bihd,bjhd->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
    return proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


SPLIT, MERGE = "x.reshape(B, N, H, d).transpose(1, 2)", "x.transpose(1, 2).reshape(B, N, H * d)"
MASKED = "s.masked_fill(~keep[:, None, None], -inf).softmax(-1) @ v"
WRONG = [
    ("zebra", "a", "opposites"),
    ("zebra", "b", "more neighbours"),
    ("zebra", "d", "equal weights"),
    ("zebra", "zebra", "not a choice"),
    ("mix", WEIGHTS.T @ TOKENS, "softmax over the queries"),
    ("mix", TOKENS @ TOKENS.T @ TOKENS, "no softmax"),
    ("mix", TOKENS.mean(0).repeat(3, 1), "equal weights"),
    ("mix", TOKENS, "not mixed"),
    ("mix", TOKENS.T @ WEIGHTS, "wrong order"),
    ("mix", (WEIGHTS @ TOKENS).T, "wrong order"),
    ("mix", WEIGHTS, "wrong shape"),
    ("attention_weights", weights(over=-2), "softmax over the queries"),
    ("attention_weights", weights(over=1), "softmax over the heads"),
    ("attention_weights", weights(divisor="1"), "missing 1/sqrt(d)"),
    ("attention_weights", weights(divisor="(H * d)**0.5"), "sqrt of the whole width"),
    ("attention_weights", weights(divisor="d"), "divided by d"),
    ("attention_weights", weights(divisor="d**-0.5"), "multiplied by sqrt(d)"),
    ("attention_weights", weights(swapped=True), "q and k swapped"),
    ("attention_weights", weights(divisor="1", after="d**0.5"), "scaled after the softmax"),
    ("attention_weights", weights(softmax=False), "no softmax"),
    ("split_heads", split("x.reshape(B, H, N, d)"), "heads split by reshape alone"),
    ("split_heads", split("x.reshape(B, N, H, d)"), "heads not moved"),
    ("split_heads", split("x.reshape(B, N, d, H).permute(0, 3, 1, 2)"), "heads interleaved"),
    ("split_heads", split("x.reshape(B, N, H, d).permute(2, 0, 1, 3)"), "heads before the batch"),
    ("merge_heads", merge("x.reshape(B, N, H * d)"), "heads merged without transpose"),
    ("merge_heads", merge("x.permute(0, 2, 3, 1).reshape(B, N, H * d)"), "heads interleaved"),
    ("merge_heads", merge("x.mean(dim=1)"), "heads averaged"),
    ("merge_heads", merge("x.sum(dim=1)"), "heads added"),
    ("merge_heads", merge("x.transpose(1, 2)"), "heads not merged"),
    ("merge_heads", merge("x.transpose(1, 2).view(B, N, H * d)"), "RuntimeError"),
    ("repair_attention", multi_head(over=-2), "softmax over the queries"),
    ("repair_attention", multi_head(divisor="D**0.5"), "sqrt of the whole width"),
    ("repair_attention", multi_head(divisor="1"), "missing 1/sqrt(d)"),
    ("repair_attention", multi_head(merge="reshape(B, N, D)"), "heads merged without transpose"),
    ("repair_attention", multi_head(split=False), "heads split by reshape alone"),
    ("repair_attention", multi_head(-2, "D**0.5"), "sqrt of the whole width + softmax over the queries"),
    (
        "repair_attention",
        multi_head(-1, "D**0.5", "reshape(B, N, D)"),
        "sqrt of the whole width + heads merged without transpose",
    ),
    ("score_divisor", 512**0.5, "deviation left out"),
    ("score_divisor", 2 * 512**0.5, "one deviation"),
    ("score_divisor", 8192, "divided by the variance"),
    ("score_divisor", 512, "divided by d"),
    ("score_divisor", 0.01105, "inverse"),
    ("score_divisor", "ninety", "not a number"),
    ("masked_attention", masked("w @ v"), "not masked"),
    ("masked_attention", masked("(w * keep[:, None, None]) @ v"), "not renormalised"),
    ("masked_attention", masked("(s * keep[:, None, None]).softmax(-1) @ v"), "scores set to 0"),
    ("masked_attention", masked("s.masked_fill(~keep[:, None, :, None], -inf).softmax(-1) @ v"), "queries masked"),
    ("masked_attention", masked("w.masked_fill(~keep[:, None, :, None], 0) @ v"), "queries masked"),
    ("masked_attention", masked("s.masked_fill(keep[:, None, None], -inf).softmax(-1) @ v"), "mask inverted"),
    (
        "masked_attention",
        masked("(q @ k.mT).masked_fill(~keep[:, None, None], -inf).softmax(-1) @ v"),
        "missing 1/sqrt(d)",
    ),
]
