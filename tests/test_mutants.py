"""The mutants that judge the checks: steps that do what they say, and a sample that every check judges rightly."""

import ast
from collections import Counter

import mutants
import pytest
import steps
import torch

from vit_tutorial.check import reference, verdict


def made(body, arguments="x, y"):
    """`(kind, the line that was changed)` of every mutant of a function with this body."""
    function = ast.parse(f"def double__f({arguments}):\n    {body}").body[0]
    for kind, _, *change in steps.changes(function, {"torch": torch}):
        tree, before, *place = change
        if (text := steps.source(tree, *place)) and text != before:
            yield kind, steps.difference(before, text).partition(" -> ")[2]
    assert ast.unparse(function) == before, "the answer is as it was"


@pytest.mark.parametrize(
    ("body", "kind", "lines"),
    [
        ("x = y[2]", "constant", ["x = y[3]", "x = y[1]", "x = y[-2]", "x = y[0]"]),
        ("x = y.sum(-1)", "constant", ["x = y.sum(0)", "x = y.sum(-2)", "x = y.sum(1)"]),
        ("x = 0.5", "constant", ["x = 1.0", "x = -0.5", "x = 0.0"]),
        ("x = f(a=True)", "constant", ["x = f(a=False)"]),
        ("x = 8 < y", "operator", ["x = 8 <= y", "x = 8 > y"]),
        ("x = y // z", "operator", ["x = y / z", "x = y % z", "x = y * z"]),
        ("x += y", "operator", ["x -= y", "x *= y"]),
        ("x = y and z", "operator", ["x = y or z"]),
        ("x = ~y", "operator left out", ["x = y"]),
        ("x = a @ b", "operands swapped", ["x = b @ a"]),
        ("x = a + b", "operand left out", ["x = a", "x = b"]),
        ("x = a + b", "in place", ["x = a.add_(b)"]),
        ("x = y.masked_fill(a, 1)", "in place", ["x = y.masked_fill_(a, 1)"]),
        ("x = torch.exp(a)", "in place", ["x = torch.exp_(a)"]),
        ("x = f(a, b)", "arguments swapped", ["x = f(b, a)"]),
        ("x = f(a, dim=b)", "argument left out", ["x = f(dim=b)", "x = f(a)"]),
        ("x = torch.exp(a)", "call left out", ["x = a"]),
        ("x = a.exp()", "call left out", ["x = a"]),
        ("x = a.mT", "call left out", ["x = a"]),
        ("x = a.mean()", "another function", ["x = a.sum()"]),
        ("x = y[a:]", "slice", ["x = y[:]", "x = y[a + 1:]", "x = y[a - 1:]"]),
        ("x = y[:1]", "slice left out", ["x = y"]),
        ("x = a, b", "parts swapped", ["x = (b, a)"]),
        ("x = y", "name", ["x = x"]),
        ("x = y", "statement left out", ["pass"]),
        ("if x: y.f()", "condition left out", ["y.f()"]),
        ("x = [a for a in y if a]", "condition left out", ["x = [a for a in y]"]),
        (
            "x = einsum('ij,jk->ik', y)",
            "letters swapped",
            [f"x = einsum('{s}', y)" for s in ("ji,jk->ik", "ij,kj->ik")],
        ),
        (
            "x = rearrange(y, 'b (n d)->d')",
            "letters swapped",
            [f"x = rearrange(y, 'b ({s})->d')" for s in ("d n",)],
        ),
        ("x = y", "seeded", ["torch.manual_seed(0)"]),
        ("x = y", "one image", ["x = x[:1]"]),
        ("return y", "one image", ["result = y / return result[:1].expand_as(result)"]),
        ("return y", "dtype", [f"result = y / return result.{kind}()" for kind in ("long", "half", "double")]),
        ("return y", "detached", ["result = y / return result.detach()"]),
        ("return y", "input changed", [f"result = y / {name}.add_(1) / return result" for name in "xy"]),
    ],
)
def test_a_step_does_what_it_says(body, kind, lines):
    found = [line for found, line in made(body) if found == kind]
    assert set(lines) <= set(found), found


def test_modes_of_models():
    lines = [line for kind, line in made("return model(x)", "x, model") if kind == "mode"]
    assert lines == ["model.eval()", "model.train()"]


def test_the_order_of_statements():
    assert "statements swapped" in dict(made("x.step()\n    y = 1"))


ANSWERS = """
def right(x, H):
    return x.unflatten(2, (H, -1)).transpose(1, 2)

def wrong(x, H):
    return x.unflatten(2, (-1, H)).permute(0, 3, 1, 2)

def fatal(x, H):
    import os
    os._exit(1)

def huge(x, H):
    return list(range(10**12))

def endless(x, H):
    while True:
        pass
"""
RIGHT, WRONG, FATAL, HUGE, ENDLESS = (
    {
        "topic": "attention",
        "exercise": "split_heads",
        "answer": node.name,
        "line": 1,
        "kind": "",
        "source": ast.unparse(node),
    }
    for node in ast.parse(ANSWERS).body
)


def test_a_sample_is_judged_rightly():
    """One mutant of each exercise (`python tools/attack/mutants.py` tries all), after some that would end it."""
    sample = list(mutants.mutants(each=1, seed=1))
    assert {x["exercise"] for x in sample if not mutants.oracle(x)} == set(), "exercises without an oracle"
    assert max(Counter(x["exercise"] for x in sample).values()) == 1
    right, wrong, fatal, huge, again, *found = mutants.judged([RIGHT, WRONG, FATAL, HUGE, RIGHT, *sample], search=0)
    assert right == again == RIGHT | {"equivalent": True, "passed": True, "mistake": None}
    assert not any(x["equivalent"] or x["passed"] for x in (wrong, fatal, huge))
    assert (fatal["mistake"], huge["mistake"]) == ("no end", "MemoryError")
    _, refused, passed, told = mutants.split(found)
    assert not refused and not passed and told, [(x["answer"], x["line"], x["what"]) for x in refused + passed]


def test_a_mutant_without_an_end(monkeypatch):
    for module in (verdict, reference):  # which are put back
        for name in ("SECONDS", "fresh_seed"):
            monkeypatch.setattr(module, name, getattr(module, name))
    assert mutants.verdict_on(ENDLESS, seconds=0.2) == ((False, False, "no end"), False)
