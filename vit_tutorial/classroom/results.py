"""After marking: marks, grades, late work, a report of mistakes, answers that agree, and what is given back."""

import ast
import csv
import json
import math
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath

import nbformat
from dateutil.tz import gettz
from jinja2 import Environment, FileSystemLoader
from nbgrader.api import MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc
from traitlets import Dict, Float

from ..files import PACKAGE, ROOT, atomic_path
from .exercises import grade_id, number_of

TEMPLATES = PACKAGE / "classroom" / "static" / "templates"
HARD = 3  # points of the exercises in which answers are compared
# Syntax nodes from which on two people hardly write the same. The course's solutions of hard exercises have up to 45
# where there are few ways to write one (1.6, 4.7, 6.12, 8.8), and 70 to 134 elsewhere.
LONG = 60
DAY = 24 * 60 * 60


class LateRule(LateSubmissionPlugin):
    """What late work costs: for each day begun, a part of the points earned (`c.AssignLatePenalties.plugin_class`)."""

    due = Dict(help="When each assignment is due, as '2026-12-01 18:00 Europe/Berlin'.").tag(config=True)
    per_day = Float(0.1, min=0, max=1, help="The part of the points that a day costs.").tag(config=True)

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return score * min(1, self.per_day * math.ceil(total_seconds_late / DAY))


def set_due(api, assignment):
    """Give the gradebook the due date of an assignment, where `c.LateRule.due` has one.

    Raises ValueError for one that is no time with a zone, and for a name that no assignment has.
    """
    due = LateRule(parent=api).due
    known = sorted(path.name for path in Path(api.coursedir.root, "release").iterdir())
    if unknown := sorted(set(due) - set(known)):
        raise ValueError(f"expected names in c.LateRule.due among {', '.join(known)}, found {unknown[0]!r}")
    if assignment in due:
        try:
            day, time, zone = due[assignment].split()
            moment = parse_utc(due[assignment]) if gettz(zone) else None
        except (AttributeError, ValueError):
            moment = None
        if moment is None:
            raise ValueError(
                f"expected a due date as '2026-12-01 18:00 Europe/Berlin' in c.LateRule.due, found {due[assignment]!r}"
            )
        with api.gradebook as book:
            book.update_or_create_assignment(assignment, duedate=moment)


def plain(text, most=200):
    """At most so many characters, none of which a terminal or a spreadsheet would obey."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def autograded(course, assignment, student):
    """The notebook of a student as nbgrader has marked it, or None."""
    path = course / "autograded" / student / assignment / f"{assignment}.ipynb"
    return nbformat.read(path, as_version=4) if path.exists() else None


def read_record(course, assignment, student):
    """What `grading` has kept of marking a submission: `marked`, `seconds`, `note`; empty where it was not marked."""
    with suppress(OSError, ValueError):
        return json.loads((course / "marked" / assignment / f"{student}.json").read_text(encoding="utf-8"))
    return {}


def collected_note(course, assignment, student):
    """What `--collect` noted of a submission, as a sentence; empty where there is nothing."""
    with (
        suppress(FileNotFoundError),
        (course / f"collected-{assignment}.csv").open(newline="", encoding="utf-8") as file,
    ):
        note = next((row["note"] or "" for row in csv.DictReader(file) if row["student"] == student), "")
        return f"When it was collected: {note}." if note else ""
    return ""


def forget_marks(api, assignment, student):
    """A submission that could not be marked has no marks, whatever an earlier one had."""
    with api.gradebook as book:
        book.update_or_create_student(student)
        for notebook in book.update_or_create_submission(assignment, student).notebooks:
            notebook.late_submission_penalty = None
            for found in notebook.grades:
                found.auto_score, found.needs_manual_grade = None, False
        book.db.commit()


def read_exercises(course, assignment):
    """The graded cells of an assignment, as `{"check-3-1": points}`."""
    released = nbformat.read(course / "release" / assignment / f"{assignment}.ipynb", as_version=4)
    cells = (cell.metadata.get("nbgrader", {}) for cell in released.cells)
    return {cell["grade_id"]: cell["points"] for cell in cells if cell.get("grade")}


def read_student(api, book, course, assignment, student):
    """One student's row of an assignment, with the gradebook that is open.

    Keys: `student`; `marks`, points by the id of the graded cell, empty where nothing was graded; `score`, what is
    left of them after the `penalty`, or None; `handed_in`, a time in UTC; `seconds`; `note`.
    """
    row = {"student": student, "marks": {}, "score": None, "penalty": None, "handed_in": "", "seconds": None}
    folder = course / "submitted" / student / assignment
    if not folder.is_dir():
        return row | {"note": "handed in nothing"}
    with suppress(ValueError, OverflowError):
        moment = api.coursedir.get_existing_timestamp(str(folder))
        row["handed_in"] = f"{moment:%Y-%m-%d %H:%M} UTC" if moment else ""
    record = read_record(course, assignment, student)
    row |= {"seconds": record.get("seconds"), "note": record.get("note", "not marked yet")}
    if record.get("marked"):
        with suppress(MissingEntry):
            notebook = book.find_submission_notebook(assignment, assignment, student)
            row["marks"] = {found.name: found.score for found in notebook.grades}
            row["penalty"] = notebook.late_submission_penalty or 0.0
            row["score"] = notebook.score - row["penalty"]
            if late := math.ceil(notebook.assignment.total_seconds_late / DAY):
                cost = f"each costs {LateRule(parent=api).per_day:.0%} of the points"
                row["note"] = f"{late} {'day' if late == 1 else 'days'} late; {cost}. {row['note']}".strip()
    return row


def charge_late_work(api, course, assignment, student):
    """Where the rule for late work has changed since a submission was marked: its new penalty, and its page anew."""
    if not read_record(course, assignment, student).get("marked"):
        return
    with api.gradebook as book, suppress(MissingEntry):
        notebook = book.find_submission_notebook(assignment, assignment, student)
        late = notebook.assignment.total_seconds_late
        penalty = LateRule(parent=api).late_submission_penalty(student, notebook.score, late) if late else None
        if penalty == notebook.late_submission_penalty:
            return
        notebook.late_submission_penalty = penalty
        book.db.commit()
    api.generate_feedback(assignment, student, force=True)


def read_class(api, course, assignment, students=None):
    """The rows of all students, those of the roster and those who handed something in, by name; or of `students`.

    Each also says what can be had, `of`.
    """
    if students is None:
        students = {path.parent.name for path in course.glob(f"submitted/*/{assignment}") if path.is_dir()}
        students = sorted(students | set(read_roster(course)), key=str.casefold)
    most = {"of": sum(read_exercises(course, assignment).values())}
    with api.gradebook as book:
        return [read_student(api, book, course, assignment, student) | most for student in students]


def read_roster(course):
    """The students of the roster, as their folders are called or would be; empty where there is no roster."""
    if not (course / "roster.csv").exists():
        return []
    from . import collecting

    people = collecting.read_roster(course / "roster.csv")
    owners = [(path.name, collecting.person(people, path.name)) for path in course.glob("submitted/*")]
    return [next((name for name, who in owners if who is one), collecting.safe(one["name"])) for one in people]


def write_table(path, header, rows):
    """Write a CSV file."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def shown(number):
    """Points in a table; empty where there are none."""
    return "" if number is None else f"{number:g}"


