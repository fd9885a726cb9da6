# %% [markdown]
# # 05 · Vision Transformer
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
# - assemble a Vision Transformer from the parts of 01 to 04 and say the shape at every stage
# - count its weights and its multiply-adds by hand, and say where they are
# - take the weights of another library and get the same logits
# - let a trained ViT answer on a photograph, also at another image size
#
# About {minutes} minutes to read and do, in two parts; 10 s of computing on two CPU cores.
# Read [04 Encoder block](04_encoder_block.ipynb) first.

# %%
import copy

import torch
from torch import nn

from vit_tutorial import ViTConfig, check, course, datasets, drawings, normalise, plots, training, weights, widgets
from vit_tutorial.files import CHECKPOINT, DATA

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_grad_enabled(False)  # nothing is trained in this notebook
course.show_map(5)

# %% [markdown]
# ## One photograph, from pixels to an answer

# %%
model = weights.load(CHECKPOINT)  # a small ViT that this course trained on CIFAR-10
cat = datasets.sample_image("cat", 32)  # (3, 32, 32), uint8
stepper = widgets.EncoderStepper(model, cat)
stepper

# %% [markdown]
# Every number in here is real: a trained model computes it for this cat. Press **Next** or the → key, again and again:
# {=len(stepper.stages):d} steps from pixels to an answer, each with its code, its shape and its numbers.
#
# - **To step 6**: patches, tokens, class token, positions. Point at the cat's nose: which row is it?
# - **Block 1**: the line at the top forks twice. A branch reads a copy of the tokens, and its result is added back. At
#   *+ MLP*, see which tokens move, and how far.
# - **Part**, block 4: the same sums. Do the tokens move as far?
# - **The end**: only the class token is read.

# %% [markdown]
# The nose is in row 6 and column 4 of the patches, counted from 0. So it is patch 6 · 8 + 4 = 52, and row 53 once the
# class token stands on top. And block 4 moves the tokens less far than block 1: below you will measure how far.
#
# Here is the whole walk on one page. In the token matrices a bright colour is a large number; each matrix has a scale
# of its own.

# %%
plots.show(
    drawings.vit_pipeline(model, cat),
    "A photograph of a cat on its way through a Vision Transformer: image, patches, class token and patch tokens, "
    "positions added, tokens after four of the blocks with the class token's attention under them, the normalised "
    "class token, and a bar for each class. The tokens keep their shape from the embedding to the last block.",
)

# %% [markdown]
# - Upper row: cut, multiply by one matrix (01), put a **class token** on top and add the position embedding (02).
# - Lower row: **encoder blocks**, one after the other (03 and 04). All keep the shape of the token matrix.
# - Right: the class token alone is normalised and multiplied by one last matrix, the **head**. Its outputs are the
#   **logits**, one number for each class.
#
# The model was trained on CIFAR-10: 50,000 small photographs in ten classes. The photograph shows a cat, and the model
# hesitates between *dog* and *cat*.
#
# You have built every part. What can still go wrong in the assembly, and what does the whole thing cost?

# %% [markdown]
# ## The same walk, by hand
# Take the trained model apart and run its parts one at a time. First the pixels: from 0..255 to small numbers around 0,
# with the mean and the spread that the model was trained with.

# %%
images = normalise(cat[None], model.config)  # (1, 3, 32, 32): (pixels / 255 - mean) / std
print(tuple(images.shape), f"from {images.min():.2f} to {images.max():.2f}")

# %% [markdown]
# The patches become tokens. How many numbers does each have?

# %%
x = model.patch_embed(images)  # (1, N, D)
N, D = x.shape[1:]
print(f"{N} patch tokens of {D} numbers: {tuple(x.shape)}")

# %% [markdown]
# The class token is a weight, learned like any other: one row of D numbers, the same for every image. `expand` repeats
# it for each image of the batch without copying it. It goes to the top, as row 0.

# %%
cls = model.cls_token.expand(len(x), -1, -1)  # (1, 1, D): one for each image of the batch
x = torch.cat([cls, x], dim=1)  # (1, 1 + N, D)
x = x + model.pos_embed  # (1, 1 + N, D): a position for each row, the class token's too
tuple(x.shape)

# %% [markdown]
# ### Exercise 5.1 · Embed the tokens
# *write · medium · 5 minutes*
#
# Write these steps as one function for any batch: `x` holds the patch tokens `(B, N, D)`, `cls_token` is `(1, 1, D)`
# and `pos_embed` is `(1, 1 + N, D)`. Return the embedded tokens `(B, 1 + N, D)`.
#
# <details><summary>Hint</summary>
#
# Three steps, in this order: repeat the class token for each image, join it to the patches with the class token in
# front, add the positions.
#
# </details>


# %% tags=["exercise"]
def embed_tokens(x, cls_token, pos_embed):
    return ...


# %%
check.embed_tokens(embed_tokens)

# %% [markdown] tags=["predict"]
# **Predict before you run.** The tokens, {=str(tuple(x.shape)):s}, now go through six blocks. Which shape comes out
# of the last?
#
# - a: (1, 1, 128): the patches have been collected into the class token
# - b: (1, 64, 128): the class token has been used up
# - c: (1, 65, 128)

# %%
moves = []
for number, block in enumerate(model.blocks, start=1):
    before, x = x, block(x)  # (1, 1 + N, D)
    moves.append(((x - before).norm(dim=-1) / before.norm(dim=-1)).mean())  # how far, in lengths of the token
    print(f"after block {number}: {tuple(x.shape)}, tokens moved by {moves[-1]:.1f} times their length")

# %% [markdown]
# c: the shape stays. That is why blocks can be stacked: each one reads and writes the same kind of matrix. The numbers
# do not stay: every block adds to what is there (the residual connection of 04). On average the first adds a little
# more than it found, {=moves[0]:.1f} times a token's length, and the others a part of it,
# {=min(moves[1:]):.1f} to {=max(moves[1:]):.1f}.
#
# After the last block, a final LayerNorm brings every token back to one scale. Then the head reads row 0:

# %%
x = model.norm(x)  # (1, 1 + N, D)
logits = model.head(x[:, 0])  # (1, num_classes)
probabilities = logits.softmax(dim=-1)[0]  # (num_classes,): positive, sum to 1
for name, share in zip(model.config.classes, probabilities, strict=True):
    print(f"{name:12}{100 * share:6.1f} %")

# %% [markdown]
# Almost a draw, and *dog* is ahead. Does the model itself say the same? If your walk left out anything, it cannot:

# %%
assert torch.allclose(logits, model(images), atol=1e-5)
print("By hand and model(images): the same logits.")

# %% [markdown]
# **Remember.** A ViT is a patch embedding, one added row, one added matrix, L blocks of one kind, one norm and one
# head. From the embedding to the norm the shape is `(B, 1 + N, D)`.

# %% [markdown]
# ## Which token should the head read?

