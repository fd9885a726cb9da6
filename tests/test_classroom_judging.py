"""Marks from outside: what an answer gives is handed out as plain data, and judged where the answer never runs."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import PATIENCE
from mistakes import tables
from test_classroom_grading import NAME, SCALE, SPLIT, hand_in, released, short_course

from vit_tutorial import check
from vit_tutorial.classroom import answers, judging
from vit_tutorial.classroom.exercises import SOLUTION_TAG, find_exercises, tags

ROOT = Path(__file__).resolve().parent.parent
TABLES = tables()
NONCE = "only once"


def handed_out(name, answer, seed):
    """The text that a kernel sends."""
    (text,) = answers.give(name, answer, seed, NONCE)._repr_mimebundle_().values()
    return text


def outside(name, answer, seed=1):
    """The result of an answer that is judged outside."""
    return judging.verdict_on(name, handed_out(name, lambda: answer, seed), NONCE, seed)


@pytest.mark.parametrize("name", check.EXERCISES)
def test_a_right_answer_passes_and_two_wrong_ones_do_not(name):
    right, wrong = TABLES[name]
    result = outside(name, right[0])
    assert result.passed, result.message
    assert [answer for answer, _ in wrong[:2] if outside(name, answer).passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", check.EXERCISES)
def test_right_answers_pass(name):
    for seed, answer in enumerate(TABLES[name][0]):
        result = outside(name, answer, seed)
        assert result.passed, (answer, result.message)


@pytest.mark.slow
@pytest.mark.parametrize("name", check.EXERCISES)
def test_wrong_answers_do_not_and_keep_their_names(name):
    named = 0
    for answer, mistake in TABLES[name][1]:
        result = outside(name, answer)
        assert not result.passed, answer
        named += result.mistake == mistake
    assert named >= 0.8 * len(TABLES[name][1]), f"{named} of {len(TABLES[name][1])}"


@pytest.mark.slow
@pytest.mark.parametrize("name", check.EXERCISES)
def test_what_is_no_answer_gets_nothing(name):
    for answer in (..., None, object(), lambda *inputs: ..., lambda *inputs: object(), type):
        assert not outside(name, answer).passed


# ------------------------------------------------------------------------------------------------ what is handed out


DRAW = """
import torch
from vit_tutorial import check
from vit_tutorial.classroom.answers import Writer
for name, checker in check.EXERCISES.items():
    if getattr(checker, "task", None):
        torch.manual_seed(3)
        for run in checker.task.runs():
            parts = [x.state_dict() if hasattr(x, "state_dict") else x for x in run.inputs]
            print(name, run.seed, Writer()([p if not isinstance(p, dict) else [*p.items()] for p in parts]))
"""


def test_the_same_seed_draws_the_same_cases_in_another_process(capsys):
    """Also where texts have other hashes, and torch another number of threads."""
    with torch.random.fork_rng(devices=[]):
        exec(DRAW, {})
    here, code = capsys.readouterr().out, f"import torch; torch.set_num_threads({3 - min(torch.get_num_threads(), 2)})"
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code + DRAW], capture_output=True, env=env, check=True, text=True)
    assert done.stdout == here and here.count("\n") > 200


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "[" * 100_000,
        json.dumps([NONCE, ["given", ["list"] * 10**6]]),
        json.dumps([NONCE, ["given", ["dict", *([str(n), n] for n in range(200_000))]]]),
        json.dumps([NONCE, ["given", ["tensor", "float32", [10**12], ""]]]),
        json.dumps([NONCE, ["given", ["tensor", "float32", [-1], ""]]]),
        json.dumps([NONCE, ["given", ["tensor", "load", [0], ""]]]),
        json.dumps([NONCE, ["given", ["fraction", 1, 0]]]),
        json.dumps([NONCE, ["given", "1e999999999"]]),
        json.dumps([NONCE, ["given", float("nan")]]),
        json.dumps([NONCE, ["given", ["raised", "Exception\\0", "x"]]]),
        json.dumps([NONCE, ["given", ["tuple", ["list", ["dict"]], None, None]]]),
        json.dumps([NONCE, ["passed"]]),
        json.dumps(["another", ["given", ["scalar", "float64", [], "AAAAAAAAOEA="]]]),
        f'["{NONCE}", ["given", {"9" * 5000}]]',
    ],
    ids=range(17),
)
@pytest.mark.parametrize("name", ["patch_budget", "split_heads", "mix", "make_probe", "rename_weights"])
def test_whatever_is_sent_the_judge_comes_back(name, text):
    started = time.monotonic()
    result = judging.verdict_on(name, text, NONCE, 1)
    assert not result.passed and result.message.startswith("Not yet")
    assert time.monotonic() - started < PATIENCE / 10


def test_an_answer_without_end_is_named(monkeypatch):
    monkeypatch.setattr("vit_tutorial.check.verdict.SECONDS", 0.3)

    def endless(x, num_heads):
        while True:
            pass

    assert outside("split_heads", endless).mistake == "no end"


# ------------------------------------------------------------------------------------------------ in nbgrader

PATCHES = {  # what an empty notebook may try, in a cell of its own before the first check
    "the checkers and torch": """
