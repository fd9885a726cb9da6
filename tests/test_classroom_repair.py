"""Submissions put back on the released notebook: what a student's accident does to a notebook costs no marks."""

import copy
import json
import random
from pathlib import Path

import nbformat
import pytest
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from test_classroom_grading import SCALE, SPLIT, short_course

from vit_tutorial.classroom import editions, repair

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
RELEASED = editions.assignment(short_course())
ANSWERS = {"answer-98-1-1": SCALE, "answer-98-2-1": SPLIT}
SCALE_CELL, CHECK, SPLIT_CELL = 3, 4, 6  # numbers of cells of the release
STUB = RELEASED.cells[SCALE_CELL].source


def answered(released=RELEASED, answers=ANSWERS):
    """The released notebook with its stubs filled in."""
    notebook = copy.deepcopy(released)
    for cell in notebook.cells:
        cell.source = answers.get(repair.grade_id(cell), cell.source)
    return notebook


def stripped(notebook):
    """Without any metadata, ids or outputs: what some editors leave."""
    cells = [{"cell_type": cell.cell_type, "source": cell.source} for cell in notebook.cells]
    return from_dict({"nbformat": 4, "nbformat_minor": 0, "metadata": {}, "cells": cells})


def sources(notebook):
    return {repair.grade_id(cell): cell.source for cell in notebook.cells if repair.grade_id(cell)}


def repaired(submitted, released=RELEASED, answers=ANSWERS):
    """The notes, and the repaired notebook, which has the release's cells in its order and the answers."""
    before = copy.deepcopy(submitted)
    notebook, notes = repair.repair(submitted, released)
    assert submitted == before and notebook.metadata["vit_tutorial"]["notes"] == notes
    nbformat.validate(notebook)
    found, given = sources(notebook), sources(released)
    assert {name: found[name] for name in answers} == answers
    assert all(found[name] == source for name, source in given.items() if name.startswith("check"))
    course = {cell.id for cell in released.cells}
    kept = [cell for cell in notebook.cells if cell.id in course]
    assert [(cell.id, cell.cell_type, cell.metadata) for cell in kept] == [
        (cell.id, cell.cell_type, cell.metadata) for cell in released.cells
    ]
    assert all(cell.metadata == {} for cell in notebook.cells if cell.id not in course)
    return notebook, " ".join(notes)


def test_what_is_whole_stays_as_it_is():
    submitted = answered()
    notebook, notes = repaired(submitted)
    assert notebook.cells == submitted.cells and notes == ""


def twice(cells):
    cells.insert(SCALE_CELL, copy.deepcopy(cells[SCALE_CELL]))


def untouched_copy_below(cells):
    cells.insert(SCALE_CELL + 1, copy.deepcopy(cells[SCALE_CELL]) | {"source": STUB, "id": "copy"})


def half_done_copy_below(cells):
    cells.insert(SCALE_CELL + 1, copy.deepcopy(cells[SCALE_CELL]) | {"source": STUB.replace("ret", "x = 1\n    ret")})


def check_twice(cells):
    cells.insert(SCALE_CELL, copy.deepcopy(cells[CHECK]))


def check_deleted(cells):
    del cells[CHECK]


def check_changed(cells):
    cells[CHECK].source = "print('Passed.')"


def answer_in_a_new_cell(cells):
    cells[SCALE_CELL] = new_code_cell(cells[SCALE_CELL].source)


def answer_above_its_stub(cells):
    cells.insert(SCALE_CELL, new_code_cell(cells[SCALE_CELL].source))
    cells[SCALE_CELL + 1].source = STUB


def answer_at_the_end(cells):
    cells.append(new_code_cell(cells[SCALE_CELL].source))
    cells[SCALE_CELL].source = ""


def answer_merged_into_another_cell(cells):
    cells[1].source += "\n\n" + cells.pop(SCALE_CELL).source


def as_markdown(cells):
    cells[SCALE_CELL] = new_markdown_cell(cells[SCALE_CELL].source, metadata=cells[SCALE_CELL].metadata)


def as_raw_without_id(cells):
    cells[SCALE_CELL] = new_raw_cell(cells[SCALE_CELL].source)


def reversed_order(cells):
    cells.reverse()


