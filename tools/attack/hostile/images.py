"""Image files that are broken, odd, or lie about their size."""

import io
import pickle
import struct
import zlib
from functools import partial

import numpy as np
import tifffile
from made_up_pictures import saved, scene
from PIL import Image

from vit_tutorial import datasets

from .case import Case, cases, classes, tenths, write

GROUP = "images"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, bits=8, kind=2):
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def empty_png(width, height):
    return png(width, height, chunk(b"IDAT", b""))


def patched(kind, place, new):
    """A picture of this kind with the bytes `new` from a place on, which is a number or follows a mark."""
    data = saved(scene(), kind)
    place = place if isinstance(place, int) else data.index(place) + len(place)
    return data[:place] + new + data[place + len(new) :]


def of_one_colour(mode):
    """39.7 million pixels in a few kB."""
    picture = Image.new(mode, (6300, 6300))
    return saved(picture, "TIFF", compression="tiff_lzw") if mode == "CMYK" else saved(picture, compress_level=1)


def black_in_16_bits(kind, channels):
    """29.9 million pixels of a PNG of this kind, all bytes 0: where there is transparency, nothing is to be seen."""
    rows = zlib.compress(bytes(5470 * (1 + 2 * channels * 5470)), 1)
    return png(5470, 5470, chunk(b"IDAT", rows), bits=16, kind=kind)


def in_a_folder(data):
    """Both readers: `own_images` lists the file, and `read_image` names it in its error."""
    name = "odd.png"

    def make(folder):
        write(folder, classes("cat", "dog", count=2) | {f"cat/{name}": data() if callable(data) else data})

        def call():
            listed = dict(datasets.own_images(folder, 16).skipped).get(f"cat/{name}")
            try:
                image = datasets.read_image(folder / "cat" / name, 16)
            except ValueError as error:
                if not listed or listed not in str(error) or str(folder) not in str(error):
                    raise AssertionError(f"one reader says {listed}, the other {error}") from None
                return f"{name}: {listed}"
            if listed:
                raise AssertionError(f"own_images says {listed}, read_image reads")
            return f"read as {tuple(image.shape)}"

        return call

    return make


def four_large(folder):
    """Four at once: the reader works in threads."""
    write(folder, classes("cat", "dog", count=1))
    write(folder, dict.fromkeys((f"cat/{i}.png" for i in range(2, 6)), of_one_colour("RGBA")))
    return lambda: datasets.own_images(folder, 16).report()


def floats(values, kind="<f4"):
    """A TIFF file of numbers of this kind."""
    file = io.BytesIO()
    tifffile.imwrite(file, values.astype(kind))
    return file.getvalue()


def pages(folder):
    """1,001 pages, of which the first points at the second and so on."""
    picture = Image.new("L", (4, 4))
    data = saved(picture, "TIFF", save_all=True, append_images=[picture] * 1000)
    write(folder, classes("cat", "dog", count=1) | {"cat/pages.tif": data})
    return lambda: datasets.own_images(folder, 16).report()


def turned(way):
    tags = Image.Exif()
    tags[0x0112] = way
    return saved(scene(1), "JPEG", exif=tags)


def animated(kind):
    frames = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(40)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


PICTURE = scene(1)
GREY = Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257)
READ = {
    "16 bits of grey, PNG": saved(GREY),
    "16 bits of grey, TIFF": saved(GREY, "TIFF"),
    "CMYK": saved(PICTURE.convert("CMYK"), "JPEG"),
    "1 bit": saved(PICTURE.convert("1")),
    "palette with transparency": saved(PICTURE.convert("P"), transparency=3),
    "grey with transparency": saved(PICTURE.convert("LA")),
    "animated GIF": animated("GIF"),
    "animated PNG": animated("PNG"),
    "animated WebP": animated("WEBP"),
    "EXIF: turned": turned(6),
    "EXIF: turned into nowhere": turned(99),
    "EXIF: nonsense": saved(PICTURE, "JPEG", exif=b"Exif\0\0" + bytes(range(200))),
    "ICC profile: nonsense": saved(PICTURE, icc_profile=bytes(range(256))),
    "a float TIFF": floats(np.ones((8, 8))),
    "floats up to 1e38": floats(1e38 * np.random.default_rng(0).random((8, 8))),
    "64-bit floats": floats(np.random.default_rng(0).random((8, 8)), "<f8"),
    "numbers of 16 bits with a sign": floats(np.arange(64).reshape(8, 8) - 32, "<i2"),
    "numbers of 8 bits with a sign": floats(np.arange(64).reshape(8, 8) - 32, "<i1"),
    "infinite numbers": floats(np.where(np.eye(8) > 0, np.inf, 1)),
    "one pixel": saved(Image.new("RGB", (1, 1))),
    "very wide": saved(Image.new("RGB", (20_000, 2))),
    "another kind than its name": saved(PICTURE, "BMP"),
    "pixels that unpack to 100 MB": lambda: png(8, 8, chunk(b"IDAT", zlib.compress(bytes(100_000_000)))),
    "data after the end": saved(PICTURE) + b"<script>alert(1)</script>",
}
for mode in ("RGB", "RGBA", "L", "I;16", "P", "1", "LA", "CMYK"):
    READ[f"39.7 million pixels, {mode}"] = partial(of_one_colour, mode)

