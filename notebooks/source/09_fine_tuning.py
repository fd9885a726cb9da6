# %% [markdown]
# # 09 · Fine-tuning
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - give a trained model a new head for your own classes, and say what the head alone can learn,
# - give every layer a learning rate of its own, and see what too high a rate destroys,
# - choose between the head alone and the whole model by the number of pictures that you have,
# - move a model to another image size,
# - tell when pre-training does not help.
#
# About {minutes} minutes to read and do; 70 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import json
from dataclasses import replace
from functools import cache

import skimage
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import VisionTransformer, check, course, datasets, normalise, plots, set_image_size, training, weights
from vit_tutorial.files import CHECKPOINT, DATA

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(9)

# %% [markdown]
# ## Three pictures of each
#
# Ten photographs come with scikit-image, a package that is installed already. We cut windows of 64 x 64 pixels out of
# them and halve their size. Training windows come from the left half of a photograph, test windows from the right
# half: no pixel is in both.

# %%
PHOTOGRAPHS = {
    "brick": "brick",
    "grass": "grass",
    "gravel": "gravel",
    "cat": "chelsea",
    "stars": "hubble_deep_field",
    "tissue": "immunohistochemistry",
    "text": "page",
    "moon": "moon",
    "coins": "coins",
    "retina": "retina",
}


@cache
def grey_half(name, split):
    image = torch.from_numpy(getattr(skimage.data, name)()).float()
    image = image.mean(dim=2) if image.ndim == 3 else image  # (Y, X): grey
    image = image[350:-350, 350:-350] if name == "retina" else image  # an eye in a black frame
    middle = image.shape[1] // 2
    return image[:, :middle] if split == "train" else image[:, middle:]


# %%
def surfaces(split, count, seed=0, size=32):
    generator = torch.Generator().manual_seed(2 * seed + (split == "test"))
    labels = torch.arange(count) % len(PHOTOGRAPHS)
    windows = torch.empty(count, 1, 64, 64)
    for window, label in zip(windows, labels, strict=True):
        half = grey_half(list(PHOTOGRAPHS.values())[label], split)
        y, x = (int(torch.randint(side - 63, (), generator=generator)) for side in half.shape)
        window[0] = half[y : y + 64, x : x + 64]
    windows = F.interpolate(windows, size=(size, size), mode="bilinear", antialias=True)  # (count, 1, size, size)
    spread, mean = torch.std_mean(windows, dim=(2, 3), keepdim=True)
    contrast, light = torch.rand(2, count, 1, 1, 1, generator=generator)  # as if under another lamp
    windows = (windows - mean) / spread.clamp_min(4) * (30 + 20 * contrast) + 80 + 100 * light
    images = windows.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()  # (count, 3, size, size)
    return datasets.ImageSet(images, labels, tuple(PHOTOGRAPHS))


# %%
few, test = surfaces("train", 30), surfaces("test", 500)
fig = plots.image_grid(few.images, [few.classes[i] for i in few.labels], columns=10, size=0.9)
plots.show(
    fig,
    "Three small grey windows of each of ten photographs: brick, grass, gravel, cat, stars, tissue, text, moon, coins, "
    "retina.",
)

# %% [markdown]
# Everything is grey, and every window gets a brightness and a contrast of its own: neither colour nor light tells the
# classes apart. You name most of them after these three.
#
# A ViT has nearly a million weights to learn, and in notebook 08 it wanted thousands of pictures. **Predict before you
# run on:** how many of ten test windows will a ViT get right that saw these 30?
#
# It need not begin with random weights, though. The course ships a model that has learned something else.

# %% [markdown]
# ## A model that has seen other things

# %%
pretrained = weights.load(CHECKPOINT)
config = pretrained.config
print(f"{sum(p.numel() for p in pretrained.parameters()):,} weights, trained to tell apart:")
print(*config.classes, sep=", ")

# %% [markdown]
# This ViT was **pre-trained** on CIFAR-10: 50,000 colour photographs of animals and vehicles. None of our classes is
# among them. Ask it all the same:

# %%
shown = torch.arange(10)
with torch.no_grad():
    chances = pretrained(normalise(test.images[shown], config)).softmax(dim=1)  # (10, 10)
best, name = chances.max(dim=1)
titles = [f"{config.classes[n]}\n{p:.0%}" for n, p in zip(name, best, strict=True)]
plots.show(
    plots.image_grid(test.images[shown], titles, columns=10, size=0.9),
    "One test window of each class, titled with the name that the pre-trained model gives it: names of animals and "
    "vehicles, often with a high probability.",
)

# %% [markdown]
# It has ten names and must choose one. Note how sure it can be of nonsense: a probability is a share among *its*
# classes. The names come from the last layer, the **head**. What stands before it?


# %%
@torch.no_grad()
def features(model, dataset):
    images = normalise(dataset.images, model.config)
    return torch.cat([model.forward_features(part)[:, 0] for part in images.split(250)])  # (n, D)


here, there = features(pretrained, few), features(pretrained, test)
here.shape, there.shape

# %% [markdown]
# `forward_features` is the model without its head. Its first row, the class token, holds 128 numbers that say what is
# in the picture: its **features**. A simple use of them, without any training: give each test window the name of the
# *nearest* of the 30 training windows. Nearest in pixels, or nearest in features?


# %%
def nearest(queries, keys):
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    return (queries @ keys.T).argmax(dim=1)  # (n,): the smallest angle


