"""Two large drawings: the whole ViT on one image (notebook 05), and the encoder block as a road map (04)."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from .layers import patchify
from .model import normalise
from .plots import COLOURS, draw_attention, draw_grid, figure, to_picture

GREY, DARK = "#555555", "#333333"


def vit_pipeline(model, image):
    """Every stage of a ViT with a class token on one uint8 image `(C, Y, X)`, drawn with the model's own numbers.

    Token matrices have a row for each token and a column for each number, every matrix on its own colour scale; the
    class token's row is framed.
    """
    canvas = Canvas(9.5, 6.15)
    with torch.no_grad():
        x = normalise(image[None], model.config)
        patches = model.patch_embed(x)[0]  # (N, D)
        maps = model.attention_maps(x)[:, 0].mean(dim=1)  # (L, 1 + N, 1 + N), mean over the heads
        streams = [model.embed(x)]
        for block in model.blocks:
            streams.append(block(streams[-1]))  # (1, 1 + N, D)
        cls = model.norm(streams[-1])[0, :1]  # (1, D)
        share = model.head(cls)[0].softmax(dim=0)  # (num_classes,)
    draw_embedding(canvas, model, image, patches, streams[0][0])
    left = draw_blocks(canvas, model, image, streams, maps)
    draw_answer(canvas, left, cls, share, model.config.classes)
    return canvas.fig


class Canvas:
    """A figure of `width` x `height` inches, in which everything is placed in inches from its bottom left corner."""

    def __init__(self, width, height):
        self.width, self.height, self.fig = width, height, Figure(figsize=(width, height))

    def place(self, left, bottom, wide, high):
        ax = self.fig.add_axes((left / self.width, bottom / self.height, wide / self.width, high / self.height))
        ax.set_axis_off()
        return ax

    def write(self, x, y, text, **style):
        self.fig.text(x / self.width, y / self.height, text, **{"ha": "center", "va": "top", "fontsize": 9, **style})

    def join(self, x, y, sign, name):
        """A sign between two pictures, and what happens there."""
        self.write(x, y, sign, fontsize=18, va="center", color=GREY)
        self.write(x, y + 0.25, name, fontsize=7.5, color=GREY)

    def heat(self, place, values, framed):
        """Tokens `(n, D)`, at most 32 numbers of each, on the scale `spread` of `matrix`."""
        values, spread = values
        ax = self.place(*place)
        ax.imshow(values[:, :32].numpy(), aspect="auto", vmin=-spread, vmax=spread, interpolation="nearest")
        if framed:
            ax.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=3, transform=ax.transAxes))

    def matrix(self, left, bottom, side, tokens):
        """Tokens `(1 + N, D)`: the class token's row, framed, above the others."""
        spread = 2.5 * tokens.std().item()
        self.heat((left, bottom + side + 0.06, side, 0.14), (tokens[:1], spread), framed=True)
        self.heat((left, bottom, side, side), (tokens[1:], spread), framed=False)


def draw_embedding(canvas, model, image, patches, embedded):
    """The first row: image, patches, tokens, positions, and their sum."""
    P, (_, columns) = model.config.patch_size, model.config.grid
    N, D = patches.shape
    side, step, bottom = 1.4, 1.95, 4.2
    lefts = [0.15 + step * i for i in range(5)]
    draw_grid(canvas.place(lefts[0], bottom, side, side), image, P)
    ax, gap, rows = canvas.place(lefts[1], bottom, side, side), P + max(1.0, P / 3), N // columns
    flat = patchify(image[None], P)[0]  # (N, C*P*P)
    for n, patch in enumerate(flat):
        row, column = divmod(n, columns)
        extent = (column * gap, column * gap + P, row * gap + P, row * gap)
        ax.imshow(to_picture(patch.reshape(-1, P, P)), extent=extent, interpolation="nearest")
    ax.set(xlim=(0, columns * gap), ylim=(rows * gap, 0))
    canvas.matrix(lefts[2], bottom, side, torch.cat([model.cls_token[0].detach(), patches]))
    canvas.matrix(lefts[3], bottom, side, model.pos_embed[0].detach())
    canvas.matrix(lefts[4], bottom, side, embedded)
    texts = (
        ("image", f"{tuple(image.shape)}"),
        ("patches", f"({N}, {flat.shape[1]})"),
        ("class token + patch tokens", f"({1 + N}, {D})"),
        ("positions", f"({1 + N}, {D})"),
        ("embedded tokens", f"({1 + N}, {D})"),
    )
    for left, (title, shape) in zip(lefts, texts, strict=True):
        canvas.write(left + side / 2, bottom + side + 0.46, title, weight="bold")
        canvas.write(left + side / 2, bottom - 0.07, shape, color=GREY)
    for left, sign, name in zip(lefts, "→→+=", ("cut", "Linear", "", ""), strict=False):
        canvas.join(left + (side + step) / 2, bottom + side / 2, sign, name)


