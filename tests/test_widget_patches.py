"""PatchExplorer's Python side: what it takes and refuses, what it keeps, and uploads of every kind."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_widget_upload import Page

from vit_tutorial import datasets, patchify, plots
from vit_tutorial.datasets.photographs import centre_square
from vit_tutorial.widgets import PatchExplorer, Upload
from vit_tutorial.widgets.upload import read_upload


def noise(Y=224, X=224, seed=0):
    return torch.randint(0, 256, (3, Y, X), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def shown(explorer):
    pixels = torch.frombuffer(bytearray(explorer.pixels), dtype=torch.uint8)
    return pixels.reshape(explorer.side, explorer.side, 3).permute(2, 0, 1)


# ------------------------------------------------------------------------------------------------ what it takes


@pytest.mark.parametrize("side", [16, 32, 96, 224, 256])
def test_small_squares_keep_their_pixels(side):
    image = noise(side, side)
    explorer = PatchExplorer(image, patch_size=8)
    assert torch.equal(explorer.image, image) and torch.equal(shown(explorer), image)
    assert all(side % P == 0 for P in explorer.patch_sizes) and {4, 8} <= set(explorer.patch_sizes)


@pytest.mark.parametrize("shape", [(427, 640), (300, 300), (100, 100), (1, 1), (1, 500)])
def test_other_images_become_their_centre_square(shape):
    image = noise(*shape)
    explorer = PatchExplorer(image)
    assert torch.equal(shown(explorer), centre_square(image, 224)) and explorer.image.shape == (3, 224, 224)
    assert explorer.patch_sizes == [4, 7, 8, 14, 16, 28, 32, 56, 112]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (noise()[None], r"expected one uint8 image \(3, Y, X\), found torch.uint8 \(1, 3, 224, 224\); .*images\[0\]"),
        (noise() / 255, "found torch.float32"),
        (noise().permute(1, 2, 0), r"found torch.uint8 \(224, 224, 3\)"),
        ("cat.jpg", "found str"),
        (None, "found NoneType"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), "at least 1 x 1"),
    ],
)
def test_wrong_images_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        PatchExplorer(image)


@pytest.mark.parametrize("P", [15, 0, -16, 224, 16.0, "16", None])
def test_wrong_patch_sizes_are_named(P):
    with pytest.raises(
        ValueError, match="expected a patch size that divides 224 pixels .* found .*; choose one of 4, 7"
    ):
        PatchExplorer(noise(), patch_size=P)


def test_view_can_be_read_and_set():
    explorer = PatchExplorer(noise(), 56, patch=5, dropped=[1], order=[*range(8, 16), *range(8)])
    assert (explorer.patch_size, explorer.patch, explorer.dropped, explorer.order[0]) == (56, 5, [1], 8)
    for name, bad, message in (
        ("patch_size", 5, "divides 224"),
        ("order", [0, 0, 1], "an order of 16 patches"),
        ("dropped", [16], "from 0 to 15, found 16"),
        ("patch", -1, "from 0 to 15, found -1"),
    ):
        before = getattr(explorer, name)
        with pytest.raises(ValueError, match=message):
            setattr(explorer, name, bad)
        assert getattr(explorer, name) == before
    with pytest.raises(ValueError, match="an order of 16 patches"):
        PatchExplorer(noise(), 56, order=[1, 2])


def test_a_new_patch_size_puts_the_patches_back():
    explorer = PatchExplorer(noise(), 56, patch=7, dropped=[1], order=[*range(8, 16), *range(8)])
    explorer.patch_size = 28
    assert explorer.order == list(range(64)) and explorer.dropped == []
    assert divmod(explorer.patch, 8) == (3, 7)  # the same place as row 1, column 3 of 4
    # From the page all comes at once, and stays.
    explorer.set_state({"patch_size": 112, "order": [3, 2, 1, 0], "dropped": [2], "patch": 1})
    assert (explorer.patch_size, explorer.order, explorer.dropped, explorer.patch) == (112, [3, 2, 1, 0], [2], 1)


def test_repr_is_stable_and_the_picture_is_of_the_view():
    explorer = PatchExplorer(datasets.sample_image("cat", 224), patch_size=32)
    assert repr(explorer) == "PatchExplorer(224 x 224 pixels, patch size 32, 49 patches)"
    figures = []
    for view in ({}, {"patch": 3}, {"dropped": [3]}, {"order": list(range(48, -1, -1))}, {"dropped": list(range(49))}):
        explorer.set_trait(*next(iter(view.items()))) if view else None
        figure, alt = explorer.figure()
        figures.append(plots.png(figure))
        assert "7 x 7 patches" in alt
    assert len(set(figures)) == 5
    data, metadata = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer) and metadata["image/png"]["alt"] == alt


def test_the_bag_is_the_same_in_every_order():
    explorer = PatchExplorer(noise(), 56, order=torch.randperm(16).tolist())
    bags = []
    for _ in range(3):
        explorer.order = torch.randperm(16).tolist()
        bags.append(explorer.figure()[0].axes[2].images[0].get_array().tobytes())
    assert len(set(bags)) == 1
    explorer.dropped = [4]
    assert explorer.figure()[0].axes[2].images[0].get_array().tobytes() != bags[0]


# ------------------------------------------------------------------------------------------------ uploads


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


RGB = Image.fromarray(noise(40, 60).permute(1, 2, 0).numpy())
SMOOTH = Image.linear_gradient("L").resize((60, 40))


def upload(explorer, name, data):
    """As the page does it."""
    Page(explorer.upload).sends((name, data), part=2**21)


def test_upload_takes_the_place_of_the_image():
    explorer = PatchExplorer(noise(96, 96), 16, order=list(range(35, -1, -1)))
    assert isinstance(explorer.upload, Upload)
    for _ in range(2):  # the same file twice is taken twice
        explorer.pixels = bytes(3 * 96 * 96)
        upload(explorer, "a.png", saved(RGB))
        expected = centre_square(torch.from_numpy(np.array(RGB)).permute(2, 0, 1), 96)
        assert torch.equal(shown(explorer), expected) and torch.equal(explorer.image, expected)
    assert explorer.message == "'a.png': the centre of 40 x 60 pixels, now 96 x 96."
    assert explorer.order[0] == 35


def test_a_bad_upload_leaves_all_as_it_was(capsys):
    explorer = PatchExplorer(noise())
    before = explorer.pixels
    upload(explorer, "<img src=x onerror=alert(1)>.png", b"\x89PNG\r\n\x1a\n")
    assert explorer.message.startswith("The picture stays as it was: expected a complete PNG, JPEG")
    assert "'<img src=x onerror=alert(1)>.png'" in explorer.message
    assert explorer.pixels == before
    assert capsys.readouterr() == ("", "")


def bomb(width, height):
    """A PNG of a few bytes that claims to be so large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "to be none"),
        (b"Dear diary", "to be none"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "to be none"),  # would start another program
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "to be none"),
        (saved(RGB)[:900], "broken or of a rare kind"),
        (saved(RGB, "JPEG")[:900], "broken or of a rare kind"),
        (saved(RGB, "TIFF")[:900], "expected a complete"),
        (saved(RGB, "WEBP")[:300], "expected a complete"),
        (bomb(100_000, 100_000), "at most 40 million pixels, found far more"),
        (bomb(10_000, 9_500), "at most 40 million pixels, found 10000 x 9500"),  # Pillow would warn
        (bomb(8_000, 8_000), "at most 40 million pixels, found 8000 x 8000"),
    ],
)
def test_what_is_no_picture_gets_one_sentence(data, message, capfd):
    with pytest.raises(ValueError, match=message) as caught:
        read_upload("a.png", data)
    assert str(caught.value).startswith("expected") and ";" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")
