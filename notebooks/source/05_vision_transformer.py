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
# About {minutes} minutes to read and do; 10 s of computing on two CPU cores.
# Read [04 Encoder block](04_encoder_block.ipynb) first.

# %%
import torch
from torch import nn

from vit_tutorial import ViTConfig, check, course, datasets, drawings, normalise, plots, training, weights
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.widgets import AttentionExplorer, EncoderStepper, interactive_figure

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_grad_enabled(False)  # nothing is trained in this notebook
course.show_map(5)

# %% [markdown]
# ## One photograph, from pixels to an answer

# %%
model = weights.load(CHECKPOINT)  # a small ViT that this course trained on CIFAR-10
cat = datasets.sample_image("cat", 32)  # (3, 32, 32), uint8
EncoderStepper(model, cat)

# %% [markdown]
# Every number in here is real: a trained model computes it for this cat. Press **Next** or the → key, again and again:
# 58 steps from pixels to an answer, each with its code, its shape and its numbers.
#
# - **To step 6**: patches, tokens, class token, positions. Point at the cat's nose: which row is it?
# - **Block 1**: the line at the top forks twice. A branch reads a copy of the tokens, and its result is added back. At
#   *+ MLP*, see which tokens move, and how far.
# - **Part**, block 4: the same sums. How far do they move now?
# - **The end**: only the class token is read.

# %% [markdown]
# Block 1 rewrites the tokens: its MLP moves a patch's token by 1.3 times its length on average. The same step of
# block 4 moves it by 0.2: blocks in the middle touch up what is there.
#
# And the answer? The model learned from CIFAR-10, 50,000 small photographs in ten classes, for minutes, not days. Cats
# and dogs are the two classes that it mixes up most: look at how the bars share the answer. Here is the whole walk on
# one page:

# %%
plots.show(
    drawings.vit_pipeline(model, cat),
    "A photograph of a cat on its way through a Vision Transformer: image, patches, class token and patch tokens, "
    "positions added, tokens after four of the blocks with the class token's attention under them, the normalised "
    "class token, and a bar for each class. The tokens keep their shape from the embedding to the last block.",
)

# %% [markdown]
# - Upper row: cut, multiply by one matrix (01), put a **class token** on top and add positions (02).
# - Lower row: **encoder blocks**, one after the other (03 and 04). All keep the shape of the token matrix.
# - Right: the class token alone is normalised and multiplied by one last matrix, the **head**. Its outputs are the
#   **logits**, one number for each class.
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

# %% [markdown]
# Now the blocks. **Predict before you run:** which shapes will be printed?

# %%
for number, block in enumerate(model.blocks, start=1):
    before, x = x, block(x)  # (1, 1 + N, D)
    moved = (x - before).norm(dim=-1) / before.norm(dim=-1)  # (1, 1 + N): how far, in lengths of the token
    print(f"after block {number}: {tuple(x.shape)}, tokens moved by {moved.mean():.1f} times their length")

# %% [markdown]
# The shape stays. That is why blocks can be stacked: each one reads and writes the same kind of matrix. The numbers do
# not stay: every block adds to what is there (the residual connection of 04). The first adds many times what it found,
# the others a part.
#
# After the last block, a final LayerNorm brings every token back to one scale. Then the head reads row 0:

# %%
x = model.norm(x)  # (1, 1 + N, D)
logits = model.head(x[:, 0])  # (1, num_classes)
probabilities = logits.softmax(dim=-1)[0]  # (num_classes,): positive, sum to 1
for name, share in zip(model.config.classes, probabilities, strict=True):
    print(f"{name:12}{100 * share:6.1f} %")

# %% [markdown]
# Does the model itself say the same? If your walk left out anything, it cannot:

# %%
assert torch.allclose(logits, model(images), atol=1e-5)
print("By hand and model(images): the same logits.")

# %% [markdown]
# **Remember.** A ViT is a patch embedding, one added row, one added matrix, L equal blocks, one norm and one head.
# From the embedding to the norm the shape is `(B, 1 + N, D)`.

# %% [markdown]
# ## Which token should the head read?

# %%
tokens = torch.tensor(
    [
        [3.0, 1.0],  # class token
        [0.0, 2.0],  # patch 1
        [1.0, 4.0],
    ]
)  # patch 2
head = torch.tensor(
    [
        [1.0, 0.0],  # logit of "cat": the first number
        [0.0, 1.0],
    ]
)  # logit of "dog": the second number
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
# Trained with care, both reach about the same accuracy. But a model must be read in the way it was trained.


