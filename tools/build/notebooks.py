"""Build notebooks/NN_name.ipynb from notebooks/source/NN_name.py (py:percent text), or check that the two agree.

    python tools/build/notebooks.py            build all
    python tools/build/notebooks.py 03 05      build those whose names start so
    python tools/build/notebooks.py --check    no kernel: does every notebook agree with its source?

A built notebook depends on its source alone: cell ids are hashes of the cells, timings and widget state are left out,
and the old file stays where it is until the new one is complete. A notebook that needs more than 1.5 GB of memory, what
a free hosted session has, is not written.

In markdown, `{=expression:format}` becomes the value that the expression has in the kernel at that place, `{minutes}`
the time that a reader needs (tools/minutes.py), and `{colab}` the notebook's address on Colab. After the title comes a
cell that installs the course where it is missing, folded where the front end can fold it. Addresses are made from the
Repository in pyproject.toml; nothing leads or installs there before a commit is set beside it. The picture in README.md
is the first figure of 00, written when that is built.
"""

import argparse
import base64
import hashlib
import os
import re
import sys
import threading
import time
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import jupytext
import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import minutes  # noqa: E402

NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_SECONDS = 1200  # a cell takes seconds; this ends one that hangs, on a slow or busy machine too
MOST_MEMORY = 1500  # MB, of the kernel and all processes that it starts
README_PICTURES = {"00_start_here": "trained_vit_at_work.png"}  # {notebook: what its first figure is called there}
MORE_MEMORY = {"11_making_it_fast": 2500}  # one cell starts torchrun and two processes, where that much is to be had
# The first code cell of every notebook, folded: its first line is what Colab (a form's title) and JupyterLab still show.
# `site.main` makes a Python that is running see what was installed meanwhile.
SETUP = """\
# @title On Colab, run this first (about 20 seconds). Where the course is installed, it does nothing.
try:
    import vit_tutorial
except ModuleNotFoundError:
    import os, site
    if os.path.isdir("../vit_tutorial"):
        %pip install -q -e ..
    else:
        {elsewhere}
    site.main()  # this Python looks again at what is installed"""
