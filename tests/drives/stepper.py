"""EncoderStepper: the trained checkpoint walks through a cat; one class has a hostile name."""

import torch
from front_ends import pixels, read_table
from playwright.sync_api import expect

from vit_tutorial import datasets, normalise, patchify, weights
from vit_tutorial.files import CHECKPOINT

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">cat"
CELL = f"""
from dataclasses import replace
from vit_tutorial import datasets, weights, widgets
from vit_tutorial.files import CHECKPOINT
model = weights.load(CHECKPOINT)
model.config = replace(model.config, classes=({HOSTILE!r}, *model.config.classes[1:]))
widgets.EncoderStepper(model, datasets.sample_image("cat", 32))
"""
SIDE = 8  # patches in a row
STAGES, BLOCK = 58, 8  # stages of the model and of a block
FIRST_SUM = 9  # the stage at which the first block's mixture has been added


def expected():
    """From forward hooks: nothing here goes through the explorer's own walk."""
    model = weights.load(CHECKPOINT)
    images = normalise(datasets.sample_image("cat", 32)[None], model.config)
    seen = {"patches": patchify(images, 4)[0], "images": images[0]}
    seen["attention"] = model.attention_maps(images)[:, 0]  # (L, H, N, N)

    def see(module, name, what):
        module.register_forward_hook(lambda _, inputs, output: seen.update({name: what(inputs, output)[0].detach()}))

    see(model.pos_drop, "stream 0", lambda inputs, output: output)
    for b, block in enumerate(model.blocks, start=1):
        see(block.norm1, f"norm {b}", lambda inputs, output: output)
        see(block.attn, f"mixture {b}", lambda inputs, output: output[0])
        see(block.norm2, f"middle {b}", lambda inputs, output: inputs[0])
        see(block.mlp.act, f"hidden {b}", lambda inputs, output: output)
        see(block, f"stream {b}", lambda inputs, output: output[0])
    see(model.head, "class token", lambda inputs, output: inputs[0])
    with torch.no_grad():
        x = model.embed(images)
        for block in model.blocks:
            x, _ = block(x, return_attention=True)  # as the explorer asks: all tokens, and the weights
        seen["logits"] = model.head(model.norm(x)[:, 0])[0]
    return seen | {"probabilities": seen["logits"].softmax(0)}


def token(row, column):
    return 1 + SIDE * (row - 1) + column - 1


def number(text):
    return float(text.replace("−", "-").split()[0])


