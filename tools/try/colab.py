"""Run every notebook on an emulated Colab: its versions, a stand-in `google.colab`, and nothing but the .ipynb file.

    python tools/try/colab.py              all notebooks
    python tools/try/colab.py 03 05        those whose names start so

Python 3.13, which Colab has, where `python3.13` runs or `--python` names one; else this Python. The setup cell is the
one that notebooks have once the address is set; git takes a copy of this checkout for it. It must take less than 60 s
and leave every package as it is. Then the notebooks pass nbval, where the cell must say nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from environments import environment, executable, find_python
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

sys.path.append(str(Path(__file__).resolve().parents[1] / "build"))

from install_front_ends import layer

import notebooks

# Seen on Colab in August 2026, as far as the course meets it. Left out, so that the setup cell has something to do:
# safetensors and scikit-image, which Colab has too.
VERSIONS = [
    "torch==2.11.0",
    "torchvision==0.26.0",
    "numpy==2.1.3",
    "ipywidgets==7.7.1",
    "anywidget==0.9.21",
    "ipython==7.34.0",
    "ipykernel==6.17.1",
    "jupyter-client==7.4.9",
    "traitlets==5.7.1",
    "notebook==6.5.7",
    "matplotlib==3.10.0",
    "pillow==11.3.0",
    "tqdm==4.67.1",
]
BUILDS = ["setuptools>=77"]  # with what pip builds the course: Python 3.11 brings an older one, seen through the layers
MOST_SECONDS = 60  # of the setup cell
STAND_IN = {
    "google/colab/__init__.py": "from . import output\n",
    "google/colab/output.py": "def enable_custom_widget_manager():\n    pass\n",
}
ASK = "import vit_tutorial; print(vit_tutorial.__file__)"
GIT = ["git", "-c", "user.name=the course", "-c", "user.email=course@localhost"]


def fresh_colab(base, folder):
    """A new environment in `folder` that sees all packages of the Python `base` behind its own; returns its Python.

    What pip brings lands in the new one, so a package that pip replaces is found there.
    """
    (behind,) = base.parent.parent.rglob("site-packages")
    packages = layer(folder, behind, base)
    for name, text in STAND_IN.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text, encoding="utf-8")
    return executable(folder)


def versions(python):
    """{package: version}, as pip sees them."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
    return {package["name"]: package["version"] for package in json.loads(listed)}


def serve(folder):
    """A git repository in `folder` with this checkout as it is now, which git takes for the project's own address.

    Returns its commit.
    """
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=notebooks.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        if (notebooks.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(notebooks.ROOT / name, folder / name)
    subprocess.run([*GIT, "init", "--quiet"], cwd=folder, check=True)
    subprocess.run([*GIT, "add", "--all"], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", "The course"], cwd=folder, check=True)
    asked = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    os.environ["GIT_CONFIG_COUNT"] = "1"
    os.environ["GIT_CONFIG_KEY_0"] = f"url.{folder.as_uri()}.insteadOf"
    os.environ["GIT_CONFIG_VALUE_0"] = notebooks.repository()
    return asked.stdout.strip()


def set_up(path, python, commit):
    """Run the first code cell of the notebook, which installs this commit, in a kernel of its own, in its folder.

    Returns where the same kernel then finds the course. Raises ValueError where the cell took too long or replaced a
    package.
    """
    cells = nbformat.read(path, as_version=4).cells
    setup = next(cell for cell in cells if cell.cell_type == "code")
    setup.source = notebooks.setup_source(commit)
    notebook = nbformat.v4.new_notebook(cells=[setup, new_code_cell(ASK)])
    client = NotebookClient(notebook, timeout=300, kernel_name="colab", resources={"metadata": {"path": path.parent}})
    before = versions(python)
    with client.setup_kernel():
        started = time.perf_counter()
        client.execute_cell(notebook.cells[0], 0)
        seconds = time.perf_counter() - started
        said = "".join(output.get("text", "") for output in notebook.cells[0].outputs).strip()
        print(f"{path.name}: setup cell {seconds:.1f} s; said: {said or 'nothing'}", flush=True)
        client.execute_cell(notebook.cells[1], 1)
    after = versions(python)
    if replaced := {name: after.get(name) for name in before if after.get(name) != before[name]}:
        raise ValueError(f"expected every version as it was, found {replaced} in place of {before}")
    if seconds > MOST_SECONDS:
        raise ValueError(f"expected the setup cell to end within {MOST_SECONDS} s, found {seconds:.0f} s")
    came = ", ".join(f"{name} {after[name]}" for name in sorted(after.keys() - before.keys()))
    print(
        f"{'':{len(path.name)}}  came: {came or 'nothing'}; the other {len(before)} packages are as they were",
        flush=True,
    )
    return Path(notebook.cells[1].outputs[0].text.strip())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--python", default=find_python("3.13") or sys.executable, help="the Python of the emulation")
    options = parser.parse_args(arguments)
    sources = notebooks.find_sources(options.prefixes)
    base = environment("colab", VERSIONS + BUILDS, options.python)
    os.environ.pop("PYTHONPATH", None)  # the kernels must find nothing of this checkout
    os.environ["VIT_TUTORIAL_HOME"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        commit = serve(folder / "course")
        kernel = folder / "jupyter" / "kernels" / "colab" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        os.environ["JUPYTER_PATH"] = str(folder / "jupyter")

        def colab(name):
            python = fresh_colab(base, folder / name)
            argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            kernel.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}), "utf-8")
            return python

        python = colab("beside")
        found = set_up(folder / "course" / "notebooks" / notebooks.target(sources[0]).name, python, commit)
        if not found.is_relative_to(folder / "course"):
            raise ValueError(f"expected the checkout beside the notebook to be installed, found {found}")

        python = colab("bare")
        alone = folder / "content"
        alone.mkdir()
        for source in sources:
            shutil.copy(notebooks.target(source), alone)
        found = set_up(alone / notebooks.target(sources[0]).name, python, commit)
        if not found.is_relative_to(folder / "bare"):
            raise ValueError(f"expected the course among the packages, found {found}")
        nbval = ["--nbval", "--nbval-kernel-name", "colab", "--nbval-cell-timeout", "1200", "-p", "no:cacheprovider"]
        return subprocess.run([sys.executable, "-m", "pytest", *nbval, str(alone)], cwd=alone).returncode


if __name__ == "__main__":
    sys.exit(main())
