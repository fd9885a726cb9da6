#!/usr/bin/env python3
"""The pinned packages (constraints.txt): their licences, and their known vulnerabilities.

    make audit

Licences are read from what is installed here (pip-licenses). Vulnerabilities are asked of the package index
(pip-audit), which takes a network. The exit status is 1 where one is known, 2 where some packages could not be asked.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def pinned() -> list[str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0] for line in lines if line and not line.startswith("#")]


def licences() -> dict[str, list[str]]:
    """{licence: the pinned packages under it}, of those that are installed here."""
    command = [sys.executable, "-m", "piplicenses", "--format", "json", "--packages", *pinned()]
    found = defaultdict(list)
    for package in json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout):
        found[package["License"]].append(f"{package['Name']} {package['Version']}")
    return dict(sorted(found.items()))


def ask() -> list[dict]:
    """What pip-audit says of each pinned package; nothing where it reached nobody."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    said = subprocess.run([*command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True)
    return json.loads(said.stdout)["dependencies"] if said.stdout else []


def verdict(answers: list[dict], asked: int) -> tuple[str, int]:
    """The report on the vulnerabilities of `asked` packages, and the exit status.

    pip-audit calls a set clean of which it could not look up a single package; this does not.
    """
    known = [answer for answer in answers if "vulns" in answer]
    holes = [
        f"{answer['name']} {answer['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for answer in known
        for hole in answer["vulns"]
    ]
    lines = [*holes, f"{len(holes)} known vulnerabilities in {len(known)} packages"]
    if missed := asked - len(known):
        lines.append(f"{missed} of {asked} packages could not be looked up; run this where the package index answers")
    return "\n".join(lines), 1 if holes else 2 if missed else 0


def main() -> int:
    for licence, packages in licences().items():
        print(f"{licence}: {', '.join(packages)}")
    report, status = verdict(ask(), len(pinned()))
    print(f"\n{report}")
    return status


if __name__ == "__main__":
    sys.exit(main())