# %%
tokens = torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 4.0]])  # (3, 2): class token, patch 1, patch 2
head = torch.eye(2)  # the first number is the logit of "cat", the second that of "dog"
first = tokens[:1] @ head.T  # (1, 2): read row 0
mean = tokens[1:].mean(dim=0, keepdim=True) @ head.T  # (1, 2): read the mean of the patches
fig, (left, middle, right) = plots.figure(6, 1.9, 1, 3)
style = {"decimals": 1, "vmin": 0, "vmax": 4}
plots.draw_matrix(left, tokens, "three tokens", rows=["class token", "patch 1", "patch 2"], **style)
plots.draw_matrix(middle, first, "read row 0", rows=["logits"], columns=["cat", "dog"], **style)
plots.draw_matrix(right, mean, "read the mean", rows=["logits"], columns=["cat", "dog"], **style)
plots.show(
    fig,
    "Three tokens of two numbers. Read from the class token, the logits are 3 for cat and 1 for dog; "
    "read from the mean of the patches, 0.5 for cat and 3 for dog.",
)

# %% [markdown]
# The same tokens and the same head, but two answers. Check one by hand: the mean of the patches is
# ((0 + 1) / 2, (2 + 4) / 2) = (0.5, 3), so now "dog" wins.
#
# Both ways of reading are in use, and have names:
#
# | `pool` | the head reads | extra weights | extra tokens |
# |---|---|---|---|
# | `"cls"` | a class token that collects from the patches by attention | 2 D | 1 |
# | `"mean"` | the mean of all patch tokens | 0 | 0 |
#
# Dosovitskiy et al. (appendix D.3) found both about equally accurate, each trained at a learning rate of its own.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Our model was trained to read the class token. What if its head is given the mean of the
# patch tokens, or the last patch?
#
# - a: an error
# - b: about the same answer
# - c: another answer


# %%
def answer(logits, classes=model.config.classes):
    """The most likely class of one image's logits `(1, num_classes)`, and its probability."""
    share, index = logits.softmax(dim=-1)[0].max(dim=0)
    return f"{classes[index]} ({100 * share:.0f} %)"


print("read the class token:     ", answer(model.head(x[:, 0])))
print("read the mean of patches: ", answer(model.head(x[:, 1:].mean(dim=1))))
print("read the last patch:      ", answer(model.head(x[:, -1])))

# %% [markdown]
# c, and no error appears: all three are rows of D numbers, and the head takes them all. Nobody trained it for the last
# two, so their answers mean little, and a right one would be luck. A model must be read in the way in which it was
# trained; reading the wrong token is the kind of bug that only a test finds.

# %% [markdown]
# ### Exercise 5.2 · Repair the end
# *repair · medium · 5 minutes*
#
# A friend wrote the last steps of the model: from the tokens after the last block, `(B, 1 + N, D)`, to the logits. It
# runs, the shapes are right, and the answers are not the model's. Find both bugs.


# %%
def broken_read_out(model, tokens):
    features = tokens[:, -1]  # (B, D)
    return model.head(features)  # (B, num_classes)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Compare it line by line with the walk that you did by hand. Which row is the class token in, and what happens between
# the last block and the head?
#
# </details>


# %% tags=["exercise"]
def read_out(model, tokens):
    return ...


# %%
check.read_out(read_out)

# %% [markdown]
# ## The class
# Two things are missing before you can write it down: what the model's numbers are, and how the weights start.
# `ViTConfig` holds every number that decides the model's shape, and refuses numbers that do not fit each other. Its
# defaults are ViT-B/16: "B" for base, 16 for the patch size.

# %%
config = ViTConfig()
for name in ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "pool"):
    print(f"{name:12}{getattr(config, name)}")
print(f"{'grid':12}{config.grid}: rows and columns of patches")

# %% [markdown]
# Weights start as small random numbers, from a normal distribution with standard deviation 0.02. Biases start at 0.
# (LayerNorm starts at scale 1 and shift 0; the convolution of the patch embedding keeps PyTorch's own start.)


# %% tags=["package"]
def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


# %% [markdown]
# Position embeddings come in the three kinds of notebook 02: learned, sinusoidal, none. With a class token there is one
# row more, at the top.

# %%
from vit_tutorial.layers import EncoderBlock, PatchEmbedding, sinusoidal_positions


# %% tags=["package"]
def position_embedding(config):
    rows, columns = config.grid
    N = rows * columns
    cls_rows = 1 if config.pool == "cls" else 0
    pos = torch.zeros(1, cls_rows + N, config.embed_dim)
    if config.position == "learned":
        nn.init.normal_(pos, std=0.02)
    if config.position == "sinusoidal":
        pos[:, cls_rows:] = sinusoidal_positions(config.embed_dim, config.grid)
    return nn.Parameter(pos, requires_grad=config.position == "learned")


# %% [markdown]
# Now the whole model, the walk that you did by hand above. `attention_maps` is the same walk, and keeps each block's
# attention weights. (`.to(x.dtype)` matters only where numbers have 16 bits, in notebook 11.) `vit_tutorial` holds the
# same code.


