"""The watchers of the browser tests cannot be silent: each is shown a page with the fault that it must find."""

import pytest
from conftest import PATIENCE

pytest.register_assert_rewrite("front_ends")

import front_ends  # noqa: E402
from front_ends import axe, check_clean, is_blank, pixels, read_table  # noqa: E402


@pytest.fixture(scope="module")
def page():
    with front_ends.browser() as running:
        yield front_ends.watched_page(running)


def show(page, body):
    page.set_content(f'<!doctype html><html lang="en"><title>A page</title><main>{body}</main></html>')
    page.faults.clear()
    return page.locator("main")


def test_a_clean_page_passes(page):
    root = show(page, "<label>Size <input type=range></label><canvas role=img aria-label=nothing></canvas>")
    check_clean(page)
    axe(page, root)


@pytest.mark.parametrize(
    "code, fault",
    [
        ("console.error('a trait is missing')", "console error: a trait is missing"),
        ("setTimeout(() => { throw new Error('in a handler'); })", "page error: in a handler"),
        ("new Image().src = 'https://example.org/logo.png'", "request to another host: https://example.org/logo.png"),
        ("fetch('https://example.org/').catch(() => {})", "request to another host: https://example.org/"),
        ("new WebSocket('wss://example.org/')", "request to another host: wss://example.org/"),
        ("fetch('http://127.0.0.1:9/').catch(() => {})", "request failed: http://127.0.0.1:9/"),
    ],
)
def test_check_clean_finds(page, code, fault):
    show(page, "")
    page.evaluate(f"() => {{ {code}; }}")
    for _ in range(10 * PATIENCE):  # a request fails when it fails
        if any(fault in found for found in page.faults):
            break
        page.wait_for_timeout(100)
    with pytest.raises(AssertionError) as error:
        check_clean(page)
    assert fault in str(error.value)
    page.wait_for_timeout(200)
    page.faults.clear()


def test_check_clean_finds_a_missing_file(page, tmp_path):
    (tmp_path / "index.html").write_text('<link rel="icon" href="data:,"><script src="missing.js"></script>')
    with front_ends.static_server(tmp_path) as address:
        page.goto(address)
        page.faults[:] = [fault for fault in page.faults if fault.startswith("response")]
        with pytest.raises(AssertionError, match=r"response 404: http://127.0.0.1:\d+/missing.js"):
            check_clean(page)


@pytest.mark.parametrize(
    "body, violation",
    [
        ("<input type=range>", "label (critical)"),
        ("<button></button>", "button-name (critical)"),
        ("<select><option>1</option></select>", "select-name (critical)"),
        ("<canvas role=img></canvas>", "role-img-alt (serious)"),
        ('<p style="color: #999; background: #fff">Pale on white</p>', "color-contrast (serious)"),
    ],
)
def test_axe_finds(page, body, violation):
    root = show(page, body)
    with pytest.raises(AssertionError) as error:
        axe(page, root)
    assert violation in str(error.value)


def test_pixels_and_table_are_read(page):
    root = show(
        page,
        "<canvas width=4 height=2></canvas><table><thead><tr><td></td><th>a</th></tr></thead>"
        "<tbody><tr><th>1</th><td> 0.25 </td></tr></tbody></table>",
    )
    canvas = root.locator("canvas")
    before = pixels(canvas)
    assert is_blank(canvas) and pixels(canvas) == before
    canvas.evaluate("(canvas) => canvas.getContext('2d').fillRect(3, 1, 1, 1)")
    assert not is_blank(canvas) and pixels(canvas) != before
    assert read_table(root) == read_table(root.locator("table")) == [["", "a"], ["1", "0.25"]]


def test_required_front_ends_fail_instead_of_skipping(monkeypatch):
    with pytest.raises(pytest.skip.Exception if not front_ends.REQUIRED else pytest.fail.Exception, match="no such"):
        front_ends.skip("no such browser")
    monkeypatch.setattr(front_ends, "REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="no such"):
        front_ends.skip("no such browser")
