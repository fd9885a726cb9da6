"""From stored uint8 images to the batches that a model sees. Whole batches at once, on the images' own device."""

import torch
import torch.nn.functional as F


def normalise(images, config):
    """uint8 images `(B, C, Y, X)` to floats: divided by 255, minus `config.mean`, over `config.std`."""
    mean = torch.tensor(config.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(config.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def random_crop_flip(images, crop=4, flip=True):
    """Shift each image `(B, C, Y, X)` by up to `crop` pixels (borders reflected) and mirror half of them."""
    B, C, Y, X = images.shape
    device = images.device
    padded = F.pad(images.float(), (crop,) * 4, mode="reflect").to(images.dtype)
    top, left = torch.randint(0, 2 * crop + 1, (2, B, 1), device=device)
    rows = top + torch.arange(Y, device=device)  # (B, Y)
    columns = left + torch.arange(X, device=device)  # (B, X)
    if flip:
        mirrored = torch.rand(B, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(B, device=device)
    return padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batches(dataset, config, recipe):
    """Yield one epoch of `(images, labels)`: shuffled, augmented, normalised; a last partial batch is left out."""
    size = min(recipe.batch_size, len(dataset))
    order = torch.randperm(len(dataset), device=dataset.images.device)
    for index in order.split(size)[: len(dataset) // size]:
        images = random_crop_flip(dataset.images[index], recipe.crop, recipe.flip)
        yield normalise(images, config), dataset.labels[index]
