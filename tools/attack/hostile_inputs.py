"""Broken and hostile input of every kind, and what the course says to each.

    python tools/attack/hostile_inputs.py [GROUP ...]

The cases are in `hostile`, a module for each kind of input. Each is tried in a process of its own with a limit on
memory and time. The verdict must be the one that the case names: `error` (a ValueError or OSError of one line; on the
command line status 2), `report` (the file is named with the reason, the rest is used) or `read` (unusual, but right).
No file may be changed or lost, and none appear. `tests/test_hostile.py` tries the same cases, but for the slow ones, in
one process. Needs Linux.
"""

import hashlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
from pathlib import Path

import torch
from hostile import archives, checkpoints, command_lines, folders, images, labels, learners_files, models, runs, tables

KINDS = (images, archives, tables, checkpoints, models, runs, command_lines, folders, learners_files, labels)
CASES = [case for kind in KINDS for case in kind.CASES]
MEMORY = 1 << 30  # bytes that a case may take beyond what Python and torch take
SECONDS = 60
COLUMNS = ("cases", "error", "report", "read", "faults", "MB")


def snapshot(folder):
    """Every file below the folder and a digest of its content; links by where they lead."""
    found = {}
    for place, inner, names in os.walk(os.fsencode(folder)):
        for name in inner + names:
            path = os.path.join(place, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = hashlib.file_digest(file, "md5").digest()
            else:
                found[path] = None
    return found


def judge(case, folder, call):
    """`(what it says, what is wrong with that)`; the second is empty where all is well."""
    before, problems = snapshot(folder), []
    try:
        text = call()
        verdict = "read" if case.verdict == "read" else "report"
    except (ValueError, OSError) as error:
        text, verdict = str(error), "error"
        if "\n" in text and not text.startswith("expected weights of"):  # a list of all that is wrong
            problems.append("several lines")
    except BaseException as error:
        text, verdict = f"{type(error).__name__}: {error}", "crash"
    if verdict != case.verdict:
        problems.append(f"expected the verdict {case.verdict}, found {verdict}")
    if not re.search(case.message, str(text), re.DOTALL):
        problems.append(f"expected words like {case.message!r}")
    if snapshot(folder) != before:
        problems.append("files were changed")
    return " ".join(str(text).split()), "; ".join(problems)


def in_a_child(case, folder):
    """`judge` in a process of its own, and how many MB that took."""
    call = case.make(folder)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(folder)
            sizes = [int(n) * resource.getpagesize() for n in Path("/proc/self/statm").read_text().split()[:2]]
            resource.setrlimit(resource.RLIMIT_AS, (sizes[0] + MEMORY + (1 << 29),) * 2)  # threads reserve more
            signal.alarm(SECONDS)
            said = judge(case, folder, call)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - sizes[1]
            with open(writer, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump([*said, max(peak, 0) / 1e6], file)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        return "", f"the process ended with {status}", 0.0
    text, problems, peak = json.loads(answer)
    if peak > MEMORY / 1e6:
        problems += f"; {peak:.0f} MB"
    return text, problems, peak


def main():
    torch.set_num_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    table = {}
    for case in CASES:
        if sys.argv[1:] and case.group not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "here"
            folder.mkdir()
            text, problems, peak = in_a_child(case, folder)
        row = table.setdefault(case.group, dict.fromkeys(COLUMNS, 0))
        row["cases"] += 1
        row["faults" if problems else case.verdict] += 1
        row["MB"] = max(row["MB"], peak)
        text = text.encode("unicode_escape", "backslashreplace").decode("ascii").replace(place, "")
        print(f"{'FAULT' if problems else case.verdict:6} {case.group}: {case.name} -> {text:.100}")
        if problems:
            print(f"       {problems}")
    totals = {name: sum(row[name] for row in table.values()) for name in COLUMNS}
    table["all"] = totals | {"MB": max((row["MB"] for row in table.values()), default=0)}
    print("\n" + f"{'input':16}" + "".join(f"{name:>8}" for name in COLUMNS))
    for group, row in table.items():
        print(f"{group:16}" + "".join(f"{row[name]:8.0f}" for name in COLUMNS))
    print(f"MB: the most memory that a case took beyond what the course takes without it; limit {MEMORY / 1e6:.0f}.")
    return int(table["all"]["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
