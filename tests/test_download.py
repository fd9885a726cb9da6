"""CIFAR-10 from a server on this machine, over lines that break and from places that lie."""

import bz2
import gzip
import io
import itertools
import multiprocessing
import sys
import tarfile
import threading
import time
from pathlib import Path

import http_server as web
import made_up_cifar10 as made_up
import numpy as np
import psutil
import pytest
import torch
from made_up_cifar10 import cifar10

from vit_tutorial import cli, datasets, doctor, files
from vit_tutorial.datasets import cifar10_files, fetch

PYTHON, BINARY = made_up.python_version(), made_up.binary_version()
ARCHIVE = "/cifar-10-python.tar.gz"
OTHER = "/mirror/cifar-10-python.tar.gz"


@pytest.fixture
def server(monkeypatch):
    """A server with two mirrors of the made-up archive, and nothing of the hub."""
    made_up.install(monkeypatch)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with web.serving(web.Files) as server:
        server.files, server.faults = {ARCHIVE: PYTHON, OTHER: PYTHON}, {}
        monkeypatch.setattr(cifar10, "MIRRORS", (server.url + ARCHIVE, server.url + OTHER))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def check(root):
    """All of the set is in `root`, under its final names, and nothing half done lies beside it."""
    for split, names in (("test", ["test_batch"]), ("train", sorted(made_up.BLOCKS)[:5])):
        found = datasets.cifar10(split, root)
        expected = np.concatenate([made_up.records(name) for name in names])
        assert torch.equal(found.images.flatten(1), torch.from_numpy(expected[:, 1:]))
        assert found.labels.tolist() == expected[:, 0].tolist() and found.classes == cifar10.CLASSES
    assert {path.name for path in root.iterdir()} <= {cifar10.BINARY, ".cifar10.lock", *cifar10.ARCHIVES}
    assert len(list((root / cifar10.BINARY).iterdir())) == 6


def check_absent(root):
    with pytest.raises((FileNotFoundError, ValueError), match="vit-tutorial download cifar10, or work offline with"):
        datasets.cifar10("train", root)


def requested(server):
    return [(path, part) for path, part in server.requests if path in (ARCHIVE, OTHER)]


# ------------------------------------------------------------------------------------------------ formats


def test_the_made_up_batches_are_what_pickle_calls_them():
    batch = made_up.unpickled("test_batch")
    assert np.array_equal(batch["data"], made_up.records("test_batch")[:, 1:]) and batch["data"].dtype == np.uint8
    assert batch["labels"] == made_up.records("test_batch")[:, 0].tolist()


def test_every_format_gives_the_same_tensors(server, tmp_path):
    """The hub's table, the archive for Python, the binary one, and both of these unpacked by hand."""
    pytest.importorskip("pyarrow")
    server.files |= {f"/{cifar10.PARQUET}/{name}": data for name, data in made_up.tables().items()}
    datasets.download_cifar10(tmp_path / "hub")
    assert not requested(server)
    check(tmp_path / "hub")
    for name, data in zip(cifar10.ARCHIVES, (PYTHON, BINARY), strict=True):
        (tmp_path / name).write_bytes(data)
        datasets.download_cifar10(tmp_path / "from" / name, tmp_path / name)
        check(tmp_path / "from" / name)
        with tarfile.open(tmp_path / name) as archive:
            archive.extractall(tmp_path / "by hand" / name, filter="data")
        for split in ("train", "test"):
            by_hand = datasets.cifar10(split, tmp_path / "by hand" / name)
            assert torch.equal(by_hand.images, datasets.cifar10(split, tmp_path / "hub").images)
            assert torch.equal(by_hand.labels, datasets.cifar10(split, tmp_path / "hub").labels)
    assert not requested(server)


