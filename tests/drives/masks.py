"""MaskExplorer: a small autoencoder of drawn weights; patches covered by click, drag and key, every error torch's."""

import torch
from front_ends import pixels, read_table
from playwright.sync_api import expect

from vit_tutorial import datasets, normalise
from vit_tutorial.layers import patchify
from vit_tutorial.training import mae

MODEL = """
import torch
from vit_tutorial import VisionTransformer, ViTConfig
from vit_tutorial.training import mae
torch.manual_seed(0)
config = ViTConfig(image_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.0, pool="cls")
autoencoder = mae.MaskedAutoencoder(VisionTransformer(config), decoder_dim=32, normalise=False).eval()
for parameter in autoencoder.parameters():
    torch.nn.init.normal_(parameter.data, std=0.15)
"""
CELL = f"""{MODEL}
from vit_tutorial import datasets, widgets
explorer = widgets.MaskExplorer(autoencoder, datasets.shapes("test", 3).images)
explorer
"""
SIDE = 8  # patches in a row


def expected():
    """A function of the picture and its covered patches `(N,)`: errors `(N, 2)`, the model's and the mean colour's."""
    made = {}
    exec(MODEL, made)
    autoencoder, images = made["autoencoder"], datasets.shapes("test", 3).images
    inputs = normalise(images, autoencoder.vit.config)

    def errors(image, hidden):
        targets = patchify(inputs[image, None], 4)
        answers = autoencoder.reconstruct(inputs[image, None], hidden[None])
        colour = targets[0, ~hidden].unflatten(1, (3, 16)).mean(dim=(0, 2)).repeat_interleave(16).expand_as(targets)
        found = torch.stack([(x - targets)[0].square().mean(1) for x in (answers, colour)], dim=1)
        loss = autoencoder.loss(inputs[image, None], *mae.masking_of(hidden[None]))
        assert torch.isclose(found[hidden, 0].mean(), loss)
        return found

    return errors


def drive(page, root, errors):
    seen, filled, whole = (root.locator(f".vit-{name} canvas") for name in ("seen", "filled", "whole"))
    status, facts, numbers = root.get_by_role("status"), root.locator(".vit-errors"), root.get_by_label("Numbers")
    caption = root.locator(".vit-seen .vit-caption")

    def place(row, column):
        box = seen.bounding_box()
        return {"x": (column - 0.5) * box["width"] / SIDE, "y": (row - 0.5) * box["height"] / SIDE}

    def covered():
        """The covered patches `(N,)`, as the table of numbers has them, which are all torch's."""
        lines = [line[1:] for line in read_table(root.locator(".vit-numbers"))[1:]]
        texts = [text for line in lines for text in line]
        return torch.tensor([text != "" for text in texts]), texts

    def shows(image, row, column, count):
        hidden, texts = covered()
        assert hidden.sum() == count
        expect(caption).to_have_text(f"The model sees {64 - count} of 64 patches")
        wanted, n = errors(image, hidden), SIDE * (row - 1) + column - 1
        close = {"atol": 1e-3, "rtol": 0}
        torch.testing.assert_close(torch.tensor([float(t) for t in texts if t]), wanted[hidden, 0], **close)
        here, mean = zip(*(line[1:] for line in read_table(facts)[1:]), strict=True)
        torch.testing.assert_close(torch.tensor([*map(float, mean)]), wanted[hidden].mean(0), **close)
        if hidden[n]:
            torch.testing.assert_close(torch.tensor([*map(float, here)]), wanted[n], **close)
            expect(status).to_have_text(
                f"Patch in row {row}, column {column}: error {here[0]}, of the mean colour {here[1]}."
            )
        else:
            assert here == ("–", "–")
            expect(status).to_have_text(f"Patch in row {row}, column {column}: not covered.")
        return hidden

    # The slider alone: 75 % at first. Fewer are some of these.
    numbers.check()
    seen.scroll_into_view_if_needed()
    assert covered()[0].sum() == 48
    root.get_by_label("Cover at random").focus()
    page.keyboard.press("ArrowLeft")
    seen.hover(position=place(3, 4))
    more = shows(0, 3, 4, 44)
    root.get_by_label("Cover at random").focus()
    page.keyboard.press("Home")
    fewer = shows(0, 3, 4, 3)
    assert not (fewer & ~more).any()
    root.get_by_role("button", name="Cover other patches").click()
    assert not shows(0, 3, 4, 3).equal(fewer)

    # Clicks and drags: the first patch says whether they cover.
    root.get_by_role("button", name="Uncover all").click()
    assert covered()[0].sum() == 0 and read_table(facts)[2][2] == "–"
    before = [pixels(canvas) for canvas in (seen, filled, whole)]
    seen.click(position=place(2, 2))
    shows(0, 2, 2, 1)
    after = [pixels(canvas) for canvas in (seen, filled, whole)]
    assert after[0] != before[0] and after[1] != before[1]
    box = seen.bounding_box()

    def drag(*cells):
        for i, cell in enumerate(cells):
            at = place(*cell)
            page.mouse.move(box["x"] + at["x"], box["y"] + at["y"], steps=8)
            if not i:
                page.mouse.down()
        page.mouse.up()

    drag((4, 3), (4, 6), (6, 6))
    hidden = shows(0, 6, 6, 7)
    assert hidden.nonzero().flatten().tolist() == [9, 26, 27, 28, 29, 37, 45]
    drag((4, 6), (4, 5))
    assert shows(0, 4, 5, 5).nonzero().flatten().tolist() == [9, 26, 27, 37, 45]
    filled.hover(position=place(5, 6))
    expect(status).to_contain_text("Patch in row 5, column 6: error ")

    # The keyboard alone: cover, uncover, another picture. One patch stays.
    seen.focus()
    page.keyboard.press("Home")
    for key in ("Space", "ArrowDown", "ArrowRight", "Enter", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert shows(0, 2, 3, 6).nonzero().flatten().tolist() == [0, 10, 26, 27, 37, 45]
    root.get_by_label("Picture", exact=True).select_option(label="3")
    shows(2, 2, 3, 6)
    root.get_by_label("Picture", exact=True).select_option(label="2")
    shows(1, 2, 3, 6)
    root.get_by_label("Cover at random").focus()
    page.keyboard.press("End")
    left = (~covered()[0]).nonzero().flatten().tolist()
    seen.focus()
    for n in left[1:]:
        seen.click(position=place(n // SIDE + 1, n % SIDE + 1))
    row, column = left[0] // SIDE + 1, left[0] % SIDE + 1
    seen.click(position=place(row, column))
    expect(status).to_contain_text("One patch has to be left")
    hidden = covered()[0]
    assert hidden.sum() == 63 and not hidden[left[0]]
    numbers.uncheck()
    expect(root.locator(".vit-numbers table")).to_have_count(0)
    page.mouse.move(0, 0)
