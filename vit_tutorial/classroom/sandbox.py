"""Run a command that nobody vouches for, such as the kernel that executes a student's notebook.

Run as a script, `python sandbox.py SPEC`, by `kernel.SandboxedKernelManager`; it needs the standard library alone.
Three processes: this one keeps watch with the teacher's rights, bubblewrap takes the rights away, and inside it this
file once more sets the limits and becomes the command. The command sees the files of the system, of Python and of the
course's package and data, read-only, a folder of its own with the submission's files, and nothing else: no network, no
other process, no home folder. It runs without any capability; where root starts it, it runs as a user of its own.
"""

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
from pathlib import Path

SYSTEM = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
]
HIDDEN = ["/usr/local/share/nbgrader"]  # where nbgrader by default collects what everybody hands in
WORK, SUBMITTED = "/answers", "/submitted"
SCRATCH = 256 << 20  # bytes that fit in each of /answers, /tmp and /dev/shm
OWN_FILES = 64 << 20  # bytes of a submission beside its notebook
RUNTIME = 1 << 20  # bytes in the folder of the kernel's sockets
NOBODY = 65534
USERS = 61184, 4336  # first and number of the user ids that are set aside for services of the moment (systemd's range)
LIMITS = {"seconds": 1800, "memory": 3 << 30, "processes": 96}
WHY = """expected bubblewrap to run submissions without rights and without a network, found: {}

What to do: on Debian and Ubuntu `sudo apt-get install bubblewrap`, on Fedora `sudo dnf install bubblewrap`; on macOS
and Windows grade in a Linux virtual machine (WSL 2 is one). A container often forbids what bubblewrap needs,
namespaces: grade on the machine itself, or start the container with the options seccomp, apparmor and systempaths of
`--security-opt` set to `unconfined`. --without-sandbox grades all the same: then a submission may read, change and
send whatever you may."""


def readable(course):
    """The folders that a submission may read: the system's, Python's, and the package and data in `course`."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    prefixes = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *packages]
    wanted = [*SYSTEM, *prefixes, *(os.path.join(course, name) for name in ("vit_tutorial", "data"))]
    return list(dict.fromkeys(path for path in wanted if os.path.exists(path)))


def bubblewrap(spec, submitted):
    """The command line that runs `spec["command"]` inside."""
    line = [shutil.which("bwrap") or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    line += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if spec["user"]:  # root: no user namespace, for in one it would stay root to the limits; `become` changes the user
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        line += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    line += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (WORK, "/tmp", "/dev/shm"):
        line += ["--size", str(SCRATCH), "--perms", "1777", "--tmpfs", folder]
    shared = [spec["runtime"]] if spec["runtime"] else []
    parents = {str(parent) for path in [*spec["readable"], *shared] for parent in Path(path).parents}
    for parent in sorted(parents - {"/", "/tmp"}):  # empty ones, which may be private on the machine itself
        line += ["--perms", "0755", "--dir", parent]
    for path in spec["readable"]:
        line += ["--ro-bind", path, path]
    line += ["--ro-bind", submitted, SUBMITTED]
    for path in shared:
        line += ["--bind", path, path]
    for path in filter(os.path.exists, HIDDEN):
        line += ["--size", "4096", "--perms", "0755", "--tmpfs", path, "--remount-ro", path]
    line += ["--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in spec["environment"].items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", WORK, "--", *inside(spec, SUBMITTED, WORK)]


def inside(spec, submitted, work):
    """The command line that sets the limits and becomes the command."""
    part = {name: spec[name] for name in ("command", "limits", "user", "without")}
    return [sys.executable, "-I", spec["script"], "--inside", json.dumps(part), submitted, work]


def become(part, submitted, work):
    """Limit this process and all its children, copy the submission's own files to `work`, become the command."""
    import resource

    limits = part["limits"]
    wanted = {"RLIMIT_DATA": limits["memory"], "RLIMIT_CORE": 0, "RLIMIT_FSIZE": SCRATCH}
    wanted["RLIMIT_CPU"] = limits["seconds"] * 4  # on several cores; the watch counts seconds on the clock
    if not part["without"]:  # elsewhere it would count the teacher's own processes too
        wanted["RLIMIT_NPROC"] = limits["processes"]
    for name, value in wanted.items():
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), (value, value))
    if part["user"]:
        os.setgroups([])
        os.setgid(part["user"])
        os.setuid(part["user"])  # which also gives up every capability
    for path in sorted(Path(submitted).rglob("*")):
        own = Path(work) / path.relative_to(submitted)
        own.mkdir() if path.is_dir() else shutil.copyfile(path, own)
    os.chdir(work)
    os.execv(part["command"][0], part["command"])


