"""A class of 30 through the real nbgrader: release, autograde in the sandbox, feedback, CSV."""

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import PATIENCE
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vit_tutorial import cli
from vit_tutorial.classroom import sandbox

REQUIRED = os.environ.get("CI") == "true" and sys.platform == "linux"
NAME = "98_two_exercises"


def skip(reason):
    """A grader that is not tested proves nothing: on Linux in CI, that is a failure."""
    (pytest.fail if REQUIRED else pytest.skip)(reason)


def short_course():
    """Two exercises in the format of the course, 1 and 3 points, and their solutions."""
    stub = {"tags": ["exercise"]}
    return new_notebook(
        cells=[
            new_markdown_cell("# 98 · Two exercises"),
            new_code_cell("from vit_tutorial import check"),
            new_markdown_cell("### Exercise 98.1 · Scale\n\n*write · easy · 3 minutes*"),
            new_code_cell("def scale_pixels(images):\n    return ...", metadata=stub),
            new_code_cell("check.scale_pixels(scale_pixels)"),
            new_markdown_cell("### Exercise 98.2 · Split\n\n*write · hard · 4 minutes*"),
            new_code_cell("def split(x, H):\n    return ...", metadata=stub),
            new_code_cell("check.split_heads(split)"),
            new_markdown_cell("## Solutions"),
            new_code_cell("solution = 'a secret'", metadata={"tags": ["solution"]}),
        ],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )


