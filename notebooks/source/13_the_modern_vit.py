# %% [markdown]
# # 13 · The modern ViT
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - turn queries and keys by their places, and prove that only differences of places remain;
# - say what registers, LayerScale, RMSNorm, QK-norm and SwiGLU are for, and write them;
# - say which of them DINOv2, DINOv3 and SigLIP have;
# - swap one part at a time into a ViT and judge by seeds and intervals whether it pays;
# - test how far a model takes larger images without interpolation.
#
# About {minutes} minutes to read and do, in two parts; 100 s of computing on two CPU cores. Read
# [02 Positional encoding](02_positional_encoding.ipynb) to [05 Vision Transformer](05_vision_transformer.ipynb) first,
# and [08 Small data](08_small_data.ipynb) for intervals.

# %%
import copy
import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import (
    ModernConfig,
    ModernViT,
    VisionTransformer,
    ViTConfig,
    check,
    course,
    datasets,
    plots,
    set_image_size,
    training,
    widgets,
)
from vit_tutorial.files import DATA
from vit_tutorial.layers import MLP, DropPath, MultiHeadAttention

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(13)

# %% [markdown]
# ## Four tokens that show nothing

# %%
record = json.loads((DATA / "runs" / "registers.json").read_text())
shallow = [run for run in record["runs"] if run["depth"] == 4]
without, having = ([run for run in shallow if run["registers"] == R] for R in (0, 4))  # three seeds of each
kinds = {"class token,\nno registers": (without, 0), "class token,\n4 registers": (having, 0)}
kinds |= {f"register {r}": (having, r) for r in range(1, 5)}
fig, axes = plots.figure(7.2, 3.5, 3, 7)
for row, picture in enumerate(datasets.shapes("test", 3).images):
    plots.draw_image(axes[row, 0], picture)
    for ax, (runs, token) in zip(axes[row, 1:], kinds.values(), strict=True):
        weights = torch.tensor(runs[0]["drawn"][row][token])  # (64,)
        plots.draw_matrix(ax, weights.reshape(8, 8), numbers=False, vmin=0, vmax=255)  # (rows, columns)
for ax, title in zip(axes[0], ("the picture", *kinds), strict=True):
    ax.set_title(title, fontsize=9)
plots.show(
    fig,
    "Three pictures of shapes, each followed by six maps of 8 x 8 patches: where the class token looks in a model "
    "without registers and in one with four, and where each register looks. Nearly all bright patches lie on or around "
    "the shape. The registers' four maps and that of the class token beside them are nearly the same. In the second "
    "row the model without registers has a bright patch far from the shape, the other model has not.",
)

# %% [markdown]
# This is a recorded run of two small ViTs that learned to name shapes. The second has four tokens more, between class
# token and patches: **registers**. Each is a learned vector that belongs to no place, and no head reads it: after the
# last block it is thrown away.
#
# A map shows where one token looks in the last layer, the mean of the heads, on its own scale: bright is much. From
# left to right: the picture; the class token without registers, then with them; the four registers. The pictures are
# the first three of the test set, not chosen.

# %% [markdown]
# **Why add tokens that show nothing?** Darcet et al. 2024 looked into large models, such as DINOv2. About 2 % of the
# patches had tokens some ten times as long as the rest. They lay on dull background, and knew little of their own place
# and much of the whole picture: the models used them as scratch paper. In an attention map they are bright
# specks on nothing. With registers to write on, models left the background alone.
#
# Compare columns two and three. In the ring's row a speck is gone, lower right. **Did the registers do that?** Three
# models of each kind and 500 pictures with masks can tell.


# %%
def of_runs(read):
    """One number of each run: (2, 3), without registers and with them, three seeds."""
    return torch.tensor([[read(run) for run in runs] for runs in (without, having)])


table = {  # of the class token's attention in the last layer, per cent
    f"on {part}": of_runs(lambda run, part=part: 100 * run["scores"]["class token"][part][-1])
    for part in ("object", "background", "class token", "registers")
}
table["object/patches"] = 100 * table["on object"] / (table["on object"] + table["on background"])
table["brightest patch on object"] = of_runs(lambda run: 100 * run["scores"]["pointing"][-1])
table["longest/median"] = of_runs(lambda run: run["scores"]["longest patch"][-1])
table["accuracy"] = of_runs(lambda run: 100 * run["accuracy"])
table["registers taken out"] = of_runs(lambda run: 100 * run.get("accuracy without them", run["accuracy"]))
print(f"{'':26}{'no registers':>18}{'4 registers':>18}")
for name, seeds in table.items():
    print(f"{name:26}", *(f"{value:5.1f}" for value in seeds.flatten()))
assert table["longest/median"].max() < 2 and (table["accuracy"][0] > table["accuracy"][1]).all()

# %% [markdown]
# The first four rows say where the class token looks (per cent, as all but longest/median). **Hardly anything
# happened.**
#
# - **There was nothing to clean.** With registers or without, a picture's longest patch token is on average
#   {=table["longest/median"].min():.1f} to {=table["longest/median"].max():.1f} times as long as the median.
#   None stands out.
# - **The maps are no cleaner.** Of what patches get, the object has {=table["object/patches"][0].min():.0f} to
#   {=table["object/patches"][0].max():.0f} %, with registers {=table["object/patches"][1].min():.0f} to
#   {=table["object/patches"][1].max():.0f} %. It is the seeds that differ.

# %% [markdown]
# - **The registers idle.** In the figure they look where the class token looks. It gives all four
#   {=table["on registers"][1].min():.1f} to {=table["on registers"][1].max():.1f} %; four of 1 + 4 + 64 tokens
#   would have {=400 / 69:.1f} % if all got the same. Take them out of the trained model, and the accuracy changes by
#   {=(table["registers taken out"] - table["accuracy"])[1].min():+.1f} to
#   {=(table["registers taken out"] - table["accuracy"])[1].max():+.1f} points.
# - **The accuracy is lower** with them, from each of three seeds. Is that enough to say so? Part 2 asks again.

# %% [markdown]
# The paper is not contradicted: it saw long tokens in its large models only, after a third of a long training. **What
# a large model needs can idle in a small one.** So ask of each part: which problem is it for, and do *you* have that
# problem?

# %% [markdown]
# ## What newer ViTs have
#
# Registers are one of six parts that notebook 05's ViT lacks and newer ones have:
#
# | part | the question it answers | DINOv2 with registers | DINOv3 | SigLIP |
# |---|---|---|---|---|
# | **rotary positions** | How can a score depend on how far apart two patches are? | – | yes | – |
# | **registers** | Where can a model note what is true of the whole picture? | 4 | 4 | – |
# | **LayerScale** | How does a deep stack start gently? | yes | yes | – |
# | **SwiGLU** | Can one half of the MLP decide what passes of the other? | the largest | some sizes | – |
# | **RMSNorm** | Does a norm need the mean? | – | – | – |
# | **QK-norm** | What keeps the scores of attention small? | – | – | – |
#
# For the last two look elsewhere: AIMv2 has RMSNorm (Fini et al. 2024), ViT-22B QK-norm (Dehghani et al. 2023).
#
# **Part 1** turns positions instead of adding them, and tries larger images. **Part 2** builds what changed inside
# the block, and swaps each part alone into the course's ViT.

# %% [markdown]
# ## Which part of a score is about the place?
#
# Notebook 02 added a vector to each token for the place where it lies, and for another image size the table of these
# vectors had to be interpolated. What does the addition do to the scores of attention?
#
# Take sky, cloud and zebra from notebook 03, in whole numbers. For the positions take the tip of one of 02's clock
# hands, one that makes a quarter turn for each place:

# %%
tokens = torch.tensor([[2, 0], [2, 1], [0, 2]])  # (N, D) = (3, 2): sky, cloud, zebra
tips = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])  # (4, D): sine and cosine of 0, 1, 2 and 3 quarter turns
for start in 0, 1:
    placed = tokens + tips[start : start + 3]  # (N, D)
    print(f"at places {start}, {start + 1}, {start + 2}:", (placed @ placed.T).tolist())  # (N, N)

# %% [markdown]
# The same tokens in the same order, one place further on, and every score is another. The sum shows why:
#
# $$(x_m + p_m) \cdot (x_n + p_n) = x_m \cdot x_n + x_m \cdot p_n + p_m \cdot x_n + p_m \cdot p_n$$
#
# The first term is about *what* the tokens hold, the last about *where* they lie: for sinusoids, only how far apart.
# The two in the middle mix one token's content with the other's place, and change with every move.
#
# A wish: let a score depend on what both tokens hold and on how far apart they lie, and on nothing else.

# %% [markdown]
# ## Turn instead of adding
#
# Instead of adding the hand, turn the token itself: not at all at place 0, by a quarter at place 1, by a half at place
# 2. A quarter turn takes (a, b) to (-b, a):


# %%
def quarter_turns(x, n):
    """The token x, two numbers, turned n times by a quarter."""
    for _ in range(n):
        x = torch.stack([-x[1], x[0]])
    return x


turned = torch.stack([quarter_turns(x, n) for n, x in enumerate(tokens)])  # (N, D)
turned

