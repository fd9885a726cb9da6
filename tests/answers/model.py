"""Right answers to the exercises of notebook 05."""

import re
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_tutorial import EncoderBlock, weights

RATIO = 78_147_569_664 / 17_563_828_224  # multiply-adds of ViT-B/8 and of ViT-B/16
VALUES = {
    "loud_slip": ["a", "A", " a", "(a)", "a."],
    "where_weights_live": ["c", " C ", "(c)", "c.", "C"],
    "image_side": [224, 224.0, "224", torch.tensor(224), np.int64(224), Fraction(448, 2), [224], 16 * 14, "224.0"],
    "smaller_patches": [RATIO, 4.45, torch.tensor(4.47), "4.4", Fraction(89, 20), np.float32(4.449), [4.4], "4.4493"],
}


# ------------------------------------------------------------------------------------------------ 5.1


def embed_tokens__cat(x, cls_token, pos_embed):
    cls = cls_token.expand(len(x), -1, -1)
    return torch.cat([cls, x], dim=1) + pos_embed


def embed_tokens__repeat(x, cls, pos):
    tokens = torch.cat((cls.repeat(x.shape[0], 1, 1), x), 1)
    return tokens + pos


def embed_tokens__loop(x, cls_token, pos_embed):
    images = [torch.cat([cls_token[0], image]) for image in x]  # each (1 + N, D)
    return torch.stack(images) + pos_embed


def embed_tokens__from_positions(x, cls_token, pos_embed):
    tokens = pos_embed.repeat(len(x), 1, 1)
    tokens[:, :1] += cls_token
    tokens[:, 1:] += x
    return tokens


def embed_tokens__two_sums(x, cls_token, pos_embed):
    first = (cls_token + pos_embed[:, :1]).expand(x.shape[0], 1, x.shape[2])
    return torch.cat([first, x + pos_embed[:, 1:]], dim=1)


def embed_tokens__empty(x, cls_token, pos_embed):
    B, N, D = x.shape
    out = torch.empty(B, N + 1, D)
    out[:, 0] = cls_token[0, 0]
    out[:, 1:] = x
    return out + pos_embed


def embed_tokens__hstack(x, cls_token, pos_embed):
    return torch.hstack([cls_token.broadcast_to(x.size(0), 1, x.size(2)), x]).add(pos_embed)


def embed_tokens__pad(x, cls_token, pos_embed):
    tokens = F.pad(x, (0, 0, 1, 0))
    tokens[:, 0] = cls_token.squeeze()
    return tokens + pos_embed


def embed_tokens__numpy(x, cls_token, pos_embed):
    cls = np.repeat(cls_token.numpy(), len(x), axis=0)
    return torch.from_numpy(np.concatenate([cls, x.numpy()], axis=1) + pos_embed.numpy())


def embed_tokens__stacked_rows(x, cls_token, pos_embed):
    B, N, _ = x.shape
    rows = [cls_token[:, 0].expand(B, -1)] + [x[:, n] for n in range(N)]
    return torch.stack([row + pos_embed[:, n] for n, row in enumerate(rows)], dim=1)


def embed_tokens__float64(x, cls_token, pos_embed):
    ones = torch.ones(len(x), 1, 1, dtype=torch.float64)
    return torch.concatenate([ones * cls_token, x.double()], dim=1) + pos_embed


# ------------------------------------------------------------------------------------------------ 5.5


def count_block__linear(D, hidden):
    def linear(n, m):
        return n * m + m

    return 2 * 2 * D + linear(D, 3 * D) + linear(D, D) + linear(D, hidden) + linear(hidden, D)


def count_block__formula(D, h):
    return 4 * D * D + 2 * D * h + 9 * D + h


def count_block__parts(D, hidden):
    attention = D * 3 * D + 3 * D + D * D + D
    mlp = D * hidden + hidden + hidden * D + D
    norms = 2 * (D + D)
    return attention + mlp + norms


def count_block__made(D, hidden):
    return sum(p.numel() for p in EncoderBlock(D, 1, hidden / D).parameters())


