"""Checks of notebook 03: softmax and scale, queries, keys and values, heads, masks."""

import torch
from torch import nn

from .reference import chosen, stated, whole, written

__all__ = [
    "zebra",
    "mix",
    "attention_weights",
    "score_divisor",
    "split_heads",
    "merge_heads",
    "repair_attention",
    "masked_attention",
]

TOKENS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # sky, cloud, zebra

OVER_QUERIES = (
    "Each column sums to 1, the rows do not. A row belongs to one query, and it must share out exactly 1 among the "
    "keys: dim=-1."
)
OVER_HEADS = "The weights share out 1 among the heads; they must among the keys, the last axis: dim=-1."
OVER_IMAGES = OVER_HEADS.replace("heads", "images")
NO_SCALE = "With d numbers a vector, q @ k has variance d. Divide the scores by the root of d."
WHOLE_WIDTH = (
    "The root is of the whole width D = H * d. Each dot product sums over the d numbers of one head: divide by sqrt(d)."
)
DIVIDED_BY_D = "The variance of a score is d. Divide by its root, sqrt(d)."
MULTIPLIED = "The scores grow instead: divide by sqrt(d)."
SCALED_AFTER = "The rows sum to 1/sqrt(d). Scale the scores, then take the softmax."
SWAPPED = "A row belongs to a query, so q stands first: q @ k.transpose(-2, -1)."
ALL_AXES = "k.T reverses all four axes; only the last two change places: k.transpose(-2, -1)."
NO_SOFTMAX = "These are the scaled scores: turn each row into weights with softmax."
SIGMOID = "A sigmoid weighs each key alone, so that a row does not sum to 1; softmax shares out 1 among the keys."
NOT_DIVIDED = "Exponentials alone do not sum to 1: divide each row by its sum."


def weigh(wrong, q, k, keep=None):
    """Attention weights `(B, H, N, N)`, with the mistakes of the softmax, the scale and the product."""
    B, H, N, d = q.shape
    others = (("N, the tokens", N), ("H, the heads", H), ("B, the images", B))
    if wrong("q and k swapped", SWAPPED):
        q, k = k, q
    q, k = wrong.choose(
        (q, k),
        ("query with query", "Each query is compared with the queries; compare it with the keys, k.", (q, q)),
        ("key with key", "Each key is compared with the keys; the rows belong to the queries, q.", (k, k)),
    )
    turned = k.transpose(-2, -1)
    dots = q @ wrong.choose(
        turned,
        ("all axes turned", ALL_AXES, k.T),
        ("reshaped, not transposed", "reshape tears the keys apart; k.transpose(-2, -1).", k.reshape(turned.shape)),
    )
    scores = dots / wrong.choose(
        d**0.5,
        ("missing 1/sqrt(d)", NO_SCALE, 1.0),
        ("sqrt of the whole width", WHOLE_WIDTH, (H * d) ** 0.5),
        ("divided by d", DIVIDED_BY_D, d),
        *(("root of another axis", f"This is the root of {what}; d is q.shape[-1].", n**0.5) for what, n in others),
        ("multiplied by sqrt(d)", MULTIPLIED, d**-0.5),
    )
    if keep is not None:
        scores = scores.masked_fill(~keep, -torch.inf)
    if wrong("scaled after the softmax", SCALED_AFTER):
        return dots.softmax(-1) / d**0.5
    if wrong("no softmax", NO_SOFTMAX):
        return scores
    if wrong("sigmoid", SIGMOID):
        return scores.sigmoid()
    if wrong("not divided by the sum", NOT_DIVIDED):
        return scores.exp()
    over = ("softmax over the queries", OVER_QUERIES, -2), ("softmax over the heads", OVER_HEADS, 1)
    return scores.softmax(wrong.choose(-1, *over, ("softmax over the images", OVER_IMAGES, 0)))


