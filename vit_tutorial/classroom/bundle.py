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
from . import editions, install

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
Python {}.{} or newer, for which the wheels must have been fetched, and about 6 GB of disk.

No wheels in the folder? On a machine with a network, the same operating system and the same Python version:

    python3 -m pip download -d wheels --only-binary :all: -r requirements.txt -c constraints.txt

then pass on this folder, wheels included. On Linux a machine without an NVIDIA GPU needs far less where torch and
torchvision are both taken from PyTorch's own index for the CPU, https://download.pytorch.org/whl/cpu (--index-url).
"""


def requirements(course):
    """What the package and JupyterLab need, lines as in `pyproject.toml`."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["lab"]]


def download(course, wheels):
    """Fetch with pip into the folder `wheels` what the course needs on this system and Python version.

    Raises OSError where pip fails; it has said why.
    """
    line = [sys.executable, "-m", "pip", "download", "-d", str(wheels), "--only-binary", ":all:"]
    line += ["-c", str(course / "constraints.txt"), *requirements(course)]
    if subprocess.run(line).returncode:
        raise OSError("pip could not download the wheels; run this with a network, or download them as README.txt says")


def contents(notebooks, course, wheels):
    """What the archive holds beside the checksums, `{name in the archive: bytes or path}`, in the order of names."""
    found = {f"course/{name}": course / name for name in FILES}
    for folder, patterns in FOLDERS.items():
        for path in (path for pattern in patterns for path in (course / folder).rglob(pattern)):
            name = path.relative_to(course)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
            if path.is_file() and not path.is_symlink() and not hidden:
                found[f"course/{name.as_posix()}"] = path
    for name, notebook in notebooks.items():
        found[f"course/notebooks/{name}.ipynb"] = (nbformat.writes(editions.student(notebook)) + "\n").encode()
    found |= {f"wheels/{path.name}": path for path in wheels.glob("*.whl")}
    found["requirements.txt"] = ("\n".join(requirements(course)) + "\n").encode()
    found["constraints.txt"] = course / "constraints.txt"
    found["README.txt"] = README.format(*install.PYTHON).encode()
    found["install.py"] = Path(install.__file__)
    return dict(sorted(found.items()))


def write(notebooks, course, out):
    """Write `OUT/vit-tutorial-bundle.zip` with `{name: notebook}`, `course` and the wheels in `OUT/wheels`.

    Returns its path.
    """
    sums = ""
    with atomic_path(out / f"{NAME}.zip") as path, zipfile.ZipFile(path, "w") as archive:

        def add(name, data):
            entry = zipfile.ZipInfo(f"{NAME}/{name}", TIME)
            entry.external_attr = 0o644 << 16
            packed = name.endswith((".whl", ".safetensors"))
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)

        for name, content in contents(notebooks, course, out / "wheels").items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
            add(name, data)
        add("SHA256SUMS", sums.encode())
    return out / f"{NAME}.zip"
