# %% [markdown]
# # 00 · Start here
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - say what a Vision Transformer (ViT) does with a photograph, from pixels to an answer;
# - read the shapes and names that the whole course uses;
# - run cells, use the interactive pictures, and have your answers checked;
# - tell whether your installation is complete.
#
# About 15 minutes to read and do; 8 s of computing on two CPU cores. You need Python and a little PyTorch.

# %%
import torch

from vit_tutorial import check, course, datasets, normalise, plots, weights, widgets
from vit_tutorial.files import CHECKPOINT

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
model = weights.load(CHECKPOINT)  # a small ViT that this course trained
photo = datasets.sample_image("cat", 256)  # (3, 256, 256)

# %% [markdown]
# ## A trained ViT looks at a photograph

# %%
seen = datasets.sample_image("cat", 32)[None]  # (1, 3, 32, 32): all that the model gets
images = normalise(seen, model.config)
with torch.no_grad():
    probabilities = model(images).softmax(dim=-1)[0]  # (10,)
attention = model.attention_maps(images)[-1, 0].mean(0)[0, 1:]  # (64,): class token to patches

fig, axes = plots.figure(9.4, 2.7, 1, 4, width_ratios=[1, 1, 1, 1.15])
plots.draw_image(axes[0], photo, "what you see")
plots.draw_grid(axes[1], seen[0], patch_size=4)
axes[1].set_title("what it sees: 64 patches", fontsize=9)
plots.draw_attention(axes[2], photo, attention, (8, 8), "where it looks")
best = probabilities.argsort(descending=True)[:4].flip(0)
axes[3].barh([model.config.classes[i] for i in best], 100 * probabilities[best])
axes[3].set_title("what it says (%)", fontsize=9)
plots.show(fig, "A cat's face; the same at 32 x 32 pixels cut into 64 patches; attention; the four likeliest classes.")

# %% [markdown]
# It looks at the eyes and the nose, and cannot decide: *dog* and *cat* get nearly the same share. This model learned
# for 35 minutes on one CPU core; on photographs that it has never seen, 83 of 100 of its answers are right, and cats
# and dogs are what it confuses most.
#
# How can a stack of matrix products, shown nothing but 64 small squares, come that far? At the end of this course
# there is no step in that picture that you have not written yourself. This is the path; the lit box is where you are:

# %%
course.show_map(0)

# %% [markdown]
# ## Ask it yourself
#
# Every patch becomes a *token*, and every token looks at all the others. **Predict first:** do all patches look at the
# same places?

# %%
widgets.AttentionExplorer(model, seen, pictures=photo[None])

# %% [markdown]
# Point at a patch: bright is where its token looks, and the percentages say how much. The small maps show the same
# patch in every **head**: each layer of the model has several, and each head looks in its own way. The square above
# the photograph is the *class token*, an extra token from which the answer is read.
#
# Compare layer 1 with the last one. Click a patch to hold it, then point at others to read single numbers. The
# explorer answers in the page, without computing anything anew; on GitHub and in print it is a still.

# %% [markdown]
# What such a map does and does not tell you is the subject of notebook 10. It shows where information was taken from,
# not why the answer came out.

# %% [markdown]
# ## What it cannot do
#
# This model learned from 50,000 small photographs of ten kinds of things (CIFAR-10). It knows no other answer than
# these ten:

# %%
model.config.classes

# %% [markdown]
# An astronaut is none of them.
#
# **Predict before you run:** what will it say?

# %%
names = ["cat", "astronaut", "coffee", "rocket"]
photos = torch.stack([datasets.sample_image(name, 32) for name in names])  # (4, 3, 32, 32)
with torch.no_grad():
    answers = model(normalise(photos, model.config)).softmax(dim=-1)  # (4, 10)
said = [f"{name}\n{model.config.classes[p.argmax()]} {p.max():.0%}" for name, p in zip(names, answers, strict=True)]
fig = plots.image_grid(photos, said, columns=4, size=1.7)
plots.show(fig, "Four photographs at 32 x 32 pixels with the model's answers below their names.")

# %% [markdown]
# The probabilities of the ten classes sum to 1, whatever the picture shows: there is no "I do not know". A confident
# number on a picture of a kind that the model never met means nothing. Keep this picture in mind whenever a model
# tells you 90 %.

# %%
assert torch.allclose(answers.sum(dim=-1), torch.ones(4))
answers.sum(dim=-1)

# %% [markdown]
# ## The words and the letters
#
# The course uses one word for one thing, everywhere:
#
# | word | meaning |
# |---|---|
# | image, patch | the picture; a small square cut from it |
# | token, embedding | one patch as a list of numbers; what those numbers are called together |
# | class token | an extra token, not from the image, from which the answer is read |
# | position embedding | what tells a token where its patch was |
# | query, key, value | three views of a token, with which attention decides what to mix |
# | head | one of several attentions that run side by side |
# | attention weights | how much each token takes from each other token |
# | encoder block | attention and a small network, repeated L times |
# | logits | one score for each class, before they become probabilities |

# %% [markdown]
# Shapes are written with letters, always the same ones:
#
# | letter | meaning | here |
# |---|---|---|
# | B | images in a batch | 1 |
# | C, Y, X | channels, rows, columns of an image | 3, 32, 32 |
# | P | side of a patch in pixels | 4 |
# | N | tokens | 65: 8 x 8 patches and the class token |
# | D | numbers in a token (width) | 128 |
# | H, d | heads, numbers in a head: d = D / H | 4, 32 |
# | L | encoder blocks (layers) | 6 |
#
# So `(B, N, D)` is a batch of token lists. Watch the photograph change its shape on its way through the model:

