# %% [markdown]
# # 12 · Your own images
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - turn a folder, a zip file or an upload into data, and know which files were left out and why,
# - find copies of one picture and keep them on one side of a split,
# - fine-tune the course's ViT on a few dozen pictures, and say how sure its accuracy is,
# - find out from the worst mistakes what the model goes by,
# - save the model, load it in three lines, and hand it on as an ONNX file.
#
# About {minutes} minutes to read and do; 30 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from vit_tutorial import check, course, datasets, export, interpret, normalise, plots, training, weights
from vit_tutorial.datasets import copies
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.widgets import Upload, interactive_figure

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(12)

# %% [markdown]
# ## One line to change
#
# So that this notebook runs before you have any pictures, it makes some: stickers, photographed, 14 of a kind.

# %%
workshop = Path(tempfile.mkdtemp())
stickers = workshop / "stickers"
datasets.example_folder(stickers)

FOLDER = stickers  # your line: a folder or a zip file, such as "pets" or "C:/Users/you/pets.zip"

# %% [markdown]
# Run everything once as it is. Then put your own path there: **one folder a class**, the folder's name is the class.
#
#     pets/cat/IMG_0001.jpg        two classes or more,
#     pets/cat/IMG_0002.jpg        ten pictures of each or more
#     pets/dog/IMG_0007.jpg
#
# On a machine that is not yours, Colab for one, upload a zip of such a folder: up to 9 MB with the button below, any
# size with the file panel at the left, and then by its name. After an upload go on with the next cell.

# %%
upload = Upload(".zip", "Zip file")
upload

# %%
mine = datasets.own_images(upload.take() or FOLDER)
pictures = mine.images  # squares of 128 x 128 pixels, to look at
some = torch.cat([(pictures.labels == label).nonzero()[:8, 0] for label in range(len(pictures.classes))])
fig = plots.image_grid(pictures.images[some], [pictures.classes[label] for label in pictures.labels[some]], 8, 0.85)
plots.show(fig, "The first eight pictures of each class, each with the name of its class.")

# %% [markdown]
# Hearts, moons and stars on all kinds of ground, or whatever you brought. **How many of your files are in there? All of
# them?** Files get lost on the way from a camera to a tensor more often than you would think, and nobody tells you:

# %%
print(mine.report())

# %% [markdown]
# Every file is either read or in this list, with its reason. In ours one picture breaks off half-way, one file is no
# picture, and two pictures are there twice. What to do about copies comes below.
#
# A single broken file must not end the reading of a thousand good ones. But it must not vanish in silence either.

# %% [markdown]
# ## What a picture file can hide
#
# Three of the stickers, opened as most code on the web does it (upper row) and as this course does it (lower row):

# %%
files = [
    stickers / "heart" / "IMG_1001.jpg",
    stickers / "moon" / "cutout_1004.png",
    stickers / "star" / "scan_1003.png",
]
names = ["EXIF rotation", "transparency", "16 bits"]


def naive(file):
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)  # (3, Y, X)


fig, axes = plots.figure(5.4, 3.2, 2, 3)
for column, (file, name) in enumerate(zip(files, names, strict=True)):
    plots.draw_image(axes[0, column], naive(file), name)
    plots.draw_image(axes[1, column], datasets.read_image(file))
plots.show(
    fig,
    "Three pictures in two rows. Above: a heart lying on its side, a moon whose photograph is still there, nothing but "
    "white. Below: the heart upright, the moon on white, a grey star.",
)

# %% [markdown]
# **EXIF rotation.** A phone held upright stores the picture lying on its side, with a note: *turn me*. Viewers obey,
# `np.array` does not. A model trained on lying pictures meets upright ones later.

# %%
with Image.open(files[0]) as picture:
    print("stored:", picture.size, "and the note says", picture.getexif()[0x0112])
    print("meant: ", ImageOps.exif_transpose(picture).size)

# %% [markdown]
# **Transparency.** A pixel with alpha 0 is invisible, but its colour is still stored: `convert("RGB")` drops alpha and
# brings it back. To lay a pixel on white, mix: colour times alpha, plus white times the rest. By hand, for a dark pixel
# (40) that is one quarter opaque:

# %%
alpha = 0.25
print("on white:", alpha * 40 + (1 - alpha) * 255)

