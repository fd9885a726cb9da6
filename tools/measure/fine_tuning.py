"""Make data/runs/fine-tuning.json, what notebook 09 shows: four ways to fine-tune, and what they are sensitive to.

    python tools/measure/fine_tuning.py [--seconds 110]    from the shipped checkpoint, on pictures that the course has
    python tools/measure/fine_tuning.py --photographs      from a checkpoint that never saw five of CIFAR-10's
                                                       classes, on two small sets of these: bird, cat, dog;
                                                       and ship, truck

The pictures, recipes and steps are the notebook's own, read from its source. Every run is written when it ends; started
again, the tool goes on with the runs that are missing, and stops when its seconds are over. The second command trains
its checkpoint first (`--minutes 15`), into runs/fine-tuning-start, and goes on with that, too. Runs from another
shipped checkpoint than today's are thrown away.
"""

import hashlib
import itertools
import json
import time
from functools import cache

import torch
from records import Record, machine, notebook_names, parser

from vit_tutorial import VisionTransformer, datasets, training, weights
from vit_tutorial.datasets import ImageSet
from vit_tutorial.files import CHECKPOINT, DATA, ROOT
from vit_tutorial.machine import run_folder
from vit_tutorial.training import evaluate

RECORD = DATA / "runs" / "fine-tuning.json"
START = ROOT / "runs" / "fine-tuning-start"
SEEDS, PHOTOGRAPH_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)
STEPS = {"surfaces": 80, "shapes": 80, "same_or_different": 80, "animals": 150, "vehicles": 150}
COUNTS = {"surfaces": (10, 20, 50, 100, 300), "shapes": (100,), "same_or_different": (100,)}
LONGER, TESTS = 4, 1000  # times the usual steps; test pictures that are drawn
HELD_OUT = {"animals": ("bird", "cat", "dog"), "vehicles": ("ship", "truck")}
EACH = (10, 50, 200)  # photographs a class
SCRATCH = {"muon_learning_rate": 1e-2}  # on photographs better than the notebook's 5e-2, and than 2e-2 and 5e-3
RATES, DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.5, 5.0)


@cache
def from_notebook():
    """The notebook's pictures, recipes and steps."""
    names = ("PHOTOGRAPHS", "grey_half", "surfaces", "recipe", "ways", "begin", "adapt")
    return notebook_names("09_fine_tuning.py", names)


def plan(photographs=False):
    """Every run as a dict; a seed at a time, so that a record that is not complete is balanced."""
    each = {task: [n * len(names) for n in EACH] for task, names in HELD_OUT.items()}
    for seed in PHOTOGRAPH_SEEDS if photographs else SEEDS:
        for task, counts in (each if photographs else COUNTS).items():
            ways = ("from scratch", "head alone", "all alike", "layer by layer")
            for count, way in itertools.product(counts, ways):
                change = SCRATCH if photographs and way == "from scratch" else {}
                yield {"task": task, "count": count, "way": way, "steps": STEPS[task], "change": change, "seed": seed}
            if photographs:  # an opponent with more time, where there are pictures enough to learn from
                rest = {"steps": LONGER * STEPS[task], "change": SCRATCH, "seed": seed}
                yield {"task": task, "count": counts[-1], "way": "from scratch", **rest}
        if not photographs:
            usual = {"task": "surfaces", "count": 100, "seed": seed}
            yield {**usual, "way": "from scratch", "steps": LONGER * STEPS["surfaces"], "change": {}}
            changes = [{"learning_rate": r, "warmup": w} for r, w in itertools.product(RATES, (0.0, 0.1))]
            for change in changes + [{"weight_decay": decay} for decay in DECAYS]:
                yield {**usual, "way": "all alike", "steps": STEPS["surfaces"], "change": change}


@cache
def cifar10(split):
    return datasets.cifar10(split)


def only(dataset, classes):
    """The images of these classes, numbered anew."""
    labels = torch.tensor([classes.index(name) if name in classes else -1 for name in dataset.classes])[dataset.labels]
    return ImageSet(dataset.images[labels >= 0], labels[labels >= 0], tuple(classes))


@cache
def pictures(task, split, count, seed):
    """`count` pictures of a task, equally many a class; all test photographs where the task has those."""
    if task in HELD_OUT:
        data = only(cifar10(split), HELD_OUT[task])
        if split == "test":
            return data
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        each = count // len(data.classes)
        return data[torch.cat([order[data.labels[order] == label][:each] for label in range(len(data.classes))])]
    draw = from_notebook()["surfaces"] if task == "surfaces" else getattr(datasets, task)
    return draw(split, count, seed)


def run(task, count, way, steps, change, seed):
    """What one run reached: test accuracy and loss, and the accuracy on its own training pictures."""
    data = pictures(task, "train", count, seed)
    start = START / "model.safetensors" if task in HELD_OUT else CHECKPOINT
    began = time.perf_counter()
    model = from_notebook()["adapt"](way, data, steps, seed, start=start, **change)
    seconds = time.perf_counter() - began
    test = evaluate(model, pictures(task, "test", TESTS, 0))
    return {
        "accuracy": round(test.accuracy, 4),
        "loss": round(test.loss, 4),
        "train_accuracy": round(evaluate(model, data).accuracy, 4),
        "seconds": round(seconds, 1),
    }


def train_start(minutes):
    """The checkpoint that has seen no class of `HELD_OUT`; returns what is to be known of it."""
    unseen = {name for names in HELD_OUT.values() for name in names}
    train, test = (
        only(cifar10(split), [name for name in cifar10(split).classes if name not in unseen])
        for split in ("train", "test")
    )
    recipe = training.RECIPES["cifar10-course"]
    torch.manual_seed(0)
    model = VisionTransformer(recipe.config(train))
    going_on = (START / run_folder.NAME).exists()
    history = training.train(model, train, recipe, test, minutes=minutes, out=START, resume=going_on)
    return {"classes": [*train.classes], "images": len(train), "minutes": minutes, "accuracy": history.accuracy}


def shipped():
    """Which weights the course ships today: a few digits that no others have."""
    state = weights.load(CHECKPOINT).state_dict()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()[:16]


def as_text(content):
    """JSON, one line per run."""
    parts = []
    for name, part in content.items():
        runs = ",\n".join(f"   {json.dumps(run)}" for run in part["runs"])
        parts.append(f' "{name}": {{\n  "info": {json.dumps(part["info"])},\n  "runs": [\n{runs}\n  ]\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    options = parser(__doc__, RECORD)
    options.add_argument("--photographs", action="store_true", help="the runs on CIFAR-10's classes")
    options.add_argument("--minutes", type=float, default=15, help="time to train the checkpoint for these")
    args = options.parse_args()
    record = Record(args.out, {}, as_text, args.seconds)
    name, command = ("photographs", " --photographs") if args.photographs else ("course", "")
    start = train_start(args.minutes) if args.photographs else shipped()
    part = record.content.get(name)
    if part is None or part["info"]["start"] != start:
        info = machine() | {"start": start, "command": f"python tools/measure/fine_tuning.py{command}"}
        part = record.content[name] = {"info": info, "runs": []}
    record.complete(plan(args.photographs), part["runs"], run)


if __name__ == "__main__":
    main()
