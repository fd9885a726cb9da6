# %% [markdown]
# # 04 · Encoder block
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - say what each part of an encoder block is for, and measure what happens without it;
# - compute LayerNorm by hand, and say over which axis it works and how BatchNorm differs;
# - write the forward pass of a pre-norm block, and tell it from post-norm and from a look-alike;
# - switch dropout and stochastic depth on and off, and show that they leave the mean where it was;
# - count the parameters of a block in your head.
#
# About {minutes} minutes to read and do, in two parts; 30 s of computing on two CPU cores.
# Read [03 Attention](03_attention.ipynb) first.

# %%
import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import check, course, datasets, drawings, normalise, plots, widgets
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.layers import EncoderBlock, MultiHeadAttention, PatchEmbedding
from vit_tutorial.weights import load

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
# Attention is one box of eight. What are the others for? There is an engineer's way to find out: take a part away,
# and measure.

# %% [markdown]
# The next four cells prepare that. Run them now, and look at the picture that follows; read them closely in the
# second part, when you know the boxes. First, tokens to send through: four photographs, 64 patches each. (In double
# precision, so that rounding errors do not hide small numbers.)

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
# - the **difference** between tokens: how much of them is not shared with the mean token of their image. Near 1 they
#   have little in common, at 0 all are the same;
# - the **gradient** that arrives there from a loss at the end of the stack.
#
# The blocks are untrained. Their weights are doubled, which brings out the differences; further down you can choose
# other factors.


# %%
def stack_of_blocks(depth, scale):
    """Untrained blocks, the same ones at each call, their matrices multiplied by `scale`."""
    torch.manual_seed(0)
    blocks = [EncoderBlock(D, H).double() for _ in range(depth)]
    with torch.no_grad():
        for matrix in (p for block in blocks for p in block.parameters() if p.ndim == 2):
            matrix.mul_(scale)
    return blocks


def difference_between(x):
    """How much of tokens (B, N, D) is not shared with the mean token of their image, as a share of the whole."""
    own = x - x.mean(dim=1, keepdim=True)  # (B, N, D)
    return (own.norm() / x.norm()).item()


@cache
def measure(change, depth=24, scale=2.0):
    """Size of the tokens, difference between them and gradient: before the first block and after each."""
    blocks, head = stack_of_blocks(depth, scale), nn.Linear(D, 4).double()
    stream = [tokens.clone().requires_grad_()]
    for block in blocks:
        stream.append(run_block(block, stream[-1], change))
    logits = head(F.layer_norm(stream[-1], (D,)).mean(dim=1))  # (B, 4): which of the four photographs is it?
    gradients = torch.autograd.grad(F.cross_entropy(logits, torch.arange(4)), stream)
    sizes = [x.std().item() for x in stream]
    differ = [max(difference_between(x), 1e-15) for x in stream]
    return torch.tensor([sizes, differ, [g.norm().item() for g in gradients]], dtype=torch.double)  # (3, depth + 1)


# %%
CHANGES = ["no norms", "no residuals", "no MLP", "no attention", "post-norm", "no residuals, no norms"]
COLOUR = {"complete": "black"} | dict(zip(CHANGES, plots.COLOURS, strict=False))


def draw_depth(changes, depth=24, scale=2.0):
    fig, axes = plots.figure(7, 2.6, 1, 3)
    titles = ("size of the tokens", "difference of tokens", "gradient that arrives")
    for row, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        for change in changes:
            ax.semilogy(measure(change, depth, scale)[row], color=COLOUR[change], linewidth=2, label=change)
        low, high = map(math.log10, ax.get_ylim())
        ax.set(xlabel="after block", ylim=(10.0 ** math.floor(low), 10.0 ** math.ceil(high)))  # whole powers of ten
        ax.set_title(title, fontsize=10)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(changes), frameon=False)
    return fig


# %%
plots.show(
    draw_depth(["complete", "no residuals", "no norms"]),
    "Three plots over 24 untrained blocks, with powers of ten upwards. Size of the tokens: complete grows slowly, no "
    "residuals stays level, no norms grows steadily by many powers of ten. Difference of tokens: complete falls a "
    "little, no norms falls steadily, no residuals falls at once to 1e-15. Gradient: complete and no residuals stay "
    "within a few powers of ten, no norms falls by more than nine.",
)

