"""The rules of the house for notebooks: each rule over each notebook, and a planted fault for each rule.

A rule takes a notebook and returns its complaints, one line each, with the number of the cell (from 0).
"""

import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks
from vit_tutorial import check

NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))
MEDIAN_LINES, MOST_LINES = 8, 40  # of a code cell
MOST_WORDS = 110  # of a block of prose
MOST_BYTES = 500_000  # of a notebook
EXERCISES = 5  # in each notebook but 00
KINDS = {"predict", "write", "repair", "experiment", "stretch"}  # each of them in each notebook but 00

SECTIONS = ("Exercises", "Summary", "What comes next", "References", "Solutions")  # the last headings of level 2
FURTHER = "Going further"  # what can be left out, between the first and the second of them

FENCE = re.compile(r"```.*?```|\$\$.*?\$\$|`[^`]+`|\$[^$\n]+\$", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]*)[^)]*\)")
CHECKED = re.compile(r"^assert\b.*\bcheck\.\w+\(", re.MULTILINE)
CHECK = re.compile(r"check\.(\w+)\((?:[^()]|\([^()]*\))*\)")
EXERCISE = re.compile(r"^### Exercise (\d+\.\d+) · (?=\S)", re.MULTILINE)
KIND = re.compile(r"^\*(\w+) · (?:easy|medium|hard) · \d+ minutes?\*$", re.MULTILINE)
FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)
HEADING = re.compile(r"^(#+)\s+(.*)$", re.MULTILINE)
# Whoever finds it hard reads these as a reproach. "*write · easy · 3 minutes*" under an exercise's title may stay.
BELITTLING = re.compile(r"\b(simply|just|obviously|easy|easily|trivial|trivially)\b(?! · )", re.IGNORECASE)
NETWORK = re.compile(
    r"^\s*[%!]\s*(?:pip|conda|wget|curl)\b|\bimport requests\b|\brequests\.get\b|\burl(?:open|retrieve)\b"
    r"|\bhf_hub_download\b|\bload_state_dict_from_url\b|\bfrom_pretrained\b|\bWeights\.DEFAULT\b"
    r"|\b(?:download|pretrained)\s*=\s*True",
    re.MULTILINE,
)
UNREADABLE_COLOURS = re.compile(r"cmap\s*=\s*[\"'](jet|rainbow|gist_rainbow|hsv|RdYlGn|PiYG|prism|turbo)(_r)?[\"']")
MANY_DECIMALS = re.compile(r"\d\.\d{5,}")


def numbered(notebook, kind):
    return [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == kind]


def tags(cell):
    return cell.metadata.get("tags", [])


def tagged(notebook, tag):
    return [number for number, cell in numbered(notebook, "code") if tag in tags(cell)]


def outputs(notebook):
    return [(number, output) for number, cell in numbered(notebook, "code") for output in cell.outputs]


def headings(notebook):
    """(cell, level, text) of each heading; code fences do not count."""
    return [
        (number, len(match[1]), match[2])
        for number, cell in numbered(notebook, "markdown")
        for match in HEADING.finditer(FENCE.sub("", cell.source))
    ]


def section(notebook, name):
    """The number of the first cell with this heading of level 2, or None."""
    return next((number for number, level, text in headings(notebook) if (level, text) == (2, name)), None)


def exercises(notebook):
    """{"3.2": (its text, its code cells)}: from its heading to the cell that checks it."""
    found, number = {}, None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            _, *parts = EXERCISE.split(cell.source)
            if parts:
                number = parts[-2]
            if number:
                text, code = found.get(number, ("", []))
                found[number] = (text + (parts[-1] if parts else cell.source), code)
        elif number:
            found[number][1].append(cell)
            if CHECK.match(cell.source):
                number = None
    return found


# --------------------------------------------------------------------------------------------- the rules


