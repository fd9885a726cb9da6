# %% [markdown]
# # 16 · Pictures and words
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - turn sentences into tokens, and put a text encoder of the same blocks beside a ViT;
# - write the contrastive losses of CLIP and SigLIP by hand, and say what temperature and batch size do;
# - train a model that finds the caption of a picture, search with it, and classify with sentences;
# - measure what it does not read: left and right, who has which colour, *no*.
#
# About {minutes} minutes to read and do, in two parts; 50 s of computing on two CPU cores. Read
# [05 Vision Transformer](05_vision_transformer.ipynb) and [06 Training](06_training.ipynb) first;
# [14](14_learning_without_labels.ipynb) helps, but is not needed.

# %%
import json
import math
import textwrap
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from vit_tutorial import VisionTransformer, check, course, datasets, plots, training, widgets, words
from vit_tutorial.datasets.scenes import COLOURS, KINDS
from vit_tutorial.files import DATA
from vit_tutorial.layers import EncoderBlock
from vit_tutorial.machine.precision import autocast, bf16_pays
from vit_tutorial.model import normalise
from vit_tutorial.training.optimizer import make_optimizer

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(16)

# %% [markdown]
# ## Ask for a picture
#
# Here is a model that has read a sentence beside every picture it was trained on. Choose words, and it sorts pictures
# by how well they fit.

# %%
widgets.SearchExplorer()

# %% [markdown]
# Try three things. Ask for a colour and a shape and nothing else. Ask for two shapes. Then exchange *left* and
# *right*, and see whether the order of the pictures changes.
#
# **Nobody has told this model what a star is.** It has no classes. It was shown pictures, each with one sentence, and
# asked again and again: *which of these sentences belongs to this picture?*

# %% [markdown]
# Notebook 14 learned from pictures alone; this one learns from pictures and the words that people write beside them.
# The web is full of those, and a sentence says more than a label.
#
# But a picture is 3,072 numbers and a sentence is a row of words. **The question of this notebook: how can the two be
# compared?**
#
# **Part 1** builds a model that does, as CLIP does (Radford et al. 2021), and trains it. **Part 2** classifies with it,
# writes a second loss (SigLIP, Zhai et al. 2023), and measures what it reads and what it does not.

# %% [markdown]
# ## Pictures that come with a sentence
#
# The course draws its own: scenes of one or two shapes, of which it knows everything, so it can write the caption.
# Six pairs of a colour and a shape are kept out of training altogether. No picture that the model learns from shows a
# red star. We come back to them in part 2.

# %%
HELD_OUT = [("red", "star"), ("yellow", "ring"), ("green", "circle")]
HELD_OUT += [("blue", "square"), ("purple", "cross"), ("white", "triangle")]
drawn = datasets.scenes("train", 12000, objects=(1, 2))
train = drawn[~drawn.shows(HELD_OUT)]
test = datasets.scenes("test", 2000, objects=(1, 2))
print(len(drawn), "drawn,", len(train), "left to learn from;", len(set(train.captions)), "different captions")

# %%
titles = [textwrap.fill(caption, 21) for caption in train.captions[:5]]
fig, axes = plots.figure(9, 2.4, 1, 5)
for ax, image, title in zip(axes, train.images, titles, strict=False):
    plots.draw_image(ax, image, title)
plots.show(fig, f"Five scenes with their captions: {'; '.join(train.captions[:5])}.")

# %% [markdown]
# Could you use a classifier, with a class for each sentence? Count: two sizes, six colours and six shapes make 72
# objects, and two of them with one of four relations make more than 20,000 sentences. There are more classes than
# pictures. Most sentences of the test are new to the model, and it should nevertheless know what to do with them.
#
# So a sentence must be *read*, word by word.

# %% [markdown]
# ## Words into numbers
#
# A ViT cuts a picture into patches. A sentence comes cut already, into words. What is missing are the numbers. A
# **tokenizer** gives each word one. Ours needs one line: all words that occur, in alphabetical order, counted from 1.

# %%
examples = ["a red star", "a small ring", "a red ring left of a star"]
vocabulary = sorted({word for sentence in examples for word in sentence.split()})
numbers = {word: number for number, word in enumerate(vocabulary, start=1)}
numbers

# %% [markdown]
# Why not from 0? A batch is one tensor, so all its rows need the same length T, and sentences have different lengths.
# Short ones are filled up, and **0 means: no word here**. With T = 8, "a red star" becomes 1, 4, 7 and five zeros.

# %% [markdown]
# ### Exercise 16.1 · Number the words
#
# *write · easy · 3 minutes*
#
# Return the sentence as a list of T whole numbers: the number of each word, in order, then zeros. Capital letters and
# commas do not count: "Red, star" has the words red and star. A word that `numbers` does not have shall be an error,
# which a dictionary raises by itself. No sentence is longer than T words.
#
# <details><summary>Hint</summary>
#
# `lower()`, `replace(",", "")`, `split()`. In Python `[0] * 3` is a list of three zeros, and `+` joins lists.
#
# </details>


# %% tags=["exercise"]
def my_encode(sentence, numbers, T):
    return ...  # a list of T whole numbers


# %%
check.word_numbers(my_encode)

# %% [markdown]
# The package's tokenizer does this for a batch. Made from the training captions, it knows these words:

# %%
tokenizer = words.Tokenizer(train.captions)
print(len(tokenizer.words), "words:", *tokenizer.words)
print(tokenizer(["a small red star left of a large blue ring", "a large white cross"]))

# %% [markdown]
# ## From a row of words to one vector
#
# The rest you know. A ViT *computes* a token from each patch. Here a **table** holds a vector for each word, learned,
# and the number says which row to take (`nn.Embedding`). Three words of two numbers each, and row 0 for no word:

# %%
table = torch.tensor([[0.0, 9.0], [1.0, -3.0], [-2.0, -1.0], [4.0, 2.0]])  # (words + 1, D)
tokens = torch.tensor([[3, 1, 0, 0], [2, 2, 1, 3]])  # (B, T) = (2, 4)
x = table[tokens]  # (B, T, D)
x

# %% [markdown]
# Positions are added, blocks follow, and at the end the tokens are averaged, as with `pool="mean"` in 05. But the
# average must be taken over the words alone. The first sentence has two, (4, 2) and (1, -3): their mean is
# (2.5, -0.5). The two places behind them hold numbers too. These belong to no word, and must not count.

# %% [markdown]
# ### Exercise 16.2 · A mean that counts too much
#
# *repair · medium · 4 minutes*
#
# `broken_vector` should give for each sentence the mean of its words' vectors. It runs, gives the right shape, and has
# two faults.


# %%
def broken_vector(x, tokens):
    real = (x > 0).any(dim=2, keepdim=True)  # (B, T, 1)
    return (x * real).mean(dim=1)  # (B, D)


