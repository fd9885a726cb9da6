"""What `vit-tutorial classroom` writes: editions, slides, hand-outs, the bundle; and whether TEACHING.md is true."""

import importlib.util
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
from vit_tutorial.classroom import bundle, check_place, decks, editions, find_notebooks, install, sandbox
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
    edition = editions.assignment(notebook)
    nbformat.validate(edition)
    text = nbformat.writes(edition)
    assert "colab.research" not in text  # the course's own badge opens the notebook with its solutions
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
def test_an_assignment_has_points_in_locked_cells(name):
    notebook = NOTEBOOKS[name]
    edition, exercises = editions.assignment(notebook), find_exercises(notebook)
    cells = [cell for cell in edition.cells if "nbgrader" in cell.metadata]
    graded = [cell for cell in cells if cell.metadata.nbgrader["grade"]]
    assert [cell.metadata.nbgrader["points"] for cell in graded] == [exercise.points for exercise in exercises]
    assert len({cell.metadata.nbgrader["grade_id"] for cell in cells}) == len(cells)
    for cell, exercise in zip(graded, exercises, strict=True):
        assert cell.metadata.nbgrader["locked"]
        assert cell.source == notebook.cells[exercise.check].source
    assert all(cell.metadata.nbgrader["solution"] for cell in cells if cell not in graded)


maths = pytest.mark.skipif(not importlib.util.find_spec("sphinx_revealjs"), reason="needs the extra 'classroom'")
CLASS = "https://github.com/OWNER/REPO/tree/main/week1"


@maths
def test_what_students_are_given_is_what_nbgrader_releases(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decks, "write_all", lambda *_: None)  # slides and hand-outs, which students do not hand in
    assert cli.main(["classroom", str(tmp_path), "00", "--published", CLASS, "01"]) == 0, capsys.readouterr().err
    for name in ("00_start_here", "01_patch_embedding"):
        folder = tmp_path / "nbgrader" / "release" / name
        assert (folder / f"{name}.ipynb").read_bytes() == (tmp_path / "student" / f"{name}.ipynb").read_bytes()
        notebook = nbformat.read(tmp_path / "student" / f"{name}.ipynb", as_version=4)
        ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
        assert sum(str(found).startswith("check-") for found in ids) == len(find_exercises(NOTEBOOKS[name]))
        text = "\n".join(cell.source for cell in notebook.cells)
        assert f"(https://colab.research.google.com/github/OWNER/REPO/blob/main/week1/{name}.ipynb)" in text
        assert "## Solutions" not in text and not any(cell.get("outputs") for cell in notebook.cells)
        for shown in re.findall(r"\]\((images/[^)]+)\)", text):
            assert (folder / shown).is_file() and (tmp_path / "student" / shown).is_file()
        for other in re.findall(r"\]\((\w+\.ipynb)\)", text):
            assert other[:-6] in NOTEBOOKS


