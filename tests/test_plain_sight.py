"""In an edition that is handed out for marks, nothing that the notebook defines or imports passes one of its checks."""

import ast
from contextlib import suppress

import nbformat
import pytest
import torch

from vit_tutorial import check
from vit_tutorial.check import verdict

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
    (path,) = (pytestconfig.rootpath / "notebooks").glob(f"{number:02}_*.ipynb")
    found, exercises = namespace(path), check.TOPICS[number].__all__
    passing = []
    with torch.random.fork_rng(devices=[]):
        for name, value in found.items():
            passing += [f"{name} passes check.{e}" for e in exercises if check.EXERCISES[e](value).passed]
    assert not passing, passing
