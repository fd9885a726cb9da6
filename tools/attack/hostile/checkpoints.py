"""Files of weights that are broken or lie, and configs that no model can have."""

import io
import json
import pickle
import struct
from dataclasses import asdict, replace

import torch
from safetensors.torch import save

from vit_tutorial import VisionTransformer, weights
from vit_tutorial.training import mae

from .case import CONFIG, Harmful, cases, in_file, tenths

torch.manual_seed(0)
STATE = VisionTransformer(CONFIG).state_dict()


def checkpoint(state=STATE, config=None, **metadata):
    """The bytes of a checkpoint; `config` are changes to the right one."""
    values = json.dumps(asdict(CONFIG) | (config or {}))
    return save(state, {"format": weights.FORMAT, "config": values} | metadata)


def without_config(**metadata):
    return save(STATE, {"format": weights.FORMAT} | metadata)


def tensors(header, data=b""):
    """A safetensors file with this header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def one_tensor(**changes):
    return tensors({"a": ONE | changes}, bytes(16))


def torch_saved(value):
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


ONE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
UNREADABLE = {
    "empty": b"",
    "a pickle": pickle.dumps(Harmful()),
    "a file of torch.save": torch_saved(STATE),
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + bytes(100),
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header of 150 MB": lambda: tensors(b" " * 150_000_000 + b"{}"),
    "a header that is no JSON": tensors(b"hello"),
    "a header that is a list": tensors([1]),
    "a header 100,000 deep": tensors(b"[" * 100_000),
    "an unknown dtype": one_tensor(dtype="F128"),
    "offsets beyond the end": one_tensor(data_offsets=[0, 10**12]),
    "offsets backwards": one_tensor(data_offsets=[16, 0]),
    "offsets that overlap": tensors({"a": ONE, "b": ONE}, bytes(16)),
    "a shape of 2^80 numbers": one_tensor(shape=[2**40, 2**40]),
    "metadata that is no text": tensors({"__metadata__": {"format": 1}, "a": ONE}, bytes(16)),
}
LESS = {name: value for name, value in STATE.items() if name != "norm.weight"}
FILES = {
    "no metadata": (save(STATE), "format None"),
    "another format": (checkpoint(format="pt"), "format 'pt'"),
    "a weight missing": (checkpoint(LESS), "missing norm"),
    "a weight too many": (checkpoint(STATE | {"extra": torch.zeros(1)}), "surplus extra"),
    "another shape": (checkpoint(STATE | {"head.bias": torch.zeros(7)}), "misshaped head.bias"),
    "a weight of no numbers": (checkpoint(STATE | {"head.bias": torch.zeros(0)}), "misshaped head.bias"),
    "NaN": (checkpoint(STATE | {"norm.bias": torch.full((12,), torch.nan)}), "finite.* norm.bias"),
    "infinity": (checkpoint(STATE | {"head.bias": torch.full((2,), torch.inf)}), "finite.* head.bias"),
    "no config": (without_config(), "a model config inside"),
    "a config that is no JSON": (without_config(config="{"), "config"),
    "a config that is a list": (without_config(config="[1]"), "config"),
    "a config 100,000 deep": (without_config(config="[" * 100_000), "config"),
    "an unknown setting": (checkpoint(config={"colour": "red"}), "config"),
    "an eps that is no number": (checkpoint(norm_eps='"a"'), "eps|config"),
    "an eps that is NaN": (checkpoint(norm_eps="NaN"), "eps|config"),
    "an eps below 0": (checkpoint(norm_eps="-1"), "eps|config"),
    **tenths("{}", checkpoint(), "un"),
}
CONFIGS = {
    "image_size": ["16", None, 0, -16, [16], [16, 16, 16], 10**9, 16.0, [16, "16"]],
    "patch_size": ["4", 0, None, 10**9],
    "in_channels": [10**9, -1, None, True],
    "num_classes": [10**12, 0, "2", 2.0],
    "embed_dim": [10**9, 24, None, "12"],
    "depth": [10**9, 3, 1, -1, 2.5],
    "num_heads": [0, 5, "3", None],
    "mlp_ratio": [10**9, -1, "4", None, float("nan"), float("inf")],
    "dropout": [2, -1, "0", None, float("nan")],
    "drop_path": [1.0, "0"],
    "pool": ["max", None, 1],
    "position": ["fourier", []],
    "mean": [[1], "abc", None, [None] * 3, [float("nan")] * 3],
    "std": [[0.0] * 3, [-1.0] * 3, "abc", 5],
    "classes": [["a"], "ab", 5, [1, 2]],
    "value_range": [[0, float("nan")], [9, 1], [1], "ab", 5, ["0", "1"], [0, 10**400], [0, float("inf")], {}],
}
MODERN = {  # of a ModernConfig, which "registers" tells
    "registers": [-1, 4, 10**12, "four", 2.5, True, None],
    "layer_scale": ["a", [], float("nan"), 0.1],
    "norm": ["batch", "rms", None],
    "qk_norm": ["yes", True, None],
    "mlp": ["relu", "swiglu", []],
    "rope": ["spiral", None],
    "rope_temperature": [0, -1, "a", float("nan")],
    "cls_position": ["no", False],
}
CHANGES = [{setting: value} for setting, values in CONFIGS.items() for value in values]
CHANGES += [{"registers": 0} | {setting: value} for setting, values in MODERN.items() for value in values]


def name_of(change):
    return " ".join(str(word) for word in [*change.items()][-1])


AUTOENCODER = mae.MaskedAutoencoder(VisionTransformer(replace(CONFIG, num_classes=12)), decoder_dim=16).state_dict()
SETTINGS = {"mask_ratio": 0.75, "decoder_dim": 16, "decoder_depth": 1, "normalise": True}
DAMAGED = {
    "mask_ratio": [2, "a", None, float("nan")],
    "decoder_dim": [10**12, -16, 18, "16", None],
    "decoder_depth": [10**9, 0, 1.5, "1"],
    "colour": ["red"],
    "vit": [1],
}


def autoencoder(change, state=AUTOENCODER):
    config = {"num_classes": 12}
    return checkpoint(state, config, format=mae.FORMAT, settings=json.dumps(SETTINGS | change))


AUTOENCODERS = {
    "weights alone": (checkpoint(), "written by vit_tutorial.training.mae.save, found"),
    "no settings": (checkpoint(AUTOENCODER, {"num_classes": 12}, format=mae.FORMAT), "a model config inside"),
    "a pickle": (pickle.dumps(Harmful()), "unreadable"),
    "another part": (autoencoder({}, AUTOENCODER | {"x.y": torch.zeros(1)}), "a model config inside"),
    "NaN": (autoencoder({}, AUTOENCODER | {"decoder.norm.bias": torch.full((16,), torch.nan)}), "finite"),
    **{f"{name} {v}": (autoencoder({name: v}), "config inside") for name, values in DAMAGED.items() for v in values},
}
load_autoencoder = in_file("mae.safetensors", lambda file: f"read: {mae.load(file)}")
load = in_file("model.safetensors", lambda file: f"read: {len(weights.load(file).state_dict())} tensors")
CASES = [
    *cases("checkpoints", load, "error", {n: (data, "unreadable") for n, data in UNREADABLE.items()}, ["of 150 MB"]),
    *cases("checkpoints", load, "error", FILES),
    *cases("checkpoints", load_autoencoder, "error", {f"mae: {n}": case for n, case in AUTOENCODERS.items()}),
    *cases("checkpoints", load_autoencoder, "read", {"mae: as it was saved": (autoencoder({}), "MaskedAutoencoder")}),
    *cases("configs", load, "error", {name_of(c): (checkpoint(config=c), "expected") for c in CHANGES}),
]