pixels = [normalise(data.images, config).flatten(1) for data in (test, few)]  # (n, 3*32*32)
found = {"pixels": nearest(*pixels), "features": nearest(there, here)}
share = {kind: (few.labels[index] == test.labels).float().mean().item() for kind, index in found.items()}

# %% tags=["nbval-ignore-output"]
fig, axes = plots.figure(9, 3.1, 3, 10)
for row, (kind, source) in enumerate((("picture", None), *found.items())):
    for ax, i in zip(axes[row], range(10, 20), strict=True):
        image = test.images[i] if source is None else few.images[source[i]]
        right = source is None or few.labels[source[i]] == test.labels[i]
        plots.draw_image(ax, image, test.classes[test.labels[i]] if source is None else ("✓" if right else "✗"))
    axes[row, 0].text(-6, 16, kind, ha="right", va="center", fontsize=10)
plots.show(
    fig,
    "Ten test windows, under each the training window that is nearest in pixels, and the one that is nearest in "
    "features. In features, more of them are of the same class.",
)
print(f"named right by the nearest: {share['pixels']:.0%} in pixels, {share['features']:.0%} in features")
assert share["features"] > share["pixels"] + 0.05

# %% [markdown]
# The model was never told about bricks or gravel, and yet windows of one kind lie together in its features. To tell
# frogs from trucks it had to learn edges, grain and spots, and these serve here too. That is why fine-tuning works,
# and it says when it will not: **where the new question needs something that the old one never asked for.**

# %% [markdown]
# ## A new head
#
# The old head turns 128 features into 10 logits for 10 old names. We put a new one in its place. It begins with zeros.
# **Predict before you run:** what is its loss before any training?


# %% tags=["package"]
def new_head(model, classes):
    config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
    model.head = nn.Linear(config.embed_dim, config.num_classes).to(model.norm.weight)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model.config = config
    return model


# %%
model = new_head(weights.load(CHECKPOINT), few.classes)
loss = F.cross_entropy(model(normalise(few.images, config)), few.labels)
print(f"loss {loss:.4f}; ln 10 = 2.3026")
assert abs(loss - 2.3026) < 1e-3

# %% [markdown]
# Ten equal logits, ln 10. (The package holds the same function.) Zeros have a second virtue. The gradient reaches the
# rest of the model, its **body**, only *through* the head: it is multiplied by the head's weights. By hand, with one
# feature $f$ and one weight $w$: the logit is $z = w f$, so $\partial z / \partial f = w$ and
# $\partial z / \partial w = f$. With $w = 0$, the head learns and the body feels nothing:

# %%
loss.backward()
moving = [name for name, p in model.named_parameters() if p.grad.abs().max() > 0]
print(f"parameters with a gradient in the first step: {moving}")
assert moving == ["head.weight", "head.bias"]

# %% [markdown]
# A head of random weights would send random gradients into a good body, before it knows anything itself.
#
# ### Exercise 9.1 · How much learns?
# *predict · easy · 2 minutes*
#
# Another model has features of width 192, and you have 7 classes. You train a new head alone. How many numbers learn?
#
# <details><summary>Hint</summary>
#
# The head is a `Linear(192, 7)`: a matrix, and a bias.
#
# </details>

# %% tags=["exercise"]
answer = ...

# %%
check.probe_size(answer)

# %% [markdown]
# ## The head alone
#
# The mildest fine-tuning: keep the body as it is, and train the head. It is called a **linear probe**. As the body
# never changes, nor do the features of a picture: compute them once, and what is left is one small matrix.

# %%
torch.manual_seed(0)
head = nn.Linear(128, 10)
optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
for _ in range(200):
    optimizer.zero_grad()
    F.cross_entropy(head(here), few.labels).backward()
    optimizer.step()

# %% tags=["nbval-ignore-output"]
probed = (head(there).argmax(dim=1) == test.labels).float().mean()
print(f"30 pictures, a head alone: {probed:.0%} of the test windows")
assert probed > share["pixels"] + 0.1

# %% [markdown]
# All 200 steps took a fraction of a second. In PyTorch, to keep a parameter as it is means `requires_grad_(False)`:
# it is **frozen**. It gets no gradient, and no optimiser may move it.
#
# ### Exercise 9.2 · A probe that does not learn
# *repair · medium · 5 minutes*
#
# This function makes a model into a probe. Its loss stays at ln 10 whatever you do, and a file saved from it does not
# load. Find both mistakes, and write it again.
#
# <details><summary>Hint</summary>
#
# What is frozen, and in which order? And what does `model.config` say about the classes?
#
# </details>


# %%
def broken_probe(model, classes):
    model.head = nn.Linear(model.config.embed_dim, len(classes))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


# %% tags=["exercise"]
def make_probe(model, classes):
    return ...


# %%
check.make_probe(make_probe)

# %% [markdown]
# ## Everything, at rates of its own
#
# A head can weigh features, not make new ones. For more, the body must move too. But it is good already, and the head
# is new. Why should both take steps of one size?


# %%
recipe = training.RECIPES["fine-tune"]
ways = {
    "from scratch": replace(recipe, layer_decay=1.0, muon_learning_rate=5e-2, initialise=("patches",)),
    "head alone": training.RECIPES["probe"],
    "all alike": replace(recipe, layer_decay=1.0),
    "layer by layer": recipe,
}


