"""Mutants of the right answers in tests/answers: does a check pass what is wrong by now, or refuse what still is right?

    python tools/attack/mutants.py                      all of them, which takes hours; below the table, what went wrong
    python tools/attack/mutants.py --each 60 --jobs 2   at most 60 per exercise, drawn evenly from kinds and answers
    python tools/attack/mutants.py split merge          only exercises whose names contain one of these words

A mutant is one answer with one step changed in its syntax tree (`steps.py`); the answer itself is one too, with nothing
changed. For each exercise `tools/attack/oracles/TOPIC.py` has a function `EXERCISE(answer) -> bool` that says on hard
inputs whether an answer does all that the task asks: if so, the check must pass it, and else refuse it, best by a name.
The exit status is 1 where a right one is refused, or more than 0.5 % of the wrong ones pass.
"""

import argparse
import ast
import inspect
import json
import linecache
import multiprocessing
import os
import random
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from steps import changes, difference, source

from vit_tutorial import check
from vit_tutorial.check import reference, verdict

SECONDS, MORE, MEMORY = 20, 60, 4 << 30  # for each call; more, until a worker is killed; bytes that it may take
SEARCH = reference.SECONDS  # for the names of mistakes
ALLOWED = 0.005  # share of the wrong ones that may pass
UNSUITED = {"dtype", "detached", "one image", "input changed", "mode"}  # no mutants of what has no such attribute


def rounds(found, key):
    """The same in another order: the first of each key, then the second of each, and so on."""
    seen = Counter()
    return sorted(found, key=lambda x: seen.update([key(x)]) or seen[key(x)])


def mutants(words=(), each=None, seed=0):
    """The mutants, of each exercise at most so many, as dictionaries."""
    for topic in check.TOPICS.values():
        where = topic.__name__.rpartition(".")[2]
        if not find_spec(f"answers.{where}"):
            continue
        module = import_module(f"answers.{where}")
        modules = {name: value for name, value in vars(module).items() if isinstance(value, ModuleType)}
        nodes = ast.walk(ast.parse(inspect.getsource(module)))
        answers = [x for x in nodes if isinstance(x, (ast.FunctionDef, ast.ClassDef)) and hasattr(module, x.name)]
        for exercise in topic.__all__:
            if words and not any(word in exercise for word in words):
                continue
            own = [x for x in answers if x.name.startswith(f"{exercise}__")]
            draw = random.Random(f"{seed} {exercise}")
            own = draw.sample(own, min(each, len(own))) if each else own
            found, seen = [change for answer in own for change in changes(answer, modules)], {""}
            if each:
                draw.shuffle(found)
                found = rounds(rounds(found, lambda x: (x[0], id(x[2]))), lambda x: x[0])
            for kind, line, tree, before, *change in found:
                text = source(tree, *change)
                if text in seen or (text == before) != (kind == "nothing changed"):
                    continue
                seen.add(text)
                what = kind if text == before else f"{kind}: {difference(before, text)}"
                common = {"topic": where, "exercise": exercise, "answer": tree.body[0].name, "line": line}
                yield common | {"kind": kind, "what": what, "source": text}
                if len(seen) - 1 == each:
                    break


def oracle(mutant):
    """The function that says whether an answer is right; None where there is none yet."""
    where = f"oracles.{mutant['topic']}"
    return getattr(import_module(where), mutant["exercise"], None) if find_spec(where) else None


def verdict_on(mutant, seconds=SECONDS, search=SEARCH):
    """`(equivalent, passed, mistake)` of a mutant, and whether its code still runs."""
    draw = random.Random(mutant["source"])
    verdict.fresh_seed = reference.fresh_seed = lambda: draw.getrandbits(48)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    space = vars(import_module(f"answers.{mutant['topic']}"))  # whose tensors a mutant may change in place
    space = {name: x.clone() if torch.is_tensor(x) else x for name, x in space.items()}
    space.pop(mutant["answer"], None)
    linecache.cache["<mutant>"] = (0, None, mutant["source"].splitlines(True), "<mutant>")

    def equivalent():
        with suppress(Exception, SystemExit, KeyboardInterrupt):
            exec(compile(mutant["source"], "<mutant>", "exec"), space)
            return bool(oracle(mutant)(space[mutant["answer"]]))
        return False

    right, runs = verdict.limited(equivalent, seconds)
    if runs:
        return (False, False, "no end"), True
    reference.SECONDS = SEARCH if right else search
    verdict.SECONDS = seconds / 5 if right is None else seconds  # None: no end
    result = check.EXERCISES[mutant["exercise"]](space.get(mutant["answer"]))
    return (bool(right), result.passed, result.mistake), "still runs" in result.message


