# %% [markdown]
# # 02 · Positional encoding
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - show that attention has no idea where a patch lies, and say what a shuffle changes and what it leaves alone;
# - write positions as sines and cosines, for a row of tokens and for a 2-D grid, and read a similarity map;
# - say what learned positions learn, and what they do not;
# - put the class token in its place, before the positions are added;
# - move a model from images of 224 pixels to 384 by interpolating its positions.
#
# About {minutes} minutes to read and do, in two parts; 12 s of computing on two CPU cores.
# Read [01 Patch
# embedding](01_patch_embedding.ipynb) first.

# %%
import torch
import torch.nn.functional as F
from torch import nn

import vit_tutorial
from vit_tutorial import (
    MultiHeadAttention,
    PatchEmbedding,
    VisionTransformer,
    ViTConfig,
    check,
    course,
    datasets,
    patchify,
    plots,
    set_image_size,
    unpatchify,
    weights,
    widgets,
)
from vit_tutorial.files import CHECKPOINT

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(2)

# %% [markdown]
# ## Which places are alike?

# %%
trained = weights.load(CHECKPOINT)  # a small ViT that this course trained on photographs of 32 x 32 pixels
widgets.PositionExplorer(trained, place=25)

# %% [markdown]
# This ViT cuts a photograph into 8 x 8 patches and gets them as a list. For each place of the grid it has learned one
# vector; nobody told it which places are neighbours. Point at a place. Dark **orange** places have a
# vector of nearly the same direction, dark **purple** ones of the opposite.
#
# The spot of orange follows you: the model knows what lies next to what. Sometimes there is a second spot, at the
# mirror image. Where can it have learned that? And choose *none* under *Positions*: one colour, no place can be told
# from any other. What does a transformer lose then?
#
# The last question first.

# %% [markdown]
# ## Are these two the same picture?

# %%
P, rows, columns = 32, 7, 7
cat = datasets.sample_image("cat", 224)[None] / 255  # (B, C, Y, X) = (1, 3, 224, 224)
order = torch.randperm(rows * columns)  # place n gets patch order[n]
shuffled_cat = unpatchify(patchify(cat, P)[:, order], P, 224)  # (1, 3, 224, 224)

fig, (left, right) = plots.figure(4.8, 2.4, 1, 2)
for ax, picture in (left, cat), (right, shuffled_cat):
    plots.draw_grid(ax, F.avg_pool2d(picture[0], 2), P // 2)  # drawn at half size
plots.show(
    fig,
    "Left: a photograph of a cat, cut into 7 x 7 patches. Right: the same 49 patches in a random order. You can "
    "find an eye and an ear, but no cat.",
)

# %% [markdown]
# Left you see a cat, right a heap of cat pieces. What does **attention** see, the part of a transformer in which
# patches exchange information?
#
# What attention does inside is the subject of notebook 03. Here it is a closed box with one label: *attention mixes
# tokens by content*. Each token goes in, looks at all the others, and comes out as a mixture of them: `(B, N, D)` in,
# `(B, N, D)` out. (B images, N tokens, D numbers a token, as always.)

# %% [markdown]
# ## What does a shuffle do to attention?
#
# First the tokens, made as in notebook 01. Each patch is embedded on its own, so a shuffled photograph gives the same
# tokens, shuffled:

# %%
embed = PatchEmbedding(image_size=224, patch_size=P, embed_dim=64).requires_grad_(False)
tokens = embed(cat)  # (1, 49, 64)
shuffled_tokens = embed(shuffled_cat)  # (1, 49, 64)
assert torch.allclose(shuffled_tokens, tokens[:, order], atol=1e-5)
tokens.shape

# %% [markdown] tags=["predict"]
# **Predict before you run.** Now the closed box, with random weights. It gets the tokens of the cat and those of the
# shuffled cat. Its two outputs are compared place by place; then again, after the first output has been shuffled as
# the patches were. Each time the largest difference is printed. Which is zero?
#
# - a: both
# - b: only the first
# - c: only the second
# - d: neither

# %%
attention = MultiHeadAttention(embed_dim=64, num_heads=4).requires_grad_(False)
attention.qkv.weight.mul_(6)  # larger weights mix more selectively: there is more to see
mixed, shuffled_mixed = attention(tokens), attention(shuffled_tokens)  # (1, 49, 64) each

print(f"place by place:                {(mixed - shuffled_mixed).abs().max():.4f}")
print(f"after shuffling the first too: {(mixed[:, order] - shuffled_mixed).abs().max():.4f}")

# %% [markdown]
# c. Place by place the results differ, as other patches lie there. But shuffle the first result in the same way, and
# the two agree: shuffling before attention or after it is the same. The reason: an output token is a weighted sum over
# all tokens, the weights depend on what the tokens hold, and a sum has no order. So each token got the same mixture,
# wherever it stood.
#
# A picture of it: the first of the 64 numbers of each output token, laid out on the grid (yellow: largest). The third
# panel is the first,
# its tokens shuffled as the patches were.


# %%
def output_map(ax, output, title):
    """The first number of each output token (1, N, D), laid out on the grid."""
    plots.draw_matrix(ax, output[0, :, 0].reshape(rows, columns), title, numbers=False)  # (N,) -> (rows, columns)


assert torch.allclose(mixed[:, order], shuffled_mixed, atol=1e-5)
fig, axes = plots.figure(7.2, 2.5, 1, 3)
output_map(axes[0], mixed, "of the cat")
output_map(axes[1], shuffled_mixed, "of the shuffled cat")
output_map(axes[2], mixed[:, order], "of the cat, then shuffled")
plots.show(
    fig,
    "Three 7 x 7 maps of attention's output. The first and the second look different. The "
    "third, the first with its tokens shuffled like the patches, equals the second in all 49 places.",
)

# %% [markdown]
# Two words for this. Attention is **equivariant** to permutations: permute the input and the output is permuted along
# with it. A permutation is a shuffle: the same things in another order.
#
# A classifier needs one answer for an image, so the tokens are **pooled**, for example averaged over all places. An
# average has no order. So the answer is **invariant**: a shuffle does not change it at all.

# %%
pooled, shuffled_pooled = mixed.mean(dim=1), shuffled_mixed.mean(dim=1)  # (1, 64) each
assert torch.allclose(pooled, shuffled_pooled, atol=1e-6)
pooled[0, :4], shuffled_pooled[0, :4]

# %% [markdown]
# More layers do not help. The other parts of a transformer work on each token alone, so a whole Vision Transformer
# without positions gives the cat and the heap of pieces the same logits. (Logits are the class scores; why `allclose`
# and not `equal`? Sums in another order round differently, in the seventh digit.)


# %%
def logits_of_both(position):
    """Logits (1, num_classes) of a small random ViT for the cat and for the shuffled cat."""
    torch.manual_seed(0)
    model = VisionTransformer(
        ViTConfig(224, P, embed_dim=64, depth=2, num_heads=4, num_classes=3, pool="mean", position=position)
    )
    with torch.no_grad():
        return model(cat), model(shuffled_cat)


ours, theirs = logits_of_both("none")
assert torch.allclose(ours, theirs, atol=1e-6)
ours, theirs

# %% [markdown]
# *To remember: without positions, a transformer sees a bag of patches. It is no bug in the weights; no training can
# change it.*

# %% [markdown]
# ### Exercise 2.1 · Another picture, the same answer
#
# *predict · easy · 3 minutes*
#
# A ViT without positions, with mean pooling and P = 32, looks at a photograph of 224 x 224. You change the
# photograph. After which change are the logits the same?
#
# - **a** mirror it, left to right
# - **b** put its 7 rows of patches in reverse order, each patch itself upright
# - **c** move it 16 pixels to the right; what falls off comes in again on the left
# - **d** turn it upside down
#
# <details><summary>Hint</summary>
#
# The order of the patches does not matter. What about the pixels *inside* a patch?
#
# </details>

# %% tags=["exercise"]
answer = ...  # "a", "b", "c" or "d"

# %%
check.same_to_attention(answer)

# %% [markdown]
# ### Exercise 2.2 · Put the tokens back
#
# *write · easy · 4 minutes*
#
# `shuffled = tokens[:, order]` put token `order[n]` at place n. Write the function that gets `shuffled` and `order`
# and returns the tokens as they were.
#
# <details><summary>Hint</summary>
#
# Where in `order` does the number 0 stand? There lies token 0. `argsort` answers this for all tokens at once. Or make
# an empty tensor and assign to `[:, order]`.
#
# </details>


# %% tags=["exercise"]
def unshuffle(shuffled, order):
    tokens = ...  # (B, N, D)
    return tokens


# %%
check.unshuffle(unshuffle)

# %% [markdown]
# ## Give each place a vector of its own

# %%
table = torch.randn(1, rows * columns, 64)  # (1, N, D): row n belongs to place n, whatever patch lies there
placed = attention(tokens + table)[:, order]  # output tokens shuffled as the patches of the other picture
shuffled_placed = attention(shuffled_tokens + table)
maps = [x[0, :, 0].reshape(rows, columns) for x in (mixed[:, order], shuffled_mixed, placed, shuffled_placed)]

titles = ["cat, shuffled after", "cat, shuffled before", "after, with positions", "before, with positions"]
fig, axes = plots.figure(8, 2.2, 1, 4)
for ax, values, title in zip(axes, maps, titles, strict=True):
    plots.draw_matrix(ax, values, title, numbers=False)
plots.show(
    fig,
    "Four 7 x 7 maps of attention's output, that of the cat shuffled afterwards. Without positions the maps of the "
    "cat and of the shuffled cat are the same; with positions they differ.",
)
assert (placed - shuffled_placed).abs().max() > 0.1  # to spare in 30 runs: 9.8

# %% [markdown]
# The repair is one addition. A table holds one vector for each *place*; it is added to the token that lies there:
#
# $$z_n = x_n + p_n$$
#
# $x_n$ is the token of patch $n$, $p_n$ the **position embedding** of place $n$, and $z_n$ what goes into the
# transformer. An eye at place 10 and the same eye at place 40 are now two different tokens. The table above is
# random; what a better one holds is the next question.

# %% [markdown]
# **Why does adding work?** Here is a toy to do by hand: two tokens of one number each, 1 and 2, at places with the
# positions 10 and 20.
#
# | | tokens + positions | sum | sum of squares |
# |---|---|---|---|
# | in order | 1 + 10 = 11, 2 + 20 = 22 | 33 | 605 |
# | swapped | 2 + 10 = 12, 1 + 20 = 21 | 33 | 585 |
#
# The plain sum still forgets the order. The sum of squares does not: $(x + p)^2$ contains $2xp$, a product of content
# and place.

# %%
positions = torch.tensor([10.0, 20.0])
for contents in torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]):
    placed_toy = contents + positions
    print(placed_toy.tolist(), "sum", placed_toy.sum().item(), "sum of squares", placed_toy.square().sum().item())

