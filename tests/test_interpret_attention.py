"""interpret, from attention weights to maps: rollout, relevance, class-token maps, distance."""

import copy
import io
import math

import pytest
import timm
import torch

from vit_tutorial.interpret import (
    Tokens,
    attention_distance,
    attention_rollout,
    class_map,
    head_maps,
    record,
    relevance,
    rollout,
)

L, B, H, N = 4, 3, 2, 7
VARIANTS = pytest.mark.parametrize(
    "options", [{}, {"fuse": "max"}, {"fuse": "min"}, {"discard": 0.6}, {"fuse": "max", "discard": 0.9}], ids=str
)


def some_attention(*shape):
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))).softmax(dim=-1)


@VARIANTS
def test_rows_of_the_rollout_sum_to_one(options):
    result = attention_rollout(some_attention(L, B, H, N, N), **options)
    assert result.shape == (B, N, N) and result.min() >= 0
    assert torch.allclose(result.sum(dim=-1), torch.ones(B, N), atol=1e-6)


@VARIANTS
def test_identity_in_every_layer_gives_the_identity(options):
    assert torch.equal(attention_rollout(torch.eye(N).expand(L, B, H, N, N), **options)[1], torch.eye(N))


@VARIANTS
def test_a_batch_gives_what_single_images_give(options):
    attention = some_attention(L, B, H, N, N)
    singles = [attention_rollout(attention[:, i : i + 1], **options) for i in range(B)]
    assert torch.allclose(attention_rollout(attention, **options), torch.cat(singles), atol=1e-7)


@pytest.mark.parametrize("fuse", ["mean", "max", "min"])
def test_uniform_attention_gives_the_analytic_power(fuse):
    """((I + U) / 2) ** L = U + (I - U) / 2 ** L, as U U = U."""
    U = torch.full((N, N), 1 / N)
    result = attention_rollout(U.expand(L, 1, H, N, N), fuse)[0]
    assert torch.allclose(result, U + (torch.eye(N) - U) / 2**L, atol=1e-6)


def test_two_layers_by_hand_the_last_on_the_left():
    first, last = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    result = attention_rollout(torch.stack([first, last])[:, None, None])[0]
    assert torch.allclose(result, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))


def test_discarding_keeps_the_largest_of_each_row_and_fusing_takes_the_heads_extremes():
    row = torch.tensor([0.1, 0.2, 0.3, 0.4])
    attention = torch.stack([row.expand(4, 4), row.flip(0).expand(4, 4)])[None, None]
    kept = 2 * attention_rollout(attention[:, :, :1], discard=0.5)[0] - torch.eye(4)
    assert torch.allclose(kept, torch.tensor([0.0, 0.0, 3 / 7, 4 / 7]).expand(4, 4))
    for fuse, fused in (("max", [0.4, 0.3, 0.3, 0.4]), ("min", [0.1, 0.2, 0.2, 0.1]), ("mean", [0.25] * 4)):
        found = 2 * attention_rollout(attention, fuse)[0] - torch.eye(4)
        assert torch.allclose(found, (torch.tensor(fused) / sum(fused)).expand(4, 4))


def test_heads_that_share_nothing_leave_the_residual_alone():
    attention = torch.stack([torch.eye(N), torch.eye(N).roll(1, 0)]).expand(L, 1, 2, N, N)
    assert torch.equal(attention_rollout(attention, "min")[0], torch.eye(N))


def test_relevance_with_zero_gradients_is_the_identity():
    attention = some_attention(L, B, H, N, N)
    assert torch.equal(relevance(attention, torch.zeros_like(attention)), torch.eye(N).expand(B, N, N))
    assert torch.equal(relevance(attention, -torch.ones_like(attention)), torch.eye(N).expand(B, N, N))


def test_relevance_by_hand_and_not_with_the_layers_reversed():
    attention = some_attention(2, 1, H, N, N)
    gradients = torch.randn(2, 1, H, N, N, generator=torch.Generator().manual_seed(1))
    first, last = (attention * gradients).clamp(min=0).mean(dim=2)[:, 0]
    R = torch.eye(N) + first
    assert torch.allclose(relevance(attention, gradients)[0], R + last @ R, atol=1e-6)
    assert not torch.allclose(relevance(attention, gradients.flip(0))[0], R + last @ R, atol=1e-2)


def test_relevance_of_a_batch_is_that_of_its_images():
    attention, gradients = some_attention(2, L, B, H, N, N)
    singles = [relevance(attention[:, i : i + 1], gradients[:, i : i + 1]) for i in range(B)]
    assert torch.allclose(relevance(attention, gradients), torch.cat(singles), atol=1e-6)


@pytest.mark.parametrize("prefix", [1, 5])
def test_head_maps_are_the_class_tokens_rows_without_class_token_and_registers(prefix):
    attention = some_attention(L, B, H, prefix + 6, prefix + 6)
    maps = head_maps(attention, (2, 3), class_token=True)
    assert maps.shape == (L, B, H, 2, 3)
    assert torch.equal(maps[1, 2, 1, 1, 0], attention[1, 2, 1, 0, prefix + 3])
    assert torch.equal(class_map(attention[1, 2], (2, 3), class_token=True), maps[1, 2])


def test_class_map_without_a_class_token_is_the_mean_of_all_rows():
    weights = some_attention(B, 6, 6)
    assert torch.allclose(class_map(weights, (2, 3)).flatten(1), weights.mean(dim=1))


