"""Which parameters decay, and which optimiser moves which."""

import torch
from torch.optim import AdamW

from .finetune import freeze


def param_groups(model, weight_decay):
    """Trained parameters in two groups: matrices, which decay, and the rest, which does not.

    Biases, norms, the class token and the positions are not decayed, as in timm and the ViT papers' code.
    """
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and name not in ("cls_token", "pos_embed")
            (decayed if matrix else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def scaled_groups(model, recipe):
    """The groups of `param_groups` without what is frozen, divided so that each has one `lr_scale`, from `freeze`."""
    factors = freeze(model, recipe)
    scales = {parameter: factors[name] for name, parameter in model.named_parameters()}
    return [
        {**group, "params": [p for p in group["params"] if scales[p] == scale], "lr_scale": scale}
        for group in param_groups(model, recipe.weight_decay)
        for scale in dict.fromkeys(scales[p] for p in group["params"])
    ]


def make_optimizer(model, recipe):
    """AdamW for all parameters, or, with `recipe.muon_learning_rate`, Muon for the matrices of the encoder blocks.

    Learning rates are the recipe's times the parameter's factor in `finetune.rate_factors`. Freezes what has factor 0.
    """
    groups = scaled_groups(model, recipe)
    in_blocks = {p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    matrices = in_blocks if recipe.muon_learning_rate else set()

    def at_rate(rate, wanted):
        parts = [{**group, "params": [p for p in group["params"] if wanted(p)]} for group in groups]
        return [{**part, "lr": rate * part["lr_scale"]} for part in parts if part["params"]]

    muon = at_rate(recipe.muon_learning_rate, lambda p: p in matrices)
    rest = at_rate(recipe.learning_rate, lambda p: p not in matrices)
    if not muon:
        return AdamW(rest, betas=(0.9, 0.98))
    return Together(torch.optim.Muon(muon), AdamW(rest, betas=(0.9, 0.95)))


class Together:
    """Two optimisers that step as one.

    Muon (Jordan et al. 2024) makes every step of a matrix orthogonal, so that no direction in it is left behind;
    vectors and embeddings stay with AdamW (Loshchilov & Hutter 2019).
    """

    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()
