# %% [markdown]
# # 07 · When training fails
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - read a sick training log: what each number rules out before you touch the code,
# - climb a ladder of seven tests that finds most bugs in seconds,
# - say which bugs a test cannot see, and which bugs let a model train all the same, only worse,
# - choose a learning rate by measuring, and know how much warmup and weight decay matter beside it.
#
# About {minutes} minutes to read and do; 60 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import json
import math
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import (
    MultiHeadAttention,
    PatchEmbedding,
    VisionTransformer,
    ViTConfig,
    check,
    course,
    datasets,
    normalise,
    patchify,
    plots,
    training,
    widgets,
)
from vit_tutorial.files import DATA
from vit_tutorial.model import init_weights
from vit_tutorial.patients import patient_a, patient_b, patient_c

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(7)

# %% [markdown]
# ## Five numbers


# %%
def draw_log(ax, log, title):
    """Mean training loss of each epoch, beside the loss of a guess among ten."""
    ax.axhline(math.log(10), color="#777777", linewidth=1, dashes=(4, 3))
    ax.plot(range(1, len(log) + 1), log, "o-", color=plots.COLOURS[1], linewidth=2)
    for epoch, loss in enumerate(log, start=1):
        ax.annotate(f"{loss:.2f}", (epoch, loss), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    ax.set(xlabel="epoch", xticks=range(1, len(log) + 1), ylim=(1.2, max(7.0, 1.15 * max(log))))
    ax.set_title(title, fontsize=10)


# %%
log = [2.76, 2.33, 2.32, 2.32, 6.06]
fig, ax = plots.figure(6.5, 2.6)
draw_log(ax, log, "mean training loss of a ViT on ten classes")
ax.text(5.3, math.log(10) - 0.45, "ln 10", ha="right", fontsize=9, color="#555555")
plots.show(fig, "Five losses: 2.76, then 2.33, 2.32, 2.32, close above the line at ln 10, and a leap to 6.06.")

# %% [markdown]
# This is all that a training run left behind: five epochs, five losses, no error message.
#
# **Before you read on, look at the picture for a minute.** What was going on in epochs 2 to 4? And in epoch 5? Which
# faults can you already exclude?
#
# The usual answer is to change something and start again. Here you learn another one: treat the run as a case.
# First read the evidence. Then reproduce it, quickly and small. Then test one part after the other, cheapest test
# first, until the culprit has nowhere left to be.

# %% [markdown]
# ## Reading the evidence
#
# **Epochs 2 to 4** sit near 2.3. You know this number from notebook 06: a guess among ten costs ln 10.

# %%
guess = math.log(10)
for epoch, loss in enumerate(log, start=1):
    print(f"epoch {epoch}: {loss:.2f}, {loss - guess:+.2f} against a guess")
assert min(log) > guess

# %% [markdown]
# Every epoch is *worse* than a guess. A model that ignores the picture and gives each class 1/10 would have had
# 2.30, with nothing learned at all. Ours is 0.02 above.
#
# So it has opinions, and they are wrong on average. Suppose that its logits do not depend on the picture, but are
# not equal either: this class gets a little more, that one less, by chance. What would that cost? Let us give ten
# classes random logits with a standard deviation of 0.2, the same for each picture:

# %%
opinion = 0.2 * torch.randn(1000, 10)  # 1000 such models, (models, classes)
opinion = opinion - opinion.mean(dim=1, keepdim=True)
cost = -opinion.log_softmax(dim=1).mean(dim=1) - guess  # every class equally often the right one
print(f"mean cost above a guess {cost.mean():.3f}, half the variance {opinion.var(dim=1, correction=0).mean() / 2:.3f}")
assert abs(cost.mean() - opinion.var(dim=1, correction=0).mean() / 2) < 0.002

# %% [markdown]
# 0.02, about half the variance of the logits. Keep this as the first hypothesis: **the logits do not depend on the
# picture, and something keeps shaking them**. Shaking is what a learning rate does.

# %% [markdown]
# ## An alibi: softmax before cross-entropy
#
# The best-known bug of this kind is a softmax too many (you broke a model with it in 06). Is it a suspect? The loss
# then takes ten *probabilities* for logits. They lie between 0 and 1, and that puts the loss into a cage:
#
# - best case: the right class has 1, the other nine have 0. Loss $-\ln\frac{e}{e+9} = \ln(e+9) - 1$.
# - worst case: a wrong class has 1. Loss $-\ln\frac{1}{e+9} = \ln(e+9)$.

# %%
lowest, highest = math.log(math.e + 9) - 1, math.log(math.e + 9)
probabilities = (20 * torch.randn(5000, 10)).softmax(dim=1)  # sure of something, right or wrong
losses = F.cross_entropy(probabilities, torch.randint(0, 10, (5000,)), reduction="none")
print(f"cage: {lowest:.4f} to {highest:.4f}; 5000 random answers: {losses.min():.4f} to {losses.max():.4f}")
assert lowest - 1e-4 <= losses.min() and losses.max() <= highest + 1e-4

# %%
fig, ax = plots.figure(6.5, 2.6)
ax.axhspan(lowest, highest, color="#56B4E9", alpha=0.35, linewidth=0)
draw_log(ax, log, "the cage of a softmax too many (blue band), and our log")
plots.show(fig, "The five losses over a band from 1.46 to 2.46. The first, 2.76, and the last, 6.06, lie above it.")
outside = [loss for loss in log if not lowest <= loss <= highest]
assert outside == [2.76, 6.06]

# %% [markdown]
# 2.76 and 6.06 lie outside the cage. **The softmax has an alibi**, and we have not run a line of the code yet. What
# the log leaves:
#
# | evidence | rules out | leaves |
# |---|---|---|
# | 2.3 for three epochs | nothing is wrong | logits that do not depend on the picture |
# | above ln 10, never below | a learning rate of 0 | something that shakes the logits: a rate too large |
# | 2.76 and 6.06 | softmax before cross-entropy | unbounded logits |
# | 2.76 in epoch 1 | | a bad start: head too large, or no warmup |
# | 6.06 in epoch 5 | | no clipping, no warmup, no norm before the head |
#
# ### Exercise 7.1 · The cage for a hundred classes
# *predict · medium · 4 minutes*
#
# A model with 100 classes has a softmax too many. Between which two losses must it stay? Give
# `(lowest, highest)`, to two decimals.
#
# <details><summary>Hint</summary>
#
# As above, with 99 wrong classes where there were nine. Each of them contributes $e^0 = 1$ to the sum.
#
# </details>

# %% tags=["exercise"]
answer = ...  # (lowest, highest)

# %%
check.softmax_bounds(answer)

# %% [markdown]
# ## Catching it in the act
#
# A bug that takes an hour to show is hard to hunt. So first make it small: a ViT of 49,000 weights, patches of 8
# pixels, 3,200 pictures. An epoch of 100 steps takes about a second.

# %%
CONFIG = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2.0)
train_set = datasets.shapes("train", 3200)
IMAGES = normalise(train_set.images, CONFIG)
LABELS = train_set.labels
PIXELS = train_set.images.float()  # as they come from the file: 0 to 255
model = VisionTransformer(CONFIG)
print(f"{sum(p.numel() for p in model.parameters()):,} weights")
print(f"pixels 0 to {PIXELS.max():.0f}, normalised {IMAGES.min():.0f} to {IMAGES.max():.0f}")

