"""A submission put back on the released notebook's skeleton, so that its marks are what its answers earn.

Each cell is known by its grade id, its cell id, its source or, for answers, by the exercise: the title above it and
the name that its stub defines. The order, the checks and all metadata are the release's.
"""

import json
import re
import symtable
import tokenize
import warnings
from collections import defaultdict
from functools import cached_property, lru_cache

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell
from nbformat.validator import isvalid

from .exercises import essence, grade_id, number_of

MOST_BYTES, MOST_CELLS = 50 << 20, 5000
EXERCISE = re.compile(r"^#+ *Exercise (\d+\.\d+) *· *(.*?) *$", re.MULTILINE)
SHEET = re.compile(r"^# +(.*?) *$", re.MULTILINE)
GRADE_ID = re.compile(r"(answer|check)-(\d+)-(\d+)(-\d+)?")
CHECKER = re.compile(r"\bcheck\.(\w+)\(")
DEFINED = re.compile(r"^(?:async def|def|class) +(\w+)|^(\w+) *=(?!=)", re.MULTILINE)
LEFT_OPEN = re.compile(r"(?:=|return|^)[ (]*\.\.\.", re.MULTILINE)
CELLS = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}


def read(path):
    """`reads` of the file at `path`. Raises ValueError where it holds no notebook."""
    with open(path, "rb") as file:
        return reads(file.read(MOST_BYTES + 1))


def reads(data):
    """The notebook in `data`, bytes in whatever encoding, format or unfinished merge; outputs are left out.

    What had to be decided is in its `metadata["vit_tutorial"]["notes"]`. Raises ValueError, in a sentence for teacher
    and student, where `data` is no notebook.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"expected a notebook of at most {MOST_BYTES >> 20} MiB, found a larger one; clear its outputs"
        )
    notes = []
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        notes.append("The file was not saved as UTF-8; letters with accents may have changed.")
    text = text.lstrip("\ufeff")
    found = []
    for version in sides(text):
        try:
            found.append((version.count("..."), json.loads(version, strict=False)))
        except (ValueError, RecursionError):
            continue
    if not found:
        raise ValueError(f"expected a notebook, found {what_it_is(text)}; hand in the .ipynb file that Jupyter saved")
    if conflicts(text):
        notes.append("The file held an unfinished merge (<<<<<<<); the version with more answers filled in counts.")
    return notebook_of(cells_of(min(found, key=lambda pair: pair[0])[1]), {}, notes)


def notebook_of(cells, metadata, notes):
    """A notebook of these cells, with notes in its metadata; ids that are there twice stay (`new_notebook` warns)."""
    metadata = {**metadata, "vit_tutorial": {"notes": notes}}
    return from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def what_it_is(text):
    """What a file that is no notebook holds, in words."""
    start = text.lstrip()[:2000].lower()
    if not start.strip("\0"):
        return "an empty file"
    if start.startswith("<"):
        return "a web page (perhaps of a sign-in)"
    if start.startswith("pk\x03\x04"):
        return "a zip archive"
    if start.startswith("{"):
        return "one that is damaged, or ends in its middle"
    if re.search(r"^(# %%|# in ?\[|import |from \w+ import |def )", start, re.MULTILINE):
        return "a Python program"
    return "a file of another kind"


def cells_of(raw):
    """The cells of a notebook of any version, as `new_cell` makes them. Raises ValueError where it has none."""
    cells = raw.get("cells") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and isinstance(raw.get("worksheets"), list):  # nbformat 3 and older
        sheets = [sheet.get("cells") for sheet in raw["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(cells, list) or len(cells) > MOST_CELLS:
        found = "JSON without cells" if not isinstance(cells, list) else f"{len(cells)} cells"
        raise ValueError(f"expected a notebook with at most {MOST_CELLS} cells, found {found}; hand in the notebook")
    return [new_cell(cell) for cell in cells if isinstance(cell, dict)]


def new_cell(raw):
    """A valid cell with the source, id and grade id of `raw`, which may lack anything. Colab keeps ids in metadata."""
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    kind, source = raw.get("cell_type"), raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = source if isinstance(source, str) else ""
    source = source.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    if kind == "heading":
        source = f"{'#' * raw['level'] if raw.get('level') in range(1, 7) else '#'} {source}"
    cell = CELLS.get(kind, new_markdown_cell)(source)
    for name in (raw.get("id"), metadata.get("id")):
        if isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            cell.id = name
            break
    grading = metadata.get("nbgrader")
    if isinstance(grading, dict) and isinstance(grading.get("grade_id"), str):
        cell.metadata["nbgrader"] = {"grade_id": grading["grade_id"]}
    if cell.cell_type == "markdown" and isinstance(raw.get("attachments"), dict):  # pictures in the text
        cell.attachments = from_dict(raw["attachments"])
        if not isvalid(cell, ref="markdown_cell", version=4, version_minor=5):
            del cell["attachments"]
    return cell


def conflicts(text):
    """Whether `text` has the marks of an unfinished merge."""
    return bool(re.search(r"^<{7}", text, re.MULTILINE) and re.search(r"^>{7}", text, re.MULTILINE))


def sides(text):
    """`text`; where it is an unfinished merge: ours, theirs, and with the fuller side in each place."""
    if not conflicts(text):
        return [text]
    versions, place, part = ([], [], []), None, None
    for line in text.splitlines(keepends=True):
        if part is None and line.startswith("<<<<<<<"):
            place, part = {"ours": "", "base": "", "theirs": ""}, "ours"
        elif part == "ours" and line.startswith("|||||||"):
            part = "base"
        elif part in ("ours", "base") and line.startswith("======="):
            part = "theirs"
        elif part and line.startswith(">>>>>>>"):
            both = place["ours"], place["theirs"]
            fuller = min(both, key=lambda side: (not side.strip(), side.count("...")))
            for version, chosen in zip(versions, (*both, fuller), strict=True):
                version.append(chosen)
            part = None
        elif part:
            place[part] += line
        else:
            for version in versions:
                version.append(line)
    return ["".join(version) for version in versions]


def from_ipython(source):
    """IPython's `%magic` and `!command` lines as plain Python."""
    return TransformerManager().transform_cell(source)


