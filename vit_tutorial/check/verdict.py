"""How an exercise answers: passed, not attempted, or what was expected, what was found, and the mistake by name."""

import ctypes
import functools
import inspect
import io
import numbers
import os
import reprlib
import threading
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from fractions import Fraction

import torch

SECONDS = 20.0  # how long an answer may take
GRACE = 1.0  # seconds in which code that is told to stop must do so
SHOWN = 2000  # characters of what an answer prints that are shown
ON_PASS = []  # functions of a `CheckResult`, called with a pass that a cell shows: `check` fills this
COURSE, PYTHON = os.path.dirname(os.path.dirname(__file__)), os.path.dirname(os.__file__)


@dataclass(frozen=True)
class CheckResult:
    """`passed`, the `mistake` by name (`None` where it passed or has no name), and the `message` that was printed.

    `exercise` is the checker's name and `answer` what was checked.
    """

    passed: bool
    mistake: str | None
    message: str
    exercise: str | None = None
    answer: object = field(default=None, repr=False, compare=False)

    def _ipython_display_(self):
        """The verdict has been printed. One that stands last in a cell is the learner's own: a pass is remembered."""
        if self.passed and self.exercise:
            for callback in ON_PASS:
                callback(self)


class Wrong(Exception):
    """The answer is not right: `Wrong(message, mistake)`."""

    def __init__(self, message, mistake=None):
        super().__init__(message)
        self.mistake = mistake


class NotAttempted(Exception):
    """The stub is still as it was."""


class Stop(BaseException):
    """Thrown into code that has run too long."""


class Shown(io.TextIOBase):
    """What an answer prints: the first `SHOWN` characters are kept, the others counted."""

    def __init__(self):
        self.text, self.more = "", 0

    def write(self, text):
        kept = text[: SHOWN - len(self.text)]
        self.text, self.more = self.text + kept, self.more + len(text) - len(kept)
        return len(text)

    def __str__(self):
        return self.text + (f"\n... and {self.more:,} more characters\n" if self.more else "")


def limited(work, seconds=None):
    """What `work()` returns, or `None` after so many seconds (default `SECONDS`); and whether it still runs.

    It runs in a thread of its own, for a thread can be told to stop on Linux, macOS and Windows alike; a signal cannot
    on Windows, nor anywhere else than in the main thread. Told so, it stops as soon as it runs Python again. Code that
    waits inside a library (a sleep, a huge product), or that catches every exception, is left to itself, and the
    notebook goes on. One thing holds the whole kernel: an endless call that never lets go of the interpreter, such as
    `sum(itertools.count())`. Nothing inside the process can end that; interrupt or restart the kernel.
    """
    results, gradients = [], torch.is_grad_enabled()  # a new thread would start with gradients on

    def run():
        with suppress(Stop), torch.set_grad_enabled(gradients):
            results.append(work())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + (SECONDS if seconds is None else seconds)
    try:
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.05)  # short waits, so that the learner's own interrupt gets through on Windows too
        in_time = not thread.is_alive()
    finally:
        deadline = time.monotonic() + GRACE
        while thread.is_alive() and time.monotonic() < deadline:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
            thread.join(0.05)
    return (results[0] if in_time and results else None), thread.is_alive()


def exercise(function):
    """Make a checker of a function that returns praise for a right answer and raises `Wrong` for another.

    The checker prints what the answer printed and a verdict, and returns a `CheckResult`. Whatever it is given, it
    never raises (only the learner's own interrupt gets through), comes back after `SECONDS`, and leaves torch's random
    numbers as they were. Its inputs are drawn afresh at each call.
    """

    @functools.wraps(function)
    def checker(answer=...):
        shown = Shown()
        with torch.random.fork_rng(devices=[]), redirect_stdout(shown), redirect_stderr(shown):
            torch.default_generator.manual_seed(fresh_seed())
            result, running = limited(lambda: judge(function, answer))
        if result is None:
            message = f"Not yet: no end. Expected an answer within {SECONDS:g} s, found none: does a loop never end?"
            if running:
                message += " It could not be stopped and still runs: restart the kernel before you go on."
            result = CheckResult(False, "no end", message, function.__name__, answer)
        if str(shown):
            print(str(shown).rstrip("\n"))
        print(result.message)
        return result

    # Outside of the process that holds the answer, `judge_given` judges what `hand_out` gave there: plain data.
    checker.hand_out, checker.judge_given = (lambda answer: answer), function
    return checker


def observed(checker, observe, confirm):
    """Let an answer that is no plain data be judged outside: by `confirm` of what `observe` gives in plain data.

    What the checker finds where the answer is counts against it, too.
    """

    def hand_out(answer):
        seed = torch.initial_seed()
        checker.__wrapped__(answer)
        torch.default_generator.manual_seed(seed)
        return observe(answer)

    checker.hand_out, checker.judge_given = hand_out, confirm


