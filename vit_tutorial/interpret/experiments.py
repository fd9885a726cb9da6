"""What happens to the answer when the image changes; and how well a map predicts it.

Images are `(B, C, Y, X)`, normalised as for `model(images)`. A `target` is class indices `(B,)` or "predicted". What is
hidden gets the image's own mean colour.
"""

import torch
import torch.nn.functional as F

from ..layers import patchify, unpatchify
from ..model import normalise
from .recording import at_targets, class_indices, evaluating, fitted

BATCH = 500  # images at once


def logits_of(model, images):
    """The logits `(B, num_classes)` of any model, transformers' too."""
    answer = model(fitted(model, images))
    return getattr(answer, "logits", answer)


@torch.no_grad()
def probabilities(model, images):
    """Softmax of the logits, `(B, num_classes)`, model in evaluation mode."""
    with evaluating(model):
        return torch.cat([logits_of(model, batch).float().softmax(dim=1) for batch in images.split(BATCH)])


def mean_colour(images):
    """Each image `(B, C, Y, X)` in its own mean colour."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def occlusion(model, images, target, size, stride):
    """How much of the target's probability is lost where a square is covered: `(B, rows, columns)`.

    Squares of `size` pixels, `stride` apart, row by row from the top left corner (Zeiler and Fergus 2014, section 4.2).
    With both the patch size, one number per patch. Raises `ValueError` where the squares do not end at the borders.
    """
    B, _, Y, X = images.shape
    if not 1 <= size <= min(Y, X) or stride < 1 or (Y - size) % stride or (X - size) % stride:
        raise ValueError(
            f"expected squares that reach from border to border of {Y} x {X} pixels, found size {size} and stride "
            f"{stride}; image side minus size must be a multiple of stride"
        )
    before = probabilities(model, images)
    target, colour = class_indices(target, before), mean_colour(images)
    losses = []
    for y in range(0, Y - size + 1, stride):
        covered = []
        for x in range(0, X - size + 1, stride):
            image = images.clone()
            image[:, :, y : y + size, x : x + size] = colour[:, :, y : y + size, x : x + size]
            covered.append(image)
        after = probabilities(model, torch.cat(covered)).unflatten(0, (-1, B))  # (columns, B, num_classes)
        losses.append(torch.stack([at_targets(before - values, target) for values in after], dim=1))  # (B, columns)
    return torch.stack(losses, dim=1)


def integrated_gradients(model, images, target, steps=32):
    """What each number of each image adds to its target's logit: `(B, C, Y, X)`.

    The gradient, averaged over `steps` images on the straight line from zeros (the mean colour of the training data) to
    the image, times the image (Sundararajan et al. 2017, eq. 3; midpoint rule). The sum is nearly the difference of the
    logit between image and zeros. Parameters receive no gradient. Raises `ValueError` for targets that are no classes.
    """
    total = torch.zeros_like(images)
    with evaluating(model), torch.enable_grad():
        target = class_indices(target, logits_of(model, images).detach())
        for step in range(steps):
            x = (images.detach() * ((step + 0.5) / steps)).requires_grad_()
            (gradient,) = torch.autograd.grad(at_targets(logits_of(model, x), target).sum(), x)
            total += gradient
    return total / steps * images


def patch_sums(values, grid):
    """Sum of `values` `(B, C, Y, X)` over each patch of the grid, `(B, rows, columns)`."""
    B, C, Y, X = values.shape
    rows, columns = grid
    return values.reshape(B, C, rows, Y // rows, columns, X // columns).sum(dim=(1, 3, 5))  # (B, rows, columns)


def shuffle_patches(images, patch_size, share=1.0, seed=0):
    """Images in which that share of the patches, chosen at random in each image, have changed places among themselves.

    Raises `ValueError` where the patch size does not divide the image, or for a share outside 0 to 1.
    """
    patches = patchify(images, patch_size)  # (B, N, C*P*P)
    places = chosen_patches(patches, share, seed)  # (B, n, C*P*P): random, so that one step round shuffles them
    return unpatchify(patches.scatter(1, places, patches.gather(1, places.roll(1, 1))), patch_size, images.shape[2:])


def cover_patches(images, patch_size, share, seed=0):
    """Images of which that share of the patches, chosen at random in each image, have the image's mean colour.

    Raises `ValueError` where the patch size does not divide the image, or for a share outside 0 to 1.
    """
    patches = patchify(images, patch_size)  # (B, N, C*P*P)
    places = chosen_patches(patches, share, seed)  # (B, n, C*P*P)
    colour = patchify(mean_colour(images), patch_size)
    return unpatchify(patches.scatter(1, places, colour.gather(1, places)), patch_size, images.shape[2:])


def chosen_patches(patches, share, seed):
    """Where a random choice of the patches `(B, N, C*P*P)` stands, another one in each image: `(B, n, C*P*P)`."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"expected share to be from 0 to 1, found {share!r}")
    B, N, width = patches.shape
    order = torch.rand(B, N, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return order[:, : round(share * N), None].expand(-1, -1, width).to(patches.device)


def shuffle_curve(model, dataset, shares=(0.0, 0.25, 0.5, 0.75, 1.0), change=shuffle_patches, seed=0):
    """Accuracy of one of the course's models on `dataset` as more of the patches are shuffled: `(len(shares),)`.

    `change` may be `cover_patches` instead. The patches are the model's own (Naseer et al. 2021). Raises
    `ValueError` for a share outside 0 to 1.
    """
    config, labels = model.config, dataset.labels
    device = next(model.parameters()).device
    images = normalise(dataset.images.to(device), config)
    guesses = [probabilities(model, change(images, config.patch_size, share, seed)).argmax(dim=1) for share in shares]
    return torch.stack([(guess.cpu() == labels.cpu()).float().mean() for guess in guesses])


def pointing_game(maps, masks):
    """Share of the images in which the highest patch of the map lies on the object (Zhang et al. 2018).

    `maps` `(B, rows, columns)`, `masks` bool `(B, Y, X)`. A patch lies on the object if the mask covers at least half
    of it; patches that tie for the highest share the count. Raises `ValueError` where a mask does not fit its map.
    """
    B, rows, columns = maps.shape
    if len(masks) != B or masks.ndim != 3 or masks.shape[1] % rows or masks.shape[2] % columns:
        raise ValueError(f"expected masks ({B}, Y, X) in {rows} x {columns} patches, found {tuple(masks.shape)}")
    covered = F.adaptive_avg_pool2d(masks.float(), (rows, columns)) >= 0.5  # (B, rows, columns)
    highest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return ((highest & covered).sum(dim=(1, 2)) / highest.sum(dim=(1, 2))).mean().item()


def deletion_curve(model, images, maps, target, steps=16):
    """The target's probability as patches are hidden, the highest of the map first: `(B, steps + 1)`, and areas `(B,)`.

    Entry i is with the share i / steps of the patches of `maps` `(B, rows, columns)` hidden. The area under the curve
    is the mean probability: a good map makes it small (Petsiuk et al. 2018).
    """
    return change_by_rank(model, images, images, mean_colour(images), maps, target, steps)


def insertion_curve(model, images, maps, target, steps=16):
    """The target's probability as patches are shown, the highest of the map first: `(B, steps + 1)`, and areas `(B,)`.

    The reverse of `deletion_curve`: it starts from the mean colour (Petsiuk et al. blur; on small images a blur that
    hides the object leaves little else), and a good map makes the area large.
    """
    return change_by_rank(model, images, mean_colour(images), images, maps, target, steps)


def change_by_rank(model, images, start, end, maps, target, steps):
    """The target's probability while the patches of `start` become those of `end` in the order of `maps`."""
    B, rows, columns = maps.shape
    Y, X = images.shape[2:]
    if len(images) != B or Y % rows or X % columns:
        raise ValueError(f"expected a map for each of {len(images)} images of {Y} x {X}, found {tuple(maps.shape)}")
    target = class_indices(target, probabilities(model, images))
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(B, 1, rows, columns)
    rank = rank.repeat_interleave(Y // rows, dim=2).repeat_interleave(X // columns, dim=3)  # (B, 1, Y, X)
    counts = [round(rows * columns * step / steps) for step in range(steps + 1)]
    mixed = (torch.where(rank < count, end, start) for count in counts)
    curve = torch.stack([at_targets(probabilities(model, image), target) for image in mixed], dim=1)
    return curve, torch.trapezoid(curve, dx=1 / steps, dim=1)