NO_ADDRESS = "the course has no address yet: python tools/build/fork.py OWNER/REPO"
VALUE = re.compile(r"\{=([^{}]+):([^:{}]*)\}")  # in the text: a value that the build writes
FOLDED = {"jupyter": {"source_hidden": True}}  # in JupyterLab and Notebook 7
FOLDED_ON_COLAB = {"cellView": "form"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What would differ on the next machine, and so must not be committed.
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+|\b0x[0-9a-fA-F]{8,}")
MACHINE_PATH = re.compile(r"(?:/(?:home|Users|root|tmp|private/var)/|\b[A-Z]:\\Users\\)[\w.\-]*")


class BuildError(Exception):
    """The notebook was not written; the message says which cell is at fault."""


def target(source: Path) -> Path:
    """notebooks/source/NN_name.py -> notebooks/NN_name.ipynb."""
    return NOTEBOOKS / f"{source.stem}.ipynb"


def find_sources(prefixes: list[str]) -> list[Path]:
    """The sources whose names start with one of the prefixes (all without a prefix), sorted."""
    found = sorted(path for path in SOURCES.glob("*.py") if path.name.startswith(tuple(prefixes) or ""))
    if not found:
        wanted = f" that starts with {' or '.join(prefixes)}" if prefixes else ""
        raise BuildError(f"expected a source in notebooks/source/{wanted}, found none")
    return found


def project() -> dict:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def repository() -> str:
    """The project's address."""
    return project()["project"]["urls"]["Repository"].removesuffix("/")


def setup_source(commit: str) -> str:
    """The first code cell. Without a commit it installs nothing from the project's address, and says why."""
    pinned = f"%pip install -q git+{repository()}@{commit}"
    return SETUP.replace("{elsewhere}", pinned if commit else f'raise ModuleNotFoundError("{NO_ADDRESS}") from None')


def warn_of_address() -> None:
    """Print a sentence where the project's address is not the checkout's own."""
    from vit_tutorial.doctor import NOTE, address  # here, for the package loads torch, which --check has no use for

    found = address(ROOT)
    if found.state == NOTE:
        print(f"Note: {found.found}; {found.advice}", flush=True)


def on_colab(address: str) -> str:
    """Where Colab looks for a repository on GitHub."""
    return address.replace("//github.com/", "//colab.research.google.com/github/")


def colab_address(source: Path) -> str:
    """Where Colab opens the notebook; before the project's address is the checkout's own, what to do for that."""
    if not project()["tool"]["vit-tutorial"]["commit"]:
        return "../README.md#in-a-class"
    return f"{on_colab(repository())}/blob/main/notebooks/{target(source).name}"


def read_source(source: Path) -> nbformat.NotebookNode:
    """The notebook without outputs, as its text says."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(KERNEL_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    commit = project()["tool"]["vit-tutorial"]["commit"]
    setup = new_code_cell(setup_source(commit), metadata={"tags": ["setup"]})
    notebook.cells.insert(1, setup)
    time_needed = minutes.stated(notebook.cells)
    copies: Counter[str] = Counter()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("{colab}", colab_address(source)).replace("{minutes}", time_needed)
        digest = hashlib.sha1(cell.source.encode()).hexdigest()[:8]
        copies[digest] += 1
        cell.id = digest if copies[digest] == 1 else f"{digest}-{copies[digest]}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code" and {"setup", "solution"} & set(tags):
            cell.metadata.update(nbformat.from_dict(FOLDED | (FOLDED_ON_COLAB if "setup" in tags else {})))
    return notebook


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Leave out, in place, what differs from run to run or cannot be shown without a kernel."""
    notebook.metadata = nbformat.from_dict(KERNEL_METADATA)  # drops the widget state and the Python version
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def output_text(output: nbformat.NotebookNode) -> str:
    """All that a reader sees of an output as text; pictures that are embedded in HTML are left out."""
    data = output.get("data", {})
    texts = [output.get("text", ""), *(value for kind, value in data.items() if kind.startswith("text/"))]
    return re.sub(r"data:[\w/+;-]+,[\w+/=%]*", "", "\n".join(texts))


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not be committed in an executed notebook, one line each, with the number of the cell (from 0)."""
    found = []
    code = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for expected, (number, cell) in enumerate(code, start=1):
        if cell.execution_count != expected:
            found.append(f"cell {number}: expected execution count {expected}, found {cell.execution_count}")
        for output in cell.outputs:
            text = output_text(output)
            if output.output_type == "error":
                found.append(f"cell {number}: raised {output.ename}: {ANSI.sub('', output.evalue)}")
            if output.get("name") == "stderr":
                found.append(f"cell {number}: wrote to stderr: {text.strip()[:200]!r}")
            for what, match in (
                ("an object address", ADDRESS.search(text)),
                ("a path of this machine", MACHINE_PATH.search(text)),
                ("the place of the checkout", re.search(re.escape(str(ROOT)), text)),
            ):
                if match:
                    found.append(f"cell {number}: its output shows {what}: {match[0]}")
    return found


def with_values(text: str) -> str:
    """A pattern for the text in which values have been written."""
    places = iter(VALUE.split(text)[::3])
    return "[^{}]+?".join(map(re.escape, places))


def differences(expected: nbformat.NotebookNode, found: nbformat.NotebookNode) -> list[str]:
    """Where a built notebook says something else than its source; outputs are not compared."""
    if expected.metadata != found.metadata:
        return ["the notebook's metadata differ from what the build writes"]
    if len(expected.cells) != len(found.cells):
        return [f"expected {len(expected.cells)} cells, found {len(found.cells)}"]
    for number, (ours, theirs) in enumerate(zip(expected.cells, found.cells, strict=True)):
        for part in ("cell_type", "source", "id", "metadata"):
            built = part == "source" and re.fullmatch(with_values(ours.source), theirs.source)
            if not built and ours[part] != theirs.get(part):
                return [f"cell {number}: the {part} differs; the source has {str(ours.source)[:80]!r}"]
    return []


def check(source: Path) -> list[str]:
    """Why the notebook of this source must be built again; empty where it need not. Reads no file times."""
    path = target(source)
    if not path.exists():
        return ["it was never built"]
    found = nbformat.read(path, as_version=4)
    return differences(read_source(source), found) + faults(found)


def explain_failure(notebook: nbformat.NotebookNode, error: Exception) -> str:
    """Which cell failed, its source and the traceback."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                traceback = ANSI.sub("", "\n".join(output.traceback))
                return f"cell {number} failed:\n\n{cell.source}\n\n{traceback}"
    return f"{type(error).__name__}: {error}"


class Client(NotebookClient):
    """Executes code cells, and writes the kernel's values into the text cells between them."""

    async def async_execute_cell(self, cell, cell_index, **options):
        places = VALUE.findall(cell.source) if cell.cell_type == "markdown" else ()
        if not places:
            return await super().async_execute_cell(cell, cell_index, **options)
        values = ", ".join(f"format({expression}, {form!r})" for expression, form in places)
        asking = new_code_cell(f"print(*[{values}], sep='\\n')")
        try:
            await super().async_execute_cell(asking, cell_index, store_history=False)
        finally:
            self.nb.cells[cell_index] = cell
            self.code_cells_executed -= 1
        values = iter(asking.outputs[0].text.splitlines())
        cell.source = VALUE.sub(lambda match: next(values), cell.source)
        return cell


class Memory(threading.Thread):
    """Watches the processes that this one starts: `peak` is the most memory, in MB, that they held together.

    Counted as they share it (PSS) every 0.2 s where the system says so (Linux), so a short peak counts only by
    what the largest of them held, which the system remembers. 0 on Windows, which remembers nothing.
    """

    def __enter__(self):
        self.sampled, self.done = 0, threading.Event()
        self.start()
        return self

    def run(self):
        while not self.done.wait(0.2):
            held = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, AttributeError):  # it has ended, or the system does not count so
                    held += process.memory_full_info().pss
            self.sampled = max(self.sampled, held)

    def __exit__(self, *error):
        self.done.set()
        self.join()

    @property
    def peak(self):
        try:
            import resource
        except ImportError:  # Windows
            return 0
        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
        return max(self.sampled, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit) / 1e6


