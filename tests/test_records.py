"""tools/measure: a record is written as those in data/runs are, and goes on with the runs that are missing."""

import json

import copies
import fine_tuning
import interpretation
import pytest
import sweep
import throughput
from records import Record, a_line_a_run

from vit_tutorial.files import DATA

WRITERS = {
    "copies": copies.as_text,
    "fine-tuning": fine_tuning.as_text,
    "interpretation": interpretation.as_text,
    "modern-parts": a_line_a_run,
    "registers": a_line_a_run,
    "small-data": a_line_a_run,
    "sweep-shapes": sweep.as_text,
    "throughput": throughput.as_text,
    "without-labels": a_line_a_run,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_record_is_written_as_it_was_read(name):
    text = (DATA / "runs" / f"{name}.json").read_text(encoding="utf-8")
    assert WRITERS[name](json.loads(text)) == text


def test_a_record_goes_on_where_it_was_stopped(tmp_path, capsys):
    plan, done = [{"seed": seed, "way": "all"} for seed in range(3)], []

    def run(seed, way):
        if done == [0]:
            raise KeyboardInterrupt
        done.append(seed)
        return {"accuracy": seed / 10}

    def complete(seconds):
        record = Record(tmp_path / "record.json", {"runs": []}, json.dumps, seconds)
        record.complete(plan, record.content["runs"], run)
        return json.loads(record.path.read_text())["runs"]

    with pytest.raises(KeyboardInterrupt):
        complete(60)
    done.append("interrupted")
    complete(-1)
    assert "2 runs are missing" in capsys.readouterr().out
    assert complete(60) == [spec | {"accuracy": spec["seed"] / 10} for spec in plan] and done[2:] == [1, 2]
