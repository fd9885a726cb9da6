"""Pictures that answer: explorers drawn in the page, and figures with controls."""

from .attention import AttentionExplorer
from .monitor import TrainingMonitor
from .patches import PatchExplorer
from .picture import Picture, interactive_figure
from .playground import AttentionPlayground
from .positions import PositionExplorer
from .stepper import EncoderStepper

__all__ = [
    "AttentionExplorer",
    "AttentionPlayground",
    "EncoderStepper",
    "PatchExplorer",
    "Picture",
    "PositionExplorer",
    "TrainingMonitor",
    "interactive_figure",
]
