"""The notebooks of the course, and the map that each of them shows."""

import textwrap

from matplotlib.patches import Rectangle

from .plots import COLOURS, figure, show

TITLES = (
    "Start here",
    "Patch embedding",
    "Positional encoding",
    "Attention",
    "Encoder block",
    "Vision Transformer",
    "Training",
    "When training fails",
    "Small data",
    "Fine-tuning",
    "Looking inside",
    "Making it fast",
    "Your own images",
    "The modern ViT",
    "Learning without labels",
    "A label for every patch",
    "Pictures and words",
)


def course_map(here):
    """A `Figure`: the notebooks as a path, with number `here` lit."""
    fig, ax = figure(9.5, 1.75)
    ax.set_axis_off()
    upper = (len(TITLES) + 1) // 2  # boxes in the upper row; the lower one, as long or shorter by one, is centred
    ax.set(xlim=(-0.05, upper), ylim=(-1.05, 1.02))
    for number, title in enumerate(TITLES):
        x, y = (number, 0.0) if number < upper else (number - len(TITLES) / 2, -1.0)
        face = COLOURS[0] if number == here else "#D6E6F2" if number < here else "#EEEEEE"
        ink = "white" if number == here else "black"
        ax.add_patch(Rectangle((x, y), 0.94, 0.86, facecolor=face, edgecolor="none"))
        ax.text(x + 0.06, y + 0.72, f"{number:02d}", color=ink, fontsize=8, va="top", weight="bold")
        style = {"weight": "bold" if number == here else None, "ha": "center", "va": "center"}
        ax.text(x + 0.47, y + 0.34, "\n".join(textwrap.wrap(title, 12)), color=ink, fontsize=8.5, **style)
    return fig


def show_map(here):
    """Display the course map with notebook `here` lit."""
    show(course_map(here), f"Course map, a box for each notebook; you are in {here:02d}, {TITLES[here]}.")
