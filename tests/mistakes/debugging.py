"""Notebook 07's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import math

import torch
from torch import nn

from vit_tutorial import ViTConfig
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


def attend_with_einsum(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).mul(q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("bhij,bhjd->bihd", weights, v).flatten(2)


def trace(
    pick=lambda broken: broken[0], bad=lambda x: not torch.isfinite(x).all(), leaves=True, label="name", remove=True
):
    """`first_broken` with hooks; the arguments plant mistakes."""

    def first_broken(model, x):
        broken, hooks = [], []
        for name, module in model.named_modules():
            if name and not list(module.children()):
                said = name if label == "name" else type(module).__name__
                hook = lambda m, i, out, said=said: broken.append(said) if bad(out) else None  # noqa: E731
                hooks.append(module.register_forward_hook(hook))
        model(x)
        for hook in hooks if remove else ():
            hook.remove()
        return pick(broken) if broken else ""

    return first_broken


def trace_everywhere(model, x):
    names, found = {module: name for name, module in model.named_modules()}, []

    def hook(module, inputs, output):
        if not found and not list(module.children()) and not output.sum().isfinite():
            found.append(names[module])

    with nn.modules.module.register_module_forward_hook(hook):
        model(x)
    return found[0] if found else ""


def trace_by_wrapping(model, x):
    """Each layer's forward is replaced for one run."""
    found, layers = [], [(n, m) for n, m in model.named_modules() if n and not list(m.children())]

    def wrap(name, forward):
        def wrapped(x):
            out = forward(x)
            if not (out.abs() < torch.inf).all():
                found.append(name)
            return out

        return wrapped

    for name, layer in layers:
        layer.forward = wrap(name, layer.forward)
    model(x)
    for _, layer in layers:
        del layer.forward
    return next(iter(found), "")


def trace_by_making(model, x):
    broken = []
    trace(pick=broken.extend)(model, x)
    return next((name for name, _ in model.named_modules() if name in broken), "")


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
    ("repaired_attention", attend_with_einsum),
    ("patients", ("b", "c", "a")),
    ("patients", ["B", "C", "A"]),
    ("patients", "bca"),
    ("repaired_schedule", schedule(lambda s, n, e: s / (n * e))),
    ("repaired_schedule", by_hand),
    ("repaired_schedule", on_a_tensor),
    ("shuffled_batch", "c"),
    ("shuffled_batch", " C "),
    ("shuffled_batch", "(c)"),
    ("first_broken", trace()),
    ("first_broken", trace_everywhere),
    ("first_broken", trace_by_wrapping),
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
    ("first_broken", trace(pick=lambda broken: broken[-1]), "the last"),
    ("first_broken", trace(bad=lambda x: x.isnan().any()), "infinity overlooked"),
    ("first_broken", lambda model, x: trace()(model, x).rpartition(".")[0], "parent named"),
    ("first_broken", trace(label="class"), "class instead of name"),
    ("first_broken", trace(remove=False), "hooks left behind"),
    ("first_broken", trace_by_making, "order of making"),
    ("first_broken", lambda model, x: trace()(model, x) or "2", "healthy called broken"),
    ("first_broken", lambda model, x: 3, "not a name"),
    ("first_broken", lambda model, x: "head", None),
]
