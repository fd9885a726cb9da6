"""Right answers to the exercises of notebook 10."""

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import interpret

VALUES = {
    "uniform_distance": [20, 20.0, torch.tensor([24.0, 16.0, 16.0, 24.0]).mean(), "20", Fraction(20), np.array([20.0])],
    "randomised_maps": ["c", " C ", "c\n", "(c)", "c."],
}


def mass_mask__scatter(row, mass):
    patches = row[:, 1:] / row[:, 1:].sum(dim=1, keepdim=True)
    values, order = patches.sort(dim=1, descending=True)
    keep = values.cumsum(dim=1) - values < mass
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, keep)


def mass_mask__unscaled(row, mass):
    wanted = mass * (1 - row[:, :1])  # what the patches get is what the class token leaves
    values, order = torch.sort(row[:, 1:], dim=-1, descending=True)
    before = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(-1)[:, :-1]], dim=-1)
    mask = torch.zeros(values.shape, dtype=torch.bool)
    mask.scatter_(-1, order, before < wanted)
    return mask


def mass_mask__greedy(row, mass):
    shares = row[:, 1:] / row[:, 1:].sum(-1, keepdim=True)
    mask = torch.zeros_like(shares, dtype=torch.bool)
    for weights, kept in zip(shares, mask, strict=True):
        while weights[kept].sum() < mass:
            kept[(weights - 9 * kept).argmax()] = True
    return mask


def mass_mask__package(row, mass):
    H, N = row.shape
    attention = row[None, None, :, None].expand(1, 1, H, N, N)
    return interpret.head_maps(attention, (1, N - 1), mass)[0, 0, :, 0]


def mass_mask__threshold(row, mass):
    shares = row[:, 1:] / row[:, 1:].sum(-1, keepdim=True)
    values = shares.sort(dim=-1, descending=True).values
    last = (values.cumsum(dim=-1) - values < mass).sum(dim=-1, keepdim=True) - 1
    return shares >= values.gather(-1, last)


def mass_mask__numpy(row, mass):
    patches = row.numpy()[:, 1:].astype(np.float64)
    patches = patches / patches.sum(axis=1, keepdims=True)
    mask = np.zeros(patches.shape, dtype=bool)
    for head, weights in enumerate(patches):
        order = np.argsort(-weights)
        count = np.searchsorted(np.cumsum(weights[order]), mass) + 1
        mask[head, order[:count]] = True
    return torch.from_numpy(mask)


def mass_mask__every_pair(row, mass):
    shares = F.normalize(row[:, 1:], p=1, dim=1)
    larger = shares[:, None, :] > shares[:, :, None]  # (H, i, j): is j before i?
    return (larger * shares[:, None, :]).sum(dim=2) < mass


def mass_mask__order_undone(row, mass):
    patches = row[:, 1:].double()
    order = patches.argsort(dim=1, descending=True)
    values = patches.gather(1, order) / patches.sum(1, keepdim=True)
    return (values.cumsum(1) - values).lt(mass).gather(1, order.argsort(1))


def mass_mask__lists(row, mass):
    mask = []
    for head in row.tolist():
        patches, held = head[1:], 0.0
        kept = [False] * len(patches)
        for i in sorted(range(len(patches)), key=lambda i: patches[i], reverse=True):
            if held >= mass * sum(patches):
                break
            kept[i], held = True, held + patches[i]
        mask.append(kept)
    return torch.tensor(mask)


def mass_mask__counted(rows, share):
    patches = rows.narrow(1, 1, rows.shape[1] - 1)
    patches = patches / patches.sum(1)[:, None]
    values, order = patches.topk(patches.shape[1], dim=1)
    count = 1 + (values.cumsum(1) < share).sum(1)  # (H,)
    mask = torch.zeros_like(patches).bool()
    for head, n in enumerate(count.tolist()):
        mask[head, order[head, :n]] = True
    return mask


def mass_mask__ascending(row, mass):
    shares = row[:, 1:] / row[:, 1:].sum(1, keepdim=True)
    values, order = shares.sort(dim=1)  # what this one and all smaller ones hold must exceed the rest
    return torch.zeros_like(shares, dtype=torch.bool).scatter(1, order, values.cumsum(1) > 1 - mass)


