"""Labelled images in memory: drawn by the course, from a folder, or CIFAR-10; and photographs to look at."""

from .cifar10 import cifar10, download_cifar10
from .copies import find_copies, fold_groups, split_groups
from .example import example_folder
from .folders import image_folder, read_image
from .images import ImageSet
from .own import OwnImages, own_images
from .photographs import sample_image
from .shapes import same_or_different, shapes

__all__ = [
    "ImageSet",
    "OwnImages",
    "cifar10",
    "download_cifar10",
    "example_folder",
    "find_copies",
    "fold_groups",
    "image_folder",
    "own_images",
    "read_image",
    "same_or_different",
    "sample_image",
    "shapes",
    "split_groups",
]
