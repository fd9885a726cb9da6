"""Zip files of pictures, and .tar.gz files in place of CIFAR-10's, that lead out, lie or unpack to too much."""

import gzip
import io
import os
import struct
import tarfile
import tempfile
import zipfile

from made_up_pictures import saved, scene

from vit_tutorial import datasets

from .case import cases, classes, harm, in_file, tenths

GROUP = "archives"
PETS = classes("cat", "dog", count=2)


def zipped(files, **options):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


GOOD = zipped(PETS)


def more(name, content=b"x"):
    """A good zip file with this member, a name or a ZipInfo, too."""
    data = io.BytesIO(GOOD)
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(name, content)
    return data.getvalue()


def zip_link():
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    return more(link, "/etc/passwd")


def forged(data, place, new):
    """The first member says something else of itself, `new` at `place`, in its own header and in the directory."""
    data = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", place), (b"PK\x01\x02", place + 2)):
        start = data.index(mark) + offset
        data[start : start + len(new)] = new
    return bytes(data)


def forged_name(name):
    """A good zip file with a member of this name, bytes of the same length, and no word about their encoding."""
    plain = b"cat/" + b"z" * (len(name) - 4)
    return more(plain.decode()).replace(plain, name)


def lying_size():
    return forged(zipped({"cat/zeros.png": bytes(200_000_000)} | PETS), 22, struct.pack("<I", 1000))


def many():
    return zipped({f"cat/{i}.png": b"" for i in range(100_001)})


def zeros():
    return zipped({f"cat/{i}.png": bytes(84_000_000) for i in range(60)}, compresslevel=1)


def read_zip(file):
    found = datasets.own_images([("pets.zip", file.read_bytes())], 16)
    return found.report() if found.skipped else f"read: {len(found)} pictures of {', '.join(found.images.classes)}"


OUT = "a path that leads out"
REPORTED_ZIPS = {
    "zip: up and out": (more("../evil.png"), rf"\.\./evil\.png: {OUT}"),
    "zip: absolute": (more("/etc/evil.png"), OUT),
    "zip: a drive": (more("C:/evil.png"), OUT),
    "zip: backslashes": (more("..\\evil.png"), OUT),
    "zip: up in the middle": (more("cat/../../evil.png"), OUT),
    "zip: a link": (zip_link(), r"link\.png: a link"),
    "zip: encrypted": (forged(GOOD, 6, b"\x01"), "encrypted"),
    "zip: an unknown compression": (forged(GOOD, 6, b"\0\0\x63"), "cannot be unpacked"),
    "zip: zip in zip": (more("cat/more.zip", GOOD), "more.zip: no PNG"),
    "zip: only dots": (more("././."), "in no class folder|no PNG|hidden"),
    "zip: a name of 60,000 letters": (more("cat/" + "a" * 60_000), "no PNG"),
    "zip: control characters": (more("cat/\x1b[2J\x07.png"), r"\\x1b\[2J\\x07\.png: no PNG"),
    "zip: right to left": (more("cat/\u202egnp.exe"), r"\\u202egnp"),
    "zip: newlines": (more("cat/a\nb\r.png"), r"a\\nb"),
    "zip: markup": (more("<script>alert(1)</script>/1.png"), "script"),
    "zip: a folder 500 deep": (more("cat/" + "a/" * 500 + "x.png"), "no PNG"),
    "zip: names in no encoding": (forged_name(b"cat/\xfe\xfd\x9b.png"), "damaged: zip the folder anew"),
    "zip: a name that says UTF-8 and is none": (forged(more("cat/\u00e9.png"), 6, b"\0\0"), "no PNG"),
    "zip: 200 MB that say 1 kB": (lying_size, "cannot be unpacked|no PNG"),
}
REFUSED_ZIPS = {
    "zip: 100,001 files": (many, "at most 100,000 files"),
    "zip: 5 GB of zeros": (zeros, "found 60 and 5.0 GB"),
    "zip: half": (GOOD[:-400], "broken"),
    "zip: nothing": (b"", "complete zip file"),
    "zip: a text": (b"hello", "complete zip file"),
    "zip: no members": (zipped({}), "at least 2 folders"),
    "zip: a central directory without files": (b"PK\x05\x06" + bytes(18), "at least 2 folders"),
    "zip: a directory of 4 GB": (GOOD[:-22] + b"PK\x05\x06" + b"\xff" * 18, "broken|zip"),
    **tenths("zip: {}", GOOD, "broken"),
}
READ_ZIPS = {"zip: one name twice": (lambda: more("cat/0.png", saved(scene(50))), "read: 5 pictures of cat, dog")}


