"""Checks of notebook 07, When training fails."""

import functools
import math
from itertools import chain, product

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks

from ..training import warmup_cosine
from .attention import merge, weigh
from .reference import chosen, stated, whole, written
from .verdict import Wrong, attempted, call, describe, exercise, expect_choice

__all__ = [
    "softmax_bounds",
    "shuffled_batch",
    "silent_patches",
    "repaired_attention",
    "patients",
    "repaired_schedule",
    "first_broken",
]


@stated(
    "From 3.6222 to 4.6222: exactly 1 wide for any number of classes, and hardly below a guess (4.6052).",
    "Take 1 for the right class and 0 for the 99 others as logits, then 1 for a wrong class instead.",
    tolerance=0.001,
)
def softmax_bounds(wrong):
    """Lowest and highest cross-entropy of probabilities taken for logits, 100 classes."""
    terms = "The sum below the fraction has as many terms as classes: e once, and e^0 = 1 for each wrong class."
    K = 10 if wrong("ten classes", "This is for 10 classes; here there are 100.") else 100
    log = math.log10 if wrong("decimal logarithm", "The logarithm of cross-entropy is the natural one.") else math.log
    total = log(math.e + (K if wrong("one class too many", terms) else K - 1))
    lowest = wrong.choose(
        total - log(math.e),
        ("no second softmax", "0 is the lowest loss of logits; here they lie between 0 and 1.", 0.0),
        ("guess taken for the best", "That is a guess; all on the right class is better than that.", log(K)),
    )
    highest = wrong.choose(
        total,
        ("unbounded", "It cannot grow without end: the largest number that the softmax is given is 1.", math.inf),
        ("guess taken for the worst", "That is a guess; all on one *wrong* class is worse than that.", log(K)),
    )
    swapped = wrong("swapped", "The first number must be the lowest loss, the second the highest.")
    return (highest, lowest) if swapped else (lowest, highest)


@chosen("c", "Learning by heart takes gradients that flow, and no more. Only fresh images show whether labels fit.")
def shuffled_batch():
    """What a loss of 0.01 on one batch with shuffled labels says."""
    return {
        "a": ("memory taken for understanding", "With shuffled labels there is nothing to understand: it memorised."),
        "b": ("memory taken for a fault", "A model with more weights than images can memorise any labels."),
        "d": ("labels taken for right", "Right labels or shuffled ones: on one batch both are learned by heart."),
    }


class Deaf(nn.Module):
    """A model with a weight for each pixel. Those of some patches are scaled, by 0 where these shall be silent."""

    def __init__(self, image, P, scales):
        super().__init__()
        C, Y, X = image.shape
        weight = torch.randn(C, Y, X, 10) / (C * P * P) ** 0.5
        for number, (y, x) in enumerate(product(range(0, Y, P), range(0, X, P))):
            patch = weight[:, y : y + P, x : x + P]
            patch *= scales.get(number, 1.0)
            patch[..., 0] *= number not in scales  # the best class does not hear them
        for end, patch in ((0, weight[:, :P, :P]), (-1, weight[:, -P:, -P:])):  # which hear but their first, last pixel
            patch.zero_()
            patch[end, end, end] = 20.0 * torch.eye(10)[torch.randperm(10)[:2]].T @ torch.tensor([1.0, -1.0])
        self.register_buffer("weight", weight)
        self.offset = torch.zeros(10)
        self.offset = 20.0 - self(image[None])[0] + torch.rand(10) + 2.0 * torch.eye(10)[0]  # class 0 is a little ahead

    def forward(self, images):  # one by one, so that company changes no digit
        return self.offset + torch.stack([(image[..., None] * self.weight).sum((0, 1, 2)) for image in images])


def deaf_models():
    for shape, P, scales in (
        ((1, 4, 6), 2, {1: 0, 3: 0, 4: 0.003}),
        ((3, 16, 24), 8, {3: 0, 2: 0.003, 1: 0.3}),
        ((3, 12, 20), 4, {2: 0, 7: 0, 8: 0, 3: 0.003, 5: 0.3}),
        ((2, 8, 4), 2, {2: 0.003, 5: 0.3}),
        ((3, 6, 6), 3, {1: 0}),
        ((3, 5, 5), 5, {}),
    ):
        image = 1.125 + torch.randint(8, shape) / 4
        yield Deaf(image, P, scales).eval(), image, P


