"""What a student gets back: one HTML page that says what happened, runs nothing and loads nothing."""

import copy
import re

import bleach
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_notebook
from traitlets.config import Config

from ..files import atomic_path
from .decks import formulas
from .editions import BADGE
from .exercises import number_of
from .results import TEMPLATES

SHOWN = ("image/png", "image/jpeg", "text/plain")  # kinds of output that load nothing and run nothing
HTML = (
    "a blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr img kbd li ol p pre span strong sub summary"
)
HTML += " sup table tbody td th thead tr ul"
MATHML = "math menclose mfrac mi mn mo mover mpadded mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext"
MATHML += " mtr munder munderover"


def allowed(tag, name, value):
    """Whether an attribute stays: pictures must be in the page, and nothing is drawn over it."""
    if name == "src":
        return tag == "img" and re.match(r"data:image/(png|jpeg|gif);", value)
    if name == "href":
        return tag == "a" and re.match(r"(https?:|mailto:|#)", value)
    return name in ("alt", "class", "columnalign", "display", "fence", "form", "mathvariant", "open", "stretchy")


def safe_html(text):
    """A piece of a page without what runs, loads or breaks out of it."""
    return bleach.clean(
        text,
        tags=f"{HTML} {MATHML}".split(),
        attributes=allowed,
        protocols=["http", "https", "mailto", "data"],
        strip=True,
    )


def notes_of(notebook):
    """What happened to an autograded notebook, in sentences: its repair, and where it was stopped before its end."""
    notes = [str(note) for note in notebook.metadata.get("vit_tutorial", {}).get("notes", [])]
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if output.get("ename") in ("Stopped", "CellTimeoutError"):
            return [*notes, f"It was stopped before its end: {output.evalue or 'a cell ran too long'}"]
    return notes


def for_reading(cell):
    """Make a cell of an autograded notebook ready for the page: formulas as MathML, only outputs that load nothing."""
    if cell.cell_type == "markdown":
        cell.source = BADGE.sub("", cell.source)
        try:
            cell.source = formulas(cell.source)
        except Exception:  # what a student takes for LaTeX stays as it was typed
            return
    for output in cell.get("outputs", []):
        if "data" in output:
            output.data = {kind: data for kind, data in output.data.items() if kind in SHOWN}
    nbgrader, verdict = cell.metadata.get("nbgrader", {}), cell.metadata.get("vit_tutorial", {})
    if nbgrader.get("grade"):
        nbgrader["exercise"] = number_of(nbgrader["grade_id"])
        nbgrader["message"] = str(verdict.get("message", ""))
        cell.outputs = [output for output in cell.outputs if output.output_type != "execute_result"]  # the points


class FeedbackPage(HTMLExporter):
    """The exporter of `nbgrader generate_feedback`, with the template `feedback` of the course."""

    @property
    def default_config(self):
        ours = {f"extra_template_{where}": [str(TEMPLATES)] for where in ("basedirs", "paths")}
        ours["template_name"] = "feedback"
        ours |= {f"exclude_{part}": True for part in ("input_prompt", "output_prompt", "anchor_links")}
        config = super().default_config
        config.merge(Config({"FeedbackPage": ours}))
        return config

    def default_filters(self):
        yield from super().default_filters()
        yield "safe_html", safe_html

    def from_notebook_node(self, nb, resources=None, **options):
        nb = copy.deepcopy(nb)
        notes = notes_of(nb)
        for cell in nb.cells:
            for_reading(cell)
        nb.metadata = {"notes": notes}  # and nothing of the student's: titles, widgets
        return super().from_notebook_node(nb, resources, **options)


def write_apology(api, course, assignment, student, note):
    """Write the feedback on what could not be marked: what was found, and what to do."""
    notes = [
        f"It could not be marked. {note.replace(f'{course}/', '')}",
        f"Nothing is lost: your teacher has what you handed in. If it is not the right file, hand in "
        f"{assignment}.ipynb as Jupyter saves it; if you do not know what happened, show this page to your teacher.",
    ]
    page = FeedbackPage(config=api.config)
    notebook = new_notebook(metadata={"vit_tutorial": {"notes": notes}})
    text, _ = page.from_notebook_node(notebook, {"metadata": {"name": assignment}})
    with atomic_path(course / "feedback" / student / assignment / f"{assignment}.html") as path:
        path.write_text(text, encoding="utf-8")
