"""The parts of a ViT: shapes, values against an independent computation, and what bad input is told."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn

from vit_tutorial import (
    MLP,
    DropPath,
    EncoderBlock,
    MultiHeadAttention,
    PatchEmbedding,
    grid_size,
    interpolate_positions,
    patchify,
    sinusoidal_positions,
    unpatchify,
)

SIZES = st.integers(1, 4)


@settings(max_examples=50, deadline=None)
@given(B=SIZES, C=SIZES, rows=SIZES, columns=SIZES, P=st.integers(1, 5))
def test_patchify_has_an_inverse_and_goes_row_by_row(B, C, rows, columns, P):
    images = torch.arange(B * C * rows * P * columns * P).reshape(B, C, rows * P, columns * P)
    tokens = patchify(images, P)
    assert tokens.shape == (B, rows * columns, C * P * P)
    for n in range(rows * columns):
        i, j = divmod(n, columns)
        patch = images[:, :, i * P : (i + 1) * P, j * P : (j + 1) * P]
        assert torch.equal(tokens[:, n], patch.reshape(B, -1))
    assert torch.equal(unpatchify(tokens, P, (rows * P, columns * P)), images)


def test_patch_embedding_is_patchify_and_a_linear_layer():
    embedding = PatchEmbedding((12, 20), 4, in_channels=2, embed_dim=8).double()
    images = torch.randn(3, 2, 12, 20).double()
    expected = F.linear(patchify(images, 4), embedding.proj.weight.flatten(1), embedding.proj.bias)
    assert embedding(images).shape == (3, 15, 8)
    torch.testing.assert_close(embedding(images), expected)


def test_grid_size_counts_rows_then_columns():
    assert grid_size(224, 16) == (14, 14)
    assert grid_size((32, 64), 8) == (4, 8)


def test_sinusoidal_positions_hold_sines_of_column_and_row():
    pos = sinusoidal_positions(16, (3, 5))[0].reshape(3, 5, 16)
    torch.testing.assert_close(pos[2, 3, 0], torch.tensor(3.0).sin())  # highest frequency, column 3
    torch.testing.assert_close(pos[2, 3, 12], torch.tensor(2.0).cos())  # highest frequency, row 2
    assert torch.equal(pos[0, 1, 8:], pos[0, 4, 8:])  # one row shares the row part
    assert pos.flatten(0, 1).unique(dim=0).shape[0] == 15  # every place is another vector


@pytest.mark.parametrize("old, new, extra", [((14, 14), (24, 24), 1), ((8, 8), (5, 11), 0), ((6, 4), (3, 9), 1)])
def test_interpolated_positions_are_timms(old, new, extra):
    from timm.layers import resample_abs_pos_embed

    pos = torch.randn(1, old[0] * old[1] + extra, 12)
    expected = resample_abs_pos_embed(pos, list(new), list(old), num_prefix_tokens=extra)
    torch.testing.assert_close(interpolate_positions(pos, old, new), expected)
    assert torch.equal(interpolate_positions(pos, old, new)[:, :extra], pos[:, :extra])


def test_interpolating_to_the_same_grid_changes_nothing():
    pos = torch.randn(1, 17, 8)
    torch.testing.assert_close(interpolate_positions(pos, (4, 4), (4, 4)), pos)


@pytest.mark.parametrize("B, N, D, H", [(2, 5, 12, 3), (1, 1, 8, 1), (3, 17, 16, 16)])
def test_attention_equals_torchs_own(B, N, D, H):
    attention = MultiHeadAttention(D, H).double()
    x = torch.randn(B, N, D).double()
    out, weights = attention(x, return_attention=True)
    q, k, v = F.linear(x, attention.qkv.weight, attention.qkv.bias).chunk(3, dim=-1)
    q, k, v = (t.reshape(B, N, H, D // H).transpose(1, 2) for t in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D)
    torch.testing.assert_close(out, attention.proj(mixed))
    torch.testing.assert_close(attention(x), out)
    reference = nn.MultiheadAttention(D, H, batch_first=True).double()
    reference.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight,
            "in_proj_bias": attention.qkv.bias,
            "out_proj.weight": attention.proj.weight,
            "out_proj.bias": attention.proj.bias,
        }
    )
    expected, expected_weights = reference(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights, expected_weights)


def test_returned_attention_is_what_was_used():
    attention = MultiHeadAttention(12, 3).double()
    x = torch.randn(2, 7, 12).double()
    out, weights = attention(x, return_attention=True)
    v = attention.qkv(x)[..., 24:].reshape(2, 7, 3, 4).transpose(1, 2)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7).double())
    torch.testing.assert_close(attention.proj((weights @ v).transpose(1, 2).reshape(2, 7, 12)), out)


def test_attention_does_not_know_the_order_of_tokens():
    attention, x, order = MultiHeadAttention(12, 3).double(), torch.randn(2, 9, 12).double(), torch.randperm(9)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])


def test_mlp_treats_every_token_alone():
    mlp, x = MLP(8, 32), torch.randn(2, 5, 8)
    torch.testing.assert_close(mlp(x)[:, 3], mlp(x[:, 3:4])[:, 0])
    expected = F.linear(F.gelu(F.linear(x, mlp.fc1.weight, mlp.fc1.bias)), mlp.fc2.weight, mlp.fc2.bias)
    torch.testing.assert_close(mlp(x), expected)


def test_drop_path_leaves_out_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(8000, 2, 3)
    out = drop(x)
    kept = out[:, 0, 0] > 0
    assert torch.equal(out, kept[:, None, None] * x / 0.75)  # all or nothing, rescaled
    assert abs(kept.float().mean() - 0.75) < 0.02
    assert torch.equal(drop.eval()(x), x)


def test_encoder_block_is_two_residual_branches():
    block, x = EncoderBlock(12, 3, mlp_ratio=2.0).double(), torch.randn(2, 5, 12).double()
    half = x + block.attn(block.norm1(x))
    torch.testing.assert_close(block(x), half + block.mlp(block.norm2(half)))
    out, weights = block(x, return_attention=True)
    torch.testing.assert_close(out, block(x))
    torch.testing.assert_close(weights, block.attn(block.norm1(x), return_attention=True)[1])


def test_dropout_and_drop_path_act_in_training_only():
    torch.manual_seed(0)
    block, x = EncoderBlock(12, 3, dropout=0.5, drop_path=0.5), torch.randn(4, 5, 12)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


IMAGE = torch.zeros(1, 3, 8, 8)
BAD_INPUT = {  # what is called -> what its message must say
    "patch does not divide": (lambda: patchify(IMAGE, 3), "multiples of the patch size 3, found 8 x 8; .* to 6 x 6"),
    "patch larger than image": (lambda: patchify(IMAGE, 16), "found 8 x 8"),
    "patch of zero": (lambda: patchify(IMAGE, 0), "at least 1 pixel, found 0"),
    "patch not an integer": (lambda: grid_size(8, 2.0), "at least 1 pixel, found 2.0"),
    "no batch axis": (lambda: patchify(IMAGE[0], 4), r"found shape \(3, 8, 8\); add the batch axis"),
    "five axes": (lambda: patchify(IMAGE[None], 4), r"expected a batch of images"),
    "wrong channels": (lambda: PatchEmbedding(8, 4, 1, 8)(IMAGE), "expected 1 channels, found 3"),
    "channels last": (lambda: PatchEmbedding(8, 4, 3, 8)(IMAGE.permute(0, 2, 3, 1)), r"images.permute\(0, 3, 1, 2\)"),
    "wrong image size": (lambda: PatchEmbedding(16, 4, 3, 8)(IMAGE), "expected images of 16 x 16 pixels, found 8 x 8"),
    "tokens with class token": (lambda: unpatchify(torch.zeros(1, 5, 48), 4, 8), "drop any class token"),
    "tokens of another patch size": (lambda: unpatchify(torch.zeros(1, 4, 50), 4, 8), r"\(B, 4, C\*16\)"),
    "heads do not divide": (
        lambda: MultiHeadAttention(12, 5),
        r"divides the width 12, found 5; choose one of \[1, 2",
    ),
    "no heads": (lambda: MultiHeadAttention(12, 0), "found 0"),
    "odd sinusoidal width": (lambda: sinusoidal_positions(6, (2, 2)), "multiple of 4 .*, found 6"),
    "positions of another grid": (lambda: interpolate_positions(torch.zeros(1, 9, 4), (2, 2), (4, 4)), "found 9"),
}


@pytest.mark.parametrize("call, message", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_told_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
