"""Checks of notebook 10: maps of attention through the layers and for a class, and what tokens hold."""

from itertools import product

import torch

from ..model import VisionTransformer, ViTConfig
from .verdict import Wrong, call, exercise, expect_choice, expect_number, expect_tensor

__all__ = [
    "mass_mask",
    "uniform_distance",
    "repair_rollout",
    "relevance_step",
    "randomised_maps",
    "lens",
    "linear_cka",
]


def fewest(values, mass):
    """Mask of the fewest entries of each row that together hold the share `mass` of the row."""
    values, order = (values / values.sum(-1, keepdim=True)).sort(-1, descending=True)
    before = values.cumsum(-1) - values
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, before < mass)


@exercise
def mass_mask(function):
    """`(row, mass) -> ` mask `(H, N - 1)` of the fewest patches that hold that share, from the class token's row."""
    torch.manual_seed(0)
    for H, N, mass in ((4, 65, 0.6), (3, 10, 0.5), (1, 17, 0.9)):
        row = (2 * torch.randn(H, N)).softmax(-1)
        row[:, 0] = 0.3 + 0.3 * torch.rand(H)  # the class token itself
        row[:, 1:] *= (1 - row[:, :1]) / row[:, 1:].sum(-1, keepdim=True)
        patches, expected = row[:, 1:], fewest(row[:, 1:], mass)
        shares = patches / patches.sum(-1, keepdim=True)
        values, order = shares.sort(-1, descending=True)
        short = torch.zeros_like(expected).scatter(-1, order, values.cumsum(-1) <= mass)
        mean_order = shares.mean(0, keepdim=True).expand(H, -1)
        own = (
            "the class token's own entry is still in: it is no patch. Take it off first, then share out 1 among what "
            "is left."
        )
        total = torch.zeros_like(expected).scatter(-1, order, patches.gather(-1, order).cumsum(-1) <= mass)
        more = torch.zeros_like(expected).scatter(
            -1, order, patches.gather(-1, order).cumsum(-1) - patches.gather(-1, order) < mass
        )
        found = call(function, row, mass)
        if isinstance(found, torch.Tensor) and found.shape == row.shape:
            raise Wrong(own.capitalize(), "class token's own entry kept")
        if isinstance(found, torch.Tensor) and found.dtype.is_floating_point:
            raise Wrong("Expected a mask of True and False, found numbers; compare them with something.", "no mask")
        expect_tensor(
            found,
            expected,
            (
                ("class token's own entry kept", more, own),
                ("class token's own entry kept", total, own),
                (
                    "last patch left out",
                    short,
                    f"the patches of your mask hold less than {mass:.0%}: the one that crosses the line belongs to it. "
                    "Ask what the patches *before* it hold.",
                ),
                (
                    "threshold, not mass",
                    shares > mass * shares.amax(-1, keepdim=True),
                    "that keeps what is above a share of the largest weight. Add the weights up, from the largest on.",
                ),
                ("smallest first", fewest_ascending(shares, mass), "you started with the smallest; sort descending."),
                ("mask inverted", ~expected, "the mask is the wrong way round: True where a patch is kept."),
                (
                    "not sorted",
                    shares.cumsum(-1) - shares < mass,
                    "you added the patches up in reading order: sort them by weight first.",
                ),
                (
                    "order not undone",
                    values.cumsum(-1) - values < mass,
                    "the mask is in sorted order: the first patches, wherever they were. Put it back with scatter.",
                ),
                ("one mask for all heads", fewest(mean_order, mass), "every head has an order of its own."),
            ),
            what=f"the mask of {H} heads for {mass:.0%}",
        )
    return "The fewest patches that hold the share, for every head, the class token left out."


def fewest_ascending(values, mass):
    values, order = values.sort(-1)
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, values.cumsum(-1) - values < mass)


