"""The course as a website, in a real browser: links, console, accessibility, keyboard, widths, weight.

Without more, a site of two notebooks is built and a few of its pages are judged. With SITE=build/site all pages of a
built site are (`make test-site`). With SCREENSHOTS=folder, each page is photographed there in three widths.
"""

import os
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
import website
from conftest import PATIENCE

pytest.register_assert_rewrite("front_ends")

from bs4 import BeautifulSoup  # noqa: E402
from front_ends import axe, browser, check_clean, is_blank, static_server, watched_page  # noqa: E402

from notebooks import output_text  # noqa: E402

BUILT = os.environ.get("SITE")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
NOTEBOOKS = ("00", "09")  # of the small site: one with an explorer, one with formulas and none
JUDGED = ("404", "index", "search", "glossary", "notebooks/00_start_here")  # of the small site
MOST_BYTES = {"index": 1_500_000, "notebooks": 3_000_000, "try": 15_000_000}
WIDTHS = (390, 820, 1440)
# Scrolls a page to its end, so that all pictures load and all explorers stand where their pictures were.
SHOW_ALL = """async (seconds) => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
    scrollTo({ top: y, behavior: "instant" });
    await new Promise((done) => setTimeout(done, 30));
  }
  const shown = () => [...document.images].filter((image) => image.offsetParent).every((image) => image.complete)
    && document.querySelectorAll("[data-explorer]:not([data-shown])").length === 0;
  for (let i = 0; i < 20 * seconds && !shown(); i++) await new Promise((done) => setTimeout(done, 50));
  scrollTo({ top: 0, behavior: "instant" });
  return shown();
}"""