def code_cells_are_short(notebook):
    lengths = {number: len(cell.source.splitlines()) for number, cell in numbered(notebook, "code")}
    found = [f"cell {n}: {lines} lines, at most {MOST_LINES}" for n, lines in lengths.items() if lines > MOST_LINES]
    if lengths and (median := statistics.median(lengths.values())) > MEDIAN_LINES:
        found.append(f"the median code cell has {median:g} lines, at most {MEDIAN_LINES}")
    return found


def prose_is_in_short_blocks(notebook):
    """A block is what a text cell shows at once; a folded hint is a block of its own.

    Headings, tables, formulas on their own, code and the addresses of links do not count, nor does the list of
    references.
    """
    found = []
    references = section(notebook, "References")
    for number, cell in numbered(notebook, "markdown"):
        prose = re.sub(r"```.*?```|\$\$.*?\$\$|^(#|\|).*?$", "", cell.source, flags=re.DOTALL | re.MULTILINE)
        for block in [re.sub(FOLDED, "", prose), *re.findall(FOLDED, prose)]:
            words = re.findall(r"\S*\w\S*", re.sub(r"<[^>]+>", " ", LINK.sub(r"\2", block)))
            if len(words) > MOST_WORDS and number != references:
                found.append(f"cell {number}: {len(words)} words in one block, at most {MOST_WORDS}")
    return found


def prose_does_not_belittle(notebook):
    return [
        f"cell {number}: {match[0]!r} tells the reader what is easy"
        for number, cell in numbered(notebook, "markdown")
        for match in BELITTLING.finditer(LINK.sub(r"\2", FENCE.sub("", cell.source)))
    ]


def prose_keeps_its_voice_down(notebook):
    return [
        f"cell {number}: an exclamation mark"
        for number, cell in numbered(notebook, "markdown")
        if re.search(r"\w!(?=\s|$|\*)", FENCE.sub("", cell.source))
    ]


def numbers_are_written(notebook):
    return [
        f"cell {number}: a value that the build did not write, {match[0]}"
        for number, cell in numbered(notebook, "markdown")
        for match in re.finditer(r"\{=.{0,30}", cell.source)
    ]


def images_are_our_own(notebook):
    found = []
    for number, cell in numbered(notebook, "markdown"):
        if re.search(r"!\[[^\]]*\]\(\s*(https?:)?//|<img[^>]*\bsrc\s*=\s*[\"']?(https?:)?//", cell.source):
            found.append(f"cell {number}: loads a picture from another host")
        if re.search(r"!\[\s*\]\(|<img(?![^>]*\balt\s*=\s*[\"'][^\"'])[^>]*>", cell.source):
            found.append(f"cell {number}: a picture without alternative text")
    for number, output in outputs(notebook):
        html = output.get("data", {}).get("text/html", "")
        if re.search(r"\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//", html):
            found.append(f"cell {number}: its output loads something from another host")
    return found


def figures_have_alternative_text(notebook):
    found = []
    for number, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                found.append(f"cell {number}: {kind} without alternative text; use plots.show(figure, alt)")
            if kind == "image/svg+xml":
                found.append(f"cell {number}: an SVG, which nbval cannot compare; show a PNG")
    return found


def colours_are_readable_by_all(notebook):
    return [
        f"cell {number}: colour map {match[1]!r}; take viridis or cividis"
        for number, cell in numbered(notebook, "code")
        for match in UNREADABLE_COLOURS.finditer(cell.source)
    ]


def file_is_small(notebook):
    size = len(json.dumps(notebook, indent=1, ensure_ascii=False).encode())
    return [f"{size} bytes, at most {MOST_BYTES}"] if size > MOST_BYTES else []


def opens_with_title_and_colab(notebook):
    first = notebook.cells[0]
    found = []
    if first.cell_type != "markdown" or not re.match(r"# \S", first.source):
        found.append("cell 0: expected a markdown cell that starts with '# Title'")
    if "[Open in Colab]" not in first.source:
        found.append("cell 0: expected a badge, [![Open in Colab](...)]({colab}) in the source")
    if titles := [number for number, level, _ in headings(notebook)[1:] if level == 1]:
        found.append(f"cells {titles}: a second title; use ## and deeper")
    return found


