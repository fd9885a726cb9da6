# %% [markdown]
# # 15 · A label for every patch
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - turn a ViT's patch tokens into a class for every pixel, and train the whole on pictures with masks;
# - score the answer by intersection over union and at the outlines, and say why pixel accuracy deceives;
# - read a frozen body through a linear head, layer by layer, and show its features as colours;
# - find and count objects with a small head, and score what it finds.
#
# About {minutes} minutes to read and do, in two parts; 60 s of computing on two CPU cores. Read
# [05 Vision Transformer](05_vision_transformer.ipynb), [06 Training](06_training.ipynb),
# [10 Looking inside](10_looking_inside.ipynb) and [14 Learning without labels](14_learning_without_labels.ipynb) first.

# %%
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from torch import nn

from vit_tutorial import (
    VisionTransformer,
    check,
    course,
    datasets,
    dense,
    interpret,
    metrics,
    normalise,
    plots,
    training,
    weights,
    widgets,
)
from vit_tutorial.dense import UPSAMPLING
from vit_tutorial.files import DATA
from vit_tutorial.layers import patchify, unpatchify
from vit_tutorial.training import mae

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(15)

# %% [markdown]
# ## Point at a patch
#
# Each of these pictures holds a few shapes. Point at a patch, with the mouse or the keyboard: the explorer shows which
# other patches the model of notebook 14 finds alike, in this picture and in a second one. The slider chooses the layer.

# %%
widgets.SimilarityExplorer()

# %% [markdown]
# Try three things. Point at the ground, then at the middle of a shape, then at its edge. Go from the embedding up to
# the last layer. Point at a shape in one picture and look for its like in the other.
#
# A patch of ground has its like in other ground, an edge in other edges. Nobody has told this model where
# a shape ends.
#
# This works because **tokens keep their place**. Whatever a block mixes into a token, token 7 is still about patch 7.
# A classifier throws that away: it reads one class token, or a mean.

# %% [markdown]
# **The question of this notebook: can every token say what lies in its patch?**
#
# To say for each pixel which class it belongs to is called **segmentation**. **Part 1** builds it, scores it and trains
# it. **Part 2** reads models that never learned to do this, and ends with boxes around objects, which can be counted.

# %% [markdown]
# ## Pictures that come with their masks
#
# To score an answer for every pixel you need the truth for every pixel. People draw it by hand: more than an hour and a
# half for one street scene (Cordts et al. 2016). The course draws its own pictures, so it knows. A **scene** has one to
# three shapes on a ground. Its **mask** has a number for each pixel: 0 is ground, 1 to 6 are six kinds of shape.

# %%
pictures, asked = datasets.scenes("train", 4000), datasets.scenes("test", 500)
K = len(pictures.classes)
print(pictures.images.shape, pictures.masks.shape, pictures.classes)

# %%
PALETTE = ("#DDDDDD", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9")  # ground is grey
RGB = torch.tensor([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in PALETTE], dtype=torch.uint8)


def in_colours(masks):
    """Masks `(n, Y, X)` as images `(n, 3, Y, X)`, a colour for each class."""
    return RGB[masks.long()].permute(0, 3, 1, 2)


def with_legend(images, titles=None, columns=6):
    """A grid of images, and below it which colour is which class."""
    fig = plots.image_grid(images, titles, columns, size=1.2)
    handles = [Patch(color=colour, label=name) for colour, name in zip(PALETTE, asked.classes, strict=True)]
    fig.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8, handlelength=1)
    return fig


plots.show(
    with_legend(torch.cat([asked.images[:6], in_colours(asked.masks[:6])])),
    "Six pictures with one to three shapes each, and below each its mask: grey where there is ground, and every shape "
    "in the colour of its kind.",
)

# %% [markdown]
# ## Which token is it?
#
# You know from notebook 01 that patches are numbered row by row, and from 02 that a class token stands before them. So
# a pixel's place leads to a token: divide its row and its column by the patch size, round down, and count.

# %% [markdown]
# ### Exercise 15.1 · The token of a pixel
#
# *predict · easy · 2 minutes*
#
# Pictures of 48 rows and 40 columns are cut into patches of 8 x 8. The model has a class token, which is token 0. Which
# token's patch holds the pixel in row 20, column 33? (Rows and columns count from 0.)
#
# <details><summary>Hint</summary>
#
# How many patches are there in a row of patches? How many whole rows of patches lie above the pixel?
#
# </details>

# %% tags=["exercise"]
token = ...  # a whole number

# %%
check.patch_of_pixel(token)

# %% [markdown]
# ## From tokens to a map, by hand
#
# A picture of 4 x 4 pixels in patches of 2 x 2 gives four patch tokens. Say that a token has two numbers: how *plain*
# its patch is, and how *bright*. A class token stands first:

# %%
tokens = torch.tensor([[9.0, 9.0], [2.0, 0.0], [1.0, 3.0], [3.0, 1.0], [0.0, 2.0]])  # (1 + N, D)
weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # (K, D): "ground" likes plain, "object" likes bright
bias = torch.tensor([0.0, -1.0])  # (K,)
for n, patch in enumerate(tokens[1:]):  # the class token belongs to no place, and is left out
    print(f"patch {n}: ground {weight[0] @ patch + bias[0]:.0f}, object {weight[1] @ patch + bias[1]:.0f}")

# %% [markdown]
# A linear head, as in a classifier, but **the same head on every patch token**. Patch 1: ground 1, object 2 x 3 - 1 =
# 5. So patches 1 and 3 are object. Put the four answers back into the grid, row by row:

# %%
answers = torch.tensor([0, 1, 0, 1])  # (N,): the larger of the two, for each patch
small = answers.view(2, 2)  # (rows, columns)
predicted = small.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)  # (Y, X): each answer for its 2 x 2 pixels
print(small)
print(predicted)

# %% [markdown]
# ### Exercise 15.2 · Tokens to a map
#
# *write · medium · 4 minutes*
#
# Do it for a batch. `tokens` `(B, 1 + N, D)` start with a class token, `weight` `(K, D)` and `bias` `(K,)` are the
# head's, `grid` is (rows, columns). Return the logits as a map, `(B, K, rows, columns)`, with the classes where an
# image has its channels.
#
# <details><summary>Hint</summary>
#
# First `(B, N, K)`. Then swap the last two axes, and only then give N its rows and columns back. A `reshape` without
# the swap has the right shape and mixes classes with places.
#
# </details>


# %% tags=["exercise"]
def my_map(tokens, weight, bias, grid):
    return ...  # (B, K, rows, columns)


# %%
check.to_map(my_map)

# %% [markdown]
# ## One token, all pixels of its patch
#
# A map has one answer a patch, and a mask needs one a pixel. Above, every pixel took its patch's answer. A token can do
# better: it has read all pixels of its patch, so let it answer for each of them. The head then gives K numbers *for
# each of P x P pixels*, and these are laid out as a small picture. `F.pixel_shuffle` does it. For one class and P 2:

