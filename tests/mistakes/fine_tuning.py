"""Wrong answers to the exercises of notebook 09, as learners write them, with the mistakes that must be named."""

from dataclasses import replace

import torch
from torch import nn

from vit_tutorial import training


def broken_probe(model, classes):
    model.head = nn.Linear(model.config.embed_dim, len(classes))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def probe(freeze="body", config=True, head=True, scale=1.0, names=tuple, bias=True):
    """`make_probe`, right with the defaults, wrong with another."""

    def make_probe(model, classes):
        if head:
            model.head = nn.Linear(model.config.embed_dim, len(classes), bias=bias)
        if config:
            model.config = replace(model.config, num_classes=len(classes), classes=tuple(names(classes)))
        for name, parameter in model.named_parameters():
            if freeze == "all" or (freeze == "body" and not name.startswith("head")):
                parameter.requires_grad = False
            if freeze == "blocks" and name.startswith("blocks"):
                parameter.requires_grad = False
            if scale != 1.0 and name.startswith("blocks"):
                parameter.data *= scale
        return model

    return make_probe


def probe_of_old_size(model, classes):
    model.requires_grad_(False)
    model.head = nn.Linear(model.config.embed_dim, model.config.num_classes)
    return model


def seeded(model, classes):
    torch.manual_seed(42)
    return training.new_head(model.requires_grad_(False), classes)


def halves(depth, decay):
    return [decay * layer for layer in range(1, depth + 3)]


def counted_from_one(depth, decay):
    return [decay**layer for layer in range(1, depth + 3)]


