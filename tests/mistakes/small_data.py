"""Notebook 08's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import patchify, unpatchify


def counted_by_torch(widths, kernels, channels, classes):
    layers = []
    for width, kernel in zip(widths, kernels, strict=True):
        layers += [nn.Conv2d(channels, width, kernel, bias=False), nn.BatchNorm2d(width)]
        channels = width
    layers.append(nn.Linear(channels, classes))
    return sum(p.numel() for layer in layers for p in layer.parameters())


def count(norm=2, power=2, conv=0, head=1, head_bias=1):
    def parameters(widths, kernels, channels, classes):
        ins = [channels, *widths[:-1]]
        stages = sum(i * o * k**power + (norm + conv) * o for i, o, k in zip(ins, widths, kernels, strict=True))
        return stages + head * (widths[-1] + head_bias) * classes

    return parameters


def field_backwards(kernels):
    size = 1
    for kernel in reversed(kernels):  # from the output to the pixels
        size = 2 * size + kernel - 1
    return size


def field(pool=1, grow=2, early=False, extra=-1):
    def receptive_field(kernels):
        size, jump = 1, 1
        for kernel in kernels:
            size += (kernel + extra) * jump
            if early:
                jump *= grow
            size += pool * jump
            if not early:
                jump *= grow
        return size

    return receptive_field


def shuffle(index):
    def shuffled(images, patch_size, orders):
        tokens = patchify(images, patch_size)
        return unpatchify(index(tokens, orders), patch_size, tuple(images.shape[2:]))

    return shuffled


def shuffle_by_slices(images, patch_size, orders):
    P, columns, out = patch_size, images.shape[3] // patch_size, torch.empty_like(images)
    for b, order in enumerate(orders.tolist()):
        for place, patch in enumerate(order):
            (y, x), (v, u) = divmod(place, columns), divmod(patch, columns)
            out[b, :, y * P : y * P + P, x * P : x * P + P] = images[b, :, v * P : v * P + P, u * P : u * P + P]
    return out


def by_picture(tokens, orders):
    return tokens[torch.arange(len(tokens))[:, None], orders]


def scattered(tokens, orders):
    out = torch.empty_like(tokens)
    out[torch.arange(len(tokens))[:, None], orders] = tokens
    return out


def targets_by_hand(labels, num_classes, share):
    targets = torch.zeros(len(labels), num_classes)
    for i in range(len(labels)):
        targets[i, labels[i]] += share[i]
        targets[i, labels[i - 1]] += 1 - share[i]
    return targets


def mixed(own=lambda s: s, other=lambda s: 1 - s, shift=1):
    def targets(labels, num_classes, share):
        hot = F.one_hot(labels, num_classes).float()
        return own(share)[:, None] * hot + other(share)[:, None] * hot.roll(shift, 0)

    return targets


def paste(share=None, swap=False, mix=True, in_place=False):
    def paste_box(images, labels, num_classes, top, left, size):
        box = torch.zeros(images.shape[2:])
        box[top : top + size, left : left + size] = 1
        result = torch.where(box > 0, images.roll(1, 0), images)
        if in_place:
            images.copy_(result)
        part = box.mean() if share is None else share(size, *images.shape[2:], top)
        hot = F.one_hot(labels, num_classes).float()
        before = hot.roll(1, 0) if mix else hot
        if swap:
            hot, before = before, hot
        return result, (1 - part) * hot + part * before

    return paste_box


def paste_by_loop(images, labels, num_classes, top, left, size):
    B, _, Y, X = images.shape
    out, targets = images.clone(), torch.zeros(B, num_classes)
    bottom, right = min(top + size, Y), min(left + size, X)
    share = (bottom - top) * (right - left) / (Y * X)
    for i in range(B):
        out[i, :, top:bottom, left:right] = images[i - 1, :, top:bottom, left:right]
        targets[i, labels[i]] += 1 - share
        targets[i, labels[i - 1]] += share
    return out, targets


def paste_in_a_chain(images, labels, num_classes, top, left, size):
    out, targets = paste_by_loop(images, labels, num_classes, top, left, size)
    out = images.clone()
    for i in range(len(out)):
        out[i, :, top : top + size, left : left + size] = out[i - 1, :, top : top + size, left : left + size]
    return out, targets


def count_by_list(widths, kernels, channels, classes):
    sizes, before = [], channels
    for width, kernel in zip(widths, kernels, strict=True):
        sizes += [(width, before, kernel, kernel), (width,), (width,)]
        before = width
    return sum(math.prod(size) for size in [*sizes, (classes, before), (classes,)])


def targets_by_matrix(labels, num_classes, share):
    B = len(labels)
    mixing = torch.diag(share) + torch.roll(torch.diag(1 - share), -1, 1)  # (B, B): row i takes from i and i - 1
    return mixing @ torch.eye(num_classes)[labels] if B > 1 else torch.eye(num_classes)[labels]


def paste_with_cat(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    bottom, right = min(top + size, Y), min(left + size, X)
    band = images[:, :, top:bottom]
    band = torch.cat([band[..., :left], band.roll(1, 0)[..., left:right], band[..., right:]], dim=3)
    targets = torch.eye(num_classes)[labels]
    share = band[0, 0, :, left:right].numel() / (Y * X)
    mixed = torch.cat([images[:, :, :top], band, images[:, :, bottom:]], dim=2)
    return mixed, targets.lerp(targets[torch.arange(len(labels)) - 1], share)


RIGHT = [
    ("convnet_parameters", counted_by_torch),
    ("convnet_parameters", count()),
    ("convnet_parameters", count_by_list),
    ("receptive_field", field()),
    ("receptive_field", field_backwards),
    ("receptive_field", lambda kernels: 1 + sum(k * 2**i for i, k in enumerate(kernels))),
    ("best_sum", 0.75),
    ("best_sum", 75),
    ("best_sum", torch.tensor(3 / 4)),
    ("shuffle_patches", shuffle(by_picture)),
    ("shuffle_patches", shuffle(lambda tokens, o: tokens.gather(1, o[:, :, None].expand_as(tokens)))),
    ("shuffle_patches", shuffle(lambda tokens, o: torch.stack([t[i] for t, i in zip(tokens, o, strict=True)]))),
    ("shuffle_patches", shuffle_by_slices),
    ("shuffled_answers", "c"),
    ("shuffled_answers", " C "),
    ("shuffled_answers", "(c)"),
    ("mixup_targets", mixed()),
    ("mixup_targets", targets_by_hand),
    ("mixup_targets", targets_by_matrix),
    ("paste_box", paste()),
    ("paste_box", paste_by_loop),
    ("paste_box", paste_with_cat),
    ("compare_counts", lambda n: (n - 1).abs() - 0.5),
    ("compare_counts", lambda n: torch.relu(n - 1) + torch.relu(1 - n) - 0.5),
    ("compare_counts", lambda n: (n - 1) ** 2 - 0.3),
]

WRONG = [
    ("convnet_parameters", count(norm=0), "norm forgotten"),
    ("convnet_parameters", count(norm=1), "norm counted once"),
    ("convnet_parameters", count(power=1), "kernel not squared"),
    ("convnet_parameters", count(conv=1), "convolution's bias"),
    ("convnet_parameters", lambda *a: counted_by_torch(*a) - (a[0][-1] + 1) * a[3], "head forgotten"),
    ("convnet_parameters", count(head_bias=0), "head's bias forgotten"),
    ("receptive_field", lambda kernels: 1 + sum(k - 1 for k in kernels), "pools forgotten"),
    ("receptive_field", field(pool=0), "pool's own pixels forgotten"),
    ("receptive_field", field(early=True), "one neighbour too many"),
    ("receptive_field", field(grow=1), "step does not double"),
    ("receptive_field", field(extra=0), "one neighbour too many"),
    ("best_sum", 1.0, "a sum that compares"),
    ("best_sum", 100, "a sum that compares"),
    ("best_sum", 0.5, "what training finds"),
    ("best_sum", 25, "only one case"),
    ("shuffle_patches", lambda images, P, orders: images, "not shuffled"),
    ("shuffle_patches", shuffle(lambda tokens, o: by_picture(tokens, o.argsort(1))), "the inverse order"),
    ("shuffle_patches", shuffle(scattered), "the inverse order"),
    ("shuffle_patches", lambda images, P, orders: by_picture(patchify(images, P), orders), "still patches"),
    ("shuffle_patches", shuffle(lambda tokens, o: tokens[:, o[0]]), "one order for all"),
    ("shuffle_patches", lambda images, P, orders: patchify(images, P)[:, orders], "all orders for all"),
    ("shuffled_answers", "a", "taken for training"),
    ("shuffled_answers", "b", "taken for blindness"),
    ("shuffled_answers", "d", "taken for pooling alone"),
    ("shuffled_answers", "z", "not a choice"),
    ("mixup_targets", lambda labels, C, share: F.one_hot(labels, C).float(), "labels not mixed"),
    ("mixup_targets", mixed(own=lambda s: 1 - s, other=lambda s: s), "shares swapped"),
    ("mixup_targets", mixed(shift=-1), "the wrong neighbour"),
    ("mixup_targets", mixed(own=lambda s: 0 * s + 0.5, other=lambda s: 0 * s + 0.5), "half and half"),
    ("mixup_targets", mixed(other=lambda s: 0 * s), "rows below 1"),
    ("mixup_targets", mixed(own=lambda s: s / s, other=lambda s: s / s), "rows above 1"),
    ("paste_box", paste(share=lambda size, Y, X, top: size * size / (Y * X)), "area of the whole box"),
    ("paste_box", paste(share=lambda size, Y, X, top: min(size, Y - top) / Y), "a side for an area"),
    ("paste_box", paste(swap=True), "shares swapped"),
    ("paste_box", paste(mix=False), "labels not mixed"),
    ("paste_box", paste(in_place=True), "changed in place"),
    ("paste_box", lambda *a: (a[0], paste_by_loop(*a)[1]), "nothing pasted"),
    ("paste_box", paste_in_a_chain, "pasted twice"),
    ("paste_box", lambda *a: paste_by_loop(*a)[0], "not a pair"),
    ("compare_counts", lambda n: 2 * n - 1, "a straight line"),
    ("compare_counts", lambda n: 1 - n, "a straight line"),
    ("compare_counts", lambda n: 0.5 - (n - 1).abs(), "the wrong way round"),
    ("compare_counts", lambda n: torch.relu(n - 1) - 0.5, None),
    ("compare_counts", lambda n: (n - 1).abs() - 0.1, "too narrow"),
    ("compare_counts", lambda n: (n - 1).abs().sum(), "wrong shape"),
]
