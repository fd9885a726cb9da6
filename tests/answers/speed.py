"""Right answers to the exercises of notebook 11."""

import datetime
import math
import statistics
import time
import timeit
from fractions import Fraction
from time import perf_counter

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vit_tutorial import VisionTransformer
from vit_tutorial.layers import image_sides

VALUES = {
    "larger_picture": [16, torch.tensor(16.0), (2 * 2) ** 2, "16", Fraction(16), np.int64(16), [16.0]],
    "bfloat16_sum": [
        1.0,
        1,
        torch.tensor(1.0, dtype=torch.bfloat16),
        sum([torch.tensor(0.001, dtype=torch.bfloat16)] * 1000, torch.tensor(1, dtype=torch.bfloat16)),
        "1.0",
        np.float32(1),
    ],
}


def stopwatch__list(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stopwatch__sorted(f, n):
    f()

    def once():
        start = time.time()
        f()
        return time.time() - start

    return sorted(once() for _ in range(n))[n // 2]


def stopwatch__imported_clock(function, repeats):
    function()
    seconds = np.zeros(repeats)
    for i in range(repeats):
        begin = perf_counter()
        function()
        seconds[i] = perf_counter() - begin
    return np.median(seconds)


def stopwatch__timeit(function, repeats):
    function()
    return statistics.median(timeit.repeat(function, number=1, repeat=repeats))


def stopwatch__first_thrown_away(function, repeats):
    times = []
    for _ in range(repeats + 1):
        start = time.monotonic()
        function()
        end = time.monotonic()
        times.append(end - start)
    return torch.tensor(times[1:]).median()


def stopwatch__nanoseconds(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        function()
        times.append(time.perf_counter_ns() - start)
    times.sort()
    return times[len(times) // 2] / 1e9


def stopwatch__other_clock(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = datetime.datetime.now()
        function()
        times.append((datetime.datetime.now() - start).total_seconds())
    return statistics.median(times)


def stopwatch__marks(function, repeats):
    function()
    marks = [time.perf_counter()]
    while len(marks) <= repeats:
        function()
        marks.append(time.perf_counter())
    return float(np.median(np.diff(marks)))


def stopwatch__quantile(function, repeats):
    function()
    times = torch.empty(repeats, dtype=torch.float64)
    for i in range(repeats):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times[i] = time.perf_counter() - start
    return times.quantile(0.5).item()


def stopwatch__default_timer(function, repeats):
    clock, times = timeit.default_timer, {}
    for call in range(-1, repeats):
        start = clock()
        function()
        times[call] = clock() - start
    del times[-1]
    middle = repeats // 2
    ordered = sorted(times.values())
    return ordered[middle] if repeats % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def stopwatch__timer_class(function, repeats):
    timer = timeit.Timer(function)
    times = [timer.timeit(1) for _ in range(1 + repeats)]
    return statistics.median_low(times[1:])


def break_even__guarded(plain, fast, cost):
    return cost / (plain - fast) if fast < plain else float("inf")


def break_even__power(p, f, c):
    return torch.inf if p <= f else c * (p - f) ** -1


def break_even__division_caught(plain, fast, cost):
    try:
        return max(cost / (plain - fast), 0) or math.inf if plain >= fast else math.inf
    except ZeroDivisionError:
        return math.inf


def break_even__whole_steps(plain, fast, cost):
    saved = plain - fast
    if saved <= 0:
        return math.inf
    return math.ceil(cost / saved)


def break_even__numpy(plain, fast, cost):
    with np.errstate(divide="ignore"):
        return np.divide(cost, np.maximum(plain - fast, 0.0))


def break_even__tensor(plain, fast, cost):
    return torch.tensor(float(cost)) / torch.tensor(float(plain - fast)).clamp(min=0)


def break_even__fractions(plain, fast, cost):
    saved = Fraction(plain) - Fraction(fast)
    return float(Fraction(cost) / saved) if saved > 0 else float("infinity")


def break_even__where_lines_meet(plain, fast, cost):
    """`plain * n = cost + fast * n`."""
    if plain <= fast:
        return float("inf")
    return np.linalg.solve([[1.0, -plain], [1.0, -fast]], [0.0, cost])[1]


def break_even__early_return(plain, fast, cost):
    saved_per_step = plain - fast
    if saved_per_step > 0:
        steps = cost / saved_per_step
        return steps
    return float("inf")


def break_even__inverse(plain, fast, cost):
    paid_back = (plain - fast) / cost
    if paid_back <= 0:
        return torch.tensor(float("inf"))
    return 1 / paid_back


def break_even__of_old_and_new(plain, fast, cost):
    saving = plain * (1 - fast / plain)
    return math.inf if fast >= plain else cost / saving


def speed_up_of_all__loop(share, factor):
    new_time = 1 - sum(share)
    for p, s in zip(share, factor, strict=True):
        new_time += p / s
    return 1 / new_time


def speed_up_of_all__taken_off(share, factor):
    new = 1.0
    for i in range(len(share)):
        new -= share[i] - share[i] / factor[i]
    return 1 / new


def speed_up_of_all__tensors(p, s):
    return 1 / (1 - sum(p) + sum(torch.tensor(p) / torch.tensor(s)).item())


def speed_up_of_all__numpy(p, s):
    return 1 / np.sum(np.array([*p, 1 - sum(p)]) / np.array([*s, 1]))


def speed_up_of_all__percents(share, factor):
    hundred = [100 * p for p in share]
    left = 100 - sum(hundred)
    return 100 / (left + sum(part / s for part, s in zip(hundred, factor, strict=True)))


def speed_up_of_all__power(share, factor):
    return (1 - math.fsum(share) + math.fsum(map(lambda p, s: p / s, share, factor))) ** -1


def speed_up_of_all__dot(share, factor):
    rates = np.reciprocal(np.asarray(factor, dtype=float))
    return 1 / (1 + np.dot(share, rates - 1))


def speed_up_of_all__recursive(share, factor):
    def after(i):
        return 1 - sum(share) if i == len(share) else share[i] / factor[i] + after(i + 1)

    return 1 / after(0)


def speed_up_of_all__float64(share, factor):
    share = torch.tensor(share, dtype=torch.float64)
    factor = torch.as_tensor(factor, dtype=torch.float64)
    return torch.reciprocal(1 - share.sum() + share.div(factor).sum())


def speed_up_of_all__harmonic(share, factor):
    return statistics.harmonic_mean([*factor, 1], weights=[*share, max(0.0, 1 - sum(share))])


def speed_up_of_all__fractions(share, factor):
    share, factor = ([Fraction(x) for x in part] for part in (share, factor))
    return 1 / (1 - sum(share) + sum(p / s for p, s in zip(share, factor, strict=True)))


def block_flops(N, D, r):
    linear = 2 * N * D * D * (3 + 1 + 2 * r)
    return linear + 4 * N * N * D


def step_flops__block_flops(config, batch_size, dropped):
    rows, columns = config.grid
    N, D = rows * columns, config.embed_dim
    embedding = 2 * N * (config.in_channels * config.patch_size**2) * D
    left = N - int(dropped * N) + (config.pool == "cls")
    forward = embedding + config.depth * block_flops(left, D, config.mlp_ratio) + 2 * D * config.num_classes
    return 3 * batch_size * forward


def step_flops__multiply_adds(config, batch_size, dropped):
    N, D = math.prod(config.grid), config.embed_dim
    T = N - int(dropped * N) + 1 * (config.pool == "cls")
    total = N * config.in_channels * config.patch_size**2 * D + D * config.num_classes
    total += config.depth * (T * D * 3 * D + T * D * D + 2 * T * D * int(D * config.mlp_ratio) + 2 * T * T * D)
    return 2 * 3 * batch_size * total


def step_flops__counted_by_torch(config, batch_size, dropped):
    """Counted on a model that drops the patches."""
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


def step_flops__list_of_products(config, batch_size, dropped):
    rows, columns = config.grid
    N, D, hidden = rows * columns, config.embed_dim, config.embed_dim * config.mlp_ratio
    T = N - int(N * dropped)
    if config.pool == "cls":
        T += 1
    products = [(N, config.in_channels * config.patch_size * config.patch_size, D), (1, D, config.num_classes)]
    block = [(T, D, 3 * D), (T, D, T), (T, T, D), (T, D, D), (T, D, hidden), (T, hidden, D)]
    products += block * config.depth
    return batch_size * sum(2 * n * k * m for n, k, m in products) * 3


def step_flops__block_by_block(config, batch_size, dropped):
    N, D = config.grid[0] * config.grid[1], config.embed_dim
    flops = 2 * N * D * config.in_channels * config.patch_size**2
    tokens = N - int(dropped * N) + {"cls": 1, "mean": 0}[config.pool]
    for _ in range(config.depth):
        flops += block_flops(tokens, D, config.mlp_ratio)
    flops += 2 * D * config.num_classes
    return flops * batch_size * 3


def step_flops__forward_and_backward(config, batch_size, dropped):
    def forward(patches, tokens):
        D = config.embed_dim
        linear = (8 + 4 * config.mlp_ratio) * tokens * D**2
        return (
            2 * patches * D * config.in_channels * config.patch_size**2
            + config.depth * (linear + 4 * D * tokens**2)
            + 2 * D * config.num_classes
        )

    N = int(np.prod(config.grid))
    one = forward(N, N - int(dropped * N) + (1 if config.pool == "cls" else 0))
    backward = 2 * one
    return batch_size * (one + backward)


def step_flops__difference(config, batch_size, dropped):
    rows, columns = config.grid
    N, D, cls = rows * columns, config.embed_dim, int(config.pool == "cls")
    whole = 2 * N * config.in_channels * config.patch_size**2 * D + 2 * D * config.num_classes
    whole += config.depth * block_flops(N + cls, D, config.mlp_ratio)
    left = N - int(dropped * N) + cls
    saved = block_flops(N + cls, D, config.mlp_ratio) - block_flops(left, D, config.mlp_ratio)
    return 3.0 * batch_size * (whole - config.depth * saved)


def step_flops__tensors(config, batch_size, dropped):
    N = torch.tensor(config.grid).prod().item()
    D, r = float(config.embed_dim), config.mlp_ratio
    T = float(len(torch.randperm(N)[: N - int(dropped * N)]) + (config.pool == "cls"))
    per_block = torch.tensor([6 * T * D * D, 2 * T * T * D, 2 * T * T * D, 2 * T * D * D, 4 * T * D * r * D])
    once = [2 * N * config.in_channels * config.patch_size**2 * D, 2 * D * config.num_classes]
    total = config.depth * per_block.double().sum() + sum(once)
    return 3 * batch_size * total


def step_flops__image_by_image(config, batch_size, dropped):
    Y, X = image_sides(config.image_size)
    P, D = config.patch_size, config.embed_dim
    N = (Y // P) * (X // P)
    kept = N - int(dropped * N)
    tokens = kept + 1 if config.pool == "cls" else kept
    total = 0
    for _ in range(batch_size):
        total += 3 * 2 * N * D * P * P * config.in_channels
        total += 3 * config.depth * block_flops(tokens, D, config.mlp_ratio)
        total += 3 * 2 * D * config.num_classes
    return total


def step_flops__weights_counted(config, batch_size, dropped):
    """Two FLOPs for each weight and token; attention apart."""
    N, D = config.grid[0] * config.grid[1], config.embed_dim
    T = N - int(dropped * N) + (config.pool == "cls")
    in_block = 4 * D * D + 2 * D * round(config.mlp_ratio * D)
    work = N * D * config.in_channels * config.patch_size**2 + D * config.num_classes
    work += T * config.depth * in_block + config.depth * 2 * T**2 * D
    return 6 * work * batch_size
