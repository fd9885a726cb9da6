"""Checks of notebook 09: a linear probe, rates for each layer, weight decay, LoRA."""

import copy
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..model import VisionTransformer, ViTConfig
from .facts import agree
from .reference import chosen, stated, whole, written
from .verdict import Wrong, attempted, call, describe, exercise, observed

__all__ = ["probe_size", "make_probe", "layer_factors", "moved_body", "weight_left", "merge_lora", "lora"]


@stated(
    "1,351 numbers, about 190 per class: little enough for few pictures, and too little to learn a new feature.",
    "Expected the numbers of a Linear from 192 features to 7 classes: its matrix and its bias.",
)
def probe_size(wrong):
    """Numbers that a linear probe learns: width 192, 7 classes."""
    D, K = 192, 7
    return wrong.choose(
        D * K + K,
        ("bias forgotten", "That is the matrix alone; a Linear has a bias too, one number per class.", D * K),
        ("a bias for each input", "The bias is added to the logits: one per class, not one per input.", D * K + D),
        ("one logit too few", "Each of the 7 classes has a logit of its own.", (D + 1) * (K - 1)),
        ("one class", "That is one class's share; there are 7.", D + 1),
        ("added", "Each of the 7 classes has a weight for each of the 192 features: multiply.", D + K),
        ("one bias for all", "Each class has a bias of its own.", D * K + 1),
    )


def models_and_classes():
    for pool, old, classes in (
        ("cls", ("cat", "ant", "dog"), ("wasp", "bee")),
        ("mean", (), ("z", "x", "y")),
        ("cls", (), ("q", "s", "p", "t", "r")),
        ("mean", ("cat", "ant", "dog"), ("owl", "kite", "hawk")),
    ):
        config = ViTConfig(8, 4, num_classes=3, embed_dim=8, depth=2, num_heads=2, pool=pool, classes=old)
        model = VisionTransformer(config)
        nn.init.normal_(model.head.bias)
        yield model, classes


def refuse(seed, *faults):
    """Raise `Wrong` with the names of all `(whether, name, sentence)` that are true."""
    seeds = "Your code seeds torch's generator, and whoever calls it draws the same numbers ever after."
    found = {name: why for true, name, why in (*faults, (torch.initial_seed() != seed, "seeded", seeds)) if true}
    if found:
        raise Wrong(" ".join(found.values()), " + ".join(found))


@exercise
def make_probe(function):
    """A function of a model and class names that gives it a new head, which alone learns; the config says so."""
    for model, classes in models_and_classes():
        before, seed = {name: p.detach().clone() for name, p in model.named_parameters()}, torch.initial_seed()
        given = model.config
        probe = call(function, model, classes)
        if not isinstance(probe, VisionTransformer):
            raise Wrong(f"Expected the model back, found {describe(probe)}.", "not the model")
        now, config, outputs = dict(probe.named_parameters()), probe.config, probe(torch.zeros(2, 3, 8, 8)).shape[1]
        kept = {name for name, p in before.items() if name in now and torch.equal(now[name], p)}
        learning = {name for name, p in now.items() if p.requires_grad}
        head, body = ({name for name in now if name.startswith("head") is which} for which in (True, False))
        told, old = (config.num_classes, (*config.classes,)) == (len(classes), classes), head & kept
        mixed, says = sorted(config.classes) == sorted(classes), f"{config.num_classes} classes, {config.classes}"
        awake, same = body & learning, {"num_classes": 1, "classes": ()}
        other = replace(config, **same) != replace(given, **same)
        loads = set(now) == set(before)  # a plain Linear in the head's place
        refuse(
            seed,
            (old, "old head", "The head is still the old one: put a new Linear in its place."),
            (not old and outputs != len(classes), "wrong shape", f"Expected {len(classes)} logits, found {outputs}."),
            (body - kept, "body changed", "The body's weights have changed; a probe builds on what they are."),
            (not old and head - learning, "head frozen", "The new head is frozen too: freeze first, then make it."),
            (awake, "body trains", f"{len(awake)} of the body's parameters still learn: freeze them."),
            (mixed and not told, "another order", f"The classes are {classes}; model.config says {config.classes}."),
            (not mixed and not told, "config forgotten", f"The classes are {classes}; model.config still says {says}."),
            (other, "config changed", "The config says something else than before, besides the classes: use replace."),
            (probe.training is False, "mode changed", "The model is no longer in the mode that it came in, train()."),
            (told and not loads, "does not load", "A saved file would not load: the head is one Linear with a bias."),
        )
    return "A new head that learns, a body that keeps still, and a config that says so."