def test_registers_without_a_class_token_are_no_class_token():
    weights = some_attention(B, 10, 10)
    found = class_map(weights, (2, 3), class_token=False).flatten(1)
    assert torch.allclose(found, weights[:, 4:, 4:].mean(dim=1))
    for function in (class_map, head_maps):
        with pytest.raises(ValueError, match="expected class_token=True or False for 4 tokens besides the patches"):
            function(weights, (2, 3))
    with pytest.raises(ValueError, match="expected a class token, found 10 tokens, all of them patches or registers"):
        head_maps(weights, (2, 3), class_token=False)


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.6, 0.9, 1.0])
def test_mass_is_held_by_the_fewest_patches(mass):
    attention = some_attention(L, B, H, 13, 13)
    kept = head_maps(attention, (3, 4), mass).flatten(-2)
    share = head_maps(attention, (3, 4)).flatten(-2)
    share = share / share.sum(dim=-1, keepdim=True)
    held = (share * kept).sum(dim=-1)
    least = share.masked_fill(~kept, torch.inf).amin(dim=-1)
    assert (held >= mass - 1e-6).all() and (held - least < mass).all()  # enough, and not without the last
    assert (share.masked_fill(kept, 0.0).amax(dim=-1) <= least).all()


def test_half_of_uniform_attention_is_half_of_the_patches():
    assert head_maps(torch.full((1, 1, 1, 17, 17), 1 / 17), (4, 4), 0.5).sum() == 8


def test_distance_by_hand_on_two_by_two_patches():
    """From a corner of a square the four centres are 0, 1, 1 and sqrt 2 patches away."""
    uniform = torch.full((1, 1, 1, 5, 5), 0.2)
    assert attention_distance(uniform, (2, 2), 16).item() == pytest.approx(16 * (2 + math.sqrt(2)) / 4)
    assert attention_distance(torch.eye(5).expand(1, 1, 1, 5, 5), (2, 2), 16).item() == 0
    across = torch.eye(4).flip(0).expand(1, 1, 1, 4, 4)  # every patch looks at the opposite corner
    assert attention_distance(across, (2, 2), 16).item() == pytest.approx(16 * math.sqrt(2))


@pytest.mark.parametrize("grid", [(3, 5), (1, 4), (7, 7)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_distance_of_uniform_attention_is_the_mean_pairwise_distance(grid, prefix):
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    mean = sum(math.dist(a, b) for a in places for b in places) / len(places) ** 2
    N = prefix + len(places)
    distances = attention_distance(torch.full((L, B, H, N, N), 1 / N), grid, 4)
    assert distances.shape == (L, B, H)
    assert torch.allclose(distances, torch.full((L, B, H), 4 * mean), atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: attention_rollout(a, fuse="median"),
        lambda a: attention_rollout(a, discard=1.0),
        lambda a: relevance(a, a[:2]),
        lambda a: relevance(a[0], a[0]),
        lambda a: head_maps(a, (3, 3)),
        lambda a: head_maps(a, (1, 7)),  # no class token
        lambda a: head_maps(a, (2, 3), mass=60),
        lambda a: attention_distance(a, (4, 2), 16),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="expected .*found"):
        call(some_attention(L, B, H, N, N))


def of_timm(**options):
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.models.VisionTransformer(**sizes | options).eval()


REGISTERS = ("register 1", "register 2", "register 3", "register 4")
TOKENS = {  # options of a timm model: the tokens before its patches, and what its head reads
    "class token": ({}, ("class token",), "class token"),
    "registers alone": ({"class_token": False, "reg_tokens": 4, "global_pool": "avg"}, REGISTERS, "patches"),
    "one register": ({"class_token": False, "reg_tokens": 1, "global_pool": "avg"}, ("register 1",), "patches"),
    "both": ({"reg_tokens": 4}, ("class token", *REGISTERS), "class token"),
    "both, patches read": ({"reg_tokens": 4, "global_pool": "avg"}, ("class token", *REGISTERS), "patches"),
    "MAE fine-tuned": ({"global_pool": "avg"}, ("class token",), "patches"),
    "pooled by attention": ({"class_token": False, "global_pool": "map"}, (), "patches"),
}


@pytest.mark.parametrize("options, names, reads", TOKENS.values(), ids=TOKENS)
def test_recorded_attention_knows_what_its_tokens_are(options, names, reads):
    model, images = of_timm(**options), torch.randn(2, 3, 16, 16)
    attention, gradients = record(model, images, "predicted")
    seen = [attention, attention.mean(dim=2), attention[-1].cpu().double(), relevance(attention, gradients)]
    for weights in (*seen, rollout(model, images), attention_rollout(attention)):
        assert weights.tokens == Tokens(names, (2, 2), reads)
        plain, prefix = weights.as_subclass(torch.Tensor), len(names)
        row = plain[..., 0, :] if reads == "class token" else plain[..., prefix:, :].mean(dim=-2)
        assert torch.equal(class_map(weights, (2, 2)).flatten(-2), row[..., prefix:])
    if "class token" in names:
        assert torch.equal(head_maps(attention, (2, 2)), attention[..., 0, len(names) :].unflatten(-1, (2, 2)))
    else:
        with pytest.raises(ValueError, match="expected a class token, found"):
            head_maps(attention, (2, 2))


def test_recorded_attention_is_a_tensor_like_any_other():
    attention = record(of_timm(), torch.randn(2, 3, 16, 16))
    plain = attention.as_subclass(torch.Tensor)
    assert repr(attention) == repr(plain) and f"{attention.sum():.1f}" == f"{plain.sum():.1f}"
    assert copy.deepcopy(attention).tokens == attention.tokens
    file = io.BytesIO()
    torch.save(attention, file)
    assert type(torch.load(io.BytesIO(file.getvalue()))) is torch.Tensor
    assert attention.numpy().sum() == pytest.approx(2 * 2 * 2 * 5, abs=1e-4)
    assert [layer.tokens for layer in attention] == 2 * [attention.tokens]
    assert torch.stack(list(attention)).tokens == attention.tokens
