# %% [markdown]
# # 08 · Small data
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - say what a convolutional network knows before it has seen an image, and a ViT does not,
# - compare two models fairly: equal parameters, equal steps (few and many), several seeds,
# - compute how far a network sees, and say what a sum of far places cannot tell,
# - stretch few images by augmentation, from crop to CutMix, and measure what pays,
# - choose a model for the number of images and steps that you have.
#
# About {minutes} minutes to read and do, in two parts; 60 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import json
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from vit_tutorial import VisionTransformer, check, course, datasets, normalise, patchify, plots, training, unpatchify
from vit_tutorial.files import DATA
from vit_tutorial.training.augment import colour_jitter, cutmix, mixup
from vit_tutorial.training.optimizer import make_optimizer
from vit_tutorial.widgets import interactive_figure

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(8)

# %% [markdown]
# ## Two questions about images

# %%
shapes, pairs = datasets.shapes("test"), datasets.same_or_different("test")
fig, axes = plots.figure(9, 2.6, 2, 8)
for ax, i in zip(axes.flat, [*range(8)] * 2, strict=True):
    data = shapes if ax in axes[0] else pairs
    plots.draw_image(ax, data.images[i], data.classes[data.labels[i]])
plots.show(
    fig,
    "Upper row: eight images with one textured shape each and its name. Lower row: eight images with a circle or a "
    "cross in each of two opposite corners, titled same or different.",
)

# %% [markdown]
# **Upper row: which of ten shapes is it?** All that gives the answer away lies close together, in one place. We call
# that a *local* question.
#
# **Lower row: are the two shapes the same?** Each is a circle or a cross. Cover one of them with your thumb: the other
# says nothing. The answer needs two places that are far apart. We call that a *global* question.

# %% [markdown] tags=["predict"]
# **Predict before you run.** You have 400 images of each kind, and train a ViT, in which every patch looks at every
# patch, and a convolutional network, which looks at 3 x 3 pixels at a time. Which one wins which row?
#
# - a: the convolutional network wins both
# - b: the convolutional network wins the upper row, the ViT the lower one
# - c: the ViT wins both
#
# Write your letter down. The upper row is decided first, the lower one further down.

# %% [markdown]
# ## What a convolution knows beforehand
#
# A **convolution** slides one small filter over the image and writes down, at each place, how well it fits. In one
# dimension, with a filter of two numbers:

# %%
signal = torch.tensor([0.0, 0, 1, 1, 1, 0, 0, 0, 0, 0])  # dark, a bright bar, dark
edge = torch.tensor([-1.0, 1.0])  # right neighbour minus left neighbour
found = F.conv1d(signal[None, None], edge[None, None])[0, 0]
found

# %% [markdown]
# +1 where the bar begins, -1 where it ends. By hand: at the second place, $-1 \cdot 0 + 1 \cdot 1 = 1$. Now the bar
# moves three places to the right:

# %%
moved = F.conv1d(signal.roll(3)[None, None], edge[None, None])[0, 0]
moved

# %% [markdown]
# The same numbers, three places on. A filter that has learned to find an edge *here* finds it *everywhere*. That, and
# that near pixels belong together, is built into a **convolutional network** (CNN) before it sees any data: its
# **inductive bias**.
#
# A ViT shares its patch embedding between all patches, so it has some of this too. But nothing in it says which patches
# are neighbours (notebook 02), and a shape that moves by less than a patch gives quite different patches:

# %%
bar = torch.zeros(1, 1, 8, 24)
bar[..., 3:7] = 1.0
here, there = (patchify(image, 8)[0].mean(dim=1) for image in (bar, bar.roll(3, dims=3)))
print("how bright the three patches are:       ", [f"{v:.3f}" for v in here.tolist()])
print("the same with the bar 3 pixels further: ", [f"{v:.3f}" for v in there.tolist()])
assert not torch.allclose(here, there) and torch.equal(moved, found.roll(3))

# %% [markdown]
# That this is still the same bar, a ViT has to learn from images.

# %% [markdown]
# ## A small CNN
#
# Four stages. Each has a convolution (what is here?), a **pool** (of every 2 x 2 places keep the largest: half as many
# rows and columns), a norm and a ReLU, which sets negatives to 0. **BatchNorm** normalises each channel over the batch
# and all places; the LayerNorm of a ViT normalises each token on its own.
#
# At the end the *mean over all places* is taken, and a Linear reads the classes from it, as in a ViT with
# `pool="mean"`.


# %%
class ConvNet(nn.Module):
    def __init__(self, config, widths=(16, 32, 64, 154), kernels=(3, 3, 3, 3), hidden=0):
        super().__init__()
        self.config, layers, channels = config, [], config.in_channels
        for width, kernel in zip(widths, kernels, strict=True):
            layers.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False))
            layers += [nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, config.num_classes)
        if hidden:  # used once, further down
            self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, config.num_classes))

    def forward(self, images):
        images = images.contiguous(memory_format=torch.channels_last)  # the order in memory that convolves faster
        return self.head(self.features(images).mean(dim=(2, 3)))  # (B, num_classes)


# %% [markdown]
# And a ViT of the same size. The course's ViT for shapes has patches of 4 pixels; with patches of 8 it has a quarter
# of the patches and trains in seconds:

# %%
usual = training.RECIPES["shapes"]
small = replace(usual.model, patch_size=8, embed_dim=64, depth=3)
vit_recipe = replace(usual, model=small, batch_size=128, ema=0.0)
cnn_recipe = replace(vit_recipe, learning_rate=5e-3, muon_learning_rate=0.0)  # AdamW moves all of it

# %%
WIDE = {"widths": (16, 32, 64, 154), "kernels": (3, 3, 3, 3)}
NARROW = {"widths": (16, 64, 160, 512), "kernels": (3, 3, 1, 1)}  # comes in later


def make_model(kind, dataset, seed=0):
    torch.manual_seed(seed)
    config = vit_recipe.config(dataset)
    return {
        "vit": lambda: VisionTransformer(config),
        "vit without positions": lambda: VisionTransformer(replace(config, position="none")),
        "cnn": lambda: ConvNet(config, **WIDE),
        "narrow cnn": lambda: ConvNet(config, **NARROW),
        "narrow cnn, hidden layer": lambda: ConvNet(config, **NARROW, hidden=64),
    }[kind]()


# %%
sizes = {kind: sum(p.numel() for p in make_model(kind, shapes).parameters()) for kind in ("vit", "cnn")}
print(sizes)
assert abs(sizes["cnn"] / sizes["vit"] - 1) < 0.02

