"""A set of labelled images in memory: what every dataset of the course returns."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images `(n, C, Y, X)` as uint8 in 0..255, labels `(n,)` as int64, class names, and masks `(n, Y, X)` where known.

    `value_range` is `(low, high)` where pictures of more than 8 bits are among them: the values that became 0 and 255.
    Raises `ValueError` where these do not fit together.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    masks: torch.Tensor | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self):
        n = len(self.labels)
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or len(self.images) != n:
            raise ValueError(
                f"expected {n} uint8 images (n, C, Y, X), one a label, found {self.images.dtype} of shape "
                f"{tuple(self.images.shape)}; scale floats with (255 * images).to(torch.uint8)"
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(
                f"expected labels in 0..{len(self.classes) - 1} for {len(self.classes)} classes, "
                f"found {int(self.labels.min())}..{int(self.labels.max())}"
            )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """One `(image, label)` for an integer; an `ImageSet` for a slice, a mask or a list of indices."""
        if isinstance(index, int):
            return self.images[index], int(self.labels[index])
        masks = None if self.masks is None else self.masks[index]
        return replace(self, images=self.images[index], labels=self.labels[index], masks=masks)

    def __repr__(self):
        n, C, Y, X = self.images.shape
        return f"ImageSet({n} images of {C} x {Y} x {X}, {len(self.classes)} classes)"

    def to(self, device):
        """The same set with images and labels on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def class_counts(self):
        """How many images each class has, `(classes,)` int64."""
        return self.labels.bincount(minlength=len(self.classes))

    @property
    def image_size(self):
        """`(rows, columns)` in pixels."""
        return tuple(self.images.shape[2:])
