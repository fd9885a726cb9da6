"""AttentionExplorer on a timm model with registers, in a page: they can be pointed at and reached by keys.

SCREENSHOTS=folder pytest tests/test_explorer_registers.py      # keeps a picture of it
"""

import os
from pathlib import Path

import pytest
import timm
import torch
from front_ends import axe, check_clean, notebook_of, open_notebook
from playwright.sync_api import expect

from vit_tutorial import datasets, interpret, normalise, weights

MODEL = """
import timm, torch
torch.manual_seed(0)
sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
model = timm.models.VisionTransformer(**sizes, class_token=False, reg_tokens=4, global_pool="avg").eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)
"""
CELL = f"""{MODEL}
from vit_tutorial import datasets, widgets
widgets.AttentionExplorer(model, datasets.sample_image("cat", 32)[None])
"""
STEP = 26  # CSS pixels from one register's box to the next


@pytest.fixture(scope="module")
def attention():
    made = {"timm": timm, "torch": torch}
    exec(MODEL, made)
    images = datasets.sample_image("cat", 32)[None]
    found = interpret.record(made["model"], normalise(images, weights.statistics(made["model"])))
    return found[-1, 0].mean(0).as_subclass(torch.Tensor)  # (20, 20), mean of the heads of the last layer


def test_registers_are_shown_pointed_at_and_reached_by_keys(attention, tmp_path):
    with open_notebook("page", notebook_of([CELL]), tmp_path) as opened:
        assert not opened.errors[0], opened.errors[0]
        opened.reveal(0)
        page, root = opened.page, opened.page.locator(".vit-attention").first
        canvas, status = root.get_by_role("application").first, root.get_by_role("status")

        def shows(query, row):
            best = row[4:].argmax().item()
            registers = ", ".join(f"register {i + 1}: {100 * row[i]:.2f} %" for i in range(4))
            expect(status).to_have_text(
                f"Query: {query}. Strongest patch: row {best // 4 + 1}, column {best % 4 + 1}, "
                f"{100 * row[4 + best]:.2f} %. To {registers}."
            )

        canvas.scroll_into_view_if_needed()
        shows("register 1", attention[0])
        canvas.hover(position={"x": 2.5 * STEP, "y": 12})
        shows("register 3", attention[2])
        if os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / "attention-registers.png")
        canvas.focus()
        for key, query, token in (
            ("ArrowRight", "register 4", 3),
            ("ArrowRight", "register 4", 3),
            ("ArrowDown", "row 1, column 1", 4),
            ("ArrowUp", "register 1", 0),
            ("End", "row 4, column 4", 19),
            ("Home", "register 1", 0),
        ):
            page.keyboard.press(key)
            shows(query, attention[token])
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowRight")
        expect(status).to_contain_text(f"(held). To register 2: {100 * attention[0, 1]:.2f} %.")
        axe(page, root)
        check_clean(page)
