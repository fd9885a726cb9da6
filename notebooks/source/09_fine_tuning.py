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
# - name a question for which pre-training does not help, and say how one may suspect it beforehand.
#
# About {minutes} minutes to read and do, in two parts; 75 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import copy
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
# Ten photographs come with scikit-image, a package that is already installed. We cut windows of 64 x 64 pixels out of
# them and shrink these to 32 x 32. Training windows come from the left half of a photograph, test windows from the
# right half: no pixel is in both.

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
# Everything is grey, and every window gets a brightness and a contrast of its own, so neither colour nor light says
# much about the class. You could probably name most new windows after these three.
#
# A ViT with 800,000 weights is to learn the same from these 30. How many of ten test windows will it then get right?
# Write your number down: *The race*, below, has the answer. But a model need not begin with random weights. The course
# ships one that has learned something else.

# %% [markdown]
# ## A model that has seen other things

# %%
pretrained = weights.load(CHECKPOINT)
config = pretrained.config
print(f"{sum(p.numel() for p in pretrained.parameters()):,} weights, trained to tell apart:")
print(*config.classes, sep=", ")

# %% [markdown]
# This ViT was **pre-trained** on CIFAR-10: 50,000 small colour photographs of animals and vehicles. Of our classes it
# knows only the name *cat*, and that from whole cats, not from a bit of fur or an eye. Ask it all the same:

# %%
shown = torch.arange(10)
with torch.no_grad():
    chances = pretrained(normalise(test.images[shown], config)).softmax(dim=1)  # (10, 10)
best, name = chances.max(dim=1)
titles = [f"{config.classes[n]}\n{p:.0%}" for n, p in zip(name, best, strict=True)]
plots.show(
    plots.image_grid(test.images[shown], titles, columns=10, size=0.9),
    "One test window of each class, titled with the name that the pre-trained model gives it and its probability: "
    "names of animals and vehicles.",
)

# %% [markdown]
# It has ten names and must choose one. Note how sure it can be of nonsense: the tissue is a
# *{=config.classes[name[5]]:s}*, with {=100 * best[5]:.0f} %. A probability is a share among *its* classes.
#
# The names come from the last layer, the **head**. What stands before it?


# %%
@torch.no_grad()
def features(model, dataset):
    images = normalise(dataset.images, model.config)
    return torch.cat([model.forward_features(part)[:, 0] for part in images.split(250)])  # (n, D)


here, there = features(pretrained, few), features(pretrained, test)
here.shape, there.shape

# %% [markdown]
# `forward_features` is the model without its head. Its first row, the class token, holds 128 numbers, from which the
# head reads the class: the picture's **features**. Here is a use for them without any training: give each test window
# the name of the *nearest* of the 30 training windows, in pixels or in features (at the smallest angle).

# %% [markdown] tags=["predict"]
# **Predict before you run.** A guess is right for one window in ten. For how many in ten is the nearest training
# window, in the features of this model, of the right class?
#
# - a: one or two, little more than a guess
# - b: three or four
# - c: about six
# - d: nearly all


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
    "features, with a tick where it is of the same class and a cross where it is not.",
)
print(f"named right by the nearest: {share['pixels']:.0%} in pixels, {share['features']:.0%} in features")

# %% [markdown]
# c: {=100 * share["features"]:.0f} % of the 500 test windows, where the nearest in pixels is right for
# {=100 * share["pixels"]:.0f} %. And this model was never told about bricks or gravel.
#
# Did its training do that, or would the features of any ViT? Take the same one with fresh weights:

# %%
fresh = VisionTransformer(config)
index = nearest(features(fresh, test), features(fresh, few))
share["fresh"] = (few.labels[index] == test.labels).float().mean().item()
assert share["features"] > max(share["fresh"], share["pixels"]) + 0.2  # fresh: 0.17 to 0.21 for six seeds

# %% [markdown]
# Its features find the right class for only {=100 * share["fresh"]:.0f} %, so it was the training. What the model
# learned about animals and vehicles is of use for these ten classes, too. This is the hope of fine-tuning. It also
# suggests where to expect little: **where the new question needs something that the old one never asked for.**

# %% [markdown]
# ## A new head
#
# The old head turns 128 features into 10 logits for 10 old names. We put a new one in its place, all of whose weights
# are zero. (The package holds the same function, `training.new_head`.)


# %% tags=["package"]
def new_head(model, classes):
    config = replace(model.config, num_classes=len(classes), classes=tuple(classes))
    model.head = nn.Linear(config.embed_dim, config.num_classes).to(model.norm.weight)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    model.config = config
    return model


# %% [markdown] tags=["predict"]
# **Predict before you run.** What is the loss on the 30 windows with this head, before any training?
#
# - a: 0, like the weights
# - b: that of a guess among ten classes
# - c: far above that: the model is sure of its old names

