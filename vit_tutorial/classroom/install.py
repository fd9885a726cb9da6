"""Install the course from the unpacked bundle around this file, without a network: python3 install.py"""

import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = 3, 11  # the oldest that pyproject.toml allows


def this_platform():
    """This system and Python as `--platform` names them, such as windows-3.12."""
    system = sysconfig.get_platform()
    if system.startswith("macosx") and platform.machine() == "arm64":
        system = "macos-arm64"
    known = {"win-amd64": "windows", "linux-x86_64": "linux", "linux-aarch64": "linux-arm64"}
    return f"{known.get(system, system)}-{sys.version_info[0]}.{sys.version_info[1]}"


def main():
    """Install, and return what was in the way, if anything."""
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
    platforms = (HERE / "platforms.txt").read_text(encoding="utf-8").split()
    if this_platform() not in platforms:
        return f"expected {' or '.join(platforms)}, for which there are wheels here, found {this_platform()}"
    environment = HERE / ".venv"
    print("Making a virtual environment ...", flush=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--only-binary", ":all:"]
    pip += ["--find-links", str(HERE / "wheels"), "-r", str(HERE / "requirements.txt")]
    pip += ["-c", str(HERE / "constraints.txt")]
    if subprocess.run(pip, env=os.environ | {"PIP_CONFIG_FILE": os.devnull}).returncode:
        return f"the wheels for {this_platform()} do not fit this system; pip says above which"
    place = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(place, capture_output=True, text=True, check=True).stdout.strip()
    Path(packages, "vit_tutorial_course.pth").write_text(str(HERE / "course") + "\n", encoding="utf-8")
    print("Installed. Start the course with:", python, "-m vit_tutorial.cli lab")


if __name__ == "__main__":
    sys.exit(main())
