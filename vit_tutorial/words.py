"""Pictures and words: a text encoder beside a ViT, and the losses that bring both together (CLIP, SigLIP)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .layers import EncoderBlock


class Tokenizer:
    """Sentences to numbers, a word each: `(B, T)` int64, where 0 fills a row up behind its sentence.

    `words` are those of the `captions` that it is made from, in alphabetical order; the first has number 1.
    Raises `ValueError` for a word that it does not know, or more than T of them.
    """

    def __init__(self, captions, T=12):
        self.words, self.T = sorted({word for caption in captions for word in self.split(caption)}), T
        self.numbers = {word: number for number, word in enumerate(self.words, 1)}

    @staticmethod
    def split(caption):
        return caption.lower().replace(",", "").split()

    def __call__(self, captions):
        rows = [self.split(caption) for caption in captions]
        for row in rows:
            if unknown := [word for word in row if word not in self.numbers]:
                raise ValueError(f"expected words out of {self.words}, found {unknown[0]!r}")
            if not 1 <= len(row) <= self.T:
                raise ValueError(f"expected sentences of 1 to {self.T} words, found {len(row)}: {' '.join(row)!r}")
        return torch.tensor([[self.numbers[word] for word in row] + [0] * (self.T - len(row)) for row in rows])


class TextEncoder(nn.Module):
    """Tokens `(B, T)` of a `Tokenizer` to one vector a sentence, `(B, out_dim)`: the mean over its words."""

    def __init__(self, num_words, T=12, embed_dim=64, depth=2, num_heads=4, out_dim=64):
        super().__init__()
        self.embed = nn.Embedding(num_words + 1, embed_dim)
        self.pos_embed = nn.Parameter(torch.randn(1, T, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(embed_dim, num_heads, 2.0) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, out_dim)

    def forward(self, tokens):
        x = self.embed(tokens) + self.pos_embed  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        real = (tokens > 0).unsqueeze(2)  # (B, T, 1)
        x = (self.norm(x) * real).sum(dim=1) / real.sum(dim=1)  # (B, D)
        return self.head(x)


class PictureText(nn.Module):
    """A ViT whose head gives `out_dim` numbers, and a text encoder that gives as many: both on the unit sphere."""

    def __init__(self, vit, text, temperature=0.07):
        super().__init__()
        self.vit, self.text = vit, text
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))  # learned as a logarithm: stays positive
        self.bias = nn.Parameter(torch.tensor(-10.0))  # of SigLIP alone

    def embed_images(self, images):
        return F.normalize(self.vit(images).float(), dim=1)  # (B, out_dim)

    def embed_texts(self, tokens):
        return F.normalize(self.text(tokens).float(), dim=1)

    def forward(self, images, tokens):
        """Cosines over the temperature, `(B, B)`: row i is picture i with every sentence."""
        return self.scale.exp() * self.embed_images(images) @ self.embed_texts(tokens).T


def clip_loss(logits):
    """Each picture must find its sentence, and each sentence its picture (Radford et al. 2021, figure 3)."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip_loss(logits, bias):
    """Each pair by itself: do the two belong together? (Zhai et al. 2023, equation 1)"""
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1  # (B, B): +1 on the diagonal, -1 elsewhere
    return -F.logsigmoid(signs * (logits + bias)).sum(dim=1).mean()
