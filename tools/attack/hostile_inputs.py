"""Broken and hostile input of every kind, and what the course says to each: `python tools/hostile_inputs.py [GROUP]`.

Each case is tried in a process of its own with a limit on memory and time. The verdict must be the one that the table
names: `error` (a ValueError or OSError of one line; on the command line status 2), `report` (the file is named with the
reason, the rest is used) or `read` (unusual, but right). No file may be changed or lost, and none appear.
`tests/test_hostile.py` tries the same cases, but for the slow ones, in one process. Needs Linux.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import namedtuple
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from made_up_pictures import saved, scene
from PIL import Image
from safetensors.torch import save

from vit_tutorial import VisionTransformer, ViTConfig, check, cli, datasets, drawings, plots, training, weights, widgets
from vit_tutorial.check import progress
from vit_tutorial.training import History
from vit_tutorial.training.checkpoint import recipe_from

cifar10 = import_module("vit_tutorial.datasets.cifar10")
MEMORY = 1 << 30  # bytes that a case may take beyond what Python and torch take
SECONDS = 60
SLOW = (  # words in the names of cases that take a second or more
    "10,001 files",
    "no end",
    "of 10 MB",
    "200 MB that",
    "to 100 MB",
    "of 150 MB",
    "of 45 MB",
    "tar: other images",
    "EncoderStepper",
    "vit_pipeline",
)
Case = namedtuple("Case", "group name make verdict message slow")
CASES = []


def add(group, name, make, verdict, message, slow=False):
    """`make(folder)` prepares the input and returns the call to be tried, which raises, or returns what it reports."""
    CASES.append(Case(group, name, make, verdict, message, slow or any(word in name for word in SLOW)))


# ------------------------------------------------------------------------------------------------ images


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, colours=2):
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def patched(data, place, new):
    return data[:place] + new + data[place + len(new) :]


def jpeg_of_size(width, height):
    data = saved(scene(), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def large_png(mode, side=6300):
    """All of one colour: 39.7 million pixels in a few kB."""
    return saved(Image.new(mode, (side, side)), compress_level=1)


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def two_classes(count=2):
    return {f"{name}/{i}.png": saved(scene(9 * c + i)) for c, name in enumerate(("cat", "dog")) for i in range(count)}


def in_a_folder(data, name="odd.png"):
    """Both readers: `own_images` lists the file, and `read_image` names it in its error."""

    def make(folder):
        write(folder, two_classes() | {f"cat/{name}": data() if callable(data) else data})

        def call():
            found = datasets.own_images(folder, 16)
            listed = dict(found.skipped).get(f"cat/{name}")
            try:
                image = datasets.read_image(folder / "cat" / name, 16)
            except ValueError as error:
                if not listed or listed not in str(error) or str(folder) not in str(error):
                    raise AssertionError(f"one reader says {listed}, the other {error}") from None
                return f"{name}: {listed}"
            if listed:
                raise AssertionError(f"own_images says {listed}, read_image reads")
            return f"read as {tuple(image.shape)}"

        return call

    return make


KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
for kind in KINDS:
    whole = saved(scene(1), kind)
    for tenth in range(1, 10):
        part = whole[: len(whole) * tenth // 10]
        add("images", f"{kind}, the first {tenth}0 %", in_a_folder(part), "report", "broken|no PNG")

TURNED = Image.Exif()
TURNED[0x0112] = 6
ODD_TURN = Image.Exif()
ODD_TURN[0x0112] = 99
GREY = np.asarray(scene(1).convert("L")).astype(np.uint16) * 257
FRAMES = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(40)]
READ = {
    "16 bits of grey, PNG": saved(Image.fromarray(GREY)),
    "16 bits of grey, TIFF": saved(Image.fromarray(GREY), "TIFF"),
    "CMYK": saved(scene(1).convert("CMYK"), "JPEG"),
    "1 bit": saved(scene(1).convert("1")),
    "palette with transparency": saved(scene(1).convert("P"), transparency=3),
    "grey with transparency": saved(scene(1).convert("LA")),
    "animated GIF": saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "animated PNG": saved(FRAMES[0], save_all=True, append_images=FRAMES[1:]),
    "animated WebP": saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
    "EXIF: turned": saved(scene(1), "JPEG", exif=TURNED),
    "EXIF: turned into nowhere": saved(scene(1), "JPEG", exif=ODD_TURN),
    "EXIF: nonsense": saved(scene(1), "JPEG", exif=b"Exif\0\0" + bytes(range(200))),
    "ICC profile: nonsense": saved(scene(1), icc_profile=bytes(range(256))),
    "one pixel": saved(Image.new("RGB", (1, 1))),
    "very wide": saved(Image.new("RGB", (20_000, 2))),
    "another kind than its name": saved(scene(1), "BMP"),
    "pixels that unpack to 100 MB": png(8, 8, chunk(b"IDAT", zlib.compress(bytes(100_000_000)))),
    "data after the end": saved(scene(1)) + b"<script>alert(1)</script>",
}
for name, data in READ.items():
    add("images", name, in_a_folder(data), "read", r"read as \(3, 16, 16\)")
for mode in ("RGB", "RGBA", "L", "I;16", "P", "1", "LA", "CMYK"):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    make = (lambda mode=mode: large_png(mode)) if kind == "PNG" else (lambda: tiff_of_one_colour())
    add("images", f"39.7 million pixels, {mode}", in_a_folder(make), "read", "read as", slow=True)


def tiff_of_one_colour():
    return saved(Image.new("CMYK", (6300, 6300)), "TIFF", compression="tiff_lzw")


def four_large(folder):
    """Four at once: the reader works in threads."""
    write(folder, two_classes(1) | dict.fromkeys((f"cat/{i}.png" for i in range(2, 6)), large_png("RGBA")))
    return lambda: datasets.own_images(folder, 16).report()


add("images", "four of 39.7 million pixels at once", four_large, "read", "cat: 5", slow=True)
LIES = {
    "60,000 x 60,000 PNG": (lambda: png(60_000, 60_000, chunk(b"IDAT", b"")), "decompression bomb"),
    "9,000 x 9,000 PNG": (lambda: png(9_000, 9_000, chunk(b"IDAT", b"")), "9000 x 9000 pixels.*bomb"),
    "2 billion x 2 billion PNG": (lambda: png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", b"")), "bomb|no PNG"),
    "0 x 0 PNG": (lambda: png(0, 0, chunk(b"IDAT", b"")), "no PNG|broken"),
    "65,535 x 65,535 JPEG": (lambda: jpeg_of_size(65_535, 65_535), "bomb"),
    "65,535 x 65,535 GIF": (lambda: patched(saved(scene(), "GIF"), 6, b"\xff\xff\xff\xff"), "bomb"),
    "30,000 x 30,000 BMP": (lambda: patched(saved(scene(), "BMP"), 18, struct.pack("<ii", 30_000, 30_000)), "bomb"),
    "text that unpacks to 100 MB": (
        lambda: png(1, 1, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))), chunk(b"IDAT", b"")),
        "no PNG|broken",
    ),
    "wrong checksums": (lambda: saved(scene()).replace(b"IDAT", b"IDAX"), "broken|no PNG"),
    "a float TIFF": (lambda: saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), "broken or of a rare kind"),
    "zero bytes": (b"", "no PNG"),
    "a thousand zeros": (bytes(1000), "no PNG"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "no PNG"),
    "HTML": (b"<img src=x onerror=alert(1)>", "no PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG"),
    "PDF": (b"%PDF-1.7\n", "no PNG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "no PNG"),
    "a pickle": (pickle.dumps([1, 2]), "no PNG"),
    "only a PNG's first 8 bytes": (b"\x89PNG\r\n\x1a\n", "no PNG"),
}
for name, (data, message) in LIES.items():
    add("images", name, in_a_folder(data), "report", message)

# ------------------------------------------------------------------------------------------------ archives


def zipped(files, **options):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def more(files):
    """A good zip file with these members too."""
    data = io.BytesIO(zipped(two_classes()))
    with zipfile.ZipFile(data, "a") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return data.getvalue()


def zip_link():
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    return more([(link, "/etc/passwd")])


def flagged(data, flag):
    """The first member says that it is encrypted, or of an unknown kind."""
    data = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(mark) + offset
        data[place : place + len(flag)] = flag
    return bytes(data)


def lying_size():
    """A member that says 1 kB and unpacks to 200 MB."""
    data = bytearray(zipped({"cat/zeros.png": bytes(200_000_000)} | two_classes()))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark) + offset
        data[place : place + 4] = struct.pack("<I", 1000)
    return bytes(data)


def from_zip(data):
    def make(folder):
        content = data() if callable(data) else data

        def call():
            found = datasets.own_images([("pets.zip", content)], 16)
            if not found.skipped:
                return f"read: {len(found)} pictures of {', '.join(found.images.classes)}"
            return found.report()

        return call

    return make


MANY = {f"cat/{i}.png": b"" for i in range(10_001)}
ZIPS = {
    "up and out": (lambda: more([("../evil.png", b"x")]), "report", r"\.\./evil\.png: a path that leads out"),
    "absolute": (lambda: more([("/etc/evil.png", b"x")]), "report", "a path that leads out"),
    "a drive": (lambda: more([("C:/evil.png", b"x")]), "report", "a path that leads out"),
    "backslashes": (lambda: more([("..\\evil.png", b"x")]), "report", "a path that leads out"),
    "up in the middle": (lambda: more([("cat/../../evil.png", b"x")]), "report", "a path that leads out"),
    "a link": (zip_link, "report", r"link\.png: a link"),
    "encrypted": (lambda: flagged(zipped(two_classes(3)), b"\x01"), "report", "encrypted"),
    "an unknown compression": (lambda: flagged(zipped(two_classes(3)), b"\0\0\x63"), "report", "cannot be unpacked"),
    "zip in zip": (lambda: more([("cat/more.zip", zipped(two_classes()))]), "report", "more.zip: no PNG"),
    "one name twice": (lambda: more([("cat/0.png", saved(scene(50)))]), "read", "read: 5 pictures of cat, dog"),
    "only dots": (lambda: more([("././.", b"x")]), "report", "in no class folder|no PNG|hidden"),
    "a name of 60,000 letters": (lambda: more([("cat/" + "a" * 60_000, b"x")]), "report", "no PNG"),
    "control characters": (lambda: more([("cat/\x1b[2J\x07.png", b"x")]), "report", r"\\x1b\[2J\\x07\.png: no PNG"),
    "right to left": (lambda: more([("cat/\u202egnp.exe", b"x")]), "report", r"\\u202egnp"),
    "newlines": (lambda: more([("cat/a\nb\r.png", b"x")]), "report", r"a\\nb"),
    "markup": (lambda: more([("<script>alert(1)</script>/1.png", b"x")]), "report", "script"),
    "a folder 500 deep": (lambda: more([("cat/" + "a/" * 500 + "x.png", b"x")]), "report", "no PNG"),
    "10,001 files": (lambda: zipped(MANY), "error", "at most 10,000 files"),
    "200 MB that say 1 kB": (lying_size, "report", "cannot be unpacked|no PNG"),
    "half": (lambda: zipped(two_classes())[:-400], "error", "broken"),
    "nothing": (b"", "error", "complete zip file"),
    "a text": (b"hello", "error", "complete zip file"),
    "no members": (lambda: zipped({}), "error", "at least 2 folders"),
    "a central directory without files": (b"PK\x05\x06" + bytes(18), "error", "at least 2 folders"),
    "a directory of 4 GB": (lambda: zipped(two_classes())[:-22] + b"PK\x05\x06" + b"\xff" * 18, "error", "broken|zip"),
}
for name, (data, verdict, message) in ZIPS.items():
    add("archives", f"zip: {name}", from_zip(data), verdict, message)
for tenth in range(1, 10):
    content = zipped(two_classes())
    add("archives", f"zip: the first {tenth}0 %", from_zip(content[: len(content) * tenth // 10]), "error", "broken")


def bomb_zip():
    """5 GB of zeros in 60 members."""
    return zipped({f"cat/{i}.png": bytes(84_000_000) for i in range(60)}, compresslevel=1)


add("archives", "zip: 5 GB of zeros", from_zip(bomb_zip), "error", "found 60 and 5.0 GB", slow=True)


def tarred(*members):
    """A .tar.gz of `(name, bytes)` or TarInfos."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as archive:
        for entry in members:
            info, content = (
                (entry, None) if isinstance(entry, tarfile.TarInfo) else (tarfile.TarInfo(entry[0]), entry[1])
            )
            if content is not None:
                info.size = len(content)
            archive.addfile(info, None if content is None else io.BytesIO(content))
    return data.getvalue()


