"""A reader's own files, from the page into Python."""

import io
import warnings

import anywidget
from traitlets import Int, Unicode

from ..datasets.decode import decode, short
from ..datasets.names import named_as_picture, printable
from ..datasets.sources import MOST_BYTES, files_in_zip
from ..files import Refused
from .explorer import STATIC, module

MOST_LISTED = 8  # files that are named below the button


class Incoming:
    """An upload under way: its `key`, its files' names and sizes, and what has come of all of them."""

    def __init__(self, key, files):
        self.key, self.files, self.data = key, files, bytearray()
        self.size = sum(size for _, size in files)

    def split(self):
        """The files as `[(name, bytes)]`."""
        found, start = [], 0
        for name, size in self.files:
            found.append((name, bytes(self.data[start : start + size])))
            start += size
        return found


class Upload(anywidget.AnyWidget):
    """A button that takes files of up to 100 MB together, and says below it what has come.

    upload = Upload(".zip", "Zip file")   # the kind of files, and what they are called
    upload.take()                         # in the next cell

    They come in parts of 2 MiB, for Jupyter's servers drop the connection at messages over 10 MiB. They stay, in Python
    alone, until others are chosen: no notebook saves them.
    """

    _esm = module("upload.js")
    _css = (STATIC / "explorer.css").read_text(encoding="utf-8")

    accept = Unicode().tag(sync=True)
    description = Unicode().tag(sync=True)
    most_bytes = Int(MOST_BYTES).tag(sync=True)
    message = Unicode().tag(sync=True)  # what became of the files

    def __init__(self, accept, description):
        self._files, self._incoming, self._refusal = [], None, ""
        super().__init__(accept=accept, description=description)
        self.on_msg(self._hear)

    def __repr__(self):
        return f"Upload({self.accept!r}, {self.description!r})"

    def take(self):
        """The files as `[(name, bytes)]`, none where none were chosen.

        Raises `ValueError` where they are still on their way, or were refused: too large, or a broken zip file.
        """
        if self._incoming:
            have, size = map(in_units, (len(self._incoming.data), self._incoming.size))
            raise Refused(f"expected a finished upload, found {have} of {size}; wait for it, then run this cell again")
        if self._refusal:
            raise Refused(self._refusal)
        return list(self._files)

    # ------------------------------------------------------------------------------------------ what the page says

    def _hear(self, _, content, buffers):
        key = content.get("key")
        if "files" in content:
            self._begin(Incoming(key, content["files"]))
        elif self._incoming is None or key != self._incoming.key:
            return  # of an upload that was cancelled
        elif "stop" in content:
            self._incoming = None
        elif content["at"] == len(self._incoming.data):
            self._incoming.data += buffers[0]
            self._go_on()

    def _begin(self, incoming):
        self._files, self._incoming, self._refusal, self.message = [], incoming, "", ""
        if incoming.size > self.most_bytes:
            found = f"{listed(incoming.files)} with {in_units(incoming.size)}"
            self._end(
                refusal=f"expected at most {in_units(self.most_bytes)}, found {found}; choose less, or put it where "
                "Python runs and give its path"
            )
        else:
            self._go_on()

    def _go_on(self):
        have, size = len(self._incoming.data), self._incoming.size
        if have < size:
            self.send({"key": self._incoming.key, "have": have})
            return
        files = self._incoming.split()
        try:
            found = [contents(name, data) for name, data in files]
        except ValueError as error:
            self._end(refusal=str(error))
            return
        more = [f"and {len(found) - MOST_LISTED} more"] if len(found) > MOST_LISTED else []
        self._end(files, "\n".join([*found[:MOST_LISTED], *more, "Now run the next cell."]))

    def _end(self, files=(), message="", refusal=""):
        key, self._incoming = self._incoming.key, None
        self._files, self._refusal = list(files), refusal
        self.send({"key": key, "have": None})
        self.message = message or f"Nothing was taken: {refusal}."


def in_units(size):
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def listed(files):
    """The first file's name, and how many more there are."""
    first, more = short(printable(files[0][0])), len(files) - 1
    return f"{first!r}" + (f" and {more} more" if more else "")


def contents(name, data):
    """One line on an uploaded file: its name, its size, and of a zip file how many pictures are in it.

    Raises `ValueError` for a zip file that is broken, or unpacks to too much.
    """
    line = f"{short(printable(name))}, {in_units(len(data))}"
    if not name.lower().endswith(".zip"):
        return line
    found = [file for parts, file in files_in_zip(name, io.BytesIO(data), []) if named_as_picture(parts[-1])]
    count = sum(not isinstance(file, str) for file in found)  # a text is the reason why a file is left out
    return f"{line}: {count:,} picture{'s' * (count != 1)}"


def read_upload(name, data):
    """The picture in the bytes `data` of a file as uint8 `(3, Y, X)`, RGB and upright, and its size `(Y, X)`.

    Of an animation the first frame; transparent parts become white. Raises `ValueError` for anything else.
    """
    with warnings.catch_warnings(action="ignore"):  # what a strange file deserves is the sentence, not stderr
        image = decode(name, io.BytesIO(data))
    return image, tuple(image.shape[1:])
