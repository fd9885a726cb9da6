"""What came after the plain Vision Transformer, one small class each, and `ModernViT`, made of them and of `layers`.

Each part is switched on alone by its entry in `ModernConfig`; with none of them a `ModernViT` is a `VisionTransformer`
to the bit. Shapes and letters are those of `layers`; P tokens of the N are patches, the others stand before them.
Parameter names are those of timm's `vision_transformer.py` and `eva.py`.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .layers import MLP, DropPath, MultiHeadAttention, PatchEmbedding, head_width
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

    `registers` is a number of register tokens, `layer_scale` the value at which LayerScale starts (None: there is
    none). `norm` is "layer" or "rms", `mlp` "gelu", "gelu_tanh" (SigLIP's approximation of it) or "swiglu". `rope` is
    "none", "axial" (places 0, 1, 2, ...) or "dinov3" (places from -1 to 1, whatever the image size), and
    `rope_temperature` the longest period over the shortest, nearly; `position` says what is added besides.
    `cls_position=False` leaves the class token without a position of its own.
    Raises `ValueError` for values that fit no model.
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
        expect(type(self.registers) is int and self.registers >= 0, "registers to be 0 or more", self.registers)
        starts = self.layer_scale is None or is_number(self.layer_scale)
        expect(starts, "layer_scale to be a number or None", self.layer_scale)
        for name, allowed in CHOICES.items():
            expect(getattr(self, name) in allowed, f"{name} to be one of {allowed}", getattr(self, name))
        warm = is_number(self.rope_temperature) and self.rope_temperature > 0
        expect(warm, "a rope_temperature above 0", self.rope_temperature)
        d = head_width(self.embed_dim, self.num_heads)
        expect(self.rope == "none" or d % 4 == 0, "heads of a width that is a multiple of 4, for rotary positions", d)


class RMSNorm(nn.Module):
    """Each token `(..., D)` over its root mean square, times `weight`; no mean is subtracted, no bias added.

    Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4.
    """

    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # 16 bits are too few for a sum of squares
        size = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()  # (..., 1)
        return (wide / size).to(x.dtype) * self.weight


NORMS = {"layer": partial(nn.LayerNorm, eps=1e-6), "rms": RMSNorm}


class LayerScale(nn.Module):
    """What a branch adds, times one learned number for each of the D: `(B, N, D) -> (B, N, D)`.

    It starts small, so that each block starts near the identity. Touvron et al. 2021 (CaiT), eq. 7.
    """

    def __init__(self, width, init_values=1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(init_values)))

    def forward(self, x):
        return x * self.gamma


class SwiGLU(nn.Module):
    """An MLP in which one half opens and closes the other, number by number: `(B, N, D) -> (B, N, D)`.

    Shazeer 2020, "GLU Variants Improve Transformer", eq. 6. It has three matrices where the MLP has two: with 2/3 of
    the hidden width (`mlp_ratio=8 / 3`) it has as many parameters.
    """

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

    Su et al. 2021 (RoFormer), eq. 15, once for each axis (Heo et al. 2024, eq. 6). Pair i of an axis turns by the place
    times `temperature ** (-i / (d / 4))`. "axial" counts places 0, 1, 2, ...; "dinov3" takes the patches' centres with
    the image's edges at -1 and 1, times 2 pi (Simeoni et al. 2025, 3.2), so that a larger image has the same range.
    """

    def __init__(self, head_dim, kind="axial", temperature=100.0):
        super().__init__()
        self.head_dim, self.kind, self.temperature = head_dim, kind, temperature

    def places(self, count, device=None):
        """Where the patches along one axis stand, `(count,)`."""
        places = torch.arange(count, device=device, dtype=torch.float32)
        return places if self.kind == "axial" else 2 * math.pi * (2 * (places + 0.5) / count - 1)

    def get_embed(self, shape, device=None):
        """Sines and cosines `(P, 2d)` for a grid of `shape` (rows, columns), row by row; each angle stands twice."""
        rows, columns = shape
        quarter = self.head_dim // 4
        frequencies = self.temperature ** (-torch.arange(quarter, device=device) / quarter)  # (d/4,)
        y, x = torch.meshgrid(self.places(rows, device), self.places(columns, device), indexing="ij")
        y = y.flatten()[:, None] * frequencies  # (P, d/4)
        x = x.flatten()[:, None] * frequencies  # (P, d/4)
        angles = torch.cat([y, x, y, x], dim=1)  # (P, d): number i and number i + d/2 are a pair
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (P, 2d)


def rotate(x, rope):
    """Turn the last P of the queries or keys `(B, H, N, d)` by `rope` `(P, 2d)`; those before have no place and stay.

    A pair (a, b) becomes (a cos - b sin, b cos + a sin). A product of two turned vectors depends on the difference of
    their places alone (Su et al. 2021, eq. 11).
    """
    sin, cos = rope.chunk(2, dim=-1)  # each (P, d)
    first, x = x[..., : -len(rope), :], x[..., -len(rope) :, :]
    a, b = x.chunk(2, dim=-1)
    turned = x * cos + torch.cat([-b, a], dim=-1) * sin  # (B, H, P, d)
    return torch.cat([first, turned.to(x.dtype)], dim=-2)