@exercise
def uniform_distance(answer):
    """Mean attention distance of equal weights over a row of 4 patches of 16 pixels."""
    expect_number(
        answer,
        20,
        (
            ("distance in patches", 1.25, "that is in patches. One patch is 16 pixels wide, and the answer in pixels."),
            (
                "own patch left out",
                80 / 3,
                "equal weights give a quarter to the patch itself, too, at distance 0. You averaged over 12 of 16 "
                "pairs.",
            ),
            ("own patch left out", 5 / 3, "over 16 pairs, not 12: the patch itself counts; and 16 pixels a patch."),
            ("first patch only", 24, "that is how far the first patch looks. The two in the middle look less far."),
            ("middle patch only", 16, "that is how far a middle patch looks. The two at the ends look further."),
            ("largest distance", 48, "that is the largest distance; take the mean over all pairs."),
        ),
        tolerance=0.005,
        what="the distance",
    )
    return "20 pixels: half the time from 24 (the ends), half from 16 (the middle). No attention at all looks so far."


def fold(attention, discard, order="right", identity=True, scale="first"):
    """Attention rollout, with the faults that the exercise knows."""
    N = attention.shape[-1]
    eye = torch.eye(N, dtype=attention.dtype)
    result = eye.expand(attention.shape[1], N, N)
    for weights in attention.mean(dim=2):
        kept = weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True))
        if scale in ("first", "columns"):
            kept = kept / kept.sum(dim=-1 if scale == "first" else -2, keepdim=True).clamp_min(1e-12)
        layer = (kept + eye) / 2 if identity else kept
        if scale == "last":
            layer = layer / layer.sum(dim=-1, keepdim=True)
        result = layer @ result if order == "right" else result @ layer
    return result


ROLLOUT_FAULTS = {  # (option, value) -> (name, why); in the order in which they are reported
    ("identity", False): (
        "identity forgotten",
        "the identity is missing: a block adds what it attends to *to the token*, so half stays, (kept + eye) / 2.",
    ),
    ("scale", "none"): (
        "rows not normalised after discarding",
        "your rows no longer sum to 1: what was discarded is missing. Divide what is kept by the sum of its row.",
    ),
    ("scale", "columns"): (
        "columns normalised",
        "you divided by the sums of the columns. A row belongs to the token that asks: dim=-1, keepdim=True.",
    ),
    ("scale", "last"): (
        "normalised after the identity",
        "the rows sum to 1, but the identity got more than half of each. Scale what is kept first, then add.",
    ),
    ("order", "wrong"): (
        "layers multiplied in the wrong order",
        "the layers stand in the wrong order: what comes later reads what came before, so layer @ result.",
    ),
}


@exercise
def repair_rollout(function):
    """`(attention, discard) -> (B, N, N)`: rollout of the heads' mean, the smallest weights of each row left out."""
    torch.manual_seed(0)
    for L, B, H, N, discard in ((3, 2, 2, 5, 0.5), (4, 1, 3, 7, 0.25), (2, 3, 1, 9, 0.8)):
        attention = (2 * torch.randn(L, B, H, N, N)).softmax(-1)
        mistakes = []
        for order, identity, scale in product(("right", "wrong"), (True, False), ("first", "none", "columns", "last")):
            chosen = {"order": order, "identity": identity, "scale": scale}
            faults = [ROLLOUT_FAULTS[item] for item in chosen.items() if item in ROLLOUT_FAULTS]
            faults.sort(key=list(ROLLOUT_FAULTS.values()).index)
            if faults and (identity or scale != "last"):  # without the identity there is nothing to come after
                name, why = faults[0]
                more = " This fault is not the only one." if len(faults) > 1 else ""
                mistakes.append((name, fold(attention, discard, **chosen), why + more))
        plain = fold(attention, 0.0)
        mistakes.append(("nothing discarded", plain, "nothing was discarded: the smallest weights of each row go."))
        found = call(function, attention.clone(), discard)
        expect_tensor(found, fold(attention, discard), mistakes, what=f"the rollout of {L} layers")
    return "All three faults are gone: every row sums to 1, and every layer reads the one before it."


