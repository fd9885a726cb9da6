"""Checks of notebook 09, Fine-tuning."""

import torch
from torch import nn

from ..model import VisionTransformer, ViTConfig
from .verdict import Wrong, attempted, call, describe, exercise, expect_choice, expect_number, expect_tensor

__all__ = ["probe_size", "make_probe", "layer_factors", "moved_body", "merge_lora", "lora"]


@exercise
def probe_size(answer):
    """Numbers that a linear probe learns: width 192, 7 classes."""
    D, K = 192, 7
    expect_number(
        answer,
        D * K + K,
        (
            ("bias forgotten", D * K, "That is the matrix alone; a Linear has a bias too, one number a class."),
            ("a bias for each input", D * K + D, "The bias is added to the logits: one a class, not one an input."),
            ("one logit too few", D * (K - 1) + K - 1, "Each of the 7 classes has a logit of its own, also of two."),
            ("one class", D + 1, "That is one class's share; there are 7."),
        ),
        tolerance=1e-9,
        what="the count",
    )
    return "1,351 numbers, about 190 a class: little enough for few pictures, and too little to learn a new feature."


def small_vit(pool):
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, embed_dim=8, depth=2, num_heads=2, pool=pool)
    return VisionTransformer(config)


@exercise
def make_probe(function):
    """`(model, classes) -> ` the model with a new head that alone is trained, its config in step."""
    for pool, classes in (("cls", ("a", "b")), ("mean", ("x", "y", "z")), ("cls", ("p", "q", "r", "s", "t"))):
        model, images = small_vit(pool), torch.randn(2, 3, 8, 8)
        old_head, body = model.head, {n: p.detach().clone() for n, p in model.named_parameters() if "head" not in n}
        probe = call(function, model, classes)
        if not isinstance(probe, VisionTransformer):
            raise Wrong(f"Expected the model back, found {describe(probe)}.", "not the model")
        parameters = dict(probe.named_parameters())
        head, rest = [p for n, p in parameters.items() if "head" in n], [n for n in parameters if "head" not in n]
        if probe.head is old_head or not head:
            raise Wrong(f"The head is still the old one, with {len(model.config.classes) or 3} outputs.", "old head")
        if not all(torch.equal(parameters[n], body[n]) for n in body):
            raise Wrong("The body's weights have changed; a probe builds on what they are.", "body changed")
        logits = probe(images)
        if logits.shape != (2, len(classes)):
            raise Wrong(f"Expected {len(classes)} logits an image, found {tuple(logits.shape)}.", "wrong shape")
        if not all(p.requires_grad for p in head):
            raise Wrong(
                "The new head is frozen too, so nothing learns. What is made after the freezing is not frozen.",
                "head frozen",
            )
        if learning := [n for n in rest if parameters[n].requires_grad]:
            raise Wrong(f"{len(learning)} of the body's parameters still learn, such as {learning[0]}.", "body trains")
        if (probe.config.num_classes, tuple(probe.config.classes)) != (len(classes), classes):
            raise Wrong(
                f"The head has {len(classes)} outputs, but model.config still says {probe.config.num_classes} classes "
                f"named {probe.config.classes}; a saved file would not load.",
                "config forgotten",
            )
    return "A new head that learns, a body that keeps still, and a config that says so."


@exercise
def layer_factors(function):
    """`(depth, decay) -> (depth + 2,)` factors of the learning rate, from the embedding to the head."""
    for depth, decay in ((4, 0.5), (6, 0.65), (12, 0.75), (1, 0.9)):
        powers = torch.arange(depth + 1, -1, -1.0)
        right = decay**powers
        expect_tensor(
            torch.as_tensor(found) if isinstance(found := call(function, depth, decay), (list, tuple)) else found,
            right,
            (
                ("upside down", right.flip(0), "the head should be fastest, the embedding slowest: turn the order."),
                (
                    "head slowed too",
                    decay * right,
                    "one power too many everywhere: the head, which is new, has factor 1.",
                ),
                ("a straight line", torch.linspace(decay, 1, depth + 2), "that falls by equal steps; take powers."),
                (
                    "embedding forgotten",
                    right[1:],
                    f"{depth} blocks, the head, *and* the embedding: {depth + 2} layers.",
                ),
                ("blocks alone", right[1:-1], f"{depth} blocks, and the embedding below and the head above them."),
                ("one factor for all", torch.full_like(right, decay), "each layer has a power of its own."),
            ),
            tolerance=1e-4,
            what=f"the factors for {depth} blocks",
        )
    return "Each layer a constant factor below the next one: the groups that timm makes, too."


