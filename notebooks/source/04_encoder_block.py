# %% [markdown]
# # 04 · Encoder block
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - say what each part of an encoder block is for, and show by measurement what happens without it;
# - compute LayerNorm by hand, and say over which axis it works and why it is not BatchNorm;
# - write the forward pass of a pre-norm block, and tell it from post-norm and from two look-alikes;
# - switch dropout and stochastic depth on and off, and show that they leave the mean where it was;
# - count the parameters of a block in your head.
#
# About {minutes} minutes to read and do; 25 s of computing on two CPU cores.
# Read [03 Attention](03_attention.ipynb)
# first.

# %%
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import (
    EncoderBlock,
    MultiHeadAttention,
    PatchEmbedding,
    check,
    course,
    datasets,
    drawings,
    normalise,
    plots,
    widgets,
)

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(4)

# %% [markdown]
# ## Why does a block need so many parts?

# %%
plots.show(
    drawings.encoder_block(),
    "An encoder block as a road map. A straight highway, the residual stream, carries the tokens from left to right. "
    "Two detours leave it and are added back: the first through LayerNorm, multi-head attention and DropPath, titled "
    "tokens exchange; the second through LayerNorm, Linear D to 4D, GELU, Linear 4D to D and DropPath, titled each "
    "token alone. The highway itself passes through no part.",
)

# %% [markdown]
# Read it as a road map. Tokens `(N, D)` drive along a highway, the **residual stream**. Twice a copy of them takes a
# detour, called a **branch**, and what comes out is *added* to the traffic. In the first branch tokens exchange what
# they know: attention, notebook 03. In the second each token is worked on alone. What leaves has the shape of what
# came in, so that blocks can be stacked: twelve of them in ViT-B.
#
# Attention is one box of eight. What are the others for? Engineers' way to find out: take a part away, and measure.

# %% [markdown]
# The next four cells do that. Run them now and look at the picture; you will come back to read them once you know
# the parts. First, tokens to send through: four photographs, 64 patches each. (Double precision, so that the
# rounding error does not hide small numbers.)

# %%
names = ("cat", "astronaut", "coffee", "rocket")
photos = torch.stack([datasets.sample_image(name, 64) for name in names]) / 127.5 - 1  # (B, C, Y, X)
D, H = 64, 4
torch.manual_seed(0)  # the same tokens whenever this cell runs
embed = PatchEmbedding(64, 8, 3, D)
tokens = (embed(photos) + 0.02 * torch.randn(1, 64, D)).detach().double()  # (B, N, D), with positions
tokens.shape


# %%
def run_block(block, x, change="complete"):
    """Tokens (B, N, D) through an encoder block with one part changed."""
    norm1, norm2 = (nn.Identity(), nn.Identity()) if "no norms" in change else (block.norm1, block.norm2)
    if change == "post-norm":
        x = norm1(x + block.attn(x))
        return norm2(x + block.mlp(x))
    stream = 0.0 if "no residuals" in change else 1.0  # 0: the highway is closed
    if change != "no attention":
        x = stream * x + block.attn(norm1(x))
    if change != "no MLP":
        x = stream * x + block.mlp(norm2(x))
    return x


# %% [markdown]
# What is measured, before the first block and after each:
#
# - the **size** of the tokens: the standard deviation of all their numbers;
# - the **difference** between tokens: how much of them is not shared with the mean token of their image. Near 1 all
#   differ, at 0 all are the same;
# - the **gradient** that arrives there from a loss at the end of the stack.
#
# The blocks are untrained. Their weights are doubled, so that a branch is about as loud as the tokens that it reads.


# %%
def stack_of_blocks(depth, scale):
    """Untrained blocks, the same ones at each call, their matrices multiplied by `scale`."""
    torch.manual_seed(0)
    blocks = [EncoderBlock(D, H).double() for _ in range(depth)]
    with torch.no_grad():
        for matrix in (p for block in blocks for p in block.parameters() if p.ndim == 2):
            matrix.mul_(scale)
    return blocks


@cache
def measure(change, depth=24, scale=2.0):
    """Size of the tokens, difference between them and gradient: before the first block and after each."""
    blocks, head = stack_of_blocks(depth, scale), nn.Linear(D, len(photos)).double()
    stream = [tokens.clone().requires_grad_()]
    for block in blocks:
        stream.append(run_block(block, stream[-1], change))
    logits = head(F.layer_norm(stream[-1], (D,)).mean(dim=1))  # which of the four photographs is it?
    gradients = torch.autograd.grad(F.cross_entropy(logits, torch.arange(len(photos))), stream)
    x = torch.stack(stream).detach()  # (depth + 1, B, N, D)
    own = x - x.mean(dim=2, keepdim=True)  # what a token does not share with the others of its image
    difference = own.flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    return x.flatten(1).std(dim=1), difference.clamp_min(1e-15), torch.stack(gradients).flatten(1).norm(dim=1)


# %%
STYLE = {
    "complete": "#000000",
    "no residuals": "#D55E00",
    "no norms": "#0072B2",
    "no attention": "#CC79A7",
    "no MLP": "#009E73",
    "post-norm": "#E69F00",
    "no residuals, no norms": "#56B4E9",
}


def draw_depth(changes, depth=24, scale=2.0):
    fig, axes = plots.figure(9.0, 2.8, 1, 3)
    for change in changes:
        for ax, series in zip(axes, measure(change, depth, scale), strict=True):
            ax.semilogy(series, color=STYLE[change], linewidth=2, label=change)
    titles = ("size of the tokens", "difference between tokens", "gradient that arrives")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(xlabel="after block", xlim=(0, depth))
        ax.tick_params(axis="y", which="minor", labelsize=7)
        ax.set_title(title, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(changes), frameon=False, fontsize=10)
    return fig


