# %% [markdown]
# # 14 · Learning without labels
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - hide patches of a picture, send the rest through a ViT, and put everything back in order;
# - train a ViT by letting it fill in what was hidden (MAE), and say what its loss counts and why;
# - train one without pixels, student against teacher (DINO), and read from two numbers that it has collapsed;
# - measure, at equal time and with seeds, what pre-training without labels buys when labels are few.
#
# About {minutes} minutes to read and do, in two parts; 120 s of computing on two CPU cores. Read
# [05 Vision Transformer](05_vision_transformer.ipynb), [06 Training](06_training.ipynb) and
# [09 Fine-tuning](09_fine_tuning.ipynb) first.

# %%
import copy
import itertools
import json
import math
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, check, course, datasets, plots, training, unpatchify, widgets
from vit_tutorial.files import DATA
from vit_tutorial.layers import EncoderBlock, patchify, sinusoidal_positions
from vit_tutorial.metrics import knn_accuracy
from vit_tutorial.model import normalise
from vit_tutorial.training.mae import masking_of

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(14)

# %% [markdown]
# ## Cover a picture
#
# Here is a small ViT at work. Cover patches with the mouse or the keyboard, or let the slider hide a share of them, and
# see what the model puts in their places.

# %%
widgets.MaskExplorer()

# %% [markdown]
# Try three things. Cover a quarter of the patches, then nine tenths. Cover all of the object and leave the ground.
# Cover one half.
#
# Between patches that it sees the model goes on with edges and colours. Where nothing of the object is left, it paints
# ground: what was there, it cannot know.
#
# **Nobody has told this model that there are rings, hearts or stars.** It has seen 60,000 pictures and not one label.
# All it was ever asked is: *what was there?* The answer lay in the picture, so nobody had to write one down.

# %% [markdown]
# Why would you want that? Pictures are cheap, labels are not. You may have 10,000 photographs and the patience to label
# 200 of them. In notebook 09 a model trained on *other* pictures, with labels, came to the rescue. What if there is no
# such model?
#
# **The question of this notebook: can a ViT learn from pictures alone, so that a few labels then suffice?**
#
# **Part 1** builds a *masked autoencoder*, MAE for short (He et al. 2022), the kind of model above, and measures what
# it buys with 20 labels a class. **Part 2** builds DINO (Caron et al. 2021), which never paints a pixel.

# %% [markdown]
# ## What goes in, and what stays out
#
# The plan has two halves. An **encoder**, the course's ViT, sees the patches that are left, and nothing of the others.
# A **decoder**, small, gets what the encoder made of them and paints the rest. In the end the decoder is thrown away
# and the encoder kept.
#
# A picture in 16 patches, three times with another half hidden. Black patches do not go in:

# %%
P = 8  # pixels along the side of a patch
pictures, asked = datasets.shapes("train"), datasets.shapes("test", 2000)
heart = asked.images[13:14]  # (1, 3, 32, 32)


def covered(images, hidden):
    """Images `(B, C, Y, X)` with the patches `hidden (B, N)` black."""
    patches = patchify(images, P).masked_fill(hidden[:, :, None], 0)  # (B, N, C*P*P)
    return unpatchify(patches, P, images.shape[2:])  # (B, C, Y, X)


rng = np.random.default_rng(0)
hidden = torch.from_numpy(rng.random((3, 16))).argsort(dim=1) >= 8  # (3, N): half of them, three draws
plots.show(
    plots.image_grid(torch.cat([heart, covered(heart.expand(3, -1, -1, -1), hidden)]), size=1.5),
    "A picture of a heart, and three times the same picture in 4 by 4 patches of which eight are black, others each "
    "time.",
)

# %% [markdown]
# Now by hand, with four patches. Patch 0 has the token (0, 1), patch 1 the token (10, 11), and so on, so that you can
# tell where each one goes. Which two go in? Draw a random number for each patch, its *noise*, and sort:

# %%
tokens = torch.tensor([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0], [30.0, 31.0]])  # (N, D) = (4, 2)
noise = torch.tensor([0.4, 0.8, 0.9, 0.1])  # (N,): as if drawn at random
order = noise.argsort()  # place -> patch: patch 3 has the smallest noise, then 0, 1, 2
keep = order[:2]  # the first K = 2 go in
order, keep, tokens[keep]

# %% [markdown]
# Why sort noise, when flipping a coin for each patch would do? A coin hides sometimes one patch and sometimes three,
# and pictures with different numbers of tokens fit in no tensor. Sorting hides exactly N - K in each picture of a
# batch.
#
# The encoder gets the row (patch 3, patch 0), without gaps. It would not know where the two lay, had their positions
# not been added *before* the others were taken out. So: embed all, add positions, then take.
#
# Half the tokens also means less than half the work of attention.

# %% [markdown]
# ### Exercise 14.1 · How many go in?
#
# *predict · easy · 2 minutes*
#
# An image of 64 x 64 pixels is cut into patches of 8 x 8. Three quarters of them are hidden (ratio 0.75). The model has
# a class token. How many tokens does the encoder see?
#
# <details><summary>Hint</summary>
#
# Count the patches, take those that are not hidden, and ask what else is in the row.
#
# </details>

# %% tags=["exercise"]
visible = ...  # a whole number

# %%
check.visible_tokens(visible)

# %% [markdown]
# ## The way back
#
# The encoder returns two tokens, still in the order of the noise: patch 3, patch 0. To paint the picture all four must
# stand at their places again. Two things are missing.
#
# **Something to stand for the hidden ones.** It is one learned vector, the **mask token**, put behind the row as often
# as patches are hidden. Say it is (-1, -1):

# %%
mask_token = torch.tensor([-1.0, -1.0])  # (D,)
row = torch.cat([tokens[keep], mask_token.expand(2, -1)])  # (N, D): patch 3, patch 0, and two masks
row

# %% [markdown]
# **The way back.** `order` leads from a place in the row to a patch: place 0 holds patch 3. We need the opposite,
# `restore`: at which place does patch 0 stand now, at which patch 1? Write the four numbers down before you run the
# cell.

# %%
restore = order.argsort()  # patch -> place: the inverse of `order`
restore, row[restore]

# %% [markdown]
# Patch 0 stands at place 1, patches 1 and 2 behind it, patch 3 at place 0. (Sorting an order gives its inverse: it asks
# where the 0 stands, where the 1, and so on.) And `row[restore]` has patch 0 and patch 3 at home again, mask tokens
# between them:


# %%
def draw_row(ax, y, names, label):
    """A row of tokens as boxes at height `y`; mask tokens are grey."""
    for x, name in enumerate(names):
        face = "#DDDDDD" if name == "M" else plots.COLOURS[0]
        style = {"ha": "center", "va": "center", "color": "black" if name == "M" else "white", "weight": "bold"}
        ax.text(x, y, name, bbox={"boxstyle": "square,pad=0.6", "facecolor": face, "edgecolor": "none"}, **style)
    ax.text(-0.7, y, label, ha="right", va="center")


fig, ax = plots.figure(7, 3)
draw_row(ax, 3, "0123", "patches, in order")
draw_row(ax, 2, "30", "order[:K] goes in")
draw_row(ax, 1, "30MM", "masks behind")
draw_row(ax, 0, ["0", "M", "M", "3"], "restore: in order")
arrow = {"arrowstyle": "-|>", "color": "#666666", "shrinkA": 14, "shrinkB": 14}
for place, patch in enumerate(keep.tolist()):
    ax.annotate("", (place, 2), (patch, 3), arrowprops=arrow)
for patch, place in enumerate(restore.tolist()):
    ax.annotate("", (patch, 0), (place, 1), arrowprops=arrow)
ax.set(xlim=(-3, 4), ylim=(-0.5, 3.5))
ax.set_axis_off()
plots.show(
    fig,
    "Four rows of boxes. The patches 0, 1, 2, 3. Arrows lead from 3 and 0 to the second row, which holds 3 and 0. "
    "The third row holds 3, 0 and two grey boxes, M. Arrows lead from there to the fourth row: 0, M, M, 3.",
)

# %% [markdown]
# Both M are the same vector, and at home they still are: nothing in them says whether top left or bottom right is
# to be painted. So the decoder adds **positions of its own**, after everything is in order. Added earlier they would
# be the wrong ones.
#
# With a batch, each picture has an order of its own. These are the package's functions; `take` is `tokens[keep]` for
# every picture at once:


# %% tags=["package"]
def random_masking(B, N, ratio, device=None):
    K = N - int(ratio * N)
    if not 0 < K < N:
        raise ValueError(f"expected a ratio that hides some of the {N} patches and leaves some, found {ratio}")
    order = torch.rand(B, N, device=device).argsort(dim=1)  # (B, N): place -> patch
    restore = order.argsort(dim=1)  # (B, N): patch -> place
    return order[:, :K], restore


# %% tags=["package"]
def take(tokens, index):
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


# %% [markdown]
# *To remember: sort noise to choose, sort the order to come back; mask tokens come after the encoder.*

