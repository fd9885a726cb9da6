"""`vit-tutorial doctor`: each probe says the right thing on a healthy machine and on a broken one."""

import argparse
import io
import os
import subprocess
import sys
import types
from collections import namedtuple
from importlib import metadata
from urllib.error import HTTPError

import pytest
import torch

from vit_tutorial import doctor, files
from vit_tutorial.doctor import NOTE, OK, PROBLEM, Finding
from vit_tutorial.machine import threads


def options(online=False):
    return argparse.Namespace(online=online)


def test_python_that_is_newer_than_the_tested_ones(monkeypatch):
    assert doctor.python_version().item == "Python"
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    assert doctor.python_version().state == OK
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert doctor.python_version().state == NOTE


def test_packages_within_their_bounds():
    assert doctor.packages().state == OK


def test_packages_that_are_missing_or_too_old(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=99", "no-such-package", 'pytest; extra == "test"'])
    finding = doctor.packages()
    assert finding.state == PROBLEM
    assert "where >=99 is needed" in finding.found and "no-such-package missing" in finding.found
    assert "pytest" not in finding.found  # belongs to an extra
    assert "pip install" in finding.advice


def test_packages_where_the_course_is_not_installed(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    assert doctor.packages().state == OK  # pyproject.toml beside the package says what is needed
    monkeypatch.setattr(doctor, "__file__", "/elsewhere/vit_tutorial/doctor.py")
    assert doctor.packages().state == PROBLEM


def test_torch_and_torchvision_fit():
    assert doctor.torch_and_torchvision().state == OK


def test_torch_and_torchvision_from_two_sources(monkeypatch):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("operator torchvision::nms does not exist\nand more lines")

    monkeypatch.setitem(sys.modules, "torchvision", Broken("torchvision"))
    finding = doctor.torch_and_torchvision()
    assert finding.state == PROBLEM
    assert finding.found.endswith("RuntimeError: operator torchvision::nms does not exist")
    assert "one source" in finding.advice


@pytest.mark.parametrize(("cores", "used", "state"), [(2, 2, OK), (2, 8, NOTE), (4, 1, NOTE), (1, 1, OK)])
def test_processor(monkeypatch, cores, used, state):
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used)
    finding = doctor.processor()
    assert finding.state == state
    assert (f"OMP_NUM_THREADS={cores}" in finding.advice) == (state == NOTE)


@pytest.mark.parametrize(
    ("bf16", "rates", "state"),
    [(False, (100, 1), OK), (False, (100, 200), NOTE), (True, (100, 500), OK), (True, (100, 90), NOTE)],
)
def test_arithmetic_names_both_speeds_and_the_faster_one(monkeypatch, bf16, rates, state):
    assert doctor.matmul_rate(torch.float32, size=64, rounds=1) > 0
    monkeypatch.setenv("VIT_TUTORIAL_PRECISION", "bfloat16" if bf16 else "float32")
    monkeypatch.setattr(doctor, "matmul_rate", lambda dtype: rates[dtype == torch.bfloat16])
    finding = doctor.arithmetic()
    assert finding.state == state and finding.found.startswith(f"float32 {rates[0]}, bfloat16 {rates[1]} GFLOP/s")
    assert (f"VIT_TUTORIAL_PRECISION={'float32' if bf16 else 'bfloat16'}" in finding.advice) == (state == NOTE)


def test_gpu_is_not_needed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.gpu().state == OK
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert doctor.gpu().state == NOTE
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "an Apple GPU, which the course does not use" in doctor.gpu().found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = types.SimpleNamespace(name="a card", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert doctor.gpu().found == "a card, 80 GB"


@pytest.mark.parametrize(
    ("kernel", "state"), [("python", OK), (sys.executable, OK), (os.path.join(os.sep, "elsewhere", "python"), PROBLEM)]
)
def test_jupyter_starts_its_notebooks_in_this_python(monkeypatch, kernel, state):
    from jupyter_client.kernelspec import KernelSpecManager

    spec = types.SimpleNamespace(argv=[kernel, "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    assert doctor.jupyter().state == state


def test_a_service_without_jupyterlab_is_no_problem(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert doctor.jupyter().state == NOTE


def test_widgets(monkeypatch):
    assert doctor.widgets().state == OK

    def version(name):
        if name == "anywidget":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    assert doctor.widgets() == Finding("Widgets", PROBLEM, "anywidget is missing", "python -m pip install anywidget")


@pytest.mark.parametrize(("free", "state"), [(50e9, OK), (1e9, NOTE), (1e8, PROBLEM)])
def test_disk(monkeypatch, free, state):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(free))
    assert doctor.disk().state == state


def test_data(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.setattr(files, "CHECKPOINT", tmp_path / "model.safetensors")
    assert [finding.state for finding in doctor.data()] == [OK, NOTE, PROBLEM]
    (tmp_path / "cifar10" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert [finding.state for finding in doctor.data()] == [OK, OK, OK]


@pytest.mark.parametrize(
    "url, expected",
    [
        ("https://github.com/you/mine.git", "https://github.com/you/mine"),
        ("https://name:secret@github.com/you/mine/", "https://github.com/you/mine"),
        ("git@github.com:you/mine.git", "https://github.com/you/mine"),
        ("ssh://git@github.com/you/mine", "https://github.com/you/mine"),
        ("/srv/mine.git", "/srv/mine"),
        (None, None),
    ],
)
def test_origin_of_a_checkout(tmp_path, url, expected):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    if url:
        subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)
    assert doctor.origin(tmp_path) == expected
    (tmp_path / "inside").mkdir()
    assert doctor.origin(tmp_path / "inside") is None  # the repository around it is another


@pytest.mark.parametrize(
    "commit, origin, state, found",
    [
        ("", None, NOTE, "nothing installs from it"),
        ("", "https://example.org/a/b", NOTE, "nothing installs from it"),
        ("1" * 40, "https://example.org/c/d", NOTE, "this checkout's origin is https://example.org/c/d"),
        ("1" * 40, None, NOTE, "this checkout's origin is none"),
        ("1" * 40, "https://example.org/A/b", OK, "https://example.org/a/b, commit 111111111111"),
    ],
)
def test_address(monkeypatch, tmp_path, commit, origin, state, found):
    assert doctor.address(tmp_path) == []  # no checkout: an installed course
    text = f'[project.urls]\nRepository = "https://example.org/a/b"\n[tool.vit-tutorial]\ncommit = "{commit}"\n'
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(doctor, "origin", lambda root: origin)
    finding = doctor.address(tmp_path)
    assert finding.state == state and found in finding.found
    assert ("python tools/build/fork.py OWNER/REPO" in finding.advice) == (state == NOTE)


def test_network_is_tried_only_on_request(monkeypatch, capsys):
    tried = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: tried.append(args) or io.BytesIO())
    monkeypatch.setattr(doctor, "PROBES", ())
    assert doctor.main(options()) == 0
    assert not tried and "not tried" in capsys.readouterr().out
    assert doctor.main(options(online=True)) == 0
    assert len(tried) == 1 and "online" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "state"), [(OSError("no route"), NOTE), (HTTPError("address", 404, "not found", None, None), OK)]
)
def test_network_without_an_answer_and_with_a_refusal(monkeypatch, error, state):
    def urlopen(*args, **kwargs):
        raise error

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert doctor.network().state == state


def test_a_probe_that_fails_is_a_finding_and_the_others_run():
    def broken_part():
        raise OSError("first line\nsecond line")

    findings = doctor.examine((broken_part, lambda: Finding("Other", OK, "fine")))
    assert [finding.state for finding in findings] == [PROBLEM, OK]
    assert findings[0].item == "broken part" and findings[0].found.endswith("OSError: first line")


def test_report_is_aligned_and_says_the_state_in_words(capsys, monkeypatch):
    monkeypatch.setattr(
        doctor,
        "PROBES",
        (lambda: Finding("Short", OK, "fine"), lambda: Finding("Longer item", PROBLEM, "broken", "mend it")),
    )
    assert doctor.main(options()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok       Short        fine"
    assert lines[1] == "problem  Longer item  broken"
    assert lines[2].strip() == "-> mend it"
    assert lines[-1] == "Problems to solve first: 1."


def test_runs_as_a_file_of_its_own():
    process = subprocess.run([sys.executable, doctor.__file__], capture_output=True, text=True)
    assert process.returncode in (0, 1), process.stderr
    assert "PyTorch" in process.stdout and process.stderr == ""
