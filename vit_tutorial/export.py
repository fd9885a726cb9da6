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
from .model import ViTConfig
from .weights import as_ours, unwrapped

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def missing():
    """A sentence that says how to get the packages that are not installed here; empty where none is missing."""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    return f"ONNX needs {' and '.join(absent)}: pip install {' '.join(absent)}" if absent else ""


class FromPixels(nn.Module):
    """A ViT with its preprocessing in front: takes pixels `(B, C, Y, X)` and returns what the ViT returns.

    With `resize` they may have any size: of their centre square come the pixels that the course's reader makes, to the
    bit, or to a level where one side grows and the other shrinks. Pixels are uint8; with a `value_range` `(low, high)`
    float32, and these two values become 0 and 255.
    """

    def __init__(self, model, resize=True, value_range=None):
        super().__init__()
        self.model, self.value_range = model, value_range
        self.size = image_sides(model.config.image_size) if resize else None
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(model.config, name)).view(1, -1, 1, 1))

    def forward(self, pixels):
        x = pixels if self.size is None else centre_square(pixels, self.size, whole=self.value_range is None)
        if self.value_range:
            low, high = self.value_range
            x = (255 * (x.double() - low) / (high - low if high > low else 1)).clamp(0, 255).round()
        return self.model((x.float() / 255 - self.mean) / self.std)


def centre_square(pixels, size, whole):
    """The centre square of images `(B, C, Y, X)` of any size, resized to `size` `(rows, columns)`, as Pillow does it.

    Two matrix products, of columns and then of rows. The weights are a triangle as wide as the pixels that become one.
    With `whole`, for bytes, they are whole numbers of 2^-22, and so are the results whole numbers.
    """
    places = [torch.arange(side, dtype=torch.float64) for side in pixels.shape[2:]]
    sides = [place[-1:] + 1 for place in places]
    side, x = torch.minimum(*sides), pixels.double()
    for axis in (1, 0):  # columns first
        new, start = size[axis], ((sides[axis] - side) / 2).round()
        scale = side / new
        centres = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * scale  # (new, 1)
        old = places[axis] - start  # (Y or X,), from 0 inside the square
        weights = (1 - ((old + 0.5 - centres) * (1 / scale.clamp(min=1))).abs()).clamp(min=0)  # (new, Y or X)
        weights = weights * ((old >= 0) & (old < side))
        weights = weights / weights.sum(dim=1, keepdim=True)
        if whole:
            weights = (weights * 2**22 + 0.5).floor()
        x = x @ weights.T if axis else weights @ x
        x = ((x + 2**21) / 2**22).floor().clamp(0, 255) if whole else x.float().double()
    return x  # (B, C, rows, columns) float64


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


def without_wrappers(model):
    """A copy of our model of `model` on the CPU as float32, in evaluation mode, with nothing in it compiled."""
    model = unwrapped(model)
    model = model if isinstance(getattr(model, "config", None), ViTConfig) else as_ours(model)
    model = copy.deepcopy(model).cpu().float().eval()
    for module in model.modules():
        module._modules.update({name: unwrapped(child) for name, child in module._modules.items() if child is not None})
    return model


def to_onnx(model, path, outputs=("logits",), resize=True, value_range=None):
    """Write `model` into one ONNX file: "pixels" `(B, C, Y, X)` for any B to "logits".

    The preprocessing is part of the file. Pixels are uint8, 0..255, RGB and upright, and of any size, for the file cuts
    out their centre square and resizes it as Pillow does (`Image.BILINEAR`); with `resize=False` of the model's own,
    as they are.
    `value_range`, that of a data set of more than 8 bits (`ImageSet.value_range`), makes them float32 and is part of
    the file too, as are the class names, as JSON under "classes" in its metadata.
    `model` may be compiled, parallel, of 16 bits, or another library's. `outputs` names what it returns, where that is
    more than the logits. Raises `ImportError` where a package is missing, `ValueError` for what is no ViT of ours.
    """
    if sentence := missing():
        raise ImportError(sentence)
    import onnx

    model = without_wrappers(model)
    config = model.config
    rows, columns = image_sides(config.image_size)
    kind = torch.float32 if value_range else torch.uint8
    example = torch.zeros(2, config.in_channels, rows + 3 * resize, columns + 5 * resize, dtype=kind)
    dynamic = {0: torch.export.Dim("batch", min=1)}
    if resize:
        dynamic |= {2: torch.export.Dim("rows", min=1), 3: torch.export.Dim("columns", min=1)}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            FromPixels(model, resize, value_range),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_shapes=(dynamic,),
        )
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        part.ClearField("metadata_props")  # the exporter's notes, with paths of this machine
    onnx.helper.set_model_props(proto, {"classes": json.dumps(config.classes)})
    onnx.checker.check_model(proto)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def run_onnx(path, images):
    """The logits `(B, num_classes)` of pixels `(B, C, Y, X)` as the file takes them, computed by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixels": images.cpu().numpy()})[0])
