"""What a submission cannot do: each test is a program that tries, run in the sandbox that grading uses."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PATIENCE

from vit_tutorial.classroom import sandbox

ROOT = Path(__file__).resolve().parent.parent
TROUBLE = sandbox.trouble()


def run(code, folder, limits=None, **settings):
    """What a program prints in the sandbox, and why it was killed (None where it was not)."""
    command, settings["limits"] = [sys.executable, "-I", "-c", code], sandbox.LIMITS | (limits or {})
    with (folder.parent / "out").open("w+") as file:
        why = sandbox.run(command, folder, stdout=file, stderr=subprocess.STDOUT, **settings)
    return (folder.parent / "out").read_text(), why


def runs(program):
    """Whether a process of this machine runs it."""
    return any(program in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


def wait_until(condition):
    for _ in range(10 * PATIENCE):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


@pytest.fixture
def submission(tmp_path):
    """`tmp_path/class/me`, with a file of its own; beside it another submission and the solutions."""
    for name, text in (("me/own.txt", "mine"), ("other/answer.txt", "theirs"), ("solved/03.ipynb", "solved")):
        path = tmp_path / "class" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "class/me/graded.ipynb").write_text("hidden tests")
    (tmp_path / "class/me/link.txt").symlink_to(tmp_path / "class/other/answer.txt")
    (tmp_path / "class/me/folder").symlink_to(tmp_path / "class/other")
    return tmp_path / "class" / "me"


@pytest.fixture
def me(submission):
    """`submission` where there is a sandbox. Where not, its tests prove nothing: on Linux in CI, that is a failure."""
    if TROUBLE:
        required = os.environ.get("CI") == "true" and sys.platform == "linux"
        (pytest.fail if required else pytest.skip)(f"no sandbox here: {TROUBLE}")
    return submission


def test_a_submission_sees_its_own_files_and_nothing_else(me):
    places = [me.parent, ROOT / "notebooks", ROOT / "tests", Path.home(), "/home", "/etc/shadow", "/etc/passwd"]
    code = f"""
import json, os
found = {{"here": sorted(os.listdir("."))}}
found["own"] = open("own.txt").read()
found["seen"] = [place for place in {[str(place) for place in places]} if os.path.exists(place) and
                 (os.path.isfile(place) or [n for n in os.listdir(place) if not n.startswith(".")])]
words = (b"theirs", b"hidden tests", b"solved")
found["others"] = []
for folder, folders, names in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "dev", "usr", "lib", "lib64", "bin", "sbin")]
    folders[:] = [name for name in folders if name not in ("site-packages", "versions", "lib")]
    for name in names:
        path = os.path.join(folder, name)
        try:
            if os.path.getsize(path) < 100 and path != "/submitted/own.txt" and open(path, "rb").read() in words:
                found["others"].append(path)
        except OSError:  # a link that leads nowhere, a file that may not be read
            pass
print(json.dumps(found))
"""
    found = json.loads(run(code, me)[0])
    assert found["here"] == ["own.txt"] and found["own"] == "mine"
    home = str(Path.home())
    assert set(found["seen"]) <= {home} and found["others"] == []


def test_it_sees_the_course_as_it_is_installed(me):
    code = "from vit_tutorial import files; print(files.IN_CHECKOUT, files.CHECKPOINT.is_file())"
    said, _ = run(f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", me)
    assert said.split() == [str((ROOT / "pyproject.toml").is_file()), "True"]


def test_what_nbgrader_collects_is_hidden(me, monkeypatch):
    monkeypatch.setattr(sandbox, "HIDDEN", [str(me.parent / "other")])
    readable = sandbox.readable
    monkeypatch.setattr(sandbox, "readable", lambda: [*readable(), str(me.parent)])
    code = f"import os; print([os.listdir({str(me.parent)!r} + x) for x in ('', '/other', '/solved')])"
    found = eval(run(code, me)[0])
    assert [sorted(names) for names in found] == [["me", "other", "out", "solved"], [], ["03.ipynb"]]


def test_a_submission_has_no_rights(me):
    code = """
import os
print(os.getuid() != 0 and os.getuid())
status = open("/proc/self/status").read()
print([line.split()[1].strip("0") for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))])
print("NoNewPrivs:\\t1" in status)
print(len([name for name in os.listdir("/proc") if name.isdigit()]) < 6)
for path in ("/usr/x", os.__file__, "/x", "/submitted/own.txt", "/dev/x"):
    try:
        open(path, "a")
        print("wrote", path)
    except OSError:
        pass
