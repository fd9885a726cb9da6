"""tools/build: text in, the same notebook out each time, and nothing half done; and a fork's address in all places."""

import ast
import re
import sys
from types import SimpleNamespace

import fork
import nbformat
import pytest

import notebooks

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
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "SOURCES", source.parent)
    monkeypatch.setattr(notebooks, "SETUP", "course = '''{elsewhere}'''")  # the real one imports torch
    if sys.platform != "win32":
        # The system remembers the largest child that this process ever had: here that of another test.
        monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=0))
    return source


def test_build_repeats_to_the_byte_and_agrees_with_its_source(course):
    assert notebooks.check(course) == ["it was never built"]
    notebooks.build(course)
    first = notebooks.target(course).read_bytes()
    assert notebooks.check(course) == []
    notebooks.build(course)
    assert notebooks.target(course).read_bytes() == first
    assert [path.name for path in notebooks.NOTEBOOKS.iterdir() if path.is_file()] == ["01_title.ipynb"]


def test_the_text_holds_the_kernels_values_and_no_other_text_agrees(course):
    text = "\n# %% [markdown]\n# Together {=10 / 3:.1f}, or {=100 * 0.5:.0f} %.\n\n# %%\n1 + 1\n"
    course.write_text(SOURCE + text, encoding="utf-8")
    notebooks.build(course)
    path = notebooks.target(course)
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith("Together")]
    assert cell.source == "Together 3.3, or 50 %."
    assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [1, 2, 3, 4, 5, 6]
    assert notebook.cells[-1].outputs[0].execution_count == 6 and notebooks.check(course) == []
    cell.source = "Together 3.3, or less."
    nbformat.write(notebook, path)
    assert any("source differs" in line for line in notebooks.check(course))
    course.write_text(SOURCE + text.replace("10 / 3", "10 / 0"), encoding="utf-8")
    with pytest.raises(notebooks.BuildError, match="division by zero"):
        notebooks.build(course)


def test_built_notebook_holds_what_readers_need_and_no_more(course):
    notebooks.build(course)
    notebook = nbformat.read(notebooks.target(course), as_version=4)
    title, setup, printed, sum_, again, solution = notebook.cells
    assert title.source.endswith("[Open in Colab](../README.md#in-a-class)")  # no address is set
    assert setup.outputs == []
    assert setup.metadata == {"tags": ["setup"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert printed.outputs[0].text == "a\nb\n"
    assert again.id == f"{sum_.id}-2"
    assert solution.metadata == {"tags": ["solution"], "jupyter": {"source_hidden": True}}
    assert sum_.metadata == {} and notebook.metadata == notebooks.KERNEL_METADATA


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("3 + 4", "3 + 5", "cell 5: the source differs"),
        ("A title", "Another title", "cell 0: the source differs"),
        ('["solution"]', '["exercise"]', "cell 5: the metadata differs"),
        ("# %%\n1 + 1\n\n", "", "expected 4 cells, found 6"),
    ],
)
def test_check_notices_an_edit(course, old, new, complaint):
    notebooks.build(course)
    course.write_text(SOURCE.replace(old, new), encoding="utf-8")
    assert notebooks.check(course)[0].startswith(complaint)


def test_check_notices_a_notebook_that_was_edited_or_not_run(course):
    notebooks.build(course)
    path = notebooks.target(course)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].execution_count = None
    nbformat.write(notebook, path)
    assert notebooks.check(course) == ["cell 2: expected execution count 2, found None"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "cell 5 failed:\n\n1 / 0\n"),
        ("import sys; print('oh', file=sys.stderr)", "cell 5: wrote to stderr: 'oh'"),
        ("object()", "cell 5: its output shows an object address"),
        ("import os; print('/' + 'home/someone/course')", "cell 5: its output shows a path of this machine"),
    ],
)
def test_a_cell_that_must_not_be_committed_leaves_the_old_notebook(course, cell, message):
    notebooks.build(course)
    before = notebooks.target(course).read_bytes()
    course.write_text(SOURCE.replace("3 + 4", cell), encoding="utf-8")
    with pytest.raises(notebooks.BuildError, match=".*") as caught:
        notebooks.build(course)
    assert message in str(caught.value) and "\x1b" not in str(caught.value)
    assert notebooks.target(course).read_bytes() == before


def test_check_reports_and_fails_from_the_command_line(course, capsys):
    assert notebooks.main(["--check"]) == 1
    assert "STALE 01_title.ipynb" in capsys.readouterr().out
    notebooks.build(course)
    assert notebooks.main(["--check", "01"]) == 0
    assert notebooks.main(["--check", "02"]) == 1
    assert "found none" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory processes share")
def test_a_notebook_that_needs_too_much_memory_is_not_written(course, monkeypatch):
    course.write_text(
        SOURCE.replace("3 + 4", "import time; held = b'1' * 300_000_000; time.sleep(1)"), encoding="utf-8"
    )
    monkeypatch.setattr(notebooks, "MOST_MEMORY", 290)
    with pytest.raises(notebooks.BuildError, match=r"expected at most 290 MB of memory, found (3|4)\d\d MB"):
        notebooks.build(course)
    assert not notebooks.target(course).exists()