def says_what_it_gives_and_costs(notebook):
    title, opening = notebook.cells[0].source, "\n".join(cell.source for cell in notebook.cells[:2])
    found = []
    if not 3 <= len(re.findall(r"^- ", title.partition("**After this notebook you can**")[2], re.MULTILINE)) <= 5:
        found.append("cell 0: expected '**After this notebook you can**' and a list of three to five things")
    if "minutes" not in opening:
        found.append("cell 0: expected how many minutes it takes")
    return found


def has_a_course_map(notebook):
    written = [cell for cell in notebook.cells if "setup" not in tags(cell)]
    opening = "\n".join(cell.source + str(cell.get("outputs", "")) for cell in written[:6])
    found = re.search("course.(show_)?map", opening, re.IGNORECASE)
    return [] if found else ["expected a course map within the first six cells"]


def sections_are_in_order(notebook):
    found = [text for _, level, text in headings(notebook) if level == 2]
    expected = [SECTIONS[0], *[FURTHER] * (FURTHER in found), *SECTIONS[1:]]
    if (last := found[-len(expected) :]) != expected:
        return [f"expected the notebook to end with the headings {expected}, found {last}"]
    return []


def has_enough_exercises(notebook):
    count = len(tagged(notebook, "exercise"))
    if count < EXERCISES and not notebook.name.startswith("00"):
        return [f"{count} cells are tagged 'exercise', at least {EXERCISES}"]
    return []


def exercises_are_of_all_kinds(notebook):
    found = {match[1] for text, _ in exercises(notebook).values() for match in KIND.finditer(text)}
    return (
        [] if notebook.name.startswith("00") or found == KINDS else [f"kinds {sorted(found)}, expected all of {KINDS}"]
    )


def exercises_are_complete(notebook):
    """Numbered from 1; kind, difficulty, minutes and a folded hint; a stub; a check alone in its cell; a solution."""
    found, here = [], exercises(notebook)
    expected = [f"{int(notebook.name[:2])}.{n}" for n in range(1, len(here) + 1)]
    if sorted(here, key=lambda number: int(number.partition(".")[2])) != expected:
        found.append(f"exercises {list(here)}, expected the numbers {expected}")
    solved = {text.split()[1] for _, level, text in headings(notebook) if level == 3 and text.startswith("Solution ")}
    for number, (text, code) in here.items():
        for what, there in {
            "a line such as *write · easy · 3 minutes*": len(KIND.findall(text)) == 1,
            "a hint behind a fold": "<details><summary>Hint" in text,
            "a cell tagged 'exercise'": any("exercise" in tags(cell) for cell in code),
            "check.NAME(answer), alone in a cell": code and CHECK.fullmatch(code[-1].source),
            f"the heading '### Solution {number}'": number in solved,
        }.items():
            if not there:
                found.append(f"exercise {number}: expected {what}")
    return found


def exercises_have_solutions(notebook):
    exercises, solutions = tagged(notebook, "exercise"), tagged(notebook, "solution")
    found = []
    if len(solutions) < len(exercises):
        found.append(f"{len(exercises)} cells are tagged 'exercise', {len(solutions)} 'solution'")
    if sum(bool(CHECKED.search(notebook.cells[number].source)) for number in solutions) < len(exercises):
        found.append("each exercise's solution is put to its check: assert check.NAME(solution).passed")
    start = section(notebook, "Solutions")
    for number, _ in numbered(notebook, "code"):
        if (number in solutions) != (start is not None and number > start):
            found.append(
                f"cell {number}: solutions, and nothing else, stand under 'Solutions' and are tagged 'solution'"
            )
    return found


def solutions_are_folded(notebook):
    return [
        f"cell {number}: a solution in plain sight"
        for number in tagged(notebook, "solution")
        if not notebook.cells[number].metadata.get("jupyter", {}).get("source_hidden")
    ]


