#!/usr/bin/env python3
"""What the browser tests need beside the course's own environment, installed into `.venv/front-ends` by `make test`.

* `classic`: Notebook 6.5 with the ipywidgets and anywidget that Colab ships. It is an environment of its own that sees
  the course's environment behind its own packages, so torch is not installed twice (5 s, 61 MB).
* `scripts`: what a page without a kernel loads, and axe-core, which judges accessibility (from npm; 3 s, 2 MB).
* `runtime`: ONNX Runtime for browsers, which runs the model in the site's page for own pictures (from npm; 14 MB).

Where that fails (no npm, no network), one sentence says so and the tests that need it are skipped. With CI=true, they
and this program fail.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(sys.prefix) / "front-ends"
CLASSIC = FOLDER / "classic" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
SCRIPTS = FOLDER / "scripts"
RUNTIME = FOLDER / "runtime"

# All that differs from the course's own environment: complete, so pip has nothing to choose.
CLASSIC_PACKAGES = [
    "notebook==6.5.7",
    "ipywidgets==7.7.1",
    "anywidget==0.9.21",
    "widgetsnbextension==3.6.10",
    "nbclassic==1.3.3",
    "ipykernel==6.29.5",
    "jupyter_client==7.4.9",
    "entrypoints==0.4.2",
    "ipython-genutils==0.2.0",
    "nest-asyncio==1.6.0",
]
# npm package: the files of it that are kept.
SCRIPT_FILES = {
    "requirejs@2.3.8": ["require.js"],
    "@jupyter-widgets/html-manager@1.0.15": ["dist/embed-amd.js"],
    "axe-core@4.14.1": ["axe.min.js"],
}
RUNTIME_FILES = {"onnxruntime-web@1.30.0": ["dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"]}


def run(*command, **options):
    """Runs `command`; raises OSError with the last line that it said if it fails."""
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if process.returncode:
        said = process.stdout.strip().splitlines() or [f"{command[0]} ended with status {process.returncode}"]
        raise OSError(said[-1])


def layer(folder, behind, python=sys.executable):
    """Makes an environment in `folder` whose own packages come before those in the folder `behind`; returns its own."""
    run(str(python), "-m", "venv", "--without-pip", "--clear", str(folder))
    (packages,) = folder.rglob("site-packages")
    (packages / "behind.pth").write_text(f"import site; site.addsitedir({str(behind)!r})\n", encoding="utf-8")
    return packages


def install_classic():
    layer(FOLDER / "classic", sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(CLASSIC), "--disable-pip-version-check", "install"]
    run(*pip, "--no-deps", "--ignore-installed", *CLASSIC_PACKAGES)


def npm():
    """The path of npm; raises OSError where it is not installed."""
    if found := shutil.which("npm"):
        return found
    raise OSError("npm is not installed")


def npm_program(package, path):
    """The program at `path` of an npm package, installed beside the front ends if need be; raises OSError if not."""
    folder = FOLDER / package.partition("@")[0]
    program = folder / "node_modules" / path
    if not program.exists():
        run(npm(), "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), package)
    return program


def install_from_npm(packages, target):
    """Writes the files that `packages` names, {package: paths}, into the folder `target`, each under its own name."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run(npm(), "pack", "--silent", *packages, cwd=folder)
        for package, paths in packages.items():
            archive = Path(folder) / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
            with tarfile.open(archive) as tar:  # files are read, and get names of ours: nothing is unpacked
                for path in paths:
                    (target / Path(path).name).write_bytes(tar.extractfile(f"package/{path}").read())


FRONT_ENDS = {
    "classic": (CLASSIC_PACKAGES, install_classic),
    "scripts": (sorted(SCRIPT_FILES), lambda: install_from_npm(SCRIPT_FILES, SCRIPTS)),
    "runtime": (sorted(RUNTIME_FILES), lambda: install_from_npm(RUNTIME_FILES, RUNTIME)),
}


def install(name):
    """Installs one of `FRONT_ENDS`, unless it is there in these versions. Raises OSError where that fails."""
    versions, install_it = FRONT_ENDS[name]
    stamp = FOLDER / f"{name}-installed"
    if stamp.is_file() and stamp.read_text(encoding="utf-8").split() == versions:
        return
    stamp.unlink(missing_ok=True)
    install_it()
    stamp.write_text("\n".join(versions) + "\n", encoding="utf-8")


def main():
    """Installs what is not there yet; returns the exit status."""
    status = 0
    for name in FRONT_ENDS:
        try:
            install(name)
        except OSError as error:
            print(f"Front end '{name}' could not be installed, so its browser tests are skipped: {error}")
            status = int(os.environ.get("CI") == "true")
    return status


if __name__ == "__main__":
    sys.exit(main())