# %%
def part_of(name):
    part, number, *_ = name.split(".") + [""]
    return f"block {int(number) + 1}" if part == "blocks" else "head" if part == "head" else "embedding"


fig, axes = plots.figure(9, 2.3, 1, 3, sharey=True)
for ax, way in zip(axes, ("head alone", "all alike", "layer by layer"), strict=True):
    factors = training.rate_factors(model, ways[way])
    bars = {part_of(name): factor for name, factor in factors.items() if not name.startswith("norm")}
    ax.bar(list(bars), list(bars.values()), color=[plots.COLOURS[0]] * 7 + [plots.COLOURS[1]])
    ax.tick_params(axis="x", rotation=60, labelsize=8)
    ax.set_title(way, fontsize=10)
axes[0].set_ylabel("factor of the\nlearning rate")
plots.show(
    fig,
    "Factors of the learning rate for the embedding, six blocks and the head. Head alone: 1 for the head, 0 for the "
    "rest. All alike: 1 everywhere. Layer by layer: 1 for the head, falling to about a fifth at the embedding.",
)

# %% [markdown]
# **Layer by layer** (Howard & Ruder 2018 for text, Bao et al. 2022 for ViTs): the first layers see edges and grain,
# which serve every picture; the last ones prepare the old answers. So each layer gets a fixed factor, the
# `layer_decay`, less than the one above it. With a decay of 0.5 and two blocks: head 1, block 2 $0.5$, block 1
# $0.5^2 = 0.25$, embedding $0.5^3 = 0.125$.
#
# To know which layer a parameter belongs to, its name is enough. The package holds the same function:


# %% tags=["package"]
def layer_number(name, depth):
    part, *rest = name.split(".")
    return int(rest[0]) + 1 if part == "blocks" else {"norm": depth, "head": depth + 1}.get(part, 0)


# %%
factors = training.rate_factors(model, replace(recipe, layer_decay=0.5))
for name in ("pos_embed", "blocks.0.attn.qkv.weight", "blocks.5.mlp.fc2.bias", "norm.weight", "head.weight"):
    print(f"{name:25} layer {layer_number(name, config.depth)}, factor {factors[name]:.4f} at a decay of 0.5")

# %% [markdown]
# These are the layers of timm, the library that most published ViTs come from: the package's tests compare its groups
# with those of timm's `param_groups_layer_decay`, name by name.
#
# A recipe has three fields for all this: `layer_decay`; `body_rate`, one factor for all but the head (0 makes a
# probe); and `frozen`, names of parts that stay as they are. `frozen=("patch_embed",)` keeps the patch projection, as
# Chen et al. 2021 do to steady the training of large ViTs.

# %% [markdown]
# ### Exercise 9.3 · A factor for each layer
# *write · medium · 4 minutes*
#
# Return the factors of all layers, from the embedding (first) to the head (last): `(depth + 2,)`.
#
# <details><summary>Hint</summary>
#
# The head has `decay ** 0`. How many layers lie between it and the embedding? `torch.arange` can count down.
#
# </details>


# %% tags=["exercise"]
def layer_factors(depth, decay):
    return ...


# %%
check.layer_factors(layer_factors)

# %% [markdown]
# ## The race
#
# All ways go through the same `training.train` as in notebook 06, for 80 steps of 32 pictures, shifted and mirrored.
# *From scratch* is the same ViT with fresh weights and all that we know to help it: Muon at a high rate, and patches
# that start as a whitening, as in the course's recipes for CIFAR-10. With AdamW alone it is far worse. An honest race
# needs a good opponent.


# %%
def begin(way, dataset, seed=0, start=CHECKPOINT):
    if way != "from scratch":
        return training.new_head(weights.load(start), dataset.classes)
    torch.manual_seed(seed)
    return VisionTransformer(replace(recipe, model=weights.load(start).config).config(dataset))


def adapt(way, dataset, steps=80, seed=0, start=CHECKPOINT, **change):
    model, chosen = begin(way, dataset, seed, start), replace(ways[way], **change)
    steps_per_epoch = max(len(dataset) // chosen.batch_size, 1)
    training.train(model, dataset, chosen, epochs=steps / steps_per_epoch, seed=seed)
    return model


# %% [markdown]
# The three windows a class from above. **Predict before you run:** put the four ways in order.

# %% tags=["nbval-ignore-output"]
adapted = {way: adapt(way, few) for way in ways}
live = {way: training.evaluate(model, test).accuracy for way, model in adapted.items()}
for way, accuracy in live.items():
    print(f"{way:15} {accuracy:.0%}")
assert live["layer by layer"] > live["from scratch"] + 0.03

# %% [markdown]
# One seed says little. The runs behind the next picture were made by `python tools/measure/fine_tuning.py`, which takes
# pictures, recipes and steps from this notebook: three seeds each, with other windows and other orders.

# %%
record = json.loads((DATA / "runs" / "fine-tuning.json").read_text())


def recorded(task="surfaces", steps=80, change=None, part="course", **wanted):
    wanted |= {"task": task, "steps": steps, "change": change or {}}
    return torch.tensor([run["accuracy"] for run in record[part]["runs"] if wanted.items() <= run.items()])


# %%
COUNTS, MARKS = (10, 20, 50, 100, 300), dict(zip(ways, "^sod", strict=True))
SHADES = dict(zip(ways, ("#000000", *plots.COLOURS), strict=False))
fig, ax = plots.figure(7.5, 3.4)
for way, marker in MARKS.items():
    runs = [100 * recorded(way=way, count=n) for n in COUNTS]
    ax.plot(COUNTS, [r.mean() for r in runs], color=SHADES[way], label=way)
    for n, values in zip(COUNTS, runs, strict=True):
        ax.plot([n] * len(values), values, marker, color=SHADES[way], markersize=4, alpha=0.7)
longer = 100 * recorded(way="from scratch", count=100, steps=320)
ax.plot([100] * len(longer), longer, "^", color="black", fillstyle="none", label="from scratch,\n4 times the steps")
ax.set(xscale="log", xlabel="training pictures of ten classes", ylabel="test accuracy (%)", ylim=(0, 100))
ax.set_xticks(COUNTS, COUNTS, minor=False)
ax.minorticks_off()
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Test accuracy over the number of pictures, three seeds each. The three ways that start from the checkpoint lie "
    "above training from scratch; with more pictures the head alone falls behind the two that move the body.",
)