def queries_and_keys():
    yield whole(1, 1, 2, 2), whole(1, 1, 2, 2)
    for B, H, N, d in ((2, 3, 5, 4), (1, 2, 7, 16), (3, 4, 2, 9), (1, 1, 1, 4)):
        yield tuple(torch.randn(2, B, H, N, d))


@chosen("c", "The zebra listens mostly to itself, but 44 % of its new vector comes from sky and cloud.")
def zebra():
    """Which token the zebra's new vector resembles most, as a letter."""
    return {
        "a": ("opposites", "Sky scores 0.0 with the zebra, the lowest of the three: it gets the smallest weight."),
        "b": (
            "more neighbours",
            "Add up the weights of sky and cloud and compare with the zebra's own: exp(0), exp(0.1), exp(1).",
        ),
        "d": ("equal weights", "Weights are equal where scores are, and the zebra's are 0.0, 0.1 and 1.0."),
    }


@stated(
    "Each new vector is a weighted mean of all three tokens.",
    "Multiply the weights, softmax(tokens @ tokens.T), by the tokens.",
    tolerance=1e-3,
    together=2,
)
def mix(wrong):
    """The three tokens mixed with their attention weights, `(3, 2)`."""
    scores = TOKENS @ TOKENS.T / (2**0.5 if wrong("scores divided", "Nothing is divided by a root here yet.") else 1)
    weights = scores.softmax(0 if wrong("softmax over the queries", OVER_QUERIES) else -1)
    weights = wrong.choose(
        weights,
        ("no softmax", "These are the scores times the tokens: mix with the weights, softmax first.", scores),
        ("equal weights", "This is the plain mean of the tokens, without the weights.", torch.full((3, 3), 1 / 3)),
        ("not mixed", "These are the tokens as they were: multiply by the weights.", torch.eye(3)),
    )
    order = "The tokens stand first: write weights @ tokens, (N, N) @ (N, D), so that row i mixes with row i's weights."
    turned = (("wrong order", order, TOKENS.T @ weights), ("wrong order", order, TOKENS.T @ weights.T))
    mixed = weights @ TOKENS
    added = "The old tokens were added; the new ones are the mixtures alone."
    return wrong.choose(mixed, *turned, ("tokens added", added, TOKENS + mixed))


@written("Each row of the attention is positive and sums to 1, at every width d.", queries_and_keys)
def attention_weights(wrong, q, k):
    """A function of queries and keys `(B, H, N, d)` that returns the attention weights `(B, H, N, N)`."""
    return weigh(wrong, q, k)


@stated(
    "4 * sqrt(512) = 90.5: the root of d is right only while the numbers in q and k have variance 1.",
    "Draw q and k as the hint does and measure the standard deviation of their scores.",
    tolerance=0.03,
)
def score_divisor(wrong):
    """By what to divide q @ k so that its variance is 1, where d = 512 and the numbers in q and k have deviation 2."""
    root = 512**0.5
    return wrong.choose(
        4 * root,
        ("deviation left out", "sqrt(512) is right for numbers of deviation 1. Here each is twice as large.", root),
        ("one deviation", "This is right if only q, or only k, is twice as large.", 2 * root),
        ("divided by the variance", "That is the variance. To bring it to 1, divide by its root.", 16 * 512),
        ("divided by d", "That is the variance for deviation 1. Divide by the root of the variance.", 512),
        ("inverse", "So small a number is one to multiply by. Asked is the number to divide by.", 1 / (4 * root)),
    )