# %%
scores = turned @ turned.T  # (N, N)
scores

# %% [markdown]
# Check one: sky (2, 0) with the cloud, now (-1, 2), gives 2 x (-1) + 0 x 2 = -2. Unturned it was 4. So the distance
# counts: one place apart, what was alike no longer is. The diagonal is as before: each token lies at distance 0
# from itself.

# %% [markdown] tags=["predict"]
# **Predict before you run.** All three tokens move one place on, to 1, 2 and 3. Each is turned by one more quarter.
# How many of the nine scores change?
#
# - a: all, as with added positions
# - b: those beside the diagonal
# - c: none

# %%
moved = torch.stack([quarter_turns(x, n + 1) for n, x in enumerate(tokens)])  # (N, D)
print("tokens", moved.tolist())
print("scores", (moved @ moved.T).tolist())
assert torch.equal(moved @ moved.T, scores)

# %%
colours = {"sky": plots.COLOURS[0], "cloud": plots.COLOURS[1], "zebra": "black"}
fig, axes = plots.figure(5.6, 2.8, 1, 2)
for ax, arrows, start in (axes[0], turned, 0), (axes[1], moved, 1):
    around = torch.linspace(0, 2 * math.pi, 100)
    ax.plot(2 * around.cos(), 2 * around.sin(), color="#999999", linewidth=1)
    for name, (x, y), colour in zip(colours, arrows.tolist(), colours.values(), strict=True):
        ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
        ax.text(1.3 * x, 1.3 * y, name, color=colour, ha="center", va="center")
    ax.set(xlim=(-3.2, 3.2), ylim=(-3.1, 3.1), aspect="equal")
    ax.set_title(f"at places {start}, {start + 1}, {start + 2}", fontsize=10)
    ax.set_axis_off()
plots.show(
    fig,
    "Two circles with three arrows each. Left, sky points right, cloud up and a little left, zebra down. Right, the "
    "same three arrows, all turned against the clock by a quarter: the angles between them are the same.",
)

# %% [markdown]
# None: c. All three arrows have turned together, and a dot product sees lengths and the angle *between* two arrows.
#
# In a model it is not the tokens that are turned, but their queries and keys, anew in each block. This is called
# **rotary position embedding**, RoPE for short (Su et al. 2021).

# %% [markdown]
# ## Why only the difference remains
#
# Write $R_m$ for the matrix that turns by the angle of place $m$. The query at place $m$ and the key at place $n$
# have the score
#
# $$
# \begin{aligned}
# (R_m q) \cdot (R_n k) &= q \cdot (R_m^T R_n k) && \text{a matrix changes sides by being transposed} \\
# &= q \cdot (R_{-m} R_n k) && \text{a transposed turn is the turn back} \\
# &= q \cdot (R_{n-m} k) && \text{turns add up}
# \end{aligned}
# $$
#
# Only $n - m$ is left, with its sign, and $q$ and $k$ may be any vectors. Test it with random ones and any shift, in
# double precision:


# %%
def turn(angle):
    """The matrix (2, 2) that turns by `angle`, in radians."""
    sin, cos = math.sin(angle), math.cos(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


def score(q, k, m, n, frequency=0.3):
    return (turn(frequency * m) @ q) @ (turn(frequency * n) @ k)


rng = np.random.default_rng(0)
for m, n, shift in rng.integers(-1000, 1000, (200, 3)).tolist():
    q, k = torch.from_numpy(rng.normal(size=(2, 2)))
    assert abs(score(q, k, m + shift, n + shift) - score(q, k, m, n)) < 1e-9
print(f"{score(q, k, 2, 5):.4f} {score(q, k, 102, 105):.4f}, but one place more: {score(q, k, 2, 6):.4f}")

# %% [markdown]
# *To remember: turn queries and keys by their places, and their scores know differences of places alone.*

# %% [markdown]
# ### Exercise 13.1 · Which score is the same?
#
# *predict · easy · 2 minutes*
#
# A query is turned for place 2, a key for place 5. Now the same query and the same key go to
# other places (query's first). For which is the score the same, whatever the two vectors hold?
#
# - `"a"`: (5, 2)
# - `"b"`: (0, 3)
# - `"c"`: (4, 10)
# - `"d"`: (3, 5)
#
# <details><summary>Hint</summary>
#
# Work out $n - m$ for each, with its sign. Is $q \cdot (R_{-\alpha} k)$ the same as $q \cdot (R_{\alpha} k)$?
#
# </details>

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.same_score(answer)

# %% [markdown]
# ## One hand comes round too soon
#
# After four quarter turns you are back: place 4 is place 0. In 02 one hand took place 44 for place 0, and the cure
# is the same, several hands: fast ones tell neighbours apart, slow ones say which round it is. A query of d numbers
# has d/2 pairs, and each pair is a hand with a frequency of its own. For d = 4, with the frequencies 1 and 0.1:

# %%
frequencies = torch.tensor([1.0, 0.1])  # (d/2,): radians for each place
angles = torch.arange(4)[:, None] * frequencies  # (N, d/2): place times frequency
angles

# %% [markdown]
# Which numbers make a pair? Here, as in DINOv3, number i and number i + d/2, one from each half of the vector. (Su et
# al. pair neighbours. A trained model works with its own pairs only.)
#
# By hand: the vector (1, 2, 3, 4) has the pairs (1, 3) and (2, 4). Turn the first by a quarter and the second by a
# half: (-3, 1) and (-2, -4). Put back, that is (-3, -2, 1, -4). For any angle $\alpha$, a pair $(a, b)$ becomes
# $(a \cos\alpha - b \sin\alpha,\ b \cos\alpha + a \sin\alpha)$.

# %% [markdown]
# ### Exercise 13.2 · Turn every pair
#
# *write · easy · 4 minutes*
#
# Turn the vectors `x` `(N, d)` by `angles` `(N, d/2)`, in radians: numbers i and i + d/2 of a vector are a pair, and
# turn by its angle i. The result is `(N, d)`, each number at its place.
#
# <details><summary>Hint</summary>
#
# `a, b = x.chunk(2, dim=-1)` gives the two halves, `(N, d/2)` each: all first numbers of the pairs, and all second
# ones. `torch.cat` joins what becomes of them. The example above is a test.
#
# </details>


# %% tags=["exercise"]
def my_turn(x, angles):
    return ...  # (N, d)


# %%
check.rotary_turn(my_turn)

# %% [markdown]
# ## A patch has a row and a column
#
# As in 02, each coordinate gets one half: half of the pairs turn by the row, half by the column. For 2 rows and 3
# columns of patches, d = 8 and the same two frequencies:

# %%
places = torch.cartesian_prod(torch.arange(2), torch.arange(3))  # (6, 2): row and column of each patch, row by row
angles = places[:, :, None] * frequencies  # (6, 2, d/4): for each coordinate, times each frequency
angles = angles.flatten(1)  # (6, d/2)
angles

# %% [markdown]
# The last patch lies in row 1, column 2: angles 1 and 0.1 for the row, 2 and 0.2 for the column. From now on P counts
# patches, as in the package's code, and N all tokens.

# %% [markdown]
# ### Exercise 13.3 · The angles of a grid
#
# *write · medium · 6 minutes*
#
# Write the angles for any grid and width: `(P, d/2)`, patches row by row. The first d/4 angles of a patch are its row
# times each frequency, the other d/4 its column times each. The frequencies are `temperature ** (-4 * i / d)` for i
# from 0 to d/4 - 1.
#
# <details><summary>Hint</summary>
#
# The cell above does it for one grid. For d = 8 and a temperature of 100 the frequencies are 1 and 0.1, so its output
# is a test.
#
# </details>


# %% tags=["exercise"]
def my_angles(rows, columns, d, temperature):
    return ...  # (P, d/2)


# %%
check.grid_angles(my_angles)

# %% [markdown]
# The package keeps sines and cosines instead of angles, each twice: once for either number of a pair. (The kind
# `"dinov3"` comes further down.)


# %% tags=["package"]
class RotaryEmbedding(nn.Module):
    def __init__(self, head_dim, kind="axial", temperature=100.0):
        super().__init__()
        self.head_dim, self.kind, self.temperature = head_dim, kind, temperature

    def get_embed(self, shape, device=None):
        y, x = (torch.arange(count, device=device, dtype=torch.float32) for count in shape)
        if self.kind == "dinov3":
            y, x = (2 * math.pi * (2 * (place + 0.5) / len(place) - 1) for place in (y, x))
        i = torch.arange(self.head_dim // 4, device=device)
        frequencies = self.temperature ** (-4 * i / self.head_dim)  # (d/4,)
        angles = torch.cartesian_prod(y, x)[:, :, None] * frequencies  # (P, 2, d/4)
        angles = angles.flatten(1).repeat(1, 2)  # (P, d): numbers i and i + d/2 of a vector are a pair
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (P, 2d)


# %%
rope = RotaryEmbedding(8).get_embed((2, 3))  # (P, 2d) = (6, 16)
assert torch.allclose(rope[:, :4], angles.sin()) and torch.allclose(rope[:, 8:12], angles.cos())
assert not list(RotaryEmbedding(8).parameters())  # nothing to learn, and nothing to interpolate

# %% [markdown]
# ## Who is turned, and who is not?
#
# The class token and the registers lie nowhere in the image. They stand first in the list, and `rotate` leaves them
# as they are:


# %% tags=["package"]
def rotate(x, rope):
    sin, cos = rope.chunk(2, dim=-1)  # each (P, d)
    first, x = x[..., : -len(rope), :], x[..., -len(rope) :, :]
    a, b = x.chunk(2, dim=-1)
    turned = x * cos + torch.cat([-b, a], dim=-1) * sin  # (B, H, P, d)
    return torch.cat([first, turned.to(x.dtype)], dim=-2)


# %%
x = torch.from_numpy(rng.normal(size=(1, 1, 2 + 6, 8)))  # (B, H, N, d): class token, one register, six patches
found = rotate(x, rope)
assert torch.equal(found[:, :, :2], x[:, :, :2])
for patch in range(6):
    for i in range(4):  # pair by pair, with the matrix from above
        pair, angle = [i, i + 4], angles[patch, i].item()
        assert torch.allclose(found[0, 0, 2 + patch, pair], turn(angle) @ x[0, 0, 2 + patch, pair], atol=1e-6)

# %% [markdown]
# Not turned is turned by 0. So between a class token and a patch the place does count, as if the class token lay where
# all angles are 0. An unturned sky as the query, and turned skies at the places 0 to 3:

# %%
[(tokens[0] @ quarter_turns(tokens[0], n)).item() for n in range(4)]

# %% [markdown]
# From patch to patch only differences count; between a class token or register and a patch, the patch's place. So a
# model that adds no positions can still tell a corner from the middle.
#
# And the **values**? They are not compared but handed over. Here is what the sky takes from all three, with values as
# they are and with values turned like the keys:

# %%
for arrows, start in (turned, 0), (moved, 1):
    weights = (arrows @ arrows.T).float().softmax(dim=-1)  # (N, N): the same both times
    as_is, with_keys = weights[0] @ tokens.float(), weights[0] @ arrows.float()  # (D,) each
    print(f"from place {start}: values as they are {as_is}, values turned {with_keys}")

# %% [markdown]
# With plain values the sky hears the same, wherever the three lie. Turned values let the place in again by the back
# door: the same content arrives as other numbers at each place.
#
# *To remember: turn queries and keys of patches; leave values, class token and registers alone.*

# %% [markdown]
# ### Which places does a query prefer?
#
# Give all patches one query and one key, all ones, so that only places count. A patch in row 6, column 4 asks:

# %%
rope = RotaryEmbedding(64).get_embed((14, 14))  # (P, 2d) = (196, 128)
ones = torch.ones(1, 1, 196, 64)  # (B, H, N, d)
keys = rotate(ones, rope)[0, 0]  # (P, d)
asks = 6 * 14 + 4  # row 6, column 4, counted from 0
by_row = torch.arange(64) % 32 < 16  # (d,): the numbers whose pairs turn by the row
ahead = keys[3].expand_as(ones)  # ones that have already been turned by 3 columns, as a query
maps = {"the row's pairs": keys[asks] * by_row @ keys.T, "the column's pairs": keys[asks] * ~by_row @ keys.T}
maps |= {"all pairs": keys[asks] @ keys.T, "a query that looks ahead": rotate(ahead, rope)[0, 0, asks] @ keys.T}

# %%
fig, axes = plots.figure(8, 2.3, 1, 4)
for ax, (title, scores_of_all) in zip(axes, maps.items(), strict=True):
    plots.draw_matrix(ax, scores_of_all.reshape(14, 14), title, numbers=False)  # (P,) -> (rows, columns)
    ax.plot(4, 6, "o", color=plots.COLOURS[1], markersize=6)
plots.show(
    fig,
    "Scores of one query with all 14 x 14 places, four heat maps. The row's pairs: a bright stripe along the query's "
    "row. The column's pairs: a bright stripe along its column. All pairs: a bright spot at the query, on a cross. A "
    "query that looks ahead: the same spot and cross three columns to the right of the query.",
)
assert maps["all pairs"].argmax() == asks and maps["a query that looks ahead"].argmax() == asks + 3

# %% [markdown]
# Yellow is a panel's highest score, the dot the patch that asks. With all pairs that patch itself is brightest. But
# RoPE does not tell a query to look near. In the last panel the query *holds* other numbers, the ones turned by three
# columns, and its highest score lies three columns to the right. What a query holds comes from learned weights; so a
# head can learn to look ahead, down, or along its row.

# %% [markdown]
# ### Exercise 13.4 · Attention that knows too much
#
# *repair · medium · 7 minutes*
#
# `broken_attention` should be rotary attention in one head. `q`, `k` and `v` are `(N, d)`, `angles` is `(P, d/2)`: the
# P patches come last, behind tokens without a place. It runs, gives the right shape, and holds two faults. Each shows
# in one of the printed lines, where there should be 0.00.


# %%
def broken_attention(q, k, v, angles):
    P = len(angles)

    def turned(x):
        a, b = x[:P].chunk(2, dim=-1)  # (P, d/2) each
        a, b = a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()
        return torch.cat([torch.cat([a, b], dim=-1), x[P:]])  # (N, d)

    q, k, v = turned(q), turned(k), turned(v)
    weights = (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1)  # (N, N)
    return weights @ v  # (N, d)


# %%
q, k, v = torch.from_numpy(rng.normal(size=(3, 8, 8)))  # each (N, d): class token, register, six patches
difference = broken_attention(q[2:], k[2:], v[2:], angles) - broken_attention(q[2:], k[2:], v[2:], angles + 1)
print(f"patches alone, all places moved alike: outputs differ by {difference.abs().max():.2f}")
swap = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])  # the register first, then the class token
difference = broken_attention(q, k, v, angles)[swap] - broken_attention(q[swap], k[swap], v[swap], angles)
print(f"class token and register listed the other way round: outputs differ by {difference.abs().max():.2f}")

