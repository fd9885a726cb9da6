"""What a learner keeps, their progress and their own ViT, where something else has written it."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

import torch

from vit_tutorial import check
from vit_tutorial.check import progress

from .case import CONFIG, cases, in_file

GROUP = "learner's files"
PROGRESS = {
    "empty": b"",
    "a list": b"[]",
    "100,000 deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "days are lists": b'{"passed": {"mix": ["<b>"]}}',
    "passed is a list": b'{"passed": []}',
    "markup": b'{"passed": {"<script>": "<b>"}}',
    "NUL": b"\0" * 100,
}
OWN = {
    "empty": (b"", "none yet"),
    "no Python": (b"def", "is no Python"),
    "no text": (b"\xff\xfe", "not a text in UTF-8"),
    "NUL": (b"\0\0", "no Python|raised"),
    "raises": (b"1 / 0", "raised ZeroDivisionError"),
    "exits": (b"raise SystemExit(3)", "raised SystemExit"),
    "no end": (b"while True: pass", "comes to no end"),
    "PARTS is a list": (b"PARTS = []", "none yet"),
    "parts are numbers": (b"PARTS = {'cut_patches': 3}", "does not pass any more"),
    "unknown parts": (b"PARTS = {'soup': 3, 4: None}", "none yet"),
    "10,000 brackets": (b"(" * 10_000, "no Python|raised"),
    "a part that deletes": (b"PARTS = {'cut_patches': lambda *a: exit()}", "does not pass"),
}


def from_progress(data):
    """Notes a pass beside what the file says: that must be kept, in it or as `.damaged`."""

    def call(folder):
        home = Path(tempfile.mkdtemp(dir=folder.parent))
        os.environ["VIT_TUTORIAL_HOME"] = str(home)
        (home / "progress.json").write_bytes(data)
        progress.unsaved.clear()
        with contextlib.redirect_stdout(io.StringIO()):
            if b"script" in data:
                check.show_progress()
            progress.remember("mix")
        names = {path.name: path.read_bytes() for path in home.iterdir()}
        if "mix" not in check.passed() or "mix" not in json.loads(names["progress.json"])["passed"]:
            raise AssertionError("not remembered")
        kept = names.get("progress.damaged") == data or set(json.loads(data)["passed"]) <= set(check.passed())
        return "the old kept" if kept else "the old lost"

    return lambda folder: lambda: call(folder)


def use_my_vit(file):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        check.my_vit(CONFIG, file)(torch.zeros(1, 3, 16, 16))
        check.keep(3)
    return out.getvalue()


files = {f"progress.json: {name}": (data, "the old kept") for name, data in PROGRESS.items()}
vits = {f"my_vit.py: {name}": row for name, row in OWN.items()}
CASES = [
    *cases(GROUP, from_progress, "report", files),
    *cases(GROUP, in_file("my_vit.py", use_my_vit), "report", vits, slow=["no end"]),
]
