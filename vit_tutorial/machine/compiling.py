"""torch's compiler, where it works."""

import logging
import os
import time
import warnings
from contextlib import contextmanager

import torch
from tqdm import tqdm

from . import distributed


def try_to_compile(model, step):
    """`model`, compiled by torch in `step(model)` where that works here; and what came of it, for a run's record.

    Where it fails, whatever is missing or broken, that is the model itself, and one sentence says so; nothing is
    raised. Random numbers stay as they are. Of several processes all must call it: they compile together or not at all.
    """
    start, failure = time.perf_counter(), None
    try:
        with quiet(), torch.random.fork_rng():
            torch.compiler.reset()  # or it takes what it has for a like model, which may have had other hooks
            compiled = torch.compile(model, dynamic=False)
            step(compiled)
    except Exception as error:  # torch's own, a compiler's, the system's, Triton's: they have no class in common
        cause = getattr(error, "inner_exception", error)
        failure = f"{type(cause).__name__}: {cause}".splitlines()[0][:200]
    if distributed.in_any(failure is not None):
        failure = failure or "another process cannot compile"
        if distributed.rank() == 0:
            tqdm.write(f"Going on uncompiled, for torch's compiler fails here ({failure}).")
        return model, {"compile_seconds": None, "compile_failure": failure}
    return compiled, {"compile_seconds": round(time.perf_counter() - start, 1), "compile_failure": None}


def steps_on_nothing(network, images, patch_dropout):
    """Compute the gradients of empty images and throw them away, for each number of tokens that training has."""
    network.train()
    for patch_dropout.active in (False, True):
        network(images).sum().backward()
        network.zero_grad()


@contextmanager
def quiet():
    """Nothing reaches stderr: no warning, no log, and no word of a compiler, which writes past Python."""
    stderr, level = os.dup(2), logging.root.manager.disable
    try:
        with open(os.devnull, "w") as nowhere, warnings.catch_warnings(action="ignore"):
            os.dup2(nowhere.fileno(), 2)
            logging.disable()
            yield
    finally:
        logging.disable(level)
        os.dup2(stderr, 2)
        os.close(stderr)