# %%
for count in COUNTS:
    means = {way: recorded(way=way, count=count).mean().item() for way in ways}
    print(f"{count:3} pictures: " + ", ".join(f"{way} {mean:.0%}" for way, mean in means.items()))
print(f"100 pictures, from scratch, four times the steps: {longer.mean():.0f}%")
lead = [(recorded(way="all alike", count=n) - recorded(way="from scratch", count=n)).mean() for n in COUNTS]
assert min(lead) > 0 and lead[0] > lead[-1] and longer.mean() < 100 * recorded(way="all alike", count=100).mean()

# %% [markdown]
# - **Pre-training is worth pictures**, and most where there are fewest. Four times the steps do not help the ViT that
#   starts from scratch: it knows its pictures by heart long before.
# - **With one window a class, the head alone** is about as good as anything, in a third of the time: 1,290 numbers
#   cannot learn much by heart.
# - **With more, the body should move:** the head alone falls back to training from scratch, for it can make no new
#   features.
# - **Layer by layer is ahead of all alike** while pictures are few. Is it the layers, or only that the body is slower?
#   The rates below will tell.

# %% [markdown]
# ## Photographs
#
# Grey windows are tame. What of real, small photographs? For this a second checkpoint was trained, with the recipe of
# the first, on **five** of CIFAR-10's ten classes alone:

# %%
start = record["photographs"]["info"]["start"]
print(*start["classes"], sep=", ")
print(
    f"{start['images']:,} pictures (JPEG copy), {start['minutes']:.0f} minutes: test accuracy {start['accuracy']:.1%}"
)

# %% [markdown]
# The other five it never saw. Two questions are made of them: *bird, cat or dog?* and *ship or truck?* The four ways
# again, 150 steps, now with **five seeds**, tested on all 1,000 test photographs of each class. From scratch has the
# Muon rate that suited it best here. **Predict before you run:** for which of the two does the checkpoint help more?

# %%
EACH, QUESTIONS = (10, 50, 200), {"animals": ("bird, cat or dog?", 3), "vehicles": ("ship or truck?", 2)}


def photographs(task, way, each, steps=150):
    change = {"muon_learning_rate": 1e-2} if way == "from scratch" else {}  # what suits it best here
    return 100 * recorded(task, steps, change, part="photographs", way=way, count=each * QUESTIONS[task][1])


# %%
fig, axes = plots.figure(9, 3.3, 1, 2, sharey=True)
for ax, (task, (title, classes)) in zip(axes, QUESTIONS.items(), strict=True):
    for shift, (way, marker) in zip((-0.18, -0.06, 0.06, 0.18), MARKS.items(), strict=True):
        runs, x = [photographs(task, way, each) for each in EACH], torch.arange(3) + shift
        ax.plot(x, [r.mean() for r in runs], color=SHADES[way], linewidth=1, label=way)
        for place, values in zip(x, runs, strict=True):
            ax.plot([place] * len(values), values, marker, color=SHADES[way], markersize=4, alpha=0.7)
    longest = photographs(task, "from scratch", 200, 600)
    ax.plot([1.82] * len(longest), longest, "k^", fillstyle="none", label="from scratch,\n4 times the steps")
    ax.axhline(100 / classes, color="#888888", linewidth=0.8)
    ax.set_xticks(range(3), EACH)
    ax.set(title=title, xlabel="training pictures of each class", ylim=(25, 100))
axes[0].set_ylabel("test accuracy (%)")
axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Test accuracy over the number of photographs of each class, five seeds each, the guess as a grey line. Ship or "
    "truck: the three ways that start from the checkpoint are far above training from scratch. Bird, cat or dog: all "
    "are lower and closer together.",
)

# %%
for task, each in ((task, each) for task in QUESTIONS for each in EACH):
    runs = {way: photographs(task, way, each) for way in ways}
    print(f"{task:8} {each:3}: " + ", ".join(f"{way} {r.mean():.0f} ± {r.std():.0f}" for way, r in runs.items()))
for task in QUESTIONS:
    print(f"{task:8} 200: from scratch, four times the steps {photographs(task, 'from scratch', 200, 600).mean():.0f}")
ahead = {
    (task, each): (photographs(task, "layer by layer", each) - photographs(task, "from scratch", each)).mean().item()
    for task in QUESTIONS
    for each in EACH
}
assert min(ahead.values()) > 4 and ahead["vehicles", 10] > 12 > ahead["animals", 200] > ahead["animals", 10]

