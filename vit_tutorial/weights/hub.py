"""Pre-trained weights by name, from the Hugging Face Hub: downloaded once, checked, kept, and never unpickled."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

from .checkpoint import load_state
from .formats import from_timm, from_transformers, library, transformers_settings

WHY_NEEDED = {
    "config.json": "which says what model it is",
    "preprocessor_config.json": "which says how pixels are normalised",
    "model.safetensors": "and other files of weights are refused: reading a pickle can run any program",
}


def no_answer(repo, file, error, hub):
    """The error that says why a hub gave no file: it is gated, not there, or the network failed."""
    errors, response = hub.errors, getattr(error, "response", None)
    if response is None:
        response = getattr(error.__cause__, "response", None)
    if isinstance(error, errors.GatedRepoError) or getattr(response, "status_code", None) in (401, 403):
        or_none = ", or no such name" if type(error) is errors.RepositoryNotFoundError else ""
        return PermissionError(
            f"expected a model repository that you may read, found {repo!r} gated{or_none}; ask for access at "
            f"{hub.constants.ENDPOINT}/{repo}, then log in with: hf auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"expected a model repository that everybody may read, found none called {repo!r}; "
            f"look its name up at {hub.constants.ENDPOINT}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ConnectionError(
            f"expected {file} of {repo} in the cache or a network to download it, found neither; run the same line "
            "once with a network, or use the course's checkpoint: weights.load(vit_tutorial.files.CHECKPOINT)"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"expected {file} in {repo}, {WHY_NEEDED[file]}, found none; choose another")
    reason = " ".join(str(error).split())
    return ConnectionError(f"expected all of {file} of {repo}, found: {reason}; run the same line again")


def fetch(repo, file):
    """Path of a file of a model repository, from the cache of `huggingface_hub` or downloaded into it.

    The cache stands in `HF_HOME` (default `~/.cache/huggingface`). An interrupted download is resumed; a
    large file must have the SHA-256 that the server announced. Raises `ConnectionError` where the file is not in the
    cache and cannot be had, `FileNotFoundError` where it does not exist, `PermissionError` where one must log in first,
    `ValueError` for other bytes than announced.
    """
    hub = library("huggingface_hub")
    try:
        try:
            path = Path(hub.hf_hub_download(repo, file, local_files_only=True))  # what is here needs no network
        except hub.errors.LocalEntryNotFoundError:
            path = Path(hub.hf_hub_download(repo, file))
    except hub.errors.HFValidationError as error:
        raise ValueError(f"expected a name such as 'owner/model', found {repo!r} ({error})") from None
    except Exception as error:  # whatever a network does in the middle of a download
        raise no_answer(repo, file, error, hub) from None
    announced = path.resolve().name  # the cache names a large file by its SHA-256, where the system has links
    with open(path, "rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if re.fullmatch("[0-9a-f]{64}", announced) and found != announced:
        path.resolve().unlink()
        raise ValueError(
            f"expected {file} of {repo} with SHA-256 {announced}, found {found}; it is removed from the cache, "
            "run the same line again"
        )
    return path


def pretrained(name):
    """A `VisionTransformer` with weights that others trained, in evaluation mode, downloaded by name.

    `name` is one of timm's, `architecture.tag`, such as "vit_tiny_patch16_224.augreg_in21k_ft_in1k"; or a repository
    `owner/model` that holds a model of timm or of transformers, such as "google/vit-base-patch16-224". Normalisation
    and, where they are known, class names come along in `model.config`. The first call downloads (23 MB for ViT-Ti/16,
    346 MB for ViT-B/16); later ones read the cache and need no network.
    Raises `ImportError` without timm, what `fetch` raises, and `ValueError` for a model that ours cannot be.
    """
    from safetensors.torch import load_file

    timm = library("timm")
    if "/" not in name and not timm.is_model(name.partition(".")[0]):  # known without a network
        raise ValueError(f"expected a model that this timm knows, or owner/model, found {name!r}")
    repo = name if "/" in name else f"timm/{name}"
    file = fetch(repo, "config.json")
    config = json.loads(file.read_text(encoding="utf-8"))
    if "architecture" not in config:
        config = transformers_settings(config)
        processor = json.loads(fetch(repo, "preprocessor_config.json").read_text(encoding="utf-8"))
        state = {name: value.float() for name, value in load_file(fetch(repo, "model.safetensors")).items()}
        return from_transformers(state, config, processor)
    try:
        theirs = timm.create_model(f"local-dir:{file.parent}", pretrained=False)
    except (RuntimeError, AssertionError) as error:  # the second from timm before 1.0.16, without a word
        found = error if str(error) else "an older timm"
        raise ValueError(f"expected a model that this timm knows, found: {found}; pip install --upgrade timm") from None
    from_timm(theirs)  # says what does not fit before the large file is fetched
    model = from_timm(load_state(theirs, load_file(fetch(repo, "model.safetensors"))))
    data = library("timm.data")
    if data.infer_imagenet_subset(theirs) == "imagenet-1k" and repo.startswith("timm/"):
        model.config = replace(model.config, classes=tuple(data.ImageNetInfo().label_descriptions()))
    return model.eval()
