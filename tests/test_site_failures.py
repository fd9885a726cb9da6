"""A notebook that fails when the site runs it keeps its page, with still pictures; the other pages are whole."""

from functools import partial

import live_explorers
import nbformat
import pytest
import website
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook, new_output

import notebooks

FAILURES = {
    "raises": ("raise ValueError('no\\nmore')", "cell 1: ValueError: no"),
    "takes too long": ("import time; time.sleep(100)", "cell 1: A cell timed out while it was being executed"),
    "dies": ("import os; os._exit(1)", "cell 1: Kernel died"),
    "shows no explorer": ("None", "cell 2: expected one explorer, found 0"),
}


@pytest.mark.parametrize(("source", "message"), FAILURES.values(), ids=FAILURES)
def test_a_failure_names_its_cell_and_is_not_kept(tmp_path, monkeypatch, source, message):
    monkeypatch.setattr(notebooks, "CELL_SECONDS", 2)
    monkeypatch.setattr(live_explorers, "SMALLER", "")
    notebook = new_notebook(cells=[new_code_cell(text) for text in ("1", source, "2")])
    notebook.cells[2].outputs = [new_output("execute_result", {"text/plain": "PatchExplorer(...)"})]
    with pytest.raises(notebooks.BuildError, match=message) as raised:
        live_explorers.explorer_scripts(tmp_path / "01_title.py", notebook, tmp_path)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_site_with_a_notebook_that_fails(tmp_path, monkeypatch, capsys):
    def run(source, built, cells):
        raise notebooks.BuildError(f"cell {cells[0]}: ValueError: no more")

    site, cache = tmp_path / "site", tmp_path / "cache"
    build = partial(website.build, own_picture=False, source=tmp_path / "source", cache=cache)
    monkeypatch.setattr(live_explorers, "run", run)
    monkeypatch.setattr(website, "build", build)
    monkeypatch.setattr(notebooks, "warn_of_address", lambda: print("Note: the address"))
    monkeypatch.setattr("sys.argv", ["website.py", "00", "09", "--out", str(site)])
    website.main()
    notebook = nbformat.read(notebooks.NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    cell = live_explorers.explorer_cells(notebook)[0]
    assert capsys.readouterr().out.splitlines() == [
        "Note: the address",
        f"00_start_here keeps its still pictures, for its run failed: cell {cell}: ValueError: no more",
        f"Wrote {site / 'index.html'}",
        "Without live explorers, for their runs failed (see above): 00_start_here",
    ]
    assert not list(cache.iterdir())

    def pictures(page):
        return BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser").select(".course-figure")

    still = pictures("notebooks/00_start_here.html")
    assert len(still) > 1 and all(picture.img and "data-explorer" not in picture.attrs for picture in still)
    assert pictures("notebooks/09_fine_tuning.html")
    landing = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert landing.select("[data-explorer]")
