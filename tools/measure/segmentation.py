"""Make data/runs/segmentation.json, what notebook 15 shows: what a class for every pixel costs, and what it needs.

    python tools/measure/segmentation.py [--seconds 3000]

Bodies: "fresh" starts at random (D 96, 4 blocks), "mae" is the encoder of notebook 14, "cifar10" the course's
classifier. They learn from 4,000 scenes, and are tested on 500 others. Where the body is frozen, its features are
computed once, after each layer, and a linear head learns from them.

The record: `info`, and `runs`, each a dict with "body", "frozen", "patch", "upsampling", "overlap" (the answers for the
picture shifted by half a patch in each direction are averaged too: four in all), "layer" (of a frozen body: 0 is the
embedding, None the last with its norm), "steps", "seed"; and "mean_iou" and "iou" of the seven classes,
"boundary_error", "object_iou" (object against ground), "cpu_seconds" of training and "seconds_per_picture" of
answering, in one thread.

Every run is written when it ends; started again, the tool goes on with the runs that are missing.
"""

import time
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, a_line_a_run, machine, parser

from vit_tutorial import VisionTransformer, datasets, metrics, normalise, unpatchify, weights
from vit_tutorial.dense import SegmentationViT, patch_features
from vit_tutorial.files import DATA
from vit_tutorial.machine.precision import autocast, bf16_pays
from vit_tutorial.training import RECIPES, mae
from vit_tutorial.training.augment import random_crop_flip
from vit_tutorial.training.optimizer import make_optimizer
from vit_tutorial.training.schedule import warmup_cosine

RECORD = DATA / "runs" / "segmentation.json"
RECIPE = replace(RECIPES["mae"], without_labels="", learning_rate=3e-3, weight_decay=0.01)
SEEDS, STEPS, BATCH, DEVICE = (0, 1, 2), 400, 64, torch.device("cpu")
USUAL = {"body": "fresh", "frozen": False, "patch": 8, "upsampling": "pixels", "overlap": False, "layer": None}
USUAL |= {"steps": STEPS}
DEPTHS = {"fresh": 4, "mae": 4, "cifar10": 6}
OTHERS = (
    {},
    {"overlap": True},
    {"upsampling": "bilinear"},
    {"upsampling": "nearest"},
    {"patch": 16},
    {"patch": 4},
    {"patch": 4, "overlap": True},
    {"body": "mae", "patch": 4},
    {"body": "cifar10", "patch": 4},
    {"steps": 1600},
    *(
        {"body": body, "frozen": True, "patch": 4, "steps": 1000, "layer": layer}
        for body, depth in DEPTHS.items()
        for layer in (*range(depth), None)
    ),
)


def plan():
    return [USUAL | other | {"seed": seed} for seed in SEEDS for other in OTHERS]


@cache
def scenes(split):
    return datasets.scenes(split, {"train": 4000, "test": 500}[split])


def body(name, patch, seed):
    torch.manual_seed(seed)
    if name == "fresh":
        return VisionTransformer(replace(RECIPE.model, patch_size=patch))
    found = (
        mae.load(DATA / "mae_shapes.safetensors").vit
        if name == "mae"
        else weights.load(DATA / "vit_cifar10.safetensors")
    )
    torch.manual_seed(seed)
    return found


def learn(model, answer, steps):
    """`answer(index)` are the logits for some training pictures, and their masks; returns the CPU seconds."""
    start = time.process_time()
    optimizer = make_optimizer(model, RECIPE, bf16_pays("cpu"))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step / steps, 0.1))
    for _ in range(steps):
        with autocast(DEVICE):
            logits, masks = answer(torch.randint(len(scenes("train")), (BATCH,)))
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), masks.long()).backward()
        optimizer.step()
        scheduler.step()
    return round(time.process_time() - start, 1)


