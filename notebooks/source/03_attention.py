# %% [markdown]
# # 03 · Attention
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - compute self-attention by hand for three tokens, and for a batch in three lines of PyTorch;
# - say why a token needs a query, a key and a value, and show what fails with fewer;
# - measure why scores are divided by √d, and what happens to the gradient otherwise;
# - split tokens into heads, merge them again, and test that no token took another's numbers;
# - read the attention of a trained Vision Transformer, and say what it does not prove.
#
# About {minutes} minutes to read and do, in two parts; 15 s of computing on two CPU cores.
# Read [02 Positional encoding](02_positional_encoding.ipynb) first.

# %%
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import check, course, datasets, normalise, patchify, plots, widgets
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.layers import head_width
from vit_tutorial.weights import load

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(3)

# %% [markdown]
# ## Which patches does a patch listen to?

# %%
photo = datasets.sample_image("coffee", 112)  # (3, 112, 112), uint8
patches = patchify(photo[None] / 255, 8)  # (1, N, 3*8*8) with N = 14 * 14 = 196
colours = patches.reshape(196, 3, 64).mean(dim=2)  # (N, 3): mean red, green and blue of each patch
colours = F.normalize(colours - colours.mean(dim=0), dim=1)  # each row of length 1
places = {"coffee": 77, "cup": 34, "saucer": 161}  # patches by their numbers


def shares(query, sharpness):
    """How much the patch `query` takes from each patch, (N,)."""
    return (sharpness * colours[query] @ colours.T).softmax(dim=0)


fig, axes = plots.figure(7, 2.5, 1, 3)
for ax, (name, query) in zip(axes, places.items(), strict=True):
    plots.draw_attention(ax, photo, shares(query, 32), (14, 14), f"from the {name}", query)
plots.show(
    fig,
    "A photograph of a cup of coffee, three times. In each, one patch has an orange frame, and patches turn yellow by "
    "how much that patch takes from them: from the coffee, coffee and the brown table; from the cup, its white rim and "
    "wall; from the saucer, what is red.",
)

# %% [markdown]
# A patch, such as those in an orange frame, holds 8 x 8 pixels. From these alone a red one cannot know whether it
# belongs to a saucer, a wall or a car. So it looks at all 196 patches and decides what share to take from each: the
# largest from the yellow ones, next to nothing where only the photograph is seen. This is called **attention**.

# %% [markdown]
# For this picture nothing was trained: a patch takes from patches of similar colour. The cup finds its rim that way,
# but the coffee also finds the table, which is as brown. Two questions lead through the notebook. How do you compute
# the shares? And how can a network *learn* what a patch should look for, where colour is not enough?

# %% [markdown]
# ## Three tokens that look at each other

# %%
names = ["sky", "cloud", "zebra"]
tokens = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # (N, D) = (3, 2)

fig, ax = plots.figure(3.2, 2.8)
for name, (x, y), colour in zip(names, tokens.tolist(), plots.COLOURS, strict=False):
    ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
    ax.annotate(name, (x, y), (6, 8 * y - 4), textcoords="offset points", color=colour)
ax.set(xlim=(0, 1.3), ylim=(-0.1, 1.2), xlabel="bright", ylabel="striped", aspect="equal")
plots.show(
    fig,
    "Three arrows in a plane whose axes are bright and striped. Sky and cloud point almost the same way, to bright; "
    "zebra points to striped, at a right angle to sky.",
)

# %% [markdown]
# Three patches, so N = 3 tokens. Each is described by D = 2 numbers: how *bright* and how *striped* it is.
#
# How alike are two of them? Multiply them number by number and add up: the **dot product**. For sky and cloud it is
# 1.0 x 0.9 + 0.0 x 0.1 = 0.9. One matrix product computes all nine:

# %%
scores = tokens @ tokens.T  # (N, D) @ (D, N) -> (N, N): how alike are tokens i and j?
scores

# %% [markdown]
# Row i holds the **scores** of token i. Sky scores 0.9 with the cloud and 0.0 with the zebra. Check one by hand: cloud
# with cloud is 0.9 x 0.9 + 0.1 x 0.1 = 0.82. (That is less than cloud with sky, whose arrow is longer.)
#
# To mix with these numbers you need shares: positive, and summing to 1 in each row. **Softmax** makes them: *e* to the
# power of each score, divided by the sum of the row. Here is the zebra's row by hand.

# %%
powers = scores[2].exp()  # e^0.0, e^0.1, e^1.0
powers, powers / powers.sum()

# %%
weights = scores.softmax(dim=-1)  # dim=-1: along the last axis, so each *row* sums to 1
weights, weights.sum(dim=-1)

# %% [markdown]
# These shares are the **attention weights**. The scores were symmetric (sky with zebra = zebra with sky). The weights
# are not: each row has been divided by its own sum.

# %% [markdown]
# ### Exercise 3.1 · Whom will the zebra resemble?
#
# *predict · easy · 2 minutes*
#
# Each token now becomes a **weighted mean** of all three tokens, with the weights of its row. Look at the zebra's row
# and predict: which token will the zebra's new vector resemble most?
#
# - `"a"`: the sky
# - `"b"`: the cloud, for sky and cloud together outvote the zebra
# - `"c"`: the zebra itself
# - `"d"`: all three alike
#
# <details><summary>Hint</summary>
#
# Work out the two numbers of the new vector from the row 0.21, 0.23, 0.56: how bright is it, how striped? Then find
# the token that is nearest to it in the drawing above.
#
# </details>

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.zebra(answer)

# %% [markdown]
# ### Exercise 3.2 · Mix the tokens
#
# *write · easy · 3 minutes*
#
# Compute the three new vectors with one matrix product. The result is `(N, D)`: one row for each token, as before.
#
# <details><summary>Hint</summary>
#
# Row i of a product `A @ B` is the sum of the rows of B, weighted by row i of A.
#
# </details>

# %% tags=["exercise"]
mixed = ...  # your line: (N, N) @ (N, D) -> (N, D)

# %%
check.mix(mixed)

# %% [markdown]
# The explorer below shows the answer to both, and lets you move it. On the left are your tokens; a dotted line shows
# how far each reaches along the zebra: its score. Beside them are the new tokens, the zebra's the thickest, and the
# zebra's row in numbers.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Pull the cloud up until it lies on the zebra. What share does the zebra then keep for
# itself?
#
# - a: less than half
# - b: 0.50: zebra and cloud share the whole
# - c: 0.56, as before

# %%
playground = widgets.AttentionPlayground(tokens, names=names, query=2)  # query=2: ask for the zebra's row
assert torch.allclose(playground.outputs, weights @ tokens)  # (N, N) @ (N, D) -> (N, D)
playground

