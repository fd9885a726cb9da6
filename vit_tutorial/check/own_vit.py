"""A ViT of the learner's own: answers that passed are kept in `my_vit.py` beside the notebooks, and assembled.

The file only grows. A newer answer is added below the older one and takes its place in `PARTS`, so that nothing of the
learner's is ever overwritten.
"""

import ast
import dis
import inspect
import linecache
import sys
import textwrap
import types
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..files import atomic_path
from ..layers import EncoderBlock, MultiHeadAttention, PatchEmbedding, patchify
from ..model import VisionTransformer, ViTConfig, init_weights
from . import attention, encoder, model, patches, training
from .verdict import copied, explain, limited, same

FILE = "my_vit.py"
HEADER = '''"""The parts of my Vision Transformer, as I wrote them in the course. Each passed its check then.

check.keep(...) adds to the end of this file and never changes what stands here; of two answers to the same exercise
the lower one counts. check.my_vit(config) makes a model of them. The file is yours: edit it as you like.
"""

PARTS = {}  # exercise -> my answer
'''


def block(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


def embed(x, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(x), -1, -1), x], dim=1) + pos_embed


def drop(x, rate, training):
    return x * (torch.rand(len(x), 1, 1, device=x.device) >= rate) / (1 - rate) if training else x


PACKAGE = {  # exercise -> (its checker, what stands in for an answer that is missing)
    "cut_patches": (patches.cut_patches, patchify),
    "attention_weights": (
        attention.attention_weights,
        lambda q, k: (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1),
    ),
    "split_heads": (attention.split_heads, lambda x, num_heads: x.unflatten(2, (num_heads, -1)).transpose(1, 2)),
    "merge_heads": (attention.merge_heads, lambda x: x.transpose(1, 2).flatten(2)),
    "layer_norm": (encoder.layer_norm, lambda x, gamma, beta, eps: F.layer_norm(x, gamma.shape, gamma, beta, eps)),
    "drop_path": (encoder.drop_path, drop),
    "pre_norm_block": (encoder.pre_norm_block, block),
    "embed_tokens": (model.embed_tokens, embed),
    "read_out": (model.read_out, lambda model, tokens: model.head(model.norm(tokens)[:, 0])),
    "training_step": (training.training_step, training.reference_step),
}


# ------------------------------------------------------------------------------------------------ keeping


class Refused(Exception):
    """Why an answer cannot be kept."""


def offer(result):
    """Say how to keep an answer that is a part of a ViT."""
    name = getattr(result.answer, "__name__", "")
    if result.exercise in PACKAGE and name.isidentifier():
        print(f"This is a part of a ViT. To keep it in {FILE} for notebooks 05 and 06, run: check.keep({name})")


def quietly(checker, answer):
    """A check's result, without a word."""
    with redirect_stdout(StringIO()):
        return checker(answer)


def keep(answer):
    """Add a learner's function that is a part of a ViT, and all of the notebook that it needs, to `my_vit.py`.

    It is checked again as it would stand in the file, beside the parts that are there. Prints what was done or why
    nothing was; never raises, and leaves the file as it is unless all is well. The file is in the current folder.
    """
    try:
        print(add(answer, Path(FILE).resolve()))
    except Refused as why:
        print(f"Nothing kept. {why}")
    except OSError as error:
        print(f"Nothing kept: {FILE} could not be written ({error.strerror}).")
    except Exception as error:  # what a learner writes may do anything
        print(f"Nothing kept. It raised {explain(error)}")


