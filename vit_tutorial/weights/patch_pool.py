"""A modern ViT whose head reads its patches in one of the ways of timm's models: for weights that others trained."""

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import MLP
from ..modern import NORMS, ModernViT

READS = ("norm first", "norm last", "map")


class AttentionPool(nn.Module):
    """One learned query looks at all patch tokens `(B, P, D)` and gives one vector `(B, D)`: SigLIP's pooling.

    Zhai et al. 2022, "Scaling Vision Transformers" (MAP). An MLP on a residual branch follows, with the model's `act`.
    """

    def __init__(self, config, act):
        super().__init__()
        D, self.num_heads = config.embed_dim, config.num_heads
        self.latent = nn.Parameter(torch.randn(1, 1, D) * D**-0.5)
        self.q = nn.Linear(D, D)
        self.kv = nn.Linear(D, 2 * D)
        self.proj = nn.Linear(D, D)
        self.norm = NORMS[config.norm](D)
        self.mlp = MLP(D, int(D * config.mlp_ratio))
        self.mlp.act = act

    def forward(self, x):
        q = self.q(self.latent.expand(x.shape[0], -1, -1))  # (B, 1, D)
        parts = (q, *self.kv(x).chunk(2, dim=-1))
        q, k, v = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts)  # (B, H, 1 or P, d)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, 1, D)
        x = self.proj(x)
        return (x + self.mlp(self.norm(x)))[:, 0]


class PatchPoolViT(ModernViT):
    """A `ModernViT` whose head reads the patch tokens, whether or not there is a class token.

    `reads` is "norm first" (the mean of normalised tokens), "norm last" (their mean, then normalised; features are then
    not) or "map" (attention pooling). Raises `ValueError` for another, and for attention pooling beside SwiGLU.
    """

    def __init__(self, config, reads):
        super().__init__(config)
        if reads not in READS or (reads == "map" and config.mlp == "swiglu"):
            raise ValueError(f"expected a head that reads one of {READS}, the last without SwiGLU, found {reads!r}")
        self.reads = reads
        self.attn_pool = AttentionPool(config, self.blocks[0].mlp.act) if reads == "map" else None

    def encode(self, images):
        """The tokens after the last block, `(B, N, D)`, not normalised."""
        x = self.embed(images)
        rope = self.angles(x)
        for block in self.blocks:
            x = block(x, rope=rope)
        return x

    def forward_features(self, images):
        x = self.encode(images)
        return x if self.reads == "norm last" else self.norm(x)  # (B, N, D)

    def read(self, x):
        """From the tokens after the last block `(B, N, D)` to the logits `(B, num_classes)`."""
        if self.reads == "norm last":
            return self.head(self.norm(x[:, self.num_prefix_tokens :].mean(dim=1)))
        x = self.norm(x)[:, self.num_prefix_tokens :]  # (B, P, D)
        return self.head(x.mean(dim=1) if self.attn_pool is None else self.attn_pool(x))

    def forward(self, images):
        return self.read(self.encode(images))
