"""Notebook 10's exercises: right answers in several styles pass, each planted mistake is recognised by its name."""

import torch
import torch.nn.functional as F

from vit_tutorial import interpret


def keep(values, mass, before=True, descending=True):
    values, order = values.sort(dim=-1, descending=descending)
    held = values.cumsum(dim=-1) - (values if before else 0)
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, held < mass)


def shares(row):
    return row[:, 1:] / row[:, 1:].sum(dim=-1, keepdim=True)


def mask_by_loop(row, mass):
    mask = torch.zeros(row.shape[0], row.shape[1] - 1, dtype=torch.bool)
    for weights, kept in zip(shares(row), mask, strict=True):
        while weights[kept].sum() < mass:
            kept[(weights - 9 * kept).argmax()] = True
    return mask


def mask_by_package(row, mass):
    H, N = row.shape
    attention = row[None, None, :, None].expand(1, 1, H, N, N)
    return interpret.head_maps(attention, (1, N - 1), mass)[0, 0, :, 0]


def mask_by_threshold(row, mass):
    values = shares(row).sort(dim=-1, descending=True).values
    last = (values.cumsum(dim=-1) - values < mass).sum(dim=-1, keepdim=True) - 1
    return shares(row) >= values.gather(-1, last)


def unsorted_mask(row, mass):
    values = shares(row).sort(dim=-1, descending=True).values
    return values.cumsum(dim=-1) - values < mass


def folded(order="right", identity=True, normalise="rows"):
    def rollout(attention, discard):
        eye = torch.eye(attention.shape[-1])
        result = eye
        for weights in attention.mean(dim=2):
            kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
            if normalise in ("rows", "columns"):
                kept = kept / kept.sum(dim=-1 if normalise == "rows" else -2, keepdim=True).clamp_min(1e-12)
            layer = (kept + eye) / 2 if identity else kept
            if normalise == "after":
                layer = layer / layer.sum(dim=-1, keepdim=True)
            result = layer @ result if order == "right" else result @ layer
        return result

    return rollout


def rollout_with_linalg(attention, discard):
    weights = attention.mean(2)
    kept = torch.where(weights >= weights.quantile(discard, dim=-1, keepdim=True), weights, 0.0)
    layers = 0.5 * F.normalize(kept, p=1, dim=-1) + 0.5 * torch.eye(weights.shape[-1])
    return torch.linalg.multi_dot(list(layers[:, 0].flip(0)))[None] if len(layers[0]) == 1 else chain(layers)


def chain(layers):
    result = layers[-1]
    for layer in reversed(layers[:-1]):
        result = torch.einsum("bij,bjk->bik", result, layer)
    return result


def step_by_loop(R, weights, gradients):
    steps = [(w * g).clamp(min=0) for w, g in zip(weights.unbind(1), gradients.unbind(1), strict=True)]
    return (torch.eye(R.shape[-1]) + sum(steps) / len(steps)) @ R


def step_by_package(R, weights, gradients):
    return interpret.relevance(weights[None], gradients[None]) @ R


def lens_by_loop(model, tokens):
    return torch.stack([F.softmax(model.head(model.norm(stage)[:, 0]), dim=1) for stage in tokens])


def tables(x, y, centre=True):
    if centre:
        n = len(x)
        H = torch.eye(n) - 1 / n
        x, y = H @ x, H @ y
    K, L = x @ x.T, y @ y.T
    return (K * L).sum() / (K.norm() * L.norm())


def centred(x):
    return x - x.mean(dim=0)


def covariance(x, y):
    return (centred(x).T @ centred(y)).norm()


RIGHT = [
    ("mass_mask", lambda row, mass: keep(shares(row), mass)),
    ("mass_mask", mask_by_loop),
    ("mass_mask", mask_by_package),
    ("mass_mask", mask_by_threshold),
    ("uniform_distance", 20),
    ("uniform_distance", 16 * 20 / 16),
    ("uniform_distance", torch.tensor([24.0, 16.0, 16.0, 24.0]).mean()),
    ("repair_rollout", folded()),
    ("repair_rollout", rollout_with_linalg),
    ("repair_rollout", lambda attention, discard: folded()(attention.flip(0).flip(0), discard).clone()),
    ("relevance_step", lambda R, weights, gradients: R + (weights * gradients).relu().mean(1) @ R),
    ("relevance_step", step_by_loop),
    ("relevance_step", step_by_package),
    ("randomised_maps", "c"),
    ("randomised_maps", " C "),
    ("randomised_maps", "c\n"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 0])).softmax(-1)),
    ("lens", lambda model, tokens: model.head(model.norm(tokens))[:, :, 0].softmax(dim=2)),
    ("lens", lens_by_loop),
    ("linear_cka", tables),
    ("linear_cka", lambda x, y: covariance(x, y) ** 2 / (covariance(x, x) * covariance(y, y))),
    ("linear_cka", lambda x, y: tables(3 * x.flip(1), y - 7).item()),
]

