"""The four front ends of the explorers in a real browser: JupyterLab, Notebook 7, classic Notebook 6.5, a static page.

How to run one drive (tests/drives/patches.py) in one of them, or in all:

    .venv/bin/python tools/build/install_front_ends.py  # once; `make test` does it
    .venv/bin/python -m pytest tests/test_explorers.py -k "lab and patches"
    .venv/bin/python -m pytest tests/test_explorers.py -k patches

A drive is one file: `CELL`, the source of a notebook cell that ends in the explorer `.vit-patches`; `expected()`, the
numbers that it must show, from torch; `drive(page, root, numbers)`, the same in every front end, without Python behind
the page; where needed, `drive_with_kernel(page, root, numbers)`. Helpers for drives: `pixels`, `read_table`.
With SCREENSHOTS=folder, the explorer is photographed there after its drive.
"""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import install_front_ends
import nbformat
import pytest
from conftest import PATIENCE
from nbformat.v4 import new_code_cell, new_notebook

from vit_tutorial import lab

FRONT_ENDS = ("lab", "notebook7", "classic", "page")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # with or without a network, no other host answers
]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
# Where continuous integration runs, a test that is skipped proves nothing. Its Windows has neither make nor front ends.
REQUIRED = os.environ.get("CI") == "true" and sys.platform != "win32"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


def skip(reason):
    """Skips the test, or fails it where it is required."""
    (pytest.fail if REQUIRED else pytest.skip)(reason)


# ------------------------------------------------------------------------------------------ the browser


@functools.cache
def chromium():
    """The path of the system's Chromium or Chrome, else of Playwright's own, else None."""
    from playwright.sync_api import sync_playwright

    for path in (*map(shutil.which, CHROMIUMS), MAC_CHROME):
        if path and os.access(path, os.X_OK):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.access(path, os.X_OK) else None


