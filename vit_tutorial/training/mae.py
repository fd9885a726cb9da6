"""Masked autoencoders: hide most patches of a picture, and learn to say what was there (He et al. 2022)."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from ..layers import EncoderBlock, patchify, sinusoidal_positions
from ..model import ViTConfig
from ..weights.checkpoint import (
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

FORMAT = "vit_tutorial masked autoencoder 1"


def random_masking(B, N, ratio, device=None):
    """Which patches of `B` pictures go in, `keep (B, K)`, and the way back, `restore (B, N)`.

    Each picture's `N` patches get a random order of their own; its first `K` go in, the rest, `int(ratio * N)`, are
    hidden. `restore` is the inverse order: patch i stands at place `restore[b, i]`, and is hidden where that is K or
    more. Raises `ValueError` where no patch would be left, or none hidden.
    """
    K = N - int(ratio * N)
    if not 0 < K < N:
        raise ValueError(f"expected a ratio that hides some of the {N} patches and leaves some, found {ratio}")
    order = torch.rand(B, N, device=device).argsort(dim=1)  # (B, N): place -> patch
    restore = order.argsort(dim=1)  # (B, N): patch -> place
    return order[:, :K], restore


def masking_of(hidden):
    """`keep` and `restore`, as of `random_masking`, for chosen patches: `hidden (B, N)`, True where one is hidden.

    Raises `ValueError` unless every picture hides equally many, and not all.
    """
    counts = hidden.sum(dim=1).unique().tolist()
    if len(counts) != 1 or counts[0] == hidden.shape[1]:
        raise ValueError(f"expected equally many hidden patches in each picture, and not all, found {counts}")
    order = hidden.int().argsort(dim=1, stable=True)  # (B, N): those that go in first
    return order[:, : hidden.shape[1] - counts[0]], order.argsort(dim=1)


def take(tokens, index):
    """Of tokens `(B, N, D)` those with the numbers `index (B, K)`: `(B, K, D)`."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def patch_targets(images, patch_size, normalise=True):
    """What hidden patches are to be: the pixels of images `(B, C, Y, X)` as `(B, N, C*P*P)`.

    With `normalise` each patch has mean 0 and variance 1, so that its contrast counts and its brightness does not
    (He et al. 2022, 4.1).
    """
    targets = patchify(images, patch_size)  # (B, N, C*P*P)
    if normalise:
        mean, variance = targets.mean(dim=2, keepdim=True), targets.var(dim=2, keepdim=True)
        targets = (targets - mean) / (variance + 1e-6).sqrt()
    return targets


def encode(vit, images, keep):
    """Tokens of the patches `keep (B, K)` alone after the last norm: `(B, K, D)`, a class token before them."""
    prefix = int(vit.cls_token is not None)
    x = vit.patch_embed(images)  # (B, N, D)
    x = take(x + vit.pos_embed[:, prefix:].to(x.dtype), keep)  # (B, K, D): the hidden ones are gone
    if prefix:
        cls = vit.cls_token + vit.pos_embed[:, :1]  # (1, 1, D)
        x = torch.cat([cls.expand(len(x), -1, -1).to(x.dtype), x], dim=1)  # (B, 1 + K, D)
    for block in vit.blocks:
        x = block(x)
    return vit.norm(x)


