"""Photographs that come with scikit-image, so that they are there without a network."""

import numpy as np
import torch

from ..layers import image_sides

NAMES = {"cat": "chelsea", "astronaut": "astronaut", "coffee": "coffee", "rocket": "rocket"}


def sample_image(name="cat", size=None):
    """A photograph as a uint8 tensor `(3, Y, X)`: "cat", "astronaut", "coffee" or "rocket".

    With `size`, the centre square resized to `size` x `size` pixels. Raises `ValueError` for another name.
    """
    if name not in NAMES:
        raise ValueError(f"expected a photograph named one of {', '.join(NAMES)}, found {name!r}")
    from skimage import data

    image = torch.from_numpy(getattr(data, NAMES[name])()).permute(2, 0, 1).contiguous()  # (3, Y, X)
    return image if size is None else centre_square(image, size)


def centre_square(image, size):
    """The largest centred square of an image `(C, Y, X)`, uint8 or float32, resized to `size` with antialiasing.

    `size` is one side in pixels or `(rows, columns)`.
    """
    from torchvision.transforms.v2 import functional as F

    side = min(image.shape[1:])
    return resize(F.center_crop(image, [side, side]), size)


def resize(image, size):
    """An image `(C, Y, X)`, uint8 or float32, resized bilinearly with antialiasing; `size` as for `centre_square`.

    By Pillow, which computes in whole numbers and so gives the same pixels on every machine. PyTorch's differ by a
    level in every tenth pixel between processors.
    """
    from PIL import Image

    rows, columns = image_sides(size)
    channels = [Image.fromarray(channel.numpy()).resize((columns, rows), Image.BILINEAR) for channel in image.cpu()]
    return torch.stack([torch.from_numpy(np.array(channel)) for channel in channels])
