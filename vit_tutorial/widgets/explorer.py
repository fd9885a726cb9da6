"""What all explorers share: one ES module and stylesheet for every front end, bytes for the page, a still picture."""

import base64
import re
import warnings
from pathlib import Path

import anywidget
import torch
from matplotlib.patches import Rectangle

from ..interpret.recording import parts
from ..layers import check_images
from ..model import normalise
from ..plots import COLOURS, DISPLAY_DPI, png
from ..weights import statistics

STATIC = Path(__file__).parent / "static"
EXACT_BYTES = 2_000_000  # up to here numbers travel as float32
IMPORT = re.compile(r'^import [^;]*"\./(\w+\.js)";\n', re.MULTILINE)


def module(name):
    """The ES module `static/name` as one text, after all that it imports: a widget's code cannot import files."""
    texts = {}

    def add(name):
        if name not in texts:
            text = (STATIC / name).read_text(encoding="utf-8")
            for imported in IMPORT.findall(text):
                add(imported)
            texts[name] = IMPORT.sub("", text)

    add(name)
    return re.sub(r"^export (?!default)", "", "".join(texts.values()), flags=re.MULTILINE)


def rgb(images, calls=2):
    """Images `(..., C, Y, X)` as pictures `(..., 3, Y, X)`: grey ones three times, of many channels the first three.

    The latter is said in a warning about the reader's line, which is so many `calls` away. Raises `ValueError` for two.
    """
    C = images.shape[-3]
    if C not in (1, 3):
        if C > 4 and images.shape[-1] in (3, 4):
            raise ValueError(
                f"expected channels before rows and columns, found {images.dtype} {tuple(images.shape)}; move them "
                "forward with movedim(-1, -3)"
            )
        if C < 3:
            raise ValueError(f"expected images of one channel, three or more, found {C}; pick those to be shown")
        warnings.warn(f"of {C} channels the first three are taken as red, green and blue", stacklevel=calls + 1)
    return images[..., :3, :, :].expand(*images.shape[:-3], 3, -1, -1)


def model_input(model, images):
    """uint8 images `(B, C, Y, X)` normalised for a model of ours or timm's, on its device.

    A model of three channels gets `rgb(images)`. Raises `ValueError` for other channels or another size than its own.
    """
    filters, embed = parts(model).filters, model.patch_embed
    if filters.shape[1] == 3 and images.ndim == 4:
        images = rgb(images, calls=4)
    size = getattr(embed, "img_size", None) if getattr(embed, "strict_img_size", False) else None  # timm's
    check_images(images, filters.shape[1], getattr(embed, "image_size", size))
    return normalise(images.to(filters.device), statistics(model))


def pixel_bytes(images):
    """uint8 images `(..., C, Y, X)` as bytes `(..., Y, X, C)`."""
    return images.movedim(-3, -1).contiguous().numpy().tobytes()


def float_bytes(values):
    """A tensor as little-endian float32."""
    return values.contiguous().numpy().astype("<f4").tobytes()


def attention_bytes(attention, exact_bytes):
    """Attention weights `(..., N, N)` as traits `weights` and `scales`.

    Up to `exact_bytes` the weights are float32, and there are no scales. Beyond, each is a byte: how many 255ths of the
    largest in its row. `scales` `(..., N)` holds that as float32, and weights are wrong by at most 0.2 % of it.
    """
    if 4 * attention.numel() <= exact_bytes:
        return {"weights": float_bytes(attention), "scales": b""}
    largest = attention.amax(dim=-1, keepdim=True)
    codes = (attention * (255 / largest.clamp_min(1e-12))).round_().to(torch.uint8)
    return {"weights": codes.numpy().tobytes(), "scales": float_bytes(largest)}


def mark_patch(ax, patch, columns, height, width):
    """A frame around a patch of `height` x `width` pixels of the image drawn in `ax`, `columns` being in a row."""
    row, column = divmod(patch, columns)
    corner = (column * width - 0.5, row * height - 0.5)
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=COLOURS[1], linewidth=2.5, zorder=3))


class Explorer(anywidget.AnyWidget):
    """An interactive picture, drawn in the page. Without a front end (on GitHub, in print) a PNG of its view stands in.

    Subclasses set `_esm = module("name.js")` and define `figure()`: the current view as a matplotlib figure and its alt
    text. Their `__repr__` names what was put in, and no address, so that it repeats.
    """

    _css = (STATIC / "explorer.css").read_text(encoding="utf-8")

    def figure(self):
        """The current view as `(figure, alt)`."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        fig, alt = self.figure()
        data = data | {"text/plain": repr(self), "image/png": base64.b64encode(png(fig)).decode()}
        return data, metadata | {"image/png": {"alt": alt, "width": round(fig.get_figwidth() * DISPLAY_DPI)}}
