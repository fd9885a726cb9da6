"""Which class, side and group each picture has: from the folders that it lies in, or from a table (CSV)."""

import re
from typing import NamedTuple

from . import tables
from .decode import short
from .names import named_as_picture, natural, normal, printable, side_of, sides_in_words

NO_CLASS = "in no class folder"
NO_LABEL = "without a label in"
UNLABELLED = (NO_CLASS, NO_LABEL)  # how the reasons begin
NO_SIDE = "beside the folders train and test, in neither"


class Item(NamedTuple):
    """A file to be read, the parts of its path, its class, its side ("train", "test", a fold or "") and its group."""

    parts: tuple[str, ...]
    file: object
    label: str
    side: str = ""
    group: str = ""

    @property
    def name(self):
        return printable("/".join(self.parts))


class Listing(NamedTuple):
    """The `Item`s of a source; a pair of name and reason for each other file; and sentences about the whole."""

    items: list
    skipped: list
    notes: list


def label(files, notes, table=None, groups=None):
    """The `Listing` of `files_in`'s pairs.

    `table` is a path of a CSV file, or its name among the files; without it the folders are the classes, or where they
    are none and there is just one table, that is taken. `groups` names a column of the table, or is a regular
    expression: what it finds in a path (its groups in brackets, where it has any) is the picture's group. Raises
    `ValueError` as `tables.read` does, and for `groups` that finds nothing.
    """
    skipped = [(printable("/".join(parts)), file) for parts, file in files if isinstance(file, str)]
    listing = Listing([], skipped, notes)
    files = [(parts, file) for parts, file in files if not isinstance(file, str)]
    found = tables.find(files, table)
    depth, place = layout(files)
    if table is None and found is not None:
        paths = [without(parts, depth) for parts, _ in files if named_as_picture(parts[-1])]
        if len({parts[place] for parts in paths if len(parts) >= place + 2}) > 1:
            name = printable("/".join(found[0]))
            notes.append(f"classes from the folders' names; to take them from {name}, name it (labels=, --labels)")
            found = None
    if depth is not None:
        names = [parts[depth] for parts, _ in files if len(parts) > depth + 1]
        notes.append(f"sides from folders, with their files: {sides_in_words(names)}")
    if found is None:
        from_folders(files, depth, place, listing)
    else:
        from_table(files, depth, tables.read(*found), groups, listing)
    if groups is not None and not any(item.group for item in listing.items):
        by_pattern(groups, listing)
    return listing


def layout(files):
    """`(depth of the folders train and test, or None; depth of the class folders without that one)`.

    Class folders are the first that differ: what all pictures share lies above.
    """
    paths = [parts for parts, _ in files]
    paths = [parts for parts in paths if named_as_picture(parts[-1])] or paths
    side = None
    for depth in range(max(map(len, paths), default=1) - 1):
        sides = {side_of(parts[depth]) for parts in paths if len(parts) > depth + 1}
        if {"train", "test"} <= sides:
            side = depth
            break
    paths = [without(parts, side) for parts in paths]
    place = 0
    while any(len(parts) > place + 2 for parts in paths):
        folders = {parts[place] for parts in paths if len(parts) > place + 1}
        if len(folders) > 1 and not all(map(side_of, folders)):
            break
        place += 1
    return side, place


def without(parts, depth):
    return parts if depth is None or len(parts) < depth + 2 else parts[:depth] + parts[depth + 1 :]


def folder_side(parts, depth):
    """The side whose folder a path is in, "" where there are none, None where it is in neither."""
    if depth is None:
        return ""
    return (side_of(parts[depth]) if len(parts) > depth + 1 else "") or None


def from_folders(files, depth, place, listing):
    inner = {}  # the folders in each class
    for parts, file in files:
        side, rest = folder_side(parts, depth), without(parts, depth)
        if side is None:
            listing.skipped.append((printable("/".join(parts)), NO_SIDE))
        elif len(rest) < place + 2:
            listing.skipped.append((printable("/".join(parts)), NO_CLASS))
        else:
            listing.items.append(Item(parts, file, printable(rest[place]), side))
            inner.setdefault(rest[place], set()).update(rest[place + 1 : -1][:1])
    shared = sorted(set.intersection(*inner.values()), key=natural) if len(inner) > 1 else ()
    if len(shared) > 1:
        shown = short(printable(", ".join(shared)))
        listing.notes.append(f"in each class are folders {shown}: where those are the classes, say so in a table (CSV)")


def from_table(files, depth, table, groups, listing):
    rows = tables.rows(table, [parts for parts, _ in files], groups, listing.notes)
    entries, several, twice = {}, {}, []
    for row in rows:
        if isinstance(row.file, str):
            listing.skipped.append((printable(row.name), row.file))
        elif row.file not in entries:
            entries[row.file] = row
        elif said(row) == said(entries[row.file]):
            twice.append(short(printable(row.name)))
        else:
            several.setdefault(row.file, {said(entries[row.file])}).add(said(row))
    if twice:
        more = ", ..." if len(twice) > 10 else ""
        listing.notes.append(f"listed again, with the same label, in {table.name}: {', '.join(twice[:10])}{more}")
    for index, (parts, file) in enumerate(files):
        if parts == table.path:
            continue
        name, row = printable("/".join(parts)), entries.get(index)
        side = None if row is None else row.side or folder_side(parts, depth)
        if row is None or not row.label:
            listing.skipped.append((name, f"{NO_LABEL} {table.name}"))
        elif index in several:
            listing.skipped.append((name, f"listed with several labels: {', '.join(sorted(several[index]))}"))
        elif row.side is None:
            listing.skipped.append((name, f"neither for training nor for testing in {table.name}"))
        elif side is None:
            listing.skipped.append((name, NO_SIDE))
        else:
            listing.items.append(Item(parts, file, row.label, side, row.group))


def said(row):
    return row.label + (f" ({row.side})" if row.side else "")


def by_pattern(groups, listing):
    try:
        pattern = re.compile(normal(groups))
    except re.error as error:
        raise ValueError(f"expected groups to be a regular expression, found {groups!r} ({error})") from None
    alone = 0
    for i, item in enumerate(listing.items):
        if found := pattern.search("/".join(item.parts)):
            listing.items[i] = item._replace(group="/".join(part or "" for part in found.groups()) or found.group())
        alone += not listing.items[i].group
    if listing.items and alone == len(listing.items):
        raise ValueError(
            "expected groups to name a column of the table, or to be a regular expression that file names match, "
            f"found {groups!r}, which fits none, such as {short(listing.items[0].name)!r}"
        )
    if alone:
        listing.notes.append(f"{alone} pictures match no group in {groups!r}: each counts as a group of its own")
