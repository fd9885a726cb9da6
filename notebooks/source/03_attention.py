# %% [markdown]
# # 03 · Attention
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - compute self-attention by hand for three tokens, and for a whole batch in three lines of PyTorch;
# - say why a token needs a query, a key and a value, and show what fails with fewer;
# - measure why the scores are divided by $\sqrt d$, and what happens to the gradient when they are not;
# - split tokens into heads and merge them again, and test that no token took another's numbers;
# - read the attention of a trained Vision Transformer, and say what attention costs.
#
# About 60 minutes to read and do; 10 s of computing on two CPU cores.
# Read [02 Positional encoding](02_positional_encoding.ipynb) first.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import check, datasets, patchify, plots, widgets
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.layers import head_width
from vit_tutorial.training import normalise
from vit_tutorial.weights import load

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
plots.show_course_map(3)

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
    "A photograph of a cup of coffee, three times. In each, one patch has an orange frame, and patches light up by how much "
    "that patch takes from them: from the coffee mostly coffee, from the cup the white of the cup, from the saucer all that is red.",
)

# %% [markdown]
# The patch in the orange frame holds 8 x 8 pixels. From these alone it cannot know whether its red belongs to a saucer, a wall
# or a car. So it looks at all 196 patches and decides how much to take from each: bright ones count much, dark ones little.
# Such shares are called **attention**.
#
# For this picture nothing was trained: patches listen to patches of like colour. Two questions lead through the notebook.
# How do you compute the shares? And how can a network *learn* what a patch should look for, where colour is not enough?

# %% [markdown]
# ## Three tokens that look at each other


# %%
def draw_arrows(ax, vectors, title):
    """Three vectors of two numbers, one arrow each."""
    for (x, y), name, colour, shift in zip(vectors.tolist(), names, plots.COLOURS, (-12, 8, 8), strict=False):
        ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
        ax.annotate(name, (x, y), (4, shift), textcoords="offset points", color=colour)
    ax.set(xlim=(0, 1.3), ylim=(-0.1, 1.2), xlabel="bright", ylabel="striped", aspect="equal")
    ax.set_title(title, fontsize=10)


names = ["sky", "cloud", "zebra"]
tokens = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # (N, D) = (3, 2)

fig, ax = plots.figure(3.2, 2.8)
draw_arrows(ax, tokens, "three tokens")
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
# Row i holds the **scores** of token i. Sky finds the cloud alike (0.9) and the zebra not (0.0). Check one by hand: cloud
# with cloud is 0.9 x 0.9 + 0.1 x 0.1 = 0.82.
#
# To mix with these numbers you need shares: positive, and summing to 1 in each row. **Softmax** makes them: e to the power of
# every score, divided by the sum of the row. Here is the zebra's row by hand.

# %%
powers = scores[2].exp()  # e^0.0, e^0.1, e^1.0
powers, powers / powers.sum()

# %%
weights = scores.softmax(dim=-1)  # dim=-1: along the last axis, so each *row* sums to 1
weights, weights.sum(dim=-1)

# %% [markdown]
# These are the **attention weights**. The scores were a mirror image of themselves (sky with zebra = zebra with sky). The
# weights are not: every row has been divided by its own sum.

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
# Here is the answer to both, as a picture.

# %%
new_tokens = weights @ tokens  # (N, N) @ (N, D) -> (N, D)
fig, (left, middle, right) = plots.figure(7.6, 2.6, 1, 3, width_ratios=[3, 2, 4])
plots.draw_matrix(left, weights, "weights", names, names, vmin=0, vmax=1)
plots.draw_matrix(middle, new_tokens, "new tokens", names, ["bright", "striped"], vmin=0, vmax=1)
draw_arrows(right, new_tokens, "new tokens")
plots.show(
    fig,
    "Left: the weights, 3 x 3; the zebra gives itself 0.56. Middle: the new tokens, zebra now 0.41 bright and 0.59 striped. "
    "Right: the same as arrows; they have moved towards each other, sky and cloud most alike, the zebra between.",
)

