"""What a recipe can switch on: patch dropout, CutMix, a closed-form start, compilation."""

import shutil
from dataclasses import replace

import pytest
import torch

from vit_tutorial import ModernConfig, ModernViT, VisionTransformer, ViTConfig, datasets, normalise, training
from vit_tutorial.machine.compiling import steps_on_nothing
from vit_tutorial.training.augment import PatchDropout, drop_patches
from vit_tutorial.training.initialise import initialise
from vit_tutorial.training.optimizer import Muon

MODEL = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=32, depth=1, num_heads=2)
RECIPE = training.Recipe(model=MODEL, batch_size=32, epochs=4, patch_dropout=0.5, clean_from=0.5)


@pytest.fixture(scope="module")
def data():
    return datasets.shapes("train", 128)


@pytest.mark.parametrize(("fraction", "left"), [(0.0, 16), (0.5, 8), (0.6, 7), (0.99, 1)])
@pytest.mark.parametrize("first", [0, 1])
def test_drop_patches_keeps_whole_tokens_and_the_class_token(fraction, left, first):
    tokens = torch.randn(3, first + 16, 5)
    kept = drop_patches(tokens, fraction, first)
    assert kept.shape == (3, first + left, 5)
    assert torch.equal(kept[:, :first], tokens[:, :first])
    places = [[(tokens[b] == t).all(dim=1).nonzero().item() for t in kept[b]] for b in range(3)]
    assert places[0] == places[1] == places[2] and len(set(places[0])) == first + left


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_training_drops_patches_until_clean_from_and_never_in_evaluation(data, pool):
    recipe = replace(RECIPE, model=replace(MODEL, pool=pool))
    model = VisionTransformer(recipe.config(data))
    seen = {True: [], False: []}
    model.blocks[0].register_forward_pre_hook(lambda block, inputs: seen[block.training].append(inputs[0].shape[1]))
    training.train(model, data, recipe, data[:64])
    extra = pool == "cls"
    assert seen[True] == [8 + extra] * 8 + [16 + extra] * 8
    assert set(seen[False]) <= {16 + extra}
    assert not model.pos_drop._forward_hooks  # nothing of training is left on the model


def test_cutmix_gives_mixed_targets_until_clean_from(data, monkeypatch):
    targets = []
    cross_entropy = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        training.trainer.F, "cross_entropy", lambda x, y, **kw: (targets.append(y.ndim), cross_entropy(x, y, **kw))[1]
    )
    training.train(VisionTransformer(RECIPE.config(data)), data, replace(RECIPE, cutmix=1.0, patch_dropout=0.0))
    assert targets == [2] * 8 + [1] * 8


def test_whitened_tokens_vary_alike_in_all_directions(data):
    config = replace(RECIPE.config(data), patch_size=4, embed_dim=64)
    fresh, white = VisionTransformer(config), VisionTransformer(config)
    initialise(white, data.images, ("patches",))

    def directions(model):
        tokens = model.patch_embed(normalise(data.images, config)).flatten(0, 1)  # (B*N, D)
        variance = torch.linalg.eigvalsh(torch.cov(tokens.T)).flip(0)[:20]
        return tokens.std().item(), (variance[0] / variance[-1]).item()

    with torch.no_grad():
        spread, ratio = directions(white)
    assert abs(spread - 0.5) < 0.05
    assert ratio < 0.1 * directions(fresh)[1]


def test_patches_too_large_to_be_whitened_start_at_random():
    images = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    model = VisionTransformer(replace(RECIPE.model, image_size=96, patch_size=48))
    before = model.patch_embed.proj.weight.clone()
    initialise(model, images, ("patches",))
    assert torch.equal(model.patch_embed.proj.weight, before)


def test_positions_start_as_waves_beside_the_class_token(data):
    model = VisionTransformer(RECIPE.config(data))
    before = model.pos_embed.detach().clone()
    initialise(model, data.images, ("positions",))
    assert torch.equal(model.pos_embed[:, :1], before[:, :1])
    assert model.pos_embed.requires_grad and model.pos_embed[0, 1:].abs().max() <= 0.5
    for position in ("none", "sinusoidal"):  # nothing is learned there
        model = VisionTransformer(replace(MODEL, position=position))
        with pytest.raises(ValueError, match=f"found position='{position}'; leave 'positions' out"):
            initialise(model, data.images, ("positions",))


def test_every_recipe_runs_on_its_data(data):
    """The GPU recipe too, at a small scale: what it switches on works together."""
    for name, recipe in training.RECIPES.items():
        config = replace(recipe.config(data), embed_dim=32, depth=1, num_heads=2)
        model = (ModernViT if isinstance(config, ModernConfig) else VisionTransformer)(config)
        history = training.train(model, data, replace(recipe, batch_size=32, compile=False), epochs=2)
        losses = history.steps["loss"]
        assert len(losses) == 8 and max(losses) < 5, name


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_training_is_the_same_training(data):
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = VisionTransformer(RECIPE.config(data))
        recipe = replace(RECIPE, compile=compiled, patch_dropout=0.0)  # one shape, one compilation
        with torch.compiler.set_stance("default"):  # to which it returns
            on_step = (lambda *_: torch.compiler.set_stance("fail_on_recompile")) if compiled else None
            history = training.train(model, data, recipe, epochs=1, on_step=on_step)
        losses.append(torch.tensor(history.steps["loss"]))
    assert history.info["compile_seconds"] > 0
    assert torch.allclose(*losses, atol=0.02)  # fused sums round elsewhere


def test_compiling_leaves_no_gradient_behind(data):
    model = VisionTransformer(RECIPE.config(data))
    steps_on_nothing(model, torch.zeros(4, 3, 32, 32), PatchDropout(0.5, 1))
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_muon_is_torchs_in_bfloat16_and_nearly_so_in_float32():
    def moved(optimizer, **options):
        torch.manual_seed(0)
        matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 24), (24, 8))]
        muon = optimizer([{"params": matrices, "lr": 0.1, "weight_decay": 0.1}], **options)
        for _ in range(3):
            for matrix in matrices:
                matrix.grad = torch.randn(matrix.shape)
            muon.step()
        return torch.cat([matrix.detach().flatten() for matrix in matrices])

    theirs = moved(torch.optim.Muon)
    assert torch.equal(moved(Muon, bf16=True), theirs)
    exact = moved(Muon)
    assert not torch.equal(exact, theirs) and (exact - theirs).abs().max() < 0.02
