"""What a class hands in, put where grading finds it: a learning platform's archive, folders, zips in zips.

Whose a file is, its place says; which assignment it is of, its exercises say, not its name. The archive and all in it
is hostile until read: nothing is unpacked to a path of its own, and sizes and numbers are limited.
"""

import csv
import io
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import nbformat

from ..files import atomic_path
from . import repair

MOST_FILES, MOST_DEPTH = 20_000, 4  # entries in all, and zips in zips
MOST_BYTES = {"zip": 500 << 20, "notebook": repair.MOST_BYTES, "beside": 20 << 20, "in all": 2 << 30}
MOST_BESIDE = 50
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?P<kind>[a-z]+)_?(?P<rest>.*)$")
CANVAS = re.compile(
    r"^(?P<name>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_\d+_(?P<rest>.+?)(?:-(?P<attempt>\d+))?(?P<end>\.\w+)$"
)
IGNORED = re.compile(r"^(__MACOSX|\..*|Thumbs\.db|desktop\.ini|__pycache__)$", re.IGNORECASE)
GENERAL = re.compile(
    r"^(my )?(submi(ssions?|tted)|assignments?|notebooks?|homeworks?|uploads?|downloads?|files?)\b[ _\d]*$", re.I
)
COPY = re.compile(r" ?\((\d+)\)$")
COLUMNS = {
    "id": {"id", "student_id", "student id", "id number", "sis user id", "sis login id", "login id", "username"},
    "email": {"email", "e-mail", "email address", "e-mail address"},
    "name": {"name", "student", "full name", "student name"},
    "first": {"first name", "first_name", "firstname", "given name"},
    "last": {"last name", "last_name", "lastname", "surname", "family name"},
}


@dataclass
class File:
    """One file that was handed in: where it lies (as named there), how to read it, and when it was changed."""

    path: PurePosixPath
    size: int
    open: object
    time: datetime | None = None
    who: str = ""
    platform_id: str = ""
    inside: PurePosixPath = PurePosixPath()  # its place in what this student handed in
    attempt: int = 0
    note: str = ""
    taken: bool = False  # beside a notebook, or not to be told of

    @property
    def is_notebook(self):
        """Whether its name is a notebook's; some browsers add another ending."""
        return bool(re.search(r"\.ipynb(\.txt|\.json)?$", self.path.name, re.IGNORECASE))

    def read(self):
        """All bytes of the file. Raises ValueError where it is too large or damaged."""
        return limited(self, MOST_BYTES["notebook" if self.is_notebook else "beside"])


@dataclass
class Collected:
    """What came of a collection: rows of `collected-ASSIGNMENT.csv`, and what is to be told."""

    placed: dict = field(default_factory=dict)  # assignment: rows
    absent: dict = field(default_factory=dict)  # assignment: names of the roster
    unknown: list = field(default_factory=list)  # students whom the roster does not know
    left: list = field(default_factory=list)  # (path, why it was not placed)

    def __str__(self):
        lines = []
        for assignment, rows in self.placed.items():
            lines.append(f"{assignment}: {len(rows)} placed")
            width = max((len(row["student"]) for row in rows), default=0)
            for row in rows:
                said = "; ".join(filter(None, (row["note"], row["change"])))
                lines.append(f"  {row['student']:{width}}  {shown(said)}".rstrip())
            if absent := self.absent.get(assignment):
                lines.append(f"  Handed in nothing ({len(absent)}): {', '.join(map(shown, absent))}")
        if self.unknown:
            lines.append(f"Not on the roster ({len(self.unknown)}): {', '.join(self.unknown)}")
        if self.left:
            lines.append(f"Not placed ({len(self.left)}):")
            lines += [f"  {shown(path)}: {why}" for path, why in self.left]
        return "\n".join(lines)


def shown(text):
    """`text` without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:300]


def limited(file, most):
    """The bytes of a file. Raises ValueError where there are more than `most`, or it is damaged."""
    if file.size > most:
        raise ValueError(f"too large (more than {most >> 20} MiB)")
    try:
        with file.open() as stream:
            data = stream.read(most + 1)
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"cannot be read ({shown(error)})") from None
    except Exception as error:  # what a broken compressed stream raises depends on how it was packed
        raise ValueError(f"cannot be read ({type(error).__name__})") from None
    if len(data) > most:
        raise ValueError(f"too large (more than {most >> 20} MiB)")
    return data


def entry_name(info):
    """The name of an entry of a zip; many programs write UTF-8 without saying so."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def refusal(name, mode, encrypted=False):
    """Why a file is not looked at, or None."""
    if encrypted:
        return "encrypted; send it without a password"
    if stat.S_ISLNK(mode):
        return "a link, which is refused"
    if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        return "a device or pipe, which is refused"
    if name.startswith("/") or re.match(r"^[a-zA-Z]:", name) or ".." in name.split("/"):
        return "a path that leads out of the archive, which is refused"
    return None


