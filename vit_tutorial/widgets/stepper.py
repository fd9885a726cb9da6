"""EncoderStepper: one image's way through a Vision Transformer, stage by stage."""

from textwrap import shorten

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional as F
from traitlets import Bool, Bytes, Dict, Float, Int, List, Unicode, validate

from ..layers import patchify
from ..model import normalise
from ..plots import COLOURS, draw_attention, draw_grid, draw_matrix
from .attention import EXACT_BYTES
from .explorer import Explorer, module

DRAWN = 64  # numbers of each token that are sent where all would be more than EXACT_BYTES
BARS = 10  # classes drawn at the end

# What a stage is called, what it is, its shape, the package's line that computes it, and what happens in it.
EMBEDDING = {
    "image": ("image", "(B, C, Y, X)", "normalise(image[None], model.config)"),
    "patches": ("tokens", "(B, N, C·P·P)", "patchify(images, {P})"),
    "tokens": ("tokens", "(B, N, D)", "x = self.patch_embed(images)"),
    "class token": (
        "tokens",
        "(B, N, D)",
        "x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)",
    ),
    "positions": ("tokens", "(1, N, D)", "self.pos_embed"),
    "+ positions": ("sum", "(B, N, D)", "self.pos_drop(x + self.pos_embed.to(x.dtype))"),
}
BLOCK = {
    "norm 1": ("tokens", "(B, N, D)", "self.norm1(x)"),
    "attention weights": ("attention", "(B, H, N, N)", "weights = scores.softmax(dim=-1)"),
    "mixture": ("tokens", "(B, N, D)", "mixed = self.attn(self.norm1(x), return_attention)"),
    "+ mixture": ("sum", "(B, N, D)", "x = x + self.drop_path(self.drop(mixed))"),
    "norm 2": ("tokens", "(B, N, D)", "self.norm2(x)"),
    "MLP, hidden": ("tokens", "(B, N, hidden)", "x = self.drop(self.act(self.fc1(x)))"),
    "MLP": ("tokens", "(B, N, D)", "self.drop(self.fc2(x))"),
    "+ MLP": ("sum", "(B, N, D)", "x = x + self.drop_path(self.mlp(self.norm2(x)))"),
}
ANSWER = {
    "final norm": ("tokens", "(B, N, D)", "self.norm(x)"),
    "pooled": ("tokens", "(B, D)", "{pool}"),
    "logits": ("bars", "(B, num_classes)", "self.head({pool})"),
    "probabilities": ("bars", "(B, num_classes)", "logits.softmax(dim=-1)"),
}
PARTS = EMBEDDING | BLOCK | ANSWER
POOLS = {"cls": "x[:, 0]", "mean": "x.mean(dim=1)"}
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


