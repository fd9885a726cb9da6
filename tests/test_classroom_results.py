"""What comes after marking, on made-up marks: no kernel runs here."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_classroom_grading import NAME, short_course

if not importlib.util.find_spec("nbgrader"):
    pytest.skip("needs nbgrader: pip install -e '.[classroom]'", allow_module_level=True)

from vit_tutorial.classroom import feedback, grading, results, sandbox

EVIL = "<script src='https://elsewhere.example/x.js'></script>"
LONG_ANSWER = """
def split(x, H):
    '''{0}'''
    {1}, N, D = x.shape
    parts = []
    for {2} in range(H):
        parts.append(x[:, :, {2} * D // H : ({2} + 1) * D // H])  # {0}
    return torch.stack(parts, dim=1)
"""


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "nbgrader"
    grading.make_course({NAME: short_course()}, folder)
    return folder


@pytest.fixture
def course(handed_out, tmp_path, monkeypatch):
    """A course with an assignment that is handed out, and no sandbox asked for."""
    monkeypatch.setattr(sandbox, "trouble", lambda: None)
    return Path(shutil.copytree(handed_out, tmp_path / "nbgrader"))


class Page(HTMLParser):
    """The tags of a page, and what it loads or runs."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.active = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("script", "link", "iframe", "object", "embed", "base", "svg", "form"):
            self.active.append(tag)
        for name, value in attributes:
            kept = name == "href" and value.startswith("#") or name == "src" and value.startswith("data:image/")
            if name.startswith("on") or name in ("src", "href", "style", "srcset", "data", "action") and not kept:
                self.active.append(f"{name}={value}")


def hand_in(course, student, when=None, text="{}"):
    folder = course / "submitted" / student / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.ipynb").write_text(text)
    if when:
        (folder / "timestamp.txt").write_text(when)


def mark(course, student, points, verdicts, answer="", note="", when=None):
    """Hand in and mark, as nbgrader and the judge do."""
    hand_in(course, student, when)
    notebook = nbformat.read(course / "release" / NAME / f"{NAME}.ipynb", as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if name in points:
            cell.metadata["vit_tutorial"] = {"message": EVIL} | verdicts[name]
        if name == "answer-98-2-1":
            cell.source = answer
    nbformat.write(notebook, autograded(course, student))
    grading.write_record(course, NAME, student, {"marked": "x", "seconds": 2.5, "note": note})
    with grading.nbgrader_api(course).gradebook as book:
        book.update_or_create_student(student)
        submission = book.update_or_create_submission(NAME, student, timestamp=when)
        for grade in submission.notebooks[0].grades:
            grade.auto_score = points[grade.name]
        book.db.commit()


def autograded(course, student):
    path = course / "autograded" / student / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


PASSED = {"passed": True, "mistakes": [], "attempted": True}
IDLE = {"passed": False, "mistakes": [], "attempted": False}


def wrong(*mistakes):
    return {"passed": False, "mistakes": list(mistakes), "attempted": True}


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_and_report(course):
    ada = {"check-98-1": 1, "check-98-2": 3}, {"check-98-1": PASSED, "check-98-2": PASSED}
    pat = {"check-98-1": 0, "check-98-2": 3}, {"check-98-1": wrong("divided by 256"), "check-98-2": PASSED}
    lee = {"check-98-1": 0, "check-98-2": 0}, {"check-98-1": wrong("divided by 256", EVIL), "check-98-2": IDLE}
    mark(course, "=Ada", *ada, LONG_ANSWER.format("one", "B", "h"))
    mark(course, "O'Brien, Pat", *pat, LONG_ANSWER.format("two", "batch", "head"), note=f"seen {EVIL}")
    mark(course, "Lee", *lee, "def split(x, H):\n    return ...")
    hand_in(course, "late")
    rows = results.write_all(grading.nbgrader_api(course), course, NAME)
    assert [row["student"] for row in rows] == ["=Ada", "late", "Lee", "O'Brien, Pat"]

    marks = {row["student"]: row for row in table(course / f"marks-{NAME}.csv")}
    assert set(marks) == {"'=Ada", "late", "Lee", "O'Brien, Pat"} and None not in marks["O'Brien, Pat"]
    assert (marks["Lee"]["total"], marks["late"]["total"], marks["O'Brien, Pat"]["check-98-2"]) == ("0", "", "3")
    assert marks["late"]["note"] == "not marked yet"
    grades = {row["student"]: row for row in table(course / "grades.csv")}
    assert grades["O'Brien, Pat"][f"{NAME} score"] == "3" and grades["late"][f"{NAME} score"] == ""

    first, second = table(course / f"mistakes-{NAME}.csv")
    assert first["mistakes"].startswith("divided by 256 (2); ")
    assert [first[name] for name in ("exercise", "passed", "tried", "not_attempted")] == ["98.1", "1", "2", "0"]
    assert [second[name] for name in ("exercise", "passed", "tried", "not_attempted")] == ["98.2", "2", "0", "1"]

    page = (course / f"report-{NAME}.html").read_text()
    assert not Page(page).active and page.count("&lt;script") == 2 and 'lang="en"' in page
    assert re.search(r"<li>Exercise 98.1: 1 of 3 passed; most often: divided by 256 \(2\)", page)
    assert "Exercise 98.2: =Ada, O&#39;Brien, Pat" in page and "no proof" in page


@pytest.mark.parametrize(
    ("change", "agree"),
    [
        (lambda text: text, True),
        (lambda text: text.replace("parts", "pieces").replace("x", "tokens"), True),
        (lambda text: text.replace("dim=1", "dim=2"), False),
        (lambda text: text + "\nimport os\nprint(split)", True),
        (lambda text: "def split(x, H:", False),
    ],
)
def test_answers_are_compared_without_their_names(change, agree):
    exercises, first = {"check-98-2": 3}, LONG_ANSWER.format("", "B", "h")
    answers = {"a": {"98.2": first}, "b": {"98.2": change(first)}}
    assert bool(results.alike(exercises, answers, set())) == agree


def test_the_courses_own_answers_and_short_ones_say_nothing():
    text = LONG_ANSWER.format("", "B", "h")
    both = {"a": {"98.2": text}, "b": {"98.2": text}}
    assert results.alike({"check-98-2": 3}, both, set())
    assert not results.alike({"check-98-2": 2}, both, set())
    assert not results.alike({"check-98-2": 3}, both, {form for form, _ in results.normal_forms(text)})
    short = {"98.2": "def split(x, H):\n    return x.unflatten(2, (H, -1)).transpose(1, 2)"}
    assert not results.alike({"check-98-2": 3}, {"a": short, "b": short}, set())
    known = results.course_forms("03_attention")
    solution = nbformat.read(results.ROOT / "notebooks" / "03_attention.ipynb", as_version=4).cells[-1].source
    assert all(form in known for form, _ in results.normal_forms(solution))


def rule(course, text):
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.LateRule.due = {text}\n")


def test_late_work_costs_what_the_rule_says(course):
    full = {"check-98-1": 1, "check-98-2": 3}, {"check-98-1": PASSED, "check-98-2": PASSED}
    mark(course, "late", *full, when="2026-12-03 09:00:00 UTC")
    mark(course, "in time", *full, when="2026-12-01 16:59:00 UTC")
    results.write_all(grading.nbgrader_api(course), course, NAME)
    assert {row["total"] for row in table(course / f"marks-{NAME}.csv")} == {"4"}
    rule(course, {NAME: "2026-12-01 18:00 Europe/Berlin"})  # 17:00 UTC; the page of "late" is written anew
    api = grading.nbgrader_api(course)
    results.set_due(api, NAME)
    results.write_all(api, course, NAME)
    in_time, late = table(course / f"marks-{NAME}.csv")
    assert (in_time["total"], in_time["late penalty"], in_time["note"]) == ("4", "0", "")
    assert (late["total"], late["late penalty"], late["note"]) == (
        "3.2",
        "0.8",
        "2 days late; each costs 10% of the points.",
    )
    assert late["handed in"] == "2026-12-03 09:00 UTC"
    page = (course / "feedback" / "late" / NAME / f"{NAME}.html").read_text()
    assert "3.2 of 4 points" in page and "0.8 taken off" in page


@pytest.mark.parametrize(
    "due", [{NAME: "2026-12-01"}, {NAME: "2026-12-01 18:00 Mars/Base"}, {"98": "2026-12-01 18:00 UTC"}, {NAME: 5}]
)
def test_a_due_date_that_is_none_is_refused(course, due):
    rule(course, due)
    with pytest.raises(ValueError, match=r"expected .* c.LateRule.due.*, found"):
        results.set_due(grading.nbgrader_api(course), NAME)


def test_pages_go_back_under_the_platforms_names(course):
    with (course / f"collected-{NAME}.csv").open("w") as file:
        file.write(
            "student,file,when,note\n"
            "Ada,Ada L_123_assignsubmission_file_/98.ipynb,,\n"
            "Pat,brienpat_1_22_98.ipynb,,\n"
            "Lee,../../evil/98.ipynb,,\n"
        )
    rows = [{"student": name} for name in ("Ada", "Pat", "Lee", "Kim", "None")]
    for student in ("Ada", "Pat", "Lee", "Kim"):
        path = course / "feedback" / student / NAME / f"{NAME}.html"
        path.parent.mkdir(parents=True)
        path.write_text(student)
    results.write_pages(course, NAME, rows)
    with zipfile.ZipFile(course / f"feedback-{NAME}.zip") as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert found == {
        f"Ada L_123_assignsubmission_file_/{NAME}.html": "Ada",
        "brienpat_1_22_98.html": "Pat",
        f"evil/{NAME}.html": "Lee",
        f"Kim/{NAME}.html": "Kim",
    }


def test_a_page_of_feedback_loads_and_runs_nothing():
    graded = {"grade": True, "grade_id": "check-98-2", "points": 2, "score": 1.0}
    outputs = [new_output("display_data", {"text/html": EVIL, "text/plain": EVIL, "image/svg+xml": EVIL})]
    code = new_code_cell("check.mix(mixed)", outputs=outputs)
    code.metadata = {"nbgrader": graded, "vit_tutorial": {"message": EVIL}}
    markdown = f"{EVIL} ![a cat](https://elsewhere.example/cat.png) $\\frac{{1}}{{2}}$ <b onclick='x()'>b</b>"
    markdown += " [far](javascript:x()) <details><summary>Hint</summary>x</details></main></html>"
    notebook = new_notebook(cells=[new_markdown_cell(markdown), new_markdown_cell("no formula: $\\frac$"), code])
    notebook.metadata = {"title": EVIL, "vit_tutorial": {"notes": [EVIL]}, "widgets": {"x": EVIL}}
    marks = {"score": 1.0, "max_score": 2.0, "late_penalty": 0.0}
    page, _ = feedback.FeedbackPage().from_notebook_node(notebook, {"metadata": {"name": NAME}, "nbgrader": marks})
    found = Page(page)
    assert not found.active and "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page and {"mfrac", "summary"} <= found.tags
    assert re.search(r'<a href="#check-98-2">Exercise 98.2</a>\s*\(1 of 2\)', page) and 'id="check-98-2"' in page
    assert page.count("&lt;script") == 3 and page.count("</main>") == 1


def pretend(monkeypatch, interrupted=False):
    """Marking that runs no kernel; or somebody presses Ctrl-C while it runs."""

    def mark_one(api, course, assignment, student, pipe):
        os.setpgid(0, 0)
        if interrupted:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(60)
        if student.startswith("bad"):
            told = {"marked": None, "note": "expected a notebook, found an empty file"}
        else:
            told = {"marked": grading.fingerprint(course, assignment, student), "note": ""}
            autograded(course, student).write_text("{}")
        pipe.send_bytes(json.dumps(told).encode())

    monkeypatch.setattr(grading, "mark_one", mark_one)
    monkeypatch.setattr(results, "write_report", lambda *_: None)


def run(course, **options):
    """Which students one run of `grade` marks."""
    told = []
    grading.grade(course, NAME, 2, tell=lambda row, number, of: told.append((row["student"], number, of)), **options)
    assert [number for _, number, _ in told] == list(range(1, len(told) + 1))
    assert {of for _, _, of in told} <= {len(told)}
    return {student for student, _, _ in told}


def test_only_what_is_new_or_changed_is_marked(course, monkeypatch):
    pretend(monkeypatch)
    for student in ("a", "b", "bad"):
        hand_in(course, student)
    assert run(course) == {"a", "b", "bad"}
    assert run(course) == {"bad"}  # what could not be marked is tried again
    assert "found an empty file" in (course / "feedback" / "bad" / NAME / f"{NAME}.html").read_text()
    (course / "submitted" / "a" / NAME / "more.txt").write_text("changed")
    hand_in(course, "c")
    assert run(course) == {"a", "c", "bad"}
    assert run(course, only=["b"]) == {"b"} and run(course, again=True) == {"a", "b", "c", "bad"}
    released = course / "release" / NAME / f"{NAME}.ipynb"
    released.write_text(released.read_text() + "\n")
    assert run(course) == {"a", "b", "c", "bad"}
    with pytest.raises(ValueError, match=r"found 'Bd'; the nearest: 'bad'"):
        run(course, only=["Bd"])


def test_ctrl_c_keeps_what_was_marked(course, monkeypatch):
    pretend(monkeypatch)
    hand_in(course, "a")
    run(course)
    hand_in(course, "b")
    pretend(monkeypatch, interrupted=True)
    started = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs do not have
    try:
        with pytest.raises(KeyboardInterrupt):
            run(course)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 30
    notes = {row["student"]: row["note"] for row in table(course / f"marks-{NAME}.csv")}
    assert notes == {"a": "", "b": "not marked yet"}
    pretend(monkeypatch)
    assert run(course) == {"b"}


def test_who_handed_in_nothing_has_no_marks_and_a_note(course):
    (course / "roster.csv").write_text("Last name,First name\nPark,Lee\nKim,Zoe\n")
    mark(course, "Lee Park", {"check-98-1": 0, "check-98-2": 0}, {"check-98-1": IDLE, "check-98-2": IDLE})
    results.write_all(grading.nbgrader_api(course), course, NAME)
    lee, zoe = table(course / "grades.csv")
    assert (lee["student"], lee[f"{NAME} score"]) == ("Lee Park", "0")
    assert (zoe["student"], zoe[f"{NAME} score"], zoe[f"{NAME} note"]) == ("Zoe Kim", "", "handed in nothing")


def test_what_collecting_noted_is_told_once(course):
    empty = "expected a notebook, found an empty file; hand in the .ipynb file that Jupyter saved"
    noted = {"Ann": "no notebook was handed in", "Bob": empty}
    results.write_table(course / f"collected-{NAME}.csv", ["student", "note"], noted.items())
    hand_in(course, "Ann", text="%PDF")
    hand_in(course, "Bob", text="")
    ann, bob = grading.grade(course, NAME, 1)
    assert ann["note"].startswith("When it was collected: no notebook was handed in. Expected a notebook, found a file")
    assert bob["note"] == f"When it was collected: {empty}."
    for row in (ann, bob):
        assert row["note"] in (course / "feedback" / row["student"] / NAME / f"{NAME}.html").read_text()
