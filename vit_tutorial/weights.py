"""Weights in and out: safetensors checkpoints of our own, and models of torchvision and timm as ours.

Nothing here unpickles. State-dict names are timm's, so a timm model's weights load as they are.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

from .files import atomic_path
from .model import VisionTransformer, ViTConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMAT = "vit_tutorial 1"

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
    (r"^heads\.head\.", "head."),
)


def load_state(model, state):
    """Copy `state` into `model`, every entry exactly once.

    Raises `ValueError` that lists every missing, surplus and misshaped entry; the model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own if name not in state]
    problems += [f"surplus {name} {tuple(state[name].shape)}" for name in state if name not in own]
    problems += [
        f"misshaped {name}: expected {tuple(own[name].shape)}, found {tuple(state[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if problems:
        raise ValueError(f"expected weights of {model.config}, found:\n  " + "\n  ".join(problems))
    model.load_state_dict(state)
    return model


def converted(config, state, source):
    """Our model with `config` and another library's weights, in the other model's mode and on its device."""
    weight = next(source.parameters())
    model = VisionTransformer(config).to(device=weight.device, dtype=weight.dtype)
    return load_state(model, state).train(source.training)


def from_torchvision(model):
    """Our `VisionTransformer` with the weights of a torchvision `VisionTransformer`; the logits are the same.

    Normalisation is ImageNet's, as torchvision's ViT weights expect. Raises `ValueError` where the layers differ.
    """
    layers = model.encoder.layers
    config = ViTConfig(
        image_size=model.image_size,
        patch_size=model.patch_size,
        in_channels=model.conv_proj.in_channels,
        num_classes=model.num_classes,
        embed_dim=model.hidden_dim,
        depth=len(layers),
        num_heads=layers[0].num_heads,
        mlp_ratio=model.mlp_dim / model.hidden_dim,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    state = {}
    for name, value in model.state_dict().items():
        for pattern, ours in TORCHVISION_NAMES:
            name = re.sub(pattern, ours, name)
        state[name] = value
    return converted(config, state, model)


def from_timm(model):
    """Our `VisionTransformer` with the weights of a timm `VisionTransformer`; the logits are the same.

    Takes models that read the class token, or the mean of normalised tokens without a class token (`class_token=False,
    global_pool="avg", fc_norm=False`). Normalisation is the model's own. Raises `ValueError` where the layers differ.
    """
    block, cls = model.blocks[0], model.cls_token is not None
    pretrained = getattr(model, "pretrained_cfg", {})  # timm's own record; absent where the class was called directly
    if model.global_pool != ("token" if cls else "avg"):
        raise ValueError(
            f"expected global_pool='token' with a class token or 'avg' without one, found {model.global_pool!r} "
            f"{'with' if cls else 'without'} a class token"
        )
    if block.norm1.eps != 1e-6:
        raise ValueError(f"expected LayerNorm with eps 1e-6, found {block.norm1.eps}")
    config = ViTConfig(
        image_size=model.patch_embed.img_size,
        patch_size=model.patch_embed.patch_size[0],
        in_channels=model.patch_embed.proj.in_channels,
        num_classes=model.num_classes,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
        pool="cls" if cls else "mean",
        mean=tuple(pretrained.get("mean", IMAGENET_MEAN)),
        std=tuple(pretrained.get("std", IMAGENET_STD)),
    )
    return converted(config, model.state_dict(), model)


def save(model, path, half=False):
    """Write weights and config into one safetensors file, atomically; `half=True` stores 16-bit floats."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {name: value.half() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"format": FORMAT, "config": json.dumps(asdict(model.config))})


def load(path):
    """The `VisionTransformer` that `save` wrote, as float32, in evaluation mode.

    Raises `FileNotFoundError` where there is no such file and `ValueError` where it is no checkpoint of this course.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no file; train one with vit-tutorial train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"expected a safetensors checkpoint, found {path.name} unreadable ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"expected a checkpoint written by vit_tutorial.weights.save, found {path.name} with "
            f"format {metadata.get('format')!r}"
        )
    try:
        values = json.loads(metadata["config"])
        config = ViTConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected a model config inside {path.name}, found a damaged one ({error})") from None
    return load_state(VisionTransformer(config), state).eval()
