"""Checks of notebook 01: cutting images into patches, projecting them, and what patches cost."""

import torch
import torch.nn.functional as F

from .reference import stated, whole, written
from .verdict import Wrong, exercise, number

__all__ = ["patch_count", "cut_patches", "project", "to_tokens", "patch_budget", "overlapping_patches"]

COLUMNS_FIRST = "They run down the columns of the grid. Count as you read, row by row."
GRID_KEPT = "The numbers are in order, but rows and columns of the grid are still two axes. Join them to N."
FIRST_ONLY = "Only the first image was used; the answer is for every image of the batch."
BATCH_LOST = "The batch axis is gone. It stays, also for one image."


def ordered(wrong, grid):
    """Patches `(B, rows, columns, C, P, P)` with the mistakes of their order."""
    if wrong("column by column", COLUMNS_FIRST):
        grid = grid.transpose(1, 2)
    if wrong("pixels transposed", "Each is mirrored at its diagonal: its rows and columns of pixels are swapped."):
        grid = grid.mT
    last = "The pixels of a patch come first, its channels last. Each patch is (C, P, P), channel by channel."
    return grid.movedim(3, 5) if wrong("channels last", last) else grid


@stated(
    "77 patches of 1,200 numbers: the image's 92,400 numbers, none lost and none twice.",
    "Expected how many patches there are, from the rows and columns of patches, and how many numbers one patch holds.",
)
def patch_count(wrong):
    """`(patches, numbers in a patch)` of an image of 3 x 140 x 220 with P = 20: `(77, 1200)`."""
    one = "This is one side of the grid only: multiply rows of patches by columns of patches."
    count = wrong.choose(
        77,
        ("sum", "You added rows and columns of patches; each row has all the columns, so multiply.", 7 + 11),
        ("one side only", one, 7),
        ("one side only", one, 11),
        ("pixels", "The first number counts pixels; a patch has 20 x 20 of them.", 140 * 220),
        ("one side divided", "You divided by P once; both sides are divided, so by P x P.", 140 * 220 // 20),
        ("channels counted", "A patch holds all three channels; they do not make three patches.", 3 * 77),
        ("class token", "The first number counts the class token; the question is about patches.", 78),
    )
    length = wrong.choose(
        1200,
        ("channels forgotten", "The second number counts the pixels of a patch; each has 3 numbers.", 20 * 20),
        ("channels added", "Each pixel has 3 numbers: multiply by the channels.", 20 * 20 + 3),
        ("one row", "The second number is for one row of pixels; a patch has 20 of them.", 3 * 20),
        ("side", "The second number is the side of a patch; count all pixels and all channels.", 20),
        ("image", "The second number counts the numbers in the whole image.", 3 * 140 * 220),
    )
    swapped = wrong("swapped", "The two are swapped: first how many patches, then how many numbers in one.")
    return (length, count) if swapped else (count, length)


def images_to_cut():
    yield torch.arange(16.0).reshape(1, 1, 4, 4), 2
    yield torch.arange(16.0).reshape(1, 2, 2, 4), 2
    for shape, P in (((2, 3, 8, 12), 4), ((3, 2, 6, 4), 2), ((1, 1, 9, 3), 3), ((1, 3, 4, 4), 4), ((2, 3, 2, 3), 1)):
        yield torch.randn(shape), P


@written("Row by row, each patch a small picture; flattened, they are what patchify gives.", images_to_cut)
def cut_patches(wrong, images, patch_size):
    """A function `(images, patch_size) -> (B, N, C, P, P)`: the patches as small pictures, row by row."""
    (B, C, Y, X), P = images.shape, patch_size
    rows, columns = Y // P, X // P
    grid = (B, rows, columns, C, P, P)
    if wrong("x and y swapped", "Rows come before columns: images[:, :, y : y + P, x : x + P]."):
        return torch.stack([images[:, :, x : x + P, y : y + P] for y in range(0, Y, P) for x in range(0, X, P)], dim=1)
    windows = images.unfold(2, P, P).unfold(3, P, P)  # (B, C, rows, columns, P, P)
    stretches = "reshape alone keeps the order of memory: your patches are stretches of rows. Split, permute, join."
    channels = "The channels stand before the grid and were not moved: permute to (B, rows, columns, C, P, P) first."
    strided = "A patch holds pixels from all over the image: split Y into (rows, P) and X into (columns, P)."
    sides = "Rows and columns of the grid have changed places: Y // P rows come first, then X // P columns."
    cut = wrong.choose(
        windows.permute(0, 2, 3, 1, 4, 5),
        ("plain reshape", stretches, images.reshape(grid)),
        ("channels not moved", channels, windows.reshape(grid)),
        ("every few pixels", strided, images.reshape(B, C, P, rows, P, columns).permute(0, 3, 5, 1, 2, 4)),
        ("sides swapped", sides, images.reshape(B, C, columns, P, rows, P).permute(0, 2, 4, 1, 3, 5).reshape(grid)),
    )
    cut = ordered(wrong, cut)
    if not wrong("grid kept", GRID_KEPT):
        cut = cut.flatten(1, 2)
    if wrong("flattened", "Each patch is one row of numbers already; it stays a small picture here, (C, P, P)."):
        cut = cut.flatten(-3)
    elif wrong("flattened", "As unfold gives them, patches are flattened and lie in the last axis.", 1):
        cut = cut.flatten(-3).mT
    return wrong.choose(cut, ("batch lost", FIRST_ONLY, cut[:1]), ("batch lost", BATCH_LOST, cut[0]))


def patches_to_project():
    yield whole(1, 2, 1, 2, 2), whole(2, 1, 2, 2), whole(2, low=1)
    yield whole(1, 3, 2, 1, 1), whole(2, 2, 1, 1), whole(2, low=1)  # D = C*P*P: here a matrix may lie either way
    for B, N, C, P, D in ((2, 4, 3, 2, 5), (3, 2, 2, 3, 18), (2, 3, 3, 2, 12), (1, 1, 1, 4, 1), (4, 5, 3, 4, 7)):
        yield torch.randn(B, N, C, P, P), torch.randn(D, C, P, P), torch.randn(D)


@written("Each number of a token is the sum of patch times filter, and its bias.", patches_to_project)
def project(wrong, patches, weight, bias):
    """A function `(patches (B, N, C, P, P), weight (D, C, P, P), bias (D,)) -> (B, N, D)`: patches to tokens."""
    (D, C, P, _), length = weight.shape, weight[0].numel()
    torn = "reshape turned the filters to columns and tore them apart. Flatten each to a row of W, then take W.T."
    untransposed = "W was not transposed: each number of a patch must meet the same place of a filter, so W.T."
    other = "Patch and filter were flattened in different orders: channel meets channel, and pixel meets pixel."
    mirrored = "The filters are mirrored at their diagonal: row u of a patch must meet row u of the filter."
    flipped = "The filters are turned by 180 degrees, as in a textbook's convolution; here nothing is turned."
    matrix = wrong.choose(
        weight.flatten(1).T,
        ("reshaped, not transposed", torn, weight.reshape(length, D)),
        ("not transposed", untransposed, weight.flatten(1)),
        ("pixels and filters out of step", other, weight.movedim(1, 3).flatten(1).T),
        ("pixels and filters out of step", other, weight.reshape(D, P, P, C).movedim(3, 1).flatten(1).T),
        ("pixels and filters out of step", mirrored, weight.mT.flatten(1).T),
        ("pixels and filters out of step", flipped, weight.flip(2, 3).flatten(1).T),
    )
    tokens = patches.flatten(2) @ matrix
    if wrong("mean for sum", "This is the mean over the pixels; a token's number is the sum."):
        tokens = tokens / length
    if wrong("first channel only", "Only the first channel was used; the sum is over all channels."):
        tokens = torch.einsum("bnpq,dpq->bnd", patches[:, :, 0], weight[:, 0])
    elif wrong("channels apart", "Each channel has an answer of its own; sum over the channels, too."):
        tokens = torch.einsum("bncpq,dcpq->bndc", patches, weight)
    bias = bias[:, None] if tokens.ndim == 4 else bias
    plus = wrong.choose(
        bias,
        ("bias left out", "The bias is missing: add its number d to number d of each token.", torch.zeros_like(bias)),
        ("bias subtracted", "The bias was subtracted; add it.", -bias),
        ("bias summed", "All of the bias was added to each number; number d gets bias[d] only.", bias.sum()),
    )
    tokens = tokens + plus
    if wrong("nonlinear", "Negative numbers were set to 0. There is no activation here: the step is linear."):
        tokens = tokens.relu()
    if wrong("axes swapped", "This is (B, D, N); swap the last two axes.") and tokens.ndim == 3:
        tokens = tokens.mT
    return wrong.choose(tokens, ("batch lost", FIRST_ONLY, tokens[:1]), ("batch lost", BATCH_LOST, tokens[0]))


def feature_maps():
    yield (torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]]]),)
    yield (torch.arange(12.0).reshape(1, 2, 2, 3),)
    for shape in ((2, 5, 3, 4), (1, 4, 2, 2), (3, 6, 1, 5), (2, 3, 4, 1), (2, 6, 2, 3), (2, 1, 1, 1)):
        yield (torch.randn(shape),)


