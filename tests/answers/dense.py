"""Right answers to the exercises of notebook 15."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import ops

from vit_tutorial import metrics
from vit_tutorial.check.dense import LAYER

VALUES = {
    "patch_of_pixel": [15, 15.0, torch.tensor(15), Fraction(15), "15", np.int64(15), [15], 1 + (20 // 8) * 5 + 33 // 8],
    "which_layer": [LAYER, f" {LAYER.upper()} ", f"({LAYER})", f"{LAYER}.", f"{LAYER.upper()})", f"{LAYER}\n"],
}


# ------------------------------------------------------------------------------------------------ 15.2


def to_map__linear(tokens, weight, bias, grid):
    x = F.linear(tokens[:, 1:], weight, bias)  # (B, N, K)
    return x.transpose(1, 2).reshape(len(x), -1, *grid)


def to_map__einsum(tokens, weight, bias, grid):
    x = torch.einsum("bnd,kd->bkn", tokens[:, 1:], weight) + bias[:, None]
    return x.unflatten(2, tuple(grid))


def to_map__permute(tokens, weight, bias, grid):
    rows, columns = grid
    x = tokens[:, 1:] @ weight.T + bias
    x = x.reshape(x.shape[0], rows, columns, x.shape[2])
    return x.permute(0, 3, 1, 2)


def to_map__convolution(tokens, weight, bias, grid):
    B, _, D = tokens.shape
    features = tokens[:, 1:].mT.reshape(B, D, *grid)
    return F.conv2d(features, weight[:, :, None, None], bias)


def to_map__loops(tokens, weight, bias, grid):
    rows, columns = grid
    maps = tokens.new_zeros(len(tokens), len(weight), rows, columns)
    for y in range(rows):
        for x in range(columns):
            token = tokens[:, 1 + y * columns + x]
            maps[:, :, y, x] = token @ weight.T + bias
    return maps


def to_map__all_tokens(tokens, weight, bias, grid):
    scores = torch.matmul(weight, tokens.transpose(1, 2)) + bias.view(1, -1, 1)  # (B, K, 1 + N)
    return scores[:, :, 1:].contiguous().view(tokens.shape[0], weight.shape[0], grid[0], grid[1])


def to_map__module(tokens, weight, bias, grid):
    head = nn.Linear(*weight.T.shape).to(tokens.dtype)
    head.load_state_dict({"weight": weight, "bias": bias})
    with torch.no_grad():
        x = head(tokens.narrow(1, 1, tokens.shape[1] - 1))
    return torch.stack([picture.T.reshape(-1, *grid) for picture in x])


def to_map__addmm(tokens, weight, bias, grid):
    maps = [torch.addmm(bias, picture[1:], weight.T).T for picture in tokens]
    return torch.stack(maps).reshape(len(tokens), len(bias), *grid)


# ------------------------------------------------------------------------------------------------ 15.3


def iou__package(predicted, masks, num_classes):
    return metrics.iou(metrics.confusion(predicted, masks, num_classes))


def iou__loop(predicted, masks, num_classes):
    judged, scores = masks != 255, []
    for k in range(num_classes):
        p, m = (predicted == k) & judged, masks == k
        union = (p | m).sum()
        scores.append((p & m).sum() / union if union else torch.tensor(torch.nan))
    return torch.stack(scores)


def iou__zero_by_zero(predicted, masks, num_classes):
    predicted, masks = predicted[masks != 255], masks[masks != 255]
    p = predicted == torch.arange(num_classes)[:, None]
    m = masks == torch.arange(num_classes)[:, None]  # (K, pixels)
    return (p & m).sum(dim=1) / (p | m).sum(dim=1)


def iou__one_hot(predicted, masks, num_classes):
    kept = masks != 255
    p = F.one_hot(predicted[kept].long(), num_classes)
    m = F.one_hot(masks[kept].long(), num_classes)
    both = (p * m).sum(0)
    return both / (p.sum(0) + m.sum(0) - both)


def iou__bincount(predicted, masks, num_classes):
    kept = masks != 255
    p, m = predicted[kept].long(), masks[kept].long()
    area = torch.bincount(p, minlength=num_classes) + torch.bincount(m, minlength=num_classes)
    both = torch.bincount(p[p == m], minlength=num_classes)
    return both.double() / (area - both)


def iou__list(predicted, masks, num_classes):
    scores = []
    for k in range(num_classes):
        both = union = 0
        for p, m in zip(predicted.flatten().tolist(), masks.flatten().tolist(), strict=True):
            if m == 255:
                continue
            both += p == k and m == k
            union += p == k or m == k
        scores.append(both / union if union else float("nan"))
    return scores


def iou__numpy(predicted, masks, num_classes):
    p, m = predicted.numpy(), masks.numpy()
    scores = np.full(num_classes, np.nan)
    for k in range(num_classes):
        union = np.logical_and(np.logical_or(p == k, m == k), m != 255).sum()
        if union > 0:
            scores[k] = np.logical_and(p == k, m == k).sum() / union
    return scores


def iou__confusion_einsum(predicted, masks, num_classes):
    numbers = torch.arange(num_classes)
    p = (predicted.flatten()[:, None] == numbers).float()
    m = (masks.flatten()[:, None] == numbers).float()
    counts = torch.einsum("pi,pj->ij", m, p)  # 255 is no row
    return counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())


def iou__tuple(predicted, masks, num_classes):
    flat = torch.where(masks == 255, 255, predicted.long())
    both = [((flat == k) & (masks == k)).sum().item() for k in range(num_classes)]
    area = [((flat == k) | (masks == k)).sum().item() for k in range(num_classes)]
    return tuple(b / a if a else math.nan for b, a in zip(both, area, strict=True))


# ------------------------------------------------------------------------------------------------ 15.4


def outline__slices(masks):
    lines = torch.zeros(masks.shape, dtype=torch.bool)
    down, right = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    lines[:, 1:] |= down
    lines[:, :-1] |= down
    lines[:, :, 1:] |= right
    lines[:, :, :-1] |= right
    return lines


def outline__diff(masks):
    down, right = masks.long().diff(dim=1) != 0, masks.long().diff(dim=2) != 0
    return F.pad(down, (0, 0, 1, 0)) | F.pad(down, (0, 0, 0, 1)) | F.pad(right, (1, 0)) | F.pad(right, (0, 1))


def outline__replicated(masks):
    x = F.pad(masks[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0]
    middle = x[:, 1:-1, 1:-1]
    around = [x[:, :-2, 1:-1], x[:, 2:, 1:-1], x[:, 1:-1, :-2], x[:, 1:-1, 2:]]
    return torch.stack([side != middle for side in around]).any(dim=0)


def outline__pooled(masks):
    x = masks[:, None].float()
    lines = torch.zeros_like(x, dtype=torch.bool)
    for kernel, padding in (((3, 1), (1, 0)), ((1, 3), (0, 1))):
        high = F.max_pool2d(x, kernel, stride=1, padding=padding)
        low = -F.max_pool2d(-x, kernel, stride=1, padding=padding)
        lines |= high != low
    return lines.squeeze(1)


def outline__loops(masks):
    n, Y, X = masks.shape
    lines = torch.zeros(n, Y, X).bool()
    for i in range(n):
        for y in range(Y):
            for x in range(X):
                for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if 0 <= v < Y and 0 <= u < X and masks[i, v, u] != masks[i, y, x]:
                        lines[i, y, x] = True
    return lines


def outline__shifted(masks):
    up = torch.cat([masks[:, :1], masks[:, :-1]], dim=1)
    down = torch.cat([masks[:, 1:], masks[:, -1:]], dim=1)
    left = torch.cat([masks[:, :, :1], masks[:, :, :-1]], dim=2)
    right = torch.cat([masks[:, :, 1:], masks[:, :, -1:]], dim=2)
    return (masks != up) | (masks != down) | (masks != left) | (masks != right)


def outline__numpy(masks):
    x = np.pad(masks.numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    middle = x[:, 1:-1, 1:-1]
    lines = (x[:, :-2, 1:-1] != middle) | (x[:, 2:, 1:-1] != middle)
    lines = lines | (x[:, 1:-1, :-2] != middle) | (x[:, 1:-1, 2:] != middle)
    return torch.from_numpy(lines)


def outline__rolled(masks):
    lines = torch.zeros_like(masks, dtype=torch.bool)
    for dim in (1, 2):
        for shift, edge in ((1, 0), (-1, -1)):
            other = (masks.roll(shift, dim) != masks).clone()
            other.select(dim, edge).fill_(False)
            lines = lines | other
    return lines


# ------------------------------------------------------------------------------------------------ 15.5


def moved_mask__nearest(image, mask, top, left, side):
    size = image.shape[1:]
    image = image[:, top : top + side, left : left + side]
    mask = mask[top : top + side, left : left + side].float()
    image = F.interpolate(image[None], size=size, mode="bilinear")[0]
    mask = F.interpolate(mask[None, None], size=size, mode="nearest")[0, 0]
    return image, mask.to(torch.uint8)


def moved_mask__exact(image, mask, top, left, side):
    _, Y, X = image.shape
    rows, columns = slice(top, top + side), slice(left, left + side)
    image = F.interpolate(image[:, rows, columns].unsqueeze(0), (Y, X), mode="bilinear", align_corners=False)
    part = mask[rows, columns][None, None].double()
    return image[0], F.interpolate(part, (Y, X), mode="nearest-exact")[0, 0].long()


def moved_mask__repeated(image, mask, top, left, side):
    Y, X = mask.shape
    part = mask.narrow(0, top, side).narrow(1, left, side)
    part = part.repeat_interleave(Y // side, dim=0).repeat_interleave(X // side, dim=1)
    cut = image.narrow(1, top, side).narrow(2, left, side)
    return F.interpolate(cut[None], size=(Y, X), mode="bilinear").squeeze(0), part


def moved_mask__indexed(image, mask, top, left, side):
    Y, X = mask.shape
    y, x = top + torch.arange(Y) * side // Y, left + torch.arange(X) * side // X
    image = F.interpolate(image[None, :, top : top + side, left : left + side], size=(Y, X), mode="bilinear")
    return image[0], mask[y][:, x]


def moved_mask__together(image, mask, top, left, side):
    size = tuple(mask.shape)
    both = torch.cat([image, mask[None].to(image.dtype)])[:, top : top + side, left : left + side]
    both = both.unsqueeze(0)
    image = F.interpolate(both[:, :-1], size, mode="bilinear")[0]
    mask = F.interpolate(both[:, -1:], size)[0, 0]
    return (image, mask)


def moved_mask__torchvision(image, mask, top, left, side):
    from torchvision.transforms.v2 import functional as tv

    size = [*mask.shape]
    image = tv.resized_crop(image, top, left, side, side, size, antialias=False)
    mask = tv.resized_crop(mask[None], top, left, side, side, size, interpolation=tv.InterpolationMode.NEAREST)
    return image, mask[0]


def moved_mask__modules(image, mask, top, left, side):
    size = mask.shape
    smooth, sharp = nn.Upsample(tuple(size), mode="bilinear"), nn.UpsamplingNearest2d(size=tuple(size))
    parts = (x[..., top : top + side, left : left + side] for x in (image[None], mask[None, None].float()))
    image, mask = (f(part) for f, part in zip((smooth, sharp), parts, strict=True))
    return [image[0], mask[0, 0].int()]


# ------------------------------------------------------------------------------------------------ 15.7


def cosines__normalised(features, query):
    unit = F.normalize(features, dim=1)
    return unit @ unit[query]


def cosines__function(features, query):
    return F.cosine_similarity(features, features[query : query + 1], dim=1)


def cosines__norms(features, query):
    lengths = features.norm(dim=1)
    return features @ features[query] / (lengths * lengths[query])


def cosines__loops(features, query):
    found = []
    for row in features:
        found.append(torch.dot(row, features[query]) / (row.norm() * features[query].norm()))
    return torch.stack(found)


def cosines__all_pairs(features, query):
    unit = features / features.square().sum(dim=1, keepdim=True).sqrt()
    return (unit @ unit.T)[query]


def cosines__einsum(features, query):
    lengths = torch.linalg.vector_norm(features, dim=-1)
    dots = torch.einsum("nd,d->n", features, features[query])
    return dots / lengths / lengths[query]


def cosines__distances(features, query):
    unit = features / features.pow(2).sum(1)[:, None].sqrt()
    return 1 - (unit - unit[query]).square().sum(dim=1) / 2


def cosines__numpy(features, query):
    x = features.numpy().astype(np.float64)
    return torch.from_numpy(x @ x[query] / np.linalg.norm(x, axis=1) / np.linalg.norm(x[query]))


# ------------------------------------------------------------------------------------------------ 15.8


def colours__svd(features):
    x = features - features.mean(dim=0)
    x = x @ torch.linalg.svd(x, full_matrices=False).Vh[:3].T
    low, high = x.min(dim=0).values, x.max(dim=0).values
    return (x - low) / (high - low)


def colours__eigh(features):
    x = features - features.mean(0, keepdim=True)
    vectors = torch.linalg.eigh(x.T @ x).eigenvectors
    x = x @ vectors[:, -3:].flip(1)
    x = x - x.amin(dim=0)
    return x / x.amax(dim=0)


def colours__covariance(features):
    values, vectors = torch.linalg.eigh(torch.cov(features.T))
    order = values.argsort(descending=True)[:3]
    x = features @ vectors[:, order]
    return (x - x.amin(0)) / (x.amax(0) - x.amin(0))


def colours__lowrank(features):
    _, _, V = torch.pca_lowrank(features, q=3)
    x = torch.matmul(features - features.mean(dim=0), V[:, :3])
    span = x.max(0)[0] - x.min(0)[0]
    return (x - x.min(0)[0]) / span


def colours__left_vectors(features):
    U, S, _ = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
    x = (U * S)[:, :3]
    low, high = torch.aminmax(x, dim=0)
    return x.sub(low).div(high - low)


def colours__loops(features):
    centred = features - features.sum(dim=0) / len(features)
    V = torch.linalg.svd(centred.double())[2].T
    columns = []
    for k in range(3):
        column = centred.double() @ V[:, k]
        columns.append((column - column.min()) / (column.max() - column.min()))
    return torch.stack(columns, dim=1)


def colours__numpy(features):
    x = features.numpy().astype(np.float64)
    x = x - x.mean(axis=0)
    _, _, V = np.linalg.svd(x, full_matrices=False)
    x = x @ V[:3].T
    return torch.from_numpy((x - x.min(axis=0)) / np.ptp(x, axis=0))


def colours__gram(features):
    x = features.double() - features.double().mean(dim=0)
    vectors = torch.linalg.eigh(x @ x.T).eigenvectors  # (N, N): of the patches
    x = vectors[:, [-1, -2, -3]]
    return ((x - x.amin(dim=0)) / (x.amax(dim=0) - x.amin(dim=0))).float()


# ------------------------------------------------------------------------------------------------ 15.9


def box_of__any(mask):
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def box_of__nonzero(mask):
    y, x = mask.nonzero(as_tuple=True)
    return [x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1]


def box_of__torchvision(mask):
    box = ops.masks_to_boxes(mask[None])[0]
    box[2:] += 1
    return box


def box_of__argmax(mask):
    Y, X = mask.shape
    rows, columns = mask.any(dim=1).int(), mask.any(dim=0).int()
    right, bottom = X - columns.flip(0).argmax(), Y - rows.flip(0).argmax()
    return torch.tensor([columns.argmax(), rows.argmax(), right, bottom])


def box_of__loops(mask):
    Y, X = mask.shape
    left, top, right, bottom = X, Y, 0, 0
    for y in range(Y):
        for x in range(X):
            if mask[y, x]:
                left, top = min(left, x), min(top, y)
                right, bottom = max(right, x + 1), max(bottom, y + 1)
    return left, top, right, bottom


def box_of__where(mask):
    places = torch.argwhere(mask)  # (pixels, 2): row, column
    first, last = places.amin(dim=0), places.amax(dim=0) + 1
    return torch.cat([first.flip(0), last.flip(0)])


def box_of__numpy(mask):
    y, x = np.where(mask.numpy())
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def box_of__grid(mask):
    y, x = torch.meshgrid(torch.arange(mask.shape[0]), torch.arange(mask.shape[1]), indexing="ij")
    return torch.stack([x[mask].min(), y[mask].min(), x[mask].max() + 1, y[mask].max() + 1]).float()


# ------------------------------------------------------------------------------------------------ 15.10


def match__package(found, truth):
    return metrics.match_boxes(found, truth)


def match__torchvision(found, truth):
    if not len(found) or not len(truth):
        return 0
    overlap, right = ops.box_iou(found, truth), 0
    for row in overlap:
        best = row.argmax()
        if row[best] >= 0.5:
            overlap[:, best] = -1
            right += 1
    return right


def match__taken(found, truth):
    overlap = metrics.box_iou(found, truth)
    free = torch.ones(len(truth), dtype=torch.bool)
    for row in overlap:
        row = torch.where(free, row, 0.0)
        if len(row) and row.max() >= 0.5:
            free[row.argmax()] = False
    return len(truth) - int(free.sum())


def match__loops(found, truth):
    left_over, right = truth.tolist(), 0
    for a in found.tolist():
        best, chosen = 0.0, None
        for b in left_over:
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            both = width * height
            iou = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
            if iou > best:
                best, chosen = iou, b
        if best >= 0.5:
            left_over.remove(chosen)
            right += 1
    return right


def match__shrinking(found, truth):
    count = 0
    for box in found:
        if len(truth) == 0:
            break
        scores = metrics.box_iou(box[None], truth)[0]
        if scores.max() >= 0.5:
            keep = torch.arange(len(truth)) != scores.argmax()
            truth = truth[keep]
            count += 1
    return count


def match__set(found, truth):
    taken = set()
    overlap = metrics.box_iou(found, truth).tolist()
    for row in overlap:
        pairs = [(value, j) for j, value in enumerate(row) if j not in taken and value >= 0.5]
        if pairs:
            taken.add(max(pairs)[1])
    return len(taken)


def match__numpy(found, truth):
    a, b = found.numpy()[:, None].astype(float), truth.numpy()[None].astype(float)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.prod(np.clip(sides, 0, None), axis=2)
    iou = both / (np.prod(a[..., 2:] - a[..., :2], axis=2) + np.prod(b[..., 2:] - b[..., :2], axis=2) - both)
    right = np.int64(0)
    for row in range(iou.shape[0]):
        if iou.shape[1] and iou[row].max() >= 0.5:
            iou[:, iou[row].argmax()] = 0
            right += 1
    return right


def match__tensor(found, truth):
    right = torch.tensor(0)
    if len(truth) == 0:
        return right
    overlap = ops.box_iou(found, truth)
    for i in range(found.shape[0]):
        value, j = overlap[i].max(dim=0)
        if value >= 0.5:
            right += 1
            overlap[:, j] = 0.0
    return right