# %% [markdown]
# - **Ship or truck** gains most where photographs are few: with ten of each a new head does what fifty of each do from
#   scratch. Airplanes and automobiles, which the checkpoint knows, are close relatives. With more photographs the lead
#   melts.
# - **Bird, cat or dog** stays hard, and here the lead grows. Our reading: the features are less ready, and it takes
#   photographs to bend them.
# - **Layer by layer** is ahead or level everywhere. *All alike*, at the same learning rate, loses up to 8 points to it
#   where photographs are few.
# - The ± is the spread over five draws of the photographs. With ten of each, one run says little.

# %% [markdown]
# ## How far may the body move?
#
# A trained body is a place that somebody else found. How far away from it does fine-tuning end? The length of all
# changes, as a share of the length of all weights:


# %%
def body(model):
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if not name.startswith("head")])


def moved(model):
    return ((body(model) - body(pretrained)).norm() / body(pretrained).norm()).item()


# %% [markdown]
# ### Exercise 9.4 · Four bodies
# *experiment · medium · 8 minutes*
#
# The cell below trains with four factors for the body: frozen, slow, as fast as the head, and five times as fast. Run
# it, change what you like (`hundred`, the factors, `steps`), then choose what fits your table:
#
# - **a** the head learns all there is to learn; how fast the body moves makes no difference
# - **b** a body that moves a little beats one that is frozen and one that races
# - **c** a frozen body is best, because it forgets nothing
# - **d** the faster the better: forgetting the old classes makes room for new ones
#
# <details><summary>Hint</summary>
#
# Go down the test column: where does it turn?
#
# </details>

# %% tags=["nbval-ignore-output"]
hundred, bodies, scores = surfaces("train", 100), {}, {}
print("body rate   training   test   moved")
for rate in (0.0, 0.1, 1.0, 5.0):
    bodies[rate] = adapt("all alike", hundred, steps=45, learning_rate=5e-3, body_rate=rate)
    seen, scores[rate] = (training.evaluate(bodies[rate], data).accuracy for data in (hundred, test))
    print(f"{rate:9}{seen:11.0%}{scores[rate]:7.0%}{moved(bodies[rate]):8.0%}")
assert scores[0.1] > scores[0.0] and scores[5.0] < scores[0.1] - 0.3
assert moved(bodies[0.0]) == 0 < moved(bodies[0.1]) < moved(bodies[5.0])

# %% tags=["exercise"]
answer = ...  # "a", "b", "c" or "d"

# %%
check.moved_body(answer)

# %% [markdown]
# Does even the slow body lose something? Put the *old* head back on it, and count how often it still gives the old
# answer:

# %% tags=["nbval-ignore-output"]
images = normalise(test.images[:250], config)
with torch.no_grad():
    old_answers = pretrained(images).argmax(dim=1)
    now = pretrained.head(bodies[0.1].forward_features(images)[:, 0]).argmax(dim=1)
kept = (now == old_answers).float().mean()
print(f"the old answer: {kept:.0%}")
assert kept < 0.75

# %% [markdown]
# This is **catastrophic forgetting**: a small move of the body, and the old head no longer understands it. If you still
# need the old classes, keep the old file, freeze the body, or use LoRA, below, whose update can be taken off again. If
# you do not, no harm is done.

# %% [markdown]
# ## Learning rate, warmup, weight decay: measured
#
# Everything moves ("all alike"), 100 pictures, 80 steps, three seeds. **Predict before you run:** which of the three
# numbers matters most?

# %%
RATES, DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.05, 0.5, 5.0)  # 0.05 is the usual one
fig, (left, right) = plots.figure(9, 2.9, 1, 2, sharey=True, width_ratios=[1.6, 1])
for warmup, marker, colour in ((0.0, "s", plots.COLOURS[1]), (0.1, "o", plots.COLOURS[0])):
    changes = [{"learning_rate": rate, "warmup": warmup} for rate in RATES]
    runs = [100 * recorded(way="all alike", count=100, change=change) for change in changes]
    left.plot(RATES, [r.mean() for r in runs], color=colour, label=f"warmup {warmup:.0%}")
    for rate, values in zip(RATES, runs, strict=True):
        left.plot([rate] * len(values), values, marker, color=colour, markersize=4, alpha=0.7)
left.axhline(100 * recorded(way="from scratch", count=100).mean(), color="#888888", linewidth=0.8)
left.set(xscale="log", xlabel="peak learning rate", ylabel="test accuracy (%)", ylim=(0, 100))
left.legend(frameon=False, fontsize=9)
changes = [{"weight_decay": decay} if decay != 0.05 else {} for decay in DECAYS]
runs = [100 * recorded(way="all alike", count=100, change=change) for change in changes]
for x, values in enumerate(runs):
    right.plot([x] * len(values), values, "o", color=plots.COLOURS[0], markersize=4, alpha=0.7)
right.plot(range(len(DECAYS)), [r.mean() for r in runs], color=plots.COLOURS[0])
right.set_xticks(range(len(DECAYS)), DECAYS)
right.set(xlabel="weight decay")
plots.show(
    fig,
    "Left: accuracy over the learning rate, with and without warmup: best around 0.001, and far below training from "
    "scratch, a grey line, at 0.01 and more. Right: accuracy over the weight decay: nearly flat from 0 to 5.",
)

