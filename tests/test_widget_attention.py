"""AttentionExplorer: what it takes, what it sends to the page, and the picture that stands in for it."""

import base64
import math

import numpy as np
import pytest
import torch

from vit_tutorial import VisionTransformer, ViTConfig, normalise
from vit_tutorial.interpret import attention_rollout
from vit_tutorial.widgets import AttentionExplorer
from vit_tutorial.widgets.attention import tokens_for

CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def sent(explorer):
    """The attention weights (L, B, H, N, N) as the page decodes them."""
    L, B, H, N = explorer.shape
    if not explorer.scales:
        return torch.from_numpy(np.frombuffer(explorer.weights, "<f4").reshape(L, B, H, N, N).copy())
    coded = torch.from_numpy(np.frombuffer(explorer.weights, np.uint8).reshape(L, B, H, N, N).astype(np.float32))
    highest = torch.from_numpy(np.frombuffer(explorer.scales, "<f4").reshape(L, B, H, N, 1).copy())
    return coded / 255 * highest


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_model_and_tensor_say_the_same(images, pool):
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(**(vars(CONFIG) | {"pool": pool}))).eval()
    attention = model.attention_maps(normalise(images, model.config)).detach()
    explorer = AttentionExplorer(model, images)
    assert torch.equal(sent(explorer), attention)
    assert explorer.grid == [2, 3] and explorer.shape == [2, 2, 2, 6 + (pool == "cls")]
    assert torch.equal(sent(AttentionExplorer(attention, images)), attention)
    assert torch.equal(sent(AttentionExplorer(attention[:, 0], images[:1])), attention[:, :1])
    pixels = np.frombuffer(explorer.pixels, np.uint8).reshape(2, 8, 12, 3)
    assert np.array_equal(pixels, images.permute(0, 2, 3, 1).numpy())


def test_large_weights_travel_in_8_bits_within_a_fifth_of_a_per_cent():
    attention = torch.randn(4, 1, 4, 197, 197).mul(4).softmax(dim=-1)
    explorer = AttentionExplorer(attention, torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert len(explorer.weights) == attention.numel()
    error = (sent(explorer) - attention).abs() / attention.amax(dim=-1, keepdim=True)
    assert error.max() <= 1 / 510 + 1e-6


def test_views_can_be_set_and_two_images_stand_side_by_side(images):
    explorer = AttentionExplorer(torch.full((2, 2, 2, 7, 7), 1 / 7), images, query=3, head=1, layer=0)
    assert (explorer.layer, explorer.head, explorer.query, explorer.left, explorer.right) == (0, 1, 3, 0, 1)
    assert AttentionExplorer(torch.full((2, 1, 2, 7, 7), 1 / 7), images[:1]).right == -1


@pytest.mark.parametrize(
    ("attention", "count", "options", "message"),
    [
        ((2, 3, 2, 7, 7), 2, {}, r"for B = 2 images, found \(2, 3, 2, 7, 7\)"),
        ((2, 2, 7, 7), 2, {}, r"for B = 2 images, found \(2, 1, 2, 7, 7\)"),
        ((2, 2, 2, 5, 5), 2, {}, "as many tokens as an image of 8 x 12 pixels has square patches.* found 5; pass the"),
        ((2, 2, 2, 7, 7), 2, {"titles": ["one"]}, "2 images, found 2 pictures and 1 titles"),
        ((2, 2, 2, 7, 7), 0, {}, "expected uint8 images .* a single image becomes a batch"),
    ],
)
def test_what_does_not_fit_is_refused(images, attention, count, options, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(torch.rand(attention), images[:count] if count else images[0], **options)
    with pytest.raises(ValueError, match="found torch.float32"):
        AttentionExplorer(torch.rand(2, 2, 2, 7, 7), images.float())


@pytest.mark.parametrize(
    ("tokens", "size", "grid"), [(197, (224, 224), (14, 14)), (196, (224, 224), (14, 14)), (7, (8, 12), (2, 3))]
)
def test_grid_follows_from_the_number_of_tokens(tokens, size, grid):
    assert tokens_for(torch.empty(1, tokens, tokens), size).grid == grid


@pytest.mark.parametrize("query", [0, 4])
@pytest.mark.parametrize("head", [-2, -1, 1])
def test_a_picture_stands_in_without_an_address(images, query, head):
    explorer = AttentionExplorer(torch.rand(2, 2, 2, 7, 7).softmax(dim=-1), images, query=query, head=head)
    data, metadata = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "AttentionExplorer(2 images, 2 layers, 2 heads, 7 tokens)"
    token = "class token" if query == 0 else "patch in row 2 and column 1"
    assert metadata["image/png"]["alt"].startswith(f"Where the {token} looks in layer 2: ")


def test_the_stand_in_shows_the_query_row(images):
    attention = torch.rand(2, 2, 2, 7, 7).softmax(dim=-1)
    fig, _ = AttentionExplorer(attention, images, query=5, layer=0).figure()
    tiles = fig.axes[1]
    maps = {text.get_text(): image.get_array() for text, image in zip(tiles.texts, tiles.images, strict=True)}
    reached = (attention[0, 0].mean(0) + torch.eye(7)) / 2
    for name, row in {
        "head 2": attention[0, 0, 1, 5],
        "mean": attention[0, 0, :, 5].mean(0),
        "rollout": reached[5],
    }.items():
        np.testing.assert_allclose(maps[name], row[1:].reshape(2, 3), rtol=1e-5)


def test_titles_stand_in_the_still_as_they_are(images):
    fig, alt = AttentionExplorer(torch.rand(2, 2, 2, 7, 7), images, titles=["$x$", "<b>"]).figure()
    assert [ax.get_title() for ax in fig.axes[::2]] == ["$x$: layer 2, mean", "<b>: layer 2, mean"]
    assert not any(ax.title.get_parse_math() for ax in fig.axes[::2])
    assert alt.startswith("$x$: <b>: Where the class token looks")


def test_rollout_of_one_layer_and_of_uniform_attention():
    attention = torch.rand(3, 2, 4, 6, 6).softmax(dim=-1)
    rollout = attention_rollout(attention)
    assert rollout.shape == (2, 6, 6)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 6))
    torch.testing.assert_close(attention_rollout(attention[:1]), (attention[0].mean(1) + torch.eye(6)) / 2)
    # Uniform attention keeps half of the token at each layer and spreads the rest evenly.
    kept = attention_rollout(torch.full((3, 1, 1, 6, 6), 1 / 6))[0]
    assert math.isclose(kept[0, 0] - kept[0, 1], 1 / 8, abs_tol=1e-6)
