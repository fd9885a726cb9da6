"""Every exercise accepts right answers in different styles, and calls each planted mistake by its name."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from mistakes import tables
from vit_tutorial import check
from vit_tutorial.check import reference, verdict

TABLES = tables()
RIGHT = [(name, answer) for name, (right, _) in TABLES.items() for answer in right]
WRONG = [(name, answer, mistake) for name, (_, wrong) in TABLES.items() for answer, mistake in wrong]
FUNCTIONS = [name for name, answer in dict(RIGHT).items() if callable(answer)]


@pytest.fixture(params=[0, pytest.param(1, marks=pytest.mark.slow)])
def judge(request, monkeypatch):
    """A check with the same inputs in every run, and weekly with others; `tools/measure/checks.py` draws fresh ones."""
    monkeypatch.setattr(verdict, "fresh_seed", lambda: request.param)
    return lambda name, answer: check.EXERCISES[name](answer)


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=[f"{name}-{n}" for n, (name, _) in enumerate(RIGHT)])
def test_right_answer_passes(name, answer, judge, capsys):
    result = judge(name, answer)
    assert result.passed and result.mistake is None, result.message
    assert capsys.readouterr().out == result.message + "\n"
    assert result.message.startswith("Passed. ") and len(result.message) > 20


@pytest.mark.parametrize(("name", "answer", "mistake"), WRONG, ids=[f"{n}-{m}" for n, _, m in WRONG])
def test_mistake_gets_its_name(name, answer, mistake, judge):
    result = judge(name, answer)
    assert (result.passed, result.mistake) == (False, mistake), result.message
    if mistake is None:
        assert "found" in result.message.lower()
    elif not mistake.endswith("Error"):
        assert result.message.startswith(f"Not yet: {mistake}. "), result.message
        assert len(result.message) > len(mistake) + 25, "a name without a why"


@pytest.mark.parametrize("name", check.EXERCISES)
def test_every_exercise_is_tested(name):
    right, wrong = TABLES[name]
    assert len(right) >= 3 and wrong, (len(right), len(wrong))


def spoil(value):
    if isinstance(value, torch.Tensor) and not value.requires_grad and value.is_floating_point():
        value.fill_(7.0)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("repaired_block", "lora")])
def test_an_answer_may_spoil_its_inputs(name, judge):
    """Where that is what the exercise is about, it has a name; elsewhere it changes nothing."""
    answer = TABLES[name][0][0]

    def spoils(*inputs):
        result = answer(*inputs)
        result = tuple(x.clone() for x in result) if isinstance(result, tuple) and name == "paste_box" else result
        result = result.clone() if isinstance(result, torch.Tensor) else result
        for value in inputs:
            spoil(value)
        return result

    result = judge(name, spoils)
    assert result.passed or result.mistake == "changed in place", result.message


class Hostile:
    """Raises at whatever is asked of it."""

    def __getattribute__(self, name):
        raise AttributeError("hostile")

    def __repr__(self):
        raise RuntimeError("hostile")

    __eq__ = __bool__ = __len__ = __iter__ = __float__ = __hash__ = __repr__


def raises(error):
    def function(*inputs):
        raise error

    return function


GARBAGE = {
    "none": None,
    "text": "x",
    "minus": -7.5,
    "nan": float("nan"),
    "huge": 10**400,
    "complex": 1j,
    "true": True,
    "list": [],
    "tuple": (),
    "nones": (None,) * 4,
    "texts": ("x",) * 3,
    "dict": {},
    "array": np.zeros(3),
    "empty tensor": torch.zeros(0),
    "tensor": torch.full((2, 2), float("nan")),
    "integers": torch.zeros(3, dtype=torch.int64),
    "class": nn.Linear,
    "int": int,
    "module": nn.Linear(2, 2),
    "object": object(),
    "hostile": Hostile(),
    "print": print,
    "no arguments": lambda: 1,
    "returns none": lambda *inputs: None,
    "returns text": lambda *inputs: "x",
    "returns nan": lambda *inputs: torch.full((2, 3), float("nan")),
    "returns a hostile": lambda *inputs: Hostile(),
    "raises": raises(RuntimeError("planted")),
    "exits": raises(SystemExit(3)),
    "interrupts": raises(KeyboardInterrupt()),
    "recursion": lambda *inputs: GARBAGE["recursion"](*inputs),
}


@pytest.mark.parametrize("name", check.EXERCISES)
def test_garbage_gets_a_verdict(name, monkeypatch):
    monkeypatch.setattr(reference, "SECONDS", 0.05)  # for mistakes at once, of which garbage has none
    for what, answer in GARBAGE.items():
        result = check.EXERCISES[name](answer)
        assert isinstance(result, check.CheckResult) and not result.passed, what
        assert len(result.message) < 1000, what


@pytest.mark.parametrize("name", check.EXERCISES)
def test_stub_is_not_attempted(name):
    checker = check.EXERCISES[name]
    assert checker().mistake == checker(...).mistake == "not attempted"
    if name in FUNCTIONS and name != "repaired_block":
        assert checker(lambda *inputs: ...).mistake == "not attempted"


def test_an_endless_answer_ends(monkeypatch):
    """Whatever the exercise: one that never comes back, and one that waits in C."""
    monkeypatch.setattr(verdict, "SECONDS", 0.1)
    monkeypatch.setattr(verdict, "GRACE", 0.0)  # nobody waits for a sleeper

    for name in ("cut_patches", "layer_norm", "training_step", "shuffle_patches"):
        assert check.EXERCISES[name](lambda *inputs: threading.Event().wait()).mistake == "no end"