@cache
def trained(body_name, patch, upsampling, steps, seed):
    """The model with its body trained too, and the seconds."""
    model, data = SegmentationViT(body(body_name, patch, seed), 7, upsampling), scenes("train")
    both = torch.cat([data.images, data.masks[:, None]], dim=1)  # (n, 4, Y, X): a mask moves with its picture

    def step(index):
        moved = random_crop_flip(both[index])
        return model(normalise(moved[:, :3], model.vit.config)), moved[:, 3]

    return model, learn(model, step, steps)


def overlapping(model, images):
    """The mean of the answers for the picture and for it moved half a patch right, down and both, edges mirrored."""
    half, total, count = model.vit.config.patch_size // 2, 0, 0
    Y, X = images.shape[2:]
    for down, right in ((0, 0), (0, half), (half, 0), (half, half)):
        moved = F.pad(images, (right, 0, down, 0), mode="reflect")[:, :, :Y, :X]
        back = (0, right, 0, down)  # what was pushed out at the right and at the bottom has no answer
        total = total + F.pad(model(moved).softmax(dim=1)[:, :, down:, right:], back)
        count = count + F.pad(torch.ones(1, 1, Y - down, X - right), back)
    return total / count


@cache
def features(name, seed):
    """Features of the training and the test pictures after each layer of a frozen body, scaled to variance 1."""
    vit, found = body(name, 4, seed).eval(), {}
    for layer in (*range(DEPTHS[name]), None):
        with torch.no_grad():
            parts = [
                torch.cat(
                    [patch_features(vit, normalise(x, vit.config), layer) for x in scenes(split).images.split(100)]
                )
                for split in ("train", "test")
            ]
        mean, std = parts[0].mean(dim=(0, 1)), parts[0].std(dim=(0, 1)) + 1e-6
        found[layer] = [(part - mean) / std for part in parts]
    return vit, found


@torch.no_grad()
def scores(answer, count):
    """Of `answer(a, b)`, the logits for test pictures a to b."""
    start = time.process_time()
    predicted = torch.cat([answer(a, a + 100).argmax(dim=1) for a in range(0, count, 100)]).to(torch.uint8)
    seconds, masks = (time.process_time() - start) / count, scenes("test").masks
    iou = metrics.iou(metrics.confusion(predicted, masks, 7))
    return {
        "mean_iou": round(iou.mean().item(), 4),
        "iou": [round(value, 4) for value in iou.tolist()],
        "boundary_error": round(metrics.boundary_error(predicted, masks), 4),
        "object_iou": round(metrics.iou(metrics.confusion(predicted.clamp(max=1), masks.clamp(max=1), 2))[1].item(), 4),
        "seconds_per_picture": round(seconds, 5),
    }


def run(body, frozen, patch, upsampling, overlap, layer, steps, seed):
    if frozen:
        vit, found = features(body, seed)
        seen, asked = found[layer]
        torch.manual_seed(seed)
        head = torch.nn.Linear(seen.shape[2], 7 * patch**2)
        as_pixels = lambda tokens: unpatchify(head(tokens), patch, vit.config.image_size)  # noqa: E731
        seconds = learn(head, lambda index: (as_pixels(seen[index]), scenes("train").masks[index]), steps)
        result = scores(lambda a, b: as_pixels(asked[a:b]), len(asked))
    else:
        model, seconds = trained(body, patch, upsampling, steps, seed)
        images = normalise(scenes("test").images, model.vit.config)
        answer = (lambda x: overlapping(model, x)) if overlap else model.eval()
        result = scores(lambda a, b: answer(images[a:b]), len(images))
    print(body, frozen, patch, upsampling, overlap, layer, steps, seed, result, seconds, flush=True)
    return result | {"cpu_seconds": seconds}


def main():
    args = parser(__doc__, RECORD).parse_args()
    torch.set_num_threads(1)
    info = machine() | {"command": "python tools/measure/segmentation.py", "bfloat16": bf16_pays("cpu")}
    ground = (scenes("test").masks == 0).float().mean().item()
    info |= {"data": "scenes of one to three shapes", "learnt from": 4000, "tested": 500, "ground": round(ground, 4)}
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
