"""How the learning rate moves, and how far training has come."""

import math
import time


def warmup_cosine(progress, warmup=0.1):
    """Learning-rate factor in 0..1 at a `progress` in 0..1: a straight rise, then half a cosine down to 0.

    Loshchilov & Hutter 2017 (cosine), Goyal et al. 2017 (warmup).
    """
    if progress < warmup:
        return progress / warmup
    rest = (min(progress, 1.0) - warmup) / (1.0 - warmup)  # 0..1 after the warmup
    return 0.5 * (1.0 + math.cos(math.pi * rest))


class Schedule:
    """Sets every learning rate of `optimizer` to its first value times `factor()`, at each `step()`."""

    def __init__(self, optimizer, factor):
        self.groups, self.factor = optimizer.param_groups, factor
        self.peaks = [group["lr"] for group in self.groups]
        self.step()

    def step(self):
        factor = self.factor()
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * factor


class Clock:
    """Progress of a run in 0..1: by steps done, or by time where `seconds` is given."""

    def __init__(self, total_steps, seconds=None):
        self.total_steps, self.seconds = total_steps, seconds
        self.steps = 0
        self.start = time.perf_counter()

    @property
    def elapsed(self):
        """Seconds since the clock was made."""
        return time.perf_counter() - self.start

    @property
    def progress(self):
        done = self.steps / self.total_steps if self.seconds is None else self.elapsed / self.seconds
        return min(done, 1.0)
