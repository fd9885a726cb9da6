"""PositionExplorer: the trained checkpoint, on its own grid and on others."""

import torch
import torch.nn.functional as F
from front_ends import pixels, read_table
from playwright.sync_api import expect

from vit_tutorial import interpolate_positions, sinusoidal_positions, weights
from vit_tutorial.files import CHECKPOINT

CELL = """
from vit_tutorial import weights, widgets
from vit_tutorial.files import CHECKPOINT
widgets.PositionExplorer(weights.load(CHECKPOINT))
"""
SCALE = 34  # CSS pixels under the map: its colour scale


def expected():
    """The similarities (rows, columns, rows, columns) for each kind of positions and side of the grid."""
    pos_embed = weights.load(CHECKPOINT).pos_embed.detach()
    found = {}
    for side in (8, 9, 24):
        tables = {
            "learned": interpolate_positions(pos_embed, (8, 8), (side, side))[0, 1:],
            "sinusoidal": sinusoidal_positions(128, (side, side))[0],
        }
        for kind, table in tables.items():
            sim = torch.stack([F.cosine_similarity(one, table, dim=-1) for one in table])
            found[kind, side] = sim.reshape(side, side, side, side)
    return found


def drive(page, root, numbers):
    canvas, status = root.get_by_role("application").first, root.get_by_role("status")
    positions, colours = root.get_by_label("Positions", exact=True), root.get_by_label("Colours", exact=True)
    grid, table = root.get_by_label("Grid", exact=True), root.get_by_label("Numbers", exact=True)

    def hover(side, row, column, of=canvas):
        box = of.bounding_box()
        cell = box["width"] / side, (box["height"] - SCALE) / side
        of.hover(position={"x": (column - 0.5) * cell[0], "y": (row - 0.5) * cell[1]})

    def table_is(values, number=0):
        lines = read_table(root.locator("table").nth(number))
        found = torch.tensor([[float(text) for text in line[1:]] for line in lines[1:]])
        torch.testing.assert_close(found, values, atol=0.0006, rtol=0)

    def changes(act, of=canvas):
        before = pixels(of)
        act()
        assert pixels(of) != before

    # The pointer: the map, the facts and the table follow it, on the grid of the checkpoint.
    canvas.scroll_into_view_if_needed()
    changes(lambda: hover(8, 2, 5))
    expect(status).to_contain_text("Place: row 2, column 5. Most like it: ")
    table.check()
    table_is(numbers["learned", 8][1, 4])
    changes(lambda: hover(8, 7, 1))
    table_is(numbers["learned", 8][6, 0])

    # Held, the pointer asks about a second place.
    canvas.click(position={"x": 5, "y": 5})
    changes(lambda: hover(8, 3, 6))
    value = numbers["learned", 8][0, 0, 2, 5]
    expect(status).to_have_text(f"Place: row 1, column 1 (held). Similarity to row 3, column 6: {value:.3f}.")
    table_is(numbers["learned", 8][0, 0])

    # A click on the small maps chooses their place.
    tiles = root.get_by_role("img").first
    changes(lambda: hover(8, 6, 3, tiles) or page.mouse.down() or page.mouse.up(), tiles)
    expect(status).to_contain_text("Place: row 6, column 3 (held).")
    table_is(numbers["learned", 8][5, 2])

    # The other kinds, and all side by side.
    changes(lambda: colours.select_option("from the lowest to 1"))
    colours.select_option("from -1 to 1")
    positions.select_option("none")
    expect(status).to_have_text(
        "Place: row 6, column 3 (held). It cannot be told from any other: all similarities are 1."
    )
    table_is(torch.ones(8, 8))
    positions.select_option("side by side")
    expect(root.get_by_role("application")).to_have_count(3)
    table_is(numbers["learned", 8][5, 2])
    table_is(numbers["sinusoidal", 8][5, 2], 1)
    table_is(torch.ones(8, 8), 2)

    # The keyboard alone: kind, grid, place, a second place.
    positions.focus()
    page.keyboard.press("Home")
    expect(positions).to_have_value("learned")
    grid.focus()
    page.keyboard.press("ArrowRight")
    expect(root.locator(".vit-caption").first).to_have_text("Learned: interpolated from 8 x 8")
    canvas.focus()
    page.keyboard.press("Escape")
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(status).to_contain_text("Place: row 3, column 2. Most like it: ")
    table_is(numbers["learned", 9][2, 1])
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    value = numbers["learned", 9][2, 1, 8, 8]
    expect(status).to_have_text(f"Place: row 3, column 2 (held). Similarity to row 9, column 9: {value:.3f}.")
    page.keyboard.press("Space")
    grid.focus()
    page.keyboard.press("End")
    expect(root.locator(".vit-caption").first).to_have_text("Learned: interpolated from 8 x 8")
    expect(status).to_contain_text("Place: row 7, column 5.")  # the same part of the image, on 24 x 24
    table_is(numbers["learned", 24][6, 4])
    positions.focus()
    page.keyboard.press("ArrowDown")
    table_is(numbers["sinusoidal", 24][6, 4])
    table.focus()
    page.keyboard.press("Space")
    expect(root.locator("table")).to_have_count(0)
