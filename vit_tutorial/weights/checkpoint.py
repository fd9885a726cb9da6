"""Our own checkpoints: weights and config in one safetensors file, checked entry by entry when it is read."""

import json
import re
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..dense import UPSAMPLING, SegmentationViT
from ..files import atomic_path
from ..model import VisionTransformer, ViTConfig
from ..modern import ModernConfig, ModernViT, RMSNorm
from .patch_mean import PatchMeanViT
from .patch_pool import READS, PatchPoolViT

FORMAT = "vit_tutorial 1"
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
NAMES = re.compile(  # of all that a model has, and so a checkpoint
    r"cls_token|reg_token|pos_embed|attn_pool\.latent|blocks\.\d+\.ls[12]\.gamma|"
    r"(patch_embed\.proj|norm|head|attn_pool\.(q|kv|proj|norm|mlp\.fc[12])|"
    r"blocks\.\d+\.(norm[12]|attn\.(qkv|proj|[qk]_norm)|mlp\.(fc[12]|fc1_[gx])))\.(weight|bias)"
)
NORMS = (nn.LayerNorm, RMSNorm)


def unwrapped(model):
    """The model that `torch.compile`, DataParallel, DistributedDataParallel or an average of weights stands around."""
    while True:
        if "_orig_mod" in model._modules:  # torch.compile
            model = model._orig_mod
        elif isinstance(model, WRAPPERS):
            model = model.module
        else:
            return model


def head_state(head):
    """The weights of the one linear layer in `head`, as `{"head.weight": ..., "head.bias": ...}`; dropout has none.

    Empty where there is no layer. Raises `ValueError` for any other layer.
    """
    layers = [m for m in head.modules() if not isinstance(m, (nn.Sequential, nn.Dropout, nn.Identity))]
    if len(layers) > 1 or any(not isinstance(layer, nn.Linear) for layer in layers):
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(f"expected a head of one linear layer, with or without dropout, found {found}")
    return {f"head.{name}": value for layer in layers for name, value in layer.state_dict().items()}


def norm_eps(model):
    """The one `eps` of all norms in `model`. Raises `ValueError` where they have none or several."""
    found = {m.eps for m in model.modules() if isinstance(m, NORMS) or type(m).__name__ == "RmsNorm"}  # timm's
    if len(found) != 1:
        raise ValueError(f"expected LayerNorms with one eps, found {sorted(found) or 'no LayerNorm'}")
    return found.pop()


def load_state(model, state):
    """Copy `state` into `model`, every entry exactly once.

    Raises `ValueError` that lists what is missing, surplus and misshaped, at most eight; the model is then unchanged.
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
        config = getattr(model, "config", None)
        kind = replace(config, classes=()) if isinstance(config, ViTConfig) else type(model).__name__
        problems[8:] = [f"and {len(problems) - 8} more"] if len(problems) > 8 else []
        raise ValueError(f"expected weights of {kind}, found:\n  " + "\n  ".join(problems))
    model.load_state_dict(state)
    return model


def tuples(values):
    """The dict `values` with tuples for lists, which is what JSON makes of them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def config_of(values):
    """The `ViTConfig`, or `ModernConfig`, whose `asdict` is `values`, perhaps through JSON."""
    return (ModernConfig if "registers" in values else ViTConfig)(**tuples(values))


def build(config, state, eps=1e-6, patch_mean=None):
    """A model with `config` and the weights `state`; each norm adds `eps` under its root.

    `patch_mean` None makes a `VisionTransformer` or, of a `ModernConfig`, a `ModernViT`; "norm first", "norm last" or
    "map" (of a `ModernConfig`) one whose head reads the patches so: a `PatchMeanViT` or a `PatchPoolViT`.
    A state without a head, for a config with as many classes as the width D, gives a model without one: an
    `nn.Identity` stands in its place, and `forward` returns the D features `(B, D)` that a head would read.
    Raises `ValueError` as `load_state` does.
    """
    if isinstance(config, ModernConfig):
        model = ModernViT(config) if patch_mean is None else PatchPoolViT(config, patch_mean)
    else:
        model = VisionTransformer(config) if patch_mean is None else PatchMeanViT(config, patch_mean == "norm last")
    if config.num_classes == config.embed_dim and "head.weight" not in state:
        model.head = nn.Identity()
    for module in model.modules():
        if isinstance(module, NORMS):
            module.eps = eps
    return load_state(model, state)


