"""The training loop and the evaluation."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import weights
from ..layers import image_sides
from ..model import normalise
from . import distributed
from .augment import batches, cutmix, drop_patches
from .checkpoint import Checkpoint, writing
from .compiling import try_to_compile
from .history import History, run_info
from .initialise import initialise
from .optimizer import make_optimizer
from .precision import BF16, autocast, bf16_pays
from .schedule import Clock, Schedule, warmup_cosine


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


class LeaveOutPatches:
    """A forward hook for `model.pos_drop`: while `active`, training sees only a part of the patches."""

    def __init__(self, fraction, first):
        self.fraction, self.first, self.active = fraction, first, True

    def __call__(self, module, inputs, tokens):
        if not (self.active and module.training):
            return tokens
        return drop_patches(tokens, self.fraction, first=self.first)


def steps_on_nothing(model, config, batch_size, leave_out):
    """Compute the gradients of an empty batch and throw them away, for each number of tokens that training has."""
    device = next(model.parameters()).device
    images = torch.zeros(batch_size, config.in_channels, *image_sides(config.image_size), device=device)
    model.train()
    for leave_out.active in (False, True):
        with autocast(device):
            logits = model(images)
        logits.float().sum().backward()
        model.zero_grad()


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` (a fraction), mean cross-entropy `loss`, and the `logits` `(n, num_classes)` on the CPU."""

    accuracy: float
    loss: float
    logits: torch.Tensor


@torch.inference_mode()
def evaluate(model, dataset, batch_size=100):
    """Run `model` on all of `dataset`. Raises `ValueError` where their classes differ in number.

    Of several processes each takes its share of the images, and has all results; so all must call it.
    """
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
        images = distributed.share(dataset.images).split(batch_size)
        logits = [model(normalise(x.to(device), config)).float().cpu() for x in images]
    model.train(was_training)
    logits, labels = distributed.gather(torch.cat(logits), len(dataset)), dataset.labels.cpu()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Evaluation(accuracy, F.cross_entropy(logits, labels).item(), logits)


class Stop(KeyboardInterrupt):
    """An interrupt between two steps, on which all processes agree."""


def wants_to_stop(on_step, history, progress):
    """Call `on_step`; whether it asked for an end by an interrupt, in this process or another."""
    stop = False
    try:
        if on_step is not None:
            on_step(history, progress)
    except KeyboardInterrupt:
        stop = True
    return distributed.anywhere(stop)


