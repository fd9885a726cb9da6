"""Checks of notebook 12, Your own images."""

import math

import torch

from .reference import as_share, chosen, stated, written
from .verdict import Wrong, call, describe, exercise, fresh_seed, observed

__all__ = [
    "copy_in_training",
    "mirrored_distance",
    "whole_groups",
    "accuracy_interval",
    "pictures_needed",
    "learned_in_grey",
    "answer_threshold",
]

ITSELF = "The file cannot be its own copy: that is one of the 39 other files, and some of them are in training."
WILSON = "The plain interval is too sure of itself near 0 and 1, so Wilson's is asked for."


@stated(
    "32 of the 39 other files: four times out of five, the test asks for something learned by heart.",
    "The copy is one of the other files. Count those, and those of them that are in training; then divide.",
    tolerance=0.004,
    read=as_share,
)
def copy_in_training(wrong):
    """How likely the copy of a test picture is in training: 40 files, 20 pictures twice, 8 held out at random."""
    return wrong.choose(
        32 / 39,
        ("counted itself", ITSELF, 32 / 40),
        ("taken for certain", "The copy may also be among the other test files.", 1.0),
        ("the other side", "That is the chance that the copy is in the test part too; you want the rest.", 7 / 39),
        ("a coin", "The two sides are not of one size: count the files on each.", 0.5),
        ("the share held out", "That is the share of the files that is held out; ask where the copy is.", 0.2),
        ("one picture", "That is the chance to be one certain file of the others.", 1 / 39),
        ("one too many in training", "All files that are not held out are in training: count them again.", 31 / 39),
    )


