"""How many copies the fingerprint of datasets/copies.py finds, and how many strangers it takes for copies.

    python tools/measure/copies.py            CIFAR-10's test images, from data/ (about 20 s of one core)

Hits: of 1,000 images, each against a copy of itself. False alarms: pairs among all 10,000, which are different pictures
but for a few real copies in CIFAR-10 itself (Barz and Denzler 2020).
"""

import io

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from vit_tutorial import datasets
from vit_tutorial.datasets.copies import distances, fingerprint

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)


def saved(picture, kind="JPEG", **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return Image.open(data)


def larger(picture):
    return picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.BICUBIC)


def cut(picture, pixels):
    return picture.crop((pixels, pixels, picture.width - pixels, picture.height - pixels))


COPIES = {
    "JPEG, quality 75": lambda p: saved(p, quality=75),
    "JPEG, quality 30": lambda p: saved(p, quality=30),
    "WebP, quality 50": lambda p: saved(p, "WEBP", quality=50),
    "3 times the size, JPEG 75": lambda p: saved(larger(p), quality=75),
    "half the size": lambda p: p.reduce(2),
    "mirrored, JPEG 75": lambda p: saved(ImageOps.mirror(p), quality=75),
    "brighter by 25 %": lambda p: ImageEnhance.Brightness(p).enhance(1.25),
    "contrast up by 25 %": lambda p: ImageEnhance.Contrast(p).enhance(1.25),
    "grey": lambda p: p.convert("L"),
    "cut by 3 % on each side": lambda p: cut(p, 1),
    "cut by 6 % on each side": lambda p: cut(p, 2),
}


def row(name, values):
    print(f"{name:28}" + "".join(values))


def to_tensor(picture):
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def main():
    images = datasets.cifar10("test").images
    prints = fingerprint(images)
    row("distance below", [f"{t:9.2f}" for t in THRESHOLDS])
    for name, copy in COPIES.items():
        own = torch.stack(
            [
                distances(prints[i : i + 1], fingerprint(to_tensor(copy(Image.fromarray(x.numpy())))[None]))[0, 0]
                for i, x in enumerate(images[:1000].permute(0, 2, 3, 1))
            ]
        )
        row(name, [f"{100 * (own < t).float().mean():7.1f} %" for t in THRESHOLDS])
    alarms, images_hit = torch.zeros(len(THRESHOLDS), dtype=torch.int64), [set() for _ in THRESHOLDS]
    for start in range(0, len(prints), 1000):
        found = distances(prints[start : start + 1000], prints).triu(1 + start)
        for k, threshold in enumerate(THRESHOLDS):
            pairs = ((found < threshold) & (found > 0)).nonzero()
            alarms[k] += len(pairs)
            images_hit[k].update((pairs + torch.tensor([start, 0])).flatten().tolist())
    row("pairs of 49,995,000", [f"{n:9}" for n in alarms.tolist()])
    row("images in them, of 10,000", [f"{len(hit):9}" for hit in images_hit])


if __name__ == "__main__":
    main()