def draw_blocks(canvas, model, image, streams, maps):
    """The second row: the tokens after four of the blocks, and where the class token looks; returns where it ends."""
    L, D, small, step, bottom = model.config.depth, model.config.embed_dim, 1.2, 1.5, 2.05
    shown = torch.linspace(1, L, min(L, 4)).round().int().tolist()
    for i, number in enumerate(shown):
        left = 0.15 + step * i
        canvas.write(left + small / 2, bottom + small + 0.43, f"after block {number}", weight="bold")
        canvas.matrix(left, bottom, small, streams[number][0])
        draw_attention(canvas.place(left, 0.42, small, small), image, maps[number - 1, 0, 1:], model.config.grid)
        canvas.join(left + (small + step) / 2 + 0.06 * (number == L), bottom + small / 2, "→", "norm" * (number == L))
    text = "Above: the tokens. Below: where the class token looks in that block (bright: much)."
    canvas.write(0.15, 0.34, text, ha="left", color=GREY)
    canvas.write(9.35, 0.34, f"Drawn: the first {min(D, 32)} of a token's {D} numbers.", ha="right", color=GREY)
    return 0.15 + step * len(shown) + 0.12


def draw_answer(canvas, left, cls, share, classes):
    """The end: the class token `(1, D)` after the last norm, and the ten highest probabilities."""
    small, bottom = 1.2, 2.05
    canvas.heat((left, bottom + small / 2 - 0.08, 0.95, 0.16), (cls, 2.5 * cls.std().item()), framed=True)
    canvas.write(left + 0.48, bottom + small / 2 + 0.45, "class token", weight="bold")
    canvas.write(left + 0.48, bottom + small / 2 - 0.17, f"(1, {cls.shape[1]})", color=GREY)
    canvas.join(left + 1.1, bottom + small / 2, "→", "head")
    ax = canvas.place(left + 2.0, 0.42, 9.35 - left - 2.0 - 0.35, bottom + small - 0.42 + 0.2)
    best = share.argsort(descending=True)[:10].tolist()
    names = classes or [f"class {i}" for i in range(len(share))]
    ax.barh(range(len(best)), share[best], color=[COLOURS[1]] + [COLOURS[0]] * (len(best) - 1))
    ax.set_axis_on()
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks(range(len(best)), [names[i] for i in best], fontsize=9, parse_math=False)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    for i, index in enumerate(best):
        ax.text(share[index], i, f" {100 * share[index]:.0f} %", va="center", fontsize=9)
    canvas.write(left + 2.0 + 0.4, bottom + small + 0.43, "logits, as probabilities", weight="bold")


# ------------------------------------------------------------------------------------------ the encoder block

ROAD, BRANCH = 0.8, 2.0  # where the residual stream and its detours run
NORM, DROP = ("Layer-\nNorm", "#E69F00"), ("Drop-\nPath", "#BBBBBB")
ATTENTION = [("Multi-head\nattention", "#56B4E9"), DROP]
MLP = [("Linear\nD → 4D", "#5FC3A2"), ("GELU", "#5FC3A2"), ("Linear\n4D → D", "#5FC3A2"), DROP]


