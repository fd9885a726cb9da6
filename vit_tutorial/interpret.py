"""What looks inside a trained model."""

import torch


def attention_rollout(attention):
    """How much of each input token reaches each output token: `(L, B, H, N, N)` -> `(B, N, N)`, rows sum to 1.

    Each layer passes on half of what a token was (the residual connection) and half of what it attends to, averaged
    over the heads; the layers are multiplied (Abnar and Zuidema 2020, section 3).
    """
    N = attention.shape[-1]
    rollout = torch.eye(N, device=attention.device, dtype=attention.dtype)
    for layer in attention.mean(dim=2):  # (B, N, N)
        rollout = (layer + torch.eye(N, device=attention.device, dtype=attention.dtype)) / 2 @ rollout
    return rollout