# %% [markdown]
# The cloud now gets as much as the zebra, {=torch.tensor([0.0, 1, 1]).softmax(0)[2]:.2f} each; the sky takes the rest,
# for its score of 0 counts as $e^0 = 1$. So a. (Point the sky straight down to make its share smaller. It never
# becomes 0, as $e$ to any power is above 0.)
#
# Press *Reset* and follow the zebra's row: 0.207 x 1.0 + 0.229 x 0.9 + 0.564 x 0.0 = 0.41. Still mostly zebra, but it
# now holds something of what is bright in the image. That is what attention is for: a token gets news from elsewhere.

# %% [markdown]
# However you drag, no new token leaves the shaded area between the tokens (at first only a line, as all three lie on
# one): a weighted mean never does. So attention moves information and makes nothing new. What is new comes from the
# learned matrices below, and from the MLP in notebook 04.

# %% [markdown]
# ### How sharp is the choice?
#
# Multiply all scores by a number before the softmax, and the patches keep their order but not their shares. The
# photograph again, with this *sharpness* to choose:


# %%
def draw_shares(look_from, sharpness):
    share = shares(places[look_from], sharpness)
    fig, (left, right) = plots.figure(6.2, 2.6, 1, 2)
    plots.draw_attention(left, photo, share, (14, 14), f"from the {look_from}", places[look_from])
    right.fill_between(range(196), share.sort(descending=True).values)
    right.set(xlabel="patches, largest share first", ylabel="share", ylim=(0, 1.05 * float(share.max())))
    right.set_title(f"largest share {share.max():.3f}", fontsize=10)
    return fig, (
        f"Left: attention from the {look_from} in the photograph at sharpness {sharpness}. Right: the 196 shares, "
        f"sorted; the largest is {share.max():.3f}."
    )


widgets.interactive_figure(draw_shares, look_from=places, sharpness=[0, 1, 4, 16, 64, 256, 4096])

# %% [markdown]
# Move the sharpness to 0: every patch gets 1/196, and the mix is the plain mean of the image. Move it to 4096: a few
# patches get nearly everything, a hard choice. Between the two lies a *soft* choice: many patches have some share, and
# a small change of a score changes the result a little. A network can learn through that, by following the gradient.
# Keep the two ends in mind: further down, scores become too sharp by accident.
#
# *To remember: scores say how well two tokens match, softmax turns each row into shares, the shares mix.*

# %% [markdown]
# ## Why three views of each token?
#
# So far a token was compared as it is. What the sky finds in the cloud, the cloud then finds in the sky: the scores are
# symmetric. But an ear may need to know where the eyes are, while an eye has no use for the ear. So each token gets
# three views, each of them the token times a matrix that is learned:
#
# | view | computed as | answers |
# |---|---|---|
# | **query** | $q = x W_q$ | what am I looking for? |
# | **key** | $k = x W_k$ | what can I be found by? |
# | **value** | $v = x W_v$ | what do I hand over? |
#
# In a library you come with a query, compare it with the keys on the spines, and take the text inside, the value.
# Attention takes a bit of every book, by how well its key fits.

# %%
W_q = torch.tensor([[0.0, 3.0], [0.0, 0.0]])  # (D, d): bright looks for stripes, stripes for nothing
W_k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # (D, d): each is found by what it is
q, k = tokens @ W_q, tokens @ W_k  # (N, d) each
q

# %%
weights = (q @ k.T).softmax(dim=-1)  # (N, N)
weights

# %% [markdown]
# The sky looks for 3.0 of "striped", and takes {=weights[0, 2]:.2f} from the zebra. The zebra's query is all zeros: it
# scores 0 with every key, and equal scores give equal weights. So it takes the mean of all. The rows always sum to 1;
# a token cannot take *nothing*.
#
# In the explorer each token now has two arrows on the left: the solid one is its query, the dashed one its key.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Choose the zebra as *Query*, and pull its query, the dot at the origin, straight down to
# (0, -1). From whom does it take most?
#
# - a: from the sky
# - b: from the cloud
# - c: from itself

# %%
widgets.AttentionPlayground(q, k, tokens, names)

# %% [markdown]
# From the sky, a little more than from the cloud: the zebra now asks for what is *not* striped, and takes least from
# itself. The keys stayed where they were.
#
# A value may say something else than the key. Here each token hands over one number, an alarm, which is 10 for
# stripes:

# %%
W_v = torch.tensor([[0.0], [10.0]])  # (D, 1)
v = tokens @ W_v  # (N, 1): 0, 1 and 10
weights @ v  # (N, N) @ (N, 1) -> (N, 1): how much alarm arrives at each token

# %% [markdown]
# The sky, which looks for stripes, hears most of it.
#
# *To remember: the query asks, the key is found, the value is handed over. Each is the token times its own learned
# matrix.*

# %% [markdown]
# ## Attention in three lines
#
# Here is the formula as Vaswani et al. wrote it (2017, equation 1). The queries are the rows of $Q$, keys and values
# the rows of $K$ and $V$:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^T}{\sqrt d}\right) V$$
#
# where softmax works on each row, and d is how many numbers a query has. Why the scores are divided by $\sqrt d$ is
# the next section; you know the rest. For six tokens, with d = 4:

# %%
q, k, v = torch.randn(3, 6, 4)  # each (N, d) = (6, 4)
scores = q @ k.T / 4**0.5  # (N, N)
weights = scores.softmax(dim=-1)  # (N, N)
parts = {"q": q, "k transposed": k.T, "scores / √d": scores, "weights (softmax)": weights, "v": v}
parts["new tokens"] = weights @ v  # (N, d)

fig, axes = plots.figure(5.6, 4.2, 2, 3)
for ax, sign, (name, matrix) in zip(axes.flat, ("@", "=", "", "@", "=", ""), parts.items(), strict=True):
    rows, columns = matrix.shape
    plots.draw_matrix(ax, matrix, f"{name}\n{rows} x {columns}", numbers=False)
    ax.set(xlim=(columns / 2 - 3.5, columns / 2 + 2.5), ylim=(rows / 2 + 2.5, rows / 2 - 3.5))  # all squares alike
    ax.annotate(sign, (1, 0.5), (9, 0), "axes fraction", "offset points", ha="center", va="center")
plots.show(
    fig,
    "Attention as two rows of heat maps, for six tokens of width 4. Above: q times k transposed, divided by the root "
    "of d, gives 6 x 6 scores. "
    "Below: softmax makes them 6 x 6 weights, and the weights times v give 6 x 4 new tokens.",
)

# %% [markdown]
# Yellow is large, dark is small, in each matrix by itself. The two large squares are N x N: what each token finds in
# each, before and after the softmax. Six tokens go in at the top left, and six come out at the bottom right.

