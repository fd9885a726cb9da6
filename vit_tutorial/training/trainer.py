"""The training loop, the evaluation, and a run from its first step to its last."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..datasets.masked import MaskedImages
from ..layers import image_sides
from ..machine import distributed, run_folder
from ..machine.compiling import steps_on_nothing, try_to_compile
from ..machine.precision import MixedPrecision, bf16_pays
from ..metrics import calibrate
from . import state
from .augment import PatchDropout, batches, cutmix
from .evaluation import check_fits, evaluate, evaluate_masks
from .finetune import freeze
from .history import History, run_info
from .initialise import initialise
from .objective import check_masks, follow, full_settings, kept, make_objective, train_epoch_without_labels
from .optimizer import make_optimizer
from .recipe import Recipe
from .schedule import Clock, warmup_cosine

EVERY = 30.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time, at most, for writing them


def train_epoch(model, batches, optimizer, scheduler, label_smoothing=0.0, clip_norm=1.0, after_step=None):
    """Train on every `(images, labels)` of `batches`; `after_step(loss)` is called after each."""
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        logits = model(images)  # (B, num_classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        scheduler.step()
        if after_step is not None:
            after_step(loss.item())


class Stop(KeyboardInterrupt):
    """An interrupt between two steps, on which all processes agree."""


@contextmanager
def interruptible(history):
    """An interrupt ends what stands inside, and is noted. One process of several does not end alone."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if distributed.world_size() > 1 and not isinstance(interrupt, Stop):
            raise  # torchrun ends the others
        history.stopped = True