@exercise
def relevance_step(function):
    """`(R, weights, gradients) -> (B, N, N)`: one layer of gradient-weighted relevance."""
    torch.manual_seed(0)
    for B, H, N in ((2, 3, 5), (1, 4, 7), (3, 2, 4)):
        R = torch.eye(N) + torch.rand(B, N, N)
        weights, gradients = torch.randn(B, H, N, N).softmax(-1), torch.randn(B, H, N, N)
        both = weights * gradients
        step = both.relu().mean(1)
        found = call(function, R.clone(), weights.clone(), gradients.clone())
        expect_tensor(
            found,
            R + step @ R,
            (
                (
                    "heads averaged before the gradient product",
                    R + (weights.mean(1) * gradients.mean(1)).relu() @ R,
                    "the heads are averaged before they meet their gradients: a head that speaks for the class and one "
                    "that speaks against it have become one. Multiply head by head, mean last.",
                ),
                (
                    "relu after the mean",
                    R + both.mean(1).relu() @ R,
                    "the relu comes after the mean over the heads, so heads against the class cancel heads for it.",
                ),
                (
                    "relu forgotten",
                    R + both.mean(1) @ R,
                    "what speaks against the class is still in, as negative numbers: relu before the mean.",
                ),
                (
                    "absolute value",
                    R + both.abs().mean(1) @ R,
                    "the absolute value counts evidence against the class as evidence for it; relu leaves it out.",
                ),
                ("gradient forgotten", R + weights.mean(1) @ R, "the gradients are not in it yet."),
                ("attention forgotten", R + gradients.relu().mean(1) @ R, "the attention weights are not in it yet."),
                (
                    "multiplied from the wrong side",
                    R + R @ step,
                    "R stands on the wrong side: this layer reads what came before it, so (...) @ R.",
                ),
                (
                    "old relevance forgotten",
                    step @ R,
                    "the old R is gone. The residual connection keeps it: add the product *to* R.",
                ),
                ("not carried through", R + step, "the step was added as it is: multiply it with R first."),
                ("heads added up", R + both.relu().sum(1) @ R, "the heads are added up; take their mean."),
            ),
            what=f"the relevance for {H} heads",
        )
    return "Head by head, only what speaks for the class, and carried through the layers below."


@exercise
def randomised_maps(answer):
    """What the experiment with randomised weights shows, as a letter."""
    expect_choice(
        answer,
        "c",
        {
            "a": (
                "a picture taken for proof",
                "Look at the line of rollout where all but the first block is random: the model knows nothing there, "
                "and the map is nearly the old one.",
            ),
            "b": (
                "last layer taken for all",
                "The last layer's map does fall at once. But follow the lines of the others: they hold on far longer.",
            ),
            "d": (
                "edges overlooked",
                "The line of the edges stays at 1, as no weight is in them. Rollout moves, but only near the end.",
            ),
        },
    )
    return "A map that a random model gives as well says more about the first block and the picture than the answer."


