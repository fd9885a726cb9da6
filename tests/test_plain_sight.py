"""In an edition that is handed out for marks, no answer is in plain sight.

Nothing that the notebook defines or imports passes one of its checks, no other cell holds a solution's code by whatever
names, and no number that stands beside an exercise passes its check.
"""

import ast
import copy
import re
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vit_tutorial import check
from vit_tutorial.check import reference, verdict
from vit_tutorial.classroom import editions, find_notebooks
from vit_tutorial.classroom.exercises import find_exercises, solutions_start

NOTEBOOKS = find_notebooks(Path(__file__).resolve().parent.parent / "notebooks", [])
STILL = {"3.3", "14.5"}  # the lesson goes on with the code that these ask for, in the cell after the check

DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def namespace(path):
    """What a notebook defines and imports, without its solutions; the cells' other statements are not run."""
    names = {"__name__": "notebook"}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code" or "solution" in cell.metadata.get("tags", ()):
            continue
        with suppress(SyntaxError):  # magics
            for statement in ast.parse(cell.source).body:
                with suppress(Exception):
                    lambdas = isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Lambda)
                    if isinstance(statement, DEFINES) or lambdas:
                        exec(compile(ast.Module([statement], []), str(path), "exec"), names)
    return {name: value for name, value in names.items() if callable(value) and not name.startswith("__")}


@pytest.mark.parametrize("number", check.TOPICS)
def test_nothing_in_plain_sight(number, monkeypatch, pytestconfig, capsys):
    monkeypatch.setattr(verdict, "SECONDS", 3.0)
    monkeypatch.setattr(reference, "SECONDS", 0.0)  # for the names of mistakes, which are not asked for
    (path,) = (pytestconfig.rootpath / "notebooks").glob(f"{number:02}_*.ipynb")
    found, exercises = namespace(path), check.TOPICS[number].__all__
    passing = []
    with torch.random.fork_rng(devices=[]):
        for name, value in found.items():
            passing += [f"{name} passes check.{e}" for e in exercises if check.EXERCISES[e](value).passed]
    assert not passing, passing


def parsed(source):
    """The syntax tree of code; an empty one where it has magics or is none."""
    with suppress(SyntaxError):
        return ast.parse(source)
    return ast.Module([], [])


def normal(expression):
    """An expression as text in which names are numbered: the same for whoever calls things otherwise."""
    expression, names = copy.deepcopy(expression), {}
    for node in ast.walk(expression):
        for field in ("id", "arg") if isinstance(node, ast.Name | ast.arg) else ():
            if hasattr(node, field):
                setattr(node, field, names.setdefault(getattr(node, field), f"name{len(names)}"))
        if hasattr(node, "ctx"):
            node.ctx = ast.Load()
    return ast.dump(expression)


def parts(answer):
    """What an answer computes: the expressions of its statements, but for those like `min(sizes)`, which say little."""
    found = [node.value for node in ast.walk(answer) if isinstance(node, ast.stmt) and getattr(node, "value", None)]
    found += [node.test for node in ast.walk(answer) if isinstance(node, ast.If | ast.While)]
    kept = set()
    for expression in found:
        nodes = [node for node in ast.walk(expression) if isinstance(node, ast.expr)]
        if len(nodes) >= 4 or len(nodes) == 3 and any(isinstance(node, ast.Constant) for node in nodes):
            kept.add(normal(expression))
    return kept


def solutions(notebook):
    """The `parts` of each solution, `{number of the exercise: [set, ...]}`: of what it defines and hands to a check."""
    found, number = {}, None
    for cell in notebook.cells[solutions_start(notebook) :]:
        if title := re.search(r"^### Solution (\d+\.\d+)", cell.source, re.MULTILINE):
            number = title[1]
        if cell.cell_type == "code":
            tree = parsed(cell.source)
            handed = re.findall(r"\bcheck\.\w+\((\w+)\)", cell.source)
            for node in tree.body:
                name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else getattr(node, "name", None)
                if name in handed:
                    found.setdefault(number, []).append(parts(node))
    return found


def code_of(cell):
    """The code that a cell shows: its own, or what stands between fences in its text."""
    if cell.cell_type == "code":
        return cell.source
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", cell.source, re.MULTILINE | re.DOTALL))


