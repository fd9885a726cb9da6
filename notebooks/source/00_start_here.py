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
# About {minutes} minutes to read and do; 8 s of computing on two CPU cores. You need Python and a little PyTorch.

# %%
import torch

from vit_tutorial import check, course, datasets, normalise, plots, training, weights, widgets
from vit_tutorial.files import CHECKPOINT, DATA

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
model = weights.load(CHECKPOINT)  # a small ViT that this course trained
record = training.History.load(DATA / "runs" / "cifar10-course-35min.json")  # how that training went
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
plots.draw_attention(axes[2], photo, attention, (8, 8), "where it looks (bright: most)")
best = probabilities.argsort(descending=True)[:4].flip(0)
axes[3].barh([model.config.classes[i] for i in best], 100 * probabilities[best])
axes[3].set_title("what it says (%)", fontsize=9)
plots.show(fig, "A cat's face; the same at 32 x 32 pixels cut into 64 patches; attention; the four likeliest classes.")

# %% [markdown]
# To *look* at a patch is to take numbers from it. In its last layer this model puts
# {=100 * attention.view(8, 8)[4:7, 2:6].sum():.0f} % of its attention on twelve patches, on the nose and beside it.
# If it looked at all its 65 tokens alike (one is no patch, see below), these would get
# {=100 * 12 / 65:.0f} %. Two patches at the upper lid of
# one eye stand out too; the other eye does not. And it cannot decide: *dog* gets {=100 * probabilities[5]:.0f} %, *cat*
# {=100 * probabilities[3]:.0f} %. It was trained for {=record.info["minutes"]:.0f} minutes on one CPU core, and gets
# {=100 * record.accuracy:.0f} % of the test photographs right, none of which it learned from.

# %%
course.show_map(0)

# %% [markdown]
# How can a program that is given nothing but 64 small squares come that far? At the end of this course you will know
# every step behind this picture. Above is the path; the lit box is where you are.

# %% [markdown]
# ## Ask it yourself
#
# Every patch becomes a **token**, a list of numbers, and every token looks at all tokens, itself included.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Do all patches of the cat look at the same places?
#
# - a: no, each looks mostly at the patches next to it
# - b: to a large part, yes
# - c: no, each looks at places of its own, near or far

# %%
widgets.AttentionExplorer(model, seen, pictures=photo[None])

# %% [markdown]
# Point at a patch: bright is where its token looks, and the percentages say how much. The model has six **layers**,
# one after the other, and in each of them four **heads**, each of which looks in its own way: those are the small maps.
# *Mean* averages the heads; *rollout*, which notebook 10 explains, follows attention through all layers so far. The
# square above the photograph is the **class token**, an extra token from which the answer is read.

# %% [markdown]
# Compare layer 1 with layer 2 and with the last one. Click a patch to hold it, then point at others to read single
# numbers. All this works inside the page; on GitHub and in print it is a still picture.

# %% [markdown]
# How much do two patches have in common? Take, at each place, the smaller of their two attention weights, and add
# these up: 100 % where both look at the same places, 0 % where they share none.

# %%
maps = model.attention_maps(images)[:, 0].mean(1)[:, 1:]  # (6, 64, 65): layer, patch, where it looks; mean of the heads
i, j = torch.triu_indices(64, 64, offset=1)  # all pairs of two patches
shared = torch.minimum(maps[:, i], maps[:, j]).sum(-1).mean(-1)  # (6,): one number per layer
for layer, share in enumerate(shared, start=1):
    print(f"layer {layer}: two patches share {share:.0%} of their attention")

# %% [markdown]
# b: on average about {=100 * shared.min():.0f} % or more in every layer, and nearly all of it in layer 1. That holds
# for this cat in this model; another model may look differently.
#
# Such a map shows where information was taken from, not why the answer came out. What maps do and do not tell you is
# the subject of [notebook 10](10_looking_inside.ipynb).

# %% [markdown]
# ## The words and the letters
#
# The course uses one word for one thing, everywhere:
#
# | word | meaning |
# |---|---|
# | image, patch | the picture; a small square cut from it |
# | token, embedding | one patch as a list of numbers; what these numbers are called together |
# | class token | an extra token, not from the image, from which the answer is read |
# | position embedding | what tells a token where its patch was |
# | query, key, value | computed from each token: what it asks for, what it is found by, what it passes on |
# | head | one of several attentions that run side by side |
# | attention weights | how much each token takes from each token; they sum to 1 |
# | encoder block | one layer: attention, then a small network |
# | logits | one score for each class, before they become probabilities |

# %% [markdown]
# Shapes are written with letters, always the same ones:
#
# | letter | meaning | here |
# |---|---|---|
# | B | images in a batch | 1 |
# | C, Y, X | channels, rows, columns of an image | 3, 32, 32 |
# | P | side of a patch in pixels | 4 |
# | N | tokens: the patches, and the class token once it is there | 8 x 8 = 64, then 65 |
# | D | numbers in a token (width) | 128 |
# | H, d | heads; numbers per head, d = D / H | 4, 32 |
# | L | encoder blocks (layers) | 6 |
#
# So `(B, N, D)` is a batch of lists of tokens. These are the shapes of the photograph on its way through the model;
# *features* are the tokens after the last encoder block:

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
# An exercise leaves a `...` for you, and the cell below it checks your answer. A check never scolds and never stops the
# notebook. It says that you passed, or what it expected and what it found, and it knows the usual mistakes by name.
#
# Here it is at work on a question: how many patches does a 32 x 32 image have when P = 4? Three wrong answers, and a
# right one:

