"""Exercises 9.2, 9.3 and 9.5 to 9.7."""

import copy
import functools
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig

from . import alike, oracle, safely, shaken, state

KINDS = [  # pool, position, all frozen before, classes
    *[("cls", "learned", False, ["zebra", "ant", "bee"]), ("mean", "learned", False, ("m", "z", "a", "b"))],
    *[("cls", "sinusoidal", True, ("one",))],
]
UPDATES = [(5, 3, 1), (3, 5, 2), (4, 4, 4), (1, 1, 1), (2, 6, 8), (7, 1, 3)]  # outputs, inputs, rank
LAYERS = [(1, 6, 4), (2, 3, 7), (3, 5, 4)]  # rank, inputs, outputs


def config_of(pool, position, classes):
    sizes = {"image_size": (4, 8), "patch_size": 2, "embed_dim": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 1.0}
    return ViTConfig(num_classes=len(classes), pool=pool, position=position, classes=tuple(classes), **sizes)


@functools.cache
def pupils():
    """A model, the classes that it shall learn, and a model that is made for them."""
    found = []
    for pool, position, frozen, classes in KINDS:
        model = shaken(VisionTransformer(config_of(pool, position, ("x", "y", "z"))))
        model = model.requires_grad_(False) if frozen else model
        found.append((model, classes, VisionTransformer(config_of(pool, position, classes))))
    return found


def body(model):
    """All that is known of the parts but the head, save what learns."""
    parts, weights = state(model)
    return [x for x in parts if x[0] != "head"], [(name, x[-1]) for name, x in weights if not name.startswith("head")]


@safely
def make_probe(answer):
    for model, classes, other in pupils():
        names, x = copy.copy(classes), torch.randn(3, 3, 4, 8)
        probe = answer(copy.deepcopy(model), names)
        other.load_state_dict(probe.state_dict())
        good = names == classes and body(model) == body(probe) and alike(probe(x), other(x))
        good = good and replace(probe.config, classes=tuple(probe.config.classes)) == other.config
        if not good or len(classes) == 3 and torch.equal(probe.head.weight, model.head.weight):
            return False
        F.cross_entropy(probe(x), torch.arange(3) % len(classes)).backward()
        learning = {name: weight.grad for name, weight in probe.named_parameters() if weight.requires_grad}
        if learning.keys() != {"head.weight", "head.bias"} or not (len(classes) == 1 or learning["head.weight"].any()):
            return False
    return True


def in_a_row(factors):
    if isinstance(factors, torch.Tensor) and factors.ndim != 1:
        return None
    return torch.tensor([float(factor) for factor in factors], dtype=torch.float64)


@oracle(lambda: [(1, 0.5), (2, 0.75), (3, 1.0), (6, 0.7), (9, 0.85), (12, 0.95)], in_a_row)
def layer_factors(depth, decay):
    factors = [1.0]
    for _ in range(depth + 1):
        factors = [factors[0] * decay, *factors]
    return torch.tensor(factors, dtype=torch.float64)


@oracle(lambda: [(torch.rand(steps), decay) for steps, decay in ((1, 0.5), (2, 1.0), (3, 0.0), (5, 0.3), (9, 0.1))])
def weight_left(rates, decay):
    left = 1.0
    for rate in rates.tolist():
        left -= left * rate * decay
    return left


@oracle(lambda: [(torch.randn(o, i), torch.randn(r, i), torch.randn(o, r)) for o, i, r in UPDATES])
def merge_lora(weight, down, up):
    merged = weight.clone()
    for row, update in zip(merged, up, strict=True):
        for share, direction in zip(update, down, strict=True):
            row += share * direction
    return merged


@safely
def lora(answer):
    """Starts as the Linear, for gradients too; learns two thin matrices, one 0 and one of full rank, alone."""
    for rank, inputs, outputs in LAYERS:
        linear, shapes = shaken(nn.Linear(inputs, outputs)), [[rank, inputs], [outputs, rank]]
        base = copy.deepcopy(linear)
        layer = answer(linear, rank)
        learned = [weight for weight in layer.parameters() if weight.requires_grad]
        down, up = (next(w for w in learned if sorted(w.shape) == sorted(shape)) for shape in shapes)
        begun = [weight.detach().clone() for weight in learned if weight.any()]
        if len(learned) != 2 or len(begun) != 1 or torch.linalg.matrix_rank(begun[0]) < rank:
            return False
        for size in ((2, 3, inputs), (5, inputs), (1, 1, inputs)):
            x = torch.randn(size, requires_grad=True)
            other, pull = x.detach().clone().requires_grad_(), torch.randn(*size[:-1], outputs)
            (layer(x) * pull).sum().backward()
            (base(other) * pull).sum().backward()
            if not (alike(layer(x), base(x)) and alike(x.grad, other.grad) and torch.equal(x, other)):
                return False
        if not any(weight.grad is not None and weight.grad.any() for weight in learned):
            return False
        with torch.no_grad():
            for weight in learned:
                weight.copy_(torch.randn_like(weight))
            x, thin, wide = (
                torch.randn(2, 7, inputs),
                *(w if [*w.shape] == size else w.T for w, size in zip((down, up), shapes, strict=True)),
            )
            change, update = layer(x) - base(x), x @ (wide @ thin).T
            scale = (change * update).sum() / update.square().sum()  # some divide by the rank
            if not (scale > 1e-3 and alike(change / scale, update)):
                return False
        if any(
            a.grad is not None or not torch.equal(a, b)
            for a, b in zip(linear.parameters(), base.parameters(), strict=True)
        ):
            return False
    return True
