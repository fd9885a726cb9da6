"""What came after the plain Vision Transformer, one small class each, and `ModernViT`, made of them and of `layers`.

Each part is switched on alone by its entry in `ModernConfig`; with none, a `ModernViT` is a `VisionTransformer` to the
bit. Letters are those of `layers`; the last P of the N tokens are patches. Parameter names are timm's.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .layers import MLP, DropPath, MultiHeadAttention, PatchEmbedding
from .model import VisionTransformer, ViTConfig, expect, init_weights, is_number, position_embedding

CHOICES = {
    "norm": ("layer", "rms"),
    "mlp": ("gelu", "gelu_tanh", "swiglu"),
    "rope": ("none", "axial", "dinov3"),
    "qk_norm": (False, True),
    "cls_position": (False, True),
}


@dataclass(frozen=True)
class ModernConfig(ViTConfig):
    """A `ViTConfig` and a switch for each modern part; the defaults are the plain model.

    `layer_scale` is where LayerScale starts (None: nowhere). `norm` is "layer" or "rms", `mlp` "gelu", "gelu_tanh"
    (SigLIP's approximation) or "swiglu". `rope` is "none", "axial" or "dinov3" (see `RotaryEmbedding`); `position` says
    what is added besides, to the class token too with `cls_position`. Raises `ValueError` for what fits no model.
    """

    registers: int = 0
    layer_scale: float | None = None
    norm: str = "layer"
    qk_norm: bool = False
    mlp: str = "gelu"
    rope: str = "none"
    rope_temperature: float = 100.0
    cls_position: bool = True

    def __post_init__(self):
        super().__post_init__()
        ls, temperature = self.layer_scale, self.rope_temperature
        expect(type(self.registers) is int and self.registers >= 0, "registers to be 0 or more", self.registers)
        expect(ls is None or (is_number(ls) and type(ls) is not bool), "layer_scale to be a number or None", ls)
        expect(is_number(temperature) and temperature > 0, "a rope_temperature above 0", temperature)
        for name, allowed in CHOICES.items():
            expect(getattr(self, name) in allowed, f"{name} to be one of {allowed}", getattr(self, name))
        d = self.embed_dim // self.num_heads
        expect(self.rope == "none" or d % 4 == 0, "heads of a width that is a multiple of 4, for rotary positions", d)


class RMSNorm(nn.Module):
    """Each token `(..., D)` over its root mean square, times `weight` (Zhang and Sennrich 2019, eq. 4)."""

    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # 16 bits are too few for a sum of squares
        size = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()  # (..., 1)
        return (wide / size).to(x.dtype) * self.weight


NORMS = {"layer": partial(nn.LayerNorm, eps=1e-6), "rms": RMSNorm}


class LayerScale(nn.Module):
    """What a branch adds to `(B, N, D)`, times D learned numbers that start small (Touvron et al. 2021, CaiT)."""

    def __init__(self, width, init_values=1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(init_values)))

    def forward(self, x):
        return x * self.gamma


class SwiGLU(nn.Module):
    """An MLP whose hidden numbers pass a gate (Shazeer 2020, eq. 6); `mlp_ratio=8 / 3` costs as much as MLP's 4."""

    def __init__(self, embed_dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.fc1_g = nn.Linear(embed_dim, hidden_dim)  # the gate
        self.fc1_x = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop(F.silu(self.fc1_g(x)) * self.fc1_x(x))  # (B, N, hidden)
        return self.drop(self.fc2(x))  # (B, N, D)


class RotaryEmbedding(nn.Module):
    """The angles by which each patch's queries and keys are turned: half of the pairs for its row, half for its column.

    Su et al. 2021, eq. 15, for each axis (Heo et al. 2024): pair i turns by place times `temperature ** (-4 i / d)`.
    The places are 0, 1, 2, ... ("axial") or, of the same range at each size, the patches' centres where the image ends
    at -2 pi and 2 pi ("dinov3": Simeoni et al. 2025, 3.2).
    """

    def __init__(self, head_dim, kind="axial", temperature=100.0):
        super().__init__()
        self.head_dim, self.kind, self.temperature = head_dim, kind, temperature

    def get_embed(self, shape, device=None):
        """Sines and cosines `(P, 2d)` for a grid of `shape` (rows, columns), row by row; each angle stands twice."""
        y, x = (torch.arange(count, device=device, dtype=torch.float32) for count in shape)
        if self.kind == "dinov3":
            y, x = (2 * math.pi * (2 * (place + 0.5) / len(place) - 1) for place in (y, x))
        i = torch.arange(self.head_dim // 4, device=device)
        frequencies = self.temperature ** (-4 * i / self.head_dim)  # (d/4,)
        angles = torch.cartesian_prod(y, x)[:, :, None] * frequencies  # (P, 2, d/4)
        angles = angles.flatten(1).repeat(1, 2)  # (P, d): numbers i and i + d/2 of a vector are a pair
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (P, 2d)


def rotate(x, rope):
    """Turn the last P of the queries or keys `(B, H, N, d)` by `rope` `(P, 2d)`; those before have no place and stay.

    A pair (a, b) becomes (a cos - b sin, b cos + a sin): products then depend on differences of places alone.
    """
    sin, cos = rope.chunk(2, dim=-1)  # each (P, d)
    first, x = x[..., : -len(rope), :], x[..., -len(rope) :, :]
    a, b = x.chunk(2, dim=-1)
    turned = x * cos + torch.cat([-b, a], dim=-1) * sin  # (B, H, P, d)
    return torch.cat([first, turned.to(x.dtype)], dim=-2)


class ModernAttention(MultiHeadAttention):
    """`MultiHeadAttention` with queries and keys normalised in each head (Henry et al. 2020) and turned by `rope`.

    `qk_norm` makes each norm from a width; `rope` `(P, 2d)` is as for `rotate`; all else is the plain class's.
    """

    def __init__(self, embed_dim, num_heads, qk_norm=nn.Identity):
        super().__init__(embed_dim, num_heads)
        self.q_norm, self.k_norm = qk_norm(self.head_dim), qk_norm(self.head_dim)

    def forward(self, x, return_attention=False, rope=None):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, N, d)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if return_attention or (self.training and x.device.type == "cpu"):
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)  # (B, H, N, N)
            weights = scores.softmax(dim=-1)
            x = weights @ v  # (B, H, N, d)
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, D)
        return (x, weights) if return_attention else x