def walk(source, left):
    """The files in a folder or a zip, and in the zips in it; what is refused goes to `left` with its reason.

    Raises ValueError where `source` is neither, or holds more than `MOST_FILES`.
    """
    if source.is_dir():
        found = list(in_folder(source, left))
    elif source.is_file() and zipfile.is_zipfile(source):
        found = in_zip(File(PurePosixPath(), 0, None), left, source)
    else:
        raise ValueError(f"expected a folder or a zip of what was handed in, found neither in {source}")
    files, size = [], 0
    while found:
        file = found.pop(0)
        if len(files) + len(found) + len(left) > MOST_FILES:
            raise ValueError(f"expected at most {MOST_FILES} files, found more in {source}; collect it in parts")
        size += file.size
        depth = sum(part.lower().endswith(".zip") for part in file.path.parts)
        if size > MOST_BYTES["in all"]:
            left.append((file.path, f"more than {MOST_BYTES['in all'] >> 30} GiB together; collect it in parts"))
        elif file.path.suffix.lower() != ".zip":
            files.append(file)
        elif depth > MOST_DEPTH:
            left.append((file.path, f"a zip in more than {MOST_DEPTH} others"))
        else:
            found[:0] = in_zip(file, left)
    return files


def in_folder(folder, left):
    """The files of a folder, links refused."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not IGNORED.match(name))
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in [*links, *sorted(name for name in names if not IGNORED.match(name))]:
            path = Path(root, name)
            inside = PurePosixPath(unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))
            state = path.lstat()
            if why := refusal(inside.as_posix(), state.st_mode):
                left.append((inside, why))
            else:
                time = datetime.fromtimestamp(state.st_mtime, UTC)
                yield File(inside, state.st_size, lambda path=path: path.open("rb"), time)


def in_zip(file, left, source=None):
    """The files of a zip, which is a file in another or lies at `source`; in the former they have its time."""
    try:
        archive = zipfile.ZipFile(source or io.BytesIO(limited(file, MOST_BYTES["zip"])))
        entries = archive.infolist()
    except (ValueError, zipfile.BadZipFile, NotImplementedError, OSError, IndexError) as error:
        left.append((file.path, f"no zip that can be read ({shown(error)})"))
        return []
    if len(entries) > MOST_FILES:
        left.append((file.path, f"a zip of more than {MOST_FILES} files"))
        return []
    found = []
    for info in entries:
        name = entry_name(info)
        if info.is_dir() or name.endswith("/") or any(IGNORED.match(part) for part in name.split("/") if part != ".."):
            continue
        path = file.path / name.lstrip("/")
        if why := refusal(name, info.external_attr >> 16, info.flag_bits & 1):
            left.append((path, why))
            continue
        time = file.time
        if time is None and info.date_time > (1980, 1, 2):
            try:
                time = datetime(*info.date_time).astimezone(UTC)
            except (ValueError, OverflowError):
                time = None
        found.append(File(path, info.file_size, lambda info=info: archive.open(info), time))
    return found


def read_roster(path):
    """Who is in the class: for each line of the CSV its `name` to show, and `keys` that files can be known by.

    Raises ValueError where no column tells names, addresses or ids.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    heads = [cell.strip().lower() for cell in next(rows, [])]
    places = {kind: [i for i, cell in enumerate(heads) if cell in names] for kind, names in COLUMNS.items()}
    if not any(places.values()):
        raise ValueError(
            f"expected a roster with a column id, email or name, found {heads[:6]} in {path}; add a header"
        )
    roster = []
    for row in rows:
        found = {kind: [row[i].strip() for i in at if i < len(row) and row[i].strip()] for kind, at in places.items()}
        first, last = " ".join(found["first"]), " ".join(found["last"])
        names = [*found["name"], *([f"{first} {last}".strip(), f"{last} {first}"] if first or last else [])]
        names += [" ".join(reversed(name.rsplit("," if "," in name else " ", 1))) for name in found["name"]]
        ids = [*found["id"], *found["email"], *(address.partition("@")[0] for address in found["email"])]
        keys = {key for text in (*names, *ids) if (key := known_by(text))}
        if keys and not (names and names[0].lower().startswith("points possible")):  # a line of Canvas's own
            roster.append({"name": (names or ids)[0], "keys": keys})
    return roster