TRANSITIONS_END = """() => new Promise(requestAnimationFrame)
  .then(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)))
  .then(() => undefined)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if BUILT:
        return Path(BUILT).resolve()
    folder = tmp_path_factory.mktemp("site")
    website.build(folder / "site", NOTEBOOKS, own_picture=False, source=folder / "source")
    return folder / "site"


@pytest.fixture(scope="module")
def address(site):
    with static_server(site) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


def names(site):
    """All pages of the site, without their .html."""
    found = sorted(path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html"))
    assert len(found) > 10, found
    return found


def judged(site):
    return [name for name in names(site) if BUILT or name in JUDGED]


def notebooks(site):
    return sorted((site / "notebooks").glob("*.ipynb"))


@cache
def parsed(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path):
    return {node["id"] for node in parsed(path).find_all(id=True)}


# ------------------------------------------------------------------------------------------ without a browser


def test_links_and_anchors_resolve(site):
    broken = []
    for name in names(site):
        path = site / f"{name}.html"
        for node in parsed(path).find_all(True):
            for attribute in ("href", "src"):
                target = node.get(attribute)
                if target is None or target.startswith(("data:", "mailto:")):
                    continue
                if re.match(r"\w+://", target):
                    if node.name != "a":
                        broken.append(f"{name}: <{node.name}> from another host: {target}")
                    continue
                file, anchor = urldefrag(target.split("?")[0] if "#" not in target else re.sub(r"\?[^#]*", "", target))
                aim = (path.parent / unquote(file)).resolve() if file else path
                if not aim.is_file():
                    broken.append(f"{name}: no file {target}")
                elif anchor and aim.suffix == ".html" and unquote(anchor) not in anchors(aim):
                    broken.append(f"{name}: no anchor {target}")
    assert not broken, "\n".join(broken)


def test_pages_show_the_outputs_of_the_notebooks(site):
    for path in notebooks(site):
        cells = parsed(path.with_suffix(".html")).select("div.cell")
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        code = [cell for cell in code if "setup" not in cell.metadata.get("tags", [])]
        assert len(cells) == len(code)
        for shown, cell in zip(cells, code, strict=True):
            texts = [output for output in cell.outputs if "image/png" not in output.get("data", {})]
            wanted = "".join(map(output_text, texts))
            found = "".join(node.text for node in shown.select(".cell_output pre"))
            assert re.sub(r"\s", "", found) == re.sub(r"\s", "", wanted), (path.name, cell.source)
            alts = [o.metadata["image/png"]["alt"] for o in cell.outputs if "image/png" in o.get("data", {})]
            assert [picture["alt"] for picture in shown.select("img")] == alts


def test_every_explorer_of_the_notebooks_is_alive(site):
    for path in notebooks(site):
        said = re.findall(r'"text/plain": \[\s*"(\w+)\(', path.read_text(encoding="utf-8"))
        wanted = sum(name.endswith(("Explorer", "Playground", "Stepper")) for name in said)
        found = parsed(path.with_suffix(".html")).select("[data-explorer]")
        assert len(found) >= wanted, path.name


def test_every_figure_is_in_the_index_of_figures(site):
    index = parsed(site / "figures.html")
    assert len(index.select("article h2")) == len(notebooks(site))
    for path in notebooks(site):
        pictures = parsed(path.with_suffix(".html")).select(".course-figure")
        entries = index.select(f'a[href^="notebooks/{path.stem}.html#"]')
        assert len(pictures) > 0 and [entry["href"].split("#")[1] for entry in entries] == [p["id"] for p in pictures]
        assert [entry.figcaption.text for entry in entries] == [picture.img["alt"] for picture in pictures]


def test_the_glossary_has_the_words_of_the_course(site):
    table = parsed(site / "notebooks" / "00_start_here.html").find(id="the-words-and-the-letters").find("table")
    words = [word for row in table.select("tbody tr") for word in row.td.text.split(", ")]
    terms = {term.text.rstrip("#") for term in parsed(site / "glossary.html").select("dt")}
    assert len(words) > 10 and set(words) <= terms
    entries = parsed(site / "glossary.html").select("dd")
    assert all(entry.select_one('a[href*="_"][href*="#"]') for entry in entries), "an entry without its place"


# ------------------------------------------------------------------------------------------ in a browser


def opened(chromium, address, name, **options):
    page = watched_page(chromium, **options)
    page.goto(f"{address}{name}.html", wait_until="load")
    return page


def judge_theme(page, name, theme):
    """Asserts that the page has taken the theme of the system, and that axe-core finds nothing serious in it."""
    page.emulate_media(color_scheme=theme)
    if name != "404":  # which has the system's theme alone
        page.wait_for_function(f"() => document.documentElement.dataset.theme === '{theme}'")
    page.evaluate(TRANSITIONS_END)  # a colour on its way is no fault
    try:
        axe(page, page.locator("html"))
    except AssertionError as error:
        raise AssertionError(f"{name}, {theme}: {error}") from None
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name.replace('/', '-')}-{theme}.png")


def judge_widths(page, name):
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("() => new Promise(requestAnimationFrame)")
        if SCREENSHOTS:
            page.evaluate(SHOW_ALL, PATIENCE)
            page.screenshot(path=Path(SCREENSHOTS) / f"{name.replace('/', '-')}-{width}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name}: {wide} pixels wide on a screen of {width}"
        if width == min(WIDTHS):  # here the buttons show no texts
            axe(page, page.locator("header"))


def test_pages(site, address, chromium):
    """Every page: pictures load, explorers draw, console and requests are clean, axe in both themes, widths, bytes."""
    for name in judged(site):
        page, answers = watched_page(chromium, viewport={"width": 1440, "height": 900}), []
        page.on("requestfinished", lambda request, answers=answers: answers.append(request))
        page.goto(f"{address}{name}.html", wait_until="load")
        assert page.evaluate(SHOW_ALL, PATIENCE), f"{name}: a picture or an explorer did not load"
        for canvas in page.locator("[data-explorer] canvas:visible").all():
            assert not is_blank(canvas), name
        sizes = {request.url: len(request.response().body()) for request in answers if request.url.startswith("http")}
        most = MOST_BYTES.get(name.split("/")[0], 3_000_000)
        heaviest = sorted((size, url) for url, size in sizes.items())[-6:]
        assert sum(sizes.values()) <= most, f"{name}: {sum(sizes.values())} bytes of at most {most}: {heaviest}"
        print(f"{name}: {sum(sizes.values()) / 1e6:.2f} MB")
        for theme in ("light", "dark"):
            judge_theme(page, name, theme)
        judge_widths(page, name)
        check_clean(page)
        page.close()


def test_works_from_a_folder(site, chromium):
    for name in ("index", *(name for name in judged(site) if name.startswith("notebooks/"))):
        page = watched_page(chromium)
        page.goto((site / f"{name}.html").as_uri(), wait_until="load")
        assert page.evaluate(SHOW_ALL, PATIENCE), name
        check_clean(page)
        page.close()
    page = watched_page(chromium)
    page.goto((site / "search.html").as_uri() + "?q=patches")
    page.wait_for_selector("#search-results a[href*='notebooks/']")
    check_clean(page)
    page.close()


# The focused element's number, and whether it looks different from what it is without focus.
FOCUSED = """() => {
  const node = document.activeElement;
  const names = ["outlineStyle", "outlineWidth", "boxShadow", "borderColor", "backgroundColor", "textDecorationLine",
    "textDecorationThickness", "color"];
  const look = () => names.map((name) => getComputedStyle(node)[name]).join();
  const seen = look();
  node.blur();
  const before = look();
  node.focus({ preventScroll: true });
  return [node.dataset.number, seen !== before, node.outerHTML.slice(0, 150), node.getAttribute("href")];
}"""
CAN_FOCUS = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.disabled && node.tabIndex >= 0)
  .map((node, i) => (node.dataset.number = i)).length"""


