"""Where pictures are: in a folder, a zip file or an upload. Every file is found, or listed with a reason."""

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

from .decode import short
from .names import guess_encoding, normal, printable

MOST_FILES = 100_000
MOST_BYTES = 100_000_000  # of one file
MOST_ZIP_BYTES = 4_000_000_000  # of a zip file's contents, unpacked
UTF8 = 0x800  # a zip file's flag: this name is in UTF-8
SYSTEM = {"Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "$RECYCLE.BIN"}
HIDDEN = "hidden"
EMPTY = "an empty folder"
TOO_LARGE = f"larger than {MOST_BYTES // 10**6} MB"


class Held(NamedTuple):
    """The bytes of a file. Opens as a `Path` does."""

    data: bytes

    def open(self, mode):
        return io.BytesIO(self.data)


class Member(NamedTuple):
    """A file in a zip file. Opens as a `Path` does, in memory: `MOST_BYTES` at most, whatever its header promised."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def open(self, mode):
        with self.archive.open(self.info) as file:
            return io.BytesIO(file.read(MOST_BYTES))


def files_in(source, notes):
    """The files of `source`, a folder, a zip file or uploads `[(name, bytes), ...]`, as a list of pairs.

    A pair is the parts of a path, in Unicode's NFC, and the file, a `Path` or what opens as one, or else the reason why
    it is skipped. What else is to be told is added to the list `notes`. Raises `ValueError` where there is no such
    source, where there are too many files, and as `files_in_zip` does.
    """
    if not isinstance(source, (str, os.PathLike)):
        found = files_in_uploads(source, notes)
    elif (path := Path(source)).is_dir():
        found = files_in_folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        found = files_in_zip(path.name, path, notes)
    else:
        raise ValueError(f"expected a folder with one folder per class, or a zip file of one, found none at {path}")
    found = [(tuple(map(normal, parts)), file) for parts, file in found]
    if len(found) > MOST_FILES:
        raise ValueError(f"expected at most {MOST_FILES:,} files, found {len(found):,}; take a part of them")
    return found


def files_in_folder(root):
    """The files under the folder `root`, in order. Links to folders are not followed."""
    problems = []
    for folder, folders, files in os.walk(root, onerror=problems.append):
        folder = Path(folder)
        above = folder.relative_to(root).parts
        if above and not folders and not files:
            yield above, EMPTY
        for name in sorted(folders):
            if hidden(name) or (folder / name).is_symlink():
                folders.remove(name)
                yield (*above, name), HIDDEN if hidden(name) else "a link to a folder: put the folder itself here"
        folders.sort()
        for name in sorted(files):
            path = folder / name
            if hidden(name):
                yield (*above, name), HIDDEN
            elif not path.is_file():
                yield (*above, name), "no file: a broken link, or a device"
            elif path.stat().st_size > MOST_BYTES:
                yield (*above, name), TOO_LARGE
            else:
                yield (*above, name), path
    for error in problems:
        above = Path(error.filename).relative_to(root).parts
        yield above or (".",), f"cannot be opened: {error.strerror}"


def files_in_uploads(files, notes):
    for name, data in files:
        if name.lower().endswith(".zip"):
            yield from files_in_zip(name, io.BytesIO(data), notes)
        else:
            yield (name,), Held(data)


def files_in_zip(name, file, notes):
    """The files of a zip file, as if it had been unpacked into a folder of its name. Nothing is written.

    Raises `ValueError` for a zip file that is broken, or unpacks to too much.
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # which one depends on what is broken
        raise ValueError(f"expected a complete zip file, found {short(name)!r} broken ({error}); zip it anew") from None
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    total = sum(info.file_size for info in files)
    if len(files) > MOST_FILES or total > MOST_ZIP_BYTES:
        raise ValueError(
            f"expected a zip file of at most {MOST_FILES:,} files and {MOST_ZIP_BYTES / 1e9:.0f} GB unpacked, "
            f"found {len(files):,} and {total / 1e9:.1f} GB in {short(name)!r}; take a part of them"
        )
    names = member_names(name, files, notes)
    stem = name[:-4] if name.lower().endswith(".zip") else name
    for info, path in zip(files, names, strict=True):
        path = path.replace("\\", "/")
        parts = (stem, *(part for part in path.split("/") if part not in ("", ".")))
        if path.startswith("/") or ".." in parts or ":" in "".join(parts[1:2]):
            yield parts, "a path that leads out of the zip file"
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield parts, "a link"
        elif any(map(hidden, parts[1:])):
            yield parts, HIDDEN
        elif info.flag_bits & 1:
            yield parts, "encrypted"
        elif info.file_size > MOST_BYTES:
            yield parts, TOO_LARGE
        else:
            yield parts, Member(archive, info)


def member_names(name, files, notes):
    """The names of a zip file's members; those that do not say their encoding in a guessed one, which is noted."""
    raw = [bytes_of(info) for info in files]
    unmarked = [name for name in raw if name is not None and not name.isascii()]
    encoding = guess_encoding(unmarked, "cp437", "cp866")
    if unmarked and encoding != "utf-8":
        shown = short(printable(unmarked[0].decode(encoding or "cp437", "replace")))
        taken = f"taken for {encoding.upper()}" if encoding else "damaged: zip the folder anew, with names in UTF-8"
        notes.append(f"names in {short(name)!r}, such as {shown!r}, do not say their encoding; {taken}")
    return [
        info.filename if name is None else name.decode(encoding or "cp437", "replace")
        for info, name in zip(files, raw, strict=True)
    ]


def bytes_of(info):
    """The name of a zip file's member as it was stored; None where it says that it is Unicode."""
    try:
        return None if info.flag_bits & UTF8 else info.orig_filename.partition("\0")[0].encode("cp437")
    except UnicodeEncodeError:
        return None


def hidden(name):
    return name.startswith(".") or name in SYSTEM