# %% [markdown]
# Equal to {=100 * abs(sizes["cnn"] / sizes["vit"] - 1):.1f} %; the odd 154 was chosen for that. Equal parameters do not
# mean equal work: a filter's few weights are used at every pixel. How many numbers does such a net learn?
#
# ### Exercise 8.1 · Count a CNN
# *write · medium · 6 minutes*
#
# Count the learned numbers of `ConvNet` (without `hidden`) for any `widths`, `kernels`, input `channels` and `classes`.
#
# <details><summary>Hint</summary>
#
# A convolution from `a` to `b` channels with a kernel of `k` has `a * b * k * k` weights, and here no bias. A norm has
# two numbers per channel. Do not forget the head. The number above must come out.
#
# </details>


# %% tags=["exercise"]
def convnet_parameters(widths, kernels, channels, classes):
    return ...


# %%
check.convnet_parameters(convnet_parameters)

# %% [markdown]
# ## A fair race
#
# Every model gets **250 steps of 128 images**, however few different ones there are. With 400 images, each is seen
# 80 times; with 6,400, five times. So a curve over the number of images shows what more *data* buys, at equal
# training. (With 100, a batch is all of them.)
#
# Each model has an optimiser and a learning rate of its own: Muon and AdamW for the ViT, AdamW alone for the CNN. So we
# compare two recipes, not two models alone.
#
# An `augment` takes a batch of images with their labels, and returns changed ones. Crop and flip you know from 06; the
# others come in the second part.

# %%
augmentations = {
    "none": lambda images, labels: (images, labels),
    "crop": lambda images, labels: (training.random_crop_flip(images, crop=2, flip=False), labels),
    "crop and flip": lambda images, labels: (training.random_crop_flip(images, crop=2), labels),
    "colour jitter": lambda images, labels: (colour_jitter(images), labels),
    "mixup": lambda images, labels: mixup(images, labels, 10),
    "CutMix": lambda images, labels: cutmix(images, labels, 10),
    "crop, flip, mixup": lambda images, labels: mixup(training.random_crop_flip(images, crop=2), labels, 10),
    "crop, flip, CutMix": lambda images, labels: cutmix(training.random_crop_flip(images, crop=2), labels, 10),
}


# %%
def fit(model, dataset, steps=250, augment=augmentations["crop and flip"], seed=0, after_step=None):
    torch.manual_seed(seed)
    recipe = cnn_recipe if isinstance(model, ConvNet) else vit_recipe
    optimizer = make_optimizer(model, recipe)
    schedule = LambdaLR(optimizer, lambda step: training.warmup_cosine(step / steps, recipe.warmup))

    def batches():
        for _ in range(steps):
            index = torch.randperm(len(dataset))[: recipe.batch_size]  # 128 different images
            images, targets = augment(dataset.images[index], dataset.labels[index])
            yield normalise(images, model.config), targets

    training.train_epoch(model, batches(), optimizer, schedule, recipe.label_smoothing, after_step=after_step)
    return model.eval()


# %% [markdown]
# ## The local question
#
# First one race here and now, on 1,600 images of shapes.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Both models have the same number of weights, the same images and the same 250 steps. How
# far apart will they end on the test images?
#
# - a: less than 5 points
# - b: between 5 and 20 points
# - c: more than 20 points

# %% tags=["nbval-ignore-output"]
few = datasets.shapes("train", 1600)
vit, cnn = fit(make_model("vit", few), few), fit(make_model("cnn", few), few)
vit_accuracy, cnn_accuracy = (training.evaluate(model, shapes).accuracy for model in (vit, cnn))
print(f"1,600 images, 250 steps: ViT {vit_accuracy:.0%}, CNN {cnn_accuracy:.0%}")

# %%
assert cnn_accuracy > 0.95 and 0.55 < vit_accuracy < 0.9
record = json.loads((DATA / "runs" / "small-data.json").read_text())


def recorded(value="accuracy", task="shapes", steps=250, **wanted):
    wanted |= {"task": task, "steps": steps}
    return [run[value] for run in record["runs"] if wanted.items() <= run.items()]


def mean(values):
    return 100 * sum(values) / len(values)  # per cent


# %% [markdown]
# c: about {=round(100 * (cnn_accuracy - vit_accuracy), -1):.0f} points. Is that the luck of one run? More of them were
# run beforehand by `tools/measure/small_data.py`, which takes the classes and the loop above from this notebook: four
# numbers of images, three seeds each (other images, other first weights). `recorded` finds them. Every dot is one run:


# %%
def draw_curve(ax, model, counts, colour, label, marker="o", **which):
    runs = [recorded(model=model, count=n, augmentation="crop and flip", **which) for n in counts]
    ax.plot(counts, [mean(values) for values in runs], color=colour)
    ax.plot([], [], marker, linestyle="-", color=colour, label=label)  # for the legend
    for n, values in zip(counts, runs, strict=True):
        ax.plot([n] * len(values), [100 * v for v in values], marker, color=colour, markersize=5, alpha=0.7)
    ax.set(xscale="log", xlabel="different training images", ylim=(0, 103), ylabel="test accuracy (%)")
    ax.set_xticks(counts, [f"{n:,}" for n in counts], minor=False)
    ax.minorticks_off()
    return f"{label}: {', '.join(f'{mean(values):.0f} % with {n:,}' for n, values in zip(counts, runs, strict=True))}."


counts = (100, 400, 1600, 6400)
fig, ax = plots.figure(6, 2.8)
alt = [
    draw_curve(ax, model.lower(), counts, plots.COLOURS[i], model, marker)
    for i, model, marker in ((1, "CNN", "s"), (0, "ViT", "o"))
]
ax.axhline(10, color="#888888", linewidth=0.8)
ax.text(4500, 12, "chance", fontsize=9, color="#555555")
ax.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.4))
plots.show(fig, f"Accuracy on shapes over the number of training images, mean of three seeds. {' '.join(alt)}")

# %%
cnn_400, vit_6400 = recorded(model="cnn", count=400), recorded(model="vit", count=6400)
assert min(cnn_400) > max(vit_6400)  # in every seed
assert abs(recorded(model="vit", count=1600, seed=0)[0] - vit_accuracy) < 0.12  # the run above and the recorded one

# %% [markdown]
# Not luck. Within 250 steps, the CNN with 400 images (the worst seed {=100 * min(cnn_400):.1f} %) beats the ViT with
# sixteen times as many (the best seed {=100 * max(vit_6400):.1f} %).
#
# But what does the ViT lack? From 1,600 to 6,400 images its curve is nearly flat, and with 6,400 it is right in only
# {=mean(recorded("train_accuracy", model="vit", count=6400)):.0f} % of its *own training images*. More images would
# hardly help it there. More steps may.