class Decoder(nn.Module):
    """Tokens `(B, K, D)` of the patches that went in, a class token before them, to the pixels of all `(B, N, C*P*P)`.

    Narrow and thin. For each hidden patch it takes the same learned `mask_token`; their places tell them apart.
    """

    def __init__(self, config, dim=64, depth=1, num_heads=4):
        super().__init__()
        self.prefix = int(config.pool == "cls")  # tokens before the patches
        self.embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.register_buffer("pos_embed", sinusoidal_positions(dim, config.grid), persistent=False)  # (1, N, dim)
        self.blocks = nn.ModuleList(EncoderBlock(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Linear(dim, config.in_channels * config.patch_size**2)

    def forward(self, x, restore):
        x = self.embed(x)  # (B, K, dim)
        cls, x = x[:, : self.prefix], x[:, self.prefix :]
        masks = self.mask_token.expand(len(x), restore.shape[1] - x.shape[1], -1)  # (B, N - K, dim)
        x = take(torch.cat([x, masks.to(x.dtype)], dim=1), restore)  # (B, N, dim): each at its own place again
        x = torch.cat([cls, x + self.pos_embed.to(x.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(x))[:, self.prefix :]  # (B, N, C*P*P)


class MaskedAutoencoder(nn.Module):
    """Images `(B, C, Y, X)`, normalised, to the loss on the patches that it hid; `vit` learns, and is what is kept.

    `vit` is the encoder and sees the patches that are left. `normalise` is that of `patch_targets`. `reconstruct` gives
    the decoder's answers. Raises `ValueError` for a ratio that `random_masking` refuses.
    """

    def __init__(self, vit, mask_ratio=0.75, decoder_dim=64, decoder_depth=1, normalise=True):
        super().__init__()
        self.vit, self.mask_ratio, self.normalise = vit, mask_ratio, normalise
        self.decoder = Decoder(vit.config, decoder_dim, decoder_depth)
        self.N = self.decoder.pos_embed.shape[1]  # patches
        random_masking(1, self.N, mask_ratio)

    def draw(self, images):
        """What a step draws at random: `keep` and `restore`."""
        return random_masking(len(images), self.N, self.mask_ratio, images.device)

    def forward(self, images, drawn=None):
        return self.loss(images, *(drawn or self.draw(images)))

    def loss(self, images, keep, restore):
        """Mean squared error on the patches that did not go in, and on no other."""
        predicted = self.decoder(encode(self.vit, images, keep), restore).float()  # (B, N, C*P*P)
        targets = patch_targets(images, self.vit.config.patch_size, self.normalise)
        error = (predicted - targets).square().mean(dim=2)  # (B, N)
        return error[restore >= keep.shape[1]].mean()

    @torch.no_grad()
    def reconstruct(self, images, hidden):
        """What the model says of every patch, `(B, N, C*P*P)`, where it does not see those `hidden (B, N)`."""
        keep, restore = masking_of(hidden)
        return self.decoder(encode(self.vit, images, keep), restore)


def save(autoencoder, path):
    """Write a `MaskedAutoencoder`, encoder and decoder, into one safetensors file, atomically."""
    if not isinstance(autoencoder, MaskedAutoencoder):
        raise ValueError(f"expected a MaskedAutoencoder, found {type(autoencoder).__name__}; weights.save keeps a ViT")
    vit, decoder = autoencoder.vit, autoencoder.decoder
    settings = {
        "mask_ratio": autoencoder.mask_ratio,
        "decoder_dim": decoder.mask_token.shape[2],
        "decoder_depth": len(decoder.blocks),
        "normalise": autoencoder.normalise,
    }
    metadata = {"format": FORMAT, "config": json.dumps(asdict(vit.config)), "norm_eps": str(norm_eps(vit))}
    write(path, autoencoder.state_dict(), metadata | {"settings": json.dumps(settings)})


def load(path):
    """The `MaskedAutoencoder` that `save` wrote, as float32, in evaluation mode. Errors are those of `weights.load`."""
    path = Path(path)
    state, metadata = read(path, FORMAT, "training.mae.save")
    parts = {"vit": {}, "decoder": {}}
    with damage_named(path):
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        (config, eps), settings = described(metadata), json.loads(metadata["settings"])
        if type(config) is not ViTConfig:
            raise ValueError(f"{type(config).__name__}")
        check_size(config, parts["vit"])
        like = {"embed_dim": settings["decoder_dim"], "depth": settings["decoder_depth"], "num_heads": 4}
        check_size(replace(config, **like, mlp_ratio=4.0), parts["decoder"])
    vit = build(config, parts["vit"], eps)
    with damage_named(path):
        autoencoder = MaskedAutoencoder(vit, **settings)
    load_state(autoencoder.decoder, parts["decoder"])
    check_finite(state, path)
    return autoencoder.eval()