# %% [markdown]
# Now commit three sins at once, each of them common:
#
# 1. the pixels stay at 0 to 255; nobody normalises them,
# 2. the final LayerNorm, between the blocks and the head, was forgotten,
# 3. the learning rate is 0.03, ten times what suits this model, from the first step to the last: no warmup, no
#    cosine, no clipping.


# %%
def no_final_norm(config):
    model = VisionTransformer(config)
    model.norm = nn.Identity()  # gives back what it gets
    return model


# %% [markdown]
# And a loop that hides nothing. For debugging, a loop that you can read beats any framework. This one notes the
# length of the whole gradient beside the loss, and hands each step to the monitor that you know from 06:


# %%
def plain_loop(model, images, learning_rate, epochs, warmup=0, on_step=lambda *progress: None):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    start = time.perf_counter()
    history, norms, order = training.History(), [], torch.Generator().manual_seed(0)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(images), generator=order).split(32):
            step = len(norms) + 1
            optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, step / max(1, warmup))
            loss = F.cross_entropy(model(images[rows]), LABELS[rows])
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())
            optimizer.step()
            history.steps["loss"].append(loss.item())
            history.steps["learning_rate"].append(optimizer.param_groups[0]["lr"])
            on_step(history, len(norms) / (epochs * len(images) / 32))
        mean = sum(history.steps["loss"][-100:]) / 100
        entry = {"epoch": epoch, "seconds": time.perf_counter() - start, "train_loss": mean}
        history.epochs.append({**entry, "test_loss": None, "test_accuracy": None})
    return history, norms


# %% [markdown]
# **Predict before you run:** where does the first *step* start, and where does the loss sit after the first epoch?

# %% tags=["nbval-ignore-output"]
torch.manual_seed(1)
sick = no_final_norm(CONFIG)
monitor = widgets.TrainingMonitor(log=True)
history, _ = plain_loop(sick, PIXELS, learning_rate=0.03, epochs=5, on_step=monitor)
monitor.finish(history)
ours, steps = [entry["train_loss"] for entry in history.epochs], history.steps["loss"]
print("our log:", ", ".join(f"{loss:.2f}" for loss in ours))
assert abs(steps[0] - guess) < 0.1 and max(steps[1:21]) > 4  # in 50 recorded runs: within 0.002, at least 6.4
assert ours[0] > guess + 0.3  # in those runs at least 0.5 above
assert guess < min(ours) < guess + 0.3  # there 0.02 to 0.14 above

# %% [markdown]
# The same story: a first epoch far above ln 10, then epochs a little worse than a guess. So far it is certain. Whether
# the loss leaps once more is not: the last digit of a sum decides, and it differs between seeds, processors and even
# numbers of threads. So for this part we look at *recorded* runs: ten seeds on each of five simulated machines, 16
# epochs each (`python tools/measure/explosions.py`).

# %%
record = json.loads((DATA / "runs" / "explosions.json").read_text())
runs = record["runs"]
leaps = sorted(run["leap"] for run in runs if run["leap"])  # after epoch 1, the first step with a loss above 5
best = [min(run["epochs"]) - guess for run in runs]
print(f"{len(runs)} runs; the best epoch of each lies {min(best):.2f} to {max(best):.2f} above ln 10")
print(f"in {len(leaps)} of them a step's loss passes 5 again, the first time in epoch {math.ceil(leaps[0] / 100)}")
print(f"half of these have done so by epoch {math.ceil(leaps[len(leaps) // 2] / 100)}")
assert min(best) > 0 and 0 < len(leaps) < len(runs)

# %% [markdown]
# Like our log, many of them sit still and then leap; the others have not done so by then. If you like, train for 20
# epochs in the cell above: your run may take another turn than its neighbour's.
#
# An epoch's mean hides a lot. Here is one of the recorded runs, step by step:

# %%
shown, lengths = zip(*record["shown"]["steps"], strict=True)
fig, (top, bottom) = plots.figure(7.5, 3.6, 2, 1, sharex=True)
top.plot(range(1, len(shown) + 1), shown, linewidth=1, color=plots.COLOURS[1])
top.axhline(guess, color="#777777", linewidth=1, dashes=(4, 3))
top.set(yscale="log", ylabel="loss")
bottom.plot(range(1, len(shown) + 1), lengths, linewidth=1)
bottom.set(yscale="log", ylabel="gradient length", xlabel="step")
plots.show(
    fig,
    "Above, the loss of each step: it starts at ln 10, leaps within a few steps, settles just above ln 10, and leaps "
    "again later. Below, the length of the gradient: it leaps at the same steps, by a factor of a hundred and more.",
)
early, late = max(shown[1:21]), max(shown[100:])
print(f"first step {shown[0]:.2f}, largest of the next 20 {early:.1f}, largest after epoch 1 {late:.1f}")
print(f"in all {len(runs)} runs the largest of the steps 2 to 21 is at least {min(run['early'] for run in runs):.2f}")

# %% [markdown]
# Three things that the log of epochs had hidden:
#
# - **Step 1 is healthy**: about ln 10. So the head is *not* too large at the start. The 2.76 is made by the first
#   steps, at full rate: thousands of weights that all move by 0.03 at once.
# - **The gradient tells.** It leaps together with the loss. Print its length in every run of yours: it is the first
#   to know.
# - **Afterwards the rate stays high.** Every step moves each weight by about 0.03, wherever that leads.
#
# And the hypothesis from the log, that the logits do not depend on the picture? Ask the model that you have trained:

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    logits = sick(PIXELS[:500])  # (500, 10)
over_images, over_classes = logits.std(dim=0).mean(), logits.mean(dim=0).std(correction=0)
print(f"one class over 500 pictures varies by {over_images:.4f}, ten classes on average by {over_classes:.4f}")
assert over_images < 0.5 * over_classes  # in 50 recorded runs at most 0.24 of it

# %% [markdown]
# Confirmed: 500 different pictures get nearly the same ten numbers, and these ten numbers differ: an opinion without
# evidence. The step size keeps shaking them.
#
# Which of the three sins is the culprit? Take a healthy training and put sins back, **few at a time**. **Predict
# before you run:** which one alone keeps the loss at ln 10? Which make it leap?

# %% tags=["nbval-ignore-output"]
trials = {  # (model, images, learning rate, warmup steps)
    "no sin": (VisionTransformer, IMAGES, 0.003, 20),
    "pixels": (VisionTransformer, PIXELS, 0.003, 20),
    "norm": (no_final_norm, IMAGES, 0.003, 20),
    "rate": (VisionTransformer, IMAGES, 0.03, 0),
    "norm and rate": (no_final_norm, IMAGES, 0.03, 0),
    "all three": (no_final_norm, PIXELS, 0.03, 0),
}
curves = {}
for name, (make, images, rate, warmup) in trials.items():
    torch.manual_seed(0)
    curves[name] = plain_loop(make(CONFIG), images, rate, epochs=2, warmup=warmup)[0].steps["loss"]
    print(f"{name:14} highest {max(curves[name]):5.2f}, second epoch {sum(curves[name][100:]) / 100:.2f}")
second = {name: sum(losses[100:]) / 100 for name, losses in curves.items()}
# In 50 recorded runs: at most 2.18, at least 2.30; at most 2.53, at least 5.2.
assert max(second["no sin"], second["norm"]) < 2.25 < min(second["pixels"], second["all three"])
assert max(curves["norm"]) < 2.8 < 4 < min(max(curves["norm and rate"]), max(curves["all three"]))

