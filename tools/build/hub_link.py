#!/usr/bin/env python3
"""A link that puts a folder of notebooks into a student's account on a JupyterHub and opens one of them.

    python tools/build/hub_link.py https://hub.example.org notebooks/03_attention.ipynb
    python tools/build/hub_link.py https://hub.example.org ../class/student/03_attention.ipynb \\
        --published https://github.com/OWNER/REPO

The first opens the course itself, solutions included, for people who study by themselves; its address is the one in
pyproject.toml. The second is for a class that is marked: it opens what `vit-tutorial classroom` wrote for students, at
the address where the teacher has put the folder `student`. A notebook with solutions or without grading ids is refused.

The hub needs nbgitpuller (`tools/hub/README.md`). Following a link again brings what has changed since; what the
student has written stays (https://nbgitpuller.readthedocs.io).
"""

import argparse
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlencode, urlsplit

import nbformat
from notebooks import ROOT, repository

from vit_tutorial.classroom.editions import published_at
from vit_tutorial.classroom.exercises import solutions_start
from vit_tutorial.lab import FIRST_NOTEBOOK


def of_a_class(path: Path) -> str:
    """The file name of a notebook that a class can be given. Raises ValueError for one that cannot be marked."""
    if not path.is_file():
        raise ValueError(f"expected a notebook that vit-tutorial classroom wrote for students, found no file {path}")
    cells = nbformat.read(path, as_version=4).cells
    if solutions_start(nbformat.from_dict({"cells": cells})) < len(cells):
        raise ValueError(f"expected a notebook such as OUT/student/{path.name}, found one with solutions: {path}")
    if not any(cell.metadata.get("nbgrader", {}).get("grade") for cell in cells):
        raise ValueError(f"expected a notebook such as OUT/student/{path.name}, found one without grading ids: {path}")
    return path.name


def link(hub: str, notebook: str = FIRST_NOTEBOOK, published: str | None = None) -> str:
    """The link for the hub at the address `hub`; `notebook` is a path in the course, or of a class's edition.

    Raises ValueError where one of them is none, or where a class could not be marked.
    """
    parts = urlsplit(hub)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"expected the hub's address, such as https://hub.example.org, found {hub!r}")
    if published:
        (repo, branch, folder), notebook = published_at(published), of_a_class(Path(notebook))
        notebook = str(PurePosixPath(folder, notebook))
    elif not (ROOT / notebook).is_file() or ROOT not in (ROOT / notebook).resolve().parents:
        raise ValueError(
            f"expected a notebook of the course, such as {FIRST_NOTEBOOK}, found {notebook!r}; for one that you made "
            "for a class, say with --published where it is"
        )
    else:
        repo, branch = repository(), "main"
    path = f"lab/tree/{PurePosixPath(repo).name}/{notebook}"  # nbgitpuller names the folder after the repository
    query = urlencode({"repo": repo, "branch": branch, "urlpath": path})
    return f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{query}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hub", help="address of the JupyterHub")
    parser.add_argument("notebook", nargs="?", default=FIRST_NOTEBOOK, help=f"what to open (default: {FIRST_NOTEBOOK})")
    about = "for a class: where OUT/student is, such as https://github.com/OWNER/REPO"
    parser.add_argument("--published", metavar="ADDRESS", help=about)
    args = parser.parse_args(arguments)
    try:
        print(link(args.hub, args.notebook, args.published))
    except ValueError as error:
        print(f"hub_link: {error}", file=sys.stderr)
        return 2
    if not args.published:
        print("This opens the course with its solutions. For a class that you mark, add --published.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