def prints():
    yield torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 3, 8, 8).clone(), torch.full((1, 3, 8, 8), 6.0)
    for n, m in ((4, 6), (3, 3), (1, 5), (5, 1), (1, 1)):
        a, b = torch.randn(n, 3, 8, 8), torch.randn(m, 3, 8, 8)
        for where, turned in ((0, 2), (m // 2, 1), (m - 1, 3)):  # upside down; colours; a mirror image
            b[where] = a[-1].flip(turned - 1) + 0.1 * torch.randn(3, 8, 8)
        yield a, b


@written("Every picture meets every other and its mirror image, and the nearer of the two counts.", prints, together=3)
def mirrored_distance(wrong, a, b):
    """`(a, b) -> (n, m)`: distance of each fingerprint of a to each of b or its mirror image."""
    down = "flip(2) turns rows around, upside down; a mirror image has its columns turned around: flip(3)."
    pixels = "The smaller of the two is taken pixel by pixel; take it of the two distances."
    sums = "That is the root of the *sum* of the squares; of their mean it does not grow with the size."
    step = "Each a[i] meets one b[j] alone; every a meets every b: a[:, None] - b[None]."
    turned = wrong.choose(
        b.flip(3),
        ("mirror forgotten", "This compares with b alone; b mirrored counts too.", b),
        ("upside down", down, b.flip(2)),
        ("turned round", down, b.flip(2, 3)),
        ("order turned round", "flip(0) turns the order of the pictures around; a mirror image is flip(3).", b.flip(0)),
        ("rows for columns", "A mirror image is not the transpose: turn the columns around, flip(3).", b.mT),
        ("colours turned round", "flip(1) turns the colours around; a mirror image is flip(3).", b.flip(1)),
    )
    both = torch.stack([a[:, None] - b[None], a[:, None] - turned[None]]).flatten(3)  # (2, n, m, 192)
    both = both.abs() if wrong("squares forgotten", "The mean of the *squared* differences is asked for.") else both**2
    total = wrong("sum for mean", sums)
    reduced = lambda x: x.sum(-1) if total else x.mean(-1)  # noqa: E731
    found = wrong.choose(
        reduced(both).amin(0),
        ("the larger of two", "A copy is near *one* of the two, so take the smaller distance.", reduced(both).amax(0)),
        ("mean of the two", "The smaller of the two counts, not their mean.", reduced(both).sqrt().mean(0) ** 2),
        ("smaller pixel by pixel", pixels, reduced(both.amin(0))),
        ("mirror image alone", "This compares with b mirrored alone; b as it is counts too.", reduced(both)[1]),
    )
    found = found if wrong("root forgotten", "That is the mean squared difference; take its root.") else found.sqrt()
    return found.diagonal() if wrong("only in step", step) else found


def drawn(function, groups, holdout, seed):
    """The mask that an answer gives, if it is one and tears no group apart."""
    own, n, before = groups.clone(), len(groups), fresh_seed()
    torch.default_generator.manual_seed(before)
    mask = call(function, own, holdout, seed)
    if isinstance(mask, torch.Tensor) and mask.dtype != torch.bool:
        raise Wrong("These are numbers; a mask is of dtype bool, True for each test picture: torch.isin.", "not a mask")
    if not isinstance(mask, torch.Tensor) or mask.shape != groups.shape:
        name = "wrong shape" if isinstance(mask, torch.Tensor) else "not a tensor"
        raise Wrong(f"Expected a bool tensor of shape ({n},), found {describe(mask)}.", name)
    if torn := set(groups[mask].tolist()) & set(groups[~mask].tolist()):
        example = f" For groups {groups.tolist()}, found {mask.int().tolist()}." if n < 20 else ""
        why = f"Group {min(torn)} and {len(torn) - 1} others have pictures on both sides: draw groups, not pictures."
        raise Wrong(why + example, "groups torn apart")
    if not torch.equal(own, groups):
        raise Wrong("Your code changes groups in place: whoever calls it goes on with that.", "changed in place")
    if torch.initial_seed() not in (before, seed):  # with the seed that was given, the split is as asked
        raise Wrong("Your code seeds torch's generator with a number of its own.", "seeded")
    return mask


@exercise
def whole_groups(function):
    """`(groups, holdout, seed) -> (n,)` mask of the test pictures, with no group on both sides."""
    few = torch.tensor([7, 3, 3, 7, 12, 0, 12, 5, 0, 5])
    many = 7 * torch.arange(600).repeat_interleave(2)[torch.randperm(1200)] + 2
    often = sum(drawn(function, few, 0.5, seed).long() for seed in range(40)).tolist()
    for holdout in (0.2, 0.3):
        first, again, other = (drawn(function, many, holdout, seed) for seed in (0, 0, 1))
        for share in (first.float().mean().item(), other.float().mean().item()):
            if share in (0.0, 1.0):
                raise Wrong(f"All pictures are in the {'test' if share else 'training'} part.", "one side empty")
            if abs(share - (1 - holdout)) < 0.1:
                raise Wrong(
                    f"{share:.0%} are True, for holdout={holdout}: True marks the *test* part.", "sides swapped"
                )
            if abs(share - holdout) > 0.1:  # five standard deviations, where each group is drawn alone
                raise Wrong(f"Expected about {holdout:.0%} of the pictures held out, found {share:.0%}.", "wrong share")
        if torch.equal(first, other):
            raise Wrong("Seeds 0 and 1 give the same split: does the seed reach what is drawn?", "no chance")
        if not torch.equal(first, again):
            raise Wrong("Seed 0 gives two splits: draw with a generator made from the seed.", "not repeatable")
    for group, times in zip(few.tolist(), often, strict=True):
        if times in (0, 40):
            why = f"With seeds 0 to 39, group {group} is {'always' if times else 'never'} held out of {few.tolist()}."
            raise Wrong(f"{why} Each group must have its chance.", "not every group")
    return "No group is on both sides: what is tested has not been seen in any copy."


def masks(function):
    """What a function gives for each call of the check, in its order."""
    found = []

    def noted(*inputs):
        found.append(function(*inputs))
        return found[-1]

    whole_groups.__wrapped__(noted)
    return found


def as_masked(given):
    """The praise, or `Wrong`, for the masks that were given elsewhere."""
    again = iter(given)
    return whole_groups.__wrapped__(lambda *inputs: next(again))


observed(whole_groups, masks, as_masked)


def interval(wrong, right, n):
    """The interval of Wilson (1927) for a share of `right` in `n`: low, high."""
    z = wrong.choose(
        1.96,
        ("one standard error", "z = 1 covers 68 %; for 95 % it is 1.96.", 1.0),
        ("two standard errors", "z = 2 is a rule of thumb; for 95 % it is 1.96.", 2.0),
        ("z of 90 %", "z = 1.645 leaves 5 % on each side; for 95 % in the middle it is 1.96.", 1.645),
        ("z of 99 %", "z = 2.576 covers 99 %; for 95 % it is 1.96.", 2.576),
    )
    p, scale = right / n, 1 + z * z / n
    middle = wrong.choose(
        p + z * z / (2 * n),
        *(("around p", "The middle is not p, but drawn a little towards one half.", x) for x in (p * scale, p)),
        ("z not squared", "z is squared in the middle: z^2 / 2n.", p + z / (2 * n)),
        ("brackets forgotten", "z**2 / 2 * n is z^2 n / 2: write z**2 / (2 * n).", p + z * z / 2 * n),
        ("half a square forgotten", "In the middle stands z^2 / 2n, with the 2.", p + z * z / n),
    )
    spread = p * (1 - p) / n + wrong.choose(
        z * z / (4 * n * n),
        ("n not squared", "Under the root stands z^2 / 4n^2, with n squared.", z * z / (4 * n)),
        ("second term forgotten", "Under the root z^2 / 4n^2 is missing.", 0.0),
    )
    root = spread if wrong("root forgotten", "The root is missing.") else spread**0.5
    half = root if wrong("z forgotten", "The root is multiplied by z.") else z * root
    plain, cut_off = (wrong("the plain interval", WILSON, place) for place in (0, 1))
    if plain or cut_off:
        half = z * (p * (1 - p) / n) ** 0.5
        return (max(p - half, 0.0), min(p + half, 1.0)) if cut_off else (p - half, p + half)
    above, below = wrong.choose(
        (scale, scale),
        ("ends not divided", "Both ends are divided by 1 + z^2 / n.", (1.0, 1.0)),
        ("half not divided", "Divide the half width by 1 + z^2 / n too.", (scale, 1.0)),
        ("middle not divided", "Divide the middle by 1 + z^2 / n too.", (1.0, scale)),
    )
    low, high = middle / above - half / below, middle / above + half / below
    one = "Both ends are divided, so the sum or difference needs brackets: (middle - half) / scale."
    return wrong.choose(
        (low, high),
        *(("one end not divided", one, ends) for ends in ((middle - half, high), (low, middle + half))),
        ("pictures for a share", "These are numbers of pictures; give fractions of all.", (n * low, n * high)),
    )


def two_numbers(function, right, n):
    found = call(function, right, n)
    try:
        found = torch.tensor([float(value) for value in found])
    except TypeError:
        raise Wrong(f"Expected two numbers, low and high, found {describe(found)}.", "not a pair") from None
    if len(found) != 2:
        raise Wrong(f"Expected two numbers, low and high, found {len(found)}.", "not a pair")
    return found


@written(
    "9 of 10 right means: somewhere between 60 % and 98 %.",
    lambda: [(9, 10), (17, 20), (10, 10), (0, 7), (1, 1), (450, 500), (1, 3)],
    use=two_numbers,
    tolerance=2e-4,
)
def accuracy_interval(wrong, right, n):
    """`(right, n) -> (low, high)`: Wilson's interval for 95 %."""
    low, high = interval(wrong, right, n)
    if wrong("upside down", "low comes first."):
        low, high = high, low
    return (100 * low, 100 * high) if wrong("in per cent", "These are per cent; give fractions.") else (low, high)


@stated(
    "70 test pictures, to tell 90 % from 80 %. Half the gap takes about three times as many.",
    "Go through 10, 20, 30, ...: which is the first whose lower end is above 80 %?",
    tolerance=1e-9,
)
def pictures_needed(wrong):
    """From how many test pictures on, in tens, nine of ten right shows more than 80 %."""
    return wrong.choose(
        70,
        ("too few", "Of 10, 9 right leave everything from 60 % to 98 % open.", 10),
        ("one standard error", "With z = 1 the band holds 68 %; with 1.96 it holds 95 %.", 20),
        ("the plain interval", "So says the plain interval, which is too sure of itself; use Wilson's.", 40),
        *(("still below", "There the lower end is still at or below 80 %.", n) for n in (60, 50, 30)),
        ("one by one", "That is right if one counts one by one; asked is the first of 10, 20, 30, ...", 62),
        *(("not the first", "There is one before for which it holds.", n) for n in (80, 90, 100)),
        ("another gap", "That is for telling 90 % from 85 %.", 200),
    )


@chosen("c", "The shapes were there all along: without a colour to rely on, the models learn them.")
def learned_in_grey():
    """How well models that were fine-tuned in grey do in grey, as a letter."""
    never = "The models above had never met grey; these learn from it. Train them, and test each on its own fold."
    lost = "Train the four models in grey, and count what they get right of all pictures, each on its own fold."
    return {"a": ("tested, not trained", never), "b": ("no gain", lost)}


def answered():
    """Pictures of which the model is sure in this order, most sure first: 1 where it is right; no two alike."""
    yield torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]), torch.tensor([0, 1, 0, 0]), 0.9
    for hits, C, wanted in (
        ("1011111001", 3, 0.75),  # met, failed, met again, the last time exactly
        ("0111101110110", 2, 0.77),
        ("00010", 5, 0.5),  # never
        ("111111", 4, 1.0),
        ("1", 2, 0.5),
        ("1101101101110111010111011110", 10, 0.73),
    ):
        n = len(hits)
        confidence = 0.95 - 0.4 * (torch.arange(n) + 0.5 * torch.rand(n)) / n
        chosen, rest = torch.randint(C, (n,)), 0.1 + torch.rand(n, C)
        rest[torch.arange(n), chosen] = 0.0
        probabilities = rest / rest.sum(1, keepdim=True) * (1 - confidence)[:, None]
        probabilities[torch.arange(n), chosen] = confidence
        labels, order = (chosen + 1 - torch.tensor([int(hit) for hit in hits])) % C, torch.randperm(n)
        yield probabilities[order], labels[order], wanted


