"""The Vision Transformer: `ViTConfig` says which one, `normalise` makes its input, `VisionTransformer` is it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from .layers import (
    EncoderBlock,
    PatchEmbedding,
    grid_size,
    head_width,
    image_sides,
    interpolate_positions,
    sinusoidal_positions,
)


def is_number(value):
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def expect(holds, what, found):
    if not holds:
        raise ValueError(f"expected {what}, found {found!r}")


@dataclass(frozen=True)
class ViTConfig:
    """Everything that decides a model's shape, and what its images and classes mean. The defaults are ViT-B/16.

    `image_size` is one side in pixels or `(rows, columns)`. `pool` is "cls" (a class token is added and read) or "mean"
    (the mean of the patch tokens is read). `position` is "learned", "sinusoidal" or "none". `dropout` and `drop_path`
    are probabilities; `drop_path` grows from 0 in the first block to this value in the last. `mean` and `std` normalise
    pixels on the [0, 1] scale, per channel. `classes` names the outputs, where names are known.
    `value_range` is `(low, high)` where pictures of more than 8 bits were trained on: the values that became 0 and 255.
    Raises `ValueError` for values that fit no model.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    in_channels: int = 3
    num_classes: int = 1000
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    drop_path: float = 0.0
    pool: str = "cls"
    position: str = "learned"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    classes: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None

    def __post_init__(self):
        for name in ("patch_size", "in_channels", "num_classes", "embed_dim", "depth", "num_heads"):
            value = getattr(self, name)
            expect(type(value) is int and value >= 1, f"{name} to be an integer of at least 1", value)
        sides = image_sides(self.image_size) if isinstance(self.image_size, (int, list, tuple)) else ()
        two_integers = len(sides) == 2 and all(type(side) is int for side in sides)
        expect(two_integers, "image_size to be an integer or (rows, columns)", self.image_size)
        grid_size(self.image_size, self.patch_size)
        head_width(self.embed_dim, self.num_heads)
        has_mlp = is_number(self.mlp_ratio) and self.embed_dim * self.mlp_ratio >= 1
        expect(has_mlp, "mlp_ratio to give an MLP of at least 1 number", self.mlp_ratio)
        for name in ("dropout", "drop_path"):
            value = getattr(self, name)
            expect(is_number(value) and 0.0 <= value < 1.0, f"{name} to be a probability in [0, 1)", value)
        for name, allowed in (("pool", ("cls", "mean")), ("position", ("learned", "sinusoidal", "none"))):
            expect(getattr(self, name) in allowed, f"{name} to be one of {allowed}", getattr(self, name))
        fits = self.position != "sinusoidal" or self.embed_dim % 4 == 0
        expect(fits, "embed_dim to be a multiple of 4 for sinusoidal positions", self.embed_dim)
        for name in ("mean", "std"):
            values = getattr(self, name)
            expect(isinstance(values, (list, tuple)) and all(map(is_number, values)), f"numbers in {name}", values)
            expect(len(values) == self.in_channels, f"{self.in_channels} values in {name}", values)
        expect(min(self.std) > 0, "std above 0", self.std)
        names = self.classes
        expect(
            isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names), "classes to be names", names
        )
        expect(len(names) in (0, self.num_classes), f"{self.num_classes} class names", len(names))
        values = (0, 0) if self.value_range is None else self.value_range
        two_numbers = isinstance(values, (list, tuple)) and len(values) == 2 and all(map(is_number, values))
        expect(two_numbers and values[0] <= values[1], "value_range to be (low, high) or None", self.value_range)

    @property
    def grid(self):
        """`(rows, columns)` of patches."""
        return grid_size(self.image_size, self.patch_size)


def normalise(images, config):
    """uint8 images `(B, C, Y, X)` to floats: divided by 255, minus `config.mean`, over `config.std`."""
    mean = torch.tensor(config.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(config.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def init_weights(module):
    """Linear layers start small (standard deviation 0.02) and without bias, as in BERT and timm."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def position_embedding(config):
    """Position embedding `(1, N, D)`, one row more with a class token; trained only where positions are learned."""
    rows, columns = config.grid
    N = rows * columns
    cls_rows = 1 if config.pool == "cls" else 0
    pos = torch.zeros(1, cls_rows + N, config.embed_dim)
    if config.position == "learned":
        nn.init.normal_(pos, std=0.02)
    if config.position == "sinusoidal":
        pos[:, cls_rows:] = sinusoidal_positions(config.embed_dim, config.grid)
    return nn.Parameter(pos, requires_grad=config.position == "learned")


class VisionTransformer(nn.Module):
    """Images `(B, C, Y, X)` to logits `(B, num_classes)` (Dosovitskiy et al. 2021, eq. 1 to 4).

    `attention_maps(images)` gives the attention weights of every block, `(L, B, H, N, N)`; `forward_features(images)`
    all tokens after the last norm, `(B, N, D)`.
    Raises `ValueError` for images of another rank, channel count or size than the config says.
    """

    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.patch_embed = PatchEmbedding(c.image_size, c.patch_size, c.in_channels, c.embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, c.embed_dim) * 0.02) if c.pool == "cls" else None
        self.pos_embed = position_embedding(c)
        self.pos_drop = nn.Dropout(c.dropout)
        rates = torch.linspace(0, c.drop_path, c.depth).tolist()  # more stochastic depth deeper down
        self.blocks = nn.ModuleList(
            EncoderBlock(c.embed_dim, c.num_heads, c.mlp_ratio, c.dropout, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(c.embed_dim, eps=1e-6)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        self.apply(init_weights)

    def embed(self, images):
        x = self.patch_embed(images)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)  # (B, 1 + N, D)
        return self.pos_drop(x + self.pos_embed.to(x.dtype))  # 16-bit patches stay 16-bit tokens

    def forward_features(self, images):
        x = self.embed(images)  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # (B, N, D)

    def forward(self, images):
        x = self.forward_features(images)
        x = x.mean(dim=1) if self.cls_token is None else x[:, 0]  # (B, D)
        return self.head(x)  # (B, num_classes)

    @torch.no_grad()
    def attention_maps(self, images):
        x, maps = self.embed(images), []
        for block in self.blocks:
            x, weights = block(x, return_attention=True)
            maps.append(weights)
        return torch.stack(maps)  # (L, B, H, N, N)


def set_image_size(model, image_size):
    """Make `model` take images of another size, in place: its positions are interpolated to the new grid.

    Raises `ValueError` where the patch size does not divide the new size. Dosovitskiy et al. 2021, 3.2.
    """
    config = replace(model.config, image_size=image_size)
    pos = interpolate_positions(model.pos_embed.data, model.config.grid, config.grid)
    model.pos_embed = nn.Parameter(pos, requires_grad=model.pos_embed.requires_grad)
    model.patch_embed.image_size, model.patch_embed.grid_size = image_sides(image_size), config.grid
    model.config = config
    return model
