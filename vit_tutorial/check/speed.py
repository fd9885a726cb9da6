"""Checks of notebook 11, Making it fast."""

import math
import statistics
import threading
import time
import timeit

from ..model import ViTConfig
from .reference import stated, written
from .verdict import Wrong, call, number

__all__ = ["stopwatch", "larger_picture", "bfloat16_sum", "break_even", "speed_up_of_all", "step_flops"]

FUNCTIONS = type(time.time), type(lambda: ...)


def swap(others, known):
    """Let others stand for clocks, `{one: other}`: in the modules, among these names, and where timeit looks."""
    for function in (timeit.timeit, timeit.repeat, timeit.Timer.__init__):
        function.__defaults__ = tuple(others.get(value, value) for value in function.__defaults__)
    for names in (vars(time), vars(timeit), known):
        names.update({k: others[v] for k, v in [*names.items()] if isinstance(v, FUNCTIONS) and v in others})


def measured(function, seconds_taken, repeats, unit=0.0):
    """What a stopwatch finds for a function that takes these seconds, call by call; what the calls took; clocks read.

    The clocks move while the function is called, and stand still otherwise. With a `unit`, they are those of this
    machine, and the function takes as many units.
    """
    taken, reads, me, real_clock = [], [], threading.get_ident(), time.perf_counter

    def timed():
        seconds, start = seconds_taken[min(len(taken), len(seconds_taken) - 1)], real_clock()
        time.sleep(unit * seconds)
        taken.append(real_clock() - start if unit else seconds)

    def clock(real, scale):
        def read():
            if threading.get_ident() != me:
                return real()
            reads.append(real)
            return scale * (1000 + sum(taken))

        return read

    clocks = {} if unit else {"perf_counter": 1.0, "monotonic": 1.0, "time": 1.0, "process_time": 0.0}  # which waits
    clocks |= {f"{name}_ns": 10**9 for name in clocks}
    others = {getattr(time, name): clock(getattr(time, name), scale) for name, scale in clocks.items()}
    known = getattr(function, "__globals__", {})
    swap(others, known)
    try:
        return number(call(function, timed, repeats), "the seconds"), taken, reads
    finally:
        swap({other: real for real, other in others.items()}, known)


