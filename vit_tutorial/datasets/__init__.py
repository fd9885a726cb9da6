"""Labelled images in memory: drawn by the course, from a folder, or CIFAR-10; and photographs to look at."""

from .cifar10 import cifar10
from .folders import image_folder
from .images import ImageSet
from .photographs import sample_image
from .shapes import same_or_different, shapes

__all__ = ["ImageSet", "cifar10", "image_folder", "same_or_different", "sample_image", "shapes"]
