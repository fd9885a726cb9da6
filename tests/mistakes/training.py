"""Wrong answers to notebook 06's exercises, as learners write them."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def hot(labels, num_classes):
    return F.one_hot(labels, num_classes).float()


def softened(true, other):
    """Targets with these two numbers, written as text in s and C."""
    return lambda labels, C, s: torch.where(hot(labels, C) > 0, *(eval(x, {"s": s, "C": C}) for x in (true, other)))


def step(*order, logits=lambda x: x, after=lambda model: None, loss=F.cross_entropy):
    """A training step whose calls come in the given order."""

    def training_step(model, images, labels, optimizer):
        value = loss(logits(model(images)), labels)
        for call in order:
            (value.backward if call == "backward" else getattr(optimizer, call))()
        after(model)
        return value

    return training_step


def evaluating(model, images, labels, optimizer):
    model.eval()
    loss = step("zero_grad", "backward", "step")(model, images, labels, optimizer)
    model.train()
    return loss


def clipped_hard(model, images, labels, optimizer):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    return loss


def count_right(logits, labels):
    return sum(int(row.argmax()) == label for row, label in zip(logits, labels.tolist(), strict=True))


def squares(gradients):
    return [(g**2).sum().item() for g in gradients]


def by_torch(gradients, max_norm):
    own = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, g in zip(own, gradients, strict=True):
        parameter.grad = g.clone()
    length = nn.utils.clip_grad_norm_(own, max_norm)
    return torch.minimum(torch.tensor(1.0), max_norm / (length + 1e-12))


def clipped_by(length):
    """The factor with a length computed in another way, from the sums of squares of the tensors."""
    return lambda gradients, max_norm: min(1.0, max_norm / length(squares(gradients)))


def no_hold(p, warmup, cooldown):
    return p / warmup if p < warmup else (1 - p) / (1 - warmup)


def cosine_cooldown(p, warmup, cooldown):
    rest = min(1.0, (1 - p) / cooldown)
    return min(p / warmup, 0.5 - 0.5 * math.cos(math.pi * rest))


def rising_cooldown(p, warmup, cooldown):
    if p < warmup:
        return p / warmup
    return 1 if p <= 1 - cooldown else (p - (1 - cooldown)) / cooldown


RIGHT = []
SOFTMAX = {"logits": lambda x: x.softmax(1)}
GOOD = ("zero_grad", "backward", "step")
WRONG = [
    ("first_loss", math.log(10), "ten classes"),
    ("first_loss", -math.log(10), "ten classes + sign"),
    ("first_loss", "2", "decimal logarithm"),
    ("first_loss", 0.01, "no logarithm"),
    ("decoupled_step", 2.9, "no decay"),
    ("decoupled_step", 1.4, "decay without the rate"),
    ("decoupled_step", -0.15, "step follows the gradient"),
    ("decoupled_step", 0.0, "no decay + step follows the gradient"),
    ("decoupled_step", 2.7793, "means not corrected"),
    ("decoupled_step", "2.95", "sign"),
    ("decoupled_step", 2.755, "decay after the step"),
    ("decoupled_step", 0.25, "change for the weight"),
    ("decoupled_step", 2.4, None),
    ("clip_factor", clipped_by(sum), "root forgotten"),
    ("clip_factor", clipped_by(lambda squares: sum(x**0.5 for x in squares)), "lengths added"),
    ("clip_factor", clipped_by(lambda squares: max(squares) ** 0.5), "longest tensor alone"),
    ("clip_factor", lambda gradients, max_norm: max_norm / sum(squares(gradients)) ** 0.5, "short ones stretched"),
    ("clip_factor", lambda gradients, max_norm: sum(squares(gradients)) ** 0.5, "length for the factor"),
    ("clip_factor", lambda gradients, max_norm: min(1, sum(squares(gradients)) ** -0.5), "one over the length"),
    (
        "clip_factor",
        lambda gradients, max_norm: max(1, max_norm / sum(squares(gradients)) ** 0.5),
        "larger for smaller",
    ),
    ("clip_factor", lambda gradients, max_norm: 1, "never clipped"),
    (
        "clip_factor",
        lambda gradients, max_norm: min(1, max_norm / max(g.abs().max().item() for g in gradients)),
        "largest entry",
    ),
    ("clip_factor", lambda gradients, max_norm: 0.5 * min(1, max_norm / sum(squares(gradients)) ** 0.5), "factor"),
    ("clip_factor", by_torch, "forbidden"),
    ("average_lag", 191, "average for its distance"),
    ("average_lag", 99, "another decay"),
    ("average_lag", 0, "never behind"),
    ("average_lag", -9, "sign"),
    ("average_lag", 1 / 9, "shares swapped"),
    ("average_lag", 30, None),
    ("which_model", "a", "chosen on the training set"),
    ("which_model", "b", "choice and report on one set"),
    ("which_model", "d", "chosen on the test set"),
    ("smooth_targets", lambda labels, C, s: F.one_hot(labels) * (1 - s) + s / C, "classes counted from the labels"),
    ("smooth_targets", softened("1 - s", "s / C"), "true class without its share"),
    ("smooth_targets", softened("1 - s", "s / (C - 1)"), "shared among the others only"),
    ("smooth_targets", softened("1.0", "s / C"), "rows above 1 + true class without its share"),
    ("smooth_targets", softened("1 - s", "0.0"), "rows below 1"),
    ("smooth_targets", softened("s + (1 - s) / C", "(1 - s) / C"), "shares swapped"),
    ("smooth_targets", lambda labels, C, s: softened("1 - s + s / C", "s / C")(labels, C, s).T, "axes swapped"),
    ("smooth_targets", softened("1 - s", "s / 2 / C"), None),
    ("stuck_schedule", 0, "schedule ran to its end"),
    ("stuck_schedule", "100 %", "warmup finished"),
    ("stuck_schedule", 0.01, "progress taken for the rate"),
    ("stuck_schedule", 2e-4, "rate for its fraction"),
    ("training_step", step("backward", "step"), "gradient not zeroed"),
    ("training_step", step(*GOOD, **SOFTMAX), "softmax before cross-entropy"),
    ("training_step", step("backward", "step", **SOFTMAX), "softmax before cross-entropy + gradient not zeroed"),
    ("training_step", step("zero_grad", "backward"), "no step"),
    ("training_step", step(), "no step + no gradient"),
    ("training_step", step("backward", "zero_grad", "step"), "no gradient"),
    ("training_step", step("zero_grad", "step"), "no gradient"),
    ("training_step", step("step", "zero_grad", "backward"), "step before backward"),
    ("training_step", step("zero_grad", "step", "backward"), "step before backward"),
    ("training_step", step("step", "backward"), "step before backward + gradient not zeroed"),
    ("training_step", step(*GOOD, loss=lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1)), "labels smoothed"),
    ("training_step", step(*GOOD, after=lambda model: model.eval()), "evaluation mode"),
    ("training_step", evaluating, "evaluation mode"),
    ("training_step", lambda *args: step(*GOOD)(*args) and None, "no return"),
    ("training_step", lambda *args: 2 * step(*GOOD)(*args), None),
    ("training_step", step(*GOOD, loss=lambda x, y: F.cross_entropy(x, y, reduction="sum")), "sum for mean"),
    ("training_step", clipped_hard, None),
    (
        "training_step",
        lambda model, images, labels, optimizer: F.cross_entropy(model(images), labels) * 0,
        "no step + no gradient",
    ),
    ("accuracy", lambda logits, labels: (logits.argmax(0) == labels).float().mean(), "wrong dim"),
    ("accuracy", lambda logits, labels: (labels == logits.argmax(dim=0)).sum() / len(labels), "wrong dim"),
    ("accuracy", lambda logits, labels: (logits.argmax(1) == labels).sum() // len(labels), "whole division"),
    ("accuracy", lambda logits, labels: (logits.argmax(1) == labels).mean(), "NotImplementedError"),
    ("accuracy", lambda logits, labels: (logits.argmax(1) == labels).sum(), "count"),
    ("accuracy", count_right, "count"),
    ("accuracy", lambda logits, labels: count_right(logits, labels) / logits.shape[1], "divided by the classes"),
    ("accuracy", lambda logits, labels: (logits.max(1).values == labels).float().mean(), "logits for their place"),
    ("accuracy", lambda logits, labels: 100 * (logits.argmax(1) != labels).float().mean(), "errors + percent"),
    ("accuracy", lambda logits, labels: (logits.argmin(1) == labels).float().mean(), "smallest for largest"),
    ("dropout_left_on", "a", "eval taken for no_grad"),
    ("dropout_left_on", "e", "not a choice"),
    ("decays", lambda name, p: name not in ("cls_token", "pos_embed"), "norms decay + biases decay"),
    ("decays", lambda name, p: name.endswith("weight"), "norms decay"),
    ("decays", lambda name, p: "bias" not in name, "class token and positions decay + norms decay"),
    ("decays", lambda name, p: p.ndim >= 2, "class token and positions decay"),
    ("decays", lambda name, p: p.ndim >= 2 and name != "cls_token", "positions decay"),
    ("decays", lambda name, p: p.ndim >= 2 and "pos" not in name, "class token decays"),
    ("decays", lambda name, p: p.ndim == 2, "patch embedding forgotten"),
    ("decays", lambda name, p: p.ndim == 2 and "blocks" in name, "patch embedding forgotten + head forgotten"),
    ("decays", lambda name, p: p.ndim < 2, "class token and positions decay + the wrong way round"),
    ("decays", lambda name, p: "qkv.weight" in name, None),
    ("hold_schedule", lambda p, warmup, cooldown: min(1, (1 - p) / cooldown), "warmup missing"),
    ("hold_schedule", lambda p, warmup, cooldown: min(1, p / warmup), "does not reach zero"),
    ("hold_schedule", lambda p, warmup, cooldown: p / warmup, "no ceiling + does not reach zero"),
    ("hold_schedule", lambda p, warmup, cooldown: max(p / warmup, 1, (1 - p) / cooldown), "largest for smallest"),
    ("hold_schedule", no_hold, "no hold"),
    ("hold_schedule", rising_cooldown, "cooldown rises"),
    (
        "hold_schedule",
        lambda p, warmup, cooldown: min(p / warmup, 1, (1 - p) / (1 - cooldown)),
        "cooldown taken for its start",
    ),
    ("hold_schedule", cosine_cooldown, "cosine for a line"),
    ("hold_schedule", lambda p, warmup, cooldown: "fast", "not a number"),
    ("hold_schedule", lambda p, warmup, cooldown: 0.5 * min(p / warmup, 1, (1 - p) / cooldown), "factor"),
]