def special(kind, target=""):
    info = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    info.type, info.linkname = kind, target
    return info


def from_tar(data):
    def make(folder):
        file = folder / "cifar-10-python.tar.gz"
        file.write_bytes(data())

        def call():
            with tempfile.TemporaryDirectory(dir=folder.parent) as root:
                datasets.download_cifar10(root, file)

        return call

    return make


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


def harm(command):
    return f"cos\nsystem\n(S'{command}'\ntR.".encode()


BATCH = "cifar-10-batches-py/test_batch"
TARS = {
    "up and out": (lambda: tarred(("../evil", b"x")), "'../evil', which leads out"),
    "absolute": (lambda: tarred(("/etc/evil", b"x")), "which leads out"),
    "a drive": (lambda: tarred(("C:\\evil", b"x")), "which leads out"),
    "symlink": (lambda: tarred(special(tarfile.SYMTYPE, "/etc/passwd")), "a link or a device"),
    "hardlink": (lambda: tarred(special(tarfile.LNKTYPE, "/etc/passwd")), "a link or a device"),
    "character device": (lambda: tarred(special(tarfile.CHRTYPE)), "a link or a device"),
    "block device": (lambda: tarred(special(tarfile.BLKTYPE)), "a link or a device"),
    "pipe": (lambda: tarred(special(tarfile.FIFOTYPE)), "a link or a device"),
    "a pickle that would run a command": (lambda: tarred((BATCH, harm("touch harmed"))), "found others"),
    "a pickle without an end": (lambda: tarred((BATCH, b"\x80\x02}(U\x06labels")), "found it broken"),
    "a hole of 1 TB": (sparse_tar, "larger|broken"),
    "other images": (lambda: tarred(("x/test_batch.bin", bytes(30_730_000))), "found others"),
    "no members": (lambda: tarred(), "found none of data_batch_1"),
    "a batch of 45 MB": (lambda: tarred((BATCH, bytes(45_000_000))), "at most 40 MB"),
    "a zip file": (lambda: zipped(two_classes()), "complete .tar.gz archive, found it broken"),
    "half": (lambda: tarred((BATCH, os.urandom(9999)))[:5000], "found it broken"),
    "nothing": (lambda: b"", "broken|found none"),
    "a name of 10 MB": (lambda: tarred(("x" * 10_000_000, b"")), "found none of"),
}
for name, (data, message) in TARS.items():
    add("archives", f"tar: {name}", from_tar(data), "error", message)
