"""`vit-tutorial classroom`: what a teacher hands out, collects and marks, made from the course's own notebooks."""

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path

EXTRAS = ("latex2mathml", "nbgrader", "sphinx_revealjs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to, such as ../class")
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks by their numbers (default: all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--collect", type=Path, metavar="FOLDER|ZIP", help="put what a class handed in where --grade finds it"
    )
    what.add_argument(
        "--grade", metavar="NN", help="mark what was collected of this notebook, and write what to give back"
    )
    what.add_argument("--bundle", action="store_true", help="write one archive that installs without a network")
    collect = parser.add_argument_group("with --collect and --grade")
    collect.add_argument("--roster", type=Path, metavar="CSV", help="who is in the class; kept with the course")
    marking = parser.add_argument_group("with --grade")
    marking.add_argument("--student", action="append", metavar="NAME", help="only this one, again (can be repeated)")
    marking.add_argument(
        "--again", action="store_true", help="also those whose submission was marked and has not changed"
    )
    jobs = max(1, (os.cpu_count() or 1) // 2)
    marking.add_argument(
        "--jobs", type=int, metavar="N", default=jobs, help="submissions at a time (default: %(default)s)"
    )
    marking.add_argument("--without-sandbox", action="store_true", help="run students' code with your own permissions")
    bundling = parser.add_argument_group("with --bundle")
    bundling.add_argument("--download", action="store_true", help="fetch the wheels that are missing (gigabytes)")
    bundling.add_argument(
        "--platform",
        action="append",
        metavar="SYSTEM-PYTHON",
        help="such as windows-3.12 (can be repeated; default: this one)",
    )


def check_place(out: Path, course: Path) -> None:
    """Raise ValueError where `out` lies in a folder that submissions can read, or that is the course's own."""
    from .sandbox import readable

    for folder in (*(course / name for name in ("notebooks", "vit_tutorial", "data")), *map(Path, readable())):
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"expected a folder outside {folder}, found {out}; take one beside the course")


def find_notebooks(folder: Path, numbers: list[str]) -> dict:
    """The built notebooks in `folder` whose names start with one of `numbers`, as `{name: notebook}`.

    Raises ValueError for a number that none has.
    """
    import nbformat

    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    known = dict.fromkeys(path.name[:2] for path in paths)
    for number in numbers:
        if number not in known:
            raise ValueError(f"expected notebooks by their numbers ({', '.join(known)}), found {number!r}")
    wanted = [path for path in paths if not numbers or path.name[:2] in numbers]
    return {path.stem: nbformat.read(path, as_version=4) for path in wanted}


def write_editions(notebooks: dict, course: Path, out: Path) -> None:
    from . import editions, grading

    editions.write_all(notebooks, course, out)
    grading.make_course(notebooks, out / "nbgrader")
    print(f"Wrote {len(notebooks)} notebooks to {out}: student, solved, slides, handouts, nbgrader")


def write_bundle(notebooks: dict, course: Path, out: Path, download: bool) -> None:
    from . import bundle

    if download:
        bundle.download(course, out / "wheels")
    path = bundle.write(notebooks, course, out)
    wheels = len(list((out / "wheels").glob("*.whl")))
    size = path.stat().st_size / 1e6
    print(f"Wrote {path} ({size:.0f} MB, {wheels} wheels). Its README.txt says how to install it.")
    if not wheels:
        print("Without wheels it cannot install without a network: add --download, or put wheels into OUT/wheels.")


def grade(course: Path, assignment: str, jobs: int, without_sandbox: bool) -> None:
    from . import grading

    started = time.monotonic()
    if without_sandbox:
        print("Without a sandbox: students' code can now read, change and send whatever you can.", flush=True)
    results = grading.grade(course, assignment, jobs, without_sandbox)
    width = max(len(result["student"]) for result in results)
    for result in results:
        points = f"{result['total']:6.1f} of {result['of']:g}"
        print(f"{result['student']:{width}} {points}  {result['seconds']:6.1f} s  {result['note']}".rstrip())
    print(f"{len(results)} submissions in {time.monotonic() - started:.0f} s")
