"""The three patients of notebook 07: sound Vision Transformers whose attention is ill, each in its own way.

If you have not done exercise 7.5 yet, read no further.
"""

import torch

from .layers import MultiHeadAttention
from .model import VisionTransformer, init_weights


class SickAttention(MultiHeadAttention):
    """`MultiHeadAttention` with the weights `(B, H, N, N)` that `attend` makes of queries and keys `(B, H, N, d)`."""

    def forward(self, x, return_attention=False):
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)  # (B, H, N, d)
        weights = self.attend(q, k)
        x = self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))  # (B, N, D)
        return (x, weights) if return_attention else x


class OnlyItself(SickAttention):
    """Each token attends to itself alone."""

    def attend(self, q, k):
        B, H, N, _ = q.shape
        return torch.eye(N, device=q.device, dtype=q.dtype).expand(B, H, N, N)


class FirstHalf(SickAttention):
    """No token attends to the second half of the patches."""

    def attend(self, q, k):
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        scores[..., 1 + scores.shape[-1] // 2 :] = -torch.inf
        return scores.softmax(dim=-1)


class NotScaled(SickAttention):
    """The scores are not divided by the square root of a head's width."""

    def attend(self, q, k):
        return (q @ k.transpose(-2, -1)).softmax(dim=-1)


def sick(attention):
    """A function that makes a `VisionTransformer` of a config, with another attention in every block."""

    def make(config):
        model = VisionTransformer(config)
        for block in model.blocks:
            block.attn = attention(config.embed_dim, config.num_heads).apply(init_weights)
        return model

    return make


patient_a, patient_b, patient_c = sick(FirstHalf), sick(NotScaled), sick(OnlyItself)