def split(wrong, x, H):
    """Heads `(B, H, N, d)` of tokens `(B, N, H*d)`, with the mistakes of the order."""
    B, N, D = x.shape
    d = D // H
    alone = (
        "reshape alone reads the numbers in order, so head 0 gets the first tokens whole and no other token. Every "
        "head needs d numbers of each token: reshape to (B, N, H, d), then swap N and H."
    )
    every = "This gives a head every H-th number. Head 0 takes the first d numbers: reshape to (B, N, H, d)."
    if wrong("heads split by reshape alone", alone):
        return x.reshape(B, H, N, d)
    heads = (
        x.reshape(B, N, d, H).transpose(2, 3)
        if wrong("heads interleaved", every)
        else x.reshape(B, N, H, d)
    )  # fmt: skip
    if wrong("heads not moved", "The numbers are cut rightly, the axes are still (B, N, H, d). Swap N and H."):
        return heads
    return heads.permute(
        wrong.choose(
            (0, 2, 1, 3),
            ("heads before the batch", "The heads stand before the batch: the axes are (B, H, N, d).", (2, 0, 1, 3)),
            ("numbers before tokens", "The last two axes are swapped: they are (B, H, N, d).", (0, 2, 3, 1)),
        )
    )


@written(
    "Each head has its own d numbers of every token.",
    lambda: (
        (whole(1, 2, 4), 2),
        *((torch.randn(B, N, H * d), H) for B, N, H, d in ((2, 5, 3, 4), (1, 3, 2, 5), (3, 4, 4, 2), (2, 1, 1, 3))),
    ),
)
def split_heads(wrong, x, num_heads):
    """A function of tokens `(B, N, D)` and H that returns heads `(B, H, N, d)`."""
    return split(wrong, x, num_heads)


def merge(wrong, x):
    """Tokens `(B, N, H*d)` of heads `(B, H, N, d)`, with the mistakes of the order."""
    B, H, N, d = x.shape
    alone = (
        "reshape reads (B, H, N, d) in order, so token 0 gets the first tokens of head 0. Bring the heads next to d "
        "first, as (B, N, H, d), then reshape."
    )
    if wrong("heads merged without transpose", alone):
        return x.reshape(B, N, H * d)
    interleaved = "The heads are interleaved number by number. They stand side by side: (B, N, H, d), then reshape."
    if wrong("heads interleaved", interleaved):
        return x.permute(0, 2, 3, 1).reshape(B, N, H * d)
    other = "Other axes changed places: H comes next to d, (B, N, H, d), before the reshape."
    if wrong("wrong axes swapped", other):
        return x.transpose(2, 3).reshape(B, N, H * d)
    if wrong("wrong axes swapped", other, 1):
        return x.transpose(1, 3).reshape(B, N, H * d)
    if wrong("heads not merged", "The axes are in order, (B, N, H, d): now join H and d by reshape."):
        return x.transpose(1, 2)
    return x.transpose(1, 2).reshape(B, N, H * d)


@written(
    "The heads of each token stand side by side, and no token holds another's numbers.",
    lambda: (
        (whole(1, 2, 2, 2),),
        *((torch.randn(shape),) for shape in ((2, 3, 5, 4), (1, 2, 3, 5), (3, 4, 4, 2), (2, 1, 1, 3))),
    ),
)
def merge_heads(wrong, x):
    """A function of heads `(B, H, N, d)` that returns tokens `(B, N, D)`."""
    if wrong("heads averaged", "The heads are averaged; keep all their numbers, side by side."):
        return x.mean(1)
    if wrong("heads added", "The heads are added up; keep all their numbers, side by side."):
        return x.sum(1)
    return merge(wrong, x)


def attention_parts():
    for B, N, H, d in ((1, 2, 2, 2), (2, 5, 3, 4), (1, 6, 2, 8)):
        D = H * d
        qkv, proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        nn.init.normal_(qkv.weight, std=1.5 * D**-0.5)  # scores that matter, so that each fault shows
        yield torch.randn(B, N, D), qkv, proj, H


