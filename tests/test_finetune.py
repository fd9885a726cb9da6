"""Fine-tuning: heads, learning rates for each layer, frozen parts; against timm, and through the loop that trains."""

from dataclasses import replace

import pytest
import torch
from test_cli import make_folder
from torch import nn

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, ViTConfig, cli, set_image_size, training, weights
from vit_tutorial.datasets import ImageSet
from vit_tutorial.training import Recipe
from vit_tutorial.training.optimizer import MuonAndAdamW, make_optimizer, scaled_groups
from vit_tutorial.weights import PatchPoolViT

MODEL = ViTConfig(image_size=8, patch_size=4, num_classes=3, embed_dim=16, depth=3, num_heads=2)
RECIPE = Recipe(model=MODEL, epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.05, ema=0.0, crop=1)


def trained(**changes):
    torch.manual_seed(0)
    return VisionTransformer(replace(MODEL, **changes))


def brightness(count=32, size=8):
    """Dark and light images with noise."""
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, 3, size, size), generator=torch.Generator().manual_seed(0))
    return ImageSet((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, ("dark", "light"))


def before_and_after(model, recipe, data=None):
    """{name: whether training with `recipe` changed it}."""
    data = brightness() if data is None else data
    start = {name: p.clone() for name, p in model.named_parameters()}
    training.train(model, data, recipe)
    return {name: not torch.equal(p, start[name]) for name, p in model.named_parameters()}


# ------------------------------------------------------------------------------------------------- learning rates


def described(groups, model):
    """{names: (factor, weight decay)} of parameter groups, in no order."""
    names = {p: name for name, p in model.named_parameters()}
    return {frozenset(names[p] for p in g["params"]): (pytest.approx(g["lr_scale"]), g["weight_decay"]) for g in groups}


@pytest.mark.parametrize("decay", [0.65, 0.9])
@pytest.mark.parametrize(
    "options", [{}, {"class_token": False, "global_pool": "avg", "fc_norm": False}], ids=["cls", "avg"]
)
def test_groups_are_those_of_timm(options, decay):
    timm = pytest.importorskip("timm")
    pytest.importorskip("timm.optim")
    theirs = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=11, num_heads=2, num_classes=5, **options
    )
    ours = weights.from_timm(theirs)
    expected = timm.optim.param_groups_layer_decay(
        theirs, weight_decay=0.05, no_weight_decay_list=theirs.no_weight_decay(), layer_decay=decay
    )
    recipe = replace(RECIPE, layer_decay=decay)
    for model in (ours, theirs):
        assert described(scaled_groups(model, recipe), model) == described(expected, theirs)
    assert len(expected) == 2 * 13  # embedding, 11 blocks and head, each with and without weight decay


def test_attention_pooling_lies_behind_the_blocks_and_muon_takes_the_matrices_in_them():
    model = PatchPoolViT(ModernConfig(32, 8, embed_dim=32, depth=2, num_heads=2, norm="rms", layer_scale=0.1), "map")
    factors = training.rate_factors(model, replace(RECIPE, layer_decay=0.5, body_rate=0.1))
    assert factors["attn_pool.latent"] == factors["attn_pool.q.weight"] == factors["norm.weight"] == pytest.approx(0.05)
    gated = ModernViT(ModernConfig(32, 8, embed_dim=32, depth=1, num_heads=2, registers=2, mlp="swiglu", qk_norm=True))
    names = {p: name for name, p in gated.named_parameters()}
    muon, adamw = make_optimizer(gated, replace(RECIPE, muon_learning_rate=1e-2)).optimizers
    taken = {names[p].removeprefix("blocks.0.") for group in muon.param_groups for p in group["params"]}
    assert taken == {f"{part}.weight" for part in ("attn.qkv", "attn.proj", "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2")}
    assert "reg_token" in {names[p] for group in adamw.param_groups for p in group["params"]}


def test_factors_by_hand():
    factors = training.rate_factors(trained(), replace(RECIPE, layer_decay=0.5, body_rate=0.1))
    expected = {
        "head.bias": 1.0,
        "norm.weight": 0.05,
        "blocks.2.mlp.fc1.weight": 0.05,
        "blocks.1.norm1.bias": 0.025,
        "blocks.0.attn.qkv.weight": 0.0125,
        "patch_embed.proj.weight": 0.00625,
        "cls_token": 0.00625,
        "pos_embed": 0.00625,
    }
    assert {name: factors[name] for name in expected} == pytest.approx(expected)
    assert set(factors) == {name for name, _ in trained().named_parameters()}


@pytest.mark.parametrize("muon", [0.0, 1e-2])
def test_steps_have_the_size_that_the_factors_say(muon):
    """Adam's first step moves every number by the learning rate, Muon's every matrix by a fixed length times it."""
    recipe = replace(RECIPE, layer_decay=0.5, weight_decay=0.0, muon_learning_rate=muon)
    model = trained()
    factors, optimizer = training.rate_factors(model, recipe), make_optimizer(model, recipe)
    start = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    moved = {name: (p - start[name]).detach() for name, p in model.named_parameters()}
    for name, step in moved.items():
        if muon and name.startswith("blocks") and step.ndim == 2:
            ratio = step.norm() / moved[name.replace(name[:8], "blocks.2")].norm()
            assert ratio == pytest.approx(factors[name] / 0.5, rel=0.2), name
        else:
            assert step.abs().max().item() == pytest.approx(1e-2 * factors[name], rel=1e-3), name


