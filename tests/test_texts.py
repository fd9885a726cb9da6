"""The texts besides the notebooks: what they count is counted again, what they name exists, and they are in English."""

import re
from pathlib import Path

import pytest

import notebooks
from vit_tutorial import course

minutes = notebooks.minutes  # tools/minutes.py
ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEACHING = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "tools" / "site" / "glossary.md").read_text(encoding="utf-8")
PROSE = ("README.md", "TEACHING.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md", "tools/hub/README.md")
READ = [ROOT / name for name in PROSE]
READ += [path for room in ("vit_tutorial", "tools") for path in sorted((ROOT / room).rglob("*.*"))]
READ = [path for path in READ if path.suffix in (".py", ".js", ".md", ".html") and "__pycache__" not in path.parts]
# Turns that are another language's, each found in these texts before.
TRANSLATED = re.compile(
    r"\b(?:answers? back|goes by|the world's weights|bad line|hand(?:s|ed)? (?:it |the \w+ )?round|one folder a class|"
    r"report a hole|broke off|breaks off|pictures are dear|thousand million|holds? for alike|lying pictures)",
    re.IGNORECASE,
)


def test_the_minutes_are_those_that_are_computed():
    found = minutes.course()
    for text, written in ((README, minutes.readme), (TEACHING, minutes.teaching)):
        assert written(text, found) == text, "run python tools/minutes.py --write"
    assert minutes.notes(TEACHING, minutes.every_notebook()) == TEACHING, "run python tools/minutes.py --write"
    assert TEACHING.count("<!-- tools/minutes.py --write -->\n\n| | notebook |") == 1


def test_minutes_are_written_where_they_stand():
    found = {"01": ("A", "39 + 37", "15", "one part"), "02": ("B", "21", "0", "whole")}
    row = "| 01 | [A](notebooks/01_a.ipynb) | {} | cut |\n"
    assert minutes.readme(row.format(5), found) == row.format("39 + 37")
    assert minutes.readme("Each of the 3 exercises has", found).split()[3] == str(minutes.exercises())
    assert minutes.readme("In 3 notebooks you", found) == "In 2 notebooks you"
    guide = "<!-- tools/minutes.py --write -->\n\n{}\n\n### 01 · A ({} minutes)\n\n| 1 | 01, 02 | {} | cut |\n"
    table = "| | notebook | core | going further | in a lesson of 90 minutes |\n|---|---|---|---|---|\n"
    table += "| 01 | A | 39 + 37 | 15 | one part |\n| 02 | B | 21 | 0 | whole |"
    assert minutes.teaching(guide.format("| old |", 1, 2), found) == guide.format(table, "39 + 37", 97)


def test_each_note_has_the_minute_of_its_heading_and_each_cut_what_it_saves():
    def text(source, *tags):
        return notebooks.nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})

    words = " ".join(["word"] * 396)
    cells = [text(f"# 01 · A\n{words}\n## One\n{words}\n### Exercise 1.1 · X\n*write · easy · 7 minutes*")]
    cells += [text("Enough.", "stop"), text("## Two"), text("## Going further")]
    reached = {"One": 2, "Exercise 1.1 · X": 4, "Stop": 11, "Two": 11, "Going further": 11}
    assert {name: round(minute) for name, minute in minutes.places(cells).items()} == reached
    guide = "### 01 · A (1 minutes)\n\nSkip *One* ({}\nmin).\n\n| {} | One | cut |\n| {} | Stop | cut |\n\n## B\n"
    assert minutes.notes(guide.format(0, 1, 2), {"01": cells}) == guide.format(9, 2, 11)
    with pytest.raises(KeyError, match="Three"):
        minutes.notes("### 01 · A\n\n| 1 | Three | cut |\n\n## B\n", {"01": cells})


def test_what_fits_a_lesson():
    assert minutes.lesson(59.6, 0) == minutes.lesson(35, 35) == "whole"
    assert minutes.lesson(48, 46).startswith("one part") and minutes.lesson(93, 0).startswith("more than one")


def test_the_readme_lists_every_notebook_and_the_site_finds_them_there():
    found = [source.stem for source in notebooks.find_sources([])]
    assert len(found) >= 13 and f"In {len(found)} notebooks" in README
    assert re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", README) == found
    assert [row[2] for row in minutes.COURSE_ROW.findall(README)] == found  # what website.course() reads
    assert re.search(r"Each of the \d+ exercises has a check", README)
    titles = [title for title, *_ in minutes.course().values()]
    assert list(course.TITLES) == [row[1] for row in minutes.COURSE_ROW.findall(README)] == titles


@pytest.mark.parametrize("name", ["README.md", "TEACHING.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md"])
def test_files_that_are_linked_or_named_exist(name):
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    programs = re.findall(r"\b(?:tools|vit_tutorial|tests)/[\w/]+\.(?:py|js|md|yml)\b", text)
    assert [program for program in programs if "NAME" not in program and not (ROOT / program).exists()] == []


def test_the_glossary_leads_to_headings_that_exist():
    slugs = {}
    for source in notebooks.find_sources([]):
        headings = re.findall(r"^# ##+ (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
        slugs[source.stem] = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"notebooks/(\w+)\.ipynb#([\w-]+)", GLOSSARY)
    assert len(links) > 30
    assert [f"{stem}#{slug}" for stem, slug in links if slug not in slugs[stem]] == []


def test_no_turn_of_another_language():
    found = []
    for path in READ:
        text = " ".join(path.read_text(encoding="utf-8").split())
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in TRANSLATED.finditer(text)]
    assert found == []
