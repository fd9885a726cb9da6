"""TrainingMonitor without a page: what it sends, what it costs, how a run ends, and the picture that stays.

pytest tests/test_widget_monitor.py -k cost -s      # prints the monitor's share of a training's time
"""

import math
import sys
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from vit_tutorial import VisionTransformer, ViTConfig, normalise, training, weights
from vit_tutorial.datasets import ImageSet
from vit_tutorial.training import History, Recipe, trainer
from vit_tutorial.widgets import TrainingMonitor
from vit_tutorial.widgets.monitor import clock, extremes, running_mean

MODEL = ViTConfig(
    image_size=8, patch_size=4, num_classes=2, embed_dim=16, depth=1, num_heads=2, classes=("dark", "light")
)
RECIPE = Recipe(model=MODEL, epochs=4, batch_size=16, learning_rate=5e-3, crop=1, ema=0.9)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VisionTransformer(MODEL)


def brightness(count=64):
    """Dark and light images: a task that a tiny ViT learns in a second."""
    labels = torch.arange(count) % 2
    return ImageSet((200 * labels.view(-1, 1, 1, 1).expand(-1, 3, 8, 8)).to(torch.uint8), labels, ("dark", "light"))


def fake(losses, evaluations=()):
    """A `History` with these losses, and `(step, accuracy)` of evaluations, as it looks after each step."""
    history = History()
    for step, loss in enumerate(losses, start=1):
        for after, accuracy in evaluations:
            if after == step - 1:
                entry = {"epoch": after / 10, "seconds": 1.0, "train_loss": None, "test_loss": 2.0}
                history.epochs.append(entry | {"test_accuracy": accuracy})
        history.steps["loss"].append(loss)
        history.steps["learning_rate"].append(0.1 / step)
        yield history, step / len(losses)


def follow(losses, evaluations=()):
    monitor = TrainingMonitor()
    for history, progress in fake(losses, evaluations):
        monitor(history, progress)
    monitor.finish(history)
    return monitor


def series(monitor):
    return np.frombuffer(monitor.series, "<f4").reshape(4, -1)


# ------------------------------------------------------------------------------------------ what it shows


def test_follows_a_training(model):
    states = []

    class Watched(TrainingMonitor):
        def __call__(self, history, progress):
            self._next = 0.0  # no pause between updates
            super().__call__(history, progress)
            states.append((self.state, self.progress))

        _next = 0.0

    monitor = Watched()
    assert repr(monitor) == "TrainingMonitor(waiting, 0 steps)"
    history = training.train(model, brightness(), RECIPE, brightness(8), on_step=monitor)
    assert states[-1] == ("finishing", 1.0) and {state for state, _ in states[:-1]} == {"running"}
    assert monitor.state == "finished" and repr(monitor) == "TrainingMonitor(finished, 16 steps)"
    steps, losses, means, rates = series(monitor)
    assert steps.tolist() == list(range(1, 17))
    assert losses.tolist() == np.float32(history.steps["loss"]).tolist()
    assert rates.tolist() == np.float32(history.steps["learning_rate"]).tolist()
    assert means[-1] == pytest.approx(sum(history.steps["loss"][-5:]) / 5)
    evaluations = np.frombuffer(monitor.evaluations, "<f4").reshape(-1, 5)
    assert evaluations[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert evaluations[:, 4].tolist() == np.float32([entry["test_accuracy"] for entry in history.epochs]).tolist()
    assert monitor.says == f"Finished. Test accuracy after step 16: {100 * history.accuracy:.2f} %."
    assert monitor.facts == f"16 steps in {clock(history.epochs[-1]['seconds'])}"


def test_a_new_run_starts_afresh(capsys):
    monitor = follow([1.0] * 30, [(0, 0.1)])
    for history, progress in fake([2.0, 3.0]):
        monitor(history, progress)
    monitor.finish(history)
    assert monitor.run == 2 and series(monitor)[1].tolist() == [2.0, 3.0] and monitor.evaluations == b""
    assert capsys.readouterr() == ("", "")  # nothing is printed where there is no notebook


def test_few_points_keep_every_extreme():
    losses = torch.rand(50_000, generator=torch.Generator().manual_seed(0)).numpy()
    losses[[123, 40_000, 777]] = 9.0, -9.0, math.nan
    shown = extremes(losses, 400)
    assert len(shown) < 810 and (np.diff(shown) > 0).all()
    assert {0, 123, 777, 40_000, 49_999} <= set(shown.tolist())
    assert extremes(losses[:300], 400).tolist() == list(range(300))
    assert extremes(losses[:0], 400).tolist() == []


def test_the_mean_leaves_out_what_is_no_number():
    values = np.array([1.0, 3.0, math.nan, 5.0, math.inf, math.nan, math.nan])
    np.testing.assert_array_equal(running_mean(values, 2), [1.0, 2.0, 3.0, 5.0, 5.0, math.nan, math.nan])


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (
            [2.0, math.nan, math.nan],
            "At step 2 the loss became not a number (NaN): the weights are spoilt, more steps ",
        ),
        ([2.0, math.inf, 2.0], "Finished. At step 2 the loss became infinite."),
    ],
)
def test_a_loss_that_is_no_number_is_named(losses, said):
    monitor = follow(losses, [(0, 0.1), (1, None)])
    assert said in monitor.says
    figure, alt = monitor.figure()
    assert said in alt and len(figure.axes) == 3
    monitor.log = True
    assert monitor.figure()[0].axes[0].get_yscale() == "log"


