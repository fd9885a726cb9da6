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
# About {minutes} minutes to read and do, in two parts; 9 s of computing on two CPU cores.
# Read [00 Start here](00_start_here.ipynb) first.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import check, course, datasets, plots, widgets
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
# A photograph, cut into squares, and the squares as a list: one row of numbers per square, in three bands for red,
# green and blue (yellow: a large number, blue: a small one). Point at a square: you see its pixels, and its row in the
# list lights up. Then move the patch size to 56: sixteen squares, and you can say what is in most of them. At 4 there
# are 3,136. **Which size would you choose?** Watch N and N² while you try, and remember your choice: the end of the
# notebook comes back to it. (Shuffle and Drop half can wait. The picture may be your own.)

# %% [markdown]
# A transformer reads a **list of vectors**. In a sentence every word is one. An image has no words, so a Vision
# Transformer makes some: it cuts the image into squares, called **patches**, and turns each patch into one vector,
# called a **token**. This notebook is about that first step. It asks three questions: how to cut, how to turn a
# patch into a vector, and how large a patch should be.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Why not let each *pixel* be a token? Because each token is compared with each token,
# itself included (notebook 03 shows how). How many such pairs do the pixels of a photograph of 224 x 224 make?
#
# - a: about 100 thousand
# - b: about 2.5 million
# - c: about 2.5 billion

# %%
for name, tokens in ("pixels", 224 * 224), ("patches of 16 x 16", 14 * 14):
    print(f"{name:20} {tokens:7,} tokens {tokens**2:14,} pairs")

# %% [markdown]
# c: the number of tokens, squared. With patches there are {=(224 * 224) ** 2 // (14 * 14) ** 2:,} times fewer pairs:
# that is 16 to the fourth power. You will meet the fourth power again at the end.
#
# *To remember: a patch is to an image what a word is to a sentence. We take patches, not pixels, because attention
# compares all pairs.*

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
by_hand  # (N, P*P): one row per patch

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
# One `permute` between two `reshape`s cuts without a loop, and a whole batch at once. It is also a line that can go
# wrong without an error, so here it is in slow motion.


# %%
def draw_path(ax, order, title):
    """A line through the 16 pixels in this order; each circle shows the pixel's place in memory."""
    y, x = order // 4, order % 4  # (16,) each
    ax.plot(x, y, color=plots.COLOURS[0], linewidth=1.5, zorder=1)
    ax.scatter(x, y, s=190, color="#D6E6F2", edgecolor=plots.COLOURS[0], zorder=2)
    for pixel in range(16):
        ax.text(pixel % 4, pixel // 4, pixel, ha="center", va="center", fontsize=8)
    ax.axhline(1.5, color="#E69F00", linewidth=2)
    ax.axvline(1.5, color="#E69F00", linewidth=2)
    ax.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect="equal")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


fig, (left, right) = plots.figure(6, 2.9, 1, 2)
draw_path(left, torch.arange(16), "what an image is: row by row")
draw_path(right, by_hand.flatten().long(), "what we want: patch by patch")
plots.show(
    fig,
    "The 16 pixels of the 4 x 4 image, numbered row by row, twice. Left: a line goes from 0 to 15, along each row and "
    "across the border between patches. Right: the line goes 0, 1, 4, 5, then 2, 3, 6, 7: it finishes one patch before "
    "it goes to the next.",
)

# %% [markdown]
# The number in each circle is the pixel's place in memory, as before; the line is the order in which we read, and the
# orange lines are the borders between patches. Memory is one long row of numbers. `reshape` keeps the numbers in
# their order and changes where the row is broken. `permute` swaps axes, and so changes the order in which the numbers
# are read.
#
# To get from the left order to the right one, give every pixel *four* coordinates instead of two. Pixel $(y, x)$ lies
# in patch row $i$ and patch column $j$, and inside the patch at row $u$ and column $v$:
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

# %% [markdown] tags=["predict"]
# **Predict before you run.** `reshape` alone gives the same shape. What will its rows be?
#
# - a: the same four patches
# - b: the four rows of the image
# - c: the four columns of the image

# %%
image.reshape(4, P * P)  # (Y, X) -> (N, P*P)