class Lora(nn.Module):
    """Right with the defaults, wrong with another."""

    def __init__(self, linear, rank, down=1.0, up=0.0, train=False, bend=None, data=False, bias=True, frozen=()):
        super().__init__()
        self.linear, self.bend, self.data, self.bias = linear.requires_grad_(train), bend, data, bias
        self.down = nn.Parameter(down * torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(up * torch.randn(linear.out_features, rank))
        for name in frozen:
            getattr(self, name).requires_grad_(False)

    def forward(self, x):
        old = self.linear(x) if self.bias else x @ self.linear.weight.T
        thin = x @ (self.down.data if self.data else self.down).T
        return old + (self.bend(thin) if self.bend else thin) @ self.up.T


class LoraOfLinears(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down, self.up = nn.Linear(linear.in_features, rank), nn.Linear(rank, linear.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))


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


class UpdateAlone(Lora):
    def forward(self, x):
        return x @ self.down.T @ self.up.T


class OneRow(Lora):
    def forward(self, x):
        return self.linear(x) + x @ self.down.sum(dim=0)[:, None] @ self.up.sum(dim=1)[None]


class NoGradient(Lora):
    def forward(self, x):
        with torch.no_grad():
            old = self.linear(x)
        return old + x @ self.down.T @ self.up.T


class AllAlike(Lora):
    def __init__(self, linear, rank):
        super().__init__(linear, rank)
        nn.init.ones_(self.down)


def make(**options):
    return lambda linear, rank: Lora(linear, rank, **options)


WRONG = [
    ("probe_size", 1344, "bias forgotten"),
    ("probe_size", "1536", "a bias for each input"),
    ("probe_size", [193 * 6], "one logit too few"),
    ("probe_size", "many", "not a number"),
    ("make_probe", broken_probe, "head frozen + config forgotten"),
    ("make_probe", probe(freeze="all"), "head frozen"),
    ("make_probe", probe(freeze="none"), "body trains"),
    ("make_probe", probe(freeze="blocks"), "body trains"),
    ("make_probe", probe(config=False), "config forgotten"),
    ("make_probe", probe(names=sorted), "another order"),
    ("make_probe", probe(bias=False), "does not load"),
    ("make_probe", probe(head=False), "old head"),
    ("make_probe", probe(scale=0.5, freeze="none"), "body changed + body trains"),
    ("make_probe", probe_of_old_size, "wrong shape + config forgotten"),
    ("make_probe", training.new_head, "body trains"),
    ("make_probe", seeded, "seeded"),
    ("make_probe", lambda model, classes: probe()(model, classes).eval(), "mode changed"),
    ("make_probe", lambda model, classes: probe()(model, classes).head, "not the model"),
    ("make_probe", lambda model, classes: probe()(model, (*classes, "other")), "wrong shape + config forgotten"),
    ("layer_factors", lambda L, d: d ** torch.arange(L + 2.0), "upside down"),
    ("layer_factors", halves, None),
    ("layer_factors", counted_from_one, "head slowed too + upside down"),
    ("layer_factors", lambda L, d: d ** torch.arange(L, -1, -1.0), "embedding forgotten"),
    ("layer_factors", lambda L, d: d ** torch.arange(L, 0, -1.0), "embedding forgotten + head forgotten"),
    ("layer_factors", lambda L, d: (1 - d) ** torch.arange(L + 2.0), "decay taken off + upside down"),
    ("layer_factors", lambda L, d: torch.full((L + 2,), d), "one factor for all"),
    ("moved_body", "a", "no difference seen"),
    ("moved_body", "c", "frozen taken for best"),
    ("moved_body", "d", "faster taken for better"),
    ("moved_body", "z", "not a choice"),
    ("weight_left", lambda rates, decay: 1 - decay * rates.sum(), "added up"),
    ("weight_left", lambda rates, decay: (1 - decay * rates[0]) ** len(rates), "one rate for all"),
    ("weight_left", lambda rates, decay: (1 - decay * rates.mean()) ** len(rates), "one rate for all"),
    ("weight_left", lambda rates, decay: 1 - decay * rates[-1], "one step alone"),
    ("weight_left", lambda rates, decay: (1 - decay) ** len(rates), "rate forgotten"),
    ("weight_left", lambda rates, decay: (1 - rates).prod(), "decay forgotten"),
    ("weight_left", lambda rates, decay: (1 + decay * rates).prod(), "grows"),
    ("weight_left", lambda rates, decay: (decay * rates).prod(), "without 1 -"),
    ("weight_left", lambda rates, decay: (1 - decay * rates).mean(), "mean of the steps"),
    ("weight_left", lambda rates, decay: torch.exp(-decay * rates.sum()), "exponential"),
    ("weight_left", lambda rates, decay: 1 - decay * rates, "one factor for each step"),
    ("weight_left", lambda rates, decay: 1 - (1 - decay * rates).prod(), "what is lost"),
    ("weight_left", lambda rates, decay: decay * rates.sum(), "added up + what is lost"),
    ("weight_left", lambda rates, decay: rates.mul_(-decay).add_(1).prod(), "changed in place"),
    ("merge_lora", lambda weight, down, up: up @ down, "update alone"),
    ("merge_lora", lambda weight, down, up: weight + down.T @ up.T, "update transposed"),
    ("merge_lora", lambda weight, down, up: down.T @ up.T, "update transposed + update alone"),
    ("merge_lora", lambda weight, down, up: weight + down @ up, "wrong order"),
    ("merge_lora", lambda weight, down, up: weight.T - down.T @ up.T, "subtracted + transposed"),
    ("merge_lora", lambda weight, down, up: weight.add_(up @ down), "changed in place"),
    ("lora", make(up=1.0), "starts elsewhere"),
    ("lora", make(down=0.0), "both zero"),
    ("lora", make(train=True), "base trains"),
    ("lora", make(up=1.0, train=True), "starts elsewhere + base trains"),
    ("lora", make(bias=False), "bias lost"),
    ("lora", make(bend=torch.relu), "another update"),
    ("lora", make(bend=nn.GELU(), down=0.0), "both zero + another update"),
    ("lora", make(bend=torch.neg), "another update"),
    ("lora", make(data=True), "no gradient"),
    ("lora", make(frozen=["up"]), "up frozen"),
    ("lora", make(frozen=["down"]), "down frozen"),
    ("lora", make(frozen=["down", "up"]), "no parameters"),
    ("lora", lambda linear, rank: Lora(linear, rank + 1), "wrong count"),
    ("lora", LoraOfLinears, "a bias in the update"),
    ("lora", FullUpdate, "a full matrix"),
    ("lora", Unregistered, "no parameters"),
    ("lora", UpdateAlone, "update alone"),
    ("lora", OneRow, "another update"),
    ("lora", NoGradient, "gradient stopped"),
    ("lora", AllAlike, "not random"),
    ("lora", lambda linear, rank: linear, "base trains + no parameters"),
    ("lora", lambda linear, rank: 3, "not a module"),
    ("lora", lambda linear, rank: nn.Flatten(), "wrong shape"),
]
