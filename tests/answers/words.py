"""Right answers to the exercises of notebook 16."""

import math
import re
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial import words
from vit_tutorial.check.words import NEGATES, READS

VALUES = {
    "chance": [
        (100 / 32, math.log(128)),
        (3.125, 4.852),
        (3.1, 4.85),
        [3.13, 4.9],
        "3.125, 4.852",
        "(3.1, 4.85)",
        torch.tensor([3.125, 4.852]),
        np.array([100 / 32, np.log(128)]),
        (Fraction(25, 8), F.cross_entropy(torch.zeros(128, 128), torch.arange(128))),
    ],
    "what_it_reads": [READS, f" {READS.upper()} ", f"({READS})", f"{READS}.", f"{READS.upper()})"],
    "negation": [NEGATES, f" {NEGATES.upper()} ", f"({NEGATES})", f"{NEGATES}.", f"{NEGATES.upper()})"],
}


# ------------------------------------------------------------------------------------------------ 16.1


def word_numbers__plain(sentence, numbers, T):
    row = [numbers[word] for word in sentence.lower().replace(",", "").split()]
    return row + [0] * (T - len(row))


def word_numbers__filled(sentence, numbers, T):
    row = [0] * T
    for place, word in enumerate(sentence.replace(",", "").lower().split(" ")):
        row[place] = numbers[word]
    return row


def word_numbers__while(sentence, numbers, T):
    row = []
    for word in sentence.split():
        row.append(numbers[word.strip(",").lower()])
    while len(row) < T:
        row.append(0)
    return row


def word_numbers__regular(sentence, numbers, T):
    found = re.findall(r"\w+", sentence.lower())
    return ([numbers[word] for word in found] + T * [0])[:T]


def word_numbers__refuses(sentence, numbers, T):
    split = "".join(c for c in sentence if c != ",").casefold().split()
    unknown = [word for word in split if word not in numbers]
    if unknown:
        raise ValueError(f"expected words of the captions, found {unknown[0]}")
    return [numbers[split[t]] if t < len(split) else 0 for t in range(T)]


def word_numbers__tensor(sentence, numbers, T):
    row = torch.zeros(T, dtype=torch.long)
    found = sentence.lower().replace(",", " ").split()
    row[: len(found)] = torch.tensor([numbers[word] for word in found])
    return row


def word_numbers__numpy(sentence, numbers, T):
    found = np.array([numbers[word] for word in sentence.lower().replace(",", "").split()])
    return np.pad(found, (0, T - found.size)).tolist()


def word_numbers__package(sentence, numbers, T):
    tokenizer = words.Tokenizer([], T)
    tokenizer.numbers = numbers
    return tokenizer([sentence])[0].tolist()


# ------------------------------------------------------------------------------------------------ 16.2


def sentence_vector__masked(x, tokens):
    real = (tokens > 0).unsqueeze(2)
    return (x * real).sum(dim=1) / real.sum(dim=1)


def sentence_vector__loops(x, tokens):
    out = []
    for vectors, row in zip(x, tokens, strict=True):
        out.append(vectors[row != 0].mean(dim=0))
    return torch.stack(out)


def sentence_vector__lengths(x, tokens):
    lengths = tokens.count_nonzero(dim=1)
    return torch.stack([x[b, :n].sum(0) / n for b, n in enumerate(lengths)])


def sentence_vector__einsum(x, tokens):
    mask = tokens.bool().to(x.dtype)
    return torch.einsum("btd,bt->bd", x, mask) / torch.einsum("bt->b", mask)[:, None]


def sentence_vector__weights(x, tokens):
    weights = (tokens != 0).float()
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.bmm(weights[:, None], x).squeeze(1)


def sentence_vector__filled(x, tokens):
    empty = tokens.eq(0)[..., None]
    return x.masked_fill(empty, 0.0).sum(1).div((~empty).sum(1))


def sentence_vector__nanmean(x, tokens):
    return torch.where(tokens[:, :, None] > 0, x, torch.nan).nanmean(dim=1)


def sentence_vector__numpy(x, tokens):
    mask = np.broadcast_to(tokens.numpy()[:, :, None] > 0, x.shape)
    return torch.from_numpy(np.mean(x.numpy(), axis=1, where=mask))


