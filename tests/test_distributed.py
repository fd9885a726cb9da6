"""Several processes train the same run as one."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_cli import interrupted, make_folder
from test_resume import ALONE, RUN, begin, fork, wait_for
from test_training import MODEL, Ticks, brightness

from vit_tutorial import VisionTransformer, normalise, weights
from vit_tutorial.machine import distributed, precision
from vit_tutorial.training import History, schedule, state

# No dropout: its masks are drawn for a process's own images. All else is drawn for the whole batch.
ONE = replace(
    RUN,
    model=replace(MODEL, depth=2),
    epochs=8,
    batch_size=16,
    learning_rate=2e-3,
    muon_learning_rate=3e-4,
    patch_dropout=0.5,
)
UNTESTED = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process that has imported torch")


# ------------------------------------------------------------------------ what the processes do, in a script of its own


def together(function, processes=2):
    """Call `function` in so many processes that know of each other as those of torchrun do; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one(rank):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        with distributed.process_group() as device:
            assert device.type == "cpu"
            function()

    children = [fork(one, rank) for rank in range(processes)]
    return [wait_for(child, None) for child in children]


def refused():
    """What is wrong is said in every process, before any waits for another."""
    for recipe, message in ((replace(ONE, batch_size=15), "a batch size that the 2 processes divide, found 15"),):
        with pytest.raises(ValueError, match=message):
            begin(None, recipe=recipe)


def stop_second(history, progress):
    """An interrupt that one process alone hears."""
    if distributed.rank() == 1 and len(history.steps["loss"]) == 13:
        raise KeyboardInterrupt


def lockstep():
    """The functions themselves, and torch's random numbers, which must stand alike afterwards."""
    rank = distributed.rank()
    assert distributed.share(torch.arange(5)).tolist() == ([0, 1, 2] if rank == 0 else [3, 4, 4])
    assert distributed.gather(distributed.share(torch.arange(5)), 5).tolist() == [0, 1, 2, 3, 4]
    assert distributed.mean(float(rank)) == 0.5 and distributed.from_first(7.25 + rank) == 7.25
    assert distributed.in_any(rank == 1) and not distributed.in_any(False)
    begin(None, recipe=RUN, epochs=2)
    random = torch.get_rng_state().long()
    assert distributed.gather(random, 2 * len(random)).view(2, -1).diff(dim=0).abs().sum() == 0


def runs(folder):
    """Everything that the tests below look at: one process, two, two with sharded weights, stopped and resumed."""
    torch.set_num_threads(1)
    os.environ[precision.PRECISION] = "float32"  # 8 bits of bfloat16 would hide what is compared
    begin(None, epochs=0.2)
    wait_for(fork(begin, folder / "one", recipe=ONE), None)

    def all_in_two():
        begin(folder / "two", stop_second, recipe=ONE)
        begin(folder / "two", recipe=ONE, resume=True)
        begin(folder / "sharded", stop_second, recipe=ONE, shard=True)
        begin(folder / "sharded", recipe=ONE, shard=True, resume=True)
        schedule.time = Ticks(1 / 16 + distributed.rank())  # the clock of the second process is ahead
        begin(folder / "minutes", recipe=ONE, minutes=0.01)
        refused()
        lockstep()

    assert together(all_in_two) == [True, True]


# ------------------------------------------------------------------------------------------------ and what came of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, env=ALONE)
    assert done.returncode == 0, done.stderr
    return folder


def losses(run):
    return torch.tensor(state.load(run)["history"].steps["loss"], dtype=torch.float64)


@UNTESTED
@pytest.mark.parametrize("run", ["two", "sharded"])
def test_two_processes_have_the_loss_curve_of_one(folder, run):
    """Half the batch each, with random crops, mirroring, patch dropout, the average, both optimisers, and a stop."""
    found, expected = losses(folder / run), losses(folder / "one")
    assert len(expected) == 32 and expected[-1] < expected[0] - 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    kept = [weights.load(folder / name / "model.safetensors") for name in (run, "one")]
    images = normalise(brightness(16, seed=1).images, MODEL)
    torch.testing.assert_close(kept[0](images), kept[1](images), rtol=0, atol=1e-3)
    for entry, other in zip(
        *(History.load(folder / name / "history.json").epochs for name in (run, "one")), strict=True
    ):
        assert entry["epoch"] == other["epoch"] and abs(entry["test_loss"] - other["test_loss"]) < 2e-4
        assert abs(entry["test_accuracy"] - other["test_accuracy"]) < 0.1  # one image of 16 at most


@UNTESTED
@pytest.mark.parametrize("run", ["two", "sharded"])
def test_an_interrupt_of_one_process_stops_all_at_the_same_step(folder, run):
    history = History.load(folder / run / "history.json")
    assert history.info["resumed_after_steps"] == [13] and not history.stopped
    assert len(history.steps["loss"]) == 32


@UNTESTED
def test_the_record_says_what_ran(folder):
    history = History.load(folder / "two" / "history.json")
    assert history.info["hardware"].startswith("2 processes of 1 CPU threads")
    assert {path.name for path in (folder / "two").iterdir()} == {"checkpoint.pt", "model.safetensors", "history.json"}
    assert weights.load(folder / "sharded" / "model.safetensors").norm.eps == 1e-5


@UNTESTED
def test_minutes_end_at_the_same_step_in_all_processes(folder):
    history = History.load(folder / "minutes" / "history.json")
    assert history.epochs[-1]["seconds"] == 0.6 and not history.stopped


def test_one_process_shares_nothing():
    batch = torch.arange(5)
    assert distributed.world_size() == 1 and distributed.rank() == 0
    assert distributed.share(batch) is batch and distributed.gather(batch, 5) is batch
    model = VisionTransformer(MODEL)
    assert distributed.parallel(model) is model and distributed.unsharded(model) is model
    with pytest.raises(ValueError, match="expected several processes to shard the model over, found one"):
        begin(None, shard=True)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    message = "found 2 processes and 1 GPUs; start with torchrun --nproc-per-node 1"
    with pytest.raises(ValueError, match=message), distributed.process_group():
        pass


@UNTESTED
def test_torchrun_and_ctrl_c(tmp_path):
    """The command as people type it; Ctrl-C then stops all processes between two steps and keeps the run."""
    make_folder(tmp_path)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "vit_tutorial.cli", "train", "--data", str(tmp_path / "pictures"), "--minutes", "5"]
    _, out, err = interrupted([*command, "--out", str(run)], tmp_path, env=ALONE)
    assert out.count("Stopped early") == 1 and out.count("Reading") == 1, err
    assert History.load(run / "history.json").stopped
    kept = state.load(run)
    info = kept["history"].info
    assert kept["clock"]["steps"] == len(kept["history"].steps["loss"]) > 0
    assert info["command"].startswith("torchrun --nproc-per-node 2 -m vit_tutorial.cli train --data ")
    assert json.loads((run / "history.json").read_text())["info"]["data"] == str(tmp_path / "pictures")


if __name__ == "__main__":
    runs(Path(sys.argv[1]))
