"""A ViT of the learner's own: answers that passed are kept in `my_vit.py` beside the notebooks, and assembled.

The file only grows. A newer answer is added below the older one and takes its place in `PARTS`, so that nothing of the
learner's is ever overwritten.
"""

import inspect
import linecache
import math
import symtable
import sys
import textwrap
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..files import atomic_path
from ..layers import DropPath, EncoderBlock, MultiHeadAttention, PatchEmbedding, patchify
from ..model import VisionTransformer, ViTConfig
from . import attention, encoder, model, patches, training
from .verdict import explain, limited, same, takes

FILE = "my_vit.py"
HEADER = '''"""The parts of my Vision Transformer, as I wrote them in the course. Each passed its check then.

check.keep(...) adds to the end of this file and never changes what stands here; of two answers to the same exercise
the lower one counts. check.my_vit(config) makes a model of them. The file is yours: edit it as you like.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

PARTS = {}  # exercise -> my answer
'''
GIVEN = {"math": math, "np": np, "torch": torch, "F": F, "nn": nn}  # what the header imports


def block(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


def embed(x, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(x), -1, -1), x], dim=1) + pos_embed


def cut(images, patch_size):
    return patchify(images, patch_size).unflatten(2, (-1, patch_size, patch_size))  # (B, N, C, P, P)


PACKAGE = {  # exercise -> (its checker, what stands in for an answer that is missing)
    "cut_patches": (patches.cut_patches, cut),
    "attention_weights": (
        attention.attention_weights,
        lambda q, k: (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1),
    ),
    "split_heads": (attention.split_heads, lambda x, num_heads: x.unflatten(2, (num_heads, -1)).transpose(1, 2)),
    "merge_heads": (attention.merge_heads, lambda x: x.transpose(1, 2).flatten(2)),
    "layer_norm": (encoder.layer_norm, lambda x, gamma, beta, eps: F.layer_norm(x, gamma.shape, gamma, beta, eps)),
    "drop_path": (encoder.drop_path, lambda x, rate, training: DropPath(rate).train(training)(x)),
    "pre_norm_block": (encoder.pre_norm_block, block),
    "embed_tokens": (model.embed_tokens, embed),
    "read_out": (model.read_out, lambda model, tokens: model.head(model.norm(tokens)[:, 0])),
    "training_step": (training.training_step, training.reference_step),
}


class Refused(Exception):
    """Why an answer cannot be kept, or a file not be read."""


# ------------------------------------------------------------------------------------------------ keeping


def offer(result):
    """Say how to keep an answer that has passed and is a part of a ViT, in whichever exercise."""
    try:
        prepared(result.answer, Path(FILE).resolve())
    except Exception:  # it cannot be kept; what a learner writes may do anything
        return
    print(
        f"This is a part of a ViT. To keep it in {FILE} for notebooks 05 and 06: check.keep({result.answer.__name__})"
    )


def keep(answer):
    """Add a learner's function that is a part of a ViT, and all of the notebook that it needs, to `my_vit.py`.

    It is checked again as it would stand in the file, beside the parts that are there. Prints what was done or why
    nothing was; never raises, and leaves the file as it is unless all is well. The file is in the current folder.
    """
    path = Path(FILE).resolve()
    try:
        exercise, text = prepared(answer, path)
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
        count = f"{len(PACKAGE.keys() & load(text).keys())} of {len(PACKAGE)}"
        print(f"Kept {answer.__name__} in {FILE}, as {exercise}; {count} parts are yours.")
    except Refused as why:
        print(f"Nothing kept. {why}")
    except OSError as error:
        print(f"Nothing kept: {FILE} could not be written ({error.strerror}).")
    except Exception as error:  # what a learner writes may do anything
        print(f"Nothing kept. It raised {explain(error)}")


