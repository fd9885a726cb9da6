"""What can be seen of a result: whether two agree, how they are shown, how a wrong one differs from the right one."""

import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import torch
from torch import nn

from .verdict import Wrong, attempted, describe, explain, number, same

SMALL = 16  # numbers that a message shows one by one


@dataclass
class Raised:
    """An error that took the place of a result."""

    error: BaseException


def agree(found, expected, tolerance=1e-4):
    """Whether a result is the expected one: tensors by shape and value, numbers by value, all else by `==`.

    A tensor with nan agrees with one that has its nan at the same places.
    """
    if isinstance(expected, Raised) or isinstance(found, Raised):
        said = [sorted(explain(x.error).partition(" Line ")[0]) for x in (found, expected) if isinstance(x, Raised)]
        return len(said) == 2 and said[0] == said[1]  # sorted: the operands may stand in either order
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
            return False
        if found.isnan().any() and torch.equal(found.isnan(), expected.isnan()):
            found, expected = found.nan_to_num(0.0), expected.nan_to_num(0.0)
        return same(found, expected, tolerance)
    if isinstance(expected, (tuple, list)):
        alike = isinstance(found, (tuple, list)) and len(found) == len(expected)
        return alike and all(agree(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, (int, float, Fraction)) and not isinstance(expected, bool):
        try:
            found = number(found)
        except Wrong:
            return False
        expected = float(expected)
        return found == expected or abs(found - expected) <= tolerance * max(1.0, abs(expected)) < torch.inf
    if isinstance(expected, bool):
        one = isinstance(found, (bool, np.bool_)) or isinstance(found, torch.Tensor) and found.numel() == 1
        return one and bool(found) is expected
    return type(found) is type(expected) and found == expected


def as_expected(answer, expected):
    """A value in the form of the expected one: lists, arrays, tensors, fractions and the text of a number will do."""
    if isinstance(expected, torch.Tensor) and not isinstance(answer, torch.Tensor):
        try:
            return torch.as_tensor(np.array(attempted(answer), dtype=float))
        except (TypeError, ValueError):
            raise Wrong(
                f"Expected a tensor of shape {tuple(expected.shape)}, found {describe(answer)}.", "not a tensor"
            ) from None
    if isinstance(expected, (tuple, list)):
        answer = answer.strip(" ()[]").split(",") if isinstance(answer, str) else answer
        try:
            parts = [attempted(part) for part in answer]
        except TypeError:
            parts = None
        if parts is None or len(parts) != len(expected):
            raise Wrong(f"Expected {len(expected)} numbers, found {describe(answer)}.", "wrong count")
        return tuple(as_expected(part, right) for part, right in zip(parts, expected, strict=True))
    return number(answer, "the answer") if isinstance(expected, (int, float)) else answer


def numbers(tensor):
    """A small tensor as text, whole numbers without a point."""
    if tensor.ndim:
        return f"[{', '.join(map(numbers, tensor))}]"
    value = tensor.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shown(value):
    """A value for a message: a small tensor by its numbers, a larger one by its shape, anything else in short."""
    if isinstance(value, str) and len(value) <= 120:
        return repr(value)
    if isinstance(value, float):
        return f"{value:.6g}" if value % 1 else f"{value:.0f}"
    if not isinstance(value, torch.Tensor):
        named = isinstance(value, (nn.Module, torch.optim.Optimizer))
        return type(value).__name__ if named else describe(value)
    usual = value.dtype in (torch.float32, torch.int64, torch.bool)
    kind = "" if usual else f" ({str(value.dtype).removeprefix('torch.')})"
    return (numbers(value.detach()) if value.numel() <= SMALL else f"of shape {tuple(value.shape)}") + kind


def compared(found, expected):
    """A sentence on what was expected and what was found."""
    if isinstance(found, Raised):
        return f"your code raised {explain(found.error)}"
    if isinstance(expected, Raised):
        return f"expected {type(expected.error).__name__}, found {shown(found)}."
    pairs = isinstance(found, tuple) and isinstance(expected, tuple) and len(found) == len(expected)
    if pairs and any(isinstance(part, (torch.Tensor, str)) for part in expected):  # the first part that is wrong
        differing = [pair for pair in zip(found, expected, strict=True) if not agree(*pair)]
        return compared(*differing[0]) if differing else "two parts differ by very little."
    tensors = isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor)
    if not tensors or found.shape != expected.shape or expected.numel() <= SMALL:
        return f"expected {shown(expected)}, found {shown(found)}."
    difference = (found.double() - expected.double()).abs().nan_to_num(torch.inf)
    where = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
    return f"expected {numbers(expected[where].detach())} at {list(where)}, found {numbers(found[where].detach())}."


