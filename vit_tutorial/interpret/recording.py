"""What a Vision Transformer computes on its way to the logits: attention weights, their gradients, tokens.

Works on the course's `VisionTransformer`, timm's and torchvision's. Each runs its own code and is left as it was found.
"""

from collections import namedtuple
from contextlib import contextmanager

import torch
import torch.nn.functional as F

Parts = namedtuple("Parts", "blocks positions filters read")


def parts(model):
    """The same parts under the same names, whoever wrote the model.

    `blocks`; `positions` `(1, N, D)`; `filters` `(D, C, P, P)`; `read(tokens)`, from the last block's tokens to logits.
    Raises `ValueError` for a model that has no such parts.
    """
    try:
        if hasattr(model, "conv_proj"):  # torchvision
            encoder, filters = model.encoder, model.conv_proj.weight
            return Parts(encoder.layers, encoder.pos_embedding, filters, lambda x: model.heads(encoder.ln(x)[:, 0]))
        ours = model.blocks, model.pos_embed, model.patch_embed.proj.weight
        if hasattr(model, "forward_head"):  # timm
            return Parts(*ours, lambda x: model.forward_head(model.norm(x)))
        if model.cls_token is None:
            return Parts(*ours, lambda x: model.head(model.norm(x).mean(dim=1)))
        return Parts(*ours, lambda x: model.head(model.norm(x)[:, 0]))
    except AttributeError:
        raise ValueError(
            "expected a VisionTransformer of this course, of timm or of torchvision, "
            f"found {type(model).__name__}; convert another model's weights with vit_tutorial.weights"
        ) from None


@contextmanager
def evaluating(model):
    """`model` in evaluation mode; afterwards each of its modules is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def every_token(model):
    """`model` in evaluation mode, and its last block computes all tokens: ours leaves out those that no head reads."""

    def ask_all(block, inputs, options):
        return (inputs, options | {"queries": None}) if "queries" in options else None

    hook = parts(model).blocks[-1].register_forward_pre_hook(ask_all, with_kwargs=True)
    try:
        with evaluating(model):
            yield
    finally:
        hook.remove()


@contextmanager
def watched_attention(model, watch):
    """While this lasts, `watch(weights)` gets the attention weights `(B, H, N, N)` of each block of `model` in turn.

    All three libraries attend through PyTorch's fused function, which keeps no weights. Here two products and a softmax
    take its place, so that the weights that `watch` returns are those that the model goes on with: its gradients reach
    them. The function is replaced for the whole process, so run no other model at the same time.
    """

    def attend(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        if attn_mask is not None or is_causal:
            raise ValueError("expected attention without a mask, found one; Vision Transformers have none")
        scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)  # (B, H, N, N)
        weights = scores.softmax(dim=-1)
        if q.shape == k.shape:  # else a pooling layer after the blocks, with queries of its own
            weights = watch(weights)
        return weights @ v

    fused, fast = F.scaled_dot_product_attention, torch.backends.mha.get_fastpath_enabled()
    unfused = [module for module in model.modules() if getattr(module, "fused_attn", True) is False]  # timm
    try:
        F.scaled_dot_product_attention = attend
        torch.backends.mha.set_fastpath_enabled(False)  # torchvision: the fast path is one closed operation
        for module in unfused:
            module.fused_attn = True
        with every_token(model):
            yield
    finally:
        F.scaled_dot_product_attention = fused
        torch.backends.mha.set_fastpath_enabled(fast)
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
    logit with respect to them, in the same shape and order. Parameters receive no gradient. Raises `ValueError` for an
    unknown kind of model, or for targets that are no classes of it.
    """
    kept = []

    def watch(weights):
        if target is not None and not weights.requires_grad:
            weights.requires_grad_()  # a frozen model
        kept.append(weights)
        return weights

    with torch.set_grad_enabled(target is not None), watched_attention(model, watch):
        logits = model(images)  # (B, num_classes)
        check_count(model, len(kept))
        if target is None:
            return torch.stack(kept)
        chosen = at_targets(logits, class_indices(target, logits))  # (B,)
        gradients = torch.autograd.grad(chosen.sum(), kept)  # in the order of `kept`
    return torch.stack(kept).detach(), torch.stack(gradients)


def check_count(model, found):
    """Raise `ValueError` unless every block's attention was seen."""
    expected = len(parts(model).blocks)
    if found != expected:
        raise ValueError(
            f"expected {expected} layers of attention through torch's scaled_dot_product_attention, found {found}; "
            "a compiled or scripted model computes it elsewhere: pass the model that it was made from"
        )


@torch.no_grad()
def features(model, images):
    """Tokens `(L + 1, B, N, D)`: after the embedding (index 0) and after every block (1 to L), before the last norm.

    Images `(B, C, Y, X)` are normalised as for `model(images)`. Raises `ValueError` for an unknown kind of model.
    """
    blocks, kept = parts(model).blocks, []
    hooks = [blocks[0].register_forward_pre_hook(lambda block, inputs: kept.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda block, inputs, output: kept.append(output)) for block in blocks]
    try:
        with every_token(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(kept)
