"""One HTML file on a run: what it was trained on, what the model gets right and what not, and how to repeat it.

The file runs nothing and loads nothing. What people have named, such as classes and files, is text in it, not markup.
"""

import base64
import html
import json
import math
import platform
import shlex
import warnings
from collections import Counter
from datetime import date
from pathlib import Path
from string import Template
from typing import NamedTuple

import torch

import vit_tutorial as vit  # vit.plots, vit.datasets and others load when a report first uses them

from . import answers, metrics, pictures, pixels
from .dense import SegmentationViT
from .files import atomic_path, expect_new
from .layers import image_sides

WORST, PAIRS, FILES, MISTAKES = 8, 4, 100, 40  # how many of each are shown
MOST_COLUMNS = 25  # classes, in a matrix that still fits a page
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BLUE, ORANGE = "0, 114, 178", "213, 94, 0"  # right and wrong
UNKNOWN = "not recorded"
PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>$title</title><style>
:root { color-scheme: light dark; --page: #fff; --text: #1b1f23; --soft: #57606a; --line: #c9d1d9; --box: #f3f5f7 }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #14171a; --text: #e6e8ea; --soft: #a3abb3; --line: #454d55; --box: #20252a } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 58rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; print-color-adjust: exact }
h1 { font-size: 1.7rem; line-height: 1.25 } h3 { margin: 1.5rem 0 .3rem }
h2 { margin: 2.5rem 0 .5rem; padding-top: .7rem; border-top: 1px solid var(--line) }
figcaption, caption { color: var(--soft); font-size: .9em; text-align: left }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 }
.number, .warning, pre { background: var(--box); border-radius: .4rem; padding: .7rem 1.2rem; margin: 0 }
.number { flex: 1 1 14rem } .number strong { display: block; font-size: 2rem; line-height: 1.2 }
.warning { border-left: .3rem solid rgb(213, 94, 0) } pre { white-space: pre-wrap; font-size: .85rem }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: min(100%, 24rem) }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: right; vertical-align: top;
  overflow-wrap: break-word; max-width: 16rem }