# %% [markdown]
# Look at the scales first: they count powers of ten.
#
# - **Without norms** (blue) the tokens grow to {=measure("no norms")[0][-1] / 1e6:.0f} million, and a change of the
#   tokens counts billions of times as much before block 1 as after block 24.
# - **Without residuals** (orange) size and gradient stay in range. But after
#   {=(measure("no residuals")[1] < 1e-14).nonzero()[0].item():d} blocks all 64 tokens of a photograph are *the same
#   vector*: below 1e-15, where the curve ends, there is only rounding. Nobody can tell any more which patch showed
#   what.
# - **Complete** (black): all three stay within a few powers of ten.
#
# So it is norms and residuals that carry tokens and gradient through the stack. Now one by one.

# %% [markdown]
# ## What does LayerNorm do to a token?

# %%
late = tokens
for block in stack_of_blocks(24, scale=2.0):
    late = block(late).detach()
fig, axes = plots.figure(5.6, 5.2, 2, 2)
for column, (x, title) in zip(axes.T, ((tokens, "into block 1"), (late, "out of block 24")), strict=True):
    plots.draw_matrix(column[0], x[0], title, vmin=-3, vmax=3)
    image = plots.draw_matrix(column[1], F.layer_norm(x[0], (D,)), f"{title}, normed", vmin=-3, vmax=3)
for ax in axes[:, 0]:
    ax.set(ylabel="64 tokens of the cat", xlabel="D = 64 numbers")
fig.colorbar(image, ax=axes, shrink=0.6)
plots.show(
    fig,
    "Four heat maps of 64 tokens by 64 numbers on one colour scale from -3 to 3. Above, into block 1: pale, all near "
    "zero; out of block 24: vertical stripes in the strongest colours. Below, the same two after LayerNorm: both in "
    "middling colours, the second with the same stripes.",
)

# %% [markdown]
# All four pictures share one colour scale. Above is the stream as it is: faint at the start, loud after 24 blocks,
# each of which has added to it. Without norms a branch would read whispers in block 1 and shouts in block 24.
# **LayerNorm** hands each branch the same loudness; see the lower row.
#
# (On the right each column has nearly one colour: the tokens have much in common. They are not the same, as they
# are without residuals: their difference is {=difference_between(late):.2f}, not 1e-15.)
#
# Now one token of four numbers:

# %%
token = torch.tensor([2.0, 4.0, 6.0, 8.0])
mean = token.mean()  # (2 + 4 + 6 + 8) / 4
variance = ((token - mean) ** 2).mean()  # (9 + 1 + 1 + 9) / 4
mean, variance, (token - mean) / variance.sqrt()

# %% [markdown]
# Check the first by hand: (2 - 5) / √5 = -1.3416. The new numbers have mean 0 and standard deviation 1, and keep
# their order.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Multiply the token by 10, or add 100 to it. What does LayerNorm make of these two?
#
# - a: ten times the numbers above; the numbers above plus 100
# - b: the numbers above, both times
# - c: the numbers above for ten times the token, others for the token plus 100

# %%
for other in (token, 10 * token, token + 100, -token):
    print(f"{other.tolist()!s:28}", F.layer_norm(other, (4,)))

# %% [markdown]
# Both times the same: b. (With all signs flipped, in the last line, the result flips its own.) LayerNorm
# forgets how loud a token is and where its zero lies; the *pattern* stays.
#
# So however large the stream has grown, the next branch reads size 1, and what it adds does not grow along with it.
# Without norms it reads what all before it have added, and a stream that grows in proportion to itself explodes.

# %% [markdown]
# What if a token has no pattern, because all its numbers are equal? Then the variance is 0, and zero divided by zero
# is not a number. So a small ε (epsilon) is added under the root.

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
fig, axes = plots.figure(5.6, 2.9, 1, 2)
for ax, title, where in ((axes[0], "LayerNorm", (-0.5, 4.5, 6, 1)), (axes[1], "BatchNorm", (1.5, -0.5, 1, 8))):
    plots.draw_matrix(ax, table, title, numbers=False)
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
# Look at the frames; the colours are any numbers. What is inside an orange frame shares one mean and one variance.
# LayerNorm takes them over a row: one token, its D numbers. BatchNorm, known from convolutional networks, takes them
# over a column: one number of *all* tokens of *all* images in the batch. Its result for your image then depends on
# which other images came along. See:

# %%
x = torch.randn(10, D)  # two images of five tokens, one below the other
company = x.clone()
company[5:] *= 5  # image 1 stays as it is, image 2 changes
for norm in (nn.LayerNorm(D), nn.BatchNorm1d(D)):
    moved = (norm(company) - norm(x))[:5].abs().max()
    print(f"{type(norm).__name__:12} image 1 moved by {moved:.1f}")

# %% [markdown]
# With LayerNorm a batch of one gives the same result as a batch of a thousand, and testing the same as training.
# BatchNorm needs a batch to average over, and a second set of statistics for testing. Ba et al. (2016) made LayerNorm
# for recurrent networks, which read sequences of any length; the transformer took it over.

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
#
# What attention hands to a token is a weighted mean of tokens, times a matrix. Softmax decides how much comes from
# where; but what is taken is handed on unbent. The **MLP** (multi-layer perceptron) bends the numbers themselves: it
# widens each token to 4D numbers, puts each through a curve, the **activation function**, and narrows them to D again.
#
# A test: take two tokens, each alone in its image, and their middle. Does the result of the middle lie in the
# middle of the two results, as on a straight line?

# %%
block = EncoderBlock(D, H)
a, b = torch.randn(2, 1, 1, D)  # each (B, N, D) = (1, 1, D)
for name, part in (("attention", block.attn), ("MLP", block.mlp)):
    bend = part((a + b) / 2) - (part(a) + part(b)) / 2
    print(f"{name:9} off the straight line by {bend.abs().max():.1f}")

# %% [markdown]
# With a single token attention has nothing to choose: its weight is 1, and only matrices are left. The MLP bends.
#
# Its activation is **GELU** (Gaussian error linear unit): $\mathrm{GELU}(z) = z\,\Phi(z)$, where $\Phi(z)$ is the
# chance that a standard normal number is below $z$. From a table: $\Phi(1) = 0.8413$, so GELU(1) = 0.8413 and
# GELU(-1) = -0.1587.

# %%
z = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
phi = 0.5 * (1 + torch.erf(z / 2**0.5))  # the normal distribution function
assert torch.allclose(z * phi, F.gelu(z), atol=1e-6)
z * phi

# %%
z = torch.linspace(-4, 4, 401, requires_grad=True)
fig, axes = plots.figure(6.4, 2.6, 1, 2)
for name, function in (("GELU", F.gelu), ("ReLU", F.relu)):
    (slope,) = torch.autograd.grad(function(z).sum(), z)
    axes[0].plot(z.detach(), function(z).detach(), linewidth=2, label=name)
    axes[1].plot(z.detach(), slope, linewidth=2, label=name)
for ax, title in zip(axes, ("value", "slope"), strict=True):
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("z")
axes[0].legend(frameon=False)
plots.show(
    fig,
    "GELU and ReLU from -4 to 4. Values: both are near 0 on the left and near z on the right; GELU dips to -0.17 at "
    "z = -0.75 and has no corner. Slopes: ReLU jumps from 0 to 1 at zero; GELU rises smoothly, is slightly negative "
    "below -0.75 and slightly above 1 around 1.4.",
)

# %% [markdown]
# GELU is ReLU with a soft corner. Left of zero its slope fades out instead of being 0 at once: a number that is
# slightly negative for every image still gets some gradient, where under ReLU it gets none. GELU is also what BERT has,
# the language model on which ViT's configurations are based (Dosovitskiy et al. 2021, section 4.1).
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
# LayerNorm, after the MLP, after multi-head attention, and after a whole block? Answer before you run the cells below
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


# %% [markdown]
# Now run it, with 16 tokens:


# %%
def influence(layer, x):
    """How far output token i moves when input token j is changed: (N, N), for tokens (1, N, D)."""
    N = x.shape[1]
    changed = x.repeat(N, 1, 1)  # (N, N, D): copy j gets another token j
    changed[range(N), range(N)] = torch.randn(N, D)
    moved = (layer(changed) - layer(x)).norm(dim=-1).T  # (output i, input j)
    return moved.where(moved > 1e-4, 0.0).detach()