@exercise
def moved_body(answer):
    """What the experiment with the body's rate shows."""
    expect_choice(
        answer,
        "b",
        {
            "a": (
                "no difference seen",
                "Go down the test column: the first two rows differ, and so do the last two.",
            ),
            "c": (
                "frozen taken for best",
                "The frozen body keeps everything, and yet another row scores better on the new pictures.",
            ),
            "d": (
                "faster taken for better",
                "Look at the last row: the fastest body has moved furthest, and scores less than the others.",
            ),
        },
    )
    return "The right rate moves the body as far as the new pictures need, and no further."


@exercise
def merge_lora(function):
    """`(weight, down, up) -> ` one matrix that does what the Linear and its update do together."""
    for D_in, D_out, rank in ((4, 6, 2), (5, 3, 1), (4, 4, 3)):
        weight, down, up = torch.randn(D_out, D_in), torch.randn(rank, D_in), torch.randn(D_out, rank)
        given = weight.clone()
        found = call(function, weight, down, up, copies=False)
        if not torch.equal(weight, given):
            raise Wrong("Your function changed the weight that it was given; return a new matrix.", "changed in place")
        expect_tensor(
            found,
            weight + up @ down,
            (
                ("update alone", up @ down, "that is the update; add it to the weight."),
                ("nothing merged", weight, "that is the old weight; add the update."),
                ("transposed", (weight + up @ down).T, "a Linear keeps its weight as (outputs, inputs)."),
                ("subtracted", weight - up @ down, "the update is added."),
            ),
            what=f"the merged weight, rank {rank}",
        )
    return "One matrix again: after the merge, LoRA costs nothing at run time."


@exercise
def lora(make):
    """`LoRA(linear, rank)`: the frozen Linear plus a trained update of that rank, 0 at the start."""
    for D_in, D_out, rank in ((6, 9, 2), (8, 5, 1), (7, 7, 3)):
        linear, x = nn.Linear(D_in, D_out), torch.randn(40, D_in)
        weight, expected = linear.weight.detach().clone(), linear(x).detach()
        layer = call(make, linear, rank)
        if not isinstance(layer, nn.Module):
            raise Wrong(f"Expected a module, found {describe(layer)}.", "not a module")
        found = attempted(layer(x))
        if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
            raise Wrong(f"Expected outputs {tuple(expected.shape)}, found {describe(found)}.", "wrong shape")
        if not torch.allclose(found, expected, atol=1e-5):
            mistake = "bias lost" if torch.allclose(found + linear.bias, expected, atol=1e-5) else "starts elsewhere"
            why = {
                "bias lost": "Call linear(x), not its weight alone: the bias is missing.",
                "starts elsewhere": "At the start the layer must do what the Linear did: let one of the two be zeros.",
            }
            raise Wrong(why[mistake], mistake)
        learned, counts = [p for p in layer.parameters() if p.requires_grad], rank * (D_in + D_out)
        total = sum(p.numel() for p in learned)
        if any(p is q for p in learned for q in (linear.weight, linear.bias)):
            raise Wrong("The Linear's own weight or bias still learns: freeze it.", "base trains")
        if total != counts:
            named = {0: "no parameters", D_in * D_out: "a full matrix"}.get(total)
            raise Wrong(
                f"Expected rank * (inputs + outputs) = {counts} learned numbers, found {total}; register two "
                "nn.Parameter, (rank, inputs) and (outputs, rank).",
                named or "wrong count",
            )
        found.square().sum().backward()
        if not any(p.grad is not None and p.grad.any() for p in learned):
            raise Wrong(
                "Both matrices are zero, so each one's gradient, a product with the other, is zero for ever. Start one "
                "of them at random.",
                "both zero",
            )
        optimizer = torch.optim.SGD(learned, lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            (layer(x) - expected - 1).square().mean().backward()
            optimizer.step()
        if not torch.equal(linear.weight, weight):
            raise Wrong("The Linear's weight moved in training: freeze it.", "base trains")
        change = layer(torch.eye(D_in)) - linear(torch.eye(D_in))  # (inputs, outputs): the update
        found_rank = int(torch.linalg.matrix_rank(change.detach().double(), atol=5e-6, rtol=1e-3))
        if not 1 <= found_rank <= rank:
            raise Wrong(f"After three steps the update has rank {found_rank}, expected 1 to {rank}.", "wrong rank")
    return "The old Linear, untouched, and beside it a thin update that begins at nothing."
