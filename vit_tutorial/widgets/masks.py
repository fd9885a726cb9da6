"""MaskExplorer: cover patches of a picture, and see what a masked autoencoder fills in."""

from copy import deepcopy

import numpy as np
import torch
from matplotlib.figure import Figure
from traitlets import Bool, Bytes, Dict, Int, List, validate

from ..datasets import shapes
from ..files import DATA
from ..layers import check_images, image_sides, patchify, unpatchify
from ..model import VisionTransformer, normalise
from ..plots import draw_image
from ..training import mae
from .explorer import Explorer, float_bytes, mark_patch, module

EXAMPLES = [14, 13, 11]  # test pictures of shapes: a ring, a heart, a star
MOST = 12  # pictures to choose from


class MaskExplorer(Explorer):
    """Cover patches of a picture, and see what a masked autoencoder fills in from those that are left.

        MaskExplorer()                     # the autoencoder that the course ships, and three pictures of shapes
        MaskExplorer(autoencoder, images)  # training.mae.MaskedAutoencoder of pixels, uint8 (B, 3, Y, X)

    What is shown can be read and set: `image`, the index of the picture; `hidden`, the covered patches, and `patch`,
    the one pointed at, as indices into `patchify(images, patch_size)`; `share`, where the slider stands, in percent.
    Errors are mean squared ones of pixels as `normalise` gives them. Beside the model's stand those of a guess: the
    mean colour of the patches that are left. The page computes the model itself, from its weights in float32.

    Raises `ValueError` for another model, for one of normalised patches (`normalise=True`), whose answers are no
    pixels, for other images than it takes, and for more than 12 of them.
    """

    _esm = module("masks.js")

    weights = Bytes().tag(sync=True)  # float32, in the order of `numbers_of`
    sizes = Dict().tag(sync=True)  # what the page needs to know of the model
    patches = Bytes().tag(sync=True)  # (B, N, 3*P*P) float32, normalised
    count = Int().tag(sync=True)  # B
    image = Int().tag(sync=True)
    share = Int(75).tag(sync=True)
    hidden = List(Int()).tag(sync=True)
    patch = Int().tag(sync=True)
    numbers = Bool(False).tag(sync=True)

    def __init__(self, autoencoder=None, images=None, **view):
        if autoencoder is None:
            autoencoder = mae.load(DATA / "mae_shapes.safetensors")
        config = checked(autoencoder).vit.config
        if images is None:
            images = shapes("test", max(EXAMPLES) + 1).images[EXAMPLES]
        if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
            found = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
            raise ValueError(f"expected uint8 images (B, 3, Y, X), found {found}; (255 * images).byte() are bytes")
        check_images(images, 3, image_sides(config.image_size))
        if not 1 <= len(images) <= MOST:
            raise ValueError(f"expected 1 to {MOST} images, found {len(images)}; choose some, as in images[:3]")
        self.images = images.cpu()
        self._model = deepcopy(autoencoder).cpu().float().eval()  # it may be trained on
        N, share = self._model.N, view.get("share", 75)
        order = np.random.default_rng(0).permutation(N)
        super().__init__(
            weights=float_bytes(numbers_of(self._model)),
            sizes=sizes_of(self._model),
            patches=float_bytes(patchify(normalise(self.images, config), config.patch_size)),
            count=len(images),
            **{"hidden": sorted(order[: share * N // 100].tolist()), "patch": int(order[0])} | view,
        )

    @validate("hidden")
    def _some_are_left(self, proposal):
        hidden, N = proposal["value"], self._model.N
        if len(set(hidden)) < len(hidden) or not set(hidden) <= set(range(N)) or len(hidden) == N:
            raise ValueError(f"expected patches from 0 to {N - 1}, each once and not all of them, found {hidden!s:.60}")
        return hidden

    @validate("image", "patch")
    def _in_range(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        count = len(self.images) if name == "image" else self._model.N
        if not 0 <= value < count:
            raise ValueError(f"expected {name} from 0 to {count - 1}, found {value}")
        return value

    @validate("share")
    def _on_the_slider(self, proposal):
        if proposal["value"] not in range(5, 100, 5):
            raise ValueError(f"expected a share of 5, 10, ... or 95 percent, found {proposal['value']}")
        return proposal["value"]

    def __repr__(self):
        rows, columns = self._model.vit.config.grid
        return f"MaskExplorer({self.count} picture{'s' * (self.count > 1)}, {rows} x {columns} patches)"

    def figure(self):
        config = self._model.vit.config
        (rows, columns), P, sides = config.grid, config.patch_size, image_sides(config.image_size)
        hidden = torch.zeros(1, rows * columns, dtype=torch.bool)
        hidden[0, self.hidden] = True
        inputs = normalise(self.images[self.image][None], config)
        targets = patchify(inputs, P)  # (1, N, 3*P*P)
        answers = torch.where(hidden[:, :, None], self._model.reconstruct(inputs, hidden), targets)
        colour = targets.unflatten(2, (3, -1))[~hidden].mean(dim=(0, 2))  # (3,): of what is left
        guess = colour.repeat_interleave(P * P).expand_as(targets)
        said = "nothing is covered."
        if self.hidden:
            errors = [(x - targets)[hidden].square().mean() for x in (answers, guess)]
            said = "mean squared error there {:.3f}, of the mean colour {:.3f}.".format(*errors)
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        seen = torch.where(hidden[:, :, None], (0.85 - mean).div(std).repeat_interleave(P * P), targets)
        left = rows * columns - len(self.hidden)
        titles = (f"the model sees {left} of {rows * columns} patches", "what it fills in", "the picture itself")
        fig = Figure(figsize=(9.4, 3.2 * rows / columns + 0.3), layout="constrained")
        for ax, x, title in zip(fig.subplots(1, 3), (seen, answers, targets), titles, strict=True):
            draw_image(ax, unpatchify(x, P, sides)[0] * std.view(3, 1, 1) + mean.view(3, 1, 1), title)
            mark_patch(ax, self.patch, columns, P, P)
        return fig, (
            f"A picture of {rows} x {columns} patches, {len(self.hidden)} of them covered; what the model fills in; "
            f"the picture itself: {said}"
        )


def checked(autoencoder):
    """The autoencoder, if the page can compute it and show its answers. Raises `ValueError` if not."""
    if not isinstance(autoencoder, mae.MaskedAutoencoder) or type(autoencoder.vit) is not VisionTransformer:
        found = [type(autoencoder).__name__]
        if hasattr(autoencoder, "vit"):
            found.append(f"of a {type(autoencoder.vit).__name__}")
        raise ValueError(
            f"expected a training.mae.MaskedAutoencoder of a VisionTransformer, found {' '.join(found)}; "
            "mae.load reads one"
        )
    if autoencoder.normalise:
        raise ValueError(
            "expected an autoencoder that answers with pixels, found one of normalised patches; "
            "train it with normalise=False"
        )
    if autoencoder.vit.config.in_channels != 3:
        raise ValueError(
            f"expected an autoencoder of colour pictures, found {autoencoder.vit.config.in_channels} channels; "
            "train it with in_channels=3"
        )
    return autoencoder


def numbers_of(autoencoder):
    """All that the model computes with, in one row: the decoder's places, then its weights in their order."""
    kept = [x for name, x in autoencoder.state_dict().items() if not name.startswith("vit.head.")]
    return torch.cat([x.flatten() for x in (autoencoder.decoder.pos_embed, *kept)])


def sizes_of(autoencoder):
    """Grid, patch size and statistics, whether there is a class token, and the sizes of encoder and decoder."""
    config, decoder = autoencoder.vit.config, autoencoder.decoder

    def half(blocks, dim):
        heads, hidden = blocks[0].attn.num_heads, blocks[0].mlp.fc1.out_features
        return {"dim": dim, "depth": len(blocks), "heads": heads, "hidden": hidden}

    return {
        "grid": list(config.grid),
        "patch": config.patch_size,
        "mean": list(config.mean),
        "std": list(config.std),
        "prefix": decoder.prefix,
        "encoder": half(autoencoder.vit.blocks, config.embed_dim),
        "decoder": half(decoder.blocks, decoder.embed.out_features),
    }
