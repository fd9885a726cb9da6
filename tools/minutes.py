"""How long a new reader needs for each notebook, computed from its source.

    python tools/minutes.py          minutes: before the mark to stop, after it, and of what goes further
    python tools/minutes.py --cells  and which cells they come from, running sum first
    python tools/minutes.py --write  put the minutes into README.md and TEACHING.md, and there beside each note

Words at 200 a minute; a line of code 5 s, in a cell that draws a figure 2 s; an explorer or a prediction (a text cell
tagged `predict`) 2 minutes; the stated minutes of each exercise. Hints, formulas, references and solutions do not
count. A text cell tagged `stop` is the mark. *Going further*, up to the summary, is not part of the core.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools" / "build"))

EXERCISE = re.compile(r"^\*.*?(\d+) minutes?\*$", re.MULTILINE)
ASIDE = re.compile(r"<details>.*?</details>|```.*?```|\$\$.*?\$\$", re.DOTALL)
FIGURE = re.compile(r"\bplots\.|\bplt\.|\bax\b|\baxes\b")
COURSE_ROW = re.compile(  # of README.md's table: number, title, file name, minutes, aim
    r"^\| (\d\d) \| \[(.+?)\]\(notebooks/(\w+)\.ipynb\) \| (\d+(?: \+ \d+)?) \| (.+) \|$", re.MULTILINE
)
LESSON = 70  # minutes of work in a lesson of 90: the rest is for the start, questions and talk
EXPLORER = re.compile(r"\bwidgets\.[A-Z]\w+\(")
HEADING = re.compile(r"^(###?) (.+)$", re.MULTILINE)
# In TEACHING.md: what is said of one notebook, a row of its notes, and a section that may be cut.
PART = re.compile(r"^### (\d\d) · .*?(?=^##)", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"^\| \d+ \| (.+?) \|", re.MULTILINE)
CUT = re.compile(r"\*([A-Z][^*]*)(\*\s\()\d+(\smin\))")


def minutes_of(cell):
    """The minutes of one cell."""
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "markdown":
        words = len(ASIDE.sub("", cell.source).split())
        return words / 200 + sum(map(int, EXERCISE.findall(cell.source))) + 2 * ("predict" in tags)
    if {"solution", "setup", "exercise"} & set(tags):
        return 0.0
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
    return len(lines) * (2 if FIGURE.search(cell.source) else 5) / 60 + 2 * bool(EXPLORER.search(cell.source))


def minutes(cells):
    """`(before the stop, after it, going further)` in minutes; the second is 0 without a stop."""
    parts, place = [0.0, 0.0, 0.0], 0
    stopped = 0
    for cell in cells:
        heading = cell.source.partition("\n")[0] if cell.cell_type == "markdown" else ""
        if heading in ("## References", "## Solutions"):
            break
        if "stop" in cell.metadata.get("tags", []):
            stopped = place = 1
        if heading.startswith("## "):
            place = 2 if heading == "## Going further" else stopped
        parts[place] += minutes_of(cell)
    return tuple(parts)


def stated(cells):
    """What a notebook states, in words."""
    first, second, _ = minutes(cells)
    return f"{first:.0f} + {second:.0f}" if second else f"{first:.0f}"


def longest_without_exercise(cells):
    """The longest stretch of the core, in minutes, that has no exercise and no explorer or prediction to act on."""
    longest = stretch = 0.0
    for cell in cells:
        heading = cell.source.partition("\n")[0] if cell.cell_type == "markdown" else ""
        if heading in ("## Going further", "## Summary", "## References", "## Solutions"):
            break
        if cell.cell_type == "markdown" and EXERCISE.search(cell.source):
            stretch = 0.0
        else:
            stretch += minutes_of(cell)
            longest = max(longest, stretch)
    return longest


def lesson(first, second):
    """How a notebook's core, in minutes, fits lessons of 90."""
    if round(first) + round(second) <= LESSON:
        return "whole"
    if second and max(first, second) <= LESSON:
        return "one part; the other in a second lesson, or at home"
    return "more than one lesson, with no marked place to stop"


def readme(text, found):
    """README.md with the minutes that `course` found in its table, and the numbers of notebooks and exercises."""
    text = re.sub(r"In \d+ notebooks", f"In {len(found)} notebooks", text)
    text = re.sub(r"Each of the \d+ exercises", f"Each of the {exercises()} exercises", text)
    row = re.compile(r"^(\| (\d\d) \| \[[^]]*\]\([^)]*\) \| )[^|]*( \|)", re.MULTILINE)
    return row.sub(lambda match: f"{match[1]}{found[match[2]][1]}{match[3]}", text)


