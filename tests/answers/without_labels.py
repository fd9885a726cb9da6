"""Right answers to the exercises of notebook 14."""

from collections import Counter
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial.training import dino, mae

VALUES = {
    "visible_tokens": [17, 17.0, torch.tensor(17), Fraction(17), "17", np.int64(17), [17], (64 - 48) + 1],
    "harder_mask": ["b", " B ", "(b)", "b.", "B)", "b\n"],
    "find_collapse": ["CA", "ca", " CA\n", "(CA)", "'CA'", "CA.", "C, A", "c a", ("C", "A"), ["c", "a"]],
}


# ------------------------------------------------------------------------------------------------ 14.2


def masking__argsort_twice(noise, K):
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return order[:, :K], restore, restore >= K


def masking__gathered_mask(noise, K):
    B, N = noise.shape
    ids_shuffle = torch.argsort(noise, dim=1)
    ids_restore = torch.argsort(ids_shuffle, dim=1)
    mask = torch.ones(B, N)
    mask[:, :K] = 0
    return ids_shuffle[:, :K], ids_restore, torch.gather(mask, 1, ids_restore).bool()


def masking__scatter(noise, K):
    B, N = noise.shape
    order = noise.sort(dim=-1).indices
    places = torch.arange(N).expand(B, N)
    restore = torch.zeros_like(order).scatter(1, order, places)
    hidden = torch.ones(B, N, dtype=torch.bool).scatter(1, order[:, :K], False)
    return order[:, :K], restore, hidden


def masking__loops(noise, K):
    keep, restore, hidden = [], [], []
    for row in noise.tolist():
        order = sorted(range(len(row)), key=lambda patch: row[patch])
        keep.append(order[:K])
        restore.append([order.index(patch) for patch in range(len(row))])
        hidden.append([patch not in order[:K] for patch in range(len(row))])
    return torch.tensor(keep), torch.tensor(restore), torch.tensor(hidden)


def masking__ranks(noise, K):
    restore = (noise[:, None, :] < noise[:, :, None]).sum(dim=2)
    order = torch.empty_like(restore)
    for b in range(len(noise)):
        order[b, restore[b]] = torch.arange(noise.shape[1])
    return order[:, :K], restore, restore > K - 1


def masking__topk(noise, K):
    N = noise.size(1)
    order = noise.topk(N, dim=1, largest=False).indices
    threshold = noise.sort(dim=1).values[:, K - 1 : K]
    return [order[:, :K], order.sort(dim=1).indices, noise > threshold]


def masking__numpy(noise, K):
    order = np.argsort(noise.numpy(), axis=1)
    restore = np.argsort(order, axis=1)
    return torch.from_numpy(order[:, :K]), torch.from_numpy(restore), torch.from_numpy(restore >= K)


def masking__marked(noise, K):
    order = noise.argsort(dim=1)
    hidden = torch.zeros_like(noise, dtype=torch.bool)
    hidden[torch.arange(len(noise))[:, None], order[:, K:]] = True
    return order.narrow(1, 0, K), order.argsort(dim=1), hidden


# ------------------------------------------------------------------------------------------------ 14.3


def put_back__gather(x, mask_token, restore, places):
    (B, K, D), N = x.shape, restore.shape[1]
    tokens = torch.cat([x, mask_token.expand(B, N - K, D)], dim=1)
    return tokens.gather(1, restore[:, :, None].expand(-1, -1, D)) + places


def put_back__package(x, mask_token, restore, places):
    masks = mask_token.repeat(len(x), restore.shape[1] - x.shape[1], 1)
    x = mae.take(torch.cat([x, masks], dim=1), restore)
    x = x + places
    return x


def put_back__index(x, mask_token, restore, places):
    B, N = restore.shape
    x = torch.cat([x, mask_token.expand(B, N - x.size(1), -1)], 1)
    return x[torch.arange(B)[:, None], restore] + places


def put_back__loops(x, mask_token, restore, places):
    images = []
    for tokens, row in zip(x, restore.tolist(), strict=True):
        own = [tokens[place] if place < len(tokens) else mask_token[0, 0] for place in row]
        images.append(torch.stack(own) + places[0])
    return torch.stack(images)


def put_back__scatter(x, mask_token, restore, places):
    (B, K, D), N = x.shape, restore.shape[1]
    order = restore.argsort(dim=1)[:, :K, None].expand(B, K, D)
    return mask_token.expand(B, N, D).scatter(1, order, x) + places


def put_back__filled(x, mask_token, restore, places):
    B, N = restore.shape
    out = mask_token.repeat(B, N, 1)
    for b in range(B):
        order = restore[b].argsort()
        out[b, order[: x.shape[1]]] = x[b]
    return out.add_(places)


def put_back__take_along(x, mask_token, restore, places):
    N = restore.shape[1]
    tokens = torch.hstack([x, mask_token.tile(x.shape[0], N - x.shape[1], 1)])
    return places + torch.take_along_dim(tokens, restore.unsqueeze(2), dim=1)


