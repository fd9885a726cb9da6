"""The worked example of notebook 12: pictures drawn by the course, with the truth about their defects."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from vit_tutorial import datasets
from vit_tutorial.datasets import castings

CHECKSUM = "4bddb039c797e318"  # of pixels and masks


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("castings")
    return folder, datasets.write_castings(folder, parts=22)


def values(folder, file):
    with Image.open(folder / file) as picture:
        return np.array(picture)


def test_they_are_the_same_everywhere(drawn, tmp_path):
    folder, masks = drawn
    pixels = b"".join(values(folder, file).astype("<u2").tobytes() + masks[file].tobytes() for file in masks)
    assert hashlib.sha256(pixels).hexdigest()[:16] == CHECKSUM
    datasets.write_castings(tmp_path, parts=1, seed=1)
    assert (values(folder, "pictures/part000_0.png") != values(tmp_path, "pictures/part000_0.png")).any()


def test_twelve_bits_in_files_of_sixteen(drawn):
    folder, masks = drawn
    for file in masks:
        picture = values(folder, file)
        assert picture.dtype == np.uint16 and picture.shape == (128, 128)
        assert 0 <= picture.min() < 256 < 1500 < picture.max() < 4096


def test_the_table_says_where_a_defect_is(drawn):
    folder, masks = drawn
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(masks)
    for row in rows:
        mask = masks[row["file"]]
        assert mask.any() == (row["label"] != "whole")
        if mask.any():
            y, x = (indices.mean() for indices in mask.nonzero())
            assert abs(x - int(row["x"])) <= 1.5 and abs(y - int(row["y"])) <= 1.5
            assert 5 <= mask.sum() <= 80


@pytest.mark.parametrize("draw", [castings.scratch, castings.pore])
def test_a_defect_has_the_mean_of_the_metal(draw):
    """So hardly a trace of it is left at 32 pixels, where a pixel is the mean of 16."""
    place = np.arange(-20, 21) + 0.3
    flaw = draw(place, place[:, None], 0.5)
    assert abs(flaw.sum()) < 0.01 * np.abs(flaw).sum() and np.ptp(flaw) > 1.5


def test_the_reader_takes_table_range_and_groups(drawn):
    folder, _ = drawn
    mine = datasets.own_images(folder / "labels.csv", 32, groups="part", copies=False)
    assert mine.images.classes == ("pore", "scratch", "whole") and mine.images.class_counts.tolist() == [6, 6, 54]
    low, high = mine.images.value_range
    assert 0 <= low < 256 and 1500 < high < 4096
    assert mine.groups.bincount().tolist() == [3] * 22 and not mine.skipped
