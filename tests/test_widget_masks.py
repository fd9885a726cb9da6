"""MaskExplorer: what it takes, what it sends, the picture in its place; the page computes what torch does."""

import base64
import re

import pytest
import torch
from front_ends import browser, watched_page

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, ViTConfig, datasets, normalise, plots
from vit_tutorial.layers import patchify
from vit_tutorial.training import mae
from vit_tutorial.widgets import MaskExplorer, masks
from vit_tutorial.widgets.explorer import module

SMALL = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "pool": "mean"}
PICTURES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(decoder=(16, 1), normalise=False, kind=VisionTransformer, **options):
    torch.manual_seed(0)
    config = (ModernConfig if kind is ModernViT else ViTConfig)(**SMALL | options)
    autoencoder = mae.MaskedAutoencoder(kind(config), 0.5, *decoder, normalise=normalise)
    for parameter in autoencoder.parameters():
        torch.nn.init.normal_(parameter.data, std=0.1)
    return autoencoder


def numbers(buffer):
    return torch.frombuffer(bytearray(buffer), dtype=torch.float32)


# ------------------------------------------------------------------------------------------------ the page's numbers


@pytest.fixture(scope="module")
def page():
    with browser() as running:
        page = watched_page(running)
        page.add_script_tag(content=module("mae.js"))
        yield page


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": 4, "embed_dim": 96, "depth": 4, "mlp_ratio": 2.0, "decoder": (64, 1)},  # as the course ships
        {"image_size": (16, 24), "pool": "cls", "position": "sinusoidal", "decoder": (32, 2)},
        {"embed_dim": 36, "num_heads": 2, "mlp_ratio": 1.5, "position": "none"},
    ],
    ids=["shipped", "class token", "odd widths"],
)
def test_the_page_computes_what_torch_does(page, options):
    autoencoder = make(**options).eval()
    N, P, rows = autoencoder.N, autoencoder.vit.config.patch_size, autoencoder.vit.config.grid[0]
    images = torch.randn(1, 3, rows * P, N // rows * P)
    numbers = [x.flatten().tolist() for x in (masks.numbers_of(autoencoder), patchify(images, P))]
    page.evaluate(
        """([sizes, weights, patches]) => {
          const model = new Autoencoder(sizes, Float32Array.from(weights));
          window.answer = (hidden) => [...model.reconstruct(Float32Array.from(patches), new Set(hidden))];
        }""",
        [masks.sizes_of(autoencoder), *numbers],
    )
    for count in (0, 1, N // 2, N - 1):
        hidden = torch.zeros(1, N, dtype=torch.bool)
        hidden[0, torch.randperm(N)[:count]] = True
        found = torch.tensor(page.evaluate("(hidden) => answer(hidden)", hidden[0].nonzero().flatten().tolist()))
        wanted = autoencoder.reconstruct(images, hidden)[0]
        torch.testing.assert_close(found.reshape(wanted.shape), wanted, atol=2e-5, rtol=0)


# ------------------------------------------------------------------------------------------------ what is sent


def test_pictures_and_weights_are_sent_once_and_whole():
    autoencoder = make(dropout=0.5).double()
    explorer = MaskExplorer(autoencoder, PICTURES)
    wanted = patchify(normalise(PICTURES, autoencoder.vit.config), 8)
    assert numbers(explorer.patches).equal(wanted.flatten())
    parameters = sum(p.numel() for name, p in autoencoder.named_parameters() if "head" not in name)
    places = autoencoder.decoder.pos_embed.numel()
    assert len(explorer.weights) == 4 * (parameters + places)
    assert explorer.hidden == sorted(set(explorer.hidden)) and len(explorer.hidden) == 12
    assert explorer.patch in explorer.hidden
    assert autoencoder.training and autoencoder.decoder.pos_embed.dtype == torch.float64  # left as it was
    alt = explorer.figure()[1]
    with torch.no_grad():
        autoencoder.decoder.pred.weight += 1
    assert explorer.figure()[1] == alt  # the page's model and the picture's are one


def test_the_shipped_model_does_better_than_the_mean_colour():
    explorer = MaskExplorer()
    assert repr(explorer) == "MaskExplorer(3 pictures, 8 x 8 patches)" and len(explorer.hidden) == 48
    assert len(explorer.weights) < 2_000_000
    for explorer.image in range(3):
        model, colour = map(float, re.findall(r"\d+\.\d{3}", explorer.figure()[1]))
        assert model < 0.8 * colour


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("autoencoder", "images", "message"),
    [
        (make().vit, PICTURES, "expected a training.mae.MaskedAutoencoder .*, found VisionTransformer; mae.load"),
        (make(kind=ModernViT), PICTURES, "found MaskedAutoencoder of a ModernViT"),
        (make(normalise=True), PICTURES, "found one of normalised patches; train it with normalise=False"),
        (make(in_channels=1, mean=(0.5,), std=(0.5,)), PICTURES[:, :1], "of colour pictures, found 1 channels"),
        (make(), PICTURES / 255, r"expected uint8 images \(B, 3, Y, X\), found torch.float32"),
        (make(), "cat.png", "found str"),
        (make(), PICTURES[0], r"add the batch axis with images\[None\]"),
        (make(), PICTURES[..., :16], "expected images of 32 x 32 pixels, found 32 x 16"),
        (make(), PICTURES[:, :2], "expected 3 channels, found 2"),
        (make(), PICTURES[:0], "expected 1 to 12 images, found 0"),
        (make(), PICTURES.repeat(7, 1, 1, 1), "expected 1 to 12 images, found 14; choose some"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(autoencoder, images, message):
    with pytest.raises(ValueError, match=message) as caught:
        MaskExplorer(autoencoder, images)
    assert "\n" not in str(caught.value)


def test_view_can_be_read_and_set():
    explorer = MaskExplorer(make(), PICTURES, hidden=[3, 1], image=1, share=50)
    assert (explorer.hidden, explorer.image, explorer.share) == ([3, 1], 1, 50)
    explorer.set_state({"hidden": [2, 5], "patch": 5, "image": 0})  # as the page does it
    assert (explorer.hidden, explorer.patch, explorer.image) == ([2, 5], 5, 0)
    for name, bad, message in (
        ("hidden", [16], r"from 0 to 15, each once and not all of them, found \[16\]"),
        ("hidden", [1, 1], "each once"),
        ("hidden", list(range(16)), "not all of them"),
        ("image", 2, "expected image from 0 to 1, found 2"),
        ("patch", -1, "expected patch from 0 to 15, found -1"),
        ("share", 52, "expected a share of 5, 10, ... or 95 percent, found 52"),
    ):
        before = getattr(explorer, name)
        with pytest.raises(ValueError, match=message):
            setattr(explorer, name, bad)
        assert getattr(explorer, name) == before
    assert len(MaskExplorer(make(), PICTURES, share=25).hidden) == 4


# ------------------------------------------------------------------------------------------------ without a page


def test_the_picture_says_what_the_loss_is():
    autoencoder, images = make(pool="cls").eval(), datasets.shapes("test", 2).images
    explorer = MaskExplorer(autoencoder, images, image=1)
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, explorer.hidden] = True
    inputs = normalise(images[1:], autoencoder.vit.config)
    targets = patchify(inputs, 8)
    loss = autoencoder.loss(inputs, *mae.masking_of(hidden)).detach()
    colour = targets[0, ~hidden[0]].reshape(-1, 3, 64).mean(dim=(0, 2)).repeat_interleave(64)
    guess = (targets[0, hidden[0]] - colour).square().mean()
    figure, alt = explorer.figure()
    assert alt.endswith(f"mean squared error there {loss:.3f}, of the mean colour {guess:.3f}.")
    assert "4 x 4 patches, 12 of them covered" in alt
    first = plots.png(figure)
    explorer.hidden = []
    figure, alt = explorer.figure()
    assert alt.endswith("nothing is covered.") and plots.png(figure) != first
    data, metadata = explorer._repr_mimebundle_()
    assert data["text/plain"] == "MaskExplorer(2 pictures, 4 x 4 patches)" == repr(explorer)
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG" and metadata["image/png"]["alt"] == alt
