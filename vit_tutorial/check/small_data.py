"""Checks of notebook 08: counting a CNN, receptive fields, shuffled patches, mixed labels."""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..layers import patchify, unpatchify
from .reference import as_share, chosen, stated, written
from .verdict import Wrong, call, describe

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

STAGES = ((16, 32, 64, 154), (3, 3, 3, 3), 3, 10), ((8, 20), (5, 3), 1, 4), ((9, 11, 7), (3, 1, 5), 2, 3)
KERNELS = (3,), (3, 3), (5, 3), (1, 7, 3), (3, 3, 3, 3), (3, 3, 1, 1), (1,), (2, 4, 9, 1, 3)
COUNTED = "Convolutions, norms and head: every learned number is counted once."


@written(COUNTED, lambda: [((2,), (3,), 1, 2), *STAGES], tolerance=1e-9)
def convnet_parameters(wrong, widths, kernels, channels, classes):
    """A function of widths, kernels, channels and classes that counts the learned numbers of the ConvNet."""
    handed_on = "Each convolution reads what the one before it gave: a stage's width is the next one's channels."
    if wrong("widths and kernels swapped", "widths come first: the width of a stage, then the side of its kernel."):
        widths, kernels = kernels, widths
    if wrong("only the first stage", "Only the first stage and a head on it are counted: are all in the loop?"):
        widths, kernels = widths[:1], kernels[:1]
    total, before = 0, channels
    for width, kernel in zip(widths, kernels, strict=True):
        weights = wrong.choose(
            kernel**2,
            ("kernel not squared", "A kernel is k x k pixels, not k.", kernel),
            ("kernel forgotten", "Each pair of channels has a kernel of k x k weights, not one.", 1),
        )
        norm = wrong.choose(
            2,
            ("norm forgotten", "Each norm learns two numbers per channel, a factor and an offset.", 0),
            ("norm counted once", "A norm learns a factor and an offset: two numbers per channel, not one.", 1),
            ("running statistics", "The norm's running mean and variance are measured, not learned.", 4),
        )
        bias = wrong("convolution's bias", "These convolutions have no bias: the norm's offset does its work.")
        total += before * width * weights + (norm + bias) * width
        if not wrong("channels not handed on", handed_on):
            before = width
    if wrong("head forgotten", "The head, a Linear from the last width to the classes, is missing."):
        return total
    last = wrong.choose(
        widths[-1],
        ("channels not handed on", handed_on, channels),
        *(("head on another width", "The head reads the last stage's channels.", x) for x in (widths[0], sum(widths))),
    )
    return total + wrong.choose(
        (last + 1) * classes,
        ("one class", "The head has a row of weights and a bias for each class.", last + 1),
        ("head's weights forgotten", "The head has a weight for each pair of a channel and a class.", classes),
        ("head's bias forgotten", "The head is a Linear, and has one bias per class.", last * classes),
        ("head's bias for each input", "The head's bias is added to the logits: one per class.", last * (classes + 1)),
    )


SPANS = "46 pixels for the wide CNN, more than the picture; 22 for the narrow one, less than the two shapes span."