# %%
model = new_head(weights.load(CHECKPOINT), few.classes)
loss = F.cross_entropy(model(normalise(few.images, config)), few.labels)
print(f"loss {loss:.4f}")

# %% [markdown]
# b: ten logits of 0 give each class a tenth, and the loss is ln 10 = {=torch.tensor(10.0).log():.4f}.
#
# Zeros have a second virtue. The gradient reaches the rest of the model, its **body**, only *through* the head: it is
# multiplied by the head's weights. By hand, with one feature $f$ and one weight $w$: the logit is $z = w f$, so
# $\partial z / \partial f = w$ and $\partial z / \partial w = f$. With $w = 0$ the head learns, and nothing reaches the
# body:

# %%
loss.backward()
moving = [name for name, p in model.named_parameters() if p.grad.abs().max() > 0]
print(f"parameters with a gradient in the first step: {moving}")
assert abs(loss - 2.3026) < 1e-3 and moving == ["head.weight", "head.bias"]

# %% [markdown]
# A head with random weights would send gradients into the body before it knows anything itself. Kumar et al. 2022
# show that good features can be spoiled in this way.
#
# ### Exercise 9.1 · How much learns?
# *predict · easy · 2 minutes*
#
# Another model has features of width 192, and you have 7 classes. You train a new head alone. How many numbers are
# learned?
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
# The gentlest fine-tuning leaves the body as it is and trains the head alone. It is called a **linear probe**. As the
# body never changes, neither do a picture's features: compute them once, and what is left to train is one small
# matrix with its biases.

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
# {=100 * probed:.0f} %: not much is gained over the nearest neighbour. Here the body was outside the loop. Where it is
# inside, `requires_grad_(False)` keeps a parameter as it is: it is **frozen**. It gets no gradient, and PyTorch's
# optimisers do not move it.
#
# ### Exercise 9.2 · A probe that does not learn
# *repair · medium · 5 minutes*
#
# This function is meant to turn a model into a probe. But training stops before its first step, and the config still
# names the old classes. Find both mistakes, and write it again.
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


broken = broken_probe(weights.load(CHECKPOINT), few.classes)
print("classes:", ", ".join(broken.config.classes[:3]), "...")
try:
    training.train(broken, few, training.RECIPES["probe"])
except ValueError as error:
    print(error)


# %% tags=["exercise"]
def make_probe(model, classes):
    return ...


# %%
check.make_probe(make_probe)

# %% [markdown]
# ## Everything, at rates of its own
#
# A head can weigh features; it cannot make new ones. For these the body must move as well. But the body is good
# already, and the head is new: should both take steps of the same size? Four ways to train:


# %%
recipe = training.RECIPES["fine-tune"]
ways = {
    "from scratch": replace(recipe, layer_decay=1.0, muon_learning_rate=5e-2, initialise=("patches",)),
    "head alone": training.RECIPES["probe"],
    "all alike": replace(recipe, layer_decay=1.0),
    "layer by layer": recipe,
}


# %%
ticks = ["emb.", 1, 2, 3, 4, 5, 6, "head"]
layers = ["pos_embed", *(f"blocks.{i}.norm1.weight" for i in range(6)), "head.weight"]  # a parameter of each
fig, axes = plots.figure(9, 2.1, 1, 3, sharey=True)
for ax, way in zip(axes, ("head alone", "all alike", "layer by layer"), strict=True):
    factors = training.rate_factors(model, ways[way])
    ax.bar(range(8), [factors[name] for name in layers], color=[plots.COLOURS[0]] * 7 + [plots.COLOURS[1]])
    ax.set_xticks(range(8), ticks)
    ax.set_title(way, fontsize=10)
    ax.set_xlabel("embedding, blocks, head")
axes[0].set_ylabel("factor of the\nlearning rate")
plots.show(
    fig,
    "Factors of the learning rate for the embedding, six blocks and the head. Head alone: 1 for the head, 0 for the "
    "rest. All alike: 1 everywhere. Layer by layer: 1 for the head, falling to about a fifth at the embedding.",
)

# %% [markdown]
# **Layer by layer** (Howard & Ruder 2018 for text, Bao et al. 2022 for ViTs) rests on an idea: the first layers find
# what serves most pictures, such as edges, and the last ones prepare the old answers. So the rate of each layer is
# that of the layer above it times a fixed factor, the `layer_decay`. It is {=recipe.layer_decay:g} in this recipe.
#
# With a decay of 0.5 and two blocks: head 1, block 2 $0.5$, block 1 $0.5^2 = 0.25$, embedding $0.5^3 = 0.125$.
#
# Which layer a parameter belongs to can be told from its name. The package holds the same function:


# %% tags=["package"]
def layer_number(name, depth):
    part, *rest = name.split(".")
    return int(rest[0]) + 1 if part == "blocks" else {"norm": depth, "head": depth + 1}.get(part, 0)


