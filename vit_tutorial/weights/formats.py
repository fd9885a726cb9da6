"""Models of torchvision, timm and transformers as ours, and ours as theirs: the same numbers under other names.

Most share one architecture (Dosovitskiy et al. 2021): ViT Ti/S/B/L at any patch size, DeiT without distillation
(Touvron et al. 2021), AugReg (Steiner et al. 2022), SWAG (Singh et al. 2022), the encoders of DINO (Caron et al. 2021)
and MAE (He et al. 2022). Those with later parts become a `ModernViT`: DeiT III (Touvron et al. 2022), DINOv2 (Oquab et
al. 2023), with and without registers, DINOv3 (Simeoni et al. 2025), the image towers of SigLIP (Zhai et al. 2023).
A model without a head becomes ours without one: its `forward` returns the features `(B, D)`.
The eps of LayerNorm is carried both ways: transformers' default is 1e-12, everybody else's 1e-6, and the logits show
it. Dropout rates and the jitter of rotary places are not carried: they belong to a training run, not to the weights.
"""

import math
import re
from collections import namedtuple
from dataclasses import asdict
from functools import partial
from importlib import import_module

import torch
from torch import nn

from ..layers import image_sides
from ..model import VisionTransformer, ViTConfig, expect, is_number
from ..modern import ModernConfig, ModernViT
from .checkpoint import build, head_state, load_state, norm_eps, unwrapped
from .modern_formats import (
    KINDS,
    activation_of,
    check_parts,
    eva_state,
    folded,
    modern_parts,
    modern_state,
    unpacked,
    with_biases,
)
from .patch_mean import PatchMeanViT

