"""Planted answers to every exercise: right ones in different styles, and wrong ones with the name that each must get.

One module for each of `vit_tutorial.check`'s, with two tables: RIGHT of `(exercise, answer)`, and WRONG of
`(exercise, answer, mistake)`, in which the mistake None stands for one without a name.
"""

from importlib import import_module

from vit_tutorial import check


def tables():
    """`{exercise: (right answers, [(wrong answer, mistake), ...])}`, in the order of the course."""
    modules = [import_module(f"{__name__}.{topic.__name__.rpartition('.')[2]}") for topic in check.TOPICS.values()]
    found = {name: ([], []) for name in check.EXERCISES}
    for module in modules:
        for name, answer in module.RIGHT:
            found[name][0].append(answer)
        for name, answer, mistake in module.WRONG:
            found[name][1].append((answer, mistake))
    return found
