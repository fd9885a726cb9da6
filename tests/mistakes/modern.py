"""Planted mistakes in the exercises of notebook 13."""

import math

import torch
import torch.nn.functional as F


def halves(first="a * cos - b * sin", second="b * cos + a * sin", angles="angles"):
    """`function(x, angles)` whose lines are written as text."""

    def function(x, angles_):
        names = {"angles": angles_, "torch": torch}
        angle = eval(angles, names)
        a, b = x.chunk(2, dim=-1)
        names |= {"a": a, "b": b, "cos": angle.cos(), "sin": angle.sin()}
        names["new"] = eval(first, names)
        return torch.cat([names["new"], eval(second, names)], dim=-1)

    return function


turn = halves()


def neighbours(x, angles):
    a, b = x[:, 0::2], x[:, 1::2]
    return torch.stack([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1).flatten(1)


def full(angles, other):
    """`function(x, angles)` that lays the angles out as `angles` says and turns pairs as `other` says."""
    return lambda x, own: x * angles(own).cos() + other(x) * angles(own).sin()


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


def rotate_neighbours(x):
    return torch.stack([-x[:, 1::2], x[:, 0::2]], -1).flatten(1)


def turned_in_place(x, angles):
    a, b = x.chunk(2, dim=-1)
    first = a * angles.cos() - b * angles.sin()
    b.mul_(angles.cos()).add_(a * angles.sin())
    a.copy_(first)
    return x


def grid(
    row="y", column="x", exponent="-4 * i / d", places="torch.cartesian_prod(rows, columns)", frequencies="d // 4"
):
    """`function(rows, columns, d, temperature)` whose parts are written as text."""

    def function(rows, columns, d, temperature):
        names = {"rows": torch.arange(rows), "columns": torch.arange(columns), "d": d, "torch": torch, "math": math}
        y, x = eval(places, names).float().T[:, :, None]
        names["i"] = torch.arange(eval(frequencies, names))
        f = temperature ** eval(exponent, names)
        return torch.cat([eval(row, {"y": y, "x": x}) * f, eval(column, {"y": y, "x": x}) * f], dim=1)

    return function


def summed(rows, columns, d, temperature):
    table = grid()(rows, columns, d, temperature)
    return table[:, : d // 4] + table[:, d // 4 :]


def in_turn(rows, columns, d, temperature):
    return grid()(rows, columns, d, temperature).unflatten(1, (2, -1)).mT.flatten(1)


def along_a_line(rows, columns, d, temperature):
    return torch.outer(torch.arange(rows * columns).float(), temperature ** (-2 * torch.arange(d // 2) / d))


def ends_at_two_pi(rows, columns, d, temperature):
    y, x = (2 * math.pi * ((torch.arange(n) + 0.5) / n * 2 - 1) for n in (rows, columns))
    f = temperature ** (-4 * torch.arange(d // 4) / d)
    return (torch.cartesian_prod(y, x)[:, :, None] * f).flatten(1)


def attention(lines="", weights="(q @ k.T / d**0.5).softmax(-1)", result="weights @ v"):
    """`function(q, k, v, angles)` whose lines are written as text; `part(x, n)` turns P tokens from token n on."""

    def function(q, k, v, angles):
        P, first = len(angles), len(q) - len(angles)

        def part(x, n=first, angles=angles):
            return torch.cat([x[:n], turn(x[n : n + P], angles), x[n + P :]])

        names = {
            "q": q,
            "k": k,
            "v": v,
            "angles": angles,
            "part": part,
            "first": first,
            "P": P,
            "d": q.shape[1],
            "turn": turn,
        }
        exec(lines or "q, k = part(q), part(k)", names)
        names["weights"] = eval(weights, names)
        return eval(result, names)

    return function


def in_place(q, k, v, angles):
    P = len(angles)
    q[-P:], k[-P:] = turn(q[-P:], angles), turn(k[-P:], angles)
    return (q @ k.T / q.shape[1] ** 0.5).softmax(-1) @ v


def over(root, top="x", last="x / root * weight"):
    """`function(x, weight, eps)` whose divisor and last line are written as text."""

    def function(x, weight, eps):
        names = {"x": x, "weight": weight, "eps": eps}
        return eval(last, {"root": eval(root, names), "x": eval(top, names), "weight": weight})

    return function


def normed_in_place(x, weight, eps):
    x /= (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x * weight


def gated(line):
    """`function(x, fc1_g, fc1_x, fc2)` whose line is written as text."""
    return lambda x, fc1_g, fc1_x, fc2: eval(
        line, {"x": x, "fc1_g": fc1_g, "fc1_x": fc1_x, "fc2": fc2, "F": F, "silu": F.silu}
    )


def registered(tokens="cls, each, patches", result="x[:, 0], x[:, 1 + R :]", loop="x = block(x)"):
    """`function(cls_token, registers, patches, blocks)` whose lines are written as text."""

    def function(cls_token, registers, patches, blocks):
        names = {"cls": cls_token, "registers": registers, "patches": patches, "R": len(registers), "torch": torch}
        names["each"], names["P"] = registers.expand(len(patches), -1, -1), patches.shape[1]
        names["x"] = names["start"] = torch.cat(eval(tokens, names), dim=1)
        for names["n"], names["block"] in enumerate(blocks):
            exec(loop, names)
        return eval(result, names)

    return function


def returned_in_the_loop(cls_token, registers, patches, blocks):
    x = torch.cat([cls_token, registers.expand(len(patches), -1, -1), patches], dim=1)
    for block in blocks:
        x = block(x)
        return x[:, 0], x[:, 1 + len(registers) :]


MEAN = "(x.square().mean(-1, keepdim=True) + eps).sqrt()"
FRESH = "x = block(x); x = torch.cat([x[:, :1], each, x[:, 1 + R :]], 1)"
EARLY = "x = block(x); x = torch.cat([x[:, :1], x[:, 1 + R :]], 1) if n == 0 else x"
CENTRES = "(i + 0.5) * t / n - 0.5"


def places(line):
    """`function(count, trained)` whose line is written as text."""
    return lambda n, t: eval(line, {"i": torch.arange(n), "n": n, "t": t, "torch": torch})


WRONG = [
    ("rotary_turn", lambda x, angles: turn(x, -angles), "turned the other way"),
    ("rotary_turn", halves("a * cos + b * sin", "b * cos - a * sin"), "turned the other way"),
    ("rotary_turn", neighbours, "neighbours paired"),
    ("rotary_turn", lambda x, angles: neighbours(x, -angles), "turned the other way + neighbours paired"),
    ("rotary_turn", halves("a * cos + b * sin"), "sign wrong"),
    ("rotary_turn", halves(second="b * cos - a * sin"), "sign wrong"),
    ("rotary_turn", halves("a * sin - b * cos", "b * sin + a * cos"), "sine and cosine swapped"),
    ("rotary_turn", halves(angles="angles.deg2rad()"), "degrees"),
    ("rotary_turn", halves(second="b"), "one half left"),
    ("rotary_turn", halves(second="b * cos + new * sin"), "overwritten too early"),
    ("rotary_turn", halves("b * cos + a * sin", "a * cos - b * sin"), "halves swapped"),
    ("rotary_turn", halves("a * cos", "b * cos"), "sines left out"),
    ("rotary_turn", halves(angles="angles[:1]"), "another angle"),
    ("rotary_turn", full(lambda t: t.repeat_interleave(2, 1), rotate_half), "pair torn apart"),
    ("rotary_turn", full(lambda t: t.repeat(1, 2), rotate_neighbours), "neighbours paired + pair torn apart"),
    ("rotary_turn", turned_in_place, "changed in place"),
    ("rotary_turn", lambda x, angles: turn(x, angles)[:, : angles.shape[1]], "wrong shape"),
    ("rotary_turn", lambda x, angles: x, "input returned"),
    ("rotary_turn", lambda x: x, "wrong arguments"),
    ("same_score", "a", "direction lost"),
    ("same_score", "c", "ratio for difference"),
    ("same_score", "d", "key alone"),
    ("same_score", 3, "not a choice"),
    ("grid_angles", grid("x", "y"), "rows and columns swapped"),
    ("grid_angles", grid(places="torch.cartesian_prod(columns, rows).flip(1)"), "column by column"),
    ("grid_angles", grid(exponent="-2 * i / d"), "another exponent"),
    ("grid_angles", grid(exponent="-2 * i / d", frequencies="d // 2"), "too many frequencies + another exponent"),
    ("grid_angles", grid(exponent="-4 * (i + 1) / d"), "frequencies counted from 1"),
    ("grid_angles", grid(exponent="4 * i / d"), "frequencies grow"),
    ("grid_angles", grid(places="torch.cartesian_prod(rows + 1, columns + 1)"), "counted from 1"),
    ("grid_angles", grid("y", "y"), "one axis alone"),
    ("grid_angles", in_turn, "taken in turn"),
    ("grid_angles", summed, "added, not joined"),
    ("grid_angles", along_a_line, "one long line"),
    ("grid_angles", ends_at_two_pi, "normalised places"),
    ("grid_angles", lambda *grid_: grid()(*grid_).repeat(1, 2), "each angle twice"),
    ("grid_angles", lambda *grid_: grid()(*grid_).repeat_interleave(2, 1), "each angle twice"),
    ("grid_angles", lambda *grid_: grid()(*grid_).sin(), "not the angles"),
    ("grid_angles", lambda rows, columns, *rest: grid()(rows, columns, *rest).unflatten(0, (rows, -1)), "wrong shape"),
    ("grid_angles", lambda *grid_: grid()(*grid_).tolist(), "not a tensor"),
    ("grid_angles", lambda *grid_: grid()(*grid_) % (2 * math.pi), "full turns left out"),
    ("grid_angles", lambda rows, columns, d, temperature: grid()(rows, columns, d, 100.0), "another temperature"),
    ("repaired_rotary", attention("q, k, v = part(q), part(k), part(v)"), "values turned"),
    ("repaired_rotary", attention("q, k = part(q, 0), part(k, 0)"), "prefix turned"),
    ("repaired_rotary", attention("q, k, v = part(q, 0), part(k, 0), part(v, 0)"), "values turned + prefix turned"),
    ("repaired_rotary", attention("n = min(1, first); q, k = part(q, n), part(k, n)"), "registers turned"),
    (
        "repaired_rotary",
        attention("t = angles.flip(0); q, k = (part(x, angles=t) for x in (q, k))"),
        "angles backwards",
    ),
    ("repaired_rotary", attention("q = part(q)"), "keys not turned"),
    ("repaired_rotary", attention("k = part(k)"), "queries not turned"),
    ("repaired_rotary", attention("pass"), "queries not turned + keys not turned"),
    ("repaired_rotary", attention("q, k = part(q), part(k, angles=-angles)"), "keys turned backwards"),
    ("repaired_rotary", attention(weights="(q @ k.T).softmax(-1)"), "missing 1/sqrt(d)"),
    ("repaired_rotary", attention(weights="(q @ k.T / d).softmax(-1)"), "divided by d"),
    ("repaired_rotary", attention(weights="(q @ k.T / d**0.5).softmax(0)"), "softmax over the queries"),
    ("repaired_rotary", attention("q, k, v = part(q), part(k)[first:], v[first:]"), "prefix left out"),
    ("repaired_rotary", attention("q, k, v = part(q)[first:], part(k)[first:], v[first:]"), "prefix left out"),
    ("repaired_rotary", attention(result="weights @ k"), "k mixed"),
    ("repaired_rotary", attention(weights="q @ k.T / d**0.5"), "no softmax"),
    ("repaired_rotary", in_place, "changed in place"),
    ("repaired_rotary", attention(result="weights"), "wrong shape"),
    ("repaired_rotary", attention("q, k = turn(q, angles), turn(k, angles)"), "RuntimeError"),
    ("rms_norm", lambda x, weight, eps: F.layer_norm(x, weight.shape, weight, None, eps), "forbidden"),
    ("rms_norm", over(MEAN, "x - x.mean(-1, keepdim=True)"), "mean subtracted"),
    ("rms_norm", over("(x.var(-1, keepdim=True, correction=0) + eps).sqrt()"), "standard deviation"),
    ("rms_norm", over("x.std(-1, keepdim=True) + eps"), "standard deviation + divided by D - 1 + eps outside the root"),
    ("rms_norm", over("(x.square().sum(-1, keepdim=True) + eps).sqrt()"), "sum, not mean"),
    ("rms_norm", lambda x, weight, eps: F.normalize(x, dim=-1) * weight, "sum, not mean + another eps"),
    ("rms_norm", over("x.square().mean(-1, keepdim=True).sqrt() + eps"), "eps outside the root"),
    ("rms_norm", over("x.square().mean(-1, keepdim=True).sqrt()"), "eps missing"),
    ("rms_norm", lambda x, weight, eps: F.rms_norm(x, weight.shape, weight, eps), "forbidden"),
    ("rms_norm", over("x.square().mean(-1, keepdim=True) + eps"), "root missing"),
    ("rms_norm", over(MEAN, last="x / root"), "weight missing"),
    ("rms_norm", over(MEAN, last="x / root + weight"), "weight added"),
    ("rms_norm", over(MEAN, last="x / root * (1 + weight)"), "1 added to weight"),
    ("rms_norm", over("(x.square().mean(0, keepdim=True) + eps).sqrt()"), "norm over another axis"),
    ("rms_norm", over("(x.square().mean() + eps).sqrt()"), "one norm for all"),
    ("rms_norm", over("(x.square().mean(-1) + eps).sqrt()"), "RuntimeError"),
    ("rms_norm", over("x.square().mean(-1, keepdim=True).clamp(min=eps).sqrt()"), "eps as a floor"),
    ("rms_norm", lambda x, weight, eps: torch.rms_norm(x, weight.shape, weight, eps), "forbidden"),
    ("rms_norm", normed_in_place, "changed in place"),
    ("rms_norm", lambda x, weight, eps: None, "no return"),
    ("largest_score", 64, "not divided"),
    ("largest_score", 1, "cosine"),
    ("largest_score", 0.125, "length 1"),
    ("largest_score", math.inf, "unbounded"),
    ("largest_score", 0, "mean score"),
    ("largest_score", 3, None),
    ("largest_score", "x", "not a number"),
    ("swiglu", gated("fc2(fc1_g(x) * silu(fc1_x(x)))"), "gate on the wrong side"),
    ("swiglu", gated("fc2(fc1_g(x).sigmoid() * fc1_x(x))"), "sigmoid for silu"),
    ("swiglu", gated("fc2(F.gelu(fc1_g(x)) * fc1_x(x))"), "gelu for silu"),
    ("swiglu", gated("fc2(F.gelu(fc1_g(x), approximate='tanh') * fc1_x(x))"), "gelu for silu"),
    ("swiglu", gated("fc2(F.gelu(fc1_x(x)) * fc1_g(x))"), "gelu for silu + gate on the wrong side"),
    ("swiglu", gated("fc2(F.relu(fc1_g(x)) * fc1_x(x))"), "relu for silu"),
    ("swiglu", gated("fc2(fc1_g(x) * fc1_x(x))"), "no activation"),
    ("swiglu", gated("fc2(silu(fc1_g(x) * fc1_x(x)))"), "activated after the product"),
    ("swiglu", gated("fc2(silu(fc1_g(x)) + fc1_x(x))"), "added, not multiplied"),
    ("swiglu", gated("fc2(silu(fc1_g(x)))"), "one layer left out"),
    ("swiglu", gated("fc2(silu(fc1_g(x)) * fc1_g(x))"), "one layer twice"),
    ("swiglu", gated("silu(fc1_g(x)) * fc1_x(x)"), "fc2 missing"),
    ("swiglu", gated("x + fc2(silu(fc1_g(x)) * fc1_x(x))"), "input added"),
    ("swiglu", gated("fc2(silu(fc1_g(x)) * x)"), "RuntimeError"),
    ("swiglu", lambda x: x, "wrong arguments"),
    ("swiglu_width", 1536, "width of the MLP"),
    ("swiglu_width", 768, "fc2 left out"),
    ("swiglu_width", 8 / 3, "ratio for width"),
    ("swiglu_width", 512, "half of the MLP counted"),
    ("swiglu_width", 1000, None),
    ("swiglu_width", 1023, "biases counted"),
    ("swiglu_width", 1025, None),
    ("with_registers", registered(result="(x[:, 0], x[:, 1:])"), "registers not removed"),
    ("with_registers", registered("[cls, patches, each]", "(x[:, 0], x[:, 1 : 1 + P])"), "registers last"),
    ("with_registers", registered("[each, cls, patches]", "(x[:, R], x[:, 1 + R :])"), "registers first"),
    ("with_registers", registered("[cls, patches]", "(x[:, 0], x[:, 1:])"), "registers left out"),
    ("with_registers", registered(loop=FRESH), "registers fresh in each block"),
    ("with_registers", registered(loop=EARLY, result="(x[:, 0], x[:, 1:])"), "registers dropped too early"),
    ("with_registers", registered(result="(x[:, 0], x[:, R:])"), "cut one off"),
    ("with_registers", registered(result="(x[:, :1], x[:, 1 + R :])"), "axis kept"),
    ("with_registers", registered(result="(x[:, :1], x[:, 1:])"), "registers not removed + axis kept"),
    ("with_registers", registered("[cls, registers[None], patches]"), "not for every image"),
    ("with_registers", registered("[cls, registers, patches]"), "not for every image"),
    ("with_registers", registered(loop="x = block(start)"), "one block alone"),
    ("with_registers", returned_in_the_loop, "one block alone"),
    ("with_registers", registered(loop="block(x)"), "blocks not run"),
    ("with_registers", registered(result="(x[:, 1 + R :], x[:, 0])"), "pair swapped"),
    ("with_registers", registered(result="x"), "not apart"),
    ("squeezed_places", places("i * t / n"), "edges for centres"),
    ("squeezed_places", places("i * t / n - 0.5"), "left edges"),
    ("squeezed_places", places(f"({CENTRES}).clamp(0, t - 1)"), "held at the ends"),
    ("squeezed_places", places("torch.linspace(0, t - 1, n)"), "ends for centres"),
    ("squeezed_places", places("(i + 0.5) * n / t - 0.5"), "upside down"),
    ("squeezed_places", places("1.0 * i"), "not squeezed"),
    ("squeezed_places", places("(i + 0.5) * t / n"), "half not taken back"),
    ("squeezed_places", places("(i + 1.5) * t / n - 0.5"), "counted from 1"),
    ("squeezed_places", places("(i + 1) * t / n - 0.5"), "right edges"),
    ("squeezed_places", places("(i + 0.5) / n"), "a share"),
    ("squeezed_places", places(f"({CENTRES}).round()"), "rounded"),
    ("squeezed_places", places("i * t // n"), None),
    ("squeezed_places", places(f"({CENTRES}).flip(0)"), "backwards"),
    ("squeezed_places", places(f"({CENTRES}).tolist()"), "not a tensor"),
    ("squeezed_places", places("(i + 0.5) * t / n - 0.5 + (n > 8)"), "offset"),
]
