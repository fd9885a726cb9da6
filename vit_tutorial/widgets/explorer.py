"""What all explorers share: one ES module and stylesheet for every front end, and a picture where there is none."""

import base64
import re
from pathlib import Path

import anywidget

from ..plots import DISPLAY_DPI, png

STATIC = Path(__file__).parent / "static"


def module(name):
    """The ES module `static/name` with draw.js written into it: a widget's code is one text, and cannot import."""
    shared = (STATIC / "draw.js").read_text(encoding="utf-8")
    own = (STATIC / name).read_text(encoding="utf-8")
    return re.sub(r"^import [^;]*;\n|^export (?!default)", "", shared + own, flags=re.MULTILINE)


class Explorer(anywidget.AnyWidget):
    """A picture that answers, drawn in the page. Without a front end (on GitHub, in print) a PNG of its view stands in.

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