def tarred(member, content=None):
    """A .tar.gz of one member: a name and its content, or a TarInfo alone."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
        info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
        info.size = len(content or b"")
        archive.addfile(info, io.BytesIO(content or b""))
    return data.getvalue()


BATCH = "cifar-10-batches-py/test_batch"


def special(kind, target=""):
    info = tarfile.TarInfo(BATCH)
    info.type, info.linkname = kind, target
    return tarred(info)


def nothing():
    data = io.BytesIO()
    tarfile.open(fileobj=data, mode="w:gz").close()
    return data.getvalue()


def sparse_tar():
    """A file of 1 TB, all of it a hole."""
    info = tarfile.TarInfo("x/test_batch")
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[156:157] = b"S"
    data[386 : 386 + 96] = bytes(96)
    data[483:495] = b"\x80" + bytes(3) + struct.pack(">Q", 10**12)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return gzip.compress(bytes(data) + bytes(1024))


def read_tar(file):
    with tempfile.TemporaryDirectory(dir=file.parent.parent) as root:
        datasets.download_cifar10(root, file)


DEVICE = "a link or a device"
TARS = {
    "tar: up and out": (tarred("../evil", b"x"), "'../evil', which leads out"),
    "tar: absolute": (tarred("/etc/evil", b"x"), "which leads out"),
    "tar: a drive": (tarred("C:\\evil", b"x"), "which leads out"),
    "tar: symlink": (special(tarfile.SYMTYPE, "/etc/passwd"), DEVICE),
    "tar: hardlink": (special(tarfile.LNKTYPE, "/etc/passwd"), DEVICE),
    "tar: character device": (special(tarfile.CHRTYPE), DEVICE),
    "tar: block device": (special(tarfile.BLKTYPE), DEVICE),
    "tar: pipe": (special(tarfile.FIFOTYPE), DEVICE),
    "tar: a pickle that would run a command": (tarred(BATCH, harm("touch harmed")), "found others"),
    "tar: a pickle without an end": (tarred(BATCH, b"\x80\x02}(U\x06labels"), "found it broken"),
    "tar: a hole of 1 TB": (sparse_tar(), "larger|broken"),
    "tar: other images": (lambda: tarred("x/test_batch.bin", bytes(30_730_000)), "found others"),
    "tar: no members": (nothing(), "found none of data_batch_1"),
    "tar: a batch of 45 MB": (lambda: tarred(BATCH, bytes(45_000_000)), "at most 40 MB"),
    "tar: a zip file": (GOOD, "complete .tar.gz archive, found it broken"),
    "tar: half": (tarred(BATCH, os.urandom(9999))[:5000], "found it broken"),
    "tar: nothing": (b"", "broken|found none"),
    "tar: a name of 10 MB": (lambda: tarred("x" * 10_000_000), "found none of"),
    "tar: 1 GB of zeros": (lambda: tarred("x", bytes(10**9)), "300 MB unpacked"),
    "tar: a name of 400 MB": (lambda: tarred("x" * 400_000_000), "300 MB unpacked"),
}

from_zip, from_tar = in_file("pets.zip", read_zip), in_file("cifar-10-python.tar.gz", read_tar)
SLOW = ("100,001 files", "5 GB", "200 MB", "other images", "of 45 MB", "of 10 MB", "1 GB", "of 400 MB")
CASES = [
    *cases(GROUP, from_zip, "report", REPORTED_ZIPS, SLOW),
    *cases(GROUP, from_zip, "error", REFUSED_ZIPS, SLOW),
    *cases(GROUP, from_zip, "read", READ_ZIPS),
    *cases(GROUP, from_tar, "error", TARS, SLOW),
]
