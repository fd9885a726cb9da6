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

from vit_tutorial import (
    EncoderBlock,
    VisionTransformer,
    ViTConfig,
    check,
    course,
    datasets,
    normalise,
    patchify,
    plots,
    training,
)
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
config = ViTConfig(
    image_size=32, patch_size=4, num_classes=10, embed_dim=128, depth=6, num_heads=4, mlp_ratio=2.0, pool="mean"
)
model = VisionTransformer(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
pictures = datasets.shapes("train", 500)
batch = torch.arange(64)

# %%
parts = dict.fromkeys(("read and augment", "forward", "backward", "optimizer"), 0.0)


def training_step():
    clock = [time.perf_counter()]
    images = normalise(training.random_crop_flip(pictures.images[batch]), config)
    clock.append(time.perf_counter())
    loss = F.cross_entropy(model(images), pictures.labels[batch])
    clock.append(time.perf_counter())
    loss.backward()
    clock.append(time.perf_counter())
    optimizer.step()
    optimizer.zero_grad()
    clock.append(time.perf_counter())
    return [end - start for start, end in zip(clock, clock[1:], strict=False)]


# %% tags=["nbval-ignore-output"]
training_step()  # the first one is slower: leave it out
steps = [training_step() for _ in range(5)]
for name, times in zip(parts, zip(*steps, strict=True), strict=True):
    parts[name] = 100 * statistics.median(times) / statistics.median(map(sum, steps))
fig, ax = plots.figure(6.5, 2)
bars = ax.barh(list(parts), parts.values(), color=plots.COLOURS[0])
ax.bar_label(bars, fmt="%.0f %%", padding=3)
ax.invert_yaxis()
ax.set(xlabel="share of a training step's time", xlim=(0, 100))
plots.show(
    fig,
    "A training step in four parts: backward takes more than half, forward about a third, reading and the optimiser "
    "a few per cent each.",
)
assert parts["backward"] > parts["forward"] > parts["read and augment"]

# %% [markdown]
# One training step of a ViT on 64 small pictures, cut into four parts. The backward pass takes the most, the forward
# pass comes next, and the rest is small *here*.
#
# **Measure first** is the whole art. If you made the optimiser twice as fast, you would gain one or two per cent. If a
# careless data path took half of the time, the finest model would not help. So: how do you measure, what should it
# cost, and where is the cost higher than it should be?

# %% [markdown]
# ## A stopwatch that tells the truth
#
# Three mistakes make most timings worthless.
#
# - **No warm-up.** The first call also reserves memory, starts threads and reads code from the disk.
# - **One try.** Your computer does other things too. Take several, and their *median*: the middle one.
# - **Not waiting.** A GPU works on its own. A call returns before the work is done, unless you wait with
#   `torch.cuda.synchronize()`.
#
# And when you compare two things, let them take turns, A B A B, in one run. A machine that slows down in the middle
# then slows both. With Python's own stopwatch, `timeit`, all that is short:


# %%
def until_done(function):
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # wait until the GPU is done


def in_turns(*functions, rounds=5):
    found = [[timeit.timeit(lambda f=f: until_done(f), number=1) for f in functions] for _ in range(1 + rounds)]
    return [statistics.median(times) for times in zip(*found[1:], strict=True)]  # the first round is a warm-up


# %% tags=["nbval-ignore-output"]
a, b = torch.randn(512, 512), torch.randn(512, 512)
once, twice = in_turns(lambda: a @ b, lambda: a @ b @ b)
print(f"one product of two 512 x 512 matrices: {1000 * once:.2f} ms; two products: {twice / once:.1f} times as long")
assert 0 < once < 1

# %% [markdown]
# Give the *ratio*: it travels to other machines better than milliseconds do.
#
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
# Nearly all the work of a ViT is matrix products. Multiplying $(n \times k)$ by $(k \times m)$ takes $n\,k\,m$
# multiplications and as many additions: $2\,n\,k\,m$ **FLOPs** (floating-point operations). By hand, $(2 \times 3)$
# by $(3 \times 4)$: 24 multiplications, 48 FLOPs.
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
print(f"this model: {model_flops(config) / 1e6:.0f} million FLOPs an image")
print(f"ViT-B/16:   {model_flops(ViTConfig()) / 1e9:.1f} thousand million")

# %% [markdown]
# 35 thousand million FLOPs for ViT-B/16. Papers often print 17.6 and call them FLOPs too: they count a multiplication
# with its addition as one (a *MAC*). Check which, before you compare.
#
# PyTorch can count for itself:

# %%
with FlopCounterMode(display=False) as counter, torch.no_grad():
    model(torch.randn(1, 3, 32, 32))
assert counter.get_total_flops() == model_flops(config)
print("PyTorch counts the same, to the last one:", counter.get_total_flops())

# %% [markdown]
# Training costs about three times as much as the forward pass: backward computes, for each product, one gradient for
# its input and one for its weights, so two products of the same size.
#
# **Predict before you run:** patches of 2 pixels instead of 4. How many times the tokens? How many times the FLOPs of
# the linear layers, and of the attention?

# %%
for P in (8, 4, 2):
    c = replace(config, patch_size=P)
    N = c.grid[0] * c.grid[1]
    attention = c.depth * 4 * N * N * c.embed_dim / model_flops(c)
    print(f"patch {P}: {N:3} tokens, {model_flops(c) / 1e6:5.0f} million FLOPs, {attention:3.0%} of them in attention")

# %% [markdown]
# Half the patch size: four times the tokens. Linear layers cost four times as much, attention *sixteen* times. At few
# tokens attention hardly counts; at many it is all that counts.
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


# %%
def forward_seconds(c, count=16):
    vit, images = VisionTransformer(c).eval(), torch.randn(count, 3, *(2 * [c.image_size]))
    with torch.inference_mode():
        return in_turns(lambda: vit(images), rounds=3)[0] / count


depths = {L: forward_seconds(replace(config, depth=L)) for L in (2, 4, 8, 16)}
sides = {size: forward_seconds(replace(config, image_size=size)) for size in (16, 32, 48, 64, 96)}

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plots.figure(8.5, 3, 1, 2)
for ax, found, changed in ((left, depths, "depth"), (right, sides, "image_size")):
    flops = {value: model_flops(replace(config, **{changed: value})) for value in found}
    base = 4 if changed == "depth" else 32
    x = list(found) if changed == "depth" else [(size // 4) ** 2 for size in found]
    ax.plot(
        x, [1000 * found[base] * f / flops[base] for f in flops.values()], color="#888888", label="from the formula"
    )
    ax.plot(x, [1000 * t for t in found.values()], "o", color=plots.COLOURS[1], label="measured")
    ax.set(xlabel="blocks" if changed == "depth" else "tokens", ylabel="ms an image", xscale="log", yscale="log")
    ax.set_xticks(x, [str(v) for v in x], minor=False)
    ax.minorticks_off()
left.legend(frameon=False)
plots.show(
    fig,
    "Milliseconds an image, forward, over the number of blocks and of tokens. Measured dots lie near the line that the "
    "formula predicts from one of them; the smallest models lie above it.",
)
assert depths[16] > 2 * depths[2] and sides[96] > 5 * sides[16]  # 8 times the blocks, 36 times the tokens

# %% [markdown]
# The line goes through one measured dot of each panel and takes the rest from the formula. Twice the blocks, twice the
# time. Over the tokens the dots follow the bend that $N^2$ makes. At the small end they lie above the line: every call
# of a PyTorch function costs some microseconds, however little it has to do.
#
# One thing the formula does not count at all: memory. Norms, GELU and softmax have hardly any FLOPs, but each reads
# every number and writes it again.
#
# **A processor can multiply faster than memory can bring it numbers.** That is behind most of what follows.

# %% [markdown]
# ## How fast could it be?
#
# One large matrix product is the best that the machine can do: each number that was brought from memory is used many
# times. So it is the yardstick.


# %%
def product_rate(dtype, n=1024):
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / in_turns(lambda: a @ b, rounds=3)[0]  # FLOPs a second


# %% tags=["nbval-ignore-output"]
warnings.filterwarnings("ignore", "mkldnn_matmul")  # some processors without bfloat16 are told so at length
rates = {dtype: product_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
for dtype, rate in rates.items():
    print(f"{str(dtype):15} {rate / 1e9:6.0f} thousand million FLOPs a second")
reached = model_flops(config) / forward_seconds(config)
print(f"our ViT, forward, float32: {reached / rates[torch.float32]:.0%} of the first")
assert 0.02 < reached / rates[torch.float32] < 4  # two times of two moments: on a busy machine by far not 1

# %% [markdown]
# The share is the honest measure of a model's code: what is missing to 100 % goes into norms, softmax, GELU, copies
# and waiting.
#
# ## Half the digits: bfloat16
#
# A float32 has 32 bits: 1 sign, 8 for the exponent, 23 for the digits. **bfloat16** keeps sign and exponent and cuts
# the digits to 7 bits. It reaches as far and counts more coarsely:

# %%
x = torch.tensor([1.0, 1.001, 1.005, 3.14159, 1000.0, 1003.0])
torch.stack([x, x.to(torch.bfloat16).float()])

# %% [markdown]
# Between 1 and 2 its steps are 1/128. 1.001 is lost; 1.005 becomes 1.0078; 1003 becomes 1004. Sums of many small
# steps would suffer, so **autocast** uses it for the matrix products alone: their factors are cut, and weights, losses
# and the optimiser's sums stay in float32.

# %%
images = torch.randn(16, 3, 32, 32)
with torch.no_grad():
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images).float()
error = (rough - exact).abs().max() / exact.std()
print(f"largest error of a logit: {error:.0%} of the logits' spread, or less" if error < 0.2 else f"{error:.2f}")
assert error < 0.2

# %% [markdown]
# Is it faster? That depends on the processor. With units for bfloat16 products (AMX, or a GPU's tensor cores) a
# product is several times as fast; without them it is *slower* than float32. The course asks the processor what it has,
# so the same machine always computes alike:

# %% tags=["nbval-ignore-output"]
print(f"product, bfloat16 against float32: {rates[torch.bfloat16] / rates[torch.float32]:.1f} times as fast")
print(f"training.train here uses {'bfloat16' if bf16_pays('cpu') else 'float32'}")
assert isinstance(bf16_pays("cpu"), bool)

# %% [markdown]
# ### Exercise 11.3 · Which sum is safe?
# *experiment · medium · 5 minutes*
#
# Add 0.001 to 1.0 a thousand times, in float32 and in bfloat16, with a loop. What is the bfloat16 sum?
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
# PyTorch has `F.scaled_dot_product_attention`, which does scores, softmax and mixing in one go, and never writes the
# $N \times N$ weights to memory (FlashAttention: Dao et al. 2022). You read everywhere that it is faster. **Predict
# before you run:** at 17 tokens? At 500?


# %%
def explicit(q, k, v):
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, H, N, N)
    return weights @ v


q, k, v = torch.randn(3, 2, 4, 50, 32)
assert torch.allclose(explicit(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-5)
print("the same numbers")

# %%
tokens, ratio = (17, 65, 197, 785), {}
for training_too in (False, True):
    for N in tokens:
        dtype = torch.bfloat16 if bf16_pays("cpu") else torch.float32
        q, k, v = torch.randn(3, max(1, 4096 // N), 4, N, 32, dtype=dtype).requires_grad_(training_too)

        def run(attention, q=q, k=k, v=v):
            result = attention(q, k, v)
            if result.requires_grad:
                result.sum().backward()

        slow, fused = in_turns(lambda: run(explicit), lambda: run(F.scaled_dot_product_attention), rounds=3)
        ratio[training_too, N] = slow / fused

# %% tags=["nbval-ignore-output"]
fig, ax = plots.figure(6.5, 2.8)
for i, training_too in enumerate((False, True)):
    label = "training (forward and backward)" if training_too else "inference"
    ax.plot(tokens, [ratio[training_too, N] for N in tokens], "os"[i] + "-", color=plots.COLOURS[i], label=label)
ax.axhline(1, color="#888888", linewidth=0.8)
ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel="speed of fused\nagainst explicit")
ax.set_xticks(tokens, [str(N) for N in tokens])
ax.set_yticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
ax.minorticks_off()
ax.legend(frameon=False)
plots.show(
    fig,
    "Speed of fused attention relative to explicit attention over the number of tokens, for inference and training, on "
    "this machine. Above 1 fused is faster.",
)
assert all(0.02 < value < 50 for value in ratio.values())

# %% [markdown]
# Above the line the fused kernel wins. On the machine that made this page it gains a little in inference, and loses in
# training by a lot, most of all at few tokens; your figure may say otherwise. On a GPU with long sequences it wins
# clearly, and it saves memory everywhere. So our `MultiHeadAttention` chooses: scores, softmax and mixing on their own
# in training on a CPU, and where someone asks for the weights; else the fused function.
#
# **A rule that you have not measured on your machine, at your size, is a rumour.**

# %% [markdown]
# ## Compile
#
# `torch.compile(model)` reads the model's code and writes new code, in which neighbouring small operations (add, norm,
# GELU, copy) are done in one pass over memory. It needs a C++ compiler, and time: seconds for one block, a minute or
# more for a model's training step. State that time apart from the speed. A short run never earns it back. Nor does the
# course need it: where a compiler is missing or fails, `try_to_compile` says so and returns the block as it is.

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
# has it been worth it? Return the number of steps (a float will do); infinity where it never is.
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
# Most courses read a picture at a time: open it, crop it, flip it, turn it into a tensor, normalise it, and stack 64 of
# them. Each of these calls costs microseconds of Python, whatever the picture's size. The course keeps all pictures as
# *one* uint8 tensor and changes a whole batch at once:

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
    return torch.stack([one_by_one(pictures.images[i]) for i in index])


def whole_batch():
    return normalise(training.random_crop_flip(pictures.images[index]), config)


# %% tags=["nbval-ignore-output"]
assert as_many_write_it().shape == whole_batch().shape == (128, 3, 32, 32)
singly, at_once = in_turns(as_many_write_it, whole_batch)
speed_up = singly / at_once
print(f"whole batches are {speed_up:.0f} times as fast")
assert speed_up > 1.5

# %% [markdown]
# Does it matter? Only if reading takes a good part of a step. With a small ViT on a fast machine it does; behind a
# ViT-B nobody would notice. There is a law for this (Amdahl 1967). If a part that takes the share $p$ of the time
# becomes $s$ times as fast, the whole becomes
#
# $$\frac{1}{(1-p) + p/s}$$
#
# times as fast. By hand: half the time, 10 times as fast: $1/(0.5 + 0.05) = 1.82$. Not 10, not even 2.
#
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
# Neighbouring patches say nearly the same. So show the blocks only some of them: drop half of the tokens *after* their
# positions were added, at random, another half in each step (Liu et al. 2022). Each kept token still knows where it
# came from. A convolution could not do this: it needs its neighbours. The package holds the same code:


# %% tags=["package"]
def drop_patches(tokens, fraction, first=0):
    N = tokens.shape[1] - first
    kept = torch.randperm(N, device=tokens.device)[: N - int(fraction * N)] + first  # (kept patches,)
    return torch.cat([tokens[:, :first], tokens[:, kept]], dim=1)


# %%
cat = plots.to_picture(datasets.sample_image("cat", 224))
fig, axes = plots.figure(8.5, 2.4, 1, 4)
for ax, fraction in zip(axes, (0.0, 0.25, 0.5, 0.75), strict=True):
    kept = drop_patches(torch.arange(196)[None, :, None], fraction)[0, :, 0]
    mask = torch.zeros(196, dtype=torch.bool).scatter(0, kept, True).reshape(14, 14)  # (rows, columns)
    mask = mask.repeat_interleave(16, 0).repeat_interleave(16, 1)  # (Y, X)
    ax.imshow(torch.where(mask[..., None], torch.as_tensor(cat).float() / torch.as_tensor(cat).max(), 0.25))
    ax.set_title(f"{fraction:.0%} dropped", fontsize=10)
    ax.axis("off")
plots.show(fig, "The cat with none, a quarter, half and three quarters of its patches greyed out; it stays a cat.")

# %%
tokens = torch.randn(32, 65, 128)
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
# Half the patches, about twice the steps in the same time. What does the model lose? In the last part of the run the
# recipe shows it everything again, so that training ends as testing begins: with whole pictures. Whether twice the
# passes over half of the patches beat one pass over all of them is a question for a measurement, and the answer depends
# on the time you have.

# %% [markdown]
# ## All of it together
#
# The recipe `cifar10-laptop` puts these together. `tools/measure/loop.py` measures what each gives, on pictures of
# CIFAR-10's size, from a loop as many courses write it to the course's own. Recorded:

# %%
ladder = json.loads((DATA / "runs" / "loop.json").read_text())
names, speeds = zip(*((rung["name"], rung["images_per_second"]) for rung in ladder["rungs"]), strict=True)
fig, ax = plots.figure(7.5, 0.6 + 0.42 * len(names))
bars = ax.barh(names, speeds, color=[plots.COLOURS[1], *[plots.COLOURS[0]] * (len(names) - 1)])
ax.bar_label(bars, [f"{s:,.0f}   x {s / speeds[0]:.1f}" for s in speeds], padding=3, fontsize=9)
ax.invert_yaxis()
ax.set(xlabel=f"training images a second, {ladder['hardware']}", xlim=(0, 1.3 * max(speeds)))
alt = ", ".join(f"{name}: {speed:,.0f}" for name, speed in zip(names, speeds, strict=True))
plots.show(fig, f"Training images a second, one more change in each row. {alt}.")
assert speeds[-1] > 2 * speeds[0]

# %% [markdown]
# One row goes *down*: Muon takes longer for a step than AdamW. It stays in the recipe because each of its steps teaches
# more. Images a second are a means; what counts is accuracy at the end of the time that you have.

# %% [markdown]
# ## The same model in five libraries
#
# Is the course's model itself a fast one? `tools/measure/throughput.py` builds the same shape in five libraries, with
# random weights, and lets them take turns. Recorded (the course's model still left out then what nobody reads in its
# last block; see below):

# %%
record = json.loads((DATA / "runs" / "throughput.json").read_text())
rows = [row for row in record["results"] if row["memory"] == "kept"]
speed = {(*row["shape"], row["mode"], row["precision"], row["model"]): row["images_per_second"] for row in rows}
shapes = sorted({tuple(row["shape"]) for row in rows}, key=lambda shape: shape[0] // shape[1])
libraries = list(dict.fromkeys(row["model"] for row in rows))
print(f"{record['hardware']}, torch {record['versions']['torch']}")

# %%
fig, axes = plots.figure(9.5, 2.7, 1, 4, sharey=True)
kinds = [(mode, precision) for precision in ("float32", "bfloat16") for mode in ("training", "inference")]
for ax, kind in zip(axes, kinds, strict=True):
    for i, library in enumerate(libraries):
        relative = [speed[(*s, *kind, library)] / speed[(*s, *kind, "vit_tutorial")] for s in shapes]
        ax.plot(
            relative, range(len(shapes)), "|^osD"[i], markersize=(20, 7, 7, 7, 6)[i], markeredgewidth=2, label=library
        )
    ax.set(title=", ".join(kind), xlim=(0, 1.25), ylim=(-0.5, 2.5), xlabel="relative speed")
    ax.title.set_fontsize(10)
axes[0].set_yticks(range(3), [f"{(s[0] // s[1]) ** 2 + 1} tokens" for s in shapes])
fig.legend(*axes[0].get_legend_handles_labels(), ncols=5, frameon=False, loc="outside lower center")
ratios = {(row["mode"], row["precision"]): [] for row in rows}
for row in rows:
    if row["model"] == "vit_tutorial":
        ratios[row["mode"], row["precision"]].append(row["against_best_peer"])
worst = ", ".join(f"{mode} in {precision} {min(found):.2f}" for (mode, precision), found in ratios.items())
plots.show(
    fig, f"Speed of five libraries relative to the course's model. The course over the best other, at least: {worst}."
)
assert min(ratios["training", "bfloat16"]) > 1.05 and min(map(min, ratios.values())) > 0.95

# %% [markdown]
# 1 is the course's model. In float32 all five are close: matrix products take nearly all of the time, and everyone
# calls the same ones. In bfloat16 the products shrink, and what stands around them decides. In training three libraries
# fall far behind: they call the fused kernel.
#
# No single idea makes the rest of the difference. Tokens stay in 16 bits between the blocks. Patches are multiplied
# flat, not by a `Conv2d`. And when this was recorded, the last block left out what nobody reads.

# %% [markdown]
# ### Work that nobody reads
#
# A model with a class token reads its answer from that one token. **Predict before you run:** what must the last block
# still compute for the others?


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
# Their keys and values, so that the class token can look at them; nothing else. (The one matrix makes their queries
# too; they are dropped.) The package does not make this saving: its blocks stay alike, and whoever looks inside finds
# every token. A model that reads the *mean* of its tokens needs them anyway.
#
# Where you need only the answer, leaving work out beats doing it faster. What about the `Conv2d`?

# %% tags=["nbval-ignore-output"]
conv, photos = nn.Conv2d(3, 128, 4, stride=4), torch.randn(128, 3, 32, 32)


def by_convolution():
    return conv(photos).flatten(2).transpose(1, 2)  # (B, N, D)


def by_product():
    return F.linear(patchify(photos, 4), conv.weight.flatten(1), conv.bias)  # (B, N, D)


assert torch.allclose(by_convolution(), by_product(), atol=1e-4)
with autocast(photos.device):
    slow, fast = in_turns(*(lambda f=f: f().sum().backward() for f in (by_convolution, by_product)))
print(f"forward and backward: the product of flat patches is {slow / fast:.1f} times as fast")
assert slow / fast > 0.1

# %% [markdown]
# ## From one process to many
#
# Two processes, each with half of every batch. Each computes the gradient of its half; then they exchange gradients
# and take the mean. **Predict before you run:** is the mean of the two halves' gradients the whole batch's gradient?

# %%
vit = VisionTransformer(replace(config, depth=1))
images, labels = normalise(pictures.images[:64], config), pictures.labels[:64]


def gradient(part):
    vit.zero_grad()
    F.cross_entropy(vit(images[part]), labels[part]).backward()
    return vit.patch_embed.proj.weight.grad.clone()


halves = (gradient(slice(0, 32)) + gradient(slice(32, 64))) / 2
assert torch.allclose(halves, gradient(slice(0, 64)), atol=1e-5)
print("the same gradient")

# %% [markdown]
# The loss is a mean over images, so yes (it would not be with BatchNorm, which looks at the whole batch). That is
# **data parallel** training. PyTorch's `DistributedDataParallel` does the exchange while backward still runs, and
# `torchrun` starts the processes. The same training, as a file:

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
# so that more processes never mean another training. On your own data:
#
#     torchrun --nproc-per-node 2 -m vit_tutorial.cli train --data cifar10 --recipe cifar10-laptop
#
# On GPUs each process takes one. A model too large for one GPU can be cut up: with `--shard` each process keeps a part
# of every weight and fetches the rest block by block (FSDP).

# %% [markdown]
# Long runs end early: a power cut, a closed lid. `vit-tutorial train --resume RUN_DIR` goes on from the last
# checkpoint, to exactly the weights that an undisturbed run would have had.

# %% [markdown]
# ## Exercises
#
# 11.1 to 11.5 stand above, beside their ideas.
#
# ### Exercise 11.6 · Your model, your machine
# *stretch · hard · 15 minutes*
#
# Write `step_flops(config, batch_size, dropped)`: the FLOPs of one *training* step, with the fraction `dropped` of the
# patches left out after the embedding. Use `block_flops`; the class token, where there is one, always stays. As in
# `drop_patches`, `int(dropped * N)` patches are dropped. Then time a step of your own and compare.
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
# - Measure before you change anything: warm up, repeat, take the median, wait for the GPU, compare in turns.
# - FLOPs come from a formula: linear layers grow with the tokens, attention with their square. Training costs three
#   times the forward pass.
# - It does not count memory traffic. Fused kernels and compilation save some of that, sometimes.
# - Look for work that nobody reads.
# - bfloat16 is for products, float32 for sums. Whether it pays depends on the processor.
# - Amdahl: a part that takes little time cannot save much.
# - Leaving out half of the patches is the largest single gain here.
# - Several processes with the same random numbers do the same training sooner.

# %% [markdown]
# ## What comes next
#
# In **12 Your own images** everything comes together on pictures that you bring.

# %% [markdown]
# ## References
#
# - G. Amdahl: *Validity of the single processor approach to achieving large scale computing capabilities*. AFIPS 1967.
# - T. Dao et al.: *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*. NeurIPS 2022.
# - Y. Liu et al.: *PatchDropout: Economizing Vision Transformers Using Patch Dropout*. WACV 2023.
# - Y. Li et al.: *Scaling Language-Image Pre-training via Masking* (FLIP). CVPR 2023.
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
# 1.001 is nearer to 1 than to 1.0078, the next number that bfloat16 has. So each sum is 1 again, a thousand times.

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
