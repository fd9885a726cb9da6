"""Labels in a table: a CSV file with a column of file names and a column of classes, or a column for each class."""

import csv
import io
import re
from collections import defaultdict
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .decode import short
from .names import guess_encoding, named_as_picture, natural, normal, printable, side_of, sides_in_words

MOST_BYTES, MOST_COLUMNS = 50_000_000, 1000
SUFFIXES = (".csv", ".tsv")
# What columns are called, in lower case, without what is no letter or digit.
FILE = ("file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imageid", "img", "picture")
LABEL = ("label", "class", "category", "target", "classname", "labelname", "labels", "classes")
LABEL += ("diagnosis", "species", "type", "kind")
SIDE = ("split", "set", "subset", "partition", "fold", "folds")
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null"}  # what programs write for no label
NOT_THERE = "in the table, but not there"
NUMBERS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}


class Table(NamedTuple):
    """A table: its name, its path among the files (None: elsewhere), its columns' names and its rows."""

    name: str
    path: tuple[str, ...] | None
    columns: list
    rows: list


class Row(NamedTuple):
    """What a table says of a file: its index among the files, or why there is none; `side` None: in neither."""

    name: str
    file: int | str
    label: str
    side: str | None
    group: str


def find(files, table):
    """`(path, file)` of the table: a path on the disk, or the name of one of the files; without `table` the only one.

    None where there is none, or several of which none was named. Raises `ValueError` where that which was named is not
    there.
    """
    inside = [(parts, file) for parts, file in files if parts[-1].lower().endswith(SUFFIXES)]
    if table is None:
        return inside[0] if len(inside) == 1 else None
    path = Path(table)
    for parts, file in inside if path.is_file() else ():
        if isinstance(file, Path) and file.samefile(path):
            return parts, file
    if path.is_file():
        return None, path
    wanted = PurePosixPath(normal(str(table)).replace("\\", "/")).parts
    named = [(parts, file) for parts, file in files if parts[-len(wanted) :] == wanted]
    if len(named) != 1:
        there = ", ".join(short(printable("/".join(parts))) for parts, _ in inside[:5]) or "none"
        raise ValueError(f"expected a table of labels named {table}, found {len(named)} of that name; tables: {there}")
    return named[0]


def read(path, file):
    """The `Table` in a file, whatever its encoding and its separator (comma, semicolon or tab).

    Raises `ValueError` where it is too large, a workbook, or no table of at least two columns.
    """
    name = printable(file.name if path is None else "/".join(path))
    with file.open("rb") as opened:
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"expected a table of at most {MOST_BYTES // 10**6} MB, found {name} to be larger")
    if data[:4] in (b"PK\3\4", b"\xd0\xcf\x11\xe0"):
        raise ValueError(f"expected a table as text (CSV), found {name} to be a workbook; save it as CSV")
    text = normal(decoded(data)).removeprefix("\ufeff")
    lines = io.StringIO(text, newline=None)
    first = next(lines, "")
    if first.strip(' "').lower().startswith("sep="):  # a note of Excel's
        first = next(lines, "")

    def cells(separator, lines):
        return csv.reader(lines, delimiter=separator, skipinitialspace=True)

    try:
        separator = max(",;\t", key=lambda separator: len(next(cells(separator, [first]), ())))
        rows = [row for row in cells(separator, chain([first], lines)) if any(row)]
    except csv.Error as error:
        raise ValueError(f"expected a table (CSV), found {name} damaged ({error})") from None
    rows = [[cell.strip() for cell in row] for row in rows]
    width = len(rows[0]) if rows else 0
    if not 2 <= width <= MOST_COLUMNS:
        raise ValueError(
            f"expected columns with files and labels in {name}, at most {MOST_COLUMNS:,}, found {width}; separate them "
            "by commas, semicolons or tabs"
        )
    rows = [(row + [""] * width)[:width] for row in rows]
    filled = [i for i, column in enumerate(zip(*rows, strict=True)) if any(column)]
    rows = [[row[i] for i in filled] for row in rows]
    return Table(name, path, rows[0], rows)


def decoded(data):
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    lines = data.splitlines()
    return data.decode(guess_encoding(lines, "cp1252", "cp1251") or "cp1252", "replace")


def key(column):
    return re.sub(r"^unnamed: \d+$|[\W_]", "", column.casefold())


class Finder:
    """Finds files by what a table calls them: a path beside the table or below, the end of a path, a bare name."""

    def __init__(self, paths):
        self.keys = defaultdict(list)
        self.pictures = {index for index, parts in enumerate(paths) if named_as_picture(parts[-1])}
        for index, parts in enumerate(paths):
            ends = {parts, *(parts[-n:] for n in (1, 2, 3, 4))}
            ends |= {(*end[:-1], PurePosixPath(end[-1]).stem) for end in ends}
            for end in ends:
                self.keys["/".join(end).casefold()].append(index)

    def hits(self, column):
        """How many of the files the cells of a column name, and whether as pictures."""
        names = {re.split(r"[/\\]", cell)[-1] for cell in column}
        names = {name for name in names if name.casefold() in self.keys}
        return len(names), any(map(named_as_picture, names))

    def find(self, name, folder):
        """The file's index, or in words why there is none; and whether only an end of the path fits."""
        steps = list(folder)
        own = [step for step in normal(name).replace("\\", "/").split("/") if step not in ("", ".")]
        for step in own:
            steps = steps[:-1] if step == ".." else [*steps, step]
        for wanted in (steps, *(own[-n:] for n in (4, 3, 2, 1))):
            found = self.keys.get("/".join(wanted).casefold(), ()) if wanted else ()
            found = [index for index in found if index in self.pictures] or found
            if len(found) == 1:
                return found[0], len(wanted) < len(own)
            if found:
                return f"in the table, and there {len(found)} times", False
        return NOT_THERE, False


