"""Pictures that look like nothing, for those who try how pictures are read."""

import io

import numpy as np
from PIL import Image


def scene(seed=0, size=(80, 60)):
    """A picture like no other: coarse random colours, smoothed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def saved(picture, kind="PNG", **options):
    """The bytes of the picture's file."""
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()