# %% tags=["package"]
class VisionTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.patch_embed = PatchEmbedding(c.image_size, c.patch_size, c.in_channels, c.embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, c.embed_dim) * 0.02) if c.pool == "cls" else None
        self.pos_embed = position_embedding(c)
        self.pos_drop = nn.Dropout(c.dropout)
        rates = torch.linspace(0, c.drop_path, c.depth).tolist()  # more stochastic depth deeper down
        self.blocks = nn.ModuleList(
            EncoderBlock(c.embed_dim, c.num_heads, c.mlp_ratio, c.dropout, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(c.embed_dim, eps=1e-6)
        self.head = nn.Linear(c.embed_dim, c.num_classes)
        self.apply(init_weights)

    def embed(self, images):
        x = self.patch_embed(images)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)  # (B, 1 + N, D)
        return self.pos_drop(x + self.pos_embed.to(x.dtype))  # 16-bit patches stay 16-bit tokens

    def forward_features(self, images):
        x = self.embed(images)  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # (B, N, D)

    def forward(self, images):
        x = self.forward_features(images)
        x = x.mean(dim=1) if self.cls_token is None else x[:, 0]  # (B, D)
        return self.head(x)  # (B, num_classes)

    @torch.no_grad()
    def attention_maps(self, images):
        x, maps = self.embed(images), []
        for block in self.blocks:
            x, weights = block(x, return_attention=True)
            maps.append(weights)
        return torch.stack(maps)  # (L, B, H, N, N)


# %% [markdown]
# (From `embed` on, N counts the class token too.) Is it right? Give the class of this notebook the trained weights, and
# compare:

# %%
mine = VisionTransformer(model.config).eval()  # eval: dropout off
untrained = mine(images).softmax(dim=-1)  # (1, num_classes)
assert untrained.max() < 0.3  # at most 0.20 with 60 other seeds
mine.load_state_dict(model.state_dict())
assert torch.equal(mine(images), model(images))
print(f"with the trained weights: {answer(mine(images))}")

# %% [markdown]
# Before the weights were loaded, no class got as much as 30 %: an untrained model knows nothing, and says so.
#
# The attention weights come out with one axis for each choice you have: which block, which image, which head.

# %%
maps = mine.attention_maps(images)  # (L, B, H, N, N); here N counts the class token too
assert torch.allclose(maps.sum(dim=-1), torch.ones(maps.shape[:-1]), atol=1e-5)  # each row sums to 1
print("(L, B, H, N, N) =", tuple(maps.shape))

# %% [markdown]
# ## Break it on purpose
# The parts fit. What if they are put together with a small slip?
#
# ### Exercise 5.3 · Which slip is loud?
# *predict · easy · 2 minutes*
#
# Each of these three models has one slip. Which of them does PyTorch refuse with an error?
#
# - `"a"` the class token gets no position: `torch.cat([cls, patches], dim=1) + pos_embed[:, 1:]`
# - `"b"` the class token is put last: `torch.cat([patches, cls], dim=1) + pos_embed`, and the head reads row 0
# - `"c"` the final norm is left out
# - `"d"` none of them
#
# <details><summary>Hint</summary>
#
# Write the shape beside each part of each line. An error needs shapes that do not fit.
#
# </details>

# %% tags=["exercise"]
loud_slip = ...  # "a", "b", "c" or "d"

# %%
check.loud_slip(loud_slip)

# %% [markdown]
# Try them. The first:

# %%
patches = model.patch_embed(images)  # (1, N, D)
cls = model.cls_token.expand(len(patches), -1, -1)  # (1, 1, D)
try:
    torch.cat([cls, patches], dim=1) + model.pos_embed[:, 1:]
except RuntimeError as error:
    print(error)

# %% [markdown]
# A good bug: it is loud. At dimension 1, the token axis, PyTorch's first tensor has 65 rows, the tokens, and its second
# 64, the positions. The other two slips, as functions:


# %%
def run_blocks(x):
    for block in model.blocks:
        x = block(x)
    return x


def cls_last(patches):
    x = torch.cat([patches, cls], dim=1) + model.pos_embed  # class token in the last row
    return model.head(model.norm(run_blocks(x))[:, 0])


def no_norm(patches):
    x = torch.cat([cls, patches], dim=1) + model.pos_embed
    return model.head(run_blocks(x)[:, 0])


# %% [markdown] tags=["predict"]
# **Predict before you run.** The right model says {=answer(model(images)):s}. What do these two say about the cat?
#
# - a: something far off, such as *ship* or *truck*
# - b: every class about 10 %, as an untrained model does
# - c: *cat* or *dog*, as if all were well

# %%
results = {"as it should be": model(images), "class token last": cls_last(patches), "no final norm": no_norm(patches)}
fig, axes = plots.figure(7, 2.9, 1, 3, sharex=True, sharey=True)
for ax, (title, logits) in zip(axes, results.items(), strict=True):
    ax.barh(model.config.classes, logits[0], color=plots.COLOURS[0 if title.startswith("as") else 1])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_title(f"{title}:\n{answer(logits)}", fontsize=10)
axes[0].invert_yaxis()
axes[1].set_xlabel("logit")
plots.show(
    fig,
    "Logits of the cat for the right model, with the class token last, and without the final norm. "
    "All three have ten finite numbers; only the first is the trained model's answer.",
)

# %% [markdown]
# c, and worse: both broken models say *cat*, which is true, where the right one says *dog*. Whoever tests with one
# picture and looks at the winner keeps the bugs. What gives them away is a comparison with the logits as they should
# be:

# %%
assert [answer(logits)[:3] for logits in results.values()] == ["dog", "cat", "cat"]  # ahead by 0.005 or more, in logits
for title, logits in results.items():
    print(f"{title:18} differs by up to {(logits - results['as it should be']).abs().max():.1f}")

# %% [markdown]
# With the class token last, the head reads row 0, which is now a patch, and every patch but the first has the position
# of the one before it. Without the norm, the head gets numbers of another scale. How many more answers are wrong? Only
# many labelled pictures could tell.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Is row 0 sacred? Put the class token last, let its position move along, and read the last
# row. The answer is
#
# - a: the same
# - b: another one
# - c: an error

# %%
positions = torch.cat([model.pos_embed[:, 1:], model.pos_embed[:, :1]], dim=1)  # (1, N + 1, D): moved along
x = torch.cat([patches, cls], dim=1) + positions
moved = model.head(model.norm(run_blocks(x))[:, -1])
print(answer(moved), "and before", answer(model(images)))

# %%
assert torch.allclose(moved, model(images), atol=1e-4)

# %% [markdown]
# a, in all ten logits. The blocks do not know about order (notebook 02), so row 0 is a convention. What counts is that
# embedding, positions and head keep the *same* convention, the one your weights were trained with.

# %% [markdown]
# ## The trained model at work
# Four photographs, at the 32 × 32 pixels that the model was trained on:

# %%
names = ["cat", "rocket", "astronaut", "coffee"]
four = torch.stack([datasets.sample_image(name, 32) for name in names])  # (4, 3, 32, 32)
shares = model(normalise(four, model.config)).softmax(dim=-1)  # (4, 10)
fig, axes = plots.figure(7, 2.8, 2, 4, height_ratios=[1.3, 1])
for picture, ax, image, share in zip(axes[0], axes[1], four, shares, strict=True):
    plots.draw_image(picture, image)
    best = share.argsort(descending=True)[:3].tolist()
    ax.barh(range(3), 100 * share[best])
    ax.set_yticks(range(3), [model.config.classes[i] for i in best])
    ax.set(xlim=(0, 100), xticks=[0, 50, 100])
    ax.invert_yaxis()
fig.supxlabel("probability (%)", fontsize=9)
plots.show(
    fig,
    "Photographs of a cat, a rocket, an astronaut and a cup of coffee at 32 by 32 pixels, each with the "
    "three most likely of CIFAR-10's classes as bars. The last three show things of no such class.",
)

# %% [markdown]
# How far can you trust it? The record of its training has an answer, for CIFAR-10's 10,000 test photographs (a JPEG
# copy of them), none of which it saw in training:

# %%
run = training.History.load(DATA / "runs" / "cifar10-course-35min.json")
print(f"trained for {run.info['minutes']:.0f} minutes, right on {100 * run.accuracy:.0f} % of the test photographs")

# %% [markdown]
# Be careful with the other three. CIFAR-10 has a class "cat", but none for rockets, astronauts or coffee. Softmax must
# share out 100 % among the ten classes it has: "none of these" is not on the list. To this model
# the rocket is *{=answer(model(normalise(four[1:2], model.config))):s}*: one class fits better than the other nine, no
# more.

# %% [markdown]
# Where did it look? Take one head: does its class token look at the same places of the cat and of the rocket?

# %%
sharp = torch.stack([datasets.sample_image(name, 128) for name in names])  # (4, 3, 128, 128), to look at
widgets.AttentionExplorer(model, four, sharp, names, right=1)

# %% [markdown]
# Bright patches get much of the class token's attention. Compare *head 3* and *head 2* on the two pictures, then other
# layers, other pictures. (*Rollout* waits for notebook 10.) In numbers, for head 3 of the last layer: how much of the
# class token's attention goes to the lowest row of patches?

# %%
last = model.attention_maps(normalise(four, model.config))[-1, :, :, 0, 1:]  # (B, H, 64): block 6, the class token's
for name, share in zip(names, last[:, 2, -8:].sum(dim=-1), strict=True):
    print(f"{name:10} {100 * share:3.0f} %")

# %% [markdown]
# No. Attention is computed from the image: other patches, other queries and keys, other maps. A weight matrix is
# learned once and then fixed; attention weights are made anew for each image.

# %% [markdown]
# ### Another image size
# Give the model more pixels, and it refuses, because it has positions for one grid alone:

# %%
try:
    model(torch.zeros(1, 3, 48, 48))
except ValueError as error:
    print(error)

# %% [markdown]
# Everything else in the model works for any number of tokens. So `set_image_size` interpolates the positions to the new
# grid, as in notebook 02, and changes the model in place. A copy keeps the original as it was:

# %%
from vit_tutorial import set_image_size
from vit_tutorial.datasets.photographs import resize


def at_its_size(image):
    larger = set_image_size(copy.deepcopy(model), tuple(image.shape[1:]))
    return larger.pos_embed.shape[1], answer(larger(normalise(image[None], larger.config)))


# %%
pictures = [datasets.sample_image("cat", side) for side in (32, 48, 64)]
pictures.append(resize(datasets.sample_image("cat"), (32, 48)))  # the whole photograph, not a square
sizes = [at_its_size(picture) for picture in pictures]
fig, axes = plots.figure(7, 2.5, 1, 4, width_ratios=[1, 1, 1, 1.5])
for ax, picture, (count, said) in zip(axes, pictures, sizes, strict=True):
    plots.draw_grid(ax, picture, model.config.patch_size)
    ax.set_title(f"{picture.shape[1]} x {picture.shape[2]}\n{count} tokens\n{said}", fontsize=10)
plots.show(
    fig,
    "The cat at 32, 48 and 64 pixels and in a wider picture of 32 by 48, each with its grid of patches: "
    + "; ".join(f"{count} tokens, {said}" for count, said in sizes),
)

# %% [markdown]
# It runs, on squares and on wide pictures, and the answer changes: {=sizes[0][1]:s} at 32 pixels, {=sizes[1][1]:s} at
# 48, {=sizes[2][1]:s} at 64. Is larger better, then? One photograph cannot say. There is a reason for doubt: at 64
# pixels a patch of 4 × 4 shows a quarter of the area that it shows at 32, so a smaller piece of an eye. Positions can
# be interpolated, what the model has learned about the size of things cannot. So in practice one trains a few epochs
# more at the new size (Dosovitskiy et al., 3.2; notebook 09), and tests on labelled pictures.

# %% [markdown] tags=["stop"]
# **A place to stop.** You have assembled a Vision Transformer, broken it, and let a trained one answer. The second part
# asks what it is made of and what it costs, for the real ViT-B/16, and whether yours is the model that other libraries
# have. If you come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## Where do 86.6 million weights live?
# ViT-B/16 is the base model of the paper that introduced the ViT (Dosovitskiy et al. 2021): 224 × 224 pixels, patches
# of 16, D = 768, L = 12 blocks; in torchvision with 1000 classes. Before you count, guess.
#
# ### Exercise 5.4 · Guess first
# *predict · easy · 2 minutes*
#
# Which part of ViT-B/16 holds most of the weights?
#
# - `"a"` the patch embedding: it is the only part that sees pixels
# - `"b"` attention: queries, keys, values and the output projection, in all blocks
# - `"c"` the MLPs, in all blocks
# - `"d"` the positions and the head
#
# <details><summary>Hint</summary>
#
# Which parts are there once, and which twelve times? In a block, compare the widths: D to D four times in attention,
# D to 4 D and back in the MLP.
#
# </details>

# %% tags=["exercise"]
most_weights = ...  # "a", "b", "c" or "d"

# %%
check.where_weights_live(most_weights)

# %% [markdown]
# Now count. A linear layer from `n` to `m` numbers has `n * m` weights and `m` biases. First the parts that are there
# once:

# %%
D, L, P = 768, 12, 16
N = (224 // P) ** 2  # 14 rows of 14 patches
patch_embedding = 3 * P * P * D + D  # matrix, bias
cls_and_positions = D + (1 + N) * D  # one row; one position for each of 1 + N rows
head = D * 1000 + 1000
print(f"{patch_embedding:,} + {cls_and_positions:,} + {head:,}")

# %% [markdown]
# By chance a patch also has 768 numbers, 3 · 16 · 16. Do not mix the two up: change P, and only one changes.
#
# ### Exercise 5.5 · Count a block
# *write · medium · 7 minutes*
#
# Count the weights of one encoder block for any width `D` and any number of `hidden` units in the MLP. In the block are
# two LayerNorms (a scale and a shift for each of the D numbers), `qkv` (D to 3 D), `proj` (D to D), `fc1` (D to
# hidden) and `fc2` (hidden to D). All linear layers have a bias.
#
# <details><summary>Hint</summary>
#
# Write a helper `linear(n, m)` that returns `n * m + m`, and add up six terms.
#
# </details>


# %% tags=["exercise"]
def block_weights(D, hidden):
    return ...


# %%
check.count_block(block_weights)

# %% [markdown]
# Here is the block of ViT-B/16, where `hidden` is 4 D. **Compare with your function's answer.**

# %%
attention = D * 3 * D + 3 * D + D * D + D  # qkv and its bias, proj and its bias
mlp = D * 4 * D + 4 * D + 4 * D * D + D  # fc1 and its bias, fc2 and its bias
norms = 2 * (D + D)  # two LayerNorms: scale, shift
block_total = attention + mlp + norms
print(f"{attention:,} + {mlp:,} + {norms:,} = {block_total:,}")

# %% [markdown]
# Twelve blocks, and the final LayerNorm before the head. Two witnesses are asked: the model itself, whose parameters
# are added up, and torchvision, which keeps a record of its ViT-B/16.

# %%
import torchvision

by_hand = patch_embedding + cls_and_positions + L * block_total + 2 * D + head
base = VisionTransformer(ViTConfig()).eval()  # 346 MB: 4 bytes for each weight
by_code = sum(parameter.numel() for parameter in base.parameters())
record = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta  # a description; nothing is downloaded
assert by_hand == by_code == record["num_params"] == 86_567_656
print(f"by hand {by_hand:,}, by code {by_code:,}, in torchvision {record['num_params']:,}")

# %% [markdown]
# The same sums for any model with a class token, part by part:


# %%
def weight_parts(c):
    D, hidden, N = c.embed_dim, int(c.embed_dim * c.mlp_ratio), c.grid[0] * c.grid[1]
    return {
        "patch embedding": c.in_channels * c.patch_size**2 * D + D,
        "class token, positions": D + (1 + N) * D,
        "attention": c.depth * (4 * D * D + 4 * D),
        "MLP": c.depth * (2 * D * hidden + hidden + D),
        "norms": (2 * c.depth + 1) * 2 * D,
        "head": D * c.num_classes + c.num_classes,
    }


assert sum(weight_parts(ViTConfig()).values()) == by_code
for name, count in weight_parts(ViTConfig()).items():
    print(f"{name:24}{count:12,}{100 * count / by_code:7.1f} %")

# %% [markdown]
# Two thirds of a Vision Transformer are MLP: two matrices of D × 4 D, against four of D × D for attention. All that
# knows about pixels, the patch embedding, is a slice of {=100 * patch_embedding / by_code:.1f} %. Nothing in the blocks
# knows about images.

# %% [markdown]
# ### The names of the weights
# `state_dict()` lists every weight under a name. Ours are the names of the library *timm*. Here is all of ViT-B/16,
# with one block of the twelve:

# %%
for name, value in base.state_dict().items():
    if not name.startswith("blocks") or name.startswith("blocks.0."):
        print(f"{name:28}{tuple(value.shape)!s:20}{value.numel():>12,}")

# %% [markdown]
# Read it once from top to bottom. `attn.qkv` stacks three matrices: rows 0 to D - 1 make queries, the next D keys, the
# last D values. `patch_embed.proj` has the shape of a convolution, `(D, 3, P, P)`, which notebook 01 showed to be the
# same as a linear layer on flat patches. Each name leads to the attribute: `base.blocks[0].attn.qkv.weight`.

# %% [markdown]
# ## What does one photograph cost?

# %%
fig, (left, middle, right) = plots.figure(6.5, 1.8, 1, 3, width_ratios=[3, 4, 4])
a, b = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 0, 2, 1], [0, 1, 1, 1], [1, 1, 0, 1]])
for ax, matrix, title in ((left, a, "(2, 3)"), (middle, b, "@ (3, 4)"), (right, a @ b, "= (2, 4)")):
    plots.draw_matrix(ax, matrix, title, decimals=0, vmin=0, vmax=15)