# %% [markdown]
# **16 bits.** Scanners and microscopes save a grey pixel as 0 to 65,535. Most code cuts everything above 255 off, and
# nearly everything is above: a white picture. Divide by 257 instead.

# %%
print("white with 16 bits:", 65535 / 257, "  mid grey:", round(32896 / 257))

# %% [markdown]
# Other surprises: CMYK pictures made for print, animations (the first frame is taken), HEIC from recent iPhones (not
# read here; the report says so). One more thing happens to every picture: it becomes a **square**, cut from the middle.
# Whatever lies at the edge of a wide photograph is gone. Look at your own above: is the thing still in it?

# %% [markdown]
# ## Copies on both sides
#
# Pictures travel. They are forwarded, made smaller, saved again, mirrored by selfie cameras. If one copy is used for
# training and another for testing, the test asks for something learned by heart: the test *leaks*. How could a program
# see that two files are copies, when no byte is the same?

# %%
original, copy = (stickers / "moon" / name for name in ("IMG_1005.jpg", "forwarded.webp"))
three = [datasets.read_image(file, 128) for file in (original, copy, stickers / "moon" / "IMG_1006.jpg")]
prints = copies.fingerprint(torch.stack(three))  # (3, 3, 8, 8)
fig, axes = plots.figure(4.8, 3.3, 2, 3)
for column, name in enumerate(("original", "forwarded", "another")):
    plots.draw_image(axes[0, column], three[column], name)
    plots.draw_image(axes[1, column], (prints[column] + 2) / 4)
plots.show(
    fig,
    "A moon; the same mirrored and less sharp; another moon. Below each its fingerprint of 8 by 8 pixels: the second "
    "is the first mirrored, the third is different.",
)

# %% [markdown]
# The lower row is a **fingerprint**: the picture shrunk to 8 x 8 pixels, minus its mean, over its standard deviation.
# Saving, resizing and brightening hardly change it. The distance of two is the root of their mean squared difference,
# the smaller one of two: to the other, and to the other's mirror image.

# %%
copies.distances(prints, prints)

# %% [markdown]
# Read the first row: 0 to itself, next to nothing to the copy, much to the other moon. Two fingerprints that have
# nothing in common are 1.41 apart, the root of 2. Where to draw the line? We measured, on 10,000 CIFAR-10 test
# pictures (JPEG copy), with `tools/measure/copies.py`:
#
# | distance below | 0.15 | **0.25** | 0.35 |
# |---|---|---|---|
# | copies found: saved anew, resized, mirrored | 93 to 100 % | **99.6 to 100 %** | 100 % |
# | copies found: cut by 3 % on each side | 70 % | **97 %** | 99.8 % |
# | copies found: cut by 6 % on each side | 11 % | **49 %** | 82 % |
# | copies found: turned to grey | 18 % | **33 %** | 44 % |
# | pairs taken for copies, of 50 million | 6 | **37** | 442 |

# %% [markdown]
# The course takes 0.25. A few of the 37 pairs are real copies, which CIFAR-10 is known to hold (Barz and Denzler 2020).
# And it has limits: a picture that was cropped a lot, or turned to grey, gets through. So do two shots of one cat, one
# second apart. **No program knows those: you do.** Keep pictures of one cat, one day, one patient on one side.
#
# ### Exercise 12.1 · How often does it leak?
# *predict · medium · 4 minutes*
#
# Twenty pictures, each there twice: 40 files. You hold out 8 files at random for the test. Take one of these 8. How
# likely is its copy in the training part?
#
# <details><summary>Hint</summary>
#
# The copy is one of the *other* files. How many are these, and how many of them are for training?
#
# </details>

# %% tags=["exercise"]
answer = ...  # a number between 0 and 1

# %%
check.copy_in_training(answer)

# %% [markdown]
# What does that do to an accuracy? Let us take our pictures twice, as they are and mirrored, and classify without any
# learning: each test picture gets the class of the nearest *training* fingerprint. **Predict before you run:** which
# split gives the higher accuracy, one that holds out files at random, or one that keeps copies together?

# %%
torch.manual_seed(0)
twice = torch.cat([pictures.images, pictures.images.flip(3)])
labels, groups, prints = pictures.labels.repeat(2), mine.groups.repeat(2), copies.fingerprint(twice)