# %% [markdown]
# ### Exercise 3.3 · The attention weights
#
# *write · medium · 6 minutes*
#
# You have all the parts. Write the weights for queries and keys of shape `(B, H, N, d)`: B images, H heads (what they
# are comes later; treat them as you treat the batch), N tokens, d numbers each. Row i of the last two axes belongs to
# query i.
#
# <details><summary>Hint</summary>
#
# `k.T` would reverse all four axes. `k.transpose(-2, -1)` swaps the last two, and `@` then works on each image and
# head.
#
# </details>


# %% tags=["exercise"]
def attention_weights(q, k):
    weights = ...  # (B, H, N, N)
    return weights


# %%
check.attention_weights(attention_weights)


# %% [markdown]
# With the mixing behind it, this is the whole of attention:


# %%
def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (..., N, N)
    weights = scores.softmax(dim=-1)  # each row sums to 1
    return weights @ v, weights  # (..., N, d), (..., N, N)


# %% [markdown]
# PyTorch has the same as one function, `scaled_dot_product_attention`. It does not return the weights: its fast
# versions never hold all of them at once (Dao et al. 2022).

# %%
q, k, v = torch.randn(3, 2, 4, 10, 16)  # each (B, H, N, d)
mixed, weights = attention(q, k, v)
assert torch.allclose(mixed, F.scaled_dot_product_attention(q, k, v), atol=1e-6)
mixed.shape, weights.shape

# %% [markdown]
# ### Break it: softmax over the wrong axis
#
# `weights` is square, so `dim=-2` runs as well as `dim=-1`. The three tokens, with the queries and keys of before,
# their scores now divided by √2:

# %%
toy_scores = tokens @ W_q @ (tokens @ W_k).T / 2**0.5  # (N, N)
fig, axes = plots.figure(6.4, 2.6, 1, 2)
for ax, dim in zip(axes, (-1, -2), strict=True):
    shown = toy_scores.softmax(dim=dim)  # (N, N)
    sums = [f"{name}: {total:.2f}" for name, total in zip(names, shown.sum(dim=-1).tolist(), strict=True)]
    plots.draw_matrix(ax, shown, f"dim={dim}, with the sum of each row", sums, names, vmin=0, vmax=1)
plots.show(
    fig,
    "Two matrices of weights. Left, softmax over dim -1: each row sums to 1. Right, over dim -2: the columns sum to 1, "
    f"the rows do not: {', '.join(sums)}.",
)

# %% [markdown]
# On the right each *column* sums to 1: a token shares itself out among those who ask. The sky's row sums to
# {=toy_scores.softmax(dim=-2)[0].sum():.2f}, the zebra's to {=toy_scores.softmax(dim=-2)[2].sum():.2f}, so neither is a
# mean any more. The shapes agree, and no error is raised. One line finds this mistake in any code:
# `weights.sum(dim=-1)` must be 1.
#
# You know one more test from notebook 02. Attention knows no order: shuffle the tokens, and the result is
# shuffled likewise, nothing else. This is called **permutation equivariance**.

# %%
order = torch.randperm(10)
shuffled, _ = attention(q[:, :, order], k[:, :, order], v[:, :, order])
assert torch.allclose(shuffled, mixed[:, :, order], atol=1e-6)

# %% [markdown]
# *To remember: `softmax(q @ k.T / sqrt(d)) @ v`, with softmax over the keys, the last axis.*

# %% [markdown]
# ## Why divide by √d?
#
# The explorer once more, with *Width d* at 512. It multiplies the scores of these two numbers by
# $\sqrt{512 / 2} = 16$, which makes them as large as scores of vectors with d = 512 numbers. (Why, you will see below.)

# %% [markdown] tags=["predict"]
# **Predict before you run.** Pull the cloud slowly straight up, to the height of the zebra. When does the zebra begin
# to take from it?
#
# - a: at once
# - b: about half-way
# - c: only near its own height

# %%
widgets.AttentionPlayground(tokens, names=names, query=2, width=512)

# %% [markdown]
# Near its own height, and then all at once: at 0.85 the cloud gets {=torch.tensor(16 * (0.85 - 1)).sigmoid():.2f}, at
# 1.15 it gets {=torch.tensor(16 * (1.15 - 1)).sigmoid():.2f}. Lower down, moving it changes next to nothing.
#
# Now press *Reset*, then *τ = √d*, which divides the scores by $\sqrt{512} = 22.6$, and pull again: the weights move
# along from the first step.
#
# Is that what width does to real scores? Measure it on random queries and keys, as in a fresh network:


# %%
def measure(d, scaled):
    """At width d: variance of the scores, largest of 64 weights (median), gradient at 300 queries (three quantiles)."""
    q, k, v = torch.randn(300, 1, d, requires_grad=True), torch.randn(300, 64, d), torch.randn(300, 64, 1)
    scores = q @ k.transpose(1, 2) / (d**0.5 if scaled else 1)  # (300, 1, 64): each query looks at 64 keys of its own
    weights = scores.softmax(dim=-1)  # (300, 1, 64)
    (weights @ v).sum().backward()
    gradient = q.grad.norm(dim=-1)  # (300, 1): how strongly the result answers to each query
    middle = gradient.quantile(torch.tensor([0.1, 0.5, 0.9]))
    return [scores.var().item(), weights.amax(dim=-1).median().item(), *middle.tolist()]


# %%
widths = [2**power for power in range(10)]  # 1, 2, 4, ..., 512
plain = torch.tensor([measure(d, scaled=False) for d in widths])  # (10 widths, 5 numbers)
divided = torch.tensor([measure(d, scaled=True) for d in widths])

fig, axes = plots.figure(7, 2.7, 1, 3)
for curves, colour, marker, label in ((plain, 0, "o-", "q · k"), (divided, 1, "s-", "q · k / √d")):
    for i, column in enumerate((0, 1, 3)):
        axes[i].plot(widths, curves[:, column], marker, color=plots.COLOURS[colour], markersize=4, label=label)
    axes[2].fill_between(widths, curves[:, 2], curves[:, 4], color=plots.COLOURS[colour], alpha=0.2, linewidth=0)
titles = "variance of the scores", "largest of 64 weights", "gradient at a query\n(shaded: middle 80 %)"
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title, fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 8, 64, 512], [1, 8, 64, 512])
    ax.set_xlabel("width d")
axes[0].set_yscale("log")
axes[2].set(yscale="log", ylim=(1e-3, 10))
axes[0].legend(frameon=False)
plots.show(
    fig,
    "Three quantities over the width d from 1 to 512, for plain scores and for scores divided by the root of d. Plain: "
    "the variance grows in step with d, the largest weight climbs to 1, and the gradients at the queries spread over "
    "more than three powers of ten. Divided: all three stay level.",
)

# %% [markdown]
# Queries and keys are random numbers of variance 1; only their width d changes. Read the panels from the left.
#
# **The scores grow.** A score is a sum of d products $q_i k_i$. Each has mean 0 and variance 1 x 1 = 1. The variances
# of independent terms add up, so the score has variance d. A typical score is about $\sqrt d$ in size.

