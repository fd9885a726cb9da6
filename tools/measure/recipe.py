"""Train a recipe with some numbers changed: what does a lever give?

    python tools/measure/recipe.py [--recipe cifar10-laptop] [--minutes 5] [--seeds 1] [--threads 1] [NAME=VALUE ...]
    python tools/measure/recipe.py crop=4 muon_learning_rate=6e-3
    python tools/measure/recipe.py embed_dim=128 num_heads=4 initialise=patches

NAME is a field of `Recipe` or of its `ViTConfig`. Reads CIFAR-10 from data/ and tests once, at the end. One thread
leaves the other core to a second run; compare runs made side by side.
"""

import argparse
from dataclasses import fields, replace

import torch

from vit_tutorial import VisionTransformer, datasets, training
from vit_tutorial.machine.threads import keep_memory


def changed(recipe, changes):
    """`recipe` with "name=value" texts applied, each value in the type of the old one.

    Raises `ValueError` for a name that is no field of the recipe or its model, and for a value of another type.
    """
    parse = {bool: {"True": True, "False": False}.__getitem__, tuple: lambda text: tuple(filter(None, text.split(",")))}
    found = {"model": {}, "recipe": {}}
    for change in changes:
        name, _, text = change.partition("=")
        owners = {"model": recipe.model, "recipe": recipe}
        part = next((p for p, owner in owners.items() if name in {field.name for field in fields(owner)}), None)
        if part is None or name == "model":
            raise ValueError(f"expected NAME=VALUE with a field of Recipe or ViTConfig, found {change!r}")
        kind = type(getattr(owners[part], name))
        try:
            found[part][name] = parse.get(kind, kind)(text)
        except (KeyError, ValueError):
            raise ValueError(f"expected a value of type {kind.__name__} for {name}, found {text!r}") from None
    return replace(recipe, model=replace(recipe.model, **found["model"]), **found["recipe"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--recipe", choices=training.RECIPES, default="cifar10-laptop")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 (default: 1)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    recipe = changed(training.RECIPES[args.recipe], args.changes)
    train_set, test_set = datasets.cifar10("train"), datasets.cifar10("test")
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        model = VisionTransformer(recipe.config(train_set))
        history = training.train(model, train_set, recipe, minutes=args.minutes, seed=seed)
        result = training.evaluate(model, test_set)
        print(
            f"{result.accuracy:.2%}  loss {result.loss:.3f}  {history.epochs[-1]['epoch']:.2f} epochs in "
            f"{args.minutes:g} min on {args.threads} thread(s)  {args.recipe} {' '.join(args.changes)} seed {seed}",
            flush=True,
        )


if __name__ == "__main__":
    main()