@lru_cache(10_000)
def bound(source):
    """The names that a cell's code binds; None where it is not Python, with or without IPython's magics."""
    for change in (str, from_ipython) if len(source) < 20_000 else (str,):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = symtable.symtable(change(source), "cell", "exec")
        except (SyntaxError, ValueError, RuntimeError, MemoryError, tokenize.TokenError):
            continue
        return {name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()}
    return None


def defined(source):
    """The names that a cell binds, also where a slip keeps it from being Python."""
    names = bound(source)
    return {a or b for a, b in DEFINED.findall(source)} if names is None else names


def text_of(cell):
    """A cell's source, for comparing."""
    return "\n".join(line.rstrip() for line in cell.source.strip().splitlines())


def filled(source, stub):
    """0 where nothing was filled in, 2 where all was and it is Python, else 1."""
    if essence(source) in ("", essence(stub)):
        return 0
    return 1 if bound(source) is None or LEFT_OPEN.search(source) else 2


def marks(cells, released=False):
    """What tells one exercise sheet of the course from another, as pairs of a kind and a text."""
    found = set()
    for cell in cells:
        graded = GRADE_ID.fullmatch(grade_id(cell))
        found |= {("grade", graded[0])} if graded else set()
        if cell.cell_type == "markdown":
            found |= {("exercise", name) for _, name in EXERCISE.findall(cell.source)}
            found |= {("sheet", name) for name in SHEET.findall(cell.source) if " · " in name}
        elif graded or not released:
            found |= {("check", name) for name in CHECKER.findall(cell.source)}
            found |= {("function", name) for name, _ in DEFINED.findall(cell.source) if name}
    return found


