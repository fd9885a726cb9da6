"""Run a command that nobody vouches for, such as the kernel that executes a student's notebook.

Run as a script by `kernel.SandboxedKernelManager`; it needs the standard library alone. Three processes: this one
keeps watch with the teacher's rights, bubblewrap takes the rights away, and inside it this file once more sets the
limits and becomes the command. The command sees the files of the system, of Python and of the course's package and
data, read-only, a folder of its own with the submission's files, and nothing else: no network, no other process, no
home folder. It runs without any capability; where root starts it, it runs as a user of its own.
"""

import functools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

COURSE = Path(__file__).resolve().parents[2]
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"]
SYSTEM += ["/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime"]
HIDDEN = ["/usr/local/share/nbgrader"]  # where nbgrader by default collects what everybody hands in
WORK, SUBMITTED = "/answers", "/submitted"
SCRATCH = 256 << 20  # bytes that fit in each of /answers, /tmp and /dev/shm
OWN_FILES = 64 << 20  # bytes of a submission beside its notebook
RUNTIME = 1 << 20  # bytes in the folder of the kernel's sockets
NOBODY = 65534
USERS = 61184, 4336  # first and number of the user ids that are set aside for services of the moment (systemd's range)
LIMITS = {"seconds": 1800, "memory": 3072, "processes": 96}  # memory in MiB
WHY = """expected bubblewrap to run submissions without rights and without a network, found: {}

What to do: on Debian and Ubuntu `sudo apt-get install bubblewrap`, on Fedora `sudo dnf install bubblewrap`; on macOS
and Windows grade in a Linux virtual machine (WSL 2 is one). A container often forbids what bubblewrap needs,
namespaces: grade on the machine itself, or start the container with the options seccomp, apparmor and systempaths of
`--security-opt` set to `unconfined`. --without-sandbox grades all the same: then a submission may read, change and
send whatever you may."""


def readable():
    """What a submission may read, each where it is outside, too: the system, Python, the course's package and data."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    prefixes = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *packages]
    course = [str(COURSE / name) for name in ("vit_tutorial", "data", "pyproject.toml")]  # by which a checkout is known
    wanted = [*SYSTEM, *prefixes, *course]
    return list(dict.fromkeys(path for path in wanted if os.path.exists(path)))


def bubblewrap(submitted, runtime, user):
    """The command line that runs what is added to it inside, as `user` where root starts it."""
    line = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    line += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if user:  # root: no user namespace, for in one it would stay root to the limits; `become` changes the user
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        line += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    line += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (WORK, "/tmp", "/dev/shm"):
        line += ["--size", str(SCRATCH), "--perms", "1777", "--tmpfs", folder]
    readonly, shared = readable(), [runtime] if runtime else []
    parents = {str(parent) for path in (*readonly, *shared) for parent in Path(path).parents}
    for parent in sorted(parents - {"/", "/tmp"}):  # empty ones, which may be private on the machine itself
        line += ["--perms", "0755", "--dir", parent]
    for path in readonly:
        line += ["--ro-bind", path, path]
    line += ["--ro-bind", submitted, SUBMITTED]
    for path in shared:
        line += ["--bind", path, path]
    for path in filter(os.path.exists, HIDDEN):
        line += ["--size", "4096", "--perms", "0755", "--tmpfs", path, "--remount-ro", path]
    return [*line, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK, "--"]


def become(user, rlimits, submitted, work, *command):
    """Limit this process and all its children, copy the submission's own files to `work`, become the command."""
    import resource

    for name, value in rlimits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)  # which also gives up every capability
    for path in sorted(Path(submitted).rglob("*")):
        own = Path(work) / path.relative_to(submitted)
        own.mkdir() if path.is_dir() else shutil.copyfile(path, own)
    os.chdir(work)
    os.execv(command[0], command)