# %%
by_rate = {r: recorded(way="all alike", count=100, change={"learning_rate": r, "warmup": 0.1}).mean() for r in RATES}
best_rate = max(by_rate, key=by_rate.get)
print(f"all alike, best rate {best_rate}: {by_rate[best_rate]:.0%}; highest rate {RATES[-1]}: {by_rate[RATES[-1]]:.0%}")
print(
    f"layer by layer, the recipe's rate {recipe.learning_rate}: {recorded(way='layer by layer', count=100).mean():.0%}"
)
assert 1e-4 < best_rate <= 3e-3 and by_rate[RATES[-1]] < by_rate[best_rate] - 0.2

# %% [markdown]
# The grey line is training from scratch. **The learning rate decides.** Ten times a good one throws away what
# pre-training gave, and ends below a fresh start. And here is the answer from above: at a rate of its own choice, all
# alike does about as well as layer by layer. The gain was the slower body. What the layers buy is room: a rate that
# suits the new head does no harm below.
#
# **Warmup** is an insurance: no difference at good rates, some at high ones.

# %% [markdown]
# **Weight decay** hardly matters, and for the usual values this is no wonder. In each step a weight keeps the share
# $1 - \text{lr} \cdot \lambda$ of itself. Over the whole run:

# %%
rate = 2e-3
mean_factor = sum(training.warmup_cosine(step / 80) for step in range(80)) / 80
for decay in (0.05, 0.5, 5.0):
    kept = (1 - rate * mean_factor * decay) ** 80
    print(f"weight decay {decay:4}: after 80 steps a weight has kept {kept:.1%}")

# %% [markdown]
# A number from a paper with 100,000 steps means nothing at 80. So, for a short fine-tuning: search the learning rate
# first, in factors of 3; keep a warmup of a tenth; leave the weight decay.

# %% [markdown]
# ## Where it does not help
#
# The same ways and steps, 100 pictures, on the drawn pictures of notebook 08: ten *shapes*, and *same or different*,
# whose answer hangs on two shapes in opposite corners.

# %%
fig, axes = plots.figure(8, 2.5, 1, 3, sharey=True)
for ax, (task, guess) in zip(axes, {"surfaces": 10, "shapes": 10, "same_or_different": 50}.items(), strict=True):
    for x, (way, colour) in enumerate(SHADES.items()):
        values = 100 * recorded(task=task, way=way, count=100)
        ax.plot([x] * len(values), values, MARKS[way], color=colour, alpha=0.7, markersize=5)
    ax.axhline(guess, color="#888888", linewidth=0.8)
    ax.set_xticks(range(4), ways, rotation=30, ha="right", fontsize=8)
    ax.set_title(task.replace("_", " "), fontsize=10)
axes[0].set(ylabel="test accuracy (%)", ylim=(0, 100))
plots.show(
    fig,
    "Test accuracy of the four ways on three tasks with 100 pictures, the guess as a line. Surfaces: the two ways that "
    "move a trained body lead. Shapes: all are low, and close together. Same or different: all at the guess.",
)

# %%
gain = {
    task: (recorded(task=task, way="all alike", count=100) - recorded(task=task, way="from scratch", count=100)).mean()
    for task in ("surfaces", "shapes", "same_or_different")
}
assert gain["surfaces"] > 0.02 and abs(gain["same_or_different"]) < 0.08

# %% [markdown]
# - **Shapes**: a little better than from scratch at most, and poor all the same.
# - **Same or different**: at the level of guessing, pre-trained or not. CIFAR-10 never asked whether two corners
#   agree, so no feature says it, and 100 pictures are too few to build one.
#
# Could you have known beforehand? Ask the nearest neighbours, as above, of 100 training pictures each:

# %% tags=["nbval-ignore-output"]
hints = {}
for draw in (surfaces, datasets.shapes, datasets.same_or_different):
    known, asked = draw("train", 100), draw("test", 500)
    for kind in ("pixels", "features"):
        look = features if kind == "features" else lambda _, data: normalise(data.images, config).flatten(1)
        index = nearest(look(pretrained, asked), look(pretrained, known))
        hints[draw.__name__, kind] = (known.labels[index] == asked.labels).float().mean().item()
        print(f"{draw.__name__:18} {kind:9} {hints[draw.__name__, kind]:.0%}")
assert hints["surfaces", "features"] > hints["surfaces", "pixels"] + 0.1
assert abs(hints["same_or_different", "features"] - 0.5) < 0.1

# %% [markdown]
# You could. It takes seconds and no training: where the neighbours in feature space are hardly better than guessing, do
# not expect much of fine-tuning on few pictures.

# %% [markdown]
# ## A new image size
#
# Our windows were halved to 32 pixels, because the model knows no other size. At 48 pixels they show more. **Predict
# before you run:** what does a model made for 32 do with them?

# %%
large_test = surfaces("test", 250, size=48)
model = adapted["layer by layer"]
try:
    training.evaluate(model, large_test)
except ValueError as error:
    print(error)

# %% [markdown]
# It refuses. A patch is still 4 x 4 pixels, so there are now 12 x 12 of them instead of 8 x 8. Nothing in the blocks
# minds: attention takes any number of tokens. The one thing that is counted is the **position embedding**, a row for
# each place. Between the places that are known, others can be estimated (notebook 02):

