"""PatchExplorer: the cat in patches; in a running notebook also uploads, good and bad."""

import io

import torch
from front_ends import pixels, read_table
from PIL import Image
from playwright.sync_api import expect

from vit_tutorial import datasets, patchify

CELL = """
from vit_tutorial import datasets, widgets
widgets.PatchExplorer(datasets.sample_image("cat", 224))
"""
HOSTILE = "<img src=x onerror=alert(1)>.png"


def expected():
    """For each patch size the matrix of patches (N, 3*P*P) of the cat, and of a red picture."""
    cat = datasets.sample_image("cat", 224)[None] / 255
    red = torch.tensor([200.0, 30, 10]).reshape(1, 3, 1, 1).expand(1, 3, 224, 224) / 255
    return {P: patchify(cat, P)[0] for P in (8, 14, 16, 28)} | {"red": patchify(red, 16)[0]}


def texts(P, tokens):
    """What the explorer says of its cost, `tokens` being those of the list."""
    N, columns, D, L = len(tokens), 224 // P, 768, 12
    pairs = 2 * L * (N + 1) ** 2 * D
    all_of_it = N * 3 * P * P * D + 12 * L * (N + 1) * D**2 + pairs
    return [
        ("" if N == columns**2 else f"{N} of ") + f"{columns} x {columns} = {columns**2}",
        f"{3 * P * P:,}",
        f"{N * N:,}",
        f"{2 * all_of_it / 1e9:.1f}",
        f"{100 * pairs / all_of_it:.1f} %",
        f"{tokens.double().mean():.4f}",
    ]


def controls(root):
    names = ("cut", "laid", "heap", "one", "matrix")
    canvases = {name: root.locator(f".vit-{name} canvas") for name in names}
    buttons = {name: root.get_by_role("button", name=name) for name in ("Shuffle", "Drop half", "Restore")}
    return canvases, buttons, root.get_by_role("status")


def check_facts(root, P, tokens):
    for text, line in zip(texts(P, tokens), (0, 1, 2, 4, 5, 6), strict=True):
        expect(root.locator("dd").nth(line)).to_have_text(text)


def check_table(root, P, token):
    """The first row of pixels in each channel."""
    lines = read_table(root.locator("table"))[1:]
    shown = torch.tensor([[float(text) for text in line[1:]] for line in lines])
    torch.testing.assert_close(shown, token.reshape(3, P, P)[:, 0], atol=0.00005 + 1e-7, rtol=0)