def count_block__layers(D, hidden):
    layers = nn.ModuleList(
        [nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)]
        + [nn.LayerNorm(D), nn.Linear(D, hidden), nn.Linear(hidden, D)]
    )
    return sum(parameter.numel() for parameter in layers.parameters())


def count_block__shapes(D, hidden):
    shapes = [(D,)] * 4 + [(3 * D, D), (3 * D,), (D, D), (D,), (hidden, D), (hidden,), (D, hidden), (D,)]
    return sum(int(np.prod(shape)) for shape in shapes)


def count_block__torch_layer(D, hidden):
    layer = nn.TransformerEncoderLayer(D, 1, hidden, batch_first=True)
    return sum(p.numel() for p in layer.parameters())


def count_block__dictionary(D, hidden):
    sizes = {"qkv": (D, 3 * D), "proj": (D, D), "fc1": (D, hidden), "fc2": (hidden, D)}
    total = 4 * D
    for n, m in sizes.values():
        total += (n + 1) * m
    return total


def count_block__tensors(D, hidden):
    D, hidden = torch.tensor(D), torch.tensor(hidden)
    return 4 * D**2 + 4 * D + 2 * D * hidden + hidden + D + 4 * D


def count_block__float(D, hidden):
    mlp = 2.0 * D * hidden + hidden + D
    return mlp + 4.0 * (D**2 + D) + 4 * D


def count_block__pairs(D, hidden):
    ins, outs = np.array([D, D, D, hidden]), np.array([3 * D, D, hidden, D])
    return (ins * outs + outs).sum() + 4 * D


# ------------------------------------------------------------------------------------------------ 5.6


def count_macs__formula(N, D):
    return 12 * N * D**2 + 2 * N**2 * D


def count_macs__by_layer(N, D):
    return N * D * 3 * D + N * N * D + N * N * D + N * D * D + N * D * 4 * D + N * 4 * D * D


def count_macs__products(N, D):
    def product(n, m, k):
        return n * m * k

    qkv, proj = product(N, D, 3 * D), product(N, D, D)
    pairs = product(N, D, N) + product(N, N, D)
    return qkv + pairs + proj + product(N, D, 4 * D) + product(N, 4 * D, D)


def count_macs__torch(N, D):
    with FlopCounterMode(display=False) as counter:
        EncoderBlock(D, 1)(torch.zeros(1, N, D))
    return counter.get_total_flops() // 2


def count_macs__heads(N, D):
    H = D
    d = D // H
    attention = H * (N * d * N) + H * (N * N * d)
    return attention + N * (3 * D * D + D * D + 8 * D * D)


def count_macs__dictionary(N, D):
    hidden = 4 * D
    products = {"qkv": N * D * 3 * D, "qk": N * N * D, "wv": N * N * D, "proj": N * D * D}
    products |= {"fc1": N * D * hidden, "fc2": N * hidden * D}
    return sum(products.values())


def count_macs__factored(tokens, width):
    return 2 * tokens * width * (6 * width + tokens)


def count_macs__loop(N, D):
    total = 0
    for n, m, k in [(N, D, 3 * D), (N, D, N), (N, N, D), (N, D, D), (N, D, 4 * D), (N, 4 * D, D)]:
        total += n * m * k
    return total


def count_macs__meta_layers(N, D):
    layers = [nn.Linear(D, 3 * D), nn.Linear(D, D), nn.Linear(D, 4 * D), nn.Linear(4 * D, D)]
    return N * sum(layer.weight.numel() for layer in layers) + 2 * N * N * D


def count_macs__tensors(N, D):
    N, D = torch.tensor([N]), torch.tensor([D])
    return 12 * N * D * D + 2 * N * N * D


def count_macs__float(N, D):
    return 12.0 * N * D * D + 2.0 * N * N * D


# ------------------------------------------------------------------------------------------------ 5.2


def read_out__norm_then_row(model, tokens):
    features = model.norm(tokens)[:, 0]
    return model.head(features)


def read_out__row_then_norm(model, tokens):
    return model.head(model.norm(tokens[:, 0]))


