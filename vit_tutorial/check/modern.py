"""Checks of notebook 13, The modern ViT: rotary positions, RMSNorm, QK-norm, SwiGLU, registers."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .attention import DIVIDED_BY_D, MULTIPLIED, NO_SCALE, NO_SOFTMAX, OVER_QUERIES, SWAPPED
from .encoder import READY_MADE, toy
from .reference import chosen, stated, whole, written

__all__ = [
    "same_score",
    "rotary_turn",
    "grid_angles",
    "repaired_rotary",
    "rms_norm",
    "largest_score",
    "swiglu",
    "with_registers",
    "swiglu_width",
    "squeezed_places",
]
NO_NORM = dict.fromkeys(
    (*READY_MADE, "_fused_rms_norm"),
    "A ready-made norm does the work here. Write it yourself, from squares, mean and root.",
)
SIGN = "(a, b) becomes (a cos - b sin, b cos + a sin)."


def turned(wrong, x, angles):
    """Vectors `(N, d)` turned by angles `(N, d/2)`, with the mistakes of it."""
    row = "Each token has its own row of angles, and pair i takes number i of it; here another angle turns it."
    angles = wrong.choose(
        angles,
        ("turned the other way", f"This turns by minus the angle: {SIGN}", -angles),
        ("degrees", "The angles are in radians already, as sin and cos want them.", angles.deg2rad()),
        *(("another angle", row, x.expand_as(angles)) for x in (angles[:1], angles.roll(1, 0), angles[:, :1])),
    )
    beside = wrong("neighbours paired", "Numbers 2i and 2i + 1 are paired here; the pairs are i and i + d/2.")
    pairs = lambda t: (t[:, 0::2], t[:, 1::2]) if beside else t.chunk(2, dim=1)  # noqa: E731
    torn = "The two numbers of a pair turn by different angles: angle i is that of i and of i + d/2."
    other = angles.repeat(1, 2) if beside else angles.repeat_interleave(2, dim=1)  # (N, d), laid out for other pairs
    (a, b), (one, two) = pairs(x), pairs(other) if wrong("pair torn apart", torn) else (angles, angles)
    swapped = wrong("sine and cosine swapped", "Cosines keep, sines mix: at angle 0 nothing turns, and cos 0 = 1.")
    sin, cos = (torch.cos, torch.sin) if swapped else (torch.sin, torch.cos)
    minus, plus = wrong.choose(
        (-1, 1),
        *(("sign wrong", f"One sign is wrong: {SIGN}", signs) for signs in ((1, 1), (-1, -1))),
        ("sines left out", f"This shrinks each number by its cosine: {SIGN}", (0, 0)),
    )
    first, second = a * cos(one) + minus * b * sin(one), b * cos(two) + plus * a * sin(two)
    early = "The second new number is made of the first *new* one: keep a and b until both are made."
    half = "Only one number of each pair is new; both turn."
    first, second = wrong.choose(
        (first, second),
        ("overwritten too early", early, (first, b * cos(two) + plus * first * sin(two))),
        *(("one half left", half, pair) for pair in ((first, b), (a, second))),
        ("halves swapped", "The second halves stand first.", (second, first)),
    )
    return torch.stack([first, second], dim=2).flatten(1) if beside else torch.cat([first, second], dim=1)


def to_turn():
    yield whole(1, 4, low=1, high=9), torch.tensor([[math.pi / 2, 0.0]])  # a quarter turn, and none
    for N, d in ((5, 8), (3, 12), (1, 6), (4, 4), (6, 2)):
        yield torch.randn(N, d), 2 * torch.randn(N, d // 2)
    yield 50 * torch.randn(8, 3).T, torch.linspace(-30.0, 40.0, 12).reshape(4, 3).T


@written("Each pair turns by its own angle, and no vector changes its length.", to_turn)
def rotary_turn(wrong, x, angles):
    """A function `(x (N, d), angles (N, d/2)) -> (N, d)` that turns numbers i and i + d/2 by angle i."""
    return turned(wrong, x, angles)


@chosen("b", "From the query to the key it is 3 on in both: turning both by the same angle changes no product.")
def same_score():
    """Which query and key have the score of places 2 and 5, whatever the vectors: "b", those at 0 and 3."""
    return {
        "a": ("direction lost", "From 5 to 2 it is 3 back, not 3 on: the angle between the two has the other sign."),
        "c": ("ratio for difference", "4 and 10 have the ratio of 2 and 5. Angles subtract, they do not divide."),
        "d": ("key alone", "The key stands where it stood, but the query has moved. What is left of both turns?"),
    }


def frequencies(wrong, d, temperature):
    """`temperature ** (-4 i / d)` for i = 0 .. d/4 - 1, with the mistakes of it."""
    both = "Each axis has d/4 frequencies, so that both together have d/2."
    i = torch.arange(d // 2 if wrong("too many frequencies", both) else d // 4)
    i = i + 1 if wrong("frequencies counted from 1", "i starts at 0: the fastest pair turns by 1 a place.") else i
    fall = "The exponent is -4 i / d: along each axis, i goes up to d/4 alone."
    power = wrong.choose(
        -4,
        *(("another exponent", fall, power) for power in (-2, -1, -8)),
        ("frequencies grow", "The exponent has lost its minus: the frequencies grow.", 4),
    )
    fixed = "temperature is not used: another number stands in its place."
    temperature = wrong.choose(temperature, *(("another temperature", fixed, number) for number in (100.0, 10000.0)))
    turns = temperature ** (power * i / d)
    last = "The last frequency is not 1 / temperature: the exponent is -4 i / d, and i ends at d/4 - 1."
    return wrong.choose(
        turns,
        ("frequencies to the end", last, temperature ** -torch.linspace(0, 1, len(i))),
        ("frequencies backwards", "The fastest frequency, i = 0, comes first.", turns.flip(0)),
    )


@written(
    "Half of the pairs turn by the row, half by the column, each at its own speed.",
    lambda: [
        *((2, 2, 8, 100.0), (2, 3, 16, 10000.0), (3, 2, 8, 50.0), (1, 4, 12, 100.0), (4, 1, 4, 7.0)),
        *((5, 3, 32, 100.0), (1, 1, 8, 100.0), (9, 8, 20, 1000.0)),
    ],
)
def grid_angles(wrong, rows, columns, d, temperature):
    """A function `(rows, columns, d, temperature) -> (P, d/2)`: the angles of a grid of patches."""
    if wrong("one long line", "Patches are numbered 0 to P - 1 here, as on one line: use a row and a column for each."):
        return torch.arange(rows * columns)[:, None] * temperature ** (-2 * torch.arange(d // 2) / d)
    y, x = torch.arange(rows).float(), torch.arange(columns).float()
    normalised = [2 * math.pi * (2 * (t + 0.5) / len(t) - 1) for t in (y, x)]
    y, x = wrong.choose(
        (y, x),
        ("counted from 1", "Rows and columns are counted from 0.", (y + 1, x + 1)),
        ("shares for places", "These are shares of the grid; here places are 0, 1, 2, ...", (y / rows, x / columns)),
        ("normalised places", "These are DINOv3's normalised places; here they are 0, 1, 2, ...", normalised),
    )
    down = wrong("column by column", "The patches run down the columns; they are counted row by row.")
    row, column = (torch.cartesian_prod(x, y).flip(1) if down else torch.cartesian_prod(y, x)).T[:, :, None]
    turns = frequencies(wrong, d, temperature)
    row, column = row * turns, column * turns  # (P, d/4)
    if wrong("rows and columns swapped", "The row's angles come first, then the column's; here they are swapped."):
        row, column = column, row
    alone = "One axis is missing: half of the pairs turn by the row, half by the column."
    angles = wrong.choose(
        torch.cat([row, column], dim=1),
        *(("one axis alone", alone, torch.cat([axis, axis], dim=1)) for axis in (row, column)),
        ("added, not joined", "Row and column are added; each has pairs of its own: join them.", row + column),
        ("taken in turn", "All of the row's come first.", torch.stack([row, column], 2).flatten(1)),
    )
    return wrong.choose(
        angles,
        *(
            ("each angle twice", "Each pair has one angle.", x)
            for x in (angles.repeat(1, 2), angles.repeat_interleave(2, dim=1))
        ),
        *(("not the angles", "The angles themselves are asked for.", x) for x in (angles.sin(), angles.cos())),
        (
            "full turns left out",
            "Full turns are taken off; the angles themselves are asked for.",
            angles % (2 * math.pi),
        ),
    )


def one_head():
    yield whole(3, 2), whole(3, 2), whole(3, 2), torch.tensor([[math.pi / 2], [math.pi]])
    for N, P, d in ((6, 4, 8), (5, 4, 4), (4, 4, 6), (9, 5, 12), (1, 1, 2)):
        yield *1.5 * torch.randn(3, N, d), 2 * torch.randn(P, d // 2)
    yield *torch.randn(3, 8, 7).mT, 20 * torch.rand(4, 4)


def placed(wrong, x, angles):
    """Tokens `(N, d)` of which the last P are turned by angles `(P, d/2)`, with the mistakes of it."""
    P, first = len(angles), len(x) - len(angles)
    why = "The angles are laid on from token {}, so that tokens without a place turn: they are those of the last P."
    start = wrong.choose(first, ("prefix turned", why.format(0), 0), ("registers turned", why.format(1), min(1, first)))
    end = "The angles are laid on from the end backwards: the first row is that of the first patch."
    angles = angles.flip(0) if wrong("angles backwards", end) else angles
    new = turned(wrong, x[start : start + P], angles)
    order = "The tokens have changed places: those without a place stay in front, torch.cat([x[:-P], turned])."
    parts = wrong.choose(
        [x[:start], new, x[start + P :]],
        *(("order changed", order, parts) for parts in ([new, x[:first]], [new, x[P:]], [x[P:], new])),
    )
    return torch.cat(parts)


@written("Queries and keys turn, values do not, and tokens without a place stay as they are.", one_head)
def repaired_rotary(wrong, q, k, v, angles):
    """A function `(q, k, v (N, d), angles (P, d/2)) -> (N, d)`: attention in which the last P tokens have a place."""
    (N, d), first = q.shape, len(q) - len(angles)
    what = "The values are turned too: places decide who listens to whom, not what is heard. Turn q and k alone."
    v = placed(wrong, v, angles) if wrong("values turned", what) else v
    still = "Where queries *and* keys turn, only differences of places remain: here {} do not turn."
    q = q if wrong("queries not turned", still.format("queries")) else placed(wrong, q, angles)
    against = wrong("keys turned backwards", "Keys turn the same way as queries, else the places are added.")
    k = k if wrong("keys not turned", still.format("keys")) else placed(wrong, k, -angles if against else angles)
    v = k if wrong("k mixed", "The weights mix the keys; what is mixed are the values, v.") else v
    q, k = (k, q) if wrong("q and k swapped", SWAPPED) else (q, k)
    out = "Tokens without a place are left out: they do not turn, but listen and are heard as all others."
    k, v = (k[first:], v[first:]) if wrong("prefix left out", out) else (k, v)
    scores = (
        q
        @ k.T
        / wrong.choose(
            d**0.5,
            ("missing 1/sqrt(d)", NO_SCALE, 1.0),
            ("divided by d", DIVIDED_BY_D, d),
            ("multiplied by sqrt(d)", MULTIPLIED, d**-0.5),
            ("root of another axis", "This is the root of N; d is q.shape[-1].", N**0.5),
        )
    )
    over = wrong.choose(-1, ("softmax over the queries", OVER_QUERIES, 0))
    mixed = (scores if wrong("no softmax", NO_SOFTMAX) else scores.softmax(over)) @ v
    back = "The patches stand first in what comes back; keep the tokens in the order in which they came."
    mixed = torch.cat([mixed[first:], mixed[:first]]) if wrong("order changed", back, place=3) else mixed
    return mixed[first:] if wrong("prefix left out", out, place=1) else mixed


def to_norm():
    yield torch.tensor([[3.0, 1.0, -1.0, 1.0], [6.0, -2.0, 4.0, 2.0]]), torch.tensor([2.0, 1.0, 1.0, 3.0]), 1.0
    for eps, shape in ((0.3, (2, 5, 12)), (0.1, (7, 6)), (0.5, (8,)), (0.2, (2, 3, 4, 5)), (0.4, (1, 1, 3))):
        x = 2 * torch.randn(shape) + 1
        x[:1] *= x.ndim != 4  # tokens of zeros
        x[1:2] *= 0.1  # and small ones, beside which eps is large
        yield x, torch.rand(shape[-1]) + 0.5, eps
    yield 1e4 * torch.randn(6, 3, 2).mT, torch.randn(3), 0.7


@written(
    "Each token has its own root mean square, and its mean is left as it was.", to_norm, together=3, without=NO_NORM
)
def rms_norm(wrong, x, weight, eps):
    """A function `(x (..., D), weight (D,), eps) -> (..., D)`: RMSNorm."""
    own = "Each token has a root mean square of its own, of its D numbers (dim=-1); this one is of "
    over = wrong.choose(
        -1,
        ("norm over the tokens", f"{own}all tokens (dim=-2).", -2),
        *(("norm over another axis", f"{own}axis {axis} (dim={axis}).", axis) for axis in (0, 1)),
        ("one norm for all", f"{own}everything, as without a dim.", (*range(x.ndim),)),
    )
    apart = x - x.mean(over, keepdim=True)
    norm = wrong("mean subtracted", "The mean is subtracted, as LayerNorm does; RMSNorm only divides.")
    above = wrong("mean subtracted", "The mean is subtracted above the line; RMSNorm only divides x.", place=1)
    std = wrong("standard deviation", "The spread about the mean is below the line: take the mean square of x itself.")
    total = (apart if norm or std else x).square().sum(over, keepdim=True)
    n = x.numel() // total.numel()
    total = total / wrong.choose(
        n,
        ("sum, not mean", "The root mean square takes the mean of the squares; this is their sum.", 1),
        ("divided by D - 1", "The mean of D squares is their sum over D, not D - 1.", n - 1),
    )
    other = "The result does not follow eps. Does another number, such as 1e-6, stand in its place?"
    missing = ("eps missing", "Without eps a token of zeros becomes nan.", 0.0)
    eps = wrong.choose(eps, missing, ("another eps", other, 1e-6))
    outside = wrong("eps outside the root", "Eps belongs inside the root, beside the mean square.")
    floor = wrong("eps as a floor", "Eps is added to the mean square; here it is only the least that this may be.")
    root = total.clamp(min=eps) if floor else total if outside else total + eps
    root = root if wrong("root missing", "Divide by the *root* of mean square + eps.") else root.sqrt()
    root = root + eps if outside else root
    root = 1.0 if wrong("not divided", "Nothing is divided by the root mean square.") else root
    y = (apart if norm or above else x) / root
    return wrong.choose(
        y * weight,
        ("weight missing", "weight is not used: it multiplies what is normed.", y),
        ("weight added", "weight is added; it multiplies what is normed.", y + weight),
        ("1 added to weight", "Multiply by weight itself, not by 1 + weight.", y * (1 + weight)),
    )


@stated(
    "Both have length sqrt(64) = 8, and where they point one way, their product is 64; the scale leaves 64 / 8.",
    "How long is a vector of 64 numbers whose mean square is 1? The product is largest where both point one way.",
)
def largest_score(wrong):
    """The largest score of RMS-normalised queries and keys of width 64, divided by sqrt(64): 8."""
    return wrong.choose(
        8,
        ("not divided", "That is the largest product; the score is divided by sqrt(64).", 64),
        ("length 1", "The mean of the squares is 1, not their sum: these vectors are longer than 1.", 1 / 8),
        ("cosine", "That is the largest cosine. How long are the vectors, and what divides their product?", 1),
        ("squared length for length", "That takes a vector's squared length for its length.", 512),
        ("unbounded", "The norm fixes how long a query and a key are, so their product has a bound.", math.inf),
        ("smallest", "That is the smallest score, where the two point opposite ways.", -8),
        ("mean score", "0 is the mean over random directions; asked is the largest that can occur.", 0),
    )


def gates():
    for B, N, D, hidden in ((1, 1, 2, 3), (2, 5, 4, 6), (1, 3, 8, 8), (3, 1, 5, 2), (1, 4, 4, 4)):
        layers = nn.Linear(D, hidden), nn.Linear(D, hidden), nn.Linear(hidden, D)
        for layer in layers:
            nn.init.normal_(layer.weight)  # gates that are not all half open
        yield 2 * torch.randn(N, B, D).transpose(0, 1), *layers
    yield 2 * torch.randn(6, D), *layers  # tokens of no batch


@written("The gate decides, number by number, how much of the other half goes on.", gates)
def swiglu(wrong, x, fc1_g, fc1_x, fc2):
    """A function `(x (..., D), fc1_g, fc1_x, fc2) -> (..., D)`: SwiGLU of three linear layers."""
    other = "This gate goes through {}; SwiGLU's goes through silu(g) = g * sigmoid(g)."
    act = wrong.choose(
        F.silu,
        ("sigmoid for silu", other.format("a sigmoid"), F.sigmoid),
        *(("gelu for silu", other.format("GELU"), partial(F.gelu, approximate=kind)) for kind in ("none", "tanh")),
        ("relu for silu", other.format("ReLU"), F.relu),
        ("no activation", other.format("no curve"), lambda t: t),
    )
    g, h = fc1_g(x), fc1_x(x)
    if wrong("gate on the wrong side", "silu belongs to fc1_g, the gate; what comes out of fc1_x stays as it is."):
        g, h = h, g
    alone = "{} is not used: the hidden numbers are silu(fc1_g(x)) * fc1_x(x)."
    hidden = wrong.choose(
        act(g) * h,
        ("both activated", "Both halves pass silu; only the gate does.", act(g) * act(h)),
        ("activated after the product", "silu stands around the product; only the gate passes it.", act(g * h)),
        ("activated before the layer", "silu stands before fc1_g; activate what comes out of it.", fc1_g(act(x)) * h),
        ("added, not multiplied", "A gate multiplies; here the halves are added.", act(g) + h),
        ("one layer left out", alone.format("fc1_x"), act(g)),
        *(("one layer left out", alone.format("fc1_g"), t) for t in (h, act(h))),
        *(("one layer twice", alone.format("One half"), act(t) * t) for t in (g, h)),
    )
    y = hidden if wrong("fc2 missing", "These are the hidden numbers; fc2 leads back to width D.") else fc2(hidden)
    return x + y if wrong("input added", "x is added. The block does that; the MLP gives its branch alone.") else y


@stated(
    "Three matrices of D times 8 D / 3 hold as many weights as two of D times 4 D.",
    "Count the weights: an MLP has two matrices of D times 4 D, SwiGLU three of D times hidden.",
    tolerance=1e-6,  # a whole number
)
def swiglu_width(wrong):
    """The hidden width at which SwiGLU has as many weights as an MLP of ratio 4 at D = 384, biases aside: 1024."""
    ratio = "That is a ratio; the width itself is asked for, at D = 384."
    return wrong.choose(
        1024,
        ("width of the MLP", "That is the MLP's own width: then SwiGLU has half as many weights again.", 1536),
        ("fc2 left out", "That makes the first layers equal; fc2 is smaller then, and leaves room for more.", 768),
        ("one matrix counted", "Of this width one matrix would do; SwiGLU has three.", 3072),
        ("biases counted", "That is with the biases: count the numbers in the matrices alone.", 1023),
        ("half of the MLP counted", "An MLP has two matrices of D times 4 D, one up and one down.", 512),
        *(("ratio for width", ratio, value) for value in (8 / 3, 2 / 3)),
        ("weights for width", "That is how many weights there are; which width gives as many?", 8 * 384**2),
    )


def streams():
    yield whole(1, 1, 2), whole(1, 2), whole(1, 2, 2), [toy("RunningSums", lambda x: x.cumsum(1))]
    for L, B, R, P, D in ((2, 2, 4, 3, 5), (3, 3, 2, 6, 4), (2, 1, 1, 1, 3), (1, 2, 3, 3, 2), (2, 3, 3, 3, 3)):
        mixes = [partial(lambda w, x: x.cumsum(1) / 2 + (x.flip(1) @ w).sin(), torch.randn(D, D)) for _ in range(L)]
        tokens = torch.randn(B, 1, D), torch.randn(R, D), torch.randn(P, B, D).transpose(0, 1)
        yield *tokens, [toy("Mixes", mix) for mix in mixes]


def through(wrong, x, blocks, R):
    """All tokens after all blocks, with the mistakes of the loop."""
    chain = "Each block reads what the one before it gave: x = block(x) in the loop, and return after it."
    blocks = wrong.choose(
        blocks,
        *(("one block alone", chain, some) for some in (blocks[:1], blocks[-1:])),
        ("blocks backwards", "The last block comes first; go through the list from its start.", blocks[::-1]),
        *(
            ("one block left out", "The loop leaves a block out: it goes through all.", x)
            for x in (blocks[:-1], blocks[1:])
        ),
        ("blocks not run", "The tokens never go through the blocks.", []),
    )
    fresh = wrong("registers fresh in each block", "Each block gets fresh registers; what one wrote there is lost.")
    early = wrong("registers dropped too early", "The registers are gone after the first block; they go through all.")
    twice = wrong("input added", "x is added to what a block gives. A block does that itself: x = block(x).")
    for n, block in enumerate(blocks):
        y = x + block(x) if twice else block(x)
        between = [x[:, 1 : 1 + R]] * fresh  # as they came into the block
        x = torch.cat([y[:, :1], *between, y[:, 1 + R :]], dim=1) if fresh or (early and n == 0) else y
    return x


@written("The registers went through every block, and no head reads them.", streams)
def with_registers(wrong, cls_token, registers, patches, blocks):
    """A function `(cls_token (B, 1, D), registers (R, D), patches (B, P, D), blocks) -> ((B, D), (B, P, D))`."""
    (B, P, _), R = patches.shape, len(registers)
    once = "The registers are there once, and every image needs them: registers.expand(B, -1, -1)."
    each = wrong.choose(
        registers.expand(B, -1, -1), *(("not for every image", once, x) for x in (registers[None], registers))
    )
    order, last = "{}: the order is class token, registers, patches, as in timm.", slice(-P, None)
    tokens, cls, where = wrong.choose(
        ([cls_token, each, patches], 0, last),
        ("registers last", order.format("The registers stand last"), ([cls_token, patches, each], 0, slice(1, 1 + P))),
        ("registers first", order.format("The registers stand first"), ([each, cls_token, patches], R, last)),
        ("registers left out", "The blocks never see the registers: join them in.", ([cls_token, patches], 0, last)),
    )
    x = through(wrong, torch.cat(tokens, dim=1), blocks, R)
    inside = "Registers are among the patches: cut off the first 1 + R tokens, class token and registers."
    off = "The cut is one off: 1 + R tokens, the class token and R registers, stand before P patches."
    cuts = slice(R, None), slice(R, R + P), slice(2 + R, None), slice(1 + R, -1)
    where = wrong.choose(
        where,
        *(("registers not removed", inside, cut) for cut in (slice(1, None), slice(1, 1 + P))),
        *(("cut one off", off, cut) for cut in cuts),
    )
    axis = "The class token still has its axis of 1: (B, D) is asked for, x[:, 0]."
    token, patches = x[:, cls : cls + 1] if wrong("axis kept", axis) else x[:, cls], x[:, where]
    joined = "Class token and patches come back as one tensor; return them as a pair."
    return wrong.choose(
        (token, patches),
        ("pair swapped", "The class token comes first, then the patches.", (patches, token)),
        ("not apart", "All tokens come back as one tensor; return the class token and the patches, a pair.", x),
        ("not apart", joined, torch.cat([x[:, :1], x[:, -P:]], dim=1)),
        ("registers returned", "The registers stay behind: two tensors are asked for.", (token, x[:, 1:-P], patches)),
    )


@written(
    "Each centre keeps its share of the image, in the places that training knew.",
    lambda: [(4, 2), (8, 8), (1, 4), (16, 8), (7, 14), (12, 8), (3, 5)],
)
def squeezed_places(wrong, count, trained):
    """A function `(count, trained) -> (count,)`: axial places of count patches, squeezed into those of trained ones."""
    i = torch.arange(count)
    edges = "The left edges keep their share here. Place 0 is a centre: it lies half a patch inside."
    ends = "First and last place are those of training; but the centres of finer patches lie nearer to the border."
    ratio = wrong.choose(
        trained / count,
        ("upside down", "More patches must lie closer together: times trained, divided by count.", count / trained),
        ("not squeezed", "The places go on past those of training; squeeze them by trained / count.", 1.0),
    )
    places = wrong.choose(
        (i + 0.5) * ratio - 0.5,
        ("edges for centres", edges, i * ratio),
        ("ends for centres", ends, i * (trained - 1) / max(count - 1, 1)),
        ("ends for centres", ends, torch.true_divide(i * (trained - 1), count - 1)),  # 0/0 for one patch
        ("left edges", "i is the left edge of patch i; its centre is at i + 0.5.", i * ratio - 0.5),
        ("half not taken back", "A centre at 0.5 patches is place 0: subtract the half again.", (i + 0.5) * ratio),
        ("counted from 1", "The first patch is number 0, with its centre at 0.5.", (i + 1.5) * ratio - 0.5),
        ("right edges", "i + 1 is the right edge of patch i; its centre is at i + 0.5.", (i + 1) * ratio - 0.5),
        ("a share", "These are shares of the image, from 0 to 1: times trained, less a half.", (i + 0.5) / count),
    )
    if wrong("rounded", "The places are whole numbers; between those of training is where the finer patches lie."):
        return places.round()
    held = "The places are held between those of training; the centres of finer patches lie up to half a patch outside."
    places = places.clamp(0, trained - 1) if wrong("held at the ends", held) else places
    return places.flip(0) if wrong("backwards", "The first patch has the lowest place.") else places