import vit_tutorial.check as c
from vit_tutorial.check import reference, verdict
for name in c.EXERCISES:
    c.EXERCISES[name] = lambda answer=...: print("Passed. Well done.") or c.CheckResult(True, None, "Passed.")
    setattr(c, name, c.EXERCISES[name])
reference.Task.judge = reference.Task.judge_given = lambda self, answer: "forged"
verdict.judge = lambda function, answer: verdict.CheckResult(True, None, "Passed.")
import torch
torch.allclose = torch.equal = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: True""",
    "modules": """
import sys, types
for name in ("marks", "answers", "judging"):
    sys.modules["vit_tutorial.classroom." + name] = types.SimpleNamespace(mark=lambda *a, **k: 9, give=lambda *a: 9)
sys.modules["vit_tutorial.check"] = types.SimpleNamespace()""",
    "messages and the shell": """
from IPython.display import display
import json
for data in ({"text/plain": "3"}, {"application/x-vit-tutorial-answer": json.dumps(["", ["given", []]])}):
    display(data, raw=True)
print("Passed. Well done.")
import IPython
IPython.core.interactiveshell.InteractiveShell.ast_node_interactivity = 'none'""",
    "replies": """
from ipykernel.kernelapp import IPKernelApp
kernel = IPKernelApp.instance().kernel
kernel.shell.user_expressions = lambda e: {k: {"status": "ok", "data": {
    "application/x-vit-tutorial-answer": '["", ["given", []]]', "text/plain": "3"}} for k in e}""",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return released(tmp_path_factory.mktemp("class") / "nbgrader")


def graded(course, student, first, second, before=""):
    """The marks of a submission, the notes, and its notebook afterwards. `before` is a cell before the first check."""
    from vit_tutorial.classroom import grading

    hand_in(course, student, first, second)
    path = course / "submitted" / student / NAME / f"{NAME}.ipynb"
    notebook = nbformat.read(path, 4)
    if before:
        notebook.cells.insert(2, nbformat.v4.new_code_cell(before))
        nbformat.write(notebook, path)
    api = grading.nbgrader_api(course)
    result = api.autograde(NAME, student, force=True)
    assert result["success"], result
    notebook = nbformat.read(course / "autograded" / student / NAME / f"{NAME}.ipynb", 4)
    with api.gradebook as book:
        (found,) = book.find_submission(NAME, student).notebooks
        marks = {grade.name: grade.score for grade in found.grades}
    return (marks["check-98-1"], marks["check-98-2"]), notebook.metadata.vit_tutorial.notes, notebook


@pytest.mark.parametrize("what", PATCHES)
def test_an_empty_notebook_and_an_answer_that_is_none_get_nothing_whatever_they_patch(course, what):
    idle = "def split(x, H):\n    '''Mine.'''\n    return ..."
    marks, notes, _ = graded(course, f"idle {what}", None, idle, PATCHES[what])
    assert marks == (0, 0)
    assert what != "modules" or any("sys.modules" in note and "worth reading" in note for note in notes)


def test_names_that_a_student_takes_harm_no_other_exercise(course):
    lies = "class check:\n    scale_pixels = staticmethod(lambda answer: print('Passed. I say.'))"
    marks, notes, notebook = graded(course, "names", SCALE + "\ncheck = print = 5", f"{lies}\n{SPLIT}\ncheck = None")
    assert marks == (1, 3) and notes == []  # the course's own check is back before the next check
    assert notebook.cells[-1].metadata.vit_tutorial.passed


def test_mistakes_keep_their_names_whatever_becomes_of_the_checkers(course):
    marks, _, notebook = graded(course, "named", SCALE.replace(" / 255", ""), SPLIT, PATCHES["the checkers and torch"])
    found = [c.metadata.vit_tutorial for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert marks == (0, 3) and found[0].mistakes == ["not floats"]


def test_long_output_is_cut_and_costs_nothing(course):
    long = SCALE + "\nfor _ in range(20):\n    print('x' * 1_000_000)"
    marks, _, notebook = graded(course, "long", long, SPLIT)
    assert marks == (1, 3)
    text = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "The output is cut here: more than 2 MiB of a cell" in text and len(text) < 4 << 20


@pytest.mark.usefixtures("course")
def test_cells_of_the_course_run_where_another_one_needs_them(tmp_path):
    from vit_tutorial.classroom import grading, kernel

    notebook, folder, outputs = short_course(), tmp_path / "nbgrader", {}
    code = ["seen = ['a']", "seen.append('b')\nprint('appended')", "print(seen, 'unused')", "print(seen, 'too')"]
    notebook.cells[2:2] = [nbformat.v4.new_code_cell(source) for source in code]
    grading.make_course({NAME: notebook}, folder)
    unseen = "import builtins\nprint('found', builtins.eval('seen'))"  # of which no name tells that it needs anything
    for student, own in (("own", "print('mine', seen)"), ("unseen", unseen)):
        hand_in(folder, student, SCALE, SPLIT)
        path = folder / "submitted" / student / NAME / f"{NAME}.ipynb"
        found = nbformat.read(path, 4)
        found.cells[-1:-1] = [nbformat.v4.new_code_cell(own)]
        if student == "own":
            found.cells[5].source = "print(seen, 'edited')"
        nbformat.write(found, path)
        assert grading.nbgrader_api(folder).autograde(NAME, student, force=True)["success"]
        found = nbformat.read(folder / "autograded" / student / NAME / f"{NAME}.ipynb", 4)
        assert (found.cells[0].source == kernel.LEFT_OUT) == (student == "own")
        assert all(c.metadata.vit_tutorial.passed for c in found.cells if c.metadata.get("nbgrader", {}).get("grade"))
        outputs[student] = "".join(o.get("text", "") for c in found.cells for o in c.get("outputs", []))
    for words in ("appended", "['a', 'b'] edited", "mine ['a', 'b']"):
        assert words in outputs["own"]
    assert "unused" not in outputs["own"] and "found ['a', 'b']" in outputs["unseen"]


def test_a_mark_against_the_verdict_is_flagged_both_ways(course):
    noisy = SCALE + "\nimport builtins\nbuiltins.print = lambda *a, **k: None"
    marks, notes, _ = graded(course, "silent", noisy, SPLIT)
    assert marks == (1, 3)
    assert sum("printed no Passed" in note for note in notes) == 2, notes
    loud = (
        SCALE.replace("255", "254")
        + "\nimport builtins\nold = print\nbuiltins.print = lambda *a, **k: old('Passed. Yes.')"
    )
    marks, notes, notebook = graded(course, "loud", loud, None)
    assert marks[0] == 0 and any("98.1: the cell printed Passed, but its mark is 0 of 1" in note for note in notes)
    first = next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "check-98-1")
    assert first.metadata.vit_tutorial.attempted and not first.metadata.vit_tutorial.passed


def perfect(notebook, released):
    """The released notebook, its stubs filled with the notebook's own solutions."""
    solutions, given = [c.source for c in notebook.cells if SOLUTION_TAG in tags(c)], {}
    for source in solutions:
        kept = []
        for line in ast.parse(source).body:
            calls = [n for n in ast.walk(line) if isinstance(n, ast.Call) and ast.unparse(n.func).startswith("check.")]
            for call in (call for call in calls if call.args):
                given.setdefault(call.func.attr, ("\n".join(map(ast.unparse, kept)), ast.unparse(call.args[0])))
            kept += [] if calls else [line]
    for exercise in find_exercises(released):
        lines = []
        for name, answer in exercise.answers:
            body, found = given[name]
            lines += [body] * (body not in lines) + [f"{answer} = {found}"] * (found != answer)
        released.cells[exercise.stubs[0]].source = "\n".join(lines)
    return released


