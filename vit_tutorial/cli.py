"""The command line: `vit-tutorial lab | train | evaluate | doctor`."""

import argparse
import sys
from pathlib import Path

from . import __version__, doctor, lab
from .files import CHECKPOINT


def build_parser():
    parser = argparse.ArgumentParser(prog="vit-tutorial", description="The Vision Transformer course.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("lab", help="open the course in JupyterLab")
    lab.add_arguments(command)
    command.set_defaults(run=lab.main)

    command = commands.add_parser("train", help="train a ViT and keep its checkpoint and record")
    add_data_argument(command)
    command.add_argument("--recipe", help="name of a recipe (default: the one for the data)")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="M", help="train this long, the schedule fitted to it")
    length.add_argument("--epochs", type=int, metavar="E", help="train this many passes over the data")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of weights and order (default: 0)")
    command.add_argument("--out", type=Path, metavar="RUN_DIR", help="folder of the run (default: runs/NAME-seedS)")
    command.set_defaults(run=run_train)

    command = commands.add_parser("evaluate", help="test a checkpoint")
    command.add_argument("checkpoint", type=Path, nargs="?", default=CHECKPOINT, metavar="CHECKPOINT")
    add_data_argument(command)
    command.set_defaults(run=run_evaluate)

    command = commands.add_parser("doctor", help="say what works on this machine and what to do about the rest")
    doctor.add_arguments(command)
    command.set_defaults(run=doctor.main)
    return parser


def add_data_argument(command):
    command.add_argument(
        "--data", required=True, metavar="DATA", help="shapes, same_or_different, cifar10, or a folder of images"
    )


def load_data(name, split, image_size=None):
    """The dataset that `--data` names."""
    from . import datasets

    if name in ("shapes", "same_or_different", "cifar10"):
        return getattr(datasets, name)(split)
    return datasets.image_folder(name, split, image_size)


def default_recipe(name):
    return "shapes" if name in ("shapes", "same_or_different") else "cifar10-laptop"


def run_train(args):
    import torch
    from tqdm import tqdm

    from . import training
    from .model import VisionTransformer

    for length in ("minutes", "epochs"):
        if (value := getattr(args, length)) is not None and value <= 0:
            raise ValueError(f"expected more than 0 {length}, found {value}")
    name = args.recipe or default_recipe(args.data)
    if name not in training.RECIPES:
        raise ValueError(f"expected a recipe named one of {', '.join(training.RECIPES)}, found {name!r}")
    recipe = training.RECIPES[name]
    out = args.out or Path("runs") / f"{name}-seed{args.seed}"
    if (out / "model.safetensors").exists():
        raise ValueError(f"expected a new run folder, found a checkpoint in {out}; choose another with --out")
    print(f"Reading {args.data} ...", flush=True)
    size = recipe.model.image_size
    dataset, test = (load_data(args.data, split, size) for split in ("train", "test"))
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = VisionTransformer(recipe.config(dataset)).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{dataset}; recipe {name}: ViT with {parameters:,} parameters on {training.hardware(device)}")
    layout = "{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
    with tqdm(total=1.0, bar_format=layout, desc="training") as bar:

        def on_step(history, progress):
            bar.set_postfix(status(history), refresh=False)
            bar.update(progress - bar.n)

        history = training.train(
            model, dataset, recipe, test, args.epochs, args.minutes, args.seed, out=out, on_step=on_step
        )
    ending = "Stopped early" if history.stopped else "Trained"
    last = history.epochs[-1]
    print(f"{ending}: {last['epoch']} epochs in {last['seconds']:.0f} s, test accuracy {100 * history.accuracy:.2f} %")
    print(f"Kept in {out}: model.safetensors, history.json")
    return 0


def status(history):
    """What the progress bar says: the mean loss of the last 50 steps, and the latest test accuracy."""
    recent = history.steps["loss"][-50:]
    return {"loss": f"{sum(recent) / len(recent):.3f}", "accuracy": f"{100 * history.accuracy:.1f} %"}


def run_evaluate(args):
    import torch

    from . import training, weights

    model = weights.load(args.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    rows, columns = model.config.grid
    P = model.config.patch_size
    test = load_data(args.data, "test", rows * P if rows == columns else None)
    result = training.evaluate(model, test)
    print(f"{args.checkpoint.name} on {args.data} ({len(test)} test images):")
    print(f"accuracy {100 * result.accuracy:.2f} %, loss {result.loss:.4f}")
    return 0


def main(argv=None):
    """Run the command line; bad input ends in exit status 2 and one line, without a traceback."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        print(f"vit-tutorial: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vit-tutorial: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
