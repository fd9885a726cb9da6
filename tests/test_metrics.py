"""Scores of answers, on hand-made cases and on drawn ones whose truth is known."""

import math

import pytest
import torch

from vit_tutorial import VisionTransformer, ViTConfig, metrics

LABELS = torch.tensor([0] * 9 + [1] * 60)
ANSWERS = torch.tensor([0] * 3 + [1] * 6 + [1] * 53 + [0] * 7)  # of the few, three are found


def test_recall_of_a_rare_class_is_not_hidden_by_accuracy():
    found = metrics.scores(ANSWERS, LABELS, ("broken", "whole"))
    assert (found.accuracy.right, found.accuracy.n) == (56, 69)
    assert [share.value for share in found.recall] == [3 / 9, 53 / 60]
    assert [share.value for share in found.precision] == [3 / 10, 53 / 59]
    assert math.isclose(found.balanced_accuracy, (3 / 9 + 53 / 60) / 2)
    low, high = found.balanced_interval
    assert 0.4 < low < found.balanced_accuracy < high < 0.8
    assert str(found.recall[0]) == "33.3 % (12.1 to 64.6)"


def test_classes_without_pictures_or_answers():
    found = metrics.scores(torch.tensor([0, 0]), torch.tensor([0, 1]), ("a", "b", "c"))
    assert found.balanced_accuracy == 0.5 and str(found.recall[2]) == str(found.precision[1]) == "-"
    with pytest.raises(ValueError, match="at least one picture"):
        metrics.scores(torch.zeros(0).long(), torch.zeros(0).long(), ("a", "b"))


@pytest.mark.parametrize(("right", "n", "ends"), [(9, 10, (0.5958, 0.9821)), (0, 10, (0.0, 0.2775)), (0, 0, (0, 1))])
def test_wilson(right, n, ends):
    assert metrics.wilson(right, n) == pytest.approx(ends, abs=1e-4)


def test_balanced_interval_holds_the_truth_about_95_times_of_100():
    generator = torch.Generator().manual_seed(0)
    labels, inside = torch.tensor([0] * 12 + [1] * 100), 0
    for _ in range(1000):
        wrong = torch.rand(112, generator=generator) > torch.tensor([0.7] * 12 + [0.9] * 100)
        low, high = metrics.scores(labels ^ wrong, labels, ("few", "many")).balanced_interval
        inside += low <= 0.8 <= high
    assert 930 < inside < 985


def test_temperature_and_its_place_in_the_model():
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(4000, 3, generator=generator)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=generator).flatten()
    assert metrics.temperature(3 * true, labels) == pytest.approx(3, rel=0.1)
    assert metrics.calibration_error((3 * true).softmax(1), labels) > 3 * metrics.calibration_error(
        true.softmax(1), labels
    )
    torch.manual_seed(0)
    model = VisionTransformer(
        ViTConfig(image_size=8, patch_size=4, num_classes=3, embed_dim=8, depth=1, num_heads=1, mlp_ratio=1.0)
    )
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(5, 3, 8, 8)
    before = model(images)
    found = metrics.calibrate(model, 3 * true, labels)
    assert torch.allclose(model(images), before / found, atol=1e-6)


def test_answers_only_where_it_is_sure():
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5]])
    given, right = metrics.answered(probabilities, torch.tensor([0, 0, 0, 1]), 0.7)
    assert (given.right, given.n, right.right, right.n) == (2, 4, 1, 2)
    assert metrics.calibration_error(probabilities[:1], torch.tensor([0])) == pytest.approx(0.1)