def probed(function):
    """Of each model with its new head: what the config says, the logits of a black image, what learns, all weights."""
    found = []
    for model, classes in list(models_and_classes()):
        probe = function(model, classes)
        weights, told = dict(probe.named_parameters()), (probe.config.num_classes, tuple(probe.config.classes))
        found.append((told, probe(torch.zeros(2, 3, 8, 8)), [n for n in weights if weights[n].requires_grad], weights))
    return found


def as_probed(given):
    """The praise, or `Wrong`, for what `probed` has found elsewhere."""
    for (model, classes), (told, logits, learning, weights) in zip(list(models_and_classes()), given, strict=True):
        old = model.head.weight.detach().clone()
        model.head = nn.Linear(8, len(classes))
        body = [(weights.get(name), p) for name, p in model.named_parameters() if not name.startswith("head")]
        if not all(agree(*pair) for pair in body) or {*learning} != {"head.weight", "head.bias"}:
            raise Wrong("The body is no longer what it was, or learns.", "body changed")
        model.load_state_dict(dict(model.state_dict()) | weights)
        if agree(weights["head.weight"], old) or not agree(logits, model(torch.zeros(2, 3, 8, 8))):
            raise Wrong("The logits are not those of a new head.", "old head")
        if told != (len(classes), classes):
            raise Wrong(f"The classes are {classes}; the config says {told}.", "config forgotten")
    return "A new head that learns, a body that keeps still, and a config that says so."


observed(make_probe, probed, as_probed)


def as_tensor(function, *inputs):
    """What the function returns: a tensor, or what can be made one."""
    found = call(function, *inputs)
    with suppress(Exception):
        found = found if isinstance(found, torch.Tensor) else torch.as_tensor(np.array([*found], dtype=float))
    return found


@written(
    "Each layer a constant factor below the next one: the groups that timm makes, too.",
    lambda: [(2, 0.5), (6, 0.65), (12, 0.75), (1, 0.9)],
    use=as_tensor,
    tolerance=1e-5,
)
def layer_factors(wrong, depth, decay):
    """A function of depth and decay: the rate's factors `(depth + 2,)`, from the embedding to the head."""
    slowed = "There is one power too many everywhere: the head, which is new, has factor 1."
    powers = torch.arange(depth + 1, -1, -1.0) + wrong("head slowed too", slowed)
    base = wrong.choose(
        decay,
        ("decay taken off", "decay is what is left at each layer, not what is taken off.", 1 - decay),
        ("divided by decay", "These grow away from the head: multiply by decay, do not divide.", 1 / decay),
    )
    lines = [base * powers, 1 - (1 - base) * powers]
    lines += [torch.linspace(low, 1, depth + 2) for low in (base, base ** (depth + 1))]
    factors = wrong.choose(
        base**powers,
        *(("a straight line", "These fall by equal steps; take powers.", line) for line in lines),
        ("one factor for all", "Each layer has a power of its own.", torch.full((depth + 2,), decay)),
        ("one factor for the body", "Each layer of the body has a power of its own.", decay ** powers.clamp(max=1)),
    )
    if wrong("upside down", "The head should be fastest, the embedding slowest: turn the order."):
        factors = factors.flip(0)
    first = int(
        wrong("embedding forgotten", "The embedding, below the blocks, has a factor too: depth + 2 layers in all.")
    )
    return factors[first : len(factors) - wrong("head forgotten", "The head, above the blocks, has a factor too, 1.")]


@chosen("b", "The right rate moves the body as far as the new pictures need, and no further.")
def moved_body():
    """What the experiment with the body's rate shows, as a letter."""
    a = "Go down the test column: the first two rows differ, and so do the last two."
    c = "The frozen body keeps everything, and yet another row scores better on the new pictures."
    d = "Look at the last row: the fastest body has moved furthest, and scores less than the others."
    return {"a": ("no difference seen", a), "c": ("frozen taken for best", c), "d": ("faster taken for better", d)}


def runs_of_steps():
    for rates, decay in (
        ([0.5, 0.2], 1.0),
        ([0.1, 0.2, 0.3], 2.0),
        ([0.4], 0.5),
        ([0.3, 0.0, 0.1, 0.25], 1.5),
        ([0.25, 0.25], 0.0),
    ):
        yield torch.tensor(rates), decay
    yield 0.2 + 0.2 * torch.rand(7), 0.8


