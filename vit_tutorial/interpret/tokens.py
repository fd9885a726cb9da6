"""Which of a model's tokens are what, and attention weights that know it."""

from dataclasses import dataclass

import torch

CLASS = "class token"


@dataclass(frozen=True)
class Tokens:
    """What stands in a row of N tokens: `names` for those before the patches, then the patches of `grid`.

    `grid` is `(rows, columns)`. `reads` is what the head reads, "class token" or "patches".
    """

    names: tuple[str, ...]
    grid: tuple[int, int]
    reads: str = CLASS

    @property
    def count(self):
        """N."""
        return len(self.names) + self.grid[0] * self.grid[1]


def tokens_of(model, image_size):
    """The `Tokens` of one of our models or of timm's for images of `image_size` `(Y, X)`.

    timm puts the class token first, then a distillation token or registers, then the patches.
    """
    cls = model.cls_token is not None
    more = getattr(model, "num_prefix_tokens", int(cls)) - cls
    names = ["distillation token"] if getattr(model, "dist_token", None) is not None else []
    names += [f"register {i + 1}" for i in range(more - len(names))]
    rows, columns = (side // patch for side, patch in zip(image_size, model.patch_embed.proj.stride, strict=True))
    mean = hasattr(model, "read") or getattr(model, "global_pool", "token") != "token"
    return Tokens((CLASS,) * cls + tuple(names), (rows, columns), CLASS if cls and not mean else "patches")


class Attention(torch.Tensor):
    """A tensor that knows its tokens: `attention.tokens` is a `Tokens`, and so is that of what is computed from it."""

    tokens = None

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        result = super().__torch_function__(function, types, arguments, options or {})
        tokens = next((x.tokens for x in _flat(arguments) if isinstance(x, Attention)), None)
        for x in _flat([result]):
            if isinstance(x, Attention):
                x.tokens = tokens
        return result

    def __repr__(self, **options):  # torch passes `tensor_contents`
        return repr(self.as_subclass(torch.Tensor))

    def __format__(self, style):
        return format(self.as_subclass(torch.Tensor), style)

    def __deepcopy__(self, memo):
        return knowing(self.as_subclass(torch.Tensor).detach().clone(), self.tokens)

    def __reduce_ex__(self, protocol):  # files hold the plain tensor, which everybody can read
        return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)


def _flat(arguments):
    """The arguments, and what stands in lists and tuples among them."""
    for x in arguments:
        yield from x if isinstance(x, (list, tuple)) else [x]


def knowing(weights, tokens):
    """`weights` as `Attention` with these tokens, the same numbers in the same memory."""
    attention = weights.as_subclass(Attention)
    attention.tokens = tokens
    return attention