def copy_submission(folder, target):
    """Copy a submission's own files, without its notebooks (they hold the tests) and without links."""
    total = 0
    for parent, _, names in os.walk(folder):  # which follows no link
        copy = Path(target, os.path.relpath(parent, folder))
        copy.mkdir(exist_ok=True)
        for name in sorted(names):
            path = Path(parent, name)
            plain = stat.S_ISREG(path.lstat().st_mode) and path.suffix != ".ipynb"
            if plain and (total := total + path.lstat().st_size) < OWN_FILES:
                shutil.copyfile(path, copy / name)
    for path in (Path(target), *Path(target).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def family(pid):
    """`pid` and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        found.append(current := waiting.pop())
        for path in Path(f"/proc/{current}/task").glob("*/children"):
            with suppress(OSError):  # ended meanwhile
                waiting += map(int, path.read_text().split())
    return found


def memory_of(pids):
    """KiB that these processes hold by themselves, files of libraries left out."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total


def excess(limits, runtime, pid, started):
    """Which limit is passed, in words, or None."""
    if time.monotonic() - started > limits["seconds"]:
        return f"time: more than {limits['seconds']} s for the notebook"
    pids = family(pid)
    if memory_of(pids) > limits["memory"] << 10:
        return f"memory: more than {limits['memory']} MiB"
    if len(pids) > limits["processes"]:
        return f"processes: more than {limits['processes']}"
    if runtime and sum(file.lstat().st_size for file in Path(runtime).glob("*")) > RUNTIME:
        return "files: written beside the kernel's sockets"
    return None


def watch(process, limits, runtime):
    """Wait for the end, until a limit is passed, or until who asked for it is gone; returns why, or None."""
    started, parent = time.monotonic(), os.getppid()
    while process.poll() is None:
        if os.getppid() != parent:
            return "the process that graded it ended"
        with suppress(OSError):  # a file went away while it was looked at
            if reason := excess(limits, runtime, process.pid, started):
                return reason
        time.sleep(0.1)
    return None


def end(process):
    """Kill a process and all its descendants, where it still runs."""
    for pid in reversed(family(process.pid)) if process.poll() is None else ():
        with suppress(OSError):  # ended meanwhile
            os.kill(pid, signal.SIGKILL)
    process.wait()


def run(command, folder, runtime=None, limits=LIMITS, without=False, **options):
    """Run `command` in the sandbox (or, `without` one, beside it), in a copy of the submission in `folder`.

    `runtime` is a folder that both sides write, for sockets; `options` go to `subprocess.Popen`. Returns why the
    command was killed, or None.
    """
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    user = USERS[0] + os.getpid() % USERS[1] if root and not without else None
    rlimits = {"DATA": limits["memory"] << 20, "CORE": 0, "FSIZE": SCRATCH}
    rlimits["CPU"] = limits["seconds"] * 4  # on several cores; the watch counts seconds on the clock
    if not without:  # elsewhere it would count the teacher's own processes too
        rlimits["NPROC"] = limits["processes"]
    enter = [sys.executable, "-I", str(Path(__file__).resolve()), "--inside", json.dumps([user, rlimits])]
    env = {"PATH": os.defpath, "HOME": "/tmp"} if not without else dict(os.environ)
    env |= {"TMPDIR": "/tmp", "LANG": "C.UTF-8", "PYTHONPATH": str(COURSE), "PYTHONDONTWRITEBYTECODE": "1"}
    env["MEM_LIMIT"] = "2e9"  # as on a small hub: what starts several processes that talk to each other is left out
    env["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")  # several submissions share the cores
    with tempfile.TemporaryDirectory() as scratch:
        submitted, work = os.path.join(scratch, "submitted"), os.path.join(scratch, "work")
        os.mkdir(work)
        copy_submission(folder, submitted)
        if without:
            line = [*enter, submitted, work, *command]
        else:
            line = [*bubblewrap(submitted, runtime, user), *enter, SUBMITTED, WORK, *command]
        if user and runtime:
            os.chown(runtime, user, user)
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, cwd="/", env=env, **options)
        try:
            return watch(process, limits, runtime)
        finally:
            end(process)


@functools.cache
def trouble():
    """Why bubblewrap does not do its work here, in words; None where it does."""
    if sys.platform != "linux":
        return f"{sys.platform}, where there is no bubblewrap"
    if not shutil.which("bwrap"):
        return "no program bwrap"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as out:
        run([sys.executable, "-I", "-c", "print('fine')"], folder, stdout=out, stderr=out)
        out.seek(0)
        said = out.read().strip()
    return None if said == "fine" else said[-300:] or "a command that ended without a word"


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        become(*json.loads(sys.argv[2]), *sys.argv[3:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what it watches over ends with it
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # not to the teacher's terminal
    if why := run(**json.loads(sys.argv[1]), folder=os.getcwd(), **nowhere):
        with suppress(FileNotFoundError):  # nobody waits for it any more
            Path(sys.argv[2]).write_text(why, encoding="utf-8")
