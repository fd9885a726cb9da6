"""Checks of notebook 11, Making it fast."""

import math
import statistics
import time

from ..model import ViTConfig
from .verdict import Wrong, call, exercise, expect_number, number

__all__ = [
    "stopwatch",
    "larger_picture",
    "bfloat16_sum",
    "break_even",
    "speed_up_of_all",
    "step_flops",
]


@exercise
def stopwatch(function):
    """`(function, repeats) -> seconds`: the median after an uncounted warm-up."""
    for repeats in (5, 3):
        calls = []  # seconds that each took

        def nap(calls=calls, repeats=repeats):
            started = time.perf_counter()
            # A slow first call, and one slow try, slow beside the others even where a busy machine prolongs those.
            slow = {0: 0.05, repeats: max(0.05, 4 * sum(calls[1:]))}
            time.sleep(slow.get(len(calls), 0.005))
            calls.append(time.perf_counter() - started)

        found = number(call(function, nap, repeats), "the seconds")
        if len(calls) == repeats:
            raise Wrong(
                f"Expected {repeats + 1} calls where repeats is {repeats}, found {repeats}: the first call also "
                "reserves memory and starts threads, so make one that is not counted.",
                "no warm-up",
            )
        if len(calls) != repeats + 1:
            raise Wrong(
                f"Expected {repeats + 1} calls where repeats is {repeats}, one of them to warm up, found {len(calls)}.",
                "number of calls",
            )
        tries = calls[1:]
        median, mean = statistics.median(tries), statistics.mean(tries)
        what = f"Expected about {median:.4f} s, found {found:.4f} s: "
        if found < 0.8 * min(tries):
            raise Wrong(f"{what}no call took so little time.", "too short")
        if found > (mean * sum(tries)) ** 0.5:
            raise Wrong(f"{what}that is all tries together; one try is asked for.", "total instead of one")
        if found > (median * mean) ** 0.5:
            raise Wrong(
                f"{what}one slow try spoils a mean; the median, the middle one of the sorted times, does not mind it.",
                "mean instead of median",
            )
    return "A slow first call and one slow try do not disturb your stopwatch."


@exercise
def larger_picture(answer):
    """By which factor scores and mixing grow when the picture's side doubles."""
    expect_number(
        answer,
        16,
        (
            ("side instead of area", 2, "the side doubles, so there are 4 times as many patches, not 2 times."),
            ("linear in the tokens", 4, "4 is the factor of the patches; every patch looks at every patch."),
            ("patches instead of factor", 784, "784 patches there are now; by which factor do the FLOPs grow?"),
            ("cubed", 64, "the scores are the square of the number of patches, not the cube."),
        ),
        what="the factor",
    )
    return "784 patches instead of 196: 4 times as many, each looking at 4 times as many."


@exercise
def bfloat16_sum(answer):
    """1 + 0.001, a thousand times, in bfloat16."""
    expect_number(
        answer,
        1.0,
        (
            ("exact sum", 2.0, "that is the exact sum; bfloat16 has no number between 1 and 1.0078."),
            ("one step", 1.0078125, "each single sum is rounded to the nearest number, and 1 is nearer to 1.001."),
            ("added once", 1.001, "that is one addition, exactly; a thousand are asked for, each of them rounded."),
            (
                "rounded up each time",
                1 + 1000 / 128,
                "each sum is rounded to the *nearest* number that bfloat16 has, which is 1, not the next one up.",
            ),
        ),
        tolerance=2e-4,
        what="the sum",
    )
    return "Every one of the thousand sums was rounded back to 1. That is why sums stay in float32."


@exercise
def break_even(function):
    """`(plain, fast, cost) -> steps` after which compiling has paid."""
    for plain, fast, cost in ((0.5, 0.25, 30.0), (0.1, 0.08, 45.0), (2.0, 0.5, 3.0)):
        expect_number(
            call(function, plain, fast, cost),
            cost / (plain - fast),
            (
                ("over the old time", cost / plain, "a step does not save all of `plain`, only `plain - fast`."),
                ("over the new time", cost / fast, "`fast` is what a step still takes; it saves `plain - fast`."),
                ("turned over", (plain - fast) / cost, "that is the part of the cost which one step earns back."),
                ("sign", cost / (fast - plain), "what a step saves is `plain - fast`, the longer one first."),
            ),
            tolerance=1e-3,
            what="the number of steps",
        )
    for plain, fast in ((0.2, 0.2), (0.2, 0.3)):
        found = number(call(function, plain, fast, 10.0), "the number of steps")
        if found != math.inf:
            raise Wrong(
                f"Expected infinity where a plain step takes {plain} s and a compiled one {fast} s, found "
                f"{found:,.6g}: a step that saves nothing never earns the cost back; return float('inf').",
                "never pays",
            )
    return "Cost over saving; a short run never gets there."


