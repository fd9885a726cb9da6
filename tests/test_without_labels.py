"""Masked autoencoders and DINO: masking, targets, views, teacher and centre; nearest neighbours; files."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from vit_tutorial import (
    ModernConfig,
    VisionTransformer,
    ViTConfig,
    datasets,
    metrics,
    training,
    weights,
)
from vit_tutorial import normalise as normalised
from vit_tutorial.layers import patchify
from vit_tutorial.machine import precision
from vit_tutorial.training import dino, mae

CONFIG = ViTConfig(
    image_size=32, patch_size=8, num_classes=10, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2.0, pool="mean"
)
CONFIGS = {
    "mean": CONFIG,
    "class token": replace(CONFIG, pool="cls"),
    "not square": replace(CONFIG, image_size=(16, 40), pool="cls"),
    "one channel": replace(CONFIG, in_channels=1, mean=(0.5,), std=(0.5,)),
    "no positions": replace(CONFIG, position="none"),
}
KINDS = {"mae": mae.MaskedAutoencoder, "dino": dino.DINO}
DATA = datasets.shapes("train", 64)


def body(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return training.without_head(VisionTransformer(config))


def images_for(config, count=6):
    rows, columns = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
    return torch.randn(count, config.in_channels, rows, columns)


# -------------------------------------------------------------------------------------------------- masked autoencoders


@pytest.mark.parametrize(("N", "ratio", "hidden"), [(16, 0.75, 12), (16, 0.5, 8), (7, 0.5, 3), (2, 0.5, 1)])
def test_each_picture_hides_so_many_patches_of_its_own(N, ratio, hidden):
    keep, restore = mae.random_masking(50, N, ratio)
    assert keep.shape == (50, N - hidden) and ((restore >= N - hidden).sum(dim=1) == hidden).all()
    assert torch.equal(restore.sort(dim=1).values, torch.arange(N).expand(50, N))
    assert torch.equal(restore.gather(1, keep), torch.arange(N - hidden).expand(50, -1))  # patch i is at restore[i]
    assert N < 7 or len(keep.unique(dim=0)) > 5
    own_keep, own_restore = mae.masking_of(restore >= N - hidden)  # the same patches, chosen
    assert torch.equal(own_keep, keep.sort(dim=1).values)
    assert torch.equal(own_restore >= N - hidden, restore >= N - hidden)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.05, -0.5, 1.5])
def test_a_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match="expected a ratio that hides some of the 16 patches"):
        mae.random_masking(1, 16, ratio)
    for wrong in (torch.tensor([[True, False], [True, True]]), torch.ones(2, 4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="equally many hidden patches"):
            mae.masking_of(wrong)


def test_what_went_in_comes_back_to_its_place():
    x = torch.randn(5, 16, 3)
    keep, restore = mae.random_masking(5, 16, 0.5)
    back = mae.take(torch.cat([mae.take(x, keep), torch.zeros(5, 8, 3)], dim=1), restore)
    assert torch.equal(back, x * (restore < 8)[:, :, None])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_encoder_sees_no_pixel_of_a_hidden_patch(config):
    vit, images = body(config), images_for(config).requires_grad_()
    N = math.prod(config.grid)
    keep, restore = mae.random_masking(len(images), N, 0.5)
    tokens = mae.encode(vit, images, keep)
    assert tokens.shape == (len(images), keep.shape[1] + (config.pool == "cls"), 32)
    tokens.square().sum().backward()
    seen = patchify(images.grad, 8).abs().sum(dim=2) > 0  # (B, N)
    assert torch.equal(seen, restore < keep.shape[1])
    whole = torch.arange(N).expand(len(images), N)  # with nothing hidden it is the model itself
    assert torch.allclose(mae.encode(vit, images, whole), vit.forward_features(images), atol=1e-5)


def test_only_hidden_patches_count():
    autoencoder, images = mae.MaskedAutoencoder(body(CONFIG), normalise=False), images_for(CONFIG)
    N, given = autoencoder.N, []
    autoencoder.decoder.register_forward_hook(lambda decoder, inputs, predicted: given.append(predicted))
    keep, restore = mae.random_masking(len(images), N, 0.5)
    hidden = restore >= keep.shape[1]
    loss = autoencoder.loss(images, keep, restore)
    (predicted,) = given
    assert torch.allclose(loss, ((predicted - patchify(images, CONFIG.patch_size))[hidden] ** 2).mean())
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.equal(gradient.abs().sum(dim=2) > 0, hidden)


def test_targets_have_the_contrast_of_each_patch_alone():
    images = images_for(CONFIG)
    targets = mae.patch_targets(images, 8)
    assert targets.mean(dim=2).abs().max() < 1e-5 and (targets.var(dim=2) - 1).abs().max() < 1e-3
    assert torch.allclose(mae.patch_targets(7 * images + 3, 8), targets, atol=1e-4)
    assert torch.equal(mae.patch_targets(images, 8, normalise=False), patchify(images, 8))
    assert torch.equal(mae.patch_targets(torch.ones(1, 3, 8, 8), 8), torch.zeros(1, 1, 192))  # flat: no division by 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_weight_that_learns_gets_a_gradient_in_both_precisions(config, name):
    losses = []
    for bf16 in (False, True):
        module, images = KINDS[name](body(config)), images_for(config)
        loss = precision.MixedPrecision(module, bf16)(images, module.draw(images))
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        learning = {n for n, p in module.named_parameters() if p.requires_grad}
        assert learning == {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) < (0.02 if name == "mae" else 0.5)  # DINO divides by 0.04


def test_an_untrained_model_knows_nothing_and_says_so():
    """Targets have variance 1, so the answer 0 has the loss 1; one that is small and random a little more."""
    torch.manual_seed(0)
    module, images = mae.MaskedAutoencoder(body()), images_for(CONFIG, 64)
    assert 0.95 < module(images).item() < 1.8
    torch.nn.init.zeros_(module.decoder.pred.weight), torch.nn.init.zeros_(module.decoder.pred.bias)
    assert abs(module(images).item() - 1) < 0.02
    assert math.log(256) - 3 < dino.DINO(body())(images).item() < math.log(256) + 3


def test_reconstruct_answers_for_every_patch_and_sees_none_that_is_hidden():
    module, images = mae.MaskedAutoencoder(body()), images_for(CONFIG)
    hidden = mae.random_masking(6, 16, 0.75)[1] >= 4
    answers = module.reconstruct(images, hidden)
    assert answers.shape == (6, 16, 192)
    patches = torch.where(hidden[:, :, None], torch.tensor(9.0), patchify(images, 8))
    changed = patches.unflatten(1, (4, 4)).unflatten(3, (3, 8, 8)).permute(0, 3, 1, 4, 2, 5).reshape(6, 3, 32, 32)
    assert torch.equal(patchify(changed, 8), patches)
    assert torch.allclose(module.reconstruct(changed, hidden), answers, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- DINO


def test_views_are_parts_of_each_picture_on_its_own():
    images = images_for(CONFIGS["not square"]).clamp(-1, 1)
    torch.manual_seed(1)
    views = dino.random_views(images)
    assert views.shape == images.shape and not torch.equal(views, dino.random_views(images))
    torch.manual_seed(1)
    alone = dino.random_views(torch.cat([images[:1], torch.zeros_like(images[1:])]))
    assert torch.equal(alone[:1], views[:1])
    whole = dino.random_views(images, least=1.0, jitter=0.0)  # all of it, as it is or mirrored
    same = [min((view - x).abs().max(), (view - x.flip(2)).abs().max()) for view, x in zip(whole, images, strict=True)]
    assert max(same) < 1e-4


def test_the_loss_asks_for_the_teachers_answer_to_the_other_view():
    torch.manual_seed(0)
    module, images = dino.DINO(body()), images_for(CONFIG)
    module.student["head"].last_layer.weight.data += 0.1  # so that the two differ
    module.centre += torch.linspace(-0.1, 0.1, 256)
    views = module.draw(images)
    student, teacher = ([dino.answers(network, view) for view in views] for network in (module.student, module.teacher))
    target = [((answer - module.centre) / 0.04).softmax(dim=1) for answer in teacher]
    by_hand = [-(target[1 - i] * (student[i] / 0.1).log_softmax(1)).sum(1).mean() for i in (0, 1)]
    loss = module(images, views)
    assert torch.allclose(loss, sum(by_hand) / 2, atol=1e-5)
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.parameters())


def test_after_a_step_teacher_and_centre_follow():
    module = dino.DINO(body(), momentum=0.75, centre_momentum=0.5)
    student = module.student.state_dict()
    assert all(torch.equal(value, student[name]) for name, value in module.teacher.state_dict().items())
    module(images_for(CONFIG))
    before = {name: p.clone() for name, p in module.teacher.named_parameters()}
    with torch.no_grad():
        for p in module.student.parameters():
            p += 1
    centre = module.centre.clone()
    module.after_step()
    assert all(torch.allclose(p, before[name] + 0.25, atol=1e-6) for name, p in module.teacher.named_parameters())
    assert torch.allclose(module.centre, 0.5 * centre + 0.5 * module.answers.mean(dim=0), atol=1e-6)


def test_entropies_tell_the_two_collapses_apart():
    uniform, same, varied = torch.zeros(8, 8), torch.eye(8)[[0] * 8], torch.eye(8)
    found = [dino.entropies(answers, torch.zeros(8), 0.01) for answers in (uniform, same, varied)]
    assert found[0] == pytest.approx((math.log(8),) * 2) and found[1] == pytest.approx((0, 0), abs=1e-6)
    assert found[2] == pytest.approx((0, math.log(8)), abs=1e-6)


# ------------------------------------------------------------------------------------------------ nearest neighbours


def test_nearest_neighbours_vote_by_the_cosine_of_what_the_head_would_read():
    test = datasets.shapes("test", 40)
    vit = VisionTransformer(CONFIG).train()
    found = [metrics.knn_accuracy(vit, DATA, test, k) for k in (1, 5)]
    assert vit.training and metrics.knn_accuracy(vit, DATA, DATA, 1) == 1.0
    vit = training.without_head(vit).eval()
    assert [metrics.knn_accuracy(vit, DATA, test, k) for k in (1, 5)] == found
    with torch.no_grad():
        known, asked = (vit(normalised(part.images, CONFIG)) for part in (DATA, test))
    similar = torch.nn.functional.cosine_similarity(asked[:, None], known[None], dim=2)
    for k, accuracy in zip((1, 5), found, strict=True):
        votes = [DATA.labels[row.argsort(descending=True)[:k]].bincount(minlength=10).tolist() for row in similar]
        right = sum(row.index(max(row)) == label for row, label in zip(votes, test.labels.tolist(), strict=True))
        assert accuracy == pytest.approx(right / 40)
    assert metrics.knn_accuracy(vit, DATA, test, 5.0) == found[1]
    other = replace(test, classes=test.classes[::-1])
    for wrong in ((DATA, test, 65), (DATA, test, 0), (DATA, test, 2.5), (DATA, test, "5"), (DATA, other, 5)):
        with pytest.raises(ValueError, match="expected pictures of the same classes and k in 1 .. 64"):
            metrics.knn_accuracy(vit, *wrong)


# -------------------------------------------------------------------------------------------------------------- files


def test_a_masked_autoencoder_survives_a_file(tmp_path):
    path, images = tmp_path / "mae.safetensors", images_for(CONFIGS["not square"])
    before = mae.MaskedAutoencoder(body(CONFIGS["not square"]), 0.5, 16, 2, normalise=False).eval()
    before.vit.norm.eps = before.vit.blocks[0].norm1.eps = before.vit.blocks[0].norm2.eps = 1e-5
    mae.save(before, path)
    after, hidden = mae.load(path), mae.random_masking(6, 10, 0.5)[1] >= 5
    assert torch.equal(after.reconstruct(images, hidden), before.reconstruct(images, hidden))
    assert (after.mask_ratio, after.normalise, after.training, after.vit.norm.eps) == (0.5, False, False, 1e-5)
    assert isinstance(after.vit.head, torch.nn.Identity)
    with pytest.raises(ValueError, match="written by vit_tutorial.weights.save, found mae.safetensors with format"):
        weights.load(path)


def changed_file(path, tensors=None, **metadata):
    """Write a small masked autoencoder with other tensors or metadata than its own."""
    mae.save(mae.MaskedAutoencoder(body()), path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors = {name: value for name, value in (load_file(path) | (tensors or {})).items() if value is not None}
    save_file(tensors, path, header["__metadata__"] | metadata)


HUGE = json.dumps(asdict(replace(CONFIG, embed_dim=65536, depth=500)))
WIDE = {"mask_ratio": 0.75, "decoder_dim": 64, "decoder_depth": 1, "normalise": True}
DAMAGED = {
    "huge": ({"config": HUGE}, "found a damaged one .a model of [0-9,]{12,} parameters"),
    "a huge decoder": ({"settings": json.dumps(WIDE | {"decoder_dim": 40000})}, "damaged one .a model of [0-9,]{12,}"),
    "a deep decoder": ({"settings": json.dumps(WIDE | {"decoder_depth": 10**6})}, "damaged one .a model of"),
    "another setting": ({"settings": json.dumps(WIDE | {"future": 1})}, "damaged one .*future"),
    "no ratio": ({"settings": json.dumps(WIDE | {"mask_ratio": "x"})}, "damaged one"),
    "a modern config": ({"config": json.dumps(asdict(ModernConfig(**asdict(CONFIG))))}, "damaged one .ModernConfig"),
    "another decoder": ({"settings": json.dumps(WIDE | {"decoder_dim": 32})}, "misshaped"),
    "another encoder": ({"config": json.dumps(asdict(replace(CONFIG, embed_dim=16, num_classes=16)))}, "misshaped"),
    "another format": ({"format": weights.FORMAT}, "written by vit_tutorial.training.mae.save, found"),
    "a tensor less": ({"tensors": {"decoder.norm.bias": None}}, "missing norm.bias"),
    "a tensor more": ({"tensors": {"decoder.x": torch.zeros(1)}}, "surplus x"),
    "of neither": ({"tensors": {"x": torch.zeros(1)}}, "damaged one"),
    "NaN": ({"tensors": {"decoder.norm.bias": torch.full((64,), math.nan)}}, "NaN or infinity in 1 of"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_masked_autoencoder_is_named(changes, message, tmp_path):
    changed_file(tmp_path / "mae.safetensors", **changes)
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        mae.load(tmp_path / "mae.safetensors")


def test_what_is_no_masked_autoencoder_is_not_kept(tmp_path):
    for other in (body(), dino.DINO(body())):
        with pytest.raises(ValueError, match="expected a MaskedAutoencoder, found .*; weights.save keeps a ViT"):
            mae.save(other, tmp_path / "mae.safetensors")
    assert not list(tmp_path.iterdir())


def test_no_file_of_a_masked_autoencoder(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint at"):
        mae.load(tmp_path / "nothing")
    for content in (b"", b"weights, honestly", bytes(5000)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match="found file unreadable"):
            mae.load(tmp_path / "file")
