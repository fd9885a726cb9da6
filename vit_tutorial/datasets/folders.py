"""Images from folders: one folder a class."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from .copies import find_copies, split_groups
from .decode import Unreadable, decode
from .images import ImageSet
from .own import hidden, printable
from .photographs import centre_square

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def image_folder(root, split="train", image_size=None, holdout=0.2, seed=0):
    """Read a folder of images into an `ImageSet`.

    Takes `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*`, of which the fraction `holdout` of
    every class becomes the test split, copies of a picture all on one side (`find_copies`). `split` is "train" or
    "test". With `image_size`, each image's centre square is resized to that many pixels a side; without it all images
    must have one size. Colours are RGB. Raises `ValueError` for an empty folder, a class of fewer than two different
    pictures, an unreadable image or images of several sizes.
    """
    root = Path(root)
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', found {split!r}")
    if not root.is_dir():
        raise ValueError(f"expected a folder with one folder of images a class, found nothing at {root}")
    fixed_split = (root / "train").is_dir() and (root / "test").is_dir()
    files, classes = list_images(root / split if fixed_split else root)
    if fixed_split:
        both = [list_images(root / part)[1] for part in ("train", "test")]
        if both[0] != both[1]:
            raise ValueError(f"expected the same classes in train and test, found {both[0]} and {both[1]}")
    labels = torch.tensor([classes.index(printable(file.parent.name)) for file in files])
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda file: read_image(file, image_size), files))
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, found {len(sizes)} sizes under {root}; pass image_size=...")
    dataset = ImageSet(torch.stack(images), labels, classes)
    if fixed_split:
        return dataset
    groups = find_copies(dataset.images)
    few = [name for i, name in enumerate(classes) if len(groups[labels == i].unique()) < 2]
    if few:
        raise ValueError(
            f"expected at least 2 different images a class, one for each split, found 1 in: {', '.join(few)}"
        )
    return dataset[split_groups(labels, groups, holdout, seed)[split == "test"]]


def list_images(folder):
    """All image files under `folder/<class>/`, sorted, and the class names that have any; hidden ones left out."""
    found = sorted(file for file in folder.glob("*/*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in found if not hidden(file.name) and not hidden(file.parent.name)]
    if not files:
        raise ValueError(f"expected images in {folder}/<class>/, found none ({', '.join(sorted(SUFFIXES))} are read)")
    return files, tuple(sorted({printable(file.parent.name) for file in files}))


def read_image(file, image_size=None):
    """One image file as uint8 `(3, Y, X)`, RGB and upright; `ValueError` names the file where it cannot be read.

    With `image_size`, one side in pixels or `(rows, columns)`, its centre square is resized to that.
    """
    try:
        image = decode(Path(file).name, file, image_size)
    except Unreadable as error:
        raise ValueError(f"expected an image, found {file} unreadable ({error.reason}); replace or remove it") from None
    return image if image_size is None else centre_square(image, image_size)
