"""Planted mistakes in the exercises of notebook 15."""

from vit_tutorial import metrics
from vit_tutorial.check.dense import LAYER

from .without_labels import said


def mapped(result="x.mT.reshape(B, K, *grid)", tokens="tokens[:, 1:]", head="tokens @ weight.T + bias"):
    lines = f"tokens = {tokens}\nx = {head}\nB, N, K = x.shape\nrows, columns = grid"
    return said("tokens weight bias grid", result, lines)


def score(each="both / (p | m).sum()", p="(predicted == k) & (masks != 255)", m="masks == k", result="", before=""):
    """A loop over the classes, with these parts as written."""
    result = result or "torch.stack(scores)"
    body = f"    p, m = {p}, {m}\n    both = (p & m).sum()\n    scores.append({each})"
    return said("predicted masks K", result, f"{before}\nscores = []\nfor k in range(K):\n{body}")


def pictures(result):
    """The package's scores of each picture, `(n, K)`, and what is made of them."""
    each = "torch.stack([iou(confusion(p, m, K)) for p, m in zip(predicted, masks)])"
    function = said("predicted masks K iou confusion", result, f"each = {each}")
    return lambda predicted, masks, K: function(predicted, masks, K, metrics.iou, metrics.confusion)


TABLE = "t = pairs.bincount(minlength=K * K).view(K, K).float(); both = t.diag()"
UNION = "both / (t.sum(0) + t.sum(1) - both)"

SLICES = (
    "down, right = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]\n"
    "lines = torch.zeros(masks.shape, dtype=torch.bool)\n"
)
BELOW, ABOVE, ASIDE, BEFORE = (
    "lines[:, :-1] |= down\n",
    "lines[:, 1:] |= down\n",
    "lines[:, :, :-1] |= right\n",
    "lines[:, :, 1:] |= right\n",
)
ROLLED = "torch.stack([masks.roll(s, d) != masks for s in (1, -1) for d in ({}, {})]).any(0)"
ALL = SLICES + BELOW + ABOVE + ASIDE + BEFORE


def lined(result="lines", lines=ALL, before=""):
    return said("masks", result, before + lines)


def pooled(result, padding=1):
    lines = (
        "x = masks[:, None].float()\n"
        f"high, low = F.max_pool2d(x, 3, 1, {padding})[:, 0], -F.max_pool2d(-x, 3, 1, {padding})[:, 0]"
    )
    return said("masks", result, lines)


def crossed(kernel, result):
    """A convolution with a cross of weights."""
    lines = f"k = torch.tensor({kernel}).view(1, 1, 3, 3); x = F.conv2d(masks[:, None].float(), k, padding=1)[:, 0]"
    return said("masks", result, lines)


def moved(
    mask="mask[top : top + side, left : left + side]",
    mode="nearest",
    result="(image, mask)",
    image="image[:, top : top + side, left : left + side]",
    other="bilinear",
    kind="",
):
    lines = (
        f"size = image.shape[1:]; image = {image}; mask = {mask}.float()\n"
        f"image = F.interpolate(image[None], size=size, mode='{other}')[0]\n"
        f"mask = F.interpolate(mask[None, None], size=size, mode='{mode}')[0, 0]{kind}"
    )
    return said("image mask top left side", result, lines)


SWAPPED = "mask[left : left + side, top : top + side]"
NAMES = "rows and columns exchanged + mask blended"


def alike(result, lines="unit = F.normalize(features, dim=1)"):
    return said("features query", result, lines)


def coloured(
    result="(x - x.amin(0)) / (x.amax(0) - x.amin(0))",
    V="torch.linalg.svd(x, full_matrices=False).Vh[:3].T",
    before="x = features - features.mean(0)",
    project="x @ V",
):
    return said("features", result, f"{before}\nV = {V}\nx = {project}")


def boxed(result):
    lines = "y, x = mask.nonzero(as_tuple=True)\nl, t, r, b = x.min(), y.min(), x.max() + 1, y.max() + 1"
    return said("mask", f"torch.stack({result})", lines)


