"""Checks of notebook 12, Your own images."""

import torch

from .verdict import Wrong, call, describe, exercise, expect_number, expect_tensor, number

__all__ = [
    "copy_in_training",
    "mirrored_distance",
    "whole_groups",
    "accuracy_interval",
    "pictures_needed",
    "answer_threshold",
]

Z = 1.96  # 95 % of a normal distribution lie within so many standard deviations


def wilson(right, n, z=Z):
    """The interval of Wilson (1927) for a share of `right` in `n`."""
    p, scale = right / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / scale, z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / scale
    return middle - half, middle + half


@exercise
def copy_in_training(answer):
    """How likely the copy of a test picture is in training: 40 files, 20 pictures twice, 8 held out at random."""
    share = number(answer, "the probability")
    expect_number(
        share / 100 if share > 1.5 else share,
        32 / 39,
        (
            (
                "counted itself",
                32 / 40,
                "the file cannot be its own copy: that is one of the 39 other files, and 32 of them are in training.",
            ),
            ("taken for certain", 1.0, "the copy may also be among the 7 other test files."),
            ("the other side", 7 / 39, "that is the chance that the copy is in the test part too; you want the rest."),
            ("a coin", 0.5, "the two sides are not of one size: 32 files are in training, 8 are not."),
            ("the share held out", 0.2, "that is the share of the files that is held out; ask where the copy is."),
        ),
        tolerance=0.004,
        what="the probability",
    )
    return "32 of the 39 other files: four times out of five, the test asks for something learned by heart."


def pairwise(a, b, mirror=3, combine=torch.minimum, root=True, mean=True):
    """Distances `(n, m)`; the last four arguments plant a mistake."""
    squares = lambda b: (a[:, None] - b[None]).square().flatten(2)  # noqa: E731
    plain, mirrored = (squares(x).mean(2) if mean else squares(x).sum(2) for x in (b, b.flip(mirror) if mirror else b))
    both = combine(plain, mirrored)
    return both.sqrt() if root else both


@exercise
def mirrored_distance(function):
    """`(a, b) -> (n, m)`: distance of each fingerprint of a to each of b or its mirror image."""
    for n, m in ((4, 6), (3, 3), (1, 5)):
        a, b = torch.randn(n, 3, 8, 8), torch.randn(m, 3, 8, 8)
        b[0] = a[0].flip(1) + 0.1 * torch.randn(3, 8, 8)  # upside down: no mirror image
        b[1] = a[-1].flip(2) + 0.1 * torch.randn(3, 8, 8)  # a mirror image
        step = torch.arange(min(n, m))
        expect_tensor(
            call(function, a, b),
            pairwise(a, b),
            (
                ("mirror forgotten", pairwise(a, b, mirror=None), "you compare with b alone; b mirrored counts too."),
                (
                    "upside down",
                    pairwise(a, b, mirror=2),
                    "flip(2) turns rows around, upside down; a mirror image has its columns turned around: flip(3).",
                ),
                (
                    "the larger of two",
                    pairwise(a, b, combine=torch.maximum),
                    "a copy is near *one* of the two, so take the smaller distance.",
                ),
                ("root forgotten", pairwise(a, b, root=False), "that is the mean squared difference; take its root."),
                (
                    "sum for mean",
                    pairwise(a, b, mean=False),
                    "that is the root of the *sum* of the squares; of their mean it does not grow with the size.",
                ),
                (
                    "only in step",
                    pairwise(a, b)[step, step],
                    "you compare a[i] with b[i] alone; every a meets every b: a[:, None] - b[None].",
                ),
            ),
            what=f"the distances of {n} to {m} fingerprints",
        )
    return "Every picture meets every other and its mirror image, and the nearer of the two counts."


@exercise
def whole_groups(function):
    """`(groups, holdout, seed) -> (n,)` mask of the test pictures, with no group on both sides."""
    masks = []
    for n, kinds, holdout in ((60, 30, 0.2), (200, 90, 0.3), (45, 40, 0.25)):
        groups = torch.randint(0, kinds, (n,)).unique(return_inverse=True)[1]
        for seed in (0, 1):
            mask = call(function, groups, holdout, seed)
            if isinstance(mask, torch.Tensor) and mask.dtype in (torch.int64, torch.int32):
                raise Wrong(
                    "These are indices, or numbers; a mask has True for each test picture: groups of shape (n,) give "
                    "a mask of shape (n,), dtype bool. torch.isin makes one.",
                    "not a mask",
                )
            if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool or mask.shape != groups.shape:
                raise Wrong(f"Expected a bool tensor of shape ({n},), found {describe(mask)}.", "wrong shape")
            if not mask.any() or mask.all():
                side = "test" if mask.all() else "training"
                raise Wrong(f"All {n} pictures are in the {side} part; the other part is empty.", "one side empty")
            torn = set(groups[mask].tolist()) & set(groups[~mask].tolist())
            if torn:
                raise Wrong(
                    f"{len(torn)} groups have pictures on both sides, such as group {min(torn)}. Draw groups, not "
                    "pictures; a picture goes where its group goes.",
                    "groups torn apart",
                )
            share = mask.float().mean().item()
            if abs(share - (1 - holdout)) < 0.15:
                raise Wrong(
                    f"{share:.0%} of the pictures are True, for holdout={holdout}: True marks the *test* part.",
                    "sides swapped",
                )
            if abs(share - holdout) > 0.15:
                raise Wrong(f"Expected about {holdout:.0%} of the pictures held out, found {share:.0%}.", "wrong share")
            masks.append(mask)
    if all(torch.equal(first, second) for first, second in zip(masks[::2], masks[1::2], strict=True)):
        raise Wrong("Seeds 0 and 1 give the same split: is the order random, and does the seed reach it?", "no chance")
    return "No group is on both sides: what is tested has not been seen in any copy."


