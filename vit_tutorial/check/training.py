"""Checks of notebook 06, Training."""

import copy
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from ..model import VisionTransformer, ViTConfig
from .facts import unlike
from .reference import Switches, as_share, chosen, stated, written
from .verdict import Wrong, call, number

__all__ = [
    "first_loss",
    "decoupled_step",
    "decays",
    "stuck_schedule",
    "clip_factor",
    "average_lag",
    "training_step",
    "accuracy",
    "which_model",
    "dropout_left_on",
    "smooth_targets",
    "hold_schedule",
]


@stated(
    "Every class gets 1/100, and -ln(1/100) = 4.6052: a fresh model that starts elsewhere has a bug.",
    "The model gives each of the 100 classes the same probability. The loss is minus its natural logarithm.",
    tolerance=0.002,
    together=2,
)
def first_loss(wrong):
    """Cross-entropy of a classifier of 100 classes that knows nothing."""
    K = wrong.choose(
        100,
        ("ten classes", "This would be the loss of a guess among 10 classes; here there are 100.", 10),
        ("one class too few", "The right class is one of the 100 that share the probability.", 99),
    )
    base = "The base of this logarithm is {}; cross-entropy uses the natural logarithm, torch.log."
    loss = wrong.choose(
        math.log(K),
        ("decimal logarithm", base.format(10), 2.0),
        ("binary logarithm", base.format(2), math.log2(K)),
        ("no logarithm", "This is the probability of the right class; the loss is minus its logarithm.", 1 / K),
        ("no logarithm", "This is one over the probability; the loss is the logarithm of that.", K),
        ("weighted by its probability", "The loss is minus the logarithm alone, not times 1/100.", math.log(K) / K),
    )
    return -loss if wrong("sign", "The logarithm of a probability is negative; the loss is minus that.") else loss


@stated(
    "The weight first shrinks by lr * decay = 5 % of itself; then Adam moves it by the rate, whatever the gradient.",
    "First the weight is multiplied by 1 - lr * decay. Then comes the step: both means are corrected for their start.",
    tolerance=0.001,
    together=2,
)
def decoupled_step(wrong):
    """A weight of 3 after AdamW's first step: gradient 30, learning rate 0.1, weight decay 0.5."""
    w, g, lr, decay = 3.0, 30.0, 0.1, 0.5
    kept = (
        "This is Adam's step alone. Decay acts on the weight itself: put into the gradient, it would be divided away."
    )
    shrink = wrong.choose(
        lr * decay,
        ("no decay", kept, 0.0),
        ("decay without the rate", "The weight shrinks by lr * decay of itself, not by the whole decay.", decay),
        ("shrunk by the rate", "The weight shrinks by lr * decay of itself, not by lr.", lr),
    )
    sized = "Adam divides by the gradient's own size: the first step is lr long, however large the gradient is."
    start = "Both means began at 0: divide m by 1 - 0.9 and v by 1 - 0.98 in the first step."
    step = wrong.choose(
        lr,
        ("step follows the gradient", sized, lr * g),
        ("means not corrected", start, lr * 0.1 / math.sqrt(0.02)),
        ("only m corrected", start, lr / math.sqrt(0.02)),
        ("only v corrected", start, lr * 0.1),
        ("no step", "This is the decay alone; the step against the gradient is missing.", 0.0),
    )
    if wrong("sign", "The step goes against the gradient: this one is positive, so the weight falls."):
        step = -step
    if wrong("decay after the step", "The weight that shrinks is the old one: decay comes before the step."):
        return (w - step) * (1 - shrink)
    after = w * (1 - shrink) - step
    moved = "This is how far the weight moves; asked is where it is then."
    return w - after if wrong("change for the weight", moved) else after


