"""Make data/runs/interpretation.json: how far each map of notebook 10 can be believed, on shapes with known masks.

    python tools/measure/interpretation.py [--seconds 100]

Every method makes a map of the patches for the class that the model predicts. Three numbers judge it: the pointing game
(does its highest patch lie on the object?) and the areas under the deletion and the insertion curve (does the predicted
probability hang on the patches that it puts first?). Models: the shipped checkpoint, which has never seen a shape, and
models trained on shapes from three seeds. Each scores on fresh pictures of three seeds. Every result is written when
it is there; started again, the tool goes on with what is missing, and stops when its seconds are over.
"""

import json
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, machine, parser

from vit_tutorial import VisionTransformer, datasets, interpret, normalise, weights
from vit_tutorial.files import CHECKPOINT, DATA, ROOT
from vit_tutorial.training import RECIPES, evaluate, train

RECORD = DATA / "runs" / "interpretation.json"
RUNS = ROOT / "runs"  # trained models, not committed
MODEL_SEEDS, PICTURE_SEEDS, PICTURES, STEPS = (0, 1, 2), (1, 2, 3), 200, 8
CHOOSING = 0  # seed of the pictures on which the one head is chosen


@cache
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
def shapes(seed, count=PICTURES):
    return datasets.shapes("test", count, seed=seed)


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
    data = shapes(CHOOSING)
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
        found = {"pointing": pointing, "deletion": deletion, "insertion": insertion}
        results[name] = {kind: round(value, 4) for kind, value in found.items()}
    return results


def plan():
    """Every run as a dict: which model judges which pictures."""
    for model, model_seed in [("shipped", None), *(("shapes", seed) for seed in MODEL_SEEDS)]:
        for seed in PICTURE_SEEDS:
            yield {"model": model, "model_seed": model_seed, "picture_seed": seed, "pictures": PICTURES}


def run(model, model_seed, picture_seed, pictures):
    """The scores of one model on the test pictures of one seed; of a model trained on shapes, its accuracy too."""
    vit, data, found = model_of(model, model_seed), shapes(picture_seed, pictures), {}
    if model == "shapes":
        found["accuracy"] = round(evaluate(vit, data).accuracy, 4)
        found["accuracy_shuffled"] = round(interpret.shuffle_curve(vit, data, (1.0,)).item(), 4)  # all patches
    return found | {"scores": scores(vit, data)}


def as_text(content):
    """JSON, a line a method."""
    return json.dumps(content, indent=1).replace("\n     ", " ").replace("\n    }", " }") + "\n"


def main():
    args = parser(__doc__, RECORD).parse_args()
    info = machine() | {"command": "python tools/measure/interpretation.py"}
    record = Record(args.out, {"info": info, "runs": []}, as_text, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
