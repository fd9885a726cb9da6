"""Notebook 05's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import re

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_tutorial import EncoderBlock, weights


def embed_with_loop(x, cls_token, pos_embed):
    images = [torch.cat([cls_token[0], image]) for image in x]  # each (1 + N, D)
    return torch.stack(images) + pos_embed


def embed_in_place(x, cls_token, pos_embed):
    tokens = pos_embed.repeat(len(x), 1, 1)
    tokens[:, :1] += cls_token
    tokens[:, 1:] += x
    return tokens


def count_made_block(D, hidden):
    return sum(p.numel() for p in EncoderBlock(D, 1, hidden / D).parameters())


def count_by_layer(D, hidden):
    linear = lambda inputs, outputs: inputs * outputs + outputs  # noqa: E731
    return 2 * 2 * D + linear(D, 3 * D) + linear(D, D) + linear(D, hidden) + linear(hidden, D)


def macs_by_layer(N, D):
    return N * D * 3 * D + N * N * D + N * N * D + N * D * D + N * D * 4 * D + N * 4 * D * D


def rename(name, block=r"encoder\.layers\.encoder_layer_(\d+)", qkv="qkv.", mlp=("fc1", "fc2"), norm="norm."):
    for pattern, ours in (
        (block, r"blocks.\1"),
        (r"^conv_proj", "patch_embed.proj"),
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        (r"encoder\.ln\.", norm),
        (r"\.ln_", ".norm"),
        ("self_attention.in_proj_", f"attn.{qkv}"),
        ("self_attention.out_proj", "attn.proj"),
        (r"mlp\.0", f"mlp.{mlp[0]}"),
        (r"mlp\.3", f"mlp.{mlp[1]}"),
        ("heads.head", "head"),
    ):
        name = re.sub(pattern, ours, name)
    return name


def rename_as_package(name):
    for pattern, ours in weights.TORCHVISION_NAMES:
        name = re.sub(pattern, ours, name)
    return name


def macs_by_torch(N, D):
    with FlopCounterMode(display=False) as counter:
        EncoderBlock(D, 1)(torch.zeros(1, N, D))
    return counter.get_total_flops() // 2


def rename_by_words(name):
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


RIGHT = [
    (name, answer)
    for name, answers in {
        "where_weights_live": ["c", " C ", "(c)"],
        "embed_tokens": [
            lambda x, c, p: torch.cat([c.expand(len(x), -1, -1), x], dim=1) + p,
            embed_with_loop,
            embed_in_place,
        ],
        "count_block": [lambda D, h: 4 * D * D + 2 * D * h + 9 * D + h, count_made_block, count_by_layer],
        "count_macs": [lambda N, D: 12 * N * D**2 + 2 * N**2 * D, macs_by_layer, macs_by_torch],
        "smaller_patches": [78_147_569_664 / 17_563_828_224, 4.45, torch.tensor(4.47)],
        "read_out": [
            lambda model, x: model.head(model.norm(x)[:, 0]),
            lambda model, x: nn.functional.linear(model.norm(x[:, 0]), model.head.weight, model.head.bias),
            lambda model, x: nn.Sequential(model.norm, model.head)(x).select(1, 0),
        ],
        "rename_weights": [rename, rename_as_package, rename_by_words],
    }.items()
    for answer in answers
]

WRONG = [
    ("where_weights_live", "a", "patch embedding"),
    ("where_weights_live", "b", "attention holds most"),
    ("where_weights_live", "d", "positions and head"),
    ("embed_tokens", lambda x, c, p: torch.cat([x, c.expand(len(x), -1, -1)], 1) + p, "class token last"),
    (
        "embed_tokens",
        lambda x, c, p: torch.cat([c.expand(len(x), -1, -1), x + p[:, 1:]], 1),
        "positions before the class token",
    ),
    ("embed_tokens", lambda x, c, p: torch.cat([c.expand(len(x), -1, -1), x + p[:, :-1]], 1), "positions shifted"),
    ("embed_tokens", lambda x, c, p: torch.cat([c.expand(len(x), -1, -1), x], 1), "no positions"),
    ("embed_tokens", lambda x, c, p: x + p[:, 1:], "no class token"),
    ("embed_tokens", lambda x, c, p: torch.cat([c, x], 1) + p, "class token not repeated"),
    ("count_block", lambda D, h: count_by_layer(D, h) - 3 * D, "qkv bias forgotten"),
    ("count_block", lambda D, h: count_by_layer(D, h) - 5 * D - h, "biases forgotten"),
    ("count_block", lambda D, h: count_by_layer(D, h) - 4 * D, "norms forgotten"),
    ("count_block", lambda D, h: count_by_layer(D, h) - 2 * D, "norm shifts forgotten"),
    ("count_block", lambda D, h: 4 * D * D + 2 * D * h, "matrices only"),
    ("count_block", lambda D, h: count_by_layer(D, h) - D * D - D, "output projection forgotten"),
    ("count_block", lambda D, h: 12 * D * D + 13 * D, "hidden width ignored"),
    ("count_macs", lambda N, D: 12 * N * D**2, "attention forgotten"),
    ("count_macs", lambda N, D: 12 * N * D**2 + N**2 * D, "one attention product"),
    ("count_macs", lambda N, D: 2 * N**2 * D, "linear layers forgotten"),
    ("count_macs", lambda N, D: 2 * macs_by_layer(N, D), "FLOPs"),
    ("count_macs", lambda N, D: 12 * D**2 + 2 * N**2 * D, "one token"),
    ("count_macs", lambda N, D: 11 * N * D**2 + 2 * N**2 * D, "output projection forgotten"),
    ("count_macs", lambda N, D: 8 * N * D**2 + 2 * N**2 * D, "half an MLP"),
    ("smaller_patches", 4, "attention's square forgotten"),
    ("smaller_patches", 16, "everything squared"),
    ("smaller_patches", 2, "one side only"),
    ("smaller_patches", 17.56 / 78.15, "upside down"),
    ("read_out", lambda model, x: model.head(x[:, 0]), "final norm missing"),
    ("read_out", lambda model, x: model.head(model.norm(x)[:, -1]), "wrong token"),
    ("read_out", lambda model, x: model.head(x[:, -1]), "wrong token and no norm"),
    ("read_out", lambda model, x: model.head(model.norm(x).mean(1)), "mean with the class token"),
    ("read_out", lambda model, x: model.head(model.norm(x)), "all tokens"),
    ("read_out", lambda model, x: model.head(model.norm(x)[:, 0]).softmax(-1), "probabilities"),
    ("rename_weights", lambda name: name, "name not changed"),
    ("rename_weights", lambda name: rename(name, qkv="qkv_"), "underscore kept"),
    ("rename_weights", lambda name: rename(name, block=r"encoder\.layers\.encoder_layer_(\d)(?=\.)"), "two digits"),
    ("rename_weights", lambda name: rename(name, block=r"encoder_layer_(\d+)"), "prefix kept"),
    ("rename_weights", lambda name: rename(name, mlp=("0", "3")), "mlp numbers"),
]