# %% [markdown] tags=["predict"]
# **Predict before you run.** The same ViT got 1,000 steps instead of 250, in two recorded runs. What did it reach with
# 6,400 images?
#
# - a: about the same as before
# - b: about half-way to the CNN
# - c: about as much as the CNN

# %%
more_steps = {n: recorded(model="vit", count=n, augmentation="crop and flip", steps=1000) for n in (500, 6400)}
for n, runs in more_steps.items():
    shorter = recorded(model="vit", count=n, augmentation="crop and flip")
    print(f"{n:5,} images: {mean(shorter):.0f} % after 250 steps, {mean(runs):.0f} % after 1,000")

# %% [markdown]
# c. The ViT can learn the question; 250 steps were too few. With 500 images it now reaches
# {=mean(more_steps[500]):.0f} %. The CNN still needs least: 400 images and 250 steps for {=mean(cnn_400):.0f} %. So it
# saves images and steps, and how much it seems to save depends on where you stop. Whoever compares two models at one
# number of steps only, as we did at first, may take a slow learner for a bad one.

# %% [markdown]
# ## How far does a network see?
#
# Now the global question. A CNN looks at 3 x 3 pixels at a time. Can it compare two corners? Ask the network itself:
# take *one* of the 2 x 2 places that the last stage ends with, and ask by gradient which pixels can change it. Here
# for our CNN, and for a **narrow** one whose last two kernels are 1 x 1 (with more channels, so nearly as many
# weights):


# %%
def pixels_seen(model):
    images = torch.randn(200, 3, 32, 32, requires_grad=True)
    model.eval().features(images)[:, :, 0, 0].sum().backward()  # the upper left place of 2 x 2
    return images.grad.abs().sum(dim=(0, 1)) > 0  # (Y, X): does the pixel matter in any image?


# %%
torch.manual_seed(0)
seen = {name: pixels_seen(make_model(kind, pairs)) for name, kind in (("CNN", "cnn"), ("narrow CNN", "narrow cnn"))}
for name, pixels in seen.items():
    print(f"{name}: {pixels.any(dim=1).sum()} rows and {pixels.any(dim=0).sum()} columns of 32")

# %%
upper_left = pairs.masks[:, :16, :16].any(dim=(1, 2))  # (2000,): is one of the two shapes there?
example = int((upper_left & (pairs.labels == 0)).nonzero()[0])
fig, axes = plots.figure(6.5, 2.3, 1, 3)
plots.draw_image(axes[0], pairs.images[example], "the image: different")
for ax, (name, pixels) in zip(axes[1:], seen.items(), strict=True):
    image = torch.where(pixels, pairs.images[example], pairs.images[example] // 5)  # dark: not seen
    plots.draw_image(ax, image, f"seen by one place, {name}")
plots.show(
    fig,
    "An image with two shapes in opposite corners, and what one place of the last stage sees of it: all but the "
    "last row and column in the CNN, the upper left 19 by 19 pixels, with one of the two shapes, in the narrow one.",
)
assert not pairs.masks[upper_left, 16:19, 16:19].any()  # the rim holds nothing of the other shape

# %% [markdown]
# This is the **receptive field**. Each place of the narrow net sees a quarter of the image and a rim of three pixels,
# so one of the two shapes and, in all our test images, not a pixel of the other. That of our CNN sees all
# but the last row and column, in four steps of 3 x 3. How does it get so far?
#
# Count *steps*: how many pixels apart are two neighbouring places? At first 1. A kernel of $k$ adds $k-1$ neighbours,
# each one step away. A pool adds one neighbour, and after it a step is twice as many pixels. For the narrow net:
#
# | stage | kernel | step, in pixels | after the kernel | after the pool |
# |---|---|---|---|---|
# | 1 | 3 | 1 | 1 + 2 · 1 = 3 | 3 + 1 = 4 |
# | 2 | 3 | 2 | 4 + 2 · 2 = 8 | 8 + 2 = 10 |
# | 3 | 1 | 4 | 10 | 10 + 4 = 14 |
# | 4 | 1 | 8 | 14 | 14 + 8 = 22 |

# %% [markdown]
# 22 pixels; the figure shows 19, because the field of a corner place sticks out of the image by 3. A ViT needs no such
# sum: after *one* attention each token can have heard of all patches.
#
# ### Exercise 8.2 · How far?
# *write · medium · 6 minutes*
#
# Write it as a function: `kernels` of any length, each followed by a 2 x 2 pool.
#
# <details><summary>Hint</summary>
#
# Keep two numbers, the field (at first 1) and the step (at first 1). Four lines in a loop. Our CNN, `(3, 3, 3, 3)`,
# must give 46.
#
# </details>


# %% tags=["exercise"]
def receptive_field(kernels):
    return ...


# %%
check.receptive_field(receptive_field)

# %% [markdown]
# ## What a sum cannot do
#
# The narrow net looks at each quarter on its own, takes the mean, and reads the answer off with a Linear. So its score
# for "same" is a *sum*: what one shape gives plus what the other gives. Let a circle give $a$ and a cross $b$:

# %%
a, b = 1.0, -1.0  # any two numbers
scores = {"circle, circle (same)": a + a, "circle, cross (different)": a + b, "cross, cross (same)": b + b}
for pair, score in scores.items():
    print(f"{pair:26} {score:+.1f}")

# %% [markdown]
# Whatever $a$ and $b$ are, $a+b$ lies exactly half-way between $a+a$ and $b+b$. "Different" is always in the middle.
#
# ### Exercise 8.3 · The best sum
# *predict · medium · 3 minutes*
#
# You say "same" where the score is above a threshold of your choice, and "different" otherwise. Half of the images
# are different, a quarter two circles, a quarter two crosses. Which fraction can be right at best?
#
# <details><summary>Hint</summary>
#
# Draw the three scores on a line. Put the threshold into each gap, and outside, and count.
#
# </details>

# %% tags=["exercise"]
answer = ...

# %%
check.best_sum(answer)

# %% [markdown]
# Training does not even look for that. It lowers the cross-entropy, which is about *probabilities*. At a score $s$ the
# probability of "same" is `sigmoid(s)`, and minus its logarithm is `softplus(-s)`; where "different" is right, the
# cross-entropy is `softplus(s)`. Try many $a$ and $b$ at once:

# %%
a, b = torch.arange(-40, 41)[:, None] / 10, torch.arange(-40, 41) / 10  # from -4 to 4
loss = (F.softplus(-2 * a) + F.softplus(-2 * b) + 2 * F.softplus(a + b)) / 4  # (81, 81)
row, column = divmod(int(loss.argmin()), 81)
print(f"lowest at a = {a[row, 0]:.1f}, b = {b[column]:.1f}: {loss.min():.4f}")

# %% [markdown]
# By this loss, the best that a sum can do is to say nothing: probability one half for every pair, at a loss of
# ln 2 = 0.6931.

# %% [markdown]
# ## The global question
#
# The ViT sees both shapes. It gets 1,600 images, and 400 steps this time.

# %% [markdown] tags=["predict"]
# **Predict before you run.** The loss starts near $\ln 2 = 0.69$, a guess between two. What will its curve look like?
#
# - a: it falls from the first steps on
# - b: it stays where it is for a long while, and then falls
# - c: it stays where it is to the end

# %% tags=["nbval-ignore-output"]
many, losses = datasets.same_or_different("train", 1600), []
pair_vit = fit(make_model("vit", many), many, steps=400, after_step=losses.append)
pair_accuracy = training.evaluate(pair_vit, pairs).accuracy
fig, ax = plots.figure(6, 2.4)
ax.axhline(0.693, color="#888888", linewidth=0.8)
ax.text(400, 0.71, "ln 2", fontsize=9, color="#555555", ha="right")
ax.plot(losses, linewidth=1)
ax.set(xlabel="step", ylabel="training loss", ylim=(0, 0.9))
every_50 = ", ".join(f"{loss:.2f}" for loss in losses[::50])
plots.show(fig, f"The ViT's training loss on same or different, every 50 steps from the first: {every_50}.")
print(f"ViT, 1,600 images, 400 steps: {pair_accuracy:.0%}")

# %%
assert pair_accuracy > 0.8 and sum(losses[20:60]) / 40 > 0.6
smooth = torch.tensor(losses).unfold(0, 20, 1).mean(dim=1)  # over 20 steps
begins, ends = (int((smooth < level).nonzero()[0]) + 10 for level in (0.65, 0.25))

# %% [markdown]
# b: a plateau of about {=round(begins, -1):d} steps, then a slope down to about step {=round(ends, -1):d}. Notebook 07
# taught you to suspect a loss that sits at $\ln K$. Here nothing is broken; it takes patience. A likely reason for the
# plateau: to tell circles from crosses does not lower the loss as long as they are not compared, and there is nothing
# to compare as long as they are not told apart. Now the recorded runs, all of 400 steps:

# %%
both, counts = {"task": "same_or_different", "steps": 400}, (400, 1600, 6400)
narrow, bent = (recorded(model=f"narrow cnn{tail}", **both) for tail in ("", ", hidden layer"))
fig, ax = plots.figure(6, 3)
alt = [
    draw_curve(ax, "narrow cnn", counts[2:], plots.COLOURS[2], "narrow CNN, a place sees 22 pixels", "^", **both),
    draw_curve(ax, "cnn", counts, plots.COLOURS[1], "CNN, a place sees 46 pixels", "s", **both),
    draw_curve(ax, "vit", counts, plots.COLOURS[0], "ViT, a token sees everything", **both),
]
ax.axhline(50, color="#888888", linewidth=0.8)
ax.text(400, 51, "chance", fontsize=9, color="#555555")
ax.set(ylim=(40, 103))
ax.legend(frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1, 0.45))
plots.show(fig, f"Accuracy on same or different over the number of images, mean of three seeds. {' '.join(alt)}")