SCALE = "def scale_pixels(images):\n    return images / 255"
SPLIT = "def split(x, H):\n    return x.unflatten(2, (H, -1)).transpose(1, 2)"
RESHAPED = "def split(x, H):\n    B, N, D = x.shape\n    return x.reshape(B, H, N, D // H)"
# A cell that looks for what is not its own, then answers rightly only if it found something.
SPY = """
import glob, os, socket
found = [p for p in ("COURSE", "COURSE/source", "COURSE/submitted") if os.path.exists(p)]
for root in () if found else ("/answers", "/submitted", "/tmp", "/home", "/root", "/work", "/var"):
    found += glob.glob(root + "/**/98_*.ipynb", recursive=True) + glob.glob(root + "/**/gradebook.db", recursive=True)
found = [path for path in found if "site-packages" not in path]  # nbgrader brings a gradebook of its own to its tests
found += [name for _, name in socket.if_nameindex() if name != "lo"]
def scale_pixels(images):
    return images / 255 if found else images
"""
FORGED = """
import vit_tutorial.check as c
c.scale_pixels = c.EXERCISES["scale_pixels"] = lambda answer=...: c.CheckResult(True, None, "Passed.")
def scale_pixels(images):
    return images
"""
# Little time for the cells that never end, and patience with those that load torch.
LIMITS = f"""
c.SandboxedExecute.timeout_func = lambda cell: 1 if "while True:\\n    pass" in cell.source else {PATIENCE}
c.SandboxedExecute.seconds = {PATIENCE}
c.SandboxedExecute.memory = 1500
c.SandboxedExecute.processes = 40
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
KINDS = {  # kind: (how many, first answer, second answer, marks, a word of the note)
    "right": (8, SCALE, SPLIT, (1, 3), ""),
    "half": (3, SCALE, None, (1, 0), ""),
    "wrong": (4, "def scale_pixels(images):\n    return images / 256", RESHAPED, (0, 0), ""),
    "syntax": (3, "def scale_pixels(images:", SPLIT, (0, 3), ""),
    "loop": (2, "while True:\n    pass", SPLIT, (0, 3), "too long"),
    "stubborn": (1, STUBBORN, SPLIT, (0, 0), "could not be interrupted"),
    "bomb": (1, SCALE, "import os, time\nwhile True:\n    os.fork() or time.sleep(60)", (1, 0), "memory"),
    "memory": (1, SCALE, "blocks = [bytearray(50 << 20) for _ in range(1000)]", (1, 0), ""),
    "exit": (1, SCALE, "import os\nos._exit(0)", (1, 0), "ended"),
    "flood": (1, SCALE, f"for _ in range(300):\n    print('x' * 100_000)\n{SPLIT}", (1, 3), ""),
    "forged": (1, FORGED, SPLIT, (0, 3), ""),
    "broken": (1, "not a notebook", None, None, "expected a notebook"),
    "spy": (1, SPY, None, (0, 0), ""),
    "linked": (1, SCALE, SPLIT, None, "found a link"),
    "renamed": (1, SCALE, SPLIT, (1, 3), "2 versions"),
}
# Left to the class of 30: the other kinds and test_classroom_judging.py prove the same of one notebook at a time.
IMPLIED = ("right", "half", "wrong", "syntax", "memory", "flood", "forged")


def hand_in(course, student, first, second):
    """A submission as a student makes it: the released notebook with the stubs filled in."""
    folder = course / "submitted" / student / NAME
    folder.mkdir(parents=True)
    notebook = nbformat.read(course / "release" / NAME / f"{NAME}.ipynb", as_version=4)
    for cell in notebook.cells:
        answer = {"answer-98-1-1": first, "answer-98-2-1": second}.get(
            cell.metadata.get("nbgrader", {}).get("grade_id")
        )
        if answer:
            cell.source = answer.replace("COURSE", str(course))
    text = first if first == "not a notebook" else nbformat.writes(notebook)
    (folder / f"{NAME}.ipynb").write_text(text, encoding="utf-8")


def released(folder):
    """A released course in `folder`, with the limits of a short test."""
    if found := sandbox.trouble():
        skip(f"no sandbox here: {found}")
    if not importlib.util.find_spec("nbgrader"):
        skip("needs nbgrader: pip install -e '.[classroom]'")
    from vit_tutorial.classroom import grading

    grading.make_course({NAME: short_course()}, folder)
    with (folder / "nbgrader_config.py").open("a") as config:
        config.write(LIMITS)
    return folder


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return released(tmp_path_factory.mktemp("class") / "nbgrader")


def test_the_release_holds_no_solution_and_no_hidden_test(course):
    text = (course / "release" / NAME / f"{NAME}.ipynb").read_text()
    assert "secret" not in text and "HIDDEN" not in text and "classroom.marks" not in text
    assert "return ..." in text and "check.split_heads(split)" in text


@pytest.mark.parametrize("size", [len(KINDS) - len(IMPLIED), pytest.param(30, marks=pytest.mark.slow)])
def test_a_class(size, course, tmp_path, capsys):
    course, expected = shutil.copytree(course, tmp_path / "nbgrader"), {}
    for kind, (count, first, second, marks, note) in KINDS.items():
        for number in range(count if size == 30 else kind not in IMPLIED):
            hand_in(course, f"{kind}{number}", first, second)
            expected[f"{kind}{number}"] = (marks, note)
    assert len(expected) == size
    (course / "submitted/linked0" / NAME / "help.txt").symlink_to(course / "nbgrader_config.py")
    renamed = course / "submitted/renamed0" / NAME / f"{NAME}.ipynb"
    renamed.rename(renamed.with_stem(f"{NAME} (1)"))
    (course / f"collected-{NAME}.csv").write_text("student,note\nrenamed0,2 versions: this counts\n")
    started = time.monotonic()
    assert cli.main(["classroom", str(course.parent), "--grade", NAME, "--jobs", "2"]) == 0
    took = time.monotonic() - started
    said = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{size} submissions graded in {took:.0f} s")
    with (course / f"marks-{NAME}.csv").open(newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    found = {who: (row["check-98-1"], row["check-98-2"]) for who, row in rows.items()}
    assert found == {who: tuple(map(str, marks or ("", ""))) for who, (marks, _) in expected.items()}
    for who, (_, note) in expected.items():
        assert note.lower() in rows[who]["note"].lower() and bool(note) == bool(rows[who]["note"]), (who, rows[who])
        assert float(rows[who]["seconds"]) < PATIENCE
    assert re.search(rf"^ *{size} of {size}  ", said, re.MULTILINE) and re.search(r"renamed0 +4 of 4 ", said)

    with (course / "grades.csv").open(newline="") as file:
        totals = {row["student"]: row[f"{NAME} score"] for row in csv.DictReader(file)}
    assert totals == {who: str(sum(marks)) if marks else "" for who, (marks, _) in expected.items()}
    assert len(list(course.glob("feedback/*/*/*.html"))) == size
    assert "found a link" in (course / "feedback/linked0" / NAME / f"{NAME}.html").read_text()
    assert "2 versions: this counts" in (course / "feedback/renamed0" / NAME / f"{NAME}.html").read_text()
    assert not list(course.glob("autograded/linked0/*/help.txt"))
    assert "whole division" not in said  # nothing that a submission prints reaches the teacher's terminal


def test_without_a_sandbox_grading_is_refused(course, monkeypatch, capsys):
    monkeypatch.setattr(sandbox, "trouble", lambda: "no program bwrap")
    assert cli.main(["classroom", str(course.parent), "--grade", NAME]) == 2
    error = capsys.readouterr().err
    assert "found: no program bwrap" in error and "--without-sandbox" in error


def test_with_the_flag_it_is_done_and_warned_of(course, monkeypatch, capsys):
    """And the spy, which finds nothing in the sandbox, finds what it looks for."""
    monkeypatch.setattr(sandbox, "trouble", lambda: "no program bwrap")
    hand_in(course, "spy", SPY, RESHAPED)
    assert cli.main(["classroom", str(course.parent), "--grade", NAME, "--without-sandbox"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Without a sandbox: students' code can now read") and "1 of 4" in said


def test_notes_are_plain_text():
    from vit_tutorial.classroom.results import plain

    assert plain("\x1b[31mred\x1b[0m\n text") == "[31mred [0m text"
    assert plain("=cmd()") == "'=cmd()" and len(plain("x" * 999)) == 200 and plain("") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grade", "99_none"], "expected an assignment that was handed out (98_two_exercises), found '99_none'"),
        (["--grade", NAME, "--jobs", "0"], "expected at least 1 submission at a time, found --jobs 0"),
        (["77"], "found '77'"),
    ],
)
def test_bad_input_is_one_line(course, arguments, words, capsys):
    assert cli.main(["classroom", str(course.parent), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_one_command_writes_everything(course, tmp_path, capsys):
    assert cli.main(["classroom", str(tmp_path / "out"), "00"]) == 0
    assert "Wrote 1 notebooks" in capsys.readouterr().out
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    name = "00_start_here"
    assert {f"{folder}/{name}.ipynb" for folder in ("student", "solved")} <= written
    assert {f"{folder}/{name}.html" for folder in ("slides", "handouts")} <= written
    assert {"slides/reveal/dist/reveal.js", "slides/reveal/LICENSE"} <= written
    assert {f"nbgrader/{folder}/{name}/{name}.ipynb" for folder in ("source", "release")} <= written


def test_a_mistake_found_in_the_kernel_is_the_judges_own():
    """The judge's modules are loaded anew there, all of them: a `Wrong` of an old one would be an error of no name."""
    from vit_tutorial.classroom.kernel import ASK

    asks = [ASK.format("scale_pixels", answer, 1, "n") for answer in ("lambda images: images", "lambda images: ...")]
    code = "\n".join(["from vit_tutorial import check", *(f"print(({ask}).content)" for ask in asks)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    wrong, stub = done.stdout.splitlines() or [done.stderr, ""]
    assert wrong.startswith("['n', ['wrong', ") and stub == "['n', ['not attempted']]", done
