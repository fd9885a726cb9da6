"""Images/s of the course's ViT against timm, torchvision, vit-pytorch and transformers: same shape, random weights.

    python tools/measure/throughput.py --threads 2

A training step (AdamW included) and inference, in float32 and in bfloat16 autocast, on three shapes. The models take
turns within every round, so that a machine that slows down slows all of them; the figure is the median over the rounds.
Each figure also as a share of the machine's own matrix product (2048 x 2048 x 2048), measured in the same rounds: the
FLOPs are those of the formula, for all tokens in all blocks. With `--memory kept` glibc keeps freed memory instead of
returning it to the system, as `vit-tutorial train` has it, for all models alike; without the option both are measured.
Makes data/runs/throughput.json, what notebook 11 draws.

Libraries that are absent are named and left out. To have all of them, in an environment of its own (`make lab` and
`make test` use .venv, which stays as it is):

    python -m venv bench
    bench/bin/python -m pip install --constraint constraints.txt --editable . timm vit-pytorch transformers
    bench/bin/python tools/measure/throughput.py
"""

import argparse
import importlib.util
import json
import platform
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from vit_tutorial import VisionTransformer, ViTConfig
from vit_tutorial.files import DATA, atomic_path
from vit_tutorial.machine.threads import keep_memory

OURS = "vit_tutorial"
CLASSES = 10
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODES = ("training", "inference")
TARGETS = {("training", "bfloat16"): 1.1}  # times the best peer; 0.98 elsewhere