def repair_rollout__mended(attention, discard):
    eye = torch.eye(attention.shape[-1])
    result = eye
    for weights in attention.mean(dim=2):
        kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
        kept = kept / kept.sum(dim=-1, keepdim=True)
        result = (kept + eye) / 2 @ result
    return result


def repair_rollout__package(attention, discard):
    return interpret.attention_rollout(attention, "mean", discard)


def repair_rollout__from_the_last(attention, discard):
    weights = attention.mean(2)
    kept = torch.where(weights >= weights.quantile(discard, dim=-1, keepdim=True), weights, 0.0)
    layers = 0.5 * F.normalize(kept, p=1, dim=-1) + 0.5 * torch.eye(weights.shape[-1])
    result = layers[-1]
    for layer in reversed(layers[:-1]):
        result = torch.einsum("bij,bjk->bik", result, layer)
    return result


def repair_rollout__topk(attention, discard):
    N = attention.shape[-1]
    result = torch.eye(N).repeat(attention.shape[1], 1, 1)
    for weights in attention.mean(dim=2):
        kept = weights.topk(N - int(discard * N), dim=-1)
        layer = torch.zeros_like(weights).scatter(-1, kept.indices, kept.values)
        layer = layer / layer.sum(-1, keepdim=True)
        result = torch.bmm((layer + torch.eye(N)) / 2, result)
    return result


def repair_rollout__smallest_dropped(attention, discard):
    L, B, H, N, _ = attention.shape
    maps = attention.sum(dim=2) / H
    drop = maps.argsort(dim=-1)[..., : round(discard * N)]
    maps = maps.scatter(-1, drop, 0.0)
    maps = maps / maps.sum(dim=-1, keepdim=True)
    identity = torch.eye(N)
    result = (maps[0] + identity) / 2
    for layer in range(1, L):
        result = (maps[layer] + identity) / 2 @ result
    return result


def repair_rollout__multi_dot(attention, discard):
    weights = attention.double().mean(2)
    limit = weights.quantile(discard, dim=-1, keepdim=True)
    kept = weights.masked_fill(weights < limit, 0)
    layers = kept / kept.sum(-1, keepdim=True) / 2
    layers.diagonal(dim1=-2, dim2=-1).add_(0.5)
    result = []
    for b in range(attention.shape[1]):
        of_image = list(layers[:, b].flip(0))
        result.append(torch.linalg.multi_dot(of_image) if len(of_image) > 1 else of_image[0])
    return torch.stack(result).float()


def repair_rollout__numpy(attention, discard):
    maps = attention.numpy().mean(axis=2)
    L, B, N, _ = maps.shape
    result = np.tile(np.eye(N), (B, 1, 1))
    for weights in maps:
        limit = np.quantile(weights, discard, axis=-1, keepdims=True)
        kept = np.where(weights >= limit, weights, 0)
        kept = kept / kept.sum(-1, keepdims=True)
        result = np.matmul(0.5 * kept + 0.5 * np.eye(N), result)
    return torch.from_numpy(result)


def repair_rollout__rows_by_hand(attention, discard):
    L, B, H, N, _ = attention.shape
    layers = torch.zeros(L, B, N, N)
    for place in np.ndindex(L, B, N):
        layer, image, i = place
        row = attention[layer, image, :, i].mean(0)
        order = row.sort(descending=True).indices[: N - int(N * discard)]
        layers[layer, image, i, order] = row[order] / row[order].sum() / 2
        layers[layer, image, i, i] += 0.5
    result = layers[0]
    for layer in layers[1:]:
        result = layer.matmul(result)
    return result


def repair_rollout__recursive(attention, discard):
    if len(attention) == 0:
        return torch.eye(attention.shape[-1]).expand(attention.shape[1], -1, -1)
    weights = attention[-1].mean(dim=1)
    kept = weights * (weights >= torch.quantile(weights, discard, dim=-1, keepdim=True)).float()
    layer = torch.lerp(torch.eye(weights.shape[-1]), kept / kept.sum(2, keepdim=True), 0.5)
    return layer @ repair_rollout__recursive(attention[:-1], discard)


