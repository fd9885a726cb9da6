"""The nbgrader course: write it, release it, and grade a class, one submission at a time, each by itself.

A submission lies at `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, as nbgrader wants it.
"""

import csv
import logging
import multiprocessing
import os
import re
import stat
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..files import ROOT, atomic_path
from . import editions, sandbox

CONFIG = '''"""nbgrader's settings for this course, written by `vit-tutorial classroom`; yours go below."""

from vit_tutorial.classroom.kernel import SandboxedExecute

c = get_config()
c.CourseDirectory.course_id = "vit_tutorial"
c.CourseDirectory.db_url = "sqlite:///gradebook.db?timeout=60"
c.ExecutePreprocessor.record_timing = False
# Stubs are the course's own, and a source holds no solutions that would have to be cut out.
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors." + name
    for name in ("LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells", "ClearHiddenTests")
] + ["nbgrader.preprocessors.ComputeChecksums", "nbgrader.preprocessors.CheckCellMetadata"]
# A cell with points that a student deleted comes back, and gives none.
c.OverwriteCells.add_missing_cells = True
# Students' code runs in the sandbox. Per cell: seconds; per notebook: seconds, MiB of memory, processes and threads.
c.Autograde.autograde_preprocessors = [
    SandboxedExecute,
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.pre_convert_hook = "vit_tutorial.classroom.grading.refuse_links"
c.SandboxedExecute.timeout = 300
c.SandboxedExecute.seconds = 1800
c.SandboxedExecute.memory = 3072
c.SandboxedExecute.processes = 96
'''
MEMORY = 4 << 30  # bytes of the process that reads what one submission says
PATIENCE = 60  # seconds beyond a submission's own that this process may take


def refuse_links(assignment, student, notebooks):
    """nbgrader would follow a link in a submission and copy what it points at. Raises SystemExit where there is one.

    nbgrader goes on after any other exception of a hook.
    """
    for folder in {Path(notebook).parent for notebook in notebooks}:
        for path in sorted(folder.rglob("*")):
            if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
                raise SystemExit(f"expected files and folders in a submission, found a link or a device: {path}")


def api(course, **settings):
    """nbgrader's API on the course in a folder, its `nbgrader_config.py` read; `settings` go to `SandboxedExecute`."""
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
    config.SandboxedExecute.update(settings)
    warnings.filterwarnings("ignore", module="nbgrader")  # about how it uses its database; nothing for a teacher
    found = NbGraderAPI(config=config)
    found.log.setLevel(logging.ERROR)  # what it says is in the results, not on the screen
    found.log.propagate = False
    found.log.handlers = [logging.NullHandler()]
    return found