@written("Below the threshold the model says 'I do not know'; above it, it keeps its word on these.", answered)
def answer_threshold(wrong, probabilities, labels, wanted):
    """`(probabilities, labels, wanted) ->` the lowest confidence from which on the answers are right often enough."""
    known = "You used the probability of the *true* class, which nobody knows in use; take the largest one."
    silent = "The model would answer once and be silent ever after; take the *lowest* that will do."
    strict = "At least the wanted share: exactly as much will do, >=."
    least = "A confidence that is at least the threshold is answered: >=, not >."
    calibrated = "A confidence of 0.9 does not mean right in 9 of 10: count those that are right."
    confidence, chosen = probabilities.max(1)
    if wrong("knows the truth", known):
        confidence = probabilities.gather(1, labels[:, None])[:, 0]
    right, sure = (chosen == labels).double(), wrong("confidence for right", calibrated)
    coverage = wrong("share of the answered", "That is the share that is answered; how many of those are right?")
    of_all = wrong("right of all", "You divide by all pictures; divide by those that are answered.")
    unsure = "Below the threshold the model is silent: answered is what is at or above it."
    meets = wrong.choose(torch.ge, ("threshold left out", least, torch.gt), ("the unsure answered", unsure, torch.le))
    mixed = wrong("not sorted", "The first that will do is the lowest only if you go up: sort the confidences.")
    more = wrong("more than wanted", strict)
    early = wrong("stopped early", "You stopped at the first threshold that fails; a lower one may do again.")
    none = "Where no threshold will do, return float('inf')."
    fallback = wrong.choose(math.inf, *(("no infinity", none, other) for other in (0.0, 1.0, wanted)))
    pick = wrong.choose(
        lambda good: good[-1] if good else fallback,
        ("the highest threshold", silent, lambda good: good[0] if good else fallback),
        ("no threshold", "Then every picture is answered, and too many of them wrongly.", lambda good: 0.0),
        ("the accuracy itself", calibrated, lambda good: wanted),
    )
    good = []
    for t in confidence.flip(0) if mixed else confidence.sort(descending=True).values:
        heard = meets(confidence, t)
        counted = (confidence.double() if sure else right)[heard].sum()
        share = heard.double().mean() if coverage else counted / (len(right) if of_all else heard.sum())
        if share > wanted or share == wanted and not more:
            good.append(round(t.item(), 6))
        elif early:
            break
    return pick(good)