def encoder_block(post_norm=False):
    """The encoder block as a road map: the residual stream is the highway, attention and MLP are detours.

    Pre-norm as in `layers.EncoderBlock`; with `post_norm` the norms stand on the highway, as in Vaswani et al. 2017.
    """
    fig, ax = figure(9.5, 2.75)
    ax.set_axis_off()
    ax.set(xlim=(0, 9.5), ylim=(0.1, 2.85), aspect="equal")
    ax.add_patch(Rectangle((0.95, ROAD - 0.16), 7.55, 0.32, facecolor="#C9DDED", edgecolor="none", zorder=1))
    ax.add_patch(Polygon([(8.5, ROAD + 0.3), (8.75, ROAD), (8.5, ROAD - 0.3)], facecolor="#C9DDED", zorder=1))
    ax.plot([1.0, 8.55], [ROAD, ROAD], color="white", linewidth=1.6, dashes=(5, 4), zorder=2)
    first, second = ((1.25, 3.35), (4.55, 7.4)) if post_norm else ((1.25, 3.85), (4.2, 8.2))
    for (left, right), parts, title in ((first, ATTENTION, "tokens exchange"), (second, MLP, "each token alone")):
        draw_detour(ax, left, right, parts if post_norm else [NORM, *parts], title)
        if post_norm:
            draw_box(ax, right + 0.62, ROAD, *NORM)
    style = {"ha": "center", "va": "top", "fontsize": 10, "color": COLOURS[0], "weight": "bold"}
    ax.text(sum(first) / 2, ROAD - 0.3, "residual stream", **style)
    cells = torch.linspace(0, 1, 20)[torch.randperm(20, generator=torch.Generator().manual_seed(3))].reshape(5, 4)
    for left, text in ((0.25, "tokens in\n(N, D)"), (8.8, "tokens out\n(N, D)")):
        ax.imshow(cells.numpy(), extent=(left, left + 0.56, ROAD - 0.35, ROAD + 0.35), cmap="viridis", zorder=5)
        ax.text(left + 0.28, ROAD - 0.42, text, ha="center", va="top", fontsize=8.5)
        cells = cells.flip(0, 1).sqrt()
    ax.set(xlim=(0, 9.5), ylim=(0.1, 2.85))
    return fig


def draw_box(ax, x, y, text, colour, width=0.68):
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": colour, "edgecolor": "white", "zorder": 5}
    ax.add_patch(FancyBboxPatch((x - width / 2, y - 0.3), width, 0.6, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=8.5, zorder=6)


def draw_detour(ax, left, right, parts, title):
    """A branch that leaves the residual stream at `left` and is added to it at `right`."""
    ax.plot([left, left], [ROAD, BRANCH], color=DARK, linewidth=1.6, zorder=3)
    ax.plot(left, ROAD, "o", color=DARK, markersize=6, zorder=4)
    ax.plot([left, right, right], [BRANCH, BRANCH, BRANCH], color=DARK, linewidth=1.6, zorder=3)
    style = {"arrowstyle": "-|>", "color": DARK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    ax.annotate("", (right, ROAD + 0.17), (right, BRANCH), arrowprops=style, zorder=4)
    ax.plot(right, ROAD, "o", color="white", markeredgecolor=DARK, markeredgewidth=1.6, markersize=17, zorder=4)
    ax.text(right, ROAD - 0.015, "+", ha="center", va="center", fontsize=14, zorder=6)
    widths = [0.92 if "head" in text else 0.68 for text, _ in parts]
    gap, x = (right - left - sum(widths)) / (len(parts) + 1), left
    for (text, colour), width in zip(parts, widths, strict=True):
        draw_box(ax, x + gap + width / 2, BRANCH, text, colour, width)
        x += gap + width
    ax.text((left + right) / 2, BRANCH + 0.45, title, ha="center", va="bottom", fontsize=10, weight="bold")
