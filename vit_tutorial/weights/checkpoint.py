"""Our own checkpoints: weights and config in one safetensors file, checked entry by entry when it is read."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from ..files import atomic_path
from ..model import VisionTransformer, ViTConfig

FORMAT = "vit_tutorial 1"


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
        config = getattr(model, "config", None)
        kind = replace(config, classes=()) if isinstance(config, ViTConfig) else type(model).__name__
        raise ValueError(f"expected weights of {kind}, found:\n  " + "\n  ".join(problems))
    model.load_state_dict(state)
    return model


def build(config, state, eps=1e-6):
    """A model with `config` and the weights `state`; each LayerNorm adds `eps` to the variance.

    A state without a head, for a config with as many classes as the width D, gives a model without one: an
    `nn.Identity` stands in its place, and `forward` returns the D features `(B, D)` that a head would read.
    Raises `ValueError` as `load_state` does.
    """
    model = VisionTransformer(config)
    if config.num_classes == config.embed_dim and "head.weight" not in state:
        model.head = nn.Identity()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps
    return load_state(model, state)


def save(model, path, half=False):
    """Write weights and config into one safetensors file, atomically; `half=True` stores 16-bit floats."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {name: value.half() for name, value in state.items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(model.config)), "norm_eps": str(model.norm.eps)}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata=metadata)


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
        eps = float(json.loads(metadata.get("norm_eps", "1e-6")))
        if not 0 <= eps < 1:
            raise ValueError(f"eps {eps}")
        check_size(config, state)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a model config inside {path.name}, found a damaged one ({error!s:.300})") from None
    model = build(config, state, eps).eval()
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"expected finite weights in {path.name}, found NaN or infinity in {len(broken)} of {len(state)}, first "
            f"in {broken[0]}: that training failed; start it anew with a lower learning rate"
        )
    return model


def check_size(config, state):
    """Raise `ValueError` for a config of far more parameters than `state` has numbers: no memory is taken for it."""
    rows, columns = config.grid
    D, hidden = config.embed_dim, int(config.embed_dim * config.mlp_ratio)
    patch = config.in_channels * config.patch_size**2
    parameters = D * (config.depth * (4 * D + 2 * hidden) + patch + rows * columns + config.num_classes)
    found = sum(value.numel() for value in state.values())
    if parameters > 4 * found + 10**6 or config.depth > len(state):
        raise ValueError(f"a model of {parameters:,} parameters, {found:,} numbers in the file")