# %%
vit_400, vit_1600 = (recorded(model="vit", count=n, **both) for n in (400, 1600))
cnn_400 = recorded(model="cnn", count=400, **both)
assert min(cnn_400) > max(vit_400) and max(narrow) < 0.55
assert abs(vit_1600[0] - pair_accuracy) < 0.15  # the run above and the recorded one

# %% [markdown]
# So a was the right letter at the beginning, and that is not what you may have read elsewhere.
#
# **Attention is not the only way.** Our CNN sees nearly the whole image after four pools. With 400 images it makes at
# most {=2000 * (1 - min(cnn_400)):.0f} mistake in 2,000, where the three ViTs are right in
# {=100 * sorted(vit_400)[0]:.0f}, {=100 * sorted(vit_400)[1]:.0f} and {=100 * sorted(vit_400)[2]:.0f} %. This time the
# ViT lacks images: of the 400 that it was trained on it has
# {=100 * min(recorded("train_accuracy", model="vit", count=400, **both)):.0f} % right, or more.
#
# On 32 x 32 pixels four stages suffice. For 224 pixels your function asks for seven; attention needs one block.

# %% [markdown]
# **A sum does not compare.** The narrow net stays at chance, even with 6,400 images
# ({=100 * min(narrow):.0f} to {=100 * max(narrow):.0f} %).

# %% [markdown]
# Is the question as global as we say? Black out the lower half of each image, and with it one of the two shapes. The
# CNN, which learned fastest, gets 100 steps with both shapes and 100 steps with one:


# %%
def cover(data):
    return replace(data, images=data.images * (torch.arange(32) < 16)[:, None])  # (32, 1): the lower rows become 0


half = cover(many)
in_full = training.evaluate(fit(make_model("cnn", many), many, steps=100), pairs).accuracy
covered = training.evaluate(fit(make_model("cnn", half), half, steps=100), cover(pairs)).accuracy
print(f"both shapes: {in_full:.1f}, one shape: {covered:.1f}")
assert in_full > 0.96 and abs(covered - 0.5) < 0.05

# %% [markdown]
# With one shape hidden, the same net in as many steps stays at a coin's accuracy: neither colour nor size nor angle of
# the visible shape gave it the answer away.

# %% [markdown] tags=["predict"]
# **Predict before you run.** The mean at the end of the narrow net can hold *how many* of the two shapes are crosses.
# Behind it we put a hidden layer with a ReLU, and change nothing else: no place sees further than before. Does it
# learn to compare?
#
# - a: no, the two shapes still never meet
# - b: yes, for now something bends after they have met in the mean

# %%
print(f"narrow CNN: {max(narrow):.1%} at most; with a hidden layer after the mean: {min(bent):.1%} to {max(bent):.1%}")

# %% [markdown]
# b. First collect, then bend: that is what it takes, and a wide view is only one way to it. A ViT's block does both:
# attention collects from all places, and the MLP behind it bends. (Exercise 8.8 lets you build that bend by hand.)

