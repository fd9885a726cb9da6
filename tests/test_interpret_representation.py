"""interpret, what weights and tokens hold: positions, filters, CKA; and patches in another order."""

from itertools import permutations

import numpy as np
import pytest
import timm
import torch
import torchvision

from vit_tutorial import VisionTransformer, ViTConfig, interpret, patchify
from vit_tutorial.interpret.representation import gram, hsic

SIZES = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
WIDE = {"image_size": (16, 24), "patch_size": 8}


def ours(**options):
    return VisionTransformer(ViTConfig(**SIZES | WIDE | options)).eval()


def test_shuffled_patches_without_positions_leave_the_logits_equal():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 24)
    for pool in ("cls", "mean"):
        shuffled = interpret.shuffle_patches(images, 8, share=1.0)
        model = ours(pool=pool)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.5)
        assert (model(shuffled) - model(images)).abs().max() > 0.1
        model.pos_embed.data.zero_()
        assert torch.allclose(model(shuffled), model(images), atol=1e-5)
    assert all((a != b).any() for a, b in zip(shuffled, images, strict=True))


@pytest.mark.parametrize("change", [interpret.shuffle_patches, interpret.cover_patches])
def test_as_many_patches_change_as_asked_for_and_each_image_has_its_own(change):
    images = torch.randn(5, 3, 32, 32)
    for share, count in ((0.0, 0), (0.25, 4), (0.5, 8), (1.0, 16)):
        changed = change(images, 8, share, seed=3)
        assert torch.equal(changed, change(images, 8, share, seed=3))
        before, after = patchify(images, 8), patchify(changed, 8)
        moved = (before != after).any(dim=-1)  # (B, N)
        assert moved.sum(dim=1).tolist() == [count] * 5
        if change is interpret.shuffle_patches:
            assert torch.equal(before.flatten(1).sort().values, after.flatten(1).sort().values)  # none lost, none twice
        else:
            assert torch.allclose(changed.mean(dim=(2, 3))[share == 1], images.mean(dim=(2, 3))[share == 1], atol=1e-6)
        assert share in (0.0, 1.0) or len(moved.unique(dim=0)) > 1
    with pytest.raises(ValueError, match="expected share"):
        change(images, 8, 50)


@pytest.mark.parametrize(
    "model",
    [
        ours(),
        ours(pool="mean"),
        timm.models.VisionTransformer(img_size=(16, 24), patch_size=8, reg_tokens=2, **SIZES),
        timm.models.VisionTransformer(img_size=(16, 24), patch_size=8, reg_tokens=2, no_embed_class=True, **SIZES),
    ],
)
def test_position_similarity_is_the_cosine_of_patches_positions(model):
    model.pos_embed.data.normal_()
    similarity = interpret.position_similarity(model)
    assert similarity.shape == (2, 3, 2, 3)
    positions = model.pos_embed.data[0, -6:].view(2, 3, 16)
    cosine = torch.nn.functional.cosine_similarity(positions[0, 1], positions[1, 2], dim=0)
    assert similarity[0, 1, 1, 2].item() == pytest.approx(cosine.item(), abs=1e-6)
    assert torch.allclose(torch.einsum("ijij->ij", similarity), torch.ones(2, 3))


def test_position_similarity_of_rotary_positions_is_the_mean_cosine_of_the_angles_between():
    model = timm.create_model("vit_small_patch16_dinov3", depth=1, img_size=64, embed_dim=64, num_heads=2)
    similarity = interpret.position_similarity(model)
    sines, cosines = model.rope.get_embed(shape=(4, 4)).chunk(2, dim=-1)
    angles = torch.atan2(sines, cosines)  # (16, D/H)
    expected = (angles[:, None] - angles[None]).cos().mean(dim=-1)
    torch.testing.assert_close(similarity.flatten(2).flatten(0, 1), expected)
    assert similarity[1, 1].argmax() == 5 and similarity.std() > 0.05


