"""TrainingMonitor in a real front end while its cell runs: Stop ends the training, keeps the model, and no more."""

import re

import pytest

pytest.register_assert_rewrite("front_ends")

from front_ends import CLASSIC_CELLS, LAB_CELLS, check_clean, notebook_of, open_notebook, pixels  # noqa: E402

LONG = 10  # minutes, more than any test waits for the end


def cells(go, *minutes):
    """Cells that train for so many minutes: first not at all, when the front end opens, then as often as they run.

    From their third run on they wait in their first step for the file `go`; with that, the time of the training is up.
    """
    return [
        f"""
import time
from pathlib import Path
from types import SimpleNamespace
import torch
from vit_tutorial import VisionTransformer, datasets, training, widgets
widgets.monitor.SHARE = 1.0  # news four times a second, however slow the machine
class Held(widgets.TrainingMonitor):
    def __call__(self, history, progress):
        super().__call__(history, progress)
        while not go.exists():
            time.sleep(0.1)
runs, go, Monitor = globals().get("runs", -1) + 1, Path({str(go)!r}), widgets.TrainingMonitor
if runs > 1:
    training.schedule.time, Monitor = SimpleNamespace(perf_counter=lambda: 3600.0 * go.exists()), Held
minutes = {[0, *minutes]}[runs]
data, recipe = datasets.shapes("train", 640), training.RECIPES["shapes"]
model = VisionTransformer(recipe.config(data))
""",
        """
if minutes:
    history = training.train(model, data, recipe, data, minutes=minutes, on_step=Monitor())
""",
        """
if minutes:
    time.sleep(3)  # an interrupt that comes too late would end this
    print("run", runs, "stopped", history.stopped, "training", model.training, "tests", history.accuracy is not None)
""",
    ]


def run_again(opened):
    """Starts all cells and returns the monitor that appears."""
    if opened.front_end == "classic":
        opened.page.evaluate(f"() => {CLASSIC_CELLS}.forEach((cell) => cell.execute(false))")
    else:
        opened.page.evaluate("() => void jupyterapp.commands.execute('notebook:run-all-cells')")
    return opened.page.locator(".vit-monitor")


def count_interrupts(page):
    asked = []
    page.on("request", lambda request: request.url.endswith("/interrupt") and asked.append(request.url))
    return asked


def check_stop(opened, interrupts):
    """The second run is stopped by keyboard, with so many interrupts of the kernel."""
    from playwright.sync_api import expect

    assert not any(opened.errors)
    page, asked = opened.page, count_interrupts(opened.page)
    root = run_again(opened)
    facts, canvas, stop = root.locator(".vit-pace"), root.get_by_role("application"), root.get_by_role("button")
    expect(facts).to_have_text(re.compile(r"step \d+ · \d+ % · [\d.]+ steps/s · \d+:\d\d left"))

    # It follows the training, and answers meanwhile.
    before, words = pixels(canvas), facts.inner_text()
    expect(facts).not_to_have_text(words)
    assert pixels(canvas) != before
    canvas.focus()
    page.keyboard.press("Home")
    expect(root.get_by_role("status")).to_contain_text("Step 1: loss 2.")
    page.keyboard.press("Escape")

    stop.focus()
    page.keyboard.press("Enter")
    expect(stop).to_be_disabled()
    expect(root.get_by_role("status")).to_contain_text("Stopped; the model is kept. Test accuracy")
    expect(page.get_by_text("run 1 stopped True training False tests True")).to_be_visible()
    assert len(asked) == interrupts and root.count() == 1
    check_clean(page)
    # The notebook holds the last picture, for pages without widgets.
    if opened.front_end == "classic":
        outputs = page.evaluate(f"() => {CLASSIC_CELLS}[1].output_area.toJSON()")
    else:
        outputs = page.evaluate(f"() => {LAB_CELLS}[1].model.outputs.toJSON()")
    (output,) = outputs
    assert {"image/png", "text/plain"} < set(output["data"])
    assert "Stopped; the model is kept." in output["metadata"]["image/png"]["alt"]


@pytest.mark.parametrize("front_end", ["lab", pytest.param("notebook7", marks=pytest.mark.slow)])  # built of its parts
def test_stop_ends_the_training_and_nothing_else(front_end, tmp_path):
    with open_notebook(front_end, notebook_of(cells(tmp_path, LONG)), tmp_path) as opened:
        check_stop(opened, interrupts=0)


def test_a_page_that_must_interrupt_does_so_only_in_time(tmp_path):
    """In the classic Notebook: not when the training is about to end, and not where the page cannot."""
    from playwright.sync_api import expect

    go = tmp_path / "go"
    with open_notebook("classic", notebook_of(cells(go, LONG, LONG, LONG)), tmp_path) as opened:
        check_stop(opened, interrupts=1)
        page, asked = opened.page, count_interrupts(opened.page)
        run_again(opened).get_by_role("button").click()  # when no time is known to be left
        page.wait_for_timeout(3000)  # twice as long as the page waits for Python
        go.touch()
        expect(page.get_by_text("run 2 stopped False training False tests True")).to_be_visible()
        assert not asked

        page.evaluate("() => { const k = Jupyter.notebook.kernel; [k.later, k.interrupt] = [k.interrupt, null]; }")
        root = run_again(opened)
        root.get_by_role("button").click()
        expect(root.get_by_role("status")).to_have_text("Press the notebook's own stop button; the model is kept.")
        page.evaluate("() => void Jupyter.notebook.kernel.later()")  # the reader does
        expect(page.get_by_text("run 3 stopped True training False tests True")).to_be_visible()
        check_clean(page)