def write_marks(course, assignment, rows, exercises):
    """Write the points of each exercise, `marks-ASSIGNMENT.csv`."""
    end = ["total", "of", "late penalty", "handed in", "seconds", "note"]
    table = []
    for row in rows:
        marks = [shown(row["marks"].get(name)) for name in exercises]
        table.append([plain(row["student"]), *marks, shown(row["score"]), shown(row["of"]), shown(row["penalty"])])
        table[-1] += [row["handed_in"], shown(row["seconds"]), row["note"]]
    write_table(course / f"marks-{assignment}.csv", ["student", *exercises, *end], table)


def write_grades(api, course):
    """Write one row per student and five columns per assignment that somebody has handed in, `grades.csv`."""
    assignments = sorted(
        {path.name for path in course.glob("submitted/*/*") if (course / "release" / path.name).is_dir()}
    )
    classes = [{row["student"]: row for row in read_class(api, course, name)} for name in assignments]
    header = ["student"]
    for name in assignments:
        header += [f"{name} {column}" for column in ("score", "max", "late penalty", "handed in", "note")]
    table = []
    for student in sorted(set().union(*classes), key=str.casefold):
        table.append([plain(student)])
        for rows in classes:
            row = rows.get(student) or {"score": None, "of": None, "penalty": None, "handed_in": "", "note": ""}
            table[-1] += [shown(row["score"]), shown(row["of"]), shown(row["penalty"]), row["handed_in"], row["note"]]
    write_table(course / "grades.csv", header, table)


def read_answers(notebook):
    """What the judge said of each graded cell, by its id, and the code of each exercise's answer, by its number."""
    judged, answers = {}, {}
    for cell in notebook.cells:
        name = grade_id(cell)
        if name.startswith("check-"):
            judged[name] = cell.metadata.get("vit_tutorial", {})
        elif name.startswith("answer-"):
            answers[number_of(name)] = f"{answers.get(number_of(name), '')}\n{cell.source}"
    return judged, answers


def tally(exercises, judged):
    """One dict per exercise: how many `passed`, `tried` in vain and did `not_attempted`, and which `mistakes`."""
    table = []
    for name, points in exercises.items():
        found = [cells[name] for cells in judged.values() if name in cells]
        passed = sum(bool(cell.get("passed")) for cell in found)
        idle = sum(not cell.get("passed") and not cell.get("attempted", True) for cell in found)
        names = Counter(plain(str(mistake), 60) for cell in found for mistake in cell.get("mistakes", []))
        table.append({"exercise": number_of(name), "points": points, "passed": passed, "not_attempted": idle})
        table[-1] |= {"tried": len(found) - passed - idle, "mistakes": names.most_common()}
    return table