broken_vector(x, tokens)

# %% [markdown]
# It should give (2.5, -0.5) and (0.25, -0.75). Copy the lines into the stub and mend them.
#
# <details><summary>Hint</summary>
#
# What tells you whether there is a word: the numbers in its vector, or its token? And a mean over T places divides by
# T. By what should it divide?
#
# </details>


# %% tags=["exercise"]
def repaired_vector(x, tokens):
    return ...  # (B, D)


# %%
check.sentence_vector(repaired_vector)

# %% [markdown]
# The whole encoder. It is 05's ViT once more, with a table in the place of the patch embedding, and the very same
# `EncoderBlock` (04). Its head gives `out_dim` numbers.


# %% tags=["package"]
class TextEncoder(nn.Module):
    def __init__(self, num_words, T=12, embed_dim=64, depth=2, num_heads=4, out_dim=64):
        super().__init__()
        self.embed = nn.Embedding(num_words + 1, embed_dim)
        self.pos_embed = nn.Parameter(torch.randn(1, T, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(embed_dim, num_heads, 2.0) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, out_dim)

    def forward(self, tokens):
        x = self.embed(tokens) + self.pos_embed  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        real = (tokens > 0).unsqueeze(2)  # (B, T, 1)
        x = (self.norm(x) * real).sum(dim=1) / real.sum(dim=1)  # (B, D)
        return self.head(x)


# %%
text = TextEncoder(len(tokenizer.words))
says = text(tokenizer(train.captions[:3]))
print(tuple(says.shape), sum(p.numel() for p in text.parameters()), "weights")

# %% [markdown]
# ## One space for both
#
# And the picture? 05's ViT ends in a head that gives a number for each class. Let it give 64 numbers that stand for
# no class. Now a picture is 64 numbers, and a sentence is 64 numbers. **That is all it takes to compare them**: two
# vectors in one space.
#
# What they mean is left to the training. At the start nothing says that the vector of a red star lies near that of
# "a red star".

# %% [markdown]
# How near are two vectors? We take the **cosine** (02): each is divided by its length, so that all lie on the unit
# sphere, and a dot product is left: 1 for the same direction, 0 for a right angle, -1 for opposite ones.
#
# By hand, with three pictures, their three captions, and two numbers each instead of 64:

# %%
pictures = torch.tensor([[5.0, 0.0], [0.0, 2.0], [3.0, 4.0]])  # (B, D): a star, a ring, a cross
captions = torch.tensor([[4.0, 3.0], [0.0, 3.0], [7.0, 24.0]])  # (B, D): "a star", "a ring", "a cross"
pictures = pictures / pictures.norm(dim=1, keepdim=True)  # (B, D), length 1
captions = captions / captions.norm(dim=1, keepdim=True)
pictures, captions

# %%
names = ["star", "ring", "cross"]
fig, ax = plots.figure(4.4, 3)
angle = torch.linspace(-0.1, math.pi / 2 + 0.1, 100)
ax.plot(angle.cos(), angle.sin(), color="#BBBBBB", linewidth=1)
for number, (picture, caption, name) in enumerate(zip(pictures, captions, names, strict=True)):
    ax.plot(*picture, "o", color=plots.COLOURS[number], markersize=10)
    ax.plot(*caption, "s", color=plots.COLOURS[number], markersize=9, markerfacecolor="white")
    ax.annotate(f"picture: {name}", picture, (-8, -4), textcoords="offset points", ha="right", va="top")
    ax.annotate(f'"a {name}"', caption, (9, 4), textcoords="offset points")
ax.set(aspect="equal", xlim=(-0.5, 1.5), ylim=(-0.15, 1.15))
ax.set_axis_off()
plots.show(
    fig,
    "Six points on a quarter of the unit circle. From right to left: picture of a star, a star in words, picture of a "
    "cross, a cross in words, and the picture of a ring and a ring in words on one another.",
)

# %%
cosines = pictures @ captions.T  # (B, B): row i is picture i with every caption
cosines

# %% [markdown]
# Read it by rows. The star has its largest cosine with its own caption (0.80), the ring too (1.00). But the cross lies
# nearer to "a star" (0.96) than to "a cross" (0.936). Read it by columns: "a ring" finds its picture, the two others
# do not. **The right ones stand on the diagonal**: caption i was written for picture i.

# %% [markdown]
# ### Exercise 16.3 · All with all
#
# *write · easy · 3 minutes*
#
# `images` and `texts` are `(B, D)`, their lengths are anything. Return `(B, B)`: in row i, column j the cosine of
# picture i and caption j, *divided by* `temperature`. (What that is for comes in a minute.)
#
# <details><summary>Hint</summary>
#
# `F.normalize(x, dim=1)` gives each row length 1. Then one product gives all cosines.
#
# </details>


# %% tags=["exercise"]
def my_logits(images, texts, temperature):
    return ...  # (B, B)


# %%
check.similarity(my_logits)

# %% [markdown]
# ## A loss by hand
#
# What should change? Each picture should find its caption. That is a classification, with as many classes as there are
# captions in the batch, and the loss is 06's cross-entropy: softmax of a row, minus the logarithm of the right one's
# share. With a temperature of 0.1:

# %%
logits = cosines / 0.1  # (B, B)
shares = logits.softmax(dim=1)  # each row sums to 1
print(shares)
print("share of the right one:", [f"{share:.3f}" for share in shares.diag().tolist()])
print("loss:", [f"{-math.log(share):.3f}" for share in shares.diag().tolist()])

# %% [markdown]
# The star is found almost surely and costs nearly nothing, the cross costs 0.93.
#
# But you also search the other way, from words to pictures, as in the explorer. So each caption should find its
# picture too. The same numbers, by columns:

# %%
shares = logits.softmax(dim=0)  # each column sums to 1
print(shares)
print("loss:", [f"{-math.log(share):.3f}" for share in shares.diag().tolist()])

# %% [markdown]
# Another loss: "a star" prefers the cross and costs 1.81. The **contrastive loss** is the mean over the batch in each
# direction, and the mean of the two directions. Here it is (0.485 + 0.918) / 2 = 0.70.
#
# It pulls on every one of the nine numbers: those on the diagonal up, all others down. No caption has to be wrong to
# be a wrong answer; it is enough that it was written for another picture.

# %% [markdown]
# ### Exercise 16.4 · Both directions
#
# *write · medium · 3 minutes*
#
# Return the contrastive loss of `logits` `(B, B)`, one number: the mean of the cross-entropy of the rows and that of
# the columns. It should take large logits without an overflow.
#
# <details><summary>Hint</summary>
#
# `F.cross_entropy(logits, labels)` takes a label for each row. Which column is right for row 0, for row 1, ...? The
# columns of `logits` are the rows of `logits.T`.
#
# </details>


# %% tags=["exercise"]
def my_loss(logits):
    return ...  # one number


# %%
check.clip_loss(my_loss)

# %% [markdown]
# ## Temperature
#
# Why divide the cosines at all? Look at one row, that of the cross, at three temperatures:

# %%
for temperature in (1.0, 0.1, 0.01):
    shares = (cosines[2] / temperature).softmax(dim=0)
    print(f"temperature {temperature:4}:", " ".join(f"{share:.3f}" for share in shares.tolist()))

# %% [markdown]
# At 1 all three seem nearly the same, though one is a wrong answer by a clear distance: cosines reach from -1 to 1 and
# no further, so a softmax hardly tells them apart. At 0.01 a difference of 0.024 makes one share eleven times the
# other.

# %% [markdown] tags=["predict"]
# **Predict before you run.** A perfect model: each of 128 pictures has a cosine of 1 with its caption and of -1 with
# all others, which is as far apart as vectors can be. What share does the right one get at temperature 1?
#
# - a: nearly 100 %
# - b: about a half
# - c: about a twentieth

# %%
for temperature in (1.0, 0.5, 0.07):
    perfect = torch.cat([torch.ones(1), -torch.ones(127)]) / temperature
    share = perfect.softmax(dim=0)[0].item()
    print(f"temperature {temperature:4}: share {share:.4f}, loss {abs(math.log(share)):.4f}")

# %% [markdown]
# c: at temperature 1 even the perfect model has a loss near 3, and would be pushed on for ever. So a low temperature is
# needed. How low? The model learns that too: its temperature is a parameter like any other, kept as a logarithm so that
# it stays positive. It starts at 0.07, as in CLIP.

# %% [markdown]
# ### Exercise 16.5 · What guessing gives
#
# *predict · easy · 2 minutes*
#
# Two numbers to know before you train. A picture and 32 captions, one of them its own: in how many *per cent* does
# guessing find the right one? And what is the contrastive loss of a batch of 128 if all logits are alike? Give the
# second to two decimals.
#
# <details><summary>Hint</summary>
#
# If all logits are alike, each of the 128 gets the same share. 06 asked the same of ten classes: the first loss of a
# fresh classifier.
#
# </details>

# %% tags=["exercise"]
answer = (..., ...)  # per cent, loss

# %%
check.chance(answer)

# %% [markdown]
# *To remember: a batch is a classification with the batch as its classes; right ones stand on the diagonal; a
# temperature makes cosines into logits.*

# %% [markdown]
# ## Both together
#
# Now the model. `scale` is 1 / temperature, learned as a logarithm. (`bias` is for part 2.)


# %% tags=["package"]
class PictureText(nn.Module):
    def __init__(self, vit, text, temperature=0.07):
        super().__init__()
        self.vit, self.text = vit, text
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))  # learned as a logarithm: stays positive
        self.bias = nn.Parameter(torch.tensor(-10.0))  # of SigLIP alone

    def embed_images(self, images):
        return F.normalize(self.vit(images).float(), dim=1)  # (B, out_dim)

    def embed_texts(self, tokens):
        return F.normalize(self.text(tokens).float(), dim=1)

    def forward(self, images, tokens):
        return self.scale.exp() * self.embed_images(images) @ self.embed_texts(tokens).T