# %%
fig, ax = plots.figure(7.5, 2.8)
ax.axhline(guess, color="#777777", linewidth=1, dashes=(4, 3))
for (name, losses), style in zip(curves.items(), ("-", "--", "-.", ":", (0, (1, 1)), (0, (5, 1))), strict=True):
    smooth = torch.tensor(losses).unfold(0, 10, 1).mean(dim=1)
    ax.plot(range(10, len(losses) + 1), smooth, linestyle=style, linewidth=1.8, label=name)
ax.set(xlabel="step", ylabel="loss, mean of 10 steps", ylim=(1.8, 4.2))
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Six loss curves. Without a sin, and without the norm alone, the loss falls. With raw pixels alone it stays at "
    "ln 10. With the high rate it falls late. With rate and norm together, and with all three, it leaps at the start.",
)

# %% [markdown]
# Not one culprit but two faults, and they share the work:
#
# - **The pixels** alone keep the loss at ln 10, however careful the rate. Normalised numbers are about
#   raw ones divided by 127.5. So the raw tokens are more than a hundred times as long: beside them the positions
#   (about 0.02) vanish, and their brightness hides the rest.
# - **The rate**, with no norm to hold the logits back, makes it leap.

# %% [markdown]
# One fault hid the other: whoever lowers the rate first sees a quiet 2.31, and believes that the rate is now too
# low. That is common, and the reason to test one part at a time. Here we knew where to look. When you do not, you
# need a system.

# %% [markdown]
# ## The ladder


# %%
RUNGS = (
    ("1 shapes", "axes mixed up, a stage left out", "one pass"),
    ("2 first loss", "head too large, wrong number of classes, wrong loss", "one pass"),
    ("3a the image", "logits that do not depend on the picture", "one pass"),
    ("3b each patch", "patches cut wrongly, patches without a say", "one pass"),
    ("3c nothing else", "answers that change with the company, or by chance", "one pass"),
    ("4 reference", "any other formula than the one you meant", "one pass"),
    ("5 one batch", "gradient, optimiser or schedule that do not work", "60 steps"),
    ("6 rates", "wrong learning rate, weights without gradient", "60 steps"),
    ("7 shuffled labels", "labels that do not belong to the pictures", "200 steps"),
)
fig, ax = plots.figure(9, 3.9)
ax.set_axis_off()
ax.set(xlim=(0, 10), ylim=(-0.6, 9.2))
ax.vlines([0.35, 2.65], -0.5, 9.0, color="#8A6D3B", linewidth=7)
for height, (name, rules_out, cost) in enumerate(RUNGS):
    ax.hlines(height, 0.35, 2.65, color="#E69F00", linewidth=17)
    ax.text(1.5, height, name, ha="center", va="center", fontsize=10, weight="bold")
    ax.text(2.95, height, rules_out, va="center", fontsize=10)
    ax.text(9.9, height, cost, va="center", ha="right", fontsize=9, color="#555555")
ax.text(2.95, 8.8, "what it rules out", fontsize=9, color="#555555")
plots.show(fig, "A ladder of seven rungs, shapes at the bottom, shuffled labels at the top; what each rules out.")

# %% [markdown]
# Climb from the bottom: the lower rungs need one pass of a few pictures, no training, and say *where* the fault is.
# The upper ones train for a while and only say *that* there is one. If a rung breaks, mend it before you climb on.
#
# To test suspects, we need one object that holds all of a training, so that one part can be exchanged:


# %%
def warmup(step, rate_steps=10):
    return min(1.0, (step + 1) / rate_steps)  # factor of the learning rate


# %%
def predict(model, images):
    model.eval()
    with torch.no_grad():
        return model(images)


# %%
@dataclass(frozen=True)
class Setup:
    make: object = VisionTransformer  # config -> model
    rate: float = 3e-3  # learning rate
    factor: object = warmup  # step -> factor of the learning rate
    labels: torch.Tensor = LABELS
    predict: object = predict  # (model, images) -> logits


healthy = Setup()


# %%
def build(setup):
    torch.manual_seed(0)
    return setup.make(CONFIG)


