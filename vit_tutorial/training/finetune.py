"""Fine-tuning: a trained model learns new classes, each of its parts at a learning rate of its own."""

from dataclasses import replace

from torch import nn


def new_head(model, classes):
    """Give `model` a head for `classes`, a sequence of names, in place; all other weights stay.

    The new head is zero, so that it begins with equal logits and the first step leaves the body as it is
    (Dosovitskiy et al. 2021, 3.2). Returns the model. Raises `ValueError` where there is no class.
    """
    config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
    model.head = nn.Linear(config.embed_dim, config.num_classes).to(model.norm.weight)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model.config = config
    return model


def without_head(model):
    """Take the head off `model`, in place: its answers are then the features `(B, D)` that a head would read.

    Returns the model. `new_head` gives it one again.
    """
    model.head = nn.Identity()
    model.config = replace(model.config, num_classes=model.config.embed_dim, classes=())
    return model


def layer_number(name, depth):
    """Which layer a parameter belongs to: the embedding is 0, the blocks 1 to L (the norm with L), the head L + 1."""
    part, *rest = name.split(".")
    return int(rest[0]) + 1 if part == "blocks" else {"norm": depth, "head": depth + 1}.get(part, 0)


def rate_factors(model, recipe):
    """`{name: factor}` of the learning rate for each parameter of `model`; 0 where it is frozen.

    The head has 1, also that of a `SegmentationViT`, whose other parts are called as in its ViT. All else, the body,
    has `recipe.body_rate`, times `recipe.layer_decay` once for each layer from the head down: BEiT's rule (Bao et al.
    2022), with the layers of timm's `param_groups_layer_decay`. Raises `ValueError`
    where `recipe.frozen` names nothing in the model.
    """
    parts = {name: name.removeprefix("vit.") for name, _ in model.named_parameters()}
    depth = len(getattr(getattr(model, "vit", model), "blocks", ()))  # notebook 08 trains a network without blocks
    for part in recipe.frozen:
        if not any(f"{name}.".startswith(f"{part}.") for name in parts.values()):
            raise ValueError(f"expected frozen parts such as 'patch_embed' or 'blocks.0', found {part!r}")
    factors = {}
    for full_name, name in parts.items():
        number = depth if name.startswith("attn_pool.") else layer_number(name, depth)  # behind the blocks, as the norm
        below = depth + 1 - number  # layers between this one and the head's output
        frozen = any(f"{name}.".startswith(f"{part}.") for part in recipe.frozen)
        factors[full_name] = 0.0 if frozen else (recipe.body_rate if below else 1.0) * recipe.layer_decay**below
    return factors


def freeze(model, recipe):
    """Let the parameters with factor 0 keep their values, and spare their gradients; returns all factors.

    They stay frozen after the run: `model.requires_grad_(True)` thaws them.
    """
    factors = rate_factors(model, recipe)
    for name, parameter in model.named_parameters():
        if not factors[name]:
            parameter.requires_grad_(False)
    return factors