# %%
rng = np.random.default_rng(0)
pairs_q, pairs_k = torch.from_numpy(rng.standard_normal((2, 10_000, 64)))  # 10,000 pairs of vectors with d = 64
products = pairs_q * pairs_k
print(f"variance of one product {products.var():.2f}, of their sum {products.sum(dim=1).var():.1f}")
assert abs(products.sum(dim=1).var() - 64) < 5

# %% [markdown]
# **Softmax saturates.** It sees differences: a score that is larger by 8 gets $e^8 \approx 3000$ times the weight.
# With d = 64, the width of a head in ViT-B/16, scores have a standard deviation of 8. So one of 64 tokens typically
# takes more than three quarters of the whole, by accident, before anything was learned.
#
# **The gradient becomes a lottery.** Nudge the cloud's score by 0.01. How much does each of the zebra's weights move,
# with scores as they were, and with scores 16 times as large?

# %%
zebra = tokens @ tokens[2]  # (N,): 0.0, 0.1, 1.0
nudge = torch.tensor([0.0, 0.01, 0.0])
for larger in 1, 16:
    moved = (larger * zebra + nudge).softmax(dim=0) - (larger * zebra).softmax(dim=0)
    print(f"scores x {larger:2}: weights move by", moved.abs())

# %% [markdown]
# A weight w answers to its own score with w (1 − w) times the nudge: 0.229 x 0.771 x 0.01 = 0.0018. At a weight of 0
# or 1 that is 0, and nothing moves. (The explorer's *gradient left* adds up w (1 − w) over the row.)
#
# What arrives at a *query*? On the way back from the scores the chain rule multiplies by the keys; where the scores
# were divided by $\sqrt d$, it divides as well. The third panel has all of that: the line is the median of 300
# queries, the shaded band holds the middle 80 % of them.

# %%
assert plain[6, 1] > 0.75 and plain[6, 3] > 2 * divided[6, 3]  # d = 64: largest weight, median gradient
assert plain[9, 2] < 0.001 and plain[9, 4] > 10 * divided[9, 4]  # d = 512: the lowest and the highest tenth
assert (divided[3:, 4] < 4 * divided[3:, 2]).all()  # from d = 8 on

# %% [markdown]
# Divided, most queries get gradients within a factor of 4 of each other, from d = 8 on. Plain, the typical query even
# gets *more* at d = 64, as nothing divides it. But the band opens: at d = 512 one query in ten gets less than 0.001,
# and one in ten over ten times what is usual when divided. Who gets any is a matter of luck. (Vaswani et al. suspected
# "extremely small gradients". For many queries that is what you see here, for others the opposite.)

# %% [markdown]
# The remedy: divide by $\sqrt d$, and the variance is back at 1, whatever the width.
#
# *To remember: scores have variance d. Divided by $\sqrt d$, softmax starts soft, and most queries get much the same
# gradient.*

# %% [markdown]
# ### Exercise 3.4 · When the numbers are larger
#
# *experiment · medium · 5 minutes*
#
# The root of d is right for queries and keys of standard deviation 1. In large models they can grow during training
# (Dehghani et al. 2023). Take d = 512 and a standard deviation of 2 in both. By which number must you divide the
# scores so that their variance is 1 again? Measure first, then explain your number.
#
# <details><summary>Hint</summary>
#
# `q, k = 2 * torch.randn(2, 10_000, 512)` gives pairs. Their scores are `(q * k).sum(dim=1)`. What is the standard
# deviation of the scores?
#
# </details>

# %% tags=["exercise"]
divisor = ...

# %%
check.score_divisor(divisor)

# %% [markdown] tags=["stop"]
# **A place to stop.** You can compute attention by hand and in three lines, and you know what queries, keys, values and
# the root are for. The second part takes some of them away to see what fails, does attention in several heads, and
# looks at a trained model. If you come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## What fails without them?
#
# Let a network try. Eight tokens stand in a ring. Each holds 8 random numbers, its *content*, and a mark of where it
# stands. The task is to **fetch the content of the right neighbour**. The function below trains the three matrices
# with Adam, a form of gradient descent. With `views=2` keys and values share a matrix, with `views=1` all three do.


# %%
def train_to_fetch(views=3, d=8, scale=1.0, steps=400, lr=0.03):
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(16, d) / 3) for _ in range(views)]  # (D, d) each
    W_q, W_k, W_v = matrices[0], matrices[min(views, 2) - 1], matrices[-1]
    optimizer = torch.optim.Adam(matrices, lr=lr)
    losses, largest = [], []
    for _ in range(steps):
        content = torch.randn(64, 8, 8)  # (B, N, 8)
        x = torch.cat([content, torch.eye(8).expand(64, 8, 8)], dim=2)  # (B, N, D) with D = 16
        scores = (x @ W_q) @ (x @ W_k).transpose(1, 2)  # (B, N, N)
        weights = (scale * scores).softmax(dim=-1)  # (B, N, N)
        fetched = (weights @ (x @ W_v))[..., :8]  # (B, N, 8)
        loss = F.mse_loss(fetched, content.roll(-1, dims=1))  # the last token fetches from the first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        largest.append(weights.amax(dim=-1).median().item())
    return losses, largest, weights[0].detach()


# %% [markdown] tags=["predict"]
# **Predict before you run.** Each number of the content has variance 1, so a network that always answers 0 has a loss
# of 1. How many views does it take to come close to 0?
#
# - a: one is enough
# - b: two
# - c: only three

# %%
runs = {views: train_to_fetch(views) for views in (1, 2, 3)}
fig, (curves, *squares) = plots.figure(7, 2.2, 1, 4, width_ratios=[1.6, 1, 1, 1])
for (views, (losses, _, learned)), ax in zip(runs.items(), squares, strict=True):
    curves.plot(losses)
    curves.text(400, losses[-1] + 0.1, f"views={views}", ha="right", fontsize=9)
    plots.draw_matrix(ax, learned, f"views={views}", numbers=False, vmin=0, vmax=1)
    ax.set_xlabel("from token")
curves.set(xlabel="step", ylim=(-0.02, 1.5))
curves.set_title("loss", fontsize=10)
squares[0].set_ylabel("token")
plots.show(
    fig,
    "Left: the loss over 400 steps with one, two and three views; the last losses are "
    f"{', '.join(f'{losses[-1]:.1f}' for losses, *_ in runs.values())}. Right: the 8 x 8 weights that each learned, "
    "from dark for 0 to yellow for 1; on the right neighbour lie "
    f"{', '.join(f'{learned[range(8), [*range(1, 8), 0]].mean():.1f}' for *_, learned in runs.values())} on average.",
)

# %% [markdown]
# Three: c. (Dark is 0, yellow is 1. The last row takes from the first token, as the tokens stand in a ring.) Is that a
# matter of width? Give one and two views 16 numbers in place of 8:

# %% tags=["nbval-ignore-output"]
final = {(views, 8): losses[-1] for views, (losses, *_) in runs.items()}
final |= {(views, 16): train_to_fetch(views, d=16)[0][-1] for views in (1, 2)}
for (views, d), loss in final.items():
    print(f"views={views}, d={d:2}: final loss {loss:.2f}")
assert final[1, 8] > 0.8 > 0.6 > final[2, 8] > 0.2 > 0.01 > final[3, 8]
assert final[1, 16] > 0.1 > 0.02 > final[2, 16]

# %% [markdown]
# **Two views** find nearly every neighbour. But the key must say *where*, the value *what*, and with d = 8 the same 8
# numbers must say both. With d = 16 there is room for both, and the loss goes to 0. A third view costs less: 3 x 16 x 8
# numbers in the matrices, where two wide ones have 2 x 16 x 16.

# %% [markdown]
# **One view** fails at both widths. Call it u. Token i prefers its neighbour to itself if
# $u_i \cdot u_{i+1} > u_i \cdot u_i$. One token can: the cloud preferred the sky, 0.9 to 0.82. All of a ring at once
# cannot, at any width. For any two vectors $a \cdot b \le \frac12 (a \cdot a + b \cdot b)$, and added up over the
# ring this says $\sum u_i \cdot u_{i+1} \le \sum u_i \cdot u_i$. So some token prefers itself, or is undecided.

# %% [markdown]
# ### Break it: no root
#
# The same task with three views, now with wide queries and keys: d = 512. One run divides the scores by $\sqrt d$, the
# other, called plain below, does not.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Both have the same learning rate. How do they compare?
#
# - a: the plain one takes several times as long
# - b: the plain one takes a little longer
# - c: much the same, as Adam adapts its steps to the size of the gradients

# %%
wide = {
    "q · k / √d": train_to_fetch(d=512, scale=512**-0.5, steps=300),
    "q · k": train_to_fetch(d=512, steps=300),
}
fig, axes = plots.figure(7, 2.5, 1, 2)
for (name, (*curves, _)), colour in zip(wide.items(), (plots.COLOURS[1], plots.COLOURS[0]), strict=True):
    for ax, curve in zip(axes, curves, strict=True):
        ax.plot(curve, label=name, color=colour)
        ax.set_xlabel("step")
axes[0].set(ylim=(0, 2))
axes[0].set_title("loss at d = 512", fontsize=10)
axes[1].set(ylim=(0, 1.05))
axes[1].set_title("largest of 8 weights (median)", fontsize=10)
axes[0].legend(frameon=False)
plots.show(
    fig,
    "Two curves each for scores divided by the root of d and for plain ones, over 300 steps. Left: the loss at width "
    "512. Right: the largest weight of a token.",
)

# %% tags=["nbval-ignore-output"]
solved = {}
for name, (losses, *_) in wide.items():
    solved[name] = next(step for step, loss in enumerate(losses) if loss < 0.1)
    print(f"{name:10} loss below 0.1 after {solved[name]} steps")
assert solved["q · k"] > 3 * solved["q · k / √d"]
assert min(wide["q · k"][1]) > 0.9 and wide["q · k / √d"][1][0] < 0.5

# %% [markdown]
# Several times as long: a. No error, no warning: for over a hundred steps the plain one sits near a loss of 1, as
# if it answered 0. The right panel fits that: from the first step a typical token takes everything from one, and the
# loss says that this is not the right one. Whoever listens to a wrong token alone can do no better than answer 0.
# Divided, the weights start soft, and become sharp only as the loss falls.
#
# (Is it the learning rate? Try others: `lr` is an argument of `train_to_fetch`.)

# %% [markdown]
# *To remember: leave out a view or the root, and no error is raised; the price is accuracy or time.*

# %% [markdown]
# ## Why several heads?

# %%
both = torch.tensor([[3.0, 3.0]])  # one query: who is bright or striped?
apart = torch.tensor([[3.0, 0.0], [0.0, 3.0]])  # two queries: who is bright? who is striped?
shown = torch.cat([both, apart]) @ tokens.T  # (3, N)

fig, ax = plots.figure(5.2, 2.3)
questions = ["one head: bright or striped?", "head 0: bright?", "head 1: striped?"]
plots.draw_matrix(ax, shown.softmax(dim=-1), "weights", questions, names, vmin=0, vmax=1)
plots.show(
    fig,
    "Three rows of weights over sky, cloud and zebra. One head that asks for bright or striped: 0.33 "
    "for each. Two heads that ask apart: the first gives sky and cloud 0.56 and 0.41, the second "
    "gives the zebra 0.90.",
)

# %% [markdown]
# A patch may want to know two things at once: where is it bright, and where are there stripes? With one query the two
# questions add up, and here they cancel: every token fits equally well, so the answer is the mean of all. With two
# queries, each with its own softmax, both questions get an answer.
#
# So attention is done several times in parallel, in H **heads**. Each head has its own queries, keys and values, which
# are narrower: $d = D / H$ numbers. The results are put side by side, and a last matrix $W_o$ mixes them. (The formula
# counts heads from 1, code from 0.)
#
# $$\mathrm{MultiHead}(x) = [\,\mathrm{head}_1, \ldots, \mathrm{head}_H\,]\, W_o, \qquad
# \mathrm{head}_h = \mathrm{Attention}(x W_q^h,\; x W_k^h,\; x W_v^h)$$

# %% [markdown]
# ### Heads by a loop
#
# In code the matrices of all heads are stacked into one layer, `qkv`, of width 3 D: first all queries, then all keys,
# then all values. Within the queries, the first d numbers are those of head 0.

# %%
B, N, D, H = 2, 5, 12, 3
d = head_width(D, H)  # D / H = 4, and a clear error where H does not divide D
x = torch.randn(B, N, D)
qkv, proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
q, k, v = qkv(x).chunk(3, dim=-1)  # each (B, N, D)

# %%
heads = []
for h in range(H):
    own = slice(h * d, (h + 1) * d)  # the numbers of head h
    mixed, weights = attention(q[..., own], k[..., own], v[..., own])  # (B, N, d), (B, N, N)
    heads.append(mixed)
by_loop = proj(torch.cat(heads, dim=-1))  # H times (B, N, d) -> (B, N, D)
by_loop.shape

# %% [markdown]
# Is a slice of the large layer the same as a small layer of its own? Check head 1: its query matrix is rows 4 to 7 of
# the stack.

# %%
small_q = F.linear(x, qkv.weight[4:8], qkv.bias[4:8])  # (B, N, d): x times the matrix of head 1 alone
assert torch.allclose(small_q, q[..., 4:8], atol=1e-6)

# %% [markdown]
# ### Heads by one reshape
#
# The loop is clear, but it makes H small products one after the other. If the heads become an axis of their own, in
# front of the tokens, one call of `attention` does them all, as it does all images of the batch. Numbers that tell
# where they come from show what has to happen (14 is number 4 of token 1):

