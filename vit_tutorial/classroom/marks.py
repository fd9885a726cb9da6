"""What a graded cell computes: the points of an exercise. It runs in the student's kernel, inside the sandbox."""

import importlib
import io
import sys
from contextlib import redirect_stdout

ROUNDS = 3  # each with inputs drawn afresh


def mark(points, **answers):
    """The points for `answers`, each a function without arguments, named like its checker in `vit_tutorial.check`.

    An answer counts if its checker passes it `ROUNDS` times, on inputs that nobody has seen. The checkers are loaded
    anew, in case the notebook has changed them, and must refuse an answer that no exercise has. Points are shared
    alike among the answers; what raises gets none.
    """
    for name in [name for name in sys.modules if name.startswith("vit_tutorial.check")]:
        del sys.modules[name]
    check = importlib.import_module("vit_tutorial.check")
    passed = 0
    for name, answer in answers.items():
        checker = check.EXERCISES[name]
        with redirect_stdout(io.StringIO()):  # the cell has printed the verdict once
            try:
                rounds = all(checker(answer()).passed for _ in range(ROUNDS))
            except Exception:  # the answer's name is not defined, or its cell never ran
                rounds = False
            passed += rounds and not checker(object()).passed
    return points * passed / len(answers)