# %%
factors = training.rate_factors(model, replace(recipe, layer_decay=0.5))
for name in ("pos_embed", "blocks.0.attn.qkv.weight", "blocks.5.mlp.fc2.bias", "norm.weight", "head.weight"):
    print(f"{name:25} layer {layer_number(name, config.depth)}, factor {factors[name]:.4f} at a decay of 0.5")

# %% [markdown]
# The same layers are used by timm, a large library of image models; the package's tests compare the two.
#
# A recipe has three fields for all this: `layer_decay`; `body_rate`, one factor for all but the head (0 makes a
# probe); and `frozen`, names of parts that stay as they are, such as `("patch_embed",)`.

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
# All four ways go through the `training.train` of notebook 06: 80 steps of up to 32 pictures, shifted by up to
# {=recipe.crop:d} pixels and mirrored at random.
#
# *From scratch* is the same ViT with fresh weights. An honest race needs a good opponent, so it gets what the course's
# recipes for CIFAR-10 use to learn fast. One is Muon (notebook 06), at a high rate. The other is a patch projection
# that starts as a **whitening**, computed from the training pictures: patches differ mostly in brightness, and a
# whitening scales all the ways in which they differ to about the same strength.


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


# %% [markdown] tags=["predict"]
# **Predict before you run.** Each way learns from the 30 windows above. Which one names most of the 500 test windows
# right?
#
# - a: from scratch
# - b: the head alone
# - c: one of the two that move a trained body

# %% tags=["nbval-ignore-output"]
adapted = {way: adapt(way, few) for way in ways}
live = {way: training.evaluate(model, test).accuracy for way, model in adapted.items()}
for way, accuracy in live.items():
    print(f"{way:15} {accuracy:.0%}")

# %% [markdown]
# c; which of the two is better, one seed cannot tell. And here is the answer to the question at the beginning: from
# scratch, {=10 * live["from scratch"]:.0f} windows of ten are named right.
#
# For more than one seed, `python tools/measure/fine_tuning.py` took pictures, recipes and steps from this notebook and
# recorded three runs of each, with other training windows each time, tested on 1,000 windows:

# %%
record = json.loads((DATA / "runs" / "fine-tuning.json").read_text())


def recorded(task="surfaces", steps=80, change=None, part="course", field="accuracy", **wanted):
    wanted |= {"task": task, "steps": steps, "change": change or {}}
    return torch.tensor([run[field] for run in record[part]["runs"] if wanted.items() <= run.items()])


COUNTS = (10, 20, 50, 100, 300)
mean = {(way, count): 100 * recorded(way=way, count=count).mean().item() for way in ways for count in COUNTS}
for count in COUNTS:
    print(f"{count:3} pictures: " + ", ".join(f"{way} {mean[way, count]:.0f}%" for way in ways))
assert live["layer by layer"] > live["from scratch"] + 0.03

# %%
MARKS, SHADES = dict(zip(ways, "^sod", strict=True)), dict(zip(ways, ("#000000", *plots.COLOURS), strict=False))
fig, ax = plots.figure(7.5, 3.4)
for way, marker in MARKS.items():
    ax.plot(COUNTS, [mean[way, count] for count in COUNTS], color=SHADES[way])
    for count in COUNTS:
        values, label = 100 * recorded(way=way, count=count), way * (count == 10)
        ax.plot([count] * len(values), values, marker, color=SHADES[way], markersize=4, alpha=0.7, label=label)
longer = 100 * recorded(way="from scratch", count=100, steps=320)
ax.plot([110] * len(longer), longer, "^", color="black", fillstyle="none", label="from scratch,\n4 times the steps")
ax.set(xscale="log", xlabel="training pictures of ten classes", ylabel="test accuracy (%)", ylim=(0, 100))
ax.set_xticks(COUNTS, COUNTS, minor=False)
ax.minorticks_off()
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Test accuracy over the number of training pictures, three seeds each. All lines rise. From scratch lies lowest "
    "while pictures are few; from 100 pictures on, the head alone is level with it. The two ways that move a trained "
    "body lie highest from 20 pictures on.",
)

# %%
knows = {n: 100 * recorded(way="from scratch", count=100, steps=n, field="train_accuracy").mean() for n in (80, 320)}
seconds = {way: recorded(way=way, count=10, field="seconds").mean() for way in ways}
lead = {count: mean["layer by layer", count] - mean["from scratch", count] for count in COUNTS}
assert max(lead.values()) == lead[10] > 2 * lead[300] > 0 and longer.mean() < mean["from scratch", 100]
assert mean["from scratch", 20] < mean["layer by layer", 10] < mean["from scratch", 50]
assert all(abs(mean["head alone", count] - mean["from scratch", count]) < 1 for count in (100, 300))
assert all(mean["layer by layer", count] > mean["all alike", count] + 2 for count in COUNTS[:-1])