# %%
numbers = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])  # (N, P*P): two patches, side by side
by_place = numbers.T.view(1, 4, 1, 2)  # (B, P*P, rows, columns)
F.pixel_shuffle(by_place, 2)[0, 0]  # (Y, X)

# %% [markdown]
# Patch 0 fills the left 2 x 2 pixels with 1, 2, 3, 4, patch 1 the right ones. Now the whole. First the tokens of the
# patches alone, from 05's parts; `layer` stops after a block of your choice, which part 2 needs. (The line with `rope`
# is for 13's models.)


# %% tags=["package"]
def patch_features(vit, images, layer=None):
    x = vit.embed(images)
    rope = {"rope": vit.angles(x)} if hasattr(vit, "angles") else {}  # of a ModernViT
    for block in vit.blocks[:layer]:
        x = block(x, **rope)
    x = vit.norm(x) if layer is None else x
    return x[:, x.shape[1] - vit.config.grid[0] * vit.config.grid[1] :]  # class token and registers stand first


# %% [markdown]
# Then the model: a ViT and one linear layer. With `upsampling="pixels"` it answers as above; "nearest" and "bilinear"
# take one answer a patch and fill in between. Look at `forward`. The rest keeps the names of the classes with the
# model, so that a saved one knows them.


# %% tags=["package"]
class SegmentationViT(nn.Module):
    def __init__(self, vit, num_classes, upsampling="pixels"):
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise ValueError(f"expected upsampling to be one of {UPSAMPLING}, found {upsampling!r}")
        self.vit, self.upsampling, self.K, self.classes = vit, upsampling, num_classes, ()
        self.P = vit.config.patch_size if upsampling == "pixels" else 1  # a token answers for P x P pixels
        self.head = nn.Linear(vit.config.embed_dim, num_classes * self.P**2)
        vit.head = nn.Identity()
        vit.config = replace(vit.config, num_classes=vit.config.embed_dim, classes=())

    @property
    def config(self):
        return replace(self.vit.config, num_classes=self.K, classes=self.classes)

    @config.setter
    def config(self, config):
        self.classes = config.classes
        self.vit.config = replace(config, num_classes=config.embed_dim, classes=())

    def forward(self, images):
        x = self.head(patch_features(self.vit, images))  # (B, N, K) or (B, N, K*P*P)
        x = x.transpose(1, 2).unflatten(2, self.vit.config.grid)  # (B, K or K*P*P, rows, columns)
        if self.upsampling == "pixels":
            return F.pixel_shuffle(x, self.P)  # as unpatchify
        return F.interpolate(x, size=images.shape[2:], mode=self.upsampling)


# %%
recipe = replace(training.RECIPES["segment"], epochs=3, batch_size=32, muon_learning_rate=2e-2, crop=0, flip=False)
model = SegmentationViT(VisionTransformer(recipe.config(pictures)), K)
inputs = normalise(asked.images[:2], model.config)  # (B, 3, 32, 32)
with torch.no_grad():
    print("tokens", tuple(patch_features(model.vit, inputs).shape), "logits", tuple(model(inputs).shape))
print(f"weights: body {sum(p.numel() for p in model.vit.parameters()):,}, head {model.head.weight.numel():,}")

# %% [markdown]
# ## Why pixel accuracy deceives
#
# How good is an answer? The share of right pixels comes to mind. Here is a model that is finished already: it says
# "ground" of every pixel.

# %%
ground_everywhere = torch.zeros_like(asked.masks)  # (n, Y, X)
right = 100 * (ground_everywhere == asked.masks).float().mean().item()
print(f"pixels right: {right:.0f} %")

# %% [markdown]
# {=right:.0f} % right, and not one shape found: most of every picture is ground. So score each class on its own, by
# **intersection over union**, IoU. For the class "object" of our 4 x 4 picture: `predicted` is the map from above,
# `truth` a slanted mask.

# %%
truth = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]])  # (Y, X)
both = (predicted == 1) & (truth == 1)
either = (predicted == 1) | (truth == 1)
print(both.int())
print("intersection", both.sum().item(), "union", either.sum().item())

# %% [markdown]
# Both say object in 5 pixels, at least one does in 10: the IoU is 0.5. For "ground" it is 6 of 11. Pixel accuracy would
# say 11 of 16. IoU counts what was missed *and* what was claimed wrongly, and pixels that nobody calls object do not
# count at all: a large ground buys nothing.
#
# Two rules. Pixels that nobody labelled have the value **255** in a mask, and are left out. A class that is neither
# there nor predicted has no IoU (0 / 0): it is NaN, and the mean over the classes leaves it out.

# %% [markdown]
# ### Exercise 15.3 · Intersection over union
#
# *write · medium · 5 minutes*
#
# `predicted` and `masks` are `(n, Y, X)` with class numbers. Return the IoU of each class, `(num_classes,)`, over the
# pixels of all pictures together. Pixels with 255 in `masks` do not count; NaN where a class is neither there nor
# predicted.
#
# <details><summary>Hint</summary>
#
# Take the judged pixels out first: `predicted[judged]` is one long row. Then a class at a time, as above. In torch,
# 0 / 0 of two tensors is NaN already.
#
# </details>


# %% tags=["exercise"]
def my_iou(predicted, masks, num_classes):
    return ...  # (num_classes,)


# %%
check.iou(my_iou)

# %% [markdown]
# The package's function counts every pair of true and predicted class first, 06's confusion matrix, of pixels. What is
# "ground everywhere" worth by IoU?

# %%
counts = metrics.confusion(ground_everywhere, asked.masks, K)  # (K, K): true classes in rows
lazy = metrics.iou(counts)  # (K,)
print(" ".join(f"{name} {value:.2f}" for name, value in zip(asked.classes, lazy.tolist(), strict=True)))
print(f"mean IoU {lazy.mean():.2f}")
assert lazy[1:].sum() == 0

# %% [markdown]
# A mean IoU of {=lazy.mean():.2f} instead of {=right:.0f} %. That is the number to beat.
#
# *To remember: score each class by its IoU; a large ground makes pixel accuracy look good.*

# %% [markdown]
# ## Where masks end
#
# Most pixels lie inside of something, and their neighbours give them away. The outlines are where it gets hard. They
# need a score of their own, and for that they must be found. In one row of a mask:

# %%
row = torch.tensor([0, 0, 1, 1, 1, 0, 2])
differs = row[1:] != row[:-1]  # between neighbours: one number less than pixels
print(differs.int())

# %% [markdown]
# A border lies between pixels 1 and 2, 4 and 5, 5 and 6. The pixels on *both* sides of a border belong to the outline:
# 1, 2, 4, 5 and 6.

# %% [markdown]
# ### Exercise 15.4 · The outline
#
# *write · medium · 4 minutes*
#
# Return for masks `(n, Y, X)` which pixels have a pixel of another class directly left, right, above or below, as
# `(n, Y, X)` of True and False. Diagonal neighbours do not count, and the edge of the picture is no border.
#
# <details><summary>Hint</summary>
#
# Start with all False. Compare `masks[:, :, 1:]` with `masks[:, :, :-1]`: where they differ, both pixels are marked, so
# `|=` the result into two slices. Then the same for rows.
#
# </details>