# %% [markdown] tags=["stop"]
# **A good place to stop.** You have set two models a fair race, computed how far each sees, and seen what a sum of far
# places cannot tell. The second part asks what the ViT has learned in its 250 steps, and stretches few images by
# augmentation. If you come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## Shuffle the patches
#
# The ViT reads shapes less well than the CNN. What, then, has it learned? Tear its images apart:

# %%
torch.manual_seed(0)
P = vit.config.patch_size
order = torch.randperm(16)  # place i gets patch order[i]


def shuffled(images, order):
    patches = patchify(images, P)  # (B, 16, 3*P*P)
    return unpatchify(patches[:, order], P, 32)  # (B, 3, 32, 32)


mixed = shuffled(shapes.images[:8], order)
fig = plots.image_grid(
    torch.cat([shapes.images[:8], mixed]), [shapes.classes[i] for i in shapes.labels[:8]] * 2, size=0.9
)
plots.show(fig, "Eight test images, and the same with their sixteen patches in another order: the outlines are torn.")

# %% [markdown]
# All pixels are still there, and every patch is whole. Only the order is lost, the same one for all images.
#
# ### Exercise 8.4 · A fresh order for each
# *write · medium · 6 minutes*
#
# `shuffled` gives all images one order. Write a function that gives each image an order of its own; no loop is needed.
# `orders (B, N)` holds them, and place `i` of image `b` gets its patch `orders[b, i]`.
#
# <details><summary>Hint</summary>
#
# `patchify` gives `(B, N, D)`. Index it with *two* tensors: the image, `torch.arange(B)[:, None]`, and `orders`.
#
# </details>


# %% tags=["exercise"]
def shuffle_patches(images, patch_size, orders):
    return ...  # (B, C, Y, X)


# %%
check.shuffle_patches(shuffle_patches)

# %% [markdown]
# For comparison we train a ViT *without* positions on the same 1,600 images. It has never been told where a patch lies,
# so it cannot notice:

# %%
nowhere = fit(make_model("vit without positions", few), few)
with torch.no_grad():
    before = nowhere(normalise(shapes.images, nowhere.config))  # (2000, 10)
    after = nowhere(normalise(shuffled(shapes.images, order), nowhere.config))
assert torch.allclose(before, after, atol=1e-3)
print("without positions: the same logits, shuffled or not")

# %% [markdown] tags=["predict"]
# **Predict before you run.** The CNN and the ViT from the first race, both trained on whole images, are tested on
# shuffled ones. Which of them loses more points?
#
# - a: the ViT
# - b: the CNN
# - c: both about the same

# %%
each = torch.cat([shuffled(image[None], torch.randperm(16)) for image in shapes.images])  # a new order per image
tests = {
    "whole": shapes,
    "one order for all": replace(shapes, images=shuffled(shapes.images, order)),
    "an order for each": replace(shapes, images=each),
}
models = {"CNN": cnn, "ViT": vit, "ViT without positions": nowhere}
results = {
    name: [100 * training.evaluate(model, test).accuracy for test in tests.values()] for name, model in models.items()
}

# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(6.5, 2.6)
for i, (name, values) in enumerate(results.items()):
    bars = ax.bar([x + 0.27 * (i - 1) for x in range(3)], values, 0.25, label=name, color=plots.COLOURS[(1, 0, 5)[i]])
    ax.bar_label(bars, fmt="%.0f", fontsize=9)
ax.axhline(10, color="#888888", linewidth=0.8)
ax.text(2.45, 12, "chance", fontsize=9, color="#555555")
ax.set_xticks(range(3), tests)
ax.set(ylabel="test accuracy (%)", ylim=(0, 115), xlim=(-0.5, 2.85))
ax.legend(frameon=False, fontsize=9, loc="upper right")
alt = ". ".join(f"{name}: {', '.join(f'{value:.0f}' for value in values)}" for name, values in results.items())
plots.show(fig, f"Test accuracy in per cent on images that are {', '.join(tests)}. {alt}.")

# %%
whole, one_order, own_order = zip(*results.values(), strict=True)  # each: CNN, ViT, ViT without positions
assert whole[0] - one_order[0] > 50 and whole[0] - own_order[0] > 50
assert whole[1] - one_order[1] < 20 and whole[1] - own_order[1] < 20 and abs(whole[1] - whole[2]) < 15
assert abs(whole[2] - one_order[2]) < 0.5 and abs(whole[2] - own_order[2]) < 0.5

# %% [markdown]
# b, and by far. The CNN falls to about {=round(one_order[0], -1):.0f} %. Two reasons are likely: it reads what lies
# beside what, and between shuffled patches run edges that it has never seen. Our ViT loses little. It *has* positions
# and was free to use them; it made almost nothing of them, and the ViT without any is about as good.
#
# So what has it learned? To read a **bag of patches**: what lies *inside* the patches (a point, a curve, a corner), in
# whatever order they come. (On ImageNet, too, ViTs lose less by shuffling than ResNets: Naseer et al. 2021.)

# %% [markdown]
# Does it come to use its positions when it has more steps? Here are recorded runs of 1,000 steps on 500 images, two of
# each model:

# %%
for model in ("vit", "vit without positions"):
    which = {"model": model, "count": 500, "augmentation": "crop and flip", "steps": 1000}
    print(f"{model}: whole {mean(recorded(**which)):.0f} %, shuffled {mean(recorded('shuffled', **which)):.0f} %")

# %% [markdown]
# Hardly: the ViT without positions is as good, and the one with them loses little. Nor does it need them: with 6,400
# images and 1,000 steps a ViT is right in
# {=mean(recorded("shuffled", model="vit", count=6400, steps=1000)):.0f} % of the *shuffled* images. The insides of
# patches of 8 x 8 pixels are enough to tell our ten shapes. The CNN answers the same question in another way, and
# accuracy on whole images does not show the difference.

# %% [markdown]
# ### Exercise 8.5 · Why does nothing change?
# *experiment · medium · 6 minutes*
#
# The cell below asks two *untrained* ViTs without positions, one with a class token and one with `pool="mean"`. Change
# it: try `position="learned"`, other orders, `shuffled(x, order)` twice. Why do the logits stay the same without
# positions?
#
# - **a** because it learned during training that the order does not matter
# - **b** because without positions the patches do not reach the class token
# - **c** because attention and MLP treat the tokens as a set; nothing says where a token stood
# - **d** because only the class token (or the mean) is read in the end
#
# <details><summary>Hint</summary>
#
# Untrained models learned nothing. And the ViT *with* positions reads its class token too.
#
# </details>