Statistics = namedtuple("Statistics", "mean std")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TORCHVISION_NAMES = (  # (torchvision's name, ours); each applies to the name that the one before it left
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.(head\.)?", "head."),
)
TRANSFORMERS_NAMES = (  # version 5's modules, and version 4's, which are also the names in the hub's files
    (r"^vit\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(attention\.)?([qkv])(_proj|uery|ey|alue)\.", r".attn.\2."),  # one matrix each; ours is the stack
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
STATISTICS = (("image_mean", 0.0), ("image_std", 1.0))  # of a processor, and what changes nothing
TRANSFORMERS_MODELS = re.compile(
    r"(ViT|ViTMAE|Dinov2|Dinov2WithRegisters|DINOv3ViT|Siglip|SiglipVision)Model|(ViT|Siglip)ForImageClassification|"
    r"ViTMAEForPreTraining"
)
TRANSFORMERS_DEFAULTS = {"image_size": 224, "num_attention_heads": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}


def library(name):
    """An optional library. Raises `ImportError` that says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise ImportError(f"expected the package {package}, found none; run: pip install {package}") from None


def renamed(name, names):
    """Our name for a weight of another library."""
    for pattern, ours in names:
        name = re.sub(pattern, ours, name)
    return name


def one_kind(model, expected):
    """Raise `ValueError` unless the class of `model` is exactly `expected`: a subclass may compute anything."""
    if type(model) is not expected:
        raise ValueError(
            f"expected {expected.__module__.partition('.')[0]}'s {expected.__name__}, found {type(model).__name__}; "
            "distilled, hybrid and windowed models have other layers than ours"
        )


def plain(state, head):
    """`state` under our names, with the weights of the module `head` as its head's."""
    return {name: value for name, value in state.items() if not name.startswith("head.")} | head_state(head)


def converted(
    state, image_size, num_heads, eps, mean=IMAGENET_MEAN, std=IMAGENET_STD, classes=(), patch_mean=None, **said
):
    """Our model from weights under our names; all that they show by their shapes is read off them.

    Where there are not three channels, pixels are normalised with 0.5: the libraries have no convention for those.
    `patch_mean` is as for `build`. `said` are entries of `ModernConfig` that shapes do not show; where all of them and
    all that the weights show are the plain model's, it is the plain model.
    """
    try:
        D, C, P, _ = state["patch_embed.proj.weight"].shape
        hidden = len(state.get("blocks.0.mlp.fc1_g.weight", state.get("blocks.0.mlp.fc1.weight", ())))
        if not hidden:
            raise KeyError("mlp")
    except (KeyError, ValueError):
        found = ", ".join(list(state)[:6]) or "none"
        raise ValueError(f"expected the weights of a Vision Transformer, found these first: {found}") from None
    if isinstance(image_size, (list, tuple)):
        image_size = image_size[0] if len(set(image_size)) == 1 else tuple(image_size)
    ratio = hidden / D
    config = ViTConfig(
        image_size=image_size,
        patch_size=P,
        in_channels=C,
        num_classes=len(state["head.weight"]) if "head.weight" in state else D,
        embed_dim=D,
        depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        num_heads=num_heads,
        mlp_ratio=ratio if int(D * ratio) == hidden else math.nextafter(ratio, math.inf),  # int rounds down
        pool="cls" if "cls_token" in state else "mean",
        mean=tuple(mean) if len(mean) == C else (0.5,) * C,
        std=tuple(std) if len(std) == C else (0.5,) * C,
        classes=classes,
    )
    weight, patches = state["patch_embed.proj.weight"], config.grid[0] * config.grid[1]
    settings = asdict(config) | modern_parts(state, patches) | said
    modern = ModernConfig(**settings)
    if patch_mean == "map" or modern != ModernConfig(**asdict(config)):
        config = modern
    if config.position == "none":
        state = {"pos_embed": weight.new_zeros(1, patches, D)} | state
    return build(config, state, eps, patch_mean).to(device=weight.device, dtype=weight.dtype)


def from_torchvision(model):
    """Our `VisionTransformer` with the weights of a torchvision `VisionTransformer`; the logits are the same.

    Normalisation is ImageNet's, as all of torchvision's ViT weights expect. Raises `ValueError` where layers differ.
    """
    model = unwrapped(model)
    one_kind(model, library("torchvision.models.vision_transformer").VisionTransformer)
    state = {renamed(name, TORCHVISION_NAMES): value for name, value in model.state_dict().items()}
    state = plain(state, model.heads)
    heads = model.encoder.layers[0].num_heads
    return converted(state, model.image_size, heads, norm_eps(model)).train(model.training)


def pooling(model):
    """What the head of a timm model reads, as the `patch_mean` of `build`; and whether the last norm is behind that.

    Raises `ValueError` for what ours do not read.
    """
    cls, norm_last = model.cls_token is not None, not isinstance(model.fc_norm, nn.Identity)
    pool, eva = model.global_pool, type(model).__name__ == "Eva"
    all_read = model.num_prefix_tokens and getattr(model, "pool_include_prefix", eva and pool == "map")
    if pool not in ("token", "avg", "map") or (pool == "map" and norm_last) or (pool != "token" and all_read):
        raise ValueError(
            f"expected global_pool 'token' or 'avg', or 'map' that reads normalised patches, found {pool!r}"
            f"{' of all tokens' if all_read else ''}; ours pools in no other way"
        )
    if norm_last != isinstance(model.norm, nn.Identity):
        raise ValueError(f"expected a norm before the head, found {'two' if norm_last else 'none'}")
    mean = ("norm last" if norm_last else "norm first") if pool == "avg" and (cls or norm_last) else None
    return "map" if pool == "map" else mean


def from_timm(model):
    """Our model with the weights of a timm `VisionTransformer` or `Eva`; the logits, or features, are the same.

    A plain one becomes a `VisionTransformer`; one with registers, LayerScale, RMSNorm, normalised queries and keys,
    SwiGLU, rotary positions or positions without a class token's a `ModernViT`: DeiT III, DINOv2, DINOv3, SigLIP. Where
    the head reads the mean of the patches, before or after the last norm, or pools them by attention, it is a
    `PatchMeanViT` or a `PatchPoolViT`. A model made without biases of queries, keys and values gets zeros,
    which training then moves like any bias.
    Normalisation is the model's own (`pretrained_cfg`), or ImageNet's where it has none.
    Raises `ValueError` where a layer or a setting of one differs: distilled DeiT, CLIP and EVA-02 B, for example.
    """
    timm, eva = library("timm.models.vision_transformer"), library("timm.models.eva")
    model = unwrapped(model)
    modern = type(model) is eva.Eva
    one_kind(model, eva.Eva if modern else timm.VisionTransformer)
    one_kind(model.patch_embed, timm.PatchEmbed)
    block = model.blocks[0]
    one_kind(block, eva.EvaBlock if modern else timm.Block)
    patch_mean = pooling(model)
    check_parts(model)
    state, said = eva_state(model) if modern else (model.state_dict(), {})
    said["mlp"] = activation_of(model)
    if model.pos_embed is None:
        said |= {"position": "none", "cls_position": model.cls_token is None}
    if said["mlp"] == "swiglu" and type(block.mlp).__name__ == "GluMlp":
        state = unpacked(state)
    state = folded(plain(stacked(with_biases(state)), model.head), model.patch_embed.num_patches)
    state = {re.sub("^fc_norm", "norm", name): value for name, value in state.items()}
    mean, std = statistics(model)
    image_size, heads = model.patch_embed.img_size, block.attn.num_heads
    ours = converted(state, image_size, heads, norm_eps(model), mean, std, patch_mean=patch_mean, **said)
    return ours.train(model.training)


def transformers_settings(config):
    """The config dict of a transformers model with its defaults. Raises `ValueError` where ours cannot be it."""
    if config.get("model_type") == "siglip":  # words and pictures: the picture's part
        labels = {"id2label": config.get("id2label")}
        config = {"model_type": "siglip_vision_model"} | (config.get("vision_config") or {}) | labels
    kind = config.get("model_type")
    config = KINDS.get(kind, TRANSFORMERS_DEFAULTS) | config
    if kind not in ("vit", "vit_mae", *KINDS):
        hint = ": a DeiT with a distillation token" if kind == "deit" else ""
        raise ValueError(
            f"expected a transformers model of type 'vit', 'vit_mae', {str([*KINDS])[1:-1]}, found {kind!r}{hint}"
        )
    eps = config["layer_norm_eps"]
    expect(is_number(eps) and 0 <= eps < 1, "a layer_norm_eps from 0 up to 1", eps)
    act, gated = config["hidden_act"], config.get("use_gated_mlp", False)
    if act != ("silu" if gated else "gelu") and (gated or kind != "siglip_vision_model" or act != "gelu_pytorch_tanh"):
        expected = "SwiGLU (hidden_act 'silu')" if gated else "exact GELU (hidden_act 'gelu')"
        raise ValueError(f"expected {expected}, found {act!r}")
    return config


def stacked(state):
    """`state` with each block's `attn.q`, `attn.k` and `attn.v` as the one `attn.qkv` (rows of q, then k, then v)."""
    state = dict(state)
    for name in list(state):
        parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if ".attn.q." in name and all(part in state for part in parts):
            state[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state.pop(part) for part in parts])
    return state


