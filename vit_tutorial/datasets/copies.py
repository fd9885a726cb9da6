"""Copies of one picture: found by a fingerprint, and kept together when a set is split."""

import numpy as np
import torch

SIDE = 8  # rows and columns of a fingerprint's thumbnail
# The largest distance of two copies. On CIFAR-10 (JPEG copy) it finds nearly all of those that were saved anew, resized
# or mirrored, and most of those cut by 3 % on each side; of 50 million pairs of its 10,000 test images, 37 lie below
# it, perhaps some of them real copies. Measured by tools/measure/copies.py: data/runs/copies.json.
ALIKE = 0.25


def fingerprint(images):
    """What stays of images `(n, 3, Y, X)` when they are saved anew, resized or brightened: `(n, 3, 8, 8)`.

    A thumbnail of 8 x 8 pixels with mean 0 and standard deviation 1 (a little less where there is no contrast).
    """
    from torchvision.transforms.v2 import functional as F

    small = F.resize(images.float() / 255, [SIDE, SIDE], antialias=True)  # (n, 3, 8, 8)
    small = small - small.mean(dim=(1, 2, 3), keepdim=True)
    return small / (small.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-4).sqrt()  # 1e-4: noise is no contrast


def distances(a, b):
    """Distance of each fingerprint of `a (n, 3, 8, 8)` to each of `b (m, 3, 8, 8)` or its mirror image: `(n, m)`.

    The root of the mean squared difference: 0 for the same picture, 1.41 on average for two that have nothing in
    common.
    """
    a, mirrored, b = a.flatten(1), b.flip(3).flatten(1), b.flatten(1)  # (n, 192), (m, 192)
    alike = torch.maximum(a @ b.T, a @ mirrored.T) / a.shape[1]
    return (a.square().mean(1)[:, None] + b.square().mean(1) - 2 * alike).clamp_min(0).sqrt()


def copy_pairs(images, threshold=ALIKE):
    """Pairs of images `(n, 3, Y, X)` that join all copies: `(m, 2)` int64 and their distances `(m,)`, nearest first.

    Every group of k images that are copies, or copies of copies, is joined by k - 1 pairs, the nearest ones that do.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    prints = torch.cat([fingerprint(part) for part in images.split(1000)])  # (n, 3, 8, 8)
    n, start = len(prints), 0
    pairs, apart = np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    for part in prints.split(max(1, 10**7 // max(n, 1))):  # the pairs of one part at a time are in memory
        between = distances(part, prints[start:])
        i, j = (between < threshold).nonzero().T.numpy()
        pairs = np.concatenate([pairs, np.stack([i, j], axis=1)[i < j] + start])
        apart = np.concatenate([apart, between.numpy()[i, j][i < j]])
        tree = coo_array((1 + apart, pairs.T), shape=(n, n))  # 1: a distance of 0 would be no entry
        tree = minimum_spanning_tree(tree.tocsr()).tocoo()
        pairs, apart = np.stack([tree.row, tree.col], axis=1).astype(np.int64), tree.data - 1
        start += len(part)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], apart))
    return torch.from_numpy(pairs[order]), torch.from_numpy(apart[order]).float()


def join(n, pairs):
    """A number for each of n things, `(n,)` int64, the same for those that the pairs `(m, 2)` join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    table = coo_array((np.ones(len(pairs), dtype=bool), pairs.T.numpy()), shape=(n, n))
    return torch.from_numpy(connected_components(table, directed=False)[1]).long()


def find_copies(images, threshold=ALIKE):
    """A number for each image `(n, 3, Y, X)`, the same for two that are copies, or copies of copies: `(n,)` int64."""
    return join(len(images), copy_pairs(images, threshold)[0])


def members(labels, groups, seed):
    """For each class its groups as index tensors, in a random order, small groups first.

    A group that stands in several classes belongs to that of them which has the fewest groups. Raises `ValueError` for
    a class of fewer than two groups: one side of any split would have nothing of it.
    """
    generator = torch.Generator().manual_seed(seed)
    whole = [(groups == group).nonzero().flatten() for group in groups.unique()]
    inside = [labels[index].unique().tolist() for index in whole]  # the classes of each group
    counts = {label: sum(label in own for own in inside) for label in labels.unique().tolist()}
    home = [min(own, key=lambda label: (counts[label], label)) for own in inside]
    classes = {}
    for label, count in counts.items():
        if count < 2:
            raise ValueError(
                f"expected at least 2 different pictures in each class, found {count} in class {label} (copies of "
                "one picture count once, and so does a group); add pictures to it, or take the class out"
            )
        own = [index for index, its in zip(whole, home, strict=True) if its == label]
        order = torch.randperm(len(own), generator=generator).tolist()
        classes[label] = sorted((own[i] for i in order), key=len)
    return classes


def first_fair(labels, seed, attempt):
    """The first `attempt(seed)`, the part `(n,)` of each image, in which every class is in at least two parts.

    With groups of one class each that is always the first. Raises `ValueError` after a hundred others.
    """
    for again in range(100):
        parts = attempt(seed + 10_000 * again)
        if all(len(parts[labels == label].unique()) > 1 for label in labels.unique()):
            return parts
    raise ValueError(
        "expected groups of which every class can be on both sides, found none such split: too few groups hold "
        "several classes each; make smaller groups, or take a class out"
    )


def split_groups(labels, groups, holdout=0.2, seed=0):
    """Indices of a training and a test part: of every class about `holdout` in the test part, no group in both.

    `labels` and `groups` are `(n,)` int64. Every class has at least one group on each side. Raises `ValueError` for a
    class of fewer than two groups or a `holdout` outside 0..1.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"expected holdout between 0 and 1, found {holdout}; 0.2 is usual")

    def attempt(seed):
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for own in members(labels, groups, seed).values():
            wanted, taken = holdout * sum(map(len, own)), 0
            for index in own[:-1]:
                if taken and taken + len(index) / 2 > wanted:
                    break
                held_out[index] = True
                taken += len(index)
        return held_out

    held_out = first_fair(labels, seed, attempt)
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def fold_groups(labels, groups, folds=5, seed=0):
    """The fold of each image, `(n,)` in 0..folds - 1: classes evenly spread, no group in two folds.

    Train on all folds but one and test on that one, once for each fold: every image is tested once (cross-validation).
    Raises `ValueError` as `split_groups`, and for fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"expected at least 2 folds, found {folds}; 5 are usual")

    def attempt(seed):
        fold, total = torch.zeros(len(labels), dtype=torch.int64), [0] * folds
        for own in members(labels, groups, seed).values():
            of_class = [0] * folds
            for index in reversed(own):  # large groups first: small ones fill up
                k = min(range(folds), key=lambda k: (of_class[k], total[k]))
                fold[index] = k
                of_class[k] += len(index)
                total[k] += len(index)
        return fold

    return first_fair(labels, seed, attempt)
