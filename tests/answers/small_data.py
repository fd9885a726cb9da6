"""Right answers to the exercises of notebook 08."""

import math
from contextlib import suppress
from fractions import Fraction
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import patchify, unpatchify

VALUES = {
    "best_sum": [0.75, 75, torch.tensor(3 / 4), "3/4", Fraction(3, 4), np.float32(0.75), [0.75], "0.75", "75 %", "75%"],
    "shuffled_answers": ["c", " C ", "(c)", "c.", "C"],
}


def convnet_parameters__loop(widths, kernels, channels, classes):
    total = 0
    for width, kernel in zip(widths, kernels, strict=True):
        total += channels * width * kernel**2 + 2 * width
        channels = width
    return total + channels * classes + classes


def convnet_parameters__by_torch(widths, kernels, channels, classes):
    layers = []
    for width, kernel in zip(widths, kernels, strict=True):
        layers += [nn.Conv2d(channels, width, kernel, bias=False), nn.BatchNorm2d(width)]
        channels = width
    layers.append(nn.Linear(channels, classes))
    return sum(p.numel() for layer in layers for p in layer.parameters())


def convnet_parameters__sizes(widths, kernels, channels, classes):
    sizes, before = [], channels
    for width, kernel in zip(widths, kernels, strict=True):
        sizes += [(width, before, kernel, kernel), (width,), (width,)]
        before = width
    return sum(math.prod(size) for size in [*sizes, (classes, before), (classes,)])


def convnet_parameters__inputs_listed(widths, kernels, channels, classes):
    inputs = [channels, *widths[:-1]]
    convolutions = sum(a * b * k * k for a, b, k in zip(inputs, widths, kernels, strict=True))
    norms = 2 * sum(widths)
    head = (widths[-1] + 1) * classes
    return convolutions + norms + head


def convnet_parameters__by_index(widths, kernels, channels, classes):
    n = 0
    for i in range(len(widths)):
        c_in = channels if i == 0 else widths[i - 1]
        n += c_in * widths[i] * kernels[i] * kernels[i]
        n += widths[i]
        n += widths[i]
    n += widths[-1] * classes
    n += classes
    return n


def convnet_parameters__recursive(widths, kernels, channels, classes):
    if not widths:
        return channels * classes + classes
    own = widths[0] * (channels * kernels[0] ** 2 + 2)
    return own + convnet_parameters__recursive(widths[1:], kernels[1:], widths[0], classes)


def convnet_parameters__tensors(widths, kernels, channels, classes):
    a = torch.tensor((channels, *widths[:-1]))
    b, k = torch.tensor(widths), torch.tensor(kernels)
    return (a * b * k.square()).sum() + 2 * b.sum() + b[-1] * classes + classes


def convnet_parameters__numpy(widths, kernels, channels, classes):
    w, k = np.array(widths), np.array(kernels)
    c = np.concatenate([[channels], w[:-1]])
    return int(np.dot(c * w, k**2) + 2 * np.sum(w) + (w[-1] + 1) * classes)


def convnet_parameters__reduce(widths, kernels, channels, classes):
    def step(state, stage):
        total, c = state
        width, kernel = stage
        return total + width * (c * kernel * kernel + 2), width

    total, last = reduce(step, zip(widths, kernels, strict=True), (0, channels))
    return total + classes * (last + 1)


def convnet_parameters__float(widths, kernels, channels, classes):
    total = 0.0
    for w, k in zip(widths, kernels, strict=True):
        total += channels * w * math.pow(k, 2)
        total += 2.0 * w
        channels = w
    return total + (channels + 1) * classes


def convnet_parameters__sequential(widths, kernels, channels, classes):
    model = nn.Sequential()
    for n, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        model.add_module(f"conv{n}", nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False))
        model.add_module(f"norm{n}", nn.BatchNorm2d(width))
        channels = width
    model.add_module("head", nn.Linear(channels, classes))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def receptive_field__loop(kernels):
    size, step = 1, 1
    for kernel in kernels:
        size += (kernel - 1) * step + step
        step *= 2
    return size


