"""Runs without labels: in Python, in a shell, killed and resumed, and in several processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_pictures import saved, scene
from test_cli import make_folder
from test_distributed import UNTESTED, together
from test_own_images import two_classes, write
from test_resume import ALONE, check_same, wait_for
from test_resume import fork as forked
from test_without_labels import CONFIG, KINDS

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, cli, datasets, training, weights
from vit_tutorial import normalise as normalised
from vit_tutorial.machine import precision
from vit_tutorial.training import RECIPES, History, state

TINY = {name: replace(RECIPES[name], model=CONFIG, batch_size=16, epochs=2) for name in KINDS}
DATA = datasets.shapes("train", 64)
SMALL_DINO = {"prototypes": 32, "momentum": 0.95}
SETTINGS = {"mae": {"mask_ratio": 0.5}, "dino": SMALL_DINO}


def run(name, out=None, seed=0, data=DATA, recipe=None, settings=None, **options):
    """The `Trainer` of a finished run of a tiny model, two epochs of four steps unless `recipe` says otherwise."""
    torch.manual_seed(0)
    vit, settings = VisionTransformer(CONFIG), SETTINGS[name] | (settings or {})
    trainer = training.Trainer(vit, data, recipe or TINY[name], out=out, seed=seed, settings=settings, **options)
    trainer.run()
    return trainer


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
    "NaN": ({"settings": {"mask_ratio": float("nan")}}, "found nan"),
    "a width for no head": ({"settings": {"decoder_dim": 30}}, "expected .*found"),
    "half a block": ({"settings": {"decoder_depth": 1.5}}, "expected decoder_depth in 1 .. .*found 1.5"),
    "a huge number": ({"settings": {"decoder_dim": 10**400}}, "expected decoder_dim in 4 .. .*found 10+$"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_do_nothing_or_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run("mae", **options)


def test_a_refused_model_keeps_its_head():
    vit = VisionTransformer(CONFIG)
    with pytest.raises(ValueError, match="hides some of the 16 patches and leaves some"):
        training.train(vit, DATA, TINY["mae"], settings={"mask_ratio": 0.01})
    for wrong in (5, ["mask_ratio"], "mask_ratio"):
        with pytest.raises(ValueError, match="expected settings as a dict, like {'mask_ratio': 0.5}, found "):
            training.train(vit, DATA, TINY["mae"], settings=wrong)
    assert vit.head.out_features == vit.config.num_classes == 10


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mae", {"mask_ratio": np.float64(0.5), "decoder_depth": 2.0}), ("dino", {"prototypes": 32.0})],
)
def test_numbers_of_another_type_are_taken_and_the_run_goes_on(name, settings, tmp_path):
    """A checkpoint with one of NumPy's numbers in it could not be read again."""

    def stop(history, progress):
        raise KeyboardInterrupt

    run(name, tmp_path, settings=settings, on_step=stop)
    assert len(run(name, tmp_path, settings=settings, resume=True).history.steps["loss"]) == 8


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


FLAT = {f"{i}.png": saved(scene(i)) for i in range(6)}
SIDES = {f"train/{i}.png": saved(scene(i)) for i in range(4)}
SIDES |= {f"test/{i}.png": saved(scene(i)) for i in range(4, 6)}
FOLDERS = {  # files -> how many are learned from, of which class, and what is said
    "one picture": ({"a.png": saved(scene(1))}, {"pictures": 1}, "all pictures are one class"),
    "one picture twice": (dict.fromkeys(("a.png", "b.png"), saved(scene(1))), {"pictures": 2}, "a.png = b.png"),
    "some in a folder": (FLAT | {"old/a.png": saved(scene(9))}, {"pictures": 7}, "all pictures are one class"),
    "some in no class": (FLAT | two_classes(5), {"cat": 4, "dog": 4}, "6 pictures without a class are left out"),
    "train and test": (SIDES, {"pictures": 4}, "train (4) for training; test (2) for testing"),
    "one class in train and test": (
        {name.replace("/", "/cat/"): data for name, data in SIDES.items()},
        {"cat": 4},
        "train (4) for training; test (2) for testing",
    ),
    "classes in test alone": (
        SIDES | {f"test/{name}": data for name, data in two_classes(2).items()},
        {"pictures": 4},
        "train (4) for training; test (6) for testing",
    ),
    "a table without a label": (
        FLAT | {"labels.csv": b"file,label\n0.png,\n1.png,\n"},
        {"pictures": 6},
        "all pictures are one class",
    ),
}


@pytest.mark.parametrize(("files", "learned", "said"), FOLDERS.values(), ids=FOLDERS.keys())
def test_what_is_learned_from_in_folders_of_every_kind(files, learned, said, tmp_path, monkeypatch, capsys):
    """All pictures, but for a test side: that stays unseen, even where nothing has a class."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pictures", files)
    data = "pictures/labels.csv" if "labels.csv" in files else "pictures"
    line = ["train", "--data", data, "--without-labels", "dino", "--epochs", "1", "--out", "run"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert said in out and "what a test says" not in out.replace(
        "Fewer than 8 pictures in cat, dog: what a test says", ""
    )
    assert History.load("run/history.json").info["images"] == {"train": learned}


def test_no_picture_and_a_calibration_without_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["train", "--data", "pictures", "--without-labels", "mae", "--minutes", "0.000001"]
    write(tmp_path / "pictures", {"notes.txt": b"none"})
    assert cli.main(line) == 2
    assert "expected at least one picture, found none; 1 files were skipped: notes.txt: no" in capsys.readouterr().err
    write(tmp_path / "pictures", FLAT)
    assert cli.main([*line, "--calibrate"]) == 2
    assert "expected a run without labels to have no calibration, found --calibrate" in capsys.readouterr().err
    assert cli.main(line) == 0 and "no step" in capsys.readouterr().out


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


if __name__ == "__main__":
    runs(Path(sys.argv[1]))
