"""From stored uint8 images to the batches that a model sees. Whole batches at once, on the images' own device."""

from contextlib import contextmanager

import torch
import torch.nn.functional as F

from ..datasets.masked import UNJUDGED, MaskedImages
from ..model import normalise


def random_crop_flip(images, crop=4, flip=True):
    """Shift each image `(B, C, Y, X)` by up to `crop` pixels (borders reflected) and mirror half of them."""
    B, C, Y, X = images.shape
    device = images.device
    rows, columns = (
        reflected(torch.randint(-crop, crop + 1, (B, 1), device=device) + torch.arange(side, device=device), side)
        for side in (Y, X)
    )  # (B, Y), (B, X): where each pixel comes from
    if flip:
        mirrored = torch.rand(B, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    source = rows[:, :, None] * X + columns[:, None, :]  # (B, Y, X)
    return images.flatten(2).gather(2, source.view(B, 1, -1).expand(-1, C, -1)).view(B, C, Y, X)


def reflected(i, side):
    """Indices beyond 0..side - 1 mirrored at the outermost pixel, which is not repeated."""
    return side - 1 - (side - 1 - i.abs()).abs()


def batches(dataset, config, recipe, order=None):
    """Yield one epoch of `(images, labels)`: shuffled, augmented, normalised; a last partial batch is left out.

    `order`, indices of images, takes the place of a new random order. Of `MaskedImages` the mask, which moves with its
    image, stands in the labels' place, as `pixel_targets`.
    """
    size = min(recipe.batch_size, len(dataset))
    if order is None:
        order = torch.randperm(len(dataset), device=dataset.images.device)
    for index in order.split(size)[: len(order) // size]:
        images = dataset.images[index]
        if isinstance(dataset, MaskedImages):
            both = torch.cat([images, dataset.masks[index].unsqueeze(1)], dim=1)  # (B, C + 1, Y, X)
            both = random_crop_flip(both, recipe.crop, recipe.flip)
            yield normalise(both[:, :-1], config), pixel_targets(both[:, -1])
        else:
            yield normalise(random_crop_flip(images, recipe.crop, recipe.flip), config), dataset.labels[index]


def pixel_targets(masks):
    """Masks `(B, Y, X)` as cross-entropy wants them: int64, and -100, which it leaves out, where no class is known."""
    return masks.long().masked_fill(masks == UNJUDGED, -100)


def colour_jitter(images, strength=0.4):
    """Change brightness, contrast and saturation of each image `(B, 3, Y, X)`, each by a factor of its own.

    Factors are uniform in `1 - strength .. 1 + strength`; uint8 in, uint8 out.
    """
    brightness, contrast, saturation = 1 + strength * (
        2 * torch.rand(3, len(images), 1, 1, 1, device=images.device) - 1
    )
    x = images.float() * brightness
    x = torch.lerp(x.mean(dim=(1, 2, 3), keepdim=True), x, contrast)
    x = torch.lerp(x.mean(dim=1, keepdim=True), x, saturation)  # towards or away from each pixel's grey
    return x.round().clamp(0, 255).to(images.dtype)


def mixed_targets(labels, num_classes, share):
    """Targets `(B, num_classes)`: `share (B,)` for each image's own label, the rest for the image before it."""
    one_hot = F.one_hot(labels, num_classes).float()
    return torch.lerp(one_hot.roll(1, 0), one_hot, share[:, None])


def mixup(images, labels, num_classes, alpha=0.8):
    """Blend each image `(B, C, Y, X)` with the one before it in the batch, and their labels in the same shares.

    Shares come from Beta(alpha, alpha), one per image. Returns float images and targets `(B, num_classes)`.
    Zhang et al. 2018.
    """
    concentration = torch.full((len(images),), alpha, device=images.device)
    share = torch.distributions.Beta(concentration, concentration).sample()  # (B,)
    images = images.float()
    return torch.lerp(images.roll(1, 0), images, share.view(-1, 1, 1, 1)), mixed_targets(labels, num_classes, share)


def cutmix(images, labels, num_classes):
    """Paste a box of the image before it in the batch into each image `(B, C, Y, X)`; labels share by area.

    Boxes cover 0 to 1 of the image, uniformly, and are cut off at its border: what counts is the area that is left.
    Returns images and targets `(B, num_classes)`. Yun et al. 2019.
    """
    B, C, Y, X = images.shape
    half = torch.rand(B, 1, device=images.device).sqrt() / 2  # half a side, as a fraction of the image's
    y, x = torch.rand(2, B, 1, device=images.device)  # the middle
    rows = (torch.arange(Y, device=images.device) - y * Y).abs() < half * Y  # (B, Y)
    columns = (torch.arange(X, device=images.device) - x * X).abs() < half * X  # (B, X)
    pasted = rows[:, :, None] & columns[:, None, :]  # (B, Y, X)
    share = 1 - pasted.float().mean(dim=(1, 2))  # (B,): what is left of the image itself
    return torch.where(pasted[:, None], images.roll(1, 0), images), mixed_targets(labels, num_classes, share)


def drop_patches(tokens, fraction, first=0):
    """Leave out `fraction` of the patches of tokens `(B, N, D)`: one random choice for the whole batch.

    The `first` tokens, a class token, always stay. Half the patches cost half the time, and a model learns nearly as
    much from them. Liu et al. 2022 (PatchDropout), Li et al. 2023 (FLIP).
    """
    N = tokens.shape[1] - first
    kept = torch.randperm(N, device=tokens.device)[: N - int(fraction * N)] + first  # (kept patches,)
    return torch.cat([tokens[:, :first], tokens[:, kept]], dim=1)


class PatchDropout:
    """While it is `active`, a model in training sees only a part of the patches: `on(model.pos_drop)`.

    The numbers of the tokens that stay are then `model.pos_drop.kept`, else None.
    """

    def __init__(self, fraction, first):
        self.fraction, self.first, self.active = fraction, first, True

    def __call__(self, module, inputs, tokens):
        module.kept = None
        if self.active and module.training:
            numbers = torch.arange(tokens.shape[1], device=tokens.device)[None, :, None]
            module.kept = drop_patches(numbers, self.fraction, self.first)[0, :, 0]
            tokens = tokens[:, module.kept]
        return tokens

    @contextmanager
    def on(self, module, compiled=False):
        """While this lasts, tokens that leave `module` go through here; torch's compiler leaves it alone."""
        if self.fraction == 0.0:
            yield
            return
        hook = module.register_forward_hook(torch.compiler.disable(self) if compiled else self)
        try:
            yield
        finally:
            module.kept = None
            hook.remove()
