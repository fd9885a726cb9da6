"""Checks of notebook 07, When training fails."""

import math

import torch
from torch import nn

from ..training import warmup_cosine
from .verdict import Wrong, attempted, call, describe, exercise, expect_choice, expect_number, expect_tensor, number

__all__ = [
    "softmax_bounds",
    "shuffled_batch",
    "silent_patches",
    "repaired_attention",
    "patients",
    "repaired_schedule",
    "first_broken",
]


@exercise
def softmax_bounds(answer):
    """Lowest and highest cross-entropy of probabilities taken for logits, 100 classes."""
    K = 100
    low, high = math.log(math.e + K - 1) - 1, math.log(math.e + K - 1)
    if not isinstance(answer, (tuple, list, torch.Tensor)) or len(answer) != 2:
        raise Wrong(f"Expected two numbers (lowest, highest), found {describe(answer)}.", "not two numbers")
    attempted(tuple(answer))
    lowest, highest = (number(part, "each of the two") for part in answer)
    if lowest > highest:
        raise Wrong("The first number must be the lowest loss, the second the highest.", "swapped")
    if highest > 10:
        raise Wrong("It cannot grow without end: the largest number that the softmax is given is 1.", "unbounded")
    expect_number(
        lowest,
        low,
        (
            (
                "no second softmax",
                0.0,
                "0 is the lowest loss of logits; here the softmax squeezes numbers from 0 to 1.",
            ),
            ("ten classes", math.log(math.e + 9) - 1, "that is the bound for 10 classes; here there are 100."),
            (
                "wrong classes forgotten",
                math.log(math.e + K) - 1,
                "the sum below the fraction has K terms: e once, and e^0 = 1 for the K - 1 other classes.",
            ),
        ),
        tolerance=0.002,
        what="the lowest loss",
    )
    expect_number(
        highest,
        high,
        (
            ("guess taken for the worst", math.log(K), "that is a guess; all on one *wrong* class is worse than that."),
            ("ten classes", math.log(math.e + 9), "that is the bound for 10 classes; here there are 100."),
        ),
        tolerance=0.002,
        what="the highest loss",
    )
    return "From 3.6222 to 4.6222: exactly 1 wide for any number of classes, and hardly below a guess (4.6052)."


class Deaf(nn.Module):
    """A model that looks at each patch through a weight of its own, which may be 0."""

    def __init__(self, images, patch_size, silent):
        super().__init__()
        _, C, Y, X = images.shape
        rows, columns = Y // patch_size, X // patch_size
        mask = torch.rand(rows * columns) + 0.5
        mask[list(silent)] = 0.0
        mask = mask.reshape(rows, columns).repeat_interleave(patch_size, 0).repeat_interleave(patch_size, 1)
        weight = torch.randn(C, Y, X, 4) * mask[:, :, None]  # (C, Y, X, classes)
        self.weight = weight / (C * Y * X) ** 0.5  # small enough that tanh still hears every patch

    def forward(self, images):
        return torch.einsum("bcyx,cyxk->bk", images, self.weight).tanh() + 0.1


@exercise
def silent_patches(function):
    """`(model, image, patch_size) -> ` numbers of the patches that do not change the logits."""
    cases = (((3, 16, 24), 8, {3}), ((3, 12, 20), 4, {2, 7, 14}), ((1, 8, 8), 2, set()), ((3, 24, 16), 8, {0, 5}))
    for (C, Y, X), P, silent in cases:
        image = torch.rand(C, Y, X) - 0.5
        rows, columns = Y // P, X // P
        found = call(function, Deaf(image[None], P, silent), image, P)
        if isinstance(found, torch.Tensor):
            found = found.flatten().nonzero().flatten().tolist() if found.dtype == torch.bool else found.tolist()
        if not isinstance(found, (list, tuple, set)) or not all(type(number) is int for number in found):
            raise Wrong(f"Expected a list of patch numbers, found {describe(found)}.", "not a list of numbers")
        found = set(found)
        if found == silent:
            continue
        everything = set(range(rows * columns))
        down = {column * rows + row for row, column in (divmod(number, columns) for number in silent)}
        if found == everything - silent:
            raise Wrong("These are the patches that do change the logits; asked for are the others.", "inverted")
        if found == {number + 1 for number in silent}:
            raise Wrong("Your numbers are all one too high: patches are counted from 0.", "counted from 1")
        if found == down and rows != columns:
            raise Wrong(
                "You number the patches down the columns; the course counts along the rows.", "columns before rows"
            )
        if found == everything:
            raise Wrong(
                "You call every patch silent. Is the image that you changed the one that you gave to the model?",
                "nothing changed",
            )
        raise Wrong(
            f"In an image of {Y} x {X} pixels, patch size {P}, the silent patches are {sorted(silent)}; "
            f"found {sorted(found)[:8]}."
        )
    return "Every deaf spot found, in images of several sizes, and none where there is none."


