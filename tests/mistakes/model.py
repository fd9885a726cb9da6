"""Planted mistakes in the exercises of notebook 05."""

import re

import torch
import torch.nn.functional as F
from torch import nn


def embed(code):
    """`function(x, cls_token, pos_embed)` whose result is written as text; c is repeated for each image."""
    return lambda x, cls_token, pos_embed: eval(
        code, {"x": x, "cls": cls_token, "c": cls_token.expand(len(x), -1, -1), "pos": pos_embed, "cat": torch.cat}
    )


def in_place(x, cls_token, pos_embed):
    x += pos_embed[:, 1:]
    return torch.cat([(cls_token + pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)


def block_weights(D, hidden, qkv_bias=True, norms=2):
    linear = lambda n, m, bias=True: n * m + m * bias  # noqa: E731
    layers = linear(D, 3 * D, qkv_bias) + linear(D, D) + linear(D, hidden) + linear(hidden, D)
    return layers + norms * 2 * D


def read(code):
    """`function(model, x)` whose result is written as text; n is the normed x."""
    return lambda model, x: eval(code, {"model": model, "x": x, "n": model.norm(x), "F": F, "nn": nn})


def reads_in_training(model, x):
    model.train()
    return model.head(model.norm(x)[:, 0])


def rename(
    name, block=r"encoder\.layers\.encoder_layer_(\d+)", qkv="qkv.", mlp=("fc1", "fc2"), norm="norm.", ln=".norm"
):
    for pattern, ours in (
        (block, r"blocks.\1"),
        (r"^conv_proj", "patch_embed.proj"),
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        (r"encoder\.ln\.", norm),
        (r"\.ln_", ln),
        ("self_attention.in_proj_", f"attn.{qkv}"),
        ("self_attention.out_proj", "attn.proj"),
        (r"mlp\.0", f"mlp.{mlp[0]}"),
        (r"mlp\.3", f"mlp.{mlp[1]}"),
        ("heads.head", "head"),
    ):
        name = re.sub(pattern, ours, name)
    return name


RIGHT = []
WRONG = [
    ("where_weights_live", "a", "patch embedding"),
    ("where_weights_live", "b", "attention holds most"),
    ("where_weights_live", "d", "positions and head"),
    ("loud_slip", "b", "order taken for shape"),
    ("loud_slip", "c", "norm taken for shape"),
    ("loud_slip", "d", "none is loud"),
    ("image_side", 16, "rows of patches"),
    ("image_side", 257**0.5 * 14, "class token counted"),
    ("image_side", 256, "patches counted"),
    ("image_side", 3584, "one row of patches"),
    ("image_side", 50176, "area"),
    ("image_side", 14, "pixels of a patch"),
    ("image_side", 384, None),
    ("image_side", "large", "not a number"),
    ("embed_tokens", embed("cat([x, c], 1) + pos"), "class token last"),
    ("embed_tokens", embed("cat([c, x + pos[:, 1:]], 1)"), "positions before the class token"),
    ("embed_tokens", embed("cat([c, x + pos[:, :-1]], 1)"), "positions shifted + positions before the class token"),
    ("embed_tokens", embed("cat([c, x], 1)"), "no positions"),
    ("embed_tokens", embed("x + pos[:, 1:]"), "no class token"),
    ("embed_tokens", embed("cat([cls, x], 1) + pos"), "class token not repeated"),
    ("embed_tokens", embed("cat([x, cls], 1) + pos"), "class token not repeated + class token last"),
    ("embed_tokens", embed("cat([0 * c, x], 1) + pos"), "input not used"),
    ("embed_tokens", embed("cat([c, x], 1) * pos"), "positions multiplied"),
    ("embed_tokens", in_place, "changed in place"),
    ("count_block", lambda D, h: block_weights(D, h, qkv_bias=False), "qkv bias forgotten"),
    ("count_block", lambda D, h: 4 * D * D + 2 * D * h + 4 * D, "biases forgotten"),
    ("count_block", lambda D, h: block_weights(D, h, norms=0), "4 D missing"),
    ("count_block", lambda D, h: block_weights(D, h, norms=1), "2 D missing"),
    ("count_block", lambda D, h: 4 * D * D + 2 * D * h, "matrices only"),
    ("count_block", lambda D, h: 3 * D * D + 2 * D * h + 8 * D + h, "output projection forgotten"),
    ("count_block", lambda D, h: 12 * D * D + 13 * D, "hidden width ignored"),
    ("count_block", lambda D, h: block_weights(D, 4 * D, norms=1), "hidden width ignored + 2 D missing"),
    ("count_block", lambda D, h: 2 * (D * D + D) + 2 * D * h + h + 5 * D, "one of q, k, v"),
    ("count_block", lambda D, h: block_weights(D, h, qkv_bias=False, norms=1), None),
    ("count_block", lambda D, h: f"{D} weights", "not a number"),
    ("count_block", lambda D, h: block_weights(D, h) + 7, "offset"),
    ("count_macs", lambda N, D: 12 * N * D**2, "attention forgotten"),
    ("count_macs", lambda N, D: 12 * N * D**2 + N**2 * D, "one attention product"),
    ("count_macs", lambda N, D: 2 * N**2 * D, "linear layers forgotten"),
    ("count_macs", lambda N, D: 24 * N * D**2 + 4 * N**2 * D, "FLOPs"),
    ("count_macs", lambda N, D: 24 * N * D**2, "attention forgotten + FLOPs"),
    ("count_macs", lambda N, D: 12 * D**2 + 2 * N**2 * D, "one token"),
    ("count_macs", lambda N, D: 11 * N * D**2 + 2 * N**2 * D, "output projection forgotten"),
    ("count_macs", lambda N, D: 8 * N * D**2 + 2 * N**2 * D, "4 N D^2 missing"),
    ("count_macs", lambda N, D: 10 * N * D**2 + N**2 * D, "one attention product + one of q, k, v"),
    ("count_macs", lambda N, D: 12 * N * D**2 + 2 * N**2, None),
    ("smaller_patches", 4, "attention's square forgotten"),
    ("smaller_patches", 16, "everything squared"),
    ("smaller_patches", 2, "one side only"),
    ("smaller_patches", 17.56 / 78.15, "upside down"),
    ("smaller_patches", 1.0001, "weights compared"),
    ("smaller_patches", "many", "not a number"),
    ("read_out", read("model.head(x[:, 0])"), "final norm missing"),
    ("read_out", read("model.head(n[:, -1])"), "wrong token"),
    ("read_out", read("model.head(x[:, -1])"), "final norm missing + wrong token"),
    ("read_out", read("model.head(n.mean(1))"), "mean of the tokens"),
    ("read_out", read("model.head(model.norm(x[:, 1:].mean(1)))"), "mean of the tokens"),
    ("read_out", read("model.head(n)"), "all tokens"),
    ("read_out", read("model.head(n[0])"), "tokens of one image"),
    ("read_out", read("model.head(n[:, 0]).softmax(-1)"), "probabilities"),
    ("read_out", read("model.head(x[:, 0]).softmax(-1)"), "final norm missing + probabilities"),
    ("read_out", read("n[:, 0] @ model.head.weight.T"), "head without its bias"),
    ("read_out", read("n[:, 0]"), "no head"),
    ("read_out", read("model.head(F.layer_norm(x, x.shape[-1:])[:, 0])"), "scale and shift missing"),
    ("read_out", read("model.head(n[:, 0]).argmax(-1)"), "wrong shape"),
    ("read_out", reads_in_training, "model changed"),
    ("rename_weights", lambda name: name, "no name changed"),
    ("rename_weights", lambda name: rename(name, qkv="qkv_"), "underscore kept"),
    ("rename_weights", lambda name: rename(name, block=r"encoder\.layers\.encoder_layer_(\d)(?=\.)"), "two digits"),
    ("rename_weights", lambda name: rename(name, block=r"encoder_layer_(\d+)"), "prefix kept"),
    ("rename_weights", lambda name: rename(name, mlp=("0", "3")), "rule missing"),
    ("rename_weights", lambda name: rename(name, mlp=("fc0", "fc3"), ln=".norm_"), "underscore kept + mlp numbers"),
    ("rename_weights", lambda name: rename(name, norm="encoder.norm."), "prefix kept"),
    ("rename_weights", lambda name: name.upper(), None),
]