plots.show(fig, "A 2 by 3 matrix times a 3 by 4 matrix is a 2 by 4 matrix; each of its 8 numbers sums 3 products.")

# %% [markdown]
# Each of the 2 · 4 numbers on the right is a sum of 3 products: 2 · 3 · 4 = 24 times "multiply, then add". Such a pair
# is one **multiply-add** (MAC). Counted apart, a multiplication and an addition are two floating-point operations
# (FLOPs), so **1 multiply-add = 2 FLOPs**.
#
# Some write "FLOPs" and mean multiply-adds. Always find out which. PyTorch's counter means what it says:

# %%
from torch.utils.flop_counter import FlopCounterMode

with FlopCounterMode(display=False) as counter:
    a.float() @ b.float()
print(f"{counter.get_total_flops()} FLOPs = {counter.get_total_flops() // 2} multiply-adds")

# %% [markdown]
# So `(N, D) @ (D, M)` costs N · D · M multiply-adds. In a block there are six products of matrices:
#
# | product | shapes | how often |
# |---|---|---|
# | `qkv` | (N, D) @ (D, 3 D) | 1 |
# | queries · keys | (N, d) @ (d, N) | H heads, with H · d = D |
# | weights · values | (N, N) @ (N, d) | H heads |
# | `proj` | (N, D) @ (D, D) | 1 |
# | `fc1` | (N, D) @ (D, 4 D) | 1 |
# | `fc2` | (N, 4 D) @ (4 D, D) | 1 |
#
# ### Exercise 5.6 · Count the multiply-adds of a block
# *write · medium · 7 minutes*
#
# Write the sum for N tokens of width D, as one function. Let the MLP be 4 D wide.
#
# <details><summary>Hint</summary>
#
# All heads together: H · (N · d · N) = N · N · D, since H · d = D. The number of heads drops out.
#
# </details>