def seconds_found(function, seconds_taken, repeats):
    """What a stopwatch finds: by our clock or, where it looks at another one, by that of a busy machine."""
    found, _, reads = measured(function, seconds_taken, repeats)
    for _ in range(0 if reads else 3):
        found, taken, _ = measured(function, seconds_taken, repeats, 0.004)
        tries = sorted(taken[1 : repeats + 1]) or [0.0]
        if tries[(len(tries) - 1) // 2] / 1.4 < found < 1.4 * tries[len(tries) // 2]:
            return statistics.median(seconds_taken[1 : repeats + 1])
    return found if reads else found / 0.004


def as_many_calls(function):
    _, taken, _ = measured(function, [1.0], 3)
    if len(taken) != 4:
        raise Wrong(f"Expected 4 calls where repeats is 3, one to warm up, found {len(taken)}.", "number of calls")


COLD = "The first call also reserves memory and starts threads: make one that is not counted, before the others."
COUNTED = "The first call is among those that count: call once before you time anything."
MEAN = "One slow try spoils a mean; the median, the middle one of the sorted times, does not mind it."
NOT_SORTED = "The middle one of the tries as they came is any of them: sort them first."
ONCE = "The clock starts once, so each time holds all tries before it too: look at it before every call."
STILL = "Between your two looks at the clock no time passes: the call belongs between them, and perf_counter tells."


@written(
    "A slow first call and one slow try do not disturb your stopwatch.",
    lambda: [([9, 1, 30, 2], 3), ([0.5, 15, 3, 90, 7, 1], 5), ([20, 4], 1), ([8, 80, 1, 9, 4], 4)],
    use=seconds_found,
    also=(as_many_calls,),
)
def stopwatch(wrong, seconds_taken, repeats):
    """`(function, repeats) -> seconds`: the median after an uncounted warm-up."""
    cold, counted = wrong("no warm-up", COLD), wrong("warm-up counted", COUNTED)
    once, times = wrong("clock started once", ONCE), []
    if not (cold or counted):
        seconds_taken()
    start = time.perf_counter()
    for _ in range(repeats + counted):
        start = start if once else time.perf_counter()
        seconds_taken()
        times.append(time.perf_counter() - start)
    low, high = (sorted(times)[n] for n in ((len(times) - 1) // 2, len(times) // 2))
    found = wrong.choose(
        (low + high) / 2,
        *(("middle one", "", one) for one in (low, high)),
        ("mean instead of median", MEAN, statistics.mean(times)),
        ("total instead of one", "That is all tries together; one try is asked for.", sum(times)),
        ("fastest instead of median", "That is the fastest try; the median is the middle one.", min(times)),
        ("slowest instead of median", "That is the slowest try; the median is the middle one.", max(times)),
        ("not sorted", NOT_SORTED, times[len(times) // 2]),
        ("last instead of median", "That is the last try alone; keep all of them in a list.", times[-1]),
        ("too short", STILL, 0.0),
    )
    return found * wrong.choose(
        1,
        ("milliseconds", "These are milliseconds; seconds are asked for.", 1000),
        ("sign", "A time cannot be negative: the later look at the clock minus the earlier one.", -1),
    )


@stated(
    "784 patches instead of 196: 4 times as many, each looking at 4 times as many.",
    "How many patches are there before and after? Scores and mixing cost as much as there are pairs of them.",
    tolerance=1e-3,
)
def larger_picture(wrong):
    """By which factor scores and mixing grow when the picture's side doubles."""
    return wrong.choose(
        16,
        ("side instead of area", "The side doubles, but there are more than 2 times as many patches: count them.", 2),
        ("linear in the tokens", "4 is the factor of the patches; every patch looks at every patch.", 4),
        ("patches instead of factor", "784 patches there are now; by which factor do the FLOPs grow?", 784),
        ("cubed", "The scores are the square of the number of patches, not the cube.", 64),
        ("class token counted", "The class token is to be left out.", (785 / 197) ** 2),
    )


@stated(
    "Every one of the thousand sums was rounded back to 1. That is why sums stay in float32.",
    "Write the loop with total = torch.tensor(1.0, dtype=torch.bfloat16), and look at the first few sums.",
    tolerance=2e-4,
)
def bfloat16_sum(wrong):
    """1 + 0.001, a thousand times, in bfloat16."""
    return wrong.choose(
        1.0,
        ("exact sum", "That is the exact sum, or that of float32; each sum is to be rounded to bfloat16.", 2.0),
        ("one step", "bfloat16 has this number, but is it the nearest one to 1.001?", 1 + 1 / 128),
        ("added once", "That is one addition, exactly; a thousand are asked for, each of them rounded.", 1.001),
        (
            "rounded up each time",
            "Each sum is rounded to the *nearest* number, not to the next one up.",
            1 + 1000 / 128,
        ),
        ("float16", "That is the sum in float16, which has 10 bits for the digits; bfloat16 has 7.", 1.9765625),
        ("started at 0", "This sum starts at 0; begin with 1.0.", 0.5),
    )


@written(
    "Cost over saving; a short run never gets there.",
    lambda: [(8, 5, 12), (0.75, 0.5, 45.0), (2.0, 0.75, 7.0), (1.25, 1.0, 0.8), (2, 2, 10), (0.2, 0.3, 10.0)],
    tolerance=1e-3,
    together=3,
)
def break_even(wrong, plain, fast, cost):
    """`(plain, fast, cost) -> steps` after which compiling has paid."""
    saving, saved = plain - fast, "What a step saves is plain - fast"
    formula = wrong.choose(
        lambda: cost / saving,
        ("over the old time", "A step does not save all of plain, only plain - fast.", lambda: cost / plain),
        ("over the new time", "fast is what a step still takes; it saves plain - fast.", lambda: cost / fast),
        ("turned over", "That is the part of the cost which one step earns back.", lambda: saving / cost),
        ("sign", f"{saved}, the longer one first.", lambda: cost / -saving),
        ("multiplied", f"{saved}; how often does it go into the cost? Divide.", lambda: cost * saving),
    )
    never = "A step that saves nothing never earns the cost back: return float('inf')."
    equal, slower, zero, below = (wrong("never pays", never, place) for place in range(4))
    if saving == 0 and not equal or saving < 0 and not slower:
        return 0.0 if zero else -math.inf if below else math.inf
    if wrong("always infinity", "This is infinity also where a step does save something."):
        return math.inf
    steps, down = formula(), "After so many whole steps the cost is not yet earned back: round up, or not at all."
    return wrong.choose(
        steps,
        ("whole steps", "", math.ceil(steps)),
        ("one more", "At cost / saving the cost is earned back; nothing is to be added.", steps + 1),
        *(("rounded down", down, other) for other in (steps // 1, round(steps))),
    )


@written(
    "Half the time, ten times as fast, is 1.82 of the whole: the rest sets the limit.",
    lambda: [
        ([0.75], [3]),
        ([0.3, 0.6], [2.0, 3.0]),
        ([1.0], [4.0]),
        ([0.1, 0.2, 0.3], [5.0, 2.0, 8.0]),
        ([0.4], [0.25]),
    ],
)
def speed_up_of_all(wrong, share, factor):
    """`(share, factor) -> speed-up of the whole` (Amdahl's law), for lists of parts."""
    parts, rest = list(zip(share, factor, strict=True)), 1 - sum(share)
    lumped = "The parts have factors of their own: divide each share by its own, then add up."
    single = "Speed-ups of single parts do not multiply into one of the whole: add up the new times."
    new = wrong.choose(
        sum(p / s for p, s in parts),
        ("weighted mean", "Times add up, not factors: divide each share by its factor.", sum(p * s for p, s in parts)),
        *(("factors together", lumped, sum(share) / f(factor)) for f in (sum, math.prod, statistics.mean)),
        ("first part alone", "Only the first part becomes faster here.", share[0] / factor[0] + sum(share[1:])),
    )
    new += wrong.choose(
        rest,
        ("rest forgotten", "What is in none of the parts stays as it is: add 1 - sum(share).", 0.0),
        ("rest of each part", "What stays is 1 - sum(share), once.", sum(1 - p for p in share)),
        ("share for rest", "What stays is 1 - sum(share), not what becomes faster.", sum(share)),
        ("rest multiplied", "The parts' shares add up: 1 - sum(share) stays.", math.prod(1 - p for p in share)),
        ("everything stays", "All of the old time is still in: what stays is 1 - sum(share).", 1.0),
    )
    if wrong("new time", "That is the new time; the speed-up is one over it."):
        return new
    return wrong.choose(
        1 / new,
        *(("product", single, math.prod(x)) for x in (factor, [1 / (1 - p + p / s) for p, s in parts])),
        ("laws added", single, sum(1 / (1 - p + p / s) for p, s in parts)),
        ("gain", "Asked is how many times as fast, so that 1 means as fast as before.", 1 / new - 1),
        ("time saved", "That is the share of the time that is saved; the speed-up is old time over new.", 1 - new),
    )


def steps():
    for image, patch, C, classes, D, depth, heads, ratio, pool, batch_size, dropped in (
        (4, 2, 1, 2, 2, 1, 1, 1.0, "mean", 2, 0.5),
        (32, 4, 3, 10, 64, 3, 4, 4.0, "cls", 8, 0.5),
        ((32, 48), 8, 3, 7, 48, 2, 2, 4.0, "mean", 1, 0.3),
        ((16, 28), 4, 4, 5, 32, 1, 2, 2.5, "cls", 3, 0.1),
        (20, 2, 1, 3, 4, 1, 2, 2.0, "cls", 2, 0.29),  # 28.999999999999996 patches
        (32, 8, 3, 5, 32, 1, 2, 2.0, "cls", 4, 0.0),
    ):
        per_channel = {"mean": (0.5,) * C, "std": (0.5,) * C}
        config = ViTConfig(image, patch, C, classes, D, depth, heads, ratio, pool=pool, **per_channel)
        yield config, batch_size, dropped


@written("Embedding of all patches, blocks on those that are left, all that three times.", steps, tolerance=1e-6)
def step_flops(wrong, config, batch_size, dropped):
    """`(config, batch_size, dropped) -> FLOPs` of a training step with patch dropout."""
    (rows, columns), D = config.grid, config.embed_dim
    r = 4 if wrong("ratio of 4", "The MLP need not be 4 times as wide: config.mlp_ratio.") else config.mlp_ratio
    if wrong("square picture", "The picture need not be square: rows, columns = config.grid."):
        columns = rows
    N, cls = rows * columns, config.pool == "cls"
    pool = "With pool='cls' the blocks see one token more, the class token; with 'mean' they do not."
    stays = "The class token always stays: take the fraction of the patches alone."
    others = int((1 - dropped) * N), N - round(dropped * N), N - math.ceil(dropped * N), (1 - dropped) * N
    T = wrong.choose(
        N - int(dropped * N),
        ("nothing dropped", "The blocks see only the patches that are left.", N),
        ("dropped the wrong part", "dropped is what is left out; the blocks see the rest.", int(dropped * N)),
        ("class token dropped", stays, N - int(dropped * (N + cls))),
        *(("rounded otherwise", "int(dropped * N) patches are dropped, as in drop_patches.", left) for left in others),
    )
    after = "Patches are dropped after the embedding, and it sees no class token."
    embedded = wrong.choose(N, *(("embedding dropped too", after, left) for left in (T, T + cls)))
    T += wrong.choose(cls, ("class token", pool, 0), ("class token", pool, 1))
    block = 2 * T * D * D * (4 + 2 * r) + 4 * T * T * D
    forward = block * (1 if wrong("one block", "That is one block; there are config.depth of them.") else config.depth)
    if not wrong("embedding forgotten", "The patch embedding's product is missing."):
        forward += 2 * embedded * config.in_channels * config.patch_size**2 * D
    if not wrong("head forgotten", "The head's product is missing, 2 * D * num_classes."):
        forward += 2 * D * config.num_classes
    if wrong("multiplications alone", "A multiplication and its addition are two FLOPs: 2 * n * k * m."):
        forward /= 2
    total = forward * wrong.choose(
        3,
        ("forward only", "Training also computes two gradients for each product: 3 times.", 1),
        ("backward only", "Training needs the forward pass too: 3 times.", 2),
    )
    return total if wrong("one image", "That is one image; multiply by the batch size.") else batch_size * total
