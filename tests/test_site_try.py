"""The site's page for own pictures: the shipped ViT in a browser says what PyTorch says, of any picture."""

import base64
import gzip
import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

pytest.register_assert_rewrite("front_ends")

import front_ends  # noqa: E402
import install_front_ends  # noqa: E402
import own_picture_page  # noqa: E402
from front_ends import SWALLOWED, axe, check_clean, is_blank, pixels, read_table  # noqa: E402

from vit_tutorial import (  # noqa: E402
    datasets,
    export,
    interpret,
    normalise,
    weights,
)
from vit_tutorial.files import CHECKPOINT  # noqa: E402

READY = """() => {
  const { asked, answered } = document.querySelector("#answer").dataset;
  return answered && answered === asked;
}"""
TRANSFER = """(node, [event, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true, dataTransfer: files, clipboardData: files };
  node.dispatchEvent(event === "drop" ? new DragEvent(event, options) : new ClipboardEvent(event, options));
}"""
# Whether all canvases are drawn anew, at once, for paper; the theme then; and the theme that comes back.
PRINTED = """() => {
  const images = () => [...document.querySelectorAll("canvas.vit-stage")].map((canvas) => canvas.toDataURL());
  const theme = () => document.documentElement.dataset.theme;
  const before = images();
  dispatchEvent(new Event("beforeprint"));
  const now = [images(), theme()];
  dispatchEvent(new Event("afterprint"));
  return [now[0].some((image, i) => image !== before[i]), now[1], theme()];
}"""
# The first picture that is read is there when `letGo()` is called.
SLOW_ONCE = """() => {
  const read = globalThis.createImageBitmap;
  const free = new Promise((done) => { globalThis.letGo = done; });
  globalThis.createImageBitmap = async (...given) => {
    globalThis.createImageBitmap = read;
    const bitmap = await read(...given);
    await free;
    globalThis.slowRead = true;
    return bitmap;
  };
}"""
RUN = """async (pixels) => {
  const { logits, attention } = await tryIt.run(new Uint8Array(pixels));
  return { logits: Array.from(logits), attention: Array.from(attention) };
}"""


@pytest.fixture(scope="module")
def model():
    return weights.load(CHECKPOINT).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if sentence := export.missing():
        front_ends.skip(sentence)
    if not (install_front_ends.FOLDER / "runtime-installed").is_file():
        front_ends.skip("needs ONNX Runtime for browsers: python tools/build/install_front_ends.py")
    folder = tmp_path_factory.mktemp("site") / "try"
    own_picture_page.build(folder)
    return folder


