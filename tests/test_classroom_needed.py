"""Which cells of a submission run: on made-up notebooks, in which the answer is the last cell."""

import time

import pytest

from vit_tutorial.classroom.needed import needed

IMPORTS = "import torch\nfrom vit_tutorial import check, plots, training"
MODEL = "model = torch.nn.Linear(2, 2)"


def ran(*cells, own=None):
    """The numbers of the cells that run, in order."""
    return sorted(needed(list(cells), own or [len(cells) - 1]))


def test_what_no_answer_reads_is_left_out():
    cells = IMPORTS, MODEL, "history = training.train(model)\nplots.show(history)", "assert history", "answer = 3"
    assert ran(*cells) == [4]


def test_an_answer_needs_what_it_reads_and_what_that_needs():
    assert ran("a = 1", "b = a", "c = 2", "answer = b") == [0, 1, 3]


def test_functions_and_classes_need_what_they_read_inside():
    assert ran("a = 1", "b = 2", "def f(b):\n    return [a + b for b in range(b)]", "answer = f(3)") == [0, 2, 3]
    assert ran("a = 1", "class F:\n    def f(self):\n        return a", "answer = F().f()") == [0, 1, 2]
    assert ran("def f():\n    return a", "a = 1", "b = 1", "answer = f()") == [0, 1, 3]  # bound when it is called


@pytest.mark.parametrize(
    "change",
    [
        "training.train(model, data)",
        "history = training.train(model, data)",
        "for p in model.parameters():\n    p.zero_()",
        "torch.nn.init.normal_(model.weight)",
        "model.weight = 3",
        "model.names['a'] = 3",
        "model += 1",
        "model.eval()",
        "layer = model.blocks[0]\nlayer.mlp = None",
        "handle = model.register_forward_hook(print)",
        "optimizer = torch.optim.AdamW(model.parameters())\noptimizer.step()",
        "for a, b in zip(range(2), model.blocks):\n    b.mlp = None",
        "learn(model)",
        "curve = learn(model)",
    ],
)
def test_a_cell_that_changes_a_value_is_needed(change):
    learn = "def learn(one):\n    other = one.blocks\n    other.append(1)\n    return 3"
    assert {1, 3} <= {*ran(IMPORTS, MODEL, learn, change, "b = 1", "answer = model")}
    assert 3 not in ran(IMPORTS, MODEL, learn, change, "answer = torch")


def test_a_value_that_functions_change_is_needed_with_their_calls():
    assert ran("seen = []", "def watch(x):\n    seen.append(x)", "watch(3)", "b = 1", "answer = seen") == [0, 1, 2, 4]


def test_what_only_looks_or_is_bound_anew_is_left_out():
    cells = (
        IMPORTS,
        MODEL,
        "plots.show(model)",
        "print(model)",
        "fig = plots.figure()\nfig.set(model)",
        "answer = model",
    )
    assert ran(*cells) == [0, 1, 5]
    assert ran("x = 1", "x = 2", "for x in range(3):\n    print(x)", "x = 4", "answer = x") == [3, 4]
    assert ran("def f(x):\n    return x", "x = 1", "with open(x) as y:\n    x = y", "answer = f") == [0, 3]


def test_whoever_may_read_anything_needs_everything_before():
    for source in ("answer = globals()['a']", "%time f()", "!ls", "answer = _", "open('file')"):
        assert ran("a = 1", "torch.save(a, 'file')", source, "b = 1") == [3]
        assert ran("a = 1", "torch.save(a, 'file')", source, "b = 1", own=[2]) == [0, 1, 2]
    deep = "answer = " + "-" * 5000 + "a"
    assert ran("a = 1", "b = 1", deep) == [0, 1, 2]


def test_a_cell_that_is_no_python_needs_nothing_and_harms_nobody():
    assert ran("a = 1", "def f(", "answer = a", own=[1, 2]) == [0, 1, 2]
    assert ran("a = 1", "answer = (", own=[1]) == [1]


def test_what_a_student_binds_may_fail():
    assert ran("check = 1", "answer = check = 0", "check", own=[1, 2]) == [0, 1, 2]
    assert ran("check = 1", "check = 0", "check", own=[2]) == [1, 2]


def test_it_comes_to_an_end_soon():
    started = time.monotonic()
    ran(*(f"a{n} = a{n - 1}\na{n}.append(a{n - 1})" for n in range(200)), "answer = a199")
    assert time.monotonic() - started < 60