def copy_submission(folder, target):
    """Copy a submission's own files, without its notebooks (they hold the tests) and without links."""
    total = 0
    for path in sorted(Path(folder).rglob("*")):
        mode = path.lstat().st_mode
        own = not any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(folder))
        if (
            own
            and stat.S_ISREG(mode)
            and path.suffix != ".ipynb"
            and (total := total + path.stat().st_size) < OWN_FILES
        ):
            copy = Path(target) / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for path in (Path(target), *Path(target).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def family(pid):
    """`pid` and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        found.append(current := waiting.pop())
        for path in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                waiting += map(int, path.read_text().split())
            except OSError:  # ended meanwhile
                continue
    return found


def memory_of(pids):
    """Bytes that these processes hold by themselves, files of libraries left out."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(("RssAnon", "RssShmem"))
        )
    return total


def excess(spec, process, started):
    """Which limit is passed, in words, or None."""
    limits = spec["limits"]
    if time.monotonic() - started > limits["seconds"]:
        return f"time: more than {limits['seconds']} s for the notebook"
    pids = family(process.pid)
    if memory_of(pids) > limits["memory"]:
        return f"memory: more than {limits['memory'] >> 20} MiB"
    if len(pids) > limits["processes"]:
        return f"processes: more than {limits['processes']}"
    if spec["runtime"] and sum(f.lstat().st_size for f in Path(spec["runtime"]).glob("*")) > RUNTIME:
        return "files: written beside the kernel's sockets"
    return None


def watch(spec, process):
    """Wait for the end, until a limit is passed, or until who asked for it is gone; returns why, or None."""
    started, parent = time.monotonic(), os.getppid()
    while process.poll() is None:
        if os.getppid() != parent:
            return "the process that graded it ended"
        try:
            reason = excess(spec, process, started)
        except OSError:  # a file went away while it was looked at
            reason = None
        if reason:
            return reason
        time.sleep(0.1)
    return None


def end(process):
    """Kill a process and all its descendants, where it still runs."""
    for pid in reversed(family(process.pid)) if process.poll() is None else ():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:  # ended meanwhile
            continue
    process.wait()


def run(spec, **options):
    """Run `spec["command"]` in the sandbox (or, `spec["without"]`, beside it); returns its exit status.

    Why it was killed, where it was, is written to the file `spec["report"]`. `options` go to `subprocess.Popen`.
    """
    with tempfile.TemporaryDirectory() as folder:
        submitted, work = Path(folder, "submitted"), Path(folder, "work")
        submitted.mkdir()
        work.mkdir()
        copy_submission(spec["folder"] or os.getcwd(), submitted)
        if spec["without"]:
            command, options["env"] = inside(spec, str(submitted), str(work)), os.environ | spec["environment"]
        else:
            command, options["env"] = bubblewrap(spec, str(submitted)), {"PATH": os.defpath}
            if spec["user"] and spec["runtime"]:
                os.chown(spec["runtime"], spec["user"], spec["user"])
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/", **options)
        try:
            reason = watch(spec, process)
        finally:
            end(process)
        if reason:
            Path(spec["report"]).write_text(reason, encoding="utf-8")
        return process.returncode


def specify(command, course, folder=None, runtime=None, report=os.devnull, without=False, limits=None):
    """What `run` needs, a dict: the `command`, the `course` that it may read, the `folder` of the submission, and more.

    Without a `folder`, it is the current one of the process that runs. `runtime` is a folder that both sides write,
    for sockets; `limits` replace some of `LIMITS`.
    """
    environment = {"PATH": os.defpath, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "PYTHONPATH": str(course)}
    environment |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"), "PYTHONDONTWRITEBYTECODE": "1"}
    if without:
        environment.pop("PATH")
        environment.pop("HOME")
    spec = {
        "command": list(command),
        "readable": readable(course),
        "folder": folder and str(folder),
        "runtime": runtime,
    }
    spec |= {"environment": environment, "report": str(report), "without": without, "script": os.path.abspath(__file__)}
    root = not without and hasattr(os, "geteuid") and os.geteuid() == 0
    spec["user"] = USERS[0] + os.getpid() % USERS[1] if root else None
    return spec | {"limits": LIMITS | (limits or {})}


def trouble(course):
    """Why bubblewrap does not do its work here, in words; None where it does."""
    if sys.platform != "linux":
        return f"{sys.platform}, where there is no bubblewrap"
    if not shutil.which("bwrap"):
        return "no program bwrap"
    with tempfile.TemporaryDirectory() as folder:
        spec = specify([sys.executable, "-I", "-c", "print('fine')"], course, folder)
        with tempfile.TemporaryFile("w+") as out:
            run(spec, stdout=out, stderr=out)
            out.seek(0)
            said = out.read().strip()
    return None if said == "fine" else said[-300:] or "a command that ended without a word"


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        become(json.loads(sys.argv[2]), *sys.argv[3:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what it watches over ends with it
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # not to the teacher's terminal
    sys.exit(run(json.loads(sys.argv[1]), **nowhere))