def add(answer, path):
    """Do what `keep` says; returns what to tell. Raises `Refused`."""
    if not inspect.isfunction(answer):
        raise Refused("Expected a function that you wrote with def, such as check.keep(cut_patches).")
    exercise = next((name for name, (checker, _) in PACKAGE.items() if quietly(checker, answer).passed), None)
    if exercise is None:
        raise Refused(f"{answer.__name__} passes none of the checks whose answers are parts of a ViT.")
    section = f"{source_with_needs(answer)}\n\n\nPARTS[{exercise!r}] = {answer.__name__}\n"
    old = read(path) or HEADER
    if old.rpartition(f"# {exercise}\n")[2].startswith(section):
        return f"{answer.__name__} stands in {FILE} already."
    new = f"{old.rstrip()}\n\n\n# {exercise}\n{section}"
    (before, _), (after, problem) = load(old), load(new)
    if problem or exercise not in after:
        raise Refused(problem or f"PARTS is no dictionary in your {FILE} any more.")
    for name in PACKAGE.keys() & after.keys():
        checker = PACKAGE[name][0]
        result = quietly(checker, after[name])
        if not result.passed and (name == exercise or quietly(checker, before.get(name)).passed):
            raise Refused(
                f"With it in {FILE}, {name} would not pass any more. Do both use one name for two things? Then rename "
                f"yours. {result.message}"
            )
    train_a_small_one({exercise: after[exercise]})
    with atomic_path(path) as temporary:
        temporary.write_text(new, "utf-8")
    count = f"{len(PACKAGE.keys() & after.keys())} of {len(PACKAGE)}"
    return f"Kept {answer.__name__} in {FILE}, as {exercise}; {count} parts are yours."


def source_with_needs(function, seen=None):
    """The source of a notebook's function, after the imports, constants and functions of the notebook that it uses.

    Raises `Refused` where it uses something else, which a file of its own would not have.
    """
    seen = set() if seen is None else seen
    seen.add(function.__name__)
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
        if not isinstance(ast.parse(source).body[0], ast.FunctionDef):
            raise OSError
    except (OSError, TypeError, SyntaxError):
        raise Refused(f"The source of {function.__name__} cannot be read; write it with def in a cell.") from None
    if function.__closure__:
        raise Refused(f"{function.__name__} was made inside another function; write it with def in a cell.")
    needs = []
    for name in sorted(names_used(function.__code__, ast.parse(source)) & set(function.__globals__) - seen):
        value = function.__globals__[name]
        home, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
        if isinstance(value, types.ModuleType):
            needs.append(f"import {own}" + (f" as {name}" if own != name else ""))
        elif inspect.isfunction(value) and home == function.__module__:
            needs.append(source_with_needs(value, seen))
        elif isinstance(value, (int, float, str, bool)):
            needs.append(f"{name} = {value!r}")
        elif own and home in sys.modules and getattr(sys.modules[home], own, None) is value and home != "__main__":
            needs.append(f"from {home} import {own}" + (f" as {name}" if own != name else ""))
        else:
            raise Refused(f"{function.__name__} uses {name} of the notebook; make it inside the function instead.")
        seen.add(name)
    imports = [line for line in needs if line.startswith(("import ", "from "))]
    others = [line for line in needs if line not in imports]
    return "\n\n\n".join(filter(None, ["\n".join(imports), *others, source]))


def names_used(code, tree=None):
    """The global names that a function's code reads, and those in its defaults and decorators."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            found |= names_used(part)
    if tree:
        function = tree.body[0]
        outside = [*function.decorator_list, function.args, *filter(None, [function.returns])]
        found |= {node.id for part in outside for node in ast.walk(part) if isinstance(node, ast.Name)}
    return found


def train_a_small_one(parts):
    """Raise `Refused` unless a small model with these parts has the package's logits and gradients."""
    config = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=3, embed_dim=8, depth=2, num_heads=2)
    package = {name: ours for name, (_, ours) in PACKAGE.items()}
    images, found = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)), []
    reference = VisionTransformer(config)
    for vit in (reference, MyViT(config, {name: on_copies(part) for name, part in (package | parts).items()})):
        vit.load_state_dict(reference.state_dict())
        try:
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                logits = vit(images)
                logits.square().sum().backward()
        except Exception as error:
            raise Refused(f"It passes its check, but cannot be trained. It raised {explain(error)}") from None
        found.append([logits, *(p.grad if p.grad is not None else torch.zeros_like(p) for p in vit.parameters())])
    if not all(same(theirs, mine) for theirs, mine in zip(*found, strict=True)):
        raise Refused(
            "It passes its check, but a model with it cannot be trained: the gradients differ from the package's. Does "
            "it detach a tensor, or take numbers out with .item(), .tolist() or .numpy()?"
        )


