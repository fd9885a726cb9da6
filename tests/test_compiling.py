"""torch's compiler may be missing or fail, in whatever way: a run goes on without it, and is the same run."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from test_cli import make_folder
from test_distributed import ONE, UNTESTED, losses, together
from test_resume import ALONE, RUN, begin, check_same
from test_training import MODEL, RECIPE

from vit_tutorial import cli, training, weights
from vit_tutorial.machine import distributed
from vit_tutorial.machine.compiling import try_to_compile
from vit_tutorial.training import History

SENTENCE = "Going on uncompiled, for torch's compiler fails here ("
COMPILED = replace(RECIPE, model=replace(MODEL, image_size=32, dropout=0.1), patch_dropout=0.5, compile=True)
PROGRAMS = {  # what stands where a C++ compiler should
    "error": "case $1 in --version) echo g++ 15;; *) echo 'error: no' >&2; exit 1;; esac",
    "killed": "case $1 in --version) echo g++ 15;; *) kill -9 $$;; esac",
}


TRACED = partial(torch.compile, backend="eager")  # all of torch's compiler but the last part, which takes long


def broken(*_, **__):
    raise RuntimeError("Windows not yet supported for torch.compile\nand more")


def train(folder, compiled):
    """`vit-tutorial train` with a recipe that compiles, or the same without; `folder/run` is what it leaves."""
    training.RECIPES["tiny"] = replace(COMPILED, compile=compiled)
    line = ["train", "--data", str(make_folder(folder)), "--recipe", "tiny", "--epochs", "3"]
    return cli.main([*line, "--out", str(folder / "run")])


def in_a_process(folder, what, **environment):
    done = subprocess.run(
        [sys.executable, __file__, str(folder), what], capture_output=True, text=True, env=ALONE | environment
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The run that never asks for a compiler."""
    folder = tmp_path_factory.mktemp("plain")
    in_a_process(folder, "plain")
    return folder / "run"