def read_out__functional(model, x):
    x = model.norm(x[:, 0])
    return nn.functional.linear(x, model.head.weight, model.head.bias)


def read_out__sequential(model, x):
    return nn.Sequential(model.norm, model.head)(x).select(1, 0)


def read_out__matrix(model, tokens):
    cls = model.norm(tokens)[:, 0, :]
    return cls @ model.head.weight.T + model.head.bias


def read_out__by_hand(model, tokens):
    x = tokens[:, 0]
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    x = (x - mean) / (variance + model.norm.eps).sqrt() * model.norm.weight + model.norm.bias
    return model.head(x)


def read_out__loop(model, tokens):
    return torch.stack([model.head(model.norm(image[0])) for image in tokens])


def read_out__einsum(model, tokens):
    x = model.norm(tokens)
    return torch.einsum("bd,kd->bk", x[:, 0], model.head.weight).add(model.head.bias)


def read_out__unbound(model, tokens):
    first, *_ = model.norm(tokens).unbind(dim=1)
    return model.head(first)


def read_out__addmm(model, tokens):
    x = model.norm(tokens.narrow(1, 0, 1)).squeeze(1)
    return torch.addmm(model.head.bias, x, model.head.weight.t())


def read_out__numpy(model, tokens):
    x = model.norm(tokens).detach().numpy()[:, 0]
    weight, bias = (p.detach().numpy() for p in model.head.parameters())
    return torch.tensor(x @ weight.T + bias)


def read_out__no_grad(model, tokens):
    with torch.no_grad():
        return model.head(F.layer_norm(tokens, tokens.shape[-1:], *model.norm.parameters(), model.norm.eps))[:, 0]


# ------------------------------------------------------------------------------------------------ 5.9


def rename_weights__replaced(name):
    for old, new in (
        ("conv_proj", "patch_embed.proj"),
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.layers.encoder_layer_", "blocks."),
        ("encoder.ln.", "norm."),
        ("ln_", "norm"),
        ("self_attention.in_proj_", "attn.qkv."),
        ("self_attention.out_proj", "attn.proj"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
        ("heads.head", "head"),
    ):
        name = name.replace(old, new)
    return name


def rename_weights__chain(name):
    name = name.replace("encoder.layers.encoder_layer_", "blocks.").replace("encoder.pos_embedding", "pos_embed")
    name = name.replace("conv_proj", "patch_embed.proj").replace("class_token", "cls_token")
    name = name.replace(".ln_1", ".norm1").replace(".ln_2", ".norm2").replace("encoder.ln", "norm")
    name = name.replace("self_attention", "attn").replace("in_proj_", "qkv.").replace("out_proj", "proj")
    return name.replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2").replace("heads.head", "head")


def rename_weights__patterns(name):
    for pattern, ours in (
        (r"encoder\.layers\.encoder_layer_(\d+)", r"blocks.\1"),
        (r"^conv_proj", "patch_embed.proj"),
        (r"class_token", "cls_token"),
        (r"encoder\.pos_embedding", "pos_embed"),
        (r"encoder\.ln\.", "norm."),
        (r"\.ln_", ".norm"),
        (r"self_attention\.in_proj_", "attn.qkv."),
        (r"self_attention\.out_proj", "attn.proj"),
        (r"mlp\.0", "mlp.fc1"),
        (r"mlp\.3", "mlp.fc2"),
        (r"heads\.head", "head"),
    ):
        name = re.sub(pattern, ours, name)
    return name


def rename_weights__of_package(name):
    for pattern, ours in weights.TORCHVISION_NAMES:
        name = re.sub(pattern, ours, name)
    return name


def rename_weights__words(name):
    first, *rest = name.split(".")
    if first != "encoder" or rest[0] != "layers":
        outer = {"conv_proj": "patch_embed.proj", "class_token": "cls_token", "heads": "head", "encoder": rest[:1]}
        front = {"pos_embedding": "pos_embed", "ln": "norm"}[rest[0]] if first == "encoder" else outer[first]
        return ".".join([front, *rest[1 if first in ("encoder", "heads") else 0 :]])
    number, part, *rest = rest[1].rpartition("_")[2], *rest[2:]
    if part == "self_attention":
        part = "attn"
        rest = ["qkv", rest[0].removeprefix("in_proj_")] if rest[0].startswith("in_") else ["proj", rest[1]]
    elif part == "mlp":
        rest[0] = {"0": "fc1", "3": "fc2"}[rest[0]]
    return ".".join(["blocks", number, part.replace("ln_", "norm"), *rest])


OUTER = {
    "class_token": "cls_token",
    "encoder.pos_embedding": "pos_embed",
    "conv_proj": "patch_embed.proj",
    "encoder.ln": "norm",
    "heads.head": "head",
}
INNER = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "self_attention.out_proj": "attn.proj",
    "self_attention": "attn",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
}