def receptive_field__two_layers(kernels):
    field, jump = 1, 1
    for k in kernels:
        field = field + (k - 1) * jump
        field = field + (2 - 1) * jump
        jump = jump * 2
    return field


def receptive_field__backwards(kernels):
    size = 1
    for kernel in reversed(kernels):
        size = 2 * size + kernel - 1
    return size


def receptive_field__sum(kernels):
    return 1 + sum(k * 2**i for i, k in enumerate(kernels))


def receptive_field__recursive(kernels):
    if len(kernels) == 0:
        return 1
    return 2 * receptive_field__recursive(kernels[1:]) + kernels[0] - 1


def receptive_field__layers_listed(kernels):
    layers = []
    for k in kernels:
        layers.append((k, 1))
        layers.append((2, 2))
    r, s = 1, 1
    for k, stride in layers:
        r += (k - 1) * s
        s *= stride
    return r


def receptive_field__tensors(kernels):
    k = torch.tensor(kernels)
    return 1 + (k * 2 ** torch.arange(len(k))).sum()


def receptive_field__numpy(kernels):
    return 1 + np.dot(kernels, 2.0 ** np.arange(len(kernels)))


def receptive_field__shift(kernels):
    size = 1
    for i in range(len(kernels)):
        size += kernels[i] << i
    return size


def receptive_field__while(kernels):
    n, size, step = 0, 1, 1
    while n < len(kernels):
        size = size + kernels[n] * step
        step = step + step
        n = n + 1
    return float(size)


def receptive_field__edges(kernels):
    low = high = 0
    for kernel in reversed(kernels):
        low, high = 2 * low, 2 * high + 1
        high += kernel - 1
    return high - low + 1


def shuffle_patches__column(images, patch_size, orders):
    patches = patchify(images, patch_size)  # (B, N, C*P*P)
    patches = patches[torch.arange(len(images))[:, None], orders]
    return unpatchify(patches, patch_size, tuple(images.shape[2:]))


def shuffle_patches__gather(images, patch_size, orders):
    tokens = patchify(images, patch_size)
    index = orders.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return unpatchify(tokens.gather(1, index), patch_size, images.shape[2:])


def shuffle_patches__stack(images, P, orders):
    tokens = patchify(images, P)
    tokens = torch.stack([t[i] for t, i in zip(tokens, orders, strict=True)])
    return unpatchify(tokens, P, (images.shape[2], images.shape[3]))


def shuffle_patches__take_along(images, patch_size, orders):
    B, C, Y, X = images.shape
    tokens = torch.take_along_dim(patchify(images, patch_size), orders[:, :, None], dim=1)
    return unpatchify(tokens, patch_size, (Y, X))


def shuffle_patches__one_hot(images, patch_size, orders):
    places = F.one_hot(orders, orders.shape[1]).to(images.dtype)  # (B, N, N)
    return unpatchify(places @ patchify(images, patch_size), patch_size, tuple(images.shape[-2:]))


def shuffle_patches__flat(images, patch_size, orders):
    tokens = patchify(images, patch_size)
    B, N, D = tokens.shape
    index = (orders + torch.arange(B).unsqueeze(1) * N).flatten()
    return unpatchify(tokens.reshape(B * N, D)[index].reshape(B, N, D), patch_size, tuple(images.shape[2:]))


def shuffle_patches__vmap(images, patch_size, orders):
    tokens = torch.vmap(lambda t, o: t.index_select(0, o))(patchify(images, patch_size), orders)
    return unpatchify(tokens, patch_size, tuple(images.shape[2:]))


def shuffle_patches__scatter(images, patch_size, orders):
    tokens = patchify(images, patch_size)
    places = orders.argsort(dim=1)[:, :, None].expand_as(tokens)
    return unpatchify(torch.zeros_like(tokens).scatter(1, places, tokens), patch_size, tuple(images.shape[2:]))


