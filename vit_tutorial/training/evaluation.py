"""What a model's answers are worth on data that it may not have seen: for pictures, and for their pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..datasets.masked import UNJUDGED, MaskedImages
from ..dense import SegmentationViT
from ..machine import distributed
from ..machine.precision import autocast
from ..metrics import boundary_error, confusion, iou
from ..model import normalise
from ..weights import unwrapped
from .augment import pixel_targets

EVALUATED = 100  # images at once


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` (a fraction), mean cross-entropy `loss`, and the `logits` `(n, num_classes)` on the CPU."""

    accuracy: float
    loss: float
    logits: torch.Tensor


@torch.inference_mode()
def evaluate(model, dataset, *, bf16=None):
    """Run `model` on all of `dataset`, matrix products in bfloat16 or not (None: where `bf16_pays`).

    Of several processes each takes its share of the images, and has all results; so all must call it. Raises
    `ValueError` where model and dataset differ in their number of classes, or in the values that became 0 and 255.
    """
    config = model.config
    check_task(model, dataset, masked=False)
    check_fits(config, dataset, "train a model on it first, or choose the dataset that the model was trained on")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with autocast(device, bf16):
        images = distributed.share(dataset.images).split(EVALUATED)
        logits = [model(normalise(x.to(device), config)).float().cpu() for x in images]
    model.train(was_training)
    logits, labels = distributed.gather(torch.cat(logits), len(dataset)), dataset.labels.cpu()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Evaluation(accuracy, F.cross_entropy(logits, labels).item(), logits)


@dataclass(frozen=True, eq=False)
class MaskEvaluation:
    """What `evaluate_masks` returns, on the CPU: `counts (K, K)` of pixels, as `metrics.confusion`, and what they give.

    `iou (K,)` is that of each class, NaN for one neither there nor predicted; `mean_iou` the mean over the classes that
    are there; `accuracy` the share of right pixels; `boundary_error` that of wrong ones near an outline, NaN without
    any; `loss` the mean cross-entropy of a pixel; `predicted` holds the classes of all pixels, uint8 `(n, Y, X)`.
    """

    counts: torch.Tensor
    boundary_error: float
    loss: float
    predicted: torch.Tensor

    @property
    def iou(self):
        return iou(self.counts)

    @property
    def mean_iou(self):
        return self.iou[self.counts.sum(dim=1) > 0].mean().item()

    @property
    def accuracy(self):
        return (self.counts.diag().sum() / self.counts.sum()).item()


@torch.inference_mode()
def evaluate_masks(model, dataset, *, bf16=None):
    """Run a `SegmentationViT` on all of a `MaskedImages`; `bf16` and errors are those of `evaluate`.

    Raises `ValueError` too where no pixel has a class.
    """
    config, masks = model.config, dataset.masks.cpu()
    check_task(model, dataset, masked=True)
    check_fits(config, dataset, "train a model on it first, or choose the dataset that the model was trained on")
    if not (masks != UNJUDGED).any():
        raise ValueError(f"expected masks with classes, found {len(masks)} where every pixel is {UNJUDGED}, unjudged")
    device, was_training = next(model.parameters()).device, model.training
    predicted, loss = [], 0.0
    model.eval()
    with autocast(device, bf16):
        for images, part in zip(dataset.images.split(EVALUATED), masks.split(EVALUATED), strict=True):
            logits = model(normalise(images.to(device), config)).float().cpu()  # (B, K, Y, X)
            predicted.append(logits.argmax(dim=1).to(torch.uint8))
            loss += F.cross_entropy(logits, pixel_targets(part), reduction="sum").item()
    model.train(was_training)
    predicted = torch.cat(predicted)
    counts = confusion(predicted, masks, len(dataset.classes))
    return MaskEvaluation(counts, boundary_error(predicted, masks), loss / int(counts.sum()), predicted)


def check_task(model, dataset, masked):
    """Raise `ValueError` unless model and dataset are both for masks or, where `masked` is False, both for labels."""
    model = unwrapped(model)
    if {isinstance(model, SegmentationViT), isinstance(dataset, MaskedImages)} != {masked}:
        wanted = "a SegmentationViT and MaskedImages" if masked else "a classifier and an ImageSet"
        raise ValueError(
            f"expected {wanted}, found {type(model).__name__} and {type(dataset).__name__}; "
            "dense.SegmentationViT(vit, num_classes) makes a model for masks"
        )


def check_fits(config, dataset, advice):
    if config.num_classes != len(dataset.classes):
        raise ValueError(
            f"expected a dataset with the model's {config.num_classes} classes, found {len(dataset.classes)}; {advice}"
        )
    if None not in (config.value_range, dataset.value_range) and config.value_range != dataset.value_range:
        raise ValueError(
            f"expected pictures whose values {config.value_range} became 0 and 255, as the model's did, found "
            f"{dataset.value_range}; read them with value_range={config.value_range}"
        )