# %%
with torch.no_grad():
    tokens = model.embed(images)
    features = model.forward_features(images)
    logits = model(images)
print("images    (B, C, Y, X)    ", tuple(images.shape))
print("tokens    (B, N, D)       ", tuple(tokens.shape))
print("attention (L, B, H, N, N) ", tuple(model.attention_maps(images).shape))
print("features  (B, N, D)       ", tuple(features.shape))
print("logits    (B, classes)    ", tuple(logits.shape))

# %% [markdown]
# ## How exercises answer
#
# An exercise leaves a `...` for you. The cell below it checks your answer. It never scolds and never stops the
# notebook: it says that you passed, or what it expected and what it found, and it knows the usual mistakes by name.
# Three wrong answers and a right one, so that you see it at work:

# %%
for answer in (8, 65, 63, 64):
    print(f"{answer:3}: ", end="")
    check.token_count(answer)

# %% [markdown]
# Exercises say what kind they are (*predict*, *write*, *repair*, *experiment*, *stretch*), how hard, and about how
# many minutes they take. A hint is folded below each. Solutions stand at the end, folded too. Try first, then look:
# what you have tried to answer you will remember.

# %% [markdown]
# What passes is remembered on your machine, in a small file that you may read and delete (`check.forget()`); nothing
# is sent anywhere. This is your map, one box for each check. Come back and run the cell again: a blue box with a tick
# is an exercise that you have passed.

# %% tags=["nbval-ignore-output"]
check.show_progress()
assert len(check.EXERCISES) > 80

# %% [markdown]
# Some exercises are parts of a ViT. When one of those passes, you are offered to keep your code in a file of your own,
# `my_vit.py`. Notebook 05 puts these parts together and holds the model against torchvision's; in 06 you train it.

# %% [markdown]
# ## Is everything in place?
#
# The course's own doctor looks at your machine and says what works, and what to do about what does not. Nothing
# leaves your machine. A line that says `note` is for your information; only a `problem` needs you.

# %% tags=["nbval-ignore-output"]
from argparse import Namespace

from vit_tutorial import doctor

assert doctor.main(Namespace(online=False)) == 0, "see the lines that say 'problem'"

# %% [markdown]
# In a terminal the same is `vit-tutorial doctor`. No GPU is needed. Where there is one, the training in 06 and
# `vit-tutorial train` use it; the other notebooks compute on the processor.

# %% [markdown]
# ## Exercises
#
# ### Exercise 0.1 · Read a shape
#
# *predict · easy · 1 minute*
#
# A tensor of tokens has the shape `(16, 65, 128)`. Which sentence is right?
#
# - **a** 65 images, 16 tokens each, 128 numbers a token
# - **b** 16 images, 65 tokens each, 128 numbers a token
# - **c** 16 images, 128 tokens each, 65 numbers a token
# - **d** 1 image, 16 tokens, 65 x 128 numbers a token
#
# Put the letter in quotes in place of the dots.
#
# <details><summary>Hint</summary>
#
# Tokens are always `(B, N, D)`. Look the letters up in the table above.
#
# </details>

# %% tags=["exercise"]
letter = ...

# %%
check.read_shape(letter)

# %% [markdown]
# ### Exercise 0.2 · From bytes to numbers
#
# *write · easy · 3 minutes*
#
# Images are stored as whole numbers from 0 to 255 (`uint8`). Networks want small floats. Write the function that
# turns images of any shape, a batch or a single one, into floats from 0 to 1.
#
# <details><summary>Hint</summary>
#
# 255 must become exactly 1. In PyTorch `/` between a `uint8` tensor and a number gives floats; `//` does not.
#
# </details>


# %% tags=["exercise"]
def scale_pixels(images):
    return ...  # uint8 of any shape -> floats of the same shape


# %%
check.scale_pixels(scale_pixels)

# %% [markdown]
# ## Summary
#
# - A ViT cuts an image into patches, turns each into a token, lets the tokens look at each other L times, and reads
#   the answer from one of them.
# - Shapes are `(B, N, D)` for tokens and `(B, C, Y, X)` for images, in every notebook.
# - A check names your mistake; it never stops you.
# - A classifier always answers, even where no answer is right.

# %% [markdown]
# ## What comes next
#
# [01 Patch embedding](01_patch_embedding.ipynb): how a photograph becomes 64 tokens, and what the size of the patches
# costs.

# %% [markdown]
# ## References
#
# - Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale*: the ViT.
# - Vaswani et al. 2017, *Attention Is All You Need*: the Transformer.
# - Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*: CIFAR-10.
# - The photographs come with scikit-image (`skimage.data`), where their authors and licences are listed.

# %% [markdown]
# ## Solutions
#
# ### Solution 0.1
#
# The order is B, N, D: 16 images, 65 tokens each, 128 numbers a token.

# %% tags=["solution"]
assert check.read_shape("b").passed

# %% [markdown]
# ### Solution 0.2
#
# Dividing by 255 maps 0 to 0 and 255 to 1; `/` also turns `uint8` into floats.


# %% tags=["solution"]
def scale_pixels_solution(images):
    return images / 255


assert check.scale_pixels(scale_pixels_solution).passed
