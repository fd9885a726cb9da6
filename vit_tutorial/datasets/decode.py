"""From the bytes of picture files to pixels: upright, RGB, and a sentence for what is not a picture."""

import hashlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps

from ..layers import image_sides
from ..machine.threads import usable_cores
from . import scientific
from .photographs import centre_square

MOST_PIXELS = 40_000_000
MOST_DEEP_PIXELS = 30_000_000  # with 16 bits of colour
MOST_PAGES, MOST_PAGE_PIXELS = 1000, 1_000_000_000  # of one file
LARGE = 4_000_000  # pixels; only one such picture is worked on at a time, however many threads read
ONE_LARGE = threading.Lock()
# What Pillow is asked to open; no others are tried: some start programs, some have no mark of their own.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "PCX", "QOI", "SGI", "PSD")
KINDS = "PNG, JPEG, WEBP, TIFF or other usual"
FULL = 65535.0  # white, with 16 bits


class Unreadable(ValueError):
    """A file that cannot be read as a picture: the sentence, and in a few words the `reason`, for lists."""

    def __init__(self, reason, sentence):
        super().__init__(sentence)
        self.reason = reason


def decode(name, file, image_size=None, value_range=None):
    """The picture in the binary file `file` as uint8 `(3, Y, X)`, RGB and upright as its EXIF data say.

    Of several pages the first. Values of more than 8 bits are scaled by `value_range`, or else the picture's own
    (`find_range`). Raises `Unreadable` as `pictures` does.
    """
    picture = next(pictures(name, file, image_size))
    return to_8_bits(picture, value_range or find_range([picture]))


def pictures(name, file, image_size=None):
    """Each picture in the binary file `file`: all pages of a TIFF or DICOM file, of an animation the first frame.

    Yields uint8 `(3, Y, X)`, RGB and upright as its EXIF data say, transparent parts white; or float32, `(1, Y, X)` or
    `(3, Y, X)`, where there are more than 8 bits; or the reason why a page is left out. With `image_size` (one side or
    `(rows, columns)`) a JPEG or a large picture may come out smaller, but with at least twice as many pixels a side:
    that is much faster. Raises `Unreadable` for anything else. Pillow's warnings are the caller's to ignore: filters
    belong to all threads.
    """
    name = short(name)
    side = None if image_size is None else 2 * max(image_sides(image_size))
    first, total = None, 0
    try:
        for number, (size, load) in enumerate(pages_of(name, file, side)):
            pixels = size[0] * size[1]
            first, total = first or size, total + pixels
            if pixels > MOST_PIXELS:
                raise too_large(name, size)
            if number == MOST_PAGES or total > MOST_PAGE_PIXELS:
                raise Unreadable("more pages", f"expected at most {MOST_PAGES:,} pages in {name!r}, found more")
            if size != first:
                yield "of another size than the first page: a thumbnail?"
                continue
            with ONE_LARGE if pixels > LARGE else nullcontext():
                picture = smaller(load(), side)
            yield picture
        if first is None:
            raise ValueError("no page")
    except Unreadable:
        raise
    except Exception:  # Pillow and others let through whatever a hostile file provokes
        sentence = f"expected a complete {KINDS} picture, found {name!r} broken or of a rare kind"
        raise Unreadable("broken or of a rare kind", f"{sentence}; save it anew as PNG or JPEG") from None


def pages_of(name, file, side):
    """For each page of the file its size `(width, height)` and a function that loads it, as an array `(C, Y, X)`."""
    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM":
        if reason := scientific.no_dicom():
            raise Unreadable(reason, f"expected pydicom for the DICOM picture {name!r}, found none: {reason}")
        yield from scientific.dicom_pages(file)
        return
    try:
        opened = Image.open(file, formats=formats())
    except Image.DecompressionBombError:
        raise too_large(name) from None
    except Exception:
        if start[:4] not in scientific.TIFF:
            raise no_picture(name, start) from None
        file.seek(0)
        yield from scientific.tiff_pages(file)
        return
    with opened:
        if scientific.beyond_pillow(opened):
            if opened.width * opened.height > MOST_DEEP_PIXELS:
                raise too_large(name, opened.size, MOST_DEEP_PIXELS)
            yield from scientific.deep_pages(opened, file)
            return
        if side is not None:
            opened.draft(opened.mode, (side, side))
        yield opened.size, lambda: upright(opened)
        for number in range(1, getattr(opened, "n_frames", 1) if opened.format == "TIFF" else 1):
            opened.seek(number)
            yield opened.size, lambda: upright(opened)


@cache
def formats():
    """Those of `FORMATS` that this Pillow has, and HEIF where there is a plugin."""
    Image.init()
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)


