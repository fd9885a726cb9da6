"""Labelled images in memory: drawn by the course, from a folder, or CIFAR-10; and photographs to look at."""

from .castings import write_castings
from .cifar10 import cifar10, download_cifar10
from .copies import ALIKE, copy_pairs, find_copies, fold_groups, split_groups
from .example import example_folder
from .images import ImageSet
from .mask_folder import mask_folder
from .masked import MaskedImages
from .own import OwnImages, image_folder, own_images, read_image, read_images
from .photographs import sample_image
from .scenes import Scenes, scenes
from .shapes import same_or_different, shapes

__all__ = [
    "ALIKE",
    "ImageSet",
    "MaskedImages",
    "OwnImages",
    "Scenes",
    "cifar10",
    "copy_pairs",
    "download_cifar10",
    "example_folder",
    "find_copies",
    "fold_groups",
    "image_folder",
    "mask_folder",
    "own_images",
    "read_image",
    "read_images",
    "same_or_different",
    "sample_image",
    "scenes",
    "shapes",
    "split_groups",
    "write_castings",
]
