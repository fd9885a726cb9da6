"""Pictures that answer: figures with controls, as ipywidgets."""

from .picture import Picture, interactive_figure

__all__ = ["Picture", "interactive_figure"]
