"""CIFAR-10's batches in the files that its sources give: archives of its two original versions, tables of the hub.

Each becomes bytes of records. Of the version that consists of pickles the opcodes are read; nothing is unpickled, and
nothing is unpacked to the disk.
"""

import gzip
import io
import pickletools
import tarfile
from contextlib import contextmanager

import numpy as np

from .decode import decode, short

RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the pixels (3, 32, 32)
IMAGES = 10_000  # in each batch
NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
MOST_BYTES = 300_000_000  # of a file, packed or unpacked: the largest has 186 million
MOST_BATCH = 40_000_000  # of one batch in an archive: the largest has 31 million


class Refused(ValueError):
    """Why a file is not read."""


class Bounded(io.RawIOBase):
    """A file that ends in an error after `MOST_BYTES`: an archive may unpack to any size."""

    def __init__(self, file):
        self.file, self.left = file, MOST_BYTES

    def read(self, count):
        data = self.file.read(min(count, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise Refused(f"expected an archive of at most {MOST_BYTES / 1e6:.0f} MB unpacked, found more")
        return data


@contextmanager
def refusing(expected):
    """What a broken or hostile file provokes in other libraries, whatever it is, as `Refused`."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"expected {expected}, found it broken ({error!r:.100})") from None


def batches_of_tar(path):
    """The records of each batch in an archive of either version of the original.

    Raises `ValueError` for a file that is none, or that holds links, devices or paths that lead out of it.
    """
    with (
        refusing("a complete .tar.gz archive"),
        gzip.open(path) as unpacked,
        tarfile.open(fileobj=Bounded(unpacked), mode="r|") as archive,  # a plain tar, in pieces
    ):
        for member in archive:
            parts, shown = member.name.replace("\\", "/").split("/"), repr(short(member.name))
            if not (member.isreg() or member.isdir()):
                raise Refused(f"expected files and folders in the archive, found {shown}, a link or a device")
            if ".." in parts or not parts[0] or ":" in parts[0]:
                raise Refused(f"expected paths inside the archive, found {shown}, which leads out of it")
            if parts[-1].removesuffix(".bin") not in NAMES or member.isdir():
                continue
            if member.size > MOST_BATCH:  # or claims to be: a sparse file takes no room in the archive
                raise Refused(f"expected a batch of at most {MOST_BATCH / 1e6:.0f} MB, found {shown} larger")
            batch = archive.extractfile(member).read()
            yield batch if parts[-1].endswith(".bin") else records_of_pickle(batch)


def records_of_pickle(data):
    """The records in a batch of the version for Python, read as a list of opcodes: nothing in it is executed.

    A batch is the dict `{"labels": [int, ...], "data": array (n, 3072), ...}`, pickled by Python 2. Raises
    `ValueError` for anything else.
    """
    key, labels, pixels = None, bytearray(), b""
    with refusing("a batch of CIFAR-10"):
        for opcode, value, _ in pickletools.genops(data):
            if value in ("batch_label", "labels", "data", "filenames"):
                key = value
            elif key == "labels" and opcode.name == "BININT1":
                labels.append(value)
            elif key == "data" and opcode.name == "BINSTRING" and len(value) > len(pixels):
                pixels = value.encode("latin-1")
        pixels = np.frombuffer(pixels, np.uint8).reshape(len(labels), RECORD - 1)
        return np.column_stack([np.frombuffer(labels, np.uint8), pixels]).tobytes()


def batches_of_parquet(path):
    """The records of each 10,000 rows of a table of the hub: pictures as PNG files, and labels.

    Raises `ValueError` for another table.
    """
    import pyarrow.parquet

    records = bytearray()
    with refusing("the hub's table of CIFAR-10"), pyarrow.parquet.ParquetFile(path) as table:
        groups = range(table.metadata.num_row_groups)
        if sum(table.metadata.row_group(i).total_byte_size for i in groups) > MOST_BYTES:
            raise Refused(f"expected a table of at most {MOST_BYTES / 1e6:.0f} MB unpacked, found more")
        for rows in table.iter_batches(1000, columns=["img", "label"]):
            for row in rows.to_pylist():
                image = decode("of a row", io.BytesIO(row["img"]["bytes"]))
                if image.shape != (3, 32, 32):
                    raise Refused(f"expected pictures of 32 x 32 pixels, found {image.shape[2]} x {image.shape[1]}")
                records.append(row["label"])
                records += image.numpy().tobytes()
                if len(records) == IMAGES * RECORD:
                    yield bytes(records)
                    records.clear()
