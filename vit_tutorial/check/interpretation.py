"""Checks of notebook 10: maps of attention through the layers and for a class, and what tokens hold."""

import tracemalloc

import torch
from torch.overrides import TorchFunctionMode

from .. import interpret
from ..model import VisionTransformer, ViTConfig
from .reference import chosen, stated, whole, written
from .verdict import Wrong, call

__all__ = ["mass_mask", "uniform_distance", "repair_rollout", "relevance_step", "randomised_maps", "lens", "linear_cka"]

OWN = "The class token's own entry is still in, and it is no patch: take it off before you share out 1."
ANEW = "Without the class token's entry a row no longer sums to 1: divide the patches by their sum."
LEFT_OUT = "The patch that crosses the line belongs to the mask: ask what the patches *before* each patch hold."
THRESHOLD = "That keeps what is above some weight. Add the weights up instead, from the largest on."
NUMBER = "That keeps a share of the patches by their number; what they hold is asked for."


def rows():
    patches = torch.tensor([0.1, 0.4, 0.2, 0.3])[torch.randperm(4)]
    yield torch.cat([torch.tensor([0.5]), patches / 2])[None], 0.6
    yield torch.tensor([[0.5, 0.125, 0.25, 0.03125, 0.09375]]), 0.75  # which the first two hold exactly
    for H, N, mass in ((4, 65, 0.6), (3, 10, 0.1), (1, 17, 0.95), (2, 2, 0.5), (3, 3, 0.35), (5, 5, 0.8)):
        clear = False
        while not clear:  # no two alike, none on the line
            own, patches = 0.3 + 0.3 * torch.rand(H, 1), (2 * torch.randn(H, N - 1)).softmax(-1)
            values = patches.sort(-1).values
            clear = bool((values.diff() > 1e-6).all() and ((values.cumsum(-1) - 1 + mass).abs() > 1e-4).all())
        yield torch.cat([own, (1 - own) * patches], dim=1), mass


def as_mask(function, row, mass):
    found = call(function, row, mass)
    if isinstance(found, torch.Tensor) and found.dtype != torch.bool:
        raise Wrong(f"Expected a mask of True and False, found {found.dtype}: compare with something.", "no mask")
    return found


@written("The fewest patches that hold the share, for every head, the class token left out.", rows, use=as_mask)
def mass_mask(wrong, row, mass):
    """`(row, mass) -> ` mask `(H, N - 1)` of the fewest patches that hold that share, from the class token's row."""
    kept, cut_late = (wrong("class token's own entry kept", OWN, place) for place in (0, 1))
    last = wrong("last patch cut off", "The class token's own entry stands first: row[:, 1:].")
    patches = row if kept or cut_late else row[:, :-1] if last else row[:, 1:]
    if wrong("one mask for all heads", "The heads have one order and one mask together; every head has its own."):
        patches = patches.mean(0, keepdim=True).expand_as(patches)
    shares = patches / (1.0 if wrong("not shared out anew", ANEW) else patches.sum(-1, keepdim=True))
    smallest = wrong("smallest first", "You began with the smallest patch; sort descending.")
    values, order = shares.sort(-1, descending=not smallest)
    places, N = torch.arange(shares.shape[1]).expand_as(order), shares.shape[1]
    if wrong("not sorted", "The patches are added up in reading order: sort them by weight first."):
        values, order = shares, places
    over_heads = wrong("added up over the heads", "The weights are added up over the heads: cumsum(dim=-1).")
    through = values.cumsum(0 if over_heads else -1)
    keep = wrong.choose(
        through - values < mass,
        ("last patch left out", LEFT_OUT, through <= mass),
        ("last patch left out", LEFT_OUT, through < mass),
        ("one patch too many", "Patches that hold exactly the mass are enough: <, not <=.", through - values <= mass),
        *(("threshold, not mass", THRESHOLD, values > mass * x) for x in (values.amax(-1, keepdim=True), 1)),
        *(("number, not mass", NUMBER, places < x) for x in (int(mass * N), mass * N)),
    )
    mask = wrong.choose(
        torch.zeros_like(keep).scatter(-1, order, keep),
        ("order not undone", "The mask is in sorted order. Put it back to its places with scatter.", keep),
        ("order not undone", "This sorts once more; scatter undoes an order.", keep.gather(-1, order)),
    )
    mask = ~mask if wrong("mask inverted", "The mask is the wrong way round: True where a patch is kept.") else mask
    return mask[:, 1:] if cut_late else mask


