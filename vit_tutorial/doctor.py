"""`vit-tutorial doctor`: what works on this machine, and what to do about what does not.

Every probe is a function without arguments that returns one or more `Finding`s. Nothing leaves the machine unless
`--online` asks for it. Runs as `python vit_tutorial/doctor.py` too, where the package itself cannot be imported.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OK, NOTE, PROBLEM = "ok", "note", "problem"
PROJECT = "vit-tutorial"
CHECKOUT = Path(__file__).resolve().parent.parent  # the course's folder, where it was not installed elsewhere
INSTALL = 'python -m pip install --constraint constraints.txt --editable ".[lab]"'


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is OK, NOTE (the course runs, but) or PROBLEM; `advice` is what to do."""

    item: str
    state: str
    found: str
    advice: str = ""


def python_version() -> Finding:
    """Whether this is a Python that the course is tested with (pip refuses to install it on an older one)."""
    if sys.version_info >= (3, 14):
        return Finding("Python", NOTE, f"{platform.python_version()}; the course is tested with 3.11 to 3.13")
    return Finding("Python", OK, platform.python_version())


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def packages() -> Finding:
    """Whether all that pyproject.toml asks for is installed, in versions within its bounds."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:  # not installed itself: a checkout, or the offline bundle
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        if not project.is_file():
            return Finding("Packages", PROBLEM, "the course is not installed in this Python", INSTALL)
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in needed:
        version = installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} where {requirement.specifier} is needed")
    if wrong:
        return Finding("Packages", PROBLEM, "; ".join(wrong), INSTALL)
    return Finding("Packages", OK, f"all {len(needed)} that the course needs")


def torch_and_torchvision() -> Finding:
    """Whether both import and fit together; builds from two sources fail at torchvision's compiled operators."""
    try:
        import torch
        import torchvision

        kept = torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
        if kept.tolist() != [0]:
            raise RuntimeError(f"torchvision.ops.nms gave {kept.tolist()} for one box")
    except Exception as error:  # an import of compiled code fails with whatever its loader raises
        return Finding(
            "PyTorch",
            PROBLEM,
            f"torch and torchvision do not work together: {first_line(error)}",
            "install both from one source: python -m pip install --force-reinstall torch torchvision",
        )
    return Finding("PyTorch", OK, f"torch {torch.__version__} and torchvision {torchvision.__version__} work together")


def processor() -> Finding:
    """Whether torch computes with as many threads as there are cores for it."""
    import torch

    from vit_tutorial.machine import threads

    cores, used = threads.usable_cores(), torch.get_num_threads()
    found = f"{cores} usable {'core' if cores == 1 else 'cores'}, torch computes with {used}"
    if used > cores or used == 1 < cores:
        why = "threads that share a core slow each other down" if used > cores else "faster with all of them"
        return Finding("Processor", NOTE, found, f"{why}: set OMP_NUM_THREADS={cores}")
    return Finding("Processor", OK, found)


def matmul_rate(dtype, size: int = 512, rounds: int = 5) -> float:
    """GFLOP/s of a square matrix product on the CPU: the best of some rounds, after one to warm up."""
    import torch

    a = torch.ones(size, size, dtype=dtype)
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:]) / 1e9


def arithmetic() -> Finding:
    """How fast this CPU multiplies matrices, and in which precision the course trains on it."""
    import torch

    from vit_tutorial.machine.precision import bf16_pays

    single, half = matmul_rate(torch.float32), matmul_rate(torch.bfloat16)
    bf16 = bf16_pays("cpu")
    chosen, other = ("bfloat16", "float32") if bf16 else ("float32", "bfloat16")
    found = f"float32 {single:.0f}, bfloat16 {half:.0f} GFLOP/s (x {half / single:.1f}); training uses {chosen}"
    if half > 1.5 * single and not bf16 or half < single and bf16:
        return Finding("Arithmetic", NOTE, found, f"{other} is faster here: set VIT_TUTORIAL_PRECISION={other}")
    return Finding("Arithmetic", OK, found)


