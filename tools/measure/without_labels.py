"""Make data/runs/without-labels.json, what notebook 14 shows: what learning without labels buys when labels are few.

    python tools/measure/without_labels.py [--seconds 3000]
    python tools/measure/without_labels.py --ship

On shapes and on CIFAR-10 (read from data/), small ViTs learn from all training pictures without their labels (MAE,
DINO); then from 1, 5, 20 and 100 labels a class. The same model learns from scratch from the few labels alone.
Compute is CPU seconds of one thread, which other work on the machine changes little; the numbers of steps are fixed.
MAE and DINO have about the same. From scratch there may be as much, pre-training and fine-tuning together; where that
was no better than fewer steps, there are fewer, and "longer scratch" has all of it. Rates and steps were
chosen on training pictures that took no part in learning; the record is of the test set, and of all training pictures.

The record: `info`, and `runs`, each a dict with "data" ("shapes" or "cifar10"), "way" and "seed", and

- "mae", "dino": "steps" and "seconds" of pre-training; "fine-tuned" and "nearest", lists of accuracies (fractions) with
  1, 5, 20, 100 labels a class: all weights learn, or the nearest features vote (at most 10 of them, and at most as many
  as a class has labels); "fine-tuning seconds", a list too. "dino" also has the curves "entropy" and "mean_entropy" of
  pre-training, every tenth step.
- "scratch", "longer scratch": "labels", for which of these numbers of labels the lists are; "steps", "fine-tuned",
  "fine-tuning seconds". A seed draws the same pictures to be labelled for every way.
- "random": "nearest", of a model that has learnt nothing.
- "all labels": "accuracy", "steps", "seconds": from scratch with the label of every training picture, shapes alone.

Runs on shapes with seed 0, other than from scratch, also have "on object" and "pointing", a number a layer. The models
have no class token: the map is the mean over heads and over all patches that ask. The first is the share of attention
that lies on the object, the second how often the patch that is looked at most lies on it. Where all patches are looked
at alike they are `info["object's share of the picture"]` and `info["patches on the object"]`. MAE and DINO are scored
before any fine-tuning.

Every run is written when it ends; started again, the tool goes on with the runs that are missing, and stops when its
seconds are over. `--ship` instead trains data/mae_shapes.safetensors, and keeps its record data/runs/mae-shapes.json.
"""

import time
from copy import deepcopy
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, a_line_a_run, machine, parser

from vit_tutorial import VisionTransformer, datasets, interpret, normalise
from vit_tutorial.files import DATA
from vit_tutorial.machine.threads import keep_memory
from vit_tutorial.metrics import knn_accuracy
from vit_tutorial.training import RECIPES, Trainer, evaluate, mae, new_head, train
from vit_tutorial.training.recipe import CIFAR10_MEAN, CIFAR10_STD, SMALL

RECORD = DATA / "runs" / "without-labels.json"
SHIPPED, SHIPPED_RECORD = DATA / "mae_shapes.safetensors", DATA / "runs" / "mae-shapes.json"
SHIPPED_RECIPE = replace(RECIPES["mae"], model=replace(SMALL, pool="mean"), epochs=8, warmup=0.05)

SEEDS, LABELS, TESTED, SCORED = (0, 1, 2), (1, 5, 20, 100), 2000, 500
CIFAR10 = replace(RECIPES["mae"].model, mean=CIFAR10_MEAN, std=CIFAR10_STD)
MODELS = {"shapes": RECIPES["mae"].model, "cifar10": CIFAR10}
PRETRAINING = {  # recipe, steps, settings
    ("shapes", "mae"): (RECIPES["mae"], 1600, {"mask_ratio": 0.5}),
    ("shapes", "dino"): (RECIPES["dino"], 700, {}),
    ("cifar10", "mae"): (RECIPES["mae"], 2000, {"mask_ratio": 0.5}),
    ("cifar10", "dino"): (RECIPES["dino"], 850, {}),
}
FEW = replace(RECIPES["fine-tune"], model=RECIPES["mae"].model, layer_decay=1.0, muon_learning_rate=1e-2)
GENTLY = replace(FEW, layer_decay=0.8, muon_learning_rate=5e-3)
FINE_TUNING = {  # labels a class -> steps
    "shapes": (FEW, {1: 60, 5: 100, 20: 300, 100: 600}),
    "cifar10": (GENTLY, {1: 30, 5: 50, 20: 100, 100: 300}),
}
SCRATCH = {
    ("shapes", "scratch"): {1: 100, 5: 300, 20: 1000, 100: 4300},
    ("shapes", "longer scratch"): {5: 4000, 20: 4000},
    ("cifar10", "scratch"): {1: 60, 5: 200, 20: 400, 100: 1000},
    ("cifar10", "longer scratch"): {20: 4800, 100: 4800},
}
ALL_LABELS = replace(RECIPES["shapes"], model=RECIPES["mae"].model), 2000


def plan():
    """Every run as a dict; a seed at a time, so that a record that is not complete is balanced."""
    runs = [
        {"data": data, "way": way, "seed": seed}
        for seed in SEEDS
        for data in MODELS
        for way in ("mae", "dino", "scratch", "random")
    ]
    longer = [{"data": data, "way": "longer scratch", "seed": seed} for data in MODELS for seed in SEEDS]
    return [*runs, {"data": "shapes", "way": "all labels", "seed": SEEDS[0]}, *longer]


@cache
def pictures(name, split):
    return datasets.shapes(split) if name == "shapes" else datasets.cifar10(split)


@cache
def tested(name):
    """The 2,000 test pictures, the same for every run."""
    data = pictures(name, "test")
    return data[torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:TESTED]]


