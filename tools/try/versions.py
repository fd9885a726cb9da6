"""Run the suite with the oldest versions that pyproject.toml allows, or with the newest that there are.

    python tools/try/versions.py oldest
    python tools/try/versions.py newest tests/test_layers.py      pytest's arguments instead of the whole suite

Each in an environment of its own, `.environments/oldest` and `.environments/newest`. Oldest: each lower bound exactly.
"""

import argparse
import os
import subprocess
import sys
import tomllib

from environments import FOLDER, environment, install
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = FOLDER.parent
EXTRAS = ("lab", "test", "export", "parquet", "classroom", "site")
SUITE = ["--nbval", "--nbval-cell-timeout", "1200", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
SUITE += ["-m", "not slow", "tests", "notebooks"]


def oldest(project):
    """`name==version` for the lower bound of all that the course and its suite need.

    Raises ValueError for a requirement without one.
    """
    extras = (line for extra in EXTRAS for line in project["optional-dependencies"][extra])
    pinned = {}
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        bounds = [str(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"pyproject.toml: expected one lower bound, {requirement.name}>=..., found {requirement}")
        pinned[requirement.name] = max(bounds[0], pinned.get(requirement.name, "0"), key=Version)
    return [f"{name}=={version}" for name, version in sorted(pinned.items())]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="pytest's arguments instead of the whole suite")
    options = parser.parse_args(arguments)
    if options.which == "oldest":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        python = environment("oldest", oldest(project))
        install(python, "--no-deps", "--editable", str(ROOT))
    else:
        python = environment("newest", ["pip"])
        install(python, "--upgrade", "--upgrade-strategy", "eager", "--editable", f"{ROOT}[{','.join(EXTRAS)}]")
    subprocess.run([python, "-m", "pip", "list"], check=True)
    subprocess.run([python, "tools/build/install_front_ends.py"], cwd=ROOT, check=True)
    command = [python, "-m", "pytest", *(options.pytest or SUITE)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
