# %% [markdown]
# # 01 · Patch embedding
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - cut a batch of images into patches with two reshapes and one permute, and put them together again;
# - turn patches into tokens with a `Linear` layer, and show that a `Conv2d` computes the same numbers;
# - read the rows of the projection matrix as filters;
# - say what a patch size costs in tokens, FLOPs and memory before you train anything.
#
# About 50 minutes to read and do; 9 s of computing on two CPU cores. Read [00 Start here](00_start_here.ipynb)
# first.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import EncoderBlock, check, course, datasets, plots, widgets
from vit_tutorial.layers import check_images, grid_size, image_sides

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(1)

# %% [markdown]
# ## How does a picture become a list?

# %%
cat = datasets.sample_image("cat", 224)  # (3, 224, 224), uint8
widgets.PatchExplorer(cat, patch_size=16, patch=74)

# %% [markdown]
# A photograph, cut into squares, and the squares as a list, one row of numbers each. Point at a square: you see its
# pixels, and its row in the list lights up. Then move the patch size to 56: sixteen squares, and you can say what is
# in most of them. At 4 there are 3,136, and hardly one that you could name. **Which size would you choose?** Watch N
# and N² while you try. (Shuffle and Drop half can wait. The picture may be your own, too.)

# %% [markdown]
# A transformer reads a **list of vectors**. In a sentence every word is one. An image has no words, so a Vision
# Transformer makes some: it cuts the image into squares, called **patches**, and turns each patch into one vector,
# called a **token**. This notebook is about that first step. It asks three questions: how to cut, how to turn a
# patch into a vector, and how large a patch should be.

# %% [markdown]
# Why not let each *pixel* be a token? Because each token looks at each other token. (How is the subject of notebook
# 03; here you only need the number of pairs.)
#
# **Predict before you run:** how many pairs of pixels are there in a photograph of 224 x 224?

# %%
for name, tokens in ("pixels", 224 * 224), ("patches of 16 x 16", 14 * 14):
    print(f"{name:20} {tokens:7,} tokens {tokens**2:14,} pairs")
assert (224 * 224) ** 2 == 16**4 * (14 * 14) ** 2

# %% [markdown]
# 65,536 times fewer pairs: that is 16 to the fourth power, and you will meet this fourth power again.
#
# *To remember: a patch is what a word is in a sentence. Patches are there because attention compares all pairs.*

# %% [markdown]
# ## Four patches, cut by hand

# %%
image = torch.arange(16.0).reshape(4, 4)  # (Y, X): one channel, each pixel named by its place in memory
fig, ax = plots.figure(2.6, 2.6)
plots.draw_matrix(ax, image, decimals=0, colour_map="cividis")
ax.axhline(1.5, color="white", linewidth=5)
ax.axvline(1.5, color="white", linewidth=5)
plots.show(
    fig,
    "A 4 x 4 image with pixels numbered 0 to 15 row by row, cut by two white lines into four patches of 2 "
    "x 2. The first patch holds 0, 1, 4 and 5: numbers that are not neighbours in memory.",
)

# %% [markdown]
# Here is an image small enough to check every number: 4 x 4 pixels, one channel, patch size P = 2. Patches are
# counted as you read: left to right, then the next row of patches. Each patch is **flattened**, written as one row
# of numbers, also as you read.

# %%
top_left, top_right = image[0:2, 0:2], image[0:2, 2:4]  # each (P, P)
bottom_left, bottom_right = image[2:4, 0:2], image[2:4, 2:4]
by_hand = torch.stack([patch.flatten() for patch in (top_left, top_right, bottom_left, bottom_right)])
by_hand  # (N, P*P): one row for each patch

# %% [markdown]
# Cutting with slices is clear, and works for any size with two loops: the outer over rows of patches, the inner over
# columns.

# %%
P = 2
squares = [image[y : y + P, x : x + P] for y in range(0, 4, P) for x in range(0, 4, P)]
by_loop = torch.stack(squares).flatten(1)  # (N, P, P) -> (N, P*P)
assert torch.equal(by_loop, by_hand)

# %% [markdown]
# ## Two reshapes and one permute
#
# Loops in Python are slow. One `permute` between two `reshape`s does the same at once, for a whole batch. It is the
# line of this notebook that is most often got wrong, so here it is in slow motion.


# %%
def draw_path(ax, order, title):
    """Join the pixels of the 4 x 4 image in the order in which memory holds them."""
    y, x = order // 4, order % 4  # (16,) each
    ax.plot(x, y, color=plots.COLOURS[0], linewidth=1.5, zorder=1)
    ax.scatter(x, y, s=190, color="#D6E6F2", edgecolor=plots.COLOURS[0], zorder=2)
    for place, (i, j) in enumerate(zip(y.tolist(), x.tolist(), strict=True)):
        ax.text(j, i, place, ha="center", va="center", fontsize=8)
    ax.axhline(1.5, color="#E69F00", linewidth=2)
    ax.axvline(1.5, color="#E69F00", linewidth=2)
    ax.set(title=title, xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect="equal")
    ax.title.set_fontsize(10)
    ax.set_axis_off()


fig, (left, right) = plots.figure(6, 2.9, 1, 2)
draw_path(left, torch.arange(16), "what an image is: row by row")
draw_path(right, by_hand.flatten().long(), "what we want: patch by patch")
plots.show(
    fig,
    "Two copies of the 4 x 4 image with a line through its pixels in memory order. Left: the line runs "
    "along each row and crosses the border between patches. Right: it finishes one patch of four pixels "
    "before it goes to the next.",
)

