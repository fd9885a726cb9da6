"""Pictures of shapes, drawn from a seed: the course's own data. Nothing to download, and the truth is known.

Every shape is a *signed distance*: a number for each point, negative inside, zero on the outline, positive outside.
Distances combine: the smaller of two is the union, the larger the intersection, a minus sign turns inside out. They
also give soft edges for free: a pixel that the outline cuts in half is half covered.
"""

import math

import torch
import torch.nn.functional as F

from .images import ImageSet

SIZE = 32  # rows and columns of every picture
COUNTS = {"train": 10_000, "test": 2_000}
CHUNK = 500  # pictures drawn at once: bounds the memory, and a larger set begins with the same pictures


# Distances. x points right and y up, in units of the object's radius: every shape fits in the unit circle.
def _disc(x, y, radius):
    return torch.hypot(x, y) - radius


def _box(x, y, width, height):
    """`width` and `height` are half the sides."""
    return torch.maximum(x.abs() - width, y.abs() - height)


def _star(x, y, points, inner):
    """Tips at radius 1, notches at radius `inner`. Folding the angle leaves one half of one tip: a straight line."""
    half = math.pi / points  # angle from a tip to the next notch
    angle = (torch.remainder(torch.atan2(x, y) + half, 2 * half) - half).abs()
    radius = torch.hypot(x, y)
    across, along = inner * math.sin(half), 1 - inner * math.cos(half)
    return ((radius * angle.cos() - 1) * across + radius * angle.sin() * along) / math.hypot(across, along)


def _heart(x, y):
    """A square on its corner, with a disc on each of its upper sides."""
    x, y = x.abs(), y + 0.2
    return torch.minimum((x + y.abs() - 0.78) / 2**0.5, _disc(x - 0.42, y - 0.42, 0.5))


def _arrow(x, y):
    """A triangle on a bar, pointing up."""
    head = torch.maximum((x.abs() + 0.8 * y - 0.8) / 1.28, -y)
    return torch.minimum(head, _box(x, y + 0.45, 0.22, 0.5))


DISTANCES = {
    "circle": lambda x, y: _disc(x, y, 0.85),
    "ring": lambda x, y: _disc(x, y, 0.72).abs() - 0.23,  # a circle line with a width
    "crescent": lambda x, y: torch.maximum(_disc(x, y, 0.95), -_disc(x - 0.5, y, 0.75)),  # a disc out of a disc
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "triangle": lambda x, y: _star(x, y + 0.1, 3, 0.5),  # a star whose notches lie on straight sides
    "star": lambda x, y: _star(x, y, 5, 0.42),
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.95, 0.28), _box(x, y, 0.28, 0.95)),
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": lambda x, y: torch.maximum(y.abs() - 0.85, (x.abs() - 0.75 * y.abs() - 0.06) / 1.25),
}
CLASSES = tuple(DISTANCES)


def _uniform(generator, low, high, *shape):
    """Drawn in float32, computed with in float64: then every machine rounds to the same pixels."""
    return low + (high - low) * torch.rand(shape, generator=generator).double()


def _colour(lightness, chroma, hue):
    """RGB `(n, 3, 1, 1)` in [0, 1] from how light, how vivid and of which hue (radians) it looks, `(n,)` each.

    Oklab by Ottosson 2020: the eye's long, medium and short cones, then the screen's red, green and blue.
    """
    a, b = chroma * hue.cos(), chroma * hue.sin()
    long = (lightness + 0.3963 * a + 0.2158 * b) ** 3
    medium = (lightness - 0.1056 * a - 0.0639 * b) ** 3
    short = (lightness - 0.0895 * a - 1.2915 * b) ** 3
    red = 4.0767 * long - 3.3077 * medium + 0.2310 * short
    green = -1.2684 * long + 2.6098 * medium - 0.3413 * short
    blue = -0.0042 * long - 0.7034 * medium + 1.7076 * short
    return torch.stack([red, green, blue], dim=1).clamp(0, 1).pow(1 / 2.2)[:, :, None, None]


def _grid():
    """x `(1, 1, X)` and y `(1, Y, 1)` of the pixel centres, in pixels from the top left corner."""
    centres = torch.arange(SIZE) + 0.5
    return centres.view(1, 1, SIZE), centres.view(1, SIZE, 1)


