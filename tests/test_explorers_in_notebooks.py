"""The notebooks as readers open them: a copy in a real JupyterLab, run to its last explorer; each draws itself."""

import re
import shutil
from collections import Counter
from pathlib import Path

import nbformat
import pytest

pytest.register_assert_rewrite("front_ends")

from front_ends import check_clean, is_blank, open_notebook  # noqa: E402

from vit_tutorial import widgets  # noqa: E402
from vit_tutorial.widgets.explorer import Explorer  # noqa: E402

FOLDER = Path(__file__).parent.parent / "notebooks"
public = [getattr(widgets, name) for name in widgets.__all__]
CLASSES = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Explorer)]
# 06 trains for more than a minute to its one explorer, which test_monitor_stops.py drives in three front ends.
# The other notebooks take five minutes more and are marked slow; test_explorers.py drives every explorer in any case.
ALWAYS = ("00",)
NOTEBOOKS = [
    pytest.param(path, id=path.stem, marks=[] if path.name.startswith(ALWAYS) else pytest.mark.slow)
    for path in sorted(FOLDER.glob("*.ipynb"))
    if path.stem != "06_training"
    and re.search(rf"\b({'|'.join(kind.__name__ for kind in CLASSES)})\(", path.read_text(encoding="utf-8"))
]


def shown(cell):
    """The kinds of the explorers among a committed cell's outputs."""
    texts = [output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return [kind for kind in CLASSES for text in texts if text.startswith(f"{kind.__name__}(")]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs_and_its_explorers_draw(path, tmp_path):
    from playwright.sync_api import expect

    notebook = nbformat.read(path, as_version=4)
    last = max(number for number, cell in enumerate(notebook.cells) if shown(cell))
    notebook.cells = notebook.cells[: last + 1]  # what comes after it runs under nbval
    counts = Counter(kind for cell in notebook.cells for kind in shown(cell))
    shutil.copytree(FOLDER / "images", tmp_path / "notebooks" / "images")
    with open_notebook("lab", notebook, tmp_path) as opened:
        page = opened.page
        for number, error in enumerate(opened.errors, 1):
            assert not error, f"code cell {number}: {error}"
        for kind in CLASSES:
            explorers = page.locator(f".vit-explorer.vit-{kind.__module__.rpartition('.')[2]}")
            expect(explorers).to_have_count(counts[kind])
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        places = [number for number, cell in enumerate(code) for _ in shown(cell)]
        for number, root in zip(places, page.locator(".vit-explorer").all(), strict=True):
            opened.reveal(number)
            expect(root.locator("canvas:visible, li img:visible").first).to_be_visible()
            for canvas in root.locator("canvas:visible").all():
                assert not is_blank(canvas), f"an empty canvas: {canvas.get_attribute('aria-label')}"
        assert not re.search("Error (displaying|creating) widget|Javascript error", page.locator("body").inner_text())
        check_clean(page)