def drive(page, root, numbers):
    canvases, buttons, status = controls(root)
    size, table = root.get_by_label("Patch size", exact=True), root.get_by_label("Numbers", exact=True)

    def place(columns, row, column):
        box = canvases["cut"].bounding_box()
        return {"x": (column - 0.5) * box["width"] / columns, "y": (row - 0.5) * box["height"] / columns}

    def look():
        return {name: pixels(canvas) for name, canvas in canvases.items()}

    def changed(act, *names):
        """`act` changes these canvases and no others."""
        before = look()
        act()
        after = look()
        assert {name for name in before if before[name] != after[name]} == set(names)

    # The pointer lights a patch in all pictures; its numbers are torch's.
    canvases["cut"].scroll_into_view_if_needed()
    canvases["cut"].hover(position=place(14, 2, 2))
    changed(lambda: canvases["cut"].hover(position=place(14, 6, 4)), *canvases)
    expect(status).to_have_text("Patch in row 6, column 4: number 74 of 196 in the list.")
    table.check()
    check_table(root, 16, numbers[16][73])
    check_facts(root, 16, numbers[16])
    changed(lambda: canvases["matrix"].hover(), *canvases)  # so does the pointer over a row of the matrix
    expect(status).not_to_have_text("Patch in row 6, column 4: number 74 of 196 in the list.")

    # A click drops it, another brings it back.
    canvases["cut"].hover(position=place(14, 6, 4))
    before = look()
    changed(lambda: canvases["cut"].click(position=place(14, 6, 4)), *canvases)
    expect(status).to_have_text("Patch in row 6, column 4: dropped.")
    left = [n for n in range(196) if n != 73]
    check_facts(root, 16, numbers[16][left])
    canvases["laid"].click(position=place(14, 6, 4))
    assert look() == before
    check_facts(root, 16, numbers[16])

    # Shuffled: another list, the same bag. The same presses give the same order again.
    changed(buttons["Shuffle"].click, "laid", "matrix")
    expect(status).to_contain_text("the bag is the same")
    check_facts(root, 16, numbers[16])
    first = look()
    changed(buttons["Shuffle"].click, "laid", "matrix")
    changed(buttons["Restore"].click, "laid", "matrix")
    assert look() == before
    buttons["Shuffle"].click()
    assert look() == first
    canvases["laid"].hover(position=place(14, 1, 1))  # first in the list, wherever it lies in the image
    expect(status).to_contain_text("number 1 of 196 in the list.")
    buttons["Restore"].click()

    # The slider: grid, facts and numbers follow, shuffled or not.
    canvases["cut"].hover(position=place(14, 6, 4))
    size.focus()
    for P in (28, 16, 14):
        changed(lambda P=P: page.keyboard.press("ArrowRight" if P == 28 else "ArrowLeft"), *canvases)
        columns = 224 // P
        row, column = int(5.5 / 14 * columns), int(3.5 / 14 * columns)
        if P != 28:  # the patch at the same place as in the grid of 28
            row, column = int((int(5.5 / 14 * 8) + 0.5) / 8 * columns), int((int(3.5 / 14 * 8) + 0.5) / 8 * columns)
        check_facts(root, P, numbers[P])
        if P != 14:
            expect(status).to_contain_text(f"row {row + 1}, column {column + 1}:")
            check_table(root, P, numbers[P][row * columns + column])

    # The keyboard alone: choose, drop, shuffle, halve, restore, hide the numbers.
    canvases["cut"].focus()
    for key in ("Home", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    expect(status).to_have_text("Patch in row 1, column 3: number 3 of 256 in the list.")
    check_table(root, 14, numbers[14][2])
    page.keyboard.press("End")
    page.keyboard.press("Space")
    expect(status).to_have_text("Patch in row 16, column 16: dropped.")
    page.keyboard.press("Enter")
    expect(status).to_have_text("Patch in row 16, column 16: number 256 of 256 in the list.")
    buttons["Shuffle"].focus()
    page.keyboard.press("Enter")
    buttons["Drop half"].focus()
    page.keyboard.press("Enter")
    expect(root.locator("dd").first).to_have_text("128 of 16 x 16 = 256")
    expect(root.locator("dd").nth(2)).to_have_text(f"{128**2:,}")
    size.focus()
    page.keyboard.press("ArrowRight")
    expect(root.locator("dd").first).to_have_text("98 of 14 x 14 = 196")
    expect(root.locator(".vit-laid .vit-caption")).to_have_text("The list, shuffled")
    buttons["Restore"].focus()
    page.keyboard.press("Enter")
    check_facts(root, 16, numbers[16])
    table.focus()
    page.keyboard.press("Space")
    expect(root.locator("table")).to_have_count(0)
    page.mouse.move(0, 0)  # so that no patch comes under the pointer when the page is laid out anew


def png(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drive_with_kernel(page, root, numbers):
    canvases, _, _ = controls(root)
    note = root.get_by_role("alert")

    def upload(name, data):
        with page.expect_file_chooser() as chooser:
            root.get_by_role("button", name="Upload a picture").click()
        chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": data})

    # What is no picture gets a sentence, and the cat stays. A hostile name stays text.
    good = png(Image.new("RGB", (300, 400), (200, 30, 10)))
    noise = png(Image.effect_noise((64, 64), 80))
    before = pixels(canvases["one"])
    for name, data, sentence in (
        ("notes.png", b"Dear diary", "found 'notes.png' to be none"),
        ("half.png", noise[: len(noise) // 2], "found 'half.png' broken"),
        (HOSTILE, b"", f"found '{HOSTILE}' to be none"),
        ("bomb.png", png(Image.new("1", (8000, 8000))), "at most 40 million pixels, found 8000 x 8000"),
    ):
        upload(name, data)
        expect(note).to_contain_text("The picture stays as it was: expected")
        expect(note).to_contain_text(sentence)
    assert root.locator("img").count() == 0 and pixels(canvases["one"]) == before

    # A good one takes the cat's place, and so does a file that is larger than a server's messages may be.
    upload("red.png", good)
    expect(note).to_have_text("'red.png': the centre of 400 x 300 pixels, now 224 x 224.")
    check_facts(root, 16, numbers["red"])
    upload("large.bmp", png(Image.new("RGB", (2300, 2300)), "BMP"))  # 16 MB
    expect(note).to_have_text("'large.bmp': the centre of 2300 x 2300 pixels, now 224 x 224.")
    expect(root.locator("dd").last).to_have_text("0.0000")
    page.mouse.move(0, 0)  # so that no patch comes under the pointer when the page is laid out anew