def put_back__one_hot(x, mask_token, restore, places):
    B, N = restore.shape
    tokens = torch.cat([x, mask_token.expand(B, N - x.shape[1], -1)], dim=1)
    return torch.einsum("bnm,bmd->bnd", F.one_hot(restore, N).to(tokens.dtype), tokens) + places


# ------------------------------------------------------------------------------------------------ 14.4


def hidden_loss__index(predicted, targets, hidden):
    return (predicted - targets).square().mean(dim=2)[hidden].mean()


def hidden_loss__mse(predicted, targets, hidden):
    return F.mse_loss(predicted[hidden], targets[hidden])


def hidden_loss__weighted(predicted, targets, hidden):
    loss = ((predicted - targets) ** 2).mean(dim=-1)
    mask = hidden.float()
    return (loss * mask).sum() / mask.sum()


def hidden_loss__module(predicted, targets, hidden):
    error = nn.MSELoss(reduction="none")(predicted, targets)
    return error.masked_select(hidden[:, :, None]).mean()


def hidden_loss__loops(predicted, targets, hidden):
    total, count = 0.0, 0
    for b in range(hidden.shape[0]):
        for n in range(hidden.shape[1]):
            if hidden[b, n]:
                total = total + ((predicted[b, n] - targets[b, n]) ** 2).sum()
                count += predicted.shape[2]
    return total / count


def hidden_loss__einsum(predicted, targets, hidden):
    error = predicted - targets
    squares = torch.einsum("bnm,bnm,bn->", error, error, hidden.to(error.dtype))
    return squares / (hidden.sum() * error.size(-1))


def hidden_loss__where(predicted, targets, hidden):
    error = torch.where(hidden.unsqueeze(-1), predicted - targets, 0.0)
    return error.pow(2).sum() / hidden.count_nonzero() / predicted.shape[-1]


# ------------------------------------------------------------------------------------------------ 14.5


def normalised_patches__plain(patches):
    mean, variance = patches.mean(dim=2, keepdim=True), patches.var(dim=2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def normalised_patches__rsqrt(patches):
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) * torch.rsqrt(variance + 1e-6)


def normalised_patches__by_hand(patches):
    apart = patches - patches.sum(2, keepdim=True) / patches.shape[2]
    variance = (apart * apart).sum(dim=2)[..., None] / (patches.shape[2] - 1)
    return apart / torch.sqrt(variance + 1e-6)


def normalised_patches__loops(patches):
    out = torch.empty_like(patches)
    for b in range(patches.size(0)):
        for n in range(patches.size(1)):
            patch = patches[b, n]
            out[b, n] = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
    return out


def normalised_patches__std(patches):
    scale = patches.std(dim=2, keepdim=True).square().add(1e-6).sqrt()
    return patches.sub(patches.mean(dim=2, keepdim=True)).div(scale)


def normalised_patches__flat(patches):
    flat = patches.flatten(0, 1).T
    flat = (flat - flat.mean(0)) / (flat.var(0) + 1e-6).pow(0.5)
    return flat.T.reshape(patches.shape)


def normalised_patches__numpy(patches):
    x = patches.numpy().astype(np.float64)
    x = x - x.mean(axis=2, keepdims=True)
    return torch.from_numpy(x / np.sqrt(x.var(axis=2, ddof=1, keepdims=True) + 1e-6))


def normalised_patches__clone_in_place(patches):
    targets = patches.clone()
    targets -= targets.mean(-1, True)
    targets /= (targets.var(-1, keepdim=True) + 1e-6).sqrt_()
    return targets


# ------------------------------------------------------------------------------------------------ 14.7


def teacher_average__plain(teacher, student, momentum):
    return momentum * teacher + (1 - momentum) * student


def teacher_average__lerp(teacher, student, momentum):
    return teacher.lerp(student, 1 - momentum)


def teacher_average__towards(teacher, student, momentum):
    return teacher + (1 - momentum) * (student - teacher)


def teacher_average__from_the_student(teacher, student, momentum):
    return torch.lerp(student, teacher, momentum)


def teacher_average__package(teacher, student, momentum):
    average = nn.ParameterList([teacher.clone()])
    dino.update_teacher(average, nn.ParameterList([student]), momentum)
    return average[0].detach()


def teacher_average__loops(teacher, student, momentum):
    new = [t * momentum + s * (1 - momentum) for t, s in zip(teacher.tolist(), student.tolist(), strict=True)]
    return torch.tensor(new)


def teacher_average__clone_in_place(teacher, student, momentum):
    new = teacher.clone()
    new.mul_(momentum).add_(student, alpha=1 - momentum)
    return new


def teacher_average__matrix(teacher, student, momentum):
    return torch.tensor([momentum, 1 - momentum], dtype=teacher.dtype) @ torch.stack([teacher, student])


def teacher_average__numpy(teacher, student, momentum):
    return torch.from_numpy(np.average([teacher.numpy(), student.numpy()], axis=0, weights=[momentum, 1 - momentum]))


# ------------------------------------------------------------------------------------------------ 14.8


def centred_target__plain(answers, centre, temperature, momentum):
    target = ((answers - centre) / temperature).softmax(dim=1)
    return target, momentum * centre + (1 - momentum) * answers.mean(dim=0)


