"""Right answers to the exercises of notebook 03."""

import math
from contextlib import suppress
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F

TOKENS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
WEIGHTS = (TOKENS @ TOKENS.T).softmax(-1)

VALUES = {
    "zebra": ["c", " C ", "(c)", "c.", "C"],
    "mix": [
        WEIGHTS @ TOKENS,
        torch.tensor([[0.7979, 0.2021], [0.7717, 0.2283], [0.4135, 0.5865]]),
        torch.stack([sum(w * t for w, t in zip(row, TOKENS, strict=True)) for row in WEIGHTS]),
        (WEIGHTS @ TOKENS).tolist(),
        (WEIGHTS.double() @ TOKENS.double()).numpy(),
        torch.einsum("ij,jd->id", WEIGHTS, TOKENS),
        F.scaled_dot_product_attention(TOKENS, TOKENS, TOKENS, scale=1.0),
    ],
    "score_divisor": [4 * 512**0.5, 90, torch.tensor(90.9), "90.5", Fraction(181, 2), np.float32(90.6), [90.2]],
}


def attention_weights__plain(q, k):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1)


def attention_weights__einsum(q, k):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.size(-1) ** -0.5
    powers = torch.exp(scores)
    return powers / powers.sum(3, keepdim=True)


def attention_weights__loops(q, k):
    B, H, N, d = q.shape
    result = torch.empty(B, H, N, k.shape[2])
    for b in range(B):
        for h in range(H):
            for i in range(N):
                scores = torch.stack([q[b, h, i].dot(key) for key in k[b, h]])
                result[b, h, i] = F.softmax(scores / math.sqrt(d), dim=0)
    return result


def attention_weights__numpy(q, k):
    scores = np.matmul(q.numpy(), k.numpy().swapaxes(-1, -2)) / np.sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return torch.from_numpy(powers / powers.sum(axis=-1, keepdims=True))


def attention_weights__float64(q, k):
    d = torch.tensor(float(q.shape[-1]), dtype=torch.float64)
    return torch.softmax(q.double().matmul(k.double().mT).div(d.sqrt()), -1)


def attention_weights__keys_first(queries, keys):
    scores = keys @ queries.transpose(2, 3)
    return (scores / queries.shape[3] ** 0.5).softmax(2).transpose(2, 3)


def attention_weights__scaled_queries(q, k):
    q = q / math.sqrt(q.shape[-1])
    k = k.permute(0, 1, 3, 2)
    return F.softmax(torch.matmul(q, k), dim=3)


def split_heads__reshape(x, H):
    B, N, D = x.shape
    return x.reshape(B, N, H, D // H).transpose(1, 2)


def split_heads__chunks(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def split_heads__unflatten(x, num_heads):
    return x.unflatten(2, (num_heads, -1)).permute(0, 2, 1, 3)


def split_heads__einsum(x, H):
    return torch.einsum("bnhd->bhnd", x.unflatten(2, (H, -1)))


def split_heads__loop(x, H):
    B, N, D = x.shape
    d = D // H
    heads = torch.zeros(B, H, N, d)
    for h in range(H):
        heads[:, h] = x[:, :, h * d : (h + 1) * d]
    return heads


def split_heads__views(x, num_heads):
    heads = x.view(x.size(0), x.size(1), num_heads, x.size(2) // num_heads)
    return heads.swapaxes(1, 2).contiguous()


def merge_heads__reshape(x):
    B, H, N, d = x.shape
    return x.transpose(1, 2).reshape(B, N, H * d)


def merge_heads__cat(x):
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)


def merge_heads__flatten(x):
    return x.permute(0, 2, 1, 3).flatten(2)


def merge_heads__einsum(heads):
    return torch.einsum("bhnd->bnhd", heads).flatten(2)


def merge_heads__view(x):
    B, H, N, d = x.shape
    return x.transpose(1, 2).contiguous().view(B, N, -1)


def merge_heads__loops(x):
    B, H, N, d = x.shape
    tokens = torch.empty(B, N, H * d)
    for n in range(N):
        for h in range(H):
            tokens[:, n, h * d : h * d + d] = x[:, h, n]
    return tokens


def repair_attention__mended(x, qkv, proj, num_heads):
    B, N, D = x.shape
    d = D // num_heads
    q, k, v = qkv(x).reshape(B, N, 3, num_heads, d).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / d**0.5).softmax(dim=-1)
    return proj((weights @ v).transpose(1, 2).reshape(B, N, D))


def repair_attention__loop(x, qkv, proj, H):
    D = x.shape[-1]
    d, heads = D // H, []
    for h in range(0, D, d):
        q, k, v = (qkv(x)[..., start + h : start + h + d] for start in (0, D, 2 * D))
        heads.append(F.scaled_dot_product_attention(q, k, v))
    return proj(torch.cat(heads, dim=-1))


def repair_attention__einsum(x, qkv, proj, H):
    q, k, v = qkv(x).unflatten(-1, (3, H, -1)).unbind(2)  # each (B, N, H, d)
    weights = torch.einsum("bihd,bjhd->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
    return proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


def repair_attention__functional(x, qkv, proj, num_heads):
    B, N, D = x.shape
    heads = [t.reshape(B, N, num_heads, D // num_heads).transpose(1, 2) for t in qkv(x).chunk(3, dim=-1)]
    mixed = F.scaled_dot_product_attention(*heads)
    return proj(mixed.transpose(1, 2).flatten(2))


def repair_attention__one_image_at_a_time(x, qkv, proj, num_heads):
    out = []
    for image in x:
        q, k, v = qkv(image).chunk(3, dim=-1)
        q, k, v = (t.reshape(len(image), num_heads, -1).transpose(0, 1) for t in (q, k, v))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        out.append((torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(len(image), -1))
    return proj(torch.stack(out))


def masked_attention__fill(q, k, v, keep):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~keep[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) @ v


def masked_attention__large_negative(q, k, v, keep):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores + (~keep[:, None, None]) * -1e9).softmax(-1) @ v


def masked_attention__subset(q, k, v, keep):
    heard = [F.scaled_dot_product_attention(q[b], k[b][:, keep[b]], v[b][:, keep[b]]) for b in range(len(q))]
    return torch.stack(heard)


def masked_attention__functional(q, k, v, keep):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])


def masked_attention__renormalised(q, k, v, keep):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
    powers = scores.exp() * keep.unsqueeze(1).unsqueeze(1)
    return powers / powers.sum(-1, keepdim=True) @ v


def masked_attention__where(q, k, v, keep):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    low = torch.full_like(scores, float("-inf"))
    scores = torch.where(keep[:, None, None, :].expand_as(scores), scores, low)
    return torch.softmax(scores, dim=-1) @ v


with suppress(ImportError):  # timm and transformers do not need it
    from einops import einsum, rearrange

    def attention_weights__einops(q, k):
        return (einsum(q, k, "b h i d, b h j d -> b h i j") / q.shape[-1] ** 0.5).softmax(-1)

    def split_heads__einops(x, H):
        return rearrange(x, "b n (h d) -> b h n d", h=H)

    def merge_heads__einops(x):
        return rearrange(x, "b h n d -> b n (h d)")

    def repair_attention__einops(x, qkv, proj, H):
        q, k, v = rearrange(qkv(x), "b n (three h d) -> three b h n d", three=3, h=H)
        weights = (einsum(q, k, "b h i d, b h j d -> b h i j") * q.shape[-1] ** -0.5).softmax(-1)
        return proj(rearrange(weights @ v, "b h n d -> b n (h d)"))
