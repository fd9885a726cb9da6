"""Pictures of more than 8 bits, of several pages and of rare kinds: one range of values for a whole data set."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
import torch
from made_up_pictures import saved, scene
from PIL import Image, ImageOps

from vit_tutorial import datasets
from vit_tutorial.datasets import decode, scientific


def grey16(seed, low=200, high=2000):
    """What a 12-bit camera saves: values from low to high, in 16 bits."""
    grey = np.asarray(scene(seed).convert("L")).astype(float)
    return (low + (high - low) * (grey - grey.min()) / (grey.max() - grey.min())).round().astype(np.uint16)


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values, *more):
    """RGB, RGBA or grey with transparency `(Y, X, C)` in 16 bits, which Pillow does not write."""

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, {2: 4, 3: 2, 4: 6}[values.shape[2]], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def camera(count=6, make=lambda seed: saved(Image.fromarray(grey16(seed)))):
    return {f"{name}/{i}.png": make(100 * c + i) for c, name in enumerate(("crack", "sound")) for i in range(count)}


def test_12_bits_in_16_become_8_by_one_range_for_all(tmp_path):
    write(tmp_path, camera() | {"crack/dim.png": saved(Image.fromarray(grey16(7, 300, 600)))})
    found = datasets.own_images(tmp_path, 60)
    low, high = found.images.value_range
    assert 200 <= low < 220 and 1900 < high <= 2000
    assert len(found) == 13 and found.copies() == []  # `>> 8` would leave 8 grey levels
    dim = found.images.images[found.names.index("crack/dim.png")]
    assert len(dim.unique()) > 30 and dim.max() < 64  # as dim beside the others as it is
    assert "13 of 13 pictures have more than 8 bits: values of 2" in found.report()
    assert found.images[:3].value_range == found.at(16).value_range == (low, high)
    assert found.images.to("cpu").class_counts.tolist() == [7, 6]


def test_new_pictures_are_scaled_as_the_old_ones(tmp_path):
    write(tmp_path, camera() | {"new/a.png": saved(Image.fromarray(grey16(1, 300, 600)))})
    old = datasets.own_images(write(tmp_path / "old", camera()), 16).images.value_range
    own, same = (datasets.read_image(tmp_path / "new" / "a.png", 16, value) for value in (None, old))
    assert own.max() > 220 and same.max() < 64
    names, images, skipped = datasets.read_images(tmp_path / "new", 16, old)
    assert names == ("a.png",) and torch.equal(images[0], same) and skipped == ()
    again = datasets.own_images(tmp_path / "old", 16, value_range=(0, 4000)).images
    assert again.value_range == (0, 4000) and again.images.max() < 130


def test_the_test_side_of_a_folder_has_the_range_of_the_training_side(tmp_path):
    for side, high in (("train", 2000), ("val", 600)):
        write(tmp_path / side, camera(3, lambda seed, high=high: saved(Image.fromarray(grey16(seed, 200, high)))))
    train, test = (datasets.image_folder(tmp_path, split, 16) for split in ("train", "test"))
    assert train.value_range == test.value_range and test.images.max() < 80
    assert torch.equal(datasets.own_images(tmp_path, 16).images[1:].class_counts, torch.tensor([5, 6]))


def test_dead_pixels_do_not_count_and_bright_defects_do():
    values = torch.full((1, 100, 1000), 500.0) + 100 * torch.rand(1, 100, 1000)
    values[0, 0, :3] = 65535
    assert decode.find_range([values])[1] < 800
    values[0, 0, :3], values[0, 1, :20] = 600, 650
    assert decode.find_range([values])[1] == 650
    assert decode.find_range([torch.tensor([[[100.0, 60_000.0]]])]) == (0, 65535)
    assert decode.find_range([torch.zeros(3, 2, 2, dtype=torch.uint8)]) is None
    assert decode.to_8_bits(torch.full((1, 2, 2), 7.0), (7.0, 7.0)).tolist() == [[[0, 0], [0, 0]]] * 3


GREY = grey16(1)
COLOUR = np.asarray(scene(1)).astype(np.uint16) * 8 + 5
OPAQUE = np.full_like(GREY, 65535)
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # to be turned a quarter clockwise
VALUES = {
    "uint16.png": (saved(Image.fromarray(GREY)), GREY),
    "uint16.tif": (tiff(GREY), GREY),
    "uint16 deflated.tiff": (tiff(GREY, compression="zlib"), GREY),
    "big-endian.tif": (tiff(GREY, byteorder=">"), GREY),
    "white is 0.tif": (tiff(65535 - GREY, photometric="miniswhite"), GREY),
    "int16.tif": (tiff(GREY.astype(np.int16) - 500), GREY.astype(int) - 500),
    "int32.tif": (tiff(GREY.astype(np.int32) * 100 - 7), GREY.astype(int) * 100 - 7),
    "uint32.tif": (tiff(GREY.astype(np.uint32) * 2_000_000), GREY.astype(float) * 2_000_000),
    "float16.tif": (tiff(GREY.astype(np.float16)), GREY.astype(np.float16)),
    "float32.TIF": (tiff((GREY / 5000).astype(np.float32)), GREY / 5000),
    "float64.tif": (tiff(GREY / 5000), GREY / 5000),
    "JPEG 2000.jp2": (saved(Image.fromarray(GREY), "JPEG2000"), GREY),
    "RGB.png": (png16(COLOUR), COLOUR),
    "RGB.tif": (tiff(COLOUR, photometric="rgb"), COLOUR),
    "RGB in planes.tif": (tiff(COLOUR.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), COLOUR),
    "RGB and see-through.png": (png16(np.dstack([COLOUR, OPAQUE])), COLOUR),
    "grey and see-through.png": (png16(np.dstack([GREY, OPAQUE])), GREY),
    "RGB and see-through.tif": (tiff(np.dstack([COLOUR, OPAQUE]), photometric="rgb", extrasamples=[2]), COLOUR),
    "RGB and infrared.tif": (tiff(np.dstack([COLOUR, GREY]), photometric="rgb", extrasamples=[0]), COLOUR),
    "grey and see-through.tif": (
        tiff(np.dstack([GREY, OPAQUE]), photometric="minisblack", planarconfig="contig", extrasamples=[2]),
        GREY,
    ),
    "int8.tif": (tiff((GREY // 10 - 100).astype(np.int8)), (GREY // 10 - 100).astype(np.int8)),
    "white is 0, 32 bits.tif": (tiff(99999 - GREY.astype(np.uint32), photometric="miniswhite"), GREY - 34464.0),
    "turned, RGB.png": (png16(COLOUR, chunk(b"eXIf", EXIF)), np.rot90(COLOUR, -1)),
    "turned, RGB.tif": (tiff(COLOUR, photometric="rgb", extratags=[(274, 3, 1, 6, True)]), np.rot90(COLOUR, -1)),
    "turned, float64.tif": (tiff(GREY / 5000, extratags=[(274, 3, 1, 6, True)]), np.rot90(GREY / 5000, -1)),
    "float RGB.tif": (tiff((COLOUR / 9).astype(np.float32), photometric="rgb"), COLOUR / 9),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", VALUES)
def test_values_of_every_kind_are_read_as_they_are(tmp_path, name, capfd):
    data, values = VALUES[name]
    write(tmp_path, {name: data})
    (picture,), _ = decode.read_files([tmp_path / name])[0]
    expected = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    assert picture.dtype == torch.float32 and np.allclose(picture, expected, rtol=1e-5)
    assert datasets.read_image(tmp_path / name, 16).unique().numel() > 50
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("way", range(1, 9))
def test_pictures_are_upright_as_pillow_turns_them(way):
    values, tags = np.arange(6, dtype=np.uint8).reshape(2, 3), Image.Exif()
    tags[274] = way
    with Image.open(io.BytesIO(saved(Image.fromarray(values), "PNG", exif=tags))) as picture:
        assert np.array_equal(scientific.turned(values[None], way)[0], ImageOps.exif_transpose(picture))


def test_what_is_see_through_is_bright_and_saturated_is_too(tmp_path):
    half = OPAQUE.copy()
    half[:30] = 0
    over = np.where(GREY > 1500, np.inf, GREY).astype(np.float32)
    write(tmp_path, {"a.png": png16(np.dstack([COLOUR, half])), "b.tif": tiff(over)})
    assert datasets.read_image(tmp_path / "a.png")[:, :30].unique().tolist() == [255]
    assert datasets.read_image(tmp_path / "b.tif")[0][torch.from_numpy(GREY > 1500)].min() == 255


def test_dark_colours_of_which_pillow_would_leave_nothing_are_refused(tmp_path):
    write(tmp_path, {"a.ppm": b"P6 80 60 65535\n" + COLOUR.astype(">u2").tobytes()})
    with pytest.raises(ValueError, match="unreadable"):
        datasets.read_image(tmp_path / "a.ppm")


def test_missing_values_are_black_and_nothing_else_is_no_picture(tmp_path):
    holes = GREY.astype(np.float32)
    holes[:5] = np.nan
    write(tmp_path, {"a.tif": tiff(holes), "b.tif": tiff(np.full((8, 8), np.nan, np.float32))})
    assert datasets.read_image(tmp_path / "a.tif")[:, :5].unique().tolist() == [0]
    with pytest.raises(ValueError, match=r"b.tif unreadable \(broken"):
        datasets.read_image(tmp_path / "b.tif")
    compressed = tiff(COLOUR, photometric="rgb", compression="zlib")
    bright = tiff((COLOUR.astype(float) * 30).clip(0, 65535).astype(np.uint16), photometric="rgb", compression="zlib")
    five = tiff(np.ones((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    write(tmp_path, {"c.tif": compressed, "d.tif": bright, "e.tif": five})
    assert datasets.read_image(tmp_path / "d.tif").float().std() > 10
    for name in ("c.tif", "e.tif"):  # of 16 bits only the upper 8 are read, which hold nothing
        with pytest.raises(ValueError, match="unreadable"):
            datasets.read_image(tmp_path / name)


def test_every_page_is_a_picture_and_pages_stay_together(tmp_path):
    stack = np.stack([grey16(50 + i) for i in range(5)])
    thumbnail = io.BytesIO()
    with tifffile.TiffWriter(thumbnail) as file:
        file.write(grey16(60))
        file.write(grey16(61)[::2, ::2])
    files = camera(3) | {"crack/stack.tif": tiff(stack, photometric="minisblack"), "sound/t.tif": thumbnail.getvalue()}
    found = datasets.own_images(write(tmp_path, files), 32)
    pages = [i for i, name in enumerate(found.names) if "stack.tif, page" in name]
    assert len(found) == 12 and len(pages) == 5 and len(found.groups[pages].unique()) == 1
    assert found.copies() == [] and len(found.distinct()) == 12
    assert found.skipped == (("sound/t.tif, page 2", "of another size than the first page: a thumbnail?"),)
    assert len(found.folds(3)[pages].unique()) == 1


def test_a_broken_page_does_not_lose_the_others(tmp_path):
    pages = [Image.fromarray(grey16(i)) for i in range(3)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    write(tmp_path, camera(2) | {"crack/x.tif": data[: len(data) - 4000]})
    found = datasets.own_images(tmp_path, 16)
    assert len(found) == 6 and found.skipped == (("crack/x.tif, page 3", "broken or of a rare kind"),)


OTHERS = {
    "a.jfif": saved(scene(1), "JPEG"),
    "b.JPG": saved(scene(2), "JPEG"),
    "c.webp": saved(scene(3), "WEBP"),
    "d.gif": saved(scene(4), "GIF"),
    "e.bmp": saved(scene(5), "BMP"),
    "f.ppm": saved(scene(6), "PPM"),
    "g.jp2": saved(scene(7), "JPEG2000"),
    "h.ico": saved(scene(8).resize((64, 64)), "ICO"),
    "i.avif": saved(scene(9), "AVIF") if "AVIF" in decode.formats() else saved(scene(9)),
    "j.jpe": saved(scene(10), "MPO", save_all=True, append_images=[scene(11)]),
}


@pytest.mark.parametrize("read", [datasets.own_images, lambda folder: datasets.image_folder(folder, "train", 32)])
def test_both_readers_read_every_kind(tmp_path, read):
    write(tmp_path / "one", OTHERS)
    write(tmp_path / "two", {f"{i}.png": saved(scene(30 + i)) for i in range(10)})
    assert len(read(tmp_path)) == (16 if read is not datasets.own_images else 20)


def test_what_needs_a_plugin_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "formats", lambda: ("PNG", "JPEG"))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    boxes = {f"{brand}.x": b"\0\0\0\x18ftyp" + brand.encode() + bytes(12) for brand in ("heic", "mif1", "avif")}
    write(tmp_path, boxes | {"dicom.x": bytes(128) + b"DICM" + bytes(9)})
    advice = {"heic": "HEIC.*pillow-heif", "mif1": "HEIC.*pillow-heif", "avif": "AVIF.*pillow", "dicom": "pydicom"}
    for name, words in advice.items():
        with pytest.raises(ValueError, match=words):
            datasets.read_image(tmp_path / f"{name}.x")


def test_heic_is_read_where_there_is_a_plugin(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(scene(1)).save(tmp_path / "phone.HEIC", quality=95)
    expected = torch.from_numpy(np.array(scene(1))).permute(2, 0, 1)
    assert (datasets.read_image(tmp_path / "phone.HEIC").int() - expected).abs().float().mean() < 6


def dicom(values, bits, **fields):
    """A DICOM file of values `(Y, X)` or `(frames, Y, X)`."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = 8 * values.itemsize
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.PixelData = values.tobytes()
    for name, value in fields.items():
        setattr(data, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def test_dicom_is_read_as_it_was_measured(tmp_path):
    files = {
        "ct.dcm": dicom(GREY.astype(np.int16), 16, RescaleSlope=2, RescaleIntercept=-1000),
        "inverse.dcm": dicom(4095 - GREY, 12, PhotometricInterpretation="MONOCHROME1"),
        "frames.dcm": dicom(np.stack([GREY, GREY + 1]), 12),
        "ultrasound.dcm": dicom((GREY // 8).astype(np.uint8), 8),
    }
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    colours |= {"Rows": 60, "Columns": 80, "NumberOfFrames": 1}
    palette = {f"{name}PaletteColorLookupTableData": bytes(range(256)) for name in ("Red", "Green")}
    palette |= {"BluePaletteColorLookupTableData": bytes(range(255, -1, -1))}
    palette |= {name.replace("Data", "Descriptor"): [256, 0, 8] for name in palette}
    files |= {
        "deep.dcm": dicom(COLOUR, 16, **colours),
        "colour.dcm": dicom((COLOUR // 8).astype(np.uint8), 8, **colours),
        "palette.dcm": dicom((GREY // 8).astype(np.uint8), 8, PhotometricInterpretation="PALETTE COLOR", **palette),
    }
    read = [pages for pages, _ in decode.read_files([write(tmp_path, files) / name for name in files])]
    assert np.array_equal(read[0][0][0], GREY * 2.0 - 1000) and np.array_equal(read[1][0][0], GREY)
    assert len(read[2]) == 2 and np.array_equal(read[2][1][0], GREY + 1)
    assert read[3][0].dtype == torch.uint8 and np.array_equal(read[3][0][1], GREY // 8)
    assert np.array_equal(read[4][0], COLOUR.transpose(2, 0, 1)) and read[5][0].dtype == torch.uint8
    assert np.array_equal(read[6][0][1], GREY // 8) and np.array_equal(read[6][0][2], 255 - GREY // 8)
    half = files["ct.dcm"][:3000]
    assert decode.read_files([write(tmp_path, {"half.dcm": half}) / "half.dcm"])[0][0] == ["broken or of a rare kind"]
