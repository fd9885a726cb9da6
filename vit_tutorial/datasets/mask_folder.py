"""Pictures with masks that somebody painted: which mask belongs to which picture, and what its values mean."""

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..files import Refused
from ..layers import image_sides
from . import tables
from .decode import MOST_PIXELS, find_range, read_files, short, to_8_bits
from .labels import side_of
from .masked import UNJUDGED, MaskedImages
from .names import named_as_picture, natural, printable
from .photographs import centre_square
from .sources import EMPTY, HIDDEN, files_in

IMAGES = {"images", "image", "imgs", "img", "jpegimages", "pictures", "photos"}
MASKS = {"masks", "mask", "labels", "label", "annotations", "segmentationclass", "segmentations", "gt"}
ENDINGS = ("_mask", "-mask", "_label", "_labels", "_gt", "_seg", "_l")  # of a mask's name behind its picture's
LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")
MOST_CLASSES = 64
NAMES = "classes.csv"


@dataclass
class Pair:
    """A picture and its mask, as files, and the side that they are on ("" where there are none)."""

    name: str
    side: str
    picture: object = None
    mask: object = None


@dataclass
class Found:
    """What is in a source: `pairs`, the values that classes.csv names, and `(name, reason)` of what is left out."""

    pairs: list = field(default_factory=list)
    named: dict = field(default_factory=dict)
    skipped: list = field(default_factory=list)


def place_of(parts):
    """`(key, is it a mask)` of a path: what a picture and its mask have in common; None for neither."""
    folders, stem = [part.lower() for part in parts[:-1]], parts[-1].rpartition(".")[0]
    kinds = [name in MASKS for name in folders if name in IMAGES | MASKS]
    ending = next((end for end in ENDINGS if stem.lower().endswith(end)), "")
    if not named_as_picture(parts[-1]):
        return None
    is_mask = kinds[-1] if kinds else bool(ending)
    stem = stem[: len(stem) - len(ending)] if is_mask else stem
    return (*(part for part in folders if part not in IMAGES | MASKS), stem), is_mask


def pairs_in(source):
    """Which picture of a folder or zip file belongs to which mask, before anything is read."""
    found, pairs, twice = Found(), {}, []
    for parts, file in files_in(source, []):
        name = printable("/".join(parts))
        if isinstance(file, str):
            found.skipped += [] if file in (HIDDEN, EMPTY) else [(name, file)]
        elif parts[-1].lower() == NAMES:
            found.named = named_in(tables.read(parts, file))
        elif (placed := place_of(parts)) is None:
            found.skipped.append((name, "no picture, by its name"))
        else:
            key, is_mask = placed
            side = next(filter(None, map(side_of, parts[:-1])), "")
            pair = pairs.setdefault(key, Pair(name, side))
            kind = "mask" if is_mask else "picture"
            twice += [name] if getattr(pair, kind) else []
            setattr(pair, kind, file)
            pair.name = pair.name if is_mask else name
    if twice:
        raise Refused(f"expected one picture and one mask of a name, found a second one: {short(twice[0])!r}")
    for pair in pairs.values():
        if pair.picture and pair.mask:
            found.pairs.append(pair)
        else:
            found.skipped.append(
                (pair.name, "a picture without a mask" if pair.picture else "a mask without a picture")
            )
    found.pairs.sort(key=lambda pair: natural(pair.name))
    if not found.pairs:
        raise Refused(
            "expected folders images and masks with files of the same names, found no picture with a mask"
            + "".join(f"; {short(name)}: {reason}" for name, reason in found.skipped[:3])
        )
    return found


# ------------------------------------------------------------------------------------------------ one mask


def read_mask(name, file):
    """The values of a mask `(Y, X)` as int64, its kind, and of a palette the colour of each value as a dict.

    Kinds are "numbers", "colours" (red * 65536 + green * 256 + blue) and "greys", numbers that were stored as colours.
    """
    try:
        with file.open("rb") as opened, Image.open(opened, formats=LOSSLESS) as picture:
            if picture.width * picture.height > MOST_PIXELS or getattr(picture, "n_frames", 1) > 1:
                raise Refused(f"expected a mask of one page and at most {MOST_PIXELS:,} pixels, found {name!r} beyond")
            mode, used = picture.mode, np.array(picture if picture.mode != "RGBA" else picture.convert("RGB"))
            palette = np.array(picture.convert("RGB")) if mode == "P" else None
    except Refused:
        raise
    except Exception:  # Pillow lets through whatever a hostile file provokes
        kinds = ", ".join(LOSSLESS)
        raise Refused(f"expected masks as {kinds}, which keep every value, found none for {short(name)!r}") from None
    used = used[..., 0] if mode == "LA" else used
    if used.dtype.kind not in "bui" or used.ndim not in (2, 3):
        raise Refused(f"expected whole numbers or colours in a mask, found {short(name)!r} with {mode}")
    if used.ndim == 3 and (used[..., :1] == used).all():
        return used[..., 0].astype(np.int64), "greys", {}
    if used.ndim == 3:
        return coloured(used), "colours", {}
    values, shown = used.astype(np.int64), {}
    if palette is not None:
        colours, first = coloured(palette), np.unique(values, return_index=True)
        shown = {int(value): int(colours.flat[i]) for value, i in zip(*first, strict=True)}
    return values, "numbers", shown


