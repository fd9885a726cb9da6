"""Wrong answers to notebook 07's exercises, as learners write them."""

import math

import torch

from vit_tutorial.training import warmup_cosine

LOW, HIGH = math.log(math.e + 99) - 1, math.log(math.e + 99)


def silent(
    place="row * columns + column", area=":, row * P : (row + 1) * P, column * P : (column + 1) * P", clone=True
):
    """`silent_patches`; the number of a patch and the pixels that are changed are written as text."""

    def silent_patches(model, image, patch_size, alike=torch.allclose):
        _, Y, X = image.shape
        rows, columns, found = Y // patch_size, X // patch_size, []
        before = model(image[None])
        for row in range(rows):
            for column in range(columns):
                names = {"row": row, "column": column, "rows": rows, "columns": columns, "P": patch_size}
                changed = image.clone() if clone else image
                exec(f"changed[{area}] += 1", {"changed": changed, **names})
                if alike(model(changed[None]), before):
                    found.append(eval(place, names))
        return found

    return silent_patches


def compared(alike):
    return lambda *inputs: silent()(*inputs, alike=alike)


def inverted(*inputs):
    return silent()(*inputs, alike=lambda a, b: not torch.allclose(a, b))


def nothing_changed(model, image, patch_size):
    number = image[0].numel() // patch_size**2
    return [n for n in range(number) if torch.allclose(model(image[None]), model(image[None]))]


def attend(q, k, v, divide=None, dim=-1, merge=lambda x: x.transpose(1, 2)):
    B, H, N, d = q.shape
    weights = (q @ k.transpose(-2, -1) / math.sqrt(divide or d)).softmax(dim)
    return merge(weights @ v).reshape(B, N, H * d)  # (B, N, D)


def wide(q):
    return q.shape[1] * q.shape[3]


def schedule(progress):
    return lambda step, steps_per_epoch, epochs: warmup_cosine(min(1.0, progress(step, steps_per_epoch, epochs)))


def trace(
    pick=lambda broken: broken[0], bad=lambda x: not x.isfinite().all(), children=False, label="name", keep=False
):
    """`first_broken` with hooks; the arguments plant mistakes."""

    def first_broken(model, x):
        broken, hooks = [], []
        for name, module in model.named_children() if children else model.named_modules():
            if children or not list(module.children()):
                said = name if label == "name" else type(module).__name__
                hook = lambda m, i, out, said=said: broken.append(said) if bad(out) else None  # noqa: E731
                hooks.append(module.register_forward_hook(hook))
        model(x)
        for hook in () if keep else hooks:
            hook.remove()
        return pick(broken) if broken else ""

    return first_broken


def trace_by_making(model, x):
    broken = []
    trace(pick=broken.extend)(model, x)
    return next((name for name, _ in model.named_modules() if name in broken), "")


def trace_inputs(model, x):
    """Returns nothing where all is finite."""
    found, hooks = [], []
    for name, module in model.named_modules():
        if not list(module.children()):
            hook = lambda m, given, name=name: found.append(name) if not given[0].isfinite().all() else None  # noqa: E731
            hooks.append(module.register_forward_pre_hook(hook))
    model(x)
    for hook in hooks:
        hook.remove()
    if found:
        return found[0]


def trace_in_eval(model, x):
    return trace()(model.eval(), x)


def look_at_parameters(model, x):
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return name.rpartition(".")[0]
    return ""


def run_by_hand(model, x):
    for name, module in model.named_modules():
        if not list(module.children()) and "spare" not in name:
            x = module(x)
            if not x.isfinite().all():
                return name
    return ""