# %% [markdown]
# Copy its lines into the stub and mend them.
#
# <details><summary>Hint</summary>
#
# In the first line every token has a place. Of q, k and v, which should a place change? For the second: which tokens
# does `x[:P]` take, and which should it?
#
# </details>


# %% tags=["exercise"]
def repaired_attention(q, k, v, angles):
    return ...  # (N, d)


# %%
check.repaired_rotary(repaired_attention)

# %% [markdown]
# ## What happens on a larger grid?
#
# A `ModernViT` is the course's ViT with a switch for each part of this notebook. Here it turns (`rope="axial"`) and
# adds nothing (`position="none"`):

# %%
config = ModernConfig(image_size=32, patch_size=4, embed_dim=64, depth=2, num_heads=4, rope="axial", position="none")
model = ModernViT(config)

# %% [markdown]
# The explorer shows the scores of a constant query, as above, divided by the highest (its cosines). Guess before you
# drag *Grid* from 8 x 8 to 16 x 16: will the spot around your place cover the same part of the image, or the same
# number of patches?

# %%
widgets.PositionExplorer(model)

# %% [markdown]
# The same number of patches: as with 02's sinusoids, a step to the neighbour turns by the same angle on every grid.
# (About 6 patches away it is dark again. Heads of width 16 have only four hands for each axis, and the fastest is
# then nearly round: cos 6 = {=math.cos(6):.2f}.)

# %% [markdown]
# DINOv3 counts otherwise. On each axis its image reaches from $-2\pi$ to $2\pi$, however many patches it has, and a
# patch lies at its centre. (So angle 0, where tokens that are not turned seem to lie, is the middle of the image, and
# not the first patch.) The fastest hand, of frequency 1, along one axis, in radians:

# %%
for kind in "axial", "dinov3":
    for count in 4, 8, 16:
        places = torch.arange(count)  # (count,)
        if kind == "dinov3":
            places = 2 * math.pi * (2 * (places + 0.5) / count - 1)
        rope = RotaryEmbedding(4, kind).get_embed((1, count))  # (count, 2d): number 1 turns by the column
        assert torch.allclose(rope[:, [1, 5]], torch.stack([places.sin(), places.cos()], dim=1), atol=1e-5)
        step = (places[1] - places[0]).item()
        print(f"{kind:6} {count:2} patches: step {step:.2f}, edge to edge {count * step:5.2f}, first {places[0]:5.2f}")

# %% [markdown]
# Axial keeps the *distance in patches*, dinov3 the *share of the image*. Which fits depends on what grows:
#
# | twice the side shows | two eyes lie | axial | dinov3 |
# |---|---|---|---|
# | the same scene, finer | twice as many patches apart | twice the angle | the same angle |
# | more scene, things no larger | as many patches apart | the same angle | half the angle |
#
# From end to end of the larger picture axial also turns by angles that training never showed. DINOv3 prepares for both
# rows: in training its range is stretched at random, to between half and twice (Siméoni et al. 2025, section 3.2).

# %% [markdown]
# Either way there is no table to interpolate. A learned table has to grow; rotary goes on with the parameters that it
# had:

# %%
learned = VisionTransformer(ViTConfig(image_size=32, patch_size=4, embed_dim=64, depth=2, num_heads=4))
for name, vit in ("learned", learned), ("rotary", model):
    before = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    set_image_size(vit, (48, 64))  # 8 x 8 -> 12 x 16 patches
    after = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    assert vit.forward_features(torch.zeros(1, 3, 48, 64)).shape == (1, 1 + 12 * 16, 64)
    assert name == "learned" or after == before
    print(f"{name:8} {before:,} parameters, then {after:,}")

# %% [markdown]
# That the shapes fit does not say that the answers are still right. How far a trained model gets, part 2 measures.
#
# DINOv3 adds no positions. But both can go together: `rope="axial"` with `position="learned"` adds 02's table before
# the first block and turns in each, and then there *is* a table to interpolate.
#
# *To remember: axial counts patches, dinov3 shares of the image; neither has a parameter.*

# %% [markdown] tags=["stop"]
# **A place to stop.** You can turn queries and keys by their places, say what a score then knows, and take such a model
# to another image size. The second part opens the block: two norms, taps, an MLP with a gate, and registers. If you
# come back to a fresh kernel, first run all the cells above.

# %% [markdown]
# ## RMSNorm: a LayerNorm that does not subtract
#
# LayerNorm (notebook 04) subtracts a token's mean and divides by its standard deviation. Is the subtraction needed?
# **RMSNorm** leaves it out, and divides by the root of the mean square. Once more 04's token of four numbers:

# %%
token = torch.tensor([2.0, 4.0, 6.0, 8.0])
size = token.square().mean().sqrt()  # √((4 + 16 + 36 + 64) / 4) = √30
size, token / size

# %% [markdown]
# LayerNorm gives the same numbers for this token, for ten times the token, and for the token plus 100. RMSNorm?

# %%
for name, other in (("token", token), ("10 x token", 10 * token), ("token + 100", token + 100)):
    print(f"{name:12} LayerNorm {F.layer_norm(other, (4,)).numpy().round(2)}", end="   ")
    print(f"RMSNorm {F.rms_norm(other, (4,)).numpy().round(2)}")

# %% [markdown]
# RMSNorm forgets how loud a token is, as LayerNorm does; that kept the stream of 04 from exploding. But it does not
# forget where the token's zero lies: a constant added to all numbers stays visible, and a large one drowns the pattern.
#
# In return it computes one sum over the token in place of two, and has D learned numbers in place of 2 D: a weight for
# each column, no bias. Zhang and Sennrich (2019) measured the same quality in less time.

# %% [markdown]
# ### Exercise 13.5 · Write RMSNorm
# *write · easy · 3 minutes*
#
# Write RMSNorm for tokens `(..., D)` with a `weight` `(D,)`, without `F.rms_norm` or another ready-made norm. `eps` is
# added to the mean square, under the root.
#
# <details><summary>Hint</summary>
#
# 04's LayerNorm with two things left out. `keepdim=True` keeps `(..., 1)`, which fits `(..., D)`.
#
# </details>


# %% tags=["exercise"]
def my_rms_norm(x, weight, eps):
    return ...  # (..., D)


# %%
check.rms_norm(my_rms_norm)

# %% [markdown]
# The package's class computes in float32 even where tokens come in 16 bits: the square of 300 is above float16's
# largest number, 65,504.


# %% tags=["package"]
class RMSNorm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # 16 bits are too few for a sum of squares
        size = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()  # (..., 1)
        return (wide / size).to(x.dtype) * self.weight


# %%
rng = np.random.default_rng(0)
x = torch.from_numpy(rng.normal(size=(2, 5, 64))).float()  # (B, N, D)
centred = x - x.mean(dim=-1, keepdim=True)
assert torch.allclose(RMSNorm(64)(centred), nn.LayerNorm(64, eps=1e-6)(x), atol=1e-5)
NORMS = {"layer": partial(nn.LayerNorm, eps=1e-6), "rms": RMSNorm}  # a model's choice, further down
print("RMSNorm of a centred token is LayerNorm.")

# %% [markdown]
# *To remember: RMSNorm is LayerNorm without the mean and without the bias.*

# %% [markdown]
# ## QK-norm: scores that cannot run away
#
# Scores are products of queries and keys, and both are made by learned matrices. If training multiplies both matrices
# by 4, the scores grow by 16. What does softmax make of that? Random queries and keys of eight tokens, d = 64:

# %%
q, k = torch.from_numpy(rng.normal(size=(2, 8, 64))).float()  # (N, d) each
norm = RMSNorm(64)
looks = {}
for factor in (1, 4, 16):
    for name, (a, b) in {"plain": (q, k), "QK-norm": (norm(factor * q), norm(factor * k))}.items():
        a, b = (factor * a, factor * b) if name == "plain" else (a, b)
        looks[name, factor] = (a @ b.T / 64**0.5).softmax(dim=-1)  # (N, N)

# %%
fig, axes = plots.figure(5.6, 3.9, 2, 3)
for ax, ((name, factor), weights) in zip(axes.T.flat, looks.items(), strict=True):
    plots.draw_matrix(ax, weights.detach(), f"{name}, matrices x {factor}", numbers=False, vmin=0, vmax=1)
plots.show(
    fig,
    "Six 8 by 8 matrices of attention weights on one scale from 0 to 1. Upper row, plain, the matrices that make "
    "queries and keys times 1, 4 and 16: soft, then twice with one bright cell in each row. Lower row, QK-norm: three "
    "times the same soft matrix.",
)

# %% [markdown]
# Upper row: with growing matrices each token comes to look at a single one. Is that bad? A share $w$ moves with its
# score by $w (1 - w)$ (the slope of softmax). Where all shares are 0 or 1, nothing moves, and nothing is learned:

# %%
for (name, factor), weights in looks.items():
    print(f"{name:8} matrices x {factor:2}: mean slope {(weights * (1 - weights)).mean():.3f}")
slopes = {key: (weights * (1 - weights)).mean().item() for key, weights in looks.items()}
assert slopes["plain", 16] < 0.01 * slopes["plain", 1] and abs(slopes["QK-norm", 16] - slopes["QK-norm", 1]) < 1e-4

# %% [markdown]
# **QK-norm** normalises queries and keys, in each head, before they meet (Henry et al. 2020). Then no matrix can make
# them louder, and the scores have a bound. It stands before the rotation, which leaves lengths alone. Its weight, d
# learned numbers, can still sharpen a head where that pays.
#
# Dehghani et al. (2023) needed it: the training of a ViT of 8 billion weights diverged after a few thousand steps, with
# scores so large that each row had one weight near 1. With the norm (a LayerNorm) training went through.

# %% [markdown]
# ### Exercise 13.6 · How large can a score get?
# *predict · easy · 2 minutes*
#
# A query and a key, 64 numbers each, pass an RMSNorm whose weights are 1. The score is their product divided by
# √64. What is the largest score that can occur, whatever the two were before?
#
# <details><summary>Hint</summary>
#
# How long is a vector of 64 numbers whose mean square is 1? And when is the product of two vectors largest?
#
# </details>

# %% tags=["exercise"]
largest_score = ...

# %%
check.largest_score(largest_score)

# %% [markdown]
# ## LayerScale: branches that start nearly closed
#
# In a block each branch adds what it found to the stream. **LayerScale** puts D taps between the two, one for each
# number of a token, learned and small at first (Touvron et al. 2021):

# %%
stream, branch = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([3.0, -2.0, 5.0])
gamma = torch.tensor([1.0, 0.1, 0.0])  # open, a tenth open, closed
stream + gamma * branch


# %% tags=["package"]
class LayerScale(nn.Module):
    def __init__(self, width, init_values=1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(init_values)))

    def forward(self, x):
        return x * self.gamma


# %% [markdown]
# (You may have written the whole block with it: exercise 4.7.) All taps start at 1e-5. So a fresh block hands its
# tokens on almost unchanged, however deep the stack, and opens its branches as it learns. The price: until the taps
# have opened, the branches hardly count. Remember that when you see short runs below.

# %% [markdown]
# ## SwiGLU: an MLP with a gate
#
# 04's MLP widens a token, bends each number, and narrows again. **SwiGLU** (Shazeer 2020) widens twice: one set of
# numbers is the *value*, the other decides how much of it passes, the *gate*. The gate goes through SiLU,
# $\mathrm{silu}(z) = z / (1 + e^{-z})$, a curve much like GELU. Five gates in front of a value of 10:

# %%
gate, value = torch.tensor([-8.0, -1.0, 0.0, 1.0, 8.0]), 10.0
for row in (F.silu(gate), F.silu(gate) * value):
    print(" ".join(f"{number:8.3f}" for number in row.tolist()))
ten, twenty = torch.tensor([10.0, 20.0])
assert abs(F.gelu(twenty) / F.gelu(ten) - 2) < 0.01 and abs(F.silu(twenty) * twenty / (F.silu(ten) * ten) - 4) < 0.01