def coloured(pixels):
    """Colours `(Y, X, 3)` as one number a pixel."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    return red * 65536 + green * 256 + blue


def square(values, size):
    """The centre square of a mask `(Y, X)`, resized to `size` by taking the nearest pixel."""
    (Y, X), (rows, columns) = values.shape, image_sides(size)
    side = min(Y, X)
    top, left = round((Y - side) / 2), round((X - side) / 2)  # as torchvision rounds
    down = top + ((np.arange(rows) + 0.5) * side / rows).astype(int)
    right = left + ((np.arange(columns) + 0.5) * side / columns).astype(int)
    return values[down[:, None], right]


# ------------------------------------------------------------------------------------------------ what values mean


def classes_of(values, named, colours):
    """`(table, names)`: the class of each value as a dict, and the classes' names.

    `named` are the names of values or colours, in the order of the classes; without a name it is not judged.
    """
    if named:
        names = tuple(dict.fromkeys(filter(None, named.values())))
        table = {value: names.index(name) if name else UNJUDGED for value, name in named.items()}
    elif colours:
        table = {value: number for number, value in enumerate(sorted(values))}  # black, if there is any, is 0
        names = tuple(f"#{value:06x}" for value in sorted(values))
    elif values == {UNJUDGED}:
        raise Refused(f"expected masks with classes, found {UNJUDGED} alone, which means that nobody knows")
    elif values <= {0, UNJUDGED}:
        table, names = {0: 0, UNJUDGED: 1}, ("ground", "object")
    else:
        names = tuple(f"class {number}" for number in range(max(values - {UNJUDGED}) + 1))
        table = {number: number for number in range(len(names))}
    shown = ", ".join(f"#{value:06x}" if colours else str(value) for value in sorted(values)[:6])
    if not 2 <= len(names) <= MOST_CLASSES:
        raise Refused(
            f"expected 2 to {MOST_CLASSES} classes in the masks, found {len(names)} (values {shown} ...): were they "
            f"saved as JPEG once, or resized smoothly? What values mean can be said in {NAMES}: value,name"
        )
    if not colours:
        table.setdefault(UNJUDGED, UNJUDGED)
    if unknown := sorted(values - table.keys()):
        found = f"#{unknown[0]:06x}" if colours else unknown[0]
        raise Refused(f"expected the values that {NAMES} names, found {found} in the masks; add a row for it")
    return table, names


def named_in(table):
    """The values that the rows of classes.csv name: a dict from value or colour to name, which may be empty."""
    found = {}
    for row in table.rows:
        value, name = row[:2] if len(row) > 1 else (row[0], "")
        if value_in(value) is None:
            value, name = name, value
        if (value := value_in(value)) in found:
            raise Refused(f"expected each value once in {table.name}, found {name!r} and {found[value]!r} for one")
        if value is not None:  # no heading
            found[value] = name
    if not found:
        raise Refused(f"expected rows of value,name or colour,name in {table.name}, found none")
    return found


def value_in(text):
    """The value that a cell of classes.csv names: 3, #ff0000 or 255 0 0; None for a heading."""
    if re.fullmatch(r"\s*#[0-9a-fA-F]{6}\s*", text):
        return int(text.strip()[1:], 16)
    if not re.fullmatch(r"\s*\d{1,5}(\s+\d{1,3}\s+\d{1,3})?\s*", text):
        return None
    numbers = [int(part) for part in text.split()]
    return numbers[0] if len(numbers) == 1 else numbers[0] * 65536 + numbers[1] * 256 + numbers[2]


# ------------------------------------------------------------------------------------------------ all of them