def nearest_neighbour(train, test):
    nearest = copies.distances(prints[test], prints[train]).argmin(dim=1)  # (test pictures,)
    return (labels[train][nearest] == labels[test]).float().mean().item()


order = torch.randperm(len(labels))
at_random = nearest_neighbour(order[len(order) // 5 :], order[: len(order) // 5])
together = nearest_neighbour(*datasets.split_groups(labels, groups, holdout=0.2))

# %% tags=["nbval-ignore-output"]
print(f"files at random: {at_random:.0%}    copies together: {together:.0%}")
assert FOLDER != stickers or together < at_random

# %% [markdown]
# The first number is what many a project has reported. Only the second says how the method does on pictures that it has
# never met. Keep it in mind: coloured blobs of 8 x 8 pixels and no learning at all. A model should do better.
#
# ### Exercise 12.2 · Near, or near in the mirror
# *write · medium · 8 minutes*
#
# Write `copies.distances` yourself: `a (n, 3, 8, 8)` and `b (m, 3, 8, 8)` are fingerprints. Return `(n, m)`: the root
# of the mean squared difference of each `a[i]` to `b[j]`, or to `b[j]` mirrored, whichever is smaller.
#
# <details><summary>Hint</summary>
#
# `a[:, None] - b[None]` has shape `(n, m, 3, 8, 8)`. A mirror image has its *columns* turned around: `b.flip(3)`.
# `torch.minimum` takes the smaller of two tensors, entry by entry.
#
# </details>


# %% tags=["exercise"]
def mirrored_distance(a, b):
    return ...  # (n, m)


# %%
check.mirrored_distance(mirrored_distance)

# %% [markdown]
# ## Every picture tested once
#
# With so few pictures a fifth for the test is a handful. **Cross-validation** makes more of them: divide the pictures
# into four *folds*; train on three, test on the fourth; four times over. Every picture is tested once, by a model that
# has seen neither it nor a copy.

# %%
fold = mine.folds(4)  # (n,): a number from 0 to 3 for each picture
for k in range(4):
    counts = pictures.labels[fold == k].bincount(minlength=len(pictures.classes)).tolist()
    print(f"fold {k}:", ", ".join(f"{count} {name}" for count, name in zip(counts, pictures.classes, strict=True)))

# %%
for index in mine.copies():
    assert len(fold[index].unique()) == 1  # copies are in one fold
print(f"{len(mine)} files, {len(mine.groups.unique())} different pictures, no copy in two folds")

# %% [markdown]
# ### Exercise 12.3 · A leaky split
# *repair · medium · 8 minutes*
#
# This function marks the test pictures of a set. `groups (n,)` has one number for all copies of a picture. It draws
# pictures, and so tears copies apart. Repair it: no group may be on both sides, about `holdout` of the pictures are
# held out, each group has its chance, and `seed` decides: another one gives another split, the same one the same.
#
# <details><summary>Hint</summary>
#
# Draw *groups*: `kinds = groups.unique()`, put them in a random order, take the first few. `torch.isin(groups, chosen)`
# says for each picture whether its group is among the chosen ones.
#
# </details>


# %%
def leaky(groups, holdout, seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(groups), generator=generator)[: round(holdout * len(groups))]
    return torch.isin(torch.arange(len(groups)), chosen)  # (n,) True: a test picture


# %% tags=["exercise"]
def whole_groups(groups, holdout, seed):
    return ...  # (n,) bool, repaired


# %%
check.whole_groups(whole_groups)

# %% [markdown]
# ## Fine-tune
#
# The course's checkpoint knows ten classes of CIFAR-10. It gets a new head for yours; all else starts from what it has
# learned on 50,000 pictures ([09](09_fine_tuning.ipynb) says why, and which learning rates). Its pictures have 32 x 32
# pixels, so yours become as small:

# %%
data = mine.at(weights.load(CHECKPOINT).config.image_size)
data


# %%
def fine_tune(dataset, seed=0):
    model = training.new_head(weights.load(CHECKPOINT), dataset.classes)
    training.train(model, dataset, training.RECIPES["fine-tune"], seed=seed)
    return model


# %% [markdown]
# Four models, each tested on the fold that it has not seen. `logits` collects what each said about its own fold; `grey`
# is for later.

# %%
grey = replace(data, images=data.images.float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).to(torch.uint8))
logits, grey_logits = torch.zeros(2, len(data), len(data.classes))  # (n, classes) each
models = []
for k in range(4):
    models.append(fine_tune(data[fold != k]))
    logits[fold == k] = training.evaluate(models[k], data[fold == k]).logits
    grey_logits[fold == k] = training.evaluate(models[k], grey[fold == k]).logits

# %% tags=["nbval-ignore-output"]
probabilities = logits.softmax(dim=1)
right = logits.argmax(dim=1) == data.labels
chance = data.labels.bincount().max().item() / len(data)
print(f"{right.sum()} of {len(data)} right: {right.float().mean():.0%}. The largest class alone: {chance:.0%}")
assert FOLDER != stickers or right.float().mean() > 0.6

# %% [markdown]
# That is the number for your report. Before you write it down: **how sure is it?** Would other pictures of the same
# kind have given the same?

# %% [markdown]
# ## How sure is that number?


# %%
def fitting(share, n):
    accuracies = torch.linspace(0, 1, 10_001)  # all that there are, in steps of 0.01 %
    deviations = (accuracies * (1 - accuracies) / n).sqrt()  # of the share that is right, among n pictures
    return accuracies[(share - accuracies).abs() <= 1.96 * deviations]  # of which this share would be no surprise


def draw_interval(pictures, per_cent_right):
    n = [10, 20, 50, 100, 200, 500, 1000]
    ends = torch.stack([fitting(per_cent_right / 100, count)[[0, -1]] for count in n])  # (7, 2)
    fig, ax = plots.figure(6.5, 2.6)
    ax.fill_between(n, 100 * ends[:, 0], 100 * ends[:, 1], color=plots.COLOURS[5], alpha=0.4)
    ax.axhline(per_cent_right, color=plots.COLOURS[0])
    low, high = (100 * fitting(per_cent_right / 100, pictures)[[0, -1]]).tolist()
    ax.plot([pictures, pictures], [low, high], color=plots.COLOURS[1], linewidth=4)
    ax.text(pictures * 1.1, low - 4, f"{low:.1f} to {high:.1f} %", color=plots.COLOURS[1])
    ax.set(xscale="log", ylim=(0, 103), xlabel="test pictures", ylabel="accuracy (%)")
    ax.set_xticks(n, n)
    ax.minorticks_off()
    return (
        fig,
        f"{per_cent_right} % of {pictures} pictures right: the true accuracy is between {low:.1f} and {high:.1f} %.",
    )


sizes = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 150, 200, 300, 500, 1000]
interactive_figure(draw_interval, pictures=sizes, per_cent_right=[50, 60, 70, 80, 90, 95, 100])

