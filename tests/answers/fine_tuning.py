"""Right answers to the exercises of notebook 09."""

import copy
import functools
import math
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import accumulate, repeat

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, training

VALUES = {
    "probe_size": [
        1351,
        "1351",
        192 * 7 + 7,
        torch.tensor(192 * 7 + 7),
        np.int64(1351),
        1351.0,
        Fraction(1351),
        [1351],
        sum(p.numel() for p in nn.Linear(192, 7).parameters()),
    ],
    "moved_body": ["b", " B ", "(b)", "b.", "B"],
}


def make_probe__package(model, classes):
    model.requires_grad_(False)
    return training.new_head(model, classes)


def make_probe__loop(model, classes):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.head = nn.Linear(model.config.embed_dim, len(classes))
    model.config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
    return model


def make_probe__head_woken(model, classes):
    model = training.new_head(model, classes)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return model


def make_probe__copy(model, classes):
    model = training.new_head(copy.deepcopy(model), classes)
    model.requires_grad_(False).head.requires_grad_(True)
    return model


def make_probe__by_name(model, classes):
    model.head = nn.Linear(model.config.embed_dim, len(classes))
    model.config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head.")
    return model


def make_probe__old_width(model, classes):
    width = model.head.in_features
    model.requires_grad_(False)
    model.head = nn.Linear(in_features=width, out_features=len(classes), bias=True)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model.config = replace(model.config, classes=tuple(classes), num_classes=len(classes))
    return model


def make_probe__new_model(model, classes):
    probe = VisionTransformer(replace(model.config, num_classes=len(classes), classes=tuple(classes)))
    body = {name: value for name, value in model.state_dict().items() if not name.startswith("head")}
    probe.load_state_dict(body, strict=False)
    for name, parameter in probe.named_parameters():
        if "head" not in name:
            parameter.requires_grad = False
    return probe


def make_probe__set_difference(model, classes):
    classes = tuple(classes)
    model.head = nn.Linear(model.config.embed_dim, len(classes))
    head = set(model.head.parameters())
    for parameter in model.parameters():
        if parameter not in head:
            parameter.requires_grad_(False)
    model.config = ViTConfig(**(asdict(model.config) | {"num_classes": len(classes), "classes": classes}))
    return model


def make_probe__children(model, classes):
    for name, child in model.named_children():
        if name != "head":
            child.requires_grad_(False)
    for parameter in model.parameters(recurse=False):
        parameter.requires_grad_(False)
    training.new_head(model, classes)
    return model


def make_probe__setattr(model, classes):
    model.eval().requires_grad_(False)
    model.config = replace(model.config, num_classes=len(classes), classes=list(classes))
    setattr(model, "head", nn.Linear(model.config.embed_dim, model.config.num_classes))  # noqa: B010
    return model.train()


def make_probe__apply(model, classes):
    def freeze(module):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False

    model.apply(freeze)
    head = nn.Linear(model.config.embed_dim, len(classes))
    nn.init.trunc_normal_(head.weight, std=0.02)
    model.head = head
    model.config = replace(model.config, num_classes=len(classes), classes=(*classes,))
    return model


def layer_factors__powers(depth, decay):
    return decay ** torch.arange(depth + 1, -1, -1)


def layer_factors__list(depth, decay):
    return [decay ** (depth + 1 - i) for i in range(depth + 2)]


def layer_factors__tuple(depth, decay):
    return tuple(decay**power for power in reversed(range(depth + 2)))


def layer_factors__array(depth, decay):
    return decay ** np.arange(depth + 1, -1, -1)


def layer_factors__inserted(depth, decay):
    factors = [1.0]
    while len(factors) < depth + 2:
        factors.insert(0, factors[0] * decay)
    return torch.tensor(factors)


def layer_factors__flipped(depth, decay):
    return torch.pow(decay, torch.arange(depth + 2)).flip(0)


def layer_factors__cumprod(depth, decay):
    factors = torch.full((depth + 2,), decay)
    factors[0] = 1
    return factors.cumprod(0).flip(0)


def layer_factors__logarithm(depth, decay):
    below = torch.arange(depth + 1, -1, -1, dtype=torch.float64)
    return torch.exp(below * math.log(decay))


def layer_factors__logspace(depth, decay):
    return torch.logspace(depth + 1, 0, depth + 2, base=decay)


def layer_factors__filled(depth, decay):
    factors = torch.ones(depth + 2)
    for layer in range(depth, -1, -1):
        factors[layer] = factors[layer + 1] * decay
    return factors


def layer_factors__accumulate(depth, decay):
    return list(accumulate(repeat(decay, depth + 1), lambda a, b: a * b, initial=1.0))[::-1]


def layer_factors__tensors(depth, decay):
    return [torch.tensor(decay) ** (depth + 1 - layer) for layer in torch.arange(depth + 2)]


def layer_factors__matrix(depth, decay):
    above = torch.ones(depth + 2, depth + 2).triu(1).sum(dim=1)
    return torch.tensor(decay) ** above


def weight_left__product(rates, decay):
    return (1 - decay * rates).prod()


def weight_left__torch(rates, decay):
    return torch.prod(1 - rates * decay)


def weight_left__loop(rates, decay):
    left = 1.0
    for rate in rates:
        left = left * (1 - rate * decay)
    return left


def weight_left__floats(rates, decay):
    left = 1.0
    for rate in rates.tolist():
        left -= left * rate * decay
    return left