# %%
toy = torch.tensor([[11.0, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]])  # (N, D) = (3, 4)
colours_of_tokens = {"decimals": 0, "vmin": 5, "vmax": 40}
fig, axes = plots.figure(6.4, 1.9, 1, 3, width_ratios=[2, 1, 1])
toy_parts = {"tokens": toy, "head 0": toy[:, :2], "head 1": toy[:, 2:]}
for ax, (title, part) in zip(axes, toy_parts.items(), strict=True):
    plots.draw_matrix(ax, part, title, ["token 1", "token 2", "token 3"], **colours_of_tokens)
plots.show(
    fig,
    "Left: three tokens of four numbers, 11 to 14, 21 to 24, 31 to 34. Right: two heads. Head 0 has "
    "11 and 12, 21 and 22, 31 and 32; head 1 has 13 and 14, 23 and 24, 33 and 34. Each head holds a "
    "part of every token.",
)

# %% [markdown]
# ### Exercise 3.5 · Split
#
# *write · medium · 4 minutes*
#
# Go from `(B, N, D)` to `(B, H, N, d)`. One `reshape` and one `transpose` are enough. Remember from notebook 01: what
# `reshape` returns holds the same numbers in the same order; only the places where a row ends are different.
#
# <details><summary>Hint</summary>
#
# D is the last axis, and the numbers of a head stand next to each other in it. First cut D into H and d; then see
# which two axes must change places.
#
# </details>


# %% tags=["exercise"]
def split_heads(x, num_heads):
    B, N, D = x.shape
    return ...  # (B, H, N, d)


# %%
check.split_heads(split_heads)

# %% [markdown]
# ### Exercise 3.6 · And merge
#
# *write · medium · 4 minutes*
#
# Go back: from `(B, H, N, d)` to `(B, N, D)`, so that the heads of each token stand side by side again.
#
# <details><summary>Hint</summary>
#
# The steps of 3.5, undone in the opposite order.
#
# </details>


# %% tags=["exercise"]
def merge_heads(x):
    B, H, N, d = x.shape
    return ...  # (B, N, D)


# %%
check.merge_heads(merge_heads)

# %% [markdown]
# Both answers, on the layers of the loop:

# %%
parts = qkv(x).chunk(3, dim=-1)  # each (B, N, D)
q, k, v = (part.reshape(B, N, H, d).transpose(1, 2) for part in parts)  # each (B, H, N, d)
mixed, weights = attention(q, k, v)  # (B, H, N, d), (B, H, N, N)
merged = mixed.transpose(1, 2).reshape(B, N, D)  # (B, N, H, d) -> (B, N, D): heads side by side
by_reshape = proj(merged)

assert torch.allclose(by_reshape, by_loop, atol=1e-6)
print("By a loop and by one reshape: the same numbers.")

# %% [markdown]
# ### Break it: merge without the transpose
#
# The classic mistake with heads: `mixed` has as many numbers as the tokens, so `mixed.reshape(B, N, D)` runs. Try
# it on the three tokens above, split into two heads.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Merged without the transpose, whose numbers does the first row hold?
#
# - a: those of token 1
# - b: half of token 1, half of token 2
# - c: some of all three tokens

# %%
toy_heads = toy.reshape(3, 2, 2).transpose(0, 1)  # (N, D) -> (N, H, d) -> (H, N, d)
right = toy_heads.transpose(0, 1).reshape(3, 4)  # (N, H, d) -> (N, D)
wrong = toy_heads.reshape(3, 4)  # (H, N, d) -> (N, D)
fig, axes = plots.figure(5.6, 1.9, 1, 2)
for ax, part, title in zip(axes, (right, wrong), ("with transpose", "without"), strict=True):
    plots.draw_matrix(ax, part, title, ["row 1", "row 2", "row 3"], **colours_of_tokens)
plots.show(
    fig,
    "The heads of three tokens, merged. The rows with the transpose: "
    f"{', '.join(str(row) for row in right.int().tolist())}. Without: "
    f"{', '.join(str(row) for row in wrong.int().tolist())}.",
)

# %% [markdown]
# Half of token 1 and half of token 2: b. The numbers are read in order, head 0 of all tokens, then head 1. The shape is
# right, and no error is raised. How do you find such a thing? With the test from above: shuffle the tokens. Code that
# keeps tokens apart gives the same rows, shuffled.

# %%
order = torch.tensor([2, 0, 4, 1, 3])
q_s, k_s, v_s = q[:, :, order], k[:, :, order], v[:, :, order]
mixed_s, _ = attention(q_s, k_s, v_s)
right = mixed_s.transpose(1, 2).reshape(B, N, D)  # (B, N, H, d) -> (B, N, D)
wrong = mixed_s.reshape(B, N, D)  # (B, H, N, d) -> (B, N, D)
print("with transpose:   ", torch.allclose(right, merged[:, order], atol=1e-6))
print("without transpose:", torch.allclose(wrong, mixed.reshape(B, N, D)[:, order], atol=1e-6))

# %% [markdown]
# *To remember: split is reshape, then transpose; merge is transpose, then reshape.*

# %% [markdown]
# ### The class
#
# This is the package's code, which all further notebooks use. Queries, keys and values come from one reshape and one
# `unbind`, and q is divided by $\sqrt d$ before the product instead of the scores after it: up to rounding the same
# scores, with N d divisions per head in place of N x N.
#
# Where nobody asks for the weights, PyTorch's own function takes over; not in training on a CPU, where it was slower
# with bfloat16 and few tokens on the machine that the course was developed on. Notebook 11 measures yours.


# %% tags=["package"]
class MultiHeadAttention(nn.Module):
    def __init__(self, embed_dim=768, num_heads=12):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_width(embed_dim, num_heads)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x, return_attention=False):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, N, d)
        if return_attention or (self.training and x.device.type == "cpu"):
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)  # (B, H, N, N)
            weights = scores.softmax(dim=-1)  # each row sums to 1
            x = weights @ v  # (B, H, N, d)
        else:
            x = F.scaled_dot_product_attention(q, k, v)  # the same in one step, weights not kept
        x = self.proj(x.transpose(1, 2).flatten(2))  # heads side by side: (B, N, D)
        return (x, weights) if return_attention else x


# %%
layer = MultiHeadAttention(embed_dim=D, num_heads=H)
layer.qkv, layer.proj = qkv, proj  # those of the loop
out, weights = layer(x, return_attention=True)
assert torch.allclose(out, by_loop, atol=1e-6)
out.shape, weights.shape

# %% [markdown]
# How many parameters? Four D x D matrices (queries, keys, values, projection) with their biases: $4 D^2 + 4 D$.
# Neither N nor H is in it. More heads cost no parameters, and the same layer takes any number of tokens.