layers = {"LayerNorm": block.norm1, "MLP": block.mlp, "attention": block.attn, "whole block": block}
x = torch.randn(1, 16, D)  # (1, N, D)
moved = {name: influence(layer, x) for name, layer in layers.items()}

# %%
fig, axes = plots.figure(5, 4.9, 2, 2)
for ax, (name, matrix) in zip(axes.flat, moved.items(), strict=True):
    image = plots.draw_matrix(ax, matrix, name, numbers=False, norm="log", vmin=0.02, vmax=20)
    ax.spines[:].set(visible=True, color="lightgrey")
for ax in axes[:, 0]:
    ax.set(ylabel="token that moved", xlabel="token that was changed")
fig.colorbar(image, ax=axes, shrink=0.6, label="how far it moved")
reached = {name: int((matrix[:, 0] > 0).sum()) for name, matrix in moved.items()}
plots.show(
    fig,
    "Four 16 by 16 matrices, coloured by how far a token moved when another was changed. Where nothing moved they are "
    f"blank. Coloured cells in the first column: {reached}.",
)

# %% [markdown]
# White means: not moved at all. LayerNorm and MLP are diagonal, each token alone. Only attention fills the square.
# The block has both: a bright diagonal, since the residual stream carries the changed token on, and faint news of
# it everywhere else.
#
# *To remember: attention moves information between tokens; the MLP works on each token alone, with the same two
# matrices for all of them.*

# %% [markdown]
# ## What does the highway carry?

# %%
*_, gradient = measure("no residuals, no norms", depth=24, scale=1.0)
plots.show(
    draw_depth(["complete", "no residuals", "no residuals, no norms"], scale=1.0),
    "Three plots over 24 blocks with PyTorch's own starting weights, with powers of ten upwards. Difference of "
    "tokens: complete falls gently; without residuals it is gone within a few blocks, with or without norms. Gradient: "
    "complete and no residuals stay level; without residuals and norms it falls from the last block to the first by "
    "thirty powers of ten.",
)

# %% [markdown]
# These blocks have the weights that PyTorch gives them, not doubled as above. Read the right picture from right to
# left, as gradients travel. Without residuals and norms (light blue) each block divides the gradient by about
# {=(gradient[-1] / gradient[0]) ** (1 / 24):.0f}, and before the first of 24 only {=gradient[0]:.0e} is left.
#
# Norms (orange) repair that. They bring small tokens to size 1, and what they divide the tokens by, they also divide
# the gradient by on its way back:

# %%
for factor in (1.0, 0.05):
    x = (factor * token).requires_grad_()
    normed = F.layer_norm(x, (4,), eps=1e-6)
    normed[0].backward()  # as if the loss were the first number
    print(f"token times {factor:4}: normed {normed.detach().numpy().round(2)}, gradient {x.grad.numpy().round(2)}")

# %% [markdown]
# The smaller token gives the same normed numbers, so a small change of it counts 20 times as much.
#
# But norms cannot repair the middle picture. There the tokens have become one and the same, with norms (orange) or
# without (light blue). Of the three stacks, only the one with a highway keeps them apart.

# %% [markdown]
# What does adding do for the gradient? A toy network: ten layers, one number, and each layer multiplies by 0.1.


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
# $0.1^{10}$ is one in ten billion; $1.1^{10}$ is 2.594. In symbols: a **residual connection** turns $y = f(x)$ into
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
x = torch.randn(2, 5, D)  # (B, N, D)
assert torch.equal(silent(x), x)

# %% [markdown]
# It hands its input on, bit for bit. So a stack with residuals can do whatever a shorter one does. Without residuals
# each further block would first have to learn to copy.
#
# And why do the tokens become alike? Attention takes means, and a mean of vectors lies between them. So each block
# draws the tokens closer together. This is called **rank collapse** (Dong et al. 2021): the matrix of tokens ends with
# all rows equal, which is rank 1.
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
# branch, and the highway is free. In code:
#
# | pre-norm | post-norm |
# |---|---|
# | `x = x + attn(norm1(x))` | `x = norm1(x + attn(x))` |
# | `x = x + mlp(norm2(x))` | `x = norm2(x + mlp(x))` |

# %% [markdown] tags=["predict"]
# **Predict before you run.** 48 blocks, weights doubled as at the start. Which curve of post-norm gets into trouble?
#
# - a: the size of the tokens
# - b: the difference of the tokens
# - c: the gradient that arrives

