"""Planted mistakes in the exercises of notebook 16."""

import math

import torch
import torch.nn.functional as F

from vit_tutorial.check.words import NEGATES, READS


def said(names, result, lines=""):
    """A function of these inputs whose lines and result are written as text."""

    def function(*inputs):
        space = {"torch": torch, "F": F, "math": math, **dict(zip(names.split(), inputs, strict=True))}
        exec(lines, space)
        return eval(result, space)

    return function


def encode(result="row + [0] * (T - len(row))", row="numbers[word]", words="s.lower().replace(',', '').split()"):
    lines = f"row = []\nfor word in {words}:\n    row.append({row})"
    return said("s numbers T", result, lines)


def averaged(total="(x * real).sum(1)", count="real.sum(1)", real="(tokens > 0).unsqueeze(2)", result=""):
    return said("x tokens", result or f"{total} / ({count})", f"real = {real}")


def cosines(result="i @ t.T / temperature", i="F.normalize(images, dim=1)", t="F.normalize(texts, dim=1)"):
    return said("images texts temperature", result, f"i, t = {i}, {t}")


def clip(
    result="(rows + columns) / 2",
    each="F.cross_entropy(x, target)",
    target="torch.arange(len(logits))",
    columns="each(logits.T)",
):
    lines = f"target = {target}\neach = lambda x, target=target, F=F, torch=torch: {each}"
    return said("logits", result, f"{lines}\nrows, columns = each(logits), {columns}")


def siglip(
    result="losses.sum(1).mean()",
    losses="-F.logsigmoid(z)",
    z="signs * (logits + bias)",
    signs="2 * torch.eye(len(logits)) - 1",
):
    return said("logits bias", result, f"signs = {signs}\nz = {z}\nlosses = {losses}")


def classify(result="i @ c.T", i="F.normalize(images, dim=1)", c="F.normalize(classes, dim=1)", end=".argmax(1)"):
    return said("images classes", f"({result}){end}", f"i, c = {i}, {c}")


def recalled(result="hits.float().mean().item()", hits="(best == own).any(1)", best="s.topk(k, dim=1).indices"):
    return said("s k", result, f"own = torch.arange(len(s))[:, None]\nbest = {best}\nhits = {hits}")


LARGE = "x.exp() / x.exp().sum(1, keepdim=True)"

