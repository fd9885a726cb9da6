"""All that the next step of a run depends on: resumed from it, a run continues as if it had never stopped."""

import zlib
from dataclasses import asdict
from pathlib import Path

import torch

from ..datasets.masked import MaskedImages
from ..machine import distributed, run_folder
from .history import History
from .recipe import Recipe

FORMAT = "vit_tutorial run 1"
PARTS = {  # and their types
    "model": dict,
    "average": dict,
    "optimizer": dict,
    "learning_rates": list,
    "random": dict,
    "order": (torch.Tensor, type(None)),
    "clock": dict,
    "history": dict,
    "dataset": int,
    "bf16": bool,
    "finished": bool,
}


def state_of(trainer):
    """The state of a `Trainer` as a dict with `PARTS`, tensors whole and on the CPU. All processes must call it.

    That is the weights of all that is optimised, their average, the optimisers' memory, the learning rates, torch's
    random numbers, the order of the epoch's images and the clock; and the history so far.
    """
    return {
        "format": FORMAT,
        "model": distributed.full_state(trainer.objective.state_dict()),
        "average": {} if trainer.average is None else distributed.full_state(trainer.average.state_dict()),
        "optimizer": distributed.full_state(optimizer_state(trainer.objective, trainer.optimizer)),
        "learning_rates": [group["lr"] for group in trainer.optimizer.param_groups],
        "random": random_state(trainer.device),
        "order": trainer.order,
        "clock": trainer.clock.state(),
        "history": dict(vars(trainer.history)),
        "dataset": fingerprint(trainer.dataset),
        "bf16": trainer.bf16,
        "finished": trainer.finished,
    }


def load(folder):
    """The state in the checkpoint of a run's folder, with its `History` and `Recipe` made.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged or something else.
    """
    state = run_folder.load(folder, FORMAT, PARTS)
    with run_folder.damage_named(Path(folder) / run_folder.NAME):
        state["history"] = History(**state["history"])
        state["recipe"] = Recipe.from_record(state["history"].info["recipe"])
    return state


def restore(trainer, state):
    """Put everything back as `state` says. Raises `ValueError` where that is the state of another run."""
    check_same_run(state, trainer.history.info, trainer.recipe, fingerprint(trainer.dataset))
    run_folder.remove_unfinished(trainer.out)
    with run_folder.damage_named(Path(trainer.out) / run_folder.NAME):
        restore_module(trainer.objective, state["model"])
        if trainer.average is not None:
            restore_module(trainer.average, state["average"])
        restore_optimizer(trainer.objective, trainer.optimizer, state["optimizer"])
        for group, rate in zip(trainer.optimizer.param_groups, state["learning_rates"], strict=True):
            group["lr"] = float(rate)
        trainer.order = None if state["order"] is None else state["order"].to(trainer.device)
        trainer.clock.resume(**state["clock"])
        set_random_state(state["random"], trainer.device)
    trainer.history, trainer.finished = state["history"], state["finished"]
    if not trainer.finished:
        trainer.history.info.setdefault("resumed_after_steps", []).append(trainer.clock.steps)


def check_same_run(state, info, recipe, dataset):
    """Raises `ValueError` where a run is asked to go on as another: with another `info`, recipe or dataset."""
    first, now = state["history"].info, info
    pairs = {name: (first.get(name), now[name]) for name in ("seed", "epochs", "minutes")}
    old, new = asdict(state["recipe"]), asdict(recipe)
    kept = info["recipe"]  # with the model that is trained; once, the recipe's own was kept
    pairs |= {f"recipe.{name}": (old[name], new[name]) for name in new if old[name] != kept[name]}
    pairs["settings"] = (first.get("settings", {}), now["settings"])  # once there were none
    pairs["dataset"] = (state["dataset"], dataset)
    pairs |= {name: (first[name], info[name]) for name in ("images", "files") if name in first and name in info}
    changes = [f"{name} {now} instead of {first}" for name, (first, now) in pairs.items() if first != now]
    if changes:
        raise ValueError(
            f"expected the arguments that the run began with, found {', '.join(changes)}; "
            "repeat those, or start a new run in another folder"
        )


def fingerprint(dataset):
    """A number that tells datasets apart, by their size and labels, or masks."""
    labels = dataset.masks if isinstance(dataset, MaskedImages) else dataset.labels
    return zlib.crc32(labels.cpu().numpy().tobytes(), zlib.crc32(repr(dataset).encode()))


def random_state(device):
    """Where torch's random numbers stand."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state, device):
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def optimizer_state(model, optimizer):
    """What the optimisers remember of each parameter (momentum and the like), by the parameter's name."""
    remembered = {p: entries for part in parts_of(optimizer) for p, entries in part.state.items()}
    return {name: dict(remembered[p]) for name, p in model.named_parameters() if p in remembered}


def restore_optimizer(model, optimizer, state):
    """The inverse of `optimizer_state`."""
    names = {p: name for name, p in model.named_parameters()}
    for part in parts_of(optimizer):
        for group in part.param_groups:
            steps_on_device = group.get("fused") or group.get("capturable")
            for p in group["params"]:
                for key, value in state.get(names[p], {}).items():
                    if key != "step" or steps_on_device:
                        value = distributed.sharded_like(value, p) if value.shape == p.shape else value.to(p.device)
                    part.state[p][key] = value


def parts_of(optimizer):
    return getattr(optimizer, "optimizers", [optimizer])


def restore_module(module, state):
    """Copy `state` into `module`, every entry exactly once; sharded weights take their parts."""
    own = module.state_dict()
    parts = {name: distributed.sharded_like(value, own[name]) for name, value in state.items() if name in own}
    module.load_state_dict(state | parts)
