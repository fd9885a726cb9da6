"""A run that ends before its time, in whatever way, goes on to the weights that it would have had."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import MODEL, RECIPE, Ticks, brightness

from vit_tutorial import VisionTransformer, cli, training, weights
from vit_tutorial.machine import precision, run_folder
from vit_tutorial.training import History, schedule, state, trainer

# Everything that has a memory or is random: two optimisers, the average, augmentation, dropout.
RUN = replace(
    RECIPE, model=replace(MODEL, dropout=0.1, drop_path=0.1), epochs=10, muon_learning_rate=1e-2, batch_size=12
)
KILLS = 20
ALONE = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # a process without threads, which may fork


def begin(out, on_step=None, resume=False, recipe=RUN, **arguments):
    """The history and the model of a run in `out`: 10 epochs of 5 steps, or what `arguments` say."""
    torch.manual_seed(0)
    model = VisionTransformer(recipe.model)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5  # as in models of other libraries; the config does not say it
    test = brightness(16, seed=1)
    return training.train(
        model, brightness(), recipe, test, out=out, on_step=on_step, resume=resume, **arguments
    ), model


def check_same(run, whole):
    """Two run folders hold the same weights, bit for bit, and the same history."""
    kept = [weights.load(folder / "model.safetensors").state_dict() for folder in (run, whole)]
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    one, other = (state.load(folder) for folder in (run, whole))
    for part in ("model", "average"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items()), part
    for name, memory in one["optimizer"].items():
        assert all(torch.equal(value, other["optimizer"][name][key]) for key, value in memory.items()), name
    assert torch.equal(one["random"]["cpu"], other["random"]["cpu"])
    assert one["history"].steps == other["history"].steps
    for found in (one, other):
        for entry in found["history"].epochs:
            del entry["seconds"]
    assert one["history"].epochs == other["history"].epochs and not one["history"].stopped
    assert one["finished"] and {p.name for p in run.iterdir()} == {"checkpoint.pt", "model.safetensors", "history.json"}


def check_readable(run):
    """Whatever a killed process left can be read: each file is there as a whole, or not at all."""
    found = {path.name for path in run.iterdir()} if run.exists() else set()
    if "checkpoint.pt" in found:
        state.load(run)
    if "history.json" in found:
        History.load(run / "history.json")
    if "model.safetensors" in found:
        weights.load(run / "model.safetensors")
        assert "checkpoint.pt" in found  # what was trained can be gone on with


def kill_at_random_moments(folder, seed):
    """One undisturbed run in `folder/whole`, then runs in `folder/0`, `folder/1` ... until KILLS processes were killed.

    Each child is a fork, which costs no import of torch; so this must run in a process without threads.
    """
    torch.set_num_threads(1)
    trainer.EVERY, trainer.SHARE = 0.0, 0.5  # writes half of the time, so that many kills fall into a write
    begin(None, epochs=0.2)  # what torch imports and measures at a first step, it need not in each child
    moments, kills, run = random.Random(seed), 0, 0
    start = time.monotonic()
    wait_for(fork(begin, folder / "whole"), None)
    seconds = time.monotonic() - start
    while kills < KILLS:
        out, finished = folder / str(run), False
        while not finished:
            child = fork(begin, out, resume=(out / "checkpoint.pt").exists())
            patience = moments.uniform(0, seconds / 4) if kills < KILLS else None
            finished = wait_for(child, patience)
            kills += not finished
            check_readable(out)
        run += 1
    print(kills, run)


def fork(function, *arguments, **keywords):
    """A child process that calls `function`, and ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*arguments, **keywords)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def wait_for(child, seconds):
    """Whether the child came to its end; it is killed after `seconds` (None: never)."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if pid:
            if os.WIFSIGNALED(status):
                return False
            assert status == 0
            return True
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.0005)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process that has imported torch")
def test_killed_at_any_moment_a_run_goes_on_to_the_same_weights(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, __file__, str(tmp_path), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=ALONE)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    kills, runs = map(int, done.stdout.split())
    assert kills == KILLS
    resumed = 0
    for run in range(runs):
        check_same(tmp_path / str(run), tmp_path / "whole")
        resumed += len(History.load(tmp_path / str(run) / "history.json").info.get("resumed_after_steps", []))
    assert resumed >= 2, f"seed {seed}"  # how many moments come after a checkpoint is chance: 4 of 20 have been seen


@pytest.mark.parametrize("steps", [0, 7, 10, 49, 50])
def test_a_stopped_run_goes_on_where_it_was(steps, tmp_path, monkeypatch):
    """Stopped by a callback: in an epoch, at its end, before and after the last step. Nothing is done twice."""
    calls = []

    def stop(history, progress):
        calls.append(progress)
        if len(calls) == max(steps, 1):
            raise KeyboardInterrupt

    begin(tmp_path / "whole")
    history, _ = begin(tmp_path / "run", stop)
    assert history.stopped and len(calls) == max(steps, 1)
    history, model = begin(tmp_path / "run", lambda history, progress: calls.append(progress), resume=True)
    assert len(calls) == 50 and not history.stopped and history.info["resumed_after_steps"] == [max(steps, 1)]
    check_same(tmp_path / "run", tmp_path / "whole")
    assert not model.training
    kept = weights.load(tmp_path / "run" / "model.safetensors").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_a_run_goes_on_in_the_precision_that_it_began_with(tmp_path, monkeypatch):
    seen = []

    class Seen(precision.MixedPrecision):
        def forward(self, images):
            seen.append(self.bf16)
            return super().forward(images)

    def stop(history, progress):
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "MixedPrecision", Seen)

    monkeypatch.setenv(precision.PRECISION, "bfloat16")
    begin(tmp_path, stop, epochs=1)
    monkeypatch.setenv(precision.PRECISION, "float32")
    history, _ = begin(tmp_path, stop, resume=True, epochs=1)
    assert seen == [True] * 5 and history.info["precision"] == "bfloat16"


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    first, trained = begin(tmp_path, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again, model = begin(tmp_path, on_step=lambda *_: pytest.fail("a step"), resume=True, epochs=1)
    assert again.steps == first.steps and again.epochs == first.epochs and not model.training
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_minutes_go_on_from_the_time_that_was_used(tmp_path, monkeypatch):
    clock = Ticks()
    monkeypatch.setattr(schedule, "time", clock)

    def stop_late(history, progress):
        if progress >= 0.6:
            raise KeyboardInterrupt

    seen = []
    history, _ = begin(tmp_path, stop_late, minutes=0.02)
    steps = len(history.steps["loss"])
    clock.now += 3600  # the break does not count
    history, _ = begin(tmp_path, lambda history, progress: seen.append(progress), resume=True, minutes=0.02)
    assert history.epochs[-1]["seconds"] == 1.2
    assert 0.6 <= seen[0] < 0.7 and seen[-1] > 0.95
    assert len(history.steps["loss"]) == steps + len(seen)
    assert history.steps["learning_rate"][steps + 2] < 0.5 * RUN.learning_rate


def test_checkpoints_cost_less_than_a_hundredth(tmp_path, monkeypatch):
    """Their distance follows from what one costs: here a write takes 50 ms, so none for 5 s and more."""
    clock, written, save = Ticks(), [], torch.save
    monkeypatch.setattr(schedule, "time", clock)

    def slow(state, file):
        clock.now += 0.05
        written.append(state["clock"]["elapsed"])
        save(state, file)

    monkeypatch.setattr(run_folder.torch, "save", slow)
    monkeypatch.setattr(trainer, "EVERY", 0.0)
    history, _ = begin(tmp_path, minutes=0.01)
    assert len(written) == 2  # one at the start, one at the end
    monkeypatch.setattr(trainer, "SHARE", 0.25)
    begin(tmp_path, minutes=0.015)
    distances = [b - a for a, b in zip(written[2:-2], written[3:-1], strict=True)]
    assert len(distances) >= 2 and min(distances) >= 0.05 / 0.25


# ---------------------------------------------------------------------------------------------- what goes wrong

DAMAGES = {
    "empty": (lambda data: b"", "unreadable"),
    "truncated": (lambda data: data[: len(data) // 2], "unreadable"),
    "one byte short": (lambda data: data[:-1], "unreadable"),
    "text": (lambda data: b"weights, honestly", "unreadable"),
    "a pickle that would run a command": (lambda data: b"cos\nsystem\n(S'touch harmed'\ntR.", "unreadable"),
    "zeros inside": (lambda data: data[:1000] + bytes(2000) + data[3000:], "unreadable|damaged"),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_named(damage, message, tmp_path, monkeypatch):
    begin(tmp_path, epochs=1)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"(?s)expected .*({message}).*start the run anew"):
        begin(tmp_path, resume=True, epochs=1)
    assert not (tmp_path / "harmed").exists()


def other(**changes):
    return lambda state: state | changes


OTHER_SHAPES = {
    "a list": (lambda state: [1, 2], "found 'list'"),
    "a state dict": (lambda state: state["model"], "found None"),
    "another format": (other(format="vit_tutorial run 9"), "found 'vit_tutorial run 9'"),
    "a part missing": (lambda state: {k: v for k, v in state.items() if k != "order"}, "found order damaged"),
    "a part of another kind": (other(clock=3, history=[]), "found clock, history damaged"),
    "no such history": (other(history={"future": 1}), "unexpected keyword"),
    "another model's weights": (
        lambda state: state | {"model": {n: torch.zeros(*v.shape, 1) for n, v in state["model"].items()}},
        "size mismatch",
    ),
    "no weights": (other(model={}), "Missing key"),
    "no average": (other(average={}), "Missing key"),
    "learning rates missing": (other(learning_rates=[0.1]), "zip"),
    "random numbers of another kind": (other(random={"cpu": torch.zeros(3)}), "ByteTensor|dtype"),
    "no random numbers": (other(random={}), "KeyError"),
}


@pytest.mark.parametrize("change, message", OTHER_SHAPES.values(), ids=OTHER_SHAPES.keys())
def test_a_checkpoint_of_another_shape_is_named(change, message, tmp_path):
    begin(tmp_path, epochs=1)
    path = tmp_path / "checkpoint.pt"
    torch.save(change(torch.load(path)), path)
    with pytest.raises(ValueError, match=rf"(?s)expected .*({message}).*anew in another folder"):
        begin(tmp_path, resume=True, epochs=1)


OTHER_RUNS = {
    "seed": ({"seed": 1}, "found seed 1 instead of 0; repeat those"),
    "length": ({"epochs": 2}, "found epochs 2 instead of 1"),
    "recipe": ({"recipe": replace(RUN, ema=0.5, crop=2)}, "found recipe.ema 0.5 instead of 0.9, recipe.crop 2 instead"),
}


@pytest.mark.parametrize("arguments, message", OTHER_RUNS.values(), ids=OTHER_RUNS.keys())
def test_a_run_goes_on_with_its_own_arguments_only(arguments, message, tmp_path):
    begin(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, resume=True, **{"epochs": 1, **arguments})


def test_a_run_from_before_goes_on_though_it_recorded_less(tmp_path, monkeypatch):
    """Once a record had the recipe's own model, no range of values, and knew of no balance."""

    def stop(history, progress):
        if len(history.steps["loss"]) == 3:
            raise KeyboardInterrupt

    named = replace(RUN, model=replace(RUN.model, classes=(), image_size=(8, 8)), balanced=False)
    begin(tmp_path / "whole", recipe=named, epochs=2)
    begin(tmp_path / "run", stop, recipe=named, epochs=2)
    path = tmp_path / "run" / "checkpoint.pt"
    saved = torch.load(path)
    record = saved["history"]["info"]["recipe"]
    record["model"] |= {"classes": (), "image_size": (8, 8)}
    del record["balanced"], record["model"]["value_range"]
    torch.save(saved, path)
    begin(tmp_path / "run", recipe=named, epochs=2, resume=True)
    check_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    begin(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"found dataset \d+ instead of \d+"):
        training.train(VisionTransformer(RUN.model), brightness(62), RUN, epochs=1, out=tmp_path, resume=True)


