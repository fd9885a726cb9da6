"""From attention weights to maps of an image: where does a token look, directly and through all layers?"""

import torch

from .recording import check_count, fitted, watched_attention
from .tokens import CLASS, knowing, tokens_of

FUSE = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


def as_layer(weights, fuse="mean", discard=0.0):
    """One layer as rollout sees it: weights `(B, H, N, N)` -> `(B, N, N)`, half attention and half residual."""
    if fuse not in FUSE or not 0.0 <= discard < 1.0:
        raise ValueError(
            f"expected fuse to be one of {tuple(FUSE)} and discard in [0, 1), found {fuse!r} and {discard!r}"
        )
    weights = FUSE[fuse](weights, dim=1)  # (B, N, N)
    N = weights.shape[-1]
    if discard:
        kept = weights.topk(N - int(discard * N), dim=-1)
        weights = torch.zeros_like(weights).scatter(-1, kept.indices, kept.values)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    layer = weights + torch.eye(N, device=weights.device, dtype=weights.dtype)
    return layer / layer.sum(dim=-1, keepdim=True)  # by 2, or by 1 where heads left a row empty


def attention_rollout(attention, fuse="mean", discard=0.0):
    """How much of each input token reaches each output token: `(L, B, H, N, N)` -> `(B, N, N)`, rows sum to 1.

    Each layer passes on half of what a token was (the residual connection) and half of what it attends to; the layers
    are multiplied (Abnar and Zuidema 2020, section 3). `fuse` makes one map of the heads' maps: "mean", "max" or "min".
    `discard` leaves out that share of the weights in each row, the smallest; what stays is scaled to sum to 1. Raises
    `ValueError` for another `fuse` or a share outside [0, 1).
    """
    result = as_layer(attention[0], fuse, discard)
    for weights in attention[1:]:
        result = as_layer(weights, fuse, discard) @ result
    return result


@torch.no_grad()
def rollout(model, images, fuse="mean", discard=0.0):
    """`attention_rollout` of `model` on images `(B, C, Y, X)`, `(B, N, N)`, folded in while the forward pass runs.

    One layer's attention weights are in memory at a time, whatever the depth. Images are normalised as for
    `model(images)`. Raises `ValueError` as `attention_rollout` and `record` do.
    """
    result, layers = None, 0

    def fold(weights):
        nonlocal result, layers
        exact = weights.float() if weights.dtype.itemsize < 4 else weights  # products of 16 bits would drift
        layer = as_layer(exact, fuse, discard)
        result, layers = layer if result is None else layer @ result, layers + 1
        return weights

    with watched_attention(model, fold) as seen:
        seen(fitted(seen, images))
        check_count(seen, layers)
        return knowing(result, tokens_of(seen, images.shape[2:]))


def relevance(attention, gradients):
    """How much each input token matters to the target, for each output token: `(L, B, H, N, N)` twice -> `(B, N, N)`.

    Chefer et al. 2021 ("Generic Attention-model Explainability", eq. 5 and 6): R starts as the identity, and each layer
    adds `mean over heads (relu(gradients * attention)) @ R`. `record(model, images, target)` returns both arguments.
    Raises `ValueError` where their shapes differ.
    """
    if attention.ndim != 5 or attention.shape != gradients.shape:
        raise ValueError(
            f"expected attention and gradients of one shape (L, B, H, N, N), found {tuple(attention.shape)} "
            f"and {tuple(gradients.shape)}; record(model, images, target) returns both"
        )
    B, N = attention.shape[1], attention.shape[-1]
    result = torch.eye(N, device=attention.device, dtype=attention.dtype).repeat(B, 1, 1)  # (B, N, N)
    for weights, gradient in zip(attention, gradients, strict=True):
        result = result + (weights * gradient).relu().mean(dim=1) @ result
    return result