def only_answers(cells):
    cells[:] = [new_code_cell(SPLIT), new_code_cell(SCALE)]


def conflict(cells):
    cells[SCALE_CELL].source = f"<<<<<<< HEAD\n{STUB}\n=======\n{SCALE}\n>>>>>>> theirs"


def given_emptied(cells):
    cells[1].source = ""


def given_broken(cells):
    cells[1].source = "from vit_tutorial import check)"


def given_as_markdown(cells):
    cells[1] = new_markdown_cell(cells[1].source, metadata=cells[1].metadata, id=cells[1].id)


ACCIDENTS = {
    twice: "The answer of 98.1 was there 2 times",
    untouched_copy_below: "The answer of 98.1 was there 2 times",
    half_done_copy_below: "The answer of 98.1 was there 2 times",
    check_twice: "",
    check_deleted: "The check of 98.1 was deleted",
    check_changed: "The check of 98.1 was changed",
    answer_in_a_new_cell: "the answer of 98.1",
    answer_above_its_stub: "the answer of 98.1",
    answer_at_the_end: "the answer of 98.1",
    answer_merged_into_another_cell: "the answer of 98.1",
    as_markdown: "no code cell any more",
    as_raw_without_id: "no code cell any more",
    reversed_order: "another order",
    only_answers: "the answer of 98.1, 98.2",
    conflict: "unfinished merge",
    given_emptied: "back: 1",
    given_broken: "back: 1",
    given_as_markdown: "back: 1",
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_accident_is_repaired_and_named(accident):
    submitted = answered()
    accident(submitted.cells)
    answers = ANSWERS
    if accident is answer_merged_into_another_cell:
        answers = ANSWERS | {"answer-98-1-1": f"from vit_tutorial import check\n\n{SCALE}"}
    notebook, notes = repaired(submitted, answers=answers)
    assert ACCIDENTS[accident] in notes
    defining = [cell.source for cell in notebook.cells if "def scale_pixels" in cell.source]
    assert defining[-1] == answers["answer-98-1-1"]  # nothing that runs later takes it back


def test_nothing_filled_in_is_the_stub_again():
    for source in ("", "# I do not know", STUB + "  "):
        submitted = answered(answers=ANSWERS | {"answer-98-1-1": source})
        repaired(submitted, answers=ANSWERS | {"answer-98-1-1": STUB})


def test_helpers_run_where_the_student_has_put_them():
    submitted = answered(answers=ANSWERS | {"answer-98-1-1": "def scale_pixels(images):\n    return images"})
    last = copy.deepcopy(submitted.cells[SCALE_CELL]) | {"source": SCALE}
    submitted.cells[SCALE_CELL + 1 : SCALE_CELL + 1] = [new_code_cell("helper = 255"), last]
    submitted.cells.insert(0, new_markdown_cell("My name"))
    notebook, _ = repaired(submitted)
    order = [cell.source for cell in notebook.cells]
    assert order[0] == "My name" and order.index("helper = 255") == order.index(SCALE) - 1


def test_an_answer_below_its_untouched_stub_takes_its_place():
    """The judge gives nothing for a stub, whatever runs beside it."""
    submitted = answered(answers=ANSWERS | {"answer-98-1-1": STUB})
    submitted.cells[SCALE_CELL + 1 : SCALE_CELL + 1] = [new_code_cell("k = 255"), new_code_cell(SCALE)]
    notebook, notes = repaired(submitted)
    order = [cell.source for cell in notebook.cells]
    assert order.index("k = 255") < order.index(SCALE) < order.index(RELEASED.cells[CHECK].source)
    assert order.count(SCALE) == 1 and "times" not in notes


def test_an_answer_written_into_the_check_cell_is_the_answer():
    submitted = answered(answers=ANSWERS | {"answer-98-1-1": STUB})
    submitted.cells[CHECK].source = written = f"{SCALE}\n\ncheck.scale_pixels(scale_pixels)"
    notebook, notes = repaired(submitted, answers={"answer-98-1-1": written})
    assert [cell.source for cell in notebook.cells].count(written) == 1 and "The check of 98.1 was changed" in notes


def test_edits_of_given_cells_are_kept_but_take_no_names_away():
    submitted = answered()
    submitted.cells[1].source = "import math\nfrom vit_tutorial import check"
    assert repaired(submitted)[0].cells[1].source.startswith("import math")
    submitted.cells[1].source = "import math"
    notebook, _ = repaired(submitted)
    assert [cell.source for cell in notebook.cells[1:3]] == ["from vit_tutorial import check", "import math"]


def test_metadata_of_a_submission_never_counts():
    submitted = answered()
    for cell in submitted.cells:
        cell.metadata |= {"vit_tutorial": {"passed": True}, "tags": ["skip-execution"], "editable": True}
    submitted.cells.append(new_code_cell("1", metadata={"vit_tutorial": {"passed": True}}))
    submitted.metadata |= {"kernelspec": {"name": "julia", "display_name": "Julia"}}
    notebook, _ = repaired(submitted)
    assert notebook.metadata.kernelspec.name == "python3"


def test_nothing_has_ids():
    repaired(stripped(answered()))


def colab(notebook):
    cells = []
    for cell in notebook.cells:
        metadata = {"id": cell.id, "colab": {"base_uri": "x"}, "outputId": "1"}
        cells.append({"cell_type": cell.cell_type, "metadata": metadata, "source": cell.source.splitlines(True)})
    return {"nbformat": 4, "nbformat_minor": 0, "metadata": {"colab": {"provenance": []}}, "cells": cells}


def version_3(notebook):
    cells = []
    for cell in notebook.cells:
        code = {"cell_type": "code", "language": "python", "input": cell.source, "outputs": [], "collapsed": False}
        text = {"cell_type": "markdown", "source": cell.source}
        if cell.source.startswith("# "):
            text = {"cell_type": "heading", "level": 1, "source": cell.source[2:]}
        cells.append(code if cell.cell_type == "code" else text)
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}


