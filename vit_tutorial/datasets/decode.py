"""From the bytes of picture files to pixels: upright, RGB, and a sentence for what is not a picture."""

import hashlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import torch
from PIL import Image, ImageOps

from ..layers import image_sides
from ..machine.threads import usable_cores
from .photographs import centre_square

MOST_PIXELS = 40_000_000
LARGE = 4_000_000  # pixels; only one such picture is worked on at a time, however many threads read
ONE_LARGE = threading.Lock()
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # no others are tried: some start programs
KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")  # what recent phones save


class Unreadable(ValueError):
    """A file that cannot be read as a picture: the sentence, and in a few words the `reason`, for lists."""

    def __init__(self, reason, sentence):
        super().__init__(sentence)
        self.reason = reason


def decode(name, file, image_size=None):
    """The picture in the binary file `file` as uint8 `(3, Y, X)`, RGB and upright as its EXIF data say.

    Of an animation the first frame; 16 bits are scaled to 8; transparent parts become white. With `image_size` (one
    side or `(rows, columns)`) a JPEG or a large picture may come out smaller, but with at least twice as many pixels a
    side: that is much faster. Raises `Unreadable` for anything else. Pillow's warnings are the caller's to ignore:
    filters belong to all threads.
    """
    name = short(name)
    try:
        opened = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise too_large(name) from None
    except Exception:  # Pillow lets through whatever a hostile file provokes
        raise no_picture(name, file) from None
    with opened:
        side = None if image_size is None else 2 * max(image_sides(image_size))
        if side is not None:
            opened.draft(opened.mode, (side, side))
        pixels = opened.width * opened.height
        if pixels > MOST_PIXELS:
            raise too_large(name, opened.size)
        with ONE_LARGE if pixels > LARGE else nullcontext():
            try:
                ImageOps.exif_transpose(opened, in_place=True)  # in place: no copy where nothing is to be turned
                picture = to_rgb(opened)
                if side is not None and pixels > LARGE and min(picture.size) >= 2 * side:
                    picture = picture.reduce(min(picture.size) // side)
                return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3, Y, X)
            except Exception:
                sentence = f"expected a complete {KINDS} picture, found {name!r} broken or of a rare kind"
                raise Unreadable("broken or of a rare kind", f"{sentence}; save it anew as PNG or JPEG") from None


def to_rgb(picture):
    """A Pillow image of any mode as RGB: 16 bits scaled down, transparency on white."""
    if picture.mode.startswith("I"):  # grey, 16 bits in 16 or 32
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("more than 16 bits")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("floats have no fixed white")
    if picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def short(name):
    return name if len(name) <= 60 else f"{name[:40]} ... {name[-15:]}"


def too_large(name, size=None):
    found = "far more" if size is None else f"{size[0]} x {size[1]}"
    most = f"at most {MOST_PIXELS // 10**6} million pixels"
    return Unreadable(
        f"{found} pixels, {most}: a decompression bomb?",
        f"expected {most}, found {found} in {name!r}; save a smaller copy",
    )


def no_picture(name, file):
    file.seek(0)
    if file.read(12)[4:] in HEIC:
        return Unreadable(
            "a HEIC picture, not read here: save it as JPEG",
            f"expected a {KINDS} picture, found {name!r} to be HEIC; save it as JPEG, and set the phone to JPEG",
        )
    return Unreadable(
        f"no {KINDS} picture",
        f"expected a complete {KINDS} picture, found {name!r} to be none; open it in a picture viewer and save it as "
        "PNG or JPEG",
    )


def read_pictures(files, image_size=None):
    """For each file the image `(3, Y, X)`, as `decode` gives it, and the SHA-256 of its bytes; or why there is none.

    A file is a `Path`, or what opens as one does, or, as text, the reason why it is not to be read. With `image_size`,
    one side in pixels or `(rows, columns)`, an image's centre square is resized to that.
    """

    def read(file):
        if isinstance(file, str):
            return file
        try:
            with file.open("rb") as opened:
                image = decode("", opened, image_size)
                opened.seek(0)
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            return image if image_size is None else centre_square(image, image_size), digest
        except Unreadable as error:
            return error.reason
        except OSError as error:
            return f"cannot be opened: {error.strerror or type(error).__name__}"
        except Exception as error:  # what zipfile raises depends on what is broken
            return f"cannot be unpacked: {error or type(error).__name__}"

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(4, usable_cores())) as pool:
        return list(pool.map(read, files))
