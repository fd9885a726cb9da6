# %% [markdown]
# # 11 · Making it fast
#
# [![Open in Colab](images/open_in_colab.svg)]({colab})
#
# **After this notebook you can**
#
# - time a piece of PyTorch so that the number means something,
# - say where the time of a training step goes, before you change anything,
# - predict the cost of a ViT from its tokens, width and depth, and check the prediction,
# - judge fused attention, bfloat16, compilation, the data path and patch dropout by measurement,
# - train with several processes and know that it is still the same training.
#
# About {minutes} minutes to read and do; 60 s of computing on two CPU cores.
# Read [06 Training](06_training.ipynb) first.

# %%
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
import warnings
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from vit_tutorial import EncoderBlock, VisionTransformer, ViTConfig, check, course, datasets, normalise, plots, training
from vit_tutorial.files import DATA
from vit_tutorial.machine.compiling import try_to_compile
from vit_tutorial.machine.precision import autocast, bf16_pays
from vit_tutorial.training.augment import drop_patches

torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
course.show_map(11)

# %% [markdown]
# ## Where does a second go?

# %%
config = ViTConfig(32, patch_size=4, num_classes=10, embed_dim=128, depth=6, num_heads=4, mlp_ratio=2.0, pool="mean")
model = VisionTransformer(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
pictures = datasets.shapes("train", 500)


# %%
def training_step():
    """The seconds of each part of one step on 64 pictures, (4,)."""
    clock = [time.perf_counter()]
    images = normalise(training.random_crop_flip(pictures.images[:64]), config)  # (64, 3, 32, 32)
    clock.append(time.perf_counter())
    loss = F.cross_entropy(model(images), pictures.labels[:64])
    clock.append(time.perf_counter())
    loss.backward()
    clock.append(time.perf_counter())
    optimizer.step()
    optimizer.zero_grad()
    clock.append(time.perf_counter())
    return torch.tensor(clock, dtype=torch.float64).diff()  # (4,)


# %% tags=["nbval-ignore-output"]
parts = ("crop and flip", "forward", "backward", "optimiser")
first = training_step()  # kept apart: see below
seconds = torch.stack([training_step() for _ in range(5)]).median(dim=0).values  # (4,)
share = (100 * seconds / seconds.sum()).tolist()
fig, ax = plots.figure(6, 2)
ax.bar_label(ax.barh(parts, share, color=plots.COLOURS[0]), fmt="%.0f %%", padding=3)
ax.invert_yaxis()
ax.set(xlabel="share of a training step's time (%)", xlim=(0, 100))
shares = ", ".join(f"{part} {value:.0f} %" for part, value in zip(parts, share, strict=True))
plots.show(fig, f"Bars: the time of a training step, in four parts: {shares}.")
assert share[2] > share[1] > share[0]

# %% [markdown]
# One training step of a ViT on 64 small pictures, cut into four parts. The backward pass takes the most, the forward
# pass comes next, and the rest is small *here*.
#
# **Measure first** is the whole art. An optimiser twice as fast would save {=share[3] / 2:.1f} % of this step. If the
# crop took half of the time, no model, however fast, could make the step more than twice as fast. So: how do you
# measure, what should it cost, and where is the cost higher than it should be?

# %% [markdown]
# ## A stopwatch that tells the truth
#
# Three mistakes spoil a timing.
#
# - **No warm-up.** The first call also reserves memory, starts threads and reads code from the disk. Our first training
#   step, left out above, took {=first.sum() / seconds.sum():.1f} times as long as the later ones.
# - **One try.** Your computer does other things too. Take several, and their *median*: the middle one.
# - **Not waiting.** A GPU works on its own. A call returns before the work is done, unless you wait with
#   `torch.cuda.synchronize()`.
#
# When you compare two things, let them take turns in one run: A B A B. A machine that slows down halfway then slows
# both. With Python's own stopwatch, `timeit`, all this is short:


# %%
def until_done(function):
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # wait until the GPU is done


def in_turns(*functions, rounds=5):
    found = [[timeit.timeit(lambda f=f: until_done(f), number=1) for f in functions] for _ in range(1 + rounds)]
    return [statistics.median(times) for times in zip(*found[1:], strict=True)]  # the first round is a warm-up


# %% tags=["nbval-ignore-output"]
a, b = torch.randn(256, 256), torch.randn(256, 256)
once, twice = in_turns(lambda: a @ b, lambda: a @ b @ b, rounds=100)
print(f"one product of two 256 x 256 matrices: {1000 * once:.2f} ms; two products: {twice / once:.1f} times as long")
assert 0 < once < 1

# %% [markdown]
# Twice the work took {=twice / once:.1f} times as long. A ratio wobbles too, on a busy machine more than on an idle
# one. But give the ratio: it tells more than milliseconds to someone who has another machine.

# %% [markdown]
# ### Exercise 11.1 · Repair the stopwatch
# *repair · medium · 5 minutes*
#
# This one counts the warm-up, and one slow try spoils it. Mend it: call `function` once without counting, then
# `repeats` times, and return the median of the seconds.
#
# <details><summary>Hint</summary>
#
# `time.perf_counter()` is the time now, in seconds. Look at it before *each* call and after it, and keep the
# differences in a list. `statistics.median` takes the middle one.
#
# </details>


# %%
def broken_stopwatch(function, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


# %% tags=["exercise"]
def stopwatch(function, repeats):
    return ...


# %%
check.stopwatch(stopwatch)

# %% [markdown]
# ## What should it cost?
#
# Nearly all the arithmetic of a ViT is in matrix products. Multiplying $(n \times k)$ by $(k \times m)$ takes
# $n\,k\,m$ multiplications and as many additions: $2\,n\,k\,m$ **FLOPs** (floating-point operations). By hand,
# $(2 \times 3)$ by $(3 \times 4)$: 24 multiplications, 48 FLOPs.
#
# One encoder block on $N$ tokens of width $D$, MLP ratio $r$:
#
# | part | FLOPs |
# |---|---|
# | queries, keys, values | $2 \cdot N \cdot D \cdot 3D$ |
# | scores, and mixing the values | $2 \cdot 2 \cdot N \cdot N \cdot D$ |
# | projection | $2 \cdot N \cdot D \cdot D$ |
# | MLP | $2 \cdot 2 \cdot N \cdot D \cdot rD$ |


# %%
def block_flops(N, D, r):
    linear = 2 * N * D * D * (3 + 1 + 2 * r)  # qkv, projection, MLP
    attention = 4 * N * N * D  # scores and mixing
    return linear + attention


def model_flops(config):
    rows, columns = config.grid
    N, D = rows * columns + (config.pool == "cls"), config.embed_dim  # with the class token
    embedding = 2 * rows * columns * (config.in_channels * config.patch_size**2) * D
    return embedding + config.depth * block_flops(N, D, config.mlp_ratio) + 2 * D * config.num_classes


# %%
print(f"this model: {model_flops(config) / 1e9:5.2f} billion FLOPs per image")
print(f"ViT-B/16:   {model_flops(ViTConfig()) / 1e9:5.2f} billion")

# %% [markdown]
# Some tables give half of that: torchvision lists 17.56 billion for ViT-B/16. They count a multiplication with its
# addition as one operation (a *MAC*), and often call it a FLOP too. Check which, before you compare.
#
# PyTorch can count for itself:

# %%
with FlopCounterMode(display=False) as counter, torch.no_grad():
    model(torch.randn(1, 3, 32, 32))
assert counter.get_total_flops() == model_flops(config)
with FlopCounterMode(display=False) as counter:
    model(torch.randn(1, 3, 32, 32)).sum().backward()
times = counter.get_total_flops() / model_flops(config)
print(f"forward: the same, to the last one; with backward {times:.2f} times as many")

# %% [markdown]
# Training costs about three times as much as the forward pass: for each product, backward computes one gradient for
# its input and one for its weights, two products of the same size. (The patch embedding needs none for its input, the
# image: hence a little less.)

# %% [markdown] tags=["predict"]
# **Predict before you run.** With patches of 4 pixels our model has 64 tokens, and scores and mixing take
# {=100 * 6 * 4 * 64**2 * 128 / model_flops(config):.0f} % of its FLOPs. What is their share with patches of 2 pixels?
#
# - a: the same, as everything grows alike
# - b: about a third
# - c: more than half

# %%
for P in (8, 4, 2):
    c = replace(config, patch_size=P)
    N = c.grid[0] * c.grid[1]
    attention = c.depth * 4 * N * N * c.embed_dim / model_flops(c)
    print(f"patch {P}: {N:3} tokens, {model_flops(c) / 1e6:5.0f} million FLOPs, {attention:3.0%} of them in attention")

# %% [markdown]
# **b**, about a third. The linear layers grow with the number of tokens, scores and mixing with its square. So at few
# tokens attention hardly counts, and the more there are, the more of the cost it takes.
#
# ### Exercise 11.2 · A larger picture
# *predict · medium · 3 minutes*
#
# A ViT with patches of 16 sees 224 x 224 pixels: 196 patches. You give it 448 x 448 instead. By which factor do the
# FLOPs of *scores and mixing* grow (leave the class token out)?
#
# <details><summary>Hint</summary>
#
# How many patches are there now? The scores are a square of that.
#
# </details>

# %% tags=["exercise"]
answer = ...

# %%
check.larger_picture(answer)

# %% [markdown]
# ## Does the clock agree?
#
# Four models that are deeper, five that see larger images. They take turns, as promised.


# %%
def forward_seconds(*configs, count=16):
    """The seconds per image of each model."""
    calls = []
    for c in configs:
        vit, images = VisionTransformer(c).eval(), torch.randn(count, 3, c.image_size, c.image_size)
        calls.append(lambda vit=vit, images=images: vit(images))
    with torch.inference_mode():
        return [seconds / count for seconds in in_turns(*calls, rounds=3)]


deeper = [replace(config, depth=L) for L in (2, 4, 8, 16)]
larger = [replace(config, image_size=size) for size in (16, 32, 48, 64, 96)]
measured, flops = forward_seconds(*deeper, *larger), [model_flops(c) for c in (*deeper, *larger)]
rates = [f / t for f, t in zip(flops, measured, strict=True)]  # FLOPs per second

# %% tags=["nbval-ignore-output"]
usual = statistics.median(rates)
fig, axes = plots.figure(7.5, 3, 1, 2)
panels = ("blocks", (2, 4, 8, 16), slice(0, 4)), ("tokens", (16, 64, 144, 256, 576), slice(4, 9))
for ax, (label, x, part) in zip(axes, panels, strict=True):
    ax.plot(x, [1000 * f / usual for f in flops[part]], color="#888888", label="FLOPs, at one rate")
    ax.plot(x, [1000 * t for t in measured[part]], "o", color=plots.COLOURS[1], label="measured")
    ax.set(xlabel=label, ylabel="ms per image", xscale="log", yscale="log")
    ax.set_xticks(x, x)
    ax.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
axes[0].legend(frameon=False)
plots.show(fig, "Milliseconds per image over the number of blocks, and of tokens; dots measured, a line from FLOPs.")
assert measured[3] > 2 * measured[0] and measured[8] > 5 * measured[4]  # 8 times the blocks, 36 times the tokens

# %% [markdown]
# Dots are measured. The line is the FLOPs, divided by one rate for all nine: their median, {=usual / 1e9:.0f} billion
# FLOPs per second here. From 2 to 16 blocks the line rises {=flops[3] / flops[0]:.0f}-fold, the dots
# {=measured[3] / measured[0]:.0f}-fold; from 16 to 576 tokens the line rises {=flops[8] / flops[4]:.0f}-fold, the dots
# {=measured[8] / measured[4]:.0f}-fold. FLOPs tell roughly what a ViT costs. The dot farthest from the line is off by a
# factor of {=max(max(rate / usual, usual / rate) for rate in rates):.1f}, so they do not tell all.

# %% [markdown]
# ## How fast could it be?
#
# One large matrix product is a good yardstick, as products are most of a ViT's arithmetic. Beside it, a small product,
# and an addition:


# %%
def product_rate(dtype, n=1024):
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / in_turns(lambda: a @ b)[0]  # FLOPs per second


# %% tags=["nbval-ignore-output"]
large, small = product_rate(torch.float32), product_rate(torch.float32, n=32)
many = torch.randn(4_000_000)
adding = len(many) / in_turns(lambda: many + 1)[0]  # one FLOP for each number
reached = model_flops(config) / forward_seconds(config)[0]
for what, rate in {"1024 x 1024": large, "32 x 32": small, "many + 1": adding, "our ViT": reached}.items():
    print(f"{what:12} {rate / 1e9:6.1f} billion FLOPs per second, {rate / large:4.0%}")
assert adding < large and 0.02 < reached / large < 4  # times of different moments: on a busy machine by far not 1

# %% [markdown]
# **A processor can multiply faster than memory can bring it numbers.** In a product of size $n$ each number that was
# brought is used $n$ times; in `many + 1` once, at {=100 * adding / large:.0f} % of the speed. So a ViT's norms, GELU
# and softmax take more time than their few FLOPs suggest: each reads every number and writes it again.
#
# And every call has its price, however little it has to do: at the large product's speed, the small one would take
# {=1e6 * 2 * 32**3 / large:.1f} µs; with the stopwatch's own price it took {=1e6 * 2 * 32**3 / small:.1f}.

# %% [markdown]
# ## Half the bits: bfloat16
#
# A float32 has 32 bits: 1 sign, 8 for the exponent, 23 for the digits. **bfloat16** (Kalamkar et al. 2019) keeps sign
# and exponent and cuts the digits to 7 bits. It covers the same range, in coarser steps:

# %%
x = torch.tensor([1.0, 1.001, 1.005, 3.14159, 1000.0, 1003.0])
torch.stack([x, x.to(torch.bfloat16).float()])

# %% [markdown]
# Between 1 and 2 its steps are 1/128: 1.005 becomes 1.0078, and 1003 becomes 1004. So small steps get lost, and one
# does not want that for weights that are moved a little at a time. **Autocast** rounds for the matrix products alone:
# the weights stay in float32, and are rounded on the way into each product. What comes out of it, our tokens, is
# bfloat16.

# %%
images = torch.randn(16, 3, 32, 32)
with torch.no_grad():
    exact = model(images)  # (16, 10)
    with torch.autocast("cpu", torch.bfloat16):
        rough, tokens = model(images), model.embed(images)
error = (rough - exact).abs().max() / exact.std()
print("weights:", model.head.weight.dtype, " tokens:", tokens.dtype)
print("largest error of a logit below a tenth of the logits' spread:", (error < 0.1).item())

# %% [markdown]
# Is it faster? That depends on the processor. Some have units for bfloat16 products (AVX512-BF16 or AMX; a GPU's tensor
# cores). Others must imitate them:

# %% tags=["nbval-ignore-output"]
warnings.filterwarnings("ignore", "mkldnn_matmul")  # some processors without such units are told so at length
throughput = json.loads((DATA / "runs" / "throughput.json").read_text())
gflops = {row["precision"]: row["product_gflops"] for row in throughput["results"]}
print(f"this machine: a product in bfloat16 at {product_rate(torch.bfloat16) / large:.2f} times float32's speed")
print(f"a machine with such units, recorded: {gflops['bfloat16'] / gflops['float32']:.1f} times")
print(f"training.train here uses {'bfloat16' if bf16_pays('cpu') else 'float32'}")
assert gflops["bfloat16"] > gflops["float32"]

# %% [markdown]
# The course asks the processor what it has, and takes no timing for it: so the same machine always computes alike.
#
# ### Exercise 11.3 · Which sum is safe?
# *experiment · medium · 5 minutes*
#
# Add 0.001 to 1.0 a thousand times with a loop, in float32 and in bfloat16. What is the bfloat16 sum?
#
# <details><summary>Hint</summary>
#
# `total = torch.tensor(1.0, dtype=torch.bfloat16)`, then `total = total + 0.001`. Look at the first few sums.
#
# </details>

# %% tags=["exercise"]
answer = ...  # the bfloat16 sum, as a number

# %%
check.bfloat16_sum(answer)

# %% [markdown]
# ## One kernel for all of attention?
#
# PyTorch has `F.scaled_dot_product_attention`, which does scores, softmax and mixing in one go. Its fast versions never
# hold all $N \times N$ weights at once (FlashAttention: Dao et al. 2022). Such *fused* functions are recommended as the
# faster way. Are they?


# %%
def explicit(q, k, v):
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, H, N, N)
    return weights @ v  # (B, H, N, d)


q, k, v = torch.randn(3, 2, 4, 50, 32)  # each (B, H, N, d)
assert torch.allclose(explicit(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-5)
print("the same numbers")

# %% [markdown] tags=["predict"]
# **Predict before you run.** On your machine, in inference, where is the fused function the faster one?
#
# - a: from 17 tokens to 785
# - b: only at many tokens
# - c: nowhere

# %%
tokens, ratio = (17, 65, 197, 785), {}
dtype = torch.bfloat16 if bf16_pays("cpu") else torch.float32
for training_too in (False, True):
    for N in tokens:
        q, k, v = torch.randn(3, 4096 // N, 4, N, 32, dtype=dtype).requires_grad_(training_too)  # each (B, H, N, d)

        def run(attention, q=q, k=k, v=v):
            result = attention(q, k, v)
            if result.requires_grad:
                result.sum().backward()

        slow, fused = in_turns(lambda: run(explicit), lambda: run(F.scaled_dot_product_attention), rounds=3)
        ratio[training_too, N] = slow / fused

# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(6.5, 2.8)
for i, label in enumerate(("inference", "training (forward and backward)")):
    ax.plot(tokens, [ratio[bool(i), N] for N in tokens], "os"[i] + "-", color=plots.COLOURS[i], label=label)
ax.axhline(1, color="#888888", linewidth=0.8)
ax.text(800, 1.05, "fused is faster", ha="right", va="bottom", color="#555555")
ax.text(800, 0.95, "explicit is faster", ha="right", va="top", color="#555555")
ax.set(xscale="log", yscale="log", xlabel=f"tokens, {dtype}", ylabel="speed of fused\nover explicit", ylim=(0.2, 8))
ax.set_xticks(tokens, tokens)
ax.set_yticks([0.25, 0.5, 1, 2, 4], ["x 1/4", "x 1/2", "x 1", "x 2", "x 4"])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper left")
plots.show(fig, "Speed of fused over explicit attention against the number of tokens, in inference and in training.")
assert all(0.02 < value < 50 for value in ratio.values())

# %% [markdown]
# On the machine that made this page, the fused function ran in inference at {=ratio[False, 17]:.1f} times the speed of
# the explicit one at 17 tokens, and at {=ratio[False, 785]:.1f} times at 785. In training the two were
# {=ratio[True, 17]:.1f} and {=ratio[True, 785]:.1f}. Your figure may say something else. Your answer stands in the blue
# dots: above the line, fused is the faster. On GPUs, and with many
# tokens, Dao et al. measured it several times as fast, in memory that grows with $N$ instead of $N^2$.

# %% [markdown]
# Our `MultiHeadAttention` chooses: explicit in training on a CPU, and where someone asks for the weights; else fused.
# The first choice was made on another machine, in bfloat16 and at few tokens. Look at
# the orange squares: where they lie above the line, it is the wrong one for *your* machine.
#
# **A rule that you have not measured on your machine, at your size, is a rumour.**

# %% [markdown]
# ## Compile
#
# `torch.compile(model)` reads the model's code and writes new code, in which neighbouring small operations (add, norm,
# GELU, copy) are done in one pass over memory. It needs a C++ compiler, and time, once, for each model. State that time
# apart from the speed. The course does not depend on it: where a compiler is missing or fails, `try_to_compile` says
# so and returns the block as it is.

# %% tags=["nbval-ignore-output"]
block, x = EncoderBlock(128, 4, 2.0).eval(), torch.randn(64, 65, 128)
with torch.inference_mode():
    compiled, record = try_to_compile(block, lambda compiled: compiled(x))  # torch.compile(block), and a first call
    difference = (compiled(x) - block(x)).abs().max()
    plain, fast = in_turns(lambda: block(x), lambda: compiled(x))
if compiled is not block:
    compile_time = record["compile_seconds"]
    print(f"one block: compiled in {compile_time:.0f} s; then {plain / fast:.2f} times as fast")
    print(f"earned back after {compile_time / (plain - fast):,.0f} calls" if fast < plain else "never earned back here")
assert difference < 1e-4

# %% [markdown]
# ### Exercise 11.4 · When does it pay?
# *write · medium · 4 minutes*
#
# A step takes `plain` seconds, a compiled one `fast`, and compiling takes `cost` seconds, once. After how many steps
# has it paid for itself? Return the number of steps (a float will do); infinity where it never is.
#
# <details><summary>Hint</summary>
#
# Each step saves `plain - fast`. What if it saves nothing?
#
# </details>


# %% tags=["exercise"]
def break_even(plain, fast, cost):
    return ...


# %%
check.break_even(break_even)

# %% [markdown]
# ## Feed the model
#
# The usual loop reads one picture at a time: crop it, flip it, turn it into floats, normalise it, and stack 128 of
# them. Each of these calls has its price, whatever the picture's size. The course keeps all pictures as *one* uint8
# tensor and changes a whole batch at once:

# %%
one_by_one = v2.Compose(
    [
        v2.RandomCrop(32, padding=4),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(config.mean, config.std),
    ]
)
index = torch.randperm(len(pictures))[:128]


def as_many_write_it():
    return torch.stack([one_by_one(pictures.images[i]) for i in index])  # (128, 3, 32, 32)


def whole_batch():
    return normalise(training.random_crop_flip(pictures.images[index]), config)  # (128, 3, 32, 32)


# %% tags=["nbval-ignore-output"]
singly, at_once = (t / 128 for t in in_turns(as_many_write_it, whole_batch))  # seconds per picture
print(f"one by one {1e6 * singly:.0f} µs per picture, whole batches {1e6 * at_once:.1f} µs: x {singly / at_once:.0f}")
step = seconds[1:].sum().item() / 64  # the other three parts of the training step, per picture
p = singly / (singly + step)
print(f"one by one, pictures would take {p:.1%} of a training step")
assert singly > 1.5 * at_once

# %% [markdown]
# Many times as fast: does it matter? Only as far as that part counts in a step, and with this model on this machine it
# is {=100 * p:.1f} %. With a smaller model, or a GPU to compute it, it is more. There is a law for this (Amdahl 1967).
# If a part that takes the share $p$ of the time becomes $s$ times as fast, the whole becomes
#
# $$\frac{1}{(1-p) + p/s}$$
#
# times as fast. By hand: half the time, 10 times as fast: $1/(0.5 + 0.05) = 1.82$. Not 10, not even 2. And here, from
# pictures one by one to whole batches: {=1 / (1 - p + p * at_once / singly):.2f}.

# %% [markdown]
# ### Exercise 11.5 · Amdahl's law
# *write · easy · 4 minutes*
#
# Write it as a function. `share` and `factor` are lists: several parts become faster, each by its own factor. What is
# in none of them stays as it is.
#
# <details><summary>Hint</summary>
#
# Add up the new times: what stays, and each share over its factor.
#
# </details>


# %% tags=["exercise"]
def speed_up_of_all(share, factor):
    return ...


# %%
check.speed_up_of_all(speed_up_of_all)

# %% [markdown]
# ## Leave half of it out
#
# Neighbouring patches often look alike. So show the blocks only some of them: drop half of the tokens *after* their
# positions were added, at random, another half in each step (Liu et al. 2022). Each token that is kept still knows
# where it came from. A convolution could not do this: it slides over a full grid. The package holds the same code:


# %% tags=["package"]
def drop_patches(tokens, fraction, first=0):
    N = tokens.shape[1] - first
    kept = torch.randperm(N, device=tokens.device)[: N - int(fraction * N)] + first  # (kept patches,)
    return torch.cat([tokens[:, :first], tokens[:, kept]], dim=1)


# %%
from vit_tutorial import patchify, unpatchify

patches = patchify(datasets.sample_image("cat", 224)[None] / 255, 16)  # (1, 196, 768)
fig, axes = plots.figure(8, 2.3, 1, 4)
for ax, fraction in zip(axes, (0.0, 0.25, 0.5, 0.75), strict=True):
    kept = drop_patches(torch.arange(196)[None, :, None], fraction)[0, :, 0]  # the numbers of those that stay
    light = torch.full((196, 1), 0.15).index_fill(0, kept, 1.0)
    plots.draw_image(ax, unpatchify(patches * light, 16, 224)[0], f"{fraction:.0%} dropped")
plots.show(fig, "The cat with none, a quarter, half and three quarters of its patches darkened.")

# %%
tokens = torch.randn(32, 65, 128)  # (B, 1 + N, D)
blocks = nn.Sequential(*[EncoderBlock(128, 4, 2.0) for _ in range(3)])


def step_with(fraction):
    with autocast(tokens.device):
        blocks(drop_patches(tokens, fraction, first=1)).sum().backward()


fractions = (0.0, 0.25, 0.5, 0.75)
per_step = dict(zip(fractions, in_turns(*(lambda f=f: step_with(f) for f in fractions)), strict=True))

# %% tags=["nbval-ignore-output"]
for fraction, t in per_step.items():
    print(f"{fraction:4.0%} dropped: {per_step[0.0] / t:.1f} times as fast")
assert per_step[0.75] < per_step[0.5] < per_step[0.0]

# %% [markdown]
# Half of the patches: {=per_step[0.0] / per_step[0.5]:.1f} times as many steps in the same time; FLOPs alone
# promise a little more than 2. What does the model
# lose? Nobody promises that it loses nothing. Our recipe shows it whole pictures in the last quarter of the run, so
# that training ends as testing begins. Whether twice the passes over half of the patches beat one pass over all is a
# question for a measurement, on your data and in your time.

# %% [markdown]
# ## All of it together
#
# The recipe `cifar10-laptop` puts these together. `tools/measure/loop.py` measures what each brings, on pictures of
# CIFAR-10's size, from a loop as many courses write it to the course's own. This was recorded on a processor with units
# for bfloat16:

# %%
ladder = json.loads((DATA / "runs" / "loop.json").read_text())
names, speeds = zip(*((rung["name"], rung["images_per_second"]) for rung in ladder["rungs"]), strict=True)
fig, ax = plots.figure(7.5, 0.6 + 0.42 * len(names))
bars = ax.barh(names, speeds, color=[plots.COLOURS[1], *[plots.COLOURS[0]] * (len(names) - 1)])
ax.bar_label(bars, [f"{s:,.0f}   x {s / speeds[0]:.1f}" for s in speeds], padding=3, fontsize=9)
ax.invert_yaxis()
ax.set(xlabel=f"training images per second, {ladder['hardware']}", xlim=(0, 1.3 * max(speeds)))
alt = ", ".join(f"{name}: {speed:,.0f}" for name, speed in zip(names, speeds, strict=True))
plots.show(fig, f"Training images per second, one more change in each row. {alt}.")
assert speeds[-1] > 2 * speeds[0]

# %% [markdown]
# Each row adds one change to the row above. bfloat16 brings the most, a factor of {=speeds[2] / speeds[1]:.2f}; half of
# the patches bring {=speeds[4] / speeds[3]:.2f}, whole batches {=speeds[1] / speeds[0]:.2f}.
#
# One row goes *down*: a step of Muon (notebook 06) takes longer than one of AdamW. The recipe uses it nevertheless, for
# Jordan et al. (2024) report that a training needs fewer of them. Images per second are a means; what counts is
# accuracy at the end of the time that you have.

# %% [markdown]
# ## From one process to many
#
# Two processes, each with half of every batch. Each computes the gradient of its half; then they exchange gradients
# and take the mean.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Is the mean of the two halves' gradients the whole batch's gradient?
#
# - a: yes, but for rounding
# - b: no, it is half as large
# - c: only roughly, as each half has other pictures

# %%
vit = VisionTransformer(replace(config, depth=1))
images, labels = normalise(pictures.images[:64], config), pictures.labels[:64]


def gradient(part):
    vit.zero_grad()
    F.cross_entropy(vit(images[part]), labels[part]).backward()
    return vit.patch_embed.proj.weight.grad.clone()


halves = (gradient(slice(0, 32)) + gradient(slice(32, 64))) / 2
torch.allclose(halves, gradient(slice(0, 64)), atol=1e-5)

# %% [markdown]
# **a**: the loss is a mean over images, so its gradient is one too. (It would not be so with BatchNorm, which looks at
# the whole batch.) That is **data parallel** training. PyTorch's `DistributedDataParallel` (Li et al. 2020) does the
# exchange while backward still runs, and `torchrun` starts the processes. The same training, as a file:

# %%
program = """
import os

import torch
from vit_tutorial import VisionTransformer, ViTConfig, datasets, training
from vit_tutorial.machine import distributed

os.environ["VIT_TUTORIAL_PRECISION"] = "float32"  # bfloat16's rounding must not hide a difference
with distributed.process_group() as device:  # joins the processes that torchrun started
    torch.manual_seed(0)
    config = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=32, depth=1, num_heads=2)
    recipe = training.Recipe(model=config, batch_size=64, epochs=2)
    model = VisionTransformer(config).to(device)
    history = training.train(model, datasets.shapes("train", 640), recipe)
    if distributed.rank() == 0:  # the first process speaks for all
        print([round(loss, 5) for loss in history.steps["loss"]])
"""


def losses_of(processes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_text(program)
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launch if processes > 1 else []), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])  # before it, some versions speak of their connections


# %%
granted = float(os.environ.get("MEM_LIMIT", "inf"))  # bytes, where a hub such as Binder sets a limit
if granted < 2.5e9:  # this kernel, torchrun and its two processes
    print("left out here: it takes 2.4 GB of memory for half a minute, more than this session may have")
else:
    one, two = losses_of(1), losses_of(2)
    difference = max(abs(a - b) for a, b in zip(one, two, strict=True))
    print(f"{len(one)} steps; the largest difference of a loss is below 0.0001: {difference < 1e-4}")
    assert difference < 1e-4

# %% [markdown]
# The same losses, step by step. All processes draw the same random numbers for the whole batch and take their slices,
# so that two processes train as one does. Whether they are also *faster* depends on what each has to
# itself: a GPU of its own, say. Two processes that share the cores of one need not be faster. On your own data:
#
#     torchrun --nproc-per-node 2 -m vit_tutorial.cli train --data FOLDER --recipe cifar10-laptop
#
# A model too large for one GPU can be cut up: with `--shard` each process keeps a part of every weight and fetches the
# rest block by block (fully sharded data parallel, FSDP).

# %% [markdown]
# ## Exercises
#
# 11.1 to 11.5 stand above, beside their ideas. The last one, about your own model, stands under *Going further*.

# %% [markdown]
# ## Going further
#
# What follows can be left out without loss: how the course's model compares with others, work that it could leave out,
# and a longer exercise.
#
# ### The same model in five libraries
#
# Is the course's model itself a fast one? `tools/measure/throughput.py` builds the same shape in five libraries, with
# random weights, and lets them take turns. This is the record that was read above; when it was made, the course's
# model still left out what nobody reads in its last block (see below).

# %%
rows = [row for row in throughput["results"] if row["memory"] == "kept"]
speed = {(*row["shape"], row["mode"], row["precision"], row["model"]): row["images_per_second"] for row in rows}
shapes = sorted({tuple(row["shape"]) for row in rows}, key=lambda shape: shape[0] // shape[1])  # few tokens first
libraries = list(dict.fromkeys(row["model"] for row in rows))
kinds = [(mode, precision) for precision in ("float32", "bfloat16") for mode in ("training", "inference")]
relative = {  # to the course's model: a value for each number of tokens
    (*kind, library): [speed[(*s, *kind, library)] / speed[(*s, *kind, "vit_tutorial")] for s in shapes]
    for kind in kinds
    for library in libraries
}
others = {kind: [100 * x for name in libraries[1:] for x in relative[(*kind, name)]] for kind in kinds}  # in per cent
float32, bfloat16 = others["training", "float32"] + others["inference", "float32"], others["training", "bfloat16"]
print(f"{throughput['hardware']}, torch {throughput['versions']['torch']}")

# %%
fig, axes = plots.figure(7, 4.6, 2, 2, sharex=True, sharey=True)
for ax, kind in zip(axes.flat, kinds, strict=True):
    ax.axvline(1, color="#bbbbbb", linewidth=0.8)
    for i, library in enumerate(libraries):
        height = [row + 0.15 * (2 - i) for row in range(3)]  # one above the other, so that none hides another
        ax.plot(
            relative[(*kind, library)],
            height,
            "|^osD"[i],
            markersize=(12, 6, 6, 6, 6)[i],
            markeredgewidth=2,
            label=library,
        )
    ax.set(xlim=(0, 1.15), ylim=(-0.5, 2.5))
    ax.set_title(", ".join(kind), fontsize=10)
    ax.set_yticks(range(3), [f"{(s[0] // s[1]) ** 2 + 1} tokens" for s in shapes])
for ax in axes[1]:
    ax.set_xlabel("speed, the course's model = 1")
fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=5, frameon=False, loc="outside lower center", fontsize=9)
ranges = "; ".join(f"{', '.join(kind)}: {min(found):.0f} to {max(found):.0f} %" for kind, found in others.items())
plots.show(fig, f"Speed of four other libraries relative to the course's model, at 17, 65 and 197 tokens. {ranges}.")
assert libraries[0] == "vit_tutorial" and all(max(found) < 100 for found in others.values())

# %% [markdown]
# The course's model was the fastest of the five here. In float32 the others reach {=min(float32):.0f} to
# {=max(float32):.0f} % of its speed, and in training in bfloat16 {=min(bfloat16):.0f} to {=max(bfloat16):.0f} %. There
# timm, torchvision and transformers fall far behind, most at 17 tokens. These three call the fused function;
# vit-pytorch does not, and stays near. Three more things differ: the course's model leaves
# out work in the last block, its tokens stay in 16 bits between the blocks, and its patches are multiplied flat, not by
# a `Conv2d`. What each of these brings was not measured apart.

# %% [markdown]
# ### Work that nobody reads
#
# A model with a class token reads its answer from that one token. What must its last block compute for the other 64?
# Their keys and values, so that the class token can look at them, and nothing else.

# %% [markdown] tags=["predict"]
# **Predict before you run.** Which share of *all* FLOPs of such a ViT with six blocks can be left out?
#
# - a: about 3 %
# - b: about 11 %
# - c: about 17 %, a sixth


# %%
@torch.no_grad()
def for_the_class_token_alone(vit, images):
    x, (*blocks, last) = vit.embed(images), vit.blocks
    for block in blocks:
        x = block(x)  # (B, N, D)
    q, k, v = last.attn.qkv(last.norm1(x)).unflatten(2, (3, -1, last.attn.head_dim)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q[:, :, :1], k, v)  # (B, H, 1, d): one token asks, all answer
    x = x[:, :1] + last.attn.proj(mixed.transpose(1, 2).flatten(2))  # (B, 1, D)
    x = x + last.mlp(last.norm2(x))
    return vit.head(vit.norm(x)[:, 0])  # (B, num_classes)


vit = VisionTransformer(replace(config, pool="cls")).eval()
images = torch.randn(32, 3, 32, 32)
assert torch.allclose(for_the_class_token_alone(vit, images), vit(images), atol=1e-5)
N, D, r = 1 + config.grid[0] * config.grid[1], config.embed_dim, config.mlp_ratio
last = 2 * N * D * 3 * D + 4 * N * D + 2 * D * D * (1 + 2 * r)  # q, k, v of all; the rest for one token
saved = (block_flops(N, D, r) - last) / model_flops(vit.config)
print(f"equal logits, {saved:.0%} of the FLOPs left out")

# %% [markdown]
# **b**: most of the last block, but not its keys and values. (The one matrix makes all queries too; they are dropped.)
# The package does not make this saving: its blocks stay alike, and whoever looks inside finds every token. A model that
# reads the *mean* of its tokens needs them anyway.
#
# Where you need only the answer, you can leave this work out. And the `Conv2d`?

# %% tags=["nbval-ignore-output"]
conv, photos = nn.Conv2d(3, 128, 4, stride=4), torch.randn(128, 3, 32, 32)


def by_convolution():
    return conv(photos).flatten(2).transpose(1, 2)  # (B, N, D)


def by_product():
    return F.linear(patchify(photos, 4), conv.weight.flatten(1), conv.bias)  # (B, N, D)


assert torch.allclose(by_convolution(), by_product(), atol=1e-4)
with autocast(photos.device):
    slow, fast = in_turns(*(lambda f=f: f().sum().backward() for f in (by_convolution, by_product)))
print(f"forward and backward: the product of flat patches runs at {slow / fast:.1f} times the speed")
assert slow / fast > 0.1

# %% [markdown]
# ### Exercise 11.6 · Your model, your machine
# *stretch · hard · 15 minutes*
#
# Write `step_flops(config, batch_size, dropped)`: the FLOPs of one *training* step, with the fraction `dropped` of the
# patches left out after the embedding. Use `block_flops`; the class token, where there is one, always stays. As in
# `drop_patches`, `int(dropped * N)` patches are dropped. How many FLOPs per second are
# that in a step of your own, beside the rates above?
#
# <details><summary>Hint</summary>
#
# Start from `model_flops`. The embedding sees all patches, the blocks see those that are left. Training is three
# times the forward pass.
#
# </details>


# %% tags=["exercise"]
def step_flops(config, batch_size, dropped):
    return ...


# %%
check.step_flops(step_flops)

# %% [markdown]
# ## Summary
#
# - Measure before you change anything: warm up, repeat, take the median, compare in turns.
# - FLOPs come from a formula: linear layers grow with the tokens, attention with their square. Training costs three
#   times the forward pass.
# - The formula does not count memory traffic. Fused functions and compilation save some of it, sometimes.
# - bfloat16 is for products, not for sums of small steps. Whether it pays depends on the processor.
# - Amdahl: a part that takes little time cannot save much.
# - What brought the most in the recorded training: bfloat16, and leaving out half of the patches.
# - Several processes with the same random numbers do the same training.

# %% [markdown]
# ## What comes next
#
# In [12 Your own images](12_your_own_images.ipynb) everything comes together on pictures that you bring.

# %% [markdown]
# ## References
#
# - G. Amdahl: *Validity of the single processor approach to achieving large scale computing capabilities*. AFIPS 1967.
# - T. Dao et al.: *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*. NeurIPS 2022.
# - Y. Liu et al.: *PatchDropout: Economizing Vision Transformers Using Patch Dropout*. 2022; WACV 2023.
# - D. Kalamkar et al.: *A Study of BFLOAT16 for Deep Learning Training*. 2019.
# - S. Li et al.: *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*. VLDB 2020.
# - K. Jordan et al.: *Muon: An optimizer for hidden layers in neural networks*. 2024.

# %% [markdown]
# ## Solutions
#
# ### Solution 11.1
# The first call is not counted, and the median does not mind one slow try.


# %% tags=["solution"]
def stopwatch_solution(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


assert check.stopwatch(stopwatch_solution).passed

# %% [markdown]
# ### Solution 11.2
# Twice the side, four times the patches, sixteen times the scores.

# %% tags=["solution"]
assert check.larger_picture(16).passed

# %% [markdown]
# ### Solution 11.3
# 1.001 is nearer to 1 than to 1.0078, the next number that bfloat16 has. So each sum is 1 again, a thousand times. In
# float32 it comes out close to 2.

# %% tags=["solution"]
total = torch.tensor(1.0, dtype=torch.bfloat16)
for _ in range(1000):
    total = total + 0.001
assert check.bfloat16_sum(total.item()).passed

# %% [markdown]
# ### Solution 11.4
# What one step saves, divided into what compiling costs.


# %% tags=["solution"]
def break_even_solution(plain, fast, cost):
    return cost / (plain - fast) if fast < plain else float("inf")


assert check.break_even(break_even_solution).passed

# %% [markdown]
# ### Solution 11.5
# The new time of the whole, in units of the old one.


# %% tags=["solution"]
def speed_up_solution(share, factor):
    new_time = 1 - sum(share)
    for p, s in zip(share, factor, strict=True):
        new_time += p / s
    return 1 / new_time


assert check.speed_up_of_all(speed_up_solution).passed

# %% [markdown]
# ### Solution 11.6
# Only the blocks see fewer tokens.


# %% tags=["solution"]
def step_flops_solution(config, batch_size, dropped):
    rows, columns = config.grid
    N, D = rows * columns, config.embed_dim
    embedding = 2 * N * (config.in_channels * config.patch_size**2) * D
    left = N - int(dropped * N) + (config.pool == "cls")
    forward = embedding + config.depth * block_flops(left, D, config.mlp_ratio) + 2 * D * config.num_classes
    return 3 * batch_size * forward


assert step_flops_solution(config, 1, 0.0) == 3 * model_flops(config)
assert check.step_flops(step_flops_solution).passed
