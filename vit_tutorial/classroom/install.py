"""Install the course from the unpacked bundle around this file, without a network: python3 install.py"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = 3, 11  # the oldest that pyproject.toml allows


def main():
    if sys.version_info < PYTHON:
        return "expected Python {}.{} or newer, found {}".format(*PYTHON, sys.version.split()[0])
    for line in (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = HERE / name
        if not path.is_file():
            return f"expected the file {name}, found none; unpack the archive again"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            return f"{name} is damaged; copy the archive and unpack it again"
    environment = HERE / ".venv"
    print("Making a virtual environment ...", flush=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--only-binary", ":all:"]
    pip += ["--find-links", str(HERE / "wheels"), "-r", str(HERE / "requirements.txt")]
    pip += ["-c", str(HERE / "constraints.txt")]
    if subprocess.run(pip, env=os.environ | {"PIP_CONFIG_FILE": os.devnull}).returncode:
        return "a wheel is missing for this system or Python version; README.txt says how to fetch wheels"
    place = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(place, capture_output=True, text=True, check=True).stdout.strip()
    Path(packages, "vit_tutorial_course.pth").write_text(str(HERE / "course") + "\n", encoding="utf-8")
    print("Installed. Start the course with:", python, "-m vit_tutorial.cli lab")


if __name__ == "__main__":
    sys.exit(main())
