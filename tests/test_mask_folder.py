"""Pictures with masks as people have them: numbers, palettes, colours, 0 and 255; and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vit_tutorial import datasets


def picture(folder, name, seed=0, side=(12, 16)):
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*side, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / name)
    return values


def mask(folder, name, values, palette=None):
    folder.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        made.putpalette([*palette, *[0] * (768 - len(palette))])  # a short one would be stored with fewer bits
    made.save(folder / name)


def numbers(seed=0, classes=3, side=(12, 16)):
    return np.random.default_rng(seed).integers(0, classes, side, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        picture(tmp_path / "images", f"p{i}.png", i)
        mask(tmp_path / "masks", f"p{i}.png", numbers(i))
    return tmp_path


def test_numbers(folder):
    data = datasets.mask_folder(folder)
    assert data.classes == ("class 0", "class 1", "class 2")
    assert data.images.shape == (6, 3, 12, 16)
    assert torch.equal(data.masks[4], torch.from_numpy(numbers(4)))


def test_squares_of_picture_and_mask_are_the_same_place(tmp_path):
    values = np.zeros((20, 32), np.uint8)
    values[4:12, 10:18] = 1
    (tmp_path / "images").mkdir()
    Image.fromarray(np.repeat(255 * values[..., None], 3, 2)).save(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks", "a.png", values)
    data = datasets.mask_folder(tmp_path, 40)
    assert torch.equal(data.masks[0], (data.images[0, 0] > 127).to(torch.uint8))
    small = datasets.mask_folder(tmp_path, 10)
    assert ((small.masks[0] > 0) == (small.images[0, 0] > 127)).float().mean() > 0.95


def test_colours_and_their_names(tmp_path):
    picture(tmp_path / "images", "a.jpg")
    values = np.zeros((12, 16, 3), np.uint8)
    values[:4], values[4:6] = (255, 0, 0), (0, 0, 255)
    mask(tmp_path / "masks", "a.png", values)
    data = datasets.mask_folder(tmp_path)
    assert data.classes == ("#000000", "#0000ff", "#ff0000")
    (tmp_path / "classes.csv").write_text("colour,name\n255 0 0,road\n#0000ff,car\n#000000,\n")
    data = datasets.mask_folder(tmp_path)
    assert data.classes == ("road", "car")
    assert data.masks[0, [0, 4, 8], 0].tolist() == [0, 1, 255]
    (tmp_path / "classes.csv").write_text("colour,name\n#ff0000,road\n#000000,rest\n")
    with pytest.raises(ValueError, match="#0000ff in the masks; add a row"):
        datasets.mask_folder(tmp_path)


def test_black_and_white_is_ground_and_object(tmp_path):
    picture(tmp_path / "img", "a.png")
    mask(tmp_path / "img", "a_mask.png", 255 * numbers(classes=2))
    shutil.move(tmp_path / "img", tmp_path / "all")
    data = datasets.mask_folder(tmp_path)
    assert data.classes == ("ground", "object")
    assert torch.equal(data.masks[0], torch.from_numpy(numbers(classes=2)))


def test_palette_counts_by_its_index_and_255_is_not_judged(tmp_path):
    picture(tmp_path / "JPEGImages", "a.jpg")
    values = numbers()
    values[0] = 255
    mask(tmp_path / "SegmentationClass", "a.png", values, [0, 0, 0, 128, 0, 0, 0, 128, 0])
    data = datasets.mask_folder(tmp_path)
    assert torch.equal(data.masks[0], torch.from_numpy(values))
    assert len(data.classes) == 3


def test_two_palettes_are_refused(folder):
    mask(folder / "masks", "p0.png", numbers(0), [0, 0, 0, 128, 0, 0, 0, 128, 0])
    mask(folder / "masks", "p1.png", numbers(1), [0, 0, 0, 0, 128, 0, 128, 0, 0])
    with pytest.raises(ValueError, match="one palette"):
        datasets.mask_folder(folder)


def test_sides(folder):
    assert [len(datasets.mask_folder(folder, split=side)) for side in ("train", "test")] == [5, 1]
    for kind in ("images", "masks"):
        for i in range(6):
            side = folder / ("train" if i < 4 else "val") / kind
            side.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / kind / f"p{i}.png", side / f"p{i}.png")
    assert [len(datasets.mask_folder(folder, split=side)) for side in ("train", "test")] == [4, 2]


def test_what_has_no_partner_is_named(folder):
    (folder / "masks" / "p5.png").unlink()
    (folder / "images" / "p4.png").write_bytes(b"no picture")
    (folder / "images" / "notes.txt").write_text("mine")
    with pytest.warns(UserWarning, match=r"(?s)3 files were left out.*p5.png: a picture without a mask"):
        assert len(datasets.mask_folder(folder)) == 4


def test_zip(folder, tmp_path_factory):
    archive = shutil.make_archive(tmp_path_factory.mktemp("zip") / "mine", "zip", folder)
    assert torch.equal(datasets.mask_folder(archive).masks, datasets.mask_folder(folder).masks)


def spoil_size(folder):
    mask(folder / "masks", "p2.png", numbers(side=(12, 15)))


def spoil_loss(folder):
    (folder / "masks" / "p2.png").unlink()
    mask(folder / "masks", "p2.jpg", numbers())


def spoil_greys(folder):
    mask(folder / "masks", "p2.png", np.arange(192).reshape(12, 16))


def spoil_kind(folder):
    mask(folder / "masks", "p2.png", np.random.default_rng(0).integers(0, 2, (12, 16, 3)) * 255)


def spoil_twice(folder):
    shutil.copy(folder / "masks" / "p2.png", folder / "masks" / "p2_mask.png")


def spoil_all(folder):
    shutil.rmtree(folder / "masks")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (spoil_size, "mask of its picture's size, found 12 x 16 and 12 x 15"),
        (spoil_loss, "which keep every value"),
        (spoil_greys, "2 to 64 classes"),
        (spoil_kind, "all masks as colours or all as numbers"),
        (spoil_twice, "found a second one"),
        (spoil_all, "found no picture with a mask"),
    ],
)
def test_refused(folder, spoil, match):
    spoil(folder)
    with pytest.raises(ValueError, match=match):
        datasets.mask_folder(folder)


def test_smooth_colours_are_refused(tmp_path):
    picture(tmp_path / "images", "a.png", side=(64, 64))
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    mask(tmp_path / "masks", "a.png", values)
    with pytest.raises(ValueError, match="saved as JPEG once"):
        datasets.mask_folder(tmp_path)


def test_wrong_split(folder):
    with pytest.raises(ValueError, match="expected split"):
        datasets.mask_folder(folder, split="val")


def test_a_mask_without_objects_is_black_among_coloured_ones(tmp_path):
    for name, colour in (("a.png", (255, 0, 0)), ("b.png", (0, 0, 0))):
        picture(tmp_path / "images", name)
        values = np.zeros((12, 16, 3), np.uint8)
        values[:4] = colour
        mask(tmp_path / "masks", name, values)
    data = datasets.mask_folder(tmp_path)
    assert data.classes == ("#000000", "#ff0000")
    assert data.masks.flatten(1).sum(1).tolist() == [64, 0]


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        (b"value;name\n0;a\n1;b\n2;c\n", ("a", "b", "c")),
        (b"name,value\na,0\nb,1\nc,2\n", ("a", "b", "c")),
        ("0,Straße\n1,b\n2,b\n".encode("cp1252"), ("Straße", "b")),
        (b"0,a\n0,b\n1,c\n2,d\n", "each value once"),
        (b"value,name\n", "rows of value,name"),
        (b"", "expected columns"),
        (b"0,a\n1,b\n", "found 2 in the masks"),
    ],
)
def test_tables_of_classes(folder, table, classes):
    (folder / "classes.csv").write_bytes(table)
    if isinstance(classes, str):
        with pytest.raises(ValueError, match=classes):
            datasets.mask_folder(folder)
    else:
        assert datasets.mask_folder(folder).classes == classes


def test_few_pictures_have_a_test_side_too(tmp_path):
    for n in (1, 2):
        picture(tmp_path / "images", f"{n}.png", n)
        mask(tmp_path / "masks", f"{n}.png", numbers(n))
        if n == 1:
            with pytest.raises(ValueError, match="at least two pictures"):
                datasets.mask_folder(tmp_path, split="test")
    assert [len(datasets.mask_folder(tmp_path, split=side)) for side in ("train", "test")] == [1, 1]


def test_nothing_known_is_refused(tmp_path):
    picture(tmp_path / "images", "a.png")
    mask(tmp_path / "masks", "a.png", np.full((12, 16), 255))
    with pytest.raises(ValueError, match="255 alone"):
        datasets.mask_folder(tmp_path)
    with pytest.raises(ValueError, match="found nothing at"):
        datasets.mask_folder(tmp_path / "none")
