"""Checkpoints: what goes in comes out, and nothing damaged or foreign gets in."""

import copy
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, weights
from vit_tutorial.files import atomic_path

CONFIG = ViTConfig(
    image_size=(16, 8), patch_size=4, num_classes=2, embed_dim=12, depth=2, num_heads=3, classes=("cat", "dog")
)


@pytest.fixture
def model():
    return VisionTransformer(CONFIG).eval()


def test_save_and_load_give_the_same_model(model, tmp_path):
    weights.save(model, tmp_path / "new folder" / "model.safetensors")
    loaded = weights.load(tmp_path / "new folder" / "model.safetensors")
    images = torch.randn(2, 3, 16, 8)
    assert loaded.config == CONFIG and not loaded.training
    assert torch.equal(loaded(images), model(images))


def test_half_precision_halves_the_file(model, tmp_path):
    weights.save(model, tmp_path / "full.safetensors")
    weights.save(model, tmp_path / "half.safetensors", half=True)
    loaded = weights.load(tmp_path / "half.safetensors")
    sizes = [sum(v.nbytes for v in load_file(tmp_path / f"{n}.safetensors").values()) for n in ("full", "half")]
    assert sizes[0] == 2 * sizes[1]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].half().float())


def compiled_inside(model):
    model.blocks[1] = torch.compile(model.blocks[1])
    return model


def with_dropout(model):
    model.head = nn.Sequential(nn.Dropout(0.1), model.head)
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        lambda model: torch.compile(nn.DataParallel(model)),
        torch.optim.swa_utils.AveragedModel,
        lambda model: model.bfloat16(),
        lambda model: model.half(),
        compiled_inside,
        with_dropout,
    ],
)
def test_wrapped_models_are_saved_as_what_is_in_them(model, tmp_path, wrap):
    images = torch.randn(2, 3, 16, 8)
    expected = model(images)
    weights.save(wrap(copy.deepcopy(model)), tmp_path / "model.safetensors")
    loaded = weights.load(tmp_path / "model.safetensors")
    assert loaded.config == CONFIG and (loaded(images) - expected).abs().max() < 0.02


def test_what_could_not_be_read_again_is_not_written(model, tmp_path):
    more, other = copy.deepcopy(model), copy.deepcopy(model)
    more.blocks[0].adapter = nn.Linear(2, 2)
    other.head = nn.Linear(12, 7)
    for wrong, message in (
        (nn.Linear(2, 2), "expected a VisionTransformer of this course, found Linear; vit_tutorial.weights.from_timm"),
        (more, "found blocks.0.adapter.weight too; merge or remove it first"),
        (other, "expected a head for the 2 classes of model.config, found 7 outputs; training.new_head"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.save(wrong, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def damage(path, model, how):
    """Write a file that is not quite a checkpoint."""
    weights.save(model, path)
    data = path.read_bytes()
    state, config = load_file(path), {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    metadata = {"format": weights.FORMAT, "config": json.dumps(config)}
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    elif how == "torch zip":
        torch.save(model.state_dict(), path)
    elif how == "foreign":
        save_file(state, path)
    elif how == "missing":
        state.pop("head.bias")
        save_file(state, path, metadata)
    elif how == "surplus":
        save_file(state | {"extra": torch.zeros(1)}, path, metadata)
    elif how == "misshaped":
        save_file(state | {"head.bias": torch.zeros(7)}, path, metadata)
    elif how == "no config":
        save_file(state, path, {"format": weights.FORMAT})
    elif how == "unknown setting":
        save_file(state, path, metadata | {"config": json.dumps(config | {"colour": "red"})})
    elif how == "impossible setting":
        save_file(state, path, metadata | {"config": json.dumps(config | {"num_heads": 5})})


DAMAGE = {
    "truncated": "unreadable",
    "empty": "unreadable",
    "pickle": "unreadable",
    "torch zip": "unreadable",
    "foreign": "expected a checkpoint written by vit_tutorial.weights.save",
    "missing": r"missing head.bias \(2,\)",
    "surplus": r"surplus extra \(1,\)",
    "misshaped": r"misshaped head.bias: expected \(2,\), found \(7,\)",
    "no config": "expected a model config inside",
    "unknown setting": "damaged one .*colour",
    "impossible setting": "divides the width 12, found 5",
}


@pytest.mark.parametrize("how, message", DAMAGE.items())
def test_a_damaged_checkpoint_is_refused(model, tmp_path, monkeypatch, how, message):
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "model.safetensors", model, how)
    with pytest.raises(ValueError, match=message):
        weights.load(tmp_path / "model.safetensors")
    assert not (tmp_path / "pwned").exists()


def test_a_missing_checkpoint_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="vit-tutorial train"):
        weights.load(tmp_path / "none.safetensors")


def test_load_state_lists_every_problem_and_changes_nothing(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()} | {"extra": torch.zeros(1)}
    del state["norm.weight"]
    with pytest.raises(ValueError, match=r"missing norm.weight[\s\S]*surplus extra"):
        weights.load_state(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