def unrepeatable_output_is_asserted(notebook):
    """nbval does not look at these outputs, so the cell or the next code cell asserts what must hold."""
    code = numbered(notebook, "code")
    following = [cell for _, cell in code[1:]] + [None]
    return [
        f"cell {number}: tagged 'nbval-ignore-output', but neither it nor the next code cell asserts anything"
        for (number, cell), after in zip(code, following, strict=True)
        if "nbval-ignore-output" in tags(cell)
        and not any(re.search(r"^\s*assert\b", c.source, re.MULTILINE) for c in (cell, after) if c is not None)
    ]


def nothing_escapes_the_test(notebook):
    return [
        f"cell {number}: tag {tag!r} would hide it from nbval"
        for number, cell in numbered(notebook, "code")
        for tag in tags(cell)
        if tag in ("nbval-skip", "skip-execution", "raises-exception", "nbval-raises-exception")
    ]


def output_repeats(notebook):
    found = []
    for number, cell in numbered(notebook, "code"):
        if cell.source.rstrip().endswith(";"):
            found.append(f"cell {number}: ends in ';', which hides its output from nbval")
        if "nbval-ignore-output" in tags(cell):
            continue
        for output in cell.outputs:
            if match := MANY_DECIMALS.search(notebooks.output_text(output)):
                found.append(
                    f"cell {number}: prints {match[0]}; the last digits differ between machines, print at most 4"
                )
    return found


def output_is_clean(notebook):
    return notebooks.faults(notebook)


def no_network(notebook):
    return [
        f"cell {number}: {match[0].strip()!r} reaches for the network"
        for number, cell in numbered(notebook, "code")
        if "setup" not in tags(cell)  # the build writes that cell, not the author
        for match in NETWORK.finditer(cell.source)
    ]


def links_lead_somewhere(notebook):
    return [
        f"cell {number}: {target} does not exist"
        for number, cell in numbered(notebook, "markdown")
        for _, _, target in LINK.findall(FENCE.sub("", cell.source))
        if not re.match(r"[a-z]+:|#", target) and not (notebooks.NOTEBOOKS / target.split("#")[0]).exists()
    ]


RULES = (
    code_cells_are_short,
    prose_is_in_short_blocks,
    prose_does_not_belittle,
    prose_keeps_its_voice_down,
    numbers_are_written,
    images_are_our_own,
    figures_have_alternative_text,
    colours_are_readable_by_all,
    file_is_small,
    opens_with_title_and_colab,
    says_what_it_gives_and_costs,
    has_a_course_map,
    sections_are_in_order,
    has_enough_exercises,
    exercises_are_of_all_kinds,
    exercises_are_complete,
    exercises_have_solutions,
    solutions_are_folded,
    unrepeatable_output_is_asserted,
    nothing_escapes_the_test,
    output_repeats,
    output_is_clean,
    no_network,
    links_lead_somewhere,
)


# --------------------------------------------------------------------------------------------- the notebooks


def read(path):
    notebook = nbformat.read(path, as_version=4)
    notebook.name = path.name
    return notebook


def test_there_are_notebooks():
    assert NOTEBOOKS, "expected notebooks/NN_name.ipynb, found none; run make notebooks"
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02}_" for number in range(len(NOTEBOOKS))]