def patch_numbers(function, model, image, patch_size):
    """The numbers that the function returns, or the places where its mask is True, sorted."""
    before = image.clone()
    found = call(function, model, image, patch_size)
    if not torch.equal(image, before):
        why = "Your code changes the image that it was given, and compares changed with changed: work on image.clone()."
        raise Wrong(why, "changed in place")
    try:
        numbers = np.array(found.tolist() if hasattr(found, "tolist") else [*found])
        if numbers.dtype != bool and numbers.ndim > 1 and numbers.shape[1] > 1:
            why = f"Expected the number of each patch, found {describe(found)}: row * columns + column."
            raise Wrong(why, "rows and columns for numbers")
        numbers = numbers.flatten()
        numbers = numbers.nonzero()[0] if numbers.dtype == bool else numbers
        if numbers.size and (numbers % 1).any():
            raise ValueError
        return sorted({*map(int, numbers)})
    except (TypeError, ValueError):
        raise Wrong(f"Expected a list of patch numbers, found {describe(found)}.", "not a list of numbers") from None


@written("Every deaf spot found, in images of several sizes, and none where none is.", deaf_models, use=patch_numbers)
def silent_patches(wrong, model, image, patch_size):
    """`(model, image, patch_size) -> ` numbers of the patches that do not change the logits."""
    P, (_, Y, X) = patch_size, image.shape
    rows, columns = Y // P, X // P
    begins = "The patch in row 1 begins at pixel P, not at pixel 1: multiply rows and columns by the patch size."
    step = 1 if wrong("row not times P", begins) else P
    channels, side = wrong.choose(
        (slice(None), P),
        ("one channel changed", "A patch holds all channels; you changed the first alone.", (slice(1), P)),
        ("one pixel changed", "A patch holds P * P pixels; you changed the first alone.", (slice(None), 1)),
    )
    tolerant = "A patch that moves the logits by less than your tolerance has a say, too, if a small one."
    atol = 0.1 if wrong("too tolerant", tolerant) else 1e-8
    seen = wrong.choose(
        lambda logits: logits,
        ("class compared", "The best class may stay while the logits move; compare the logits.", torch.argmax),
        ("one logit compared", "One logit may stay while others move; compare them all.", lambda logits: logits[:, 0]),
        ("sum compared", "One logit may rise as another falls; compare them one by one.", torch.sum),
        ("largest compared", "The largest logit may stay while others move; compare them all.", torch.amax),
    )
    same = "You call every patch silent. Is the image that you changed the one that you gave to the model?"
    nothing = wrong("nothing changed", same)
    if wrong("none found", "Your list is empty, and some patches are silent: is what you changed what the model got?"):
        return []
    before, silent = model(image[None]), []
    for y, x in product(range(rows), range(columns)):
        changed = image.clone()
        changed[channels, y * step : y * step + side, x * step : x * step + side] += 1
        after = model(changed[None])
        alike = torch.allclose(seen(after).float(), seen(before).float(), atol=atol)
        silent += [(y, x)] * (alike or nothing)
    if wrong("inverted", "These are the patches that do change the logits; asked for are the others."):
        silent = [place for place in product(range(rows), range(columns)) if place not in silent]
    down = "You number the patches down the columns; the course counts along the rows."
    row, column = wrong.choose(
        (columns, 1),
        ("columns before rows", down, (1, rows)),
        ("row times rows", "A row has as many patches as there are columns: row * columns + column.", (rows, 1)),
    )
    first = wrong("counted from 1", "Your numbers are all one too high: patches are counted from 0.")
    return sorted({y * row + x * column + first for y, x in silent})


def heads():
    yield tuple(whole(3, 1, 2, 2, 2))
    for B, H, N, d in ((2, 3, 5, 4), (1, 2, 7, 8), (3, 4, 1, 6)):
        yield tuple(torch.randn(3, B, H, N, d))


@written("Scale, softmax and merge agree with the reference on four shapes.", heads, together=3)
def repaired_attention(wrong, q, k, v):
    """`(q, k, v) -> ` attention of heads `(B, H, N, d)`, merged to `(B, N, D)`."""
    if wrong("nothing mended", "All three faults are left: the divisor, the softmax, the way back to (B, N, H*d)."):
        B, H, N, d = q.shape
        return ((q @ k.mT / (H * d) ** 0.5).softmax(-2) @ v).reshape(B, N, H * d)
    k, v = wrong.choose(
        (k, v),
        ("k and v swapped", "Queries meet the keys, k; what the weights mix are the values, v.", (v, k)),
        ("k mixed", "The weights mix the keys; what is mixed are the values, v.", (k, k)),
    )
    return merge(wrong, weigh(wrong, q, k) @ v)


