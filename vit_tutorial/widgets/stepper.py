"""EncoderStepper: one image's way through a Vision Transformer, stage by stage."""

import inspect
from functools import cache
from textwrap import shorten

import torch
from matplotlib.figure import Figure
from traitlets import Bool, Bytes, Dict, Float, Int, List, Unicode, validate

from ..interpret.recording import evaluating, fitted
from ..layers import MLP, EncoderBlock, MultiHeadAttention, PatchEmbedding, patchify
from ..model import VisionTransformer, normalise
from ..modern import ModernViT
from ..plots import COLOURS, draw_attention, draw_grid, draw_matrix
from ..weights import PatchMeanViT, as_ours
from .explorer import (
    EXACT_BYTES,
    Explorer,
    attention_bytes,
    float_bytes,
    mark_patch,
    model_input,
    module,
    pixel_bytes,
    rgb,
)

DRAWN = 64  # numbers of each token that are sent where all would be more than EXACT_BYTES
BARS = 10  # classes drawn at the end

# What a stage is called, what it is, its shape, and the function that computes it, in the line that holds this.
EMBEDDING = {
    "image": ("image", "(B, C, Y, X)", normalise, "/ 255 -"),
    "patches": ("tokens", "(B, N, C·P·P)", PatchEmbedding.forward, "patchify("),
    "tokens": ("tokens", "(B, N, D)", VisionTransformer.embed, "self.patch_embed("),
    "class token": ("tokens", "(B, N, D)", VisionTransformer.embed, "torch.cat("),
    "positions": ("tokens", "(1, N, D)", VisionTransformer.__init__, "self.pos_embed ="),
    "+ positions": ("sum", "(B, N, D)", VisionTransformer.embed, "self.pos_embed"),
}
BLOCK = {
    "norm 1": ("tokens", "(B, N, D)", EncoderBlock.forward, "self.norm1("),
    "attention weights": ("attention", "(B, H, N, N)", MultiHeadAttention.forward, ".softmax("),
    "mixture": ("tokens", "(B, N, D)", MultiHeadAttention.forward, "self.proj("),
    "+ mixture": ("sum", "(B, N, D)", EncoderBlock.forward, "self.drop(mixed)"),
    "norm 2": ("tokens", "(B, N, D)", EncoderBlock.forward, "self.norm2("),
    "MLP, hidden": ("tokens", "(B, N, hidden)", MLP.forward, "self.fc1("),
    "MLP": ("tokens", "(B, N, D)", MLP.forward, "self.fc2("),
    "+ MLP": ("sum", "(B, N, D)", EncoderBlock.forward, "self.mlp("),
}
ANSWER = {
    "final norm": ("tokens", "(B, N, D)", VisionTransformer.forward_features, "self.norm("),
    "pooled": ("tokens", "(B, D)", VisionTransformer.forward, ".mean("),
    "logits": ("bars", "(B, num_classes)", VisionTransformer.forward, "self.head("),
    "probabilities": ("bars", "(B, num_classes)", None, "logits.softmax(dim=-1)"),  # a model ends with its logits
}
PARTS = EMBEDDING | BLOCK | ANSWER
TEXTS = {
    "image": "{Y} × {X} pixels in three colours. Minus the mean of the training images, over their spread: small "
    "numbers around 0.",
    "patches": "The image is cut into {patches} squares of {P} × {P} pixels. Each is laid out as one row: "
    "3 · {P} · {P} = {pixels} numbers.",
    "tokens": "Each row times one learned matrix: from {pixels} pixel values to a token of {D} numbers.",
    "class token": "One learned row goes on top, the same for every image. It will collect the answer.",
    "positions, learned": "One learned row for each token says where it stands. It is the same for every image.",
    "positions, sinusoidal": "Sines and cosines of row and column say where a token stands. Nothing is learned here.",
    "positions, none": "This model knows no positions: these rows are zero.",
    "+ positions": "Token plus position, number by number. This is the stream that the blocks read and write.",
    "norm 1": "A copy for the first branch: each token brought to one scale. The stream itself stays as it was.",
    "attention weights": "How much a token takes from each token, in {H} heads. The weights of a head sum to 1.",
    "mixture": "What the token took, from all heads side by side, times one matrix. It is not added yet.",
    "+ mixture": "Stream plus mixture: each token keeps what it was, and has heard of the others.",
    "norm 2": "A copy for the second branch, brought to one scale. From here on each token is alone again.",
    "MLP, hidden": "One matrix makes it {hidden} numbers long. GELU keeps the positive ones; the rest end near 0.",
    "MLP": "A second matrix narrows them to {D} numbers. They are not added yet.",
    "+ MLP": "Stream plus MLP: the end of block {block}. The shape is as at its start, so blocks can be stacked.",
    "final norm": "The last block is done. Each token is brought to one scale.",
    "pooled, cls": "Row 0 alone is read: the class token, which has collected from the patches.",
    "pooled, mean": "The mean of all tokens, number by number: one row for the whole image.",
    "logits": "One last matrix, the head, makes a number for each class. The largest wins.",
    "probabilities": "Softmax makes the logits positive and lets them sum to 1: {best}, {share:.1f} %.",
}


