"""PositionExplorer on models with rotary positions of both kinds, in a page: by pointer and keys, on two grids.

SCREENSHOTS=folder pytest tests/test_explorer_rotary.py      # keeps pictures of it
"""

import math
import os
from pathlib import Path

import pytest
import torch
from front_ends import axe, check_clean, go_dark, narrow, notebook_of, open_notebook, pixels, read_table
from playwright.sync_api import expect

KINDS = ("axial", "dinov3")
CELL = """
from vit_tutorial import ModernConfig, ModernViT, widgets
sizes = {{"image_size": (16, 24), "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2}}
widgets.PositionExplorer(ModernViT(ModernConfig(**sizes, rope="{kind}", position="none")))
"""
SCALE = 34  # CSS pixels under the map: its colour scale


def similarities(kind, rows, columns):
    """(rows, columns, rows, columns): how alike two places turn vectors of 16 numbers, the mean over the 8 pairs."""
    speeds = 100.0 ** (-4 * torch.arange(4) / 16)
    axes = []
    for count in (rows, columns):
        step = 1.0 if kind == "axial" else 4 * math.pi / count  # dinov3: the image is 4 pi wide, however many patches
        apart = step * (torch.arange(count)[:, None] - torch.arange(count))
        axes.append((apart[:, :, None] * speeds).cos().mean(dim=-1))  # (count, count)
    return (axes[0][:, None, :, None] + axes[1][None, :, None, :]) / 2


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    notebook = notebook_of([CELL.format(kind=kind) for kind in KINDS])
    with open_notebook("page", notebook, tmp_path_factory.mktemp("rotary"), device_scale_factor=2) as opened:
        assert opened.errors == [None] * 3, opened.errors
        yield opened


def photograph(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"rotary-{name}.png")


@pytest.mark.parametrize("kind", KINDS)
def test_rotary_positions_are_pointed_at_and_reached_by_keys(opened, kind):
    page, root = opened.page, opened.page.locator(".vit-positions").nth(KINDS.index(kind))
    opened.reveal(KINDS.index(kind))
    canvas, status = root.get_by_role("application").first, root.get_by_role("status")
    positions, grid = (root.get_by_label(name, exact=True) for name in ("Positions", "Grid"))
    caption = root.locator(".vit-caption").first
    small, large = similarities(kind, 4, 6), similarities(kind, 5, 8)

    def table_is(values, number=0):
        lines = read_table(root.locator("table").nth(number))
        found = torch.tensor([[float(text) for text in line[1:]] for line in lines[1:]])
        torch.testing.assert_close(found, values, atol=0.0006, rtol=0)

    expect(positions).to_have_value("rotary")
    expect(caption).to_have_text("Rotary: computed for 4 x 6")
    canvas.scroll_into_view_if_needed()
    before = pixels(canvas)
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 4.5 / 6, "y": (box["height"] - SCALE) * 1.5 / 4})
    expect(status).to_contain_text("Place: row 2, column 5. Most like it: ")
    assert pixels(canvas) != before
    root.get_by_label("Numbers", exact=True).check()
    table_is(small[1, 4])
    photograph(page, kind)

    # The keyboard alone: hold a place, ask about another, a larger grid, all kinds side by side.
    canvas.focus()
    for key in ("Home", "ArrowDown", "Enter", "End"):
        page.keyboard.press(key)
    value = f"{small[1, 0, 3, 5]:.3f}"
    expect(status).to_have_text(f"Place: row 2, column 1 (held). Similarity to row 4, column 6: {value}.")
    page.keyboard.press("Escape")
    grid.focus()
    page.keyboard.press("ArrowRight")
    expect(caption).to_have_text("Rotary: computed for 5 x 8")
    table_is(large[1, 0])
    positions.focus()
    page.keyboard.press("End")
    expect(root.get_by_role("application")).to_have_count(3)
    table_is(large[1, 0])
    table_is(torch.ones(5, 8), 2)
    page.keyboard.press("Home")
    axe(page, root)
    check_clean(page)
    with narrow(opened, 500):
        root.scroll_into_view_if_needed()
        assert root.evaluate("(root) => root.getBoundingClientRect().right <= innerWidth + 1")
        photograph(page, f"{kind}-narrow")


def test_rotary_positions_in_the_dark(opened):
    go_dark(opened)
    for number, kind in enumerate(KINDS):
        opened.reveal(number)
        photograph(opened.page, f"{kind}-dark")
        axe(opened.page, opened.page.locator(".vit-positions").nth(number))
    check_clean(opened.page)
