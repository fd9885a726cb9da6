"""Fuzzing of everything that reads a file which others made: `python tools/attack/fuzz.py [--seconds 75] [READER ...]`.

Needs atheris (`pip install atheris`; it has wheels for Linux alone). Starts from `tests/corpus/READER/*`. A reader may
raise a ValueError that says what is wrong, and nothing else; an input for which it does is kept in that folder, where
`tests/test_fuzz.py` tries it ever after.
"""

import argparse
import contextlib
import gzip
import io
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ALONE = "--alone" in sys.argv  # the process that fuzzes, in which these modules say which way they went
if ALONE:
    import atheris

    parts = ["PIL", "gzip", "json", "pickletools", "tarfile", "vit_tutorial", "zipfile"]
with atheris.instrument_imports(include=parts) if ALONE else contextlib.nullcontext():
    from vit_tutorial import datasets, weights
    from vit_tutorial.datasets import cifar10_files
    from vit_tutorial.datasets.decode import pictures
    from vit_tutorial.training import History, Recipe

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "corpus"
SCRATCH = Path(tempfile.gettempdir())


def in_a_file(read):
    def call(data):
        with tempfile.NamedTemporaryFile(dir=SCRATCH) as file:
            file.write(data)
            file.flush()
            read(file.name)

    return call


def recipe(data):
    """The record of a recipe, whose text others have read before."""
    with contextlib.suppress(RecursionError):
        data = json.loads(data)
        Recipe.from_record(data)


def table(data):
    """A table of labels beside four pictures."""
    picture = (CORPUS / "picture" / "good").read_bytes()
    datasets.own_images([("labels.csv", data), *((f"{i}.png", picture) for i in range(4))], 8, labels="labels.csv")


READERS = {
    "picture": lambda data: list(pictures("fuzz.png", io.BytesIO(data), 8)),
    "table": table,
    "zip": lambda data: datasets.own_images([("fuzz.zip", data)], 8),
    "tar": lambda data: list(cifar10_files.batches_of_tar(io.BytesIO(gzip.compress(data, 1)))),
    "gzip": lambda data: list(cifar10_files.batches_of_tar(io.BytesIO(data))),
    "batch": cifar10_files.records_of_pickle,
    "parquet": lambda data: list(cifar10_files.batches_of_parquet(io.BytesIO(data))),
    "checkpoint": in_a_file(weights.load),
    "record": in_a_file(History.load),
    "recipe": recipe,
}


def attempt(reader, data):
    """Read `data`; a `ValueError` is a right answer, and everything else a crash."""
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(ValueError):
        READERS[reader](data)


def fuzz(reader, seconds):
    """Runs in a process of its own: the fuzzer ends it."""

    def once(data):
        attempt(reader, data)

    with tempfile.TemporaryDirectory() as found:
        limits = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-timeout=20", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={CORPUS / reader}/", found, str(CORPUS / reader)], once)
        atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", default=list(READERS), metavar="READER", help=", ".join(READERS))
    parser.add_argument("--seconds", type=int, default=75, help="for each reader (default: 75)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        fuzz(args.readers[0], args.seconds)
    failed = []
    for reader in args.readers:
        command = [sys.executable, __file__, reader, "--alone", "--seconds", str(args.seconds)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        lines = ended.stderr.splitlines()
        print(f"{reader:10}", next((line for line in reversed(lines) if line.startswith("Done")), "CRASH"), flush=True)
        if ended.returncode:
            failed.append(reader)
            print(ended.stdout[-2000:], *lines[-8:], sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
