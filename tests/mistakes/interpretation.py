"""Wrong answers to notebook 10's exercises, as learners write them, and the mistakes that must be named."""

import torch

from vit_tutorial import interpret


def broken_rollout(attention, discard):
    result = torch.eye(attention.shape[-1])
    for weights in attention.mean(dim=2):
        kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
        result = result @ kept
    return result


def rollout_not_halved(attention, discard):
    eye = torch.eye(attention.shape[-1])
    result = eye
    for weights in attention.mean(2):
        kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
        kept = kept / kept.sum(-1, keepdim=True)
        result = (kept + eye) @ result
    return result


def rollout_scaled_once(attention, discard):
    eye = torch.eye(attention.shape[-1])
    result = eye
    for weights in attention.mean(2):
        kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
        layer = kept + eye
        result = layer / layer.sum(-1, keepdim=True) @ result
    return result


def rollout_strictly_above(attention, discard):
    eye = torch.eye(attention.shape[-1])
    result = eye
    for weights in attention.mean(2):
        kept = weights * (weights > weights.quantile(discard, dim=-1, keepdim=True))
        result = (kept / kept.sum(-1, keepdim=True) + eye) / 2 @ result
    return result


def rollout_of_the_whole_table(attention, discard):
    eye = torch.eye(attention.shape[-1])
    result = eye
    for weights in attention.mean(2):
        limit = weights.flatten(1).quantile(discard, dim=1)
        kept = weights * (weights >= limit[:, None, None])
        result = (kept / kept.sum(-1, keepdim=True).clamp_min(1e-12) + eye) / 2 @ result
    return result


def tables(x, y, centre=True):
    if centre:
        H = torch.eye(len(x)) - 1 / len(x)
        x, y = H @ x, H @ y
    K, L = x @ x.T, y @ y.T
    return (K * L).sum() / (K.norm() * L.norm())


def numpy_tables(x, y):
    X, Y = (a.numpy() - a.numpy().mean(0) for a in (x, y))
    K, L = X @ X.T, Y @ Y.T
    return (K * L).sum() / ((K * K).sum() * (L * L).sum()) ** 0.5


def not_squared(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return (x.T @ y).norm() / ((x.T @ x).norm() * (y.T @ y).norm())


def top_down(row, mass):
    patches = row[:, 1:]
    values, order = patches.sort(descending=True)
    return torch.zeros_like(patches, dtype=torch.bool).scatter(1, order, values.cumsum(1) <= mass)


def sorted_mask(row, mass):
    patches = row[:, 1:] / row[:, 1:].sum(1, keepdim=True)
    values = patches.sort(1, descending=True).values
    return values.cumsum(1) - values < mass


def first_head_alone(row, mass):
    patches = row[:, 1:] / row[:, 1:].sum(1, keepdim=True)
    values, order = patches[0].sort(descending=True)
    keep = values.cumsum(0) - values < mass
    return torch.zeros_like(keep).scatter(0, order, keep).expand(len(row), -1)


def head_by_name(model, tokens):
    return torch.stack([model.head(stage[:, 0]) for stage in tokens])


RIGHT = []

WRONG = [
    ("mass_mask", top_down, "not shared out anew + last patch left out"),
    ("mass_mask", sorted_mask, "order not undone"),
    ("mass_mask", lambda row, mass: row[:, 1:] / row[:, 1:].sum(1, keepdim=True), "no mask"),
    ("mass_mask", lambda row, mass: row[:, 1:] / row[:, 1:].sum(1, keepdim=True) > mass, "threshold, not mass"),
    ("mass_mask", first_head_alone, "only the first"),
    ("mass_mask", lambda row, mass: top_down(row, mass).float(), "no mask"),
    ("uniform_distance", 1.25, "distance in patches"),
    ("uniform_distance", 26.67, "own patch left out"),
    ("uniform_distance", 5 / 3, "distance in patches + own patch left out"),
    ("uniform_distance", 24, "first patch only"),
    ("uniform_distance", "20 pixels", "not a number"),
    (
        "repair_rollout",
        broken_rollout,
        "nothing mended",
    ),
    ("repair_rollout", rollout_not_halved, "not halved"),
    ("repair_rollout", rollout_scaled_once, "normalised after the identity"),
    ("repair_rollout", rollout_strictly_above, None),
    ("repair_rollout", rollout_of_the_whole_table, "not row by row"),
    ("repair_rollout", lambda attention, discard: interpret.attention_rollout(attention), "nothing discarded"),
    ("repair_rollout", lambda a, discard: interpret.attention_rollout(a, "max", discard), "heads not averaged"),
    (
        "relevance_step",
        lambda R, w, g: R + (w.mean(1) * g.mean(1)).relu() @ R,
        "heads averaged before the gradient product",
    ),
    ("relevance_step", lambda R, w, g: R + (w * g).mean(1).relu() @ R, "relu after the mean"),
    ("relevance_step", lambda R, w, g: (w * g).mean(1) @ R, "relu forgotten + old relevance forgotten"),
    (
        "relevance_step",
        lambda R, w, g: R + R @ (w * g).relu().sum(1),
        "heads added up + multiplied from the wrong side",
    ),
    ("relevance_step", lambda R, w, g: R.add_((w * g).relu().mean(1) @ R), "changed in place"),
    ("relevance_step", lambda R, w, g: R + (w * g).relu() @ R, "wrong shape"),
    ("randomised_maps", "a", "a picture taken for proof"),
    ("randomised_maps", "b", "last layer taken for all"),
    ("randomised_maps", "d", "edges overlooked"),
    ("randomised_maps", "z", "not a choice"),
    ("lens", head_by_name, "norm forgotten + no softmax"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, :, 0])).softmax(1), "softmax over the wrong axis"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens)).softmax(-1), "all tokens"),
    ("lens", lambda model, tokens: model.head(model.norm(tokens[:, 0])).softmax(-1), "an image read"),
    ("lens", lambda model, tokens: model.train().head(model.norm(tokens[:, :, 0])).softmax(-1), "model changed"),
    ("linear_cka", tables, "a table of all pairs"),
    ("linear_cka", numpy_tables, "a table of all pairs"),
    ("linear_cka", lambda x, y: tables(x, y, centre=False), "CKA without centring"),
    ("linear_cka", interpret.linear_cka, "unbiased estimate"),
    ("linear_cka", not_squared, "numerator not squared"),
    ("linear_cka", lambda x, y: not_squared(x, y) ** 2, "denominator squared too"),
    ("linear_cka", lambda x, y: (x.T @ y).norm() ** 2, "CKA without centring + not divided"),
    ("linear_cka", lambda x, y: x.T @ y, "not a number"),
]