def test_each_notebook_has_its_source_and_each_source_its_notebook():
    sources = {path.stem for path in notebooks.SOURCES.glob("*.py")}
    assert sources == {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_agrees_with_its_source(path):
    assert notebooks.check(notebooks.SOURCES / f"{path.stem}.py") == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checks_are_those_of_the_notebook_in_its_order(path):
    """So that the map of what has passed, which follows the package, shows the exercises as the reader meets them."""
    notebook = read(path)
    asked = [match[1] for _, cell in numbered(notebook, "code") if "solution" not in tags(cell)
             for match in re.finditer(r"^ *check\.(\w+)\(", cell.source, re.MULTILINE)]  # fmt: skip
    assert [name for name in asked if name in check.EXERCISES] == check.TOPICS[int(path.name[:2])].__all__


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_rule(path, rule):
    complaints = rule(read(path))
    assert not complaints, f"{path.name}\n  " + "\n  ".join(complaints)


# --------------------------------------------------------------------------------------------- the rules themselves


def good():
    """A small notebook that keeps every rule."""
    picture = new_output("display_data", {"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": "A cat in patches"}})
    cells = [
        new_markdown_cell(
            "# 01 · Attention\n[Open in Colab](https://colab.research.google.com/github/a/b)\n\n"
            "**After this notebook you can**\n- mix\n- weigh\n- draw\n\nAbout 20 minutes."
        ),
        new_markdown_cell("## Who looks at whom?\nWatch the cat."),
        new_code_cell("course.show_map(1)"),
        new_code_cell("1 + 1", outputs=[new_output("execute_result", {"text/plain": "2"})]),
        new_code_cell("show(figure, 'A cat in patches')", outputs=[picture]),
        new_code_cell("time()\nassert seconds < 9", metadata={"tags": ["nbval-ignore-output"]}),
        new_markdown_cell("## Exercises"),
        *(
            cell
            for number, kind in enumerate(sorted(KINDS), start=1)
            for cell in (
                new_markdown_cell(
                    f"### Exercise 1.{number} · Mix\n*{kind} · easy · 3 minutes*\n\nMix.\n"
                    "<details><summary>Hint</summary>Stir.</details>"
                ),
                new_code_cell("answer = ...", metadata={"tags": ["exercise"]}),
                new_code_cell("check.mix(answer)"),
            )
        ),
        new_markdown_cell("## Summary"),
        new_markdown_cell("## What comes next"),
        new_markdown_cell("## References\n" + "word " * 200),
        new_markdown_cell("## Solutions" + "".join(f"\n### Solution 1.{n}" for n in range(1, EXERCISES + 1))),
        *(
            new_code_cell(
                "assert check.mix(2).passed", metadata={"tags": ["solution"], "jupyter": {"source_hidden": True}}
            )
            for _ in range(EXERCISES)
        ),
    ]
    notebook = new_notebook(cells=cells)
    for count, (_, cell) in enumerate(numbered(notebook, "code"), start=1):
        cell.execution_count = count
    notebook.name = "01_attention.ipynb"
    return notebook


def text(cell, addition):
    def change(notebook):
        notebook.cells[cell].source += addition

    return change


def source(cell, replacement):
    def change(notebook):
        notebook.cells[cell].source = replacement

    return change


def output(cell, *arguments, **options):
    def change(notebook):
        notebook.cells[cell].outputs = [new_output(*arguments, **options)]

    return change


def tag(cell, name):
    def change(notebook):
        notebook.cells[cell].metadata = {"tags": [name]}

    return change


def drop(cell):
    def change(notebook):
        del notebook.cells[cell]

    return change


def swap(a, b):
    def change(notebook):
        notebook.cells[a].source, notebook.cells[b].source = notebook.cells[b].source, notebook.cells[a].source

    return change


def untag_exercise(notebook):
    notebook.cells[8].metadata = {}


def uncounted(notebook):
    notebook.cells[4].execution_count = None


def long_median(notebook):
    for _, cell in numbered(notebook, "code"):
        cell.source += "\n# more" * 9