def repair_rollout__identity_scaled_too(attention, discard):
    eye, result = torch.eye(attention.size(-1)), None
    for layer in attention:
        fused = torch.mean(layer, dim=1)
        fused = fused * fused.ge(fused.quantile(discard, -1, True))
        fused = fused / fused.sum(-1, keepdim=True) + eye
        fused = fused / fused.sum(-1, keepdim=True)
        result = fused if result is None else fused @ result
    return result


def relevance_step__line(R, weights, gradients):
    return R + (weights * gradients).relu().mean(dim=1) @ R


def relevance_step__loop(R, weights, gradients):
    steps = [(w * g).clamp(min=0) for w, g in zip(weights.unbind(1), gradients.unbind(1), strict=True)]
    return (torch.eye(R.shape[-1]) + sum(steps) / len(steps)) @ R


def relevance_step__package(R, weights, gradients):
    return interpret.relevance(weights[None], gradients[None]) @ R


def relevance_step__einsum(R, weights, gradients):
    positive = F.relu(torch.einsum("bhij,bhij->bhij", weights, gradients))
    return R + torch.einsum("bhij,bjk->bik", positive, R) / weights.shape[1]


def relevance_step__baddbmm(R, weights, gradients):
    step = torch.relu(gradients * weights).mean(1)
    return torch.baddbmm(R, step, R)


def relevance_step__gradient_clipped(R, weights, gradients):
    return R + torch.matmul((weights * gradients.clamp_min(0)).mean(1), R)  # weights are positive


def relevance_step__numpy(R, weights, gradients):
    product = np.maximum(weights.numpy() * gradients.numpy(), 0).mean(axis=1)
    return R + torch.from_numpy(product @ R.numpy())


def relevance_step__float64(R, weights, gradients):
    R, step = R.double(), torch.mul(weights.double(), gradients.double())
    return R + step.where(step > 0, torch.zeros(())).mean(1).bmm(R)


def relevance_step__one_image_at_a_time(R, weights, gradients):
    result = []
    for r, w, g in zip(R, weights, gradients, strict=True):
        mean = torch.zeros_like(r)
        for head in range(len(w)):
            mean += torch.max(w[head] * g[head], torch.tensor(0.0))
        result.append(r + mean / len(w) @ r)
    return torch.stack(result)


def relevance_step__own_copy(R, weights, gradients):
    result = R.clone()
    both = weights.mul(gradients)
    both[both < 0] = 0
    result += both.sum(dim=1).div(both.size(1)) @ R
    return result


def relevance_step__half_of_both_signs(relevance, attention, gradient):
    both = attention * gradient
    positive = (both + both.abs()) / 2
    return relevance + positive.mean(axis=1) @ relevance


def lens__read_first(model, tokens):
    return model.head(model.norm(tokens[:, :, 0])).softmax(-1)


def lens__norm_first(model, tokens):
    return model.head(model.norm(tokens))[:, :, 0].softmax(dim=2)


def lens__loop(model, tokens):
    return torch.stack([F.softmax(model.head(model.norm(stage)[:, 0]), dim=1) for stage in tokens])


def lens__without_gradients(model, tokens):
    with torch.no_grad():
        read = model.norm(tokens).select(2, 0)
        return torch.softmax(model.head(read), dim=-1)


def lens__by_hand(model, tokens):
    x = tokens[..., 0, :]
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + model.norm.eps).sqrt()
    logits = (x * model.norm.weight + model.norm.bias) @ model.head.weight.T + model.head.bias
    return logits.exp() / logits.exp().sum(-1, keepdim=True)


def lens__functional(model, tokens):
    read = F.layer_norm(tokens[:, :, 0], tokens.shape[-1:], model.norm.weight, model.norm.bias, model.norm.eps)
    return F.linear(read, model.head.weight, model.head.bias).log_softmax(-1).exp()


