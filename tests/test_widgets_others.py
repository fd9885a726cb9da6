"""Explorers on other libraries' models, wrapped, of 16 bits, with registers; on images of one, two and four channels.

What each shows is compared with `interpret.record` and with the model itself.
"""

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, interpret, normalise, weights
from vit_tutorial.widgets import AttentionExplorer, EncoderStepper, PatchExplorer, PositionExplorer

SIZES = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def ours(**options):
    return VisionTransformer(ViTConfig(image_size=16, **SIZES | options)).eval()


def of_timm(**options):
    return timm.models.VisionTransformer(img_size=16, **SIZES | options).eval()


def of_torchvision():
    return torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3).eval()


def of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, intermediate_size=32)).eval()


def dinov3(name="dinov3"):
    return timm.create_model(f"vit_small_patch16_{name}", depth=2, img_size=32, embed_dim=64, num_heads=2).eval()


PLAIN = {  # those that EncoderStepper shows too
    "ours": ours,
    "compiled and parallel": lambda: torch.compile(nn.DataParallel(ours())),
    "bfloat16": lambda: ours().bfloat16(),
    "timm": of_timm,
    "torchvision": of_torchvision,
    "transformers": of_transformers,
}
REGISTERS = tuple(f"register {i + 1}" for i in range(4))
OTHERS = {
    "timm, half": (lambda: of_timm().half(), ("class token",)),
    "timm, registers": (lambda: of_timm(class_token=False, reg_tokens=4, global_pool="avg"), REGISTERS),
    "timm, class token and registers": (
        lambda: of_timm(reg_tokens=4, no_embed_class=True),
        ("class token", *REGISTERS),
    ),
    "timm, MAE fine-tuned": (lambda: of_timm(global_pool="avg"), ("class token",)),
    "DINOv3": (dinov3, ("class token", *REGISTERS)),
}


