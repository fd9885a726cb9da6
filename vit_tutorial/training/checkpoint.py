"""What a run needs to go on as if it had never ended: one file, written now and then while it trains."""

import pickle
import zlib
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from ..files import atomic_path
from ..model import ViTConfig
from . import distributed
from .history import History
from .recipe import Recipe

NAME = "checkpoint.pt"
FORMAT = "vit_tutorial run 1"
EVERY = 30.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time, at most, for writing them
PARTS = {  # of a checkpoint file, and their types
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


class Checkpoint:
    """`folder/checkpoint.pt` (none where `folder` is None), and all that a run's next step depends on.

    That is the weights, their average, the optimisers' memory, the learning rates, torch's random numbers, the order of
    the epoch's images and the clock; and the history so far. In several processes the first one writes.
    """

    def __init__(self, folder, dataset, model, average, optimizer, clock, history, bf16):
        self.folder, self.dataset, self.fingerprint, self.bf16 = folder, dataset, fingerprint(dataset), bf16
        self.model, self.average, self.optimizer = model, average, optimizer
        self.clock, self.history = clock, history
        self.order, self.next = None, EVERY
        self.finished = False

    def epoch_order(self):
        """The order of this epoch's images, drawn where the epoch begins."""
        if self.clock.epoch_steps == 0:
            self.order = torch.randperm(len(self.dataset), device=self.dataset.images.device)
        return self.order

    @property
    def due(self):
        return self.clock.elapsed >= self.next

    def save(self, finished=False):
        """Write the file, atomically; the next is due when this one has cost less than SHARE of the time."""
        if self.folder is None:
            return
        self.clock.tick()
        start = self.clock.elapsed
        state = {
            "format": FORMAT,
            "model": distributed.whole(self.model.state_dict()),
            "average": {} if self.average is None else distributed.whole(self.average.state_dict()),
            "optimizer": distributed.whole(optimizer_state(self.model, self.optimizer)),
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "random": random_state(self.dataset.images.device),
            "order": self.order,
            "clock": self.clock.state(),
            "history": dict(vars(self.history)),
            "dataset": self.fingerprint,
            "bf16": self.bf16,
            "finished": finished,
        }
        if distributed.rank() == 0:
            path = Path(self.folder) / NAME
            with writing(self.folder), atomic_path(path) as temporary, open(temporary, "wb") as file:
                torch.save(state, file)
        self.clock.tick()
        self.next = self.clock.elapsed + max(EVERY, (self.clock.elapsed - start) / SHARE)

    def resume(self, recipe):
        """Put everything back as the file says. Raises `ValueError` where it is no checkpoint of this run."""
        state = load(self.folder)
        check_same_run(state, self.history.info, recipe, self.fingerprint)
        if distributed.rank() == 0:
            remove_unfinished(self.folder)
        device = self.dataset.images.device
        with damage_named(Path(self.folder) / NAME):
            restore(self.model, state["model"])
            if self.average is not None:
                restore(self.average, state["average"])
            restore_optimizer(self.model, self.optimizer, state["optimizer"])
            for group, rate in zip(self.optimizer.param_groups, state["learning_rates"], strict=True):
                group["lr"] = float(rate)
            self.order = None if state["order"] is None else state["order"].to(device)
            self.clock.resume(**state["clock"])
            set_random_state(state["random"], device)
        vars(self.history).update(vars(state["history"]))
        self.bf16, self.finished = state["bf16"], state["finished"]
        if not self.finished:
            self.history.info.setdefault("resumed_after_steps", []).append(self.clock.steps)
        self.next = self.clock.elapsed + EVERY


def load(folder):
    """The checkpoint in `folder` as a dict, with its `History` and `Recipe` made. Nothing in the file is executed.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged or something else.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a run to go on with in {folder}, found no {NAME} there; start it with vit-tutorial train"
        )
    advice = "start the run anew in another folder"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except (RuntimeError, pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to load it all the same
            reason = "not a file of torch.save, or one with more than numbers and names in it"
        raise ValueError(f"expected a checkpoint of a run, found {path} unreadable ({reason:.200}); {advice}") from None
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise ValueError(f"expected a checkpoint of format {FORMAT!r}, found {found!r} in {path}; {advice}")
    wrong = [name for name, kind in PARTS.items() if not isinstance(state.get(name, ...), kind)]
    if wrong:
        raise ValueError(f"expected all parts of a checkpoint, found {', '.join(wrong)} damaged in {path}; {advice}")
    with damage_named(path):
        state["history"] = History(**state["history"])
        state["recipe"] = recipe_from(state["history"].info["recipe"])
    return state


def recipe_from(values):
    """The `Recipe` whose record (`dataclasses.asdict`, perhaps through JSON) is `values`."""

    def plain(fields):
        return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}

    try:
        return Recipe(**{**plain(values), "model": ViTConfig(**plain(values["model"]))})
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"expected the record of a recipe, found another or a damaged one ({error})") from None


def check_same_run(state, info, recipe, dataset):
    """Raises `ValueError` where a run is asked to go on as another: with another `info`, recipe or dataset."""
    first, now = state["history"].info, info
    pairs = {name: (first.get(name), now[name]) for name in ("seed", "epochs", "minutes")}
    old, new = asdict(state["recipe"]), asdict(recipe)
    pairs |= {f"recipe.{name}": (old[name], new[name]) for name in new}
    pairs["dataset"] = (state["dataset"], dataset)
    changes = [f"{name} {now} instead of {first}" for name, (first, now) in pairs.items() if first != now]
    if changes:
        raise ValueError(
            f"expected the arguments that the run began with, found {', '.join(changes)}; "
            "repeat those, or start a new run in another folder"
        )


def remove_unfinished(folder):
    """Remove what `atomic_path` left of files of the run where the process was killed while it wrote them."""
    for name in (NAME, "model.safetensors", "history.json"):
        for path in Path(folder).glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def fingerprint(dataset):
    """A number that tells datasets apart, by their size and labels."""
    return zlib.crc32(dataset.labels.cpu().numpy().tobytes(), zlib.crc32(repr(dataset).encode()))


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
                        value = distributed.part(value, p) if value.shape == p.shape else value.to(p.device)
                    part.state[p][key] = value


def parts_of(optimizer):
    return getattr(optimizer, "optimizers", [optimizer])


def restore(module, state):
    """Copy `state` into `module`, every entry exactly once; sharded weights take their parts."""
    own = module.state_dict()
    parts = {name: distributed.part(value, own[name]) for name, value in state.items() if name in own}
    module.load_state_dict(state | parts)


@contextmanager
def damage_named(path):
    """An error while parts of a checkpoint are used becomes a `ValueError` that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"expected a checkpoint of this run's model, found another or a damaged one in {path} ({reason:.200}); "
            "start the run anew in another folder"
        ) from None


@contextmanager
def writing(folder):
    """An error while files are written into `folder` becomes an `OSError` that says what to do."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides an OSError so
        if not isinstance(cause, (OSError, SafetensorError)):
            raise
        advice = f"go on with --resume {folder}" if (Path(folder) / NAME).exists() else "start again"
        raise OSError(
            f"expected to write the run into {folder}, found: {cause}; what was written before is whole: "
            f"make room, then {advice}"
        ) from error
