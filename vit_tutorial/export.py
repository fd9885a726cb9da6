"""Out of PyTorch: a trained ViT as one ONNX file, which programs without PyTorch can run.

Needs three packages that the course does without otherwise: `missing()` says which, and how to get them.
"""

import copy
import json
import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import nn

from .files import atomic_path
from .layers import image_sides

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def missing():
    """A sentence that says how to get the packages that are not installed here; empty where none is missing."""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    return f"ONNX needs {' and '.join(absent)}: pip install {' '.join(absent)}" if absent else ""


class FromPixels(nn.Module):
    """A ViT with its normalisation in front: takes pixels, uint8 `(B, C, Y, X)`, and returns what the ViT returns."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(model.config, name)).view(1, -1, 1, 1))

    def forward(self, pixels):
        return self.model((pixels / 255 - self.mean) / self.std)


@contextmanager
def quiet():
    """Silence for what the exporter says about its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def to_onnx(model, path, outputs=("logits",)):
    """Write `model` into one ONNX file: "pixels", uint8 `(B, C, Y, X)` in 0..255 for any B, to "logits".

    `outputs` names what `model(images)` returns, where that is more than the logits.
    The normalisation is part of the file, and so are the class names, as JSON under "classes" in its metadata.
    Raises `ImportError` where a package is missing.
    """
    if sentence := missing():
        raise ImportError(sentence)
    import onnx

    model = copy.deepcopy(model).cpu().float().eval()
    config = model.config
    example = torch.zeros(2, config.in_channels, *image_sides(config.image_size), dtype=torch.uint8)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            FromPixels(model),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        part.ClearField("metadata_props")  # the exporter's notes, with paths of this machine
    onnx.helper.set_model_props(proto, {"classes": json.dumps(config.classes)})
    onnx.checker.check_model(proto)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def run_onnx(path, images):
    """The logits `(B, num_classes)` of uint8 images `(B, C, Y, X)`, computed by onnxruntime, without PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixels": images.cpu().numpy()})[0])