@exercise
def lens(function):
    """`(model, tokens) -> ` probabilities `(L + 1, B, num_classes)` read from tokens `(L + 1, B, N, D)`."""
    torch.manual_seed(0)
    for classes, depth, B in ((5, 2, 3), (3, 4, 2)):
        config = ViTConfig(image_size=8, patch_size=4, num_classes=classes, embed_dim=8, depth=depth, num_heads=2)
        model = VisionTransformer(config)
        torch.nn.init.normal_(model.norm.weight)
        torch.nn.init.normal_(model.head.weight)
        torch.nn.init.normal_(model.head.bias)
        tokens = 3 * torch.randn(depth + 1, B, 5, 8)
        with torch.no_grad():
            normed = model.norm(tokens)
            logits, raw = model.head(normed[:, :, 0]), model.head(tokens[:, :, 0])
            mean, patch = model.head(normed[:, :, 1:].mean(2)), model.head(normed[:, :, 1])
            everything, all_tokens = model.head(normed.mean(2)), model.head(normed)
            found = call(function, model, tokens)
        why_axis = "the softmax ran over the wrong axis: the shares of the *classes* sum to 1, the last axis, dim=-1."
        expect_tensor(
            found,
            logits.softmax(-1),
            (
                (
                    "norm forgotten",
                    raw.softmax(-1),
                    "the last norm is missing: the head has only ever read tokens that came out of it.",
                ),
                ("norm forgotten", raw, "the last norm is missing before the head, and the softmax after it."),
                ("no softmax", logits, "these are logits: turn them into probabilities with softmax."),
                ("softmax over the wrong axis", logits.softmax(0), why_axis),
                ("softmax over the wrong axis", logits.softmax(1), why_axis),
                (
                    "all tokens",
                    all_tokens.softmax(-1),
                    "this reads every token. The head was trained on the class token alone, tokens[:, :, 0].",
                ),
                ("mean of the tokens", everything.softmax(-1), "this model's head reads the class token, not a mean."),
                ("mean of the tokens", mean.softmax(-1), "this model's head reads the class token, not a mean."),
                ("a patch read", patch.softmax(-1), "token 1 is the first patch; the class token is token 0."),
                (
                    "an image read",
                    all_tokens[:, 0].softmax(-1),
                    "the second axis is the batch: you read the first image. The class token is tokens[:, :, 0].",
                ),
            ),
            what=f"the probabilities after {depth} blocks",
        )
    return "The model's own last two layers read every stage, and the last stage is the answer."


@exercise
def linear_cka(function):
    """`(x, y) -> ` linear CKA of features `(n, p)` and `(n, q)`, the plain (biased) one."""
    torch.manual_seed(0)
    for n, p, q in ((20, 4, 4), (12, 6, 3), (30, 2, 7)):
        x = torch.randn(n, p) + 2 * torch.randn(p)
        y = torch.randn(n, q) + torch.randn(q) + x[:, :1]
        found = call(function, x.clone(), y.clone())
        X, Y = x - x.mean(0), y - y.mean(0)
        rows = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        ratio = cka_ratio(X, Y)
        covariance = lambda a, b: (a.T @ b).norm()  # noqa: E731
        mistakes = [
            (
                "CKA without centring",
                cka_ratio(x, y),
                "the features are not centred: what all images have in common counts as likeness. Take off the mean of "
                "each feature, over the images, dim=0.",
            ),
            (
                "centred over the features",
                cka_ratio(*rows),
                "you took off the mean of each image. Take off the mean of each feature, over the images: dim=0.",
            ),
            (
                "norms not squared",
                covariance(X, Y) / (covariance(X, X) * covariance(Y, Y)).sqrt(),
                "that is the root of it: square the length in the numerator.",
            ),
            (
                "numerator not squared",
                covariance(X, Y) / (covariance(X, X) * covariance(Y, Y)),
                "the numerator is the *square* of the length of X.T @ Y.",
            ),
            (
                "denominator squared too",
                covariance(X, Y) ** 2 / (covariance(X, X) * covariance(Y, Y)) ** 2,
                "the lengths below are not squared: x with itself must give 1.",
            ),
            ("not divided", covariance(X, Y) ** 2, "divide by the lengths of X.T @ X and Y.T @ Y."),
        ]
        if isinstance(found, torch.Tensor) and found.numel() != 1:
            raise Wrong(f"Expected one number, found shape {tuple(found.shape)}.", "not a number")
        mistakes = [(name, float(value), why) for name, value, why in mistakes]
        expect_number(found, float(ratio), mistakes, tolerance=1e-3, what=f"CKA of {p} with {q} features")
    return "The same whatever way the features are turned or scaled, and however many there are on each side."


def cka_ratio(x, y):
    return (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
