"""Right answers to the exercises of notebook 07."""

import math
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vit_tutorial.training import warmup_cosine

LOW, HIGH = math.log(math.e + 99) - 1, math.log(math.e + 99)

VALUES = {
    "softmax_bounds": [
        (LOW, HIGH),
        [3.62, 4.62],
        torch.tensor([LOW, HIGH]),
        np.array([LOW, HIGH]),
        ("3.622", "4.622"),
        (torch.tensor(LOW), np.float32(HIGH)),
    ],
    "shuffled_batch": ["c", " C ", "(c)", "c.", "C"],
    "patients": [("b", "c", "a"), ["B", "C", "A"], "bca", "b, c, a", "(b) (c) (a)", np.array(["b", "c", "a"])],
}


def silent_patches__slices(model, image, patch_size):
    _, Y, X = image.shape
    before, silent, number = model(image[None]), [], 0
    for y in range(0, Y, patch_size):
        for x in range(0, X, patch_size):
            changed = image.clone()
            changed[:, y : y + patch_size, x : x + patch_size] += 1
            if torch.allclose(model(changed[None]), before):
                silent.append(number)
            number += 1
    return silent


def silent_patches__rows_and_columns(model, image, P):
    rows, columns = image.shape[1] // P, image.shape[2] // P
    found = []
    for row in range(rows):
        for column in range(columns):
            other = image.clone()
            other[:, row * P : (row + 1) * P, column * P : (column + 1) * P] = 0.77
            if (model(other[None]) - model(image[None])).abs().max() < 1e-4:
                found.append(row * columns + column)
    return found


def silent_patches__gradient(model, image, P):
    images = image[None].clone().requires_grad_()
    (model(images) * torch.randn(10)).sum().backward()
    strips = images.grad[0].abs().unfold(1, P, P).unfold(2, P, P)  # (C, rows, columns, P, P)
    return strips.sum(dim=(0, 3, 4)).flatten() == 0