# %%
plots.show(
    draw_depth(["complete", "no residuals", "no norms"]),
    "Three log-scale plots over 24 untrained blocks. Size of the tokens: complete grows slowly from 0.3 to 7, no "
    "residuals stays near 1, no norms explodes to 50 million. Difference between tokens: complete stays above 0.1, no "
    "residuals falls to rounding error within 5 blocks, no norms falls to one in 100,000. Gradient: complete and no "
    "residuals stay within a factor of 200, no norms spans nine orders of magnitude.",
)

# %% [markdown]
# Look at the scales first: they count powers of ten.
#
# - **Without norms** (blue) the tokens grow to fifty million, and the gradient that arrives at one block is a billion
#   times that at another. No step size suits both.
# - **Without residuals** (orange) the size looks fine. But after five blocks all 64 tokens of a photograph are *the
#   same vector*. The image is gone, before any training has begun.
# - **Complete** (black), all three stay in a range that one can work with.
#
# So the parts around attention are what makes depth possible. Now one by one.

# %% [markdown]
# ## What does LayerNorm do to a token?

# %%
with torch.no_grad():
    late = tokens
    for block in stack_of_blocks(24, scale=2.0):
        late = block(late)
panels = [(tokens, "into block 1"), (late, "out of block 24")]
panels += [(F.layer_norm(x, (D,)), f"{title}, normed") for x, title in panels]
fig, axes = plots.figure(9.5, 2.7, 1, 4)
for ax, (x, title) in zip(axes, panels, strict=True):
    image = plots.draw_matrix(ax, x[0], title, vmin=-3, vmax=3)
axes[0].set(ylabel="64 tokens of the cat", xlabel="D = 64 numbers")
fig.colorbar(image, ax=axes, shrink=0.8)
plots.show(
    fig,
    "Four heat maps of 64 tokens by 64 numbers on one colour scale from -3 to 3. Into block 1: pale, all near zero. "
    "Out of block 24: saturated, beyond the scale. The same two after LayerNorm: both in full colours, rows alike "
    "in strength.",
)

# %% [markdown]
# The four pictures share one colour scale. The stream starts faint and grows loud, as each block adds to it. A
# branch with fixed weights would have to work with whispers in block 1 and shouts in block 24. **LayerNorm**
# hands each branch the same loudness everywhere. (The stripes on the right are what all tokens have come to share.)
# One token, four numbers:

# %%
token = torch.tensor([2.0, 4.0, 6.0, 8.0])
mean = token.mean()  # (2 + 4 + 6 + 8) / 4
variance = ((token - mean) ** 2).mean()  # (9 + 1 + 1 + 9) / 4
mean, variance, (token - mean) / variance.sqrt()

# %% [markdown]
# Check the first by hand: (2 - 5) / √5 = -1.3416. Mean 0, standard deviation 1, and the order of the numbers is kept.
#
# **Predict before you run:** what becomes of ten times this token? Of this token plus 100?

# %%
for other in (token, 10 * token, token + 100, -token):
    print(f"{other.tolist()!s:28}", F.layer_norm(other, (4,)))

# %% [markdown]
# The same, the same, and the mirror image. LayerNorm forgets how loud a token is and where its zero lies; the
# *pattern* stays. That is why the norms stopped the explosion: whatever the stream's size, the next branch reads
# size 1.
#
# One token has no pattern: all its numbers equal. Then the variance is 0, and zero divided by zero is not a number.
# So a small ε (epsilon) is added under the root.

# %%
flat = torch.full((4,), 3.0)
deviation, variance = flat - flat.mean(), flat.var(correction=0)
print("without eps:", deviation / variance.sqrt())
print("with eps:   ", deviation / (variance + 1e-6).sqrt())

# %% [markdown]
# The whole formula, for one token $x$ of $D$ numbers with mean $\mu$ and variance $\sigma^2$:
#
# $$\mathrm{LayerNorm}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# $\gamma$ and $\beta$ (gamma, beta) are $D$ trained numbers each, one for each column: if the network wants column
# 7 louder for all tokens, it turns up $\gamma_7$. They start as ones and zeros. $\odot$ multiplies number by
# number. The variance divides by $D$, not by $D - 1$ as `torch.var` does unless told `correction=0`.

# %%
norm = nn.LayerNorm(4, eps=1e-6)  # ViT's eps; PyTorch's default is 1e-5
by_hand = (token - token.mean()) / (token.var(correction=0) + 1e-6).sqrt()
assert torch.allclose(norm(token), by_hand)
print("gamma", norm.weight.data, "  beta", norm.bias.data)

# %% [markdown]
# ### Over which axis?

# %%
table = torch.randn(8, 6) * torch.linspace(0.3, 2, 8)[:, None]  # two images of four tokens, D = 6
fig, axes = plots.figure(7.2, 2.9, 1, 2)
for ax, title, where in ((axes[0], "LayerNorm", (-0.5, 4.5, 6, 1)), (axes[1], "BatchNorm", (1.5, -0.5, 1, 8))):
    plots.draw_matrix(ax, table, f"{title}: one mean for the frame", numbers=False)
    x, y, width, height = where
    ax.plot([x, x + width, x + width, x, x], [y, y, y + height, y + height, y], color="#D55E00", linewidth=3)
    ax.axhline(3.5, color="white", linewidth=4)
    ax.set(ylabel="image 2      image 1", xlabel="D numbers")
plots.show(
    fig,
    "The same table of eight tokens by six numbers twice, a white line between the four tokens of image 1 and of "
    "image 2. LayerNorm's frame holds one row, a single token. BatchNorm's frame holds one column through both images.",
)

# %% [markdown]
# LayerNorm takes its mean over a row: one token, its D numbers. BatchNorm, which convolutional networks use, takes it
# over a column: one number of *all* tokens of *all* images in the batch. Its answer for your image then depends on
# which other images came along. See:

# %%
x = torch.randn(10, D)  # two images of five tokens, one below the other
company = x.clone()
company[5:] *= 5  # image 1 stays as it is, image 2 changes
for norm in (nn.LayerNorm(D), nn.BatchNorm1d(D)):
    moved = (norm(company) - norm(x))[:5].abs().max()
    print(f"{type(norm).__name__:12} image 1 moved by {moved:.4f}")