def damaged(notebook):
    cells = [{"cell_type": c.cell_type, "source": c.source.splitlines(True), "metadata": None} for c in notebook.cells]
    return {"cells": [*cells, None, 3, {}, {"cell_type": "video", "source": 3, "outputs": "x"}]}


@pytest.mark.parametrize("change", [dict, colab, version_3, damaged, stripped])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_every_format_and_encoding_is_read(change, encoding, tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_bytes(json.dumps(change(answered())).replace("\n", "\r\n").encode(encoding))
    repaired(repair.read(path))


def test_an_unfinished_merge_of_the_file_is_resolved():
    ours, theirs = answered(answers={"answer-98-1-1": SCALE}), answered(answers={"answer-98-2-1": SPLIT})
    lines, other = (json.dumps(notebook, indent=1).splitlines() for notebook in (ours, theirs))
    for a, b in zip(reversed(range(len(lines))), reversed(other), strict=True):
        if lines[a] != b:
            lines[a : a + 1] = ["<<<<<<< HEAD", lines[a], "||||||| base", "=======", b, ">>>>>>> theirs"]
    _, notes = repaired(repair.reads("\n".join(lines).encode()))
    assert "unfinished merge" in notes


BAD = {
    b"": "an empty file",
    b" \n\0": "an empty file",
    b"<!DOCTYPE html><title>Sign in</title>": "a web page",
    b"# %%\nx = 1": "a Python program",
    b"PK\x03\x04...": "a zip archive",
    b'{"cells": [{"cell_type": "co': "damaged, or ends in its middle",
    b"[" * 100_000: "another kind",
    b"[]": "JSON without cells",
    b'{"cells": 3}': "JSON without cells",
    json.dumps({"cells": [{}] * 5001}).encode(): "5001 cells",
    b"x" * ((50 << 20) + 1): "a larger one",
}


@pytest.mark.parametrize("data", BAD, ids=BAD.values())
def test_what_is_no_notebook_is_named(data):
    with pytest.raises(ValueError, match=r"^expected a notebook.*, found .*;") as raised:
        repair.reads(data)
    assert BAD[data] in str(raised.value)


def test_the_wrong_notebook_is_refused():
    for name in ("01_patch_embedding", "06_training"):
        with pytest.raises(ValueError, match="expected the notebook '98 · Two exercises', found '0"):
            repair.repair(nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4), RELEASED)
    for cells in ([], [new_markdown_cell("# <b>Physics</b>"), new_code_cell("check = 1")]):
        with pytest.raises(ValueError, match="expected the notebook"):
            repair.repair(new_notebook(cells=cells), RELEASED)