def silent_patches__set(model, image, patch_size):
    model.eval()
    with torch.no_grad():
        before = model(image.unsqueeze(0))[0]
    columns = image.shape[2] // patch_size
    silent = set()
    for n in range(image.shape[1] // patch_size * columns):
        y, x = divmod(n, columns)
        changed = image.clone()
        changed[:, y * patch_size :, x * patch_size :][:, :patch_size, :patch_size] = 0
        with torch.no_grad():
            after = model(changed.unsqueeze(0))[0]
        if torch.equal(before, after):
            silent.add(n)
    return silent


def silent_patches__one_batch(model, image, P):
    C, Y, X = image.shape
    number = torch.arange(Y // P)[:, None] * (X // P) + torch.arange(X // P)  # (rows, columns)
    number = number.repeat_interleave(P, 0).repeat_interleave(P, 1)  # (Y, X)
    masks = torch.stack([number == n for n in range(int(number.max()) + 1)])  # (N, Y, X)
    changed = torch.where(masks[:, None], image + 1, image)  # (N, C, Y, X)
    moved = (model(changed) - model(image[None])).abs().amax(dim=1)
    return (moved < 1e-3).nonzero().flatten()


def silent_patches__restored(model, image, patch_size):
    before = model(image[None])
    windows = image.unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size)  # (C, rows, columns, P, P)
    silent = []
    for row in range(windows.shape[1]):
        for column in range(windows.shape[2]):
            kept = windows[:, row, column].clone()
            windows[:, row, column] += 1
            if torch.allclose(model(image[None]), before):
                silent.append(row * windows.shape[2] + column)
            windows[:, row, column] = kept
    return silent


def silent_patches__noise(model, image, P):
    before, answer = model(image[None]), []
    numbers = torch.arange(image.shape[1] // P * (image.shape[2] // P)).reshape(image.shape[1] // P, -1)
    for n in numbers.flatten():
        where = (numbers == n).repeat_interleave(P, 0).repeat_interleave(P, 1)
        noisy = image + torch.randn(image.shape) * where
        if torch.isclose(model(noisy[None]), before).all():
            answer.append(n)
    return answer


def silent_patches__numpy(model, image, patch_size):
    pixels, P = image.numpy(), patch_size
    before = model(torch.from_numpy(pixels)[None]).numpy()
    silent = np.zeros((pixels.shape[1] // P, pixels.shape[2] // P), dtype=bool)
    for y, x in np.ndindex(*silent.shape):
        changed = pixels.copy()
        changed[:, P * y : P * y + P, P * x : P * x + P] *= 2
        silent[y, x] = np.abs(model(torch.from_numpy(changed)[None]).numpy() - before).max() < 1e-5
    return np.flatnonzero(silent)


def silent_patches__generator(model, image, patch_size):
    def says_nothing(y, x):
        changed = image.detach().clone()
        changed[..., y : y + patch_size, x : x + patch_size] -= 1.0
        return bool((model(changed[None]) == before).all())

    before = model(image[None])
    corners = [(y, x) for y in range(0, image.shape[-2], patch_size) for x in range(0, image.shape[-1], patch_size)]
    return tuple(n for n, corner in enumerate(corners) if says_nothing(*corner))


def silent_patches__folded(model, image, P):
    tokens = F.unfold(image[None], P, stride=P)  # (1, C*P*P, N)
    before, silent = model(image[None]), []
    for n in range(tokens.shape[2]):
        changed = tokens.clone()
        changed[:, :, n] = -1.0
        if torch.allclose(model(F.fold(changed, image.shape[1:], P, stride=P)), before):
            silent += [n]
    return silent


def repaired_attention__repaired(q, k, v):
    B, H, N, d = q.shape
    weights = (q @ k.transpose(-2, -1) / math.sqrt(d)).softmax(dim=-1)  # (B, H, N, N)
    return (weights @ v).transpose(1, 2).reshape(B, N, H * d)  # (B, N, D)


def repaired_attention__fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def repaired_attention__einsum(q, k, v):
    weights = torch.einsum("bhid,bhjd->bhij", q, k).mul(q.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("bhij,bhjd->bihd", weights, v).flatten(2)


def repaired_attention__heads(q, k, v):
    merged = []
    for h in range(q.shape[1]):
        scores = q[:, h] @ k[:, h].transpose(1, 2) / q.shape[3] ** 0.5
        merged.append(scores.softmax(2) @ v[:, h])
    return torch.cat(merged, dim=-1)


def repaired_attention__loops(q, k, v):
    B, H, N, d = q.shape
    out = torch.zeros(B, N, H * d)
    for b in range(B):
        for h in range(H):
            for n in range(N):
                weights = torch.softmax(k[b, h] @ q[b, h, n] / math.sqrt(d), dim=0)
                out[b, n, h * d : (h + 1) * d] = weights @ v[b, h]
    return out


def repaired_attention__numpy(q, k, v):
    q, k, v = (x.numpy().astype(np.float64) for x in (q, k, v))
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3]))
    mixed = scores / scores.sum(3, keepdims=True) @ v
    return torch.from_numpy(mixed.swapaxes(1, 2).reshape(len(q), q.shape[2], -1))


def repaired_attention__view(q, k, v):
    B, H, N, d = q.shape
    scores = torch.matmul(q, k.mT) * d**-0.5
    mixed = torch.matmul(F.softmax(scores, dim=3), v)
    return mixed.permute(0, 2, 1, 3).contiguous().view(B, N, H * d)


def repaired_attention__baddbmm(q, k, v):
    B, H, N, d = q.shape
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # (B*H, N, d)
    weights = torch.bmm(q / d**0.5, k.transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, v).unflatten(0, (B, H)).movedim(1, 2).flatten(2)


def repaired_attention__exponentials(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = powers / powers.sum(-1, keepdim=True)
    return torch.cat((weights @ v).unbind(1), dim=2)


def repaired_attention__double(q, k, v):
    d = torch.tensor(q.shape[-1]).double()
    weights = torch.softmax((q.double() @ k.double().mT) / d.sqrt(), -1)
    return torch.stack((weights @ v.double()).unbind(1), dim=2).flatten(2)


def repaired_schedule__all_steps(step, steps_per_epoch, epochs):
    return warmup_cosine(min(1.0, step / (steps_per_epoch * epochs)))


def repaired_schedule__this_step_counted(step, steps_per_epoch, epochs):
    return warmup_cosine((step + 1) / (steps_per_epoch * epochs))


def repaired_schedule__by_hand(step, steps_per_epoch, epochs):
    p = step / steps_per_epoch / epochs
    return p / 0.1 if p < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (p - 0.1) / 0.9)


def repaired_schedule__on_a_tensor(step, steps_per_epoch, epochs):
    return torch.tensor(warmup_cosine(step / (steps_per_epoch * epochs)))


def repaired_schedule__epochs(step, steps_per_epoch, epochs):
    epoch = step / steps_per_epoch  # with its fraction
    return warmup_cosine(epoch / epochs, 0.1)


def repaired_schedule__divmod(step, steps_per_epoch, epochs):
    epoch, within = divmod(step, steps_per_epoch)
    return warmup_cosine((epoch + within / steps_per_epoch) / epochs)


def repaired_schedule__next_in_epoch(step, steps_per_epoch, epochs):
    epoch, within = step // steps_per_epoch, step % steps_per_epoch + 1
    return warmup_cosine(min(1.0, (epoch + within / steps_per_epoch) / epochs))


def repaired_schedule__numpy(step, steps_per_epoch, epochs):
    progress = np.clip(step / np.prod([steps_per_epoch, epochs]), 0, 1)
    up, down = progress / 0.1, 0.5 * (1 + np.cos(np.pi * (progress - 0.1) / 0.9))
    return np.where(progress < 0.1, up, down)


def repaired_schedule__table(step, steps_per_epoch, epochs):
    total = steps_per_epoch * epochs
    factors = [warmup_cosine(i / total) for i in range(total)]
    return factors[step]


def repaired_schedule__counted_by_hand(step, steps_per_epoch, epochs):
    total = float(steps_per_epoch * epochs)
    done = step + 1
    if done < 0.1 * total:
        return done / (0.1 * total)
    return (1 + math.cos(math.pi * (done / total - 0.1) / 0.9)) / 2


def repaired_schedule__lambda_lr(step, steps_per_epoch, epochs):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: warmup_cosine(s / (steps_per_epoch * epochs)))
    return schedule.lr_lambdas[0](step)


def first_broken__hooks(model, x):
    broken, handles = [], []
    for name, module in model.named_modules():
        if not list(module.children()):

            def hook(module, inputs, output, name=name):
                if not torch.isfinite(output).all():
                    broken.append(name)

            handles.append(module.register_forward_hook(hook))
    model(x)
    for handle in handles:
        handle.remove()
    return broken[0] if broken else ""


def first_broken__everywhere(model, x):
    names, found = {module: name for name, module in model.named_modules()}, []

    def hook(module, inputs, output):
        if not found and not list(module.children()) and not output.sum().isfinite():
            found.append(names[module])

    with nn.modules.module.register_module_forward_hook(hook):
        model(x)
    return found[0] if found else ""


def first_broken__wrapped(model, x):
    found, layers = [], [(n, m) for n, m in model.named_modules() if n and not list(m.children())]

    def wrap(name, forward):
        def wrapped(x):
            out = forward(x)
            if not (out.abs() < torch.inf).all():
                found.append(name)
            return out

        return wrapped

    for name, layer in layers:
        layer.forward = wrap(name, layer.forward)
    model(x)
    for _, layer in layers:
        del layer.forward
    return next(iter(found), "")


def first_broken__restored_mode(model, x):
    was = model.training
    model.eval()
    log = []
    leaves = {m: n for n, m in model.named_modules() if len(list(m.children())) == 0}
    handles = [m.register_forward_hook(lambda m, _, out: log.append((leaves[m], out))) for m in leaves]
    with torch.no_grad():
        model(x)
    for h in handles:
        h.remove()
    model.train(was)
    for name, out in log:
        if out.isnan().any() or out.isinf().any():
            return name
    return ""


class Found(Exception):
    pass


def first_broken__raised(model, x):
    def stop(name):
        def hook(module, inputs, output):
            if not output.isfinite().all():
                raise Found(name)

        return hook

    handles = [m.register_forward_hook(stop(n)) for n, m in model.named_modules() if not [*m.children()]]
    try:
        model(x)
    except Found as found:
        return str(found)
    finally:
        for handle in handles:
            handle.remove()
    return ""


def first_broken__in_order(model, x):
    order = []

    def make(name):
        return lambda module, inputs, output: order.append((name, bool(torch.isfinite(output).all())))

    handles = []
    for name, module in model.named_modules():
        if not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(make(name)))
    try:
        model(x)
    finally:
        [handle.remove() for handle in handles]
    broken = [name for name, fine in order if not fine]
    return broken[0] if broken else ""


