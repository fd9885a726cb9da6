"""What a class hands in, from platforms' archives, folders and zips in zips, arrives where grading finds it."""

import csv
import io
import json
import random
import stat
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook
from test_classroom_grading import NAME, SCALE
from test_classroom_repair import RELEASED, answered, stripped

from vit_tutorial.classroom import collecting

OTHER = "97_another_sheet"
DONE = nbformat.writes(answered()).encode()
LATER = nbformat.writes(answered(answers={"answer-98-1-1": SCALE})).encode()
BARE = json.dumps(stripped(answered())).encode()


@pytest.fixture
def course(tmp_path):
    other = new_notebook(cells=[new_markdown_cell("# 97 · Another\n\n### Exercise 97.1 · Else")])
    for name, notebook in ((NAME, RELEASED), (OTHER, other)):
        path = tmp_path / "nbgrader" / "release" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    return tmp_path / "nbgrader"


def packed(files):
    """A zip of `{name or ZipInfo: bytes}`."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def handed_in(course, files, roster=None, names=()):
    source = course.parent / "class.zip"
    source.write_bytes(packed(files))
    if roster:
        collecting.keep_roster(course, roster)
    return collecting.collect(course, source, names)


def students(course, name=NAME):
    return {path.parent.parent.name: path.read_bytes() for path in course.glob(f"submitted/*/{name}/{name}.ipynb")}


LAYOUTS = {
    "moodle": {
        "Jane Doe_123_assignsubmission_file_/x.ipynb": DONE,
        "Zoë O'Brien_124_assignsubmission_file_/homework (1).ipynb": BARE,
        "Jane Doe_123_assignsubmission_onlinetext_/onlinetext.html": b"<p>hello",
    },
    "moodle, flat": {
        "Jane Doe_123_assignsubmission_file_x.ipynb": DONE,
        "Zoë O'Brien_124_assignsubmission_file_98.ipynb": BARE,
        "Jane Doe_123_assignsubmission_onlinetext_onlinetext.html": b"<p>hello",
    },
    "folders": {"Jane Doe/x.ipynb": DONE, "Zoë O'Brien/98_two_exercises.ipynb": BARE},
    "folder in a folder": {"class 3b/Jane Doe/x.ipynb": DONE, "class 3b/Zoë O'Brien/deep/down/98.ipynb": BARE},
    "by assignment": {f"{NAME}/Jane Doe/x.ipynb": DONE, f"{NAME}/Zoë O'Brien.ipynb": BARE},
    "nbgrader": {f"submitted/{who}/{NAME}/{NAME}.ipynb": data for who, data in
                 {"Jane Doe": DONE, "Zoë O'Brien": BARE}.items()},
    "flat": {"Jane Doe.ipynb": DONE, f"{NAME}_Zoë O'Brien.ipynb": BARE},
    "zips": {
        "Jane Doe.zip": packed({f"{NAME}.ipynb.txt": DONE}),
        "Zoë O'Brien.zip": packed({"a/b.zip": packed({"98.ipynb": BARE})}),
    },
}  # fmt: skip
NOISE = {"__MACOSX/._x.ipynb": b"x", ".DS_Store": b"", "Jane Doe/.ipynb_checkpoints/x-checkpoint.ipynb": DONE}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(course, layout):
    result = handed_in(course, LAYOUTS[layout] | NOISE)
    assert students(course) == {"Jane Doe": DONE, "Zoë O'Brien": BARE}
    assert result.left == []
    with (course / f"collected-{NAME}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["student", "file", "when", "note"] and len(rows) == 2
    assert bool(rows[0]["when"]) == layout.startswith("moodle")
    assert len(list(course.glob("submitted/*/*/timestamp.txt"))) == (2 if layout.startswith("moodle") else 0)


def test_canvas_attempts_the_last_counts(course):
    names = ["doejane_123_456_01 work.ipynb", "doejane_LATE_123_457_01 work-1.ipynb"]
    result = handed_in(course, dict(zip(names, (DONE, LATER), strict=True)))
    assert students(course) == {"doejane": LATER}
    note = result.placed[NAME][0]["note"]
    assert "2 versions" in note and "late" in note and result.placed[NAME][0]["file"] == names[1]


def test_a_damaged_later_version_does_not_take_the_place_of_a_good_one(course):
    handed_in(course, {"doejane_1_2_x.ipynb": DONE, "doejane_1_3_x-1.ipynb": b""})
    assert students(course) == {"doejane": DONE}


def test_a_folder_is_collected_and_links_are_refused(course, tmp_path):
    folder = tmp_path / "class" / "Jane"
    folder.mkdir(parents=True)
    (folder / "x.ipynb").write_bytes(DONE)
    (folder / "link.ipynb").symlink_to("/etc/passwd")
    (folder / "all").symlink_to("/etc")
    result = collecting.collect(course, tmp_path / "class", [NAME])
    assert students(course) == {"Jane": DONE}
    assert {path.as_posix(): why for path, why in result.left} == dict.fromkeys(
        ["Jane/link.ipynb", "Jane/all"], "a link, which is refused"
    )


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_what_cannot_be_placed_is_named_and_stops_nothing(course):
    files = {
        "Jane/x.ipynb": DONE,
        "Tom/essay.pdf": b"%PDF",
        "Tom/empty.docx": b"",
        "Tom/other.ipynb": nbformat.writes(new_notebook()).encode(),
        "Tom/page.ipynb": b"<html>",
        "../up.ipynb": DONE,
        "/etc/x.ipynb": DONE,
        "C:/x.ipynb": DONE,
        link("Tom/link.ipynb"): b"/etc/passwd",
        "Tom/broken.zip": b"PK",
        "Tom/x.rar": b"Rar!",
        "Tom/large.ipynb": b" " * (51 << 20),
    }
    result = handed_in(course, files)
    assert students(course) == {"Jane": DONE}
    why = {path.name: why for path, why in result.left}
    assert len(result.left) == len(files) - 1
    assert "not a notebook" in why["essay.pdf"] and "empty" in why["empty.docx"] and "no exercise" in why["other.ipynb"]
    assert "a web page" in why["page.ipynb"] and "out of the archive" in why["up.ipynb"] and "link" in why["link.ipynb"]
    assert "no zip" in why["broken.zip"] and "another kind" in why["x.rar"] and "too large" in why["large.ipynb"]
    assert str(result).count("\n") == len(result.left) + 2
    assert {path.name for path in course.parent.iterdir()} == {"nbgrader", "class.zip"}


@pytest.mark.parametrize(("data", "why"), [(b"", "an empty file"), (b" " * (51 << 20), "too large")])
def test_what_cannot_be_read_is_still_its_students(course, data, why):
    result = handed_in(course, {"Tom/work.ipynb": data, "Jane/x.ipynb": DONE}, names=[NAME])
    assert students(course) == {"Tom": b"", "Jane": DONE} and why in result.placed[NAME][1]["note"]


def test_who_handed_in_something_else_did_not_hand_in_nothing(course, tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text("name\nAnn\nBob\nCem\nDan\nEve\nFay\nGus\nJane\n")
    other = (course / f"release/{OTHER}/{OTHER}.ipynb").read_bytes()
    moodle = {
        "Ann": ("file_/essay.pdf", b"%PDF", "not a notebook"),
        "Bob": ("file_/x.ipynb", other, "of 97_another_sheet"),
        "Cem": ("file_/work.zip", b"PK", "no zip"),
        "Dan": ("onlinetext_/onlinetext.html", b"<p>hello", "not a notebook"),
        "Eve": ("file_/work.rar", b"Rar!", "not a notebook"),
    }
    files = {f"{who}_{n}_assignsubmission_{name}": data for n, (who, (name, data, _)) in enumerate(moodle.items())}
    files |= {"Fay_9_assignsubmission_file_/a.ipynb": DONE, "Fay_9_assignsubmission_file_/b.pdf": b"%PDF"}
    result = handed_in(course, files, roster, [NAME])
    assert result.absent[NAME] == ["Gus", "Jane"] and not result.left
    notes = {row["student"]: row["note"] for row in result.placed[NAME]}
    assert list(notes) == [*moodle, "Fay"] and notes["Fay"] == ""
    assert all(why in notes[who] for who, (_, _, why) in moodle.items())
    assert students(course)["Ann"] == b"%PDF" and students(course)["Bob"] == other and students(course)["Cem"] == b""
    result = handed_in(course, {"Fay_9_assignsubmission_file_/x.pdf": b"%PDF", "Jane/x.pdf": b"%PDF"}, roster, [NAME])
    assert students(course)["Fay"] == DONE  # which nothing but a notebook replaces
    assert students(course)["Jane"] == b"%PDF" and [why for _, why in result.left] == ["not a notebook"]


def test_a_bomb_and_a_zip_of_itself_end(course, monkeypatch):
    monkeypatch.setitem(collecting.MOST_BYTES, "notebook", 1 << 20)
    bomb = packed({"Jane/x.ipynb": b"0" * (5 << 20)})
    for _ in range(8):
        bomb = packed({"y.zip": bomb})
    result = handed_in(course, {"Jane/y.zip": bomb, "Tom/x.ipynb": DONE, "Eve/x.ipynb": b"0" * (2 << 20)})
    assert students(course) == {"Tom": DONE}
    assert sorted(why.partition("(")[0].strip() for _, why in result.left) == [
        "a zip in more than 4 others",
        "too large",
    ]


def test_names_in_an_old_zip_are_utf8_or_cp437():
    for encoding in ("utf-8", "cp437"):
        info = zipfile.ZipInfo("x")
        info.filename, info.flag_bits = "Zoë".encode(encoding).decode("cp437"), 0
        assert collecting.entry_name(info) == "Zoë"


def test_an_encrypted_file_is_named(course):
    data = bytearray(packed({"Jane/x.ipynb": DONE}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    result = handed_in(course, {"class.zip": bytes(data)})
    assert "encrypted" in result.left[0][1] and not students(course)


def test_files_beside_the_notebook_go_along_but_no_time_of_their_own(course):
    files = {"Jane/x.ipynb": DONE, "Jane/helper.py": b"k = 255", "Jane/data/a.csv": b"1", "Jane/timestamp.txt": b"2000"}
    result = handed_in(course, files)
    folder = course / "submitted" / "Jane" / NAME
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {f"{NAME}.ipynb", "helper.py", "data/a.csv"} and len(result.left) == 1


def test_no_name_in_an_archive_does_harm(course):
    """Names made at random of what is special; whatever they say, nothing leaves the course's folder."""
    rng = random.Random(0)
    pieces = [
        "/",
        "..",
        "Jane",
        "a",
        "=1+1",
        "\\",
        "C:",
        ".",
        " ",
        "x.ipynb",
        ".zip",
        "\n",
        "'",
        "x" * 300,
        "_1_2_",
        "ü",
    ]
    for _ in range(40):
        names = {"".join(rng.choices(pieces, k=rng.randrange(1, 9))) for _ in range(15)}
        files = {name: rng.choice([DONE, b"", b"PK", b"x"]) for name in sorted(names)}
        files |= {"Jane/x.ipynb": DONE, "Jane/a": b"1", "Jane/a/b": b"2", f"Jane/{NAME}.ipynb/c": b"3"}
        str(handed_in(course, files))
    assert {path.name for path in course.parent.iterdir()} == {"nbgrader", "class.zip"}
    assert {path.name for path in course.iterdir()} <= {"release", "submitted", f"collected-{NAME}.csv"}
    assert all(path.parent.parent.parent.name == "submitted" for path in course.glob("submitted/**/*.ipynb"))


