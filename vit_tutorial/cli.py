"""The command line: `vit-tutorial lab | train | evaluate | predict | export | report | download | doctor | ...`."""

import argparse
import math
import signal
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

import vit_tutorial as vit

from . import answers, classroom, doctor, lab, pictures, pixels, report
from .dense import SegmentationViT
from .files import CHECKPOINT, expect_writable
from .machine import distributed, run_folder
from .machine.threads import keep_memory

TORCHRUN = """\
Several processes, one per GPU or per CPU core, train the same run faster:
  torchrun --nproc-per-node N -m vit_tutorial.cli train ...
The recipe's batch size is that of all together."""
TRAIN_OPTIONS = ("epochs", "minutes", "start", "image_size", "patch_size", "balanced", "calibrate", "without_labels")
TRAIN_OPTIONS += ("task",)
TRAIN_OPTIONS += pictures.OPTIONS
HELD_BACK = 0.2  # of the training pictures, for the calibration
MOST_PIXELS, MOST_PATCHES = 1024, 4096  # a side; in a picture


def build_parser():
    parser = argparse.ArgumentParser(prog="vit-tutorial", description="The Vision Transformer course.")
    parser.add_argument("--version", action="version", version=vit.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, run, add_arguments, help, **options):
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **options)
        command.set_defaults(run=run)
        add_arguments(command)

    add("lab", lab.main, lab.add_arguments, "open the course in JupyterLab")
    add(
        "train",
        run_train,
        add_train_arguments,
        "train a ViT and keep its checkpoint and record",
        epilog=TORCHRUN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add("evaluate", run_evaluate, add_evaluate_arguments, "test a model on a dataset: in all, and class by class")
    about = "what a model says about pictures: a table, or a CSV file"
    add("predict", run_predict, answers.add_predict_arguments, about)
    add("export", answers.run_export, answers.add_export_arguments, "a model and its preprocessing as one ONNX file")
    add("report", report.main, report.add_arguments, "write one HTML file on a run, to show to somebody")
    add("download", run_download, add_download_arguments, "download a dataset that does not come with the course")
    add("doctor", doctor.main, doctor.add_arguments, "check this machine, and say what to do about what does not work")
    about = "for teachers: student edition, slides, hand-outs, marking, an offline bundle"
    add("classroom", classroom.main, classroom.add_arguments, about)
    return parser


def add_train_arguments(command):
    what = command.add_mutually_exclusive_group(required=True)
    add_data_argument(what, required=False)
    what.add_argument("--resume", type=Path, metavar="RUN_DIR", help="continue an interrupted run")
    add_picture_arguments(command)
    about = "fine-tune these weights, with a new head for the data: a file, a run folder or the name of a model"
    command.add_argument("--start", metavar="CHECKPOINT|RUN_DIR|NAME", help=about)
    about = "classify pictures, or segment them: a class for every pixel (default: classify)"
    command.add_argument("--task", choices=["classify", "segment"], help=about)
    about = "side of the pictures in pixels (default: the recipe's), for a folder of pictures"
    command.add_argument("--image-size", type=int, metavar="N", help=about)
    about = "side of the patches in pixels (default: the recipe's, or one for at most 16 x 16 patches)"
    command.add_argument("--patch-size", type=int, metavar="P", help=about)
    about = "draw pictures of every class equally often, where some have few"
    command.add_argument("--balanced", action="store_true", default=None, help=about)
    about = f"make probabilities true on {HELD_BACK:.0%} of the training pictures, which are held back for that"
    command.add_argument("--calibrate", action="store_true", default=None, help=about.replace("%", "%%"))
    how = command.add_mutually_exclusive_group()
    how.add_argument("--recipe", help="name of a recipe (default: the one for the data, or fine-tune)")
    about = "learn from the pictures alone, by masked autoencoding or DINO; fine-tune the result with --start"
    how.add_argument("--without-labels", choices=["mae", "dino"], help=about)
    length = command.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="M", help="train this long; the schedule is fitted to it")
    length.add_argument("--epochs", type=int, metavar="E", help="train this many passes over the data")
    command.add_argument("--seed", type=int, metavar="S", help="seed of weights and order (default: 0)")
    command.add_argument("--out", type=Path, metavar="RUN_DIR", help="folder of the run (default: runs/RECIPE-seedS)")
    command.add_argument(
        "--shard", action="store_true", help="under torchrun: shard the weights too (FSDP2), for large models"
    )


def add_evaluate_arguments(command):
    answers.add_model_argument(command, CHECKPOINT)
    add_data_argument(command)
    add_picture_arguments(command)
    about = "which pictures of a folder (default: the test side of the run's own data, or of data with sides, else all)"
    command.add_argument("--side", choices=["all", "test"], help=about)
    about = "a class of the data that the model calls OLD; once for each"
    command.add_argument("--rename", action="append", default=[], metavar="NEW=OLD", help=about)


