"""Scenes: pictures of several shapes, with everything about them known: masks, boxes and a caption."""

from dataclasses import dataclass, replace

import torch

from .masked import MaskedImages
from .shapes import CHUNK, CLASSES, SIZE, _add_bits, _colour, _cover, _distances, _ground, _uniform, checked_count

KINDS = ("circle", "ring", "square", "triangle", "star", "cross")
COLOURS = {  # name: lightness, chroma and hue (radians) in Oklab
    "red": (0.62, 0.21, 0.5),
    "yellow": (0.88, 0.17, 1.85),
    "green": (0.74, 0.19, 2.5),
    "blue": (0.62, 0.18, 4.5),
    "purple": (0.66, 0.2, 5.5),
    "white": (0.95, 0.01, 0.0),
}
SIZES = {"small": (3.6, 4.6), "large": (6.4, 7.4)}  # radius in pixels
MOST = 4  # objects: one in each quarter of the picture
CLASS_NAMES = ("ground", *KINDS)


@dataclass(frozen=True, eq=False, repr=False)
class Scenes(MaskedImages):
    """Images and masks, and of each of up to K objects its `kinds`, `colours` and `sizes` `(n, K)`, -1 for none.

    These are numbers in KINDS, COLOURS and SIZES. `boxes` `(n, K, 4)` hold left, top, right, bottom in pixels, and
    `captions` one sentence for each picture.
    """

    kinds: torch.Tensor = None
    colours: torch.Tensor = None
    sizes: torch.Tensor = None
    boxes: torch.Tensor = None
    captions: tuple[str, ...] = ()

    def __getitem__(self, index):
        part = super().__getitem__(index)
        if isinstance(index, int):
            return part
        chosen = torch.arange(len(self))[index].tolist()
        rows = {name: getattr(self, name)[index] for name in ("kinds", "colours", "sizes", "boxes")}
        return replace(part, **rows, captions=tuple(self.captions[i] for i in chosen))

    def shows(self, pairs):
        """Which pictures show one of `pairs` of a colour and a kind, like `("red", "star")`: `(n,)` bool.

        Raises `ValueError` for others than COLOURS and KINDS have.
        """
        known = [(colour, kind) for colour in COLOURS for kind in KINDS]
        if wrong := [pair for pair in map(tuple, pairs) if pair not in known]:
            raise ValueError(f"expected pairs out of {tuple(COLOURS)} and {KINDS}, found {wrong[0]!r:.60}")
        numbers = [known.index(tuple(pair)) for pair in pairs]
        shown = self.colours * len(KINDS) + self.kinds  # (n, K), negative where there is no object
        return torch.isin(shown, torch.tensor(numbers, dtype=shown.dtype)).any(dim=1)


def phrase(size, colour, kind):
    return f"a {size} {colour} {kind}"