# %% [markdown]
# Check the zebra by hand: bright = 0.2073 x 1.0 + 0.2291 x 0.9 + 0.5636 x 0.0 = 0.4135. It is still mostly zebra, but it now
# *knows* that there is something bright in the image. That is what attention is for: after it, a token holds news from
# elsewhere.
#
# A mean never leaves the triangle between the old tokens. Attention moves information; it makes nothing new. That is
# the work of the values below, and of the MLP in notebook 04.

# %% [markdown]
# ### How sharp is the choice?
#
# Multiply all scores by a number before the softmax, and the same order of patches gives other shares. The cup again, with this
# *sharpness* to choose:


# %%
def draw_shares(look_from, sharpness):
    share = shares(places[look_from], sharpness)
    fig, (left, right) = plots.figure(6.2, 2.6, 1, 2)
    plots.draw_attention(left, photo, share, (14, 14), f"from the {look_from}", places[look_from])
    right.bar(range(196), share.sort(descending=True).values)
    right.set(xlabel="patches, largest share first", ylim=(0, 1.05 * float(share.max())))
    right.set_title(f"largest share {share.max():.3f}", fontsize=10)
    return fig, (
        f"Left: attention from the {look_from} of the cup of coffee at sharpness {sharpness}. Right: the 196 shares as bars, "
        f"sorted; the largest is {share.max():.3f}. The sharper, the fewer patches share the whole."
    )


widgets.interactive_figure(draw_shares, look_from=places, sharpness=[0, 1, 4, 16, 64, 256, 4096])

# %% [markdown]
# Move the sharpness to 0: every patch gets 1/196, and the patch takes the plain mean of the image. Move it to 4096: a few
# patches get all, a hard choice. Between the two lies a *soft* choice: every patch has some share, so a small change of any score
# changes the result a little. A network can learn through that, by following the gradient. Keep the two ends in mind: further
# down, scores become too sharp by accident.
#
# *To remember: scores say how well two tokens match, softmax turns each row into shares, the shares mix.*

# %% [markdown]
# ## Why three views of each token?

# %%
W_q = torch.tensor([[0.0, 3.0], [0.0, 0.0]])  # (D, d): what is bright looks for stripes; stripes look for nothing
W_k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # (D, d): each is found by what it is
q, k = tokens @ W_q, tokens @ W_k  # (N, d) each

fig, (left, right) = plots.figure(5.6, 2.4, 1, 2)
plots.draw_matrix(left, tokens @ tokens.T, "tokens with tokens", names, names)
plots.draw_matrix(right, q @ k.T, "queries with keys", names, names)
plots.show(
    fig,
    "Two score matrices. Left, tokens with tokens: a mirror image about its diagonal, and the diagonal is large. Right, "
    "queries with keys: sky and cloud give the zebra 3.0 and 2.7 and everything else almost 0; the zebra's row is all 0.",
)

# %% [markdown]
# On the left tokens are compared with tokens. Two things are then fixed for ever: what i finds in j, j finds in i; and each
# token finds itself.
#
# On the right the sky looks for the zebra (3.0), and the zebra does not look for the sky (0.0). An ear may need to
# know where the eyes are, while an eye has no use for the ear. No comparison of likes can say that. So how was the right
# matrix made?

# %% [markdown]
# By three different views of the same token, each the token times a matrix that is learned:
#
# | view | computed as | answers |
# |---|---|---|
# | **query** | $q = x W_q$ | what am I looking for? |
# | **key** | $k = x W_k$ | what can I be found by? |
# | **value** | $v = x W_v$ | what do I hand over? |
#
# In a library you come with a query, compare it with the keys on the spines, and take the text inside, the value. Attention
# takes a bit of every book, by how well the key fits.

# %%
q  # (N, d): sky looks for 3.0 of "striped", the zebra for nothing

# %% [markdown]
# **Predict before you run:** the zebra's query is all zeros. What will its three weights be?

# %%
weights = (q @ k.T).softmax(dim=-1)  # (N, N)
weights

