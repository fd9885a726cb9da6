"""Exercises 11.1 and 11.4 to 11.6."""

import datetime
import math
import time
import timeit
from contextlib import ExitStack
from threading import get_ident
from types import BuiltinFunctionType
from unittest.mock import patch

from vit_tutorial import ViTConfig

from . import alike, oracle, safely

TRIES = [  # the first call, then those that count, in seconds
    *[(30.0, 2.0), (0.1, 5.0, 1.0, 2.0), (40.0, 1.0, 9.0, 1.5, 70.0, 2.5), (0.01, 8.0, 1.0, 2.5, 3.0)],
    *[(60.0, 4.0, 4.5, 90.0, 0.5, 0.7, 5.0, 80.0)],
]
PAYS = [(0.3, 0.2, 33.3), (2.0, 1.9, 0.34), (5, 2, 10), (1.0, 0.97, 600.0), (0.4, 0.1, 0.2)]
NEVER = [(0.2, 0.2, 30.0), (0.2, 0.3, 30.0), (1, 1, 5), (0.1, 4.0, 0.2)]
PARTS = [
    *[([0.5], [10]), ([0.25, 0.75], [2.0, 3.0]), ([0.2, 0.3, 0.1], [4, 0.5, 7]), ([0.9], [1e6]), ([0.4], [0.25])],
]
MODELS = [  # image, patch, channels, classes, width, depth, heads, ratio, pool; batch size, dropped
    (((4, 6), 2, 3, 5, 8, 2, 2, 2.0), "cls", 1, 0.0),
    ((6, 2, 1, 3, 4, 1, 2, 1.0), "mean", 7, 0.5),
    (((2, 14), 2, 4, 1, 6, 3, 3, 1.5), "cls", 2, 0.29),
    ((10, 1, 2, 6, 4, 1, 1, 3.0), "cls", 3, 0.29),  # 28.999999999999996 patches
    ((2, 2, 3, 2, 2, 5, 1, 4.0), "cls", 5, 0.9),
    (((9, 3), 1, 1, 4, 10, 1, 5, 2.5), "mean", 1, 0.75),
]


class Clock:
    """All clocks of Python, for this thread: they stand still but while this is called, the function that is timed."""

    def __init__(self, seconds):
        self.seconds, self.now, self.calls, self.reads, self.thread = seconds, 0.0, 0, 0, get_ident()

    def __call__(self):
        self.now += self.seconds[self.calls]  # an IndexError where it is called too often
        self.calls += 1

    def reader(self, real, start, scale):
        def read():
            if get_ident() != self.thread:
                return real()
            self.reads += 1
            if self.reads > 1000:
                raise TimeoutError("this waits for a clock")
            return type(scale)(scale * (start + self.now))

        return read

    def replaced(self, answer):
        """A context in which the answer reads this clock, by whatever name it knows one."""
        known, stack = {}, ExitStack()
        for name, start in (("perf_counter", 100.0), ("monotonic", 5000.0), ("time", 1.7e9)):
            for clock, scale in ((getattr(time, name), 1.0), (getattr(time, f"{name}_ns"), 10**9)):
                known[clock] = self.reader(clock, start, scale)
                stack.enter_context(patch.object(time, clock.__name__, known[clock]))
        now = classmethod(lambda cls, zone=None: cls.fromtimestamp(time.time(), zone))
        known[datetime.datetime] = type("datetime", (datetime.datetime,), {"now": now})
        stack.enter_context(patch.object(datetime, "datetime", known[datetime.datetime]))
        fake_of = lambda x: known.get(x, x) if isinstance(x, (BuiltinFunctionType, type)) else x  # noqa: E731
        stack.enter_context(patch.object(timeit, "default_timer", time.perf_counter))
        for function in (timeit.timeit, timeit.repeat, timeit.Timer.__init__):
            stack.enter_context(patch.object(function, "__defaults__", tuple(map(fake_of, function.__defaults__))))
        names = getattr(answer, "__globals__", {})
        stack.enter_context(patch.dict(names, {name: fake_of(x) for name, x in names.items()}))
        return stack


@safely
def stopwatch(answer):
    for seconds in TRIES:
        clock, repeats = Clock(seconds), len(seconds) - 1
        with clock.replaced(answer):
            found = float(answer(clock, repeats))
        low, high = (sorted(seconds[1:])[n] for n in ((repeats - 1) // 2, repeats // 2))
        if not (clock.calls == repeats + 1 and low - 1e-4 <= found <= high + 1e-4):
            return False
    return True


@safely
def break_even(answer):
    """Whole steps or fractions."""
    found = [float(answer(*call)) for call in PAYS]
    exact = [cost / (plain - fast) for plain, fast, cost in PAYS]
    pays = any(all(map(alike, found, right)) for right in (exact, [math.ceil(steps) for steps in exact]))
    return pays and all(answer(*call) == math.inf for call in NEVER)  # a number, not its text


@oracle(lambda: PARTS)
def speed_up_of_all(share, factor):
    after, rest = 0.0, 1.0
    for part, times in zip(share, factor, strict=True):
        after, rest = after + part / times, rest - part
    return 1 / (after + rest)


def models():
    for sizes, pool, batch_size, dropped in MODELS:
        scale = {"mean": (0.5,) * sizes[2], "std": (0.5,) * sizes[2]}
        yield ViTConfig(*sizes, pool=pool, **scale), batch_size, dropped


@oracle(models, lambda flops: [float(flops)])
def step_flops(config, batch_size, dropped):
    (rows, columns), D, hidden = config.grid, config.embed_dim, round(config.embed_dim * config.mlp_ratio)
    left = rows * columns - int(dropped * (rows * columns)) + (1 if config.pool == "cls" else 0)
    products = [(rows * columns, config.in_channels * config.patch_size**2, D), (1, D, config.num_classes)]
    for _ in range(config.depth):
        products += [(left, D, D)] * 4 + [(left, D, left), (left, left, D), (left, D, hidden), (left, hidden, D)]
    return [float(sum(2 * n * k * m for n, k, m in products) * 3 * batch_size)]
