"""Masked autoencoders and DINO: their parts, and runs without labels in Python, in a shell and in several processes."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_cli import make_folder
from test_distributed import UNTESTED, together
from test_resume import ALONE, check_same, wait_for
from test_resume import fork as forked

from vit_tutorial import (
    ModernConfig,
    ModernViT,
    VisionTransformer,
    ViTConfig,
    cli,
    datasets,
    metrics,
    training,
    weights,
)
from vit_tutorial import normalise as normalised
from vit_tutorial.layers import patchify
from vit_tutorial.machine import precision
from vit_tutorial.training import RECIPES, History, dino, mae, objective, state

CONFIG = ViTConfig(
    image_size=32, patch_size=8, num_classes=10, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2.0, pool="mean"
)
CONFIGS = {
    "mean": CONFIG,
    "class token": replace(CONFIG, pool="cls"),
    "not square": replace(CONFIG, image_size=(16, 40), pool="cls"),
    "one channel": replace(CONFIG, in_channels=1, mean=(0.5,), std=(0.5,)),
    "no positions": replace(CONFIG, position="none"),
}
KINDS = {"mae": mae.MaskedAutoencoder, "dino": dino.DINO}
TINY = {name: replace(RECIPES[name], model=CONFIG, batch_size=16, epochs=2) for name in KINDS}
DATA = datasets.shapes("train", 64)
SMALL_DINO = {"prototypes": 32, "momentum": 0.95}
SETTINGS = {"mae": {"mask_ratio": 0.5}, "dino": SMALL_DINO}


def body(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return training.without_head(VisionTransformer(config))


def images_for(config, count=6):
    rows, columns = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
    return torch.randn(count, config.in_channels, rows, columns)


def run(name, out=None, seed=0, data=DATA, recipe=None, settings=None, **options):
    """The `Trainer` of a finished run of a tiny model, two epochs of four steps unless `recipe` says otherwise."""
    torch.manual_seed(0)
    vit, settings = VisionTransformer(CONFIG), SETTINGS[name] | (settings or {})
    trainer = training.Trainer(vit, data, recipe or TINY[name], out=out, seed=seed, settings=settings, **options)
    trainer.run()
    return trainer


# -------------------------------------------------------------------------------------------------- masked autoencoders


@pytest.mark.parametrize(("N", "ratio", "hidden"), [(16, 0.75, 12), (16, 0.5, 8), (7, 0.5, 3), (2, 0.5, 1)])
def test_each_picture_hides_so_many_patches_of_its_own(N, ratio, hidden):
    keep, restore = mae.random_masking(50, N, ratio)
    assert keep.shape == (50, N - hidden) and ((restore >= N - hidden).sum(dim=1) == hidden).all()
    assert torch.equal(restore.sort(dim=1).values, torch.arange(N).expand(50, N))
    assert torch.equal(restore.gather(1, keep), torch.arange(N - hidden).expand(50, -1))  # patch i is at restore[i]
    assert N < 7 or len(keep.unique(dim=0)) > 5


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.05, -0.5, 1.5])
def test_a_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match="expected a ratio that hides some of the 16 patches"):
        mae.random_masking(1, 16, ratio)
    with pytest.raises(ValueError, match="expected a ratio"):
        mae.MaskedAutoencoder(body(), mask_ratio=ratio)


def test_chosen_patches_are_hidden():
    keep, restore = mae.random_masking(5, 16, 0.75)
    own_keep, own_restore = mae.masking_of(restore >= 4)
    assert torch.equal(own_keep, keep.sort(dim=1).values)
    assert torch.equal(own_restore >= 4, restore >= 4)
    for wrong in (torch.tensor([[True, False], [True, True]]), torch.ones(2, 4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="equally many hidden patches"):
            mae.masking_of(wrong)


def test_what_went_in_comes_back_to_its_place():
    x = torch.randn(5, 16, 3)
    keep, restore = mae.random_masking(5, 16, 0.5)
    back = mae.take(torch.cat([mae.take(x, keep), torch.zeros(5, 8, 3)], dim=1), restore)
    assert torch.equal(back, x * (restore < 8)[:, :, None])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_encoder_sees_no_pixel_of_a_hidden_patch(config):
    vit, images = body(config), images_for(config).requires_grad_()
    N = math.prod(config.grid)
    keep, restore = mae.random_masking(len(images), N, 0.5)
    tokens = mae.encode(vit, images, keep)
    assert tokens.shape == (len(images), keep.shape[1] + (config.pool == "cls"), 32)
    tokens.square().sum().backward()
    seen = patchify(images.grad, 8).abs().sum(dim=2) > 0  # (B, N)
    assert torch.equal(seen, restore < keep.shape[1])
    whole = torch.arange(N).expand(len(images), N)  # with nothing hidden it is the model itself
    assert torch.allclose(mae.encode(vit, images, whole), vit.forward_features(images), atol=1e-5)


def test_only_hidden_patches_count():
    predicted, targets = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    hidden = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]]).bool()
    loss = mae.masked_loss(predicted, targets, hidden)
    assert torch.allclose(loss, ((predicted - targets)[hidden] ** 2).mean())
    loss.backward()
    assert torch.equal(predicted.grad.abs().sum(dim=2) > 0, hidden)


def test_targets_have_the_contrast_of_each_patch_alone():
    images = images_for(CONFIG)
    targets = mae.patch_targets(images, 8)
    assert targets.mean(dim=2).abs().max() < 1e-5 and (targets.var(dim=2) - 1).abs().max() < 1e-3
    assert torch.allclose(mae.patch_targets(7 * images + 3, 8), targets, atol=1e-4)
    assert torch.equal(mae.patch_targets(images, 8, normalise=False), patchify(images, 8))
    assert torch.equal(mae.patch_targets(torch.ones(1, 3, 8, 8), 8), torch.zeros(1, 1, 192))  # flat: no division by 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_weight_that_learns_gets_a_gradient_in_both_precisions(config, name):
    losses = []
    for bf16 in (False, True):
        module, images = KINDS[name](body(config)), images_for(config)
        loss = precision.MixedPrecision(module, bf16)(images, module.draw(images))
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        learning = {n for n, p in module.named_parameters() if p.requires_grad}
        assert learning == {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) < (0.02 if name == "mae" else 0.5)  # DINO divides by 0.04


def test_an_untrained_model_knows_nothing_and_says_so():
    """Targets have variance 1, so the answer 0 has the loss 1; one that is small and random a little more."""
    torch.manual_seed(0)
    module, images = mae.MaskedAutoencoder(body()), images_for(CONFIG, 64)
    assert 0.95 < module(images).item() < 1.8
    torch.nn.init.zeros_(module.decoder.pred.weight), torch.nn.init.zeros_(module.decoder.pred.bias)
    assert abs(module(images).item() - 1) < 0.02
    assert math.log(256) - 3 < dino.DINO(body())(images).item() < math.log(256) + 3


def test_reconstruct_answers_for_every_patch_and_sees_none_that_is_hidden():
    module, images = mae.MaskedAutoencoder(body()), images_for(CONFIG)
    hidden = mae.random_masking(6, 16, 0.75)[1] >= 4
    answers = module.reconstruct(images, hidden)
    assert answers.shape == (6, 16, 192)
    patches = torch.where(hidden[:, :, None], torch.tensor(9.0), patchify(images, 8))
    changed = patches.unflatten(1, (4, 4)).unflatten(3, (3, 8, 8)).permute(0, 3, 1, 4, 2, 5).reshape(6, 3, 32, 32)
    assert torch.equal(patchify(changed, 8), patches)
    assert torch.allclose(module.reconstruct(changed, hidden), answers, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- DINO


def test_views_are_parts_of_each_picture_on_its_own():
    images = images_for(CONFIGS["not square"]).clamp(-1, 1)
    torch.manual_seed(1)
    views = dino.random_views(images)
    assert views.shape == images.shape and not torch.equal(views, dino.random_views(images))
    torch.manual_seed(1)
    alone = dino.random_views(torch.cat([images[:1], torch.zeros_like(images[1:])]))
    assert torch.equal(alone[:1], views[:1])
    whole = dino.random_views(images, least=1.0, jitter=0.0)  # all of it, as it is or mirrored
    same = [min((view - x).abs().max(), (view - x.flip(2)).abs().max()) for view, x in zip(whole, images, strict=True)]
    assert max(same) < 1e-4


def test_the_loss_asks_for_the_teachers_answer_to_the_other_view():
    torch.manual_seed(0)
    module, images = dino.DINO(body()), images_for(CONFIG)
    module.student["head"].last_layer.weight.data += 0.1  # so that the two differ
    module.centre += torch.linspace(-0.1, 0.1, 256)
    views = module.draw(images)
    student, teacher = ([dino.answers(network, view) for view in views] for network in (module.student, module.teacher))
    target = [((answer - module.centre) / 0.04).softmax(dim=1) for answer in teacher]
    by_hand = [-(target[1 - i] * (student[i] / 0.1).log_softmax(1)).sum(1).mean() for i in (0, 1)]
    loss = module(images, views)
    assert torch.allclose(loss, sum(by_hand) / 2, atol=1e-5)
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.parameters())


def test_after_a_step_teacher_and_centre_follow():
    module = dino.DINO(body(), momentum=0.75, centre_momentum=0.5)
    student = module.student.state_dict()
    assert all(torch.equal(value, student[name]) for name, value in module.teacher.state_dict().items())
    module(images_for(CONFIG))
    before = {name: p.clone() for name, p in module.teacher.named_parameters()}
    with torch.no_grad():
        for p in module.student.parameters():
            p += 1
    centre = module.centre.clone()
    module.after_step()
    assert all(torch.allclose(p, before[name] + 0.25, atol=1e-6) for name, p in module.teacher.named_parameters())
    assert torch.allclose(module.centre, 0.5 * centre + 0.5 * module.answers.mean(dim=0), atol=1e-6)


def test_entropies_tell_the_two_collapses_apart():
    uniform, same, varied = torch.zeros(8, 8), torch.eye(8)[[0] * 8], torch.eye(8)
    found = [dino.entropies(answers, torch.zeros(8), 0.01) for answers in (uniform, same, varied)]
    assert found[0] == pytest.approx((math.log(8),) * 2) and found[1] == pytest.approx((0, 0), abs=1e-6)
    assert found[2] == pytest.approx((0, math.log(8)), abs=1e-6)


CASES = {  # what is switched off -> the settings, and where the two entropies end, of ln 32 = 3.47
    "nothing": ({}, 0.5, 3.35),
    "centring": ({"centre_momentum": 1.0}, 0.0, 0.4),
    "sharpening": ({"teacher_temperature": 0.1}, 3.4, 3.47),
}


@pytest.mark.parametrize(("settings", "least", "most"), CASES.values(), ids=CASES.keys())
def test_without_centring_or_sharpening_it_collapses(settings, least, most):
    recipe = replace(TINY["dino"], batch_size=32, epochs=10)
    steps = run("dino", data=datasets.shapes("train", 256), recipe=recipe, settings=settings).history.steps
    ends = [sum(steps[name][-20:]) / 20 for name in ("entropy", "mean_entropy")]
    assert len(steps["entropy"]) == len(steps["loss"]) == 80
    assert all(least <= end <= most for end in ends), ends
    if most > 0.5 and least < 3:
        assert ends[1] > ends[0] + 0.05  # its answers differ from picture to picture


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", KINDS)
def test_a_run_trains_in_place_and_keeps_a_body(name, tmp_path):
    trainer = run(name, tmp_path)
    vit, history = trainer.model, trainer.history
    assert isinstance(trainer.objective, KINDS[name]) and not vit.training
    kept = weights.load(tmp_path)
    assert kept.config == vit.config and kept.config.num_classes == 32 and kept.config.classes == ()
    images = normalised(DATA.images[:5], vit.config)
    assert torch.equal(kept(images), vit(images)) and vit(images).shape == (5, 32)
    assert history.accuracy is None and len(history.steps["loss"]) == 8
    info = History.load(tmp_path / "history.json").info
    assert info["settings"].items() >= SETTINGS[name].items() and info["recipe"]["without_labels"] == name
    if name == "dino":
        teacher = trainer.objective.teacher["vit"].state_dict()
        assert all(torch.equal(value, teacher[key]) for key, value in vit.state_dict().items())
    muon, _ = trainer.optimizer.optimizers
    assert {id(p) for group in muon.param_groups for p in group["params"]} == {
        id(p)
        for key, p in trainer.objective.named_parameters()
        if "blocks." in key and p.ndim == 2 and not key.startswith("teacher")
    }
    training.new_head(vit, DATA.classes)
    assert training.evaluate(vit, DATA).logits.shape == (64, 10)


@pytest.mark.parametrize("name", KINDS)
def test_labels_change_nothing(name):
    shuffled = replace(DATA, labels=DATA.labels.roll(1))
    assert run(name).history.steps == run(name, data=shuffled).history.steps
    assert run(name, seed=1).history.steps != run(name).history.steps


def test_a_masked_autoencoder_learns():
    losses = run("mae", recipe=replace(TINY["mae"], epochs=60)).history.steps["loss"]
    assert sum(losses[-20:]) / 20 < 0.9 * sum(losses[:20]) / 20


@pytest.mark.parametrize("name", KINDS)
def test_a_stopped_run_goes_on_to_the_same_weights(name, tmp_path):
    def stop(history, progress):
        if len(history.steps["loss"]) == 3:
            raise KeyboardInterrupt

    run(name, tmp_path / "whole")
    assert run(name, tmp_path / "run", on_step=stop).history.stopped
    run(name, tmp_path / "run", resume=True)
    check_same(tmp_path / "run", tmp_path / "whole")
    with pytest.raises(ValueError, match="expected the arguments that the run began with, found settings"):
        run(name, tmp_path / "run", resume=True, settings={"mask_ratio": 0.25} if name == "mae" else {"momentum": 0.5})


def test_minutes_and_a_modern_vit():
    vit = ModernViT(ModernConfig(**asdict(CONFIG), registers=2, rope="axial", norm="rms"))
    history = training.train(vit, DATA, TINY["dino"], minutes=0.01, settings=SMALL_DINO)
    assert history.epochs[-1]["seconds"] >= 0.6 and vit(normalised(DATA.images[:2], vit.config)).shape == (2, 32)


REFUSED = {
    "test": ({"test": DATA}, "expected a run without labels to have no test, found it"),
    "calibration": ({"calibration": DATA}, "no calibration"),
    "shard": ({"shard": True}, "no shard"),
    "a setting of the other": ({"settings": {"momentum": 0.9}}, r"settings of mae, \['mask_ratio', .*found 'momentum'"),
    "nothing hidden": ({"settings": {"mask_ratio": 0.0}}, "expected a ratio that hides some"),
    "all hidden": ({"settings": {"mask_ratio": 2}}, "expected mask_ratio in 0 .. 1, like 0.75, found 2"),
    "a text": ({"settings": {"decoder_dim": "64"}}, "expected decoder_dim in 4 .. .*found '64'"),
    "half a block": ({"settings": {"decoder_depth": 1.5}}, "expected decoder_depth .*found 1.5"),
    "NaN": ({"settings": {"mask_ratio": float("nan")}}, "found nan"),
    "a width for no head": ({"settings": {"decoder_dim": 30}}, "expected .*found"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_do_nothing_or_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run("mae", **options)


OFF = {"cutmix": 0.5, "ema": 0.9, "patch_dropout": 0.5, "label_smoothing": 0.1, "balanced": True, "compile": True}


@pytest.mark.parametrize(("field", "value"), (OFF | {"frozen": ("head",), "body_rate": 0.0}).items())
def test_a_recipe_without_labels_has_nothing_that_needs_them(field, value):
    with pytest.raises(ValueError, match=rf"expected {field} to be .* in a recipe without labels, found"):
        replace(TINY["mae"], **{field: value})
    with pytest.raises(ValueError, match="expected without_labels to be mae, dino or empty, found 'simclr'"):
        replace(TINY["mae"], without_labels="simclr")


def test_what_only_one_kind_of_run_has_is_refused_in_the_other():
    with pytest.raises(ValueError, match=r"settings of a run with labels, \[\], found 'mask_ratio'"):
        training.Trainer(VisionTransformer(CONFIG), DATA, RECIPES["shapes"], settings={"mask_ratio": 0.5})
    with pytest.raises(ValueError, match="expected a VisionTransformer for mae, found ModernViT; dino takes it"):
        training.Trainer(ModernViT(ModernConfig(**asdict(CONFIG))), DATA, TINY["mae"])


# ------------------------------------------------------------------------------------------------ nearest neighbours


def test_nearest_neighbours_vote_by_the_cosine_of_what_the_head_would_read():
    test = datasets.shapes("test", 40)
    vit = VisionTransformer(CONFIG).train()
    found = [metrics.knn_accuracy(vit, DATA, test, k) for k in (1, 5)]
    assert vit.training and metrics.knn_accuracy(vit, DATA, DATA, 1) == 1.0
    vit = training.without_head(vit).eval()
    assert [metrics.knn_accuracy(vit, DATA, test, k) for k in (1, 5)] == found
    with torch.no_grad():
        known, asked = (vit(normalised(part.images, CONFIG)) for part in (DATA, test))
    similar = torch.nn.functional.cosine_similarity(asked[:, None], known[None], dim=2)
    for k, accuracy in zip((1, 5), found, strict=True):
        votes = [DATA.labels[row.argsort(descending=True)[:k]].bincount(minlength=10).tolist() for row in similar]
        right = sum(row.index(max(row)) == label for row, label in zip(votes, test.labels.tolist(), strict=True))
        assert accuracy == pytest.approx(right / 40)
    for wrong in ((DATA, test, 65), (DATA, test, 0), (DATA, replace(test, classes=test.classes[::-1]), 5)):
        with pytest.raises(ValueError, match="expected pictures of the same classes and k in 1 .. 64"):
            metrics.knn_accuracy(vit, *wrong)


# -------------------------------------------------------------------------------------------------------------- files


def test_a_masked_autoencoder_survives_a_file(tmp_path):
    path, images = tmp_path / "mae.safetensors", images_for(CONFIGS["not square"])
    before = mae.MaskedAutoencoder(body(CONFIGS["not square"]), 0.5, 16, 2, normalise=False).eval()
    before.vit.norm.eps = before.vit.blocks[0].norm1.eps = before.vit.blocks[0].norm2.eps = 1e-5
    mae.save(before, path)
    after, hidden = mae.load(path), mae.random_masking(6, 10, 0.5)[1] >= 5
    assert torch.equal(after.reconstruct(images, hidden), before.reconstruct(images, hidden))
    assert (after.mask_ratio, after.normalise, after.training, after.vit.norm.eps) == (0.5, False, False, 1e-5)
    assert isinstance(after.vit.head, torch.nn.Identity)
    with pytest.raises(ValueError, match="written by vit_tutorial.weights.save, found mae.safetensors with format"):
        weights.load(path)


def changed_file(path, tensors=None, **metadata):
    """Write a small masked autoencoder with other tensors or metadata than its own."""
    mae.save(mae.MaskedAutoencoder(body()), path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors = {name: value for name, value in (load_file(path) | (tensors or {})).items() if value is not None}
    save_file(tensors, path, header["__metadata__"] | metadata)


HUGE = json.dumps(asdict(replace(CONFIG, embed_dim=65536, depth=500)))
WIDE = {"mask_ratio": 0.75, "decoder_dim": 64, "decoder_depth": 1, "normalise": True}
DAMAGED = {
    "huge": ({"config": HUGE}, "found a damaged one .a model of [0-9,]{12,} parameters"),
    "a huge decoder": ({"settings": json.dumps(WIDE | {"decoder_dim": 40000})}, "damaged one .a model of [0-9,]{12,}"),
    "a deep decoder": ({"settings": json.dumps(WIDE | {"decoder_depth": 10**6})}, "damaged one .a model of"),
    "no settings": ({"settings": "{}"}, "damaged one"),
    "no dict": ({"settings": "[]"}, "damaged one"),
    "another setting": ({"settings": json.dumps(WIDE | {"future": 1})}, "damaged one .*future"),
    "no ratio": ({"settings": json.dumps(WIDE | {"mask_ratio": "x"})}, "damaged one"),
    "infinite": ({"settings": json.dumps(WIDE | {"mask_ratio": 1e999})}, "damaged one"),
    "a modern config": ({"config": json.dumps(asdict(ModernConfig(**asdict(CONFIG))))}, "damaged one .ModernConfig"),
    "another decoder": ({"settings": json.dumps(WIDE | {"decoder_dim": 32})}, "misshaped"),
    "another encoder": ({"config": json.dumps(asdict(replace(CONFIG, embed_dim=16, num_classes=16)))}, "misshaped"),
    "another format": ({"format": weights.FORMAT}, "written by vit_tutorial.training.mae.save, found"),
    "a tensor less": ({"tensors": {"decoder.norm.bias": None}}, "missing norm.bias"),
    "a tensor more": ({"tensors": {"decoder.x": torch.zeros(1)}}, "surplus x"),
    "of neither": ({"tensors": {"x": torch.zeros(1)}}, "damaged one"),
    "NaN": ({"tensors": {"decoder.norm.bias": torch.full((64,), math.nan)}}, "NaN or infinity in 1 of"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_masked_autoencoder_is_named(changes, message, tmp_path):
    changed_file(tmp_path / "mae.safetensors", **changes)
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        mae.load(tmp_path / "mae.safetensors")


def test_no_file_of_a_masked_autoencoder(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint at"):
        mae.load(tmp_path / "nothing")
    for content in (b"", b"weights, honestly", bytes(5000)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match="found file unreadable"):
            mae.load(tmp_path / "file")


# ------------------------------------------------------------------------------------------------------------ a shell


def test_without_labels_and_then_with_them_in_a_shell(tmp_path, monkeypatch, capsys):
    """Flat or in folders of classes; then the result is fine-tuned, and what needs a head says what to do."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path)
    Path("flat").mkdir()
    for i, path in enumerate(sorted(Path("pictures").rglob("*.png"))):
        shutil.copy(path, f"flat/{i}.png")
    train = ["train", "--epochs", "1", "--data"]
    assert cli.main([*train, "pictures", "--without-labels", "mae"]) == 0
    out, err = capsys.readouterr()
    assert "Trained: 1.0 epochs" in out and "without labels" in out and "--start runs/mae-seed0" in out
    assert "accuracy" not in out + err and "None" not in out + err
    info = History.load("runs/mae-seed0/history.json").info
    assert {side: sum(n.values()) for side, n in info["images"].items()} == {"train": 32}  # the test side is left out
    assert cli.main([*train, "flat", "--without-labels", "dino", "--patch-size", "16"]) == 0
    assert "all pictures are one class" in (out := capsys.readouterr().out) and "ImageSet(40 images" in out
    for kind in ("mae", "dino"):
        assert cli.main([*train, "pictures", "--start", f"runs/{kind}-seed0", "--out", kind]) == 0
        assert weights.load(kind).config.classes == ("blue", "red")
    capsys.readouterr()
    lines = (["evaluate", "runs/mae-seed0", "--data", "pictures"], ["predict", "runs/mae-seed0", "flat"])
    for line in (*lines, ["report", "runs/mae-seed0"], ["export", "runs/mae-seed0", "x.onnx"]):
        assert cli.main(line) == 2
        error = capsys.readouterr().err
        assert "give it one: vit-tutorial train --data ... --start runs/mae-seed0" in error and error.count("\n") == 1
    assert cli.main(["train", "--resume", "runs/dino-seed0"]) == 0
    assert "Nothing left to do" in capsys.readouterr().out
    for options, message in ((["--balanced"], "balanced to be False"), (["--calibrate"], "no calibration")):
        assert cli.main([*train, "pictures", "--without-labels", "mae", "--out", "new", *options]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*train, "pictures", "--without-labels", "mae", "--recipe", "shapes"])


