"""How hard is the course's own data? A linear classifier on its pixels against the course's ViT.

Usage: python tools/measure_shapes.py [--seconds 90] [--threads 2] [--task shapes]
"""

import argparse
import time

import torch
import torch.nn.functional as F

from vit_tutorial import VisionTransformer, datasets
from vit_tutorial.training import RECIPES, evaluate, train

DECAYS = (0.01, 0.1, 1.0, 10.0)  # from overfitting to underfitting


def linear_accuracy(train_set, test_set, decay, iterations=100):
    """Test accuracy of logistic regression on the pixels: full batch, L-BFGS, `decay / 2` times the squared weights."""
    pixels, unseen = (data.images.flatten(1).float() / 255 for data in (train_set, test_set))
    mean, std = pixels.mean(dim=0), pixels.std()
    pixels, unseen = (pixels - mean) / std, (unseen - mean) / std
    classes = len(train_set.classes)
    weight = torch.zeros(pixels.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(pixels @ weight + bias, train_set.labels) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return ((unseen @ weight + bias).argmax(dim=1) == test_set.labels).float().mean().item()


def vit_accuracy(train_set, test_set, recipe, seconds, seed=0):
    """Test accuracy of the recipe's ViT after so many seconds of training, and how many passes these were."""
    torch.manual_seed(seed)
    model = VisionTransformer(recipe.config(train_set))
    history = train(model, train_set, recipe, minutes=seconds / 60, seed=seed)
    return evaluate(model, test_set).accuracy, history.epochs[-1]["epoch"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["shapes", "same_or_different"], default="shapes")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    draw = getattr(datasets, args.task)
    start = time.perf_counter()
    train_set, test_set = draw("train"), draw("test")
    print(f"{len(train_set)} + {len(test_set)} pictures drawn in {time.perf_counter() - start:.1f} s")
    for decay in DECAYS:
        print(f"linear classifier, decay {decay:5.2f}: {linear_accuracy(train_set, test_set, decay):.1%}")
    accuracy, passes = vit_accuracy(train_set, test_set, RECIPES["shapes"], args.seconds)
    print(f"ViT after {args.seconds:.0f} s ({passes} passes): {accuracy:.1%}")


if __name__ == "__main__":
    main()