# %%
def fit(setup, batches, rate=None):
    """Train a fresh model on batches of rows; returns the losses."""
    model, losses = build(setup), []
    rate = rate or setup.rate
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.98))
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate * setup.factor(step)
        loss = F.cross_entropy(model(IMAGES[rows]), setup.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


# %% [markdown]
# ### Rung 1: shapes
#
# Let three pictures through and write down the shape after each stage. A **hook** is a function that PyTorch calls
# with a part's output. Why three pictures? So that no two axes have the same length: 3 pictures, 17 tokens, 48
# numbers, 10 classes. A mix-up then shows.


# %%
def stage_shapes(model, images):
    found = {}
    stages = {"patch_embed": model.patch_embed, "block 1": model.blocks[0], "head": model.head}
    for name, part in stages.items():
        part.register_forward_hook(lambda part, given, out, name=name: found.update({name: tuple(out.shape)}))
    predict(model, images)
    return found


# %%
stage_shapes(build(healthy), IMAGES[:3])


# %%
def shapes_fail(setup):
    N, D = 17, CONFIG.embed_dim
    expected = {"patch_embed": (3, N - 1, D), "block 1": (3, N, D), "head": (3, 10)}
    return stage_shapes(build(setup), IMAGES[:3]) != expected


# %%
class ReadsFirstImage(VisionTransformer):
    def forward(self, images):
        return self.head(self.forward_features(images)[0])  # meant: [:, 0], the class token of each picture


# %%
assert not shapes_fail(healthy) and shapes_fail(Setup(make=ReadsFirstImage))
stage_shapes(ReadsFirstImage(CONFIG), IMAGES[:3])["head"]

# %% [markdown]
# 17 rows of logits for three pictures. With a batch of 17 the shape would have been right and the answers wrong. The
# rung is cheap, and catches few: most bugs have the right shape, which is what makes them bugs and not exceptions.
#
# ### Rung 2: the first loss
#
# A fresh model of ten classes costs ln 10. You know why from 06.


# %%
def first_loss(setup):
    return F.cross_entropy(setup.predict(build(setup), IMAGES[:500]), setup.labels[:500]).item()


def first_loss_fails(setup):
    return abs(first_loss(setup) - math.log(10)) > 0.1


# %%
def saturated_head(config):
    model = VisionTransformer(config)
    nn.init.normal_(model.head.weight, std=1.0)  # 50 times the usual 0.02
    return model


# %%
print(f"healthy {first_loss(healthy):.2f}, saturated head {first_loss(Setup(make=saturated_head)):.1f}")
assert not first_loss_fails(healthy) and first_loss_fails(Setup(make=saturated_head))

# %% [markdown]
# ### Rung 3: on what do the logits depend?
#
# On the picture (3a), on each patch (3b), and on nothing else (3c). First the picture. How much does a logit vary
# from picture to picture, measured against its size?


# %%
def spread(setup):
    logits = setup.predict(build(setup), IMAGES[:200])  # (200, 10)
    return (logits.std(dim=0).mean() / logits.abs().mean()).item()


def image_fails(setup):
    return spread(setup) < 0.02


# %%
def loud_positions(config):
    model = VisionTransformer(config)
    nn.init.normal_(model.pos_embed, std=30.0)  # meant: 0.02
    return model


# %%
print(f"healthy {spread(healthy):.2f}, loud positions {spread(Setup(make=loud_positions)):.4f}")
assert not image_fails(healthy) and image_fails(Setup(make=loud_positions))

# %% [markdown]
# Where the positions are a hundred times as long as the patches, LayerNorm divides both by that length, and of the
# picture almost nothing is left.
#
# Now each patch. Two questions: does *every* square of the picture reach the logits, and does each enter through
# *one* token? For the first, the gradient of the logits with respect to the pixels answers for all patches at once.


# %%
def patch_influence(model, images):
    model.eval()
    images = images.clone().requires_grad_()
    logits = model(images)
    (logits * torch.randn(10)).sum().backward()
    return patchify(images.grad.abs(), CONFIG.patch_size).sum(dim=2)  # (B, patches)


# %%
def tokens_touched(model, image):
    changed = image.clone()
    changed[:, :8, :8] += 1.0  # the square of the first patch, and nothing else
    before, after = (model.patch_embed(x[None])[0] for x in (image, changed))  # (16, 48)
    return int((after - before).abs().sum(dim=1).gt(1e-6).sum())


# %%
def patches_fail(setup):
    model = build(setup)
    influence = patch_influence(model, IMAGES[:4])  # (4, 16)
    return bool((influence < 0.01 * influence.max()).any()) or tokens_touched(model, IMAGES[0]) != 1


# %%
class PlainReshape(PatchEmbedding):
    """Cuts the picture as the numbers lie in memory: each "patch" is a strip of rows of one channel."""

    def forward(self, images):
        B, C, Y, X = images.shape
        P = self.proj.kernel_size[0]
        patches = images.reshape(B, -1, C * P * P)  # (B, N, C*P*P): the right shape, the wrong numbers
        return patches @ self.proj.weight.flatten(1).T + self.proj.bias  # (B, N, D)


# %%
def plain_reshape(config):
    model = VisionTransformer(config)
    model.patch_embed = PlainReshape(config.image_size, config.patch_size, 3, config.embed_dim)
    return model


# %%
strip = torch.arange(16).repeat_interleave(192).reshape(3, 32, 32)  # number of the token that a pixel goes to
square = torch.arange(16).reshape(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
fig, (left, right) = plots.figure(6, 2.7, 1, 2)
for ax, tokens, title in ((left, square, "patchify: squares"), (right, strip[0], "plain reshape: strips")):
    ax.imshow(tokens.numpy(), cmap="viridis", vmin=0, vmax=15)
    ax.set_axis_off()
    ax.set_title(title, fontsize=10)
plots.show(fig, "To which token each red pixel goes. Left: sixteen squares. Right: six strips, the other ten get none.")
print("tokens touched by one square:", tokens_touched(build(Setup(make=plain_reshape)), IMAGES[0]))
assert not patches_fail(healthy) and patches_fail(Setup(make=plain_reshape))

# %% [markdown]
# One square touches six tokens: the picture was cut into strips, colour by colour. Shapes and first loss had passed.
#
# Last, nothing else: a picture must get the same logits alone and among others, and the same when asked twice.


# %%
def company_matters(setup):
    model = build(setup)
    among, alone = setup.predict(model, IMAGES[:8])[0], setup.predict(model, IMAGES[:1])[0]
    return ((among - alone).abs().max() / among.abs().max()).item()


# %%
def company_fails(setup):
    return company_matters(setup) > 1e-3


# %%
forgets_eval = Setup(
    make=lambda config: VisionTransformer(replace(config, dropout=0.2)),
    predict=lambda model, images: model.train()(images).detach(),  # eval() forgotten: dropout stays on
)
differ = company_matters(forgets_eval) > 0.1
print("eval() forgotten: the logits differ by more than a tenth from one call to the next:", differ)
assert not company_fails(healthy) and company_fails(forgets_eval)

# %% [markdown]
# ### Rung 4: a reference
#
# The strongest test of a formula: give the same weights to code that you trust and compare. Here the package's
# model is the reference; for your own work it may be timm or torchvision (notebook 05).
#
# One trap. Take a frequent bug: scores divided by $\sqrt{D}$, the width of all heads together, where $\sqrt{d}$ is
# meant, the width of one head.


# %%
class Attention(MultiHeadAttention):
    """The package's attention in three methods, so that each can be broken alone."""

    def split(self, x):
        B, N, D = x.shape
        return self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)  # (3, B, H, N, d)

    def weigh(self, q, k):
        return (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(dim=-1)  # (B, H, N, N)

    def merge(self, x):
        B, H, N, d = x.shape
        return x.transpose(1, 2).reshape(B, N, H * d)  # (B, N, D)

    def forward(self, x, return_attention=False):
        q, k, v = self.split(x)
        weights = self.weigh(q, k)
        x = self.proj(self.merge(weights @ v))  # (B, N, D)
        return (x, weights) if return_attention else x


# %%
def with_attention(attention):
    def make(config):
        model = VisionTransformer(config)
        for block in model.blocks:
            block.attn = attention(config.embed_dim, config.num_heads).apply(init_weights)
        return model

    return make


# %%
class SqrtWidth(Attention):
    def weigh(self, q, k):
        D = self.num_heads * self.head_dim
        return (q @ k.transpose(-2, -1) * D**-0.5).softmax(dim=-1)  # meant: head_dim


# %%
def difference(setup, shake=0.0):
    """Largest difference to the package's model with the same weights, relative to the largest logit."""
    model, reference = build(setup), VisionTransformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += shake * torch.randn_like(parameter)
    reference.load_state_dict(model.state_dict())
    ours, theirs = setup.predict(model, IMAGES[:8]), reference(IMAGES[:8]).detach()
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


# %%
wide = Setup(make=with_attention(SqrtWidth))
print(f"fresh weights: {difference(wide):.4f}, weights shaken by 0.2: {difference(wide, 0.2):.4f}")
assert difference(wide) < 0.02 < difference(wide, 0.2)

# %% [markdown]
# With fresh weights the bug changes the logits by less than two per cent: all scores are near 0, and dividing them
# changes little. It would grow as training goes on. **Compare with weights that are not small**: shake them first.


# %%
def reference_fails(setup):
    return difference(setup, shake=0.2) > 1e-3


assert not reference_fails(healthy) and reference_fails(wide)
print(f"healthy: {difference(healthy, 0.2):.4f}")


# %% [markdown]
# ### Rung 5: one batch by heart
#
# The test that you know from 06: 60 steps on the same 32 pictures.


# %%
def one_batch(setup):
    return fit(setup, [torch.arange(32)] * 60)[1]


def one_batch_fails(setup):
    return not sum(one_batch(setup)[-5:]) / 5 < 0.5


# %%
def epoch_schedule(step):
    return training.warmup_cosine(min(1.0, (step + 1) / 10))  # meant for 10 epochs, called 10 times as soon


# %%
stuck = Setup(factor=epoch_schedule)
print(f"healthy ends at {one_batch(healthy)[-1]:.1f}, epoch schedule stepped per step at {one_batch(stuck)[-1]:.1f}")
assert not one_batch_fails(healthy) and one_batch_fails(stuck)

# %% [markdown]
# The second schedule was planned over ten epochs and is called after each batch. After ten steps the learning rate
# is 0, for ever. The loss curve looks as if the model had "converged", at 2.

# %% [markdown]
# ### Rung 6: learning rates, and who gets a gradient
#
# Take the same batch, a few rates a factor of 10 apart, and look at the loss after 30 steps. Beside it, at step 1, the
# length of the gradient of every weight tensor: one that gets none does not learn.


# %%
def sweep(setup, factors=(0.01, 0.1, 1, 10, 100), steps=30):
    ends = [fit(setup, [torch.arange(32)] * steps, setup.rate * factor)[1][-5:] for factor in factors]
    return [sum(losses) / 5 for losses in ends]  # after these steps, for each rate


# %%
def gradients(setup):
    model = build(setup)
    F.cross_entropy(model(IMAGES[:32]), setup.labels[:32]).backward()
    return {name: 0.0 if p.grad is None else p.grad.norm().item() for name, p in model.named_parameters()}


# %% tags=["nbval-ignore-output"]
rates = [healthy.rate * factor for factor in (0.01, 0.1, 1, 10, 100)]
ends, sizes = sweep(healthy), gradients(healthy)
fig, (left, right) = plots.figure(9, 3.2, 1, 2, width_ratios=(1, 1.2))
left.plot(rates, ends, "o-", linewidth=2)
left.axhline(guess, color="#777777", linewidth=1, dashes=(4, 3))
left.set(xscale="log", xlabel="learning rate", ylabel="loss after 30 steps", ylim=(0, 4))
kinds = [name.replace("blocks.", "block ").replace(".weight", "") for name in sizes if "bias" not in name]
right.barh(kinds, [size for name, size in sizes.items() if "bias" not in name], color=plots.COLOURS[2])
right.invert_yaxis()
right.set(xscale="log", xlabel="length of the first gradient")
right.tick_params(labelsize=7.5)
plots.show(
    fig,
    "Left: the loss after 30 steps against the learning rate, a valley lowest from 0.003 to 0.03. Right: the length of "
    "the first gradient of each weight tensor; none is zero.",
)
print(", ".join(f"{rate:g}: {end:.2f}" for rate, end in zip(rates, ends, strict=True)))
assert ends[0] > ends[1] > max(ends[2:4]) and ends[4] > ends[2] and min(sizes.values()) > 0

# %% [markdown]
# A valley: too small crawls, too large bounces. The bottom lies between 0.003 and 0.03. Nearer to which
# end? Take **the left one**: one batch always pulls the same way and bears larger steps than changing batches do. The
# long sweep below will say whether that is wise.


# %%
def rates_fail(setup):
    slower, as_it_is = sweep(setup, (0.1, 1))
    return not as_it_is < min(1.8, slower) or min(gradients(setup).values()) == 0.0


# %%
def frozen_head(config):
    model = VisionTransformer(config)
    model.head.requires_grad_(False)
    return model


# %%
assert not rates_fail(healthy) and rates_fail(Setup(make=frozen_head)) and rates_fail(Setup(rate=0.3))
silent = [name for name, size in gradients(Setup(make=frozen_head)).items() if size == 0]
print("without a gradient:", silent)

# %% [markdown]
# ### Rung 7: shuffled labels
#
# All rungs so far can be passed by a model that is fed nonsense. So train twice on *fresh* pictures, 100 batches,
# none seen before: once with the labels, once with the labels shuffled. If the loss comes out the same, the labels
# that you have say nothing about the pictures that you have.

# %%
SHUFFLED = LABELS[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(7))]
FRESH = [torch.arange(32 * step, 32 * step + 32) for step in range(100)]


# %%
def signal(setup):
    """How much lower the loss on fresh pictures ends with these labels than with shuffled ones."""
    again = SHUFFLED if setup.labels is LABELS else setup.labels[torch.randperm(len(LABELS))]
    ends = [fit(s, FRESH)[1][-25:] for s in (setup, replace(setup, labels=again))]
    return (sum(ends[1]) - sum(ends[0])) / 25


def signal_fails(setup):
    return not signal(setup) > 0.06


# %% tags=["nbval-ignore-output"]
mismatched = Setup(labels=SHUFFLED)
print(f"healthy {signal(healthy):.2f} lower, labels of other pictures {signal(mismatched):.2f}")
print(f"and yet, one batch with shuffled labels: loss {one_batch(mismatched)[-1]:.2f}")
assert not signal_fails(healthy) and signal_fails(mismatched) and not one_batch_fails(mismatched)

# %% [markdown]
# Note the last line: the batch with wrong labels was learned by heart like any other. Only fresh pictures show it.
# In real life labels get shuffled when pictures and labels are sorted by different keys, or one list is filtered and
# the other is not.

# %% [markdown]
# ### Exercise 7.2 · By heart, with wrong labels
# *predict · medium · 3 minutes*
#
# A model reaches loss 0.01 on one batch whose labels were shuffled. What does that say?
#
# - **a** the model understood the pictures in spite of the labels
# - **b** there is a bug: with wrong labels the loss must stay at ln 10
# - **c** gradients, optimiser and schedule work; about the labels it says nothing
# - **d** the labels were right after all
#
# <details><summary>Hint</summary>
#
# 32 pictures, 49,000 weights. What does it take to store 32 answers?
#
# </details>

# %% tags=["exercise"]
answer = ...  # "a", "b", "c" or "d"

# %%
check.shuffled_batch(answer)

# %% [markdown]
# ## A gallery of bugs
#
# Now the whole ladder against a whole gallery. Eleven bugs you have met. Four more follow, each of one or two lines.


# %%
class WrongSplit(Attention):
    def split(self, x):
        B, N, D = x.shape
        return self.qkv(x).reshape(B, 3, self.num_heads, N, self.head_dim).transpose(0, 1)  # (3, B, H, N, d)


# %%
class WrongMerge(Attention):
    def merge(self, x):
        B, H, N, d = x.shape
        return x.reshape(B, N, H * d)  # (B, N, D): the transpose is missing


# %%
class WrongSoftmax(Attention):
    def weigh(self, q, k):
        return (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(dim=-2)  # (B, H, N, N): columns sum to 1


# %%
class OverTheBatch(Attention):
    def forward(self, x, return_attention=False):  # takes (N, B, D), as nn.MultiheadAttention does
        out, weights = super().forward(x.transpose(0, 1), return_attention=True)
        out = out.transpose(0, 1)  # (B, N, D): token n of one picture attends to token n of the others
        return (out, weights) if return_attention else out


# %% [markdown]
# The first three have the right shape at every point: a `reshape` takes numbers in the order in which they lie in
# memory and never complains. The fourth is the classic of `nn.MultiheadAttention`, which expects tokens first unless
# told `batch_first=True`: the pictures of a batch attend to each other.

# %%
GALLERY = {
    "nothing wrong": healthy,
    "reads [0] for [:, 0]": Setup(make=ReadsFirstImage),
    "heads split wrongly": Setup(make=with_attention(WrongSplit)),
    "heads merged wrongly": Setup(make=with_attention(WrongMerge)),
    "softmax, wrong axis": Setup(make=with_attention(WrongSoftmax)),
    "sqrt(D) for sqrt(d)": wide,
    "attends over the batch": Setup(make=with_attention(OverTheBatch)),
    "patches by plain reshape": Setup(make=plain_reshape),
    "positions too loud": Setup(make=loud_positions),
    "no final norm": Setup(make=no_final_norm),
    "head saturated": Setup(make=saturated_head),
    "head frozen": Setup(make=frozen_head),
    "rate 100 times too high": Setup(rate=0.3),
    "schedule per step": stuck,
    "eval() forgotten": forgets_eval,
    "labels of other pictures": mismatched,
}
LADDER = (
    shapes_fail, first_loss_fails, image_fails, patches_fail, company_fails,
    reference_fails, one_batch_fails, rates_fail, signal_fails,
)  # fmt: skip


# %% [markdown]
# A rung that raises an exception has caught something too, so it counts. **Predict before you run:** which bug is
# caught by the fewest rungs? Which rung catches most?


# %%
def caught(rung, setup):
    torch.manual_seed(1)
    try:
        return bool(rung(setup))
    except (RuntimeError, ValueError):
        return True


# %%
verdicts = {name: [caught(rung, setup) for rung in LADDER] for name, setup in GALLERY.items()}
assert not any(verdicts["nothing wrong"])
assert all(any(row) for name, row in verdicts.items() if name != "nothing wrong")

# %% tags=["nbval-ignore-output"]
columns = [name for name, _, _ in RUNGS]
table = torch.tensor(list(verdicts.values())).float()  # (bugs, rungs)
fig, ax = plots.figure(9, 5.6)
limits = {"vmin": -0.3, "vmax": 1.1}
plots.draw_matrix(ax, table, rows=list(verdicts), columns=columns, numbers=False, colour_map="cividis", **limits)
for i, j in table.nonzero().tolist():
    ax.text(j, i, "caught", ha="center", va="center", fontsize=8.5)
ax.set_aspect("auto")
ax.hlines(torch.arange(len(table)) - 0.5, -0.5, len(columns) - 0.5, color="white", linewidth=1)
ax.vlines(torch.arange(len(columns)) - 0.5, -0.5, len(table) - 0.5, color="white", linewidth=1)
ax.tick_params(axis="x", labeltop=True, labelbottom=False, rotation=30, labelsize=9)
ax.set_xticks(range(len(columns)), columns, ha="left")
hits = {name: [c for c, hit in zip(columns, row, strict=True) if hit] for name, row in verdicts.items()}
alt = "; ".join(f"{name}: {', '.join(found) or 'none'}" for name, found in hits.items())
plots.show(fig, f"Which rung catches which bug, measured. {alt}.")
assert table[0].sum() == 0 and bool((table[1:].sum(dim=1) > 0).all())

# %% tags=["nbval-ignore-output"]
counts = {name: sum(row) for name, row in verdicts.items() if name != "nothing wrong"}
for name, count in sorted(counts.items(), key=lambda item: item[1]):
    if count == 1:
        print(f"{name:26} caught by {columns[verdicts[name].index(True)]!r} alone")
silent_bugs = ("sqrt(D) for sqrt(d)", "heads merged wrongly", "softmax, wrong axis")
assert all(hits[name] == ["4 reference"] for name in silent_bugs)
assert hits["labels of other pictures"] == ["7 shuffled labels"]

# %% [markdown]
# Read it by rows, then by columns.
#
# - **Shapes** catch one bug of fifteen. All the others have the right shape at every point.
# - **The reference** catches most, and three to four bugs are caught by *nothing else*: their models start at ln 10,
#   look at every patch, learn their batch and beat the shuffled labels. Among them $\sqrt D$ for $\sqrt d$ and the
#   heads merged without transpose.

# %% [markdown]
# - The reference is blind to what is no formula: a frozen or saturated head, loud positions, a wrong schedule,
#   labels of other pictures. No rung replaces another.
# - **Attention over the batch** passes 3c, which was made for it, and falls at 3a: its class tokens see one another
#   and never a patch. Tests catch bugs that they were not made for, and miss some that they were.

# %% [markdown]
# ## Bugs that train
#
# Seven bugs of the gallery learn their batch by heart and beat the shuffled labels. What do they cost? Our model was
# trained with each, long enough to be good: 2,400 steps, three seeds, recorded by `python tools/measure/sweep.py`.
# (Live, that would be five minutes; the field *eval() forgotten* trains with dropout and is tested with dropout on.)

# %%
record = json.loads((DATA / "runs" / "sweep-shapes.json").read_text())
costs = {}
for run in record["bugs"]:
    costs.setdefault(run["bug"], []).append(100 * run["accuracy"])
means = {bug: sum(values) / len(values) for bug, values in costs.items()}
fig, ax = plots.figure(7.5, 2.9)
ax.axvline(means["nothing wrong"], color="#777777", linewidth=1, dashes=(4, 3))
for row, (bug, values) in enumerate(costs.items()):
    ax.plot(values, [row] * len(values), "o", color=plots.COLOURS[bug != "nothing wrong"], markersize=6)
ax.set_yticks(range(len(costs)), costs, fontsize=9)
ax.invert_yaxis()
ax.set(xlabel="test accuracy (%), one point a seed")
alt = ", ".join(f"{bug} {mean:.0f} %" for bug, mean in means.items())
plots.show(fig, f"Test accuracy with each bug, three seeds. Means: {alt}.")

# %%
for bug, mean in means.items():
    print(f"{bug:26} {mean:.1f} %, {mean - means['nothing wrong']:+.1f} points")
gain = means["patches by plain reshape"] - means["nothing wrong"]
assert means["sqrt(D) for sqrt(d)"] < means["nothing wrong"] - 3 and gain > 5
again = [100 * run["with_eval"] for run in record["bugs"] if run["bug"] == "eval() forgotten"]
print(f"the weights of 'eval() forgotten', tested with eval(): {sum(again) / len(again):.1f} %")

# %% [markdown]
# Every one of them trains, and none would have raised an error:
#
# - $\sqrt D$ costs 5 points, heads split wrongly 2. Three seeds of the *healthy* model lie 4 points apart, so nobody
#   sees the 2 points in a single run.
# - `eval()` forgotten: the same weights are 4 points better with it. (The rest of its gap is the price of dropout in a
#   training this short.)

# %% [markdown]
# - **Patches by plain reshape win 11 points.** Perhaps because a strip crosses the whole shape at once. It is a bug all
#   the same: the code does not do what its author believes, and on other pictures, or with larger patches, the luck
#   may end.
#
# So "it trains" and even "it got better" prove little. Climb the ladder when the model is *well*, too.

# %% [markdown]
# ## How sensitive is it? Rate, warmup, weight decay

# %%
runs = record["runs"]
RATES, DECAYS = (sorted({run[name] for run in runs}) for name in ("learning_rate", "weight_decay"))


def cell(value, **wanted):
    """Values of the runs with these settings, one a seed."""
    return [run[value] for run in runs if all(run[name] == want for name, want in wanted.items())]


# %%
fig, axes = plots.figure(9, 2.9, 1, 2)
for ax, share in zip(axes, (0.0, 0.1), strict=True):
    grid = [
        [100 * torch.tensor(cell("accuracy", learning_rate=r, weight_decay=d, warmup=share)).mean() for r in RATES]
        for d in DECAYS
    ]
    title = f"warmup {share:.0%}: test accuracy (%)"
    plots.draw_matrix(ax, grid, title, rows=DECAYS, columns=RATES, decimals=0, colour_map="cividis", vmin=10, vmax=46)
    ax.set(xlabel="learning rate", ylabel="weight decay")
plots.show(
    fig,
    "Two heat maps of test accuracy over learning rate and weight decay, without and with warmup. Both have one bright "
    "column, at rate 0.003, and darken to both sides; from row to row little changes except at high rates.",
)

# %% [markdown]
# 96 short trainings of our small model, 600 steps of AdamW with cosine each, recorded by
# `python tools/measure/sweep.py`: six rates, four weight decays, with and without warmup, two seeds. A field is the
# mean of the two.
#
# Do not trust a record blindly. Here is its loop, so that you can run two fields again:


# %%
def sweep_run(learning_rate, weight_decay, warmup_share, seed, steps=600):
    torch.manual_seed(seed)
    model = VisionTransformer(CONFIG)
    groups = training.param_groups(model, weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    for step in range(steps):
        rows = slice(32 * step % (len(ALL) - 31), 32 * step % (len(ALL) - 31) + 32)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * training.warmup_cosine((step + 1) / steps, warmup_share)
        loss = F.cross_entropy(model(ALL[rows]), all_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (predict(model, UNSEEN).argmax(dim=1) == test_set.labels).float().mean().item()


# %%
everything, test_set = datasets.shapes("train"), datasets.shapes("test", 1000)
UNSEEN = normalise(test_set.images, CONFIG)
ALL, all_labels = normalise(everything.images, CONFIG), everything.labels

# %% tags=["nbval-ignore-output"]
for rate in (1e-3, 1e-1):
    here = sweep_run(rate, 0.1, 0.1, seed=0)
    there = cell("accuracy", learning_rate=rate, weight_decay=0.1, warmup=0.1)
    print(f"rate {rate}: here {here:.1%}, recorded {there[0]:.1%} and {there[1]:.1%}")
    assert abs(here - sum(there) / 2) < 0.08

# %% [markdown]
# How much does each of the three knobs matter? For each, average over the other two:

# %%
effects, noise = {}, []
for name in ("learning_rate", "weight_decay", "warmup"):
    values = sorted({run[name] for run in runs})
    means = [torch.tensor(cell("accuracy", **{name: value})).mean().item() for value in values]
    effects[name] = max(means) - min(means)
    print(f"{name:14}", ", ".join(f"{v}: {m:.1%}" for v, m in zip(values, means, strict=True)))
for run in runs:
    pair = cell("accuracy", **{name: run[name] for name in ("learning_rate", "weight_decay", "warmup")})
    noise.append(abs(pair[0] - pair[1]))
print(f"two seeds of one field differ by {sum(noise) / len(noise):.1%} on average, by {max(noise):.0%} at most")
assert effects["learning_rate"] > 0.2 > 0.05 > effects["weight_decay"] > effects["warmup"]
assert effects["warmup"] < 0.01

# %%
fig, axes = plots.figure(8.5, 2.8, 1, 2, sharey=True)
for ax, name, values in ((axes[0], "warmup", (0.0, 0.1)), (axes[1], "weight_decay", (0.0, 1.0))):
    for value, marker in zip(values, "os", strict=True):
        points = [[100 * a for a in cell("accuracy", learning_rate=r, **{name: value})] for r in RATES]
        means = [sum(p) / len(p) for p in points]
        (line,) = ax.plot(RATES, means, f"{marker}-", linewidth=2, label=f"{name.replace('_', ' ')} {value}")
        for r, p in zip(RATES, points, strict=True):
            ax.plot([r] * len(p), p, marker, color=line.get_color(), alpha=0.25, markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylim=(8, 54))
    ax.legend(frameon=False, fontsize=9)
axes[0].set_ylabel("test accuracy (%)")
plots.show(
    fig,
    "Test accuracy against learning rate. Left: with and without warmup the means lie on one another. Right: with "
    "weight decay 1 the right side of the hill is higher by several points than with none; the rest agrees.",
)

# %% [markdown]
# What the record says:
#
# - **The rate matters most**, by far: 24 points between the best and the worst. It acts in factors, so
#   search in steps of 3. The left end of the valley on one batch, 0.003, was a good guess.
# - **Weight decay**: nothing at the best rate or below. At rates that are too high, a decay of 1.0 wins back some
#   points, because it keeps the weights from running away.
# - **Warmup**: on average nothing at all, for this model.

# %% [markdown]
# The last point surprises. In notebook 06 a warmup helped when one batch was learned at a rate too high, and
# the large ViTs are trained with one. This model has two blocks, and 600 steps to recover from a bad start; the
# record shows no more than that.
#
# And mind the **noise**: two seeds of one field differ by some 3 points on average, by much more near the edge of what
# the model bears. A single run that is 2 points better has shown nothing. Whoever picks the best of 96 fields reports
# luck; read the *shape* of the map.

# %% [markdown]
# ## Exercises
#
# 7.1 and 7.2 stand above, beside their ideas.
#
# ### Exercise 7.3 · Silent patches
# *write · medium · 8 minutes*
#
# `patch_influence` asked for gradients. Write a test that needs none: change one patch of the picture, and see
# whether the logits move. `silent_patches(model, image, patch_size)` returns the list of the patches that have no
# say, numbered along the rows from 0. `image` is `(C, Y, X)`; the model takes a batch. A patch that moves the logits
# only a little has a say, too. Leave the image as it was.
#
# <details><summary>Hint</summary>
#
# Two loops, over rows and columns of patches. In each, `changed = image.clone()`, add 1 to a square, and compare
# `model(changed[None])` with `model(image[None])`. A list collects the numbers.
#
# </details>


# %% tags=["exercise"]
def silent_patches(model, image, patch_size):
    return ...  # a list of numbers


# %%
check.silent_patches(silent_patches)

# %% [markdown]
# ### Exercise 7.4 · Three bugs in five lines
# *repair · medium · 8 minutes*
#
# This runs, has the right shape, and learns. Three things are wrong. Find them with what you know of the rungs, and
# write it again. `q`, `k`, `v` are `(B, H, N, d)`; the result is `(B, N, H*d)`.
#
# <details><summary>Hint</summary>
#
# One is in each line but the first. Which width belongs into the scale? Which axis must sum to 1? In
# which order do the numbers lie in memory when `reshape` comes?
#
# </details>


# %%
def broken_attention(q, k, v):
    B, H, N, d = q.shape
    scores = q @ k.transpose(-2, -1) / math.sqrt(H * d)
    weights = scores.softmax(dim=-2)
    return (weights @ v).reshape(B, N, H * d)  # (B, N, D)


# %% tags=["exercise"]
def repaired_attention(q, k, v):
    return ...  # the lines above, repaired


# %%
check.repaired_attention(repaired_attention)

# %% [markdown]
# ### Exercise 7.5 · Three patients
# *experiment · medium · 10 minutes*
#
# `patient_a`, `patient_b` and `patient_c` make a model of a config, each with another illness in its attention.
# Examine them; you need no look at their code. Which is which?
#
# - **a** every token attends to itself alone
# - **b** the second half of the patches is never looked at
# - **c** the scores are not scaled
# - **d** the head is saturated
#
# <details><summary>Hint</summary>
#
# The cell below examines patient A on rungs 2 and 3. Look at `patch_influence` for each of them, and at
# `reference_fails` where all else is well.
#
# </details>

# %%
patient = Setup(make=patient_a)
print(f"first loss {first_loss(patient):.2f}, spread over the pictures {spread(patient):.2f}")

# %% tags=["exercise"]
answer = (..., ..., ...)  # a letter for patients A, B and C

# %%
check.patients(answer)

# %% [markdown]
# ### Exercise 7.6 · A schedule for the whole run
# *repair · medium · 5 minutes*
#
# The schedule below was meant to be called once an epoch. It is called once a *step*, and ends the training after
# `epochs` steps. Write it so that it fits a call per step: the same warmup and cosine, over the whole run. `step`
# counts from 0. The progress is the share of all steps that are done, with this one or without it, as you like.
#
# <details><summary>Hint</summary>
#
# `warmup_cosine` wants the progress of the run, from 0 to 1. How many steps are there in all?
#
# </details>


# %%
def broken_schedule(step, steps_per_epoch, epochs):
    return training.warmup_cosine(min(1.0, step / epochs))


# %% tags=["exercise"]
def repaired_schedule(step, steps_per_epoch, epochs):
    return ...


# %%
check.repaired_schedule(repaired_schedule)

# %% [markdown]
# ### Exercise 7.7 · Who was the first?
# *stretch · hard · 12 minutes*
#
# One layer puts out an infinite number or a nan ("not a number"), and three layers later everything is nan. Write the
# tool that names the culprit: `first_broken(model, x)` runs the model and returns the name, as in
# `model.named_modules()`, of the first layer *to run* whose output is not finite, or `""` where all are finite. A
# layer here is a module without children of its own. Leave the model as it was, its mode and its hooks, too.
#
# <details><summary>Hint</summary>
#
# `handle = module.register_forward_hook(hook)` calls `hook(module, inputs, output)` each time the module has run, until
# `handle.remove()`. A list collects names, in the order of running. `torch.isfinite` is False for nan and infinity.
#
# </details>


# %% tags=["exercise"]
def first_broken(model, x):
    return ...  # a name such as "blocks.1.mlp.fc1"


# %%
check.first_broken(first_broken)

# %% [markdown]
# ## Summary
#
# - Read the log first. Ln 10 is a guess; above it means opinions without evidence; between 1.46 and 2.46 lives a
#   softmax too many.
# - Make it small and fast, then climb: shapes, first loss, what the logits depend on, a reference, one batch, rates
#   with gradients, shuffled labels. The cheap rungs say where.
# - A right shape and a falling loss prove little. Some bugs only cost a few points; equality with a reference finds
#   them.
# - Mend one thing at a time. Two faults hide each other.
# - The learning rate comes first, in factors of 3. Weight decay and warmup come later. Look at more than one seed.

# %% [markdown]
# ## What comes next
#
# Your model is sound now, and still knows nothing of pictures before it starts. In **08 Small data** you set it
# against a convolutional network, and find out what helps a ViT when pictures are few.

# %% [markdown]
# ## References
#
# - A. Karpathy: *A Recipe for Training Neural Networks*. 2019. The spirit of this notebook, and several of its rungs.
# - C. Zhang et al.: *Understanding Deep Learning Requires Rethinking Generalization*. ICLR 2017. Shuffled labels,
#   learned by heart.
# - I. Molybog et al.: *A Theory on Adam Instability in Large-Scale Machine Learning*. 2023. Why a quiet run leaps.
# - L. N. Smith: *Cyclical Learning Rates for Training Neural Networks*. WACV 2017. The sweep over learning rates.
# - M. Wortsman et al.: *Small-scale Proxies for Large-scale Transformer Training Instabilities*. ICLR 2024. What
#   warmup and weight decay do to the range of usable rates.
# - I. Loshchilov, F. Hutter: *Decoupled Weight Decay Regularization* (AdamW). ICLR 2019.

# %% [markdown]
# ## Solutions
#
# ### Solution 7.1
# Of 100 exponentials one is $e$, 99 are 1. The cage is exactly 1 wide, for any number of classes.

# %% tags=["solution"]
solution = math.log(math.e + 99) - 1, math.log(math.e + 99)
assert check.softmax_bounds(solution).passed

# %% [markdown]
# ### Solution 7.2
# To learn by heart, the weights must move the right way; whether the labels are true does not matter for that.

# %% tags=["solution"]
assert check.shuffled_batch("c").passed

# %% [markdown]
# ### Solution 7.3
# One patch at a time. `divmod` is not needed where two loops count rows and columns.


# %% tags=["solution"]
def silent_patches_solution(model, image, patch_size):
    _, Y, X = image.shape
    before, silent, number = model(image[None]), [], 0
    for y in range(0, Y, patch_size):
        for x in range(0, X, patch_size):
            changed = image.clone()
            changed[:, y : y + patch_size, x : x + patch_size] += 1
            if torch.allclose(model(changed[None]), before):
                silent.append(number)
            number += 1
    return silent


assert check.silent_patches(silent_patches_solution).passed

# %% [markdown]
# ### Solution 7.4
# The width of a head is $d$, not $D = Hd$. Each query's weights lie along the last axis. And the heads of one token
# must lie side by side in memory before `reshape` joins them.


# %% tags=["solution"]
def repaired_attention_solution(q, k, v):
    B, H, N, d = q.shape
    weights = (q @ k.transpose(-2, -1) / math.sqrt(d)).softmax(dim=-1)  # (B, H, N, N)
    return (weights @ v).transpose(1, 2).reshape(B, N, H * d)  # (B, N, D)


assert check.repaired_attention(repaired_attention_solution).passed

# %% [markdown]
# ### Solution 7.5
# All three start at ln 10, so no head is saturated. C's logits do not depend on the picture: its class token sees
# itself alone. Half of A's patches have no influence. B passes everything but the reference.

# %% tags=["solution"]
for name, make in (("A", patient_a), ("B", patient_b), ("C", patient_c)):
    influence = patch_influence(make(CONFIG), IMAGES[:4]).mean(dim=0)
    print(f"patient {name}: spread {spread(Setup(make=make)):.2f}, silent patches {int((influence < 1e-9).sum())},",
          "differs from the reference" if reference_fails(Setup(make=make)) else "as the reference")  # fmt: skip
assert check.patients(("b", "c", "a")).passed

# %% [markdown]
# ### Solution 7.6
# Steps divided by all steps. `step + 1` is right, too: then this step counts as done, as in `sweep_run` above.


# %% tags=["solution"]
def repaired_schedule_solution(step, steps_per_epoch, epochs):
    return training.warmup_cosine(min(1.0, step / (steps_per_epoch * epochs)))


assert check.repaired_schedule(repaired_schedule_solution).passed

# %% [markdown]
# ### Solution 7.7
# Layers run in the order of `forward`, which need not be the order in which they were made; hooks see the real one.
# Put a fault into a ViT, and the tool finds it:


# %% tags=["solution"]
def first_broken_solution(model, x):
    broken, handles = [], []
    for name, module in model.named_modules():
        if not list(module.children()):

            def hook(module, inputs, output, name=name):
                if not torch.isfinite(output).all():
                    broken.append(name)

            handles.append(module.register_forward_hook(hook))
    model(x)
    for handle in handles:
        handle.remove()
    return broken[0] if broken else ""


assert check.first_broken(first_broken_solution).passed
poisoned = VisionTransformer(CONFIG)
poisoned.blocks[1].mlp.fc1.bias.data[0] = math.inf
first_broken_solution(poisoned, torch.randn(1, 3, 32, 32))
