"""What torch may take of this machine: threads for the cores that this process has, memory, a folder for its cache.

torch counts the cores of the machine. In a container, or beside other students on a hub, fewer belong to this process,
and threads that share a core wait for each other.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # read when torch or numpy is loaded
MARK = "VIT_TUTORIAL_THREADS"  # holds what this module has set, so that it is not taken for the user's own setting


def affinity() -> int:
    """The cores that the operating system lets this process run on; all of them on macOS and Windows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(folder: Path) -> float:
    """The cores' worth of time that a cgroup's folder allows: version 2, else version 1; infinite without a quota."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # microseconds in every period
        try:
            time, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if time not in ("max", "-1"):
            return int(time) / int(period)
    return float("inf")


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use, at least 1.

    The smallest of: its affinity; the quota of its cgroup and of every cgroup around that one (containers, systemd);
    `CPU_LIMIT`, which JupyterHub sets to `c.Spawner.cpu_limit`. `cgroup` is where the cgroups' files are, `own` lists
    those that this process is in.
    """
    limits = [affinity()]
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):  # version 2 names none
            top, parts = cgroup / "cpu" if controllers else cgroup, PurePosixPath(path).parts[1:]
            limits += [quota(top.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)]
    if "JUPYTERHUB_USER" in os.environ:
        with suppress(ValueError):  # no number, no limit
            limits.append(float(os.environ.get("CPU_LIMIT", "")))
    return max(1, int(min(limits)))


def limit_threads() -> None:
    """Give torch, and the processes that this one starts, no more threads than there are cores for them.

    Called when `vit_tutorial` is imported. Changes nothing where torch counts right, nor where one of `VARIABLES` is
    set; a `torch.set_num_threads` after it takes precedence. Each process of a `torchrun` takes its share.
    """
    cores = usable_cores()
    own_setting = {os.environ.get(name) for name in VARIABLES} - {None, os.environ.get(MARK)}
    if own_setting or cores >= affinity():
        return
    threads = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    os.environ.update(dict.fromkeys((*VARIABLES, MARK), str(threads)))
    torch = sys.modules.get("torch")  # a notebook imports it first
    if torch and torch.get_num_threads() > threads:
        torch.set_num_threads(threads)


def usable_cache():
    """Have torch forget a `TORCHINDUCTOR_CACHE_DIR` that cannot be made, for its optimisers do not load with one."""
    try:
        os.makedirs(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or ".", exist_ok=True)
    except OSError:
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]


def keep_memory():
    """Have glibc keep large blocks for reuse; by default it returns and asks for them again at every training step.

    The same numbers, about a tenth faster on two CPU cores; the process keeps its peak memory. Does nothing elsewhere.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: below 1 GiB, from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give its end back
