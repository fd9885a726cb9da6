"""TrainingMonitor: a run of 2,000 steps that ended, its losses made by a formula, one of them not a number."""

import math
import re

from conftest import PATIENCE
from front_ends import pixels, read_table
from playwright.sync_api import expect

CELL = """
import math
from vit_tutorial import widgets
from vit_tutorial.training import History
monitor, history = widgets.TrainingMonitor(), History()
for step in range(1, 2001):
    if step % 500 == 1:
        history.epochs.append({
            "epoch": step // 500, "seconds": step / 50, "train_loss": 2.0 if step > 1 else None, "test_loss": 1.5,
            "test_accuracy": 0.1 + (step - 1) / 4000,
        })
    history.steps["loss"].append(math.nan if step == 1200 else 2.3 * math.exp(-step / 700) + 0.3 * math.sin(step) ** 2)
    history.steps["learning_rate"].append(1e-3 * (1 - step / 2000))
    monitor(history, step / 2000)
history.epochs.append({"epoch": 4, "seconds": 40.0, "train_loss": 0.5, "test_loss": 0.75, "test_accuracy": 0.625})
monitor.finish(history)
"""


def expected():
    losses = [2.3 * math.exp(-step / 700) + 0.3 * math.sin(step) ** 2 for step in range(1, 2001)]
    losses[1199] = math.nan
    return {"loss": losses, "rate": [1e-3 * (1 - step / 2000) for step in range(1, 2001)]}


def drive(page, root, numbers):
    canvas, status = root.get_by_role("application"), root.get_by_role("status")
    said = re.compile(r"Step ([\d,]+): loss (\S+) \(mean (\S+)\), learning rate (\S+)\.(?: Test accuracy .*)?")

    def at(low, high):
        """Waits for the crosshair at a step in low..high; what is said of it must be what the history holds."""
        for _ in range(100 * PATIENCE):
            found = said.fullmatch(status.inner_text())
            if found and low <= int(found[1].replace(",", "")) <= high:
                break
            page.wait_for_timeout(10)
        else:
            raise AssertionError(f"expected a step from {low} to {high}, found {status.inner_text()!r}")
        step, loss, mean, rate = int(found[1].replace(",", "")), *found.groups()[1:]
        true = numbers["loss"][step - 1]
        assert loss == ("NaN" if math.isnan(true) else f"{true:.4f}")
        assert math.isclose(float(rate), numbers["rate"][step - 1], rel_tol=0.005, abs_tol=1e-12)
        recent = [v for v in numbers["loss"][max(0, step - 40) : step] if not math.isnan(v)]  # 2,000 / 50 steps
        assert abs(float(mean) - sum(recent) / len(recent)) < 6e-5

    canvas.scroll_into_view_if_needed()
    ended = "Finished. At step 1,200 the loss became not a number (NaN)."
    expect(status).to_have_text(ended)
    expect(root.locator(".vit-pace")).to_have_text("2,000 steps in 0:40")
    expect(root.get_by_role("button", name="Stop training", include_hidden=True)).to_be_hidden()

    # The pointer: the same step in each of the three panels.
    before = pixels(canvas)
    box = canvas.bounding_box()
    assert box["width"] >= 600, "the panels stand side by side"
    for left, width in ((0, 0.46), (0.46, 0.27), (0.73, 0.27)):
        x = left * box["width"] + 44 + 0.5 * (width * box["width"] - 58)
        canvas.hover(position={"x": x, "y": 110})
        at(988, 1012)
        assert pixels(canvas) != before
        root.locator(".vit-title").hover()
        expect(status).to_have_text(ended)

    # The keyboard: ends, neighbours, strides; every step shown is one of the run's.
    canvas.focus()
    page.keyboard.press("End")
    at(2000, 2000)
    expect(status).to_contain_text("learning rate 0. Test accuracy after step 2,000: 62.50 %.")
    page.keyboard.press("ArrowLeft")
    at(1990, 1999)
    page.keyboard.press("PageUp")
    at(1850, 1950)
    page.keyboard.press("Home")
    at(1, 1)
    page.keyboard.press("ArrowRight")
    at(2, 6)
    page.keyboard.press("Escape")
    expect(status).to_have_text(ended)

    # The logarithmic axis and the numbers, by keyboard.
    before = pixels(canvas)
    root.get_by_label("Logarithmic loss").focus()
    page.keyboard.press("Space")
    expect(root.get_by_label("Logarithmic loss")).to_be_checked()
    assert pixels(canvas) != before
    root.get_by_label("Numbers").focus()
    page.keyboard.press("Space")
    rows = read_table(root.locator("table"))
    assert rows[1] == ["step 0", "0", "–", "1.5000", "10.00 %"]
    assert rows[2] == ["step 500", "1", "2.0000", "1.5000", "22.50 %"]
    assert rows[5] == ["step 2,000", "4", "0.5000", "0.7500", "62.50 %"]
    assert len(rows) == 6