def add_download_arguments(command):
    command.add_argument("name", choices=["cifar10"], help="CIFAR-10: 170 MB, checked; resumes where it stopped")
    command.add_argument("--from", dest="source", metavar="SOURCE", help="an archive of it: a file or a web address")


def add_data_argument(command, required=True):
    about = f"{', '.join(pictures.DATASETS)}, or a folder of images, a zip file or a table (CSV)"
    command.add_argument("--data", required=required, metavar="DATA", help=about)


def add_picture_arguments(command):
    """How `--data` is read where it is a folder, a zip file or a table: the options of `datasets.own_images`."""
    command.add_argument("--labels", metavar="CSV", help="take the classes from this table, with columns file,label")
    about = "pictures that stay together in a split: a column of the table, or a regular expression for file names"
    command.add_argument("--groups", metavar="COLUMN|PATTERN", help=about)
    about = "distance below which two pictures are copies (default: 0.25), or off"
    command.add_argument("--copies", metavar="DISTANCE|off", help=about)


def load_pictures(run, image_size=None, first=True, labelled=True):
    """What `pictures.read` finds at `run["data"]`; the first of several processes reports it."""
    mine = pictures.read(run["data"], run, image_size, labelled=labelled)
    if first and mine is not None:
        print(mine.report(most=100), flush=True)
    return mine


def training_data(run, image_size, first):
    """The training and the test side, what is held back for calibration (or None), and what the record says of it.

    Without labels nothing is tested: the test side is left for the fine-tuning, where there can be one.
    """
    info = {"data": run["data"], "recipe_name": run["name"], "skipped": []}
    info |= {option: run[option] for option in TRAIN_OPTIONS}
    if run["task"] == "segment":
        return *pictures.masked_sides(run["data"], image_size), None, info
    labelled = not run["recipe"].without_labels
    mine = load_pictures(run, image_size, first, labelled)
    dataset, test = (mine.images, None) if pictures.undivided(mine) else pictures.sides(mine, run["data"])
    test = test if labelled else None
    if mine is not None:
        skipped = map(list, vit.datasets.own.unread(mine.skipped)[:100])
        info |= {"skipped": list(skipped), "files": pictures.files(mine)}
    if not run["calibrate"]:
        return dataset, test, None, info
    groups = torch.arange(len(dataset)) if mine is None else mine.groups[mine.split()[0]]
    few = [name for i, name in enumerate(dataset.classes) if len(groups[dataset.labels == i].unique()) < 2]
    if few:
        raise ValueError(
            "expected at least 3 different pictures (or groups) of each class, one of them to hold back for "
            f"--calibrate, found fewer of {', '.join(few)}; add pictures, or leave out --calibrate"
        )
    kept, held_back = vit.datasets.split_groups(dataset.labels, groups, HELD_BACK)
    return dataset[kept], test, dataset[held_back], info


def default_recipe(name):
    return "shapes" if name in ("shapes", "same_or_different") else "cifar10-laptop"


def run_train(args):
    with distributed.process_group() as device:
        return train_on(device, args)


def train_on(device, args):
    keep_memory()
    first = distributed.rank() == 0  # the process that prints and writes
    run = resumed_run(args) if args.resume else new_run(args)
    if run is None:
        return 0
    recipe, name, out, model = run["recipe"], run["name"], run["out"], run["model"]
    if first:
        print(f"Reading {run['data']} ...", flush=True)
    dataset, test, calibration, info = training_data(run, pictures.square_side(recipe.model), first)
    torch.manual_seed(run["seed"])
    if model is None:
        config = recipe.config(dataset)
        model = (vit.ModernViT if isinstance(config, vit.ModernConfig) else vit.VisionTransformer)(config)
    elif run["task"] == "segment":
        vit.set_image_size(model, dataset.image_size)
    else:
        model = vit.training.new_head(vit.set_image_size(model, dataset.image_size), dataset.classes)
    if run["task"] == "segment":
        model = SegmentationViT(model, len(dataset.classes))
    if first:
        parameters, hardware = sum(p.numel() for p in model.parameters()), vit.training.hardware(device)
        print(f"{dataset}; recipe {name}: ViT with {parameters:,} parameters on {hardware}", flush=True)
    with progress_bar(first) as on_step:
        history = vit.training.train(
            model.to(device),
            dataset,
            recipe,
            test,
            calibration=calibration,
            epochs=run["epochs"],
            minutes=run["minutes"],
            seed=run["seed"],
            out=out,
            on_step=on_step,
            resume=bool(args.resume),
            shard=args.shard,
            info=info,
            settings=run["settings"],
        )
    if first:
        ending = "Stopped early" if history.stopped else "Trained"
        print(f"{ending}: {summary(history)}")
        if "temperature" in history.info:
            print(f"Calibrated: temperature {history.info['temperature']:.2f} on {len(calibration)} training pictures")
        print(f"Kept in {out}: model.safetensors, history.json, {run_folder.NAME}")
        if recipe.without_labels and not history.stopped:
            print(f"Fine-tune it with: vit-tutorial train --data ... --start {out}")
        if history.stopped:
            print(f"Continue with: vit-tutorial train --resume {out}")
    return 0


