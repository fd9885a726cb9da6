"""What a simulated machine runs before each notebook: torch's operators as other processors have them.

Dropout's random numbers come from another stream: nothing promises that they are the same with every build of torch.
And where training was told to use bfloat16 without units for it, products are computed in float32 and then rounded, as
such units do, because torch's own way would take 70 times as long.
"""

import os

import torch
import torch.nn.functional as F

LIBRARY = torch.library.Library("aten", "IMPL")  # what it replaces stays replaced as long as it lives


def bernoulli_(tensor, p=0.5, generator=None):
    return tensor.copy_(torch.rand(tensor.shape, generator=generator) < p)


def replace_product(name, first):
    """Replace an operator whose two factors follow `first` other arguments."""
    compute = getattr(torch.ops.aten, name).out  # does the same, and is not replaced

    def product(*tensors, **scales):
        left, right = tensors[first:]
        dtype = torch.float32 if left.dtype == torch.bfloat16 else left.dtype
        out = left.new_empty(*left.shape[:-1], right.shape[-1], dtype=dtype)
        return compute(*(tensor.to(dtype) for tensor in tensors), **scales, out=out).to(left.dtype)

    LIBRARY.impl(name, product, "CPU")


def conv2d(image, weight, bias=None, *arguments, exact=F.conv2d, **named):
    if not torch.is_autocast_enabled("cpu"):
        return exact(image, weight, bias, *arguments, **named)
    with torch.autocast("cpu", enabled=False):
        halves = (None if tensor is None else tensor.bfloat16().float() for tensor in (image, weight, bias))
        return exact(*halves, *arguments, **named).bfloat16()


LIBRARY.impl("bernoulli_.float", bernoulli_, "CPU")
if os.environ["VIT_TUTORIAL_PRECISION"] == "bfloat16" and not torch.cpu._is_avx512_bf16_supported():
    for name, first in {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}.items():
        replace_product(name, first)
    F.conv2d = conv2d
