"""The parts of a Vision Transformer, each small enough to read at a glance.

Shapes: images are `(B, C, Y, X)`; tokens are `(B, N, D)` with B images in the batch, N tokens and D numbers per token;
H heads of width d = D / H; patches of P x P pixels.

Papers: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (ViT); Vaswani et al. 2017, "Attention Is All You
Need".
Parameter names are those of timm's `vision_transformer.py`.
"""

import torch
import torch.nn.functional as F
from torch import nn


def image_sides(image_size):
    """`(rows, columns)` in pixels of an image given as one side or as a pair."""
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)


def grid_size(image_size, patch_size):
    """Rows and columns of patches in an image: `224, 16 -> (14, 14)`.

    Raises `ValueError` where the patch size is not a positive integer that divides both sides of the image.
    """
    Y, X = image_sides(image_size)
    if not isinstance(patch_size, int) or patch_size < 1:
        raise ValueError(f"expected a patch size of at least 1 pixel, found {patch_size!r}")
    if Y < patch_size or X < patch_size or Y % patch_size or X % patch_size:
        raise ValueError(
            f"expected an image whose sides are multiples of the patch size {patch_size}, found {Y} x {X}; "
            f"resize or crop it to {max(Y // patch_size, 1) * patch_size} x {max(X // patch_size, 1) * patch_size}"
        )
    return Y // patch_size, X // patch_size


def check_images(images, in_channels=None, image_size=None):
    """Raise `ValueError` unless `images` is a batch `(B, C, Y, X)` with these channels and this size."""
    if images.ndim != 4:
        hint = "; add the batch axis with images[None]" if images.ndim == 3 else ""
        raise ValueError(f"expected a batch of images (B, C, Y, X), found shape {tuple(images.shape)}{hint}")
    B, C, Y, X = images.shape
    if in_channels is not None and C != in_channels:
        hint = "; move the channels forward with images.permute(0, 3, 1, 2)" if X == in_channels else ""
        raise ValueError(f"expected {in_channels} channels, found {C} in shape {(B, C, Y, X)}{hint}")
    if image_size is not None and (Y, X) != image_size:
        raise ValueError(
            f"expected images of {image_size[0]} x {image_size[1]} pixels, found {Y} x {X}; resize the images, "
            f"or the model with vit_tutorial.set_image_size(model, ({Y}, {X}))"
        )


def patchify(images, patch_size):
    """Cut images `(B, C, Y, X)` into patches `(B, N, C*P*P)`, row by row, each flattened channel first.

    Raises `ValueError` for a wrong rank or a patch size that does not divide the image. Dosovitskiy et al. 2021, 3.1.
    """
    check_images(images)
    B, C, Y, X = images.shape
    P = patch_size
    rows, columns = grid_size((Y, X), P)
    x = images.reshape(B, C, rows, P, columns, P)  # (B, C, rows, P, columns, P)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, P, P)
    return x.reshape(B, rows * columns, C * P * P)  # (B, N, C*P*P)


def unpatchify(tokens, patch_size, image_size):
    """Put patches `(B, N, C*P*P)` back together into images `(B, C, Y, X)`: the inverse of `patchify`.

    Raises `ValueError` where the tokens cannot fill an image of that size.
    """
    P = patch_size
    rows, columns = grid_size(image_size, P)
    if tokens.ndim != 3 or tokens.shape[1] != rows * columns or tokens.shape[2] % (P * P):
        raise ValueError(
            f"expected patches (B, {rows * columns}, C*{P * P}) for an image of size {image_size}, "
            f"found shape {tuple(tokens.shape)}; drop any class token first"
        )
    B, C = len(tokens), tokens.shape[2] // (P * P)
    x = tokens.reshape(B, rows, columns, C, P, P)  # (B, rows, columns, C, P, P)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, P, columns, P)
    return x.reshape(B, C, rows * P, columns * P)  # (B, C, Y, X)


class PatchEmbedding(nn.Module):
    """Images `(B, C, Y, X)` to tokens `(B, N, D)`: every patch times one shared matrix (Dosovitskiy 2021, eq. 1).

    `proj` holds the matrix in the shape of a convolution whose stride is its kernel size, as other libraries do. It is
    the same sum, and the product of flat patches trains faster: on a CPU the convolution's backward pass is slow.
    Raises `ValueError` for images of another rank, channel count or size than the layer was made for.
    """

    def __init__(self, image_size=224, patch_size=16, in_channels=3, embed_dim=768):
        super().__init__()
        self.image_size = image_sides(image_size)
        self.grid_size = grid_size(image_size, patch_size)
        self.in_channels = in_channels
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images):
        check_images(images, self.in_channels, self.image_size)
        patches = patchify(images, self.proj.stride[0])  # (B, N, C*P*P)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)  # (B, N, D)