# %% [markdown]
# The ViT is 14's, with patches of 8 x 8 and two blocks only, so that you need not wait.

# %%
recipe = replace(training.RECIPES["mae"], without_labels="", weight_decay=0.01)


def new_model(seed, text_depth=2):
    torch.manual_seed(seed)
    vit = VisionTransformer(replace(recipe.model, depth=2, num_classes=64))
    return PictureText(vit, TextEncoder(len(tokenizer.words), depth=text_depth))


model = new_model(0)
print("weights:", sum(p.numel() for p in model.vit.parameters()), "and", sum(p.numel() for p in text.parameters()))

# %% [markdown]
# ## Train it
#
# The loop is 06's: draw a batch, loss, gradient, step. Optimisers and schedule are its too. One thing is missing on
# purpose. In 06 every second picture was mirrored. Here a mirrored picture would make a lie of "left of".


# %%
def fit(model, steps=400, B=128, seed=0):
    """Train `model`; the loss of each step."""
    torch.manual_seed(seed)
    optimizer = make_optimizer(model, recipe, bf16_pays("cpu"))
    schedule = LambdaLR(optimizer, lambda step: training.warmup_cosine(step / steps))
    tokens, losses = tokenizer(train.captions), []
    for _ in range(steps):
        index = torch.randint(len(train), (B,))
        images = normalise(train.images[index], model.vit.config)  # (B, 3, 32, 32)
        with autocast(images.device):
            logits = model(images, tokens[index])  # (B, B)
        loss = words.clip_loss(logits.float())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return torch.tensor(losses)


# %%
losses = fit(model)

# %% tags=["nbval-ignore-output"]
smooth = losses.view(-1, 10).mean(dim=1)  # (400,) -> (40, 10): means of ten steps
fig, ax = plots.figure(5, 2.4)
ax.plot(10 * torch.arange(len(smooth)) + 5, smooth)
ax.axhline(math.log(128), color="#888888", linewidth=1, linestyle=":")
ax.set(xlabel="step", ylabel="loss (dotted: guessing)", ylim=(0, 5.2))
plots.show(fig, f"The loss over 400 steps: it falls from {smooth[0]:.1f}, near guessing, to {smooth[-1]:.1f}.")
temperature = 1 / model.scale.exp().item()
assert abs(losses[0] - math.log(128)) < 0.5 and smooth[-1] < 2.5

# %% [markdown]
# The loss starts at guessing and falls to {=smooth[-1]:.1f}. It cannot fall to 0: some captions come twice in a batch,
# word for word, and then only one of the two counts as right. The temperature went from 0.07 to {=temperature:.2f}: the
# model has grown surer of its cosines.

# %% [markdown]
# ## The right one among 32
#
# A loss of {=smooth[-1]:.1f} says little. So a test that you can picture: a new scene and 32 captions, its own and 31
# of other new scenes. Is its own the nearest? Captions that are the same word for word are left out, for they would
# be right too.


# %%
@torch.no_grad()
def picture_vectors(model, images):
    """Images (M, 3, 32, 32), uint8, as vectors of length 1, (M, 64)."""
    return torch.cat([model.embed_images(normalise(part, model.vit.config)) for part in images.split(200)])


@torch.no_grad()
def sentence_vectors(model, sentences):
    return model.embed_texts(tokenizer(list(sentences)))  # (M, 64)


def among_32(pictures, sentences, seed=0):
    """For each test picture: is its own sentence nearer than those of 31 others? (M,) bool."""
    cosines, rng, right = pictures @ sentences.T, np.random.default_rng(seed), []
    for i, own in enumerate(test.captions):
        others = [j for j in rng.permutation(len(test))[:60].tolist() if test.captions[j] != own][:31]
        right.append(bool(cosines[i, i] > cosines[i, others].max()))
    return torch.tensor(right)


