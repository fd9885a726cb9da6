"""Make data/runs/modern-parts.json, what notebook 13 shows: the laptop recipe with one modern part at a time.

    python tools/measure/modern_parts.py [--seconds 3000]

Reads CIFAR-10 from data/. Choices are made from this record, so the test set is not looked at: every run learns from
45,000 training pictures, for two epochs, and is scored on the other 5,000; models that differ in their positions also
on 2,000 of these at other sizes. Every run is written when it ends; started again, the tool goes on with the runs that
are missing, and stops when its seconds are over. Last it times a step of each model in turn with the plain one's.
"""

import copy
import statistics
import time
from dataclasses import asdict, replace
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, a_line_a_run, machine, notebook_names, parser

from vit_tutorial import ModernConfig, ModernViT, datasets, normalise, set_image_size, training
from vit_tutorial.files import DATA
from vit_tutorial.machine.threads import keep_memory

RECORD = DATA / "runs" / "modern-parts.json"
RECIPE, EPOCHS, SEEDS, HELD_BACK = training.RECIPES["cifar10-laptop"], 2, (0, 1, 2), 5000
SIDES, SOME, POSITIONS = (24, 32, 40, 48, 64), 2000, ("plain", "rotary", "rotary, DINOv3's")
TURNS = 15  # timed steps of each model
NOTEBOOK = notebook_names("13_the_modern_vit.py", ["usual", "small", "PARTS", "enlarged"])
PARTS = NOTEBOOK["PARTS"]  # the MLP of both models has ratio 2, so SwiGLU is as wide here


def plan():
    """Every run as a dict; a seed at a time, so that a record that is not complete is balanced."""
    return [{"part": part, "seed": seed} for seed in SEEDS for part in PARTS]


@cache
def pictures():
    """The 45,000 pictures to learn from and the 5,000 held back, the same for every run."""
    data = datasets.cifar10("train")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data[order[HELD_BACK:]], data[order[:HELD_BACK]]


def build(part, data):
    """The recipe and the fresh model with this part."""
    recipe = replace(RECIPE, initialise=("patches",)) if "rope" in PARTS[part] else RECIPE  # no positions to start
    return recipe, ModernViT(ModernConfig(**asdict(recipe.config(data)) | PARTS[part]))


def run(part, seed):
    """What one run reached: accuracy and loss on the pictures held back."""
    train_set, held_back = pictures()
    torch.manual_seed(seed)
    recipe, model = build(part, train_set)
    training.train(model, train_set, recipe, epochs=EPOCHS, seed=seed)
    result = training.evaluate(model, held_back)
    sizes = {"sizes": {side: at_size(model, held_back[:SOME], side) for side in SIDES}} if part in POSITIONS else {}
    return {
        "accuracy": round(result.accuracy, 4),
        "loss": round(result.loss, 4),
        "parameters": sum(p.numel() for p in model.parameters()),
    } | sizes


def at_size(model, data, side):
    """Accuracy on the same pictures, enlarged or reduced to this side; learned positions are interpolated."""
    resized, images = set_image_size(copy.deepcopy(model), side), NOTEBOOK["enlarged"](data.images, side)
    return round(training.evaluate(resized, replace(data, images=images)).accuracy, 4)


def step_seconds(model, images, labels):
    """One forward and backward pass."""
    start = time.perf_counter()
    F.cross_entropy(model(images), labels).backward()
    return time.perf_counter() - start


def cost(data):
    """How long each part's step takes, as a share of the plain model's: medians of steps taken in turn."""
    batch = data[: RECIPE.batch_size]
    images, labels = normalise(batch.images, RECIPE.config(data)), batch.labels
    models = {part: build(part, data)[1].train() for part in PARTS}
    seconds = {part: [] for part in models}
    for _ in range(TURNS):
        for part, model in models.items():
            seconds[part].append(step_seconds(model, images, labels))
    plain = statistics.median(seconds["plain"])
    return {part: round(statistics.median(times) / plain, 3) for part, times in seconds.items()}


def main():
    args = parser(__doc__, RECORD).parse_args()
    keep_memory()
    torch.set_num_threads(1)
    train_set, _ = pictures()
    info = machine() | {
        "command": "python tools/measure/modern_parts.py",
        "data": "CIFAR-10 (JPEG copy)",
        "recipe": "cifar10-laptop",
        "epochs": EPOCHS,
        "learnt from": len(train_set),
        "held back": HELD_BACK,
    }
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)
    if len(record.content["runs"]) == len(plan()):
        record.content["cost"] = cost(train_set)
        record.save()


if __name__ == "__main__":
    main()
