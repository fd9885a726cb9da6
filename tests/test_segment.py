"""Models of pixels: what they learn from, keep, say and refuse."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, cli, datasets, metrics, pixels, training, weights
from vit_tutorial.datasets import MaskedImages, scenes
from vit_tutorial.dense import UPSAMPLING, SegmentationViT, patch_features
from vit_tutorial.machine import distributed
from vit_tutorial.training import state
from vit_tutorial.training.recipe import OFF_WITHOUT_LABELS
from vit_tutorial.weights import PatchMeanViT, PatchPoolViT

SEGMENT = training.RECIPES["segment"]
TINY = replace(SEGMENT, model=replace(SEGMENT.model, embed_dim=16, depth=1, num_heads=2), batch_size=4)
TRAIN = ["train", "--data", "scenes", "--task", "segment", "--epochs", "2"]
MIXED_UP = "expected a (SegmentationViT and MaskedImages|classifier and an ImageSet), found"


@pytest.fixture(scope="module")
def few():
    """8 scenes, of which some pixels are not judged."""
    few = scenes("train", 8)
    few.masks[:, 10:12] = 255
    return few


def tiny(data, upsampling="pixels", kind=VisionTransformer, **changes):
    torch.manual_seed(0)
    return SegmentationViT(kind(replace(TINY.config(data), **changes)), len(data.classes), upsampling)


def begin(data, recipe=TINY, **options):
    model = tiny(data)
    return training.train(model, data, recipe, **{"epochs": 2} | options), model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of the command, on 40 scenes, with a body of one block."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        assert cli.main([*TRAIN, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def small(monkeypatch):
    make_small(monkeypatch)


def make_small(patch):
    """The command trains a small model on few scenes."""
    patch.setattr(datasets, "scenes", lambda side: scenes(side, 40))
    patch.setitem(training.RECIPES, "segment", TINY)


def folder_of(path, few):
    """`images/` and `masks/` of the 8 scenes, at `path`."""
    for kind in ("images", "masks"):
        (path / kind).mkdir(parents=True)
    for i, (image, mask) in enumerate(zip(few.images, few.masks, strict=True)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / "images" / f"{i}.png")
        Image.fromarray(mask.numpy()).save(path / "masks" / f"{i}.png")
    return path


# ------------------------------------------------------------------------------------------------ training


def test_a_mask_moves_with_its_picture():
    """Each picture holds its own mask as colours: so it must after every crop and flip."""
    masks = torch.randint(0, 7, (32, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    data = MaskedImages(masks.unsqueeze(1).repeat(1, 3, 1, 1), masks, tuple("abcdefg"))
    config = replace(TINY.config(data), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    [(images, targets)] = training.batches(data, config, replace(TINY, crop=3, batch_size=32), torch.arange(32))
    assert targets.dtype == torch.int64 and torch.equal(images[:, 0].round().long(), targets)
    assert not torch.equal(targets, masks.long())


def test_unjudged_pixels_are_not_learned_from(few):
    """What stands where nobody judged changes neither loss nor gradient."""
    assert (few.masks == 255).any()
    batch, found = next(training.batches(few, tiny(few).config, TINY)), []
    for value in (0.0, 50.0):
        model = tiny(few)
        logits = model(batch[0])
        logits = torch.where((batch[1] == -100).unsqueeze(1) & (torch.arange(7) == 3).view(1, 7, 1, 1), value, logits)
        torch.nn.functional.cross_entropy(logits, batch[1]).backward()
        found.append(model.head.weight.grad)
    assert torch.equal(*found) and found[0].any()
    result = training.evaluate_masks(model, few)
    assert result.counts.sum() == (few.masks != 255).sum()


def test_a_run_keeps_names_records_and_what_it_says(few, tmp_path):
    history, model = begin(few, test=few[:4], out=tmp_path)
    result = training.evaluate_masks(model, few[:4])
    assert model.config.classes == few.classes == weights.load(tmp_path).config.classes
    assert history.mean_iou == pytest.approx(result.mean_iou, abs=1e-4) and history.info["images"] == {
        "train": 8,
        "test": 4,
    }
    assert history.accuracy == pytest.approx(result.accuracy, abs=1e-4)
    assert training.History.load(tmp_path / "history.json").mean_iou == history.mean_iou
    assert result.predicted.shape == (4, 32, 32) and result.predicted.dtype == torch.uint8
    there = result.counts.sum(dim=1) > 0
    assert result.mean_iou == pytest.approx(metrics.iou(result.counts)[there].mean().item())


@pytest.mark.parametrize(
    "changes", [{"ema": 0.9}, {"muon_learning_rate": 0.0}, {"body_rate": 0.0}, {"layer_decay": 0.5}]
)
def test_recipes_work_on_masks(few, changes):
    before, (history, model) = tiny(few).state_dict(), begin(few, replace(TINY, **changes))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert history.epochs[-1]["test_mean_iou"] is None and history.mean_iou is None
    assert moved == ({"head.weight", "head.bias"} if "body_rate" in changes else set(before))


def test_a_part_of_the_body_is_frozen_by_its_name(few):
    before, (_, model) = tiny(few).state_dict(), begin(few, replace(TINY, frozen=("patch_embed",)))
    same = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert same == ["vit.patch_embed.proj.weight", "vit.patch_embed.proj.bias"]


@pytest.mark.parametrize("bf16", ["float32", "bfloat16"])
def test_a_resumed_run_ends_as_the_undisturbed_one(few, tmp_path, monkeypatch, bf16):
    monkeypatch.setenv("VIT_TUTORIAL_PRECISION", bf16)
    recipe = replace(TINY, ema=0.9, model=replace(TINY.model, dropout=0.1))

    def interrupt(history, progress):
        if len(history.steps["loss"]) == 3:
            raise KeyboardInterrupt

    begin(few, recipe, out=tmp_path / "whole", test=few)
    history, _ = begin(few, recipe, out=tmp_path / "broken", test=few, on_step=interrupt)
    assert history.stopped and len(history.steps["loss"]) == 3
    begin(few, recipe, out=tmp_path / "broken", test=few, resume=True)
    whole, broken = (state.load(tmp_path / name) for name in ("whole", "broken"))
    for part in ("model", "average"):
        assert all(torch.equal(value, broken[part][name]) for name, value in whole[part].items())
    assert whole["history"].steps == broken["history"].steps
    other = replace(few, masks=few.masks.flip(0))
    with pytest.raises(ValueError, match="the run began with, found dataset"):
        begin(other, recipe, out=tmp_path / "broken", test=few, resume=True)


@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        ({"balanced": True}, {}, "no balanced"),
        ({"cutmix": 0.5, "patch_dropout": 0.5}, {}, "no patch_dropout and no cutmix"),
        ({**OFF_WITHOUT_LABELS, "without_labels": "mae"}, {}, "no without_labels"),
        ({}, {"calibration": 1}, "no calibration"),
        ({}, {"shard": True}, "no shard"),
    ],
)
def test_what_masks_do_not_have_is_refused(few, recipe, options, said):
    with pytest.raises(ValueError, match=said):
        begin(few, replace(TINY, **recipe), **options)


def test_masks_and_labels_are_not_mixed_up(few, monkeypatch):
    model, classifier, labelled = tiny(few), VisionTransformer(TINY.model), datasets.shapes("test", 8)
    for judge, one, data in (
        (training.evaluate_masks, model, labelled),
        (training.evaluate_masks, classifier, few),
        (training.evaluate, classifier, few),
        (training.evaluate, model, labelled),
        (training.evaluate, model, few),
    ):
        with pytest.raises(ValueError, match=MIXED_UP):
            judge(one, data)
    for one, data, test in ((model, labelled, None), (classifier, few, None), (model, few, labelled)):
        with pytest.raises(ValueError, match=MIXED_UP):
            training.train(one, data, TINY, test)
    empty = replace(few, masks=few.masks.clone())
    empty.masks[2] = 255
    with pytest.raises(ValueError, match="at least one pixel of every picture, found 1 where all are 255"):
        begin(empty)
    with pytest.raises(ValueError, match="every pixel is 255"):
        training.evaluate_masks(model, empty[2:3])
    with pytest.raises(ValueError, match="expected a dataset with the model's 3 classes, found 7"):
        training.train(SegmentationViT(VisionTransformer(TINY.model), 3), few, TINY)
    with pytest.raises(ValueError, match="upsampling to be one of"):
        SegmentationViT(VisionTransformer(TINY.model), 7, "bicubic")
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="start it without torchrun"):
        begin(few)


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("kind", [VisionTransformer, ModernViT, PatchMeanViT, PatchPoolViT])
def test_what_is_saved_answers_as_before(few, tmp_path, kind, upsampling):
    plain = TINY.config(few)
    modern = ModernConfig(**vars(plain), rope="axial", registers=2)
    vits = {
        VisionTransformer: lambda: VisionTransformer(plain),
        ModernViT: lambda: ModernViT(modern),
        PatchMeanViT: lambda: PatchMeanViT(replace(plain, pool="mean"), True),
        PatchPoolViT: lambda: PatchPoolViT(modern, "map"),
    }
    model = SegmentationViT(vits[kind](), 7, upsampling).eval()
    model.config = replace(model.config, classes=few.classes)
    weights.save(torch.nn.DataParallel(model), tmp_path / "model.safetensors")
    loaded, images = weights.load(tmp_path), torch.randn(2, 3, 32, 32)
    assert (loaded.config, loaded.upsampling, type(loaded.vit)) == (model.config, upsampling, kind)
    assert torch.equal(loaded(images), model(images)) and not loaded.training


def test_rotary_positions_reach_the_patches(few):
    model = ModernViT(ModernConfig(**vars(TINY.config(few)), rope="axial", registers=2)).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(patch_features(model, images), model.forward_features(images)[:, -16:])


def damaged(path, out, metadata=None, change=lambda state: state):
    with safe_open(path, "pt") as file:
        known, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(change(tensors), out, known | (metadata or {}))


def test_damaged_checkpoints_are_named(few, tmp_path):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    weights.save(tiny(few), good)
    with safe_open(good, "pt") as file:
        config = json.loads(file.metadata()["config"])
    huge = json.dumps(config | {"num_classes": 10**7, "classes": []})
    head = lambda value: lambda state: state | {"head.weight": value(state["head.weight"])}  # noqa: E731
    for metadata, change, said in (
        ({"segmentation": "x" * 1000}, dict, "damaged one"),
        ({"segmentation": "bilinear"}, dict, "misshaped weight"),
        ({"config": huge}, dict, "parameters"),
        ({}, lambda state: {name: v for name, v in state.items() if "head" not in name}, "missing weight"),
        ({}, lambda state: {name: v for name, v in state.items() if name != "norm.bias"}, "missing norm.bias"),
        ({}, head(lambda w: w * float("nan")), "NaN"),
    ):
        damaged(good, bad, metadata, change)
        with pytest.raises(ValueError, match=said) as error:
            weights.load(bad)
        assert len(str(error.value)) < 1000
    broken = tiny(few)
    broken.head = torch.nn.Linear(16, 7)
    with pytest.raises(ValueError, match="expected a head for the 7 classes"):
        weights.save(broken, bad)


# ------------------------------------------------------------------------------------------------ commands


def test_evaluate_says_the_iou_of_each_class(run, small, capsys):
    assert cli.main(["evaluate", str(run), "--data", "scenes"]) == 0
    out = capsys.readouterr().out
    result = training.evaluate_masks(weights.load(run), scenes("test", 40))
    assert f"mean IoU {100 * result.mean_iou:.2f} % of the 7 classes" in out and "40 pictures, the test side" in out
    assert (
        f"pixels right {100 * result.accuracy:.2f} %" in out
        and f"boundary error {100 * result.boundary_error:.1f}" in out
    )
    assert f"{100 * result.iou[0]:.1f} %" in next(line for line in out.splitlines() if line.startswith("ground"))


def test_predict_writes_masks_of_the_pictures_own_sizes(run, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    image = scenes("test", 1).images[0].permute(1, 2, 0).numpy()
    for name, size in (("wide", (100, 60)), ("high", (32, 45)), ("same", (32, 32))):
        Image.fromarray(image).resize(size).save(tmp_path / "new" / f"{name}.png")
    Image.fromarray(image).save(tmp_path / "new" / "high.jpg")
    line = ["predict", str(run), f"{tmp_path}/new", "--out", f"{tmp_path}/masks", "--csv", f"{tmp_path}/a.csv"]
    assert cli.main(line) == 0
    captured = capsys.readouterr()
    assert "another picture is called high.png" in captured.err and "0 ground, 1 circle" in captured.out
    with Image.open(tmp_path / "masks" / "wide.png") as mask:
        assert (mask.mode, mask.size) == ("P", (100, 60))
        values = np.array(mask)
    assert (values[:, :20] == 255).all() and (values[:, 80:] == 255).all() and values[:, 20:80].max() < 7
    with (tmp_path / "a.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert float(rows["wide.png"]["ground"]) == pytest.approx((values[:, 20:80] == 0).mean(), abs=1e-5)
    with Image.open(tmp_path / "masks" / "same.png") as mask:
        expected = training.evaluate_masks(weights.load(run), scenes("test", 1), bf16=False).predicted[0]
        assert torch.equal(torch.from_numpy(np.array(mask)), expected)
    assert cli.main(line) == 2 and "new or an empty folder" in capsys.readouterr().err
    assert len(set(zip(*[iter(pixels.palette())] * 3, strict=True))) == 256


def test_a_folder_is_trained_on_from_a_classifier_and_from_an_encoder(few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "masks", few)
    weights.save(VisionTransformer(TINY.model), "classifier.safetensors")
    weights.save(training.without_head(VisionTransformer(replace(TINY.model, patch_size=4))), "encoder.safetensors")
    line = ["train", "--data", "masks", "--task", "segment", "--epochs", "1"]
    for start, out in (("classifier.safetensors", "run"), ("encoder.safetensors", "other"), ("run", "next")):
        assert cli.main([*line, "--start", start, "--out", out]) == 0
    assert "mean IoU" in capsys.readouterr().out
    assert weights.load("other").config.patch_size == 4
    info = training.History.load("run/history.json").info
    assert info["task"] == "segment" and info["images"] == {"train": 7, "test": 1}
    assert cli.main(["evaluate", "run", "--data", "masks"]) == 0
    assert "1 pictures, the test side" in capsys.readouterr().out
    assert cli.main(["evaluate", "run", "--data", "masks", "--side", "all"]) == 0
    assert "8 pictures, all" in capsys.readouterr().out
    assert cli.main(["train", "--data", "masks", "--out", "classes"]) == 2
    assert "found images and masks; for these add --task segment" in capsys.readouterr().err
    (tmp_path / "masks").rename("elsewhere")
    assert cli.main(["evaluate", "run", "--data", "masks"]) == 2


def test_a_stopped_run_is_resumed_by_the_command(small, tmp_path, monkeypatch, capsys):
    assert cli.main([*TRAIN, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(cli, "status", lambda history: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main([*TRAIN, "--out", str(tmp_path / "broken")]) == 0
    assert "Continue with" in capsys.readouterr().out
    assert cli.main(["train", "--resume", str(tmp_path / "broken")]) == 0
    whole, broken = (weights.load(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())


def test_each_command_says_in_a_line_what_it_cannot_do(run, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.save(VisionTransformer(TINY.model), "classifier.safetensors")
    Image.new("RGB", (32, 32)).save("picture.png")
    for line, said in (
        (["train", "--data", "scenes"], "--task segment"),
        (["train", "--data", "shapes", "--recipe", "segment"], "--task segment with --recipe segment"),
        (["train", "--data", "shapes", "--task", "segment"], "scenes or a folder"),
        (["train", "--data", "shapes", "--start", str(run)], "found a model of pixels; add --task segment"),
        ([*TRAIN, "--balanced", "--labels", "a.csv"], "without --labels and --balanced"),
        ([*TRAIN, "--without-labels", "mae"], "without --without-labels"),
        ([*TRAIN, "--recipe", "cifar10-laptop"], "no patch_dropout"),
        (["evaluate", "classifier.safetensors", "--data", "scenes"], "--task segment trains a model"),
        (["evaluate", str(run), "--data", "shapes"], "scenes or a folder"),
        (["evaluate", str(run), "--data", "scenes", "--rename", "a=b"], "without --rename"),
        (["predict", str(run), "picture.png"], "expected --out FOLDER"),
        (["predict", str(run), "picture.png", "--out", "x", "--threshold", "0.5"], "without --threshold"),
        (["predict", str(run), "nothing.png", "--out", "x"], "none that can be read (nothing.png: no such file)"),
        (["predict", "classifier.safetensors", "picture.png", "--out", "x"], "no model of pixels"),
    ):
        assert cli.main(line) == 2, line
        error = capsys.readouterr().err
        assert said in error and error.count("vit-tutorial: ") == 1, error


def test_a_report_shows_each_class_and_its_pictures(run, small, tmp_path):
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "mean IoU" in page and "star" in page and "and its true mask" in page and '<p class="warning"' not in page
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    history = training.History.load(moved / "history.json")
    history.epochs[-1]["test_mean_iou"] = 0.9
    history.save(moved / "history.json")
    assert cli.main(["report", str(moved)]) == 0
    assert "have changed: mean IoU 90.0 % in the run" in (moved / "report.html").read_text(encoding="utf-8")


def test_an_exported_model_says_the_same_of_every_pixel(run, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert cli.main(["export", str(run), str(tmp_path / "model.onnx")]) == 0
    assert "at most" in capsys.readouterr().out
