"""Right answers in the styles of many learners: loops, einsum, functions, modules, NumPy, float64, views.

One module for each of `vit_tutorial.check`'s. A function is named `exercise__style`; values stand in the table VALUES,
`{exercise: [value, ...]}`. `tools/attack/mutants.py` changes the functions one step at a time.
"""

from importlib import import_module

from vit_tutorial import check


def right_answers():
    """`{exercise: [answer, ...]}` of all topics that have a module here."""
    found = {name: [] for name in check.EXERCISES}
    for topic in check.TOPICS.values():
        try:
            module = import_module(f"{__name__}.{topic.__name__.rpartition('.')[2]}")
        except ModuleNotFoundError:
            continue
        for name, answer in vars(module).items():
            if "__" in name.strip("_") and name.split("__")[0] in found:
                found[name.split("__")[0]].append(answer)
        for name, values in getattr(module, "VALUES", {}).items():
            found[name] += values
    return found
