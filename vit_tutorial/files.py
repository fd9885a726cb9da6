"""Where the course keeps its files, and how it writes them so that none is ever half written."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
CHECKPOINT = DATA / "vit_cifar10.safetensors"  # the ViT that the course ships, trained by `data/README.md`'s command


@contextmanager
def atomic_path(path):
    """A temporary path beside `path`; on success it takes the place of `path`, on an error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())  # the bytes are on the disk before the name points at them
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