def test_an_ordinary_recipe_has_two_groups_as_before():
    model = trained()
    plain, scaled = training.param_groups(model, 0.05), scaled_groups(model, RECIPE)
    assert [group["lr_scale"] for group in scaled] == [1.0, 1.0]
    for a, b in zip(plain, scaled, strict=True):
        assert a["weight_decay"] == b["weight_decay"] and all(
            p is q for p, q in zip(a["params"], b["params"], strict=True)
        )
    both = make_optimizer(model, replace(RECIPE, muon_learning_rate=1e-2))
    assert [len(group["params"]) for group in both.param_groups] == [12, 2, 30]


def test_a_network_without_blocks_trains_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert set(training.rate_factors(net, RECIPE).values()) == {1.0}


# ------------------------------------------------------------------------------------------------- frozen parts


def test_a_probe_trains_the_head_alone():
    model = training.new_head(trained(), ("dark", "light"))
    changed = before_and_after(model, replace(RECIPE, body_rate=0.0))
    assert {name for name, moved in changed.items() if moved} == {"head.weight", "head.bias"}
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("head"))


def test_a_probe_needs_no_muon():
    assert not isinstance(
        make_optimizer(trained(), replace(RECIPE, body_rate=0.0, muon_learning_rate=0.1)), MuonAndAdamW
    )


def test_frozen_parts_stay_and_all_else_moves():
    recipe = replace(RECIPE, frozen=("patch_embed", "blocks.1"))
    changed = before_and_after(training.new_head(trained(), ("dark", "light")), recipe)
    kept = {name for name, moved in changed.items() if not moved}
    assert kept == {name for name in changed if name.startswith(("patch_embed.", "blocks.1."))}


def test_block_1_is_not_block_10():
    factors = training.rate_factors(trained(depth=11), replace(RECIPE, frozen=("blocks.1",)))
    assert {name.split(".")[1] for name, factor in factors.items() if not factor} == {"1"}


def test_what_is_frozen_stays_frozen_until_thawed():
    model = training.new_head(trained(), ("dark", "light"))
    training.freeze(model, replace(RECIPE, body_rate=0.0))
    assert sum(before_and_after(model, RECIPE).values()) == 2
    assert sum(before_and_after(model.requires_grad_(True), RECIPE).values()) > 30


def test_a_misspelt_part_is_refused():
    with pytest.raises(ValueError, match=r"frozen parts such as 'patch_embed' or 'blocks.0', found 'block.0'"):
        training.freeze(trained(), replace(RECIPE, frozen=("block.0",)))


@pytest.mark.parametrize("changes", [{"body_rate": 0.0}, {"layer_decay": 0.5, "frozen": ("patch_embed",), "ema": 0.9}])
def test_a_run_goes_on_as_if_never_interrupted(changes, tmp_path):
    def begin(out, on_step=None, resume=False):
        model = training.new_head(trained(), ("dark", "light"))
        training.train(model, brightness(), replace(RECIPE, **changes), out=out, on_step=on_step, resume=resume)
        return model.state_dict()

    def stop(history, progress):
        if progress >= 0.4:
            raise KeyboardInterrupt

    whole = begin(tmp_path / "whole")
    begin(tmp_path / "broken", stop)
    resumed = begin(tmp_path / "broken", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# ------------------------------------------------------------------------------------------------- a new head


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_new_head_is_zero_and_the_body_is_as_it_was(pool):
    model, old = trained(pool=pool).double(), trained(pool=pool).double()
    assert training.new_head(model, ["a", "b", "c", "d", "e"]) is model
    assert (model.config.num_classes, model.config.classes) == (5, ("a", "b", "c", "d", "e"))
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (4, 5) and logits.eq(0).all() and logits.dtype == torch.float64
    assert torch.equal(model.forward_features(images), old.forward_features(images))
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, p in model.named_parameters():  # the first step moves the head alone
        assert p.grad.any() == name.startswith("head"), name


def test_a_new_head_is_saved_with_its_classes(tmp_path):
    weights.save(training.new_head(trained(), ("dark", "light")), tmp_path / "model.safetensors")
    assert weights.load(tmp_path / "model.safetensors").config.classes == ("dark", "light")


def test_no_class_is_refused():
    with pytest.raises(ValueError, match="num_classes to be an integer of at least 1, found 0"):
        training.new_head(trained(), ())


# ------------------------------------------------------------------------------------------------- recipes, CLI


@pytest.mark.parametrize("name", ["fine-tune", "probe"])
def test_recipes_learn_new_classes_at_a_new_size(name):
    torch.manual_seed(0)
    model = VisionTransformer(replace(training.RECIPES[name].model, embed_dim=32, depth=2))
    data = brightness(64, size=40)
    training.new_head(set_image_size(model, data.image_size), data.classes)
    history = training.train(model, data, training.RECIPES[name], data, epochs=6)
    assert history.accuracy > 0.9


def test_train_starts_from_a_checkpoint_and_goes_on(tmp_path, capsys):
    make_folder(tmp_path)
    start, run = tmp_path / "start.safetensors", tmp_path / "run"
    weights.save(trained(), start)
    line = ["train", "--data", str(tmp_path / "pictures"), "--start", str(start), "--recipe", "probe"]
    assert cli.main([*line, "--epochs", "30", "--out", str(run)]) == 0
    assert "test accuracy 100.00 %" in capsys.readouterr().out
    model = weights.load(run / "model.safetensors")
    assert model.config == replace(MODEL, image_size=(8, 8), num_classes=2, classes=("blue", "red"))
    body = trained().state_dict()
    assert all(torch.equal(p, body[name]) for name, p in model.state_dict().items() if not name.startswith("head"))
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert "Nothing left to do" in capsys.readouterr().out
    assert cli.main([*line[:-2], "--start", "nowhere", "--out", str(tmp_path / "other")]) == 2
    assert "expected a checkpoint at nowhere" in capsys.readouterr().err