# %%
def answer(logits, classes=model.config.classes):
    """The most likely class of one image's logits `(1, num_classes)`, and its probability."""
    share, index = logits.softmax(dim=-1)[0].max(dim=0)
    return f"{classes[index]} ({100 * share:.0f} %)"


print("read the class token:     ", answer(model.head(x[:, 0])))
print("read the mean of patches: ", answer(model.head(x[:, 1:].mean(dim=1))))
print("read the last patch:      ", answer(model.head(x[:, -1])))

# %% [markdown]
# No error appears: all three are rows of D numbers, and the head takes them all. Nobody trained the head for the last
# two, so their answers mean little, even when they happen to be right. Reading the wrong token is the kind of bug that
# only a test finds.

# %% [markdown]
# ## The class
# Two things are missing before you can write it down: what the model's numbers are, and how the weights start.
# `ViTConfig` holds every number that decides the model's shape. Its defaults are ViT-B/16: "B" for base, 16 for the
# patch size.

# %%
config = ViTConfig()
for name in ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "pool"):
    print(f"{name:12}{getattr(config, name)}")
print(f"{'grid':12}{config.grid}: rows and columns of patches")

# %% [markdown]
# It checks the numbers against each other at once, not 40 lines further down in a matrix product:

# %%
try:
    ViTConfig(image_size=225)
except ValueError as error:
    print(error)

# %% [markdown]
# Weights start as small random numbers: a normal distribution with standard deviation 0.02, its far ends cut off. So
# each branch adds little to the residual stream at first, and the logits start near 0. Biases start at 0. (LayerNorm
# starts at scale 1 and shift 0; the convolution of the patch embedding keeps PyTorch's own start.)


# %% tags=["package"]
def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


# %% [markdown]
# Positions come in the three kinds of notebook 02: learned, sinusoidal, none. With a class token there is one row more,
# at the top.

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


# %%
for pool in ("cls", "mean"):
    print(f"pool={pool!r}: positions {tuple(position_embedding(ViTConfig(pool=pool)).shape)}")

# %% [markdown]
# Now the whole model, the walk that you did by hand above. `attention_maps` is the same walk, and keeps each block's
# attention weights. `vit_tutorial` holds the same code.


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
# Is it right? Give the class of this notebook the trained weights, and compare:

# %%
mine = VisionTransformer(model.config).eval()  # eval: dropout off
untrained = mine(images).softmax(dim=-1)  # (1, num_classes)
mine.load_state_dict(model.state_dict())
assert torch.equal(mine(images), model(images))
print(f"before the weights are loaded: every class between {untrained.min():.2f} and {untrained.max():.2f}")
print(f"after: {answer(mine(images))}")

# %% [markdown]
# An untrained model knows nothing, and says so: its head starts small, the logits are near 0, and no class stands out.
#
# The attention weights come out with one axis for each choice you have: which block, which image, which head.

# %%
maps = mine.attention_maps(images)  # (L, B, H, N, N); here N counts the class token too
assert torch.allclose(maps.sum(dim=-1), torch.ones(maps.shape[:-1]), atol=1e-5)  # each row sums to 1
print("(L, B, H, N, N) =", tuple(maps.shape))

# %% [markdown]
# ## Where do 86.6 million weights live?
# ViT-B/16 is the model that most papers start from: 224 × 224 pixels, patches of 16, D = 768, L = 12 blocks, 1000
# classes. Before you count, guess.
#
# ### Exercise 5.2 · Guess first
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
# By chance a patch of 3 · 16 · 16 pixels also has 768 numbers. Do not mix the two up: change P, and only one changes.
#
# ### Exercise 5.3 · Count a block
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
# Twelve blocks, and the final LayerNorm before the head:

# %%
by_hand = patch_embedding + cls_and_positions + L * block_total + 2 * D + head
print(f"ViT-B/16 by hand: {by_hand:,} weights")
assert by_hand == 86_567_656

# %% [markdown]
# And by code: make the model, and add up the sizes of all its parameters.

# %%
base = VisionTransformer(ViTConfig()).eval()  # 346 MB: 4 bytes for each weight
by_code = sum(parameter.numel() for parameter in base.parameters())
print(f"ViT-B/16 by code: {by_code:,} weights")
assert by_code == by_hand

# %% [markdown]
# Torchvision keeps a record of its models. A third witness, which neither of us wrote:

# %%
import torchvision

record = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta  # a description; nothing is downloaded
assert record["num_params"] == by_hand
print(f"ViT-B/16 in torchvision: {record['num_params']:,} weights")

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

# %%
PART_COLOURS = {
    "patch embedding": "#E69F00",
    "class token, positions": "#999999",
    "attention": "#0072B2",
    "token pairs": "#56B4E9",
    "MLP": "#009E73",
    "norms": "#CCCCCC",
    "head": "#CC79A7",
}


def draw_bar(ax, parts, y=0, unit=1e6):
    """One stacked bar, a colour for each part; wide parts carry their share."""
    left, total = 0, sum(parts.values())
    for name, count in parts.items():
        ax.barh(y, count / unit, 0.75, left / unit, color=PART_COLOURS[name], label=name)
        if count > 0.05 * total:
            text = f"{name}\n{100 * count / total:.0f} %"
            ax.text((left + count / 2) / unit, y, text, ha="center", va="center", color="white", fontsize=9)
        left += count


# %%
fig, ax = plots.figure(9, 1.7)
draw_bar(ax, weight_parts(ViTConfig()))
ax.set(xlabel="million weights", yticks=[], xlim=(0, 87))
ax.spines["left"].set_visible(False)
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8, frameon=False)
plots.show(
    fig,
    "A stacked bar of ViT-B/16's weights by part: MLPs 65 per cent, attention 33 per cent, and thin slices "
    "for patch embedding, positions and head. Nearly all weights are in the blocks.",
)

# %% [markdown]
# Two thirds of a Vision Transformer are MLP: two matrices of D × 4 D, against four of D × D for attention. All that
# knows about pixels, the patch embedding, is a slice of 0.7 %. The blocks would fit a language model as well.

# %% [markdown]
# ### The names of the weights
# `state_dict()` lists every weight under a name. Ours are the names of the library *timm*, which most published code
# and papers use. Here is all of ViT-B/16, with one block of the twelve:

# %%
for name, value in base.state_dict().items():
    if not name.startswith("blocks") or name.startswith("blocks.0."):
        print(f"{name:28}{tuple(value.shape)!s:20}{value.numel():>12,}")

# %% [markdown]
# Read it once from top to bottom. `attn.qkv` stacks three matrices: rows 0 to D - 1 make queries, the next D keys, the
# last D values. `patch_embed.proj` has the shape of a convolution, `(D, 3, P, P)`, which notebook 01 proved to be the
# same as a linear layer on flat patches. Each name leads to the attribute: `base.blocks[0].attn.qkv.weight`.

# %% [markdown]
# ## What does one photograph cost?

# %%
fig, (left, middle, right) = plots.figure(7, 1.8, 1, 3, width_ratios=[3, 4, 4])
a, b = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 0, 2, 1], [0, 1, 1, 1], [1, 1, 0, 1]])
for ax, matrix, title in ((left, a, "(2, 3)"), (middle, b, "@ (3, 4)"), (right, a @ b, "= (2, 4)")):
    plots.draw_matrix(ax, matrix, title, decimals=0, vmin=0, vmax=15)
plots.show(fig, "A 2 by 3 matrix times a 3 by 4 matrix is a 2 by 4 matrix; each of its 8 numbers sums 3 products.")

# %% [markdown]
# Each of the 2 · 4 numbers on the right is a sum of 3 products: 2 · 3 · 4 = 24 times "multiply, then add". Such a pair
# is one **multiply-add** (MAC). Counted apart, a multiplication and an addition are two floating-point operations
# (FLOPs), so **1 multiply-add = 2 FLOPs**.
#
# Many papers write "FLOPs" and mean multiply-adds. Always find out which. PyTorch's counter means what it says:

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
# ### Exercise 5.4 · Count the multiply-adds of a block
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
# The six products, for ViT-B/16 with its 196 patches and the class token:

# %%
T, D = 197, 768
products = {
    "qkv": T * D * 3 * D,
    "queries · keys": T * T * D,
    "weights · values": T * T * D,
    "proj": T * D * D,
    "fc1": T * D * 4 * D,
    "fc2": T * 4 * D * D,
}
for name, macs in products.items():
    print(f"{name:18}{macs / 1e6:8.1f} million")
print(f"{'one block':18}{sum(products.values()) / 1e6:8.1f} million multiply-adds")

# %% [markdown]
# For any model, part by part. The two products between tokens are kept apart under the name *token pairs*, because they
# alone grow with the square of the number of tokens. LayerNorm, softmax, GELU and additions are left out: together
# they are below 1 %.


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