def attend(q, k, v, scale=None, dim=-1, transpose=True):
    """Attention on heads `(B, H, N, d)`, merged to `(B, N, H*d)`; the arguments plant mistakes."""
    B, H, N, d = q.shape
    weights = (q @ k.transpose(-2, -1) * (d**-0.5 if scale is None else scale)).softmax(dim=dim)
    x = weights @ v
    return (x.transpose(1, 2) if transpose else x).reshape(B, N, H * d)  # (B, N, D)


@exercise
def repaired_attention(function):
    """`(q, k, v) -> ` attention of heads `(B, H, N, d)`, merged to `(B, N, D)`."""
    for B, H, N, d in ((2, 3, 5, 4), (1, 2, 7, 8), (3, 4, 4, 6)):
        q, k, v = torch.randn(3, B, H, N, d)
        wide = (H * d) ** -0.5
        mistakes = [
            ("as it was", attend(q, k, v, wide, -2, False), "All three mistakes are still in it."),
            ("merge without transpose", attend(q, k, v, transpose=False), MERGE),
            ("softmax over the queries", attend(q, k, v, dim=-2), QUERIES),
            ("softmax over the heads", attend(q, k, v, dim=1), QUERIES),
            ("sqrt(D) for sqrt(d)", attend(q, k, v, wide), "The scale is still 1/sqrt(D): a head is only d wide."),
            ("not scaled", attend(q, k, v, 1.0), "The scores are not scaled at all: divide them by sqrt(d)."),
            ("two left", attend(q, k, v, wide, -2), "The merge is right. The scale and the softmax are not."),
            ("two left", attend(q, k, v, wide, -1, False), "The softmax is right. The scale and the merge are not."),
            ("two left", attend(q, k, v, None, -2, False), "The scale is right. The softmax and the merge are not."),
        ]
        expect_tensor(call(function, q, k, v), attend(q, k, v), mistakes, what="the merged heads")
    return "Scale, softmax and merge agree with the reference on three shapes."


MERGE = (
    "The heads are merged without the transpose: (B, H, N, d) read off in memory order gives a token one head of "
    "several tokens. Use transpose(1, 2) before the reshape."
)
QUERIES = "The softmax runs over the wrong axis: each query's weights over the keys, the last axis, must sum to 1."


PATIENTS = {  # patient -> its illness, and what each other answer overlooks
    "A": (
        "b",
        {
            "a": "Patient A's logits do depend on the image (rung 3). Ask which patches they depend on.",
            "c": "A missing scale leaves every patch with a say. Patient A hears some patches, and not others.",
            "d": "A saturated head starts with a loss far above ln 10. Patient A starts at ln 10.",
        },
    ),
    "B": (
        "c",
        {
            "a": "Patient B's logits depend on the image (rung 3).",
            "b": "Every patch of patient B has a say (rung 3). Only the comparison with the reference objects.",
            "d": "A saturated head starts with a loss far above ln 10, and agrees with the reference.",
        },
    ),
    "C": (
        "a",
        {
            "b": "Not some patches: none of patient C's patches reaches the logits (rung 3).",
            "c": "A missing scale leaves the logits depending on the image. Patient C's do not (rung 3).",
            "d": "A saturated head starts with a loss far above ln 10. Patient C starts at ln 10.",
        },
    ),
}


@exercise
def patients(answer):
    """The illnesses of patients A, B and C, as three letters."""
    if not isinstance(answer, (tuple, list, str)) or len(answer) != len(PATIENTS):
        raise Wrong(f"Expected three letters, for patients A, B and C, found {describe(answer)}.", "not three letters")
    attempted(tuple(answer))
    for letter, (name, (right, why)) in zip(answer, PATIENTS.items(), strict=True):
        expect_choice(letter, right, {wrong: (f"patient {name}", reason) for wrong, reason in why.items()})
    return "All three found. A and B learn, and would never have raised an error."