# %% tags=["exercise"]
def my_outline(masks):
    return ...  # (n, Y, X), bool


# %%
check.outline(my_outline)

# %% [markdown]
# The package's **boundary error** is the share of wrong pixels among those near an outline. It takes diagonal
# neighbours too. "Near" means at most one pixel away. That is little of a picture, but most of its shapes:

# %%
near = metrics.near_outline(asked.masks)  # (n, Y, X)
share = 100 * near.float().mean().item()
shapes = 100 * near[asked.masks > 0].float().mean().item()
print(f"near an outline: {share:.0f} % of all pixels, {shapes:.0f} % of the shapes'")

# %% [markdown]
# ## What moves a picture must move its mask
#
# 06 shifted and mirrored its pictures, so that a model seldom sees one twice in the same place. The label stayed: a cat
# is a cat. A mask must move along. If it does not, nothing fails and nothing warns: the model learns wrong answers.

# %%
flipped = asked.images[2:3].flip(3)  # (1, 3, Y, X), mirrored: columns run the other way
pairs = [asked.images[2:3], in_colours(asked.masks[2:3]), flipped]
pairs += [in_colours(asked.masks[2:3].flip(2)), flipped, in_colours(asked.masks[2:3])]
titles = ["picture", "its mask", "mirrored", "mask too", "mirrored", "mask unchanged"]
plots.show(
    with_legend(torch.cat(pairs), titles),
    "A picture with its mask; the picture mirrored with its mask mirrored, which fit; and the picture mirrored beside "
    "the mask as it was, which do not.",
)

# %% [markdown]
# ### Exercise 15.5 · A crop for both
#
# *repair · medium · 4 minutes*
#
# `broken_crop` cuts a square out of an `image` `(C, Y, X)` and its `mask` `(Y, X)` and enlarges both to the old size.
# It runs and returns the right shapes, and has two faults.


# %%
def broken_crop(image, mask, top, left, side):
    size = mask.shape  # (Y, X)
    part = image[:, top : top + side, left : left + side]  # (C, side, side)
    classes = mask[left : left + side, top : top + side].float()  # (side, side)
    image = F.interpolate(part[None], size=size, mode="bilinear")[0]
    return image, F.interpolate(classes[None, None], size=size, mode="bilinear")[0, 0].to(mask.dtype)


mask = torch.tensor([[0, 0, 0, 0], [0, 0, 6, 6], [0, 0, 6, 6], [0, 0, 0, 0]])
broken_crop(mask[None].float(), mask, 1, 2, 2)

# %% [markdown]
# Here the picture *is* its mask, so that you can compare. Rows 1 and 2, columns 2 and 3 are cross (6) alone, and so is
# the picture that comes out. The mask has ground from elsewhere, and 1, 3 and 4: circle, square and triangle. Copy the
# lines into the stub and mend them.
#
# <details><summary>Hint</summary>
#
# A class is a name, not an amount: between ground and cross there is no circle. Which way of enlarging makes no new
# values? And `top` counts rows: which axis is that?
#
# </details>


# %% tags=["exercise"]
def crop_both(image, mask, top, left, side):
    return ..., ...  # (C, Y, X), (Y, X)


# %%
check.moved_mask(crop_both)

# %% [markdown]
# ## Train it
#
# The loss is 06's cross-entropy, of every pixel, and its mean. `F.cross_entropy` takes classes where channels are. Two
# pixels by hand, one sure and right, one undecided:

# %%
logits = torch.tensor([[[[4.0, 0.0]], [[0.0, 0.0]]]])  # (B, K, Y, X) = (1, 2, 1, 2)
classes = torch.tensor([[[0, 1]]])  # (B, Y, X)
each = F.cross_entropy(logits, classes, reduction="none")  # (B, Y, X)
each, F.cross_entropy(logits, classes)

# %% [markdown]
# The second costs ln 2 = 0.6931. The recipe is 06's, with patches of 8 x 8 and small batches. The package's trainer
# moves masks along with their pictures; in a run as short as this one, three passes over 4,000 pictures, we do not move
# them at all (`crop=0, flip=False`). Switch it on and see. The body starts from nothing:

# %%
torch.manual_seed(0)
model = dense.SegmentationViT(VisionTransformer(recipe.config(pictures)), K)  # the package's, the same class
history = training.train(model, pictures, recipe, seed=0)
result = training.evaluate_masks(model, asked)

# %% tags=["nbval-ignore-output"]
for name, value in zip(asked.classes, result.iou.tolist(), strict=True):
    print(f"{name:10} {value:.2f}")
print(f"mean IoU {result.mean_iou:.2f}, pixels right {100 * result.accuracy:.0f} %")
assert result.mean_iou > 0.55 and result.iou[0] > 0.95  # measured: 0.76, 0.98

# %% [markdown]
# From {=lazy.mean():.2f} to {=result.mean_iou:.2f}. Pixel accuracy has gone from {=right:.0f} to
# {=100 * result.accuracy:.0f} % meanwhile: read alone, it would say that little happened. Which kinds are hard? Look at
# pictures, answers and errors:

# %% tags=["nbval-ignore-output"]
wrong = result.predicted != asked.masks  # (n, Y, X)
black = (255 * ~wrong[:6, None]).to(torch.uint8).expand(-1, 3, -1, -1)  # (6, 3, Y, X): black where it is wrong
rows = asked.images[:6], in_colours(asked.masks[:6]), in_colours(result.predicted[:6]), black
plots.show(
    with_legend(torch.cat(rows)),
    "Six pictures; below each its mask, the model's answer, and the wrong pixels in black. The answers have shapes at "
    "the right places; most wrong pixels are single ones at edges, and in a few shapes the kind is mistaken.",
)
assert result.boundary_error < 0.4

# %%
at_outline = 100 * (wrong & near).sum().item() / wrong.sum().item()
other_kind = wrong & (asked.masks > 0) & (result.predicted > 0)  # a shape, but the wrong one
confused = 100 * other_kind.sum().item() / wrong.sum().item()

# %% tags=["nbval-ignore-output"]
print(f"near an outline: {share:.0f} % of all pixels, {at_outline:.0f} % of the wrong ones")
elsewhere = 100 * wrong[~near].float().mean().item()
print(f"wrong near an outline: {100 * result.boundary_error:.0f} %, elsewhere {elsewhere:.1f} %")
print(f"another kind of shape than the true one: {confused:.0f} % of the wrong pixels")
assert at_outline > 2 * share

# %% [markdown]
# {=at_outline:.0f} % of the wrong pixels lie near an outline, where only {=share:.0f} % of all pixels are. The rest is
# mostly a shape that is found and called by a wrong name ({=confused:.0f} % of the errors name another kind).

