"""What a model's answers are worth: for each class, with intervals; how sure they may be; and which to leave unsaid."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .datasets.masked import UNJUDGED
from .model import normalise
from .weights import unwrapped

TEMPERATURES = torch.logspace(-1, 1, 401)  # tried for the calibration: 0.1 to 10, in steps of about 1 %
Z = 1.96  # standard deviations around the mean in which 95 % of a normal distribution lie


def wilson(right, n):
    """The interval `(low, high)` for 95 %, of Wilson (1927), for a share of which `right` of `n` are seen.

    It holds for pictures of which none resembles another, from where the others to come will come from.
    """
    if not n:
        return 0.0, 1.0
    share, z = right / n, Z**2 / n
    middle, root = share + z / 2, (z * share * (1 - share) + z**2 / 4) ** 0.5
    return max(0.0, (middle - root) / (1 + z)), min(1.0, (middle + root) / (1 + z))


@dataclass(frozen=True)
class Share:
    """`right` of `n`: its `value` (NaN of none) and its `interval` `(low, high)` for 95 %."""

    right: int
    n: int

    @property
    def value(self):
        return self.right / self.n if self.n else float("nan")

    @property
    def interval(self):
        return wilson(self.right, self.n)

    def __str__(self):
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})" if self.n else "-"


@dataclass(frozen=True, eq=False)
class Scores:
    """What `scores` returns. `confusion (C, C)` counts pictures: rows are the true classes, columns the answers.

    `accuracy`, and `recall` and `precision` of each class, are a `Share`; a class without pictures has no recall, one
    that is never answered no precision. `balanced_accuracy` is the mean of the recalls that there are, with
    `balanced_interval` from their intervals (Zou and Donner 2008, MOVER).
    """

    confusion: torch.Tensor
    classes: tuple[str, ...]

    @property
    def accuracy(self):
        return Share(int(self.confusion.diagonal().sum()), int(self.confusion.sum()))

    @property
    def recall(self):
        return [Share(*pair) for pair in zip(self.hits, self.confusion.sum(1).tolist(), strict=True)]

    @property
    def precision(self):
        return [Share(*pair) for pair in zip(self.hits, self.confusion.sum(0).tolist(), strict=True)]

    @property
    def hits(self):
        return self.confusion.diagonal().tolist()

    @property
    def balanced_accuracy(self):
        values = [recall.value for recall in self.recall if recall.n]
        return sum(values) / len(values)

    @property
    def balanced_interval(self):
        known = [recall for recall in self.recall if recall.n]
        reach = [sum((r.value - r.interval[end]) ** 2 for r in known) ** 0.5 / len(known) for end in (0, 1)]
        return self.balanced_accuracy - reach[0], self.balanced_accuracy + reach[1]


def scores(answers, labels, classes):
    """`Scores` of `answers (n,)` int64, the class that a model names, for pictures of the true `labels (n,)`."""
    if not len(labels):
        raise ValueError("expected at least one picture to score, found none")
    C = len(classes)
    return Scores(torch.bincount(labels * C + answers, minlength=C * C).view(C, C), tuple(classes))


def temperature(logits, labels):
    """The number by which `logits (n, C)` are best divided, so that their probabilities say how often they are right.

    Guo et al. 2017: it has the least cross-entropy on pictures that the model has not learned from. No answer changes.
    Targets are smoothed a little, for n right of n do not make the next one certain (Platt 1999).
    """
    smoothing = 1 / (len(labels) + 1)
    losses = torch.stack([F.cross_entropy(logits / t, labels, label_smoothing=smoothing) for t in TEMPERATURES])
    return TEMPERATURES[losses.argmin()].item()


@torch.no_grad()
def calibrate(model, logits, labels):
    """Divide the head of `model` by the `temperature` of its `logits (n, C)` on held-back pictures; returns it.

    So whatever computes with the model afterwards has the calibrated probabilities.
    """
    found, head = temperature(logits, labels), unwrapped(model).head
    for parameter in head.parameters():
        parameter /= found
    return found


def calibration_error(probabilities, labels, bins=10):
    """By how much `probabilities (n, C)` of the answers miss how often these are right, on the mean (a fraction).

    The pictures are sorted into `bins` by the probability of their answer (expected calibration error, Naeini et al.
    2015).
    """
    sure, answers = probabilities.max(dim=1)
    right = (answers == labels).to(sure)
    place = (sure * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=sure.dtype).index_add(0, place, right - sure)  # sums of right minus sure
    return (gaps.abs().sum() / len(labels)).item()


def answered(probabilities, labels, threshold):
    """Where a model answers only if it is at least `threshold` sure: the `Share` answered, and that right among it."""
    sure, answers = probabilities.max(dim=1)
    given = sure >= threshold
    return (
        Share(int(given.sum()), len(labels)),
        Share(int((answers == labels)[given].sum()), int(given.sum())),
    )


@torch.inference_mode()
def features(vit, images):
    """What the head of `vit` reads, or would, of uint8 `images (n, C, Y, X)`: `(n, D)` on the CPU."""
    device, was_training, read = next(vit.parameters()).device, vit.training, []
    hook = vit.head.register_forward_pre_hook(lambda head, inputs: read.append(inputs[0].float().cpu()))
    vit.eval()
    try:
        for part in images.split(100):
            vit(normalise(part.to(device), vit.config))
    finally:
        hook.remove()
        vit.train(was_training)
    return torch.cat(read)


def knn_accuracy(vit, labelled, test, k=10):
    """How often (a fraction) the `k` pictures of `labelled` most like one of `test` vote for its class.

    Alike is what has a large cosine of `features`; of equally many votes those for the first class count. Both are an
    `ImageSet`. Nothing is learned, so this says what there is in the features. Raises `ValueError` for other classes,
    no picture, or fewer labelled ones than `k`.
    """
    if labelled.classes != test.classes or not len(test) or k not in range(1, len(labelled) + 1):
        raise ValueError(
            f"expected pictures of the same classes and k in 1 .. {len(labelled)}, the labelled ones, found k={k!r}, "
            f"{len(test)} test pictures of {len(test.classes)} classes and labelled ones of {len(labelled.classes)}"
        )
    known, asked = (F.normalize(features(vit, part.images), dim=1) for part in (labelled, test))
    nearest = (asked @ known.T).topk(int(k), dim=1).indices  # (n, k)
    votes = F.one_hot(labelled.labels.cpu()[nearest], len(test.classes)).sum(dim=1)  # (n, classes)
    return (votes.argmax(dim=1) == test.labels.cpu()).float().mean().item()


def confusion(predicted, masks, num_classes):
    """How many pixels of each true class (rows) were called what (columns): `(K, K)` int64. 255 is not counted.

    `predicted` and `masks` are class numbers of one shape.
    """
    judged = masks != UNJUDGED
    pairs = masks[judged].long() * num_classes + predicted[judged].long()
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def iou(counts):
    """Intersection over union of each class, `(K,)`, from `confusion`; NaN for a class neither there nor predicted."""
    both = counts.diag()
    return both / (counts.sum(dim=0) + counts.sum(dim=1) - both)


def near_outline(masks, width=1):
    """Which pixels have a pixel of another class at most `width` rows and columns away: `(n, Y, X)` bool."""
    side = 2 * width + 1
    values = masks.float()[:, None]
    high = F.max_pool2d(values, side, stride=1, padding=width)
    low = -F.max_pool2d(-values, side, stride=1, padding=width)
    return (high != low)[:, 0]


def boundary_error(predicted, masks, width=1):
    """The share of wrong pixels among those near an outline of the masks (Kohli et al. 2009, 4.1, the trimap)."""
    near = near_outline(masks, width) & (masks != UNJUDGED)
    return (predicted != masks)[near].float().mean().item()


def box_iou(a, b):
    """Intersection over union of boxes `(A, 4)` and `(B, 4)`, left, top, right, bottom: `(A, B)`."""
    corner = torch.maximum(a[:, None, :2], b[None, :, :2])
    opposite = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (opposite - corner).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (a, b)]
    return both / (areas[0][:, None] + areas[1] - both)


def match_boxes(found, truth, least=0.5):
    """How many of `found` `(A, 4)`, the surest first, lie on a box of `truth` `(B, 4)` with an IoU of at least `least`.

    Each true box counts once: what is found a second time is wrong.
    """
    overlap, right = box_iou(found, truth), 0
    for row in overlap:
        if len(row) and row.max() >= least:
            overlap[:, row.argmax()] = 0
            right += 1
    return right
