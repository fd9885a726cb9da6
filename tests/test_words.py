"""Pictures and words: tokens, vectors that do not see empty places, losses, and what is written and read."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from vit_tutorial import VisionTransformer, ViTConfig, words
from vit_tutorial.words import PictureText, TextEncoder, Tokenizer, clip_loss, siglip_loss

SENTENCES = ["a red star", "a blue ring left of a red star", "star"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    vit = VisionTransformer(ViTConfig(image_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, num_classes=6))
    return PictureText(vit, TextEncoder(7, 8, 8, 1, 2, 6)).eval(), Tokenizer(SENTENCES, 8)


def test_tokens():
    tokenizer = Tokenizer(SENTENCES, 8)
    assert tokenizer.words == ["a", "blue", "left", "of", "red", "ring", "star"]
    assert tokenizer(["A, red STAR"]).tolist() == [[1, 5, 7, 0, 0, 0, 0, 0]]
    assert tokenizer([]).shape == (0, 8)


@pytest.mark.parametrize("wrong", ["a red star", ["a dog"], [""], ["a a a a a a a a a"], [3]])
def test_wrong_sentences(wrong):
    with pytest.raises(ValueError, match="expected"):
        Tokenizer(SENTENCES, 8)(wrong)


def test_the_mean_is_over_words_alone(model):
    text = model[0].text
    text.blocks = torch.nn.ModuleList()  # no word knows of another
    tokens = torch.tensor([[1, 5, 0, 0], [5, 1, 3, 0]])
    text.pos_embed.data = text.pos_embed.data[:, :4]
    first = text.norm(text.embed(tokens[:1, :2]) + text.pos_embed[:, :2]).mean(dim=1)
    torch.testing.assert_close(text(tokens)[0], text.head(first)[0])


def test_losses_by_hand():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = math.log(1 + math.exp(-2)) * 2 / 2
    columns = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    assert clip_loss(logits).item() == pytest.approx((rows + columns) / 2)
    pairs = [F.softplus(-torch.tensor(x)).item() for x in (1.0, 1.0, 0.0, 2.0)]  # signs times (logit - 1)
    assert siglip_loss(logits, -1.0).item() == pytest.approx(sum(pairs) / 2)


def test_cosines_over_the_temperature(model):
    model, tokenizer = model
    images = torch.randn(3, 3, 16, 16)
    logits = model(images, tokenizer(SENTENCES))
    assert logits.shape == (3, 3)
    assert logits.abs().max() <= 1 / 0.07 + 1e-3


def test_saved_and_loaded(model, tmp_path):
    made, tokenizer = model
    made.half().float()  # 16 bits are kept
    words.save(made, tokenizer, tmp_path / "a.safetensors")
    again, same = words.load(tmp_path / "a.safetensors")
    assert same.words == tokenizer.words
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again(images, same(SENTENCES)), made(images, tokenizer(SENTENCES)))


def spoil_entry(state, metadata):
    del state["text.head.weight"]


def spoil_shape(state, metadata):
    state["text.embed.weight"] = state["text.embed.weight"][:3]


def spoil_nan(state, metadata):
    state["scale"] = state["scale"] * float("nan")


def spoil_size(state, metadata):
    metadata["text"] = metadata["text"].replace('"embed_dim": 8', '"embed_dim": 800000')


def spoil_words(state, metadata):
    metadata["words"] = "{"


@pytest.mark.parametrize("spoil", [spoil_entry, spoil_shape, spoil_nan, spoil_size, spoil_words])
def test_damaged_files_are_refused(model, tmp_path, spoil):
    from safetensors import safe_open

    path = tmp_path / "a.safetensors"
    words.save(*model, path)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    state = load_file(path)
    spoil(state, metadata)
    save_file(state, path, metadata)
    with pytest.raises(ValueError, match="expected"):
        words.load(path)


def test_only_such_models_are_saved(model, tmp_path):
    with pytest.raises(ValueError, match="expected a PictureText"):
        words.save(model[0].vit, model[1], tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        words.load(tmp_path / "none.safetensors")


def test_the_shipped_model_finds_captions():
    from vit_tutorial import datasets, normalise
    from vit_tutorial.files import DATA

    model, tokenizer = words.load(DATA / "words_scenes.safetensors")
    test = datasets.scenes("test", 64, seed=3, objects=(1, 2))
    with torch.no_grad():
        logits = model(normalise(test.images, model.vit.config), tokenizer(list(test.captions)))
    right = [test.captions[j] == caption for j, caption in zip(logits.argmax(1).tolist(), test.captions, strict=True)]
    assert sum(right) > 58  # measured: 64 in each of six draws
