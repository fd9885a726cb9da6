"""Checks of notebook 08, Small data."""

import torch
import torch.nn.functional as F

from ..layers import patchify, unpatchify
from .verdict import Wrong, call, describe, exercise, expect_choice, expect_number, expect_tensor, number

__all__ = [
    "convnet_parameters",
    "receptive_field",
    "best_sum",
    "shuffle_patches",
    "shuffled_answers",
    "mixup_targets",
    "paste_box",
    "compare_counts",
]


def count_parameters(widths, kernels, channels, classes, norm=2, power=2, conv_bias=0, head=1, head_bias=1):
    """Learned numbers of the notebook's ConvNet; the last five arguments plant a mistake."""
    total = 0
    for width, kernel in zip(widths, kernels, strict=True):
        total += channels * width * kernel**power + (norm + conv_bias) * width
        channels = width
    return total + head * (channels * classes + head_bias * classes)


@exercise
def convnet_parameters(function):
    """`(widths, kernels, channels, classes) -> ` learned numbers of the ConvNet."""
    for arguments in (
        ((16, 32, 64, 154), (3, 3, 3, 3), 3, 10),
        ((8, 20), (5, 3), 1, 4),
        ((7, 9, 11), (3, 1, 5), 3, 2),
    ):
        planted = (
            ("norm forgotten", {"norm": 0}, "each norm learns two numbers a channel, a factor and an offset"),
            ("norm counted once", {"norm": 1}, "a norm learns a factor and an offset: two numbers a channel, not one"),
            ("kernel not squared", {"power": 1}, "a kernel is k x k pixels, not k"),
            (
                "convolution's bias",
                {"conv_bias": 1},
                "these convolutions have no bias: the norm's offset does its work",
            ),
            ("head forgotten", {"head": 0}, "the head, a Linear from the last width to the classes, is missing"),
            ("head's bias forgotten", {"head_bias": 0}, "the head is a Linear, and has one bias a class"),
        )
        expect_number(
            call(function, *arguments),
            count_parameters(*arguments),
            [(name, count_parameters(*arguments, **change), f"{why}.") for name, change, why in planted],
            tolerance=1e-9,
            what=f"the number of parameters for widths {arguments[0]}",
        )
    return "Convolutions, norms and head: every learned number is counted once."


def field(kernels, pool_grows=1, jump_grows=2, pool_first=False):
    """Pixels along one side that one output sees; the last three arguments plant a mistake."""
    size, jump = 1, 1
    for kernel in kernels:
        size += (kernel - 1) * jump
        jump *= jump_grows if pool_first else 1
        size += pool_grows * jump
        jump *= 1 if pool_first else jump_grows
    return size


@exercise
def receptive_field(function):
    """`(kernels) -> ` pixels that one output sees along a side, with a 2 x 2 pool after each convolution."""
    for kernels in ((3, 3, 3, 3), (3, 3, 1, 1), (5, 3), (1, 7, 3), (3,)):
        planted = (
            (
                "pools forgotten",
                sum(kernels) - len(kernels) + 1,
                "as if there were no pools; after each pool, neighbours lie twice as many pixels apart",
            ),
            (
                "pool's own pixels forgotten",
                field(kernels, pool_grows=0),
                "the step doubles, as it should; but a 2 x 2 pool also looks at one neighbour itself",
            ),
            (
                "one neighbour too many",
                field(kernels, pool_first=True),
                "one step too many a stage: a kernel of k adds k - 1 neighbours and a pool 1, at the step from before "
                "the pool; double the step afterwards",
            ),
            (
                "step does not double",
                field(kernels, jump_grows=1),
                "the pools grow the field by 1 each, but after a pool, every step is twice as many pixels",
            ),
        )
        expect_number(
            call(function, kernels),
            field(kernels),
            [(name, value, f"for {kernels}: {why}.") for name, value, why in planted],
            tolerance=1e-9,
            what=f"the receptive field of kernels {kernels}",
        )
    return "46 pixels for the wide CNN, more than the picture; 22 for the narrow one, less than the two shapes span."


