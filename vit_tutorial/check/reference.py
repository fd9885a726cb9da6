"""Checks as a reference with switches: one function gives the right answer and, when told, makes a learner's mistake.

    @written("Every number is doubled.", lambda: [(whole(3),), (torch.randn(4, 2),)])
    def doubled(wrong, x):
        return x * x if wrong("squared", "This squares x; add it to itself.") else 2 * x

An answer passes if it agrees with the reference on all cases and leaves its inputs as they were. Of another, the
verdict is the smallest set of switches with which the reference gives, in every case, what the answer gave; where there
is none, what can be observed of it (`facts`).
"""

import copy
import functools
import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .facts import Raised, agree, as_expected, compared, facts, shown, unlike
from .verdict import NotAttempted, Stop, Wrong, call, exercise, expect_choice, explain, fresh_seed, number

TOGETHER = 2  # mistakes at once that are told apart
SECONDS = 5.0  # for the search after several


class Switches:
    """The mistakes that a reference makes. It asks at each step: `wrong(name, why)` is true where it shall make this.

    `on` are the pairs `(name, place)` to be made; `why` collects all that were asked for. One whose `why` is empty is
    no mistake but another convention, as right as the first.
    """

    def __init__(self, on=()):
        self.on, self.why = set(on), {}

    def __call__(self, name, why, place=0):
        """`place` tells two steps apart at which the mistake of this name can be made."""
        self.why.setdefault((name, place), why)
        return (name, place) in self.on

    def choose(self, right, *mistakes):
        """The value `right`, or that of the first `(name, why, value)` which is on."""
        on = [value for place, (name, why, value) in enumerate(mistakes) if self(name, why, place)]
        return on[0] if on else right


class Without(TorchFunctionMode):
    """Refuses the functions of torch that a task forbids, `{name: why}`."""

    def __init__(self, forbidden):
        super().__init__()
        self.forbidden, self.used = forbidden, None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        self.used = self.used or (name if name in self.forbidden else None)
        return function(*args, **(kwargs or {}))


@dataclass
class Run:
    """One case: its inputs, what the answer gave for them, and what is right."""

    inputs: tuple
    seed: int
    found: object = None
    right: object = None


@dataclass
class Task:
    """What a learner writes, and how it is judged; the fields are the options of `written`."""

    reference: Callable
    praise: str
    cases: Callable
    use: Callable = call
    changes: bool = False
    tolerance: float = 1e-4
    together: int = TOGETHER
    without: dict | None = None
    also: tuple = ()

    @property
    def names(self):
        """The names of the reference's inputs."""
        return list(inspect.signature(self.reference).parameters)[1:]

    def outcome(self, function, run, copies=True):
        """What the function gives for the inputs of a run, or what it raises; and the inputs as they are afterwards."""
        own = copy.deepcopy(run.inputs) if copies else run.inputs  # all at once: an optimizer stays its model's
        torch.default_generator.manual_seed(run.seed)
        try:
            return self.use(function, *own), own
        except (NotAttempted, Stop, Wrong):
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt included
            return Raised(error), own

    def referred(self, run, on=()):
        """What the reference gives with these switches on: a set, or `Switches`."""
        switches = on if isinstance(on, Switches) else Switches(on)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.outcome(functools.partial(self.reference, switches), run, copies=self.changes)[0]

    def judge(self, answer):
        """The praise for an answer, or `Wrong`."""
        return self.verdict(*self.tried(answer), self.further, answer)

    def hand_out(self, answer):
        """What `judge_given` needs to know of an answer: plain data. The same seed of torch's draws the same cases."""
        (runs, effect), further = self.tried(answer), None
        try:
            self.further(answer)
        except Wrong as wrong:
            further = str(wrong), wrong.mistake
        except Exception as error:
            further = f"Your code raised {explain(error)}", type(error).__name__
        return [run.found for run in runs], effect, further

    def judge_given(self, given):
        """The praise for an answer of which `given` is known, or `Wrong`: as `judge`, without the answer."""
        found, effect, why = given
        runs = self.runs()
        for run, run.found in zip(runs, found, strict=True):  # noqa: B007
            pass

        def further(answer):
            if why:
                raise Wrong(*why)

        return self.verdict(runs, effect, further)

    def runs(self):
        """The cases, drawn with torch's generator."""
        cases = list(self.cases())
        return [Run(inputs, int(torch.randint(1 << 47, ()))) for inputs in cases]

    def tried(self, answer):
        """The runs of an answer, and `(sentence, name)` of what it changed; `Wrong` where it uses what is forbidden."""
        runs, effect = self.runs(), None
        for run in runs:
            with Without(self.without or {}) as without:
                run.found, own = self.outcome(answer, run)
            if without.used:
                raise Wrong(self.without[without.used], "forbidden")
            effect = effect or self.effect(run, own)
        return runs, effect

    def further(self, answer):
        """Raise `Wrong` for what no single result shows."""
        for judge in self.also:
            judge(answer)

    def verdict(self, runs, effect, further, answer=None):
        """The praise for what was found, or `Wrong`. `answer` is asked again, where there is one, to name a mistake."""
        for run in runs:
            run.right = self.referred(run)
        failed = next((run for run in runs if not agree(run.found, run.right, self.tolerance)), None)
        if failed:  # which an answer survives that keeps to another convention
            self.refuse(answer, failed, runs, further)
        further(answer)
        if effect:
            raise Wrong(*effect)
        return self.praise

    def effect(self, run, own):
        """`(sentence, name)` of what a call changed besides giving a result; None where it changed nothing."""
        if torch.initial_seed() != run.seed:
            return "Your code seeds torch's generator: whoever calls it draws the same numbers ever after.", "seeded"
        for name, before, after in zip(self.names, run.inputs, own, strict=False):
            if not self.changes and unlike(before, after):
                what = "leaves the model" if isinstance(before, nn.Module) else "changes its input"
                other = " other than it was" if isinstance(before, nn.Module) else " in place"
                why = f"The result is right, but your code {what} {name}{other}: whoever calls it goes on with that."
                return why, "model changed" if isinstance(before, nn.Module) else "changed in place"
        return None

    def refuse(self, answer, failed, runs, further):
        """Raise `Wrong` with the names of the mistakes, or what can be observed, unless it keeps to a convention."""
        case = ", ".join(f"{name} {shown(value)}" for name, value in zip(self.names, failed.inputs, strict=False))
        case = f"{' ' if case else ''}For {case}: {compared(failed.found, failed.right)}"
        mistakes = self.mistakes([failed, *(run for run in runs if run is not failed)])
        if mistakes is None:
            further(answer)
            name, why = facts(self, answer, failed, runs)
            raise Wrong(why + case if why else case.strip(), name)
        if mistakes:
            raise Wrong(" ".join(mistakes.values()) + case, " + ".join(mistakes))

    def mistakes(self, runs):
        """`{name: why}` of the smallest set of switches that reproduces every run; None where none does."""
        why, until = {}, time.monotonic() + SECONDS
        if all(isinstance(run.found, torch.Tensor) and run.found.isnan().all() for run in runs):
            return None  # nan looks alike, whatever it comes from
        first, *others = runs
        for on, given in self.sets(runs, why):
            same_first = agree(first.found, given, self.tolerance)
            if same_first and all(agree(x.found, self.referred(x, on), self.tolerance) for x in others):
                named = [key for key in on if why[key]]  # one mistake may be made at two places
                return {n: " ".join({why[key]: 0 for key in named if key[0] == n}) for n, _ in named}
            if len(on) > 1 and time.monotonic() > until:
                break
        return None

    def sets(self, runs, why):
        """The sets of switches, smallest first, and what each gives in the first of `runs`.

        `why` collects the switches; some show only while another is on.
        """
        raised = all(isinstance(run.found, Raised) for run in runs)  # which seldom takes two mistakes
        most = 1 if raised else self.together
        for size in range(most + 1):
            done = set()
            while todo := [on for on in combinations(why, size) if on not in done]:
                for on in todo:
                    done.add(on)
                    switches = Switches(on)
                    yield on, self.referred(runs[0], switches)
                    why |= {key: text for key, text in switches.why.items() if key not in why}


