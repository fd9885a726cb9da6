"""Pictures that answer: explorers drawn in the page, and figures with controls."""

from .attention import AttentionExplorer
from .picture import Picture, interactive_figure

__all__ = ["AttentionExplorer", "Picture", "interactive_figure"]