def prefix_tokens(N, grid):
    """How many of N tokens are no patches: the class token, and registers after it. Raises `ValueError` if negative."""
    prefix = N - grid[0] * grid[1]
    if prefix < 0:
        raise ValueError(
            f"expected at least {grid[0] * grid[1]} tokens for a grid of {grid[0]} x {grid[1]} patches, found {N}; "
            "pass the grid as (rows, columns), such as model.config.grid"
        )
    return prefix


def known_tokens(weights):
    """The `Tokens` of weights that know them and still have one row and column for each, else None."""
    tokens = getattr(weights, "tokens", None)
    return tokens if tokens is not None and tokens.count == weights.shape[-1] else None


def class_map(weights, grid, class_token=None):
    """What the head reads from: weights `(..., N, N)` -> the class token's on the patches, `(..., rows, columns)`.

    Where the head reads the patches, the mean of their rows. `record` and `rollout` give weights that know which of
    the two holds; `class_token=True` or `False` decides otherwise. Of plain weights a single token besides the patches
    is taken for the class token; of several, `class_token` must say whether the first one is, or whether all are
    registers (`model.cls_token is not None`). Raises `ValueError` where it does not, and where N tokens are fewer than
    the grid's patches.
    """
    prefix, tokens = prefix_tokens(weights.shape[-1], grid), known_tokens(weights)
    if class_token is None and tokens is not None:
        class_token = tokens.reads == CLASS
    if prefix > 1 and class_token is None:
        raise ValueError(
            f"expected class_token=True or False for {prefix} tokens besides the patches, found neither: is the first "
            "one of them the class token, or are all of them registers? model.cls_token is not None tells"
        )
    reads_class_token = prefix > 0 and class_token is not False
    row = weights[..., 0, :] if reads_class_token else weights[..., prefix:, :].mean(dim=-2)  # (..., N)
    return row[..., prefix:].unflatten(-1, tuple(grid))  # (..., rows, columns)


def head_maps(attention, grid, mass=None, class_token=None):
    """Where the class token looks in each head: `(L, B, H, N, N)` -> `(L, B, H, rows, columns)`.

    With `mass`, a share in (0, 1], a boolean mask instead: the fewest patches that hold that share of the attention on
    patches. As Caron et al. 2021 (DINO) show it. `class_token` is as for `class_map`. Raises `ValueError` for another
    share, or where there is no class token.
    """
    tokens = known_tokens(attention)
    if class_token is None and tokens is not None:
        class_token = CLASS in tokens.names  # whatever the head reads
    if not prefix_tokens(attention.shape[-1], grid) or class_token is False:
        raise ValueError(
            f"expected a class token, found {attention.shape[-1]} tokens, all of them patches or registers"
        )
    maps = class_map(attention, grid, class_token)
    if mass is None:
        return maps
    if not 0.0 < mass <= 1.0:
        raise ValueError(f"expected mass to be a share in (0, 1], found {mass!r}")
    values, order = maps.flatten(-2).double().sort(dim=-1, descending=True)
    values = values / values.sum(dim=-1, keepdim=True)
    missing = mass - (values.cumsum(dim=-1) - values)  # what the patches before this one leave to be held
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, missing > 1e-9).unflatten(-1, tuple(grid))


def patch_distances(grid, patch_size):
    """Pixels between the centres of any two patches, `(rows * columns, rows * columns)`."""
    rows, columns = grid
    centres = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double() * patch_size
    return torch.cdist(centres, centres)


def attention_distance(attention, grid, patch_size):
    """How far each head looks, in pixels: `(L, B, H, N, N)` -> `(L, B, H)`.

    The distance between the centres of the patch that asks and the patch that it looks at, averaged with the attention
    weights over the patches looked at, then over those that ask; class token and registers are left out (Dosovitskiy et
    al. 2021, figure 7, right). Raises `ValueError` where N tokens are fewer than the grid's patches.
    """
    prefix = prefix_tokens(attention.shape[-1], grid)
    weights = attention[..., prefix:, prefix:]  # (L, B, H, patches, patches)
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return (weights * patch_distances(grid, patch_size).to(weights)).sum(dim=-1).mean(dim=-1)
