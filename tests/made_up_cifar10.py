"""A set like CIFAR-10 with four images in each of its six files, in all formats in which the original is given."""

import hashlib
import io
import pickle
import struct
import tarfile
from importlib import import_module

import numpy as np
from PIL import Image

from vit_tutorial.datasets import cifar10_files

cifar10 = import_module("vit_tutorial.datasets.cifar10")  # the package's name is the function's
IMAGES = 4
BLOCKS = {  # name -> records (bytes)
    name: np.random.default_rng(i).integers(0, 256, (IMAGES, cifar10_files.RECORD), dtype=np.uint8)
    for i, name in enumerate(cifar10.BATCHES)
}
for _block in BLOCKS.values():
    _block[:, 0] %= 10
BLOCKS = {name: block.tobytes() for name, block in BLOCKS.items()}
ORDER = [
    f"data_batch_{i}" for i in (4, 3, 2, 5, 1)
]  # in which the original's archive, and so the hub's table, has them


def install(monkeypatch):
    """Have the package believe that this is CIFAR-10."""
    monkeypatch.setattr(cifar10_files, "IMAGES", IMAGES)
    monkeypatch.setattr(cifar10, "BATCHES", {name: hashlib.sha1(block).hexdigest() for name, block in BLOCKS.items()})
    monkeypatch.setattr(cifar10, "ROOM", 0)


def records(name):
    return np.frombuffer(BLOCKS[name], np.uint8).reshape(IMAGES, -1)


def pickled(name):
    """A batch as Python 2 with protocol 2 wrote it: strings without an encoding, numpy by its old names."""
    block = records(name)

    def text(value):
        return b"U" + bytes([len(value)]) + value

    shape = b"(K\x01K" + bytes([IMAGES]) + b"M" + struct.pack("<H", 3072) + b"\x86"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN"
    kind += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    pixels = block[:, 1:].tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += shape + kind + b"\x89T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in block[:, 0]) + b"e"
    files = b"](" + b"".join(text(f"picture_{i}.png".encode()) for i in range(IMAGES)) + b"e"
    items = {b"batch_label": text(b"made up"), b"labels": labels, b"data": array, b"filenames": files}
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


def unpickled(name):
    """What pickle makes of `pickled(name)`: it is a true batch."""
    return pickle.loads(pickled(name), encoding="latin1")


def tarred(files, kind="w:gz"):
    """An archive of `{name: bytes or TarInfo}`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=kind) as archive:
        for name, content in files.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return data.getvalue()


def python_version():
    names = [*ORDER[:1], "test_batch", *ORDER[1:]]
    return tarred({"cifar-10-batches-py/batches.meta": b"}."} | {f"cifar-10-batches-py/{n}": pickled(n) for n in names})


def binary_version():
    return tarred({f"cifar-10-batches-bin/{name}.bin": block for name, block in BLOCKS.items()})


def table(names):
    """The hub's table of these batches, rows one after another, pictures as PNG."""
    import pyarrow
    import pyarrow.parquet

    rows = []
    for record in np.concatenate([records(name) for name in names]):
        png = io.BytesIO()
        Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(png, "PNG")
        rows.append({"img": {"bytes": png.getvalue(), "path": None}, "label": int(record[0])})
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data, row_group_size=3)
    return data.getvalue()


def tables():
    return dict(zip(cifar10.TABLES, (table(["test_batch"]), table(ORDER)), strict=True))
