"""ONNX: the file says what torch says, for any number of images, and gives nothing of this machine away."""

import json

import pytest
import torch

from vit_tutorial import VisionTransformer, ViTConfig, export, normalise

SMALL = {"image_size": (16, 24), "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def test_a_missing_package_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else name)
    assert export.missing() == "ONNX needs onnx and onnxruntime: pip install onnx onnxruntime"
    with pytest.raises(ImportError, match="pip install onnx onnxruntime"):
        export.to_onnx(None, tmp_path / "a.onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    assert export.missing() == ""


@pytest.mark.skipif(bool(export.missing()), reason="needs the export extra")
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_onnxruntime_agrees_with_torch(tmp_path, pool, capfd):
    import onnx

    torch.manual_seed(0)
    config = ViTConfig(**SMALL, pool=pool, classes=("a", "<b>", "ü"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    model = VisionTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    assert model.training and "embed" not in vars(model)  # the model is as it was
    assert list(tmp_path.iterdir()) == [path]  # one file
    for B in (1, 2, 7):
        images = torch.randint(0, 256, (B, 3, 16, 24), dtype=torch.uint8)
        with torch.no_grad():
            expected = model.eval()(normalise(images, config))
        model.train()
        assert (export.run_onnx(path, images) - expected).abs().max() < 1e-4
    assert expected.abs().max() > 0.1
    proto = onnx.load(path)
    assert json.loads({p.key: p.value for p in proto.metadata_props}["classes"]) == ["a", "<b>", "ü"]
    assert b"site-packages" not in path.read_bytes() and b".py" not in path.read_bytes()
    assert capfd.readouterr() == ("", "")
