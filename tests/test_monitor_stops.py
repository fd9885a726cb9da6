"""TrainingMonitor in a real front end while its cell runs: Stop ends the training, keeps the model, and no more."""

import re

import pytest

pytest.register_assert_rewrite("front_ends")

from front_ends import CLASSIC_CELLS, LAB_CELLS, check_clean, notebook_of, open_notebook, pixels  # noqa: E402

# The front end runs all cells once, without training, and once more for this test.
CELLS = [
    """
import time
import torch
from vit_tutorial import VisionTransformer, datasets, training, widgets
again = "again" in globals()
data, recipe = datasets.shapes("train")[torch.arange(640)], training.RECIPES["shapes"]
model = VisionTransformer(recipe.config(data))
""",
    """
if again:
    history = training.train(model, data, recipe, data, minutes=2, on_step=widgets.TrainingMonitor())
""",
    """
if again:
    time.sleep(3)  # an interrupt that comes too late would end this
    print("stopped", history.stopped, "training", model.training, "tests", history.accuracy is not None)
""",
]


@pytest.mark.parametrize(("front_end", "interrupts"), [("lab", 0), ("notebook7", 0), ("classic", 1)])
def test_stop_ends_the_training_and_nothing_else(front_end, interrupts, tmp_path):
    from playwright.sync_api import expect

    with open_notebook(front_end, notebook_of(CELLS), tmp_path) as opened:
        page, asked = opened.page, []
        assert not any(opened.errors)
        page.on("request", lambda request: request.url.endswith("/interrupt") and asked.append(request.url))
        if front_end == "classic":
            page.evaluate(f"() => {CLASSIC_CELLS}.forEach((cell) => cell.execute(false))")
        else:
            page.evaluate("() => void jupyterapp.commands.execute('notebook:run-all-cells')")
        root = page.locator(".vit-monitor")
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
        expect(root.get_by_role("status")).to_contain_text("Stopped; the model is kept. Test accuracy", timeout=20_000)
        expect(page.get_by_text("stopped True training False tests True")).to_be_visible(timeout=20_000)
        assert len(asked) == interrupts and root.count() == 1
        check_clean(page)
        # The notebook holds the last picture, for pages without widgets.
        cells = CLASSIC_CELLS if front_end == "classic" else LAB_CELLS
        outputs = "cell.output_area.toJSON()" if front_end == "classic" else "cell.model.outputs.toJSON()"
        (output,) = page.evaluate(f"() => {cells}.map((cell) => {outputs})[1]")
        assert {"image/png", "text/plain"} < set(output["data"])
        assert "Stopped; the model is kept." in output["metadata"]["image/png"]["alt"]
