"""What the learner has passed, remembered in one small JSON file on this machine. Nothing is sent anywhere.

The file is `progress.json` in `~/.vit-tutorial`, or in the folder that the environment variable VIT_TUTORIAL_HOME
names. It may be read, edited and deleted; where it cannot be written, a pass is remembered as long as the kernel lives.
"""

import json
from datetime import date

from ..files import atomic_path, home

DEMONSTRATED = {"token_count"}  # notebook 00 answers it itself
unsaved = {}  # exercise -> day: what no file would take


def path():
    """Where the file is, or would be."""
    return home() / "progress.json"


def read():
    """What the file says, `{exercise: day}`: empty where there is none, None where it is damaged."""
    try:
        return {str(name): str(day) for name, day in json.loads(path().read_text("utf-8"))["passed"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return {}


def passed():
    """`{exercise: "2026-01-31"}`: what has passed, and on which day for the first time."""
    return (read() or {}) | unsaved


def remember(exercise):
    """Note that an exercise has passed today, if it has not before. A damaged file is put aside as `.damaged`."""
    if exercise in passed():
        return
    unsaved[exercise] = date.today().isoformat()
    try:
        if read() is None:
            path().replace(path().with_suffix(".damaged"))
        with atomic_path(path()) as temporary:
            temporary.write_text(json.dumps({"passed": passed()}, indent=1) + "\n", "utf-8")
        unsaved.clear()
    except (OSError, RuntimeError):
        pass  # a home that cannot be written: this kernel still remembers


def forget():
    """Delete the file, and all that this kernel remembers; prints what it did."""
    unsaved.clear()
    try:
        path().unlink()
        print(f"Deleted {path()}.")
    except (OSError, RuntimeError):
        print("Nothing was stored.")


def rows(days, exercises):
    """`{number of a notebook: [whether each of its exercises is in days, ...]}`."""
    return {number: [name in days for name in names if name not in DEMONSTRATED] for number, names in exercises.items()}


def summary(ticks):
    return f"{sum(map(sum, ticks.values()))} of {sum(map(len, ticks.values()))} checks passed"


def progress_map(ticks):
    """A `Figure`: a row for each notebook, and in it a box for each exercise, ticked as `rows` says."""
    from matplotlib.patches import Rectangle

    from ..course import TITLES
    from ..plots import COLOURS, figure

    right = 8.2 + max(map(len, ticks.values()))
    fig, ax = figure(0.46 * right, 0.33 * len(ticks) + 0.5)
    ax.set_axis_off()
    ax.set(xlim=(0, right), ylim=(-0.6, len(ticks) - 0.35))
    ax.set_title(summary(ticks), loc="left", fontsize=11)
    for y, (number, done) in enumerate(reversed(ticks.items())):
        ax.text(0, y, f"{number:02}", va="center", weight="bold", color=COLOURS[0])
        ax.text(0.9, y, TITLES[number], va="center", fontsize=9.5)
        for x, tick in enumerate(done, start=6):
            style = {"facecolor": COLOURS[0] if tick else "white", "edgecolor": COLOURS[0] if tick else "#767676"}
            ax.add_patch(Rectangle((x, y - 0.36), 0.8, 0.72, linewidth=1.2, **style))
            if tick:  # a shape as well as a colour
                line = ([x + 0.18, x + 0.35, x + 0.64], [y, y - 0.18, y + 0.2])
                ax.plot(*line, color="white", linewidth=2.2, solid_capstyle="round")
        style = {"weight": "bold", "color": COLOURS[0]} if all(done) else {"color": "#444444"}
        ax.text(right - 0.1, y, f"{sum(done)} of {len(done)}", va="center", ha="right", fontsize=9, **style)
    return fig


def show(exercises):
    """Display the map of what has passed, with a text for readers who do not see it.

    `exercises` is `{number of a notebook: names of its exercises}`.
    """
    from .. import course, plots

    ticks = rows(passed(), exercises)
    lines = "; ".join(f"{n:02} {course.TITLES[n]} {sum(done)} of {len(done)}" for n, done in ticks.items())
    plots.show(progress_map(ticks), f"Your progress: {summary(ticks)}. By notebook: {lines}.")