def test_collecting_again_replaces_only_what_differs(course):
    handed_in(course, {"Jane/x.ipynb": DONE, "Tom/x.ipynb": DONE, "Eve/x.ipynb": DONE})
    path = course / "submitted" / "Jane" / NAME / f"{NAME}.ipynb"
    before = path.stat()
    result = handed_in(course, {"Jane/x.ipynb": DONE, "Tom/x.ipynb": LATER})
    changes = {row["student"]: row["change"] for row in result.placed[NAME]}
    assert changes == {"Jane": "unchanged", "Tom": "replaces what was handed in before"}
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    assert students(course) == {"Jane": DONE, "Tom": LATER, "Eve": DONE}
    assert "replaces what was handed in before" in str(result)
    assert len((course / f"collected-{NAME}.csv").read_text().splitlines()) == 4


ROSTERS = {
    "moodle": "\ufeffFirst name,Last name,ID number,Email address\nJane,Doe,123,jd@x.org\nTom,Ng,5,tn@x.org\n",
    "canvas": 'Student,ID,SIS Login ID,Section\n"    Points Possible",,,\n"Doe, Jane",123,jdoe,A\n"Ng, Tom",5,tng,A\n',
    "excel": "Name;E-Mail\nJane Doe;jd@x.org\nTom Ng;tn@x.org\n",
}


