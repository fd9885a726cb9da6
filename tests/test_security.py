"""What SECURITY.md promises, where no other test proves it; and that what proves it can see a fault."""

import re
import subprocess
import sys

import audit
import pytest

from notebooks import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_policy_names_tests_and_commands_that_are_there():
    tests, targets = re.findall(r"`(test_\w+\*?\.py)`", TEXT), set(re.findall(r"`make ([\w-]+)`", TEXT))
    assert len(tests) >= 5 and targets
    assert [name for name in tests if not any((ROOT / "tests").glob(name))] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_nothing_asks_torch_to_run_what_a_file_says():
    """The linter finds the other ways (pyproject.toml, S rules); torch.load refuses unless it is told otherwise."""
    for path in (*ROOT.glob("vit_tutorial/**/*.py"), *ROOT.glob("notebooks/source/*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True", text), path


LOOPBACK = (
    "import socket; server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())"
)
OUTSIDE = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 5)\nexcept OSError: pass"
NAME = OUTSIDE.replace("192.0.2.1", "example.org")
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {OUTSIDE!r}])"


@pytest.mark.parametrize(
    ("program", "quiet"), [(LOOPBACK, True), (OUTSIDE, False), (NAME, False), (CHILD, False), ("exit(3)", True)]
)
def test_offline_counts_what_wants_to_get_out(program, quiet):
    command = [sys.executable, str(ROOT / "tools" / "try" / "offline.py"), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2 and "network namespace" in done.stderr:
        pytest.skip(done.stderr.strip())
    attempts = int(re.search(r"^offline: (\d+) attempts", done.stderr, re.MULTILINE)[1])
    assert (attempts == 0) == quiet
    assert done.returncode == (3 if "exit" in program else not quiet)  # the program's own, and it hid its failure


def package(name, **answer):
    return {"name": name, "version": "1.0", **answer}


HOLE = {"id": "CVE-1", "fix_versions": ["1.1"], "aliases": []}


@pytest.mark.parametrize(
    ("answers", "status", "says"),
    [
        ([package("a", vulns=[]), package("b", vulns=[])], 0, r"0 known vulnerabilities in 2 packages"),
        ([package("a", vulns=[HOLE]), package("b", vulns=[])], 1, r"a 1\.0: CVE-1, mended in 1\.1\n1 known"),
        ([package("a", vulns=[]), package("b", skip_reason="not found")], 2, r"1 of 2 packages could not be looked up"),
        ([package("a", vulns=[HOLE]), package("b", skip_reason="not found")], 1, r"1 known .*\n1 of 2 packages could"),
        ([], 2, r"0 packages\n2 of 2 packages could not be looked up"),
    ],
)
def test_the_audit_calls_nothing_clean_that_was_not_looked_up(answers, status, says):
    report, found = audit.verdict(answers, 2)
    assert found == status and re.search(says, report)