# %% [markdown]
# With LayerNorm a batch of one gives the same result as a batch of a thousand, and training the same as testing.
# BatchNorm needs large batches, and a second set of statistics for testing. That is why transformers, whose batches
# are often small and whose sequences differ in length, took to LayerNorm.

# %% [markdown]
# ### Exercise 4.1 · Write LayerNorm
# *write · medium · 5 minutes*
#
# Write LayerNorm for tokens `(B, N, D)`, with `gamma` and `beta` of shape `(D,)`: from mean, variance and root, without
# `nn.LayerNorm`, `F.layer_norm` or another ready-made norm.
#
# <details><summary>Hint</summary>
#
# `x.mean(dim=-1, keepdim=True)` has shape `(B, N, 1)` and can be subtracted from `x`; without `keepdim` it cannot.
#
# </details>


# %% tags=["exercise"]
def my_layer_norm(x, gamma, beta, eps):
    return ...  # (B, N, D)


# %%
check.layer_norm(my_layer_norm)

# %% [markdown]
# *To remember: LayerNorm gives each token mean 0 and standard deviation 1 over its own D numbers, then scales and
# shifts each column.*

# %% [markdown]
# ## What does the MLP add that attention cannot?

# %%
z = torch.linspace(-4, 4, 401, requires_grad=True)
fig, axes = plots.figure(8, 2.8, 1, 2)
for name, function in (("GELU", F.gelu), ("ReLU", F.relu)):
    (slope,) = torch.autograd.grad(function(z).sum(), z)
    axes[0].plot(z.detach(), function(z).detach(), linewidth=2.5, label=name)
    axes[1].plot(z.detach(), slope, linewidth=2.5, label=name)
axes[0].set_title("value", fontsize=10)
axes[1].set_title("slope", fontsize=10)
axes[0].legend(frameon=False)
plots.show(
    fig,
    "GELU and ReLU from -4 to 4. Values: both are near 0 on the left and near z on the right; GELU dips to -0.17 at "
    "z = -0.75 and has no corner. Slopes: ReLU jumps from 0 to 1 at zero; GELU rises smoothly, is slightly negative "
    "below -0.75 and slightly above 1 around 1.4.",
)

# %% [markdown]
# What attention hands to a token is a weighted mean of the tokens, times a matrix. Means and matrices draw straight
# lines; they cannot say "only where it is dark *and* striped". The **MLP** (multi-layer perceptron) can: it widens
# each token to 4D numbers, bends them with an **activation function**, and narrows them to D again.
#
# The activation is **GELU** (Gaussian error linear unit): $\mathrm{GELU}(z) = z\,\Phi(z)$, where $\Phi(z)$ is the
# chance that a standard normal number is below $z$. From a table: $\Phi(1) = 0.8413$, so GELU(1) = 0.8413 and
# GELU(-1) = -0.1587.

# %%
z = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
phi = 0.5 * (1 + torch.erf(z / 2**0.5))  # the normal distribution function
assert torch.allclose(z * phi, F.gelu(z), atol=1e-6)
z * phi

# %% [markdown]
# GELU is ReLU with a soft corner. Left of zero its slope fades out instead of being 0 at once, so that a number
# which is slightly negative for every image can still learn its way back; under ReLU it gets no gradient at all.
# The difference in accuracy is small. ViT took GELU over from BERT, a language model.
#
# What if we left the activation out? Then the two layers fold into one matrix, and widening has bought nothing:

# %%
fc1, gelu, fc2 = nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)
x = torch.randn(2, 5, D)  # (B, N, D)
folded = nn.Linear(D, D)
folded.weight.data = fc2.weight @ fc1.weight  # (D, 4D) @ (4D, D) -> (D, D)
folded.bias.data = fc2.weight @ fc1.bias + fc2.bias
print("without GELU, one layer does the same:", torch.allclose(fc2(fc1(x)), folded(x), atol=1e-5))
print("with GELU, it does not:               ", not torch.allclose(fc2(gelu(fc1(x))), folded(x), atol=1e-2))

# %% [markdown]
# ### Exercise 4.2 · Who feels it?
# *predict · easy · 2 minutes*
#
# An image has 64 tokens. You change one of them, all D numbers of it. How many of the 64 *output* tokens change after
# LayerNorm, after the MLP, after multi-head attention, and after a whole block? Answer before you run the cell below
# the check.
#
# <details><summary>Hint</summary>
#
# Ask of each part whether the computation of token 5 reads any number of token 9.
#
# </details>

# %% tags=["exercise"]
changed = (..., ..., ..., ...)  # LayerNorm, MLP, attention, block

# %%
check.tokens_changed(changed)


# %%
def influence(layer, x):
    """How far output token i moves when input token j is changed: (N, N), for tokens (1, N, D)."""
    N = x.shape[1]
    changed = x.repeat(N, 1, 1)  # (N, N, D): copy j gets another token j
    changed[range(N), range(N)] = torch.randn(N, D)
    moved = (layer(changed) - layer(x)).norm(dim=-1).T  # (output i, input j)
    return moved.where(moved > 1e-4, 0.0).detach()


block = EncoderBlock(D, H)
layers = {"LayerNorm": block.norm1, "MLP": block.mlp, "attention": block.attn, "whole block": block}
x = torch.randn(1, 16, D)  # (1, N, D)
moved = {name: influence(layer, x) for name, layer in layers.items()}

# %%
fig, axes = plots.figure(9.5, 2.9, 1, 4)
for ax, (name, matrix) in zip(axes, moved.items(), strict=True):
    plots.draw_matrix(ax, matrix.log10(), name, numbers=False, vmin=-2, vmax=1.1)
    ax.spines[:].set(visible=True, color="lightgrey")
    ax.set(xlabel="token that was changed")