# %% [markdown]
# ## Filling in between
#
# What does it buy that a token answers for every pixel? Leave the model out, and give it *one answer a patch*, the true
# one: which share of the patch each class has. Fill in from these shares: **nearest** gives each pixel its patch's
# shares; **bilinear** blends those of the four nearest patches.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Patches of 8 x 8, and a head that knows the shares exactly. What mean IoU does "nearest"
# reach?
#
# - a: above 0.9, for the head is perfect
# - b: about 0.7
# - c: below 0.5

# %%
shares = F.one_hot(asked.masks.long(), K).permute(0, 3, 1, 2).float()  # (n, K, Y, X)
from_shares = {}
for P in (8, 4, 2):
    small = F.avg_pool2d(shares, P)  # (n, K, rows, columns)
    for mode in ("nearest", "bilinear"):
        filled = F.interpolate(small, size=(32, 32), mode=mode).argmax(dim=1)  # (n, Y, X)
        from_shares[P, mode] = metrics.iou(metrics.confusion(filled, asked.masks, K)).mean().item()
        print(f"P {P}, {mode:8} from true shares {from_shares[P, mode]:.2f}")

# %% [markdown]
# c. True shares give {=from_shares[8, "nearest"]:.2f}. A shape is hardly larger than a patch, so that ground has the
# largest share of nearly every patch, and wins it. Bilinear gives {=from_shares[8, "bilinear"]:.2f}, and smaller
# patches help: {=from_shares[4, "nearest"]:.2f} at P 4. But half the side means four times the tokens, and attention
# that costs up to sixteen times as much. The head that answers for every pixel does not need shares: at P 8 ours
# reached {=result.mean_iou:.2f}.
#
# *To remember: a token has seen all pixels of its patch; let it answer for all of them.*

# %% [markdown] tags=["stop"]
# **A place to stop.** You can turn tokens into a class for every pixel, train that, and score it by IoU and at the
# outlines. The second part reads bodies that never learned to segment, shows features as colours, and finds objects. If
# you come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## Bodies that never learned this
#
# Training took a while, and a large body takes days. Often you have a good body already, and few masks. So leave it
# **frozen** (09): its weights stay, and a head alone learns. What is then to be had depends on what its tokens say.
# Three bodies, all with patches of 4 x 4: one never trained, the encoder of 14 that filled in patches of shapes, and
# the shipped classifier of CIFAR-10 (JPEG copy). None has seen a mask.

# %%
filler, classifier = mae.load(DATA / "mae_shapes.safetensors").vit, weights.load(DATA / "vit_cifar10.safetensors")
torch.manual_seed(0)
untrained = VisionTransformer(filler.config).eval()
few, rest = pictures[:300], asked[:150]  # to learn the head from; to score it on
images, masks = torch.cat([few.images, rest.images]), torch.cat([few.masks, rest.masks])


def frozen(vit):
    """Tokens of the 64 patches after the embedding and after each block, `(L + 1, n, N, D)`: 10's `features`."""
    parts = [interpret.features(vit, normalise(x, vit.config)) for x in images.split(100)]
    return torch.cat(parts, dim=1)[:, :, -64:]  # without a class token


tokens = frozen(untrained)
tokens.shape

# %% [markdown]
# Computed once: a frozen body gives the same tokens in every epoch. What is left is a linear layer, and by **least
# squares** it is found in one go: we ask for the weights whose answers come closest to 1 for the right class and 0 for
# the others, and one system of equations gives them. No learning rate, no steps.


# %%
def with_one(tokens):
    """A 1 behind every token, for the bias: `(n, N, D + 1)`."""
    return F.pad(tokens, (0, 1), value=1.0)


def linear_head(tokens, wanted):
    """The weights `(D + 1, M)` by which tokens `(n, N, D)` come closest to `wanted (n, N, M)`."""
    x, y = with_one(tokens).flatten(0, 1).double(), wanted.flatten(0, 1).double()
    squares = x.T @ x  # (D + 1, D + 1)
    little = 1e-6 * squares.diag().mean() * torch.eye(len(squares))  # so that it can be solved
    return torch.linalg.solve(squares + little, x.T @ y).float()


# %% [markdown]
# Two questions for the same tokens: *object or ground*, two classes; and *which kind*, all seven. The head answers for
# each pixel of its patch, as in part 1.


# %%
def read_out(tokens, classes):
    """What a linear head on `tokens (450, N, D)` says of the last 150 pictures: `(150, Y, X)`."""
    truth = masks[:300].long().clamp(max=classes - 1)  # two classes: every kind is "object"
    one_hot = F.one_hot(truth, classes).permute(0, 3, 1, 2).float()  # (300, classes, Y, X)
    head = linear_head(tokens[:300], patchify(one_hot, 4))  # (D + 1, classes*P*P)
    return unpatchify(with_one(tokens[300:]) @ head, 4, (32, 32)).argmax(dim=1)


def object_iou(predicted):
    """The IoU of the class "object", whatever its kind."""
    return metrics.iou(metrics.confusion(predicted.clamp(max=1), rest.masks.clamp(max=1), 2))[1].item()


def mean_iou(predicted):
    """The mean IoU of all seven classes."""
    return metrics.iou(metrics.confusion(predicted, rest.masks, K)).mean().item()


for layer, some in enumerate(tokens):
    print(f"layer {layer}: object {object_iou(read_out(some, 2)):.2f}, seven classes {mean_iou(read_out(some, 7)):.2f}")

# %% [markdown]
# That is the body that was never trained, layer 0 its embedding. Object or ground can be read from it rather well, from
# random weights: the colours of a patch and of its surroundings are still in there. But *which kind* cannot.

# %% [markdown]
# ### Exercise 15.6 · Which layer?
#
# *experiment · medium · 4 minutes*
#
# Do the same for `filler` and `classifier`. Which statement about *object or ground* holds for both?
#
# - `"a"`: the deeper, the better; the last layer is the best
# - `"b"`: best is a layer between, and after it things get worse
# - `"c"`: best is the embedding, before any block
#
# <details><summary>Hint</summary>
#
# `frozen(filler)` gives the tokens; the loop above does the rest.
#
# </details>

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.which_layer(answer)

# %%
read = {"never trained": untrained, "filled in patches": filler, "CIFAR-10": classifier}
table = {}  # name -> (L + 1, 2): object, and the mean of all seven classes
for name, vit in read.items():
    tokens = frozen(vit)
    table[name] = torch.tensor([[object_iou(read_out(x, 2)), mean_iou(read_out(x, 7))] for x in tokens])
    print(f"{name:18} object", " ".join(f"{value:.2f}" for value in table[name][:, 0].tolist()))
    print(f"{'':19} seven", " ".join(f"{value:.2f}" for value in table[name][:, 1].tolist()))

# %%
fig, axes = plots.figure(8, 2.6, 1, 2, sharex=True)
for n, (ax, title) in enumerate(zip(axes, ("object or ground: IoU of object", "all seven: mean IoU"), strict=True)):
    for (name, values), style in zip(table.items(), ("o:", "s--", "^-"), strict=True):
        ax.plot(values[:, n], style, label=name, markersize=5)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="layer (0: the embedding)")
