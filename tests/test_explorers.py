"""Every explorer in every front end: driven by mouse and keyboard, its numbers compared with torch's, judged by axe."""

import importlib
import os
from functools import cache
from pathlib import Path

import pytest

pytest.register_assert_rewrite("front_ends", "drives")

from front_ends import (  # noqa: E402
    SWALLOWED,
    axe,
    check_clean,
    go_dark,
    narrow,
    notebook_of,
    open_notebook,
    pixels,
)

NAMES = sorted(path.stem for path in (Path(__file__).parent / "drives").glob("[a-z]*.py"))
SCREENSHOTS = os.environ.get("SCREENSHOTS")


@cache
def load(name):
    return importlib.import_module(f"drives.{name}")


def source(name):
    """The drive's cell; a drive that cannot be imported fails its own test alone."""
    try:
        return load(name).CELL
    except Exception:
        return "raise SystemExit"


@cache
def expected(name):
    return load(name).expected()


@pytest.fixture(scope="module")
def opened(request, tmp_path_factory):
    """One notebook with the cells of all drives that were asked for, run in one front end."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    names = sorted({call.params["name"] for call in asked if call and "name" in call.params}) or NAMES
    notebook = notebook_of([source(name) for name in names])
    ratio = 2 if request.param == "page" else 1  # device pixels in a CSS pixel: a fine screen in one front end
    folder = tmp_path_factory.mktemp(request.param)
    with open_notebook(request.param, notebook, folder, device_scale_factor=ratio) as opened:
        opened.names = names
        yield opened


def show(opened, name):
    """The explorer of the drive, scrolled into view and drawn."""
    from playwright.sync_api import expect

    load(name)
    cell = opened.names.index(name)
    if opened.errors[cell]:
        pytest.fail(opened.errors[cell], pytrace=False)
    opened.reveal(cell)
    root = opened.page.locator(f".vit-{name}").first
    expect(root).to_be_visible()
    wait_until_sharp(opened.page, root)
    return root


def wait_until_sharp(page, root):
    """Waits until every canvas has as many pixels as the screen has behind it; a blurred one runs into the time-out."""
    page.wait_for_function(
        """(root) => [...root.querySelectorAll("canvas")].every((canvas) =>
          !canvas.clientWidth || Math.abs(canvas.width - devicePixelRatio * canvas.clientWidth) <= devicePixelRatio)""",
        arg=root.element_handle(),
    )


def photograph(opened, name, what=""):
    if SCREENSHOTS:
        opened.page.screenshot(path=Path(SCREENSHOTS) / f"{name}-{opened.front_end}{what}.png")


def front_ends(*names, slow=()):
    """These front ends, and others that are marked slow."""
    marked = [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
    return pytest.mark.parametrize("opened", marked, indirect=True, scope="module")


# Notebook 7 is built of JupyterLab's parts, and its widgets of the same manager's. Classic Notebook loads the same
# modules in another way, which test_monitor_stops.py shows; drives there find nothing that they do not find elsewhere.
# What JupyterLab takes from an explorer (keys, room, colours) all defend in the same code (draw.js, explorer.css), so
# there two are driven, one of them with a kernel; TrainingMonitor is in test_monitor_stops.py.
every_explorer = pytest.mark.parametrize("name", NAMES)
two_explorers = pytest.mark.parametrize("name", ["patches", "stepper"])


@front_ends("page")
@every_explorer
def test_keys_of_the_browser_are_left_to_it(opened, name):
    for place in show(opened, name).locator("[tabindex='0']").all():
        assert place.evaluate(SWALLOWED) == []


@front_ends("lab", slow=("notebook7", "classic"))
def test_opens_clean(opened):
    """Without pop-ups, either: without the course's settings, JupyterLab would by now ask about news."""
    assert opened.page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []
    check_clean(opened.page)


@front_ends("page", slow=("lab", "notebook7", "classic"))
@every_explorer
def test_drive(opened, name):
    page, root = opened.page, show(opened, name)
    page.faults.clear()
    try:
        load(name).drive(page, root, expected(name))
        if opened.front_end != "page" and hasattr(load(name), "drive_with_kernel"):
            load(name).drive_with_kernel(page, root, expected(name))
    finally:
        photograph(opened, name)
    axe(page, root)
    check_clean(page)


@front_ends("page", slow=("lab", "notebook7", "classic"))
@every_explorer
def test_narrow(opened, name):
    """On 500 CSS pixels nothing sticks out, and no canvas is blurred."""
    with narrow(opened, 500):
        root = show(opened, name)
        photograph(opened, name, "-narrow")
        edges = root.evaluate(
            """(root) => ({
              inside: root.scrollWidth - root.clientWidth,
              outside: root.getBoundingClientRect().right - root.parentElement.getBoundingClientRect().right,
              page: root.getBoundingClientRect().right - innerWidth,
            })"""
        )
    assert all(edge <= 1 for edge in edges.values()), f"pixels that stick out to the right: {edges}"
    check_clean(opened.page)


@front_ends("lab")
@two_explorers
def test_in_lab(opened, name):
    test_drive(opened, name)
    test_narrow(opened, name)


@pytest.fixture(scope="module")
def dark(opened):
    go_dark(opened)
    return opened


@front_ends("page", slow=("lab",))
@every_explorer
def test_dark_theme(dark, name):
    """Last, because the page stays dark. A canvas that missed the change of theme looks different when drawn again."""
    page, root = dark.page, show(dark, name)
    photograph(dark, name, "-dark")
    axe(page, root)
    canvases = root.locator("canvas:visible").all()
    seen = [pixels(canvas) for canvas in canvases]
    with narrow(dark, 380):
        show(dark, name)
        assert not canvases or [pixels(canvas) for canvas in canvases] != seen
    show(dark, name)  # another width has scrolled it elsewhere
    assert [pixels(canvas) for canvas in canvases] == seen, "a canvas did not follow the theme"
    check_clean(page)


@front_ends("lab")
@two_explorers
def test_dark_theme_of_lab(dark, name):
    test_dark_theme(dark, name)
