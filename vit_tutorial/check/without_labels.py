"""Checks of notebook 14, Learning without labels: masks and the way back, losses and targets, teacher, neighbours."""

import torch
import torch.nn.functional as F

from .reference import chosen, stated, whole, written
from .verdict import Wrong

__all__ = [
    "visible_tokens",
    "masking",
    "put_back",
    "hidden_loss",
    "normalised_patches",
    "harder_mask",
    "teacher_average",
    "centred_target",
    "find_collapse",
    "nearest_labels",
]


@stated(
    "Of 64 patches 16 go in, and the class token, which is never hidden.",
    "Count the patches, then those that are not hidden. Does anything go in besides?",
    together=2,
)
def visible_tokens(wrong):
    """How many tokens the encoder sees of 64 x 64 pixels, P 8, ratio 0.75, with a class token: 17."""
    N = wrong.choose(
        64,
        ("one row of patches", "That is the number of patches in one row. The image has as many rows.", 8),
        ("pixels counted", "Pixels do not go in one by one: a token is a patch of 8 x 8 of them.", 4096),
    )
    left = wrong.choose(
        N // 4,
        ("hidden ones counted", "The ratio says how many patches are hidden. The encoder sees the others.", N - N // 4),
        ("nothing hidden", "Hidden patches do not go in at all, not even as mask tokens.", N),
    )
    return left + wrong.choose(
        1,
        ("class token left out", "That counts patches alone, and one more token goes in.", 0),
        ("class token hidden", "The ratio is of the patches alone. The class token is never hidden.", 0.25),
    )


def orders(B, N):
    """A random order of N places for each of B pictures: `(B, N)`."""
    return torch.rand(B, N).argsort(dim=1)


def to_mask():
    yield torch.tensor([[0.7, 0.2, 0.9, 0.4], [0.3, 0.8, 0.1, 0.5]]), 2  # orders that are not their own inverse
    for B, N, K in ((1, 16, 4), (3, 9, 1), (2, 5, 4), (4, 4, 3), (3, 2, 1)):
        yield torch.randperm(B * N).view(B, N) / (B * N), K  # no two are equal
    yield torch.rand(12, 6).argsort(dim=0).T / 7 - 0.5, 5


def usable(answer):
    """Raise `Wrong` where what is right in number is no index, or no mask."""
    found = answer(torch.tensor([[0.7, 0.2, 0.9, 0.4]]), 2)
    parts = found if isinstance(found, (tuple, list)) else ()
    kinds = [part.dtype for part in parts if isinstance(part, torch.Tensor)]
    if any(kind.is_floating_point for kind in kinds[:2]):
        raise Wrong("keep and restore pick patches by number: they are whole numbers, as argsort gives.", "dtype")
    if kinds[2:] not in ([], [torch.bool]):
        raise Wrong(
            "hidden holds numbers, which an index takes for places: compare, restore >= K.", "not True and False"
        )


@written("Each picture has an order of its own, and restore leads back from it.", to_mask, also=(usable,))
def masking(wrong, noise, K):
    """A function `(noise (B, N), K) -> keep (B, K), restore (B, N), hidden (B, N)`; True where a patch is hidden."""
    B, N = noise.shape
    noise = wrong.choose(
        noise,
        ("largest noise first", "The patches with the largest noise go in; those with the smallest shall.", -noise),
        ("one order for all", "Each picture has an order of its own, that of its row.", noise[:1].expand(B, N)),
    )
    over = "This sorts over the pictures. Each picture's patches are to be sorted: dim=1."
    order = noise.argsort(dim=0 if wrong("sorted over the pictures", over) else 1)  # (B, N): place -> patch
    back = order.argsort(dim=0 if wrong("sorted over the pictures", over, place=1) else 1)  # patch -> place
    once = "Here restore is the order itself, from place to patch. The way back is its inverse: argsort once more."
    restore = order if wrong("argsort once", once) else back
    shuffled = "hidden marks places in the order. Mark patches: those whose place, restore, is K or more."
    hidden = wrong.choose(
        restore >= K,
        ("visible ones marked", "True stands for the patches that go in; it shall be for the others.", restore < K),
        ("hidden one off", "Places are counted from 0: a patch at place K is hidden already.", restore > K),
        ("hidden in the order", shuffled, (torch.arange(N) >= K).expand(B, N)),
        ("hidden from the order", "This compares patch numbers with K. Compare places, restore, with it.", order >= K),
        ("numbers for marks", "These are hidden patches' numbers; asked is a mark for each patch.", order[:, K:]),
    )
    restore = order if wrong("argsort once", once, place=1) else restore
    sorted_keep = "keep is sorted, and restore no longer fits it. Leave it in the order of the noise."
    keep = wrong.choose(
        order[:, :K],
        ("first patches kept", "These are patches 0 to K - 1; the noise says which.", torch.arange(K).expand(B, K)),
        ("largest noise first", "keep has the K with the largest noise.", (-noise).argsort(dim=1)[:, :K]),
        ("places for patches", "These are places in the order; keep holds numbers of patches.", back[:, :K]),
        *(("hidden ones kept", "keep has hidden patches; it holds those that go in.", order[:, x:]) for x in (K, -K)),
        ("keep sorted", sorted_keep, order[:, :K].sort(dim=1).values),
        ("noise for patches", "This is the noise; keep holds numbers of patches.", noise.sort(dim=1).values[:, :K]),
        ("pictures cut", "The first K *pictures* are cut here: order[:, :K] cuts patches.", order[:K]),
        ("all kept", "keep holds all N patches; only the first K of the order go in.", order),
    )
    swapped = "The three come in another order than keep, restore, hidden."
    return wrong.choose(
        (keep, restore, hidden),
        *(("parts swapped", swapped, parts) for parts in ((keep, hidden, restore), (restore, keep, hidden))),
        ("hidden not returned", "Three are asked for: keep, restore and hidden.", (keep, restore)),
    )


def shortened():
    x, token, grid = whole(1, 2, 2, low=1, high=5), torch.tensor([[[-1.0, -2.0]]]), torch.arange(10.0, 50.0, 10.0)
    yield x, token, torch.tensor([[2, 0, 3, 1]]), grid.view(1, 4, 1).expand(1, 4, 2)
    for B, K, N, D in ((3, 4, 16, 5), (2, 1, 6, 3), (1, 7, 8, 4), (4, 4, 9, 4)):
        yield torch.randn(B, K, D), torch.randn(1, 1, D), orders(B, N), torch.randn(1, N, D)
    yield torch.randn(4, 3, 5).mT, torch.randn(1, 1, 3), torch.rand(8, 4).argsort(dim=0).T, torch.randn(1, 3, 8).mT


@written("Every token is back at its own patch, and knows where that is.", shortened)
def put_back(wrong, x, mask_token, restore, places):
    """A function `(x (B, K, D), mask_token (1, 1, D), restore (B, N), places (1, N, D)) -> (B, N, D)`."""
    (B, K, D), N = x.shape, restore.shape[1]
    masks = mask_token.expand(B, N - K, D)
    masks = masks * 0 if wrong("zeros for mask tokens", "Hidden patches get zeros, not the mask token.") else masks
    front = "The mask tokens stand in front; restore counts on them behind the tokens that went in."
    x = torch.cat([masks, x] if wrong("mask tokens in front", front) else [x, masks], dim=1)
    early = "Places are added while the tokens are out of order, so that patches get each other's. Put them back first."
    late = wrong("places before the order", early)
    x = x + places if late or wrong("places twice", "Places are added before and after the way back.") else x
    there = "This goes the way there again: restore[b, n] says where patch n stands now. Gather, do not scatter."
    still = torch.arange(N).expand(B, N)
    way = wrong.choose(
        restore,
        ("the way there", there, restore.argsort(dim=1)),
        ("one order for all", "Each picture has its own way back, its row of restore.", restore[:1].expand(B, N)),
        ("not put back", "The tokens are still in the order of the noise: use restore.", still),
    )
    x, seen = x.gather(1, way[:, :, None].expand(B, N, D)), (restore < K)[:, :, None]
    some = "Only {} tokens get their places; all are at their patch now, and all get them."
    return x + wrong.choose(
        places * (not late),
        ("places missing", "Without places all mask tokens of a picture are the same: add them.", 0 * places),
        ("places for some", some.format("visible"), places * seen),
        ("places for some", some.format("mask"), places * ~seen),
    )


def predictions():
    hidden = torch.tensor([[True, False, True]])
    yield whole(1, 3, 2), whole(1, 3, 2) + torch.tensor([[[5.0], [7.0], [9.0]]]), hidden
    for B, N, M, K in ((2, 16, 12, 4), (1, 4, 3, 3), (3, 5, 4, 1), (4, 6, 1, 3)):
        yield torch.randn(B, N, M), 2 * torch.randn(B, N, M), orders(B, N) >= K  # K visible in each
    yield torch.randn(5, 4, 3).mT, torch.randn(3, 5, 4).transpose(0, 1), torch.rand(3, 5).argsort(dim=0).T > 0
    yield torch.randn(3, 7, 2), torch.randn(3, 7, 2), orders(3, 7) >= torch.tensor([[1], [3], [6]])  # 6, 4 and 1 hidden


def learns(answer):
    """Raise `Wrong` where no gradient reaches what was predicted."""
    with torch.enable_grad():
        loss = answer(torch.randn(2, 3, 4, requires_grad=True) * 1, torch.zeros(2, 3, 4), orders(2, 3) > 0)
    if not getattr(loss, "requires_grad", not isinstance(loss, float)):
        why = "A loss is there to be trained by, and no gradient reaches predicted: no item, detach, numpy or no_grad."
        raise Wrong(why, "no gradient")


@written("Only what was hidden counts, and each hidden patch counts the same.", predictions, also=(learns,))
def hidden_loss(wrong, predicted, targets, hidden):
    """A function `(predicted (B, N, M), targets (B, N, M), hidden (B, N)) -> scalar`: error of the hidden patches."""
    error = predicted - targets
    error = wrong.choose(
        error.square(),
        ("absolute error", "These are absolute differences; square them.", error.abs()),
        ("not squared", "Errors up and down cancel here: square the differences.", error),
    )
    pixels = "Each patch's squares are summed; take the mean over its M numbers."
    error = error.sum(dim=2) if wrong("sum over the pixels", pixels) else error.mean(dim=2)  # (B, N)
    seen = "The patches that the encoder saw count too. They are no riddle: only hidden ones shall count."
    counted = wrong.choose(
        hidden,
        ("visible patches", "This is the error of the visible patches: hidden is True where it counts.", ~hidden),
        ("all patches", seen, torch.ones_like(hidden)),
    )
    error = error * counted
    loss = error.sum() / wrong.choose(
        counted.sum(),
        ("divided by all patches", "Hidden patches are summed, but divided by all N of each picture.", hidden.numel()),
        ("divided by the pictures", "This divides by pictures; divide by hidden patches.", len(hidden)),
        ("sum over the patches", "The hidden patches are summed; take their mean.", 1),
        ("divided by one picture's", "Divide by the hidden patches of all pictures, not of one.", counted[0].sum()),
        ("all by one picture's", "Pictures may hide more or fewer than the first.", len(hidden) * counted[0].sum()),
    )
    means = error.sum(dim=1) / counted.sum(dim=1)  # (B,)
    alike = "This is the mean of the pictures' means. Where more patches are hidden, a picture counts more."
    each = "One number is asked for, the mean over all hidden patches; this is one for each {}."
    return wrong.choose(
        loss.sqrt() if wrong("root taken", "The mean *squared* error has no root.") else loss,
        ("mean of means", alike, means.mean()),
        ("not one number", each.format("picture"), means),
        ("not one number", each.format("hidden patch"), error[hidden]),
        ("not one number", each.format("patch"), error),
    )


def cut_up():
    yield torch.tensor([[[1.0, 1.0, 1.0, 5.0], [8.0, 8.0, 8.0, 0.0], [2.0, 2.0, 2.0, 2.0]]])  # spreads 2, 4 and 0
    for B, N, M in ((2, 4, 12), (1, 1, 3), (3, 2, 5), (1, 6, 2)):
        x = torch.randn(B, N, M) + torch.randn(B, N, 1)
        x[:, N // 2 + 1 :] = 0.5  # constant patches
        yield x
        yield 1e-3 * x  # beside whose variance 1e-6 is large
    yield torch.randn(3, 6, 4).mT


@written("A patch keeps its pattern; its brightness and its contrast are gone.", lambda: [(x,) for x in cut_up()])
def normalised_patches(wrong, patches):
    """A function `(patches (B, N, M)) -> (B, N, M)`: each patch less its mean, by the root of its variance + 1e-6."""
    own = "Each patch has a mean and a variance of its own, of its M numbers (dim=2); these are of {}."
    over = wrong.choose(
        2,
        ("normed over the picture", own.format("a whole picture"), (1, 2)),
        ("normed over the patches", own.format("one pixel in all patches (dim=1)"), 1),
        ("normed over the batch", own.format("one pixel in all pictures (dim=0)"), 0),
        ("normed over everything", own.format("everything, as without a dim"), (0, 1, 2)),
    )
    biased = "This variance divides by M; torch.var, as it stands, divides by M - 1."
    variance = patches.var(over, keepdim=True, correction=0 if wrong("divided by M", biased) else 1)
    kept = wrong("mean not subtracted", "The mean is still in: the brightness stays. Subtract it.")
    apart = patches if kept else patches - patches.mean(over, keepdim=True)
    eps = wrong.choose(
        1e-6,
        ("eps missing", "Without 1e-6 a patch of one colour is 0/0, nan.", 0.0),
        *(("another eps", "Here it is another number than 1e-6.", x) for x in (1e-5, 1e-8)),
    )
    outside = wrong("eps outside the root", "1e-6 stands outside the root; it belongs inside, added to the variance.")
    total = variance if outside else variance + eps
    root = total if wrong("root missing", "Divide by the *root* of variance + 1e-6.") else total.sqrt()
    still = wrong("not divided", "Nothing is divided by the root of the variance, so that the contrast stays.")
    return apart if still else apart / (root + eps if outside else root)


@chosen("b", "Half of the patches of a hidden half have no visible one beside them: edges alone do not lead there.")
def harder_mask():
    """Which half of the patches is hardest to fill in: "b", the right half."""
    return {
        "a": ("neighbours left", "Most hidden patches keep a visible one beside them. Compare the losses again."),
        "c": ("every neighbour left", "A chessboard leaves visible ones beside each hidden patch. Compare again."),
    }


def averages():
    yield torch.tensor([4.0, 8.0, -2.0]), torch.tensor([0.0, 4.0, 6.0]), 0.75
    for K, momentum in ((5, 0.9), (1, 0.3), (4, 0.0), (4, 1.0), (6, 0.99)):
        yield 3 * torch.randn(K), 3 * torch.randn(K), momentum
    yield *torch.randn(4, 2).T, 0.6


@written("The teacher follows slowly: an average of what the student was.", averages)
def teacher_average(wrong, teacher, student, momentum):
    """A function `(teacher (K,), student (K,), momentum) -> (K,)`: the next teacher."""
    if wrong("momentum exchanged", "The momentum is the *teacher's* share; here it is the student's."):
        teacher, student = student, teacher
    fixed = "momentum is not used; another number stands in its place."
    momentum = wrong.choose(momentum, *(("another momentum", fixed, x) for x in (0.5, 0.9, 0.99, 0.996)))
    new = 1 - momentum
    away = "The teacher moves away from the student. The way to the student is student - teacher."
    return wrong.choose(
        momentum * teacher + new * student,
        ("moved away", away, teacher + new * (teacher - student)),
        ("teacher not weakened", "The teacher counts in full; it has momentum.", teacher + new * student),
        ("student not weakened", "The student counts in full; it has 1 - momentum.", momentum * teacher + student),
        ("both by momentum", "Both take the share momentum; shares sum to 1.", momentum * (teacher + student)),
        ("student left out", "The student is left out: 1 - momentum of it is added.", momentum * teacher),
        ("teacher alone", "The teacher stays as it is and learns nothing.", teacher),
        ("student alone", "This is the student itself; the teacher keeps a share, momentum.", student),
    )


def answered():
    yield whole(2, 3), whole(3), 2.0, 0.75
    for B, K, temperature, momentum in ((4, 4, 0.2, 0.9), (5, 3, 0.5, 0.0), (1, 6, 0.3, 0.6), (3, 1, 0.1, 0.7)):
        yield 2 * torch.rand(B, K) - 1, torch.rand(K) - 0.5, temperature, momentum
    yield 2 * torch.rand(3, 5) - 1, torch.rand(5) - 0.5, 0.04, 1.0
    yield (2 * torch.rand(6, 4) - 1).T, torch.rand(6) - 0.5, 0.4, 0.8


@written("Centred, so that no prototype wins for all; sharpened, so that each picture has its own.", answered)
def centred_target(wrong, answers, centre, temperature, momentum):
    """A function `(answers (B, K), centre (K,), temperature, momentum) -> (target (B, K), new_centre (K,))`."""
    over = "The softmax is over the batch; each picture's K answers are to sum to 1 (dim=1)."
    over = 0 if wrong("softmax over the batch", over) else 1
    sharp = "Each number is multiplied by the temperature; a low one sharpens where it divides."
    after = "The centre is taken off the probabilities. Centre the answers, then sharpen, then softmax."
    unlike = "Only the answers are divided by the temperature. Subtract the centre first, then divide."

    def soft(centre):
        apart = wrong.choose(
            answers - centre,
            ("centre added", "The centre is added; subtract what all pictures share.", answers + centre),
            ("not centred", "The centre is not used: subtract it from the answers.", answers),
            ("batch mean subtracted", "The batch's own mean is subtracted, not centre.", answers - answers.mean(dim=0)),
        )
        x = wrong.choose(
            apart / temperature,
            ("multiplied by the temperature", sharp, apart * temperature),
            ("not sharpened", "The temperature is not used: divide by it.", apart),
            ("centre not divided", unlike, answers / temperature - centre),
            *(("another temperature", f"Divide by temperature, not by {x}.", apart / x) for x in (0.04, 0.1)),
        )
        return wrong.choose(
            x.softmax(dim=over),
            ("centred after the softmax", after, (answers / temperature).softmax(dim=over) - centre),
            ("no softmax", "The target is probabilities: a softmax is missing.", x),
            ("logarithms", "These are logarithms; the target is probabilities.", x.log_softmax(dim=over)),
        )

    target, what = soft(centre), "The centre is a mean of the *answers*, as they come; this is a mean of {}."
    mean = wrong.choose(
        answers,
        ("mean of the probabilities", what.format("what the softmax gives"), target),
        ("mean of the centred", what.format("answers less the centre"), answers - centre),
    )
    wide = "There is a mean for each prototype, over the batch (dim=0); this is {}."
    mean = wrong.choose(
        mean.mean(dim=0),
        ("mean over the prototypes", wide.format("one for each picture (dim=1)"), mean.mean(dim=1)),
        ("mean over everything", wide.format("one for all"), mean.mean()),
        ("sum over the batch", "The batch is summed; take its mean.", mean.sum(dim=0)),
    )
    swapped = "The momentum is the *old* centre's share; here it is the new mean's."
    old = 1 - momentum if wrong("momentum exchanged", swapped) else momentum
    new_centre = wrong.choose(
        old * centre + (1 - old) * mean,
        ("old centre not weakened", "The old centre counts in full; it has momentum.", centre + (1 - old) * mean),
        ("mean not weakened", "The batch's mean counts in full; multiply it by 1 - momentum.", old * centre + mean),
        ("centre replaced", "The new centre is the batch's mean alone; the old one keeps a share, momentum.", mean),
        ("centre not moved", "The centre comes back as it was; move it towards the mean of the answers.", centre),
    )
    early = "The new centre is used for this batch already; subtract the old one."
    target = soft(new_centre) if wrong("new centre at once", early) else target
    return wrong.choose(
        (target, new_centre),
        ("pair swapped", "The new centre comes first here; the target shall.", (new_centre, target)),
        ("new centre not returned", "Two are asked for: the target and the new centre.", target),
    )


@chosen("ca", "Without centring both entropies fall to 0, without sharpening both rise to ln K; in B they part.")
def find_collapse():
    """Which run has no centring, which no sharpening, of A (both at ln K), B (healthy), C (both at 0): "CA"."""
    why = "In B the two curves part: surer of each picture than all answers together are. Nothing is missing there."
    exchanged = "Centring keeps one prototype from winning for all, sharpening keeps the answers from being even."
    return {
        "ac": ("exchanged", f"{exchanged} Which entropies belong to one winner, which to even answers?"),
        **dict.fromkeys(("ab", "ba", "bc", "cb"), ("healthy run named", why)),
    }


def shown_before():
    """Features, labels, queries, k and the number of classes; of the features no two are as near to a query."""
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 5.0], [-2.0, 2.0]])
    yield features, torch.tensor([0, 2, 1, 0]), torch.tensor([[2.0, 1.0], [-1.0, 4.0]]), 3, 3
    for M, D, Q, k, C in ((9, 4, 24, 2, 3), (12, 3, 16, 4, 2), (6, 5, 1, 1, 4), (6, 4, 4, 5, 3), (20, 8, 6, 10, 12)):
        gap = 0.0
        while gap < 1e-4:
            features, queries = (torch.randn(n, D) * 4 ** torch.randn(n, 1) for n in (M, Q))
            near = F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T
            gap = near.sort(dim=1).values.diff(dim=1).min()
        yield features, torch.randint(C, (M,)), queries, k, C
    yield features, torch.randint(C, (M,)), queries.T.contiguous().T, 6, C