# %% [markdown]
# At -8 and 0 next to nothing passes, whatever the value is; at 8, eight times the value. So a hidden number is a
# *product* of two numbers that both come from the token. Make gate and value twice as loud, far out where the curves
# are straight: GELU gives twice as much, the product four times. Whether such products help, measurements must say;
# Shazeer himself offers no explanation.

# %% [markdown]
# ### Exercise 13.7 · An MLP with a gate
# *write · easy · 3 minutes*
#
# Write SwiGLU for tokens `(..., D)` from three linear layers, without dropout: `fc1_g` makes the gate, `fc1_x` the
# value, `fc2` narrows.
#
# <details><summary>Hint</summary>
#
# `F.silu` bends the gate alone, before gate and value meet.
#
# </details>


# %% tags=["exercise"]
def my_swiglu(x, fc1_g, fc1_x, fc2):
    return ...  # (..., D)


# %%
check.swiglu(my_swiglu)

# %% [markdown]
# The package's class, with dropout:


# %% tags=["package"]
class SwiGLU(nn.Module):
    def __init__(self, embed_dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.fc1_g = nn.Linear(embed_dim, hidden_dim)  # the gate
        self.fc1_x = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop(F.silu(self.fc1_g(x)) * self.fc1_x(x))  # (B, N, hidden)
        return self.drop(self.fc2(x))  # (B, N, D)


# %% [markdown]
# ## The attention and the block
#
# Now nothing in the package's classes is new. Attention is 03's, with two norms and two rotations between the split
# and the scores. `qk_norm` makes a norm from a width; `nn.Identity` is none.


# %% tags=["package"]
class ModernAttention(MultiHeadAttention):
    def __init__(self, embed_dim, num_heads, qk_norm=nn.Identity):
        super().__init__(embed_dim, num_heads)
        self.q_norm, self.k_norm = qk_norm(self.head_dim), qk_norm(self.head_dim)

    def forward(self, x, return_attention=False, rope=None):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, H, N, d)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if return_attention or (self.training and x.device.type == "cpu"):
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)  # (B, H, N, N)
            weights = scores.softmax(dim=-1)
            x = weights @ v  # (B, H, N, d)
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, D)
        return (x, weights) if return_attention else x


# %% [markdown]
# And the block is 04's, with a choice of norm and MLP, and a tap (`ls1`, `ls2`) at the end of each branch. QK-norm is
# of the block's kind: by default a LayerNorm, as in ViT-22B.


# %% tags=["package"]
class ModernBlock(nn.Module):
    def __init__(self, config, drop_path=0.0):
        super().__init__()
        c, D = config, config.embed_dim
        norm, scale = NORMS[c.norm], nn.Identity if c.layer_scale is None else LayerScale
        self.norm1 = norm(D)
        self.attn = ModernAttention(D, c.num_heads, norm if c.qk_norm else nn.Identity)
        self.ls1 = scale(D, c.layer_scale)
        self.norm2 = norm(D)
        self.mlp = (SwiGLU if c.mlp == "swiglu" else MLP)(D, int(D * c.mlp_ratio), c.dropout)
        if c.mlp == "gelu_tanh":
            self.mlp.act = nn.GELU(approximate="tanh")
        self.ls2 = scale(D, c.layer_scale)
        self.drop, self.drop_path = nn.Dropout(c.dropout), DropPath(drop_path)

    def forward(self, x, return_attention=False, rope=None):
        mixed = self.attn(self.norm1(x), return_attention, rope)
        mixed, weights = mixed if return_attention else (mixed, None)
        x = x + self.drop_path(self.drop(self.ls1(mixed)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return (x, weights) if return_attention else x


# %% [markdown]
# A first fact about it: with LayerScale a fresh block is nearly the identity. How far does each move its tokens?

# %%
tiny = ModernConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2.0)
moved = {}
for name, parts in {"plain": {}, "LayerScale": {"layer_scale": 1e-5}}.items():
    torch.manual_seed(0)
    moved[name] = ((ModernBlock(replace(tiny, **parts))(x) - x).norm() / x.norm()).item()
    print(f"{name:10} moves its tokens by {'more' if moved[name] > 0.001 else 'less'} than 0.1 %")
assert moved["LayerScale"] < 1e-4 < 0.02 < moved["plain"]

# %% [markdown]
# ## Registers: tokens without a place
#
# You met registers in the opening. Where do they stand, who reads them, and would another order change anything? An
# untrained model and a picture of noise will tell.

# %%
torch.manual_seed(0)
model = ModernViT(replace(tiny, registers=4)).eval()
picture = torch.from_numpy(rng.normal(size=(1, 3, 32, 32))).float()  # (B, C, Y, X)
tokens, logits = model.embed(picture), model(picture)
print(tuple(tokens.shape), "= class token, 4 registers, 16 patches; before the patches:", model.num_prefix_tokens)

# %%
with torch.no_grad():
    model.reg_token.copy_(model.reg_token.flip(1))  # the registers the other way round
    assert torch.allclose(model(picture), logits, atol=1e-5)
    model.reg_token.mul_(50)  # other vectors in them
    assert (model(picture) - logits).abs().max() > 1e-3
print("registers in another order: the same logits; other registers: other logits")

# %% [markdown]
# They are learned vectors, the same at the start of every picture. They have no positions, so their order does not
# count. In each block they ask and are asked like all tokens. Behind the last block they are dropped: no head reads
# them. What they hold counts only through the tokens that take from them.
#
# What for? As the opening said: in large models as scratch paper, so that the patches stay clean (Darcet et al. 2024).

# %% [markdown]
# And the **class token's position**? It stands in no place either. The plain model adds a learned vector to it all the
# same, and learned plus learned is one learned vector. timm's copy of DINOv2 with registers holds the sum of the two
# (`cls_position=False`). Nothing is lost:

# %%
torch.manual_seed(0)
both, one = ModernViT(tiny).eval(), ModernViT(replace(tiny, cls_position=False)).eval()
state = both.state_dict()
state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]  # (1, 1, D): the two in one
state["pos_embed"] = state["pos_embed"][:, 1:]  # (1, P, D)
one.load_state_dict(state)
assert torch.allclose(both(picture), one(picture), atol=1e-6)
print("the same logits with one vector less")

# %% [markdown]
# ## ModernViT, and whose weights fit
#
# `ModernViT` is 05's model with these blocks. It adds three things: `embed` puts registers in, `angles` computes the
# rotation for all blocks at once, and the head passes over the registers. A `ModernConfig` has a switch for each part.
# With none of them it is the plain model, to the bit:

# %%
fields = {name: value for name, value in vars(tiny).items() if name in ViTConfig.__dataclass_fields__}
torch.manual_seed(0)
plain = VisionTransformer(ViTConfig(**fields)).eval()
torch.manual_seed(0)
assert torch.equal(plain(picture), ModernViT(tiny).eval()(picture))
print("no part switched on: the same logits")

# %% [markdown]
# Who has which parts? (A dash: as in the plain ViT.)
#
# | | registers | positions | norm | scores | branches | MLP |
# |---|---|---|---|---|---|---|
# | DINOv2 with registers | 4 | learned; in timm none for the class token | - | - | LayerScale | -; giant: SwiGLU |
# | DINOv3 | 4 | rotary alone | - | - | LayerScale | -; small+, huge+, 7B: SwiGLU |
# | SigLIP | no class token | learned | - | - | - | GELU, in some by its tanh formula |
# | AIMv2 | no class token | learned | RMSNorm | - | - | SwiGLU |
#
# So no model has everything of this notebook, and none of these normalises queries and keys (ViT-22B does).

# %% [markdown]
# If you have timm and a network, the first three come to you by name. Their weights have our names, or are renamed:
#
# ```python
# from vit_tutorial import weights
# model = weights.pretrained("vit_small_patch14_reg4_dinov2.lvd142m")   # -> ModernViT
# model.config                                                          # registers=4, layer_scale=1e-05, ...
# ```
#
# `weights.from_timm(model)` and `weights.from_transformers(model)` take a model that you have loaded. They build a
# `ModernViT` where a `VisionTransformer` will not do, and name the part where neither fits. Meta's own copies of
# DINOv3's weights are *gated*: you ask for access once, on their page.

# %% [markdown]
# ### Exercise 13.8 · Registers in and out
# *write · medium · 5 minutes*
#
# `cls_token` is `(B, 1, D)`, `registers` `(R, D)`, `patches` `(B, P, D)`; `blocks` is a list of functions from
# `(B, N, D)` to `(B, N, D)`. Send all tokens through all blocks, in timm's order (class token, registers, patches), and
# return two tensors: the class token `(B, D)` and the patches `(B, P, D)`. The registers stay behind.
#
# <details><summary>Hint</summary>
#
# `registers.expand(B, -1, -1)` gives each picture of the batch the same registers, `(B, R, D)`.
#
# </details>


# %% tags=["exercise"]
def my_registers(cls_token, registers, patches, blocks):
    return ..., ...  # (B, D), (B, P, D)


# %%
check.with_registers(my_registers)