# %%
after = [f"{name}: {', '.join(f'{v:.0e}' for v in measure(name, 48)[:, -1])}" for name in ("complete", "post-norm")]
plots.show(
    draw_depth(["complete", "post-norm"], depth=48),
    "Three plots over 48 blocks, with powers of ten upwards: size of the tokens, difference of tokens, gradient that "
    f"arrives, for the complete, pre-norm block and for post-norm. Behind the last block they are, {'; '.join(after)}.",
)

# %% [markdown]
# The difference: b. From block 1 on, size and gradient stay level, the size at exactly 1. What happens to the
# difference? Look at the twelfth post-norm block: the stream that reaches it, what attention adds, and their sum.

# %%
x = tokens
*earlier, twelfth = stack_of_blocks(12, scale=2.0)
for block in earlier:
    x = run_block(block, x, "post-norm").detach()
added = twelfth.attn(x).detach()  # (B, N, D)
for name, part in (("stream", x), ("added", added), ("sum", x + added)):
    print(f"{name:7} size {part.std():.2f}, difference {difference_between(part):.0e}")

# %% [markdown]
# Attention adds practically the same vector to every token, and one larger than the stream. The gate then divides the
# sum by its size, {=(x + added).std():.2f}, and with it what a token has of its own. In pre-norm nothing on the
# stream is ever divided.

# %% [markdown]
# In training, post-norm needs a **warmup**, a learning rate that starts small; with a large one from the first step
# it is unstable (Xiong et al. 2020). It can work well all the same: BERT is post-norm.
#
# Pre-norm has its price as well. The stream grows, as the black curve shows, so that each later branch is a smaller
# part of it. And it needs one last norm behind the last block, before the classifier reads the stream. You will meet
# that norm in [05 Vision Transformer](05_vision_transformer.ipynb).

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

# %% [markdown] tags=["stop"]
# **A place to stop.** You know what LayerNorm, MLP and residuals do, and you can write the block. The second part
# watches a trained block at work, adds the two kinds of dropout, builds the class, and takes parts away in training. If
# you come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## A trained block at work

# %%
trained = load(CHECKPOINT)  # a small ViT that this course trained on CIFAR-10
cat = datasets.sample_image("cat", 32)  # (3, 32, 32), uint8
widgets.EncoderStepper(trained, cat, stage=9)  # block 1: what attention found has been added

# %% [markdown]
# The line at the top is the road map of this notebook, six blocks long. You stand where the first branch has come back.
# Step back and forth with ← and →: a copy leaves, is normed, changed, and added. At the two sums, *moved* says how long
# the update is, in lengths of the token that it is added to.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Look at the sums of block 1, then guess for the other five, or visit them under *Part*. By
# how many lengths do they move a token, in the mean over all tokens?
#
# - a: every block by about as much as the first
# - b: less than the first
# - c: the deeper, the more

# %%
updates = []
with torch.no_grad():
    x = trained.embed(normalise(cat[None], trained.config))  # (1, N, D)
    for number, block in enumerate(trained.blocks, start=1):
        for norm, branch in ((block.norm1, block.attn), (block.norm2, block.mlp)):
            update = branch(norm(x))  # (1, N, D)
            updates.append((update.norm(dim=-1) / x.norm(dim=-1)).mean().item())  # over the tokens
            x = x + update
        print(f"block {number}: attention {updates[-2]:.2f}, MLP {updates[-1]:.2f}, length {x.norm(dim=-1).mean():.0f}")

# %% [markdown]
# For this photograph, b. Block 1 rewrites the tokens: its MLP adds a vector longer than what was there. From then on
# each branch adds less than half a length. Only the last MLP, before the answer is read, adds more again,
# {=updates[-1]:.1f}.

# %% [markdown]
# ## Why leave things out on purpose?

# %%
ones = torch.ones(10, 4, 6)  # ten images of four tokens, D = 6
torch.manual_seed(1)
dropped = F.dropout(ones, p=0.3)
kept = (torch.rand(10, 1, 1) >= 0.3) / 0.7  # one number per image
fig, axes = plots.figure(7, 2.1, 1, 2)
for ax, x, title in ((axes[0], dropped, "dropout: single numbers"), (axes[1], ones * kept, "DropPath: whole images")):
    image = plots.draw_matrix(ax, x.flatten(1), title, numbers=False, colour_map="cividis", vmin=0)
    ax.set(ylabel="10 images", xlabel="4 tokens x 6 numbers")
