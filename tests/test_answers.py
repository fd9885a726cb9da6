"""What a trained model says: by the names of the classes, about the right pictures, in a form that can be used."""

import csv
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vit_tutorial import VisionTransformer, ViTConfig, answers, cli, datasets, export, normalise, weights
from vit_tutorial.pictures import files
from vit_tutorial.training import History

SMALL = {"image_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
COLOURS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}


def picture(colour, seed):
    """A picture of a colour, like no other: a corner of it is noise."""
    pixels = np.full((20, 24, 3), colour, np.uint8)
    pixels[:6, :6] = np.random.default_rng(seed).integers(0, 256, (6, 6, 3))
    return Image.fromarray(pixels)


def write(folder, classes, count=5):
    """A folder of pictures for each `{class: colour}`."""
    for c, (name, colour) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(COLOURS[colour], 100 * c + i).save(folder / name / f"{i}.png")
    return folder


def fitted(names, value_range=None):
    """A small ViT that tells blue, green and red apart and calls them `names`: its head is solved for, not trained."""
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(**SMALL, num_classes=len(names), classes=tuple(names))).eval()
    head, model.head = model.head, torch.nn.Identity()
    images = [
        np.asarray(picture(c, 50 + i).crop((2, 0, 22, 20)).resize((16, 16))) for c in COLOURS.values() for i in range(9)
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = model(normalise(pixels, model.config))
        wanted = 8 * torch.eye(len(names))[torch.arange(3).repeat_interleave(9)]
        head.weight.copy_(torch.linalg.lstsq(features, wanted, driver="gelsd").solution.T)
        head.bias.zero_()
    model.head = head
    if value_range:
        object.__setattr__(model.config, "value_range", value_range)
    return model


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(fitted(COLOURS), "model.safetensors")
    return tmp_path


def said(capsys, *line, status=0):
    """What the command line says on stdout, or on stderr where it ends with a `status`."""
    assert cli.main([str(word) for word in line]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_classes_are_compared_by_name_and_mapped_where_asked(here, capsys):
    data = write(here / "new", {"A_red": "red", "blue": "blue"})
    error = said(capsys, "evaluate", "model.safetensors", "--data", data, status=2)
    assert "only the data have A_red, only the model has green, red" in error and "--rename" in error
    line = ("evaluate", "model.safetensors", "--data", data, "--rename")
    out = said(capsys, *line, "A_red=red")
    assert "10 pictures, all of them" in out and "accuracy 100.00 %" in out
    assert "2 of the model's 3 classes" in out and "green" not in out
    assert "accuracy 50.00 %" in said(capsys, *line, "A_red=green")
    assert "classes of the data to rename, found pink" in said(capsys, *line, "pink=red", status=2)
    assert "only the data have A_red (renamed pink), only" in said(capsys, *line, "A_red=pink", status=2)
    assert "found 'A_red'" in said(capsys, *line, "A_red", status=2)
    assert "only the data have circle" in said(capsys, "evaluate", "model.safetensors", "--data", "shapes", status=2)


def test_a_notebook_matches_classes_too():
    data = datasets.ImageSet(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 0]), ("cafe\u0301", "a"))
    found = answers.match_classes(data, ("a", "b", "caf\u00e9"))
    assert found.labels.tolist() == [2, 0, 2] and found.classes == ("a", "b", "caf\u00e9")
    assert answers.match_classes(data, ("a", "b"), {"caf\u00e9": "b"}).labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="several classes called a"):
        answers.match_classes(data, ("a", "a", "caf\u00e9"))


def test_one_class_alone_and_a_model_without_names(here, capsys):
    write(here / "one", {"red": "red"})
    assert "1 of the model's 3 classes" in said(capsys, "evaluate", "model.safetensors", "--data", "one")
    weights.save(named := fitted(COLOURS), "named.safetensors")
    named.config = replace(named.config, classes=())
    weights.save(named, "nameless.safetensors")
    write(here / "three", {"1": "blue", "2": "green", "10": "red"})
    out = said(capsys, "evaluate", "nameless.safetensors", "--data", "three")
    assert "no class names" in out and "accuracy 100.00 %" in out
    write(here / "two", {"1": "blue", "2": "green"})
    assert "3 classes, found 2" in said(capsys, "evaluate", "nameless.safetensors", "--data", "two", status=2)


def make_run(here, data, **info):
    (here / "run").mkdir(exist_ok=True)
    weights.save(fitted(COLOURS), here / "run/model.safetensors")
    History(info={"data": str(data), "labels": None, "groups": None, "copies": "off"} | info).save("run/history.json")


