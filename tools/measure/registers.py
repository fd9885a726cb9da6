"""Make data/runs/registers.json, how notebook 13 begins: what four registers do to a small ViT's attention, on shapes.

    python tools/measure/registers.py [--seconds 1200]

Models of 4 and 8 layers, without and with registers, are trained alike, and scored on test pictures whose masks say
where the object is. Every run is written when it ends; started again, the tool goes on with the runs that are missing,
and stops when its seconds are over.
"""

import copy
from dataclasses import asdict, replace
from functools import cache

import torch
import torch.nn.functional as F
from records import Record, a_line_a_run, machine, parser

from vit_tutorial import ModernConfig, ModernViT, datasets, interpret, normalise
from vit_tutorial.files import DATA
from vit_tutorial.machine.threads import keep_memory
from vit_tutorial.training import RECIPES, evaluate, train

RECORD = DATA / "runs" / "registers.json"
RECIPE = replace(RECIPES["shapes"], batch_size=48, ema=0.95, initialise=("patches", "positions"))  # as in notebook 10
COUNT, EPOCHS, SEEDS, REGISTERS = 4000, 4, (0, 1, 2), 4
TESTED, SCORED, DRAWN = 1000, 500, 3  # test pictures: for the accuracy, for the scores, and whose maps are kept


def plan():
    """Every run as a dict: pairs of 4 layers from every seed, one pair of 8, and one more of 8 without registers."""
    pairs = [*((4, seed) for seed in SEEDS), (8, SEEDS[0])]
    runs = [{"depth": depth, "registers": R, "seed": seed} for depth, seed in pairs for R in (0, REGISTERS)]
    return [*runs, {"depth": 8, "registers": 0, "seed": SEEDS[1]}]


@cache
def pictures(split, count):
    return datasets.shapes(split, count)


def shares(rows, covered):
    """Where attention `(L, B, N)` goes, for each layer: class token, registers, object, background.

    `covered` `(B, P)` is how much of each patch the object covers.
    """
    P = covered.shape[1]
    on_object = (rows[..., -P:] * covered).sum(dim=-1)  # (L, B)
    on_patches = rows[..., -P:].sum(dim=-1)
    parts = rows[..., 0], rows[..., 1:-P].sum(dim=-1), on_object, on_patches - on_object
    names = ("class token", "registers", "object", "background")
    return {name: rounded(part.mean(dim=1)) for name, part in zip(names, parts, strict=True)}


def rounded(values):
    return [round(value, 4) for value in values.tolist()]


def scores(model, data):
    """What the class token and the registers of each layer attend to, mean over heads, and the length of patches."""
    images, grid, R = normalise(data.images, model.config), model.config.grid, model.config.registers
    covered = F.adaptive_avg_pool2d(data.masks.float(), grid).flatten(1)  # (B, P)
    attention = interpret.record(model, images).mean(dim=2).as_subclass(torch.Tensor)  # (L, B, N, N)
    maps = attention[:, :, 0, 1 + R :]  # (L, B, P)
    norms = interpret.token_norms(model, images)[1:, :, 1 + R :]  # (L, B, P)
    found = {
        "class token": shares(attention[:, :, 0], covered),
        "pointing": [round(interpret.pointing_game(m.unflatten(1, grid), data.masks), 4) for m in maps],
        "longest patch": rounded((norms.amax(dim=-1) / norms.median(dim=-1).values).mean(dim=1)),
    }
    if R:
        found["register"] = [shares(attention[:, :, 1 + r], covered) for r in range(R)]
    return found


def without_registers(model):
    """A copy of the trained model whose registers are gone."""
    model = copy.deepcopy(model)
    model.reg_token, model.num_prefix_tokens = None, 1
    return model


def drawn(model, data):
    """Last layer, mean over heads: where the class token and each register look, `(picture, token, patch)`, 0..255."""
    attention = interpret.record(model, normalise(data.images, model.config))[-1].mean(dim=1)  # (B, N, N)
    R = model.config.registers
    maps = attention[:, : 1 + R, 1 + R :].as_subclass(torch.Tensor)  # (B, 1 + R, P)
    return (255 * maps / maps.amax(dim=-1, keepdim=True)).round().int().tolist()


def run(depth, registers, seed):
    """What one model reached and where its class token and registers look."""
    train_set, test = pictures("train", COUNT), pictures("test", TESTED)
    torch.manual_seed(seed)
    model = ModernViT(ModernConfig(**asdict(RECIPE.config(train_set)) | {"depth": depth, "registers": registers}))
    train(model, train_set, RECIPE, epochs=EPOCHS, seed=seed)
    model.eval()
    found = {"accuracy": round(evaluate(model, test).accuracy, 4)}
    if registers:
        found["accuracy without them"] = round(evaluate(without_registers(model), test).accuracy, 4)
    found["scores"] = scores(model, test[:SCORED])
    if depth == 4 and seed == SEEDS[0]:
        found["drawn"] = drawn(model, test[:DRAWN])
    return found


def main():
    args = parser(__doc__, RECORD).parse_args()
    keep_memory()
    torch.set_num_threads(1)
    info = machine() | {
        "command": "python tools/measure/registers.py",
        "recipe": "shapes, as notebook 10 shortens it",
        "learnt from": COUNT,
        "epochs": EPOCHS,
        "scored on": SCORED,
        "object's share of the picture": round(pictures("test", TESTED)[:SCORED].masks.float().mean().item(), 4),
    }
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