WRONG = [
    ("mass_mask", lambda row, mass: keep(row[:, 1:], mass), "class token's own entry kept"),
    ("mass_mask", lambda row, mass: keep(row, mass), "class token's own entry kept"),
    ("mass_mask", lambda row, mass: keep(row, mass)[:, 1:] | keep(row[:, 1:], mass), "class token's own entry kept"),
    ("mass_mask", lambda row, mass: keep(shares(row), mass, before=False), "last patch left out"),
    (
        "mass_mask",
        lambda row, mass: shares(row) > mass * shares(row).amax(1, keepdim=True),
        "threshold, not mass",
    ),
    ("mass_mask", lambda row, mass: keep(shares(row), mass, descending=False), "smallest first"),
    ("mass_mask", lambda row, mass: ~keep(shares(row), mass), "mask inverted"),
    ("mass_mask", lambda row, mass: shares(row).cumsum(1) - shares(row) < mass, "not sorted"),
    ("mass_mask", unsorted_mask, "order not undone"),
    (
        "mass_mask",
        lambda row, mass: keep(shares(row).mean(0, keepdim=True), mass).expand(len(row), -1),
        "one mask for all heads",
    ),
    ("mass_mask", lambda row, mass: shares(row), "no mask"),
    ("uniform_distance", 1.25, "distance in patches"),
    ("uniform_distance", 26.67, "own patch left out"),
    ("uniform_distance", 24, "first patch only"),
    ("uniform_distance", 16.0, "middle patch only"),
    ("uniform_distance", 48, "largest distance"),
    ("uniform_distance", "20 pixels", "not a number"),
    ("repair_rollout", folded(identity=False), "identity forgotten"),
    ("repair_rollout", folded(normalise="none"), "rows not normalised after discarding"),
    ("repair_rollout", folded(order="wrong"), "layers multiplied in the wrong order"),
    ("repair_rollout", folded(normalise="columns"), "columns normalised"),
    ("repair_rollout", folded(normalise="after"), "normalised after the identity"),
    ("repair_rollout", folded("wrong", False, "none"), "identity forgotten"),
    ("repair_rollout", folded("wrong", True, "none"), "rows not normalised after discarding"),
    ("repair_rollout", lambda attention, discard: folded()(attention, 0.0), "nothing discarded"),
    (
        "relevance_step",
        lambda R, w, g: R + (w.mean(1) * g.mean(1)).relu() @ R,
        "heads averaged before the gradient product",
    ),
    ("relevance_step", lambda R, w, g: R + (w * g).mean(1).relu() @ R, "relu after the mean"),
    ("relevance_step", lambda R, w, g: R + (w * g).mean(1) @ R, "relu forgotten"),
    ("relevance_step", lambda R, w, g: R + (w * g).abs().mean(1) @ R, "absolute value"),
    ("relevance_step", lambda R, w, g: R + w.mean(1) @ R, "gradient forgotten"),
    ("relevance_step", lambda R, w, g: R + g.relu().mean(1) @ R, "attention forgotten"),
    ("relevance_step", lambda R, w, g: R + R @ (w * g).relu().mean(1), "multiplied from the wrong side"),
    ("relevance_step", lambda R, w, g: (w * g).relu().mean(1) @ R, "old relevance forgotten"),
    ("relevance_step", lambda R, w, g: R + (w * g).relu().mean(1), "not carried through"),
    ("relevance_step", lambda R, w, g: R + (w * g).relu().sum(1) @ R, "heads added up"),
    ("randomised_maps", "a", "a picture taken for proof"),
    ("randomised_maps", "b", "last layer taken for all"),
    ("randomised_maps", "d", "edges overlooked"),
    ("randomised_maps", "z", "not a choice"),
    ("lens", lambda model, tokens: model.head(tokens[:, :, 0]).softmax(-1), "norm forgotten"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 0])), "no softmax"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 0])).softmax(0), "softmax over the wrong axis"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 0])).softmax(1), "softmax over the wrong axis"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens)).softmax(-1), "all tokens"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens).mean(2)).softmax(-1), "mean of the tokens"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 1])).softmax(-1), "a patch read"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, 0])).softmax(-1), "an image read"),
    ("linear_cka", lambda x, y: tables(x, y, centre=False), "CKA without centring"),
    ("linear_cka", lambda x, y: tables(centred(x.T).T, centred(y.T).T, centre=False), "centred over the features"),
    ("linear_cka", lambda x, y: tables(x, y).sqrt(), "norms not squared"),
    ("linear_cka", lambda x, y: covariance(x, y) / (covariance(x, x) * covariance(y, y)), "numerator not squared"),
    (
        "linear_cka",
        lambda x, y: (covariance(x, y) / (covariance(x, x) * covariance(y, y))) ** 2,
        "denominator squared too",
    ),
    ("linear_cka", lambda x, y: covariance(x, y) ** 2, "not divided"),
    ("linear_cka", lambda x, y: x.T @ y, "not a number"),
]
