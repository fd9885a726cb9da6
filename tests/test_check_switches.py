"""Each switch of each reference gets its own name, two at once get both, and no verdict gives a stated answer away."""

import functools
from itertools import combinations

import pytest
import torch

from vit_tutorial import check
from vit_tutorial.check import verdict
from vit_tutorial.check.facts import agree
from vit_tutorial.check.reference import Run, Switches

TASKS = {name: checker for name, checker in check.EXERCISES.items() if getattr(checker, "task", None)}


def switches(task):
    """The runs of a task and its switches, `{(name, place): why}`."""
    runs, why = [Run(inputs, 0) for inputs in task.cases()], {}
    for on, _ in task.sets(runs, why):
        if len(on) > 1:
            break
    return runs, why


def with_mistakes(task, on, stated):
    reference = functools.partial(task.reference, Switches(on))
    return reference() if stated else reference


@pytest.mark.parametrize("name", TASKS)
def test_each_switch_gets_its_name(name, monkeypatch):
    monkeypatch.setattr(verdict, "fresh_seed", lambda: 0)
    task = TASKS[name].task
    runs, why = switches(task)
    stated = runs[0].inputs == ()
    assert len({mistake for mistake, _ in why}) >= 3
    assert TASKS[name](with_mistakes(task, (), stated)).passed
    for mistake, place in why:
        result = TASKS[name](with_mistakes(task, [(mistake, place)], stated))
        if not why[mistake, place]:  # another convention
            assert result.passed, result.message
            continue
        assert (result.passed, result.mistake) == (False, mistake), result.message
        assert why[mistake, place].endswith((".", "?")), "a sentence of its own"


@pytest.mark.parametrize("name", TASKS)
def test_two_mistakes_are_never_none(name, monkeypatch):
    """Some pairs: refused, and called by both names or by one that alone gives the same."""
    monkeypatch.setattr(verdict, "fresh_seed", lambda: 0)
    task = TASKS[name].task
    runs, why = switches(task)
    stated = runs[0].inputs == ()
    if task.together < 2:
        return
    pairs = list(combinations([key for key in why if why[key]], 2))
    for on in pairs[:: max(1, len(pairs) // 8)]:
        right, wrong = (task.referred(runs[0], pair) for pair in ((), on))
        result = TASKS[name](with_mistakes(task, on, stated))
        if agree(wrong, right, task.tolerance) and result.passed:
            continue  # two mistakes that undo each other
        assert not result.passed and result.mistake, result.message


@pytest.mark.parametrize("name", [name for name in TASKS if next(iter(TASKS[name].task.cases())) == ()])
def test_a_stated_answer_stays_secret(name):
    """Whatever is given; and no two mistakes look alike."""
    task = TASKS[name].task
    (run,), why = switches(task)
    right = task.referred(run)
    values = [right, *(task.referred(run, [key]) for key in why)]
    for (a, first), (b, second) in combinations(zip([None, *why], values, strict=True), 2):
        assert not agree(second, first, task.tolerance) or (a and a[0] == b[0]), (a, b)
    parts = right if isinstance(right, tuple) else (right,)
    texts = [f"{part:.4g}" for part in parts if isinstance(part, (int, float)) and len(f"{part:.4g}") > 1]
    other = right + 1.234 if isinstance(right, torch.Tensor) else tuple(1.234 * part + 7 for part in parts)
    for answer in (other if isinstance(right, (tuple, torch.Tensor)) else other[0], "x", None, -1, [1], 10**9):
        message = TASKS[name](answer).message
        assert not any(text in message.split() or f"{text}." in message.split() for text in texts), message
