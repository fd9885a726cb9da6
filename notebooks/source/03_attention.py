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
# - read the attention of a trained Vision Transformer, and say what it costs.
#
# About 60 minutes to read and do; 12 s of computing on two CPU cores.
# Read [02 Positional encoding](02_positional_encoding.ipynb) first.

# %%
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


fig, axes = plots.figure(7.2, 2.55, 1, 3)
for ax, (name, query) in zip(axes, places.items(), strict=True):
    plots.draw_attention(ax, photo, shares(query, 32), (14, 14), f"from the {name}", query)
plots.show(
    fig,
    "A photograph of a cup of coffee, three times. In each, one patch has an orange frame, and "
    "patches light up by how much that patch takes from them: from the coffee mostly coffee, from "
    "the cup the white of the cup, from the saucer all that is red.",
)

# %% [markdown]
# The patch in the orange frame holds 8 x 8 pixels. From these alone it cannot know whether its red belongs to a
# saucer, a wall or a car. So it looks at all 196 patches and decides how much to take from each: bright ones count
# much, dark ones little. Such shares are called **attention**.
#
# For this picture nothing was trained: patches listen to patches of like colour. Two questions lead through the
# notebook. How do you compute the shares? And how can a network *learn* what a patch should look for, where colour is
# not enough?

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
    "Three arrows in a plane whose axes are bright and striped. Sky and cloud point almost the same "
    "way, to bright; zebra points to striped, at a right angle to sky.",
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
# Row i holds the **scores** of token i. Sky finds the cloud alike (0.9) and the zebra not (0.0). Check one by hand:
# cloud with cloud is 0.9 x 0.9 + 0.1 x 0.1 = 0.82.
#
# To mix with these numbers you need shares: positive, and summing to 1 in each row. **Softmax** makes them: e to the
# power of every score, divided by the sum of the row. Here is the zebra's row by hand.

# %%
powers = scores[2].exp()  # e^0.0, e^0.1, e^1.0
powers, powers / powers.sum()

# %%
weights = scores.softmax(dim=-1)  # dim=-1: along the last axis, so each *row* sums to 1
weights, weights.sum(dim=-1)

# %% [markdown]
# These are the **attention weights**. The scores were a mirror image of themselves (sky with zebra = zebra with sky).
# The weights are not: every row has been divided by its own sum.

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
# A weighted mean lies closest to what has the largest weight, as long as that is more than half.
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
# Here is the answer to both, and you can move it.

# %%
playground = widgets.AttentionPlayground(tokens, names=names, query=2)  # query=2: ask for the zebra's row
assert torch.allclose(playground.outputs, weights @ tokens)  # (N, N) @ (N, D) -> (N, D)
playground

# %% [markdown]
# Left, your tokens; dotted lines show how far each reaches along the zebra: its score. In the middle the new tokens,
# the zebra's the thickest. On the right its row; check its end by hand: 0.207 x 1.0 + 0.229 x 0.9 + 0.564 x 0.0 = 0.41.
# Still mostly zebra, but it now *knows* of something bright in the image. That is what attention is for: a token gets
# news from elsewhere.
#
# **Predict before you drag:**
#
# - Pull the cloud up, onto the zebra. How much does the zebra still take from itself?
# - Where must the sky point for the zebra to take least from it? Can that become 0?

# %% [markdown]
# In the zebra's own place the cloud gets as much as the zebra, 0.42 each. Straight down the zebra's scores are lowest,
# yet $e$ to any power is above 0: everybody gets something.
#
# And no dragging moves a new token out of the shaded area between the tokens (at first only a line, as all three stand
# in a row): a mean never leaves it. So attention moves information and makes nothing new. New things come from the
# learned matrices below, and from the MLP in notebook 04.

# %% [markdown]
# ### How sharp is the choice?
#
# Multiply all scores by a number before the softmax, and the same order of patches gives other shares. The cup again,
# with this *sharpness* to choose:


# %%
def draw_shares(look_from, sharpness):
    share = shares(places[look_from], sharpness)
    fig, (left, right) = plots.figure(6.2, 2.6, 1, 2)
    plots.draw_attention(left, photo, share, (14, 14), f"from the {look_from}", places[look_from])
    right.fill_between(range(196), share.sort(descending=True).values)
    right.set(xlabel="patches, largest share first", ylim=(0, 1.05 * float(share.max())))
    right.set_title(f"largest share {share.max():.3f}", fontsize=10)
    return fig, (
        f"Left: attention from the {look_from} of the cup of coffee at sharpness {sharpness}. Right: "
        f"the 196 shares, sorted; the largest is {share.max():.3f}. The sharper, the fewer patches "
        "share the whole."
    )