ILLNESSES = {"A": "b", "B": "c", "C": "a"}
OVERLOOKED = {  # by each other answer
    "Aa": "Patient A's logits do depend on the image (rung 3). Ask which patches they depend on.",
    "Ac": "A missing scale leaves every patch with a say. Patient A hears some patches, and not others.",
    "Ad": "A saturated head starts with a loss far above ln 10. Patient A starts at ln 10.",
    "Ba": "Patient B's logits depend on the image (rung 3).",
    "Bb": "Every patch of patient B has a say (rung 3). Only the comparison with the reference objects.",
    "Bd": "A saturated head starts with a loss far above ln 10, and agrees with the reference. B does neither.",
    "Cb": "Not some patches: none of patient C's patches reaches the logits (rung 3).",
    "Cc": "A missing scale leaves the logits depending on the image. Patient C's do not (rung 3).",
    "Cd": "A saturated head starts with a loss far above ln 10. Patient C starts at ln 10.",
}


@exercise
def patients(answer):
    """The illnesses of patients A, B and C, as three letters."""
    letters, mistakes = [], {}
    if isinstance(answer, (tuple, list, np.ndarray, str)):
        letters = [x for x in answer if x.isalpha()] if isinstance(answer, str) else attempted([*answer])
    if len(letters) != len(ILLNESSES):
        raise Wrong(f"Expected three letters, for patients A, B and C, found {describe(answer)}.", "not three letters")
    for letter, (name, right) in zip(letters, ILLNESSES.items(), strict=True):
        reasons = {key[1]: (f"patient {name}", why) for key, why in OVERLOOKED.items() if key[0] == name}
        try:
            expect_choice(letter, right, reasons)
        except Wrong as wrong:
            mistakes[wrong.mistake] = str(wrong)
    if mistakes:
        raise Wrong(" ".join(mistakes.values()), " + ".join(mistakes))
    return "All three found. A and B learn, and would never have raised an error."


def scheduled():
    for per_epoch, epochs in ((2, 5), (20, 5), (7, 10), (50, 2), (1, 12)):
        yield from ((step, per_epoch, epochs) for step in range(per_epoch * epochs))


@written("The peak comes after a tenth of all steps, and 0 with the last, however long the epochs are.", scheduled)
def repaired_schedule(wrong, step, steps_per_epoch, epochs):
    """`(step, steps_per_epoch, epochs) -> ` warmup and cosine over the whole run, called once a step."""
    n, whole_epochs = steps_per_epoch, step // steps_per_epoch
    stairs = "It moves in stairs: // forgets the steps within an epoch."
    done = wrong.choose(
        step,
        ("this step counted", "", step + 1),
        ("moves once an epoch", stairs, whole_epochs * n),
        ("moves once an epoch", stairs, (whole_epochs + 1) * n),
    )
    before = "As before, the run is over for this schedule after as many steps as there are epochs."
    total = wrong.choose(
        n * epochs,
        ("steps taken for epochs", before, epochs),
        ("one epoch only", "This schedule ends with the first epoch: divide by the steps of the whole run.", n),
        ("added for multiplied", "Each epoch has all its steps: multiply the two numbers.", n + epochs),
        ("one step too few", "Progress is the share of all steps: divide by their number.", n * epochs - 1),
    )
    precedence = "a / b * c is (a / b) * c: put the product into parentheses, step / (steps_per_epoch * epochs)."
    afresh = "It starts afresh with every epoch; the progress is that of the whole run."
    progress = wrong.choose(
        min(1.0, done / total),
        ("parentheses missing", precedence, min(1.0, done / n * epochs)),
        ("starts afresh every epoch", afresh, step % n / n),
    )
    start = "It is 0 at every step: / keeps the fraction, // does not; and min, not max, ends at 1."
    one = "The warmup is a tenth of the run, however many epochs that are; here it is one epoch."
    line = min(10 * progress, (1 - progress) / 0.9)
    return wrong.choose(
        warmup_cosine(progress),
        ("always 0", start, 0.0),
        ("warmup of one epoch", one, warmup_cosine(progress, 1 / epochs)),
        ("line for a cosine", "After the warmup it falls in a line; warmup_cosine has the curve.", line),
        ("progress taken for the factor", "That is the progress of the run; hand it to warmup_cosine.", progress),
        ("no warmup", "The factor starts at 1: the warmup is missing.", warmup_cosine(progress, 0.0)),
    )


class Odd(nn.Module):
    """Layers made in another order than they run: `a` twice, `spare` never. `divisor` belongs to no layer."""

    def __init__(self, width):
        super().__init__()
        self.spare, self.c = nn.Linear(width, width), nn.GroupNorm(1, width)
        self.b, self.a = nn.Sequential(nn.Linear(width, width), nn.ReLU()), nn.Linear(width, width)
        self.register_buffer("divisor", torch.ones(1))
        self.a.register_forward_hook(looks_on)

    def forward(self, x):
        Odd.ran = True  # also where a copy runs
        return self.c(self.b(self.a(self.a(x)))) / self.divisor