@written(SPANS, lambda: [(kernels,) for kernels in KERNELS], tolerance=1e-9)
def receptive_field(wrong, kernels):
    """A function of kernels: pixels that one output sees along a side, with a 2 x 2 pool after each convolution."""
    many = "A kernel of k adds k - 1 neighbours and a pool 1, at the step from before the pool; then the step doubles."
    late = "The step doubles after the convolution of its stage, not before."
    if wrong("pools forgotten", "After each pool, neighbours lie twice as many pixels apart."):
        return 1 + sum(kernel - 1 for kernel in kernels)
    kernels = wrong.choose(
        kernels,
        ("kernels in reverse order", "The first kernel looks at pixels, in steps of 1.", kernels[::-1]),
        ("only the first stage", "Only the first kernel counts here: does return stand in the loop?", kernels[:1]),
    )
    size = 0 if wrong("begins at 0", "Before any layer, one output sees one pixel: the field begins at 1.") else 1
    step = 1
    for kernel in kernels:
        later = wrong.choose(
            2 * step,
            ("step does not double", "The pools grow the field, but after a pool, every step is twice as long.", step),
            ("step grows by adding", "A pool doubles the step, 1, 2, 4, 8; it does not add 2.", step + 2),
        )
        neighbours = wrong.choose(
            kernel - 1,
            ("one neighbour too many", many, kernel),
            ("half a kernel", "A kernel of k adds k - 1 neighbours, half of them on each side.", (kernel - 1) // 2),
        )
        size += neighbours * (later if wrong("pool before the convolution", late) else step)
        size += 0 if wrong("pool's own pixels forgotten", "A 2 x 2 pool also looks at one neighbour itself.") else step
        step = later
    return size


@stated(
    "Three of four cases: the middle sum cannot be told from both ends by one threshold.",
    "Expected a share of the pictures: count those that are right, for each place where the threshold can stand.",
    tolerance=0.01,
    read=as_share,
)
def best_sum(wrong):
    """The best accuracy of a threshold on a sum of two scores, where the label is XOR's opposite."""
    ends = "'Different' lies half-way between both kinds of 'same', and no threshold has it alone on one side."
    half = "Half is where training will stop; put the threshold above the middle sum and count which cases are right."
    quarter = "A threshold above the middle sum has one kind of 'same' right, and all of 'different' too."
    return wrong.choose(
        0.75,
        ("a sum that compares", ends, 1.0),
        ("what training finds", half, 0.5),
        ("only one case", quarter, 0.25),
        ("three equal cases", "The three sums are not equally frequent: half of the pictures are different.", 2 / 3),
    )


def pictures_and_orders():
    yield torch.arange(1, 17.0).reshape(2, 1, 2, 4), 2, torch.tensor([[1, 0], [0, 1]])
    for *shape, P in ((3, 3, 8, 8, 4), (2, 1, 8, 12, 4), (4, 2, 6, 4, 2), (1, 3, 4, 6, 2), (2, 3, 2, 3, 1)):
        images = torch.rand(shape)
        orders = torch.arange(patchify(images, P).shape[1]).expand(len(images), -1)
        while (orders == orders.argsort(dim=1)).all(dim=1).any():  # until no order is its own inverse
            orders = torch.rand(orders.shape).argsort(dim=1)
        yield images, P, orders


@written("Every patch is whole, and in another place, another one in each image.", pictures_and_orders)
def shuffle_patches(wrong, images, patch_size, orders):
    """A function of images, patch size and orders `(B, N)` that puts each image's patches in its own order."""
    P, (B, _, Y, X) = patch_size, images.shape
    alone = "reshape alone keeps the order of memory, and cuts stretches of rows: patchify and unpatchify cut patches."
    every = "tokens[:, orders] gives every image all orders; index the image too, with a column (B, 1)."
    batch = "tokens[orders] takes images by these numbers; index the image first, with a column (B, 1), then the patch."
    column = "Index the images with a column, torch.arange(B)[:, None], so that each goes with a row of orders."
    gathered = "gather takes one number of each patch here: expand the index to the width of a patch."
    square = "unpatchify has to know both sides, (Y, X), and one number stands for a square."
    tokens = images.reshape(B, orders.shape[1], -1) if wrong("reshape alone", alone) else patchify(images, P)
    if wrong("the inverse order", "Patch i went to place orders[b, i]; the task wants patch orders[b, i] at place i."):
        orders = orders.argsort(dim=1)
    take = wrong.choose(
        lambda: tokens[torch.arange(B)[:, None], orders],
        ("not shuffled", "The images come back as they were.", lambda: tokens),
        ("one order for all", "Every image got the first image's order.", lambda: tokens[:, orders[0]]),
        ("all orders for all", every, lambda: tokens[:, orders]),
        ("images indexed", batch, lambda: tokens[orders]),
        ("no column", column, lambda: tokens[torch.arange(B), orders]),
        ("gather without expand", gathered, lambda: tokens.gather(1, orders[:, :, None])),
    )
    if wrong("still patches", "These are patches (B, N, C*P*P); put them back with unpatchify."):
        return take()
    if wrong("reshape alone", alone, place=1):
        return take().reshape(images.shape)
    sides = wrong.choose((Y, X), *(("wrong sides", square, value) for value in (Y, X, (X, Y))))
    return unpatchify(take(), P, sides)


@chosen("c", "Attention and MLP treat the tokens as a set; positions are the only thing that says where a token was.")
def shuffled_answers():
    """Why a ViT without positions answers the same on shuffled patches, as a letter."""
    a = "It was never trained on shuffled pictures, and a fresh, untrained model without positions shows the same."
    b = "The patches do reach the answer: the model is right far more often than one time in ten. Their order does not."
    d = "With positions, a ViT reads its class token too, and its logits change. Try position='learned'."
    return {"a": ("taken for training", a), "b": ("taken for blindness", b), "d": ("taken for pooling alone", d)}


def labels_and_shares():
    yield torch.tensor([0, 2, 2]), 3, torch.tensor([0.75, 0.5, 0.25])
    for B, C in ((6, 10), (5, 3), (2, 4), (1, 3)):
        labels = torch.randint(0, C, (B,))
        labels[:2] = torch.arange(min(B, 2))  # at least one image is mixed with another class
        yield labels, C, torch.rand(B)


AFTER = "That is the image after; roll(1, 0) brings the image *before* to each place."


@written("Each row sums to 1: the shares of the pictures, told to the loss.", labels_and_shares)
def mixup_targets(wrong, labels, num_classes, share):
    """A function of labels, number of classes and share that gives the targets `(B, C)` of mixup."""
    B = len(labels)
    first = "The first image has a partner too: the last one."
    along = "That moves the labels to other classes; roll(1, 0) moves whole rows, to other images."
    below = "One image's share is missing: no row sums to 1."
    above = "A label counts in full, whatever its share: the rows sum to more than 1."
    column = "share (B,) runs along the classes here; as a column, share[:, None], it goes with the rows."
    still = "A row's two shares belong to one image: roll the labels alone, not their shares."
    over = "Where both have one label, its two shares add up; here one takes the place of the other."
    partner = wrong.choose(
        labels.roll(1),
        ("labels not mixed", "The pictures are mixed, and the targets are still one-hot.", labels),
        ("the wrong neighbour", AFTER, labels.roll(-1)),
        ("turned round", "The partner is the image before, roll(1, 0), not flip(0).", labels.flip(0)),
        ("classes rolled", along, (labels + 1) % num_classes),
        ("the first without a partner", first, torch.cat([labels[:1], labels[:-1]])),
    )
    share = wrong.choose(
        share,
        ("one share for all", "Every image has a share of its own; all got the first one's.", share[:1].expand(B)),
        ("half and half", "Every image has a share of its own; you gave half to both.", torch.full((B,), 0.5)),
        ("mean of the shares", "Every image has a share of its own; all got their mean.", share.mean().expand(B)),
    )
    mine, theirs = share, 1 - share
    if wrong("shares swapped", "share is the part of the image itself; you gave it to the image before."):
        mine, theirs = theirs, mine
    none, full = torch.zeros(B), torch.ones(B)
    mine = wrong.choose(mine, ("rows below 1", below, none), ("rows above 1", above, full))
    others = ("rows above 1", above, full), ("rows below 1", below, none), ("shares rolled too", still, theirs.roll(1))
    theirs = wrong.choose(theirs, *others)
    if wrong("class numbers mixed", "Half of class 2 and half of class 0 is not class 1: mix the one-hot rows."):
        return mine * labels + theirs * partner
    for place, order in enumerate((1, -1)):
        if wrong("equal labels overwritten", over, place):
            targets = torch.zeros(B, num_classes)
            for which, part in ((labels, mine), (partner, theirs))[::order]:
                targets[torch.arange(B), which] = part
            return targets
    own, before = (F.one_hot(which, num_classes).float() for which in (labels, partner))
    if not wrong("no column", column):
        mine, theirs = mine[:, None], theirs[:, None]
    return mine * own + theirs * before


def boxes():
    yield torch.arange(1, 9.0).reshape(2, 1, 2, 2), torch.tensor([0, 1]), 2, 1, 1, 2
    for shape, K, (top, left, size) in (
        ((4, 3, 8, 8), 5, (1, 2, 4)),
        ((3, 1, 8, 12), 4, (5, 9, 6)),  # sticks out below and at the right
        ((2, 2, 10, 6), 3, (7, 1, 4)),  # below alone
        ((3, 3, 6, 9), 4, (1, 6, 5)),  # at the right alone
        ((2, 3, 4, 5), 3, (0, 0, 6)),  # all of it
        ((1, 3, 4, 4), 2, (1, 1, 2)),
    ):
        images, labels = torch.rand(shape), torch.randint(0, K, shape[:1])
        images[..., left] = 0.5  # the same in all: pixels that a box does not change
        labels[:2] = torch.arange(len(labels[:2]))
        yield images, labels, K, top, left, size


def images_and_targets(function, *inputs):
    found = call(function, *inputs)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise Wrong(f"Expected images and targets, found {describe(found)}.", "not a pair")
    return tuple(found)


@written("The label's share is the area that was pasted, also where the box sticks out.", boxes, use=images_and_targets)
def paste_box(wrong, images, labels, num_classes, top, left, size):
    """A function of images, labels, number of classes and a box that does CutMix: `(images, targets)`."""
    Y, X = images.shape[2:]
    out = "The box sticks out of the picture, and the targets count all of it; count the part that was pasted."
    side = "That is the share of one side; the label's share is an area, rows times columns."
    changed = "A pasted pixel may be equal to the one under it: count the pixels of the box, not those that changed."
    under = "The box was pasted, and the targets are still one-hot: the model would have to name what is under it."
    mixed, rows, columns = images.clone(), slice(top, top + size), slice(left, left + size)
    if wrong("rows and columns swapped", "top counts rows, and left columns: images[:, :, rows, columns]."):
        rows, columns = columns, rows
    before = images.roll(-1 if wrong("the wrong neighbour", AFTER) else 1, 0)
    if wrong("inside out", "The box was kept, and all around it was pasted."):
        mixed, before = before.clone(), images
    if wrong("pasted twice", "You pasted from images that had a box already; take the box from the originals."):
        for i in range(len(mixed)):
            mixed[i, :, rows, columns] = mixed[i - 1, :, rows, columns]
    elif not wrong("nothing pasted", "The images come back as they were."):
        mixed[:, :, rows, columns] = before[:, :, rows, columns]
    height, width = min(size, Y - top), min(size, X - left)
    share = wrong.choose(
        height * width / (Y * X),
        *(("area of the whole box", out, area / (Y * X)) for area in (size * size, size * width, height * size)),
        *(("a side for an area", side, part) for part in (height / Y, width / X)),
        ("changed pixels counted", changed, (mixed != images).float().mean()),
    )
    if wrong("shares swapped", "The *pasted* image's label gets the box's share, the picture's own label the rest."):
        share = 1 - share
    partner = labels.roll(-1 if wrong("the wrong neighbour", AFTER, place=1) else 1)
    own, other = (F.one_hot(which, num_classes).float() for which in (labels, partner))
    return mixed, own if wrong("labels not mixed", under) else (1 - share) * own + share * other


def signs(function, n):
    """Where the scores lie, in words: above 0, below, on it, or all on one line."""
    counts = n.tolist()
    scores = call(function, n)
    if not isinstance(scores, torch.Tensor) or scores.shape != (len(counts),):
        raise Wrong(f"Expected one score for each of {len(counts)} counts, found {describe(scores)}.", "wrong shape")
    first, *scores = scores.tolist()
    rises = [(score - first) / (count - counts[0]) for score, count in zip(scores, counts[1:], strict=True)]
    if max(rises) - min(rises) <= 1e-4 * max(map(abs, rises)):
        return "a straight line"
    return " ".join("+" if score > 0 else "-" if score < 0 else "0" for score in (first, *scores))


class Relus(TorchFunctionMode):
    """Counts the calls that cut off what is below 0."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = [x.clone() for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.count += any((x < 0).any() and torch.equal(x.relu(), result) for x in given)
        return result


def bent_by_relus(function):
    """Raise `Wrong` where anything but relu bends: relus, sums and products with numbers give pieces of lines."""
    with Relus() as relus:
        scores = call(function, torch.linspace(-0.2, 2.2, 49)).detach().double()
    bends = scores.diff(n=2).abs() > 1e-3 * scores.abs().max()
    if not relus.count or bends.sum() > 16:
        raise Wrong("Its bend is not a relu's. Use sums, products with numbers, and torch.relu alone.", "forbidden")


ALLOWED = "Your code uses {}; the task allows only sums, products with numbers, and torch.relu, as an MLP has them."
BENDS = ("abs", "absolute", "cos", "sin", "leaky_relu", "prelu", "hardtanh", "softshrink", "round", "floor", "ceil")
STEPS = ("sign", "where", "gt", "ge", "lt", "le", "eq", "ne", "__eq__", "__ne__", "remainder", "pow", "square", "sqrt")


@written(
    "One bend after the sum, and the sum can compare.",
    lambda: [(torch.tensor([0.0, 1.0, 2.0]),), (torch.tensor([-0.19, 0.81, 1.81, 0.19, 1.19, 2.19]),)],
    use=signs,
    without={name: ALLOWED.format(name.strip("_")) for name in BENDS + STEPS},
    also=(bent_by_relus,),
)
def compare_counts(wrong, n):
    """A function of counts that is positive where 0 or 2 of two shapes are crosses, negative where 1 is."""
    line = "Your scores lie on a straight line, which is never above 0 at both ends and below it in between: bend it."
    one = "Only one of the two ends scores above 0: what is above 0 on the other side of 1?"
    noise = "This is right for 0, 1 and 2, but not for counts that are 0.2 off, as a network's are."
    if wrong("a straight line", line):
        return n
    at_0 = "relu(n) bends at 0, and from there to 2 it is a straight line. The bend belongs at 1: relu(n - 1)."
    right = torch.relu(n if wrong("bent at 0", at_0) else n - 1) * (not wrong("one end only", one))
    left = torch.relu(1 - n) * (not wrong("one end only", one, place=1))
    threshold = wrong.choose(
        0.5,
        ("nothing subtracted", "The score is nowhere below 0: subtract something, so that 1 scores below.", 0.0),
        ("too narrow", noise, 0.1),
        ("too wide", noise, 0.9),
        ("too much subtracted", "No score is above 0: subtract less than what 0 and 2 have.", 1.0),
    )
    sign = -1 if wrong("the wrong way round", "Positive must mean 'same', so 0 and 2 crosses.") else 1
    return sign * (right + left - threshold)
