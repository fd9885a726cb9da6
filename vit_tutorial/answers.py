"""What a trained model says: tested on pictures of any origin, asked about new ones, and exported.

The commands `evaluate`, `predict` and `export`; notebooks use `match_classes` and `predict`.
"""

import csv
import os
import sys
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import export, metrics, pictures, weights
from .datasets.decode import find_range, short, to_8_bits
from .datasets.images import ImageSet
from .datasets.labels import Item
from .datasets.names import natural, normal, printable
from .datasets.own import collect, listed, listing_of, read_items, unread
from .datasets.sources import MOST_BYTES, TOO_LARGE, files_in
from .files import atomic_path, expect_new
from .layers import image_sides
from .training import History, evaluate

CHUNK = 256  # pictures in memory at once
UNSURE = "unsure"
COLUMNS = ("file", "answer", "probability")  # of a CSV file, before those of the classes
FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes what begins so
NAME = 38  # columns for a class name in a table
SAME = 0.01  # logits that differ by more are not those of the same model


def key(name):
    return printable(normal(name))


def some(names):
    """A few names of many, as text."""
    names = [short(key(name)) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"


def class_numbers(found, classes, rename=None):
    """For each class name `found` in a dataset its number among a model's `classes`: see `match_classes`."""
    rename = {key(new): key(old) for new, old in (rename or {}).items()}
    found, own = list(map(key, found)), list(map(key, classes))
    if surplus := [name for name in rename if name not in found]:
        raise ValueError(f"expected classes of the data to rename, found {some(surplus)}; the data have {some(found)}")
    names = [rename.get(name, name) for name in found]
    pairs = zip(found, names, strict=True)
    if unknown := [old if old == new else f"{old} (renamed {new})" for old, new in pairs if new not in own]:
        raise ValueError(
            f"expected the classes of the model, found others: only the data have {some(unknown)}, only the model has "
            f"{some(name for name in own if name not in names)}; where two names mean the same, say --rename "
            "NAME_IN_THE_DATA=NAME_IN_THE_MODEL, else choose the data or the model that fits"
        )
    if double := [name for name in names if own.count(name) > 1]:
        raise ValueError(f"expected different class names in the model, found several classes called {some(double)}")
    return [own.index(name) for name in names]


def match_classes(dataset, classes, rename=None):
    """The `ImageSet` with the labels and the names of a model's `classes`, matched by name.

    `rename` maps names of the dataset to names of the model. The dataset may have fewer classes. Raises `ValueError`
    that says which names only one of the two has. For a model without names the dataset's own stand in.
    """
    classes = classes or dataset.classes
    numbers = torch.tensor(class_numbers(dataset.classes, classes, rename))
    return replace(dataset, labels=numbers[dataset.labels], classes=tuple(classes))


def renames(texts):
    """`{new: old}` from what `--rename` is given."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (new, _, old) in zip(texts, pairs, strict=True) if not new or not old]:
        raise ValueError(f"expected --rename NAME_IN_THE_DATA=NAME_IN_THE_MODEL, found {wrong[0]!r}")
    return {new: old for new, _, old in pairs}


def run_record(path):
    """The `info` of the run whose folder, or checkpoint in it, is `path`; empty where there is no record."""
    path = Path(path)
    record = (path if path.is_dir() else path.parent) / "history.json"
    of_run = path.is_dir() or path.name == "model.safetensors"
    return History.load(record).info if of_run and record.is_file() else {}


def trained_on(info, data):
    """Whether the run of this `info` was trained on the folder or file `data`."""
    own = info.get("data")
    return isinstance(own, str) and Path(own).resolve() == Path(data).resolve()


def chosen_side(side, info, data, sides):
    """`(side, why)`: "all" or "test", which of the pictures in `data` are tested unless `side` says it."""
    if side:
        return side, "as --side says"
    if trained_on(info, data):
        return "test", "for the model has learned from the others"
    if {"train", "test"} <= sides:
        return "test", "for the data have sides of their own"
    if not isinstance(own := info.get("data"), str):
        return "all", "for no record says what the model has learned from"
    own, data = Path(own).resolve(), Path(data).resolve()
    if own.name == data.name or own in data.parents or data in own.parents:
        advice = "if the model has learned from these, say --side test, with the run's own --groups and --copies"
        return "all", f"but the run's data were called {short(printable(info['data']))}: {advice}"
    return "all", "for they are not the data of the model's run"


def own_data(data, config, info, side, rename, options):
    """Of a folder, zip file or table what is tested: an `ImageSet` in the model's classes, and sentences about it.

    It is read with `options` (`pictures.OPTIONS`) and, where it is the data of the model's run, with the run's own.
    """
    own = trained_on(info, data)
    given = {name: value for name, value in pictures.options_of(options).items() if value}
    options = (pictures.recorded_options(info, data) if own else pictures.options_of({})) | given
    listing = listing_of(data, options["labels"], options["groups"])
    found = sorted({item.label for item in listing.items}, key=natural)
    classes = tuple(map(key, config.classes)) or tuple(found)
    names = {name: classes[i] for name, i in zip(found, class_numbers(found, classes, rename), strict=True)}
    items = [item._replace(label=names[item.label]) for item in listing.items]
    sides = {item.side for item in items}
    wanted, why = chosen_side(side, info, data, sides)
    split = wanted == "test" and "test" not in sides
    if wanted == "test" and not split:
        items = [item for item in items if item.side == "test"]
    known, copies = config.value_range, pictures.copies_below(options["copies"])
    how = (copies, known, None) if split else (False, known, classes if items else None)
    mine = collect(listing._replace(items=items), config.image_size, *how)
    tested = mine.split()[1] if split else torch.arange(len(mine))
    images, files = match_classes(mine.images[tested], classes), pictures.digest(mine, tested)
    if side is None and wanted == "all" and files == pictures.recorded_files(info).get("all"):
        return own_data(data, config, info | {"data": str(data)}, side, rename, options)  # they have moved
    notes = [*mine.notes, *unread_lines(mine.skipped, len(mine)), *kind_note(known, mine.images.value_range, len(mine))]
    if own and wanted == "test" and pictures.changes(info, {"test": images}, files):
        notes.append(
            "the test side is no longer the run's: the data or options differ, and it may have learned from some"
        )
    which = "all of them" if wanted == "all" else "the test side"
    return images, [f"{len(images):,} pictures, {which}, {why}", *notes]


def kind_note(value_range, found, n):
    """A sentence where the pictures have not as many bits as those that the model was trained on; `found` is theirs."""
    if value_range and not found and n:
        low, high = value_range
        yield (
            f"{n} pictures have 8 bits and are taken as they are, but the model was trained on pictures of more than "
            f"8 bits, of which values of {low:,.6g} to {high:,.6g} became 0 to 255: are they of the same kind?"
        )
    if found and not value_range:
        yield (
            "the model was not trained on pictures of more than 8 bits, or does not know their range: values of "
            f"{found[0]:,.6g} to {found[1]:,.6g}, those of these pictures, became 0 to 255"
        )


def unread_lines(skipped, n):
    """Lines that name what was skipped beside `n` pictures, but for the system's hidden files."""
    problems = [f"{name}: {reason}" for name, reason in unread(skipped)]
    return [f"{len(problems)} files were not read, beside {n} pictures:", *listed(problems, 100)] if problems else []


def evaluation(model, dataset):
    """What `evaluate` prints of the model's answers on `dataset`, as text of at most 100 columns."""
    result = evaluate(model, dataset)
    s = metrics.scores(result.logits.argmax(1), dataset.labels, dataset.classes)
    error = metrics.calibration_error(result.logits.softmax(1), dataset.labels)
    rows = list(zip(s.classes, s.recall, s.precision, strict=True))
    rows = [row for row in rows if row[1].n or row[2].n]
    width = min(NAME, max(map(columns, map(key, ["class", *(name for name, *_ in rows)]))))
    lines = [
        f"accuracy {percent(s.accuracy.value, s.accuracy.interval)}, loss {result.loss:.4f}",
        f"balanced accuracy {percent(s.balanced_accuracy, s.balanced_interval)} (the mean recall of the classes)",
        f"calibration error {100 * error:.1f} % (by how much the probabilities miss how often they are right)",
        "",
        f"{'class':{width}}  pictures  {'recall':24}precision",
        *(f"{fit(name, width)}  {recall.n:8,}  {recall!s:24}{precision!s}" for name, recall, precision in rows),
    ]
    wrong = s.confusion - s.confusion.diagonal().diag()
    counts, places = wrong.flatten().topk(min(5, wrong.numel()))
    mistakes = [(n, *divmod(place, len(s.classes))) for n, place in zip(counts.tolist(), places.tolist(), strict=True)]
    mistakes = [f"{n:8,} {cut(s.classes[i])} taken for {cut(s.classes[j])}" for n, i, j in mistakes if n]
    return "\n".join([*lines, *(["", "most frequent mistakes:", *mistakes] if mistakes else [])])


def percent(value, interval):
    low, high = (100 * end for end in interval)
    return f"{100 * value:.2f} %, 95 % interval {low:.1f} to {high:.1f}"


def columns(text):
    """How many columns of a terminal a text takes: Chinese letters two, accents none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def cut(name, width=NAME):
    """A name as a terminal may show it, in at most `width` columns."""
    name = key(name)
    if columns(name) <= width:
        return name
    while columns(name) > width - 3:
        name = name[:-1]
    return name + "..."


def fit(name, width):
    name = cut(name, width)
    return name + " " * (width - columns(name))


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What `predict` returns: `probabilities (n, C)` of the `classes`, for the pictures called `names`.

    `skipped` holds a pair of name and reason for each file that was not read; `notes` are sentences about the whole.
    Where a `threshold` is given, answers of a lower probability are "unsure".
    """

    names: tuple[str, ...]
    probabilities: torch.Tensor
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        return f"Predictions({len(self)} pictures, {len(self.classes)} classes, {len(self.skipped)} skipped)"

    def answers(self, threshold=0.0):
        """The class name of each picture."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"expected a threshold from 0 to 1, found {threshold}")
        best = zip(*(values.tolist() for values in self.probabilities.max(1)), strict=True)
        return [self.classes[i] if p >= threshold else UNSURE for p, i in best]

    def table(self, threshold=0.0):
        """For each picture its name, the answer and the second best class, with their probabilities, as text."""
        values, places = (x.tolist() for x in self.probabilities.topk(min(2, len(self.classes))))
        width = min(40, max(map(columns, ["picture", *self.names])))  # longer names stand out, whole
        wide = min(NAME, max(map(columns, map(key, ["answer", UNSURE, *self.classes]))))
        lines = [f"{'picture':{width}}  {'answer':{wide}}         second best"]
        rows = zip(self.names, self.answers(threshold), values, places, strict=True)
        for name, answer, (p, *other), (_, *second) in rows:
            next_best = "".join(
                f"{cut(self.classes[i], 24)} {100 * q:.1f} %" for i, q in zip(second, other, strict=True)
            )
            name += " " * (width - columns(name))
            lines.append(f"{name}  {fit(answer, wide)}{100 * p:6.1f} %  {next_best}")
        return "\n".join(lines)

    def to_csv(self, path, threshold=0.0):
        """Write a row for each picture, as UTF-8: file, answer, probability, and the probability of each class.

        Names that a spreadsheet would compute get a ' in front. A file of that name is replaced.
        """
        classes = [f"class {name}" if name in COLUMNS else name for name in self.classes]
        rows = zip(self.names, self.answers(threshold), self.probabilities.tolist(), strict=True)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *map(harmless, classes)])
            for name, answer, values in rows:
                numbers = [f"{value:.6f}" for value in (max(values), *values)]
                writer.writerow([harmless(name), harmless(answer), *numbers])


def harmless(name):
    name = key(name)
    return "'" + name if name.startswith(FORMULA) else name


def predict(model, source):
    """The `Predictions` of a ViT of ours, or one that `weights` can read, for every picture in `source`.

    `source` is a picture, a folder, a zip file or a list of these; or uploads `[(name, bytes), ...]`. The pictures are
    read as for the training, `CHUNK` at a time. Raises `ValueError` as `files_in` does.
    """
    device = next(model.parameters()).device
    model = export.without_wrappers(model).to(device)
    config, notes, skipped, names, deep = model.config, [], [], [], 0
    used = value_range = config.value_range
    classes = config.classes or tuple(map(str, range(config.num_classes)))
    probabilities = [torch.zeros(0, config.num_classes)]
    items = picture_items(source, notes, skipped)
    for start in range(0, len(items), CHUNK):
        kept = read_items(items[start : start + CHUNK], config.image_size, skipped)
        if not kept:
            continue
        pictures = [picture for *_, picture, _ in kept]
        deep += sum(picture.dtype == torch.float32 for picture in pictures)
        used = used or find_range(pictures)
        images = torch.stack([to_8_bits(picture, used) for picture in pictures])
        names += [name for _, name, *_ in kept]
        images = ImageSet(images, torch.zeros(len(images), dtype=torch.int64), classes)
        probabilities.append(evaluate(model, images, bf16=False).logits.softmax(1))
    notes += kind_note(value_range, None if value_range else used, len(names) - deep)
    return Predictions(tuple(names), torch.cat(probabilities), classes, tuple(skipped), tuple(notes))


def picture_items(source, notes, skipped):
    """An `Item` for each file in `source`, called by its path or, in a zip file, by that and the path inside."""
    found = []
    for one in [source] if isinstance(source, (str, os.PathLike)) else source:
        if not isinstance(one, (str, os.PathLike)):
            found += files_in([one], notes)
            continue
        path = Path(one)
        zipped = path.is_file() and zipfile.is_zipfile(path)
        if zipped or path.is_dir():
            found += [((str(path), *parts[zipped:]), file) for parts, file in files_in(path, notes)]
        elif path.is_file():
            found.append(((str(path),), path if path.stat().st_size <= MOST_BYTES else TOO_LARGE))
        else:
            found.append(((str(path),), "no such file"))
    skipped += [(printable("/".join(parts)), reason) for parts, reason in found if isinstance(reason, str)]
    return [Item(parts, file, "") for parts, file in found if not isinstance(file, str)]


def add_predict_arguments(command):
    add_model_argument(command)
    command.add_argument("pictures", nargs="+", metavar="PICTURES", help="pictures, folders or zip files of pictures")
    about = "write the probability of every class into this new file; of a model of pixels the share of each"
    command.add_argument("--csv", type=Path, metavar="FILE", help=about)
    about = "folder for a mask of every picture, by a model of pixels"
    command.add_argument("--out", type=Path, metavar="FOLDER", help=about)
    about = 'answers of a lower probability are "unsure" (0 to 1; default: 0)'
    command.add_argument("--threshold", type=float, default=0.0, metavar="P", help=about)


def run_predict(args, model):
    if not 0 <= args.threshold <= 1:
        raise ValueError(f"expected --threshold from 0 to 1, found {args.threshold}")
    if args.out:
        raise ValueError(f"expected --csv with a classifier, found --out, but no model of pixels in {args.model}")
    if args.csv:
        expect_new(args.csv)
    found = predict(model, args.pictures)
    if not found.names:
        raise nothing_read(found.skipped)
    for line in (*unread_lines(found.skipped, len(found)), *found.notes):
        print(line, file=sys.stderr)
    if not args.csv:
        print(found.table(args.threshold))
        return 0
    found.to_csv(args.csv, args.threshold)
    counts = Counter(found.answers(args.threshold)).most_common(10)
    print(f"{len(found):,} pictures in {args.csv}, most often:", ", ".join(f"{cut(name)} {n:,}" for name, n in counts))
    return 0


def nothing_read(skipped):
    reasons = "; ".join(f"{short(name)}: {reason}" for name, reason in skipped[:3])
    return ValueError(f"expected pictures, found none that can be read ({reasons or 'no file at all'})")


def add_export_arguments(command):
    add_model_argument(command)
    command.add_argument("file", type=Path, metavar="FILE.onnx", help="the new file")


def run_export(args):
    if sentence := export.missing():
        raise ValueError(f"expected the packages for the export, found some missing: {sentence}")
    expect_new(args.file)
    model = load(args.model)
    value_range = model.config.value_range
    with atomic_path(args.file) as temporary:
        export.to_onnx(model, temporary, value_range=value_range)
        apart = difference(temporary, model, value_range)
        if not apart < SAME:
            raise ValueError(f"expected the file to answer as the model does, found logits {apart:.2g} apart")
    kind = "float32, values as in the training pictures" if value_range else "uint8"
    print(f"{args.file}: from pixels (B, {model.config.in_channels}, rows, columns) of any size ({kind}) to logits")
    print(f"Tried on made-up pictures of two sizes: at most {apart:.1e} from the model's logits")
    return 0


@torch.no_grad()
def difference(path, model, value_range):
    """The largest difference of logits between the ONNX file and torch, on random pictures of two sizes."""
    inside = export.FromPixels(export.without_wrappers(model), value_range=value_range)
    rows, columns = image_sides(model.config.image_size)
    random, found = torch.Generator().manual_seed(0), []
    for size in ((rows, columns), (2 * rows + 5, 3 * columns + 1)):
        pixels = torch.randint(0, 256, (4, model.config.in_channels, *size), generator=random, dtype=torch.uint8)
        if value_range:
            pixels = value_range[0] + pixels / 255 * (value_range[1] - value_range[0])
        found.append((export.run_onnx(path, pixels) - inside(pixels)).abs().max().item())
    return max(found)


def add_model_argument(command, default=None):
    about = "a model.safetensors, or the folder of a run"
    if default:
        about += " (default: the one that the course ships)"
    nargs = "?" if default else None
    command.add_argument("model", type=Path, nargs=nargs, default=default, metavar="MODEL", help=about)


def load(path):
    """The model in a checkpoint or a run's folder, on the GPU where there is one.

    Raises `ValueError` for a model without a head, which has no answers.
    """
    model = weights.load(path)
    if isinstance(model.head, torch.nn.Identity):
        raise ValueError(
            f"expected a model with a head, found one without, as training without labels keeps it, in {path}; "
            f"give it one: vit-tutorial train --data ... --start {path}"
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu")
