"""Records of runs, recipes in them, and states to resume from."""

import io
import json
import zipfile
from dataclasses import asdict

from vit_tutorial import plots, training
from vit_tutorial.training import History

from .case import CONFIG, Case, Harmful, cases, harm, in_file
from .checkpoints import STATE, checkpoint, torch_saved
from .command_lines import command

RECIPE = asdict(training.Recipe(model=CONFIG))
EPOCH = {"epoch": 0.0, "seconds": 0.0, "train_loss": None, "test_loss": 1.0, "test_accuracy": 0.1}
STEPS = {"loss": [1.0], "learning_rate": [0.1]}


def record(**changes):
    return json.dumps({"info": {"recipe": RECIPE, "seed": 0}, "steps": STEPS} | changes).encode()


def read_record(file):
    history = History.load(file)
    plots.png(plots.training_curve(history))
    return f"read: accuracy {history.accuracy}"


RECORDS = {
    "empty": b"",
    "a text": b"hello",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "100,000 deep": b"[" * 100_000,
    "100,000 deep inside": b'{"info": ' + b'{"a":' * 100_000,
    "a number of 10,000 digits": b'{"stopped": ' + b"1" * 10_000 + b"}",
    "half": record()[:60],
    "bytes that are no text": b"\xff\xfe\x00",
    "an unknown part": record(colour="red"),
    "info is a list": record(info=[]),
    "steps is a number": record(steps=3),
    "no losses": record(steps={}),
    "losses are texts": record(steps=STEPS | {"loss": ["a"]}),
    "more losses than rates": record(steps=STEPS | {"loss": [1.0, 2.0]}),
    "epochs is a text": record(epochs="abc"),
    "epochs are numbers": record(epochs=[1, 2]),
    "an epoch without an accuracy": record(epochs=[{"epoch": 1}]),
    "an accuracy that is a text": record(epochs=[EPOCH | {"test_accuracy": "<b>high</b>"}]),
    "stopped is a text": record(stopped="yes"),
}
NAN = record(steps=STEPS | {"loss": [float("nan")]}, epochs=[EPOCH])
REFUSED = "expected a run record written by History.save, found"

RECIPES = {
    "epochs": [0, -1, "3", float("nan")],
    "batch_size": [0, -1, 2.5, "a"],
    "learning_rate": [-1.0, float("nan"), float("inf"), "a"],
    "muon_learning_rate": [-1.0, "a"],
    "weight_decay": [-1.0, float("nan")],
    "warmup": [-0.1, 1.5, "a"],
    "clip_norm": [-1.0, "a"],
    "label_smoothing": [-0.1, 1.5],
    "ema": [-0.1, 1.0, "a"],
    "crop": [-1, 2.5, "a"],
    "patch_dropout": [-0.1, 1.0],
    "cutmix": [-0.1, 1.5],
    "clean_from": [-0.1, 1.5],
    "initialise": [["soup"], "patches"],
    "balanced": ["yes", 1, None],
    "body_rate": [-1.0],
    "layer_decay": [-1.0, float("nan")],
    "model": [None, 3, {"depth": -1}],
    "colour": ["red"],
}
CHANGES = [(setting, value) for setting, values in RECIPES.items() for value in values]


def from_recipe(change):
    text = json.dumps(RECIPE | change)
    return lambda folder: lambda: training.Recipe.from_record(json.loads(text))


def zeros():
    """A file of torch.save whose pickle is 2 GB of zeros, packed."""
    data, part = io.BytesIO(), bytes(10**8)
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
            for _ in range(20):
                file.write(part)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


STATES = {
    "empty": b"",
    "a text": b"hello",
    "a pickle that would run a command": harm("touch harmed"),
    "a pickle inside a zip file": torch_saved(Harmful()),
    "a list": torch_saved([1, 2]),
    "weights": torch_saved(STATE),
    "the right format alone": torch_saved({"format": "vit_tutorial run 1"}),
    "a safetensors file": checkpoint(),
    "a memo of 2 billion entries": b"\x80\x02r\xff\xff\xff\x7f.",
    "lists in lists": b"(" * 10_000,
    "2 GB of zeros": zeros,
}


def resume(folder):
    return command("train", "--resume", folder)


load, state = in_file("history.json", read_record), in_file("run/checkpoint.pt", lambda file: resume(file.parent)())
CASES = [
    *cases("runs", load, "error", {f"record: {name}": (data, REFUSED) for name, data in RECORDS.items()}),
    *cases("runs", load, "read", {"record: NaN losses": (NAN, "read: accuracy 0.1")}),
    Case("runs", "record: none there", lambda folder: lambda: History.load(folder / "none.json"), "error", "none.json"),
    Case("runs", "record: a folder", lambda folder: lambda: History.load(folder), "error", "expected|directory"),
    *cases("configs", from_recipe, "error", {f"recipe: {s} {v}": ({s: v}, "expected") for s, v in CHANGES}),
    *cases("runs", state, "error", {f"--resume: {n}": (data, "expected") for n, data in STATES.items()}, ["2 GB"]),
    Case("runs", "--resume: no folder", lambda folder: resume(folder / "none"), "error", "no checkpoint.pt"),
    *cases("runs", in_file("f", lambda file: resume(file)()), "error", {"--resume: a file": (b"", "no ch")}),
]