# %% [markdown]
# So positions need a partner that *multiplies*. A transformer has two: attention compares tokens by products, and its
# small network after attention is not linear (notebook 04). In a fresh model the logits move only a little:

# %%
for position in "none", "learned", "sinusoidal":
    ours, theirs = logits_of_both(position)
    print(f"{position:10} the logits differ by {(ours - theirs).abs().max():.4f}")
    assert (position == "none") == torch.allclose(ours, theirs, atol=1e-6)

# %% [markdown]
# That is enough for training to pull on, as you will see. ("Learned" and "sinusoidal" are the two tables that
# follow.)
#
# Why *add*, and not append the position as extra numbers? Appending would widen each token. Added, position and
# content share D numbers; the model may keep some directions for "where" and others for "what".
#
# *To remember: a table with one row for each place, added once, before the first block.*

# %% [markdown]
# ## What should the table hold?
#
# Clocks. One place, four hands:


# %%
frequencies = 10000.0 ** -(torch.arange(4) / 4)  # (D/2,): 1, 0.1, 0.01, 0.001 radians for each place


def clocks(place):
    """One clock for each frequency, its hand turned by frequency x place from 12 o'clock."""
    fig, axes = plots.figure(8, 2.5, 1, 4)
    for ax, frequency in zip(axes, frequencies.tolist(), strict=True):
        sine, cosine = torch.tensor(frequency * place).sin().item(), torch.tensor(frequency * place).cos().item()
        around = torch.linspace(0, 2 * torch.pi, 100)
        ax.plot(around.sin(), around.cos(), color="#999999", linewidth=1)
        ax.plot([0, sine], [0, cosine], color=plots.COLOURS[0], linewidth=3)
        ax.plot(sine, cosine, "o", color=plots.COLOURS[1])
        ax.set(title=f"frequency {frequency:g}\nsin {sine:.2f}, cos {cosine:.2f}", aspect="equal")
        ax.title.set_fontsize(10)
        ax.set_axis_off()
    return fig, (
        f"Four clocks for place {place}. The tip of each hand is a point (sine, cosine) on the circle. The first "
        "hand turns by 1 radian for each place, each following hand ten times slower; the last hardly leaves 12 "
        "o'clock."
    )


widgets.interactive_figure(clocks, place=range(64))

# %% [markdown]
# Move *place* one step at a time: the first hand jumps by 57 degrees (1 radian), the others creep. Compare place 0
# and place 44: the first hand is back, the second is not.

# %% [markdown]
# Why clocks? We have four wishes: each place has its own vector; neighbouring places have similar vectors; the
# numbers stay small, however long the list; and a step to the neighbour is the same in every list. Counting fails:
#
# - $p_n = n$ grows, and place 195 shouts down every token;
# - $p_n = n / N$ is small, but a step to the neighbour is 1/49 in one image and 1/196 in another.
#
# The tip of a hand stays on its circle for ever. The fast hand tells neighbours apart; slow hands say which round it
# is.

# %% [markdown]
# The position embedding of place $n$ is the list of all tips. With $D/2$ hands of the frequencies $\omega_i$:
#
# $$
# p_n = \bigl(\sin \omega_0 n,\ \sin \omega_1 n,\ \ldots,\ \cos \omega_0 n,\ \cos \omega_1 n,\ \ldots\bigr), \qquad
# \omega_i = 10000^{-i/(D/2)}
# $$
#
# $\omega_i$ is in radians for each place, $i$ runs from 0 to $D/2 - 1$, and $p_n$ has D numbers, none larger than 1.

# %% [markdown]
# By hand, for four places and two hands (D = 4). So that the slow hand visibly moves, we take the frequencies 1 and
# 0.1 here.