def rows(table, paths, groups, notes):
    """Every `Row` of the table, for the files at `paths`. What was taken for what is added to `notes`.

    Raises `ValueError` where no column names files, where it is not clear which one names classes, or where a picture
    has several.
    """
    finder, folder = Finder(paths), (table.path or ())[:-1]
    columns = list(zip(*table.rows, strict=True))
    keys = [key(name) for name in table.columns]
    hits = [finder.hits(column) for column in columns]
    ranks = [(n > 0, name in FILE, named, name == "id", n) for name, (n, named) in zip(keys, hits, strict=True)]
    place = ranks.index(max(ranks))
    if not ranks[place][0]:
        cells = ", ".join(repr(short(printable(cell))) for cell in table.rows[-1][:4])
        raise ValueError(
            f"expected a column of {table.name} to name files, found none, in a row such as {cells}; write paths "
            "relative to the table, or names of files"
        )
    name = table.columns[place]
    header = keys[place] in FILE or finder.find(name, folder)[0] == NOT_THERE and not named_as_picture(name)
    body = columns if not header else [column[1:] for column in columns]
    if not header:
        keys = [""] * len(keys)
    found = [finder.find(cell, folder) for cell in body[place]]
    paths = defaultdict(set)  # by which a file is called
    for cell, (file, by_end) in zip(body[place], found, strict=True):
        paths[file].add(cell if by_end else "")
    files = [NOT_THERE if by_end and len(paths[file]) > 1 else file for file, by_end in found]
    free = [i for i in range(len(columns)) if i != place and (keys[i] or not header)]
    side = next((i for i in free if keys[i] in SIDE), None)
    if side is None:
        side = next((i for i in free if {side_of(cell) for cell in set(body[i])} == {"train", "test"}), None)
    group = next((i for i in free if groups and header and keys[i] == key(groups)), None)
    free = [i for i in free if i not in (side, group)]
    labels, used = find_labels(table, keys, free, body, header, notes)
    nothing = [""] * len(labels)
    sides = nothing if side is None else sides_of(table, table.columns[side] if header else side + 1, body[side], notes)
    if unused := [printable(table.columns[i]) for i in free if header and i not in used]:
        notes.append(
            f"columns of {table.name} that are not used: {', '.join(unused[:12])}{' ...' * (len(unused) > 12)}"
        )
    own = nothing if group is None else body[group]
    return [Row(*row) for row in zip(body[place], files, labels, sides, own, strict=True) if row[0]]


def find_labels(table, keys, free, body, header, notes):
    """The class of each row, "" where it has none, and the columns that say it."""
    place = next((i for name in LABEL for i in free if keys[i] == name), free[0] if len(free) == 1 else None)
    if place is not None:
        name = f"column {printable(table.columns[place])!r}" if header else f"column {place + 1}"
        notes.append(f"classes from {name} of {table.name}")
        labels = ["" if cell.casefold() in MISSING else printable(cell) for cell in body[place]]
        known = set(labels) - {""}
        parts = ({part.strip() for part in re.split(r"[|;,]", cell)} - {""} for cell in known)
        if several := next((sorted(cells) for cells in parts if len(cells) > 1 and cells & known), None):
            raise several_classes(table, several)
        return labels, [place]
    marks = [i for i in free if header and set(map(str.casefold, body[i])) <= NUMBERS.keys()]
    if len(marks) < 2:
        raise ValueError(
            f"expected a column named label, class, category or target in {table.name}, or a column of 0 and 1 for "
            f"each class, found {', '.join(printable(name) for name in table.columns[:12])}; rename one"
        )
    classes = [printable(table.columns[i]) for i in marks]
    notes.append(f"classes from columns of 0 and 1 in {table.name}: {', '.join(classes)}")
    labels = []
    for cells in zip(*(body[i] for i in marks), strict=True):
        own = [name for name, cell in zip(classes, cells, strict=True) if NUMBERS[cell.casefold()]]
        if len(own) > 1:
            raise several_classes(table, own)
        labels.append("".join(own))
    return labels, marks


def several_classes(table, names):
    return ValueError(
        f"expected one class a picture, found several in a row of {table.name}: {', '.join(names[:5])}; this course's "
        "models tell pictures of one class each: choose one, or leave these pictures out"
    )


def sides_of(table, column, cells, notes):
    """The side of each row: "train", "test", the name of a fold, None where it is neither; "" where there are none."""
    sides = [side_of(cell) for cell in cells]
    if any(sides):
        notes.append(f"sides from column {column!r} of {table.name}: {sides_in_words(cells)}")
        return [side or None for side in sides]
    if str(column).casefold().startswith("fold"):
        notes.append(f"folds from {table.name}: {short(', '.join(sorted(set(cells), key=natural)))}")
        return [cell or None for cell in cells]
    notes.append(f"column {column!r} of {table.name} names no sides such as train and test, and is not used")
    return [""] * len(cells)
