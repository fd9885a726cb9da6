"""Tables of labels that are broken, odd, or name what is not theirs."""

import random

from vit_tutorial import datasets

from .archives import zipped
from .case import cases, classes, write

GROUP = "tables"
PICTURES = dict(zip((f"{i}.png" for i in range(4)), classes("cat", "dog", count=2).values(), strict=True))
GOOD = [f"{i}.png,{'cat' if i < 2 else 'dog'}" for i in range(4)]


def lines(*rows):
    return "\n".join(["file,label", *GOOD, *rows]).encode("utf-8", "surrogateescape")


def beside_pictures(table):
    def make(folder):
        write(folder, PICTURES | {"labels.csv": table() if callable(table) else table})
        return lambda: datasets.own_images(folder / "labels.csv", 16).report()

    return make


def wide():
    return b"file,label" + b"," * 200_000 + b"\n" + b"0.png,cat\n" * 200_000


REPORTED = {
    "up and out": (lines("../../etc/passwd,cat"), "etc/passwd: in the table, but not there"),
    "absolute": (lines("/etc/passwd,cat", "C:\\x.png,cat"), "passwd: in the table, but not there"),
    "itself": (lines("labels.csv,cat"), "4 pictures in 2 classes"),
    "markup": (lines("<script>alert(1)</script>,<b>"), "<script>alert.1.</script>: in the table"),
    "formulas": (lines("=cmd|' /C calc'!A0,=1+1"), "A0: in the table"),
    "control characters": (lines("\x1b[2J.png,\x07"), r"\\x1b\[2J.png: in the table"),
    "a NUL": (lines("\0.png,cat"), r"\\x00.png: in the table"),
    "bytes that are no text": (lines("\udcff\udcfe.png,cat"), "in the table, but not there"),
    "rows of other lengths": (lines("x.png", "y.png,cat,more,still more"), "x.png: in the table"),
    "a name of 100,000 letters": (lines("a" * 100_000 + ",cat"), "in the table"),
    "a quarter of a million rows": (lambda: lines(*(f"{i}.gif,cat" for i in range(250_000))), "4 pictures in 2"),
    "a file under 1,000 other paths": (
        lines(*(f"{i}/0.png,cat" for i in range(1000))),
        "/0.png: in the table, but not there",
    ),
    "a note of Excel's without an end": (b'"sep=,\n' + lines(), "4 pictures in 2 classes"),
    "only ends of lines": (lines("", "", ",", "\r\r"), "4 pictures in 2 classes"),
    "a path 1,000 deep": (lines("a/" * 1000 + "x.png,cat"), "in the table"),
}
REFUSED = {
    "empty": (b"", "found 0"),
    "NULs": (bytes(1000), "files and labels|name files|damaged"),
    "noise": (random.Random(0).randbytes(5000), "expected"),
    "a cell of 200,000 letters": (lines("a" * 200_000 + ",cat"), "damaged"),
    "a quote without an end": (b'file,label\n"0.png,cat\n' + b"1.png,dog\n" * 40_000, "damaged|name files"),
    "200,000 columns": (wide, "at most 1,000, found 200002"),
    "60 MB": (lambda: bytes(60_000_000), "at most 50 MB"),
    "a workbook": (b"PK\x03\x04" + bytes(99), "a workbook"),
    "half of UTF-16": (b"\xff\xfef\0i", "files and labels"),
    "one class": (b"file,label\n" + b"\n".join(f"{i}.png,cat".encode() for i in range(4)), r"found 1 .cat."),
    "a column a class, two at once": (b"file,cat,dog\n0.png,1,1\n1.png,0,1\n", "one class a picture"),
}


def inside_a_zip(table):
    """A zip file of pictures and a table, which may be packed."""

    def make(folder):
        data = zipped(PICTURES | {"labels.csv": table() if callable(table) else table}, compresslevel=1)
        return lambda: datasets.own_images([("pets.zip", data)], 16).report()

    return make


ZIPPED = {
    "in a zip file: up and out": (lines("../labels.csv,cat", "../../0.png,dog"), "in the table|several labels"),
    "in a zip file: twice": (lines("0.png,dog"), "0.png: listed with several labels: cat, dog"),
}
SLOW = ("quarter of a million", "200,000 columns", "60 MB", "99 MB")
CASES = [
    *cases(GROUP, beside_pictures, "report", REPORTED, SLOW),
    *cases(GROUP, beside_pictures, "error", REFUSED, SLOW),
    *cases(GROUP, inside_a_zip, "report", ZIPPED),
    *cases(
        GROUP, inside_a_zip, "error", {"in a zip file: 99 MB of zeros": (lambda: bytes(99_000_000), "at most 50")}, SLOW
    ),
]