fig.colorbar(image, ax=axes, shrink=0.6)
plots.show(
    fig,
    "Two heat maps of ten images by 24 numbers, all ones before. Dropout with rate 0.3: zeros strewn over single "
    "numbers, the rest 1.43. DropPath with rate 0.3: whole rows are zero, the other rows 1.43 throughout.",
)

# %% [markdown]
# A network with many weights and few images can learn them by heart. Noise makes that harder (Srivastava et al. 2014).
# **Dropout** sets single numbers to 0, each with probability p, in training only; so no number can rely on another
# one. **Stochastic depth**, in code **DropPath**, drops a whole *branch*, for whole images at a time: those skip the
# detour and stay on the highway. In a step of training each image then goes through a network of another depth.
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
# it was trained on. Without the division it would find them 1 / 0.7 times as large.
#
# `model.eval()` is what switches dropout and DropPath off, `model.train()` switches them on again. Forget `eval()`,
# and a model with dropout gives the same image another answer each time.
#
# With its dropout, this is the MLP of the package:


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
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.rate  # one decision per image
        return x * keep / (1.0 - self.rate)


# %% [markdown]
# Is the mean really kept? One branch, drawn 20,000 times:

# %%
branch = torch.tensor([[[1.0, -2.0, 3.0]]])  # (1, N, D): one image, one token
many = branch.expand(20_000, 1, 3)  # the same image 20,000 times
torch.manual_seed(0)  # on another machine dropout, above, may have used up other random numbers
for rate in (0.1, 0.5, 0.9):
    out = DropPath(rate)(many)
    print(f"rate {rate}: mean {out.mean(dim=0)[0].numpy().round(1)}, spread of the first {out[:, 0, 0].std():.1f}")

# %% [markdown]
# The mean stays at (1, -2, 3); what grows with the rate is the spread. Huang et al. (2016) let the rate grow with
# depth, from 0 up, as later blocks rely on what early ones found; the course's `VisionTransformer` does so too.
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
# A Linear layer from a to b numbers holds a·b weights and b biases. Count with the road map:
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
# Two thirds of a block are MLP, one third is attention, and the norms hardly count. ViT-B has 86.6 million parameters
# (notebook 05 counts them), and all but one and a half million are in its blocks. In your head: 12 D² with D ≈ 770 is
# about 7 million per block.

# %% [markdown]
# ## Take one part away
#
# Now you know all parts. Choose what to change, how many blocks, and by how much the starting weights are multiplied.


# %%
def draw(change, blocks, weight_scale):
    shown = ["complete", change] if change != "complete" else [change]
    size, differ, gradient = measure(change, blocks, weight_scale)
    return draw_depth(shown, blocks, weight_scale), (
        f"{change}, {blocks} blocks, weights times {weight_scale:g}, against the complete block in black. After the "
        f"last block: size {size[-1]:.0e}, difference of tokens {differ[-1]:.0e}; gradient before the first block "
        f"{gradient[0]:.0e}."
    )


changes = ["no residuals", "no norms", "no attention", "no MLP", "post-norm", "no residuals, no norms", "complete"]
widgets.interactive_figure(draw, change=changes, blocks=[6, 12, 24, 36, 48], weight_scale=[1.0, 2.0, 3.0])

# %% [markdown]
# Try these:
#
# - *no norms*, weights times 1, then times 2: harmless, then an explosion.
# - *post-norm*, 48 blocks: times 1 the difference of tokens stays close to that of the complete block, times 2 it
#   fades.
# - *no attention* and *no MLP*: nothing breaks. Signal and gradient travel well without them.
#
# Does that mean that these two are not needed? No: the plots measure *transport*. Count how many tokens hear of a
# change, and one more thing shows:


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
for change in COLOUR:
    size, differ, gradient = measure(change)
    ratio = gradient[1] / gradient[-1]
    print(f"{change:28}{size[-1]:9.0e}{differ[-1]:12.0e}{ratio:16.0e}{tokens_reached(change):16}")

