"""In which precision a training computes its matrix products."""

import os
from contextlib import nullcontext

import torch
from torch import nn

PRECISION = "VIT_TUTORIAL_PRECISION"  # environment: float32 or bfloat16, instead of what the processor suggests


def bf16_pays(device_type):
    """Whether to compute matrix products in bfloat16 on such a device, a fixed property of the machine.

    True where the processor has units for it (AVX512-BF16, AMX; CUDA from Ampere on), which make products several
    times as fast. Elsewhere they are emulated, at up to 70 times the time of float32. The environment variable
    `VIT_TUTORIAL_PRECISION` decides instead where it is set; raises `ValueError` where it is neither `float32` nor
    `bfloat16`.
    """
    wish = os.environ.get(PRECISION)
    if wish:
        if wish not in ("float32", "bfloat16"):
            raise ValueError(f"expected {PRECISION} to be float32 or bfloat16, found {wish!r}; set one, or none")
        return wish == "bfloat16"
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, as on a T4, it is slow
    if device_type != "cpu" or not torch.backends.mkldnn.is_available():  # macOS has no oneDNN, nor the question
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device, bf16=None):
    """Mixed precision: matrix products in bfloat16, weights and sums in float32. None: where `bf16_pays`."""
    wanted = bf16_pays(device.type) if bf16 is None else bf16
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


class MixedPrecision(nn.Module):
    """`model` with its matrix products in bfloat16, where `bf16` says so; its logits, or its loss, are float32."""

    def __init__(self, model, bf16):
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, images, *drawn):
        with autocast(images.device, self.bf16):
            return self.model(images, *drawn).float()
