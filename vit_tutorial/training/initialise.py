"""Where training starts: numbers that the data can give in closed form need not be learned."""

import torch
from torch import nn

from ..layers import patchify, sinusoidal_positions
from ..model import normalise

LEAST_VARIANCE = 0.01  # added to each direction's variance: what varies less is noise and stays small
MOST_NUMBERS = 3 * 32 * 32  # of a patch that is whitened: more take minutes, and then gigabytes
SPREAD = 0.5  # standard deviation of a fresh token, and the height of a fresh position's waves


def initialise(model, images, parts):
    """Start `parts` of `model`, "patches" or "positions" or both, in closed form, in place."""
    for part in parts:
        {"patches": whiten_patches, "positions": wave_positions}[part](model, images)


@torch.no_grad()
def whiten_patches(model, images):
    """Start the patch projection as a whitening of the patches of `images`, uint8 `(n, C, Y, X)`.

    Neighbouring pixels are nearly equal, so nearly all the variance of patches is brightness, and a random projection
    shows the blocks little else. Whitening divides each principal component by its standard deviation; an orthogonal
    matrix spreads the components over the D numbers of a token. LeCun et al. 1998 (4.3), Coates & Ng 2012.
    Patches of more than `MOST_NUMBERS` start at random all the same.
    """
    D, P = model.config.embed_dim, model.config.patch_size
    if model.config.in_channels * P * P > MOST_NUMBERS:
        return
    patches = patchify(normalise(images, model.config), P).flatten(0, 1)  # (n*N, C*P*P)
    covariance = patches.T @ patches / len(patches)
    variance, directions = torch.linalg.eigh(covariance)  # sorted, the largest last
    filters = (directions / (variance + LEAST_VARIANCE).sqrt()).T[-D:]  # (components, C*P*P)
    mix = nn.init.orthogonal_(torch.empty(D, len(filters))).to(filters)
    weight = mix @ filters  # (D, C*P*P)
    weight *= SPREAD / (patches @ weight.T).std()
    model.patch_embed.proj.weight.copy_(weight.view_as(model.patch_embed.proj.weight))
    model.patch_embed.proj.bias.zero_()


@torch.no_grad()
def wave_positions(model, images):
    """Start learned positions as sines and cosines (Vaswani et al. 2017): neighbours are alike from the first step.

    Raises `ValueError` where positions are not learned.
    """
    if model.config.position != "learned":
        raise ValueError(
            f"expected learned positions to start as waves, found position={model.config.position!r}; "
            "leave 'positions' out of the recipe's initialise"
        )
    waves = SPREAD * sinusoidal_positions(model.config.embed_dim, model.config.grid)  # (1, N, D)
    model.pos_embed[:, -waves.shape[1] :] = waves.to(model.pos_embed)