def prepared(answer, path):
    """The exercise that a function answers, and the file's text with it. Raises `Refused` where it cannot be kept."""
    if not inspect.isfunction(answer):
        raise Refused("Expected a function that you wrote with def, such as check.keep(cut_patches).")
    exercise = next((name for name in PACKAGE if verdict_on(name, answer).passed), None)
    if exercise is None:
        raise Refused(f"{answer.__name__} passes none of the checks whose answers are parts of a ViT.")
    old = read(path) or HEADER
    before = load(old)
    given = {n for n in GIVEN.keys() & global_names(old) if answer.__globals__.get(n, GIVEN[n]) is GIVEN[n]}
    source = "\n\n\n".join(collect(answer, {}, given).values())
    section = f"{source}\n\n\nPARTS[{exercise!r}] = {answer.__name__}\n"
    if old.rpartition(f"# {exercise}\n")[2].startswith(section):
        raise Refused(f"{answer.__name__} stands in {FILE} already.")
    new = f"{old.rstrip()}\n\n\n# {exercise}\n{section}"
    after = load(new)
    for name in PACKAGE.keys() & after.keys():
        result = verdict_on(name, after[name])
        if not result.passed and (name == exercise or verdict_on(name, before.get(name)).passed):
            raise Refused(
                f"With it in {FILE}, {name} would not pass any more. Do both use one name for two things? Then rename "
                f"yours. {result.message}"
            )
    train_a_small_one(exercise, after[exercise])
    return exercise, new


def verdict_on(exercise, answer):
    """The check's result, without a word; not that of a function that takes other arguments than the task says."""
    checker = PACKAGE[exercise][0]
    if inspect.isfunction(answer) and not takes(answer, checker.task.names):
        answer = None
    with redirect_stdout(StringIO()):
        return checker(answer)


def collect(function, statements, given):
    """Add to `statements`, `{name: what makes it}`, a notebook's function after all of the notebook that it needs.

    The names `given` are in the file already. Raises `Refused` where it uses something else, which a file of its own
    would not have.
    """
    name = function.__name__
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        source = ""
    if not source.startswith(("def ", "@")):
        raise Refused(f"The source of {name} cannot be read; write it with def in a cell.")
    if function.__closure__:
        raise Refused(f"{name} was made inside another function; write it with def in a cell.")
    statements[name] = ""  # it may call itself
    for need in sorted(global_names(source) & function.__globals__.keys() - given):
        if need in statements:
            continue
        value = function.__globals__[need]
        home, notebook = getattr(value, "__module__", None), function.__module__
        own = getattr(value, "__name__", need)
        if inspect.isfunction(value) and (home, own) == (notebook, need):
            collect(value, statements, given)
        elif isinstance(value, (int, float, str, bool, type(None))):
            statements[need] = f"{need} = {value!r}"
        elif inspect.ismodule(value):
            statements[need] = f"import {renamed(value.__name__, need)}"
        elif home != notebook and getattr(sys.modules.get(home), own, None) is value:
            statements[need] = f"from {home} import {renamed(own, need)}"
        else:
            raise Refused(f"{name} uses {need} of the notebook; import or make it inside the function instead.")
    del statements[name]  # to the end
    statements[name] = source
    return statements


def renamed(own, name):
    return own if own == name else f"{own} as {name}"


def global_names(source):
    """The names that a source text reads from outside of its functions, or makes there."""
    names, tables = set(), [symtable.symtable(source, FILE, "exec")]
    for table in tables:  # which grows: functions hold functions
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return names


@torch.enable_grad()
@torch.random.fork_rng(devices=[])
def train_a_small_one(exercise, part):
    """Raise `Refused` unless a small model with this part has the package's gradients."""
    config = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=3, embed_dim=8, depth=2, num_heads=2)
    images, reference = torch.rand(2, 3, 8, 12), VisionTransformer(config)
    mine = MyViT(config, {name: ours for name, (_, ours) in PACKAGE.items()} | {exercise: part})
    mine.load_state_dict(reference.state_dict())

    def gradients(vit):
        loss = vit(images).square().sum()
        return torch.autograd.grad(loss, list(vit.parameters()), allow_unused=True, materialize_grads=True)

    try:
        found = gradients(mine)
    except Exception as error:
        raise Refused(f"It passes its check, but cannot be trained. It raised {explain(error)}") from None
    if not all(map(same, found, gradients(reference))):
        raise Refused(
            "It passes its check, but a model with it cannot be trained: the gradients differ from the package's. Does "
            "it detach a tensor, or take numbers out with .item(), .tolist() or .numpy()?"
        )


# ------------------------------------------------------------------------------------------------ the file