def normal_form(statement):
    """A statement as text, the same for whoever calls things otherwise: names made in it are numbered.

    Docstrings and annotations are left out. Also returns how many syntax nodes it has.
    """
    names = {}
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
            names.setdefault(node.name, f"name{len(names)}")
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
            names.setdefault(node.arg, f"name{len(names)}")
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            made = node.id if isinstance(node, ast.Name) else node.attr
            names.setdefault(made, f"name{len(names)}")
    nodes = list(ast.walk(statement))
    for node in nodes:
        for field in ("id", "attr", "arg", "name"):
            if getattr(node, field, None) in names and not isinstance(node, ast.keyword):
                setattr(node, field, names[getattr(node, field)])
    return ast.dump(statement), len(nodes)


def normal_forms(source):
    """The `normal_form` of each function, class and assignment in a cell's code; empty where it is not Python."""
    kinds = ast.FunctionDef | ast.ClassDef | ast.Assign
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return [normal_form(node) for node in ast.parse(source).body if isinstance(node, kinds)]
    return []


def course_forms(assignment):
    """The normal forms of the code that the course itself shows in a notebook, its solutions among them."""
    path = ROOT / "notebooks" / f"{assignment}.ipynb"
    cells = nbformat.read(path, as_version=4).cells if path.exists() else []
    return {form for cell in cells if cell.cell_type == "code" for form, _ in normal_forms(cell.source)}


def alike(exercises, answers, known):
    """Hard exercises in which answers agree but for names and comments: `(exercise, students)`.

    What is `known` from the course counts for nothing, nor does what is shorter than `LONG`.
    """
    found = []
    for number in (number_of(name) for name, points in exercises.items() if points >= HARD):
        groups = {}
        for student, sources in answers.items():
            own = [form for form in normal_forms(sources.get(number, "")) if form[0] not in known]
            if sum(nodes for _, nodes in own) >= LONG:
                groups.setdefault(tuple(text for text, _ in own), []).append(student)
        found += [(number, students) for students in groups.values() if len(students) > 1]
    return found


def write_report(course, assignment, rows, exercises):
    """Write `mistakes-ASSIGNMENT.csv` and the page `report-ASSIGNMENT.html`."""
    judged, answers = {}, {}
    for student in (row["student"] for row in rows if row["marks"]):
        if notebook := autograded(course, assignment, student):
            judged[student], answers[student] = read_answers(notebook)
    table = tally(exercises, judged)
    columns = ["exercise", "points", "passed", "tried", "not_attempted"]
    lines = []
    for line in table:
        mistakes = plain("; ".join(f"{name} ({count})" for name, count in line["mistakes"]), 2000)
        lines.append([*(line[column] for column in columns), mistakes])
    write_table(course / f"mistakes-{assignment}.csv", [*columns, "mistakes"], lines)
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("report/index.html.j2")
    text = page.render(
        assignment=assignment,
        rows=rows,
        table=table,
        again=sorted((line for line in table if line["passed"] < len(judged)), key=lambda line: line["passed"]),
        alike=alike(exercises, answers, course_forms(assignment)),
    )
    with atomic_path(course / f"report-{assignment}.html") as path:
        path.write_text(text, encoding="utf-8")


def names_to_give_back(course, assignment):
    """`{student: where the platform expects what is given back}`, from what `--collect` noted."""
    names, path = {}, course / f"collected-{assignment}.csv"
    with suppress(FileNotFoundError), path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            parts = [
                part for part in PurePosixPath((row.get("file") or "").replace("\\", "/")).parts if part.strip("./\\")
            ]
            if parts:  # Moodle's and plain folders; a flat name is Canvas's
                start = parts[0] if len(parts) > 1 else ""
                names[row["student"]] = (
                    f"{start}/{assignment}.html" if start else f"{PurePosixPath(parts[0]).stem}.html"
                )
    return names


def write_pages(course, assignment, rows):
    """Write `feedback-ASSIGNMENT.zip`, each student's page under the name in which the platform handed it out."""
    names = names_to_give_back(course, assignment)
    with (
        atomic_path(course / f"feedback-{assignment}.zip") as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for student in (row["student"] for row in rows):
            page = course / "feedback" / student / assignment / f"{assignment}.html"
            if page.exists():
                archive.write(page, names.get(student, f"{student}/{assignment}.html"))


def write_all(api, course, assignment):
    """Write all tables and pages of an assignment, and `grades.csv`; returns the rows of the class.

    They are: `marks-`, `mistakes-`, `report-` and `feedback-ASSIGNMENT`.
    """
    for path in course.glob(f"marked/{assignment}/*.json"):
        charge_late_work(api, course, assignment, path.stem)
    rows, exercises = read_class(api, course, assignment), read_exercises(course, assignment)
    write_marks(course, assignment, rows, exercises)
    write_report(course, assignment, rows, exercises)
    write_pages(course, assignment, rows)
    write_grades(api, course)
    return rows