def rename_weights__tables(name):
    if match := re.fullmatch(r"encoder\.layers\.encoder_layer_(\d+)\.(.+)\.(\w+)", name):
        number, part, kind = match.groups()
        return f"blocks.{number}.{INNER[part]}.{kind.replace('in_proj_', 'qkv.')}"
    if name in OUTER:
        return OUTER[name]
    part, _, kind = name.rpartition(".")
    return f"{OUTER[part]}.{kind}"


def rename_weights__branches(name):
    if name.startswith("encoder.layers."):
        _, _, block, rest = name.split(".", 3)
        rest = rest.replace("self_attention.in_proj_", "attn.qkv.").replace("self_attention.out_proj.", "attn.proj.")
        rest = rest.replace("ln_", "norm").replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        return "blocks." + block[len("encoder_layer_") :] + "." + rest
    if name.startswith("conv_proj"):
        return "patch_embed.proj" + name[9:]
    if name.startswith("encoder.ln"):
        return "norm" + name[10:]
    if name.startswith("heads"):
        return name[6:]
    return "cls_token" if name == "class_token" else "pos_embed"


def rename_weights__match(name):
    match name.split("."):
        case ["class_token"]:
            return "cls_token"
        case ["encoder", "pos_embedding"]:
            return "pos_embed"
        case ["conv_proj", kind]:
            return f"patch_embed.proj.{kind}"
        case ["encoder", "ln", kind]:
            return f"norm.{kind}"
        case ["heads", "head", kind]:
            return f"head.{kind}"
        case ["encoder", "layers", layer, *rest]:
            n, rest = layer.split("_")[-1], ".".join(rest)
            for old, new in (("ln_", "norm"), ("self_attention", "attn"), ("in_proj_", "qkv."), ("out_", "")):
                rest = rest.replace(old, new)
            return f"blocks.{n}.{rest.replace('mlp.0', 'mlp.fc1').replace('mlp.3', 'mlp.fc2')}"


def rename_weights__function_in_sub(name):
    words = {"ln_1": "norm1", "ln_2": "norm2", "self_attention": "attn", "in_proj_": "qkv.", "out_proj": "proj"}
    words |= {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2", "encoder.ln": "norm", "heads.head": "head"}
    words |= {"conv_proj": "patch_embed.proj", "class_token": "cls_token", "encoder.pos_embedding": "pos_embed"}
    words |= {"encoder.layers.encoder_layer_": "blocks."}
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    return re.sub("|".join(longest_first), lambda found: words[found.group()], name)


def rename_weights__heads_last(name):
    name = re.sub("^encoder.layers.encoder_layer_", "blocks.", name).removeprefix("encoder.").removeprefix("heads.")
    name = re.sub(r"^ln\.", "norm.", name).replace("pos_embedding", "pos_embed").replace("class_token", "cls_token")
    name = re.sub(r"ln_(\d)", r"norm\1", name).replace("conv_proj", "patch_embed.proj")
    name = name.replace("self_attention", "attn").replace("in_proj_", "qkv.").replace("out_proj", "proj")
    return re.sub(r"mlp\.([03])", lambda m: "mlp.fc1" if m[1] == "0" else "mlp.fc2", name)