add(
    "archives",
    "tar: 1 GB of zeros",
    from_tar(lambda: tarred(("x", bytes(10**9)))),
    "error",
    "300 MB unpacked",
    slow=True,
)
add(
    "archives",
    "tar: a name of 400 MB",
    from_tar(lambda: tarred(("x" * 400_000_000, b""))),
    "error",
    "300 MB unpacked",
    slow=True,
)

# ------------------------------------------------------------------------------------------------ checkpoints

CONFIG = ViTConfig(image_size=16, patch_size=4, num_classes=2, embed_dim=12, depth=2, num_heads=3)
torch.manual_seed(0)
STATE = VisionTransformer(CONFIG).state_dict()


def checkpoint(state=STATE, config=None, **metadata):
    """The bytes of a checkpoint; `config` are changes to the right one."""
    values = json.dumps(asdict(CONFIG) | (config or {}))
    return save(state, {"format": weights.FORMAT, "config": values} | metadata)


def tensors(header, data=b""):
    """A safetensors file with this header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def from_checkpoint(data):
    def make(folder):
        file = folder / "model.safetensors"
        file.write_bytes(data() if callable(data) else data)
        return lambda: f"read: {len(weights.load(file).state_dict())} tensors"

    return make


def torch_zip():
    data = io.BytesIO()
    torch.save(STATE, data)
    return data.getvalue()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


ONE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
FILES = {
    "empty": (b"", "unreadable"),
    "a pickle": (pickle.dumps(Evil()), "unreadable"),
    "a file of torch.save": (torch_zip, "unreadable"),
    "a header of 2^63 bytes": (struct.pack("<Q", 2**63) + bytes(100), "unreadable"),
    "a header longer than the file": (struct.pack("<Q", 10**6) + b"{}", "unreadable"),
    "a header of 150 MB": (lambda: tensors(b" " * 150_000_000 + b"{}"), "unreadable"),
    "a header that is no JSON": (tensors(b"hello"), "unreadable"),
    "a header that is a list": (tensors([1]), "unreadable"),
    "a header 100,000 deep": (tensors(b"[" * 100_000), "unreadable"),
    "an unknown dtype": (tensors({"a": ONE | {"dtype": "F128"}}, bytes(16)), "unreadable"),
    "offsets beyond the end": (tensors({"a": ONE | {"data_offsets": [0, 10**12]}}, bytes(16)), "unreadable"),
    "offsets backwards": (tensors({"a": ONE | {"data_offsets": [16, 0]}}, bytes(16)), "unreadable"),
    "offsets that overlap": (tensors({"a": ONE, "b": ONE}, bytes(16)), "unreadable"),
    "a shape of 2^80 numbers": (tensors({"a": ONE | {"shape": [2**40, 2**40]}}, bytes(16)), "unreadable"),
    "metadata that is no text": (tensors({"__metadata__": {"format": 1}, "a": ONE}, bytes(16)), "unreadable"),
    "no metadata": (lambda: save(STATE), "format None"),
    "another format": (lambda: checkpoint(format="pt"), "format 'pt'"),
    "a weight missing": (lambda: checkpoint({n: v for n, v in STATE.items() if n != "norm.weight"}), "missing norm"),
    "a weight too many": (lambda: checkpoint(STATE | {"extra": torch.zeros(1)}), "surplus extra"),
    "another shape": (lambda: checkpoint(STATE | {"head.bias": torch.zeros(7)}), "misshaped head.bias"),
    "a weight of no numbers": (lambda: checkpoint(STATE | {"head.bias": torch.zeros(0)}), "misshaped head.bias"),
    "NaN": (lambda: checkpoint(STATE | {"norm.bias": torch.full((12,), torch.nan)}), "finite.* norm.bias"),
    "infinity": (lambda: checkpoint(STATE | {"head.bias": torch.full((2,), torch.inf)}), "finite.* head.bias"),
    "no config": (lambda: save(STATE, {"format": weights.FORMAT}), "a model config inside"),
    "a config that is no JSON": (
        lambda: checkpoint() and save(STATE, {"format": weights.FORMAT, "config": "{"}),
        "config",
    ),
    "a config that is a list": (lambda: save(STATE, {"format": weights.FORMAT, "config": "[1]"}), "config"),
    "a config 100,000 deep": (lambda: save(STATE, {"format": weights.FORMAT, "config": "[" * 100_000}), "config"),
    "an unknown setting": (lambda: checkpoint(config={"colour": "red"}), "config"),
    "an eps that is no number": (lambda: checkpoint(norm_eps='"a"'), "eps|config"),
    "an eps that is NaN": (lambda: checkpoint(norm_eps="NaN"), "eps|config"),
    "an eps below 0": (lambda: checkpoint(norm_eps="-1"), "eps|config"),
}
for name, (data, message) in FILES.items():
    add("checkpoints", name, from_checkpoint(data), "error", message)
for tenth in range(1, 10):
    add(
        "checkpoints",
        f"the first {tenth}0 %",
        from_checkpoint(checkpoint()[: len(checkpoint()) * tenth // 10]),
        "error",
        "un",
    )
LIES = {
    "image_size": ["16", None, 0, -16, [16], [16, 16, 16], 10**9, 16.0, [16, "16"]],
    "patch_size": ["4", 0, None, 10**9],
    "in_channels": [10**9, -1, None, True],
    "num_classes": [10**12, 0, "2", 2.0],
    "embed_dim": [10**9, 24, None, "12"],
    "depth": [10**9, 3, 1, -1, 2.5],
    "num_heads": [0, 5, "3", None],
    "mlp_ratio": [10**9, -1, "4", None, float("nan"), float("inf")],
    "dropout": [2, -1, "0", None, float("nan")],
    "drop_path": [1.0, "0"],
    "pool": ["max", None, 1],
    "position": ["fourier", []],
    "mean": [[1], "abc", None, [None] * 3, [float("nan")] * 3],
    "std": [[0.0] * 3, [-1.0] * 3, "abc", 5],
    "classes": [["a"], "ab", 5, [1, 2]],
}
for setting, values in LIES.items():
    for value in values:
        make = from_checkpoint(lambda setting=setting, value=value: checkpoint(config={setting: value}))
        add("configs", f"{setting} {value}", make, "error", "expected")

# ------------------------------------------------------------------------------------------------ runs and records

RECIPE = training.Recipe(model=CONFIG)


def record(**changes):
    return {"info": {"recipe": asdict(RECIPE), "seed": 0}, "steps": {"loss": [1.0], "learning_rate": [0.1]}} | changes


EPOCH = {"epoch": 0.0, "seconds": 0.0, "train_loss": None, "test_loss": 1.0, "test_accuracy": 0.1}
RECORDS = {
    "empty": "",
    "a text": "hello",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "100,000 deep": "[" * 100_000,
    "100,000 deep inside": '{"info": ' + '{"a":' * 100_000,
    "a number of 10,000 digits": '{"stopped": ' + "1" * 10_000 + "}",
    "half": json.dumps(record())[:60],
    "bytes that are no text": b"\xff\xfe\x00",
    "an unknown part": json.dumps(record(colour="red")),
    "info is a list": json.dumps(record(info=[])),
    "steps is a number": json.dumps(record(steps=3)),
    "no losses": json.dumps(record(steps={})),
    "losses are texts": json.dumps(record(steps={"loss": ["a"], "learning_rate": [0.1]})),
    "more losses than rates": json.dumps(record(steps={"loss": [1.0, 2.0], "learning_rate": [0.1]})),
    "epochs is a text": json.dumps(record(epochs="abc")),
    "epochs are numbers": json.dumps(record(epochs=[1, 2])),
    "an epoch without an accuracy": json.dumps(record(epochs=[{"epoch": 1}])),
    "an accuracy that is a text": json.dumps(record(epochs=[EPOCH | {"test_accuracy": "<b>high</b>"}])),
    "stopped is a text": json.dumps(record(stopped="yes")),
}


def from_record(text):
    def make(folder):
        file = folder / "history.json"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

        def call():
            history = History.load(file)
            plots.png(plots.training_curve(history))
            return f"read: accuracy {history.accuracy}"

        return call

    return make


for name, text in RECORDS.items():
    add("runs", f"record: {name}", from_record(text), "error", "expected a run record written by History.save, found")
add(
    "runs",
    "record: NaN losses",
    from_record(json.dumps(record(steps={"loss": [float("nan")], "learning_rate": [0.1]}, epochs=[EPOCH]))),
    "read",
    "read: accuracy 0.1",
)
add("runs", "record: none there", lambda folder: lambda: History.load(folder / "none.json"), "error", "none.json")
add("runs", "record: a folder", lambda folder: lambda: History.load(folder), "error", "expected|directory")

RECIPES = {
    "epochs": [0, -1, "3", float("nan")],
    "batch_size": [0, -1, 2.5, "a"],
    "learning_rate": [-1.0, float("nan"), float("inf"), "a"],
    "muon_learning_rate": [-1.0, "a"],
    "weight_decay": [-1.0, float("nan")],
    "warmup": [-0.1, 1.5, "a"],
    "clip_norm": [-1.0, "a"],
    "label_smoothing": [-0.1, 1.5],
    "ema": [-0.1, 1.0, "a"],
    "crop": [-1, 2.5, "a"],
    "patch_dropout": [-0.1, 1.0],
    "cutmix": [-0.1, 1.5],
    "clean_from": [-0.1, 1.5],
    "initialise": [["soup"], "patches"],
    "body_rate": [-1.0],
    "layer_decay": [-1.0, float("nan")],
    "model": [None, 3, {"depth": -1}],
    "colour": ["red"],
}
for setting, values in RECIPES.items():
    for value in values:

        def make(folder, setting=setting, value=value):
            text = json.dumps(asdict(RECIPE) | {setting: value})
            return lambda: recipe_from(json.loads(text))

        add("configs", f"recipe: {setting} {value}", make, "error", "expected")


def command(*line):
    """A call of the command line: an error where it ends in status 2, and one line."""

    def call():
        out, err, status = io.StringIO(), io.StringIO(), None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main([str(part) for part in line])
            except SystemExit as error:  # of argparse, whose lines before the last are the usage
                status = error.code
                err = io.StringIO(err.getvalue().strip().splitlines()[-1])
        text = err.getvalue().strip()
        if status == 2 and "Traceback" not in text:
            raise ValueError("\n".join(row for row in text.splitlines() if not row.startswith("training")))
        if status:
            raise AssertionError(f"status {status}: {text}")
        return out.getvalue()

    return call


def resumed(data):
    def make(folder):
        (folder / "run").mkdir()
        (folder / "run" / "checkpoint.pt").write_bytes(data() if callable(data) else data)
        return command("train", "--resume", folder / "run")

    return make


def torch_saved(value):
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


def torch_bomb():
    """A file of torch.save whose pickle is 2 GB of zeros, packed."""
    data, zeros = io.BytesIO(), bytes(10**8)
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
            for _ in range(20):
                file.write(zeros)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


RUNS = {
    "empty": b"",
    "a text": b"hello",
    "a pickle that would run a command": harm("touch harmed"),
    "a pickle inside a zip file": lambda: torch_saved(Evil()),
    "a list": lambda: torch_saved([1, 2]),
    "weights": lambda: torch_saved(STATE),
    "the right format alone": lambda: torch_saved({"format": "vit_tutorial run 1"}),
    "a safetensors file": checkpoint,
    "a memo of 2 billion entries": b"\x80\x02r\xff\xff\xff\x7f.",
    "lists in lists": b"(" * 10_000,
}
for name, data in RUNS.items():
    add("runs", f"--resume: {name}", resumed(data), "error", "expected")
add("runs", "--resume: 2 GB of zeros", resumed(torch_bomb), "error", "expected", slow=True)
add(
    "runs",
    "--resume: no folder",
    lambda folder: command("train", "--resume", folder / "none"),
    "error",
    "no checkpoint.pt",
)
add(
    "runs",
    "--resume: a file",
    lambda folder: command("train", "--resume", write(folder, {"f": b""}) / "f"),
    "error",
    "no ch",
)

# ------------------------------------------------------------------------------------------------ command lines


def line(*parts):
    """A line of the command line, PICTURES a folder of two classes."""

    def make(folder):
        write(folder / "pictures", two_classes(3))
        write(folder, {"a file": b"hello"})
        call = command(*(str(folder / "pictures") if part == "PICTURES" else part for part in parts))
        # The data that a reader has downloaded into this checkout is not there.
        return mock.patch("vit_tutorial.files.IN_CHECKOUT", False)(call)

    return make


TRAIN = ("train", "--data", "PICTURES")
LINES = [
    (),
    ("dance",),
    ("train",),
    ("train", "--data"),
    ("train", "--data", ""),
    ("train", "--data", "nowhere"),
    ("train", "--data", "a file"),
    ("train", "--data", "nul\0"),
    ("train", "--data", "x" * 5000),
    ("train", "--data", "shapes", "--data", "nowhere"),
    ("train", "--data", "shapes", "--resume", "run"),
    *((*TRAIN, "--minutes", value) for value in ("0", "-1", "nan", "inf", "1e400", "one", "")),
    *((*TRAIN, "--epochs", value) for value in ("0", "-1", "1.5", "nan", "one", "", "9" * 5000)),
    *((*TRAIN, "--epochs", "1", "--seed", value) for value in ("-1", "1.5", "a", str(2**70))),
    (*TRAIN, "--minutes", "1", "--epochs", "1"),
    *((*TRAIN, "--recipe", value) for value in ("soup", "", "<b>", "__class__")),
    *((*TRAIN, "--epochs", "1", "--out", value) for value in ("a file", "a file/run")),
    *((*TRAIN, "--start", value) for value in ("none", ".", "a file", "nul\0")),
    ("evaluate", "a file", "--data", "shapes"),
    ("evaluate", ".", "--data", "shapes"),
    ("evaluate", "none", "--data", "shapes"),
    ("evaluate", "--data", "PICTURES", "more", "words"),
    ("evaluate",),
    ("download",),
    ("download", "imagenet"),
    ("download", "cifar10", "--from", "nowhere"),
    ("download", "cifar10", "--from", "a file"),
    ("download", "cifar10", "--from", "ftp://x/y"),
    ("download", "cifar10", "--from", "file:///etc/passwd"),
    ("download", "cifar10", "--from", "http://"),
    ("download", "cifar10", "--from", "http://[::"),
    ("download", "cifar10", "--from", "http://127.0.0.1:1/x"),
    ("download", "cifar10", "--from", "http://127.0.0.1:99999/x"),
    ("download", "cifar10", "--from", "http://127.0.0.1:1/a b\r\nX: y"),
    *(("lab", "--port", value) for value in ("-1", "0", "65536", "a", "1.5", "")),
    ("doctor", "--loudly"),
]
LATE = [(*TRAIN, "--epochs", "1", "--out", value) for value in ("/proc/none/run", "nul\0")]  # after an epoch
for parts in [*LINES, *LATE]:
    name = " ".join(part if len(part) < 30 else f"{part[:8]}... ({len(part):,} letters)" for part in map(str, parts))
    add("command lines", repr(name)[1:-1], line(*parts), "error", "expected|error:|too long|null byte", parts in LATE)

# ------------------------------------------------------------------------------------------------ folders


def both_readers(files, links=()):
    """`image_folder` and `own_images` on one folder; what they say, or raise, together."""

    def make(folder):
        root = folder / "pictures"
        root.mkdir()
        for name, data in (files() if callable(files) else files).items():
            path = os.path.join(os.fsencode(root), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        for name, target in links:
            (root / name).symlink_to(target)

        def call():
            said, failed = [], 0
            for read in (lambda: datasets.image_folder(root, image_size=16), lambda: datasets.own_images(root, 16)):
                try:
                    found = read()
                    images = getattr(found, "images", None) if hasattr(found, "skipped") else found
                    said.append(f"{len(found)} of {', '.join(images.classes)}")
                    said += [f"{name}: {reason}" for name, reason in getattr(found, "skipped", ())]
                except ValueError as error:
                    failed += 1
                    said.append(str(error))
            if failed == 2:
                raise ValueError(" | ".join(said))
            return " | ".join(said)

        return call

    return make


def pixels(seed):
    return saved(scene(seed))


def classes(*names, count=3):
    return {f"{name}/{i}.png": pixels(10 * c + i) for c, name in enumerate(names) for i in range(count)}


GOOD = classes("cat", "dog")
FOLDERS = {
    "empty": ({}, "error", "found none.* at least 2 folders"),
    "one class": (classes("cat"), "report", r"2 of cat .* found 1 \(cat\)"),
    "one picture in a class": (classes("cat") | {"dog/1.png": pixels(7)}, "report", "found 1 in: dog"),
    "one picture in a class, twice": (
        classes("cat") | dict.fromkeys(("dog/1.png", "dog/2.png"), pixels(7)),
        "report",
        "found 1 in: dog",
    ),
    "a class without pictures": (GOOD | {"cow/notes.txt": b"none"}, "report", "4 of cat, dog .*notes.txt: no PNG"),
    "no class folders": ({f"{i}.png": pixels(i) for i in range(4)}, "error", "found none .* in no class folder"),
    "nested twice": ({f"pets/{name}": data for name, data in GOOD.items()}, "report", "found none|cat, dog"),
    "hidden files": (
        GOOD
        | {".DS_Store": b"x", "cat/.DS_Store": b"x", "cat/._0.png": b"x", "cat/Thumbs.db": b"x", ".git/a.png": b"x"},
        "report",
        "4 of cat, dog .*_0.png: hidden",
    ),
    "__MACOSX": (GOOD | {"__MACOSX/._0.png": b"x"}, "report", "4 of cat, dog .*__MACOSX: hidden"),
    "a picture that is none": (GOOD | {"cat/x.png": b"<script>"}, "report", "x.png unreadable .*x.png: no PNG"),
    "a folder called x.png": (GOOD | {"cat/x.png/y.png": pixels(50)}, "report", "4 of cat, dog .* 7 of cat, dog"),
    "train without test": ({f"train/{name}": data for name, data in GOOD.items()}, "report", "6 of cat, dog"),
    "other classes in test": (
        {f"train/{n}": d for n, d in GOOD.items()} | {f"test/{n}": d for n, d in classes("cow", "ant").items()},
        "report",
        "same classes in train and test",
    ),
    "classes are markup": (
        classes("<script>alert(1)<", "<img src=x onerror=alert(1)>"),
        "report",
        "4 of <img src=x onerror=alert.1.>, <script>alert",
    ),
    "classes are formulas": (classes("$x", "\\frac{"), "report", r"4 of \$x, \\frac"),
    "unicode": (classes("猫", "Hündchen 🐶"), "report", "4 of Hündchen 🐶, 猫"),
    "right to left": (classes("a\u202egpj", "b"), "report", r"4 of a\\u202egpj, b"),
    "newlines": (classes("a\nb", "c\td"), "report", r"4 of a\\nb, c\\td"),
    "names that are no text": (
        {os.fsdecode(b"\xff\xfe" + n.encode()): d for n, d in GOOD.items()},
        "report",
        r"4 of \\udcff\\udcfe",
    ),
    "names of 250 letters": (
        {f"{'c' * 250}/{'i' * 240}{i}.png": pixels(50 + i) for i in range(3)} | classes("dog"),
        "report",
        "4 of c{250}, dog",
    ),
}
for name, (files, verdict, message) in FOLDERS.items():
    add("folders", name, both_readers(files), verdict, message)
add(
    "folders",
    "a link that goes round",
    both_readers(GOOD, [("loop", "."), ("cat/loop", "..")]),
    "report",
    "4 of cat, dog .*link to",
)
add(
    "folders",
    "a link to nothing",
    both_readers(GOOD, [("cat/x.png", "gone.png")]),
    "report",
    "4 of cat, dog .* broken link",
)
add(
    "folders",
    "a link to a device",
    both_readers(GOOD, [("cat/x.png", "/dev/zero")]),
    "report",
    "4 of cat, dog .* a device",
)
add(
    "folders",
    "10,001 files",
    both_readers(lambda: GOOD | {f"cat/{i}.txt": b"" for i in range(10_001)}),
    "report",
    "at most 10,000 files",
)

# ------------------------------------------------------------------------------------------------ the learner's files

PROGRESS = {
    "empty": b"",
    "a list": b"[]",
    "100,000 deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "days are lists": b'{"passed": {"mix": ["<b>"]}}',
    "passed is a list": b'{"passed": []}',
    "markup": b'{"passed": {"<script>": "<b>"}}',
    "NUL": b"\0" * 100,
}


def from_progress(data):
    """Notes a pass beside what the file says: that must be kept, in it or as `.damaged`."""

    def make(folder):
        def call():
            home = Path(tempfile.mkdtemp(dir=folder.parent))
            os.environ["VIT_TUTORIAL_HOME"] = str(home)
            (home / "progress.json").write_bytes(data)
            progress.unsaved.clear()
            if b"script" in data:
                check.show_progress()
            progress.remember("mix")
            names = {path.name: path.read_bytes() for path in home.iterdir()}
            if "mix" not in check.passed() or "mix" not in json.loads(names["progress.json"])["passed"]:
                raise AssertionError("not remembered")
            kept = names.get("progress.damaged") == data or set(json.loads(data)["passed"]) <= set(check.passed())
            return "the old kept" if kept else "the old lost"

        return lambda: quiet(call)

    return make


def quiet(call):
    with contextlib.redirect_stdout(io.StringIO()):
        return call()


for name, data in PROGRESS.items():
    add("learner's files", f"progress.json: {name}", from_progress(data), "report", "the old kept")

OWN = {
    "empty": (b"", "none yet"),
    "no Python": (b"def", "is no Python"),
    "no text": (b"\xff\xfe", "not a text in UTF-8"),
    "NUL": (b"\0\0", "no Python|raised"),
    "raises": (b"1 / 0", "raised ZeroDivisionError"),
    "exits": (b"raise SystemExit(3)", "raised SystemExit"),
    "no end": (b"while True: pass", "comes to no end"),
    "PARTS is a list": (b"PARTS = []", "none yet"),
    "parts are numbers": (b"PARTS = {'cut_patches': 3}", "does not pass any more"),
    "unknown parts": (b"PARTS = {'soup': 3, 4: None}", "none yet"),
    "10,000 brackets": (b"(" * 10_000, "no Python|raised"),
    "a part that deletes": (b"PARTS = {'cut_patches': lambda *a: exit()}", "does not pass"),
}


def from_my_vit(data):
    def make(folder):
        file = folder / "my_vit.py"
        file.write_bytes(data)

        def call():
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                check.my_vit(CONFIG, file)(torch.zeros(1, 3, 16, 16))
                check.keep(3)
            return out.getvalue()

        return call

    return make


for name, (data, message) in OWN.items():
    add("learner's files", f"my_vit.py: {name}", from_my_vit(data), "report", message)

# ------------------------------------------------------------------------------------------------ labels

NASTY = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$\\frac{",
    "$x$",
    "a\nb\x1b[2J",
    "🐶 é 猫",
    "x" * 300,
    "&lt;",
)


def drawn(draw):
    """A figure or an explorer with nasty labels; what it gives the notebook has no HTML made of them."""

    def make(folder):
        def call():
            shown = draw()
            if hasattr(shown, "_repr_mimebundle_"):
                bundle, metadata = shown._repr_mimebundle_()
                html = f"{bundle.get('text/html', '')}{bundle.get('text/markdown', '')}"
            else:
                bundle, html = {"image/png": plots.png(shown)}, ""
            if "<script" in html or "<img" in html:
                raise AssertionError(html)
            return f"drawn: {', '.join(sorted(kind for kind in bundle if 'png' in kind))}"

        return call

    return make


IMAGES = torch.zeros(len(NASTY), 3, 16, 16, dtype=torch.uint8)


def nasty_model():
    from dataclasses import replace

    return VisionTransformer(replace(CONFIG, num_classes=len(NASTY), classes=NASTY)).eval()


LABELS = {
    "plots.image_grid": lambda: plots.image_grid(IMAGES, NASTY),
    "plots.confusion_matrix": lambda: plots.confusion_matrix(torch.arange(8), torch.arange(8), NASTY),
    "drawings.vit_pipeline": lambda: drawings.vit_pipeline(nasty_model(), IMAGES[0]),
    "AttentionExplorer": lambda: widgets.AttentionExplorer(nasty_model(), IMAGES, titles=NASTY),
    "AttentionPlayground": lambda: widgets.AttentionPlayground(*[torch.ones(5, 2)] * 3, names=NASTY[:5]),
    "EncoderStepper": lambda: widgets.EncoderStepper(nasty_model(), IMAGES[0]),
}
for name, draw in LABELS.items():
    add("labels", name, drawn(draw), "report", "drawn: image/png")


def no_markup_in_the_pages(folder):
    """No module of an explorer makes markup of text."""

    def call():
        found = []
        for file in Path(widgets.__file__).parent.glob("static/*.js"):
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
                if word in file.read_text("utf-8"):
                    found.append(f"{file.name}: {word}")
        if found:
            raise AssertionError(", ".join(found))
        return "text only"

    return call


add("labels", "explorers' pages", no_markup_in_the_pages, "report", "text only")

# ------------------------------------------------------------------------------------------------ trying


def snapshot(folder):
    """Every file below the folder and a digest of its content; links by where they lead."""
    found = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in files + folders:
            path = os.path.join(place, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = hashlib.file_digest(file, "md5").digest()
            else:
                found[path] = None
    return found


def judge(case, folder, call):
    """`(what it says, what is wrong with that)`; the second is empty where all is well."""
    before, problems = snapshot(folder), []
    try:
        text = call()
        verdict = "read" if case.verdict == "read" else "report"
    except (ValueError, OSError) as error:
        text, verdict = str(error), "error"
        if "\n" in text and not text.startswith("expected weights of"):  # a list of all that is wrong
            problems.append("several lines")
    except BaseException as error:
        text, verdict = f"{type(error).__name__}: {error}", "crash"
    if verdict != case.verdict:
        problems.append(f"expected the verdict {case.verdict}, found {verdict}")
    if not re.search(case.message, str(text), re.DOTALL):
        problems.append(f"expected words like {case.message!r}")
    if snapshot(folder) != before:
        problems.append("files were changed")
    return " ".join(str(text).split()), "; ".join(problems)


def in_a_child(case, folder):
    """`judge` in a process of its own, and how many MB that took."""
    import resource
    import signal

    call = case.make(folder)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(folder)
            sizes = [int(n) * resource.getpagesize() for n in Path("/proc/self/statm").read_text().split()[:2]]
            resource.setrlimit(resource.RLIMIT_AS, (sizes[0] + MEMORY + (1 << 29),) * 2)  # threads reserve more
            signal.alarm(SECONDS)
            said = judge(case, folder, call)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - sizes[1]
            with open(writer, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump([*said, max(peak, 0) / 1e6], file)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        return "", f"the process ended with {status}", 0.0
    text, problems, peak = json.loads(answer)
    if peak > MEMORY / 1e6:
        problems += f"; {peak:.0f} MB"
    return text, problems, peak


def main():
    wanted = sys.argv[1:]
    torch.set_num_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    table, faults = {}, 0
    for case in CASES:
        if wanted and case.group not in wanted:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "here"
            folder.mkdir()
            text, problems, peak = in_a_child(case, folder)
        faults += bool(problems)
        row = table.setdefault(case.group, {"cases": 0, "error": 0, "report": 0, "read": 0, "faults": 0, "MB": 0.0})
        row["cases"] += 1
        row["faults" if problems else case.verdict] += 1
        row["MB"] = max(row["MB"], peak)
        text = text.encode("unicode_escape", "backslashreplace").decode("ascii").replace(place, "")
        print(f"{'FAULT' if problems else case.verdict:6} {case.group}: {case.name} -> {text:.100}")
        if problems:
            print(f"       {problems}")
    columns = ("cases", "error", "report", "read", "faults", "MB")
    print("\n" + f"{'input':16}" + "".join(f"{name:>8}" for name in columns))
    for group, row in table.items():
        print(f"{group:16}" + "".join(f"{row[name]:8.0f}" for name in columns))
    total = {name: sum(row[name] for row in table.values()) for name in columns[:-1]}
    print(f"{'all':16}" + "".join(f"{total[name]:8.0f}" for name in columns[:-1]))
    print(f"MB: the most memory that a case took beyond what the course takes without it; limit {MEMORY / 1e6:.0f}.")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