@stated(
    "20 pixels: half the time from 24 (the ends), half from 16 (the middle). "
    "A head without any attention looks this far.",
    "Take the mean distance for each of the four patches, itself included, and then the mean of the four, in pixels.",
    tolerance=0.005,
    together=2,
)
def uniform_distance(wrong):
    """Mean attention distance of equal weights over a row of 4 patches of 16 pixels."""
    own = "Equal weights give a quarter to the patch itself, too, at distance 0: it counts in the mean."
    first = "That is how far the first patch looks. The two in the middle look less far; take the mean of all four."
    middle = "So far are neighbours apart, and so far a middle patch looks. The ends look further; take all four."
    wide = "That is in patches. One patch is 16 pixels wide, and the answer is in pixels."
    return (1 if wrong("distance in patches", wide) else 16) * wrong.choose(
        5 / 4,
        ("own patch left out", own, 5 / 3),
        ("first patch only", first, 3 / 2),
        ("middle patch or neighbours only", middle, 1),
        ("largest distance", "That is the largest distance; take the mean over all pairs.", 3),
        ("added up", "A mean is missing: over what a patch looks at, or over the patches.", 5),
    )


NOT_SCALED = "The rows no longer sum to 1: what was discarded is missing. Divide what is kept by the sum of its row."
COLUMNS = "The columns are divided by their sums. A row belongs to the token that asks: dim=-1, keepdim=True."
LATE = "The rows sum to 1, but the identity has more than half of each. Scale what is kept first, then add."
AT_END = "Only the result's rows are scaled. Each layer's must sum to 1 before it is multiplied."
IDENTITY = "The identity is missing: a block adds what it attends to *to the token*, so half stays, (kept + eye) / 2."
HALVED = "Attention and identity are added and not halved, so the rows sum to 2: (kept + eye) / 2."
ORDER = "The layers stand in the wrong order: what comes later reads what came before, so layer @ result."
LARGEST = "The largest weights are discarded; the smallest go."
TABLE = "The smallest weights of the whole table are discarded; each row has its own smallest."
FUSED = "The heads are fused by their mean, attention.mean(dim=2), which was right."


def stacks():
    """Attention and a share of which quantile, topk and sort make the same number, without ties."""
    rows = torch.tensor([[0.25, 0.75], [0.75, 0.25]])  # one for each layer
    yield rows[:, None, None, None].expand(2, 1, 1, 2, 2).clone(), 0.5
    for *shape, N, discard in ((3, 2, 2, 8, 0.25), (1, 1, 3, 6, 0.5), (2, 3, 1, 4, 0.75), (4, 1, 2, 5, 0.0)):
        gap, drop = 0.0, int(discard * N)
        while gap < 1e-4:
            attention = (2 * torch.randn(*shape, N, N)).softmax(-1)
            values = attention.mean(2).sort(-1).values
            gap = (values[..., drop] - values[..., drop - 1]).abs().min()
        yield attention, discard
    yield torch.ones(2, 2, 3, 1, 1), 0.5


