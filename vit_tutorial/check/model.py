"""Checks of the exercises (to be written)."""

__all__ = []
