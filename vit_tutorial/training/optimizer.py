"""Which parameters decay, and which optimiser moves which."""

import torch
from torch.optim import AdamW


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


def make_optimizer(model, recipe):
    """AdamW for all parameters, or, with `recipe.muon_learning_rate`, Muon for the matrices of the encoder blocks."""
    groups = param_groups(model, recipe.weight_decay)
    if not recipe.muon_learning_rate:
        return AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    in_blocks = {id(p) for p in matrices}
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in in_blocks]
    muon = torch.optim.Muon(matrices, lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay)
    return Together(muon, AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95)))


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