class ModernAttention(MultiHeadAttention):
    """`MultiHeadAttention` whose queries and keys can be normalised in each head, and turned by where they stand.

    The norms keep the scores from growing (Henry et al. 2020; Dehghani et al. 2023, ViT-22B). `rope` `(P, 2d)` is as
    for `rotate`; weights, shapes and errors are those of the plain class.
    """

    def __init__(self, embed_dim, num_heads, qk_norm=None):
        super().__init__(embed_dim, num_heads)
        self.q_norm = qk_norm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(self.head_dim) if qk_norm else nn.Identity()

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
        norm, scale = NORMS[c.norm], c.layer_scale
        self.norm1 = norm(D)
        self.attn = ModernAttention(D, c.num_heads, norm if c.qk_norm else None)
        self.ls1 = nn.Identity() if scale is None else LayerScale(D, scale)
        self.norm2 = norm(D)
        self.mlp = (SwiGLU if c.mlp == "swiglu" else MLP)(D, int(D * c.mlp_ratio), c.dropout)
        if c.mlp == "gelu_tanh":
            self.mlp.act = nn.GELU(approximate="tanh")
        self.ls2 = nn.Identity() if scale is None else LayerScale(D, scale)
        self.drop = nn.Dropout(c.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x, return_attention=False, rope=None):
        mixed = self.attn(self.norm1(x), return_attention, rope)
        mixed, weights = mixed if return_attention else (mixed, None)
        x = x + self.drop_path(self.drop(self.ls1(mixed)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return (x, weights) if return_attention else x


class ModernViT(VisionTransformer):
    """Images `(B, C, Y, X)` to logits `(B, num_classes)`, with the parts that a `ModernConfig` chooses.

    Tokens stand in timm's order: the class token, registers (Darcet et al. 2024, "Vision Transformers Need Registers":
    tokens without a place, for what is global, read by no head), then the patches. `forward_features`,
    `attention_maps`, `set_image_size` and errors are the plain model's.
    """

    def __init__(self, config):
        nn.Module.__init__(self)  # and not the plain model's, which makes plain blocks
        c = self.config = config
        self.patch_embed = PatchEmbedding(c.image_size, c.patch_size, c.in_channels, c.embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, c.embed_dim) * 0.02) if c.pool == "cls" else None
        self.pos_embed = position_embedding(c if c.cls_position else replace(c, pool="mean"))
        self.rope = None
        if c.rope != "none":
            self.rope = RotaryEmbedding(c.embed_dim // c.num_heads, c.rope, c.rope_temperature)
        self.pos_drop = nn.Dropout(c.dropout)
        rates = torch.linspace(0, c.drop_path, c.depth).tolist()
        self.blocks = nn.ModuleList(ModernBlock(c, rate) for rate in rates)
        self.norm = NORMS[c.norm](c.embed_dim)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        self.apply(init_weights)
        self.reg_token = nn.Parameter(torch.randn(1, c.registers, c.embed_dim) * 0.02) if c.registers else None

    @property
    def num_prefix_tokens(self):
        """How many tokens stand before the patches."""
        return (self.cls_token is not None) + self.config.registers

    def embed(self, images):
        x = self.patch_embed(images)  # (B, P, D)
        pos = self.pos_embed.to(x.dtype)
        x = x + pos[:, -x.shape[1] :]
        first = [
            token.expand(len(x), -1, -1).to(x.dtype) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        if pos.shape[1] > self.config.grid[0] * self.config.grid[1]:
            first[0] = first[0] + pos[:, :1]  # the class token's
        return self.pos_drop(torch.cat([*first, x], dim=1))  # (B, N, D)

    def angles(self, x):
        """What turns queries and keys, `(P, 2d)`, on the device of the tokens x; None without rotary positions."""
        return None if self.rope is None else self.rope.get_embed(self.patch_embed.grid_size, x.device)

    def forward_features(self, images):
        x = self.embed(images)  # (B, N, D)
        rope = self.angles(x)
        for block in self.blocks:
            x = block(x, rope=rope)
        return self.norm(x)  # (B, N, D)

    def forward_head(self, x):
        """From the normalised tokens `(B, N, D)` to the logits `(B, num_classes)`."""
        x = x[:, self.num_prefix_tokens :].mean(dim=1) if self.cls_token is None else x[:, 0]  # (B, D)
        return self.head(x)

    def forward(self, images):
        return self.forward_head(self.forward_features(images))

    @torch.no_grad()
    def attention_maps(self, images):
        x, maps = self.embed(images), []
        for block in self.blocks:
            x, weights = block(x, return_attention=True, rope=self.angles(x))
            maps.append(weights)
        return torch.stack(maps)  # (L, B, H, N, N)