# %% [markdown]
# b: the rows of the image, and no error. You will see further down what that does to a cat.
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
# Count the rows of patches and the columns of patches apart. A patch has P x P pixels, and each pixel has one
# number per channel.
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
# A check by hand: there are 14 patches in a row, so patch 70 starts row 70 / 14 = 5, at pixel row 5 x 16 = 80. (Python
# counts rows from 0, and so do we. The explorer above counts from 1 and calls this one row 6.)

# %%
assert torch.equal(patches[0, 70], images[0, :, 80:96, 0:16].flatten())

# %% [markdown]
# ## And back again
#
# Nothing was lost, so we can go back: split, permute the other way round, join. You need this when you have patches
# and want to see a picture. The package's code:


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
# Cut the cat wrongly, with `reshape` alone, and ask `unpatchify` for a picture. Then cut it correctly, but shuffle the
# list.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Which of these two pictures will show you the cat's eyes?
#
# - a: both
# - b: only the one that was cut by `reshape` alone
# - c: only the one whose list was shuffled
# - d: neither

# %%
small = datasets.sample_image("cat", 96)[None] / 255  # (1, 3, 96, 96): 36 patches of 16 x 16
right_patches = patchify(small, 16)  # (1, 36, 768)
wrong_patches = small.reshape(1, 36, 768)  # (1, 36, 768), without the permute
order = torch.randperm(36)
shuffled = right_patches[:, order]  # (1, 36, 768): the same patches in another order

# %%
lists = right_patches, wrong_patches, shuffled
pictures = torch.cat([unpatchify(x, 16, 96) for x in lists])  # (3, 3, 96, 96)
plots.show(
    plots.image_grid(pictures, ["cut, put together", "cut by reshape alone", "cut, then shuffled"], size=1.75),
    "Three pictures of 96 x 96 pixels, each put together from a list of 36 patches: the list as patchify cuts it, the "
    "list that reshape alone gives, and the first list in a random order.",
)

# %% [markdown]
# c. **The second picture is a bug**, a weave of stripes. Each of its "patches" is 768 numbers that follow each other in
# memory: eight whole rows of one colour channel, 96 pixels wide. The colours are made up: three stretches of one
# channel are taken for red, green and blue.
#
# No error is raised, and the shape is right. So test a cut with a picture, or with one patch that you slice by hand,
# as above. A round trip through an equally wrong `unpatchify` would prove nothing.

# %% [markdown]
# **The third picture is no bug.** Its list holds the same patches. Whatever you compute without looking at their order,
# such as the mean patch, is the same before and after:

# %%
assert torch.allclose(right_patches.mean(dim=1), shuffled.mean(dim=1), atol=1e-6)  # (1, 768) each
right_patches.mean(dim=1)[0, :4], shuffled.mean(dim=1)[0, :4]

# %% [markdown]
# Attention is such a computation: to it the list is a *bag of patches*, and the third picture is as good as the first.
# So far that is only a claim; notebook 02 shows it. Below are the cat, the shuffled list from above, and the bag: the
# same patches, sorted by brightness. (Any rule that looks only at what is in the patches would do.)

# %% [markdown] tags=["predict"]
# **Predict before you run.** You will press *Shuffle*, which draws a new order for the list. What changes in the bag?
#
# - a: nothing
# - b: the order of its patches
# - c: which patches are in it

# %%
widgets.PatchExplorer(datasets.sample_image("cat", 96), patch_size=16, patch=13, order=order.tolist())

# %% [markdown]
# a. Shuffle as often as you like: the list changes, and the picture with it; the bag does not. What sees only the bag
# cannot tell the cat from the shuffled cat. *Drop half* changes the bag itself. Half of the tokens make a quarter of
# the pairs, and dropping patches is one way to train faster (notebook 11).
#
# *To remember: a right shape proves little. Look at a patch.*

# %% [markdown] tags=["stop"]
# **A place to stop.** You can now cut a batch of images into a list of patches, put it together again, and tell a bug
# from a shuffled list. The second part turns each patch into a token with one matrix, shows that a convolution
# computes the same, and asks what a patch size costs.

