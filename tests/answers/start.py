"""Right answers to the exercises of notebook 00."""

from fractions import Fraction

import numpy as np
import torch

VALUES = {
    "token_count": [64, (32 // 4) ** 2, torch.tensor(64), "64", Fraction(64), np.int64(64), [64.0], 32 / 4 * 32 / 4],
    "read_shape": ["b", "B", "(b)", " b ", "b.", "b)"],
}


def scale_pixels__divide(images):
    return images / 255


def scale_pixels__float_first(images):
    return images.float().div(255)


def scale_pixels__float64(images):
    return images.double() / 255.0


def scale_pixels__half(images):
    return (images / 255).half()


def scale_pixels__bfloat16(images):
    return images.bfloat16() / 255


def scale_pixels__numpy(images):
    return torch.from_numpy(np.asarray(images.numpy() / 255, dtype=np.float32))


def scale_pixels__in_place_on_a_copy(images):
    x = images.to(torch.float32)
    x /= 255
    return x


def scale_pixels__times_the_inverse(images):
    return images.type(torch.FloatTensor) * (1 / 255)


def scale_pixels__largest_of_the_type(images):
    return images.to(torch.get_default_dtype()) / torch.iinfo(images.dtype).max


def scale_pixels__true_divide(images):
    return torch.true_divide(images, torch.tensor(255))


def scale_pixels__clamp(images):
    return (images.float() / 255).clamp(0, 1)


def scale_pixels__image_by_image(images):
    return torch.stack([image / 255 for image in images])


def scale_pixels__pixel_by_pixel(images):
    return torch.tensor([value / 255 for value in images.flatten().tolist()]).reshape(images.shape)


def scale_pixels__table(images):
    levels = torch.linspace(0, 1, 256)
    return levels[images.long()]


def scale_pixels__torchvision(images):
    from torchvision.transforms import v2  # slow, and needed here alone

    return v2.functional.to_dtype(images, torch.float32, scale=True)
