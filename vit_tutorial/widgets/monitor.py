"""TrainingMonitor: loss, test accuracy and learning rate while training runs, and a button that ends it."""

import warnings
from contextlib import contextmanager
from time import perf_counter

import anywidget
import numpy as np
from IPython import get_ipython
from IPython.display import display
from traitlets import Bool, Bytes, Float, Int, Unicode

from ..plots import training_curve
from ..training import History
from .explorer import Explorer, module

STRETCHES = 400  # a longer run is cut into so many; each shows its lowest and its highest loss
EVERY = 0.25  # seconds between two updates, at least
SHARE = 0.004  # of the time that training takes, at most, for updates
SENTENCES = {
    "waiting": "Training has not begun.",
    "running": "Training runs.",
    "stopping": "Stopping; the model is kept.",
    "finishing": "All steps are done.",
    "finished": "Finished.",
    "stopped": "Stopped; the model is kept.",
    "failed": "Ended by an error.",
}


class TrainingMonitor(Explorer):
    """Watch a training while it runs, and stop it with a button that keeps the model.

        history = training.train(model, data, recipe, test=test_set, on_step=widgets.TrainingMonitor())

    It is the `on_step` of `train`: shows itself in the running cell at the first step, follows all steps for less than
    1 % of the training time, and leaves a picture in the notebook at the end. Another run with the same monitor starts
    afresh. A front end that fails ends the display, never the training. Outside Jupyter it shows nothing.

    In the page, `series` is float32 `(4, points)`: step (from 1), loss, running mean of the last `window` losses and
    learning rate; `evaluations` is float32 `(n, 5)`: step, epoch, training loss, test loss and test accuracy (NaN where
    there is none).
    """

    _esm = module("monitor.js")

    run = Int().tag(sync=True)  # counts the runs, so that a late message of the page is known as such
    state = Unicode("waiting").tag(sync=True)  # a key of SENTENCES
    progress = Float().tag(sync=True)  # 0..1
    left = Float().tag(sync=True)  # seconds, estimated
    facts = Unicode().tag(sync=True)  # beside the progress bar
    says = Unicode(SENTENCES["waiting"]).tag(sync=True)  # the status line
    series = Bytes().tag(sync=True)
    window = Int().tag(sync=True)
    evaluations = Bytes().tag(sync=True)
    log = Bool(False).tag(sync=True)  # a logarithmic axis for the loss
    numbers = Bool(False).tag(sync=True)

    def __init__(self, **view):
        self._history, self._cell, self._handle = History(), None, None
        super().__init__(**view)
        self.on_msg(self._heard)

    def __repr__(self):
        return f"TrainingMonitor({self.state}, {len(self._history.steps['loss'])} steps)"

    def __call__(self, history, progress):
        """Follow one step of `history`. Raises `KeyboardInterrupt`, which `train` understands, after `stop()`."""
        now = perf_counter()
        if history is not self._history:
            self._begin(history, progress, now)
        self._progress = progress
        if len(history.epochs) > len(self._evaluated):
            self._note_evaluations(len(history.steps["loss"]) - 1)
        if self._stop:
            self._update("stopping")
            raise KeyboardInterrupt
        if now >= self._next or progress >= 1:
            self._update("running" if progress < 1 else "finishing")
            took = perf_counter() - now
            self._next = now + took + max(EVERY, took / SHARE)

    def stop(self):
        """End the run after its present step; for another thread, or for a callback of your own."""
        self._stop = True

    def finish(self, history):
        """Show how the run ended, and put a picture into the notebook; `train` calls this at the end."""
        if history is not self._history:
            return  # ended before the first step: nothing was shown
        self._note_evaluations(len(history.steps["loss"]))
        with self._guarded(KeyboardInterrupt):  # one that was meant for the training and came late
            self._update("stopped" if history.stopped else "finished" if self._progress >= 1 else "failed")
        with self._guarded(KeyboardInterrupt):
            if self._handle is not None:
                data, metadata = self._repr_mimebundle_()
                self._handle.update(data, metadata=metadata, raw=True)

    def figure(self):
        fig = training_curve(self._history)
        if self.log:
            fig.axes[0].set_yscale("log")
        steps = len(self._history.steps["loss"])
        return fig, f"Training loss, test accuracy and learning rate over {steps:,} steps. {self.says}"

    def _begin(self, history, progress, now):
        """Forget the last run, and show this one in the cell that runs."""
        self._history, self._progress, self._stop = history, progress, False
        self._loss, self._evaluated = np.empty(0), []
        self._start, self._next = (now, progress, len(history.steps["loss"])), now
        shell = get_ipython()
        with self._guarded():
            self.run += 1
            if shell is None or shell.execution_count == self._cell:
                return
            data, metadata = anywidget.AnyWidget._repr_mimebundle_(self)  # the picture comes at the end
            self._handle = display(data, metadata=metadata, raw=True, display_id=True)
            self._cell = shell.execution_count

    def _note_evaluations(self, step):
        """Remember after which step each evaluation was made; the history counts epochs alone."""
        for entry in self._history.epochs[len(self._evaluated) :]:
            names = ("epoch", "train_loss", "test_loss", "test_accuracy")
            self._evaluated.append([step, *(entry[name] for name in names)])

    def _update(self, state):
        """Send all that has changed to the page, in one message."""
        with self._guarded(), self.hold_sync():
            rates, seen = self._history.steps["learning_rate"], len(self._loss)
            loss = self._loss = np.append(self._loss, self._history.steps["loss"][seen:])
            self.window = max(len(loss) // 50, 5)
            shown = extremes(loss, STRETCHES)
            rows = shown + 1, loss[shown], running_mean(loss, self.window)[shown], [rates[i] for i in shown]
            self.series = np.array(rows, "<f4").tobytes()
            self.evaluations = np.array(self._evaluated, "<f4").tobytes()  # None becomes NaN
            self.state, self.progress = state, self._progress
            self.facts, self.says = self._words(state, loss)

    def _words(self, state, loss):
        """What stands beside the progress bar, and in the status line."""
        start, progress, first = self._start
        seconds, share, self.left = perf_counter() - start, self._progress - progress, 0.0
        if state in ("finished", "stopped", "failed"):
            epochs = self._history.epochs
            facts = [f"{len(loss):,} steps in {clock(epochs[-1]['seconds'] if epochs else seconds)}"]
        else:
            facts = [f"step {len(loss):,}", f"{100 * self._progress:.0f} %"]
            if share > 0 and len(loss) > first:
                self.left = seconds * (1 - self._progress) / share
                facts += [f"{(len(loss) - first) / seconds:.3g} steps/s", f"{clock(self.left)} left"]
        tests = [(entry[0], entry[-1]) for entry in self._evaluated if entry[-1] is not None]
        broken = np.flatnonzero(~np.isfinite(loss))
        says = SENTENCES[state]
        if len(broken):
            name = "not a number (NaN)" if np.isnan(loss[broken[0]]) else "infinite"
            fate = "." if np.isfinite(loss[-1]) else ": the weights are spoilt, more steps cannot mend them."
            says += f" At step {broken[0] + 1:,} the loss became {name}{fate}"
        elif tests:
            says += f" Test accuracy after step {tests[-1][0]:,}: {100 * tests[-1][1]:.2f} %."
        return " · ".join(facts), says

    def _heard(self, _, content, buffers):
        """The page's Stop button. Read while the cell runs where the kernel has a thread for it (ipykernel 7)."""
        if content.get("stop") == self.run and self.state == "running":
            self.stop()
            self.send({"stopping": self.run})

    @contextmanager
    def _guarded(self, *also):
        """What goes wrong in here ends the display, not the training."""
        try:
            yield
        except (Exception, *also) as error:
            self._next = float("inf")
            warnings.warn(f"the training monitor has stopped, the training continues: {error!r}", stacklevel=2)


def clock(seconds):
    """Minutes and seconds, as 1:05."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))


def extremes(values, stretches):
    """Indices, rising, of what must be seen of `values` `(n,)`: the first, the last, and in each of about `stretches`
    equal stretches the lowest and the highest, or a value that is not finite. All where there are few."""
    n = len(values)
    if n <= 2 * stretches:
        return np.arange(n)
    length = -(-n // stretches)
    table = np.full((-(-n // length), length), np.nan)
    table.flat[:n] = values
    finite = np.isfinite(table)
    lowest = np.where(finite, table, np.inf).argmin(axis=1)
    highest = np.where(finite.all(axis=1), np.where(finite, table, -np.inf).argmax(axis=1), finite.argmin(axis=1))
    starts = length * np.arange(len(table))
    shown = np.unique(np.concatenate([[0, n - 1], starts + lowest, starts + highest]))
    return shown[shown < n]


def running_mean(values, window):
    """Mean of the finite ones among the last `window` of `values` `(n,)` up to each; NaN where there is none."""
    finite = np.isfinite(values)

    def sums(numbers):
        total = np.concatenate([[0.0], np.cumsum(numbers)])
        return total[1:] - total[np.maximum(np.arange(1, len(total)) - window, 0)]

    counts = sums(finite)
    return np.where(counts > 0, sums(np.where(finite, values, 0.0)) / np.maximum(counts, 1), np.nan)