# %%
for pool in ("cls", "mean"):
    fresh_vit = VisionTransformer(replace(nowhere.config, position="none", pool=pool))
    x = normalise(shapes.images[:20], fresh_vit.config)
    with torch.no_grad():
        print(f"{pool:4} the same: {torch.allclose(fresh_vit(x), fresh_vit(shuffled(x, order)), atol=1e-5)}")

# %% tags=["exercise"]
answer = ...  # "a", "b", "c" or "d"

# %%
check.shuffled_answers(answer)

# %% [markdown]
# ## Stretch what you have: augmentation

# %%
torch.manual_seed(3)
picks = torch.cat([(shapes.labels == label).nonzero()[:1, 0] for label in (2, 8, 5, 7, 6, 9)])  # arrow second
sample, names = shapes.images[picks], shapes.labels[picks]
stretched = {
    "as drawn": sample,
    "crop": training.random_crop_flip(sample, crop=4, flip=False),
    "flip": sample.flip(3),
    "colour\njitter": colour_jitter(sample),
    "mixup": mixup(sample, names, 10)[0].to(torch.uint8),
    "CutMix": cutmix(sample, names, 10)[0],
}
fig, axes = plots.figure(6.2, 5.6, 6, 6)
for row, (name, images) in zip(axes, stretched.items(), strict=True):
    for ax, image in zip(row, images, strict=True):
        plots.draw_image(ax, image)
    row[0].text(-4, 16, name, ha="right", va="center", fontsize=10)
plots.show(
    fig,
    "Six images in six rows: as drawn; shifted; mirrored; in other colours and brightness; blended with their "
    "left neighbour; with a box of their left neighbour pasted in.",
)

# %% [markdown]
# Images are expensive; changes to them are free. Each change must keep the answer true:
#
# - **crop**: a shift, here by up to four pixels. A star is a star three pixels further on.
# - **flip**: a mirrored crescent is a crescent. But a mirrored *b* is a *d*, and a mirrored left-turn sign is
#   dangerous.
# - **colour jitter**: brightness, contrast and saturation by random factors. Harmless for shapes, wrong for ripe and
#   unripe tomatoes.
#
# In the last two rows each image has something of its neighbour to the left (the first, of the last). What is the
# *right* answer there?

# %% [markdown]
# ## Two pictures, two labels


# %%
def draw_mix(kind, share):
    own, other = shapes.images[picks[1]], shapes.images[picks[2]]
    side = round(32 * (1 - share) ** 0.5)  # a box with the other's share of the area
    image = torch.lerp(other.float(), own.float(), share).to(torch.uint8)
    if kind == "CutMix":
        image = own.clone()
        image[:, 32 - side :, 32 - side :] = other[:, 32 - side :, 32 - side :]
        share = 1 - (side / 32) ** 2
    own_label, other_label = F.one_hot(names[1:3], 10).float()
    target = share * own_label + (1 - share) * other_label
    fig, (left, right) = plots.figure(6.2, 2.1, 1, 2, width_ratios=[1, 2.4])
    plots.draw_image(left, image, kind)
    bars = right.bar(shapes.classes, target, color=plots.COLOURS[0])
    right.bar_label(bars, [f"{value:.2f}" if value else "" for value in target.tolist()], fontsize=9)
    right.tick_params(axis="x", rotation=60, labelsize=8)
    right.set(ylim=(0, 1.15), yticks=(0, 0.5, 1))
    right.set_title("target", fontsize=9)
    return fig, f"{kind} of an arrow and a star, and the target: {share:.2f} arrow, {1 - share:.2f} star."


interactive_figure(draw_mix, kind=["mixup", "CutMix"], share=[0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])

# %% [markdown]
# Move **share**, and change **kind**.
#
# **Mixup** (Zhang et al. 2018) blends two images, $\tilde x = \lambda x_i + (1-\lambda)\,x_j$, and their one-hot
# labels in the same shares, $\tilde y = \lambda y_i + (1-\lambda)\,y_j$. The share $\lambda$ is a random number between
# 0 and 1. The course draws one for each image from the distribution Beta(0.8, 0.8), which prefers neither image and
# takes values near 0 or 1 a little more often than those in the middle.

# %% [markdown]
# **CutMix** (Yun et al. 2019) pastes a box of one image into the other; $\lambda$ is the area that is left. Both
# say: an in-between image deserves an in-between answer. But CutMix counts area, not what lies in it. At a share of 0.5
# the box covers our whole arrow, and the target still gives the arrow nearly half.
#
# Three classes, two images, by hand:

# %%
first, second = F.one_hot(torch.tensor([0, 2]), 3).float()
by_hand = torch.stack([0.8 * first + 0.2 * second, 0.6 * second + 0.4 * first])  # each is the other's partner
assert torch.allclose(by_hand.sum(dim=1), torch.ones(2))
by_hand

# %% [markdown]
# The course's `mixup` takes as partner the image *before* it in the batch; the batch is shuffled, so that is as good
# as any. `F.cross_entropy` accepts such targets as they are: it adds up $-\tilde y_k \ln p_k$ over the classes.
#
# ### Exercise 8.6 · Targets of mixup
# *write · medium · 5 minutes*
#
# From `labels (B,)`, `num_classes` and `share (B,)`, the part of each image itself: the targets `(B, num_classes)`. The
# partner of image `i` is image `i - 1`; of the first, the last.
#
# <details><summary>Hint</summary>
#
# `one_hot.roll(1, 0)` brings each row one place down, and the last to the top. `share[:, None]` is a column.
#
# </details>


# %% tags=["exercise"]
def mixup_targets(labels, num_classes, share):
    return ...


# %%
check.mixup_targets(mixup_targets)

# %% [markdown]
# **Label smoothing** (notebook 06) belongs to the family too: it mixes every label with *all* classes a little, and no
# image. By 0.05, as in all runs of this notebook:

# %%
0.95 * first + 0.05 / 3  # first of three classes

# %% [markdown]
# ## Measured: which of them pay?
#
# Now 500 images of shapes, the ViT, 250 steps. Every augmentation alone, then mixup and CutMix on top of crop and flip.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Without augmentation, the ViT is right in
# {=mean(recorded(count=500, augmentation="none")):.0f} % of the test images. Which of these brings most?
#
# - a: colour jitter
# - b: crop and flip
# - c: mixup
# - d: crop, flip and mixup together

