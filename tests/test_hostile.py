"""Broken and hostile input of every kind: the cases of `tools/attack/hostile_inputs.py`, but for the slow ones."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("tools/attack/hostile_inputs.py needs Linux", allow_module_level=True)

import hostile_inputs

from vit_tutorial.files import ROOT

CASES = [case for case in hostile_inputs.CASES if not case.slow]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.group}: {case.name}" for case in CASES])
def test_the_verdict_is_the_right_one(case, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VIT_TUTORIAL_HOME", str(tmp_path / "home"))
    said, problems = hostile_inputs.judge(case, folder, case.make(folder))
    assert not problems, said


def test_the_guide_for_contributors_says_how_many_there_are():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"# {len(hostile_inputs.CASES)} broken or hostile files" in text