def drive(page, root, numbers):
    rail, status = root.get_by_role("slider"), root.get_by_role("status")
    image, main = root.get_by_role("application").nth(0), root.get_by_role("application").nth(1)
    following = root.get_by_role("button", name="Next")
    title = root.locator(".vit-step-title")

    def table_is(*rows):
        """The table shows these rows, to the precision of its texts."""
        found = [[number(text) for text in line[1:]] for line in read_table(root.locator("table"))[1:]]
        shown = torch.tensor(found, dtype=torch.float64)
        wanted = torch.stack([row[: shown.shape[1]] for row in rows]).double()
        torch.testing.assert_close(shown, wanted, atol=0.50001e-4, rtol=0)

    def fact_is(name, value, digits=4):
        found = number(root.locator(f".vit-fact-{name}").inner_text().removeprefix("by "))
        assert abs(found - value) <= 0.50001 * 10**-digits, (name, found, value)

    def hover(canvas, x, y):
        box = canvas.bounding_box()
        canvas.hover(position={"x": x * box["width"], "y": y * box["height"]})

    def hover_patch(row, column):
        box = image.bounding_box()
        top = box["height"] - box["width"]  # the class token's place
        y = (top + (row - 0.5) * box["width"] / SIDE) / box["height"]
        hover(image, (column - 0.5) / SIDE, y)

    # The pointer: step forward, look at a patch, choose it.
    rail.scroll_into_view_if_needed()
    expect(title).to_have_text(f"1 of {STAGES} · image")
    expect(root.get_by_role("button", name="Previous")).to_be_disabled()
    expect(status).to_have_text("Patch in row 5, column 5.")
    root.get_by_label("Numbers").check()
    table_is(*numbers["images"][:, 16:20, 16:20].flatten(1))
    before = pixels(main)
    following.click()
    expect(title).to_have_text(f"2 of {STAGES} · patches")
    expect(root.locator(".vit-step-shape")).to_have_text("(B, N, C·P·P) = (1, 64, 48)")
    assert pixels(main) != before
    before = pixels(main)
    hover_patch(3, 2)
    expect(status).to_have_text(f"Row 3, column 2: length {numbers['patches'][token(3, 2) - 1].norm():.2f}.")
    assert pixels(main) != before
    table_is(numbers["patches"][token(3, 2) - 1])
    page.mouse.down()
    page.mouse.up()
    hover(title, 0.5, 0.5)
    expect(status).to_contain_text("Row 3, column 2")

    # The rail: a click on a stage, and on a block's name.
    box = rail.bounding_box()
    rail.click(position={"x": (FIRST_SUM + 0.5) / STAGES * box["width"], "y": 40})
    expect(title).to_have_text(f"{FIRST_SUM + 1} of {STAGES} · block 1 of 6, + mixture")
    stream, mixture, after = (numbers[name][token(3, 2)] for name in ("stream 0", "mixture 1", "middle 1"))
    table_is(stream, mixture, after)
    fact_is("mean", after.mean())
    fact_is("std", after.std(correction=0))
    fact_is("length", after.norm(), digits=3)
    fact_is("moved", mixture.norm() / stream.norm(), digits=3)
    rail.click(position={"x": (6 + 2.5 * BLOCK) / STAGES * box["width"], "y": 58})
    expect(title).to_contain_text("block 3 of 6, + mixture")
    table_is(*(numbers[name][token(3, 2)] for name in ("stream 2", "mixture 3", "middle 3")))

    # A number under the pointer, in the matrix: its token's patch lights up on the image.
    before = pixels(image)
    box = main.bounding_box()
    high = box["height"] - 18 - 84 - 24 - 20  # as the matrix has it: places above and below
    hover(main, 40.5 / 128, (18 + high * (token(6, 4) + 0.5) / 65) / box["height"])
    value = numbers["middle 3"][token(6, 4), 40]
    expect(status).to_contain_text("Row 6, column 4, number 41 of 128: ")
    assert abs(number(status.inner_text().split(": ")[1].rstrip(".")) - value) < 0.51e-4
    assert pixels(image) != before

    # The menu, and the weights of each head.
    root.get_by_label("Part").select_option(label="block 2")
    root.get_by_role("button", name="Previous").click()
    root.get_by_role("button", name="Previous").click()
    expect(title).to_contain_text("block 2 of 6, attention weights")
    rows = numbers["attention"][1, :, token(3, 2)]
    table_is(*rows, rows.mean(0))
    hover(main, 0.1, 0.2)
    expect(status).to_contain_text("Head 1: row 3, column 2 takes")

    # The keyboard alone.
    rail.focus()
    page.keyboard.press("Home")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    expect(title).to_contain_text("block 1 of 6, norm 1")
    expect(rail).to_have_attribute("aria-valuenow", "7")
    page.keyboard.press("PageDown")
    expect(title).to_contain_text("block 2 of 6, norm 1")
    image.focus()
    page.keyboard.press("Home")
    for key in ("ArrowDown", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    table_is(numbers["norm 2"][token(2, 2)])
    main.focus()
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(status).to_contain_text("Row 2, column 1, number 3 of 128: ")
    fact_is("number", numbers["norm 2"][token(2, 1), 2])
    following.focus()
    for _ in range(5):
        page.keyboard.press("Enter")
    expect(title).to_contain_text("block 2 of 6, MLP, hidden")
    table_is(numbers["hidden 2"][token(2, 1)])
    page.keyboard.press("ArrowLeft")  # the arrows step from a button as well
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageUp")
    expect(title).to_contain_text("block 1 of 6, + mixture")
    rail.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    main.focus()
    page.keyboard.press("Home")
    weight = numbers["attention"][0, 0, token(2, 1), 0]
    expect(status).to_have_text(f"Head 1: row 2, column 1 takes {100 * weight:.2f} % from the class token.")

    # The answer. A hostile name stays text.
    rail.focus()
    page.keyboard.press("End")
    expect(following).to_be_disabled()
    order = numbers["logits"].argsort(descending=True)
    best = weights.load(CHECKPOINT).config.classes[order[0]]
    expect(root.locator(".vit-step-text")).to_contain_text(f"{best}, {100 * numbers['probabilities'].max():.1f} %")
    table_is(numbers["logits"][order], numbers["probabilities"][order])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    table_is(numbers["class token"])
    page.keyboard.press("End")
    main.focus()
    for _ in range((order == 0).nonzero().item()):
        page.keyboard.press("ArrowDown")
    expect(status).to_contain_text(f"{HOSTILE}: logit ")
    assert root.locator("img").count() == 0
    assert page.locator("body").get_attribute("data-hacked") is None
    root.get_by_label("Numbers").focus()
    page.keyboard.press("Space")
    expect(root.locator("table")).to_have_count(0)