# ------------------------------------------------------------------------------------------------ 16.3


def similarity__normalised(images, texts, temperature):
    return F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T / temperature


def similarity__by_hand(images, texts, temperature):
    images = images / images.norm(dim=1, keepdim=True)
    texts = texts / texts.norm(dim=1, keepdim=True)
    return torch.matmul(images, texts.t()) / temperature


def similarity__cosine(images, texts, temperature):
    return F.cosine_similarity(images[:, None, :], texts[None, :, :], dim=2) / temperature


def similarity__einsum(images, texts, temperature):
    products = torch.einsum("id,jd->ij", images, texts)
    lengths = images.square().sum(1).sqrt()[:, None] * texts.square().sum(1).sqrt()[None]
    return products / (lengths * temperature)


def similarity__loops(images, texts, temperature):
    B = len(images)
    out = torch.zeros(B, B, dtype=images.dtype)
    for i in range(B):
        for j in range(B):
            out[i, j] = images[i] @ texts[j] / (images[i].norm() * texts[j].norm()) / temperature
    return out


def similarity__scale(images, texts, temperature):
    scale = math.exp(-math.log(temperature))
    return scale * F.normalize(images) @ F.normalize(texts).mT


def similarity__outer(images, texts, temperature):
    lengths = torch.outer(torch.linalg.vector_norm(images, dim=-1), torch.linalg.vector_norm(texts, dim=-1))
    return (images @ texts.transpose(0, 1)).div(lengths).div(temperature)


def similarity__numpy(images, texts, temperature):
    i, t = images.numpy(), texts.numpy()
    i = i / np.linalg.norm(i, axis=1, keepdims=True)
    t = t / np.sqrt((t**2).sum(axis=1))[:, None]
    return torch.from_numpy(i @ t.T / temperature)


# ------------------------------------------------------------------------------------------------ 16.4


def clip_loss__package(logits):
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def clip_loss__diagonal(logits):
    rows = logits.log_softmax(dim=1).diag()
    columns = logits.log_softmax(dim=0).diag()
    return -(rows + columns).mean() / 2


def clip_loss__logsumexp(logits):
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) * 0.5


def clip_loss__loops(logits):
    B, total = logits.shape[0], 0.0
    for i in range(B):
        row, column = logits[i], logits[:, i]
        total = total + torch.logsumexp(row, 0) - row[i]
        total = total + torch.logsumexp(column, 0) - column[i]
    return total / (2 * B)


def clip_loss__largest_off(logits):
    losses = []
    for x in (logits, logits.T):
        x = x - x.max(dim=1, keepdim=True).values
        losses.append((x.exp().sum(dim=1).log() - x.diag()).mean())
    return sum(losses) / 2


def clip_loss__module(logits):
    criterion, labels = nn.CrossEntropyLoss(), torch.arange(logits.size(0))
    pictures = criterion(logits, labels)
    texts = criterion(logits.t(), labels)
    return torch.stack([pictures, texts]).mean()


def clip_loss__one_hot(logits):
    eye = torch.eye(len(logits), dtype=logits.dtype)
    return 0.5 * F.cross_entropy(logits, eye) + 0.5 * F.cross_entropy(logits.T, eye)


def clip_loss__nll(logits):
    labels = torch.arange(logits.shape[0])
    both = torch.cat([F.log_softmax(logits, dim=1), F.log_softmax(logits, dim=0).T])
    return F.nll_loss(both, labels.repeat(2))


# ------------------------------------------------------------------------------------------------ 16.6


def siglip_loss__package(logits, bias):
    signs = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(signs * (logits + bias)).sum(dim=1).mean()


def siglip_loss__softplus(logits, bias):
    z = logits + bias
    own = torch.eye(len(z), dtype=torch.bool)
    return F.softplus(torch.where(own, -z, z)).sum() / len(z)


def siglip_loss__bce(logits, bias):
    targets = torch.eye(logits.shape[0], dtype=logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits + bias, targets, reduction="none")
    return loss.sum(1).mean(0)


def siglip_loss__loops(logits, bias):
    B, total = len(logits), 0.0
    for i in range(B):
        for j in range(B):
            sign = 1 if i == j else -1
            total = total - F.logsigmoid(sign * (logits[i, j] + bias))
    return total / B