def known_by(text):
    """A name, address or id as compared: letters and digits alone, in one case."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def person(roster, *texts):
    """The one line of the roster that one of `texts` (names, ids) belongs to, or None where none or several do."""
    for text in filter(None, map(known_by, filter(None, texts))):
        found = [line for line in roster if text in line["keys"]]
        if len(found) == 1:
            return found[0]
    return None


def safe(name):
    """`name` as a folder: letters of any script, digits, spaces and -_.'@, kept; never empty, hidden or a path."""
    name = unicodedata.normalize("NFC", name)
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c in " -_.'@," else "_" for c in name)
    return kept.lstrip(" .-@")[:80].rstrip(" .") or "student"


def place(files, assignments, roster):
    """Say whose each file is, in place: by the platform's names, the roster, or the folders and names of files."""
    plain = []
    for file in files:
        parts = [re.sub(r"\.zip$", "", part, flags=re.IGNORECASE) for part in file.path.parts[:-1]] + [file.path.name]
        for at, part in enumerate(parts):
            if match := MOODLE.match(part):
                rest = [match["rest"]] if match["rest"] else []
                file.taken = match["kind"] != "file"  # a text typed online
            elif match := CANVAS.match(file.path.parts[at]):
                name = match["rest"] + match["end"]
                rest, file.attempt, file.time = [name], int(match["attempt"] or 0), None  # the time of the download
                file.note = "late, says the platform" if match["late"] else ""
            else:
                continue
            file.who, file.platform_id = match["name"], match["id"]
            file.inside = PurePosixPath(*rest, *parts[at + 1 :])
            break
        else:
            plain.append((file, parts))
    place_plain(plain, assignments, roster)


def place_plain(files, assignments, roster):
    """`place` for files without a platform's names: the first folder counts that is no assignment's and not all's."""

    def tells(part):
        """What a name tells besides an assignment's."""
        part = COPY.sub("", part)
        for name in assignments:
            part = re.sub(rf"(?i)^{name[:2]}\b|{re.escape(name)}|{re.escape(name[3:])}", "", part.replace(" - ", " "))
            part = re.sub(rf"(?i)^{re.escape(name.replace('_', ' '))}", "", part)
        part = part.strip(" _-.")
        return "" if GENERAL.match(part) or part.isdigit() else part

    sheets = [parts for file, parts in files if file.is_notebook]
    common = os.path.commonprefix([parts[:-1] for parts in sheets]) if sheets else []
    stems = {tells(PurePosixPath(parts[-1]).stem) for parts in sheets}
    if len(stems) < 2 and all(len(parts) == len(common) + 1 for parts in sheets):
        common = []  # the folder of one student
    for file, parts in files:
        shared = common if parts[: len(common)] == common else []
        folders, stem = parts[len(shared) : -1], PurePosixPath(parts[-1]).stem
        names = [stem, *reversed(shared)] if file.is_notebook else [*reversed(shared)]
        on_roster = [part for part in (*folders, *names) if person(roster, part, tells(part))]
        best = next(iter([*on_roster, *(part for part in (*folders, *names) if tells(part))]), "")
        file.who = best if best in folders else tells(best)
        at = parts.index(best) + 1 if best in parts[:-1] else len(parts) - 1
        file.inside = PurePosixPath(*parts[at:])


def released(course):
    """The released notebooks of a course, `{name: notebook}`. Raises ValueError where there are none."""
    paths = sorted(Path(course).glob("release/*/*.ipynb"))
    if not paths:
        raise ValueError(
            f"expected released notebooks in {course}/release, found none; write the class's editions first"
        )
    return {path.parent.name: nbformat.read(path, as_version=4) for path in paths}


def identify(file, sheets, asked):
    """The assignment that a notebook is of, and what is wrong with it or an empty text.

    Raises ValueError where no assignment can be told. What cannot be read is taken for the assignment that its name
    says, or the only one asked for, so that its student is told what is wrong.
    """
    try:
        notebook = repair.reads(file.read())
    except ValueError as error:
        text = file.path.as_posix()
        told = [name for name in sheets if name in text or re.search(rf"(^|[/_ ]){name[:2]}[_ ]", text)] or asked
        if len(told) != 1:
            raise ValueError(str(error)) from None
        return told[0], str(error)
    alike = {name: repair.likeness(notebook, sheet) for name, sheet in sheets.items()}
    best = max(alike, key=alike.get)
    if not alike[best]:
        raise ValueError("a notebook with no exercise of the course")
    return best, ""