def shown_code(notebook):
    """Exercises whose solution stands in one of the other cells that students get, as pairs `(number, code)`."""
    edition, known, found = editions.assignment(notebook), solutions(notebook), []
    shown = [
        (code, {normal(n) for n in ast.walk(parsed(code)) if isinstance(n, ast.expr)})
        for code in map(code_of, edition.cells)
    ]
    for exercise in find_exercises(edition):
        answers = [answer for answer in known.get(exercise.number, ()) if answer]
        found += [(exercise.number, code) for code, given in shown if any(answer <= given for answer in answers)]
    return found


def section(notebook, exercise):
    """The cells from the heading of level 2 above an exercise to the next one, its stubs left out."""
    cells = notebook.cells
    starts = [
        i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and re.search("^## ", cell.source, re.M)
    ]
    first = max((i for i in starts if i <= exercise.stubs[0]), default=0)
    last = min((i for i in starts if i > exercise.check), default=len(cells))
    return [cells[i] for i in range(first, last) if i not in exercise.stubs]


def shown_numbers(notebook):
    """Exercises that are passed by a number of three digits or more in their section: `(number, what passes)`.

    Shorter ones stand everywhere, and pass by chance.
    """
    edition, found = editions.assignment(notebook), []
    for exercise in find_exercises(edition):
        if any(re.search(r"^ *(def|class) ", edition.cells[stub].source, re.MULTILINE) for stub in exercise.stubs):
            continue
        texts = " ".join(cell.source for cell in section(edition, exercise))
        for text in set(re.findall(r"(?<![\w.])\d[\d,_]*(?:\.\d+)?", texts)):
            digits = text.replace(",", "").replace("_", "")
            if sum(map(str.isdecimal, digits)) >= 3 and digits == (digits.lstrip("0") or "0"):
                value = ast.literal_eval(digits)
                found += [
                    (exercise.number, text) for name, _ in exercise.answers if check.EXERCISES[name](value).passed
                ]
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_other_cell_holds_an_answer(name):
    found = shown_code(NOTEBOOKS[name]) + shown_numbers(NOTEBOOKS[name])
    assert {number for number, _ in found} == {
        number for number in STILL if number.split(".")[0] == str(int(name[:2]))
    }, found


def test_every_solution_that_is_code_is_compared():
    for notebook in NOTEBOOKS.values():
        known = solutions(notebook)
        for exercise in find_exercises(notebook):
            if "def " in notebook.cells[exercise.stubs[0]].source:
                assert known.get(exercise.number), exercise.number


def made_up(given, answer):
    """One exercise, with a cell above it and one below, and its solution."""
    text = "## Part\n\n### Exercise 98.1 · A\n\n*write · easy · 3 minutes*"
    cells = [new_markdown_cell(text), new_code_cell("f = ...", metadata={"tags": ["exercise"]})]
    cells += [new_code_cell("check.first_loss(f)"), new_code_cell(given), new_markdown_cell("## Solutions")]
    cells += [new_markdown_cell("### Solution 98.1"), new_code_cell(answer, metadata={"tags": ["solution"]})]
    return new_notebook(cells=cells)


ANSWER = """
def f_solution(q, k):
    s = q @ k.mT / q.shape[-1] ** 0.5
    return s.softmax(dim=-1)
assert check.first_loss(f_solution).passed
"""


def test_an_answer_in_other_words_is_found():
    whole = "def g(a, b):\n    return (a @ b.mT / a.shape[-1] ** 0.5), [w.softmax(dim=-1) for w in a]"
    assert shown_code(made_up(whole, ANSWER)) == [("98.1", whole)]
    assert shown_code(made_up("a @ b.mT / a.shape[-1] ** 0.5", ANSWER)) == []  # half of it
    assert shown_code(made_up(whole.replace("mT", "T"), ANSWER)) == []
    assert shown_code(made_up("x = images / 255", "f = pictures / 255\ncheck.first_loss(f)")) == [
        ("98.1", "x = images / 255")
    ]
    assert shown_numbers(made_up("assert abs(loss - 4.605) < 0.01", ANSWER)) == [("98.1", "4.605")]
    assert shown_numbers(made_up("assert abs(loss - 4.305) < 0.01", ANSWER)) == []