@exercise
def best_sum(answer):
    """The best accuracy of a threshold on a sum of two scores, where the label is XOR's opposite."""
    share = number(answer, "the best accuracy")
    expect_number(
        share / 100 if share > 1.5 else share,
        0.75,
        (
            (
                "a sum that compares",
                1.0,
                "the sum of a circle and a cross lies exactly between that of two circles and that of two crosses; no "
                "threshold has it on one side and both of them on the other.",
            ),
            (
                "what training finds",
                0.5,
                "half is where training will stop; but put the threshold above the middle sum and "
                "count which of the four cases are right.",
            ),
            (
                "only one case",
                0.25,
                "a threshold above the middle sum has one kind of 'same' right, and all of 'different' too.",
            ),
        ),
        tolerance=0.01,
        what="the best accuracy",
    )
    return "Three of four cases: the middle sum cannot be told from both ends by one threshold."


@exercise
def shuffle_patches(function):
    """`(images, patch_size, orders) -> ` images with their patches in another order, one order an image."""
    for (B, Y, X), P in (((3, 8, 8), 4), ((2, 8, 12), 4), ((4, 6, 4), 2)):
        images = torch.rand(B, 3, Y, X)
        tokens = patchify(images, P)
        N = tokens.shape[1]
        while True:  # until no order is its own inverse
            orders = torch.rand(B, N).argsort(dim=1)
            if (orders != orders.argsort(dim=1)).any(dim=1).all():
                break
        put_back = lambda tokens, P=P, Y=Y, X=X: unpatchify(tokens, P, (Y, X))  # noqa: E731
        take = lambda orders, tokens=tokens, B=B: tokens[torch.arange(B)[:, None], orders]  # noqa: E731
        expect_tensor(
            call(function, images, P, orders),
            put_back(take(orders)),
            (
                ("not shuffled", images, "the images come back as they were."),
                (
                    "the inverse order",
                    put_back(take(orders.argsort(dim=1))),
                    "patch i went to place orders[b, i]; the task wants patch orders[b, i] at place i.",
                ),
                ("still patches", take(orders), "these are patches (B, N, C*P*P); put them back with unpatchify."),
                ("one order for all", put_back(tokens[:, orders[0]]), "every image got the first image's order."),
                (
                    "all orders for all",
                    tokens[:, orders],
                    "tokens[:, orders] gives every image all orders; index the image too, with a column (B, 1).",
                ),
            ),
            what=f"the shuffled images, patches of {P}",
        )
    return "Every patch is whole, and in another place, another one in each image."


@exercise
def shuffled_answers(answer):
    """Why a ViT without positions answers the same on shuffled patches."""
    expect_choice(
        answer,
        "c",
        {
            "a": (
                "taken for training",
                "It was never trained on shuffled pictures, and a fresh, untrained model without positions shows the "
                "same.",
            ),
            "b": (
                "taken for blindness",
                "The patches do reach the answer: the model is right far more often than one time in ten. Only their "
                "order does not.",
            ),
            "d": (
                "taken for pooling alone",
                "Reading a class token is not enough: with positions a ViT reads its class token too, and its logits "
                "change. Try position='learned'.",
            ),
        },
    )
    return "Attention and MLP treat the tokens as a set; positions are the only thing that says where a token was."


@exercise
def mixup_targets(function):
    """`(labels, num_classes, share) -> (B, C)` targets of mixup with the image before."""
    for B, C in ((6, 10), (5, 3), (2, 4)):
        labels, share = torch.randint(0, C, (B,)), 0.05 + 0.4 * torch.rand(B)
        labels[:2] = torch.tensor([0, 1])  # at least one image is mixed with another class
        own = F.one_hot(labels, C).float()
        before, after, weight = own.roll(1, 0), own.roll(-1, 0), share[:, None]
        expect_tensor(
            call(function, labels, C, share),
            weight * own + (1 - weight) * before,
            (
                (
                    "labels not mixed",
                    own,
                    "the pictures are mixed and the labels are not: the targets are still one-hot.",
                ),
                (
                    "shares swapped",
                    (1 - weight) * own + weight * before,
                    "share is the part of the image itself; you gave it to the image before.",
                ),
                (
                    "the wrong neighbour",
                    weight * own + (1 - weight) * after,
                    "that is the image after; roll(1, 0) brings the image *before* to each place.",
                ),
                (
                    "half and half",
                    0.5 * own + 0.5 * before,
                    "every image has a share of its own; you gave half to both.",
                ),
                ("rows below 1", weight * own, "the other image's share is missing: no row sums to 1."),
                ("rows above 1", own + before, "both labels count in full: each row sums to 2, not to 1."),
            ),
            tolerance=1e-5,
            what="the targets",
        )
    return "Each row sums to 1: the shares of the pictures, told to the loss."