# %% [markdown]
# ## From patch to token
#
# A patch is raw pixels. A token is D numbers, and the model decides which. D is the **embedding width**, 768 in
# ViT-B/16, the base model of the ViT paper (Dosovitskiy et al. 2021) with P = 16. The step from one to the other is a
# matrix, the same for all patches. Here are the four toy patches again, with a matrix of three rows that we choose by
# hand:

# %%
mean = [0.25, 0.25, 0.25, 0.25]
right_minus_left = [-0.5, 0.5, -0.5, 0.5]
bottom_minus_top = [-0.5, -0.5, 0.5, 0.5]
W = torch.tensor([mean, right_minus_left, bottom_minus_top])  # (D, P*P) = (3, 4)
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
# Check one number by hand: patch 0 is 0, 1, 4, 5. Right minus left is (1 + 5) / 2 - (0 + 4) / 2 = 1. It is 1 for all
# four patches, since the numbers of the image grow by 1 from each column to the next.
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
# ### Exercise 1.3 · From pictures to tokens
#
# *write · medium · 6 minutes*
#
# Write the step from patches to tokens, for patches as exercise 1.2 cuts them, `(B, N, C, P, P)`. `weight` has the
# shape `(D, C, P, P)`: it holds each row of $W$ in the shape of a patch, as a *filter*. `bias` has D numbers. Number d
# of a token is the sum, over all channels and pixels, of patch times `weight[d]`, plus `bias[d]`. All of torch is
# allowed.
#
# <details><summary>Hint</summary>
#
# Flatten each patch to a row, `(B, N, C*P*P)`, and each filter too: `weight.flatten(1)` is $W$. The formula above does
# the rest. Note that it says $W^\top$: a `reshape` of `weight` to `(C*P*P, D)` is something else.
#
# </details>


# %% tags=["exercise"]
def project(patches, weight, bias):
    B, N, C, P, _ = patches.shape
    tokens = ...  # (B, N, D)
    return tokens


# %%
check.project(project)

# %% [markdown]
# ## Each row of the matrix is a filter
#
# A row of $W$ has as many numbers as a patch, so it can be drawn as one: it is a **filter**. Here are four filters for
# patches of 8 x 8 with three channels, again made by hand, and their answers on the cat, patch by patch:

# %%
ramp = torch.linspace(-1, 1, 8)  # (P,)
brightness = torch.ones(3, 8, 8)
right_minus_left = ramp[None, None, :].expand(3, 8, 8)
bottom_minus_top = ramp[None, :, None].expand(3, 8, 8)
red_minus_blue = torch.tensor([1.0, 0.0, -1.0])[:, None, None].expand(3, 8, 8)
filters = torch.stack([brightness, right_minus_left, bottom_minus_top, red_minus_blue])  # (D, C, P, P)
answers = patchify(images, 8) @ filters.flatten(1).T  # (1, 784, 192) @ (192, 4) -> (1, 784, 4)
maps = answers[0].T.reshape(4, 28, 28)  # (D, rows, columns): laid out as the patches lie

# %%
fig, axes = plots.figure(7, 3.2, 2, 4, height_ratios=[1, 2])
for d, name in enumerate(["brightness", "right - left", "bottom - top", "red - blue"]):
    plots.draw_image(axes[0, d], filters[d] * 0.4 + 0.5, name)
    axes[1, d].imshow(maps[d], cmap="cividis")
    axes[1, d].set_axis_off()
fig.supxlabel("yellow: a large answer, blue: a small one; each map has a scale of its own", fontsize=9)
plots.show(
    fig,
    "Top: four filters of 8 x 8 pixels: flat grey, a ramp from left to right, a ramp from top to bottom, "
    "and flat orange. Bottom: their answers for the 28 x 28 patches of the cat: a coarse cat without "
    "colour, its upright edges, its level edges, and its ginger fur.",
)

# %% [markdown]
# So number $d$ of a token says how strongly its patch matches filter $d$. Nobody chooses the filters of a real ViT: $W$
# starts random and is trained with the rest. Figure 7 of the paper shows the main patterns in trained filters: waves,
# edges and blobs of colour. (Notebook 10 looks at those of the course's own small model, which look different.)
#
# How many filters are needed? **What the D numbers of a token do not hold, no later layer can read from it.** To see
# how much D numbers hold, take D filters that are the best for one purpose, to rebuild the patches, and rebuild.

