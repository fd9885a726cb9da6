"""Run the notebooks under nbval as other machines: instruction sets, threads, precisions. Ends with one table.

    python tools/try/machines.py                          every notebook on every machine
    python tools/try/machines.py 02 07 --on 'sse, 1 thread'

A processor is told to do without its newer instructions, so that sums are taken and random numbers drawn as older
processors and other makes do it. Each cell's output must be the committed one, each assert must hold.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "build"))

from notebooks import ROOT, find_sources, target

SSE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
MACHINES = {  # name: (instruction sets, threads, precision of training)
    "sse, 1 thread": (SSE, 1, "float32"),
    "sse, 4 threads": (SSE, 4, "float32"),
    "avx2, 1 thread": (AVX2, 1, "float32"),
    "avx2, 2 threads": (AVX2, 2, "float32"),
    "own, 4 threads": ({}, 4, "float32"),
    "own, bfloat16": ({}, 1, "bfloat16"),
}


def settings(name):
    """The environment variables that make this machine `name`."""
    instructions, threads, precision = MACHINES[name]
    threads = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}  # more than cores: none waits busily
    return {**instructions, **threads, "VIT_TUTORIAL_PRECISION": precision}


def run(name, paths, jobs=2):
    """Run the notebooks at `paths` on machine `name`: pytest's cases as XML elements, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        startup = Path(folder) / "profile_default" / "startup"  # what IPython runs before a notebook
        startup.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("other_machine.py"), startup)
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-cell-timeout", "1200", "-q", "--no-header"]
        command += ["-n", str(jobs), "--dist", "loadfile", f"--junitxml={report}", *map(str, paths)]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=os.environ | settings(name) | {"IPYTHONDIR": folder})
        return list(ET.parse(report).iter("testcase")), time.perf_counter() - start


def failures(cases):
    """Those of pytest's cases that did not pass, by name."""
    return [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if any(case.find(kind) is not None for kind in ("failure", "error"))
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--on", action="append", choices=MACHINES, metavar="MACHINE", help="; ".join(MACHINES))
    options = parser.parse_args(arguments)
    paths = [target(source) for source in find_sources(options.prefixes)]
    rows = []
    for name in options.on or MACHINES:
        cases, seconds = run(name, paths)
        failed = failures(cases)
        rows.append((name, len(cases), len(failed), seconds))
        print(*(f"{name}: {case}" for case in failed), sep="\n", flush=True)
    print(f"\n{'machine':20}{'cells':>7}{'failures':>10}{'seconds':>9}")
    for name, cells, failed, seconds in rows:
        print(f"{name:20}{cells:7}{failed:10}{seconds:9.0f}")
    return min(1, sum(row[2] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