# ------------------------------------------------------------------------------------------ how it ends


def test_stop_ends_the_run_and_keeps_the_model(model, tmp_path):
    monitor, steps = TrainingMonitor(), []

    def on_step(history, progress):
        steps.append(progress)
        if len(steps) == 6:
            monitor._heard(monitor, {"stop": monitor.run - 1}, [])  # a click on an earlier run: nothing
        if len(steps) == 7:
            monitor._heard(monitor, {"stop": monitor.run}, [])
        monitor(history, progress)

    on_step.finish = monitor.finish
    history = training.train(model, brightness(), RECIPE, brightness(8), out=tmp_path, on_step=on_step)
    assert history.stopped and len(history.steps["loss"]) == 7 and history.accuracy is not None
    assert monitor.state == "stopped" and monitor.says.startswith(
        "Stopped; the model is kept. Test accuracy after step 7: "
    )
    images = normalise(brightness(8).images, MODEL)
    assert torch.equal(weights.load(tmp_path / "model.safetensors")(images), model(images))
    history = training.train(model, brightness(), RECIPE, on_step=monitor)  # the click is forgotten
    assert not history.stopped and monitor.state == "finished"


def test_updates_take_less_than_a_hundredth_of_the_time(monkeypatch):
    """However slow they are: here half a second each, in a training of 20 minutes."""
    now, updates = 0.0, []

    class Slow(TrainingMonitor):
        def _update(self, state):
            nonlocal now
            now += 0.5
            updates.append(state)

    monkeypatch.setattr("vit_tutorial.widgets.monitor.perf_counter", lambda: now)
    monitor, history = Slow(), History()
    for step in range(1, 24_001):
        now += 0.05
        monitor(history, step / 24_000)
    assert 4 < len(updates) and 0.5 * len(updates) < 0.01 * now


def test_an_error_in_the_training_ends_the_monitor(model):
    monitor = TrainingMonitor()

    def on_step(history, progress):
        monitor(history, progress)
        if progress >= 0.5:
            raise RuntimeError("out of memory")

    on_step.finish = monitor.finish
    with pytest.raises(RuntimeError, match="out of memory"):
        training.train(model, brightness(), RECIPE, on_step=on_step)
    assert monitor.state == "failed" and monitor.says == "Ended by an error."


