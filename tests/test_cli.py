"""The command line as a person uses it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vit_tutorial import cli, weights
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.training import RECIPES, History


def make_folder(tmp_path):
    """`tmp_path/pictures`: two colours, 20 pictures each, no two alike and of several sizes."""
    spots = np.random.default_rng(0)
    for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.full((8, 8, 3), colour, np.uint8)
            pixels[4:] = spots.integers(0, 256, (4, 8, 3))
            Image.fromarray(pixels).resize((32 + i, 40)).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def test_train_then_evaluate(folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert cli.main(["train", "--data", str(folder), "--epochs", "12", "--out", str(run), "--seed", "3"]) == 0
    captured = capsys.readouterr()
    assert "test accuracy 100.00 %" in captured.out
    assert "loss" in captured.err and "100%" in captured.err  # the progress bar
    history = History.load(run / "history.json")
    assert history.info["seed"] == 3 and history.accuracy == 1.0
    assert weights.load(run / "model.safetensors").config.classes == ("blue", "red")
    assert cli.main(["evaluate", str(run / "model.safetensors"), "--data", str(folder)]) == 0
    assert "accuracy 100.00 %" in capsys.readouterr().out


def test_views_of_a_fixed_camera_are_trained_on_with_labels_and_groups(tmp_path, monkeypatch, capsys):
    """16 bits of grey, alike but for a spot, two patients, labels in a table: from there to a tested model."""
    monkeypatch.chdir(tmp_path)
    rows, spots = ["picture;class;patient"], np.random.default_rng(0)
    for i in range(24):
        pixels = np.add.outer(np.arange(40) * 20, np.arange(40) * 15).astype(np.uint16) + 300
        y, x = spots.integers(2, 34, 2)
        pixels[y : y + 4, x : x + 4] = 2000 if i % 4 == 0 else 150
        (tmp_path / "scans").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"s{i}.PNG")
        rows.append(f"s{i};{'scratch' if i % 4 == 0 else 'none'};p{i // 4}")
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    line = ["train", "--data", "scans", "--labels", "labels.csv", "--epochs", "1", "--out", "run"]
    assert cli.main(line) == 2
    assert "only" in (error := capsys.readouterr().err) and "--copies off" in error
    assert cli.main([*line, "--copies", "off", "--groups", "patient"]) == 0
    out = capsys.readouterr().out
    assert "24 of 24 pictures have more than 8 bits: values of 150 to 2,000 became 0 to 255" in out
    assert "none: 18" in out and "classes from column 'class' of labels.csv" in out
    info = History.load("run/history.json").info
    assert (info["labels"], info["groups"], info["copies"]) == ("labels.csv", "patient", "off")
    assert cli.main(["evaluate", "run/model.safetensors", *line[1:5], "--copies", "off", "--groups", "patient"]) == 0


def test_what_cannot_be_read_is_named_and_the_rest_is_trained_on(folder, tmp_path, capsys):
    for name in ("blue/half.png", "red/half.jpg"):
        (folder / name).write_bytes((folder / "red" / "1.png").read_bytes()[:60])
    assert cli.main(["train", "--data", str(folder), "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "blue/half.png: broken" in out and "red/half.jpg: broken" in out and "40 pictures in 2 classes" in out


def test_a_finished_run_is_not_overwritten(folder, tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    assert cli.main(["train", "--data", str(folder), "--out", str(tmp_path)]) == 2
    assert "choose another with --out" in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def interrupted(command, folder, **options):
    """The exit status, output and errors of a training in a shell that gets Ctrl-C after its first steps."""
    out, err = folder / "out.txt", folder / "err.txt"
    with out.open("w") as output, err.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=errors,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores Ctrl-C
            **options,
        )
        while "loss" not in err.read_text() and process.poll() is None:  # the progress bar
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        return process.wait(), out.read_text(), err.read_text()


def test_a_run_at_another_size_balanced_and_calibrated_says_what_it_trained(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(14):
        (folder / "red" / f"{i}.png").unlink()
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    line = ["train", "--data", "pictures", "--recipe", "shapes", "--epochs", "1"]
    line += ["--balanced", "--calibrate", "--image-size", "48"]
    assert cli.main([*line, "--out", "run"]) == 0
    assert "Calibrated: temperature" in capsys.readouterr().out
    info, model = History.load("run/history.json").info, weights.load("run")
    assert (model.config.image_size, model.config.patch_size, model.config.grid) == ((48, 48), 4, (12, 12))
    assert info["recipe"]["balanced"] and info["temperature"] > 0
    assert info["recipe"]["model"]["classes"] == info["classes"] == ["blue", "red"]
    assert {side: sum(counts.values()) for side, counts in info["images"].items()} == {
        "train": 17,
        "calibration": 4,
        "test": 5,
    }
    assert info["skipped"][0][0] == "red/broken.png" and info["value_range"] is None
    assert cli.main(["train", "--data", "pictures", "--start", "run", "--epochs", "1", "--out", "next"]) == 0
    assert weights.load("next").config.image_size == (48, 48)


def test_a_run_goes_on_only_with_its_own_pictures(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["train", "--data", "pictures", "--recipe", "shapes", "--epochs", "4", "--copies", "off", "--calibrate"]
    monkeypatch.setattr(cli, "status", lambda history: os.kill(os.getpid(), signal.SIGINT) or {})
    assert cli.main([*line, "--out", "run"]) == 0
    assert "Continue with" in capsys.readouterr().out
    (folder / "red" / "0.png").rename("kept.png")
    assert cli.main(["train", "--resume", "run"]) == 2
    error = capsys.readouterr().err
    assert "expected the arguments that the run began with" in error and "images {'train'" in error
    folder.rename("elsewhere")
    assert cli.main(["train", "--resume", "run"]) == 2
    assert "expected the run's pictures at pictures, found nothing" in capsys.readouterr().err


def test_too_few_to_hold_some_back_are_named(tmp_path, capsys):
    for name, count in (("blue", 5), ("red", 2)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(
                tmp_path / "few" / name / f"{i}.png"
            )
    line = ["train", "--data", str(tmp_path / "few"), "--copies", "off", "--calibrate", "--out", str(tmp_path / "run")]
    assert cli.main(line) == 2
    assert "--calibrate, found fewer of red; add pictures" in capsys.readouterr().err


def test_start_by_name_takes_a_model_of_others(monkeypatch):
    named = []
    monkeypatch.setattr(weights, "pretrained", named.append)
    cli.start_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    cli.start_model("owner/model")
    assert named == ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "owner/model"]


@pytest.mark.parametrize(("size", "patch"), [(32, 4), (64, 4), (96, 6), (128, 8), (224, 14), (512, 32)])
def test_patches_grow_with_the_image(size, patch):
    assert cli.fitting_patch(size, RECIPES["shapes"].model) == patch


BAD_LINES = {
    "no data set": (["train", "--data", "shpaes"], "shapes, same_or_different, cifar10, a folder"),
    "a prime size": (["train", "--data", ".", "--image-size", "7"], "found 7; take a multiple of 16"),
    "a size for drawn images": (["train", "--data", "shapes", "--image-size", "64"], "with a folder of pictures"),
    "patches that do not fit": (["train", "--data", ".", "--patch-size", "3"], "multiples of the patch size 3"),
    "too many patches": (
        ["train", "--data", ".", "--image-size", "1024", "--patch-size", "1"],
        "at most 4,096 patches, found (1024, 1024)",
    ),
    "patches of a trained model": (
        ["train", "--data", ".", "--start", str(CHECKPOINT), "--patch-size", "8"],
        "--start without --patch-size, found both; its is 4",
    ),
    "a size that its patches do not fit": (
        ["train", "--data", ".", "--start", str(CHECKPOINT), "--image-size", "30"],
        "multiples of the patch size 4, found 30 x 30",
    ),
    "no such start": (["train", "--data", ".", "--start", "nowhere"], "expected a checkpoint at nowhere or a model"),
    "no such folder": (
        ["train", "--data", "nowhere"],
        "shapes, same_or_different, cifar10, a folder or a file, found nothing at 'nowhere'",
    ),
    "groups of no folder": (
        ["train", "--data", "shapes", "--groups", "x"],
        "expected --groups with a folder of pictures",
    ),
    "no distance": (
        ["train", "--data", ".", "--copies", "far"],
        "--copies to be off or a distance between 0 and 2, found 'far'",
    ),
    "no such table": (["evaluate", "--data", ".", "--labels", "x.csv"], "table of labels named x.csv, found 0"),
    "no such recipe": (["train", "--data", "shapes", "--recipe", "soup"], "mae, dino, found 'soup'"),
    "no such checkpoint": (["evaluate", "none.safetensors", "--data", "shapes"], "found no file"),
    "no time": (["train", "--data", "shapes", "--minutes", "0"], "more than 0 minutes, found 0.0"),
}


@pytest.mark.parametrize("line, message", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_bad_input_is_one_line_and_status_2(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(line) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    "line", [[], ["dance"], ["train"], ["train", "--data", "shapes", "--minutes", "1", "--epochs", "1"]]
)
def test_usage_errors_are_status_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line)
    assert stopped.value.code == 2 and "usage" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows delivers Ctrl-C another way")
def test_ctrl_c_keeps_the_model(folder, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vit_tutorial.cli", "train", "--data", str(folder), "--minutes", "5"]
    status, out, err = interrupted([*command, "--out", str(run)], tmp_path)
    assert status == 0, err
    assert "Stopped early" in out and "Traceback" not in err
    assert History.load(run / "history.json").stopped
    weights.load(run / "model.safetensors")
