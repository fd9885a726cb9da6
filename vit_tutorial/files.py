"""Where the course keeps its files, and how it writes them so that none is ever half written."""

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file()  # otherwise pip has copied the package, and data/ into it
DATA = (ROOT if IN_CHECKOUT else PACKAGE) / "data"  # what the course ships; perhaps read-only
CHECKPOINT = DATA / "vit_cifar10.safetensors"  # the ViT that the course ships, trained by `data/README.md`'s command


class Refused(ValueError):
    """What is wrong with a person's files. A notebook shows the sentence alone, without a traceback around it."""

    def _render_traceback_(self):
        time.sleep(0.5)  # the cells below are on their way from the page: they come in time to be called off
        return [f"ValueError: {self}"]


def home():
    """The folder of what a learner keeps: `~/.vit-tutorial`, or the one that the variable VIT_TUTORIAL_HOME names."""
    return Path(os.environ.get("VIT_TUTORIAL_HOME") or Path.home() / ".vit-tutorial")


def downloads():
    """The folder for data that the course does not ship: a checkout's `data`, else `data` in `home()`."""
    return DATA if IN_CHECKOUT else home() / "data"


@contextmanager
def atomic_path(path):
    """A temporary path beside `path`; on success it takes the place of `path`, on an error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())  # the bytes are on the disk before the name points at them
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def expect_new(path):
    """Raise `ValueError` where a file would be replaced, or could not be written."""
    if path.exists():
        raise ValueError(f"expected the name of a new file, found {path} there already; choose another, or remove it")
    expect_writable(path, "file", path.absolute().parents)


def expect_writable(path, kind, folders):
    """Raise `ValueError` where the first that there is of `folders`, the deepest first, is none to write `path` in."""
    above = next(folder for folder in folders if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"expected a {kind} that can be written as {path}, found {above} in the way; choose another")