# %% [markdown] tags=["predict"]
# **Predict before you run.** After 400 steps of a small model: in how many per cent of the scenes is the right caption
# the nearest of 32?

# %% tags=["nbval-ignore-output"]
scene, sentence = picture_vectors(model, test.images), sentence_vectors(model, test.captions)  # (M, 64) each
found = among_32(scene, sentence)
single = (test.kinds >= 0).sum(dim=1) == 1
print(f"found: {100 * found.float().mean():.0f} %; one shape {100 * found[single].float().mean():.0f} %, ", end="")
print(f"two shapes {100 * found[~single].float().mean():.0f} %")
assert found.float().mean() > 0.7

# %% [markdown]
# {=100 * found.float().mean():.0f} %. The model has met few of these sentences in training, and it was never told what
# a word means. That "red" is a colour and "star" a shape follows from which captions went with which pictures.
#
# And the way back, from words to pictures. You ask, and look at the six nearest of 2,000:

# %% tags=["nbval-ignore-output"]
asked = "a large white star left of a small blue ring"
cosines = scene @ sentence_vectors(model, [asked])[0]  # (M,)
best = cosines.topk(6).indices
titles = [f"{cosines[i]:.2f}" for i in best]
plots.show(
    plots.image_grid(test.images[best], titles, columns=6, size=1.3),
    f"The six pictures nearest to '{asked}', with their cosines: {'; '.join(test.captions[i] for i in best)}.",
)
assert sum("white" in test.captions[i] for i in best) >= 3

# %% [markdown]
# ### Exercise 16.6 · Recall at k
#
# *write · medium · 4 minutes*
#
# Nobody looks only at the first hit of a search. **Recall at k** is the share of questions whose right answer is among
# the first k. `similarity` `(M, M)` has questions as rows, and the right answer of row i in column i. Return the share
# as a Python number between 0 and 1. (The solution then measures our model among 500 captions.)
#
# <details><summary>Hint</summary>
#
# `similarity.topk(k, dim=1).indices` is `(M, k)`: for each row the columns of its k largest. Is i among those of row i?
#
# </details>


# %% tags=["exercise"]
def my_recall(similarity, k):
    return ...  # a number between 0 and 1


# %%
check.recall(my_recall)

# %% [markdown] tags=["stop"]
# **A place to stop.** You can turn sentences into tokens, compare them with pictures on the unit sphere, say what the
# contrastive loss counts and what the temperature does, and you have trained a model that finds captions that it never
# saw. The second part classifies with it, and finds out what it has not learned to read. If you come back to a fresh
# kernel, first run all the cells above.

# %% [markdown]
# ## A class is a sentence
#
# The model has no classes. But you can write some: "a small red star" is one vector, and a picture of a class is what
# lies near it. This is called **zero-shot** classification: not one labelled picture, and no training for the task.
#
# Our 36 classes are six colours times six shapes. A small and a large one make two sentences, and the class gets their
# mean. (CLIP averages over up to 80 sentences for a class, such as "a photo of a big star".)

# %%
pairs = [(colour, kind) for colour in COLOURS for kind in KINDS]  # 36
small, large = (sentence_vectors(model, [f"a {size} {c} {k}" for c, k in pairs]) for size in ("small", "large"))
classes = (small + large) / 2  # (K, D) = (36, 64)
print("all of them shorter than 1:", (classes.norm(dim=1) < 1).all().item())

# %% [markdown]
# The mean of two unit vectors is shorter than 1, more so the more they differ. With a dot product alone, classes with
# long vectors would win more often than they should.

# %% [markdown]
# ### Exercise 16.7 · Classify without training
#
# *write · easy · 3 minutes*
#
# `image_vectors` `(M, D)` and `class_vectors` `(K, D)` have any length. Return for each picture the number of the class
# with which it has the largest cosine, `(M,)`.
#
# <details><summary>Hint</summary>
#
# All cosines, `(M, K)`, as in 16.3; then the place of the largest in each row.
#
# </details>


# %% tags=["exercise"]
def my_classify(image_vectors, class_vectors):
    return ...  # (M,)


# %%
check.zero_shot(my_classify)

# %% [markdown]
# ### Pairs that never occurred
#
# Now the six pairs that were kept out. The model has seen red things, and it has seen stars, but not one red star, and
# has read the words "red star" in no caption.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Test pictures with one shape, 36 classes. For pairs that it has seen, the model will be
# right in about seven of ten. And for the six that it has not?
#
# - a: hardly ever, it always answers with a pair that it knows
# - b: less often than for the others, but far above chance
# - c: as often

