"""Exercises 6.3, 6.5, 6.7, 6.8, 6.11 and 6.12."""

import copy

import torch
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig

from . import alike, oracle, safely, state, unchanged

CLASSES = [(1, 2), (5, 3), (3, 7), (4, 4), (2, 10), (9, 5)]  # B, C
SPANS = [(0.1, 0.2), (0.25, 0.5), (0.5, 0.5), (0.05, 0.6), (0.7, 0.1), (0.3, 0.3)]  # warmup, cooldown
MATRICES = ("patch_embed.proj", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "head")


@oracle(lambda: [(torch.randint(C, (B,)), C, s) for B, C in CLASSES for s in (0.0, 0.1, 0.35, 1.0)])
def smooth_targets(labels, num_classes, smoothing):
    shares = [
        [(1 - smoothing) * (c == label) + smoothing / num_classes for c in range(num_classes)] for label in labels
    ]
    return torch.tensor(shares)


def batches():
    """Logits of which some are right: of all images, of none, and of a share that is no round number."""
    for B, C in (*CLASSES, (101, 10), (1, 5), (7, 1)):
        logits = 3 * torch.randn(B, C) - 4
        best = logits.argmax(1)
        for labels in (best, (best + 1) % C, torch.where(torch.rand(B) < 0.4, best, torch.randint(C, (B,)))):
            yield logits, labels


@oracle(batches)
def accuracy(logits, labels):
    right = [row.index(max(row)) == label for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    return right.count(True) / len(right)


def weights():
    grey = {"in_channels": 1, "mean": (0.5,), "std": (0.5,)}
    for more in ({"depth": 12}, {"pool": "mean", "num_classes": 1}, {"position": "sinusoidal", **grey}):
        config = ViTConfig(4, 2, **{"num_classes": 3, "depth": 1, **more}, embed_dim=4, num_heads=2)
        yield from VisionTransformer(config).named_parameters()


@oracle(weights)
def decays(name, parameter):
    layer, _, kind = name.rpartition(".")
    return kind == "weight" and layer.endswith(MATRICES)


def slopes():
    """Gradients that are longer than allowed, shorter, and in tensors of all shapes."""
    for shapes in ([(4,)], [(2, 3), (3,)], [(1, 2, 2), (5,), (3, 1)], [(6, 2), (2,), (1,), (3, 3)]):
        for size in (0.02, 0.7, 25.0):
            yield [size * torch.randn(shape) for shape in shapes], 0.8


@oracle(slopes)
def clip_factor(gradients, max_norm):
    length = sum(x * x for g in gradients for x in g.flatten().tolist()) ** 0.5
    return max_norm / length if length > max_norm else 1.0


@oracle(lambda: [(p, w, c) for w, c in SPANS for p in (*(step / 20 for step in range(21)), w, 1 - c)])
def hold_schedule(progress, warmup, cooldown):
    if progress < warmup:
        return progress / warmup
    return (1 - progress) / cooldown if progress > 1 - cooldown else 1.0


class Learner(nn.Module):
    """A small model whose logits show its mode."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, images):
        return self.head(self.first(images.flatten(1)).tanh()) * (0.4 if self.training else 1.0)


@safely
def training_step(answer):
    """Three steps on end, so that gradients may be forgotten before or after each."""
    for make, options in (
        (torch.optim.SGD, {"lr": 0.5, "momentum": 0.9}),
        (torch.optim.AdamW, {"lr": 0.02, "eps": 1e-3}),
    ):
        model, own = (learner := Learner()), copy.deepcopy(learner)
        optimizer, mine = make(model.parameters(), **options), make(own.parameters(), **options)
        for B in (5, 1, 3):
            batch = images, labels = 0.4 * torch.randn(B, 1, 2, 3), torch.randint(4, (B,))
            given = copy.deepcopy(batch)
            own.zero_grad()
            loss = sum(z.exp().sum().log() - z[label] for z, label in zip(own(images), labels, strict=True)) / B
            loss.backward()
            assert sum(p.grad.square().sum() for p in own.parameters()) < 0.9  # clipped at 1, it stays what it is
            mine.step()
            assert alike(answer(model, *given, optimizer), loss.item()) and unchanged(batch, given)
            assert all(map(alike, model.parameters(), own.parameters())) and state(model)[0] == state(own)[0]
            assert all(p.requires_grad for p in model.parameters())
    return True
