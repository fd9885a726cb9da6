"""How the learning rate moves, and how far training has come."""

import math
import time

from ..machine import distributed


def warmup_cosine(progress, warmup=0.1):
    """Learning-rate factor in 0..1 at a `progress` in 0..1: a straight rise, then half a cosine down to 0.

    Loshchilov & Hutter 2017 (cosine), Goyal et al. 2017 (warmup).
    """
    if progress < warmup:
        return progress / warmup
    rest = (min(progress, 1.0) - warmup) / (1.0 - warmup)  # 0..1 after the warmup
    return 0.5 * (1.0 + math.cos(math.pi * rest))


class Clock:
    """Progress of a run in 0..1: by steps done, or by time where `seconds` is given.

    `elapsed` are the run's seconds at the last `tick()`: the same in all processes, so that all do the same next.
    """

    def __init__(self, total_steps, seconds=None):
        self.total_steps, self.seconds = total_steps, seconds
        self.steps = self.epoch_steps = 0  # done in the run, and of them in this epoch
        self.next_record = 0.1  # the progress at which the run is next evaluated
        self.resume(elapsed=0.0)

    def resume(self, **state):
        """Go on from a `state()`."""
        vars(self).update(state)
        self.start = time.perf_counter() - self.elapsed

    def state(self):
        """What `resume` needs."""
        return {name: getattr(self, name) for name in ("steps", "epoch_steps", "next_record", "elapsed")}

    def step(self):
        self.steps += 1
        self.epoch_steps += 1
        self.tick()

    def tick(self):
        """Read the time."""
        self.elapsed = distributed.from_first(time.perf_counter() - self.start)

    @property
    def progress(self):
        done = self.steps / self.total_steps if self.seconds is None else self.elapsed / self.seconds
        return min(done, 1.0)
