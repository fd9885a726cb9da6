"""ONNX: the file says what torch says, for any number of images, and gives nothing of this machine away."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vit_tutorial import VisionTransformer, ViTConfig, datasets, export, normalise

SMALL = {"image_size": (16, 24), "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def test_a_missing_package_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else name)
    assert export.missing() == "ONNX needs onnx and onnxruntime: pip install onnx onnxruntime"
    with pytest.raises(ImportError, match="pip install onnx onnxruntime"):
        export.to_onnx(None, tmp_path / "a.onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    assert export.missing() == ""


@pytest.mark.skipif(bool(export.missing()), reason="needs the export extra")
def test_onnxruntime_agrees_with_torch(tmp_path, capfd):
    import onnx

    torch.manual_seed(0)
    config = ViTConfig(**SMALL, classes=("a", "<b>", "ü"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    model = VisionTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path, resize=False)
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


def shaken(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (23, 40), (90, 31), (300, 201)])
def test_the_square_is_cut_out_and_resized_to_the_bit_as_the_reader_does(size, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    found = export.centre_square(torch.from_numpy(pixels).permute(2, 0, 1)[None], (16, 16), whole=True)
    assert torch.equal(found[0].byte(), datasets.read_image(tmp_path / "picture.png", 16)) and (found % 1 == 0).all()


def test_values_of_more_than_8_bits_are_resized_as_pillow_does():
    values = np.random.default_rng(0).random((30, 50), np.float32) * 3000
    square = Image.fromarray(values[:, 10:40]).resize((16, 16), Image.BILINEAR)
    found = export.centre_square(torch.from_numpy(values)[None, None], (16, 16), whole=False)
    torch.testing.assert_close(found[0, 0].float(), torch.from_numpy(np.array(square)))


@pytest.mark.skipif(bool(export.missing()), reason="needs the export extra")
def test_pictures_of_any_size_get_the_answer_of_torch_from_a_wrapped_model_of_16_bits(tmp_path):
    model = shaken(VisionTransformer(ViTConfig(**SMALL | {"image_size": 16})))
    wrapped = torch.compile(torch.nn.DataParallel(copy.deepcopy(model).bfloat16()))
    export.to_onnx(wrapped, tmp_path / "model.onnx")
    model.load_state_dict(wrapped.module.state_dict())
    for size in ((16, 16), (40, 23), (100, 160)):
        images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        squares = torch.stack([datasets.photographs.centre_square(image, 16) for image in images])
        with torch.no_grad():
            expected = model(normalise(squares, model.config))
        assert (export.run_onnx(tmp_path / "model.onnx", images) - expected).abs().max() < 1e-4


@pytest.mark.skipif(bool(export.missing()), reason="needs the export extra")
def test_the_range_of_values_is_part_of_the_file(tmp_path):
    model = shaken(VisionTransformer(ViTConfig(**SMALL | {"image_size": 16}, pool="mean")))
    export.to_onnx(model, tmp_path / "model.onnx", value_range=(200.0, 2000.0))
    images = torch.rand(2, 1, 16, 16).expand(-1, 3, -1, -1) * 2500
    pixels = (255 * (images.double() - 200) / 1800).clamp(0, 255).round().byte()
    with torch.no_grad():
        expected = model(normalise(pixels, model.config))
    assert (export.run_onnx(tmp_path / "model.onnx", images) - expected).abs().max() < 1e-4


def test_what_is_no_vit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a VisionTransformer of this course, .* found Linear"):
        export.to_onnx(torch.nn.Linear(2, 2), tmp_path / "model.onnx")
