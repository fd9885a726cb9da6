"""The offline bundle: one zip archive with the course, its checkpoint and wheels, that installs without a network.

    README.txt  install.py  requirements.txt  constraints.txt  SHA256SUMS
    course/     the package, the student edition of the notebooks, the checkpoint and records
    wheels/     what `pip download` fetched; empty until somebody does

`install.py` needs Python and nothing else. The archive holds text, pictures, safetensors and wheels: no pickle.
"""

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat

from ..files import atomic_path
from . import editions

NAME = "vit-tutorial-bundle"
FILES = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "LICENSE-TEXT"]
FOLDERS = {  # folder: the files in it that belong to the course; what was downloaded or trained there does not
    "vit_tutorial": ("*.py", "*.js", "*.css", "*.json", "*.j2"),
    "data": ("README.md", "vit_*.safetensors", "*.json"),
    "notebooks/images": ("*.svg", "*.png"),
}
TIME = (2026, 1, 1, 0, 0, 0)  # of every file, so that the same course gives the same archive
README = """\
The Vision Transformer course, to install without a network.

    python3 install.py        (Windows: py install.py)

makes a virtual environment beside this file, installs from the folder wheels alone, and says how to start. It needs
Python {python} or newer, for which the wheels must have been fetched, and about 6 GB of disk.

No wheels in the folder? On a machine with a network, the same operating system and the same Python version:

    python3 -m pip download -d wheels --only-binary :all: -r requirements.txt -c constraints.txt

then hand on this folder, wheels included. On Linux a machine without an NVIDIA GPU needs far less where torch and
torchvision are both taken from PyTorch's own index for the CPU, https://download.pytorch.org/whl/cpu (--index-url).
"""
INSTALL = '''\
"""Install the course from this folder, without a network: python3 install.py"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    if sys.version_info < {version}:
        return "expected Python {python} or newer, found " + sys.version.split()[0]
    for line in (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = HERE / name
        if not path.is_file():
            return f"expected the file {{name}}, found none; unpack the archive again"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            return f"{{name}} is damaged; copy the archive and unpack it again"
    environment = HERE / ".venv"
    print("Making a virtual environment ...", flush=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--only-binary", ":all:"]
    pip += ["--find-links", str(HERE / "wheels"), "-r", str(HERE / "requirements.txt")]
    pip += ["-c", str(HERE / "constraints.txt")]
    if subprocess.run(pip, env=os.environ | {{"PIP_CONFIG_FILE": os.devnull}}).returncode:
        return "a wheel is missing for this system or Python version; README.txt says how to fetch wheels"
    place = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(place, capture_output=True, text=True, check=True).stdout.strip()
    Path(packages, "vit_tutorial_course.pth").write_text(str(HERE / "course") + "\\n", encoding="utf-8")
    print("Installed. Start the course with:", python, "-m vit_tutorial.cli lab")


sys.exit(main())
'''


def requirements(course):
    """What the package and JupyterLab need, lines as in `pyproject.toml`."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["lab"]]


def download(course, wheels, needed=None):
    """Fetch with pip into the folder `wheels` what the course needs on this system and Python version.

    Raises OSError where pip fails; it has said why.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "pip", "download", "-d", str(wheels), "--only-binary", ":all:"]
    line += ["-c", str(course / "constraints.txt"), *(needed or requirements(course))]
    if subprocess.run(line).returncode:
        raise OSError("pip could not fetch the wheels; run this with a network, or fetch them as README.txt says")


def contents(notebooks, course, wheels, needed):
    """What the archive holds, `{name in the archive: bytes or path}`."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = project["requires-python"].removeprefix(">=")
    version = tuple(map(int, python.split(".")))
    found = {f"course/{name}": course / name for name in FILES}
    for folder, patterns in FOLDERS.items():
        paths = {path for pattern in patterns for path in (course / folder).rglob(pattern)}
        inside = (path for path in paths if path.is_file() and not path.is_symlink() and not hidden(path, course))
        found |= {f"course/{path.relative_to(course).as_posix()}": path for path in inside}
    for name, notebook in notebooks.items():
        found[f"course/notebooks/{name}.ipynb"] = (nbformat.writes(editions.student(notebook)) + "\n").encode()
    found |= {f"wheels/{path.name}": path for path in wheels.glob("*.whl")}
    found["requirements.txt"] = ("\n".join(needed) + "\n").encode()
    found["constraints.txt"] = course / "constraints.txt"
    found["README.txt"] = README.format(python=python).encode()
    found["install.py"] = INSTALL.format(python=python, version=version).encode()
    return dict(sorted(found.items()))


def hidden(path, course):
    """Whether a part of a path within the course starts with a dot or holds compiled Python."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(course).parts)


def digest(content):
    """SHA-256 of bytes, or of a file at a path."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(notebooks, course, out, needed=None):
    """Write `OUT/vit-tutorial-bundle.zip` with `{name: notebook}`, `course` and the wheels in `OUT/wheels`.

    Returns its path. `needed` are requirement lines, those of `pyproject.toml` if None.
    """
    course, out = Path(course), Path(out)
    found = contents(notebooks, course, out / "wheels", needed or requirements(course))
    sums = "".join(f"{digest(content)}  {name}\n" for name, content in found.items())
    with atomic_path(out / f"{NAME}.zip") as path, zipfile.ZipFile(path, "w") as archive:
        for name, content in (found | {"SHA256SUMS": sums.encode()}).items():
            entry = zipfile.ZipInfo(f"{NAME}/{name}", TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = (
                zipfile.ZIP_STORED if name.endswith((".whl", ".safetensors")) else zipfile.ZIP_DEFLATED
            )
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(entry, data)
    return out / f"{NAME}.zip"
