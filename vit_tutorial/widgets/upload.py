"""A reader's own files, from the page into Python."""

import io
import warnings

from ipywidgets import FileUpload

from ..datasets.decode import decode, short

MOST_BYTES = 9_000_000  # of a file: Jupyter's servers drop the connection at messages over 10 MiB


class Upload(FileUpload):
    """A button that takes files, the same in ipywidgets 7 and 8.

    upload = Upload(".zip", "Zip file")   # the kind of files, and what stands on the button
    upload.take()                         # afterwards
    """

    def __init__(self, accept, description):
        super().__init__(accept=accept, multiple=True, description=description)

    def take(self):
        """The files as `[(name, bytes)]`. The button forgets them, so that no notebook saves them."""
        if isinstance(self.value, dict):  # ipywidgets 7
            files = [(name, bytes(file["content"])) for name, file in self.value.items()]
            self.metadata, self.data = [], []
            self._counter = 0  # empties the value
        else:
            files = [(file["name"], bytes(file["content"])) for file in self.value]
            self.value = ()
        return files

    def __repr__(self):
        return f"Upload({self.accept!r}, {self.description!r})"


def read_upload(name, data):
    """The picture in the bytes `data` of a file as uint8 `(3, Y, X)`, RGB and upright, and its size `(Y, X)`.

    Of an animation the first frame; transparent parts become white. Raises `ValueError` for anything else.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"expected a file of at most {MOST_BYTES / 1e6:.0f} MB, found {short(name)!r} with {len(data) / 1e6:.1f} "
            "MB; save a smaller copy"
        )
    with warnings.catch_warnings(action="ignore"):  # what a strange file deserves is the sentence, not stderr
        image = decode(name, io.BytesIO(data))
    return image, tuple(image.shape[1:])
