"""Right answers to the exercises of notebook 01."""

from contextlib import suppress
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VALUES = {
    "patch_count": [
        (77, 1200),
        [77.0, torch.tensor(1200)],
        (np.int64(77), np.float32(1200)),
        torch.tensor([77, 1200]),
        np.array([140 // 20 * (220 // 20), 3 * 20**2]),
        ("77", "1200"),
        (Fraction(77), [1200]),
    ],
    "patch_budget": [24, 24.0, torch.tensor(24), np.array(24), "24", [24], Fraction(384, 16)],
}


def cut_patches__loops(images, patch_size):
    B, C, Y, X = images.shape
    P = patch_size
    patches = [images[:, :, y : y + P, x : x + P] for y in range(0, Y, P) for x in range(0, X, P)]
    return torch.stack(patches, dim=1)


def cut_patches__six_axes(images, patch_size):
    B, C, Y, X = images.shape
    P = patch_size
    x = images.reshape(B, C, Y // P, P, X // P, P)
    x = x.permute(0, 2, 4, 1, 3, 5)
    return x.reshape(B, (Y // P) * (X // P), C, P, P)


def cut_patches__unfold(images, P):
    C = images.shape[1]
    return F.unfold(images, kernel_size=P, stride=P).transpose(1, 2).unflatten(2, (C, P, P))


def cut_patches__tensor_unfold(images, P):
    windows = images.unfold(2, P, P).unfold(3, P, P)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def cut_patches__chunks(images, P):
    rows = images.split(P, dim=2)
    return torch.stack([patch for row in rows for patch in row.split(P, dim=3)], dim=1)


def cut_patches__empty_then_filled(images, P):
    B, C, Y, X = images.shape
    rows, columns = Y // P, X // P
    patches = torch.empty(B, rows * columns, C, P, P)
    for i in range(rows):
        for j in range(columns):
            patches[:, i * columns + j] = images[:, :, i * P : (i + 1) * P, j * P : (j + 1) * P]
    return patches


def cut_patches__one_image_at_a_time(images, P):
    result = []
    for image in images:
        C, Y, X = image.shape
        x = image.view(C, Y // P, P, X // P, P).permute(1, 3, 0, 2, 4)
        result.append(x.flatten(0, 1))
    return torch.stack(result)


def cut_patches__counted(images, patch_size):
    B, C, Y, X = images.shape
    columns = X // patch_size
    patches = []
    for n in range((Y // patch_size) * columns):
        y, x = n // columns * patch_size, n % columns * patch_size
        patches.append(images[..., y : y + patch_size, x : x + patch_size])
    return torch.stack(patches).transpose(0, 1)


def cut_patches__cat(images, P):
    patches = []
    for y in range(0, images.size(2), P):
        for x in range(0, images.size(3), P):
            patches.append(images[:, :, y : y + P, x : x + P].unsqueeze(1))
    return torch.cat(patches, dim=1)


def cut_patches__einsum(images, P):
    x = images.unflatten(3, (-1, P)).unflatten(2, (-1, P))
    return torch.einsum("bcypxq->byxcpq", x).flatten(1, 2)


def cut_patches__numpy(images, P):
    x = images.numpy()
    B, C, Y, X = x.shape
    x = x.reshape(B, C, Y // P, P, X // P, P).transpose(0, 2, 4, 1, 3, 5)
    return torch.from_numpy(np.ascontiguousarray(x).reshape(B, -1, C, P, P))


def cut_patches__indices(images, P):
    B, C, Y, X = images.shape
    y = torch.arange(Y).reshape(-1, 1, P, 1)
    x = torch.arange(X).reshape(1, -1, 1, P)
    return images[:, :, y, x].movedim(1, 3).flatten(1, 2)


def cut_patches__convolution(images, P):
    C = images.shape[1]
    filters = torch.eye(C * P * P).reshape(C * P * P, C, P, P)
    found = F.conv2d(images, filters, stride=P)
    return found.flatten(2).mT.reshape(len(images), -1, C, P, P)


def project__einsum(patches, weight, bias):
    return torch.einsum("bncpq,dcpq->bnd", patches, weight) + bias


def project__matrix(patches, weight, bias):
    W = weight.flatten(1)
    return patches.flatten(2) @ W.T + bias


def project__linear(patches, weight, bias):
    return F.linear(patches.flatten(2), weight.flatten(1), bias)


def project__reshape(patches, weight, bias):
    B, N, C, P, _ = patches.shape
    D = weight.shape[0]
    return patches.reshape(B, N, C * P * P) @ weight.reshape(D, C * P * P).transpose(0, 1) + bias


def project__convolution(patches, weight, bias):
    B, N = patches.shape[:2]
    return F.conv2d(patches.flatten(0, 1), weight, bias).reshape(B, N, -1)


def project__broadcast(patches, weight, bias):
    products = patches[:, :, None] * weight
    return products.sum(dim=(-3, -2, -1)) + bias


def project__loops(patches, weight, bias):
    B, N = patches.shape[:2]
    tokens = torch.empty(B, N, len(weight), dtype=patches.dtype)
    for n in range(N):
        for d in range(len(weight)):
            tokens[:, n, d] = (patches[:, n] * weight[d]).sum((1, 2, 3)) + bias[d]
    return tokens


def project__one_filter_at_a_time(patches, weight, bias):
    numbers = [(patches * one).flatten(2).sum(-1) + b for one, b in zip(weight, bias, strict=True)]
    return torch.stack(numbers, dim=-1)


def project__tensordot(patches, weight, bias):
    return torch.tensordot(patches, weight, dims=([2, 3, 4], [1, 2, 3])) + bias


def project__module(patches, weight, bias):
    layer = nn.Linear(weight[0].numel(), len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight.flatten(1))
        layer.bias.copy_(bias)
        return layer(patches.flatten(2))


def project__numpy(patches, weight, bias):
    rows = patches.numpy().reshape(*patches.shape[:2], -1)
    return torch.from_numpy(rows @ weight.numpy().reshape(len(weight), -1).T + bias.numpy())


def project__one_image_at_a_time(patches, weight, bias):
    W = weight.flatten(1).T
    return torch.stack([torch.addmm(bias, image.flatten(1), W) for image in patches])


def to_tokens__flatten(feature_map):
    return feature_map.flatten(2).transpose(1, 2)


def to_tokens__permute(x):
    B, D, rows, columns = x.shape
    return x.permute(0, 2, 3, 1).reshape(B, rows * columns, D)


def to_tokens__loops(x):
    B, D, rows, columns = x.shape
    return torch.stack([x[:, :, i, j] for i in range(rows) for j in range(columns)], dim=1)


def to_tokens__reshape_then_swap(feature_map):
    B, D, rows, columns = feature_map.shape
    return feature_map.reshape(B, D, rows * columns).permute(0, 2, 1)


def to_tokens__movedim(x):
    return x.movedim(1, -1).flatten(1, 2)


def to_tokens__einsum(x):
    return torch.einsum("bdn->bnd", x.flatten(2))


def to_tokens__channels_last(x):
    channels = [x[:, d].flatten(1) for d in range(x.shape[1])]
    return torch.stack(channels, dim=-1)


def to_tokens__numpy(x):
    array = np.moveaxis(x.numpy(), 1, 3)
    return torch.tensor(array.reshape(array.shape[0], -1, array.shape[3]))


def to_tokens__view(feature_map):
    B, D, rows, columns = feature_map.shape
    tokens = feature_map.contiguous().view(B, D, -1)
    return tokens.mT.contiguous()


def to_tokens__rows(x):
    rows = [x[:, :, i].transpose(1, 2) for i in range(x.size(2))]
    return torch.cat(rows, dim=1)


def to_tokens__filled(x):
    B, D, rows, columns = x.shape
    tokens = torch.zeros(B, rows * columns, D, dtype=x.dtype)
    for n in range(rows * columns):
        tokens[:, n] = x[:, :, n // columns, n % columns]
    return tokens


def to_tokens__module(x):
    return nn.Flatten(2)(x).swapaxes(1, 2)


def to_tokens__one_image_at_a_time(x):
    return torch.stack([image.flatten(1).T for image in x])


def overlapping_patches__unfold(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)


def overlapping_patches__loops(images, patch_size, stride):
    B, C, Y, X = images.shape
    P = patch_size
    patches = [
        images[:, :, y : y + P, x : x + P].flatten(1)
        for y in range(0, Y - P + 1, stride)
        for x in range(0, X - P + 1, stride)
    ]
    return torch.stack(patches, dim=1)


def overlapping_patches__counted(images, P, S):
    B, C, Y, X = images.shape
    rows, columns = (Y - P) // S + 1, (X - P) // S + 1
    patches = torch.zeros(B, rows * columns, C * P * P)
    for i in range(rows):
        for j in range(columns):
            window = images[:, :, i * S : i * S + P, j * S : j * S + P]
            patches[:, i * columns + j] = window.reshape(B, C * P * P)
    return patches


def overlapping_patches__tensor_unfold(images, P, S):
    windows = images.unfold(2, P, S).unfold(3, P, S).permute(0, 2, 3, 1, 4, 5)
    return windows.flatten(3).flatten(1, 2)


def overlapping_patches__module(images, patch_size, stride):
    return nn.Unfold(kernel_size=(patch_size, patch_size), stride=(stride, stride))(images).mT


def overlapping_patches__every_pixel(images, P, S):
    Y, X = images.shape[-2:]
    patches = []
    for y in range(Y):
        for x in range(X):
            if y % S == 0 and x % S == 0 and y + P <= Y and x + P <= X:
                patches.append(images[:, :, y : y + P, x : x + P])
    return torch.stack(patches, dim=1).flatten(2)


def overlapping_patches__skip_what_sticks_out(images, patch_size, stride):
    B, C, Y, X = images.shape
    patches = []
    for y in range(0, Y, stride):
        for x in range(0, X, stride):
            patch = images[:, :, y : y + patch_size, x : x + patch_size]
            if patch.shape[2:] == (patch_size, patch_size):
                patches.append(patch.reshape(B, 1, -1))
    return torch.cat(patches, dim=1)


def overlapping_patches__indices(images, P, S):
    B, C, Y, X = images.shape
    y = torch.arange(0, Y - P + 1, S)[:, None] + torch.arange(P)
    x = torch.arange(0, X - P + 1, S)[:, None] + torch.arange(P)
    windows = images[:, :, y[:, None, :, None], x[None, :, None, :]]
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(B, len(y) * len(x), C * P * P)


def overlapping_patches__strided(images, P, S):
    images = images.contiguous()
    B, C, Y, X = images.shape
    size = (B, (Y - P) // S + 1, (X - P) // S + 1, C, P, P)
    steps = (C * Y * X, S * X, S, Y * X, X, 1)
    return images.as_strided(size, steps).flatten(1, 2).flatten(2)


def overlapping_patches__numpy(images, P, S):
    windows = np.lib.stride_tricks.sliding_window_view(images.numpy(), (P, P), axis=(2, 3))[:, :, ::S, ::S]
    windows = windows.transpose(0, 2, 3, 1, 4, 5)
    B, rows, columns, C = windows.shape[:4]
    return torch.from_numpy(windows.reshape(B, rows * columns, C * P * P).copy())


def overlapping_patches__one_image_at_a_time(images, P, S):
    return torch.cat([F.unfold(image[None], P, stride=S) for image in images]).transpose(2, 1)


def overlapping_patches__convolution(images, P, S):
    numbers = images.shape[1] * P * P
    filters = torch.eye(numbers).reshape(numbers, -1, P, P)
    return F.conv2d(images, filters, stride=S).flatten(2).transpose(1, 2)


with suppress(ImportError):  # a style that many know; the course does not need it
    from einops import rearrange

    def cut_patches__einops(images, P):
        return rearrange(images, "b c (y p) (x q) -> b (y x) c p q", p=P, q=P)

    def to_tokens__einops(x):
        return rearrange(x, "b d y x -> b (y x) d")