def weight_left__numpy(rates, decay):
    return np.prod(1 - decay * rates.numpy())


def weight_left__math(rates, decay):
    return math.prod(1 - decay * rate for rate in rates.tolist())


def weight_left__cumprod(rates, decay):
    return torch.cumprod(1 - decay * rates, dim=0)[-1]


def weight_left__accumulate(rates, decay):
    return [*accumulate(rates.tolist(), lambda left, rate: left * (1 - rate * decay), initial=1.0)][-1]


def weight_left__item(rates, decay):
    return (torch.ones_like(rates) - rates.mul(decay)).prod().item()


def weight_left__logarithm(rates, decay):
    return torch.log1p(-decay * rates).sum().exp()


def weight_left__reduce(rates, decay):
    return functools.reduce(lambda left, rate: left - left * decay * rate, rates, torch.tensor(1.0))


def weight_left__optimizer(rates, decay):
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, weight_decay=decay)
    for rate in rates.tolist():
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.zeros(1)
        optimizer.step()
    return weight.item()


def merge_lora__plain(weight, down, up):
    return weight + up @ down


def merge_lora__addmm(weight, down, up):
    return torch.addmm(weight, up, down)


def merge_lora__einsum(weight, down, up):
    return weight + torch.einsum("or,ri->oi", up, down)


def merge_lora__transposed(weight, down, up):
    return (weight.T + down.T @ up.T).T


def merge_lora__outer_products(weight, down, up):
    merged = weight.clone()
    for row, column in zip(down, up.T, strict=True):
        merged += torch.outer(column, row)
    return merged


def merge_lora__loops(weight, down, up):
    out = torch.zeros_like(weight)
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            out[i, j] = weight[i, j] + (up[i] * down[:, j]).sum()
    return out


def merge_lora__unit_vectors(weight, down, up):
    x = torch.eye(weight.shape[1])
    return (x @ weight.T + (x @ down.T) @ up.T).T


def merge_lora__numpy(weight, down, up):
    return torch.from_numpy(weight.numpy() + np.dot(up.numpy(), down.numpy()))


def merge_lora__broadcast(weight, down, up):
    return (up[:, :, None] * down[None]).sum(dim=1) + weight


def merge_lora__float64(weight, down, up):
    return weight.double().add(up.double().matmul(down.double()))


def merge_lora__side_by_side(weight, down, up):
    left = torch.cat([torch.eye(len(weight)), up], dim=1)
    return left @ torch.cat([weight, down])


def merge_lora__linear(weight, down, up):
    return weight + F.linear(up, down.T)


class lora__parameters(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) * linear.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T


class lora__linears(nn.Module):
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


class lora__down_zero(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear
        self.linear.weight.requires_grad = False
        self.linear.bias.requires_grad = False
        self.down = nn.Parameter(torch.zeros(rank, linear.in_features))
        self.up = nn.Parameter(torch.randn(linear.out_features, rank))

    def forward(self, x):
        update = self.up @ self.down
        return self.linear(x) + x @ update.T


class lora__merged_each_time(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x):
        return F.linear(x, self.linear.weight + self.up @ self.down, self.linear.bias)


class lora__scaled(nn.Module):
    def __init__(self, linear, rank, alpha=8):
        super().__init__()
        self.linear, self.scale = linear, alpha / rank
        linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)


class lora__einsum(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(0.1 * torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + torch.einsum("...i,ri,or->...o", x, self.down, self.up)


class lora__buffers(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", linear.bias.detach().clone())
        self.down = nn.Parameter(torch.rand(rank, linear.in_features) - 0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return x @ self.weight.T + self.bias + (x @ self.down.T) @ self.up.T


class lora__sequential(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        down = nn.Linear(linear.in_features, rank, bias=False)
        up = nn.Linear(rank, linear.out_features, bias=False)
        up.weight.data.zero_()
        self.update = nn.Sequential(down, up)

    def forward(self, x):
        return self.linear(x) + self.update(x)


class lora__other_way_round(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(linear.in_features, rank))
        self.B = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x):
        return self.linear(x) + x @ self.A @ self.B


class lora__copied(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = copy.deepcopy(linear)
        for parameter in self.linear.parameters():
            parameter.requires_grad_(False)
        outputs, inputs = linear.weight.shape
        self.down = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        old = self.linear(x)
        return old + x.matmul(self.down.t()).matmul(self.up.t())


class lora__dictionary(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        sizes = {"down": (rank, linear.in_features), "up": (linear.out_features, rank)}
        self.update = nn.ParameterDict({name: nn.Parameter(torch.zeros(size)) for name, size in sizes.items()})
        nn.init.normal_(self.update["down"], std=0.02)

    def forward(self, x):
        thin = F.linear(x, self.update["down"])
        return F.linear(thin, self.update["up"]) + self.linear(x)


class lora__subclass(nn.Linear):
    def __init__(self, linear, rank):
        super().__init__(linear.in_features, linear.out_features)
        self.load_state_dict(linear.state_dict())
        self.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


def lora__hook(linear, rank):
    layer = nn.Sequential(linear.requires_grad_(False))
    layer.down = nn.Parameter(torch.randn(rank, linear.in_features) * 0.3)
    layer.up = nn.Parameter(torch.zeros(linear.out_features, rank))
    layer.forward = lambda x: linear(x) + F.linear(x, layer.down) @ layer.up.T
    return layer
