"""AttentionExplorer: where each token looks, in every layer and head."""

from math import isqrt

import torch
from traitlets import Bool, Bytes, Int, List, Unicode

from ..interpret import Tokens, attention_rollout, record
from ..interpret.attention import known_tokens
from ..interpret.recording import readable
from ..layers import grid_size
from ..plots import draw_attention, figure
from .explorer import EXACT_BYTES, Explorer, attention_bytes, model_input, module, pixel_bytes, rgb

MOST_PREFIX = 16  # tokens that may stand before the patches, where the weights do not know which
MEAN, ROLLOUT = -1, -2  # what `head` may be besides the index of a head


class AttentionExplorer(Explorer):
    """Point at a patch of an image and see where its token looks, in each layer and head.

        AttentionExplorer(model, images)       # any model that interpret.record takes, uint8 images (B, C, Y, X)
        AttentionExplorer(attention, images)   # attention weights (L, B, H, N, N), or (L, H, N, N) for one image

    `pictures` `(B, C, Y', X')`, uint8, are drawn instead of the images (a sharper copy), `titles` above them. Two
    images stand side by side, of more any two. What is shown can be read and set: `layer`, `head` and `query` are
    indices into the attention weights; `head` -1 is the mean of the heads and -2 the rollout up to the layer. `query`
    is a token, 0 being the class token where there is one; `prefix` names all that stand before the patches, such as
    registers. Of four channels and more the first three are shown as red, green and blue, with a warning. Weights of
    more than 2 MB are sent with 8 bits each, wrong by at most 0.2 % of the largest in their row. Raises `ValueError`
    where images, weights and titles do not fit together, and for a model that `interpret.record` does not take.
    """

    _esm = module("attention.js")

    weights = Bytes().tag(sync=True)  # (L, B, H, N, N): as `attention_bytes` makes them
    scales = Bytes().tag(sync=True)
    shape = List(Int()).tag(sync=True)  # L, B, H, N
    grid = List(Int()).tag(sync=True)  # rows and columns of patches
    prefix = List(Unicode()).tag(sync=True)  # names of the tokens before the patches
    pixels = Bytes().tag(sync=True)  # (B, Y, X, 3) uint8
    size = List(Int()).tag(sync=True)  # Y, X
    titles = List(Unicode()).tag(sync=True)
    layer = Int().tag(sync=True)
    head = Int(MEAN).tag(sync=True)
    query = Int().tag(sync=True)
    left = Int().tag(sync=True)  # which image
    right = Int(-1).tag(sync=True)  # which image beside it, -1 for none
    numbers = Bool(False).tag(sync=True)

    def __init__(self, source, images, pictures=None, titles=(), **view):
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(
                f"expected uint8 images (B, C, Y, X), found {images.dtype} {tuple(images.shape)}; "
                "a single image becomes a batch with image[None]"
            )
        self._attention = attention_of(source, images)
        pictures = images if pictures is None else pictures
        if len(pictures) != len(images) or len(titles) not in (0, len(images)):
            raise ValueError(
                f"expected a picture and a title for each of {len(images)} images, "
                f"found {len(pictures)} pictures and {len(titles)} titles"
            )
        L, B, H, N, _ = self._attention.shape
        tokens = tokens_for(self._attention, images.shape[2:])
        self._pictures = rgb(pictures).cpu()
        super().__init__(
            **attention_bytes(self._attention, EXACT_BYTES),
            shape=[L, B, H, N],
            grid=list(tokens.grid),
            prefix=list(tokens.names),
            pixels=pixel_bytes(self._pictures),
            size=list(pictures.shape[2:]),
            titles=list(titles),
            **{"layer": L - 1, "right": 1 if B == 2 else -1} | view,
        )

    def __repr__(self):
        L, B, H, N = self.shape
        return f"AttentionExplorer({B} image{'s' * (B > 1)}, {L} layers, {H} heads, {N} tokens)"

    def _rows(self, image):
        """The query's attention `(H + 2, N)` in the layer: mean, rollout, then each head."""
        attention = self._attention[:, image]  # (L, H, N, N)
        heads = attention[self.layer, :, self.query]
        rollout = attention_rollout(attention[: self.layer + 1, None].float())[0, self.query]
        return torch.cat([heads.mean(dim=0, keepdim=True), rollout[None], heads])

    def figure(self):
        H, prefix = self.shape[2], len(self.prefix)
        patch = self.query - prefix if self.query >= prefix else None
        names = ["mean", "rollout", *(f"head {h + 1}" for h in range(H))]
        shown = [MEAN, ROLLOUT, *range(H)].index(self.head)
        images = [self.left] if self.right < 0 else [self.left, self.right]
        titles = [f"{self.titles[image]}: " if self.titles else "" for image in images]
        fig, axes = figure(9.4, 2.9 * len(images), len(images), 2, squeeze=False, width_ratios=[1, 2.1])
        for image, name, (big, small) in zip(images, titles, axes, strict=True):
            weights = self._rows(image)[:, prefix:].unflatten(1, self.grid)  # (H + 2, rows, columns)
            title = f"{name}layer {self.layer + 1}, {names[shown]}"
            draw_attention(big, self._pictures[image], weights[shown], self.grid, title, patch)
            draw_tiles(small, weights, names)
        if patch is None:
            token = self.prefix[self.query]
            token = token if token[-1].isdigit() else f"the {token}"
        else:
            token = "the patch in row {} and column {}".format(*(i + 1 for i in divmod(patch, self.grid[1])))
        said = f"Where {token} looks in layer {self.layer + 1}: {names[shown]}, then every head."
        return fig, "".join(titles) + said


