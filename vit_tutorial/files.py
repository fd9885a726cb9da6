"""Where the course keeps its files, and how it writes them so that none is ever half written."""

import ctypes
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file()  # otherwise pip has copied the package, and data/ into it
DATA = (ROOT if IN_CHECKOUT else PACKAGE) / "data"  # what the course ships; perhaps read-only
CHECKPOINT = DATA / "vit_cifar10.safetensors"  # the ViT that the course ships, trained by `data/README.md`'s command


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


def usable_cache():
    """Have torch forget a `TORCHINDUCTOR_CACHE_DIR` that cannot be made, for its optimisers do not load with one."""
    try:
        os.makedirs(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or ".", exist_ok=True)
    except OSError:
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]


def keep_memory():
    """Have glibc keep large blocks for reuse; by default it returns and asks for them again at every training step.

    The same numbers, about a tenth faster on two CPU cores; the process keeps its peak memory. Does nothing elsewhere.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: below 1 GiB, from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give its end back