# %% [markdown]
# (The gradient ratio compares what arrives after block 1 with what arrives after block 24.) Compare with *complete*:
#
# - *No norms*: size and gradient off by many powers of ten, the difference fading.
# - *No residuals*: size and gradient in range, tokens all alike.
# - *No MLP*: in range throughout. None of the columns measures bending.
# - *No attention*: in range in each column but the last. One token is reached, the changed one itself; no other ever
#   hears of it.
# - *Post-norm*: size exactly 1, the difference fading.

# %% [markdown]
# ## Do the parts matter in training?
#
# A test that each network should pass: learn thirty pictures by heart. They come from the course's own data,
# `shapes`, in ten classes. Twelve blocks, as deep as ViT-B, with PyTorch's starting weights, get fifty steps of AdamW
# (an optimiser; notebook 06 explains it). The **learning rate** says how large a step is.

# %%
pictures = datasets.shapes("train", 30)
inputs = pictures.images / 127.5 - 1  # (B, C, Y, X)
plots.show(
    plots.image_grid(pictures.images[:10], [pictures.classes[label] for label in pictures.labels[:10]], 5, 1.1),
    "Ten of the thirty pictures, each with one shape on a ground of another colour, such as a star, a heart, a cross.",
)


# %%
def learn_by_heart(change, rate, steps=50):
    """The loss of each step while twelve blocks learn the classes of the thirty pictures."""
    blocks = nn.ModuleList(stack_of_blocks(12, scale=1.0)).float()
    embed, head = PatchEmbedding(32, 8, 3, D), nn.Linear(D, 10)
    parameters = [p for part in (embed, blocks, head) for p in part.parameters()]
    optimizer, losses = torch.optim.AdamW(parameters, lr=rate), []
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


# %% [markdown] tags=["predict"]
# **Predict before you run.** Six networks: complete, post-norm, and without norms, residuals, attention or MLP. Each
# is trained with a small learning rate, 0.0001, and with one 30 times as large. The loss of a network that guesses
# among ten classes is ln 10 = 2.30. How many of the six stay near it at the small rate, how many at the large one?

# %% tags=["nbval-ignore-output"]
six = ["complete", *CHANGES[:5]]
losses = {(rate, change): learn_by_heart(change, rate) for rate in (1e-4, 3e-3) for change in six}
fig, axes = plots.figure(7, 3.2, 1, 2, sharey=True)
for ax, rate in zip(axes, (1e-4, 3e-3), strict=True):
    for change in six:
        ax.plot(losses[rate, change], color=COLOUR[change], linewidth=2, label=change)
    ax.axhline(math.log(10), color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="step", ylim=(0, 3.2))
    ax.set_title(f"learning rate {rate:g}", fontsize=10)