# %% tags=["exercise"]
def block_macs(N, D):
    return ...


# %%
check.count_macs(block_macs)

# %% [markdown]
# For any model, part by part. The two products between tokens are kept apart under the name *token pairs*, because they
# alone grow with the square of the number of tokens. LayerNorm, softmax, GELU and additions are no products of
# matrices; as is usual, they are left out.


# %%
def mac_parts(c):
    D, N = c.embed_dim, c.grid[0] * c.grid[1]
    T = 1 + N  # tokens in the blocks: class token and patches
    return {
        "patch embedding": N * c.in_channels * c.patch_size**2 * D,
        "attention": c.depth * 4 * T * D * D,
        "token pairs": c.depth * 2 * T * T * D,
        "MLP": c.depth * 2 * T * D * int(D * c.mlp_ratio),
        "head": D * c.num_classes,
    }


macs = sum(mac_parts(ViTConfig()).values())
print(f"{macs / 1e9:.3f} billion multiply-adds for one image")

# %% [markdown]
# Measured, by running the model while PyTorch counts (products of matrices alone, as we do). And torchvision's record,
# whose "GFLOPS" are multiply-adds:

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel

# MATH: attention as two plain products, which every version of PyTorch counts.
with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
    base(torch.zeros(1, 3, 224, 224))  # (1, num_classes)
flops = counter.get_total_flops()
assert flops == 2 * macs and abs(record["_ops"] - macs / 1e9) < 1e-3
print(f"measured: {flops / 1e9:.3f} billion FLOPs = 2 x {macs / 1e9:.3f} billion multiply-adds")
print(f"torchvision's table: {record['_ops']}")

# %% [markdown]
# Our sum and PyTorch's counter agree to the last multiply-add. Weights and cost, side by side:

# %%
NAMES = ["patch embedding", "class token, positions", "attention", "token pairs", "MLP", "norms", "head"]
COLOURS = dict(zip(NAMES, ["#E69F00", "#999999", "#0072B2", "#56B4E9", "#00805E", "#CCCCCC", "#CC79A7"], strict=True))