def labelled(data, n, seed):
    """`n` pictures of each class, drawn by the seed."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data[torch.cat([order[data.labels[order] == c][:n] for c in range(len(data.classes))])]


def fresh(name, seed):
    torch.manual_seed(seed)
    data = pictures(name, "train")
    return VisionTransformer(replace(RECIPES["mae"], model=MODELS[name]).config(data))


def fit(model, data, recipe, steps, seed, **options):
    """Train for so many steps; the record and the CPU seconds."""
    start, epoch = time.process_time(), len(data) // min(recipe.batch_size, len(data))  # steps
    history = train(model, data, recipe, epochs=steps / epoch, seed=seed, **options)
    return history, round(time.process_time() - start, 1)


def with_few_labels(model_of, name, seed, recipe, steps):
    """Accuracies and CPU seconds of fresh copies, `model_of()`, trained with each number of labels."""
    data, accuracies, seconds = pictures(name, "train"), [], []
    for n, count in steps.items():
        model = model_of()
        _, cost = fit(model, labelled(data, n, seed), recipe, count, seed)
        accuracies.append(round(evaluate(model, tested(name)).accuracy, 4))
        seconds.append(cost)
    return {"fine-tuned": accuracies, "fine-tuning seconds": seconds}


def nearest(vit, name, seed):
    """Accuracies by the votes of the nearest labelled features: at most 10, and at most as many as a class has."""
    data, test = pictures(name, "train"), tested(name)
    return [round(knn_accuracy(vit, labelled(data, n, seed), test, k=min(n, 10)), 4) for n in LABELS]


def attention(model, name, seed):
    """On shapes, seed 0: for each layer the share of attention on the object, and the pointing game."""
    if (name, seed) != ("shapes", 0):
        return {}
    data, grid = tested(name)[:SCORED], model.config.grid
    covered = F.adaptive_avg_pool2d(data.masks.float(), grid).flatten(1)  # (B, N)
    weights = interpret.record(model, normalise(data.images, model.config)).as_subclass(torch.Tensor)  # (L, B, H, N, N)
    maps = weights.mean(dim=(2, 3))  # (L, B, N): what all patches take of each
    return {
        "on object": [round((m * covered).sum(dim=1).mean().item(), 4) for m in maps],
        "pointing": [round(interpret.pointing_game(m.unflatten(1, grid), data.masks), 4) for m in maps],
    }


def pretrained(name, way, seed):
    """One run that begins without labels."""
    vit, (recipe, steps, settings) = fresh(name, seed), PRETRAINING[name, way]
    history, seconds = fit(vit, pictures(name, "train"), recipe, steps, seed, settings=settings)
    curves = {k: [round(v, 3) for v in history.steps[k][::10]] for k in ("entropy", "mean_entropy") if way == "dino"}
    found = {"steps": steps, "seconds": seconds, "nearest": nearest(vit, name, seed)}
    few = with_few_labels(lambda: new_head(deepcopy(vit), tested(name).classes), name, seed, *FINE_TUNING[name])
    return found | few | attention(vit, name, seed) | curves


def run(data, way, seed):
    """What one run reached."""
    if way in ("mae", "dino"):
        return pretrained(data, way, seed)
    model = fresh(data, seed)
    if way == "random":
        return {"nearest": nearest(model, data, seed)} | attention(model, data, seed)
    if way != "all labels":
        steps = SCRATCH[data, way]
        found = with_few_labels(lambda: fresh(data, seed), data, seed, FEW, steps)
        return {"labels": list(steps), "steps": list(steps.values())} | found
    recipe, steps = ALL_LABELS
    _, seconds = fit(model, pictures(data, "train"), recipe, steps, seed)
    accuracy = round(evaluate(model, tested(data)).accuracy, 4)
    return {"accuracy": accuracy, "steps": steps, "seconds": seconds} | attention(model, data, seed)


def ship():
    """Train the masked autoencoder that the course ships, on 60,000 shapes, and keep it with its record."""
    data, seed, start = datasets.shapes("train", 60_000), 0, time.process_time()
    torch.manual_seed(seed)
    trainer = Trainer(
        VisionTransformer(SHIPPED_RECIPE.config(data)), data, SHIPPED_RECIPE, seed=seed, settings={"normalise": False}
    )
    history = trainer.run()
    history.info |= {
        "data": "shapes",
        "command": "python tools/measure/without_labels.py --ship",
        "CPU seconds": round(time.process_time() - start, 1),
    }
    mae.save(trainer.objective, SHIPPED)
    history.save(SHIPPED_RECORD)
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB; record in {SHIPPED_RECORD.name}")


def main():
    options = parser(__doc__, RECORD)
    options.add_argument("--ship", action="store_true", help="train the model that the course ships instead")
    args = options.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    if args.ship:
        return ship()
    masks = tested("shapes")[:SCORED].masks.float()
    on_object = F.adaptive_avg_pool2d(masks, MODELS["shapes"].grid) >= 0.5
    info = machine() | {
        "command": "python tools/measure/without_labels.py",
        "data": {"shapes": "shapes", "cifar10": "CIFAR-10 (JPEG copy)"},
        "labels": LABELS,
        "learnt from without labels": {name: len(pictures(name, "train")) for name in MODELS},
        "tested": TESTED,
        "scored on": SCORED,
        "object's share of the picture": round(masks.mean().item(), 4),
        "patches on the object": round(on_object.float().mean().item(), 4),
        "compute": "CPU seconds of one thread (time.process_time); numbers of steps are fixed",
    }
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
