"""Heads that answer at every place: a class for each pixel, an object for each patch, from a ViT's tokens."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

UPSAMPLING = ("pixels", "bilinear", "nearest")


def patch_features(vit, images, layer=None):
    """Tokens of the patches alone after block `layer` (1, 2, ...; None: the last, and its norm): `(B, N, D)`."""
    x = vit.embed(images)
    rope = {"rope": vit.angles(x)} if hasattr(vit, "angles") else {}  # of a ModernViT
    for block in vit.blocks[:layer]:
        x = block(x, **rope)
    x = vit.norm(x) if layer is None else x
    return x[:, x.shape[1] - vit.config.grid[0] * vit.config.grid[1] :]  # class token and registers stand first


class SegmentationViT(nn.Module):
    """Images `(B, C, Y, X)` to the logits of K classes for every pixel, `(B, K, Y, X)`.

    One linear layer on each patch token. With "pixels" a token answers for every pixel of its patch; "bilinear" and
    "nearest" take one answer a patch and fill in between (Strudel et al. 2021, 3.2).
    `vit` becomes a part of it and loses its own head, which nothing would read. `config` is the ViT's, with the classes
    of the pixels. Raises `ValueError` for another way of upsampling.
    """

    def __init__(self, vit, num_classes, upsampling="pixels"):
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise ValueError(f"expected upsampling to be one of {UPSAMPLING}, found {upsampling!r}")
        self.vit, self.upsampling, self.K, self.classes = vit, upsampling, num_classes, ()
        self.P = vit.config.patch_size if upsampling == "pixels" else 1  # a token answers for P x P pixels
        self.head = nn.Linear(vit.config.embed_dim, num_classes * self.P**2)
        vit.head = nn.Identity()
        vit.config = replace(vit.config, num_classes=vit.config.embed_dim, classes=())

    @property
    def config(self):
        return replace(self.vit.config, num_classes=self.K, classes=self.classes)

    @config.setter
    def config(self, config):
        self.classes = config.classes
        self.vit.config = replace(config, num_classes=config.embed_dim, classes=())

    def forward(self, images):
        x = self.head(patch_features(self.vit, images))  # (B, N, K) or (B, N, K*P*P)
        x = x.transpose(1, 2).unflatten(2, self.vit.config.grid)  # (B, K or K*P*P, rows, columns)
        if self.upsampling == "pixels":
            return F.pixel_shuffle(x, self.P)  # as unpatchify
        return F.interpolate(x, size=images.shape[2:], mode=self.upsampling)


class ObjectHead(nn.Module):
    """Patch tokens `(B, N, D)` to objects: one linear layer says of each patch whether an object's centre lies in it.

    `(B, N, 5)`: the logit of that, the centre's x and y within the patch, and the box's width and height, all three
    pairs in units of the patch (Redmon et al. 2016, 2, with one box a cell).
    """

    def __init__(self, config):
        super().__init__()
        self.P, self.grid = config.patch_size, config.grid
        self.head = nn.Linear(config.embed_dim, 5)

    def forward(self, tokens):
        return self.head(tokens)

    def targets(self, boxes):
        """What `forward` should say, `(B, N, 5)`, where the boxes `(B, K, 4)` are; a box without width is none."""
        B, rows, columns = len(boxes), *self.grid
        target = boxes.new_zeros(B, rows * columns, 5)
        left, top, right, bottom = (boxes / self.P).unbind(dim=2)  # (B, K) each, in patches
        x, y, there = (left + right) / 2, (top + bottom) / 2, right > left
        place = y.long().clamp(max=rows - 1) * columns + x.long().clamp(max=columns - 1)  # (B, K)
        values = torch.stack([there, x % 1, y % 1, right - left, bottom - top], dim=2).float()
        batch = torch.arange(B).unsqueeze(1).expand_as(place)
        target[batch[there], place[there]] = values[there]
        return target

    def loss(self, tokens, boxes):
        """Cross-entropy of "a centre is here", and the mean distance of the four numbers where one is."""
        said, target = self(tokens).float(), self.targets(boxes)
        here = target[..., 0] > 0
        centre = F.binary_cross_entropy_with_logits(said[..., 0], target[..., 0])
        return centre + F.l1_loss(said[here][:, 1:], target[here][:, 1:])

    @torch.no_grad()
    def boxes(self, tokens, threshold=0.5):
        """For each picture the boxes `(K, 4)` that it finds: left, top, right, bottom in pixels, the surest first."""
        said = self(tokens).float()
        chance = said[..., 0].sigmoid()  # (B, N)
        rows, columns = self.grid
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centre = said[..., 1:3] + torch.stack([x, y], dim=2).view(1, -1, 2)
        half = said[..., 3:].clamp(min=0) / 2
        found = self.P * torch.cat([centre - half, centre + half], dim=2)  # (B, N, 4)
        order = chance.argsort(dim=1, descending=True)
        return [b[o[c[o] > threshold]] for b, o, c in zip(found, order, chance, strict=True)]
