"""What happened in a run, kept as JSON."""

import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from .. import __version__
from ..files import atomic_path
from ..machine import distributed

NUMBERS = ("seconds", "train_loss", "test_loss", "test_mean_iou")  # of an entry of `epochs`, or None


@dataclass
class History:
    """A run's record: `info` (recipe, data, seed, length, hardware, command, where it was resumed), `steps`, `epochs`.

    `steps` holds lists `loss` and `learning_rate`, one entry an optimiser step; of DINO also `entropy` and
    `mean_entropy` of the teacher's answers. `epochs` is a list of
    `{"epoch", "seconds", "train_loss", "test_loss", "test_accuracy"}`, the first entry before any training;
    accuracies are fractions, of masks those of pixels, with a `"test_mean_iou"` beside them. `stopped` tells whether
    the run was interrupted.
    """

    info: dict = field(default_factory=dict)
    steps: dict = field(default_factory=lambda: {"loss": [], "learning_rate": []})
    epochs: list = field(default_factory=list)
    stopped: bool = False

    @property
    def accuracy(self):
        """Test accuracy (a fraction) at the end; `None` where the run had no test set."""
        return self.epochs[-1]["test_accuracy"] if self.epochs else None

    @property
    def mean_iou(self):
        """Mean IoU on the test set at the end; `None` where the run had none, or no masks."""
        return self.epochs[-1].get("test_mean_iou") if self.epochs else None

    def save(self, path):
        """Write the record as JSON, atomically; losses and rates with 6 significant digits."""
        values = asdict(self)
        values["steps"] = {name: [float(f"{v:.6g}") for v in series] for name, series in self.steps.items()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1).replace("\n   ", ""))

    @classmethod
    def load(cls, path):
        """Read a record. Raises `ValueError` where the file is none."""
        try:
            history = cls(**json.loads(Path(path).read_text("utf-8")))
            history.check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error!s:.200}"
            raise ValueError(f"expected a run record written by History.save, found {path} ({reason})") from None
        return history

    def check(self):
        """Raise `ValueError`, `TypeError` or `KeyError` where a part is not of the kind that it should be."""
        kinds = {"info": dict, "steps": dict, "epochs": list, "stopped": bool}
        wrong = [name for name, kind in kinds.items() if not isinstance(getattr(self, name), kind)]
        if wrong:
            raise TypeError(f"{', '.join(wrong)} of another kind")
        numbers = [self.steps["loss"], self.steps["learning_rate"], *self.steps.values()]
        if len(set(map(len, numbers))) > 1:
            raise ValueError(f"{len(numbers[0])} losses, {len(numbers[1])} learning rates, or others")
        numbers.append([entry["epoch"] for entry in self.epochs])
        optional = [entry["test_accuracy"] for entry in self.epochs]
        optional += [entry.get(name) for entry in self.epochs for name in NUMBERS]
        numbers.append([value for value in optional if value is not None])
        if not all(isinstance(value, (int, float)) for series in numbers for value in series):
            raise TypeError("a text where a number should be")
        for series in numbers:
            torch.tensor(series, dtype=torch.float64)  # OverflowError for an integer of more digits


def hardware(device):
    """One line on what a run ran on."""
    processes = distributed.world_size()
    if device.type == "cuda":
        return f"{'one' if processes == 1 else processes} {torch.cuda.get_device_name(device)}"
    one = f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
    return one if processes == 1 else f"{processes} processes of {one}"


def command_line():
    """The command that started this process; `None` where it was not the course's own."""
    program, *arguments = sys.argv
    if Path(program).name not in ("vit-tutorial", "cli.py"):
        return None
    if distributed.world_size() == 1:
        return shlex.join(["vit-tutorial", *arguments])
    local = f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}"
    return f"torchrun {local} -m vit_tutorial.cli {shlex.join(arguments)}"


def run_info(run):
    """Everything needed to repeat the run of a `Trainer`, as plain JSON values; its recipe with the model it trains."""
    sides = {"train": run.dataset, "calibration": run.calibration, "test": run.test}
    classes = run.dataset.classes

    def counted(part):
        return len(part) if run.masked else dict(zip(classes, part.class_counts.tolist(), strict=True))

    return {
        "recipe": asdict(replace(run.recipe, model=run.model.config)),
        "classes": list(classes),
        "images": {side: counted(part) for side, part in sides.items() if part},
        "value_range": run.dataset.value_range,
        "settings": run.settings,
        "seed": run.seed,
        "epochs": run.epochs,
        "minutes": run.minutes,
        "hardware": hardware(run.device),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "vit_tutorial": __version__,
        "command": command_line(),
        "precision": "bfloat16" if run.bf16 else "float32",
    }
