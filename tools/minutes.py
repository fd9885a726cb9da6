"""How long a new reader needs for each notebook, computed from its source.

    python tools/minutes.py          minutes: before the mark to stop, after it, and of what goes further
    python tools/minutes.py --cells  and which cells they come from, running sum first

Words at 200 a minute; a line of code 5 s, in a cell that draws a figure 2 s; an explorer or a prediction (a text cell
tagged `predict`) 2 minutes; the stated minutes of each exercise. Hints, formulas, references and solutions do not
count. A text cell tagged `stop` is the mark. *Going further*, up to the summary, is not part of the core.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).with_name("build")))

EXERCISE = re.compile(r"^\*.*?(\d+) minutes?\*$", re.MULTILINE)
ASIDE = re.compile(r"<details>.*?</details>|```.*?```|\$\$.*?\$\$", re.DOTALL)
FIGURE = re.compile(r"\bplots\.|\bplt\.|\bax\b|\baxes\b")
EXPLORER = re.compile(r"\bwidgets\.[A-Z]\w+\(")


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


def main():
    from notebooks import find_sources, read_source

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--cells", action="store_true", help="each cell with the minutes so far")
    options = parser.parse_args()
    print(f"{'notebook':26}{'core':>9}{'further':>9}{'without an exercise':>21}")
    for source in find_sources(options.prefixes):
        cells, so_far = read_source(source).cells, 0.0
        print(f"{source.stem:26}{stated(cells):>9}{minutes(cells)[2]:9.0f}{longest_without_exercise(cells):21.0f}")
        for number, cell in enumerate(cells if options.cells else ()):
            so_far += minutes_of(cell)
            print(f"{so_far:7.1f}  {number:3} {cell.source.strip().splitlines()[0][:90]}")


if __name__ == "__main__":
    main()