@pytest.mark.parametrize(
    "name, found", [("beit_base_patch16_224", "none"), ("vit_small_patch16_rope_mixed_224", "rot")]
)
def test_positions_of_other_kinds_are_a_sentence(name, found):
    model = timm.create_model(name, depth=1, embed_dim=64, num_heads=2)
    with pytest.raises(ValueError, match=f"expected learned positions or the same rotary ones .*, found {found}"):
        interpret.position_similarity(model)


def test_position_similarity_and_filters_of_torchvision():
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    assert interpret.position_similarity(model).shape == (4, 4, 4, 4)
    assert interpret.filter_components(model, 3)[0].shape == (3, 3, 8, 8)


def test_sinusoidal_positions_are_most_like_their_neighbours():
    similarity = interpret.position_similarity(ours(image_size=64, position="sinusoidal"))[4, 4]
    assert similarity[4, 4] > similarity[4, 5] > similarity[4, 7] and similarity[4, 4] > similarity[5, 4]


def test_filter_components_are_the_eigenvectors_of_the_filters_covariance():
    model = ours(patch_size=2, embed_dim=40)
    filters = model.patch_embed.proj.weight.data.normal_() * torch.linspace(0.1, 2, 12).view(3, 2, 2) + 3
    model.patch_embed.proj.weight.data = filters
    components, share = interpret.filter_components(model, 12)
    values, vectors = np.linalg.eigh(np.cov(filters.flatten(1).numpy().T))
    assert np.allclose(share, values[::-1] / values.sum(), atol=1e-5) and share.sum().item() == pytest.approx(1)
    for component, vector in zip(components.flatten(1).numpy(), vectors.T[::-1], strict=True):
        assert abs(component @ vector) == pytest.approx(1, abs=1e-4)
        assert component[abs(component).argmax()] > 0
    assert torch.equal(interpret.filter_components(model, 2)[0], components[:2])
    for count in (0, 13):
        with pytest.raises(ValueError, match="expected a count from 1 to 12"):
            interpret.filter_components(model, count)


def biased_cka(x, y):
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return ((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def test_cka_of_itself_is_one_and_rotation_scale_and_shift_do_not_matter():
    torch.manual_seed(0)
    x, y = torch.randn(40, 12), torch.randn(40, 30)
    y[:, :12] += x
    rotation = torch.linalg.qr(torch.randn(12, 12)).Q
    expected = interpret.linear_cka(x, y)
    assert interpret.linear_cka(x, x) == pytest.approx(1) and 0.1 < expected < 0.9
    for same in (x @ rotation, 7 * x, x + 100 * torch.randn(12), 0.1 * x @ rotation + 1):
        assert interpret.linear_cka(same, y) == pytest.approx(expected, abs=1e-4)
        assert interpret.linear_cka(y, same) == pytest.approx(expected, abs=1e-4)
    stretched = x * torch.linspace(0.1, 10, 12)  # not isotropic
    assert abs(interpret.linear_cka(stretched, y) - expected) > 0.01


def test_cka_of_independent_data_is_about_zero_however_wide_and_the_biased_one_is_not():
    torch.manual_seed(0)
    pairs = [(torch.randn(50, 300), torch.randn(50, 300)) for _ in range(20)]
    found = [interpret.linear_cka(x, y) for x, y in pairs]
    assert abs(np.mean(found)) < 0.02 and max(map(abs, found)) < 0.1
    assert min(biased_cka(x, y) for x, y in pairs) > 0.7


def test_hsic_is_the_mean_over_all_fours_of_different_images():
    """The U-statistic of Song et al. 2012, term by term."""
    K, L = gram(torch.randn(7, 3)), gram(torch.randn(7, 4))
    fours = [K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in permutations(range(7), 4)]
    assert hsic(K, L).item() / (7 * 4) == pytest.approx(float(sum(fours)) / len(fours))


@pytest.mark.parametrize("shapes", [((3, 2), (3, 2)), ((8, 2), (9, 2)), ((8, 2, 2), (8, 4))])
def test_cka_refuses_features_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="expected features"):
        interpret.linear_cka(*map(torch.zeros, shapes))