def test_a_badge_leads_to_the_class_or_nowhere():
    cells = [
        nbformat.v4.new_markdown_cell("# 01 · A\n\n[![Open in Colab](images/a.svg)](https://x/a.ipynb)\n\nRead on.")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert editions.rebadged(notebook, "01_a").cells[0].source == "# 01 · A\n\nRead on."
    for address, path in (
        ("https://github.com/a/b", "main"),
        ("https://github.com/a/b.git", "main"),
        (CLASS, "main/week1"),
    ):
        text = editions.rebadged(notebook, "01_a", address).cells[0].source
        assert f"/blob/{path}/01_a.ipynb)\n\nRead on." in text and "https://x" not in text
    for wrong in (
        "github.com/a/b",
        "https://github.com/a",
        "https://git.example.org/a/b",
        "https://github.com/a/b/../c",
    ):
        with pytest.raises(ValueError, match=r"such as https://github\.com/OWNER/REPO"):
            editions.rebadged(notebook, "01_a", wrong)


def parsed(line):
    """What the command line `vit-tutorial classroom ...` asks for."""
    return cli.build_parser().parse_args(["classroom", *line.split()])


@pytest.mark.parametrize(
    "line", ["OUT --bundle 01 03", "OUT 01 03 --bundle", "--bundle OUT 01 03", "OUT 01 --bundle 03"]
)
def test_options_stand_anywhere(line):
    args = parsed(line)
    assert (args.out, args.notebooks, args.bundle) == (Path("OUT"), ["01", "03"], True)
    args = parsed(f"--platform windows-3.12 {line} --platform linux-3.11")
    assert (args.notebooks, args.platform) == (["01", "03"], ["windows-3.12", "linux-3.11"])
    for option in ("grade", "collect"):
        args = parsed(line.replace("--bundle", f"--{option} 05 --roster class.csv"))
        assert (args.notebooks, str(getattr(args, option)), str(args.roster)) == (["01", "03"], "05", "class.csv")


def test_an_option_without_what_it_belongs_to_is_refused(tmp_path, capsys):
    for line, needed in {
        "--download": "--bundle",
        "--platform windows-3.12": "--bundle",
        "--again": "--grade",
        "--roster class.csv": "--collect or --grade",
        "--bundle --student Ada": "--grade",
    }.items():
        assert cli.main(["classroom", str(tmp_path), *line.split()]) == 2
        assert f"expected {needed} with " in capsys.readouterr().err
    assert cli.main(["classroom", str(tmp_path), "--grade", "03", "05"]) == 2
    assert "expected one notebook to mark, 03, found 05 too" in capsys.readouterr().err
    for line in ("OUT --bogus", "OUT --bundle --grade 03", "--bundle"):
        with pytest.raises(SystemExit):
            parsed(line)


def test_out_must_not_lie_where_submissions_read(tmp_path, capsys):
    for folder in (ROOT / "data" / "class", ROOT / "notebooks", Path(sys.prefix) / "x"):
        with pytest.raises(ValueError, match="expected a folder outside"):
            check_place(folder, ROOT)
    check_place(tmp_path, ROOT)
    assert cli.main(["classroom", str(tmp_path), "77", "--bundle"]) == 2
    assert "expected notebooks by their numbers" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- the offline bundle


def tiny_wheel(folder, name="tinydep", tag="py3-none-any", needs=()):
    """A wheel of one line, made by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = f"{name}-1.0.dist-info/"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + "".join(
        f"Requires-Dist: {line}\n" for line in needs
    )
    wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    files = {f"{name}.py": "VALUE = 7\n", meta + "METADATA": about, meta + "WHEEL": wheel}
    record = "".join(f"{path},,\n" for path in [*files, meta + "RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
        for path, text in (files | {meta + "RECORD": record}).items():
            archive.writestr(path, text)


TAGS = {  # platform: the tag of a wheel for it
    install.this_platform(): "py3-none-any",
    "windows-3.12": "cp312-cp312-win_amd64",
    "macos-arm64-3.13": "cp313-cp313-macosx_11_0_arm64",
    "linux-arm64-3.12": "cp312-cp312-manylinux_2_27_aarch64",
}
NEEDS = ['winonly; sys_platform == "win32"', 'maconly; platform_system == "Darwin" and platform_machine == "arm64"']


def tiny_wheels(folder):
    """Wheels of one package for each platform in TAGS, and what it needs on two of them alone."""
    for tag in TAGS.values():
        tiny_wheel(folder, tag=tag, needs=NEEDS)
    tiny_wheel(folder, "winonly", "cp312-abi3-win_amd64")
    tiny_wheel(folder, "maconly", "cp313-cp313-macosx_14_0_arm64")
    tiny_wheel(folder, "left_over", "cp310-cp310-win_amd64")


@pytest.fixture(scope="module")
def tiny():
    """The course needs one tiny package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "requirements", lambda course: ["tinydep>=1"])
        yield


@pytest.fixture(scope="module")
def unpacked(tiny, tmp_path_factory):
    """The bundle of one notebook with tiny wheels for all platforms, unpacked as a student would."""
    out = tmp_path_factory.mktemp("out")
    tiny_wheels(out / "wheels")
    path, inside = bundle.write({"03_attention": NOTEBOOKS["03_attention"]}, ROOT, out, list(TAGS))
    assert inside.keys() == TAGS.keys()
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
    notebook = nbformat.read(unpacked / "course/notebooks/03_attention.ipynb", as_version=4)
    assert any("nbgrader" in cell.metadata for cell in notebook.cells)  # what is handed in can be marked
    readme = (unpacked / "README.txt").read_text()
    oldest = "{}.{}".format(*install.PYTHON)
    assert (
        f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text() and f"({oldest} or newer)" in readme
    )


def test_the_bundle_lists_its_platforms_with_the_size_of_each_wheel(unpacked):
    assert (unpacked / "platforms.txt").read_text().split() == list(TAGS)
    readme = (unpacked / "README.txt").read_text()
    for platform, tag in TAGS.items():
        part = readme.split(f"    {platform} ")[1].split("\n    ")[0:4]
        assert re.match(r" *[12] wheels +\d+\.\d MB", part[0]) and any(
            f"tinydep-1.0-{tag}.whl" in line for line in part
        )
    assert re.search(r"windows-3\.12 +2 wheels.*\n.*tinydep.*\n +\d+\.\d MB  winonly-1\.0-", readme)
    assert re.search(r"macos-arm64-3\.13 +2 wheels.*\n.*maconly-1\.0-", readme)
    names = {path.name for path in (unpacked / "wheels").iterdir()}
    assert len(names) == len(TAGS) + 2 and not any(name.startswith("left_over") for name in names)


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