WRONG = [
    ("word_numbers", encode(words="s.replace(',', '').split()"), "capital letters kept"),
    ("word_numbers", encode(words="s.lower().split()"), "commas kept"),
    ("word_numbers", encode(words="s.split()"), "capital letters kept"),
    ("word_numbers", encode(words="s.lower().replace(',', '')"), "letters for words"),
    ("word_numbers", encode(words="dict.fromkeys(s.lower().replace(',', '').split())"), "words once"),
    ("word_numbers", encode(words="sorted(s.lower().replace(',', '').split())"), "words sorted"),
    ("word_numbers", encode(row="numbers.get(word, 0)"), "unknown word hidden"),
    ("word_numbers", encode(row="numbers.get(word, -1)"), "unknown word hidden"),
    ("word_numbers", encode(row="numbers.get(word)"), "unknown word hidden"),
    ("word_numbers", encode(row="numbers.get(word, len(numbers) + 1)"), "unknown word hidden"),
    ("word_numbers", encode(row="numbers.setdefault(word, len(numbers) + 1)"), "unknown word hidden"),
    (
        "word_numbers",
        encode(row="numbers.get(word, 0)", words="s.split()"),
        "capital letters kept + unknown word hidden",
    ),
    (
        "word_numbers",
        encode("row + [0] * (T - len(row))", "numbers[word] if word in numbers else 0"),
        "unknown word hidden",
    ),
    (
        "word_numbers",
        said("s n T", "(r + T * [0])[:T]", "r = [n[w] for w in s.lower().replace(',', '').split() if w in n]"),
        "unknown word left out",
    ),
    ("word_numbers", encode(row="word"), "words not looked up"),
    ("word_numbers", encode(row="list(numbers).index(word)"), "places for words"),
    ("word_numbers", encode(row="numbers[word] - 1"), "counted from 0"),
    ("word_numbers", encode(row="len(row) + 1"), "words counted"),
    ("word_numbers", encode("[0] * (T - len(row)) + row"), "zeros in front"),
    ("word_numbers", encode("row"), "not filled up"),
    ("word_numbers", encode("row + [0] * T"), "T zeros added"),
    ("word_numbers", encode("row + [-1] * (T - len(row))"), "filled with others"),
    ("word_numbers", encode("row + row[-1:] * (T - len(row))"), "filled with others"),
    ("word_numbers", encode("row + [0] * (T - len(row) - 1)"), "one too short"),
    ("word_numbers", encode("row + [0] * (T - len(row) + 1)"), "one too long"),
    ("word_numbers", encode("torch.tensor(row + [0.0] * (T - len(row)))"), "dtype"),
    ("word_numbers", encode("None"), "no return"),
    ("sentence_vector", said("x tokens", "x.mean(1)"), "all places counted"),
    ("sentence_vector", averaged("x.sum(1)"), "empty places in the sum"),
    ("sentence_vector", averaged(count="x.shape[1]"), "divided by T"),
    ("sentence_vector", averaged(result="(x * real).mean(1)"), "divided by T"),
    (
        "sentence_vector",
        averaged(result="(x * real).sum(1) / x.shape[1]", real="x > 0"),
        "mask of the vectors + divided by T",
    ),
    ("sentence_vector", averaged(real="x > 0"), "mask of the vectors"),
    ("sentence_vector", averaged(real="x.sum(2, keepdim=True) > 0"), "mask of the vectors"),
    ("sentence_vector", averaged(real="(tokens == 0).unsqueeze(2)"), "empty places kept"),
    ("sentence_vector", averaged(real="(tokens > 1).unsqueeze(2)"), "word 1 left out"),
    ("sentence_vector", averaged(real="(tokens[:1] > 0).unsqueeze(2)"), "one length for all"),
    ("sentence_vector", averaged(real="tokens.unsqueeze(2)"), "weighed by numbers"),
    (
        "sentence_vector",
        averaged(real="tokens.unsqueeze(2)", count="(tokens > 0).sum(1, keepdim=True)"),
        "weighed by numbers",
    ),
    ("sentence_vector", averaged(count="tokens.sum(1, keepdim=True)"), "weighed by numbers"),
    ("sentence_vector", averaged(count="1"), "sum for mean"),
    ("sentence_vector", averaged(count="len(x)"), "divided by the batch"),
    ("sentence_vector", averaged(count="real.sum()"), "divided by another's"),
    ("sentence_vector", averaged("(x * real).sum(0)", "1"), "summed over the batch + sum for mean"),
    ("sentence_vector", averaged("(x * real).sum(2)", "1"), "summed over D + sum for mean"),
    ("sentence_vector", averaged(real="(tokens > 0).unsqueeze(1)"), "RuntimeError"),
    ("sentence_vector", averaged(result="x.masked_fill(~real, -9e9).amax(1)"), "largest for mean"),
    ("sentence_vector", averaged(result="x[:, 0]"), "first word alone"),
    ("sentence_vector", averaged(result="x[:, -1]"), "last place"),
    ("sentence_vector", averaged("x.mul_(real).sum(1)"), "changed in place"),
    ("similarity", cosines("i @ t.T * temperature"), "multiplied by the temperature"),
    ("similarity", cosines("i @ t.T"), "temperature not used"),
    ("similarity", cosines("i @ t.T / 0.07"), "another temperature"),
    ("similarity", cosines("i @ t.T * math.exp(temperature)"), "exponential"),
    ("similarity", cosines("i @ t.T / math.exp(temperature)"), "exponential"),
    ("similarity", cosines("images @ texts.T / temperature"), "not normalised"),
    ("similarity", cosines("images @ texts.T"), "not normalised + temperature not used"),
    ("similarity", cosines(i="images"), "pictures not normalised"),
    ("similarity", cosines(t="texts"), "sentences not normalised"),
    ("similarity", cosines(i="F.normalize(images, dim=0)", t="F.normalize(texts, dim=0)"), "columns normed"),
    ("similarity", cosines(i="images / images.norm()", t="texts / texts.norm()"), "normed as a whole"),
    (
        "similarity",
        cosines(i="images / (images ** 2).sum(1, True)", t="texts / (texts ** 2).sum(1, True)"),
        "length squared",
    ),
    ("similarity", cosines("t @ i.T / temperature"), "axes exchanged"),
    ("similarity", cosines("F.cosine_similarity(images, texts) / temperature"), "own pairs alone"),
    ("similarity", cosines("i @ i.T / temperature"), "pictures with pictures"),
    ("similarity", cosines("i.T @ t / temperature"), "summed over the batch"),
    ("similarity", cosines("torch.cdist(i, t) / temperature"), "distances"),
    ("similarity", cosines("(i @ t.T / temperature).softmax(1)"), "softmax taken"),
    ("similarity", cosines(i="images / images.norm(dim=1)"), "RuntimeError"),
    ("similarity", cosines("i @ t / temperature"), "RuntimeError"),
    ("similarity", cosines(i="images.div_(images.norm(dim=1, keepdim=True))"), "changed in place"),
    ("clip_loss", clip("rows"), "pictures only"),
    ("clip_loss", clip(columns="each(logits)"), "pictures only"),
    ("clip_loss", clip("columns"), "sentences only"),
    ("clip_loss", clip("rows + columns"), "both summed"),
    ("clip_loss", clip("rows - columns"), "difference"),
    ("clip_loss", clip(each="F.cross_entropy(x, target, reduction='sum')"), "sum for mean"),
    ("clip_loss", clip(each="F.cross_entropy(x, target, reduction='none')"), "not one number"),
    ("clip_loss", clip(each="F.cross_entropy(x.softmax(1), target)"), "softmax twice"),
    ("clip_loss", clip(each="-x.softmax(1).diag().mean()"), "logarithm missing"),
    ("clip_loss", clip(each="-x.diag().mean()"), "softmax missing"),
    ("clip_loss", clip(each="-x.softmax(1).log().diag().mean()"), "exp overflows"),
    ("clip_loss", clip(each=f"-({LARGE}).log().diag().mean()"), "exp overflows"),
    ("clip_loss", clip(each="(x.exp().sum(1).log() - x.diag()).mean()"), "exp overflows"),
    ("clip_loss", clip(each="x.log_softmax(1).diag().mean()"), "sign"),
    ("clip_loss", clip(each="-F.logsigmoid(x).diag().mean()"), "sigmoid for softmax"),
    ("clip_loss", clip(each="-x.log_softmax(1).mean()"), "all pairs right"),
    ("clip_loss", clip(each="-(x.log_softmax(1) * torch.eye(len(x))).mean()"), "divided by all pairs"),
    ("clip_loss", clip(each="-x.flatten().log_softmax(0).view(x.shape).diag().mean()"), "softmax over all pairs"),
    ("clip_loss", clip(target="torch.zeros(len(logits), dtype=torch.long)"), "first one right"),
    ("clip_loss", clip("(rows + columns).item() / 2"), "no gradient"),
    ("clip_loss", clip("((rows + columns) / 2).detach()"), "no gradient"),
    ("clip_loss", clip("(rows + columns.detach()) / 2"), "gradient cut"),
    ("clip_loss", clip(each="F.mse_loss(x, torch.eye(len(x), dtype=x.dtype))"), None),
    ("clip_loss", clip(each="F.cross_entropy(x / 2, target)"), None),
    ("chance", (1 / 32, math.log(128)), "share for per cent"),
    ("chance", (3.125, math.log2(128)), "another base"),
    ("chance", (3.125, math.log10(128)), "another base"),
    ("chance", (3.125, math.log(32)), "captions for batch"),
    ("chance", (100 / 128, math.log(128)), "batch for captions"),
    ("chance", (100 / 128, math.log(32)), "batch for captions + captions for batch"),
    ("chance", (50, 4.85), "right or wrong"),
    ("chance", (3.125, 9.7), "both summed"),
    ("chance", (3.125, -4.85), "sign"),
    ("chance", (3.1, 0), "sure and right"),
    ("chance", (3.1, 1 / 128), "sure and right"),
    ("chance", (96.9, 4.85), "others counted"),
    ("chance", (10, 4.85), None),
    ("chance", 3.125, "wrong count"),
    ("siglip_loss", siglip(signs="1 - 2 * torch.eye(len(logits))"), "signs exchanged"),
    ("siglip_loss", siglip(losses="F.softplus(z)"), "signs exchanged"),
    ("siglip_loss", siglip(z="logits + bias"), "all signs +1"),
    ("siglip_loss", siglip(signs="-1"), "all signs -1"),
    ("siglip_loss", siglip(signs="torch.eye(len(logits))"), "zeros for signs"),
    ("siglip_loss", siglip(z="signs * logits"), "bias forgotten"),
    ("siglip_loss", siglip(z="signs * (logits - bias)"), "bias subtracted"),
    ("siglip_loss", siglip(z="signs * logits + bias"), "bias outside the sign"),
    ("siglip_loss", siglip(z="-signs * (logits + bias)"), "signs exchanged"),
    ("siglip_loss", siglip("losses.mean()"), "mean of all pairs"),
    ("siglip_loss", siglip("losses.sum()"), "sum of all pairs"),
    ("siglip_loss", siglip("losses.sum(1)"), "not one number"),
    ("siglip_loss", siglip("losses"), "not one number"),
    ("siglip_loss", siglip("losses.diag().mean()"), "own pairs only"),
    ("siglip_loss", siglip("losses.fill_diagonal_(0).sum(1).mean()"), "own pairs left out"),
    ("siglip_loss", siglip(losses="F.logsigmoid(z)"), "sign"),
    ("siglip_loss", siglip(losses="-z.sigmoid()"), "logarithm missing"),
    ("siglip_loss", siglip(losses="1 - z.sigmoid()"), "logarithm missing"),
    ("siglip_loss", siglip(losses="-z.sigmoid().log()"), "exp overflows"),
    ("siglip_loss", siglip(losses="(1 + (-z).exp()).log()"), "exp overflows"),
    ("siglip_loss", siglip("F.soft_margin_loss(logits + bias, signs, reduction='sum') / len(z)"), "exp overflows"),
    ("siglip_loss", siglip(losses="-z.log_softmax(1)"), "softmax for sigmoid"),
    ("siglip_loss", siglip("losses.mean()", z="signs * logits"), "bias forgotten + mean of all pairs"),
    ("siglip_loss", siglip("losses.sum(1).mean().item()"), "no gradient"),
    ("siglip_loss", siglip("F.cross_entropy(logits + bias, torch.arange(len(logits)))"), "input not used"),
    ("zero_shot", classify("images @ classes.T"), "dot products"),
    ("zero_shot", classify("i @ classes.T"), "dot products"),
    ("zero_shot", classify("-torch.cdist(images, classes)"), "distances"),
    ("zero_shot", classify(i="F.normalize(images, dim=0)", c="F.normalize(classes, dim=0)"), "columns normed"),
    ("zero_shot", classify(c="classes / (classes ** 2).sum(1, keepdim=True)"), "lengths squared"),
    ("zero_shot", classify(c="classes / classes.sum(1, keepdim=True)"), None),
    ("zero_shot", classify(c="F.normalize(classes, p=1, dim=1)"), "sum for length"),
    ("zero_shot", classify("(i @ c.T).abs()"), "signs lost"),
    ("zero_shot", classify(end=".argmin(1)"), "smallest cosine"),
    ("zero_shot", classify(end=".argmax(0)"), "a picture for each class"),
    ("zero_shot", classify(end=".amax(1)"), "cosines returned"),
    ("zero_shot", classify(end=""), "cosines returned"),
    ("zero_shot", classify(end=".softmax(1)"), "wrong shape"),
    ("zero_shot", classify(end=".argmax(1) + 1"), "counted from 1"),
    ("zero_shot", classify(end=".max(1)"), "not a tensor"),
    ("zero_shot", classify("F.cosine_similarity(images, classes)"), "RuntimeError"),
    ("zero_shot", classify(c="classes.div_(classes.norm(dim=1, keepdim=True))"), "changed in place"),
    ("recall", recalled(best="s.T.topk(k, dim=1).indices"), "columns for rows"),
    ("recall", recalled(best="s.topk(k, dim=0).indices.T"), "columns for rows"),
    ("recall", recalled(best="s.topk(k, dim=1, largest=False).indices"), "k smallest"),
    ("recall", recalled(best="s.argsort(1)[:, :k]"), "k smallest"),
    ("recall", recalled(best="s.argmax(1, keepdim=True)"), "first place alone"),
    ("recall", recalled(best="s.argsort(1, descending=True)[:, : k + 1]"), "one too many"),
    ("recall", recalled(best="s.argsort(1, descending=True)[:, : k - 1]"), "one too few"),
    ("recall", recalled(best="s.argsort(1, descending=True)[:, k - 1 : k]"), "place k alone"),
    ("recall", recalled(hits="(s > s.diag()[:, None]).sum(1) <= k"), "one too many"),
    ("recall", recalled("100 * hits.float().mean().item()"), "per cent"),
    ("recall", recalled("hits.sum().item()"), "hits counted"),
    ("recall", recalled("hits.sum().item() / k"), "divided by k"),
    ("recall", recalled("hits.float().mean().item() / k"), "divided by k"),
    ("recall", recalled(hits="best == own"), "divided by k"),
    ("recall", recalled("1 - hits.float().mean().item()"), "misses"),
    ("recall", recalled("hits.float()"), "not one number"),
    (
        "recall",
        recalled("float((s.fill_diagonal_(9.0) < 0).any()) * 0 + hits.float().mean().item()"),
        "changed in place",
    ),
    ("recall", recalled("hits.mean()"), "NotImplementedError"),
    *(("what_it_reads", letter, name) for letter, name in (("a", "order is all"), ("c", "order is nothing"))),
    ("what_it_reads", READS + "d", "not a choice"),
    ("what_it_reads", 2, "not a choice"),
    *(("negation", letter, name) for letter, name in (("a", "star counts twice"), ("b", "both alike"))),
    ("negation", NEGATES + "d", "not a choice"),
    ("negation", 0.51, "not a choice"),
]
