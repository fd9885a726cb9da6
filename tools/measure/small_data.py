"""Make data/runs/small-data.json, what notebook 08 shows: a ViT and a CNN as the data grow, and eight augmentations.

Some runs on shapes have four times the steps; of these the record also has the accuracy on shuffled patches.

    python tools/measure/small_data.py [--seconds 150]

The models and the loop are the notebook's own, read from its source. Every run is written when it ends; started again,
the tool goes on with the runs that are missing, and stops when its seconds are over.
"""

import time
from dataclasses import replace
from functools import cache

import torch
from records import Record, a_line_a_run, machine, notebook_names, parser

from vit_tutorial import datasets, patchify, unpatchify
from vit_tutorial.files import DATA
from vit_tutorial.training import evaluate

RECORD = DATA / "runs" / "small-data.json"
SEEDS, FEW = (0, 1, 2), 500
COUNTS = {"shapes": (100, 400, 1600, 6400), "same_or_different": (400, 1600, 6400)}
STEPS = {"shapes": 250, "same_or_different": 400}
LONGER, LONGER_SEEDS = 1000, (0, 1)
USUAL = "crop and flip"
ON_TOP = ("crop, flip, mixup", "crop, flip, CutMix")
AUGMENTATIONS = ("none", "crop", USUAL, "colour jitter", "mixup", "CutMix", *ON_TOP)


@cache
def from_notebook():
    """The notebook's models, recipes and loop."""
    models = ["usual", "small", "vit_recipe", "cnn_recipe", "ConvNet", "WIDE", "NARROW", "make_model"]
    return notebook_names("08_small_data.py", [*models, "augmentations", "fit"])


def plan():
    """Every run as a dict; a seed at a time, so that a record that is not complete is balanced."""
    for seed in SEEDS:
        for task, counts in COUNTS.items():
            specs = [(model, count, USUAL) for count in counts for model in ("vit", "cnn")]
            if task == "same_or_different":
                specs += [(model, counts[-1], USUAL) for model in ("narrow cnn", "narrow cnn, hidden layer")]
            else:
                specs += [("vit", FEW, name) for name in AUGMENTATIONS]
            for model, count, augmentation in specs:
                spec = {"task": task, "model": model, "count": count, "augmentation": augmentation}
                yield spec | {"steps": STEPS[task], "seed": seed}
        if seed in LONGER_SEEDS:
            specs = [("vit", FEW, USUAL), ("vit", 6400, USUAL), ("vit without positions", FEW, USUAL)]
            for model, count, augmentation in [*specs, *(("vit", FEW, name) for name in ON_TOP)]:
                spec = {"task": "shapes", "model": model, "count": count, "augmentation": augmentation}
                yield spec | {"steps": LONGER, "seed": seed}


@cache
def test_set(task):
    return getattr(datasets, task)("test")


def shuffled(data):
    """The data with the patches of all images in one other order."""
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    return replace(data, images=unpatchify(patchify(data.images, 8)[:, order], 8, 32))


def run(task, model, count, augmentation, steps, seed):
    """What one run reached: test accuracy and loss, and the accuracy on its own training pictures."""
    names = from_notebook()
    train_set = getattr(datasets, task)("train", count, seed=seed)
    fitted = names["make_model"](model, train_set, seed)
    start = time.perf_counter()
    names["fit"](fitted, train_set, steps, names["augmentations"][augmentation], seed)
    seconds = time.perf_counter() - start
    test = evaluate(fitted, test_set(task))
    seen = evaluate(fitted, train_set[torch.arange(min(count, 2000))])
    torn = {"shuffled": round(evaluate(fitted, shuffled(test_set(task))).accuracy, 4)} if steps == LONGER else {}
    return {
        "accuracy": round(test.accuracy, 4),
        "loss": round(test.loss, 4),
        "train_accuracy": round(seen.accuracy, 4),
        "parameters": sum(p.numel() for p in fitted.parameters()),
        "seconds": round(seconds, 1),
    } | torn


def main():
    args = parser(__doc__, RECORD).parse_args()
    info = machine() | {"command": "python tools/measure/small_data.py"}
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