def test_the_keyboard_reaches_everything(site, address, chromium):
    for name in ("index", "notebooks/00_start_here")[: 2 if BUILT else 1]:
        page = opened(chromium, address, name)
        assert page.evaluate(SHOW_ALL, PATIENCE)
        count = page.evaluate(CAN_FOCUS)
        assert count > 10
        reached, unseen = [], []
        for _ in range(2 * count):
            page.keyboard.press("Tab")
            number, shows, text, target = page.evaluate(FOCUSED)
            if number in reached:
                break
            assert reached or target == "#main-content", f"{name}: the first stop is {text}, not the skip link"
            reached.append(number)
            unseen += [text] if number is not None and not shows else []
        missed = [
            page.locator(f'[data-number="{i}"]').evaluate("(node) => node.outerHTML.slice(0, 150)")
            for i in range(count)
            if str(i) not in reached
        ]
        assert not missed, f"{name}: the Tab key does not reach {missed}"
        assert not unseen, f"{name}: focus does not show on {unseen}"

        stage = page.locator(".vit-attention canvas[tabindex]").first
        stage.focus()
        said = page.locator(".vit-attention .vit-status").first
        before = said.inner_text()
        page.keyboard.press("ArrowDown")
        assert said.inner_text() != before, "arrow keys do not move the explorer's query"
        check_clean(page)
        page.close()


def test_theme_and_search_by_keyboard(address, chromium):
    page = opened(chromium, address, "index")
    page.locator("button.theme-switch-button").first.focus()
    page.keyboard.press("Enter")
    page.locator(".theme-change-button[data-mode=dark]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    page.keyboard.press("Control+k")
    page.keyboard.type("patches")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html**")
    page.wait_for_selector("#search-results a[href*='notebooks/']")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"  # it is remembered
    check_clean(page)
    page.close()


def test_a_missing_page_leads_home_from_any_depth(site, chromium):
    page = watched_page(chromium)
    lost = (site / "404.html").read_text(encoding="utf-8")
    page.route("**/*", lambda route: route.fulfill(status=404, content_type="text/html", body=lost))
    homes = {
        "https://someone.github.io/course/notebooks/deep/none.html": "https://someone.github.io/course/",
        "https://course.example/notebooks/deep/none.html": "https://course.example/",
    }
    for address, home in homes.items():
        page.goto(address)
        assert page.evaluate("() => [...document.links].map((link) => link.href)") == [home, home]
    page.close()


def test_an_explorer_that_fails_leaves_its_picture(address, chromium):
    page, said = watched_page(chromium), []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    broken = "vitExplorers.modules.attention = { render({ el }) { el.append('half'); throw new Error('broken'); } };"
    page.route("**/explorers/attention.js", lambda route: route.fulfill(content_type="text/javascript", body=broken))
    with page.expect_event("console", lambda message: "explorer failed" in message.text):
        page.goto(f"{address}index.html", wait_until="load")
    figure = page.locator("[data-explorer]").first
    assert figure.locator("img").is_visible() and "half" not in figure.inner_text()
    check_clean(page)
    page.close()


# What the canvases of the page's explorers show in the light theme, in the dark one, for paper, and afterwards.
PRINTED = """async () => {
  const look = document.documentElement.dataset;
  const images = () => [...document.querySelectorAll("[data-explorer] canvas")].map((canvas) => canvas.toDataURL());
  const frames = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const shown = async (theme) => {
    look.theme = theme;
    await frames();
    return images().join();
  };
  const [light, dark] = [await shown("light"), await shown("dark")];
  dispatchEvent(new Event("beforeprint"));
  const paper = images().join();
  await null; // as after each of the browser's own events
  dispatchEvent(new Event("afterprint"));
  await frames();
  return [light !== dark, paper === light, images().join() === dark];
}"""


def test_paper_is_white(address, chromium):
    page = opened(chromium, address, "index")
    assert page.evaluate(SHOW_ALL, PATIENCE)
    assert page.evaluate(PRINTED) == [True, True, True]
    check_clean(page)
    page.close()


def test_words_of_the_glossary_are_found_by_name(address, chromium):
    page = opened(chromium, address, "search")
    page.goto(f"{address}search.html?q=attention")
    page.locator("#search-results .search-summary", has_text="Search finished").wait_for()
    names = page.locator("#search-results a[href*=glossary]").all_inner_texts()
    assert "Glossary: attention weights" in names and len(set(names)) == len(names), names
    check_clean(page)
    page.close()
