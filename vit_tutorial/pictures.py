"""The pictures of a run: read as its options say and, later, read again and compared with those that it had."""

import hashlib
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

import vit_tutorial as vit  # vit.datasets loads when pictures are first read

DATASETS = ("shapes", "same_or_different", "cifar10", "scenes")  # which come with the course, or are downloaded by it
MASKED = ("scenes",)  # those with a class for every pixel
OPTIONS = ("labels", "groups", "copies")  # of a folder of pictures, as texts or None


def options_of(run):
    """The `OPTIONS` in a dict, such as the `info` of a record; what is no text counts as not given."""
    return {name: value if isinstance(value := run.get(name), str) else None for name in OPTIONS}


def recorded_options(info, data):
    """The `OPTIONS` of a run's record, for its pictures at `data`, where they and their table may have moved to."""
    options = options_of(info)
    if options["labels"] and Path(data).suffix.lower() in vit.datasets.tables.SUFFIXES:
        options["labels"] = None
    elif options["labels"] and not Path(options["labels"]).is_file():
        options["labels"] = Path(options["labels"]).name
    return options


def copies_below(text):
    """The distance that `--copies` names; False for off."""
    if text is None or text == "off":
        return vit.datasets.ALIKE if text is None else False
    try:
        distance = float(text)
    except ValueError:
        distance = -1.0
    if not 0 < distance < 2:
        raise ValueError(f"expected --copies to be off or a distance between 0 and 2, found {text!r}; 0.25 is usual")
    return distance


def read(name, options, image_size=None, value_range=None, labelled=True):
    """The `OwnImages` at `name`, read as the `OPTIONS` say; None for one of `DATASETS`, which has no options."""
    options = options_of(options)
    if name in MASKED:
        raise ValueError(
            f"expected data with a class for each picture, found --data {name} with one for each pixel: "
            f"vit-tutorial train --data {name} --task segment trains a model for these"
        )
    if name in DATASETS:
        if given := [f"--{option}" for option, value in options.items() if value is not None]:
            raise ValueError(f"expected {' and '.join(given)} with a folder of pictures, found --data {name}")
        return None
    if not name or not Path(name).exists():
        known = ", ".join(one for one in DATASETS if one not in MASKED)
        raise ValueError(f"expected --data to be {known}, a folder or a file, found nothing at {name!r}")
    options["copies"] = copies_below(options["copies"])
    mine = vit.datasets.own_images(name, image_size, value_range=value_range, labelled=labelled, **options)
    if {label.lower() for label in mine.images.classes} == {"images", "masks"}:
        raise ValueError(
            f"expected a folder for each class in {name}, found images and masks; for these add --task segment"
        )
    return mine


def square_side(config):
    """Rows of pixels that a model takes, where it takes squares; else None."""
    rows, columns = config.grid
    return rows * config.patch_size if rows == columns else None


def undivided(mine):
    """Whether pictures without labels have nothing that could be tested: one class alone, and no sides."""
    return mine is not None and len(mine.images.classes) < 2 and not mine.sides


def sides(mine, name, wanted=("train", "test")):
    """The sides of what `read` gave: of a person's own pictures or, where they are None, of the dataset `name`."""
    if mine is None:
        return [getattr(vit.datasets, name)(side) for side in wanted]
    parts = dict(zip(("train", "test"), mine.split(), strict=True))
    return [mine.images[parts[side]] for side in wanted]


def masked_sides(name, image_size, wanted=("train", "test"), value_range=None):
    """The sides of pictures with a class for every pixel, of `MASKED` or a folder; side None is all of a folder."""
    if name in MASKED:
        return [getattr(vit.datasets, name)(side) for side in wanted]
    if name in DATASETS or not name or not Path(name).exists():
        raise ValueError(
            f"expected --data to be {', '.join(MASKED)} or a folder with images/ and masks/ for a model of pixels, "
            f"found {name!r}"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sides = [vit.datasets.mask_folder(name, image_size, side, value_range) for side in wanted]
    for left_out in dict.fromkeys(str(warning.message) for warning in said):  # each side says it
        print(left_out, file=sys.stderr)
    return sides


def digest(mine, index):
    """A text that is the same for the same files at `index (n,)`, whatever their names and order."""
    texts = sorted(mine.digests[i] for i in index.tolist())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def files(mine):
    """The `digest` of all pictures and, where there is one, of the test side, for a run's record."""
    found = {"all": digest(mine, torch.arange(len(mine)))}
    return found if undivided(mine) else found | {"test": digest(mine, mine.split()[1])}


def recorded_files(info):
    return found if isinstance(found := info.get("files"), dict) else {}


def counts(images):
    return Counter(dict(zip(images.classes, images.class_counts.tolist(), strict=True)))


def recorded_counts(info):
    """`{"train": Counter of classes, "test": ...}`, perhaps with "calibration", or None where the run has none."""
    found = info.get("images")
    if not isinstance(found, dict) or not {"train", "test"} <= found.keys():
        return None
    whole = all(isinstance(side, dict) and all(type(n) is int for n in side.values()) for side in found.values())
    return {side: Counter(classes) for side, classes in found.items()} if whole else None


def changes(info, sides, files=None):
    """How the pictures of a run's record differ from `sides`, `{"train", "test"}` or one of them; "" if they do not.

    `files` is the `digest` of the test side, where it is known.
    """
    then, now = recorded_counts(info) or {}, {side: counts(images) for side, images in sides.items()}
    if then:
        then["train"] += then.pop("calibration", Counter())
        if any(then[side] != now[side] for side in now):
            totals = [" + ".join(str(part[side].total()) for side in now) for part in (then, now)]
            return f"the pictures have changed: {totals[0]} for {', '.join(now)} in the run, {totals[1]} now"
    if files and files != recorded_files(info).get("test", files):
        return "the pictures have changed: others are on the test side than in the run"
    return ""