def test_another_version_of_the_course_is_matched_by_its_exercises():
    """An older sheet: 98.1 was Split, 98.2 an exercise that is gone, and Scale was 98.3."""
    cells = [new_markdown_cell("# 98 · Two exercises")]
    for number, (title, checker, answer) in enumerate(
        [("Split", "split_heads", SPLIT), ("Gone", "cut", "gone = 1"), ("Scale", "scale_pixels", SCALE)], start=1
    ):
        for source, name in ((answer, f"answer-98-{number}-1"), (f"check.{checker}(x)", f"check-98-{number}")):
            cells.append(new_code_cell(source, metadata={"nbgrader": {"grade_id": name}}))
        cells.insert(-2, new_markdown_cell(f"### Exercise 98.{number} · {title}\n\nOld."))
    notebook, notes = repaired(new_notebook(cells=cells))
    assert "Exercise 98.1 is exercise 98.2 in this version" in notes and "Exercise 98.2 is not in this" in notes
    assert any(cell.source == "gone = 1" for cell in notebook.cells)


def mutate(cells, rng):
    """One accident at random, in place."""
    index = rng.randrange(len(cells))
    kind = rng.choice(["copy", "blank copy", "retype", "add", "strip", "delete", "edit", "move"])
    cell = cells[index]
    answer = "# mine" in cell.source
    if kind == "copy":
        cells.insert(index, copy.deepcopy(cell))
    elif kind == "blank copy" and answer:
        cells.insert(index + rng.randrange(2), from_dict(cell | {"source": ""}))
    elif kind == "retype" and cell.cell_type == "code":
        cells[index] = new_raw_cell(cell.source, metadata=cell.metadata, id=cell.id)
    elif kind == "add":
        cells.insert(index, new_code_cell(rng.choice(["", "x = 1", "print('", "%time 1", "```", "<<<<<<< a"])))
    elif kind == "strip":
        cell.metadata = {}
        cell.id = f"new-{rng.random()}"[:20].replace(".", "-")
    elif kind == "delete" and not answer:
        del cells[index]
    elif kind == "edit" and not answer:
        cell.source += rng.choice(["\nprint('", "\nz = 3", "\n)", "\n<<<<<<< a\n=======\n>>>>>>> b"])
    elif kind == "move":
        cells.insert(rng.randrange(len(cells)), cells.pop(index))


def fuzz_sheet(name):
    """A released notebook, and answers whose names (all are functions) belong to one exercise each."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4) if name else short_course()
    released, answers = editions.assignment(notebook), {}
    for cell in released.cells:
        if repair.grade_id(cell).startswith("answer"):
            answers[repair.grade_id(cell)] = cell.source.replace("...", "42") + "  # mine"
    return released, answers


@pytest.mark.parametrize("name", ["", "03_attention", "06_training"])
def test_whatever_happens_to_a_notebook_its_answers_are_found(name):
    released, answers = fuzz_sheet(name)
    for seed in range(5 if name else 150):
        rng = random.Random(seed)
        submitted = answered(released, answers)
        for _ in range(rng.randrange(1, 30)):
            mutate(submitted.cells, rng)
        notebook, _ = repair.repair(submitted, released)
        nbformat.validate(notebook)
        for answer, source in answers.items():
            check = answer[:-2].replace("answer", "check")
            ran = notebook.cells[: [repair.grade_id(cell) for cell in notebook.cells].index(check)]
            names = repair.defined(source)
            binding = [cell.source for cell in ran if cell.cell_type == "code" and names <= repair.defined(cell.source)]
            assert binding[-1] == source, (seed, answer)  # what its check finds is the answer


def test_no_damage_to_the_file_raises_anything_but_valueerror():
    text = json.dumps(answered())
    for seed in range(300):
        rng, data = random.Random(seed), bytearray(text.encode())
        for _ in range(rng.randrange(1, 20)):
            start = rng.randrange(len(data))
            data[start : start + rng.randrange(30)] = rng.choice([b"", b"\xff", b'"', b"{}", b"null", b"[1]", b"\0"])
        try:
            repair.repair(repair.reads(bytes(data)), RELEASED)
        except ValueError:
            continue