def named_parameters():
    for options in ({}, {"pool": "mean", "num_classes": 1, "in_channels": 1, "mean": (0.5,), "std": (0.5,)}):
        small = {"image_size": 8, "patch_size": 4, "num_classes": 3, "embed_dim": 8, "depth": 2, "num_heads": 2}
        yield from VisionTransformer(ViTConfig(**small | options)).named_parameters()


@written(
    "Matrices decay; biases, norms, the class token and the positions keep their size.",
    named_parameters,
    use=lambda function, *inputs: bool(call(function, *inputs)),
    together=3,
)
def decays(wrong, name, parameter):
    """`(name, parameter) -> bool`: whether weight decay applies."""
    kind = {"head.weight": "head", "patch_embed.proj.weight": "patches"}.get(name, "matrix")
    if parameter.ndim == 1:
        kind = "norm" if name.endswith("weight") else "bias"
    kind = name if name in ("cls_token", "pos_embed") else kind
    three = "It has 3 axes, yet it is not a matrix that multiplies a token: leave it alone."
    both = "They have 3 axes, and yet are no matrices that multiply a token: leave them alone."
    one = "A norm's weight of 1 leaves a normalised token as it is; decay would pull it to 0."
    four = "The patch embedding does not decay: its matrix is kept as a convolution's, with 4 axes."
    decay = {"matrix"} | wrong.choose(
        set(),
        ("class token and positions decay", both, {"cls_token", "pos_embed"}),
        ("class token decays", three, {"cls_token"}),
        ("positions decay", three, {"pos_embed"}),
    )
    for other, mistake, why, decayed in (
        ("norm", "norms decay", one, True),
        ("bias", "biases decay", "The biases are pulled to 0, too; they multiply nothing.", True),
        ("patches", "patch embedding forgotten", four, False),
        ("head", "head forgotten", "The head's matrix does not decay; it is a matrix like the others.", False),
    ):
        decay |= {other} if wrong(mistake, why) is decayed else set()
    return wrong.choose(
        kind in decay,
        ("everything decays", "With your rule all decay: biases, norms, class token and positions, too.", True),
        ("nothing decays", "With your rule no parameter decays at all.", False),
        ("the wrong way round", "With your rule the matrices are kept and the rest decays.", kind not in decay),
    )


@stated(
    "10 of 100 warmup steps: the rate never passed a tenth of its peak. Step the schedule after every batch.",
    "Of what progress does the schedule know after its steps, and how far up the warmup is that?",
    tolerance=1e-5,
    together=2,
    read=as_share,
)
def stuck_schedule(wrong):
    """The learning rate, as a fraction of its peak, after 10 epochs with one scheduler step an epoch."""
    progress = 9 / 1000 if wrong("what the last epoch ran at", "") else 10 / 1000
    ended = "It would be 0 had the schedule been stepped after every batch; it has been stepped 10 times of 1,000."
    finished = "The warmup takes 100 scheduler steps, not 10 epochs: only 10 of those 100 have been taken."
    taken = "This is the progress, 10 / 1,000; in the warmup the factor is progress / warmup."
    return wrong.choose(
        progress / 0.1,
        ("schedule ran to its end", ended, 0.0),
        ("warmup finished", finished, 1.0),
        ("progress taken for the rate", taken, progress),
        ("rate for its fraction", "This is the learning rate; divide it by its peak.", 0.002 * progress / 0.1),
    )


def gradients():
    yield [torch.tensor([3.0]), torch.tensor([4.0])], 1.0
    yield [torch.tensor([[1.0, 2.0], [2.0, 4.0]])], 10.0  # shorter than allowed
    for shapes, size, max_norm in (
        (((3, 2), (3,)), 1.0, 0.5),
        (((2, 1, 3), (4,), (2, 2)), 30.0, 2.0),
        (((5,), (5, 4)), 0.01, 1.0),
        (((7,),), 1.0, 1.5),
        (((3,), (2, 2)), 2e-4, 1e-4),
    ):
        yield [size * torch.randn(shape) for shape in shapes], max_norm


