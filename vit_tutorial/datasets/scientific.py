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
    from pydicom.pixels import apply_rescale, iter_pixels

    if DEFLATED in file.read():
        raise ValueError("may unpack to anything")
    file.seek(0)
    data = pydicom.dcmread(file)
    if data.file_meta.TransferSyntaxUID.is_compressed and file.seek(0, 2) > MOST_PACKED:
        raise ValueError("may unpack to too much")
    plain = data.BitsStored <= 8 and data.get("RescaleSlope", 1) == 1 and data.get("RescaleIntercept", 0) == 0

    def array(frame):
        if data.SamplesPerPixel == 3:
            return np.asarray(frame, np.uint8).transpose(2, 0, 1)
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
            channels = page.samplesperpixel
            if page.compression != 1 or channels not in (1, 3) or page.imagedepth != 1:
                raise ValueError(f"compressed, or {channels} channels")
            yield (page.imagewidth, page.imagelength), lambda page=page: channels_first(page)


def channels_first(page):
    values = page.asarray().astype(np.float32)
    if page.samplesperpixel == 1:
        return values.reshape(1, *values.shape[-2:])
    return values if page.planarconfig == 2 else values.transpose(2, 0, 1)


def colours_of_16_bits(opened):
    """Whether an opened Pillow image is RGB of 16 bits, of which Pillow keeps 8."""
    if opened.mode != "RGB":
        return False
    return (
        opened.format == "TIFF"
        and opened.tag_v2.get(258) == (16,) * 3
        or opened.format == "PNG"
        and (opened.tile and str(opened.tile[0].args).startswith("RGB;16"))
    )


def colour_pages(opened, file):
    """The pages of an image of `colours_of_16_bits`."""
    file.seek(0)
    if opened.format == "PNG":
        yield opened.size, lambda: png_of_16_bits(file)
    elif opened.tag_v2.get(259, 1) == 1:
        yield from tiff_pages(file)
    else:  # the upper 8 bits are enough where they are used
        values = np.asarray(opened)
        if values.max() < 64:
            raise ValueError("dark, in 16 bits, compressed")
        yield opened.size, lambda: values.transpose(2, 0, 1).copy()


def png_of_16_bits(file):
    import torch
    from torchvision.io import decode_image

    return decode_image(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)).numpy().astype(np.float32)