def test_a_failing_front_end_does_not_end_the_training(model, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no front end")

    monitor = TrainingMonitor()
    monkeypatch.setattr(TrainingMonitor, "send_state", broken)
    with pytest.warns(UserWarning, match="the training monitor has stopped, the training continues: OSError"):
        history = training.train(model, brightness(), RECIPE, on_step=monitor)
    assert len(history.steps["loss"]) == 16 and not history.stopped


def lines_of(*functions):
    """The line numbers of functions and of those defined in them."""
    codes, lines = [function.__code__ for function in functions], set()
    while codes:
        code = codes.pop()
        lines |= {line for _, _, line in code.co_lines() if line}
        codes += [constant for constant in code.co_consts if hasattr(constant, "co_lines")]
    return sorted(lines)


def test_an_interrupt_at_any_line_ends_cleanly(model, tmp_path):
    """Ctrl-C, or the page's Stop, on each line of the loop in turn, when it is first reached and at the end."""
    data, test = brightness(32), brightness(4)

    def run(target=None, when=None):
        """A run that is interrupted when it reaches line `target` for the `when`-th time; how often it reached each."""
        hits = Counter()

        def trace(frame, event, argument):
            if frame.f_code.co_filename != trainer.__file__:
                return None
            if event == "line":
                hits[frame.f_lineno] += 1
                if frame.f_lineno == target and hits[target] == when:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            return training.train(model, data, RECIPE, test, epochs=1, out=tmp_path), hits
        finally:
            sys.settrace(None)

    source = Path(trainer.__file__).read_text().splitlines()
    parts = [getattr(trainer.Trainer, name) for name in ("train", "batches", "after_step", "record", "finish", "save")]
    _, reached = run()
    interrupted = 0
    for line in lines_of(*parts, trainer.train_epoch, trainer.evaluate.__wrapped__):
        code = source[line - 1].strip()
        if code.startswith("with autocast"):
            continue  # the trace would come between the end of a `with` and its clean-up
        for when in sorted({1, reached[line]} - {0}):
            model.train()
            history, hits = run(line, when)
            assert history.stopped == (hits[line] >= when), code
            interrupted += history.stopped
            if not history.stopped:
                continue
            assert len(history.steps["loss"]) == len(history.steps["learning_rate"]) <= 2, code
            assert history.epochs[-1]["epoch"] * 2 == len(history.steps["loss"]), code
            assert not model.training, code
            images = normalise(test.images, MODEL)
            assert torch.equal(weights.load(tmp_path / "model.safetensors")(images), model(images)), code
    assert interrupted > 100


# ------------------------------------------------------------------------------------------ in a kernel

TRAINING = """
import time
import torch
from vit_tutorial import VisionTransformer, datasets, training, widgets
torch.set_num_threads(1)
data = datasets.shapes("train", 640)
recipe = training.RECIPES["shapes"]
"""
MEASURE = """
class Timed:
    def __init__(self, monitor):
        self.monitor, self.seconds = monitor, 0.0
    def __call__(self, *args):
        start = time.perf_counter()
        self.monitor(*args)
        self.seconds += time.perf_counter() - start
    def finish(self, history):
        self.following = self.seconds
        start = time.perf_counter()
        self.monitor.finish(history)
        self.seconds += time.perf_counter() - start
timed = Timed(widgets.TrainingMonitor())
model = VisionTransformer(recipe.config(data))
start = time.perf_counter()
history = training.train(model, data, recipe, test=data[torch.arange(100)], epochs=EPOCHS, on_step=timed)
wall = time.perf_counter() - start
"""


def execute(*cells):
    """The notebook of these cells, run by a kernel without a front end."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    nbformat.validate(notebook)
    return notebook


FOLLOW = """
from vit_tutorial.training import History
def follow(monitor, steps):
    history = History()
    for step in range(steps):
        history.steps["loss"].append(1.0)
        history.steps["learning_rate"].append(0.1)
        monitor(history, (step + 1) / steps)
    monitor.finish(history)
monitor = widgets.TrainingMonitor()
follow(monitor, 3)
follow(monitor, 4)
"""


def test_a_cell_shows_one_output_with_the_picture_of_its_last_run():
    notebook = execute(TRAINING, MEASURE.replace("EPOCHS", "1"), FOLLOW, "follow(monitor, 5)")
    outputs = [output for cell in notebook.cells for output in cell.outputs]  # nothing on stderr among them
    for output in outputs:
        assert {"image/png", WIDGET_VIEW} < set(output.data)
    assert [output.data["text/plain"] for output in outputs] == [
        "TrainingMonitor(finished, 10 steps)",
        "TrainingMonitor(finished, 4 steps)",
        "TrainingMonitor(finished, 5 steps)",
    ]
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 1, 1]
    assert "Finished. Test accuracy after step" in outputs[0].metadata["image/png"]["alt"]


@pytest.mark.slow
def test_costs_less_than_a_hundredth_of_the_training(capsys):
    show = "print(timed.following / wall, timed.seconds / wall, len(history.steps['loss']), wall)"
    notebook = execute(TRAINING, MEASURE.replace("EPOCHS", "20"), show)
    following, all_of_it, steps, wall = map(float, notebook.cells[-1].outputs[0].text.split())
    with capsys.disabled():
        print(
            f"\nTrainingMonitor: {following:.2%} of the time while training runs, {all_of_it:.2%} with the picture at "
            f"the end ({steps:.0f} steps in {wall:.0f} s)"
        )
    assert following < 0.01 and all_of_it < 0.05  # the picture is drawn once, however long the run
