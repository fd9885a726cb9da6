"""How hard is the course's own data? A linear classifier on its pixels against the course's ViT.

python tools/measure/shapes.py [--seconds 90] [--task same_or_different]
"""

import argparse

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["shapes", "same_or_different"], default="shapes")
    parser.add_argument("--seconds", type=float, default=90, help="of the ViT's training (default: 90)")
    args = parser.parse_args()
    train_set, test_set = (getattr(datasets, args.task)(split) for split in ("train", "test"))
    for decay in DECAYS:
        print(f"linear classifier, decay {decay:5.2f}: {linear_accuracy(train_set, test_set, decay):.1%}")
    torch.manual_seed(0)
    model = VisionTransformer(RECIPES["shapes"].config(train_set))
    history = train(model, train_set, RECIPES["shapes"], minutes=args.seconds / 60, seed=0)
    accuracy, passes = evaluate(model, test_set).accuracy, history.epochs[-1]["epoch"]
    print(f"ViT after {args.seconds:.0f} s ({passes} passes): {accuracy:.1%}")


if __name__ == "__main__":
    main()