# %% [markdown]
# The number in each circle is the pixel's place in memory. Memory is one long row of numbers. `reshape` keeps the
# numbers in this order and changes where the row is broken. `permute` swaps axes, and so changes the order in which
# the numbers are read.
#
# The way from left to right: give every pixel *four* coordinates instead of two. Pixel $(y, x)$ lies in patch row
# $i$ and patch column $j$, and inside the patch at row $u$ and column $v$:
#
# $$y = i\,P + u, \qquad x = j\,P + v.$$

# %%
four = image.reshape(2, P, 2, P)  # (Y, X) -> (rows, P, columns, P), indexed [i, u, j, v]
assert four[1, 0, 0, 1] == image[1 * P + 0, 0 * P + 1]
four.shape, four[1, 0, 0, 1]

# %% [markdown]
# The order is still that of memory. Now bring the two patch coordinates $i, j$ to the front and leave the two pixel
# coordinates $u, v$ behind. Axis 2 comes forward, axis 1 goes back:

# %%
grid = four.permute(0, 2, 1, 3)  # (rows, columns, P, P), indexed [i, j, u, v]
grid[0, 1]  # the patch in row 0, column 1: top right

# %% [markdown]
# Last, join $i, j$ to one patch number $n$ and $u, v$ to one pixel number. This second reshape writes the numbers
# down anew, in the order in which they are now read.

# %%
by_permute = grid.reshape(4, P * P)  # (N, P*P)
assert torch.equal(by_permute, by_hand)
by_permute

# %% [markdown]
# **Predict before you run:** what would `reshape` alone give? The shape is the same.

# %%
image.reshape(4, P * P)  # (N, P*P), but are these patches?

# %% [markdown]
# These are the rows of the image, not its patches. Nothing complains. You will see further down what that does to a
# cat.
#
# *To remember: split each side in two with `reshape`, `permute` the patch axes forward, join with `reshape`.*

# %% [markdown]
# ## Channels and batch come along
#
# A batch of images has the shape `(B, C, Y, X)`: B images, C channels (3 for red, green and blue), Y rows and X
# columns of pixels. Batch and channels are two more axes, six in all:
#
# | step | shape | on a batch of one 224 x 224 photograph, P = 16 |
# |---|---|---|
# | image | `(B, C, Y, X)` | `(1, 3, 224, 224)` |
# | split | `(B, C, rows, P, columns, P)` | `(1, 3, 14, 16, 14, 16)` |
# | permute | `(B, rows, columns, C, P, P)` | `(1, 14, 14, 3, 16, 16)` |
# | join the grid | `(B, N, C, P, P)` | `(1, 196, 3, 16, 16)` |
# | flatten | `(B, N, C*P*P)` | `(1, 196, 768)` |
#
# With $N = \frac{Y}{P} \cdot \frac{X}{P}$ patches. After the fourth step each is still a small picture; the last one
# writes it as a row of numbers, channel first: all its red numbers, then green, then blue.

# %% [markdown]
# ### Exercise 1.1 · How many, how long?
#
# *predict · easy · 2 minutes*
#
# Colour images (3 channels) of 140 rows and 220 columns are cut with P = 20. How many patches does an image give, and
# how many numbers are in one of them? Work it out before you count with code.
#
# <details><summary>Hint</summary>
#
# Count the rows of patches and the columns of patches apart. A patch has P x P pixels, and each pixel has a number
# for each channel.
#
# </details>

# %% tags=["exercise"]
number_of_patches = ...
numbers_in_a_patch = ...

# %%
check.patch_count((number_of_patches, numbers_in_a_patch))

# %% [markdown]
# ### Exercise 1.2 · Cut the patches
#
# *write · medium · 10 minutes*
#
# Write the function for whole batches, as far as the fourth step of the table: the patches as small pictures,
# `(B, N, C, P, P)`, row by row. (The notebook goes on with the fifth.) Loops over patches are fine, and so is the way
# with six axes. You may take for granted that P divides both sides.
#
# <details><summary>Hint 1: loops</summary>
#
# `images[:, :, y : y + P, x : x + P]` is one patch of every image, `(B, C, P, P)`. Stack them with `dim=1`.
#
# </details>
# <details><summary>Hint 2: six axes</summary>
#
# After the split the axes are 0: B, 1: C, 2: rows, 3: P, 4: columns, 5: P. Write down the numbers of the axes in the
# order in which the table wants them, `permute`, then join rows and columns to N with `reshape`.
#
# </details>


# %% tags=["exercise"]
def cut_patches(images, patch_size):
    B, C, Y, X = images.shape
    patches = ...  # (B, N, C, P, P)
    return patches


# %%
check.cut_patches(cut_patches)

# %% [markdown]
# A matrix wants rows of numbers, so the function of the course package goes one step further and flattens each patch;
# its last line joins the grid and flattens at once. Before that it looks at its input: `check_images` raises an error
# unless the shape is `(B, C, Y, X)`; `grid_size` gives the rows and columns of patches and raises one unless P divides
# both sides. The cell below is the package's code:


# %% tags=["package"]
def patchify(images, patch_size):
    check_images(images)
    B, C, Y, X = images.shape
    P = patch_size
    rows, columns = grid_size((Y, X), P)
    x = images.reshape(B, C, rows, P, columns, P)  # (B, C, rows, P, columns, P)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, P, P)
    return x.reshape(B, rows * columns, C * P * P)  # (B, N, C*P*P)


# %% [markdown]
# The toy image first, then the cat. Pixels become floats between 0 and 1, as layers compute with floats.

# %%
assert torch.equal(patchify(image[None, None], 2)[0], by_hand)  # (1, 1, 4, 4) -> (1, 4, 4)
images = cat[None] / 255  # (B, C, Y, X) = (1, 3, 224, 224)
patches = patchify(images, 16)  # (B, N, C*P*P)
patches.shape