# %% [markdown]
# - **Pre-training is worth pictures.** With 10, *layer by layer* gets {=mean["layer by layer", 10]:.0f} %. From
#   scratch, 20 are too few for that, and 50 enough. Before rounding, the lead of *layer by layer* is {=lead[10]:.0f}
#   points with 10 pictures and {=lead[300]:.0f} with 300.
# - **More steps are no substitute.** From scratch, {=knows[80]:.0f} % of the 100 training pictures are named right
#   after 80 steps. Four times the steps (the empty triangles beside 100) end at {=longer.mean():.0f} % of the test
#   windows instead of {=mean["from scratch", 100]:.0f} %.

# %% [markdown]
# - **With one picture per class, the head alone** gets {=mean["head alone", 10]:.0f} %, in
#   {=100 * seconds["head alone"] / seconds["layer by layer"]:.0f} % of the time that *layer by layer* takes.
# - **With more, the body should move:** from 100 pictures on, the head alone is level with training from scratch.
# - **Layer by layer is ahead of all alike**, except with 300 pictures. Is it the layers, or only the slower body? The
#   second part will tell.

# %% [markdown] tags=["stop"]
# **A place to stop.** You can put a new head on a trained model, freeze what is to stay, and give each layer a rate of
# its own, and you have seen what that is worth with few pictures. The second part asks how far a body may move, what a
# wrong rate does, where pre-training does not help, and how a model gets to another image size. If you come back to a
# fresh kernel, first run all the cells above.

# %% [markdown]
# ## How far may the body move?
#
# Put all weights of the body into one long vector. How far does fine-tuning move it? Measure the length of the change,
# as a share of the vector's own length:


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
# it, change what you like (the factors, `steps`), then choose what fits your table:
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
assert moved(bodies[0.0]) == 0 < moved(bodies[0.1]) < moved(bodies[5.0])

# %% tags=["exercise"]
answer = ...  # "a", "b", "c" or "d"

# %%
check.moved_body(answer)

# %% [markdown]
# And what of the old classes? Put the *old* head on the slow body, the second one in your table, and count how often
# it still gives the old answer:

# %% tags=["nbval-ignore-output"]
images = normalise(test.images[:250], config)
with torch.no_grad():
    old_answers = pretrained(images).argmax(dim=1)
    now = pretrained.head(bodies[0.1].forward_features(images)[:, 0]).argmax(dim=1)
kept = (now == old_answers).float().mean()
print(f"the old answer: {kept:.0%}")
assert kept < 0.75 and scores[0.1] > scores[0.0] and scores[5.0] < scores[0.1] - 0.3

# %% [markdown]
# The body has moved by {=100 * moved(bodies[0.1]):.0f} %, and the old head gives its old answer to only
# {=100 * kept:.0f} % of the windows. That a network forgets what it is no longer trained on is called **catastrophic
# forgetting** (McCloskey & Cohen 1989).
#
# Most of the old answers were wrong anyway: of our windows, only the cat's have an old name. How many birds and trucks
# the model still knows, the test pictures of CIFAR-10 would have to tell. If you still need the old classes, keep the
# old file, or freeze the body, or use LoRA (*Going further*), whose update can be taken off again. If you do not, no
# harm is done.

# %% [markdown]
# ## Learning rate, warmup, weight decay: measured

# %% [markdown] tags=["predict"]
# **Predict before you run.** All weights move (*all alike*), with 100 pictures, 80 steps and three seeds. Which of the
# three numbers matters most for the accuracy?
#
# - a: the peak of the learning rate, from 0.0001 to 0.03
# - b: the warmup, none or a tenth of the steps
# - c: the weight decay, from 0 to 5

# %%
RATES, DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.05, 0.5, 5.0)  # 0.05 is the usual one
fig, (left, right) = plots.figure(9, 2.9, 1, 2, sharey=True, width_ratios=[1.6, 1])
for warmup, marker, colour in ((0.0, "s", plots.COLOURS[1]), (0.1, "o", plots.COLOURS[0])):
    changes = [{"learning_rate": rate, "warmup": warmup} for rate in RATES]
    runs = [100 * recorded(way="all alike", count=100, change=change) for change in changes]
    left.plot(RATES, [r.mean() for r in runs], color=colour)
    for rate, values in zip(RATES, runs, strict=True):
        label = f"warmup {warmup:.0%}" * (rate == RATES[0])
        left.plot([rate] * len(values), values, marker, color=colour, markersize=4, alpha=0.7, label=label)
for ax in (left, right):
    ax.axhline(mean["from scratch", 100], color="#888888", linewidth=1, linestyle="--", label="from scratch")
