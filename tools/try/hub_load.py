#!/usr/bin/env python3
"""A class on one machine: students of a JupyterHub who log in, start a server and run a notebook, all at once.

    make test-hub                                                    # 10 students, notebook 03
    make test-hub ARGS="--students 2 --notebook notebooks/01_patch_embedding.ipynb"
    make test-hub ARGS=--no-thread-limit                             # what the thread limit is good for

A real hub (`tools/hub/jupyterhub_config.py`) listens on 127.0.0.1. Each student fills in the login form, makes a token,
starts a server through the hub's API, uploads and opens the notebook (Contents API), starts a kernel (REST) and
runs all code cells through the kernel's websocket. What it prints: wall seconds, the memory of each student, the
slowest cell, failures. The exit status is 1 where any cell failed.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_server

sys.path.append(str(Path(__file__).resolve().parents[1] / "build"))

from install_front_ends import npm_program

ROOT = Path(__file__).resolve().parents[2]
PROXY = "configurable-http-proxy@5.3.0"
THREADS = "import torch; assert torch.get_num_threads() <= {limit}, torch.get_num_threads()"  # run last


def free_address() -> str:
    with create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def wait_for(address, process, log):
    """Returns once the hub answers; raises OSError where it has ended, or says nothing for a minute."""
    import requests

    for _ in range(300):
        with suppress(requests.ConnectionError):
            if requests.get(f"{address}/hub/api", timeout=60).ok:
                return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise OSError(f"expected the hub to answer, found silence; its log is {log}")


@contextmanager
def hub(folder, cpu_limit):
    """Starts the hub with its files in `folder`; yields its address, the students' password and its process."""
    address, password = free_address(), secrets.token_hex(16)
    settings = {
        "HUB_TEST_FOLDER": str(folder),
        "HUB_TEST_ADDRESS": address,
        "HUB_TEST_HUB": free_address(),
        "HUB_TEST_PROXY": str(npm_program(PROXY, ".bin/configurable-http-proxy")),
        "HUB_TEST_PROXY_API": free_address(),
        "HUB_TEST_PASSWORD": password,
        "HUB_TEST_CPU_LIMIT": str(cpu_limit or ""),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),  # jupyterhub-singleuser
    }
    command = [sys.executable, "-m", "jupyterhub", "--config", str(ROOT / "tools" / "hub" / "jupyterhub_config.py")]
    with (folder / "hub.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log)
        try:
            wait_for(address, process, log.name)
            yield address, password, process
        finally:
            process.terminate()  # stops the students' servers and the proxy
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Student:
    """One student's way through the hub. `seconds` of each stage and each cell; `faults` in words."""

    name: str
    hub: str
    password: str
    seconds: dict = field(default_factory=dict)
    cells: list = field(default_factory=list)
    faults: list = field(default_factory=list)

    @contextmanager
    def stage(self, name):
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def ask(self, method, path, **options):
        """A request to the hub or to the student's server; raises where the answer is no success."""
        answer = self.session.request(method, self.hub + path, timeout=300, **options)
        answer.raise_for_status()
        return answer

    def log_in(self):
        """Fills in the login form, as a browser does, and makes a token for all that follows."""
        import requests

        self.session = requests.Session()
        form = self.ask("GET", "/hub/login").text
        secret = re.search(r'name="_xsrf" value="([^"]+)"', form)[1]
        data = {"username": self.name, "password": self.password, "_xsrf": secret}
        self.ask("POST", "/hub/login", data=data, allow_redirects=False)
        self.ask("GET", "/hub/home")  # gives the cookie that the API wants beside the login's
        secret = next(cookie.value for cookie in self.session.cookies if cookie.name == "_xsrf")
        path = f"/hub/api/users/{self.name}/tokens"
        token = self.ask("POST", path, headers={"X-XSRFToken": secret, "Referer": f"{self.hub}/hub/token"}).json()
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"token {token['token']}"

    def start_server(self):
        path = f"/hub/api/users/{self.name}/server"
        self.ask("POST", path)
        event = {}
        for line in self.ask("GET", f"{path}/progress", stream=True).iter_lines():  # server-sent events
            if line.startswith(b"data:"):
                event = json.loads(line.removeprefix(b"data:"))
        if not event.get("ready"):
            raise OSError(f"expected a server, found none: {event.get('message')}")

    def open(self, notebook):
        """Uploads the notebook, reads it back and starts its kernel; returns its code cells and the kernel's id."""
        import nbformat

        server = f"/user/{self.name}/api"
        content = nbformat.read(notebook, as_version=4)
        model = {"type": "notebook", "format": "json", "content": content}
        self.ask("PUT", f"{server}/contents/{notebook.name}", json=model)
        opened = self.ask("GET", f"{server}/contents/{notebook.name}", params={"content": 1}).json()["content"]
        kernel = {"path": notebook.name, "name": notebook.name, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.ask("POST", f"{server}/sessions", json=kernel).json()
        cells = ["".join(cell["source"]) for cell in opened["cells"] if cell["cell_type"] == "code"]
        return cells, session["kernel"]["id"]

    def run(self, cells, kernel):
        """Runs the cells one after the other, as "Run All" does."""
        import websocket

        address = f"ws{self.hub.removeprefix('http')}/user/{self.name}/api/kernels/{kernel}/channels"
        header = {"Authorization": self.session.headers["Authorization"]}
        channel = websocket.create_connection(address, header=header, timeout=300)
        try:
            for source in cells:
                start = time.monotonic()
                if fault := run_cell(channel, source):
                    self.faults.append(fault)
                self.cells.append((time.monotonic() - start, source))
        finally:
            channel.close()


def run_cell(channel, source):
    """Runs one cell through a kernel's websocket; returns its error in words, or None."""
    number = uuid.uuid4().hex
    header = {"msg_id": number, "msg_type": "execute_request", "session": number, "username": "", "version": "5.3"}
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
    message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    channel.send(json.dumps(message))
    replied = idle = False
    fault = None
    while not (replied and idle):
        kind, data = channel.recv_data()
        if kind != 1:  # binary: pictures of the explorers
            continue
        answer = json.loads(data)
        if answer["parent_header"].get("msg_id") != number:
            continue
        kind, content = answer["header"]["msg_type"], answer["content"]
        idle |= kind == "status" and content["execution_state"] == "idle"
        if kind == "execute_reply":
            replied = True
            if content["status"] != "ok":
                fault = f"{content.get('ename')}: {content.get('evalue')} in the cell that begins {source[:60]!r}"
    return fault


class Memory:
    """The largest memory of each student's processes, watched every second in the background, in bytes.

    RSS counts a page of torch's libraries once for each student that uses it; PSS shares it out among them.
    """

    def __init__(self, hub_process, names):
        self.hub, self.names = hub_process, names
        self.rss, self.pss = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        self.all = 0  # the largest sum of all PSS
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        import psutil

        owner = {}
        while not self.ended.wait(1):
            pss, rss = dict.fromkeys(self.names, 0), dict.fromkeys(self.names, 0)
            for process in psutil.Process(self.hub.pid).children(recursive=True):
                try:
                    if process.pid not in owner:
                        owner[process.pid] = process.environ().get("JUPYTERHUB_USER")
                    if owner[process.pid] in pss:
                        memory = process.memory_full_info()
                        pss[owner[process.pid]] += getattr(memory, "pss", 0)
                        rss[owner[process.pid]] += memory.rss
                except psutil.Error:  # it ended meanwhile
                    continue
            self.all = max(self.all, sum(pss.values()))
            for name in self.names:
                self.pss[name], self.rss[name] = max(self.pss[name], pss[name]), max(self.rss[name], rss[name])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def learn(student, notebook, last_cell, all_ready):
    """One student, from the login to the last cell. `all_ready` lets all of them begin the notebook at once."""
    try:
        with student.stage("log in"):
            student.log_in()
        with student.stage("start server"):
            student.start_server()
        with student.stage("open"):
            cells, kernel = student.open(notebook)
        all_ready.wait(300)
        with student.stage("run"):
            student.run([*cells, last_cell], kernel)
    except Exception as error:  # one student's trouble must not hide the others' results
        student.faults.append(f"{type(error).__name__}: {error}")
        all_ready.abort()


def load_test(students, notebook, cpu_limit):
    """Runs the class; prints what it took and returns the students."""
    folder = Path(tempfile.mkdtemp(prefix="hub-"))
    start = time.monotonic()
    with hub(folder, cpu_limit) as (address, password, process):
        pupils = [Student(f"student{i + 1:02}", address, password) for i in range(students)]
        all_ready, threads = threading.Barrier(students), max(1, int(cpu_limit or os.cpu_count()))
        common = notebook, THREADS.format(limit=threads), all_ready
        with Memory(process, [pupil.name for pupil in pupils]) as memory:
            room = [threading.Thread(target=learn, args=(pupil, *common), daemon=True) for pupil in pupils]
            for thread in room:
                thread.start()
            for thread in room:
                thread.join()
        wall = time.monotonic() - start
    report(pupils, memory, wall)
    if any(pupil.faults for pupil in pupils):
        print(f"\nThe hub's log and the students' files are in {folder}")
    else:
        shutil.rmtree(folder)
    return pupils


def report(pupils, memory, wall):
    for stage in ("log in", "start server", "open", "run"):
        seconds = sorted(pupil.seconds.get(stage, float("nan")) for pupil in pupils)
        print(f"{stage:14} {seconds[0]:6.1f} s the first, {seconds[-1]:6.1f} s the last student")
    print(f"{'in all':14} {wall:6.1f} s")
    for name, what in (("PSS", memory.pss), ("RSS", memory.rss)):
        print(f"memory ({name})   {min(what.values()) / 1e6:.0f} to {max(what.values()) / 1e6:.0f} MB per student")
    print(f"all students   {memory.all / 1e6:.0f} MB together (PSS)")
    cells = [(seconds, pupil.name, source) for pupil in pupils for seconds, source in pupil.cells]
    if cells:
        seconds, name, source = max(cells)
        print(f"slowest cell   {seconds:.1f} s ({name}): {source.strip().splitlines()[0][:70]}")
    faults = [f"{pupil.name}: {fault}" for pupil in pupils for fault in pupil.faults]
    done = sum(not pupil.faults for pupil in pupils)
    print(f"finished       {done} of {len(pupils)} students, {len(cells)} cells run, {len(faults)} failed")
    for fault in faults:
        print(f"  {fault}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=10)
    parser.add_argument("--notebook", type=Path, default=ROOT / "notebooks" / "03_attention.ipynb")
    parser.add_argument("--no-thread-limit", action="store_true", help="each kernel computes with all cores")
    args = parser.parse_args()
    if args.students < 1:
        parser.error(f"expected at least 1 student, found {args.students}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends this ends the hub and its servers too
    cores = os.cpu_count() / args.students
    try:
        pupils = load_test(args.students, args.notebook.resolve(), None if args.no_thread_limit else cores)
    except OSError as error:
        print(f"hub_load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return int(any(pupil.faults for pupil in pupils))


if __name__ == "__main__":
    sys.exit(main())
