"""How sensitive is training? Learning rate x weight decay x warmup on shapes, recorded for notebook 07.

    python tools/sweep.py [--minutes 3] [--out data/runs/sweep-shapes.json]

One small ViT, 600 steps of AdamW a run, each combination with two seeds. Then what a bug costs: the same model with
one bug of the notebook's gallery planted, 2400 steps, three seeds. Every finished run is written at once; the same
command later goes on with what is missing.
"""

import argparse
import itertools
import json
import math
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import MultiHeadAttention, PatchEmbedding, VisionTransformer, ViTConfig, datasets, normalise
from vit_tutorial.files import DATA, atomic_path
from vit_tutorial.model import init_weights
from vit_tutorial.training import hardware, param_groups, warmup_cosine

MODEL = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2.0)
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


class BrokenAttention(MultiHeadAttention):
    """The package's attention, with the one mistake whose name is `bug`."""

    def __init__(self, bug):
        super().__init__(MODEL.embed_dim, MODEL.num_heads)
        self.bug = bug

    def forward(self, x, return_attention=False):
        B, N, D = x.shape
        H, d = self.num_heads, self.head_dim
        if self.bug == "heads split wrongly":
            q, k, v = self.qkv(x).reshape(B, 3, H, N, d).transpose(0, 1)  # each (B, H, N, d)
        else:
            q, k, v = self.qkv(x).reshape(B, N, 3, H, d).permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
        scores = q @ k.transpose(-2, -1) * (D if self.bug == "sqrt(D) for sqrt(d)" else d) ** -0.5
        weights = scores.softmax(dim=-2 if self.bug == "softmax, wrong axis" else -1)
        x = weights @ v
        x = (x if self.bug == "heads merged wrongly" else x.transpose(1, 2)).reshape(B, N, D)  # (B, N, D)
        x = self.proj(x)
        return (x, weights) if return_attention else x


class PlainReshape(PatchEmbedding):
    """Patches that are strips of rows: a reshape without a permute."""

    def forward(self, images):
        P = self.proj.kernel_size[0]
        patches = images.reshape(len(images), -1, self.in_channels * P * P)  # (B, N, C*P*P)
        return patches @ self.proj.weight.flatten(1).T + self.proj.bias


ATTENTION_BUGS = ("sqrt(D) for sqrt(d)", "heads split wrongly", "heads merged wrongly", "softmax, wrong axis")
BUGS = ("nothing wrong", *ATTENTION_BUGS, "patches by plain reshape", "no final norm", "eval() forgotten")


def make_model(bug=None):
    """The small ViT, with one of `BUGS` planted."""
    model = VisionTransformer(replace(MODEL, dropout=0.2) if bug == "eval() forgotten" else MODEL)
    if bug in ATTENTION_BUGS:
        for block in model.blocks:
            block.attn = BrokenAttention(bug).apply(init_weights)
    if bug == "patches by plain reshape":
        model.patch_embed = PlainReshape(MODEL.image_size, MODEL.patch_size, MODEL.in_channels, MODEL.embed_dim)
    if bug == "no final norm":
        model.norm = nn.Identity()
    return model


def train(images, labels, learning_rate, weight_decay, warmup, seed, steps=STEPS, bug=None):
    """A fresh small ViT after so many steps of AdamW on batches taken in turn, and its losses."""
    torch.manual_seed(seed)
    model = make_model(bug)
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
    return model, losses


@torch.inference_mode()
def accuracy(model, images, labels, evaluating=True):
    """On unseen images; with `evaluating=False` dropout is left on."""
    return (model.train(not evaluating)(images).argmax(dim=1) == labels).float().mean().item()


def open_record(path):
    """What was recorded before: `{"info", "runs", "bugs"}`."""
    return json.loads(path.read_text()) if path.exists() else {"info": {}, "runs": [], "bugs": []}


def save(record, path):
    lists = (f' "{key}": [\n' + ",\n".join(f"  {json.dumps(run)}" for run in record[key]) for key in ("runs", "bugs"))
    with atomic_path(path) as temporary:
        temporary.write_text(f'{{"info": {json.dumps(record["info"], indent=1)},\n' + "\n ],\n".join(lists) + "\n ]}\n")


def all_runs():
    """Every run of the record, as `(list, identity, setting)`."""
    for values in itertools.product(*GRID.values()):
        identity = dict(zip(GRID, values, strict=True))
        yield "runs", identity, identity
    for seed, bug in itertools.product(BUG_SEEDS, BUGS):
        identity = {"seed": seed, "bug": bug}
        yield "bugs", identity, {**identity, **BUG_SETTING, "steps": BUG_STEPS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after so many minutes")
    parser.add_argument("--out", type=Path, default=DATA / "runs" / "sweep-shapes.json")
    args = parser.parse_args()
    started = time.perf_counter()

    train_set, test_set = datasets.shapes("train"), datasets.shapes("test", TEST_IMAGES)
    images, unseen = normalise(train_set.images, MODEL), normalise(test_set.images, MODEL)
    record = open_record(args.out)
    record["info"] = {
        "command": "python tools/sweep.py",
        "data": f"shapes, {len(train_set)} training and {TEST_IMAGES} test images",
        "model": {
            name: getattr(MODEL, name) for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        },
        "optimizer": "AdamW, betas (0.9, 0.98), cosine to 0, no clipping",
        "steps": STEPS,
        "batch_size": BATCH,
        "bugs": {**BUG_SETTING, "steps": BUG_STEPS},
        "hardware": hardware(torch.device("cpu")),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for key, identity, setting in all_runs():
        if any(identity.items() <= run.items() for run in record[key]):
            continue
        if time.perf_counter() - started > 60 * args.minutes:
            break
        model, losses = train(images, train_set.labels, **setting)
        loss = sum(losses[-LAST:]) / LAST
        run = {
            **identity,
            "loss": round(loss, 4) if math.isfinite(loss) else None,
            "accuracy": round(accuracy(model, unseen, test_set.labels), 4),
        }
        if identity.get("bug") == "eval() forgotten":
            run["with_eval"] = run["accuracy"]
            run["accuracy"] = round(accuracy(model, unseen, test_set.labels, evaluating=False), 4)
        record[key].append(run)
        save(record, args.out)
        print(*(f"{name} {value}" for name, value in run.items()), sep=", ", flush=True)
    total = math.prod(len(values) for values in GRID.values()) + len(BUGS) * len(BUG_SEEDS)
    print(f"{len(record['runs']) + len(record['bugs'])} of {total} runs recorded in {args.out}")


if __name__ == "__main__":
    main()
