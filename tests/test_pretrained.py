"""`weights.pretrained` against a server on this machine that speaks the hub's protocol and, where told, fails."""

import hashlib
import importlib
import json
import sys
import time

import http_server as web
import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models._hub import save_for_hf

from vit_tutorial import weights

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(web.Handler):
    """HEAD and GET of `/owner/model/resolve/main/file`, in parts where asked for, as the hub answers them."""

    def do_GET(self):
        hub, (repo, _, file) = self.server, self.path[1:].partition("/resolve/main/")
        part = self.headers.get("Range")
        hub.requests.append((self.command, file, part))
        if hub.status:
            return self.reply(hub.status, Content_Length=0, **({"X_Error_Code": hub.error} if hub.error else {}))
        if file not in hub.repos.get(repo, {}):
            error = "EntryNotFound" if repo in hub.repos else "RepoNotFound"
            return self.reply(404, X_Error_Code=error, X_Repo_Commit=COMMIT, Content_Length=0)
        body = hub.repos[repo][file]
        etag = hub.announced.get(file, hashlib.sha256(body).hexdigest())
        size = len(body) + hub.too_long * (self.command == "HEAD")
        start = int(part[6:].split("-")[0]) if part else 0
        extra = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if part else {}
        rest = body[start:]
        if file in hub.cuts and self.command == "GET" and hub.cuts[file]:  # so many bytes, then the line is dead
            rest, self.close_connection = rest[: hub.cuts[file].pop(0)], True
        length = size - start
        self.reply(206 if part else 200, rest, ETag=f'"{etag}"', X_Repo_Commit=COMMIT, Content_Length=length, **extra)

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running server; `HF_ENDPOINT` points at it and `HF_HOME` at an empty cache, as a reader would set them."""
    with web.serving(Hub) as server, monkeypatch.context() as patch:
        server.repos, server.announced, server.cuts = {}, {}, {}
        server.status, server.error, server.too_long = None, "", 0
        patch.setenv("HF_ENDPOINT", server.url)
        patch.setenv("HF_HOME", str(tmp_path / "cache"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("HF_HUB_CACHE", raising=False)
        importlib.reload(constants)
        yield server
    importlib.reload(constants)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small timm model and the files of its repository, as timm writes them."""
    folder = tmp_path_factory.mktemp("tiny")
    model = timm.create_model(NAME, **TINY).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)  # logits near 1, compared to 1e-5
    save_for_hf(model, folder, model_args=TINY, safe_serialization=True)
    return model, files(folder)


def fetched(hub, file="model.safetensors"):
    return [part for command, name, part in hub.requests if command == "GET" and name == file]


def test_download_then_the_cache_without_a_network(hub, tiny):
    model, hub.repos[f"timm/{NAME}"] = tiny
    images = torch.randn(2, 3, 32, 32)
    ours = weights.pretrained(NAME)
    assert not ours.training and ours.config.mean == (0.5, 0.5, 0.5)
    assert (ours(images) - model(images)).abs().max() <= 1e-5
    assert ours.config.classes[0].startswith("tench") and len(ours.config.classes) == 1000
    assert len(fetched(hub)) == len(fetched(hub, "config.json")) == 1
    hub.requests.clear()
    again = weights.pretrained(f"timm/{NAME}")
    assert not hub.requests
    hub.stop()
    offline = weights.pretrained(NAME)
    assert torch.equal(offline(images), ours(images)) and torch.equal(again(images), ours(images))


def test_a_broken_transfer_is_taken_up_where_it_broke(hub, tiny, monkeypatch):
    model, hub.repos[f"timm/{NAME}"] = tiny
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # written to the disk so often; 10 MB otherwise
    hub.cuts["model.safetensors"] = [1000, 500]
    images = torch.randn(2, 3, 32, 32)
    assert (weights.pretrained(NAME)(images) - model(images)).abs().max() <= 1e-5
    assert fetched(hub) == [None, "bytes=1000-", "bytes=1500-"]


def test_a_transfer_that_never_ends_well_is_one_error(hub, tiny, monkeypatch):
    _, hub.repos[f"timm/{NAME}"] = tiny
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.cuts["model.safetensors"] = [1000] + [0] * 20
    with pytest.raises(ConnectionError, match="expected all of model.safetensors .*; run the same line again$"):
        weights.pretrained(NAME)
    hub.cuts.clear()
    assert weights.pretrained(NAME).config.depth == 2


def test_wrong_bytes_are_refused_and_forgotten(hub, tiny):
    _, hub.repos[f"timm/{NAME}"] = tiny
    right = hub.repos[f"timm/{NAME}"]["model.safetensors"]
    hub.announced["model.safetensors"] = hashlib.sha256(right).hexdigest()
    hub.repos[f"timm/{NAME}"] = tiny[1] | {"model.safetensors": right[:-1] + bytes([right[-1] ^ 1])}
    with pytest.raises(ValueError, match="expected model.safetensors .* with SHA-256 .*; it is removed from the cache"):
        weights.pretrained(NAME)
    hub.repos[f"timm/{NAME}"] = tiny[1]
    assert weights.pretrained(NAME).config.depth == 2
    assert len(fetched(hub)) == 2


def test_another_size_than_announced_is_refused(hub, tiny):
    _, hub.repos[f"timm/{NAME}"] = tiny
    hub.too_long = 7
    with pytest.raises(ConnectionError, match="should be of size"):
        weights.pretrained(NAME)


