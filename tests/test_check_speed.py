"""Notebook 11's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import statistics
import time

import pytest
import torch

from vit_tutorial import ViTConfig, check
from vit_tutorial.check import speed

EXERCISES = speed.__all__


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


RIGHT = [
    ("stopwatch", median_stopwatch),
    ("stopwatch", lambda f, n: (f(), sorted(timed(f) for _ in range(n)))[1][n // 2]),
    ("larger_picture", 16),
    ("larger_picture", torch.tensor(16.0)),
    ("bfloat16_sum", 1.0),
    ("bfloat16_sum", torch.tensor(1.0, dtype=torch.bfloat16)),
    ("break_even", lambda plain, fast, cost: cost / (plain - fast) if plain > fast else float("inf")),
    ("break_even", lambda p, f, c: torch.inf if p <= f else c * (p - f) ** -1),
    ("speed_up_of_all", amdahl_by_loop),
    ("speed_up_of_all", lambda p, s: 1 / (1 - sum(p) + sum(torch.tensor(p) / torch.tensor(s)).item())),
    ("step_flops", flops_of),
    ("step_flops", lambda config, B, dropped: 3 * flops_of(config, B, dropped, times=1)),
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
    ("break_even", lambda p, f, c: c / p, "over the old time"),
    ("break_even", lambda p, f, c: c / f, "over the new time"),
    ("break_even", lambda p, f, c: (p - f) / c, "turned over"),
    ("break_even", lambda p, f, c: c / (f - p), "sign"),
    ("break_even", lambda p, f, c: c / max(p - f, 1e-9), "never pays"),
    ("speed_up_of_all", lambda p, s: 1 / amdahl_by_loop(p, s), "new time"),
    ("speed_up_of_all", lambda p, s: 1 / sum(a / b for a, b in zip(p, s, strict=True)), "rest forgotten"),
    ("speed_up_of_all", lambda p, s: 1 - sum(p) + sum(a * b for a, b in zip(p, s, strict=True)), "weighted mean"),
    ("step_flops", lambda c, B, d: flops_of(c, B, d, times=1), "forward only"),
    ("step_flops", lambda c, B, d: flops_of(c, 1, d), "one image"),
    ("step_flops", lambda c, B, d: flops_of(c, B, 0.0), "nothing dropped"),
    ("step_flops", lambda c, B, d: flops_of(c, B, 1 - d), "dropped the wrong part"),
    ("step_flops", lambda c, B, d: flops_of(c, B, d, class_token=0), "class token"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda v: v if isinstance(v, str) else "answer")
def test_right_answers_pass(name, answer):
    result = getattr(check, name)(answer)
    assert result.passed and result.mistake is None


@pytest.mark.parametrize(("name", "answer", "mistake"), WRONG, ids=lambda v: v if isinstance(v, str) else "answer")
def test_mistakes_are_named(name, answer, mistake):
    result = getattr(check, name)(answer)
    assert not result.passed and result.mistake == mistake


def broken(*args):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    "garbage",
    [None, "x", -7.5, [], {}, torch.zeros(2, 2), int, object(), broken, lambda: 1],
    ids=lambda v: type(v).__name__,
)
def test_garbage_is_answered_without_raising(name, garbage):
    assert not getattr(check, name)(garbage).passed


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_is_not_attempted(name, capsys):
    assert getattr(check, name)(...).mistake == "not attempted"
    assert "Not attempted yet" in capsys.readouterr().out


def test_every_exercise_is_tested():
    assert {name for name, _ in RIGHT} == {name for name, *_ in WRONG} == set(EXERCISES)


def test_flops_agree_with_torchs_counter():
    from torch.utils.flop_counter import FlopCounterMode

    from vit_tutorial import VisionTransformer

    config = ViTConfig(
        image_size=32, patch_size=8, num_classes=5, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2.0, pool="mean"
    )
    with FlopCounterMode(display=False) as counter:
        VisionTransformer(config)(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == speed.flops(config, 0.0) == flops_of(config, 1, 0.0, times=1)