@exercise
def repaired_schedule(function):
    """`(step, steps_per_epoch, epochs) -> ` warmup and cosine over the whole run, called once a step."""
    for per_epoch, epochs in ((20, 5), (7, 10), (50, 2)):
        total = per_epoch * epochs
        steps = range(0, total + 1)

        def curve(progress, steps=steps):
            return torch.tensor([float(warmup_cosine(min(progress(step), 1.0))) for step in steps])

        found = [number(call(function, step, per_epoch, epochs), "the factor") for step in steps]
        mistakes = (
            (
                "steps taken for epochs",
                curve(lambda s, e=epochs: s / e),
                f"as before, the run is over for this schedule after {epochs} steps: it is called once a step, and "
                f"there are {total} of them.",
            ),
            (
                "one epoch only",
                curve(lambda s, n=per_epoch: s / n),
                "this schedule ends with the first epoch: divide by the steps of the whole run.",
            ),
            (
                "moves once an epoch",
                curve(lambda s, n=per_epoch, e=epochs: s // n / e),
                "it moves in stairs, and stands at 0 for the whole first epoch: // forgets the steps within an epoch.",
            ),
            (
                "progress taken for the factor",
                torch.tensor([step / total for step in steps]),
                "that is the progress of the run; hand it to warmup_cosine.",
            ),
        )
        expect_tensor(
            torch.tensor(found),
            curve(lambda s, t=total: s / t),
            mistakes,
            tolerance=1e-5,
            what=f"the factor at steps 0 to {total} ({epochs} epochs of {per_epoch})",
        )
    return "The peak comes after a tenth of all steps, and 0 after the last, however long the epochs are."


@exercise
def shuffled_batch(answer):
    """What a loss of 0.01 on one batch with shuffled labels says."""
    expect_choice(
        answer,
        "c",
        {
            "a": (
                "memory taken for understanding",
                "Nothing was understood: with shuffled labels there is nothing to understand. The batch was memorised.",
            ),
            "b": (
                "memory taken for a fault",
                "A model with more weights than pictures can memorise any labels; that is what this rung asks of it.",
            ),
            "d": (
                "labels taken for right",
                "The one-batch rung cannot tell right labels from shuffled ones: both are learned by heart.",
            ),
        },
    )
    return "Learning by heart needs gradients that flow, and nothing more. Only fresh pictures show whether labels fit."


class Odd(nn.Module):
    """Layers `a`, `b` and `c`, made in another order than they run."""

    def __init__(self, width):
        super().__init__()
        self.c, self.b = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.a = nn.Linear(width, width)

    def forward(self, x):
        return self.c(self.b(self.a(x)))


def poisoned(poisons, width=6):
    """A model of two `Odd`s, in which each of these layers puts out the number it is mapped to."""
    model = nn.Sequential(Odd(width), Odd(width), nn.Linear(width, 3))
    for name, value in poisons.items():
        with torch.no_grad():
            model.get_submodule(name).bias[0] = value
    return model


def broken_layers(model, images, bad=lambda x: not x.isfinite().all()):
    """Names of the layers with a bad output, in the order in which they ran."""
    found = []
    for name, module in model.named_modules():
        if name and not any(module.children()):
            hook = lambda m, i, out, name=name: found.append(name) if bad(out) else None  # noqa: E731
            module.register_forward_hook(hook)
    model(images)
    for module in model.modules():
        module._forward_hooks.clear()
    return found


@exercise
def first_broken(function):
    """`(model, x) -> name` of the first layer to run whose output is not finite; "" where all are."""
    nan, inf = float("nan"), float("inf")
    for poisons in (
        {"1.b.0": nan},
        {"0.a": inf},
        {"0.b.0": -inf, "1.a": nan},
        {"2": nan},
        {"0.a": nan, "1.c": inf},
        {},
    ):
        model, x = poisoned(poisons), torch.randn(4, 6)
        names = [name for name, module in model.named_modules() if name and not any(module.children())]
        broken = broken_layers(model, x)
        right = broken[0] if broken else ""
        found = call(function, model, x)
        if any(module._forward_hooks for module in model.modules()):
            raise Wrong(
                "Your hooks are still in the model, and will run in every later step. Keep what "
                "register_forward_hook returns, and call its remove().",
                "hooks left behind",
            )
        if found == right:
            continue
        compared = f"Expected {right!r}, found {describe(found)}."
        if not isinstance(found, str):
            raise Wrong(f"Expected the name of a layer, a string. {compared}", "not a name")
        if not right:
            raise Wrong(f'Every output is finite here; return "". {compared}', "healthy called broken")
        if right.startswith(f"{found}.") or found in (type(m).__name__ for m in model.modules()):
            kind = ("parent named", "a module that holds the layer; look at those without children of their own")
            if "." not in found and not found.isdigit():
                kind = "class instead of name", "the kind of layer, of which there are many; named_modules() has names"
            raise Wrong(f"That is {kind[1]}. {compared}", kind[0])
        if found == next((n for n in names if n in broken), None):
            why = "That is the first in the order in which the layers were made; they may run in another order."
            raise Wrong(f"{why} {compared}", "order of making")
        if found == next(iter(broken_layers(model, x, lambda out: out.isnan().any())), ""):
            why = "That is where the first nan comes out, but the layer before it put out an infinite number."
            raise Wrong(f"{why} {compared}", "infinity overlooked")
        if found == broken[-1]:
            raise Wrong(f"That is the last one; the fault is handed on, so look for the first. {compared}", "the last")
        raise Wrong(compared)
    return "The first layer that broke, by name, and the model is as it was."
