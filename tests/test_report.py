"""The report on a run: what it says, that it says nothing wrong, and that no name becomes markup."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from vit_tutorial import VisionTransformer, ViTConfig, cli, datasets, metrics, report, training, weights
from vit_tutorial.training import History, Recipe

NASTY = ("<script>alert(1)</script>", '" onerror="alert(2)')
CONFIG = ViTConfig(image_size=16, patch_size=4, num_classes=2, embed_dim=12, depth=2, num_heads=3, pool="mean")
RECIPE = Recipe(model=CONFIG, epochs=1, batch_size=8)


class Page(HTMLParser):
    """What a browser would make of a report: its tags with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def draw(folder):
    """16 bits of grey in two classes with hostile names, a copy, and a file that is no picture; a table names them."""
    rng, rows = np.random.default_rng(0), ["file,label"]
    folder.mkdir()
    for i in range(24):
        pixels = rng.integers(300, 2000, (4, 4)).astype(np.uint16).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(folder / f"p'{i}.png")
        rows.append(f"p'{i}.png," + ('"<script>alert(1)</script>"' if i % 2 else '""" onerror=""alert(2)"'))
    shutil.copy(folder / "p'1.png", folder / "p'25.png")
    (folder / "<b>.png").write_bytes(b"hello")
    rows += ["p'25.png,<script>alert(1)</script>", "<b>.png,<script>alert(1)</script>"]
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with `pictures` and a `run` that was trained on them, and calibrated; all answers are of one class."""
    folder = tmp_path_factory.mktemp("report")
    draw(folder / "pictures")
    mine = datasets.own_images(folder / "pictures" / "labels.csv", 16)
    train, test = (mine.images[part] for part in mine.split())
    model = VisionTransformer(RECIPE.config(train))
    images = {
        side: dict(zip(d.classes, d.class_counts.tolist(), strict=True))
        for side, d in zip(("train", "test"), (train, test), strict=True)
    }
    info = {
        "data": str(folder / "pictures" / "labels.csv"),
        "images": images,
        "command": "vit-tutorial train --data a<b",
        "temperature": 2.0,
    }
    training.train(model, train, replace(RECIPE, learning_rate=0.0), test, out=folder / "run", info=info)
    return folder


def change(made, tmp_path, **info):
    """A copy of the run with another record."""
    run = shutil.copytree(made / "run", tmp_path / "run")
    record = json.loads((run / "history.json").read_text("utf-8"))
    record["info"] |= info
    (run / "history.json").write_text(json.dumps(record), encoding="utf-8")
    return run


def written(run, **options):
    return Page(report.write(run, **options).read_text("utf-8"))


def test_it_says_what_the_run_is_worth(made):
    page = written(made / "run")
    model = weights.load(made / "run" / "model.safetensors")
    mine = datasets.own_images(made / "pictures" / "labels.csv", 16)
    test = mine.images[mine.split()[1]]
    logits = training.evaluate(model, test).logits
    scores = metrics.scores(logits.argmax(1), test.labels, test.classes)
    low, high = scores.accuracy.interval
    assert f"{100 * scores.accuracy.value:.1f} % accuracy" in page.text
    assert f"95 % interval: {100 * low:.1f} % to {100 * high:.1f} %" in page.text
    assert f"{100 * scores.balanced_accuracy:.1f} % balanced accuracy" in page.text
    assert f"On {len(test)} test pictures" in page.text
    for share in (*scores.recall, *scores.precision):
        assert str(share) in page.text
    before = metrics.calibration_error((2 * logits).softmax(1), test.labels)
    assert f"before the calibration by {100 * before:.1f} % (temperature 2)" in page.text
    assert "25 of 25 pictures have more than 8 bits" in page.text and "<b>.png: no PNG" in page.text
    assert "Taken for copies of another: 1 of 25 pictures" in page.text and "p'1.png" in page.text
    assert "vit-tutorial train --data a<b" in page.text and torch.__version__ in page.text
    wrong = int((logits.argmax(1) != test.labels).sum())
    assert wrong and len(page.all("figure")) == 1 + min(wrong, 8)
    alt = page.all("img")[2]["alt"]  # after the two copies
    assert re.search(r"Test accuracy: [\d.]+ % after epoch 0, .* Training loss: ", alt)


def test_it_loads_and_runs_nothing_and_can_be_read_by_all(made):
    page = written(made / "run")
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not [
        a
        for _, a in page.tags
        if "href" in a or not (a.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    ]
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    }
    assert policy in page.all("meta") and page.all("html") == [{"lang": "en"}]
    assert all(name in page.text for name in NASTY)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))
    assert all(image["alt"] for image in page.all("img")) and all(cell.get("scope") for cell in page.all("th"))
    assert (made / "run" / "report.html").stat().st_size < 3e6


@pytest.mark.parametrize(
    "info, said",
    [
        ({"data": "/nowhere<i>"}, "the pictures are no longer at /nowhere<i>"),
        ({"data": None}, "does not say which pictures"),
        (
            {"images": {"train": {NASTY[0]: 3}, "test": {NASTY[0]: 2}}},
            "the pictures have changed: 3 + 2 for train, test",
        ),
        ({"data": "shapes"}, "but the pictures are of"),
        ({"copies": "many"}, "many"),
    ],
)
def test_pictures_that_are_gone_or_others_give_a_sentence_and_no_numbers(made, tmp_path, info, said):
    with pytest.warns(UserWarning, match="No test results"):
        page = written(change(made, tmp_path, **info), path=tmp_path / "out" / "report.html")
    assert said in page.text
    assert "95 % interval" not in page.text and "worst mistakes" not in page.text
    assert "The training" in page.text and "How to repeat it" in page.text


def test_as_many_but_other_pictures_are_noticed(made, tmp_path):
    run = change(made, tmp_path)
    history = History.load(run / "history.json")
    history.epochs[-1]["test_accuracy"] = 1.0
    history.save(run / "history.json")
    with pytest.warns(UserWarning, match="have changed: 100.0 % right in the run"):
        written(run)


def test_a_run_without_a_test_side_has_no_numbers(made, tmp_path):
    """Which pictures it has not learned from is known to nobody."""
    run = change(made, tmp_path, images={"train": {NASTY[0]: 10, NASTY[1]: 9}})
    history = History.load(run / "history.json")
    history.epochs = [epoch | {"test_accuracy": None, "test_loss": None} for epoch in history.epochs]
    history.save(run / "history.json")
    with pytest.warns(UserWarning, match="does not say which pictures it was tested on"):
        assert "95 % interval" not in written(run).text


def test_what_calibration_held_back_is_of_the_training_side(made, tmp_path):
    images = History.load(made / "run" / "history.json").info["images"]
    images["calibration"] = {NASTY[0]: 1}
    images["train"] = images["train"] | {NASTY[0]: images["train"][NASTY[0]] - 1}
    page = written(change(made, tmp_path, images=images))
    assert "95 % interval" in page.text and "calibration" in page.text


def test_the_record_of_an_old_or_hostile_run_does_not_matter(made, tmp_path):
    odd = {
        "images": 3,
        "skipped": "no",
        "temperature": "hot",
        "recipe": [],
        "seed": {"<a": 1},
        "hardware": "\x1b[2J\u202e",
    }
    page = written(change(made, tmp_path, **odd))
    assert r"\x1b[2J\u202e" in page.text and "95 % interval" in page.text


def test_pictures_that_have_moved_are_found_with_data(made, tmp_path, capsys):
    run = change(made, tmp_path, data="/nowhere")
    shutil.copytree(made / "pictures", tmp_path / "moved")
    line = ["report", str(run), "--out", str(tmp_path / "a.html")]
    assert cli.main([*line, "--data", str(tmp_path / "moved" / "labels.csv")]) == 0
    assert "Wrote" in capsys.readouterr().out and "95 % interval" in (tmp_path / "a.html").read_text("utf-8")
    history = History.load(run / "history.json")
    history.info["labels"] = "gone/labels.csv"  # as --labels named it
    history.save(run / "history.json")
    for place in ("moved", "moved/labels.csv"):
        assert cli.main([*line, "--data", str(tmp_path / place)]) == 0
        assert "No test results" not in capsys.readouterr().out
    assert cli.main([*line, "--data", "/nowhere"]) == 2
    assert cli.main(line) == 0
    assert "no longer at /nowhere" in capsys.readouterr().out
    (tmp_path / "labels.csv").write_text("mine", encoding="utf-8")
    assert cli.main([*line[:3], str(tmp_path / "labels.csv")]) == 2
    assert (tmp_path / "labels.csv").read_text("utf-8") == "mine"
    assert cli.main([*line[:3], str(tmp_path)]) == 2
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "found no history.json" in capsys.readouterr().err


def test_a_built_in_dataset_and_many_classes(tmp_path, monkeypatch):
    """30 classes have a list of mistakes in place of a matrix; no answer wrong, no worst."""
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=torch.manual_seed(0)).to(torch.uint8)
    data = datasets.ImageSet(images, torch.arange(60) % 30, tuple(f"c{i}" for i in range(30)))
    monkeypatch.setattr(datasets, "shapes", lambda side: data)
    model = VisionTransformer(replace(RECIPE, model=replace(CONFIG, pool="cls")).config(data))
    training.train(model, data, RECIPE, data, out=tmp_path / "run", info={"data": "shapes"})
    page = written(tmp_path / "run")
    assert "The most frequent mistakes" in page.text and "test picture" in page.text
    assert len(page.all("figure")) == 8
    data = replace(data, labels=training.evaluate(model, data).logits.argmax(1))
    history = History.load(tmp_path / "run" / "history.json")
    history.info.pop("images", None)
    history.epochs[-1]["test_accuracy"] = 1.0
    history.save(tmp_path / "run" / "history.json")
    assert "None: every test picture got the right answer" in written(tmp_path / "run").text
