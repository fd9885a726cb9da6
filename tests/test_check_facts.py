"""What the checks and the notebooks' records take for granted about other things."""

import json

import fine_tuning
import small_data
import torch
from records import missing
from torch import nn
from torchvision.models import VisionTransformer as TorchvisionViT

from vit_tutorial import ViTConfig, check
from vit_tutorial.patients import patient_a, patient_b, patient_c


def test_names_asked_for_are_those_of_torchvision():
    theirs = [TorchvisionViT(8, 4, depth, num_heads=1, hidden_dim=4, mlp_dim=8).state_dict() for depth in (12, 24)]
    asked = {name for (name,) in check.EXERCISES["rename_weights"].task.cases()}
    assert set(theirs[0]) < asked < set(theirs[1])


def test_the_patients_are_ill_as_the_answers_say():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    config = ViTConfig(image_size=32, patch_size=8, num_classes=10, embed_dim=24, depth=2, num_heads=2)
    halves = []
    for make in (patient_a, patient_b, patient_c):
        model, pixels = make(config).eval(), images.clone().requires_grad_()
        (model(pixels) * torch.randn(10)).sum().backward()
        halves.append([bool(half.any()) for half in pixels.grad.split(16, dim=2)])
        maps = model.attention_maps(images)  # (L, B, H, N, N)
        assert maps.shape == (2, 2, 2, 17, 17) and torch.allclose(maps.sum(-1), torch.ones(2, 2, 2, 17), atol=1e-5)
    assert halves == [[True, False], [True, True], [False, False]]


def test_the_empty_class_is_not_attempted():
    class Stub(nn.Module):
        def __init__(self, linear, rank):
            super().__init__()
            ...

        def forward(self, x):
            return ...

    assert check.lora(Stub).mistake == "not attempted"


def test_the_record_that_notebook_08_draws_is_complete():
    runs, plan = json.loads(small_data.RECORD.read_text())["runs"], list(small_data.plan())
    assert len(runs) == len(plan) and missing(plan, runs) == []
    assert {spec["augmentation"] for spec in plan} <= set(small_data.from_notebook()["augmentations"])


def test_the_record_that_notebook_09_draws_is_complete():
    course = json.loads(fine_tuning.RECORD.read_text())["course"]
    assert missing(fine_tuning.plan(), course["runs"]) == []
    assert course["info"]["start"] == fine_tuning.shipped(), "another checkpoint: run fine_tuning.py again"
