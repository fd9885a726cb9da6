"""Make the course yours: the project's address in all places where it stands, and in every notebook's badge and cell.

    python tools/build/fork.py https://github.com/YOU/vit-tutorial

Runs no notebook: outputs stay as they are. A notebook that does not agree with its source is refused before anything is
written.
"""

import re
import sys

import nbformat
import notebooks

PAGES = ("pyproject.toml", "README.md", "tools/hub/README.md")  # the rest is made from pyproject.toml


def move(old: str, new: str) -> list[str]:
    """Put the address `new` where `old` stands; returns the files that changed.

    Raises ValueError where `new` is no address, or a notebook must be built first.
    """
    if not re.fullmatch(r"https?://[\w.:-]+(/[\w.~-]+)+", new) or new.endswith(".git"):
        raise ValueError(f"expected an address such as https://github.com/you/vit-tutorial, found {new!r}")
    sources = notebooks.find_sources([])
    for source in sources:
        if found := notebooks.check(source):
            raise ValueError(f"{notebooks.target(source).name}: {found[0]}; run make notebooks first")
    changed = [notebooks.ROOT / name for name in PAGES]
    for path in changed:
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8", newline="\n")
    for source in sources:
        path = notebooks.target(source)
        built, notebook = nbformat.read(path, as_version=4), notebooks.read_source(source)
        for ours, theirs in zip(notebook.cells, built.cells, strict=True):
            if ours.cell_type == "code":
                ours.outputs, ours.execution_count = theirs.outputs, theirs.execution_count
            elif notebooks.VALUE.search(ours.source):  # the build wrote values into this text
                ours.source = theirs.source.replace(old, new)
                ours.source = ours.source.replace(notebooks.on_colab(old), notebooks.on_colab(new))
        notebooks.write(notebook, path)
        changed.append(path)
    return [path.relative_to(notebooks.ROOT).as_posix() for path in changed]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(*move(notebooks.repository(), sys.argv[1]), sep="\n")
    except ValueError as error:
        sys.exit(str(error))