@exercise
def speed_up_of_all(function):
    """`(share, factor) -> speed-up of the whole` (Amdahl's law), for lists of parts."""
    for share, factor in (
        ([0.5], [10.0]),
        ([0.3, 0.6], [2.0, 3.0]),
        ([1.0], [4.0]),
        ([0.1, 0.2, 0.3], [5.0, 1.0, 8.0]),
    ):
        parts = sum(p / s for p, s in zip(share, factor, strict=True))
        rest = 1 - sum(share)
        expect_number(
            call(function, list(share), list(factor)),
            1 / (rest + parts),
            (
                ("new time", rest + parts, "that is the new time; the speed-up is one over it."),
                ("rest forgotten", 1 / parts, "what is in none of the parts stays as it is: add 1 - sum(share)."),
                (
                    "weighted mean",
                    rest + sum(p * s for p, s in zip(share, factor, strict=True)),
                    "that is the mean of the factors; times add up, so divide each share by its factor.",
                ),
                ("product", math.prod(factor), "factors of single parts do not multiply into one of the whole."),
            ),
            what="the speed-up",
        )
    return "Half the time, ten times as fast, is 1.82 of the whole: the rest sets the limit."


@exercise
def step_flops(function):
    """`(config, batch_size, dropped) -> FLOPs` of a training step with patch dropout."""
    for config, batch_size, dropped in (
        (ViTConfig(image_size=32, patch_size=4, num_classes=10, embed_dim=64, depth=3, num_heads=4), 8, 0.5),
        (
            ViTConfig(
                image_size=(32, 48), patch_size=8, num_classes=7, embed_dim=48, depth=2, num_heads=2, pool="mean"
            ),
            1,
            0.3,
        ),
        (
            ViTConfig(image_size=32, patch_size=8, num_classes=5, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2.0),
            4,
            0.0,
        ),
    ):
        right = flops(config, dropped)
        expect_number(
            call(function, config, batch_size, dropped),
            3 * batch_size * right,
            (
                ("forward only", batch_size * right, "training also computes two gradients for each product: 3 times."),
                ("one image", 3 * right, "that is one image; multiply by the batch size."),
                (
                    "nothing dropped",
                    3 * batch_size * flops(config, 0.0),
                    "the blocks see only the patches that are left.",
                ),
                (
                    "dropped the wrong part",
                    3 * batch_size * flops(config, 1 - dropped),
                    "`dropped` is the fraction that is left out; the blocks see the rest.",
                ),
                (
                    "embedding dropped too",
                    3 * batch_size * flops(config, dropped, embedded=dropped),
                    "patches are dropped after the embedding, which still sees all of them.",
                ),
                (
                    "class token",
                    3 * batch_size * flops(config, dropped, extra=-1 if config.pool == "cls" else 1),
                    "with pool='cls' the blocks see one token more, the class token; with 'mean' they do not.",
                ),
            ),
            tolerance=1e-6,
            what="the FLOPs",
        )
    return "Embedding of all patches, blocks on those that are left, and three times the forward pass."


def flops(config, dropped, embedded=0.0, extra=0):
    """Forward FLOPs of one image; `extra` tokens more in the blocks, `embedded` of the patches not embedded."""
    rows, columns = config.grid
    N, D, r = rows * columns, config.embed_dim, config.mlp_ratio
    T = N - int(dropped * N) + (config.pool == "cls") + extra
    block = 2 * T * D * D * (4 + 2 * r) + 4 * T * T * D
    patches = N - int(embedded * N)
    return (
        2 * patches * config.in_channels * config.patch_size**2 * D + config.depth * block + 2 * D * config.num_classes
    )
