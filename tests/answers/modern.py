"""Right answers to the exercises of notebook 13."""

import functools
import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial.modern import RMSNorm, RotaryEmbedding, rotate

VALUES = {
    "same_score": ["b", " B ", "(b)", "b.", "B)", "b\n"],
    "largest_score": [8, 8.0, torch.tensor(8.0), Fraction(8), "8", np.float32(8), [8], torch.tensor([[8.0]])],
    "swiglu_width": [1024, 1024.0, torch.tensor(1024), Fraction(1024), "1024", np.int64(1024), [1024]],
}


# ------------------------------------------------------------------------------------------------ 13.1


def rotary_turn__halves(x, angles):
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rotary_turn__complex(x, angles):
    half = angles.shape[1]
    z = torch.complex(x[:, :half].contiguous(), x[:, half:].contiguous()) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], dim=1)


def rotary_turn__loops(x, angles):
    out = torch.zeros_like(x)
    N, half = angles.shape
    for n in range(N):
        for i in range(half):
            a, b, angle = x[n, i].item(), x[n, i + half].item(), angles[n, i].item()
            out[n, i] = a * math.cos(angle) - b * math.sin(angle)
            out[n, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def rotary_turn__rotate_half(x, angles):
    full = torch.cat((angles, angles), dim=-1)
    x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * full.cos() + torch.cat((-x2, x1), dim=-1) * full.sin()


def rotary_turn__einsum(x, angles):
    c, s = angles.cos(), angles.sin()
    matrices = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])  # (2, 2, N, d/2)
    pairs = x.unflatten(1, (2, -1))
    return torch.einsum("ijnh,njh->nih", matrices, pairs).flatten(1)


def rotary_turn__numpy(x, angles):
    half = angles.shape[1]
    z = (x[:, :half].numpy() + 1j * x[:, half:].numpy()) * np.exp(1j * angles.numpy())
    return torch.from_numpy(np.concatenate([z.real, z.imag], axis=1))


def rotary_turn__clone_in_place(x, angles):
    x, half = x.clone(), angles.size(1)
    old = x[:, :half].clone()
    x[:, :half].mul_(angles.cos()).sub_(x[:, half:] * angles.sin())
    x[:, half:].mul_(angles.cos()).add_(old * angles.sin())
    return x


def rotary_turn__package(x, angles):
    rope = torch.cat([angles.sin().repeat(1, 2), angles.cos().repeat(1, 2)], dim=1)
    return rotate(x[None, None], rope)[0, 0]