@written("All three faults are gone; each of them would have trained without an error message.", attention_parts)
def repair_attention(wrong, x, qkv, proj, num_heads):
    """A function of `x, qkv, proj, num_heads` (two linear layers) that is multi-head self-attention."""
    tokens, D = qkv(x), x.shape[-1]
    between = "qkv holds all queries, then all keys, then all values: reshape to (B, N, 3, H, d)."
    parts = wrong.choose(
        tokens.chunk(3, dim=-1),
        ("parts of qkv interleaved", between, tokens.unflatten(-1, (-1, 3)).unbind(-1)),
        ("parts of qkv interleaved", between, tokens.unflatten(-1, (num_heads, 3, -1)).movedim(-2, 0).flatten(3)),
    )
    q, k, v = (split(wrong, part, num_heads) for part in parts)
    if wrong("nothing mended", "All three faults are left: the divisor, the softmax, the way back to (B, N, D)."):
        return proj(((q @ k.mT / D**0.5).softmax(-2) @ v).reshape(x.shape))
    k, v = wrong.choose(
        (k, v),
        ("q mixed", "The weights mix the queries; what is mixed are the values, v.", (k, q)),
        ("k mixed", "The weights mix the keys; what is mixed are the values, v.", (k, k)),
        ("k and v swapped", "The middle third of qkv are the keys, the last the values.", (v, k)),
    )
    mixed = merge(wrong, weigh(wrong, q, k) @ v)
    return mixed if wrong("no output projection", "The last linear layer, proj, is not used.") else proj(mixed)


def masks():
    yield whole(1, 1, 2, 2), whole(1, 1, 2, 2), whole(1, 1, 2, 2), torch.tensor([[True, False]])
    for B, H, N, d in ((2, 3, 6, 4), (1, 2, 5, 8), (3, 1, 4, 4)):
        keep = torch.rand(B, N) < 0.6
        keep[:, 0], keep[:, 1] = True, False
        yield *torch.randn(3, B, H, N, d), keep
    yield *torch.randn(3, 2, 2, 4, 3), torch.ones(2, 4, dtype=torch.bool)


@written("No token hears the masked ones, and each row still sums to 1.", masks)
def masked_attention(wrong, q, k, v, keep):
    """A function of `q, k, v` `(B, H, N, d)` and `keep` `(B, N)` that lets no token listen to those not kept."""
    columns, rows = keep[:, None, None, :], keep[:, None, :, None]
    after = "Weights or values were set to 0 after the softmax, so the rows no longer sum to 1. Mask the scores."
    row = "The rows were masked: these tokens hear nothing. Mask the columns, so that they are not heard."
    zero = "A score of 0 still gets weight, for exp(0) = 1. A score of -inf gets none, for exp(-inf) = 0."
    both = "Tokens that are not kept still listen, and their rows sum to 1: mask the columns alone."
    inverted = "The mask is inverted: keep is True where a token may be heard, so fill where it is False, ~keep."
    if wrong("not masked", "The mask changes nothing yet: tokens not kept still have weight."):
        return weigh(wrong, q, k) @ v
    if wrong("not renormalised", after):
        return (weigh(wrong, q, k) * columns) @ v
    if wrong("queries masked", row):
        return (weigh(wrong, q, k) * rows) @ v
    if wrong("queries masked", row, place=1):
        return weigh(wrong, q, k, rows) @ v
    scores, few = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, "The masked tokens still have some weight: use -inf."
    for place, low in enumerate((-1.0, -10.0)):
        if wrong("mask too weak", few, place):
            return scores.masked_fill(~columns, low).softmax(-1) @ v
    if wrong("queries masked", row, place=2):
        return scores.masked_fill(~rows, -1e9).softmax(-1) @ v
    if wrong("scores set to 0", zero):
        return (scores * columns).softmax(-1) @ v
    nothing = wrong("mask inverted", inverted, place=1)  # where none is heard, torch's own attention gives 0, not nan
    mixed = weigh(wrong, q, k, ~columns if nothing or wrong("mask inverted", inverted) else columns) @ v
    return wrong.choose(
        mixed.nan_to_num() if nothing else mixed,
        ("queries masked too", both, mixed.masked_fill(~rows, torch.nan)),  # the softmax of -inf alone
        ("queries masked too", both, mixed * rows),  # or that mended, or rows set to 0
    )
