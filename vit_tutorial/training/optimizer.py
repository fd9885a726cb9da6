"""Which parameters decay, and which optimiser trains which."""

import torch
from torch.optim import AdamW

from .finetune import rate_factors


def param_groups(model, weight_decay):
    """Trained parameters in two groups: matrices, which decay, and the rest, which does not.

    Biases, norms, tokens and positions are not decayed, as in timm and the ViT papers' code.
    """
    decayed, kept = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim in (2, 4)  # 4: the patch embedding's; a token and the positions have 3
            (decayed if matrix else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def scaled_groups(model, recipe):
    """The groups of `param_groups`, divided so that each has one `lr_scale`, from `rate_factors`; without factor 0."""
    factors = rate_factors(model, recipe)
    scales = {parameter: factors[name] for name, parameter in model.named_parameters()}
    return [
        {**group, "params": [p for p in group["params"] if scales[p] == scale], "lr_scale": scale}
        for group in param_groups(model, recipe.weight_decay)
        for scale in dict.fromkeys(scales[p] for p in group["params"])
        if scale
    ]


def make_optimizer(model, recipe, bf16=False):
    """AdamW for all parameters, or, with `recipe.muon_learning_rate`, Muon for the matrices of the encoder blocks.

    Muon computes its products in bfloat16 where `bf16` says so.
    Learning rates are the recipe's times the parameter's factor in `finetune.rate_factors`.
    """
    groups = scaled_groups(model, recipe)
    in_blocks = {p for name, p in model.named_parameters() if ".blocks." in f".{name}" and p.ndim == 2}
    matrices = in_blocks if recipe.muon_learning_rate else set()

    def at_rate(rate, wanted):
        parts = [{**group, "params": [p for p in group["params"] if wanted(p)]} for group in groups]
        return [{**part, "lr": rate * part["lr_scale"]} for part in parts if part["params"]]

    muon = at_rate(recipe.muon_learning_rate, lambda p: p in matrices)
    rest = at_rate(recipe.learning_rate, lambda p: p not in matrices)
    if not muon:
        return AdamW(rest, betas=(0.9, 0.98))
    return MuonAndAdamW(Muon(muon, bf16), AdamW(rest, betas=(0.9, 0.95)))


class Muon(torch.optim.Muon):
    """torch's, whose products are always in bfloat16: without units for that they take more than half of a training.

    Here they are in float32, unless `bf16` says otherwise.
    """

    def __init__(self, groups, bf16=False):
        super().__init__(groups)
        self.product_dtype = torch.bfloat16 if bf16 else torch.float32

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
                momentum = self.state[p]["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                direction = orthogonal(p.grad.lerp(momentum, group["momentum"]), self.product_dtype)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(direction, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix, dtype, steps=5):
    """About U V^T, where the matrix is U S V^T (SVD): Newton-Schulz iterations (Jordan et al. 2024), in `dtype`."""
    x = matrix.to(dtype, copy=True)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x.div_(x.norm().clamp(min=1e-7))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if tall else x


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimisers that step as one; each keeps its own state.

    Muon (Jordan et al. 2024) makes every step of a matrix orthogonal, so that no direction in it is left behind;
    vectors and embeddings stay with AdamW (Loshchilov & Hutter 2019).
    """

    def __init__(self, muon, adamw):
        self.optimizers = (muon, adamw)
        self.param_groups = muon.param_groups + adamw.param_groups  # the very dicts: one learning rate for both

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()