widgets.interactive_figure(draw_shares, look_from=places, sharpness=[0, 1, 4, 16, 64, 256, 4096])

# %% [markdown]
# Move the sharpness to 0: every patch gets 1/196, and the patch takes the plain mean of the image. Move it to 4096: a
# few patches get all, a hard choice. Between the two lies a *soft* choice: every patch has some share, so a small
# change of any score changes the result a little. A network can learn through that, by following the gradient. Keep
# the two ends in mind: further down, scores become too sharp by accident.
#
# *To remember: scores say how well two tokens match, softmax turns each row into shares, the shares mix.*

# %% [markdown]
# ## Why three views of each token?

# %%
W_q = torch.tensor([[0.0, 3.0], [0.0, 0.0]])  # (D, d): bright looks for stripes, stripes for nothing
W_k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # (D, d): each is found by what it is
q, k = tokens @ W_q, tokens @ W_k  # (N, d) each
widgets.AttentionPlayground(q, k, tokens, names)

# %% [markdown]
# Each token now has two arrows on the left: with the solid one it asks, by the dashed one it is found. Before, both
# were the token itself, and two things were fixed: what i finds in j, j finds in i; and each token finds itself.
#
# Here the sky looks for the zebra (3.0), and the zebra not for the sky (0.0). An ear may need to know where the eyes
# are, while an eye has no use for the ear.
#
# **Predict before you drag:** pull the zebra's query, the dot at the origin, straight down to (0, -1). From whom does
# it take most?

# %% [markdown]
# From the sky, a little more than from the cloud: it now asks for what is *not* striped, and takes least from itself.
# The keys stayed where they were. So how were these queries made?

# %% [markdown]
# By three different views of the same token, each the token times a matrix that is learned:
#
# | view | computed as | answers |
# |---|---|---|
# | **query** | $q = x W_q$ | what am I looking for? |
# | **key** | $k = x W_k$ | what can I be found by? |
# | **value** | $v = x W_v$ | what do I hand over? |
#
# In a library you come with a query, compare it with the keys on the spines, and take the text inside, the value.
# Attention takes a bit of every book, by how well the key fits.

# %%
q  # (N, d): sky looks for 3.0 of "striped", the zebra for nothing

# %% [markdown]
# The zebra's query is all zeros, and its weights in the playground were 0.333 each (*Reset* brings them back). Why?

# %%
weights = (q @ k.T).softmax(dim=-1)  # (N, N)
weights

# %% [markdown]
# A query of zeros scores 0 with every key, and equal scores give equal weights: the zebra takes the mean of all. The
# rows always sum to 1, so a token cannot take *nothing*.
#
# The value may say something else than the key. Here each token hands over one number, an alarm, which is 10 for
# stripes:

# %%
W_v = torch.tensor([[0.0], [10.0]])  # (D, 1)
v = tokens @ W_v  # (N, 1): 0, 1 and 10
weights @ v  # (N, N) @ (N, 1) -> (N, 1): how much alarm arrives at each token

# %% [markdown]
# ### Would fewer views do?
#
# Let a network try. Eight tokens stand in a ring. Each holds 8 random numbers, its *content*, and a mark of where it
# stands. The task is to **fetch the content of the right neighbour**. The function below trains the three matrices
# with Adam, a form of gradient descent. With `views=2` keys and values share a matrix, with `views=1` all three do.


# %%
def train_to_fetch(views=3, d=8, scale=1.0, steps=400):
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(16, d) / 3) for _ in range(views)]  # (D, d) each
    W_q, W_k, W_v = matrices[0], matrices[min(views, 2) - 1], matrices[-1]
    optimizer = torch.optim.Adam(matrices, lr=0.03)
    losses = []
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
    return losses, weights[0].detach()


# %%
runs = {"1 view": train_to_fetch(1), "2 views": train_to_fetch(2), "3 views": train_to_fetch(3)}
fig, (curves, *squares) = plots.figure(9, 2.5, 1, 4, width_ratios=[1.5, 1, 1, 1])
for (name, (losses, learned)), ax in zip(runs.items(), squares, strict=True):
    curves.plot(losses)
    curves.text(400, losses[-1] + 0.07, name, ha="right")
    plots.draw_matrix(ax, learned, f"weights, {name}", numbers=False, vmin=0, vmax=1)
