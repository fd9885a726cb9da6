"""Scenes: what their numbers, masks, boxes and captions say is what the pictures show."""

import pytest
import torch

from vit_tutorial import datasets
from vit_tutorial.datasets.scenes import COLOURS, KINDS, SIZES


@pytest.fixture(scope="module")
def drawn():
    return datasets.scenes("test", 600)


def test_same_arguments_same_pictures(drawn):
    torch.manual_seed(5)
    again = datasets.scenes("test", 40)
    assert torch.equal(again.images, drawn.images[:40])
    assert again.captions == drawn.captions[:40]
    assert not torch.equal(datasets.scenes("train", 40).images, again.images)
    assert not torch.equal(datasets.scenes("test", 40, seed=1).images, again.images)


def test_every_object_fills_its_box(drawn):
    for masks, kinds, boxes in zip(drawn.masks[:100], drawn.kinds, drawn.boxes, strict=False):
        outside = masks.clone()
        for kind, (left, top, right, bottom) in zip(kinds.tolist(), boxes.int().tolist(), strict=True):
            if kind < 0:
                assert left == right == 0
                continue
            part = masks[top:bottom, left:right] == kind + 1
            assert part.any(0)[[0, -1]].all()
            assert part.any(1)[[0, -1]].all()
            outside[top:bottom, left:right] = 0
        assert not outside.any()


def test_captions_name_what_is_there(drawn):
    sizes, colours = list(SIZES), list(COLOURS)
    for i in range(300):
        named = drawn.captions[i]
        there = (drawn.kinds[i] >= 0).nonzero().flatten().tolist()
        for k in there:
            assert f"{sizes[drawn.sizes[i, k]]} {colours[drawn.colours[i, k]]} {KINDS[drawn.kinds[i, k]]}" in named
        assert named.replace(",", "").split().count("a") == len(there)


def test_relations_hold(drawn):
    seen = set()
    for i in range(600):
        for relation, axis, sign in (("left of", 0, 1), ("right of", 0, -1), ("above", 1, 1), ("below", 1, -1)):
            first, found, second = drawn.captions[i].partition(f" {relation} ")
            if not found:
                continue
            seen.add(relation)
            phrases = [
                f"a {list(SIZES)[s]} {list(COLOURS)[c]} {KINDS[k]}"
                for s, c, k in zip(drawn.sizes[i, :2], drawn.colours[i, :2], drawn.kinds[i, :2], strict=True)
            ]
            order = [0, 1] if phrases == [first, second] else [1, 0]
            assert {first, second} == set(phrases)
            centres = (drawn.boxes[i, order, :2] + drawn.boxes[i, order, 2:]) / 2
            if first != second:
                assert sign * (centres[1, axis] - centres[0, axis]) > 0
    assert len(seen) == 4


def test_objects_are_as_many_as_asked(drawn):
    assert sorted((drawn.kinds >= 0).sum(1).unique().tolist()) == [1, 2, 3]
    assert (datasets.scenes("test", 20, objects=(4, 4)).kinds >= 0).all()


def test_colours_are_what_they_are_called():
    alone = datasets.scenes("test", 300, objects=(1, 1))
    means = torch.stack(
        [image[:, mask > 0].float().mean(1) for image, mask in zip(alone.images, alone.masks, strict=True)]
    )
    red, green, blue = means.unbind(1)
    called = {name: alone.colours[:, 0] == number for number, name in enumerate(COLOURS)}
    assert (red > 1.4 * torch.maximum(green, blue))[called["red"]].all()
    assert (green > 1.2 * torch.maximum(red, blue))[called["green"]].all()
    assert (blue > 1.2 * torch.maximum(red, green))[called["blue"]].all()
    assert (torch.minimum(red, green) > 1.5 * blue)[called["yellow"]].all()
    assert (means.min(1).values > 180)[called["white"]].all()
    assert (torch.minimum(red, blue) > 1.2 * green)[called["purple"]].all()


def test_parts_keep_everything_together(drawn):
    shown = drawn.shows([("red", "star"), ("blue", "ring")])
    part = drawn[shown]
    assert len(part) == len(part.captions) == int(shown.sum()) > 5
    assert all("red star" in caption or "blue ring" in caption for caption in part.captions)
    assert not any("red star" in caption for caption in drawn[~shown].captions)
    assert drawn[3:5].captions == drawn[[3, 4]].captions == drawn.captions[3:5]
    assert repr(part) == f"Scenes({len(part)} images of 3 x 32 x 32, 7 classes)"


@pytest.mark.parametrize("wrong", [(0, 2), (3, 2), (1, 5), (1,), 2, "ab", (1.0, 2.0), (True, 2), None])
def test_wrong_numbers_of_objects(wrong):
    with pytest.raises(ValueError, match="expected objects as"):
        datasets.scenes("test", 3, objects=wrong)


@pytest.mark.parametrize("wrong", [("val", 3, 0), ("test", 0, 0), ("test", 3, -1)])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="expected"):
        datasets.scenes(*wrong)


def test_masks_must_fit():
    images, masks = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8)
    datasets.MaskedImages(images, masks + 255, ("a", "b"))
    for wrong in (masks + 2, masks[:1], masks[:, :4], masks.long()):
        with pytest.raises(ValueError, match="expected"):
            datasets.MaskedImages(images, wrong, ("a", "b"))


def test_one_scene_and_pairs_that_are_none(drawn):
    image, mask = drawn[3]
    assert torch.equal(image, drawn.images[3])
    assert torch.equal(mask, drawn.masks[3])
    for wrong in ([("pink", "star")], [("red", "heart")], ["red star"]):
        with pytest.raises(ValueError, match="expected pairs out of"):
            drawn.shows(wrong)