class Shape(NamedTuple):
    """A model and its batch; the MLP is four times as wide as the tokens."""

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    batch: int

    def __str__(self):
        return f"{self.image} px, patch {self.patch}, {self.width} wide, {self.depth} deep, batch {self.batch}"

    @property
    def flops(self):
        """FLOPs of one image's forward pass, class token included: two for each multiply-add."""
        N, D = (self.image // self.patch) ** 2, self.width
        T = N + 1
        block = T * (3 + 1 + 2 * 4) * D * D + 2 * T * T * D  # qkv, proj, MLP; scores and mixing
        return 2 * (N * 3 * self.patch**2 * D + self.depth * block + D * CLASSES)


SHAPES = {
    "cifar-8": Shape(32, 8, 128, 6, 4, 256),
    "cifar-4": Shape(32, 4, 192, 6, 3, 64),
    "tiny-16": Shape(224, 16, 192, 12, 3, 8),
}


def course(s):
    sizes = {"image_size": s.image, "patch_size": s.patch, "embed_dim": s.width, "depth": s.depth, "num_heads": s.heads}
    return VisionTransformer(ViTConfig(**sizes, num_classes=CLASSES))


def timm(s):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(s.image, s.patch, 3, CLASSES, embed_dim=s.width, depth=s.depth, num_heads=s.heads)


def torchvision(s):
    from torchvision.models import VisionTransformer

    return VisionTransformer(s.image, s.patch, s.depth, s.heads, s.width, 4 * s.width, num_classes=CLASSES)


def vit_pytorch(s):
    from vit_pytorch import ViT

    sizes = {"image_size": s.image, "patch_size": s.patch, "dim": s.width, "depth": s.depth, "heads": s.heads}
    return ViT(**sizes, mlp_dim=4 * s.width, dim_head=s.width // s.heads, num_classes=CLASSES)


def transformers(s):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"image_size": s.image, "patch_size": s.patch, "hidden_size": s.width, "intermediate_size": 4 * s.width}
    sizes |= {"num_hidden_layers": s.depth, "num_attention_heads": s.heads}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return ViTForImageClassification(ViTConfig(**sizes, **dropout, num_labels=CLASSES))


PEERS = {"timm": timm, "torchvision": torchvision, "vit-pytorch": vit_pytorch, "transformers": transformers}


def logits(output):
    return getattr(output, "logits", output)


def stepper(model, shape, mode, precision):
    """A function that does one training step, or one inference, on one batch."""
    torch.manual_seed(0)
    images = torch.randn(shape.batch, 3, shape.image, shape.image)
    labels = torch.randint(0, CLASSES, (shape.batch,))
    model.train(mode == "training")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def train():
        optimizer.zero_grad()
        with mixed:
            output = logits(model(images))
        F.cross_entropy(output.float(), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def infer():
        with mixed:
            logits(model(images))

    return train if mode == "training" else infer


def rate(work, seconds, warmup=1):
    """How often a second `work()` is done, over at least `seconds`."""
    for _ in range(warmup):
        work()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or count < 2:
        work()
        count += 1
    return count / elapsed


def matrix_product(precision):
    a = torch.ones(2048, 2048, dtype=DTYPES[precision])
    return lambda: a @ a


def measure(shape, mode, precision, models, args):
    """Images/s of every model and GFLOP/s of the matrix product: a list with one figure a round for each name."""
    works = {name: stepper(model, shape, mode, precision) for name, model in models.items()}
    product = matrix_product(precision)
    found = {name: [] for name in [*works, "product"]}
    for work in works.values():
        rate(work, 0)  # warm up all before any is measured
    for turn in range(args.rounds):
        names = list(works)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(shape.batch * rate(works[name], args.seconds))
        found["product"].append(2 * 2048**3 / 1e9 * rate(product, 0.1))
    return found


def rows(shape, mode, precision, memory, found, parameters):
    """One record a model."""
    per_image = shape.flops * (3 if mode == "training" else 1)  # the backward pass costs two forward passes
    product = statistics.median(found["product"])
    peers = [name for name in found if name in PEERS]
    best = max(peers, key=lambda name: statistics.median(found[name]), default=None)
    for name, values in found.items():
        if name == "product":
            continue
        images = statistics.median(values)
        row = {"shape": list(shape), "mode": mode, "precision": precision, "memory": memory, "model": name}
        row |= {"images_per_second": round(images, 1), "rounds": [round(v, 1) for v in values]}
        row |= {"parameters": parameters[name], "product_gflops": round(product, 1)}
        row["share_of_product"] = round(images * per_image / 1e9 / product, 4)
        if name == OURS and best:
            ratios = [ours / theirs for ours, theirs in zip(values, found[best], strict=True)]
            row |= {"best_peer": best, "against_best_peer": round(statistics.median(ratios), 3)}
        yield row


def run(args):
    torch.set_num_threads(args.threads)
    missing = [name for name in PEERS if importlib.util.find_spec(name.replace("-", "_")) is None]
    builders = {OURS: course} | {name: build for name, build in PEERS.items() if name not in missing}
    if missing:
        print(f"Not installed, so not measured: {', '.join(missing)}. How to install them: --help", file=sys.stderr)
    results = []
    for memory in args.memory:
        if memory == "kept":
            keep_memory()
        for key in args.shapes:
            shape = SHAPES[key]
            torch.manual_seed(0)
            models = {name: build(shape) for name, build in builders.items()}
            parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
            for precision in DTYPES:
                for mode in MODES:
                    found = measure(shape, mode, precision, models, args)
                    results += (new := list(rows(shape, mode, precision, memory, found, parameters)))
                    print(in_words(new), flush=True)
    return {
        "command": " ".join(["python tools/measure/throughput.py", *sys.argv[1:]]),
        "hardware": f"{args.threads} CPU threads ({cpu_name()})",
        "clock": "wall",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ["torch", *[name for name in PEERS if name not in missing]]},
        "results": results,
    }


def cpu_name():
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(row.partition(":")[2].strip() for row in text.splitlines() if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def as_text(record):
    """JSON, a line a measurement."""
    head = json.dumps({name: value for name, value in record.items() if name != "results"}, indent=1)
    lines = ",\n  ".join(json.dumps(row) for row in record["results"])
    return f'{head[:-2]},\n "results": [\n  {lines}\n ]\n}}\n'


def in_words(rows):
    """What was found for one shape, mode, precision and memory, in one line."""
    figures = ", ".join(f"{row['model']} {row['images_per_second']:.0f}" for row in rows)
    ratio = next((f"; x {row['against_best_peer']:.2f}" for row in rows if "best_peer" in row), "")
    return f"{setting(rows[0])}: {figures}{ratio}"


def setting(row):
    return f"{Shape(*row['shape'])}; {row['mode']}, {row['precision']}, memory {row['memory']}"


def owed(record):
    """The measurements that miss their target, one line each."""
    for row in record["results"]:
        ratio, target = row.get("against_best_peer"), TARGETS.get((row["mode"], row["precision"]), 0.98)
        if ratio is not None and ratio < target:
            yield f"{setting(row)}: {ratio:.2f} times {row['best_peer']}, the target is {target}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least so long a model and round (default: 1)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--memory", nargs="+", choices=("default", "kept"), default=["default", "kept"])
    parser.add_argument("--out", type=Path, default=DATA / "runs" / "throughput.json")
    args = parser.parse_args()
    args.memory = sorted(set(args.memory))  # default first: the other cannot be undone
    warnings.filterwarnings("ignore", module="transformers")
    record = run(args)
    with atomic_path(args.out) as path:
        path.write_text(as_text(record), encoding="utf-8")
    print("\n".join(owed(record)) or "All targets met.")


if __name__ == "__main__":
    main()