def shuffle_patches__slices(images, P, orders):
    columns, out = images.shape[3] // P, torch.empty_like(images)
    for b, order in enumerate(orders.tolist()):
        for place, patch in enumerate(order):
            y, x = divmod(place, columns)
            v, u = divmod(patch, columns)
            out[b, :, y * P : y * P + P, x * P : x * P + P] = images[b, :, v * P : v * P + P, u * P : u * P + P]
    return out


def shuffle_patches__fold(images, patch_size, orders):
    windows = F.unfold(images, patch_size, stride=patch_size)  # (B, C*P*P, N)
    windows = windows.gather(2, orders[:, None].expand_as(windows))
    return F.fold(windows, images.shape[2:], patch_size, stride=patch_size)


def shuffle_patches__numpy(images, patch_size, orders):
    tokens = patchify(images, patch_size).numpy()
    tokens = np.take_along_axis(tokens, orders.numpy()[..., None], axis=1)
    return unpatchify(torch.from_numpy(tokens), patch_size, tuple(images.shape[2:]))


def shuffle_patches__axes(images, patch_size, orders):
    B, C, Y, X = images.shape
    P, rows, columns = patch_size, Y // patch_size, X // patch_size
    grid = images.reshape(B, C, rows, P, columns, P).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, N, C, P, P)
    grid = grid[torch.arange(B).view(B, 1), orders].unflatten(1, (rows, columns))
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(B, C, Y, X)


def mixup_targets__one_hot(labels, num_classes, share):
    one_hot = F.one_hot(labels, num_classes).float()
    return share[:, None] * one_hot + (1 - share[:, None]) * one_hot.roll(1, 0)


def mixup_targets__lerp(labels, num_classes, share):
    own = F.one_hot(labels, num_classes).float()
    return torch.lerp(own.roll(1, 0), own, share[:, None])


def mixup_targets__by_hand(labels, num_classes, share):
    targets = torch.zeros(len(labels), num_classes)
    for i in range(len(labels)):
        targets[i, labels[i]] += share[i]
        targets[i, labels[i - 1]] += 1 - share[i]
    return targets


def mixup_targets__matrix(labels, num_classes, share):
    mixing = torch.diag(share) + torch.roll(torch.diag(1 - share), -1, 1)  # (B, B): row i takes from i and i - 1
    return mixing @ torch.eye(num_classes)[labels]


def mixup_targets__scatter(labels, num_classes, share):
    index = torch.stack([labels, labels.roll(1)], dim=1)  # (B, 2)
    parts = torch.stack([share, 1 - share], dim=1)
    return torch.zeros(len(labels), num_classes).scatter_add(1, index, parts)


def mixup_targets__index_put(labels, num_classes, share):
    rows = torch.arange(len(labels))
    targets = torch.zeros(len(labels), num_classes)
    targets[rows, labels] = share
    targets.index_put_((rows, labels.roll(1)), 1 - share, accumulate=True)
    return targets


def mixup_targets__eye(labels, num_classes, share):
    rows = torch.eye(num_classes)
    share = share.unsqueeze(1)
    return rows[labels] * share + rows[torch.roll(labels, 1)] * (1 - share)


def mixup_targets__cat(labels, num_classes, share):
    before = torch.cat([labels[-1:], labels[:-1]])
    own, other = F.one_hot(labels, num_classes), F.one_hot(before, num_classes)
    share = share.reshape(-1, 1)
    return own * share + other - other * share


def mixup_targets__compared(labels, num_classes, share):
    classes = torch.arange(num_classes)
    own = (labels[:, None] == classes).float()
    other = (labels.roll(1)[:, None] == classes).float()
    return torch.einsum("b,bc->bc", share, own) + torch.einsum("b,bc->bc", 1 - share, other)


def mixup_targets__numpy(labels, num_classes, share):
    rows, share = np.eye(num_classes)[labels.numpy()], share.numpy()[:, None]
    return torch.tensor(share * rows + (1 - share) * np.roll(rows, 1, axis=0))


def mixup_targets__float64(labels, num_classes, share):
    one_hot, share = F.one_hot(labels, num_classes).double(), share.double().view(-1, 1)
    return one_hot.mul(share).add(one_hot[torch.arange(len(labels)) - 1].mul(1 - share))


