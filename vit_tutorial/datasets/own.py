"""A reader's own pictures, from a folder, a zip file or an upload: what can be read, and a list of what cannot."""

from dataclasses import dataclass

import torch

from .copies import find_copies, fold_groups, split_groups
from .decode import read_pictures, short
from .images import ImageSet
from .photographs import resize
from .sources import HIDDEN, NO_CLASS, files_in, printable

SPLITS = {"train", "test", "val", "valid", "validation"}


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


def own_images(source, image_size=128):
    """Read pictures from `source` into `OwnImages`, each as the centre square of `image_size` x `image_size` pixels.

    `source` is a folder with one folder per class, a zip file of such a folder, or a list of uploaded files as
    `(name, bytes)`: zip files again, or one zip file per class. Pictures in deeper folders belong to the class folder
    that they are in; folders named train and test are read as one. Class names are the folders' names, as text.

    A file that cannot be read is skipped and listed. From zip files nothing is unpacked to the disk. Raises
    `ValueError` where there are no two classes with a picture, too many files, or a zip file that is broken or
    unpacks to too much.
    """
    files = files_in(source)
    place = class_place(files)
    wanted = [file if isinstance(file, str) or len(parts) >= place + 2 else NO_CLASS for parts, file in files]
    kept, skipped = [], []
    for (parts, _), result in zip(files, read_pictures(wanted, image_size), strict=True):
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
            f"expected at least 2 folders, one per class, with pictures in them, found {len(classes)}"
            + (f" ({classes[0]})" if classes else "")
            + (f"; {len(skipped)} files were skipped: {reasons}" if skipped else "")
            + "; put each class into a folder of its own"
        )
    labels = torch.tensor([classes.index(picture[0]) for picture in kept])
    images = torch.stack([picture[2] for picture in kept])
    names, digests = (tuple(picture[i] for picture in kept) for i in (1, 3))
    return OwnImages(ImageSet(images, labels, classes), names, find_copies(images), digests, tuple(skipped))


def class_place(files):
    """Which part of a path is its class folder: what all pictures share, and train and test, lies above."""
    readable = [parts for parts, file in files if not isinstance(file, str)]
    place = 0
    while any(len(parts) > place + 2 for parts in readable):
        folders = {parts[place] for parts in readable if len(parts) > place + 1}
        if len(folders) > 1 and not folders <= SPLITS:
            break
        place += 1
    return place