def centred_target__lerp(answers, centre, temperature, momentum):
    target = F.softmax((answers - centre[None]) / temperature, dim=-1)
    new_centre = centre.lerp(answers.mean(0), 1 - momentum)
    return target, new_centre


def centred_target__package(answers, centre, temperature, momentum):
    new_centre = centre.clone()
    dino.update_centre(new_centre, answers, momentum)
    return torch.softmax((answers - centre) / temperature, 1), new_centre


def centred_target__exponentials(answers, centre, temperature, momentum):
    powers = torch.exp((answers - centre) / temperature)
    mean = answers.sum(dim=0) / len(answers)
    return powers / powers.sum(dim=1, keepdim=True), centre * momentum + mean * (1 - momentum)


def centred_target__loops(answers, centre, temperature, momentum):
    rows = []
    for row in answers:
        rows.append(((row - centre) / temperature).softmax(0))
    new = centre * 1
    for k in range(len(centre)):
        new[k] = momentum * centre[k] + (1 - momentum) * answers[:, k].mean()
    return [torch.stack(rows), new]


def centred_target__two_softmaxes(answers, centre, temperature, momentum):
    scores = answers / temperature - centre / temperature
    return scores.log_softmax(dim=1).exp(), centre + (1 - momentum) * (answers.mean(dim=0) - centre)


def centred_target__numpy(answers, centre, temperature, momentum):
    a, c = answers.numpy().astype(np.float64), centre.numpy()
    x = (a - c) / temperature
    e = np.exp(x - x.max(axis=1, keepdims=True))
    new = momentum * c + (1 - momentum) * a.mean(axis=0)
    return torch.from_numpy(e / e.sum(axis=1, keepdims=True)), torch.from_numpy(new)


def centred_target__einsum(answers, centre, temperature, momentum):
    B = answers.shape[0]
    mean = torch.einsum("bk->k", answers) / B
    shifted = torch.sub(answers, centre.expand(B, -1))
    return nn.Softmax(dim=1)(shifted * (1 / temperature)), torch.add(momentum * centre, mean, alpha=1 - momentum)


# ------------------------------------------------------------------------------------------------ 14.10


def nearest_labels__one_hot(features, labels, queries, k, num_classes):
    similar = F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T
    nearest = similar.topk(k, dim=1).indices
    return F.one_hot(labels[nearest], num_classes).sum(dim=1).argmax(dim=1)


def nearest_labels__bincount(features, labels, queries, k, num_classes):
    features = features / features.norm(dim=1, keepdim=True)
    found = []
    for query in queries:
        nearest = (features @ query).argsort(descending=True)[:k]
        found.append(labels[nearest].bincount(minlength=num_classes).argmax())
    return torch.stack(found)


def nearest_labels__counter(features, labels, queries, k, num_classes):
    found = []
    for query in queries:
        order = F.cosine_similarity(features, query[None]).sort(descending=True).indices
        votes = Counter(labels[order[:k]].tolist())
        found.append(min(votes, key=lambda label: (-votes[label], label)))
    return torch.tensor(found)


def nearest_labels__scatter(features, labels, queries, k, num_classes):
    similar = F.cosine_similarity(queries[:, None], features[None], dim=-1)
    _, index = torch.topk(similar, k)
    votes = torch.zeros(len(queries), num_classes).scatter_add(1, labels[index], torch.ones(len(queries), k))
    return votes.max(dim=1).indices


def nearest_labels__distances(features, labels, queries, k, num_classes):
    distances = torch.cdist(F.normalize(queries), F.normalize(features))  # on the sphere: the same order
    nearest = distances.topk(k, largest=False).indices
    votes = torch.stack([(labels[nearest] == c).sum(dim=1) for c in range(num_classes)], dim=1)
    return votes.argmax(dim=1)


def nearest_labels__sorted_list(features, labels, queries, k, num_classes):
    found = []
    for q in range(len(queries)):
        pairs = []
        for m in range(len(features)):
            cosine = torch.dot(queries[q], features[m]) / (queries[q].norm() * features[m].norm())
            pairs.append((cosine.item(), labels[m].item()))
        votes = [0] * num_classes
        for _, label in sorted(pairs, reverse=True)[:k]:
            votes[label] += 1
        found.append(votes.index(max(votes)))
    return torch.tensor(found)


def nearest_labels__numpy(features, labels, queries, k, num_classes):
    f, q = (x.double().numpy() for x in (features, queries))
    similar = q @ f.T / np.linalg.norm(f, axis=1) / np.linalg.norm(q, axis=1)[:, None]
    nearest = np.argsort(-similar, axis=1)[:, :k]
    votes = [np.bincount(labels.numpy()[row], minlength=num_classes) for row in nearest]
    return torch.from_numpy(np.argmax(votes, axis=1))


def nearest_labels__votes_as_matrix(features, labels, queries, k, num_classes):
    similar = torch.einsum("qd,md->qm", queries, F.normalize(features, dim=-1))
    threshold = similar.sort(dim=1, descending=True).values[:, k - 1 : k]
    return ((similar >= threshold).float() @ F.one_hot(labels, num_classes).float()).argmax(-1)