def from_transformers(model, config=None, processor=None):
    """Our `VisionTransformer` with the weights of a transformers model; the logits, or features, are the same.

    Takes `ViTForImageClassification`, `ViTModel`, `ViTMAEModel` and `ViTMAEForPreTraining`, of version 4 or 5; and as a
    `ModernViT` `Dinov2Model`, `Dinov2WithRegistersModel`, `DINOv3ViTModel` and the image's part of SigLIP: the
    model, or the state dict of a hub file with `config`, the dict of its `config.json`. Our `forward` equals `.logits`,
    or where there is no classifier `last_hidden_state[:, 0]`, for SigLIP `pooler_output`. `processor`, an image
    processor or the dict of `preprocessor_config.json`, says how pixels are normalised. Without it mean and std are
    ImageNet's for MAE and DINOv2 and v3, 0.5 for SigLIP and for ViT, transformers' own default; DINO and DeiT expect
    ImageNet's, so pass their processor.
    Some parts are left out: the pooler of `ViTModel`, the decoder of MAE, mask tokens, and SigLIP's text encoder.
    `set_image_size` interpolates positions as timm does; `Dinov2Model` and SigLIP's do it without antialiasing.
    Raises `ValueError` where the layers differ.
    """
    if module := isinstance(model, nn.Module):
        model = unwrapped(model)
    if not module and config is None:
        raise ValueError("expected the dict of config.json beside a state dict, found None")
    if module and not hasattr(getattr(model, "config", None), "to_dict"):
        raise ValueError(f"expected a transformers model, found {type(model).__name__}")
    c = transformers_settings(model.config.to_dict() if module else config)
    kind, library_name = type(model).__name__, type(model).__module__.partition(".")[0]
    if module and (library_name != "transformers" or not TRANSFORMERS_MODELS.fullmatch(kind)):
        raise ValueError(f"expected transformers' {c['model_type']} itself, found {kind}, which may compute more")
    state, said = (model.state_dict() if module else model), {}
    if c["model_type"] in KINDS:
        state, said = modern_state(state, c, classifies=hasattr(model, "classifier"))
    state = {
        renamed(name, TRANSFORMERS_NAMES): value
        for name, value in state.items()
        if not name.startswith(("pooler.", "vit.pooler.", "decoder."))
    }
    if module:
        state = plain(state, getattr(model, "classifier", nn.Identity()))
    half = c["model_type"] in ("vit", "siglip_vision_model")
    mean, std = ((0.5,) * 3, (0.5,) * 3) if half else (IMAGENET_MEAN, IMAGENET_STD)
    if processor is not None:
        mean, std = processor_statistics(processor if isinstance(processor, dict) else processor.to_dict())
    labels = {int(i): label for i, label in (c.get("id2label") or {}).items()}
    classes = tuple(labels[i] for i in sorted(labels))
    if "head.weight" not in state or classes == tuple(f"LABEL_{i}" for i in range(len(classes))):
        classes = ()  # no head, or names that only count
    heads, eps = c["num_attention_heads"], c["layer_norm_eps"]
    ours = converted(stacked(state), c["image_size"], heads, eps, mean, std, classes, **said)
    return ours.train(module and model.training)


