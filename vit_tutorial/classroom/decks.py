"""Slides and hand-outs: what a notebook says and asks, in short, without the answers to what it asks."""

import ast
import importlib.util
import re
import shutil
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .editions import BADGE, before_solutions
from .exercises import ANSWER_TAG, LINE, SOLUTION_TAG, solutions_start, tags

STATIC = Path(__file__).resolve().parent / "static"
PREDICT = re.compile(r"\*\*Predict before you run[.:]?\*\*[.:]?\s*")
HINTS = re.compile(r"<details[^>]*>.*?</details>\s*", re.DOTALL)
FORMULA = re.compile(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<![\\$])\$(?=\S)([^$]+?)(?<=\S)\$(?!\d)", re.DOTALL)
LINK = re.compile(r"\[([^\[\]]+)\]\((?!https?:)[^()\s]+\)")
HEADING = re.compile(r"(#+) (.*)")
BLOCK = re.compile(r"(^```.*?^```)|\n[ \t]*\n|^(#{1,6} [^\n]*)$", re.DOTALL | re.MULTILINE)
SENTENCE = re.compile(r"(?<=[.!?])(?<!al\.)(?<!Fig\.)\s+(?=[A-Z*`$(\"])")
LEANS = re.compile(r"(This|That|It|They|These|Those|So|Such|Each|Both|Its|Here|Then|But|And)\b")
LEFT_OUT = {"References", "What comes next", "Exercises"}
MOST, ROOMY, CODE = 25, 13, 22  # slides of a deck; lines on one in large type; lines of code on one
SIMPLE = (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)
COMPUTES = (ast.Call, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp)
PICTURE = 9  # lines whose place a picture takes
OPEN = 9  # a level below that of every heading
ALIKE = 0.65  # how alike two lines are that do the same
NO_NOTES = "What follows in the notebook answers the question."
CLOSING = "Can you now …"
CODE_HEADING = "## The code\n\nLines that an exercise asks for are left for you to fill in."
OWN_WORDS = "## In your own words\n\n"
ROOM = '<p class="room"></p>\n'


@dataclass
class Part:
    """What stands under one heading: pairs of a kind and a text or a cell, and an exercise's line."""

    level: int
    title: str
    items: list = field(default_factory=list)
    line: str = ""

    def of(self, *kinds):
        return [item for kind, item in self.items if kind in kinds]


@dataclass
class Slide:
    """The cells of one slide, its notes and about how many lines it takes; whether it starts a section."""

    top: bool
    cells: list
    notes: list
    lines: float


def blocks(text):
    """The headings, paragraphs, lists, tables and fences of a Markdown text, in order, without hints and badge."""
    pieces = (piece.strip("\n") for piece in BLOCK.split(HINTS.sub("", BADGE.sub("", text))) if piece)
    return [LINK.sub(r"\1", piece) for piece in pieces if piece]


