"""Image sets, folders, CIFAR-10 from files that are there, photographs; and what bad input is told."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vit_tutorial import datasets
from vit_tutorial.datasets import ImageSet


def write_image(path, colour, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures each of two classes, of one colour but for dots in the lower half that tell them apart."""
    dots = np.random.default_rng(0)
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "all" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((8, 8, 3), colour, np.uint8)
            pixels[4:] = dots.integers(0, 256, (4, 8, 3))
            Image.fromarray(pixels).save(tmp_path / "all" / name / f"{i}.png")
    return tmp_path / "all"


def test_one_folder_is_split_without_overlap(folder):
    train, test = (datasets.image_folder(folder, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (16, 4)
    assert train.classes == ("blue", "red") and train.images.shape == (16, 3, 8, 8)
    for image, label in (test[0], test[3]):
        assert image[:, 0, 0].tolist() == ([0, 0, 255], [255, 0, 0])[label]
    assert len(torch.cat([train.images, test.images]).unique(dim=0)) == 20
    assert not torch.equal(test.images, datasets.image_folder(folder, "test", seed=1).images)


def test_copies_of_a_picture_stay_on_one_side(folder):
    for i in range(10):
        Image.open(folder / "red" / f"{i}.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            folder / "red" / f"copy {i}.png"
        )
    train, test = (datasets.image_folder(folder, split).images for split in ("train", "test"))
    assert len(train) + len(test) == 30
    assert not (test[:, None] == train.flip(3)[None]).flatten(2).all(2).any()


def test_train_and_test_folders_are_kept_apart(tmp_path):
    for split, colour in (("train", (10, 0, 0)), ("test", (20, 0, 0))):
        for name in ("a", "b"):
            write_image(tmp_path / split / name / "1.png", colour)
    assert datasets.image_folder(tmp_path, "test").images[:, 0].unique().tolist() == [20]


@pytest.mark.parametrize("mode, colour", [("L", 100), ("RGBA", (100, 0, 0, 9)), ("CMYK", (0, 0, 0, 155)), ("P", 3)])
def test_every_colour_mode_becomes_rgb(tmp_path, mode, colour):
    suffix = "jpg" if mode == "CMYK" else "png"
    for split in ("train", "test"):
        for name in ("a", "b"):
            write_image(tmp_path / split / name / f"1.{suffix}", colour, mode=mode)
    assert datasets.image_folder(tmp_path).images.shape == (2, 3, 8, 8)


def test_images_of_several_sizes_are_cropped_and_resized(tmp_path):
    for i, size in enumerate([(30, 20), (9, 40), (16, 16)]):
        for name in ("a", "b"):
            write_image(tmp_path / ("test", "train", "train")[i] / name / f"{i}.png", (0, 200, 0), size)
    images = datasets.image_folder(tmp_path, image_size=16).images
    assert images.shape == (4, 3, 16, 16) and images[:, 1].unique().tolist() == [200]


def empty(folder):
    for file in folder.glob("*/*"):
        file.unlink()


def one_left(folder):
    for file in sorted((folder / "red").iterdir())[1:]:
        file.unlink()


def one_class(folder):
    for file in (folder / "red").iterdir():
        file.unlink()


def other_size(folder):
    write_image(folder / "red" / "3.png", (1, 1, 1), (9, 9))


def other_classes(folder):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        write_image(folder / name / "1.png", (1, 1, 1))


BAD_FOLDERS = {
    empty: "expected at least 2 folders, one per class, with pictures in them, found 0",
    one_class: r"expected at least 2 folders, one per class, with pictures in them, found 1 \(blue\)",
    one_left: "at least 2 different images per class.*found 1 in: red",
    other_size: "found 2 sizes.*pass image_size",
    other_classes: r"same classes in train and test, found \('a', 'b'\) and \('a', 'c'\)",
}


def test_what_cannot_be_read_is_named_all_at_once(folder):
    (folder / "red" / "3.png").write_bytes((folder / "red" / "3.png").read_bytes()[:40])
    (folder / "blue" / "4.png").write_text("<img src=x onerror=alert(1)>")
    with pytest.warns(UserWarning, match=r"2 of 20 files were not read:\n  blue/4.png: no.*\n  red/3.png: no") as told:
        train = datasets.image_folder(folder)
    assert len(train) == 14 and len(told) == 1


@pytest.mark.parametrize("spoil, message", BAD_FOLDERS.items(), ids=[f.__name__ for f in BAD_FOLDERS])
def test_a_bad_folder_is_told_what_was_expected(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        for split in ("train", "test"):  # the spoilt image is in one of the two
            datasets.image_folder(folder, split, holdout=0.1)


BAD_CALLS = {
    "no folder": (lambda: datasets.image_folder("nowhere"), "found none at nowhere"),
    "split of a folder": (lambda: datasets.image_folder(".", "valid"), "found 'valid'"),
    "split of CIFAR-10": (lambda: datasets.cifar10("valid"), "found 'valid'"),
    "photograph": (lambda: datasets.sample_image("dog"), "cat, astronaut, coffee, rocket, found 'dog'"),
    "float images": (lambda: ImageSet(torch.zeros(1, 3, 8, 8), torch.zeros(1).long(), ("a",)), "uint8"),
    "label beyond classes": (
        lambda: ImageSet(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([1]), ("a",)),
        r"labels in 0..0 for 1 classes, found 1..1",
    ),
}


@pytest.mark.parametrize("call, message", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_a_bad_call_is_told_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cifar10_absent_names_the_way_out(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"run vit-tutorial download cifar10, or work offline with datasets.shapes\(\)$"
    ):
        datasets.cifar10(root=tmp_path)


def test_cifar10_as_an_image_folder(tmp_path):
    for split in ("train", "test"):
        for name in ("airplane", "cat"):
            write_image(tmp_path / "cifar10" / split / name / "0001.jpg", (9, 9, 9), (32, 32))
    assert datasets.cifar10("test", tmp_path).classes == ("airplane", "cat")


@pytest.mark.parametrize("name", ["cat", "astronaut", "coffee", "rocket"])
def test_photographs_need_no_network(name):
    assert datasets.sample_image(name).shape[0] == 3
    small = datasets.sample_image(name, 32)
    assert small.shape == (3, 32, 32) and small.dtype == torch.uint8


PIXELS = {  # CRC-32 of what every machine must draw
    "cat": (lambda: datasets.sample_image("cat", 32), 3122007087),
    "astronaut": (lambda: datasets.sample_image("astronaut", 224), 278788428),
    "shapes": (lambda: datasets.shapes("train", 100).images, 912668850),
    "masks": (lambda: datasets.shapes("test", 100).masks, 729627457),
    "pairs": (lambda: datasets.same_or_different("train", 100).images, 3323819151),
}


@pytest.mark.parametrize(("draw", "checksum"), PIXELS.values(), ids=PIXELS.keys())
def test_pixels_are_the_same_on_every_machine(draw, checksum):
    assert zlib.crc32(draw().numpy().tobytes()) == checksum


def test_an_image_set_is_indexed_like_a_list():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    data = ImageSet(images, torch.tensor([0, 1, 0, 1]), ("a", "b"), masks=torch.ones(4, 2, 2, dtype=torch.bool))
    assert len(data) == 4 and data.image_size == (2, 2) and data[3][1] == 1
    assert data[data.labels == 1].images[:, 0, 0, 0].tolist() == [1, 3]
    assert data[1:3].masks.shape == (2, 2, 2)
    assert repr(data) == "ImageSet(4 images of 3 x 2 x 2, 2 classes)"
