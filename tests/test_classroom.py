"""What `vit-tutorial classroom` writes: editions, slides, hand-outs, the bundle; and whether TEACHING.md is true."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from mistakes import tables
from test_check_switches import TASKS, switches

from vit_tutorial import check, cli
from vit_tutorial.classroom import bundle, check_place, editions, find_notebooks, install, sandbox, write_bundle
from vit_tutorial.classroom.exercises import answers_in, find_exercises, solutions_start, tags

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = find_notebooks(ROOT / "notebooks", [])
TEACHING = " ".join((ROOT / "TEACHING.md").read_text(encoding="utf-8").split())
PARTS = dict(re.findall(r"^### (\d\d) · (.*?)(?=^### \d\d|^## )", (ROOT / "TEACHING.md").read_text(), re.M | re.S))
notebooks = pytest.mark.parametrize("name", NOTEBOOKS)


@notebooks
def test_every_exercise_is_found_and_gives_points(name):
    notebook = NOTEBOOKS[name]
    exercises = find_exercises(notebook)
    text = "\n".join(cell.source for cell in notebook.cells)
    titles = re.findall(r"^### Exercise (\d+\.\d+)", text, re.MULTILINE)
    assert [exercise.number for exercise in exercises] == titles
    for exercise in exercises:
        assert {answer for answer, _ in exercise.answers} <= set(check.EXERCISES)
        assert exercise.points in (1, 2, 3)
    assert all(1 <= int(minutes) <= 20 for minutes in re.findall(r"^\*\w+ · \w+ · (\d+) minutes?\*$", text, re.M))


def test_answers_are_read_from_code_not_from_looks():
    assert answers_in("check.cut((a, b))\ncheck.mix(x + 1)") == (("cut", "(a, b)"), ("mix", "x + 1"))
    assert answers_in("# check.mix(x)\nprint('check.mix(x)')\nchecked.mix(x)") == ()


def test_an_exercise_without_a_check_is_refused():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = ...", metadata={"tags": ["exercise"]})])
    notebook.cells.append(nbformat.v4.new_code_cell("print(x)"))
    with pytest.raises(ValueError, match="expected a title '### Exercise"):
        find_exercises(notebook)


@notebooks
def test_students_get_no_solution_and_no_output(name):
    notebook = NOTEBOOKS[name]
    edition = editions.student(notebook)
    nbformat.validate(edition)
    text = nbformat.writes(edition)
    assert not any(cell.get("outputs") for cell in edition.cells)
    given = "\n".join(cell.source for cell in notebook.cells[: solutions_start(notebook)])
    for cell in notebook.cells[solutions_start(notebook) :]:
        assert cell.source in given or json.dumps(cell.source)[1:-1] not in text
    assert sum("exercise" in tags(cell) for cell in edition.cells) == sum("exercise" in tags(c) for c in notebook.cells)
    assert "## Solutions" in "\n".join(cell.source for cell in editions.solved(notebook).cells)
    told = [cell.source for cell in edition.cells if re.search(r"\bsolutions?\b", cell.source, re.IGNORECASE)]
    assert told == []  # nothing speaks of what is not there


def test_only_the_sentences_about_solutions_are_left_out():
    text = "Try it. The solution, at the\nend, trains\nit. Then go on.\n\nSolution 2.1 shows how.\n\nA high resolution."
    assert editions.without_pointers(text) == "Try it. Then go on.\n\nA high resolution."
    points = "- one;\n- the solutions: last;\n- two."
    assert editions.without_pointers(points) == "- one;\n- two."
    code = "```\nsolution = 1\n```"
    assert editions.without_pointers(code) == code
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("See the solution.", "No more.")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert [cell.source for cell in editions.student(notebook).cells] == ["No more."]
    assert len(notebook.cells) == 2


def test_the_solved_edition_opens_its_solutions_and_leaves_the_setup_cell_folded():
    folded = {"jupyter": {"source_hidden": True}}
    cells = [nbformat.v4.new_code_cell("1", metadata={"tags": [tag]} | folded) for tag in ("setup", "solution")]
    edition = editions.solved(nbformat.v4.new_notebook(cells=cells))
    assert [cell.metadata.get("jupyter") for cell in edition.cells] == [folded["jupyter"], None]


@notebooks
def test_an_assignment_has_points_and_hidden_tests_in_locked_cells(name):
    notebook = NOTEBOOKS[name]
    edition, exercises = editions.assignment(notebook), find_exercises(notebook)
    cells = [cell for cell in edition.cells if "nbgrader" in cell.metadata]
    graded = [cell for cell in cells if cell.metadata.nbgrader["grade"]]
    assert [cell.metadata.nbgrader["points"] for cell in graded] == [exercise.points for exercise in exercises]
    assert len({cell.metadata.nbgrader["grade_id"] for cell in cells}) == len(cells)
    for cell, exercise in zip(graded, exercises, strict=True):
        assert cell.metadata.nbgrader["locked"]
        shown, _, hidden = cell.source.partition("### BEGIN HIDDEN TESTS")
        assert shown.strip() == notebook.cells[exercise.check].source and "mark(" in hidden
        compile(cell.source, "cell", "exec")
    assert all(cell.metadata.nbgrader["solution"] for cell in cells if cell not in graded)


def test_out_must_not_lie_where_submissions_read(tmp_path, capsys):
    for folder in (ROOT / "data" / "class", ROOT / "notebooks", Path(sys.prefix) / "x"):
        with pytest.raises(ValueError, match="expected a folder outside"):
            check_place(folder, ROOT)
    check_place(tmp_path, ROOT)
    assert cli.main(["classroom", str(tmp_path), "77", "--bundle"]) == 2
    assert "expected notebooks by their numbers" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- the offline bundle


def tiny_wheel(folder):
    """A wheel of one line, made by hand."""
    folder.mkdir(parents=True)
    meta = "tinydep-1.0.dist-info/"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {"tinydep.py": "VALUE = 7\n", meta + "METADATA": "Metadata-Version: 2.1\nName: tinydep\nVersion: 1.0\n"}
    files |= {meta + "WHEEL": wheel}
    record = "".join(f"{name},,\n" for name in [*files, meta + "RECORD"])
    with zipfile.ZipFile(folder / "tinydep-1.0-py3-none-any.whl", "w") as archive:
        for name, text in (files | {meta + "RECORD": record}).items():
            archive.writestr(name, text)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The bundle of one notebook with one tiny wheel, unpacked as a student would."""
    out = tmp_path_factory.mktemp("out")
    tiny_wheel(out / "wheels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "requirements", lambda course: ["tinydep>=1"])
        path = bundle.write({"03_attention": NOTEBOOKS["03_attention"]}, ROOT, out)
        first = path.read_bytes()
        assert bundle.write({"03_attention": NOTEBOOKS["03_attention"]}, ROOT, out).read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            assert entry.filename.startswith(f"{bundle.NAME}/") and ".." not in entry.filename.split("/")
            assert entry.external_attr >> 16 == 0o644  # a plain file, no link
        archive.extractall(out)
    return out / bundle.NAME


def test_the_bundle_holds_the_course_and_no_solution_and_no_pickle(unpacked):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {"install.py", "README.txt", "SHA256SUMS", "course/data/vit_cifar10.safetensors"} <= names
    assert "course/notebooks/03_attention.ipynb" in names and "course/vit_tutorial/layers.py" in names
    assert "course/vit_tutorial/classroom/static/course.css" in names
    assert not any(name.endswith((".pkl", ".pickle", ".pt", ".pth", ".npy", ".pyc")) for name in names)
    tracked = subprocess.run(["git", "ls-files", "vit_tutorial", "data"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0:  # in a checkout
        assert {f"course/{name}" for name in tracked.stdout.split() if (ROOT / name).exists()} <= names
    assert "## Solutions" not in (unpacked / "course/notebooks/03_attention.ipynb").read_text(encoding="utf-8")
    readme = (unpacked / "README.txt").read_text()
    oldest = "{}.{}".format(*install.PYTHON)
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text() and f"Python {oldest}" in readme
    assert "pip download -d wheels --only-binary :all: -r requirements.txt -c constraints.txt" in readme


def offline(command, folder):
    """Run a command with every way out closed: an index and a proxy where nobody listens, and no network at all."""
    closed = "http://127.0.0.1:9"
    settings = {f"{name}_proxy": closed for name in ("http", "https")} | {"PIP_INDEX_URL": closed}
    settings |= {name.upper(): value for name, value in settings.items()}
    if sandbox.trouble() is None:
        command = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--chdir", str(folder), *command]
    return subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True)


def test_the_bundle_installs_without_a_network(unpacked, tmp_path):
    done = offline([sys.executable, "install.py"], unpacked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-m vit_tutorial.cli lab" in done.stdout
    python = next(path for path in unpacked.glob(".venv/*/python*") if path.stem == "python")
    code = "import importlib.util, tinydep; print(tinydep.VALUE, importlib.util.find_spec('vit_tutorial').origin)"
    found = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.split() == ["7", str(unpacked / "course" / "vit_tutorial" / "__init__.py")], found.stderr
    shutil.rmtree(unpacked / ".venv")


def test_a_bundle_without_its_wheels_or_damaged_says_so(unpacked, tmp_path):
    copy = shutil.copytree(unpacked, tmp_path / "copy")
    (copy / "requirements.txt").write_text("tinydep>=1\nnot-there\n")
    done = offline([sys.executable, "install.py"], copy)
    assert done.returncode == 1 and "requirements.txt is damaged" in done.stderr and not (copy / ".venv").exists()
    (copy / "wheels" / "tinydep-1.0-py3-none-any.whl").unlink()
    shutil.copy(unpacked / "requirements.txt", copy)
    done = offline([sys.executable, "install.py"], copy)
    assert done.returncode == 1 and "expected the file wheels/tinydep" in done.stderr


def test_writing_a_bundle_without_wheels_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundle, "write", lambda notebooks, course, out: Path(__file__))
    write_bundle({}, ROOT, tmp_path, download=False)
    assert "add --download, or put wheels into OUT/wheels" in capsys.readouterr().out
    tiny_wheel(tmp_path / "wheels")
    write_bundle({}, ROOT, tmp_path, download=False)
    assert "add --download" not in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- TEACHING.md


def test_every_check_and_mistake_in_the_guide_exists():
    known = {name: {mistake for _, mistake in wrong} for name, (_, wrong) in tables().items()}
    for name in known.keys() & TASKS.keys():
        known[name] |= {mistake for mistake, _ in switches(TASKS[name].task)[1]}
    named = re.findall(r"`check\.(\w+)`: `([^`]+)`", TEACHING)
    assert len(named) > 40 and set(re.findall(r"`check\.(\w+)`", TEACHING)) == {name for name, _ in named}
    assert [f"{name}: {mistake}" for name, mistake in named if mistake not in known.get(name, ())] == []


@notebooks
def test_the_guide_speaks_of_every_notebook_with_its_minutes(name):
    part = PARTS.get(name[:2])
    assert part, f"no part '### {name[:2]} · ...' in TEACHING.md"
    first = NOTEBOOKS[name].cells[0].source
    title, minutes = re.match(r"# \d\d · (.*)", first)[1], re.search(r"(\d+(?: \+ \d+)?) minutes", first)[1]
    assert part.startswith(f"{title} ({minutes} minutes)")
    assert all(word in part for word in ("**Aim.**", "**Ask.**", "**Listen for.**", "**Late?**"))
    ask, late = re.search(r"\*\*Ask\.\*\*(.*?)\* \*\*", part, re.S)[1], part.split("**Late?**")[1]
    assert ask.count("?") == 2 and ask.count("(") >= 2
    headings = re.findall(r"^## (.*)$", "\n".join(cell.source for cell in NOTEBOOKS[name].cells), re.MULTILINE)
    for heading in re.findall(r"(?<!\*)\*([A-Z][^*\n]+(?:\n[^*]+)?)\*(?!\*)", late):
        assert " ".join(heading.split()) in headings, heading
    topic = set(check.EXERCISES) & set(re.findall(r"`check\.(\w+)`", part))
    own = {answer for exercise in find_exercises(NOTEBOOKS[name]) for answer, _ in exercise.answers}
    assert topic <= own | {"token_count"}


def test_timetables_add_up_and_name_exercises_that_exist():
    text = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
    days = re.findall(r"^\| minutes \|.*?\n\n", text, re.M | re.S)
    sums = [sum(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) for table in days]
    assert sums == [90, 360]
    known = {exercise.number for notebook in NOTEBOOKS.values() for exercise in find_exercises(notebook)}
    assert set(re.findall(r"\b(\d+\.\d+)\b(?! [s%])", "\n".join(days))) <= known
    weeks = re.findall(r"^\| [1-8] \| \d\d[^|]*\| \d+ \|[^|]*\|[^|]*\|$", text, re.MULTILINE)
    assert len(weeks) == 8
    assert {name[:2] for name in NOTEBOOKS} <= set(re.findall(r"\b\d\d\b", " ".join(weeks)))
