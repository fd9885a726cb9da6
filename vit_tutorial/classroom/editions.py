"""The editions of a notebook: for students, solved, slides, hand-outs, and the source of an nbgrader assignment."""

import copy
import importlib.util
import re
import shutil
from pathlib import Path

import nbformat

from .exercises import ANSWER_TAG, SOLUTION_TAG, find_exercises, solutions_start, tags

STATIC = Path(__file__).resolve().parent / "static"
PREDICT = re.compile(r"\*\*Predict\b", re.IGNORECASE)
HINTS = re.compile(r"<details[^>]*>.*?</details>\s*", re.DOTALL)
FORMULA = re.compile(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<![\\$])\$(?=\S)([^$]+?)(?<=\S)\$(?!\d)", re.DOTALL)
BADGE = re.compile(r"\[!\[Open in Colab\][^\n]*\n*")
POINTER = re.compile(r"\bsolutions?\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"((?<=[.!?])\s+|\n(?=[-*] ))")
NBGRADER = {"schema_version": 3, "grade": False, "locked": False, "solution": False, "task": False}
ROOM, PICTURE = 16, 11  # lines of text on a slide, and those whose place a picture takes


def without_pointers(text):
    """Markdown without the sentences that speak of solutions; code between fences stays as it is."""
    paragraphs = text.split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if POINTER.search(paragraph) and "```" not in paragraph:
            parts = SENTENCE_END.split(paragraph)  # a sentence, what follows it, the next sentence, ...
            kept = (a + b for a, b in zip(parts[::2], [*parts[1::2], ""], strict=True) if not POINTER.search(a))
            paragraphs[number] = "".join(kept).strip()
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def before_solutions(notebook, *left_out):
    """A copy of what stands before a notebook's solutions, without the cells that have one of the tags `left_out`.

    Its text does not speak of solutions, for whoever gets this copy has none.
    """
    edition = copy.deepcopy(notebook)
    cells = edition.cells[: solutions_start(edition)]
    edition.cells = []
    for cell in cells:
        if cell.cell_type == "markdown" and POINTER.search(cell.source):
            cell.source = without_pointers(cell.source)
        if cell.source and not {SOLUTION_TAG, *left_out} & set(tags(cell)):
            edition.cells.append(cell)
    return edition


def student(notebook):
    """Without solutions, and without outputs: what is still to be found stands in none of them."""
    edition = before_solutions(notebook)
    for cell in edition.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return edition


def solved(notebook):
    """As the course's own, with outputs and with the solutions at its end open instead of folded."""
    edition = copy.deepcopy(notebook)
    for cell in edition.cells:
        if SOLUTION_TAG in tags(cell):
            cell.metadata.pop("jupyter", None)
    return edition


def assignment(notebook):
    """The source of an nbgrader assignment: stubs to fill in, and locked checks that give points.

    Each exercise's points are those of its difficulty (`exercises.POINTS`). The solutions stay out: nbgrader would copy
    a source's other cells to everybody.
    """
    edition = student(notebook)
    for exercise in find_exercises(edition):
        name = exercise.number.replace(".", "-")
        for part, index in enumerate(exercise.stubs, start=1):
            stub = edition.cells[index]
            stub.metadata["nbgrader"] = NBGRADER | {"grade_id": f"answer-{name}-{part}", "solution": True}
        cell = edition.cells[exercise.check]
        graded = {"grade_id": f"check-{name}", "grade": True, "locked": True, "points": exercise.points}
        cell.metadata["nbgrader"] = NBGRADER | graded
    return edition


def formulas(text):
    """Formulas between dollar signs as MathML, which a browser draws without a library from another host."""
    from latex2mathml.converter import convert

    def draw(match):
        code, block, inline = match.groups()
        return code or convert(block or inline, display="block" if block else "inline")

    return FORMULA.sub(draw, text)


def for_paper(notebook):
    """A copy without solutions, badge and set-up cell, its formulas as MathML, hints open.

    Outputs that answer what the text still asks are left out: all that follow an exercise up to the next section, and
    the first after a "Predict before you run".
    """
    edition = before_solutions(notebook, "setup")
    hidden, asked = False, False
    for cell in edition.cells:
        if cell.cell_type == "markdown":
            hidden = hidden and not re.search(r"^## ", cell.source, re.MULTILINE)
            asked = asked or bool(PREDICT.search(cell.source))
            cell.source = formulas(BADGE.sub("", cell.source)).replace("<details>", "<details open>")
        elif cell.cell_type == "code":
            hidden = hidden or ANSWER_TAG in tags(cell)
            cell.outputs = [] if hidden or asked else cell.outputs
            asked = False
            for data in (output.data for output in cell.outputs if "image/png" in output.get("data", {})):
                for kind in set(data) - {"image/png", "text/plain"}:  # an explorer's page, which needs a kernel
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


def page(exporter, template, notebook, title):
    """A notebook that is ready `for_paper` as one HTML page, by an exporter class and a template of the course."""
    from traitlets.config import Config

    config = {
        "TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {"hide-code"}},
        "TemplateExporter": {"extra_template_basedirs": [str(STATIC / "templates")], "template_name": template},
        "HTMLExporter": {f"exclude_{part}": True for part in ("input_prompt", "output_prompt", "anchor_links")},
        "SlidesExporter": {"reveal_url_prefix": "reveal", "reveal_theme": "course"},
    }
    text, _ = exporter(config=Config(config)).from_notebook_node(notebook, {"metadata": {"name": title}})
    return text


def slides(notebook, title):
    """The deck of a notebook, HTML that needs the folder `reveal` beside it and nothing else."""
    from nbconvert import SlidesExporter

    edition = for_paper(notebook)
    lay_out(edition)
    return page(SlidesExporter, "deck", edition, title)


def handout(notebook, title):
    """The hand-out of a notebook: one HTML page without scripts, laid out for printing on A4 or Letter."""
    from nbconvert import HTMLExporter

    return page(HTMLExporter, "handout", for_paper(notebook), title)


def write(notebook, path):
    """Write a notebook, its own kernel and cell ids kept."""
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def write_all(notebooks, course, out):
    """Write the folders `student`, `solved`, `slides` and `handouts` of `{name: notebook}` to `out`."""
    for folder in ("slides", "handouts"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, notebook in notebooks.items():
        write(student(notebook), out / "student" / f"{name}.ipynb")
        write(solved(notebook), out / "solved" / f"{name}.ipynb")
        (out / "slides" / f"{name}.html").write_text(slides(notebook, name), encoding="utf-8", newline="\n")
        (out / "handouts" / f"{name}.html").write_text(handout(notebook, name), encoding="utf-8", newline="\n")
    for folder in ("student", "solved"):
        shutil.copytree(course / "notebooks" / "images", out / folder / "images", dirs_exist_ok=True)
    copy_reveal(out / "slides" / "reveal")


def copy_reveal(folder):
    """Copy what the slides load, reveal.js and the course's own theme, to `folder`."""
    package = Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    (folder / "dist" / "theme").mkdir(parents=True, exist_ok=True)
    for name in ("LICENSE", "dist/reveal.js", "dist/reveal.css"):
        shutil.copyfile(package / name, folder / name)
    shutil.copyfile(STATIC / "course.css", folder / "dist" / "theme" / "course.css")
