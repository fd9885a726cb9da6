"""What a Vision Transformer computes on its way to the logits: attention weights, their gradients, tokens.

Works on the course's `VisionTransformer`, timm's, torchvision's and transformers', compiled, parallel or of 16 bits.
Each is left as it was found.
"""

from collections import namedtuple
from contextlib import contextmanager, nullcontext
from copy import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..weights import from_torchvision, from_transformers, unwrapped
from .tokens import knowing, tokens_of

Parts = namedtuple("Parts", "blocks positions filters read")


def readable(model):
    """`model`, out of its wrapper, if it is ours or timm's; of torchvision's and transformers' ours with its weights.

    Hooks of those two, whose parts have other names, are not run.
    """
    model = unwrapped(model)
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and thrown away
        if hasattr(getattr(model, "config", None), "to_dict"):
            return from_transformers(model)
        if not hasattr(model, "conv_proj"):
            return model
        body = copy(model)  # without its head, which may be any module
        body._modules = model._modules | {"heads": nn.Identity()}
        ours = from_torchvision(body)
    ours.head = model.heads
    return ours


def parts(model):
    """The same parts under the same names, whoever wrote the model.

    `blocks`; `positions` `(1, N, D)`; `filters` `(D, C, P, P)`; `read(tokens)`, from the last block's tokens to logits.
    Raises `ValueError` for a model that has no such parts.
    """
    try:
        found = model.blocks, model.pos_embed, model.patch_embed.proj.weight
        if hasattr(model, "read"):  # the patches
            return Parts(*found, model.read)
        if hasattr(model, "forward_head"):  # timm, and ModernViT
            return Parts(*found, lambda x: model.forward_head(model.norm(x)))
        pooled = (lambda x: x.mean(dim=1)) if model.cls_token is None else (lambda x: x[:, 0])
        return Parts(*found, lambda x: model.head(pooled(model.norm(x))))
    except AttributeError:
        raise ValueError(
            "expected a VisionTransformer of this course, of timm or of torchvision, "
            f"found {type(model).__name__}; convert another model's weights with vit_tutorial.weights"
        ) from None


def fitted(model, images):
    """The images as floats of the model's precision, on its device. Raises `ValueError` where they are no floats."""
    if not images.is_floating_point():
        raise ValueError(
            f"expected normalised images, found {images.dtype}; vit_tutorial.normalise(images, model.config) makes them"
        )
    weight = next((p for p in model.parameters() if p.is_floating_point()), images)
    return images.to(weight.device, weight.dtype)


def eager(model):
    """A context in which what is compiled of `model` runs as it was written."""
    compiled = any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def evaluating(model):
    """`model` in evaluation mode; afterwards each of its modules is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with eager(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class WatchedAttention(TorchFunctionMode):
    """In this thread, PyTorch's fused attention is two products and a softmax, and `watch(weights)` stands between.

    All libraries attend through that function, which keeps no weights. The weights that `watch` returns are those that
    the model continues with, so that its gradients reach them.
    """

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function, types, arguments=(), options=None):
        function = self.attend if function is F.scaled_dot_product_attention else function
        return function(*arguments, **(options or {}))

    def attend(self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        if attn_mask is not None or is_causal:
            raise ValueError("expected attention without a mask, found one; Vision Transformers have none")
        scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)  # (B, H, N, N)
        weights = scores.softmax(dim=-1)
        if q.shape == k.shape:  # else a pooling layer after the blocks, with queries of its own
            weights = self.watch(weights)
        return weights @ v


@contextmanager
def watched_attention(model, watch):
    """Yields the model to call with images that are `fitted`.

    `watch(weights)` then gets each block's attention weights `(B, H, N, N)` in turn.
    """
    model = readable(model)
    unfused = [module for module in model.modules() if getattr(module, "fused_attn", True) is False]  # timm
    try:
        for module in unfused:
            module.fused_attn = True
        with evaluating(model), WatchedAttention(watch):
            yield model
    finally:
        for module in unfused:
            module.fused_attn = False


def class_indices(target, logits):
    """`target` as class indices `(B,)`: given as such, or "predicted" for the largest of the `logits` `(B, classes)`.

    Raises `ValueError` for indices that do not fit the logits.
    """
    if isinstance(target, str) and target == "predicted":
        return logits.argmax(dim=1)
    B, classes = logits.shape
    indices = torch.as_tensor([] if isinstance(target, str) else target, device=logits.device)
    whole = not (indices.is_floating_point() or indices.dtype == torch.bool)
    if indices.shape != (B,) or not whole or not ((indices >= 0) & (indices < classes)).all():
        raise ValueError(
            f'expected target to be "predicted" or {B} class indices in 0..{classes - 1}, found {target!r}'
        )
    return indices.long()


def at_targets(values, target):
    """From `(B, num_classes)` the value of each image's own target, `(B,)`."""
    return values.gather(1, target[:, None])[:, 0]


def record(model, images, target=None):
    """Attention weights `(L, B, H, N, N)` of every block for images `(B, C, Y, X)`, normalised as for `model(images)`.

    With a `target`, class indices `(B,)` or "predicted", a pair: the weights, and the gradients of each image's target
    logit with respect to them, in the same shape and order. Both know which of the N tokens is what: `attention.tokens`
    is a `Tokens`, also after indexing and arithmetic. Parameters receive no gradient. Raises `ValueError` for an
    unknown kind of model, or for targets that are no classes of it.
    """
    kept = []

    def watch(weights):
        if target is not None and not weights.requires_grad:
            weights.requires_grad_()  # a frozen model
        kept.append(weights)
        return weights

    with torch.set_grad_enabled(target is not None), watched_attention(model, watch) as seen:
        logits = seen(fitted(seen, images))  # (B, num_classes)
        check_count(seen, len(kept))
        tokens = tokens_of(seen, images.shape[2:])
        if target is None:
            return knowing(torch.stack(kept), tokens)
        chosen = at_targets(logits, class_indices(target, logits))  # (B,)
        gradients = torch.autograd.grad(chosen.sum(), kept)  # in the order of `kept`
    return knowing(torch.stack(kept).detach(), tokens), knowing(torch.stack(gradients), tokens)


def check_count(model, found):
    """Raise `ValueError` unless every block's attention was seen."""
    expected = len(parts(model).blocks)
    if found != expected:
        raise ValueError(
            f"expected {expected} layers of attention through torch's scaled_dot_product_attention, found {found}; "
            "a scripted model computes it elsewhere: pass the model that it was made from"
        )


@torch.no_grad()
def features(model, images):
    """Tokens `(L + 1, B, N, D)`: after the embedding (index 0) and after every block (1 to L), before the last norm.

    Images `(B, C, Y, X)` are normalised as for `model(images)`. Raises `ValueError` for an unknown kind of model.
    """
    model, kept = readable(model), []
    blocks = parts(model).blocks
    hooks = [blocks[0].register_forward_pre_hook(lambda block, inputs: kept.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda block, inputs, output: kept.append(output)) for block in blocks]
    try:
        with evaluating(model):
            model(fitted(model, images))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(kept)
