"""Right answers to the exercises of notebook 04."""

import math
import random
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import MLP, DropPath, EncoderBlock, MultiHeadAttention

VALUES = {
    "tokens_changed": [
        (1, 1, 64, 64),
        [1, 1.0, 64, 64],
        torch.tensor([1, 1, 64, 64]),
        np.array([1.0, 1.0, 64.0, 64.0]),
        ("1", "1", "64", "64"),
        (torch.tensor(1), np.int64(1), 64, 64.0),
    ],
    "collapse_depths": [
        (3, 4, 5),
        [torch.tensor(3), torch.tensor(4), torch.tensor(5)],
        torch.tensor([3, 4, 5]),
        np.array([3, 4, 5]),
        ("3", "4", "5"),
        [3.0, np.float32(4), np.int64(5)],
    ],
}


# ------------------------------------------------------------------------------------------------ 4.1


def layer_norm__plain(x, gamma, beta, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, correction=0)
    return gamma * (x - mean) / (variance + eps).sqrt() + beta


def layer_norm__squares(x, gamma, beta, eps):
    x = x - x.mean(dim=-1, keepdim=True)
    return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + eps) * gamma + beta


def layer_norm__rsqrt(x, gamma, beta, eps):
    centred = x - x.mean(2)[..., None]
    return centred * torch.rsqrt(centred.pow(2).mean(2)[..., None] + eps) * gamma + beta


def layer_norm__biased_old_word(x, gamma, beta, eps):
    u = x.mean(-1, keepdim=True)
    s = x.var(-1, unbiased=False, keepdim=True)
    y = (x - u) / torch.sqrt(s + eps)
    return y * gamma + beta