# %% [markdown]
# A test picture is a coin that falls on "right" with an unknown probability. The band says which probabilities fit what
# was seen: repeat the whole experiment, and 95 of 100 such bands hold the true one. The cell tries all probabilities.
# Wilson (1927) solved for the two ends: for $r$ right of $n$, with $p = r/n$ and $z = 1.96$, they are
#
# $$\frac{p + \frac{z^2}{2n} \;\pm\; z\sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}}{1 + \frac{z^2}{n}}$$
#
# Move **pictures** down to 10: nine right of ten says "somewhere between 60 % and 98 %". And yours?

# %% tags=["nbval-ignore-output"]
low, high = fitting(right.float().mean().item(), len(data))[[0, -1]].tolist()
print(f"{right.float().mean():.0%} right; the true accuracy lies between {low:.0%} and {high:.0%}, if ...")
assert low <= right.float().mean() <= high

# %% [markdown]
# ... if the pictures to come are of the same kind. That is a big if:
#
# - The band knows nothing of **another camera, another room, another season**. Our stickers all lie on four
#   photographs; nobody knows how the model does on a fifth.
# - Copies and series count as *one* picture, so the honest $n$ is the number of groups.
# - If you tried ten recipes and kept the best, its number is too high. Keep some pictures for one last test.
#
# What ten pictures a class *can* show: that something can be learned at all, which classes are confused, and which of
# your pictures are wrongly labelled. That is worth an afternoon.