def test_the_runs_pictures_are_known_by_another_name_and_others_by_the_same(here, capsys):
    """A run that knows its files tests the side that it did not learn from, or says that it cannot."""
    own = write(here / "own", {name: name for name in COLOURS})
    mine = datasets.own_images(own, 16, copies=False)
    recorded = files(mine)
    make_run(here, "own", files=recorded)
    out = said(capsys, "evaluate", "run", "--data", own.rename(here / "renamed"))
    assert "\n3 pictures, the test side, for the model has learned from the others" in out and "no longer" not in out
    (here / "renamed").rename(own)
    table = "\n".join(["file,label", *(f"{name},{name.split('/')[0]}" for name in mine.names)])
    (own / "labels.csv").write_text(table, encoding="utf-8")
    make_run(here, "gone", files=recorded, labels="gone/labels.csv")
    assert "\n3 pictures, the test side" in said(capsys, "evaluate", "run", "--data", "own", "--labels", "labels.csv")
    make_run(here, "own", files=recorded)
    first = min(set(range(5)) - {int(mine.names[i][-5]) for i in mine.split()[1].tolist() if "red" in mine.names[i]})
    (own / "red" / f"{first}.png").unlink()  # as many of each class as before, but the split is another
    picture(COLOURS["red"], 99).save(own / "red" / "zz.png")
    assert "no longer the run's" in said(capsys, "evaluate", "run", "--data", "own")


def test_the_runs_own_data_are_tested_on_the_test_side_and_others_whole(here, capsys):
    own = write(here / "own", {name: name for name in COLOURS})
    make_run(here, "own")
    for model in ("run", "run/model.safetensors"):
        out = said(capsys, "evaluate", model, "--data", own)
        assert "\n3 pictures, the test side, for the model has learned from the others" in out
    assert "\n15 pictures, all of them, as --side says" in said(
        capsys, "evaluate", "run", "--data", own, "--side", "all"
    )
    other = write(here / "other", {name: name for name in COLOURS})
    assert "\n15 pictures, all of them, for they are not" in said(capsys, "evaluate", "run", "--data", other)
    assert "\n3 pictures" in said(capsys, "evaluate", "run", "--data", other, "--side", "test", "--copies", "off")
    moved = write(here / "moved/own", {name: name for name in COLOURS})
    assert "say --side test" in said(capsys, "evaluate", "run", "--data", moved)
    for place in (here, own / "red"):  # it holds the run's data, or is a part of them
        assert "say --side test" in answers.chosen_side(None, {"data": "own"}, place, set())[1]
    make_run(here, "own", images={"train": {}, "test": {"blue": 1, "green": 1, "red": 2}})
    assert "no longer the run's" in said(capsys, "evaluate", "run", "--data", "own")


def test_sides_of_the_data_themselves(here, capsys):
    write(here / "sides/train", {"red": "red", "blue": "blue"})
    write(here / "sides/val", {"red": "red"}, count=2)
    assert "\n2 pictures, the test side, for the data" in said(
        capsys, "evaluate", "model.safetensors", "--data", "sides"
    )
    assert "\n12 pictures" in said(capsys, "evaluate", "model.safetensors", "--data", "sides", "--side", "all")


def test_odd_names_fit_a_terminal(here, capsys):
    odd = ["小猫" * 40, "x" * 150 + "\u0301", "bell\a\x1b[31m"]
    weights.save(fitted(odd), "odd.safetensors")
    data = write(here / "data", dict(zip([odd[0], odd[1], odd[2]], ("green", "red", "blue"), strict=True)), 3)
    for line in (("evaluate", "odd.safetensors", "--data", data), ("predict", "odd.safetensors", "data")):
        text = said(capsys, *line)
        lines = [row for row in text.splitlines() if ".png" not in row and ".safetensors on" not in row]
        assert max(map(answers.columns, lines)) <= 100 and "\a" not in text and "\x1b" not in text
    assert "taken for" in text or "小猫" in text


@pytest.fixture
def pictures(here):
    write(here / "in", {"a": "red", "b": "blue"}, 2)
    picture(COLOURS["green"], 7).save(here / "=1+1.png")
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.write("in/a/0.png", "deep/-x.png")
    (here / "in/notes.txt").write_text("no picture")
    return ["in", "=1+1.png", "in.zip", "gone.png"]