# %%
arms = {name: recorded(count=500, augmentation=name) for name in augmentations}
fig, ax = plots.figure(6.2, 3.6)
for y, values in enumerate(arms.values()):
    ax.plot([100 * v for v in values], [y] * len(values), "o", color=plots.COLOURS[0], alpha=0.7)
    ax.plot([mean(values)] * 2, [y - 0.3, y + 0.3], color=plots.COLOURS[1], linewidth=2)
    ax.text(mean(values), y - 0.36, f"{mean(values):.0f}", ha="center", fontsize=9)
ax.set_yticks(range(len(arms)), arms)
ax.invert_yaxis()
ax.set(xlabel="test accuracy (%): three seeds and their mean", xlim=(0, 100))
alt = ", ".join(f"{name} {mean(values):.0f}" for name, values in arms.items())
plots.show(fig, f"Test accuracy in per cent of eight ways to augment 500 images, mean of three seeds: {alt}.")

# %%
alone = [mean(arms[name]) for name in ("colour jitter", "mixup", "CutMix")]
by_heart = [
    share
    for name in ("none", "colour jitter", "mixup", "CutMix")
    for share in recorded("train_accuracy", count=500, augmentation=name)
]
tops = ("crop and flip", "crop, flip, mixup", "crop, flip, CutMix")
assert mean(arms["crop"]) > 1.5 * mean(arms["none"])
assert all(max(arms[name]) < min(arms["crop and flip"]) for name in tops[1:])

# %% [markdown]
# b. Shifting by up to two pixels alone takes the accuracy from {=mean(arms["none"]):.0f} to
# {=mean(arms["crop"]):.0f} %. Flipping adds {=mean(arms["crop and flip"]) - mean(arms["crop"]):.0f} points, which lies
# within the spread of the seeds.
#
# Colour jitter, mixup and CutMix *alone* add {=min(alone) - mean(arms["none"]):.0f} to
# {=max(alone) - mean(arms["none"]):.0f} points: the model still learns its 500 images by heart
# ({=100 * min(by_heart):.0f} to {=100 * max(by_heart):.0f} % of them right).
#
# Mixup or CutMix *on top* of crop and flip **hurts**, by
# {=mean(arms["crop and flip"]) - mean(arms["crop, flip, mixup"]):.0f} and
# {=mean(arms["crop and flip"]) - mean(arms["crop, flip, CutMix"]):.0f} points.

# %% [markdown] tags=["predict"]
# **Predict before you run.** The same with 1,000 steps instead of 250, in two runs each. Does mixup on top of crop and
# flip still hurt?
#
# - a: yes, as much as before
# - b: much less, or hardly at all
# - c: no, it helps by five points or more

# %%
longer = {name: recorded(count=500, model="vit", augmentation=name, steps=1000) for name in tops}
for name, values in longer.items():
    print(f"{name:20}{mean(arms[name]):.0f} % after 250 steps, {mean(values):.0f} % after 1,000")

# %% [markdown]
# b. Behind crop and flip, mixup was {=mean(arms[tops[0]]) - mean(arms[tops[1]]):.0f} points short after 250 steps, and
# is {=mean(longer[tops[0]]) - mean(longer[tops[1]]):.0f} short after 1,000; CutMix was
# {=mean(arms[tops[0]]) - mean(arms[tops[2]]):.0f} short, and is
# {=mean(longer[tops[0]]) - mean(longer[tops[2]]):.0f}. Both make the question harder, and a harder one seems to
# take more steps. Whether they would come out ahead in a still longer run, we have not tried.

# %% [markdown]
# Papers report that they do, and their runs are long: DeiT (Touvron et al. 2021), with both, goes 300 times through
# ImageNet's 1.3 million images, 375,000 steps of 1,024 images. So an augmentation that pays in a paper may cost you
# accuracy in a short run. Measure, with your own images and your own time.

# %% [markdown]
# ## When to use which
#
# | you have | take | because |
# |---|---|---|
# | hundreds of images, few steps, from scratch | a CNN | its bias stands in for both: the first curves |
# | hundreds of images, pre-trained weights | a fine-tuned ViT or CNN: notebook 09 | others paid for the images |
# | an answer that hangs on far-apart places | a net that bends after they have met | a sum does not compare |
# | patches in no order, or parts missing | a ViT | it reads a set (Naseer et al. 2021) |
# | a million images and strong augmentation | either | on ImageNet, DeiT-B reaches 81.8 %, a CNN of its size 82.9 % |
# | hundreds of millions | either; opinions differ | see below |

# %% [markdown]
# The last rows are not ours; nobody measures them on a laptop. **Dosovitskiy et al. 2021** (figures 3 and 4):
# pre-trained on ImageNet's 1.3 million images, large ViTs end below ResNets (large CNNs); on 300 million, above.
# **Smith et al. 2023** disagree: pre-trained on four billion images, CNNs match ViTs of equal computing.
#
# **Touvron et al. 2021** (DeiT): with mixup, CutMix, stochastic depth and more, a ViT reaches 81.8 % from ImageNet
# alone, where the plain ViT-B/16 had 77.9 %; a CNN (RegNetY-16GF) trained alike, 82.9 %. **Steiner et al.
# 2022**: augmentation and regularisation (what keeps a model from learning by heart), with enough computing, can be
# worth ten times the images.

# %% [markdown]
# Note that our numbers come from short runs of small models on drawn images. With your images and your time, measure
# again, and choose by images that are not your test images (notebook 06).

# %% [markdown]
# ## Exercises
#
# 8.1 to 8.6 stand above, beside their ideas; 8.8 goes further.
#
# ### Exercise 8.7 · The box at the border
# *repair · medium · 8 minutes*
#
# This CutMix pastes a box of `size` pixels at row `top` and column `left` from the image before, and must not change
# the images that it is given. It trains without an error, and teaches wrong answers. Two things are wrong with its
# targets. Find them and write it again below.
#
# <details><summary>Hint</summary>
#
# Let `top + size` reach beyond the last row: how many pixels are pasted? And which label gets which share when the box
# is tiny?
#
# </details>