# %% [markdown]
# A query of zeros scores 0 with every key, and equal scores give equal weights: the zebra takes the mean of all. The rows always
# sum to 1, so a token cannot take *nothing*.
#
# The value may say something else than the key. Here each token hands over one number, an alarm, which is 10 for stripes:

# %%
W_v = torch.tensor([[0.0], [10.0]])  # (D, 1)
v = tokens @ W_v  # (N, 1): 0, 1 and 10
weights @ v  # (N, N) @ (N, 1) -> (N, 1): how much alarm arrives at each token

# %% [markdown]
# ### Would fewer views do?
#
# Let a network try. Eight tokens stand in a ring. Each holds 8 random numbers, its *content*, and a mark of where
# it stands. The task is to **fetch the content of the right neighbour**. The function below trains the three matrices with
# gradient descent, as you know it. With `views=2` keys and values share a matrix, with `views=1` all three do.


# %%
def train_to_fetch(views=3, d=8, scale=1.0, steps=400):
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(16, d) / 3) for _ in range(views)]  # (D, d) each
    W_q, W_k, W_v = matrices[0], matrices[min(views, 2) - 1], matrices[-1]
    optimizer = torch.optim.SGD(matrices, lr=1.0)
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
runs = {views: train_to_fetch(views) for views in (1, 2, 3)}
fig, (curves, *maps) = plots.figure(9, 2.5, 1, 4, width_ratios=[1.5, 1, 1, 1])
for (views, (losses, learned)), ax in zip(runs.items(), maps, strict=True):
    curves.plot(losses, label=f"{views} {'view' if views == 1 else 'views'}")
    plots.draw_matrix(ax, learned, f"weights, {views} {'view' if views == 1 else 'views'}", numbers=False, vmin=0, vmax=1)
curves.set(xlabel="step", title="loss", ylim=(0, 1.5))
curves.legend(frameon=False)
plots.show(
    fig,
    "Left: the loss over 400 steps. With one view it stays near 1, with two it ends near 0.5, with three near 0. Right: the "
    "8 x 8 weights that were learned. One view: nearly equal. Two: about right. Three: each token takes all from its right neighbour.",
)

# %%
for views, (losses, _) in runs.items():
    print(f"{views} of 3 views: final loss {losses[-1]:.2f}")
assert runs[1][0][-1] > 0.8 and runs[2][0][-1] > 0.2 and runs[3][0][-1] < 0.01

# %% [markdown]
# The content has variance 1, so who always answers 0 has a loss of 1.
#
# **One view** hardly beats that, and no amount of training would help. With $q = k = u$, token i prefers its neighbour only if
# $u_i \cdot u_{i+1} > u_i \cdot u_i$. Add this up over the ring: but $u_i \cdot u_{i+1} \le \frac12(u_i \cdot u_i + u_{i+1} \cdot u_{i+1})$ for any two
# vectors, and the sums contradict each other.
#
# **Two views** find the neighbour, but the key needs *where*, the value *what*, and here one vector of 8 numbers must serve
# both. (With more width and a further matrix behind it could. Three views get it for one more matrix.)

# %% [markdown]
# *To remember: the query asks, the key is found, the value is handed over. Each is the token times its own learned matrix.*

# %% [markdown]
# ## Why divide by $\sqrt d$?


# %%
def measure(d, scaled):
    """Variance of the scores, largest of 64 weights, and gradient that reaches the scores, at width d."""
    q, k, v = torch.randn(300, 1, d), torch.randn(300, 64, d), torch.randn(300, 64, 1)
    scores = q @ k.transpose(1, 2)  # (300, 1, 64): one query looks at 64 keys, 300 times
    scores = (scores / d**0.5 if scaled else scores).requires_grad_()
    weights = scores.softmax(dim=-1)  # (300, 1, 64)
    (weights @ v).sum().backward()
    gradient = scores.grad.norm(dim=-1)  # (300, 1)
    return scores.var().item(), weights.amax(dim=-1).median().item(), gradient.median().item()


