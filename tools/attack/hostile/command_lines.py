"""Lines of the command line that make no sense."""

import contextlib
import io
import shlex
from unittest import mock

from vit_tutorial import cli
from vit_tutorial.files import CHECKPOINT

from .case import Case, classes, write


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


def prepared(parts):
    """The call of a line, PICTURES a folder of two classes, MODEL the course's own."""

    def make(folder):
        write(folder / "pictures", classes("cat", "dog"))
        write(folder, {"a file": b"hello"})
        places = {"PICTURES": folder / "pictures", "MODEL": CHECKPOINT}
        call = command(*(places.get(part, part) for part in parts))
        # The data that a reader has downloaded into this checkout is not there.
        return mock.patch("vit_tutorial.files.IN_CHECKOUT", False)(call)

    return make


# VALUES stands for each of the values behind the bar.
LINES = r"""
dance
train
train --data
train --data VALUES | '' nowhere 'a file'
train --data shapes --data nowhere
train --data shapes --resume run
train --data PICTURES --minutes VALUES | 0 -1 nan inf 1e400 one ''
train --data PICTURES --epochs VALUES | 0 -1 1.5 nan one ''
train --data PICTURES --epochs 1 --seed VALUES | -1 1.5 a 1180591620717411303424
train --data PICTURES --minutes 1 --epochs 1
train --data PICTURES --recipe VALUES | soup '' <b> __class__
train --data PICTURES --epochs 1 --out VALUES | 'a file' 'a file/run'
train --data PICTURES --start VALUES | none . 'a file' '' PICTURES ../none a/b/c x.safetensors
train --data PICTURES --image-size VALUES | 0 -1 1000000000 7 32.0 a ''
train --data PICTURES --patch-size VALUES | 0 -1 1000000000 3 a
train --data shapes --image-size VALUES | 0 64
train --data PICTURES --image-size 1024 --patch-size 1
train --data PICTURES --without-labels VALUES | '' simclr MAE
train --data PICTURES --without-labels mae VALUES | --calibrate --balanced --shard '--recipe=shapes' '--patch-size=32'
train --data PICTURES --without-labels dino --start VALUES | none 'a file' PICTURES
evaluate VALUES --data shapes | 'a file' . none
evaluate --data PICTURES more words
evaluate
evaluate --data shapes --side all
evaluate --data PICTURES --side VALUES | both ''
evaluate --data PICTURES --rename VALUES | '' = cat cat= =cat cat=nothing nothing=cat
predict
predict VALUES PICTURES | none . 'a file' ''
predict MODEL
predict MODEL VALUES | nowhere 'a file' http://127.0.0.1/x.png /dev/zero
predict MODEL PICTURES --threshold VALUES | -1 2 nan inf half ''
predict MODEL PICTURES --csv VALUES | 'a file' . 'a file/x.csv' ''
export
export MODEL
export VALUES x.onnx | none . 'a file' ''
export MODEL VALUES | 'a file' . 'a file/x.onnx' MODEL
report
report VALUES | 'a file' . none '' PICTURES
report PICTURES more words
report none --data nowhere
report none --out 'a file'
download
download imagenet
download cifar10 --from VALUES | nowhere 'a file' ftp://x/y file:///etc/passwd http:// 'http://[::'
download cifar10 --from VALUES | http://127.0.0.1:1/x http://127.0.0.1:99999/x
lab --port VALUES | -1 0 65536 a 1.5 ''
doctor --loudly
"""
OUT = ("train", "--data", "PICTURES", "--epochs", "1", "--out")
ODD = [
    (),
    ("train", "--data", "nul\0"),
    ("train", "--data", "x" * 5000),
    ("train", "--data", "PICTURES", "--epochs", "9" * 5000),
    ("train", "--data", "PICTURES", "--start", "nul\0"),
    ("report", "nul\0"),
    ("report", "x" * 5000),
    ("download", "cifar10", "--from", "http://127.0.0.1:1/a b\r\nX: y"),
]
LATE = [(*OUT, "/proc/none/run"), (*OUT, "nul\0")]  # found out after an epoch


def lines():
    """Each of `LINES` as a tuple of words, once for each of its values."""
    for row in LINES.strip().splitlines():
        line, _, values = row.partition(" | ")
        for value in shlex.split(values) or [""]:
            yield tuple(value if word == "VALUES" else word for word in shlex.split(line))


def case(parts):
    words = " ".join(part if len(part) < 30 else f"{part[:8]}... ({len(part):,} letters)" for part in parts)
    said = "expected|error:|too long|null byte"
    return Case("command lines", repr(words)[1:-1], prepared(parts), "error", said, slow=parts in LATE)


CASES = [case(parts) for parts in [*lines(), *ODD, *LATE]]