@written("All three faults are gone: every row sums to 1, and every layer reads the one before it.", stacks, together=3)
def repair_rollout(wrong, attention, discard):
    """`(attention, discard) -> (B, N, N)`: rollout of the heads' mean, the smallest weights of each row left out."""
    others = (("heads not averaged", FUSED, x) for x in (attention.amax(2), attention[:, :, 0]))
    maps = wrong.choose(attention.mean(2), *others)
    _, B, N, _ = maps.shape
    result, eye, drop = torch.eye(N).expand(B, N, N), torch.eye(N), int(discard * N)
    left = wrong("nothing mended", "All three faults are left: the rows' sums, the residual connection, the order.")
    for weights in maps:
        if left:
            result = result @ (weights * (weights >= weights.quantile(discard, dim=-1, keepdim=True)))
            continue
        if wrong("identity before discarding", "The identity is added before the smallest are discarded."):
            weights = weights + eye
        rank, in_table = (x.argsort(-1).argsort(-1) for x in (weights, weights.flatten(1)))
        kept = weights * wrong.choose(
            rank >= drop,
            ("nothing discarded", "Nothing is discarded: the smallest weights of each row go.", True),
            *(("largest discarded", LARGEST, rank < n) for n in (N - drop, drop + 1)),
            ("not row by row", TABLE, in_table.view(B, N, N) >= int(discard * N * N)),
            ("discard taken for a weight", "discard is a share of each row's weights.", weights >= discard),
        )
        scale = wrong.choose(
            "rows",
            ("rows not normalised after discarding", NOT_SCALED, None),
            ("columns normalised", COLUMNS, "columns"),
            ("columns normalised", COLUMNS, "columns, with 0/0"),
            ("normalised after the identity", LATE, "late"),
            ("normalised at the end", AT_END, "at the end"),
        )
        if scale == "rows" or scale and "columns" in scale:
            total = kept.sum(-1 if scale == "rows" else -2, keepdim=True)
            kept = kept / (total if "0/0" in scale else total.clamp_min(1e-12))
        others = ("identity forgotten", IDENTITY, kept), ("not halved", HALVED, kept + eye)
        layer = wrong.choose((kept + eye) / 2, *others)
        if scale == "late":
            layer = layer / layer.sum(-1, keepdim=True)
        result = wrong.choose(
            layer @ result,
            ("layers multiplied in the wrong order", ORDER, result @ layer),
            ("last layer alone", "Only the last layer is in it: multiply each with what came before.", layer),
        )
    return result / result.sum(-1, keepdim=True) if not left and scale == "at the end" else result


BEFORE = "Averaged first, a head that speaks for the class and one against it become one: multiply head by head."
LATE_RELU = "The relu comes after the mean over the heads, so heads against the class cancel heads for it."
NO_RELU = "What speaks against the class is still in, as negative numbers: relu before the mean."
ABSOLUTE = "The absolute value counts evidence against the class as evidence for it; relu leaves it out."
SINGLE = "Each weight is to be multiplied by its gradient; only one of the two is in it."
ENTRY = "Each weight meets its own gradient: *, entry by entry, not @."
SIDE = "R stands on the wrong side: this layer reads what came before it, so (...) @ R."
ENTRIES = "R is multiplied entry by entry; what came before is carried through by a matrix product, (...) @ R."
OLD = "The old R is gone. The residual connection keeps it: add the product *to* R."
EYE = "The identity is added, which only the first layer's R was: add the product *to* R."


def relevances():
    yield whole(1, 2, 2, low=0), whole(1, 2, 2, 2, low=0), whole(1, 2, 2, 2)
    for B, H, N in ((2, 3, 5), (1, 4, 7), (3, 1, 4), (2, 2, 1)):
        yield torch.eye(N) + torch.rand(B, N, N), torch.randn(B, H, N, N).softmax(-1), torch.randn(B, H, N, N)


@written("Head by head, only what speaks for the class, and carried through the layers below.", relevances)
def relevance_step(wrong, R, weights, gradients):
    """`(R, weights, gradients) -> (B, N, N)`: one layer of gradient-weighted relevance."""
    if wrong("heads averaged before the gradient product", BEFORE):
        weights, gradients = weights.mean(1, keepdim=True), gradients.mean(1, keepdim=True)
    single = ("gradient forgotten", SINGLE, weights), ("attention forgotten", SINGLE, gradients)
    both = wrong.choose(weights * gradients, *single, ("matrix product", ENTRY, weights @ gradients))
    late = wrong("relu after the mean", LATE_RELU)
    both = wrong.choose(
        both if late else both.relu(),
        ("relu forgotten", NO_RELU, both),
        ("absolute value", ABSOLUTE, both.abs()),
        ("negative kept", "That speaks against the class; relu keeps what is positive.", both.clamp(max=0)),
    )
    step = wrong.choose(
        both.mean(1),
        ("heads added up", "The heads are added up; take their mean.", both.sum(1)),
        ("largest head", "That is the largest of the heads; take their mean.", both.amax(1)),
    )
    step = step.relu() if late else step
    carried = wrong.choose(
        step @ R,
        ("multiplied from the wrong side", SIDE, R @ step),
        ("transposed", "The step is turned round: row i says what token i reads, so step @ R as it is.", step.mT @ R),
        ("not carried through", "The step was added as it is: multiply it with R first.", step),
        ("entry by entry", ENTRIES, step * R),
    )
    others = ("old relevance forgotten", OLD, 0.0), ("identity for R", EYE, torch.eye(R.shape[-1]))
    return carried + wrong.choose(R, *others)