# %%
for answer in (8, 65, 63, 64):
    print(f"{answer:3}: ", end="")
    check.token_count(answer)

# %% [markdown]
# Exercises say what kind they are (*predict*, *write*, *repair*, *experiment*, *stretch*), how hard, and about how
# many minutes they take. A hint is folded below each. Try first, then look.

# %% [markdown]
# ### Exercise 0.1 · Read a shape
#
# *predict · easy · 1 minute*
#
# A tensor of tokens has the shape `(16, 65, 128)`. Which sentence is right?
#
# - **a** 65 images, 16 tokens each, 128 numbers per token
# - **b** 16 images, 65 tokens each, 128 numbers per token
# - **c** 16 images, 128 tokens each, 65 numbers per token
# - **d** 1 image, 16 tokens, 65 x 128 numbers per token
#
# Put the letter in quotes in place of the dots.
#
# <details><summary>Hint</summary>
#
# Tokens are always `(B, N, D)`. Look up the letters in the table above.
#
# </details>

# %% tags=["exercise"]
letter = ...

# %%
check.read_shape(letter)

# %% [markdown]
# What passes is remembered on your machine, in a small file that you may read and delete (`check.forget()`); nothing
# is sent anywhere. This is your map, one box per exercise; a blue box with a tick is one that you have passed. Come
# back to it whenever you like.

# %% tags=["nbval-ignore-output"]
check.show_progress()
assert len(check.EXERCISES) > 80

# %% [markdown]
# In some exercises you write a part of a ViT. When such an answer passes, the check shows how to keep your code in a
# file of your own, `my_vit.py`. Notebook 05 puts these parts together, and in 06 you train the result.

# %% [markdown]
# ## What it cannot do
#
# This model learned from CIFAR-10: 50,000 small photographs of ten kinds of things. It knows these ten answers and no
# other:

# %%
model.config.classes

# %% [markdown] tags=["predict"]
# **Predict before you run.** An astronaut, a cup of coffee and a rocket are none of them. What will the model say?
#
# - a: it spreads its probabilities: each of the ten classes gets about 10 %
# - b: it gives more than half to one of the ten classes
# - c: it gives little to every class, and the ten sum to less than 100 %

# %%
names = ["cat", "astronaut", "coffee", "rocket"]
photos = torch.stack([datasets.sample_image(name, 32) for name in names])  # (4, 3, 32, 32)
with torch.no_grad():
    answers = model(normalise(photos, model.config)).softmax(dim=-1)  # (4, 10)
said = [f"{model.config.classes[p.argmax()]} {100 * p.max():.0f} %" for p in answers]
fig = plots.image_grid(photos, said, columns=4, size=1.7)
plots.show(
    fig, "A cat, an astronaut, a cup of coffee and a rocket at 32 x 32 pixels, with the model's answer above each."
)

# %%
assert torch.allclose(answers.sum(dim=-1), torch.ones(4)) and (answers[1:].amax(dim=-1) > 0.5).all()
answers.sum(dim=-1)

# %% [markdown]
# b: *{=model.config.classes[answers[1].argmax()]:}* with {=100 * answers[1].max():.0f} %,
# *{=model.config.classes[answers[2].argmax()]:}* with {=100 * answers[2].max():.0f} %,
# *{=model.config.classes[answers[3].argmax()]:}* with {=100 * answers[3].max():.0f} %: each more than it gave to any
# class for the cat, which is one of its ten. The probabilities, which *softmax* makes from the logits, sum to 1,
# whatever the picture shows; there is no "I do not know". A high number says that the other nine seemed less likely,
# not that the answer is right. Keep this in mind whenever a model tells you 90 %.

# %% [markdown]
# ## Is everything in place?
#
# The course's own *doctor* examines your machine. It says what works, and what to do about what does not. Nothing
# leaves your machine. A line that says `note` is for your information; only a `problem` calls for action.

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
# - A ViT cuts an image into patches, turns each into a token, lets all tokens look at each other in L layers, and
#   reads the answer from the class token.
# - Shapes are `(B, N, D)` for tokens and `(B, C, Y, X)` for images, in every notebook.
# - A check names the usual mistakes; it never stops you.
# - A classifier with softmax always answers, even where no answer is right.

# %% [markdown]
# ## What comes next
#
# [01 Patch embedding](01_patch_embedding.ipynb): how a photograph becomes a list of tokens, and what the size of the
# patches costs.

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
# Each is folded: open it when you have tried.
#
# ### Solution 0.1
#
# The order is B, N, D: 16 images, 65 tokens each, 128 numbers per token.

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
