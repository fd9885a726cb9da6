"""The offline bundle: one zip archive with the course, its checkpoint and wheels, that installs without a network.

    README.txt  install.py  platforms.txt  requirements.txt  constraints.txt  SHA256SUMS
    course/     the package, the students' notebooks, the checkpoint and records
    wheels/     what pip needs for each platform in platforms.txt

`install.py` needs Python and nothing else. The archive holds text, pictures, safetensors and wheels: no pickle.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import unquote

import nbformat

from ..files import atomic_path
from . import editions, install

NAME = "vit-tutorial-bundle"
FILES = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "LICENSE-TEXT"]
FOLDERS = {  # folder: the files in it that belong to the course; what was downloaded or trained there does not
    "vit_tutorial": ("*.py", "*.js", "*.css", "*.json", "*.j2"),
    "data": ("README.md", "vit_*.safetensors", "mae_*.safetensors", "words_*.safetensors", "*.json"),
    "notebooks/images": ("*.svg", "*.png"),
}
TIME = (2026, 1, 1, 0, 0, 0)  # of every file, so that the same course gives the same archive
README = """\
The Vision Transformer course, to install without a network.

    python3 install.py        (Windows: py install.py)

makes a virtual environment beside this file, installs from the folder wheels alone, and says how to start. It needs
about 6 GB of disk, and one of these systems with this Python ({}.{} or newer) that stand here with their wheels:

{}

Another system or another Python? Whoever made this archive can add it with --platform. On Linux a machine without an
NVIDIA GPU needs far less where torch comes from PyTorch's own index for the CPU: --download takes it from there with
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu in the environment.
"""
SYSTEMS = {  # name: a tag of pip's, what environment markers ask for there; glibc 2.28 is from 2018, macOS 14 from 2023
    "linux": ("manylinux_2_28_x86_64", "posix linux Linux x86_64"),
    "linux-arm64": ("manylinux_2_28_aarch64", "posix linux Linux aarch64"),
    "macos-arm64": ("macosx_14_0_arm64", "posix darwin Darwin arm64"),
    "windows": ("win_amd64", "nt win32 Windows AMD64"),
}
MARKERS = ("os_name", "sys_platform", "platform_system", "platform_machine")
# With --platform pip chooses the wheels of another system, but asks its own Python whether `sys_platform == "win32"`.
PIP = """
import json, runpy, sys
from pip._vendor.packaging import markers
target = markers.default_environment() | json.loads(sys.argv[1])
markers.default_environment = lambda: target
sys.argv = ["pip", *sys.argv[2:]]
runpy.run_module("pip", run_name="__main__")
"""


def requirements(course):
    """What the package and JupyterLab need, lines as in `pyproject.toml`."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["lab"]]


def read_platforms(names):
    """What `--platform` was given, checked, each once; this system and Python where it was not given.

    Raises ValueError for a name that is none.
    """
    here = install.this_platform()
    oldest = install.PYTHON[1]
    for name in names or ():
        system, _, python = name.rpartition("-3.")
        if name != here and (system not in SYSTEMS or not python.isdecimal() or not oldest <= int(python) < 100):
            raise ValueError(
                f"expected a platform such as windows-3.12 ({', '.join(SYSTEMS)}; Python 3.{oldest} or newer), "
                f"found {name!r}"
            )
    return list(dict.fromkeys(names or [here]))


def pip(course, platform, command, *options, **settings):
    """Run a command of pip for what the course needs on a platform; returns the ended process."""
    system, _, python = platform.rpartition("-")
    target, markers = [], {}
    if system in SYSTEMS:
        tag, values = SYSTEMS[system]
        tags = [tag.replace("2_28", f"2_{minor}") for minor in range(28, 16, -1)] + [tag.replace("_2_28", "2014")]
        target = [f"--platform={tag}" for tag in dict.fromkeys(tags)]
        target += [f"--python-version={python}", "--implementation=cp"]
        markers = dict(zip(MARKERS, values.split(), strict=True))
        markers |= {"python_version": python, "python_full_version": f"{python}.0"}
    line = [sys.executable, "-c", PIP, json.dumps(markers), command, "--disable-pip-version-check", *options, *target]
    line += ["--only-binary=:all:", "-c", str(course / "constraints.txt"), *requirements(course)]
    return subprocess.run(line, text=True, **settings)