@written("Each query takes the class that most of its neighbours have; direction alone makes neighbours.", shown_before)
def nearest_labels(wrong, features, labels, queries, k, num_classes):
    """A function `(features (M, D), labels (M,), queries (Q, D), k, num_classes) -> (Q,)`: labels by k neighbours."""
    lengths = "This is {}, in which lengths count. The cosine divides by both lengths."
    columns = "This gives each *column* length 1; each picture's features shall have it: dim=1."
    near = wrong.choose(
        F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T,  # (Q, M)
        ("distances", lengths.format("the distance"), -torch.cdist(queries, features)),
        ("dot products", lengths.format("the dot product"), queries @ features.T),
        ("columns normed", columns, F.normalize(queries, dim=0) @ F.normalize(features, dim=0).T),
    )
    far = wrong("farthest", "These are the k farthest: the largest cosine is the nearest.")
    order = near.argsort(dim=1, descending=not far)  # (Q, M)
    itself = "The nearest is left out, as if it were the query itself. Queries are not among the features."
    nearest = wrong.choose(
        order[:, :k],
        ("one neighbour", "The nearest alone decides; k of them vote.", order[:, :1]),
        ("all vote", "All features vote; only the k nearest shall.", order),
        ("one too many", "k + 1 features vote.", order[:, : k + 1]),
        *(("nearest left out", itself, order[:, 1:end]) for end in (k + 1, k)),
    )
    named = labels[nearest]  # (Q, k)
    votes = F.one_hot(named, num_classes).sum(dim=1)  # (Q, C)
    weighted = (near.gather(1, nearest)[:, :, None] * F.one_hot(named, num_classes)).sum(dim=1)
    tied, average = "Of classes with as many votes the smallest wins.", "Class 1 is no mean of 0 and 2: count votes."
    mean = named.double().mean(dim=1)
    first = (votes.gather(1, named) == votes.max(dim=1, keepdim=True).values).int().argmax(dim=1, keepdim=True)
    return wrong.choose(
        votes.argmax(dim=1),
        ("tie to the larger", tied, num_classes - 1 - votes.flip(1).argmax(dim=1)),
        ("tie to the nearest", tied, named.gather(1, first)[:, 0]),
        ("votes weighted", "Nearer ones count more; each of the k has one vote.", weighted.argmax(dim=1)),
        *(("labels averaged", average, x) for x in (mean, mean.round(), mean.floor())),
        ("middle label", "The middle label is not the most frequent: count votes.", named.median(1).values),
        ("numbers of features", "These are numbers of features; look up their labels.", nearest[:, 0]),
        ("votes returned", "These are the votes of each class; argmax says which has most.", votes),
        ("votes returned", "This is how many votes the winner has; argmax says which it is.", votes.amax(dim=1)),
    )