def siglip_loss__two_parts(logits, bias):
    z = logits + bias
    own = F.logsigmoid(z.diag()).sum()
    others = F.logsigmoid(-z).sum() - F.logsigmoid(-z.diag()).sum()
    return -(own + others) / z.shape[0]


def siglip_loss__by_hand(logits, bias):
    signs = -torch.ones_like(logits)
    signs.fill_diagonal_(1.0)
    z = signs * (logits + bias)
    return (z.neg().clamp(min=0) + torch.log1p(torch.exp(-z.abs()))).sum(dim=1).mean()


def siglip_loss__logaddexp(logits, bias):
    z = (2 * torch.eye(len(logits)) - 1) * (logits + bias)
    return torch.logaddexp(torch.zeros_like(z), -z).mean() * len(logits)


# ------------------------------------------------------------------------------------------------ 16.7


def zero_shot__plain(image_vectors, class_vectors):
    return (F.normalize(image_vectors, dim=1) @ F.normalize(class_vectors, dim=1).T).argmax(dim=1)


def zero_shot__classes_alone(image_vectors, class_vectors):
    return (image_vectors @ (class_vectors / class_vectors.norm(dim=1, keepdim=True)).T).argmax(dim=-1)


def zero_shot__cosine(image_vectors, class_vectors):
    return F.cosine_similarity(image_vectors[:, None], class_vectors[None], dim=2).max(dim=1).indices


def zero_shot__loops(image_vectors, class_vectors):
    found = []
    for image in image_vectors:
        best, name = -2.0, None
        for k, vector in enumerate(class_vectors):
            cosine = (image @ vector / (image.norm() * vector.norm())).item()
            if cosine > best:
                best, name = cosine, k
        found.append(name)
    return torch.tensor(found)


def zero_shot__distances(image_vectors, class_vectors):
    return torch.cdist(F.normalize(image_vectors), F.normalize(class_vectors)).argmin(dim=1)


def zero_shot__topk(image_vectors, class_vectors):
    i = image_vectors / image_vectors.pow(2).sum(dim=1, keepdim=True).sqrt()
    c = class_vectors / class_vectors.pow(2).sum(dim=1, keepdim=True).sqrt()
    return torch.einsum("md,kd->mk", i, c).softmax(dim=1).topk(1).indices[:, 0]


def zero_shot__numpy(image_vectors, class_vectors):
    i, c = image_vectors.numpy(), class_vectors.numpy()
    cosines = (i @ c.T) / np.linalg.norm(i, axis=1)[:, None] / np.linalg.norm(c, axis=1)
    return torch.from_numpy(np.argmax(cosines, axis=1))


# ------------------------------------------------------------------------------------------------ 16.8


def recall__topk(similarity, k):
    own = torch.arange(len(similarity))[:, None]
    return (similarity.topk(k, dim=1).indices == own).any(dim=1).float().mean().item()


def recall__ahead(similarity, k):
    ahead = (similarity > similarity.diag()[:, None]).sum(dim=1)
    return (ahead < k).double().mean().item()


def recall__sorted(similarity, k):
    hits = 0
    for i, row in enumerate(similarity.tolist()):
        order = sorted(range(len(row)), key=lambda j: -row[j])
        hits += i in order[:k]
    return hits / len(similarity)


def recall__threshold(similarity, k):
    least = similarity.sort(dim=1, descending=True).values[:, k - 1]
    return float((similarity.diagonal() >= least).float().mean())


def recall__ranks(similarity, k):
    order = similarity.argsort(dim=1, descending=True)
    rank = (order == torch.arange(len(order)).unsqueeze(1)).int().argmax(dim=1)
    return (rank < k).sum() / len(similarity)


def recall__loops(similarity, k):
    M, right = similarity.shape[0], 0
    for i in range(M):
        larger = 0
        for j in range(M):
            if similarity[i, j] > similarity[i, i]:
                larger += 1
        if larger < k:
            right += 1
    return right / M


def recall__numpy(similarity, k):
    order = np.argsort(-similarity.numpy(), axis=1)[:, :k]
    return float(np.mean([i in row for i, row in enumerate(order)]))
