"""interpret, where the image is changed: occlusion, integrated gradients, pointing game, deletion and insertion."""

import json

import interpretation as tool
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, datasets, interpret, normalise, weights
from vit_tutorial.files import CHECKPOINT


@pytest.fixture(scope="module")
def shipped():
    return weights.load(CHECKPOINT).eval()


@pytest.fixture(scope="module")
def images(shipped):
    return normalise(datasets.shapes("test", 6).images, shipped.config)


class Sees(nn.Module):
    """Two classes; the second one's logit is a weighted sum of the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        logit = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def one_patch():
    """A model that sees the 2 x 2 pixels in row 1, column 2 of a 2 x 3 grid, and images that are bright there."""
    weight = torch.zeros(1, 4, 6)
    weight[:, 2:, 4:] = 1.0
    return Sees(weight), 2 * weight.expand(3, 1, 4, 6) + 0.1 * torch.randn(3, 1, 4, 6)


def test_occlusion_finds_the_one_patch_that_is_seen():
    model, images = one_patch()
    losses = interpret.occlusion(model, images, [1, 1, 0], 2, 2)
    assert losses.shape == (3, 2, 3)
    hidden = images.clone()
    hidden[:, :, 2:, 4:] = images.mean(dim=(1, 2, 3)).view(3, 1, 1, 1)
    expected = (model(images) - 0).softmax(dim=1) - model(hidden).softmax(dim=1)
    assert torch.allclose(losses[:, 1, 2], torch.stack([expected[0, 1], expected[1, 1], expected[2, 0]]), atol=1e-6)
    losses[:, 1, 2] = 0
    assert losses.abs().max() < 1e-6
    assert interpret.occlusion(model, images, "predicted", 2, 1).shape == (3, 3, 5)
    assert interpret.occlusion(model, images, "predicted", 4, 2).shape == (3, 1, 2)


@pytest.mark.parametrize("size, stride", [(5, 1), (0, 1), (2, 0), (2, 3), (3, 2)])
def test_squares_that_do_not_end_at_the_borders_are_refused(size, stride):
    model, images = one_patch()
    with pytest.raises(ValueError, match="expected squares"):
        interpret.occlusion(model, images, "predicted", size, stride)


def test_a_batch_gives_what_single_images_give(shipped, images):
    target = torch.arange(len(images))
    functions = {
        "occlusion": lambda x, t: interpret.occlusion(shipped, x, t, 16, 16),
        "integrated_gradients": lambda x, t: interpret.integrated_gradients(shipped, x, t, 4),
    }
    for name, function in functions.items():
        singles = [function(images[i : i + 1], target[i : i + 1]) for i in range(len(images))]
        assert torch.allclose(function(images, target), torch.cat(singles), atol=1e-5), name


def test_integrated_gradients_are_captums(shipped, images):
    target = shipped(images).argmax(dim=1)
    mine = interpret.integrated_gradients(shipped, images, "predicted", 8)
    theirs = IntegratedGradients(shipped).attribute(images, target=target, n_steps=8, method="riemann_middle")
    assert torch.allclose(mine, theirs.float(), atol=1e-5, rtol=1e-4) and mine.abs().max() > 0.05


def test_integrated_gradients_are_exact_for_a_linear_model_and_add_up_for_a_vit(shipped, images):
    model, few = one_patch()
    assert torch.allclose(interpret.integrated_gradients(model, few, [1, 1, 1], 3), few * model.weight, atol=1e-6)
    target = torch.arange(len(images))
    with torch.no_grad():
        change = (shipped(images) - shipped(torch.zeros_like(images)))[target, target]
    sums = interpret.patch_sums(interpret.integrated_gradients(shipped, images, target, 64), (8, 8))
    assert sums.shape == (6, 8, 8) and torch.allclose(sums.sum(dim=(1, 2)), change, atol=0.05)
    values = torch.arange(24.0).view(1, 1, 4, 6)
    assert interpret.patch_sums(values, (2, 3))[0, 0].tolist() == [14.0, 22.0, 30.0]


def test_pointing_game_by_hand():
    maps = torch.zeros(4, 2, 3)
    maps[0, 0, 0] = maps[1, 0, 1] = maps[2, 1, 2] = 1.0  # and a flat map
    masks = torch.zeros(4, 4, 6, dtype=torch.bool)
    masks[:, :2, :3] = True  # all of the first patch, half of the second
    assert interpret.pointing_game(maps[:3], masks[:3]) == pytest.approx(2 / 3)
    assert interpret.pointing_game(maps[3:], masks[3:]) == pytest.approx(2 / 6)  # chance: two patches of six
    masks[:, 1, 2] = False  # a quarter is left
    assert interpret.pointing_game(maps[1:2], masks[1:2]) == 0
    for wrong in (masks[:3], masks[:, :3], masks.flatten(1)):
        with pytest.raises(ValueError, match="expected masks"):
            interpret.pointing_game(maps, wrong)


def test_pointing_game_with_the_truth_and_at_random():
    masks = datasets.shapes("test", 500).masks
    truth = nn.functional.avg_pool2d(masks.float(), 4)
    assert interpret.pointing_game(truth, masks) > 0.99
    chance = (truth >= 0.5).float().mean().item()
    assert interpret.pointing_game(torch.rand(500, 8, 8), masks) == pytest.approx(chance, abs=0.06)


def test_curves_of_a_good_and_a_bad_map():
    torch.manual_seed(0)
    model, images = one_patch()
    good = torch.rand(3, 2, 3)
    good[:, 1, 2] = 2.0
    target = [1, 1, 1]
    with torch.no_grad():
        seen = model(images).softmax(dim=1)[:, 1]
        hidden = model(images.mean(dim=(2, 3), keepdim=True).expand_as(images)).softmax(dim=1)[:, 1]
    deletion, small = interpret.deletion_curve(model, images, good, target, 6)
    insertion, large = interpret.insertion_curve(model, images, good, target, 6)
    assert deletion.shape == insertion.shape == (3, 7) and small.shape == large.shape == (3,)
    assert torch.allclose(deletion, torch.stack([seen, *[hidden] * 6], dim=1), atol=1e-6)
    assert torch.allclose(insertion, torch.stack([hidden, *[seen] * 6], dim=1), atol=1e-6)
    assert torch.allclose(small, (seen + 11 * hidden) / 12, atol=1e-6)  # trapezoids
    assert (interpret.deletion_curve(model, images, -good, target, 6)[1] > small).all()
    assert (interpret.insertion_curve(model, images, -good, target, 6)[1] < large).all()


def test_deleting_the_best_is_inserting_the_rest(shipped, images):
    maps = torch.rand(len(images), 8, 8)
    deletion, _ = interpret.deletion_curve(shipped, images, maps, "predicted", 8)
    insertion, _ = interpret.insertion_curve(shipped, images, -maps, "predicted", 8)
    assert torch.allclose(deletion, insertion.flip(1), atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(deletion[:, 0], shipped(images).softmax(dim=1).amax(dim=1), atol=1e-5)
    with pytest.raises(ValueError, match="expected a map"):
        interpret.deletion_curve(shipped, images, torch.rand(6, 5, 8), "predicted")


def test_accuracy_falls_as_patches_are_shuffled_unless_order_means_nothing():
    data = datasets.shapes("test", 60)
    options = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 10}
    blind = VisionTransformer(ViTConfig(position="none", **options))
    shuffled = interpret.shuffle_curve(blind, data)
    assert shuffled.shape == (5,) and len(shuffled.unique()) == 1 and blind.training
    covered = interpret.shuffle_curve(blind, data, (0.0, 1.0), interpret.cover_patches)
    assert covered[0] == shuffled[0]


def test_the_record_is_complete_and_what_needs_no_model_is_found_again():
    runs = json.loads(tool.RECORD.read_text())["runs"]
    models = {("shipped", None), *(("shapes", seed) for seed in tool.MODEL_SEEDS)}
    found = [(run["model"], run["model_seed"], run["picture_seed"]) for run in runs]
    assert sorted(found, key=str) == sorted(((*m, seed) for m in models for seed in tool.PICTURE_SEEDS), key=str)
    assert all(run["accuracy"] > 0.85 for run in runs if run["model"] == "shapes")
    data = tool.shapes(tool.PICTURE_SEEDS[0])
    blind = {"middle of the picture": tool.middle, "edges of the image": tool.edges}
    for run in runs:
        assert run["scores"].keys() == runs[0]["scores"].keys() and run["scores"]["the true mask"]["pointing"] == 1.0
        assert all(0 <= value <= 1 for scores in run["scores"].values() for value in scores.values())
        if run["picture_seed"] == tool.PICTURE_SEEDS[0]:
            for name, draw in blind.items():
                pointing = interpret.pointing_game(draw(data.images, (8, 8)), data.masks)
                assert run["scores"][name]["pointing"] == pytest.approx(pointing, abs=1e-4)