axes[0].set(ylabel="token that moved")
plots.show(
    fig,
    "Four 16 by 16 matrices: which output token moves when an input token is changed. LayerNorm and MLP: the diagonal "
    "alone, all else blank. Attention: every cell filled. Whole block: a bright diagonal and every other cell faint.",
)
{name: int((matrix[:, 0] > 0).sum()) for name, matrix in moved.items()}

# %% [markdown]
# White means: not moved at all. LayerNorm and MLP are diagonal, each token alone. Only attention fills the square.
# The block has both: a bright diagonal, since the residual stream carries the changed token on, and faint news of
# it everywhere else.
#
# *To remember: attention moves information between tokens, the MLP computes with what has arrived. The MLP
# uses the same two matrices for each token, as a convolution with kernel size 1 does.*

# %% [markdown]
# ## What does the highway carry?

# %%
plots.show(
    draw_depth(["complete", "no residuals", "no residuals, no norms"], scale=1.0),
    "Three log-scale plots over 24 blocks with PyTorch's own starting weights. Difference between tokens: complete "
    "falls gently to 0.3; without residuals it is gone within four blocks, with or without norms. Gradient: complete "
    "and no residuals stay level; without residuals and norms it falls from 1 at the last block to 1e-30 at the first.",
)

# %% [markdown]
# These blocks have the weights that PyTorch gives them, not doubled as above. Read the right picture from right to
# left, as gradients travel. Without residuals and norms (light blue) the gradient loses a factor of about 20 in
# each block: at the first of 24 almost nothing is left, $10^{-30}$. Norms repair that (orange), since they scale
# everything back to size 1. They cannot repair the middle picture: the tokens are one and the same. Only the
# highway keeps them apart.

# %% [markdown]
# Why does adding help so much? A toy network: ten layers, one number, and each layer multiplies by 0.1.


# %%
def value_and_gradient(skip):
    x = torch.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(10):
        y = skip * y + 0.1 * y  # skip = 1: a residual connection
    y.backward()
    return f"value {y.item():.4g}, gradient {x.grad.item():.4g}"


print("without residuals:", value_and_gradient(skip=0))
print("with residuals:   ", value_and_gradient(skip=1))

# %% [markdown]
# $0.1^{10}$ is one in ten billion; $1.1^{10}$ is 2.5937. In symbols: a **residual connection** turns $y = f(x)$ into
#
# $$y = x + f(x), \qquad \frac{\mathrm{d}y}{\mathrm{d}x} = 1 + f'(x).$$
#
# The 1 is the highway. Whatever the branch $f$ does, the gradient has a way around it; multiplied over many blocks,
# ones stay one. And the block needs to learn only what to *change*. A block with nothing to say is one whose
# branches are 0:

# %%
silent = EncoderBlock(D, H)
for layer in (silent.attn.proj, silent.mlp.fc2):  # the last layer of each branch
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
assert torch.equal(silent(x), x)

# %% [markdown]
# It hands its input on, bit for bit. So a deeper network can always do what a shallower one does, which is not true
# without residuals: there, each block must first learn to copy.
#
# The tokens become alike without residuals because attention takes means. A mean of vectors lies between them, so
# that each block draws the tokens closer together. This is called **rank collapse** (Dong et al. 2021): the matrix of
# tokens ends with all rows equal, rank 1.
#
# *To remember: branches propose changes, the stream remembers.*

# %% [markdown]
# ## Where to put the norm?

# %%
plots.show(
    drawings.encoder_block(post_norm=True),
    "The post-norm block as a road map. The two detours hold no norm; instead a LayerNorm stands on the highway itself "
    "after each of the two sums, so that everything on the highway must pass through it.",
)

# %% [markdown]
# This is the block of the first transformer (Vaswani et al. 2017), **post-norm**: the norm comes after the sum, and
# so it stands *on* the highway, like a toll gate. ViT uses **pre-norm**: the norm stands at the start of each
# branch, and the highway is free. In code they differ by the place of one bracket:
#
# | pre-norm | post-norm |
# |---|---|
# | `x = x + attn(norm1(x))` | `x = norm1(x + attn(x))` |
# | `x = x + mlp(norm2(x))` | `x = norm2(x + mlp(x))` |
#
# What does the gate cost?

# %%
plots.show(
    draw_depth(["complete", "post-norm"], depth=48),
    "Three log-scale plots over 48 blocks. Size: pre-norm (complete) grows slowly to 10, post-norm stays at exactly 1. "
    "Difference between tokens: pre-norm stays above 0.1, post-norm falls in a straight line to 1e-10. Gradient: "
    "both stay level within a factor of 100.",
)

# %% [markdown]
# Size and gradient look healthier than pre-norm's: post-norm holds the tokens at size 1. The price is in the middle.
# Attention adds nearly the same vector to all tokens, and here it is about as loud as the stream. Then the gate
# shrinks the sum back to size 1, and with it what a token has of its own. In pre-norm the same vector is added, but
# nothing is ever shrunk.
#
# **A number to check:** from block 24 to 48 the line falls from 1e-5 to about 5e-11, a factor of 0.6 for each block:
# $0.6^{24} \approx 5 \cdot 10^{-6}$.

# %% [markdown]
# In training, post-norm needs a careful warmup of the learning rate, or it diverges (Xiong et al. 2020). Once it
# trains, it can be as good; BERT is post-norm. Pre-norm has a price as well: the stream grows, so
# later branches weigh less and less in it. And it needs one last norm behind the last block, before the classifier
# reads the stream. You will meet that norm in [05 Vision Transformer](05_vision_transformer.ipynb).

# %% [markdown]
# ### Exercise 4.3 · Write the block
# *write · medium · 4 minutes*
#
# Write the forward pass of a pre-norm block from its four parts, each of which you call like a function.
#
# <details><summary>Hint</summary>
#
# Two lines, each of the form `x = x + ...`. The stream `x` never passes through a norm itself.
#
# </details>