# %% [markdown]
# ### Exercise 12.4 · The interval
# *write · medium · 6 minutes*
#
# Write the two ends by Wilson's formula, without a search: `(right, n)` to `(low, high)`, as fractions of 1.
#
# <details><summary>Hint</summary>
#
# First the three parts: $p$, the middle $p + z^2/2n$, the root. Then divide both ends by $1 + z^2/n$. Compare with the
# first and the last of `fitting(9 / 10, 10)`.
#
# </details>


# %% tags=["exercise"]
def accuracy_interval(right, n):
    return ...  # (low, high)


# %%
check.accuracy_interval(accuracy_interval)

# %% [markdown]
# ### Exercise 12.5 · How many pictures?
# *experiment · easy · 4 minutes*
#
# Set **per cent right** to 90 and move **pictures**. From how many test pictures on (of 10, 20, 30, ...) does the band
# leave 80 % out: is its lower end above 80 %?
#
# <details><summary>Hint</summary>
#
# With 50 pictures the lower end is still below 80 %.
#
# </details>

# %% tags=["exercise"]
answer = ...

# %%
check.pictures_needed(answer)

# %% [markdown]
# ## Which classes are confused?

# %% tags=["nbval-ignore-output"]
predicted = logits.argmax(dim=1)
plots.show(
    plots.confusion_matrix(data.labels, predicted, data.classes),
    "Confusion matrix: rows are the true classes, columns the predicted ones, numbers in per cent of the row.",
)
assert len(predicted) == len(data)

# %% [markdown]
# A row is a true class, a column what the model said, in per cent of the row. The diagonal is right. The same as
# counts, for a report or a screen reader:

# %% tags=["nbval-ignore-output"]
C = len(data.classes)
confusion = torch.bincount(data.labels * C + predicted, minlength=C * C).view(C, C)  # (true, predicted)
for name, row in zip(data.classes, confusion.tolist(), strict=True):
    said = ", ".join(f"{count} x {other}" for other, count in zip(data.classes, row, strict=True) if count)
    print(f"{name}: said {said}")
assert confusion.sum() == len(data) and confusion.diagonal().sum() == right.sum()

# %% [markdown]
# ## The worst mistakes
#
# A matrix says *how often*. To learn *why*, look at the pictures: those for which the model gave the truth the least
# probability, worst first.

# %%
worst = probabilities[torch.arange(len(data)), data.labels].argsort()[:5].tolist()


def attention_of(i):
    model = models[fold[i]]  # the one that has not seen picture i
    maps = model.attention_maps(normalise(data.images[i : i + 1], model.config))  # (L, 1, H, N, N)
    return interpret.attention_rollout(maps)[0, 0, 1:], model.config.grid  # the class token's row, without itself


# %% tags=["nbval-ignore-output"]
fig, axes = plots.figure(8, 3.7, 2, 5)
for (above, below), i in zip(axes.T, worst, strict=False):
    said, share = data.classes[predicted[i]], probabilities[i].max()
    plots.draw_image(above, pictures.images[i], f"{data.classes[data.labels[i]]}, said\n{said}, {share:.0%} sure")
    plots.draw_attention(below, pictures.images[i], *attention_of(i))
plots.show(
    fig,
    "The five pictures with the least probability for their true class. Above: the picture, its class, what the model "
    "said. Below: where the class token's attention went, bright where much.",
)
assert len(worst) == 5

# %% [markdown]
# Below is the attention of the class token, through all blocks (rollout, notebook 10). **What do your worst five have
# in common?** Look for a wrong label first: it happens, and then the model was right. Then for what is odd about them:
# background, size, light, colour.
#
# With our stickers, look at the colours. Where is the attention? In the run that made this page, mostly on the sticker
# and its rim: the model looks at the right *place*. That does not mean that it goes by the *shape*: attention says
# where, not what for.

# %% [markdown]
# ## Take the colour away
#
# A suspicion is not a finding. So test it: the same four models, the same pictures, in grey. Shape, size, place and
# background are all still there. **Predict before you run:** what will be left of the accuracy?

# %% tags=["nbval-ignore-output"]
grey_right = grey_logits.argmax(dim=1) == data.labels
for name, values in (("in colour", right), ("in grey", grey_right)):
    low, high = fitting(values.float().mean().item(), len(values))[[0, -1]].tolist()
    print(f"{name:9} {values.float().mean():4.0%}   ({low:.0%} to {high:.0%})")