# %% [markdown]
# ### Exercise 13.9 · A fair width
# *experiment · easy · 3 minutes*
#
# A fair comparison gives both models as many weights. How wide must SwiGLU's hidden layer be to have as many as an MLP
# of ratio 4, at D = 384? Count those of `MLP(384, 4 * 384)` and of `SwiGLU(384, hidden)` for some widths, without the
# biases, or work it out and try.
#
# <details><summary>Hint</summary>
#
# `sum(p.numel() for p in model.parameters() if p.ndim == 2)` counts the numbers in all matrices.
#
# </details>

# %% tags=["exercise"]
hidden = ...  # a whole number

# %%
check.swiglu_width(hidden)

# %% [markdown]
# ## Does a part pay? One at a time
#
# We swap each part alone into a small ViT for shapes (patches of 8 pixels, two blocks): same pictures, same order, same
# number of steps. SwiGLU gets the width that makes the weights equal; rotary models have no learned positions.

# %%
usual = training.RECIPES["shapes"]
small = replace(usual.model, patch_size=8, embed_dim=48, depth=2, num_heads=3)
recipe = replace(usual, model=small, ema=0.0, crop=0, flip=False)
PARTS = {
    "plain": {},
    "registers": {"registers": 4},
    "LayerScale": {"layer_scale": 1e-5},
    "RMSNorm": {"norm": "rms"},
    "QK-norm": {"qk_norm": True},
    "SwiGLU": {"mlp": "swiglu", "mlp_ratio": small.mlp_ratio * 2 / 3},
    "rotary": {"rope": "axial", "position": "none"},
    "rotary, DINOv3's": {"rope": "dinov3", "position": "none"},
}
pictures, asked = datasets.shapes("train", 3200), datasets.shapes("test", 1000)


def fit(part, seed):
    """A ModernViT with this part, trained on shapes."""
    torch.manual_seed(seed)
    model = ModernViT(ModernConfig(**vars(recipe.config(pictures)) | PARTS[part]))
    training.train(model, pictures, recipe, epochs=4, seed=seed)  # the seed decides the order of the pictures
    return model


# %% [markdown] tags=["predict"]
# **Predict before you run.** Three seeds each, 200 steps. Which parts will beat the plain model by more than the seeds
# differ among themselves? Write their names down; "none" is a possible answer.

# %%
models = {part: [fit(part, seed=0)] for part in PARTS}

# %%
for part, runs in models.items():
    runs.append(fit(part, seed=1))

# %%
for part, runs in models.items():
    runs.append(fit(part, seed=2))
live = {part: [training.evaluate(model, asked).accuracy for model in runs] for part, runs in models.items()}

# %% [markdown]
# Accuracy differs from seed to seed. But runs of one seed share their pictures and order, so we compare *within* a
# seed: part minus plain, three differences (dots in the figure; the diamond is their mean). Is it more than luck? The
# **95 % interval** of a mean of three is 4.30 standard errors wide on either side (Student's t for three numbers; for
# very many it would be 1.96):


# %%
def against_plain(runs):
    """For each part: its differences to plain, a seed each, their mean and half their 95 % interval, in points."""
    plain, found = torch.tensor(runs["plain"]), {}
    for part in runs.keys() - {"plain"}:
        differences = 100 * (torch.tensor(runs[part]) - plain)  # (seeds,)
        half = 4.30 * differences.std() / len(differences) ** 0.5
        found[part] = differences.tolist(), differences.mean().item(), half.item()
    return {part: found[part] for part in PARTS if part in found}


def beyond_luck(runs):
    """The parts whose interval lies above 0, and those whose interval lies below."""
    found = against_plain(runs).items()
    better = [part for part, (_, mean, half) in found if mean - half > 0]
    return better, [part for part, (_, mean, half) in found if mean + half < 0]


def in_words(parts):
    return "; ".join(parts) or "none"


# %%
def draw_differences(ax, runs):
    """Each part's differences as dots, mean and interval as a line; returns the means in words."""
    found = against_plain(runs)
    for y, (differences, mean, half) in enumerate(found.values()):
        ax.errorbar(mean, y, xerr=half, fmt="D", color="black", capsize=4, markersize=5)
        ax.plot(differences, [y + 0.25] * len(differences), "o", color=plots.COLOURS[0], markersize=4, alpha=0.7)
    ax.axvline(0, color="#888888", linewidth=1)
    ax.set_yticks(range(len(found)), found)
    ax.invert_yaxis()
    ax.set(xlabel="points of accuracy, part minus plain")
    return "; ".join(f"{part} {mean:+.1f} ± {half:.1f}" for part, (_, mean, half) in found.items())


# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(6.4, 3.2)
alt = draw_differences(ax, live)
plots.show(fig, f"Accuracy of seven models with one modern part each, minus the plain one's, with intervals: {alt}.")

# %% tags=["nbval-ignore-output"]
found, (better, worse) = against_plain(live), beyond_luck(live)
print(f"plain {[round(100 * accuracy) for accuracy in live['plain']]} %, guessing 10 %")
largest_gamma = max(p.abs().max().item() for m in models["LayerScale"] for n, p in m.named_parameters() if "gamma" in n)
print(f"largest tap of the LayerScale models at the end: {largest_gamma:.2f}")
assert min(min(runs) for runs in live.values()) > 0.2  # all have learned; measured: 0.31 and more
assert largest_gamma < 0.2 and found["LayerScale"][1] < -2  # measured: 0.07 to 0.09; of three seeds, -6.6 and less

# %% [markdown]
# (Your numbers may differ: each processor rounds in its own way, and training amplifies that.)

# %% [markdown]
# All models have learned something, and are far from done. Intervals above 0: {=in_words(better):s}; below 0:
# {=in_words(worse):s}.
#
# LayerScale loses {=-found["LayerScale"][1]:.0f} points; it lost in all our runs. Its taps started at 1e-5, and after
# 200 steps the largest of all stands at {=largest_gamma:.2f}: every branch comes through at a fraction of its strength.
# And two blocks have nothing that needs protection. (The numbers are measured, the last is our reading.)

# %% [markdown]
# About most others three seeds say little: the dots of one part lie up to
# {=max(max(d) - min(d) for d, _, _ in found.values()):.0f} points apart. An interval that contains 0 means *not
# decided*, not *no effect*. And three dots can agree by luck: in our runs registers were worse by the interval of seeds
# 0 to 2, and no longer by that of seeds 0 to 4; SwiGLU was better by both.

# %% [markdown]
# ## The same on photographs, recorded
#
# Shapes are drawn, and 200 steps are few. `tools/measure/modern_parts.py` asked the same question on CIFAR-10 (JPEG
# copy), with the laptop recipe of notebook 06 for two epochs: 45,000 pictures to learn from, and 5,000 others, held
# back from training, to be judged on. (The test set was not touched: whoever chooses parts by it has nothing left to
# test with.) That recipe has no class token; it reads the mean of the patches.

# %%
record = json.loads((DATA / "runs" / "modern-parts.json").read_text())
runs = sorted(record["runs"], key=lambda run: run["seed"])
recorded = {part: [run["accuracy"] for run in runs if run["part"] == part] for part in PARTS}
parameters = {run["part"]: run["parameters"] for run in runs}
gained, lost = beyond_luck(recorded)
fig, ax = plots.figure(6.4, 3.2)
alt = draw_differences(ax, recorded)
plots.show(fig, f"The same figure for the recorded runs on CIFAR-10 (JPEG copy): {alt}.")

# %%
print("plain:", [f"{100 * accuracy:.1f} %" for accuracy in recorded["plain"]])
print("part               points            time of a step   weights")
for part, (_, mean, half) in against_plain(recorded).items():
    more = parameters[part] - parameters["plain"]
    print(f"{part:17} {mean:+5.1f} ± {half:4.1f}    {record['cost'][part]:11.2f} x  {more:+10,}")
assert gained == ["SwiGLU"] and lost == ["LayerScale", "rotary", "rotary, DINOv3's"]

# %% [markdown]
# By these intervals, better than plain beyond luck: {=in_words(gained):s}; worse: {=in_words(lost):s}. The others are
# not decided: if they pay or cost, then by no more than their intervals reach.
#
# Two warnings. Where a part does nothing, its 95 % interval still misses 0 once in 20 times; of seven, were they
# independent, at least one would with $1 - 0.95^7$ = {=100 * (1 - 0.95**7):.0f} %. And rotary changes two things here:
# the plain recipe starts its learned positions as the waves of 02; rotary models have no such start. Which of the two
# counts, these runs do not tell.

# %% [markdown]
# The third column is what a part costs: how long a forward and a backward pass take, in plain ones. Whoever wins half a
# point with steps that take a quarter longer should compare with a plain model that trains a quarter longer.

# %% [markdown]
# ## Larger images, and how far
#
# A model with rotary positions takes any size, with nothing to interpolate. Does it also *answer* there? The plain
# model's learned positions can be interpolated (`set_image_size`, notebook 02), so that is the rival to beat.

# %% [markdown] tags=["predict"]
# **Predict before you run.** The recorded models of three kinds, all trained at 32 pixels, got 2,000 of the pictures
# held back at 24, 40, 48 and 64 pixels too: the same scenes, coarser and finer. At 64, which is best, and does it
# keep half of its accuracy at 32? Recall the table at the end of part 1.