@written("Token n now holds the D numbers of patch n.", feature_maps)
def to_tokens(wrong, feature_map):
    """A function `(B, D, rows, columns) -> (B, N, D)`: token n holds the D numbers of patch n."""
    B, D, rows, columns = feature_map.shape
    grid = (B, rows, columns, D)
    broken = "Still the broken version: token 0 holds numbers of several patches. Move D behind the patches first."
    other = "D was moved, but not behind both rows and columns: join these two first, then swap D and N."
    tokens = wrong.choose(
        feature_map.permute(0, 2, 3, 1),
        ("plain reshape", broken, feature_map.reshape(grid)),
        ("wrong axes swapped", other, feature_map.transpose(1, 2).reshape(grid)),
        ("wrong axes swapped", other, feature_map.permute(0, 3, 1, 2).reshape(grid)),
    )
    if wrong("column by column", COLUMNS_FIRST):
        tokens = tokens.transpose(1, 2)
    if not wrong("grid kept", GRID_KEPT):
        tokens = tokens.flatten(1, 2)
    if wrong("transpose missing", "The patches are joined, but this is (B, D, N); swap the last two axes."):
        tokens = tokens.mT
    return wrong.choose(tokens, ("batch lost", FIRST_ONLY, tokens[:1]), ("batch lost", BATCH_LOST, tokens[0]))


