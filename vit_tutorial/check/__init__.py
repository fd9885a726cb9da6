"""Checks of the exercises: `check.<exercise>(answer)` prints a verdict, never raises, and names the mistake.

What passes is remembered on this machine (`progress`), and the parts of a ViT can be kept (`keep`, `my_vit`).
"""

from . import (
    attention,
    debugging,
    dense,
    encoder,
    fine_tuning,
    interpretation,
    model,
    modern,
    own_images,
    patches,
    positions,
    progress,
    small_data,
    speed,
    start,
    training,
    verdict,
    without_labels,
    words,
)
from .own_vit import keep, my_vit, offer
from .progress import forget, passed
from .verdict import CheckResult

TOPICS = {  # number of the notebook -> its checks
    0: start,
    1: patches,
    2: positions,
    3: attention,
    4: encoder,
    5: model,
    6: training,
    7: debugging,
    8: small_data,
    9: fine_tuning,
    10: interpretation,
    11: speed,
    12: own_images,
    13: modern,
    14: without_labels,
    15: dense,
    16: words,
}
EXERCISES = {name: getattr(topic, name) for topic in TOPICS.values() for name in topic.__all__}  # in course order
globals().update(EXERCISES)


def show_progress():
    """Display the map of what has passed on this machine."""
    progress.show({number: topic.__all__ for number, topic in TOPICS.items()})


verdict.ON_PASS[:] = [lambda result: progress.remember(result.exercise), offer]
__all__ = ["EXERCISES", "TOPICS", "CheckResult", "forget", "keep", "my_vit", "passed", "show_progress", *EXERCISES]
