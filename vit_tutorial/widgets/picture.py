"""A matplotlib figure inside a widget: redrawn when a control moves, or while training runs."""

import base64
from html import escape

import ipywidgets as widgets

from ..plots import DISPLAY_DPI, png


class Picture(widgets.VBox):
    """A figure with alt text, and controls above it. `draw(figure, alt)` replaces the figure.

    Without a front end (on GitHub, in print) the PNG of the current figure stands in for the widget.
    """

    def __init__(self, controls=()):
        self.figure_html = widgets.HTML()
        self.png, self.alt, self.width = b"", "", 0
        super().__init__([widgets.HBox(list(controls), layout={"flex_flow": "row wrap"}), self.figure_html])

    def draw(self, figure, alt):
        self.png, self.alt, self.width = png(figure), alt, round(figure.get_figwidth() * DISPLAY_DPI)
        data = base64.b64encode(self.png).decode()
        size = f"width: {self.width}px; max-width: 100%"
        self.figure_html.value = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="{size}">'

    _ipython_display_ = None  # ipywidgets 7 (Colab) has one, and it would come before the bundle, without a picture

    def _repr_mimebundle_(self, **kwargs):
        bundle = {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            },
            "text/plain": self.alt,
            "image/png": base64.b64encode(self.png).decode(),
        }
        return bundle, {"image/png": {"alt": self.alt, "width": self.width}}

    def __repr__(self):
        return f"Picture({self.alt!r})"


def interactive_figure(draw, **choices):
    """A `Picture` that calls `draw(**values)` for `(figure, alt)` whenever a control moves.

    Each keyword names an argument of `draw`, with an iterable of the values to choose from: numbers in a range become a
    slider, anything else a menu. The first value shown is the middle one. Works by keyboard and mouse.
    """
    controls = {}
    for name, values in choices.items():
        values, label = list(values), name.replace("_", " ")
        numeric = all(isinstance(value, (int, float)) for value in values)
        control = widgets.SelectionSlider if numeric else widgets.Dropdown
        controls[name] = control(
            options=values,
            value=values[len(values) // 2] if numeric else values[0],
            description=label,
            style={"description_width": "initial"},
        )
    picture = Picture(controls.values())

    def redraw(_=None):
        picture.draw(*draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return picture
