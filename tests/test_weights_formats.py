"""Other libraries' models as ours and back, on their real classes with random weights: the same logits and gradients,
every number used once, and a clear refusal of what ours cannot be. No network."""

import copy
import json
import re
import sys
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_data_config
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer as Timm
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig
from torchvision.models.vision_transformer import VisionTransformer as Torchvision

from vit_tutorial import VisionTransformer, ViTConfig, normalise, set_image_size, weights

transformers = pytest.importorskip("transformers")
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 7, "mlp_ratio": 3}
TORCHVISION = (32, 8, 3, 4, 48, 144)
TRANSFORMERS = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 144,
}


def randomise(model, std=0.1):
    """Every parameter a number of its own, far from its initial value."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=std)
    return model.eval()


def torchvision(*arguments, heads=None, **options):
    model = Torchvision(*(arguments or TORCHVISION), **options)
    model.heads = heads or model.heads
    return model


def vit(kind="ViTForImageClassification", **options):
    options = TRANSFORMERS | {"num_labels": 7} | options
    config = transformers.ViTMAEConfig if "MAE" in kind else transformers.ViTConfig
    options |= {"mask_ratio": 0.0} if "MAE" in kind else {}
    return getattr(transformers, kind)(config(**options))


def with_dropout(model, name, head=None):
    setattr(model, name, nn.Sequential(nn.Dropout(0.2), head or getattr(model, name)))
    return model


MODELS = {  # the families of the literature, narrow or shallow; and each library's ways to leave the head away
    "torchvision": torchvision,
    "torchvision, SWAG's 384 pixels": lambda: torchvision(384, 16, 1, 4, 48, 144),
    "torchvision, no head": lambda: torchvision(heads=nn.Identity()),
    "torchvision, new head": lambda: torchvision(heads=nn.Linear(48, 5)),
    "torchvision, dropout before the head": lambda: with_dropout(torchvision(), "heads", nn.Linear(48, 5)),
    "torchvision, eps 1e-5": lambda: torchvision(norm_layer=nn.LayerNorm),
    "timm": lambda: Timm(**TIMM),
    "timm, no head": lambda: Timm(**TIMM | {"num_classes": 0}),
    "timm, not square": lambda: Timm(**TIMM | {"img_size": (16, 40)}),
    "timm, one channel": lambda: Timm(**TIMM, in_chans=1),
    "timm, mean pooling": lambda: Timm(**TIMM, class_token=False, global_pool="avg", fc_norm=False),
    "timm, mean of normalised tokens beside a class token": lambda: Timm(**TIMM, global_pool="avg", fc_norm=False),
    "timm, norm after the mean": lambda: Timm(**TIMM, class_token=False, global_pool="avg"),
    "timm, norm after the class token is taken": lambda: Timm(**TIMM, fc_norm=True),
    "timm, MAE fine-tuned": lambda: Timm(**TIMM, global_pool="avg"),
    "timm, dropout before the head": lambda: with_dropout(Timm(**TIMM), "head"),
    "timm, eps 1e-5": lambda: Timm(**TIMM, norm_layer=nn.LayerNorm),
    "Ti/16 AugReg": lambda: timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", depth=2),
    "S/8 DINO": lambda: timm.create_model("vit_small_patch8_224.dino", depth=1),
    "S/32 at 384": lambda: timm.create_model("vit_small_patch32_384", depth=1),
    "B/16 MAE": lambda: timm.create_model("vit_base_patch16_224.mae", depth=1),
    "L/14": lambda: timm.create_model("vit_large_patch14_224", depth=1, num_classes=3),
    "DeiT-Ti": lambda: timm.create_model("deit_tiny_patch16_224.fb_in1k", depth=2),
    "transformers": vit,
    "transformers, eps 1e-6": lambda: vit(layer_norm_eps=1e-6),
    "transformers, not square": lambda: vit(image_size=[16, 40]),
    "transformers, no head": lambda: vit(num_labels=0),
    "transformers, dropout before the head": lambda: with_dropout(vit(), "classifier"),
    "transformers ViTModel": lambda: vit("ViTModel"),
    "transformers MAE": lambda: vit("ViTMAEModel"),
    "transformers B/16": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)),
}
SMALL = ViTConfig(16, 8, embed_dim=24, num_heads=3, depth=2, num_classes=3, classes=("cat", "dog", "emu"))
LEFT_OUT = ("pooler.", "decoder.")


def convert(model):
    module = type(model).__module__.partition(".")[0]
    return getattr(weights, f"from_{module}")(model)


def forward(model, images):
    """Logits, or the class token's features, of any of the models."""
    order = {}
    if "MAE" in type(model).__name__:  # without masking, patches in their own order
        N = model.embeddings.patch_embeddings.num_patches
        order = {"noise": torch.arange(float(N)).repeat(len(images), 1)}
    out = model(images, **order)
    if isinstance(out, torch.Tensor):
        return out
    return out.logits if hasattr(out, "logits") else out.last_hidden_state[:, 0]