def build(source: Path) -> str:
    """Execute the source in the folder notebooks/ and write the result; returns a line with its costs."""
    started = time.perf_counter()
    notebook = read_source(source)
    client = Client(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    try:
        with Memory() as memory:
            client.execute()
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:  # the last where a kernel dies or never comes
        raise BuildError(explain_failure(notebook, error)) from None
    normalise(notebook)
    found = faults(notebook)
    if memory.peak > (most := MORE_MEMORY.get(source.stem, MOST_MEMORY)):
        found.append(f"expected at most {most} MB of memory, found {memory.peak:.0f} MB")
    if found:
        raise BuildError("\n".join(found))
    write(notebook, target(source))
    if name := README_PICTURES.get(source.stem):
        (NOTEBOOKS / "images" / name).write_bytes(first_figure(notebook))
    size = target(source).stat().st_size / 1000
    return f"{time.perf_counter() - started:6.1f} s {memory.peak:6.0f} MB {size:7.1f} kB"


def first_figure(notebook: nbformat.NotebookNode) -> bytes:
    """The PNG of the first figure in the notebook."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    pictures = (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(next(pictures))


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook, whole or not at all."""
    from vit_tutorial.files import atomic_path  # here, for it loads torch, which --check has no use for

    nbformat.validate(notebook)
    with atomic_path(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--check", action="store_true", help="compare only; run nothing")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="notebooks built at a time (default 1)")
    options = parser.parse_args(arguments)
    try:
        sources = find_sources(options.prefixes)
    except BuildError as error:
        print(error)
        return 1

    failed = 0
    if options.check:
        for source in sources:
            found = check(source)
            print(f"{'ok   ' if not found else 'STALE'} {target(source).name}", *found, sep="\n      ")
            failed += bool(found)
        return min(failed, 1)

    warn_of_address()
    os.environ["PYTHONHASHSEED"] = "0"  # for the kernels: the order of a set is the same in each build
    os.environ["VIT_TUTORIAL_HOME"] = os.devnull  # nobody's progress is in the picture
    # A fresh process for each notebook, so that the memory of its children is this notebook's.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [(source, pool.submit(build, source)) for source in sources]
        for source, run in runs:
            try:
                print(f"built  {target(source).name:32} {run.result()}", flush=True)
            except BuildError as error:
                print(f"FAILED {target(source).name}: the notebook stays as it was\n{error}\n", flush=True)
                failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