def mask_folder(source, image_size=None, split=None, value_range=None):
    """Pictures with masks from a folder or a zip file, as `MaskedImages`: centre squares of `image_size`.

    `source` holds the folders images and masks (or JPEGImages and SegmentationClass, ...) with files of the same names,
    or pictures beside masks called NAME_mask.png; perhaps in folders train and test. A mask has its picture's size and
    is stored without loss (PNG, TIFF, BMP, GIF). Its values are the classes: numbers, where 255 is not judged; 0 and
    255 alone; indices of one palette; or colours. A table classes.csv beside the folders (value,name or colour,name)
    says what they are called, in the order of the classes; two values may have one name.

    `split` is "train" or "test", one side; where there are no sides, every fifth picture is for the test. None reads
    all. With `image_size` None all pictures must have one size. More than 8 bits are scaled by `value_range`, or else
    by that of all pictures read, as in `own_images`. What has no partner or cannot be read is named in a warning.
    Raises `ValueError` where no picture has a mask, sizes differ, or values are not what is said above.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f"expected split to be 'train', 'test' or None, found {split!r}")
    if not isinstance(source, (list, tuple)) and not Path(source).exists():
        raise ValueError(f"expected a folder or a zip file with images and masks, found nothing at {source}")
    found = pairs_in(source)
    pictures, masks, colours = read_pairs(found, image_size)
    table, names = classes_of({int(v) for mask in masks for v in np.unique(mask)}, found.named, colours)
    known = np.array(sorted(table))
    numbers = np.array([table[value] for value in known.tolist()], np.uint8)
    masks = [torch.from_numpy(numbers[np.searchsorted(known, mask)]) for mask in masks]
    if len({mask.shape for mask in masks}) > 1:
        raise Refused("expected pictures of one size, found several; pass image_size=...")
    value_range = value_range or find_range(pictures)
    images = torch.stack([to_8_bits(picture, value_range) for picture in pictures])
    deep = any(picture.dtype == torch.float32 for picture in pictures)
    data = MaskedImages(images, torch.stack(masks), names, value_range if deep else None)
    if found.skipped:
        lines = [f"  {short(name)}: {reason}" for name, reason in found.skipped[:20]]
        warnings.warn("\n".join([f"{len(found.skipped)} files were left out:", *lines]), stacklevel=2)
    return data if split is None else data[torch.tensor([side == split for side in sides_of(found.pairs)])]


def read_pairs(found, image_size):
    """Pictures, masks `(Y, X)`, and whether the masks' values are colours.

    A pair whose picture cannot be read moves from `found.pairs` to what is skipped.
    """
    pictures, masks, kept, kinds, palette = [], [], [], [], {}
    for pair in found.pairs:
        with warnings.catch_warnings(action="ignore"):
            picture = read_files([pair.picture])[0][0][0]
            if isinstance(picture, str):
                found.skipped.append((pair.name, picture))
                continue
            values, kind, shown = read_mask(pair.name, pair.mask)
        if values.shape != tuple(picture.shape[1:]):
            sizes = " and ".join(f"{Y} x {X}" for Y, X in (picture.shape[1:], values.shape))
            raise Refused(
                f"expected a mask of its picture's size, found {sizes} (rows x columns) for {short(pair.name)!r}; "
                "where the camera's file is turned by a note in it (EXIF), save it upright"
            )
        if any(palette.setdefault(value, colour) != colour for value, colour in shown.items()):
            raise Refused(
                "expected one palette in all masks, found an index with several colours: save the masks as RGB, so "
                "that the colours count, or all with one palette"
            )
        masks.append(values if image_size is None else square(values, image_size))
        pictures.append(picture if image_size is None else centre_square(picture, image_size))
        kinds.append(kind)
        kept.append(pair)
    found.pairs = kept
    if not kept:
        raise Refused("expected pictures that can be read, found {!r}: {}".format(*found.skipped[-1]))
    if {"numbers", "colours"} <= set(kinds):
        raise Refused("expected all masks as colours or all as numbers, found both; save them alike")
    if colours := "colours" in kinds:  # then a mask of greys is black, white or between
        masks = [mask * 65793 if kind == "greys" else mask for mask, kind in zip(masks, kinds, strict=True)]
    return pictures, masks, colours


def sides_of(pairs):
    """The side of each pair: its folder's or, where there are not both, every fifth and of fewer the last for the test.

    Raises `ValueError` for a single pair.
    """
    if {pair.side for pair in pairs} >= {"train", "test"}:
        return [pair.side for pair in pairs]
    if len(pairs) < 2:
        raise Refused("expected at least two pictures with masks, one for the test, found one")
    return ["test" if number % 5 == 4 or number == len(pairs) - 1 < 4 else "train" for number in range(len(pairs))]