# %% [markdown]
# ### Exercise 14.2 · Mask a batch
#
# *write · medium · 4 minutes*
#
# From `noise` `(B, N)` return three tensors. `keep` `(B, K)`: the numbers of the K patches with the smallest noise, in
# the order of their noise. `restore` `(B, N)`: for each patch, its place in the order. `hidden` `(B, N)`: True for each
# patch that does not go in.
#
# <details><summary>Hint</summary>
#
# The first two are above, with `dim=1`. For `hidden`: the places 0 to K - 1 go in. At which place does a patch stand?
#
# </details>


# %% tags=["exercise"]
def my_masking(noise, K):
    return ..., ..., ...  # (B, K), (B, N), (B, N)


# %%
check.masking(my_masking)

# %% [markdown]
# ### Exercise 14.3 · Put back in the wrong places
#
# *repair · medium · 4 minutes*
#
# `broken_put_back` gets the K tokens `x` `(B, K, D)` of each picture, the `mask_token` `(1, 1, D)`, `restore` `(B, N)`
# and the decoder's positions `places` `(1, N, D)`. It should put mask tokens behind, all in order, and add to each
# token the position of its patch. It runs and gives the right shape, and has two faults.


# %%
def broken_put_back(x, mask_token, restore, places):
    (B, K, D), N = x.shape, restore.shape[1]
    x = torch.cat([x, mask_token.expand(B, N - K, D)], dim=1)  # (B, N, D)
    x = x + places
    index = restore[:, :, None].expand(B, N, D)
    return torch.zeros_like(x).scatter(1, index, x)  # (B, N, D)


places = torch.tensor([100.0, 200.0, 300.0, 400.0]).view(1, 4, 1).expand(1, 4, 2)  # (4,) -> (1, N, D)
broken_put_back(tokens[keep][None], mask_token.view(1, 1, 2), restore[None], places)

# %% [markdown]
# It should give (100, 101), (199, 199), (299, 299) and (430, 431): patch 0 with place 100, two masks with 200 and 300,
# patch 3 with place 400. Copy the lines into the stub and mend them.
#
# <details><summary>Hint</summary>
#
# Whose place does patch 3 get, while it still stands first? And `scatter` sends token i to place `index[i]`; `gather`
# fetches token `index[i]` to place i. Which does `row[restore]` do?
#
# </details>


# %% tags=["exercise"]
def repaired_put_back(x, mask_token, restore, places):
    return ...  # (B, N, D)


# %%
check.put_back(repaired_put_back)

# %% [markdown]
# ### Why the encoder never sees a mask token
#
# One could put mask tokens in at the start, and spare the way back. Two reasons against it. The encoder would work on
# tokens that hold nothing. And it would learn to expect them, though no picture has one when you use it later. He et
# al. (2022, table 1c) tried: 3.3 times the computation, and fine-tuned on ImageNet 84.2 % instead of 84.9 %.

# %% [markdown]
# ## What counts as an error
#
# The decoder answers for all patches, visible ones too. Should these count? Three patches of two pixels, by hand:

# %%
predicted = torch.tensor([[[1.0, 1.0], [2.0, 0.0], [5.0, 5.0]]])  # (B, N, M) = (1, 3, 2)
targets = torch.tensor([[[1.0, 3.0], [2.0, 0.0], [5.0, 9.0]]])
hidden = torch.tensor([[True, False, True]])  # (B, N)
error = (predicted - targets).square().mean(dim=2)  # (B, N)
error, error.mean(), error[hidden].mean()

# %% [markdown]
# Patch 0: (0 + 4) / 2 = 2. Patch 2: (0 + 16) / 2 = 8. Patch 1 was in plain sight, and copying it right earns nothing
# but a smaller mean: 3.33 instead of 5. A loss over everything pays for copying, which needs no idea of what a picture
# shows. So only what was hidden counts (all patches: half a point less in He et al.).

# %% [markdown]
# ### Exercise 14.4 · The loss on what was hidden
#
# *write · easy · 2 minutes*
#
# `predicted` and `targets` are `(B, N, M)`, `hidden` is `(B, N)`, True where a patch was hidden. Return the mean
# squared error of the hidden patches, a tensor with one number, from which gradients flow back.
#
# <details><summary>Hint</summary>
#
# First one number a patch, `(B, N)`. A tensor of True and False picks numbers by standing in the brackets.
#
# </details>


# %% tags=["exercise"]
def my_loss(predicted, targets, hidden):
    return ...  # one number


# %%
check.hidden_loss(my_loss)

# %% [markdown]
# ## Why each patch is normalised
#
# What should the decoder paint: the pixels? Look at what a lazy one would get for them. It knows nothing of shapes, and
# gives all numbers of a hidden patch one value, the right mean. How much of the pixels' variance has it explained?

# %%
images = normalise(asked.images, training.RECIPES["mae"].config(asked))  # (2000, 3, 32, 32)
patches = patchify(images, P)  # (B, N, C*P*P)
explained = (patches.mean(dim=2).var() / patches.var()).item()
print(f"explained by the mean of each patch: {explained:.0%}")
assert explained > 0.3

# %% [markdown]
# {=100 * explained:.0f} % of the pixels' variance is how bright each patch is as a whole. With plain pixels, that much
# of the loss is a matter of the right grey.
#
# The remedy: subtract from each patch its mean, and divide by its spread. Three patches of four pixels:

# %%
patches = torch.tensor([[1.0, 2.0, 3.0, 2.0], [101.0, 102.0, 103.0, 102.0], [10.0, 20.0, 30.0, 20.0]])  # (N, M)
for patch in patches:
    print((patch - patch.mean()) / patch.std())

# %% [markdown]
# Check the first: mean 2, deviations -1, 0, 1, 0, variance 2/3 (`torch.var` divides by one less than the number), so
# the ends are 1 / √(2/3) = 1.2247. The second is a hundred brighter, the third has ten times the contrast; all three
# come out the same: brightness and contrast are gone, the pattern is left.
#
# In a patch with nothing but one grey the spread is 0. So 1e-6 is added to the variance, under the root: no 0 / 0.

# %% [markdown]
# ### Exercise 14.5 · Targets of equal weight
#
# *write · easy · 3 minutes*
#
# Normalise each patch of `patches` `(B, N, M)`: subtract its mean, and divide by the root of its variance plus 1e-6,
# the variance as `torch.var` gives it.
#
# <details><summary>Hint</summary>
#
# `keepdim=True` keeps `(B, N, 1)`, which fits `(B, N, M)`. The 1e-6 stands under the root.
#
# </details>


# %% tags=["exercise"]
def my_targets(patches):
    return ...  # (B, N, M)


# %%
check.normalised_patches(my_targets)


# %% tags=["package"]
def patch_targets(images, patch_size, normalise=True):
    targets = patchify(images, patch_size)  # (B, N, C*P*P)
    if normalise:
        mean, variance = targets.mean(dim=2, keepdim=True), targets.var(dim=2, keepdim=True)
        targets = (targets - mean) / (variance + 1e-6).sqrt()
    return targets


# %%
def to_show(x):
    """Numbers around 0 as grey levels and colours: -2 is 0, 2 is 1."""
    return (x / 4 + 0.5).clamp(0, 1)


examples = images[[14, 13, 11]]  # (3, 3, 32, 32): a ring, a heart, a star
normed = unpatchify(patch_targets(examples, P), P, (32, 32))  # (3, 3, 32, 32)
both = torch.stack([to_show(examples), to_show(normed)], dim=1).flatten(0, 1)  # (3, 2, ...) -> (6, 3, 32, 32)
plots.show(
    plots.image_grid(both, columns=6, size=1.25),
    "A ring, a heart and a star, each beside itself with its 4 by 4 patches normalised: there the patches do not fit "
    "each other, the ground is bright green or orange instead of dull, and faint stripes stand out.",
)

# %% [markdown]
# In each pair the right picture is the target. Dull grounds turn bright, and their faint stripes weigh as much as an
# edge. Colours are not gone: mean and variance are taken over the numbers of all three channels, so that green ground
# stays green. Is it a gain? For He et al. (2022, table 1d) half a point on ImageNet, 84.9 % to 85.4 %.
#
# A price: the answers are no pixels any more. The model of the explorer above was trained on plain pixels, so that it
# has something to show.

# %% [markdown]
# ## Encoder, decoder and both together
#
# First the encoder: 05's ViT step by step, with one line more, `take`. It reads the model's own parts, so there is
# nothing to copy afterwards.


# %% tags=["package"]
def encode(vit, images, keep):
    prefix = int(vit.cls_token is not None)
    x = vit.patch_embed(images)  # (B, N, D)
    x = take(x + vit.pos_embed[:, prefix:].to(x.dtype), keep)  # (B, K, D): the hidden ones are gone
    if prefix:
        cls = vit.cls_token + vit.pos_embed[:, :1]  # (1, 1, D)
        x = torch.cat([cls.expand(len(x), -1, -1).to(x.dtype), x], dim=1)  # (B, 1 + K, D)
    for block in vit.blocks:
        x = block(x)
    return vit.norm(x)


# %% [markdown]
# The decoder: narrower, one block, and your `put_back` in the middle. Its positions are 02's sinusoids, which need no
# learning. (`.to(x.dtype)` is for training in 16 bits.)


