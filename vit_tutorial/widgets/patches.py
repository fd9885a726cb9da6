"""PatchExplorer: an image as a list of patches, and what a ViT without positions is left with."""

from numbers import Integral

import torch
import torch.nn.functional as F
from ipywidgets import widget_serialization
from matplotlib.figure import Figure
from traitlets import Bool, Bytes, Instance, Int, List, Unicode, observe, validate

from ..datasets.photographs import centre_square
from ..layers import patchify, unpatchify
from ..plots import COLOURS, draw_grid
from .explorer import Explorer, mark_patch, module, pixel_bytes, rgb
from .upload import Upload, read_upload

SIDE = 224  # pixels, as ViT-B/16 was trained


class PatchExplorer(Explorer):
    """Cut an image into patches of a size you drag, point at one, drop some, shuffle the list.

        PatchExplorer(image, patch_size=16)   # uint8 (3, Y, X), as datasets.sample_image returns

    A square image of 16, 32, ... or 256 pixels per side keeps its pixels, of any other the centre square is resized to
    224 x 224; `image` is what is shown. What is shown can be read and set: `patch_size`; `patch`, the index of the
    chosen one in `patchify(image[None], patch_size)`; `order`, a permutation: the list of patches that the model gets
    is `patches[:, order]`, less those in `dropped`. A new `patch_size` puts all patches back in order.

    In a running notebook the reader can upload a picture of their own, which takes the image's place at its size.
    Raises `ValueError` for an image, patch size, patch, order or dropped patches that there cannot be.
    """

    _esm = module("patches.js")

    pixels = Bytes().tag(sync=True)  # (Y, X, 3) uint8
    side = Int().tag(sync=True)  # Y and X
    patch_sizes = List(Int()).tag(sync=True)
    patch_size = Int().tag(sync=True)
    patch = Int().tag(sync=True)
    order = List(Int()).tag(sync=True)
    dropped = List(Int()).tag(sync=True)
    numbers = Bool(False).tag(sync=True)
    upload = Instance(Upload).tag(sync=True, **widget_serialization)
    message = Unicode().tag(sync=True)  # what became of the last upload

    def __init__(self, image, patch_size=16, **view):
        if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8 or image.ndim != 3:
            found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
            raise ValueError(
                f"expected one uint8 image (3, Y, X), found {found}; "
                "take one of a batch with images[0], turn floats in 0..1 into bytes with (255 * image).to(torch.uint8)"
            )
        if not image.numel():
            raise ValueError(f"expected an image of at least 1 x 1 pixels, found shape {tuple(image.shape)}")
        image = rgb(image)
        Y, X = image.shape[1:]
        side = Y if Y == X <= 256 and Y % 16 == 0 else SIDE
        self.image = (image if side == Y == X else centre_square(image, side)).cpu()
        sizes = [P for P in range(4, side // 2 + 1) if side % P == 0]
        if not isinstance(patch_size, Integral) or patch_size not in sizes:
            raise ValueError(patch_size_sentence(sizes, side, patch_size))
        N = (side // patch_size) ** 2
        super().__init__(
            pixels=pixel_bytes(self.image),
            side=side,
            patch_sizes=sizes,
            patch_size=int(patch_size),
            upload=Upload("image/*", "Your picture"),
            **{"order": list(range(N)), "patch": N // 2 + side // patch_size // 2} | view,
        )
        self.upload.observe(self._receive, "message")

    def __repr__(self):
        return (
            f"PatchExplorer({self.side} x {self.side} pixels, patch size {self.patch_size}, {len(self.order)} patches)"
        )

    # -------------------------------------------------------------------------------------------- what may be set

    @validate("patch_size")
    def _check_patch_size(self, proposal):
        if proposal["value"] not in self.patch_sizes:
            raise ValueError(patch_size_sentence(self.patch_sizes, self.side, proposal["value"]))
        return proposal["value"]

    @validate("order")
    def _check_order(self, proposal):
        N = (self.side // self.patch_size) ** 2
        if sorted(proposal["value"]) != list(range(N)):
            raise ValueError(
                f"expected an order of {N} patches, each number from 0 to {N - 1} once, found {len(proposal['value'])} "
                f"numbers; torch.randperm({N}).tolist() is one"
            )
        return proposal["value"]

    @validate("patch", "dropped")
    def _check_patches(self, proposal):
        N = (self.side // self.patch_size) ** 2
        chosen = proposal["value"] if proposal["trait"].name == "dropped" else [proposal["value"]]
        wrong = [n for n in chosen if not 0 <= n < N]
        if wrong:
            raise ValueError(f"expected numbers of patches from 0 to {N - 1}, found {wrong[0]}; choose one of these")
        return proposal["value"]

    @observe("patch_size")
    def _follow_patch_size(self, change):
        columns = self.side // change["new"]
        if len(self.order) != columns**2:  # set in Python: the page sends the order along
            old = self.side // change["old"]
            y, x = (int((i + 0.5) * columns / old) for i in divmod(self.patch, old))
            self.order, self.dropped, self.patch = list(range(columns**2)), [], y * columns + x

    # -------------------------------------------------------------------------------------------- uploads

    def _receive(self, change):
        if not change["new"]:  # an upload has begun
            return
        self.message = ""
        try:
            name, data = self.upload.take()[-1]
            image, (Y, X) = read_upload(name, data)
            self.image = centre_square(image, self.side)
        except ValueError as error:
            self.message = f"The picture stays as it was: {error}."
            return
        self.pixels = pixel_bytes(self.image)
        self.message = f"{name!r}: the centre of {Y} x {X} pixels, now {self.side} x {self.side}."

    # -------------------------------------------------------------------------------------------- without a page

    def figure(self):
        P, columns, dropped = self.patch_size, self.side // self.patch_size, set(self.dropped)
        patches = patchify(self.image[None], P)[0]  # (N, 3*P*P)
        shuffled = self.order != sorted(self.order)
        left = [n for n in self.order if n not in dropped]
        bag = sorted(left, key=lambda n: (patches[n].sum().item(), bytes(patches[n].tolist())))
        row, column = divmod(self.patch, columns)
        whole, heap = patches.clone(), torch.full_like(patches, 255)
        whole[self.dropped] = 255
        heap[: len(bag)] = patches[bag]
        panels = [(whole, self.patch, f"P = {P}: {columns} x {columns} patches")]
        if shuffled:
            panels.append((whole[self.order], self.order.index(self.patch), "the list, shuffled"))
        if shuffled or dropped:
            panels.append((heap, bag.index(self.patch) if self.patch in bag else None, "the bag, sorted by brightness"))
        else:  # room for the patch itself
            panels.append((patches[self.patch][None], None, f"row {row + 1}, column {column + 1}"))

        fig = Figure(figsize=(2.1 * len(panels) + 3.2, 2.35), layout="constrained")
        *axes, last = fig.subplots(1, len(panels) + 1, width_ratios=[*[1] * len(panels), 1.5])
        for ax, (x, slot, title) in zip(axes, panels, strict=True):
            picture = unpatchify(x[None], P, P if len(x) == 1 else self.side)[0]
            draw_grid(ax, picture, P)
            ax.set_title(title, fontsize=9)
            if slot is not None:
                mark_patch(ax, slot, columns, P, P)
        last.set_title(f"the list: {len(left)} patches x {3 * P * P} numbers", fontsize=9)
        last.set_axis_off()
        if left:
            coarse = min(len(left), 98), min(3 * P * P, 96)  # as much as can be seen
            values = F.adaptive_avg_pool2d(patches[left][None].float(), coarse)[0]
            last.imshow(values.numpy(), cmap="cividis", vmin=0, vmax=255, aspect="auto", extent=(0, 1, len(left), 0))
        if self.patch in left:
            last.axhline(left.index(self.patch) + 0.5, color=COLOURS[1], linewidth=2)
        return fig, (
            f"An image cut into {columns} x {columns} patches of {P} x {P} pixels, {len(dropped)} of them dropped; "
            f"{'the shuffled list of patches, laid out as a picture; ' if shuffled else ''}"
            f"{'the patches left, sorted by brightness' if shuffled or dropped else 'one patch, enlarged'}; "
            f"the list as a matrix. Row {row + 1}, column {column + 1} is marked, and its row of the matrix."
        )


def patch_size_sentence(sizes, side, found):
    return (
        f"expected a patch size that divides {side} pixels into at least 2 patches a side, found {found!r}; "
        f"choose one of {', '.join(map(str, sizes))}"
    )
