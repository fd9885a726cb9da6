"""AttentionExplorer: two images side by side, the trained checkpoint, one hostile title."""

import re

import torch
from front_ends import pixels, read_table
from playwright.sync_api import expect

from vit_tutorial import datasets, normalise, weights
from vit_tutorial.files import CHECKPOINT

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">cat"
CELL = f"""
import torch
from vit_tutorial import datasets, weights, widgets
from vit_tutorial.files import CHECKPOINT
images = torch.stack([datasets.sample_image(name, 32) for name in ("cat", "coffee")])
widgets.AttentionExplorer(weights.load(CHECKPOINT), images, titles=[{HOSTILE!r}, "coffee"])
"""
SIDE = 8  # patches in a row


def expected():
    model = weights.load(CHECKPOINT)
    images = torch.stack([datasets.sample_image(name, 32) for name in ("cat", "coffee")])
    with torch.no_grad():
        attention = model.attention_maps(normalise(images, model.config))  # (L, B, H, N, N)
    rollout = [torch.eye(65).expand(2, 65, 65)]
    for layer in attention.mean(2):
        rollout.append((layer / 2 + torch.eye(65) / 2) @ rollout[-1])
    return {"attention": attention, "rollout": rollout[1:]}


def token(row, column):
    return 1 + SIDE * (row - 1) + column - 1


def drive(page, root, numbers):
    attention = numbers["attention"]
    last = len(attention) - 1
    canvas, status = root.get_by_role("application").first, root.get_by_role("status")
    layer, show = root.get_by_label("Layer", exact=True), root.get_by_label("Show", exact=True)

    def shows(query, row):
        """The status line: the query, its strongest patch and the share of the class token, from a row of weights."""
        best = row[1:].argmax().item()
        expect(status).to_have_text(
            f"Query: {query}. Strongest patch: row {best // SIDE + 1}, column {best % SIDE + 1}, "
            f"{100 * row[1 + best]:.2f} %. To the class token: {100 * row[0]:.2f} %."
        )

    def hover(row, column):
        box = canvas.bounding_box()
        side, top = box["width"] / SIDE, box["height"] - box["width"]
        canvas.hover(position={"x": (column - 0.5) * side, "y": top + (row - 0.5) * side})

    def table_is(image, rows):
        lines = read_table(root.locator("table").nth(image))
        found = torch.tensor([[float(text) for text in line[1:]] for line in lines[1:]])
        torch.testing.assert_close(found, 100 * rows[1:].reshape(SIDE, SIDE), atol=0.0051, rtol=0)

    # The pointer: what it shows is the tensor, in both images.
    canvas.scroll_into_view_if_needed()
    shows("the class token", attention[last, 0].mean(0)[0])
    before = pixels(canvas)
    hover(3, 5)
    shows("row 3, column 5", attention[last, 0].mean(0)[token(3, 5)])
    assert pixels(canvas) != before
    root.get_by_label("Numbers").check()
    table_is(0, attention[last, 0].mean(0)[token(3, 5)])
    table_is(1, attention[last, 1].mean(0)[token(3, 5)])
    show.select_option("rollout")
    table_is(1, numbers["rollout"][last][1, token(3, 5)])
    heads = root.get_by_role("img").first  # the small maps: mean, rollout, head 1, ...
    box = heads.bounding_box()
    heads.click(position={"x": box["width"] - 20, "y": 40})  # the last of the first row
    expect(show).to_have_value("0")
    table_is(0, attention[last, 0, 0, token(3, 5)])

    # Held, the pointer asks about keys.
    hover(3, 5)
    page.mouse.down()
    page.mouse.up()
    hover(6, 2)
    weight = attention[last, 0, 0, token(3, 5), token(6, 2)]
    expect(status).to_contain_text(f"Query: row 3, column 5 (held). To row 6, column 2: {100 * weight:.2f} %.")
    page.keyboard.press("Escape")

    # The keyboard alone.
    canvas.focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    shows("row 2, column 2", attention[last, 0, 0, token(2, 2)])
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    weight = attention[last, 0, 0, token(2, 2), token(2, 3)]
    expect(status).to_contain_text(f"(held). To row 2, column 3: {100 * weight:.2f} %.")
    page.keyboard.press("Enter")
    layer.focus()
    page.keyboard.press("Home")
    expect(root.locator(".vit-value")).to_have_text("1 of 6")
    show.focus()
    page.keyboard.press("ArrowDown")
    shows("row 2, column 2", attention[0, 0, 1, token(2, 2)])
    table_is(1, attention[0, 1, 1, token(2, 2)])
    root.get_by_label("Numbers").focus()
    page.keyboard.press("Space")
    expect(root.locator("table")).to_have_count(0)

    # A hostile title stays text.
    expect(root.locator(".vit-caption").first).to_have_text(HOSTILE)
    assert root.locator("img").count() == 0
    assert page.locator("body").get_attribute("data-hacked") is None
    expect(root.locator(".vit-caption").nth(1)).to_have_text(re.compile("^coffee$"))
