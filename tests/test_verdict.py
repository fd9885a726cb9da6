"""The frame of the checks: never raising, naming mistakes, ending in time, leaving random numbers alone."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import PATIENCE

from vit_tutorial.check import verdict
from vit_tutorial.check.reference import chosen, stated, written


@written("Every number is doubled.", lambda: [(torch.randn(3),)])
def doubled(wrong, x):
    """A function that doubles a tensor."""
    return x * x if wrong("squared", "This squares the tensor; add it to itself.") else 2 * x


@written("The sum.", lambda: [(1, 2), (5, 3)])
def added(wrong, a, b):
    """A function that adds two numbers."""
    return a * b if wrong("multiplied", "This multiplies.") else a + b


@stated("One half.", "Divide 1 by 2.")
def half(wrong):
    """The number 0.5."""
    return wrong.choose(0.5, ("inverse", "This is 1 / 0.5.", 2.0))


@chosen("b", "Yes, b.")
def letter():
    """The letter b."""
    return {"a": ("too early", "a comes before b."), "c": ("too late", "c comes after b.")}


def raises(error):
    def answer(x):
        raise error

    return answer


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")


class Secret:
    def __repr__(self):
        raise ValueError("no words")


def half_filled(x):
    y = x + x
    y[0] = torch.nan
    return y


ANSWERS = {
    "right": (doubled, lambda x: x + x, True, None, "Passed. Every number is doubled."),
    "right in place": (doubled, lambda x: x.mul_(2), False, "changed in place", "changes its input x in place"),
    "named mistake": (doubled, lambda x: x * x, False, "squared", "Not yet: squared. This squares the tensor"),
    "named, compared": (doubled, lambda x: x * x, False, "squared", ": expected ["),
    "other values": (doubled, lambda x: 2 * x + x**3, False, None, "Not yet. For x ["),
    "a fact": (doubled, lambda x: 3 * x, False, "factor", "Everything is 1.5 times what it should be."),
    "half precision": (doubled, lambda x: 2 * x.bfloat16(), False, "dtype", "rounding of torch.bfloat16"),
    "a factor": (added, lambda a, b: 2 * (a + b), False, "factor", "Every result is 2 times what it should be."),
    "an offset": (added, lambda a, b: a + b - 1, False, "offset", "Every result is too small by 1."),
    "the other sign": (added, lambda a, b: -a - b, False, "sign", "Every result's sign should be the other one."),
    "another number": (added, lambda a, b: 3 * a + b, False, None, "Not yet. For a 1, b 2: expected 3, found 5."),
    "seeded": (doubled, lambda x: torch.manual_seed(0) and 2 * x, False, "seeded", "seeds torch's generator"),
    "nan": (doubled, half_filled, False, "nan", "found [nan"),
    "shape": (doubled, lambda x: x[None] * 2, False, "wrong shape", "the shape is not"),
    "no tensor": (doubled, lambda x: 7, False, "not a tensor", "found 7"),
    "an array": (doubled, lambda x: 2 * x.numpy(), False, "not a tensor", "found array("),
    "no words": (doubled, lambda x: Secret(), False, "not a tensor", "found an object of type Secret"),
    "long words": (doubled, lambda x: "y" * 10**6, False, "not a tensor", "yyy"),
    "no return": (doubled, lambda x: None, False, "no return", "found None"),
    "stub": (doubled, lambda x: ..., False, "not attempted", "replace the ..."),
    "stub in a tuple": (doubled, lambda x: (x, ...), False, "not attempted", "replace the ..."),
    "ellipsis": (doubled, ..., False, "not attempted", "Not attempted yet"),
    "ellipsis in a list": (doubled, [1, ...], False, "not attempted", "Not attempted yet"),
    "not implemented": (doubled, raises(NotImplementedError), False, "not attempted", "Not attempted yet"),
    "not implemented in torch": (doubled, lambda x: (x > 0).mean(), False, "NotImplementedError", "raised NotImpl"),
    "no function": (doubled, 3, False, "not a function", "Expected a function, found 3"),
    "no arguments": (doubled, lambda: 1, False, "wrong arguments", "function of 1 arguments"),
    "an argument to spare": (doubled, lambda x, times=2: times * x, True, None, "Passed"),
    "raises": (doubled, raises(ValueError("no")), False, "ValueError", "your code raised ValueError: no. Line "),
    "raises inside": (doubled, lambda x: x.view(5), False, "RuntimeError", "x.view(5)"),
    "raises a lot": (doubled, raises(ValueError("y" * 10**6)), False, "ValueError", "yyy."),
    "raises no words": (doubled, raises(Unspeakable), False, "Unspeakable", "raised Unspeakable."),
    "type error": (doubled, lambda x: x + "1", False, "TypeError", "your code raised TypeError"),
    "built-in": (doubled, print, False, "no return", "found None"),
    "exit": (doubled, raises(SystemExit(2)), False, "SystemExit", "SystemExit: 2"),
    "interrupt": (doubled, raises(KeyboardInterrupt), False, "KeyboardInterrupt", "KeyboardInterrupt"),
    "recursion": (doubled, lambda x: ANSWERS["recursion"][1](x), False, "RecursionError", "RecursionError"),
    "class": (doubled, torch.nn.Linear, False, "wrong arguments", ""),
    "number": (half, 0.5, True, None, "One half"),
    "number in a tensor": (half, torch.tensor([0.5]), True, None, "One half"),
    "NumPy's number": (half, np.float32(0.5), True, None, "One half"),
    "number in an array": (half, np.array(0.5), True, None, "One half"),
    "fraction": (half, Fraction(1, 2), True, None, "One half"),
    "number mistaken": (half, 2, False, "inverse", "Not yet: inverse. This is 1 / 0.5."),
    "number off": (half, 0.6, False, None, "Not yet. Divide 1 by 2. Found 0.6"),
    "number as text": (half, " 1/2", True, None, "One half"),
    "text": (half, "half", False, "not a number", "found 'half'"),
    "truth value": (half, True, False, "not a number", "found True"),
    "no number": (half, 1j, False, "not a number", "found 1j"),
    "huge number": (half, 10**400, False, "OverflowError", "OverflowError"),
    "choice": (letter, " (B) ", True, None, "Yes, b."),
    "choice mistaken": (letter, "c", False, "too late", "after b"),
    "no choice": (letter, "x", False, "not a choice", "'a', 'b', 'c', found 'x'"),
    "choice as number": (letter, 1, False, "not a choice", "found 1"),
    "choice as a list": (letter, ["b", 2], False, "not a choice", "found ['b', 2]"),
}


@pytest.mark.parametrize("checker, answer, passed, mistake, message", ANSWERS.values(), ids=ANSWERS.keys())
def test_verdicts(checker, answer, passed, mistake, message, capsys):
    result = checker(answer)
    assert (result.passed, result.mistake) == (passed, mistake)
    assert message in result.message and len(result.message) < 600
    assert capsys.readouterr().out.endswith(result.message + "\n")


def test_checks_leave_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    doubled(lambda x: x * 2)
    assert torch.equal(torch.rand(2), expected)


def test_inputs_are_fresh():
    seen = []
    for _ in range(2):
        torch.manual_seed(0)
        doubled(lambda x: seen.append(x) or 2 * x)
    assert not torch.equal(*seen)


def test_what_an_answer_prints_is_shown_and_cut(capsys):
    def answer(x):
        print("my own words")
        print("y" * 10**6)
        return 2 * x

    result = doubled(answer)
    out = capsys.readouterr().out
    assert out.startswith("my own words\ny") and out.endswith(f"\n{result.message}\n") and result.passed
    assert len(out) < 2500 and "more characters" in out


def spins(x):
    while True:
        pass


def prints(x):
    while True:
        print(x)


def computes(x):
    while True:
        x = x + x @ torch.ones(3, 3)


def catches(x):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


@pytest.mark.parametrize("answer", [spins, prints, computes, catches])
@pytest.mark.parametrize("main", [True, False], ids=["main thread", "other thread"])
def test_an_endless_loop_is_stopped(answer, main, monkeypatch, capsys):
    before, results, usual, started = set(threading.enumerate()), [], verdict.SECONDS, time.monotonic()
    monkeypatch.setattr(verdict, "SECONDS", 0.2)
    monkeypatch.setattr(verdict, "GRACE", PATIENCE)
    if main:
        results.append(doubled(answer))
    else:
        thread = threading.Thread(target=lambda: results.append(doubled(answer)))
        thread.start()
        thread.join()
    (result,) = results
    assert (result.passed, result.mistake) == (False, "no end") and time.monotonic() - started < usual
    assert "Expected an answer within 0.2 s" in result.message and "restart" not in result.message
    assert set(threading.enumerate()) <= before, "the loop still runs"
    assert capsys.readouterr().err == ""
    monkeypatch.undo()
    assert doubled(lambda x: 2 * x).passed


def test_what_cannot_be_stopped_is_left_behind_and_said(monkeypatch):
    """A wait inside a library: nothing reaches it, and the learner has the notebook back all the same."""
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "SECONDS", 0.2)
        patch.setattr(verdict, "GRACE", 0.2)
        result = doubled(lambda x: threading.Event().wait())
    assert result.mistake == "no end" and "restart the kernel" in result.message
    assert doubled(lambda x: 2 * x).passed


def test_the_learners_own_interrupt_gets_through(monkeypatch):
    """Kernel, Interrupt: the loop is stopped, and so is the cell."""
    started, stopped = threading.Event(), threading.Event()

    def answer(x):
        started.set()
        try:
            while True:
                pass
        finally:
            stopped.set()

    join = threading.Thread.join

    def interrupted(thread, timeout=None):
        monkeypatch.setattr(threading.Thread, "join", join)
        assert started.wait(PATIENCE)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        doubled(answer)
    assert stopped.wait(PATIENCE)


@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_as_in_the_notebook(on):
    seen = []
    with torch.set_grad_enabled(on):
        doubled(lambda x: seen.append(torch.is_grad_enabled()) or 2 * x)
    assert seen == [on]
