"""Images with a class for every pixel: what segmentation learns from."""

from dataclasses import dataclass, replace

import torch

UNJUDGED = 255  # a pixel that nobody labelled: neither learned from nor scored


@dataclass(frozen=True, eq=False, repr=False)
class MaskedImages:
    """Images `(n, C, Y, X)` as uint8 in 0..255, masks `(n, Y, X)` as uint8: a number in `classes`, or 255, unjudged.

    `value_range` is as in `ImageSet`. Raises `ValueError` where these do not fit together.
    """

    images: torch.Tensor
    masks: torch.Tensor
    classes: tuple[str, ...]
    value_range: tuple[float, float] | None = None

    def __post_init__(self):
        n, _, *sides = self.images.shape if self.images.ndim == 4 else (0, 0)
        found = f"{self.images.dtype} {tuple(self.images.shape)} and {self.masks.dtype} {tuple(self.masks.shape)}"
        fits = self.images.dtype == self.masks.dtype == torch.uint8 and tuple(self.masks.shape) == (n, *sides)
        if self.images.ndim != 4 or not fits:
            raise ValueError(f"expected uint8 images (n, C, Y, X) and masks (n, Y, X) of one size, found {found}")
        most = int(self.masks.masked_fill(self.masks == UNJUDGED, 0).max()) if self.masks.numel() else 0
        if most >= len(self.classes):
            raise ValueError(
                f"expected masks with values 0..{len(self.classes) - 1} for {len(self.classes)} classes, or "
                f"{UNJUDGED} where no class is known, found {most}"
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """One `(image, mask)` for an integer; the part for a slice, a mask or a list of indices."""
        if isinstance(index, int):
            return self.images[index], self.masks[index]
        return replace(self, images=self.images[index], masks=self.masks[index])

    def __repr__(self):
        n, C, Y, X = self.images.shape
        return f"{type(self).__name__}({n} images of {C} x {Y} x {X}, {len(self.classes)} classes)"

    def to(self, device):
        """The same set with images and masks on `device`."""
        return replace(self, images=self.images.to(device), masks=self.masks.to(device))

    @property
    def image_size(self):
        """`(rows, columns)` in pixels."""
        return tuple(self.images.shape[2:])
