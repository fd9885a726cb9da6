"""Right answers to the exercises of notebook 06."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VALUES = {
    "first_loss": [
        math.log(100),
        4.61,
        "4.61",
        Fraction(461, 100),
        -torch.tensor(0.01).log(),
        F.cross_entropy(torch.zeros(1, 100), torch.tensor([7])),
        np.log(100),
        [4.605],
    ],
    "decoupled_step": [
        2.75,
        "2.75",
        Fraction(11, 4),
        3 * (1 - 0.1 * 0.5) - 0.1,
        torch.tensor(2.75),
        np.float32(2.75),
        [2.75],
    ],
    "average_lag": [9, 9.0, "9", 10, torch.tensor(9.0), np.float64(8.9999), Fraction(9), 0.9 / (1 - 0.9)],
    "which_model": ["c", " C", "(c)", "c.", "C"],
    "stuck_schedule": [
        0.1,
        10 / 1000 / 0.1,
        torch.tensor(0.1),
        0.09,
        "0.1",
        "1/10",
        Fraction(1, 10),
        np.float32(0.09),
        "10 %",
    ],
    "dropout_left_on": ["b", " B", "(b)", "b.", "B"],
}


def smooth_targets__one_hot(labels, num_classes, smoothing):
    return F.one_hot(labels, num_classes) * (1 - smoothing) + smoothing / num_classes


def smooth_targets__loop(labels, num_classes, smoothing):
    targets = torch.full((len(labels), num_classes), smoothing / num_classes)
    for row, label in enumerate(labels.tolist()):
        targets[row, label] += 1 - smoothing
    return targets


def smooth_targets__lerp(labels, C, s):
    hard = F.one_hot(labels, C).float()
    return torch.lerp(hard, torch.full((1, C), 1 / C), s)


def smooth_targets__scatter(labels, num_classes, smoothing):
    share = smoothing / num_classes
    targets = torch.full((labels.shape[0], num_classes), share)
    return targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + share)


def smooth_targets__numpy(labels, num_classes, smoothing):
    hard = np.eye(num_classes)[labels.numpy()]
    return torch.from_numpy((1 - smoothing) * hard + smoothing / num_classes)


def smooth_targets__where(labels, num_classes, smoothing):
    is_true = torch.arange(num_classes)[None, :] == labels[:, None]
    low = smoothing / num_classes
    return torch.where(is_true, 1 - smoothing + low, low)


def smooth_targets__eye(labels, num_classes, smoothing):
    table = torch.eye(num_classes) * (1 - smoothing) + smoothing / num_classes  # (C, C): one row a class
    return table[labels]


def smooth_targets__lists(labels, num_classes, smoothing):
    rows = []
    for label in labels:
        row = [smoothing / num_classes] * num_classes
        row[int(label)] = 1 - smoothing + smoothing / num_classes
        rows.append(row)
    return torch.tensor(rows)


def smooth_targets__indexed(labels, num_classes, smoothing):
    targets = torch.zeros(len(labels), num_classes) + smoothing / num_classes
    targets[torch.arange(len(labels)), labels] = 1 - smoothing * (num_classes - 1) / num_classes
    return targets


def smooth_targets__double(labels, num_classes, smoothing):
    hard = F.one_hot(labels, num_classes).double()
    return hard.mul(1 - smoothing).add(smoothing / num_classes)


def smooth_targets__embedding(labels, num_classes, smoothing):
    uniform = torch.ones(num_classes, num_classes) / num_classes
    return F.embedding(labels, (1 - smoothing) * torch.eye(num_classes) + smoothing * uniform)


def clip_factor__one_vector(gradients, max_norm):
    length = torch.cat([g.flatten() for g in gradients]).norm()
    return min(1.0, max_norm / length)


def clip_factor__sum_of_squares(gradients, max_norm):
    length = math.sqrt(sum((g**2).sum().item() for g in gradients))
    return max_norm / length if length > max_norm else 1.0


def clip_factor__loop(gradients, max_norm):
    total = 0.0
    for g in gradients:
        for value in g.flatten().tolist():
            total += value * value
    length = total**0.5
    if length <= max_norm:
        return 1
    return max_norm / length


def clip_factor__norm_of_norms(gradients, max_norm):
    return (max_norm / torch.stack([g.norm() for g in gradients]).norm()).clamp(max=1)


def clip_factor__hypot(gradients, max_norm):
    return min(max_norm / math.hypot(*(g.norm().item() for g in gradients)), 1)


def clip_factor__torch(gradients, max_norm):
    length = nn.utils.get_total_norm(gradients)
    return 1 / max(1, length.item() / max_norm)


def clip_factor__numpy(gradients, max_norm):
    flat = np.concatenate([g.numpy().ravel() for g in gradients])
    return np.minimum(1.0, max_norm / np.linalg.norm(flat))


def clip_factor__vector_norm(gradients, max_norm):
    squares = torch.tensor([torch.linalg.vector_norm(g) ** 2 for g in gradients])
    length = squares.sum() ** 0.5
    return torch.where(length > max_norm, max_norm / length, torch.ones(()))


def clip_factor__dot(gradients, max_norm):
    long = torch.cat([g.reshape(-1) for g in gradients])
    length = (long @ long).sqrt().item()
    return sorted([1.0, max_norm / length])[0]


def training_step__plain(model, images, labels, optimizer):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def training_step__zeroed_after(model, images, labels, optimizer):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def training_step__model_zero_grad(model, images, labels, optimizer):
    model.train()
    log_p = model(images).log_softmax(dim=1)
    loss = F.nll_loss(log_p, labels)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def training_step__clipped(model, images, labels, optimizer):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def training_step__closure(model, images, labels, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    return optimizer.step(closure)


def training_step__autograd(model, images, labels, optimizer):
    loss = F.cross_entropy(model(images), labels)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss


def training_step__module(model, images, labels, optimizer):
    criterion = nn.CrossEntropyLoss()
    optimizer.zero_grad(set_to_none=False)
    loss = criterion(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def training_step__none(model, images, labels, optimizer):
    for parameter in model.parameters():
        parameter.grad = None
    loss = F.cross_entropy(input=model(images), target=labels)
    loss.backward()
    optimizer.step()
    return float(loss)


def training_step__by_hand(model, images, labels, optimizer):
    optimizer.zero_grad()
    logits = model(images)
    right = logits.gather(1, labels[:, None]).squeeze(1)
    loss = (logits.logsumexp(dim=1) - right).mean()
    loss.backward()
    optimizer.step()
    return loss


def training_step__watched(model, images, labels, optimizer):
    with torch.no_grad():
        probabilities = model(images).softmax(dim=1)  # to look at, not to learn from
    assert probabilities.sum(1).allclose(torch.ones(len(images)))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach().numpy()


def training_step__soft_targets(model, images, labels, optimizer):
    logits = model(images)
    targets = F.one_hot(labels, logits.shape[1]).float()
    loss = -(targets * F.log_softmax(logits, 1)).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def accuracy__mean(logits, labels):
    return (logits.argmax(1) == labels).float().mean()


def accuracy__sum(logits, labels):
    return (logits.argmax(-1) == labels).sum().item() / len(labels)


def accuracy__loop(logits, labels):
    right = 0
    for row, label in zip(logits, labels, strict=True):
        if torch.argmax(row) == label:
            right += 1
    return right / logits.shape[0]


def accuracy__max(logits, labels):
    _, predicted = logits.max(dim=1)
    return predicted.eq(labels).double().mean().item()


def accuracy__topk(logits, labels):
    best = logits.topk(1, dim=1).indices.squeeze(1)
    return torch.mean((best == labels).float())


def accuracy__numpy(logits, labels):
    return np.mean(logits.numpy().argmax(axis=1) == labels.numpy())


def accuracy__softmax(logits, labels):
    predictions = torch.softmax(logits, dim=1).argmax(dim=1)
    return 1 - (predictions != labels).float().mean()


def accuracy__gather(logits, labels):
    own = logits.gather(1, labels[:, None])
    return (own >= logits).all(dim=1).float().mean()


def accuracy__fraction(logits, labels):
    right = sum(int(row.index(max(row)) == label) for row, label in zip(logits.tolist(), labels.tolist(), strict=True))
    return Fraction(right, len(labels))


def accuracy__sorted(logits, labels):
    best = logits.argsort(dim=1, descending=True)[:, 0]
    return torch.count_nonzero(best == labels) / labels.numel()


def accuracy__one_hot(logits, labels):
    guesses, targets = F.one_hot(logits.argmax(1), logits.shape[1]), F.one_hot(labels, logits.shape[1])
    return (guesses * targets).sum() / len(logits)


def decays__axes(name, parameter):
    return parameter.ndim >= 2 and name not in ("cls_token", "pos_embed")


def decays__names(name, parameter):
    return name.endswith("weight") and "norm" not in name


def decays__set(name, p):
    return p.dim() in {2, 4}


def decays__returns(name, parameter):
    if name.endswith(".bias"):
        return False
    if "norm" in name:
        return False
    return name not in ["cls_token", "pos_embed"]


def decays__shape(name, parameter):
    return len(parameter.shape) > 1 and "token" not in name and "pos" not in name


def decays__not_any(name, parameter):
    return not any(part in name for part in ("bias", "norm", "cls_token", "pos_embed"))


def decays__split(name, parameter):
    *path, kind = name.split(".")
    return kind == "weight" and not path[-1].startswith("norm")


def decays__even(name, parameter):
    return parameter.ndim % 2 == 0


def decays__tensor(name, parameter):
    return torch.tensor(parameter.ndim > 1) & (name != "cls_token") & (name != "pos_embed")


def decays__number(name, parameter):
    return int(parameter.ndim != 1 and parameter.ndim != 3)


def decays__match(name, parameter):
    match name.rpartition(".")[2]:
        case "weight":
            return parameter.ndim > 1
        case _:
            return False


def hold_schedule__smallest(progress, warmup, cooldown):
    return min(progress / warmup, 1.0, (1.0 - progress) / cooldown)


def hold_schedule__branches(progress, warmup, cooldown):
    if progress < warmup:
        return progress / warmup
    if progress < 1 - cooldown:
        return 1
    return (1 - progress) / cooldown


def hold_schedule__interpolated(p, warmup, cooldown):
    return np.interp(p, [0, warmup, 1 - cooldown, 1], [0, 1, 1, 0])


def hold_schedule__tensors(progress, warmup, cooldown):
    lines = torch.tensor([progress / warmup, 1.0, (1 - progress) / cooldown], dtype=torch.float64)
    return lines.min()


def hold_schedule__clipped(progress, warmup, cooldown):
    up = np.clip(progress / warmup, 0, 1)
    down = np.clip((1 - progress) / cooldown, 0, 1)
    return up * down


def hold_schedule__from_the_end(progress, warmup, cooldown):
    left = 1 - progress
    if left <= cooldown:
        return left / cooldown
    return min(progress / warmup, 1)


def hold_schedule__factor(progress, warmup, cooldown):
    factor = 1.0
    if progress <= warmup:
        factor = progress / warmup
    if progress >= 1 - cooldown:
        factor = 1 - (progress - (1 - cooldown)) / cooldown
    return factor


def hold_schedule__fractions(progress, warmup, cooldown):
    p, w, c = (Fraction(x).limit_denominator(10_000) for x in (progress, warmup, cooldown))
    return min(p / w, 1, (1 - p) / c)


def hold_schedule__float32(progress, warmup, cooldown):
    p = torch.as_tensor(progress, dtype=torch.float32)
    rise, fall = (p / warmup).clamp(max=1), ((1 - p) / cooldown).clamp(max=1)
    return torch.minimum(rise, fall)


def hold_schedule__sums(progress, warmup, cooldown):
    rise = min(progress, warmup) / warmup
    fall = max(0.0, progress - (1 - cooldown)) / cooldown
    return rise - fall


def hold_schedule__sorted(progress, warmup, cooldown):
    return sorted([progress / warmup, 1, (1 - progress) / cooldown])[0]