curves.set(xlabel="step", ylim=(-0.02, 1.5))
curves.set_title("loss", fontsize=10)
plots.show(
    fig,
    "Left: the loss over 400 steps. With one view it stays near 1, with two it ends about half-way, "
    "with three at 0. Right: the 8 x 8 weights that were learned. One view: spread over many tokens. Two: "
    "mostly on the right neighbour. Three: each token takes all from its right neighbour.",
)

# %% tags=["nbval-ignore-output"]
final = {name: losses[-1] for name, (losses, _) in runs.items()}
for name, loss in final.items():
    print(f"{name}: final loss {loss:.2f}")
assert final["1 view"] > 0.8 > 0.6 > final["2 views"] > 0.2 > 0.01 > final["3 views"]
taken = {name: learned[range(8), [*range(1, 8), 0]].mean() for name, (_, learned) in runs.items()}  # from the right
assert taken["1 view"] < 0.3 < 0.6 < taken["2 views"] and taken["3 views"] > 0.95

# %% [markdown]
# Each number of the content has variance 1, so a network that always answers 0 has a loss of 1.
#
# **One view** hardly beats that, and no training would help. Call the one view u. Token i prefers its neighbour to
# itself only if $u_i \cdot u_{i+1} > u_i \cdot u_i$. Add up over the ring: $\sum u_i \cdot u_{i+1} > \sum u_i \cdot
# u_i$. But any two vectors have $a \cdot b \le \frac12 (a \cdot a + b \cdot b)$, and added up over the ring this says
# the opposite.

# %% [markdown]
# **Two views** find the neighbour. But the key must say *where*, the value *what*, and here the same 8 numbers must
# say both. (A wider key with one more matrix behind it could. A third view is the direct way.)

# %% [markdown]
# *To remember: the query asks, the key is found, the value is handed over. Each is the token times its own learned
# matrix.*

# %% [markdown]
# ## Why divide by √d?

# %%
widgets.AttentionPlayground(tokens, names=names, query=2, width=512)

# %% [markdown]
# The zebra's row again, with scores as large as those of vectors with d = 512 numbers: that is what *Width d* sets. The
# zebra now takes 1.000 from itself. And *gradient left*, the sum of w (1 − w) over its weights, is 0.000: a small
# change of a score changes nothing.
#
# **Predict before you drag:** pull the cloud straight up, slowly. How far must it come before the zebra notices?
#
# Then *Reset*, press *τ = √d*, which divides the scores by $\sqrt{512} = 22.6$, and pull again.

# %% [markdown]
# At first nothing happens. Near the zebra's own height, all of it happens at once: at 0.85 the cloud gets 0.08, at 1.15
# it gets 0.92. Divided by √d, the weights move along from the first step. (*Width d* multiplies the scores of these
# two numbers by $\sqrt{d/2}$, here 16.)
#
# Is that what width does to real scores? Measure it on random queries and keys, as in a fresh network:


# %%
def measure(d, scaled):
    """Variance of the scores, largest of 64 weights and gradient at the scores, at width d."""
    q, k, v = torch.randn(300, 1, d), torch.randn(300, 64, d), torch.randn(300, 64, 1)
    scores = q @ k.transpose(1, 2)  # (300, 1, 64): one query looks at 64 keys, 300 times
    scores = (scores / d**0.5 if scaled else scores).requires_grad_()
    weights = scores.softmax(dim=-1)  # (300, 1, 64)
    (weights @ v).sum().backward()
    gradient = scores.grad.norm(dim=-1)  # (300, 1)
    return scores.var().item(), weights.amax(dim=-1).median().item(), gradient.median().item()


# %%
widths = [2**power for power in range(10)]  # 1, 2, 4, ..., 512
plain = [measure(d, scaled=False) for d in widths]
divided = [measure(d, scaled=True) for d in widths]