def attention_of(source, images):
    """The attention weights `(L, B, H, N, N)` of a model for uint8 images, or those given, once they fit the images."""
    if not isinstance(source, torch.Tensor):
        model = readable(source)
        source = record(model, model_input(model, images))
    attention = source.detach().float().cpu()
    if attention.ndim == 4:
        attention = attention[:, None]
    if attention.ndim != 5 or attention.shape[1] != len(images) or attention.shape[3] != attention.shape[4]:
        raise ValueError(
            f"expected attention weights (L, B, H, N, N) for B = {len(images)} images, "
            f"found {tuple(attention.shape)}; model.attention_maps(images) returns them"
        )
    return attention


def draw_tiles(ax, maps, names):
    """Small maps `(n, rows, columns)`, each on its own scale and under its name, in two rows or more."""
    rows, columns = maps.shape[1:]
    across = min(7, -(-len(maps) // 2))
    wide, high = 1.15, 1.3 * rows / columns  # of a tile's place, a tile being 1 wide
    for i, (values, name) in enumerate(zip(maps, names, strict=True)):
        down, right = divmod(i, across)
        left, top = right * wide, down * high
        extent = (left, left + 1, top + rows / columns, top)
        ax.imshow(values.numpy(), extent=extent, vmin=0, vmax=values.max(), interpolation="nearest")
        ax.text(left, top - 0.04, name, fontsize=9)
    ax.set(anchor="W", xlim=(0, across * wide), ylim=(-(-len(maps) // across) * high, -0.2))
    ax.set_axis_off()


def tokens_for(attention, image_size):
    """The `Tokens` of attention weights for images of `image_size`, those they know or those that their number tells.

    Raises `ValueError` where these tokens are not those of such an image cut into square patches.
    """
    (Y, X), N = image_size, attention.shape[-1]
    if tokens := known_tokens(attention):
        rows, columns = tokens.grid
        if Y * columns == X * rows or not (Y % rows or X % columns):
            return tokens
    for prefix in (1, 0, *range(2, MOST_PREFIX + 1)):
        patches = N - prefix
        side = isqrt(Y * X // patches) if patches > 0 else 0
        if side and Y % side == X % side == 0 and (Y // side) * (X // side) == patches:
            extra = tuple(f"extra token {i + 1}" for i in range(prefix))
            return Tokens(("class token",) if prefix == 1 else extra, grid_size((Y, X), side))
    raise ValueError(
        f"expected as many tokens as an image of {Y} x {X} pixels has square patches, or up to {MOST_PREFIX} more "
        f"for a class token and registers, found {N}; pass the images that the attention weights were computed from"
    )