def check_same_weights(*runs):
    one, other = (weights.load(run / "model.safetensors").state_dict() for run in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def check_uncompiled(folder, plain, done):
    assert done.stdout.count(SENTENCE) == 1 and "Trained: 3" in done.stdout
    assert "rror" not in done.stderr and "Traceback" not in done.stderr  # the progress bar alone
    info = History.load(folder / "run" / "history.json").info
    assert info["compile_seconds"] is None and info["compile_failure"] in done.stdout
    check_same_weights(folder / "run", plain)
    return info["compile_failure"]


@pytest.mark.skipif(sys.platform == "win32", reason="its compilers are no shell scripts")
@pytest.mark.parametrize(
    "program", [PROGRAMS["error"], pytest.param(PROGRAMS["killed"], marks=pytest.mark.slow)], ids=PROGRAMS
)  # torch tells both in the same way
def test_a_compiler_that_fails(tmp_path, plain, program):
    """The cache folder cannot be made either: with that alone, torch's optimisers would not load."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
    compiler.chmod(0o755)
    done = in_a_process(tmp_path, "compiled", CXX=str(compiler), TORCHINDUCTOR_CACHE_DIR=str(compiler / "cache"))
    assert "Cxx" in check_uncompiled(tmp_path, plain, done) or "Cpp" in done.stdout


@pytest.mark.slow  # the compiler that fails has no such folder either
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a folder in which nobody can write")
def test_a_cache_folder_that_is_not_to_be_written(tmp_path, plain):
    check_uncompiled(tmp_path, plain, in_a_process(tmp_path, "compiled", TORCHINDUCTOR_CACHE_DIR="/proc"))


@pytest.mark.slow  # for the run it is one that fails
def test_no_compiler(tmp_path, plain):
    check_uncompiled(tmp_path, plain, in_a_process(tmp_path, "compiled", PATH=str(tmp_path), CXX="g++"))


def test_random_numbers_and_stderr_stay_as_they_are(monkeypatch, capfd):
    def step(model):
        torch.rand(3)
        print("a compiler's word", file=sys.stderr)
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('error')"], check=True)

    for fake, failure in ((lambda model, **_: torch.nn.Sequential(model), None), (broken, "RuntimeError: Windows not")):
        monkeypatch.setattr(torch, "compile", fake)
        torch.manual_seed(0)
        model, before = torch.nn.Linear(1, 1), torch.get_rng_state()
        found, record = try_to_compile(model, step)
        assert torch.equal(torch.get_rng_state(), before)
        assert (found is model) == (failure is not None) == (record["compile_seconds"] is None)
        assert failure is None or record["compile_failure"].startswith(failure)
    out, err = capfd.readouterr()
    assert out.count(SENTENCE) == 1 and out.count("\n") == 1 and "error" not in err


def test_a_run_goes_on_where_it_can_no_longer_be_compiled(tmp_path, monkeypatch, capsys):
    def stop(history, progress):
        if len(history.steps["loss"]) == 13:
            raise KeyboardInterrupt

    recipe = replace(RUN, compile=True)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    whole, _ = begin(tmp_path / "whole", recipe=recipe)
    begin(tmp_path / "stopped", stop, recipe=recipe)
    assert whole.info["compile_seconds"] >= 0 and whole.info["compile_failure"] is None
    monkeypatch.setattr(torch, "compile", broken)
    resumed, _ = begin(tmp_path / "stopped", recipe=recipe, resume=True)
    check_same(tmp_path / "stopped", tmp_path / "whole")
    assert resumed.info["compile_seconds"] is None and resumed.info["resumed_after_steps"] == [13]
    assert capsys.readouterr().out.count(SENTENCE) == 1


def test_the_cell_of_notebook_11_says_so_and_goes_on(monkeypatch, capfd):
    from records import notebook_names

    import notebooks  # from tools/build, which a process that runs this file does not see

    source = notebooks.SOURCES / "11_making_it_fast.py"
    names = notebook_names(source.name, ["until_done", "in_turns"])
    (cell,) = [cell.source for cell in notebooks.read_source(source).cells if "try_to_compile(" in cell.source]
    monkeypatch.setattr(torch, "compile", broken)
    exec(cell, names)
    out, err = capfd.readouterr()
    assert out == f"{SENTENCE}RuntimeError: Windows not yet supported for torch.compile).\n" and err == ""


def test_each_run_is_compiled_anew(monkeypatch):
    """torch would take what it has compiled for a model without patch dropout for one with it."""
    monkeypatch.setattr(torch, "compile", TRACED)
    curves = []
    for dropped, compiled in ((0.0, True), (0.5, True), (0.5, False)):
        recipe = replace(ONE, patch_dropout=dropped, compile=compiled)
        curves.append(begin(None, recipe=recipe, epochs=1)[0].steps["loss"])
    assert curves[0] != curves[1] == pytest.approx(curves[2], abs=1e-6)


def two_processes(folder):
    """The same training uncompiled and compiled, with whole models and with parts; and where one of two cannot."""
    torch.set_num_threads(1)
    torch.compile, small = TRACED, replace(ONE, model=MODEL)

    def all_in_two():
        for name, recipe in (("whole", small), ("sharded", replace(small, muon_learning_rate=0.0))):
            for compiled in (False, True):
                recipe, out = replace(recipe, compile=compiled), folder / f"{name}-{compiled}"
                begin(out, recipe=recipe, epochs=1, shard=name == "sharded")
        torch.compile = broken if distributed.rank() == 1 else TRACED
        begin(folder / "half", recipe=replace(small, compile=True), epochs=1)

    assert together(all_in_two) == [True, True]


@UNTESTED
def test_processes_compile_together_or_not_at_all(tmp_path):
    done = in_a_process(tmp_path, "two")
    assert done.stdout.count(f"{SENTENCE}another process cannot compile).") == 1
    check_same_weights(tmp_path / "whole-False", tmp_path / "half")
    for name in ("whole", "sharded"):
        found, expected = (losses(tmp_path / f"{name}-{compiled}") for compiled in (True, False))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


if __name__ == "__main__":
    folder, what = Path(sys.argv[1]), sys.argv[2]
    sys.exit(two_processes(folder) if what == "two" else train(folder, what == "compiled"))