def _layout(generator, least, most):
    """A chunk's objects: kinds, colours, sizes, -1 for none, radii and quarters `(CHUNK, most)`; centres with x, y."""
    count = torch.randint(least, most + 1, (CHUNK, 1), generator=generator)
    absent = torch.arange(most) >= count  # (CHUNK, most)
    kinds, colours, sizes = (
        torch.randint(len(names), (CHUNK, most), generator=generator).masked_fill(absent, -1)
        for names in (KINDS, COLOURS, SIZES)
    )
    quarters = torch.rand(CHUNK, MOST, generator=generator).argsort(dim=1)[:, :most]
    low, high = torch.tensor(list(SIZES.values()), dtype=torch.float64).T
    radii = low[sizes] + (high - low)[sizes] * torch.rand(CHUNK, most, generator=generator).double()
    room = SIZE / 2 - 2 * radii[..., None]
    corner = SIZE / 2 * torch.stack([quarters % 2, quarters // 2], dim=2)
    centres = corner + radii[..., None] + room * torch.rand(CHUNK, most, 2, generator=generator).double()
    return kinds, colours, sizes, radii, quarters, centres


def _draw(generator, kinds, colours, radii, centres):
    """Images of one chunk, uint8, the masks `(CHUNK, Y, X)` and the boxes `(CHUNK, most, 4)` of its objects."""
    images = _add_bits(generator, _ground(generator, CHUNK, _uniform(generator, 0, 2 * torch.pi, CHUNK)), 4)
    masks = torch.zeros(CHUNK, SIZE, SIZE, dtype=torch.uint8)
    boxes = torch.zeros(CHUNK, kinds.shape[1], 4)
    looks = torch.tensor(list(COLOURS.values()), dtype=torch.float64)
    classes = torch.tensor([CLASSES.index(kind) for kind in KINDS])
    for k in range(kinds.shape[1]):
        there = kinds[:, k] >= 0
        distance = _distances(generator, classes[kinds[:, k]], centres[:, k], radii[:, k])
        distance[~there] = torch.inf
        light, chroma, hue = looks[colours[:, k]].T
        light, hue = light + _uniform(generator, -0.03, 0.03, CHUNK), hue + _uniform(generator, -0.1, 0.1, CHUNK)
        images = _cover(images, _colour(light, chroma, hue), distance)
        inside = distance < 0
        masks = torch.where(inside, (kinds[:, k] + 1).to(torch.uint8)[:, None, None], masks)
        boxes[there, k] = box_of(inside[there])
    noise = _uniform(generator, -0.03, 0.03, CHUNK, 3, SIZE, SIZE)
    return (255 * (images + noise).clamp(0, 1)).round().to(torch.uint8), masks, boxes


def box_of(masks):
    """The smallest boxes around masks `(n, Y, X)`: left, top, right, bottom in pixels, `(n, 4)`."""
    found = []
    for axis in (1, 2):
        used = masks.any(dim=axis).float()  # (n, side)
        found.append((used.argmax(dim=1), used.shape[1] - used.flip(1).argmax(dim=1)))
    (left, right), (top, bottom) = found
    return torch.stack([left, top, right, bottom], dim=1).float()


def _captions(generator, kinds, colours, sizes, quarters):
    """One sentence a picture: what is there and, of two objects, where the first stands as seen from the second."""
    names = [list(SIZES), list(COLOURS), KINDS]
    swap, across = torch.rand(2, CHUNK, generator=generator) < 0.5
    captions = []
    for i in range(CHUNK):
        count = int((kinds[i] >= 0).sum())
        order = [1, 0] if count == 2 and swap[i] else list(range(count))
        phrases = [phrase(*(n[v[i, k]] for n, v in zip(names, (sizes, colours, kinds), strict=True))) for k in order]
        if count == 2:
            (row, other_row), (column, other_column) = (
                line[i, order].tolist() for line in (quarters // 2, quarters % 2)
            )
            beside = column != other_column and (row == other_row or across[i])
            relation = ("right of" if column else "left of") if beside else ("below" if row else "above")
            captions.append(f"{phrases[0]} {relation} {phrases[1]}")
        else:
            captions.append(" and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]])))
    return captions


def scenes(split="train", count=None, seed=0, objects=(1, 3)):
    """Pictures of several shapes, 32 x 32 RGB, each in a quarter of its own, with masks, boxes and captions.

    `objects` are the least and the largest number of shapes, within 1..4. Six kinds, six colours, two sizes; ground,
    distractors, angles and places vary. A caption reads "a small red star left of a large blue ring"; of one object or
    of more than two it names them all. Arguments, ranges and errors are otherwise those of `shapes`. Returns `Scenes`;
    its classes are "ground" and the six kinds, the values 0..6 of its masks.
    """
    numbers = list(objects) if isinstance(objects, (list, tuple)) else []
    if [type(n) for n in numbers] != [int, int] or not 1 <= numbers[0] <= numbers[1] <= MOST:
        raise ValueError(f"expected objects as (least, largest) within 1..{MOST}, found {objects!r}; try (1, 3)")
    count = checked_count(split, count, seed)
    generator = torch.Generator().manual_seed(4 * seed + (split == "test"))
    parts = []
    for _ in range(0, count, CHUNK):
        kinds, colours, sizes, radii, quarters, centres = _layout(generator, *numbers)
        captions = _captions(generator, kinds, colours, sizes, quarters)
        drawn = _draw(generator, kinds, colours, radii, centres)
        parts.append((*drawn, kinds, colours, sizes, captions))
    *tensors, captions = zip(*parts, strict=True)
    images, masks, boxes, kinds, colours, sizes = (torch.cat(part)[:count] for part in tensors)
    captions = tuple(sentence for part in captions for sentence in part)[:count]
    return Scenes(images, masks, CLASS_NAMES, None, kinds, colours, sizes, boxes, captions)
