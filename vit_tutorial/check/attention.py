"""Checks of notebook 03: softmax and scale, queries, keys and values, heads, masks."""

from itertools import product

import torch
from torch import nn

from .verdict import Wrong, call, exercise, expect_choice, expect_number, expect_tensor

__all__ = [
    "zebra",
    "mix",
    "attention_weights",
    "split_heads",
    "merge_heads",
    "repair_attention",
    "score_divisor",
    "masked_attention",
]

TOKENS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # sky, cloud, zebra

OVER_QUERIES = (
    "each column sums to 1, the rows do not. A row belongs to one query, and it must share "
    "out exactly 1 among the keys: dim=-1."
)
NO_SCALE = "with d numbers a vector, q @ k has variance d. Divide the scores by the root of d."
WHOLE_WIDTH = (
    "the root is of the whole width D = H * d. Each dot product sums over the d numbers of one head: divide by sqrt(d)."
)
NO_TRANSPOSE = (
    "reshape reads (B, H, N, d) in order, so token 0 gets the first tokens of "
    "head 0. Bring the heads next to d first, as (B, N, H, d), then reshape."
)
WRONG_SPLIT = (
    "reshape alone reads the numbers in order, so head 0 gets the first tokens whole and no other token. Every head "
    "needs d numbers of each token: reshape to (B, N, H, d), then swap N and H."
)


@exercise
def zebra(answer):
    """Which token the zebra's new vector resembles most, as a letter."""
    expect_choice(
        answer,
        "c",
        {
            "a": ("opposites", "Sky scores 0.0 with the zebra, the lowest of the three: it gets the smallest weight."),
            "b": (
                "more neighbours",
                "Sky and cloud together weigh 0.44, the zebra alone 0.56: one strong match outweighs two weak ones.",
            ),
            "d": ("equal weights", "Weights are equal where scores are, and the zebra's are 0.0, 0.1 and 1.0."),
        },
    )
    return "The zebra listens mostly to itself, but 44 % of its new vector comes from sky and cloud."


@exercise
def mix(answer):
    """The three tokens mixed with their attention weights, `(3, 2)`."""
    scores = TOKENS @ TOKENS.T
    weights = scores.softmax(-1)
    order = (
        "the tokens stand first: write weights @ tokens, (N, N) @ (N, D), so that row i mixes with the weights of i."
    )
    mistakes = [
        ("softmax over the queries", scores.softmax(0) @ TOKENS, OVER_QUERIES),
        ("no softmax", scores @ TOKENS, "these are the scores times the tokens: mix with the weights, softmax first."),
        ("equal weights", TOKENS.mean(0).expand(3, 2), "this is the plain mean of the tokens, without the weights."),
        ("not mixed", TOKENS, "these are the tokens as they were: multiply by the weights."),
        ("wrong order", TOKENS.T @ weights, order),
        ("wrong order", TOKENS.T @ weights.T, order),
    ]
    expect_tensor(answer, weights @ TOKENS, mistakes, 1e-3, "mixed")
    return "Each new vector is a weighted mean of all three tokens."


@exercise
def attention_weights(answer):
    """A function of queries and keys `(B, H, N, d)` that returns the attention weights `(B, H, N, N)`."""
    for B, H, N, d in ((2, 3, 5, 4), (1, 2, 7, 16), (3, 4, 2, 9)):
        q, k = torch.randn(2, B, H, N, d)
        dots = q @ k.transpose(-2, -1)
        scores = dots / d**0.5
        mistakes = [
            ("softmax over the queries", scores.softmax(-2), OVER_QUERIES),
            (
                "softmax over the heads",
                scores.softmax(1),
                "the weights share out 1 among the heads; they must among the keys, the last axis: dim=-1.",
            ),
            ("missing 1/sqrt(d)", dots.softmax(-1), NO_SCALE),
            ("sqrt of the whole width", (dots / (H * d) ** 0.5).softmax(-1), WHOLE_WIDTH),
            ("divided by d", (dots / d).softmax(-1), "d is the variance of a score. Divide by its root, sqrt(d)."),
            (
                "multiplied by sqrt(d)",
                (dots * d**0.5).softmax(-1),
                "the scores grow instead: divide by it.",
            ),
            (
                "q and k swapped",
                scores.transpose(-2, -1).softmax(-1),
                "a row belongs to a query, so q stands first, q @ k.transpose(-2, -1).",
            ),
            (
                "scaled after the softmax",
                dots.softmax(-1) / d**0.5,
                "the rows sum to 1/sqrt(d). Scale the scores, then take the softmax.",
            ),
            ("no softmax", scores, "these are the scaled scores: turn each row into weights with softmax."),
        ]
        expect_tensor(call(answer, q, k), scores.softmax(-1), mistakes, what=f"the result for q {tuple(q.shape)}")
    return "Each row of the attention is positive and sums to 1, at every width d."