def _turned(x, y, angle):
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _texture(generator, n):
    """`(n, 1, Y, X)` in [0, 1]: plain, shaded, stripes, checks or dots, in any direction."""
    x, y = _turned(*_grid(), _uniform(generator, 0, 2 * math.pi, n, 1, 1))
    frequency = 2 * math.pi / _uniform(generator, 3.5, 6.0, n, 1, 1)  # one period is 3.5 to 6 pixels
    phase = _uniform(generator, 0, 2 * math.pi, 2, n, 1, 1)
    u, v = (frequency * x + phase[0]).sin(), (frequency * y + phase[1]).sin()
    kinds = torch.stack([torch.full_like(u, -1), x / SIZE, 2 * u, 2 * u * v, 2 * (u + v) - 1.8])
    kind = torch.randint(len(kinds), (n,), generator=generator)
    return (0.5 + 0.5 * kinds[kind, torch.arange(n)]).clamp(0, 1)[:, None]


def _ground(generator, n, hue):
    """Backgrounds `(n, 3, Y, X)`: dark, two near colours in a texture, soft clouds of light and shade."""
    light, chroma = _uniform(generator, 0.2, 0.45, n), _uniform(generator, 0.04, 0.11, n)
    near = _colour(light + _uniform(generator, -0.05, 0.05, n), chroma, hue + _uniform(generator, -0.7, 0.7, n))
    clouds = F.interpolate(_uniform(generator, -0.1, 0.1, n, 1, 4, 4), size=(SIZE, SIZE), mode="bicubic")
    return torch.lerp(_colour(light, chroma, hue), near, _texture(generator, n)) + clouds


def _add_bits(generator, images, count):
    """Distractors: dots and short rods in any colour, drawn before the objects and so behind them."""
    n = len(images)
    for _ in range(count):
        across, down = _uniform(generator, 0, SIZE, 2, n, 1, 1)
        x, y = _grid()
        x, y = _turned(x - across, y - down, _uniform(generator, 0, math.pi, n, 1, 1))
        length, width = _uniform(generator, 0, 2.5, n, 1, 1), _uniform(generator, 0.4, 1.3, n, 1, 1)
        distance = _disc((x.abs() - length).clamp(min=0), y, width)
        light, chroma = _uniform(generator, 0.3, 0.7, n), _uniform(generator, 0.05, 0.16, n)
        colour = _colour(light, chroma, _uniform(generator, 0, 2 * math.pi, n))
        images = torch.lerp(images, colour, 0.8 * (0.5 - distance).clamp(0, 1)[:, None])
    return images


def _distances(generator, kind, centre, radius):
    """Signed distances `(n, Y, X)` in pixels to one object a picture, turned at random.

    Kinds (numbers in CLASSES) and radii are `(n,)`, centres `(n, 2)` as x, y in pixels.
    """
    x, y = _grid()
    centre, radius = centre[:, :, None, None], radius[:, None, None]
    x, y = (x - centre[:, 0]) / radius, (centre[:, 1] - y) / radius
    x, y = _turned(x, y, _uniform(generator, -0.4, 0.4, len(kind), 1, 1))
    distance = torch.empty(len(kind), SIZE, SIZE, dtype=torch.float64)
    for label, shape in enumerate(DISTANCES.values()):
        chosen = kind == label
        distance[chosen] = shape(x[chosen], y[chosen])
    return distance * radius


def _cover(images, body, distance):
    """Images with `body` `(n, 3, Y or 1, X or 1)` wherever `distance` is negative, softly at the edge."""
    return torch.lerp(images, body, (0.5 - distance).clamp(0, 1)[:, None])


def _add_object(generator, images, hue, kind, centre, radius, textured):
    """Images with an object more, far from `hue`, and its mask."""
    n = len(images)
    distance = _distances(generator, kind, centre, radius)
    light, chroma = _uniform(generator, 0.68, 0.9, n), _uniform(generator, 0.1, 0.18, n)
    hue = hue + _uniform(generator, 1.2, 2 * math.pi - 1.2, n)
    body = _colour(light, chroma, hue)
    if textured:
        other = _colour(light - _uniform(generator, 0.1, 0.16, n), chroma, hue + _uniform(generator, -1, 1, n))
        body = torch.lerp(body, other, _texture(generator, n))
    return _cover(images, body, distance), distance < 0


def _draw(generator, kinds, centres, radii, bits=6, textured=True):
    """Images `(n, 3, Y, X)` of K objects each and masks `(n, Y, X)`; kinds and radii `(n, K)`, centres `(n, K, 2)`.

    `bits` distractors lie behind the objects, which are `textured` or of one colour each.
    """
    n = len(kinds)
    hue = _uniform(generator, 0, 2 * math.pi, n)
    images = _add_bits(generator, _ground(generator, n, hue), bits)
    masks = torch.zeros(n, SIZE, SIZE, dtype=torch.bool)
    for k in range(kinds.shape[1]):
        images, mask = _add_object(generator, images, hue, kinds[:, k], centres[:, k], radii[:, k], textured)
        masks |= mask
    noise = _uniform(generator, -0.03, 0.03, n, 3, SIZE, SIZE)
    return (255 * (images + noise).clamp(0, 1)).round().to(torch.uint8), masks


