"""The nbgrader course: write it, release it, and mark a class, one submission at a time, each by itself.

A submission lies at `submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, as nbgrader wants it, and stays as it was handed
in: nbgrader works on what `repair` makes of it.
"""

import difflib
import hashlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import stat
import sys
import time
import warnings
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter

from ..files import PACKAGE, atomic_path
from . import editions, feedback, results, sandbox

MEMORY = 4 << 30  # bytes of the process that reads what one submission says
PATIENCE = 60  # seconds beyond a submission's own that this process may take
MOST_TOLD = 1 << 16  # bytes that this process may tell about it
GRACE = 10  # seconds that it may take to tidy up after Ctrl-C


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
    return re.sub(r"^(ValueError|SystemExit): ", "", told[-1]) if told else "no reason given"


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


def find_assignment(course, name):
    """The assignment with this name or number (`03_attention`, `03`). Raises ValueError where none was released."""
    released = sorted(path.parent.name for path in Path(course).glob("release/*/*.ipynb"))
    for assignment in released:
        if name in (assignment, assignment.partition("_")[0]):
            return assignment
    raise ValueError(
        f"expected an assignment that was handed out ({', '.join(released) or 'none was'}), found {name!r}; hand it "
        f"out first: vit-tutorial classroom OUT NN"
    )


def choose(course, assignment, only, again):
    """Whose submissions are marked now: those that are new or have changed, `only` these students', or all `again`.

    Raises ValueError where nobody has handed in anything, or not one of `only`.
    """
    students = sorted(path.parent.name for path in course.glob(f"submitted/*/{assignment}") if path.is_dir())
    if not students:
        raise ValueError(f"expected submissions as submitted/STUDENT/{assignment}/, found none in {course}")
    for name in only or ():
        if name not in students:
            nearest = difflib.get_close_matches(name, students, n=1, cutoff=0)[0]
            raise ValueError(f"expected a student who handed in {assignment}, found {name!r}; the nearest: {nearest!r}")
    if only or again:
        return list(dict.fromkeys(only or students))
    return [student for student in students if not is_marked(course, assignment, student)]


def grade(course, assignment, jobs, without_sandbox=False, only=None, again=False, tell=lambda *_: None):
    """Mark the submissions that `choose` chooses; returns one dict per student of the class (`results.read_student`).

    Each submission is marked in a process of its own, `jobs` at a time; after each, `tell` gets its row, its number
    and how many there are. Then, also after Ctrl-C, everything in `results.write_all` is written. Raises ValueError
    where there is no such assignment, submission, or student, no job, or no sandbox and not `without_sandbox`.
    """
    course = Path(course).resolve()
    if sys.platform == "win32":
        raise ValueError("expected Linux or macOS for grading, found Windows; grade in WSL 2")
    if jobs < 1:
        raise ValueError(f"expected at least 1 submission at a time, found --jobs {jobs}")
    if not without_sandbox and (found := sandbox.trouble()):
        raise ValueError(sandbox.WHY.format(found))
    students = choose(course, assignment, only, again)
    api = nbgrader_api(course)
    api.config.SandboxedExecute.without_sandbox = without_sandbox
    results.set_due(api, assignment)
    try:
        for number, (student, seconds, told) in enumerate(mark_all(api, course, assignment, students, jobs), start=1):
            record = {"seconds": round(seconds, 1), "note": told["note"]}
            if not told["marked"]:
                results.forget_marks(api, assignment, student)
                feedback.write_apology(api, course, assignment, student, told["note"])
            write_record(course, assignment, student, record | {"marked": told["marked"]})
            tell(*results.read_class(api, course, assignment, [student]), number, len(students))
    finally:
        rows = results.write_all(api, course, assignment)
    return rows


def mark_all(api, course, assignment, students, jobs):
    """Mark submissions, `jobs` at a time; yields `(student, seconds, {"marked": fingerprint, "note": text})`.

    `marked` is None where it went wrong, and `note` says why. Where this generator is left, what runs is ended.
    """
    context = multiprocessing.get_context("fork")  # nbgrader is loaded once, not once a submission
    patience = api.config.SandboxedExecute.seconds + PATIENCE
    waiting, running = list(students), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                student = waiting.pop(0)
                record_path(course, assignment, student).unlink(missing_ok=True)
                ours, theirs = context.Pipe(duplex=False)
                work = api, course, assignment, student, theirs
                process = context.Process(target=mark_one, args=work, daemon=True)
                process.start()
                theirs.close()
                running[ours] = student, process, time.monotonic()
            ready = connection.wait(running, timeout=1)
            for ours, (student, process, started) in list(running.items()):
                seconds = time.monotonic() - started
                if ours not in ready and seconds < patience:
                    continue
                told = {"marked": None, "note": f"no end after {patience} s"}
                if ours in ready:
                    told["note"] = "the process that graded it ended"
                    with suppress(EOFError, OSError, ValueError):
                        told = json.loads(ours.recv_bytes(MOST_TOLD))
                end([process], 5)
                del running[ours]
                yield student, seconds, told
    finally:
        end([process for _, process, _ in running.values()], GRACE, signal.SIGINT)


