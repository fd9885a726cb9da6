"""tools/build_notebooks.py: text in, the same notebook out each time, and nothing half done."""

import build_notebooks
import nbformat
import pytest

SOURCE = """\
# %% [markdown]
# # A title
# [Open in Colab]({colab})

# %%
print("a")
print("b")

# %%
1 + 1

# %%
1 + 1

# %% tags=["solution"]
3 + 4
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one notebook in a folder of its own; returns its source."""
    source = tmp_path / "notebooks" / "source" / "01_title.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(build_notebooks, "SOURCES", source.parent)
    return source


def test_build_repeats_to_the_byte_and_agrees_with_its_source(course):
    assert build_notebooks.check(course) == ["it was never built"]
    build_notebooks.build(course)
    first = build_notebooks.target(course).read_bytes()
    assert build_notebooks.check(course) == []
    build_notebooks.build(course)
    assert build_notebooks.target(course).read_bytes() == first
    assert [path.name for path in build_notebooks.NOTEBOOKS.iterdir() if path.is_file()] == ["01_title.ipynb"]


def test_built_notebook_holds_what_readers_need_and_no_more(course):
    build_notebooks.build(course)
    notebook = nbformat.read(build_notebooks.target(course), as_version=4)
    title, printed, sum_, again, solution = notebook.cells
    assert "(https://colab.research.google.com/github/" in title.source
    assert title.source.endswith("/blob/main/notebooks/01_title.ipynb)")
    assert printed.outputs[0].text == "a\nb\n"
    assert again.id == f"{sum_.id}-2"
    assert solution.metadata == {"tags": ["solution"], "jupyter": {"source_hidden": True}}
    assert sum_.metadata == {} and notebook.metadata == build_notebooks.KERNEL_METADATA


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("3 + 4", "3 + 5", "cell 4: the source differs"),
        ("A title", "Another title", "cell 0: the source differs"),
        ('["solution"]', '["exercise"]', "cell 4: the metadata differs"),
        ("# %%\n1 + 1\n\n", "", "expected 3 cells, found 5"),
    ],
)
def test_check_notices_an_edit(course, old, new, complaint):
    build_notebooks.build(course)
    course.write_text(SOURCE.replace(old, new), encoding="utf-8")
    assert build_notebooks.check(course)[0].startswith(complaint)


def test_check_notices_a_notebook_that_was_edited_or_not_run(course):
    build_notebooks.build(course)
    path = build_notebooks.target(course)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].execution_count = None
    nbformat.write(notebook, path)
    assert build_notebooks.check(course) == ["cell 1: expected execution count 1, found None"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "cell 4 failed:\n\n1 / 0\n"),
        ("import sys; print('oh', file=sys.stderr)", "cell 4: wrote to stderr: 'oh'"),
        ("object()", "cell 4: its output shows an object address"),
        ("import os; print('/' + 'home/someone/course')", "cell 4: its output shows a path of this machine"),
    ],
)
def test_a_cell_that_must_not_be_committed_leaves_the_old_notebook(course, cell, message):
    build_notebooks.build(course)
    before = build_notebooks.target(course).read_bytes()
    course.write_text(SOURCE.replace("3 + 4", cell), encoding="utf-8")
    with pytest.raises(build_notebooks.BuildError, match=".*") as caught:
        build_notebooks.build(course)
    assert message in str(caught.value) and "\x1b" not in str(caught.value)
    assert build_notebooks.target(course).read_bytes() == before


def test_check_reports_and_fails_from_the_command_line(course, capsys):
    assert build_notebooks.main(["--check"]) == 1
    assert "STALE 01_title.ipynb" in capsys.readouterr().out
    build_notebooks.build(course)
    assert build_notebooks.main(["--check", "01"]) == 0
    assert build_notebooks.main(["--check", "02"]) == 1
    assert "found none" in capsys.readouterr().out