def matched(result="right", row="row.max() >= 0.5", overlap="both / (a + b - both)", clamp=".clamp(min=0)", **parts):
    """The package's way, with parts as written."""
    after = parts.get("after", "overlap[:, row.argmax()] = 0; right += 1")
    more, order = parts.get("more", ""), parts.get("order", "overlap")
    lines = (
        f"{parts.get('before', '')}\n"
        "low = torch.maximum(found[:, None, :2], truth[:, :2])\n"
        "high = torch.minimum(found[:, None, 2:], truth[:, 2:])\n"
        f"both = (high - low{more}){clamp}.prod(2)\n"
        f"a = (found[:, 2:] - found[:, :2]{more}).prod(1)[:, None]; b = (truth[:, 2:] - truth[:, :2]{more}).prod(1)\n"
        f"overlap = {overlap}\nright = 0\nfor row in {order}:\n    if len(row) and {row}: {after}"
    )
    return said("found truth", result, lines)


FIRST = "overlap[:, (row >= 0.5).int().argmax()] = 0; right += 1"
SIZES = "found, truth = (torch.cat([x[:, :2], x[:, :2] + x[:, 2:]], 1) for x in (found, truth))"


def blocking(found, truth):
    """The best true box, taken or not."""
    taken, overlap = set(), metrics.box_iou(found, truth)
    for row in overlap if len(truth) else ():
        if row.max() >= 0.5:
            taken.add(int(row.argmax()))
    return len(taken)


def best_pairs_first(found, truth):
    right, overlap = 0, metrics.box_iou(found, truth)
    while overlap.numel() and overlap.max() >= 0.5:
        i, j = divmod(int(overlap.argmax()), len(truth))
        overlap[i], overlap[:, j], right = 0, 0, right + 1
    return right


A, C = (letter for letter in "abc" if letter != LAYER)

