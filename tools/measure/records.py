"""What the tools that fill data/runs have in common: records that grow run by run, and names from the notebooks."""

import argparse
import ast
import json
import math
import re
import time
from pathlib import Path

import torch

from vit_tutorial.files import ROOT, atomic_path
from vit_tutorial.training import hardware

SOURCES = ROOT / "notebooks" / "source"


def parser(doc, out):
    """The options of a tool that fills the record `out`; `doc` is its docstring."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--seconds", type=float, default=math.inf, help="start no run after this time")
    made.add_argument("--out", type=Path, default=out)
    return made


def machine():
    """What is to be known of this machine beside a measurement."""
    return {"hardware": hardware(torch.device("cpu")), "torch": str(torch.__version__)}


def a_line_a_run(content):
    """A record whose "runs" are a list of dicts as JSON, a line a run."""
    return re.sub(r"\n {3,}", " ", json.dumps(content, indent=1)).replace("\n  }", " }") + "\n"


def missing(plan, runs):
    """Those of `plan`, each a dict, that no run in the list `runs` holds."""
    return [spec for spec in plan if not any(spec.items() <= run.items() for run in runs)]


class Record:
    """A JSON file that is written after every run. Started again, a tool goes on with the runs that are missing.

    `content` is what the file holds, or `empty` where there is none; `as_text(content)` is what is written. No run
    starts when the record has been open for `seconds`.
    """

    def __init__(self, path, empty, as_text, seconds=math.inf):
        self.path, self.as_text, self.end = path, as_text, time.perf_counter() + seconds
        self.content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty

    def complete(self, plan, runs, run):
        """Add `spec | run(**spec)` to `runs`, a list of the content, for each spec of `plan` that is missing there."""
        left = missing(plan, runs)
        for number, spec in enumerate(left):
            if time.perf_counter() > self.end:
                print(f"{len(left) - number} runs are missing: start the tool again")
                return
            runs.append(spec | run(**spec))
            self.save()
            print(runs[-1], flush=True)

    def save(self):
        with atomic_path(self.path) as temporary:
            temporary.write_text(self.as_text(self.content), encoding="utf-8")


def notebook_names(source, names):
    """What the notebook's source of this file name imports, and its first definition of each of `names`, as a dict.

    Raises `ValueError` where one of them is not defined there.
    """
    body, wanted = [], set(names)
    for node in ast.parse((SOURCES / source).read_text(encoding="utf-8")).body:
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else None
        name = getattr(node, "name", name)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or name in wanted:
            body.append(node)
            wanted.discard(name)
    if wanted:
        raise ValueError(f"expected the notebook's source to define {sorted(wanted)}; is {source} as it was?")
    found = {}
    exec(compile(ast.Module(body, []), source, "exec"), found)
    return found