def end(processes, patience, number=None):
    """Send processes a signal, wait for their end, then kill those that still run."""
    for process in processes if number else ():
        with suppress(OSError):  # ended meanwhile
            os.kill(process.pid, number)
    deadline = time.monotonic() + patience
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        process.kill()
        process.join()


def mark_one(api, course, assignment, student, pipe):
    """Mark one submission and write its feedback, in a process of its own; tells what `mark_all` yields."""
    import resource

    os.setpgid(0, 0)  # Ctrl-C reaches the process that asked for this one, which ends it
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # a flood of output ends this process alone
    mark = fingerprint(course, assignment, student)
    result = api.autograde(assignment, student, force=True)
    told = {"marked": mark, "note": ""}
    if result["success"]:
        told["note"] = " ".join(feedback.notes_of(results.autograded(course, assignment, student)))
        result = api.generate_feedback(assignment, student, force=True)
    if not result["success"]:
        why, said = reason(result).rstrip("."), results.collected_note(course, assignment, student)
        why = "" if why in said else f"{why[0].upper()}{why[1:]}."
        told = {"marked": None, "note": f"{said} {why}".strip()}
    told["note"] = results.plain(told["note"], 1000)
    pipe.send_bytes(json.dumps(told).encode())


def fingerprint(course, assignment, student):
    """What a mark depends on, as one number: the files of a submission (links are not followed) and the release."""
    folder, parts = course / "submitted" / student / assignment, hashlib.sha256()
    parts.update((course / "release" / assignment / f"{assignment}.ipynb").read_bytes())
    for path in sorted(folder.rglob("*")):
        parts.update(f"\n{path.relative_to(folder)}\n{path.lstat().st_mode}\n".encode(errors="surrogateescape"))
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                parts.update(hashlib.file_digest(file, "sha256").digest())
    return parts.hexdigest()


def record_path(course, assignment, student):
    """Where it is kept what marking a submission took and said."""
    return course / "marked" / assignment / f"{student}.json"


def write_record(course, assignment, student, record):
    with atomic_path(record_path(course, assignment, student)) as path:
        path.write_text(json.dumps(record), encoding="utf-8")


def is_marked(course, assignment, student):
    """Whether a submission has been marked as it is now, and the autograded notebook is there."""
    record = results.read_record(course, assignment, student)
    there = (course / "autograded" / student / assignment / f"{assignment}.ipynb").exists()
    return there and record.get("marked") == fingerprint(course, assignment, student)


def check_submission(assignment, student, notebooks):
    """What nbgrader does before it marks a submission (`c.Autograde.pre_convert_hook`).

    It would follow a link and copy what that points at: raises SystemExit where there is one, for nbgrader carries on
    after any other exception of a hook. And the notebook gets the assignment's name, whatever it is called.
    """
    folder = Path(notebooks[0]).parent
    for path in sorted(folder.rglob("*")):
        if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
            found = path.relative_to(folder)
            raise SystemExit(f"expected files and folders in a submission, found a link or a device: {found}")
    notebooks[:] = [str(folder / f"{folder.name}.ipynb")]


class SubmissionExporter(NotebookExporter):
    """nbgrader's way from a submission to an autograded notebook, which starts with a repair."""

    def from_filename(self, filename, resources=None, **options):
        """Raises ValueError where there is no notebook, more than one, or none that can be read."""
        converter, path = self.parent, Path(filename)
        if not converter._sanitizing:
            return super().from_filename(filename, resources, **options)
        found = [path] if path.exists() else sorted(path.parent.glob("*.ipynb"))
        if len(found) != 1:
            names = ", ".join(each.name for each in found)
            raise ValueError(f"expected one notebook, {path.name}, found {len(found)}: {names}; hand in one")
        released = Path(converter.coursedir.format_path(converter.coursedir.release_directory, ".", path.parent.name))
        notebook = repaired(found[0], released / path.name)
        said = results.collected_note(Path(converter.coursedir.root), path.parent.name, path.parent.parent.name)
        notebook.metadata["vit_tutorial"]["notes"][:0] = [said] if said else []
        return self.from_notebook_node(notebook, resources, **options)


def repaired(path, released):
    """A submission on the released notebook's skeleton; what was done to it is in its metadata, `feedback.notes_of`.

    Raises ValueError where it cannot be read.
    """
    from . import repair

    notebook, notes = repair.repair(repair.read(path), nbformat.read(released, as_version=4))
    notebook.metadata["vit_tutorial"] = {"notes": notes}
    return notebook