def upright(picture):
    """A Pillow image as an array: uint8 `(3, Y, X)`, or float32 `(1, Y, X)` where it has more than 8 bits of grey."""
    ImageOps.exif_transpose(picture, in_place=True)  # in place: no copy where nothing is to be turned
    if picture.mode[0] not in "IF":
        return np.array(to_rgb(picture)).transpose(2, 0, 1)
    values, tags = np.asarray(picture), getattr(picture, "tag_v2", {})
    if values.dtype == np.int32 and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow knows none
    values = values[None].astype(np.float32)
    return FULL - values if tags.get(262) == 0 else values  # 0: white is 0


def to_rgb(picture):
    """A Pillow image of 8 bits as RGB, transparency on white."""
    if picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def smaller(values, side):
    """An array `(C, Y, X)` as a tensor; a large one with no more pixels than `side` needs, all of them finite."""
    kind = np.uint8 if values.dtype == np.uint8 else np.float32
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            low, high = values[finite].min(), values[finite].max()
            np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    if side is not None and values[0].size > LARGE and min(values.shape[1:]) >= 2 * side:
        factor = min(values.shape[1:]) // side
        channels = (Image.fromarray(channel.astype(kind, copy=False)) for channel in values)
        values = np.stack([np.asarray(channel.reduce(factor)) for channel in channels])
    return torch.from_numpy(np.ascontiguousarray(values, kind))


# ------------------------------------------------------------------------------------------------ the range of values


def find_range(found):
    """`(low, high)`, the values that become black and white in those pictures that are float32; None without any.

    The percentiles 0.1 and 99.9 of all of them, with as much room again beyond each, as far as there are values: a few
    dead pixels do not count, a few bright defects do. Values that fill more than half of 16 bits keep all 16.
    """
    deep = [picture for picture in found if picture.dtype == torch.float32]
    if not deep:
        return None
    step = 1 + sum(picture.numel() for picture in deep) // 4_000_000
    values = np.concatenate([picture.flatten()[::step].numpy() for picture in deep]).astype(float)
    low, high = np.percentile(values, (0.1, 99.9))
    low, high = max(low - (high - low), values.min()), min(high + (high - low), values.max())
    if low >= 0 and high <= FULL < 2 * (high - low):
        return 0.0, FULL
    return float(low), float(high)


def to_8_bits(picture, value_range):
    """A picture as uint8 `(3, Y, X)`: float32 `(1 or 3, Y, X)` is scaled so that `value_range` becomes 0 to 255."""
    if picture.dtype == torch.uint8:
        return picture
    low, high = value_range
    scaled = 255 * (picture.double() - low) / (high - low if high > low else 1)
    return scaled.clamp(0, 255).round().byte().expand(3, -1, -1)


# ------------------------------------------------------------------------------------------------ sentences


def short(name):
    return name if len(name) <= 60 else f"{name[:40]} ... {name[-15:]}"


def too_large(name, size=None, most=MOST_PIXELS):
    found = "far more" if size is None else f"{size[0]} x {size[1]}"
    most = f"at most {most // 10**6} million pixels"
    return Unreadable(
        f"{found} pixels, {most}: a decompression bomb?",
        f"expected {most}, found {found} in {name!r}; save a smaller copy",
    )


PHONES = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "HEIC")


def no_picture(name, start):
    kind = PHONES.get(start[8:12]) if start[4:8] == b"ftyp" else None
    if kind and kind.replace("HEIC", "HEIF") in formats():
        return Unreadable(f"{kind}, broken or of a rare kind", f"expected a complete picture, found {name!r} broken")
    if kind:
        cure = {"HEIC": "pip install pillow-heif", "AVIF": "pip install --upgrade pillow"}[kind]
        return Unreadable(
            f"a {kind} picture, not read here: save it as JPEG, or {cure}",
            f"expected a {KINDS} picture, found {name!r} to be {kind}; save it as JPEG, or {cure}",
        )
    return Unreadable(
        f"no {KINDS} picture",
        f"expected a complete {KINDS} picture, found {name!r} to be none; open it in a picture viewer and save it as "
        "PNG or JPEG",
    )


# ------------------------------------------------------------------------------------------------ files


def read_files(files, image_size=None):
    """For each file its pictures, as `pictures` gives them, and the SHA-256 of its bytes; or why there are none.

    A file is a `Path`, or what opens as one does. With `image_size`, one side in pixels or `(rows, columns)`, a
    picture's centre square is resized to that.
    """

    def read(file):
        found = []
        try:
            with file.open("rb") as opened:
                for picture in pictures("", opened, image_size):
                    whole = isinstance(picture, str) or image_size is None
                    found.append(picture if whole else centre_square(picture, image_size))
                opened.seek(0)
                return found, hashlib.file_digest(opened, "sha256").hexdigest()
        except Unreadable as error:
            reason = error.reason
        except OSError as error:
            reason = f"cannot be opened: {error.strerror or type(error).__name__}"
        except Exception as error:  # what zipfile raises depends on what is broken
            reason = f"cannot be unpacked: {error or type(error).__name__}"
        return [*found, reason], ""

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(4, usable_cores())) as pool:
        return list(pool.map(read, files))
