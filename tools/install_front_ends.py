#!/usr/bin/env python3
"""What the browser tests need beside the course's own environment, installed into `.venv/front-ends` by `make test`.

* `classic`: Notebook 6.5 with the ipywidgets and anywidget that Colab ships. It is an environment of its own that sees
  the course's environment behind its own packages, so torch is not installed twice (5 s, 61 MB).
* `scripts`: what a page without a kernel loads, and axe-core, which judges accessibility (from npm; 3 s, 2 MB).

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
# npm package: the one file of it that is kept.
NPM_FILES = {
    "requirejs@2.3.8": "require.js",
    "@jupyter-widgets/html-manager@1.0.15": "dist/embed-amd.js",
    "axe-core@4.14.1": "axe.min.js",
}


def run(*command, **options):
    """Runs `command`; raises OSError with the last line that it said if it fails."""
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if process.returncode:
        said = process.stdout.strip().splitlines() or [f"{command[0]} ended with status {process.returncode}"]
        raise OSError(said[-1])


def install_classic():
    folder = FOLDER / "classic"
    run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder))
    (packages,) = folder.rglob("site-packages")
    course = sysconfig.get_path("purelib")
    (packages / "course.pth").write_text(f"import site; site.addsitedir({course!r})\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(CLASSIC), "--disable-pip-version-check", "install"]
    run(*pip, "--no-deps", "--ignore-installed", *CLASSIC_PACKAGES)


def install_scripts():
    npm = shutil.which("npm")
    if not npm:
        raise OSError("npm is not installed")
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run(npm, "pack", "--silent", *NPM_FILES, cwd=folder)
        for package, path in NPM_FILES.items():
            archive = Path(folder) / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
            with tarfile.open(archive) as tar:  # one file is read, under a name of ours: nothing is unpacked
                data = tar.extractfile(f"package/{path}").read()
            (SCRIPTS / Path(path).name).write_bytes(data)


def main():
    """Installs what is not there yet, in these versions; returns the exit status."""
    status = 0
    for name, versions, install in (
        ("classic", CLASSIC_PACKAGES, install_classic),
        ("scripts", sorted(NPM_FILES), install_scripts),
    ):
        stamp = FOLDER / f"{name}-installed"
        if stamp.is_file() and stamp.read_text(encoding="utf-8").split() == versions:
            continue
        stamp.unlink(missing_ok=True)
        try:
            install()
            stamp.write_text("\n".join(versions) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"Front end '{name}' could not be installed, so its browser tests are skipped: {error}")
            status = int(os.environ.get("CI") == "true")
    return status


if __name__ == "__main__":
    sys.exit(main())
