"""Planted mistakes in the exercises of notebook 14."""

import torch
import torch.nn.functional as F


def said(names, result, lines=""):
    """A function of these inputs whose lines and result are written as text."""

    def function(*inputs):
        space = {"torch": torch, "F": F, **dict(zip(names.split(), inputs, strict=True))}
        exec(lines, space)
        return eval(result, space)

    return function


def masked(order="noise.argsort(1)", restore="order.argsort(1)", hidden="restore >= K", keep="order[:, :K]", result=""):
    lines = f"B, N = noise.shape\norder = {order}\nrestore = {restore}\nhidden = {hidden}\nkeep = {keep}"
    return said("noise K", result or "(keep, restore, hidden)", lines)


def official(index):
    """The mask of the paper's code, with an index as written."""
    lines = "mask = torch.ones(noise.shape); mask[:, :K] = 0; order = noise.argsort(1); restore = order.argsort(1)"
    return said("noise K", f"(order[:, :K], restore, {index})", lines)


def back(lines="", result="t.gather(1, way) + places", masks="mask_token.expand(B, N - K, D)", tokens="[x, masks]"):
    start = f"(B, K, D), N = x.shape, restore.shape[1]; masks = {masks}; t = torch.cat({tokens}, 1)"
    way = "way = restore[:, :, None].expand(B, N, D)"
    return said("x mask_token restore places", result, f"{start}\n{way}\n{lines}")


def loss(result, lines="error = (predicted - targets).square().mean(2)"):
    return said("predicted targets hidden", result, lines)


def normed(divisor="(variance + 1e-6).sqrt()", top="patches - mean", dim="2", correction=1):
    lines = f"variance, mean = torch.var_mean(patches, dim={dim}, keepdim=True, correction={correction})"
    return said("patches", f"({top}) / {divisor}", lines)


def average(result, lines=""):
    return said("teacher student momentum", result, lines)


def target(
    result="((answers - centre) / temperature).softmax(1)",
    mean="answers.mean(0)",
    new="momentum * centre + (1 - momentum) * mean",
    both="(target, new)",
    first="",
):
    lines = f"mean = {mean}\nnew = {new}\ntarget = {result}\n"
    return said("answers centre temperature momentum", both, first + lines)


def voted(
    near="F.normalize(queries) @ F.normalize(features).T",
    best="near.topk(k).indices",
    result="F.one_hot(labels[best], C).sum(1).argmax(1)",
):
    return said("features labels queries k C", result, f"near = {near}\nbest = {best}\nnamed = labels[best]")


def most_common(features, labels, queries, k, num_classes):
    best = voted(result="best")(features, labels, queries, k, num_classes)
    rows = [labels[row].tolist() for row in best]
    return torch.tensor([max(dict.fromkeys(row), key=row.count) for row in rows])


FLOAT = "error = (predicted - targets).square().mean(2) * hidden.float()"