def keep_roster(course, roster):
    """Keep a roster, a CSV file, with the course. Raises ValueError where no students can be read from it."""
    read_roster(roster)
    if Path(roster).resolve() != (course / "roster.csv").resolve():
        with atomic_path(course / "roster.csv") as path:
            shutil.copyfile(roster, path)


def collect(course, source, names=()):
    """Put what a class handed in, a folder or zip, into `course/submitted`; returns what came of it (`Collected`).

    `names` are assignments (default: all released). Raises ValueError where there is nothing to collect from.
    """
    course, source = Path(course), Path(source)
    sheets, result = released(course), Collected()
    asked = names or list(sheets)
    people = read_roster(course / "roster.csv") if (course / "roster.csv").is_file() else []
    files = walk(source, result.left)
    place(files, list(sheets), people)
    place(refused := [File(path, 0, None) for path, _ in result.left], list(sheets), people)
    versions, beside = sort(files, sheets, asked, result.left)
    if len(asked) == 1:
        take_anything(course, asked[0], [*files, *refused], versions, people, result.left)
    students = folders(course, versions, people)
    for (assignment, who), found in versions.items():
        row = write(course, assignment, students[assignment, who], found, beside)
        result.placed.setdefault(assignment, []).append(row)
    told(files, versions, result.left)
    for assignment in asked if names else list(result.placed):
        rows = sorted(result.placed.setdefault(assignment, []), key=lambda row: row["student"])
        result.placed[assignment] = rows
        record(course / f"collected-{assignment}.csv", rows)
        there = [path.parent.name for path in course.glob(f"submitted/*/{assignment}")]
        known = {row["student"]: row["who"] for row in rows}
        present = [person(people, name, *known.get(name, ())) for name in there]
        result.absent[assignment] = [line["name"] for line in people if line not in present]
        if people:
            result.unknown += [row["student"] for row in rows if not person(people, row["student"], *row["who"])]
    result.unknown = sorted(set(result.unknown))
    return result


def sort(files, sheets, asked, left):
    """Notebooks as `{(assignment, (name, id)): versions}`, the one that counts last, and all other files.

    What is of no student or no assignment goes to `left` with its reason.
    """
    versions, beside = {}, []
    for number, file in enumerate(files):
        if not file.is_notebook:
            beside.append(file)
            continue
        try:
            assignment, wrong = identify(file, sheets, asked)
        except ValueError as error:
            left.append((file.path, str(error)))
            continue
        if not file.who:
            left.append((file.path, f"of {assignment}, but no student's name is in its place"))
        elif assignment not in asked:
            left.append((file.path, f"of {assignment}, which was not asked for"))
        else:
            copy = COPY.search(file.path.stem)
            order = (not wrong, file.attempt, file.time.timestamp() if file.time else 0, int(copy[1]) if copy else 0)
            versions.setdefault((assignment, (file.who, file.platform_id)), []).append(((*order, number), file, wrong))
    return {key: [found[1:] for found in sorted(many)] for key, many in versions.items()}, beside


def take_anything(course, assignment, files, versions, people, left):
    """Add to `versions` a file of each student who handed in files, none of them this notebook, now or before.

    It cannot be marked, but then it is told what was found. Without a platform's folders, students are the roster's.
    """
    have = {who for _, who in versions}
    earlier = [path.parent.name for path in course.glob(f"submitted/*/{assignment}")]
    lines = [person(people, name) for name in earlier]
    why = dict(left)
    for file in sorted(files, key=lambda file: (file.taken, not file.is_notebook)):  # a text typed online comes last
        who, line = (file.who, file.platform_id), person(people, file.who, file.platform_id)
        if who in have or not (file.platform_id or line) or safe(file.who) in earlier or (line and line in lines):
            continue
        have.add(who)
        wrong = why.get(file.path, "not a notebook")
        versions[assignment, who] = [
            (file, f"no notebook of {assignment} was handed in; this is {file.inside}: {wrong}")
        ]
        left[:] = [(path, reason) for path, reason in left if path != file.path]
        file.taken = True


