"""What runs in the student's kernel when a check is graded: it hands out what an answer gives, as plain data.

Plain data are JSON: numbers, texts, None and true and false as they are, all else as a list `[kind, ...]`. Nothing that
is handed out is trusted: `judging` reads it in another process, and judges it there.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Set
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from itertools import islice

import numpy as np
import torch

from vit_tutorial.check import EXERCISES  # not the package's own name for it, which may be an older module
from vit_tutorial.check.facts import Raised
from vit_tutorial.check.verdict import NotAttempted, Shown, Wrong, attempted, describe, explain, limited

MOST_BYTES, MOST_PARTS, MOST_TEXT = 8 << 20, 100_000, 10_000  # of tensors; values; characters of a text
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
MIME = "application/x-vit-tutorial-answer"


class Writer:
    """Turns values into plain data: `Writer()(value)`. Raises ValueError where they are too many or too large."""

    def __init__(self):
        self.bytes, self.parts = 0, 0

    def __call__(self, value, depth=20):
        self.parts += 1
        if self.parts > MOST_PARTS or not depth:
            raise ValueError("the answer is too large, or nested too deeply")
        if value is None or isinstance(value, (bool, float)):
            return None if value is None else bool(value) if isinstance(value, bool) else float(value)
        if isinstance(value, int):
            return int(value) if abs(value) < 10**300 else ["other", "a very large number"]
        if isinstance(value, str):
            return str(value[:MOST_TEXT])
        if isinstance(value, torch.Tensor):
            return self.tensor("tensor", value)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return self.tensor(kind, torch.from_numpy(np.array(value)))
        if value is ...:
            return ["ellipsis"]
        if isinstance(value, Fraction):
            return ["fraction", self(value.numerator), self(value.denominator)]
        if isinstance(value, Raised):
            return ["raised", type(value.error).__name__, str(value.error)[:MOST_TEXT]]
        if isinstance(value, Mapping):
            return ["dict", *([self(k, depth - 1), self(v, depth - 1)] for k, v in value.items())]
        if isinstance(value, Iterable) and not isinstance(value, (bytes, type)):
            kind = "tuple" if isinstance(value, tuple) else "set" if isinstance(value, Set) else "list"
            return [kind, *(self(part, depth - 1) for part in islice(value, MOST_PARTS))]
        return ["other", describe(value)]

    def tensor(self, kind, tensor):
        tensor = (tensor.to_dense() if tensor.layout != torch.strided else tensor).detach().cpu().resolve_conj()
        name, self.bytes = str(tensor.dtype).removeprefix("torch."), self.bytes + tensor.numel() * tensor.itemsize
        if self.bytes > MOST_BYTES:
            raise ValueError("the answer is too large")
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return [kind, name, [*tensor.shape], base64.b64encode(raw).decode()]


class Parcel:
    """What the kernel sends, in place of its `repr`."""

    def __init__(self, content):
        self.content = content

    def _repr_mimebundle_(self, **_):
        return {MIME: json.dumps(self.content)}


def outcome(checker, answer, seed):
    """What is handed out of an answer, a function without arguments, for inputs drawn with this seed."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return ["given", Writer()(checker.hand_out(attempted(answer())))]
    except NotAttempted:
        return ["not attempted"]
    except Wrong as wrong:
        return ["wrong", str(wrong), wrong.mistake]
    except Exception as error:
        return ["raised", type(error).__name__, explain(error)]


def give(name, answer, seed, nonce):
    """Hand out what the answer to the exercise `name` gives. Prints nothing, and comes back in time, if anything does.

    `nonce` goes back with it: it says to which question this belongs.
    """
    shown, default = Shown(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # or other inputs would be drawn than on the other side
    try:
        with redirect_stdout(shown), redirect_stderr(shown):
            found, _ = limited(lambda: outcome(EXERCISES[name], answer, seed))
    finally:
        torch.set_default_dtype(default)
    return Parcel([nonce, found or ["no end"]])