def layer_norm__var_mean(x, gamma, beta, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(beta, gamma, (x - mean) * (variance + eps) ** -0.5)


def layer_norm__loops(x, gamma, beta, eps):
    result = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            token = x[b, n]
            mean = token.sum() / len(token)
            variance = ((token - mean) ** 2).sum() / len(token)
            result[b, n] = (token - mean) / math.sqrt(variance + eps) * gamma + beta
    return result


def layer_norm__python_numbers(x, gamma, beta, eps):
    images = []
    for image in x.tolist():
        rows = []
        for token in image:
            m = sum(token) / len(token)
            v = sum((t - m) ** 2 for t in token) / len(token)
            rows.append([g * (t - m) / (v + eps) ** 0.5 + b for t, g, b in zip(token, gamma, beta, strict=True)])
        images.append(rows)
    return torch.tensor(images)


def layer_norm__numpy(x, gamma, beta, eps):
    a = x.numpy()
    a = (a - a.mean(axis=-1, keepdims=True)) / np.sqrt(a.var(axis=-1, keepdims=True) + eps)
    return torch.from_numpy(a * gamma.numpy() + beta.numpy())


def layer_norm__float64(tokens, scale, shift, epsilon):
    tokens = tokens.double()
    mean = torch.mean(tokens, -1, True)
    std = ((tokens - mean).square().mean(-1, True) + epsilon).sqrt()
    return scale * ((tokens - mean) / std) + shift


def layer_norm__flat(x, gamma, beta, eps):
    rows = x.reshape(-1, x.shape[-1]).T  # (D, B*N)
    rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()
    return (rows.T * gamma + beta).reshape(x.shape)


def layer_norm__einsum(x, gamma, beta, eps):
    D = x.shape[-1]
    x = x - (torch.einsum("bnd->bn", x) / D).unsqueeze(-1)
    variance = torch.einsum("bnd,bnd->bn", x, x) / D
    return torch.einsum("bnd,bn,d->bnd", x, 1 / (variance + eps).sqrt(), gamma) + beta


def layer_norm__on_a_copy(x, gamma, beta, eps):
    x = x.clone()
    x -= x.mean(-1, keepdim=True)
    x /= (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x.mul_(gamma).add_(beta)


# ------------------------------------------------------------------------------------------------ 4.3


def pre_norm_block__two_lines(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


def pre_norm_block__skip(x, norm1, attn, norm2, mlp):
    skip = x
    x = norm1(x)
    x = attn(x)
    x = skip + x
    skip = x
    x = mlp(norm2(x))
    return x + skip


def pre_norm_block__loop(x, norm1, attn, norm2, mlp):
    for norm, part in ((norm1, attn), (norm2, mlp)):
        x = torch.add(x, part(norm(x)))
    return x


def pre_norm_block__one_expression(x, n1, a, n2, m):
    return x + a(n1(x)) + m(n2(x + a(n1(x))))


def pre_norm_block__helper(x, norm1, attn, norm2, mlp):
    def residual(x, norm, branch):
        return branch(norm(x)).add(x)

    return residual(residual(x, norm1, attn), norm2, mlp)


def pre_norm_block__sequential(x, norm1, attn, norm2, mlp):
    first, second = nn.Sequential(norm1, attn), nn.Sequential(norm2, mlp)
    y = x + first(x)
    return y + second(y)


def pre_norm_block__in_place_on_a_copy(x, norm1, attn, norm2, mlp):
    stream = x.clone()
    stream += attn(norm1(stream))
    stream += mlp(norm2(stream))
    return stream


def pre_norm_block__walrus(x, norm1, attn, norm2, mlp):
    return (y := x + attn(norm1(x))) + mlp(norm2(y))


def pre_norm_block__stacked(x, norm1, attn, norm2, mlp):
    y = torch.stack([x, attn(norm1(x))]).sum(dim=0)
    return torch.stack([y, mlp(norm2(y))]).sum(dim=0)


def pre_norm_block__float64(x, norm1, attn, norm2, mlp):
    x = x.double() + attn(norm1(x)).double()
    return x + mlp(norm2(x.float())).double()


def pre_norm_block__updates(x, norm1, attn, norm2, mlp):
    update1 = attn(norm1(x))
    update2 = mlp(norm2(x + update1))
    return sum([x, update1, update2])


# ------------------------------------------------------------------------------------------------ 4.4


def drop_path__mask(x, rate, training):
    if not training:
        return x
    keep = torch.rand(len(x), 1, 1) >= rate
    return x * keep / (1 - rate)


def drop_path__as_package(x, rate, training):
    if not training or rate == 0.0:
        return x
    return x * (torch.rand(x.shape[0], 1, 1, device=x.device) < 1 - rate) / (1.0 - rate)


def drop_path__module(x, rate, training):
    return DropPath(rate).train(training)(x)


def drop_path__bernoulli(x, rate, training):
    return x * torch.empty(x.shape[0], 1, 1).bernoulli_(1 - rate) / (1 - rate) if training else x


def drop_path__bernoulli_of_a_tensor(x, rate, training):
    if training:
        stay = 1 - rate
        mask = torch.bernoulli(torch.full((x.size(0), 1, 1), stay))
        x = x.div(stay) * mask
    return x


def drop_path__loop(x, rate, training):
    if not training:
        return x
    images = [image * (torch.rand(()).item() > rate) / (1 - rate) for image in x]
    return torch.stack(images)


def drop_path__python_random(x, rate, training):
    if not training:
        return x
    out = torch.zeros_like(x)
    for i in range(len(x)):
        if random.random() >= rate:
            out[i] = x[i] / (1 - rate)
    return out


def drop_path__numpy(x, rate, training):
    if not training:
        return x
    keep = np.random.default_rng().random(len(x)) >= rate
    return torch.from_numpy(x.numpy() * keep[:, None, None] / (1 - rate))


def drop_path__dropout_of_ones(x, rate, training):
    return x * F.dropout(torch.ones(len(x), 1, 1), rate, training)


def drop_path__where(x, rate, training):
    if not training:
        return x
    dropped = torch.rand(len(x)) < rate
    return torch.where(dropped[:, None, None], torch.zeros(()), x / (1 - rate))


def drop_path__indexed(x, rate, training):
    if not training:
        return x
    out = x / (1 - rate)
    out[torch.rand(len(x)) < rate] = 0
    return out


def drop_path__einsum(x, rate, training):
    if not training:
        return x
    keep = (torch.rand(len(x)) >= rate).to(x.dtype) / (1 - rate)
    return torch.einsum("bnd,b->bnd", x, keep)


def drop_path__floor(x, rate, training):
    if not training:
        return x
    keep_prob = 1 - rate
    random_tensor = keep_prob + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1))
    return x.div(keep_prob) * random_tensor.floor()


# ------------------------------------------------------------------------------------------------ 4.5


class BrokenBlock(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = MultiHeadAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, 4 * embed_dim)


class repaired_block__mended(BrokenBlock):
    def forward(self, x):
        x = x + F.dropout(self.attn(self.norm1(x)), 0.1, self.training)
        x = x + F.dropout(self.mlp(self.norm2(x)), 0.1, self.training)
        return x


class repaired_block__whole_class(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = MultiHeadAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, 4 * embed_dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.dropout(self.attn(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class repaired_block__skip(BrokenBlock):
    def forward(self, x):
        skip = x
        x = F.dropout(self.attn(self.norm1(x)), p=0.1, training=self.training)
        x = skip + x
        skip = x
        x = F.dropout(self.mlp(self.norm2(x)), p=0.1, training=self.training)
        return skip + x


class repaired_block__of_package(EncoderBlock):
    def __init__(self, embed_dim, num_heads):
        super().__init__(embed_dim, num_heads, dropout=0.1)


class repaired_block__two_dropouts(BrokenBlock):
    def __init__(self, embed_dim, num_heads, dropout=0.1):
        super().__init__(embed_dim, num_heads)
        self.drop1 = nn.Dropout(dropout)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, x):
        attended = self.drop1(self.attn(self.norm1(x)))
        x = x + attended
        return x + self.drop2(self.mlp(self.norm2(x)))


class repaired_block__only_when_training(BrokenBlock):
    def forward(self, x):
        branch = self.attn(self.norm1(x))
        x = x + (F.dropout(branch, 0.1) if self.training else branch)
        branch = self.mlp(self.norm2(x))
        return x + (F.dropout(branch, 0.1) if self.training else branch)


class repaired_block__loop(BrokenBlock):
    def forward(self, x):
        for norm, part in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            x = x + F.dropout(part(norm(x)), 0.1, self.training)
        return x


class repaired_block__helper(BrokenBlock):
    def branch(self, x, norm, part):
        return F.dropout(part(norm(x)), 0.1 if self.training else 0.0)

    def forward(self, x):
        x = x + self.branch(x, self.norm1, self.attn)
        return x + self.branch(x, self.norm2, self.mlp)


class repaired_block__torch_attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.drop(self.attn(h, h, h, need_weights=False)[0])
        return x + self.drop(self.mlp(self.norm2(x)))


class repaired_block__tokens_first(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.MultiheadAttention(dim, heads)
        self.mlp = MLP(dim, 4 * dim, dropout=0.1)

    def forward(self, x):
        h = self.norm1(x).transpose(0, 1)  # (N, B, D)
        h, _ = self.attn(h, h, h)
        x = x + F.dropout(h.transpose(0, 1), 0.1, self.training)
        return x + self.mlp(self.norm2(x))


class repaired_block__bernoulli(BrokenBlock):
    def drop(self, x):
        return x * (torch.rand_like(x) >= 0.1) / 0.9 if self.training else x

    def forward(self, x):
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


# ------------------------------------------------------------------------------------------------ 4.7


def layer_scale__two_lines(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + gamma1 * attn(norm1(x))
    return x + gamma2 * mlp(norm2(x))


def layer_scale__diagonal(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = attn(norm1(x)) @ torch.diag(gamma1) + x
    return mlp(norm2(x)) @ gamma2.diag() + x


def layer_scale__loop(x, *parts):
    for norm, part, gamma in (parts[:3], parts[3:]):
        x = torch.addcmul(x, gamma, part(norm(x)))
    return x


def layer_scale__broadcast(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + attn(norm1(x)) * gamma1[None, None, :]
    x = x + mlp(norm2(x)) * gamma2.view(1, 1, -1)
    return x


def layer_scale__einsum(x, n1, a, g1, n2, m, g2):
    y = x + torch.einsum("bnd,d->bnd", a(n1(x)), g1)
    return y + torch.einsum("bnd,d->bnd", m(n2(y)), g2)


def layer_scale__mul_add(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = attn(norm1(x)).mul(gamma1).add(x)
    return mlp(norm2(x)).mul(gamma2).add(x)


def layer_scale__skip(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    residual = x
    x = gamma1 * attn(norm1(x))
    x = residual + x
    residual = x
    x = gamma2 * mlp(norm2(x))
    return residual + x


def layer_scale__helper(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    step = lambda x, norm, part, gamma: x + gamma * part(norm(x))  # noqa: E731
    return step(step(x, norm1, attn, gamma1), norm2, mlp, gamma2)


def layer_scale__expanded(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + attn(norm1(x)) * gamma1.expand_as(x)
    return x + mlp(norm2(x)) * gamma2.expand_as(x)


def layer_scale__linear(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + F.linear(attn(norm1(x)), torch.diag_embed(gamma1))
    return x + F.linear(mlp(norm2(x)), torch.diag_embed(gamma2))


def layer_scale__columns(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    for norm, part, gamma in ((norm1, attn, gamma1), (norm2, mlp, gamma2)):
        branch, x = part(norm(x)), x.clone()
        for d in range(len(gamma)):
            x[..., d] += gamma[d] * branch[..., d]
    return x


with suppress(ImportError):
    from einops import reduce

    def layer_norm__einops(x, gamma, beta, eps):
        x = x - reduce(x, "b n d -> b n 1", "mean")
        return gamma * x / (reduce(x**2, "b n d -> b n 1", "mean") + eps).sqrt() + beta
