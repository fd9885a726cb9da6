"""Notebook 11's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import math
import statistics
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vit_tutorial import VisionTransformer
from vit_tutorial.layers import image_sides


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_stopwatch(function, repeats):
    function()
    return statistics.median(timed(function) for _ in range(repeats))


def mean_stopwatch(function, repeats):
    function()
    return sum(timed(function) for _ in range(repeats)) / repeats


def cold_stopwatch(function, repeats):
    return statistics.median(timed(function) for _ in range(repeats))


def total_stopwatch(function, repeats):
    function()
    return sum(timed(function) for _ in range(repeats))


def amdahl_by_loop(share, factor):
    new = 1.0
    for p, s in zip(share, factor, strict=True):
        new -= p - p / s
    return 1 / new


def flops_of(config, batch_size, dropped, times=3, class_token=1, keep=None):
    rows, columns = config.grid
    N, D, L = rows * columns, config.embed_dim, config.depth
    T = (N - int(dropped * N) if keep is None else keep(N)) + class_token * (config.pool == "cls")
    total = N * 3 * config.patch_size**2 * D + D * config.num_classes  # multiply-adds
    total += L * (T * D * 3 * D + T * D * D + 2 * T * D * int(D * config.mlp_ratio) + 2 * T * T * D)
    return 2 * times * batch_size * total


def steps_to_pay(plain, fast, cost):
    try:
        return max(cost / (plain - fast), 0) or float("inf") if plain >= fast else float("inf")
    except ZeroDivisionError:
        return float("inf")


def flops_by_torch(config, batch_size, dropped):
    """Counted by torch on a model that drops the patches."""
    counter, model = FlopCounterMode(display=False), VisionTransformer(config)
    extra = int(config.pool == "cls")
    x = torch.zeros(batch_size, config.in_channels, *image_sides(config.image_size))
    with counter:
        patches = model.patch_embed(x)
        N = patches.shape[1]
        x = torch.zeros(batch_size, extra + N - int(dropped * N), config.embed_dim)
        for block in model.blocks:
            x = block(x)
        model.head(x[:, 0])
    return 3 * counter.get_total_flops()


RIGHT = [
    ("stopwatch", median_stopwatch),
    ("stopwatch", lambda f, n: (f(), sorted(timed(f) for _ in range(n)))[1][n // 2]),
    ("stopwatch", lambda f, n: np.median([timed(f) for _ in range(n + 1)][1:])),
    ("larger_picture", 16),
    ("larger_picture", torch.tensor(16.0)),
    ("larger_picture", (2 * 2) ** 2),
    ("bfloat16_sum", 1.0),
    ("bfloat16_sum", torch.tensor(1.0, dtype=torch.bfloat16)),
    ("bfloat16_sum", sum([torch.tensor(0.001, dtype=torch.bfloat16)] * 1000, torch.tensor(1, dtype=torch.bfloat16))),
    ("break_even", lambda plain, fast, cost: cost / (plain - fast) if plain > fast else float("inf")),
    ("break_even", lambda p, f, c: torch.inf if p <= f else c * (p - f) ** -1),
    ("break_even", steps_to_pay),
    ("speed_up_of_all", amdahl_by_loop),
    ("speed_up_of_all", lambda p, s: 1 / (1 - sum(p) + sum(torch.tensor(p) / torch.tensor(s)).item())),
    ("speed_up_of_all", lambda p, s: 1 / np.sum(np.array([*p, 1 - sum(p)]) / np.array([*s, 1]))),
    ("step_flops", flops_of),
    ("step_flops", lambda config, B, dropped: 3 * flops_of(config, B, dropped, times=1)),
    ("step_flops", flops_by_torch),
]

WRONG = [
    ("stopwatch", mean_stopwatch, "mean instead of median"),
    ("stopwatch", cold_stopwatch, "no warm-up"),
    ("stopwatch", total_stopwatch, "total instead of one"),
    ("stopwatch", lambda f, n: (f(), [f() for _ in range(n)], 0.0)[2], "too short"),
    ("stopwatch", lambda f, n: timed(f), "number of calls"),
    ("larger_picture", 2, "side instead of area"),
    ("larger_picture", 4, "linear in the tokens"),
    ("larger_picture", 784, "patches instead of factor"),
    ("larger_picture", 64, "cubed"),
    ("bfloat16_sum", 2.0, "exact sum"),
    ("bfloat16_sum", 1.0078125, "one step"),
    ("bfloat16_sum", "one", "not a number"),
    ("bfloat16_sum", 1.001, "added once"),
    ("bfloat16_sum", 1 + 1000 / 128, "rounded up each time"),
    ("break_even", lambda p, f, c: c / p, "over the old time"),
    ("break_even", lambda p, f, c: c / f, "over the new time"),
    ("break_even", lambda p, f, c: (p - f) / c, "turned over"),
    ("break_even", lambda p, f, c: c / (f - p), "sign"),
    ("break_even", lambda p, f, c: c / max(p - f, 1e-9), "never pays"),
    ("speed_up_of_all", lambda p, s: 1 / amdahl_by_loop(p, s), "new time"),
    ("speed_up_of_all", lambda p, s: 1 / sum(a / b for a, b in zip(p, s, strict=True)), "rest forgotten"),
    ("speed_up_of_all", lambda p, s: 1 - sum(p) + sum(a * b for a, b in zip(p, s, strict=True)), "weighted mean"),
    ("speed_up_of_all", lambda p, s: math.prod(s), "product"),
    ("step_flops", lambda c, B, d: flops_of(c, B, d, times=1), "forward only"),
    ("step_flops", lambda c, B, d: flops_of(c, 1, d), "one image"),
    ("step_flops", lambda c, B, d: flops_of(c, B, 0.0), "nothing dropped"),
    ("step_flops", lambda c, B, d: flops_of(c, B, 1 - d), "dropped the wrong part"),
    ("step_flops", lambda c, B, d: flops_of(c, B, d, class_token=0), "class token"),
]