def draw_cost(c):
    """Two stacked bars, a colour for each part: weights and multiply-adds. Returns the figure and both totals."""
    fig, axes = plots.figure(7, 3.2, 2, 1)
    totals, handles = [], {}
    for ax, parts, unit, name in zip(axes, (weight_parts, mac_parts), (1e6, 1e9), ("weights", "MACs"), strict=True):
        left, total = 0, sum(parts(c).values())
        for part, count in parts(c).items():
            handles[part] = ax.barh(0, count / unit, 0.75, left / unit, color=COLOURS[part])
            if count > 0.08 * total:
                text = f"{part}\n{100 * count / total:.0f} %"
                ax.text((left + count / 2) / unit, 0, text, ha="center", va="center", color="white", fontsize=10)
            left += count
        totals.append(f"{total / unit:,.1f} {'million' if unit == 1e6 else 'billion'} {name}")
        ax.set(yticks=[], xlim=(0, total / unit))
        ax.set_title(totals[-1], fontsize=10)
        ax.spines["left"].set_visible(False)
    names = [name for name in NAMES if name in handles]
    fig.legend([handles[n] for n in names], names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return fig, " and ".join(totals)


base = base.to("meta")  # keeps every shape, drops the numbers: 346 MB are free again
fig, totals = draw_cost(ViTConfig())
plots.show(
    fig,
    f"Two stacked bars for ViT-B/16, {totals}: nearly the same shares. The only part of the cost without weights is "
    f"token pairs, {100 * mac_parts(ViTConfig())['token pairs'] / macs:.0f} per cent.",
)

# %% [markdown]
# The bars look alike, and for a reason: each weight of a block is used once for each token, so cost ≈ weights × tokens.
# That would be {=by_code * 197 / 1e9:.1f} billion here, and it is {=macs / 1e9:.1f}.
#
# What breaks the rule most are the token pairs. They have no weights at all. At 224 pixels, with 197 tokens, they are
# {=100 * mac_parts(ViTConfig())["token pairs"] / macs:.0f} % of the work. The famous "attention is quadratic" does not
# hurt yet.

# %% [markdown]
# ## From tiny to large
# The family differs in width, depth and heads alone. A head is 64 wide in all of them.

# %%
FAMILY = {"ViT-Ti/16": (192, 12), "ViT-S/16": (384, 12), "ViT-B/16": (768, 12), "ViT-L/16": (1024, 24)}  # D, L
configs = {name: ViTConfig(embed_dim=D, depth=L, num_heads=D // 64) for name, (D, L) in FAMILY.items()}
print("model          D   L   H      weights   GMACs")
for name, c in configs.items():
    count, cost = sum(weight_parts(c).values()), sum(mac_parts(c).values())
    print(f"{name:11}{c.embed_dim:5}{c.depth:4}{c.num_heads:4}{count:13,}{cost / 1e9:8.2f}")

# %% [markdown]
# Twice the width is about four times the weights: S has
# {=sum(weight_parts(configs["ViT-S/16"]).values()) / sum(weight_parts(configs["ViT-Ti/16"]).values()):.1f} times those
# of Ti, B {=by_code / sum(weight_parts(configs["ViT-S/16"]).values()):.1f} times those of S. Twice the depth is about
# twice.
#
# ### Exercise 5.7 · Smaller patches
# *experiment · medium · 5 minutes*
#
# You change ViT-B from patches of 16 to patches of 8 pixels, on the same 224 × 224 images. How many times as many
# multiply-adds does the new model need? Guess first, then compute it with `mac_parts`.
#
# <details><summary>Hint</summary>
#
# `sum(mac_parts(ViTConfig(patch_size=8)).values())`, divided by the same for 16.
#
# </details>

# %% tags=["exercise"]
times_as_many = ...

# %%
check.smaller_patches(times_as_many)

# %% [markdown]
# ### What the image and the patch size do

# %%
fig, (left, right) = plots.figure(6.8, 2.9, 1, 2)
sides = [32 * k for k in range(2, 33)]  # 64 to 1024 pixels
for P in (8, 16, 32):
    parts = [mac_parts(ViTConfig(image_size=side, patch_size=P)) for side in sides]
    left.loglog(sides, [sum(p.values()) / 1e9 for p in parts], label=f"patches of {P} pixels")
    pairs = [100 * p["token pairs"] / sum(p.values()) for p in parts]  # per cent
    right.semilogx(sides, pairs)
    right.text(1060, pairs[-1], P, va="center", fontsize=9)
left.plot(224, macs / 1e9, "o", color="black", label="ViT-B/16")
left.set(title="billion multiply-adds", xlabel="image side in pixels")
right.set(title="share of the token pairs (%)", xlabel="image side in pixels", ylim=(0, 100))
for ax in (left, right):
    ax.set_xticks([64, 128, 256, 512, 1024], ["64", "128", "256", "512", "1024"], fontsize=9)
    ax.minorticks_off()
fig.legend(loc="outside upper center", ncols=4, fontsize=9, frameon=False)
most = mac_parts(ViTConfig(image_size=1024, patch_size=8))
plots.show(
    fig,
    "ViT-B's cost against the image side for patches of 8, 16 and 32 pixels. Left: the cost rises ever "
    "more steeply. Right: the share of token pairs rises from a few per cent to "
    f"{100 * most['token pairs'] / sum(most.values()):.0f} for patches of 8 at 1024.",
)

# %% [markdown]
# Twice the image side, or half the patch side, is four times the patches: about four times the cost, and more once the
# token pairs count. On the right you see when they do: with patches of 8 on 1024 pixels,
# {=100 * most["token pairs"] / sum(most.values()):.0f} % of the work is tokens looking at tokens. In a block both parts
# cost the same where 12 N D² = 2 N² D, at N = 6 D: 4608 tokens for ViT-B. The weights hardly care: only the position
# embedding and the patch embedding know the sizes.

# %% [markdown]
# **Remember.** A block has about 12 D² weights and costs 12 N D² + 2 N² D multiply-adds. Twice the width is
# about four times the weights and the cost, twice the depth is twice; half the patch side is a little over four times
# the cost at 224 pixels, for nearly the same weights.

# %% [markdown]
# ## The same logits as another library
# You have followed a Vision Transformer down to its last weight. Is it *the* Vision Transformer? Here is a strict test:
# take the model of another library, copy its weights into ours, and compare the logits.
#
# First a small one of torchvision's, with random weights:

# %%
theirs = torchvision.models.VisionTransformer(
    image_size=32, patch_size=8, num_layers=12, num_heads=4, hidden_dim=64, mlp_dim=256, num_classes=10
).eval()
photos = torch.randn(2, 3, 32, 32)
theirs(photos)

# %% [markdown]
# All zeros: torchvision starts the head at zero. **Stop here.** If you compared logits now, *every* model with a zero
# head would pass. A test that cannot fail tests nothing. So add a random number to each of its weights first:

# %%
for parameter in theirs.parameters():
    parameter.add_(0.05 * torch.randn_like(parameter))
ours = weights.from_torchvision(theirs)  # our VisionTransformer, their weights
difference = (ours(photos) - theirs(photos)).abs().max()
assert difference <= 1e-5 < theirs(photos).abs().max()
print(f"largest logit {theirs(photos).abs().max():.1f}, largest difference {difference:.4f}")

# %% [markdown]
# What is left, if anything, is rounding: two libraries may add the same numbers in another order.
#
# Is the test sharp enough? Plant three faults that raise no error. `eps` is the small number that LayerNorm adds to the
# variance; GELU has an approximate form that other models use. Each fault is planted in a copy of `ours`, and in a copy
# of the trained model, which is then asked about the cat.


# %%
from vit_tutorial import MultiHeadAttention


def plant(part, fault):
    if fault == "other eps" and isinstance(part, nn.LayerNorm):
        part.eps = 1e-5  # PyTorch's default; ViTs use 1e-6
    if fault == "other GELU" and isinstance(part, nn.GELU):
        part.approximate = "tanh"
    if fault == "q and k swapped" and isinstance(part, MultiHeadAttention):
        q, k, v = part.qkv.weight.clone().chunk(3)  # each (D, D)
        part.qkv.weight.copy_(torch.cat([k, q, v]))


# %% [markdown] tags=["predict"]
# **Predict before you run.** Which faults move a logit of `ours` by more than 0.00001, the limit above?
#
# - a: none
# - b: only the swap
# - c: all three

# %% tags=["nbval-ignore-output"]
faults = {"other eps": [], "other GELU": [], "q and k swapped": []}
for fault, found in faults.items():
    wrong, wrong_model = copy.deepcopy(ours), copy.deepcopy(model)
    for part in (*wrong.modules(), *wrong_model.modules()):
        plant(part, fault)
    found += [(wrong(photos) - theirs(photos)).abs().max(), answer(wrong_model(images))]
    print(f"{fault:16} largest difference {found[0]:.4f}; the cat: {found[1]}")

# %%
assert all(difference > 1e-5 for difference, _ in faults.values())  # 0.0002 and more with 12 seeds
assert faults["other eps"][1] == faults["other GELU"][1] == answer(model(images)) != faults["q and k swapped"][1]

# %% [markdown]
# c. The first two are treacherous: with either, the trained model says {=faults["other eps"][1]:s}, as it did before.
# Its answer does not betray them, a comparison of logits does. And with the swap it says
# {=faults["q and k swapped"][1]:s}, true again, and again by accident.
#
# What did `from_torchvision` do? Only rename: no matrix is turned, cut or joined. *Going further* shows it, and lets
# you write it.

# %% [markdown]
# ### A ViT of your own
# Some of your answers are parts of a ViT: the cut of 01, the attention of 03, norm and block of 04, `embed_tokens` and
# `read_out` of this notebook. Those that you kept with `check.keep(...)` stand in `my_vit.py`, beside the notebooks.
# `check.my_vit` puts them in the places of the package's, and says which come from the package because yours are
# missing. (`training_step` waits for notebook 06.)

# %% tags=["nbval-ignore-output"]
own = check.my_vit(ours.config).eval()
assert own.state_dict().keys() == ours.state_dict().keys()

# %% [markdown]
# Is it a Vision Transformer? Give it random weights of the reference, then torchvision's, and ask for the same logits:

# %%
reference = VisionTransformer(ours.config).eval()
for name, model_with_weights, other in (("reference", reference, reference), ("torchvision", ours, theirs)):
    own.load_state_dict(model_with_weights.state_dict())
    assert (own(photos) - other(photos)).abs().max() <= 1e-5 < other(photos).abs().max()
    print(f"the same logits as the {name} model")

# %% [markdown]
# Nothing is kept yet? Then you saw the package against itself. Go back to a part that you would like to have written,
# let it pass, keep it, and come back to these two cells: what they need stays as it is to the end of the notebook.

# %% [markdown]
# ### Weights that know ImageNet
# With a network, these lines load what torchvision trained on ImageNet ({=record["_file_size"]:.0f} MB; by its record
# right on {=record["_metrics"]["ImageNet-1K"]["acc@1"]:.0f} % of ImageNet's photographs):
#
# ```python
# record = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
# model = weights.from_torchvision(torchvision.models.vit_b_16(weights=record)).eval()
# photo = datasets.sample_image("cat", 224)[None]   # (1, 3, 224, 224)
# logits = model(normalise(photo, model.config))   # (1, 1000)
# print(record.meta["categories"][logits.argmax()])
# ```
#
# *timm* has many more. Its names are ours, so nothing needs renaming:
#
# ```python
# import timm  # pip install timm
# model = weights.from_timm(timm.create_model("vit_small_patch16_224", pretrained=True)).eval()
# ```
#
# Both keep the library's normalisation in `model.config`: torchvision's weights expect ImageNet's mean and spread,
# some of timm's 0.5 and 0.5. The wrong one raises no error.

# %% [markdown]
# ## Exercises
# Exercises 5.1 to 5.7 stand above, where their ideas are. Exercise 5.9 is part of *Going further*.
#
# ### Exercise 5.8 · A checkpoint without a name
# *experiment · medium · 4 minutes*
#
# You find the weights of a ViT on a disk, and nobody knows of which. Some of the shapes:
#
# | name | shape |
# |---|---|
# | `cls_token` | (1, 1, 384) |
# | `pos_embed` | (1, 257, 384) |
# | `patch_embed.proj.weight` | (384, 3, 14, 14) |
# | `blocks.11.mlp.fc2.weight` (the last block) | (384, 1536) |
# | `head.weight` | (10, 384) |
#
# It was trained on square images. What was their side, in pixels? And which number of its `ViTConfig` do the shapes
# *not* tell? (The check says so once the side is right.)
#
# <details><summary>Hint</summary>
#
# How many of the 257 rows belong to patches? How many rows and columns of patches is that, and how many pixels does
# each patch have on a side?
#
# </details>

# %% tags=["exercise"]
side_in_pixels = ...

# %%
check.image_side(side_in_pixels)

# %% [markdown]
# ## Going further
# What follows can be left out without loss: where each weight of torchvision's model goes, ViT-B/16 in its real size,
# and a picture of the cost that you can move.
#
# ### Which weight is which?
# Look for each of their weights in our model *by value*. All values are random, so a match is no accident:

# %%
our_state, our_name = ours.state_dict(), {}
for name, value in theirs.state_dict().items():
    (our_name[name],) = [key for key, w in our_state.items() if w.shape == value.shape and torch.equal(w, value)]
    if "encoder_layer_" not in name or "encoder_layer_0." in name:
        print(f"{name:62}{our_name[name]}")

# %% [markdown]
# One to one, as they are. Both libraries stack queries, keys and values in one matrix in the same order
# (`in_proj_weight` = `qkv.weight`). Two traps are in the names: in torchvision `encoder.ln` is the final norm, and
# `mlp.0` and `mlp.3` are the linear layers, because numbers 1, 2 and 4 are GELU and dropout.

# %% [markdown]
# ### Exercise 5.9 · Load the weights yourself
# *stretch · hard · 15 minutes*
#
# Write the function that makes our names from torchvision's, such as `blocks.11.attn.qkv.weight` from
# `encoder.layers.encoder_layer_11.self_attention.in_proj_weight`, for a model of any depth. With it,
# `from_torchvision` is one line:
# `ours.load_state_dict({rename(name): value for name, value in theirs.state_dict().items()})`.
#
# <details><summary>Hint</summary>
#
# A chain of `name.replace(old, new)` is enough. Order matters: replace `encoder.layers.encoder_layer_` and
# `encoder.pos_embedding` before anything that would also match a part of them. The list of names is printed above.
#
# </details>


# %% tags=["exercise"]
def rename(name):
    return ...


# %%
check.rename_weights(rename)

# %% [markdown]
# ### The real size
# Now ViT-B/16. The weights are random here, because this course runs without a network. For the test that makes no
# difference: 86,567,656 numbers must be in the right place.
#
# Two such models need 700 MB. To spare a small machine, let both use the *same* numbers. Your `base` is hollow at the
# moment: on the device `"meta"`, a tensor has a shape and no content.

# %%
base.pos_embed

# %% [markdown]
# Put their tensors into it, each under the name that the table gives it. `assign=True` takes the tensor itself, not a
# copy:

# %%
large = torchvision.models.vit_b_16(weights=None).eval()
nn.init.normal_(large.heads.head.weight, std=0.02)  # not zero
base.load_state_dict({our_name[name]: value for name, value in large.state_dict().items()}, assign=True)

# %% tags=["nbval-ignore-output"]
pixels = normalise(datasets.sample_image("cat", 224)[None], base.config)
a, b = base(pixels), large(pixels)  # each (1, 1000)
assert (a - b).abs().max() <= 1e-5 < a.abs().max()
print(f"{tuple(a.shape)}: largest logit {a.abs().max():.1f}, largest difference {(a - b).abs().max():.4f}")

# %%
del large, base  # the memory is free again

# %% [markdown]
# The class of this notebook is ViT-B/16, weight for weight.

# %% [markdown]
# ### Try it yourself


# %%
def vit(embed_width, depth, patch_size):
    return ViTConfig(embed_dim=embed_width, depth=depth, patch_size=patch_size, num_heads=embed_width // 64)


def draw(embed_width, depth, patch_size):
    fig, totals = draw_cost(vit(embed_width, depth, patch_size))
    return fig, f"{totals}, as stacked bars by part."


widgets.interactive_figure(
    draw, embed_width=range(192, 1345, 64), depth=[4, 6, 8, 12, 16, 24, 32], patch_size=[7, 8, 14, 16, 28, 32]
)

# %% [markdown]
# It starts as ViT-B/16. Try, and then read on:
# - patch size from 14 to 7: what happens to the cost, the weights, the share of the token pairs?
# - width 192 (ViT-Ti): which parts, invisible before, take a visible share?
# - twice the depth, or width 1344 in place of 768: which one costs more?

# %% [markdown]
# The smaller patches cost
# {=sum(mac_parts(vit(768, 12, 7)).values()) / sum(mac_parts(vit(768, 12, 14)).values()):.1f} times as much, with nearly
# the same weights, and the share of the token pairs rises from
# {=100 * mac_parts(vit(768, 12, 14))["token pairs"] / sum(mac_parts(vit(768, 12, 14)).values()):.0f} % to
# {=100 * mac_parts(vit(768, 12, 7))["token pairs"] / sum(mac_parts(vit(768, 12, 7)).values()):.0f} %. In ViT-Ti the
# parts that grow with D, not D², come to the fore: the head with
# {=100 * weight_parts(vit(192, 12, 16))["head"] / sum(weight_parts(vit(192, 12, 16)).values()):.0f} % of the weights
# (in ViT-B {=100 * head / by_code:.0f} %), and the token pairs with
# {=100 * mac_parts(vit(192, 12, 16))["token pairs"] / sum(mac_parts(vit(192, 12, 16)).values()):.0f} % of the cost.
# Width 1344 is 1.75 times 768 and costs
# {=sum(mac_parts(vit(1344, 12, 16)).values()) / macs:.1f} times as much, twice the depth
# {=sum(mac_parts(vit(768, 24, 16)).values()) / macs:.1f} times.

# %% [markdown]
# ## Summary
# - image → patches → tokens → class token in row 0 → + positions → L blocks → norm → head on row 0 → logits
# - A block has 12 D² + 13 D weights, two thirds of them in the MLP. ViT-B/16 has 86,567,656.
# - One image costs about weights × tokens multiply-adds, plus the token pairs, 2 N² D per block:
#   {=macs / 1e9:.1f} billion for ViT-B/16. One multiply-add is two FLOPs.
# - Same weights, same logits: ours and torchvision's differ by less than 1e-5. Test with a head that is not zero.
# - Wrong token, missing norm, other `eps`: silent, and a lucky picture hides them. Compare numbers, not shapes, and not
#   the winner.

# %% [markdown]
# ## What comes next
# The weights of this notebook came from somewhere. In [06 Training](06_training.ipynb) you make your own: data, loss,
# optimiser, schedule and the loop, until an untrained ViT, to which all classes look alike, has learned to see. What
# has been added to this model since 2021 is in [13 The modern ViT](13_the_modern_vit.ipynb).

# %% [markdown]
# ## References
# - Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): the model, eq. 1 to 4;
#   class token against mean in appendix D.3; position interpolation in 3.2.
# - Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762): the encoder block.
# - Touvron et al. 2021, [Training data-efficient image transformers](https://arxiv.org/abs/2012.12877): Ti and S.
# - Beyer et al. 2022, [Better plain ViT baselines for ImageNet-1k](https://arxiv.org/abs/2205.01580): mean pooling,
#   sinusoidal positions, trained in a day.
# - Wightman, [PyTorch Image Models (timm)](https://github.com/huggingface/pytorch-image-models): the names.

# %% [markdown]
# ## Solutions
# ### Solution 5.1
# Class token first, then all 1 + N positions at once: row 0 of `pos_embed` is the class token's own.


# %% tags=["solution"]
def embed_solution(x, cls_token, pos_embed):
    cls = cls_token.expand(len(x), -1, -1)  # (B, 1, D)
    return torch.cat([cls, x], dim=1) + pos_embed  # (B, 1 + N, D)


assert check.embed_tokens(embed_solution).passed

# %% [markdown]
# ### Solution 5.2
# The final norm was missing, and `[:, -1]` is the patch in the lower right corner. The class token is row 0.


# %% tags=["solution"]
def read_out_solution(model, tokens):
    features = model.norm(tokens)[:, 0]  # (B, D)
    return model.head(features)  # (B, num_classes)


assert check.read_out(read_out_solution).passed

# %% [markdown]
# ### Solution 5.3
# In `"a"` 1 + N tokens meet N positions. In `"b"` and `"c"` every shape stays as it was.

# %% tags=["solution"]
assert check.loud_slip("a").passed

# %% [markdown]
# ### Solution 5.4
# A block has 8 D² weights in the MLP's matrices and 4 D² in attention's.

# %% tags=["solution"]
assert check.where_weights_live("c").passed

# %% [markdown]
# ### Solution 5.5
# Four linear layers with their biases, and two norms with a scale and a shift. `qkv` has 3 D outputs, so 3 D biases.


# %% tags=["solution"]
def block_weights_solution(D, hidden):
    def linear(n, m):
        return n * m + m

    norms = 2 * 2 * D
    return norms + linear(D, 3 * D) + linear(D, D) + linear(D, hidden) + linear(hidden, D)


assert check.count_block(block_weights_solution).passed

# %% [markdown]
# ### Solution 5.6
# The linear layers: 3 + 1 + 4 + 4 = 12 times N D². The two products between tokens: N² D each, whatever the heads.


# %% tags=["solution"]
def block_macs_solution(N, D):
    return 12 * N * D * D + 2 * N * N * D


assert check.count_macs(block_macs_solution).passed

# %% [markdown]
# ### Solution 5.7
# Four times the patches: the linear layers cost 4 times as much, the token pairs 16 times. They were
# {=100 * mac_parts(ViTConfig())["token pairs"] / macs:.0f} % before, so the sum grows a little more than 4-fold.

# %% tags=["solution"]
small, big = (sum(mac_parts(ViTConfig(patch_size=P)).values()) for P in (8, 16))
assert check.smaller_patches(small / big).passed

# %% [markdown]
# ### Solution 5.8
# 257 rows are one class token and 256 patches, 16 rows of 16, each 14 pixels wide. The other shapes tell width 384,
# depth 12, an MLP four times as wide, and 10 classes. What they do not tell is the number of heads: `qkv` is (3 D, D)
# with any.

# %% tags=["solution"]
rows = int((257 - 1) ** 0.5)
assert check.image_side(rows * 14).passed

# %% [markdown]
# ### Solution 5.9
# Long patterns first. `encoder.ln.` with its dot is the final norm; `ln_1` and `ln_2` belong to the blocks.


# %% tags=["solution"]
def rename_solution(name):
    for old, new in (
        ("conv_proj", "patch_embed.proj"),
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.layers.encoder_layer_", "blocks."),
        ("encoder.ln.", "norm."),
        ("ln_", "norm"),
        ("self_attention.in_proj_", "attn.qkv."),
        ("self_attention.out_proj", "attn.proj"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
        ("heads.head", "head"),
    ):
        name = name.replace(old, new)
    return name


assert check.rename_weights(rename_solution).passed