CLIPPED = {"_foreach_mul_": "torch's own clipping does the work here. Add up the squares yourself, and take the root."}


@written(
    "One factor for all: they keep their direction, and together are at most max_norm long.", gradients, without=CLIPPED
)
def clip_factor(wrong, gradients, max_norm):
    """`(gradients, max_norm) -> ` the factor of all gradients, a list of tensors."""
    flat = torch.cat([g.flatten() for g in gradients]).double()
    lengths = [g.double().square().sum().sqrt() for g in gradients]
    apart = "These are the lengths of the tensors one by one; taken as one vector, their squares add up, then the root."
    length = wrong.choose(
        flat.square().sum().sqrt(),
        ("root forgotten", "This is the square of the length; the root is missing.", flat.square().sum()),
        ("lengths added", apart, sum(lengths)),
        ("longest tensor alone", apart, max(lengths)),
        ("first tensor alone", apart, lengths[0]),
        ("last tensor alone", apart, lengths[-1]),
        ("sum of absolute values", "The length is the root of the sum of squares.", flat.abs().sum()),
        ("largest entry", "The length counts every entry, not only the largest.", flat.abs().max()),
        ("mean for sum", "The squares are added, not averaged.", flat.square().mean().sqrt()),
    ).item()
    wanted = "This is the length; the factor is max_norm divided by it, or 1."
    longer = "Short gradients would be stretched to max_norm; they are left alone: the factor is at most 1."
    ratio = max_norm / length
    factor = ratio if wrong("short ones stretched", longer) else min(1.0, ratio)
    return wrong.choose(
        factor,
        ("length for the factor", wanted, length),
        ("upside down", "The length is divided by max_norm; it is the other way round.", length / max_norm),
        ("length after for the factor", "This is the length after clipping.", min(length, max_norm)),
        ("never clipped", "With a factor of 1 nothing is ever clipped.", 1.0),
        ("one over the length", "The length shall become max_norm, not 1.", min(1.0, 1 / length)),
        ("larger for smaller", "The factor is the smaller of the two, 1 and max_norm / length.", max(1.0, ratio)),
    )


@stated(
    "d / (1 - d) = 9 steps: what averages over about 1 / (1 - d) steps lies that far back.",
    "In each step: the weight grows by 1, then a = 0.9 * a + 0.1 * w. After 200 steps, take w - a.",
    tolerance=0.01,
    together=2,
)
def average_lag(wrong):
    """How far an average with d = 0.9 stays behind a weight that grows by 1 in each step."""
    lag = 10.0 if wrong("the average before the weight", "") else 9.0
    other = "0.9 belongs to the average and 0.1 to the weight; they are exchanged."
    if wrong("shares swapped", other):
        lag = lag / 81 if lag == 9.0 else lag / 9
    where = "This is where the average stands; asked is how far it is behind the weight."
    lag = wrong.choose(
        lag,
        ("average for its distance", where, 200 - lag),
        ("another decay", "This is the answer for d = 0.99, the recipe's; here d is 0.9.", 99.0),
        ("another decay", "This is the answer for d = 0.99, the recipe's; here d is 0.9.", 100.0),
        ("never behind", "The average still holds nine tenths of what it was: it is behind.", 0.0),
        ("weight for its distance", "This is the weight; subtract the average from it.", 200.0),
    )
    return -lag if wrong("sign", "The average is behind: take the weight minus the average.") else lag


def batches():
    """Three batches for a small linear model, whose gradients are short: clipping changes nothing."""
    for B, shape, K, make, options in (
        (2, (1, 1, 2), 2, torch.optim.SGD, {"lr": 1.0}),
        (3, (3, 2, 2), 5, torch.optim.SGD, {"lr": 0.5, "momentum": 0.9}),
        (4, (3, 2, 2), 4, torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1}),
    ):
        model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), K, bias=False))
        images, labels = 0.4 * torch.rand(3 * B, *shape) - 0.2, torch.randint(0, K, (3 * B,))
        yield model, images, labels, make(model.parameters(), **options)