@exercise
def split_heads(answer):
    """A function of tokens `(B, N, D)` and H that returns heads `(B, H, N, d)`."""
    for B, N, H, d in ((2, 5, 3, 4), (1, 3, 2, 5), (3, 4, 4, 2)):
        x = torch.randn(B, N, H * d)
        expected = torch.stack(x.split(d, dim=-1), dim=1)
        mistakes = [
            ("heads split by reshape alone", x.reshape(B, H, N, d), WRONG_SPLIT),
            (
                "heads not moved",
                x.reshape(B, N, H, d),
                "the numbers are cut rightly, the axes are still (B, N, H, d). Swap N and H.",
            ),
            (
                "heads interleaved",
                x.reshape(B, N, d, H).permute(0, 3, 1, 2),
                "this gives a head every H-th number. Head 0 takes the first d numbers: reshape to (B, N, H, d).",
            ),
            ("heads before the batch", expected.transpose(0, 1), "the heads stand before the batch: (B, H, N, d)."),
        ]
        expect_tensor(call(answer, x, H), expected, mistakes, what=f"the result for x {tuple(x.shape)} and H = {H}")
    return "Each head has its own d numbers of every token."


@exercise
def merge_heads(answer):
    """A function of heads `(B, H, N, d)` that returns tokens `(B, N, D)`."""
    for B, N, H, d in ((2, 5, 3, 4), (1, 3, 2, 5), (3, 4, 4, 2)):
        x = torch.randn(B, H, N, d)
        mistakes = [
            ("heads merged without transpose", x.reshape(B, N, H * d), NO_TRANSPOSE),
            (
                "heads interleaved",
                x.permute(0, 2, 3, 1).reshape(B, N, H * d),
                "the heads are interleaved number by number. They stand side by side: (B, N, H, d), then reshape.",
            ),
            ("heads averaged", x.mean(1), "the heads are averaged; keep all their numbers, side by side."),
            ("heads added", x.sum(1), "the heads are added up; keep all their numbers, side by side."),
            (
                "heads not merged",
                x.transpose(1, 2),
                "the axes are in order, (B, N, H, d): now join H and d by reshape.",
            ),
        ]
        expected = torch.cat(x.unbind(1), dim=-1)
        expect_tensor(call(answer, x), expected, mistakes, what=f"the result for heads {tuple(x.shape)}")
    return "The heads of each token stand side by side, and no token holds another's numbers."