@exercise
def patch_budget(answer):
    """The smallest patch size for ViT-B, 384 x 384, batch 64, whose attention maps fit in 8 GB: 24."""
    P = number(answer, "the patch size")
    if not P >= 1 or 384 % P:
        raise Wrong(f"P = {P:g} does not divide 384 into whole patches.", "does not divide")
    N = (384 / P) ** 2 + 1
    size = 64 * 4 * 12 * 12 * N**2 / 1e9
    if size > 8:
        why = f"At P = {P:g} there are {N:.0f} tokens, and the maps of 64 images take {size:.1f} GB, more than 8 GB."
        raise Wrong(why, "over budget")
    if P > 24:
        raise Wrong(f"P = {P:g} fits with {size:.2f} GB, but a smaller patch size fits as well.", "not the smallest")
    return f"P = 24: {N:.0f} tokens, {size:.1f} GB of attention maps. P = 16 would need 12.3 GB."


def windows_to_cut():
    yield whole(1, 1, 3, 3), 2, 1
    for shape, P, S in (((2, 3, 9, 11), 4, 2), ((1, 2, 5, 14), 3, 2), ((2, 1, 6, 6), 3, 1), ((3, 2, 15, 8), 5, 3)):
        yield torch.randn(shape), P, S
    yield torch.randn(1, 3, 9, 8), 4, 4


@written("Every window that fits, row by row; with stride = P this is patchify.", windows_to_cut)
def overlapping_patches(wrong, images, patch_size, stride):
    """A function `(images, patch_size, stride) -> (B, N, C*P*P)`: windows of P x P pixels, `stride` apart."""
    (Y, X), P = images.shape[2:], patch_size
    out = "A window that would stick out of the image is left out: the last one starts at Y - P or before."
    if wrong("sticking out", out):
        cut = lambda y, x: images[:, :, y : y + P, x : x + P].flatten(1)  # noqa: E731
        return torch.stack([cut(y, x) for y in range(0, Y, stride) for x in range(0, X, stride)], dim=1)
    S = wrong.choose(
        stride,
        ("no overlap", "These patches do not overlap: the window moves by stride, not by P.", P),
        ("stride left out", "The window moves by 1 pixel; it moves by stride.", 1),
    )
    if wrong("sticking out", out, 1):
        images = F.pad(images, (0, (P - X) % S, 0, (P - Y) % S))
    windows = images.unfold(2, P, S).unfold(3, P, S).permute(0, 2, 3, 1, 4, 5)  # (B, rows, columns, C, P, P)
    missing = "The last row or column of windows is missing: range(0, Y - P + 1, stride) starts one at Y - P, too."
    if wrong("last windows missing", missing):
        windows = windows[:, :-1, :-1]
    elif wrong("last windows missing", missing, 1):  # range(0, Y - P, stride)
        windows = windows[:, : (Y - P + S - 1) // S, : (X - P + S - 1) // S]
    torn = "reshape alone tears the windows: bring rows and columns of windows forward, or swap axes, before you join."
    if wrong("plain reshape", torn):  # of tensor.unfold's (B, C, rows, columns, P, P)
        return windows.movedim(3, 1).reshape(len(images), windows[0, :, :, 0, 0, 0].numel(), -1)
    windows = ordered(wrong, windows).flatten(1, 2)
    if wrong("plain reshape", torn, 1):  # of F.unfold's (B, C*P*P, N)
        return windows.flatten(2).mT.reshape(*windows.shape[:2], -1)
    if wrong("not flattened", "The windows are right but still small pictures; flatten each to one row."):
        return windows
    swapped = "The windows lie in the last axis, as unfold gives them; swap the last two axes."
    return windows.flatten(2).mT if wrong("axes swapped", swapped) else windows.flatten(2)