def new_run(args):
    """What `train` is asked to do, as a dict."""
    for length in ("minutes", "epochs"):
        if (value := getattr(args, length)) is not None and not 0 < value < math.inf:
            raise ValueError(f"expected more than 0 {length}, found {value}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise ValueError(f"expected a seed in 0 .. {2**63 - 1}, found {args.seed}")
    name = args.recipe
    if args.task == "segment":
        pixels.refuse_options(args)
        name = name or "segment"
    elif name == "segment":
        raise ValueError("expected --task segment with --recipe segment, found another task; add it")
    if name is None:
        name = args.without_labels or ("fine-tune" if args.start else default_recipe(args.data))
    if name not in vit.training.RECIPES:
        raise ValueError(f"expected a recipe named one of {', '.join(vit.training.RECIPES)}, found {name!r}")
    seed = args.seed or 0
    out = args.out or Path("runs") / f"{name}-seed{seed}"
    if (out / "model.safetensors").exists() or (out / run_folder.NAME).exists():
        raise ValueError(
            f"expected a new run folder, found a checkpoint in {out}; choose another with --out, "
            f"or continue with --resume {out}"
        )
    expect_writable(out, "folder", (out, *out.absolute().parents))
    recipe, model = first_model(args, vit.training.RECIPES[name])
    if args.calibrate and recipe.without_labels:
        raise ValueError("expected a run without labels to have no calibration, found --calibrate; leave it out")
    run = {"data": args.data, "name": name, "recipe": recipe, "out": out, "seed": seed, "model": model}
    run["settings"] = None  # the defaults
    return run | {option: getattr(args, option) for option in TRAIN_OPTIONS}


def first_model(args, recipe):
    """`recipe` as the options change it, and the model that `--start` names, or None."""
    N, P, model, config = args.image_size, args.patch_size, None, recipe.model
    if N is not None and not 1 <= N <= MOST_PIXELS:
        raise ValueError(f"expected --image-size in 1 .. {MOST_PIXELS}, found {N}")
    if N is not None and args.data in pictures.DATASETS:
        raise ValueError(f"expected --image-size with a folder of pictures, found --data {args.data}")
    if args.start is not None:
        model = start_model(args.start)
        if isinstance(model, SegmentationViT) and args.task != "segment":
            raise ValueError(
                f"expected a classifier or an encoder in {args.start}, found a model of pixels; add --task segment"
            )
        model = getattr(model, "vit", model)
        if P is not None:
            raise ValueError(f"expected --start without --patch-size, found both; its is {model.config.patch_size}")
        config = (vit.set_image_size(model, N) if N else model).config
        recipe = replace(recipe, initialise=())
    elif N or P is not None:
        config = replace(
            config, image_size=N or config.image_size, patch_size=fitting_patch(N, config) if P is None else P
        )
    if math.prod(config.grid) > MOST_PATCHES:
        raise ValueError(f"expected at most {MOST_PATCHES:,} patches, found {config.grid}; take larger patches or less")
    return replace(recipe, model=config, balanced=bool(args.balanced)), model


def fitting_patch(image_size, config):
    """The smallest patch, from the config's on, that makes 4 to 16 rows of an image."""
    for size in range(config.patch_size, image_size // 4 + 1):
        if image_size % size == 0 and image_size // size <= 16:
            return size
    raise ValueError(
        f"expected --image-size that can be cut into 4 to 16 rows of patches of at least {config.patch_size} pixels, "
        f"found {image_size}; take a multiple of 16, or give --patch-size"
    )


def start_model(start):
    """The model in a file or a run's folder, or else the one that others trained and that has this name."""
    path = Path(start)
    if path.exists() or path.suffix == ".safetensors" or (len(path.parts) > 1 and path.parent.exists()):
        return vit.weights.load(path)
    try:
        return vit.weights.pretrained(start)
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"expected a checkpoint at {start} or a model of this name, found no file; {error}") from None


def resumed_run(args):
    """The run in `--resume`, as a dict; None where it has nothing left to do."""
    state = vit.training.state.load(args.resume)
    history = state["history"]
    if state["finished"]:
        if distributed.rank() == 0:
            print(f"Nothing left to do: the run in {args.resume} is finished ({summary(history)})")
        return None
    own = {"data": history.info.get("data"), "recipe": history.info.get("recipe_name"), "out": args.resume}
    own |= {name: history.info.get(name) for name in ("seed", *TRAIN_OPTIONS)}
    if not isinstance(own["data"], str):
        raise ValueError(
            f"expected a run that vit-tutorial train began, found one of training.train in {args.resume}; "
            "continue with training.train(..., resume=True)"
        )
    if own["data"] not in pictures.DATASETS and not Path(own["data"]).exists():
        raise ValueError(
            f"expected the run's pictures at {own['data']}, found nothing there; put them back, or, where that is no "
            "full path, continue from the folder where the run began"
        )
    for name, value in own.items():
        if (given := getattr(args, name)) is not None and given != value:
            raise ValueError(
                f"expected only --resume {args.resume}, which knows the run's own {name} ({value}), "
                f"found --{name.replace('_', '-')} {given}; leave it out, or start a new run with --out"
            )
    kept = args.resume / "model.safetensors"  # which also says what a config does not: eps, and what the head reads
    model = (vit.weights.load(kept) if kept.is_file() else start_model(own["start"])) if own["start"] else None
    model = getattr(model, "vit", model)  # of a model of pixels, whose head the checkpoint has too
    own["settings"] = history.info.get("settings")
    return own | {"name": own["recipe"], "recipe": state["recipe"], "model": model}


@contextmanager
def deferred_interrupt():
    """Ctrl-C waits for the end of the step, so that nothing is lost; yields a function that says whether it came.

    A second one does not wait; of several processes, none may end alone.
    """
    came = []

    def note(*_):
        if came and distributed.world_size() == 1:
            raise KeyboardInterrupt
        came.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(shown):
    """A bar of the training; yields what `train` calls after each step, which ends the run where Ctrl-C was pressed."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
    with tqdm(total=1.0, bar_format=layout, desc="training", disable=not shown) as bar, deferred_interrupt() as asked:

        def on_step(history, progress):
            bar.set_postfix(status(history), refresh=False)
            bar.update(progress - bar.n)
            if asked():
                raise KeyboardInterrupt

        yield on_step


def summary(history):
    last = history.epochs[-1]
    if history.mean_iou is not None:
        result = f"mean IoU {100 * history.mean_iou:.2f} %, pixels right {100 * history.accuracy:.2f} %"
        return f"{last['epoch']} epochs in {last['seconds']:.0f} s, {result}"
    result = f"test accuracy {'not tested' if history.accuracy is None else f'{100 * history.accuracy:.2f} %'}"
    if history.info["recipe"].get("without_labels"):
        loss = last["train_loss"]
        result = "no step" if loss is None else f"loss {loss} without labels"
    return f"{last['epoch']} epochs in {last['seconds']:.0f} s, {result}"


def status(history):
    """What the progress bar says: the mean loss of the last 50 steps, and the latest test results, if any."""
    recent = history.steps["loss"][-50:]
    tests = {"accuracy": history.accuracy, "mean IoU": history.mean_iou}
    tests = {name: f"{100 * value:.1f} %" for name, value in tests.items() if value is not None}
    return {"loss": f"{sum(recent) / len(recent):.3f}"} | tests


def run_predict(args):
    model = answers.load(args.model)
    return (pixels if isinstance(model, SegmentationViT) else answers).run_predict(args, model)


def run_evaluate(args):
    model, info, rename = answers.load(args.model), answers.run_record(args.model), answers.renames(args.rename)
    if isinstance(model, SegmentationViT):
        return pixels.run_evaluate(args, model)
    if args.data in pictures.DATASETS and args.side == "all":
        raise ValueError(f"expected --side all with a folder of pictures, found --data {args.data}; leave it out")
    if args.data in pictures.DATASETS or not args.data or not Path(args.data).exists():
        [dataset] = pictures.sides(load_pictures(vars(args)), args.data, ["test"])
        notes = [f"{len(dataset):,} pictures, the test side"]
        dataset = answers.match_classes(dataset, model.config.classes, rename)
    else:
        dataset, notes = answers.own_data(args.data, model.config, info, args.side, rename, vars(args))
    present = int((dataset.class_counts > 0).sum())
    if not model.config.classes:
        notes.append("the model has no class names: its outputs are taken for the classes of the data, in their order")
    elif present < len(dataset.classes):
        notes.append(f"the data have {present} of the model's {len(dataset.classes)} classes; any may be answered")
    print(f"{args.model} on {args.data}:")
    for note in notes:
        print(textwrap.fill(note, 100, break_long_words=False, break_on_hyphens=False))
    print(answers.evaluation(model, dataset))
    return 0


def run_download(args):
    vit.datasets.download_cifar10(source=args.source)
    return 0


def main(argv=None):
    """Run the command line; bad input ends in exit status 2 and one line, without a traceback."""
    args = build_parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):  # a name may have letters that a terminal's code page has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"vit-tutorial: {' '.join(str(error).split()):.2000}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vit-tutorial: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