for name, (kind, channels) in {"RGB": (2, 3), "RGBA": (6, 4)}.items():
    READ[f"29.9 million pixels of 16 bits, {name}"] = partial(black_in_16_bits, kind, channels)

REPORTED = {
    "60,000 x 60,000 PNG": (empty_png(60_000, 60_000), "decompression bomb"),
    "9,000 x 9,000 PNG": (empty_png(9_000, 9_000), "9000 x 9000 pixels.*bomb"),
    "2 billion x 2 billion PNG": (empty_png(2**31 - 1, 2**31 - 1), "bomb|no PNG"),
    "6,000 x 6,000 PNG, 16 bits of colour": (
        png(6000, 6000, chunk(b"IDAT", b""), bits=16),
        "6000 x 6000 pixels, at most 30 million",
    ),
    "0 x 0 PNG": (empty_png(0, 0), "no PNG|broken"),
    "65,535 x 65,535 JPEG": (patched("JPEG", b"\xff\xc0\0\x11\x08", b"\xff\xff\xff\xff"), "bomb"),
    "65,535 x 65,535 GIF": (patched("GIF", 6, b"\xff\xff\xff\xff"), "bomb"),
    "30,000 x 30,000 BMP": (patched("BMP", 18, struct.pack("<ii", 30_000, 30_000)), "bomb"),
    "text that unpacks to 100 MB": (
        lambda: png(1, 1, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))), chunk(b"IDAT", b"")),
        "no PNG|broken",
    ),
    "wrong checksums": (saved(scene()).replace(b"IDAT", b"IDAX"), "broken|no PNG"),
    "2 billion pixels wide TIFF": (patched("TIFF", b"\0\1\4\0\1\0\0\0", b"\xff\xff\xff\x7f"), "bomb|broken"),
    "100,000 x 100,000 PPM": (b"P6 100000 100000 255\n", "bomb"),
    "60,000 x 60,000 JPEG 2000": (
        patched("JPEG2000", b"ihdr", struct.pack(">II", 60_000, 60_000)),
        "bomb|no PNG|broken",
    ),
    "a float TIFF of no numbers": (floats(np.full((8, 8), np.nan)), "broken or of a rare kind"),
    "16 bits of colour, broken": (
        png(8, 8, chunk(b"IDAT", b"x"), bits=16),
        "no PNG|broken",
    ),
    "16 bits of colour and transparency, broken": (
        png(8, 8, chunk(b"IDAT", b"x"), bits=16, kind=6),
        "no PNG|broken",
    ),
    "16 bits of colour, PPM, dark": (b"P6 8 8 65535\n" + bytes(384), "broken or of a rare kind"),
    "half a file of complex numbers": (floats(np.ones((64, 64)), "<c8")[:9000], "broken|no PNG"),
    "DICOM: only the mark": (bytes(128) + b"DICM", "DICOM|broken"),
    "DICOM: noise": (bytes(128) + b"DICM" + bytes(range(256)) * 9, "DICOM|broken"),
    "DICOM: packed as a whole": (
        bytes(128) + b"DICM1.2.840.10008.1.2.1.99" + zlib.compress(bytes(10**8)),
        "DICOM|broken",
    ),
    "zero bytes": (b"", "no PNG"),
    "a thousand zeros": (bytes(1000), "no PNG"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "no PNG"),
    "HTML": (b"<img src=x onerror=alert(1)>", "no PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG"),
    "PDF": (b"%PDF-1.7\n", "no PNG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "no PNG"),
    "a pickle": (pickle.dumps([1, 2]), "no PNG"),
    "only a PNG's first 8 bytes": (b"\x89PNG\r\n\x1a\n", "no PNG"),
}
for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "PCX", "SGI"):
    REPORTED |= tenths(f"{kind}, {{}}", saved(PICTURE, kind), "broken|no PNG")

SLOW = ("to 100 MB", "9.7 million", "9.9 million")
CASES = [
    *cases(GROUP, in_a_folder, "report", REPORTED, SLOW),
    *cases(GROUP, in_a_folder, "read", {name: (data, "read as .3, 16, 16.") for name, data in READ.items()}, SLOW),
    Case(GROUP, "1,001 pages", pages, "report", "page 1001: more pages", slow=True),
    Case(GROUP, "four of 39.7 million pixels at once", four_large, "read", "cat: 5", slow=True),
]