@written("One factor for each step, multiplied: after few steps at small rates nearly all is left.", runs_of_steps)
def weight_left(wrong, rates, decay):
    """A function of rates `(steps,)` and weight decay: the share of a weight that is left after all steps."""
    steps, own = len(rates), "Each step has a rate of its own: one factor 1 - rate * decay for each, multiplied."
    lost = rates * decay
    multiplied = "Each step takes its share of what the step before has left: multiply the factors 1 - rate * decay."
    without = "That multiplies what each step takes; multiply what it leaves, 1 - rate * decay."
    factor = "A step multiplies the weight by 1 - rate * decay: rate and decay together."
    share = wrong.choose(
        (1 - lost).prod(),
        ("added up", multiplied, 1 - lost.sum()),
        *(("one rate for all", own, (1 - decay * rate) ** steps) for rate in (rates[0], rates[-1], rates.mean())),
        *(("one step alone", "That is what a single step leaves; there are more.", 1 - lost[i]) for i in (0, -1)),
        ("rate forgotten", factor, torch.tensor(1.0 - decay) ** steps),
        ("decay forgotten", factor, (1 - rates).prod()),
        ("grows", "A weight shrinks: the sign before rate * decay is minus.", (1 + lost).prod()),
        ("without 1 -", without, lost.prod()),
        ("mean of the steps", multiplied, 1 - lost.mean()),
        ("exponential", "exp is close to this where the steps are small; these are not.", (-lost).exp().prod()),
    )
    if wrong("one factor for each step", "The factors are right; multiply them, for one number."):
        share = (1 - lost).cumprod(dim=0) if wrong("not the last", "", 1) else 1 - lost
    if wrong("what is lost", "That is the share that is lost; what is left is 1 minus it."):
        share = 1 - share
    return share if share.ndim else share.item()


def updates():
    yield whole(2, 2), whole(1, 2), whole(2, 1)
    for D_in, D_out, rank in ((2, 3, 1), (4, 6, 2), (5, 3, 1), (4, 4, 3), (3, 3, 3), (1, 4, 2)):
        yield torch.randn(D_out, D_in), torch.randn(rank, D_in), torch.randn(D_out, rank)


@written("One matrix again: after the merge, LoRA costs nothing at run time.", updates)
def merge_lora(wrong, weight, down, up):
    """A function of weight, down and up: the one matrix that does what the Linear and its update do together."""
    turned = "down.T @ up.T is turned round, (inputs, outputs); a Linear keeps its weight as (outputs, inputs)."
    order = "up stands first: (outputs, rank) @ (rank, inputs) has the shape of the weight."
    product = "Rows by columns: up @ down is a matrix product, and * multiplies number by number."
    ranked = "The layer adds its update as it is, not divided by the rank."
    make = wrong.choose(
        lambda: up @ down,
        ("update transposed", turned, lambda: down.T @ up.T),
        ("wrong order", order, lambda: down @ up),
        ("not a matrix product", product, lambda: up * down),
        ("nothing merged", "That is the old weight; add the update.", lambda: 0 * weight),
        ("subtracted", "The update is added.", lambda: -up @ down),
        ("divided by the rank", ranked, lambda: up @ down / len(down)),
    )
    update = make()
    merged = update if wrong("update alone", "That is the update; add it to the weight.") else weight + update
    times = (lambda a, b: a * b), torch.matmul, (lambda a, b: a @ b.T)
    for place, product in enumerate(times):
        if wrong("multiplied", "The update is added to the weight; you multiply by it.", place):
            merged = product(weight, update)
    turned = "A Linear keeps its weight as (outputs, inputs); this is turned round."
    return merged.T if wrong("transposed", turned) else merged