axes[0].legend(frameon=False, fontsize=9)
said = "; ".join(f"{name} {', '.join(f'{v:.2f}' for v in values[:, 0].tolist())}" for name, values in table.items())
plots.show(
    fig,
    f"IoU by layer from linear heads on frozen bodies. Object: {said}. Mean of all seven classes: at most "
    f"{max(v[:, 1].max() for v in table.values()):.2f}.",
)
assert all(table[name][1:3, 0].max() > table[name][-1, 0] for name in ("filled in patches", "CIFAR-10"))

# %% [markdown]
# b. In both trained bodies it is best after block {=table["CIFAR-10"][:, 0].argmax():d} and then falls, from
# {=table["CIFAR-10"][:, 0].max():.2f} to {=table["CIFAR-10"][-1, 0]:.2f} for CIFAR-10; a linear head on the last layer
# does worse than on a body that was never trained ({=table["never trained"][-1, 0]:.2f}). So do not take the last layer
# by habit: measure.
#
# Which kind it is stays hidden: at best {=max(values[:, 1].max() for values in table.values()):.2f}, where part 1's
# model, all of it trained, and on more pictures, reached {=result.mean_iou:.2f}. Perhaps one token of one corner of a
# star holds too little of the star for a *linear* head to find it.

# %% [markdown]
# ## What patch size, overlap and layer cost
#
# `python tools/measure/segmentation.py` trained more of them, on 4,000 scenes, moved with their masks, in batches of
# 64, with three seeds: other patch sizes, other ways of filling in, other bodies. With **overlap** the answers are
# averaged over the picture and the picture moved by half a patch right, down, and both, so that no pixel lies at the
# border of its patch each time. That is four forward passes, and no training.

# %% [markdown] tags=["predict"]
# **Predict before you run.** A model with patches of 8 is trained already. What does overlap do to its mean IoU?
#
# - a: it falls, for the model never saw its patches moved so
# - b: hardly anything
# - c: it rises by 0.05 or more

# %%
record = json.loads((DATA / "runs" / "segmentation.json").read_text())
USUAL = {"body": "fresh", "frozen": False, "patch": 8, "upsampling": "pixels", "overlap": False, "layer": None}


def recorded(what, steps=400, **others):
    """The values `what` of the runs with these settings, one for each seed."""
    wanted = USUAL | {"steps": steps} | others
    return torch.tensor([run[what] for run in record["runs"] if wanted.items() <= run.items()])


print(f"{'':34}{'mean IoU':>12}{'boundary error':>16}{'a picture':>11}")
p4, mae_body = {"patch": 4}, {"body": "mae", "patch": 4}
rows = [{"patch": 16}, {}, p4, {"upsampling": "bilinear"}, {"upsampling": "nearest"}, {"overlap": True}]
rows += [p4 | {"overlap": True}, mae_body, {"body": "cifar10", "patch": 4}, {"steps": 1600}]
for row in rows:
    ious, errors, seconds = (recorded(name, **row) for name in ("mean_iou", "boundary_error", "seconds_per_picture"))
    name = ", ".join(f"{key} {value}" for key, value in row.items()) or "patch 8, pixels, fresh, 400 steps"
    print(f"{name:34}{ious.min():.2f} to {ious.max():.2f}{100 * errors.mean():14.0f} %{1000 * seconds.min():8.1f} ms")
usual, lapped, fine = (recorded("mean_iou", **row).mean() for row in ({}, {"overlap": True}, p4))
assert lapped > usual + 0.05 and fine > usual

# %% [markdown]
# c. Each row names what differs from the second one; lowest and highest of three seeds; *fresh* is a body not
# trained before. (The settings are not those of part 1: compare the rows with one another only.)
#
# - **Overlap** raises the mean IoU from {=usual:.2f} to {=lapped:.2f}, for four forward
#   passes instead of one.
# - **Patches** of 4 reach {=fine:.2f} in as many steps, with four times as many tokens.
# - **One answer a patch** stays far behind: {=recorded("mean_iou", upsampling="bilinear").mean():.2f} with bilinear,
#   {=recorded("mean_iou", upsampling="nearest").mean():.2f} with nearest.

# %% [markdown]
# - **A body that has seen pictures**, 14's encoder: {=recorded("mean_iou", body="mae", patch=4).mean():.2f} instead of
#   {=fine:.2f}, all of it fine-tuned.
# - **Four times the steps** bring more than any of these: {=recorded("mean_iou", 1600).mean():.2f}.

# %% [markdown]
# And **frozen**: the same three bodies as above, with heads trained by cross-entropy on all 4,000 pictures, layer by
# layer (`last` has passed the norm after it):

# %%
named = {"fresh": "never trained", "mae": "filled in patches", "cifar10": "CIFAR-10"}
for body, depth in (("fresh", 4), ("mae", 4), ("cifar10", 6)):
    for what in ("object_iou", "mean_iou"):
        layers = [*range(depth), None]
        values = [recorded(what, 1000, body=body, patch=4, frozen=True, layer=n).mean().item() for n in layers]
        best = max(range(len(values)), key=values.__getitem__)
        name = "last" if best == depth else best
        print(f"{named[body]:18} {what:11} best {values[best]:.2f} in layer {name}, last layer {values[-1]:.2f}")

# %% [markdown]
# ## Alike, in numbers
#
# The explorer at the top compares tokens by their **cosine**, as 14 compared pictures: the product of two vectors over
# the product of their lengths. 1 is the same direction, 0 nothing in common, -1 the opposite. By hand:

# %%
a, b, c = torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0]), torch.tensor([4.0, -3.0])
for name, other in (("b", b), ("c", c)):
    product, lengths = (a * other).sum(), a.norm() * other.norm()
    print(f"a and {name}: {product:.0f} / {lengths:.0f} = {product / lengths:.2f}")

# %% [markdown]
# a and b differ in length alone: 1. Length is left out on purpose: a few tokens are much longer than others (13), and
# would be everybody's nearest by their size.

# %% [markdown]
# ### Exercise 15.7 · Point at a patch
#
# *write · easy · 3 minutes*
#
# `features` are `(N, D)`, a token for each patch. Return the cosine of each with patch number `query`, `(N,)`, the
# query's own included.
#
# <details><summary>Hint</summary>
#
# Give every token length 1 first. Then a product with one row of them is all cosines at once.
#
# </details>


# %% tags=["exercise"]
def my_cosines(features, query):
    return ...  # (N,)


# %%
check.cosines(my_cosines)

# %% [markdown]
# ## Features as colours
#
# A token has 96 numbers, and a pixel on your screen three. **Principal components** choose three for you: subtract the
# mean of all tokens, find the direction along which they vary most, then the next one at a right angle to it, and
# a third. Three tokens on a line:

# %%
points = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # (N, D)
centred = points - points.mean(dim=0)
along = centred @ torch.tensor([1.0, 1.0]) / 2**0.5  # they vary along (1, 1) and nowhere else
print(centred.tolist())
print(f"{along[0]:.2f} {along[1]:.2f} {along[2]:.2f}, scaled to 0..1:", [0.0, 0.5, 1.0])

