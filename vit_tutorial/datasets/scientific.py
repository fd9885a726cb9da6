"""Pictures that Pillow does not read whole: DICOM, TIFF of other numbers, and 16 bits of colour."""

import numpy as np

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax of DICOM files that are packed as a whole
MOST_PACKED = 20_000_000  # bytes of a compressed DICOM file: what it unpacks to is not known before


def no_dicom():
    """Why DICOM files cannot be read here; None where they can."""
    try:
        import pydicom.pixels  # noqa: F401 (comes with pydicom 3)
    except ImportError:
        return "a DICOM picture: pip install pydicom"
    return None


def dicom_pages(file):
    """The frames of a DICOM file, as `decode.pages_of` gives them: grey as it was measured, dark is little."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_rescale, iter_pixels

    if DEFLATED in file.read():
        raise ValueError("may unpack to anything")
    file.seek(0)
    data = pydicom.dcmread(file)
    if data.file_meta.TransferSyntaxUID.is_compressed and file.seek(0, 2) > MOST_PACKED:
        raise ValueError("may unpack to too much")
    plain = data.BitsStored <= 8 and data.get("RescaleSlope", 1) == 1 and data.get("RescaleIntercept", 0) == 0

    def array(frame):
        if data.PhotometricInterpretation == "PALETTE COLOR":
            frame = apply_color_lut(frame, data)
        if frame.ndim == 3:
            return frame.transpose(2, 0, 1).astype(np.uint8 if frame.itemsize == 1 else np.float32)
        if data.PhotometricInterpretation == "MONOCHROME1":  # white is 0
            frame = 2**data.BitsStored - 1 - frame.astype(np.int64)
        if plain:
            return np.repeat(frame[None].astype(np.uint8), 3, axis=0)
        return apply_rescale(frame, data)[None].astype(np.float32)

    size = data.Columns, data.Rows
    frames = iter_pixels(data)
    for _ in range(int(data.get("NumberOfFrames", 1) or 1)):
        yield size, lambda: array(next(frames))


def tiff_pages(file):
    """The pages of a TIFF file that holds its numbers as they are, grey or RGB."""
    from tifffile import TiffFile

    with TiffFile(file) as tiff:
        for page in tiff.pages:
            own = 3 if page.photometric == 2 else 1  # others are transparency, or light that no eye sees
            others = page.samplesperpixel - own
            if page.compression != 1 or page.imagedepth != 1 or others and own == 1 and not see_through(page):
                raise ValueError(f"compressed, or {page.samplesperpixel} channels")
            yield (page.imagewidth, page.imagelength), lambda page=page: tiff_values(page)


def see_through(page):
    return page.extrasamples[:1] in ((1,), (2,))


def tiff_values(page):
    values = page.asarray()
    values = values.reshape(-1, *values.shape[-2:]) if page.planarconfig == 2 else channels_first(values)
    opaque = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    values = values.astype(np.float32)
    own = 3 if len(values) > 2 else 1
    values = on_white(values[: own + 1], opaque) if see_through(page) else values[:own]
    if page.photometric == 0:  # white is 0
        values = 65535 - values
    return turned(values, page.tags.valueof(274))


def channels_first(values):
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def on_white(values, opaque):
    """Colours `(C, Y, X)` of an array `(C + 1, Y, X)`, the last its opacity: on its own brightest value."""
    if values[-1].min() < opaque:
        alpha, white = values[-1] / np.float32(opaque), np.float32(values[:-1].max())
        for channel in values[:-1]:  # one at a time: large pictures fill the memory
            channel[:] = white + (channel - white) * alpha
    return values[:-1]


def turned(values, way):
    """An array `(C, Y, X)`, upright as the EXIF orientation `way` says."""
    if way in (5, 6, 7, 8):
        values = values.transpose(0, 2, 1)
    return values[:, :: -1 if way in (3, 4, 7, 8) else 1, :: -1 if way in (2, 3, 6, 7) else 1]


def beyond_pillow(opened):
    """Whether Pillow would lose of an opened image what it holds: 16 bits of colour, or numbers of 8 with a sign."""
    if opened.format == "TIFF":
        bits = opened.tag_v2.get(258, (1,))
        deep = set(bits) == {16} and opened.mode in ("RGB", "RGBA", "RGBX", "LA")
        return deep or bits[0] == 8 and 2 in opened.tag_v2.get(339, ())
    if opened.mode not in ("RGB", "RGBA", "LA") or not opened.tile:
        return False
    return opened.tile[0][0] == "ppm" if opened.format == "PPM" else ";16" in str(opened.tile[0].args)


def deep_pages(opened, file):
    """The pages of an image that is `beyond_pillow`."""
    way = opened.getexif().get(274)  # this may read on
    file.seek(0)
    if opened.format == "PNG":
        yield opened.size, lambda: turned(png_of_16_bits(file), way)
    elif opened.format == "TIFF" and opened.tag_v2.get(259, 1) == 1:
        yield from tiff_pages(file)
    else:  # the upper 8 bits are enough where they are used
        values = np.asarray(opened.convert("RGB"))
        if values.max() < 64 or opened.mode == "L":
            raise ValueError("dark, in 16 bits, compressed")
        yield opened.size, lambda: values.transpose(2, 0, 1).copy()


def png_of_16_bits(file):
    import torch
    from torchvision.io import decode_image

    values = decode_image(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)).numpy()
    return values if len(values) == 3 else on_white(values, 65535)