def images_for(ours):
    size = ours.config.image_size
    return torch.randn(1, ours.config.in_channels, *((size, size) if isinstance(size, int) else size))


@pytest.fixture(params=MODELS)
def pair(request):
    theirs = randomise(MODELS[request.param](), std=0.02 if "16" in request.param else 0.1)
    return theirs, convert(theirs)


def test_logits_gradients_and_every_number_once(pair):
    theirs, ours = pair
    theirs.requires_grad_(True)  # MAE's positions are fixed, ours may learn
    images = images_for(ours)
    expected, found = forward(theirs, images), ours(images)
    assert expected.abs().max() > 1e-3 and (found - expected).abs().max() <= 1e-5
    assert not ours.training

    used = [p for name, p in theirs.named_parameters() if not name.startswith(LEFT_OUT)]
    numbers = [torch.cat([p.detach().flatten() for p in ps]) for ps in (used, ours.parameters())]
    assert len(numbers[0]) == len(numbers[1])
    if len(numbers[0]) < 4e6:  # sorting the large ones takes half a minute
        assert torch.equal(*(values.sort().values for values in numbers))

    target = torch.randn_like(found)
    for out in (expected, found):
        (out * target).mean().backward()
    for p in theirs.parameters():
        p.data = torch.zeros_like(p) if p.grad is None else p.grad
    gradients = dict(convert(theirs).named_parameters())  # theirs under our names
    for name, p in ours.named_parameters():
        assert (gradients[name] - p.grad).abs().max() <= 1e-5, name


BACK = {  # where each library has a class that can hold the model
    "timm": lambda c: True,
    "torchvision": lambda c: c.pool == "cls" and isinstance(c.image_size, int) and c.in_channels == 3,
    "transformers": lambda c: c.pool == "cls",
}