# %%
vit_b = MultiHeadAttention(embed_dim=768, num_heads=12)  # ViT-B/16
parameters = sum(p.numel() for p in vit_b.parameters())
assert parameters == 4 * 768**2 + 4 * 768
print(f"{parameters:,} parameters in the attention of one block of ViT-B/16")

# %% [markdown]
# ## What do trained heads look at?

# %%
model = load(CHECKPOINT)  # the ViT that the course trained on CIFAR-10: 32 x 32 pixels, P = 4
cat = datasets.sample_image("cat", 32)  # (3, 32, 32), uint8
images = normalise(cat[None], model.config)  # (B, C, Y, X) = (1, 3, 32, 32)
maps = model.attention_maps(images)  # (L, B, H, N, N) with N = 1 + 8 * 8: the class token stands first
nose = 1 + 52  # tokens by their numbers, the class token being 0
sharper = datasets.sample_image("cat", 256)[None]  # (1, 3, 256, 256), to look at
widgets.AttentionExplorer(maps, cat[None], sharper, layer=4, head=1, query=nose)

# %% [markdown]
# The model sees 32 x 32 pixels, cut into 8 rows of 8 patches (the photograph is drawn sharper here). The class token,
# which notebook 02 put in front, belongs to no patch; the classification is read from it.
#
# The patch at the nose takes {=100 * maps[4, 0, 1, nose].max():.0f} % from a single one, at an eye. That is head 2 of
# layer 5 (the explorer counts from 1, code from 0). The small maps show the other heads: the same token, other choices,
# and nobody told them what to look for. (*Rollout* waits for notebook 10.) Then point at an eye, at a corner, choose
# the class token, and go through the layers.

# %% [markdown]
# Ignore one thing: what *patches* look at in layer 6. The answer is read from the class token alone, so nothing
# depends on what patches ask in the last layer, and training had no reason to shape it.
#
# Here is the class token in numbers: its largest weight, and how much it takes from the border of the image.

# %%
border = torch.ones(8, 8, dtype=torch.bool)  # the 28 patches along the edge
border[1:-1, 1:-1] = False
from_cls = maps[:, 0, :, 0]  # (L, H, N): what the class token takes from each token
largest = from_cls.amax(dim=-1).mean(dim=1)  # (L,): mean over the heads
to_border = from_cls[:, :, 1:][:, :, border.flatten()].sum(dim=-1).mean(dim=1)  # (L,)
for layer in range(6):
    print(f"layer {layer + 1}: largest weight {largest[layer]:.2f}, border {100 * to_border[layer]:2.0f} %")
assert largest[0] < 0.06 < 0.1 < largest[1:].min() and to_border[-1] < 0.3

# %% [markdown]
# Equal weights would be 1/65 = {=1 / 65:.3f}, and the border would get 28/65 = {=100 * 28 / 65:.0f} %. In layer 1 the
# largest is about {=65 * largest[0]:.0f} times an equal one, in each later layer more than six times. In the last
# layer, from which the answer is read, only {=100 * to_border[-1]:.0f} % comes from the border: the class token looks
# at the middle, where the face is.
#
# A row must sum to 1, so a head with nothing to ask still has to put its weight somewhere. In large ViTs much of it
# lands on a few patches of plain background (Darcet et al. 2024).

# %%
with torch.no_grad():
    chances = model(images).softmax(dim=-1)[0]  # (num_classes,)
likeliest = chances.topk(3)
for chance, label in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
    print(f"{model.config.classes[label]:10} {100 * chance:3.0f} %")

# %% [markdown]
# And that is the answer: the model wavers between {=model.config.classes[likeliest.indices[0]]:s} and
# {=model.config.classes[likeliest.indices[1]]:s}, and the wrong one is slightly ahead. Maps that look sensible are no
# proof of a right answer.
#
# Are these your weights? Load the trained numbers of the last block into the class that you have seen built, give it
# that block's input, and compare:

# %%
attn = MultiHeadAttention(model.config.embed_dim, model.config.num_heads)
attn.load_state_dict(model.blocks[-1].attn.state_dict())
with torch.no_grad():
    x = model.embed(images)  # (B, N, D)
    for block in model.blocks[:-1]:
        x = block(x)
    _, weights = attn(model.blocks[-1].norm1(x), return_attention=True)  # (B, H, N, N)
assert torch.allclose(weights, maps[-1], atol=1e-5)
print("The same weights as in the explorer.")

# %% [markdown]
# A word of caution. The maps show where a head takes from, in one layer. They do not show what is in the values, what
# the other layers add, or *why* the model answers as it does. And deep in the network a token is no longer about its
# own patch alone: each layer has mixed others into it. Notebook 10 is about what can be concluded and what cannot.
#
# *To remember: a map shows where a head takes from. It gives no reason.*

# %% [markdown]
# ## Exercises
#
# Exercises 3.1 to 3.6 stand above, where their ideas are.

# %% [markdown]
# ### Exercise 3.7 · Three faults in three lines
#
# *repair · medium · 8 minutes*
#
# The function below should be multi-head attention. It gets tokens and two linear layers, `qkv` and `proj`; use them
# under these names, as they come. It runs and gives the right shape, and it holds three faults, all from this
# notebook. Copy its lines into the stub and mend them one by one; the check tells which faults are left.
#
# <details><summary>Hint</summary>
#
# One fault is in the divisor, one in the softmax, one in the way back to `(B, N, D)`.
#
# </details>