# %%
before = model.pos_embed[0, 1:].detach().clone()  # (64, D), without the class token's
set_image_size(model, 48)
after = model.pos_embed[0, 1:].detach()  # (144, D)
fig, axes = plots.figure(5, 2.6, 1, 2)
for ax, positions, place in zip(axes, (before, after), ((2, 5), (3, 8)), strict=True):
    side = int(len(positions) ** 0.5)
    alike = F.cosine_similarity(positions[place[0] * side + place[1]], positions).reshape(side, side)  # (side, side)
    plots.draw_matrix(ax, alike, f"{side} x {side} places", numbers=False)
plots.show(
    fig,
    "How like one place's embedding is to all others, before on 8 x 8 places and after on 12 x 12: the same pattern, "
    "drawn finer.",
)

# %% tags=["nbval-ignore-output"]
at_once = training.evaluate(model, large_test).accuracy
large = surfaces("train", 30, size=48)  # the same windows, in more detail
training.train(model, large, replace(recipe, learning_rate=5e-4, batch_size=15), epochs=10)  # two steps an epoch
tuned = training.evaluate(model, large_test).accuracy
at_32 = live["layer by layer"]
print(f"32 pixels {at_32:.0%}; 48 pixels, positions interpolated: {at_once:.0%}, 20 steps later {tuned:.0%}")
assert at_once > 0.2 and tuned > at_once and tuned < at_32 + 0.15

# %% [markdown]
# Interpolated positions are a start, not the end: everything in a window is now half as large again, measured in
# patches, and the model has to get used to that. Twenty steps at a quarter of the rate do. (At the full rate they did
# harm when we tried: head and body are no longer strangers.)
#
# More pixels are no gain in themselves: here they cost more than twice the time, and tell little more. Large ViTs do
# gain: trained at 224 pixels, where it is cheap, they are fine-tuned for a while at 384 (Dosovitskiy et al. 2021).

# %% [markdown]
# ## With a network: the world's models
#
# The shipped checkpoint is small, so that this notebook runs on a train. With a network, the same three lines start
# from a ViT that has seen 14 million photographs (ImageNet-21k):
#
# ```python
# model = weights.pretrained("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
# training.new_head(set_image_size(model, dataset.image_size), dataset.classes)
# training.train(model, dataset, training.RECIPES["fine-tune"])
# ```
#
# The name is timm's. The download is kept, so the network is needed once. The model brings its own normalisation in
# `model.config`, and `training.train` uses it. Patches have 16 pixels here: give it pictures of 224.
#
# On the command line, `vit-tutorial train --data FOLDER --start CHECKPOINT` does the same.

# %% [markdown]
# ## Break it: another model's normalisation
#
# A classic of fine-tuning: the weights come from one place, the preparation of the pictures from another. Here are the
# same pictures with the mean and spread that another family of weights expects, and, worse, not normalised at all:

# %% tags=["nbval-ignore-output"]
right = adapted["all alike"]
wrongs = {
    "its own": config,
    "0.5 and 0.5": replace(config, mean=(0.5,) * 3, std=(0.5,) * 3),
    "none, 0 to 255": replace(config, mean=(0.0,) * 3, std=(1 / 255,) * 3),
}
scores = {}
for name, normalisation in wrongs.items():
    with torch.no_grad():
        logits = right(normalise(test.images[:250], normalisation))
    scores[name] = (logits.argmax(dim=1) == test.labels[:250]).float().mean().item()
    print(f"{name:15} {scores[name]:.0%}")
assert scores["none, 0 to 255"] < min(0.4, scores["0.5 and 0.5"], scores["its own"] - 0.2)
assert scores["0.5 and 0.5"] < scores["its own"]

# %% [markdown]
# No error in either case. After the second mistake the model is little better than guessing, and you will look for the
# reason. After the first it loses less, and you may believe it: that makes it the worse one. Keep mean and spread
# *with* the weights, as `model.config` does.

# %% [markdown]
# ## Exercises
#
# 9.1 to 9.4 stand above, beside their ideas. The last two build **LoRA** (low-rank adaptation, Hu et al. 2022), which
# fine-tunes models of billions of weights on one graphics card.
#
# The idea: leave a Linear's matrix $W$ frozen, and learn only an *update* to it that is thin. A `(1, 4)` matrix times
# a `(3, 1)` one, the other way round, fills a whole `(3, 4)` matrix with 7 numbers:

# %%
down, up = (
    torch.tensor([[1.0, 0.0, 2.0, -1.0]]),
    torch.tensor([[1.0], [0.5], [-1.0]]),
)  # (rank, inputs), (outputs, rank)
update = up @ down  # (outputs, inputs)
print(f"rank {torch.linalg.matrix_rank(update)}: {down.numel() + up.numel()} numbers for {update.numel()}")
update

# %% [markdown]
# Each row is a multiple of `down`: that is what **rank** 1 means. For a matrix of 384 x 128 and a rank of 4, 2,048
# numbers learn instead of 49,152.
#
# ### Exercise 9.5 · Merge
# *write · easy · 3 minutes*
#
# A layer computes `x @ weight.T + (x @ down.T) @ up.T`. Return the one matrix that does the same alone.
#
# <details><summary>Hint</summary>
#
# Move `x` out of the bracket. What has the shape of `weight`, `(outputs, inputs)`?
#
# </details>


