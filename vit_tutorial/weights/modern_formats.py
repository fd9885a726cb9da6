"""The names and layouts in which timm and transformers keep modern ViTs: DINOv2, DINOv3, SigLIP and their kin."""

import re

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import head_width
from ..modern import RotaryEmbedding

# transformers' kinds of model that ours can be, with each one's defaults
DINO = {"image_size": 224, "num_attention_heads": 12, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}
KINDS = {
    "dinov2": DINO,
    "dinov2_with_registers": DINO,
    "dinov3_vit": DINO
    | {"num_attention_heads": 6, "layer_norm_eps": 1e-5, "rope_theta": 100.0}
    | {"query_bias": True, "key_bias": False, "value_bias": True},
    "siglip_vision_model": DINO | {"hidden_act": "gelu_pytorch_tanh"},
}
NAMES = (  # (transformers' name, ours), of versions 4 and 5, after the plain ViT's
    (r"^(dinov2|dinov2_with_registers|vision_model)\.", ""),
    (r"^embeddings\.", ""),
    (r"^cls_token$", "cls_token"),
    (r"^register_tokens$", "reg_token"),
    (r"^position_embeddings$|^position_embedding\.weight$", "pos_embed"),
    (r"^patch_embeddings?\.(projection\.)?", "patch_embed.proj."),
    (r"^(model\.|encoder\.)?layers?\.(\d+)\.", r"blocks.\2."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.(attention|self_attn)\.(attention\.)?([qkv])(_proj|uery|ey|alue)\.", r".attn.\3."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.|\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),  # gate and value in one
    (r"^(post_layernorm|layernorm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.qkv."),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
    (r"^classifier\.", "head."),
)

TIMM_PARTS = re.compile(  # of timm and torch; what has others, its head and activations aside, computes something else
    r"VisionTransformer|Eva|(Eva)?(Block|Attention)|AttentionRope|AttentionPoolLatent|PatchEmbed|LayerScale|Mlp|GluMlp|"
    r"SwiGLU|LayerNorm(Fp32)?|RmsNorm|RotaryEmbedding(Cat|DinoV3)|DropPath|PatchDropout(WithIndices)?|Sequential|"
    r"ModuleList|Conv2d|Linear|Identity|Dropout"
)


def modern_parts(state, patches):
    """The entries of `ModernConfig` that weights under our names show; `patches` is P."""
    block = {name.removeprefix("blocks.0.") for name in state if name.startswith("blocks.0.")}
    found = {
        "registers": state["reg_token"].shape[1] if "reg_token" in state else 0,
        "layer_scale": 1e-5 if "ls1.gamma" in block else None,  # where it started is not kept
        "norm": "layer" if "norm1.bias" in block else "rms",
        "qk_norm": "attn.q_norm.weight" in block,
        "mlp": "swiglu" if "mlp.fc1_g.weight" in block else "gelu",
    }
    if "cls_token" in state and "pos_embed" in state:
        found["cls_position"] = state["pos_embed"].shape[1] != patches
    return found


def folded(state, patches):
    """`state` with the positions of registers, which ours have none of, added to the registers: the same tokens."""
    pos, cls = state.get("pos_embed"), int("cls_token" in state)
    R = state["reg_token"].shape[1] if "reg_token" in state else 0
    if not R or pos is None or pos.shape[1] != cls + R + patches:
        return state
    registers, pos = pos[:, cls : cls + R], torch.cat([pos[:, :cls], pos[:, cls + R :]], dim=1)
    return state | {"reg_token": state["reg_token"] + registers, "pos_embed": pos}


def unpacked(state):
    """`state` with SwiGLU's first two matrices, where they lie in one, each under its own name (the gate is first)."""
    state = dict(state)
    for name in [name for name in state if ".mlp.fc1." in name]:
        gate, value = state.pop(name).chunk(2)
        state |= {name.replace("fc1", "fc1_g"): gate, name.replace("fc1", "fc1_x"): value}
    return state


def with_biases(state, missing=("qkv", "q", "k", "v")):
    """`state` with zeros for the biases of `attn.qkv`, or of its parts, that it lacks: they add nothing."""
    made = {}
    for name, value in state.items():
        part = re.search(r"\.attn\.(qkv|q|k|v)\.weight$", name)
        if part and part[1] in missing:
            made[name.replace(".weight", ".bias")] = value.new_zeros(len(value))
    return made | state


def check_parts(model):
    """Raise `ValueError` where timm's `model` computes what ours does not and the names of its weights do not show."""
    attn = model.blocks[0].attn
    settings = {
        "num_heads": attn.num_heads,
        "scale": head_width(model.embed_dim, attn.num_heads) ** -0.5,
        "num_prefix_tokens": model.num_prefix_tokens,
        "rotate_half": getattr(getattr(model, "rope", None) or attn, "rotate_half", False),
        "normalize_coords": "separate",
        "min_period": None,
        "stride": model.patch_embed.proj.kernel_size,
        "padding": (0, 0),
        "dilation": (1, 1),
        "groups": 1,
    }
    for name, part in model.named_modules():
        kind, library = type(part).__name__, type(part).__module__.partition(".")[0]
        act = name.endswith(".act") and next(part.parameters(), None) is None  # for `activation_of` to read
        if act or name.partition(".")[0] == "head":
            continue
        if not TIMM_PARTS.fullmatch(kind) or library not in ("timm", "torch"):
            raise ValueError(f"expected layers that ours has too, found {kind} as {name}")
        if isinstance(part, nn.LayerNorm) and part.bias is None:
            raise ValueError(f"expected LayerNorms with a weight and a bias, found {part} as {name}")
        for setting, value in settings.items():
            if (found := getattr(part, setting, value)) != value:
                raise ValueError(f"expected {setting} {value}, found {found} in {name or kind}")


def activation_of(model):
    """The `mlp` of `ModernConfig` that computes what each MLP of timm's `model` does. Raises `ValueError` for none."""
    x, found = torch.linspace(-4, 4, 33), set()
    known = {"gelu": F.gelu(x), "gelu_tanh": F.gelu(x, approximate="tanh"), "swiglu": F.silu(x)}
    for mlp in (part for part in model.modules() if type(part).__name__ in ("Mlp", "SwiGLU", "GluMlp")):
        kind = type(mlp).__name__
        name = next((name for name, y in known.items() if torch.allclose(mlp.act(x.clone()), y, atol=1e-6)), None)
        gated = kind == "SwiGLU" or (kind == "GluMlp" and not mlp.gate_last)
        if name is None or gated != (name == "swiglu"):
            raise ValueError(
                f"expected exact GELU between the layers of the MLP, tanh GELU or SwiGLU, found {kind} with {mlp.act}"
            )
        found.add(name)
    if len(found) > 1:
        raise ValueError(f"expected the same MLP everywhere, found {' and '.join(sorted(found))}")
    return found.pop()


def rotary_of(rope, grid, embed_dim, num_heads):
    """`rope` and `rope_temperature` for the angles of timm's module `rope`, and where each of our head's numbers is.

    Raises `ValueError` for other angles than ours on this grid, or on another: EVA-02 stretches its places.
    """
    d = head_width(embed_dim, num_heads)
    kind = {"RotaryEmbeddingDinoV3": "dinov3", "RotaryEmbeddingCat": "axial"}.get(type(rope).__name__)
    order = torch.arange(d // 2)
    if getattr(rope, "grid_indexing", "ij") == "xy":  # the columns' angles first
        order = order.roll(d // 4)
    halves = getattr(rope, "rotate_half", False)  # else a pair stands side by side
    order = torch.cat([order, order + d // 2] if halves else [2 * order, 2 * order + 1])
    stretched = getattr(rope, "ref_feat_shape", None) or getattr(rope, "normalize_coords", "separate") != "separate"
    if kind and rope.temperature and not stretched:  # as ours at every size
        ours = RotaryEmbedding(d, kind, float(rope.temperature)).get_embed(grid)
        training = rope.training
        theirs = rope.eval().get_embed(list(grid)).cpu()  # training may jitter the places
        rope.train(training)
        near = max(1e-4, torch.finfo(theirs.dtype).eps)  # a model of 16 bits keeps them so
        if torch.allclose(theirs[:, torch.cat([order, order + d])].float(), ours, atol=near):
            return {"rope": kind, "rope_temperature": float(rope.temperature)}, order
    raise ValueError(f"expected rotary positions as in DINOv3 or axial ones of places 0, 1, 2, ..., found {rope}")


def eva_state(model):
    """The weights of timm's `Eva` under our names, and the entries of `ModernConfig` that they do not show."""
    state = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name): value for name, value in model.state_dict().items()}
    state = {re.sub(r"\.([qkv])_proj\.", r".\1.", name): value for name, value in state.items()}
    for name in [name for name in state if name.endswith(".q_bias")]:
        q, v = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(q), v])
    if model.rope is None:
        return state, {}
    attn = model.blocks[0].attn
    said, order = rotary_of(model.rope, model.patch_embed.grid_size, model.embed_dim, attn.num_heads)
    return {name: reordered(name, value, order, model.embed_dim) for name, value in state.items()}, said


def reordered(name, value, order, D):
    """`value` with the rows that make queries and keys in our order within each head: the products stay the same."""
    if re.search(r"\.attn\.[qk]_norm\.", name):
        return value[order]
    rows = {".attn.qkv.": 2 * D, ".attn.q.": D, ".attn.k.": D}
    n = next((n for part, n in rows.items() if part in name), 0)
    turned = value[:n].unflatten(0, (-1, len(order)))[:, order].flatten(0, 1) if n else value[:0]
    return torch.cat([turned, value[n:]]) if n else value


def modern_state(state, config, classifies):
    """The weights of a transformers model of one of the `KINDS` under our names, and what they do not show.

    `config` is as `transformers_settings` gives it. SigLIP's classifier reads the mean of the patches, not the pooling.
    """
    gated = any(".mlp.gate_proj." in name or ".mlp.weights_in." in name for name in state)
    names = (*NAMES, (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if gated else ".mlp.fc1."))
    ours, said = {}, {}
    for name, value in state.items():
        words = re.match(r"text_model\.|logit_(scale|bias)$", name)
        if not words and not name.endswith("mask_token") and value.numel():  # no registers are 0 of them
            for pattern, new in names:
                name = re.sub(pattern, new, name)
            ours[name] = value
    if any(".mlp.weights_in." in name for name in state):
        ours = unpacked(ours)
    if config["model_type"] == "dinov3_vit":
        biases = {part: config[f"{name}_bias"] for part, name in zip("qkv", ("query", "key", "value"), strict=True)}
        ours = with_biases(ours, [part for part, has in biases.items() if not has])
        said = {"rope": "dinov3", "rope_temperature": config["rope_theta"], "position": "none", "cls_position": False}
    if config["model_type"] == "siglip_vision_model":
        if "pos_embed" in ours:
            ours["pos_embed"] = ours["pos_embed"][None]
        if config["hidden_act"] != "gelu":
            said["mlp"] = "gelu_tanh"
        classifies = classifies or "head.weight" in ours
        ours = {name: value for name, value in ours.items() if not (classifies and name.startswith("attn_pool."))}
        if "attn_pool.latent" in ours:
            said["patch_mean"] = "map"
    elif not config.get("qkv_bias", True):
        ours = with_biases(ours, "qkv")
    for name in [name for name in ours if name.startswith("attn_pool.qkv.")]:  # timm has two matrices
        q, k, v = ours.pop(name).chunk(3)
        ours |= {name.replace("qkv", "q"): q, name.replace("qkv", "kv"): torch.cat([k, v])}
    return ours, said
