"""What a fresh machine relies on: the install files agree with each other, and importing the package stays light."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import colab
import install_front_ends
import pytest
import versions
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vit_tutorial

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOSTED = dict(line.split("==") for line in colab.VERSIONS)  # what the hosted notebook service has
CONDA_NAMES = {"torch": "pytorch"}


def requirements(lines):
    """{canonical name: specifier} of requirement lines; the project's reference to itself is left out."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r.specifier for r in parsed if r.name != PROJECT["name"]}


NEEDED = requirements(PROJECT["dependencies"])
LAB = requirements(PROJECT["optional-dependencies"]["lab"])
EXTRAS = requirements(line for lines in PROJECT["optional-dependencies"].values() for line in lines)
PINNED = requirements(
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_bounds_leave_a_hosted_service_what_it_has():
    for name in NEEDED.keys() & HOSTED.keys():
        assert NEEDED[name].contains(HOSTED[name]), f"{name}{NEEDED[name]} would replace {HOSTED[name]}"
    assert "jupyterlab" not in NEEDED  # Colab has none, and what it asks for could replace what Colab has
    assert not any(specifier.operator in ("<", "<=", "==") for bounds in NEEDED.values() for specifier in bounds)


@pytest.mark.parametrize("name", sorted(NEEDED | EXTRAS))
def test_tested_version_is_within_the_bounds(name):
    assert name in PINNED, f"constraints.txt does not say which version of {name} was tested"
    version = next(iter(PINNED[name])).version
    assert (NEEDED | EXTRAS)[name].contains(version), f"{name} {version} is not {(NEEDED | EXTRAS)[name]}"


def test_every_package_of_the_suite_has_a_lower_bound_to_try():
    pinned = requirements(versions.oldest(PROJECT))
    assert pinned.keys() >= NEEDED.keys() | LAB.keys() | {"pytest", "nbval", "timm"}
    for name, bounds in (NEEDED | LAB).items():
        assert str(pinned[name]) == str(bounds).replace(">=", "==")
    with pytest.raises(ValueError, match="expected one lower bound, numpy>=..., found numpy<3"):
        versions.oldest(PROJECT | {"dependencies": ["numpy<3"]})


def test_a_wheel_holds_the_package_and_all_that_the_course_ships(tmp_path):
    """Built from a copy, unpacked elsewhere, and used there: no checkout is near."""
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("vit_tutorial", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "cifar*"))
    for name in ("pyproject.toml", "README.md", *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(site)
    package = (path for path in (source / "vit_tutorial").rglob("*") if path.is_file())
    shipped = [*(source / "data").glob("*.safetensors"), *(source / "data" / "runs").glob("*.json")]
    expected = {path.relative_to(source).as_posix() for path in package}
    expected |= {f"vit_tutorial/{path.relative_to(source).as_posix()}" for path in shipped}
    assert held == expected
    code = (
        "from vit_tutorial import files, weights; print(files.CHECKPOINT, files.downloads(), sep='\\n');"
        "weights.load(files.CHECKPOINT)"
    )
    environment = os.environ | {"PYTHONPATH": str(site), "VIT_TUTORIAL_HOME": str(tmp_path / "home")}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    expected = [site / "vit_tutorial" / "data" / "vit_cifar10.safetensors", tmp_path / "home" / "data"]
    assert process.stdout.split() == list(map(str, expected)), process.stderr


def test_constraints_are_exact_versions_without_addresses():
    for name, specifiers in PINNED.items():
        assert [specifier.operator for specifier in specifiers] == ["=="], (
            f"{name}{specifiers} is not one exact version"
        )
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text and not re.search("^-", text, re.MULTILINE)


def test_conda_environment_agrees_with_pyproject():
    lines = [line for line in CONDA["dependencies"] if isinstance(line, str) and not line.startswith("python=")]
    conda = requirements(line for line in lines if line != "pip")
    for name, bounds in (NEEDED | LAB).items():
        name = CONDA_NAMES.get(name, name)
        assert conda.get(name) == bounds, f"environment.yml: expected {name}{bounds}, found {conda.get(name)}"
    known = {CONDA_NAMES.get(name, name): bounds for name, bounds in (NEEDED | EXTRAS).items()}
    for name, bounds in conda.items():
        assert known.get(name) == bounds, f"pyproject.toml: expected {name}{bounds}, found {known.get(name)}"


def test_conda_environment_installs_the_project_from_conda_forge_alone():
    assert "python=3.12" in CONDA["dependencies"]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.12")
    assert CONDA["dependencies"][-1] == {"pip": ["-e ."]}
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]