@dataclass(eq=False, repr=False)
class Trainer:
    """A run: `Trainer(...).run()` trains `model` in place; the fields are the arguments of `train`.

    What it makes of them: `objective` is optimised (`model` itself or, without labels, the module around it), `network`
    computes a step of it (compiled, in the run's precision, shared by the processes), `best` is evaluated and kept (the
    average of the weights, where the recipe asks for one; DINO's teacher), `history` is the record so far, and `bf16`
    says whether matrix products are in bfloat16.
    """

    model: nn.Module
    dataset: object  # an ImageSet, as `test` and `calibration` are; or, as `test` is then too, MaskedImages
    recipe: Recipe
    test: object = None
    calibration: object = None
    epochs: float | None = None
    minutes: float | None = None
    seed: int = 0
    out: str | PathLike | None = None
    on_step: Callable | None = None
    resume: bool = False
    shard: bool = False
    info: dict | None = None
    settings: dict | None = None

    def __post_init__(self):
        model, recipe = self.model, self.recipe
        total_epochs = recipe.epochs if self.epochs is None else self.epochs
        if total_epochs <= 0 or (self.minutes is not None and self.minutes <= 0) or not len(self.dataset):
            raise ValueError(
                f"expected at least one image, more than 0 epochs and minutes, found {len(self.dataset)} images, "
                f"epochs={total_epochs}, minutes={self.minutes}"
            )
        self.settings = full_settings(recipe.without_labels, self.settings)
        config = replace(model.config, value_range=self.dataset.value_range)
        self.masked = isinstance(self.dataset, MaskedImages)
        check_masks(self)
        if not recipe.without_labels:
            for part in filter(None, (self.dataset, self.calibration, self.test)):
                check_fits(config, part, "make the model with recipe.config(dataset), or give it a head with new_head")
        elif given := [name for name in ("test", "calibration", "shard") if getattr(self, name)]:
            raise ValueError(
                f"expected a run without labels to have no {' and no '.join(given)}, found it; leave it out"
            )
        model.config = replace(config, classes=self.dataset.classes) if self.masked else config
        self.batch_size = min(recipe.batch_size, len(self.dataset))
        distributed.check(self.batch_size, self.shard)
        torch.manual_seed(self.seed)
        self.device = next(model.parameters()).device
        self.dataset = self.dataset.to(self.device)
        saved = state.load(self.out) if self.resume else None
        self.bf16 = saved["bf16"] if saved else bool(distributed.from_first(bf16_pays(self.device.type)))
        self.steps_per_epoch = len(self.dataset) // self.batch_size
        self.clock = Clock(total_epochs * self.steps_per_epoch, None if self.minutes is None else 60 * self.minutes)
        vit = getattr(model, "vit", model)  # a SegmentationViT's
        initialise(vit, self.dataset.images[:5000], recipe.initialise)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
        self.objective = make_objective(model, recipe.without_labels, self.settings)
        self.best = kept(self.objective) if self.average is None else self.average.module
        first = getattr(vit, "num_prefix_tokens", int(vit.cls_token is not None))
        self.patch_dropout, self.pos_drop = PatchDropout(recipe.patch_dropout, first), vit.pos_drop
        freeze(self.objective, recipe)  # before the processes share out the gradients
        self.compilation = {}
        if recipe.compile and distributed.world_size() > 1:  # tried before a step of one process waits for the others
            _, self.compilation = self.compiled(model)
        self.network = distributed.parallel(self.objective, self.shard)
        if self.shard and self.average is not None:
            distributed.parallel(self.best, self.shard)
        self.optimizer = make_optimizer(self.objective, recipe, self.bf16)
        clock = self.clock  # not the run itself: the memory of a circle is given back late
        self.scheduler = LambdaLR(self.optimizer, lambda _: warmup_cosine(clock.progress, recipe.warmup))
        self.history = History(info=run_info(self) | (self.info or {}))
        self.order, self.finished = None, False  # the images' order in this epoch; whether the run is over
        if saved:
            state.restore(self, saved)
        self.next_checkpoint = self.clock.elapsed + EVERY

    def run(self):
        """Train, and return the `History`."""
        if self.finished:
            self.objective.eval()
            return self.history
        try:
            with self.patch_dropout.on(self.pos_drop, compiled=self.recipe.compile):
                self.prepare()
                with interruptible(self.history):
                    self.train()
                records = len(self.history.epochs)
                with interruptible(self.history):
                    self.calibrate()
                    self.finish(records, self.test)
                    return self.history
                with interruptible(self.history):  # interrupted once more: without the last evaluation
                    self.finish(records, None)
                return self.history
        finally:
            if hasattr(self.on_step, "finish"):
                self.on_step.finish(self.history)

    def prepare(self):
        """Compile, where the recipe asks for it and it works here; compute in the run's precision."""
        if self.recipe.compile:
            if self.compilation.get("compile_failure") is None:
                self.network, self.compilation = self.compiled(self.network)
            self.history.info |= self.compilation
            self.clock.resume()  # the compiler's time does not count
        self.network = MixedPrecision(self.network, self.bf16)

    def compiled(self, network):
        """What `try_to_compile` makes of `network`, in steps like those of the run."""
        config, size = self.model.config, self.batch_size // distributed.world_size()
        images = torch.zeros(size, config.in_channels, *image_sides(config.image_size), device=self.device)
        return try_to_compile(
            network, lambda n: steps_on_nothing(MixedPrecision(n, self.bf16), images, self.patch_dropout)
        )

    def train(self):
        """All epochs that are left, with an evaluation after about every tenth of the run."""
        recipe, clock = self.recipe, self.clock
        if not self.history.epochs:
            self.save()
            self.record(0, self.test)
        while clock.progress < 1.0:
            epoch = self.network, self.batches(), self.optimizer, self.scheduler
            if recipe.without_labels:
                train_epoch_without_labels(*epoch, recipe.clip_norm, self.after_step)
            else:
                train_epoch(*epoch, recipe.label_smoothing, recipe.clip_norm, self.after_step)
            clock.epoch_steps = 0
            if clock.next_record - 1e-9 <= clock.progress < 1.0:
                self.record(clock.steps // self.steps_per_epoch, self.test)
                clock.next_record = clock.progress + 0.1

    def batches(self):
        """The batches of this epoch that are left: this process's share, mixed by CutMix as the recipe says.

        Without labels, what the objective draws at random for the whole batch takes the labels' place.
        """
        if self.clock.epoch_steps == 0:
            self.order = self.new_order()
        order = self.order[self.clock.epoch_steps * self.batch_size :]
        for images, labels in batches(self.dataset, self.model.config, self.recipe, order):
            if self.clock.progress >= 1.0:
                return
            self.patch_dropout.active = self.clock.progress < self.recipe.clean_from
            if self.patch_dropout.active and torch.rand(()) < self.recipe.cutmix:
                images, labels = cutmix(images, labels, self.model.config.num_classes)
            targets = self.objective.draw(images) if self.recipe.without_labels else (labels,)
            yield tuple(map(distributed.share, (images, *targets)))

    def new_order(self):
        """The images of one epoch: all in a new order or, balanced, as many drawn, those of rare classes more often."""
        if not self.recipe.balanced:
            return torch.randperm(len(self.dataset), device=self.device)
        rarity = 1 / self.dataset.class_counts[self.dataset.labels]
        return rarity.multinomial(len(self.dataset), replacement=True)

    def after_step(self, loss):
        """Note the step, follow with the average or the teacher, and let the caller look on."""
        self.history.steps["loss"].append(distributed.mean(loss))
        self.history.steps["learning_rate"].append(self.optimizer.param_groups[-1]["lr"])
        for name, value in follow(self.objective).items():
            self.history.steps.setdefault(name, []).append(value)
        self.clock.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        if self.clock.elapsed >= self.next_checkpoint:
            self.save()
        if self.asked_to_stop():
            self.save()
            raise Stop

    def asked_to_stop(self):
        """Call `on_step`; whether it asked for an end by an interrupt, in this process or another."""
        stop = False
        try:
            if self.on_step is not None:
                self.on_step(self.history, self.clock.progress)
        except KeyboardInterrupt:
            stop = True
        return distributed.in_any(stop)

    def record(self, epoch, test):
        """Evaluate on `test` (None: not), and keep model and record."""
        recent = self.history.steps["loss"][-self.steps_per_epoch :]
        entry = {"epoch": epoch, "seconds": round(self.clock.elapsed, 1)}
        entry["train_loss"] = round(sum(recent) / len(recent), 4) if recent else None
        judge = evaluate_masks if self.masked else evaluate
        result = None if test is None else judge(self.best, test, bf16=self.bf16)
        entry["test_loss"] = None if result is None else round(result.loss, 4)
        entry["test_accuracy"] = None if result is None else round(result.accuracy, 4)
        if self.masked:
            entry["test_mean_iou"] = None if result is None else round(result.mean_iou, 4)
        self.history.epochs.append(entry)
        if self.out is not None:
            run_folder.keep(self.out, distributed.unsharded(self.best), self.history)
        self.clock.tick()

    def calibrate(self):
        """Let the kept model's probabilities say how often they are right on the pictures held back for that."""
        if self.calibration is not None:
            logits = evaluate(self.best, self.calibration, bf16=self.bf16).logits
            self.history.info["temperature"] = calibrate(self.best, logits, self.calibration.labels.cpu())

    def finish(self, records, test):
        """The last record, after `records` others; then `model` holds the weights that were kept."""
        del self.history.epochs[records:]
        for series in self.history.steps.values():
            del series[self.clock.steps :]  # an interrupt can come between two of them
        self.record(round(self.clock.steps / self.steps_per_epoch, 2), test)
        if self.best is not self.model:
            self.model.load_state_dict(self.best.state_dict())
        self.objective.eval()
        if not self.history.stopped:
            self.finished = True
            self.save()

    def save(self):
        """Write the checkpoint; the next is due when this one has cost less than a hundredth of the time."""
        if self.out is not None:
            self.clock.tick()
            start = self.clock.elapsed
            run_folder.save(self.out, state.state_of(self))
            self.clock.tick()
            cost = (self.clock.elapsed - start) / SHARE
            self.next_checkpoint = self.clock.elapsed + max(EVERY, cost)


def train(model, dataset, recipe, test=None, **options):
    """Train `model` in place on `dataset` as `recipe` says, and return the run's `History`.

    `test` is evaluated before the first epoch and after about every tenth of the run. `model.config` takes over the
    dataset's `value_range`. The options, all by name:

    - `epochs` replaces the recipe's; `minutes` instead trains for that wall-clock time, evaluations included, with the
      schedule fitted to it. `seed` (0) is for torch's global generator.
    - `out` is a folder that receives `model.safetensors` and `history.json` at each evaluation, and now and then
      `checkpoint.pt`. With `resume` the run continues from the checkpoint in `out` and ends with the weights that it
      would have had without a break; the other arguments must be those that it began with. `info` is added to the
      record's.
    - `on_step(history, progress)` is called after every step, with progress in 0..1; if it has a method
      `finish(history)`, that is called at the end, however the run ends. An interrupt (Ctrl-C) ends the run early and
      keeps the model; a second one leaves out the last evaluation.
    - A recipe `without_labels` takes the head off `model`, and neither `test` nor `calibration`; `settings` are keyword
      arguments of `MaskedAutoencoder` or `DINO`. Of DINO, `model` ends as the teacher's.
    - `calibration`, images that training does not see, gives the `temperature` by which the head is divided at the end
      (`metrics.calibrate`); it stands in the record's `info`.
    - A `SegmentationViT` learns from `MaskedImages`, in one process, and takes over their class names; `test` is one
      too, and there is neither `calibration` nor a recipe that mixes or leaves out pixels. Pixels of value 255 do not
      count. The record's accuracies are then those of pixels, and `test_mean_iou` stands beside them.
    - Of several processes (`torchrun`) each takes its share of every batch, and the first one writes; with `shard` each
      holds a part of the weights.

    Raises `ValueError` for an empty time or dataset, classes that the model does not have, a batch that the processes
    cannot share equally or a checkpoint of another run, and `OSError` where a file cannot be written: those written
    before are then still whole.
    """
    return Trainer(model, dataset, recipe, test, **options).run()