td { white-space: nowrap } .words td { white-space: normal } thead th { vertical-align: bottom }
th { background: var(--box) } th:first-child, .words td { text-align: left }
.matrix td { text-align: center; min-width: 2.4rem }
.upright thead th + th { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11rem; text-align: left }
figure { margin: 0; flex: 0 1 17.9rem; break-inside: avoid }
.pair { display: flex; gap: .25rem } .pair img { width: calc(50% - .125rem) }
img { height: auto; image-rendering: pixelated }
.curve { width: 100%; min-width: 34rem; background: #fff; border-radius: .3rem; image-rendering: auto }
@media print { body { padding: 0; font-size: 9.5pt; max-width: none } h2, h3, caption { break-after: avoid }
  tr, .row p, .warning, .curve { break-inside: avoid } figure { flex-basis: 30% }
  th, td { overflow-wrap: anywhere } .curve { min-width: 0 } }
</style></head><body>
$body
</body></html>
""")


class Tested(NamedTuple):
    """The run's pictures, read anew, and what the model answers to `test`, whose files are `names`."""

    mine: object  # OwnImages, or None of a built-in dataset
    train: object
    test: object
    names: list
    logits: torch.Tensor  # (n, C)
    scores: metrics.Scores


def write(run_folder, path=None, data=None):
    """Write the report on the run in `run_folder` to `path` (`report.html` in it), and return the path.

    The pictures are read anew, with the run's own options and split, from where it had them, or from `data` where they
    have moved. Where they are gone, or others than the run's, the report and a warning say so, and it has no numbers of
    theirs. Raises `ValueError` or `OSError` where there is no run with its record and model, or nothing at `data`.
    """
    run, tested, trouble = Path(run_folder), None, ""
    if not (run / "history.json").is_file():
        raise ValueError(
            f"expected a folder that vit-tutorial train wrote, found no history.json in {run}; name another"
        )
    if data is not None and data not in pictures.DATASETS and not Path(data).exists():
        raise ValueError(f"expected the run's pictures, found nothing at {data!r}; say where they are now")
    history = vit.training.History.load(run / "history.json")
    model = answers.load(run)
    masks = isinstance(model, SegmentationViT)
    try:
        tested = (retest_masks if masks else retest)(model, history, history.info.get("data") if data is None else data)
    except (ValueError, OSError) as error:
        trouble = f"No test results, no mistakes: {error}. Where the run's pictures are elsewhere, --data says where."
        warnings.warn(trouble, stacklevel=2)
    title = f"Report on a {'model of pixels' if masks else 'picture classifier'}: {text(run.resolve().name)}"
    top = (masks_head if masks else head)(model.config, tested, trouble)
    parts = [f"<header><h1>{title}</h1>", top, "</header><main>"]
    if not masks:
        parts.append(pictures_section(history.info, data, tested))
    parts.append(training_section(history, model))
    if tested and masks:
        parts.append(masks_section(*tested))
    elif tested:
        parts += [answers_section(tested), sure_section(tested, history.info), worst_section(model, tested)]
    parts += [repeat_section(run, history.info), "</main>"]
    path = run / "report.html" if path is None else Path(path)
    page = PAGE.substitute(title=title, body="\n".join(parts))
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OSError(f"expected a file that can be written as {path}, found: {error}; choose another") from None
    return path


def retest(model, history, source):
    """The run's `Tested`. Raises `ValueError` where its pictures are not at `source`, or not those that it had."""
    info, config = history.info, model.config
    if not isinstance(source, str | Path):
        raise ValueError("the run does not say which pictures it was trained on")
    if source not in pictures.DATASETS and not Path(source).exists():
        raise ValueError(f"the pictures are no longer at {source}")
    mine, train, test, names = read(source, info, config)
    if config.classes and config.classes != test.classes:
        raise ValueError(f"the model knows {listed(config.classes)}, but the pictures are of {listed(test.classes)}")
    if trouble := pictures.changes(info, {"train": train, "test": test}, mine and pictures.files(mine)["test"]):
        raise ValueError(trouble)
    result, before = vit.training.evaluate(model, test), history.accuracy
    if before is None and mine and not pictures.recorded_counts(info):
        raise ValueError("the run does not say which pictures it was tested on, so it may have learned from any")
    if before is not None and abs(before - result.accuracy) > max(0.02, 1.5 / len(test)):  # rounding does less
        accuracies = f"{percent(before)} right in the run, {percent(result.accuracy)} now"
        raise ValueError(f"the pictures, or the way they are split, have changed: {accuracies}")
    scores = metrics.scores(result.logits.argmax(1), test.labels, test.classes)
    return Tested(mine, train, test, names, result.logits, scores)


def retest_masks(model, history, source):
    """The run's test side with masks, and what `evaluate_masks` gives for it; errors as in `retest`."""
    [test] = pictures.masked_sides(source, pictures.square_side(model.config), ["test"], model.config.value_range)
    if model.config.classes != test.classes:
        raise ValueError(f"the model knows {listed(model.config.classes)}, but the masks have {listed(test.classes)}")
    result, before = vit.training.evaluate_masks(model, test), history.mean_iou
    if before is not None and abs(before - result.mean_iou) > 0.02:  # rounding does less
        found = f"mean IoU {percent(before)} in the run, {percent(result.mean_iou)} now"
        raise ValueError(f"the pictures, or the way they are split, have changed: {found}")
    return test, result


def read(source, info, config):
    """`(OwnImages or None, training side, test side, names of the test pictures)`, as the run read them."""
    options = {} if source in pictures.DATASETS else pictures.recorded_options(info, source)
    mine = pictures.read(source, options, pictures.square_side(config), config.value_range)
    train, test = pictures.sides(mine, source)
    if mine is None:
        return None, train, test, [f"test picture {i}" for i in range(len(test))]
    return mine, train, test, [mine.names[i] for i in mine.split()[1].tolist()]


def text(value):
    """Any value as text in HTML, also inside an attribute; characters that do not print are spelled out."""
    return html.escape("".join(map(vit.datasets.names.printable, str(value))))


def listed(names, most=12):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def percent(value):
    return f"{100 * value:.1f} %"


def section(title, *parts):
    return "\n".join([f"<section><h2>{title}</h2>", *parts, "</section>"])


def bullets(items):
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>" if items else ""


def table(caption, columns, rows, kind=""):
    """A table that scrolls where it is too wide. The first cell of a row names it; a cell may be `(value, CSS)`."""

    def cell(value):
        value, style = value if isinstance(value, tuple) else (value, "")
        return f'<td style="{style}">{text(value)}</td>'.replace(' style=""', "")

    top = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    body = "\n".join(f'<tr><th scope="row">{text(row[0])}</th>{"".join(map(cell, row[1:]))}</tr>' for row in rows)
    return (
        f'<div class="wide" role="region" aria-label="{text(caption)}" tabindex="0"><table class="{kind}">'
        f"<caption>{text(caption)}</caption>{top and f'<thead><tr>{top}</tr></thead>'}\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def image(fig, alt, kind=""):
    data = base64.b64encode(vit.plots.png(fig)).decode("ascii")
    return f'<img class="{kind}" src="data:image/png;base64,{data}" alt="{text(alt)}">'


def picture(pixels, alt, heat=None):
    """An image `(C, Y, X)` from edge to edge, with `heat (rows, columns)` over it where it is given."""
    Y, X = pixels.shape[1:]
    fig, ax = vit.plots.figure(1.8 * min(X / Y, 1), 1.8 * min(Y / X, 1))
    fig.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    if heat is None:
        vit.plots.draw_image(ax, pixels)
    else:
        vit.plots.draw_attention(ax, pixels, heat.flatten(), heat.shape)
    return image(fig, alt)


def figures(pairs):
    """Pairs of pictures, `(two images, caption)`, all of them HTML, side by side."""
    shown = [f'<figure><div class="pair">{a}{b}</div><figcaption>{c}</figcaption></figure>' for (a, b), c in pairs]
    return f'<div class="row">{"".join(shown)}</div>'


def head(config, tested, trouble):
    """What the model is for, and how often it is right; or why that is not known."""
    classes, (rows, columns) = listed(config.classes) or "their names are not recorded", image_sides(config.image_size)
    purpose = (
        f"<p>A Vision Transformer that sorts pictures into {config.num_classes} classes: {text(classes)}. "
        f"It looks at {rows} x {columns} pixels: the centre square of each picture, made that small.</p>"
    )
    if not tested:
        return f'{purpose}<p class="warning">{text(trouble)}</p>'
    scores, names = tested.scores, ("accuracy: right answers", "balanced accuracy: mean of the classes' recalls")
    values = (scores.accuracy.value, scores.accuracy.interval), (scores.balanced_accuracy, scores.balanced_interval)
    numbers = "".join(
        f'<p class="number"><strong>{percent(value)}</strong>{name}<br>95 % interval: {percent(low)} to {percent(high)}'
        for name, (value, (low, high)) in zip(names, values, strict=True)
    )
    n, often = len(tested.test), scores.confusion.sum(1)
    return (
        f'{purpose}<div class="row">{numbers}</div><p>On {n:,} test pictures that it was not trained on. Who always '
        f"answered “{text(scores.classes[often.argmax()])}”, the most frequent class, would be right for "
        f"{percent(often.max() / n)}. The intervals say how far the choice of test pictures matters; they hold for "
        "pictures from the same source, each independent of the others.</p>"
    )


def masks_head(config, tested, trouble):
    """What a model of pixels is for, and how often it is right; or why that is not known."""
    classes, (rows, columns) = listed(config.classes) or "their names are not recorded", image_sides(config.image_size)
    purpose = (
        f"<p>A Vision Transformer that gives every pixel one of {config.num_classes} classes: {text(classes)}. "
        f"It looks at {rows} x {columns} pixels.</p>"
    )
    if not tested:
        return f'{purpose}<p class="warning">{text(trouble)}</p>'
    test, result = tested
    numbers = {
        "mean IoU of the classes that are there": result.mean_iou,
        "accuracy: right pixels": result.accuracy,
        "boundary error: wrong pixels among those beside another class": result.boundary_error,
    }
    numbers = "".join(f'<p class="number"><strong>{percent(n)}</strong>{name}</p>' for name, n in numbers.items())
    return f'{purpose}<div class="row">{numbers}</div><p>On {len(test):,} test pictures that it was not trained on.</p>'


def masks_section(test, result):
    """How well each class is found, and the pictures with the most wrong pixels, under their masks."""
    colours = torch.tensor(list(pixels.palette())).view(-1, 3)
    counts = zip(test.classes, colours.tolist(), result.counts.sum(1), result.counts.sum(0), result.iou, strict=False)
    rows = [
        [name, ("", f"background: rgb{tuple(colour)}"), f"{there:,}", f"{said:,}", "-" if iou.isnan() else percent(iou)]
        for name, colour, there, said, iou in counts
    ]
    columns = ["class", "colour", "pixels", "answers", "IoU"]
    wrong = ((result.predicted != test.masks) & (test.masks != 255)).flatten(1).sum(dim=1)
    shown = []
    for i in wrong.argsort(descending=True, stable=True)[:WORST].tolist():
        layers = [colours[mask[i].long()].permute(2, 0, 1) for mask in (test.masks, result.predicted)]  # (3, Y, X)
        mixed = [((test.images[i] + layer) // 2).byte() for layer in layers]
        two = picture(mixed[0], f"Picture {i} and its true mask"), picture(mixed[1], f"Picture {i} and the answer")
        shown.append((two, f"Test picture {i}: {wrong[i]:,} wrong pixels"))
    told = "<p>On the left the true mask over the picture, on the right the answer.</p>"
    worst = f"<h3>The pictures with the most wrong pixels</h3>{told}{figures(shown)}"
    return section("Right and wrong", table("Each class", columns, rows), worst)


def pictures_section(info, data, tested):
    """Which pictures, how they were read and split, which were taken for copies, which left out."""
    mine = tested and tested.mine
    parts = [f"<p>Read from: <code>{text(data or info.get('data') or UNKNOWN)}</code></p>"]
    sides = {"train": tested.train, "test": tested.test} if tested else {}
    found = pictures.recorded_counts(info) or {side: pictures.counts(images) for side, images in sides.items()}
    if found:
        rows = [[name, *(side[name] for side in found.values())] for name in sum(found.values(), Counter())]
        rows.append(["all", *(side.total() for side in found.values())])
        parts.append(table("Pictures of each class", ["class", *found], rows))
    if mine:
        parts += [bullets([*mine.notes, *mine.doubts()]), split_text(mine), copies_text(mine)]
    elif info.get("value_range"):
        parts.append(f"<p>Values that became 0 and 255: {text(info['value_range'])}</p>")
    skipped = mine.skipped if mine else info.get("skipped")
    if skipped and isinstance(skipped, list | tuple):
        shown = [": ".join(map(str, entry)) if isinstance(entry, list | tuple) else entry for entry in skipped[:FILES]]
        parts += [f"<h3>Not read: {len(skipped)} files</h3>", bullets(shown), "..." * (len(skipped) > FILES)]
    return section("The pictures", *parts)


def split_text(mine):
    how = "They came with their sides." if mine.sides else "A fifth of each class was drawn for the testing side."
    n, groups = len(mine), len(mine.groups.unique())
    return (
        f"<p>{how} {n:,} pictures are in {groups:,} groups (copies, pages of a file, given groups) that stay together."
    )


def copies_text(mine):
    """The pairs that were taken for copies, of which those least alike are shown."""
    if not len(mine.pairs):
        return "<p>No two were taken for copies of each other.</p>"
    pairs = []
    for two, apart in zip(mine.pairs[-PAIRS:].tolist(), mine.distances[-PAIRS:].tolist(), strict=True):
        names = [f"{mine.names[i]} ({mine.images.classes[mine.images.labels[i]]})" for i in two]
        shown = [picture(mine.images.images[i], name) for i, name in zip(two, names, strict=True)]
        pairs.append((shown, f"{text(' and '.join(names))}: distance {apart:.2g}"))
    title = f"Taken for copies of another: {len(mine.pairs):,} of {len(mine):,} pictures"
    return f"<h3>{title}</h3><p>Copies stay on one side. Here are the pairs least alike:</p>{figures(pairs)}"


def training_section(history, model):
    """What was trained and how it went."""
    info, config, losses = history.info, model.config, history.steps["loss"]
    last, size = history.epochs[-1] if history.epochs else {}, sum(p.numel() for p in model.parameters())
    facts = [
        ["model", f"{size:,} parameters, {config.depth} blocks, patches of {config.patch_size} pixels"],
        ["weights at the start", info.get("start") or "random"],
        ["recipe", info.get("recipe_name") or "without a name"],
        ["epochs", f"{last.get('epoch')}{' (stopped early)' * history.stopped} in {last.get('seconds')} s"],
        *([name, info.get(name, UNKNOWN)] for name in ("seed", "hardware", "precision")),
    ]
    tests = [
        f"{percent(e['test_accuracy'])} after epoch {e['epoch']:g}"
        for e in history.epochs
        if e["test_accuracy"] is not None
    ]
    alt = f"Three curves. Test accuracy: {', '.join(tests) or 'not tested'}."
    if losses:
        alt += f" Training loss: {losses[0]:.3g} at the first of {len(losses)} steps, {losses[-1]:.3g} at the last."
        alt += f" Learning rate: at most {max(history.steps['learning_rate']):.3g}."
    curve = image(vit.plots.training_curve(history), alt, "curve")
    curve = f'<div class="wide" role="region" aria-label="Training curves" tabindex="0">{curve}</div>'
    return section("The training", curve, table("What was trained, and how", [], facts, "words"))


def answers_section(tested):
    """Which classes are taken for which, how many of each are found, and how many answers are right."""
    scores = tested.scores
    counted, classes = scores.confusion.tolist(), scores.classes
    if len(classes) <= MOST_COLUMNS:
        rows = []
        for i, row in enumerate(counted):
            depth = [0.55 * n / sum(row) if n else 0 for n in row]
            shades = [f"background: rgba({BLUE if i == j else ORANGE}, {d:.2f})" for j, d in enumerate(depth)]
            rows.append([classes[i], *zip(row, shades, strict=True)])
        caption = "Confusion matrix: a row for each true class, a column for each answer; blue is right, orange wrong"
        matrix = table(caption, ["true class", *classes], rows, "matrix upright" if len(classes) > 4 else "matrix")
    else:
        wrong = [[n, i, j] for i, row in enumerate(counted) for j, n in enumerate(row) if n and i != j]
        wrong = [[classes[i], classes[j], n] for n, i, j in sorted(wrong, reverse=True)[:MISTAKES]]
        matrix = table("The most frequent mistakes", ["true class", "answer", "test pictures"], wrong, "words")
    shares = zip(classes, scores.recall, scores.precision, strict=True)
    rows = [[name, found.n, found, right.n, right] for name, found, right in shares]
    columns = ["class", "pictures", "recall: of them, found", "answers", "precision: of them, right"]
    return section("Right and wrong", matrix, table("Each class, with 95 % intervals", columns, rows))


def sure_section(tested, info):
    """How far the probabilities can be believed, and what leaving out the unsure answers buys."""
    labels, heat, found = tested.test.labels, info.get("temperature"), tested.logits.softmax(dim=1)
    told = f"Its probabilities miss how often it is right by {percent(metrics.calibration_error(found, labels))}"
    if isinstance(heat, int | float) and 0 < heat < math.inf:
        before = metrics.calibration_error((tested.logits * heat).softmax(dim=1), labels)
        told += f", before the calibration by {percent(before)} (temperature {heat:.3g})"
    rows = []
    for threshold in THRESHOLDS:
        given, right = metrics.answered(found, labels, threshold)
        rows.append([f"{100 * threshold:.0f} %", percent(given.value), right])
    columns = ["probability at least", "answered", "right among them (95 % interval)"]
    told = f"<p>{told}, on the mean (expected calibration error).</p>"
    return section("How sure it is", told, table("If it answers only when it is sure", columns, rows))


def worst_section(model, tested):
    """The test pictures whose true class got the least probability, with the attention of the model."""
    images, labels, classes = tested.test.images, tested.test.labels, tested.test.classes
    found = tested.logits.softmax(dim=1)
    sure, said = found.max(dim=1)
    worst = found.gather(1, labels[:, None]).flatten().argsort().tolist()
    worst = [i for i in worst if said[i] != labels[i]][:WORST]
    if not worst:
        return section("The worst mistakes", "<p>None: every test picture got the right answer.</p>")
    pixels = vit.normalise(images[worst].to(next(model.parameters()).device), model.config)
    maps = vit.interpret.class_map(vit.interpret.rollout(model, pixels), model.config.grid).cpu()
    pairs = []
    for i, heat in zip(worst, maps, strict=True):
        true, answer, (row, column) = classes[labels[i]], classes[said[i]], divmod(int(heat.argmax()), heat.shape[1])
        alt = f"Its attention, most in row {row + 1} of {len(heat)}, column {column + 1} of {heat.shape[1]}"
        two = picture(images[i], f"{tested.names[i]}, of class {true}"), picture(images[i], alt, heat)
        told = (
            f"True: <strong>{text(true)}</strong>; answer: <strong>{text(answer)}</strong> {100 * sure[i]:.1f}&nbsp;%"
        )
        pairs.append((two, f"{told}<br>{text(tested.names[i])}"))
    told = (
        "<p>The wrong answers that gave the true class the least probability. Look for a wrong label first. On the "
        "right is where the model's attention went, through all blocks (rollout), bright where much.</p>"
    )
    return section("The worst mistakes", told, figures(pairs))


def repeat_section(run, info):
    """Commands, versions, and the whole recipe."""
    here = {"python": platform.python_version(), "torch": torch.__version__, "vit_tutorial": vit.__version__}
    rows = [[name, info.get(name, UNKNOWN), version] for name, version in here.items()]
    lines = info.get("command") or "training.train(...), in Python", shlex.join(["vit-tutorial", "report", str(run)])
    return section(
        "How to repeat it",
        "<pre>" + "\n".join(map(text, lines)) + "</pre>",
        table("Versions", ["program", "in training", f"in this report, of {date.today()}"], rows),
        f"<details><summary>The whole recipe</summary><pre>{text(json.dumps(info.get('recipe')))}</pre></details>",
    )


def add_arguments(command):
    command.add_argument("run_folder", metavar="RUN", help="folder of a run that vit-tutorial train wrote")
    command.add_argument("--data", metavar="DATA", help="where the run's pictures are now, if they have moved")
    command.add_argument("--out", metavar="FILE", help="the file to write (default: report.html in the run)")


def main(args):
    if args.out and not args.out.lower().endswith((".html", ".htm")):  # a report is written anew, other files are not
        expect_new(Path(args.out))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path = write(args.run_folder, args.out, args.data)
    wrote = f"Wrote {path} ({path.stat().st_size / 1000:,.0f} kB); it shows pictures and names of files"
    print(*(warning.message for warning in said), wrote, sep="\n")
    return 0