def _balanced(generator, classes):
    """Labels `(CHUNK,)`: every class once, in a random order, then again."""
    return torch.rand(CHUNK // classes, classes, generator=generator).argsort(dim=1).flatten()


def checked_count(split, count, seed):
    """How many pictures to draw. Raises `ValueError` for another split, a count below 1, or a seed out of range."""
    if split not in COUNTS:
        raise ValueError(f'expected split to be "train" or "test", found {split!r}; both are drawn when asked for')
    count = COUNTS[split] if count is None else count
    if type(count) is not int or count < 1:
        raise ValueError(f"expected count to be an integer of at least 1, found {count!r}; omit it for the default")
    if type(seed) is not int or not 0 <= seed < 2**30:
        raise ValueError(f"expected seed to be an integer from 0 to 2**30 - 1, found {seed!r}; try 0")
    return count


def _image_set(scene, classes, task, split, count, seed):
    """Draw `count` pictures, chunk by chunk: `scene(generator)` gives a chunk's labels, kinds, centres and radii."""
    count = checked_count(split, count, seed)
    stream = 4 * seed + 2 * task + (split == "test")  # torch's generator tells 2**32 seeds apart
    generator = torch.Generator().manual_seed(stream)
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    labels, masks = torch.empty(count, dtype=torch.int64), torch.empty(count, SIZE, SIZE, dtype=torch.bool)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        n = part.stop - start
        chunk_labels, *objects = scene(generator)
        chunk_images, chunk_masks = _draw(generator, *objects)
        images[part], labels[part], masks[part] = chunk_images[:n], chunk_labels[:n], chunk_masks[:n]
    return ImageSet(images, labels, classes, masks)


def _one_object(generator):
    labels = _balanced(generator, len(CLASSES))
    radii = _uniform(generator, 7, 12, CHUNK)
    room = SIZE - 2 * radii[:, None]
    centres = radii[:, None] + room * torch.rand(CHUNK, 2, generator=generator).double()
    return labels, labels[:, None], centres[:, None], radii[:, None]


def shapes(split="train", count=None, seed=0):
    """One shape per picture: 32 x 32 RGB, ten classes, with each shape's mask.

    Position, size, angle, colour, texture, background and distractors vary. `split` is "train" (10,000 pictures) or
    "test" (2,000); `count` asks for another number, and a larger set begins with the pictures of a smaller one.
    Returns an `ImageSet`: images uint8 `(n, 3, 32, 32)` in 0..255, labels int64 `(n,)` in 0..9, masks bool
    `(n, 32, 32)`, True inside the shape. The same arguments give the same tensors, whatever else uses random numbers.
    Raises `ValueError` for another split, a count below 1, or a seed outside 0..2**30 - 1.
    """
    return _image_set(_one_object, CLASSES, 0, split, count, seed)


PAIR = torch.tensor([CLASSES.index(name) for name in ("circle", "cross")])


def _two_objects(generator):
    labels = _balanced(generator, 2)
    first = torch.randint(len(PAIR), (CHUNK,), generator=generator)
    second = (first + 1 - labels) % len(PAIR)
    radii = _uniform(generator, 6, 7.5, CHUNK, 2)
    centres = radii[..., None] + (15 - 2 * radii)[..., None] * torch.rand(CHUNK, 2, 2, generator=generator)
    mirrored = torch.randint(2, (CHUNK, 1, 2), generator=generator) ^ torch.tensor([[0], [1]])  # opposite corners
    centres = torch.where(mirrored == 1, SIZE - centres, centres)
    return labels, PAIR[torch.stack([first, second], dim=1)], centres, radii, 0, False  # plain objects, no bits


def same_or_different(split="train", count=None, seed=0):
    """Two shapes, each a circle or a cross, in opposite corners of every picture: are they the same?

    Colour, size and angle tell nothing, and neither shape alone does: a model that sees one of the two is right half of
    the time. Labels are 0, "different", and 1, "same", half of each; masks cover both shapes. Arguments, ranges and
    errors are those of `shapes`.
    """
    return _image_set(_two_objects, ("different", "same"), 1, split, count, seed)