def fresh_seed():
    return int.from_bytes(os.urandom(6), "little")


def judge(function, answer):
    """The `CheckResult` of an answer. Only `Stop` is raised."""
    passed, mistake = False, None
    try:
        attempted(answer)
        passed, message = True, f"Passed. {function(answer)}"
    except NotAttempted:
        mistake, message = "not attempted", "Not attempted yet: replace the ... with your answer."
    except Wrong as wrong:
        mistake, message = wrong.mistake, f"Not yet: {wrong.mistake}. {wrong}" if wrong.mistake else f"Not yet. {wrong}"
    except Stop:
        raise
    except BaseException as error:  # the learner's code may raise anything, SystemExit and KeyboardInterrupt included
        mistake, message = type(error).__name__, f"Not yet. Your code raised {explain(error)}"
    return CheckResult(passed, mistake, message, function.__name__, answer)


def explain(error):
    """What was raised, and in which line of the learner's."""
    try:
        text = str(error)
    except Exception:
        text = ""
    text = f": {text[:300]}" if text else ""
    frames = traceback.extract_tb(error.__traceback__)
    ours = (COURSE, PYTHON, "<frozen")
    own = [f for f in frames if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    place = f" Line {own[-1].lineno} of {own[-1].name}: {own[-1].line}" if own and own[-1].line else ""
    return f"{type(error).__name__}{text}{'' if text.endswith('.') else '.'}{place}"


def attempted(answer):
    """Pass an answer on, unless it is the stub's `...`, or a tuple or list with one in it."""
    if answer is ... or (isinstance(answer, (tuple, list)) and any(part is ... for part in answer)):
        raise NotAttempted
    return answer


def call(function, *inputs):
    """What the learner's function returns; `NotAttempted` where that is `...`."""
    if not callable(function):
        raise Wrong(f"Expected a function, found {describe(function)}.", "not a function")
    try:
        result = function(*inputs)
    except NotImplementedError as error:
        if not str(error) or explain(error).rpartition(": ")[2].startswith("raise "):  # the stub's; torch has its own
            raise NotAttempted from None
        raise
    except TypeError as error:
        if not takes(function, inputs):
            raise Wrong(f"Expected a function of {len(inputs)} arguments; {error}.", "wrong arguments") from None
        raise
    if result is None:
        raise Wrong("Expected a result, found None. Does the function end in return?", "no return")
    return attempted(result)


def takes(function, inputs):
    """Whether a function can be called with these inputs; True where nobody can say."""
    try:
        inspect.signature(function).bind(*inputs)
    except TypeError:
        return False
    except ValueError:  # a built-in one without a signature
        pass
    return True


def describe(value):
    """A short name for what was found, without addresses."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, type) or inspect.isroutine(value):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    try:
        text = reprlib.repr(value)
    except Exception:  # a repr of the learner's own
        text = " at 0x"
    text = f"an object of type {type(value).__name__}" if " at 0x" in text else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def values(tensor):
    return tensor.detach().cpu().double()


def same(found, expected, tolerance=1e-4):
    """Whether two tensors agree in shape and, within a tolerance, in every value."""
    return found.shape == expected.shape and torch.allclose(
        values(found), values(expected), rtol=tolerance, atol=tolerance
    )


def number(found, what="the number"):
    """A number as a float: Python's, NumPy's, a fraction, its text, or a tensor, array or list that holds one.

    Raises `Wrong` for anything else.
    """
    if isinstance(found, torch.Tensor) and found.numel() == 1 or getattr(found, "size", None) == 1:
        found = found.item()
    if isinstance(found, (list, tuple)) and len(found) == 1:
        found = found[0]
    if isinstance(found, str):
        with suppress(ValueError, ZeroDivisionError):  # Fraction("1e999999999") would never end
            found = Fraction(found.strip()) if "/" in found else float(found)
    if isinstance(found, bool) or not isinstance(found, numbers.Real):
        raise Wrong(f"Expected {what} to be a number, found {describe(found)}.", "not a number")
    return float(found)


def expect_choice(found, right, why):
    """Raise `Wrong` unless the letter `found` is `right`; `why` maps each wrong letter to `(mistake, sentence)`."""
    parts = list(found) if isinstance(found, (str, list, tuple)) else [found]
    text = all(isinstance(part, str) for part in parts)
    letter = "".join(c for c in "".join(parts) if c.isalnum()).lower() if text else found  # "C, A" and ("C", "A") too
    if letter == right:
        return
    if not isinstance(letter, str) or letter not in why:
        letters = ", ".join(repr(x) for x in sorted({right, *why}))
        raise Wrong(f"Expected one of the letters {letters}, found {describe(found)}.", "not a choice")
    mistake, sentence = why[letter]
    raise Wrong(sentence, mistake)
