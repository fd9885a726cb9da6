"""Where training starts: numbers that the data can give in closed form need not be learned."""

import torch
from torch import nn

from ..layers import patchify, sinusoidal_positions
from .augment import normalise

LEAST_VARIANCE = 0.01  # added to each direction's variance: what varies less is noise and stays small
SPREAD = 0.5  # standard deviation of a fresh token, and the height of a fresh position's waves


@torch.no_grad()
def initialise(model, images):
    """Start the patch projection as a whitening of the patches of `images`, uint8 `(n, C, Y, X)`, in place.

    Neighbouring pixels are nearly equal, so nearly all the variance of patches is brightness, and a random projection
    shows the blocks little else. Whitening divides each principal component by its standard deviation; an orthogonal
    matrix spreads the components over the D numbers of a token. LeCun et al. 1998 (4.3), Coates & Ng 2012.

    Learned positions start as sines and cosines (Vaswani et al. 2017): neighbours are alike from the first step on.
    """
    D = model.config.embed_dim
    patches = patchify(normalise(images, model.config), model.config.patch_size).flatten(0, 1)  # (n*N, C*P*P)
    covariance = patches.T @ patches / len(patches)
    variance, directions = torch.linalg.eigh(covariance)  # sorted, the largest last
    filters = (directions / (variance + LEAST_VARIANCE).sqrt()).T[-D:]  # (components, C*P*P)
    mix = nn.init.orthogonal_(torch.empty(D, len(filters))).to(filters)
    weight = mix @ filters  # (D, C*P*P)
    weight *= SPREAD / (patches @ weight.T).std()
    model.patch_embed.proj.weight.copy_(weight.view_as(model.patch_embed.proj.weight))
    model.patch_embed.proj.bias.zero_()
    if model.pos_embed.requires_grad:
        waves = SPREAD * sinusoidal_positions(D, model.config.grid)  # (1, N, D)
        model.pos_embed[:, -waves.shape[1] :] = waves.to(model.pos_embed)