# %%
strip = patches[0, 70:84].reshape(14, 3, 16, 16)  # (14, C, P, P): one row of patches as pictures again
plots.show(
    plots.image_grid(strip, titles=[str(n) for n in range(70, 84)], columns=14, size=0.5),
    "Patches number 70 to 83, one row of the grid, side by side: pieces of fur and of both eyes of the cat.",
)

# %% [markdown]
# This is what the transformer gets: a list. Patch 70 stands first in its row and patch 83 last, and nothing in the
# 768 numbers of a patch says so.
#
# A check by hand: there are 14 patches in a row, so patch 70 starts row 70 / 14 = 5, at pixel row 5 x 16 = 80.

# %%
assert torch.equal(patches[0, 70], images[0, :, 80:96, 0:16].flatten())

# %% [markdown]
# ## And back again
#
# Nothing was lost, so the way can be walked backwards: split, permute the other way round, join. You need this
# whenever a model answers with patches and you want to see a picture. The package's code:


# %% tags=["package"]
def unpatchify(tokens, patch_size, image_size):
    P = patch_size
    rows, columns = grid_size(image_size, P)
    if tokens.ndim != 3 or tokens.shape[1] != rows * columns or tokens.shape[2] % (P * P):
        raise ValueError(
            f"expected patches (B, {rows * columns}, C*{P * P}) for an image of size {image_size}, "
            f"found shape {tuple(tokens.shape)}; drop any class token first"
        )
    B, C = len(tokens), tokens.shape[2] // (P * P)
    x = tokens.reshape(B, rows, columns, C, P, P)  # (B, rows, columns, C, P, P)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, P, columns, P)
    return x.reshape(B, C, rows * P, columns * P)  # (B, C, Y, X)


# %%
for P in 7, 8, 16, 32, 56:
    assert torch.equal(unpatchify(patchify(images, P), P, 224), images)
print("Cut and put together again: the same image, to the last bit, for five patch sizes.")

# %% [markdown]
# ## Two ways to break it: one is a bug, one is not
#
# Cut the cat wrongly, with `reshape` alone, and ask `unpatchify` for a picture. Then cut it rightly, but shuffle the
# list.
#
# **Predict before you run:** in which of the two pictures will you find the cat's eyes?

# %%
small = datasets.sample_image("cat", 96)[None] / 255  # (1, 3, 96, 96): 36 patches of 16 x 16
right_patches = patchify(small, 16)  # (1, 36, 768)
wrong_patches = small.reshape(1, 36, 768)  # the same shape, without the permute
order = torch.randperm(36)
shuffled = right_patches[:, order]  # (1, 36, 768): the same patches in another order

# %%
lists = right_patches, wrong_patches, shuffled
pictures = torch.cat([unpatchify(x, 16, 96) for x in lists])  # (3, 3, 96, 96)
plots.show(
    plots.image_grid(pictures, ["cut, put together", "cut by reshape alone", "cut, then shuffled"], size=1.75),
    "Three pictures from 36 patches. The first is the cat. The second is a weave of stripes in wrong "
    "colours: no patch holds a part of the cat. The third shows whole pieces of the cat, eyes among them, "
    "in a random order.",
)

# %% [markdown]
# **The second picture is a bug.** Each of its "patches" is 768 numbers that follow each other in memory: eight whole
# rows of one colour channel, 96 pixels wide. The colours are made up, as three stretches of one channel are taken
# for red, green and blue.
#
# No error is raised, the shape is right, and training would run as if nothing were wrong. So test a cut with a
# picture, or with one patch that you slice by hand, as above. A round trip through an equally wrong `unpatchify`
# would prove nothing.

# %% [markdown]
# **The third picture is no bug: it is how attention sees the cat.** All that you may compute without looking at the
# order, such as the mean patch, is the same before and after:

# %%
assert torch.allclose(right_patches.mean(dim=1), shuffled.mean(dim=1), atol=1e-6)  # (1, 768) each
right_patches.mean(dim=1)[0, :4], shuffled.mean(dim=1)[0, :4]

# %% [markdown]
# Attention is such a computation too: to it the list is a *bag of patches*. Here is the shuffled list of above, and
# on the right the bag: the same patches, sorted by brightness. (Any rule that looks only at what is in the patches
# would do.)
#
# **Predict before you press:** what will Shuffle change on the right? What will Drop half?

# %%
widgets.PatchExplorer(datasets.sample_image("cat", 96), patch_size=16, patch=13, order=order.tolist())

# %% [markdown]
# Shuffle as often as you like: the list changes, and the picture with it; the bag does not, nor does the mean of all
# numbers. A ViT without positions has nothing by which to tell the cat from the shuffled cat. Drop half, and the bag
# itself is another. It costs a quarter of the attention weights, which is a way to train faster (notebook 11).
#
# That attention treats the list so is a claim until now. Notebook 02 shows that it does, and mends it.
#
# *To remember: a right shape proves little. Look at a patch.*

# %% [markdown]
# ## From patch to token
#
# A patch is raw pixels. A token is D numbers, and the model decides which. D is the **embedding width**, 768 in
# ViT-B/16, the base model of the paper with P = 16. The step between is a matrix, the same for all patches. Again
# the four toy patches, with a matrix of three rows that we choose by hand:

# %%
W = torch.tensor(
    [
        [0.25, 0.25, 0.25, 0.25],  # the mean of the patch
        [-0.5, 0.5, -0.5, 0.5],  # right half minus left half
        [-0.5, -0.5, 0.5, 0.5],
    ]
)  # bottom half minus top half
tokens = by_hand @ W.T  # (N, P*P) @ (P*P, D) -> (N, D) = (4, 3)

