"""Interactive pictures: explorers drawn in the page, and figures with controls."""

from .attention import AttentionExplorer
from .masks import MaskExplorer
from .monitor import TrainingMonitor
from .patches import PatchExplorer
from .picture import Picture, interactive_figure
from .playground import AttentionPlayground
from .positions import PositionExplorer
from .similarity import SimilarityExplorer
from .stepper import EncoderStepper
from .upload import Upload

__all__ = [
    "AttentionExplorer",
    "AttentionPlayground",
    "EncoderStepper",
    "MaskExplorer",
    "PatchExplorer",
    "Picture",
    "PositionExplorer",
    "SimilarityExplorer",
    "TrainingMonitor",
    "Upload",
    "interactive_figure",
]
