"""The teacher's side of a mark: what a student's kernel has handed out is read, and judged in this process.

It is plain data (`answers`), and nothing of it is ever run. The judge draws the same inputs with the same seed, works
out what is right for them, and compares. What cannot be read is wrong.
"""

import base64
import json
import math
from fractions import Fraction

import torch

from .. import check
from ..check.facts import Raised
from ..check.verdict import CheckResult, NotAttempted, Wrong, judge, limited
from .answers import DTYPES, MOST_BYTES, MOST_PARTS, MOST_TEXT

MOST_CHARACTERS = 2 * MOST_BYTES  # of all that is handed out for one answer
UNREADABLE = "What the kernel handed out is no answer"


class Other:
    """Stands for a value of a kind that no exercise asks for."""

    def __init__(self, described):
        self.described = described

    def __repr__(self):
        return self.described


class Reader:
    """Turns plain data into values: `Reader()(data)`. Raises ValueError for what `answers.Writer` does not write."""

    def __init__(self):
        self.parts = 0

    def __call__(self, data, depth=20):
        self.parts += 1
        if self.parts > MOST_PARTS or not depth:
            raise ValueError("too many values, or nested too deeply")
        match data:
            case None | bool() | int() | float():
                return data
            case str() if len(data) <= MOST_TEXT:
                return data
            case ["tensor" | "array" | "scalar" as kind, str(name), [*shape], str(text)]:
                tensor = self.tensor(name, shape, text)
                return tensor if kind == "tensor" else tensor.numpy() if kind == "array" else tensor.numpy()[()]
            case ["ellipsis"]:
                return ...
            case ["fraction", int(numerator), int(denominator)] if denominator:
                return Fraction(numerator, denominator)
            case ["raised", str(name), str(text)]:  # nothing of the error but its name and what it said
                return Raised(type(name[:60] if name.isidentifier() else "Exception", (Exception,), {})(text))
            case ["dict", *pairs]:
                return {self(key, depth - 1): self(value, depth - 1) for key, value in pairs}
            case ["tuple" | "list" | "set" as kind, *parts]:
                return {"tuple": tuple, "list": list, "set": set}[kind](self(part, depth - 1) for part in parts)
            case ["other", str(described)]:
                return Other(described[:60])
        raise ValueError("not what was expected")

    def tensor(self, name, shape, text):
        raw = base64.b64decode(text, validate=True)
        dtype = getattr(torch, DTYPES[DTYPES.index(name)])
        sized = len(shape) < 10 and all(type(n) is int and 0 <= n <= MOST_BYTES for n in shape)
        if not sized or math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError("a tensor of another size than it says")
        if not raw:
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        return (flat != 0 if dtype == torch.bool else flat.view(dtype)).reshape(shape)


def read(text, nonce):
    """What was handed out, as `answers.outcome` returns it. Raises ValueError where it answers another question."""
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise ValueError("nothing, or too much")
    said, found = json.loads(text)
    if said != nonce:
        raise ValueError("not the answer to this question")
    return found


def verdict_on(name, text, nonce, seed):
    """The `CheckResult` of the exercise `name` for the text that a kernel has handed out for this seed."""

    def praise(_):
        try:
            match read(text, nonce):
                case ["given", data]:
                    return given(data)
                case ["not attempted"]:
                    raise NotAttempted
                case ["wrong", str(message), str() | None as mistake]:
                    raise Wrong(message[:1000], mistake and mistake[:100])
                case ["raised", str(kind), str(message)]:
                    raise Wrong(f"Your code raised {message[:1000]}", kind[:60])
                case ["no end"]:
                    raise Wrong("Expected an answer in time, found none: does a loop never end?", "no end")
            raise ValueError("not what was expected")
        except (NotAttempted, Wrong):
            raise
        except Exception as trouble:  # whatever was sent in place of an answer
            raise Wrong(f"{UNREADABLE}: {type(trouble).__name__}.", "unreadable") from None

    def given(data):
        value = Reader()(data)
        if value is ...:
            raise NotAttempted
        torch.default_generator.manual_seed(seed)
        return check.EXERCISES[name].judge_given(value)

    torch.set_num_threads(1)  # OpenMP's threads do not survive nbgrader's process being forked
    with torch.random.fork_rng(devices=[]):
        result, _ = limited(lambda: judge(praise, ()))
    return result or CheckResult(False, "no end", f"Not yet: no end. {UNREADABLE}: it takes too long to judge.", name)