# %%
fig, axes = plots.figure(7.4, 2.2, 1, 3, width_ratios=[4, 4, 3])
names = ["patch 0", "patch 1", "patch 2", "patch 3"]
plots.draw_matrix(axes[0], by_hand, "patches (N, P*P)", rows=names, decimals=0, colour_map="cividis")
rows = ["mean", "right - left", "bottom - top"]
plots.draw_matrix(axes[1], W, "matrix W (D, P*P)", rows=rows, colour_map="cividis")
plots.draw_matrix(axes[2], tokens, "tokens (N, D)", decimals=1, colour_map="cividis")
plots.show(
    fig,
    "Three matrices with their numbers: four flattened patches, the matrix W with the rows mean, right "
    "minus left and bottom minus top, and the tokens. All four tokens are 1.0 and 4.0 in the last two "
    "columns; only the mean differs.",
)

# %% [markdown]
# Check one number by hand: patch 0 is 0, 1, 4, 5. Right minus left is (1 + 5) / 2 - (0 + 4) / 2 = 1. All four
# patches agree in this number, since the image grows by 1 from each column to the next everywhere.
#
# In general, with the flattened patch $p_n$ (a row of $C P^2$ numbers), the matrix $W$ of shape $(D, C P^2)$ and the
# bias $b$ (D numbers):
#
# $$z_n = p_n W^\top + b$$
#
# $z_n$ is token $n$. This is what `nn.Linear` computes. (The paper writes $E$ for $W^\top$.)

# %%
linear = nn.Linear(4, 3)  # weight (D, P*P) = (3, 4), bias (D,)
with torch.no_grad():
    linear.weight.copy_(W)
    linear.bias.zero_()
assert torch.equal(linear(by_hand), tokens)
linear(by_hand)

# %% [markdown]
# ## Each row of the matrix is a filter
#
# A row of $W$ has as many numbers as a patch, so it can be drawn as one. Four rows for patches of 8 x 8 with three
# channels, again made by hand, and what they answer on the cat:

# %%
ramp = torch.linspace(-1, 1, 8)  # (P,)
filters = torch.stack(
    [
        torch.ones(3, 8, 8),  # brightness
        ramp[None, None, :].expand(3, 8, 8),  # right minus left
        ramp[None, :, None].expand(3, 8, 8),  # bottom minus top
        torch.tensor([1.0, 0.0, -1.0])[:, None, None].expand(3, 8, 8),  # red minus blue
    ]
)  # (D, C, P, P) = (4, 3, 8, 8)
answers = patchify(images, 8) @ filters.flatten(1).T  # (1, 784, 192) @ (192, 4) -> (1, 784, 4)
maps = answers[0].T.reshape(4, 28, 28)  # (D, rows, columns): laid out as the patches lie

# %%
fig, axes = plots.figure(7, 2.9, 2, 4, height_ratios=[1, 2])
for d, name in enumerate(["brightness", "right - left", "bottom - top", "red - blue"]):
    plots.draw_image(axes[0, d], filters[d] * 0.4 + 0.5, name)
    axes[1, d].imshow(maps[d], cmap="cividis")
    axes[1, d].set_axis_off()
plots.show(
    fig,
    "Top: four filters of 8 x 8 pixels: flat grey, a ramp from left to right, a ramp from top to bottom, "
    "and flat orange. Bottom: their answers for the 28 x 28 patches of the cat: a coarse cat without "
    "colour, its upright edges, its level edges, and its ginger fur.",
)

# %% [markdown]
# So number $d$ of a token says how much its patch looks like filter $d$. Nobody chooses the filters of a real ViT:
# $W$ starts random and is trained with the rest. What trained filters have in common are waves, edges and colour
# blobs (figure 7 of the paper); you will see some in notebook 10.
#
# How many filters are needed? **The rows of $W$ decide what a token can know: what D numbers do not hold, no later
# layer can bring back.** To see how much D numbers hold, take the D best filters for the purpose and rebuild the
# image from its tokens.

# %%
names = "astronaut", "coffee", "rocket"
photographs = torch.stack([datasets.sample_image(name, 256) for name in names]) / 127.5 - 1  # -1 to 1
between = photographs[:, :, 8:-8, 8:-8]  # cut half a patch further on: other patches
others = torch.cat([patchify(photographs, 16), patchify(between, 16)], dim=1).flatten(0, 1)  # (1443, 768)
values, vectors = torch.linalg.eigh(others.T @ others)  # from the least to the most important direction
best = vectors.flip(1).T  # (768, 768): row d is filter d, the most important first

# %% [markdown]
# These filters are the *principal components* of patches: the D directions that keep most of three other
# photographs. If you do not know them, take them as "the best D rows that one could wish for when the aim is to
# rebuild". The cat itself was not used.


# %%
def draw_width(token_width):
    D = token_width
    tokens = (patches * 2 - 1) @ best[:D].T  # (1, 196, 768) @ (768, D) -> (1, 196, D)
    rebuilt = unpatchify(tokens @ best[:D], 16, 224) / 2 + 0.5  # (1, 3, 224, 224)
    error = (rebuilt - images).square().mean().sqrt().item()
    sheet = best[:16].reshape(4, 4, 3, 16, 16).permute(2, 0, 3, 1, 4).reshape(3, 64, 64)  # 16 filters
    fig, (left, right) = plots.figure(5.2, 2.65, 1, 2)
    plots.draw_image(left, sheet * 6 + 0.5, "the first 16 filters")
    plots.draw_image(right, rebuilt[0], f"rebuilt from D = {D}: error {100 * error:.1f} %")
    return fig, (
        "Left: sixteen filters, from flat colours to waves that grow finer. Right: the cat rebuilt from "
        f"tokens of {D} numbers, with an error of {100 * error:.1f} % of the brightness range."
    )


