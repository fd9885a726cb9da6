"""Planted answers to every exercise: wrong ones with the name that each must get, and the right ones of `answers`.

One module for each of `vit_tutorial.check`'s, with a table WRONG of `(exercise, answer, mistake)`, in which the mistake
None stands for one without a name.
"""

from importlib import import_module

from answers import right_answers

from vit_tutorial import check


def tables():
    """`{exercise: (right answers, [(wrong answer, mistake), ...])}`, in the order of the course."""
    modules = [import_module(f"{__name__}.{topic.__name__.rpartition('.')[2]}") for topic in check.TOPICS.values()]
    found = {name: (right, []) for name, right in right_answers().items()}
    for module in modules:
        for name, answer in getattr(module, "RIGHT", ()):  # of topics that have no module in `answers` yet
            found[name][0].append(answer)
        for name, answer, mistake in module.WRONG:
            found[name][1].append((answer, mistake))
    return found