FAULTS = [
    (code_cells_are_short, text(3, "\n1" * 41)),
    (code_cells_are_short, long_median),
    (prose_is_in_short_blocks, text(1, " word" * 120)),
    (prose_is_in_short_blocks, text(1, "\n<details><summary>Hint</summary>" + " word" * 120 + "</details>")),
    (prose_does_not_belittle, text(1, "\nJust multiply.")),
    (prose_does_not_belittle, text(1, "\nThis is obviously so.")),
    (prose_keeps_its_voice_down, text(1, "\nLook at that!")),
    (numbers_are_written, text(1, "\nIt is {=found['{0}']:.2f}.")),
    (images_are_our_own, text(1, "\n![a cat](https://example.org/cat.png)")),
    (images_are_our_own, text(1, '\n<img src="//example.org/cat.png" alt="a cat">')),
    (images_are_our_own, text(1, "\n![](data:image/png;base64,aGVsbG8=)")),
    (images_are_our_own, text(1, '\n<img src="data:image/png;base64,aGVsbG8=">')),
    (images_are_our_own, output(3, "display_data", {"text/html": '<script src="https://example.org/a.js">'})),
    (figures_have_alternative_text, output(4, "display_data", {"image/png": "aGVsbG8="})),
    (figures_have_alternative_text, output(4, "display_data", {"image/svg+xml": "<svg/>"})),
    (colours_are_readable_by_all, text(4, "\nimshow(a, cmap='jet')")),
    (file_is_small, text(1, "\n| " + "x" * MOST_BYTES)),
    (opens_with_title_and_colab, source(0, "Attention")),
    (opens_with_title_and_colab, source(0, "# Attention")),
    (opens_with_title_and_colab, text(1, "\n# Another title")),
    (says_what_it_gives_and_costs, source(0, "# Attention\n**After this notebook you can**\n- mix\n\n20 minutes")),
    (says_what_it_gives_and_costs, source(0, "# Attention\n**After this notebook you can**\n- mix\n- weigh\n- draw")),
    (has_a_course_map, source(2, "plots.show()")),
    (sections_are_in_order, drop(22)),
    (sections_are_in_order, swap(22, 23)),
    (sections_are_in_order, text(25, "\n## Afterthought")),
    (sections_are_in_order, text(25, "\n## Going further")),
    (has_enough_exercises, untag_exercise),
    (exercises_are_of_all_kinds, source(7, "### Exercise 1.1 · Mix\n*write · easy · 3 minutes*")),
    (exercises_are_complete, source(7, "### Exercise 2.1 · Mix")),
    (exercises_are_complete, source(7, "### Exercise 1.1 · Mix\n<details><summary>Hint</summary></details>")),
    (exercises_are_complete, source(7, "### Exercise 1.1 · Mix\n*write · easy · 3 minutes*")),
    (exercises_are_complete, untag_exercise),
    (exercises_are_complete, source(9, "check.mix(answer)\ncheck.mix(2)")),
    (exercises_are_complete, text(25, "x")),
    (exercises_have_solutions, drop(-1)),
    (exercises_have_solutions, source(-1, "answer = 2")),
    (exercises_have_solutions, tag(3, "solution")),
    (exercises_have_solutions, tag(-1, "other")),
    (solutions_are_folded, tag(-1, "solution")),
    (unrepeatable_output_is_asserted, source(5, "time()")),
    (nothing_escapes_the_test, tag(3, "nbval-skip")),
    (output_repeats, text(3, ";")),
    (output_repeats, output(3, "stream", name="stdout", text="0.30000000000000004")),
    (output_is_clean, output(3, "stream", name="stderr", text="UserWarning")),
    (output_is_clean, output(3, "error", ename="ValueError", evalue="no", traceback=[])),
    (output_is_clean, output(3, "stream", name="stdout", text="<object at 0x7f0012345678>")),
    (output_is_clean, output(3, "stream", name="stdout", text=str(Path("/home") / "someone" / "course"))),
    (output_is_clean, uncounted),
    (no_network, source(3, "%pip install timm")),
    (no_network, text(3, "\nresnet(pretrained=True)")),
    (links_lead_somewhere, text(1, "\n[the next one](99_nowhere.ipynb)")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_notebook_keeps_the_rule(rule):
    assert rule(good()) == []


@pytest.mark.parametrize(("rule", "change"), FAULTS, ids=[f"{rule.__name__}-{n}" for n, (rule, _) in enumerate(FAULTS)])
def test_rule_notices_a_planted_fault(rule, change):
    notebook = good()
    change(notebook)
    assert rule(notebook), "the fault went unnoticed"


def test_every_rule_has_a_planted_fault():
    assert {rule for rule, _ in FAULTS} == set(RULES)
