"""`vit-tutorial lab`: how JupyterLab is started, and whom it lets in; test_explorers.py opens it in a browser."""

import argparse
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import front_ends
import nbformat
import psutil
import pytest
import requests
from conftest import PATIENCE
from nbformat.v4 import new_notebook

from vit_tutorial import lab


def write_course(folder):
    """A first notebook; nothing runs in the checkout itself."""
    first = folder / lab.FIRST_NOTEBOOK
    first.parent.mkdir()
    nbformat.write(new_notebook(), first)


@pytest.fixture
def course(tmp_path, monkeypatch):
    write_course(tmp_path)
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The folder of a course that `vit-tutorial lab` serves, and the address that it prints."""
    folder = tmp_path_factory.mktemp("course")
    write_course(folder)
    with front_ends.jupyterlab(folder) as address:
        yield folder, address


def options(*arguments):
    parser = argparse.ArgumentParser()
    lab.add_arguments(parser)
    return parser.parse_args(arguments)


def test_course_folder_is_the_checkout_or_the_current_folder(course, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert lab.course_folder() == course
    monkeypatch.setattr(lab, "ROOT", elsewhere)
    with pytest.raises(ValueError, match="expected notebooks/00_start_here.ipynb .* found neither; run this in"):
        lab.course_folder()
    monkeypatch.chdir(course)
    assert lab.course_folder() == course


def test_options_reach_jupyterlab(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "can_show_browser", lambda: True)
    found = lab.lab_options(options("--ip", "0.0.0.0", "--port", "8899"), tmp_path)
    assert {"--ip=0.0.0.0", "--port=8899", f"--ServerApp.root_dir={tmp_path}"} <= set(found)
    assert "--no-browser" not in found and not any("token" in option for option in found)
    assert "--no-browser" in lab.lab_options(options("--no-browser"), tmp_path)
    monkeypatch.setattr(lab, "can_show_browser", lambda: False)
    assert "--no-browser" in lab.lab_options(options(), tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a system with a root user")
@pytest.mark.parametrize("user", [0, 1000])
def test_root_is_allowed_for_root_alone(tmp_path, monkeypatch, user):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ("--allow-root" in lab.lab_options(options(), tmp_path)) == (user == 0)


def test_browser_takes_a_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not lab.can_show_browser()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert lab.can_show_browser()
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert lab.can_show_browser()


def test_settings_join_those_that_are_there(monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "elsewhere")
    lab.use_course_settings()
    assert os.environ["JUPYTER_CONFIG_PATH"] == f"{lab.CONFIG}{os.pathsep}elsewhere"


def test_listens_on_this_machine_alone(server):
    folder, address = server
    (running,) = Path(front_ends.own_folders(folder)["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json")
    process = psutil.Process(json.loads(running.read_text())["pid"])
    open_to = {(c.laddr.ip, c.laddr.port) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", urlsplit(address).port) in open_to
    assert {ip for ip, _ in open_to} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("path", ["/lab", "/api/contents", "/api/kernels", f"/files/{lab.FIRST_NOTEBOOK}"])
def test_only_the_token_lets_in(server, path):
    address = urlsplit(server[1])
    page, (token,) = address._replace(path=path, query="").geturl(), parse_qs(address.query)["token"]
    assert len(token) >= 40

    def ask(token):
        headers = {"Authorization": f"token {token}"} if token else {}
        answer = requests.get(page, headers=headers, allow_redirects=False, timeout=PATIENCE)
        return answer.status_code, answer.headers.get("Location", "")

    for guess in (None, "0" * len(token)):
        status, elsewhere = ask(guess)
        assert status == 403 or (status == 302 and elsewhere.startswith("/login?")), f"{path}: {status} {elsewhere}"
    assert ask(token) == (200, "")


def test_without_jupyterlab_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="found none; run python -m pip install jupyterlab"):
        lab.main(argparse.Namespace())