# %%
KINDS = {"plain": "learned, interpolated", "rotary": "rotary, axial", "rotary, DINOv3's": "rotary, DINOv3's"}
STYLES = dict(zip(KINDS.values(), ("o-", "s-", "^-"), strict=True)) | {"places taken away": "x--"}


def draw_sizes(ax, sides, reached):
    """Accuracy `(seeds, sides)` of each kind of positions, the mean as a line; returns the means in words."""
    for colour, (name, values) in zip((0, 1, 2, 6), reached.items(), strict=False):
        ax.plot(sides, values.mean(dim=0), STYLES[name], color=plots.COLOURS[colour], label=name)
    ax.set(xlabel="side in pixels", xticks=sides, ylim=(0, None))
    return "; ".join(f"{name} {', '.join(f'{v:.0f}' for v in r.mean(dim=0))}" for name, r in reached.items())


# %%
sides, asked_so = [24, 32, 40, 48, 64], [run for run in runs if "sizes" in run]
at = {
    name: torch.tensor([[100 * run["sizes"][str(side)] for side in sides] for run in asked_so if run["part"] == part])
    for part, name in KINDS.items()
}  # (seeds, sides)
fig, ax = plots.figure(4.6, 2.9)
alt = draw_sizes(ax, sides, at)
ax.axhline(10, color="#888888", linewidth=1, linestyle=":")
ax.set(ylabel="accuracy in % (dotted: guessing)")
ax.legend(frameon=False, fontsize=9)
plots.show(fig, f"Accuracy in per cent at 24, 32, 40, 48 and 64 pixels, trained at 32, mean of the seeds. {alt}.")

# %%
at_32, at_40, at_64 = (
    torch.stack([values.mean(dim=0)[sides.index(side)] for values in at.values()]) for side in (32, 40, 64)
)
assert (at_64 < at_32 / 2).all() and at_64.argmax() == at_32.argmax() == 0  # the first is the learned kind

# %% [markdown]
# All three *take* every size, and none answers as well there. At 64 pixels, twice the side, the interpolated table is
# right on {=at_64[0]:.0f} % of the pictures, axial on {=at_64[1]:.0f} %, DINOv3's on {=at_64[2]:.0f} %: all less than
# half as often as at 32. A quarter more, 40 pixels, costs {=(at_32 - at_40).min():.0f} to
# {=(at_32 - at_40).max():.0f} points; fewer pixels cost little. (The learned line is
# {=len(at["learned, interpolated"]):d} model, the others are means of {=len(at["rotary, axial"]):d}.)
#
# So rotary needs no interpolation, but spares no loss here: the interpolated table was ahead at 32 and still is at 64.
# *Going further* looks for what fails instead.

# %% [markdown]
# ## Why papers find otherwise
#
# Nobody adds a part for nothing. Each answers a trouble that its authors had, and most had it at a size that our
# models do not reach:
#
# | part | the trouble, and where it showed |
# |---|---|
# | registers | very long vectors of background patches, in large models late in training (Darcet et al. 2024) |
# | LayerScale | deep ViTs: more blocks made training harder, not better (Touvron et al. 2021) |
# | QK-norm | scores that grew until training diverged, at 8 billion weights (Dehghani et al. 2023) |
# | RMSNorm | the time that LayerNorm takes; quality was about equal (Zhang and Sennrich 2019) |
# | SwiGLU | none: a slightly lower loss at equal weights, in language models (Shazeer 2020) |
# | rotary | answers at other sizes than the one trained at (Heo et al. 2024; Siméoni et al. 2025) |
#
# Our runs have two blocks and 200 steps, or six blocks and two epochs. They cannot show a cure where there is no
# illness: SwiGLU, which needs none, is the one part that gained on CIFAR-10, by
# {=against_plain(recorded)["SwiGLU"][1]:.1f} points. And the other way round: that DINOv3 has a part is no reason to
# put it into yours. Measure it, with seeds.

# %% [markdown]
# *To remember: a part is an answer to a trouble. Look first whether you have the trouble.*

# %% [markdown]
# ## Exercises
#
# Exercises 13.1 to 13.9 stand above, each beside its idea. One more stands under *Going further*.

# %% [markdown]
# ## Going further
#
# ### Enlarged or wider?
#
# "Larger" means two things. A picture may be **enlarged**: the same scene in more pixels (at 24, in fewer). Or the
# scene may be **wider**: the object as large as before, on more ground. The models that you have trained on shapes can
# be asked both. (The wider ground goes on in stripes, each a copy of the pixel at the edge.)


# %%
def enlarged(images, side):
    """(B, C, 32, 32) to (B, C, side, side), the same scene."""
    larger = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return larger.round().clamp(0, 255).to(torch.uint8)


def wider(images, side):
    """(B, C, 32, 32) to (B, C, side, side): more ground on all sides, that of the edge."""
    more = (side - 32) // 2
    return F.pad(images.float(), (more, more, more, more), mode="replicate").to(torch.uint8)


SIDES = {enlarged: (24, 32, 40, 48, 64), wider: (32, 48, 64)}
examples = [make(asked.images[:1], side)[0] for make, sides in SIDES.items() for side in sides]
titles = [f"{make.__name__}, {side}" for make, sides in SIDES.items() for side in sides]
plots.show(
    plots.image_grid(examples, titles),
    "One picture eight times, a pink triangle on green ground. Enlarged to 24, 32, 40, 48 and 64 pixels it stays the "
    "same scene, ever smoother. Wider, at 32, 48 and 64, the triangle takes ever less of the picture, and the ground "
    "around it continues in stripes.",
)

# %% [markdown]
# Three kinds of positions, trained at 32 pixels, meet other sizes. Recall the table at the end of part 1: which should
# do well on enlarged pictures, which on wider ones? A fourth one is the learned kind with its **places taken away**:
# every patch gets the same position, the mean of all.


# %%
def at_sizes(model, make):
    """Accuracy in per cent at each side."""
    found = []
    for side in SIDES[make]:
        resized = set_image_size(copy.deepcopy(model), side)
        pictures = replace(some, images=make(some.images, side))
        found.append(100 * training.evaluate(resized, pictures).accuracy)
    return found


def without_places(model):
    """A copy whose patches all have one position."""
    model = copy.deepcopy(model)
    places = model.pos_embed.data[:, 1:]  # (1, P, D), behind the class token's
    places.copy_(places.mean(dim=1, keepdim=True).expand_as(places))
    return model


some = asked[:500]
tested = {name: models[part] for part, name in KINDS.items()}
tested["places taken away"] = [without_places(model) for model in models["plain"]]
reached = {
    (make, name): torch.tensor([at_sizes(model, make) for model in runs])  # (seeds, sides)
    for make in SIDES
    for name, runs in tested.items()
}

# %% tags=["nbval-ignore-output"]
fig, axes = plots.figure(8, 2.8, 1, 2, sharey=True)
alt = []
for ax, make in zip(axes, SIDES, strict=True):
    means_in_words = draw_sizes(ax, SIDES[make], {name: reached[make, name] for name in tested})
    alt.append(f"{make.__name__}: {means_in_words}")
    ax.set_title(make.__name__, fontsize=10)
axes[0].set(ylabel="test accuracy (%)")
axes[1].legend(frameon=False, fontsize=9)
plots.show(fig, f"Accuracy in per cent over the side of the picture, mean of three seeds. {'; '.join(alt)}.")

# %%
means = {key: values.mean(dim=0) for key, values in reached.items()}
learned = KINDS["plain"]
of_kinds = [torch.stack([means[make, name] for name in KINDS.values()]) for make in SIDES]  # each (3, sides)
apart = max((values.amax(dim=0) - values.amin(dim=0)).max().item() for values in of_kinds)
for make in SIDES:  # in points; measured over six seeds
    assert all(at[-1] < 30 and at.max() - at[-1] > 8 for at in means.values())  # at most 23, at least 18
    assert (means[make, "places taken away"] - means[make, learned]).abs().max() < 8  # at most 3
assert all(means[enlarged, name][1] - means[enlarged, name][2] < 12 for name in tested)  # 32 -> 40: at most 7

# %% [markdown]
# All three *take* every size. None *answers* far from the one it was trained at: at 64 pixels, enlarged, the best
# reaches {=max(means[enlarged, name][-1] for name in KINDS.values()):.0f} %, where guessing gives 10. At each size the
# three kinds lie within {=apart:.0f} points of each other, and what the table of part 1 promises does not show.
#
# The dashed line tells what does *not* fail. With its places taken away the learned model is right about as often, at
# every size. So it hardly uses them: after 200 steps it reads a bag of patches, as in notebook 08. Then it cannot be
# its positions that fail on larger pictures.

# %% [markdown]
# What else has changed? A patch has 8 x 8 pixels at every size. In a picture enlarged to 64 it shows a quarter of what
# it showed in training. In a wider one the object's patches stand among four times as many. Rotary positions do nothing
# about either.
#
# So this test says how far *these models* get: enlarged, to about 40 pixels, a quarter more than in training. It does
# not say which positions are better; for that a model has to need its places. In Heo et al. (2024), rotary ViTs trained
# on ImageNet lose less on larger pictures than ViTs with learned positions.