left.set(xscale="log", xlabel="peak learning rate", ylabel="test accuracy (%)", ylim=(0, 100))
left.legend(frameon=False, fontsize=9, loc="lower left")
changes = [{"weight_decay": decay} if decay != 0.05 else {} for decay in DECAYS]
runs = [100 * recorded(way="all alike", count=100, change=change) for change in changes]
for x, values in enumerate(runs):
    right.plot([x] * len(values), values, "o", color=plots.COLOURS[0], markersize=4, alpha=0.7)
right.plot(range(len(DECAYS)), [r.mean() for r in runs], color=plots.COLOURS[0])
right.set_xticks(range(len(DECAYS)), DECAYS)
right.set(xlabel="weight decay")
plots.show(
    fig,
    "Two plots of test accuracy in per cent, three seeds each. Left: over the peak learning rate, a line without "
    "warmup and one with it. Right: over the weight decay. A dashed grey line is training from scratch.",
)

# %%
tried = [{"learning_rate": rate, "warmup": warmup} for rate in RATES for warmup in (0.0, 0.1)]
by_rate = {tuple(x.values()): 100 * recorded(way="all alike", count=100, change=x).mean().item() for x in tried}
best_rate, _ = max(by_rate, key=by_rate.get)
gap = {rate: by_rate[rate, 0.1] - by_rate[rate, 0.0] for rate in RATES}  # what the warmup adds, in points
print(f"all alike: rate {best_rate} {by_rate[best_rate, 0.1]:.0f}%, the recipe's {mean['all alike', 100]:.0f}%")
print(f"layer by layer: the recipe's {recipe.learning_rate} {mean['layer by layer', 100]:.0f}%")
assert best_rate == 1e-3 and max(by_rate[0.01, 0.0], by_rate[0.01, 0.1]) < mean["from scratch", 100] - 20
assert max(abs(gap[rate]) for rate in RATES[:4]) < 2 and gap[0.01] > 10
decays = [values.mean().item() for values in runs]
assert max(decays) - min(decays) < 3

# %% [markdown]
# a. **The learning rate decides.** At 0.01, ten times the best, what pre-training gave is gone:
# {=by_rate[0.01, 0.1]:.0f} %, far below a fresh start. **Warmup** makes hardly a difference at good rates and
# {=gap[0.01]:.0f} points at 0.01: it is an insurance. **Weight decay** moves the result by about
# {=max(decays) - min(decays):.0f} points.
#
# Was it the layers? At its best rate, *all alike* does as well with 100 pictures as *layer by layer*. So the gain seems
# to come from smaller steps of the body. (We looked for the best rate on the test pictures. To choose one for your own
# model, hold back some training pictures for validation.)

# %% [markdown]
# A weight decay of 5 is a hundred times the usual one. How much of a weight does that take away? Before each step,
# AdamW multiplies a weight by $1 - \text{lr} \cdot \lambda$, with $\lambda$ for the weight decay (notebook 06).
# Here are the rates of our 80 steps:

# %%
rates = recipe.learning_rate * torch.tensor([training.warmup_cosine(step / 80) for step in range(80)])  # (steps,)
print(f"largest {rates.max():.4f}, sum {rates.sum():.2f}")

# %% [markdown]
# ### Exercise 9.5 · What is left of a weight
# *write · easy · 3 minutes*
#
# `rates (steps,)` are the learning rates of the steps, `decay` is $\lambda$. Return the share of a weight that is left
# after all steps, if the gradients add nothing to it.
#
# <details><summary>Hint</summary>
#
# By hand, with rates 0.5 and 0.2 and a decay of 1: the first step leaves 0.5, the second leaves 0.8 of *that*.
#
# </details>


# %% tags=["exercise"]
def weight_left(rates, decay):
    return ...


# %%
check.weight_left(weight_left)

# %% [markdown]
# After the 80 steps, {=100 * (1 - 0.05 * rates).prod():.1f} % of a weight is left at the usual decay of 0.05, and
# {=100 * (1 - 5 * rates).prod():.0f} % at 5. While it is small, the share that is taken away is about the decay times
# the sum of the rates. So a decay that was tuned for 100,000 steps says little about 80.
#
# So, for a short fine-tuning: search the learning rate first, in factors of 3; keep a warmup of a tenth; leave the
# weight decay.

# %% [markdown]
# ## Where it does not help
#
# The same ways and steps, with 100 of the drawn pictures of notebook 08: ten *shapes*, and *same or different*, where
# two shapes in opposite corners are to be compared.

# %%
fig, axes = plots.figure(8.5, 2.5, 1, 3, sharey=True)
for ax, (task, guess) in zip(axes, {"surfaces": 10, "shapes": 10, "same_or_different": 50}.items(), strict=True):
    for x, (way, colour) in enumerate(SHADES.items()):
        values = 100 * recorded(task=task, way=way, count=100)
        ax.plot([x] * len(values), values, MARKS[way], color=colour, alpha=0.7, markersize=5, label=way)
    ax.axhline(guess, color="#888888", linewidth=1, linestyle="--", label="guess")
    ax.set(title=task.replace("_", " "), xlim=(-0.5, 3.5), xticks=[])
