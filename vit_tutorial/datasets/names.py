"""Names of files and classes: in which encoding they are, in one form, in the order that people expect."""

import re
import unicodedata
from collections import Counter
from pathlib import PurePosixPath

from PIL import Image

SCIENTIFIC = {".dcm", ".dicom", ".heic", ".heif", ".hif", ".avif"}  # whether or not there is a plugin
SIDES = {
    "train": {"train", "training", "trainset", "traindata"},
    "test": {"test", "testing", "testset", "testdata", "val", "valid", "validation", "holdout", "eval"},
}


def side_of(name):
    """Which side of a split a folder or an entry of a table names: "train", "test" or, where none or both, "".

    One word tells: seg_train, Training_Set, val2017.
    """
    words = set(re.findall("[a-z]+", name.casefold().replace("hold_out", "holdout")))
    sides = [side for side, names in SIDES.items() if words & names]
    return sides[0] if len(sides) == 1 else ""


def sides_in_words(names):
    """Which of the names stand for which side, and how often: train (8) for training; test (1) and val (1) for ..."""
    counts = {"train": {}, "test": {}}
    for name, count in sorted(Counter(names).items()):
        counts.get(side_of(name), {})[printable(name)] = count
    told = (" and ".join(f"{name} ({count})" for name, count in names.items()) for names in counts.values())
    return f"{next(told)} for training; {next(told)} for testing"


def alike(names):
    """Those of the names that differ only in case, spaces or the like, in words."""
    same = {}
    for name in names:
        same.setdefault(re.sub(r"[\s_.]+", " ", name).strip().casefold(), []).append(repr(name))
    return "; ".join(" and ".join(found) for found in same.values() if len(found) > 1)


def named_as_picture(name):
    """Whether a file's name ends as a picture's; what it is, only its bytes tell."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SCIENTIFIC or suffix in Image.registered_extensions()


def normal(name):
    """The name in the one form that Unicode calls NFC: é is one letter, not e and an accent."""
    return unicodedata.normalize("NFC", name)


def printable(name):
    """The name as it is, or, where it holds what no terminal should be sent, with that spelled out."""
    return name if name.isprintable() else name.encode("unicode_escape", "backslashreplace").decode("ascii")


def natural(name):
    """A key for sorting: 2 comes before 10."""
    parts = re.split(r"([0-9]+)", name)
    numbers = [(len(digits := part.lstrip("0")), digits) for part in parts[1::2]]
    return [item for pair in zip(parts[::2], [*numbers, ()], strict=True) for item in pair], name


def all_are(script):
    return lambda letters, _: all(unicodedata.name(letter, "").startswith(script) for letter in letters)


def mostly_in(encoding, first, last):
    """Whether letters are, but for one in five, kana or those that the encoding puts first: the usual ones."""

    def usual(letter):
        code = letter.encode(encoding, "ignore")
        return first <= code <= last or unicodedata.name(letter, "").startswith(("HIRAGANA", "KATAKANA LETTER"))

    return lambda letters, _: sum(map(usual, letters)) >= 0.8 * len(letters)


def of_one_script(_, words):
    """Whether no word mixes alphabets, as GBK does that is taken for UTF-8."""
    alphabets = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "HEBREW", "ARABIC"}
    found = ({unicodedata.name(letter, "").split(" ")[0] for letter in word if not letter.isascii()} for word in words)
    return all(len(scripts & alphabets) < 2 for scripts in found)


def latin(letters, words):
    """Whether all are Latin letters among others: an accent here and there."""
    plain = sum(letter.isascii() and letter.isalpha() for word in words for letter in word)
    return all_are("LATIN")(letters, words) and plain >= len(letters)


def guess_encoding(names, western, russian):
    """The encoding of names, as bytes, that do not say it: UTF-8, `western`, Shift-JIS, GBK or `russian`; or None.

    It is that in which they are made of usual letters: right for a dozen names of one language, a guess for one name.
    """
    text = b"\n".join(name for name in names if not name.isascii())
    guesses = {
        "utf-8": of_one_script,
        western: latin,
        "cp932": mostly_in("cp932", b"\x88\x9f", b"\x98\x72"),
        "gb18030": mostly_in("gb2312", b"\xb0\xa1", b"\xd7\xf9"),
        russian: all_are("CYRILLIC"),
    }
    for encoding, fits in guesses.items():
        try:
            decoded = text.decode(encoding)
        except UnicodeDecodeError:
            continue
        words = [word for word in re.findall(r"\w+", decoded) if not word.isascii()]
        if fits([letter for letter in decoded if not letter.isascii()], words):
            return encoding
    return None
