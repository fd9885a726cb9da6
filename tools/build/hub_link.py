#!/usr/bin/env python3
"""The link to give to a class: it puts the course into a student's account on a JupyterHub and opens a notebook.

    python tools/build/hub_link.py https://hub.example.org
    python tools/build/hub_link.py https://hub.example.org notebooks/03_attention.ipynb

The hub needs nbgitpuller (`tools/hub/README.md`). Following the link again brings what has changed since; what the
student has written stays (https://nbgitpuller.readthedocs.io). The address is the one in pyproject.toml.
"""

import argparse
import sys
from pathlib import PurePosixPath
from urllib.parse import urlencode, urlsplit

from notebooks import ROOT, repository

from vit_tutorial.lab import FIRST_NOTEBOOK


def link(hub: str, notebook: str = FIRST_NOTEBOOK) -> str:
    """The link for the hub at the address `hub`; `notebook` is a path in the repository.

    Raises ValueError where one of the two is none.
    """
    parts = urlsplit(hub)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"expected the hub's address, such as https://hub.example.org, found {hub!r}")
    if not (ROOT / notebook).is_file() or ROOT not in (ROOT / notebook).resolve().parents:
        raise ValueError(f"expected a notebook of the course, such as {FIRST_NOTEBOOK}, found {notebook!r}")
    repo = repository()
    path = f"lab/tree/{PurePosixPath(repo).name}/{notebook}"  # nbgitpuller names the folder after the repository
    query = urlencode({"repo": repo, "branch": "main", "urlpath": path})
    return f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{query}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hub", help="address of the JupyterHub")
    parser.add_argument("notebook", nargs="?", default=FIRST_NOTEBOOK, help=f"what to open (default: {FIRST_NOTEBOOK})")
    args = parser.parse_args(arguments)
    try:
        print(link(args.hub, args.notebook))
    except ValueError as error:
        print(f"hub_link: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