def pictures(size=16, channels=3):
    return torch.randint(
        0, 256, (2, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def sent(explorer):
    L, B, H, N = explorer.shape
    return torch.from_numpy(np.frombuffer(explorer.weights, "<f4").reshape(L, B, H, N, N).copy())


@pytest.mark.parametrize(
    "make, names", [*((make, ("class token",)) for make in PLAIN.values()), *OTHERS.values()], ids=[*PLAIN, *OTHERS]
)
def test_attention_is_what_record_gives(make, names):
    model = make()
    images = pictures(32 if "reg" in str(names) and hasattr(model, "rope") else 16)
    inside = weights.unwrapped(model)
    statistics = weights.as_ours(inside).config if type(inside).__module__[:4] in ("tran", "torc") else None
    expected = interpret.record(model, normalise(images, statistics or weights.statistics(inside)))
    explorer = AttentionExplorer(model, images, query=len(names) - 1)
    assert tuple(explorer.prefix) == names and explorer.grid == [2, 2]
    torch.testing.assert_close(sent(explorer), expected.float().as_subclass(torch.Tensor), rtol=1e-5, atol=1e-6)
    _, alt = explorer.figure()
    assert alt.startswith(f"Where {names[-1] if names[-1][-1].isdigit() else 'the class token'} looks in layer 2: ")


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_the_stepper_ends_with_the_models_own_logits(make):
    model, images = make(), pictures()
    stepper = EncoderStepper(model, images[0])
    theirs = weights.unwrapped(model)
    with torch.no_grad():
        pixels = normalise(images[:1], weights.as_ours(theirs).config).to(next(theirs.parameters()).dtype)
        answer = theirs(pixels)
    found = stepper._values[stepper.names.index("logits")]
    rounding = torch.finfo(pixels.dtype).eps  # of 16 bits, sums of another order end a step apart
    answer = getattr(answer, "logits", answer)[0].float()
    torch.testing.assert_close(found, answer, rtol=max(1e-4, 4 * rounding), atol=max(1e-5, rounding / 4))


@pytest.mark.parametrize("make", [*PLAIN.values(), OTHERS["timm, registers"][0]], ids=[*PLAIN, "timm, registers"])
def test_positions_are_those_of_position_similarity(make):
    model = make()
    explorer = PositionExplorer(model)
    expected = interpret.position_similarity(model).flatten(2).flatten(0, 1)
    torch.testing.assert_close(explorer._similarities("learned"), expected, rtol=1e-4, atol=1e-5)
    vectors = torch.from_numpy(np.frombuffer(explorer.vectors, "<f4").reshape(4, -1).copy())
    assert vectors.shape == (4, 4)  # as many places, in as many dimensions


WRONG = {
    "no ViT": (lambda: AttentionExplorer(nn.Linear(2, 2), pictures()), "expected a VisionTransformer .* found Linear"),
    "no ViT, steps": (
        lambda: EncoderStepper(nn.Linear(2, 2), pictures()[0]),
        "expected a VisionTransformer .* found L",
    ),
    "another size": (lambda: AttentionExplorer(of_timm(), pictures(24)), "expected images of 16 x 16 pixels, found 24"),
    "steps, registers": (lambda: EncoderStepper(of_timm(reg_tokens=2), pictures()[0]), "found a ModernViT; Attention"),
    "steps, patches read": (
        lambda: EncoderStepper(of_timm(global_pool="avg"), pictures()[0]),
        "found one that reads the patches .*; AttentionExplorer shows it",
    ),
    "rotary": (lambda: PositionExplorer(dinov3("rope_mixed_224")), "all blocks share .* found position='rotary'"),
    "one channel alone": (
        lambda: AttentionExplorer(ours(in_channels=1, mean=(0.5,), std=(0.5,)), pictures()),
        "1 chan",
    ),
    "two channels": (lambda: AttentionExplorer(ours(), pictures(channels=2)), "one channel, three or more, found 2"),
    "steps, two channels": (lambda: EncoderStepper(ours(), pictures(channels=2)[0]), "three or more, found 2"),
    "patches, two channels": (lambda: PatchExplorer(pictures(channels=2)[0], 8), "three or more, found 2"),
}


@pytest.mark.parametrize("call, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_shown_is_a_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [ours, of_timm])
def test_of_four_channels_three_are_shown_and_that_is_said(make):
    model, images = make(), pictures(channels=4)
    for show, four, three in (
        (lambda x: AttentionExplorer(model, x), images, images[:, :3]),
        (lambda x: AttentionExplorer(torch.rand(2, 2, 2, 5, 5).softmax(-1), x), images, images[:, :3]),
        (lambda x: EncoderStepper(model, x), images[0], images[0, :3]),
        (lambda x: PatchExplorer(x, 8), images[0], images[0, :3]),
    ):
        with pytest.warns(UserWarning, match="of 4 channels the first three are taken as red, green") as said:
            found = show(four)
        assert found.pixels == show(three).pixels and all(warning.filename == __file__ for warning in said)
    assert sent(AttentionExplorer(model, images[:, :3])).equal(sent(AttentionExplorer(model, images[:, :3])))


def test_grey_pictures_are_shown_grey_and_a_model_of_four_channels_sees_all_four():
    grey = pictures(channels=1)
    for explorer in (AttentionExplorer(ours(), grey), EncoderStepper(ours(), grey[0]), PatchExplorer(grey[0], 8)):
        seen = np.frombuffer(explorer.pixels, np.uint8).reshape(-1, 3)
        assert (seen[:, 0] == seen[:, 1]).all() and (seen[:, 0] == seen[:, 2]).all()
    model, four = ours(in_channels=4, mean=(0.5,) * 4, std=(0.5,) * 4), pictures(channels=4)
    with pytest.warns(UserWarning, match="of 4 channels"):
        explorer = AttentionExplorer(model, four)
    assert torch.equal(sent(explorer), model.attention_maps(normalise(four, model.config)))


@pytest.mark.parametrize("extra", [0, 1, 2, 4, 5])
def test_plain_weights_with_tokens_before_the_patches(extra):
    attention = torch.rand(2, 2, 2, 16 + extra, 16 + extra).softmax(dim=-1)
    explorer = AttentionExplorer(attention, pictures(16), query=0)
    assert explorer.grid == [4, 4]
    assert explorer.prefix == (["class token"] if extra == 1 else [f"extra token {i + 1}" for i in range(extra)])
    explorer.figure()


def test_recorded_weights_know_their_grid_and_names():
    model = of_timm(class_token=False, reg_tokens=4, global_pool="avg")
    attention = interpret.record(model, torch.randn(2, 3, 16, 16))
    explorer = AttentionExplorer(attention[:, :1], pictures()[:1])
    assert explorer.prefix == list(REGISTERS) and explorer.grid == [2, 2]