by_hand = sum(mac_parts(ViTConfig()).values())
print(f"{by_hand / 1e9:.3f} billion multiply-adds for one image")

# %% [markdown]
# Measured, by running the model while PyTorch counts:

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel

# MATH: attention as two plain products, which every version of PyTorch counts.
with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
    base(torch.zeros(1, 3, 224, 224))  # (1, num_classes)
measured = counter.get_total_flops()
assert measured == 2 * by_hand
print(f"measured: {measured / 1e9:.3f} billion FLOPs = 2 x {by_hand / 1e9:.3f} billion multiply-adds")

# %% [markdown]
# They agree to the last multiply-add. Torchvision writes "GFLOPS" in its table, and means multiply-adds:

# %%
assert abs(record["_ops"] - by_hand / 1e9) < 1e-3
print(f"torchvision's table: {record['_ops']}")

# %%
base = base.to("meta")  # keeps every shape, drops the numbers: 346 MB are free again
fig, (upper, lower) = plots.figure(9, 2.8, 2, 1)
for ax, parts, unit, name in ((upper, weight_parts, 1e6, "million weights"), (lower, mac_parts, 1e9, "billion MACs")):
    draw_bar(ax, parts(ViTConfig()), unit=unit)
    ax.set(yticks=[], xlabel=name, xlim=(0, sum(parts(ViTConfig()).values()) / unit))
    ax.spines["left"].set_visible(False)
fig.legend(*lower.get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8, frameon=False)
plots.show(
    fig,
    "Two stacked bars for ViT-B/16, weights above and multiply-adds below: nearly the same shares. The "
    "only part of the cost without weights is token pairs, 4 per cent.",
)

# %% [markdown]
# The bars look alike, and for a reason: each weight of a block is used once for each token, so cost ≈ weights × tokens.
# What breaks the rule are the token pairs. They have no weights at all. At 224 pixels, with 197 tokens, they are 4 % of
# the work. The famous "attention is quadratic" does not hurt yet.

# %% [markdown]
# ## From tiny to large
# The family differs in width, depth and heads alone. A head is 64 wide in all of them.

