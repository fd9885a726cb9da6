"""training/augment.py: what each augmentation changes, what it keeps, and that the targets tell the truth."""

import pytest
import torch
import torch.nn.functional as F

from vit_tutorial.training.augment import colour_jitter, cutmix, mixup

CLASSES = 7


def flat(values):
    """Images `(B, 3, 8, 12)` of one grey value each."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 12).clone()


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randint(0, 256, (64, 3, 8, 12), dtype=torch.uint8), torch.randint(0, CLASSES, (64,))


def test_colour_jitter_keeps_type_and_shape_and_changes_each_image_in_its_own_way(batch):
    images, _ = batch
    before = images.clone()
    changed = colour_jitter(images)
    assert changed.dtype == torch.uint8 and changed.shape == images.shape
    assert torch.equal(images, before)
    same = colour_jitter(images[:1].expand(20, -1, -1, -1))
    assert len(same.flatten(1).unique(dim=0)) == 20


def test_colour_jitter_of_strength_0_changes_nothing(batch):
    assert torch.equal(colour_jitter(batch[0], strength=0), batch[0])


def test_colour_jitter_stays_within_its_strength_and_moves_no_edge():
    images = flat([100] * 500)
    changed = colour_jitter(images, strength=0.2)  # grey and flat: brightness alone can act
    assert (changed == changed[:, :1, :1, :1]).all()
    assert changed.min() >= 80 and changed.max() <= 120 and changed.float().std() > 5
    assert colour_jitter(flat([255] * 50)).max() == 255  # clipped, not wrapped around


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_targets_are_shares_of_both_labels(mix, batch):
    images, labels = batch
    mixed, targets = mix(images, labels, CLASSES)
    assert mixed.shape == images.shape and targets.shape == (64, CLASSES)
    assert torch.allclose(targets.sum(dim=1), torch.ones(64))
    both = F.one_hot(labels, CLASSES) + F.one_hot(labels.roll(1), CLASSES)
    assert (targets[both == 0] == 0).all() and targets.min() >= 0
    own = targets.gather(1, labels[:, None])[labels != labels.roll(1)]
    assert own.min() < 0.3 and own.max() > 0.7  # all sorts of shares


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_the_picture_is_mixed_in_the_shares_of_the_target(mix):
    torch.manual_seed(1)
    images, labels = flat([0, 200] * 50), torch.tensor([0, 1] * 50)  # class 1 is light, class 0 black
    mixed, targets = mix(images, labels, 2)
    light = mixed.float().mean(dim=(1, 2, 3)) / 200
    assert torch.allclose(light, targets[:, 1], atol=1e-4)


def test_cutmix_pastes_one_box_and_blends_nothing():
    torch.manual_seed(2)
    images, labels = flat(list(range(1, 101))), torch.arange(100)
    mixed, targets = cutmix(images, labels, 100)
    assert mixed.dtype == torch.uint8
    for i in range(100):
        pasted = mixed[i, 0] != images[i, 0]
        assert (mixed[i, :, pasted] == images[i - 1, 0, 0, 0]).all()
        rows, columns = pasted.any(dim=1), pasted.any(dim=0)
        assert torch.equal(pasted, rows[:, None] & columns[None, :])  # a box
        assert torch.isclose(targets[i, i], 1 - pasted.float().mean())


def test_cutmix_takes_every_part_of_the_image_now_and_then():
    torch.manual_seed(3)
    mixed, _ = cutmix(flat([0, 200] * 500), torch.tensor([0, 1] * 500), 2)
    pasted = (mixed[::2] > 0).float().mean(dim=(0, 1))  # (Y, X): how often each pixel was pasted over
    assert pasted.min() > 0.05 and pasted.max() < 0.9


def test_a_small_alpha_hardly_mixes_and_a_large_one_mixes_evenly(batch):
    images, labels = batch
    labels = labels * 0 + torch.arange(64) % 2
    torch.manual_seed(4)
    hardly = mixup(images, labels, 2, alpha=0.05)[1].max(dim=1).values
    evenly = mixup(images, labels, 2, alpha=50.0)[1].max(dim=1).values
    assert hardly.mean() > 0.9 and evenly.mean() < 0.6


@pytest.mark.parametrize("augment", [colour_jitter, lambda x: mixup(x, LABELS, 3), lambda x: cutmix(x, LABELS, 3)])
def test_the_seed_decides(augment, batch):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        result = augment(batch[0][:3])
        results.append(result if isinstance(result, torch.Tensor) else result[0])
    assert torch.equal(*results)


LABELS = torch.tensor([0, 1, 2])
