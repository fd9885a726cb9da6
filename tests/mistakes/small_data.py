"""Wrong answers to the exercises of notebook 08, as learners write them, with the mistakes that must be named."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import patchify, unpatchify


def count_without_norms_or_head(widths, kernels, channels, classes):
    total = 0
    for width, kernel in zip(widths, kernels, strict=True):
        total += channels * width * kernel * kernel
        channels = width
    return total


def count_as_torch_does_by_default(widths, kernels, channels, classes):
    layers = []
    for width, kernel in zip(widths, kernels, strict=True):
        layers += [nn.Conv2d(channels, width, kernel), nn.BatchNorm2d(width)]
        channels = width
    return sum(p.numel() for layer in [*layers, nn.Linear(channels, classes)] for p in layer.parameters())


def count_state(widths, kernels, channels, classes):
    state = 0
    for width, kernel in zip(widths, kernels, strict=True):
        layers = nn.Conv2d(channels, width, kernel, bias=False), nn.BatchNorm2d(width)
        state += sum(x.numel() for layer in layers for x in layer.state_dict().values() if x.ndim)
        channels = width
    return state + channels * classes + classes


def count_from_pixels_alone(widths, kernels, channels, classes):
    total = 0
    for width, kernel in zip(widths, kernels, strict=True):
        total += channels * width * kernel**2 + 2 * width
    return total + channels * classes + classes


def count_flat_kernels_without_bias(widths, kernels, channels, classes):
    inputs = [channels, *widths]
    convolutions = sum(a * b * k for a, b, k in zip(inputs, widths, kernels, strict=False))
    return convolutions + 2 * sum(widths) + widths[-1] * classes


def field_of_whole_kernels(kernels):
    size, step = 1, 1
    for kernel in kernels:
        size += kernel * step
        step *= 2
        size += 0 * step
    return size + sum(2**i for i in range(len(kernels)))


def field_of_pools_first(kernels):
    size, step = 1, 1
    for kernel in kernels:
        size += step
        step *= 2
        size += (kernel - 1) * step
    return size


def field_without_the_first_pixel_and_pools(kernels):
    size, step = 0, 1
    for kernel in kernels:
        size += (kernel - 1) * step
        step *= 2
    return size


def field_of_a_product(kernels):
    size = 1
    for kernel in kernels:
        size *= kernel
    return size


def shuffled(index):
    """`shuffle_patches` with tokens taken by `index(tokens, orders)`."""
    return lambda images, P, orders: unpatchify(index(patchify(images, P), orders), P, tuple(images.shape[2:]))


def by_image(tokens, orders):
    return tokens[torch.arange(len(tokens))[:, None], orders]


def scattered(tokens, orders):
    out = torch.empty_like(tokens)
    out[torch.arange(len(tokens))[:, None], orders] = tokens
    return out


def shuffle_by_reshape(images, patch_size, orders):
    B, C, Y, X = images.shape
    tokens = images.reshape(B, -1, C * patch_size**2)
    return by_image(tokens, orders).reshape(B, C, Y, X)


def shuffle_squares_backwards(images, patch_size, orders):
    tokens = by_image(patchify(images, patch_size), torch.argsort(orders, dim=1))
    return unpatchify(tokens, patch_size, images.shape[2])


def shuffle_pixels(images, patch_size, orders):
    return images.flatten(2)[:, :, torch.randperm(images[0, 0].numel())].view_as(images)


def mixed(own=lambda s: s, other=lambda s: 1 - s, shift=1):
    def targets(labels, num_classes, share):
        hot = F.one_hot(labels, num_classes).float()
        return own(share)[:, None] * hot + other(share)[:, None] * hot.roll(shift, 0)

    return targets


def targets_overwritten(labels, num_classes, share):
    targets = torch.zeros(len(labels), num_classes)
    for i in range(len(labels)):
        targets[i, labels[i]] = share[i]
        targets[i, labels[i - 1]] = 1 - share[i]
    return targets


def targets_without_a_column(labels, num_classes, share):
    one_hot = F.one_hot(labels, num_classes)
    return one_hot * share + one_hot.roll(1, 0) * (1 - share)


def targets_of_one_share(labels, num_classes, share):
    one_hot = F.one_hot(labels, num_classes).float()
    return share[0] * one_hot + (1 - share[0]) * one_hot.roll(-1, 0)


def targets_normalised(labels, num_classes, share):
    return mixed()(labels, num_classes, share).softmax(dim=1)


def broken_paste(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    box, rows, columns = images.clone(), slice(top, top + size), slice(left, left + size)
    box[:, :, rows, columns] = images.roll(1, 0)[:, :, rows, columns]
    share = size * size / (Y * X)
    one_hot = F.one_hot(labels, num_classes).float()
    return box, share * one_hot + (1 - share) * one_hot.roll(1, 0)


def paste(share=None, swap=False, mix=True, in_place=False):
    """`paste_box`, right with the defaults, wrong with another."""

    def paste_box(images, labels, num_classes, top, left, size):
        box = torch.zeros(images.shape[2:])
        box[top : top + size, left : left + size] = 1
        result = torch.where(box > 0, images.roll(1, 0), images)
        part = box.mean() if share is None else share(size, *images.shape[2:], top, result != images)
        if in_place:
            images.copy_(result)
        hot = F.one_hot(labels, num_classes).float()
        before = hot.roll(1, 0) if mix else hot
        if swap:
            hot, before = before, hot
        return result, (1 - part) * hot + part * before

    return paste_box


def paste_in_a_chain(images, labels, num_classes, top, left, size):
    out = images.clone()
    for i in range(len(out)):
        out[i, :, top : top + size, left : left + size] = out[i - 1, :, top : top + size, left : left + size]
    return out, paste()(images, labels, num_classes, top, left, size)[1]


def whole_box(size, Y, X, *_):
    return size * size / (Y * X)


def counts_in_numpy(n):
    return torch.from_numpy(np.maximum(n.numpy() - 1, 1 - n.numpy()) - 0.5)


WRONG = [
    ("convnet_parameters", count_without_norms_or_head, "norm forgotten + head forgotten"),
    ("convnet_parameters", count_as_torch_does_by_default, "convolution's bias"),
    ("convnet_parameters", count_state, "running statistics"),
    ("convnet_parameters", count_from_pixels_alone, "channels not handed on"),
    ("convnet_parameters", count_flat_kernels_without_bias, "kernel not squared + head's bias forgotten"),
    ("convnet_parameters", lambda *a: count_as_torch_does_by_default(*a) + 7, None),
    ("receptive_field", field_of_whole_kernels, "one neighbour too many"),
    ("receptive_field", field_of_pools_first, "pool before the convolution"),
    ("receptive_field", field_without_the_first_pixel_and_pools, "begins at 0 + pool's own pixels forgotten"),
    ("receptive_field", field_of_a_product, None),
    ("best_sum", 100, "a sum that compares"),
    ("best_sum", "50 %", "what training finds"),
    ("best_sum", 25, "only one case"),
    ("best_sum", 2 / 3, "three equal cases"),
    ("best_sum", "most", "not a number"),
    ("shuffle_patches", lambda images, P, orders: images, "not shuffled"),
    ("shuffle_patches", shuffled(scattered), "the inverse order"),
    ("shuffle_patches", shuffled(lambda tokens, o: tokens[:, o[0]]), "one order for all"),
    ("shuffle_patches", shuffled(lambda tokens, o: tokens[:, o]), "all orders for all"),
    ("shuffle_patches", shuffled(lambda tokens, o: tokens[o]), "images indexed"),
    ("shuffle_patches", shuffled(lambda tokens, o: tokens.gather(1, o[..., None])), "gather without expand"),
    ("shuffle_patches", lambda images, P, orders: patchify(images, P)[:, orders], "all orders for all + still patches"),
    ("shuffle_patches", shuffle_by_reshape, "reshape alone"),
    ("shuffle_patches", shuffle_squares_backwards, "the inverse order + wrong sides"),
    ("shuffle_patches", shuffle_pixels, None),
    ("shuffled_answers", "a", "taken for training"),
    ("shuffled_answers", "b", "taken for blindness"),
    ("shuffled_answers", "d", "taken for pooling alone"),
    ("shuffled_answers", "z", "not a choice"),
    ("mixup_targets", lambda labels, C, share: F.one_hot(labels, C).float(), "labels not mixed"),
    ("mixup_targets", mixed(own=lambda s: s / s, other=lambda s: s / s), "rows above 1"),
    ("mixup_targets", mixed(own=lambda s: 1 - s, other=lambda s: s, shift=-1), "the wrong neighbour + shares swapped"),
    ("mixup_targets", lambda labels, C, share: share * labels + (1 - share) * labels.roll(1), "class numbers mixed"),
    ("mixup_targets", targets_overwritten, "equal labels overwritten"),
    ("mixup_targets", targets_without_a_column, "no column"),
    ("mixup_targets", targets_of_one_share, "the wrong neighbour + one share for all"),
    ("mixup_targets", targets_normalised, None),
    ("paste_box", broken_paste, "area of the whole box + shares swapped"),
    ("paste_box", paste(share=whole_box, mix=False), "labels not mixed"),
    ("paste_box", paste(share=whole_box), "area of the whole box"),
    ("paste_box", paste(share=lambda size, Y, X, top, _: min(size, Y - top) / Y), "a side for an area"),
    ("paste_box", paste(share=lambda size, Y, X, top, changed: changed.float().mean()), "changed pixels counted"),
    ("paste_box", paste(in_place=True), "changed in place"),
    ("paste_box", lambda *a: (a[0], paste(swap=True)(*a)[1]), "nothing pasted + shares swapped"),
    ("paste_box", paste_in_a_chain, "pasted twice"),
    ("paste_box", lambda *a: paste()(*a)[0], "not a pair"),
    ("paste_box", lambda *a: (paste()(*a)[0] + 1, paste()(*a)[1]), "offset"),
    ("paste_box", lambda *a: paste()(*a)[::-1], "wrong shape"),
    ("paste_box", lambda *a: (paste()(*a)[0], paste()(*a)[1].softmax(1)), "part 2 wrong"),
    ("compare_counts", lambda n: 2 * n - 1, "a straight line"),
    ("compare_counts", lambda n: 1.5 - n, "a straight line"),
    ("compare_counts", lambda n: 0.5 - torch.relu(n - 1) - torch.relu(1 - n), "the wrong way round"),
    ("compare_counts", lambda n: torch.relu(n - 1) - 0.5, "one end only"),
    ("compare_counts", lambda n: torch.relu(n - 1) + torch.relu(1 - n), "nothing subtracted"),
    ("compare_counts", lambda n: torch.relu(n - 1) + torch.relu(1 - n) - 0.05, "too narrow"),
    ("compare_counts", lambda n: torch.relu(n - 1) - 0.1, "one end only + too narrow"),
    ("compare_counts", lambda n: torch.relu(n - 1).sum(), "wrong shape"),
    ("compare_counts", lambda n: torch.cos(torch.pi * n), "forbidden"),
    ("compare_counts", lambda n: (n - 1).abs() - 0.5, "forbidden"),
    ("compare_counts", lambda n: (n - 1) ** 2 - 0.3, "forbidden"),
    ("compare_counts", lambda n: n * n - 2 * n + 0.5, "forbidden"),
    ("compare_counts", lambda n: torch.where(n > 1, n - 1, 1 - n) - 0.5, "forbidden"),
    ("compare_counts", lambda n: 1 - 2 * (n.round() == 1), "forbidden"),
    ("compare_counts", lambda n: torch.tensor([abs(x - 1) - 0.5 for x in n.tolist()]), "forbidden"),
    ("compare_counts", lambda n: F.gelu(4 * n - 4) + F.gelu(4 - 4 * n) - 2, "forbidden"),
    ("compare_counts", lambda n: torch.relu((n - 1) * (n - 1)) - 0.5, "forbidden"),
    ("compare_counts", counts_in_numpy, "forbidden"),
]
