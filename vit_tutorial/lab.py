"""`vit-tutorial lab`: open the course in JupyterLab."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from .files import ROOT

CONFIG = Path(__file__).resolve().parent / "jupyter"
FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-browser", action="store_true", help="print the address, open no browser")
    parser.add_argument("--ip", help="the address to listen on (default: this machine only)")
    parser.add_argument(
        "--port", type=port_number, help="the port to listen on (default: 8888, or the next one that is free)"
    )


def port_number(text: str) -> int:
    """What `--port` is given, as a number from 1 to 65535."""
    number = int(text)
    if not 0 < number < 2**16:
        raise argparse.ArgumentTypeError(f"expected a port in 1 .. 65535, found {number}")
    return number


def course_folder() -> Path:
    """The folder with the notebooks: the checkout that this package is installed from, or the current folder.

    Raises ValueError where neither holds the course.
    """
    for folder in (ROOT, Path.cwd()):
        if (folder / FIRST_NOTEBOOK).is_file():
            return folder
    raise ValueError(
        f"expected {FIRST_NOTEBOOK} in {ROOT} or in {Path.cwd()}, found neither; run this in the folder that you cloned"
    )


def can_show_browser() -> bool:
    """Whether a browser window can appear: on Linux that takes a display (or a browser that the user named)."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def lab_options(args: argparse.Namespace, folder: Path) -> list[str]:
    """The command line that JupyterLab gets. Its token stays: nobody else on the machine or network gets in."""
    options = [
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}",
        "--log-level=WARN",  # the address is printed anyway
    ]
    if args.no_browser or not can_show_browser():
        options.append("--no-browser")
    if args.ip:
        options.append(f"--ip={args.ip}")
    if args.port:
        options.append(f"--port={args.port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; JupyterLab refuses to start as root otherwise
        options.append("--allow-root")
    return options


def use_course_settings() -> None:
    """Let JupyterLab start without its pop-ups about news and updates.

    The course's defaults (`jupyter/labconfig/default_setting_overrides.json`) join Jupyter's search path for this
    process alone: nothing is written, and a reader's own settings take precedence.
    """
    folders = [str(CONFIG), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, folders))


def main(args: argparse.Namespace) -> int:
    """Serve the course until it is stopped (Ctrl-C); returns the exit status."""
    folder = course_folder()
    if find_spec("jupyterlab") is None:
        raise ValueError("expected JupyterLab beside the course, found none; run python -m pip install jupyterlab")
    use_course_settings()
    print("Starting JupyterLab; it runs until you press Ctrl-C twice in this window.", flush=True)
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(lab_options(args, folder))
    return 0
