"""Pictures and words: a text encoder beside a ViT, and the losses that bring both together (CLIP, SigLIP)."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .layers import EncoderBlock
from .weights.checkpoint import (
    build,
    check_finite,
    check_size,
    damage_named,
    described,
    load_state,
    norm_eps,
    read,
    write,
)

FORMAT = "vit_tutorial pictures and words 1"
LARGEST = 10**7  # numbers in a text encoder that `load` makes


class Tokenizer:
    """Sentences to numbers, a word each: `(B, T)` int64, where 0 fills a row up behind its sentence.

    `words` are those of the `captions` that it is made from, in alphabetical order; the first has number 1.
    Raises `ValueError` for one string in place of a list, a word that it does not know, no words or more than T.
    """

    def __init__(self, captions, T=12):
        self.words, self.T = sorted({word for caption in captions for word in self.split(caption)}), T
        self.numbers = {word: number for number, word in enumerate(self.words, 1)}

    @staticmethod
    def split(caption):
        return caption.lower().replace(",", "").split()

    def __call__(self, captions):
        captions = captions if isinstance(captions, str) else list(captions)
        if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
            raise ValueError(f"expected a list of sentences, found {captions!r:.60}; write ['a red star']")
        rows = [self.split(caption) for caption in captions]
        for row in rows:
            if unknown := [word for word in row if word not in self.numbers]:
                raise ValueError(f"expected words out of {self.words}, found {unknown[0]!r}")
            if not 1 <= len(row) <= self.T:
                raise ValueError(f"expected sentences of 1 to {self.T} words, found {len(row)}: {' '.join(row)!r}")
        numbers = [[self.numbers[word] for word in row] + [0] * (self.T - len(row)) for row in rows]
        return torch.tensor(numbers, dtype=torch.int64).view(-1, self.T)


class TextEncoder(nn.Module):
    """Tokens `(B, T)` of a `Tokenizer` to one vector a sentence, `(B, out_dim)`: the mean over its words.

    With `depth` 0 no word knows of another.
    """

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


def save(model, tokenizer, path):
    """Write a `PictureText` and its `Tokenizer` into one safetensors file of 16-bit floats, atomically."""
    if not isinstance(model, PictureText) or not isinstance(tokenizer, Tokenizer):
        found = f"{type(model).__name__} and {type(tokenizer).__name__}"
        raise ValueError(f"expected a PictureText and its Tokenizer, found {found}; weights.save keeps a ViT")
    text = model.text
    blocks = text.blocks
    settings = {
        "T": text.pos_embed.shape[1],
        "embed_dim": text.pos_embed.shape[2],
        "depth": len(blocks),
        "num_heads": blocks[0].attn.num_heads if len(blocks) else 4,
        "out_dim": text.head.out_features,
    }
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.vit.config)), "norm_eps": str(norm_eps(model.vit))}
    metadata |= {"text": json.dumps(settings), "words": json.dumps(tokenizer.words)}
    write(path, {name: value.half() for name, value in model.state_dict().items()}, metadata)


def load(path):
    """The `(PictureText, Tokenizer)` that `save` wrote, as float32, in evaluation mode. Errors as of `weights.load`."""
    path = Path(path)
    state, metadata = read(path, FORMAT, "words.save")
    parts = {"vit": {}, "text": {}, "": {}}
    for name, value in state.items():
        part, dot, rest = name.partition(".")
        parts.setdefault(part if dot else "", {})[rest if dot else name] = value
    with damage_named(path):
        (config, eps), settings = described(metadata), json.loads(metadata["text"])
        check_size(config, parts["vit"])
        tokenizer = Tokenizer(json.loads(metadata["words"]), settings["T"])
        size = (settings["T"] + len(tokenizer.words) + settings["out_dim"]) * settings["embed_dim"]
        if size + 8 * settings["depth"] * settings["embed_dim"] ** 2 > LARGEST:
            raise ValueError(f"a text encoder of {settings}")
        text = TextEncoder(len(tokenizer.words), **settings)
    model = PictureText(build(config, parts["vit"], eps), text)
    load_state(model, state)
    check_finite(state, path)
    return model.eval(), tokenizer