# %% [markdown]
# One number each, and nothing is lost. No other three directions keep more of how tokens of 96 numbers vary. Show
# them as red, green and blue, each scaled to 0..1. Here is the model of part 1:

# %%
widgets.SimilarityExplorer(model, asked.images[:4], show="colours")

# %% [markdown]
# Patches of similar colours have tokens that are alike in these three directions. Go through the layers, and compare
# with the plain picture, another view of the explorer. The colours themselves mean nothing: with one more picture they
# may change. Do not read more into a pretty map than
# a score confirms.

# %% [markdown]
# ## An attention map is no mask
#
# 10 drew where a class token looks (without one, where all patches look on the mean), and 14 quoted DINO's maps, which
# look like outlines of objects. Could you have a mask for nothing? Give attention its best chance: for each of the maps
# below take the one threshold, for all pictures, that gives the best IoU on the very masks it is scored on. The linear
# head had to learn from other pictures; only its layer is chosen on these.


# %%
def best_threshold(maps):
    """The best IoU of "object" for maps `(n, rows, columns)`, blended to pixels, over 50 thresholds."""
    filled = F.interpolate(maps[:, None], size=(32, 32), mode="bilinear")[:, 0]  # (n, Y, X)
    filled = filled / filled.flatten(1).amax(dim=1)[:, None, None]  # each picture's largest is 1
    return max(object_iou((filled > threshold).long()) for threshold in torch.linspace(0, 0.98, 50))


found = {}
for name, vit in (("filled in patches", filler), ("CIFAR-10", classifier)):
    x, grid = normalise(rest.images, vit.config), vit.config.grid
    with torch.no_grad():
        maps = interpret.class_map(vit.attention_maps(x).mean(dim=2), grid, vit.cls_token is not None)
    found[name, "attention, last layer"] = best_threshold(maps[-1])
    found[name, "attention, best layer"] = max(best_threshold(layer) for layer in maps)
    found[name, "rollout"] = best_threshold(interpret.class_map(interpret.rollout(vit, x), grid))
    found[name, "linear head, best layer"] = table[name][:, 0].max().item()
for (name, way), value in found.items():
    print(f"{name:18} {way:24} {value:.2f}")
everything = (rest.masks > 0).float().mean().item()
print(f"{'':18} {'all is object':24} {everything:.2f}")
looked = max(value for (_, way), value in found.items() if "head" not in way)
assert looked < 0.7 < found["CIFAR-10", "linear head, best layer"]

# %% [markdown]
# With its best threshold the best map reaches {=looked:.2f}, a linear head
# {=found["filled in patches", "linear head, best layer"]:.2f} and
# {=found["CIFAR-10", "linear head, best layer"]:.2f}; to call everything object gives {=everything:.2f}. So the tokens
# hold far more than the attention shows. These are small models, and DINO's large ones have finer maps. But the
# comparison costs a few lines: make it before you take a map for a mask.
#
# *To remember: read tokens with a head; attention tells where they come from.*

# %% [markdown]
# ## From masks to boxes
#
# Often a box is enough, and a box can be counted. A box is four numbers, **left, top, right, bottom**, in pixels.
# `right` and `bottom` are *exclusive*, as in a slice, so that `right - left` is the width:

# %%
mask = torch.zeros(5, 6, dtype=torch.bool)  # (Y, X)
mask[1, 3] = mask[2, 2:5] = True
print(mask.int())
left, top, right, bottom = 2, 1, 5, 3
print("width", right - left, "height", bottom - top, "inside", mask[top:bottom, left:right].sum().item(), "pixels")

# %% [markdown]
# ### Exercise 15.8 · The box of a mask
#
# *write · medium · 4 minutes*
#
# Return the smallest box around the True pixels of `mask` `(Y, X)`: four whole numbers, left, top, right, bottom, as a
# tensor or a list. There is at least one True pixel.
#
# <details><summary>Hint</summary>
#
# Which columns hold any True pixel, which rows? Of their numbers you need the smallest, and the largest plus 1.
#
# </details>


# %% tags=["exercise"]
def my_box(mask):
    return ...  # (4,)


# %%
check.box_of(my_box)

# %% [markdown]
# ## Finding objects
#
# A token keeps its place, so it can also say *here is one*. The **object head** is one more linear layer with five
# numbers a patch: how likely an object's centre lies in it, where in the patch, and how wide and high the object is.
# `targets` writes down the right answer, `loss` compares, `boxes` reads the answer. In our scenes every shape has
# a quarter of its own, so no patch ever has two centres; where one may, this
# head finds a single object. But two neighbouring patches may both claim one shape.


# %% tags=["package"]
class ObjectHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.P, self.grid = config.patch_size, config.grid
        self.head = nn.Linear(config.embed_dim, 5)

    def forward(self, tokens):
        return self.head(tokens)

    def targets(self, boxes):
        B, rows, columns = len(boxes), *self.grid
        target = boxes.new_zeros(B, rows * columns, 5)
        left, top, right, bottom = (boxes / self.P).unbind(dim=2)  # (B, K) each, in patches
        x, y, there = (left + right) / 2, (top + bottom) / 2, right > left
        place = y.long().clamp(max=rows - 1) * columns + x.long().clamp(max=columns - 1)  # (B, K)
        values = torch.stack([there, x % 1, y % 1, right - left, bottom - top], dim=2).float()
        batch = torch.arange(B).unsqueeze(1).expand_as(place)
        target[batch[there], place[there]] = values[there]
        return target

    def loss(self, tokens, boxes):
        said, target = self(tokens).float(), self.targets(boxes)
        here = target[..., 0] > 0
        centre = F.binary_cross_entropy_with_logits(said[..., 0], target[..., 0])
        return centre + F.l1_loss(said[here][:, 1:], target[here][:, 1:])

    @torch.no_grad()
    def boxes(self, tokens, threshold=0.5):
        said = self(tokens).float()
        chance = said[..., 0].sigmoid()  # (B, N)
        rows, columns = self.grid
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centre = said[..., 1:3] + torch.stack([x, y], dim=2).view(1, -1, 2)
        half = said[..., 3:].clamp(min=0) / 2
        found = self.P * torch.cat([centre - half, centre + half], dim=2)  # (B, N, 4)
        order = chance.argsort(dim=1, descending=True)
        return [b[o[c[o] > threshold]] for b, o, c in zip(found, order, chance, strict=True)]


# %% [markdown]
# One box, followed through. Left 10, top 4, right 18, bottom 16, patches of 8: the centre is (14, 10), in column 1 and
# row 1, so in patch 1 x 4 + 1 = 5; three quarters of a patch from its left edge, a quarter from its top.

# %%
objects = ObjectHead(model.config)
objects.targets(torch.tensor([[[10.0, 4.0, 18.0, 16.0]]]))[0, 5]  # here, x, y, width, height in patches

# %% [markdown]
# We train the body of part 1 a little further, with both heads, by AdamW alone: masks and boxes together. Each step
# adds both losses.