def unlike(before, after):
    """Whether something is no longer as it was: tensors, models (weights, modes, hooks) and what holds them."""
    if isinstance(before, torch.Tensor):
        kept = before.shape == after.shape and before.requires_grad == after.requires_grad
        return not kept or bool(((before != after) & ~(before.isnan() & after.isnan())).any())
    if isinstance(before, nn.Module):
        state = lambda model: [  # noqa: E731
            [(name, type(m), m.training, len(m._forward_hooks)) for name, m in model.named_modules()],
            [(p.requires_grad, p.grad is None) for p in model.parameters()],
        ]
        return state(before) != state(after) or unlike(dict(before.state_dict()), dict(after.state_dict()))
    if isinstance(before, dict):
        return list(before) != list(after) or any(unlike(before[key], after[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return len(before) != len(after) or any(map(unlike, before, after))
    return isinstance(before, (int, float, str, set, np.ndarray)) and bool(np.any(before != after))


def facts(task, answer, run, runs=()):
    """`(name, sentence)` of what can be observed of a wrong result that no switch explains; `(None, "")` if nothing.

    Of tensors only what is seen in all wrong `runs`: in a small one a reversal may be chance.
    """
    found, expected = run.found, run.right
    if isinstance(found, Raised):
        return type(found.error).__name__, ""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor):
            return "not a tensor", "torch.as_tensor makes a tensor of an array, torch.stack of a list of tensors."
        seen = list(of_tensors(task, run))
        sure = [fact for fact in seen if fact[0] in ("wrong shape", "nan")]  # said of the case that is shown
        failed = [some for some in runs if not agree(some.found, some.right, task.tolerance)]
        for other in (some for some in failed if isinstance(some.found, torch.Tensor)):
            every = list(of_tensors(task, other))
            every += [fact for fact in seen if fact[0] in ("factor", "offset") and fact[0] in dict(every)]
            seen = [fact for fact in seen if fact in every]
        seen = seen or sure or filter(None, (unused(task, answer, some, runs) for some in (run, *failed[-1:])))
        return next(iter(seen), (None, ""))
    if isinstance(expected, tuple) and isinstance(found, (tuple, list)) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True), 1)
        place, pair = next(((n, pair) for n, pair in pairs if not agree(*pair, task.tolerance)), (0, ()))
        if pair and isinstance(pair[1], torch.Tensor) and not isinstance(pair[0], torch.Tensor):
            return "not a tensor", f"Part {place} is no tensor; torch.as_tensor makes one of an array or a list."
        if pair and all(isinstance(part, torch.Tensor) for part in pair):
            alike = [x for x in runs if isinstance(x.found, type(found)) and len(x.found) == len(expected)]
            parts = [replace(x, found=x.found[place - 1], right=x.right[place - 1]) for x in (run, *alike)]
            first, *others = [list(of_tensors(task, x)) for x in parts if not agree(x.found, x.right, task.tolerance)]
            seen = (fact for fact in first if fact[0] in ("wrong shape", "nan") or all(fact in x for x in others))
            return next(seen, (f"part {place} wrong", f"Part {place} of the result is wrong."))
    seen = None
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        number(found, "the result")  # which raises Wrong
        if len(runs) > 1 and not any(isinstance(x, Raised) for some in runs for x in (some.found, some.right)):
            pairs = torch.tensor([[number(some.found, "the result"), some.right] for some in runs]).double()
            seen = next(scaled(*pairs.T, task.tolerance, "Every result", "Every result's sign"), None)
    return seen or unused(task, answer, run, runs) or (None, "")