# %% tags=["package"]
class Decoder(nn.Module):
    def __init__(self, config, dim=64, depth=1, num_heads=4):
        super().__init__()
        self.prefix = int(config.pool == "cls")  # tokens before the patches
        self.embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.register_buffer("pos_embed", sinusoidal_positions(dim, config.grid), persistent=False)  # (1, N, dim)
        self.blocks = nn.ModuleList(EncoderBlock(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Linear(dim, config.in_channels * config.patch_size**2)

    def forward(self, x, restore):
        x = self.embed(x)  # (B, K, dim)
        cls, x = x[:, : self.prefix], x[:, self.prefix :]
        masks = self.mask_token.expand(len(x), restore.shape[1] - x.shape[1], -1)  # (B, N - K, dim)
        x = take(torch.cat([x, masks.to(x.dtype)], dim=1), restore)  # (B, N, dim): each at its own place again
        x = torch.cat([cls, x + self.pos_embed.to(x.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(x))[:, self.prefix :]  # (B, N, C*P*P)


# %% [markdown]
# And both together. `forward` is a step of training: draw, encode, decode, compare. `reconstruct` answers for patches
# that you choose to hide. The package's `masking_of` makes `keep` and `restore` of your choice.


# %% tags=["package"]
class MaskedAutoencoder(nn.Module):
    def __init__(self, vit, mask_ratio=0.75, decoder_dim=64, decoder_depth=1, normalise=True):
        super().__init__()
        self.vit, self.mask_ratio, self.normalise = vit, mask_ratio, normalise
        self.decoder = Decoder(vit.config, decoder_dim, decoder_depth)
        self.N = self.decoder.pos_embed.shape[1]  # patches
        random_masking(1, self.N, mask_ratio)

    def draw(self, images):
        return random_masking(len(images), self.N, self.mask_ratio, images.device)

    def forward(self, images, drawn=None):
        return self.loss(images, *(drawn or self.draw(images)))

    def loss(self, images, keep, restore):
        predicted = self.decoder(encode(self.vit, images, keep), restore).float()  # (B, N, C*P*P)
        targets = patch_targets(images, self.vit.config.patch_size, self.normalise)
        error = (predicted - targets).square().mean(dim=2)  # (B, N)
        return error[restore >= keep.shape[1]].mean()

    @torch.no_grad()
    def reconstruct(self, images, hidden):
        keep, restore = masking_of(hidden)
        return self.decoder(encode(self.vit, images, keep), restore)


# %% [markdown]
# Does the encoder see nothing of what is hidden? Change hidden patches, and no token may move:

# %%
recipe = training.RECIPES["mae"]
model = VisionTransformer(recipe.config(pictures))
keep, restore = random_masking(3, 16, 0.5)
seen = encode(model, examples, keep)  # (B, K, D)
spoilt = patchify(examples, P) + 5 * (restore >= 8)[:, :, None]  # (B, N, C*P*P): other pixels in hidden patches alone
assert torch.equal(seen, encode(model, unpatchify(spoilt, P, (32, 32)), keep))
print("tokens that go in:", seen.shape[1], "of 16")

# %% [markdown]
# ## Train it
#
# 10,000 pictures of shapes, no labels, half of the patches hidden. He et al. hide three quarters; but a photograph of
# theirs has 196 patches and ours 16, of which four would be left. Optimisers and schedule are those of notebook 06, and
# the package's `Trainer` runs these very classes.

# %%
torch.manual_seed(0)
vit = VisionTransformer(recipe.config(pictures))
start = time.perf_counter()
trainer = training.Trainer(vit, pictures, recipe, settings={"mask_ratio": 0.5})
history = trainer.run()
pretraining = time.perf_counter() - start  # seconds

# %% tags=["nbval-ignore-output"]
losses = torch.tensor(history.steps["loss"])  # (steps,)
smooth = losses[: len(losses) // 20 * 20].view(-1, 20).mean(dim=1)  # (steps,) -> (steps/20, 20): means of 20 steps
fig, ax = plots.figure(5, 2.4)
ax.plot(20 * torch.arange(len(smooth)) + 10, smooth)
ax.axhline(1, color="#888888", linewidth=1, linestyle=":")
ax.set(xlabel="steps", ylabel="loss on hidden patches", ylim=(0, None))
plots.show(fig, f"Loss over {len(losses)} steps: it falls from {smooth[0]:.1f} to {smooth[-1]:.1f}, fast at first.")
assert smooth[0] > 0.8 and smooth[-1] < 0.5  # measured: 0.38 to 0.40

# %% [markdown]
# The dotted line at 1 is what a patch of plain grey earns: normalised targets have mean 0 and variance 1, so whoever
# answers 0 everywhere has a loss of about 1. Ours ends at {=smooth[-1]:.1f}: of what varies *within* hidden patches,
# the model guesses more than half.
#
# To show it as a picture, its answers need colours again. We lend each hidden patch its true mean and spread, which
# the model does not know:


# %%
def painted(autoencoder, images, hidden):
    """Images `(B, C, Y, X)` whose `hidden (B, N)` patches hold the model's answer, with their true mean and spread."""
    patches = patchify(images, P)  # (B, N, C*P*P)
    mean, spread = patches.mean(dim=2, keepdim=True), patches.std(dim=2, keepdim=True)
    answers = autoencoder.reconstruct(images, hidden) * spread + mean
    return unpatchify(torch.where(hidden[:, :, None], answers, patches), P, images.shape[2:])


# %% tags=["nbval-ignore-output"]
autoencoder = trainer.objective  # a MaskedAutoencoder around `vit`
hidden = torch.from_numpy(rng.random((3, 16))).argsort(dim=1) >= 8  # (3, N)
rows = to_show(examples), covered(to_show(examples), hidden), to_show(painted(autoencoder, examples, hidden))
plots.show(
    plots.image_grid(torch.stack(rows, dim=1).flatten(0, 1), columns=9, size=1),  # (3, 3, ...) -> (9, 3, 32, 32)
    "Ring, heart and star, three pictures each: as it is, with eight of 16 patches black, and with the model's answer "
    "in their places: edges go on a little way, blurred, then fade into the ground.",
)
assert autoencoder.loss(examples, *masking_of(hidden)) < 1

# %% [markdown]
# Blurred: where several things might have been, their mean has the smallest squared error.

# %% [markdown]
# ### Exercise 14.6 · Which half is hardest?
#
# *experiment · medium · 4 minutes*
#
# Three ways of hiding eight of 16 patches: scattered at random (as in training), the right half, and every second one,
# as the black squares of a chessboard. Measure the model's loss for each on 500 test pictures. Which is hardest to
# fill in?
#
# - `"a"`: scattered at random
# - `"b"`: the right half
# - `"c"`: the chessboard
#
# <details><summary>Hint</summary>
#
# `torch.where` is not needed: `hidden` is `(B, 16)`, patches row by row. The column of patch n is `n % 4`, its row
# `n // 4`. Then `autoencoder.loss(some, *masking_of(hidden))`.
#
# </details>

# %%
row, column = torch.arange(16) // 4, torch.arange(16) % 4  # (N,) each
some = images[:500]  # (B, 3, 32, 32)
right_half = (column >= 2).expand(len(some), -1)  # (B, N): where to start
right_half[0].view(4, 4).long()  # (N,) -> (rows, columns): 1 where a patch is hidden

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.harder_mask(answer)

# %% [markdown]
# ## What 20 labels then do
#
# Now the question from the start. Throw the decoder away, give the encoder a new head (notebook 09), and fine-tune all
# of it with **20 labelled pictures of each class**, 200 in all. The rival is the same model from scratch, with the same
# 200 pictures, the same recipe and as many steps. Three times, with other labelled pictures each. (That leaves the time
# of pre-training out of the bill. We come back to it.)

# %%
labels = replace(training.RECIPES["fine-tune"], epochs=40, layer_decay=1.0, muon_learning_rate=1e-2)


def few(seed, per_class=20):
    """`per_class` pictures of each class, drawn by `seed`."""
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(len(pictures)))
    first = [drawn[pictures.labels[drawn] == c][:per_class] for c in range(len(pictures.classes))]
    return pictures[torch.cat(first)]


# %% [markdown] tags=["predict"]
# **Predict before you run.** Guessing gives 10 %. What will the three from scratch reach on 2,000 test pictures, what
# the three that were pre-trained? Write down two numbers.

# %%
accuracy = {"pre-trained": [], "from scratch": []}
for seed in range(3):
    torch.manual_seed(seed)
    scratch = VisionTransformer(recipe.config(pictures))
    pretrained = training.new_head(copy.deepcopy(vit), pictures.classes)
    for name, model in zip(accuracy, (pretrained, scratch), strict=True):
        start = time.perf_counter()
        training.train(model, few(seed), labels, seed=seed)
        seconds = time.perf_counter() - start
        accuracy[name].append(100 * training.evaluate(model, asked).accuracy)

# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(5.4, 1.8)
for y, values in enumerate(accuracy.values()):
    ax.plot(values, [y] * 3, "o", color=plots.COLOURS[y], markersize=8, alpha=0.7)
ax.axvline(10, color="#888888", linewidth=1, linestyle=":")
ax.set_yticks(range(2), accuracy)
ax.set(xlabel="test accuracy in % (dotted: guessing)", xlim=(0, 70), ylim=(1.5, -0.5))
said = "; ".join(f"{name} {', '.join(f'{v:.0f}' for v in values)}" for name, values in accuracy.items())
plots.show(fig, f"Accuracy in per cent with 20 labels a class, three seeds each: {said}.")

# %% tags=["nbval-ignore-output"]
before, after = torch.tensor(accuracy["from scratch"]), torch.tensor(accuracy["pre-trained"])  # (seeds,) each
gain, spread = after - before, (after - before).std()
print("points gained:", " ".join(f"{points:+.0f}" for points in gain))
assert gain.mean() > spread and gain.min() > 2  # three runs: 12 to 16 against 4; 7

# %% [markdown]
# With the same labels and as many steps, the three that had filled in patches before reach {=after.min():.0f} to
# {=after.max():.0f} %, those from scratch {=before.min():.0f} to {=before.max():.0f} %. In the mean that is
# {=gain.mean():.0f} points, and the three gains spread by {=spread:.0f} (one standard deviation).

# %% [markdown]
# **The bill.** Filling in took {=pretraining / seconds:.0f} times as long as one fine-tuning. One pre-training serves
# as many tasks as you like. But with one task alone the rival could have trained on for all that time, and after so few
# steps it may not have learned all it can. So do not take this figure for the whole answer: what is left of the gain at
# *equal time*, with 1 to 100 labels a class, is measured in part 2.

# %% [markdown] tags=["stop"]
# **A place to stop.** You can hide patches and bring the rest back in order, say what a masked autoencoder's loss
# counts, and train one, and you have seen what that is worth with 20 labels a class. The second part teaches a ViT
# without a single pixel to paint, and sees it collapse. If you come back to a fresh kernel, first run all the cells
# above.

# %% [markdown]
# ## Two views instead of pixels
#
# A masked autoencoder has to say every hidden pixel, the grain of the ground as well as the shape on it. **DINO**
# (Caron et al. 2021) asks for no pixel. It makes two **views** of a picture, each a part of it, enlarged, perhaps
# mirrored, in other colours, and asks for the same answer to both. What both views share is what the model may speak
# of.


# %% tags=["package"]
def random_views(images, least=0.4, jitter=0.4):
    B, C = images.shape[:2]
    draw = lambda *shape: torch.rand(shape, device=images.device)  # noqa: E731
    side = (least + (1 - least) * draw(B)).sqrt()  # of the part, as a share of the image's
    mirror = (draw(B) < 0.5).float() * 2 - 1
    corner = (2 * draw(2, B) - 1) * (1 - side)  # its middle, where the image reaches from -1 to 1
    zero = torch.zeros_like(side)
    theta = torch.stack([side * mirror, zero, corner[0], zero, side, corner[1]], dim=1).view(B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    factor, shift = 1 + jitter * (2 * draw(2, B, C, 1, 1) - 1)
    return views * factor + (shift - 1)


# %%
TINY = ViTConfig(
    image_size=32, patch_size=8, num_classes=10, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2.0, pool="mean"
)
pictures, asked = datasets.shapes("train", 3200), datasets.shapes("test", 1000)
inputs, asked_inputs = normalise(pictures.images, TINY), normalise(asked.images, TINY)  # (n, 3, 32, 32)
torch.manual_seed(0)
some = asked_inputs[:6]
shown = torch.cat([some, random_views(some), random_views(some)]) / 2 + 0.5
titles = [*("picture",) * 6, *("one view",) * 6, *("another",) * 6]
plots.show(
    plots.image_grid(shown, titles, columns=6),
    "Six pictures of shapes in a row, and below each of them two views: the shape larger and moved, in places mirrored "
    "or cut off at the edge, and everything in other colours.",
)

# %% [markdown]
# A column is one picture. Position, size and colour differ between its views; *which shape it is* mostly stays. So
# does the pattern of the ground, and nobody tells the model which of the two is the point. Choosing the views is
# choosing what shall not count: with views that keep their colours, a model could answer with the colour alone.

# %% [markdown]
# ## A student and a teacher
#
# An answer is K numbers, as logits are, but the K classes have no names: nobody has said what they stand for, and they
# are called **prototypes**. So what is the right answer for a view? DINO takes the answer of a second network, the
# **teacher**, to the *other* view. The **student** learns to give it, by gradient.
#
# The teacher learns nothing itself. After each step each of its weights moves a little towards the student's:
#
# $$\text{teacher} \leftarrow m \cdot \text{teacher} + (1 - m) \cdot \text{student}$$
#
# With $m = 0.9$, a teacher's weight of 1 and a student's that has leapt to 2 and stays there:

# %%
teacher, student = 1.0, 2.0
for step in range(1, 5):
    teacher = 0.9 * teacher + 0.1 * student
    print(f"after step {step}: {teacher:.4f}")
assert abs(teacher - (2 - 0.9**4)) < 1e-9

# %% [markdown]
# Each step closes a tenth of the gap. A student that jumps to and fro has a teacher that stays near its mean: an
# average over about $1/(1-m)$ steps, the recent ones with the most weight. (06 judged models by such an average of
# their weights.)

# %% [markdown]
# ### Exercise 14.7 · The teacher's average
#
# *write · easy · 3 minutes*
#
# `teacher` and `student` are weights `(K,)`. Return what the teacher's become after one step. Neither of the two that
# you are given may change.
#
# <details><summary>Hint</summary>
#
# The formula above is the line. `teacher *= momentum` would change what you were given.
#
# </details>


# %% tags=["exercise"]
def my_average(teacher, student, momentum):
    return ...  # (K,)


# %%
check.teacher_average(my_average)

# %% [markdown]
# The package moves the weights of a whole network, in place: `a.lerp_(b, s)` takes `a` the share `s` of the way to `b`.


# %% tags=["package"]
@torch.no_grad()
def update_teacher(teacher, student, momentum=0.99):
    for average, weight in zip(teacher.parameters(), student.parameters(), strict=True):
        average.lerp_(weight, 1 - momentum)


# %%
slow, quick = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
nn.init.constant_(slow.weight, 1.0)
nn.init.constant_(quick.weight, 2.0)
update_teacher(slow, quick, momentum=0.9)
assert abs(slow.weight.item() - 1.1) < 1e-6 and quick.weight.item() == 2

# %% [markdown]
# ## The cheapest answer
#
# The loss is the cross-entropy of 06, with the teacher's shares in place of a label: $-\sum_k p_k \ln s_k$, for the
# teacher's $p$ and the student's $s$. Suppose that the student has learned to say what the teacher says, whatever that
# is. Three teachers, four pictures, three prototypes:

# %%
teachers = {  # (B, K) each: shares, a row for each picture
    "tells apart": [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]],
    "always the first": [[1.0, 0.0, 0.0]] * 4,
    "never anything": [[1 / 3, 1 / 3, 1 / 3]] * 4,
}
teachers = {name: torch.tensor(shares) for name, shares in teachers.items()}

# %% [markdown] tags=["predict"]
# **Predict before you run.** The student agrees with each of them to the last digit. Which has the lowest loss?
#
# - a: the one that tells pictures apart
# - b: the one that always says the first
# - c: the one that never says anything
# - d: all the same, for the student is never wrong

# %%
for name, p in teachers.items():
    loss = torch.special.entr(p).sum(dim=1).mean()  # entr(p) is -p ln p, and 0 where p is 0
    print(f"{name:17} {loss:.4f}")

# %% [markdown]
# b: it is sure, and both views always agree, so it costs nothing. So gradient descent has
# every reason to go there. Student and teacher agree on one answer for everything, with the lowest loss that there is.
# This is called **collapse**. Nothing in the loss forbids it.

# %% [markdown]
# ## Centring and sharpening by hand
#
# DINO forbids it twice, on the teacher's side. Here is a teacher on the way to collapse: its numbers for four pictures,
# and the first is the largest in every row.

# %%
numbers = torch.tensor([[5.0, 1, 0], [4, 3, 0], [4, 0, 2], [3, 0, 2]])  # (B, K)
centre = numbers.mean(dim=0)  # (K,)
print("largest:", numbers.argmax(dim=1).tolist(), " mean of the pictures:", centre.tolist())

# %% [markdown]
# **Centring** subtracts that mean. What all pictures have in common is gone; what is left is how a picture differs from
# the others:

# %%
centred = numbers - centre  # (B, K)
print(centred)
print("largest:", centred.argmax(dim=1).tolist())

# %% [markdown]
# Now three different answers among four pictures. A teacher that says the same of all would be left with zeros. And
# zeros give equal shares: the other collapse, *never anything*. Against this one stands **sharpening**: before the
# softmax, divide by a **temperature** below 1. The first picture's shares at four temperatures:

# %%
for temperature in (4.0, 1.0, 0.4, 0.1):
    shares = (centred[0] / temperature).softmax(dim=0)  # (K,)
    print(f"temperature {temperature}:", " ".join(f"{share:.3f}" for share in shares.tolist()))

# %% [markdown]
# The lower the temperature, the surer. What counts is that the teacher is *sharper than the student*: 0.04 against 0.1.
# The student, divided by 0.1, is to give shares that were divided by 0.04. It must pull its numbers apart to get there;
# the teacher follows, and is sharper once more. Small differences grow.
#
# So the two pull against each other:
#
# | | alone drives towards | keeps away from |
# |---|---|---|
# | centring | equal shares, never anything | one answer for all |
# | sharpening | one answer for all | equal shares |
#
# That is the paper's argument (section 5.3). Further down you test it.

# %% [markdown]
# The mean of one small batch is a matter of luck. So the **centre** is itself an average over past batches, moved as
# the teacher is, with a momentum of 0.9: new centre = 0.9 x centre + 0.1 x mean. The *old* one is used for the batch
# that comes in, then it moves.

# %% [markdown]
# ### Exercise 14.8 · A centred target
#
# *write · medium · 5 minutes*
#
# `answers` `(B, K)` are the teacher's numbers for a batch, `centre` `(K,)` is the centre so far. Return two tensors:
# the target, which is the softmax of the answers minus the *old* centre, divided by `temperature`; and the new centre.
#
# <details><summary>Hint</summary>
#
# Which axis counts the pictures, which one the prototypes? The mean goes over the first, the softmax over the other.
# Each row of the target sums to 1.
#
# </details>


# %% tags=["exercise"]
def my_target(answers, centre, temperature, momentum):
    return ..., ...  # (B, K), (K,)


# %%
check.centred_target(my_target)

# %% [markdown]
# The package's two functions. `detach` stops the gradient: the teacher is a target, not something to be improved.


# %% tags=["package"]
def dino_loss(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.04):
    target = ((teacher - centre) / teacher_temperature).softmax(dim=1).detach()  # (B, K)
    return -(target * (student / student_temperature).log_softmax(dim=1)).sum(dim=1).mean()


@torch.no_grad()
def update_centre(centre, teacher, momentum=0.9):
    centre.lerp_(teacher.mean(dim=0), 1 - momentum)


# %%
torch.manual_seed(0)
says = numbers.clone().requires_grad_()
dino_loss(says, numbers, centre, 1.0, 1.0).backward()
target, own = centred.softmax(dim=1), numbers.softmax(dim=1)  # (B, K) each
assert torch.allclose(says.grad, (own - target) / 4, atol=1e-6)  # as in 06: what it said minus what it should
moved = torch.zeros(3)
update_centre(moved, numbers)
assert torch.allclose(moved, 0.1 * centre)

# %% [markdown]
# ## How sure, how varied
#
# The loss cannot tell a good teacher from a collapsed one. Two other numbers can. Both are **entropies**,
# $H(p) = -\sum_k p_k \ln p_k$: 0 if one prototype gets everything, $\ln K$ if all get the same.
#
# - the mean of the pictures' entropies: how **unsure** the teacher is of a picture;
# - the entropy of the pictures' mean: how **varied** its answers are over all pictures.


# %% tags=["package"]
def entropies(teacher, centre, temperature):
    p = ((teacher - centre) / temperature).softmax(dim=1)  # (B, K)
    entropy = lambda p: -torch.special.xlogy(p, p).sum(dim=-1)  # noqa: E731
    return entropy(p).mean().item(), entropy(p.mean(dim=0)).item()


# %%
for name, p in teachers.items():
    unsure, varied = entropies(p.clamp_min(1e-30).log(), torch.zeros(3), 1.0)  # softmax of a logarithm: p again
    print(f"{name:17} unsure {unsure:.3f}  varied {varied:.3f}  difference {varied - unsure:.3f}")
print(f"ln 3 = {math.log(3):.3f}")

# %% [markdown]
# The second is never smaller than the first. Their **difference** is what an answer tells about the picture: how much
# surer you are of the prototype once you know the picture. (Information theory calls it mutual information.) In both
# collapses it is 0. They differ in *where*: both numbers at 0, or both at $\ln K$.
#
# *To remember: a teacher is worth something while its two entropies differ.*

# %% [markdown]
# ## Head, student and teacher
#
# The head makes K numbers of a picture's features: an MLP, a vector of length 1, and its cosines with K learned
# prototypes, themselves of length 1. So no number leaves -1 .. 1, and neither network can get louder to lower the loss.


# %% tags=["package"]
class DINOHead(nn.Module):
    def __init__(self, embed_dim, prototypes=256, hidden_dim=256, bottleneck_dim=64):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, bottleneck_dim))
        self.last_layer = nn.Linear(bottleneck_dim, prototypes, bias=False)

    def forward(self, x):
        x = F.normalize(self.mlp(x), dim=1)  # (B, bottleneck)
        return x @ F.normalize(self.last_layer.weight, dim=1).T  # (B, K), in -1 .. 1


def answers(network, views):
    return network["head"](network["vit"](views))  # (B, K)


# %% [markdown]
# And the whole. Follow the views in `forward`: two of each picture go through both networks in one batch, and `roll`
# by half of it lays each view's student beside the *other* view's teacher.


# %% tags=["package"]
class DINO(nn.Module):
    def __init__(
        self,
        vit,
        prototypes=256,
        momentum=0.99,
        centre_momentum=0.9,
        student_temperature=0.1,
        teacher_temperature=0.04,
    ):
        super().__init__()
        self.student = nn.ModuleDict({"vit": vit, "head": DINOHead(vit.config.embed_dim, prototypes)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.momentum, self.centre_momentum = momentum, centre_momentum
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.answers = None  # the teacher's, of the last batch

    def draw(self, images):
        return random_views(images), random_views(images)

    def forward(self, images, drawn=None):
        views = torch.cat(drawn or self.draw(images))  # (2B, C, Y, X)
        student = answers(self.student, views).float()  # (2B, K)
        with torch.no_grad():
            teacher = answers(self.teacher, views).float()
        self.answers = teacher
        temperatures = self.student_temperature, self.teacher_temperature
        return dino_loss(student, teacher.roll(len(images), 0), self.centre, *temperatures)  # each view with the other

    def after_step(self):
        update_teacher(self.teacher, self.student, self.momentum)
        update_centre(self.centre, self.answers, self.centre_momentum)

    @property
    def entropies(self):
        return entropies(self.answers, self.centre, self.teacher_temperature)


# %% [markdown]
# Three things to check: `roll` does what the comment says, no gradient reaches the teacher, and at the start the
# two networks are the same.


# %%
def new_dino(seed, **settings):
    """A DINO around a fresh tiny ViT without a head, 64 prototypes."""
    torch.manual_seed(seed)
    return DINO(training.without_head(VisionTransformer(TINY)), prototypes=64, momentum=0.98, **settings)


dino = new_dino(0)
print(torch.tensor([1, 2, 3, -1, -2, -3]).roll(3).tolist(), "beside", [1, 2, 3, -1, -2, -3])
dino(inputs[:8]).backward()
assert all(p.grad is None for p in dino.teacher.parameters())
assert all(p.grad is not None for p in dino.student.parameters())
assert torch.equal(answers(dino.student, inputs[:8]), answers(dino.teacher, inputs[:8]))

# %% [markdown]
# ## A case: three runs, one of them is sound
#
# Now as in 07. Three DINOs start from the same weights and see the same views. One is as above. In one the centring
# is switched off (`centre_momentum=1`: the centre stays at 0), in one the sharpening (`teacher_temperature` is the
# student's 0.1). Which is which was drawn by lot: they are called A, B and C.


# %%
def learn(dino, seed, steps=300, rate=2e-3):
    """Loss and the two entropies of each step, (steps, 3)."""
    torch.manual_seed(seed)  # decides the views
    optimizer = torch.optim.AdamW(dino.student.parameters(), lr=rate, weight_decay=0.01)
    log, order = [], torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20)  # warmup
        loss = dino(inputs[torch.randint(len(inputs), (64,), generator=order)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(dino.student.parameters(), 1.0)
        optimizer.step()
        dino.after_step()
        log.append((loss.item(), *dino.entropies))
    return torch.tensor(log)


# %%
switches = [{}, {"centre_momentum": 1.0}, {"teacher_temperature": 0.1}]
lot = np.random.default_rng(0).permutation(3)
runs = {letter: new_dino(0, **switches[number]) for letter, number in zip("ABC", lot, strict=True)}
logs = {"A": learn(runs["A"], seed=0)}

# %%
logs["B"] = learn(runs["B"], seed=0)

# %%
logs["C"] = learn(runs["C"], seed=0)

# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(6.5, 2.8)
for (letter, log), style in zip(logs.items(), ("--", "-", "-."), strict=True):
    ax.plot(range(1, len(log) + 1), log[:, 0], style, linewidth=1.5, label=letter)
ax.set(xlabel="step", ylabel="loss", ylim=(-0.1, 4.6))
ax.legend(frameon=False)
plots.show(
    fig,
    "The losses of three runs over 300 steps. A rises a little at the start and then lies flat near 4.2. B rises to "
    "4.1 and sinks slowly after step 150, to about 3. C falls at once and reaches 0 before the middle.",
)
assert logs["A"][-20:, 0].mean() > 4 and logs["C"][-20:, 0].mean() < 0.1  # six seeds: 4.16 and 0.00

# %% [markdown]
# **Look at the losses before you read on.** Which run would you keep?
#
# By the loss it is C: it falls nicely, down to 0. A has not fallen at all, B has hardly begun. But here the target
# moves along with the student, and you know how little an answer costs that never looks.

# %% [markdown]
# **First test: the wrong partner.** Give the student's view of one picture the teacher's answer to *another* picture.
# A run that knows its pictures must pay for that.


# %%
@torch.no_grad()
def with_partners(dino):
    """The loss on test pictures with the right partner, and with the next picture's."""
    torch.manual_seed(1)
    student, teacher = (answers(net, random_views(asked_inputs)) for net in (dino.student, dino.teacher))
    temperatures = dino.student_temperature, dino.teacher_temperature
    return [dino_loss(student, partner, dino.centre, *temperatures).item() for partner in (teacher, teacher.roll(1, 0))]


# %% tags=["nbval-ignore-output"]
paid = {}
for letter, dino in runs.items():
    right, wrong = with_partners(dino)
    paid[letter] = wrong - right
    print(f"{letter}: right partner {right:.2f}, wrong partner {wrong:.2f}")
assert max(abs(paid["A"]), abs(paid["C"])) < 0.05 and paid["B"] > 0.5  # over six seeds: 0.00; at least 1.1

# %% [markdown]
# For A and C it does not matter whose answer it is. Whatever they say, it is not about the picture. **The run with the
# lovely loss has learned to say nothing of any picture**, and only B pays, by {=paid["B"]:.1f}. So B is the sound one.
#
# Now find out what ails the other two.

# %%
fig, axes = plots.figure(8, 2.7, 1, 3, sharey=True)
for ax, (letter, log) in zip(axes, logs.items(), strict=True):
    ax.axhline(math.log(64), color="#777777", linewidth=1, dashes=(4, 3))
    ax.plot(range(1, len(log) + 1), log[:, 2], "-", label="varied: entropy of the mean")
    ax.plot(range(1, len(log) + 1), log[:, 1], "--", label="unsure: mean of the entropies")
    ax.set(xlabel="step", title=letter, ylim=(-0.1, 4.6))
axes[0].set(ylabel="entropy (dashed grey: ln 64)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
plots.show(
    fig,
    "Two entropies over 300 steps, a panel for each run. In A both climb to ln 64 and lie there on one another. In B"
    " both climb near ln 64, never together, and after step 150 they sink and part further, the entropy of the mean "
    "higher. In C both "
    "fall to 0 together.",
)

# %% [markdown]
# ### Exercise 14.9 · Find the collapse
#
# *predict · medium · 3 minutes*
#
# Which run has no centring, which no sharpening? Answer with two letters, the one without centring first, such as
# `"AB"`.
#
# <details><summary>Hint</summary>
#
# What does the one that is left drive towards, where the other is missing? The table under *Centring and sharpening by
# hand* says it, and *How sure, how varied* says where its entropies lie.
#
# </details>

# %% tags=["exercise"]
answer = ...  # two letters: no centring, no sharpening

# %%
check.find_collapse(answer)

# %% [markdown]
# The last 20 steps in numbers:

# %% tags=["nbval-ignore-output"]
ends = {letter: log[-20:].mean(dim=0).tolist() for letter, log in logs.items()}
for letter, (loss, unsure, varied) in ends.items():
    print(f"{letter}: loss {loss:.2f}, unsure {unsure:.2f}, varied {varied:.2f}, difference {varied - unsure:.2f}")
gaps = {letter: varied - unsure for letter, (_, unsure, varied) in ends.items()}
early = {letter: (log[90:110, 2] - log[90:110, 1]).mean().item() for letter, log in logs.items()}
assert early["B"] > 0.1 and early["A"] < 0.02
assert ends["C"][2] < 0.1 and ends["A"][1] > math.log(64) - 0.02  # six seeds: 0.000; within 0.001
assert gaps["B"] > 0.3 and max(gaps["A"], gaps["C"]) < 0.05  # six seeds: at least 0.58; 0.00

# %% [markdown]
# B is also a warning: around step 100 it lay close to A. Had you stopped there, the height of the curves would
# hardly have told the two apart. The *difference* did even then: {=early["B"]:.2f} in B, {=early["A"]:.2f} in A.

# %% [markdown]
# ## Can it be mended?
#
# You know what is missing, so put it back. Must a collapsed run start anew, or does it recover? The run without
# centring goes on from where it is, for 300 steps with a centre:

# %% [markdown] tags=["predict"]
# **Predict before you run.** Its teacher says the same of every picture. What will happen?
#
# - a: nothing, for there is nothing left to pull apart
# - b: it goes over to the other collapse, and stays there
# - c: it recovers

# %%
mended = copy.deepcopy(runs["C"])
mended.centre_momentum = 0.9
log = learn(mended, seed=0)

# %%
fig, ax = plots.figure(6.5, 2.6)
ax.axhline(math.log(64), color="#777777", linewidth=1, dashes=(4, 3))
joined = torch.cat([logs["C"], log])  # (600, 3)
ax.plot(range(1, 601), joined[:, 2], "-", label="varied: entropy of the mean")
ax.plot(range(1, 601), joined[:, 1], "--", label="unsure: mean of the entropies")
ax.axvline(300.5, color="#777777", linewidth=1)
ax.set(xlabel="step (centring from step 301 on)", ylabel="entropy", ylim=(-0.1, 4.6))
ax.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.3))
plots.show(
    fig,
    "The two entropies of the mended run over 600 steps. Both fall to 0 in the first 300. Soon after centring is "
    "switched on both leap to nearly ln 64, and later they sink and part, as in the sound run.",
)

# %% tags=["nbval-ignore-output"]
right, wrong = with_partners(mended)
gap = (log[-20:, 2] - log[-20:, 1]).mean().item()
print(f"difference of the entropies at the end {gap:.2f}; right partner {right:.2f}, wrong partner {wrong:.2f}")
assert log[40:140, 1].max() > 3.5 and gap > 0.1 and wrong - right > 0.2  # six seeds: 0.3, 0.46

# %% [markdown]
# c. The centre moves onto the one answer that all pictures get, and takes it away. What is left is close to 0 for every
# prototype, so the shares become nearly equal: the curves leap up to where B's were. From there sharpening magnifies
# what differs between pictures, and the wrong partner costs {=wrong - right:.1f} more than the right one.
#
# (So we read the curves.) The diagnosis is confirmed as in 07: the one part put back, the symptom goes.

# %% [markdown]
# ## What it buys
#
# Now the question of this notebook for both methods. `python tools/measure/without_labels.py` trained MAE and DINO
# without a label, on shapes and on CIFAR-10 (JPEG copy), and asked what 1, 5, 20 and 100 labels a class then buy.

# %% [markdown]
# - **fine-tuned**: the body gets a head and learns on with the labels (09). The rival is the same model **from
#   scratch**. It may take the *same total time*, pre-training included, on these labels; where more steps were no
#   better on held-back pictures, it stops earlier.
# - **nearest**: nothing more is learned; the nearest pictures with labels vote, ten of them, or as many as a class has.
#   The rival is a body that was never trained. (*Going further* has the vote by hand.)

# %% [markdown] tags=["predict"]
# **Predict before you run.** Beside scratch, on shapes: where does pre-training with MAE help most when fine-tuned?
#
# - a: with 1 label a class
# - b: with 20
# - c: with 100
# - d: as much with each

# %%
record = json.loads((DATA / "runs" / "without-labels.json").read_text())
LABELS, SETS = record["info"]["labels"], record["info"]["data"]  # 1, 5, 20, 100; {"shapes": its name, ...}
RIVALS = {"fine-tuned": "scratch", "nearest": "random"}
WAYS = ("rival", "mae", "dino")


def recorded(data, way, what):
    """What was recorded of the runs, seeds in order, as a tensor with a row for each."""
    runs = [run for run in record["runs"] if (run["data"], run["way"]) == (data, way)]
    return torch.tensor([run[what] for run in sorted(runs, key=lambda run: run["seed"])])


measured = {  # accuracies in per cent for each number of labels, (seeds, 4)
    (data, score, way): 100 * recorded(data, RIVALS[score] if way == "rival" else way, score)
    for data, score, way in itertools.product(SETS, RIVALS, WAYS)
}

# %%
for data in SETS:
    longer = 100 * recorded(data, "longer scratch", "fine-tuned")  # (seeds, numbers of labels that were tried)
    for whole, count in zip(longer.T, recorded(data, "longer scratch", "labels")[0].tolist(), strict=True):
        rival = measured[data, "fine-tuned", "rival"][:, LABELS.index(count)]  # (seeds,)
        print(f"{data:8}{count:4} labels: {rival.mean():.1f} %, with all of the time {whole.mean():.1f} %")
        if whole.mean() > rival.mean():
            rival.copy_(whole)

# %% [markdown]
# First the rival with the steps chosen, then with all of the time. The better one counts.


# %%
def interval(values):
    """Mean and half the 95 % interval of three seeds' values (3, 4): (4,) each."""
    return values.mean(dim=0), 4.30 * values.std(dim=0) / len(values) ** 0.5


# %%
fig, axes = plots.figure(8, 5, 2, 2, sharex=True, sharey="row")
alt = []
for (row, data), (column, score) in itertools.product(enumerate(SETS), enumerate(RIVALS)):
    ax = axes[row, column]
    for n, (way, style) in enumerate(zip(WAYS, ("o:", "s--", "^-"), strict=True)):
        mean, half = interval(measured[data, score, way])
        name = RIVALS[score] if way == "rival" else way.upper()
        places = [x + 0.08 * (n - 1) for x in range(4)]
        ax.errorbar(places, mean, yerr=half, fmt=style, capsize=3, markersize=5, label=name)
        alt.append(f"{SETS[data]}, {score}, {name}: {', '.join(f'{m:.0f}' for m in mean)}")
    ax.axhline(10, color="#888888", linewidth=1, dashes=(2, 2))
    ax.set_title(f"{SETS[data]}, {score}", fontsize=10)
    ax.set_xticks(range(4), LABELS)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
for ax in axes[1]:
    ax.set(xlabel="labels a class")
for ax in axes[:, 0]:
    ax.set(ylabel="test accuracy (%)", ylim=(0, None))
plots.show(fig, f"Accuracy in per cent for 1, 5, 20 and 100 labels a class, means of three seeds. {'; '.join(alt)}.")

# %% [markdown]
# Lines are means over three seeds, bars 95 % intervals, the grey line is guessing. Runs of one seed share their
# labelled pictures. So compare within a seed: pre-trained minus rival, in points.


# %%
def gains(data, score, way):
    """Pre-trained minus rival, within a seed: mean and half the 95 % interval for each number of labels, (4,) each."""
    return interval(measured[data, score, way] - measured[data, score, "rival"])


better, worse = [], []
print("points:               ", *(f"{count:7} labels" for count in LABELS))
for data, score, way in itertools.product(SETS, RIVALS, WAYS[1:]):
    mean, half = gains(data, score, way)
    print(f"{data:8}{score:11}{way.upper():5}", *(f"{m:+6.1f} ± {h:4.1f} " for m, h in zip(mean, half, strict=True)))
    better += [(data, score, way, count) for count, low in zip(LABELS, mean - half, strict=True) if low > 0]
    worse += [(data, score, way, count) for count, high in zip(LABELS, mean + half, strict=True) if high < 0]
assert {("shapes", "fine-tuned", "mae", 20), ("cifar10", "fine-tuned", "mae", 20)} < set(better)

# %% [markdown]
# b. By these intervals {=len(better):d} of 32 comparisons are better than the rival beyond luck, {=len(worse):d} worse;
# about {=0.05 * 32:.0f} would seem so by luck alone.
#
# - **Shapes, 5 and 20 labels**: MAE gains {=gains("shapes", "fine-tuned", "mae")[0][1]:.0f} and
#   {=gains("shapes", "fine-tuned", "mae")[0][2]:.0f} points. **With 100** it *loses*
#   {=-gains("shapes", "fine-tuned", "mae")[0][3]:.0f}, DINO {=-gains("shapes", "fine-tuned", "dino")[0][3]:.0f}: a
#   thousand labels are enough to learn shapes from them alone
#   ({=measured["shapes", "fine-tuned", "rival"][:, 3].mean():.0f} %). **With 1**, nothing is far above guessing.
# - **Photographs**: MAE gains {=gains("cifar10", "fine-tuned", "mae")[0][0]:.0f},
#   {=gains("cifar10", "fine-tuned", "mae")[0][2]:.0f} and {=gains("cifar10", "fine-tuned", "mae")[0][3]:.0f} points
#   with 1, 20 and 100 labels; DINO {=gains("cifar10", "fine-tuned", "dino")[0][2]:.0f} with 20.

# %% [markdown]
# What does the comparison say, and what not? The rival had the same time on a processor, but not the same *pictures*:
# without labels the other pictures are of no use to it. That is the point of learning without labels. Yet it is a
# small world: a body of four blocks and some minutes of training. He et al. (2022, table 3) pre-train a ViT-L on the
# 1.28 million pictures of ImageNet and fine-tune it with *all* labels: 85.9 %, where their best training from scratch
# reaches 82.6 %.

# %% [markdown]
# *To remember: judge what was learned without labels by what a few labels then buy, against the same time spent on the
# labels alone.*

# %% [markdown]
# ## Where does it look?
#
# One result made DINO famous: the class token's attention in the last layer lay on the object, as if somebody had drawn
# its outline, and no label had ever said what an object is (Caron et al. 2021, figure 1). Our models read the mean of
# the patches, so look at that: where do all patches together look? Four bodies: from DINO, from MAE, trained with *all*
# labels, and never trained. The scores are 10's: the share of the attention that lies on the object, by its known
# mask, and how often its highest patch does.

# %%
BODIES = {"dino": "DINO", "mae": "MAE", "all labels": "all labels", "random": "never trained"}
looks = {
    name: next(run for run in record["runs"] if run["way"] == way and "on object" in run)  # shapes, seed 0
    for way, name in BODIES.items()
}
covers, by_chance = (100 * record["info"][name] for name in ("object's share of the picture", "patches on the object"))
print(f"per cent {'on the object, by layer':>30} {'highest patch on it, by layer':>36}")
for name, run in looks.items():
    print(
        f"{name:15}", *("".join(f"{100 * v:7.1f}" for v in run[score]) + "    " for score in ("on object", "pointing"))
    )
print(f"by chance: {covers:.1f}, and {by_chance:.1f}")
last = {name: 100 * run["on object"][-1] for name, run in looks.items()}  # of the last layer
points = {name: 100 * max(run["pointing"]) for name, run in looks.items()}  # of the best layer
assert last["all labels"] > last["DINO"] > 1.5 * covers and abs(last["never trained"] - covers) < 1

# %% [markdown]
# The object covers {=covers:.0f} % of a picture. In the last layer it gets {=last["DINO"]:.0f} % of DINO's attention,
# and in its best layer the highest patch lies on it in {=points["DINO"]:.0f} % of the pictures, the most of all four;
# no label had a part in it.

# %% [markdown]
# With all labels it gets {=last["all labels"]:.0f} %, from MAE {=last["MAE"]:.0f} %, though
# more in the middle layers. A body never trained looks everywhere alike ({=last["never trained"]:.0f} %), and yet its
# highest patch lies on the object in up to {=points["never trained"]:.0f} %: where all are nearly equal, the highest
# tells little. It is one model of each kind, so read nothing into small differences.
#
# And 10's warning stands: an attention map tells where tokens come from, and not what an answer depends on.

# %% [markdown]
# ## Exercises
#
# Exercises 14.1 to 14.9 stand above, each beside its idea. One more stands under *Going further*.

# %% [markdown]
# ## Going further
#
# ### The vote of the nearest
#
# Features can be judged without training anything: no head, no learning rate. By hand, for one question and five
# pictures with labels:

# %%
known = torch.tensor([[2.0, 0], [3, 1], [0, 1], [1, 2], [-1, 0]])  # (M, D): features
labels, query = torch.tensor([0, 1, 1, 1, 0]), torch.tensor([1.0, 0])
cosines = F.normalize(known, dim=1) @ F.normalize(query, dim=0)  # (M,)
nearest = cosines.topk(3).indices
print("cosines", [round(c, 2) for c in cosines.tolist()], "nearest", nearest.tolist(), "vote", labels[nearest].tolist())

# %% [markdown]
# The very nearest says 0, but two of three say 1, and so does the vote.
#
# ### Exercise 14.10 · The nearest labels
#
# *stretch · hard · 8 minutes*
#
# Write the vote for many questions. `features` `(M, D)` have `labels` `(M,)`, whole numbers below `num_classes`;
# `queries` `(Q, D)` have none. Return a label for each, `(Q,)`: the class for which most of its `k` nearest vote.
# Near is what has a large cosine. Where two classes have equally many votes, the smaller number wins.
#
# <details><summary>Hint</summary>
#
# One matrix product gives all cosines, `(Q, M)`. `F.one_hot(labels[nearest], num_classes)` makes each vote a row with a
# single 1; the sum over the right axis counts them. Of equal values `argmax` gives the first.
#
# </details>


# %% tags=["exercise"]
def my_nearest(features, labels, queries, k, num_classes):
    return ...  # (Q,)


# %%
check.nearest_labels(my_nearest)

# %% [markdown]
# ### What do collapsed bodies know?
#
# The answers of a collapsed run are dead. Its body, too? It is the teacher's body that is kept. Ask each for the ten
# pictures, of 3,200 with labels, that are nearest to a test picture, and let them vote for its shape (as above).

# %% tags=["nbval-ignore-output"]
bodies = {"fresh": new_dino(0).teacher["vit"]} | {letter: dino.teacher["vit"] for letter, dino in runs.items()}
bodies["C, mended"] = mended.teacher["vit"]
voted = {name: 100 * knn_accuracy(vit, pictures, asked) for name, vit in bodies.items()}
for name, accuracy in voted.items():
    print(f"{name:10} {accuracy:.0f} %")
assert voted["B"] > voted["fresh"] + 2  # in points; measured over six seeds: at least 6

# %% [markdown]
# B is right on {=voted["B"]:.0f} %, a fresh body on {=voted["fresh"]:.0f} %, where guessing gives 10: not much, after
# 300 steps of a tiny model. And A and C, whose answers say nothing of any picture, have bodies that are right on
# {=voted["A"]:.0f} and {=voted["C"]:.0f} %. So the neighbours see a difference of a few points, and 1,000 pictures
# leave an interval of about ± 2. The two entropies leave no doubt after 100 steps, and need no label.

# %% [markdown]
# ### What the papers do, and we leave out
#
# **MAE** (He et al. 2022). The same parts as in part 1, larger: a ViT-L, 75 % of 196 patches hidden, 800 epochs of
# ImageNet for most tables and 1,600 for the best results, a decoder of 8 blocks, 512 wide. The encoder sees 49 patches
# of 196; so a step takes a third of the time or less.

# %% [markdown]
# **DINO** (Caron et al. 2021). *Multi-crop*: beside two large views there are several small ones, each less than half
# of the picture. The student sees all, the teacher only the large two. So the student learns to say of a detail what
# the teacher says of the whole. *Schedules*: the teacher's momentum rises from 0.996 to 1 along a cosine, its
# temperature in the first epochs from 0.04 to 0.07. There are 65,536 prototypes.

# %% [markdown]
# **MoCo v3** (Chen et al. 2021) compares views by a contrastive loss instead. Its authors found that ViTs then train
# unstably, with dips in the accuracy that one may overlook, and that freezing the patch embedding helps.
#
# **DINOv2** (Oquab et al. 2024) joins both halves of this notebook: beside DINO's loss on the whole picture it has that
# of iBOT (Zhou et al. 2022), where the student says of *hidden patches* what the teacher, who sees them, says of them.
# It centres by Sinkhorn-Knopp, which makes the prototypes about equally frequent within a batch, and a further term
# (KoLeo) keeps the features of a batch apart.

# %% [markdown]
# **DINOv3** (Siméoni et al. 2025) takes that to 7 billion weights and 1.7 billion pictures. In long training the
# patches' features got worse while those of the whole picture got better; *Gram anchoring* holds the similarities
# between patches to those of an earlier teacher. With timm and a network, `weights.pretrained` brings both into the
# course (13).

# %% [markdown]
# ## Summary
#
# | | MAE | DINO |
# |---|---|---|
# | what is predicted | the pixels of hidden patches | the teacher's answer to another view |
# | what sees the picture | the encoder, only what is left | student and teacher, two views |
# | thrown away in the end | the decoder | the student, both heads |
# | the danger | a task that neighbours solve: hide more | collapse: centre and sharpen |
# | what to look at | the loss on hidden patches, pictures | the difference of the two entropies |
#
# - A loss without labels can be perfect and mean nothing. Measure something that it does not contain.
# - Judge the body by what few labels buy, at the same total time, with seeds and intervals.

# %% [markdown]
# ## What comes next
#
# You can now train a body without labels, and tell whether it has learned. Take it to your own pictures:
# `vit-tutorial train --data FOLDER --without-labels dino`, then `--start RUN` with the labels that you have
# ([12 Your own images](12_your_own_images.ipynb)).

# %% [markdown]
# ## References
#
# - He et al. 2022, [Masked Autoencoders Are Scalable Vision Learners](https://arxiv.org/abs/2111.06377).
# - Caron et al. 2021, [Emerging Properties in Self-Supervised Vision Transformers](https://arxiv.org/abs/2104.14294):
#   DINO; section 5.3 for centring and sharpening, appendix C for the head.
# - Chen, Xie and He 2021, [An Empirical Study of Training Self-Supervised Vision
#   Transformers](https://arxiv.org/abs/2104.02057): MoCo v3.
# - Zhou et al. 2022, [iBOT: Image BERT Pre-Training with Online Tokenizer](https://arxiv.org/abs/2111.07832).
# - Oquab et al. 2024, [DINOv2: Learning Robust Visual Features without Supervision](https://arxiv.org/abs/2304.07193).
# - Siméoni et al. 2025, [DINOv3](https://arxiv.org/abs/2508.10104).

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 14.1
#
# 8 x 8 = 64 patches, of which a quarter goes in, and the class token, which is never hidden.

# %% tags=["solution"]
patches = (64 // 8) ** 2
assert check.visible_tokens(patches - int(0.75 * patches) + 1).passed

# %% [markdown]
# ### Solution 14.2
#
# A patch is hidden where its place in the order is K or more.


# %% tags=["solution"]
def masking_solution(noise, K):
    order = noise.argsort(dim=1)  # (B, N): place -> patch
    restore = order.argsort(dim=1)  # (B, N): patch -> place
    return order[:, :K], restore, restore >= K


assert check.masking(masking_solution).passed

# %% [markdown]
# ### Solution 14.3
#
# `gather` fetches each patch's token from its place in the row; only then is a token where its position belongs.


# %% tags=["solution"]
def put_back_solution(x, mask_token, restore, places):
    (B, K, D), N = x.shape, restore.shape[1]
    x = torch.cat([x, mask_token.expand(B, N - K, D)], dim=1)  # (B, N, D)
    return take(x, restore) + places  # (B, N, D)


where = torch.tensor([100.0, 200.0, 300.0, 400.0]).view(1, 4, 1)  # (1, N, 1): one number a patch
found = put_back_solution(
    tokens[[3, 0]][None], torch.full((1, 1, 2), -1.0), torch.tensor([[1, 2, 3, 0]]), where.expand(1, 4, 2)
)
assert found[0].tolist() == [[100, 101], [199, 199], [299, 299], [430, 431]]
assert check.put_back(put_back_solution).passed

# %% [markdown]
# ### Solution 14.4
#
# One number a patch, the hidden ones of them, their mean.


# %% tags=["solution"]
def loss_solution(predicted, targets, hidden):
    return (predicted - targets).square().mean(dim=2)[hidden].mean()


assert check.hidden_loss(loss_solution).passed

# %% [markdown]
# ### Solution 14.5
#
# Mean and variance over the last axis: each patch has its own.


# %% tags=["solution"]
def targets_solution(patches):
    mean, variance = patches.mean(dim=2, keepdim=True), patches.var(dim=2, keepdim=True)  # (B, N, 1) each
    return (patches - mean) / (variance + 1e-6).sqrt()


assert check.normalised_patches(targets_solution).passed

# %% [markdown]
# ### Solution 14.6
#
# The right half. Half of its patches have no visible one beside them, while on a chessboard each has two to four.

# %% tags=["solution", "nbval-ignore-output"]
some = images[:500]
scattered = torch.from_numpy(np.random.default_rng(0).random((len(some), 16))).argsort(dim=1) >= 8  # (B, N)
board = ((torch.arange(16) // 4 + torch.arange(16)) % 2 == 0).expand(len(some), -1)  # (B, N)
right_half = (torch.arange(16) % 4 >= 2).expand(len(some), -1)  # (B, N)
by_way = {}
for letter, hidden in {"a": scattered, "b": right_half, "c": board}.items():
    by_way[letter] = autoencoder.loss(some, *masking_of(hidden)).item()
    print(f"{letter}: {by_way[letter]:.2f}")
hardest = max(by_way, key=by_way.get)
assert hardest == "b" and by_way["b"] > by_way["a"] + 0.03  # measured: 0.06 to 0.08
assert check.harder_mask(hardest).passed

# %% [markdown]
# ### Solution 14.7
#
# A new tensor; the two that came in stay as they are.


# %% tags=["solution"]
def average_solution(teacher, student, momentum):
    return momentum * teacher + (1 - momentum) * student  # (K,)


assert torch.allclose(average_solution(torch.ones(1), torch.full((1,), 2.0), 0.9), torch.tensor([1.1]))
assert check.teacher_average(average_solution).passed

# %% [markdown]
# ### Solution 14.8
#
# The softmax over the prototypes, the mean over the pictures; the old centre for the target.


# %% tags=["solution"]
def target_solution(answers, centre, temperature, momentum):
    target = ((answers - centre) / temperature).softmax(dim=1)  # (B, K)
    return target, momentum * centre + (1 - momentum) * answers.mean(dim=0)  # (K,)


target, new_centre = target_solution(numbers, centre, 1.0, 0.9)
assert torch.allclose(target.sum(dim=1), torch.ones(4)) and torch.allclose(new_centre, centre)
assert check.centred_target(target_solution).passed

# %% [markdown]
# ### Solution 14.9
#
# Without centring, sharpening alone drives to one answer for all: both entropies 0. Without sharpening, centring alone
# drives to equal shares: both at ln 64.

# %% tags=["solution"]
by_end = sorted(logs, key=lambda letter: logs[letter][-20:, 1].mean())  # by how unsure the teacher is at the end
without_centring, _, without_sharpening = by_end
assert runs[without_centring].centre.abs().max() == 0 and runs[without_sharpening].teacher_temperature == 0.1
assert check.find_collapse(without_centring + without_sharpening).passed

# %% [markdown]
# ### Solution 14.10
#
# All cosines at once, the k largest of each row, a count for each class; of equal counts `argmax` gives the first.


# %% tags=["solution"]
def nearest_solution(features, labels, queries, k, num_classes):
    cosines = F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T  # (Q, M)
    nearest = cosines.topk(k, dim=1).indices  # (Q, k)
    return F.one_hot(labels[nearest], num_classes).sum(dim=1).argmax(dim=1)  # (Q, C) -> (Q,)


assert nearest_solution(known, labels, query[None], 3, 2).tolist() == [1]
assert check.nearest_labels(nearest_solution).passed