@pytest.mark.parametrize("commit", ["", "0" * 40])
def test_setup_cell_asks_for_the_course_only_where_it_is_missing(commit):
    cell = notebooks.setup_source(commit)
    (tried,) = ast.parse(re.sub(r"%pip install .*", "pass", cell)).body
    assert ast.unparse(tried.body) == "import vit_tutorial"
    beside, elsewhere = re.findall(r"(?:%pip|raise) .*", cell)
    assert beside == "%pip install -q -e .."
    if commit:
        assert elsewhere == f"%pip install -q git+{notebooks.repository()}@{commit}"
    else:
        assert notebooks.repository() not in cell and "git+" not in cell
        with pytest.raises(ModuleNotFoundError, match="no address yet: python tools/build/fork.py OWNER/REPO$"):
            exec(elsewhere)
    assert [ast.unparse(handler.type) for handler in tried.handlers] == ["ModuleNotFoundError"]
    assert max(map(len, cell.splitlines())) <= 120 and len(cell.splitlines()) <= 10
    assert cell.startswith("# @title ")  # what Colab shows of it, folded


COMMIT = "0123456789" * 4


@pytest.fixture
def project(course, tmp_path, monkeypatch):
    """The course of one notebook, built, with the pages that hold the project's address."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/a/b"\n[tool.vit-tutorial]\ncommit = ""\n', encoding="utf-8"
    )
    monkeypatch.setattr(fork.doctor, "origin", lambda root: "https://github.com/You/mine")
    monkeypatch.setattr(fork, "head", lambda: COMMIT)
    notebooks.build(course)
    return tmp_path


def test_a_fork_keeps_the_values_that_the_build_wrote(project, course):
    course.write_text(SOURCE + "\n# %% [markdown]\n# Together {=10 / 3:.1f}.\n", encoding="utf-8")
    notebooks.build(course)
    fork.move("https://github.com/a/b", "https://github.com/you/mine")
    assert nbformat.read(notebooks.target(course), as_version=4).cells[-1].source == "Together 3.3."
    assert notebooks.check(course) == []


def test_a_fork_changes_every_address_and_no_output(project, course):
    before = nbformat.read(notebooks.target(course), as_version=4)
    changed = fork.move("https://github.com/a/b", "https://github.com/you/mine")
    assert changed == ["pyproject.toml", "notebooks/01_title.ipynb"]
    assert notebooks.check(course) == []
    for name in changed:
        text = (project / name).read_text(encoding="utf-8")
        assert "you/mine" in text and "a/b" not in text, name
    assert "colab.research" not in str(before)
    after = nbformat.read(notebooks.target(course), as_version=4)
    assert [cell.outputs for cell in after.cells[1:]] == [cell.outputs for cell in before.cells[1:]]
    assert "https://colab.research.google.com/github/you/mine/blob/main/notebooks/01_title" in after.cells[0].source
    assert "raise ModuleNotFoundError" in before.cells[1].source and "a/b" not in before.cells[1].source
    assert f"%pip install -q git+https://github.com/you/mine@{COMMIT}" in after.cells[1].source
    assert notebooks.project()["tool"]["vit-tutorial"]["commit"] == COMMIT
    again = nbformat.read(notebooks.target(course), as_version=4)
    assert fork.move("https://github.com/you/mine", "you/mine") == changed  # a later commit, or the same
    assert nbformat.read(notebooks.target(course), as_version=4) == again


@pytest.mark.parametrize(
    "address",
    [
        "mine",
        "a b/c",
        "file:///you/mine",
        *(f"https://github.com/you/mine{end}" for end in ("/", " ", ".git", "'", "?a=b")),
    ],
)
def test_a_fork_wants_an_address(project, address):
    with pytest.raises(ValueError, match="expected an address such as"):
        fork.move("https://github.com/a/b", address)
    assert "a/b" in (project / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("origin", [None, "https://github.com/a/b"])
def test_a_fork_wants_the_address_to_be_the_checkouts_own(project, monkeypatch, origin):
    monkeypatch.setattr(fork.doctor, "origin", lambda root: origin)
    with pytest.raises(
        ValueError, match=f"you/mine to be this checkout's origin, found {origin or 'none'}; git remote"
    ):
        fork.move("https://github.com/a/b", "you/mine")
    assert "a/b" in (project / "pyproject.toml").read_text(encoding="utf-8")


def test_the_build_says_that_the_address_is_not_set(project, monkeypatch, capsys):
    def stop(*args, **options):
        raise InterruptedError

    monkeypatch.setattr(notebooks, "ProcessPoolExecutor", stop)
    with pytest.raises(InterruptedError):
        notebooks.main(["01"])
    said = capsys.readouterr().out
    assert said.startswith("Note: https://github.com/a/b is not set to be this course's own: nothing installs from it;")
    assert "python tools/build/fork.py OWNER/REPO\n" in said


def test_a_fork_refuses_a_notebook_that_was_not_built(project, course):
    course.write_text(SOURCE + "\n# %%\n1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="01_title.ipynb: expected 7 cells, found 6; run make notebooks first"):
        fork.move("https://github.com/a/b", "https://github.com/you/mine")
    assert "a/b" in (project / "pyproject.toml").read_text(encoding="utf-8")
