"""Marks from outside: what an answer gives is handed out as plain data, and judged where the answer never runs."""

import pytest
from mistakes import tables

from vit_tutorial import check
from vit_tutorial.classroom import answers, judging

TABLES = tables()
NONCE = "only once"


def handed_out(name, answer, seed):
    """The text that a kernel sends."""
    (text,) = answers.give(name, answer, seed, NONCE)._repr_mimebundle_().values()
    return text


def outside(name, answer, seed=1):
    """The result of an answer that is judged outside."""
    return judging.verdict_on(name, handed_out(name, lambda: answer, seed), NONCE, seed)


@pytest.mark.parametrize("name", check.EXERCISES)
def test_right_answers_pass(name):
    for seed, answer in enumerate(TABLES[name][0]):
        result = outside(name, answer, seed)
        assert result.passed, (answer, result.message)


@pytest.mark.parametrize("name", check.EXERCISES)
def test_wrong_answers_do_not_and_keep_their_names(name):
    named = 0
    for answer, mistake in TABLES[name][1]:
        result = outside(name, answer)
        assert not result.passed, answer
        named += result.mistake == mistake
    assert named >= 0.8 * len(TABLES[name][1]), f"{named} of {len(TABLES[name][1])}"


@pytest.mark.parametrize("name", check.EXERCISES)
@pytest.mark.parametrize("answer", [..., None, object(), lambda *inputs: ..., lambda *inputs: object(), type])
def test_what_is_no_answer_gets_nothing(name, answer):
    assert not outside(name, answer).passed