@pytest.mark.parametrize("kind", ROSTERS)
@pytest.mark.parametrize("name", ["Jane Doe/x.ipynb", "doejane_123_4_x.ipynb", "3b/x_y/Jane Doe/x.ipynb"])
def test_the_roster_says_who_handed_in_nothing_and_who_is_unknown(course, tmp_path, kind, name):
    roster = tmp_path / "roster.csv"
    roster.write_text(ROSTERS[kind], encoding="utf-8")
    result = handed_in(course, {name: DONE, "Eve_9_assignsubmission_file_/x.ipynb": DONE}, roster=roster)
    assert [who.replace(",", "").split()[0] in ("Tom", "Ng") for who in result.absent[NAME]] == [True]
    assert result.unknown == ["Eve"] and (course / "roster.csv").is_file()
    assert "Handed in nothing (1)" in str(result) and "Not on the roster (1): Eve" in str(result)


def test_a_csv_that_is_no_roster_is_refused(course, tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected a roster with a column id, email or name, found"):
        handed_in(course, {"Jane/x.ipynb": DONE}, roster=tmp_path / "r.csv")


def test_two_students_of_one_name_get_two_folders(course):
    handed_in(course, {f"Jane Doe_{n}_assignsubmission_file_/x.ipynb": data for n, data in ((1, DONE), (2, LATER))})
    assert students(course) == {"Jane Doe 1": DONE, "Jane Doe 2": LATER}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("O'Brien, Pat", "O'Brien, Pat"),
        ("राम", "राम"),
        ("..", "student"),
        ("", "student"),
        ("a/b*\0", "a_b__"),
        (".x ", "x"),
    ],
)
def test_folders_are_safe(name, folder):
    assert collecting.safe(name) == folder


def test_bad_places_are_one_sentence(course, tmp_path):
    for source in (tmp_path / "none", course / f"release/{NAME}/{NAME}.ipynb"):
        with pytest.raises(ValueError, match="expected a folder or a zip"):
            collecting.collect(course, source)
    with pytest.raises(ValueError, match="expected released notebooks in"):
        collecting.collect(tmp_path, tmp_path)