def processor_statistics(processor):
    """Mean and standard deviation on the [0, 1] scale by which a processor's dict normalises pixels, three of each.

    `normalise` with these computes what the processor does to bytes: also where it does not rescale them to [0, 1],
    rescales them by another factor, or does not normalise. Raises `ValueError` for what are no such numbers.
    """
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1
    normalises = processor.get("do_normalize", True)
    mean, std = (processor.get(name, 0.5) if normalises else default for name, default in STATISTICS)
    try:
        return tuple(
            tuple(value / (255 * factor) for value in (values if isinstance(values, (list, tuple)) else [values] * 3))
            for values in (mean, std)
        )
    except (TypeError, ZeroDivisionError, OverflowError):
        raise ValueError(
            f"expected a processor with numbers as image_mean, image_std and rescale_factor, found {mean!r:.60}, "
            f"{std!r:.60} and {factor!r:.60}"
        ) from None


def as_ours(model):
    """Our `VisionTransformer` with the weights of `model`: ours itself, or made from another library's.

    What `torch.compile` or a parallel wrapper stands around is taken out. Raises `ValueError` where ours cannot be it.
    """
    model = unwrapped(model)
    if isinstance(model, VisionTransformer):
        return model
    convert = {"timm": from_timm, "torchvision": from_torchvision, "transformers": from_transformers}
    library_name = type(model).__module__.partition(".")[0]
    if library_name not in convert:
        raise ValueError(
            "expected a VisionTransformer of this course, of timm, torchvision or transformers, "
            f"found {type(model).__name__}"
        )
    return convert[library_name](model)


def statistics(model):
    """The `mean` and `std` for `normalise` that belong to one of our models or of timm's, on the [0, 1] scale.

    ImageNet's where timm recorded none, 0.5 where that is for another number of channels.
    """
    if isinstance(getattr(model, "config", None), ViTConfig):
        return Statistics(model.config.mean, model.config.std)
    record = getattr(model, "pretrained_cfg", None) or {}  # absent where the class was called directly
    mean, std = record.get("mean", IMAGENET_MEAN), record.get("std", IMAGENET_STD)
    C = model.patch_embed.proj.in_channels
    return Statistics(mean, std) if len(mean) == C else Statistics((0.5,) * C, (0.5,) * C)


def filled(theirs, model, state, names=()):
    """`theirs` with the weights of our `model`, given as `state`; in its mode, of its dtype and on its device."""
    weight, theirs_of = model.pos_embed, {renamed(name, names): name for name in theirs.state_dict()}
    theirs = theirs.to(device=weight.device, dtype=weight.dtype).train(model.training)
    return load_state(theirs, {theirs_of.get(name, name): value for name, value in state.items()})


def outputs(model):
    """How many classes the head of `model` has: 0 where there is no head."""
    return 0 if isinstance(model.head, nn.Identity) else model.config.num_classes


def plain_model(model):
    """`model`, unwrapped. Raises `ValueError` for a `ModernViT`, of which some parts have no weights to be missed."""
    model = unwrapped(model)
    if isinstance(model, ModernViT):
        raise ValueError("expected a plain VisionTransformer, found a ModernViT; weights.save keeps one")
    return model