widgets.interactive_figure(draw_width, token_width=[1, 4, 16, 64, 768])

# %% [markdown]
# With 16 numbers a patch the borders between patches show, since each patch is squeezed alone. Move the token width
# to 4, to 64, to 768. At 64 you know the cat well. At 768 = 3 x 16 x 16 nothing is lost: in ViT-B/16 the matrix is
# square.
#
# *To remember: a token is D answers to D filters. A misconception to leave here: the embedding does not "extract
# features" in any deep sense. It is one matrix; all that is deep comes later.*

# %% [markdown]
# ## The same numbers from a convolution

# %%
fig, axes = plots.figure(7, 2.6, 1, 3)
for ax, stride in zip(axes, (1, 2, 4), strict=True):
    stops = range(0, 12 - 4 + 1, stride)
    ax.hlines(range(13), 0, 12, "#DDDDDD", linewidth=0.7)
    ax.vlines(range(13), 0, 12, "#DDDDDD", linewidth=0.7)
    ax.scatter(*torch.cartesian_prod(*[torch.tensor(stops) + 2.0] * 2).T, s=9, color="black", zorder=3)
    for x, colour in zip(stops, plots.COLOURS[:3], strict=False):
        ax.fill([x, x + 4, x + 4, x], [0, 0, 4, 4], facecolor=colour + "40", edgecolor=colour, linewidth=2)
    ax.set(xlim=(-0.3, 12.3), ylim=(12.3, -0.3), aspect="equal")
    ax.set_title(f"stride {stride}: {len(stops) ** 2} stops", fontsize=10)
    ax.set_axis_off()
plots.show(
    fig,
    "Where a filter of 4 x 4 pixels stops on an image of 12 x 12, a dot in the middle of each stop; the "
    "first three are coloured. With stride 1 it stops at 81 places and with stride 2 at 25, which "
    "overlap. With stride 4 there are 9 that tile the image: these are the patches.",
)

# %% [markdown]
# A convolution slides filters over an image and stops every `stride` pixels. With a stride as long as the filter,
# the stops do not overlap: they are the patches. At stop $(i, j)$ filter $d$ gives
#
# $$\sum_{c, u, v} W_{d, c, u, v}\; \mathrm{image}_{c,\; iP + u,\; jP + v} + b_d$$
#
# where $c$ runs over channels and $u, v$ over the pixels of the patch. This is the sum that the `Linear` layer
# computes, with the same terms: its row $d$ lists $W_{d, c, u, v}$ channel first, as our patches are flattened.

# %%
linear = nn.Linear(3 * 16 * 16, 192)  # weight (D, C*P*P)
conv = nn.Conv2d(3, 192, kernel_size=16, stride=16)  # weight (D, C, P, P)
with torch.no_grad():
    conv.weight.copy_(linear.weight.reshape(192, 3, 16, 16))  # (D, C*P*P) -> (D, C, P, P)
    conv.bias.copy_(linear.bias)
conv(images).shape

# %% [markdown]
# The convolution answers with a picture of D channels, `(B, D, rows, columns)`. To compare, draw the list of tokens as
# such a picture: in channel d, number d of each token stands where its patch lay. (Exercise 1.3 asks for the way
# back.)


# %%
def as_picture(tokens, rows, columns):
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)  # (B, N, D) -> (B, D, rows, columns)


from_conv, from_linear = conv(images), linear(patches)  # (B, D, rows, columns) and (B, N, D)
difference = (from_conv - as_picture(from_linear, 14, 14)).abs().max().item()
assert difference < 1e-5
print(f"pictures {tuple(from_conv.shape)}: no number differs by more than a hundred-thousandth")

# %% [markdown]
# Is that tiny difference a rounding error or a mistake? Two tests tell. First, in double precision (64 bits a
# number) a rounding error shrinks by many powers of ten; a mistake stays.

# %%
double_conv = F.conv2d(images.double(), conv.weight.double(), conv.bias.double(), stride=16)
double_linear = F.linear(patches.double(), linear.weight.double(), linear.bias.double())
assert (double_conv - as_picture(double_linear, 14, 14)).abs().max() < 1e-13

# %% [markdown]
# Second, with whole numbers nothing is rounded, and the two are equal:

# %%
whole = image[None, None]  # the toy image, (B, C, Y, X) = (1, 1, 4, 4)
whole_filter = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])  # (D, C, P, P) = (1, 1, 2, 2)
F.conv2d(whole, whole_filter, stride=2).flatten(), patchify(whole, 2)[0] @ whole_filter.flatten()

# %% [markdown]
# Equal functions of equal weights have equal gradients, too. So a model learns the same with either:

# %%
from_conv.square().sum().backward()
from_linear.square().sum().backward()
assert torch.allclose(conv.weight.grad.flatten(1), linear.weight.grad, rtol=1e-4, atol=1e-4)

# %% [markdown]
# Most libraries write `Conv2d`: one call cuts and projects without copying the patches first, and the saved weights
# have the shape `(D, C, P, P)`. The course keeps its matrix in a `Conv2d` too, so that it can load those weights, and
# multiplies flat patches with it: the same sum, and on a CPU its gradient comes faster (notebook 11 measures).
#
# *A misconception to leave here: a ViT with a `Conv2d` in front is no convolutional network. This convolution never
# looks across the border of a patch.*

# %% [markdown]
# ## The class
#
# All its parts have run above: the two sizes and the channel count are checked, then come `patchify` and the product
# with the filters, laid flat. `image_sides` turns 224 into `(224, 224)` and leaves pairs alone. The package holds the
# same code:


# %% tags=["package"]
class PatchEmbedding(nn.Module):
    def __init__(self, image_size=224, patch_size=16, in_channels=3, embed_dim=768):
        super().__init__()
        self.image_size = image_sides(image_size)
        self.grid_size = grid_size(image_size, patch_size)
        self.in_channels = in_channels
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images):
        check_images(images, self.in_channels, self.image_size)
        patches = patchify(images, self.proj.stride[0])  # (B, N, C*P*P)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)  # (B, N, D)


# %%
embed = PatchEmbedding()  # that of ViT-B/16
parameters = sum(p.numel() for p in embed.parameters())
assert parameters == 768 * (3 * 16 * 16) + 768  # W and b
print(f"{tuple(images.shape)} -> {tuple(embed(images).shape)}")
print(f"{parameters:,} parameters, {100 * parameters / 86_567_656:.1f} % of ViT-B/16")

# %% [markdown]
# The size of the image is not in this number: all patches share one matrix.

# %% [markdown]
# ## Images that are not 224 x 224 x 3
#
# **Predict before you run:** the photograph of the rocket has 427 rows and 640 columns. Will P = 16 do?

# %%
rocket = datasets.sample_image("rocket")[None] / 255  # (1, 3, 427, 640)
try:
    PatchEmbedding(image_size=(427, 640))
except ValueError as error:
    print(error)

# %% [markdown]
# 427 is not a multiple of 16. A bare `Conv2d` would have dropped the last 11 rows and told nobody, so the class
# refuses. Crop, resize or pad the image; here, crop. It need not become a square:

# %%
assert nn.Conv2d(3, 192, 16, stride=16)(rocket).shape == (1, 192, 26, 40)  # 26 x 16 = 416 of 427 rows
cropped = rocket[:, :, :416]  # (1, 3, 416, 640)
wide = PatchEmbedding(image_size=(416, 640), embed_dim=192)
assert torch.equal(unpatchify(patchify(cropped, 16), 16, (416, 640)), cropped)
wide.grid_size, wide(cropped).shape

# %% [markdown]
# The number of channels is free too: 1 for X-rays, 13 for the satellite Sentinel-2. Each filter grows a layer for
# each channel; the tokens stay D numbers wide, and the rest of the model never knows.

# %%
for channels in 1, 3, 13:
    layer = PatchEmbedding(image_size=64, patch_size=8, in_channels=channels, embed_dim=192)
    tokens = layer(torch.rand(2, channels, 64, 64))  # (B, N, D)
    print(f"C = {channels:2}: weight {str(tuple(layer.proj.weight.shape)):16} tokens {tuple(tokens.shape)}")

# %% [markdown]
# And the two slips that happen to everybody, with what the class says:

# %%
for bad in images[0], images.permute(0, 2, 3, 1):  # no batch axis; channels last
    try:
        embed(bad)
    except ValueError as error:
        print(error)

# %% [markdown]
# ## What does a smaller patch cost?

