"""SimilarityExplorer: point at a patch, and see which patches a model finds alike."""

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from traitlets import Bool, Bytes, Int, List, Unicode, validate

from ..datasets import scenes
from ..dense import SegmentationViT
from ..files import DATA
from ..interpret import features
from ..interpret.recording import readable
from ..interpret.tokens import tokens_of
from ..plots import draw_image, figure
from ..training import mae
from ..weights import unwrapped
from .explorer import Explorer, mark_patch, model_input, module, pixel_bytes, rgb

EXAMPLES = [13, 14, 41, 57, 73]  # test scenes, each with a star
STAR = 14  # in the first of them, a patch of its star
VIEWS = ("alike", "colours", "pictures")
MOST = 12  # pictures to choose from
NEAREST = 3  # patches that are outlined in each picture


class SimilarityExplorer(Explorer):
    """Point at a patch and see which patches are alike: the cosines of its token with all others, in any layer.

        SimilarityExplorer()                      # the encoder of notebook 14, and scenes that each have a star
        SimilarityExplorer(model, images)         # uint8 images (B, C, Y, X)
        SimilarityExplorer(model, images, other)  # the first of `images`, and beside it the first of `other`

    A model is a `VisionTransformer`, a `ModernViT`, one that `interpret.features` takes, or a `MaskedAutoencoder` or
    `SegmentationViT` around one. Tokens that are no patches are left out. What is shown can be read and set. `left` and
    `right` are indices into `images` and then `other`; of one picture there is no right side. `layer` is 0 for the
    embedding with its positions, or the number of a block; the last one's tokens have passed the norm after it, as a
    head reads them. `patch` is the one pointed at: 0 to N - 1 on the left, N to 2 N - 1 on the right. `show` is
    "alike", "pictures" or "colours": each token's first three principal components, over all pictures and from 0 to 1
    in each layer, as red, green and blue. Cosines in the page are wrong by less than 0.001.

    Raises `ValueError` for other models and images, more than 12 pictures, a single patch, and features that are not
    finite.
    """

    _esm = module("similarity.js")

    codes = Bytes().tag(sync=True)  # (L + 1, B, N, D) int16: tokens, the largest number of each scaled to 32767
    colours = Bytes().tag(sync=True)  # (L + 1, B, N, 3) uint8
    shape = List(Int()).tag(sync=True)  # L + 1, B, N, D
    grid = List(Int()).tag(sync=True)  # rows and columns of patches
    pixels = Bytes().tag(sync=True)  # (B, Y, X, 3) uint8
    size = List(Int()).tag(sync=True)  # Y, X
    layer = Int().tag(sync=True)
    left = Int().tag(sync=True)
    right = Int().tag(sync=True)
    patch = Int().tag(sync=True)
    show = Unicode("alike").tag(sync=True)
    numbers = Bool(False).tag(sync=True)

    def __init__(self, model=None, images=None, other=None, **view):
        model = mae.load(DATA / "mae_shapes.safetensors") if model is None else model
        if images is None:
            images, view = scenes("test", max(EXAMPLES) + 1).images[EXAMPLES], {"patch": STAR} | view
        given = [check_bytes(x) for x in (images, other) if x is not None]
        counts = [len(x) for x in given]
        if 0 in counts or sum(counts) > MOST or given[0].shape[1:] != given[-1].shape[1:]:
            found = " and ".join(str(tuple(x.shape)) for x in given)
            raise ValueError(f"expected 1 to {MOST} images of one size, found {found}; choose some, as in images[:3]")
        images = torch.cat(given)
        tokens, self._grid = patch_tokens(model, images)
        if not tokens.isfinite().all():
            raise ValueError("expected a model whose features are finite, found some that are not; train it again")
        if tokens.shape[2] < 2:
            raise ValueError("expected two patches or more, found 1; a smaller patch size makes more")
        largest = tokens.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30)
        self._codes = (tokens * (32767 / largest)).round().short()
        self._colours = torch.stack([components(x) for x in tokens])
        self._pictures = rgb(images).cpu()
        super().__init__(
            codes=self._codes.numpy().astype("<i2").tobytes(),
            colours=(255 * self._colours).round().byte().numpy().tobytes(),
            shape=list(tokens.shape),
            grid=list(self._grid),
            pixels=pixel_bytes(self._pictures),
            size=list(self._pictures.shape[2:]),
            **{"layer": len(tokens) - 1, "right": min(counts[0] if other is not None else 1, len(images) - 1)} | view,
        )

    @validate("layer", "left", "right", "patch")
    def _in_range(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        layers, B, N, _ = self._codes.shape
        count = {"layer": layers, "patch": N * min(B, 2)}.get(name, B)
        if not 0 <= value < count:
            raise ValueError(f"expected {name} from 0 to {count - 1}, found {value}")
        return value

    @validate("show")
    def _a_view(self, proposal):
        if proposal["value"] not in VIEWS:
            raise ValueError(f"expected show to be one of {VIEWS}, found {proposal['value']!r}")
        return proposal["value"]

    def __repr__(self):
        layers, B, N, _ = self._codes.shape
        return f"SimilarityExplorer({B} picture{'s' * (B > 1)}, {layers} layers, {N} patches)"

    def figure(self):
        sides, N = [self.left, self.right][: len(self._pictures)], self._codes.shape[2]
        tokens = self._codes[self.layer, sides].float()  # (sides, N, D)
        cosines = F.cosine_similarity(tokens, tokens.flatten(0, 1)[self.patch], dim=-1)  # (sides, N)
        others = cosines.flatten().index_fill(0, torch.tensor(self.patch), -2).view_as(cosines)
        nearest = others.topk(min(NEAREST, N - 1), dim=1).indices
        rows, columns = self._grid
        (Y, X), low = self._pictures.shape[2:], cosines.min()
        fig, axes = figure(3.6 * len(sides), 3.4 * Y / X + 0.3, 1, len(sides), squeeze=False)
        said = []
        for side, (ax, image) in enumerate(zip(axes[0], sides, strict=True)):
            drawn, grey = self._pictures[image], self._pictures[image].float().mean(dim=0, keepdim=True).byte()
            draw_image(ax, grey if self.show == "alike" else drawn, f"picture {image + 1}")
            over = {"extent": (-0.5, X - 0.5, Y - 0.5, -0.5), "interpolation": "nearest"}
            if self.show == "alike":
                ax.imshow(cosines[side].view(rows, columns).numpy(), vmin=low, vmax=1, alpha=0.7, **over)
            elif self.show == "colours":
                ax.imshow(self._colours[self.layer, image].view(rows, columns, 3).numpy(), **over)
            for n in nearest[side].tolist():
                corner = (n % columns * X / columns - 0.5, n // columns * Y / rows - 0.5)
                for colour, width in (("black", 3), ("white", 1.5)):
                    ax.add_patch(Rectangle(corner, X / columns, Y / rows, fill=False, ec=colour, lw=width))
            if self.patch // N == side:
                mark_patch(ax, self.patch % N, columns, Y / rows, X / columns)
            best = int(nearest[side, 0])
            said.append(f"in picture {image + 1} {self._place(best)}, {others[side, best]:.2f}")
        colours = "the features as colours; " * (self.show == "colours")
        return fig, (
            f"Tokens in layer {self.layer} of {len(self._codes) - 1}, {colours}most alike with "
            f"{self._place(self.patch % N)} of picture {sides[self.patch // N] + 1} by cosine: {'; '.join(said)}."
        )

    def _place(self, patch):
        return "row {}, column {}".format(*(i + 1 for i in divmod(patch, self._grid[1])))


def check_bytes(images):
    """The images, if they are uint8 in a batch. Raises `ValueError` if not."""
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        tensor = isinstance(images, torch.Tensor)
        found = f"{images.dtype} {tuple(images.shape)}" if tensor else type(images).__name__
        raise ValueError(
            f"expected uint8 images (B, C, Y, X), found {found}; (255 * images).byte() are bytes, image[None] a batch"
        )
    return images


def patch_tokens(model, images):
    """Tokens `(L + 1, B, N, D)` of the patches alone, the last ones after the norm, and the grid's rows and columns."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"expected a VisionTransformer, found {type(model).__name__}; weights.load reads one")
    model = unwrapped(model)
    model = readable(model.vit if isinstance(model, (mae.MaskedAutoencoder, SegmentationViT)) else model)
    found = features(model, model_input(model, images))
    with torch.no_grad():
        found[-1] = model.norm(found[-1])
    tokens = tokens_of(model, images.shape[2:])
    return found[:, :, len(tokens.names) :].float().cpu(), tokens.grid


def components(tokens):
    """The first three principal components of tokens `(B, N, D)`, each scaled to 0..1: `(B, N, 3)`."""
    x = F.pad(tokens.flatten(0, 1).double(), (0, 3))  # of D = 2 there are three, too
    x = x - x.mean(dim=0)
    axes = torch.linalg.eigh(x.T @ x).eigenvectors[:, -3:].flip(1)  # the largest first
    strongest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    x = x @ (axes * strongest.sign())  # (B * N, 3); of an axis' two directions, the one of its largest number
    low, high = x.amin(dim=0), x.amax(dim=0)
    return ((x - low) / (high - low).clamp_min(1e-12)).float().unflatten(0, tokens.shape[:2])