def work(pipe, seconds, search):
    """What a process does that may be killed: verdicts on the mutants that come through the pipe."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with suppress(ImportError, ValueError):  # Windows has none
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    while True:
        mutant = pipe.recv()
        try:
            pipe.send(verdict_on(mutant, seconds, search))
        except Exception as error:  # an error of this tool: shown among those that are wrongly refused
            pipe.send(((True, False, repr(error)), True))


def judged(found, jobs=1, search=SEARCH, seconds=SECONDS):
    """The mutants with their verdicts, in order; `seconds` limit a call, `search` the search for wrong ones' names."""
    context, own = multiprocessing.get_context("spawn"), threading.local()

    def ask(mutant):
        if not getattr(own, "worker", None):
            own.pipe, theirs = context.Pipe()
            own.worker = context.Process(target=work, args=(theirs, seconds, search), daemon=True)
            own.worker.start()
            theirs.close()
        result, runs = (False, False, "no end"), True
        with suppress(EOFError, OSError):
            own.pipe.send(mutant)
            if own.pipe.poll(MORE + 2 * seconds):
                result, runs = own.pipe.recv()
        if runs:
            own.worker.kill()
            own.worker = None
        return mutant | dict(zip(("equivalent", "passed", "mistake"), result, strict=True))

    with ThreadPoolExecutor(jobs) as pool:
        for one in pool.map(ask, found):
            unsuited = one["kind"] in UNSUITED and one["mistake"] in ("AttributeError", "TypeError")
            if not unsuited and one["mistake"] not in ("NameError", "UnboundLocalError"):
                yield one


def split(records):
    """The equivalent ones; those of them that are refused; of the others those that pass, and those that do not."""
    right, wrong = ([x for x in records if x["equivalent"] is equivalent] for equivalent in (True, False))
    passed, told = ([x for x in wrong if x["passed"] is passed] for passed in (True, False))
    return right, [x for x in right if not x["passed"]], passed, told


def raised(record):
    return f"{record['mistake']}".endswith(("Error", "Exception", "Exit", "Interrupt"))


def share(some, all_of_them):
    return f"{len(some) / len(all_of_them):.1%}" if all_of_them else "-"


def row(name, records):
    right, refused, passed, told = split(records)
    quiet = [x for x in told if not raised(x)]
    shares = [share([x for x in group if x["mistake"]], group) for group in (told, quiet)]
    counts = [len(records), len(right), len(refused), len(passed)]
    return f"{name:27}" + "".join(f"{cell:>13}" for cell in (*counts, *shares))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only exercises whose names contain one of these")
    parser.add_argument("--each", type=int, metavar="N", help="at most so many mutants an exercise (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--json", type=Path, help="a file for all mutants and verdicts")
    args = parser.parse_args()
    records, found = [], list(mutants(args.words, args.each, args.seed))
    unjudged = sorted({x["exercise"] for x in found if not oracle(x)})
    found = [x for x in found if x["exercise"] not in unjudged]
    heads = ("mutants", "equivalent", "refused", "wrong passed", "named", "of silent")
    print(f"{'exercise':27}" + "".join(f"{head:>13}" for head in heads))
    for exercise, group in groupby(judged(found, args.jobs), lambda x: x["exercise"]):
        records += (group := list(group))
        print(row(exercise, group), flush=True)
    right, refused, passed, told = split(records)
    print(row("all", records))
    print(
        f"{share(passed, passed + told)} of the wrong ones pass, {share(refused, right)} of the right ones are refused."
    )
    print("The last column is of those that raise nothing.")
    for title, group in (("Wrong, but passed", passed), ("Right, but refused", refused)):
        for x in group:
            print(f"{title}: {x['answer']}:{x['line']}: {x['what']}: {x['mistake'] or 'no name'}")
    if unjudged:
        print(f"Without an oracle: {', '.join(unjudged)}")
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    return int(bool(refused) or len(passed) > ALLOWED * len(passed + told))


if __name__ == "__main__":
    sys.exit(main())
