"""Folders of pictures: missing, misnamed and nested ones, links, and names that are no names."""

import os
import warnings

from made_up_pictures import saved, scene

from vit_tutorial import datasets

from .case import cases, classes, write


def said(read):
    """What a reader of folders says: the images that it found, and what it left out and why."""
    with warnings.catch_warnings(record=True, action="always") as told:
        found = read()
    images = found.images if hasattr(found, "skipped") else found
    left_out = [f"{name}: {reason}" for name, reason in getattr(found, "skipped", ())]
    left_out += [str(warning.message) for warning in told]
    return " | ".join([f"{len(found)} of {', '.join(images.classes)}", *left_out])


def both_readers(files, links=()):
    """`image_folder` and `own_images` on one folder; what they say, or raise, together."""

    def make(folder):
        root = folder / "pictures"
        root.mkdir()
        write(root, files() if callable(files) else files)
        for name, target in links:
            (root / name).symlink_to(target)

        def call():
            answers, failed = [], 0
            for read in (lambda: datasets.image_folder(root, image_size=16), lambda: datasets.own_images(root, 16)):
                try:
                    answers.append(said(read))
                except ValueError as error:
                    failed += 1
                    answers.append(str(error))
            if failed == 2:
                raise ValueError(" | ".join(answers))
            return " | ".join(answers)

        return call

    return make


def without_labels(files):
    def make(folder):
        root = folder / "pictures"
        root.mkdir()
        write(root, files)
        return lambda: said(lambda: datasets.own_images(root, 16, labelled=False))

    return make


def inside(folder, files):
    return {f"{folder}/{name}": data for name, data in files.items()}


def many():
    return GOOD | {f"cat/{i}.txt": b"" for i in range(100_001)}


DOG = saved(scene(7))
GOOD = classes("cat", "dog")
HIDDEN = (".DS_Store", "cat/.DS_Store", "cat/._0.png", "cat/Thumbs.db", ".git/a.png")
LONG = {f"{'c' * 250}/{'i' * 240}{i}.png": saved(scene(50 + i)) for i in range(3)}
LOOSE = dict(zip(("0.png", "1.png", "2.png", "3.png"), GOOD.values(), strict=False))
REPORTED = {
    "one picture in a class": (classes("cat") | {"dog/1.png": DOG}, "found 1 in: dog"),
    "one picture in a class, twice": (classes("cat") | {"dog/1.png": DOG, "dog/2.png": DOG}, "found 1 in: dog"),
    "a class without pictures": (GOOD | {"cow/notes.txt": b"none"}, "4 of cat, dog .*notes.txt: no PNG"),
    "nested twice": (inside("pets", GOOD), "found none|cat, dog"),
    "hidden files": (GOOD | dict.fromkeys(HIDDEN, b"x"), "4 of cat, dog .*_0.png: hidden"),
    "__MACOSX": (GOOD | {"__MACOSX/._0.png": b"x"}, "4 of cat, dog .*__MACOSX: hidden"),
    "a picture that is none": (
        GOOD | {"cat/x.png": b"<script>"},
        "4 of cat, dog .*x.png: no PNG.*6 of cat, dog .*x.png: no PNG",
    ),
    "a folder called x.png": (GOOD | {"cat/x.png/y.png": saved(scene(50))}, "5 of cat, dog .* 7 of cat, dog"),
    "train beside another's test": (
        inside("train", GOOD) | inside("holdout", classes("cow", "ant")),
        "same classes in train and test",
    ),
    "train without test": (inside("train", GOOD), "6 of cat, dog"),
    "other classes in test": (
        inside("train", GOOD) | inside("test", classes("cow", "ant")),
        "same classes in train and test",
    ),
    "classes are markup": (
        classes("<script>alert(1)<", "<img src=x onerror=alert(1)>"),
        "4 of <img src=x onerror=alert.1.>, <script>alert",
    ),
    "classes are formulas": (classes("$x", "\\frac{"), r"4 of \$x, \\frac"),
    "unicode": (classes("猫", "Hündchen 🐶"), "4 of Hündchen 🐶, 猫"),
    "right to left": (classes("a\u202egpj", "b"), r"4 of a\\u202egpj, b"),
    "newlines": (classes("a\nb", "c\td"), r"4 of a\\nb, c\\td"),
    "names that are no text": (
        {os.fsdecode(b"\xff\xfe" + name.encode()): data for name, data in GOOD.items()},
        r"4 of \\udcff\\udcfe",
    ),
    "names of 250 letters": (LONG | classes("dog"), "4 of c{250}, dog"),
}
REFUSED = {
    "empty": ({}, "at least 2 folders.* at least 2 folders"),
    "no class folders": (LOOSE, "in no class folder.* in no class folder"),
    "one class": (classes("cat"), r"found 1 \(cat\).*found 1 \(cat\)"),
    "100,001 files": (many, "at most 100,000 files.*at most 100,000 files"),
}
LINKS = {
    "a link that goes round": ([("loop", "."), ("cat/loop", "..")], "4 of cat, dog .*link to"),
    "a link to nothing": ([("cat/x.png", "gone.png")], "4 of cat, dog .* broken link"),
    "a link to a device": ([("cat/x.png", "/dev/zero")], "4 of cat, dog .* a device"),
}
UNLABELLED = {  # pictures to learn from without labels
    "a table of empty labels": (LOOSE | {"a.csv": b"file,label\n0.png,\n"}, "4 of pictures .*a.csv: no PNG"),
    "pictures in no class": (LOOSE | GOOD, "6 of cat, dog .*3.png: in no class folder"),
    "a picture in a folder": (LOOSE | {"x/a.png": DOG, "b.png": b"none"}, "5 of pictures .*b.png: no PNG"),
    "classes in test alone": (inside("train", LOOSE) | inside("test", GOOD | {"a.png": b""}), "10 of pictures"),
}
NO_PICTURE = {"no file": {}, "texts": {"a.txt": b"none", "b.png": b"none"}, "a broken picture": {"a.png": DOG[:99]}}
CASES = [
    *cases("folders", both_readers, "report", REPORTED),
    *cases("folders", both_readers, "error", REFUSED, slow=["100,001"]),
    *cases("folders", without_labels, "report", {f"without labels: {n}": case for n, case in UNLABELLED.items()}),
    *cases(
        "folders",
        without_labels,
        "error",
        {f"without labels: {n}": (files, "at least one picture, found none") for n, files in NO_PICTURE.items()},
    ),
    *cases("folders", lambda links: both_readers(GOOD, links), "report", LINKS),
]
