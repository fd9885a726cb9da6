"""A reader's own pictures, from a folder, a zip file or an upload: what can be read, and a list of what cannot."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..files import Refused
from .copies import ALIKE, copy_pairs, fold_groups, join, split_groups
from .decode import find_range, read_files, short, to_8_bits
from .images import ImageSet
from .labels import UNLABELLED, Item, Listing, folder_side, label, layout
from .names import alike, named_as_picture, natural, printable
from .photographs import resize
from .sources import HIDDEN, files_in
from .tables import SUFFIXES

NONE = torch.zeros(0, 3, 0, 0, dtype=torch.uint8)
FEW_LEFT = 1 / 3  # of the pictures: where fewer are different ones, that is told
FEW = 8  # pictures of a class: where there are fewer, that is told


@dataclass(frozen=True, eq=False, repr=False)
class OwnImages:
    """What `own_images` read: `images`, their `names`, the `groups` that stay together, and what was `skipped`.

    `images` is an `ImageSet` of squares. `names (n,)` are the files' paths, with the page where a file has several.
    `groups (n,)` int64 has one number for all copies of a picture, all pages of a file and all that the user's own
    groups hold together; `digests (n,)` one text for all files with the same bytes. `pairs (m, 2)` int64 and their
    `distances (m,)`, nearest first, are the pictures that were joined as copies. `sides (n,)` are "train" and "test",
    or folds' names, where the source has them, else empty. `skipped` holds a pair of name and reason for each file
    that was not read: every file is in `names` or in `skipped`. `notes` are sentences about the whole.
    """

    images: ImageSet
    names: tuple[str, ...]
    groups: torch.Tensor
    digests: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    pairs: torch.Tensor
    distances: torch.Tensor
    sides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        return f"OwnImages({len(self)} pictures in {len(self.images.classes)} classes, {len(self.skipped)} skipped)"

    def at(self, image_size):
        """The pictures as an `ImageSet` of a size that a model takes: one side in pixels or `(rows, columns)`."""
        images = torch.stack([resize(image, image_size) for image in self.images.images])
        return replace(self.images, images=images)

    def split(self, holdout=0.2, seed=0):
        """Indices of a training and a test part, groups together: see `split_groups`.

        Where the source has sides of its own, these; where it has folds, its first fold is the test part.
        """
        if self.sides:
            test = "test" if "test" in self.sides else min(self.sides, key=natural)
            held_out = torch.tensor([side == test for side in self.sides])
            self._check_sides(held_out)
            return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
        self._check_groups()
        return split_groups(self.images.labels, self.groups, holdout, seed)

    def folds(self, folds=5, seed=0):
        """The fold of each picture `(n,)` for cross-validation, groups together: see `fold_groups`.

        Where the source has folds of its own, these. Raises `ValueError` where it has a training and a test side.
        """
        if "test" in self.sides:
            raise Refused(
                f"expected pictures without sides of their own for cross-validation, found {self.sides.count('train')} "
                f"for training and {self.sides.count('test')} for testing; take split(), or name the training folder"
            )
        if self.sides:
            own = sorted(set(self.sides), key=natural)
            return torch.tensor([own.index(side) for side in self.sides])
        self._check_groups()
        return fold_groups(self.images.labels, self.groups, folds, seed)

    def _check_groups(self):
        labels, classes = self.images.labels, self.images.classes
        few = [name for i, name in enumerate(classes) if len(self.groups[labels == i].unique()) < 2]
        if few:
            advice = "; ".join(self.doubts()) or "add pictures of it, or take the class out"
            raise Refused(
                "expected at least 2 different images per class (or groups of them), one for each split, "
                f"found 1 in: {', '.join(few)}; {advice}"
            )

    def _check_sides(self, held_out):
        labels, classes = self.images.labels, self.images.classes
        parts = [{classes[i] for i in labels[side].tolist()} for side in (~held_out, held_out)]
        if parts[0] != parts[1]:
            found = " and ".join(f"{tuple(sorted(part, key=natural))}" for part in parts)
            raise Refused(f"expected the same classes in train and test, found {found}")

    def copies(self):
        """The groups of copies, as lists of indices."""
        return together(join(len(self), self.pairs))

    def distinct(self):
        """The index of one picture of each group of copies, the first: `(different pictures,)` int64."""
        copies = join(len(self), self.pairs)
        return torch.tensor([(copies == copy).nonzero()[0, 0] for copy in copies.unique()])

    def doubts(self):
        """What makes it doubtful that the pictures taken for copies are copies, in sentences."""
        several = [index for index in self.copies() if len(self.images.labels[index].unique()) > 1]
        different, doubts = len(self) - len(self.pairs), []
        if different < FEW_LEFT * len(self):
            doubts.append(f"only {different} of {len(self)} pictures were taken for different ones")
        if several:
            pictures = sum(map(len, several))
            doubts.append(f"{pictures} pictures in several classes were taken for copies of each other")
        if doubts:
            doubts.append(
                "look at the pairs; where they are no copies, as from one fixed camera, pass a smaller distance, such "
                f"as {ALIKE / 5}, or none (copies=False; --copies off), and say with groups what belongs together"
            )
        return doubts

    def report(self, most=12):
        """What was read, skipped and found twice, as text; of each list at most `most` lines."""
        counts, classes = self.images.class_counts.tolist(), self.images.classes
        lines = [f"{len(self)} pictures in {len(classes)} classes:"]
        lines += [f"  {name}: {count}" for name, count in zip(classes, counts, strict=True)]
        few = [name for name, count in zip(classes, counts, strict=True) if count < FEW]
        if few and len(classes) > 1:
            lines.append(f"Fewer than {FEW} pictures in {', '.join(few)}: what a test says of so few is mostly luck")
        lines += self.notes
        problems = [f"{name}: {reason}" for name, reason in unread(self.skipped)]
        hidden = len(self.skipped) - len(problems)
        if problems:
            lines += [f"Skipped, of {len(self) + len(self.skipped)} files:", *listed(problems, most)]
        if hidden:
            lines.append(f"Left out: {hidden} hidden files of the system")
        if twice := self.copies():
            different = len(self) - len(self.pairs)
            lines.append(f"{different} different pictures; these are copies (= same bytes, ~ saved anew):")
            lines += listed([self._copies_line(index) for index in twice], most)
        lines += [f"Is that right? {doubt}" for doubt in self.doubts()[:1]] + self.doubts()[1:]
        return "\n".join(lines)

    def _copies_line(self, index):
        parts = [self.names[index[0]]]
        for i in index[1:4]:
            parts.append(f"{'=' if self.digests[i] == self.digests[index[0]] else '~'} {self.names[i]}")
        if len(index) > 4:
            parts.append(f"~ {len(index) - 4} more")
        several = len(set(self.images.labels[index].tolist())) > 1
        return " ".join(parts) + (" (in several classes: which is right?)" if several else "")


def together(groups):
    """The groups of more than one thing, as lists of indices; `groups (n,)` int64 has a number for each thing."""
    return [(groups == group).nonzero().flatten().tolist() for group in (groups.bincount() > 1).nonzero().flatten()]


def unread(skipped):
    """Those of the pairs of name and reason that name a person's files, not the system's hidden ones."""
    return [(name, reason) for name, reason in skipped if reason != HIDDEN]


def listed(lines, most):
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return [f"  {line}" for line in lines[:most]] + more


def own_images(source, image_size=128, *, labels=None, groups=None, copies=ALIKE, value_range=None, labelled=True):
    """Read pictures from `source` into `OwnImages`, each as the centre square of `image_size` x `image_size` pixels.

    `source` is a folder with one folder per class, a zip file of such a folder, a table of labels (CSV) beside its
    pictures, or a list of uploaded files as `(name, bytes)`: zip files again, or one zip file per class. Pictures in
    deeper folders belong to the class folder that they are in. Folders train (or training) and test (val, validation,
    holdout, ...) are the two sides of a split. Class names are the folders' names, as text.

    - `labels` names a table: columns with files and classes, or one of 0 and 1 for each class. A column split or fold
      gives sides. Without it, a table is used where there is just one and no class folders.
    - `groups`, a column of the table or a regular expression for paths, says which pictures belong together (patient,
      day): no split tears them apart, nor pages of a file.
    - `copies` is the distance of fingerprints below which two pictures are copies; False looks for none.
    - Pictures of more than 8 bits are scaled alike: by `value_range`, or else that of all of them (`find_range`), which
      `images.value_range` then says. New pictures for the same model need the same.
    - Unless `labelled`, one class will do, or none: pictures in no class folder are then one class. Where there are
      two, pictures without one are left out all the same.

    With `image_size=None` all pictures must have one size. A file that cannot be read is skipped and listed. From zip
    files nothing is unpacked to the disk. Raises `ValueError` where there are no two classes with a picture, too many
    files, a table of another kind, or a zip file that is broken or unpacks to too much.
    """
    return collect(listing_of(source, labels, groups, labelled), image_size, copies, value_range, least=1 + labelled)


def one_class(files, notes):
    """All `files` of a source as a listing of one class. Folders train and test are its sides."""
    skipped = [(printable("/".join(parts)), file) for parts, file in files if isinstance(file, str)]
    files = [(parts, file) for parts, file in files if not isinstance(file, str)]
    depth, _ = layout(files)
    items = [Item(parts, file, "pictures", folder_side(parts, depth) or "train") for parts, file in files]
    return Listing(items, skipped, [*notes, "no class folders: all pictures are one class"])


def listing_of(source, labels=None, groups=None, labelled=True):
    """What is in `source`, before any picture is read: see `own_images`."""
    notes = []
    if labels is None and isinstance(source, (str, Path)) and Path(source).suffix.lower() in SUFFIXES:
        source, labels = Path(source).parent, source
    files = files_in(source, notes)
    listing = label(files, notes, labels, groups)
    items = listing.items
    lost = sum(named_as_picture(name) and reason.startswith(UNLABELLED) for name, reason in listing.skipped)
    if labelled or (items and not lost):
        return listing
    if len({item.label for item in items}) < 2 or {item.side for item in items} == {"test"}:
        return one_class(files, notes)
    notes.append(f"{lost} pictures without a class are left out; to learn from these too, give them one of their own")
    return listing


def read_items(items, image_size, skipped):
    """The pictures of `items`, as tuples of item, name, picture and digest; what cannot be read goes to `skipped`."""
    kept = []
    results = read_files([item.file for item in items], image_size)
    for item, (found, digest) in zip(items, results, strict=True):
        for page, picture in enumerate(found, 1):
            suffix = f", page {page}" if len(found) > 1 else ""
            if isinstance(picture, str):
                skipped.append((item.name + suffix, picture))
            else:
                kept.append((item, item.name + suffix, picture, digest + suffix))
    return kept


def collect(listing, image_size, copies=ALIKE, value_range=None, classes=None, least=2):
    """Read what a listing has into `OwnImages`: see `own_images`.

    `classes`, at `least` so many, are those of the folders unless given.
    """
    skipped = list(listing.skipped)
    kept = read_items(listing.items, image_size, skipped)
    kept.sort(key=lambda picture: (natural(picture[0].label), natural(picture[1])))
    classes = classes or tuple(sorted({item.label for item, *_ in kept}, key=natural))
    if len(classes) < least or not kept:
        raise too_few(classes, skipped, least)
    items, names, pictures, digests = zip(*kept, strict=True)
    value_range = value_range or find_range(pictures)
    images = stacked([to_8_bits(picture, value_range) for picture in pictures])
    deep = [picture.dtype == torch.float32 for picture in pictures]
    notes = [*listing.notes, *([range_note(sum(deep), len(deep), value_range)] if any(deep) else [])]
    if names_alike := alike(classes):
        notes.append(f"classes that differ in little more than case or spaces: {names_alike}; are they one?")
    pairs, distances = copy_pairs(images, copies) if copies else (torch.zeros(0, 2).long(), torch.zeros(0))
    own = group_pairs([item.group for item in items]), group_pairs([item.name for item in items])
    groups = join(len(images), torch.cat([pairs, *own]))
    sides = tuple(item.side for item in items)
    if len(set(sides)) < 2:
        sides = ()
    elif leak := sum(len({sides[i] for i in index}) > 1 for index in together(groups)):
        notes.append(f"{leak} groups or copies stand on both sides: what the test asks for was learned by heart")
    labels = torch.tensor([classes.index(item.label) for item in items])
    data = ImageSet(images, labels, classes, value_range=value_range if any(deep) else None)
    return OwnImages(data, names, groups, digests, tuple(skipped), pairs, distances, sides, tuple(notes))


def group_pairs(keys):
    """Pairs `(m, 2)` that join all things with the same text, "" apart."""
    last, pairs = {}, []
    for i, key in enumerate(keys):
        if key and key in last:
            pairs.append((last[key], i))
        last[key] = i
    return torch.tensor(pairs).view(-1, 2).long()


def range_note(deep, n, value_range):
    low, high = value_range
    return f"{deep} of {n} pictures have more than 8 bits: values of {low:,.6g} to {high:,.6g} became 0 to 255"


def stacked(images):
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, found {len(sizes)} sizes; pass image_size=...")
    return torch.stack(images)


def too_few(classes, skipped, least):
    reasons = "; ".join(f"{short(name)}: {reason}" for name, reason in skipped[:3])
    tables = [short(name) for name, _ in skipped if name.lower().endswith(SUFFIXES)]
    left_out = f"; {len(skipped)} files were skipped: {reasons}" if skipped else ""
    if least < 2:
        return Refused(f"expected at least one picture, found none{left_out}")
    return Refused(
        f"expected at least 2 folders, one per class, with pictures in them, found {len(classes)}"
        + (f" ({short(classes[0])})" if classes else "")
        + left_out
        + "; put each class into a folder of its own, or name a table (CSV) of files and labels"
        + (f": {', '.join(tables[:5])}" if tables else "")
    )


def image_folder(root, split="train", image_size=None, holdout=0.2, seed=0):
    """One side, "train" or "test", of what `own_images` reads in a folder or zip file, as an `ImageSet`.

    Where there are folders train and test (or of like names), only the side's own files are read. Otherwise the
    fraction `holdout` of every class becomes the test split, copies of a picture all on one side. Files that cannot be
    read are named in a warning. Raises `ValueError` as `own_images` does, and for a class of fewer than two different
    pictures.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', found {split!r}")
    listing = listing_of(root)
    parts = {side: [item for item in listing.items if item.side == side] for side in ("train", "test")}
    if not all(parts.values()):
        mine = collect(listing, image_size)
        warn_of(mine)
        return mine.images[mine.split(holdout, seed)[split == "test"]]
    classes = [tuple(sorted({item.label for item in part}, key=natural)) for part in parts.values()]
    if classes[0] != classes[1]:
        raise Refused(f"expected the same classes in train and test, found {classes[0]} and {classes[1]}")

    def side(name, value_range=None):
        return collect(listing._replace(items=parts[name]), image_size, False, value_range, classes[0])

    mine = side(split)
    if split == "test" and mine.images.value_range:  # scaled as the training pictures are
        mine = side("test", side("train").images.value_range)
    warn_of(mine)
    return mine.images


