"""A folder of pictures as a person would have one: stickers, photographed, with all that goes wrong on the way."""

import colorsys
from math import cos, sin
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .photographs import NAMES, resize, sample_image
from .shapes import DISTANCES

KINDS = {"heart": ("heart", 0.98), "moon": ("crescent", 0.58), "star": ("star", 0.14)}  # shape, usual hue
Y, X = 120, 160  # of a picture, in pixels


def example_folder(folder, count=14, seed=0):
    """Write `count` pictures for each of three classes into `folder/<class>/`, and some files of other kinds.

    Each picture shows a sticker on a part of one of the course's photographs. Most hearts are red, most moons blue and
    most stars yellow; every fifth has any colour. In each class one picture has EXIF rotation, one is in CMYK, one in
    16 bits of grey, and one transparent around the sticker. Besides them there are a copy; a copy that was mirrored,
    made smaller and saved as WebP; a truncated file; and a text file.
    """
    from PIL import Image, ImageOps

    folder, generator = Path(folder), torch.Generator().manual_seed(seed)
    photographs = [sample_image(name) for name in NAMES]
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, mask = sticker(kind, i % 5 == 4, photographs[i % len(photographs)], generator)
            picture = Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())
            name, options = f"IMG_{1000 + i}.jpg", {"quality": 90}
            if i == 1:  # as phones save an upright picture: lying on its side, with a note
                picture, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
                exif[0x0112] = 6
                options["exif"] = exif
            elif i == 2:
                picture = picture.convert("CMYK")
            elif i == 3:
                grey = np.asarray(ImageOps.grayscale(picture)).astype(np.uint16)  # as a scanner does
                picture, name, options = Image.fromarray(257 * grey), f"scan_{1000 + i}.png", {}
            elif i == 4:  # cut out of its photograph
                picture.putalpha(Image.fromarray((255 * mask).round().byte().numpy()))
                name, options = f"cutout_{1000 + i}.png", {}
            picture.save(folder / kind / name, **options)

    heart, moon, star = (folder / kind for kind in KINDS)
    (heart / "IMG_1000 (1).jpg").write_bytes((heart / "IMG_1000.jpg").read_bytes())
    with Image.open(moon / "IMG_1005.jpg") as picture:
        ImageOps.mirror(picture).resize((X // 2, Y // 2)).save(moon / "forwarded.webp", quality=60)
    whole = (star / "IMG_1006.jpg").read_bytes()
    (star / "IMG_1099.jpg").write_bytes(whole[: len(whole) // 2])
    (star / "notes.txt").write_text("bought in the museum shop\n")


def sticker(kind, odd, photograph, generator):
    """A part of a uint8 photograph `(3, Y', X')` with a sticker on it, `(3, Y, X)`, and its mask `(Y, X)`, in 0..1.

    An `odd` sticker has any colour.
    """
    shape, hue = KINDS[kind]

    def between(low, high):
        return low + (high - low) * torch.rand((), generator=generator).item()

    side = between(0.4, 1.0) * min(photograph.shape[1] / Y, photograph.shape[2] / X)
    high, wide = int(side * Y), int(side * X)
    top, left = int(between(0, photograph.shape[1] - high)), int(between(0, photograph.shape[2] - wide))
    ground = resize(photograph[:, top : top + high, left : left + wide], (Y, X)).double() / 255  # (3, Y, X)

    radius, angle = between(36, 50), between(-0.4, 0.4)
    x = torch.arange(X, dtype=torch.float64)[None, :] - between(X / 2 - 12, X / 2 + 12)
    y = between(Y / 2 - 8, Y / 2 + 8) - torch.arange(Y, dtype=torch.float64)[:, None]
    x, y = (x * cos(angle) + y * sin(angle)) / radius, (y * cos(angle) - x * sin(angle)) / radius
    distance = radius * DISTANCES[shape](x, y)  # (Y, X), in pixels
    mask = (0.5 - distance).clamp(0, 1)
    paper = F.max_pool2d(mask[None], 9, stride=1, padding=4)[0]  # a white rim of 4 pixels
    hue = between(0, 1) if odd else hue + between(-0.05, 0.05)
    colour = ground.new_tensor(colorsys.hsv_to_rgb(hue, between(0.6, 0.95), between(0.7, 0.95))).view(3, 1, 1)
    image = torch.lerp(ground, torch.ones_like(ground), paper)
    return torch.lerp(image, colour.expand_as(image), mask), paper