def test_nothing_to_go_on_with(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no checkpoint.pt there; start it with vit-tutorial train"):
        begin(tmp_path, resume=True)


# ---------------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def file_size_limit():
    """Sets the size at which the system refuses to write on: an error from the same place as a full disk's."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors", "history.json"])
def test_a_full_disk_loses_nothing(name, tmp_path, monkeypatch, file_size_limit):
    """Each file in turn is the one that does not fit; then there is room again, and the run goes on."""
    begin(tmp_path / "whole")
    monkeypatch.setattr(trainer, "EVERY", 0.0 if name == "checkpoint.pt" else 3600.0)
    monkeypatch.setattr(trainer, "SHARE", 1.0)
    run, kept = tmp_path / "run", {}

    def fill_the_disk(history, progress):
        if progress >= 0.5 and not kept:
            kept.update({path.name: path.read_bytes() for path in run.iterdir()})
            if name == "history.json":  # the smallest: let the others through
                monkeypatch.setattr(run_folder.weights, "save", lambda *_: None)
            file_size_limit(min(len(kept[name]) - 1, 2000))

    with pytest.raises(OSError, match=r"expected to write the run into .*too large.*then continue") as caught:
        begin(run, fill_the_disk)
    assert "run" in str(caught.value) and kept
    file_size_limit(resource.RLIM_INFINITY)
    monkeypatch.undo()
    assert {path.name for path in run.iterdir()} == set(kept)  # no half file, none lost
    assert (run / name).read_bytes() == kept[name]
    check_readable(run)
    begin(run, resume=True)
    check_same(run, tmp_path / "whole")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_left_on_the_device(tmp_path, monkeypatch):
    """Linux has a file for it: what is written there ends with the very error of a full disk."""
    save = torch.save

    def full(state, file):
        with open("/dev/full", "wb") as device:
            save(state, device)

    monkeypatch.setattr(run_folder.torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        begin(tmp_path, epochs=1)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- in a shell


@pytest.fixture
def shell_run(tmp_path, monkeypatch, capsys):
    """A run in `run` that was stopped after its third step, as the command line does it."""
    from test_cli import make_folder

    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path)
    train = training.train

    def stopped(*arguments, on_step, **keywords):
        def stop(history, progress):
            on_step(history, progress)
            if len(history.steps["loss"]) == 3:
                raise KeyboardInterrupt

        return train(*arguments, on_step=stop, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", stopped)
        assert cli.main(["train", "--data", "pictures", "--epochs", "6", "--out", "run", "--seed", "3"]) == 0
    assert "Continue with: vit-tutorial train --resume run" in capsys.readouterr().out
    return tmp_path / "run"


def test_resume_in_a_shell(shell_run, capsys):
    assert cli.main(["train", "--resume", "run"]) == 0
    assert "Trained: 6.0 epochs" in capsys.readouterr().out
    history = History.load(shell_run / "history.json")
    assert (history.info["seed"], history.info["data"], history.info["resumed_after_steps"]) == (3, "pictures", [3])
    assert cli.main(["train", "--data", "pictures", "--epochs", "6", "--out", "whole", "--seed", "3"]) == 0
    check_same(shell_run, shell_run.parent / "whole")
    capsys.readouterr()
    assert cli.main(["train", "--resume", "run"]) == 0
    assert "Nothing left to do: the run in run is finished (6.0 epochs" in capsys.readouterr().out


CONTRADICTIONS = {
    "seed": (["--seed", "4"], "the run's own seed (3), found --seed 4; leave it out"),
    "recipe": (["--recipe", "shapes"], "the run's own recipe (cifar10-laptop), found --recipe shapes"),
    "size": (["--image-size", "48"], "the run's own image_size (None), found --image-size 48"),
    "balance": (["--balanced"], "the run's own balanced (None), found --balanced True"),
    "length": (["--minutes", "2"], "the run's own minutes (None), found --minutes 2.0"),
    "folder": (["--out", "elsewhere"], "the run's own out (run), found --out elsewhere"),
}


def test_what_contradicts_the_run_is_named(shell_run, capsys):
    for arguments, message in CONTRADICTIONS.values():
        assert cli.main(["train", "--resume", "run", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert cli.main(["train", "--data", "pictures", "--out", "run"]) == 2
    assert "or continue with --resume run" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "nowhere"]) == 2
    assert "found no checkpoint.pt there" in capsys.readouterr().err
    (shell_run / "checkpoint.pt").write_bytes(b"PK")
    assert cli.main(["train", "--resume", "run"]) == 2
    error = capsys.readouterr().err
    assert "unreadable" in error and error.count("\n") == 1


def test_a_full_disk_in_a_shell_is_one_line(shell_run, capsys, file_size_limit):
    before = {path.name: path.read_bytes() for path in shell_run.iterdir()}
    file_size_limit(10_000)
    status = cli.main(["train", "--resume", "run"])
    file_size_limit(resource.RLIM_INFINITY)
    error = capsys.readouterr().err.split("\r")[-1].strip().splitlines()[-1]
    assert status == 2 and "make room, then continue with --resume run" in error and "Traceback" not in error
    assert {path.name: path.read_bytes() for path in shell_run.iterdir()} == before


if __name__ == "__main__":
    kill_at_random_moments(Path(sys.argv[1]), int(sys.argv[2]))