# %%
inputs = normalise(pictures.images, model.config)  # (n, 3, 32, 32)
parameters = [*model.parameters(), *objects.parameters()]
steps, drawn = 300, np.random.default_rng(0)
optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
model.train()
for step in range(steps):
    optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
    index = torch.from_numpy(drawn.integers(len(inputs), size=32))
    tokens = patch_features(model.vit, inputs[index])  # (B, N, D)
    logits = F.pixel_shuffle(model.head(tokens).transpose(1, 2).unflatten(2, model.vit.config.grid), model.P)
    loss = F.cross_entropy(logits, pictures.masks[index].long()) + objects.loss(tokens, pictures.boxes[index])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
after = training.evaluate_masks(model.eval(), asked)

# %%
with torch.no_grad():
    tokens = patch_features(model.vit, normalise(asked.images, model.config))  # (n, N, D)
found = objects.boxes(tokens)  # a tensor (A, 4) for each picture, the surest first
truth = [boxes[boxes[:, 2] > boxes[:, 0]] for boxes in asked.boxes]  # (B, 4): rows without width are no objects

# %% tags=["nbval-ignore-output"]
fig = plots.image_grid(asked.images[:8], columns=8, size=1.2)
for ax, boxes in zip(fig.axes, found[:8], strict=True):
    for left, top, right, bottom in boxes.tolist():
        corner = left - 0.5, top - 0.5
        ax.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor="white", linewidth=1.5))
plots.show(fig, "Eight pictures with the boxes that were found, in white: most shapes have one that fits.")
assert len(found) == len(truth) == 500

# %% [markdown]
# ## How many were found?
#
# A found box and a true one are hardly ever equal, so again IoU decides, of boxes: 0.5 or more is a hit. And each true
# box can be hit **once**. Two boxes on one shape are one hit and one false alarm. Who comes first? The surer one. Found
# boxes 1, 2, 3, the surest first, and their IoU with two true boxes:

# %%
overlap = torch.tensor([[0.7, 0.1], [0.8, 0.2], [0.0, 0.4]])  # (A, B)
for name, values in zip("123", overlap, strict=True):
    print("box", name, "best on true box", values.argmax().item(), "with", round(values.max().item(), 1))

# %% [markdown]
# Box 1 hits true box 0, which is then taken. Box 2 lies better, but comes later: a false alarm. Box 3 overlaps too
# little. One hit: **precision** is 1 of 3 found, **recall** 1 of 2 true.

# %% [markdown]
# ### Exercise 15.9 · Hits
#
# *write · hard · 6 minutes*
#
# `found` `(A, 4)`, the surest first, and `truth` `(B, 4)` are boxes: left, top, right, bottom. Return how many of
# `found` are hits: the box goes to the true one, of those not yet taken, with which its IoU is largest, if that is at
# least 0.5. There may be none of either.
#
# <details><summary>Hint</summary>
#
# The intersection reaches from the larger of the two lefts to the smaller of the two rights, and is empty where that is
# negative. Keep a list of true boxes that are still free, and take the one that was hit off it.
#
# </details>


# %% tags=["exercise"]
def my_match(found, truth):
    return ...  # a whole number


# %%
check.match(my_match)

# %%
hits = sum(metrics.match_boxes(f, t) for f, t in zip(found, truth, strict=True))
precision, recall = 100 * hits / sum(map(len, found)), 100 * hits / sum(map(len, truth))
counted = 100 * sum(len(f) == len(t) for f, t in zip(found, truth, strict=True)) / len(truth)

# %% tags=["nbval-ignore-output"]
print(f"precision {precision:.0f} %, recall {recall:.0f} %, the right number in {counted:.0f} % of the pictures")
print(f"masks: mean IoU {after.mean_iou:.2f} (before, {result.mean_iou:.2f})")
commonest = torch.tensor([len(t) for t in truth]).bincount().max().item()  # pictures with the commonest number
guess = 100 * commonest / len(truth)
print(f"always guessing one number: at most {guess:.0f} %")
assert from_shares[8, "nearest"] < 0.5 < from_shares[2, "nearest"]
assert precision > 70 and recall > 60 and counted > guess + 10

# %% [markdown]
# {=precision:.0f} % of the boxes are hits, {=recall:.0f} % of the shapes are found. The right *number* comes out in
# {=counted:.0f} % of the pictures: one box too many or too few spoils a count, so it is the hardest of the three
# here.

# %% [markdown]
# ## Your own masks
#
# For pictures of your own the package reads a folder with two folders in it: `images/`, and `masks/` with a PNG of the
# same name for each picture. A mask is an index PNG (each pixel's number is its class) or one in colours.

# %%
with tempfile.TemporaryDirectory() as folder:
    for part in ("images", "masks"):
        (Path(folder) / part).mkdir()
    for n in range(12):
        Image.fromarray(asked.images[n].permute(1, 2, 0).numpy()).save(Path(folder) / "images" / f"{n}.png")
        Image.fromarray(asked.masks[n].numpy()).save(Path(folder) / "masks" / f"{n}.png")
    own = datasets.mask_folder(folder)
assert torch.equal(own.masks.sum(), asked.masks[:12].sum())
own

# %% [markdown]
# It trains like ours, and from the command line without a notebook:
#
# ```
# vit-tutorial train --task segment --data FOLDER --out RUN
# vit-tutorial evaluate RUN --data OTHER_FOLDER
# vit-tutorial predict RUN PICTURES --out MASKS
# ```
#
# A file without its partner is named in a warning; masks of another size than their picture, or stored with loss
# (JPEG), are not taken. A table `classes.csv` beside the two folders gives the numbers names.

# %% [markdown]
# ## Exercises
#
# Exercises 15.1 to 15.9 stand above, each beside its idea. One more, 15.10, stands under *Going
# further*.

# %% [markdown]
# ## Going further
#
# ### Exercise 15.10 · Features as colours
#
# *stretch · hard · 8 minutes*
#
# Write what the explorer shows as colours. `features` are `(N, D)`. Subtract their mean, project them on their first
# three principal components, the strongest first, and scale each of the three columns to 0..1. Return `(N, 3)`. Each
# component may point either way.
#
# <details><summary>Hint</summary>
#
# `torch.linalg.svd(x, full_matrices=False)` of the centred features gives U, S, Vh; the rows of Vh are the components.
# `amin(dim=0)` and `amax(dim=0)` belong to a column each.
#
# </details>


# %% tags=["exercise"]
def my_colours(features):
    return ...  # (N, 3)


# %%
check.colours(my_colours)

# %% [markdown]
# ### What larger models do, and we leave out
#
# **Segmenter** (Strudel et al. 2021) starts from one linear answer a patch, filled in bilinearly, and then adds a
# decoder that gives every class a token of its own. **SETR** (Zheng et al. 2021) was the first plain ViT for
# segmentation. **ViTDet** (Li et al. 2022) finds objects with a plain ViT and builds maps of several sizes from its
# last layer. **DETR** (Carion et al. 2020) has a fixed number of tokens that belong to no patch, each of which answers
# for one object; in training the best assignment decides for which.