# %%
names = "astronaut", "coffee", "rocket"
photographs = torch.stack([datasets.sample_image(name, 256) for name in names]) / 127.5 - 1  # -1 to 1
between = photographs[:, :, 8:-8, 8:-8]  # cut half a patch further on: other patches
others = torch.cat([patchify(photographs, 16), patchify(between, 16)], dim=1).flatten(0, 1)  # (1443, 768)
values, vectors = torch.linalg.eigh(others.T @ others)  # from the least to the most important direction
best = vectors.flip(1).T  # (768, 768): row d is filter d, the most important first

# %% [markdown]
# These filters are the D directions that hold the most of the patches of three *other* photographs, measured by the sum
# of squares. (They are eigenvectors; *principal components* are found likewise, once the mean patch is subtracted.)
# For rebuilding the patches of those photographs, no other D rows leave a smaller squared error. The cat was not used.


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
# With 16 numbers per patch the borders between patches show: each patch is rebuilt on its own. Move the token width to
# 4, to 64, to 768. At 768 = 3 x 16 x 16 nothing is lost: a token of ViT-B/16 has as many numbers as its patch.
#
# *To remember: a token is D answers to D filters. The embedding is one matrix and a bias, no more; what is not linear
# comes later.*

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
# A convolution slides filters over an image and stops every `stride` pixels. With a stride as long as the filter, the
# windows do not overlap: they are the patches. At stop $(i, j)$ filter $d$ gives
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
# such a picture: in channel d, number d of each token stands where its patch lay. (The next exercise asks for the
# way back.)


# %%
def as_picture(tokens, rows, columns):
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)  # (B, N, D) -> (B, D, rows, columns)


from_conv, from_linear = conv(images), linear(patches)  # (B, D, rows, columns), (B, N, D)
difference = (from_conv - as_picture(from_linear, 14, 14)).abs().max().item()
assert difference < 1e-5
print(f"pictures {tuple(from_conv.shape)}: no number differs by more than a hundred-thousandth")

# %% [markdown]
# Is that tiny difference rounding or a mistake? The two add the same products, perhaps in another order. With small
# whole numbers nothing is rounded, and the two are equal:

# %%
whole = image[None, None]  # the toy image, (B, C, Y, X) = (1, 1, 4, 4)
whole_filter = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])  # (D, C, P, P) = (1, 1, 2, 2)
F.conv2d(whole, whole_filter, stride=2).flatten(), patchify(whole, 2)[0] @ whole_filter.flatten()

# %% [markdown]
# Where weights are published they often have this shape, `(D, C, P, P)`: torchvision and timm write `Conv2d`. The
# course keeps its matrix in a `Conv2d` too, so that it can load those weights, and multiplies flat patches with it. The
# sum is the same; notebook 11 measures what each way costs.
#
# *A common misconception: that the `Conv2d` makes a ViT a convolutional network. This convolution never looks across
# the border of a patch.*

# %% [markdown]
# ### Exercise 1.4 · Tokens out of order
#
# *repair · medium · 6 minutes*
#
# A colleague's model trains badly. You find these lines after the convolution:
#
#     def to_tokens(feature_map):
#         B, D, rows, columns = feature_map.shape
#         return feature_map.reshape(B, rows * columns, D)
#
# The shape is `(B, N, D)`, as it should be. Repair the function: token n must hold the D numbers of patch n.
#
# <details><summary>Hint</summary>
#
# `reshape` keeps the order of the numbers. Which two axes have to change places, and after which two are joined?
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
from torchvision.models import ViT_B_16_Weights, ViT_B_32_Weights  # the descriptions of published models, no weights

embed = PatchEmbedding()  # that of ViT-B/16
parameters = sum(p.numel() for p in embed.parameters())
assert parameters == 768 * (3 * 16 * 16) + 768  # W and b
all_parameters = ViT_B_16_Weights.IMAGENET1K_V1.meta["num_params"]
print(f"{tuple(images.shape)} -> {tuple(embed(images).shape)}")
print(f"{parameters:,} parameters, {100 * parameters / all_parameters:.1f} % of ViT-B/16")