axes[0].set(ylabel="test accuracy (%)", ylim=(0, 100))
axes[2].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Test accuracy of the four ways on three tasks with 100 pictures, the guess as a dashed line. Surfaces: the two "
    "ways that move a trained body lead. Shapes: all are low. Same or different: all at the guess.",
)

# %%
shapes, compared = (
    {way: 100 * recorded(task=task, way=way, count=100).mean().item() for way in ways}
    for task in ("shapes", "same_or_different")
)
assert max(shapes.values()) < 30 and all(value > shapes["from scratch"] + 1 for value in list(shapes.values())[1:])
assert all(abs(value - 50) < 4 for value in compared.values())

# %% [markdown]
# - **Shapes**: {=max(shapes.values()):.0f} % at best, {=shapes["from scratch"]:.0f} % from scratch. Some gain, and
#   still most are wrong.
# - **Same or different**: at the level of guessing, pre-trained or not. CIFAR-10 never asked whether two corners agree,
#   so it gave the model no reason to have a feature for it. That is our reading; the runs only say that none served.
#
# Could you have known beforehand? Ask the nearest neighbours, as above, among 100 training pictures each:

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
assert hints["shapes", "features"] < hints["shapes", "pixels"] + 0.03
assert abs(hints["same_or_different", "features"] - 0.5) < 0.1

# %% [markdown]
# You could have had a suspicion, in seconds and without training: in the two tasks where fine-tuning helped
# little or not at all, the neighbours in features are no better than those in pixels, and little better than a guess.
# Two tasks are not a law, but such a result is a warning.

# %% [markdown]
# ## A new image size
#
# We shrank our windows to 32 x 32 pixels, because the model knows no other size. At 48 x 48 they show more. Give the
# same windows, in that size, to *layer by layer* from the race:

# %%
model, large_test = adapted["layer by layer"], surfaces("test", 500, size=48)[:250]
at_32 = training.evaluate(model, test[:250]).accuracy
try:
    training.evaluate(model, large_test)
except ValueError as error:
    print(error)

# %% [markdown]
# It refuses. A patch is still 4 x 4 pixels, so there are now 12 x 12 of them instead of 8 x 8. The blocks could cope:
# attention takes any number of tokens. But the **position embedding** has one row for each place. Between the
# places that it knows, rows can be interpolated (notebook 02):

# %%
large_model = set_image_size(copy.deepcopy(model), 48)
fig, axes = plots.figure(6, 2.6, 1, 2)
for ax, of, place in zip(axes, (model, large_model), ((2, 5), (3, 8)), strict=True):
    positions = of.pos_embed[0, 1:].detach()  # (N, D), without the class token's
    side = int(len(positions) ** 0.5)
    alike = F.cosine_similarity(positions[place[0] * side + place[1]], positions).reshape(side, side)  # (side, side)
    image = plots.draw_matrix(ax, alike, f"{side} x {side} places", numbers=False, vmin=-1, vmax=1)
    ax.plot(place[1], place[0], "+", color="black")
fig.colorbar(image, ax=axes, label="cosine similarity")
plots.show(
    fig,
    "How like the embedding of one place, marked by a cross, is to those of all others, before on 8 x 8 places and "
    "after on 12 x 12: the same pattern, drawn finer.",
)

# %% [markdown] tags=["predict"]
# **Predict before you run.** At 32 x 32 the model names {=100 * at_32:.0f} % of these 250 windows right. At 48 x 48,
# with interpolated positions and no training, it names ...
#
# - a: more of them, as it sees more
# - b: somewhat fewer
# - c: hardly more than a guess would

# %% tags=["nbval-ignore-output"]
at_once = training.evaluate(large_model, large_test).accuracy
print(f"32 pixels: {at_32:.0%}; 48 pixels, positions interpolated: {at_once:.0%}")
assert at_once > 0.2

# %% [markdown]
# b. Everything in a window is now half as large again, measured in patches. Can the model get used to that? Give it 20
# more steps on its 30 windows, at a quarter of the rate. For comparison, take the same steps at 32 x 32, and
# interpolate afterwards:

# %% tags=["nbval-ignore-output"]
large = surfaces("train", 30, size=48)  # the same windows, in more detail
gentle = replace(recipe, learning_rate=recipe.learning_rate / 4, batch_size=15)  # two steps per epoch
training.train(large_model, large, gentle, epochs=10)
training.train(model, few, gentle, epochs=10)
tuned, later = (training.evaluate(m, large_test).accuracy for m in (large_model, set_image_size(model, 48)))
print(f"at 48 pixels after 20 steps at 48: {tuned:.0%}; after 20 steps at 32: {later:.0%}")
assert tuned > max(at_once, later) and tuned < at_32 + 0.15

