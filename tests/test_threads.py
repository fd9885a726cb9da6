"""How many threads torch gets: as many as there are cores for this process, unless the reader says otherwise."""

import os
import subprocess
import sys
import types

import pytest

from vit_tutorial.machine import threads

CONTAINER, SERVICE = "0::/\n", "0::/system.slice/jupyter-ada.service\n"
VERSION_1 = "12:memory:/\n4:cpu,cpuacct:/lab/room\n0::/\n"


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Eight cores and nobody's setting; a function of this process's cgroups and their files gives the usable cores."""
    monkeypatch.setattr(threads, "affinity", lambda: 8)
    for name in (*threads.VARIABLES, threads.MARK, "CPU_LIMIT", "JUPYTERHUB_USER", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that monkeypatch takes back what the code under test sets
        monkeypatch.delenv(name)

    def usable(own, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "own").write_text(own)
        return threads.usable_cores(tmp_path / "cgroup", tmp_path / "own")

    return usable


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (CONTAINER, {}, 8),
        (CONTAINER, {"cpu.max": "max 100000\n"}, 8),
        (CONTAINER, {"cpu.max": "200000 100000\n"}, 2),
        (CONTAINER, {"cpu.max": "30000 100000\n"}, 1),
        (CONTAINER, {"cpu.max": "9900000 100000\n"}, 8),
        (CONTAINER, {"cpu.max": "not numbers at all\n"}, 8),
        (SERVICE, {"system.slice/jupyter-ada.service/cpu.max": "100000 100000\n"}, 1),
        (SERVICE, {"system.slice/jupyter-ada.service/cpu.max": "max 100000\n"}, 8),
        (SERVICE, {"system.slice/cpu.max": "300000 100000\n"}, 3),  # the quota around it binds too
        (SERVICE, {"system.slice/jupyter-bob.service/cpu.max": "100000 100000\n"}, 8),  # somebody else's
        (VERSION_1, {"cpu/lab/cpu.cfs_quota_us": "300000\n", "cpu/lab/cpu.cfs_period_us": "100000\n"}, 3),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (VERSION_1, {"cpu/lab/room/cpu.cfs_quota_us": "300000\n"}, 8),  # without its period, nothing
    ],
)
def test_quotas_of_cgroups_count(system, own, files, cores):
    assert system(own, files) == cores


def test_without_cgroups_the_cores_of_the_system_count(system, tmp_path):
    assert threads.usable_cores(tmp_path, tmp_path / "none") == 8


def test_affinity_counts(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert threads.affinity() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)  # macOS, Windows
    assert threads.affinity() == 6


def test_a_hub_says_how_many(system, monkeypatch):
    monkeypatch.setenv("CPU_LIMIT", "0.2")
    assert system(CONTAINER, {}) == 8  # not a hub's
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert system(CONTAINER, {}) == 1
    monkeypatch.setenv("CPU_LIMIT", "3.0")
    assert system(CONTAINER, {}) == 3
    monkeypatch.setenv("CPU_LIMIT", "2.9")
    assert system(CONTAINER, {}) == 2
    monkeypatch.setenv("CPU_LIMIT", "500m")  # not as JupyterHub writes it
    assert system(CONTAINER, {}) == 8
    monkeypatch.setenv("CPU_LIMIT", "3.0")
    assert system(CONTAINER, {"cpu.max": "200000 100000\n"}) == 2


class Torch(types.ModuleType):
    """A torch that has counted `counted` cores, and its threads."""

    def __init__(self, counted):
        super().__init__("torch")
        self.used = counted

    def get_num_threads(self):
        return self.used

    def set_num_threads(self, used):
        self.used = used


@pytest.mark.parametrize(("cores", "counted", "used"), [(2, 8, 2), (8, 8, 8), (8, 4, 4), (4, 1, 1)])
def test_torch_gets_no_more_threads_than_cores(system, monkeypatch, cores, counted, used):
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    monkeypatch.setitem(sys.modules, "torch", Torch(counted))
    threads.limit_threads()
    assert sys.modules["torch"].used == used
    expected = str(cores) if cores < 8 else None  # where torch counts right, the environment stays as it was
    assert {os.environ.get(name) for name in threads.VARIABLES} == {expected}


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_the_readers_own_setting_wins(system, monkeypatch, name):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", Torch(6))
    monkeypatch.setenv(name, "6")
    threads.limit_threads()
    assert sys.modules["torch"].used == 6
    assert [other for other in (*threads.VARIABLES, threads.MARK) if other in os.environ] == [name]


def test_processes_of_a_torchrun_share_the_cores(system, monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    threads.limit_threads()  # in a notebook, which then starts torchrun
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "torch", Torch(4))
    threads.limit_threads()  # in one of its two processes: four were no setting of the reader's
    assert sys.modules["torch"].used == 2


@pytest.mark.skipif(threads.affinity() < 2, reason="needs two cores, of which one may be used")
@pytest.mark.parametrize("first", ["import torch, vit_tutorial", "import vit_tutorial, torch"])
def test_in_a_process_of_a_hub(first):
    environ = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", f"{first}; print(torch.get_num_threads())"],
        env=environ | {"JUPYTERHUB_USER": "ada", "CPU_LIMIT": "0.2"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
