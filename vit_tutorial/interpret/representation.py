"""What a model's weights and tokens hold: positions, filters, what each layer already knows."""

import torch
import torch.nn.functional as F

from .recording import evaluating, features, parts, readable


@torch.no_grad()
def position_similarity(model):
    """Cosine of the position embeddings of any two patches: `(rows, columns, rows, columns)`.

    Dosovitskiy et al. 2021, figure 7, middle. Of rotary positions (Heo et al. 2024; DINOv3) the cosine of their sines
    and cosines: the mean over the frequencies of the cosine of the angle between the two places. Raises `ValueError`
    for an unknown kind of model, and for positions that are neither, or another in each block.
    """
    model = readable(model)
    rows, columns = model.patch_embed.grid_size
    positions = parts(model).positions  # (1, N, D)
    if positions is None or getattr(getattr(model, "config", None), "position", "learned") == "none":
        rotary = getattr(model, "rope", None)
        positions = None if rotary is None else rotary.get_embed(shape=[rows, columns])[None]  # (1, N, 2 * D/H)
    if positions is None or positions.ndim != 3:
        found = "none" if positions is None else "rotary ones that differ between blocks"
        raise ValueError(f"expected learned positions or the same rotary ones in all blocks, found {found}")
    positions = F.normalize(positions[0, -rows * columns :].float(), dim=-1)
    return (positions @ positions.T).view(rows, columns, rows, columns)  # (rows, columns, rows, columns)


@torch.no_grad()
def filter_components(model, count):
    """Principal components of the patch filters, `(count, C, P, P)`, and each one's share of the variance, `(count,)`.

    The D filters of the patch embedding are the samples, their mean is subtracted (Dosovitskiy et al. 2021, figure 7,
    left). Components have length 1; a component's largest number is positive. Raises `ValueError` where there are fewer
    than `count`.
    """
    filters = parts(readable(model)).filters.double()  # (D, C, P, P)
    flat = filters.flatten(1)  # (D, C*P*P)
    if not 1 <= count <= min(flat.shape):
        raise ValueError(f"expected a count from 1 to {min(flat.shape)}, found {count!r}")
    _, sizes, components = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    share = sizes.square() / sizes.square().sum()
    return (components * largest.sign()).view(count, *filters.shape[1:]).float(), share[:count].float()


@torch.no_grad()
def logit_lens(model, images):
    """Logits `(L + 1, B, num_classes)` as if the model ended after the embedding (index 0) or after block 1, ..., L.

    The model's own last norm and head read each block's tokens (nostalgebraist 2020); the last entry is
    `model(images)`. Raises `ValueError` for an unknown kind of model.
    """
    model = readable(model)
    tokens = features(model, images)
    with evaluating(model):
        return torch.stack([parts(model).read(x) for x in tokens])


def token_norms(model, images):
    """Length of every token after the embedding and after each block, `(L + 1, B, N)`.

    Large models store what is global in a few patches of little content, whose tokens are many times as long as the
    others (Darcet et al. 2024). Raises `ValueError` for an unknown kind of model.
    """
    return features(model, images).norm(dim=-1)


def linear_cka(x, y):
    """Similarity of two sets of features of the same n images, up to rotation and scale: `(n, p)`, `(n, q)` -> number.

    Linear centred kernel alignment (Kornblith et al. 2019) with the unbiased HSIC (Song et al. 2012; Nguyen et al.
    2021): 1 for the same features, about 0 for independent ones, however wide. Raises `ValueError` for fewer
    than 4 images, or where the two do not have the same number.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 4:
        raise ValueError(
            f"expected features (n, p) and (n, q) of the same n >= 4 images, found {tuple(x.shape)} and "
            f"{tuple(y.shape)}; pick one token with [:, 0], or put all tokens into one row with flatten(1)"
        )
    K, L = gram(x), gram(y)
    return (hsic(K, L) / (hsic(K, K) * hsic(L, L)).sqrt()).item()


def gram(x):
    """Inner products `(n, n)` of features `(n, p)`, the diagonal left out."""
    x = x.double() - x.double().mean(dim=0)
    return (x @ x.T).fill_diagonal_(0)


def hsic(K, L):
    """The unbiased Hilbert-Schmidt independence criterion of two matrices with empty diagonals, times n (n - 3)."""
    n = len(K)
    return (K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * K.sum(dim=0) @ L.sum(dim=0)