@contextmanager
def interruptible(history):
    """An interrupt ends what stands inside, and is noted. One process of several does not end alone."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if distributed.world_size() > 1 and not isinstance(interrupt, Stop):
            raise  # torchrun ends the others
        history.stopped = True


def train(
    model,
    dataset,
    recipe,
    test=None,
    epochs=None,
    minutes=None,
    seed=0,
    out=None,
    on_step=None,
    resume=False,
    shard=False,
    info=None,
):
    """Train `model` in place on `dataset` as `recipe` says, and return the run's `History`.

    `epochs` replaces the recipe's; `minutes` instead trains for that wall-clock time, evaluations included, with the
    schedule fitted to it. `test` is evaluated before the first epoch and after about every tenth of the run. `out` is a
    folder that receives `model.safetensors` and `history.json` at each of these points, and now and then
    `checkpoint.pt`. `on_step(history, progress)` is called after every step, with progress in 0..1; if it has a method
    `finish(history)`, that is called at the end, whatever the end is. An interrupt (Ctrl-C) ends the run early and
    keeps the model; a second one leaves out the last evaluation. `info` is added to the record's.

    With `resume` the run goes on from the checkpoint in `out`, to the weights that it would have had without a break;
    the other arguments must be those that it began with. Of several processes (`torchrun`) each takes its share of
    every batch, and the first one writes; with `shard` each holds a part of the weights.

    Seeds torch's global generator. Raises `ValueError` for an empty time or dataset, classes that the model does not
    have, a batch that the processes cannot share equally or a checkpoint of another run, and `OSError` where a file
    cannot be written: those written before are then still whole.
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
    batch_size = min(recipe.batch_size, len(dataset))
    distributed.check(batch_size, shard)
    torch.manual_seed(seed)
    device = next(model.parameters()).device
    dataset = dataset.to(device)
    bf16 = BF16[device.type] = bool(distributed.from_first(bf16_pays(device.type)))
    steps_per_epoch = len(dataset) // batch_size
    clock = Clock(total_epochs * steps_per_epoch, None if minutes is None else 60 * minutes)
    initialise(model, dataset.images[:5000], recipe.initialise)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
    best = model if average is None else average.module  # what is evaluated and kept
    leave_out = LeaveOutPatches(recipe.patch_dropout, first=int(model.cls_token is not None))
    batch = batch_size // distributed.world_size()
    first_steps = partial(steps_on_nothing, config=model.config, batch_size=batch, leave_out=leave_out)
    compilation = {"compile_failure": None}
    if recipe.compile and distributed.world_size() > 1:  # tried before a step of one process waits for the others
        _, compilation = try_to_compile(model, first_steps)
    shared = distributed.parallel(model, shard)  # the model, as all processes train it
    if shard and average is not None:
        distributed.parallel(average.module, shard)
    optimizer = make_optimizer(model, recipe)
    scheduler = Schedule(optimizer, lambda: warmup_cosine(clock.progress, recipe.warmup))
    precision = {"precision": "bfloat16" if bf16 else "float32"}
    history = History(info=run_info(recipe, seed, epochs, minutes, device) | precision | (info or {}))
    checkpoint = Checkpoint(out, dataset, model, average, optimizer, clock, history, bf16)
    if resume:
        checkpoint.resume(recipe)
        if checkpoint.finished:
            model.eval()
            return history
        BF16[device.type] = checkpoint.bf16

    uncompiled = torch.compiler.disable(leave_out) if recipe.compile else leave_out  # `disable` loads the compiler
    hook = model.pos_drop.register_forward_hook(uncompiled) if recipe.patch_dropout else None
    if recipe.compile:
        if compilation["compile_failure"] is None:
            shared, compilation = try_to_compile(shared, first_steps)
        history.info |= compilation
        clock.resume()

    def after_step(loss):
        history.steps["loss"].append(distributed.mean(loss))
        history.steps["learning_rate"].append(optimizer.param_groups[-1]["lr"])
        clock.step()
        if average is not None:
            average.update_parameters(model)
        if checkpoint.due:
            checkpoint.save()
        if wants_to_stop(on_step, history, clock.progress):
            checkpoint.save()
            raise Stop

    def until_done(epoch):
        for images, labels in epoch:
            if clock.progress >= 1.0:
                return
            leave_out.active = clock.progress < recipe.clean_from
            if leave_out.active and torch.rand(()) < recipe.cutmix:
                images, labels = cutmix(images, labels, model.config.num_classes)
            yield distributed.share(images), distributed.share(labels)

    def record(epoch, test):
        recent = history.steps["loss"][-steps_per_epoch:]
        entry = {"epoch": epoch, "seconds": round(clock.elapsed, 1)}
        entry["train_loss"] = round(sum(recent) / len(recent), 4) if recent else None
        result = None if test is None else evaluate(best, test)
        entry["test_loss"] = None if result is None else round(result.loss, 4)
        entry["test_accuracy"] = None if result is None else round(result.accuracy, 4)
        history.epochs.append(entry)
        if out is not None:
            whole = distributed.whole_model(best)
            if distributed.rank() == 0:
                with writing(out):
                    weights.save(whole, Path(out) / "model.safetensors")
                    history.save(Path(out) / "history.json")
        clock.tick()

    try:
        with interruptible(history):
            if not history.epochs:
                checkpoint.save()
                record(0, test)
            while clock.progress < 1.0:
                order = checkpoint.epoch_order()[clock.epoch_steps * batch_size :]
                epoch = until_done(batches(dataset, model.config, recipe, order))
                train_epoch(
                    shared, epoch, optimizer, scheduler, recipe.label_smoothing, recipe.clip_norm, after_step=after_step
                )
                clock.epoch_steps = 0
                if clock.next_record - 1e-9 <= clock.progress < 1.0:
                    record(clock.steps // steps_per_epoch, test)
                    clock.next_record = clock.progress + 0.1
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
                if not history.stopped:
                    checkpoint.save(finished=True)
                break
    finally:
        BF16.pop(device.type, None)
        if hook is not None:
            hook.remove()
        if hasattr(on_step, "finish"):
            on_step.finish(history)
    return history