def read(path):
    """The text of the file, empty where there is none. Raises `Refused` where it is no text."""
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except UnicodeError:
        raise Refused(f"{FILE} is not a text in UTF-8.") from None


def load(text):
    """`(PARTS, problem)` of a file's text, which is run; the parts are empty where there is a problem."""
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
    problem = f"{FILE} comes to no end." if problem is None else problem
    parts = names.get("PARTS")
    return (parts if isinstance(parts, dict) and not problem else {}), problem


# ------------------------------------------------------------------------------------------------ assembling


def my_parts(path=None):
    """`{exercise: function}` of all parts, the learner's where they pass their checks; prints whose each one is."""
    try:
        kept, problem = load(read(Path(FILE) if path is None else path))
    except Refused as why:
        kept, problem = {}, str(why)
    parts, yours, filled = {}, [], []
    for name, (checker, ours) in PACKAGE.items():
        result = quietly(checker, kept[name]) if name in kept else None
        parts[name] = kept[name] if result and result.passed else ours
        (yours if result and result.passed else filled).append(name)
        if result and not result.passed:
            problem = f"{problem} {name} is in {FILE}, but does not pass any more: {result.message}".strip()
    print(f"Yours, from {FILE}:", ", ".join(yours) or "none yet")
    print("From the package:   ", ", ".join(filled) or "nothing")
    if problem:
        print(problem)
    return {name: on_copies(part) for name, part in parts.items()}


def on_copies(part):
    """As the checks do: the part gets copies of its tensors, for it may work in place."""
    return lambda *inputs: part(*copied(inputs))


class MyPatches(PatchEmbedding):
    def __init__(self, parts, *sizes):
        super().__init__(*sizes)
        self.cut = parts["cut_patches"]

    def forward(self, images):
        patches = self.cut(images, self.proj.stride[0])  # (B, N, C*P*P)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)  # (B, N, D)


class MyNorm(nn.LayerNorm):
    def __init__(self, parts, width):
        super().__init__(width, eps=1e-6)
        self.norm = parts["layer_norm"]

    def forward(self, x):
        return self.norm(x, self.weight, self.bias, self.eps)  # (B, N, D)


class MyAttention(MultiHeadAttention):
    def __init__(self, parts, *sizes):
        super().__init__(*sizes)
        self.parts = parts

    def forward(self, x):
        q, k, v = (self.parts["split_heads"](part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        self.weights = self.parts["attention_weights"](q, k)  # (B, H, N, N)
        return self.proj(self.parts["merge_heads"](self.weights @ v))  # (B, N, D)


class MyBlock(EncoderBlock):
    def __init__(self, parts, *sizes):
        super().__init__(*sizes)
        width, heads = sizes[:2]
        self.parts, self.attn = parts, MyAttention(parts, width, heads)
        self.norm1, self.norm2 = MyNorm(parts, width), MyNorm(parts, width)

    def forward(self, x, return_attention=False):
        def dropped(branch):
            return self.parts["drop_path"](branch, self.drop_path.rate, self.training)

        x = self.parts["pre_norm_block"](
            x, self.norm1, lambda x: dropped(self.drop(self.attn(x))), self.norm2, lambda x: dropped(self.mlp(x))
        )
        return (x, self.attn.weights) if return_attention else x


class MyViT(VisionTransformer):
    """`VisionTransformer`, put together of `parts`, with the same names for the same weights."""

    def __init__(self, config, parts):
        super().__init__(config)
        c, self.parts = config, parts
        if c.pool != "cls" or c.position == "none":
            raise ValueError(f"expected pool='cls' and positions, found pool={c.pool!r}, position={c.position!r}")
        self.patch_embed = MyPatches(parts, c.image_size, c.patch_size, c.in_channels, c.embed_dim)
        rates = torch.linspace(0, c.drop_path, c.depth).tolist()
        self.blocks = nn.ModuleList(
            MyBlock(parts, c.embed_dim, c.num_heads, c.mlp_ratio, c.dropout, rate) for rate in rates
        )
        self.norm = MyNorm(parts, c.embed_dim)
        self.apply(init_weights)

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
    return MyViT(config, my_parts(path))
