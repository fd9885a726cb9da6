"""What a run optimises: a model's cross-entropy or, without labels, the loss of the module around it."""

from inspect import signature

from torch import nn

from ..datasets.masked import UNJUDGED
from ..machine import distributed
from ..model import VisionTransformer
from .dino import DINO
from .evaluation import check_task
from .finetune import without_head
from .mae import MaskedAutoencoder
from .recipe import OFF_FOR_MASKS

WITHOUT_LABELS = {"mae": MaskedAutoencoder, "dino": DINO}
SETTINGS = {  # of both -> the least and the largest value that mean something
    "mask_ratio": (0, 1),
    "decoder_dim": (4, 1e5),
    "decoder_depth": (1, 1e3),
    "normalise": (False, True),
    "prototypes": (2, 1e7),
    "momentum": (0, 1),
    "centre_momentum": (0, 1),
    "student_temperature": (1e-4, 1e4),
    "teacher_temperature": (1e-4, 1e4),
}


def full_settings(name, settings):
    """`settings` of the objective `name`, with its defaults; of cross-entropy, "", there are none.

    Raises `ValueError` for others than it has, and for values that mean nothing.
    """
    if not isinstance(settings, (dict, type(None))):
        raise ValueError(f"expected settings as a dict, like {{'mask_ratio': 0.5}}, found {settings!r:.60}")
    known = signature(WITHOUT_LABELS[name]).parameters.values() if name else ()
    full = {parameter.name: parameter.default for parameter in list(known)[1:]}  # the first is the ViT
    if unknown := [setting for setting in settings or {} if setting not in full]:
        raise ValueError(f"expected settings of {name or 'a run with labels'}, {list(full)}, found {unknown[0]!r}")
    for setting, value in (settings or {}).items():
        (least, most), kind = SETTINGS[setting], type(full[setting])
        if not isinstance(value, (int, float)) or not least <= value <= most or kind(value) != value:
            raise ValueError(f"expected {setting} in {least} .. {most}, like {full[setting]}, found {value!r:.60}")
        full[setting] = kind(value)  # 2.0 blocks are 2, and NumPy's numbers are not kept
    return full


def check_masks(run):
    """Raise `ValueError` where a `Trainer` mixes masks and labels up, or asks of masks for what only labels have."""
    for part in filter(None, (run.dataset, run.test)):
        check_task(run.model, part, run.masked)
    if not run.masked:
        return
    asked = [name for name, off in OFF_FOR_MASKS.items() if getattr(run.recipe, name) != off]
    if asked := asked + [name for name in ("calibration", "shard") if getattr(run, name)]:
        raise ValueError(f"expected a run on masks to have no {' and no '.join(asked)}, found it; leave it out")
    if distributed.world_size() > 1:  # their shares of a batch have not equally many pixels that count
        raise ValueError("expected one process for a run on masks, found several; start it without torchrun")
    if empty := int((run.dataset.masks == UNJUDGED).flatten(1).all(dim=1).sum()):
        raise ValueError(
            f"expected a class for at least one pixel of every picture, found {empty} where all are {UNJUDGED}; "
            "leave these pictures out"
        )


def make_objective(model, name, settings):
    """What is optimised so that `model` learns: itself or, without labels, the module `name` around it.

    That takes off the model's head, in place. Raises `ValueError` for a model that it does not fit, which keeps it.
    """
    if not name:
        return model
    if name == "mae" and type(model) is not VisionTransformer:
        raise ValueError(f"expected a VisionTransformer for mae, found {type(model).__name__}; dino takes it")
    device = next(model.parameters()).device
    if name == "mae":
        objective = MaskedAutoencoder(model, **settings)
        without_head(model)
    else:
        objective = DINO(without_head(model), **settings)  # the teacher is a copy
    return objective.to(device)


def kept(objective):
    """The ViT that is kept of an objective, and evaluated where it has a head."""
    if isinstance(objective, DINO):
        return objective.teacher["vit"]
    return objective.vit if isinstance(objective, MaskedAutoencoder) else objective


def train_epoch_without_labels(objective, batches, optimizer, scheduler, clip_norm=1.0, after_step=None):
    """As `train_epoch`, for an `objective` that gives the loss of `(images, *drawn)`, what its `draw` drew."""
    objective.train()
    for images, *drawn in batches:
        optimizer.zero_grad()
        loss = objective(images, drawn)
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), clip_norm)
        optimizer.step()
        scheduler.step()
        if after_step is not None:
            after_step(loss.item())


def follow(objective):
    """What an objective does after each optimiser step; returns numbers for the record, by name."""
    if not isinstance(objective, DINO):
        return {}
    answers = objective.answers
    objective.answers = distributed.gather(answers, distributed.world_size() * len(answers))
    numbers = dict(zip(("entropy", "mean_entropy"), objective.entropies, strict=True))
    objective.after_step()
    return numbers