# %% [markdown]
# The steps at the new size help, as many at the old one hardly do. In the end {=100 * tuned:.0f} % are right, and
# at 32 x 32 it was {=100 * at_32:.0f} %: more pixels are no gain in themselves, and here they are
# {=(12 * 12 + 1) / (8 * 8 + 1):.1f} times as many tokens. Large ViTs are often pre-trained at 224 pixels, where that
# costs less, and fine-tuned for a while at 384 (Dosovitskiy et al. 2021).

# %% [markdown]
# ## With a network: larger models
#
# The shipped checkpoint is small, so that this notebook runs on a laptop without a network. With one, three lines start
# from a ViT that has seen the 14 million photographs of ImageNet-21k (Steiner et al. 2022):
#
# ```python
# model = weights.pretrained("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
# training.new_head(set_image_size(model, dataset.image_size), dataset.classes)
# training.train(model, dataset, training.RECIPES["fine-tune"])
# ```
#
# The name is timm's. The download is kept, so the network is needed once. The model brings its own normalisation in
# `model.config`, and `training.train` uses it. Patches have 16 x 16 pixels here: give it pictures of 224 x 224.
#
# On the command line, `vit-tutorial train --data FOLDER --start FILE` fine-tunes a checkpoint from a file.

# %% [markdown]
# ## Break it: another model's normalisation
#
# A classic of fine-tuning: the weights come from one place, the preparation of the pictures from another. Here is *all
# alike* from the race with its own mean and spread, with those that another family of weights expects, and with
# pictures that are not normalised at all:

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
# No error in either case. Without normalisation {=100 * scores["none, 0 to 255"]:.0f} % are right, and a guess has 10:
# you will look for the reason. With another family's mean and spread it is {=100 * scores["0.5 and 0.5"]:.0f} % instead
# of {=100 * scores["its own"]:.0f} %, and you may believe it. That makes it the more dangerous mistake. Keep mean and
# spread *with* the weights, as `model.config` does.

# %% [markdown]
# ## Exercises
#
# 9.1 to 9.5 stand above, beside their ideas. The last two stand under *Going further*: they build LoRA, a way to
# fine-tune with few numbers.

# %% [markdown]
# ## Going further
#
# What follows can be left out: the race once more, with photographs, and LoRA.

# %% [markdown]
# ### Photographs
#
# Does the race end alike with real, small photographs? For this a second checkpoint was trained, with the recipe of the
# first, on **five** of CIFAR-10's ten classes alone:

# %%
start = record["photographs"]["info"]["start"]
print(*start["classes"], sep=", ")
print(
    f"{start['images']:,} pictures (JPEG copy), {start['minutes']:.0f} minutes: test accuracy {start['accuracy']:.1%}"
)

# %% [markdown]
# The other five it never saw. Two questions are made of them: *bird, cat or dog?* and *ship or truck?* The four ways
# again, 150 steps, now with **five seeds**, tested on all 1,000 test photographs of each class. From scratch has the
# rate for Muon that did best of four here (see `tools/measure/fine_tuning.py`). In the figure the four ways stand side
# by side, so that no mark hides another; the empty triangles belong to 200.

# %% [markdown] tags=["predict"]
# **Predict before you run.** With ten photographs of each class, for which question does the checkpoint help more?
#
# - a: bird, cat or dog
# - b: ship or truck
# - c: much the same for both

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
        ax.plot(x, [r.mean() for r in runs], color=SHADES[way], linewidth=1)
        for place, values in zip(x, runs, strict=True):
            label = way * bool(place == x[0])
            ax.plot([place] * len(values), values, marker, color=SHADES[way], markersize=4, alpha=0.7, label=label)
    longest = photographs(task, "from scratch", 200, 600)
    ax.plot([1.68] * len(longest), longest, "k^", fillstyle="none", label="from scratch,\n4 times the steps")
    ax.axhline(100 / classes, color="#888888", linewidth=1, linestyle="--", label="guess")
    ax.set_xticks(range(3), EACH)
    ax.set(title=title, xlabel="training pictures of each class", ylim=(25, 100))
axes[0].set_ylabel("test accuracy (%)")
axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    fig,
    "Two plots, one for each question: test accuracy over the number of photographs of each class, for the four ways, "
    "five seeds each, with the guess as a dashed line.",
)

# %%
for task, each in ((task, each) for task in QUESTIONS for each in EACH):
    runs = {way: photographs(task, way, each) for way in ways}
    print(f"{task:8} {each:3}: " + ", ".join(f"{way} {r.mean():.0f} ± {r.std():.0f}" for way, r in runs.items()))
for task in QUESTIONS:
    print(f"{task:8} 200: from scratch, four times the steps {photographs(task, 'from scratch', 200, 600).mean():.0f}")