def gpu() -> Finding:
    """Which accelerator the course computes on; none is needed."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Finding("GPU", OK, f"{card.name}, {card.total_memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding("GPU", OK, "an Apple GPU, which the course does not use: it computes on the processor")
    if shutil.which("nvidia-smi"):
        return Finding(
            "GPU",
            NOTE,
            f"an NVIDIA driver is here, but torch {torch.__version__} cannot use it; the course runs without",
            "update the driver, or install a torch build for your CUDA version",
        )
    return Finding("GPU", OK, "none; the course needs none")


def jupyter() -> Finding:
    """Whether JupyterLab is there and its notebooks run in this Python."""
    from jupyter_client.kernelspec import KernelSpecManager

    version = installed("jupyterlab")
    if version is None:
        return Finding("Jupyter", NOTE, "no JupyterLab; none is needed where notebooks open elsewhere, as on Colab")
    kernel = KernelSpecManager().get_kernel_spec("python3").argv[0]
    # A bare "python" means the one that runs Jupyter.
    if os.path.dirname(kernel) and Path(kernel).parent.resolve() != Path(sys.executable).parent.resolve():
        return Finding(
            "Jupyter",
            PROBLEM,
            f"JupyterLab {version}, but its notebooks run in another Python: {kernel}",
            "python -m ipykernel install --sys-prefix",
        )
    return Finding("Jupyter", OK, f"JupyterLab {version}; notebooks run in this Python")


def widgets() -> Finding:
    """Whether the pieces that draw the interactive pictures are there, kernel side and page side."""
    for name in ("ipywidgets", "anywidget", "jupyterlab_widgets"):  # the last one is JupyterLab's half of ipywidgets
        if installed(name) is None:
            return Finding("Widgets", PROBLEM, f"{name} is missing", f"python -m pip install {name}")
    return Finding("Widgets", OK, f"ipywidgets {installed('ipywidgets')}, anywidget {installed('anywidget')}")


def disk() -> Finding:
    """Whether there is room for the data and for training runs (about 2 GB)."""
    from vit_tutorial.files import ROOT

    free = shutil.disk_usage(ROOT).free / 1e9
    found = f"{free:.1f} GB free"
    if free < 0.2:
        return Finding("Disk", PROBLEM, found, "make room: a training run cannot be saved")
    if free < 2:
        return Finding("Disk", NOTE, found, "enough for the notebooks; CIFAR-10 and your own runs need 2 GB")
    return Finding("Disk", OK, found)


def data() -> list[Finding]:
    """Which images and trained models are on this machine."""
    from vit_tutorial.datasets.cifar10 import complete, present
    from vit_tutorial.files import CHECKPOINT, downloads

    shapes = Finding("Shapes", OK, "drawn by the package; always here")
    here, get_it = present(downloads()), "vit-tutorial download cifar10"
    if complete(downloads()):
        photographs = Finding("CIFAR-10", OK, f"in {here}")
    elif here:
        photographs = Finding("CIFAR-10", NOTE, f"in {here}, incomplete or damaged", f"to get the rest: {get_it}")
    else:
        found = "not here; the notebooks show recorded runs instead"
        photographs = Finding("CIFAR-10", NOTE, found, f"to get it: {get_it}")
    file = f"data/{CHECKPOINT.name}"
    if CHECKPOINT.is_file():
        model = Finding("Checkpoint", OK, f"{file}, {CHECKPOINT.stat().st_size / 1e6:.1f} MB")
    else:
        model = Finding("Checkpoint", PROBLEM, f"{file} is missing", f"git checkout -- {file}")
    return [shapes, photographs, model]


def network_not_tried() -> Finding:
    """Says that nothing was contacted."""
    return Finding("Network", OK, "not tried and not needed (vit-tutorial doctor --online tries)")


def network() -> Finding:
    """One request to the project's own address, as pyproject.toml gives it."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    urls = dict(line.split(", ", 1) for line in metadata.metadata(PROJECT).get_all("Project-URL"))
    try:
        with urlopen(Request(urls["Repository"], method="HEAD"), timeout=5):
            pass
    except HTTPError:
        pass  # an answer, if not the page
    except (OSError, ValueError) as error:
        return Finding("Network", NOTE, f"offline: {first_line(error)}", "all notebooks run offline; downloads do not")
    return Finding("Network", OK, "online")


def origin(root: Path = CHECKOUT) -> str | None:
    """The https address of a checkout's own git origin; None where there is none."""
    if not (root / ".git").exists():  # a folder inside another repository has none
        return None
    command = ["git", "-C", str(root), "config", "--get", "remote.origin.url"]
    try:
        found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        return None
    found = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", found)
    return re.sub(r"(?<=//)[^/@]*@", "", found).removesuffix("/").removesuffix(".git") or None


def address(root: Path = CHECKOUT) -> Finding | list[Finding]:
    """Whether the address in pyproject.toml is the checkout's own, and Colab has a fixed commit to install from it."""
    if not (root / "pyproject.toml").is_file():
        return []
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    named, commit = project["project"]["urls"]["Repository"], project["tool"]["vit-tutorial"]["commit"]
    found = origin(root)
    if commit and (found or "").casefold() == named.casefold():
        return Finding("Address", OK, f"{named}, commit {commit[:12]}")
    advice = "for a copy on GitHub that Colab can open: python tools/build/fork.py OWNER/REPO"
    if commit:
        return Finding(
            "Address", NOTE, f"Colab installs from {named}; this checkout's origin is {found or 'none'}", advice
        )
    return Finding("Address", NOTE, f"{named} is not set to be this course's own: nothing installs from it", advice)


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message, short enough for a report."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0][:100]}" if message else type(error).__name__


PROBES = (
    python_version,
    packages,
    torch_and_torchvision,
    processor,
    arithmetic,
    gpu,
    jupyter,
    widgets,
    disk,
    data,
    address,
)


def examine(probes) -> list[Finding]:
    """Run the probes; one that fails is itself a finding."""
    findings = []
    for probe in probes:
        try:
            result = probe()
        except Exception as error:  # a broken machine breaks probes in ways nobody listed; the others must still run
            item = probe.__name__.replace("_", " ")
            result = Finding(item, PROBLEM, f"cannot be checked: {first_line(error)}", INSTALL)
        findings += result if isinstance(result, list) else [result]
    return findings


def report(findings: list[Finding]) -> str:
    """One aligned line for each finding, its advice under it, and the verdict."""
    width = max(len(finding.item) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8} {finding.item:{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"{'':8} {'':{width}}  -> {finding.advice}")
    problems = sum(finding.state == PROBLEM for finding in findings)
    verdict = f"Problems to solve first: {problems}." if problems else "The course runs here."
    return "\n".join([*lines, "", verdict])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--online", action="store_true", help="also try to reach the project's address")


def main(args: argparse.Namespace) -> int:
    """Print the report; returns 0 where the course runs, 1 otherwise."""
    findings = examine((*PROBES, network if args.online else network_not_tried))
    print(report(findings))
    return int(any(finding.state == PROBLEM for finding in findings))


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(command)
    sys.exit(main(command.parse_args()))