def folders(course, versions, people):
    """The folder of each student, `{(assignment, (name, id)): folder}`; no two students share one."""
    there = {line["name"]: path.name for path in course.glob("submitted/*") if (line := person(people, path.name))}
    found, owners = {}, {}
    for assignment, who in versions:
        line = person(people, *who)
        name = safe(who[0])
        if line:
            name = there.setdefault(line["name"], name)
        owner = line["name"] if line else who
        owners.setdefault((assignment, name.casefold()), set()).add(owner)
        found[assignment, who] = name
    return {
        (assignment, who): name
        if len(owners[assignment, name.casefold()]) == 1
        else safe(f"{name} {who[1] or zlib.crc32(who[0].encode('utf-8', 'replace'))}")
        for (assignment, who), name in found.items()
    }


def write(course, assignment, student, versions, beside):
    """Write a student's submission where it is new or differs; returns its row of `collected-ASSIGNMENT.csv`."""
    file, wrong = versions[-1]
    notes = [note for note in (wrong, file.note) if note]
    if len(versions) > 1:
        others = ", ".join(other.inside.as_posix() for other, _ in versions[:-1])
        notes.append(f"{len(versions)} versions: {file.inside} counts, not {others}")
    contents, size = {f"{assignment}.ipynb": b""}, 0
    with suppress(ValueError):  # the note says what is wrong
        contents[f"{assignment}.ipynb"] = file.read()
    for other in beside:
        near = (other.who, other.platform_id) == (file.who, file.platform_id) and other.path.parent.is_relative_to(
            file.path.parent
        )
        if not near or other is file or other.inside.name == "timestamp.txt":
            continue
        name = "/".join(safe(part) for part in other.path.relative_to(file.path.parent).parts)
        name = safe(other.inside.as_posix()) if other.inside.name != other.path.name else name
        try:
            data = other.read()
            size += len(data)
            if size > MOST_BYTES["beside"] or len(contents) > MOST_BESIDE:
                raise ValueError("more files beside the notebook than are taken along")
            if len(name) > 200 or any(
                f"{a}/".startswith(f"{b}/") for one in contents for a, b in ((one, name), (name, one))
            ):
                raise ValueError("its name is too long or a folder's")
            contents[name] = data
        except ValueError as error:
            notes.append(f"left out {shown(other.inside)}: {error}")
        other.taken = True
    moodle = MOODLE.search("/".join(file.path.parts[-2:])) or any(MOODLE.match(part) for part in file.path.parts)
    when = file.time if moodle else None
    if when:
        contents["timestamp.txt"] = when.strftime("%Y-%m-%d %H:%M:%S UTC").encode()
    change = replace(course, course / "submitted" / student / assignment, contents)
    path = file.path.as_posix()
    path = f"./{path}" if path.startswith(("=", "+", "-", "@")) else path  # no formula for a spreadsheet
    row = {"student": student, "file": shown(path), "when": when.isoformat() if when else "", "note": "; ".join(notes)}
    return row | {"who": (file.who, file.platform_id), "change": change}


def replace(course, folder, contents):
    """Make `folder` hold `contents`, in one step; returns what that changed, in words."""
    if folder.is_dir() and not folder.is_symlink():
        old = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        if set(old) == set(contents) and all(path.read_bytes() == contents[name] for name, path in old.items()):
            return "unchanged"
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=course, prefix=".collect-"))
    new.chmod(0o755)
    for name, data in contents.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_bytes(data)
    replaced = os.path.lexists(folder)
    if replaced:
        shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink()
    os.replace(new, folder)
    return "replaces what was handed in before" if replaced else ""


def told(files, versions, left):
    """Add to `left` what is no notebook and went along with none."""
    for file in files:
        if not file.is_notebook and not file.taken:
            kind = file.path.suffix.lower()
            packed = kind in (".7z", ".rar", ".tar", ".gz", ".tgz", ".xz")
            why = "an archive of another kind; unpack it first" if packed else "not a notebook"
            left.append((file.path, "an empty file" if not file.size else why))


def record(path, rows):
    """Write `collected-ASSIGNMENT.csv`; what earlier collections placed and this one did not stays in it."""
    kept = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            now = {row["student"] for row in rows}
            kept = [row for row in csv.DictReader(file) if row["student"] not in now]
    with atomic_path(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["student", "file", "when", "note"], extrasaction="ignore")
        table.writeheader()
        table.writerows(sorted([*kept, *rows], key=lambda row: row["student"]))
