"""Notebook 07's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import math

import pytest
import torch

from vit_tutorial import ViTConfig, check
from vit_tutorial.check import debugging
from vit_tutorial.training import warmup_cosine

SMALL = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=24, depth=2, num_heads=2)


def silent(model, image, patch_size, first=0, invert=False, down=False, change=True):
    """Numbers of the silent patches, with mistakes to plant."""
    _, Y, X = image.shape
    rows, columns, P = Y // patch_size, X // patch_size, patch_size
    found = []
    for row in range(rows):
        for column in range(columns):
            changed = image.clone()
            if change:
                changed[:, row * P : (row + 1) * P, column * P : (column + 1) * P] = 0.77
            if torch.allclose(model(changed[None]), model(image[None])) != invert:
                found.append(first + (column * rows + row if down else row * columns + column))
    return found


def silent_by_gradient(model, image, patch_size):
    images = image[None].clone().requires_grad_()
    (model(images) * torch.randn(4)).sum().backward()
    C, P = image.shape[0], patch_size
    strips = images.grad[0].abs().unfold(1, P, P).unfold(2, P, P)  # (C, rows, columns, P, P)
    assert len(strips) == C
    return strips.sum(dim=(0, 3, 4)).flatten() == 0


def attend(q, k, v, divide=None, dim=-1, merge=lambda x: x.transpose(1, 2)):
    B, H, N, d = q.shape
    weights = (q @ k.transpose(-2, -1) / math.sqrt(divide or d)).softmax(dim)
    return merge(weights @ v).reshape(B, N, H * d)  # (B, N, D)


def wide(q):
    return q.shape[1] * q.shape[3]


def fused(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def schedule(progress):
    return lambda step, steps_per_epoch, epochs: warmup_cosine(min(1.0, progress(step, steps_per_epoch, epochs)))


def by_hand(step, steps_per_epoch, epochs):
    p = step / steps_per_epoch / epochs
    return p / 0.1 if p < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (p - 0.1) / 0.9)


def on_a_tensor(step, steps_per_epoch, epochs):
    return torch.tensor(warmup_cosine(step / (steps_per_epoch * epochs)))


LOW, HIGH = math.log(math.e + 99) - 1, math.log(math.e + 99)
RIGHT = [
    ("softmax_bounds", (LOW, HIGH)),
    ("softmax_bounds", [3.62, 4.62]),
    ("softmax_bounds", torch.tensor([LOW, HIGH])),
    ("silent_patches", silent),
    ("silent_patches", silent_by_gradient),
    ("silent_patches", lambda *args: set(silent(*args))),
    ("repaired_attention", attend),
    ("repaired_attention", fused),
    ("patients", ("b", "c", "a")),
    ("patients", ["B", "C", "A"]),
    ("patients", "bca"),
    ("repaired_schedule", schedule(lambda s, n, e: s / (n * e))),
    ("repaired_schedule", by_hand),
    ("repaired_schedule", on_a_tensor),
    ("shuffled_batch", "c"),
    ("shuffled_batch", " C "),
]
WRONG = [
    ("softmax_bounds", (HIGH, LOW), "swapped"),
    ("softmax_bounds", (0.0, HIGH), "no second softmax"),
    ("softmax_bounds", (1.4612, 2.4612), "ten classes"),
    ("softmax_bounds", (LOW, math.log(100)), "guess taken for the worst"),
    ("softmax_bounds", (LOW, math.inf), "unbounded"),
    ("softmax_bounds", (math.log(math.e + 100) - 1, HIGH), "wrong classes forgotten"),
    ("softmax_bounds", LOW, "not two numbers"),
    ("silent_patches", lambda *args: silent(*args, invert=True), "inverted"),
    ("silent_patches", lambda *args: silent(*args, first=1), "counted from 1"),
    ("silent_patches", lambda *args: silent(*args, down=True), "columns before rows"),
    ("silent_patches", lambda *args: silent(*args, change=False), "nothing changed"),
    ("silent_patches", lambda *args: 3, "not a list of numbers"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, wide(q), -2, lambda x: x), "as it was"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, merge=lambda x: x), "merge without transpose"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, dim=-2), "softmax over the queries"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, dim=1), "softmax over the heads"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, wide(q)), "sqrt(D) for sqrt(d)"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, 1), "not scaled"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, wide(q), -2), "two left"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, wide(q), -1, lambda x: x), "two left"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, None, -2, lambda x: x), "two left"),
    ("patients", "aca", "patient A"),
    ("patients", ("b", "d", "a"), "patient B"),
    ("patients", ("b", "c", "b"), "patient C"),
    ("patients", ("b", "c", "x"), "not a choice"),
    ("patients", "b", "not three letters"),
    ("repaired_schedule", schedule(lambda s, n, e: s / e), "steps taken for epochs"),
    ("repaired_schedule", schedule(lambda s, n, e: s / n), "one epoch only"),
    ("repaired_schedule", schedule(lambda s, n, e: s // n / e), "moves once an epoch"),
    ("repaired_schedule", lambda s, n, e: s / (n * e), "progress taken for the factor"),
    ("repaired_schedule", lambda s, n, e: "fast", "not a number"),
    ("shuffled_batch", "a", "memory taken for understanding"),
    ("shuffled_batch", "b", "memory taken for a fault"),
    ("shuffled_batch", "d", "labels taken for right"),
    ("shuffled_batch", "e", "not a choice"),
]
EXERCISES = list(dict.fromkeys(name for name, _ in RIGHT))
FUNCTIONS = ("silent_patches", "repaired_attention", "repaired_schedule")


def broken(*args):
    raise RuntimeError("out of paper")


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answer_passes(name, answer):
    for seed in range(3):
        torch.manual_seed(seed)
        result = getattr(check, name)(answer)
        assert result.passed and result.mistake is None, result.message


@pytest.mark.parametrize(("name", "answer", "mistake"), WRONG, ids=[f"{w[0]}-{w[2]}" for w in WRONG])
def test_mistake_is_recognised(name, answer, mistake):
    for seed in range(3):
        torch.manual_seed(seed)
        result = getattr(check, name)(answer)
        assert not result.passed and result.mistake == mistake, result.message


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    "garbage",
    [None, "x", -7.5, [], {}, torch.zeros(2, 2), int, object(), broken, lambda: 1],
    ids=lambda v: type(v).__name__,
)
def test_garbage_is_answered_without_raising(name, garbage):
    assert not getattr(check, name)(garbage).passed


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_is_not_attempted(name, capsys):
    assert getattr(check, name)(...).mistake == "not attempted"
    if name in FUNCTIONS:
        assert getattr(check, name)(lambda *args: ...).mistake == "not attempted"
    if name == "patients":
        assert check.patients((..., ..., ...)).mistake == "not attempted"
    assert "Not attempted yet" in capsys.readouterr().out


def test_every_exercise_is_tested():
    assert debugging.__all__ == [name for name in debugging.__all__ if name in EXERCISES]
    assert all(sum(w[0] == name for w in WRONG) >= 3 for name in EXERCISES)


def test_the_patients_are_ill_as_the_answers_say():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    halves = []
    for make in (debugging.patient_a, debugging.patient_b, debugging.patient_c):
        model, pixels = make(SMALL).eval(), images.clone().requires_grad_()
        (model(pixels) * torch.randn(10)).sum().backward()
        halves.append([bool(half.any()) for half in pixels.grad.split(16, dim=2)])
        maps = model.attention_maps(images)  # (L, B, H, N, N)
        assert maps.shape == (2, 2, 2, 17, 17) and torch.allclose(maps.sum(-1), torch.ones(2, 2, 2, 17), atol=1e-5)
    assert halves == [[True, False], [True, True], [False, False]]
