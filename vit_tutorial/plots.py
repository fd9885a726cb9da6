"""Static figures, and what draws into them; `show(figure, alt)` puts a matplotlib `Figure` into a notebook.

Colour maps survive colour blindness (viridis, cividis; lines in Okabe & Ito's colours), and every figure has alt text.
"""

import io
import math

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

DISPLAY_DPI = 96  # CSS pixels an inch
SHARPNESS = 1.25  # image pixels a CSS pixel
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def figure(width=7.0, height=3.0, rows=1, columns=1, **kwargs):
    """An empty figure of `width` x `height` inches and its axes, in the course's style."""
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, **kwargs)
    for ax in fig.axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_prop_cycle(color=COLOURS)
    return fig, axes


def png(fig):
    """The figure as PNG bytes, in 256 colours of its own: a third of the size, and hardly a difference to see."""
    full, small = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=DISPLAY_DPI * SHARPNESS)
    colours = Image.open(full).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colours.save(small, format="png", optimize=True)
    return small.getvalue()


def show(fig, alt):
    """Display a figure in the notebook, with `alt` for readers who do not see it."""
    from IPython.display import display

    width = round(fig.get_figwidth() * DISPLAY_DPI)
    data = {"image/png": png(fig), "text/plain": f"[figure] {alt}"}
    display(data, metadata={"image/png": {"alt": alt, "width": width}}, raw=True)


def to_picture(image):
    """An image `(C, Y, X)` as an array `(Y, X, C)` in 0..1: uint8 divided by 255, floats clipped."""
    image = image.detach().cpu()
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float().clamp(0, 1)
    return image.permute(1, 2, 0).numpy() if image.shape[0] > 1 else image[0].numpy()


def draw_image(ax, image, title=None):
    """An image `(C, Y, X)` without axes, pixels kept sharp."""
    ax.imshow(to_picture(image), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title, fontsize=9, parse_math=False)  # a class may be called $5


def image_grid(images, titles=None, columns=8, size=1.0):
    """Images `(n, C, Y, X)` in rows of `columns`, each `size` inches, with titles."""
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    fig, axes = figure(columns * size, rows * (size + (0.25 if titles else 0)), rows, columns, squeeze=False)
    for ax in axes.flat[len(images) :]:
        ax.set_axis_off()
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        draw_image(ax, image, titles and titles[i])
    return fig


def draw_grid(ax, image, patch_size, colour="white"):
    """An image `(C, Y, X)` with the borders of its patches drawn over it."""
    draw_image(ax, image)
    Y, X = image.shape[1:]
    ax.vlines([x - 0.5 for x in range(0, X + 1, patch_size)], -0.5, Y - 0.5, colour, linewidth=1)
    ax.hlines([y - 0.5 for y in range(0, Y + 1, patch_size)], -0.5, X - 0.5, colour, linewidth=1)


def draw_matrix(
    ax, matrix, title=None, rows=None, columns=None, numbers=None, decimals=2, colour_map="viridis", **limits
):
    """A matrix as a heat map. Rows and columns may be named; numbers are written in where there are at most 64."""
    matrix = torch.as_tensor(matrix).detach().cpu().float()
    image = ax.imshow(matrix.numpy(), cmap=colour_map, **limits)
    ax.spines[:].set_visible(False)
    ax.set_xticks(range(matrix.shape[1]) if columns else [], columns or [], parse_math=False)
    ax.set_yticks(range(matrix.shape[0]) if rows else [], rows or [], parse_math=False)
    ax.tick_params(length=0)
    if title is not None:
        ax.set_title(title, fontsize=10)
    if numbers if numbers is not None else matrix.numel() <= 64:
        for (i, j), value in zip(
            torch.cartesian_prod(*map(torch.arange, matrix.shape)).tolist(), matrix.flatten(), strict=True
        ):
            red, green, blue, _ = image.cmap(image.norm(value.item()))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            ax.text(
                j, i, f"{value:.{decimals}f}", ha="center", va="center", fontsize=9, color="white" if dark else "black"
            )
    return image


def draw_attention(ax, image, weights, grid, title=None, query=None, colour_map="viridis"):
    """Attention `(N,)` over the patches of an image `(C, Y, X)`: bright where it is high. `query` marks a patch."""
    rows, columns = grid
    Y, X = image.shape[1:]
    draw_image(ax, image, title)
    heat = weights.detach().cpu().float().reshape(rows, columns)
    heat = heat / heat.max().clamp_min(1e-12)
    alpha = 0.15 + 0.65 * heat.sqrt()
    extent = (-0.5, X - 0.5, Y - 0.5, -0.5)
    ax.imshow(heat.numpy(), cmap=colour_map, alpha=alpha.numpy(), extent=extent, interpolation="nearest")
    if query is not None:
        row, column = divmod(query, columns)
        height, width = Y / rows, X / columns
        corner = (column * width - 0.5, row * height - 0.5)
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#D55E00", linewidth=2.5))


def training_curve(history):
    """Loss of every step, test accuracy, and learning rate of a `History`, side by side over the run's progress."""
    fig, (left, middle, right) = figure(9, 2.6, 1, 3)
    loss = torch.tensor(history.steps["loss"])
    epochs = [entry for entry in history.epochs if entry["test_accuracy"] is not None]
    steps = range(1, len(loss) + 1)
    left.plot(steps, loss, linewidth=0.6, alpha=0.4)
    if len(loss) >= 20:
        window = max(len(loss) // 50, 5)
        smooth = loss.unfold(0, window, 1).mean(1)
        left.plot(range(window, len(loss) + 1), smooth, color=COLOURS[0], linewidth=1.8)
    left.set(xlabel="step", title="training loss")
    if epochs:
        accuracy = [100 * entry["test_accuracy"] for entry in epochs]
        middle.plot([entry["epoch"] for entry in epochs], accuracy, "o-", color=COLOURS[1], markersize=4)
        middle.annotate(
            f"{accuracy[-1]:.1f} %",
            (epochs[-1]["epoch"], accuracy[-1]),
            (0, -16),
            textcoords="offset points",
            ha="center",
        )
    middle.set(xlabel="epoch", title="test accuracy (%)", ylim=(0, 100))
    right.plot(steps, history.steps["learning_rate"], color=COLOURS[2])
    right.set(xlabel="step", title="learning rate")
    for ax in (left, middle, right):
        ax.title.set_fontsize(10)
    return fig


def confusion_matrix(labels, predictions, classes):
    """How often each class (rows) was taken for each class (columns), in per cent of the row."""
    C = len(classes)
    counts = torch.bincount(labels * C + predictions, minlength=C * C).reshape(C, C).float()
    fig, ax = figure(1.6 + 0.55 * C, 1.2 + 0.45 * C)
    share = 100 * counts / counts.sum(1, keepdim=True).clamp_min(1)
    draw_matrix(ax, share, rows=classes, columns=classes, numbers=C <= 12, decimals=0, colour_map="cividis")
    ax.tick_params(axis="x", rotation=45)
    ax.set(xlabel="predicted", ylabel="true")
    return fig
