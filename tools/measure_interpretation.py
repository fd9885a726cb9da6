"""Make data/runs/interpretation.json: how far each map of notebook 10 can be believed, on shapes with known masks.

    python tools/measure_interpretation.py [--seconds 100]

Every method makes a map of the patches for the class that the model predicts. Three numbers judge it: the pointing game
(does its highest patch lie on the object?) and the areas under the deletion and the insertion curve (does the predicted
probability hang on the patches that it puts first?). Models: the shipped checkpoint, which has never seen a shape, and
models trained on shapes from three seeds. Each scores on fresh pictures of three seeds. Every result is written when
it is there; started again, the tool goes on with what is missing, and stops when its seconds are over.
"""

import argparse
import json
import time
from functools import cache

import torch
import torch.nn.functional as F

from vit_tutorial import VisionTransformer, datasets, interpret, normalise, weights
from vit_tutorial.files import CHECKPOINT, DATA, ROOT, atomic_path
from vit_tutorial.training import RECIPES, evaluate, hardware, train

RECORD = DATA / "runs" / "interpretation.json"
RUNS = ROOT / "runs"  # trained models, not committed
MODEL_SEEDS, PICTURE_SEEDS, PICTURES, STEPS = (0, 1, 2), (1, 2, 3), 200, 8
CHOOSING = 0  # seed of the pictures on which the one head is chosen


def model_of(name, seed):
    """The shipped checkpoint, or a model trained on the default shapes as the recipe says, kept between runs."""
    if name == "shipped":
        return weights.load(CHECKPOINT).eval()
    path = RUNS / f"interpretation-{seed}.safetensors"
    if not path.exists():
        data = datasets.shapes("train")
        torch.manual_seed(seed)
        model = VisionTransformer(RECIPES["shapes"].config(data))
        train(model, data, RECIPES["shapes"], seed=seed)
        weights.save(model, path)
    return weights.load(path).eval()


@cache
def pictures(seed):
    return datasets.shapes("test", PICTURES, seed=seed)


def edges(images, grid):
    """Length of the Sobel gradient of the brightness, summed over each patch: knows the image and no model."""
    grey = F.pad(images.float().mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slopes = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])  # (B, 2, Y, X)
    return interpret.patch_sums(slopes.norm(dim=1, keepdim=True), grid)


def middle(images, grid):
    """High in the middle of the picture, low at its borders: knows neither image nor model."""
    rows, columns = (torch.linspace(-1, 1, side) for side in grid)
    return -torch.hypot(rows[:, None], columns[None]).expand(len(images), -1, -1)


def best_head(model):
    """The layer and head whose class-token map hits most often, on pictures that are not scored."""
    data = pictures(CHOOSING)
    maps = interpret.head_maps(interpret.record(model, normalise(data.images, model.config)), model.config.grid)
    L, _, H = maps.shape[:3]
    hits = torch.tensor([[interpret.pointing_game(maps[i, :, h], data.masks) for h in range(H)] for i in range(L)])
    return divmod(hits.argmax().item(), H)


def maps_of(model, data):
    """Every method's maps `(B, rows, columns)`, by name: first the truth, and three that do not look at the model."""
    images, grid, P = normalise(data.images, model.config), model.config.grid, model.config.patch_size
    attention, gradients = interpret.record(model, images, "predicted")
    on_patches = lambda weights: interpret.class_map(weights, grid)  # noqa: E731
    heads, (layer, head) = on_patches(attention), best_head(model)  # (L, B, H, rows, columns)
    generator = torch.Generator().manual_seed(0)
    return {
        "the true mask": F.adaptive_avg_pool2d(data.masks.float(), grid),
        "random": torch.rand(len(images), *grid, generator=generator),
        "middle of the picture": middle(images, grid),
        "edges of the image": edges(data.images, grid),
        "attention, last layer": heads[-1].mean(dim=1),
        "attention, mean of all layers": heads.mean(dim=(0, 2)),
        "attention, one chosen head": heads[layer, :, head],
        "rollout": on_patches(interpret.attention_rollout(attention)),
        "rollout, max, 90 % discarded": on_patches(interpret.attention_rollout(attention, "max", 0.9)),
        "gradient x attention, last layer": on_patches((gradients[-1] * attention[-1]).relu().mean(dim=1)),
        "relevance": on_patches(interpret.relevance(attention, gradients)),
        "integrated gradients": interpret.patch_sums(interpret.integrated_gradients(model, images, "predicted"), grid),
        "occlusion": interpret.occlusion(model, images, "predicted", P, P),
    }


def scores(model, data):
    """The three numbers of every method."""
    images, results = normalise(data.images, model.config), {}
    for name, maps in maps_of(model, data).items():
        deletion = interpret.deletion_curve(model, images, maps, "predicted", STEPS)[1].mean().item()
        insertion = interpret.insertion_curve(model, images, maps, "predicted", STEPS)[1].mean().item()
        pointing = interpret.pointing_game(maps, data.masks)
        results[name] = {
            "pointing": round(pointing, 4),
            "deletion": round(deletion, 4),
            "insertion": round(insertion, 4),
        }
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing after this time")
    args = parser.parse_args()
    start = time.perf_counter()
    info = {
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
        "command": "python tools/measure_interpretation.py",
    }
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"info": info, "runs": []}
    models = [("shipped", None)] + [("shapes", seed) for seed in MODEL_SEEDS]
    plan = [
        {"model": name, "model_seed": seed, "picture_seed": pictures, "pictures": PICTURES}
        for name, seed in models
        for pictures in PICTURE_SEEDS
    ]
    missing = [spec for spec in plan if not any(spec.items() <= done.items() for done in record["runs"])]
    for number, spec in enumerate(missing):
        model = model_of(spec["model"], spec["model_seed"])
        if time.perf_counter() - start > args.seconds:
            print(f"{len(missing) - number} runs are missing: start the tool again")
            break
        data, run = pictures(spec["picture_seed"]), dict(spec)
        if spec["model"] == "shapes":
            run["accuracy"] = round(evaluate(model, data).accuracy, 4)
            run["accuracy_shuffled"] = round(interpret.shuffle_curve(model, data, (1.0,)).item(), 4)  # all patches
        run["scores"] = scores(model, data)
        record["runs"].append(run)
        with atomic_path(RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1).replace("\n     ", " ").replace("\n    }", " }") + "\n")
        print(spec, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