widths = [2**power for power in range(10)]  # 1, 2, 4, ..., 512
plain = [measure(d, scaled=False) for d in widths]
divided = [measure(d, scaled=True) for d in widths]

fig, axes = plots.figure(9, 2.6, 1, 3)
for i, (ax, title) in enumerate(zip(axes, ("variance of the scores", "largest of 64 weights", "gradient"), strict=True)):
    ax.plot(widths, [m[i] for m in plain], "o-", markersize=4, label="q k")
    ax.plot(widths, [m[i] for m in divided], "s-", markersize=4, label="q k / sqrt(d)")
    ax.set_title(title, fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("width d")
    ax.set_yscale("linear" if i == 1 else "log")
axes[0].legend(frameon=False)
plots.show(
    fig,
    "Three quantities over the width d from 1 to 512, for plain scores and for scores divided by the root of d. Plain: the "
    "variance grows in step with d, the largest weight climbs to 1, the gradient falls a hundredfold. Divided: all three stay level.",
)

# %% [markdown]
# Queries and keys here are random numbers of variance 1, as in a fresh network. Nothing changes but their width d. And yet: at
# d = 512 one of 64 tokens gets nearly all the weight, and nearly no gradient comes back. Read the three panels from the left.
#
# **The scores grow.** A score is a sum of d products $q_i k_i$. Each has mean 0 and variance 1 x 1 = 1. The variances of independent
# terms add up, so the score has variance d. A typical score is as large as its root, $\sqrt d$.

# %%
q, k = torch.randn(2, 10_000, 64)  # 10,000 pairs of vectors with d = 64
products = q * k
print(f"variance of one product {products.var():.2f}, of their sum {products.sum(dim=1).var():.1f}")
assert abs(products.sum(dim=1).var() - 64) < 5

# %% [markdown]
# **Softmax saturates.** It sees differences: a score that is larger by 8 gets $e^8 \approx 3000$ times the weight. With d = 64
# such differences are usual, and by accident, before anything was learned.
#
# **The gradient vanishes.** A weight $w_i$ answers to a score $s_j$ with
#
# $$\frac{\partial w_i}{\partial s_j} = w_i\,(\delta_{ij} - w_j), \qquad \delta_{ij} = 1 \text{ if } i = j, \text{ else } 0.$$
#
# Every term is a product of two numbers, and with weights of 0 and 1 one of the two is always 0. The zebra's row as it was, and with
# scores as large as d = 512 makes them:


# %%
def slopes(scores):
    """How each weight answers to each score, (N, N)."""
    return torch.autograd.functional.jacobian(lambda s: s.softmax(dim=0), scores)


zebra = tokens @ tokens[2]  # (N,): 0.0, 0.1, 1.0
w = zebra.softmax(dim=0)
assert torch.allclose(slopes(zebra), torch.diag(w) - torch.outer(w, w))
slopes(zebra), slopes(zebra * 512**0.5)

# %% [markdown]
# The second matrix is all zeros to four decimals. Whatever the loss would like to change, it cannot tell these scores.
#
# The remedy: divide by $\sqrt d$, and the variance is back at 1, whatever the width. So here is the formula as Vaswani et al. wrote it
# (2017, equation 1). With all queries as rows of $Q$, and keys and values as rows of $K$ and $V$:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^T}{\sqrt d}\right) V$$
#
# where softmax works on each row and d is the width of a query.

# %% [markdown]
# ### Break it: the same task without the root
#
# The fetching task once more, now with wide queries and keys: d = 512. **Predict before you run:** which of the two learns?

# %%
wide = {"divided": train_to_fetch(d=512, scale=512**-0.5, steps=200), "plain": train_to_fetch(d=512, steps=200)}
fig, ax = plots.figure(4.4, 2.5)
for name, (losses, _) in wide.items():
    ax.plot(losses, label=name)
ax.set(xlabel="step", title="loss at d = 512", ylim=(0, None))
ax.legend(frameon=False)
plots.show(fig, "Loss of the fetching task at width 512 over 200 steps: divided by the root it falls to 0, plain it does not.")