# %%
FAMILY = {"ViT-Ti/16": (192, 12), "ViT-S/16": (384, 12), "ViT-B/16": (768, 12), "ViT-L/16": (1024, 24)}  # D, L
configs = {name: ViTConfig(embed_dim=D, depth=L, num_heads=D // 64) for name, (D, L) in FAMILY.items()}
print("model          D   L   H      weights   GMACs")
for name, c in configs.items():
    count, macs = sum(weight_parts(c).values()), sum(mac_parts(c).values())
    print(f"{name:11}{c.embed_dim:5}{c.depth:4}{c.num_heads:4}{count:13,}{macs / 1e9:8.2f}")

# %% [markdown]
# Twice the width is four times the weights: S against Ti, B against S. Does the sum hold for models that are really
# made? Two of them are small enough to try, and torchvision's record knows the large one:

# %%
for c in (configs["ViT-Ti/16"], configs["ViT-S/16"]):
    by_code = sum(parameter.numel() for parameter in VisionTransformer(c).parameters())
    assert by_code == sum(weight_parts(c).values())
large = torchvision.models.ViT_L_16_Weights.IMAGENET1K_V1.meta
assert large["num_params"] == sum(weight_parts(configs["ViT-L/16"]).values())
print("Ti and S as made, L as torchvision records it: all as counted.")

# %% [markdown]
# ### What the image and the patch size do

# %%
fig, (left, right) = plots.figure(7.4, 2.6, 1, 2)
sizes = [32 * k for k in range(2, 33)]  # 64 to 1024 pixels
for P in (8, 16, 32):
    parts = [mac_parts(ViTConfig(image_size=size, patch_size=P)) for size in sizes]
    left.loglog(sizes, [sum(p.values()) / 1e9 for p in parts], label=f"patch {P}")
    right.semilogx(sizes, [100 * p["token pairs"] / sum(p.values()) for p in parts])
left.plot(224, 17.56, "o", color="black")
left.annotate("ViT-B/16", (224, 17.56), (330, 0.7), arrowprops={"arrowstyle": "-", "color": "#777777"})
left.set(title="billion multiply-adds", xlabel="image side in pixels")
right.set(title="share of the token pairs (%)", xlabel="image side in pixels", ylim=(0, 100))
for ax in (left, right):
    ax.set_xticks([64, 128, 224, 512, 1024], ["64", "128", "224", "512", "1024"], fontsize=8)
    ax.minorticks_off()
left.legend(frameon=False)
plots.show(
    fig,
    "ViT-B's cost against the image side for patches of 8, 16 and 32 pixels. Left: the cost rises ever "
    "more steeply. Right: the share of token pairs rises from a few per cent to 78 for patches of 8 at 1024.",
)

# %% [markdown]
# Twice the image side, or half the patch side, is four times the patches: about four times the cost, and more once the
# token pairs count. On the right you see when they do: with patches of 8 on 1024 pixels, most of the work is tokens
# looking at tokens.
#
# Where do both halves of the cost meet? 12 N D² = 2 N² D gives N = 6 D: 4608 tokens for ViT-B. The weights hardly
# care: only the positions and the patch embedding know the sizes.

# %% [markdown]
# ### Try it yourself


# %%
def draw_cost(embed_width, depth, patch_size):
    c = ViTConfig(embed_dim=embed_width, depth=depth, patch_size=patch_size, num_heads=embed_width // 64)
    fig, axes = plots.figure(9, 2.9, 2, 1)
    totals = []
    for ax, parts, unit, name in zip(
        axes, (weight_parts, mac_parts), (1e6, 1e9), ("million weights", "billion MACs"), strict=True
    ):
        reference, total = (sum(parts(config).values()) / unit for config in (ViTConfig(), c))
        totals.append(f"{total:,.1f} {name}")
        draw_bar(ax, parts(c), unit=unit)
        ax.axvline(reference, color="black", linestyle="--", linewidth=1)
        ax.set(yticks=[], title=totals[-1], xlim=(0, 1.05 * max(reference, total)))
        ax.spines["left"].set_visible(False)
    return fig, f"{' and '.join(totals)}, as stacked bars by part; a dashed line marks ViT-B/16."


interactive_figure(draw_cost, embed_width=range(64, 1345, 64), depth=range(2, 33, 2), patch_size=[7, 8, 14, 16, 28, 32])

# %% [markdown]
# The dashed line is ViT-B/16. Try:
# - patch size from 14 to 7: the cost jumps, the weights stay. How does the share of token pairs change?
# - width 192 and depth 12 (ViT-Ti): which parts, invisible before, take a visible share?
# - twice the depth, or 1.4 times the width: which one costs more?

# %% [markdown]
# **Remember.** A block has about 12 D² weights and costs 12 N D² + 2 N² D multiply-adds. Twice the width is
# about four times the weights and the cost, twice the depth is twice; half the patch side is a little over four times
# the cost, at the same weights.

# %% [markdown]
# ## The same logits as another library
# You have written a Vision Transformer. Is it *the* Vision Transformer, to the last detail? Here is a strict test: take
# the model of another library, copy its weights into yours, and compare the logits.
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
# Is the test sharp enough? Plant three faults that raise no error, and see whether it notices. `eps` is the small
# number that LayerNorm adds to the variance; GELU has an approximate form that other models use.

# %%
import copy

from vit_tutorial import MultiHeadAttention


def plant(part, fault):
    if fault == "other eps" and isinstance(part, nn.LayerNorm):
        part.eps = 1e-5  # PyTorch's default; ViTs use 1e-6
    if fault == "other GELU" and isinstance(part, nn.GELU):
        part.approximate = "tanh"
    if fault == "q and k swapped" and isinstance(part, MultiHeadAttention):
        q, k, v = part.qkv.weight.clone().chunk(3)  # each (D, D)
        part.qkv.weight.copy_(torch.cat([k, q, v]))


# %% tags=["nbval-ignore-output"]
for fault in ("other eps", "other GELU", "q and k swapped"):
    wrong = copy.deepcopy(ours)
    for part in wrong.modules():
        plant(part, fault)
    difference = (wrong(photos) - theirs(photos)).abs().max()
    assert difference > 1e-5
    print(f"{fault:16} largest difference {difference:.4f}")

# %% [markdown]
# All three are found, at a limit of 0.00001. The first two are the kind that costs a little accuracy and a week of
# searching: the model with another `eps` runs, trains, and looks fine.
#
# What did `from_torchvision` do? Only rename. To see it, look for each of their weights in our model *by value*. All
# values are random, so a match is no accident:

# %%
our_state, our_name = ours.state_dict(), {}
for name, value in theirs.state_dict().items():
    (our_name[name],) = [own for own, w in our_state.items() if w.shape == value.shape and torch.equal(w, value)]
    if "encoder_layer_" not in name or "encoder_layer_0." in name:
        print(f"{name:62}{our_name[name]}")

# %% [markdown]
# One to one, no matrix was turned, cut or joined. Both libraries stack queries, keys and values in one matrix in the
# same order (`in_proj_weight` = `qkv.weight`). Two traps are in the names: in torchvision `encoder.ln` is the final
# norm, and `mlp.0` and `mlp.3` are the linear layers, because numbers 1, 2 and 4 are GELU and dropout.

# %% [markdown]
# ### A ViT of your own
# Some of your answers are parts of a ViT: the cut of 01, the attention of 03, norm and block of 04, `embed_tokens` of
# this notebook. Those that you kept with `check.keep(...)` stand in `my_vit.py`, beside the notebooks. `check.my_vit`
# puts them in the places of the package's, and says which are still missing and come from the package:

# %% tags=["nbval-ignore-output"]
mine = check.my_vit(ours.config).eval()
assert mine.state_dict().keys() == ours.state_dict().keys()

# %% [markdown]
# Is it a Vision Transformer? Give it random weights of the reference, then torchvision's, and ask for the same logits:

# %%
reference = VisionTransformer(ours.config).eval()
for name, model_with_weights, other in (("reference", reference, reference), ("torchvision", ours, theirs)):
    mine.load_state_dict(model_with_weights.state_dict())
    assert (mine(photos) - other(photos)).abs().max() <= 1e-5 < other(photos).abs().max()
    print(f"the same logits as the {name} model")

# %% [markdown]
# Nothing is kept yet? Then you saw the package against itself. Go back to a part that you would like to have written
# (1.2, 3.3, 3.5 and 3.6, 4.1, 4.3, 4.4, 5.1, 5.6, or 6.4 to come), let it pass, keep it, and run these cells again.

# %% [markdown]
# ### ViT-B/16
# Now the real size. The weights are random here, because this course runs without a network. For the test that makes
# no difference: 86,567,656 numbers must be in the right place.
#
# Two such models need 700 MB. To spare a small machine, let both use the *same* numbers. Your `base` is hollow at the
# moment: on the device `"meta"`, a tensor has a shape and no content.

# %%
base.pos_embed

# %% [markdown]
# Put their tensors into it, each under the name that the table gives it. `assign=True` takes the tensor itself, not a
# copy:

# %%
theirs = torchvision.models.vit_b_16(weights=None).eval()
nn.init.normal_(theirs.heads.head.weight, std=0.02)  # not zero
base.load_state_dict({our_name[name]: value for name, value in theirs.state_dict().items()}, assign=True)

# %% tags=["nbval-ignore-output"]
photo = datasets.sample_image("cat", 224)[None]  # (1, 3, 224, 224)
pixels = normalise(photo, base.config)
a, b = base(pixels), theirs(pixels)  # each (1, 1000)
assert (a - b).abs().max() <= 1e-5 < a.abs().max()
print(f"{tuple(a.shape)}: largest logit {a.abs().max():.1f}, largest difference {(a - b).abs().max():.4f}")

# %%
del theirs, ours, base, mine  # the memory is free again

# %% [markdown]
# The class that you wrote is ViT-B/16, weight for weight. With a network, these lines load what torchvision trained on
# ImageNet (330 MB; right on 81.1 % of ImageNet's photographs):
#
# ```python
# record = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
# model = weights.from_torchvision(torchvision.models.vit_b_16(weights=record)).eval()
# logits = model(normalise(photo, model.config))   # (1, 1000)
# print(record.meta["categories"][logits.argmax()])
# ```
#
# *timm* has several hundred more. Its names are ours, so nothing needs renaming:
#
# ```python
# import timm  # pip install timm
# model = weights.from_timm(timm.create_model("vit_small_patch16_224", pretrained=True)).eval()
# ```
#
# Both keep the library's normalisation in `model.config`: torchvision's weights expect ImageNet's mean and spread,
# many of timm's 0.5 and 0.5. The wrong one raises no error, and costs accuracy.

# %% [markdown]
# ## The trained model at work
# Back to the small model. Four photographs, at the 32 × 32 pixels that it was trained on:

# %%
names = ["cat", "rocket", "astronaut", "coffee"]
four = torch.stack([datasets.sample_image(name, 32) for name in names])  # (4, 3, 32, 32)
shares = model(normalise(four, model.config)).softmax(dim=-1)  # (4, 10)
fig, axes = plots.figure(8, 2.8, 2, 4, height_ratios=[1.3, 1])
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
from vit_tutorial.files import DATA

run = training.History.load(DATA / "runs" / "cifar10-course-35min.json")
print(f"right on {100 * run.accuracy:.0f} % of the test photographs")

# %% [markdown]
# Be careful with the other three. CIFAR-10 has a class "cat", but none for rockets, astronauts or coffee. Softmax must
# share out 100 % among the ten classes it has: "none of these" is not on the list. A high probability says that one
# class fits better than the other nine, no more.
#
# Where did it look? **Predict first:** in one and the same head, does the class token look at the same places of the
# cat and of the rocket?

# %%
sharp = torch.stack([datasets.sample_image(name, 128) for name in names])  # (4, 3, 128, 128), to look at
AttentionExplorer(model, four, sharp, names, right=1)

# %% [markdown]
# Attention is computed from the image: other patches, other queries and keys, other maps. Compare *head 3* and *head 2*
# on the two pictures, then other layers, other pictures. A weight matrix is learned once and then fixed; an attention
# matrix is made anew for each image.

# %% [markdown]
# ### Another image size
# Give the model more pixels, and it refuses, because there are positions for one grid alone:

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


def answer_at_its_size(image):
    larger = set_image_size(copy.deepcopy(model), tuple(image.shape[1:]))
    logits = larger(normalise(image[None], larger.config))
    return f"{larger.pos_embed.shape[1]} tokens\n{answer(logits)}"


# %%
pictures = [datasets.sample_image("cat", side) for side in (32, 48, 64)]
pictures.append(resize(datasets.sample_image("cat"), (32, 48)))  # the whole photograph, not a square
answers = [f"{tuple(picture.shape[1:])}, {answer_at_its_size(picture)}" for picture in pictures]

# %%
fig, axes = plots.figure(8, 2.1, 1, 4, width_ratios=[1, 1, 1, 1.5])
for ax, picture, title in zip(axes, pictures, answers, strict=True):
    plots.draw_grid(ax, picture, model.config.patch_size)
    ax.set_title(title, fontsize=8.5)
plots.show(
    fig,
    "The cat at 32, 48 and 64 pixels and in a wider picture of 32 by 48, each with its grid of patches: "
    + "; ".join(title.replace("\n", ": ") for title in answers),
)

# %% [markdown]
# It runs, on squares and on wide pictures. Whether it still answers well is another question. At 64 pixels a patch of
# 4 × 4 shows a quarter of what it showed in training: half an eye where there was a whole one. Positions can be
# interpolated, what the model has learned about the size of things cannot. In practice one trains a few epochs more at
# the new size (notebook 09).

# %% [markdown]
# ## Break it on purpose
# Three small slips in the assembly. For each: **predict whether PyTorch raises an error.**
#
# **1. Positions for the patches alone.** You forget that the class token needs one, too.

# %%
patches = model.patch_embed(images)  # (1, N, D)
cls = model.cls_token.expand(len(patches), -1, -1)  # (1, 1, D)
try:
    torch.cat([cls, patches], dim=1) + model.pos_embed[:, 1:]
except RuntimeError as error:
    print(error)

# %% [markdown]
# A good bug: it is loud. "a" has one token more than "b", at dimension 1, which is the token axis.
#
# **2. The class token last**, after the patches, and **3. no final norm.** Here are both, as functions:


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


# %%
results = {"as it should be": model(images), "class token last": cls_last(patches), "no final norm": no_norm(patches)}
fig, axes = plots.figure(9, 2.9, 1, 3, sharey=True)
for ax, (title, logits) in zip(axes, results.items(), strict=True):
    ax.barh(model.config.classes, logits[0], color=plots.COLOURS[0 if title.startswith("as") else 1])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_title(f"{title}: {answer(logits)}", fontsize=9.5)
axes[0].invert_yaxis()
fig.supxlabel("logit", fontsize=9)
plots.show(
    fig,
    "Logits of the cat for the right model, with the class token last, and without the final norm. "
    "All three have ten finite numbers; only the first is the trained model's answer.",
)

# %% [markdown]
# Neither raises an error. With the class token last, the head reads row 0, which is now a patch, and every patch has
# the position of the one before it. Without the norm the head gets numbers of another scale:

# %%
for title, logits in results.items():
    print(f"{title:18} spread of the logits {logits.std():6.1f}   {answer(logits)}")

# %% [markdown]
# Look at the spread, not only at the winner. Logits on another scale make probabilities that are too sure or too timid,
# even where the winner is right. In training such a slip often goes unnoticed: the weights adapt, and the result is
# only a little worse.
#
# Is the place of the class token sacred? **Predict:** put it last, let its position move along, and read the last row.

# %%
positions = torch.cat([model.pos_embed[:, 1:], model.pos_embed[:, :1]], dim=1)  # (1, N + 1, D): moved along
x = torch.cat([patches, cls], dim=1) + positions
moved = model.head(model.norm(run_blocks(x))[:, -1])
assert torch.allclose(moved, model(images), atol=1e-4)
print("The same answer:", answer(moved))

# %% [markdown]
# The blocks do not know about order (notebook 02). Row 0 is a convention. What counts is that embedding, positions and
# head keep the *same* convention, and that you keep the one your weights were trained with.

# %% [markdown]
# ## Exercises
# ### Exercise 5.5 · Smaller patches
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
# ### Exercise 5.6 · Repair the end
# *repair · medium · 5 minutes*
#
# A friend wrote the last steps of the model: from the tokens after the last block, `(B, 1 + N, D)`, to the logits. It
# runs, the shapes are right, and the answers are poor. Find both bugs.


# %%
def broken_read_out(model, tokens):
    features = tokens[:, -1]  # (B, D)
    return model.head(features)  # (B, num_classes)


# %% [markdown]
# <details><summary>Hint</summary>
#
# Compare it line by line with `forward_features` and `forward`. Which row is the class token in, and what happens
# between the last block and the head?
#
# </details>


# %% tags=["exercise"]
def read_out(model, tokens):
    return ...


# %%
check.read_out(read_out)

# %% [markdown]
# ### Exercise 5.7 · Load the weights yourself
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
# ## Summary
# - image → patches → tokens → class token in row 0 → + positions → L blocks → norm → head on row 0 → logits
# - A block has 12 D² + 13 D weights, two thirds of them in the MLP. ViT-B/16 has 86,567,656.
# - One image costs about weights × tokens multiply-adds, plus the token pairs, 2 N² D a block: 17.6 billion for
#   ViT-B/16. One multiply-add is two FLOPs.
# - Same weights, same logits: ours and torchvision's differ by less than 1e-5. Test with a head that is not zero.
# - Wrong token, missing norm, wrong normalisation: silent. Compare numbers, not shapes.

# %% [markdown]
# ## What comes next
# The weights of this notebook came from somewhere. In [06 Training](06_training.ipynb) you make your own: data, loss,
# optimiser, schedule and the loop, until an untrained ViT, to which all classes look alike, has learned to see.

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
# A block has 8 D² weights in the MLP's matrices and 4 D² in attention's.

# %% tags=["solution"]
assert check.where_weights_live("c").passed

# %% [markdown]
# ### Solution 5.3
# Four linear layers with their biases, and two norms with a scale and a shift. `qkv` has 3 D outputs, so 3 D biases.


# %% tags=["solution"]
def block_weights_solution(D, hidden):
    def linear(n, m):
        return n * m + m

    norms = 2 * 2 * D
    return norms + linear(D, 3 * D) + linear(D, D) + linear(D, hidden) + linear(hidden, D)


assert check.count_block(block_weights_solution).passed

# %% [markdown]
# ### Solution 5.4
# The linear layers: 3 + 1 + 4 + 4 = 12 times N D². The two products between tokens: N² D each, whatever the heads.


# %% tags=["solution"]
def block_macs_solution(N, D):
    return 12 * N * D * D + 2 * N * N * D


assert check.count_macs(block_macs_solution).passed

# %% [markdown]
# ### Solution 5.5
# Four times the patches: the linear layers cost 4 times as much, the token pairs 16 times. They were 4 % before, so the
# sum grows a little more than 4-fold.

# %% tags=["solution"]
small, large = (sum(mac_parts(ViTConfig(patch_size=P)).values()) for P in (8, 16))
assert check.smaller_patches(small / large).passed

# %% [markdown]
# ### Solution 5.6
# The final norm was missing, and `[:, -1]` is the patch in the lower right corner. The class token is row 0.


# %% tags=["solution"]
def read_out_solution(model, tokens):
    features = model.norm(tokens)[:, 0]  # (B, D)
    return model.head(features)  # (B, num_classes)


assert check.read_out(read_out_solution).passed

# %% [markdown]
# ### Solution 5.7
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
