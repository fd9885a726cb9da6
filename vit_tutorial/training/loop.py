"""The training loop and the evaluation."""

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import weights
from .augment import batches, normalise
from .history import History, run_info
from .optimizer import make_optimizer
from .schedule import Clock, Schedule, warmup_cosine


@cache
def bf16_pays(device_type):
    """Whether bfloat16 matrix products are clearly faster than float32 ones here; measured once, in about 20 ms."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported()
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, dtype=dtype)
        a @ a
        start = time.perf_counter()
        for _ in range(5):
            a @ a
        seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]


def autocast(device):
    """Mixed precision where it pays: matrix products in bfloat16, weights and sums in float32."""
    return torch.autocast(device.type, torch.bfloat16) if bf16_pays(device.type) else nullcontext()


def train_epoch(model, batches, optimizer, scheduler, label_smoothing=0.0, clip_norm=1.0, after_step=None):
    """Train on every `(images, labels)` of `batches`; `after_step(loss)` is called after each."""
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        with autocast(images.device):
            logits = model(images)  # (B, num_classes)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        scheduler.step()
        if after_step is not None:
            after_step(loss.item())


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` (a fraction), mean cross-entropy `loss`, and the `logits` `(n, num_classes)` on the CPU."""

    accuracy: float
    loss: float
    logits: torch.Tensor


@torch.inference_mode()
def evaluate(model, dataset, batch_size=500):
    """Run `model` on all of `dataset`. Raises `ValueError` where their classes differ in number."""
    config = model.config
    if config.num_classes != len(dataset.classes):
        raise ValueError(
            f"expected a dataset with the model's {config.num_classes} classes, found {len(dataset.classes)}; "
            "train a model on it first, or choose the dataset that the model was trained on"
        )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with autocast(device):
        logits = [model(normalise(x.to(device), config)).float().cpu() for x in dataset.images.split(batch_size)]
    model.train(was_training)
    logits, labels = torch.cat(logits), dataset.labels.cpu()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Evaluation(accuracy, F.cross_entropy(logits, labels).item(), logits)


@contextmanager
def interruptible(history):
    """An interrupt ends what stands inside, and is noted."""
    try:
        yield
    except KeyboardInterrupt:
        history.stopped = True


def train(model, dataset, recipe, test=None, epochs=None, minutes=None, seed=0, out=None, on_step=None):
    """Train `model` in place on `dataset` as `recipe` says, and return the run's `History`.

    `epochs` replaces the recipe's; `minutes` instead trains for that wall-clock time, evaluations included, with the
    schedule fitted to it. `test` is evaluated before the first epoch and after about every tenth of the run. `out` is a
    folder that receives `model.safetensors` and `history.json` at each of these points. `on_step(history, progress)` is
    called after every step, with progress in 0..1; if it has a method `finish(history)`, that is called at the end,
    whatever the end is. An interrupt (Ctrl-C) ends the run early and keeps the model; a second one leaves out the last
    evaluation. Seeds torch's global generator. Raises `ValueError` for an empty time or dataset, or classes that the
    model does not have.
    """
    total_epochs = recipe.epochs if epochs is None else epochs
    if total_epochs <= 0 or (minutes is not None and minutes <= 0) or not len(dataset):
        raise ValueError(
            f"expected at least one image, more than 0 epochs and minutes, found {len(dataset)} images, "
            f"epochs={total_epochs}, minutes={minutes}"
        )
    if model.config.num_classes != len(dataset.classes):
        raise ValueError(
            f"expected a dataset with the model's {model.config.num_classes} classes, found {len(dataset.classes)}; "
            "make the model with recipe.config(dataset)"
        )
    torch.manual_seed(seed)
    device = next(model.parameters()).device
    dataset = dataset.to(device)
    steps_per_epoch = max(1, len(dataset) // recipe.batch_size)
    clock = Clock(total_epochs * steps_per_epoch, None if minutes is None else 60 * minutes)
    optimizer = make_optimizer(model, recipe)
    scheduler = Schedule(optimizer, lambda: warmup_cosine(clock.progress, recipe.warmup))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
    best = model if average is None else average.module  # what is evaluated and kept
    history = History(info=run_info(recipe, seed, device))

    def after_step(loss):
        history.steps["loss"].append(loss)
        history.steps["learning_rate"].append(optimizer.param_groups[-1]["lr"])
        clock.steps += 1
        if average is not None:
            average.update_parameters(model)
        if on_step is not None:
            on_step(history, clock.progress)

    def until_done(epoch):
        for batch in epoch:
            if clock.progress >= 1.0:
                return
            yield batch

    def record(epoch, test):
        recent = history.steps["loss"][-steps_per_epoch:]
        entry = {"epoch": epoch, "seconds": round(clock.elapsed, 1)}
        entry["train_loss"] = round(sum(recent) / len(recent), 4) if recent else None
        result = None if test is None else evaluate(best, test)
        entry["test_loss"] = None if result is None else round(result.loss, 4)
        entry["test_accuracy"] = None if result is None else round(result.accuracy, 4)
        history.epochs.append(entry)
        if out is not None:
            weights.save(best, Path(out) / "model.safetensors")
            history.save(Path(out) / "history.json")

    next_record = 0.1
    try:
        with interruptible(history):
            record(0, test)
            while clock.progress < 1.0:
                epoch = until_done(batches(dataset, model.config, recipe))
                train_epoch(
                    model, epoch, optimizer, scheduler, recipe.label_smoothing, recipe.clip_norm, after_step=after_step
                )
                if next_record - 1e-9 <= clock.progress < 1.0:
                    record(clock.steps // steps_per_epoch, test)
                    next_record = clock.progress + 0.1
        records = len(history.epochs)
        for last_test in (test, None):
            with interruptible(history):
                del history.epochs[records:]
                for series in history.steps.values():
                    del series[clock.steps :]  # an interrupt can come between two of them
                record(round(clock.steps / steps_per_epoch, 2), last_test)
                if average is not None:
                    model.load_state_dict(best.state_dict())
                model.eval()
                break
    finally:
        if hasattr(on_step, "finish"):
            on_step.finish(history)
    return history