def checker(reference, judge, task=None):
    """The checker of this name and docstring."""

    def checker(answer):
        return judge(answer)

    functools.update_wrapper(checker, reference)
    del checker.__wrapped__  # whose arguments are others
    found = exercise(checker)
    found.task = task
    return found


def written(praise, cases, **options):
    """Make a checker of a reference `(wrong, *inputs)`, for a function of these inputs that the learner writes.

    `cases()` gives the inputs, tuples: first those that can be followed by hand (`whole`), for the messages, then what
    is hard. They are drawn afresh at each check. Options: `use(function, *inputs)` gives what is compared, by default
    what the function returns; `changes=True` where it shall change its inputs; `tolerance`, relative and absolute;
    `together`, the number of mistakes at once that are told apart; `without`, `{name of a function of torch: why it is
    forbidden}`; `also`, functions of the answer that raise `Wrong`: properties that no single result shows. They name
    what no switch explains, too.
    """

    def decorate(reference):
        task = Task(reference, praise, cases, **options)
        found = checker(reference, task.judge, task)
        found.hand_out, found.judge_given = task.hand_out, task.judge_given
        return found

    return decorate


def stated(praise, otherwise, tolerance=1e-4, together=None, read=lambda answer: answer):
    """Make a checker of a reference `(wrong)` that gives a value: a number, a tensor, or a tuple of numbers.

    No verdict shows the right value: an answer that no switch explains gets the sentence `otherwise`. As many mistakes
    as there are numbers are told apart, or `together`. `read` is what an answer goes through first, such as `as_share`.
    """

    def decorate(reference):
        right = reference(Switches())
        most = together or (len(right) if isinstance(right, tuple) else 1)
        task = Task(reference, praise, lambda: [()], lambda function: function(), tolerance=tolerance, together=most)

        def judge(answer):
            run = Run((), fresh_seed(), as_expected(read(answer), right), right)
            mistakes = {} if agree(run.found, right, tolerance) else task.mistakes([run])
            if mistakes == {}:
                return praise
            if mistakes:
                raise Wrong(" ".join(mistakes.values()), " + ".join(mistakes))
            shapes = [tuple(x.shape) for x in (right, run.found) if isinstance(x, torch.Tensor)]
            if len(set(shapes)) == 2:
                raise Wrong(f"Expected a tensor of shape {shapes[0]}, found {shapes[1]}.", "wrong shape")
            raise Wrong(f"{otherwise} Found {shown(answer)}.")

        return checker(reference, judge, task)

    return decorate


def chosen(right, praise):
    """Make a checker of a function that gives `{letter: (mistake, sentence)}` for each wrong letter."""

    def decorate(reasons):
        def judge(answer):
            expect_choice(answer, right, reasons())
            return praise

        return checker(reasons, judge)

    return decorate


def whole(*shape, low=-3, high=4):
    """A tensor of small whole numbers, as floats, low to high - 1."""
    return torch.randint(low, high, shape).float()


def as_share(answer):
    """A share of 1, also where it is given in per cent: `75`, `"75 %"`."""
    share = number(answer.rstrip(" %") if isinstance(answer, str) else answer, "the share")
    return share / 100 if share > 1.5 else share