def multi_head(x, qkv, proj, H, over=-1, width="d", merge="transposed", split="per token"):
    """Multi-head self-attention, with the faults that the exercise knows."""
    B, N, D = x.shape
    heads = [part.reshape(B, N, H, D // H).transpose(1, 2) for part in qkv(x).chunk(3, dim=-1)]
    if split == "alone":
        heads = [part.reshape(B, H, N, D // H) for part in qkv(x).chunk(3, dim=-1)]
    q, k, v = heads
    divisor = {"d": (D // H) ** 0.5, "D": D**0.5, "none": 1.0}[width]
    mixed = (q @ k.transpose(-2, -1) / divisor).softmax(over) @ v
    return proj((mixed.transpose(1, 2) if merge == "transposed" else mixed).reshape(B, N, D))


FAULTS = {  # (option, value) -> (name, why); in the order in which they are reported
    ("over", -2): ("softmax over the queries", OVER_QUERIES),
    ("width", "none"): ("missing 1/sqrt(d)", NO_SCALE),
    ("width", "D"): ("sqrt of the whole width", WHOLE_WIDTH),
    ("merge", "alone"): ("heads merged without transpose", NO_TRANSPOSE),
    ("split", "alone"): ("heads split by reshape alone", WRONG_SPLIT),
}
OPTIONS = {
    "over": (-1, -2),
    "width": ("d", "none", "D"),
    "merge": ("transposed", "alone"),
    "split": ("per token", "alone"),
}


@exercise
def repair_attention(answer):
    """A function of `x, qkv, proj, num_heads` (two linear layers) that is multi-head self-attention."""
    for B, N, H, d in ((2, 5, 3, 4), (1, 6, 2, 8)):
        D = H * d
        qkv, proj, x = nn.Linear(D, 3 * D), nn.Linear(D, D), torch.randn(B, N, D)
        nn.init.normal_(qkv.weight, std=1.5 * D**-0.5)  # scores that matter, so that each fault shows
        mistakes = []
        for values in product(*OPTIONS.values()):
            chosen = dict(zip(OPTIONS, values, strict=True))
            found = [FAULTS[item] for item in chosen.items() if item in FAULTS]
            if found:
                name, why = found[0]
                more = " This fault is not the only one." if len(found) > 1 else ""
                mistakes.append((name, multi_head(x, qkv, proj, H, **chosen), why + more))
        expected = multi_head(x, qkv, proj, H)
        found = call(answer, x, qkv, proj, H)
        expect_tensor(found, expected, mistakes, what=f"the result for x {tuple(x.shape)}, H = {H}")
    return "All three faults are gone; each of them would have trained without an error message."


@exercise
def score_divisor(answer):
    """By what to divide q @ k so that its variance is 1, where d = 512 and the numbers in q and k have deviation 2."""
    root = 512**0.5
    mistakes = [
        ("deviation left out", root, "sqrt(512) is right for numbers of deviation 1. Here each is twice as large."),
        ("one deviation", 2 * root, "one factor 2 is missing: q is twice as large, and so is k."),
        ("divided by the variance", 16 * 512, "that is the variance. To bring it to 1, divide by its root."),
        ("divided by d", 512, "that is d. The variance is 512 * 2**2 * 2**2; divide by its root."),
        ("inverse", 1 / (4 * root), "that is the factor to multiply by. Asked is the number to divide by."),
    ]
    expect_number(answer, 4 * root, mistakes, tolerance=0.03, what="the divisor")
    return "4 * sqrt(512) = 90.5: the root of d is right only while the numbers in q and k have variance 1."


@exercise
def masked_attention(answer):
    """A function of `q, k, v` `(B, H, N, d)` and `keep` `(B, N)` that lets no token listen to those not kept."""
    for B, H, N, d in ((2, 3, 6, 4), (1, 2, 5, 8)):
        q, k, v = torch.randn(3, B, H, N, d)
        keep = torch.rand(B, N) < 0.6
        keep[:, 0], keep[:, 1] = True, False
        columns, rows = keep[:, None, None, :], keep[:, None, :, None]
        scores = q @ k.transpose(-2, -1) / d**0.5
        masked = scores.masked_fill(~columns, -torch.inf)
        mistakes = [
            ("not masked", scores.softmax(-1) @ v, "the mask changes nothing yet: tokens not kept still have weight."),
            (
                "not renormalised",
                (scores.softmax(-1) * columns) @ v,
                "the weights were set to 0 after the softmax, so the rows no longer sum to 1. Mask the scores.",
            ),
            (
                "scores set to 0",
                (scores * columns).softmax(-1) @ v,
                "a score of 0 still gets weight, for exp(0) = 1. A score of -inf gets none, for exp(-inf) = 0.",
            ),
            (
                "queries masked",
                (scores.softmax(-1) * rows) @ v,
                "the rows were masked: these tokens hear nothing. Mask the columns, so that they are not heard.",
            ),
            (
                "mask inverted",
                scores.masked_fill(columns, -torch.inf).softmax(-1) @ v,
                "the mask is inverted: keep is True where a token may be heard, so fill where it is False, ~keep.",
            ),
            (
                "missing 1/sqrt(d)",
                (masked * d**0.5).softmax(-1) @ v,
                NO_SCALE,
            ),
        ]
        found = call(answer, q, k, v, keep)
        if isinstance(found, torch.Tensor) and found.isnan().any():
            raise Wrong(
                "Some results are nan: a whole row of scores is -inf, so its softmax is 0/0. Mask the columns (keys), "
                "not the rows (queries): keep[:, None, None, :].",
                "queries masked",
            )
        expect_tensor(found, masked.softmax(-1) @ v, mistakes, what=f"the result for q {tuple(q.shape)}")
    return "No token hears the masked ones, and each row still sums to 1."
