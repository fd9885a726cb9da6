"""Checks of notebook 06, Training."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ..model import VisionTransformer, ViTConfig
from .verdict import Wrong, call, exercise, expect_choice, expect_number, expect_tensor, number, same

__all__ = [
    "first_loss",
    "smooth_targets",
    "stuck_schedule",
    "training_step",
    "accuracy",
    "dropout_left_on",
    "decays",
    "hold_schedule",
]


@exercise
def first_loss(answer):
    """Cross-entropy of a classifier of 100 classes that knows nothing."""
    expect_number(
        answer,
        math.log(100),
        (
            ("ten classes", math.log(10), "that is ln 10, the loss of a guess among 10 classes; here there are 100."),
            ("decimal logarithm", 2.0, "that is log10(100); cross-entropy uses the natural logarithm, torch.log."),
            ("binary logarithm", math.log2(100), "that is log2(100), in bits; cross-entropy uses the natural one."),
            ("no logarithm", 0.01, "0.01 is the probability of the right class; the loss is minus its logarithm."),
            ("no logarithm", 100.0, "100 is one over the probability; the loss is the logarithm of that."),
            ("sign", -math.log(100), "the logarithm of a probability is negative; the loss is minus that."),
        ),
        tolerance=0.01,
        what="the first loss",
    )
    return "Every class gets 1/100, and -ln(1/100) = 4.6052: a fresh model that starts elsewhere has a bug."


@exercise
def smooth_targets(function):
    """`(labels, num_classes, smoothing) -> (B, C)` targets of label smoothing."""
    for C, smoothing, count in ((10, 0.1, 6), (4, 0.2, 1), (7, 0.05, 3)):
        labels = torch.randint(0, C, (count,))
        one_hot = F.one_hot(labels, C).float()
        expect_tensor(
            call(function, labels, C, smoothing),
            one_hot * (1 - smoothing) + smoothing / C,
            (
                ("no smoothing", one_hot, "these are the hard targets, 1 and 0; no smoothing has been shared out."),
                (
                    "rows below 1",
                    one_hot * (1 - smoothing),
                    "each row sums to 1 - smoothing: what was taken from the true class has not been shared out.",
                ),
                (
                    "rows above 1",
                    one_hot + smoothing / C,
                    "each row sums to 1 + smoothing: take the smoothing from the true class before sharing it out.",
                ),
                (
                    "shared among the others only",
                    torch.where(one_hot > 0, 1 - smoothing, smoothing / (C - 1)),
                    "you shared it among the C - 1 wrong classes; PyTorch (and Szegedy et al.) give every class "
                    "smoothing / C, the true one too.",
                ),
            ),
            tolerance=1e-5,
            what="the targets",
        )
    return "Each row sums to 1, and the true class keeps 1 - smoothing + smoothing / C."


@exercise
def stuck_schedule(answer):
    """The learning rate, as a fraction of its peak, after 10 epochs with one scheduler step an epoch."""
    last_epoch = isinstance(answer, float) and abs(answer - 0.09) < 1e-6  # what the last epoch ran at is right too
    expect_number(
        answer,
        0.09 if last_epoch else 0.1,
        (
            (
                "schedule ran to its end",
                0.0,
                "it would be 0 had the schedule been stepped after every batch; it has been stepped 10 times of 1,000.",
            ),
            (
                "warmup finished",
                1.0,
                "the warmup takes 100 scheduler steps, not 10 epochs: only 10 of those 100 have been taken.",
            ),
            (
                "progress taken for the rate",
                0.01,
                "0.01 is the progress, 10 / 1,000; in the warmup the factor is progress / warmup.",
            ),
        ),
        tolerance=1e-3,
        what="the fraction of the peak",
    )
    return "10 of 100 warmup steps: the rate never passed a tenth of its peak. Step the schedule after every batch."


STEP_MISTAKES = {
    "gradient not zeroed": "the second step uses the first step's gradient too: backward() adds to .grad. "
    "Call optimizer.zero_grad() before it.",
    "softmax before cross-entropy": "cross_entropy takes logits and does the softmax itself; after a softmax of your "
    "own it does a second one, and the loss can never come near 0.",
    "no step": "the weights did not move: the gradient is there, and nobody called optimizer.step().",
    "no gradient": "the weights did not move: optimizer.step() found no gradient. Call loss.backward() before it, and "
    "no zero_grad() between the two.",
    "step before backward": "the first call moved nothing and the second used the first call's gradient: backward() "
    "must come before step().",
}


def reference_step(model, images, labels, optimizer, mistake=None):
    """One training step, with one of `STEP_MISTAKES` planted in it."""
    if mistake not in ("gradient not zeroed", "step before backward"):
        optimizer.zero_grad()
    logits = model(images)
    loss = F.cross_entropy(logits.softmax(1) if mistake == "softmax before cross-entropy" else logits, labels)
    if mistake == "step before backward":
        optimizer.step()
        optimizer.zero_grad()
    loss.backward()
    if mistake == "no gradient":
        optimizer.zero_grad()
    if mistake not in ("no step", "step before backward"):
        optimizer.step()
    return loss


def run_steps(step, inputs):
    """What `step` does to a small linear model in three calls: its last loss, its weights, and its gradient."""
    torch.manual_seed(0)  # the same weights for each way to step
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loss = None
    for images, labels in inputs:
        loss = step(model, images, labels, optimizer)
    weight = model[1].weight
    gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
    return model, loss, weight.detach().clone(), gradient.clone()


@exercise
def training_step(function):
    """`(model, images, labels, optimizer) -> loss`, one step of training."""
    inputs = [(torch.randn(4, 3, 2, 2), torch.randint(0, 5, (4,))) for _ in range(3)]
    _, loss, weight, _ = run_steps(reference_step, inputs)
    model, found_loss, found_weight, found_gradient = run_steps(lambda *args: call(function, *args), inputs)
    if not model.training:
        raise Wrong("The model is left in evaluation mode: dropout would be off while training.", "evaluation mode")
    mistakes = []
    for name, why in STEP_MISTAKES.items():
        _, _, wrong, gradient = run_steps(lambda *args, name=name: reference_step(*args, mistake=name), inputs)
        if same(found_gradient, gradient):
            mistakes.append((name, wrong, why))
    expect_tensor(found_weight, weight, mistakes, what="the weight after three steps")
    expect_number(found_loss, loss.item(), what="the loss that the step returns")
    return "Three steps moved the weights exactly as they should, each on its own batch's gradient."


@exercise
def accuracy(function):
    """`(logits, labels) -> ` fraction of right answers."""
    for B, C in ((6, 6), (12, 5), (1, 3)):
        while True:  # until a right and a wrong answer cannot be told apart by luck
            logits, labels = torch.randn(B, C), torch.randint(0, C, (B,))
            right = (logits.argmax(1) == labels).float()
            wrong_dim = (logits.argmax(0) == labels).float().mean().item() if B == C else -1.0
            if wrong_dim != right.mean() and (B == 1 or 0 < right.mean() < 1):
                break
        hits, share = right.sum().item(), right.mean().item()
        expect_number(
            call(function, logits, labels),
            share,
            (
                (
                    "wrong dim",
                    wrong_dim,
                    "argmax(0) picks the best image for each class; argmax(1) picks the best class for each image.",
                ),
                ("count", hits, "that is how many are right; divide by the number of images."),
                ("percent", 100 * share, "that is in per cent; the course writes accuracy as a fraction of 1."),
                ("errors", 1 - share, "that is the fraction that is wrong; count the images that agree."),
            ),
            what=f"the accuracy on {B} images of {C} classes",
        )
    return "The best class of each row, compared with the label, as a fraction."


@exercise
def dropout_left_on(answer):
    """What model.eval() does."""
    expect_choice(
        answer,
        "b",
        {
            "a": (
                "eval taken for no_grad",
                "Gradients are still recorded after eval(), as the experiment shows; no_grad() or inference_mode() "
                "is what stops that.",
            ),
            "c": (
                "eval taken for freezing",
                "The weights can still be trained after eval(): a backward() fills their gradients. Freezing is "
                "requires_grad_(False).",
            ),
            "d": (
                "eval taken for rounding",
                "The arithmetic is the same; what changed is that no feature is left out at random any more.",
            ),
        },
    )
    return "Dropout and drop path act only in training mode, so eval() makes the answer repeat, and better."


DECAY_MISTAKES = (
    ("biases decay", lambda name, p: name not in ("cls_token", "pos_embed"), "biases and norms are pulled to 0 too"),
    ("biases decay", lambda name, p: True, "everything decays, biases, norms, class token and positions included"),
    (
        "norms decay",
        lambda name, p: name.endswith("weight"),
        "the norms' weights decay: a weight of 1 leaves a normalised token as it is, and decay pulls it to 0",
    ),
    (
        "class token and positions decay",
        lambda name, p: p.ndim >= 2,
        "the class token and the positions decay: they have 3 axes, and are no matrices that multiply a token",
    ),
    (
        "patch embedding forgotten",
        lambda name, p: p.ndim == 2,
        "the patch embedding does not decay: its matrix is kept as a convolution's, with 4 axes",
    ),
    (
        "norms decay",
        lambda name, p: "bias" not in name,
        "the norms' weights decay, and the class token and the positions as well",
    ),
    ("nothing decays", lambda name, p: False, "no parameter decays at all"),
    (
        "the wrong way round",
        lambda name, p: p.ndim < 2 or name in ("cls_token", "pos_embed"),
        "the matrices are kept and the rest decays",
    ),
)


@exercise
def decays(function):
    """`(name, parameter) -> bool`: whether weight decay applies."""
    small = ViTConfig(image_size=8, patch_size=4, num_classes=3, embed_dim=8, depth=2, num_heads=2)
    models = [VisionTransformer(replace(small, pool=pool)) for pool in ("cls", "mean")]
    named = [pair for model in models for pair in model.named_parameters()]
    found = [bool(call(function, name, parameter)) for name, parameter in named]
    right = [p.ndim >= 2 and name not in ("cls_token", "pos_embed") for name, p in named]
    if found == right:
        return "Matrices decay; biases, norms, the class token and the positions keep their size."
    for mistake, rule, why in DECAY_MISTAKES:
        if found == [rule(name, parameter) for name, parameter in named]:
            raise Wrong(f"With your rule {why}.", mistake)
    name, expected = next((name, r) for (name, _), r, f in zip(named, right, found, strict=True) if r != f)
    raise Wrong(f"Expected {name} to {'decay' if expected else 'be left alone'}, found the opposite.")


@exercise
def hold_schedule(function):
    """`(progress, warmup, cooldown) -> ` factor of warmup, hold, linear cooldown."""
    progress = torch.linspace(0, 1, 41, dtype=torch.float64)
    for warmup, cooldown in ((0.1, 0.2), (0.25, 0.5), (0.05, 0.3)):
        values = [number(call(function, p.item(), warmup, cooldown), "the factor") for p in progress]
        found = torch.tensor(values, dtype=torch.float64)
        if found[0] > 0.01:
            raise Wrong(f"At progress 0 the factor is {found[0]:.4f}, not 0: it must rise first.", "warmup missing")
        if found[-1] > 0.01:
            raise Wrong(
                f"At progress 1 the factor is {found[-1]:.4f}, not 0: it must end there.", "does not reach zero"
            )
        hold, down = torch.ones_like(progress), (1 - progress) / cooldown
        rising = torch.minimum(progress / warmup, hold)
        expect_tensor(
            found,
            torch.minimum(rising, down),
            (
                (
                    "no hold",
                    torch.minimum(rising, (1 - progress) / (1 - warmup)),
                    "the rate falls as soon as the warmup ends; hold it at 1 until progress 1 - cooldown.",
                ),
                (
                    "cooldown taken for its start",
                    torch.minimum(rising, (1 - progress) / (1 - cooldown)),
                    "you let the rate fall from progress cooldown on; it must fall from 1 - cooldown on.",
                ),
                (
                    "cosine for a line",
                    torch.minimum(rising, 0.5 - 0.5 * torch.cos(math.pi * down.clamp(max=1))),
                    "this cooldown is half a cosine; the task asks for a straight line.",
                ),
            ),
            tolerance=1e-6,
            what=f"the factor at progress 0 to 1 in 40 steps (warmup {warmup}, cooldown {cooldown})",
        )
    return "Up in a line, held at 1, down in a line to 0 at the last step."
