"""Where pictures are: in a folder, a zip file or an upload. Every file is found, or listed with a reason."""

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

from .decode import short

MOST_FILES = 10_000
MOST_BYTES = 100_000_000  # of one file
MOST_ZIP_BYTES = 4_000_000_000  # of a zip file's contents, unpacked
SYSTEM = {"Thumbs.db", "desktop.ini", "__MACOSX"}
HIDDEN = "hidden"
NO_CLASS = "in no class folder"
TOO_LARGE = f"larger than {MOST_BYTES // 10**6} MB"


class Member(NamedTuple):
    """A file in a zip file. Opens as a `Path` does, in memory: `MOST_BYTES` at most, whatever its header promised."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def open(self, mode):
        with self.archive.open(self.info) as file:
            return io.BytesIO(file.read(MOST_BYTES))


def files_in(source):
    """The files of `source`, a folder, a zip file or uploads `[(name, bytes), ...]`, as a list of pairs.

    A pair is the parts of a path and the file, a `Path` or `Member`, or else the reason why it is skipped. Raises
    `ValueError` where there is no such source, where there are too many files, and as `files_in_zip` does.
    """
    if not isinstance(source, (str, os.PathLike)):
        found = files_in_uploads(source)
    elif (path := Path(source)).is_dir():
        found = files_in_folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        found = files_in_zip(path.name, path)
    else:
        raise ValueError(f"expected a folder with one folder per class, or a zip file of one, found none at {path}")
    found = list(found)
    if len(found) > MOST_FILES:
        raise ValueError(f"expected at most {MOST_FILES:,} files, found {len(found):,}; take a part of them")
    return found


def files_in_folder(root, depth=None):
    """The files under the folder `root`, in order. Links to folders are not followed.

    With `depth`, only files whose paths have at most so many parts, and links are followed: they cannot go round.
    """
    for folder, folders, files in os.walk(root, followlinks=depth is not None):
        folder = Path(folder)
        above = folder.relative_to(root).parts
        if depth == len(above) + 1:
            folders.clear()
        for name in sorted(folders):
            if hidden(name) or (depth is None and (folder / name).is_symlink()):
                folders.remove(name)
                yield (*above, name), HIDDEN if hidden(name) else "a link to a folder: put the folder itself here"
        folders.sort()
        for name in sorted(files):
            path = folder / name
            if hidden(name):
                yield (*above, name), HIDDEN
            elif not path.is_file():
                yield (*above, name), "no file: a broken link, or a device"
            elif depth is None and path.stat().st_size > MOST_BYTES:
                yield (*above, name), TOO_LARGE
            else:
                yield (*above, name), path


def files_in_uploads(files):
    for name, data in files:
        if name.lower().endswith(".zip"):
            yield from files_in_zip(name, io.BytesIO(data))
        else:
            yield (name,), NO_CLASS


def files_in_zip(name, file):
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
    stem = name[:-4] if name.lower().endswith(".zip") else name
    for info in files:
        path = info.filename.replace("\\", "/")
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


def hidden(name):
    return name.startswith(".") or name in SYSTEM


def printable(name):
    """The name as it is, or, where it holds what no terminal should be sent, with that spelled out."""
    return name if name.isprintable() else name.encode("unicode_escape", "backslashreplace").decode("ascii")
