"""Notebook 06's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def smooth_by_hand(labels, num_classes, smoothing):
    targets = torch.full((len(labels), num_classes), smoothing / num_classes)
    for row, label in enumerate(labels.tolist()):
        targets[row, label] += 1 - smoothing
    return targets


def hot(labels, num_classes):
    return F.one_hot(labels, num_classes).float()


def step_with_model_zero_grad(model, images, labels, optimizer):
    model.train()
    log_p = model(images).log_softmax(dim=1)
    loss = F.nll_loss(log_p, labels)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def step(*order, logits=lambda x: x, after=lambda model: None):
    """A training step whose calls come in the given order."""

    def training_step(model, images, labels, optimizer):
        loss = F.cross_entropy(logits(model(images)), labels)
        for call in order:
            (loss.backward if call == "backward" else getattr(optimizer, call))()
        after(model)
        return loss

    return training_step


def count_right(logits, labels):
    return sum(int(row.argmax()) == label for row, label in zip(logits, labels.tolist(), strict=True))


def trapezoid(progress, warmup, cooldown):
    if progress < warmup:
        return progress / warmup
    return torch.tensor(1.0 if progress < 1 - cooldown else (1 - progress) / cooldown, dtype=torch.float64)


def no_hold(p, warmup, cooldown):
    return p / warmup if p < warmup else (1 - p) / (1 - warmup)


def cosine_cooldown(p, warmup, cooldown):
    rest = min(1.0, (1 - p) / cooldown)
    return min(p / warmup, 0.5 - 0.5 * math.cos(math.pi * rest))


RIGHT = [
    ("first_loss", math.log(100)),
    ("first_loss", 4.61),
    ("first_loss", -torch.tensor(0.01).log()),
    ("first_loss", F.cross_entropy(torch.zeros(1, 100), torch.tensor([7]))),
    ("smooth_targets", smooth_by_hand),
    ("smooth_targets", lambda labels, C, s: hot(labels, C) * (1 - s) + s / C),
    ("smooth_targets", lambda labels, C, s: torch.lerp(hot(labels, C), torch.full((1, C), 1 / C), s)),
    ("stuck_schedule", 0.1),
    ("stuck_schedule", 10 / 1000 / 0.1),
    ("stuck_schedule", torch.tensor(0.1)),
    ("stuck_schedule", 0.09),
    ("training_step", step("zero_grad", "backward", "step")),
    ("training_step", step("backward", "step", "zero_grad")),
    ("training_step", step_with_model_zero_grad),
    ("accuracy", lambda logits, labels: (logits.argmax(1) == labels).float().mean()),
    ("accuracy", lambda logits, labels: (logits.argmax(-1) == labels).sum().item() / len(labels)),
    ("accuracy", lambda logits, labels: count_right(logits.softmax(1), labels) / len(labels)),
    ("dropout_left_on", "b"),
    ("dropout_left_on", " B"),
    ("dropout_left_on", "(b)"),
    ("decays", lambda name, p: p.ndim > 1 and name not in ("cls_token", "pos_embed")),
    ("decays", lambda name, p: name.endswith("weight") and "norm" not in name),
    ("decays", lambda name, p: p.dim() in (2, 4)),
    ("hold_schedule", trapezoid),
    ("hold_schedule", lambda p, warmup, cooldown: min(p / warmup, 1, (1 - p) / cooldown)),
    ("hold_schedule", lambda p, warmup, cooldown: np.interp(p, [0, warmup, 1 - cooldown, 1], [0, 1, 1, 0])),
]

WRONG = [
    ("first_loss", math.log(10), "ten classes"),
    ("first_loss", math.log10(100), "decimal logarithm"),
    ("first_loss", math.log2(100), "binary logarithm"),
    ("first_loss", 1 / 100, "no logarithm"),
    ("first_loss", 100, "no logarithm"),
    ("first_loss", math.log(1 / 100), "sign"),
    ("smooth_targets", lambda labels, C, s: hot(labels, C), "no smoothing"),
    ("smooth_targets", lambda labels, C, s: hot(labels, C) * (1 - s), "rows below 1"),
    ("smooth_targets", lambda labels, C, s: hot(labels, C) + s / C, "rows above 1"),
    (
        "smooth_targets",
        lambda labels, C, s: hot(labels, C) * (1 - s) + (1 - hot(labels, C)) * s / (C - 1),
        "shared among the others only",
    ),
    ("smooth_targets", lambda labels, C, s: smooth_by_hand(labels, C, s).T, "wrong shape"),
    ("stuck_schedule", 0, "schedule ran to its end"),
    ("stuck_schedule", 1.0, "warmup finished"),
    ("stuck_schedule", 0.01, "progress taken for the rate"),
    ("training_step", step("backward", "step"), "gradient not zeroed"),
    (
        "training_step",
        step("zero_grad", "backward", "step", logits=lambda x: x.softmax(1)),
        "softmax before cross-entropy",
    ),
    ("training_step", step("zero_grad", "backward"), "no step"),
    ("training_step", step("backward", "zero_grad", "step"), "no gradient"),
    ("training_step", step("step", "zero_grad", "backward"), "step before backward"),
    ("training_step", step("zero_grad", "step"), "no gradient"),
    ("training_step", step("zero_grad", "backward", "step", after=lambda model: model.eval()), "evaluation mode"),
    ("training_step", lambda *args: step("zero_grad", "backward", "step")(*args) and None, "no return"),
    ("accuracy", lambda logits, labels: (logits.argmax(0) == labels).float().mean(), "wrong dim"),
    ("accuracy", count_right, "count"),
    ("accuracy", lambda logits, labels: 100 * (logits.argmax(1) == labels).float().mean(), "percent"),
    ("accuracy", lambda logits, labels: (logits.argmax(1) != labels).float().mean(), "errors"),
    ("dropout_left_on", "a", "eval taken for no_grad"),
    ("dropout_left_on", "c", "eval taken for freezing"),
    ("dropout_left_on", "d", "eval taken for rounding"),
    ("dropout_left_on", "e", "not a choice"),
    ("decays", lambda name, p: True, "biases decay"),
    ("decays", lambda name, p: name not in ("cls_token", "pos_embed"), "biases decay"),
    ("decays", lambda name, p: name.endswith("weight"), "norms decay"),
    ("decays", lambda name, p: "bias" not in name, "norms decay"),
    ("decays", lambda name, p: p.ndim >= 2, "class token and positions decay"),
    ("decays", lambda name, p: p.ndim == 2, "patch embedding forgotten"),
    ("decays", lambda name, p: False, "nothing decays"),
    ("decays", lambda name, p: p.ndim == 1 or name in ("cls_token", "pos_embed"), "the wrong way round"),
    ("decays", lambda name, p: name == "head.weight", None),
    ("hold_schedule", lambda p, warmup, cooldown: min(1, (1 - p) / cooldown), "warmup missing"),
    ("hold_schedule", lambda p, warmup, cooldown: min(1, p / warmup), "does not reach zero"),
    ("hold_schedule", no_hold, "no hold"),
    (
        "hold_schedule",
        lambda p, warmup, cooldown: min(p / warmup, 1, (1 - p) / (1 - cooldown)),
        "cooldown taken for its start",
    ),
    ("hold_schedule", cosine_cooldown, "cosine for a line"),
    ("hold_schedule", lambda p, warmup, cooldown: "fast", "not a number"),
]
