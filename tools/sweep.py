"""How sensitive is training? Learning rate x weight decay x warmup on shapes, recorded for notebook 07.

    python tools/sweep.py [--minutes 3] [--out data/runs/sweep-shapes.json]

One small ViT, 600 steps of AdamW a run, each combination with two seeds. Every finished run is written at once; the
same command later goes on with what is missing.
"""

import argparse
import itertools
import json
import math
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from vit_tutorial import VisionTransformer, ViTConfig, datasets
from vit_tutorial.files import DATA, atomic_path
from vit_tutorial.training import hardware, normalise, param_groups, warmup_cosine

MODEL = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2.0)
STEPS, BATCH, LAST = 600, 32, 50  # the loss that is kept is the mean of the last steps
TEST_IMAGES = 1000
GRID = {
    "seed": (0, 1),
    "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "weight_decay": (0.0, 0.01, 0.1, 1.0),
    "warmup": (0.0, 0.1),  # fraction of the run
}


def train(images, labels, learning_rate, weight_decay, warmup, seed):
    """A fresh small ViT after `STEPS` steps of AdamW on batches taken in turn, and its losses."""
    torch.manual_seed(seed)
    model = VisionTransformer(MODEL)
    optimizer = torch.optim.AdamW(param_groups(model, weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True)
    losses = []
    for step in range(STEPS):
        start = step * BATCH % (len(images) - BATCH + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warmup_cosine((step + 1) / STEPS, warmup)
        loss = F.cross_entropy(model(images[start : start + BATCH]), labels[start : start + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@torch.inference_mode()
def accuracy(model, images, labels):
    return (model.eval()(images).argmax(dim=1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3, help="start no run after so many minutes")
    parser.add_argument("--out", type=Path, default=DATA / "runs" / "sweep-shapes.json")
    args = parser.parse_args()
    started = time.perf_counter()

    train_set, test_set = datasets.shapes("train"), datasets.shapes("test", TEST_IMAGES)
    images, unseen = normalise(train_set.images, MODEL), normalise(test_set.images, MODEL)
    info = {
        "command": "python tools/sweep.py",
        "data": f"shapes, {len(train_set)} training and {TEST_IMAGES} test images",
        "model": {
            name: getattr(MODEL, name) for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        },
        "optimizer": "AdamW, betas (0.9, 0.98), cosine to 0, no clipping",
        "steps": STEPS,
        "batch_size": BATCH,
        "hardware": hardware(torch.device("cpu")),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    runs = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    done = {tuple(run[name] for name in GRID) for run in runs}
    for values in itertools.product(*GRID.values()):
        if values in done:
            continue
        if time.perf_counter() - started > 60 * args.minutes:
            break
        setting = dict(zip(GRID, values, strict=True))
        model, losses = train(images, train_set.labels, **setting)
        loss = sum(losses[-LAST:]) / LAST
        run = {
            **setting,
            "loss": round(loss, 4) if math.isfinite(loss) else None,
            "accuracy": round(accuracy(model, unseen, test_set.labels), 4),
        }
        runs.append(run)
        with atomic_path(args.out) as temporary:
            lines = ",\n".join(f"  {json.dumps(run)}" for run in runs)
            temporary.write_text(f'{{"info": {json.dumps(info, indent=1)},\n "runs": [\n{lines}\n ]}}\n')
        print(*(f"{name} {value}" for name, value in run.items()), sep=", ", flush=True)
    total = math.prod(len(values) for values in GRID.values())
    print(f"{len(runs)} of {total} runs recorded in {args.out}")


if __name__ == "__main__":
    main()