def looks_on(module, given, out):
    """A hook that was there before."""


def poisoned():
    """Models with a few of their weights set, and what they are given."""
    nan, inf = math.nan, math.inf
    for poisons, x in (
        ({"1.b.0.bias": nan}, 1),
        ({"0.a.bias": inf}, 1),
        ({"0.b.0.bias": -inf, "1.a.bias": nan}, 1),
        ({"0.b.0.bias": -inf}, 1),  # which the ReLU makes finite again
        ({"2.bias": inf}, 1),
        ({"1.c.bias": inf}, 1),
        ({"0.a.bias": nan, "1.c.bias": inf}, 1),
        ({"1.a.bias": 1e20, "1.b.0.weight": 1e20}, 1),  # finite weights, infinite product
        ({"0.a.weight": 1e20}, 1),  # which breaks when it runs again
        ({"0.divisor": 0.0}, 1),
        ({"0.spare.bias": nan}, 1),
        ({}, 1),
        ({}, nan),
    ):
        model = nn.Sequential(Odd(3), Odd(3), nn.Linear(3, 2)).train(bool(poisons))
        for name, value in poisons.items():
            model.state_dict()[name].view(-1)[-1] = value
        given = whole(2, 3, low=1)
        given[-1] *= x  # the first picture may be sound
        yield model, given


def traces(model):
    """How many hooks and attributes the modules have."""
    parts = [(vars(m), m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    return sum(map(len, [_global_forward_hooks, *chain.from_iterable(parts)]))


def name_found(function, model, x):
    """The name that the function returns; `Wrong` where it leaves something in the model that runs with it."""
    Odd.ran, before = False, traces(model)
    try:
        found = call(function, model, x)
    except Wrong as wrong:
        if wrong.mistake != "no return":
            raise
        found = None
    if traces(model) > before:
        _global_forward_hooks.clear()
        why = "What you put into the model to watch it is still there and will run in every later step. Keep what "
        raise Wrong(f"{why}register_forward_hook returns, and call its remove().", "hooks left behind")
    if not Odd.ran:
        why = "A weight may be finite where the output is not, or never be used: run model(x) and look at the outputs."
        raise Wrong(why, "model not run")
    if not isinstance(found, (str, type(None))):
        raise Wrong(f"Expected the name of a layer, a string, found {describe(found)}.", "not a name")
    return found


@written("The first layer that broke, by name, and the model is as it was.", poisoned, use=name_found)
def first_broken(wrong, model, x):
    """`(model, x) -> name` of the first layer to run whose output is not finite; "" where all are."""
    leaves = {name: module for name, module in model.named_modules() if name and not [*module.children()]}
    parent = "A module that holds the layer is no layer; look at those without children of their own."
    children, modules = (("parent named", parent, dict(f())) for f in (model.named_children, model.named_modules))
    layers = wrong.choose(leaves, children, modules)
    bad = wrong.choose(
        lambda y: not y.isfinite().all(),
        ("infinity overlooked", "isnan is False for infinity, which is not finite either.", lambda y: y.isnan().any()),
        ("nan overlooked", "isinf is False for nan, which is not finite either.", lambda y: y.isinf().any()),
        ("finite for not finite", "These are the layers whose output is finite.", lambda y: y.isfinite().all()),
        ("all for any", "One number that is not finite is enough.", lambda y: not y.isfinite().any()),
    )
    entering = wrong("inputs looked at", "You look at what a layer is given; the layer before it is what broke.")
    broken = []

    def hook(name, module, given, out):
        broken.extend([name] * bool(bad(given[0] if entering else out)))

    handles = [layer.register_forward_hook(functools.partial(hook, name)) for name, layer in layers.items()]
    model(x)
    for handle in handles:
        handle.remove()
    if wrong("order of making", "That is the first in the order of making; layers may run in another order."):
        broken = [name for name in layers if name in broken]
    last = wrong("the last", "That is the last one; the fault is handed on, so look for the first.")
    kind = wrong(
        "class instead of name", "That is a kind of layer, of which there are many; named_modules() has names."
    )
    above = wrong("parent named", parent, place=2)
    late = "All hooks share the loop's name, which is the last when they run: hand it over, name=name in the lambda."
    late = wrong("last name of the loop", late)
    nothing = wrong("nothing returned", 'Where every output is finite, return "", not None.')
    if not broken:
        return None if nothing else ""
    name = [*layers][-1] if late else broken[-1 if last else 0]
    return type(layers[name]).__name__ if kind else name.rpartition(".")[0] if above else name
