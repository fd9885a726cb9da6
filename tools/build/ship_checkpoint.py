"""Make a finished run the checkpoint that the course ships: `python tools/build/ship_checkpoint.py RUN_DIR`."""

import shutil
import sys
from pathlib import Path

from vit_tutorial import weights
from vit_tutorial.files import CHECKPOINT, DATA


def main(run):
    weights.save(weights.load(run / "model.safetensors"), CHECKPOINT, half=True)
    record = DATA / "runs" / f"{run.name}.json"
    record.parent.mkdir(exist_ok=True)
    shutil.copyfile(run / "history.json", record)
    print(f"{CHECKPOINT.name}: {CHECKPOINT.stat().st_size / 1e6:.2f} MB; record in {record.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
