"""Notebook 09's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import copy
from dataclasses import replace

import torch
from torch import nn

from vit_tutorial import training


def probe(freeze="body", config=True, head=True, scale=1.0):
    def make_probe(model, classes):
        if freeze == "first":
            model.requires_grad_(False)
        if head:
            model.head = nn.Linear(model.config.embed_dim, len(classes))
        if config:
            model.config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
        for name, parameter in model.named_parameters():
            if freeze == "all" or (freeze == "body" and not name.startswith("head")):
                parameter.requires_grad = False
            if scale != 1.0 and name.startswith("blocks"):
                parameter.data *= scale
        return model

    return make_probe


def probe_by_package(model, classes):
    model.requires_grad_(False)
    return training.new_head(model, classes)


def probe_of_a_copy(model, classes):
    model = training.new_head(copy.deepcopy(model), classes)
    model.requires_grad_(False).head.requires_grad_(True)
    return model


def factors_by_loop(depth, decay):
    factors = [1.0]
    while len(factors) < depth + 2:
        factors.insert(0, factors[0] * decay)
    return torch.tensor(factors)


class Lora(nn.Module):
    """The one that the notebook's solution writes."""

    def __init__(self, linear, rank, down=1.0, up=0.0, train=False, with_bias=True):
        super().__init__()
        self.linear, self.with_bias = linear.requires_grad_(train), with_bias
        self.down = nn.Parameter(down * torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(up * torch.randn(linear.out_features, rank))

    def forward(self, x):
        old = self.linear(x) if self.with_bias else x @ self.linear.weight.T
        return old + x @ self.down.T @ self.up.T


class LoraOfLinears(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.base = linear
        for p in linear.parameters():
            p.requires_grad = False
        self.a = nn.Linear(linear.in_features, rank, bias=False)
        self.b = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + 2 * self.b(self.a(x))


class FullUpdate(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear, self.update = linear.requires_grad_(False), nn.Parameter(torch.zeros_like(linear.weight))

    def forward(self, x):
        return self.linear(x) + x @ self.update.T


class Unregistered(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = torch.randn(rank, linear.in_features)
        self.up = torch.zeros(linear.out_features, rank)

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T


def make(**options):
    return lambda linear, rank: Lora(linear, rank, **options)


RIGHT = [
    ("probe_size", 1351),
    ("probe_size", torch.tensor(192 * 7 + 7)),
    ("probe_size", sum(p.numel() for p in nn.Linear(192, 7).parameters())),
    ("make_probe", probe()),
    ("make_probe", probe_by_package),
    ("make_probe", probe_of_a_copy),
    ("layer_factors", lambda depth, decay: decay ** torch.arange(depth + 1, -1, -1)),
    ("layer_factors", factors_by_loop),
    ("layer_factors", lambda depth, decay: [decay ** (depth + 1 - i) for i in range(depth + 2)]),
    ("moved_body", "b"),
    ("moved_body", " B "),
    ("moved_body", "(b)"),
    ("merge_lora", lambda weight, down, up: weight + up @ down),
    ("merge_lora", lambda weight, down, up: torch.addmm(weight, up, down)),
    ("merge_lora", lambda weight, down, up: weight + torch.einsum("or,ri->oi", up, down)),
    ("lora", make()),
    ("lora", make(down=0.0, up=1.0)),
    ("lora", LoraOfLinears),
]

WRONG = [
    ("probe_size", 1344, "bias forgotten"),
    ("probe_size", 192 * 7 + 192, "a bias for each input"),
    ("probe_size", 192 * 6 + 6, "one logit too few"),
    ("probe_size", 193, "one class"),
    ("probe_size", "many", "not a number"),
    ("make_probe", probe(freeze="all"), "head frozen"),
    ("make_probe", probe(freeze="none"), "body trains"),
    ("make_probe", probe(config=False), "config forgotten"),
    ("make_probe", probe(head=False), "old head"),
    ("make_probe", probe(scale=0.5), "body changed"),
    ("make_probe", lambda model, classes: probe()(model, classes).head, "not the model"),
    ("make_probe", lambda model, classes: probe()(model, (*classes, "other")), "wrong shape"),
    ("layer_factors", lambda L, d: d ** torch.arange(L + 2.0), "upside down"),
    ("layer_factors", lambda L, d: d ** torch.arange(L + 2, 0, -1.0), "head slowed too"),
    ("layer_factors", lambda L, d: torch.linspace(d, 1, L + 2), "a straight line"),
    ("layer_factors", lambda L, d: d ** torch.arange(L, -1, -1.0), "embedding forgotten"),
    ("layer_factors", lambda L, d: d ** torch.arange(L, 0, -1.0), "blocks alone"),
    ("layer_factors", lambda L, d: torch.full((L + 2,), d), "one factor for all"),
    ("moved_body", "a", "no difference seen"),
    ("moved_body", "c", "frozen taken for best"),
    ("moved_body", "d", "faster taken for better"),
    ("moved_body", "z", "not a choice"),
    ("merge_lora", lambda weight, down, up: up @ down, "update alone"),
    ("merge_lora", lambda weight, down, up: weight, "nothing merged"),
    ("merge_lora", lambda weight, down, up: (weight + up @ down).T, "transposed"),
    ("merge_lora", lambda weight, down, up: weight - up @ down, "subtracted"),
    ("merge_lora", lambda weight, down, up: weight.add_(up @ down), "changed in place"),
    ("lora", make(up=1.0), "starts elsewhere"),
    ("lora", make(down=0.0), "both zero"),
    ("lora", make(train=True), "base trains"),
    ("lora", make(with_bias=False), "bias lost"),
    ("lora", lambda linear, rank: Lora(linear, rank + 1), "wrong count"),
    ("lora", FullUpdate, "a full matrix"),
    ("lora", Unregistered, "no parameters"),
    ("lora", lambda linear, rank: linear, "base trains"),
    ("lora", lambda linear, rank: 3, "not a module"),
    ("lora", lambda linear, rank: nn.Flatten(), "wrong shape"),
]
