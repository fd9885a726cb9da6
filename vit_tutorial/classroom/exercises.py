"""Where the exercises of a notebook are: the one place that knows how a notebook marks them."""

import ast
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

POINTS = {"easy": 1, "medium": 2, "hard": 3}
TITLE = re.compile(r"^### Exercise (\d+\.\d+) · .", re.MULTILINE)
LINE = re.compile(r"^\*\w+ · (easy|medium|hard) · \d+ minutes?\*$", re.MULTILINE)
SOLUTIONS = re.compile(r"^## Solutions\s*$", re.MULTILINE)
ANSWER_TAG, SOLUTION_TAG = "exercise", "solution"


@dataclass(frozen=True)
class Exercise:
    """One exercise: the numbers of its cells, and `answers`, pairs of a checker's name and what it is given (code)."""

    number: str
    points: int
    stubs: tuple[int, ...]
    check: int
    answers: tuple[tuple[str, str], ...]


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def answers_in(source):
    """The `check.name(answer)` statements of a cell, as pairs `(name, code of the answer)`."""
    found = []
    for statement in ast.parse(source).body:
        match statement:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name("check"), name), [answer])):
                found.append((name, ast.unparse(answer)))
    return tuple(found)


@lru_cache(10_000)
def essence(source):
    """Code without comments and layout, or what is no code without the latter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.unparse(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # IPython's own commands, or no Python at all
        return " ".join(source.split())


def grade_id(cell):
    """The name by which nbgrader knows a cell, or an empty text."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def number_of(name):
    """The number of an exercise from the grade id of its cell: `3.1` from `check-3-1`, `answer-3-1-2`."""
    return ".".join(name.split("-")[1:3])


def statements(source):
    """The statements of a cell; none where it is no Python."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


def sources(notebook):
    """`{grade id: code}` of a notebook of nbgrader's."""
    return {grade_id(cell): cell.source for cell in notebook.cells if grade_id(cell)}


def course_cells(notebook):
    """`{essence: imports}` of a released notebook's cells, without names that mean something else later."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    nodes = [node for cell in cells for top in statements(cell.source) for node in ast.walk(top)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    found = {}
    for cell in cells:
        lines = [line for line in statements(cell.source) if isinstance(line, (ast.Import, ast.ImportFrom))]
        for line in lines:
            line.names = [one for one in line.names if (one.asname or one.name).split(".")[0] not in bound]
        found[essence(cell.source)] = [ast.unparse(line) for line in lines if line.names]
    return found


def find_exercises(notebook):
    """The exercises of a notebook, in order.

    Raises ValueError where cells tagged `exercise` are not followed by a cell with `check.name(answer)`, or no title
    `### Exercise 3.1 · ...` and line `*write · easy · 3 minutes*` stand before them.
    """
    found, stubs, text = [], [], ""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            text = cell.source if TITLE.search(cell.source) else text
        elif cell.cell_type == "code" and ANSWER_TAG in tags(cell):
            stubs.append(index)
        elif cell.cell_type == "code" and stubs:
            title, line, answers = TITLE.search(text), LINE.search(text), answers_in(cell.source)
            if not (title and line and answers):
                raise ValueError(
                    f"expected a title '### Exercise 1.1 · ...', a line '*write · easy · 3 minutes*', a stub, then "
                    f"check.name(answer), found another order at cell {index}: {cell.source[:60]!r}"
                )
            found.append(Exercise(title[1], POINTS[line[1]], tuple(stubs), index, answers))
            stubs = []
    return found


def solutions_start(notebook):
    """The number of the cell with the heading `## Solutions`; the number of cells where there is none."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and SOLUTIONS.search(cell.source):
            return index
    return len(notebook.cells)