@exercise
def lora(make):
    """A class `LoRA(linear, rank)`: the frozen Linear plus a learned update of that rank, 0 at the start."""
    for D_in, D_out, rank in ((6, 9, 2), (8, 5, 1), (7, 4, 3)):
        linear, x, seed = nn.Linear(D_in, D_out), torch.randn(3, 5, D_in, requires_grad=True), torch.initial_seed()
        base, count, sizes = copy.deepcopy(linear), rank * (D_in + D_out), ([rank, D_in], [D_out, rank])
        layer, right = call(make, linear, rank), base(x).detach()
        if not isinstance(layer, nn.Module):
            raise Wrong(f"Expected a module, found {describe(layer)}.", "not a module")
        first = attempted(layer(x))
        if not isinstance(first, torch.Tensor) or first.shape != right.shape:
            raise Wrong(f"Expected outputs of shape {tuple(right.shape)}, found {describe(first)}.", "wrong shape")
        first = first.float()
        starts = {"": right, "bias lost": right - base.bias.detach(), "update alone": 0 * right}
        start = [name for name, value in starts.items() if torch.allclose(first, value, atol=1e-5)] or ["elsewhere"]
        learned = [p for p in layer.parameters() if p.requires_grad]
        added = [p for p in learned if not any(torch.equal(p, old) for old in base.parameters())]
        parts = [p if [*p.shape] == size else p.T for size in sizes for p in added if sorted(p.shape) == sorted(size)]
        total, two = sum(p.numel() for p in added), len(parts) == len(added) == 2
        begun = [p.detach().clone() for p in parts if p.any()]
        alike = bool(begun) and min(int(torch.linalg.matrix_rank(p)) for p in begun) < rank
        gradients = lambda: [bool(p.grad is not None and p.grad.any()) for p in added]  # noqa: B023, E731
        if first.requires_grad:
            first.sum().backward()
        through = base.weight.sum(dim=0).expand_as(x)
        moves, passes = any(gradients()), x.grad is not None and torch.allclose(x.grad, through, atol=1e-5)
        with torch.no_grad():
            for p in added:
                p.normal_()  # as if trained for long
        layer.eval().zero_grad()
        out = layer(x).float()
        if out.requires_grad:
            out.sum().backward()
        moves = moves and all(gradients())
        change = out.detach() - starts.get(start[0], right)
        update = (x @ (parts[1] @ parts[0]).T).detach() if two else change
        scale = (change * update).sum() / update.square().sum()  # some divide by the rank
        fits = torch.allclose(change, scale * update, atol=1e-3 * change.abs().max().item()) and scale > 1e-3
        name = {
            0: "no parameters",
            D_in * D_out: "a full matrix",
            rank * D_out: "down frozen",
            rank * D_in: "up frozen",
            **dict.fromkeys((count + rank, count + D_out, count + rank + D_out), "a bias in the update"),
        }.get(total, "wrong count")
        begins = "At the start the layer must do what the Linear did: let one of the two be zeros."
        numbers = f"Expected {count} numbers that learn, in two nn.Parameter, (rank, inputs) and (outputs, rank)"
        never = "Both are zero, so each one's gradient, a product with the other, is 0 for ever. Start one at random."
        same = "Where all rows begin alike they stay alike, and the update has rank 1: start them at random."
        stopped = "No gradient reaches one of the two: use both as they are, without .data, detach or no_grad."
        product = "Beside linear(x), the layer adds x @ down.T @ up.T, and nothing else: no bend, and no minus."
        ended = "No gradient passes through the layer to x, and the layers below would not learn: no detach or no_grad."
        refuse(
            seed,
            (start[0] == "bias lost", "bias lost", "Call linear(x), not its weight alone: the bias is missing."),
            (
                start[0] == "update alone",
                "update alone",
                "The update is added to what the Linear gives: linear(x) + ...",
            ),
            (start[0] == "elsewhere", "starts elsewhere", begins),
            (len(learned) > len(added), "base trains", "The Linear's own weight or bias still learns: freeze it."),
            (not two, name, f"{numbers}, found {total}."),
            (two and not begun, "both zero", never),
            (alike, "not random", same),
            (two and begun and not moves, "no gradient", stopped),
            (two and not fits, "another update", product),
            (not start[0] and not passes, "gradient stopped", ended),
        )
    return "The old Linear, untouched, and beside it a thin update that begins at nothing."


def linears():
    return [(nn.Linear(*sizes), torch.randn(3, 5, sizes[0]), rank) for sizes, rank in (((6, 9), 2), ((7, 4), 3))]


def grown(make):
    """Of each LoRA layer: what it gives at first, what learns, with random numbers, and what it gives then."""
    found = []
    for linear, x, rank in linears():
        layer = make(linear, rank).eval()
        first, learned = layer(x), [p.data.normal_() for p in layer.parameters() if p.requires_grad]
        found.append((first, learned, layer(x)))
    return found


def as_grown(given):
    """The praise, or `Wrong`, for what `grown` has found elsewhere."""
    for (linear, x, rank), (first, learned, then) in zip(linears(), given, strict=True):
        base, sizes = linear(x), [(rank, linear.in_features), (linear.out_features, rank)]
        down, up = (next((m for p in learned for m in (p, p.T) if m.shape == size), None) for size in sizes)
        if not agree(first, base) or len(learned) != 2 or down is None or up is None:
            raise Wrong("At the start this is not the Linear, with two matrices that learn.", "starts elsewhere")
        change, update = then - base, x @ (up @ down).T
        scale = (change * update).sum() / update.square().sum()  # some divide by the rank
        if not scale > 1e-3 or not agree(change, scale * update, 1e-3):
            raise Wrong("Beside linear(x), the layer adds something else than x @ down.T @ up.T.", "another update")
    return "The old Linear, untouched, and beside it a thin update that begins at nothing."


observed(lora, grown, as_grown)
