"""The editions of a notebook: for students, solved, slides, hand-outs, and the source of an nbgrader assignment."""

import copy
import re
from pathlib import Path

import nbformat

from .exercises import SOLUTION_TAG, find_exercises, solutions_start, tags

STATIC = Path(__file__).resolve().parent / "static"
PREDICT = re.compile(r"\*\*Predict\b", re.IGNORECASE)
HINTS = re.compile(r"<details[^>]*>.*?</details>\s*", re.DOTALL)
FORMULA = re.compile(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<![\\$])\$(?=\S)([^$]+?)(?<=\S)\$(?!\d)", re.DOTALL)
BADGE = re.compile(r"\[!\[Open in Colab\][^\n]*\n*")
ROOM, PICTURE = 16, 11  # lines of text on a slide, and those whose place a picture takes


def student(notebook):
    """Without solutions, and without outputs: what is still to be found stands in none of them."""
    edition = copy.deepcopy(notebook)
    edition.cells = [cell for cell in edition.cells[: solutions_start(edition)] if SOLUTION_TAG not in tags(cell)]
    for cell in edition.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return edition


def solved(notebook):
    """As the course's own, with outputs and with the solutions at its end open instead of folded."""
    edition = copy.deepcopy(notebook)
    for cell in edition.cells:
        cell.metadata.pop("jupyter", None)
    return edition


def assignment(notebook):
    """The source of an nbgrader assignment: stubs to fill in, and locked checks that give points, with hidden tests.

    Each exercise's points are those of its difficulty (`exercises.POINTS`). The solutions stay out: nbgrader would copy
    a source's other cells to everybody.
    """
    edition = student(notebook)
    for exercise in find_exercises(edition):
        name = exercise.number.replace(".", "-")
        for part, index in enumerate(exercise.stubs, start=1):
            edition.cells[index].metadata["nbgrader"] = nbgrader_cell(f"answer-{name}-{part}", solution=True)
        cell = edition.cells[exercise.check]
        answers = ", ".join(f"{check}=lambda: {answer}" for check, answer in exercise.answers)
        cell.source = (
            f"{cell.source}\n### BEGIN HIDDEN TESTS\nfrom vit_tutorial.classroom.marks import mark\n\n"
            f"mark({exercise.points}, {answers})\n### END HIDDEN TESTS"
        )
        cell.metadata["nbgrader"] = nbgrader_cell(f"check-{name}", points=exercise.points)
    return edition


def nbgrader_cell(grade_id, solution=False, points=None):
    """The metadata by which nbgrader knows a cell to fill in (`solution`) or one that gives points."""
    graded = points is not None
    flags = {"grade": graded, "locked": graded, "solution": solution, "task": False}
    return {"grade_id": grade_id, "schema_version": 3} | flags | ({"points": points} if graded else {})


def hide_answers(notebook):
    """Leave out, in place, outputs that answer what the text still asks.

    These are all that follow an exercise up to the next section, and the first after a "Predict before you run".
    """
    stubs = {index for exercise in find_exercises(notebook) for index in exercise.stubs}
    hidden, asked = False, False
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            hidden = hidden and not re.search(r"^## ", cell.source, re.MULTILINE)
            asked = asked or bool(PREDICT.search(cell.source))
        elif cell.cell_type == "code":
            hidden = hidden or index in stubs
            if hidden or asked:
                cell.outputs = []
            asked = False


def formulas(text):
    """Formulas between dollar signs as MathML, which a browser draws without a library from another host."""
    from latex2mathml.converter import convert

    def draw(match):
        code, block, inline = match.groups()
        return code or convert(block or inline, display="block" if block else "inline")

    return FORMULA.sub(draw, text)


def for_paper(notebook):
    """A copy without solutions, answers, badge and set-up cell, its formulas as MathML, hints open."""
    edition = copy.deepcopy(notebook)
    given = edition.cells[: solutions_start(edition)]
    edition.cells = [cell for cell in given if not {SOLUTION_TAG, "setup"} & set(tags(cell))]
    hide_answers(edition)
    for cell in edition.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas(BADGE.sub("", cell.source)).replace("<details>", "<details open>")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:  # an explorer's picture, not its page, which needs a kernel
                for kind in [kind for kind in data if kind not in ("image/png", "text/plain")]:
                    del data[kind]
    return edition


def picture(cell):
    """Whether a cell shows a picture."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def height(cell):
    """About how many lines of a slide a cell takes."""
    if cell.cell_type == "markdown":  # a line of the source has up to 120 characters, one of the slide about 80
        return sum(1 + len(block) // 80 for block in re.split(r"\n\n|\n(?=[-|] )", cell.source))
    code = 0 if "hide-code" in tags(cell) else len(cell.source.splitlines())
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return code + (PICTURE if picture(cell) else sum(len(text.splitlines()) for text in texts))


def lay_out(notebook):
    """Put cells on slides, in place: a section starts a slide, what belongs to it follows below.

    A heading of level 3, and what would not fit any more, starts the next slide below. The references, the hints and
    the code that loads packages or draws a picture are left out.
    """
    used = 0
    for cell in notebook.cells:
        code, heading = cell.cell_type == "code", re.match(r"(#+) (.*)", cell.source)
        loads = code and cell.source.startswith("import")
        if not code:
            cell.source = HINTS.sub("", cell.source)
        elif loads or picture(cell):
            cell.metadata["tags"] = [*tags(cell), "hide-code"]
        lines, place = height(cell), "-"
        if heading and heading[2] == "References" or loads and not cell.outputs:
            place = "skip"
        elif heading and len(heading[1]) <= 2:
            place = "slide"
        elif heading or used + lines > ROOM:
            place = "subslide"
        used = lines + (used if place in ("-", "skip") else 0)
        cell.metadata["slideshow"] = {"slide_type": place}


def page(notebook, title, slides):
    """The notebook as one HTML page, a str: a reveal.js deck, or a hand-out to print."""
    from nbconvert import HTMLExporter, SlidesExporter
    from traitlets.config import Config

    config = Config()
    config.TagRemovePreprocessor.remove_input_tags = {"hide-code"}
    config.TagRemovePreprocessor.enabled = True
    config.TemplateExporter.extra_template_basedirs = [str(STATIC / "templates")]
    config.HTMLExporter.exclude_input_prompt = config.HTMLExporter.exclude_output_prompt = True
    config.HTMLExporter.exclude_anchor_links = True
    exporter = (SlidesExporter if slides else HTMLExporter)(
        config=config, template_name="deck" if slides else "handout"
    )
    if slides:
        exporter.reveal_url_prefix, exporter.reveal_theme = "reveal", "course"
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return text


def slides(notebook, title):
    """The deck of a notebook, HTML that needs the folder `reveal` beside it and nothing else."""
    edition = for_paper(notebook)
    lay_out(edition)
    return page(edition, title, slides=True)


def handout(notebook, title):
    """The hand-out of a notebook: one HTML page without scripts, laid out for printing on A4 or Letter."""
    return page(for_paper(notebook), title, slides=False)


def write(notebook, path):
    """Write a notebook, its own kernel and cell ids kept."""
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
