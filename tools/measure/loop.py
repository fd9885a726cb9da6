"""The whole training loop, images/s: from a loop as many courses write it to the course's own, a change at a time.

    python tools/measure/loop.py [--seconds 10] [--rounds 3]

The model is the one of the recipe cifar10-laptop, the pictures are random ones of CIFAR-10's size. The first rung reads
them one by one through a DataLoader with two workers (RandomCrop, RandomHorizontalFlip, ToTensor, Normalize), in
float32, with AdamW. The rungs take turns within every round; the figure is the median over the rounds. Makes
data/runs/loop.json, what notebook 11 shows.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from records import machine
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from vit_tutorial import VisionTransformer, training
from vit_tutorial.datasets import ImageSet
from vit_tutorial.files import DATA, atomic_path
from vit_tutorial.machine import precision
from vit_tutorial.machine.threads import keep_memory

RECIPE = training.RECIPES["cifar10-laptop"]
WARM_UP = 3  # steps that are not counted


class Pictures(torch.utils.data.Dataset):
    """PIL images with the transforms that most courses use."""

    def __init__(self, dataset, config):
        self.pictures, self.labels = [to_pil_image(image) for image in dataset.images], dataset.labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(config.mean, config.std),
            ]
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(self.pictures[i]), int(self.labels[i])


def speed(times, seconds):
    """Images/s of the steps that ended at `times`, without the first few; None where they took less than `seconds`."""
    if len(times) <= WARM_UP or (took := times[-1] - times[WARM_UP - 1]) < seconds:
        return None
    return RECIPE.batch_size * (len(times) - WARM_UP) / took


def usual_loop(dataset, seconds):
    """Images/s of the loop as many courses write it."""
    model = VisionTransformer(RECIPE.config(dataset))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pictures = Pictures(dataset, model.config)
    loader = torch.utils.data.DataLoader(pictures, RECIPE.batch_size, shuffle=True, num_workers=2, drop_last=True)
    times = []
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            times.append(time.perf_counter())
            if found := speed(times, seconds):
                return found


def course_loop(dataset, seconds, bf16, **changes):
    """Images/s of `training.train` with a changed recipe; patches are dropped as in its first part, or not at all."""
    recipe, times = replace(RECIPE, **changes), []

    def on_step(history, progress):
        times.append(time.perf_counter())
        if speed(times, seconds):
            raise KeyboardInterrupt

    os.environ[precision.PRECISION] = "bfloat16" if bf16 else "float32"
    training.train(VisionTransformer(recipe.config(dataset)), dataset, recipe, epochs=1000, on_step=on_step)
    return speed(times, seconds)


def combined(dataset, seconds, bf16):
    """Images/s over a whole run: patches are dropped in the time `clean_from`, all are seen in the rest."""
    dropped, whole = (course_loop(dataset, seconds, bf16, patch_dropout=p) for p in (RECIPE.patch_dropout, 0.0))
    return RECIPE.clean_from * dropped + (1 - RECIPE.clean_from) * whole


def rungs(dataset, bf16):
    plain = {"muon_learning_rate": 0.0, "patch_dropout": 0.0}
    found = {
        "one picture at a time, float32": lambda s: usual_loop(dataset, s),
        "whole batches": lambda s: course_loop(dataset, s, False, **plain),
    }
    if bf16:
        found["bfloat16 products"] = lambda s: course_loop(dataset, s, True, **plain)
    found["Muon for the matrices"] = lambda s: course_loop(dataset, s, bf16, patch_dropout=0.0)
    found["half of the patches (3/4 of the run)"] = lambda s: combined(dataset, s, bf16)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rung in each round (default: 10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=DATA / "runs" / "loop.json")
    args = parser.parse_args()
    images = torch.randint(0, 256, (20_000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    dataset = ImageSet(images, torch.arange(20_000) % 10, tuple("abcdefghij"))
    ladder = rungs(dataset, precision.bf16_pays("cpu"))
    keep_memory()
    found = {name: [] for name in ladder}
    for _ in range(args.rounds):
        for name, measure in ladder.items():
            found[name].append(measure(args.seconds))
            print(f"{found[name][-1]:7.0f} images/s  {name}", flush=True)
    record = {
        "command": f"python tools/measure/loop.py --seconds {args.seconds:g} --rounds {args.rounds}",
        "data": "random pictures, 32 x 32",
        **machine(),
        "rungs": [{"name": name, "images_per_second": round(statistics.median(v), 1)} for name, v in found.items()],
    }
    with atomic_path(args.out) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    first = record["rungs"][0]["images_per_second"]
    for rung in record["rungs"]:
        rate = rung["images_per_second"]
        epochs = rate * 60 / 50_000  # of CIFAR-10
        print(f"{rate:7.0f} images/s, {epochs:.2f} epochs a minute, x {rate / first:.2f}  {rung['name']}")


if __name__ == "__main__":
    main()