def paste(images, labels, num_classes, top, left, size, mistake=None):
    """CutMix with one box, or with a mistake planted in it."""
    Y, X = images.shape[2:]
    mixed = images.clone()
    mixed[:, :, top : top + size, left : left + size] = images.roll(1, 0)[:, :, top : top + size, left : left + size]
    share = size * size if mistake == "area of the whole box" else min(size, Y - top) * min(size, X - left)
    share = share / (Y * X)
    if mistake == "a side for an area":
        share = min(size, Y - top) / Y
    own = F.one_hot(labels, num_classes).float()
    before = own.roll(1, 0)
    if mistake == "shares swapped":
        own, before = before, own
    if mistake == "labels not mixed":
        before = own
    return mixed, (1 - share) * own + share * before


PASTE_MISTAKES = {
    "area of the whole box": "the box sticks out of the picture, and the targets count all of it; count the part that "
    "was pasted.",
    "labels not mixed": "the box was pasted, and the targets are still one-hot: the model would have to name what is "
    "under the box.",
    "shares swapped": "the *pasted* image's label gets the box's share, the picture's own label the rest.",
    "a side for an area": "that is the share of the rows; the label's share is an area, rows times columns.",
}


@exercise
def paste_box(function):
    """`(images, labels, num_classes, top, left, size) -> (images, targets)`: CutMix, repaired."""
    for (B, Y, X), C, (top, left, size) in (
        ((4, 8, 8), 5, (1, 2, 4)),
        ((3, 8, 12), 4, (5, 9, 6)),  # sticks out below and at the right
        ((2, 10, 6), 3, (6, 1, 7)),
    ):
        images, labels = torch.rand(B, 3, Y, X), torch.randint(0, C, (B,))
        labels[:2] = torch.tensor([0, 1])
        arguments = (images.clone(), labels, C, top, left, size)
        mixed, targets = paste(images, labels, C, top, left, size)
        found = call(function, *arguments, copies=False)
        if not isinstance(found, tuple) or len(found) != 2:
            raise Wrong(f"Expected images and targets, found {describe(found)}.", "not a pair")
        chain = images.clone()
        for i in range(B):  # pastes from images that were pasted over already
            chain[i, :, top : top + size, left : left + size] = chain[i - 1, :, top : top + size, left : left + size]
        if not torch.equal(arguments[0], images):
            raise Wrong("Your function changed the images it was given; work on images.clone().", "changed in place")
        expect_tensor(
            found[0],
            mixed,
            (
                ("nothing pasted", images, "the images come back as they were: nothing was pasted."),
                (
                    "pasted twice",
                    chain,
                    "you pasted from images that had a box already; take the box from the originals.",
                ),
            ),
            what="the images",
        )
        expect_tensor(
            found[1],
            targets,
            [(name, paste(images, labels, C, top, left, size, name)[1], why) for name, why in PASTE_MISTAKES.items()],
            what=f"the targets for a box of {size} at row {top}, column {left} of {Y} x {X}",
        )
    return "The label's share is the area that was pasted, also where the box sticks out."


@exercise
def compare_counts(function):
    """`(n) -> ` positive where 0 or 2 of two shapes are crosses, negative where 1 is."""
    n = torch.tensor([0.0, 1.0, 2.0])
    found = call(function, n)
    if not isinstance(found, torch.Tensor) or found.shape != n.shape:
        raise Wrong(f"Expected one score for each of the 3 counts, found {describe(found)}.", "wrong shape")
    found = found.detach().double()
    if torch.allclose(found[0] + found[2], 2 * found[1], atol=1e-6):
        raise Wrong(
            f"Your scores {[round(v, 2) for v in found.tolist()]} lie on a straight line, and no line is above 0 "
            "at both ends and below it in the middle. Bend it: relu.",
            "a straight line",
        )
    if (found[[0, 2]] < 0).all() and found[1] > 0:
        raise Wrong("The other way round: positive must mean 'same', so 0 and 2 crosses.", "the wrong way round")
    right = torch.tensor([True, False, True])
    if not ((found > 0) == right).all() or (found == 0).any():
        raise Wrong(f"Expected scores above, below and above 0, found {[round(v, 2) for v in found.tolist()]}.")
    noisy = torch.cat([n - 0.2, n + 0.2])  # a network counts in round figures at best
    scores = call(function, noisy)
    if not ((scores > 0) == right.repeat(2)).all():
        raise Wrong("Right for 0, 1 and 2, but not for counts that are 0.2 off, as a network's are.", "too narrow")
    return "One bend after the sum, and the sum can compare."