def three_steps(step, model, images, labels, optimizer):
    """The losses of three steps, and the weights after them; `Wrong` where these have not moved."""
    losses, modes, stepped = [], [], []
    kept, before = copy.deepcopy((images, labels)), model[1].weight.detach().clone()
    model.register_forward_hook(lambda *_: modes.append(model.training))
    optimizer.register_step_post_hook(lambda *_: stepped.append(True))
    for batch in zip(images.chunk(3), labels.chunk(3), strict=True):
        losses.append(number(call(step, model, *batch, optimizer), "the loss"))
    after, gradient = model[1].weight.detach(), model[1].weight.grad
    if not all([*modes, model.training]):
        raise Wrong("The model is in evaluation mode: dropout would be off while training.", "evaluation mode")
    if unlike(kept, (images, labels)):
        raise Wrong(
            "Your code changes the images or labels that it is given; the next epoch needs them.", "changed in place"
        )
    if torch.equal(before, after):
        why = {
            "no step": "nobody called optimizer.step()." if not stepped else "",
            "no gradient": NO_GRADIENT if gradient is None or not gradient.any() else "",
        }
        early = {"step before backward": "step() comes before backward(), and zero_grad() before both."}
        why = {name: sentence for name, sentence in why.items() if sentence} or early
        raise Wrong(f"The weights did not move: {' And '.join(why.values())}", " + ".join(why))
    return tuple(round(loss, 5) for loss in losses), after


NO_GRADIENT = (
    "there is no gradient to step with. Call loss.backward() before step(), and no zero_grad() between the two."
)
TWICE = "cross_entropy does the softmax itself; after one of your own it does a second, and the loss stays far above 0."
EARLY = "The first call moves nothing, the second uses the first one's gradient: backward() comes before step()."
KEPT = "The second step uses the first one's gradient too: backward() adds to it. Call optimizer.zero_grad() before."


@written("Three steps moved the weights, each on its own batch's gradient.", batches, use=three_steps, changes=True)
def training_step(wrong, model, images, labels, optimizer):
    """`(model, images, labels, optimizer) -> loss`, one step of training."""
    logits = model(images)
    if wrong("softmax before cross-entropy", TWICE):
        logits = logits.softmax(1)
    smoothed = wrong("labels smoothed", "The task is the plain cross-entropy, without label smoothing.")
    loss = F.cross_entropy(logits, labels, label_smoothing=0.1 * smoothed)
    bare = "nll_loss takes logarithms of probabilities; cross_entropy takes the logits and does it all."
    if wrong("logarithm forgotten", bare):
        loss = F.nll_loss(logits.softmax(1), labels)
    if wrong("sum for mean", "The losses of the batch are added up; take their mean, whatever the size of the batch."):
        loss = loss * len(labels)
    if early := wrong("step before backward", EARLY):
        optimizer.step()
    if not wrong("gradient not zeroed", KEPT):
        optimizer.zero_grad()
    loss.backward()
    for _ in range(0 if early else 2 if wrong("two steps", "One call is one step: optimizer.step() once.") else 1):
        optimizer.step()
    after = "Return the loss that you went down from, not that of the new weights."
    return F.cross_entropy(model(images), labels) if wrong("loss after the step", after) else loss


reference_step = functools.partial(training_step.task.reference, Switches())