# %%
fig, axes = plots.figure(7, 2.7, 1, 3)
for ax, P in zip(axes, (32, 16, 8), strict=True):
    N = (224 // P) ** 2
    ax.fill([0, 784, 784, 0], [0, 0, 784, 784], color="#EEEEEE")
    ax.fill([0, N, N, 0], [0, 0, N, N], color=plots.COLOURS[0])
    ax.set(xlim=(0, 784), ylim=(784, 0), aspect="equal")
    ax.set_title(f"P = {P}: {N} x {N} = {N * N:,}", fontsize=9)
    ax.set_axis_off()
plots.show(
    fig,
    "The table of attention weights of one head, drawn to one scale as a square whose side is the number "
    "of tokens. For patches of 32 pixels it is a dot, for 16 a stamp, for 8 it fills the frame: 256 times "
    "as large as the dot.",
)

# %% [markdown]
# The blue squares are the tables in which attention writes how much each token looks at each other one, drawn to
# scale for an image of 224 x 224. Halve P, and there are four times as many tokens and sixteen times as large a
# table:
#
# $$N = \frac{Y}{P}\cdot\frac{X}{P} \;\propto\; P^{-2}, \qquad N^2 \;\propto\; P^{-4}.$$
#
# **Predict before you go on:** you double both sides of the image and keep P. What happens to N, and to the table?

# %% [markdown]
# The same: four times, sixteen times. For the tokens only Y / P and X / P count.
#
# Now the computing. One encoder block (notebook 04) multiplies matrices and does little else. For each token it
# needs $4 D^2$ multiplications for attention's four $D \times D$ matrices and $8 D^2$ for its MLP (two linear
# layers). For each *pair* of tokens it needs $2 D$: one product of two vectors for the weight, one more to use it.
# With L blocks:
#
# $$\text{multiplications} = \underbrace{N\,C P^2 D}_{\text{patch embedding}} + L\,(
# \underbrace{12\, N D^2}_{\text{each token}} + \underbrace{2\, N^2 D}_{\text{each pair}})$$

# %% [markdown]
# Each multiplication goes with an addition, so there are twice as many **FLOPs** (floating-point operations). In
# training, the attention weights of all L blocks and H heads (tables side by side in each block, notebook 03) wait
# in memory for the backward pass, 4 bytes each:
#
# $$\text{bytes of attention maps} = 4\, L\, H\, N^2 \quad\text{for each image.}$$
#
# The model adds one token to the patches, the *class token* (notebook 02), so its N is one larger (not in the first
# term, which is for patches alone).


# %%
def cost(patch_size, image_size=224, D=768, L=12, H=12, C=3):
    """For one square image (ViT-B as it stands): tokens, multiplications, bytes of attention maps,
    and how many of the multiplications are for pairs."""
    patches = (image_size // patch_size) ** 2
    N = patches + 1  # with the class token
    each_token, each_pair = 12 * L * N * D**2, 2 * L * N**2 * D
    embedding = patches * C * patch_size**2 * D
    return N, embedding + each_token + each_pair, 4 * L * H * N**2, each_pair


# %%
print(" P  tokens     GFLOPs   for pairs   attention maps")
for P in 8, 14, 16, 28, 32:
    N, multiplications, size, pairs = cost(P)
    share = 100 * pairs / multiplications
    print(f"{P:2} {N:7,} {2 * multiplications / 1e9:10.1f} {share:9.1f} % {size / 1e6:13.1f} MB")

# %% [markdown]
# Do you believe a formula that nobody has tested? PyTorch can count the FLOPs of what it runs. Give it one block of
# the package, with tokens for P = 16:

# %%
from torch.utils.flop_counter import FlopCounterMode

block, tokens = EncoderBlock(768, 12), torch.zeros(1, 197, 768)  # (B, N, D)
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    _, weights = block(tokens, return_attention=True)  # weights (B, H, N, N)
assert counter.get_total_flops() == 2 * (12 * 197 * 768**2 + 2 * 197**2 * 768)
assert 12 * weights.numel() * 4 == cost(16)[2]  # twelve such maps, 4 bytes a weight
print(f"{counter.get_total_flops():,} FLOPs in one block, as the formula says")

# %% [markdown]
# Now the whole range of patch sizes that divide 224. On logarithmic axes a power is a straight line, and its
# exponent is the slope.

# %%
sizes = [4, 7, 8, 14, 16, 28, 32, 56]
table = torch.tensor([cost(P)[:3] for P in sizes], dtype=torch.float64)  # (8, 3)
fig, axes = plots.figure(7.4, 2.5, 1, 3)
titles = ["tokens N", "FLOPs (10^9)", "attention maps (MB)"]
for ax, values, title in zip(axes, table.T * torch.tensor([[1], [2e-9], [1e-6]]), titles, strict=True):
    ax.loglog(sizes, values, "o-", markersize=4)
    ax.loglog(sizes, values[-1] * (56 / torch.tensor(sizes)) ** 2, ":", color="gray")
    ax.loglog(16, values[4], "o", color=plots.COLOURS[1], markersize=8)
    ax.annotate(f"{values[4]:.0f}", (16, values[4]), (7, 4), textcoords="offset points", color=plots.COLOURS[1])
    ax.set(xlabel="patch size P", title=title, xticks=[4, 8, 16, 32], xticklabels=[4, 8, 16, 32])
    ax.minorticks_off()
    ax.title.set_fontsize(10)
plots.show(
    fig,
    "Three log-log plots against patch sizes 4 to 56 for ViT-B at 224 x 224, P = 16 marked: 197 tokens, "
    "35 GFLOPs, 22 MB. Beside each a dotted line of slope -2. Tokens follow it, FLOPs rise a little "
    "faster for small P, memory with slope -4.",
)

# %% [markdown]
# Read three things from table and plot:
#
# - Tokens grow with the square of 1 / P (along the dotted line), memory with the fourth power.
# - FLOPs stay close to the square. At P = 16 the pairs are only 4 % of them: the $12 N D^2$ of the matrices is most
#   of the work until $N = 6 D$, which is 4,608 tokens. "Attention is slow because it is quadratic" is not true of a
#   small ViT.
# - Memory is where small patches hurt: 22 MB an image at P = 16, 355 MB at P = 8. That is for the maps alone;
#   *fused* attention (notebook 11) does without storing them.

# %% [markdown]
# ## Why 16?
#
# torchvision publishes two base models for 224 x 224, with the operations that it counted and the accuracy that it
# measured on ImageNet. The package has both numbers on board; its "GFLOPS" are multiplications, half of ours:

# %%
from torchvision.models import ViT_B_16_Weights, ViT_B_32_Weights

for P, entry in (16, ViT_B_16_Weights.IMAGENET1K_V1), (32, ViT_B_32_Weights.IMAGENET1K_V1):
    billions, accuracy = entry.meta["_ops"], entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert abs(cost(P)[1] / 1e9 - billions) < 0.002
    print(
        f"ViT-B/{P}: {billions:6.3f} billion multiplications counted, {cost(P)[1] / 1e9:6.3f} by our formula, "
        f"{accuracy:.1f} % of ImageNet right"
    )

# %% [markdown]
# Four times the work buys 5 points of accuracy. (The last 0.001 is the classifier, which our formula leaves out.)
# Smaller patches go on buying some: P = 14 in the paper's largest model, P = 8 in DINO, and even single pixels have
# been tried, on small images. But each halving costs four times the tokens. P = 16 at 224 x 224, 196 patches of 768
# numbers, is the compromise that most of the field has settled on.

# %% [markdown]
# It also named the paper: *An Image is Worth 16x16 Words*. Mind the reading: 16 x 16 is the size of a word in
# pixels. The number of words is 14 x 14. And 196 words is about a paragraph, what language models of the time read
# with ease.

# %% [markdown]
# ## Exercises
#
# Exercises 1.1 and 1.2 stand above, where their ideas are.

# %% [markdown]
# ### Exercise 1.3 · Tokens out of order
#
# *repair · medium · 6 minutes*
#
# A colleague's model trains badly. You find these lines behind the convolution:
#
#     def to_tokens(feature_map):
#         B, D, rows, columns = feature_map.shape
#         return feature_map.reshape(B, rows * columns, D)
#
# The shape is `(B, N, D)`, as it should be. Repair the function: token n must hold the D numbers of patch n.
#
# <details><summary>Hint</summary>
#
# `reshape` keeps the order of the numbers. Which two axes have to change places, and after which join?
#
# </details>

# %%
feature_map = torch.tensor([[[[1, 2], [3, 4]], [[10, 20], [30, 40]]]])  # (B, D, rows, columns) = (1, 2, 2, 2)
feature_map.reshape(1, 4, 2)  # token 0 should be [1, 10]


# %% tags=["exercise"]
def to_tokens(feature_map):
    B, D, rows, columns = feature_map.shape
    return ...  # (B, N, D)


# %%
check.to_tokens(to_tokens)

# %% [markdown]
# ### Exercise 1.4 · The smallest patch that fits
#
# *experiment · medium · 5 minutes*
#
# You train ViT-B on images of 384 x 384 in batches of 64, and have 8 GB (8e9 bytes) for the attention maps. What is
# the smallest patch size that fits? P must divide 384. Try patch sizes with `cost` above.
#
# <details><summary>Hint</summary>
#
# `cost(P, image_size=384)[2]` are the bytes for one image. Try each P from 8 up with `384 % P == 0`.
#
# </details>

# %% tags=["exercise"]
smallest_patch = ...

# %%
check.patch_budget(smallest_patch)

# %% [markdown]
# ### Exercise 1.5 · Patches that overlap
#
# *stretch · hard · 12 minutes*
#
# An edge that falls between two patches is seen whole by neither. Some models therefore let patches overlap: the
# window has P x P pixels but moves by `stride` < P. Write this cut. A window that would stick out of the image is
# left out, so there are $\lfloor (Y - P) / \mathrm{stride} \rfloor + 1$ rows of windows. With `stride` = P the
# result is `patchify`'s.
#
# <details><summary>Hint</summary>
#
# Two loops as in the toy, with other steps and another end. Or look up `torch.nn.functional.unfold`, and mind the
# order of its axes.
#
# </details>


# %% tags=["exercise"]
def overlapping_patches(images, patch_size, stride):
    B, C, Y, X = images.shape
    patches = ...  # (B, N, C*P*P)
    return patches


# %%
check.overlapping_patches(overlapping_patches)

# %% [markdown]
# ## Summary
#
# - An image becomes a list of $N = YX / P^2$ patches: split each side, permute the patch axes forward, join.
# - `reshape` alone gives the right shape and no patches. Test with a picture or a slice by hand.
# - A token is a patch times one shared matrix, plus a bias. Rows of the matrix are filters, and D of them bound what
#   a token can hold.
# - `Conv2d` with stride = kernel size = P computes the same numbers; libraries store that form.
# - Tokens cost $P^{-2}$, attention maps $P^{-4}$. Computing is mostly the matrices, until N nears 6 D.
# - The list carries no order: it is a bag of patches.

# %% [markdown]
# ## What comes next
#
# [02 Positional encoding](02_positional_encoding.ipynb) shows that attention gives the same answer for the cat and
# for the shuffled cat, and adds what is missing: to each token, a vector that says where its patch lay.

# %% [markdown]
# ## References
#
# - Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): section 3.1, equation
#   1, figure 7.
# - Caron et al. 2021, [Emerging Properties in Self-Supervised Vision
#   Transformers](https://arxiv.org/abs/2104.14294): DINO, with P = 8.
# - Yuan et al. 2021, [Tokens-to-Token ViT](https://arxiv.org/abs/2101.11986): overlapping patches.
# - Xiao et al. 2021, [Early Convolutions Help Transformers See Better](https://arxiv.org/abs/2106.14881): a small
#   convolutional network instead of one matrix.
# - Beyer et al. 2023, [FlexiViT](https://arxiv.org/abs/2212.08013): one model for many patch sizes.
# - Nguyen et al. 2024, [An Image is Worth More Than 16x16 Patches](https://arxiv.org/abs/2406.09415): pixels as
#   tokens.

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 1.1
#
# 140 / 20 = 7 rows of patches and 220 / 20 = 11 columns; each patch has 3 x 20 x 20 numbers.

# %% tags=["solution"]
solution = ((140 // 20) * (220 // 20), 3 * 20 * 20)
assert check.patch_count(solution).passed

# %% [markdown]
# ### Solution 1.2
#
# With loops. The way with six axes is `patchify` above, with `(B, N, C, P, P)` in its last line; it passes, too.


# %% tags=["solution"]
def cut_patches_solution(images, patch_size):
    B, C, Y, X = images.shape
    P = patch_size
    patches = [
        images[:, :, y : y + P, x : x + P]  # (B, C, P, P)
        for y in range(0, Y, P)
        for x in range(0, X, P)
    ]
    return torch.stack(patches, dim=1)  # (B, N, C, P, P)


assert check.cut_patches(cut_patches_solution).passed

# %% [markdown]
# ### Solution 1.3
#
# Join rows and columns to N, then move D behind N. The colleague's version fills a token with one channel of D
# neighbouring patches.


# %% tags=["solution"]
def to_tokens_solution(feature_map):
    return feature_map.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, D, N) -> (B, N, D)


assert check.to_tokens(to_tokens_solution).passed

# %% [markdown]
# ### Solution 1.4
#
# P = 16 gives 577 tokens and 12.3 GB. The next divisor of 384 is 24: 257 tokens and 2.4 GB.

# %% tags=["solution"]
fits = [P for P in range(8, 385) if 384 % P == 0 and 64 * cost(P, image_size=384)[2] <= 8e9]
smallest_solution = min(fits)
assert check.patch_budget(smallest_solution).passed

# %% [markdown]
# ### Solution 1.5
#
# `F.unfold` cuts windows for convolutions and gives `(B, C*P*P, N)`. As a layer, this cut and a matrix are
# `nn.Conv2d(C, D, P, stride)`.


# %% tags=["solution"]
def overlapping_solution(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)  # (B, N, C*P*P)


assert check.overlapping_patches(overlapping_solution).passed
