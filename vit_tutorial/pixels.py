"""What a trained model says of every pixel: tested on masks, and asked about new pictures.

As `answers` is for whole pictures; the commands `evaluate` and `predict` come here with a `SegmentationViT`.
"""

import colorsys
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import answers, pictures
from .datasets.decode import find_range, to_8_bits
from .datasets.masked import UNJUDGED
from .datasets.own import read_items
from .datasets.photographs import centre_square
from .files import atomic_path, expect_new, expect_writable
from .model import normalise
from .training import evaluate_masks

CHUNK = 4  # whole pictures in memory at once
FOR_LABELS = ("labels", "groups", "copies", "balanced", "calibrate", "without_labels", "rename", "threshold")


def refuse_options(args):
    """Raise `ValueError` for options of a command that pictures with one class each have, and masks have not."""
    if given := [f"--{name.replace('_', '-')}" for name in FOR_LABELS if getattr(args, name, None)]:
        raise ValueError(f"expected masks to go without {' and '.join(given)}, found it; leave it out")


def evaluation(model, dataset):
    """What `evaluate` prints of the model's answers on `MaskedImages`, as text of at most 100 columns.

    Raises `ValueError` where the classes are not those of the model, in its order.
    """
    own = model.config.classes or dataset.classes
    if own != dataset.classes:
        raise ValueError(
            f"expected masks with the classes of the model, in its order: {answers.some(own)}; found "
            f"{answers.some(dataset.classes)}"
        )
    result = evaluate_masks(model, dataset)
    there, found = result.counts.sum(dim=1).tolist(), result.iou.tolist()
    width = max(5, *(answers.columns(answers.cut(name)) for name in own))
    rows = zip(own, there, found, strict=True)
    rows = [(name, n, "-" if value != value else f"{100 * value:.1f} %") for name, n, value in rows]
    return "\n".join(
        [
            f"mean IoU {100 * result.mean_iou:.2f} % of the {sum(n > 0 for n in there)} classes that are there",
            f"pixels right {100 * result.accuracy:.2f} %, loss {result.loss:.4f}",
            f"boundary error {100 * result.boundary_error:.1f} % (wrong pixels among those beside another class)",
            "",
            f"{'class':{width}}  {'pixels':>12}  {'IoU':>8}",
            *(f"{answers.fit(name, width)}  {n:12,}  {value:>8}" for name, n, value in rows),
        ]
    )


def run_evaluate(args, model):
    refuse_options(args)
    own_sides = args.data in pictures.MASKED or (Path(args.data) / "test").is_dir()
    learned = answers.trained_on(answers.run_record(args.model), args.data)
    side = args.side or ("test" if own_sides or learned else "all")
    config, wanted = model.config, [None if side == "all" else side]
    [dataset] = pictures.masked_sides(args.data, pictures.square_side(config), wanted, config.value_range)
    print(f"{args.model} on {args.data}: {len(dataset):,} pictures, {'all' if side == 'all' else 'the test side'}")
    print(evaluation(model, dataset))
    return 0


@torch.inference_mode()
def predict(model, pixels):
    """The class of every pixel of one picture `(C, Y, X)` of any size, uint8 or float32: `(Y, X)` uint8.

    The model looks at the centre square, made as small as its images, and its answers are made large again ("nearest");
    what lies outside is 255, unjudged.
    """
    config, device = model.config, next(model.parameters()).device
    square = to_8_bits(centre_square(pixels, config.image_size), config.value_range or find_range([pixels]))
    answer = model(normalise(square.unsqueeze(0).to(device), config)).argmax(dim=1)[0].byte().cpu()
    Y, X = pixels.shape[1:]
    side = min(Y, X)
    whole, top, left = np.full((Y, X), UNJUDGED, np.uint8), round((Y - side) / 2), round((X - side) / 2)
    answer = Image.fromarray(answer.numpy()).resize((side, side), Image.NEAREST)
    whole[top : top + side, left : left + side] = np.asarray(answer)
    return torch.from_numpy(whole)


def palette():
    """Colours of the classes 0, 1, 2, ... as 768 bytes: black, then hues far apart; 255 is white."""
    hues = [colorsys.hsv_to_rgb(0.618 * i % 1, 0.85, (1.0, 0.75, 0.5)[i % 3]) for i in range(1, 255)]
    return bytes([0, 0, 0, *(round(255 * part) for colour in hues for part in colour), 255, 255, 255])


def run_predict(args, model):
    """Write one PNG of class numbers for each picture into `--out` and, with `--csv`, the share of each class."""
    refuse_options(args)
    if args.out is None:
        raise ValueError("expected --out FOLDER for the masks of a model of pixels, found none; name a new folder")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ValueError(f"expected --out to be a new or an empty folder, found {args.out}; name another")
    expect_writable(args.out, "folder", (args.out, *args.out.absolute().parents))
    if args.csv:
        expect_new(args.csv)
    notes, skipped, shares = [], [], {}
    items = answers.picture_items(args.pictures, notes, skipped)
    for start in range(0, len(items), CHUNK):
        for item, name, pixels, _ in read_items(items[start : start + CHUNK], None, skipped):
            file = Path(item.name).stem + name[len(item.name) :].replace(", page ", "-") + ".png"
            if file in shares:
                skipped.append((name, f"the mask of another picture is called {file}"))
                continue
            mask = predict(model, pixels)
            write_mask(args.out / file, mask)
            counts = mask[mask != UNJUDGED].long().bincount(minlength=model.config.num_classes)
            shares[file] = (counts / counts.sum()).tolist()
    if not shares:
        raise answers.nothing_read(skipped)
    for line in (*answers.unread_lines(skipped, len(shares)), *notes):
        print(line, file=sys.stderr)
    classes = model.config.classes or tuple(map(str, range(model.config.num_classes)))
    if args.csv:
        write_shares(args.csv, classes, shares)
    print(f"{len(shares):,} masks in {args.out}: PNGs with the number of a class for each pixel, {UNJUDGED} for none")
    print(", ".join(f"{i} {answers.cut(name)}" for i, name in enumerate(classes)))
    return 0


def write_mask(path, mask):
    picture = Image.fromarray(mask.numpy(), "P")
    picture.putpalette(palette())
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG")


def write_shares(path, classes, shares):
    """A CSV file with the share of each class in each mask, of the pixels that have one."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *map(answers.harmless, classes)])
        writer.writerows([answers.harmless(name), *(f"{s:.6f}" for s in row)] for name, row in shares.items())