# %% tags=["exercise"]
def my_block(x, norm1, attn, norm2, mlp):
    return ...  # (B, N, D)


# %%
check.pre_norm_block(my_block)

# %% [markdown]
# ### A trained block at work

# %%
from vit_tutorial import weights
from vit_tutorial.files import CHECKPOINT

trained = weights.load(CHECKPOINT)  # a small ViT that this course trained on CIFAR-10
cat = datasets.sample_image("cat", 32)  # (3, 32, 32), uint8
widgets.EncoderStepper(trained, cat, stage=9)  # block 1: what attention found has been added

# %% [markdown]
# The line at the top is the road map of this notebook, six blocks long. You stand where the first branch has come back.
# Step back and forth with ← and →: a copy leaves, is normed, changed, and added. At the two sums, *moved* says how long
# the update is, in lengths of the token that it is added to.
#
# **Predict:** which block changes the tokens most? Choose the other blocks under *Part*, and compare with this table,
# the mean of all tokens:

# %%
with torch.no_grad():
    x = trained.embed(normalise(cat[None], trained.config))  # (1, N, D)
    for number, block in enumerate(trained.blocks, start=1):
        moved = []
        for norm, branch in ((block.norm1, block.attn), (block.norm2, block.mlp)):
            update = branch(norm(x))  # (1, N, D)
            moved.append((update.norm(dim=-1) / x.norm(dim=-1)).mean())  # over the tokens
            x = x + update
        print(f"block {number}: attention {moved[0]:.2f}, MLP {moved[1]:.2f}, length {x.norm(dim=-1).mean():.0f}")

# %% [markdown]
# Block 1 rewrites the tokens: its MLP adds more than was there. From then on each branch adds a part, a fifth to a
# half, and what was written before stays in the stream. The last MLP, before the answer is read, adds more again.

# %% [markdown]
# ## Why leave things out on purpose?

# %%
ones = torch.ones(10, 4, 6)  # ten images of four tokens, D = 6
torch.manual_seed(1)
dropped = F.dropout(ones, p=0.3)
kept = (torch.rand(10, 1, 1) >= 0.3) / 0.7  # one number an image
fig, axes = plots.figure(9, 2.6, 1, 2)
for ax, x, title in ((axes[0], dropped, "dropout: single numbers"), (axes[1], ones * kept, "DropPath: whole images")):
    image = plots.draw_matrix(ax, x.flatten(1), title, numbers=False, colour_map="cividis", vmin=0)
    ax.set(ylabel="10 images", xlabel="4 tokens x 6 numbers")
fig.colorbar(image, ax=axes, shrink=0.9)
plots.show(
    fig,
    "Two heat maps of ten images by 24 numbers, all ones before. Dropout with rate 0.3: zeros strewn over single "
    "numbers, the rest 1.43. DropPath with rate 0.3: whole rows are zero, the other rows 1.43 throughout.",
)

# %% [markdown]
# A network with many weights and few images learns them by heart. Noise makes that harder. **Dropout** sets single
# numbers to 0, each with probability p, in training only; so no unit can rely on one other. **Stochastic depth**,
# in code **DropPath**, drops a whole *branch*, for whole images at a time: those skip the detour and stay on the
# highway. In a step of training each image then goes through a network of another depth.
#
# What is kept is divided by 1 - p. Here 1 / 0.7 = 1.4286. Why?

# %%
drop = nn.Dropout(0.3)
x = torch.ones(100_000)
for mode in (True, False):
    drop.train(mode)
    print(f"training={mode!s:5}  values {drop(x).unique().numpy().round(4)}  mean {drop(x).mean():.2f}")

# %% [markdown]
# So that the **mean stays**. At test time nothing is dropped, and the next layer must find numbers of the size that
# it was trained on. Without the division it would find all of them 1 / 0.7 times too large.
#
# `model.eval()` is what switches dropout and DropPath off, `model.train()` switches them on again. Forget `eval()`,
# and the same image gets another answer each time.
#
# With dropout known, here is the MLP as the package has it. Nothing in it is new to you:


# %% tags=["package"]
class MLP(nn.Module):
    def __init__(self, embed_dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop(self.act(self.fc1(x)))  # (B, N, hidden)
        return self.drop(self.fc2(x))  # (B, N, D)


# %% [markdown]
# ### Exercise 4.4 · Drop a branch
# *write · medium · 5 minutes*
#
# Write DropPath as a function. In training, each *image* of the branch `x` `(B, N, D)` becomes 0 with probability
# `rate`; the others are rescaled so that the mean stays. Out of training, `x` comes back as it is.
#
# <details><summary>Hint</summary>
#
# `torch.rand(len(x), 1, 1) >= rate` is True for about 1 - rate of the images, and its shape lets you multiply it
# with `x`.
#
# </details>


# %% tags=["exercise"]
def my_drop_path(x, rate, training):
    return ...  # (B, N, D)


# %%
check.drop_path(my_drop_path)

# %% [markdown]
# The package's version keeps `rate` in a module, and asks `self.training`, which `train()` and `eval()` set:


# %% tags=["package"]
class DropPath(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.rate  # one decision an image
        return x * keep / (1.0 - self.rate)


# %% [markdown]
# Is the mean really kept? One branch, drawn 20,000 times:

# %%
branch = torch.tensor([[[1.0, -2.0, 3.0]]])  # (1, N, D): one image, one token
many = branch.expand(20_000, 1, 3)  # the same image 20,000 times
torch.manual_seed(0)  # on another machine dropout, above, may have used up other random numbers
for rate in (0.1, 0.5, 0.9):
    out = DropPath(rate)(many)
    print(f"rate {rate}: mean {out.mean(dim=0)[0].numpy().round(1)}, spread of the first {out[:, 0, 0].std():.2f}")

# %% [markdown]
# The mean stays at (1, -2, 3); what grows with the rate is the spread. So use small rates. ViTs let the rate grow
# with depth, from 0 in the first block to, say, 0.1 in the last: early blocks feed all others.
#
# Two honest remarks. The mean is kept for the branch, not for what later layers make of it, since they are not
# linear. And the branch is computed before it is dropped, so no time is saved here.

# %% [markdown]
# ## The block, whole
#
# All parts are known. The class is one screen, and `forward` is the road map in two lines:


# %% tags=["package"]
class EncoderBlock(nn.Module):
    def __init__(self, embed_dim, num_heads, mlp_ratio=4.0, dropout=0.0, drop_path=0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = MultiHeadAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, int(embed_dim * mlp_ratio), dropout)
        self.drop = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x, return_attention=False):
        mixed = self.attn(self.norm1(x), return_attention)
        mixed, weights = mixed if return_attention else (mixed, None)
        x = x + self.drop_path(self.drop(mixed))  # tokens exchange
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # each token alone
        return (x, weights) if return_attention else x


# %% [markdown]
# It is the package's class, line for line. `return_attention=True` hands out the attention weights as well, for the
# pictures of later notebooks. In eval mode the block is the two lines of exercise 4.3:

# %%
block = EncoderBlock(D, H, dropout=0.1, drop_path=0.1).eval()
x = torch.randn(2, 5, D)  # (B, N, D)
y = x + block.attn(block.norm1(x))
y = y + block.mlp(block.norm2(y))
assert torch.allclose(block(x), y, atol=1e-6)
assert not torch.allclose(block.train()(x), y, atol=1e-2)  # train mode: something is dropped

# %% [markdown]
# ### How many parameters?
#
# Count with the formulas in the road map. A Linear layer from a to b numbers holds a·b weights and b biases.
#
# | part | weights | biases |
# |---|---|---|
# | two LayerNorms | 2 D (γ) | 2 D (β) |
# | attention: queries, keys, values | 3 D² | 3 D |
# | attention: output projection | D² | D |
# | MLP: D → 4D | 4 D² | 4 D |
# | MLP: 4D → D | 4 D² | D |
# | **together** | **12 D² + 2 D** | **11 D** |
#
# That is **12 D² + 13 D**. For ViT-B, D = 768:

# %%
big = EncoderBlock(768, 12)
for name, part in big.named_children():
    print(f"{name:10} {sum(p.numel() for p in part.parameters()):10,}")
total = sum(p.numel() for p in big.parameters())
assert total == 12 * 768**2 + 13 * 768
print(f"{'block':10} {total:10,}     twelve blocks {12 * total:,}")

# %% [markdown]
# Two thirds of a block are MLP, one third is attention, and the norms are a rounding error. Twelve blocks hold 85 of
# ViT-B's 86.6 million parameters. In your head: 12 D² with D ≈ 770 is about 7 million a block.
#
# ## Take one part away
#
# Now you know all parts. Choose what to change, how many blocks, and by how much the starting weights are multiplied.


# %%
def draw(change, blocks, weight_scale):
    shown = ["complete", change] if change != "complete" else [change]
    size, difference, gradient = measure(change, blocks, weight_scale)
    return draw_depth(shown, blocks, weight_scale), (
        f"{change}, {blocks} blocks, weights times {weight_scale:g}, against the complete block in black. After the "
        f"last block: size {size[-1]:.0e}, difference between tokens {difference[-1]:.0e}; gradient at the first block "
        f"{gradient[0]:.0e}. A missing line means that numbers overflowed."
    )


changes = ["no residuals", "no norms", "no attention", "no MLP", "post-norm", "no residuals, no norms", "complete"]
widgets.interactive_figure(draw, change=changes, blocks=[6, 12, 24, 36, 48], weight_scale=[1.0, 2.0, 3.0])

# %% [markdown]
# Try these:
#
# - *no norms*, weights times 1, then 2: harmless, then an explosion. Norms make a block indifferent to how large its
#   weights are. Weights grow in training, so "harmless at the start" does not last.
# - *post-norm*, weights times 1: at 48 blocks it keeps up with the complete block. Its trouble grows with the
#   weights.
# - *no attention* and *no MLP*: nothing to see. Signal and gradient travel well without them.
#
# Does that mean that these two are not needed? No: the plots measure *transport*. Count how many tokens hear of a
# change, and it shows what is missing:


# %%
def tokens_reached(change, depth=24):
    """How many of the cat's 64 tokens move when one is changed."""
    x = tokens[:1].repeat(2, 1, 1)  # (2, N, D): twice the cat
    x[1, 0] += 1 + torch.arange(D) % 2
    for block in stack_of_blocks(depth, scale=2.0):
        x = run_block(block, x, change)
    x = F.layer_norm(x, (D,)).detach()
    return int(((x[0] - x[1]).norm(dim=-1) > 1e-6).sum())


print(f"{'24 blocks, weights times 2':28}{'size':>9}{'difference':>12}{'gradient ratio':>16}{'tokens reached':>16}")
for change in STYLE:
    size, difference, gradient = measure(change)
    ratio = gradient[1] / gradient[-1]
    print(f"{change:28}{size[-1]:9.0e}{difference[-1]:12.0e}{ratio:16.0e}{tokens_reached(change):16}")

# %% [markdown]
# Row by row. *No residuals*: sizes and gradients fine, tokens all alike. *No norms*: sizes and gradients off by
# powers of ten. *Post-norm*: safe sizes, fading differences. *No attention*: healthy in each column but the last. One
# token is reached, the changed one itself; each of the others works blindfold. *No MLP*: healthy throughout. What
# the MLP gives is computation, and untrained blocks compute nothing yet.
#
# ## Do the parts matter in training?

# %% [markdown]
# A test that each network should pass: learn thirty pictures by heart. They come from the course's own data,
# `shapes`, in ten classes. Twelve blocks, as deep as ViT-B, and fifty steps of AdamW (an optimiser; notebook 06
# explains it), once with PyTorch's starting weights and once with these doubled.
#
# **Predict before you run:** the loss of a network that guesses among ten classes is ln 10 = 2.30. Who will stay
# there?

# %%
pictures = datasets.shapes("train", 30)
inputs = pictures.images / 127.5 - 1  # (B, C, Y, X)
plots.show(
    plots.image_grid(pictures.images[:10], [pictures.classes[label] for label in pictures.labels[:10]], 10, 0.9),
    "Ten of the thirty pictures, each with one shape on a ground of another colour, such as a star, a heart, a cross.",
)


# %%
def learn_by_heart(change, scale, steps=50):
    """The loss of each step while twelve blocks learn the classes of the thirty pictures."""
    blocks = nn.ModuleList(stack_of_blocks(12, scale)).float()
    embed, head = PatchEmbedding(32, 8, 3, D), nn.Linear(D, 10)
    parameters = [p for part in (embed, blocks, head) for p in part.parameters()]
    optimizer, losses = torch.optim.AdamW(parameters, lr=1e-3), []
    for _ in range(steps):
        x = embed(inputs)  # (B, N, D)
        for block in blocks:
            x = run_block(block, x, change)
        logits = head(F.layer_norm(x, (D,)).mean(dim=1))  # (B, 10)
        loss = F.cross_entropy(logits, pictures.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% tags=["nbval-ignore-output"]
runs = {
    1.0: ["complete", "no residuals", "no norms", "no attention", "no MLP"],
    2.0: ["complete", "no residuals", "no norms", "post-norm"],
}
losses = {(scale, change): learn_by_heart(change, scale) for scale, changes in runs.items() for change in changes}
final = {run: sum(series[-10:]) / 10 for run, series in losses.items()}  # mean of the last ten steps
assert final[1.0, "complete"] < 0.5 and final[1.0, "no residuals"] > 2.2
assert final[2.0, "complete"] < 0.5 and final[2.0, "no norms"] > 0.8
for (scale, change), loss in final.items():
    print(f"weights times {scale:.0f}, {change:14} loss at the end {loss:.2f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plots.figure(8.5, 2.9, 1, 2, sharey=True)
for ax, (scale, changes) in zip(axes, runs.items(), strict=True):
    for change in changes:
        ax.plot(losses[scale, change], color=STYLE[change], linewidth=2, label=change)
    ax.axhline(torch.tensor(10.0).log(), color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="step", ylim=(0, 2.9))
    ax.set_title(f"weights times {scale:.0f}", fontsize=10)
axes[0].set(ylabel="loss (dotted: guessing)")
shown = {line.get_label(): line for ax in axes for line in ax.lines if line.get_label() in STYLE}
fig.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False, fontsize=10)
plots.show(
    fig,
    "Training loss over 50 steps. Left, weights times 1: complete, no norms, no attention and no MLP fall to near 0; "
    "no residuals stays on the dotted line of guessing. Right, weights times 2: complete falls to near 0 within 20 "
    "steps; no residuals, no norms and post-norm stay high and jump about.",
)
assert len(losses) == 9

# %% [markdown]
# Left: without residuals the loss lies on the dotted line. The tokens, and with them the pictures, have become one
# before the classifier sees them. Right, with doubled weights: without norms the network cannot learn either, and
# post-norm, without a warmup, hardly does. Only the complete block does well in both.
#
# Without attention or MLP the thirty pictures are learned all the same. To know pictures by heart takes little: the
# mean over all tokens at the end lets the tokens meet once, and attention's softmax bends too. This test says who
# can learn *at all*, not who learns best.
#
# %% [markdown]
# *To remember: residuals and norms make depth trainable. Attention and MLP are what depth is for.*

# %% [markdown]
# ## Exercises
#
# Exercises 4.1 to 4.4 stand above, each beside its idea. Three more:
#
# ### Exercise 4.5 · The block that only looks like pre-norm
# *repair · medium · 6 minutes*
#
# The class below was meant to be a pre-norm block with dropout. It trains, more or less. Two symptoms: in eval mode
# the same tokens give different results, and however many blocks are stacked, the tokens never grow.


# %%
class BrokenBlock(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = MultiHeadAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, 4 * embed_dim)

    def forward(self, x):
        x = self.norm1(x)
        x = x + F.dropout(self.attn(x), 0.1)
        x = self.norm2(x)
        return x + F.dropout(self.mlp(x), 0.1)


# %%
torch.manual_seed(0)
x = torch.randn(2, 16, D)  # (B, N, D)
for kind in (EncoderBlock, BrokenBlock):
    blocks = nn.Sequential(*(kind(D, H) for _ in range(12))).eval()
    first, second = blocks(x), blocks(x)
    verdict = "differ" if (first - second).abs().max() > 0.1 else "agree"
    print(f"{kind.__name__}: two passes in eval mode {verdict};")
    print(f"    size of the tokens {x.std():.1f} before, {first.std():.1f} after 12 blocks")

# %% [markdown]
# Find both faults. Copy the class into the cell below under the name `RepairedBlock`, and mend it. Its four parts keep
# their names, `norm1`, `attn`, `norm2` and `mlp`, by which the check finds them, and both branches keep their dropout.
#
# <details><summary>Hint</summary>
#
# Which tokens does the `+` in `forward` start from? And what is the default of `training` in `F.dropout`?
#
# </details>

# %% tags=["exercise"]
RepairedBlock = ...  # class RepairedBlock(nn.Module): ...

# %%
check.repaired_block(RepairedBlock)

# %% [markdown]
# ### Exercise 4.6 · How deep until all tokens are one?
# *experiment · easy · 4 minutes*
#
# Close the highway: `measure("no residuals", depth=24, scale=1.0)` returns three curves, the second being the
# difference between tokens; entry k is after k blocks. After how many blocks is it below 1e-6 for the first time?
# Do it for weights times 1, 2 and 3. Predict first: do larger weights speed the collapse up, or slow it down?
#
# <details><summary>Hint</summary>
#
# `(difference < 1e-6).nonzero()[0].item()` is the first place at which a curve is below.
#
# </details>

# %% tags=["exercise"]
depths = (..., ..., ...)  # number of blocks for weights times 1, 2, 3

# %%
check.collapse_depths(depths)

# %% [markdown]
# ### Exercise 4.7 · LayerScale
# *stretch · hard · 6 minutes*
#
# Deep ViTs multiply each branch's output by D trained numbers that start near 0, so that a new block begins as a
# straight road and turns its branches up as it learns. This is **LayerScale** (Touvron et al. 2021). Write the
# pre-norm block with it: `gamma1` `(D,)` for attention, `gamma2` `(D,)` for the MLP.
#
# <details><summary>Hint</summary>
#
# Start from your answer to 4.3. With both gammas at 0 the block must return `x` itself.
#
# </details>


# %% tags=["exercise"]
def my_layer_scale(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    return ...  # (B, N, D)


# %%
check.layer_scale(my_layer_scale)

# %% [markdown]
# ## Summary
#
# | part | what it does | without it |
# |---|---|---|
# | LayerNorm | gives each branch tokens of size 1, token by token | sizes and gradients explode once weights grow |
# | attention | lets tokens exchange | no token ever hears of another |
# | MLP with GELU | computes, on each token alone | straight lines only: means and matrices |
# | residuals | carry the stream past each branch | tokens become one vector within a few blocks |
# | dropout, DropPath | noise against learning by heart, mean kept | more overfitting on small data |
#
# - Pre-norm: `x = x + attn(norm1(x))`, then `x = x + mlp(norm2(x))`. No norm ever stands on the stream.
# - A block holds 12 D² + 13 D parameters, two thirds of them in the MLP.
# - `eval()` before you test, `train()` before you train.
#
# ## What comes next
#
# Patches (01), positions (02), attention (03) and the block are ready. In [05 Vision
# Transformer](05_vision_transformer.ipynb) you stack them, add a classifier, and get the same numbers as the
# published models.
#
# ## References
#
# - Vaswani et al. 2017, *Attention Is All You Need*: the block, post-norm.
# - Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words*: ViT, pre-norm, equations 2 and 3.
# - Ba, Kiros, Hinton 2016, *Layer Normalization*. Ioffe, Szegedy 2015, *Batch Normalization*.
# - Hendrycks, Gimpel 2016, *Gaussian Error Linear Units*.
# - He et al. 2016, *Deep Residual Learning for Image Recognition* and *Identity Mappings in Deep Residual Networks*.
# - Xiong et al. 2020, *On Layer Normalization in the Transformer Architecture*: pre-norm against post-norm.
# - Dong, Cordonnier, Loukas 2021, *Attention is Not All You Need*: rank collapse.
# - Srivastava et al. 2014, *Dropout*. Huang et al. 2016, *Deep Networks with Stochastic Depth*.
# - Touvron et al. 2021, *Going Deeper with Image Transformers*: LayerScale.
#
# ## Solutions

# %% [markdown]
# ### Solution 4.1
# Mean and variance over the last axis, kept as an axis of length 1 so that they broadcast. `correction=0` divides
# by D.


# %% tags=["solution"]
def layer_norm_solution(x, gamma, beta, eps):
    mean = x.mean(dim=-1, keepdim=True)  # (B, N, 1)
    variance = x.var(dim=-1, keepdim=True, correction=0)  # (B, N, 1)
    return gamma * (x - mean) / (variance + eps).sqrt() + beta


assert check.layer_norm(layer_norm_solution).passed

# %% [markdown]
# ### Solution 4.2
# LayerNorm and MLP read one token at a time. Attention reads all. The block contains attention, so all 64 change,
# the changed one most.

# %% tags=["solution"]
changed_solution = (1, 1, 64, 64)
assert check.tokens_changed(changed_solution).passed

# %% [markdown]
# ### Solution 4.3
# The second line reads the `x` that the first has made. Neither norm ever touches the stream itself.


# %% tags=["solution"]
def block_solution(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


assert check.pre_norm_block(block_solution).passed

# %% [markdown]
# ### Solution 4.4
# The mask has one number an image, and what stays is divided by the probability of staying.


# %% tags=["solution"]
def drop_path_solution(x, rate, training):
    if not training:
        return x
    keep = torch.rand(len(x), 1, 1) >= rate  # (B, 1, 1)
    return x * keep / (1 - rate)


assert check.drop_path(drop_path_solution).passed

# %% [markdown]
# ### Solution 4.5
# `x = norm1(x)` replaced the stream by its normed copy, so that the sum started there: a toll gate on the highway,
# which is post-norm moved by half a block. And `F.dropout` drops in any mode unless it is told otherwise;
# `nn.Dropout` knows the mode by itself.


# %% tags=["solution"]
class BlockSolution(BrokenBlock):
    def forward(self, x):
        x = x + F.dropout(self.attn(self.norm1(x)), 0.1, self.training)
        return x + F.dropout(self.mlp(self.norm2(x)), 0.1, self.training)


assert check.repaired_block(BlockSolution).passed

# %% [markdown]
# ### Solution 4.6
# Larger weights give larger scores, and a sharper softmax: attention picks a few tokens instead of averaging all.
# That delays the collapse by a few blocks. It does not prevent it.

# %% tags=["solution"]
curves = [measure("no residuals", depth=24, scale=scale)[1] for scale in (1.0, 2.0, 3.0)]
depths_solution = tuple((curve < 1e-6).nonzero()[0].item() for curve in curves)
print(depths_solution)
assert check.collapse_depths(depths_solution).passed

# %% [markdown]
# ### Solution 4.7
# Gamma multiplies what comes *out* of a branch. On the stream it would shrink the highway; in front of the branch
# the norm's own gamma does that job already.


# %% tags=["solution"]
def layer_scale_solution(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + gamma1 * attn(norm1(x))
    return x + gamma2 * mlp(norm2(x))


assert check.layer_scale(layer_scale_solution).passed