assert FOLDER != stickers or grey_right.float().mean() < right.float().mean() - 0.1

# %%
fig = plots.image_grid(torch.cat([data.images[some[::4]], grey.images[some[::4]]]), columns=len(some[::4]), size=0.9)
plots.show(fig, "Some pictures at the model's 32 by 32 pixels, in colour and in grey. The shapes can still be told.")

# %% [markdown]
# With our stickers a good part of the accuracy goes with the colour. The model does not know a star so much as it knows
# *yellow*: in the folder most hearts are red, most moons blue and most stars yellow, and colour is what gets the loss
# down soonest. The few odd ones are not worth learning a shape for. This is **shortcut learning** (Geirhos et al.
# 2020). The accuracy did not show it, nor did the attention. Five bad pictures and one experiment did.
#
# What helps: pictures in which the shortcut fails (blue hearts), or taking it away in training (colour jitter, grey:
# notebook 08).

# %% [markdown]
# ## Keep the model
#
# The four models were for measuring. The one to keep learns from *all* pictures; its accuracy is about that of the
# four, or a little better, and cannot be measured, for nothing is left to test it on.

# %%
final = fine_tune(data)
weights.save(final, workshop / "mine.safetensors")
print(f"{(workshop / 'mine.safetensors').stat().st_size / 1e6:.1f} MB, with the classes", final.config.classes)

# %% [markdown]
# The file holds weights, sizes, normalisation and class names. `workshop` is a temporary folder: give a path of your
# own to keep it. Another day, in another program, three lines:

# %%
model = weights.load(workshop / "mine.safetensors")
image = datasets.read_image(stickers / "star" / "IMG_1000.jpg", model.config.image_size)  # (3, 32, 32), upright
share = model(normalise(image[None], model.config)).softmax(dim=1)[0]  # (classes,)

# %% tags=["nbval-ignore-output"]
print({name: round(value, 3) for name, value in zip(model.config.classes, share.tolist(), strict=True)})
with torch.no_grad():
    x = normalise(data.images, model.config)
    assert torch.equal(model(x), final.eval()(x))  # what was saved is what was loaded

# %% [markdown]
# ## Without PyTorch: ONNX
#
# **ONNX** is a file format for networks that phones, browsers and servers run without PyTorch. Our export puts the
# normalisation *into* the file, so that nobody can forget it: pixels 0 to 255 go in, logits come out. An export is only
# worth something when it has been compared:

# %% tags=["nbval-ignore-output"]
if export.missing():
    print(export.missing())
else:
    export.to_onnx(final, workshop / "mine.onnx")
    with torch.no_grad():
        ours = final(normalise(data.images, final.config))  # (n, classes)
    difference = (export.run_onnx(workshop / "mine.onnx", data.images) - ours).abs().max().item()
    print(f"largest difference of any logit: {difference:.6f}")
    assert difference < 1e-4

# %% [markdown]
# And this is all that the other side needs (there, with `pip install onnxruntime numpy pillow`):
#
# ```python
# session = onnxruntime.InferenceSession("mine.onnx")
# pixels = np.array(picture.resize((32, 32)))[None].transpose(0, 3, 1, 2)  # uint8 (1, 3, 32, 32)
# logits = session.run(["logits"], {"pixels": pixels})[0]
# names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
# ```
#
# `picture` must be upright, RGB and square before: all of "What a picture file can hide" waits there again.

# %% [markdown]
# ## Exercises
#
# 12.1 to 12.5 stand above, beside their ideas.
#
# ### Exercise 12.6 · "I do not know"
# *stretch · hard · 10 minutes*
#
# A model in use may be silent. Call its largest probability its *confidence*, and let it answer only where that is at
# least a threshold. From `probabilities (n, C)`, `labels (n,)` and `wanted`, say 0.95, find the **lowest** threshold at
# which at least that share of the *answered* pictures is right. Try the confidences that occur; return infinity where
# none will do.
#
# <details><summary>Hint</summary>
#
# `confidence, chosen = probabilities.max(dim=1)`. Go through `confidence.sort().values` from the smallest on; return
# the first for which `right[confidence >= threshold].float().mean() >= wanted`.
#
# </details>