def save(model, path, half=False):
    """Write weights and config into one safetensors file, atomically; `half=True` stores 16-bit floats.

    Of a compiled or parallel model the one inside it is saved, and of a `SegmentationViT` its ViT with the head for the
    pixels. Raises `ValueError` for what `load` could not read: a model of another kind, with other layers, or whose
    head has not as many outputs as its config has classes.
    """
    model = unwrapped(model)
    pixels = isinstance(model, SegmentationViT)
    vit = unwrapped(model.vit) if pixels else model
    if not isinstance(vit, VisionTransformer):
        raise ValueError(
            f"expected a VisionTransformer of this course, found {type(vit).__name__}; "
            "vit_tutorial.weights.from_timm and its like make one"
        )
    if isinstance(model.config, ModernConfig) and not isinstance(vit, ModernViT):
        raise ValueError(f"expected a ModernViT with a ModernConfig, found a {type(vit).__name__}")
    state = {name.replace("_orig_mod.", ""): value for name, value in vit.state_dict().items()}  # compiled blocks
    state = {name: value for name, value in state.items() if not name.startswith("head.")} | head_state(model.head)
    if other := [name for name in state if not NAMES.fullmatch(name)]:
        raise ValueError(f"expected the weights of a VisionTransformer, found {other[0]} too; merge or remove it first")
    outputs = len(state.get("head.weight", vit.pos_embed[0, 0]))
    if outputs != model.config.num_classes * (model.P**2 if pixels else 1):
        raise ValueError(
            f"expected a head for the {model.config.num_classes} classes of model.config, found {outputs} outputs; "
            "training.new_head(model, classes) sets both"
        )
    if half:
        state = {name: value.half() for name, value in state.items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.config)), "norm_eps": str(norm_eps(model))}
    if isinstance(vit, PatchMeanViT):
        metadata["patch_mean"] = "norm last" if vit.norm_last else "norm first"
    if isinstance(vit, PatchPoolViT):
        metadata["patch_mean"] = vit.reads
    if pixels:
        metadata["segmentation"] = model.upsampling
    write(path, state, metadata)


def load(path):
    """The model that `save` wrote, or that of a run's folder, as float32, in evaluation mode.

    Raises `FileNotFoundError` where there is no such file and `ValueError` where it is no checkpoint of this course.
    """
    path = Path(path)
    path = path / "model.safetensors" if path.is_dir() else path
    state, metadata = read(path, FORMAT, "weights.save")
    with damage_named(path):
        config, eps = described(metadata)
        patch_mean, upsampling = metadata.get("patch_mean"), metadata.get("segmentation")
        if patch_mean not in (None, *READS) or (patch_mean == "map" and type(config) is ViTConfig):
            raise ValueError(f"patch_mean {patch_mean!r:.60}")
        if upsampling not in (None, *UPSAMPLING):
            raise ValueError(f"segmentation {upsampling!r:.60}")
        check_size(config, state, config.patch_size**2 if upsampling == "pixels" else 1)
    if upsampling is None:
        model = build(config, state, eps, patch_mean)
    else:
        model = build_segmentation(config, state, eps, patch_mean, upsampling)
    check_finite(state, path)
    return model.eval()


def build_segmentation(config, state, eps, patch_mean, upsampling):
    """A `SegmentationViT` from what `build` takes; the head in `state` is the one for the pixels."""
    head = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    body = {name: value for name, value in state.items() if not name.startswith("head.")}
    vit = build(replace(config, num_classes=config.embed_dim, classes=()), body, eps, patch_mean)
    model = SegmentationViT(vit, config.num_classes, upsampling)
    model.config = config
    load_state(model.head, head)
    return model


def write(path, state, metadata):
    """Write the tensors in `state` and `metadata`, texts, into one safetensors file, atomically."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata=metadata)


def read(path, format, writer):
    """`(state, metadata)` of a safetensors file of this `format`, tensors as float32. Errors are those of `load`."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no file; train one with vit-tutorial train")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"expected a safetensors checkpoint, found {path.name} unreadable ({error})") from None
    if metadata.get("format") != format:
        raise ValueError(
            f"expected a checkpoint written by vit_tutorial.{writer}, found {path.name} with "
            f"format {metadata.get('format')!r}"
        )
    return state, metadata


def described(metadata):
    """The config in a checkpoint's metadata, and the `eps` of its norms."""
    eps = float(json.loads(metadata.get("norm_eps", "1e-6")))
    if not 0 <= eps < 1:
        raise ValueError(f"eps {eps}")
    return config_of(json.loads(metadata["config"])), eps


@contextmanager
def damage_named(path):
    """An error while a file's metadata are read becomes a `ValueError` that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a model config inside {path.name}, found a damaged one ({error!s:.300})") from None


def check_finite(state, path):
    """Raise `ValueError` for NaN or infinity."""
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"expected finite weights in {path.name}, found NaN or infinity in {len(broken)} of {len(state)}, first "
            f"in {broken[0]}: that training failed; start it anew with a lower learning rate"
        )


def check_size(config, state, per_class=1):
    """Raise `ValueError` for a config of far more parameters than `state` has numbers: no memory is taken for it.

    `per_class` are the outputs of the head for each class.
    """
    rows, columns = config.grid
    D, hidden = config.embed_dim, int(config.embed_dim * config.mlp_ratio)
    patch = config.in_channels * config.patch_size**2
    tokens = rows * columns + getattr(config, "registers", 0)
    parameters = D * (config.depth * (4 * D + 2 * hidden) + patch + tokens + config.num_classes * per_class)
    found = sum(value.numel() for value in state.values())
    if parameters > 4 * found + 10**6 or config.depth > len(state):
        raise ValueError(f"a model of {parameters:,} parameters, {found:,} numbers in the file")
