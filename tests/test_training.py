"""The loop, the schedule, the augmentation, the record: each against what it must do."""

import json
import math
from dataclasses import replace

import pytest
import torch

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, ViTConfig, normalise, training, weights
from vit_tutorial.datasets import ImageSet
from vit_tutorial.machine import precision
from vit_tutorial.training import History, Recipe, schedule

MODEL = ViTConfig(
    image_size=8, patch_size=4, num_classes=2, embed_dim=16, depth=1, num_heads=2, classes=("dark", "light")
)
RECIPE = Recipe(model=MODEL, epochs=6, batch_size=16, learning_rate=5e-3, crop=1, ema=0.9)


def brightness(count=64, seed=0):
    """Dark and light images with noise: a task that a tiny ViT learns in a second."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, 3, 8, 8), generator=generator)
    return ImageSet((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, ("dark", "light"))


class Ticks:
    """In the place of the module `time`: a clock that goes on by `step` seconds whenever it is read."""

    def __init__(self, step=0.01):
        self.step, self.now = step, 0.0

    def perf_counter(self):
        self.now += self.step
        return self.now


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VisionTransformer(MODEL)


def test_a_balanced_epoch_draws_every_class_as_often(model):
    rare = brightness(1000)[torch.cat([torch.arange(0, 1000, 2), torch.tensor([1, 3])])]  # 500 dark, 2 light
    counts = []
    for balanced in (False, True):
        trainer = training.Trainer(model, rare, replace(RECIPE, balanced=balanced))
        orders = [trainer.new_order() for _ in range(2)]
        assert len(orders[0]) == len(rare) and not torch.equal(*orders)
        counts.append(rare.labels[orders[0]].bincount().tolist())
    assert counts[0] == [500, 2] and min(counts[1]) > 200


def test_held_back_pictures_calibrate_what_is_kept_and_evaluated(model, tmp_path):
    noisy = brightness(48, seed=2)
    noisy = replace(noisy, labels=torch.where(torch.arange(48) < 12, 1 - noisy.labels, noisy.labels))
    torch.manual_seed(0)
    plain = VisionTransformer(MODEL)
    training.train(plain, brightness(), RECIPE)
    history = training.train(model, brightness(), RECIPE, noisy, calibration=noisy, out=tmp_path)
    temperature = history.info["temperature"]
    assert temperature > 1.1  # a quarter of the labels is wrong: it must be less sure
    assert torch.allclose(model.head.weight * temperature, plain.head.weight, rtol=1e-4)
    assert history.info["images"]["calibration"] == {"dark": 24, "light": 24}
    kept = training.evaluate(weights.load(tmp_path), noisy)
    assert history.epochs[-1]["test_loss"] == pytest.approx(kept.loss, abs=1e-4)


def test_a_model_takes_the_range_of_the_data_that_it_learns_from(model, tmp_path):
    """Of the old data, nothing: also where a trained model learns anew; and no picture in another scale is tested."""
    deep = replace(brightness(), value_range=(200.0, 2000.0))
    assert RECIPE.config(deep).value_range == (200.0, 2000.0)
    history = training.train(model, deep, RECIPE, deep[:8], epochs=1, out=tmp_path)
    assert weights.load(tmp_path).config.value_range == history.info["value_range"] == (200.0, 2000.0)
    assert training.new_head(model, ("a", "b")).config.value_range == (200.0, 2000.0)
    other = replace(deep, value_range=(0.0, 65535.0))
    for call in (lambda: training.evaluate(model, other), lambda: training.train(model, deep, RECIPE, other)):
        with pytest.raises(ValueError, match=r"became 0 and 255, .*found \(0.0, 65535.0\); read them with value_range"):
            call()
    training.train(model, brightness(), RECIPE, epochs=1)
    assert model.config.value_range is None


@pytest.mark.parametrize("units", ["_is_avx512_bf16_supported", "_is_amx_tile_supported", None])
def test_precision_follows_from_the_processor_not_from_a_clock(monkeypatch, units):
    monkeypatch.delenv(precision.PRECISION, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == units)
    assert precision.bf16_pays("cpu") == (units is not None) and not precision.bf16_pays("mps")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)  # oneDNN was told not to use it
    assert not precision.bf16_pays("cpu")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: pytest.fail("not on macOS"))
    assert not precision.bf16_pays("cpu")


def test_precision_is_the_users_if_they_wish_and_recorded_with_the_run(monkeypatch, model):
    for wish in ("float32", "bfloat16"):
        monkeypatch.setenv(precision.PRECISION, wish)
        history = training.train(model, brightness(16), RECIPE, epochs=1)
        assert history.info["precision"] == wish
    monkeypatch.setenv(precision.PRECISION, "half")
    with pytest.raises(ValueError, match="float32 or bfloat16, found 'half'"):
        training.train(model, brightness(16), RECIPE, epochs=1)


def test_training_learns_and_records(model, tmp_path):
    data, test = brightness(), brightness(32, seed=1)
    history = training.train(model, data, RECIPE, test, out=tmp_path)
    assert history.accuracy == training.evaluate(model, test).accuracy > 0.95
    assert len(history.steps["loss"]) == 6 * 4 and history.steps["loss"][-1] < history.steps["loss"][0]
    assert [entry["epoch"] for entry in history.epochs] == [0, 1, 2, 3, 4, 5, 6]
    assert not model.training and not history.stopped
    kept = weights.load(tmp_path / "model.safetensors")
    images = normalise(test.images, MODEL)
    assert torch.equal(kept(images), model(images))
    assert History.load(tmp_path / "history.json").epochs == history.epochs


def test_the_same_seed_gives_the_same_weights():
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = VisionTransformer(replace(MODEL, dropout=0.1))
        training.train(model, brightness(), RECIPE, epochs=1, seed=seed)
        runs.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_an_interrupt_ends_cleanly_and_keeps_the_model(model, tmp_path):
    def stop_in_the_middle(history, progress):
        if progress >= 0.5:
            raise KeyboardInterrupt

    history = training.train(model, brightness(), RECIPE, brightness(8), out=tmp_path, on_step=stop_in_the_middle)
    assert history.stopped and len(history.steps["loss"]) == 12
    assert weights.load(tmp_path / "model.safetensors").config == MODEL
    assert History.load(tmp_path / "history.json").stopped


def test_minutes_end_on_time_with_the_whole_schedule(model, monkeypatch):
    monkeypatch.setattr(schedule, "time", Ticks())
    seen = []
    history = training.train(model, brightness(), RECIPE, minutes=0.05, on_step=lambda h, p: seen.append(p))
    assert history.epochs[-1]["seconds"] == 3.0
    rates = history.steps["learning_rate"]
    assert max(rates) > 0.95 * RECIPE.learning_rate and rates[-1] < 0.05 * RECIPE.learning_rate
    assert seen == sorted(seen) and 0.99 < seen[-1] <= 1.0


def test_train_epoch_takes_one_optimiser_step_a_batch(model):
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])
    reference = VisionTransformer(MODEL)
    reference.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    losses = []
    training.train_epoch(model, [(images, labels)] * 2, optimizer, scheduler, clip_norm=0.5, after_step=losses.append)
    for rate, loss in zip((0.1, 0.05), losses, strict=True):
        expected = torch.nn.functional.cross_entropy(reference(images), labels)
        assert expected.item() == pytest.approx(loss, rel=1e-5)
        gradients = torch.autograd.grad(expected, list(reference.parameters()))
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
        for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
            parameter.data -= rate * gradient * min(1.0, 0.5 / norm)
    for (name, found), expected in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_warmup_cosine_rises_then_falls_to_nothing():
    curve = [training.warmup_cosine(i / 1000, 0.1) for i in range(1001)]
    assert curve[0] == 0.0 and curve[100] == 1.0 and curve[50] == pytest.approx(0.5)
    assert curve[550] == pytest.approx(0.5) and curve[-1] == pytest.approx(0.0, abs=1e-12)
    assert curve[:101] == sorted(curve[:101]) and curve[100:] == sorted(curve[100:], reverse=True)
    assert training.warmup_cosine(0.0, warmup=0.0) == 1.0


def test_only_matrices_decay():
    model = VisionTransformer(replace(MODEL, position="learned"))
    decayed, kept = training.param_groups(model, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
        "head.weight",
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(names)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    fixed = VisionTransformer(replace(MODEL, position="sinusoidal"))
    assert all(p is not fixed.pos_embed for group in training.param_groups(fixed, 0.05) for p in group["params"])
    registers = ModernViT(ModernConfig(**vars(MODEL) | {"registers": 2}))
    assert any(p is registers.reg_token for p in training.param_groups(registers, 0.05)[1]["params"])


def test_random_crop_flip_moves_and_mirrors_whole_images():
    torch.manual_seed(0)
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    padded = torch.nn.functional.pad(image.float(), (2, 2, 2, 2), mode="reflect")[0, 0].to(torch.uint8)
    possible = set()
    for y in range(5):
        for x in range(5):
            window = padded[y : y + 8, x : x + 8]
            possible |= {tuple(window.flatten().tolist()), tuple(window.flip(1).flatten().tolist())}
    out = training.random_crop_flip(image.expand(2000, 3, 8, 8), crop=2)
    found = {tuple(o[0].flatten().tolist()) for o in out}
    assert found == possible and len(found) == 50
    assert torch.equal(out[:, 0], out[:, 2])  # channels move together
    assert torch.equal(training.random_crop_flip(image, crop=0, flip=False), image)


def test_normalise_uses_the_models_own_numbers():
    config = replace(MODEL, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    out = normalise(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8), config)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.2, 0.0, -0.4]))


def test_batches_visit_every_image_once():
    data = brightness(40)
    found = list(training.batches(data, MODEL, replace(RECIPE, crop=0, flip=False)))
    assert [len(labels) for _, labels in found] == [16, 16]
    rows = {tuple(image.flatten().tolist()) for images, _ in found for image in images}
    assert len(rows) == 32
    few = list(training.batches(brightness(6), MODEL, RECIPE))
    assert len(few) == 1 and few[0][0].shape == (6, 3, 8, 8)


def test_evaluate_counts_right_answers(model):
    data = brightness(10)
    result = training.evaluate(model.train(), data)
    assert model.training and result.logits.shape == (10, 2)
    assert result.accuracy == (result.logits.argmax(1) == data.labels).float().mean()
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(result.logits, data.labels).item())


def test_average_of_weights_is_what_is_kept():
    torch.manual_seed(0)
    model = VisionTransformer(MODEL)
    start = model.head.weight.clone()
    seen = []
    training.train(
        model,
        brightness(16),
        replace(RECIPE, ema=0.5),
        epochs=3,
        on_step=lambda h, p: seen.append(model.head.weight.clone()),
    )
    expected = seen[0]  # torch's AveragedModel starts from the first weights that it is given
    for value in seen[1:]:
        expected = 0.5 * expected + 0.5 * value
    torch.testing.assert_close(model.head.weight, expected)
    assert not torch.equal(model.head.weight, start)


def test_history_goes_through_json(tmp_path):
    history = History({"seed": 1}, {"loss": [2.3025851], "learning_rate": [1e-3]}, [{"epoch": 0, "test_accuracy": 0.1}])
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json").steps["loss"] == [2.30259]
    assert json.loads((tmp_path / "history.json").read_text())["info"] == {"seed": 1}
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(ValueError, match="expected a run record"):
        History.load(tmp_path / "history.json")


def test_recipes_make_models_for_their_data():
    data = brightness()
    for name, recipe in training.RECIPES.items():
        config = replace(recipe, model=replace(recipe.model, patch_size=4)).config(data)
        assert (config.image_size, config.num_classes, config.classes) == ((8, 8), 2, data.classes), name


BAD_CALLS = {
    "no epochs": ({"epochs": 0}, "more than 0 epochs and minutes, found 64 images, epochs=0"),
    "no minutes": ({"minutes": -1}, "minutes=-1"),
}


@pytest.mark.parametrize("arguments, message", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_calls_are_told_what_was_expected(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        training.train(model, brightness(), RECIPE, **arguments)


def test_other_classes_are_refused():
    model = VisionTransformer(replace(MODEL, num_classes=5, classes=()))
    with pytest.raises(ValueError, match=r"model's 5 classes, found 2; make the model with recipe.config"):
        training.train(model, brightness(), RECIPE)
    with pytest.raises(ValueError, match=r"model's 5 classes, found 2"):
        training.evaluate(model, brightness())