lead = {
    (task, each): (photographs(task, "layer by layer", each) - photographs(task, "from scratch", each)).mean().item()
    for task in QUESTIONS
    for each in EACH
}
others = {
    way: [(photographs(*x[:1], "layer by layer", x[1]) - photographs(*x[:1], way, x[1])).mean().item() for x in lead]
    for way in ("head alone", "all alike")
}
assert lead["vehicles", 10] > 12 > lead["animals", 200] > lead["animals", 10] > 4
assert min(min(others.values())) > -1 and lead["vehicles", 200] > 4

# %% [markdown]
# - b. **Ship or truck** gains most where photographs are few: {=lead["vehicles", 10]:.0f} points for *layer by layer*
#   with ten of each class, {=lead["vehicles", 200]:.0f} with 200. A new head alone gets from ten what training from
#   scratch gets from fifty. Perhaps airplanes and automobiles, which the checkpoint knows, are close relatives.
# - **Bird, cat or dog** stays hard, and the lead grows with the photographs, from {=lead["animals", 10]:.0f} to
#   {=lead["animals", 200]:.0f} points.
# - **Layer by layer** is ahead or level everywhere. *All alike*, at the same learning rate, is up to
#   {=max(others["all alike"]):.0f} points behind.
# - The ± is the standard deviation over five draws. With ten of each, one run says little. (Leads before rounding.)

# %% [markdown]
# ### LoRA: a thin update
#
# **LoRA** (low-rank adaptation, Hu et al. 2022) leaves a Linear's matrix $W$ frozen and learns only an *update* to it,
# which is made of two thin matrices. Its authors fine-tuned GPT-3 with 10,000 times fewer learned numbers and a third
# of the memory.
#
# A `(3, 1)` matrix times a `(1, 4)` matrix fills a whole `(3, 4)` one, from 7 numbers:

# %%
down, up = (
    torch.tensor([[1.0, 3.0, 2.0, -1.0]]),
    torch.tensor([[1.0], [0.5], [-1.0]]),
)  # (rank, inputs), (outputs, rank)
update = up @ down  # (outputs, inputs)
print(f"rank {torch.linalg.matrix_rank(update)}: {down.numel() + up.numel()} numbers for {update.numel()}")
update

# %% [markdown]
# Each row is a multiple of `down`: that is what **rank** 1 means. For a matrix of 384 x 128 and a rank of 4, 2,048
# numbers are learned instead of 49,152.
#
# ### Exercise 9.6 · Merge
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
# ### Exercise 9.7 · LoRA in twenty lines
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
# ## Summary
#
# - A trained body keeps its features; a new head, started at zero, reads them for new classes.
# - One picture per class: the head alone comes close to the best. More: let the body move, but slowly.
# - The learning rate decides: too high, and what was learned before is gone. The usual weight decay hardly matters in a
#   short run.
# - A new image size needs interpolated positions, and a few steps to get used to it.
# - Pre-training helps where the old task asked for what the new one needs. Neighbours in feature space give a hint.
# - Wrong mean and spread raise no error.

# %% [markdown]
# ## What comes next
#
# [10 Looking inside](10_looking_inside.ipynb) asks what the features are that you have carried over.
# [12 Your own images](12_your_own_images.ipynb) takes a folder of your pictures through all this, to a saved model.
# [13 The modern ViT](13_the_modern_vit.ipynb) builds what DINOv2 and DINOv3 have beyond our model, so that you can
# start from their weights.

# %% [markdown]
# ## References
#
# - A. Dosovitskiy et al.: *An Image is Worth 16x16 Words*. ICLR 2021. Section 3.2: new head, new size.
# - H. Bao et al.: *BEiT: BERT Pre-Training of Image Transformers*. ICLR 2022. Layer-wise rates in ViTs.
# - J. Howard, S. Ruder: *Universal Language Model Fine-tuning for Text Classification*. ACL 2018. Rates that fall from
#   layer to layer.
# - A. Kumar et al.: *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*. ICLR 2022. A
#   head of random weights, and why the head alone can win.
# - M. McCloskey, N. Cohen: *Catastrophic Interference in Connectionist Networks*. Psychology of Learning and Motivation
#   24, 1989.
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
# Each step leaves $1 - \text{lr} \cdot \lambda$ of what the step before has left: the shares are multiplied.


# %% tags=["solution"]
def weight_left_solution(rates, decay):
    return (1 - decay * rates).prod()


assert check.weight_left(weight_left_solution).passed

# %% [markdown]
# ### Solution 9.6
# $x W^T + x A^T B^T = x\,(W + B A)^T$, with `down` as $A$ and `up` as $B$.


# %% tags=["solution"]
def merge_lora_solution(weight, down, up):
    return weight + up @ down


assert check.merge_lora(merge_lora_solution).passed

# %% [markdown]
# ### Solution 9.7
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
# Into every block, at the attention's first matrix (q, k and v), with the rest of the body frozen. Compare the result
# with the table of the race, at 100 pictures:

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