# %% [markdown]
# **Segment Anything** (Kirillov et al. 2023) takes a point or a box and answers with a mask of whatever is there,
# without naming it; its encoder is a ViT trained as in 14 first, then on a billion masks, most of them drawn by earlier
# versions of itself. **DINOv2** (Oquab et al. 2024) shows how far a linear head on frozen tokens goes once the body is
# large: on photographs it comes near to what a fine-tuned body with a decoder reaches.

# %% [markdown]
# ## Summary
#
# | | what is read | the score |
# |---|---|---|
# | a class for every pixel | each patch token, by one linear head | IoU of each class, errors at outlines |
# | a frozen body | any layer, by a linear head | the same, layer by layer |
# | features | directions, by cosine; three components, by eye | none: a look is no score |
# | objects | each patch token: is a centre here? | precision, recall, the count |
#
# - Tokens keep their place, so each can answer for its patch, and for every pixel in it.
# - A large class makes a bad score look good. Score each class, and the outlines.
# - Measure which layer to read; the last is made for what the body was trained for.

# %% [markdown]
# ## What comes next
#
# A scene also has a caption: "a small red star left of a large blue ring". **16 Pictures and words** joins a ViT with
# a text encoder, and then finds pictures by words.

# %% [markdown]
# ## References
#
# - Strudel et al. 2021, [Segmenter: Transformer for Semantic Segmentation](https://arxiv.org/abs/2105.05633); section
#   3.2 is the linear head.
# - Zheng et al. 2021, [Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with
#   Transformers](https://arxiv.org/abs/2012.15840): SETR.
# - Cordts et al. 2016, [The Cityscapes Dataset for Semantic Urban Scene
#   Understanding](https://arxiv.org/abs/1604.01685).
# - Kohli, Ladicky and Torr 2009, [Robust Higher Order Potentials for Enforcing Label
#   Consistency](https://doi.org/10.1007/s11263-008-0202-0): the score near outlines, in section 4.1.
# - Redmon et al. 2016, [You Only Look Once: Unified, Real-Time Object Detection](https://arxiv.org/abs/1506.02640): one
#   box a cell.
# - Carion et al. 2020, [End-to-End Object Detection with Transformers](https://arxiv.org/abs/2005.12872): DETR.
# - Li et al. 2022, [Exploring Plain Vision Transformer Backbones for Object
#   Detection](https://arxiv.org/abs/2203.16527): ViTDet.
# - Kirillov et al. 2023, [Segment Anything](https://arxiv.org/abs/2304.02643).
# - Oquab et al. 2024, [DINOv2: Learning Robust Visual Features without Supervision](https://arxiv.org/abs/2304.07193).

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 15.1
#
# Five patches in a row of patches; two rows lie above, four patches to the left, and the class token stands first.

# %% tags=["solution"]
assert check.patch_of_pixel(1 + (20 // 8) * (40 // 8) + 33 // 8).passed

# %% [markdown]
# ### Solution 15.2
#
# The class token goes first, the classes change places with the patches, and only then comes the grid.


# %% tags=["solution"]
def map_solution(tokens, weight, bias, grid):
    logits = tokens[:, 1:] @ weight.T + bias  # (B, N, K)
    return logits.mT.unflatten(2, grid)  # (B, K, rows, columns)


assert check.to_map(map_solution).passed

# %% [markdown]
# ### Solution 15.3
#
# The judged pixels in one row, and then a class at a time.


# %% tags=["solution"]
def iou_solution(predicted, masks, num_classes):
    judged = masks != 255
    said, true = predicted[judged], masks[judged]  # (pixels,) each
    scores = []
    for k in range(num_classes):
        both, either = ((said == k) & (true == k)).sum(), ((said == k) | (true == k)).sum()
        scores.append(both / either)  # 0 / 0 is NaN
    return torch.stack(scores)


assert check.iou(iou_solution).passed

# %% [markdown]
# ### Solution 15.4
#
# Each pair of neighbours that differ marks both of them.


# %% tags=["solution"]
def outline_solution(masks):
    marked = torch.zeros_like(masks, dtype=torch.bool)
    across, down = masks[:, :, 1:] != masks[:, :, :-1], masks[:, 1:] != masks[:, :-1]
    marked[:, :, 1:] |= across
    marked[:, :, :-1] |= across
    marked[:, 1:] |= down
    marked[:, :-1] |= down
    return marked


assert check.outline(outline_solution).passed

# %% [markdown]
# ### Solution 15.5
#
# The mask's crop takes rows from `top` as the picture's does, and "nearest" invents no class.


# %% tags=["solution"]
def crop_solution(image, mask, top, left, side):
    rows, columns = slice(top, top + side), slice(left, left + side)
    picture = F.interpolate(image[None, :, rows, columns], size=mask.shape, mode="bilinear")[0]
    classes = F.interpolate(mask[None, None, rows, columns].float(), size=mask.shape, mode="nearest")[0, 0]
    return picture, classes.to(mask.dtype)


assert check.moved_mask(crop_solution).passed

# %% [markdown]
# ### Solution 15.6
#
# In both bodies a block near the start is best, better than the embedding and better than the last.

# %% tags=["solution"]
for vit in (filler, classifier):
    objects_read = [object_iou(read_out(tokens, 2)) for tokens in frozen(vit)]
    assert objects_read[0] < max(objects_read[1:-1]) > objects_read[-1] + 0.02
assert check.which_layer("b").passed

# %% [markdown]
# ### Solution 15.7
#
# Every token over its length, then one product.


# %% tags=["solution"]
def cosines_solution(features, query):
    unit = F.normalize(features, dim=1)  # (N, D)
    return unit @ unit[query]


assert check.cosines(cosines_solution).passed

# %% [markdown]
# ### Solution 15.8
#
# The numbers of the columns and rows that hold something; the last one plus 1.


# %% tags=["solution"]
def box_solution(mask):
    rows, columns = mask.nonzero().unbind(dim=1)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


assert check.box_of(box_solution).passed

# %% [markdown]
# ### Solution 15.9
#
# The surest first; what is hit is taken off the list.


# %% tags=["solution"]
def match_solution(found, truth):
    free, hits = [box.tolist() for box in truth], 0
    for left, top, right, bottom in found.tolist():
        scores = []
        for x0, y0, x1, y1 in free:
            both = max(0, min(right, x1) - max(left, x0)) * max(0, min(bottom, y1) - max(top, y0))
            scores.append(both / ((right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - both))
        if scores and max(scores) >= 0.5:
            free.pop(scores.index(max(scores)))
            hits += 1
    return hits


assert check.match(match_solution).passed

# %% [markdown]
# ### Solution 15.10
#
# The rows of Vh are the components, strongest first; the projections are then scaled column by column.


# %% tags=["solution"]
def colours_solution(features):
    x = features - features.mean(dim=0)
    along = x @ torch.linalg.svd(x, full_matrices=False).Vh[:3].T  # (N, 3)
    low, high = along.amin(dim=0), along.amax(dim=0)
    return (along - low) / (high - low)


assert check.colours(colours_solution).passed