WRONG = [
    ("patch_of_pixel", 14, "class token left out"),
    ("patch_of_pixel", 16, "patches counted from 1"),
    ("patch_of_pixel", 17, "rows for columns"),
    ("patch_of_pixel", 23, "row and column exchanged"),
    ("patch_of_pixel", 22, "row and column exchanged + class token left out"),
    ("patch_of_pixel", 27, "column by column"),
    ("patch_of_pixel", 21, "counted from 1"),
    ("patch_of_pixel", 20, "counted from 1 + class token left out"),
    ("patch_of_pixel", 834, "pixel counted"),
    ("patch_of_pixel", 833, "pixel counted + class token left out"),
    ("patch_of_pixel", 17.625, "not rounded down"),
    ("patch_of_pixel", 6, None),
    ("patch_of_pixel", "x", "not a number"),
    ("to_map", mapped(tokens="tokens[:, :-1]"), "last token dropped"),
    ("to_map", mapped(tokens="tokens"), "RuntimeError"),
    ("to_map", mapped(head="tokens @ weight + bias"), "weight not transposed"),
    ("to_map", mapped(head="tokens @ weight.T"), "bias missing"),
    ("to_map", mapped("x.reshape(B, K, rows, columns)"), "not transposed"),
    ("to_map", mapped("x.view(B, K, *grid)", head="tokens @ weight.T"), "bias missing + not transposed"),
    ("to_map", mapped("x.mT.reshape(B, K, columns, rows).mT"), "column by column"),
    ("to_map", mapped("x.reshape(B, columns, rows, K).permute(0, 3, 2, 1)"), "column by column"),
    ("to_map", mapped("x.mT.reshape(B, K, columns, rows)"), "grid exchanged"),
    ("to_map", mapped("x.reshape(B, rows, columns, K).permute(0, 3, 2, 1)"), "grid exchanged"),
    ("to_map", mapped("x.reshape(B, rows, columns, K).mT"), "axes swapped"),
    ("to_map", mapped("x.reshape(B, rows, columns, K)"), "classes last"),
    ("to_map", mapped("x.mT"), "not in the grid"),
    ("to_map", mapped("x"), "not in the grid"),
    ("to_map", mapped("x.mT.reshape(B, K, *grid).argmax(1)"), "class chosen"),
    ("to_map", mapped("x.mT.reshape(B, K, *grid).softmax(1)"), "probabilities"),
    ("to_map", mapped("x.mT.reshape(B, K, *grid)", head="tokens @ weight.T.mul_(2) + bias"), None),
    ("to_map", mapped("None"), "no return"),
    ("iou", score(p="predicted == k"), "255 counted"),
    ("iou", score("both / (p.sum() + m.sum() - both)", p="predicted == k"), "255 counted"),
    ("iou", score(p="predicted == k", before="masks = torch.where(masks == 255, 0, masks)"), "255 taken for class 0"),
    ("iou", score("both / (p.sum() + m.sum())"), "intersection counted twice"),
    ("iou", score("2 * both / (p.sum() + m.sum())"), "Dice"),
    ("iou", score("both / p.sum()"), "precision"),
    ("iou", score("both / m.sum()"), "recall"),
    ("iou", score("both / (masks != 255).sum()"), None),
    ("iou", score("both / (p | m).sum() if (p | m).any() else torch.tensor(0.0)"), "nan missing"),
    ("iou", score("(both + 1e-6) / ((p | m).sum() + 1e-6)"), "nan missing"),
    ("iou", score("both / ((p | m).sum() + 1e-6)"), "nan missing"),
    ("iou", score("both / (p | m).sum().clamp(min=1)", p="predicted == k"), "255 counted + nan missing"),
    ("iou", score("both / (p | m).sum() if m.any() else torch.tensor(torch.nan)"), "nan where predicted"),
    ("iou", score(result="torch.stack(scores).nanmean()"), "mean over the classes"),
    ("iou", score(result="torch.stack(scores).mean()"), "mean over the classes"),
    ("iou", score(result="torch.stack(scores)[1:]"), "ground left out"),
    ("iou", score("both"), "intersection alone"),
    (
        "iou",
        said("p m K", UNION, f"kept = m != 255; pairs = (m * K + p)[kept]\n{TABLE}"),
        "uint8 overflows",
    ),
    ("iou", pictures("each.nanmean(0)"), "mean over the pictures"),
    ("iou", pictures("each"), "one for each picture"),
    ("iou", pictures("(predicted == masks).float().mean()"), "wrong shape"),
    ("iou", score(before="masks[masks == 255] = 0"), "255 taken for class 0"),
    ("outline", lined(lines=SLICES + BELOW + ASIDE), "one side of a border"),
    ("outline", lined(lines=SLICES + ABOVE + BEFORE), "one side of a border"),
    ("outline", lined(lines=SLICES + ASIDE + BEFORE), "columns alone"),
    ("outline", lined(lines=SLICES + ABOVE + BELOW), "rows alone"),
    ("outline", pooled("high != low"), "diagonal neighbours"),
    ("outline", lambda masks: metrics.near_outline(masks), "diagonal neighbours"),
    ("outline", pooled("high != masks"), "diagonal neighbours + one side by number"),
    ("outline", lined(ROLLED.format(1, 2)), "round the edge"),
    ("outline", lined(ROLLED.format(0, 1)), "pictures mixed + round the edge"),
    ("outline", crossed("[0, 1., 0, 1, -4, 1, 0, 1, 0]", "x != 0"), "edge of the picture + differences cancel"),
    ("outline", lined("~lines"), "inside marked"),
    ("outline", lined("lines & (masks > 0)"), "one class's side"),
    ("outline", lined("lines & (masks == 0)"), "one class's side"),
    ("outline", lined("lines.float()"), "not True and False"),
    ("outline", lined("lines.to(torch.uint8)"), "not True and False"),
    ("outline", lined(before="masks = masks > 0\n"), "all objects alike"),
    ("outline", lined("lines.permute(1, 2, 0)", before="masks = masks.permute(2, 0, 1)\n"), "pictures mixed"),
    ("outline", lined("masks[:, 1:] != masks[:, :-1]"), "wrong shape"),
    ("outline", lined(before="masks += 1\n"), "changed in place"),
    ("moved_mask", moved(SWAPPED, "bilinear", kind=".to(torch.uint8)"), NAMES),
    ("moved_mask", moved(SWAPPED, "bilinear"), NAMES),
    ("moved_mask", moved(SWAPPED, kind=".to(torch.uint8)"), "rows and columns exchanged"),
    ("moved_mask", moved(SWAPPED), "rows and columns exchanged"),
    ("moved_mask", moved(mode="bilinear"), "mask blended"),
    ("moved_mask", moved(mode="bilinear", kind=".to(torch.uint8)"), "mask blended"),
    ("moved_mask", moved(mode="bilinear", kind=".round().to(torch.uint8)"), "mask blended"),
    ("moved_mask", moved(mode="bicubic"), "part 2 wrong"),
    (
        "moved_mask",
        moved(SWAPPED, image="image[:, left : left + side, top : top + side]"),
        "picture's crop exchanged + rows and columns exchanged",
    ),
    ("moved_mask", moved(image="image[:, left : left + side, top : top + side]"), "picture's crop exchanged"),
    ("moved_mask", moved(other="nearest"), "picture by nearest"),
    ("moved_mask", moved(result="(mask, image)"), "pair swapped"),
    ("moved_mask", moved(result="image"), None),
    ("moved_mask", moved(result="(image, mask[None])"), "wrong shape"),
    ("which_layer", A, "deeper is better"),
    ("which_layer", C, "shallow is better"),
    ("which_layer", "d", "not a choice"),
    ("which_layer", 2, "not a choice"),
    ("cosines", alike("features @ features[query]"), "dot products"),
    ("cosines", alike("features @ unit[query]"), "one length left in"),
    ("cosines", alike("unit @ features[query]"), "one length left in"),
    ("cosines", alike("(features - features[query]).norm(dim=1)"), "distances"),
    ("cosines", alike("-(features - features[query]).norm(dim=1)"), "distances"),
    ("cosines", alike("unit @ unit[query]", "unit = F.normalize(features, dim=0)"), "columns normed"),
    ("cosines", alike("F.cosine_similarity(features.T, features[query][:, None])"), "wrong shape"),
    ("cosines", alike("unit @ unit.T"), "all pairs"),
    ("cosines", alike("unit @ unit[query + 1]"), "another patch"),
    ("cosines", alike("unit @ unit[query - 1]"), "another patch"),
    ("cosines", alike("1 - unit @ unit[query]"), "one minus"),
    ("cosines", alike("(unit @ unit[query]).clamp(-1, 1).acos()"), "angles"),
    ("cosines", alike("(unit @ unit[query]).abs()"), "sign lost"),
    ("cosines", alike("(unit @ unit[query]).softmax(0)"), "softmax"),
    ("cosines", alike("(unit @ unit[query]).argsort(descending=True)"), "order for cosines"),
    ("cosines", alike("s", "u = F.normalize(features); s = u @ u[query]; s[query] = 0"), "query left out"),
    ("cosines", alike("s", "u = F.normalize(features); s = u @ u[query]; s[query] = -1"), "query left out"),
    ("cosines", alike("u @ u[query]", "u = F.normalize(features - features.mean(0))"), "centred"),
    ("cosines", alike("torch.corrcoef(features)[query]"), None),
    ("cosines", alike("features @ features[query]", "features /= features.norm(dim=1)[:, None]"), "changed in place"),
    ("cosines", lambda features: features, "wrong arguments"),
    ("colours", coloured(before="x = features"), "not centred"),
    ("colours", coloured(before="x = features - features.mean(1, keepdim=True)"), "centred over the width"),
    ("colours", coloured(before="x = (features - features.mean(0)) / features.std(0)"), "features standardised"),
    ("colours", coloured(before="x = F.normalize(features - features.mean(0))"), "lengths taken off"),
    ("colours", coloured(V="torch.linalg.eigh(x.T @ x).eigenvectors[:, :3]"), "smallest first"),
    ("colours", coloured(V="torch.linalg.eigh(x.T @ x).eigenvectors[:, -3:]"), "smallest first"),
    ("colours", coloured(V="torch.linalg.svd(x, full_matrices=False).Vh[1:4].T"), "first one left out"),
    ("colours", coloured(V="torch.eye(features.shape[1]).to(x)[:, :3]"), "no components"),
    ("colours", coloured(V="torch.linalg.svd(x, full_matrices=False).Vh.T"), "wrong shape"),
    ("colours", coloured("(x - x.min()) / (x.max() - x.min())"), "scaled as a whole"),
    ("colours", coloured("(x - x.amin(1, True)) / (x.amax(1, True) - x.amin(1, True))"), "scaled across the patch"),
    ("colours", coloured("x"), "not scaled"),
    ("colours", coloured("x.sigmoid()"), "sigmoid"),
    ("colours", coloured("(x - x.mean(0)) / x.std(0)"), "not from 0 to 1"),
    ("colours", coloured(project="V"), "directions"),
    ("colours", coloured(V="torch.linalg.svd(x, full_matrices=False).Vh[:, :3]"), None),
    ("colours", coloured(before="features -= features.mean(0); x = features"), "changed in place"),
    ("box_of", boxed("[l, t, r - 1, b - 1]"), "last pixel"),
    ("box_of", boxed("[l, t, r, b - 1]"), "last pixel"),
    ("box_of", boxed("[t, l, b, r]"), "rows first"),
    ("box_of", boxed("[t, l, b - 1, r - 1]"), "last pixel + rows first"),
    ("box_of", boxed("[l, t, r - l, b - t]"), "width and height"),
    ("box_of", boxed("[l, t, r - 1 - l, b - 1 - t]"), "last pixel + width and height"),
    ("box_of", boxed("[l, r, t, b]"), "another order"),
    ("box_of", boxed("[t, b, l, r]"), "another order"),
    ("box_of", boxed("[(l + r) / 2, (t + b) / 2, r - l, b - t]"), "centre"),
    ("box_of", boxed("[x[0], y[0], x[-1] + 1, y[-1] + 1]"), "first and last pixel"),
    ("box_of", boxed("[l - 1, t - 1, r, b]"), "another first pixel"),
    ("box_of", boxed("[l, t, r]"), "wrong shape"),
    ("box_of", lambda mask: "box", "not a tensor"),
    ("match", matched(row="row.max() > 0.5"), "more than 0.5"),
    ("match", matched(row="row.max() > 0"), "any overlap"),
    ("match", matched(after="right += 1"), "found twice"),
    ("match", matched("int((overlap >= 0.5).any(1).sum())", order="()"), "found twice"),
    ("match", matched("int((overlap >= 0.5).any(0).sum())", order="()"), "true boxes counted"),
    ("match", matched("int((overlap >= 0.5).sum())", order="()"), "pairs counted"),
    ("match", matched(overlap="both / (a + b)"), "intersection counted twice"),
    ("match", matched(overlap="both / a"), "over one box"),
    ("match", matched(overlap="both / b"), "over one box"),
    ("match", matched(overlap="both / torch.minimum(a, b)"), "over one box"),
    ("match", matched(clamp=""), "boxes apart overlap"),
    ("match", matched(more=" + 1"), "sides one longer"),
    ("match", matched(before=SIZES), "width and height"),
    ("match", matched(after=FIRST), "first that fits"),
    ("match", matched(order="overlap.clone()"), "found twice"),
    ("match", matched(before="found = found.flip(0)"), "least sure first"),
    ("match", blocking, "taken box blocks"),
    ("match", best_pairs_first, None),
    ("match", matched("right / max(1, len(found))"), "share"),
    ("match", matched("len(found) - right"), "misses counted"),
    ("match", matched("len(truth) - right"), "misses counted"),
    ("match", matched(row="row.max() >= 0.75"), None),
    ("match", matched("found[:right]"), "not a number"),
    ("match", matched("right + 0 * int(found.fill_(7).sum())"), "changed in place"),
]
