"""The modern parts: each alone against its formula, all of them against timm and transformers, kept and looked into."""

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vit_tutorial import (
    ModernConfig,
    ModernViT,
    VisionTransformer,
    ViTConfig,
    cli,
    datasets,
    export,
    interpolate_positions,
    interpret,
    normalise,
    set_image_size,
    training,
    weights,
    widgets,
)
from vit_tutorial.modern import LayerScale, ModernAttention, RMSNorm, RotaryEmbedding, SwiGLU, rotate
from vit_tutorial.training.augment import PatchDropout

timm = pytest.importorskip("timm", minversion="1.0.20")  # the first with DINOv3
Timm = timm.models.VisionTransformer

PLAIN = {"image_size": 16, "patch_size": 4, "num_classes": 5, "embed_dim": 24, "depth": 3, "num_heads": 3}
PARTS = {
    "registers": {"registers": 3},
    "LayerScale": {"layer_scale": 0.3},
    "RMSNorm": {"norm": "rms"},
    "QK-norm": {"qk_norm": True},
    "SwiGLU": {"mlp": "swiglu"},
    "tanh": {"mlp": "gelu_tanh"},
    "axial": {"rope": "axial"},
    "dinov3": {"rope": "dinov3", "position": "none"},
    "no class position": {"cls_position": False},
    "no class token": {"pool": "mean", "registers": 2},
}
ALL = {**PARTS["LayerScale"], **PARTS["RMSNorm"], **PARTS["QK-norm"], **PARTS["SwiGLU"], **PARTS["dinov3"]}
PARTS["all"] = ALL | {"registers": 4, "cls_position": False}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Of products as small as these, several threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randomise(model, std=0.1):
    """Every trained parameter a number of its own, far from its initial value."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=std)
    return model.eval()


def modern(**parts):
    return randomise(ModernViT(ModernConfig(**PLAIN | parts)), std=0.3)


OFF = [{}, {"pool": "mean"}, {"position": "sinusoidal", "image_size": (16, 24)}, {"position": "none"}]


@pytest.mark.parametrize("change", [*OFF, {"dropout": 0.1, "drop_path": 0.2}])
def test_without_a_part_it_is_the_plain_model_to_the_bit(change):
    models = []
    for kind, config in ((VisionTransformer, ViTConfig), (ModernViT, ModernConfig)):
        torch.manual_seed(1)
        models.append(kind(config(**PLAIN | change)))
    plain, ours = models
    states = [model.state_dict() for model in models]
    assert [*states[0]] == [*states[1]] and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    images = torch.randn(2, 3, 16, 24 if "image_size" in change else 16)
    for mode in (True, False):
        logits = []
        for model in models:
            torch.manual_seed(2)
            logits.append(model.train(mode)(images))
        assert torch.equal(*logits)
    assert torch.equal(plain.attention_maps(images), ours.attention_maps(images))
    assert torch.equal(plain.forward_features(images), ours.forward_features(images))


@pytest.mark.parametrize("name", PARTS)
def test_each_part_alone_changes_the_answer_trains_and_survives_a_checkpoint(name, tmp_path):
    ours, images = modern(**PARTS[name]), torch.randn(2, 3, 16, 16)
    plain = VisionTransformer(ViTConfig(**PLAIN | {key: v for key, v in PARTS[name].items() if key == "pool"}))
    shared, own = ours.state_dict(), plain.state_dict()
    same = {key for key in own if key in shared and own[key].shape == shared[key].shape}
    plain.load_state_dict(own | {key: shared[key] for key in same})
    assert largest(plain.eval()(images), ours(images)) > 1e-5
    ours.train()(images).square().sum().backward()
    for key, parameter in ours.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().max() > 0, key
    ours.eval()
    weights.save(ours, tmp_path / "model.safetensors")
    loaded = weights.load(tmp_path / "model.safetensors")
    assert loaded.config == ours.config and torch.equal(loaded(images), ours(images))


def test_norms_scale_and_gate_are_their_formulas():
    x = torch.randn(2, 5, 24)
    norm = randomise(RMSNorm(24))
    theirs = timm.layers.RmsNorm(24)
    theirs.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), theirs(x))
    large = 300 * torch.ones(1, 24, dtype=torch.float16)  # its square is no number of 16 bits
    assert torch.allclose(RMSNorm(24).half()(large), torch.ones(1).half())
    assert torch.equal(LayerScale(24, 0.5)(x), 0.5 * x)
    ours, packed = randomise(SwiGLU(24, 32)), timm.layers.SwiGLUPacked(24, 64)
    state = ours.state_dict()
    for kind in ("weight", "bias"):
        state[f"fc1.{kind}"] = torch.cat([state.pop(f"fc1_g.{kind}"), state.pop(f"fc1_x.{kind}")])
    packed.load_state_dict(state)
    torch.testing.assert_close(ours(x), packed(x))


@pytest.mark.parametrize("grid", [(3, 5), (4, 4), (1, 7)])
@pytest.mark.parametrize(
    "kind, theirs, temperature",
    [("dinov3", timm.layers.RotaryEmbeddingDinoV3, 100.0), ("axial", timm.layers.RotaryEmbeddingCat, 10000.0)],
)
def test_rotary_angles_and_turns_are_timms(kind, theirs, temperature, grid):
    options = {"rotate_half": True, "temperature": temperature} | ({"in_pixels": False} if kind == "axial" else {})
    expected = theirs(16, **options).get_embed(shape=list(grid))
    rope = RotaryEmbedding(16, kind, temperature).get_embed(grid)
    torch.testing.assert_close(rope, expected, atol=1e-5, rtol=0)
    x = torch.randn(2, 3, 2 + len(rope), 16)
    turned = rotate(x, rope)
    assert torch.equal(turned[:, :, :2], x[:, :, :2])  # class token and registers have no place
    torch.testing.assert_close(turned[:, :, 2:], timm.layers.apply_rot_embed_cat(x[:, :, 2:], expected, half=True))


def test_only_differences_of_places_remain():
    q, k = torch.randn(2, 1, 1, 8).double()
    rope = RotaryEmbedding(8, "axial", 10.0).get_embed((5, 6)).double()
    products = (rotate(q.expand(1, 30, 8), rope) @ rotate(k.expand(1, 30, 8), rope).mT)[0].view(5, 6, 5, 6)
    torch.testing.assert_close(products[1, 2, 2, 4], products[3, 0, 4, 2], atol=1e-5, rtol=0)
    assert (products[1, 2, 2, 4] - products[1, 2, 2, 3]).abs() > 1e-3
    larger = RotaryEmbedding(8, "dinov3").get_embed((10, 12)).view(10, 12, -1)  # the same range, twice as fine
    half = RotaryEmbedding(8, "dinov3").get_embed((5, 6)).view(5, 6, -1)
    assert larger[0, 0, 8:12].allclose(torch.cos(2 * math.pi * torch.tensor([-0.9, -0.09, -11 / 12, -11 / 120])))
    assert half.shape[2] == larger.shape[2] == 16


def test_qk_norm_bounds_the_scores():
    attn, x = randomise(ModernAttention(24, 3, RMSNorm), std=1.0), 100 * torch.randn(1, 6, 24)
    for norm in (attn.q_norm, attn.k_norm):
        norm.weight.data.fill_(1.0)
    q, k, _ = attn.qkv(x).view(6, 3, 3, 8).unbind(1)
    scores = torch.einsum("nhd,mhd->hnm", attn.q_norm(q), attn.k_norm(k)) / 8**0.5
    assert scores.abs().max() <= 8**0.5 + 1e-4
    torch.testing.assert_close(attn(x, return_attention=True)[1][0], scores.softmax(dim=-1))


SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 4}
THEIRS = {  # timm's models, narrow and shallow: name, what else is said of it, the class that it becomes
    "DINOv2 reg": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, "ModernViT"),
    "DINOv2 giant": ("vit_giant_patch14_reg4_dinov2", {"img_size": (28, 56)}, "ModernViT"),
    "DINOv3": ("vit_small_patch16_dinov3", {"img_size": 64}, "PatchPoolViT"),
    "DINOv3 class": ("vit_small_patch16_dinov3_qkvb", {"img_size": (32, 64), "global_pool": "token"}, "ModernViT"),
    "DINOv3 plus": ("vit_small_plus_patch16_dinov3", {"img_size": 64}, "PatchPoolViT"),
    "SigLIP": ("vit_base_patch16_siglip_224", {"img_size": 64}, "PatchPoolViT"),
    "RoPE-ViT": ("vit_small_patch16_rope_224", {"img_size": (64, 48)}, "ModernViT"),
    "DeiT III": ("deit3_small_patch16_224", {"img_size": 64}, "ModernViT"),
    "norm last": ("vit_betwixt_patch16_reg4_gap_256", {"img_size": 64}, "PatchPoolViT"),
}
OTHER_SIZES = {"DINOv2 reg": [(28, 70), (84, 84)], "DINOv3": [(32, 80), (96, 96)], "SigLIP": [(32, 80), (96, 96)]}
TRAINED_TOO = ("DINOv2 reg", "DINOv3", "SigLIP")


def pair(name, **more):
    made, options, kind = THEIRS[name]
    theirs = randomise(timm.create_model(made, **SMALL | options | more), std=0.3)
    ours = weights.from_timm(theirs)
    assert type(ours).__name__ == kind and not ours.training
    return theirs, ours


def largest(found, expected):
    return (found - expected).abs().max().item()


@pytest.mark.parametrize("name", THEIRS)
def test_features_and_gradients_are_timms(name, tmp_path):
    theirs, ours = pair(name)
    size = theirs.patch_embed.img_size
    images = torch.randn(2, 3, *size)
    features, expected = ours.forward_features(images), theirs.forward_features(images)
    bound = 1e-5 * max(1, expected.abs().max().item())  # what is not normalised yet is larger
    assert expected.abs().max() > 0.1 and largest(features, expected) <= bound
    assert largest(ours(images), theirs(images)) <= 1e-5
    weights.save(ours, tmp_path / "model.safetensors")
    assert torch.equal(weights.load(tmp_path / "model.safetensors")(images), ours(images))
    for model in (theirs, ours):
        model.train(name in TRAINED_TOO)(images).square().mean().backward()
    compare_gradients(theirs, ours)


def compare_gradients(theirs, ours):
    """Theirs under our names, as `from_timm` gives them; where theirs has no such parameter there is nothing to say."""
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    expected = dict(weights.from_timm(theirs).named_parameters())
    compared = 0
    for name, parameter in ours.named_parameters():
        if name.endswith("qkv.bias") and not expected[name].any():
            continue  # made without
        if name.endswith("qkv.bias") and hasattr(theirs.blocks[0].attn, "k_bias"):  # keys have none
            parameter.grad.unflatten(0, (3, -1))[1] = 0
        if parameter.requires_grad:
            assert largest(parameter.grad, expected[name]) <= 1e-5, name
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("name, size", [(name, size) for name, sizes in OTHER_SIZES.items() for size in sizes])
def test_another_image_size_is_timms(name, size):
    theirs, ours = pair(name, dynamic_img_size=True)
    old = ours.config.grid
    set_image_size(ours, size)
    images = torch.randn(1, 3, *size)
    assert largest(ours.forward_features(images), theirs.forward_features(images)) <= 1e-5
    for model in (theirs, ours):
        model(images).square().mean().backward()
    if theirs.pos_embed is not None:  # theirs is of the old size: through the interpolation
        positions = theirs.pos_embed.detach().requires_grad_()
        interpolate_positions(positions, old, ours.config.grid).backward(ours.pos_embed.grad)
        assert largest(positions.grad, theirs.pos_embed.grad) <= 1e-5
    for part in ("patch_embed.proj.weight", "norm.weight", "blocks.0.attn.qkv.weight", "blocks.1.mlp.fc1.weight"):
        gradients = [dict(model.named_parameters())[part].grad for model in (theirs, ours)]
        assert largest(*gradients) <= 1e-5, part


@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "avg"}, {"qk_norm": True}])
def test_registers_with_positions_of_their_own_are_the_same_tokens(options):
    theirs = randomise(Timm(img_size=32, patch_size=8, reg_tokens=2, num_classes=3, **SMALL | options))
    ours, images = weights.from_timm(theirs), torch.randn(2, 3, 32, 32)
    assert largest(ours(images), theirs(images)) <= 1e-5


def transformers_model(kind, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    config = {"Dinov2Model": "Dinov2Config", "SiglipVisionModel": "SiglipVisionConfig"}.get(kind)
    config = config or kind.removesuffix("Model") + "Config"
    if "Dinov2" not in kind:
        options = {"intermediate_size": 96} | options
    return getattr(transformers, kind)(getattr(transformers, config)(**sizes | options))


TRANSFORMERS = {
    "DINOv2": ("Dinov2Model", {}),
    "DINOv2 reg": ("Dinov2WithRegistersModel", {}),
    "DINOv2 SwiGLU": ("Dinov2WithRegistersModel", {"use_swiglu_ffn": True}),
    "DINOv2 no bias": ("Dinov2WithRegistersModel", {"qkv_bias": False}),
    "DINOv3": ("DINOv3ViTModel", {"num_register_tokens": 4}),
    "DINOv3 gated": ("DINOv3ViTModel", {"use_gated_mlp": True, "hidden_act": "silu", "num_register_tokens": 4}),
    "SigLIP": ("SiglipVisionModel", {}),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_features_are_those_of_transformers_and_of_its_files(name, tmp_path):
    from safetensors.torch import load_file

    kind, options = TRANSFORMERS[name]
    theirs = randomise(transformers_model(kind, **options))
    theirs.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    expected = theirs(images)
    for ours in (
        weights.from_transformers(theirs),
        weights.from_transformers(load_file(tmp_path / "model.safetensors"), theirs.config.to_dict()),
    ):
        assert isinstance(ours, ModernViT)
        assert largest(ours.forward_features(images), expected.last_hidden_state) <= 1e-5
        assert largest(ours(images), expected.pooler_output) <= 1e-5
    mean = (0.5, 0.5, 0.5) if name == "SigLIP" else weights.IMAGENET_MEAN
    assert ours.config.mean == mean


def small_timm(**options):
    return Timm(img_size=32, patch_size=8, **SMALL | options)


def eva(name, **options):
    return timm.create_model(name, **SMALL | options)


def gated_gelu():
    return transformers_model("DINOv3ViTModel", use_gated_mlp=True)


REFUSED = {
    "CLIP": (lambda: weights.from_timm(small_timm(pre_norm=True)), "surplus norm_pre.weight"),
    "mixed": (lambda: weights.from_timm(eva("vit_small_patch16_rope_mixed_224")), "found RotaryEmbeddingMixed"),
    "stretched": (lambda: weights.from_timm(eva("eva02_tiny_patch14_224")), "found RotaryEmbeddingCat"),
    "a head behind its pooling": (
        lambda: weights.from_timm(eva("vit_pe_core_tiny_patch16_384")),
        "expected global_pool .* found 'map'",
    ),
    "GeGLU": (lambda: weights.from_transformers(gated_gelu()), "expected SwiGLU .* found 'gelu'"),
    "another kind": (lambda: weights.from_transformers({}, {"model_type": "swin"}), "'dinov3_vit', .* found 'swin'"),
    "to timm": (lambda: weights.to_timm(modern(rope="axial")), "expected a plain VisionTransformer, found a ModernViT"),
    "to transformers": (lambda: weights.to_transformers(modern()), "found a ModernViT; weights.save keeps one"),
    "a plain model of it": (
        lambda: weights.save(VisionTransformer(ModernConfig(**PLAIN, rope="axial")), "never.safetensors"),
        "expected a ModernViT with a ModernConfig, found a VisionTransformer",
    ),
    "negative": (lambda: ModernConfig(**PLAIN, registers=-1), "expected registers to be 0 or more, found -1"),
    "no such norm": (lambda: ModernConfig(**PLAIN, norm="batch"), r"expected norm to be one of .* found 'batch'"),
    "no such scale": (lambda: ModernConfig(**PLAIN, layer_scale="a"), "expected layer_scale to be a number or None"),
    "cold": (lambda: ModernConfig(**PLAIN, rope_temperature=0), "expected a rope_temperature above 0, found 0"),
    "odd heads": (lambda: ModernConfig(**PLAIN | {"num_heads": 4}, rope="axial"), "multiple of 4, .* found 6"),
    "no switch": (lambda: ModernConfig(**PLAIN, qk_norm="yes"), r"expected qk_norm to be one of \(False, True\)"),
}


@pytest.mark.parametrize("call, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_it_cannot_be_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_checkpoint_is_checked_entry_by_entry(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model.safetensors"
    weights.save(modern(**PARTS["all"]), path)
    with safe_open(path, framework="pt") as file:
        metadata, state = file.metadata(), load_file(path)
    for entry in ("reg_token", "blocks.1.attn.q_norm.weight", "blocks.0.ls1.gamma", "blocks.2.mlp.fc1_g.bias"):
        save_file({name: value for name, value in state.items() if name != entry}, path, metadata)
        with pytest.raises(ValueError, match=f"missing {entry}"):
            weights.load(path)
    for wrong in ('"registers": -1', '"registers": 1000000000000', '"registers": "4"', '"registers": true'):
        save_file(state, path, metadata | {"config": metadata["config"].replace('"registers": 4', wrong)})
        with pytest.raises(ValueError, match="expected a model config inside"):
            weights.load(path)
    save_file(state, path, metadata | {"patch_mean": "max"})
    with pytest.raises(ValueError, match="patch_mean 'max'"):
        weights.load(path)


@pytest.mark.parametrize("name", ["all", "registers", "no class token"])
def test_interpret_keeps_registers_apart(name):
    model, images = modern(**PARTS[name] | {"image_size": (16, 24)}), torch.randn(2, 3, 16, 24)
    attention = interpret.record(model, images)
    torch.testing.assert_close(attention.as_subclass(torch.Tensor), model.attention_maps(images))
    R, cls = model.config.registers, model.config.pool == "cls"
    names = ("class token",) * cls + tuple(f"register {i + 1}" for i in range(R))
    assert attention.tokens.names == names and attention.tokens.grid == (4, 6)
    rollout = interpret.rollout(model, images)
    torch.testing.assert_close(rollout, interpret.attention_rollout(attention))
    row = rollout[:, 0] if cls else rollout[:, len(names) :].mean(dim=1)
    assert torch.equal(interpret.class_map(rollout, (4, 6)).flatten(1), row[:, len(names) :])
    if cls:
        assert interpret.head_maps(attention, (4, 6)).shape == (3, 2, 3, 4, 6)
    torch.testing.assert_close(interpret.logit_lens(model, images)[-1], model(images))
    explorer = widgets.AttentionExplorer(model, torch.zeros(1, 3, 16, 24, dtype=torch.uint8))
    assert explorer.prefix == list(names)
    explorer.query = len(names) - 1
    assert names[-1] in explorer.figure()[1]


def test_logit_lens_of_what_reads_the_patches_ends_in_the_logits():
    for name in ("DINOv3", "SigLIP", "norm last"):
        _, ours = pair(name)
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(interpret.logit_lens(ours, images)[-1], ours(images))
        assert interpret.record(ours, images).tokens.reads == "patches"


@pytest.mark.skipif(bool(export.missing()), reason=export.missing())
def test_a_pooling_head_is_exported_for_any_number_of_pictures(tmp_path):
    _, ours = pair("SigLIP")
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    export.to_onnx(ours, tmp_path / "model.onnx", resize=False)
    found = export.run_onnx(tmp_path / "model.onnx", pixels)
    assert largest(found, ours(normalise(pixels, ours.config))) < 1e-4


@pytest.mark.parametrize("kind", ["axial", "dinov3"])
def test_similarity_of_rotary_positions(kind):
    model = modern(rope=kind, position="none", image_size=(16, 24))
    found = interpret.position_similarity(model)
    angles = torch.atan2(*model.rope.get_embed((4, 6)).view(24, 2, 8)[..., :4].unbind(1))  # (24, 4)
    expected = (angles[:, None] - angles).cos().mean(dim=-1).view(4, 6, 4, 6)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    explorer = widgets.PositionExplorer(model)
    assert explorer.kinds == ["rotary", "sinusoidal", "none"] and explorer.kind == "rotary"
    torch.testing.assert_close(explorer._similarities("rotary"), found.flatten(2).flatten(0, 1))
    turns = torch.frombuffer(bytearray(explorer.turns), dtype=torch.float32)
    sides = [side for grid in explorer.grids for side in grid]
    start = sum(sides[: 2 * explorer.grids.index([4, 6])])
    down, across = turns[start : start + 4], turns[start + 4 : start + 10]  # what the page computes from
    torch.testing.assert_close((down[:, None] + across) / 2, found[0, 0], atol=1e-5, rtol=0)
    assert "(rotary positions)" in explorer.figure()[1] and len(turns) == sum(sides)
    both = modern(rope=kind)
    assert torch.equal(interpret.position_similarity(both), interpret.position_similarity(as_plain(both)))


def as_plain(model):
    """A plain model with the learned positions of `model`."""
    plain = VisionTransformer(ViTConfig(**PLAIN))
    plain.pos_embed = model.pos_embed
    return plain


def test_training_that_leaves_patches_out_keeps_registers_and_turns_by_each_ones_place():
    config = ModernConfig(**PLAIN | PARTS["all"])
    model, images = ModernViT(config).train(), torch.randn(2, 3, 16, 16)
    dropout = PatchDropout(0.5, model.num_prefix_tokens)
    with dropout.on(model.pos_drop):
        found = model.forward_features(images)
        kept = model.pos_drop.kept
        assert found.shape == (2, 5 + 8, 24) and torch.equal(kept[:5], torch.arange(5)) and kept[5:].min() >= 5
        torch.manual_seed(0)
        found = model.forward_features(images)
        torch.manual_seed(0)
        x = model.embed(images)
        rope = model.rope.get_embed((4, 4))[model.pos_drop.kept[5:] - 5]
        for block in model.blocks:
            x = block(x, rope=rope)
        torch.testing.assert_close(model.norm(x), found)
    assert model.pos_drop.kept is None and model.forward_features(images).shape == (2, 21, 24)
    recipe = training.Recipe(config, epochs=4, batch_size=16, patch_dropout=0.5, compile=False)
    data = datasets.shapes("test", 64)
    recipe = replace(recipe, model=recipe.config(data))
    model = ModernViT(recipe.model)
    before = model.reg_token.clone()
    training.train(model, data, recipe)
    assert not torch.equal(model.reg_token, before) and model.head.weight.isfinite().all()


def draw_scans(folder):
    """Grey of 16 bits in two classes, 12 pictures each."""
    rng = np.random.default_rng(0)
    for name, least in (("dark", 300), ("light", 900)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(least, least + 1000, (16, 16)).astype(np.uint16)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_a_modern_recipe_in_a_shell(tmp_path, monkeypatch, capsys):
    """Trained, stopped, gone on with, tested, asked, reported, exported, and the start of another run."""
    monkeypatch.chdir(tmp_path)
    draw_scans(tmp_path / "scans")
    config = ModernConfig(**PLAIN | PARTS["all"])
    recipe = training.Recipe(config, batch_size=8, muon_learning_rate=1e-2, patch_dropout=0.5)
    monkeypatch.setitem(training.RECIPES, "modern", recipe)
    line = ["train", "--data", "scans", "--copies", "off", "--epochs", "3"]

    def shell(*words):
        assert cli.main([*words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    with monkeypatch.context() as patch:
        patch.setattr(cli, "status", lambda history: os.kill(os.getpid(), signal.SIGINT) or {})
        assert "Continue with" in shell(*line, "--recipe", "modern", "--out", "run")
    shell("train", "--resume", "run")
    shell(*line, "--recipe", "modern", "--out", "whole")
    resumed, whole = weights.load("run"), weights.load("whole")
    assert resumed.config == whole.config and type(resumed) is ModernViT
    assert (resumed.config.classes, resumed.config.registers) == (("dark", "light"), 4)
    assert 300 <= resumed.config.value_range[0] < resumed.config.value_range[1] < 1900
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    history = training.History.load("run/history.json")
    assert training.Recipe.from_record(history.info["recipe"]) == replace(recipe, model=resumed.config)
    assert "24 pictures" in shell("evaluate", "run", "--data", "scans", "--copies", "off", "--side", "all")
    assert "light" in shell("predict", "run", "scans")
    shell("report", "run")
    shell("export", "run", "model.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(cli, "status", lambda history: os.kill(os.getpid(), signal.SIGINT) or {})
        shell(*line, "--start", "run", "--image-size", "24", "--out", "larger")
    shell("train", "--resume", "larger")
    larger = weights.load("larger").config
    assert larger == replace(resumed.config, image_size=(24, 24), value_range=larger.value_range)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    model, images = modern(**PARTS["all"]).to(dtype), torch.randn(1, 3, 16, 16, dtype=dtype)
    assert model(images).dtype == dtype
    assert largest(model(images), model.float()(images.float())) < (1e-4 if dtype == torch.float64 else 0.2)


def test_an_image_size_changes_in_place_and_back():
    model = modern(**PARTS["all"])
    before = model(images := torch.randn(1, 3, 16, 16))
    assert set_image_size(model, (24, 8))(torch.randn(1, 3, 24, 8)).shape == (1, 5)
    assert torch.equal(set_image_size(model, 16)(images), before)
    with pytest.raises(ValueError, match="found 24 x 8"):
        model(torch.randn(1, 3, 24, 8))
    assert isinstance(replace(model.config, registers=0), ModernConfig) and isinstance(model.head, nn.Linear)
