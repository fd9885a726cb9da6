"""Two large drawings: the whole ViT on one image (notebook 05), and the encoder block as a road map (04)."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from .layers import patchify
from .model import normalise
from .plots import COLOURS, draw_attention, draw_grid, figure, to_picture


def vit_pipeline(model, image):
    """Every stage of a ViT with a class token on one uint8 image `(C, Y, X)`, drawn with the model's own numbers.

    Token matrices have a row for each token and a column for each number, every matrix on its own colour scale; the
    class token's row is framed.
    """
    P, L, (rows, columns) = model.config.patch_size, model.config.depth, model.config.grid
    with torch.no_grad():
        x = normalise(image[None], model.config)
        patches = model.patch_embed(x)[0]  # (N, D)
        maps = model.attention_maps(x)[:, 0].mean(dim=1)  # (L, 1 + N, 1 + N), mean over the heads
        streams = [model.embed(x)]
        for block in model.blocks:
            streams.append(block(streams[-1]))  # (1, 1 + N, D)
        cls = model.norm(streams[-1])[0, :1]  # (1, D)
        share = model.head(cls)[0].softmax(dim=0)  # (num_classes,)
    N, D = patches.shape
    drawn = min(D, 32)
    width, height = 9.5, 6.15
    fig = Figure(figsize=(width, height))

    def place(left, bottom, wide, high):
        ax = fig.add_axes((left / width, bottom / height, wide / width, high / height))
        ax.set_axis_off()
        return ax

    def write(x, y, text, **kwargs):
        fig.text(x / width, y / height, text, **{"ha": "center", "va": "top", "fontsize": 9, **kwargs})

    def join(x, y, sign, name):
        write(x, y, sign, fontsize=18, va="center", color="#555555")
        write(x, y + 0.25, name, fontsize=7.5, color="#555555")

    def heat(ax, values, spread, framed):
        ax.imshow(values[:, :drawn].numpy(), aspect="auto", vmin=-spread, vmax=spread, interpolation="nearest")
        if framed:
            ax.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=3, transform=ax.transAxes))

    def matrix(left, bottom, side, tokens):
        spread = 2.5 * tokens.std().item()
        heat(place(left, bottom + side + 0.06, side, 0.14), tokens[:1], spread, framed=True)  # the class token
        heat(place(left, bottom, side, side), tokens[1:], spread, framed=False)

    side, step, bottom = 1.4, 1.95, 4.2
    lefts = [0.15 + step * i for i in range(5)]
    draw_grid(place(lefts[0], bottom, side, side), image, P)
    ax = place(lefts[1], bottom, side, side)
    gap = P + max(1.0, P / 3)
    for n, patch in enumerate(patchify(image[None], P)[0]):
        row, column = divmod(n, columns)
        extent = (column * gap, column * gap + P, row * gap + P, row * gap)
        ax.imshow(to_picture(patch.reshape(-1, P, P)), extent=extent, interpolation="nearest")
    ax.set(xlim=(0, columns * gap), ylim=(rows * gap, 0))
    matrix(lefts[2], bottom, side, torch.cat([model.cls_token[0].detach(), patches]))
    matrix(lefts[3], bottom, side, model.pos_embed[0].detach())
    matrix(lefts[4], bottom, side, streams[0][0])
    texts = (
        ("image", f"{tuple(image.shape)}"),
        ("patches", f"({N}, {patchify(image[None], P).shape[2]})"),
        ("class token + patch tokens", f"({1 + N}, {D})"),
        ("positions", f"({1 + N}, {D})"),
        ("embedded tokens", f"({1 + N}, {D})"),
    )
    for left, (title, shape) in zip(lefts, texts, strict=True):
        write(left + side / 2, bottom + side + 0.46, title, weight="bold")
        write(left + side / 2, bottom - 0.07, shape, color="#555555")
    for left, sign, name in zip(lefts, "→→+=", ("cut", "Linear", "", ""), strict=False):
        join(left + (side + step) / 2, bottom + side / 2, sign, name)

    small, step, bottom = 1.2, 1.5, 2.05
    shown = torch.linspace(1, L, min(L, 4)).round().int().tolist()
    for i, number in enumerate(shown):
        left = 0.15 + step * i
        write(left + small / 2, bottom + small + 0.43, f"after block {number}", weight="bold")
        matrix(left, bottom, small, streams[number][0])
        weights = maps[number - 1, 0, 1:]
        draw_attention(place(left, 0.42, small, small), image, weights, (rows, columns))
        join(left + (small + step) / 2, bottom + small / 2, "→", "norm" if number == L else "")
    write(
        0.15,
        0.34,
        "Above: the tokens. Below: where the class token looks in that block (bright: much).",
        ha="left",
        color="#555555",
    )
    write(9.35, 0.34, f"Drawn: the first {drawn} of a token's {D} numbers.", ha="right", color="#555555")
    left = 0.15 + step * len(shown)
    heat(place(left, bottom + small / 2 - 0.08, 0.95, 0.16), cls, 2.5 * cls.std().item(), framed=True)
    write(left + 0.48, bottom + small / 2 + 0.45, "class token", weight="bold")
    write(left + 0.48, bottom + small / 2 - 0.17, f"(1, {D})", color="#555555")
    join(left + 1.1, bottom + small / 2, "→", "head")
    ax = place(left + 2.0, 0.42, 9.35 - left - 2.0 - 0.35, bottom + small - 0.42 + 0.2)
    best = share.argsort(descending=True)[:10].tolist()
    names = model.config.classes or [f"class {i}" for i in range(len(share))]
    ax.barh(range(len(best)), share[best], color=[COLOURS[1]] + [COLOURS[0]] * (len(best) - 1))
    ax.set_axis_on()
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks(range(len(best)), [names[i] for i in best], fontsize=9, parse_math=False)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    for i, index in enumerate(best):
        ax.text(share[index], i, f" {100 * share[index]:.0f} %", va="center", fontsize=9)
    write(left + 2.0 + 0.4, bottom + small + 0.43, "logits, as probabilities", weight="bold")
    return fig


def encoder_block(post_norm=False):
    """The encoder block as a road map: the residual stream is the highway, attention and MLP are detours.

    Pre-norm as in `layers.EncoderBlock`; with `post_norm` the norms stand on the highway, as in Vaswani et al. 2017.
    """
    fig, ax = figure(9.5, 2.75)
    ax.set_axis_off()
    ax.set(xlim=(0, 9.5), ylim=(0.1, 2.85), aspect="equal")
    road, branch, dark = 0.8, 2.0, "#333333"
    norm, drop = ("Layer-\nNorm", "#E69F00"), ("Drop-\nPath", "#BBBBBB")
    attention = [("Multi-head\nattention", "#56B4E9"), drop]
    mlp = [("Linear\nD → 4D", "#5FC3A2"), ("GELU", "#5FC3A2"), ("Linear\n4D → D", "#5FC3A2"), drop]

    def box(x, y, text, colour, width=0.68, height=0.6):
        style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": colour, "edgecolor": "white", "zorder": 5}
        ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
        ax.text(x, y, text, ha="center", va="center", fontsize=8.5, zorder=6)

    def arrow(start, end):
        style = {"arrowstyle": "-|>", "color": dark, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
        ax.annotate("", end, start, arrowprops=style, zorder=4)

    def detour(left, right, parts, title):
        if not post_norm:
            parts = [norm, *parts]
        ax.plot([left, left], [road, branch], color=dark, linewidth=1.6, zorder=3)
        ax.plot(left, road, "o", color=dark, markersize=6, zorder=4)
        ax.plot([left, right, right], [branch, branch, branch], color=dark, linewidth=1.6, zorder=3)
        arrow((right, branch), (right, road + 0.17))
        ax.plot(right, road, "o", color="white", markeredgecolor=dark, markeredgewidth=1.6, markersize=17, zorder=4)
        ax.text(right, road - 0.015, "+", ha="center", va="center", fontsize=14, zorder=6)
        widths = [0.92 if "head" in text else 0.68 for text, _ in parts]
        gap = (right - left - sum(widths)) / (len(parts) + 1)
        x = left
        for (text, colour), width in zip(parts, widths, strict=True):
            box(x + gap + width / 2, branch, text, colour, width)
            x += gap + width
        ax.text((left + right) / 2, branch + 0.45, title, ha="center", va="bottom", fontsize=10, weight="bold")
        if post_norm:
            box(right + 0.62, road, *norm)

    ax.add_patch(Rectangle((0.95, road - 0.16), 7.55, 0.32, facecolor="#C9DDED", edgecolor="none", zorder=1))
    ax.add_patch(Polygon([(8.5, road + 0.3), (8.75, road), (8.5, road - 0.3)], facecolor="#C9DDED", zorder=1))
    ax.plot([1.0, 8.55], [road, road], color="white", linewidth=1.6, dashes=(5, 4), zorder=2)
    first, second = ((1.25, 3.35), (4.55, 7.4)) if post_norm else ((1.25, 3.85), (4.2, 8.2))
    detour(*first, attention, "tokens exchange")
    detour(*second, mlp, "each token alone")
    ax.text(
        sum(first) / 2,
        road - 0.3,
        "residual stream",
        ha="center",
        va="top",
        fontsize=10,
        color=COLOURS[0],
        weight="bold",
    )
    cells = torch.linspace(0, 1, 20)[torch.randperm(20, generator=torch.Generator().manual_seed(3))].reshape(5, 4)
    for left, text in ((0.25, "tokens in\n(N, D)"), (8.8, "tokens out\n(N, D)")):
        ax.imshow(cells.numpy(), extent=(left, left + 0.56, road - 0.35, road + 0.35), cmap="viridis", zorder=5)
        ax.text(left + 0.28, road - 0.42, text, ha="center", va="top", fontsize=8.5)
        cells = cells.flip(0, 1).sqrt()
    ax.set(xlim=(0, 9.5), ylim=(0.1, 2.85))
    return fig
