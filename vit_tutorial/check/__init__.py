"""Exercises that answer back: `check.<exercise>(answer)` prints a verdict, never raises, and names the mistake."""

from . import (
    attention,
    debugging,
    encoder,
    fine_tuning,
    interpretation,
    model,
    own_images,
    patches,
    positions,
    small_data,
    speed,
    start,
    training,
)
from .verdict import CheckResult

EXERCISES = {  # name -> checker, in the order of the course
    name: getattr(module, name)
    for module in (
        start,
        patches,
        positions,
        attention,
        encoder,
        model,
        training,
        debugging,
        small_data,
        fine_tuning,
        interpretation,
        speed,
        own_images,
    )
    for name in module.__all__
}
globals().update(EXERCISES)
__all__ = ["EXERCISES", "CheckResult", *EXERCISES]