# %%
def broken(x, qkv, proj, num_heads):
    B, N, D = x.shape
    q, k, v = qkv(x).reshape(B, N, 3, num_heads, D // num_heads).permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
    weights = (q @ k.transpose(-2, -1) / D**0.5).softmax(dim=-2)  # (B, H, N, N)
    return proj((weights @ v).reshape(B, N, D))  # (B, N, D)


# %% tags=["exercise"]
def repaired(x, qkv, proj, num_heads):
    B, N, D = x.shape
    return ...  # (B, N, D)


# %%
check.repair_attention(repaired)

# %% [markdown]
# ## Going further
#
# What follows can be left out without loss: what attention costs, and how to hide tokens from it.
#
# ### What does it cost?
#
# Each token looks at each token: $N^2$ weights for each head. Twice the image side makes 4 times the tokens and 16
# times the weights. In ViT-B/16 (D = 768, 12 heads), for one image and one block, at 4 bytes per weight:

# %%
for side in 224, 448, 896, 1792:
    N = (side // 16) ** 2 + 1
    memory, ratio = 12 * N**2 * 4 / 1e6, 2 * N**2 * 768 / (12 * N * 768**2)
    print(f"{side:4} pixels: N = {N:6,}, weights {memory:8,.1f} MB, pairs against matrices {ratio:.2f}")

# %% [markdown]
# The last column compares multiplications: $2 N^2 D$ for the pairs (queries with keys, weights with values),
# $12 N D^2$ for the matrices of the block (qkv 3, projection 1, MLP 8). They are equal at N = 6 D = 4,608. Memory
# counts earlier: the weights are more numbers than the tokens, 12 N x N against N x 768, from N = 64 on, and in
# training those of every block and image wait for the backward pass. Fused functions such as
# `scaled_dot_product_attention` can work through the square in tiles and never store it (Dao et al. 2022); the
# computing remains.

# %% [markdown]
# ### Exercise 3.8 · Tokens that may not be heard
#
# *stretch · hard · 10 minutes*
#
# Images of different sizes give different numbers of tokens. To put them in one batch, the shorter lists are filled
# up with empty tokens, which nobody should listen to. `keep` is `(B, N)`, True for real tokens. Write attention in
# which a token that is not kept gets a weight of 0 from everybody, while each row still sums to 1.
#
# <details><summary>Hint 1</summary>
#
# If the weights are set to 0 *after* the softmax, the rows no longer sum to 1. Which score would give a weight of
# exactly 0?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `scores.masked_fill(condition, -torch.inf)`, where the condition has a shape that fits `(B, H, N, N)` and says which
# *columns* to fill.
#
# </details>


# %% tags=["exercise"]
def masked_attention(q, k, v, keep):
    mixed = ...  # (B, H, N, d)
    return mixed


# %%
check.masked_attention(masked_attention)

# %% [markdown]
# ## Summary
#
# - Scores say how well query i fits key j, softmax turns each row into shares, the shares mix the values.
# - Queries, keys and values are three learned views. With one view scores are symmetric.
# - In width d, scores have variance d. Divided by $\sqrt d$ softmax starts soft, and most queries get
#   much the same gradient.
# - H heads ask H questions at once, each on d = D / H numbers.
# - Split: reshape, transpose. Merge: transpose, reshape. Adding up each row finds a softmax over the wrong
#   axis; shuffling the tokens finds a forgotten transpose.
# - A map shows where a head takes from, not why the model answers as it does.

# %% [markdown]
# ## What comes next
#
# Attention mixes tokens but makes nothing new of them. [04 Encoder block](04_encoder_block.ipynb) adds what is
# missing: an MLP that works on each token alone, a residual path, and normalisation, and measures what a stack of
# layers is like without them.

# %% [markdown]
# ## References
#
# - Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762): equation 1, section 3.2;
#   footnote 4 is the variance argument.
# - Bahdanau et al. 2015, [Neural Machine Translation by Jointly Learning to Align and
#   Translate](https://arxiv.org/abs/1409.0473): attention before transformers.
# - Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): appendix A for
#   multi-head self-attention in ViT.
# - Michel et al. 2019, [Are Sixteen Heads Really Better than One?](https://arxiv.org/abs/1905.10650): many heads can
#   be removed after training.
# - Dehghani et al. 2023, [Scaling Vision Transformers to 22 Billion Parameters](https://arxiv.org/abs/2302.05442):
#   scores that grow in training, and queries and keys normalised against it.
# - Darcet et al. 2024, [Vision Transformers Need Registers](https://arxiv.org/abs/2309.16588): patches without
#   content that draw attention.
# - Dao et al. 2022, [FlashAttention](https://arxiv.org/abs/2205.14135): attention without storing the N x N weights.
# - Jain and Wallace 2019, [Attention is not Explanation](https://arxiv.org/abs/1902.10186): why attention maps do not
#   say why.

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 3.1
#
# The zebra keeps 0.56 of itself. Its new vector (0.41, 0.59) lies nearest to (0, 1).

# %% tags=["solution"]
assert check.zebra("c").passed

# %% [markdown]
# ### Solution 3.2
#
# Row i of the product is the sum of all tokens, weighted by row i of the weights. (In this notebook `weights` has
# since been used for other things, so it is computed again.)

# %% tags=["solution"]
solution = (tokens @ tokens.T).softmax(dim=-1) @ tokens  # (N, N) @ (N, D) -> (N, D)
assert check.mix(solution).passed

# %% [markdown]
# ### Solution 3.3
#
# The divisor is read from q itself, so it is the width of one head, whatever H is.


# %% tags=["solution"]
def attention_weights_solution(q, k):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, N, N)
    return scores.softmax(dim=-1)


assert check.attention_weights(attention_weights_solution).passed

# %% [markdown]
# ### Solution 3.4
#
# One product has variance 2² x 2² = 16, so a score has 16 x 512, and its root is $4\sqrt{512} = 90.5$. Nobody knows
# these deviations beforehand; Dehghani et al. (2023) normalise queries and keys in ViT-22B.

# %% tags=["solution"]
many_q, many_k = 2 * torch.randn(2, 10_000, 512)  # (pairs, d) each
measured = (many_q * many_k).sum(dim=1).std()
assert abs(measured - 4 * 512**0.5) < 3
assert check.score_divisor(4 * 512**0.5).passed

# %% [markdown]
# ### Solution 3.5
#
# Break D into H and d where the numbers stand, then bring H forward.


# %% tags=["solution"]
def split_solution(x, num_heads):
    B, N, D = x.shape
    return x.reshape(B, N, num_heads, D // num_heads).transpose(1, 2)  # (B, N, H, d) -> (B, H, N, d)


assert check.split_heads(split_solution).passed

# %% [markdown]
# ### Solution 3.6
#
# On the way back, first bring H next to d.


# %% tags=["solution"]
def merge_solution(x):
    B, H, N, d = x.shape
    return x.transpose(1, 2).reshape(B, N, H * d)  # (B, N, H, d) -> (B, N, D)


assert check.merge_heads(merge_solution).passed

# %% [markdown]
# ### Solution 3.7
#
# The divisor is the root of one head's width, the softmax runs over the keys, and the heads go next to d before the
# reshape.


# %% tags=["solution"]
def repaired_solution(x, qkv, proj, num_heads):
    B, N, D = x.shape
    d = D // num_heads
    q, k, v = qkv(x).reshape(B, N, 3, num_heads, d).permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
    weights = (q @ k.transpose(-2, -1) / d**0.5).softmax(dim=-1)  # (B, H, N, N)
    return proj((weights @ v).transpose(1, 2).reshape(B, N, D))  # (B, N, D)


assert check.repair_attention(repaired_solution).passed

# %% [markdown]
# ### Solution 3.8
#
# A score of $-\infty$ becomes $e^{-\infty} = 0$ in the softmax, and the rest of the row shares out the whole.


# %% tags=["solution"]
def masked_solution(q, k, v, keep):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, N, N)
    scores = scores.masked_fill(~keep[:, None, None, :], -torch.inf)  # (B, 1, 1, N): the same columns in every row
    return scores.softmax(dim=-1) @ v  # (B, H, N, d)


assert check.masked_attention(masked_solution).passed