WRONG = [
    ("visible_tokens", 16, "class token left out"),
    ("visible_tokens", 49, "hidden ones counted"),
    ("visible_tokens", 48, "hidden ones counted + class token left out"),
    ("visible_tokens", 65, "nothing hidden"),
    ("visible_tokens", 64, "nothing hidden + class token left out"),
    ("visible_tokens", 16.25, "class token hidden"),
    ("visible_tokens", 3, "one row of patches"),
    ("visible_tokens", 1025, "pixels counted"),
    ("visible_tokens", 12, None),
    ("visible_tokens", "x", "not a number"),
    ("masking", masked(restore="order"), "argsort once"),
    ("masking", masked(restore="noise.argsort(1)", hidden="order.argsort(1) >= K"), "argsort once"),
    ("masking", masked("noise.argsort(1, descending=True)"), "largest noise first"),
    ("masking", masked("(-noise).argsort()", "order"), "largest noise first + argsort once"),
    ("masking", masked("noise.argsort(0)", "order.argsort(0)"), "sorted over the pictures"),
    ("masking", masked("noise[0].argsort().expand(B, N)"), "one order for all"),
    ("masking", masked(hidden="(torch.arange(N) >= K).expand(B, N)"), "hidden in the order"),
    ("masking", official("mask.bool()"), "hidden in the order"),
    ("masking", official("mask.gather(1, order).bool()"), "hidden from the order"),
    ("masking", official("mask.gather(1, restore)"), "not True and False"),
    ("masking", masked(hidden="(restore >= K).long()"), "not True and False"),
    ("masking", masked(hidden="order >= K"), "hidden from the order"),
    ("masking", masked(hidden="restore < K"), "visible ones marked"),
    ("masking", masked(hidden="restore > K"), "hidden one off"),
    ("masking", masked(hidden="order[:, K:]"), "numbers for marks"),
    ("masking", masked(keep="torch.arange(K).expand(B, K)"), "first patches kept"),
    ("masking", masked(keep="restore[:, :K]"), "places for patches"),
    ("masking", masked(keep="order[:, K:]"), "hidden ones kept"),
    ("masking", masked(keep="order[:, -K:]"), "hidden ones kept"),
    ("masking", masked(keep="noise.topk(K).indices"), "largest noise first"),
    ("masking", masked(keep="order[:, :K].sort(1).values"), "keep sorted"),
    ("masking", masked(keep="(~hidden).nonzero()[:, 1].view(B, K)"), "keep sorted"),
    ("masking", masked(keep="noise.sort(1).values[:, :K]"), "noise for patches"),
    ("masking", masked(keep="order[:K]"), "pictures cut"),
    ("masking", masked(keep="order"), "all kept"),
    ("masking", masked(keep="order[:, :K].float()"), "dtype"),
    ("masking", masked(result="(keep, hidden, restore)"), "parts swapped"),
    ("masking", masked(result="(restore, keep, hidden)"), "parts swapped"),
    ("masking", masked(result="(keep, restore)"), "hidden not returned"),
    ("masking", masked(result="None"), "no return"),
    ("put_back", back("t = t + places", "t.gather(1, way)"), "places before the order"),
    ("put_back", back("t = t + places", "t.scatter(1, way, t)"), "places before the order + the way there"),
    ("put_back", back(result="t.scatter(1, way, t) + places"), "the way there"),
    ("put_back", back("way = restore.argsort(1)[..., None].expand(B, N, D)"), "the way there"),
    ("put_back", back("t = t + places"), "places twice"),
    ("put_back", back(result="t + places"), "not put back"),
    ("put_back", back(result="t.gather(1, way)"), "places missing"),
    ("put_back", back(tokens="[masks, x]"), "mask tokens in front"),
    ("put_back", back(masks="x.new_zeros(B, N - K, D)"), "zeros for mask tokens"),
    ("put_back", back(result="t[:, restore[0]] + places"), "one order for all"),
    ("put_back", back(result="t.gather(1, way) + places * (way < K)"), "places for some"),
    ("put_back", back(result="t.gather(1, way) + places * (way >= K)"), "places for some"),
    ("put_back", back(result="t.gather(1, restore) + places"), "RuntimeError"),
    ("put_back", back(result="t.gather(1, way)[:, :K]"), "wrong shape"),
    ("put_back", back(result="(t.gather(1, way) + places).flatten(0, 1)"), "wrong shape"),
    ("put_back", back("x += 1; x -= 1; x.mul_(2)"), "changed in place"),
    ("put_back", lambda x, mask_token, restore: x, "wrong arguments"),
    ("hidden_loss", loss("error.mean()"), "all patches"),
    ("hidden_loss", loss("F.mse_loss(predicted, targets)"), "all patches"),
    ("hidden_loss", loss("error[~hidden].mean()"), "visible patches"),
    ("hidden_loss", loss("error.mean()", FLOAT), "divided by all patches"),
    ("hidden_loss", loss("error.sum() / len(hidden)", FLOAT), "divided by the pictures"),
    ("hidden_loss", loss("error[hidden].sum()"), "sum over the patches"),
    ("hidden_loss", loss("error.sum() / hidden[0].sum()", FLOAT), "divided by one picture's"),
    ("hidden_loss", loss("F.l1_loss(predicted[hidden], targets[hidden])"), "absolute error"),
    ("hidden_loss", loss("(predicted - targets)[hidden].mean()"), "not squared"),
    ("hidden_loss", loss("F.mse_loss(predicted[hidden], targets[hidden]).sqrt()"), "root taken"),
    ("hidden_loss", loss("(predicted - targets)[hidden].square().sum(1).mean()"), "sum over the pixels"),
    (
        "hidden_loss",
        loss("(predicted - targets)[hidden].square().sum()"),
        "sum over the pixels + sum over the patches",
    ),
    ("hidden_loss", loss("(error.sum(1) / hidden.sum(1)).mean()", FLOAT), "mean of means"),
    ("hidden_loss", loss("error.sum() / (len(hidden) * hidden[0].sum())", FLOAT), "all by one picture's"),
    ("hidden_loss", loss("error[hidden]"), "not one number"),
    ("hidden_loss", loss("error.sum(1) / hidden.sum(1)", FLOAT), "not one number"),
    ("hidden_loss", loss("error", FLOAT), "not one number"),
    ("hidden_loss", loss("error[hidden].mean().item()"), "no gradient"),
    ("hidden_loss", loss("error[hidden].mean().detach()"), "no gradient"),
    ("hidden_loss", loss("predicted.sub_(targets)[hidden].square().mean()"), "changed in place"),
    ("normalised_patches", normed(correction=0), "divided by M"),
    ("normalised_patches", lambda x: F.layer_norm(x, x.shape[2:], eps=1e-6), "divided by M"),
    ("normalised_patches", normed("(variance.sqrt() + 1e-6)"), "eps outside the root"),
    ("normalised_patches", normed("variance.sqrt()"), "eps missing"),
    ("normalised_patches", normed("(variance + 1e-5).sqrt()"), "another eps"),
    ("normalised_patches", normed("(variance + 1e-6)"), "root missing"),
    ("normalised_patches", normed(top="patches"), "mean not subtracted"),
    ("normalised_patches", normed("1"), "not divided"),
    ("normalised_patches", normed(dim="(1, 2)"), "normed over the picture"),
    ("normalised_patches", normed(dim="1"), "normed over the patches"),
    ("normalised_patches", normed(dim="0"), "normed over the batch"),
    ("normalised_patches", normed(dim="(0, 1, 2)"), "normed over everything"),
    ("normalised_patches", said("x", "(x - x.mean(2)) / x.std(2)"), "RuntimeError"),
    (
        "normalised_patches",
        said("x", "x", "x -= x.mean(2, True); x /= (x.var(2, keepdim=True) + 1e-6).sqrt()"),
        "changed in place",
    ),
    ("normalised_patches", lambda x: x, "mean not subtracted + not divided"),
    ("harder_mask", "a", "neighbours left"),
    ("harder_mask", "c", "every neighbour left"),
    ("harder_mask", "d", "not a choice"),
    ("harder_mask", 2, "not a choice"),
    ("teacher_average", average("momentum * student + (1 - momentum) * teacher"), "momentum exchanged"),
    ("teacher_average", average("teacher.lerp(student, momentum)"), "momentum exchanged"),
    ("teacher_average", average("(teacher + student) / 2"), "another momentum"),
    ("teacher_average", average("0.99 * teacher + 0.01 * student"), "another momentum"),
    ("teacher_average", average("teacher + (1 - momentum) * (teacher - student)"), "moved away"),
    ("teacher_average", average("teacher + (1 - momentum) * student"), "teacher not weakened"),
    ("teacher_average", average("momentum * teacher + student"), "student not weakened"),
    ("teacher_average", average("momentum * (teacher + student)"), "both by momentum"),
    ("teacher_average", average("momentum * teacher"), "student left out"),
    ("teacher_average", average("student"), "student alone"),
    ("teacher_average", average("teacher * 1"), "teacher alone"),
    ("teacher_average", average("teacher.mul_(momentum).add_((1 - momentum) * student)"), "changed in place"),
    ("teacher_average", average("student.lerp_(teacher, momentum)"), "changed in place"),
    ("teacher_average", average("None", "teacher.lerp_(student, 1 - momentum)"), "no return"),
    ("centred_target", target("((answers + centre) / temperature).softmax(1)"), "centre added"),
    ("centred_target", target("(answers / temperature).softmax(1)"), "not centred"),
    ("centred_target", target("(answers / temperature).softmax(1) - centre"), "centred after the softmax"),
    ("centred_target", target("((answers - answers.mean(0)) / temperature).softmax(1)"), "batch mean subtracted"),
    ("centred_target", target("((answers - centre) * temperature).softmax(1)"), "multiplied by the temperature"),
    ("centred_target", target("(answers - centre).softmax(1)"), "not sharpened"),
    ("centred_target", target("(answers / temperature - centre).softmax(1)"), "centre not divided"),
    ("centred_target", target("((answers - centre) / 0.04).softmax(1)"), "another temperature"),
    ("centred_target", target("((answers - centre) / temperature).softmax(0)"), "softmax over the batch"),
    ("centred_target", target("((answers - centre) / temperature).log_softmax(1)"), "logarithms"),
    ("centred_target", target("(answers - centre) / temperature"), "no softmax"),
    ("centred_target", target("((answers - new) / temperature).softmax(1)"), "new centre at once"),
    (
        "centred_target",
        target(mean="((answers - centre) / temperature).softmax(1).mean(0)"),
        "mean of the probabilities",
    ),
    ("centred_target", target(mean="(answers - centre).mean(0)"), "mean of the centred"),
    ("centred_target", target(mean="answers.mean()"), "mean over everything"),
    ("centred_target", target(mean="answers.sum(0)"), "sum over the batch"),
    ("centred_target", target(mean="answers.mean(1)"), "mean over the prototypes"),
    ("centred_target", target(new="(1 - momentum) * centre + momentum * mean"), "momentum exchanged"),
    ("centred_target", target(new="centre.lerp(mean, momentum)"), "momentum exchanged"),
    ("centred_target", target(new="centre + (1 - momentum) * mean"), "old centre not weakened"),
    ("centred_target", target(new="momentum * centre + mean"), "mean not weakened"),
    ("centred_target", target(new="mean"), "centre replaced"),
    ("centred_target", target(new="centre.clone()"), "centre not moved"),
    ("centred_target", target(both="(new, target)"), "pair swapped"),
    ("centred_target", target(both="target"), "new centre not returned"),
    (
        "centred_target",
        target("((answers + centre) / temperature).softmax(1)", new="mean"),
        "centre added + centre replaced",
    ),
    ("centred_target", target(new="centre.mul_(momentum).add_((1 - momentum) * mean)"), "new centre at once"),
    ("centred_target", target(both="(target, centre.copy_(new))"), "changed in place"),
    ("find_collapse", "AC", "exchanged"),
    ("find_collapse", "BC", "healthy run named"),
    ("find_collapse", ("A", "C"), "exchanged"),
    ("find_collapse", "ab", "healthy run named"),
    ("find_collapse", "C", "not a choice"),
    ("find_collapse", 7, "not a choice"),
    ("nearest_labels", voted("-torch.cdist(queries, features)"), "distances"),
    ("nearest_labels", voted("queries @ features.T"), "dot products"),
    ("nearest_labels", voted("F.normalize(queries, dim=0) @ F.normalize(features, dim=0).T"), "columns normed"),
    ("nearest_labels", voted(best="near.topk(k, largest=False).indices"), "farthest"),
    ("nearest_labels", voted(best="near.argsort(1)[:, :k]"), "farthest"),
    ("nearest_labels", voted(best="near.argmax(1, keepdim=True)"), "one neighbour"),
    ("nearest_labels", voted(result="labels[near.argmax(1)]"), "one neighbour"),
    ("nearest_labels", voted(best="near.argsort(1)"), "all vote"),
    ("nearest_labels", voted(best="near.argsort(1, descending=True)[:, : k + 1]"), "one too many"),
    ("nearest_labels", voted(best="near.argsort(1, descending=True)[:, 1 : k + 1]"), "nearest left out"),
    ("nearest_labels", voted(result="C - 1 - F.one_hot(named, C).sum(1).flip(1).argmax(1)"), "tie to the larger"),
    ("nearest_labels", most_common, "tie to the nearest"),
    (
        "nearest_labels",
        voted(result="(near.topk(k).values[..., None] * F.one_hot(named, C)).sum(1).argmax(1)"),
        "votes weighted",
    ),
    ("nearest_labels", voted(result="named.float().mean(1).round().long()"), "labels averaged"),
    ("nearest_labels", voted(result="named.float().mean(1).long()"), "labels averaged"),
    ("nearest_labels", voted(result="named.median(1).values"), "middle label"),
    ("nearest_labels", voted(result="best[:, 0]"), "numbers of features"),
    ("nearest_labels", voted(result="F.one_hot(named, C).sum(1)"), "votes returned"),
    ("nearest_labels", voted(result="F.one_hot(named, C).sum(1).max(1).values"), "votes returned"),
    ("nearest_labels", voted(result="named"), "wrong shape"),
    ("nearest_labels", voted(best="near.topk(3).indices"), "input not used"),
    ("nearest_labels", voted(result="None"), "no return"),
]