@exercise
def accuracy_interval(function):
    """`(right, n) -> (low, high)`: Wilson's interval for 95 %."""
    for right, n in ((9, 10), (17, 20), (10, 10), (0, 7), (450, 500)):
        found = call(function, right, n)
        try:
            found = [float(value) for value in found]
        except TypeError:
            raise Wrong(f"Expected two numbers, low and high, found {describe(found)}.", "not a pair") from None
        if len(found) != 2:
            raise Wrong(f"Expected two numbers, low and high, found {len(found)}.", "not a pair")
        p, error = right / n, (right / n * (1 - right / n) / n) ** 0.5
        low, high = wilson(right, n)
        scale = 1 + Z * Z / n
        middle, spread = (p + Z * Z / (2 * n)) / scale, p * (1 - p) / n + Z * Z / (4 * n * n)
        half = Z * spread**0.5
        planted = (
            (
                "the plain interval",
                (p - Z * error, p + Z * error),
                f"that is the plain interval; for {right} of {n} it ends at {min(p + Z * error, 9):.2f}. Near 0 and 1 "
                "it fails, so Wilson's is asked for.",
            ),
            ("one standard error", wilson(right, n, 1.0), "z = 1 covers 68 %; for 95 % it is 1.96."),
            ("upside down", (high, low), "low comes first."),
            ("in per cent", (100 * low, 100 * high), "these are per cent; give fractions."),
            ("root forgotten", (middle - Z * spread / scale, middle + Z * spread / scale), "the root is missing."),
            ("half not divided", (middle - half, middle + half), "divide the half width by 1 + z^2 / n too."),
            (
                "around p",
                (p - half / scale, p + half / scale),
                "the middle is not p, but drawn a little towards one half: (p + z^2 / 2n) / (1 + z^2 / n).",
            ),
        )
        expect_tensor(
            torch.tensor(found),
            torch.tensor([low, high]),
            [(name, torch.tensor(value), why) for name, value, why in planted],
            tolerance=2e-4,
            what=f"the interval for {right} of {n}",
        )
    return "9 of 10 right means: somewhere between 60 % and 98 %."


@exercise
def pictures_needed(answer):
    """From how many test pictures on, in tens, nine of ten right shows more than 80 %."""
    tens = range(10, 1000, 10)
    first = next(n for n in tens if wilson(0.9 * n, n)[0] > 0.8)
    plain = next(n for n in tens if 0.9 - Z * (0.09 / n) ** 0.5 > 0.8)
    expect_number(
        answer,
        first,
        (
            ("too few", 10, "of 10, 9 right leave everything from 60 % to 98 % open."),
            ("the plain interval", plain, "so says the plain interval, which is too sure of itself; use Wilson's."),
            ("the last that fails", first - 10, "there the lower end is still at or below 80 %."),
        ),
        tolerance=1e-9,
        what="the number of pictures",
    )
    return f"{first} test pictures, to tell 90 % from 80 %. Halving the gap takes about four times as many."


def lowest(confidence, right, wanted, pick=min, of_all=False):
    """The threshold, or with `pick=max` or `of_all` a wrong one; infinite where none will do."""
    good = [
        t
        for t in confidence.tolist()
        if (right & (confidence >= t)).sum() / (len(right) if of_all else (confidence >= t).sum()) >= wanted
    ]
    return pick(good) if good else float("inf")


@exercise
def answer_threshold(function):
    """`(probabilities, labels, wanted) ->` the lowest confidence from which on the answers are right often enough."""
    for n, classes, wanted in ((60, 3, 0.9), (80, 5, 0.75), (40, 2, 0.95), (12, 3, 1.0)):
        for _ in range(100):  # until each mistake shows
            labels = torch.randint(0, classes, (n,))
            logits = torch.randn(n, classes) + 2 * torch.nn.functional.one_hot(labels, classes)
            logits[0] = 9 * torch.nn.functional.one_hot(labels[0], classes)  # the surest is right
            probabilities = (1.5 * logits).softmax(1)
            confidence, chosen = probabilities.max(1)
            right = chosen == labels
            truth = probabilities[torch.arange(n), labels]
            expected, highest = lowest(confidence, right, wanted), lowest(confidence, right, wanted, max)
            of_all, known = lowest(confidence, right, wanted, of_all=True), lowest(truth, right, wanted)
            if expected not in (highest, of_all, known):
                break
        found = number(call(function, probabilities, labels, wanted), "the threshold")
        planted = (
            (
                "the highest threshold",
                highest,
                "right, but the model would answer once and be silent ever after; take the *lowest* that will do.",
            ),
            (
                "right of all",
                of_all,
                "you divide by all pictures; divide by those that are answered.",
            ),
            (
                "knows the truth",
                known,
                "you used the probability of the *true* class, which nobody knows in use; take the largest one.",
            ),
            ("no threshold", 0.0, "with threshold 0 every picture is answered, and too many answers are wrong."),
            ("the accuracy itself", wanted, "a confidence of 0.9 does not mean right in 9 of 10; count them."),
        )
        expect_tensor(
            torch.tensor(found).double(),
            torch.tensor(expected).double(),
            [(name, torch.tensor(value).double(), why) for name, value, why in planted],
            tolerance=1e-6,
            what=f"the threshold for {wanted:.0%} of {n} pictures",
        )
    return "Below the threshold the model says 'I do not know', and above it keeps its word, on these pictures."
