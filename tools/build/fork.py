"""Make the course yours: your address in every badge and text, and in the cell that installs on Colab this commit.

    python tools/build/fork.py OWNER/REPO        on GitHub; or a whole address, https://...

The address must be the checkout's own origin. Commit and push before, and again what this writes. Colab goes on with
that commit, whatever comes later, until this is run again. Runs no notebook: outputs stay as they are. A notebook that
does not agree with its source is refused before anything is written.
"""

import re
import subprocess
import sys

import nbformat
import notebooks

from vit_tutorial import doctor


def head() -> str:
    """The commit that is checked out."""
    command = ["git", "-C", str(notebooks.ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def move(old: str, new: str) -> list[str]:
    """Put the address `new` where `old` stands, and the checkout's commit beside it; returns the files that changed.

    Raises ValueError where `new` is no address or not the checkout's own, or a notebook must be built first.
    """
    new = f"https://github.com/{new}" if re.fullmatch(r"[\w-]+/[\w.-]+", new) else new
    if not re.fullmatch(r"https?://[\w.:-]+(/[\w.~-]+)+", new) or new.endswith(".git"):
        raise ValueError(f"expected an address such as https://github.com/you/vit-tutorial, found {new!r}")
    if ((found := doctor.origin(notebooks.ROOT)) or "").casefold() != new.casefold():
        raise ValueError(
            f"expected {new} to be this checkout's origin, found {found or 'none'}; git remote add origin {new} "
            "(or set-url), push, and run this again"
        )
    commit = head()
    sources = notebooks.find_sources([])
    for source in sources:
        if found := notebooks.check(source):
            raise ValueError(f"{notebooks.target(source).name}: {found[0]}; run make notebooks first")
    path = notebooks.ROOT / "pyproject.toml"  # from which all else is made
    text = path.read_text(encoding="utf-8").replace(old, new)
    text = re.sub(r'^commit = ".*"$', f'commit = "{commit}"', text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8", newline="\n")
    changed = [path]
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