@cache
def code_of(name):
    """The line of the package that computes a stage, without its comment."""
    *_, function, part = PARTS[name]
    lines = inspect.getsource(function).split("\n") if function else [part]
    return next(line for line in lines if part in line).split("  # ")[0].strip()


def walk(model, images):
    """Every stage of the images' way `(B, C, Y, X)` through the model, as `(block, name, values)` with block from 0.

    Forward hooks see them in one pass of the model in eval mode. The block is -1 before the first, L after the last.
    """
    L, handles = model.config.depth, []
    found = [(-1, "image", images), (-1, "patches", patchify(images, model.config.patch_size))]

    def see(part, block, stages):
        """`stages(inputs, output)` gives the stages that `part` takes in or gives out, as `{name: values}`."""

        def hook(_, inputs, output):
            found.extend((block, name, values) for name, values in stages(inputs[0], output).items())

        handles.append(part.register_forward_hook(hook))

    def with_class_token(x):
        cls = model.cls_token
        return {} if cls is None else {"class token": torch.cat([cls.expand(len(x), -1, -1), x], dim=1)}

    see(model.patch_embed, -1, lambda _, x: {"tokens": x} | with_class_token(x) | {"positions": model.pos_embed})
    see(model.pos_drop, -1, lambda _, x: {"+ positions": x})
    for index, block in enumerate(model.blocks):
        handles.append(block.register_forward_pre_hook(lambda _, inputs: (*inputs, True)))  # with attention weights
        see(block.norm1, index, lambda _, x: {"norm 1": x})
        see(block.attn, index, lambda _, output: {"attention weights": output[1], "mixture": output[0]})
        see(block.norm2, index, lambda x, normed: {"+ mixture": x, "norm 2": normed})
        see(block.mlp.act, index, lambda _, x: {"MLP, hidden": x})
        see(block.mlp, index, lambda _, x: {"MLP": x})
        see(block, index, lambda _, output: {"+ MLP": output[0]})
        handles.append(block.register_forward_hook(lambda _, inputs, output: output[0]))  # the next block takes tokens
    see(model.norm, L, lambda _, x: {"final norm": x})
    see(model.head, L, lambda x, logits: {"pooled": x, "logits": logits, "probabilities": logits.softmax(dim=-1)})
    try:
        with torch.no_grad(), evaluating(model):
            model(fitted(model, images))
    finally:
        for handle in handles:
            handle.remove()
    return [(block, name, values.detach()) for block, name, values in found]