axes[0].set(ylabel="loss (dotted: guessing)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
final = {run: sum(series[-10:]) / 10 for run, series in losses.items()}  # mean of the last ten steps
plots.show(
    fig,
    "Training loss of six networks over 50 steps, left with learning rate 0.0001, right with 0.003. Mean of the last "
    f"ten steps: {', '.join(f'{change} {rate:g}: {loss:.1f}' for (rate, change), loss in final.items())}.",
)

# %%
small, large = ({change: final[rate, change] for change in six} for rate in (1e-4, 3e-3))
assert max(small.values()) < 1.8  # at most 1.2 in 3 starts
assert min(large[change] for change in ("no residuals", "no norms", "post-norm")) > 1.5  # at least 1.9 in 4 starts
assert max(large[change] for change in ("complete", "no attention", "no MLP")) < 1.2  # at most 0.6 in 4 starts

# %% [markdown]
# None at the small rate, three at the large one. At the small rate every network learns. That includes the one without
# residuals: in the plots above its tokens became one vector, but evidently not the same one for every picture.
#
# At the large rate three hardly get below the dotted line in these fifty steps: without residuals, without norms, and
# with the norms on the highway. The complete block learns at both. So the question is not *whether* a network can
# learn: residuals and pre-norm widen the range of learning rates at which it does. (One task, one start, two rates. Try
# others: `learn_by_heart("no norms", 1e-3)`.)

# %% [markdown]
# Without attention or MLP the thirty pictures are learned at both rates (here the lowest loss at the large one is even
# that without the MLP). To know pictures by heart takes little: the
# mean over all tokens at the end lets the tokens meet once, and attention's softmax bends too. This test shows which
# networks can be trained, not which would know pictures that they have not seen.
#
# *To remember: residuals and norms let a deep stack learn at large rates too. Attention exchanges, the MLP bends.*

# %% [markdown]
# ## Exercises
#
# Exercises 4.1 to 4.4 stand above, each beside its idea. Two more here, and one under *Going further*.
#
# ### Exercise 4.5 · The block that only looks like pre-norm
# *repair · medium · 6 minutes*
#
# The class below was meant to be a pre-norm block with dropout. Two symptoms: in eval mode the same tokens give
# different results, and after twelve blocks the tokens are no larger than before, where a pre-norm stream has grown.


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
# `(curve < 1e-6).nonzero()[0].item()` is the first place at which a curve is below.
#
# </details>

# %% tags=["exercise"]
depths = (..., ..., ...)  # number of blocks for weights times 1, 2, 3

# %%
check.collapse_depths(depths)

# %% [markdown]
# ## Going further
#
# What follows can be left out without loss: a block that begins as a straight road.
#
# ### Exercise 4.7 · LayerScale
# *stretch · hard · 6 minutes*
#
# Some deep ViTs multiply each branch's output by D trained numbers that start near 0, so that a new block hands its
# input on almost unchanged, and turns its branches up as it learns. This is **LayerScale** (Touvron et al. 2021). Write
# the pre-norm block with it: `gamma1` `(D,)` for attention, `gamma2` `(D,)` for the MLP.
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
# | LayerNorm | gives each branch tokens of size 1, token by token | the stream explodes where weights are large |
# | attention | lets tokens exchange | no token ever hears of another |
# | MLP with GELU | bends the numbers of each token | only attention's softmax bends |
# | residuals | carry the stream past each branch | tokens become one vector within a few blocks |
# | dropout, DropPath | noise against learning by heart, mean kept | (not measured here) |
#
# - Pre-norm: `x = x + attn(norm1(x))`, then `x = x + mlp(norm2(x))`. No norm ever stands on the stream.
# - With residuals, and with norms inside the branches, a deep stack also learns at a large learning rate.
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
# - Hendrycks, Gimpel 2016, *Gaussian Error Linear Units*. Devlin et al. 2019, *BERT*.
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
# The mask has one number per image, and what stays is divided by the probability of staying.


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
# Larger weights delay the collapse by a block or two. They do not prevent it.

# %% tags=["solution"]
curves = [measure("no residuals", depth=24, scale=scale)[1] for scale in (1.0, 2.0, 3.0)]
depths_solution = tuple((curve < 1e-6).nonzero()[0].item() for curve in curves)
print(depths_solution)
assert check.collapse_depths(depths_solution).passed

# %% [markdown]
# Why? Larger queries and keys give larger scores and a sharper softmax: attention picks a few tokens instead of
# averaging all. The cell below enlarges the matrices of queries and keys alone, which gives the same depths, and then
# those of the values alone, which changes nothing.


# %% tags=["solution"]
def collapse(scale, rows):
    """Blocks until the tokens are one, and the largest of 64 weights in block 1, with some matrices enlarged."""
    x = tokens
    for depth, block in enumerate(stack_of_blocks(24, scale=1.0), start=1):
        block.attn.qkv.weight.data[rows] *= scale
        if depth == 1:
            largest = block.attn(block.norm1(x), True)[1].amax(dim=-1).mean().item()
        x = run_block(block, x, "no residuals").detach()
        if difference_between(x) < 1e-6:
            return f"{depth} blocks, largest weight {largest:.2f}"


for scale in (1.0, 2.0, 3.0):
    for name, rows in (("queries and keys", slice(0, 2 * D)), ("values", slice(2 * D, 3 * D))):
        print(f"{name:16} times {scale:.0f}: {collapse(scale, rows)}")

# %% [markdown]
# ### Solution 4.7
# Gamma multiplies what comes *out* of a branch. On the stream it would shrink the highway; in front of the branch
# the norm's own gamma does that job already.


# %% tags=["solution"]
def layer_scale_solution(x, norm1, attn, gamma1, norm2, mlp, gamma2):
    x = x + gamma1 * attn(norm1(x))
    return x + gamma2 * mlp(norm2(x))


assert check.layer_scale(layer_scale_solution).passed
