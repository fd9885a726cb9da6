"""Slides and hand-outs: how long they are, that they can be read, and that they give no answer away."""

import base64
import importlib.util
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from front_ends import browser, check_clean, watched_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vit_tutorial.classroom import decks, find_notebooks
from vit_tutorial.classroom.exercises import solutions_start, tags

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("sphinx_revealjs"), reason="needs the extra 'classroom'")
NOTEBOOKS = find_notebooks(Path(__file__).resolve().parent.parent / "notebooks", [])
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)\s*=\s*["'](?!data:)([^"']*)""")
notebooks = pytest.mark.parametrize("name", NOTEBOOKS)
a_few = ("03_attention", "06_training")
two_or_all = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in a_few else pytest.mark.slow) for name in NOTEBOOKS]
)


@cache
def pages(name):
    """The deck and the hand-out of a notebook, as HTML."""
    return decks.slides(NOTEBOOKS[name], name), decks.handout(NOTEBOOKS[name], name)


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what decks load."""
    folder = tmp_path_factory.mktemp("decks")
    decks.copy_reveal(folder / "reveal")
    return folder


def opened(chromium, folder, name, text):
    """A page that is open as a teacher opens it, from a file."""
    (folder / name).write_text(text, encoding="utf-8")
    page = watched_page(chromium, viewport={"width": 1180, "height": 720})
    page.goto((folder / name).as_uri())
    return page


@notebooks
def test_a_deck_has_at_most_25_slides_with_words_and_notes(name):
    cells = decks.deck(NOTEBOOKS[name]).cells
    places = [cell.metadata.slideshow.slide_type for cell in cells if "slideshow" in cell.metadata]
    before = NOTEBOOKS[name].cells[: solutions_start(NOTEBOOKS[name])]
    closes = any(cell.source.startswith("## Summary") for cell in before)
    assert cells[-2].source.startswith(f"## {decks.CLOSING}\n\n- ") or not closes
    assert 5 < places.count("slide") + places.count("subslide") <= 25
    assert places[::2].count("notes") == 0 and set(places[1::2]) == {"notes"}  # a slide, its notes, the next
    for first, following in zip(cells, cells[1:], strict=False):
        if first.metadata.get("slideshow", {}).get("slide_type", "notes") != "notes":
            words = len(re.sub(r"^#.*$", "", first.source, flags=re.MULTILINE).split())
            assert words <= 200
            assert words or following.cell_type == "code" or following.source.startswith("#"), first.source


@notebooks
def test_the_code_of_a_solution_is_nowhere(name):
    cells = NOTEBOOKS[name].cells
    start = solutions_start(NOTEBOOKS[name])
    asked = "\n".join(cell.source for cell in cells[:start] if "package" not in tags(cell))
    for edition in decks.deck(NOTEBOOKS[name]), decks.paper(NOTEBOOKS[name]):
        text = "\n".join(cell.source for cell in edition.cells)
        assert not re.search(r"\bsolutions?\b", text, re.IGNORECASE) and "<details" not in text
        for cell in (cell for cell in cells[start:] if cell.cell_type == "code"):
            lines = {line.strip() for line in cell.source.splitlines()}
            assert [line for line in lines if len(line) > 16 and line in text and line not in asked] == []
        assert not any(output.output_type == "stream" for cell in edition.cells for output in cell.get("outputs", []))


def shown(alt):
    """A cell that shows a picture."""
    data = {"image/png": base64.b64encode(b"picture").decode(), "text/html": "<b>explorer</b>"}
    output = new_output("display_data", data, metadata={"image/png": {"alt": alt}})
    return new_code_cell("draw()", outputs=[output, new_output("stream", text="printed")])


@pytest.mark.parametrize("make", [decks.deck, decks.paper])
def test_nothing_that_follows_a_question_is_shown(make):
    stub = new_code_cell("answer = ...", metadata={"tags": ["exercise"]})
    package = new_code_cell("def f(x):\n    y = 1\n    return x.transpose(1, 2)", metadata={"tags": ["package"]})
    told = new_code_cell("def solve(z):\n    return z.transpose(1, 2)", metadata={"tags": ["solution"]})
    cells = [
        new_markdown_cell("# 01 · Title\n\nBegin. See [the next](02_next.ipynb#part)."),
        new_markdown_cell("## Section\n\nA **word** is named."),
        shown("before"),
        new_markdown_cell("**Predict before you run.** Which?\n\n- a: one\n- b: two"),
        shown("told"),
        new_markdown_cell("It is **told**: b."),
        new_markdown_cell("### Next\n\nA **second** word."),
        shown("second picture"),
        new_markdown_cell("### Exercise 1.1 · Do it\n\n*write · easy · 3 minutes*\n\nTurn it.\n\n"
                          "<details><summary>Hint</summary>\n\ntold\n\n</details>"),
        shown("told"),
        stub,
        new_code_cell("check.f(answer)"),
        new_markdown_cell("It was told."),
        new_markdown_cell("### After\n\nAlso **told**."),
        shown("told"),
        package,
        new_markdown_cell("## Another\n\nOpen **again**."),
        new_markdown_cell("## Summary\n- It told."),
        new_markdown_cell("## Solutions\n\n### Solution 1.1\n\ntold"),
        told,
    ]  # fmt: skip
    text = nbformat.writes(make(new_notebook(cells=cells)))
    assert not re.search(r"told|printed|explorer|draw\(|transpose|\]\(", text)
    for kept in (
        "before",
        "Which?",
        "b: two",
        "second picture",
        "Turn it.",
        "word** is named",
        "again",
        "See the next.",
    ):
        assert kept in text, kept
    assert "...  # exercise 1.1" in text and "y = 1" in text


@pytest.mark.parametrize("name", a_few)
def test_slides_and_handouts_load_nothing_from_elsewhere(name, folder):
    deck, paper = pages(name)
    local = {f"reveal/{path}" for path in ("dist/reveal.css", "dist/theme/course.css")}
    local |= {f"reveal/{path}" for path in ("dist/reveal.js", "plugin/notes/notes.js")}
    assert set(LOADED.findall(deck)) == local
    assert all((folder / path).is_file() for path in local)
    assert "<script" not in paper and not LOADED.findall(paper)
    for page in (deck, paper):
        assert '<html lang="en">' in page and "<math" in page and "MathJax" not in page
        assert not re.search(r"\$\\\w+", re.sub(r"<annotation.*?</annotation>", "", page))
        assert all(re.search(r'alt="[^"]', image) for image in re.findall(r"<img[^>]*>", page))
        assert "No description" not in page and not re.search(r'href="(?!https:|#|reveal/)', page)
        levels = [int(level) for level in re.findall(r"<h(\d)", page)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert not re.search(r"@import|url\(.?http", (folder / "reveal/dist/reveal.css").read_text())


@two_or_all
def test_a_handout_has_at_most_10_pages(name, chromium, folder):
    page = opened(chromium, folder, "paper.html", pages(name)[1])
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", printed)) <= 10
    check_clean(page)


FITS = """() => {
  const slide = Reveal.getCurrentSlide();
  const sizes = [...slide.querySelectorAll("img")].map((picture) => picture.getBoundingClientRect().height);
  return slide.scrollHeight <= slide.clientHeight + 2 && Math.min(999, ...sizes) >= 130;
}"""


@two_or_all
def test_every_slide_fits(name, chromium, folder):
    page = opened(chromium, folder, "deck.html", pages(name)[0])
    page.wait_for_function("Reveal.isReady()")
    too_long = []
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        if not page.evaluate(FITS):
            too_long.append(number + 1)
        page.keyboard.press("ArrowRight")
    assert too_long == [] and page.evaluate("Reveal.isLastSlide()")
    check_clean(page)


def test_the_speaker_view_opens_from_a_file_and_shows_the_notes(chromium, folder):
    page = opened(chromium, folder, "deck.html", pages("03_attention")[0])
    page.wait_for_function("Reveal.isReady()")
    page.keyboard.press("ArrowRight")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("This is called attention").wait_for()
    page.keyboard.press("ArrowRight")
    notes.get_by_text("dot product").wait_for()
    assert not page.get_by_text("One matrix product computes all nine").is_visible()


def test_formulas_become_mathml_and_code_and_prices_stay():
    assert "<math" in decks.formulas(r"a $\sqrt d$ b") and "$" not in decks.formulas(r"a $\sqrt d$ b")
    assert 'display="block"' in decks.formulas("$$x^2$$")
    for text in ("`$HOME` and `$x`", "```\n$a$\n```", "5 $ or 6 $", "no formula"):
        assert decks.formulas(text) == text