# %% [markdown]
# ### Exercise 13.10 · Squeezed places
# *stretch · hard · 8 minutes*
#
# Axial places go on past those of training when a picture gets finer. Here is a cure that needs no training: count on
# in smaller steps. Write the places of `count` patches along one axis for a model that was trained with `trained`
# patches, whose centres lay at the places 0, 1, 2, ... Each centre keeps its share of the image: what lay in the middle
# has the place of the middle.
#
# <details><summary>Hint</summary>
#
# Count from the image's edge: the centre of patch i lies i + 0.5 patches from it, whatever their size. How many patches
# of training is that? And which place has a centre that lies half a patch from the edge?
#
# </details>


# %% tags=["exercise"]
def my_places(count, trained):
    return ...  # (count,)


# %%
check.squeezed_places(my_places)

# %% [markdown]
# ## Summary
#
# | part | what it does | a reason to take it |
# |---|---|---|
# | rotary | turns queries and keys by their places; only differences remain | other image sizes |
# | registers | tokens without a place that nobody reads | clean maps of large models |
# | RMSNorm | LayerNorm without mean and bias | fewer computations |
# | QK-norm | normalises queries and keys, bounds the scores | training that diverges |
# | LayerScale | taps on the branches, nearly closed at first | deep stacks |
# | SwiGLU | a gate in the MLP | a measurement of your own |
#
# - Swap one part at a time, at equal weights, steps and pictures; compare within a seed, and show the interval.
# - That a model *takes* a larger image does not say that it answers there.

# %% [markdown]
# ## What comes next
#
# You can now read the config of a recent model and build each part of it. Take one to your own pictures:
# [12 Your own images](12_your_own_images.ipynb).

# %% [markdown]
# ## References
#
# - Su et al. 2021, [RoFormer: Enhanced Transformer with Rotary Position Embedding](https://arxiv.org/abs/2104.09864).
# - Heo et al. 2024, [Rotary Position Embedding for Vision Transformer](https://arxiv.org/abs/2403.13298): two axes, and
#   other image sizes.
# - Siméoni et al. 2025, [DINOv3](https://arxiv.org/abs/2508.10104): section 3.2 for the normalised places.
# - Darcet et al. 2024, [Vision Transformers Need Registers](https://arxiv.org/abs/2309.16588).
# - Oquab et al. 2024, [DINOv2: Learning Robust Visual Features without Supervision](https://arxiv.org/abs/2304.07193).
# - Zhai et al. 2023, [Sigmoid Loss for Language Image Pre-Training](https://arxiv.org/abs/2303.15343): SigLIP.
# - Fini et al. 2024, [Multimodal Autoregressive Pre-training of Large Vision
#   Encoders](https://arxiv.org/abs/2411.14402): AIMv2.
# - Touvron et al. 2021, [Going deeper with Image Transformers](https://arxiv.org/abs/2103.17239): LayerScale.
# - Zhang and Sennrich 2019, [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467).
# - Henry et al. 2020, [Query-Key Normalization for Transformers](https://arxiv.org/abs/2010.04245).
# - Dehghani et al. 2023, [Scaling Vision Transformers to 22 Billion Parameters](https://arxiv.org/abs/2302.05442):
#   section 2, QK-norm.
# - Shazeer 2020, [GLU Variants Improve Transformer](https://arxiv.org/abs/2002.05202).

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 13.1
#
# Only $n - m$ counts, with its sign: 5 - 2 = 3 = 3 - 0. Swapped places give -3, and a turn back is another turn.

# %% tags=["solution"]
q, k = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64)  # (d,) each: any two vectors
pairs = {"a": (5, 2), "b": (0, 3), "c": (4, 10), "d": (3, 5)}
found = {letter: (turn(0.3 * m) @ q) @ (turn(0.3 * n) @ k) for letter, (m, n) in pairs.items()}
same = [letter for letter in pairs if torch.isclose(found[letter], q @ (turn(0.9) @ k))]
assert same == ["b"] and check.same_score(same[0]).passed

# %% [markdown]
# ### Solution 13.2
#
# The halves hold all first and all second numbers, so one line turns every pair.


# %% tags=["solution"]
def turn_solution(x, angles):
    a, b = x.chunk(2, dim=-1)  # (N, d/2) each
    sin, cos = angles.sin(), angles.cos()  # (N, d/2) each
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)  # (N, d)


quarter_and_half = math.pi * torch.tensor([[0.5, 1.0]])  # (N, d/2)
example = turn_solution(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter_and_half)
assert torch.allclose(example, torch.tensor([[-3.0, -2.0, 1.0, -4.0]]), atol=1e-6)
assert check.rotary_turn(turn_solution).passed

# %% [markdown]
# ### Solution 13.3
#
# `cartesian_prod` lists row and column of each patch, the column changing fastest: row by row.


# %% tags=["solution"]
def angles_solution(rows, columns, d, temperature):
    frequencies = temperature ** (-4 * torch.arange(d // 4) / d)  # (d/4,)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))  # (P, 2)
    return (places[:, :, None] * frequencies).flatten(1)  # (P, 2, d/4) -> (P, d/2)


angles = angles_solution(2, 3, 8, 100.0)  # (P, d/2)
assert torch.allclose(angles.sin(), RotaryEmbedding(8).get_embed((2, 3))[:, :4])
assert check.grid_angles(angles_solution).passed

# %% [markdown]
# ### Solution 13.4
#
# The patches are the last P tokens, and the values stay as they are. Both lines of the exercise then print 0.00.


# %% tags=["solution"]
def attention_solution(q, k, v, angles):
    first = len(q) - len(angles)  # tokens without a place

    def turned(x):
        return torch.cat([x[:first], turn_solution(x[first:], angles)])  # (N, d)

    weights = (turned(q) @ turned(k).T / q.shape[-1] ** 0.5).softmax(dim=-1)  # (N, N)
    return weights @ v  # (N, d)


q, k, v = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 8, 8)))  # each (N, d), the last six patches
alone = [attention_solution(q[2:], k[2:], v[2:], moved) for moved in (angles, angles + 1)]
assert torch.allclose(*alone, atol=1e-5)
swap = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])
swapped = attention_solution(q[swap], k[swap], v[swap], angles)
assert torch.allclose(attention_solution(q, k, v, angles)[swap], swapped)
assert check.repaired_rotary(attention_solution).passed

# %% [markdown]
# ### Solution 13.5
#
# The mean of the squares, not the variance: nothing is subtracted.


# %% tags=["solution"]
def rms_norm_solution(x, weight, eps):
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


assert torch.allclose(rms_norm_solution(token, torch.ones(4), 0.0), token / 30**0.5)
assert check.rms_norm(rms_norm_solution).passed

# %% [markdown]
# ### Solution 13.6
#
# With mean square 1, the squares of 64 numbers sum to 64: each vector is 8 long. The product of two such vectors is
# largest where they point the same way: 8 x 8 = 64. Divided by √64 that is 8, in general √d.

# %% tags=["solution"]
query = RMSNorm(64)(torch.arange(1.0, 65.0))  # (d,); the key that fits best is the query itself
assert abs(query @ query / 64**0.5 - 8) < 1e-3
assert check.largest_score(8).passed

# %% [markdown]
# ### Solution 13.7
#
# One matrix for the gate, one for what passes it, one back to D numbers.


# %% tags=["solution"]
def swiglu_solution(x, fc1_g, fc1_x, fc2):
    return fc2(F.silu(fc1_g(x)) * fc1_x(x))


assert check.swiglu(swiglu_solution).passed

# %% [markdown]
# ### Solution 13.8
#
# The patches are the last P tokens; counted from the end, no number of registers is needed.


# %% tags=["solution"]
def registers_solution(cls_token, registers, patches, blocks):
    B, P, D = patches.shape
    x = torch.cat([cls_token, registers.expand(B, -1, -1), patches], dim=1)  # (B, 1 + R + P, D)
    for block in blocks:
        x = block(x)
    return x[:, 0], x[:, -P:]  # (B, D), (B, P, D)


assert check.with_registers(registers_solution).passed

# %% [markdown]
# ### Solution 13.9
#
# The MLP has 2 matrices of D x 4 D numbers, SwiGLU 3 of D x hidden: hidden = 8/3 D.

# %% tags=["solution"]
for width in (1536, 1024):
    print(width, sum(p.numel() for p in SwiGLU(384, width).parameters() if p.ndim == 2))
assert sum(p.numel() for p in MLP(384, 4 * 384).parameters() if p.ndim == 2) == 3 * 384 * 1024
assert check.swiglu_width(8 * 384 // 3).passed

# %% [markdown]
# ### Solution 13.10
#
# Patch i has its centre at i + 0.5 patches. Times `trained / count` it is measured in patches of training, whose
# number 0 has its centre at 0.5.


# %% tags=["solution"]
def places_solution(count, trained):
    return (torch.arange(count) + 0.5) * trained / count - 0.5  # (count,)


assert check.squeezed_places(places_solution).passed