def download(course, wheels, platforms):
    """Fetch with pip into the folder `wheels` what the course needs on each platform.

    Raises OSError where pip fails; it has said why.
    """
    for platform in platforms:
        print(f"Fetching wheels for {platform} ...", flush=True)
        if pip(course, platform, "download", "-d", str(wheels)).returncode:
            raise OSError(f"pip could not fetch all wheels for {platform}; it says above why, and needs a network")


def needed(course, wheels, platform):
    """The wheels in a folder that an installation on a platform takes, found by pip. Raises ValueError without them."""
    options = ["--isolated", "--no-index", "--find-links", str(wheels)]
    options += ["--dry-run", "--target", str(wheels), "--quiet", "--report", "-"]  # it looks, and installs nothing
    done = pip(course, platform, "install", *options, capture_output=True)
    if done.returncode:
        told = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise ValueError(
            f"expected in {wheels} the wheels for {platform}, found some missing ({(told or ['pip failed'])[0]}); add "
            "--download, which fetches them"
        )
    found = [item["download_info"]["url"] for item in json.loads(done.stdout)["install"]]
    return [wheels / unquote(url.rpartition("/")[2]) for url in sorted(found)]


def table(inside, each=False):
    """One line for each platform of `{platform: wheels}` with its size, and where `each` one for each wheel."""
    lines = []
    for platform, wheels in inside.items():
        sizes = {path.name: path.stat().st_size / 1e6 for path in wheels}
        lines.append(f"    {platform:20} {len(wheels):4} wheels {sum(sizes.values()):10.1f} MB")
        lines += [f"        {size:8.1f} MB  {name}" for name, size in sizes.items() if each]
    return "\n".join(lines)


def contents(notebooks, course, inside):
    """What the archive holds beside the checksums, `{name in the archive: bytes or path}`, in the order of names.

    `inside` gives the wheels of each platform.
    """
    found = {f"course/{name}": course / name for name in FILES}
    for folder, patterns in FOLDERS.items():
        for path in (path for pattern in patterns for path in (course / folder).rglob(pattern)):
            name = path.relative_to(course)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
            if path.is_file() and not path.is_symlink() and not hidden:
                found[f"course/{name.as_posix()}"] = path
    for name, notebook in notebooks.items():
        found[f"course/notebooks/{name}.ipynb"] = (nbformat.writes(editions.assignment(notebook)) + "\n").encode()
    found |= {f"wheels/{path.name}": path for wheels in inside.values() for path in wheels}
    found["requirements.txt"] = ("\n".join(requirements(course)) + "\n").encode()
    found["constraints.txt"] = course / "constraints.txt"
    found["platforms.txt"] = ("\n".join(inside) + "\n").encode()
    found["README.txt"] = README.format(*install.PYTHON, table(inside, each=True)).encode()
    found["install.py"] = Path(install.__file__)
    return dict(sorted(found.items()))


def write(notebooks, course, out, platforms):
    """Write `OUT/vit-tutorial-bundle.zip` with `{name: notebook}`, `course` and wheels for platforms from `OUT/wheels`.

    Returns its path and the wheels of each platform. Raises ValueError where wheels are missing, and writes nothing.
    """
    inside, sums = {platform: needed(course, out / "wheels", platform) for platform in platforms}, ""
    with atomic_path(out / f"{NAME}.zip") as path, zipfile.ZipFile(path, "w") as archive:

        def add(name, data):
            entry = zipfile.ZipInfo(f"{NAME}/{name}", TIME)
            entry.external_attr = 0o644 << 16
            packed = name.endswith((".whl", ".safetensors"))
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)

        for name, content in contents(notebooks, course, inside).items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
            add(name, data)
        add("SHA256SUMS", sums.encode())
    return out / f"{NAME}.zip", inside
