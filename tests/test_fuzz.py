"""Readers on damaged input: what the fuzzer once found, and small changes to good files, anew in every run."""

import fuzz
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

SEEDS = {reader: sorted((fuzz.CORPUS / reader).iterdir()) for reader in fuzz.READERS}
FILES = [(reader, file) for reader, files in SEEDS.items() for file in files]
FEW = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def skip_without_pyarrow(reader):
    if reader == "parquet":
        pytest.importorskip("pyarrow")


@pytest.mark.parametrize("reader, file", FILES, ids=[f"{reader}: {file.name}" for reader, file in FILES])
def test_what_is_in_the_corpus_is_read_or_refused(reader, file):
    skip_without_pyarrow(reader)
    fuzz.attempt(reader, file.read_bytes())


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_the_corpus_begins_with_a_good_file(reader):
    """Else the fuzzer would never come past the first check."""
    skip_without_pyarrow(reader)
    fuzz.READERS[reader]((fuzz.CORPUS / reader / "good").read_bytes())


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_damage_ends_in_a_value_error(reader):
    skip_without_pyarrow(reader)
    good = (fuzz.CORPUS / reader / "good").read_bytes()

    @FEW
    @given(
        changes=st.lists(st.tuples(st.integers(0, len(good) - 1), st.binary(min_size=1, max_size=6)), max_size=4),
        end=st.integers(0, len(good)),
    )
    @example(changes=[], end=0)
    def damaged(changes, end):
        data = bytearray(good)
        for place, new in changes:
            data[place : place + len(new)] = new
        fuzz.attempt(reader, bytes(data[: end or len(data)]))

    damaged()


def test_a_reader_that_crashes_is_noticed(monkeypatch):
    monkeypatch.setitem(fuzz.READERS, "picture", lambda data: data[0])
    with pytest.raises(IndexError):
        fuzz.attempt("picture", b"")
