"""The whole model: its count of parameters, its equality with other libraries, its sizes, its bad input."""

from dataclasses import replace

import pytest
import torch

from vit_tutorial import VisionTransformer, ViTConfig, set_image_size, weights

TINY = ViTConfig(image_size=16, patch_size=4, num_classes=5, embed_dim=24, depth=3, num_heads=3)


def randomise(model, std=0.05):
    """Every parameter away from its initial value, so that none can be mistaken for another."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=std)
    return model


LARGE = [pytest.param(f"{library} B/16", marks=pytest.mark.slow) for library in ("torchvision", "timm")]  # small: alike


@pytest.fixture(params=["torchvision small", "timm small", "timm mean", *LARGE])
def pair(request):
    """Another library's model and ours made from it."""
    library, size = request.param.split()
    if library == "torchvision":
        from torchvision.models.vision_transformer import VisionTransformer as Theirs

        arguments = (224, 16, 12, 12, 768, 3072) if size == "B/16" else (32, 8, 3, 4, 64, 192)
        theirs = randomise(Theirs(*arguments, num_classes=11))
        return theirs, weights.from_torchvision(theirs)
    from timm.models.vision_transformer import VisionTransformer as Theirs

    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4, "mlp_ratio": 3}
    if size == "B/16":
        arguments = {}
    if size == "mean":
        arguments |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    theirs = randomise(Theirs(**arguments, num_classes=11))
    return theirs, weights.from_timm(theirs)


def test_logits_and_gradients_equal_the_other_library(pair):
    theirs, ours = pair
    size = ours.config.image_size
    size = (size, size) if isinstance(size, int) else size
    images = torch.randn(2, 3, *size)
    expected = theirs.eval()(images)
    found = ours.eval()(images)
    assert (found - expected).abs().max() <= 1e-5
    labels = torch.tensor([3, 7])
    for logits in (expected, found):
        torch.nn.functional.cross_entropy(logits, labels).backward()
    converter = weights.from_torchvision if hasattr(theirs, "heads") else weights.from_timm
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    gradients = dict(converter(theirs).named_parameters())  # their gradients under our names
    for name, parameter in ours.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() <= 1e-5, name


def test_vit_b16_has_the_published_number_of_parameters():
    model = VisionTransformer(ViTConfig())
    assert sum(p.numel() for p in model.parameters()) == 86_567_656


def test_attention_maps_are_those_of_the_forward_pass():
    model = randomise(VisionTransformer(TINY), std=0.3).eval()
    images = torch.randn(2, 3, 16, 16)
    maps = model.attention_maps(images)
    assert maps.shape == (3, 2, 3, 17, 17)
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 2, 3, 17))
    x = model.embed(images)
    for i, block in enumerate(model.blocks):
        torch.testing.assert_close(maps[i], block.attn(block.norm1(x), return_attention=True)[1])
        x = block(x)
    torch.testing.assert_close(model.head(model.norm(x)[:, 0]), model(images))


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_non_square_images_every_pool_and_position(pool, position):
    config = replace(TINY, image_size=(16, 24), pool=pool, position=position)
    model = VisionTransformer(config)
    assert model(torch.randn(1, 3, 16, 24)).shape == (1, 5)
    assert model.pos_embed.shape == (1, 24 + (pool == "cls"), 24)
    assert model.pos_embed.requires_grad == (position == "learned")
    assert (model.cls_token is None) == (pool == "mean")


def test_only_positions_tell_a_shuffled_image_from_the_image():
    images = torch.randn(2, 3, 16, 16).double()
    shuffled = images.reshape(2, 3, 4, 4, 16).flip(2).reshape(2, 3, 16, 16)  # rows of patches upside down
    for position, same in (("none", True), ("learned", False), ("sinusoidal", False)):
        model = VisionTransformer(replace(TINY, position=position))
        for name, parameter in model.named_parameters():
            if name != "pos_embed" or position == "learned":
                parameter.data.normal_(std=0.3)
        model.double().eval()
        assert torch.allclose(model(images), model(shuffled), atol=1e-9) == same, position


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_set_image_size_interpolates_positions(position):
    model = VisionTransformer(replace(TINY, position=position))
    before = model.pos_embed.clone()
    set_image_size(model, (24, 32))
    assert model.config.image_size == (24, 32)
    assert model.pos_embed.shape == (1, 1 + 6 * 8, 24)
    assert torch.equal(model.pos_embed[:, :1], before[:, :1])
    assert model.pos_embed.requires_grad == (position == "learned")
    assert model(torch.randn(1, 3, 24, 32)).shape == (1, 5)
    with pytest.raises(ValueError, match="found 16 x 16"):
        model(torch.randn(1, 3, 16, 16))


def test_class_names_of_state_dict_are_timms():
    from timm.models.vision_transformer import VisionTransformer as Timm

    timm = Timm(img_size=16, patch_size=4, embed_dim=24, depth=3, num_heads=3, num_classes=5).state_dict()
    ours = VisionTransformer(TINY).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in timm.items()}


def test_drop_path_grows_with_depth():
    model = VisionTransformer(replace(TINY, drop_path=0.2))
    assert [round(block.drop_path.rate, 3) for block in model.blocks] == [0.0, 0.1, 0.2]


BAD_CONFIG = {
    "patch": ({"patch_size": 5}, "multiples of the patch size 5"),
    "heads": ({"num_heads": 5}, "divides the width 24, found 5"),
    "depth": ({"depth": 0}, "depth to be an integer of at least 1, found 0"),
    "classes": ({"num_classes": 2.5}, "num_classes to be an integer"),
    "dropout": ({"dropout": 1.0}, r"probability in \[0, 1\), found 1.0"),
    "drop path": ({"drop_path": -0.1}, "drop_path"),
    "pool": ({"pool": "max"}, r"pool to be one of \('cls', 'mean'\), found 'max'"),
    "position": ({"position": "rotary"}, "found 'rotary'"),
    "sinusoidal width": ({"position": "sinusoidal", "embed_dim": 6}, "multiple of 4"),
    "mean": ({"mean": (0.5,)}, "expected 3 values in mean"),
    "names": ({"classes": ("cat", "dog")}, "expected 5 class names, found 2"),
}


@pytest.mark.parametrize("change, message", BAD_CONFIG.values(), ids=BAD_CONFIG.keys())
def test_bad_config_is_told_what_was_expected(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
