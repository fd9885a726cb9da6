"""How many copies the fingerprint of datasets/copies.py finds, and how many strangers it takes for copies.

    python tools/measure/copies.py            CIFAR-10's test images, from data/ (about 20 s of one core)

Hits: of every tenth image, against a copy of itself. False alarms: pairs among all 10,000, which are different pictures
but for a few real copies in CIFAR-10 itself (Barz and Denzler 2020). Makes data/runs/copies.json, what notebook 12
shows.
"""

import io
import json

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from records import machine

from vit_tutorial import datasets
from vit_tutorial.datasets.copies import distances, fingerprint
from vit_tutorial.files import DATA, atomic_path

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


def to_tensor(picture):
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def as_text(record):
    """The record as JSON, one kind of copy a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record["found"].items()]
    head = {name: value for name, value in record.items() if name != "found"}
    return json.dumps(head, indent=1)[:-2] + ',\n "found": {\n  ' + ",\n  ".join(lines) + "\n }\n}\n"


def found_of(copy, images, prints):
    """The per cent of images whose copy lies below each threshold."""
    copies = [to_tensor(copy(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in images]
    pairs = zip(prints.split(1), copies, strict=True)
    own = torch.stack([distances(one, fingerprint(copy[None]))[0, 0] for one, copy in pairs])  # (images,)
    return [round(100 * (own < threshold).double().mean().item(), 1) for threshold in THRESHOLDS]


def main():
    images = datasets.cifar10("test").images
    prints = fingerprint(images)
    found = {name: found_of(copy, images[::10], prints[::10]) for name, copy in COPIES.items()}
    alarms = torch.zeros(len(THRESHOLDS), dtype=torch.int64)
    for start in range(0, len(prints), 1000):
        between = distances(prints[start : start + 1000], prints)
        pair = torch.ones_like(between, dtype=torch.bool).triu(1 + start)  # each pair once, no image with itself
        alarms += torch.stack([(pair & (between < threshold)).sum() for threshold in THRESHOLDS])
    record = {
        "command": "python tools/measure/copies.py",
        "data": "CIFAR-10 (JPEG copy), 10,000 test images",
        **machine(),
        "thresholds": THRESHOLDS,
        "pairs": len(prints) * (len(prints) - 1) // 2,
        "pairs_below": alarms.tolist(),
        "found": found,
    }
    with atomic_path(DATA / "runs" / "copies.json") as path:
        path.write_text(as_text(record), encoding="utf-8")
    print(as_text(record))


if __name__ == "__main__":
    main()
