"""Whether an answer does what its exercise asks: a function for each exercise in which a learner writes code.

They judge the checks (`mutants.py`) and know nothing of them: written from the text of the exercises, with references
by loops, on inputs of awkward sizes that are drawn once. No answer is held to a time.
"""

import copy
import functools

import torch
from torch import nn

SEED = 2**40 + 271  # nobody's own
TOLERANCE = 1e-4  # relative and absolute; the inputs are such that real differences are far larger

ROUGH = (torch.half, torch.bfloat16, torch.complex64, torch.complex128)  # asked for nowhere


def safely(judge):
    """Make an oracle of a function that judges an answer: False where that raises or changes torch's global state."""

    @functools.wraps(judge)
    def oracle(answer):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(SEED)
            try:
                return bool(judge(answer)) and torch.initial_seed() == SEED and torch.is_grad_enabled()
            except (Exception, SystemExit):
                return False

    return oracle


def oracle(cases, read=lambda result: result):
    """Make an oracle of a reference `(*inputs)`. `cases()` gives the inputs, tuples; `read` what of a result counts."""

    def decorate(reference):
        @functools.wraps(reference)
        def oracle(answer):
            settled(reference, cases)  # an error here is ours, and no verdict
            return safely(lambda answer: agrees(answer, reference, cases, read))(answer)

        return oracle

    return decorate


def agrees(answer, reference, cases, read=lambda result: result):
    """Whether an answer gives what the reference gives in every case, and leaves its inputs as they were."""
    for inputs, expected in settled(reference, cases):
        own = copy.deepcopy(inputs)
        if not alike(read(answer(*own)), expected) or not unchanged(inputs, own):
            return False
    return True


@functools.cache
def settled(reference, cases):
    """The inputs of every case, and the result."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return [(inputs, reference(*copy.deepcopy(inputs))) for inputs in cases()]


def alike(found, expected):
    """Whether a result is right: a tensor by shape and value, a number or a yes in any form but text, else by `==`."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor) or found.dtype in ROUGH or found.shape != expected.shape:
            return False
        return torch.allclose(found.detach().double(), expected.detach().double(), TOLERANCE, TOLERANCE)
    if isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, (int, float)):
        if isinstance(found, str) or getattr(found, "dtype", None) in ROUGH:
            return False
        return abs(float(found) - expected) <= TOLERANCE * max(1.0, abs(expected))
    return type(found) is type(expected) and found == expected


def unchanged(before, after):
    """Whether inputs are as they were: their numbers, and of a model also modes, hooks and gradients."""
    return state(before) == state(after)


def state(value):
    """All that `unchanged` compares, in a form for `==`."""
    if isinstance(value, nn.Module):
        hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
        parts = [[name, part.training, *(len(getattr(part, h)) for h in hooks)] for name, part in value.named_modules()]
        return parts, [(name, state(weight)) for name, weight in value.state_dict(keep_vars=True).items()]
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, value.requires_grad, value.grad is None, value.tolist()
    return [*map(state, value)] if isinstance(value, (tuple, list)) else value


def shaken(network):
    """The network with weights that hide no mistake: none is 0 or 1."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
    return network