@contextlib.contextmanager
def browser():
    """A headless Chromium that reaches this machine alone."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)

    path = chromium()
    if not path:
        skip("needs Chromium or Chrome: the system's, or Playwright's own (python -m playwright install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS, timeout=1000 * PATIENCE)
        try:
            yield running
        finally:
            running.close()


def watched_page(running, **options):
    """A new page of the browser. `page.faults` lists what went wrong in it so far, in words."""
    page = running.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
    page.set_default_timeout(1000 * PATIENCE)
    page.faults = []

    def host_seen(url):
        host = re.match(r"(?:https?|wss?)://([^/:]*)", url)
        if host and host[1] not in ("127.0.0.1", "localhost"):
            page.faults.append(f"request to another host: {url}")

    page.on("request", lambda request: host_seen(request.url))
    page.on("websocket", lambda socket: host_seen(socket.url))
    page.on("pageerror", lambda error: page.faults.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: message.type == "error" and page.faults.append(f"console error: {message.text[:500]}"),
    )
    page.on(
        "response",
        lambda response: response.status >= 400 and page.faults.append(f"response {response.status}: {response.url}"),
    )
    page.on(
        "requestfailed",
        # A request that the page itself gave up is no fault: a front end reloading, a picture replaced.
        lambda request: (
            "ERR_ABORTED" in (request.failure or "")
            or page.faults.append(f"request failed: {request.url} ({request.failure})")
        ),
    )
    return page


def check_clean(page):
    """Asserts that nothing went wrong in the page since the last time, and that it asked no other host."""
    page.evaluate("() => new Promise((done) => setTimeout(done))")  # what was under way has been reported
    faults, page.faults[:] = list(dict.fromkeys(page.faults)), []
    assert not faults, "\n".join(faults)


# ------------------------------------------------------------------------------------------ looking at a page


def pixels(canvas):
    """A hash of what a canvas (a Locator) shows."""
    return canvas.evaluate(
        """(canvas) => {
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let hash = 17;
          for (let i = 0; i < data.length; i++) hash = (Math.imul(hash, 31) + data[i]) >>> 0;
          return hash;
        }"""
    )


def is_blank(canvas):
    """Whether all pixels of a canvas (a Locator) are the same."""
    return canvas.evaluate(
        """(canvas) => {
          if (!canvas.width || !canvas.height) return true;
          const {buffer} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return new Uint32Array(buffer).every((pixel, i, all) => pixel === all[0]);
        }"""
    )


# Of a canvas: the keys that mean something to the browser, with Ctrl, Cmd or Alt, and that it keeps for itself.
SWALLOWED = """(canvas) => {
  const keys = ["+", "-", "=", " ", "Enter", "Escape", "Home", "End", "PageUp", "PageDown"];
  keys.push("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight");
  const pressed = (key, modifier) =>
    new KeyboardEvent("keydown", { key, [modifier]: true, bubbles: true, cancelable: true });
  return ["ctrlKey", "metaKey", "altKey"].flatMap((modifier) =>
    keys.filter((key) => !canvas.dispatchEvent(pressed(key, modifier))).map((key) => `${modifier} ${key}`));
}"""


def read_table(table):
    """The texts of a <table> (a Locator of it or of what holds it): a list of rows, heads included."""
    return table.evaluate(
        """(node) => {
          const table = node.matches("table") ? node : node.querySelector("table");
          return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
        }"""
    )


def axe(page, root):
    """Asserts that axe-core finds no serious or critical violation inside `root` (a Locator)."""
    if not page.evaluate("() => typeof window.axe === 'object'"):
        page.evaluate((scripts() / "axe.min.js").read_text(encoding="utf-8") + "; undefined")
    found = root.evaluate("async (node) => (await axe.run(node, {resultTypes: ['violations']})).violations")
    serious = [
        f"{violation['id']} ({violation['impact']}): {violation['help']}\n"
        + "\n".join(f"  {node['html'][:200]}\n    {node['failureSummary']}" for node in violation["nodes"])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert not serious, "axe-core:\n" + "\n".join(serious)


# ------------------------------------------------------------------------------------------ the servers


def own_folders(folder):
    """Environment variables that keep Jupyter's configuration, data and runtime files inside `folder`."""
    names = {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"}
    for name in names:
        (folder / ".jupyter" / name).mkdir(parents=True, exist_ok=True)
    return {name: str(folder / ".jupyter" / name) for name in names}


@contextlib.contextmanager
def jupyter(command, folder):
    """The address, token included, that the Jupyter server started by `command` in `folder` prints."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | own_folders(folder) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = threading.Timer(PATIENCE, process.kill)
    killer.start()
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if match := re.search(r"http://127\.0\.0\.1:\S+token=\w+", line):
                break
        else:
            pytest.fail("the server printed no address:\n" + "".join(said))
        threading.Thread(target=process.stdout.read, daemon=True).start()  # so that it never waits for a reader
        while process.poll() is None and not listens(urlsplit(match[0]).port):  # it prints its address first
            time.sleep(0.1)
        killer.cancel()
        yield match[0]
    finally:
        killer.cancel()
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def jupyterlab(course):
    """The server of `vit-tutorial lab` for a course in a folder of its own."""
    code = (
        "import pathlib, sys; from vit_tutorial import cli, lab\n"
        f"lab.ROOT = pathlib.Path({str(course)!r})\n"
        f"sys.exit(cli.main(['lab', '--no-browser', '--port={free_port()}']))"
    )
    return jupyter([sys.executable, "-c", code], course)


def notebook_server(python, folder):
    """The server of the Notebook that the environment of `python` holds."""
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return jupyter([str(python), "-m", "notebook", "--no-browser", f"--port={free_port()}", *root], folder)


def listens(port):
    """Whether a server on this machine takes connections."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def static_server(folder):
    """The address of a server of the files in `folder`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def scripts():
    """The folder of what comes from npm."""
    if not (install_front_ends.FOLDER / "scripts-installed").is_file():
        skip("needs npm's scripts: python tools/build/install_front_ends.py")
    return install_front_ends.SCRIPTS


# ------------------------------------------------------------------------------------------ notebooks in front ends

# Faults of a front end's own, seen in an empty notebook as well.
OWN_FAULTS = {
    "notebook7": [
        f"page error: Cannot read properties of undefined (reading '{name}')" for name in ("schema", "last_modified")
    ]
}


class Opened:
    """A notebook that has run in `front_end`: its `page`, `errors` (a text or None a code cell), `reveal(cell)`."""

    def __init__(self, front_end, page, errors, reveal):
        self.front_end, self.page, self.errors, self.reveal = front_end, page, errors, reveal


# JupyterLab and Notebook 7 show their application to the page when their settings say so; it tells when all is done.
EXPOSE = {name: {"expose_app_in_browser": True} for name in ("LabApp", "JupyterNotebookApp")}
LAB_SHOWN = "jupyterapp.shell.currentWidget.content"
LAB_CELLS = f"{LAB_SHOWN}.widgets.filter((cell) => cell.model.type === 'code')"
LAB_READY = """() => window.jupyterapp?.shell.currentWidget?.context?.isReady
  && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === "idle" """
# Cells know their state since JupyterLab 4.3, the kernel always has.
LAB_STATE = f"""() => {LAB_CELLS}.map((cell) => ({{
  done: cell.model.executionCount !== null && "idle"
    === (cell.model.executionState ?? jupyterapp.shell.currentWidget.sessionContext.session.kernel.status),
  error: cell.model.outputs.toJSON().find((output) => output.output_type === "error")?.traceback.join("\\n") ?? null,
}}))"""
CLASSIC_CELLS = "Jupyter.notebook.get_cells().filter((cell) => cell.cell_type === 'code')"
CLASSIC_READY = """() => window.Jupyter?.notebook?._fully_loaded && Jupyter.notebook.kernel?.is_connected()
  && "jupyter.widget" in Jupyter.notebook.kernel.comm_manager.targets"""
# The widget manager asks the kernel for its widgets, then draws all outputs anew: what ran before that is lost. A
# second question, answered after the first, tells when.
CLASSIC_RUN = f"""async () => {{
  await Jupyter.notebook.kernel.widget_manager._loadFromKernel();
  await new Promise((done) => setTimeout(done));
  {CLASSIC_CELLS}.forEach((cell) => cell.execute(false));
}}"""
CLASSIC_STATE = f"""() => {CLASSIC_CELLS}.map((cell) => ({{
  done: typeof cell.input_prompt_number === "number",
  error: cell.output_area.outputs.find((output) => output.output_type === "error")?.traceback.join("\\n") ?? null,
}}))"""


def plain(traceback):
    """A traceback without its colours; None stays None."""
    return traceback and re.sub(r"\x1b\[[0-9;]*m", "", traceback)


def run_all(page, run, state):
    """Runs all cells and returns the error of each, or None; stops at the first where the front end does."""
    page.evaluate(run)
    ended = f"({state})().every((cell) => cell.done) || ({state})().some((cell) => cell.error)"
    count = len(page.evaluate(state))
    page.wait_for_function(f"() => {ended}", timeout=1000 * PATIENCE * count, polling=250)
    return [plain(cell["error"]) for cell in page.evaluate(state)]


@contextlib.contextmanager
def open_notebook(front_end, notebook, folder, **options):
    """`notebook` (a nbformat node), run in a front end: yields an `Opened`. `folder` takes all files.

    `options` go to the new page.
    """
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    file = folder / lab.FIRST_NOTEBOOK
    file.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, file)
    config = Path(own_folders(folder)["JUPYTER_CONFIG_DIR"])
    (config / "jupyter_server_config.json").write_text(json.dumps(EXPOSE), encoding="utf-8")

    with contextlib.ExitStack() as stack:
        if front_end == "page":
            errors = static_page(file, folder)
            address = stack.enter_context(static_server(folder))
        elif front_end == "lab":
            address = stack.enter_context(jupyterlab(folder))
        elif front_end == "notebook7":
            address = stack.enter_context(notebook_server(sys.executable, folder))
        else:
            if not (install_front_ends.FOLDER / "classic-installed").is_file():
                skip("needs Notebook 6.5 in an environment of its own: python tools/build/install_front_ends.py")
            address = stack.enter_context(notebook_server(install_front_ends.CLASSIC, folder))

        page = watched_page(stack.enter_context(browser()), **options)
        if front_end in ("notebook7", "classic"):
            address = re.sub(r"/[^/]*\?", f"/notebooks/{lab.FIRST_NOTEBOOK}?", address)
        page.goto(address)
        if front_end == "page":
            page.wait_for_function("() => document.readyState === 'complete'")
            reveal = "(cell) => document.getElementById('cell-' + cell).scrollIntoView()"
        elif front_end == "classic":
            page.wait_for_function(CLASSIC_READY)
            errors = run_all(page, CLASSIC_RUN, CLASSIC_STATE)
            reveal = f"(cell) => {CLASSIC_CELLS}[cell].element[0].scrollIntoView()"
        else:
            page.wait_for_function(LAB_READY)
            run = "() => void jupyterapp.commands.execute('notebook:run-all-cells')"
            errors = run_all(page, run, LAB_STATE)
            reveal = f"(cell) => {LAB_SHOWN}.scrollToItem({LAB_SHOWN}.widgets.indexOf({LAB_CELLS}[cell]))"
        page.faults[:] = [fault for fault in page.faults if fault not in OWN_FAULTS.get(front_end, [])]
        yield Opened(front_end, page, errors, lambda cell: page.evaluate(reveal, cell))


def static_page(file, folder):
    """Runs a notebook without a front end and writes `index.html`: its widgets, their state and what draws them.

    Returns the error of each code cell, or None.
    """
    import anywidget
    from ipywidgets.embed import escape_script

    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--allow-errors", "--inplace"]
    done = subprocess.run([*command, str(file)], env=os.environ | own_folders(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(file, as_version=4)
    for script in ("require.js", "embed-amd.js"):
        shutil.copy(scripts() / script, folder)
    shutil.copy(Path(anywidget.__file__).parent / "nbextension" / "index.js", folder / "anywidget.js")

    def json_script(kind, data):
        return f'<script type="application/vnd.jupyter.widget-{kind}+json">{escape_script(json.dumps(data))}</script>'

    errors, body = [], []
    for i, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        errors.append(None)
        body.append(f'<section id="cell-{i}">')
        for output in cell.outputs:
            if output.output_type == "error":
                errors[-1] = plain("\n".join(output.traceback))
            view = output.get("data", {}).get("application/vnd.jupyter.widget-view+json")
            if view:
                body.append(json_script("view", view))
        body.append("</section>")
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Explorers</title><link rel="icon" href="data:,">
<script src="require.js"></script><script>require.config({{paths: {{anywidget: "anywidget"}}}})</script>
{json_script("state", states)}<script src="embed-amd.js"></script></head>
<body>{"".join(body)}</body></html>"""
    (folder / "index.html").write_text(text, encoding="utf-8")
    return errors


def notebook_of(cells):
    """A notebook of code cells, each of which runs whether the ones before it failed or not, and one more at its end.

    So every explorer has a cell below it, to which the front end would move at an arrow key that it takes for its own.
    """
    nodes = [new_code_cell(cell, metadata={"tags": ["raises-exception"]}) for cell in [*cells, "None"]]
    return new_notebook(cells=nodes, metadata=KERNEL)


def go_dark(opened):
    """JupyterLab's dark theme, or the dark palette of a static page."""
    page = opened.page
    if opened.front_end == "page":
        page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
        return
    page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    page.locator("#jupyterlab-splash").wait_for(state="detached")  # it covers the page while the theme is loaded


@contextlib.contextmanager
def narrow(opened, width):
    """A window of this many CSS pixels' width, for a while."""
    page, size = opened.page, opened.page.viewport_size
    if opened.front_end == "lab":
        page.evaluate("() => jupyterapp.shell.collapseLeft()")
    page.set_viewport_size(size | {"width": width})
    try:
        yield
    finally:
        page.set_viewport_size(size)
        if opened.front_end == "lab":
            page.evaluate("() => jupyterapp.shell.expandLeft()")