class ModernBlock(nn.Module):
    """`EncoderBlock` with the parts that a `ModernConfig` chooses: tokens `(B, N, D)` in and out, as there."""

    def __init__(self, config, drop_path=0.0):
        super().__init__()
        c, D = config, config.embed_dim
        norm, scale = NORMS[c.norm], nn.Identity if c.layer_scale is None else LayerScale
        self.norm1 = norm(D)
        self.attn = ModernAttention(D, c.num_heads, norm if c.qk_norm else nn.Identity)
        self.ls1 = scale(D, c.layer_scale)
        self.norm2 = norm(D)
        self.mlp = (SwiGLU if c.mlp == "swiglu" else MLP)(D, int(D * c.mlp_ratio), c.dropout)
        if c.mlp == "gelu_tanh":
            self.mlp.act = nn.GELU(approximate="tanh")
        self.ls2 = scale(D, c.layer_scale)
        self.drop, self.drop_path = nn.Dropout(c.dropout), DropPath(drop_path)

    def forward(self, x, return_attention=False, rope=None):
        mixed = self.attn(self.norm1(x), return_attention, rope)
        mixed, weights = mixed if return_attention else (mixed, None)
        x = x + self.drop_path(self.drop(self.ls1(mixed)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return (x, weights) if return_attention else x


class ModernViT(VisionTransformer):
    """Images `(B, C, Y, X)` to logits `(B, num_classes)`, with the parts that a `ModernConfig` chooses.

    Tokens stand in timm's order: the class token, registers (Darcet et al. 2024: tokens without a place, for what is
    global, read by no head), then the patches. `forward_features`, `attention_maps` and errors are the plain model's.
    """

    def __init__(self, config):
        nn.Module.__init__(self)  # and not the plain model's, which makes plain blocks
        c = self.config = config
        self.num_prefix_tokens = (c.pool == "cls") + c.registers  # before the patches
        self.patch_embed = PatchEmbedding(c.image_size, c.patch_size, c.in_channels, c.embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, c.embed_dim) * 0.02) if c.pool == "cls" else None
        self.pos_embed = position_embedding(c if c.cls_position else replace(c, pool="mean"))
        turns = RotaryEmbedding(c.embed_dim // c.num_heads, c.rope, c.rope_temperature)
        self.rope = turns if c.rope != "none" else None
        self.pos_drop = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(ModernBlock(c, rate) for rate in torch.linspace(0, c.drop_path, c.depth).tolist())
        self.norm = NORMS[c.norm](c.embed_dim)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        self.apply(init_weights)
        self.reg_token = nn.Parameter(torch.randn(1, c.registers, c.embed_dim) * 0.02) if c.registers else None

    def embed(self, images):
        x = self.patch_embed(images)  # (B, P, D)
        B, P, _ = x.shape
        pos = self.pos_embed.to(x.dtype)
        tokens = [x + pos[:, -P:]]
        if self.reg_token is not None:
            tokens = [self.reg_token.to(x.dtype).expand(B, -1, -1), *tokens]
        if self.cls_token is not None:
            own = pos[:, :-P].sum(dim=1, keepdim=True)  # (1, 1, D): 0 where the class token has no position
            tokens = [(self.cls_token.to(x.dtype) + own).expand(B, -1, -1), *tokens]
        return self.pos_drop(torch.cat(tokens, dim=1))  # (B, N, D)

    def angles(self, x):
        """What turns queries and keys of the tokens x, `(P, 2d)`, or of what training left of them; or None."""
        if self.rope is None:
            return None
        rope = self.rope.get_embed(self.patch_embed.grid_size, x.device)
        kept = getattr(self.pos_drop, "kept", None)  # training.augment.PatchDropout says which tokens
        return rope if kept is None else rope[kept[self.num_prefix_tokens :] - self.num_prefix_tokens]

    def forward_features(self, images):
        x = self.embed(images)  # (B, N, D)
        rope = self.angles(x)
        for block in self.blocks:
            x = block(x, rope=rope)
        return self.norm(x)  # (B, N, D)

    def forward_head(self, x):
        """From the normalised tokens `(B, N, D)` to the logits `(B, num_classes)`."""
        return self.head(x[:, self.num_prefix_tokens :].mean(dim=1) if self.cls_token is None else x[:, 0])

    def forward(self, images):
        return self.forward_head(self.forward_features(images))

    @torch.no_grad()
    def attention_maps(self, images):
        x, maps = self.embed(images), []
        for block in self.blocks:
            x, weights = block(x, return_attention=True, rope=self.angles(x))
            maps.append(weights)
        return torch.stack(maps)  # (L, B, H, N, N)
