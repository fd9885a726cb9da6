"""Imports run one way, without a circle; read from the code itself, imports inside functions included."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vit_tutorial

PACKAGE = Path(vit_tutorial.__file__).parent
ROOMS = (  # each imports from its own line and the lines above it
    ("layers", "files"),
    ("model", "modern", "dense"),
    ("datasets", "weights", "metrics", "machine", "patients", "words"),
    ("interpret", "training"),
    ("plots", "drawings", "course", "check", "widgets", "export"),
    ("pictures",),
    ("answers", "pixels", "report"),
    ("cli", "doctor", "lab", "classroom"),
)


def module_name(path, package=PACKAGE):
    """A file's name as a module: `vit_tutorial.check` for `vit_tutorial/check/__init__.py`."""
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def packages_of(name):
    """The packages around a module, which are loaded before it."""
    parts = name.split(".")
    return {".".join(parts[:depth]) for depth in range(1, len(parts))}


def imported_names(path, name):
    """`[(module, attribute or None), ...]`: all that a file imports, relative names made absolute.

    What is reached through the package's lazy `__getattr__` (`import vit_tutorial as vit`, then `vit.training`) counts.
    """
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    roots = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
            roots |= {a.asname or a.name: a.name for a in node.names if a.asname or "." not in a.name}
        elif isinstance(node, ast.ImportFrom):
            home = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*home, *filter(None, [node.module])])
            found += [(module, alias.name) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in roots:
            found.append((roots[node.value.id], node.attr))
    return found


def import_graph(package=PACKAGE):
    """`{module: modules of the package that it imports}`.

    `from . import x` and `from .a import x` mean the submodule x where there is one. A submodule of another package
    loads that package's `__init__` first, and with it what that imports.
    """
    paths = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    graph = {}
    for name, path in paths.items():
        targets = set()
        for module, attribute in imported_names(path, name):
            target = next((t for t in (f"{module}.{attribute}", module) if t in paths), None)
            if target:
                targets |= {target} | (packages_of(target) - packages_of(name) - {name})
        graph[name] = targets - {name}
    return graph


def circles(graph):
    """Circles such as "a -> b -> a", each broken at one import before the next is looked for."""
    graph, found = dict(graph), []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            *circle, first = reversed(error.args[1])  # graphlib names what is imported before who imports it
            found.append(" -> ".join([*circle, first]))
            graph[circle[0]] = graph[circle[0]] - {circle[1]}


def room(name):
    return name.split(".")[1]


def test_no_circle():
    assert circles(import_graph()) == []


def test_imports_run_one_way():
    height = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    graph = {name: targets - {"vit_tutorial"} for name, targets in import_graph().items() if name != "vit_tutorial"}
    assert {room(name) for name in graph} <= height.keys(), "a new room: say in ROOMS where it stands"
    upwards = [f"{a} -> {b}" for a, targets in graph.items() for b in targets if height[room(a)] < height[room(b)]]
    assert upwards == []


@pytest.mark.parametrize("name", ["layers", "model", "modern"])
def test_what_a_learner_reads_first_imports_torch_alone(name):
    path = PACKAGE / f"{name}.py"
    modules = [module for module, _ in imported_names(path, f"vit_tutorial.{name}")]
    ours = {module for module in modules if module.startswith("vit_tutorial")}
    others = {module.partition(".")[0] for module in modules} - {"vit_tutorial"}
    assert others - sys.stdlib_module_names <= {"torch"}
    assert ours <= {"vit_tutorial.layers", "vit_tutorial.model"} - {f"vit_tutorial.{name}"}


def test_import_stays_light():
    heavy = {"torchvision", "matplotlib", "anywidget", "ipywidgets", "timm", "skimage", "jupyterlab"}
    code = f"import sys, vit_tutorial.layers, vit_tutorial.model; print(*{heavy} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.stdout, process.returncode) == ("\n", 0), process.stdout + process.stderr


FILES = {
    "package/__init__.py": "from .a import f\n",
    "package/a.py": "from . import b\nimport math\n",
    "package/b/__init__.py": "",
    "package/b/c.py": "def f():\n    from ..d import g\n",
    "package/d.py": "from package.b.c import f\nimport package as p\np.b.c\nfrom package import a\n",
}


def test_the_graph_is_read_right(tmp_path):
    """Each way to import; and a circle, that of c and d, is found inside a function and named."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path / "package")
    assert graph == {
        "package": {"package.a"},
        "package.a": {"package.b"},
        "package.b": set(),
        "package.b.c": {"package.d"},
        "package.d": {"package", "package.a", "package.b", "package.b.c"},
    }
    (circle,) = circles(graph)
    assert circle in ("package.b.c -> package.d -> package.b.c", "package.d -> package.b.c -> package.d")