def warn_of(mine):
    problems = [f"{short(name)}: {reason}" for name, reason in unread(mine.skipped)]
    if problems:
        head = f"{len(problems)} of {len(mine) + len(problems)} files were not read:"
        warnings.warn("\n".join([head, *listed(problems, 100)]), stacklevel=3)


def read_image(file, image_size=None, value_range=None):
    """One image file as uint8 `(3, Y, X)`, RGB and upright; `ValueError` names the file where it cannot be read.

    With `image_size`, one side in pixels or `(rows, columns)`, its centre square is resized to that. More than 8 bits
    are scaled by `value_range`, the values that become black and white, or else by the picture's own.
    """
    picture = read_files([Path(file)], image_size)[0][0][0]
    if isinstance(picture, str):
        raise ValueError(f"expected an image, found {file} unreadable ({picture}); replace or remove it")
    return to_8_bits(picture, value_range or find_range([picture]))


def read_images(source, image_size, value_range=None):
    """Pictures without labels, for a model's answers: their names, uint8 `(n, 3, Y, X)` and what was skipped.

    `source` is a folder, a zip file or a list of files. Otherwise as `own_images`; every file is read or skipped.
    """
    named = isinstance(source, (list, tuple))
    files = [((str(file),), Path(file)) for file in source] if named else files_in(source, [])
    skipped = [(printable("/".join(parts)), file) for parts, file in files if isinstance(file, str)]
    items = [Item(parts, file, "") for parts, file in files if not isinstance(file, str)]
    kept = read_items(items, image_size, skipped)
    value_range = value_range or find_range([picture for *_, picture, _ in kept])
    images = [to_8_bits(picture, value_range) for *_, picture, _ in kept]
    return tuple(name for _, name, *_ in kept), stacked(images) if images else NONE, tuple(skipped)