def test_the_bundle_says_for_which_platforms_it_is(unpacked, tmp_path):
    copy = shutil.copytree(unpacked, tmp_path / "copy")
    (copy / "platforms.txt").write_text("windows-3.12\nmacos-arm64-3.13\n")
    sums = (copy / "SHA256SUMS").read_text().splitlines()
    (copy / "SHA256SUMS").write_text("\n".join(line for line in sums if "platforms.txt" not in line))
    done = offline([sys.executable, "install.py"], copy)
    assert done.returncode == 1 and not (copy / ".venv").exists()
    assert f"expected windows-3.12 or macos-arm64-3.13, for which there are wheels here, found {HERE}" in done.stderr


HERE = install.this_platform()


@pytest.mark.parametrize(
    ("platforms", "gone", "told"),
    [
        (["windows-3.12"], "*", r"the wheels for windows-3\.12, .*tinydep>=1"),
        (["windows-3.12"], "winonly*", r"the wheels for windows-3\.12, .*winonly.*from tinydep"),
        ([HERE, "macos-arm64-3.13"], "*cp313*", r"the wheels for macos-arm64-3\.13, .*maconly"),
        ([], "*none-any*", f"the wheels for {HERE}, .*tinydep"),
    ],
)
def test_a_bundle_that_lacks_a_wheel_is_not_written(tiny, tmp_path, capsys, platforms, gone, told):
    tiny_wheels(tmp_path / "wheels")
    for path in (tmp_path / "wheels").glob(gone):
        path.unlink()
    options = [word for platform in platforms for word in ("--platform", platform)]
    assert cli.main(["classroom", str(tmp_path), "--bundle", "00", *options]) == 2
    assert re.search(f"expected in .*{told}.*; add --download", capsys.readouterr().err)
    assert not list(tmp_path.glob("*.zip"))


def test_the_command_line_writes_a_bundle_for_several_platforms(tiny, tmp_path, capsys):
    tiny_wheels(tmp_path / "wheels")
    platforms = ["--platform", "windows-3.12", "--platform", HERE]
    assert cli.main(["classroom", *platforms, str(tmp_path), "--bundle", "00"]) == 0
    said, first = capsys.readouterr().out, (tmp_path / f"{bundle.NAME}.zip").read_bytes()
    assert cli.main(["classroom", str(tmp_path), "00", "--bundle", *platforms]) == 0
    assert (tmp_path / f"{bundle.NAME}.zip").read_bytes() == first
    assert re.search(r"windows-3\.12 +2 wheels +\d+\.\d MB", said) and re.search(rf"{HERE} +1 wheels", said)


@pytest.mark.parametrize("name", ["windows", "win-3.12", "macos-3.12", "windows-3.9", "linux-3.12.1", "linux-2.7", ""])
def test_a_platform_is_a_system_and_a_python(name, tmp_path, capsys):
    assert cli.main(["classroom", str(tmp_path), "--bundle", "--platform", name or " "]) == 2
    assert "expected a platform such as windows-3.12 (linux, linux-arm64," in capsys.readouterr().err


def test_pip_is_asked_for_each_platform(tiny, tmp_path, monkeypatch):
    """`--download` with pip's own way to wheels, from a folder in place of an index."""
    tiny_wheels(tmp_path / "index")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "index")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    bundle.download(ROOT, tmp_path / "wheels", ["windows-3.12", "linux-arm64-3.12"])
    found = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert found == {"tinydep", "winonly"}
    with pytest.raises(OSError, match=r"all wheels for windows-3\.11"):
        bundle.download(ROOT, tmp_path / "wheels", ["windows-3.11"])


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
    assert all(word in part for word in ("**Aim.**", "**Say.**", "**Listen for.**", "**Late?**"))
    late, notes = part.split("**Late?**")[1].split("\n\n")[:2]
    assert len(re.findall(r"\*\*Ask(?:\.\*\*|\*\*,)[^?|]*\? \(", notes)) == 2, "two questions with their answers"
    reached = [int(minute) for minute in re.findall(r"^\| (\d+) \|", notes, re.MULTILINE)]
    assert len(reached) >= 6 and reached == sorted(reached) and ("| Stop |" in notes) == ("+" in minutes)
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
    weeks = re.findall(r"^\| (\d+) \| (\d\d[^|]*)\| \d+ \|[^|]*\|[^|]*\|$", text, re.MULTILINE)
    assert [int(week) for week, _ in weeks] == list(range(1, len(weeks) + 1))
    assert " ".join(read for _, read in weeks).replace(",", "").split() == sorted(name[:2] for name in NOTEBOOKS)
