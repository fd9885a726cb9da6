"""`vit-tutorial classroom`: what a teacher hands out, collects and marks, made from the course's own notebooks."""

import argparse
import importlib.util
import shutil
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to, such as ../class")
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks by their numbers (default: all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bundle", action="store_true", help="write one archive that installs without a network")
    what.add_argument("--grade", metavar="ASSIGNMENT", help="grade what is in OUT/nbgrader/submitted")
    parser.add_argument("--download", action="store_true", help="with --bundle: fetch the wheels first (gigabytes)")
    parser.add_argument("--jobs", type=int, metavar="N", help="with --grade: submissions at a time")
    parser.add_argument(
        "--without-sandbox", action="store_true", help="with --grade: run students' code with your own rights"
    )


def find_notebooks(folder: Path, numbers: list[str]) -> dict:
    """The built notebooks in `folder` whose names start with one of `numbers`, as `{name: notebook}`.

    Raises ValueError for a number that none has.
    """
    import nbformat

    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    for number in numbers:
        if not any(path.name.startswith(f"{number}_") for path in paths):
            known = ", ".join(path.name[:2] for path in paths)
            raise ValueError(f"expected notebooks by their numbers ({known}), found {number!r}")
    wanted = [path for path in paths if not numbers or path.name[:2] in numbers]
    return {path.stem: nbformat.read(path, as_version=4) for path in wanted}


def check_place(out: Path, course: Path) -> None:
    """Raise ValueError where `out` lies in a folder that submissions can read, or that is the course's own."""
    from .sandbox import readable

    for folder in (course / "notebooks", *map(Path, readable(course))):
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"expected a folder outside {folder}, found {out}; take one beside the course")


def write_editions(notebooks: dict, course: Path, out: Path) -> None:
    """Write `student`, `solved`, `slides`, `handouts` and the nbgrader course to `out`."""
    from . import editions, grading

    for name, notebook in notebooks.items():
        editions.write(editions.student(notebook), out / "student" / f"{name}.ipynb")
        editions.write(editions.solved(notebook), out / "solved" / f"{name}.ipynb")
        for folder, page in (("slides", editions.slides), ("handouts", editions.handout)):
            path = out / folder / f"{name}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page(notebook, name), encoding="utf-8", newline="\n")
    copy_reveal(out / "slides" / "reveal")
    for folder in ("student", "solved"):
        shutil.copytree(course / "notebooks" / "images", out / folder / "images", dirs_exist_ok=True)
    grading.make_course(notebooks, out / "nbgrader")


def copy_reveal(folder: Path) -> None:
    """Copy what the slides load, reveal.js and the course's own theme, to `folder`."""
    from .editions import STATIC

    package = Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    (folder / "dist" / "theme").mkdir(parents=True, exist_ok=True)
    for name in ("LICENSE", "dist/reveal.js", "dist/reveal.css"):
        shutil.copyfile(package / name, folder / name)
    shutil.copyfile(STATIC / "course.css", folder / "dist" / "theme" / "course.css")


def print_marks(results: list[dict], seconds: float) -> None:
    width = max(len(result["student"]) for result in results)
    for result in results:
        points = f"{result['total']:6.1f} of {result['of']:g}"
        print(f"{result['student']:{width}} {points}  {result['seconds']:6.1f} s  {result['note']}".rstrip())
    print(f"{len(results)} submissions in {seconds:.0f} s")


def main(args: argparse.Namespace) -> int:
    """Write the editions, the bundle, or the marks; returns the exit status. Raises ValueError for bad input."""
    from ..lab import course_folder

    course = course_folder()
    check_place(args.out, course)
    if args.bundle:
        from . import bundle

        notebooks = find_notebooks(course / "notebooks", args.notebooks)
        if args.download:
            bundle.download(course, args.out / "wheels")
        path = bundle.write(notebooks, course, args.out)
        wheels = len(list((args.out / "wheels").glob("*.whl")))
        size = path.stat().st_size / 1e6
        print(f"Wrote {path} ({size:.0f} MB, {wheels} wheels). Its README.txt says how to install it.")
        return 0
    needed = ("latex2mathml", "nbgrader", "sphinx_revealjs")
    if missing := [name for name in needed if not importlib.util.find_spec(name)]:
        raise ValueError(
            f"expected {', '.join(needed)}, found no {', '.join(missing)}; pip install 'vit-tutorial[classroom]', or "
            "in the course's folder pip install -e '.[classroom]'"
        )
    if not args.grade:
        notebooks = find_notebooks(course / "notebooks", args.notebooks)
        write_editions(notebooks, course, args.out)
        print(f"Wrote {len(notebooks)} notebooks to {args.out}: student, solved, slides, handouts, nbgrader")
        return 0
    from . import grading

    started = time.monotonic()
    if args.without_sandbox:
        print("Without a sandbox: students' code may now read, change and send whatever you may.", flush=True)
    folder, jobs = args.out / "nbgrader", args.jobs or grading.jobs_here()
    results = grading.grade(folder, args.grade, jobs, args.without_sandbox)
    print_marks(results, time.monotonic() - started)
    grading.export(folder, folder / "grades.csv")
    return 0
