"""SimilarityExplorer: a small ModernViT with registers; by pointer and keys, every cosine and colour torch's."""

import re

import torch
from front_ends import pixels, read_table
from playwright.sync_api import expect

from vit_tutorial import datasets, interpret, normalise

MODEL = """
import torch
from vit_tutorial import ModernConfig, ModernViT
torch.manual_seed(0)
config = ModernConfig(image_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=4, registers=2, rope="axial")
model = ModernViT(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter.data, std=0.15)
"""
CELL = f"""{MODEL}
from vit_tutorial import datasets, widgets
widgets.SimilarityExplorer(model, datasets.scenes("test", 3).images)
"""
SIDE, N = 8, 64  # patches in a row, and in a picture


def expected():
    """Cosines `(L + 1, B * N, B * N)` of all patches of the pictures, and tokens `(L + 1, B * N, D)`."""
    made = {}
    exec(MODEL, made)
    model, images = made["model"], datasets.scenes("test", 3).images
    tokens = interpret.features(model, normalise(images, model.config))
    with torch.no_grad():
        tokens[-1] = model.norm(tokens[-1])
    tokens = tokens[:, :, -N:].flatten(1, 2)
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    return unit @ unit.mT, tokens


def drive(page, root, numbers):
    cosines, tokens = numbers
    left, right = (root.locator(".vit-field canvas").nth(side) for side in range(2))
    field, status = root.get_by_role("application"), root.get_by_role("status")
    layer, show = root.get_by_label("Layer", exact=True), root.get_by_label("Show", exact=True)
    close = {"atol": 0.0061, "rtol": 0}  # two decimals

    def position(row, column):
        side = left.bounding_box()["width"] / SIDE
        return {"x": (column - 0.5) * side, "y": (row - 0.5) * side}

    def shows(depth, images, side, row, column):
        """The status line and both tables are torch's for a query on one side."""
        patch = (row - 1) * SIDE + column - 1
        rows = cosines[depth, N * images[side] + patch].view(-1, N)[list(images)].clone()  # (2, N)
        for table, wanted in enumerate(rows):
            lines = read_table(root.locator(".vit-numbers .vit-table").nth(table))[1:]
            found = torch.tensor([[float(text) for text in line[1:]] for line in lines])
            torch.testing.assert_close(found, wanted.view(SIDE, SIDE), **close)
        rows[side, patch] = -2
        text = status.inner_text()
        assert text.startswith(f"Query: row {row}, column {column} on the {('left', 'right')[side]}.")
        best = re.findall(r"row (\d), column (\d) on the (left|right), (-?\d\.\d\d)", text)
        for (r, c, name, value), wanted, expected_name in zip(best, rows, ("left", "right"), strict=True):
            assert name == expected_name and (int(r) - 1) * SIDE + int(c) - 1 == wanted.argmax()
            torch.testing.assert_close(torch.tensor(float(value)), wanted.max(), **close)

    # The pointer: on either side, what it shows is torch's.
    root.get_by_label("Numbers").check()
    left.scroll_into_view_if_needed()
    before = [pixels(canvas) for canvas in (left, right)]
    left.hover(position=position(3, 5))
    shows(2, (0, 1), 0, 3, 5)
    after = [pixels(canvas) for canvas in (left, right)]
    assert after[0] != before[0] and after[1] != before[1]
    right.hover(position=position(6, 2))
    shows(2, (0, 1), 1, 6, 2)

    # Held, the pointer asks about others, in both pictures; a tap on another patch holds that one.
    right.click(position=position(6, 2))
    left.hover(position=position(2, 7))
    value = re.fullmatch(
        r"Query: row 6, column 2 on the right \(held\)\. To row 2, column 7 on the left: (.*)\.", status.inner_text()
    )
    torch.testing.assert_close(torch.tensor(float(value[1])), cosines[2, N + 41, 14], **close)
    left.click(position=position(4, 4))
    expect(status).to_contain_text("Query: row 4, column 4 on the left (held).")
    page.keyboard.press("Escape")  # a click has brought the keys here
    shows(2, (0, 1), 0, 4, 4)
    page.mouse.move(0, 0)

    # The keyboard alone, from one picture into the other; another layer, other pictures.
    field.focus()
    page.keyboard.press("Home")
    shows(2, (0, 1), 0, 1, 1)
    page.keyboard.press("ArrowUp")
    for _ in range(SIDE):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    shows(2, (0, 1), 1, 2, 1)
    page.keyboard.press("ArrowLeft")
    shows(2, (0, 1), 0, 2, 8)
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    shows(2, (0, 1), 1, 8, 8)
    layer.focus()
    page.keyboard.press("Home")
    expect(root.locator(".vit-value")).to_have_text("embedding")
    shows(0, (0, 1), 1, 8, 8)
    page.keyboard.press("ArrowRight")
    root.get_by_label("Right picture").select_option(label="3")
    root.get_by_label("Left picture").select_option(label="2")
    expect(root.locator(".vit-caption").nth(1)).to_have_text("Picture 3")
    shows(1, (1, 2), 1, 8, 8)

    # Colours: three principal components, over all pictures, up to their signs.
    show.select_option(label="features as colours")
    x = tokens[1].double() - tokens[1].double().mean(dim=0)
    x = x @ torch.linalg.svd(x, full_matrices=False).Vh[:3].T
    x = (x - x.amin(dim=0)) / (x.amax(dim=0) - x.amin(dim=0))  # (B * N, 3)
    for canvas, image, keys in ((left, 1, ("Home",)), (right, 2, ("End",))):
        field.focus()
        page.keyboard.press(*keys)
        wanted = x[N * image + (0 if keys == ("Home",) else N - 1)]
        said = re.search(r"Red, green, blue: (.*), (.*), (.*)\.$", status.inner_text())
        found = torch.tensor([float(text) for text in said.groups()], dtype=torch.float64)
        assert (torch.minimum((found - wanted).abs(), (1 - found - wanted).abs()) < 0.008).all()
        drawn = canvas.evaluate(
            """(canvas, at) => {
              const context = canvas.getContext("2d");
              return [...context.getImageData(at * canvas.width, at * canvas.height, 1, 1).data];
            }""",
            0.5 / SIDE if keys == ("Home",) else 1 - 0.5 / SIDE,
        )
        assert (torch.tensor(drawn[:3]) / 255 - found).abs().max() < 0.006
    expect(root.locator(".vit-scale")).to_be_hidden()
    show.select_option(label="how alike")
    expect(root.locator(".vit-scale")).to_be_visible()
    root.get_by_label("Numbers").uncheck()
    expect(root.locator("table")).to_have_count(0)