def likeness(submitted, released):
    """How many grade ids, titles, checks and names of functions a submission shares with a released notebook."""
    theirs = marks(cells_of(submitted))
    shared = theirs & marks(released.cells, released=True)
    named, telling = ({kind for kind, _ in found} - {"function", "sheet"} for found in (theirs, shared))
    alike = telling or not named or any(kind == "sheet" for kind, _ in shared)  # else it is another sheet's
    return len(shared) if alike else 0


class Sheet:
    """The released notebook: its cells, what each one is (answer, check or given), and the exercise it belongs to."""

    def __init__(self, notebook):
        self.cells, self.kinds, self.numbers = notebook.cells, [], []
        self.grades, self.ids, self.sources = {}, {}, defaultdict(list)
        self.titles, self.checkers, number = {}, {}, None
        for index, cell in enumerate(self.cells):
            kind = (GRADE_ID.fullmatch(grade_id(cell)) or [None, "given"])[1]
            if cell.cell_type == "markdown" and (title := EXERCISE.search(cell.source)):
                number, self.titles[title[2]] = title[1], title[1]
            if kind != "given":
                number, self.grades[grade_id(cell)] = number_of(grade_id(cell)), index
            if kind == "check":
                self.checkers |= dict.fromkeys(CHECKER.findall(cell.source), number)
            self.ids[cell.get("id")] = index
            self.sources[text_of(cell)].append(index)
            self.kinds.append(kind)
            self.numbers.append(number)
            number = None if kind == "check" else number

    def all(self, kind):
        """The numbers of the cells of a kind."""
        return [index for index, found in enumerate(self.kinds) if found == kind]

    @cached_property
    def names(self):
        """The names that each cell binds."""
        return [defined(cell.source) if cell.cell_type == "code" else set() for cell in self.cells]

    def filled(self, cell, index):
        """How far `cell` fills in the stub of the cell `index`, as `filled` says; 1 where it binds other names."""
        found = filled(cell.source, self.cells[index].source)
        return found if self.names[index] <= defined(cell.source) else min(found, 1)


def repair(submitted, released):
    """A submission, as `read` returns it, on the skeleton of the released notebook; and notes on what had to be done.

    Returns `(notebook, notes)`. The notes are sentences in plain text, also in the notebook's
    `metadata["vit_tutorial"]["notes"]`. Raises ValueError where the submission has nothing of the released exercises.
    """
    notes = [str(note) for note in submitted.metadata.get("vit_tutorial", {}).get("notes", [])]
    cells, sheet = cells_of(submitted), Sheet(released)
    if not likeness(submitted, released):
        raise ValueError(
            f"expected the notebook {sheet_title(released.cells)}, found {sheet_title(cells)}; hand in that one"
        )
    merge_cells(cells, notes)
    claims, sections = match(cells, sheet, notes)
    if (order := [claims[index] for index in sorted(claims)]) != sorted(order):
        notes.append("Cells were in another order; the course's order counts.")
    copies = find_answers(cells, sheet, claims, sections, notes)
    result = assemble(cells, sheet, claims, copies, notes)
    notes = list(dict.fromkeys(notes))
    return notebook_of(result, released.metadata, notes), notes


def sheet_title(cells):
    """What a notebook calls itself, for a message."""
    titles = [SHEET.search(cell.source) for cell in cells if cell.cell_type == "markdown"]
    title = next((title[1] for title in titles if title), "")
    return repr("".join(c for c in title if c.isprintable())[:60]) if title else "one with none of its exercises"


def merge_cells(cells, notes):
    """Take one side of an unfinished merge in each cell that has one, the one that is filled in, in place."""
    for cell in cells:
        if conflicts(cell.source):
            ours, *others = sides(cell.source)
            cell.source = min((ours, *others), key=lambda side: (bound(side) is None, side.count("..."))).rstrip("\n")
            notes.append("A cell held an unfinished merge (<<<<<<<); the side that is filled in counts.")