class EncoderStepper(Explorer):
    """Walk one image through a Vision Transformer: every stage with its shape, its values and its line of code.

        EncoderStepper(model, image)    # a VisionTransformer or what weights.as_ours makes one of, uint8 (3, Y, X)

    What is shown can be read and set: `stage` is an index into `names`, `token` one into the tokens of the blocks, 0
    being the class token where there is one. All numbers are sent as float32, with two exceptions: where they would be
    more than 2 MB, only the first 64 of each token, and the attention weights with 8 bits each. The statistics are
    those of the whole token; the standard deviation divides by D, as LayerNorm does.
    Raises `ValueError` for an image that is not uint8 `(3, Y, X)` or of another size than the model's, and for a stage
    or token that is not there.
    """

    _esm = module("stepper.js")

    data = Bytes().tag(sync=True)  # float32: values and statistics, where `stages` says
    weights = Bytes().tag(sync=True)  # attention weights (L, 1, H, N, N): as `attention_bytes` makes them
    scales = Bytes().tag(sync=True)
    shape = List(Int()).tag(sync=True)  # L, 1, H, N
    stages = List(Dict()).tag(sync=True)
    grid = List(Int()).tag(sync=True)  # rows and columns of patches
    pixels = Bytes().tag(sync=True)  # (Y, X, 3) uint8
    size = List(Int()).tag(sync=True)  # Y, X
    mean = List(Float()).tag(sync=True)
    std = List(Float()).tag(sync=True)
    classes = List(Unicode()).tag(sync=True)
    stage = Int().tag(sync=True)
    token = Int().tag(sync=True)
    numbers = Bool(False).tag(sync=True)

    def __init__(self, model, image, **view):
        model = as_ours(model)
        if isinstance(model, ModernViT):
            raise ValueError("expected a plain VisionTransformer, found a ModernViT; AttentionExplorer shows it")
        if isinstance(model, PatchMeanViT):
            raise ValueError(
                "expected a model whose head reads the class token or the mean of all tokens, found one that reads the "
                "patches beside or before the norm; AttentionExplorer shows it"
            )
        if image.ndim != 3 or image.dtype != torch.uint8 or model.config.in_channels != 3:
            raise ValueError(
                f"expected one uint8 image (3, Y, X), found {image.dtype} {tuple(image.shape)} and "
                f"a model of {model.config.in_channels} channels; take one of a batch with images[0]"
            )
        c, image = model.config, rgb(image)
        found = walk(model, model_input(model, image[None]))
        found = [(block, name, values[0].float().cpu()) for block, name, values in found]
        self._image, self._values = image.cpu(), [values for _, _, values in found]
        self.names = [f"block {block + 1}, {name}" if name in BLOCK else name for block, name, _ in found]
        attention = torch.stack([values for _, name, values in found if name == "attention weights"])  # (L, H, N, N)
        L, H, N, _ = attention.shape
        classes = list(c.classes) or [f"class {i}" for i in range(c.num_classes)]
        stages, data = describe(found, c, model.blocks[0].mlp.fc1.out_features, classes)
        self._prefix = int(model.cls_token is not None)
        middle = self._prefix + c.grid[0] // 2 * c.grid[1] + c.grid[1] // 2
        super().__init__(
            data=float_bytes(data),
            **attention_bytes(attention, EXACT_BYTES),
            shape=[L, 1, H, N],
            stages=stages,
            grid=list(c.grid),
            pixels=pixel_bytes(self._image),
            size=list(image.shape[1:]),
            mean=torch.tensor(c.mean).tolist(),
            std=torch.tensor(c.std).tolist(),
            classes=classes,
            **{"token": middle} | view,
        )

    @validate("stage", "token")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        count = len(self.names) if name == "stage" else self._prefix + self.grid[0] * self.grid[1]
        if not 0 <= value < count:
            raise ValueError(f"expected a {name} from 0 to {count - 1}, found {value}")
        return value

    def __repr__(self):
        Y, X = self.size
        return f"EncoderStepper(image of {Y} x {X} pixels, {len(self.names)} stages, {self.shape[0]} blocks)"

    def figure(self):
        stage, values, name = self.stages[self.stage], self._values[self.stage], self.names[self.stage]
        fig = Figure(figsize=(9.4, 3.3), layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=[1, 2.6])
        ax, (height, width) = left.subplots(), (side // count for side, count in zip(self.size, self.grid, strict=True))
        draw_grid(ax, self._image, height, "#FFFFFF60")
        if self.token >= self._prefix:
            mark_patch(ax, self.token - self._prefix, self.grid[1], height, width)
        right.suptitle(f"{name}  {stage['shape']}", fontsize=10)
        draw = {"attention": self._draw_heads, "bars": self._draw_bars, "image": self._draw_channels}
        draw.get(stage["kind"], self._draw_tokens)(right, values, stage)
        return fig, f"{name[0].upper()}{name[1:]}, {stage['shape']}: {stage['text']}"

    def _draw_heads(self, fig, values, stage):
        tiles = fig.subplots(-(-len(values) // 6), min(len(values), 6), squeeze=False).flatten()
        for tile in tiles:
            tile.set_axis_off()
        for h, weights in enumerate(values[:, self.token, self._prefix :]):
            draw_attention(tiles[h], self._image, weights, self.grid, f"head {h + 1}")

    def _draw_bars(self, fig, values, stage):
        best, ax = self._values[-2].argsort(descending=True)[:BARS].tolist(), fig.subplots()
        ax.barh(range(len(best)), values[best].tolist(), color=[COLOURS[1]] + [COLOURS[0]] * (len(best) - 1))
        names = [shorten(self.classes[i], 24, placeholder="…") for i in best]
        ax.set_yticks(range(len(best)), names, parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.invert_yaxis()

    def _draw_channels(self, fig, values, stage):
        low, high = stage["scale"]
        for ax, channel, title in zip(fig.subplots(1, 3), values, ("red", "green", "blue"), strict=True):
            drawn = draw_matrix(ax, channel, title, numbers=False, vmin=low, vmax=high)
        fig.colorbar(drawn, ax=fig.axes, shrink=0.7)

    def _draw_tokens(self, fig, values, stage):
        (low, high), ax = stage["scale"], fig.subplots()
        matrix = values if values.ndim == 2 else values[None]
        drawn = draw_matrix(ax, matrix[:, : stage["columns"]], numbers=False, vmin=low, vmax=high, aspect="auto")
        ax.set(xlabel="numbers", ylabel="tokens")
        fig.colorbar(drawn, ax=ax)


def describe(found, config, hidden, classes):
    """What the page needs to know of each stage, and all the numbers in one row `(numbers,)`."""
    c, (Y, X), share = config, found[0][2].shape[1:], found[-1][2].max().item()
    facts = {"Y": Y, "X": X, "P": c.patch_size, "D": c.embed_dim, "H": c.num_heads, "hidden": hidden}
    facts |= {"patches": c.grid[0] * c.grid[1], "pixels": 3 * c.patch_size**2}
    facts |= {"best": classes[found[-1][2].argmax()], "share": 100 * share}
    # What is not sent follows from the rest in the page, to the last bit.
    total = sum(4 * values.numel() for _, name, values in found if PARTS[name][0] in ("tokens", "bars"))
    stages, parts = [], []

    def put(values):
        parts.append(values.flatten())
        return sum(map(len, parts[:-1]))

    for i, (block, name, values) in enumerate(found):
        kind, shape, *_ = PARTS[name]
        key = {"positions": f"positions, {c.position}", "pooled": f"pooled, {c.pool}"}.get(name, name)
        low, high, beyond = scale(values)
        stage = {"block": block, "name": name, "kind": kind, "shape": f"{shape} = {(1, *values.shape)}"}
        stage |= {"code": code_of(name), "text": TEXTS[key].format(block=block + 1, **facts)}
        stage |= {"scale": [low, high], "beyond": beyond}
        if kind in ("tokens", "sum", "bars"):
            matrix = values if values.ndim == 2 else values[None]
            rows, width = matrix.shape
            columns = min(width, DRAWN) if total > EXACT_BYTES and kind != "bars" else width
            statistics = torch.stack([matrix.mean(1), matrix.std(1, correction=0), matrix.norm(dim=1)], dim=1)
            stage |= {"rows": rows, "columns": columns, "width": width, "facts": put(statistics)}
            if kind == "sum":
                stage["before"] = i - (2 if name == "+ positions" else 4)
            else:
                stage["at"] = put(matrix[:, :columns])
        stages.append(stage)
    return stages, torch.cat(parts)


def scale(values):
    """`(low, high, beyond)`: where the colours of a stage end, and the share of its values that lie beyond.

    0 is the middle where the values go both ways. A few values far out must not take the colour from all others, so the
    colours end at 2.5 times the root mean square.
    """
    end = 2.5 * values.square().mean().sqrt().item()
    low, high = max(values.min().item(), -end), min(values.max().item(), end)
    if low < 0 < high and -low > high / 4:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        low, high = low - 1, high + 1
    return low, high, ((values < low) | (values > high)).float().mean().item()
