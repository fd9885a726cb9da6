"""What happens in a training with the three faults of notebook 07? Ten seeds on each of five simulated machines.

    python tools/measure/explosions.py

With the notebook's own loop. data/runs/explosions.json gets what the notebook says of all runs (certain or not), and
one of them step by step. Every run is written; started again, the tool goes on with the runs that are missing.
"""

import json
import os
import subprocess
import sys
from functools import cache

import torch
from records import Record, notebook_names, parser

from vit_tutorial.files import DATA, ROOT

sys.path.append(str(ROOT / "tools" / "try"))

from machines import MACHINES, settings

NAMES = ("CONFIG", "train_set", "IMAGES", "LABELS", "PIXELS", "no_final_norm", "plain_loop", "trials")
RECORD = DATA / "runs" / "explosions.json"
SEEDS, EPOCHS, LIVE = range(10), 16, 5  # the notebook itself trains for LIVE epochs
SHOWN = ("avx2, 1 thread", 1)  # the run that is kept step by step


def measure(book, seed):
    """One run with all three faults, and the notebook's six trials with few of them, as plain numbers."""
    torch.manual_seed(seed)
    model = book["no_final_norm"](book["CONFIG"])
    calls, ratio = [], []

    def look(model, inputs):
        """Before the step after those that the notebook itself makes."""
        calls.append(inputs)
        if len(calls) == 100 * LIVE + 1:
            with torch.no_grad():
                logits = model(book["PIXELS"][:500])  # (500, 10)
            ratio.append((logits.std(dim=0).mean() / logits.mean(dim=0).std(correction=0)).item())

    model.register_forward_pre_hook(look)
    losses, norms = book["plain_loop"](model, book["PIXELS"], 0.03, EPOCHS)
    means, trials = [sum(losses[end - 100 : end]) / 100 for end in range(100, len(losses) + 1, 100)], {}
    for name, (make, images, rate, warmup) in book["trials"].items():
        torch.manual_seed(seed)
        steps = book["plain_loop"](make(book["CONFIG"]), images, rate, 2, warmup)[0]
        trials[name] = {"highest": round(max(steps), 2), "second": round(sum(steps[100:]) / 100, 3)}
    return {
        "seed": seed,
        "first": round(losses[0], 3),
        "early": round(max(losses[1:21]), 2),  # the largest of the next 20 steps
        "epochs": [round(mean, 3) for mean in means],
        "leap": next((step for step, loss in enumerate(losses[100:], start=101) if loss > 5), None),
        "images_to_classes": round(ratio[0], 3),
        "trials": trials,
        "steps": [[float(f"{value:.4g}") for value in pair] for pair in zip(losses, norms, strict=True)],
    }


@cache
def measured_on(machine):
    """The runs of all seeds on the simulated machine, a process of its own."""
    command = [sys.executable, __file__, "--here"]
    done = subprocess.run(command, env=os.environ | settings(machine), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    options = parser(__doc__, RECORD)
    options.add_argument("--here", action="store_true", help="measure on this machine as it is and print the runs")
    args = options.parse_args()
    if args.here:
        book = notebook_names("07_when_training_fails.py", NAMES)
        print(json.dumps([measure(book, seed) for seed in SEEDS]))
        return
    record = Record(args.out, {"runs": []}, lambda content: json.dumps(content) + "\n", args.seconds)
    record.content |= {"command": "python tools/measure/explosions.py", "torch": str(torch.__version__)}

    def run(machine, seed):
        found = dict(measured_on(machine)[seed])
        steps = found.pop("steps")
        if (machine, seed) == SHOWN:
            record.content["shown"] = {"machine": machine, "seed": seed, "steps": steps}
        return found

    machines = [
        name for name, (_, _, precision) in MACHINES.items() if precision != "bfloat16"
    ]  # not the loop's affair
    plan = [{"machine": machine, "seed": seed} for machine in machines for seed in SEEDS]
    record.complete(plan, record.content["runs"], run)


if __name__ == "__main__":
    main()
