"""A reader's own pictures, from a folder, a zip file or an upload: all that can be read, and a list of what cannot."""

import io
import os
import stat
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from .copies import find_copies, fold_groups, split_groups
from .decode import Unreadable, decode, short
from .images import ImageSet
from .photographs import centre_square, resize

MOST_FILES = 10_000
MOST_BYTES = 100_000_000  # of one file
MOST_ZIP_BYTES = 4_000_000_000  # of a zip file's contents, unpacked
SPLITS = {"train", "test", "val", "valid", "validation"}
SYSTEM = {"Thumbs.db", "desktop.ini", "__MACOSX"}


@dataclass(frozen=True, eq=False, repr=False)
class OwnImages:
    """What `own_images` read: `images`, their `names`, the `groups` of copies, and what was `skipped`.

    `images` is an `ImageSet` of squares. `names (n,)` are the files' paths. `groups (n,)` int64 has one number for
    all copies of a picture, `digests (n,)` one text for all files with the same bytes. `skipped` holds a pair of name
    and reason for each file that was not read: every file is in `names` or in `skipped`.
    """

    images: ImageSet
    names: tuple[str, ...]
    groups: torch.Tensor
    digests: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        return f"OwnImages({len(self)} pictures in {len(self.images.classes)} classes, {len(self.skipped)} skipped)"

    def at(self, image_size):
        """The pictures as an `ImageSet` of a size that a model takes: one side in pixels or `(rows, columns)`."""
        images = torch.stack([resize(image, image_size) for image in self.images.images])
        return ImageSet(images, self.images.labels, self.images.classes)

    def split(self, holdout=0.2, seed=0):
        """Indices of a training and a test part, copies together: see `split_groups`."""
        return split_groups(self.images.labels, self.groups, holdout, seed)

    def folds(self, folds=5, seed=0):
        """The fold of each picture `(n,)` for cross-validation, copies together: see `fold_groups`."""
        return fold_groups(self.images.labels, self.groups, folds, seed)

    def copies(self):
        """The groups of more than one picture, as lists of indices."""
        counts = self.groups.bincount()
        return [(self.groups == group).nonzero().flatten().tolist() for group in (counts > 1).nonzero().flatten()]

    def report(self, most=12):
        """What was read, skipped and found twice, as text; of each list at most `most` lines."""
        labels, classes = self.images.labels, self.images.classes
        counts = labels.bincount(minlength=len(classes)).tolist()
        lines = [f"{len(self)} pictures in {len(classes)} classes:"]
        lines += [f"  {name}: {count}" for name, count in zip(classes, counts, strict=True)]
        hidden = sum(reason == HIDDEN for _, reason in self.skipped)
        problems = [f"{name}: {reason}" for name, reason in self.skipped if reason != HIDDEN]
        if problems:
            lines += [f"Skipped, of {len(self) + len(self.skipped)} files:", *listed(problems, most)]
        if hidden:
            lines.append(f"Left out: {hidden} hidden files of the system")
        twice = self.copies()
        if twice:
            lines.append(
                f"{len(set(self.groups.tolist()))} different pictures; these are copies (= same bytes, ~ saved anew):"
            )
            lines += listed([self._copies_line(index) for index in twice], most)
        return "\n".join(lines)

    def _copies_line(self, index):
        parts = [self.names[index[0]]]
        for i in index[1:]:
            parts.append(f"{'=' if self.digests[i] == self.digests[index[0]] else '~'} {self.names[i]}")
        several = len(set(self.images.labels[index].tolist())) > 1
        return " ".join(parts) + (" (in several classes: which is right?)" if several else "")


def listed(lines, most):
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return [f"  {line}" for line in lines[:most]] + more


HIDDEN = "hidden"
NO_CLASS = "in no class folder"