def picture(cell):
    """Whether a cell shows a picture."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def only_picture(cell):
    """A copy of a cell with its pictures alone: no code, and none of the other forms in which an explorer is kept."""
    outputs = [nbformat.from_dict(output) for output in cell.outputs if "image/png" in output.get("data", {})]
    for output in outputs:
        output.data = {"image/png": output.data["image/png"]}
    return new_code_cell("", outputs=outputs, metadata={"tags": ["hide-code"]})


def read(notebook):
    """The parts of a notebook, in order, without what answers its questions.

    What follows a question to predict, up to the next heading, answers it; so does what follows an exercise, up to the
    next section. Of that only the classes and functions of the package remain, with gaps (see `with_gaps`).
    """
    parts, known = [], solutions(notebook)
    opens = OPEN  # the level of heading from which on things are shown again
    for cell in before_solutions(notebook, "setup", "stop").cells:
        if cell.cell_type == "markdown":
            asks = False
            for block in blocks(cell.source):
                heading = HEADING.match(block)
                if PREDICT.search(block):
                    asks, opens, block = True, min(opens, 3), PREDICT.sub("", block)
                    parts.append(Part(3, "Predict before you run"))
                if heading:
                    parts.append(Part(len(heading[1]), heading[2]))
                    asks = False
                    if heading[2] == "Summary":  # it says what was found: in its place, what was to be learned
                        goals = re.findall(r"^- .*(?:\n[- ] .*)*", "\n\n".join(parts[0].of("text")), re.MULTILINE)
                        parts[-1], opens = Part(2, CLOSING, [("text", goal) for goal in goals]), 0
                    opens = OPEN if parts[-1].level <= opens else opens
                elif LINE.match(block):
                    parts[-1].line = block
                elif asks or parts[-1].line and not parts[-1].of("stub"):
                    parts[-1].items.append(("question", block))
                elif opens == OPEN:
                    parts[-1].items.append(("text", block))
        elif ANSWER_TAG in tags(cell):
            parts[-1].items.append(("stub", cell.source))
            opens = 2
        elif "package" in tags(cell):
            parts[-1].items.append(("package", with_gaps(cell.source, known)))
        elif parts[-1].line and not parts[-1].of("stub"):  # a drawing here shows what the exercise asks for
            parts[-1].items += [] if picture(cell) else [("given", cell.source)]
        elif opens == OPEN and parts[-1].level > 1 and picture(cell):
            parts[-1].items.append(("picture", only_picture(cell)))
    return [part for part in parts if part.items or part.level < 3]


# ------------------------------------------------------------------------------------------------ code with gaps


def statements(source):
    """The statements of some code that compute something and hold no others, as triples (node, words, marks).

    Marks are calls and selections by their numbers, such as `transpose(1, 2)`, `softmax(dim=-1)` and `[:, 0]`.
    """
    for node in ast.walk(ast.parse(source)):
        inside = list(ast.walk(node))
        if isinstance(node, SIMPLE) and any(isinstance(part, COMPUTES) for part in inside):
            words = re.findall(r"\w+|[^\w\s.,()]", ast.unparse(node).replace("self.", ""))
            marks = {ast.unparse(part.slice) for part in inside if isinstance(part, ast.Subscript)}
            for part in inside:
                if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                    given = map(ast.unparse, [*part.args, *part.keywords])
                    numbers = [word for word in given if re.fullmatch(r"(\w+=)?-?[\d.]+", word)]
                    marks.add(f"{part.func.attr}({', '.join(numbers)})")
            yield node, words, {mark for mark in marks if re.search(r"\d", mark) and len(mark) > 2}


def solutions(notebook):
    """The statements in the solutions of a notebook, as triples (an exercise's number, words, marks)."""
    found, number = [], ""
    for cell in notebook.cells[solutions_start(notebook) :]:
        title = re.search(r"^### Solution (\d+\.\d+)", cell.source, re.MULTILINE)
        number = title[1] if title else number
        if SOLUTION_TAG in tags(cell):
            found += [(number, words, marks) for _, words, marks in statements(cell.source)]
    return found


def with_gaps(source, known):
    """Code of the package in which the lines that an exercise asks for, by its `known` solutions, are left out."""
    lines = source.splitlines()
    for node, words, marks in sorted(statements(source), key=lambda statement: -statement[0].lineno):
        alike = [(SequenceMatcher(None, words, answer).ratio(), number, marks & told) for number, answer, told in known]
        alike = [(ratio, number) for ratio, number, shared in alike if shared or ratio >= ALIKE]
        if alike:
            gap = " " * node.col_offset + f"...  # exercise {max(alike)[1]}"
            lines[node.lineno - 1 : node.end_lineno] = [gap]
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------- what to show of it


def sentences(block):
    """The sentences of a paragraph, or the points of a list."""
    return re.split(r"\n(?=[-*] |\d+\. )", block) if block.startswith(("- ", "* ")) else SENTENCE.split(block)


def stays_whole(block):
    """Whether a block is a table, a formula or a statement to remember."""
    return block.startswith(("|", "*To remember")) or "$$" in block


def statements_of(part):
    """The key statements of a part: what is to be remembered, tables, formulas, and the sentences that name a thing.

    A sentence that leans on the one before it brings that along. The first sentence where a part has no such statement.
    """
    kept, before = [], ""
    for block in part.of("text"):
        told = [before, *sentences(block)]
        before = told[-1]
        if stays_whole(block) or part.title == CLOSING or part.level == 1:
            kept.append(block)
            continue
        wanted = {number for number, sentence in enumerate(told) if number and "**" in sentence}
        wanted |= {number - 1 for number in wanted if LEANS.match(told[number])}
        if wanted:
            kept.append(("\n" if block.startswith("- ") else " ").join(told[number] for number in sorted(wanted)))
    return kept or [sentences(block)[0] for block in part.of("text")[:1]]


def shorten(block, most):
    """As many whole sentences of a block as `most` characters hold, and at least one."""
    if stays_whole(block) or block.startswith("```"):
        return block
    told, used = sentences(block), 0
    for number, sentence in enumerate(told):
        used += len(sentence)
        if number and used > most:
            return ("\n" if block.startswith("- ") else " ").join(told[:number])
    return block


def lines_of(text):
    """About how many lines of a slide some Markdown takes."""
    return sum(1 + len(line) // 85 + (line[:1] == "|") / 2 for line in re.split(r"\n\n|\n(?=[-|] )", text))


def slide_of(part):
    """One slide: a heading and the question or, where nothing is asked, what is to be remembered; pictures, code."""
    pictures = part.of("picture")[:1]
    code = [] if pictures else part.of("given") if part.of("question") else part.of("package")
    key = sorted(statements_of(part), key=lambda block: not block.startswith("*To remember"))
    if part.level == 1 or part.title == CLOSING:
        said = key
    elif part.of("question"):
        said = [part.line, *(block if block.startswith("- ") else shorten(block, 320) for block in part.of("question"))]
    else:
        said = [shorten(block, 240) for block in key[:1]]
        said += [block for block in key[1:] if "$$" in block or not pictures and len(block) < 240][:2]
    text = "\n\n".join([f"{'#' * part.level} {part.title}", *filter(None, said)])
    code = [source for source in code if lines_of(text) + len(source.splitlines()) <= CODE][:1]
    cells = [new_markdown_cell(text), *pictures, *map(new_code_cell, code)]
    lines = lines_of(text) + PICTURE * len(pictures) + sum(len(source.splitlines()) for source in code)
    return Slide(part.level < 3, cells, part.of("text", "question"), lines)


def join(first, second):
    """Two slides as one."""
    return Slide(first.top, first.cells + second.cells, first.notes + second.notes, first.lines + second.lines)


def slides_of(parts):
    """The slides of a notebook: at most `MOST`, so neighbours in a section that take the least room share one."""
    titles = [part.title for part in parts]
    going = titles.index("Going further") if "Going further" in titles else len(parts)
    slides, bare = [], None
    for part in [*parts[:going], *(part for part in parts[going:] if part.title == CLOSING)]:
        if part.level < 3:
            bare = None
        if part.title in LEFT_OUT:
            continue
        slide = slide_of(part)
        if not part.items:
            bare = slide  # a heading alone, which goes with what follows
        else:
            slides.append(join(bare, slide) if bare else slide)
            bare = None
            for cell in part.of("picture")[1:]:
                slides.append(Slide(False, [new_markdown_cell(f"### {part.title}"), cell], [], PICTURE))
    while len(slides) > MOST:
        cost = [(second.top, first.lines + second.lines) for first, second in pairwise(slides)]
        least = cost.index(min(cost))
        slides[least : least + 2] = [join(*slides[least : least + 2])]
    return slides


# ------------------------------------------------------------------------------------------------------- pages


def formulas(text):
    """Formulas between dollar signs as MathML, which a browser draws without a library from another host."""
    from latex2mathml.converter import convert

    def draw(match):
        code, block, inline = match.groups()
        return code or convert(block or inline, display="block" if block else "inline")

    return FORMULA.sub(draw, text)


def deck(notebook):
    """A notebook of the slides of another: each section goes to the right, what belongs to it follows below."""
    edition = new_notebook()
    for slide in slides_of(read(notebook)):
        dense = {"dense": str(int(slide.lines > 1.5 * ROOMY))} if slide.lines > ROOMY else {}
        place = {"slide_type": "slide" if slide.top else "subslide", "data": dense}
        slide.cells[0].metadata["slideshow"] = place
        notes = new_markdown_cell("\n\n".join(slide.notes or [NO_NOTES]))
        notes.metadata["slideshow"] = {"slide_type": "notes"}
        edition.cells += [*slide.cells, notes]
    return edition


def paper(notebook):
    """A notebook of what a student has on paper: key statements, pictures, questions with room to write, the code."""
    edition, code = new_notebook(), []
    for part in read(notebook):
        code += part.of("package")
        if part.title in LEFT_OUT | {CLOSING} or {kind for kind, _ in part.items} == {"package"}:
            continue
        said = [f"{'#' * part.level} {part.title}", part.line, *statements_of(part)]
        edition.cells.append(new_markdown_cell("\n\n".join(filter(None, said))))
        edition.cells += part.of("picture")
        if part.of("question"):
            edition.cells.append(new_markdown_cell("\n\n".join(part.of("question"))))
            edition.cells += map(new_code_cell, part.of("given", "stub"))
            edition.cells.append(new_markdown_cell(ROOM * (4 if re.match(r"\*(write|repair)", part.line) else 2)))
    edition.cells.append(new_markdown_cell(OWN_WORDS + 6 * ROOM))
    if code:
        edition.cells.append(new_markdown_cell(CODE_HEADING))
        edition.cells += map(new_code_cell, code)
    return edition


def page(exporter, template, notebook, title):
    """A notebook of a `deck` or on `paper` as one HTML page, by an exporter class and a template of the course."""
    from traitlets.config import Config

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas(cell.source)
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

    return page(SlidesExporter, "deck", deck(notebook), title)


def handout(notebook, title):
    """The hand-out of a notebook: one HTML page without scripts, laid out for printing on A4 or Letter."""
    from nbconvert import HTMLExporter

    return page(HTMLExporter, "handout", paper(notebook), title)


def write_all(notebooks, out):
    """Write the folders `slides` and `handouts` of `{name: notebook}` to `out`."""
    for folder, make in (("slides", slides), ("handouts", handout)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for name, notebook in notebooks.items():
            (out / folder / f"{name}.html").write_text(make(notebook, name), encoding="utf-8", newline="\n")
    copy_reveal(out / "slides" / "reveal")


def copy_reveal(folder):
    """Copy what the slides load, reveal.js with its speaker view and the course's own theme, to `folder`."""
    package = Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    for name in ("LICENSE", "dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / name, folder / name)
    (folder / "dist" / "theme").mkdir(exist_ok=True)
    shutil.copyfile(STATIC / "course.css", folder / "dist" / "theme" / "course.css")