def lens__sequential(model, tokens):
    return nn.Sequential(model.norm, model.head, nn.Softmax(dim=-1))(tokens[:, :, 0, :])


def lens__flat(model, tokens):
    stages, B, N, D = tokens.shape
    logits = model.head(model.norm(tokens[:, :, 0].reshape(stages * B, D)))
    return logits.softmax(1).view(stages, B, -1)


def lens__in_evaluation_mode(model, tokens):
    model.eval()
    cls = tokens.permute(2, 0, 1, 3)[0]
    return torch.nn.functional.softmax(model.head(model.norm(cls)), dim=2)


def lens__every_picture(model, tokens):
    result = torch.zeros(tokens.shape[0], tokens.shape[1], model.head.out_features)
    for stage in range(tokens.shape[0]):
        for image in range(tokens.shape[1]):
            result[stage, image] = model.head(model.norm(tokens[stage, image, 0])).softmax(0)
    return result


def lens__detached(model, tokens):
    normed = model.norm(tokens).detach()
    return model.head(normed[:, :, :1]).squeeze(2).softmax(-1).detach()


def linear_cka__formula(x, y):
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())


def linear_cka__sums_of_squares(x, y):
    x, y = x - x.mean(0, keepdim=True), y - y.mean(0, keepdim=True)
    top = (x.T @ y).square().sum()
    return (top / ((x.T @ x).pow(2).sum() * (y.T @ y).pow(2).sum()).sqrt()).item()


def linear_cka__traces(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy, xy = x.t() @ x, y.t() @ y, x.t() @ y
    return torch.trace(xy @ xy.t()) / torch.sqrt(torch.trace(xx @ xx) * torch.trace(yy @ yy))


def linear_cka__numpy(x, y):
    X, Y = x.numpy().astype(float), y.numpy().astype(float)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    norm = np.linalg.norm
    return norm(Y.T @ X, "fro") ** 2 / (norm(X.T @ X) * norm(Y.T @ Y))


def linear_cka__einsum(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    length = lambda a, b: torch.linalg.matrix_norm(torch.einsum("np,nq->pq", a, b))  # noqa: E731
    return length(x, y).square() / (length(x, x) * length(y, y))


def linear_cka__loops(x, y):
    def square(a, b):
        total = 0.0
        for p in range(a.shape[1]):
            for q in range(b.shape[1]):
                total += (a[:, p] @ b[:, q]).item() ** 2
        return total

    x, y = x - x.mean(0), y - y.mean(0)
    return square(x, y) / (square(x, x) ** 0.5 * square(y, y) ** 0.5)


def linear_cka__covariances(x, y):
    p = x.shape[1]
    both = torch.cov(torch.cat([x, y], dim=1).double().T)  # the factors n - 1 cancel
    return both[:p, p:].norm() ** 2 / both[:p, :p].norm() / both[p:, p:].norm()


def linear_cka__singular_values(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    fourth = lambda a: torch.linalg.svdvals(a).pow(4).sum().sqrt()  # noqa: E731
    return torch.linalg.svdvals(x.T @ y).pow(2).sum() / (fourth(x) * fourth(y))


def linear_cka__means_taken_off_later(x, y):
    n = len(x)
    product = lambda a, b: a.T @ b - n * torch.outer(a.mean(0), b.mean(0))  # noqa: E731
    x, y = x.double(), y.double()
    return product(y, x).norm().pow(2).div(product(x, x).norm() * product(y, y).norm())


def linear_cka__standard_module(x, y):
    x = nn.functional.layer_norm(x.T, (len(x),), eps=0).T * x.std(0, correction=0)
    y = y.sub(y.mean(dim=0))
    return F.mse_loss(y.T @ x, torch.zeros(y.shape[1], x.shape[1]), reduction="sum") / (
        torch.norm(x.T @ x) * torch.norm(y.T @ y)
    )


def linear_cka__row_by_row(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    above = sum(((x @ a) * (y @ b)).sum() for a, b in zip(x, y, strict=True))  # a row of each table at a time
    return above / (torch.mm(x.T, x).norm() * torch.mm(y.T, y).norm())
