"""The nbgrader course: write it, release it, and grade a class, one submission at a time, each by itself.

A submission lies at `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, as nbgrader wants it.
"""

import csv
import logging
import multiprocessing
import os
import re
import shutil
import stat
import sys
import time
import warnings
from multiprocessing import connection
from pathlib import Path

import nbformat

from ..files import PACKAGE, atomic_path
from . import editions, sandbox

MEMORY = 4 << 30  # bytes of the process that reads what one submission says
PATIENCE = 60  # seconds beyond a submission's own that this process may take


def nbgrader_api(course):
    """nbgrader's API on the course in a folder, with the settings there. Raises ValueError where there are none."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    course = Path(course).resolve()
    if not (course / "nbgrader_config.py").is_file():
        raise ValueError(f"expected an nbgrader course with nbgrader_config.py, found none in {course}")
    programs = os.path.dirname(sys.executable)  # nbgrader calls alembic by name, and no environment need be active
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = config.CourseDirectory.db_url.replace("sqlite:///", f"sqlite:///{course}/")
    warnings.filterwarnings("ignore", module="nbgrader")  # about how it uses its database; nothing for a teacher
    api = NbGraderAPI(config=config)
    api.log.setLevel(logging.ERROR)  # what it says is in the results, not on the screen
    api.log.propagate = False
    api.log.handlers = [logging.NullHandler()]
    return api


def reason(result):
    """Why nbgrader failed: the last line of its log that is more than a list of what failed."""
    lines = [line.strip() for line in result.get("log", result["error"]).splitlines()]
    told = [line for line in lines if line and not re.match(r"\[ERROR\] (There was an error|Please see)", line)]
    return told[-1] if told else "no reason given"


def make_course(notebooks, course):
    """Write the nbgrader course of `{name: notebook}` and release each assignment (folder `release`).

    A course that is there keeps its settings, its gradebook and its submissions; an assignment is written anew. Raises
    ValueError with nbgrader's own words where it refuses one.
    """
    course = Path(course)
    course.mkdir(parents=True, exist_ok=True)
    if not (course / "nbgrader_config.py").exists():
        shutil.copyfile(PACKAGE / "classroom" / "nbgrader_config.py", course / "nbgrader_config.py")
    for name, notebook in notebooks.items():
        editions.write(editions.assignment(notebook), course / "source" / name / f"{name}.ipynb")
    api = nbgrader_api(course)
    for name in notebooks:
        result = api.generate_assignment(name, force=True)
        if not result["success"]:
            raise ValueError(f"nbgrader could not release {name}: {reason(result)}")


def grade(course, assignment, jobs, without_sandbox=False):
    """Grade every submission of an assignment; returns one dict per student.

    Each submission is graded in a process of its own, `jobs` at a time; where that fails, its marks are 0 and `note`
    says why. Keys: `student`, one per graded cell (`check-3-1`, its points), `total`, `of`, `seconds`, `note`. Writes
    them to `marks-ASSIGNMENT.csv`, nbgrader's own table of all assignments to `grades.csv`, and feedback. Raises
    ValueError where there is no submission, no job, or no sandbox and not `without_sandbox`.
    """
    course = Path(course).resolve()
    if sys.platform == "win32":
        raise ValueError("expected Linux or macOS for grading, found Windows; grade in WSL 2")
    if jobs < 1:
        raise ValueError(f"expected at least 1 submission at a time, found --jobs {jobs}")
    if not without_sandbox and (found := sandbox.trouble()):
        raise ValueError(sandbox.WHY.format(found))
    students = sorted(path.parent.name for path in course.glob(f"submitted/*/{assignment}") if path.is_dir())
    if not students:
        raise ValueError(f"expected submissions as submitted/STUDENT/{assignment}/, found none in {course}")
    api = nbgrader_api(course)
    api.config.SandboxedExecute.without_sandbox = without_sandbox
    results = []
    for student, seconds, trouble in autograde(api, assignment, students, jobs):
        marks = read_marks(api, assignment, student, failed=trouble is not None)
        if trouble is None:
            api.generate_feedback(assignment, student, force=True)
        note = plain(trouble or stopped(course / "autograded" / student / assignment))
        results.append({"student": student} | marks | {"seconds": round(seconds, 1), "note": note})
    results.sort(key=lambda result: result["student"])
    with atomic_path(course / f"marks-{assignment}.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, results[0])
        table.writeheader()
        table.writerows(results)
    export(api, course / "grades.csv")
    return results


def autograde(api, assignment, students, jobs):
    """Grade submissions, `jobs` at a time; yields `(student, seconds, what went wrong or None)` as each one ends."""
    context = multiprocessing.get_context("fork")  # nbgrader is loaded once, not once a submission
    patience = api.config.SandboxedExecute.seconds + PATIENCE
    waiting, running = list(students), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            student = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=autograde_one, args=(api, assignment, student, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = student, process, time.monotonic()
        ready = connection.wait(running, timeout=1)
        for ours, (student, process, started) in list(running.items()):
            seconds = time.monotonic() - started
            if ours not in ready and seconds < patience:
                continue
            try:
                trouble = ours.recv() if ours in ready else f"no end after {patience} s"
            except EOFError:
                trouble = "the process that graded it ended"
            process.join(5)
            process.kill()
            process.join()
            del running[ours]
            yield student, seconds, trouble


def autograde_one(api, assignment, student, note):
    """Grade one submission, in a process of its own; sends what went wrong, or None."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # a flood of output ends this process alone
    result = api.autograde(assignment, student, force=True)
    note.send(None if result["success"] else reason(result))


def refuse_links(assignment, student, notebooks):
    """nbgrader would follow a link in a submission and copy what it points at. Raises SystemExit where there is one.

    nbgrader carries on after any other exception of a hook.
    """
    for folder in {Path(notebook).parent for notebook in notebooks}:
        for path in sorted(folder.rglob("*")):
            if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
                raise SystemExit(f"expected files and folders in a submission, found a link or a device: {path}")


def read_marks(api, assignment, student, failed):
    """The points of each graded cell, `total` and `of`; zeros, kept in the gradebook, where grading `failed`."""
    with api.gradebook as book:
        if failed:
            book.update_or_create_student(student)
            book.update_or_create_submission(assignment, student)
        marks, most = {}, 0
        for notebook in book.find_submission(assignment, student).notebooks:
            for found in notebook.grades:
                if failed:
                    found.auto_score, found.needs_manual_grade = 0, False
                marks[found.name], most = found.score, most + found.max_score
        book.db.commit()
    return dict(sorted(marks.items())) | {"total": sum(marks.values()), "of": most}


def stopped(folder):
    """Why a submission was stopped before its end, as the autograded notebook says; an empty text where it was not."""
    for path in sorted(folder.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for output in (output for cell in cells for output in cell.get("outputs", [])):
            if output.get("ename") in ("Stopped", "CellTimeoutError"):
                return output.evalue or "a cell ran too long"
    return ""


def plain(text):
    """At most 200 characters, none of which a terminal or a spreadsheet would obey."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def export(api, path):
    """Write nbgrader's own table of all assignments, as learning platforms read it."""
    from nbgrader.plugins import CsvExportPlugin

    plugin = CsvExportPlugin(parent=api)
    plugin.to, plugin.assignment, plugin.student = str(path), [], []
    with api.gradebook as book:
        plugin.export(book)
