"""The files of a run: its model, its record and its checkpoint, written so that what is there is always whole."""

import pickle
from contextlib import contextmanager
from pathlib import Path

import torch

from .. import weights
from ..files import atomic_path
from . import distributed

NAME = "checkpoint.pt"


def keep(folder, model, history):
    """Write the model and the `History` of a run, each file atomically; of several processes the first one does."""
    if distributed.rank() == 0:
        with writing(folder):
            weights.save(model, Path(folder) / "model.safetensors")
            history.save(Path(folder) / "history.json")


def save(folder, state):
    """Write the checkpoint, a dict, atomically; of several processes the first one does."""
    if distributed.rank() == 0:
        with writing(folder), atomic_path(Path(folder) / NAME) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)


def load(folder, format, parts):
    """The checkpoint in `folder`, a dict with the format's `parts`. Nothing in the file is executed.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged or something else.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a run to continue in {folder}, found no {NAME} there; start it with vit-tutorial train"
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
    if found != format:
        raise ValueError(f"expected a checkpoint of format {format!r}, found {found!r} in {path}; {advice}")
    wrong = [name for name, kind in parts.items() if not isinstance(state.get(name, ...), kind)]
    if wrong:
        raise ValueError(f"expected all parts of a checkpoint, found {', '.join(wrong)} damaged in {path}; {advice}")
    return state


def remove_unfinished(folder):
    """Remove what `atomic_path` left of files of the run where the process was killed while it wrote them."""
    if distributed.rank() == 0:
        for name in (NAME, "model.safetensors", "history.json"):
            for path in Path(folder).glob(f".{name}.*"):
                path.unlink(missing_ok=True)


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
        advice = f"continue with --resume {folder}" if (Path(folder) / NAME).exists() else "start again"
        raise OSError(
            f"expected to write the run into {folder}, found: {cause}; what was written before is whole: "
            f"make room, then {advice}"
        ) from error