@chosen("c", "A map that a random model gives as well says more about the first block and the picture than the answer.")
def randomised_maps():
    """What the experiment with randomised weights shows, as a letter."""
    proof = "Look at rollout where all but the first block is random: that model knows nothing, but the map stays."
    last = "The last layer's map does fall at once. But follow the lines of the others: they hold on far longer."
    edges = "The line of the edges stays at 1, as no weight is in them. Rollout moves, but only near the end."
    a, b, d = ("a picture taken for proof", proof), ("last layer taken for all", last), ("edges overlooked", edges)
    return {"a": a, "b": b, "d": d}


NO_NORM = "The last norm is missing: the head has only ever read tokens that came out of it."
AXIS = "The softmax runs over the wrong axis: the shares of the *classes* sum to 1, the last axis, dim=-1."
MEAN = "This model's head was trained on the class token, tokens[:, :, 0], not on a mean."
IMAGE = "The second axis is the batch: you read the first image. The class token is tokens[:, :, 0]."
EVERY = "This reads every token. The head was trained on the class token alone, tokens[:, :, 0]."


def models_and_tokens():
    for classes, depth, B, side in ((2, 1, 1, 4), (5, 2, 3, 8), (3, 4, 2, 8), (4, 3, 1, 12)):
        config = ViTConfig(image_size=side, patch_size=4, num_classes=classes, embed_dim=8, depth=depth, num_heads=2)
        model = VisionTransformer(config).eval()
        for values in (model.norm.weight, model.norm.bias, model.head.weight, model.head.bias):
            torch.nn.init.normal_(values)
        yield model, 3 * torch.randn(depth + 1, B, 1 + (side // 4) ** 2, 8)


@written("The model's own last two layers read every stage, and the last stage is the answer.", models_and_tokens)
def lens(wrong, model, tokens):
    """`(model, tokens) -> ` probabilities `(L + 1, B, num_classes)` read from tokens `(L + 1, B, N, D)`."""
    tokens = wrong.choose(
        tokens,
        ("embedding left out", "The tokens after the embedding are a stage, too: L + 1 in all.", tokens[1:]),
        ("last stage alone", "Every stage is asked for, not the last one alone.", tokens[-1:]),
    )
    norm = (lambda x: x) if wrong("norm forgotten", NO_NORM) else model.norm
    x = norm(tokens)
    means = x.mean(2), norm(tokens.mean(2)), x[:, :, 1:].mean(2), norm(tokens[:, :, 1:].mean(2))
    read = wrong.choose(
        x[:, :, 0],
        *(("mean of the tokens", MEAN, mean) for mean in means),
        ("a patch read", "Token 1 is the first patch; the class token is token 0.", x[:, :, 1]),
        ("last token read", "That is the last patch's token; the class token is token 0.", x[:, :, -1]),
        ("an image read", IMAGE, x[:, 0]),
        ("all tokens", EVERY, x),
    )
    logits = model.head(read)
    return wrong.choose(
        logits.softmax(-1),
        ("no softmax", "These are logits: turn them into probabilities with softmax.", logits),
        *(("softmax over the wrong axis", AXIS, logits.softmax(axis)) for axis in (0, 1)),
        ("softmax twice", "There is a softmax too many.", logits.softmax(-1).softmax(-1)),
        ("class for probabilities", "These are classes; give the probability of each.", logits.argmax(-1)),
        ("logarithms", "These are logarithms of probabilities: softmax, not log_softmax.", logits.log_softmax(-1)),
        ("sigmoid", "A sigmoid judges each class alone; softmax shares out 1 among them.", logits.sigmoid()),
    )


NOT_CENTRED = "Not centred, so what all pictures share counts as likeness: take off the mean of each feature, dim=0."
FEATURES = "The mean of each picture is taken off. Take off the mean of each feature, over the pictures: dim=0."
ONE_MEAN = "One mean of all numbers is taken off. Each feature has its own, over the pictures: mean(dim=0)."
SCALED = "The features are divided by their deviation too, which CKA does not do: take off the mean alone."
SQUARES = "The lengths in the denominator are not squared: x with itself must give 1."
SUM = "The length of a matrix is the root of the sum of its *squares*, matrix.norm(), not the sum of its numbers."
ALL_PAIRS = "On the way a table of all pairs of pictures, (n, n), is made. Multiply features instead: Y.T @ X."


class Largest(TorchFunctionMode):
    """The largest tensor that is made meanwhile, in numbers."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, result.numel() if isinstance(result, torch.Tensor) else 0)
        return result


def no_tables(function):
    """Neither torch nor NumPy may make as many numbers as there are pairs."""
    try:
        for n in (9, 300):  # in the first round, what is imported on the way comes into memory
            x, y = torch.randn(n, 4), torch.randn(n, 3)
            with Largest() as largest:
                call(function, x, y)
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.start()
    finally:
        tracemalloc.stop()
    if max(largest.numbers, used / 4) >= n * n:
        raise Wrong(ALL_PAIRS, "a table of all pairs")


def features():
    x = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 2.0], [1.0, 6.0]])
    yield x[torch.randperm(4)], 2 * whole(4, 2) + torch.eye(4, 2)  # no column of y is constant
    for n, p, q in ((20, 4, 4), (12, 6, 3), (5, 3, 7), (30, 2, 4)):
        x = torch.randn(n, p) + 2 * torch.randn(p)
        yield x, torch.randn(n, q) + torch.randn(q) + x[:, :1]


@written("The same whatever way the features are turned or scaled.", features, tolerance=1e-3, also=(no_tables,))
def linear_cka(wrong, x, y):
    """`(x, y) -> ` linear CKA of features `(n, p)` and `(n, q)`, the plain (biased) one."""
    if wrong("unbiased estimate", "This is the unbiased estimate; the plain one is asked for, by the formula above."):
        return interpret.linear_cka(x, y)
    centre = wrong.choose(
        lambda x: x - x.mean(0),
        ("CKA without centring", NOT_CENTRED, lambda x: x),
        ("centred over the features", FEATURES, lambda x: x - x.mean(1, keepdim=True)),
        ("one mean for all features", ONE_MEAN, lambda x: x - x.mean()),
        ("features scaled", SCALED, lambda x: (x - x.mean(0)) / x.std(0)),
    )
    half = [wrong("only one centred", "Only one of the two is centred; both must be.", place) for place in (0, 1)]
    X, Y = (a if left else centre(a) for a, left in zip((x, y), half, strict=True))
    length = wrong.choose(
        torch.linalg.norm,
        *(("sum, not length", SUM, total) for total in (torch.sum, lambda a: a.abs().sum())),
        ("another norm", "That is the largest singular value; take matrix.norm().", lambda a: torch.linalg.norm(a, 2)),
    )
    own = "Below stand the lengths of X.T @ X and Y.T @ Y."
    above, below = length(Y.T @ X), length(X.T @ X) * length(Y.T @ Y)
    below = wrong.choose(
        below,
        *(("lengths of the features", own, (X.norm() * Y.norm()) ** power) for power in (1, 2)),
        *(("one length forgotten", "Both lengths stand below.", length(a.T @ a) ** n) for a in (X, Y) for n in (1, 2)),
        ("lengths added", "The two lengths are multiplied.", length(X.T @ X) + length(Y.T @ Y)),
        ("root of the denominator", "The root is in the lengths already.", below**0.5),
        ("denominator squared too", SQUARES, below**2),
        ("not divided", "Divide by the lengths of X.T @ X and Y.T @ Y.", 1.0),
    )
    above = above if wrong("numerator not squared", "The length of Y.T @ X is squared above the line.") else above**2
    root = wrong("norms not squared", "That is the root of it: the length in the numerator is squared.")
    return float(above / below) ** (0.5 if root else 1)