@pytest.mark.parametrize("library", BACK)
@pytest.mark.parametrize("eps", [1e-6, 1e-12])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("change", [{}, {"image_size": (16, 24)}, {"pool": "mean"}, {"in_channels": 1}])
def test_and_back(library, eps, head, change):
    if "in_channels" in change:
        change = change | {"mean": (0.4,), "std": (0.4,)}
    ours = VisionTransformer(replace(SMALL, **change))
    if not head:
        ours.head, ours.config = nn.Identity(), replace(ours.config, num_classes=24, classes=())
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps
    randomise(ours)
    to_library = getattr(weights, f"to_{library}")
    if not BACK[library](ours.config):
        with pytest.raises(ValueError, match="use weights.to_timm"):
            to_library(ours)
        return
    theirs = to_library(ours)
    assert type(theirs).__module__.startswith(library) and not theirs.training
    images = images_for(ours)
    assert (forward(theirs, images) - ours(images)).abs().max() <= 1e-5
    again = convert(theirs)
    assert torch.equal(again(images), ours(images)) and again.norm.eps == eps
    if library == "timm":
        assert again.config.mean == ours.config.mean
    if library == "transformers":
        assert again.config.classes == ours.config.classes


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "ViTModel", "ViTMAEForPreTraining"])
def test_hub_files_of_transformers_have_version_4s_names(kind, tmp_path):
    """`save_pretrained` of version 5 writes the names of version 4, as all files on the hub have them."""
    theirs = randomise(vit(kind, num_labels=2, id2label={0: "cat", 1: "dog"}))
    theirs.save_pretrained(tmp_path)
    state, config = load_file(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text())
    assert any(".attention.attention.query.weight" in name for name in state)
    processor = transformers.ViTImageProcessor(image_mean=[0.1, 0.2, 0.3])
    for ours in (
        weights.from_transformers(state, config, processor.to_dict()),
        weights.from_transformers(theirs, processor=processor),
    ):
        assert ours.config.mean == (0.1, 0.2, 0.3) and ours.config.std == (0.5, 0.5, 0.5)
        assert ours.config.classes == (("cat", "dog") if kind == "ViTForImageClassification" else ())
        images = images_for(ours)
        encoder = theirs if kind == "ViTForImageClassification" else getattr(theirs, "vit", theirs)
        assert (ours(images) - forward(encoder, images)).abs().max() <= 1e-5


def test_normalisation_is_carried():
    half, imagenet = (0.5, 0.5, 0.5), weights.IMAGENET_MEAN
    assert convert(vit()).config.mean == half
    assert convert(vit("ViTMAEModel")).config.mean == imagenet
    assert convert(torchvision()).config.mean == imagenet
    names = {
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k": half,
        "vit_base_patch16_224.mae": imagenet,
        "vit_small_patch16_224.dino": imagenet,
        "deit_tiny_patch16_224": imagenet,
    }
    for name, mean in names.items():
        model = timm.create_model(name, depth=1)
        assert convert(model).config.mean == mean
        assert tuple(resolve_data_config(model=weights.to_timm(convert(model)))["mean"]) == mean


