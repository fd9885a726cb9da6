"""Run the notebooks under nbval as other machines: instruction sets, threads, precisions. Ends with one table.

    python tools/try_machines.py                     every notebook on every machine
    python tools/try_machines.py 02 07 --on sse      those whose names start so, on this machine alone

A processor is told to do without its newer instructions, so numbers are summed, and random ones drawn, on the paths
that older processors and other makes take. Of the machines that use bfloat16, `bf16` needs units for it: where the
processor has none, its products are computed in float32 and rounded (tools/bf16_without_units.py).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import build_notebooks
from build_notebooks import ROOT, BuildError

SSE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
MACHINES = {  # name: (instruction sets, threads, precision of training)
    "sse": (SSE, 1, "float32"),
    "sse, 4 threads": (SSE, 4, "float32"),
    "avx2": (AVX2, 1, "float32"),
    "avx2, 2 threads": (AVX2, 2, "float32"),
    "own, 4 threads": ({}, 4, "float32"),
    "own, bf16": ({}, 1, "bfloat16"),
}


def run(name, paths, jobs):
    """pytest's cases of the notebooks `paths` on machine `name`, as XML elements, and the seconds that they took."""
    instructions, threads, precision = MACHINES[name]
    settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "VIT_TUTORIAL_PRECISION": precision}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-cell-timeout", "1200", "-q", "--no-header"]
        command += ["-n", str(jobs), "--dist", "loadfile", f"--junitxml={report}", *map(str, paths)]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=os.environ | instructions | settings)
        return list(ET.parse(report).iter("testcase")), time.perf_counter() - start


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--on", action="append", choices=MACHINES, metavar="MACHINE", help=", ".join(MACHINES))
    parser.add_argument("-j", "--jobs", type=int, default=2, help="notebooks run at a time (default 2)")
    options = parser.parse_args(arguments)
    paths = [build_notebooks.target(source) for source in build_notebooks.find_sources(options.prefixes)]
    rows = []
    for name in options.on or MACHINES:
        cases, seconds = run(name, paths, options.jobs)
        failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        rows.append((name, len(cases), len(failed), seconds))
        for case in failed:
            print(f"{name}: {case.get('classname')}::{case.get('name')}", flush=True)
    print(f"\n{'machine':20}{'cells':>7}{'failures':>10}{'seconds':>9}")
    for name, cells, failures, seconds in rows:
        print(f"{name:20}{cells:7}{failures:10}{seconds:9.0f}")


if __name__ == "__main__":
    sys.exit(main())