# %% [markdown]
# The size of the image is not in the number of parameters: all patches share one matrix.

# %% [markdown]
# ## What does a smaller patch cost?

# %%
fig, axes = plots.figure(7, 2.8, 1, 3)
for ax, P in zip(axes, (32, 16, 8), strict=True):
    N = (224 // P) ** 2
    ax.fill([0, 784, 784, 0], [0, 0, 784, 784], color="#EEEEEE")
    ax.fill([0, N, N, 0], [0, 0, N, N], color=plots.COLOURS[0])
    ax.set(xlim=(0, 784), ylim=(784, 0), aspect="equal")
    ax.set_title(f"P = {P}: {N} x {N} = {N * N:,}", fontsize=9)
    ax.set_axis_off()
fig.supxlabel("blue: a number for each pair of tokens; all three drawn to one scale", fontsize=9)
plots.show(
    fig,
    "The table of attention weights of one head, drawn to one scale as a square whose side is the number "
    "of tokens. For patches of 32 pixels it is a dot, for 16 a stamp, for 8 it fills the frame: 256 times "
    "as large as the dot.",
)

# %% [markdown]
# The blue squares are the tables in which attention writes how much each token looks at each other, drawn to scale for
# an image of 224 x 224. Halve P, and there are four times as many tokens and a table sixteen times as large:
#
# $$N = \frac{Y}{P}\cdot\frac{X}{P} \;\propto\; P^{-2}, \qquad N^2 \;\propto\; P^{-4}.$$
#
# Double both sides of the image and keep P, and the same happens: only Y / P and X / P count.

# %% [markdown]
# Now the computing. One encoder block (notebook 04) multiplies matrices and does little else. For each token it
# needs $4 D^2$ multiplications for attention's four $D \times D$ matrices and $8 D^2$ for its MLP (two linear layers,
# from D numbers to 4 D and back, $4 D^2$ each). For each *pair* of tokens it needs $2 D$: D to find out how much one
# looks at the other, D to use that. With L blocks:
#
# $$\text{multiplications} = \underbrace{N\,C P^2 D}_{\text{patch embedding}} + L\,(
# \underbrace{12\, N D^2}_{\text{each token}} + \underbrace{2\, N^2 D}_{\text{each pair}})$$

# %% [markdown]
# Each multiplication goes with an addition, so there are twice as many **FLOPs** (floating-point operations). In
# training, the tables of attention weights, called attention maps, wait in memory for the backward pass, 4 bytes per
# number. There are H of them in each of the L blocks, side by side, one per *head* (notebook 03):
#
# $$\text{bytes of attention maps} = 4\, L\, H\, N^2 \quad\text{per image.}$$
#
# The model adds one token to the patches, the *class token* (notebook 02), so its N is one larger (not in the first
# term, which is for patches alone).


# %%
def cost(patch_size, image_size=224, D=768, L=12, H=12, C=3):
    """For one square image: tokens, multiplications, bytes of attention maps, multiplications for pairs."""
    patches = (image_size // patch_size) ** 2
    N = patches + 1  # with the class token
    each_token, each_pair = 12 * L * N * D**2, 2 * L * N**2 * D
    embedding = patches * C * patch_size**2 * D
    return N, embedding + each_token + each_pair, 4 * L * H * N**2, each_pair


# %% [markdown] tags=["predict"]
# **Predict before you run.** The defaults of `cost` are those of ViT-B. At P = 16, what share of all FLOPs is for
# pairs, the part that grows with $N^2$?
#
# - a: more than half
# - b: about a third
# - c: less than a tenth

# %%
print("        P  tokens   GFLOPs   for pairs   attention maps")
for name, D, H in ("ViT-B", 768, 12), ("ViT-Ti", 192, 3):  # Ti: tiny, a quarter of the width
    for P in 32, 16, 8:
        N, multiplications, size, pairs = cost(P, D=D, H=H)
        share = 100 * pairs / multiplications
        print(f"{name:6} {P:2} {N:7,} {2 * multiplications / 1e9:8.1f} {share:9.1f} % {size / 1e6:13.1f} MB")

# %% [markdown]
# c, {=100 * cost(16)[3] / cost(16)[1]:.0f} %. Read three things from the table:
#
# - Halve P: about four times the tokens, about sixteen times the attention maps.
# - FLOPs grow about as fast as N where $12 N D^2$ is most of the work. $2 N^2 D$ catches up at
#   $N = 6 D$: 4,608 tokens for ViT-B, 1,152 for ViT-Ti. So "attention is slow because it is quadratic" is a matter of N
#   *and* D: at P = 8 pairs
#   take {=100 * cost(8)[3] / cost(8)[1]:.0f} % of the work of ViT-B, and
#   {=100 * cost(8, D=192)[3] / cost(8, D=192)[1]:.0f} % of that of ViT-Ti.
# - Memory grows fastest: {=cost(16)[2] / 1e6:.0f} MB per image at P = 16, {=cost(8)[2] / 1e6:.0f} MB at P = 8 (ViT-B).
#   *Fused* attention (notebook 11) does not store these maps.

# %% [markdown]
# ## Why 16?
#
# Was the formula right? torchvision publishes two base models for 224 x 224, with the operations that it counted and
# the accuracy that it measured on ImageNet (photographs of 1,000 classes). Its "GFLOPS" are multiplications, half of
# our FLOPs:

# %%
accuracy = {}
for P, entry in (32, ViT_B_32_Weights.IMAGENET1K_V1), (16, ViT_B_16_Weights.IMAGENET1K_V1):
    counted, accuracy[P] = entry.meta["_ops"], entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    ours = cost(P)[1] / 1e9
    assert abs(ours - counted) < 0.002
    print(f"ViT-B/{P}: {counted:6.3f} billion counted, {ours:6.3f} by our formula, {accuracy[P]:.1f} % right")

# %% [markdown]
# (The last 0.001 is the classifier, 768 x 1,000, which our formula leaves out.) From P = 32 to P = 16 the work grows
# {=cost(16)[1] / cost(32)[1]:.0f} times, and {=accuracy[16] - accuracy[32]:.0f} more images in a hundred are right.
#
# Was 16 your choice? It is a compromise. Others have been tried: P = 14 in the paper's largest model, P = 8 in DINO,
# and even single pixels, on small images. Each halving costs four times the tokens.
#
# *An Image is Worth 16x16 Words* says the title of the paper. Note that 16 x 16 is the size of a word, in pixels. There
# are 14 x 14 words.

# %% [markdown]
# ## Exercises
#
# Exercises 1.1 to 1.4 stand above, where their ideas are.

# %% [markdown]
# ### Exercise 1.5 · The smallest patch that fits
#
# *experiment · medium · 5 minutes*
#
# You train ViT-B on images of 384 x 384 in batches of 64, and have 8 GB (8e9 bytes) for the attention maps. What is
# the smallest patch size that fits? P must divide 384. Try patch sizes with `cost` above.
#
# <details><summary>Hint</summary>
#
# `cost(P, image_size=384)[2]` is the number of bytes for one image. Try each P from 8 up with `384 % P == 0`.
#
# </details>

# %% tags=["exercise"]
smallest_patch = ...

# %%
check.patch_budget(smallest_patch)

# %% [markdown]
# ## Going further
#
# What stands here can be left out without loss.
#
# ### Images that are not 224 x 224 x 3
#
# The photograph of the rocket has 427 rows and 640 columns. 427 is not a multiple of 16, and the class refuses:

# %%
rocket = datasets.sample_image("rocket")[None] / 255  # (1, 3, 427, 640)
try:
    PatchEmbedding(image_size=(427, 640))
except ValueError as error:
    print(error)

# %% [markdown]
# A bare `Conv2d` would have dropped the last 11 rows without a word, as the first line below shows. Crop, resize or pad
# the image; here, crop. It need not become a square:

# %%
assert nn.Conv2d(3, 192, 16, stride=16)(rocket).shape == (1, 192, 26, 40)  # 26 x 16 = 416 of 427 rows
cropped = rocket[:, :, :416]  # (1, 3, 416, 640)
wide = PatchEmbedding(image_size=(416, 640), embed_dim=192)
assert torch.equal(unpatchify(patchify(cropped, 16), 16, (416, 640)), cropped)
wide.grid_size, wide(cropped).shape

# %% [markdown]
# The number of channels is free too: 1 for X-rays, 13 for the satellite Sentinel-2. Each filter has one layer per
# channel. The tokens stay D numbers wide, so the rest of the model stays as it is.

# %%
for channels in 1, 3, 13:
    layer = PatchEmbedding(image_size=64, patch_size=8, in_channels=channels, embed_dim=192)
    tokens = layer(torch.rand(2, channels, 64, 64))  # (B, N, D)
    print(f"C = {channels:2}: weight {str(tuple(layer.proj.weight.shape)):16} tokens {tuple(tokens.shape)}")

# %% [markdown]
# And two common slips, with what the class says:

# %%
for bad in images[0], images.permute(0, 2, 3, 1):  # no batch axis; channels last
    try:
        embed(bad)
    except ValueError as error:
        print(error)

# %% [markdown]
# ### Exercise 1.6 · Patches that overlap
#
# *stretch · hard · 12 minutes*
#
# An edge that falls between two patches is seen whole by neither. Tokens-to-Token ViT, for one, lets patches overlap:
# the window has P x P pixels but moves by `stride` < P. Write this cut. A window that would stick out of the image is
# left out, so there are $\lfloor (Y - P) / \mathrm{stride} \rfloor + 1$ rows of windows. With `stride` = P the
# result is `patchify`'s.
#
# <details><summary>Hint</summary>
#
# Two loops as in the toy, with other steps and another end. Or look up `torch.nn.functional.unfold`, and note the order
# of its axes.
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
# - A token is a patch times one shared matrix, plus a bias. The D rows of the matrix are filters.
# - `Conv2d` with stride = kernel size = P computes the same numbers.
# - Tokens cost $P^{-2}$, attention maps $P^{-4}$. The matrices are most of the computing until N nears 6 D.
# - Nothing in the numbers of a patch says where it lay: the list is a bag of patches.

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
# - torchvision, [Models and pre-trained weights](https://docs.pytorch.org/vision/stable/models.html): the counted
#   operations and the accuracies.
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
# Flatten both, and the formula is one line. `F.linear(patches.flatten(2), weight.flatten(1), bias)` is another way to
# write it.


# %% tags=["solution"]
def project_solution(patches, weight, bias):
    W = weight.flatten(1)  # (D, C, P, P) -> (D, C*P*P)
    return patches.flatten(2) @ W.T + bias  # (B, N, C*P*P) @ (C*P*P, D) -> (B, N, D)


assert check.project(project_solution).passed

# %% [markdown]
# ### Solution 1.4
#
# Join rows and columns to N, then move D behind N. The colleague's version fills a token with D numbers that follow
# each other in memory: the same channel of neighbouring patches, for the most part.


# %% tags=["solution"]
def to_tokens_solution(feature_map):
    return feature_map.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, D, N) -> (B, N, D)


assert check.to_tokens(to_tokens_solution).passed

# %% [markdown]
# ### Solution 1.5
#
# P = 16 gives {=cost(16, 384)[0]:d} tokens and {=64 * cost(16, 384)[2] / 1e9:.1f} GB. The next divisor of 384 is 24:
# {=cost(24, 384)[0]:d} tokens and {=64 * cost(24, 384)[2] / 1e9:.1f} GB.

# %% tags=["solution"]
fits = [P for P in range(8, 385) if 384 % P == 0 and 64 * cost(P, image_size=384)[2] <= 8e9]
smallest_solution = min(fits)
assert check.patch_budget(smallest_solution).passed

# %% [markdown]
# ### Solution 1.6
#
# `F.unfold` cuts windows for convolutions and gives `(B, C*P*P, N)`. As a layer, this cut and a matrix are
# `nn.Conv2d(C, D, P, stride)`.


# %% tags=["solution"]
def overlapping_solution(images, patch_size, stride):
    return F.unfold(images, patch_size, stride=stride).transpose(1, 2)  # (B, N, C*P*P)


assert check.overlapping_patches(overlapping_solution).passed