def test_the_hub_is_passed_over_without_pyarrow(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    datasets.cifar10("test", tmp_path, download=True)
    assert "needs the package pyarrow (pip install pyarrow)" in capsys.readouterr().out
    check(tmp_path)


# ------------------------------------------------------------------------------------------------ lines that break

ONE, TWO = [(ARCHIVE, None)], [(ARCHIVE, None), (OTHER, None)]
HALF = len(PYTHON) // 2
RESUMED = [(ARCHIVE, None), (ARCHIVE, f"bytes={HALF}-")]
FAULTS = {  # what the first mirror does, request by request, and which requests are made then
    "nothing": ([], ONE),
    "slow": ([web.slow], ONE),
    "cut": ([web.cut(HALF)], RESUMED),
    "cut twice": ([web.cut(HALF), web.cut(10)], [*RESUMED, (ARCHIVE, f"bytes={HALF + 10}-")]),
    "cut, range ignored": ([web.cut(HALF), web.ignore_range], RESUMED),
    "cut, another part": ([web.cut(HALF), web.wrong_part], RESUMED),
    "cut, then a range that is none": ([web.cut(HALF), web.status(416)], [*RESUMED, (ARCHIVE, None)]),
    "cut before anything": ([web.cut(0)], [(ARCHIVE, None)] * 2),
    "cut again and again": ([web.cut(0)] * 9, [(ARCHIVE, None)] * 5 + [(OTHER, None)]),
    "cut, then another mirror": ([web.cut(HALF), web.status(503)], [*RESUMED, (OTHER, f"bytes={HALF}-")]),
    "stalls": ([web.stall(HALF)], RESUMED),
    "silent": ([web.silent], [(ARCHIVE, None)] * 2),
    "drips": ([web.drip] * 5, None),
    "404": ([web.status(404)], TWO),
    "500": ([web.status(500)], TWO),
    "429": ([web.status(429)], TWO),
    "corrupt": ([web.corrupt], TWO),
    "cut, then corrupt": ([web.cut(HALF), web.corrupt], [*RESUMED, (OTHER, None)]),
    "promises more": ([web.promise(7)] * 6, [(ARCHIVE, None), (ARCHIVE, f"bytes={len(PYTHON)}-")]),
    "promises less": ([web.promise(-7)], ONE),  # all the images are there
    "promises far too much": ([web.promise(10**12)], TWO),
    "promises nonsense": ([web.promise("many")], ONE),
    "endless": ([web.endless], TWO),
    "broken chunks": ([web.broken_chunks] * 5, None),
    "a web page": ([web.web_page], TWO),
    "no web server": ([web.no_http] * 5, None),
    "redirect": ([web.redirect(OTHER)], TWO),
    "redirect to itself": ([web.redirect(ARCHIVE)] * 20, None),
    "redirect to a file": ([web.redirect("file:///etc/passwd")], TWO),
    "redirect to ftp": ([web.redirect("ftp://127.0.0.1/x")], TWO),
    "redirect to nowhere": ([web.redirect("http://127.0.0.1:1/x")], TWO),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_in_the_whole_set_all_the_same(server, tmp_path, monkeypatch, fault):
    faults, requests = FAULTS[fault]
    if fault in ("stalls", "silent", "drips"):
        monkeypatch.setattr(fetch, "STALL", 0.5)  # elsewhere it is none to be short of patience
    monkeypatch.setattr(cifar10_files, "MOST_BYTES", 10_000_000)
    server.faults[ARCHIVE] = iter(faults)
    datasets.download_cifar10(tmp_path)
    check(tmp_path)
    found = requested(server)
    assert found == requests if requests else found[-1][0] == OTHER and len(found) <= 9


def test_redirects_are_counted(server, tmp_path):
    """A chain of six different places is too long; one of five is not."""
    for i in range(6):
        server.faults[f"/{i}"] = itertools.repeat(web.redirect(f"/{i + 1}"))
    server.files["/6"] = PYTHON
    with pytest.raises(ConnectionError, match="redirect"):
        fetch.fetch(f"{server.url}/0", tmp_path / "part", 10**7)
    fetch.fetch(f"{server.url}/1", tmp_path / "part", 10**7)
    assert (tmp_path / "part").read_bytes() == PYTHON


def test_what_an_earlier_call_left_is_gone_on_from(server, tmp_path):
    """All mirrors fail half way; the next call asks for the rest alone. In between there is no set."""
    server.faults = {ARCHIVE: iter([web.cut(HALF)] + [web.cut(0)] * 9), OTHER: iter([web.cut(0)] * 9)}
    with pytest.raises(ConnectionError, match="run the same line again|Run the same line again"):
        datasets.download_cifar10(tmp_path)
    check_absent(tmp_path)
    server.faults, server.requests[:] = {}, []
    datasets.download_cifar10(tmp_path)
    assert requested(server) == [(ARCHIVE, f"bytes={HALF}-")]
    check(tmp_path)


def test_what_an_earlier_call_left_may_be_wrong(server, tmp_path):
    (tmp_path / ".cifar-10-python.tar.gz.part").write_bytes(b"something else")
    datasets.download_cifar10(tmp_path)
    assert requested(server) == [(ARCHIVE, "bytes=14-"), (ARCHIVE, None)]
    check(tmp_path)


def test_an_archive_that_changed_on_the_way_is_fetched_anew(server, tmp_path):
    server.files["/class.tar.gz"] = BINARY
    (tmp_path / f".{cifar10.part_name(server.url + '/class.tar.gz')}.part").write_bytes(PYTHON[:1000])
    datasets.download_cifar10(tmp_path, server.url + "/class.tar.gz")
    check(tmp_path)


@pytest.mark.parametrize("gone", [1, 3])
def test_a_network_that_is_gone_for_a_moment_is_waited_for(server, tmp_path, monkeypatch, gone):
    server.faults[ARCHIVE] = iter([web.cut(HALF)])
    answers, opened = iter([None] + [fetch.Unreached("no network")] * gone), fetch.opened

    def sometimes(address, start):
        if error := next(answers, None):
            raise error
        return opened(address, start)

    monkeypatch.setattr(fetch, "opened", sometimes)
    datasets.download_cifar10(tmp_path, server.url + ARCHIVE)
    assert requested(server) == RESUMED
    check(tmp_path)


def test_no_file_is_deleted_while_it_is_open(server, tmp_path, monkeypatch):
    """Windows would refuse."""
    unlink, deleted = Path.unlink, []

    def checked(path, *arguments, **options):
        assert str(path) not in {file.path for file in psutil.Process().open_files()}
        deleted.append(path.name)
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", checked)
    server.files[ARCHIVE] = HOSTILE["other images"][0]()
    with pytest.raises(ValueError, match="found others"):
        datasets.download_cifar10(tmp_path, server.url + ARCHIVE)
    assert ".cifar-10-python.tar.gz.part" in deleted


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_killed_process_leaves_no_set_and_is_gone_on_from(server, tmp_path):
    server.faults[ARCHIVE] = itertools.repeat(web.stall(HALF))
    child = multiprocessing.get_context("fork").Process(target=datasets.download_cifar10, args=(tmp_path,))
    child.start()
    part = tmp_path / ".cifar-10-python.tar.gz.part"
    while not part.exists() or part.stat().st_size < HALF:
        time.sleep(0.01)
    child.kill()
    child.join()
    check_absent(tmp_path)
    server.faults, server.requests[:] = {}, []
    datasets.download_cifar10(tmp_path)
    assert requested(server) == [(ARCHIVE, f"bytes={HALF}-")]
    check(tmp_path)


def test_two_at_once_download_once(server, tmp_path, capsys):
    server.faults[ARCHIVE] = iter([web.slow])
    threads = [threading.Thread(target=datasets.download_cifar10, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert requested(server) == ONE
    check(tmp_path)
    assert "waiting for it" in capsys.readouterr().out


def test_what_is_there_is_not_downloaded_again(server, tmp_path, capsys):
    datasets.download_cifar10(tmp_path)
    server.stop()
    datasets.download_cifar10(tmp_path)
    assert "already in" in capsys.readouterr().out
    file = tmp_path / cifar10.BINARY / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="data_batch_2.bin, found it damaged .*; run vit-tutorial download cifar10"):
        datasets.cifar10("train", tmp_path)
    with pytest.raises(ConnectionError):
        datasets.download_cifar10(tmp_path)
    (tmp_path / cifar10.ARCHIVES[0]).write_bytes(PYTHON)  # as a teacher may hand it out
    datasets.download_cifar10(tmp_path)
    check(tmp_path)


def test_what_is_there_is_enough_where_nothing_may_be_written(server, tmp_path, monkeypatch):
    datasets.download_cifar10(tmp_path)
    monkeypatch.setattr("filelock.FileLock", None)
    monkeypatch.setattr(Path, "mkdir", None)
    datasets.cifar10("test", tmp_path, download=True)


def test_what_cannot_be_read_is_downloaded(server, tmp_path, monkeypatch):
    """An empty folder counts as none; a part of one version hides the other, whole as it may be."""
    (tmp_path / cifar10.FOLDER).mkdir()
    with tarfile.open(fileobj=io.BytesIO(PYTHON)) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / cifar10.BINARY).mkdir()
    datasets.cifar10("train", tmp_path)
    (tmp_path / cifar10.BINARY / "test_batch.bin").write_bytes(b"")
    monkeypatch.setattr(files, "downloads", lambda: tmp_path)
    assert "incomplete or damaged" in doctor.data()[1].found
    with pytest.raises(ValueError, match="missing .*; run vit-tutorial download cifar10"):
        datasets.cifar10("train", tmp_path)
    datasets.download_cifar10(tmp_path)
    datasets.cifar10("train", tmp_path)
    assert requested(server) == ONE and doctor.data()[1].state == doctor.OK


def test_offline_says_what_to_do(server, tmp_path, monkeypatch, capsys):
    server.stop()
    monkeypatch.setattr(cifar10, "downloads", lambda: tmp_path)
    assert cli.main(["download", "cifar10"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert "--from FILE, or work offline with datasets.shapes()" in error and error.count("127.0.0.1: not reached") == 3


def test_no_room_on_the_disk_is_no_broken_line(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "ROOM", 10**18)
    with pytest.raises(OSError, match="expected 1000000000000 MB free .* make room"):
        datasets.download_cifar10(tmp_path)
    assert not server.requests
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with pytest.raises(OSError, match="No space left"):
        fetch.fetch(server.url + ARCHIVE, Path("/dev/full"), 10**7)


# ------------------------------------------------------------------------------------------------ the command


def test_the_command(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cifar10, "downloads", lambda: tmp_path / "c")
    for source, message in {
        str(tmp_path / "none"): "or its web address, found no file",
        server.url + "/gone": f"at {server.url}/gone, found: the server answered 404",
        "ftp://127.0.0.1/x": "begins with https:// or http://, found 'ftp://127.0.0.1/x'",
    }.items():
        assert cli.main(["download", "cifar10", "--from", source]) == 2
        error = capsys.readouterr().err.splitlines()
        assert message in error[-1] and len(error) == 1
    check_absent(tmp_path / "c")
    assert cli.main(["download", "cifar10", "--from", server.url + OTHER]) == 0
    check(tmp_path / "c")


# ------------------------------------------------------------------------------------------------ hostile archives

GOOD = {f"cifar-10-batches-py/{name}": made_up.pickled(name) for name in made_up.BLOCKS}


def member(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def zeros(size):
    """A member of so many zeros, which gzip makes a thousand times smaller."""
    return {"cifar-10-batches-py/zeros": bytes(size)}


HOSTILE = {
    "up and out": (lambda: made_up.tarred({"../evil": b"x"} | GOOD), r"'\.\./evil', which leads out"),
    "up later": (lambda: made_up.tarred({"a/../../evil": b"x"} | GOOD), "leads out"),
    "absolute": (lambda: made_up.tarred({"/tmp/evil": b"x"} | GOOD), "'/tmp/evil', which leads out"),
    "Windows": (lambda: made_up.tarred({"C:\\evil": b"x"} | GOOD), "leads out"),
    "backslashes": (lambda: made_up.tarred({"..\\evil": b"x"} | GOOD), "leads out"),
    "symlink": (lambda: made_up.tarred({"a": member("a", tarfile.SYMTYPE, "/etc/passwd")} | GOOD), "'a', a link or"),
    "hardlink": (lambda: made_up.tarred({"a": member("a", tarfile.LNKTYPE, "/etc/passwd")} | GOOD), "a link or"),
    "device": (lambda: made_up.tarred({"a": member("a", tarfile.CHRTYPE)} | GOOD), "a device"),
    "pipe": (lambda: made_up.tarred({"a": member("a", tarfile.FIFOTYPE)} | GOOD), "a device"),
    "bomb": (lambda: made_up.tarred(zeros(3_000_000)), "at most 2 MB unpacked, found more"),
    "bomb in a header": (lambda: bomb_in_a_header(), "at most 2 MB unpacked, found more|broken"),
    "bomb packed twice": (lambda: gzip.compress(bz2.compress(bytes(50_000_000))), "found it broken"),
    "large batch": (lambda: made_up.tarred({"cifar-10-batches-py/test_batch": bytes(60_000)}), "at most 0 MB, found"),
    "one missing": (lambda: made_up.tarred(dict(list(GOOD.items())[1:])), "found none of data_batch_1"),
    "empty": (lambda: made_up.tarred({}), "found none of data_batch_1, .*test_batch"),
    "other images": (lambda: made_up.tarred({"x/test_batch.bin": bytes(12_292)}), "CIFAR-10's images, found others"),
    "no pickle": (lambda: made_up.tarred({"x/test_batch": b"hello"}), "a batch of CIFAR-10, found it broken"),
    "a pickle that would run a command": (
        lambda: made_up.tarred({"x/test_batch": b"cos\nsystem\n(S'touch harmed'\ntR."}),
        "CIFAR-10's images, found others",
    ),
    "a zip file": (lambda: b"PK\x03\x04" + bytes(100), "complete .tar.gz archive, found it broken"),
    "half": (lambda: PYTHON[:HALF], "complete .tar.gz archive, found it broken"),
    "nothing": (lambda: b"", "found it broken|found none of"),
}


def bomb_in_a_header():
    """A name of 5 MB, in a header that tarfile would read into memory."""
    return made_up.tarred({"x" * 5_000_000: b""})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(server, tmp_path, monkeypatch, name):
    make, message = HOSTILE[name]
    monkeypatch.setattr(cifar10_files, "MOST_BYTES", 2_000_000)
    monkeypatch.setattr(cifar10_files, "MOST_BATCH", 40_000)
    monkeypatch.chdir(tmp_path)
    server.files[ARCHIVE] = make()
    with pytest.raises(ValueError, match=message) as caught:
        datasets.download_cifar10(tmp_path / "data", server.url + ARCHIVE)
    assert "\n" not in str(caught.value)
    check_absent(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # nothing outside, and no file called harmed
    server.files[ARCHIVE] = PYTHON
    datasets.download_cifar10(tmp_path / "data", server.url + ARCHIVE)
    check(tmp_path / "data")