def read(path):
    """The text of the file, empty where there is none. Raises `Refused` where it is no text."""
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except UnicodeError:
        raise Refused(f"{FILE} is not a text in UTF-8.") from None


def load(text):
    """`PARTS` of a file's text, which is run; empty where that is no dictionary. Raises `Refused` where it fails."""
    names = {"__name__": "my_vit"}
    linecache.cache[FILE] = (len(text), None, text.splitlines(True), FILE)  # for the lines in messages

    def run():
        try:
            exec(compile(text, FILE, "exec"), names)
        except SyntaxError as error:
            return f"Line {error.lineno} of {FILE} is no Python: {error.msg}."
        except BaseException as error:
            return f"{FILE} raised {explain(error)}"
        return ""

    problem, _ = limited(run)
    if problem != "":
        raise Refused(problem or f"{FILE} comes to no end.")
    parts = names.get("PARTS")
    return parts if isinstance(parts, dict) else {}


# ------------------------------------------------------------------------------------------------ assembling


def my_parts(path):
    """`{exercise: function}` of all parts, the learner's where they pass their checks; prints whose each one is."""
    try:
        kept, problems = load(read(path)), []
    except Refused as why:
        kept, problems = {}, [str(why)]
    results = {name: verdict_on(name, kept[name]) for name in PACKAGE if name in kept}
    yours = [name for name, result in results.items() if result.passed]
    print(f"Yours, from {FILE}:", ", ".join(yours) or "none yet")
    print("From the package:   ", ", ".join(name for name in PACKAGE if name not in yours) or "nothing")
    for name, result in results.items():
        if not result.passed:
            problems.append(f"{name} is in {FILE}, but does not pass any more: {result.message}")
    if problems:
        print(*problems)
    return {name: kept[name] if name in yours else ours for name, (_, ours) in PACKAGE.items()}


class MyPatches(PatchEmbedding):
    def forward(self, images):
        patches = self.parts["cut_patches"](images, self.proj.stride[0]).flatten(2)  # (B, N, C*P*P)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)  # (B, N, D)


class MyNorm(nn.LayerNorm):
    def forward(self, x):
        return self.parts["layer_norm"](x, self.weight, self.bias, self.eps)  # (B, N, D)


class MyAttention(MultiHeadAttention):
    def forward(self, x):
        q, k, v = (self.parts["split_heads"](part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        self.weights = self.parts["attention_weights"](q, k)  # (B, H, N, N)
        return self.proj(self.parts["merge_heads"](self.weights @ v))  # (B, N, D)


class MyBlock(EncoderBlock):
    def forward(self, x, return_attention=False):
        def dropped(branch):
            return self.parts["drop_path"](branch, self.drop_path.rate, self.training)

        x = self.parts["pre_norm_block"](
            x, self.norm1, lambda x: dropped(self.drop(self.attn(x))), self.norm2, lambda x: dropped(self.mlp(x))
        )
        return (x, self.attn.weights) if return_attention else x


MINE = {PatchEmbedding: MyPatches, nn.LayerNorm: MyNorm, MultiHeadAttention: MyAttention, EncoderBlock: MyBlock}


class MyViT(VisionTransformer):
    """`VisionTransformer` with the same weights under the same names, which `parts` compute with."""

    def __init__(self, config, parts):
        if config.pool != "cls" or config.position == "none":
            raise ValueError(
                f"expected pool='cls' and positions, found pool={config.pool!r}, position={config.position!r}"
            )
        super().__init__(config)
        self.parts = parts
        for module in self.modules():
            if type(module) in MINE:
                module.__class__, module.parts = MINE[type(module)], parts  # the layer stays, its forward is another

    def embed(self, images):
        return self.pos_drop(self.parts["embed_tokens"](self.patch_embed(images), self.cls_token, self.pos_embed))

    def forward(self, images):
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.parts["read_out"](self, x)  # (B, num_classes)


def my_vit(config, path=None):
    """A `VisionTransformer` of this config made of the learner's parts; what is missing comes from the package.

    Prints whose each part is. `model.parts["training_step"]` is the learner's training step, or the package's. `path`
    is the file, by default `my_vit.py` in the current folder. Raises `ValueError` where the config has no class token
    or no positions, for which the learner has written no part.
    """
    return MyViT(config, my_parts(Path(path or FILE)))
