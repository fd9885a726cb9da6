"""How sensitive is training? Learning rate x weight decay x warmup on shapes, recorded for notebook 07.

    python tools/measure/sweep.py [--seconds 180] [--out data/runs/sweep-shapes.json]

The notebook's small ViT, 600 steps of AdamW a run, each combination with two seeds. Then what a bug costs: the same
model with one bug of the notebook's gallery, 2400 steps, three seeds. Every run is written when it ends; started again,
the tool goes on with the runs that are missing, and stops when its seconds are over.
"""

import itertools
import json
import math
import platform
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, machine, notebook_names, parser

from vit_tutorial import VisionTransformer, datasets, normalise
from vit_tutorial.files import DATA
from vit_tutorial.training import param_groups, warmup_cosine

RECORD = DATA / "runs" / "sweep-shapes.json"
STEPS, BATCH, LAST = 600, 32, 50  # the loss that is kept is the mean of the last steps
TEST_IMAGES = 1000
GRID = {
    "seed": (0, 1),
    "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "weight_decay": (0.0, 0.01, 0.1, 1.0),
    "warmup": (0.0, 0.1),  # fraction of the run
}
BUG_STEPS, BUG_SEEDS = 2400, (0, 1, 2)
BUG_SETTING = {"learning_rate": 3e-3, "weight_decay": 0.1, "warmup": 0.1}
ATTENTION_BUGS = {
    "sqrt(D) for sqrt(d)": "SqrtWidth",
    "heads split wrongly": "WrongSplit",
    "heads merged wrongly": "WrongMerge",
    "softmax, wrong axis": "WrongSoftmax",
}
BUGS = ("nothing wrong", *ATTENTION_BUGS, "patches by plain reshape", "no final norm", "eval() forgotten")


@cache
def from_notebook():
    """The notebook's model, and its bugs."""
    makers = ("PlainReshape", "plain_reshape", "no_final_norm", "Attention", "with_attention", *ATTENTION_BUGS.values())
    return notebook_names("07_when_training_fails.py", ("CONFIG", *makers))


def make_model(bug="nothing wrong"):
    """The small ViT with one of `BUGS`."""
    book = from_notebook()
    config = book["CONFIG"]
    if bug in ATTENTION_BUGS:
        return book["with_attention"](book[ATTENTION_BUGS[bug]])(config)
    if bug == "eval() forgotten":
        return VisionTransformer(replace(config, dropout=0.2))
    makers = {"patches by plain reshape": book["plain_reshape"], "no final norm": book["no_final_norm"]}
    return makers.get(bug, VisionTransformer)(config)


@cache
def pictures(split, count=None):
    """Normalised images `(B, 3, 32, 32)` and their labels."""
    data = datasets.shapes(split, count) if count else datasets.shapes(split)
    return normalise(data.images, from_notebook()["CONFIG"]), data.labels


def train(model, learning_rate, weight_decay, warmup, steps):
    """Train with so many steps of AdamW on batches taken in turn; returns the losses."""
    images, labels = pictures("train")
    optimizer = torch.optim.AdamW(param_groups(model, weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True)
    losses = []
    for step in range(steps):
        start = step * BATCH % (len(images) - BATCH + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warmup_cosine((step + 1) / steps, warmup)
        loss = F.cross_entropy(model(images[start : start + BATCH]), labels[start : start + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.inference_mode()
def accuracy(model, evaluating=True):
    """On unseen images; with `evaluating=False` dropout is left on."""
    images, labels = pictures("test", TEST_IMAGES)
    return round((model.train(not evaluating)(images).argmax(dim=1) == labels).float().mean().item(), 4)


def run(seed, learning_rate, weight_decay, warmup, steps=STEPS, bug="nothing wrong"):
    """The loss at the end of one run, None where it is not finite, and the accuracy."""
    torch.manual_seed(seed)
    model = make_model(bug)
    loss = sum(train(model, learning_rate, weight_decay, warmup, steps)[-LAST:]) / LAST
    found = {"loss": round(loss, 4) if math.isfinite(loss) else None, "accuracy": accuracy(model)}
    if bug == "eval() forgotten":
        found |= {"with_eval": found["accuracy"], "accuracy": accuracy(model, evaluating=False)}
    return found


def as_text(content):
    """JSON, one line per run."""
    lists = (f' "{key}": [\n' + ",\n".join(f"  {json.dumps(run)}" for run in content[key]) for key in ("runs", "bugs"))
    return f'{{"info": {json.dumps(content["info"], indent=1)},\n' + "\n ],\n".join(lists) + "\n ]}\n"


def main():
    args = parser(__doc__, RECORD).parse_args()
    config, here = from_notebook()["CONFIG"], machine()
    record = Record(args.out, {"info": {}, "runs": [], "bugs": []}, as_text, args.seconds)
    record.content["info"] = {
        "command": "python tools/measure/sweep.py",
        "data": f"shapes, {len(pictures('train')[0])} training and {TEST_IMAGES} test images",
        "model": {
            name: getattr(config, name) for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        },
        "optimizer": "AdamW, betas (0.9, 0.98), cosine to 0, no clipping",
        "steps": STEPS,
        "batch_size": BATCH,
        "bugs": {**BUG_SETTING, "steps": BUG_STEPS},
        "hardware": here["hardware"],
        "python": platform.python_version(),
        "torch": here["torch"],
    }
    grid = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    record.complete(grid, record.content["runs"], run)
    bugs = [{"seed": seed, "bug": bug} for seed, bug in itertools.product(BUG_SEEDS, BUGS)]
    setting = BUG_SETTING | {"steps": BUG_STEPS}
    record.complete(bugs, record.content["bugs"], lambda seed, bug: run(seed, bug=bug, **setting))


if __name__ == "__main__":
    main()