def walk(model, images):
    """Every stage of the images' way `(B, C, Y, X)` through the model, as `(block, name, values)` with block from 0.

    The block is -1 before the first and L after the last. The model is read as in eval mode.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return list(_walk(model, images))
    finally:
        model.train(training)


def _walk(model, images):
    yield -1, "image", images
    yield -1, "patches", patchify(images, model.config.patch_size)
    x = model.patch_embed(images)
    yield -1, "tokens", x
    if model.cls_token is not None:
        x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)
        yield -1, "class token", x
    yield -1, "positions", model.pos_embed.detach()
    x = x + model.pos_embed
    yield -1, "+ positions", x
    for index, block in enumerate(model.blocks):
        normed = block.norm1(x)
        mixed, weights = block.attn(normed, return_attention=True)
        x = x + mixed
        yield from [(index, name, v) for name, v in zip(BLOCK, (normed, weights, mixed, x), strict=False)]
        normed = block.norm2(x)
        hidden = block.mlp.act(block.mlp.fc1(normed))
        out = block.mlp.fc2(hidden)
        x = x + out
        yield from [(index, name, v) for name, v in zip(list(BLOCK)[4:], (normed, hidden, out, x), strict=True)]
    x = model.norm(x)
    pooled = x[:, 0] if model.cls_token is not None else x.mean(dim=1)
    logits = model.head(pooled)
    yield from [
        (index + 1, name, v) for name, v in zip(ANSWER, (x, pooled, logits, logits.softmax(dim=-1)), strict=True)
    ]


class EncoderStepper(Explorer):
    """Walk one image through a Vision Transformer: every stage with its shape, its values and its line of code.

        EncoderStepper(model, image)    # a VisionTransformer, a uint8 image (3, Y, X)

    What is shown can be read and set: `stage` is an index into `names`, `token` one into the tokens of the blocks, 0
    being the class token where there is one. All numbers are sent as float32, with two exceptions: where they would be
    more than 2 MB, only the first 64 of each token, and the attention weights with 4 bits each. The statistics are
    those of the whole token; the standard deviation divides by D, as LayerNorm does.
    Raises `ValueError` for an image that is not uint8 `(3, Y, X)` or of another size than the model's, and for a stage
    or token that is not there.
    """

    _esm = module("stepper.js")

    data = Bytes().tag(sync=True)  # float32: values and statistics, where `stages` says
    weights = Bytes().tag(sync=True)  # (L, H, N, N) float32; or two to a byte, with scales: (code / 15)² · scale
    scales = Bytes().tag(sync=True)  # (L, H, N) float32: the largest weight of each row
    shape = List(Int()).tag(sync=True)  # L, H, N
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
        if image.ndim != 3 or len(image) != 3 or image.dtype != torch.uint8:
            raise ValueError(
                f"expected one uint8 image (3, Y, X), found {image.dtype} {tuple(image.shape)}; "
                "take one of a batch with images[0]"
            )
        c, device = model.config, next(model.parameters()).device
        found = [
            (block, name, values[0].float().cpu())
            for block, name, values in walk(model, normalise(image[None].to(device), c))
        ]
        self._image, self._values = image.cpu(), [values for _, _, values in found]
        self.names = [f"block {block + 1}, {name}" if name in BLOCK else name for block, name, _ in found]
        attention = torch.stack([values for _, name, values in found if name == "attention weights"])  # (L, H, N, N)
        L, H, N, _ = attention.shape
        classes = list(c.classes) or [f"class {i}" for i in range(c.num_classes)]
        logits = self._values[-2]
        best = logits.argmax().item()
        facts = {
            "Y": image.shape[1],
            "X": image.shape[2],
            "P": c.patch_size,
            "D": c.embed_dim,
            "H": H,
            "patches": c.grid[0] * c.grid[1],
            "pixels": 3 * c.patch_size**2,
            "hidden": model.blocks[0].mlp.fc1.out_features,
            "pool": POOLS[c.pool],
            "best": classes[best],
            "share": 100 * self._values[-1][best].item(),
        }
        stages, data = describe(found, c, facts)
        weights, scales = attention, b""
        if 4 * attention.numel() > EXACT_BYTES:
            highest = attention.amax(dim=-1, keepdim=True)
            codes = (attention / highest.clamp_min(1e-12)).sqrt_().mul_(15).round_().to(torch.uint8)
            codes = F.pad(codes, (0, N % 2))
            weights, scales = codes[..., ::2] * 16 + codes[..., 1::2], highest.numpy().astype("<f4").tobytes()
        self._prefix = int(model.cls_token is not None)
        middle = self._prefix + c.grid[0] // 2 * c.grid[1] + c.grid[1] // 2
        super().__init__(
            data=data.numpy().astype("<f4").tobytes(),
            weights=weights.numpy().tobytes(),
            scales=scales,
            shape=[L, H, N],
            stages=stages,
            grid=list(c.grid),
            pixels=self._image.permute(1, 2, 0).contiguous().numpy().tobytes(),
            size=list(image.shape[1:]),
            mean=torch.tensor(c.mean).tolist(),
            std=torch.tensor(c.std).tolist(),
            classes=classes,
            **{"token": middle} | view,
        )

    @validate("stage", "token")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        count = len(self.names) if name == "stage" else self._prefix + self._values[2].shape[0]
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
        ax, patch = left.subplots(), self.token - self._prefix
        draw_grid(ax, self._image, self.size[0] // self.grid[0], "#FFFFFF60")
        if patch >= 0:
            y, x = divmod(patch, self.grid[1])
            high, wide = self.size[0] / self.grid[0], self.size[1] / self.grid[1]
            place = (x * wide - 0.5, y * high - 0.5)
            ax.add_patch(Rectangle(place, wide, high, fill=False, edgecolor=COLOURS[1], linewidth=2.5, zorder=3))
        right.suptitle(f"{name}  {stage['shape']}", fontsize=10)
        low, high = stage["scale"]
        if stage["kind"] == "attention":
            tiles = right.subplots(-(-len(values) // 6), min(len(values), 6), squeeze=False).flatten()
            for tile in tiles:
                tile.set_axis_off()
            for h, weights in enumerate(values[:, self.token, self._prefix :]):
                draw_attention(tiles[h], self._image, weights, self.grid, f"head {h + 1}")
        elif stage["kind"] == "bars":
            best = self._values[-2].argsort(descending=True)[:BARS].tolist()
            ax = right.subplots()
            ax.barh(range(len(best)), values[best].tolist(), color=[COLOURS[1]] + [COLOURS[0]] * (len(best) - 1))
            names = [shorten(self.classes[i], 24, placeholder="…") for i in best]
            ax.set_yticks(range(len(best)), names, parse_math=False)
            ax.spines[["top", "right"]].set_visible(False)
            ax.invert_yaxis()
        elif stage["kind"] == "image":
            for ax, channel, title in zip(right.subplots(1, 3), values, ("red", "green", "blue"), strict=True):
                drawn = draw_matrix(ax, channel, title, numbers=False, vmin=low, vmax=high)
            right.colorbar(drawn, ax=right.axes, shrink=0.7)
        else:
            ax = right.subplots()
            matrix = values[: stage["rows"]] if values.ndim == 2 else values[None]
            drawn = draw_matrix(ax, matrix[:, : stage["columns"]], numbers=False, vmin=low, vmax=high, aspect="auto")
            ax.set(xlabel="numbers", ylabel="tokens")
            right.colorbar(drawn, ax=ax)
        return fig, f"{name[0].upper()}{name[1:]}, {stage['shape']}: {stage['text']}"


def describe(found, config, facts):
    """What the page needs to know of each stage, and all the numbers in one row `(numbers,)`."""
    sent = {"tokens", "bars"}  # the others follow from these in the page, to the last bit
    total = sum(4 * values.numel() for _, name, values in found if PARTS[name][0] in sent)
    stages, parts, end = [], [], 0

    def put(values):
        nonlocal end
        parts.append(values.flatten())
        end += values.numel()
        return end - values.numel()

    for i, (block, name, values) in enumerate(found):
        kind, shape, code = PARTS[name]
        key = {"positions": f"positions, {config.position}", "pooled": f"pooled, {config.pool}"}.get(name, name)
        low, high, beyond = scale(values)
        stage = {
            "block": block,
            "name": name,
            "kind": kind,
            "shape": f"{shape} = {(1, *values.shape)}",
            "code": code.format(**facts),
            "text": TEXTS[key].format(block=block + 1, **facts),
            "scale": [low, high],
            "beyond": beyond,
        }
        if kind in ("tokens", "sum", "bars"):
            matrix = values if values.ndim == 2 else values[None]
            rows, width = matrix.shape
            columns = min(width, DRAWN) if total > EXACT_BYTES and kind != "bars" else width
            statistics = torch.stack([matrix.mean(1), matrix.std(1, correction=0), matrix.norm(dim=1)], dim=1)
            stage |= {"rows": rows, "columns": columns, "width": width, "facts": put(statistics)}
            stage |= (
                {"before": i - (2 if name == "+ positions" else 4)}
                if kind == "sum"
                else {"at": put(matrix[:, :columns])}
            )
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