fig, axes = plots.figure(9, 2.6, 1, 3)
titles = "variance of the scores", "largest of 64 weights", "gradient at the scores"
for i, (ax, title) in enumerate(zip(axes, titles, strict=True)):
    ax.plot(widths, [m[i] for m in plain], "o-", markersize=4, label="q k")
    ax.plot(widths, [m[i] for m in divided], "s-", markersize=4, label="q k / sqrt(d)")
    ax.set_title(title, fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("width d")
    ax.set_yscale("linear" if i == 1 else "log")
axes[0].legend(frameon=False)
plots.show(
    fig,
    "Three quantities over the width d from 1 to 512, for plain scores and for scores divided by the "
    "root of d. Plain: the variance grows in step with d, the largest weight climbs to 1, the "
    "gradient falls fiftyfold. Divided: all three stay level.",
)

# %% [markdown]
# Queries and keys are random numbers of variance 1. Nothing changes but their width d. And yet: at d = 512 one of 64
# tokens gets nearly all the weight, and nearly no gradient comes back. Read the three panels from the left.
#
# **The scores grow.** A score is a sum of d products $q_i k_i$. Each has mean 0 and variance 1 x 1 = 1. The variances
# of independent terms add up, so the score has variance d. A typical score is as large as its root, $\sqrt d$.

# %%
q, k = torch.randn(2, 10_000, 64)  # 10,000 pairs of vectors with d = 64
products = q * k
scores = products.sum(dim=1)  # (10000,)
print(f"variance of one product {products.var():.2f}, of their sum {scores.var():.1f}")
assert abs(scores.var() - 64) < 5

# %% [markdown]
# **Softmax saturates.** It sees differences: a score that is larger by 8 gets $e^8 \approx 3000$ times the weight.
# With d = 64 such differences are usual, and by accident, before anything was learned.
#
# **The gradient vanishes.** A weight $w_i$ answers to a score $s_j$ with
#
# $$\frac{\partial w_i}{\partial s_j} = w_i\,(\delta_{ij} - w_j)$$
#
# where $\delta_{ij}$ is 1 for i = j and 0 otherwise. Every term is a product of two numbers, and with weights of 0
# and 1 one of the two is always 0. (The slopes $w_i\,(1 - w_i)$, added up, are the playground's *gradient left*.) The
# zebra's row as it was, and with scores as large as d = 512 makes them:


# %%
def slopes(scores):
    """How each weight answers to each score, (N, N)."""
    return torch.autograd.functional.jacobian(lambda s: s.softmax(dim=0), scores)


zebra = tokens @ tokens[2]  # (N,): 0.0, 0.1, 1.0
w = zebra.softmax(dim=0)
assert torch.allclose(slopes(zebra), torch.diag(w) - torch.outer(w, w))
slopes(zebra).abs(), slopes(zebra * 256**0.5).abs()  # 256 times as many numbers

# %% [markdown]
# The second matrix is all zeros to four decimals. Whatever the loss wants changed, these scores will not hear of it.
#
# The remedy: divide by $\sqrt d$, and the variance is back at 1, whatever the width. So here is the formula as
# Vaswani et al. wrote it (2017, equation 1). With all queries as rows of $Q$, and keys and values as rows of $K$ and
# $V$:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^T}{\sqrt d}\right) V$$
#
# where softmax works on each row and d is the width of a query.

# %% [markdown]
# ### Break it: the same task without the root
#
# The fetching task once more, now with wide queries and keys: d = 512. **Predict before you run:** how much faster is
# one than the other?

# %%
wide = {
    "q k / sqrt(d)": train_to_fetch(d=512, scale=512**-0.5, steps=300),
    "q k": train_to_fetch(d=512, steps=300),
}
fig, ax = plots.figure(4.6, 2.5)
for (name, (losses, _)), colour in zip(wide.items(), (plots.COLOURS[1], plots.COLOURS[0]), strict=True):
    ax.plot(losses, label=name, color=colour)
ax.set(xlabel="step", ylim=(0, 2))
ax.set_title("loss at d = 512", fontsize=10)
ax.legend(frameon=False)
plots.show(
    fig,
    "Loss of the fetching task at width 512 over 300 steps. Divided by the root of d it is soon "
    "near 0. Plain, it rests on a plateau at 1 for several times as long before it falls.",
)

# %% tags=["nbval-ignore-output"]
solved = {}
for name, (losses, _) in wide.items():
    solved[name] = next(step for step, loss in enumerate(losses) if loss < 0.1)
    print(f"{name:14} loss below 0.1 after {solved[name]} steps")
assert solved["q k"] > 3 * solved["q k / sqrt(d)"]

# %% [markdown]
# No error, no warning: the plain one sits at a loss of 1. From its first step each token was sure of a random
# neighbour, and a softmax that is sure does not change its mind. All it could learn there was to hand over zeros.
# Adam, the optimiser here, enlarges small gradients, and so gets it out at last, several times later. In a deep
# network the same would happen in each head of each layer.
#
# *To remember: scores have variance d; divide by $\sqrt d$, so that softmax stays soft and the gradient gets
# through.*

# %% [markdown]
# ## Attention in three lines

# %%
q, k, v = torch.randn(3, 6, 4)  # each (N, d) = (6, 4)
scores = q @ k.T / 4**0.5  # (N, N)
weights = scores.softmax(dim=-1)  # (N, N)
parts = {"q": q, "k transposed": k.T, "scores / √d": scores, "weights": weights, "v": v}
parts["new tokens"] = weights @ v  # (N, d)

fig, axes = plots.figure(9, 2.1, 1, 6, width_ratios=[4, 6, 6, 6, 4, 4])
for ax, (name, matrix) in zip(axes, parts.items(), strict=True):
    plots.draw_matrix(ax, matrix, f"{name}\n{len(matrix)} x {matrix.shape[1]}", numbers=False)
for ax, sign in zip(axes, ("@", "=", "→", "@", "="), strict=False):
    ax.annotate(sign, (1, 0.5), (9, 0), "axes fraction", "offset points", ha="center", va="center")
plots.show(
    fig,
    "Attention as a row of heat maps, for six tokens of width 4: q times k transposed gives 6 x 6 "
    "scores, softmax makes them 6 x 6 weights, and the weights times v give 6 x 4 new tokens.",
)

# %% [markdown]
# All of it together, for six tokens of width 4. The two squares in the middle are N x N: what everybody finds in
# everybody, before and after the softmax (the arrow). Tokens go in on the left, and as many tokens come out on the
# right.

# %% [markdown]
# ### Exercise 3.3 · The attention weights
#
# *write · medium · 6 minutes*
#
# You have all the parts. Write the weights for queries and keys of shape `(B, H, N, d)`: B images, H heads (more of
# them below; treat them as you treat the batch), N tokens, d numbers each. Row i of the last two axes belongs to
# query i.
#
# <details><summary>Hint</summary>
#
# `k.T` would turn all four axes round. `k.transpose(-2, -1)` swaps the last two, and `@` then works on each image and
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
# PyTorch has the same as one function, `scaled_dot_product_attention`. It does not return the weights, as it never
# stores them all at once.

# %%
q, k, v = torch.randn(3, 2, 4, 10, 16)  # each (B, H, N, d)
mixed, weights = attention(q, k, v)
assert torch.allclose(mixed, F.scaled_dot_product_attention(q, k, v), atol=1e-6)
mixed.shape, weights.shape

# %% [markdown]
# ### Break it: softmax over the wrong axis
#
# `weights` is a square, so `dim=-2` runs as well as `dim=-1`. The three tokens, with the queries and keys of before:

# %%
toy_scores = tokens @ W_q @ (tokens @ W_k).T / 2**0.5  # (N, N)
fig, axes = plots.figure(6.4, 2.6, 1, 2)
for ax, dim in zip(axes, (-1, -2), strict=True):
    shown = toy_scores.softmax(dim=dim)  # (N, N)
    sums = [f"{name}: {total:.2f}" for name, total in zip(names, shown.sum(dim=-1).tolist(), strict=True)]
    plots.draw_matrix(ax, shown, f"dim={dim}, with the sum of each row", sums, names, vmin=0, vmax=1)
plots.show(
    fig,
    "Two matrices of weights. Left, softmax over dim -1: each row sums to 1. Right, over dim -2: the "
    "columns sum to 1, the rows to 1.21, 1.10 and 0.69.",
)

# %% [markdown]
# On the right each *column* sums to 1: a token shares itself out among those who ask. The sky now gets 1.21 in all
# and the zebra 0.69, and none of the three is a mean any more. The shapes agree, and no error comes. One line finds
# this mistake in any code: `weights.sum(dim=-1)` must be 1.
#
# And one more test, which you know from notebook 02. Attention knows no order: shuffle the tokens, and the result is
# shuffled likewise, nothing else. This is called **permutation equivariance**.

# %%
order = torch.randperm(10)
shuffled, _ = attention(q[:, :, order], k[:, :, order], v[:, :, order])
assert torch.allclose(shuffled, mixed[:, :, order], atol=1e-6)

# %% [markdown]
# *To remember: `softmax(q @ k.T / sqrt(d)) @ v`, with softmax over the keys, the last axis.*

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
# So attention is done several times side by side, in H **heads**. Each head has its own queries, keys and values,
# which are narrower: $d = D / H$ numbers. The results are laid side by side, and a last matrix $W_o$ lets them work
# together. (The formula counts heads from 1, code from 0.)
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
# The loop is clear and slow: H small products, one after the other. If the heads become an axis of their own, in
# front of the tokens, one call of `attention` does them all, as it does all images of the batch. Numbers that tell
# where they come from show what has to happen:

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
# ### Exercise 3.4 · Split
#
# *write · medium · 4 minutes*
#
# Go from `(B, N, D)` to `(B, H, N, d)` without a loop. You need one `reshape` and one `transpose`. Remember from
# notebook 01: `reshape` never moves a number, it only breaks the same row of numbers elsewhere.
#
# <details><summary>Hint</summary>
#
# D is the last axis, and the numbers of a head stand next to each other in it. First break D into H and d; then see
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
# ### Exercise 3.5 · And merge
#
# *write · medium · 4 minutes*
#
# Go back: from `(B, H, N, d)` to `(B, N, D)`, so that the heads of each token stand side by side again.
#
# <details><summary>Hint</summary>
#
# The steps of 3.4 backwards, in the opposite order.
#
# </details>


# %% tags=["exercise"]
def merge_heads(x):
    B, H, N, d = x.shape
    return ...  # (B, N, D)


# %%
check.merge_heads(merge_heads)

# %% [markdown]
# The answer, on the layers of the loop:

# %%
parts = qkv(x).chunk(3, dim=-1)  # each (B, N, D)
q, k, v = (part.reshape(B, N, H, d).transpose(1, 2) for part in parts)  # each (B, H, N, d)
mixed, weights = attention(q, k, v)  # (B, H, N, d), (B, H, N, N)
merged = mixed.transpose(1, 2).reshape(B, N, D)  # (B, N, H, d) -> (B, N, D): heads side by side
by_reshape = proj(merged)

assert torch.allclose(by_reshape, by_loop, atol=1e-6)
fused = F.scaled_dot_product_attention(q, k, v)  # (B, H, N, d)
assert torch.allclose(proj(fused.transpose(1, 2).reshape(B, N, D)), by_loop, atol=1e-6)
print("By a loop, by one reshape and by PyTorch's own function: the same numbers.")

# %% [markdown]
# ### Break it: merge without the transpose
#
# The classic mistake of this notebook. `mixed` has as many numbers as the tokens, so `mixed.reshape(B, N, D)` runs.
# **Predict before you run:** which tokens will the first row of the result hold?

# %%
toy_heads = toy.reshape(3, 2, 2).transpose(0, 1)  # (N, D) -> (N, H, d) -> (H, N, d)
right = toy_heads.transpose(0, 1).reshape(3, 4)  # (N, H, d) -> (N, D)
wrong = toy_heads.reshape(3, 4)  # (H, N, d) read in order: head 0 of all tokens, then head 1
fig, axes = plots.figure(5.6, 1.9, 1, 2)
for ax, part, title in zip(axes, (right, wrong), ("with transpose", "without"), strict=True):
    plots.draw_matrix(ax, part, title, ["row 1", "row 2", "row 3"], **colours_of_tokens)
plots.show(
    fig,
    "Merged heads of three tokens. With the transpose each row has the four numbers of one token and "
    "one colour. Without it, row 1 holds 11, 12, 21 and 22: two different tokens, and so do the "
    "other rows.",
)

# %% [markdown]
# Row 1 got half of token 1 and half of token 2. The shape is right, and no error comes. How do you find such a thing?
# With the test of before: shuffle the tokens. Code that keeps tokens apart gives the same rows, shuffled.

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
# The package's code, which all further notebooks use. Queries, keys and values are split by one reshape and one
# `unbind`, and q is divided by $\sqrt d$ before the product instead of the scores after it: the same numbers, but N d
# divisions in place of N x N.
#
# Where nobody asks for the weights, PyTorch's own function takes over, except in training on a CPU, where it is slower
# (notebook 11).


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
layer.qkv, layer.proj = qkv, proj  # the layers of above
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
widgets.AttentionExplorer(maps, cat[None], datasets.sample_image("cat", 256)[None], head=0, query=nose)

# %% [markdown]
# The model sees 32 x 32 pixels in 8 x 8 patches (drawn sharper here), and a closer view of a cat than CIFAR-10 usually
# gives. The class token, which notebook 02 put in front, belongs to no patch; the classification is read from it.
#
# Point at the nose and compare the four heads in the small maps: the same token, four different questions, and nobody
# set them. Then an eye, a corner, the class token. Then go through the layers, from 1 on. (The explorer counts layers
# and heads from 1, code from 0.)

# %%
largest = maps[:, 0].amax(dim=-1).mean(dim=(1, 2))  # (L, H, N, N) -> (L,): mean over heads and tokens
for layer, share in enumerate(largest.tolist(), start=1):
    print(f"layer {layer}: the largest of 65 shares is {share:.2f} on average")
assert largest[0] < largest[1:5].min()

# %%
border = torch.ones(8, 8, dtype=torch.bool)  # the 28 patches along the edge, 44 % of all
border[1:-1, 1:-1] = False
over_heads = maps[:, 0, :, :, 1:].mean(dim=1)  # (L, N, 64): from each token to each patch
to_border = over_heads[:, :, border.flatten()].sum(dim=-1)  # (L, N)
for layer, part in enumerate(100 * to_border, start=1):
    from_cls, from_patches = part[0], part[1:].mean()
    print(f"layer {layer}: to the border {from_cls:2.0f} % from class token, {from_patches:2.0f} % from patches")
assert to_border[-1, 0] < 0.3

# %% [markdown]
# So much for the impression; these are the numbers. The first layer asks many patches, those in the middle choose
# (equal shares would be 1/65 = 0.015). To the border, equal shares would give 44 %. In the last layer the class token
# gives it much less: it looks at the cat's face.

# %% [markdown]
# The patches of the last layer are a special case. The answer is read from the class token alone, so nobody uses what
# they ask there, and no training ever shaped it. In the last layer, look at the class token's row.
#
# A row must sum to 1, so a head with nothing to ask still has to put its share somewhere. Large ViTs put it on empty
# background (Darcet et al. 2024).

# %%
with torch.no_grad():
    chances = model(images).softmax(dim=-1)[0]  # (num_classes,)
likeliest = chances.topk(3)
for chance, label in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
    print(f"{model.config.classes[label]:10} {100 * chance:3.0f} %")

# %% [markdown]
# That is what the model makes of it: a small network, looking at a picture unlike those it was trained on.
#
# Are these your weights? Load the trained numbers of the last block into the class that you have built, give it that
# block's input, and compare:

# %%
attn = MultiHeadAttention(model.config.embed_dim, model.config.num_heads)
attn.load_state_dict(model.blocks[-1].attn.state_dict())
with torch.no_grad():
    x = model.embed(images)  # (B, N, D)
    for block in model.blocks[:-1]:
        x = block(x)
    _, weights = attn(model.blocks[-1].norm1(x), return_attention=True)  # (B, H, N, N)
assert torch.allclose(weights, maps[-1], atol=1e-5)

# %% [markdown]
# A word of caution. The pictures show from where a head takes, in one layer. They do not show what is in the values,
# what the other layers add, or *why* the model answers as it does. A token deep in the network has long stopped being
# about its own patch alone. Notebook 10 is about what can be concluded and what cannot.

# %% [markdown]
# ## What does it cost?

# %%
D = 768  # ViT-B/16, one block, one image
sides = torch.arange(64, 1601, 32)
N = (sides // 16) ** 2 + 1
matrices = 12 * N * D**2  # multiplications: qkv 3, projection 1, MLP 8
pairs = 2 * N**2 * D  # multiplications: queries with keys, weights with values
memory = 12 * N**2 * 4  # bytes: 12 heads, 4 bytes a number

fig, (left, right) = plots.figure(8, 2.7, 1, 2)
left.plot(sides, pairs / 1e9, label="pairs of tokens: 2 N N D")
left.plot(sides, matrices / 1e9, label="matrices: 12 N D D")
left.set_title("billion multiplications in a block", fontsize=10)
left.legend(frameon=False)
right.plot(sides, memory / 1e6, color=plots.COLOURS[2])
right.set_title("attention weights in a block (MB)", fontsize=10)
for ax in (left, right):
    ax.set_xlabel("image side (pixels)")
plots.show(
    fig,
    "Left: multiplications of a ViT-B/16 block over the image side. The part for matrices leads "
    "until 1,086 pixels, then the part for pairs overtakes. Right: memory for the attention weights, "
    "1.9 MB at 224 pixels, rising to thousands of MB at 1,600.",
)

# %% [markdown]
# Each token looks at each token: $N^2$ scores for each head. Twice the image side makes 4 times the tokens and 16
# times the scores.

# %%
for side in 224, 448, 896:
    N = (side // 16) ** 2 + 1
    print(f"{side} pixels: N = {N:5,}, attention weights of one block {12 * N**2 * 4 / 1e6:8.1f} MB")

# %% [markdown]
# At 224 pixels the pairs need 4 % of what the matrices need (N = 197; the curves cross at N = 6 D = 4,608). The
# *memory* hurts first: training keeps the weights of every block and image for the backward pass. Fused functions
# such as `scaled_dot_product_attention` work through the square in tiles and never store it; the computing remains.
#
# *To remember: attention's cost grows with the square of N, and memory is felt before computing.*

# %% [markdown]
# ## Exercises
#
# Exercises 3.1 to 3.5 stand above, where their ideas are.

# %% [markdown]
# ### Exercise 3.6 · Three faults in three lines
#
# *repair · medium · 8 minutes*
#
# The function below takes tokens and two layers, and should be multi-head attention. It runs and gives the right
# shape. It holds three faults, all from this notebook. Copy its lines into the stub and mend them one by one; the
# check tells which fault is left.
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
# ### Exercise 3.7 · When the numbers are larger
#
# *experiment · medium · 5 minutes*
#
# The root of d is right for queries and keys of standard deviation 1. In long trainings they grow. Take d = 512 and a
# standard deviation of 2 in both. By which number must you divide the scores so that their variance is 1 again?
# Measure first, then explain your number.
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
# - Attention: scores say how well query i fits key j, softmax makes each row into shares, the shares mix the values.
# - Queries, keys and values are three learned views. With one view no token can prefer its neighbour to itself.
# - Scores of width d have variance d. Divided by $\sqrt d$ they keep softmax soft and the gradient alive.
# - H heads ask H questions at once, each on d = D / H numbers, for no extra parameters.
# - Split: reshape, transpose. Merge: transpose, reshape. Rows that sum to 1 and a shuffle of the tokens are tests
#   that find the classic mistakes.
# - Cost and memory grow with $N^2$.

# %% [markdown]
# ## What comes next
#
# Attention mixes tokens but makes nothing new of them. [04 Encoder block](04_encoder_block.ipynb) adds what is
# missing: an MLP that thinks about each token alone, a residual path, and normalisation, without which a stack of
# such layers would not train.

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
# The zebra keeps 0.56 of itself. The new vector (0.41, 0.59) lies nearest to (0, 1).

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
# Break D into H and d where the numbers stand, then bring H forward.


# %% tags=["solution"]
def split_solution(x, num_heads):
    B, N, D = x.shape
    return x.reshape(B, N, num_heads, D // num_heads).transpose(1, 2)  # (B, N, H, d) -> (B, H, N, d)


assert check.split_heads(split_solution).passed

# %% [markdown]
# ### Solution 3.5
#
# On the way back, first bring H next to d.


# %% tags=["solution"]
def merge_solution(x):
    B, H, N, d = x.shape
    return x.transpose(1, 2).reshape(B, N, H * d)  # (B, N, H, d) -> (B, N, D)


assert check.merge_heads(merge_solution).passed

# %% [markdown]
# ### Solution 3.6
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
# ### Solution 3.7
#
# One product has variance 2² x 2² = 16, so a score has 16 x 512, and its root is $4\sqrt{512} = 90.5$. Because nobody
# knows these deviations beforehand, very large models normalise queries and keys instead (Dehghani et al. 2023).

# %% tags=["solution"]
many_q, many_k = 2 * torch.randn(2, 10_000, 512)  # (pairs, d) each
measured = (many_q * many_k).sum(dim=1).std()
assert abs(measured - 4 * 512**0.5) < 3
assert check.score_divisor(4 * 512**0.5).passed

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