# %% tags=["exercise"]
def merge_lora(weight, down, up):
    return ...


# %%
check.merge_lora(merge_lora)

# %% [markdown]
# ### Exercise 9.6 · LoRA in twenty lines
# *stretch · hard · 15 minutes*
#
# Write the layer: `LoRA(linear, rank)` does what `linear` does, plus an update of that rank, `x @ down.T @ up.T`. It
# freezes `linear`, learns two `nn.Parameter`, `down (rank, inputs)` and `up (outputs, rank)`, and nothing else (other
# names will do), and at the start changes nothing.
#
# <details><summary>Hint</summary>
#
# One of the two starts with zeros, the other must not: the gradient of each is a product with the other. Random
# numbers of about `inputs ** -0.5` suit `down`. `linear.in_features` and `linear.out_features` are the sizes.
#
# </details>


# %% tags=["exercise"]
class LoRA(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        ...

    def forward(self, x):
        return ...


# %%
check.lora(LoRA)

# %% [markdown]
# The solution, at the end, puts it into all six blocks and trains it.

# %% [markdown]
# ## Summary
#
# - A trained body carries features over; a new head, started at zero, reads them for new classes.
# - One picture a class: the head alone will do. More: let the body move, at a lower rate than the head. From scratch:
#   only if nothing related was ever trained.
# - The learning rate decides; too high, and what was learned before is gone. Warmup insures, weight decay needs long
#   runs to matter.
# - A new image size needs new positions, interpolated, and a few steps to get used to them.
# - Pre-training helps where the old task asked for what the new one needs. Neighbours in feature space tell beforehand.

# %% [markdown]
# ## What comes next
#
# [10 Looking inside](10_looking_inside.ipynb) asks what the features are that you have carried over.
# [12 Your own images](12_your_own_images.ipynb) takes a folder of your pictures through all this, to a saved model.

# %% [markdown]
# ## References
#
# - A. Dosovitskiy et al.: *An Image is Worth 16x16 Words*. ICLR 2021. Section 3.2: new head, new size.
# - H. Bao et al.: *BEiT: BERT Pre-Training of Image Transformers*. ICLR 2022. Layer-wise rates in ViTs.
# - J. Howard, S. Ruder: *Universal Language Model Fine-tuning for Text Classification*. ACL 2018. Rates that fall from
#   layer to layer.
# - X. Chen, S. Xie, K. He: *An Empirical Study of Training Self-Supervised Vision Transformers*. ICCV 2021. A frozen
#   patch projection.
# - A. Kumar et al.: *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*. ICLR 2022. Why
#   the head alone can win.
# - E. Hu et al.: *LoRA: Low-Rank Adaptation of Large Language Models*. ICLR 2022.
# - A. Steiner et al.: *How to train your ViT?* TMLR 2022. The weights named augreg.
# - A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images*. 2009. CIFAR-10.

# %% [markdown]
# ## Solutions
#
# ### Solution 9.1
# A matrix of 192 x 7 and 7 biases.

# %% tags=["solution"]
solution = 192 * 7 + 7
assert check.probe_size(solution).passed

# %% [markdown]
# ### Solution 9.2
# First freeze, then make the head: what is made afterwards learns. `new_head` keeps the config in step.


# %% tags=["solution"]
def make_probe_solution(model, classes):
    model.requires_grad_(False)
    return training.new_head(model, classes)


assert check.make_probe(make_probe_solution).passed

# %% [markdown]
# ### Solution 9.3
# The embedding lies `depth + 1` layers below the head.


# %% tags=["solution"]
def layer_factors_solution(depth, decay):
    return decay ** torch.arange(depth + 1, -1, -1)


assert check.layer_factors(layer_factors_solution).passed

# %% [markdown]
# ### Solution 9.4
# The test column rises from the frozen body to one that moves a little, and has fallen far below in the last row.

# %% tags=["solution"]
solution = "b"
assert check.moved_body(solution).passed

# %% [markdown]
# ### Solution 9.5
# $x W^T + x A^T B^T = x\,(W + B A)^T$, with `down` as $A$ and `up` as $B$.


# %% tags=["solution"]
def merge_lora_solution(weight, down, up):
    return weight + up @ down


assert check.merge_lora(merge_lora_solution).passed

# %% [markdown]
# ### Solution 9.6
# `down` is random and `up` zero, so the update begins at 0 and `up` has a gradient at once.


# %% tags=["solution"]
class LoRASolution(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) * linear.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T


assert check.lora(LoRASolution).passed

# %% [markdown]
# Into every block, at the attention's first matrix (q, k and v), with the rest of the body frozen:

# %% tags=["solution", "nbval-ignore-output"]
thin = training.new_head(weights.load(CHECKPOINT), hundred.classes)
thin.requires_grad_(False).head.requires_grad_(True)
for block in thin.blocks:
    block.attn.qkv = LoRASolution(block.attn.qkv, rank=4)
learned = sum(p.numel() for p in thin.parameters() if p.requires_grad)
training.train(thin, hundred, replace(ways["all alike"], learning_rate=5e-3), epochs=60 / 3)
thin_accuracy = training.evaluate(thin, test).accuracy
print(f"{learned:,} of {sum(p.numel() for p in thin.parameters()):,} numbers learn: {thin_accuracy:.0%}")
assert thin_accuracy > live["from scratch"] - 0.05 and check.lora(LoRASolution).passed