def judged():
    """Logits and labels; in the second case all mistakes have another share of right answers."""
    yield torch.tensor([[3.0, 1, 0], [0, 2, 1], [1, 0, 2], [0, 3, 1]]), torch.tensor([0, 1, 2, 0])
    counts = ()
    while len({*counts, 0, 7}) < 6:
        logits, labels = torch.randn(7, 7), torch.randint(0, 7, (7,))
        labels = torch.where(torch.rand(7) < 0.5, logits.argmax(1), labels)
        right, *other = (int((best == labels).sum()) for best in (logits.argmax(1), logits.argmax(0), logits.argmin(1)))
        counts = right, 7 - right, *other
    yield logits, labels
    for B, C, right in ((1, 3, 1.0), (1, 4, 0.0), (9, 5, 1.0), (12, 5, 0.6), (3, 1, 1.0)):
        logits = torch.randn(B, C)
        logits[:, 0] -= 9.0  # neither the best class nor, of one image, the label: argmax(0) is 0 there
        best = logits.argmax(1)
        yield logits, torch.where(torch.rand(B) < right, best, 1 + best % max(1, C - 1))


@written("The best class of each row, compared with the label, as a fraction.", judged)
def accuracy(wrong, logits, labels):
    """`(logits, labels) -> ` fraction of right answers."""
    dim = "argmax(0) picks the best image for each class; argmax(1) picks the best class for each image."
    values = "The largest logit is compared with the label; compare its place, which argmax gives."
    best = wrong.choose(
        logits.argmax(1),
        ("wrong dim", dim, logits.argmax(0)),
        ("smallest for largest", "argmin picks the least likely class; argmax the best.", logits.argmin(1)),
        ("logits for their place", values, logits.amax(1)),
        ("no dim", "argmax() without a dim is one place in the table; argmax(1) has one per row.", logits.argmax()),
    )
    table = "With keepdim=True it is a column (B, 1), and every image is compared with every label."
    hits = best[..., None] == labels if wrong("every label for every image", table) else best == labels
    share = hits.sum().item() / wrong.choose(
        hits.numel(),
        ("count", "This is how many are right; divide by the number of images.", 1),
        ("divided by the classes", "Divide by the number of images, not by that of classes.", logits.shape[1]),
    )
    if wrong("errors", "This is the fraction that is wrong; count the images that agree."):
        share = 1 - share
    if wrong("whole division", "// rounds down, so that nearly all right is 0. Divide with /."):
        share = math.floor(share)
    return 100 * share if wrong("percent", "This is in per cent; asked is a fraction of 1.") else share


@chosen("c", "The validation set chooses; what it says of its choice is flattered. The test set has chosen nothing.")
def which_model():
    """Which of three models to keep, and which number to report."""
    best = "The training set says how well these pictures are known, by heart perhaps. It chooses nothing."
    flattered = "The model is right. But it was taken because this number was the largest, luck included."
    return {
        "a": ("chosen on the training set", best),
        "b": ("choice and report on one set", flattered),
        "d": ("chosen on the test set", "Once it has chosen, the test set is a validation set, and no test is left."),
    }


@chosen("b", "Dropout and drop path act only in training mode, so eval() makes the answer repeat, and better.")
def dropout_left_on():
    """What model.eval() does."""
    return {
        "a": ("eval taken for no_grad", "Gradients are still recorded after eval(); no_grad() is what stops that."),
        "c": ("eval taken for freezing", "A backward() still fills the gradients; freezing is requires_grad_(False)."),
        "d": ("eval taken for rounding", "The arithmetic is the same; only, nothing is left out at random any more."),
    }


def labelled():
    yield torch.tensor([2, 0]), 4, 0.2
    for B, C, smoothing in ((6, 10, 0.1), (1, 3, 0.3), (3, 7, 0.05), (5, 5, 0.0), (2, 2, 1.0)):
        yield torch.randint(0, C, (B,)), C, smoothing