def sinusoidal_positions(embed_dim, grid):
    """Fixed 2-D position embedding `(1, N, D)`: D/4 sines and cosines of the column, then as many of the row.

    Vaswani et al. 2017, 3.5, once for each axis, as in MoCo v3 (Chen et al. 2021) and MAE (He et al. 2022).
    Raises `ValueError` where D is not a multiple of 4.
    """
    if embed_dim % 4:
        raise ValueError(f"expected a width that is a multiple of 4 (sine and cosine for 2 axes), found {embed_dim}")
    rows, columns = grid
    frequencies = 10000 ** -(torch.arange(embed_dim // 4) / (embed_dim // 4))  # (D/4,)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y = y.flatten()[:, None] * frequencies  # (N, D/4)
    x = x.flatten()[:, None] * frequencies  # (N, D/4)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]  # (1, N, D)


def interpolate_positions(pos_embed, old_grid, new_grid):
    """Resample positions `(1, N, D)` from one grid of patches to another, class-token position kept.

    Bicubic with antialiasing, the same numbers as timm's `resample_abs_pos_embed`. A leading position beyond the grid
    belongs to the class token and is passed through. Raises `ValueError` where N does not fit the old grid.
    """
    rows, columns = old_grid
    extra = pos_embed.shape[1] - rows * columns
    if extra not in (0, 1):
        raise ValueError(
            f"expected {rows * columns} positions (one more with a class token) for a grid of {rows} x {columns}, "
            f"found {pos_embed.shape[1]}"
        )
    cls_pos, grid_pos = pos_embed[:, :extra], pos_embed[:, extra:]
    x = grid_pos.float().reshape(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    x = F.interpolate(x, size=tuple(new_grid), mode="bicubic", antialias=True)
    x = x.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)  # (1, N_new, D)
    return torch.cat([cls_pos, x], dim=1)


def head_width(embed_dim, num_heads):
    """Width d of one head. Raises `ValueError` unless the heads divide the width."""
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(
            f"expected a number of heads that divides the width {embed_dim}, found {num_heads}; "
            f"choose one of {[h for h in range(1, 17) if embed_dim % h == 0]}"
        )
    return embed_dim // num_heads


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention on tokens `(B, N, D)` (Vaswani et al. 2017, eq. 1 and 3.2.2).

    With `return_attention=True` also the attention weights `(B, H, N, N)` that were used: row i says how much token i
    takes from each token, and sums to 1.
    Where nobody asks for the weights, PyTorch's fused function computes the same without keeping them; in training on
    a CPU it may be slower (notebook 11). Raises `ValueError` where H does not divide D.
    """

    def __init__(self, embed_dim=768, num_heads=12):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_width(embed_dim, num_heads)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x, return_attention=False):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, N, d)
        if return_attention or (self.training and x.device.type == "cpu"):
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)  # (B, H, N, N)
            weights = scores.softmax(dim=-1)  # each row sums to 1
            x = weights @ v  # (B, H, N, d)
        else:
            x = F.scaled_dot_product_attention(q, k, v)  # the same in one step, weights not kept
        x = self.proj(x.transpose(1, 2).flatten(2))  # heads side by side: (B, N, D)
        return (x, weights) if return_attention else x


class MLP(nn.Module):
    """Two linear layers with a GELU between, on each token alone: `(B, N, D) -> (B, N, D)`."""

    def __init__(self, embed_dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop(self.act(self.fc1(x)))  # (B, N, hidden)
        return self.drop(self.fc2(x))  # (B, N, D)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a whole branch is left out for some images of the batch.

    The branches that stay are divided by the probability of staying, so that the mean does not change.
    """

    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.rate  # one decision per image
        return x * keep / (1.0 - self.rate)


class EncoderBlock(nn.Module):
    """Pre-norm encoder block: attention, then MLP, each on a residual branch (Dosovitskiy et al. 2021, eq. 2 and 3).

    Tokens `(B, N, D)` in and out; with `return_attention=True` also the attention weights `(B, H, N, N)`.
    """

    def __init__(self, embed_dim, num_heads, mlp_ratio=4.0, dropout=0.0, drop_path=0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = MultiHeadAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, int(embed_dim * mlp_ratio), dropout)
        self.drop = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x, return_attention=False):
        mixed = self.attn(self.norm1(x), return_attention)
        mixed, weights = mixed if return_attention else (mixed, None)
        x = x + self.drop_path(self.drop(mixed))  # tokens exchange
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # each token alone
        return (x, weights) if return_attention else x