def pickle_only(hub, tiny):
    hub.repos[f"timm/{NAME}"] = {"config.json": tiny[1]["config.json"], "pytorch_model.bin": b"cos\nsystem\n."}


def no_config(hub, tiny):
    hub.repos[f"timm/{NAME}"] = {"model.safetensors": b""}


def no_server(hub, tiny):
    hub.stop()


def broken_server(hub, tiny):
    hub.status = 500


def refusing(status, error=""):
    def prepare(hub, tiny):
        hub.status, hub.error = status, error

    return prepare


GATED = f"^expected a model repository that you may read, found 'timm/{NAME}' gated{{}}; ask for access at http"
FAILURES = {
    "pickle only": (
        pickle_only,
        NAME,
        FileNotFoundError,
        "expected model.safetensors in .*a pickle can run any program",
    ),
    "no config": (no_config, NAME, FileNotFoundError, "expected config.json in .*which says what model it is"),
    "unknown": (lambda *_: None, NAME, FileNotFoundError, f"found none called 'timm/{NAME}'; look its name up at http"),
    "no server": (no_server, NAME, ConnectionError, "found neither; run the same line once with a network, or use"),
    "server error": (broken_server, NAME, ConnectionError, "found neither"),
    "gated": (refusing(401, "GatedRepo"), NAME, PermissionError, GATED.format("") + ".*: hf auth login$"),
    "gated, without access": (refusing(403, "GatedRepo"), NAME, PermissionError, GATED.format("")),
    "refused": (refusing(403), NAME, PermissionError, GATED.format("")),
    "private or misspelt": (refusing(401, "RepoNotFound"), NAME, PermissionError, GATED.format(", or no such name")),
    "401 and no word": (refusing(401), NAME, PermissionError, GATED.format("")),
    "no name": (lambda *_: None, "a/b/c", ValueError, "expected a name such as 'owner/model', found 'a/b/c'"),
}


@pytest.mark.parametrize("prepare, name, error, message", FAILURES.values(), ids=FAILURES.keys())
def test_failures_say_what_to_do(hub, tiny, monkeypatch, prepare, name, error, message):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    prepare(hub, tiny)
    with pytest.raises(error, match=message) as caught:
        weights.pretrained(name)
    assert "\n" not in str(caught.value)
    assert not fetched(hub, "pytorch_model.bin")


def clip(config):
    config["model_args"] |= {"pre_norm": True}


def future(config):
    config["architecture"] = "vit_from_the_future"


@pytest.mark.parametrize("change, message", [(clip, "surplus norm_pre.weight"), (future, "pip install --upgrade timm")])
def test_what_ours_cannot_be_is_refused_before_the_download(hub, tiny, change, message):
    config = json.loads(tiny[1]["config.json"])
    change(config)
    hub.repos["me/mine"] = tiny[1] | {"config.json": json.dumps(config).encode()}
    with pytest.raises(ValueError, match=message):
        weights.pretrained("me/mine")
    assert not fetched(hub)


def test_repositories_of_modern_models(hub, tmp_path):
    transformers, images = pytest.importorskip("transformers"), torch.randn(2, 3, 32, 32)
    later = TINY | {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.1, "num_classes": 0}
    theirs = timm.create_model(NAME, **later).eval()
    save_for_hf(theirs, tmp_path / "timm", model_args=later, safe_serialization=True)
    hub.repos["lab/registers"] = files(tmp_path / "timm")
    ours = weights.pretrained("lab/registers")
    assert ours.config.registers == 2 and (ours(images) - theirs(images)).abs().max() <= 1e-5

    shape = {"patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.DINOv3ViTConfig(**shape, intermediate_size=96, num_register_tokens=4, image_size=32)
    theirs = transformers.DINOv3ViTModel(config).eval()
    theirs.save_pretrained(tmp_path / "dinov3")
    processor = {"image_mean": weights.IMAGENET_MEAN, "image_std": weights.IMAGENET_STD}
    hub.repos["lab/dinov3"] = files(tmp_path / "dinov3") | {"preprocessor_config.json": json.dumps(processor).encode()}
    ours = weights.pretrained("lab/dinov3")
    assert ours.config.rope == "dinov3" and (ours(images) - theirs(images).pooler_output).abs().max() <= 1e-5


def test_repositories_of_transformers(hub, tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.ViTModel(transformers.ViTConfig(**shape, intermediate_size=96)).eval()
    model.save_pretrained(tmp_path / "dino")
    processor = {"image_mean": weights.IMAGENET_MEAN, "image_std": weights.IMAGENET_STD}
    dino = files(tmp_path / "dino") | {"preprocessor_config.json": json.dumps(processor).encode()}
    hub.repos["lab/dino"] = dino
    ours, images = weights.pretrained("lab/dino"), torch.randn(2, 3, 32, 32)
    assert (ours(images) - model(images).last_hidden_state[:, 0]).abs().max() <= 1e-5
    assert ours.config.mean == weights.IMAGENET_MEAN and not ours.training

    hub.requests.clear()
    config = json.loads(dino["config.json"]) | {"model_type": "deit"}
    hub.repos["lab/deit"] = dino | {"config.json": json.dumps(config).encode()}
    with pytest.raises(ValueError, match="distillation token"):
        weights.pretrained("lab/deit")
    hub.repos["lab/silent"] = {name: dino[name] for name in ("config.json", "model.safetensors")}
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json .*which says how pixels are normalised"):
        weights.pretrained("lab/silent")
    assert not fetched(hub)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="^expected the package timm, found none; run: pip install timm$"):
        weights.pretrained(NAME)
