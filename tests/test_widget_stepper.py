"""EncoderStepper: what it sends is what the model computes, at every stage."""

import base64
import inspect

import pytest
import torch

from vit_tutorial import VisionTransformer, ViTConfig, datasets, layers, model, normalise, weights
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.widgets import EncoderStepper, stepper

SMALL = {"image_size": (16, 24), "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


def make(**changes):
    torch.manual_seed(0)
    vit = VisionTransformer(ViTConfig(**SMALL | changes)).eval()
    Y, X = vit.config.patch_size * vit.config.grid[0], vit.config.patch_size * vit.config.grid[1]
    return vit, torch.randint(0, 256, (3, Y, X), dtype=torch.uint8)


def numbers(buffer):
    return torch.frombuffer(bytearray(buffer), dtype=torch.float32)


def sent(explorer):
    """The values `(rows, columns)` of each stage as the page has them; None for the image and attention weights."""
    data, found = numbers(explorer.data), []
    for s in explorer.stages:
        if s["kind"] == "sum":
            found.append(found[s["before"]] + found[-1])
        elif "rows" in s:
            found.append(data[s["at"] : s["at"] + s["rows"] * s["columns"]].reshape(s["rows"], s["columns"]))
        else:
            found.append(None)
    return found


def hooked(vit, images):
    """What forward hooks see of each stage, `(block, name) -> values`."""
    seen, handles = {}, []

    def see(module, block, name, what=lambda inputs, output: output):
        handles.append(module.register_forward_hook(lambda _, i, o: seen.update({(block, name): what(i, o)[0]})))

    see(vit.patch_embed, -1, "tokens")
    see(vit.pos_drop, -1, "+ positions")
    for b, block in enumerate(vit.blocks):
        see(block.norm1, b, "norm 1")
        see(block.attn, b, "mixture", lambda _, output: output[0])
        see(block.norm2, b, "+ mixture", lambda inputs, _: inputs[0])
        see(block.norm2, b, "norm 2")
        see(block.mlp.act, b, "MLP, hidden")
        see(block.mlp, b, "MLP")
        see(block, b, "+ MLP", lambda _, output: output[0])
    see(vit.norm, len(vit.blocks), "final norm")
    see(vit.head, len(vit.blocks), "pooled", lambda inputs, _: inputs[0])
    see(vit.head, len(vit.blocks), "logits")
    with torch.no_grad():
        x = vit.embed(images)
        for block in vit.blocks:
            x, _ = block(x, return_attention=True)  # as the explorer asks: all tokens, and the weights
        x = vit.norm(x)
        vit.head(x[:, 0] if vit.cls_token is not None else x.mean(dim=1))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_stages_are_what_hooks_see(pool, position):
    vit, image = make(pool=pool, position=position)
    images = normalise(image[None], vit.config)
    found = stepper.walk(vit, images)
    assert [name for _, name, _ in found].count("class token") == (pool == "cls")
    stages = {(block, name): values[0] for block, name, values in found}
    assert len(stages) == len(found)
    for key, values in hooked(vit, images).items():
        assert torch.equal(stages.pop(key), values), key
    assert torch.equal(stages.pop((-1, "patches")), layers.patchify(images, 8)[0])
    maps = torch.stack([stages.pop((block, "attention weights")) for block in range(2)])
    assert torch.equal(maps, vit.attention_maps(images)[:, 0])
    with torch.no_grad():
        torch.testing.assert_close(stages.pop((2, "probabilities")), vit(images).softmax(dim=-1)[0])
    assert {name for _, name in stages} == {"image", "positions"} | ({"class token"} if pool == "cls" else set())


def test_the_page_has_the_checkpoints_numbers_to_the_last_bit():
    vit, image = weights.load(CHECKPOINT), datasets.sample_image("cat", 32)
    images = normalise(image[None], vit.config)
    explorer = EncoderStepper(vit, image)
    page, data = sent(explorer), numbers(explorer.data)
    for s, values, (_, name, expected) in zip(explorer.stages, page, stepper.walk(vit, images), strict=True):
        if values is None:
            continue
        expected = expected[0] if expected[0].ndim == 2 else expected
        assert torch.equal(values, expected), name
        assert s["shape"].endswith(str(tuple(expected.shape if len(expected) == 1 else (1, *expected.shape))))
        facts = data[s["facts"] : s["facts"] + 3 * s["rows"]].reshape(-1, 3)
        expected_facts = torch.stack([expected.mean(1), expected.var(1, correction=0).sqrt(), expected.norm(dim=1)], 1)
        torch.testing.assert_close(facts, expected_facts)
    with torch.no_grad():
        torch.testing.assert_close(page[-2], vit(images))
    assert torch.equal(numbers(explorer.weights).reshape(6, 4, 65, 65), vit.attention_maps(images)[:, 0])
    assert len(explorer.data) + len(explorer.weights) < 2_000_000 and explorer.scales == b""
    # The page normalises the pixels itself, one rounding after another.
    pixels = torch.tensor(list(explorer.pixels), dtype=torch.float32).reshape(32, 32, 3).permute(2, 0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (explorer.mean, explorer.std))
    assert torch.equal((pixels / 255 - mean) / std, images[0])


def test_a_wide_model_sends_64_numbers_of_a_token_and_8_bits_of_a_weight():
    vit, image = make(image_size=112, embed_dim=256, depth=6, num_heads=8, num_classes=100)
    explorer = EncoderStepper(vit, image)
    found = stepper.walk(vit, normalise(image[None], vit.config))
    stage = explorer.stages[explorer.names.index("block 3, MLP, hidden")]
    assert (stage["rows"], stage["columns"], stage["width"]) == (197, 64, 1024)
    for values, (_, name, expected) in zip(sent(explorer), found, strict=True):
        if values is not None and expected.ndim == 3:
            assert torch.equal(values, expected[0, :, :64]), name
    assert explorer.stages[-1]["columns"] == 100  # classes are never left out
    codes = torch.frombuffer(bytearray(explorer.weights), dtype=torch.uint8).reshape(6, 8, 197, 197)
    highest = numbers(explorer.scales).reshape(6, 8, 197, 1)
    attention = vit.attention_maps(normalise(image[None], vit.config))[:, 0]
    error = (codes / 255 * highest - attention).abs() / highest
    assert error.max() <= 1 / 510 + 1e-6


def test_the_code_shown_is_the_packages():
    package = inspect.getsource(layers) + inspect.getsource(model)
    lines = {line.split("  # ")[0].strip() for line in package.split("\n")}
    shown = {name: stepper.code_of(name) for name in stepper.PARTS}
    assert shown.pop("probabilities") == "logits.softmax(dim=-1)"  # a model ends with its logits
    assert set(shown.values()) <= lines
    parts = {"class token": "cls_token", "norm 1": "norm1", "attention weights": "softmax", "+ mixture": "mixed"}
    parts |= {"norm 2": "norm2", "MLP, hidden": "act", "MLP": "fc2", "+ MLP": "mlp", "final norm": "norm"}
    for name, part in parts.items():
        assert part in shown[name], name


def test_a_walk_leaves_the_model_as_it_was():
    vit, image = make(dropout=0.5, drop_path=0.5)
    vit.train()
    stepper.walk(vit, normalise(image[None], vit.config))
    with pytest.raises(ValueError, match="expected images of 16 x 24"):
        stepper.walk(vit, torch.zeros(1, 3, 8, 8))
    assert all(module.training for module in vit.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in vit.modules())


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_every_stage_has_a_picture_with_words(pool):
    vit, image = make(pool=pool, classes=("<b>", "cat", "dog", "a" * 80, "e"))
    explorer = EncoderStepper(vit, image)
    for stage, name in enumerate(explorer.names):
        explorer.stage = stage
        fig, alt = explorer.figure()
        assert alt.lower().startswith(f"{name.lower()}, (") and "{" not in alt
    data, metadata = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG" and metadata["image/png"]["alt"] == alt


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, 16, 24, dtype=torch.uint8), r"found torch.uint8 \(1, 3, 16, 24\) .*; take one of a batch"),
        (torch.zeros(3, 16, 24), r"expected one uint8 image \(3, Y, X\), found torch.float32"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "expected images of 16 x 24 pixels, found 16 x 16; resize"),
    ],
)
def test_says_what_is_wrong_with_an_image(image, message):
    with pytest.raises(ValueError, match=message):
        EncoderStepper(make()[0], image)


def test_a_stage_without_spread_has_a_scale():
    assert stepper.scale(torch.zeros(4, 4)) == (-1.0, 1.0, 0.0)
    low, high, beyond = stepper.scale(torch.tensor([-0.1, 0.0, 0.0, 1.0, 1.0]))  # as after GELU
    assert low == pytest.approx(-0.1) and high == 1.0 and beyond == 0.0