def to_timm(model):
    """A timm `VisionTransformer` with the weights of our `model`; the logits are the same.

    The normalisation stands in its `pretrained_cfg`, where timm's `resolve_data_config` finds it. Raises `ValueError`
    for a model with more or other layers than `VisionTransformer`.
    """
    model = plain_model(model)
    c, cls = model.config, model.cls_token is not None
    patch_mean = isinstance(model, PatchMeanViT)
    norm_last = patch_mean and model.norm_last
    theirs = library("timm.models.vision_transformer").VisionTransformer(
        img_size=c.image_size,
        patch_size=c.patch_size,
        in_chans=c.in_channels,
        num_classes=outputs(model),
        global_pool="token" if cls and not patch_mean else "avg",
        class_token=cls,
        fc_norm=norm_last,
        embed_dim=c.embed_dim,
        depth=c.depth,
        num_heads=c.num_heads,
        mlp_ratio=c.mlp_ratio,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps(model)),
        weight_init="skip",  # all are filled in
    )
    size = (c.in_channels, *image_sides(c.image_size))
    theirs.pretrained_cfg = {"input_size": size, "mean": c.mean, "std": c.std, "num_classes": outputs(model)}
    return filled(theirs, model, model.state_dict(), [("^fc_norm", "norm")] if norm_last else ())


def reads_class_token(model):
    """`model`, unwrapped. Raises `ValueError` where its head reads the patches: only timm's class can do that too."""
    model = plain_model(model)
    if model.cls_token is None or isinstance(model, PatchMeanViT):
        raise ValueError(
            "expected a head that reads a class token, found one that reads the patches; use weights.to_timm"
        )
    return model


def to_torchvision(model):
    """A torchvision `VisionTransformer` with the weights of our `model`: the same logits for the same pixels.

    It has no place for the normalisation: keep `model.config.mean` and `.std`. Raises `ValueError` for what that class
    cannot be: images that are not square or not of three channels, a model without a class token.
    """
    model = reads_class_token(model)
    c = model.config
    rows, columns = image_sides(c.image_size)
    if rows != columns or c.in_channels != 3:
        raise ValueError(
            f"expected square images of 3 channels, as torchvision's class needs, found {rows} x {columns} and "
            f"{c.in_channels} channels; use weights.to_timm"
        )
    theirs = library("torchvision.models.vision_transformer").VisionTransformer(
        image_size=rows,
        patch_size=c.patch_size,
        num_layers=c.depth,
        num_heads=c.num_heads,
        hidden_dim=c.embed_dim,
        mlp_dim=model.blocks[0].mlp.fc1.out_features,
        num_classes=c.num_classes,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps(model)),
    )
    if not outputs(model):
        theirs.heads = nn.Identity()
    return filled(theirs, model, model.state_dict(), TORCHVISION_NAMES)


def to_transformers(model):
    """A transformers `ViTForImageClassification` (without a head a `ViTModel`) with the weights of our `model`.

    The same logits; class names become `id2label`. The normalisation belongs to transformers' image processor: give
    it `image_mean=model.config.mean, image_std=model.config.std`. Raises `ValueError` without a class token.
    """
    model = reads_class_token(model)
    c = model.config
    transformers = library("transformers")
    config = transformers.ViTConfig(
        image_size=c.image_size if isinstance(c.image_size, int) else list(c.image_size),
        patch_size=c.patch_size,
        num_channels=c.in_channels,
        hidden_size=c.embed_dim,
        num_hidden_layers=c.depth,
        num_attention_heads=c.num_heads,
        intermediate_size=model.blocks[0].mlp.fc1.out_features,
        layer_norm_eps=norm_eps(model),
        id2label=dict(enumerate(c.classes or [f"LABEL_{i}" for i in range(outputs(model))])),
    )
    if outputs(model):
        theirs = transformers.ViTForImageClassification(config)
    else:
        theirs = transformers.ViTModel(config, add_pooling_layer=False)
    state = {}
    for name, value in model.state_dict().items():
        parts = value.chunk(3) if ".attn.qkv." in name else [value]
        state |= {name.replace(".qkv.", f".{letter}."): part for letter, part in zip("qkv", parts, strict=False)}
    return filled(theirs, model, state, TRANSFORMERS_NAMES)