def first_broken__dictionary(model, x):
    outputs, handles = [], {}
    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            handles[name] = module.register_forward_hook(
                lambda module, given, output, name=name: outputs.append((name, output.detach().clone()))
            )
    model(x)
    while handles:
        handles.popitem()[1].remove()
    return next((name for name, output in outputs if not np.isfinite(output.numpy()).all()), "")


def first_broken__copied(model, x):
    import copy

    twin, first = copy.deepcopy(model), []
    for name, module in twin.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda m, i, out, name=name: first.append(name) if not first and not out.isfinite().all() else None
            )
    twin(x)
    return "".join(first)


def first_broken__partial(model, x):
    from functools import partial

    def look(found, name, module, inputs, output):
        if (output - output != 0).any():  # inf - inf and nan - nan are nan
            found.append(name)

    found, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.ReLU, nn.GELU)) or not list(module.children()):
            handles.append(module.register_forward_hook(partial(look, found, name)))
    model(x.clone())
    for handle in handles:
        handle.remove()
    return (found or [""])[0]


def first_broken__mode(model, x):
    class Watch:
        def __init__(self, model):
            self.name = ""
            layers = [(name, layer) for name, layer in model.named_modules() if not [*layer.children()]]
            self.handles = [layer.register_forward_hook(self.hook(name)) for name, layer in layers]

        def hook(self, name):
            def inner(layer, inputs, output):
                if self.name == "" and not torch.all(torch.isfinite(output)):
                    self.name = name

            return inner

        def __enter__(self):
            return self

        def __exit__(self, *error):
            for handle in self.handles:
                handle.remove()

    with Watch(model) as watch, torch.inference_mode():
        model(x)
    return watch.name


with suppress(ImportError):  # timm and transformers do not need it
    from einops import einsum, rearrange

    def repaired_attention__einops(q, k, v):
        weights = (einsum(q, k, "b h i d, b h j d -> b h i j") / math.sqrt(q.shape[-1])).softmax(-1)
        return rearrange(weights @ v, "b h n d -> b n (h d)")