print(sorted(set(os.environ) - {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "OMP_NUM_THREADS", "PWD"}))
"""
    lines = run(code, me)[0].splitlines()
    assert int(lines[0]) > 0
    assert lines[1:] == ["['', '']", "True", "True", "['MEM_LIMIT', 'PYTHONDONTWRITEBYTECODE']"]
    assert (me / "own.txt").read_text() == "mine"


def test_a_submission_has_no_network(me, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import socket
for address in (("127.0.0.1", {server.getsockname()[1]}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, 3)
        print("connected", address)
    except OSError as error:
        print("none")
print([name for _, name in socket.if_nameindex()])
"""
        assert run(code, me)[0].splitlines() == ["none", "none", "['lo']"]


def test_a_fork_bomb_ends_at_the_limit(me):
    code = (
        f"# {me}"
        + """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(3600)
        count += 1
except OSError:
    print(count)
"""
    )
    said, _ = run(code, me, limits={"processes": 40, "seconds": PATIENCE})
    assert 20 < int(said) < 40
    wait_until(lambda: not runs(code))  # its children ended with it


def test_a_memory_bomb_gets_a_memory_error(me):
    code = """
blocks = []
try:
    while True:
        blocks.append(bytearray(10 << 20))
except MemoryError:
    print(len(blocks))
"""
    said, _ = run(code, me, limits={"memory": 300})
    assert 10 < int(said) < 30


def test_a_memory_bomb_of_many_processes_is_killed(me):
    code = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(b"x") * (100 << 20)
        time.sleep(3600)
time.sleep(3600)
"""
    _, why = run(code, me, limits={"memory": 300, "seconds": PATIENCE})
    assert why == "memory: more than 300 MiB"


def test_an_endless_loop_is_killed_with_all_that_it_started(me, tmp_path):
    code = (
        f"# {me}"
        + """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid() if os.fork() == 0 else None
while True:
    pass
"""
    )
    _, why = run(code, me, limits={"seconds": 2})
    assert why == "time: more than 2 s for the notebook"
    wait_until(lambda: not runs(code))


def test_a_submission_ends_with_the_process_that_graded_it(submission):
    report = submission.parent / "report"
    command = [sys.executable, "-I", "-c", f"import time; time.sleep(3600)  # {report}"]
    job = json.dumps({"command": command, "without": bool(TROUBLE)})
    line = json.dumps([sys.executable, "-I", sandbox.__file__, job, str(report)])
    code = f"import subprocess, time; subprocess.Popen({line}); time.sleep(3600)"
    grader = subprocess.Popen([sys.executable, "-I", "-c", code], cwd=submission)
    wait_until(lambda: runs(command[-1]))
    assert not report.exists()
    grader.kill()
    grader.wait()
    wait_until(lambda: report.exists() and report.read_text())
    assert report.read_text() == "the process that graded it ended"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", sandbox.WORK])
def test_what_a_submission_writes_is_small_and_gone(me, folder):
    code = f"""
block = b"x" * (32 << 20)
try:
    for name in range(20):
        open("{folder}/" + str(name), "wb").write(block)
    print("wrote all")
except OSError as error:
    print("full at", name)
"""
    said, _ = run(code, me)
    assert said in ("full at 7\n", "full at 8\n")
    assert not (me / "0").exists()


def test_sockets_cannot_be_used_as_a_store(me, tmp_path):
    runtime = tmp_path / "run"
    runtime.mkdir()
    code = f"import time; open({str(runtime / 'x')!r}, 'wb').write(b'x' * (8 << 20)); time.sleep(3600)"
    _, why = run(code, me, runtime=str(runtime), limits={"seconds": PATIENCE})
    assert why == "files: written beside the kernel's sockets"


def test_without_bubblewrap_the_reason_and_the_way_out_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    found = sandbox.trouble.__wrapped__()  # not what was found before
    assert found in ("no program bwrap", f"{sys.platform}, where there is no bubblewrap")
    message = sandbox.WHY.format(found)
    assert "apt-get install bubblewrap" in message and "--without-sandbox" in message and "{" not in message


@pytest.mark.skipif(sys.platform == "win32", reason="limits need a POSIX system")
def test_without_a_sandbox_limits_still_hold(submission):
    _, why = run("while True: pass", submission, without=True, limits={"seconds": 1})
    assert why == "time: more than 1 s for the notebook"
