"""The frame of the checks: never raising, naming mistakes, leaving random numbers alone."""

import pytest
import torch

from vit_tutorial import check
from vit_tutorial.check.verdict import (
    CheckResult,
    Wrong,
    call,
    exercise,
    expect_choice,
    expect_number,
    expect_tensor,
)


@exercise
def doubled(answer):
    """A function that doubles a tensor."""
    x = torch.randn(3)
    expect_tensor(call(answer, x), 2 * x, [("squared", x * x, "this squares the tensor; add it to itself.")])
    return "Every number is doubled."


@exercise
def half(answer):
    """The number 0.5."""
    expect_number(answer, 0.5, [("inverse", 2.0, "this is 1 / 0.5.")])
    return "One half."


@exercise
def letter(answer):
    """The letter b."""
    expect_choice(answer, "b", {"a": ("too early", "a comes before b."), "c": ("too late", "c comes after b.")})
    return "Yes, b."


def loops(x):
    raise RecursionError("maximum recursion depth exceeded")


def exits(x):
    raise ValueError("no")


ANSWERS = {
    "right": (doubled, lambda x: x + x, True, None, "Passed. Every number is doubled."),
    "named mistake": (doubled, lambda x: x * x, False, "squared", "Not yet. This squares the tensor"),
    "other values": (doubled, lambda x: 3 * x, False, None, "values are not: expected"),
    "shape": (doubled, lambda x: x[None] * 2, False, "wrong shape", "shape (3,), found (1, 3)"),
    "no tensor": (doubled, lambda x: 7, False, None, "found 7"),
    "no return": (doubled, lambda x: None, False, "no return", "found None"),
    "stub": (doubled, lambda x: ..., False, "not attempted", "replace the ..."),
    "ellipsis": (doubled, ..., False, "not attempted", "Not attempted yet"),
    "no function": (doubled, 3, False, "not a function", "Expected a function, found 3"),
    "no arguments": (doubled, lambda: 1, False, "wrong arguments", "function of 1 arguments"),
    "raises": (doubled, exits, False, "ValueError", "Your code raised ValueError: no"),
    "recursion": (doubled, loops, False, "RecursionError", "RecursionError"),
    "class": (doubled, torch.nn.Linear, False, "wrong arguments", ""),
    "number": (half, 0.5, True, None, "One half"),
    "number in a tensor": (half, torch.tensor(0.5), True, None, "One half"),
    "number mistaken": (half, 2, False, "inverse", "This is 1 / 0.5"),
    "number off": (half, 0.6, False, None, "to be 0.5, found 0.6"),
    "number as text": (half, "0.5", False, "not a number", "found '0.5'"),
    "truth value": (half, True, False, "not a number", "found True"),
    "choice": (letter, " B ", True, None, "Yes, b."),
    "choice mistaken": (letter, "c", False, "too late", "after b"),
    "no choice": (letter, "x", False, "not a choice", "'a', 'b', 'c', found 'x'"),
    "choice as number": (letter, 1, False, "not a choice", "found 1"),
}


@pytest.mark.parametrize("checker, answer, passed, mistake, message", ANSWERS.values(), ids=ANSWERS.keys())
def test_verdicts(checker, answer, passed, mistake, message, capsys):
    result = checker(answer)
    assert (result.passed, result.mistake) == (passed, mistake)
    assert message in result.message
    assert capsys.readouterr().out == result.message + "\n"


def test_checks_leave_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    doubled(lambda x: x * 2)
    assert torch.equal(torch.rand(2), expected)


GARBAGE = {
    "stub": ...,
    "none": None,
    "text": "x",
    "number": -1,
    "empty tensor": torch.zeros(0),
    "empty tuple": (),
    "class": torch.nn.Linear,
    "raises": lambda *a: 1 / 0,
}


@pytest.mark.parametrize("name, checker", check.EXERCISES.items())
@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_no_check_of_the_course_raises_or_passes_garbage(name, checker, answer):
    result = checker(answer)
    assert isinstance(result, CheckResult) and not result.passed
    assert getattr(check, name) is checker and checker.__doc__


def test_wrong_carries_its_name():
    assert Wrong("why", "name").mistake == "name"
