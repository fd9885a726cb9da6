"""The editions of a notebook: solved, and the nbgrader assignment that students get."""

import copy
import re
import shutil

import nbformat

from .exercises import SOLUTION_TAG, find_exercises, solutions_start, tags

BADGE = re.compile(r"\[!\[Open in Colab\][^\n]*\n*")
POINTER = re.compile(r"\bsolutions?\b", re.IGNORECASE)
PICTURES = re.compile(r"\]\((images/[\w.-]+)\)")
PUBLISHED = re.compile(r"(https://[\w.-]+(?::\d+)?(?:/[\w.~-]+)+?)(?:/tree/([\w.-]+)((?:/[\w.~-]+)*))?/?")
SENTENCE_END = re.compile(r"((?<=[.!?])\s+|\n(?=[-*] ))")
NBGRADER = {"schema_version": 3, "grade": False, "locked": False, "solution": False, "task": False}


def published_at(address):
    """The repository, branch and folder of a class's edition from the address that a browser shows there.

    Raises ValueError where it is none.
    """
    found = PUBLISHED.fullmatch(address)
    if not found or ".." in address.split("/"):
        raise ValueError(
            "expected the address of a repository or of a folder in it, such as https://github.com/OWNER/REPO or "
            f"https://github.com/OWNER/REPO/tree/main/FOLDER, found {address!r}"
        )
    repo, branch, folder = found.groups()
    return repo.removesuffix(".git"), branch or "main", (folder or "").strip("/")


def rebadged(notebook, name, published=None):
    """A copy whose Colab badge opens this notebook in the repository of the class, or that has none.

    The course's own badge would open the notebook with its solutions and without what makes it gradable. Raises
    ValueError where `published` is no address on GitHub: Colab opens no other.
    """
    badge = ""
    if published:
        repo, branch, folder = published_at(published)
        path = repo.removeprefix("https://github.com/")
        if path == repo or path.count("/") != 1:
            raise ValueError(f"expected an address such as https://github.com/OWNER/REPO, found {published!r}")
        address = "/".join(filter(None, ("https://colab.research.google.com/github", path, "blob", branch, folder)))
        badge = f"[![Open in Colab](images/open_in_colab.svg)]({address}/{name}.ipynb)\n\n"
    edition = copy.deepcopy(notebook)
    for cell in edition.cells:
        if cell.cell_type == "markdown":
            cell.source = BADGE.sub(badge, cell.source)
    return edition


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


def write(notebook, path):
    """Write a notebook, its own kernel and cell ids kept."""
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def copy_pictures(notebook, course, folder):
    """Copy the pictures that a notebook's text shows from the course to `folder`."""
    for name in {name for cell in notebook.cells for name in PICTURES.findall(cell.source)}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(course / "notebooks" / name, folder / name)