# %%
places = torch.arange(4)  # (N,)
two_hands = torch.tensor([1.0, 0.1])  # (D/2,)
angles = places[:, None] * two_hands  # (N, D/2): place times frequency
angles

# %%
toy = torch.cat([angles.sin(), angles.cos()], dim=1)  # (N, D)
toy

# %% [markdown]
# Check row 1 with a pocket calculator set to radians: sin 1 = 0.8415, sin 0.1 = 0.0998, cos 1 = 0.5403, cos 0.1 =
# 0.9950. The columns are sine of the fast hand, sine of the slow hand, then the cosines.
#
# In the transformer paper sines and cosines take turns. The order of the columns does not matter, as the layer that
# follows can read them in any order; it must only be the same for all places. As a function:


# %%
def sinusoids(places, frequencies):
    """Sines, then cosines, of each place (N,) times each frequency (D/2,): (N, D)."""
    angles = places[:, None] * frequencies  # (N, D/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (N, D)


assert torch.equal(sinusoids(places, two_hands), toy)

# %% [markdown]
# ## How alike are two places?

# %%
many = 10000.0 ** -(torch.arange(16) / 16)  # (D/2,): 16 hands, so D = 32
row = sinusoids(torch.arange(64), many)  # (N, D) = (64, 32)

fig, (left, right) = plots.figure(8.4, 2.9, 1, 2)
for hand in 0, 4, 8:
    left.plot(row[:, hand], label=f"frequency {many[hand]:g}")
left.set(xlabel="place", ylim=(-1.1, 1.7), title="three of the 16 sines")
left.legend(fontsize=8, loc="upper right", ncols=2)
picture = right.imshow(row.T, aspect="auto", cmap="viridis")
right.set(xlabel="place", ylabel="column of the table", title="the whole table: 16 sines, 16 cosines")
fig.colorbar(picture)
plots.show(
    fig,
    "Left: three sine waves over 64 places, with frequencies 1, 0.1 and 0.01; the first goes round ten times, the "
    "last rises slowly. Right: the table as a heat map; its upper rows ripple fast, and the ripples get longer "
    "downwards.",
)

# %% [markdown]
# Attention compares tokens by **dot products**: multiply number by number and add up. So what is the dot product of
# two places $m$ and $n$? Each hand gives $\sin a \sin b + \cos a \cos b = \cos(a - b)$, and so
#
# $$p_m \cdot p_n = \sum_i \cos\bigl(\omega_i (m - n)\bigr).$$
#
# Only the *distance* $m - n$ is left. **Check by hand** for the four toy places: neighbours have $\cos 1 + \cos 0.1 =
# 0.5403 + 0.9950 = 1.5353$.

# %%
products = toy @ toy.T  # (N, N): dot product of each place with each
products

# %% [markdown]
# Each diagonal of this matrix holds one number again and again: one distance, one value. A place with itself has 2,
# one for each hand. Divided by the lengths of both vectors, the dot product is the **cosine similarity**: 1 for the
# same direction, 0 for nothing in common, -1 for opposite. We use it for all maps that follow.


# %%
def similarity(pos):
    """Cosine similarity of each row to each: (N, D) -> (N, N)."""
    unit = F.normalize(pos, dim=-1)  # (N, D), each row with length 1
    return unit @ unit.T  # (N, N)


assert torch.allclose(similarity(toy), products / 2)
for k in range(64):
    diagonal = similarity(row).diagonal(k)
    assert torch.allclose(diagonal, diagonal[0], atol=1e-4)  # one value for each distance k

# %% [markdown]
# **Why several frequencies?** Try a table with one fast hand, one with one slow hand, and one with all 16:

# %%
distance = torch.arange(64)
hands = {"one fast hand": many[:1], "one slow hand": many[8:9], "all 16 hands": many}

fig, ax = plots.figure(6.5, 2.6)
for name, chosen in hands.items():
    ax.plot(distance, similarity(sinusoids(distance, chosen))[0], label=name)
ax.set(xlabel="distance in places", ylabel="similarity", ylim=(-1.1, 1.6))
ax.legend(fontsize=9, loc="upper center", ncols=3)
plots.show(
    fig,
    "Similarity against distance. With one fast hand it swings between 1 and -1 and is back near 1 again and "
    "again. With one slow hand it stays near 1 for many places. With all 16 hands it falls from 1 to about 0.5, "
    "with ripples, and never comes back to 1.",
)

# %% [markdown]
# The fast hand alone takes place 44 for place 0. The slow hand alone can hardly tell neighbours apart. Together they do
# both: one peak, at the place itself.
#
# A wrong picture that many people carry: "the sine *is* the position". No single number is. A place is the pattern of
# all hands together, as 10:42 is the pattern of two.
#
# *To remember: sinusoids make the similarity of two places a function of their distance, and need nothing learned.*

# %% [markdown]
# ### Exercise 2.3 · Back too soon
#
# *experiment · easy · 4 minutes*
#
# Take one hand with frequency 1. What is the smallest distance (a whole number of places, at least 1) at which the
# similarity is above 0.95 again? Guess from the figure, then compute.
#
# <details><summary>Hint</summary>
#
# `similarity(sinusoids(distance, many[:1]))[0]` is the similarity to place 0. A full turn is 2 pi = 6.28 radians.
#
# </details>

# %% tags=["exercise"]
first_distance = ...  # a whole number

# %%
check.first_repeat(first_distance)

# %% [markdown]
# ## A grid has two coordinates

# %%
fixed = vit_tutorial.sinusoidal_positions(128, (14, 14))[0]  # (N, D) = (196, 128), built in a moment
columns_shown = {0: "sine of the column", 8: "the same, slower", 64: "sine of the row", 72: "the same, slower"}

fig, axes = plots.figure(8, 2.3, 1, 4)
for ax, (d, title) in zip(axes, columns_shown.items(), strict=True):
    plots.draw_matrix(ax, fixed[:, d].reshape(14, 14), title, numbers=False, vmin=-1, vmax=1)  # (N,) -> (14, 14)
plots.show(
    fig,
    "Four columns of a 2-D position table, each laid out as a 14 x 14 map. The first two vary from left to right "
    "only, fast and slowly; the last two from top to bottom only.",
)

# %% [markdown]
# (Yellow is 1, dark blue -1.) A patch has a row *and* a column. In the flat list, a patch and the one right below it
# stand 14 places apart: near in the image, far in the list. So give each coordinate its own clocks: half of the D
# numbers tell the column, the other half the row.
#
# Build it for a grid of 2 rows and 3 columns, D = 8, so two hands for each coordinate. First the coordinates of the N
# = 6 patches, in the order in which `patchify` counts them:

# %%
y, x = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")  # (rows, columns) each
y, x = y.flatten(), x.flatten()  # (N,) each: row and column of patch 0, 1, ...
y, x

# %%
small = torch.cat([sinusoids(x, two_hands), sinusoids(y, two_hands)], dim=1)  # (N, D) = (6, 8)
assert torch.equal(small[1, :4], small[4, :4])  # patches 1 and 4 share column 1: the same first half
assert torch.equal(small[3, 4:], small[5, 4:])  # patches 3 and 5 share row 1: the same second half
small

# %% [markdown]
# Any grid, any D that is a multiple of 4 (sine and cosine for two coordinates). The package holds the same code:


# %% tags=["package"]
def sinusoidal_positions(embed_dim, grid):
    if embed_dim % 4:
        raise ValueError(f"expected a width that is a multiple of 4 (sine and cosine for 2 axes), found {embed_dim}")
    rows, columns = grid
    frequencies = 10000 ** -(torch.arange(embed_dim // 4) / (embed_dim // 4))  # (D/4,)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y = y.flatten()[:, None] * frequencies  # (N, D/4)
    x = x.flatten()[:, None] * frequencies  # (N, D/4)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]  # (1, N, D)


# %%
hands = torch.tensor([1.0, 0.01])  # two for each coordinate: 10000 ** -(0 / 2) and 10000 ** -(1 / 2)
by_hand = torch.cat([sinusoids(x, hands), sinusoids(y, hands)], dim=1)  # (N, D) = (6, 8)
assert torch.allclose(sinusoidal_positions(8, (2, 3))[0], by_hand)
assert torch.equal(sinusoidal_positions(128, (14, 14))[0], fixed)

# %% [markdown]
# Now the picture by which position embeddings are judged. A **similarity map** takes one place and colours each place
# of the grid by its similarity to it: the map that the explorer draws. Here it is for the sinusoids.

# %%
widgets.PositionExplorer(trained, kind="sinusoidal", rows=14, stretched=True)

# %% [markdown]
# Point at a corner, then at the middle. Three things to notice:
#
# - The peak goes along: each place knows where it is.
# - There is a cross. Half of the numbers tell the column alone, so a place in the same column agrees in half of them,
#   however far away.
# - No place is unlike. The colours are stretched here; the lowest similarity of all is
#   {=similarity(fixed).min():.2f}. Choose *Colours from -1
#   to 1*, and the whole grid is some shade of orange.
#
# Check the explorer by hand: hold row 8, column 8 with a click and point at the places below. (It counts from 1, code
# from 0.)

# %%
sim = similarity(fixed)  # (196, 196)
center = 7 * 14 + 7  # row 8, column 8 of the explorer
for name, (i, j) in {"row 8, column 9": (7, 8), "row 8, column 1": (7, 0), "row 1, column 1": (0, 0)}.items():
    print(f"{name:16} {sim[center, i * 14 + j]:.3f}")
print(f"the lowest of all {sim.min():.3f}")

# %% [markdown]
# Why so alike? The base 10000 comes from the transformer paper, which is about sentences, and makes the slowest hands
# very slow. Over 13 steps nearly half of the hands hardly move, and so agree everywhere:

# %%
turned = 13 * 10000 ** -(torch.arange(32) / 32)  # (D/4,): how far each hand gets from one edge to the other, in radians
print(f"{(turned < 0.1).sum()} of 32 hands turn by less than 0.1 radian (6 degrees) across the image")

# %% [markdown]
# Still, two well-known ways to train a ViT without labels, MAE and MoCo v3 (see the references), use a fixed 2-D table
# of sinusoids. The base is a convention.
#
# *To remember: half of D for the column, half for the row.*

# %% [markdown]
# ### Exercise 2.4 · One table from two
#
# *write · medium · 5 minutes*
#
# You have a vector for each column of the grid, `column_table` (columns, D/2), and one for each row, `row_table` (rows,
# D/2); they need not be sinusoids. Make the table of the whole grid, (N, D): for each place first its column's
# vector, then its row's, in the order in which patches are counted.
#
# <details><summary>Hint</summary>
#
# `meshgrid`, as above, gives the row `y` and the column `x` of each place. `column_table[x]` picks a vector for each.
#
# </details>


# %% tags=["exercise"]
def grid_table(column_table, row_table):
    table = ...  # (N, D)
    return table


# %%
check.grid_table(grid_table)

# %% [markdown] tags=["stop"]
# **A place to stop.** You can now show what a shuffle does to attention, and write positions for a row and for a grid.
# The second part lets a model learn its table, adds the class token, and takes a table to a larger image.

# %% [markdown]
# ## Or let the model learn the table
#
# The Vision Transformer of the paper does not compute its table. It starts with small random numbers, as a trained
# parameter like any weight:

# %%
learned = nn.Parameter(torch.empty(1, 14 * 14, 64))  # (1, N, D)
nn.init.normal_(learned, std=0.02)  # normal random numbers with standard deviation 0.02


def draw_map(ax, pos, grid, place, title=None):
    """Similarity of the places of a grid, pos (N, D), to one of them, `place` = (row, column)."""
    row, column = place
    one = similarity(pos)[row * grid[1] + column].reshape(grid)  # (N,) -> (rows, columns)
    plots.draw_matrix(ax, one, title, numbers=False)
    ax.plot(column, row, "o", color=plots.COLOURS[1], markersize=5)


fig, (left, right) = plots.figure(5.4, 2.6, 1, 2)
draw_map(left, fixed, (14, 14), (4, 9), "sinusoidal")
draw_map(right, learned[0].detach(), (14, 14), (4, 9), "learned, before training")
plots.show(
    fig,
    "Similarity maps of row 4, column 9. Sinusoidal: a bright peak with a cross. Learned, before training: the "
    "place itself is bright, the rest is noise.",
)

# %% [markdown]
# Yellow is the most similar place. Before training, a place is no nearer to its
# neighbours than to any other place, but for chance. The model has to find out for itself which
# places are neighbours, from images alone. Does it? First a task for which nothing but the place counts: *in which
# quarter of the image is the bright patch?*


# %%
def scenes(count, side=6):
    """Images (count, 1, 12, 12) with one bright patch of 2 x 2 pixels, and its quarter as the label (count,)."""
    place = torch.randint(side * side, (count,))
    patch = F.one_hot(place, side * side).reshape(count, 1, side, side)  # (count, 1, rows, columns)
    images = 0.3 * torch.rand(count, 1, 1, 1) + 0.7 * F.interpolate(patch.float(), scale_factor=2)
    bottom, right = place // side >= side // 2, place % side >= side // 2
    return images, 2 * bottom + right.long()


torch.manual_seed(1)
images, labels = scenes(8)
quarters = ["top left", "top right", "bottom left", "bottom right"]
plots.show(
    plots.image_grid(images, [quarters[label] for label in labels]),
    "Eight dark grey images of 12 x 12 pixels, each with one bright patch. The title names the quarter in which it is.",
)

# %% [markdown]
# The model below is a very small transformer: patch embedding plus table, one block (attention and the small
# network, notebook 04), the largest value of each number over all places, one linear layer. A maximum, like an
# average, has no order. The loop shows the model new scenes, asks for the quarter and corrects the weights (notebook
# 06).


# %%
def train_on_quarters(table, steps=120):
    """Train a small transformer with this table (1, 36, 32). Returns its accuracy at each step, on new scenes."""
    torch.manual_seed(0)
    embed, block, head = PatchEmbedding(12, 2, 1, 32), vit_tutorial.EncoderBlock(32, 2), nn.Linear(32, 4)
    parameters = [parameter for part in (embed, block, head) for parameter in part.parameters()]
    optimizer = torch.optim.AdamW([*parameters, table], lr=5e-3)
    accuracy = torch.zeros(steps)
    for step in range(steps):
        images, labels = scenes(64)
        x = block(embed(images) + table)  # (B, 36, 32)
        logits = head(x.amax(dim=1))  # (B, 4)
        accuracy[step] = (logits.argmax(dim=1) == labels).float().mean()
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    return accuracy


# %%
tables = {
    "no positions": torch.zeros(1, 36, 32),
    "sinusoidal": sinusoidal_positions(32, (6, 6)),
    "learned": nn.Parameter(0.02 * torch.randn(1, 36, 32)),  # the only one that training may change
}
runs = {name: train_on_quarters(table) for name, table in tables.items()}

# %% [markdown] tags=["predict"]
# **Predict before you run.** The four quarters are equally frequent. How many answers in a hundred does the model
# without positions get right?
#
# - a: about 25
# - b: about 50
# - c: nearly all

# %% tags=["nbval-ignore-output"]
for name, accuracy in runs.items():
    print(f"{name:12} {100 * accuracy[-20:].mean():3.0f} % right in the last 20 steps")

# %% [markdown]
# a. Without positions it stays at about one in four: the four quarters are the same bag of patches, so no training can
# help. With either table it gets nearly all of them. And what does the learned table look like now?

# %%
quarters_table = tables["learned"][0].detach()  # (N, D) = (36, 32)

fig, axes = plots.figure(9, 2.5, 1, 4, width_ratios=[1.8, 1, 1, 1])
for name, accuracy in runs.items():
    axes[0].plot(100 * accuracy.unfold(0, 10, 1).mean(dim=1), label=name)  # mean of 10 steps
axes[0].set(xlabel="step", ylim=(0, 103), title="right answers (%)")
axes[0].legend(fontsize=8, loc="center right")
for ax, place in zip(axes[1:], ((1, 1), (1, 4), (4, 1)), strict=True):
    draw_map(ax, quarters_table, (6, 6), place, f"learned, place {place}")
plots.show(
    fig,
    "Left: right answers against training step. Without positions the curve stays near 25 %; with sinusoidal and "
    "with learned positions it rises to about 100 %. Right: three similarity maps of the learned table; in each "
    "one quarter of the grid is bright, that of the place.",
)
assert runs["no positions"][-20:].mean() < 0.35  # to spare in 30 runs: 0.084
assert runs["learned"][-20:].mean() > 0.9 and runs["sinusoidal"][-20:].mean() > 0.9
y, x = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
quarter = (2 * (y // 3) + x // 3).flatten()  # (36,): the quarter of each place
together = quarter == quarter[:, None]  # (36, 36): are two places in one quarter?
sim = similarity(quarters_table)
assert sim[together].mean() > 0.8 and sim[~together].mean() < 0.3  # to spare in 30 runs: 0.13, 0.54

# %% [markdown]
# **The table has learned the task, not geometry.** All places of a quarter have nearly the same vector: as the task
# asks for no more, the model knows no more. Which of two places in a quarter lies further left, the maps
# do not show.
#
# So what do photographs teach? The course ships a ViT trained on CIFAR-10, photographs of 32 x 32 pixels in an 8 x 8
# grid. Its table has a row more than the grid has places (what for is the next section); the maps leave it out.

# %%
trained_table = trained.pos_embed[0, 1:].detach()  # (N, D): without the row of the class token
trained.config.grid, tuple(trained.pos_embed.shape)


# %%
widgets.PositionExplorer(trained, kind="all")

# %% [markdown]
# Below each large map stand the small ones of all places, as in figure 7 of the ViT paper. In the learned ones, too,
# each map is orange around its own place. Nobody told the model which places are neighbours. A likely reason: in
# photographs neighbouring patches show similar things, and so are useful in similar ways. And it goes further than
# the sinusoids: some places are nearly *opposite* (purple), such as one in the top row and one in the lower middle.
#
# And there is the ghost of the first picture: many maps have a second spot, mirrored left to right. Can you guess why?
# In numbers first:

# %%
sim = similarity(trained_table)  # (64, 64)
y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
where = torch.stack([y.flatten(), x.flatten()], dim=1).float()  # (N, 2): row and column of each place
steps = torch.cdist(where, where, p=1)  # (N, N): steps to the side plus steps up or down
near, far = sim[steps == 1].mean(), sim[steps == 7].mean()
assert near > far
print(f"neighbours {near:.2f}, places 7 steps apart {far:.2f}")

# %%
index = torch.arange(64).reshape(8, 8)  # number of the place in row y, column x
mirrored = sim[index, index.flip(1)].mean()  # each place with its mirror image, left to right
upside_down = sim[index, index.flip(0)].mean()  # and top to bottom
assert mirrored > upside_down
print(f"mirror image left to right {mirrored:.2f}, top to bottom {upside_down:.2f}")

# %% [markdown]
# In training half of the photographs were mirrored left to right, at random (notebook 06), as a mirrored ship is a
# ship; none was turned upside down. That is a likely reason why left and right are alike to the model, and top and
# bottom are not. To be sure, one would train a second model without mirroring.

# %% [markdown]
# How much is this worth on photographs? Less than on our quarters. In the ViT paper (table 8) a model without
# positions reaches 61.4 % on ImageNet in a five-shot test (five images a class), with learned positions 64.2 %; a 2-D
# table and one of relative distances do no better (64.0 %).
#
# A learned table is small: for ViT-B/16, 197 rows of 768 numbers are {=197 * 768:,} of 86.6 million parameters
# (notebook 05). But it fits one grid only.
#
# *To remember: a learned table starts as noise and takes on the structure that its task rewards.*

# %% [markdown]
# ## A token that is no patch


# %%
def draw_tokens(ax, labels, y, colour, first_colour):
    """A row of boxes, the first in its own colour."""
    for i, label in enumerate(labels):
        face = first_colour if i == 0 else colour
        ax.add_patch(plots.Rectangle((i * 1.1, y), 1, 0.7, facecolor=face, edgecolor="#666666"))
        ax.text(i * 1.1 + 0.5, y + 0.35, label, ha="center", va="center", fontsize=9)


fig, ax = plots.figure(7.5, 2.3)
ax.set_axis_off()
ax.set(xlim=(-1.9, 6.7), ylim=(-0.2, 3))
draw_tokens(ax, ["class", "patch 0", "patch 1", "patch 2", "...", "patch 63"], 2.1, "#D6E6F2", "#F6D9B0")
draw_tokens(ax, ["row 0", "row 1", "row 2", "row 3", "...", "row 64"], 1.1, "#E4E4E4", "#F3E9D8")
draw_tokens(ax, ["$z_0$", "$z_1$", "$z_2$", "$z_3$", "...", "$z_{64}$"], 0.0, "#BFE3D5", "#BFE3D5")
for y, label in (2.45, "tokens"), (1.45, "+ positions"), (0.35, "= input"):
    ax.text(-0.2, y, label, ha="right", va="center", fontsize=10)
plots.show(
    fig,
    "Three rows of boxes. Top: the class token, then patches 0 to 63. Middle: rows 0 to 64 of the position table. "
    "Bottom: their sums z 0 to z 64. The class token meets row 0, so patch n meets row n + 1.",
)

# %% [markdown]
# A classifier needs one vector for the image. Averaging the tokens is one way. The paper's way is to add a token of
# its own, the **class token**: a trained vector of D numbers, the same for each image. It stands first, takes part in
# attention like any patch, and so collects from all of them, block after block. In the end it alone is read.
#
# Two things people get wrong: it is not computed from the image (it enters empty-handed), and it is not a class
# (there is one token for all classes).

# %% [markdown]
# The model of the first picture has one. Here it gets two photographs, and four columns of the boxes are checked:

# %%
photos = torch.stack([datasets.sample_image(name, 32) for name in ("cat", "coffee")]) / 255  # (2, 3, 32, 32)
with torch.no_grad():
    patch_tokens = trained.patch_embed(photos)  # (B, N, D) = (2, 64, 128)
    z = trained.embed(photos)  # (B, 1 + N, D): what goes into the first block
cls_token, pos_embed = trained.cls_token.detach(), trained.pos_embed.detach()  # (1, 1, D) and (1, 1 + N, D)

assert torch.allclose(z[:, 0], cls_token[:, 0] + pos_embed[:, 0])
for n in 0, 1, 63:
    assert torch.allclose(z[:, n + 1], patch_tokens[:, n] + pos_embed[:, n + 1], atol=1e-6)
z.shape

# %% [markdown]
# The table has $1 + N$ rows, and row 0 belongs to the class token. It is no place in the image, and it needs none:
# class token plus row 0 are two trained vectors of which only the sum is ever used. The row is there so that one
# addition serves the whole list.
#
# Before the first block the class token knows nothing of the image; after it, it does:

# %%
with torch.no_grad():
    after = trained.blocks[0](z)[:, 0]  # (B, D): what the class token has collected from each image
assert torch.equal(z[0, 0], z[1, 0])  # cat and coffee: the same class token goes in
print(f"class tokens of cat and coffee differ by {(z[0, 0] - z[1, 0]).abs().max():.4f} before the first block,")
print(f"                                     by {(after[0] - after[1]).abs().max():.4f} after it")
assert not torch.allclose(after[0], after[1], atol=1e-4)

# %% [markdown]
# ### Exercise 2.5 · The right shape, the wrong tokens
#
# *repair · medium · 6 minutes*
#
# A colleague's function gives the right shape and raises no error, but their model trains badly. It has two faults.
# Find them with the picture of the boxes above, and write the function anew.
#
# <details><summary>Hint</summary>
#
# Which row of the table does patch 0 get? Where does the class token end up, and which row does it get?
#
# </details>


# %%
def colleague(patch_tokens, cls_token, pos_embed):
    B, N, D = patch_tokens.shape
    x = patch_tokens + pos_embed[:, :N]
    return torch.cat([x, cls_token.expand(B, -1, -1)], dim=1)  # (B, 1 + N, D)


assert colleague(patch_tokens, cls_token, pos_embed).shape == z.shape


# %% tags=["exercise"]
def place_class_token(patch_tokens, cls_token, pos_embed):
    x = ...  # (B, 1 + N, D)
    return x


# %%
check.place_class_token(place_class_token)

# %% [markdown]
# The package makes the table in one function. `config` is the list of a model's settings (notebook 05); `pool` is
# "cls" with a class token and "mean" without. Sinusoidal tables leave row 0 at zero; only learned ones are trained.
# The same code is in the package:


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
for pool in "cls", "mean":
    for position in "learned", "sinusoidal":
        pos = position_embedding(ViTConfig(embed_dim=64, num_heads=4, pool=pool, position=position))
        print(f"{pool:5} {position:11} shape {tuple(pos.shape)}, trained: {pos.requires_grad}")

# %% [markdown]
# ## From 224 pixels to 384

# %%
fig, axes = plots.figure(3.6, 2.0, 1, 2)
for ax, pixels in zip(axes, (224, 384), strict=True):
    plots.draw_grid(ax, F.avg_pool2d(datasets.sample_image("cat", pixels) / 255, 2), 8)  # drawn at half size
    ax.set_title(f"{pixels} pixels: {pixels // 16} x {pixels // 16} patches", fontsize=8)
plots.show(
    fig,
    "The cat twice, cut into patches of 16 pixels: at 224 pixels into 14 x 14, at 384 pixels into 24 x 24. Each "
    "eye is covered by more patches at 384.",
)

# %% [markdown]
# A larger image shows more detail, and many models are trained at 224 pixels and then used at 384. Patches keep their
# 16 pixels, so there are 24 x 24 = 576 of them instead of 196. Patch embedding and attention do not mind: the same
# weights serve any number of tokens. The table does mind:

# %%
pos_224 = torch.cat([torch.ones(1, 1, 64), sinusoidal_positions(64, (14, 14))], dim=1)  # (1, 1 + 196, 64)
try:
    torch.zeros(1, 1 + 576, 64) + pos_224
except RuntimeError as error:
    print(error)

# %% [markdown]
# Where should the 576 vectors come from? Place (0, 0) of the new grid lies in place (0, 0) of the old, and takes
# about a third of its area; (23, 23) lies in (13, 13). So stretch the old table over the image: **interpolate** it,
# as one enlarges a photograph. In fact the table *is* a picture, of 14 x 14 pixels with D channels.

# %% [markdown]
# By hand in one dimension: two places with the numbers 0 and 1, to be stretched to four. The centres of the new
# places lie at $(i+0.5)\cdot\frac{2}{4}-0.5$ in old places: -0.25, 0.25, 0.75, 1.25. Between the old places, read off
# a straight line; beyond the edge, keep the last value.

# %%
two = torch.tensor([[[0.0, 1.0]]])  # (1, D, places) = (1, 1, 2)
F.interpolate(two, size=4, mode="linear")

# %% [markdown]
# ### Exercise 2.6 · Between two places
#
# *predict · easy · 4 minutes*
#
# Four places hold the numbers 0, 3, 6 and 30, and are stretched to six, linearly. What does the new place 4 (counted
# from 0) hold? Work it out by hand before you let `F.interpolate` do it.
#
# <details><summary>Hint</summary>
#
# Its centre lies at (4 + 0.5) x 4/6 - 0.5 in old places. Which two old places are next to that?
#
# </details>

# %% tags=["exercise"]
fifth_number = ...

# %%
check.stretched(fifth_number)

# %% [markdown]
# In two dimensions and smoother, step by step. `bicubic` looks at 4 x 4 old places for each new one, where `bilinear`
# looks at 2 x 2; `antialias` blurs a little when the new grid is *smaller*, so that nothing is skipped.

# %%
cls_pos, grid_pos = pos_224[:, :1], pos_224[:, 1:]  # (1, 1, D) and (1, 196, D): the class token is no place
x = grid_pos.reshape(1, 14, 14, 64).permute(0, 3, 1, 2)  # (1, D, rows, columns): a picture with D channels
x = F.interpolate(x, size=(24, 24), mode="bicubic", antialias=True)  # (1, D, 24, 24)
x = x.permute(0, 2, 3, 1).flatten(1, 2)  # (1, 576, D): a list again
pos_384 = torch.cat([cls_pos, x], dim=1)  # (1, 1 + 576, D)
pos_384.shape

# %% [markdown]
# The package's function is these lines with a check of the input in front. `extra` is 1 with a class token and 0
# without.


# %% tags=["package"]
def interpolate_positions(pos_embed, old_grid, new_grid):
    rows, columns = old_grid
    extra = pos_embed.shape[1] - rows * columns
    if extra not in (0, 1):
        raise ValueError(
            f"expected {rows * columns} positions (one more with a class token) for a grid of {rows} x {columns}, "
            f"found {pos_embed.shape[1]}"
        )
    cls_pos, grid_pos = pos_embed[:, :extra], pos_embed[:, extra:]
    x = grid_pos.float().reshape(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    x = F.interpolate(x, size=tuple(new_grid), mode="bicubic", antialias=True)
    x = x.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)  # (1, N_new, D)
    return torch.cat([cls_pos, x], dim=1)


# %%
assert torch.equal(interpolate_positions(pos_224, (14, 14), (24, 24)), pos_384)
assert torch.equal(vit_tutorial.interpolate_positions(pos_224, (14, 14), (24, 24)), pos_384)

# %% [markdown]
# Before you trust an interpolation, ask it what you know. A constant table must stay constant; the same grid must
# change nothing; the class token must keep its row.

# %%
constant = torch.full((1, 196, 64), 0.7)
assert torch.allclose(interpolate_positions(constant, (14, 14), (24, 24)), torch.tensor(0.7))
assert torch.allclose(interpolate_positions(pos_224, (14, 14), (14, 14)), pos_224, atol=1e-6)
assert torch.equal(pos_384[:, 0], pos_224[:, 0])

# %% [markdown]
# And a trained table? Drag *Grid* from 8 x 8 up to 24 x 24 and back:

# %%
widgets.PositionExplorer(trained, rows=12)

# %% [markdown]
# The picture stays and gets finer: the place that you chose keeps its part of the image, and so does the spot around
# it. Below 8 x 8 it gets coarser, and nothing is skipped.
#
# Now choose *sinusoidal*, *Colours from the lowest to 1*, and drag again. These are not interpolated but computed anew.
# A neighbour's similarity is {=similarity(fixed)[0, 1]:.2f} on every grid,
# so the bright spot stays as many *places* wide and shrinks in the
# image. For a model trained on 14 x 14, place (7, 7), once the middle of the image, would now mean its upper left part.
# So interpolate sinusoids, too.

# %% [markdown]
# The package's `set_image_size` does this to a whole model, in place:

# %%
larger = set_image_size(weights.load(CHECKPOINT), 48)  # 32 -> 48 pixels: 8 x 8 -> 12 x 12 patches
with torch.no_grad():
    logits = larger(datasets.sample_image("cat", 48)[None] / 255)  # (1, 10)
tuple(larger.pos_embed.shape), tuple(logits.shape)

# %% [markdown]
# Interpolation is a start. The model has never seen so many tokens, nor steps so small between neighbours. The ViT
# paper goes on training at the new size (section 3.2).
#
# *To remember: reshape to the grid, resize as a picture, flatten, and leave the class token alone.*

# %% [markdown]
# ## Exercises
#
# Exercises 2.1 to 2.6 stand above, where their ideas are. One more:

# %% [markdown]
# ### Exercise 2.7 · Look at a part of the image
#
# *write · medium · 8 minutes*
#
# You cut a window out of the image: `new_grid = (height, width)` patches, whose upper left patch lies at row `top`,
# column `left` of the `grid`. Each patch keeps the position that it had in the whole image. Return the table for
# the window, `(1, 1 + height * width, D)`, with the class token's row first.
#
# <details><summary>Hint</summary>
#
# Split off row 0, reshape the rest to `(1, rows, columns, D)`, slice, flatten, join. A test by hand: in a grid of 3 x
# 4, the window of 2 x 2 at row 1, column 1 holds places 5, 6, 9 and 10.
#
# </details>


# %% tags=["exercise"]
def crop_positions(pos_embed, grid, top, left, new_grid):
    cropped = ...  # (1, 1 + height * width, D)
    return cropped


# %%
check.crop_positions(crop_positions)

# %% [markdown]
# ## Going further
#
# What stands here can be left out without loss.

# %% [markdown]
# ### Break it: positions that shout


# %%
def alike(a, b):
    """Mean cosine similarity of the tokens a and b (1, N, D), place by place."""
    return F.cosine_similarity(a, b, dim=-1).mean()


sizes = torch.logspace(-2, 1, 13)  # 0.01 to 10
coffee_tokens = embed(datasets.sample_image("coffee", 224)[None] / 255)  # (1, 49, 64)
here, there = table, table.roll(1, dims=1)  # (1, 49, 64) each: each place, and the place before it
same_patch = [alike(tokens + s * here, tokens + s * there) for s in sizes]
same_place = [alike(tokens + s * here, coffee_tokens + s * here) for s in sizes]
mean = torch.cat([tokens, coffee_tokens], dim=1).mean(dim=1)  # (1, D)
centred = alike(tokens - mean, coffee_tokens - mean)

# %%
fig, ax = plots.figure(6, 2.7)
ax.semilogx(sizes, same_patch, "o-", label="same patch, two places")
ax.semilogx(sizes, same_place, "s-", label="same place, two photographs")
ax.axvline(tokens.std(), color="#999999", linestyle=":")
ax.text(tokens.std() * 1.1, 0.6, "size of the tokens", fontsize=9)
ax.set(xlabel="size of the positions (standard deviation)", ylabel="similarity of two tokens", ylim=(-0.05, 1.05))
ax.legend(fontsize=9, loc="lower left")
plots.show(
    fig,
    "Similarity of two tokens against the size of the positions. The same patch at two places: 1 for small "
    "positions, 0 for large ones. Patches of two photographs at the same place: about 0.8 for small positions, 1 "
    "for large ones. The change comes where positions are as large as the tokens.",
)

# %% [markdown]
# Which two tokens are alike: those that *show* the same, or those that *lie* at the same place? With small positions,
# content decides. With positions of size 10, tokens at one place are nearly the same, whatever they show.
# (With small positions cat and coffee are {=same_place[0]:.1f} alike, as all their tokens share a mean. With that mean
# taken out it is {=centred:.1f}.)

# %% [markdown] tags=["predict"]
# **Predict before you run.** What becomes of the model that learned the quarters, if its table starts with numbers of
# size 10 instead of 0.02?
#
# - a: it gets nearly all right, as before
# - b: about half
# - c: not many more than by guessing

# %% tags=["nbval-ignore-output"]
shouting = train_on_quarters(nn.Parameter(10 * torch.randn(1, 36, 32)))
print(f"{100 * shouting[-20:].mean():.0f} % right in the last 20 steps")

# %% [markdown]
# c. The same model, data and number of steps, and yet it learns next to nothing. Before each block, **LayerNorm**
# (notebook 04) scales each token to a fixed size, and of a token whose positions are that large, little is content.
# Nor can the table shrink in time: a training step moves a number by about 0.005 here. Whether these are all the
# causes, this experiment does not tell.
#
# Learned tables start at 0.02. Sinusoids are not small: their root mean square is 0.71, more than these tokens have. If
# a model of yours gives all images the same answer, compare `tokens.std()` with `pos_embed.std()`.

# %%
assert shouting[-20:].mean() < 0.4  # to spare in 30 runs: 0.11

# %% [markdown]
# ### How near is an interpolation?
#
# Sinusoids allow one more check: they can be computed for places *between* places. The new places lie at
# $(i+0.5)\cdot\frac{14}{24}-0.5$; there the sines are known exactly. How near does the interpolation come?

# %%
between = (torch.arange(24) + 0.5) * 14 / 24 - 0.5  # (24,): -0.2083 to 13.2083
hands = 10000 ** -(torch.arange(16) / 16)  # (D/4,)
exact = sinusoids(between, hands)  # (24, D/2)
found = pos_384[0, 1:25, :32]  # (24, D/2): the first row of the new grid, its column half
error = (found - exact).abs()
print(f"largest error: {error[2:-2].max():.4f} inside, {error.max():.4f} at the edge")

# %% [markdown]
# ### Exercise 2.8 · Going on is turning
#
# *stretch · hard · 12 minutes*
#
# To go k places on, each hand turns by its frequency times k, wherever it stands. So there is one matrix that takes
# the sinusoid of place n to that of place n + k, for all n at once: `shift_matrix(frequencies, k) @ p[n] == p[n +
# k]`. Write it, shape `(D, D)`, for the layout of this notebook: all sines, then all cosines.
#
# <details><summary>Hint 1</summary>
#
# sin(a + b) = sin a cos b + cos a sin b, and cos(a + b) = cos a cos b - sin a sin b. Here a is the angle of place n
# and b the frequency times k.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Four blocks of `(D/2, D/2)`, each with numbers on its diagonal only: `torch.diag`. The upper two make the new sines.
#
# </details>


# %% tags=["exercise"]
def shift_matrix(frequencies, k):
    matrix = ...  # (D, D)
    return matrix


# %%
check.shift_matrix(shift_matrix)

# %% [markdown]
# ## Summary
#
# - Attention is equivariant to permutations; with pooling the answer is invariant. Without positions an image is a
#   bag of patches.
# - A position embedding is a table with one row for each place, added once to the tokens: $z_n = x_n + p_n$.
# - Sinusoids: hands that turn at several speeds. The dot product of two places depends on their distance alone. In
#   2-D, half for the column, half for the row.
# - A learned table starts as noise; on photographs it learns neighbourhood.
# - Class token first, then add positions; row 0 is its own.
# - For a new image size, resize the table like a picture and keep row 0.

# %% [markdown]
# ## What comes next
#
# The closed box has been closed long enough. [03 Attention](03_attention.ipynb) opens it: how tokens are compared,
# how scores become weights, and how the mixture is made.

# %% [markdown]
# ## References
#
# - Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762), section 3.5: sinusoids in one
#   dimension.
# - Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): equation 1 (class
#   token and positions), section 3.2 (interpolation), figure 7 (similarity maps), appendix D.4 (what positions are
#   worth).
# - He et al. 2022, [Masked Autoencoders Are Scalable Vision Learners](https://arxiv.org/abs/2111.06377), and Chen,
#   Xie and He 2021, [An Empirical Study of Training Self-Supervised Vision
#   Transformers](https://arxiv.org/abs/2104.02057): fixed 2-D sinusoids.
# - Touvron et al. 2019, [Fixing the train-test resolution discrepancy](https://arxiv.org/abs/1906.06423): why another
#   image size needs care.
# - Su et al. 2021, [RoFormer](https://arxiv.org/abs/2104.09864): rotary positions, which turn queries and keys as
#   exercise 2.8 turns hands.

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 2.1
#
# **b**. Mirroring and turning also change the pixels inside each patch; a shift by half a patch cuts elsewhere. A
# test on the cat:


# %% tags=["solution"]
def bag(image):
    """The patches of an image, sorted, so that their order does not count."""
    patches = patchify(image, P)[0]  # (N, C*P*P)
    return patches[patches.sum(dim=1).argsort()]


changed = {
    "a": cat.flip(3),
    "b": unpatchify(patchify(cat, P).unflatten(1, (7, 7)).flip(1).flatten(1, 2), P, 224),
    "c": cat.roll(16, dims=3),
    "d": cat.flip(2),
}
same = [letter for letter, image in changed.items() if torch.equal(bag(image), bag(cat))]
assert same == ["b"] and check.same_to_attention(same[0]).passed

# %% [markdown]
# ### Solution 2.2
#
# `argsort` gives, for each token, the place where it lies: the **inverse** permutation.


# %% tags=["solution"]
def unshuffle_solution(shuffled, order):
    return shuffled[:, order.argsort()]


assert check.unshuffle(unshuffle_solution).passed

# %% [markdown]
# ### Solution 2.3
#
# cos 6 = 0.9602: at distance 6 the hand is 0.28 radians short of a full turn.

# %% tags=["solution"]
from_place_0 = similarity(sinusoids(torch.arange(64), many[:1]))[0]  # (64,)
first_solution = 1 + (from_place_0[1:] > 0.95).nonzero()[0].item()
assert check.first_repeat(first_solution).passed

# %% [markdown]
# ### Solution 2.4
#
# Row and column of each place pick one vector each from the two tables.


# %% tags=["solution"]
def grid_table_solution(column_table, row_table):
    rows, columns = torch.arange(len(row_table)), torch.arange(len(column_table))
    y, x = torch.meshgrid(rows, columns, indexing="ij")  # (rows, columns) each
    return torch.cat([column_table[x.flatten()], row_table[y.flatten()]], dim=1)  # (N, D)


assert check.grid_table(grid_table_solution).passed

# %% [markdown]
# ### Solution 2.5
#
# Prepend first, then add the whole table: both faults are gone, as no slice is needed any more.


# %% tags=["solution"]
def place_class_token_solution(patch_tokens, cls_token, pos_embed):
    cls_rows = cls_token.expand(len(patch_tokens), -1, -1)  # (B, 1, D)
    return torch.cat([cls_rows, patch_tokens], dim=1) + pos_embed  # (B, 1 + N, D)


assert check.place_class_token(place_class_token_solution).passed

# %% [markdown]
# ### Solution 2.6
#
# The new place lies at 4.5 x 4/6 - 0.5 = 2.5, halfway between the old places 2 and 3: (6 + 30) / 2 = 18.

# %% tags=["solution"]
four = torch.tensor([[[0.0, 3.0, 6.0, 30.0]]])  # (1, D, places) = (1, 1, 4)
fifth_solution = F.interpolate(four, size=6, mode="linear")[0, 0, 4]
assert check.stretched(fifth_solution).passed

# %% [markdown]
# ### Solution 2.7
#
# On the grid a window is a slice in two axes. In the flat list it would be several pieces with gaps between them.


# %% tags=["solution"]
def crop_positions_solution(pos_embed, grid, top, left, new_grid):
    (rows, columns), (height, width) = grid, new_grid
    places = pos_embed[:, 1:].reshape(1, rows, columns, -1)  # (1, rows, columns, D)
    window = places[:, top : top + height, left : left + width].flatten(1, 2)  # (1, height * width, D)
    return torch.cat([pos_embed[:, :1], window], dim=1)  # (1, 1 + height * width, D)


assert check.crop_positions(crop_positions_solution).passed

# %% [markdown]
# ### Solution 2.8
#
# The matrix turns each pair (sine, cosine) by its own angle. Rotary positions (RoPE) build on this: they turn queries
# and keys, so that their dot product depends on the distance alone ([13](13_the_modern_vit.ipynb)).


# %% tags=["solution"]
def shift_matrix_solution(frequencies, k):
    S, C = torch.diag((frequencies * k).sin()), torch.diag((frequencies * k).cos())  # (D/2, D/2) each
    return torch.cat([torch.cat([C, S], dim=1), torch.cat([-S, C], dim=1)])  # (D, D)


assert torch.allclose(shift_matrix_solution(many, 5) @ row[10], row[15], atol=1e-5)
assert check.shift_matrix(shift_matrix_solution).passed