# %% tags=["nbval-ignore-output"]
unit = classes / classes.norm(dim=1, keepdim=True)
answers = (scene[single] @ unit.T).argmax(dim=1)  # (n,): pictures with one shape
truth = test.colours[single, 0] * len(KINDS) + test.kinds[single, 0]
new = test.shows(HELD_OUT)[single]
colour, kind = (answers // 6 == truth // 6).float(), (answers % 6 == truth % 6).float()  # (n,) each: is it right?
for name, which in (("seen", ~new), ("never seen", new)):
    both = 100 * (colour * kind)[which].mean()
    print(
        f"{name:10} {which.sum():4} pictures: {both:.0f} % right; colour {100 * colour[which].mean():.0f} %, ", end=""
    )
    print(f"shape {100 * kind[which].mean():.0f} %")
assert (colour * kind)[new].mean() > 0.2

# %%
record = json.loads((DATA / "runs" / "words.json").read_text())
USUAL = {"loss": "clip", "batch": 128, "steps": 400, "depth": 2, "text": "blocks"}
USUAL |= {"hard_negatives": False, "negation": False}


def recorded(what, **other):
    """What was recorded of the runs that are as usual but for `other`, in per cent: one for each seed."""
    wanted = USUAL | other
    found = [run[what] for run in record["runs"] if all(run[name] == value for name, value in wanted.items())]
    return 100 * torch.tensor(found)


for what in ("pair seen", "pair unseen", "seen", "unseen"):
    print(f"{what:12} {recorded(what).mean():.0f} %")

# %% [markdown]
# b. Recorded with {=len(recorded("seen")):d} seeds (`python tools/measure/words.py`):
# {=recorded("pair seen").mean():.0f} % for pairs seen, {=recorded("pair unseen").mean():.0f} % for those never seen,
# where guessing gives 3 %. Among 32 captions the difference is smaller: {=recorded("seen").mean():.0f} against
# {=recorded("unseen").mean():.0f} %.
#
# So the model has not learned sentences by heart. It puts together what it knows of *red* and of *star*, though less
# well than for pairs that it has met. Colour it reads from everything: all its mistakes above are mistakes of shape.

# %% [markdown]
# ## What the batch size does
#
# A larger batch makes each question harder: to find one caption among 8 or among 512. The record has models that saw
# the same number of pictures, 51,200, in small or in large batches.

# %%
sizes = [8, 32, 128, 512]
steps = {B: 51200 // B for B in sizes}
by_size = {
    (loss, what): [recorded(what, loss=loss, batch=B, steps=steps[B]).mean().item() for B in sizes]
    for loss in ("clip", "siglip")
    for what in ("among_32", "pair seen")
}
for (loss, what), values in by_size.items():
    print(f"{loss:7}{what:10}", *(f"batch {B}: {value:.0f} % " for B, value in zip(sizes, values, strict=True)))

# %%
fig, axes = plots.figure(8, 2.6, 1, 2)
for (loss, what), values in by_size.items():
    ax, style = axes[int(what == "pair seen")], "o-" if loss == "clip" else "s--"
    ax.plot(range(4), values, style, label={"clip": "CLIP's loss", "siglip": "SigLIP's"}[loss])
for ax, title in zip(axes, ("found among 32 captions (%)", "zero-shot, 36 classes (%)"), strict=True):
    ax.set_xticks(range(4), [f"{B}\n({steps[B]} steps)" for B in sizes])
    ax.set(xlabel="batch size", title=title, ylim=(0, 100))
axes[0].legend(frameon=False, loc="lower left")
said = "; ".join(f"{loss}, {what}: {', '.join(f'{v:.0f}' for v in values)}" for (loss, what), values in by_size.items())
plots.show(fig, f"Two panels, per cent for batches of 8, 32, 128 and 512. {said}.")

# %% [markdown]
# With CLIP's loss a batch of 8 finds {=by_size["clip", "among_32"][0]:.0f} % of the captions, and is right about colour
# and shape in only {=by_size["clip", "pair seen"][0]:.0f} %, where 128 are right in
# {=by_size["clip", "pair seen"][2]:.0f} %, with a sixteenth of the steps. To tell a caption from seven others, colours
# and sizes are enough; there are rarely two that differ in the shape alone.
#
# More is not better for ever: with 512 only 100 steps are left. CLIP was trained with batches of 32,768, which no
# single machine can hold. (And the second line?)

# %% [markdown]
# ## Each pair by itself
#
# In CLIP's loss everything hangs together: the share of one pair has all others of its row below the fraction bar.
# SigLIP (Zhai et al. 2023) asks each pair by itself: **do the two belong together, yes or no?**
#
# | | a picture's loss |
# |---|---|
# | CLIP (rows) | $-\log \text{softmax}(z_i)_i$: which of the B? |
# | SigLIP | $-\sum_j \log \sigma(s_{ij} (z_{ij} + b))$, with $s_{ij} = 1$ for $i = j$, else $-1$: yes or no? |

# %% [markdown]
# $\sigma$ is the sigmoid, which makes a logit into a probability, $1 / (1 + e^{-z})$; $1 - \sigma(z) = \sigma(-z)$, and
# that is why a sign in front is enough to turn *yes* into *no*. Two pairs of ours, with $b = -9$. The star and its
# caption have the logit 8, the cross and "a star" 9.6:

# %%
for name, z, sign in (("star, 'a star'", 8.0, 1), ("cross, 'a star'", 9.6, -1)):
    yes = torch.tensor(z - 9.0).sigmoid().item()
    print(f"{name:16} yes: {yes:.3f}  loss {-math.log(yes if sign == 1 else 1 - yes):.3f}")

# %% [markdown]
# ### Exercise 16.8 · SigLIP's loss
#
# *write · medium · 4 minutes*
#
# Return SigLIP's loss of `logits` `(B, B)`, one number: $-\log \sigma(s_{ij} (z_{ij} + b))$ for each pair, summed over
# the captions of a picture, and the mean over the pictures. $s_{ij}$ is 1 on the diagonal and -1 elsewhere. It should
# take large logits.
#
# <details><summary>Hint</summary>
#
# `torch.eye(B)` has ones on the diagonal and zeros elsewhere; what makes 1 and -1 of them? `F.logsigmoid` does not
# overflow.
#
# </details>


# %% tags=["exercise"]
def my_siglip(logits, bias):
    return ...  # one number


# %%
check.siglip_loss(my_siglip)

# %% [markdown]
# What does it change? Spoil one of the nine numbers of our batch, picture 0 with caption 2, and see for how many pairs
# the gradient moves:


# %%
def gradient(loss, logits):
    logits = logits.clone().requires_grad_()
    loss(logits).backward()
    return logits.grad


spoilt = logits + torch.tensor([[0.0, 0, 3], [0, 0, 0], [0, 0, 0]])
for name, loss in (("CLIP", words.clip_loss), ("SigLIP", lambda z: words.siglip_loss(z, -9.0))):
    moved = (gradient(loss, spoilt) - gradient(loss, logits)).abs() > 1e-6
    print(f"{name:6} {moved.sum()} of 9:", moved.int().tolist())

# %% [markdown]
# With CLIP the whole row and the whole column move; with SigLIP that pair alone. So for CLIP's softmax every machine
# needs the vectors of *all* captions and all pictures before it can compute one share. SigLIP's loss is a sum. Each
# machine computes a block of it, passes its captions on to the next, and never holds the whole `(B, B)`.

# %% [markdown]
# There is one thing to watch. Of $B^2$ pairs only $B$ belong together. Without a bias a fresh model would start with
# 127 wrong answers for each right one. So $b$ starts at -10: *no* to everything. It is learned. The first loss, for 128
# pairs with cosines of 0:

# %%
for bias in (0.0, -10.0):
    print(f"bias {bias:5}: {words.siglip_loss(torch.zeros(128, 128), bias):.2f}")

# %% [markdown]
# Which loss is better? In the figure above, among 32 captions: {=by_size["clip", "among_32"][2]:.0f} % with CLIP's and
# {=by_size["siglip", "among_32"][2]:.0f} % with SigLIP's with batches of 128, {=by_size["clip", "among_32"][0]:.0f} and
# {=by_size["siglip", "among_32"][0]:.0f} % with 8; zero-shot {=by_size["clip", "pair seen"][0]:.0f} and
# {=by_size["siglip", "pair seen"][0]:.0f} % with 8. Zhai et al. found SigLIP better below batches of 16,000, both alike
# above, and little gained beyond 32,000. Ours is a small world; do not read much into a point or two.

# %% [markdown]
# ## What it does not read
#
# {=100 * found.float().mean():.0f} % of the captions found: so it understands them? Make the test harder. Take a
# picture of two shapes, its caption, and *the same caption with one thing made wrong*. The model should prefer the
# right one. Guessing gives 50 %.

# %%
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "small": "large", "large": "small"}


def altered(caption, what):
    """The caption of two shapes with one thing made wrong."""
    w = caption.split()
    first, relation, second = w[:4], w[4:-4], w[-4:]  # a small red star | left of | a large blue ring
    if what == "size":
        first[1] = OPPOSITE[first[1]]
    elif what == "colour":
        first[2] = list(COLOURS)[list(COLOURS).index(first[2]) - 1]
    elif what == "shape":
        first[3] = KINDS[KINDS.index(first[3]) - 1]
    elif what == "colours exchanged":
        first[2], second[2] = second[2], first[2]
    elif relation[0] in what:  # "left/right" or "above/below"
        relation[0] = OPPOSITE[relation[0]]
    return " ".join(first + relation + second)


WRONG = ("colour", "shape", "size", "colours exchanged", "left/right", "above/below")
for what in WRONG[2:5]:
    print(f"{what:18}", altered("a small red star left of a large blue ring", what))

# %% [markdown] tags=["predict"]
# **Predict before you run.** Put the six in order. Which of them will the model notice nearly always, which will it
# toss a coin for?


# %%
def prefers(model, what):
    """How often, in per cent, a picture of two different shapes is nearer to its caption than to the altered one."""
    tried = []
    for i in (~single).nonzero().flatten().tolist():
        own = test.captions[i]
        if altered(own, what) != own and own.split()[:4] != own.split()[-4:]:
            tried.append((i, own, altered(own, what)))
    index, right, wrong = zip(*tried, strict=True)
    pictures = picture_vectors(model, test.images[list(index)])  # (n, 64)
    return (
        100
        * ((pictures * (sentence_vectors(model, right) - sentence_vectors(model, wrong))).sum(dim=1) > 0)
        .float()
        .mean()
        .item()
    )


# %% tags=["nbval-ignore-output"]
notices = {what: prefers(model, what) for what in WRONG}
fig, ax = plots.figure(5.4, 2.4)
ax.barh(range(len(WRONG)), notices.values(), color=plots.COLOURS[0])
ax.axvline(50, color="#000000", linewidth=1, linestyle=":")
ax.set_yticks(range(len(WRONG)), WRONG)
ax.set(xlabel="right caption preferred (%; dotted: guessing)", xlim=(0, 100), ylim=(5.6, -0.6))
said = "; ".join(f"{what} {value:.0f}" for what, value in notices.items())
plots.show(fig, f"How often the right caption is preferred to the altered one, in per cent: {said}.")
assert min(notices[what] for what in WRONG[:3]) > 70 and max(abs(notices[what] - 50) for what in WRONG[3:]) < 12

# %% [markdown]
# A wrong colour is noticed in {=notices["colour"]:.0f} %, a wrong shape in {=notices["shape"]:.0f} %. Left and right:
# {=notices["left/right"]:.0f} %, above and below: {=notices["above/below"]:.0f} %. **That is a coin.** The captions say
# where things are, the ViT knows its positions, the text encoder knows its own, and still nothing of it has been
# learned.
#
# The same where the two colours change places, so that the words are all there and only their owners differ:
# {=notices["colours exchanged"]:.0f} %. The model knows *which* colours and shapes there are, and not who has which.

# %% [markdown]
# Why? Ask the loss. It only wants the right caption among 128. How often does a batch have two that differ in their
# relation alone, so that somebody would have to look where things are?

# %%
rng, hits = np.random.default_rng(0), 0
for _ in range(200):
    batch = [train.captions[i] for i in rng.integers(len(train), size=128)]
    turned = {altered(altered(c, "left/right"), "above/below") for c in batch if len(c.split()) > 4}
    hits += len(turned & set(batch))
print(f"{hits} of {200 * 128} captions met themselves with the relation turned round, in a batch of 128")

# %% [markdown]
# In {=100 * hits / (200 * 128):.1f} % of the cases. Whoever knows the colours, shapes and sizes has the right caption
# nearly always, and who stands where is of no use. Yuksekgonul et al. (2023) found the same in CLIP and its relatives.
# Trained on hundreds of millions of pictures, they find captions well; does the horse eat the grass, or the grass the
# horse? On tests of that kind many are no better than chance.
#
# *Going further* tests the remedy: put the swapped caption into the batch.

# %% [markdown]
# ### Counting, and *no*
#
# Can it count, one or two? Compare "a red star" with "a red star left of a red star", on pictures of one shape and on
# pictures of two of the same shape and colour. And with a sentence that breaks off, "a red star left of": it says that
# there are two, and not what the second is.

# %% tags=["nbval-ignore-output"]
alike = ~single & (test.kinds[:, 0] == test.kinds[:, 1]) & (test.colours[:, 0] == test.colours[:, 1])
first = [" ".join(caption.split()[:4]) for caption in test.captions]  # the first shape alone
alone, says_two = sentence_vectors(model, first), {}
for longer in ("left of {0}", "left of"):
    two = sentence_vectors(model, [f"{c} {longer.format(c)}" for c in first])
    nearer = 100 * ((scene * (two - alone)).sum(dim=1) > 0).float()  # (M,): is the longer sentence nearer?
    says_two[longer] = [nearer[which].mean().item() for which in (single, alike, ~single)]
    print(f"X {longer.format('X'):9} nearer than X, of one shape: {says_two[longer][0]:3.0f} %, ", end="")
    print("of two alike: {1:3.0f} %, of any two: {2:3.0f} %".format(*says_two[longer]))
of_one, of_two, _ = says_two["left of {0}"]
assert of_one < 30 and of_two > 60

# %% [markdown]
# It can tell one from two: the longer sentence wins for {=of_one:.0f} % of the pictures of one
# shape, and for {=of_two:.0f} % of those of two alike. This it *had* to learn, for half of the
# captions in a batch are of one shape. The words *left of* say "two" to it, if not where.
#
# And negation? "A star that is not red" cannot even be asked:

# %%
try:
    tokenizer(["a star that is not red"])
except ValueError as error:
    print(textwrap.fill(str(error), 110))

# %% [markdown]
# No caption of ours says what is *not* there, and so it is with most captions that people write. The record has models
# that read such sentences: half of their captions were "a small red star and no ring". Then a picture of a star and a
# cross gets two sentences, "... and no ring" (true) and "... and no cross" (false). After 400 steps they preferred the
# true one in {=recorded("negated", negation=True).mean():.0f} %. (Is that bad? Exercise 16.10 asks what to expect of a
# model that is deaf to *no*.)

# %% [markdown]
# ## A bag of words
#
# If order hardly matters, what remains of a sentence without any?

# %% [markdown]
# ### Exercise 16.9 · Shuffle the words
#
# *experiment · medium · 4 minutes*
#
# Shuffle the words of every test caption, so that "a small red star" may become "star a red small". Find the right one
# among 32 as above. What happens?
#
# - `"a"`: it falls to about chance: without order a sentence says nothing
# - `"b"`: nearly as many are found, though the vectors change a little: which words there are is nearly all that counts
# - `"c"`: the vectors stay the same to the last digit: this text encoder has no way to know the place of a word
#
# <details><summary>Hint</summary>
#
# `sentence_vectors(model, shuffled)` takes the place of `sentence` in `among_32(scene, sentence)`. For c, compare the
# vectors themselves.
#
# </details>

# %%
rng = np.random.default_rng(0)
shuffled = [" ".join(rng.permutation(caption.split())) for caption in test.captions]
shuffled[:2]

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.what_it_reads(answer)

# %% [markdown]
# Then go all the way: a text encoder that *cannot* know the order. No blocks, no positions: the norm, the mean of the
# words' vectors, and the head. This is a **bag of words**. It is trained like the other.


# %%
def new_bag(seed):
    bag = new_model(seed, text_depth=0)
    nn.init.zeros_(bag.text.pos_embed).requires_grad_(False)
    return bag


bag = new_bag(0)
fit(bag, steps=300)
one, other = sentence_vectors(
    bag, ["a small red star left of a large blue ring", "ring blue a star left red of small large a"]
)
assert torch.allclose(one, other, atol=1e-5)  # the same words: the same vector

# %% tags=["nbval-ignore-output"]
bag_found = (
    100 * among_32(picture_vectors(bag, test.images), sentence_vectors(bag, test.captions)).float().mean().item()
)
print(f"found among 32: {bag_found:.0f} %, with blocks {100 * found.float().mean():.0f} %")
for what in ("colour", "colours exchanged"):
    print(f"{what}: right caption preferred in {prefers(bag, what):.0f} %, with blocks {notices[what]:.0f} %")
assert bag_found > 60

# %% [markdown]
# {=bag_found:.0f} % found, with three quarters of the steps. In the record, with as many steps, and with its words'
# positions left to the bag: {=recorded("among_32", text="bag").mean():.0f} %, with blocks
# {=recorded("among_32").mean():.0f} %. **Two blocks of attention over the words buy nothing that this test can see.**
#
# So be careful with a good score in retrieval. It says that the model tells the captions *of this test* apart. For that
# a list of the words may do. What else it can do, only a test that needs it will show, such as the bars above.

# %% [markdown]
# ## Ours and the large ones
#
# | | ours | CLIP (Radford et al. 2021) | SigLIP (Zhai et al. 2023) |
# |---|---|---|---|
# | pairs | 9,107 scenes | 400 million from the web | English part of WebLI (10 billion pictures) |
# | batch | 128 | 32,768 | 32,768 |
# | ViT | D 96, 2 blocks, P 8 | up to D 1,024, 24 blocks, P 14 | B/16 and larger |
# | reads | the mean of the patches | the class token | attention over the patches |
# | tokenizer | whole words, 20 | parts of words, 49,152 | parts of words, 32,000 |
# | text encoder | D 64, 2 blocks, T 12 | D 512 to 768, 12 blocks, T 76 | as large as its ViT, T 16 to 64 |
# | sentence's vector | mean of the words | last token; each sees those before it | last token |
# | loss | softmax, both directions | softmax, both directions | sigmoid, each pair |

# %% [markdown]
# Two differences are no matter of size. Captions of the web are not written by a program: many do not say what is to be
# seen. And a tokenizer of *parts of words* can write any word, "not" and "unicorn" too. It has then a vector for each,
# but whether it means anything is for the training to say.
#
# What size buys: CLIP's largest model is right on 76.2 % of ImageNet, 1,000 classes zero-shot, as often as a ResNet-50
# that was trained on its 1.28 million labelled pictures.

# %% [markdown]
# *To remember: the model learns what tells the captions of a batch apart, and nothing beyond.*

# %% [markdown]
# ## Exercises
#
# Exercises 16.1 to 16.9 stand above, each beside its idea. One more stands under *Going further*.

# %% [markdown]
# ## Going further
#
# ### Harder wrong answers
#
# If left and right are not learned because no batch asks for them, let every batch ask. The record has models whose
# loss has a second part: each picture of two shapes must also tell its caption from the same one with its relation
# turned round. These are called **hard negatives**.

# %%
for name, other in (
    ("400 steps", {}),
    ("400 steps, hard negatives", {"hard_negatives": True}),
    ("2,000 steps, 4 blocks", {"steps": 2000, "depth": 4}),
    ("2,000 steps, 4 blocks, hard negatives", {"steps": 2000, "depth": 4, "hard_negatives": True}),
):
    values = [recorded(what, **other).mean() for what in ("among_32", "left_right", "above_below")]
    print(f"{name:38} among 32 {values[0]:3.0f} %  left/right {values[1]:3.0f} %  above/below {values[2]:3.0f} %")

# %% [markdown]
# It was not enough. After 2,000 steps with hard negatives left and right are still close to a coin
# ({=recorded("left_right", steps=2000, depth=4, hard_negatives=True).mean():.0f} %), though every batch asks for them,
# and fewer captions are found ({=recorded("among_32", steps=2000, depth=4, hard_negatives=True).mean():.0f} % instead
# of {=recorded("among_32", steps=2000, depth=4).mean():.0f} %). Longer training alone makes the search better, and
# teaches no relation either.
#
# Yuksekgonul et al. (2023) report that hard negatives do help CLIP, which starts from far more. What is missing here,
# the record does not say: more steps, other pictures, a vector that is not a mean? That would be a good project.

# %% [markdown]
# ### Exercise 16.10 · Deaf to *no*
#
# *stretch · medium · 5 minutes*
#
# A model reads every word but *no*, which it takes for nothing. Pictures show a star and a cross, and each gets two
# sentences: "a star and no ring" (true: there is no ring) and "a star and no cross" (false: there is one). In how
# many does this model prefer the true one?
#
# - `"a"`: in far more than half: the star is in both sentences and in the picture
# - `"b"`: in about half: to it, both sentences are the same
# - `"c"`: in far fewer than half: it is drawn to the false one
#
# <details><summary>Hint</summary>
#
# Strike *no* out of both sentences, and read them as the model does. Which of them names what the picture shows? You
# can try it with `model`, which does not know *no*: the solution does.
#
# </details>

# %% tags=["exercise"]
answer = ...  # a letter, such as "a"

# %%
check.negation(answer)

# %% [markdown]
# ### More to try
#
# - Ask for "a red star" without a size: `sentence_vectors(model, ["a red star"])`. No caption was like that. Does the
#   zero-shot result suffer?
# - Train with `datasets.scenes("train", 12000, objects=(1, 3))`. Sentences of three shapes have no relation, but *and*.
# - Take the ViT of a trained model, give it a head (09) and train it on shapes. Has it learned from sentences what 14's
#   learned from pictures alone?

# %% [markdown]
# ## Summary
#
# - A text encoder is a ViT whose patches are words: a table, positions, blocks, a mean over the words that are there.
# - Picture and sentence become vectors in one space. The cosine compares them; the temperature makes it a logit.
# - CLIP asks *which of this batch?*, in both directions; SigLIP asks *yes or no?* of each pair by itself.
# - A class is a sentence. What its words mean carries over, in part, to pairs that never occurred.
# - The loss teaches what tells the captions of a batch apart. Where a bag of words is enough, you get a bag of words:
#   test for order, for owners, for *no*.

# %% [markdown]
# ## What comes next
#
# This is the last notebook. You have built a ViT from its patches, trained it, looked inside it, and taught it without
# labels, for every patch, and with words. Take it to your own pictures with
# [12 Your own images](12_your_own_images.ipynb).

# %% [markdown]
# ## References
#
# - Radford et al. 2021, [Learning Transferable Visual Models From Natural Language
#   Supervision](https://arxiv.org/abs/2103.00020): CLIP; figure 3 is the loss, section 2.5 the training.
# - Zhai et al. 2023, [Sigmoid Loss for Language Image Pre-Training](https://arxiv.org/abs/2303.15343): SigLIP.
# - Yuksekgonul et al. 2023, [When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About
#   It?](https://arxiv.org/abs/2210.01936)
# - Singh et al. 2024, [Learn "No" to Say "Yes" Better](https://arxiv.org/abs/2403.20312): negation in CLIP.

# %% [markdown]
# ## Solutions

# %% [markdown]
# ### Solution 16.1
#
# The words' numbers, then as many zeros as are missing.


# %% tags=["solution"]
def encode_solution(sentence, numbers, T):
    row = [numbers[word] for word in sentence.lower().replace(",", "").split()]
    return row + [0] * (T - len(row))


assert encode_solution("a red star", numbers, 8) == [1, 4, 7, 0, 0, 0, 0, 0]
assert check.word_numbers(encode_solution).passed

# %% [markdown]
# ### Solution 16.2
#
# The tokens say where a word is, and their number says by what to divide.


# %% tags=["solution"]
def vector_solution(x, tokens):
    real = (tokens > 0).unsqueeze(2)  # (B, T, 1)
    return (x * real).sum(dim=1) / real.sum(dim=1)  # (B, D)


assert vector_solution(x, tokens).tolist() == [[2.5, -0.5], [0.25, -0.75]]
assert check.sentence_vector(vector_solution).passed

# %% [markdown]
# ### Solution 16.3
#
# Both to length 1, one product, divided.


# %% tags=["solution"]
def logits_solution(images, texts, temperature):
    return F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T / temperature  # (B, B)


assert check.similarity(logits_solution).passed

# %% [markdown]
# ### Solution 16.4
#
# The right column of row i is i. A column of `logits` is a row of `logits.T`.


# %% tags=["solution"]
def loss_solution(logits):
    target = torch.arange(len(logits), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


by_hand = torch.tensor([[8.0, 0, 2.8], [6, 10, 9.6], [9.6, 8, 9.36]])
assert abs(loss_solution(by_hand).item() - 0.70) < 0.005
assert check.clip_loss(loss_solution).passed

# %% [markdown]
# ### Solution 16.5
#
# One of 32, and minus the logarithm of one of 128 equal shares.

# %% tags=["solution"]
assert check.chance((100 / 32, -math.log(1 / 128))).passed

# %% [markdown]
# ### Solution 16.6
#
# The columns of the k largest, compared with the row's own number.


# %% tags=["solution", "nbval-ignore-output"]
def recall_solution(similarity, k):
    own = torch.arange(len(similarity)).unsqueeze(1)  # (M, 1)
    return (similarity.topk(k, dim=1).indices == own).any(dim=1).float().mean().item()


assert abs(recall_solution(torch.tensor([[3.0, 1, 2], [9, 8, 7], [6, 5, 4]]), 2) - 2 / 3) < 1e-6
assert check.recall(recall_solution).passed
for k in (1, 5, 10):
    print(f"recall at {k}, among 500 captions: {recall_solution(scene[:500] @ sentence[:500].T, k):.2f}")

# %% [markdown]
# ### Solution 16.7
#
# Cosines, then the place of the largest.


# %% tags=["solution"]
def classify_solution(image_vectors, class_vectors):
    cosines = F.normalize(image_vectors, dim=1) @ F.normalize(class_vectors, dim=1).T  # (M, K)
    return cosines.argmax(dim=1)


assert check.zero_shot(classify_solution).passed

# %% [markdown]
# ### Solution 16.8
#
# Twice the identity, less 1, has 1 on the diagonal and -1 elsewhere.


# %% tags=["solution"]
def siglip_solution(logits, bias):
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1  # (B, B)
    return -F.logsigmoid(signs * (logits + bias)).sum(dim=1).mean()


assert check.siglip_loss(siglip_solution).passed

# %% [markdown]
# ### Solution 16.9
#
# The number of captions found hardly changes, though the vectors do.

# %% tags=["solution", "nbval-ignore-output"]
mixed = [" ".join(np.random.default_rng(i).permutation(c.split())) for i, c in enumerate(test.captions)]
vectors = sentence_vectors(model, mixed)
still = 100 * among_32(scene, vectors).float().mean().item()
print(f"found among 32: {100 * found.float().mean():.0f} %, words shuffled {still:.0f} %")
print(f"the vectors change: largest difference {(vectors - sentence).abs().max():.3f}")
letter = "a" if still < 10 else "c" if torch.allclose(vectors, sentence, atol=1e-4) else "b"
assert letter == "b" and still > 60
assert check.what_it_reads(letter).passed

# %% [markdown]
# ### Solution 16.10
#
# Without *no* the false sentence names what is there, and the true one what is not. So a deaf model scores *below*
# chance. Ours has no word for *no* or *and*, so it is deaf to both: "a small red star" and a shape, nothing between.

# %% tags=["solution", "nbval-ignore-output"]
two = [i for i in range(len(test)) if test.kinds[i, 1] >= 0 and test.kinds[i, 0] != test.kinds[i, 1]]
there = [test.captions[i].split() for i in two]
absent = [next(kind for kind in KINDS if kind not in words_) for words_ in there]
true = sentence_vectors(model, [" ".join([*words_[:4], kind]) for words_, kind in zip(there, absent, strict=True)])
false = sentence_vectors(model, [" ".join([*words_[:4], words_[-1]]) for words_ in there])
share = 100 * ((scene[two] * (true - false)).sum(dim=1) > 0).float().mean().item()
print(f"the true sentence is preferred in {share:.0f} %")
letter = "c" if share < 40 else "b" if share < 60 else "a"
assert letter == "c"  # one run: 24
assert check.negation(letter).passed
