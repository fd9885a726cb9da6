"""Images from folders: one folder per class."""

from pathlib import Path

import torch

from .copies import find_copies, split_groups
from .decode import read_pictures
from .images import ImageSet
from .sources import files_in_folder, printable

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def image_folder(root, split="train", image_size=None, holdout=0.2, seed=0):
    """Read a folder of images into an `ImageSet`.

    Takes `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*`, of which the fraction `holdout` of
    every class becomes the test split, copies of a picture all on one side (`find_copies`). `split` is "train" or
    "test". With `image_size`, each image's centre square is resized to that many pixels per side; without it all images
    must have one size. Colours are RGB. Raises `ValueError` for an empty folder, a class of fewer than two different
    pictures, an unreadable image or images of several sizes.
    """
    root = Path(root)
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', found {split!r}")
    if not root.is_dir():
        raise ValueError(f"expected a folder with one folder of images per class, found nothing at {root}")
    parts = [root / "train", root / "test"]
    fixed_split = all(part.is_dir() for part in parts)
    listed = [list_images(folder) for folder in (parts if fixed_split else [root])]
    if listed[0][1] != listed[-1][1]:
        raise ValueError(f"expected the same classes in train and test, found {listed[0][1]} and {listed[-1][1]}")
    files, classes = listed[-1 if split == "test" else 0]
    images = read_images(files, image_size)
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, found {len(sizes)} sizes under {root}; pass image_size=...")
    labels = torch.tensor([classes.index(printable(file.parent.name)) for file in files])
    dataset = ImageSet(torch.stack(images), labels, classes)
    if fixed_split:
        return dataset
    groups = find_copies(dataset.images)
    few = [name for i, name in enumerate(classes) if len(groups[labels == i].unique()) < 2]
    if few:
        raise ValueError(
            f"expected at least 2 different images per class, one for each split, found 1 in: {', '.join(few)}"
        )
    return dataset[split_groups(labels, groups, holdout, seed)[split == "test"]]


def list_images(folder):
    """All image files under `folder/<class>/`, sorted, and the class names that have any; hidden ones left out."""
    found = [file for parts, file in files_in_folder(folder, depth=2) if len(parts) == 2]
    files = [file for file in found if isinstance(file, Path) and file.suffix.lower() in SUFFIXES]
    if not files:
        raise ValueError(f"expected images in {folder}/<class>/, found none ({', '.join(sorted(SUFFIXES))} are read)")
    return files, tuple(sorted({printable(file.parent.name) for file in files}))


def read_images(files, image_size=None):
    """Image files, as `read_image` reads one, in a list."""
    results = read_pictures(files, image_size)
    for file, result in zip(files, results, strict=True):
        if isinstance(result, str):
            raise ValueError(f"expected an image, found {file} unreadable ({result}); replace or remove it")
    return [image for image, _ in results]


def read_image(file, image_size=None):
    """One image file as uint8 `(3, Y, X)`, RGB and upright; `ValueError` names the file where it cannot be read.

    With `image_size`, one side in pixels or `(rows, columns)`, its centre square is resized to that.
    """
    return read_images([Path(file)], image_size)[0]
