"""datasets/shapes.py: the same pictures each time, fair labels, true masks, and no task for a linear classifier."""

import pytest
import torch
from shapes import linear_accuracy

from vit_tutorial.datasets import same_or_different, shapes
from vit_tutorial.datasets.shapes import CHUNK, DISTANCES

TASKS = pytest.mark.parametrize("draw", [shapes, same_or_different])


@pytest.fixture(scope="module")
def pictures():
    return shapes("train", 3000)


def equal(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("images", "labels", "masks"))


@TASKS
def test_types_and_ranges(draw):
    data = draw("test", 40)
    assert data.images.shape == (40, 3, 32, 32) and data.images.dtype == torch.uint8
    assert data.labels.shape == (40,) and data.labels.dtype == torch.int64
    assert data.masks.shape == (40, 32, 32) and data.masks.dtype == torch.bool
    assert data.labels.unique().tolist() == list(range(len(data.classes)))


@TASKS
def test_same_arguments_give_the_same_tensors_whatever_the_global_generator_and_the_threads_do(draw):
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    first = draw("train", 60, seed=3)
    state = torch.get_rng_state()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert equal(draw("train", 60, seed=3), first)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)


@TASKS
def test_a_larger_set_begins_with_the_pictures_of_a_smaller_one(draw):
    larger = draw("train", CHUNK + 20)
    assert equal(draw("train", 7), larger[:7])
    assert equal(draw("train", CHUNK + 3), larger[: CHUNK + 3])


@TASKS
def test_splits_seeds_and_chunks_share_no_picture(draw):
    sets = [draw("train", 2 * CHUNK), draw("test", CHUNK), draw("train", CHUNK, seed=1), draw("test", CHUNK, seed=1)]
    images = torch.cat([data.images for data in sets]).flatten(1)
    assert len(images.unique(dim=0)) == len(images)


@TASKS
def test_classes_are_balanced_from_the_first_pictures_on(draw):
    data = draw("train", CHUNK)
    classes = len(data.classes)
    for n in (classes, 3 * classes, CHUNK):
        assert data.labels[:n].bincount(minlength=classes).unique().tolist() == [n // classes]


def test_pictures_vary(pictures):
    assert pictures.images.float().mean(dim=(0, 2, 3)).std() < 5  # no colour is preferred
    areas = pictures.masks.sum(dim=(1, 2)).float()
    assert areas.quantile(0.95) > 2 * areas.quantile(0.05)
    where = pictures.masks.nonzero().float()  # (pixels, 3): picture, row, column
    middles = torch.stack([where[where[:, 0] == i, 1:].mean(dim=0) for i in range(200)])
    assert middles.std(dim=0).min() > 3  # pixels


def test_masks_lie_inside_the_picture_and_on_the_object(pictures):
    masks = pictures.masks
    areas = masks.sum(dim=(1, 2))
    assert areas.min() > 30 and areas.max() < 32 * 32 / 2
    assert masks[:, [0, -1]].float().mean() < 0.02  # an outline may touch the border
    light = pictures.images.float().mean(dim=1)
    inside = (light * masks).sum(dim=(1, 2)) / areas
    outside = (light * ~masks).sum(dim=(1, 2)) / (~masks).sum(dim=(1, 2))
    assert (inside > outside).float().mean() > 0.99  # objects are lighter than the ground


@pytest.mark.parametrize("name", DISTANCES)
def test_each_shape_fits_its_unit_circle_and_fills_part_of_it(name):
    axis = torch.linspace(-1.5, 1.5, 301)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = DISTANCES[name](x, y) < 0
    assert torch.hypot(x, y)[inside].max() < 1.15
    assert 0.2 < inside.float().mean() * 9 / torch.pi < 0.9


def test_same_means_the_same_shape_twice_in_opposite_corners():
    data = same_or_different("test", CHUNK)
    quarters = data.masks.unfold(1, 16, 16).unfold(2, 16, 16).sum(dim=(3, 4))  # (n, 2, 2) mask pixels per quarter
    diagonal, other = quarters[:, 0, 0] * quarters[:, 1, 1], quarters[:, 0, 1] * quarters[:, 1, 0]
    assert ((diagonal > 0) ^ (other > 0)).all()


def test_the_label_says_whether_the_shapes_are_the_same_and_one_place_says_nothing():
    data = same_or_different("test")
    upper = data.masks * (torch.arange(32) < 16)[:, None]
    kinds = []
    for masks in (upper, data.masks & ~upper):  # one shape each
        y, x = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)  # rows and columns that it covers
        kinds.append(masks.sum(dim=(1, 2)) / (x * y) > 0.6)  # a circle fills pi / 4 of its box, a cross far less
    assert torch.equal(data.labels == 1, kinds[0] == kinds[1])
    for kind in kinds:
        assert abs(kind.float().mean() - 0.5) < 0.04
        assert abs(data.labels[kind].float().mean() - 0.5) < 0.05


@pytest.mark.parametrize("part", ["area", "lightness", "corners"])
def test_area_lightness_and_corners_tell_nothing_of_same_or_different(part):
    data = same_or_different("test")
    value = {
        "area": data.masks.sum(dim=(1, 2)).float(),
        "lightness": data.images.float().mean(dim=(1, 2, 3)),
        "corners": data.masks[:, :16, :16].any(dim=2).any(dim=1).float(),
    }[part]
    same, different = value[data.labels == 1], value[data.labels == 0]
    assert abs(same.mean() - different.mean()) < 0.15 * value.std()


@pytest.mark.parametrize(
    ("count", "iterations", "bars"),  # the pictures are always the same: 0.28 and 0.51 in the short form
    [(3000, 10, (0.32, 0.54)), pytest.param(10_000, 50, (0.40, 0.60), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("task", [0, 1])
def test_a_linear_classifier_fails(task, count, iterations, bars):
    draw = (shapes, same_or_different)[task]
    accuracy = linear_accuracy(draw("train", count), draw("test", 1000), decay=0.1, iterations=iterations)
    assert accuracy < bars[task]


@TASKS
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "valid"}, 'expected split to be "train" or "test", found \'valid\''),
        ({"split": None}, "expected split .* found None"),
        ({"count": 0}, "expected count to be an integer of at least 1, found 0"),
        ({"count": -5}, "expected count .* found -5"),
        ({"count": 2.5}, "expected count .* found 2.5"),
        ({"count": True}, "expected count .* found True"),
        ({"seed": "a"}, "expected seed to be an integer from 0 .* found 'a'"),
        ({"seed": 1.0}, "expected seed .* found 1.0"),
        ({"seed": -1}, "expected seed .* found -1"),
        ({"seed": 2**30}, "expected seed .* found 1073741824"),
    ],
)
def test_bad_input_is_named(draw, wrong, message):
    with pytest.raises(ValueError, match=message):
        draw(**wrong)
