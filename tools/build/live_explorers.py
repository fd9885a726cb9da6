"""The explorers of a built notebook, as scripts that tools/site/_static/explorers.js shows in a page without a kernel.

A built notebook holds a picture of each explorer, not its numbers. `explorer_scripts` runs the notebook once more, up
to its last explorer, and writes down what each one holds; that is kept until the notebook or the package changes. A
run that fails leaves nothing behind, so the next build tries it again.
"""

import base64
import copy
import gzip
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import notebooks
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from vit_tutorial import widgets

PACKAGE = Path(widgets.__file__).parent.parent
EXPLORERS = tuple(name for name in widgets.__all__ if name.endswith(("Explorer", "Playground", "Stepper", "Monitor")))
STATE = "application/vnd.jupyter.widget-state+json"
# Pages are fetched: attention goes with 8 bits a weight, as that of large models does everywhere.
SMALLER = "import vit_tutorial.widgets\nvit_tutorial.widgets.attention.EXACT_BYTES = 0"
# ... and these float32 traits as float16, wrong by at most 0.05 %.
HALVED = [("stepper", "data"), ("stepper", "weights"), ("masks", "weights")]
OWN_SCRIPTS = ("_esm", "_css")  # the page has them once


def explorer_cells(notebook):
    """The numbers of the cells that show an explorer."""
    found = []
    for number, cell in enumerate(notebook.cells):
        said = [output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
        found += [number] if any(text.startswith(EXPLORERS) for text in said) else []
    return found


def halves(data):
    """float32 bytes as float16: all low bytes, then all high ones, which packs better."""
    return np.frombuffer(data, "<f4").astype("<f2").view("u1").reshape(-1, 2).T.tobytes()


def as_script(name, values):
    """The script that gives the page the traits `values` (a dict; bytes allowed) of the explorer `name`."""
    module = values["_anywidget_id"].split(".")[2]  # vit_tutorial.widgets.attention.AttentionExplorer
    traits = {}
    for trait, value in values.items():
        if isinstance(value, (bytes, memoryview)):
            halved = (module, trait) in HALVED
            data = halves(value) if halved else bytes(value)
            value = {"gzip": base64.b64encode(gzip.compress(data, 9, mtime=0)).decode(), "halved": halved}
        if trait not in OWN_SCRIPTS:
            traits[trait] = value
    return f"vitExplorers.take({json.dumps([name, module, traits])});\n"


def printed(cell):
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)


def run(source, built, cells):
    """The scripts `{number of the cell: text}` of the explorers in these cells of a notebook, which runs to the last.

    A cell that prints something else than in the `built` notebook (training on another machine) keeps its picture.
    Raises `BuildError` with the cell and the reason where the run fails, or a cell does not show its explorer.
    """
    notebook, begun = copy.deepcopy(built), [1]
    notebook.cells = [new_code_cell(SMALLER), *notebook.cells[: cells[-1] + 1]]
    environment = os.environ | {"PYTHONHASHSEED": "0", "VIT_TUTORIAL_HOME": os.devnull}
    client = NotebookClient(
        notebook,
        timeout=notebooks.CELL_SECONDS,
        resources={"metadata": {"path": str(notebooks.NOTEBOOKS)}},
        on_cell_start=lambda cell, cell_index: begun.append(cell_index),
    )
    try:
        client.execute(env=environment)
    except Exception as error:  # the cell's, the clock's, or that of a kernel which dies or never comes
        said = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else f"{error}"
        line = notebooks.ANSI.sub("", said).strip().split("\n")[0]
        raise notebooks.BuildError(f"cell {begun[-1] - 1}: {line:.200}") from None
    scripts = {}
    for number in cells:
        if printed(notebook.cells[number + 1]) != printed(built.cells[number]):
            continue
        data = [output.get("data", {}) for output in notebook.cells[number + 1].outputs]
        views = [d[notebooks.WIDGET_VIEW]["model_id"] for d in data if notebooks.WIDGET_VIEW in d]
        if len(views) != 1:
            raise notebooks.BuildError(f"cell {number}: expected one explorer, found {len(views)}")
        model = notebook.metadata.widgets[STATE]["state"][views[0]]
        buffers = {buffer["path"][0]: base64.b64decode(buffer["data"]) for buffer in model.get("buffers", [])}
        scripts[number] = as_script(f"{source.stem}-{number}", model["state"] | buffers)
    return scripts


def explorer_scripts(source, notebook, cache):
    """The scripts of `run` for all explorers of the built `notebook`, from the folder `cache` where nothing changed.

    Raises `BuildError` where `run` does.
    """
    cells = explorer_cells(notebook)
    if not cells:
        return {}
    digest = hashlib.sha256(f"{version('torch')} {cells} {SMALLER} {HALVED}".encode())
    for cell in notebook.cells[: cells[-1] + 1]:
        digest.update(cell.source.encode())
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("data/*.safetensors")]):
        digest.update(path.read_bytes())
    kept = cache / f"{source.stem}-{digest.hexdigest()[:16]}.json"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{source.stem}-*.json"):
            old.unlink()
        kept.write_text(json.dumps(run(source, notebook, cells)), encoding="utf-8")
    return {int(number): script for number, script in json.loads(kept.read_text(encoding="utf-8")).items()}
