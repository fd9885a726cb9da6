"""Virtual environments beside the course's own, for the tools that try it in other versions: `.environments/NAME`."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".environments"


def executable(folder):
    """The Python of the virtual environment in `folder`."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def find_python(version):
    """A Python of this version, as "3.13", or None. Tried, for a version manager's name may stand for none."""
    found = shutil.which(f"python{version}")
    runs = found and subprocess.run([found, "--version"], capture_output=True).returncode == 0
    return found if runs else None


def environment(name, packages, python=sys.executable):
    """The Python of `.environments/NAME`, made if that does not hold these packages for this Python (torch: 5 GB)."""
    folder = FOLDER / name
    stamp = folder / "installed"
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    wanted = [version, *packages]
    if not stamp.is_file() or stamp.read_text(encoding="utf-8").splitlines() != wanted:
        print(f"Making .environments/{name} (a few minutes)", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        install(executable(folder), *packages)
        stamp.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    return executable(folder)


def install(python, *arguments):
    """pip's install in the environment of `python`; raises CalledProcessError where pip does not find a way."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], check=True)