def part(folder, name):
    """What the script `name`.js gives to the page."""
    text = (folder / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(text.partition(", ")[2].removesuffix(");\n"))[name]


@pytest.fixture(scope="module")
def running():
    with front_ends.browser() as running:
        yield running


@pytest.fixture(scope="module")
def opened(folder, running):
    with front_ends.static_server(folder) as address:
        page = front_ends.watched_page(running, viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_function(READY)
        yield page


@pytest.fixture
def page(opened):
    """The page with the cat in it, nothing covered; afterwards nothing must have gone wrong."""
    opened.get_by_role("button", name="cat", exact=True).click()
    opened.wait_for_function("() => document.querySelector('[data-name=cat]').ariaPressed === 'true'")
    settle(opened)
    yield opened
    check_clean(opened)


def settle(page):
    """Waits until the answer belongs to what is on the page."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_function(READY)


def scores(page):
    """The ten shares on the page, 0 to 1."""
    settle(page)
    return torch.tensor([float(row[-1].removesuffix(" %")) / 100 for row in read_table(page.locator(".try-scores"))])


def check_scores(page, model, image):
    """Asserts that the model got `image` (3, 32, 32), a level of rounding aside, and that the page shows its answer."""
    shown = scores(page)
    got = torch.tensor(page.evaluate("() => Array.from(tryIt.pixels())"), dtype=torch.uint8).view(3, 32, 32)
    assert (got.int() - image.int()).abs().max() <= 1
    with torch.no_grad():
        expected = model(normalise(got[None], model.config)).softmax(dim=1)[0]
    assert (shown - expected).abs().max() < 1e-3  # shares are shown with three decimals
    return got


def square(image):
    """The middle of an image, as the model gets it, from PyTorch."""
    return datasets.photographs.centre_square(image, 32)


def sample(folder, name):
    """A photograph as the page has it, uint8 (3, Y, X)."""
    data = base64.b64decode(part(folder, "samples")[name].partition(",")[2])
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).permute(2, 0, 1)


def picture(image, kind="PNG", **options):
    """The bytes of a file of an image (3, Y, X)."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, kind, **options)
    return file.getvalue()


def bring(page, event, data, name="own.png", kind="image/png"):
    page.locator("body").evaluate(TRANSFER, [event, name, kind, base64.b64encode(data).decode()])


def stroke(page, canvas, places):
    """Draws with the pressed pointer over places (x, y), fractions of the canvas."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not i:
            page.mouse.down()
    page.mouse.up()


# ------------------------------------------------------------------------------------------ the model


def test_the_exported_model_is_the_shipped_one(folder, model, tmp_path):
    import onnxruntime

    file = tmp_path / "model.onnx"
    file.write_bytes(gzip.decompress(base64.b64decode(part(folder, "model")["onnx"])))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for B in (1, 3):
        images = torch.randint(0, 256, (B, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(B))
        logits, attention = map(torch.from_numpy, session.run(["logits", "attention"], {"pixels": images.numpy()}))
        with torch.no_grad():
            expected = model(normalise(images, model.config))
        assert (logits - expected).abs().max() < 1e-4
        assert torch.allclose(attention, model.attention_maps(normalise(images, model.config)), atol=1e-5)


def test_the_browser_agrees_with_torch(page, model):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    images[1] = datasets.sample_image("rocket", 32)
    found = page.evaluate(RUN, images.flatten().tolist())
    with torch.no_grad():
        logits = model(normalise(images, model.config))
    attention = model.attention_maps(normalise(images, model.config))
    assert (torch.tensor(found["logits"]).view_as(logits) - logits).abs().max() < 1e-3
    assert (torch.tensor(found["attention"]).view_as(attention) - attention).abs().max() < 1e-3
    page.locator("#check summary").click()
    page.locator("#agreement", has_text="It agrees with PyTorch on 2 pictures").wait_for()


def test_the_page_fits_its_weight(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15e6


# ------------------------------------------------------------------------------------------ pictures


def test_a_photograph_is_cut_resized_and_answered_as_in_torch(page, folder, model):
    page.evaluate(SLOW_ONCE)
    for name in ("rocket", "coffee"):  # the second while the first is under way
        page.get_by_role("button", name=name, exact=True).click()
    chosen = "() => document.querySelector('.try-sample[aria-pressed=true]').dataset.name"
    page.wait_for_function(f"{chosen} === 'coffee'")
    page.evaluate("() => letGo()")
    page.wait_for_function("() => globalThis.slowRead")
    page.wait_for_timeout(200)
    assert page.evaluate(chosen) == "coffee"
    check_scores(page, model, square(sample(folder, "coffee")))


def test_the_photographs_are_the_course_s(page, folder, model):
    for name in own_picture_page.SAMPLES:
        assert torch.equal(sample(folder, name), datasets.sample_image(name))
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function(f"() => document.querySelector('[data-name={name}]').ariaPressed === 'true'")
        image = datasets.sample_image(name, 32)
        check_scores(page, model, image)
        with torch.no_grad():
            expected = model(normalise(image[None], model.config)).softmax(dim=1)[0]
        assert scores(page).argmax() == expected.argmax()
        assert (scores(page) - expected).abs().max() < 0.005  # a pixel or two differ by one level


@pytest.mark.parametrize("way", ["paste", "drop", "choose"])
def test_a_picture_arrives(page, folder, model, way):
    image = sample(folder, "coffee")
    data = picture(image)
    if way == "choose":
        page.locator("input[type=file]").set_input_files(
            {"name": "<b>own</b>.png", "mimeType": "image/png", "buffer": data}
        )
    else:
        bring(page, way, data, "<b>own</b>.png")
    page.locator(".vit-square .vit-status", has_text="“<b>own</b>.png”, 600 × 400 pixels").wait_for()
    check_scores(page, model, square(image))


def test_the_camera_s_orientation_is_respected(page, folder, model):
    image = sample(folder, "coffee")
    lying = image.permute(0, 2, 1).flip(1).contiguous()  # turned by a quarter to the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    data = picture(lying, "JPEG", quality=95, exif=exif)
    bring(page, "drop", data, "turned.jpg", "image/jpeg")
    page.locator(".vit-square .vit-status", has_text="turned.jpg").wait_for()
    upright = np.array(Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_270))
    check_scores(page, model, square(torch.from_numpy(upright).permute(2, 0, 1)))


def vast_png(side):
    """A file of some bytes that says it holds `side` x `side` pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "name", "kind", "sentence"),
    [
        (b"no picture", "notes.txt", "text/plain", "“notes.txt” cannot be read; save it anew."),
        (b"\x89PNG\r\n\x1a\n", "cut.png", "image/png", "“cut.png” cannot be read; save it anew."),
        (vast_png(20_000), "vast.png", "image/png", "at most 64 megapixels, found 20000 × 20000 in “vast.png”"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(page, data, name, kind, sentence):
    before = scores(page)
    bring(page, "drop", data, name, kind)
    page.locator(".vit-square [role=alert]", has_text=sentence).wait_for()
    assert torch.equal(scores(page), before)
    page.get_by_role("button", name="rocket").click()
    page.locator(".vit-square [role=alert]").wait_for(state="hidden")


def test_the_square_moves_and_zooms(page, folder, model):
    image = sample(folder, "cat")  # (3, 300, 451)
    canvas = page.locator(".vit-square canvas")
    canvas.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")  # to the left edge
    check_scores(page, model, square(image[:, :, :300]))
    stroke(page, canvas, [(0.9, 0.5), (0.1, 0.5), (0.1, 0.9)])  # what the pointer drags follows it, to the right edge
    check_scores(page, model, square(image[:, :, 151:]))
    page.get_by_role("slider", name="Zoom").fill("3")  # 2 times
    assert page.get_by_role("slider", name="Zoom").get_attribute("aria-valuetext") == "2 ×"
    check_scores(page, model, square(image[:, 75:225, 226:376]))


def test_drawing(page):
    page.get_by_role("button", name="Draw one").click()
    canvas = page.locator(".vit-square canvas")
    white = scores(page)
    stroke(page, canvas, [(0.1, 0.6), (0.9, 0.4)])
    drawn = scores(page)
    assert (drawn - white).abs().max() > 0.01
    page.get_by_role("button", name="Undo").click()
    assert torch.equal(scores(page), white)
    page.get_by_role("button", name="sky blue").click()
    page.get_by_role("button", name="Fill").click()
    assert (scores(page) - white).abs().max() > 0.01
    page.get_by_role("button", name="Clear").click()
    assert torch.equal(scores(page), white)
    canvas.focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert not torch.equal(scores(page), white)


def test_a_drawing_stays_while_another_picture_is_looked_at(page):
    page.get_by_role("button", name="Draw one").click()
    assert "whole sheet" in page.locator(".vit-square .vit-hint").inner_text()
    page.get_by_role("button", name="Clear").click()
    settle(page)
    assert not is_blank(page.locator(".vit-tokens canvas")), "the patches of a white sheet cannot be seen"
    stroke(page, page.locator(".vit-square canvas"), [(0.1, 0.6), (0.9, 0.4)])
    drawn = scores(page)
    page.get_by_role("button", name="cat", exact=True).click()
    page.wait_for_function("() => document.querySelector('[data-name=cat]').ariaPressed === 'true'")
    assert "this square" in page.locator(".vit-square .vit-hint").inner_text()
    assert not torch.equal(scores(page), drawn)
    page.get_by_role("button", name="Draw one").click()
    assert torch.equal(scores(page), drawn)
    page.get_by_role("button", name="Clear").click()
    assert not torch.equal(scores(page), drawn)
    page.get_by_role("button", name="Undo").click()
    assert torch.equal(scores(page), drawn)


def test_a_second_finger_does_nothing(page):
    canvas = page.locator(".vit-tokens canvas")
    canvas.scroll_into_view_if_needed()
    box, hand = canvas.bounding_box(), page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [
            {"id": i, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            for i, (x, y) in enumerate(places)
        ]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.06, 0.06))
    touch("touchStart", (0.06, 0.06), (0.9, 0.9))
    touch("touchMove", (0.06, 0.06), (0.9, 0.5))
    touch("touchMove", (0.2, 0.06))
    touch("touchEnd")
    settle(page)
    assert page.locator(".vit-tokens .vit-status").inner_text().startswith("2 patches are covered")


# ------------------------------------------------------------------------------------------ covering and attention


def test_covering_patches_changes_the_answer(page, folder, model):
    image = square(sample(folder, "cat"))
    before, canvas = scores(page), page.locator(".vit-tokens canvas")
    stroke(page, canvas, [(0.5 / 8, 0.5 / 8), (2.5 / 8, 0.5 / 8)])
    covered = image.clone()
    covered[:, :4, :12] = image.float().mean(dim=(1, 2)).round().to(torch.uint8)[:, None, None]
    check_scores(page, model, covered)
    assert (scores(page) - before).abs().max() > 0.01
    status = page.locator(".vit-tokens .vit-status")
    assert status.inner_text().startswith("3 patches are covered")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    settle(page)
    assert status.inner_text().startswith("4 patches are covered")
    page.get_by_role("button", name="Uncover all").click()
    assert torch.equal(scores(page), before)


def test_which_patch_matters(page, folder, model):
    image = check_scores(page, model, square(sample(folder, "cat")))
    page.get_by_role("button", name="Which patch matters?").click()
    page.locator(".try-legend").wait_for()
    assert [text.split()[0] for text in page.locator(".try-scale").inner_text().splitlines() if text] == [
        "gains",
        "loses",
    ]
    rows = read_table(page.locator(".try-legend"))
    found = torch.tensor([[float(text) for text in row[1:]] for row in rows[1:]]) / 100
    expected = interpret.occlusion(model, normalise(image[None], model.config), "predicted", 4, 4)[0]
    assert (found - expected).abs().max() < 0.005 < expected.abs().max()
    page.get_by_role("button", name="rocket").click()
    page.locator(".try-legend").wait_for(state="hidden")


def test_attention_of_every_layer_and_head(page, folder, model):
    image = check_scores(page, model, square(sample(folder, "cat")))
    attention = model.attention_maps(normalise(image[None], model.config))  # (L, 1, H, N, N)
    page.get_by_label("Numbers", exact=True).check()
    large, small = page.locator(".try-large canvas"), page.locator(".try-small canvas")

    def shown():
        return (
            torch.tensor([[float(text) for text in row[1:]] for row in read_table(page.locator(".vit-numbers"))[1:]])
            / 100
        )

    def is_shown(values):
        return (shown() - values[1:].view(8, 8)).abs().max() < 1e-4

    assert is_shown(attention[5, 0].mean(dim=0)[0])
    large.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):  # from the class token to the first row, third column
        page.keyboard.press(key)
    assert is_shown(attention[5, 0].mean(dim=0)[3])
    small.focus()
    for key in ("ArrowUp", "ArrowRight", "ArrowRight"):  # mean, rollout, head 1
        page.keyboard.press(key)
    assert is_shown(attention[4, 0, 0, 3]) and page.get_by_label("Show", exact=True).input_value() == "0"
    page.get_by_label("Show", exact=True).select_option("rollout")
    assert is_shown(interpret.attention_rollout(attention[:5])[0, 3])
    before = pixels(small)
    box = large.bounding_box()
    large.hover(position={"x": box["width"] * 7.5 / 8, "y": 30 + box["width"] * 7.5 / 8})
    assert is_shown(interpret.attention_rollout(attention[:5])[0, 64]) and pixels(small) != before
    page.mouse.move(5, 5)
    assert pixels(small) == before and not is_blank(large)
    page.get_by_label("Numbers", exact=True).uncheck()
    large.focus()
    page.keyboard.press("Home")


# ------------------------------------------------------------------------------------------ for everybody


def test_the_keyboard_reaches_everything(page):
    page.evaluate("() => document.activeElement.blur()")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, width = page.evaluate(
            """() => {
              const node = document.activeElement;
              const name = node.ariaLabel || node.textContent.trim() || node.type;
              if (node === document.body) return [null, 0];
              const { outlineStyle, outlineWidth } = getComputedStyle(node);
              return [name.split(/[.?]/)[0], outlineStyle === "none" ? 0 : parseFloat(outlineWidth)];
            }"""
        )
        if name is None:  # past the last element
            continue
        if name in seen:
            break
        seen.append(name)
        assert width >= 2, f"focus cannot be seen on {name}"
    expected = [
        "ViT, step by step",
        "Dark theme",
        "Choose a picture",
        "Draw one",
        "cat",
        "rocket",
        "coffee",
        "astronaut",
    ]
    expected += ["Your picture", "Zoom", "The patches that the model gets", "Which patch matters", "Layer", "Show"]
    expected += ["The picture and the chosen map", "All layers, one per row, and all heads, one per column"]
    assert [name for name in expected if name not in seen] == []


def test_focus_stays_on_a_button_that_has_nothing_more_to_do(page):
    def press(name):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        settle(page)
        return button

    press("Draw one")
    page.locator(".vit-square canvas").press("Space")
    while page.get_by_role("button", name="Undo").is_enabled():
        undo = press("Undo")
    assert undo.evaluate("(node) => document.activeElement === node")
    page.locator(".vit-tokens canvas[tabindex]").press("Space")
    assert press("Uncover all").evaluate("(node) => document.activeElement === node && node.ariaDisabled === 'true'")
    asked = press("Which patch matters?")
    page.locator(".try-legend").wait_for()
    assert asked.evaluate("(node) => document.activeElement === node && node.ariaDisabled === 'false'")


def test_keys_of_the_browser_are_left_to_it(page):
    for name in ("cat", "Draw one"):
        page.get_by_role("button", name=name, exact=True).click()
        settle(page)
        for canvas in page.locator("canvas[tabindex]").all():
            assert canvas.evaluate(SWALLOWED) == []


def test_paper_is_white(page):
    page.get_by_role("button", name="Dark theme").click()
    settle(page)
    assert page.evaluate(PRINTED) == [True, "light", "dark"]
    page.get_by_role("button", name="Light theme").click()
    page.emulate_media(media="print")
    assert not page.locator(".try-sources, .vit-controls, .try-theme").filter(visible=True).count()
    page.emulate_media(media="screen")


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_both_themes_at_every_width(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for theme in ("Dark", "Light"):
        page.get_by_role("button", name=f"{theme} theme").click()
        assert page.evaluate("() => document.documentElement.dataset.theme") == theme.lower()
        axe(page, page.locator("body"))
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_it_works_from_a_folder(folder, running):
    page = front_ends.watched_page(running)
    page.goto((folder / "index.html").as_uri())
    page.locator("#check summary").click()  # before the model is there
    page.wait_for_function(READY)
    assert abs(scores(page).sum() - 1) < 0.01
    page.locator("#agreement", has_text="It agrees with PyTorch on 2 pictures").wait_for()
    check_clean(page)


def test_a_browser_without_webassembly_gets_a_sentence(folder, running):
    page = front_ends.watched_page(running)
    page.add_init_script("delete globalThis.WebAssembly")
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("alert").filter(has_text="needs WebAssembly, which this browser does not offer").wait_for()
    check_clean(page)


def test_a_missing_part_gets_a_sentence(folder, running, tmp_path):
    for name in ("index.html", "app.js", "theme.js", "style.css", "model.js", "samples.js"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    page = front_ends.watched_page(running)
    page.goto((tmp_path / "index.html").as_uri())
    page.get_by_role("alert").filter(has_text="Expected runtime.js beside index.html").wait_for()
    page.locator(".try-time", has_text="The model is not running.").wait_for()
    page.locator("#check summary").click()
    page.locator("#agreement", has_text="The model is not running.").wait_for()
    assert page.get_by_role("button", name="Which patch matters?").is_disabled()


def test_what_the_reader_does_before_all_is_there_counts(folder, running):
    page, held = front_ends.watched_page(running), []
    for name in ("samples", "runtime"):
        page.route(f"**/{name}.js", lambda route: held.append(route))
    page.goto((folder / "index.html").as_uri(), wait_until="domcontentloaded")
    tokens = page.locator(".vit-tokens canvas")
    tokens.press("Space")  # there is no picture yet
    page.get_by_role("button", name="Uncover all").click(force=True)
    assert page.get_by_role("button", name="Which patch matters?").is_disabled()
    page.locator("#check summary").click()
    page.locator("#agreement", has_text="Waiting for the model").wait_for()
    page.get_by_role("button", name="Draw one").click()
    stroke(page, page.locator(".vit-square canvas"), [(0.1, 0.6), (0.9, 0.4)])
    for route in held:
        if "samples" in route.request.url:
            route.continue_()
    page.get_by_role("button", name="cat", exact=True).wait_for()
    page.wait_for_timeout(200)
    assert page.get_by_role("button", name="Undo").is_enabled() and not is_blank(page.locator(".vit-square canvas"))
    check_clean(page)
    page.close()


def test_the_page_may_send_nothing(page, folder):
    assert page.evaluate("() => fetch('index.html').then(() => 'sent', () => 'refused')") == "refused"
    page.faults.clear()
