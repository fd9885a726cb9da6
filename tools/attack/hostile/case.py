"""What a case is, and what several kinds of input are made of."""

import os
from collections.abc import Callable
from typing import NamedTuple

from made_up_pictures import saved, scene

from vit_tutorial import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=4, num_classes=2, embed_dim=12, depth=2, num_heads=3)


class Case(NamedTuple):
    """`make(folder)` prepares the input and returns the call to be tried, which raises, or returns what it reports."""

    group: str
    name: str
    make: Callable
    verdict: str  # error, report or read
    message: str  # a pattern of what is said
    slow: bool = False  # takes a second or more


def cases(group, make, verdict, table, slow=()):
    """A case for each `name: (input, message)`, made by `make(input)`. `slow` are words in the names of slow ones."""
    return [
        Case(group, name, make(data), verdict, message, any(word in name for word in slow))
        for name, (data, message) in table.items()
    ]


def in_file(path, read):
    """A `make` for `cases`: the input, bytes or what returns them, is written to a file, and `read(file)` is tried."""

    def make(data):
        def prepare(folder):
            write(folder, {path: data() if callable(data) else data})
            return lambda: read(folder / path)

        return prepare

    return make


def tenths(name, data, message):
    """A table of the first tenths of the data; `name` has a place for how much."""
    return {name.format(f"the first {n}0 %"): (data[: len(data) * n // 10], message) for n in range(1, 10)}


def write(folder, files):
    """Write `{path: bytes}` into the folder and return it; a path may be no text."""
    for name, data in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    return folder


def classes(*names, count=3):
    """Pictures of their own for each class, {path: bytes}."""
    return {f"{name}/{i}.png": saved(scene(10 * c + i)) for c, name in enumerate(names) for i in range(count)}


def harm(command):
    """A pickle that runs a command when it is read."""
    return f"cos\nsystem\n(S'{command}'\ntR.".encode()


class Harmful:
    """What makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)
