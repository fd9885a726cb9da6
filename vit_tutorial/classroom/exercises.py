"""Where the exercises of a notebook are: the one place that knows how a notebook marks them."""

import ast
import re
from dataclasses import dataclass

POINTS = {"easy": 1, "medium": 2, "hard": 3}
TITLE = re.compile(r"^### Exercise (\d+\.\d+) · (.+)$", re.MULTILINE)
LINE = re.compile(r"^\*(\w+) · (easy|medium|hard) · (\d+) minutes?\*$", re.MULTILINE)
SOLUTIONS = re.compile(r"^## Solutions\s*$", re.MULTILINE)
ANSWER_TAG, SOLUTION_TAG = "exercise", "solution"


@dataclass(frozen=True)
class Exercise:
    """One exercise: the numbers of its cells, and `answers`, pairs of a checker's name and what it is given (code)."""

    number: str
    title: str
    kind: str
    difficulty: str
    minutes: int
    stubs: tuple[int, ...]
    check: int
    answers: tuple[tuple[str, str], ...]

    @property
    def points(self):
        return POINTS[self.difficulty]


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def answers_in(source):
    """The `check.name(answer)` statements of a cell, as pairs `(name, code of the answer)`."""
    found = []
    for statement in ast.parse(source).body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            owner = call.func.value
            if isinstance(owner, ast.Name) and owner.id == "check" and len(call.args) == 1:
                found.append((call.func.attr, ast.unparse(call.args[0])))
    return tuple(found)


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
            kind, difficulty, minutes = line.groups()
            exercise = Exercise(*title.groups(), kind, difficulty, int(minutes), tuple(stubs), index, answers)
            found.append(exercise)
            stubs = []
    return found


def solutions_start(notebook):
    """The number of the cell with the heading `## Solutions`; the number of cells where there is none."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and SOLUTIONS.search(cell.source):
            return index
    return len(notebook.cells)