def test_versions_and_licences_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == vit_tutorial.__version__
    assert PROJECT["license"] == " AND ".join(citation["license"])
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "creativecommons.org/licenses/by/4.0/" in (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    holders = {author["name"] for author in PROJECT["authors"]}
    assert holders == {author["name"] for author in citation["authors"]}
    for name in PROJECT["license-files"]:
        assert all(holder in (ROOT / name).read_text(encoding="utf-8") for holder in holders)


def test_workflow_covers_the_systems_and_pythons_that_the_course_promises():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    lowest = Version(PROJECT["requires-python"].removeprefix(">="))
    assert Version(min(matrix["python"], key=Version)) == lowest
    assert len(matrix["python"]) == 3


def test_workflow_on_windows_and_other_versions_run_what_make_test_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(JOBS)", "2")
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    for command in (
        "-m pytest --nbval --nbval-cell-timeout 1200 -n 2 --dist loadfile --no-loadscope-reorder "
        '-m "not slow" tests notebooks',
        "tools/build/notebooks.py --check",
        "ruff check .",
    ):
        assert command in makefile and command in workflow, command
    assert shlex.join(versions.SUITE).replace("'", '"') in makefile


def test_jupyterlab_knows_the_settings_that_the_course_changes():
    from jupyterlab.commands import get_app_dir

    overrides = ROOT / "vit_tutorial" / "jupyter" / "labconfig" / "default_setting_overrides.json"
    for plugin, values in json.loads(overrides.read_text(encoding="utf-8")).items():
        package, name = plugin.split(":")
        schema = json.loads((Path(get_app_dir()) / "schemas" / package / f"{name}.json").read_text(encoding="utf-8"))
        assert set(values) <= set(schema["properties"]), plugin


unix = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="needs make")


@unix
def test_make_lists_its_targets_by_default():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    targets = set(re.findall(r"\bmake ([\w-]+)(?=  |, make)", listed.stdout))
    assert {"lab", "test", "notebooks", "coverage", "clean"} <= targets
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets | {"help"} == set(" ".join(phony).split())


@unix
def test_make_with_an_old_python_says_what_to_do(tmp_path):
    """Only a Python that refuses is on the search path; make stops there, with a message and without a .venv."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "rm", "touch"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit 0\nexit 1\n')
    (tools / "python3").chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    process = subprocess.run(["make", "lab"], cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True)
    assert process.returncode != 0
    assert "needs Python 3.11 or newer; found: Python 3.9.1" in process.stdout
    assert not (tmp_path / ".venv").exists()


@unix
def test_ci_runs_the_whole_suite():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text and text.rstrip().endswith("make test")
    assert "for tool in chromium npm" in text  # where they are missing, browser tests would fail


def test_make_test_installs_the_front_ends_that_the_hosted_service_has():
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert re.search(r"tools/build/install_front_ends\.py\n.*-m pytest ", recipe)
    classic = requirements(install_front_ends.CLASSIC_PACKAGES)
    for name in ("ipywidgets", "anywidget"):
        assert str(classic[name]) == f"=={HOSTED[name]}"
    assert all(str(specifier).startswith("==") for specifier in classic.values())
    packages = [*install_front_ends.SCRIPT_FILES, *install_front_ends.RUNTIME_FILES]
    assert all(re.fullmatch(r"@?[\w/-]+@\d+\.\d+\.\d+", package) for package in packages)


def test_the_readme_says_how_much_there_is_to_read():
    def lines(*names):
        paths = [path for name in names for path in (ROOT / "vit_tutorial").glob(name)]
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)

    vit = lines("layers.py", "model.py")
    rooms = [f"{room}/*.py" for room in ("datasets", "training", "weights", "interpret")]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"`layers.py` and `model.py`, is {round(vit, -2):,} lines" in text
    assert f"make it {round(vit + lines('modern.py', 'plots.py', *rooms), -2):,} lines" in text
