"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of 32 x 32 pixels in 10 classes."""

from pathlib import Path

import torch

from ..files import DATA
from .folders import image_folder
from .images import ImageSet


def cifar10(split="train", root=DATA):
    """CIFAR-10 as an `ImageSet`, from files that are already there; nothing is downloaded.

    Reads `root/cifar-10-batches-py` (the original archive unpacked, checksums verified) or an image folder
    `root/cifar10/train/<class>/*` and `root/cifar10/test/<class>/*`. `split` is "train" (50,000) or "test" (10,000).
    Raises `ValueError` for another split and `FileNotFoundError` where there is neither.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', found {split!r}")
    root = Path(root)
    if (root / "cifar10").is_dir():
        return image_folder(root / "cifar10", split)
    if not (root / "cifar-10-batches-py").is_dir():
        raise FileNotFoundError(
            f"expected CIFAR-10 in {root / 'cifar-10-batches-py'} or as an image folder in {root / 'cifar10'}, found "
            "neither; unpack cifar-10-python.tar.gz there, or work offline with datasets.shapes()"
        )
    from torchvision.datasets import CIFAR10

    data = CIFAR10(root, train=split == "train", download=False)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()  # (n, 3, 32, 32)
    return ImageSet(images, torch.tensor(data.targets), tuple(data.classes))