# %%
def broken_paste(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    mixed, rows, columns = images.clone(), slice(top, top + size), slice(left, left + size)
    mixed[:, :, rows, columns] = images.roll(1, 0)[:, :, rows, columns]
    share = size * size / (Y * X)
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed, share * one_hot + (1 - share) * one_hot.roll(1, 0)


# %% tags=["exercise"]
def paste_box(images, labels, num_classes, top, left, size):
    return ...  # (images, targets), repaired


# %%
check.paste_box(paste_box)

# %% [markdown]
# ## Going further
#
# The hidden layer made the narrow net compare. What does it have to learn?
#
# ### Exercise 8.8 · The bend
# *stretch · hard · 8 minutes*
#
# `n` holds counts: how many of the two shapes are crosses, 0, 1 or 2 (a network's counts are up to 0.2 off). Return a
# score for each that is positive for "same" (0 or 2) and negative for "different" (1). Use only sums, products with
# numbers, and `torch.relu`, as an MLP does: no `abs`, no squares, no comparisons.
#
# <details><summary>Hint</summary>
#
# `relu(n - 1)` is above 0 on one side of 1. What is above 0 on the other side? Add the two, and subtract something.
#
# </details>


# %% tags=["exercise"]
def compare_counts(n):
    return ...


# %%
check.compare_counts(compare_counts)

# %% [markdown]
# ## Summary
#
# - A CNN knows beforehand that near pixels belong together and that places are alike. In a short run it beat the ViT
#   with a sixteenth of the images; in four times the steps, the ViT came close.
# - The receptive field says what one place can see. A sum of far places cannot compare them: collect, then bend.
# - Our ViTs read a bag of patches, and well. Shuffling showed it, accuracy did not.
# - An augmentation must keep the answer true. Which one pays, and in how many steps, must be measured.
# - Compare at equal parameters and steps, at more than one number of steps, with several seeds.

# %% [markdown]
# ## What comes next
#
# A ViT from scratch wants many steps even where the images are few. There is one more way out, and it is the one that
# most people take: let somebody else pay for images and steps. In **09 Fine-tuning** a ViT that has seen many images
# learns yours.

# %% [markdown]
# ## References
#
# - A. Dosovitskiy et al.: *An Image is Worth 16x16 Words*. ICLR 2021. Section 4.3, figures 3 and 4.
# - S. L. Smith, A. Brock, L. Berrada, S. De: *ConvNets Match Vision Transformers at Scale*. arXiv 2310.16764, 2023.
# - H. Touvron et al.: *Training data-efficient image transformers & distillation through attention* (DeiT). ICML 2021.
# - A. Steiner et al.: *How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers*.
#   TMLR 2022.
# - H. Zhang et al.: *mixup: Beyond Empirical Risk Minimization*. ICLR 2018.
# - S. Yun et al.: *CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features*. ICCV 2019.
# - C. Szegedy et al.: *Rethinking the Inception Architecture for Computer Vision* (label smoothing). CVPR 2016.
# - S. Ioffe, C. Szegedy: *Batch Normalization*. ICML 2015.
# - W. Luo et al.: *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*. NeurIPS 2016.
# - W. Brendel, M. Bethge: *Approximating CNNs with Bag-of-local-Features models works surprisingly well on ImageNet*.
#   ICLR 2019. Narrow nets on photographs.
# - M. Naseer et al.: *Intriguing Properties of Vision Transformers*. NeurIPS 2021. Shuffled patches.

# %% [markdown]
# ## Solutions
#
# ### Solution 8.1
# Stage by stage: the filters, then two numbers per channel for the norm; at the end the head, with its bias.


# %% tags=["solution"]
def convnet_parameters_solution(widths, kernels, channels, classes):
    total = 0
    for width, kernel in zip(widths, kernels, strict=True):
        total += channels * width * kernel**2 + 2 * width
        channels = width
    return total + channels * classes + classes


assert convnet_parameters_solution((16, 32, 64, 154), (3, 3, 3, 3), 3, 10) == sizes["cnn"]
assert check.convnet_parameters(convnet_parameters_solution).passed

# %% [markdown]
# ### Solution 8.2
# The pool's own neighbour is one *old* step away; only after it the step doubles.


# %% tags=["solution"]
def receptive_field_solution(kernels):
    size, step = 1, 1
    for kernel in kernels:
        size += (kernel - 1) * step + step
        step *= 2
    return size


assert receptive_field_solution((3, 3, 3, 3)) == 46 and receptive_field_solution((3, 3, 1, 1)) == 22
assert check.receptive_field(receptive_field_solution).passed

# %% [markdown]
# ### Solution 8.3
# With the threshold between the middle and one end, that end (a quarter) and the middle (a half) are right, the other
# end is wrong.

# %% tags=["solution"]
solution = 0.75
assert check.best_sum(solution).passed

# %% [markdown]
# ### Solution 8.4
# Two index tensors go together: `(B, 1)` says which image, `(B, N)` which of its patches.


# %% tags=["solution"]
def shuffle_patches_solution(images, patch_size, orders):
    patches = patchify(images, patch_size)  # (B, N, C*P*P)
    patches = patches[torch.arange(len(images))[:, None], orders]  # (B, N, C*P*P)
    return unpatchify(patches, patch_size, tuple(images.shape[2:]))  # (B, C, Y, X)


assert check.shuffle_patches(shuffle_patches_solution).passed

# %% [markdown]
# ### Solution 8.5
# Notebook 02 showed it for attention, and the MLP works on each token alone. Another order of the patches gives the
# same tokens in another order; the class token takes its weighted sum over all of them, in whatever order.

# %% tags=["solution"]
assert check.shuffled_answers("c").passed

# %% [markdown]
# ### Solution 8.6
# The same shares as those of the images, in the same direction of roll.


# %% tags=["solution"]
def mixup_targets_solution(labels, num_classes, share):
    one_hot = F.one_hot(labels, num_classes).float()
    return share[:, None] * one_hot + (1 - share[:, None]) * one_hot.roll(1, 0)


assert check.mixup_targets(mixup_targets_solution).passed

# %% [markdown]
# ### Solution 8.7
# The shares were swapped, and a box that sticks out was counted whole. Count what was pasted.


# %% tags=["solution"]
def paste_box_solution(images, labels, num_classes, top, left, size):
    Y, X = images.shape[2:]
    mixed, rows, columns = images.clone(), slice(top, top + size), slice(left, left + size)
    mixed[:, :, rows, columns] = images.roll(1, 0)[:, :, rows, columns]
    share = mixed[0, 0, rows, columns].numel() / (Y * X)
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed, (1 - share) * one_hot + share * one_hot.roll(1, 0)


assert check.paste_box(paste_box_solution).passed

# %% [markdown]
# ### Solution 8.8
# The two relus together are $|n - 1|$: 1 at both ends, 0 in the middle. Half-way between is the threshold.


# %% tags=["solution"]
def compare_counts_solution(n):
    return torch.relu(n - 1) + torch.relu(1 - n) - 0.5


assert check.compare_counts(compare_counts_solution).passed