def test_predict_reads_everything_and_names_what_it_did_not(here, pictures, capsys):
    assert cli.main(["predict", "model.safetensors", *pictures]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [
        ["in/a/0.png", "red"],
        ["in/a/1.png", "red"],
        ["in/b/0.png", "blue"],
        ["in/b/1.png", "blue"],
        ["=1+1.png", "green"],
        ["in.zip/deep/-x.png", "red"],
    ]
    assert "in/notes.txt: no PNG" in err and "gone.png: no such file" in err and "2 files were not read" in err
    assert "found none that can be read (gone.png" in said(capsys, "predict", "model.safetensors", "gone.png", status=2)


def test_the_csv_file_holds_every_probability_and_no_formula(here, pictures, capsys):
    weights.save(fitted(["-blue", 'gr,"een', "file"]), "odd.safetensors")
    said(capsys, "predict", "odd.safetensors", *pictures, "--csv", "out.csv", "--threshold", "0.99999")
    with open("out.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "answer", "probability", "'-blue", 'gr,"een', "class file"]
    assert [row[0] for row in rows][-2:] == ["'=1+1.png", "in.zip/deep/-x.png"] and len(rows) == 6
    assert {row[1] for row in rows} == {"unsure"}
    for row in rows:
        assert float(row[2]) == max(map(float, row[3:])) and abs(sum(map(float, row[3:])) - 1) < 1e-5
    before = (here / "out.csv").read_bytes()
    assert "found out.csv there already" in said(
        capsys, "predict", "odd.safetensors", "in", "--csv", "out.csv", status=2
    )
    assert (here / "out.csv").read_bytes() == before
    assert "from 0 to 1" in said(capsys, "predict", "odd.safetensors", "in", "--threshold", "nan", status=2)


def test_a_few_pictures_at_a_time_give_the_same(here, pictures, monkeypatch):
    model = fitted(COLOURS)
    whole, sizes, read = answers.predict(model, "in"), [], answers.read_items
    monkeypatch.setattr(answers, "CHUNK", 3)
    monkeypatch.setattr(answers, "read_items", lambda items, *rest: sizes.append(len(items)) or read(items, *rest))
    parts = answers.predict(torch.compile(model).bfloat16().float(), [here / "in"])
    assert sizes == [3, 2] and len(parts) == 4
    torch.testing.assert_close(parts.probabilities, whole.probabilities, atol=0.05, rtol=0)
    uploads = answers.predict(model, [("x.png", (here / "in/a/0.png").read_bytes())])
    assert uploads.names == ("x.png",) and uploads.answers() == ["red"]
    assert answers.predict(model, []).answers() == []


def test_pictures_of_another_depth_than_the_model_learned_from(here):
    write(here / "in", {"a": "red"}, 2)
    deep = np.add.outer(np.arange(20) * 20, np.arange(20) * 20).astype(np.uint16)
    Image.fromarray(deep).save("deep.png")
    [note] = answers.predict(fitted(COLOURS), ["deep.png", "in"]).notes
    assert "values of 10 to 750, those of these pictures, became 0 to 255" in note
    [note] = answers.predict(fitted(COLOURS, (0.0, 2000.0)), ["deep.png", "in"]).notes
    assert note.startswith("2 pictures have 8 bits") and "values of 0 to 2,000" in note
    assert answers.predict(fitted(COLOURS, (0.0, 2000.0)), "deep.png").notes == ()
    assert answers.predict(fitted(COLOURS), "in").notes == ()


def test_the_models_range_is_used_where_it_is_tested(here, capsys, monkeypatch):
    for name, value in (("dark", 300), ("light", 1900)):
        (here / "deep" / name).mkdir(parents=True)
        Image.fromarray(np.full((16, 16), value, np.uint16)).save(here / "deep" / name / "0.png")
    monkeypatch.setattr(weights, "load", lambda path: fitted(["dark", "light", "other"], (0.0, 20000.0)))
    out = said(capsys, "evaluate", "model.safetensors", "--data", "deep")
    assert "values of 0 to 20,000 became 0 to 255" in out and "8 bits:" in out


@pytest.mark.skipif(bool(export.missing()), reason="needs the export extra")
@pytest.mark.parametrize("value_range", [None, (200.0, 2000.0)])
def test_export_checks_what_it_wrote(here, capsys, monkeypatch, value_range):
    monkeypatch.setattr(weights, "load", lambda path: fitted(COLOURS, value_range))
    out = said(capsys, "export", "model.safetensors", "model.onnx")
    assert "from the model's logits" in out and ("float32" in out) == bool(value_range)
    pixels = torch.full((1, 3, 40, 30), 100, dtype=torch.uint8)
    assert export.run_onnx("model.onnx", pixels.float() if value_range else pixels).shape == (1, 3)
    assert "there already" in said(capsys, "export", "model.safetensors", "model.onnx", status=2)
    monkeypatch.setattr(export, "run_onnx", lambda path, pixels: torch.zeros(len(pixels), 3))
    assert "logits" in said(capsys, "export", "model.safetensors", "wrong.onnx", status=2)
    assert not list(here.glob("*wrong*"))


def test_export_says_what_is_missing(here, capsys, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert "pip install onnx" in said(capsys, "export", "model.safetensors", "model.onnx", status=2)