def mixup_targets__rows(labels, num_classes, share):
    one_hot = F.one_hot(labels, num_classes).float()
    rows = [s * row + (1 - s) * one_hot[i - 1] for i, (s, row) in enumerate(zip(share, one_hot, strict=True))]
    return torch.stack(rows)


def paste_box__repaired(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    mixed, rows, columns = images.clone(), slice(top, top + size), slice(left, left + size)
    mixed[:, :, rows, columns] = images.roll(1, 0)[:, :, rows, columns]
    share = mixed[0, 0, rows, columns].numel() / (Y * X)
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed, (1 - share) * one_hot + share * one_hot.roll(1, 0)


def paste_box__where(images, labels, num_classes, top, left, size):
    box = torch.zeros(images.shape[2:])
    box[top : top + size, left : left + size] = 1
    part, own = box.mean(), F.one_hot(labels, num_classes).float()
    return torch.where(box > 0, images.roll(1, 0), images), own * (1 - part) + own.roll(1, 0) * part


def paste_box__loop(images, labels, num_classes, top, left, size):
    B, _, Y, X = images.shape
    out, targets = images.clone(), torch.zeros(B, num_classes)
    bottom, right = min(top + size, Y), min(left + size, X)
    share = (bottom - top) * (right - left) / (Y * X)
    for i in range(B):
        out[i, :, top:bottom, left:right] = images[i - 1, :, top:bottom, left:right]
        targets[i, labels[i]] += 1 - share
        targets[i, labels[i - 1]] += share
    return out, targets


def paste_box__cat(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    bottom, right = min(top + size, Y), min(left + size, X)
    band = images[:, :, top:bottom]
    band = torch.cat([band[..., :left], band.roll(1, 0)[..., left:right], band[..., right:]], dim=3)
    targets = torch.eye(num_classes)[labels]
    share = band[0, 0, :, left:right].numel() / (Y * X)
    mixed = torch.cat([images[:, :, :top], band, images[:, :, bottom:]], dim=2)
    return mixed, targets.lerp(targets[torch.arange(len(labels)) - 1], share)


def paste_box__mask(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    y, x = torch.arange(Y)[:, None], torch.arange(X)
    mask = (y >= top) & (y < top + size) & (x >= left) & (x < left + size)  # (Y, X)
    mixed = images * ~mask + images.roll(1, 0) * mask
    share = mask.sum() / mask.numel()
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed, (1 - share) * one_hot + share * one_hot.roll(1, 0)


def paste_box__clipped(images, labels, num_classes, top, left, size):
    B, C, Y, X = images.shape
    height = size if top + size <= Y else Y - top
    width = size if left + size <= X else X - left
    mixed, other = images.clone(), torch.roll(images, shifts=1, dims=0)
    mixed[:, :, top : top + height, left : left + width] = other[:, :, top : top + height, left : left + width]
    lam = 1 - height * width / (Y * X)
    own = F.one_hot(labels, num_classes).float()
    targets = lam * own + (1 - lam) * torch.roll(own, shifts=1, dims=0)
    return mixed, targets


def paste_box__list(images, labels, num_classes, top, left, size):
    box = images.roll(1, 0)[:, :, top : top + size, left : left + size]
    mixed = images.clone()
    mixed[:, :, top : top + box.shape[2], left : left + box.shape[3]] = box
    share = box[0, 0].numel() / images[0, 0].numel()
    rows = torch.eye(num_classes)
    return [mixed, (1 - share) * rows[labels] + share * rows[labels.roll(1)]]


def paste_box__numpy(images, labels, num_classes, top, left, size):
    x, y = images.numpy().copy(), np.eye(num_classes)[labels.numpy()]
    box = np.s_[:, :, top : top + size, left : left + size]
    x[box] = np.roll(images.numpy(), 1, axis=0)[box]
    share = x[box].shape[2] * x[box].shape[3] / (x.shape[2] * x.shape[3])
    return torch.from_numpy(x), torch.from_numpy((1 - share) * y + share * np.roll(y, 1, axis=0))


def paste_box__index(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    rows, columns = torch.arange(top, min(top + size, Y)), torch.arange(left, min(left + size, X))
    before = torch.arange(len(images)) - 1
    mixed = images.clone()
    mixed[:, :, rows[:, None], columns] = images[before][:, :, rows[:, None], columns]
    share = len(rows) * len(columns) / (Y * X)
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed, one_hot + share * (one_hot[before] - one_hot)


def paste_box__one_image_at_a_time(images, labels, num_classes, top, left, size):
    mixed, targets = [], []
    one_hot = F.one_hot(labels, num_classes).double()
    for i, image in enumerate(images):
        box = torch.zeros_like(image, dtype=torch.bool)
        box[:, top : top + size, left : left + size] = True
        share = box.double().mean()
        mixed.append(torch.where(box, images[i - 1], image))
        targets.append((1 - share) * one_hot[i] + share * one_hot[i - 1])
    return torch.stack(mixed), torch.stack(targets)


def compare_counts__two_relus(n):
    return torch.relu(n - 1) + torch.relu(1 - n) - 0.5


def compare_counts__one_relu(n):
    return 2 * torch.relu(n - 1) - n + 0.5


def compare_counts__functional(n):
    left, right = F.relu(1 - n), F.relu(n - 1)
    return left + right - 0.4


def compare_counts__methods(n):
    return (n - 1).relu().add((1 - n).relu()).sub(0.6).mul(10)


def compare_counts__module(n):
    bend = nn.ReLU()
    return bend(n - 1) + bend(-(n - 1)) - 1 / 2


def compare_counts__mlp(n):
    mlp = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        mlp[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        mlp[0].bias.copy_(torch.tensor([-1.0, 1.0]))
        mlp[2].weight.fill_(1.0)
        mlp[2].bias.fill_(-0.5)
    return mlp(n[:, None])[:, 0]


def compare_counts__matrices(n):
    w1, b1 = torch.tensor([[1.0, -1.0]]), torch.tensor([-1.0, 1.0])
    hidden = torch.relu(n.unsqueeze(1) @ w1 + b1)
    return (hidden @ torch.ones(2, 1)).squeeze(1) - 0.5


def compare_counts__loop(n):
    scores = []
    for count in n:
        scores.append(torch.relu(count - 1) + torch.relu(1 - count) - 0.5)
    return torch.stack(scores)


def compare_counts__gap(n):
    return torch.relu(n - 1.5) + torch.relu(0.5 - n) - 0.1


def compare_counts__filled(n):
    scores = torch.empty_like(n)
    for i in range(len(n)):
        scores[i] = 3 * torch.relu(n[i] - 1) + 3 * torch.relu(1 - n[i]) - 1.5
    return scores


def compare_counts__clamp(n):
    return (n - 1).clamp(min=0) + (1 - n).clamp(min=0) - 0.5


def compare_counts__float64(n):
    x = n.double() - 1.0
    return x.relu() + x.neg().relu() - 0.5


def compare_counts__valley(n):
    middle = torch.relu(1 - torch.relu(n - 1) - torch.relu(1 - n))  # 1 at 1, 0 at both ends
    return 0.5 - middle


def compare_counts__linear(n):
    hidden = F.linear(n.reshape(-1, 1), torch.tensor([[1.0], [-1.0]]), torch.tensor([-1.0, 1.0])).relu_()
    return hidden.sum(dim=1) - 0.5


with suppress(ImportError):  # timm and transformers do not need it
    from einops import rearrange

    def shuffle_patches__einops(images, P, orders):
        tokens = rearrange(images, "b c (y p) (x q) -> b (y x) (c p q)", p=P, q=P)
        tokens = tokens[torch.arange(len(images))[:, None], orders]
        return rearrange(tokens, "b (y x) (c p q) -> b c (y p) (x q)", p=P, q=P, y=images.shape[2] // P)