@pytest.mark.slow
@pytest.mark.usefixtures("course")  # which says where nbgrader or the sandbox is missing
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_perfect_submission_gets_full_marks_and_no_error(path, tmp_path, capsys):
    from vit_tutorial.classroom import grading

    notebook, name, course = nbformat.read(path, 4), path.stem, tmp_path / "nbgrader"
    grading.make_course({name: notebook}, course)
    folder = course / "submitted" / "me" / name
    folder.mkdir(parents=True)
    handed_out = nbformat.read(course / "release" / name / f"{name}.ipynb", 4)
    nbformat.write(perfect(notebook, handed_out), folder / f"{name}.ipynb")
    api, started = grading.nbgrader_api(course), time.monotonic()
    assert api.autograde(name, "me", force=True)["success"]
    with capsys.disabled():
        print(f"\n{name}: {time.monotonic() - started:.0f} s")
    found = nbformat.read(course / "autograded" / "me" / name / f"{name}.ipynb", 4)
    assert [(n, o.ename) for n, c in enumerate(found.cells) for o in c.get("outputs", []) if "ename" in o] == []
    graded = [cell for cell in found.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    lost = [cell.metadata.vit_tutorial.message for cell in graded if not cell.metadata.vit_tutorial.passed]
    assert graded and lost == [] and found.metadata.vit_tutorial.notes == []