def own_images(source, image_size=128):
    """Read pictures from `source` into `OwnImages`, each as the centre square of `image_size` x `image_size` pixels.

    `source` is a folder with one folder a class, a zip file of such a folder, or a list of uploaded files as
    `(name, bytes)`: zip files again, or one zip file a class. Pictures in deeper folders belong to the class folder
    that they are in; folders named train and test are read as one. Class names are the folders' names, as text.

    A file that cannot be read is skipped and listed. From zip files nothing is unpacked to the disk. Raises
    `ValueError` where there are no two classes with a picture, too many files, or a zip file that is broken or
    unpacks to too much.
    """
    found = list(entries(source))
    if len(found) > MOST_FILES:
        raise ValueError(f"expected at most {MOST_FILES:,} files, found {len(found):,}; take a part of them")
    place = class_place(found)

    def read(entry):
        parts, opener = entry
        if isinstance(opener, str):
            return opener
        if len(parts) < place + 2:
            return NO_CLASS
        try:
            data = opener()
            image = decode(parts[-1], io.BytesIO(data), image_size)
            return centre_square(image, image_size), sha256(data).hexdigest()
        except Unreadable as error:
            return error.reason
        except OSError as error:
            return f"cannot be opened: {error.strerror or type(error).__name__}"
        except Exception as error:  # what zipfile raises depends on what is broken
            return f"cannot be unpacked: {error or type(error).__name__}"

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(zip(found, pool.map(read, found), strict=True))
    kept, skipped = [], []
    for (parts, _), result in results:
        name = printable("/".join(parts))
        if isinstance(result, str):
            skipped.append((name, result))
        else:
            kept.append((printable(parts[place]), name, *result))
    kept.sort(key=lambda picture: picture[:2])
    classes = tuple(sorted({picture[0] for picture in kept}))
    if len(classes) < 2:
        reasons = "; ".join(f"{short(name)}: {reason}" for name, reason in skipped[:3])
        raise ValueError(
            f"expected at least 2 folders, one a class, with pictures in them, found {len(classes)}"
            + (f" ({classes[0]})" if classes else "")
            + (f"; {len(skipped)} files were skipped: {reasons}" if skipped else "")
            + "; put each class into a folder of its own"
        )
    labels = torch.tensor([classes.index(picture[0]) for picture in kept])
    images = torch.stack([picture[2] for picture in kept])
    names, digests = (tuple(picture[i] for picture in kept) for i in (1, 3))
    return OwnImages(ImageSet(images, labels, classes), names, find_copies(images), digests, tuple(skipped))


def class_place(found):
    """Which part of a path is its class folder: what all pictures share, and train and test, lies above."""
    readable = [parts for parts, opener in found if not isinstance(opener, str)]
    place = 0
    while any(len(parts) > place + 2 for parts in readable):
        folders = {parts[place] for parts in readable if len(parts) > place + 1}
        if len(folders) > 1 and not folders <= SPLITS:
            break
        place += 1
    return place


def printable(name):
    """The name as it is, or, where it holds what no terminal should be sent, with that spelled out."""
    return name if name.isprintable() else name.encode("unicode_escape", "backslashreplace").decode("ascii")


# ------------------------------------------------------------------------------------------------ where files are


def entries(source):
    """Each file of `source` as `(path parts, function that returns its bytes, or the reason why it is skipped)`."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            yield from folder_entries(path)
        elif path.is_file() and zipfile.is_zipfile(path):
            yield from zip_entries(path.name, path)
        else:
            raise ValueError(f"expected a folder with one folder a class, or a zip file of one, found none at {path}")
        return
    for name, data in source:
        if name.lower().endswith(".zip"):
            yield from zip_entries(name, io.BytesIO(data))
        else:
            yield (name,), NO_CLASS


def folder_entries(root):
    for folder, folders, files in os.walk(root):
        folder = Path(folder)
        above = folder.relative_to(root).parts
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
                yield (*above, name), path.read_bytes


TOO_LARGE = f"larger than {MOST_BYTES // 10**6} MB"


def zip_entries(name, file):
    """The files of a zip file, as if it had been unpacked into a folder of its name. Nothing is written."""
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
            yield parts, lambda info=info: unpacked(archive, info)


def unpacked(archive, info):
    with archive.open(info) as file:
        return file.read(MOST_BYTES)  # whatever the header promised


def hidden(name):
    return name.startswith(".") or name in SYSTEM
