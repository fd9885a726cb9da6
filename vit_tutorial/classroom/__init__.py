"""`vit-tutorial classroom`: what a teacher hands out, collects and marks, made from the course's own notebooks."""

import argparse
import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

EXTRAS = ("latex2mathml", "nbgrader", "sphinx_revealjs")
GOES_WITH = {  # option: those of which it needs one
    "roster": ("collect", "grade"),
    "student": ("grade",),
    "again": ("grade",),
    "without_sandbox": ("grade",),
    "download": ("bundle",),
    "platform": ("bundle",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mix_options(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to, such as ../class")
    parser.add_argument(
        "notebooks", nargs="*", default=[], metavar="NN", help="notebooks by their numbers (default: all)"
    )
    parser.add_argument(
        "--published",
        metavar="ADDRESS",
        help="where you put OUT/student for the class, such as https://github.com/OWNER/REPO: their Colab badges then "
        "lead there (without it they have none)",
    )
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
        help="linux, linux-arm64, macos-arm64 or windows, and a Python, such as windows-3.12 (can be repeated; "
        "default: this one)",
    )


def mix_options(parser: argparse.ArgumentParser) -> None:
    """Let options stand between OUT and the notebooks; argparse itself allows that only outside subcommands."""
    plain = parser.parse_known_args

    def parse(args=None, namespace=None):
        parser.parse_known_args = plain  # parse_known_intermixed_args calls it
        try:
            return parser.parse_known_intermixed_args(args, namespace)
        finally:
            parser.parse_known_args = parse

    parser.parse_known_args = parse


def main(args: argparse.Namespace) -> int:
    """Write the editions, the bundle or the marks, or take in what was handed in; returns the exit status.

    Raises ValueError for bad input.
    """
    from ..lab import course_folder

    course = course_folder()
    check_arguments(args)
    check_place(args.out, course)
    if args.bundle:
        write_bundle(args, course)
    elif args.collect:
        collect(args)
    elif args.grade:
        grade(args)
    else:
        write_editions(find_notebooks(course / "notebooks", args.notebooks, args.published), course, args.out)
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that has nothing to do, and where a package is missing."""
    for option, others in GOES_WITH.items():
        if getattr(args, option) and not any(getattr(args, other) for other in others):
            needed = " or ".join(f"--{other}" for other in others)
            raise ValueError(f"expected {needed} with --{option.replace('_', '-')}, found it alone")
    if args.published and (args.grade or args.collect):
        raise ValueError("expected --published where notebooks are written, found it with --grade or --collect")
    if args.grade and args.notebooks:
        raise ValueError(f"expected one notebook to mark, {args.grade}, found {' '.join(args.notebooks)} too")
    missing = [name for name in EXTRAS if not find_spec(name)]
    if missing and not args.bundle:
        raise ValueError(
            f"expected {', '.join(EXTRAS)}, found no {', '.join(missing)}; in the course's folder: "
            "pip install -e '.[classroom]'"
        )


def check_place(out: Path, course: Path) -> None:
    """Raise ValueError where `out` lies in a folder that submissions can read, or that is the course's own."""
    from .sandbox import readable

    for folder in (*(course / name for name in ("notebooks", "vit_tutorial", "data")), *map(Path, readable())):
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"expected a folder outside {folder}, found {out}; take one beside the course")


def find_notebooks(folder: Path, numbers: list[str], published: str | None = None) -> dict:
    """The built notebooks in `folder` whose names start with one of `numbers`, as `{name: notebook}`.

    Their Colab badges lead to `published`, or are left out. Raises ValueError for a number that none has.
    """
    import nbformat

    from .editions import rebadged

    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    known = dict.fromkeys(path.name[:2] for path in paths)
    for number in numbers:
        if number not in known:
            raise ValueError(f"expected notebooks by their numbers ({', '.join(known)}), found {number!r}")
    wanted = [path for path in paths if not numbers or path.name[:2] in numbers]
    return {path.stem: rebadged(nbformat.read(path, as_version=4), path.stem, published) for path in wanted}


def write_editions(notebooks: dict, course: Path, out: Path) -> None:
    from . import decks, editions, grading

    decks.write_all(notebooks, out)
    for name, notebook in notebooks.items():
        editions.write(editions.solved(notebook), out / "solved" / f"{name}.ipynb")
        for folder in (out / "solved", out / "nbgrader" / "source" / name):
            editions.copy_pictures(notebook, course, folder)
    grading.make_course(notebooks, out / "nbgrader")
    for name in notebooks:  # students get what nbgrader releases, whichever way it reaches them
        shutil.copytree(out / "nbgrader" / "release" / name, out / "student", dirs_exist_ok=True)
    print(f"Wrote {len(notebooks)} notebooks to {out}: student, solved, slides, handouts, nbgrader")


def write_bundle(args: argparse.Namespace, course: Path) -> None:
    from . import bundle

    platforms = bundle.read_platforms(args.platform)
    notebooks = find_notebooks(course / "notebooks", args.notebooks, args.published)
    if args.download:
        bundle.download(course, args.out / "wheels", platforms)
    path, inside = bundle.write(notebooks, course, args.out, platforms)
    print(f"Wrote {path} ({path.stat().st_size / 1e6:.0f} MB), with wheels for")
    print(bundle.table(inside))
    print("Its README.txt lists them and says how to install it.")


def collect(args: argparse.Namespace) -> None:
    from . import collecting, grading

    course = args.out / "nbgrader"
    assignments = [grading.find_assignment(course, name) for name in args.notebooks]
    if args.roster:
        collecting.keep_roster(course, args.roster)
    print(collecting.collect(course, args.collect, assignments))


def grade(args: argparse.Namespace) -> None:
    from . import collecting, grading, results

    started, course = time.monotonic(), args.out / "nbgrader"
    assignment = grading.find_assignment(course, args.grade)
    if args.roster:
        collecting.keep_roster(course, args.roster)
    if args.without_sandbox:
        print("Without a sandbox: students' code can now read, change and send whatever you can.", flush=True)

    def tell(row, number, count):
        points = "not marked" if row["score"] is None else f"{row['score']:g} of {row['of']:g}"
        line = f"{number:3} of {count}  {results.plain(row['student']):24} {points:>10}  {row['seconds']:6.1f} s"
        print(f"{line}  {row['note']}".rstrip(), flush=True)

    rows = grading.grade(course, assignment, args.jobs, args.without_sandbox, args.student, args.again, tell)
    marked = sum(row["score"] is not None for row in rows)
    print(f"{marked} of {len(rows)} students have marks, after {time.monotonic() - started:.0f} s. In {course}:")
    print("\n".join(sorted(f"    {path.name}" for path in course.glob(f"*-{assignment}.*"))))
