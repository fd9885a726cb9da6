"""Models that somebody else's constructor can make: ours computes the same numbers, or says what does not fit."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import Attention, AttentionPoolLatent, RotaryEmbeddingDinoV3
from timm.layers import Mlp as TimmMlp
from timm.models.eva import Eva
from timm.models.vision_transformer import Block, ResPostBlock
from timm.models.vision_transformer import VisionTransformer as Timm
from torch import nn

from vit_tutorial import ModernConfig, set_image_size, weights

SMALL = {"img_size": (16, 24), "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 3}
ROPE = {"use_rot_pos_emb": True, "num_reg_tokens": 2}
NORM = partial(nn.LayerNorm, eps=1e-6)


def randomise(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    return model.eval()


def vit(**options):
    return randomise(Timm(**SMALL | options))


def eva(**options):
    return randomise(Eva(**SMALL | options))


def changed(model, name, part):
    """`model` with `part` in the place called `name`."""
    place, _, name = name.rpartition(".")
    setattr(model.get_submodule(place), name, part)
    return model


def agrees(theirs, bound=1e-5):
    ours = weights.from_timm(theirs)
    images = torch.randn(2, theirs.in_chans, *theirs.patch_embed.img_size).to(ours.pos_embed.dtype)
    expected = theirs(images)
    return (ours(images) - expected).abs().max() <= bound * max(1, expected.abs().max())


AGREED = {
    "no class token, registers": lambda: vit(class_token=False, reg_tokens=2, global_pool="avg"),
    "registers without a place": lambda: vit(reg_tokens=2, no_embed_class=True, init_values=1e-5),
    "RMSNorm everywhere, pooled": lambda: vit(
        norm_layer="rmsnorm", qk_norm=True, class_token=False, global_pool="map", in_chans=1
    ),
    "no biases, no head": lambda: vit(qkv_bias=False, reg_tokens=1, num_classes=0, pos_embed="none"),
    "a hidden width that rounds down": lambda: vit(embed_dim=28, mlp_ratio=61.5 / 28),
    "pairs side by side, columns first": lambda: eva(**ROPE, rope_grid_indexing="xy", qk_norm=True),
    "halves, columns first": lambda: eva(**ROPE, rope_grid_indexing="xy", rope_rotate_half=True, rope_type="dinov3"),
    "three matrices, no rows of places": lambda: eva(
        **ROPE, attn_type="rope", qkv_fused=False, swiglu_mlp=True, swiglu_align_to=32, use_abs_pos_emb=False
    ),
}


@pytest.mark.parametrize("name", AGREED)
def test_the_same_numbers(name):
    assert agrees(AGREED[name]())


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-5), (torch.float16, 0.01), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("kind", ["cat", "dinov3"])
def test_rotary_positions_of_other_dtypes(kind, dtype, bound):
    assert agrees(eva(**ROPE, rope_type=kind, rope_rotate_half=True).to(dtype), bound)


@pytest.mark.parametrize("size", [(8, 8), (40, 16)])
@pytest.mark.parametrize(
    "name", ["registers without a place", "halves, columns first", "pairs side by side, columns first"]
)
def test_another_size_is_timms(name, size):
    theirs, images = AGREED[name](), torch.randn(2, 3, *size)
    ours = set_image_size(weights.from_timm(theirs), size)
    theirs.set_input_size(img_size=size)
    assert (ours(images) - theirs(images)).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["cat", "dinov3"])
def test_a_model_whose_places_jitter_in_training_is_read_at_rest(kind):
    theirs = eva(**ROPE, rope_type=kind, rope_rescale_coords=2.0).train()
    ours, images = weights.from_timm(theirs), torch.randn(2, 3, 16, 24)
    assert ours.training and theirs.rope.training
    assert (ours.eval()(images) - theirs.eval()(images)).abs().max() <= 1e-5


class Doubled(TimmMlp):
    def forward(self, x):
        return 2 * super().forward(x)


Doubled.__name__ = "Mlp"


class Backwards(Attention):
    def forward(self, x, **mask):
        return super().forward(x.flip(1), **mask)


def pool(**options):
    return AttentionPoolLatent(48, norm_layer=NORM, **options)


def mapped():
    return vit(class_token=False, global_pool="map")


SILENT = {  # of the names and shapes that ours expects, and other numbers
    "LayerNorm without bias": (
        lambda: vit(norm_layer=partial(NORM, bias=False)),
        "LayerNorms with a weight and a bias",
    ),
    "attention's norm without weights": (
        lambda: changed(vit(), "blocks.0.attn.norm", NORM(48, elementwise_affine=False)),
        "found LayerNorm.* as blocks.0.attn.norm",
    ),
    "another attention": (lambda: vit(attn_layer=Backwards), "found Backwards as blocks.0.attn"),
    "an MLP of the same name": (lambda: vit(mlp_layer=Doubled), "found Mlp as blocks.0.mlp"),
    "an activation": (lambda: changed(vit(), "blocks.1.mlp.act", nn.ReLU()), "found Mlp with ReLU"),
    "two activations": (
        lambda: changed(vit(), "blocks.1.mlp.act", nn.GELU(approximate="tanh")),
        "the same MLP everywhere, found gelu and gelu_tanh",
    ),
    "the pool's activation": (lambda: changed(mapped(), "attn_pool.mlp.act", nn.ReLU()), "found Mlp with ReLU"),
    "the pool's heads": (
        lambda: changed(mapped(), "attn_pool", randomise(pool(num_heads=8))),
        "expected num_heads 4, found 8 in attn_pool",
    ),
    "a later block": (
        lambda: changed(vit(), "blocks.1", randomise(ResPostBlock(48, 4, qkv_bias=True, norm_layer=NORM))),
        "found ResPostBlock as blocks.1",
    ),
    "its heads": (
        lambda: changed(vit(), "blocks.1", randomise(Block(48, 8, qkv_bias=True, norm_layer=NORM))),
        "expected num_heads 4, found 8 in blocks.1.attn",
    ),
    "a layer without weights": (lambda: changed(vit(), "norm_pre", nn.Tanh()), "found Tanh as norm_pre"),
    "mean of all tokens": (
        lambda: vit(global_pool="avg", pool_include_prefix=True, reg_tokens=2),
        "found 'avg' of all tokens",
    ),
    "two norms": (
        lambda: eva(global_pool="avg", use_fc_norm=True, use_post_transformer_norm=True),
        "a norm before the head, found two",
    ),
    "dilated patches": (
        lambda: changed(vit(), "patch_embed.proj", randomise(nn.Conv2d(3, 48, 8, 8, dilation=2, padding=4))),
        r"expected padding \(0, 0\), found \(4, 4\) in patch_embed.proj",
    ),
    "pairs turned otherwise": (
        lambda: changed(eva(**ROPE), "blocks.1.attn.rotate_half", True),
        "expected rotate_half False, found True in blocks.1.attn",
    ),
    "places by the shorter side, of a square": (
        lambda: changed(
            eva(**ROPE, rope_type="dinov3", img_size=16),
            "rope",
            RotaryEmbeddingDinoV3(12, normalize_coords="min", rotate_half=False),
        ),
        "expected normalize_coords separate, found min",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_no_weight_shows_is_refused_by_name(name):
    make, message = SILENT[name]
    with pytest.raises(ValueError, match=message):
        weights.from_timm(make())


def test_names_of_timm_that_are_other_models():
    for name in ("cait_xxs24_224", "xcit_nano_12_p16_224", "vit_dwee_patch16_reg1_gap_256", "beit_base_patch16_224"):
        with torch.device("meta"):
            theirs = timm.create_model(name, depth=1)
        with pytest.raises(ValueError, match="^expected .* found "):
            weights.from_timm(theirs)


def transformers_model(kind, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    config = {"Dinov2ForImageClassification": "Dinov2Config"}.get(kind, kind.removesuffix("Model") + "Config")
    return randomise(getattr(transformers, kind)(getattr(transformers, config)(**sizes | options)))


@pytest.mark.parametrize("kind", ["DINOv3ViTModel", "Dinov2WithRegistersModel"])
def test_no_registers_of_transformers_are_none(kind):
    theirs, images = transformers_model(kind, num_register_tokens=0), torch.randn(2, 3, 32, 32)
    ours = weights.from_transformers(theirs)
    assert ours.config.registers == 0 and ours.reg_token is None
    assert (ours(images) - theirs(images).pooler_output).abs().max() <= 1e-5


def test_class_names_of_siglip():
    transformers = pytest.importorskip("transformers")
    vision = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    vision |= {"image_size": 32, "patch_size": 8}
    labels = {0: "cat", 1: "dog", 2: "emu"}
    config = transformers.SiglipConfig(
        vision_config=vision, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    theirs, images = randomise(transformers.SiglipForImageClassification(config)), torch.randn(2, 3, 32, 32)
    ours = weights.from_transformers(theirs)
    assert ours.config.classes == ("cat", "dog", "emu")
    assert (ours(images) - theirs(images).logits).abs().max() <= 1e-5


def test_transformers_that_are_more_than_the_encoder_or_damaged():
    with pytest.raises(ValueError, match="found Dinov2ForImageClassification, which may compute more"):
        weights.from_transformers(transformers_model("Dinov2ForImageClassification", num_labels=0))
    theirs = transformers_model("DINOv3ViTModel")
    state, config = theirs.state_dict(), theirs.config.to_dict()
    for change, found in (({"layer_norm_eps": "1e-5"}, "'1e-5'"), ({"layer_norm_eps": None}, "None")):
        with pytest.raises(ValueError, match=f"expected a layer_norm_eps from 0 up to 1, found {found}"):
            weights.from_transformers(state, config | change)
    for size in (None, "32", [32, 32, 16]):
        with pytest.raises(ValueError, match="expected image_size to be an integer or .*, found"):
            weights.from_transformers(state, config | {"image_size": size})


def test_a_switch_is_no_layer_scale():
    with pytest.raises(ValueError, match="expected layer_scale to be a number or None, found True"):
        ModernConfig(layer_scale=True)