# %% tags=["exercise"]
def answer_threshold(probabilities, labels, wanted):
    return ...  # a number


# %%
check.answer_threshold(answer_threshold)

# %% [markdown]
# ## Summary
#
# - Every file is read or listed. Upright, RGB, on white, a square: then it is data.
# - Copies belong on one side. A fingerprint finds those that were saved anew; what belongs together otherwise, only you
#   know.
# - Cross-validation tests every picture once. Give the interval with the accuracy, and say what it does not cover.
# - Look at the worst mistakes. They show what the model goes by; an experiment proves it.
# - Save weights with sizes, normalisation and class names. Compare before you trust an export.

# %% [markdown]
# ## What comes next
#
# You have come to the end of the course, and to the beginning of your own pictures. Put your folder into the line at
# the top. If it grows beyond a few hundred pictures, train with the command line:
# `vit-tutorial train --data FOLDER`. For pictures larger than 32 x 32, start from a ViT that was trained on
# ImageNet ([09](09_fine_tuning.ipynb)).

# %% [markdown]
# ## References
#
# - B. Barz, J. Denzler: *Do We Train on Test Data? Purging CIFAR of Near-Duplicates*. Journal of Imaging 2020.
# - E. B. Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*. Journal of the American
#   Statistical Association 1927.
# - R. Geirhos et al.: *Shortcut Learning in Deep Neural Networks*. Nature Machine Intelligence 2020.
# - S. Kapoor, A. Narayanan: *Leakage and the Reproducibility Crisis in Machine-Learning-Based Science*. Patterns 2023.
# - S. Abnar, W. Zuidema: *Quantifying Attention Flow in Transformers* (rollout). ACL 2020.
# - ONNX: *Open Neural Network Exchange*, onnx.ai.

# %% [markdown]
# ## Solutions
#
# ### Solution 12.1
# The copy is one of 39 other files, and 32 of these are for training.

# %% tags=["solution"]
assert check.copy_in_training(32 / 39).passed

# %% [markdown]
# ### Solution 12.2
# All pairs at once; the smaller of the two distances counts.


# %% tags=["solution"]
def mirrored_distance_solution(a, b):
    plain, mirrored = ((a[:, None] - other[None]).square().mean(dim=(2, 3, 4)) for other in (b, b.flip(3)))
    return torch.minimum(plain, mirrored).sqrt()  # (n, m)


assert check.mirrored_distance(mirrored_distance_solution).passed

# %% [markdown]
# ### Solution 12.3
# Draw groups; a picture goes where its group goes.


# %% tags=["solution"]
def whole_groups_solution(groups, holdout, seed):
    kinds, generator = groups.unique(), torch.Generator().manual_seed(seed)
    chosen = kinds[torch.randperm(len(kinds), generator=generator)[: round(holdout * len(kinds))]]
    return torch.isin(groups, chosen)


assert check.whole_groups(whole_groups_solution).passed

# %% [markdown]
# ### Solution 12.4
# The middle is drawn towards one half: after 10 of 10 right, nobody should believe in 100 %.


# %% tags=["solution"]
def accuracy_interval_solution(right, n, z=1.96):
    p, scale = right / n, 1 + z**2 / n
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    return (middle - half) / scale, (middle + half) / scale


assert check.accuracy_interval(accuracy_interval_solution).passed

# %% [markdown]
# ### Solution 12.5
# To tell 90 % from 80 % takes 70 pictures; to tell 90 % from 85 %, several times as many.

# %% tags=["solution"]
solution = next(n for n in range(10, 1000, 10) if fitting(0.9, n)[0] > 0.8)
assert check.pictures_needed(solution).passed

# %% [markdown]
# ### Solution 12.6
# The threshold was found on pictures whose labels are known; on new ones it keeps its promise about as well as any
# accuracy does.


# %% tags=["solution"]
def answer_threshold_solution(probabilities, labels, wanted):
    confidence, chosen = probabilities.max(dim=1)
    right = (chosen == labels).float()
    for threshold in confidence.sort().values.tolist():
        if right[confidence >= threshold].mean() >= wanted:
            return threshold
    return float("inf")


assert check.answer_threshold(answer_threshold_solution).passed