def renumbered(cells, sheet, notes):
    """What the exercises of a submission are called in the release, `{number: number there or None}`.

    Another version of the course may have given a number to another exercise; then its title, or its check, differs.
    """
    titles, checks = {}, defaultdict(set)
    for cell in cells:
        if cell.cell_type == "markdown":
            titles |= dict(EXERCISE.findall(cell.source))
        elif (found := GRADE_ID.fullmatch(grade_id(cell))) and found[1] == "check":
            checks[f"{found[2]}.{found[3]}"] |= set(CHECKER.findall(cell.source))
    now = {}
    for number in titles | checks:
        there = [sheet.checkers[name] for name in checks[number] if name in sheet.checkers]
        now[number] = sheet.titles.get(titles.get(number)) or (number if number in there else next(iter(there), None))
        if now[number] is None and not (number in titles and checks[number]):
            now[number] = number  # too little is left to say that it is another one
        if now[number] is None:
            notes.append(f"Exercise {number} is not in this version of the course; it gives no points.")
        elif now[number] != number:
            notes.append(f"Exercise {number} is exercise {now[number]} in this version of the course.")
    return now


def match(cells, sheet, notes):
    """Which cell of the release each submitted cell is, `{number: number there}`, and the exercise each belongs to."""
    now, claims, current, sections = renumbered(cells, sheet, notes), {}, None, []
    for index, cell in enumerate(cells):
        found = GRADE_ID.fullmatch(grade_id(cell))
        number = found and now.get(f"{found[2]}.{found[3]}", f"{found[2]}.{found[3]}")
        name = number and f"{found[1]}-{number.replace('.', '-')}{found[4] or ''}"
        place = sheet.grades.get(name, sheet.ids.get(cell.id))
        if place is not None:
            claims[index] = place
    taken = set(claims.values())
    for index in (index for index in range(len(cells)) if index not in claims):
        places = sheet.sources.get(text_of(cells[index]), [])
        free = [place for place in places if sheet.kinds[place] == "given" and place not in taken]
        if len(places) == 1 and sheet.kinds[places[0]] != "given":
            claims[index] = places[0]
        elif free:
            claims[index] = free[0]
            taken.add(free[0])
    for index, cell in enumerate(cells):
        title = EXERCISE.search(cell.source) if cell.cell_type == "markdown" else None
        if index in claims or title:
            current = sheet.numbers[claims[index]] if index in claims else now.get(title[1])
        sections.append(current)
    following = None
    for index in reversed(range(len(cells))):  # what stands before a check belongs to it, also without a title
        following = claims.get(index, following)
        if index not in claims and following is not None and sheet.kinds[following] == "check":
            sections[index] = sheet.numbers[following]
    return claims, sections


def find_answers(cells, sheet, claims, sections, notes):
    """Add to `claims` the answers that stand in cells of their own; return those found in other cells of the course.

    An answer is sought where its own cell is not filled in: by the stub's names, in the exercise's section with its
    check, or anywhere if no other released cell binds them. Returns `{number of the stub: source}`.
    """
    copies, numbers, names = {}, [], [defined(cell.source) for cell in cells]
    for stub in sheet.all("answer"):
        own = [index for index, place in claims.items() if place == stub]
        if any(sheet.filled(cells[index], stub) for index in own):
            continue
        number, wanted = sheet.numbers[stub], sheet.names[stub]
        others = set().union(*(bound for index, bound in enumerate(sheet.names) if index != stub))
        found = []
        for index, cell in enumerate(cells):
            place = claims.get(index)
            elsewhere = place is None or not wanted & sheet.names[place]
            near = sections[index] == number or not wanted & others
            is_code = cell.cell_type == "code" or bound(cell.source) is not None
            if wanted and wanted <= names[index] and elsewhere and near and is_code and sheet.filled(cell, stub):
                found.append(index)
        found = [index for index in found if sections[index] == number] or found
        if alone := [index for index in found if index not in claims]:
            claims |= dict.fromkeys(alone, stub)
        elif found:
            copies[stub] = cells[found[-1]].source
        numbers += [number] if found else []
    if numbers:
        notes.append(f"Found by the exercise and the name, not by the cell's id: the answer of {', '.join(numbers)}.")
    return copies