def make_course(notebooks, course):
    """Write the nbgrader course of `{name: notebook}` and release each assignment (folder `release`).

    A course that is there keeps its settings, its gradebook and its submissions; an assignment is written anew. Raises
    ValueError with nbgrader's own words where it refuses one.
    """
    course = Path(course)
    course.mkdir(parents=True, exist_ok=True)
    if not (course / "nbgrader_config.py").exists():
        (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    for name, notebook in notebooks.items():
        editions.write(editions.assignment(notebook), course / "source" / name / f"{name}.ipynb")
    graders = api(course)
    for name in notebooks:
        result = graders.generate_assignment(name, force=True)
        if not result["success"]:
            raise ValueError(f"nbgrader could not release {name}: {reason(result)}")


def grade_one(course, assignment, student, settings, note):
    """Autograde one submission, in a process of its own; `note` is the end of a pipe for what went wrong."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # a flood of output ends this process alone
    result = api(course, **settings).autograde(assignment, student, force=True)
    note.send(None if result["success"] else reason(result))


def reason(result):
    """Why nbgrader failed: the last line of its log that is more than a list of what failed."""
    lines = [line.strip() for line in result.get("log", result["error"]).splitlines()]
    told = [line for line in lines if line and not re.match(r"\[ERROR\] (There was an error|Please see)", line)]
    return told[-1] if told else "no reason given"


FORKING = threading.Lock()  # filelock, which nbgrader's libraries use, lets no two threads fork at once


def attend(course, assignment, student, settings, seconds):
    """Run `grade_one` and wait for it; returns `(seconds, what went wrong or None)`."""
    context = multiprocessing.get_context("fork")  # nbgrader is loaded once, not once a submission
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=grade_one, args=(course, assignment, student, settings, theirs))
    started = time.monotonic()
    with FORKING:
        process.start()
    theirs.close()
    try:
        trouble = ours.recv() if ours.poll(seconds) else f"no end after {seconds} s"
    except EOFError:
        trouble = "the process that graded it ended"
    process.join(5)
    process.kill()
    process.join()
    return time.monotonic() - started, trouble


def grade(course, assignment, jobs=1, without_sandbox=False, only=None):
    """Grade every submission of an assignment; returns one dict a student, and writes `marks-ASSIGNMENT.csv`, feedback.

    Each submission is graded in a process of its own, `jobs` at a time; where that fails, its marks are 0 and `note`
    says why. `only` names the students, if not all. Keys: `student`, one a graded cell (`check-3-1`, its points),
    `total`, `of`, `seconds`, `note`. Raises ValueError where there is no submission, or no sandbox and not
    `without_sandbox`.
    """
    course = Path(course).resolve()
    if sys.platform == "win32":
        raise ValueError("expected Linux or macOS for grading, found Windows; grade in WSL 2")
    if not without_sandbox and (found := sandbox.trouble(ROOT)):
        raise ValueError(sandbox.WHY.format(found))
    folders = sorted(path.parent for path in course.glob(f"submitted/*/{assignment}"))
    students = [folder.name for folder in folders if folder.is_dir() and (not only or folder.name in only)]
    if not students:
        raise ValueError(f"expected submissions as submitted/STUDENT/{assignment}/, found none in {course}")
    graders = api(course)
    settings = {"without_sandbox": True} if without_sandbox else {}
    seconds = graders.config.SandboxedExecute.seconds + PATIENCE
    with ThreadPoolExecutor(jobs) as pool:
        ends = list(pool.map(lambda student: attend(course, assignment, student, settings, seconds), students))
    results = []
    for student, (took, trouble) in zip(students, ends, strict=True):
        marks = read_marks(graders, assignment, student, failed=trouble is not None)
        note = plain(trouble or stopped(course / "autograded" / student / assignment))
        results.append({"student": student} | marks | {"seconds": round(took, 1), "note": note})
        if not trouble:
            graders.generate_feedback(assignment, student, force=True)
    with atomic_path(course / f"marks-{assignment}.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, results[0])
        table.writeheader()
        table.writerows(results)
    return results


def plain(text):
    """At most 200 characters, none of which a terminal or a spreadsheet would obey."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def read_marks(graders, assignment, student, failed):
    """The points of each graded cell, `total` and `of`; zeros, kept in the gradebook, where grading `failed`."""
    from nbgrader.api import Gradebook

    with Gradebook(graders.coursedir.db_url, graders.coursedir.course_id) as book:
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
    import nbformat

    for path in sorted(Path(folder).glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "error" and output.ename in ("Stopped", "CellTimeoutError"):
                    return output.evalue or "a cell ran too long"
    return ""


def export(course, path):
    """Write nbgrader's own table of all assignments, as learning platforms read it."""
    from nbgrader.api import Gradebook
    from nbgrader.plugins import CsvExportPlugin

    graders = api(course)
    plugin = CsvExportPlugin(parent=graders)
    plugin.to, plugin.assignment, plugin.student = str(path), [], []
    with Gradebook(graders.coursedir.db_url, graders.coursedir.course_id) as book:
        plugin.export(book)


def jobs_here():
    """How many submissions to grade at a time."""
    return max(1, (os.cpu_count() or 1) // 2)
