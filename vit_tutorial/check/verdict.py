"""How an exercise answers: passed, not attempted, or what was expected, what was found, and the mistake by name."""

import functools
import inspect
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CheckResult:
    """`passed`, the `mistake` by name (`None` where it passed or has no name), and the `message` that was printed."""

    passed: bool
    mistake: str | None
    message: str

    def _ipython_display_(self):
        """Nothing: the verdict has been printed."""


class Wrong(Exception):
    """The answer is not right: `Wrong(message, mistake)`."""

    def __init__(self, message, mistake=None):
        super().__init__(message)
        self.mistake = mistake


class NotAttempted(Exception):
    """The stub is still as it was."""


def exercise(function):
    """Make a checker of a function that returns praise for a right answer and raises `Wrong` for another.

    The checker prints a verdict and returns a `CheckResult`. It never raises at the learner, and leaves torch's random
    numbers as they were.
    """

    @functools.wraps(function)
    def checker(answer=...):
        try:
            with torch.random.fork_rng(devices=[]):
                attempted(answer)
                result = CheckResult(True, None, f"Passed. {function(answer)}")
        except NotAttempted:
            result = CheckResult(False, "not attempted", "Not attempted yet: replace the ... with your answer.")
        except Wrong as wrong:
            result = CheckResult(False, wrong.mistake, f"Not yet. {wrong}")
        except Exception as error:  # the learner's code may raise anything
            kind = type(error).__name__
            result = CheckResult(False, kind, f"Not yet. Your code raised {kind}: {error}")
        print(result.message)
        return result

    return checker


def attempted(answer):
    """Pass an answer on, unless it is the stub's `...`, or a tuple with one in it."""
    if answer is ... or (isinstance(answer, tuple) and any(part is ... for part in answer)):
        raise NotAttempted
    return answer


def call(function, *inputs):
    """What the learner's function returns; `NotAttempted` where that is `...` or the body is still empty."""
    if not callable(function):
        raise Wrong(f"Expected a function, found {describe(function)}.", "not a function")
    try:
        result = function(*inputs)
    except NotImplementedError:
        raise NotAttempted from None
    except TypeError as error:
        if len(inputs) != len(inspect.signature(function).parameters):
            raise Wrong(f"Expected a function of {len(inputs)} arguments; {error}.", "wrong arguments") from None
        raise
    if result is None:
        raise Wrong("Expected a result, found None. Does the function end in return?", "no return")
    return attempted(result)


def describe(value):
    """A short name for what was found."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def expect_tensor(found, expected, mistakes=(), tolerance=1e-4, what="the result"):
    """Raise `Wrong` unless `found` equals the tensor `expected`, shape and values.

    `mistakes` are `(name, value, why)`: an answer that equals `value` gets that name and that sentence.
    """
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"Expected {what} to be a tensor of shape {tuple(expected.shape)}, found {describe(found)}.")
    for name, value, why in mistakes:
        if not same(found, expected, tolerance) and same(found, value, tolerance):
            raise Wrong(f"{why[0].upper()}{why[1:]}", name)
    if found.shape != expected.shape:
        raise Wrong(f"Expected {what} with shape {tuple(expected.shape)}, found {tuple(found.shape)}.", "wrong shape")
    if not same(found, expected, tolerance):
        difference = (found.double() - expected.double()).abs()
        where = tuple(torch.unravel_index(difference.argmax(), difference.shape)) if difference.ndim else ()
        place = f" at {[int(i) for i in where]}" if where else ""
        raise Wrong(
            f"The shape of {what} is right, the values are not: expected {expected[where].item():.4f}{place}, "
            f"found {found[where].item():.4f}."
        )


def same(found, expected, tolerance=1e-4):
    """Whether two tensors agree in shape and, within a tolerance, in every value."""
    return found.shape == expected.shape and torch.allclose(
        found.detach().double(), expected.detach().double(), rtol=tolerance, atol=tolerance
    )


def expect_number(found, expected, mistakes=(), tolerance=1e-4, what="the number"):
    """As `expect_tensor`, for one number (or a tensor that holds one)."""
    if isinstance(found, torch.Tensor) and found.numel() == 1:
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise Wrong(f"Expected {what} to be a number, found {describe(found)}.", "not a number")
    close = lambda a, b: abs(a - b) <= tolerance * max(1.0, abs(b))  # noqa: E731
    if close(found, expected):
        return
    for name, value, why in mistakes:
        if close(found, value):
            raise Wrong(f"{why[0].upper()}{why[1:]}", name)
    raise Wrong(f"Expected {what} to be {expected:,.6g}, found {found:,.6g}.")


def expect_choice(found, right, why):
    """Raise `Wrong` unless the letter `found` is `right`; `why` maps each wrong letter to `(mistake, sentence)`."""
    letter = found.strip().lower() if isinstance(found, str) else found
    if letter == right:
        return
    if letter not in why:
        letters = ", ".join(repr(x) for x in sorted({right, *why}))
        raise Wrong(f"Expected one of the letters {letters}, found {describe(found)}.", "not a choice")
    mistake, sentence = why[letter]
    raise Wrong(sentence, mistake)