def test_hostile_bytes_never_get_through():
    """Any damage ends in a picture or in a ValueError."""
    chance = random.Random(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        good = saved(RGB, kind)
        for _ in range(60):
            data = bytearray(good[: chance.choice([len(good), chance.randrange(len(good))])])
            for _ in range(chance.randrange(1, 9)):
                if data:
                    data[chance.randrange(min(len(data), chance.choice([64, len(good)])))] = chance.randrange(256)
            try:
                image, _ = read_upload("a", bytes(data))
                assert image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3
            except ValueError:
                pass


def read(data):
    image, size = read_upload("a", data)
    assert size == tuple(image.shape[1:])
    return image


ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # to be shown a quarter turn clockwise
GREY16 = (np.asarray(SMOOTH).astype(np.uint16) * 257).astype(np.uint16)
SEE_THROUGH = Image.merge("RGBA", (*RGB.split(), Image.new("L", RGB.size, 0)))
HALF = Image.merge("LA", (Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 128)))
FIRST, SECOND = Image.new("RGB", (20, 10), (250, 0, 0)), Image.new("RGB", (20, 10), (0, 0, 250))


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        (saved(RGB), RGB, 0),
        (saved(RGB, "BMP"), RGB, 0),
        (saved(RGB, "TIFF"), RGB, 0),
        (saved(RGB, "WEBP", lossless=True), RGB, 0),
        (saved(RGB, "PNG", exif=ROTATED), RGB.transpose(Image.Transpose.ROTATE_270), 0),
        (
            saved(SMOOTH.convert("RGB"), "JPEG", quality=95, exif=ROTATED),
            SMOOTH.transpose(Image.Transpose.ROTATE_270),
            4,
        ),
        (saved(SMOOTH.convert("CMYK"), "JPEG", quality=95), SMOOTH, 6),
        (saved(SMOOTH.convert("CMYK"), "TIFF"), SMOOTH, 1),
        (saved(SMOOTH), SMOOTH, 0),
        (saved(Image.fromarray(GREY16)), SMOOTH, 0),
        (saved(Image.fromarray(GREY16), "TIFF"), SMOOTH, 0),
        (saved(SMOOTH.convert("1")), SMOOTH.convert("1"), 0),
        (saved(SEE_THROUGH), Image.new("RGB", RGB.size, "white"), 0),
        (saved(HALF), Image.new("L", (8, 8), 127), 1),
        (saved(FIRST, "GIF", save_all=True, append_images=[SECOND]), FIRST, 0),
        (saved(FIRST, "PNG", save_all=True, append_images=[SECOND]), FIRST, 0),
        (saved(FIRST, "WEBP", save_all=True, append_images=[SECOND], lossless=True), FIRST, 0),
        (saved(RGB.quantize(256)), RGB.quantize(256).convert("RGB"), 0),
        (saved(Image.new("P", (6, 6), 0), transparency=0), Image.new("RGB", (6, 6), "white"), 0),
    ],
)
def test_pictures_of_every_kind_are_read(data, expected, tolerance):
    expected = torch.from_numpy(np.array(expected.convert("RGB"))).permute(2, 0, 1)
    image = read(data)
    assert image.shape == expected.shape
    assert (image.int() - expected.int()).abs().max() <= tolerance


def test_long_names_are_cut():
    with pytest.raises(ValueError) as caught:
        read_upload("x" * 250 + ".png", b"")
    assert len(str(caught.value)) < 250 and "xxx.png'" in str(caught.value)


def test_tokens_are_those_of_patchify():
    """The page cuts the pixels itself; this is the rule by which it does, number by number."""
    explorer = PatchExplorer(noise(32, 32), 8)
    flat, P, columns = explorer.pixels, 8, 4
    for n in (0, 5, 15):
        start = 3 * ((n // columns) * P * 32 + (n % columns) * P)
        numbers = [flat[start + 3 * ((i % 64) // 8 * 32 + i % 8) + i // 64] for i in range(192)]
        assert numbers == patchify(explorer.image[None], 8)[0, n].tolist()