def teaching(text, found):
    """TEACHING.md with the minutes that `course` found in its headings, its table of lessons and its weeks."""

    def sum_of(numbers):
        return sum(int(part) for number in numbers.split(", ") for part in found[number][1].split(" + "))

    heading = re.compile(r"^(### (\d\d) · .*) \([^)]* minutes\)$", re.MULTILINE)
    text = heading.sub(lambda match: f"{match[1]} ({found[match[2]][1]} minutes)", text)
    week = re.compile(r"^(\| \d+ \| ((?:\d\d(?:, )?)+) \| )\d+( \|)", re.MULTILINE)
    text = week.sub(lambda match: f"{match[1]}{sum_of(match[2])}{match[3]}", text)
    rows = ["| | notebook | core | going further | in a lesson of 90 minutes |", "|---|---|---|---|---|"]
    rows += [f"| {number} | {' | '.join(columns)} |" for number, columns in found.items()]
    table = re.compile(r"(<!-- tools/minutes.py --write -->\n\n).*?(?=\n\n)", re.DOTALL)
    return table.sub(lambda match: match[1] + "\n".join(rows), text)


def places(cells):
    """`{heading: minutes of what stands above it}`, with "Stop" for the place to stop."""
    found, so_far = {}, 0.0
    for cell in cells:
        if "stop" in cell.metadata.get("tags", []):
            found["Stop"] = so_far
        if cell.cell_type == "markdown":
            for heading in HEADING.finditer(cell.source):
                above = cell.source[: heading.start()]
                words, stated = ASIDE.sub("", above).split(), EXERCISE.findall(above)
                found.setdefault(heading[2], so_far + len(words) / 200 + sum(map(int, stated)))
        so_far += minutes_of(cell)
    return found


def notes(text, notebooks):
    """A guide with the minute at which each note's heading is reached and the minutes that each cut saves.

    `notebooks` holds the cells of each, by number. Raises KeyError for a heading that the notebook does not have.
    """

    def written(part):
        cells = notebooks[part[1]]
        minute = places(cells)
        sections = [heading[2] for cell in cells for heading in HEADING.finditer(cell.source) if heading[1] == "##"]

        def saved(cut):
            name = " ".join(cut[1].split())
            after = sections[sections.index(name) + 1]
            return f"*{cut[1]}{cut[2]}{minute[after] - minute[name]:.0f}{cut[3]}"

        return CUT.sub(saved, NOTE.sub(lambda note: f"| {minute[note[1]]:.0f} | {note[1]} |", part[0]))

    return PART.sub(written, text)


def exercises():
    """How many exercises the course has."""
    from notebooks import find_sources

    texts = (source.read_text(encoding="utf-8") for source in find_sources([]))
    return sum(len(re.findall(r"^# ### Exercise \d", text, re.MULTILINE)) for text in texts)


def every_notebook():
    """`{number: cells}` of every source."""
    from notebooks import find_sources, read_source

    return {source.stem[:2]: read_source(source).cells for source in find_sources([])}


def course():
    """`{number: (title, minutes of the core, of what goes further, how it fits a lesson)}` of every notebook."""
    found = {}
    for number, cells in every_notebook().items():
        first, second, further = minutes(cells)
        title = re.match(r"# \d\d · (.*)", cells[0].source)[1]
        found[number] = title, stated(cells), f"{further:.0f}", lesson(first, second)
    return found


def main():
    from notebooks import find_sources, read_source

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--cells", action="store_true", help="each cell with the minutes so far")
    parser.add_argument("--write", action="store_true", help="put the minutes into README.md and TEACHING.md")
    options = parser.parse_args()
    if options.write:
        found = course()
        for name, written in (("README.md", readme), ("TEACHING.md", teaching)):
            text = written((ROOT / name).read_text(encoding="utf-8"), found)
            (ROOT / name).write_text(notes(text, every_notebook()), encoding="utf-8", newline="\n")
        return
    print(f"{'notebook':26}{'core':>9}{'further':>9}{'without an exercise':>21}")
    for source in find_sources(options.prefixes):
        cells, so_far = read_source(source).cells, 0.0
        print(f"{source.stem:26}{stated(cells):>9}{minutes(cells)[2]:9.0f}{longest_without_exercise(cells):21.0f}")
        for number, cell in enumerate(cells if options.cells else ()):
            so_far += minutes_of(cell)
            print(f"{so_far:7.1f}  {number:3} {cell.source.strip().splitlines()[0][:90]}")


if __name__ == "__main__":
    main()
