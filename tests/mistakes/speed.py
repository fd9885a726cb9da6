"""Wrong answers to notebook 11's exercises, as learners write them, and the mistakes that must be named."""

import math
import time
from time import perf_counter


def timed(function):
    start = perf_counter()
    function()
    return perf_counter() - start


def broken_stopwatch(function, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def fastest(function, repeats):
    function()
    return min(timed(function) for _ in range(repeats))


def in_milliseconds(function, repeats):
    function()
    times = sorted(timed(function) for _ in range(repeats))
    return 1000 * times[repeats // 2]


def unsorted(function, repeats):
    function()
    times = [timed(function) for _ in range(repeats)]
    return times[repeats // 2]


def total(function, repeats):
    function()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return time.perf_counter() - start


def processor_time(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return sorted(times)[repeats // 2]


def two_to_warm_up(function, repeats):
    function()
    function()
    times = sorted(timed(function) for _ in range(repeats))
    return times[repeats // 2]


def one_more_at_the_end(function, repeats):
    function()
    times = sorted(timed(function) for _ in range(repeats))
    function()
    return times[repeats // 2]


def flops(config, batch_size, left, times=3, extra=None):
    (rows, columns), D = config.grid, config.embed_dim
    N, extra = rows * columns, config.pool == "cls" if extra is None else extra
    T = left(N) + extra
    forward = 2 * N * config.in_channels * config.patch_size**2 * D + 2 * D * config.num_classes
    forward += config.depth * (2 * T * D * D * (4 + 2 * config.mlp_ratio) + 4 * T * T * D)
    return times * batch_size * forward


RIGHT = []

WRONG = [
    ("stopwatch", broken_stopwatch, "no warm-up + mean instead of median"),
    ("stopwatch", lambda f, n: (f(), sum(timed(f) for _ in range(n)) / n)[1], "mean instead of median"),
    ("stopwatch", fastest, "fastest instead of median"),
    ("stopwatch", in_milliseconds, "milliseconds"),
    ("stopwatch", unsorted, "not sorted"),
    ("stopwatch", lambda f, n: 1000 * fastest(f, n), "fastest instead of median + milliseconds"),
    ("stopwatch", total, "total instead of one"),
    ("stopwatch", lambda f, n: sorted(timed(f) for _ in range(n))[n // 2], "no warm-up"),
    ("stopwatch", processor_time, "too short"),
    ("stopwatch", lambda f, n: (f(), [f() for _ in range(n)], 0.0)[2], "too short"),
    ("stopwatch", two_to_warm_up, "number of calls"),
    ("stopwatch", one_more_at_the_end, "number of calls"),
    ("stopwatch", lambda f, n: timed(f), "number of calls"),
    ("stopwatch", lambda f, n: f(), "no return"),
    ("larger_picture", 2, "side instead of area"),
    ("larger_picture", 4, "linear in the tokens"),
    ("larger_picture", 784, "patches instead of factor"),
    ("larger_picture", 15.88, "class token counted"),
    ("bfloat16_sum", 1.9999907, "exact sum"),
    ("bfloat16_sum", 1.0078125, "one step"),
    ("bfloat16_sum", 1.9766, "float16"),
    ("bfloat16_sum", "one", "not a number"),
    ("break_even", lambda p, f, c: c / p, "over the old time + never pays"),
    ("break_even", lambda p, f, c: c / (f - p) if f != p else math.inf, "sign + never pays"),
    ("break_even", lambda p, f, c: c / (p - f), "never pays"),
    ("break_even", lambda p, f, c: c / (p - f) if p != f else math.inf, "never pays"),
    ("break_even", lambda p, f, c: max(0, c / (p - f)) if p != f else 0, "never pays"),
    ("break_even", lambda p, f, c: int(c / (p - f)) if p > f else math.inf, "rounded down"),
    ("break_even", lambda p, f, c: (p - f) / c if p > f else math.inf, "turned over"),
    ("break_even", lambda p, f, c: c / (p - f) if p > f else None, "no return"),
    ("speed_up_of_all", lambda p, s: 1 / sum(a / b for a, b in zip(p, s, strict=True)), "rest forgotten"),
    ("speed_up_of_all", lambda p, s: sum(a / b for a, b in zip(p, s, strict=True)), "rest forgotten + new time"),
    (
        "speed_up_of_all",
        lambda p, s: 1 - sum(p) + sum(a * b for a, b in zip(p, s, strict=True)),
        "weighted mean + new time",
    ),
    ("speed_up_of_all", lambda p, s: math.prod(s), "product"),
    ("speed_up_of_all", lambda p, s: 1 / (1 - sum(p) + sum(p) / sum(s)), "factors together"),
    ("speed_up_of_all", lambda p, s: 1 / (1 - p[0] + p[0] / s[0]), "first part alone"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: N - int(d * N), times=1), "forward only"),
    ("step_flops", lambda c, B, d: flops(c, 1, lambda N: N - int(d * N), times=1), "forward only + one image"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: N), "nothing dropped"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: int(d * N)), "dropped the wrong part"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: int((1 - d) * N)), "rounded otherwise"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: N - int(d * N), extra=1), "class token"),
    ("step_flops", lambda c, B, d: flops(c, B, lambda N: N, extra=0), "nothing dropped + class token"),
]