@written("Each row sums to 1, and the true class keeps 1 - smoothing + smoothing / C.", labelled)
def smooth_targets(wrong, labels, num_classes, smoothing):
    """`(labels, num_classes, smoothing) -> (B, C)` targets of label smoothing."""
    C = num_classes
    counted = "The classes are counted from these labels; tell F.one_hot how many there are: num_classes."
    hot = F.one_hot(labels, -1 if wrong("classes counted from the labels", counted) else C).float()
    if wrong("no smoothing", "These are the hard targets, 1 and 0; no smoothing has been shared out."):
        return hot
    swapped = "The true class keeps the smoothing and the others share the rest; it is the other way round."
    if wrong("shares swapped", swapped):
        smoothing = 1 - smoothing
    above = "The rows sum to more than 1: take the smoothing from the true class before you share it out."
    kept = 1.0 if wrong("rows above 1", above) else 1 - smoothing
    others = "You shared it among the C - 1 wrong classes only; every class gets smoothing / C, the true one too."
    if wrong("shared among the others only", others):
        return torch.where(hot > 0, kept, smoothing / (C - 1))
    below = "Each row sums to 1 - smoothing: what was taken from the true class has not been shared out."
    share = wrong.choose(
        smoothing / C,
        ("rows below 1", below, 0.0),
        ("not divided", "Every class gets the whole smoothing; it is shared by all: smoothing / C.", smoothing),
        ("divided by the images", "It is shared by the classes, not by the images.", smoothing / len(labels)),
        ("divided by C - 1", "It is shared by all C classes: divide by C, not by C - 1.", smoothing / (C - 1)),
    )
    alone = "The true class gets its share of the smoothing, too: 1 - smoothing + smoothing / C."
    return hot * kept + share * (1 - hot if wrong("true class without its share", alone) else 1)


def moments():
    for warmup, cooldown, steps in ((0.25, 0.4, 8), (0.1, 0.2, 37), (0.5, 0.5, 21), (0.05, 0.6, 37), (0.7, 0.1, 37)):
        yield from ((step / steps, warmup, cooldown) for step in range(steps + 1))


@written("Up in a line, held at 1, down in a line to 0 at the last step.", moments)
def hold_schedule(wrong, progress, warmup, cooldown):
    """`(progress, warmup, cooldown) -> ` factor of warmup, hold, linear cooldown."""
    exchanged = "warmup is the share of the rise, cooldown that of the fall; they are exchanged."
    if wrong("warmup and cooldown swapped", exchanged):
        warmup, cooldown = cooldown, warmup
    rest = (1 - progress) / cooldown
    late = "You let the rate fall from progress cooldown on; it must fall from 1 - cooldown on."
    hold = "The rate falls as soon as the warmup ends; hold it at 1 until progress 1 - cooldown."
    cosine = 0.5 - 0.5 * math.cos(math.pi * min(1.0, rest))
    rising = 1 - rest if rest < 1 else 1
    low = "This line does not get from 0 to 1: divide progress by warmup, and what is left of the run by cooldown."
    lines = [
        wrong.choose(
            progress / warmup,
            ("warmup missing", "The factor starts at 1; it must rise from 0 first.", 1.0),
            *(("not divided", low, x) for x in (progress, progress if progress < warmup else 1)),
        ),
        math.inf if wrong("no ceiling", "The factor passes 1: the rise must end at the end of the warmup.") else 1.0,
        wrong.choose(
            rest,
            ("does not reach zero", "The factor must fall to 0 at progress 1; yours does not.", math.inf),
            ("no hold", hold, (1 - progress) / (1 - warmup)),
            ("cooldown taken for its start", late, (1 - progress) / (1 - cooldown)),
            ("cosine for a line", "This cooldown is half a cosine; the task asks for a straight line.", cosine),
            *(("not divided", low, x) for x in (1 - progress, 1 - progress if rest < 1 else 1)),
            ("no straight fall", "The factor drops to 0 at once; let it fall in a line.", 0 if rest < 1 else 1),
            ("cooldown rises", "In the cooldown your factor rises from 0; it must fall to 0.", rising),
        ),
    ]
    largest = "This is the largest of the three lines; the smallest of them is the schedule."
    return max(lines) if wrong("largest for smallest", largest) else min(lines)
