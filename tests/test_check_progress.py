"""What has passed is remembered in one small file, and only what the learner's own cell showed."""

import json

import pytest
from IPython.core.interactiveshell import InteractiveShell

from vit_tutorial import check, files, plots
from vit_tutorial.check import progress


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_TUTORIAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress, "unsaved", {})
    return tmp_path / "home"


def cell(source):
    shell = InteractiveShell()
    shell.run_cell("from vit_tutorial import check")
    shell.run_cell(source, store_history=True).raise_error()


def test_a_pass_that_a_cell_shows_is_remembered(home):
    cell("check.token_count(64)")
    assert list(check.passed()) == ["token_count"]
    day = check.passed()["token_count"]
    assert len(day) == 10 and json.loads((home / "progress.json").read_text()) == {"passed": {"token_count": day}}


@pytest.mark.parametrize(
    "source",
    [
        "check.token_count(8)",
        "check.token_count(...)",
        "assert check.token_count(64).passed",  # what the notebooks' solutions say
        "for answer in (8, 64):\n    check.token_count(answer)",
        "result = check.token_count(64)",
    ],
)
def test_nothing_else_is(home, source):
    cell(source)
    assert check.passed() == {} and not home.exists()


def test_the_first_day_stays(home):
    home.mkdir()
    (home / "progress.json").write_text('{"passed": {"token_count": "2020-02-02"}}')
    cell("check.token_count(64)")
    cell("check.read_shape('b')")
    assert check.passed()["token_count"] == "2020-02-02" and len(check.passed()) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"passed": 3}', "null", "\xff"])
def test_a_damaged_file_is_put_aside(home, text):
    home.mkdir()
    (home / "progress.json").write_bytes(text.encode("latin-1"))
    assert check.passed() == {}
    cell("check.token_count(64)")
    assert list(check.passed()) == ["token_count"]
    assert (home / "progress.damaged").read_bytes() == text.encode("latin-1")


def test_a_home_that_cannot_be_written_is_no_trouble(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VIT_TUTORIAL_HOME", str(tmp_path / "file" / "home"))
    cell("check.token_count(64)")
    assert list(check.passed()) == ["token_count"]  # as long as the kernel lives


def test_no_home_at_all(monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VIT_TUTORIAL_HOME")
    monkeypatch.setattr(files.Path, "home", none)
    cell("check.token_count(64)")
    assert list(check.passed()) == ["token_count"]


def test_forget(home, capsys):
    cell("check.token_count(64)")
    check.forget()
    assert check.passed() == {} and not (home / "progress.json").exists()
    check.forget()
    assert "Nothing was stored." in capsys.readouterr().out


def test_the_map_ticks_what_has_passed():
    exercises = {number: topic.__all__ for number, topic in check.TOPICS.items()}
    (ax,) = progress.progress_map(progress.rows([*check.start.__all__, "mix", "gone"], exercises)).axes
    assert len(ax.patches) == len(check.EXERCISES) - 1 and len(ax.lines) == 3
    texts = [text.get_text() for text in ax.texts]
    assert "2 of 2" in texts and f"1 of {len(check.attention.__all__)}" in texts and "Attention" in texts
    assert ax.get_title(loc="left") == f"3 of {len(check.EXERCISES) - 1} checks passed"


def test_the_map_says_in_words_what_it_shows(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "show", lambda fig, alt: shown.append(alt))
    check.show_progress()
    cell("check.read_shape('b')")
    check.show_progress()
    empty, one = shown
    assert empty.startswith(f"Your progress: 0 of {len(check.EXERCISES) - 1} checks passed.")
    assert "00 Start here 0 of 2" in empty and "00 Start here 1 of 2" in one
