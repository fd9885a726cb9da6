"""By how much do the notebooks' asserts hold? Each notebook with five seeds on each simulated machine.

    python tools/measure/margins.py 07              prints each assert whose numbers vary, and what it has to spare
    python tools/measure/margins.py 02 07 --write   and writes that behind the assert, in notebooks/source

The source is run as a program in which every comparison inside an assert notes its two sides. A seed is a number that
is added to all of the notebook's own. What was measured stays in build/margins, and is not measured again as long as
the source and those modules of the package that it loads are as they were.
"""

import argparse
import ast
import builtins
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / room) for room in ("build", "try"))

from machines import MACHINES, settings

from notebooks import NOTEBOOKS, ROOT, find_sources

SEEDS = range(5)
KEPT = ROOT / "build" / "margins"
LESS, GREATER = (ast.Lt, ast.LtE), (ast.Gt, ast.GtE)
NOTE = re.compile(r"  # to spare in \d+ runs: .*$")


class NoteComparisons(ast.NodeTransformer):
    """Each comparison by size inside an assert calls `note` with its numbers."""

    line = None  # of the assert around

    def visit_Assert(self, node):
        self.line, self.place = node.lineno, 0
        condition = ast.Lambda(ast.arguments([], [], None, [], [], None, []), self.generic_visit(node).test)
        self.line = None
        call = ast.Call(ast.Name("check_assert", ast.Load()), [ast.Constant(node.lineno), condition], [])
        return ast.copy_location(ast.Expr(call), node)

    def visit_Compare(self, node):
        self.generic_visit(node)
        if self.line is None or not all(isinstance(op, LESS + GREATER) for op in node.ops):
            return node
        signs = [1 if isinstance(op, LESS) else -1 for op in node.ops]
        strict = [isinstance(op, (ast.Lt, ast.Gt)) for op in node.ops]
        values = ast.List([node.left, *node.comparators], ast.Load())
        self.place += 1
        where = [ast.Constant(value) for value in (self.line, self.place, tuple(signs), tuple(strict))]
        return ast.Call(ast.Name("note", ast.Load()), [*where, values], [])


def run(source, seed):
    """Run the source with its seeds moved by `seed`; returns what its asserts compared, and which of them failed."""
    import matplotlib
    import torch

    matplotlib.use("Agg")
    seeded = torch.manual_seed
    torch.manual_seed = lambda number: seeded(number + 1000 * seed)
    spare, failed = {}, set()

    def note(line, place, signs, strict, values):
        holds = True
        for number, (sign, sharp) in enumerate(zip(signs, strict, strict=True)):
            difference = sign * (torch.as_tensor(values[number + 1]) - torch.as_tensor(values[number]))
            holds = holds & (difference > 0 if sharp else difference >= 0)
            key = f"{line} {place}.{number}"
            spare[key] = min(spare.get(key, math.inf), difference.min().item())
        return holds

    def check_assert(line, condition):
        if not condition():
            failed.add(line)

    builtins.note, builtins.check_assert = note, check_assert
    os.chdir(NOTEBOOKS)
    tree = ast.fix_missing_locations(NoteComparisons().visit(ast.parse(source.read_text(encoding="utf-8"))))
    sys.modules["__main__"].__dict__.update(get_ipython=lambda: None)
    exec(compile(tree, str(source), "exec"), sys.modules["__main__"].__dict__)
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    ours = sorted(name for name in loaded if name and Path(name).is_relative_to(ROOT / "vit_tutorial"))
    files = {str(path.relative_to(ROOT)): fingerprint(path) for path in (source, *map(Path, ours))}
    return {"spare": spare, "failed": sorted(failed), "files": files}


def fingerprint(path):
    """Of a file's text, without the margins that stand behind its asserts."""
    return hashlib.sha256(NOTE.sub("", path.read_text(encoding="utf-8")).encode()).hexdigest()[:12]


def measured(source, machine, seed):
    """What `run` found on `machine`, measured in a process of its own, or kept from an earlier time."""
    kept = KEPT / f"{source.stem}-{machine.replace(', ', '-').replace(' ', '-')}-{seed}.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if all((ROOT / name).exists() and fingerprint(ROOT / name) == state for name, state in found["files"].items()):
            return found
    command = [sys.executable, __file__, source.name[:2], "--seed", str(seed)]
    done = subprocess.run(command, env=os.environ | settings(machine), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{source.name} on {machine} with seed {seed}: {done.stderr[-1500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def report(source, runs, write):
    """Print each assert whose numbers differ between the runs, {(machine, seed): result}; returns how many failed."""
    lines = source.read_text(encoding="utf-8").splitlines()
    spare, failures = {}, 0
    for (machine, seed), result in runs.items():
        for line in result["failed"]:
            failures += 1
            print(f"FAILED {source.name}:{line} on {machine}, seed {seed}: {lines[line - 1].strip()}")
        for key, value in result["spare"].items():
            spare.setdefault(key, []).append(value)
    notes = {}
    for key, values in sorted(spare.items(), key=lambda item: [float(part) for part in item[0].split()]):
        if max(values) - min(values) > 1e-3 * max(map(abs, values)):
            notes.setdefault(int(key.split()[0]), []).append(f"{min(values):.2g}")
    for line, numbers in notes.items():
        note = f"  # to spare in {len(runs)} runs: {', '.join(numbers)}"
        print(f"{source.name}:{line}: {NOTE.sub('', lines[line - 1]).strip()}{note}")
        if write:
            lines[line - 1] = NOTE.sub("", lines[line - 1]) + note
    if write:
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--write", action="store_true", help="write the margins behind the asserts")
    parser.add_argument("--seed", type=int, help="run one notebook here, with this seed, and print what it compared")
    options = parser.parse_args()
    sources = find_sources(options.prefixes)
    if options.seed is not None:
        print(json.dumps(run(sources[0], options.seed)))
        return 0
    failures = 0
    with ThreadPoolExecutor(2) as pool:
        for source in sources:
            cases = [(machine, seed) for seed in SEEDS for machine in MACHINES]
            results = pool.map(lambda case, source=source: measured(source, *case), cases)
            failures += report(source, dict(zip(cases, results, strict=True)), options.write)
    return min(1, failures)


if __name__ == "__main__":
    sys.exit(main())