def with_key(model, **changes):
    """A state dict of transformers with entries replaced; None removes one."""
    state = {**model.state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


def from_state(**changes):
    model = vit()
    return weights.from_transformers(with_key(model, **changes), model.config.to_dict())


def without_a_key_matrix():
    """Its name depends on the version of transformers."""
    (name,) = (name for name in vit().state_dict() if re.search(r"\.1\.attention\..*(k_proj|key)\.weight$", name))
    return from_state(**{name: None})


def timm_small(**options):
    return weights.from_timm(Timm(**TIMM | {"depth": 1} | options))


REFUSED = {
    "distilled DeiT": (
        lambda: convert(timm.create_model("deit_tiny_distilled_patch16_224", depth=1)),
        "found VisionTransformerDistilled; distilled",
    ),
    "distilled DeiT of transformers": (
        lambda: convert(transformers.DeiTModel(transformers.DeiTConfig(**TRANSFORMERS))),
        "found 'deit': a DeiT with a distillation token",
    ),
    "another architecture": (
        lambda: weights.from_timm(timm.create_model("resnet18")),
        "expected timm's VisionTransformer, found ResNet",
    ),
    "another library": (
        lambda: weights.from_torchvision(Timm(**TIMM)),
        "expected torchvision's VisionTransformer, found VisionTransformer",
    ),
    "not of transformers": (
        lambda: weights.from_transformers(nn.Linear(2, 2)),
        "expected a transformers model, found Linear",
    ),
    "Swin": (
        lambda: weights.from_transformers({}, {"model_type": "swin"}),
        "type 'vit', 'vit_mae', .* found 'swin'",
    ),
    "state without config": (lambda: weights.from_transformers(vit().state_dict()), "expected the dict of config.json"),
    "tanh GELU of transformers": (lambda: convert(vit(hidden_act="gelu_new")), "found 'gelu_new'"),
    "quick GELU of CLIP": (lambda: timm_small(act_layer="quick_gelu"), "exact GELU .* found Mlp with QuickGELU"),
    "pre-norm of CLIP": (lambda: timm_small(pre_norm=True), "surplus norm_pre.weight"),
    "the largest": (lambda: timm_small(global_pool="max"), "expected global_pool 'token' or 'avg', .* found 'max'"),
    "no norm": (lambda: timm_small(final_norm=False), "expected a norm before the head, found none"),
    "parallel blocks": (
        lambda: timm_small(block_fn=timm.models.vision_transformer.ParallelScalingBlock),
        "found ParallelScalingBlock",
    ),
    "hybrid": (
        lambda: convert(timm.create_model("vit_tiny_r_s16_p8_224", depth=1)),
        "expected timm's PatchEmbed, found HybridEmbed",
    ),
    "several eps": (lambda: convert(mixed_eps()), r"one eps, found \[1e-06, 0.001\]"),
    "pre_logits": (
        lambda: convert(torchvision(representation_size=12)),
        "^expected a head of one linear layer, with or without dropout, found Linear, Tanh, Linear$",
    ),
    "convolutions": (
        lambda: convert(torchvision(conv_stem_configs=stem())),
        "expected the weights of a Vision Transformer, found these first: cls_token",
    ),
    "no ViT at all": (
        lambda: weights.from_transformers({"a": torch.ones(1)}, {"model_type": "vit"}),
        "found these first: a",
    ),
    "missing": (lambda: from_state(vit__layernorm__bias=None), r"missing norm.bias \(48,\)"),
    "surplus": (lambda: from_state(extra=torch.ones(2)), r"surplus extra \(2,\)"),
    "half of a head": (lambda: from_state(classifier__weight=None), "surplus head.bias"),
    "misshaped": (
        lambda: from_state(vit__layernorm__bias=torch.ones(3)),
        r"misshaped norm.bias: expected \(48,\), found \(3,\)",
    ),
    "no key matrix": (
        without_a_key_matrix,
        r"missing blocks.1.attn.qkv.weight \(144, 48\)[\s\S]*surplus blocks.1.attn.q.weight",
    ),
    "mean of the patches, in torchvision": (
        lambda: weights.to_torchvision(timm_small(global_pool="avg")),
        "found one that reads the patches; use weights.to_timm",
    ),
    "our model with more in it": (
        lambda: weights.to_timm(with_adapter()),
        r"expected weights of VisionTransformer, found:\s+surplus adapter.weight",
    ),
}


def mixed_eps():
    model = torchvision()
    model.encoder.ln.eps = 1e-3
    return model


def stem():
    return [ConvStemConfig(48, 3, 2) for _ in range(3)]


def with_adapter():
    model = convert(torchvision())
    model.adapter = nn.Linear(2, 2)
    return model


@pytest.mark.parametrize("call, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_ours_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(ImportError, match="^expected the package timm, found none; run: pip install timm$"):
        weights.to_timm(VisionTransformer(ViTConfig(depth=1)))


def test_a_long_list_of_differences_is_cut():
    with pytest.raises(ValueError, match="surplus blocks.0.mlp.norm.weight") as caught:
        weights.from_timm(Timm(**TIMM | {"depth": 12}, scale_mlp_norm=True))
    assert str(caught.value).count("\n") == 9 and str(caught.value).endswith("and 16 more")


MEANS = [
    {"global_pool": "avg", "fc_norm": after, "class_token": cls} for after in (True, False) for cls in (True, False)
]


@pytest.mark.parametrize("options", MEANS)
def test_a_model_that_reads_the_patches_survives_a_checkpoint_and_the_way_back(tmp_path, options):
    theirs = randomise(Timm(**TIMM | options))
    ours, images = convert(theirs), torch.randn(2, 3, 32, 32)
    weights.save(ours, tmp_path / "model.safetensors")
    for model in (weights.load(tmp_path / "model.safetensors"), weights.to_timm(ours), convert(weights.to_timm(ours))):
        assert (model(images) - theirs(images)).abs().max() <= 1e-5
    bigger, pictures = set_image_size(ours, 48), torch.randn(2, 3, 48, 48)
    theirs.set_input_size(img_size=48)
    assert (bigger(pictures) - theirs(pictures)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"do_normalize": False},
        {"image_mean": 0.4, "image_std": 0.2},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": 50.0},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 0.5, 1.0]},
    ],
)
def test_a_processor_is_taken_at_its_word(options):
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, **options)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    scalars = processor.to_dict() | {k: v for k, v in options.items() if k in ("image_mean", "image_std")}
    config = weights.from_transformers(vit(), processor=scalars).config
    options = {
        name: [value] * 3 if isinstance(value, float) and "image" in name else value for name, value in options.items()
    }
    expected = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, **options)(
        list(images), return_tensors="pt"
    )["pixel_values"]
    torch.testing.assert_close(normalise(images, config), expected.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"image_mean": None}, {"image_std": "a"}, {"image_std": 0}, {"rescale_factor": 0}])
