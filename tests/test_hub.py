"""What `tools/hub` gives a teacher: a link that decodes to the course, settings that a hub can read."""

import re
import runpy
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import hub_link
import hub_load
import pytest
import yaml
from traitlets.config import Config

from notebooks import ROOT, repository
from vit_tutorial.classroom import editions, find_notebooks

HUB = ROOT / "tools" / "hub"


@pytest.mark.parametrize("notebook", ["notebooks/00_start_here.ipynb", "notebooks/03_attention.ipynb"])
@pytest.mark.parametrize("address", ["https://hub.example.org", "https://example.org/a/hub/"])
def test_link_decodes_to_the_course(capsys, address, notebook):
    assert hub_link.main([address, notebook]) == 0
    link = capsys.readouterr().out.strip()
    assert re.fullmatch(r"[\w/:.?=&%+-]+", link) and "=lab%2Ftree%2F" in link and "=https%3A%2F%2F" in link
    assert link.startswith(f"{address.rstrip('/')}/hub/user-redirect/git-pull?")
    folder = repository().rsplit("/", 1)[1]  # what git clone names it
    assert parse_qs(urlsplit(link).query) == {
        "repo": [repository()],
        "branch": ["main"],
        "urlpath": [f"lab/tree/{folder}/{notebook}"],
    }


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["hub.example.org"], "the hub's address, such as https://hub.example.org, found 'hub.example.org'"),
        (["https://hub.example.org/?next=x"], "the hub's address"),
        (["javascript:alert(1)"], "the hub's address"),
        (["https://hub.example.org", "notebooks/99.ipynb"], "a notebook .* found 'notebooks/99.ipynb'"),
        (["https://hub.example.org", "../other/notebook.ipynb"], "a notebook of the course"),
    ],
)
def test_link_refuses(capsys, arguments, found):
    assert hub_link.main(arguments) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(f"hub_link: expected {found}.*\n", captured.err) and not captured.out


def test_link_of_a_class_opens_what_it_was_given(capsys, tmp_path):
    (course,) = find_notebooks(ROOT / "notebooks", ["03"]).values()
    path = tmp_path / "03_attention.ipynb"
    editions.write(editions.assignment(course), path)
    address = "https://github.com/OWNER/REPO"
    for published, branch, folder in ((address, "main", ""), (f"{address}/tree/autumn/week3/", "autumn", "week3/")):
        assert hub_link.main(["https://hub.example.org", str(path), "--published", published]) == 0
        captured = capsys.readouterr()
        assert parse_qs(urlsplit(captured.out.strip()).query) == {
            "repo": [address],
            "branch": [branch],
            "urlpath": [f"lab/tree/REPO/{folder}03_attention.ipynb"],
        }
        assert not captured.err
    for made, found in ((editions.solved, "one with solutions"), (editions.student, "one without grading ids")):
        editions.write(made(course), path)
        assert hub_link.main(["https://hub.example.org", str(path), "--published", address]) == 2
        assert f"found {found}" in capsys.readouterr().err
    assert hub_link.main(["https://hub.example.org", str(path)]) == 2 and "--published" in capsys.readouterr().err
    assert hub_link.main(["https://hub.example.org", str(tmp_path / "x"), "--published", address]) == 2
    assert hub_link.main(["https://hub.example.org", "--published", address]) == 2  # the course's own first notebook
    assert hub_link.main(["https://hub.example.org"]) == 0 and "with its solutions" in capsys.readouterr().err


def test_the_hub_of_the_load_test_is_for_this_machine_alone(monkeypatch, tmp_path):
    values = {"FOLDER": tmp_path, "ADDRESS": "http://127.0.0.1:8000", "HUB": "http://127.0.0.1:8001"}
    values |= {"PROXY": "proxy", "PROXY_API": "http://127.0.0.1:8002", "PASSWORD": "secret", "CPU_LIMIT": "0.2"}
    for name, value in values.items():
        monkeypatch.setenv(f"HUB_TEST_{name}", str(value))
    config = Config()
    runpy.run_path(str(HUB / "jupyterhub_config.py"), init_globals={"get_config": lambda: config})
    addresses = (config.JupyterHub.bind_url, config.JupyterHub.hub_bind_url, config.ConfigurableHTTPProxy.api_url)
    assert [urlsplit(address).hostname for address in addresses] == ["127.0.0.1"] * 3
    assert config.Spawner.ip == "127.0.0.1" and config.Spawner.cpu_limit == 0.2
    assert config.SharedPasswordAuthenticator.user_password == "secret"
    assert urlsplit(hub_load.free_address()).hostname == "127.0.0.1"


def gigabytes(text):
    return float(re.fullmatch(r"([\d.]+)G", text)[1])


def test_settings_of_both_hubs_parse_and_agree():
    little, kubernetes = (yaml.safe_load((HUB / name).read_text()) for name in ("tljh.yaml", "z2jh.yaml"))
    student = kubernetes["singleuser"]
    assert little["limits"] == {"memory": student["memory"]["limit"], "cpu": student["cpu"]["limit"]}
    assert gigabytes(student["memory"]["limit"]) >= 1.5  # what a notebook may take
    assert gigabytes(student["memory"]["guarantee"]) < gigabytes(student["memory"]["limit"])
    assert little["services"]["cull"]["timeout"] == kubernetes["cull"]["timeout"]


def test_the_commands_name_files_that_are_there():
    text = (HUB / "README.md").read_text()
    named = set(re.findall(r"(?:tools|notebooks)/[\w/.]+\.(?:py|yaml|ipynb)", text))
    assert len(named) >= 4
    assert [name for name in named if not Path(ROOT, name).is_file()] == []


def test_the_report_counts_faults(capsys):
    pupils = [hub_load.Student(name, "http://127.0.0.1", "") for name in ("ada", "bob")]
    for pupil, seconds in zip(pupils, (2.0, 5.0), strict=True):
        pupil.seconds = dict.fromkeys(("log in", "start server", "open", "run"), seconds)
        pupil.cells = [(seconds / 2, "\nx = 1\ny = 2")]
    pupils[1].faults = ["ValueError: seen"]
    memory = hub_load.Memory(None, ["ada", "bob"])
    memory.pss, memory.rss, memory.all = {"ada": 1e9, "bob": 2e9}, {"ada": 3e9, "bob": 4e9}, 3e9
    hub_load.report(pupils, memory, 9.0)
    said = capsys.readouterr().out
    assert re.search(r"run +2\.0 s the first, +5\.0 s the last student", said)
    assert "1000 to 2000 MB per student" in said and "3000 MB together (PSS)" in said
    assert "2.5 s (bob): x = 1\n" in said
    assert "1 of 2 students, 2 cells run, 1 failed\n  bob: ValueError: seen" in said
