"""Pictures as a factory has them: 16 bits of grey, one fixed camera, few defects and small ones, and the truth."""

import csv
from pathlib import Path

import numpy as np

SIDE = 128  # rows and columns of a picture
MIDDLE = SIDE / 2 - 0.5
VIEWS = 3  # pictures of each part


def write_castings(folder, parts=198, seed=0):
    """Draw `VIEWS` pictures of each of `parts` turned parts into `folder`, and a table of their classes: labels.csv.

    The table has the columns file, label, part, x and y. Of every 11 parts one has a scratch and one a pore, of a few
    pixels, at x and y (from the top left); the others are whole. The camera stands still: the views of a part differ by
    a shift of a pixel, by brightness and noise. Pictures are 128 x 128 pixels, with values of 12 bits, most below
    2,000, in PNG files of 16. Returns the masks of the defects, `{file: bool (Y, X)}`. The same seed draws the same
    pictures everywhere.
    """
    from PIL import Image

    folder, rng = Path(folder), np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    masks, rows = {}, []
    for part in range(parts):
        label = {0: "scratch", 5: "pore"}.get(part % 11, "whole")
        look = look_of_part(rng)
        for view in range(VIEWS):
            file = f"pictures/part{part:03}_{view}.png"
            values, masks[file], place = picture(label, look, rng)
            Image.fromarray(values).save(folder / file)
            rows.append((file, label, part, *(("", "") if label == "whole" else place)))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("file", "label", "part", "x", "y"), *rows])
    return masks


def look_of_part(rng):
    """What all views of a part share: stains, as waves; its turning marks' phase; a defect's place, angle and size."""
    angles, lengths = 2 * np.pi * rng.random(6), 25 + 50 * rng.random(6)
    waves = np.cos(angles) / lengths, np.sin(angles) / lengths, rng.random(6)  # turns a pixel, and turns
    angle, radius = 2 * np.pi * rng.random(), 22 + 22 * rng.random()
    place = radius * np.cos(angle), radius * np.sin(angle)  # x to the right and y down from the middle
    return waves, rng.random(), place, np.pi * rng.random(), rng.random()


def picture(label, look, rng):
    """One picture, uint16 `(Y, X)`, the mask of its defect, bool `(Y, X)`, and the `(x, y)` where it is or would be."""
    (right, down, phases), turning, place, angle, size = look
    shift = rng.integers(-1, 2, 2)
    x, y = np.arange(SIDE) - MIDDLE - shift[0], np.arange(SIDE)[:, None] - MIDDLE - shift[1]
    stains = np.exp(2j * np.pi * (down * y + phases)) @ np.exp(2j * np.pi * right[:, None] * x)  # (Y, X)
    radius = np.hypot(x, y)
    metal = 1 + 0.06 * stains.real + 0.04 * np.cos(2 * np.pi * (radius / 5 + turning))
    u, v = x - place[0], y - place[1]
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    flaw = FLAWS[label](u, v, size)  # (Y, X)
    face = np.clip(np.minimum(54 - radius, radius - 16), 0, 1)  # 1 on the turned ring
    light = (1 + 0.004 * (x + shift[0]) - 0.002 * (y + shift[1])) * (0.98 + 0.04 * rng.random())
    noise = rng.integers(-60, 61, (2, SIDE, SIDE)).sum(axis=0)
    values = np.rint(light * (250 + 900 * face * (metal + 0.4 * flaw)) + noise).clip(0, 4095)
    return values.astype(np.uint16), np.abs(flaw) > 0.2, np.rint(place + shift + MIDDLE).astype(int)


def scratch(u, v, size):
    """A groove: one flank lit, one dark, so that its mean is that of the metal."""
    return np.exp(0.5 - 0.5 * v**2) * v * np.clip(5 + 4 * size - np.abs(u) + 0.5, 0, 1)


def pore(u, v, size):
    """A dark hole in a lit rim, whose mean is that of the metal too."""
    s = (u**2 + v**2) / (1.4 + 0.6 * size) ** 2
    return -2 * (1 - s / 2) * np.exp(-s / 2)


FLAWS = {"whole": lambda u, v, size: 0 * u, "scratch": scratch, "pore": pore}