KILLED = "import sys; from vit_tutorial import cli; from vit_tutorial.training import trainer; trainer.EVERY = 0.0; "
KILLED += "trainer.SHARE = 0.5; sys.exit(cli.main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
@pytest.mark.parametrize("name", KINDS)
def test_a_killed_command_goes_on_to_the_same_weights(name, tmp_path):
    make_folder(tmp_path)

    def command(*arguments, kill=False):
        process = subprocess.Popen([sys.executable, "-c", KILLED, "train", *arguments], cwd=tmp_path, env=ALONE)
        while kill and process.poll() is None:
            if (tmp_path / "run/checkpoint.pt").exists() and state.load(tmp_path / "run")["clock"]["steps"] > 5:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        return process.wait()

    line = ["--data", "pictures", "--without-labels", name, "--epochs", "60"]
    assert command(*line, "--out", "whole") == 0
    assert command(*line, "--out", "run", kill=True) == -signal.SIGKILL
    assert command("--resume", "run") == 0
    assert state.load(tmp_path / "run")["history"].info["resumed_after_steps"][0] > 5
    check_same(tmp_path / "run", tmp_path / "whole")


def runs(folder):
    """Each kind of run in one process, and in two."""
    torch.set_num_threads(1)
    os.environ[precision.PRECISION] = "float32"
    for name in KINDS:
        wait_for(forked(run, name, folder / f"{name}-one"), None)
    assert together(lambda: [run(name, folder / f"{name}-two") for name in KINDS]) == [True, True]


@pytest.mark.slow
@UNTESTED
def test_two_processes_train_the_same_run_as_one(tmp_path):
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, env=ALONE)
    assert done.returncode == 0, done.stderr
    for name in KINDS:
        one, two = (state.load(tmp_path / f"{name}-{count}") for count in ("one", "two"))
        for series, values in one["history"].steps.items():
            torch.testing.assert_close(
                torch.tensor(two["history"].steps[series]), torch.tensor(values), atol=2e-4, rtol=0
            )
        for part, value in one["model"].items():
            torch.testing.assert_close(two["model"][part], value, atol=2e-3, rtol=0, msg=part)


def test_the_ranges_are_those_of_the_two_modules():
    assert objective.SETTINGS.keys() == set().union(*(objective.full_settings(name, None) for name in KINDS))


if __name__ == "__main__":
    runs(Path(sys.argv[1]))