def rotary_turn__neighbours_and_back(x, angles):
    N, d = x.shape
    pairs = torch.view_as_complex(x.reshape(N, 2, d // 2).transpose(1, 2).contiguous())
    turned = torch.view_as_real(pairs * torch.exp(1j * angles))  # (N, d/2, 2)
    return turned.transpose(1, 2).reshape(N, d)


def rotary_turn__matrices(x, angles):
    rows = []
    for vector, row in zip(x.double(), angles.double(), strict=True):
        C, S = row.cos().diag(), row.sin().diag()
        rows.append(torch.cat([torch.cat([C, -S], 1), torch.cat([S, C], 1)]) @ vector)
    return torch.stack(rows)


# ------------------------------------------------------------------------------------------------ 13.3


def grid_angles__product(rows, columns, d, temperature):
    i = torch.arange(d // 4)
    frequencies = temperature ** (-4 * i / d)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()  # (P, 2)
    return (places[:, :, None] * frequencies).flatten(1)


def grid_angles__loops(rows, columns, d, temperature):
    table = []
    for y in range(rows):
        for x in range(columns):
            own = [temperature ** (-4 * i / d) for i in range(d // 4)]
            table.append([y * f for f in own] + [x * f for f in own])
    return torch.tensor(table)


def grid_angles__meshgrid(rows, columns, d, temperature):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    bands = 1.0 / (temperature ** (torch.arange(0, d, 4) / d))
    return torch.cat([y.reshape(-1, 1) * bands, x.reshape(-1, 1) * bands], dim=1)


def grid_angles__division(rows, columns, d, temperature):
    n = torch.arange(rows * columns)
    bands = torch.exp(-math.log(temperature) * torch.linspace(0, 1, d // 4 + 1)[:-1])
    return torch.hstack([torch.outer(n // columns, bands), torch.outer(n % columns, bands)])


def grid_angles__numpy(rows, columns, d, temperature):
    y, x = np.mgrid[:rows, :columns]
    bands = temperature ** (-np.arange(d // 4) * 4.0 / d)
    return torch.from_numpy(np.concatenate([np.outer(y, bands), np.outer(x, bands)], axis=1))


def grid_angles__repeat(rows, columns, d, temperature):
    frequencies = torch.pow(temperature, -torch.arange(d // 4, dtype=torch.float64) / (d // 4))
    row = torch.arange(rows).repeat_interleave(columns)[:, None] * frequencies
    column = torch.arange(columns).repeat(rows)[:, None] * frequencies
    return torch.cat([row, column], dim=-1)


def grid_angles__filled(rows, columns, d, temperature):
    q = d // 4
    angles = torch.empty(rows, columns, 2, q)
    angles[:, :, 0] = torch.arange(rows)[:, None, None]
    angles[:, :, 1] = torch.arange(columns)[None, :, None]
    for i in range(q):
        angles[..., i] /= temperature ** (4 * i / d)
    return angles.view(rows * columns, 2 * q)


def grid_angles__package(rows, columns, d, temperature):
    turns = RotaryEmbedding(d, "axial", temperature)
    y = torch.arange(rows)[:, None, None].expand(rows, columns, 1)
    x = torch.arange(columns)[None, :, None].expand(rows, columns, 1)
    i = torch.arange(turns.head_dim // 4)
    return (torch.stack([y, x], dim=2) * turns.temperature ** (-4 * i / d)).reshape(rows * columns, -1)


# ------------------------------------------------------------------------------------------------ 13.4


def turn(x, angles):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)


def repaired_rotary__prefix_apart(q, k, v, angles):
    first = len(q) - len(angles)
    q = torch.cat([q[:first], turn(q[first:], angles)])
    k = torch.cat([k[:first], turn(k[first:], angles)])
    return (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def repaired_rotary__angles_of_zero(q, k, v, angles):
    angles = F.pad(angles, (0, 0, len(q) - len(angles), 0))
    q, k = turn(q, angles), turn(k, angles)
    return torch.softmax(q @ k.mT / math.sqrt(q.size(1)), dim=1) @ v


def repaired_rotary__fused(q, k, v, angles):
    P = angles.shape[0]
    q, k = q.clone(), k.clone()
    q[-P:], k[-P:] = turn(q[-P:], angles), turn(k[-P:], angles)
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]


def repaired_rotary__complex(q, k, v, angles):
    P, h = angles.shape

    def spun(x):
        z = torch.complex(x[:, :h], x[:, h:])
        z = torch.cat([z[:-P], z[-P:] * torch.exp(1j * angles)])
        return z

    scores = (spun(q) @ spun(k).conj().T).real / (2 * h) ** 0.5
    weights = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    return weights @ v


def repaired_rotary__loops(q, k, v, angles):
    N, d = q.shape
    first, out = N - len(angles), torch.zeros_like(v)
    placed = [[t[n] if n < first else turn(t[n], angles[n - first]) for n in range(N)] for t in (q, k)]
    for n in range(N):
        scores = torch.stack([placed[0][n].dot(placed[1][m]) / d**0.5 for m in range(N)])
        for m, weight in enumerate(scores.softmax(0)):
            out[n] += weight * v[m]
    return out


def repaired_rotary__einsum(q, k, v, angles):
    P = len(angles)
    q, k = (torch.vstack([t[: len(t) - P], turn(t[len(t) - P :], angles)]) for t in (q, k))
    weights = torch.einsum("nd,md->nm", q * q.shape[1] ** -0.5, k).softmax(-1)
    return torch.einsum("nm,md->nd", weights, v)


def repaired_rotary__package(q, k, v, angles):
    rope = torch.cat([angles.sin().repeat(1, 2), angles.cos().repeat(1, 2)], dim=1)
    q, k = rotate(q[None, None], rope), rotate(k[None, None], rope)
    return F.scaled_dot_product_attention(q, k, v[None, None])[0, 0]


def repaired_rotary__double(q, k, v, angles):
    q, k, v, angles = (t.double() for t in (q, k, v, angles))
    first = len(q) - len(angles)
    q, k = (torch.cat([t[:first], turn(t[first:], angles)]) for t in (q, k))
    return (q @ k.T).div(q.shape[-1] ** 0.5).softmax(-1) @ v


# ------------------------------------------------------------------------------------------------ 13.5


def rms_norm__plain(x, weight, eps):
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def rms_norm__rsqrt(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1)[..., None] + eps)


def rms_norm__module(x, weight, eps):
    norm = RMSNorm(len(weight), eps)
    norm.weight = nn.Parameter(weight)
    return norm(x)


def rms_norm__einsum(x, weight, eps):
    size = torch.einsum("...d,...d->...", x, x) / x.shape[-1] + eps
    return torch.einsum("...d,...,d->...d", x, size**-0.5, weight)


def rms_norm__numpy(x, weight, eps):
    x = x.numpy().astype(np.float64)
    return torch.from_numpy(x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * weight.numpy())


def rms_norm__loops(x, weight, eps):
    rows = []
    for token in x.reshape(-1, x.shape[-1]).tolist():
        size = math.sqrt(sum(a * a for a in token) / len(token) + eps)
        rows.append([a / size * w for a, w in zip(token, weight.tolist(), strict=True)])
    return torch.tensor(rows).reshape(x.shape)


def rms_norm__length(x, weight, eps):
    D = x.shape[-1]
    return x * D**0.5 / torch.sqrt(x.norm(dim=-1, keepdim=True) ** 2 + D * eps) * weight


def rms_norm__clone_in_place(x, weight, eps):
    y = x.clone()
    y /= (y * y).mean(-1, True).add_(eps).sqrt_()
    return y.mul_(weight)


# ------------------------------------------------------------------------------------------------ 13.7


def swiglu__plain(x, fc1_g, fc1_x, fc2):
    return fc2(F.silu(fc1_g(x)) * fc1_x(x))


def swiglu__sigmoid(x, fc1_g, fc1_x, fc2):
    gate = fc1_g(x)
    return fc2(gate * gate.sigmoid() * fc1_x(x))


def swiglu__weights(x, fc1_g, fc1_x, fc2):
    gate = x @ fc1_g.weight.T + fc1_g.bias
    hidden = x @ fc1_x.weight.T + fc1_x.bias
    return nn.SiLU()(gate) * hidden @ fc2.weight.T + fc2.bias


def swiglu__packed(x, fc1_g, fc1_x, fc2):
    weight, bias = torch.cat([fc1_g.weight, fc1_x.weight]), torch.cat([fc1_g.bias, fc1_x.bias])
    gate, hidden = F.linear(x, weight, bias).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * hidden, fc2.weight, fc2.bias)


def swiglu__exponential(x, fc1_g, fc1_x, fc2):
    gate, hidden = fc1_g(x), fc1_x(x)
    return fc2(hidden * gate / (1 + torch.exp(-gate)))


def swiglu__module(x, fc1_g, fc1_x, fc2):
    class SwiGLU(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1_g, self.fc1_x, self.fc2, self.act = fc1_g, fc1_x, fc2, nn.SiLU()

        def forward(self, x):
            return self.fc2(self.act(self.fc1_g(x)).mul(self.fc1_x(x)))

    return SwiGLU()(x)


def swiglu__einsum_double(x, fc1_g, fc1_x, fc2):
    def layer(t, fc):
        return torch.einsum("...i,oi->...o", t, fc.weight.double()) + fc.bias.double()

    x = x.double()
    return layer(F.silu(layer(x, fc1_g), inplace=True) * layer(x, fc1_x), fc2)


def swiglu__numpy(x, fc1_g, fc1_x, fc2):
    (Wg, bg), (Wx, bx), (W, b) = ((fc.weight.detach().numpy(), fc.bias.detach().numpy()) for fc in (fc1_g, fc1_x, fc2))
    x = x.numpy()
    g = x @ Wg.T + bg
    return torch.tensor((g / (1 + np.exp(-g)) * (x @ Wx.T + bx)) @ W.T + b)


# ------------------------------------------------------------------------------------------------ 13.8


def with_registers__plain(cls_token, registers, patches, blocks):
    B, R = len(patches), len(registers)
    x = torch.cat([cls_token, registers.expand(B, -1, -1), patches], dim=1)
    for block in blocks:
        x = block(x)
    return x[:, 0], x[:, 1 + R :]


def with_registers__last_patches(cls_token, registers, patches, blocks):
    x = torch.hstack([cls_token, registers[None].repeat(len(patches), 1, 1), patches])
    x = nn.Sequential(*blocks)(x)
    return x[:, 0, :], x[:, -patches.shape[1] :, :]


def with_registers__split(cls_token, registers, patches, blocks):
    R, P = registers.size(0), patches.size(1)
    each = registers.unsqueeze(0).expand(patches.size(0), R, -1)
    x = functools.reduce(lambda tokens, block: block(tokens), blocks, torch.cat((cls_token, each, patches), 1))
    cls, _, patches = x.split([1, R, P], dim=1)
    return cls.squeeze(1), patches


def with_registers__one_image_at_a_time(cls_token, registers, patches, blocks):
    first, others = [], []
    for cls, own in zip(cls_token, patches, strict=True):
        x = torch.cat([cls, registers, own])[None]
        for block in blocks:
            x = block(x)
        first.append(x[0, 0])
        others.append(x[0, len(registers) + 1 :])
    return torch.stack(first), torch.stack(others)


def with_registers__filled(cls_token, registers, patches, blocks):
    (B, P, D), R = patches.shape, len(registers)
    x = torch.empty(B, 1 + R + P, D)
    x[:, :1], x[:, 1 : 1 + R], x[:, 1 + R :] = cls_token, registers, patches
    for i in range(len(blocks)):
        x = blocks[i](x)
    return [x[:, 0], x[:, 1 + R :]]


def with_registers__recursion(cls_token, registers, patches, blocks):
    def run(x, blocks):
        return run(blocks[0](x), blocks[1:]) if blocks else x

    B, P, D = patches.shape
    x = run(torch.cat([cls_token, torch.broadcast_to(registers, (B, *registers.shape)), patches], 1), blocks)
    return x.select(1, 0), x.narrow(1, x.shape[1] - P, P)


def with_registers__stack(cls_token, registers, patches, blocks):
    x = torch.cat([cls_token, torch.stack([registers] * len(patches)), patches], dim=1)
    for block in list(blocks):
        x = block(x)
    keep = torch.arange(x.shape[1]) > len(registers)
    return x[:, 0], x[:, keep]


def with_registers__tile(cls_token, registers, patches, blocks):
    tokens = [cls_token, registers.tile(patches.shape[0], 1, 1), patches]
    out = torch.concat(tokens, dim=-2)
    for block in blocks:
        out = block(out.contiguous())
    return out[:, :1].flatten(1), out[:, 1:][:, len(registers) :]


# ------------------------------------------------------------------------------------------------ 13.10


def squeezed_places__plain(count, trained):
    return (torch.arange(count) + 0.5) * trained / count - 0.5


def squeezed_places__edges(count, trained):
    edges = torch.linspace(0, trained, count + 1)
    return (edges[:-1] + edges[1:]) / 2 - 0.5


def squeezed_places__linspace(count, trained):
    half = trained / count / 2
    return torch.linspace(half - 0.5, trained - half - 0.5, count)


def squeezed_places__loop(count, trained):
    places = []
    for patch in range(count):
        share = (2 * patch + 1) / (2 * count)
        places.append(share * trained - 1 / 2)
    return torch.tensor(places)


def squeezed_places__numpy(count, trained):
    return torch.from_numpy(np.arange(0.5, count) * (trained / count) - 0.5)


def squeezed_places__interpolated(count, trained):
    line = torch.arange(-0.5, trained + 0.5, dtype=torch.float64)[None, None]  # edges of the trained patches
    edges = torch.nn.functional.interpolate(line, count + 1, mode="linear", align_corners=True)[0, 0]
    return (edges[1:] + edges[:-1]) / 2


def squeezed_places__cumulative(count, trained):
    step = torch.full((count,), trained / count, dtype=torch.float64)
    return step.cumsum(0) - step / 2 - 0.5