def assemble(cells, sheet, claims, copies, notes):
    """The repaired cells: the release's in its order, each followed by what the student added below it."""
    of, current = defaultdict(list), -1
    for index in range(len(cells)):
        current = claims.get(index, current)
        of[current].append(index)
    stubs = {text_of(sheet.cells[place]) for place in (*sheet.all("answer"), *sheet.all("check"))}

    def ordinary(indices):
        """Cells of the student's own; copies of what the course gave out to be filled in are left out."""
        kept = [(index, cells[index]) for index in indices if text_of(cells[index]) not in stubs]
        return [cell | {"metadata": {}, "id": f"added-{index}"} for index, cell in kept]

    result, back = ordinary(of[-1]), 0
    for place, given in enumerate(sheet.cells):
        own = [index for index in of[place] if index in claims]
        added = [index for index in of[place] if index not in claims]
        before, cell = [], given
        if sheet.kinds[place] == "answer":
            source, main, others = choose(cells, sheet, place, own, copies, notes)
            cell = given | {"source": source}
            before = sorted([*others, *(index for index in added if index < main)])
            added = [index for index in added if index > main]
        elif sheet.kinds[place] == "check":
            changed = [index for index in own if text_of(cells[index]) != text_of(given)]
            before = [index for index in changed if defined(cells[index].source)]
            before = [index for index in before if cells[index].source not in copies.values()]
            if changed or not own:
                what = "changed" if changed else "deleted"
                notes.append(f"The check of {sheet.numbers[place]} was {what}; the course's own counts.")
        else:
            cell, kept, lost = edited(cells[own[0]], given) if own else (given, False, bool(given.source.strip()))
            added = sorted([*added, *own[0 if kept else 1 :]])
            back += lost
        result += [*ordinary(before), {"id": f"course-{place}"} | cell, *ordinary(added)]
    if back:
        notes.append(f"Cells of the course that were missing or broken are back: {back}.")
    return result


def choose(cells, sheet, place, own, copies, notes):
    """The source of an answer, the number of the cell that it comes from (or -1), and those of the others to run first.

    Of several cells the last one counts that is filled in and is Python.
    """
    number, ranks = sheet.numbers[place], {index: sheet.filled(cells[index], place) for index in own}
    best = max(ranks.values(), default=0)
    main = max((index for index in own if ranks[index] == best), default=-1) if best else -1
    if place in copies:
        return copies[place], -1, [index for index in own if ranks[index]]
    if not own:
        notes.append(f"The answer of {number} was deleted and not found elsewhere; it gives no points.")
    if (times := sum(bool(grade_id(cells[index])) for index in own)) > 1:
        notes.append(f"The answer of {number} was there {times} times; the last one that is filled in counts.")
    if not best:
        return sheet.cells[place].source, -1, []
    if cells[main].cell_type != "code":
        notes.append(f"The answer of {number} was no code cell any more; it was run as one.")
    return cells[main].source, main, [index for index in own if ranks[index] and index != main]


def edited(cell, given):
    """A cell of the course that a student may have edited, whether theirs is to follow it, and whether theirs is lost.

    An edit counts if it still binds all names (or has all headings) of the course's: what comes later needs them.
    Otherwise the course's runs first. What has another type, is empty or is not Python is not used.
    """
    if text_of(cell) == text_of(given) and cell.cell_type == given.cell_type:
        return given, False, False
    if cell.cell_type != given.cell_type or not cell.source.strip():
        return given, False, True
    if cell.cell_type == "code":
        theirs, ours = bound(cell.source), bound(given.source) or set()
    else:
        theirs, ours = (set(re.findall(r"^#+ .*", source, re.MULTILINE)) for source in (cell.source, given.source))
    if theirs is None or not ours <= theirs:
        return given, theirs is not None, theirs is None
    pictures = {"attachments": cell.attachments} if "attachments" in cell else {}
    return given | {"source": cell.source} | pictures, False, False