def of_tensors(task, run):
    """How a wrong tensor may differ from the right one, `(name, sentence)` each, the likeliest first."""
    found, expected = run.found.detach(), run.right.detach()
    alike = lambda other: agree(found, other, task.tolerance)  # noqa: E731
    for axes in permutations(range(expected.ndim)):
        if list(axes) != sorted(axes) and alike(expected.permute(axes)):
            yield "axes swapped", f"The numbers are right, the axes are not in their order: these are {axes}."
    if found.shape != expected.shape:
        if found.numel() == expected.numel() and alike(expected.reshape(found.shape)):
            yield "wrong shape", "The numbers are right and in their order, the shape is not."
        yield "wrong shape", ""
        return
    if found.isnan().any() and not expected.isnan().any():
        yield "nan", "0/0, inf - inf, 0 * inf and the root of a negative number give nan."
    for name, value in zip(task.names, run.inputs, strict=False):
        if isinstance(value, torch.Tensor) and alike(value):
            yield "input returned", f"This is {name}, as it came in."
    if found.dtype in (torch.half, torch.bfloat16) and agree(found.double(), expected.double(), 0.02):
        yield "dtype", f"The numbers are right but for the rounding of {found.dtype}: stay in float32."
    several = expected.ndim > 1 and len(expected) > 1  # one number may be right by chance
    if several and agree(found[0], expected[0], task.tolerance):
        yield "only the first", "The first entry is right, and others are not."
    for axis in range(expected.ndim):
        if alike(expected.flip(axis)):
            yield "reversed", f"The numbers are right, but in reverse order along axis {axis}."
    found, expected = found.double(), expected.double()
    yield from scaled(found, expected, task.tolerance)
    for name, rounded in (("rounded", expected.round()), ("rounded down", expected.floor())):
        if agree(found, rounded, task.tolerance):
            yield name, "These are whole numbers; the fractions are lost."


def scaled(found, expected, tolerance, every="Everything", sign="Every sign"):
    """`(name, sentence)` where float64 numbers are all one multiple of the right ones, or all off by as much."""
    if expected.std(correction=0) == 0 or not found.isfinite().all():
        return
    factor = (found * expected).sum() / expected.square().sum()
    if factor.abs() > 1e-6 and agree(found, factor * expected, tolerance):
        text = f"{every} is {factor:.4g} times what it should be."
        yield ("sign", f"{sign} should be the other one.") if abs(factor + 1) < 1e-4 else ("factor", text)
    offset = (found - expected).mean()
    if agree(found, expected + offset, tolerance):
        yield "offset", f"{every} is too {'large' if offset > 0 else 'small'} by {offset.abs():.4g}."


def moved(value):
    """A value with other numbers in the place of its own; None where it has none."""
    if isinstance(value, torch.Tensor):
        return value.detach() + 4 * torch.rand_like(value) + 0.5 if value.is_floating_point() else None
    if isinstance(value, (list, tuple)):
        parts = [*map(moved, value)]
        return None if not parts or any(part is None for part in parts) else type(value)(parts)
    return {int: lambda: value + 1, float: lambda: value / 2}.get(type(value), lambda: None)()


def unused(task, answer, run, runs=()):
    """What the answer, unlike the reference, uses in no run, or which images it mixes; None if neither."""
    if answer is None:  # it is judged elsewhere
        return None

    def anew(some, place, value):
        again = copy.copy(some)
        again.inputs = (*some.inputs[:place], value, *some.inputs[place + 1 :])
        return task.referred(again), task.outcome(answer, again)[0]

    for place, (name, value) in enumerate(zip(task.names, run.inputs, strict=False)):
        other = moved(value)
        if other is None:
            continue
        right = anew(run, place, other)[0]
        matters = not isinstance(right, Raised) and not agree(right, run.right, 1e-9)
        if matters and all(agree(anew(x, place, moved(x.inputs[place]))[1], x.found, 1e-9) for x in runs or [run]):
            return "input not used", f"The result does not depend on {name}."
        if not isinstance(value, torch.Tensor) or not value.ndim or not isinstance(run.right, torch.Tensor):
            continue
        other[:1] = value.detach()[:1]
        right, given = anew(run, place, other)
        first = all(isinstance(x, torch.Tensor) and x.ndim and x.shape == run.right.shape for x in (right, given))
        later = first and agree(right[0], run.right[0], 1e-9) and not agree(right, run.right, 1e-9)
        if later and not agree(given[0], run.found[0], 1e-5):
            mixed = "images mixed" if value.ndim > 2 else "entries mixed"
            return mixed, f"The first result depends on the other entries of {name}."
    return None