def test_a_processor_without_numbers_is_refused(wrong):
    with pytest.raises(ValueError, match="expected (a processor with numbers|std above 0)"):
        weights.from_transformers(vit(), processor={"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_mode_are_kept(dtype):
    theirs = Timm(**TIMM).to(dtype).train()
    ours = convert(theirs)
    assert ours.training and ours.head.weight.dtype == dtype
    back = weights.to_transformers(ours)
    assert back.training and back.classifier.weight.dtype == dtype


def test_a_model_without_head_and_its_eps_survive_a_checkpoint(tmp_path):
    ours = convert(randomise(vit("ViTModel")))
    weights.save(ours, tmp_path / "model.safetensors")
    loaded, images = weights.load(tmp_path / "model.safetensors"), images_for(ours)
    assert loaded.norm.eps == loaded.blocks[0].norm1.eps == 1e-12 and isinstance(loaded.head, nn.Identity)
    assert torch.equal(loaded(images), ours(images))


@pytest.mark.parametrize("cls", [True, False], ids=["class token", "mean"])
@pytest.mark.parametrize("new", [(48, 48), (24, 40), (16, 16), (64, 8)])
@pytest.mark.parametrize("old", [(32, 32), (24, 40)])
def test_another_image_size_is_timms(old, new, cls):
    """Ours resized after conversion = timm's own resized model, three ways: made for the size, resized, dynamic."""
    options = TIMM if cls else TIMM | {"class_token": False, "global_pool": "avg", "fc_norm": False}
    theirs = randomise(Timm(**options | {"img_size": old}))
    ours, images = set_image_size(convert(theirs), new), torch.randn(2, 3, *new)
    made = Timm(**options | {"img_size": new}).eval()
    pos = resample_abs_pos_embed(theirs.pos_embed, [y // 8 for y in new], [y // 8 for y in old], int(cls))
    made.load_state_dict(theirs.state_dict() | {"pos_embed": pos})
    resized = copy.deepcopy(theirs)
    resized.set_input_size(img_size=new)
    dynamic = Timm(**options | {"img_size": old}, dynamic_img_size=True).eval()
    dynamic.load_state_dict(theirs.state_dict())
    for model in (made, resized, dynamic):
        assert (ours(images) - model(images)).abs().max() <= 1e-5
    torch.testing.assert_close(ours.pos_embed, made.pos_embed)
    if cls:
        assert torch.equal(ours.pos_embed[:, 0], theirs.pos_embed[:, 0])
    torch.testing.assert_close(convert(resized)(images), ours(images))