RIGHT = []
WRONG = [
    ("softmax_bounds", (HIGH, LOW), "swapped"),
    ("softmax_bounds", (0, math.inf), "no second softmax + unbounded"),
    ("softmax_bounds", (0.0, HIGH), "no second softmax"),
    ("softmax_bounds", ("1.4612", "2.4612"), "ten classes"),
    ("softmax_bounds", (2.4612, 1.4612), "ten classes + swapped"),
    ("softmax_bounds", (LOW, math.log(100)), "guess taken for the worst"),
    ("softmax_bounds", (3.632, 4.632), "one class too many"),
    ("softmax_bounds", LOW, "wrong count"),
    ("shuffled_batch", "a", "memory taken for understanding"),
    ("shuffled_batch", "b", "memory taken for a fault"),
    ("shuffled_batch", "e", "not a choice"),
    ("silent_patches", inverted, "inverted"),
    ("silent_patches", silent("row * columns + column + 1"), "counted from 1"),
    ("silent_patches", silent("column * rows + row"), "columns before rows"),
    ("silent_patches", silent("row * rows + column"), "row times rows"),
    ("silent_patches", silent("column * rows + row + 1"), "columns before rows + counted from 1"),
    ("silent_patches", silent(area=":, row : row + P, column : column + P"), "row not times P"),
    ("silent_patches", silent(area=":, row * P, column * P"), "one pixel changed"),
    ("silent_patches", silent(area="0, row * P : (row + 1) * P, column * P : (column + 1) * P"), "one channel changed"),
    ("silent_patches", silent(clone=False), "changed in place"),
    ("silent_patches", nothing_changed, "nothing changed"),
    ("silent_patches", compared(lambda a, b: torch.allclose(a, b, atol=0.1)), "too tolerant"),
    ("silent_patches", compared(lambda a, b: a.argmax() == b.argmax()), "class compared"),
    ("silent_patches", compared(lambda a, b: torch.allclose(a.sum(), b.sum())), "sum compared"),
    ("silent_patches", compared(lambda a, b: torch.allclose(a.max(), b.max())), "largest compared"),
    ("silent_patches", lambda *inputs: torch.manual_seed(0) and silent()(*inputs), "seeded"),
    ("silent_patches", lambda *inputs: 3, "not a list of numbers"),
    ("silent_patches", lambda *inputs: [0.5], "not a list of numbers"),
    ("silent_patches", lambda *inputs: [1000], "input not used"),
    (
        "repaired_attention",
        lambda q, k, v: attend(q, k, v, wide(q), -2, lambda x: x),
        "nothing mended",
    ),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, merge=lambda x: x), "heads merged without transpose"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, dim=-2), "softmax over the queries"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, dim=1), "softmax over the heads"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, wide(q)), "sqrt of the whole width"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, 1), "missing 1/sqrt(d)"),
    ("repaired_attention", lambda q, k, v: attend(q, k, v, q.shape[3] ** 2), "divided by d"),
    (
        "repaired_attention",
        lambda q, k, v: attend(q, k, v, wide(q), -2),
        "sqrt of the whole width + softmax over the queries",
    ),
    ("patients", "aca", "patient A"),
    ("patients", ("b", "d", "b"), "patient B + patient C"),
    ("patients", ("b", "c", "x"), "not a choice"),
    ("patients", "b", "not three letters"),
    ("repaired_schedule", schedule(lambda s, n, e: s / e), "steps taken for epochs"),
    ("repaired_schedule", schedule(lambda s, n, e: (s + 1) / e), "steps taken for epochs"),
    ("repaired_schedule", schedule(lambda s, n, e: s / n), "one epoch only"),
    ("repaired_schedule", schedule(lambda s, n, e: s / n * e), "parentheses missing"),
    ("repaired_schedule", schedule(lambda s, n, e: s // n / e), "moves once an epoch"),
    ("repaired_schedule", schedule(lambda s, n, e: (s // n + 1) / e), "moves once an epoch"),
    ("repaired_schedule", schedule(lambda s, n, e: s % n / n), "starts afresh every epoch"),
    ("repaired_schedule", schedule(lambda s, n, e: s / (n * e - 1)), "one step too few"),
    ("repaired_schedule", schedule(lambda s, n, e: (s + 2) / (n * e)), None),
    ("repaired_schedule", schedule(lambda s, n, e: (s + s % 2) / (n * e)), None),  # both conventions in turn
    ("repaired_schedule", lambda s, n, e: s / (n * e), "progress taken for the factor"),
    ("repaired_schedule", lambda s, n, e: s / e, "input not used"),
    ("repaired_schedule", lambda s, n, e: warmup_cosine(s / (n * e), 0.0), "no warmup"),
    ("repaired_schedule", lambda s, n, e: "fast", "not a number"),
    ("first_broken", trace(pick=lambda broken: broken[-1]), "the last"),
    ("first_broken", trace(bad=lambda x: x.isnan().any()), "infinity overlooked"),
    ("first_broken", trace(lambda broken: broken[-1], lambda x: x.isnan().any()), "infinity overlooked + the last"),
    ("first_broken", trace(bad=lambda x: x.isinf().any()), "nan overlooked"),
    ("first_broken", trace(bad=lambda x: not x.isfinite().any()), "all for any"),
    ("first_broken", lambda model, x: trace()(model, x).rpartition(".")[0], "parent named"),
    ("first_broken", trace(children=True), "parent named"),
    ("first_broken", trace(label="class"), "class instead of name"),
    ("first_broken", trace(keep=True), "hooks left behind"),
    ("first_broken", trace_by_making, "order of making"),
    ("first_broken", trace_inputs, "inputs looked at + nothing returned"),
    ("first_broken", trace_in_eval, "model changed"),
    ("first_broken", look_at_parameters, "model not run"),
    ("first_broken", run_by_hand, "model not run"),
    ("first_broken", lambda model, x: trace()(model, x) or "2", None),
    ("first_broken", lambda model, x: trace()(model, x) or None, "nothing returned"),
    ("first_broken", lambda model, x: model(x)[0, 0], "not a name"),
    ("first_broken", lambda model, x: model(x) is x or "head", None),
]
