"""TrainingMonitor in a real front end while its cell runs: Stop ends the training, keeps the model, and no more."""

import re

import pytest

pytest.register_assert_rewrite("front_ends")

from front_ends import CLASSIC_CELLS, LAB_CELLS, check_clean, notebook_of, open_notebook, pixels  # noqa: E402


def cells(*minutes):
    """Cells that train for so many minutes: first not at all, when the front end opens, then as often as they run."""
    return [
        f"""
import time
import torch
from vit_tutorial import VisionTransformer, datasets, training, widgets
runs = globals().get("runs", -1) + 1
minutes = {[0, *minutes]}[runs]
data, recipe = datasets.shapes("train")[torch.arange(640)], training.RECIPES["shapes"]
model = VisionTransformer(recipe.config(data))
""",
        """
if minutes:
    history = training.train(model, data, recipe, data, minutes=minutes, on_step=widgets.TrainingMonitor())
""",
        """
if minutes:
    time.sleep(3)  # an interrupt that comes too late would end this
    print("run", runs, "stopped", history.stopped, "training", model.training, "tests", history.accuracy is not None)
""",
    ]


# Presses Stop as soon as it is there: the training of 3 seconds may be over before Playwright gets to it.
PRESS_AT_ONCE = """() => new MutationObserver((changes, observer) => {
  const stop = document.querySelector(".vit-monitor button:enabled");
  if (!stop) return;
  observer.disconnect();
  stop.click();
  window.pressed = true;
}).observe(document.body, { childList: true, subtree: true, attributes: true })"""


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


@pytest.mark.parametrize(
    ("front_end", "interrupts"),
    [("lab", 0), pytest.param("notebook7", 0, marks=pytest.mark.slow), ("classic", 1)],  # the second is as the first
)
def test_stop_ends_the_training_and_nothing_else(front_end, interrupts, tmp_path):
    from playwright.sync_api import expect

    with open_notebook(front_end, notebook_of(cells(2)), tmp_path) as opened:
        assert not any(opened.errors)
        page, asked = opened.page, count_interrupts(opened.page)
        root = run_again(opened)
        facts, canvas, stop = root.locator(".vit-pace"), root.get_by_role("application"), root.get_by_role("button")
        expect(facts).to_have_text(re.compile(r"step \d+ · \d+ % · [\d.]+ steps/s · [12]:\d\d left"), timeout=60_000)

        # It follows the training, and answers meanwhile.
        before, words = pixels(canvas), facts.inner_text()
        expect(facts).not_to_have_text(words, timeout=20_000)
        assert pixels(canvas) != before
        canvas.focus()
        page.keyboard.press("Home")
        expect(root.get_by_role("status")).to_contain_text("Step 1: loss 2.")
        page.keyboard.press("Escape")

        stop.focus()
        page.keyboard.press("Enter")
        expect(stop).to_be_disabled()
        expect(root.get_by_role("status")).to_contain_text("Stopped; the model is kept. Test accuracy", timeout=30_000)
        expect(page.get_by_text("run 1 stopped True training False tests True")).to_be_visible(timeout=20_000)
        assert len(asked) == interrupts and root.count() == 1
        check_clean(page)
        # The notebook holds the last picture, for pages without widgets.
        if front_end == "classic":
            outputs = page.evaluate(f"() => {CLASSIC_CELLS}[1].output_area.toJSON()")
        else:
            outputs = page.evaluate(f"() => {LAB_CELLS}[1].model.outputs.toJSON()")
        (output,) = outputs
        assert {"image/png", "text/plain"} < set(output["data"])
        assert "Stopped; the model is kept." in output["metadata"]["image/png"]["alt"]


def test_a_page_that_must_interrupt_does_so_only_in_time(tmp_path):
    """In the classic Notebook: not when the training is about to end, and not where the page cannot."""
    from playwright.sync_api import expect

    with open_notebook("classic", notebook_of(cells(0.05, 2)), tmp_path) as opened:
        page, asked = opened.page, count_interrupts(opened.page)
        page.evaluate(PRESS_AT_ONCE)
        run_again(opened)
        expect(page.get_by_text("run 1 stopped False training False tests True")).to_be_visible(timeout=60_000)
        assert page.evaluate("window.pressed") and not asked

        page.evaluate("() => { const k = Jupyter.notebook.kernel; [k.later, k.interrupt] = [k.interrupt, null]; }")
        root = run_again(opened)
        expect(root.locator(".vit-pace")).to_contain_text("left", timeout=60_000)
        root.get_by_role("button").click()
        expect(root.get_by_role("status")).to_have_text("Press the notebook's own stop button; the model is kept.")
        page.evaluate("() => void Jupyter.notebook.kernel.later()")  # the reader does
        expect(page.get_by_text("run 2 stopped True training False tests True")).to_be_visible(timeout=60_000)
        check_clean(page)
