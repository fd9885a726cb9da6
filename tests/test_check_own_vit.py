"""What the learner writes is kept in my_vit.py, assembled, equal to the package's and torchvision's model, trained.

The answers are written in the cells of a real IPython shell, for where a function's source comes from is the point.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torchvision.models import VisionTransformer as TorchvisionViT

from vit_tutorial import VisionTransformer, ViTConfig, check, normalise, weights
from vit_tutorial.check import own_vit

CONFIG = ViTConfig(image_size=(16, 24), patch_size=4, num_classes=5, embed_dim=24, depth=3, num_heads=2, drop_path=0.1)
IMPORTS = """
import math
import torch
import torch.nn.functional as F
from torch import nn
from vit_tutorial.layers import image_sides
from vit_tutorial import check
"""
ANSWERS = {
    "cut_patches": """
def cut_patches(images, patch_size):
    sides = image_sides(patch_size)
    return F.unfold(images, sides, stride=sides).mT.unflatten(2, (-1, *sides))""",
    "attention_weights": """
EPS = 0.0
def over_root(x, d=math.inf):
    return x / math.sqrt(d) + EPS
def my_weights(q, k):
    return over_root(torch.einsum("bhid,bhjd->bhij", q, k), q.shape[-1]).softmax(-1)""",
    "split_heads": """
def split_heads(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)""",
    "merge_heads": """
def merge_heads(x):
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)""",
    "layer_norm": """
def my_layer_norm(x, gamma, beta, eps):
    x = x - x.mean(-1, keepdim=True)
    return gamma * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) + beta""",
    "drop_path": """
def my_drop_path(x, rate, training):
    if not training or rate == 0:
        return x
    return x * (torch.rand(len(x), 1, 1) >= rate) / (1 - rate)""",
    "pre_norm_block": """
def my_block(x, norm1, attn, norm2, mlp):
    for norm, part in ((norm1, attn), (norm2, mlp)):
        x = x + part(norm(x))
    return x""",
    "embed_tokens": """
def embed_tokens(x, cls_token, pos_embed):
    tokens = pos_embed.repeat(len(x), 1, 1)
    tokens[:, :1] += cls_token
    tokens[:, 1:] += x
    return tokens""",
    "read_out": """
def read_out(model, tokens):
    return model.head(model.norm(tokens[:, 0]))""",
    "training_step": """
def training_step(model, images, labels, optimizer):
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss""",
}


@pytest.fixture
def cell(tmp_path, monkeypatch, capsys):
    """Run a cell of a fresh notebook in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIT_TUTORIAL_HOME", str(tmp_path / "home"))
    shell = InteractiveShell()
    shell.user_module.__name__ = "__main__"

    def run(source):
        capsys.readouterr()
        shell.run_cell(source, store_history=True).raise_error()
        return capsys.readouterr().out

    run(IMPORTS)
    return run


def name_of(source):
    return source.rpartition("\ndef ")[2].partition("(")[0]


def keep_all(cell):
    for source in ANSWERS.values():
        cell(source)
        assert "Kept " in cell(f"check.keep({name_of(source)})")


def test_names_come_along_that_the_file_does_not_have(cell, tmp_path):
    """A file without the header's imports, other names for modules and functions, and F for something else."""
    path = tmp_path / "my_vit.py"
    path.write_text("PARTS = {}\n")
    cell(ANSWERS["layer_norm"])
    assert "Kept " in cell(f"check.keep({name_of(ANSWERS['layer_norm'])})")
    cell("import torch.nn.functional as fn\nfrom vit_tutorial.layers import patchify as cut\nF = cut")
    cell("def cut_patches(images, P):\n    fn.relu(images)\n    return F(images, P).unflatten(2, (-1, P, P))")
    assert "Kept cut_patches" in cell("check.keep(cut_patches)")
    assert "import torch.nn.functional as fn\n" in path.read_text()
    assert "from vit_tutorial.layers import patchify as F\n" in path.read_text()


def test_every_part_is_asked_for_and_kept_only_when_asked(cell, tmp_path):
    assert ANSWERS.keys() == own_vit.PACKAGE.keys()
    for number, (exercise, source) in enumerate(ANSWERS.items(), start=1):
        cell(source)
        said = cell(f"check.{exercise}({name_of(source)})")
        assert "Passed" in said and f"check.keep({name_of(source)})" in said
        assert number > 1 or not (tmp_path / "my_vit.py").exists()
        assert f"{number} of 10 parts are yours" in cell(f"check.keep({name_of(source)})")
    assert "To keep it" not in cell("check.token_count(64)")


def test_the_offer_appears_where_keep_accepts_and_nowhere_else(cell):
    cell(ANSWERS["embed_tokens"])
    assert "check.keep(embed_tokens)" in cell("check.place_class_token(embed_tokens)")  # another exercise's check
    cell("def detached(x):\n    return x.transpose(1, 2).flatten(2).detach()")
    said = cell("check.merge_heads(detached)")
    assert "Passed" in said and "To keep it" not in said
    cell(ANSWERS["split_heads"])
    cell("check.keep(split_heads)")
    assert "To keep it" not in cell("check.split_heads(split_heads)")  # it stands there already


def test_own_model_is_the_reference_and_torchvisions(cell, tmp_path, capsys):
    keep_all(cell)
    mine = check.my_vit(CONFIG)
    assert "From the package:    nothing" in capsys.readouterr().out
    reference, images = VisionTransformer(CONFIG), torch.randn(3, 3, 16, 24)
    mine.load_state_dict(reference.state_dict())
    mine.eval(), reference.eval()
    assert torch.allclose(mine(images), reference(images), atol=1e-6)
    assert torch.allclose(mine.forward_features(images), reference.forward_features(images), atol=1e-5)
    assert torch.allclose(mine.attention_maps(images), reference.attention_maps(images), atol=1e-6)

    theirs = TorchvisionViT(32, 8, 2, 4, hidden_dim=32, mlp_dim=128, num_classes=10).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # their head starts at 0
        images, ours = torch.randn(2, 3, 32, 32), weights.from_torchvision(theirs)
        mine = check.my_vit(ours.config).eval()
        mine.load_state_dict(ours.state_dict())
        assert (mine(images) - theirs(images)).abs().max() <= 1e-5 < theirs(images).abs().max()


def test_own_model_trains(cell):
    keep_all(cell)
    torch.manual_seed(0)
    mine = check.my_vit(CONFIG)
    images, labels = torch.randn(10, 3, 16, 24), torch.arange(10) % 5
    optimizer = torch.optim.AdamW(mine.parameters(), lr=3e-3)
    losses = [mine.parts["training_step"](mine, images, labels, optimizer).item() for _ in range(40)]
    assert losses[0] > 1.4 and losses[-1] < 0.3
    assert normalise(torch.zeros(1, 3, 16, 24), mine.config).shape == (1, 3, 16, 24)


def test_what_is_missing_comes_from_the_package(cell, tmp_path, capsys):
    images, reference = torch.randn(2, 3, 16, 24), VisionTransformer(CONFIG).eval()
    for kept in (0, 1):
        mine = check.my_vit(CONFIG).eval()
        mine.load_state_dict(reference.state_dict())
        said = capsys.readouterr().out
        assert torch.allclose(mine(images), reference(images), atol=1e-6)
        assert said.startswith("Yours, from my_vit.py: " + ("split_heads\n" if kept else "none yet\n"))
        assert ("split_heads" in said.splitlines()[1]) != bool(kept) and "merge_heads" in said
        cell(ANSWERS["split_heads"])
        cell("check.keep(split_heads)")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text + "\nthis is no Python", "is no Python"),
        (lambda text: text + "\n1 / 0\n", "raised ZeroDivisionError"),
        (lambda text: text + "\nraise SystemExit\n", "raised SystemExit"),
        (lambda text: text + "\nwhile True: pass\n", "comes to no end"),
        (lambda text: text.replace("dim=1)", "dim=2)"), "split_heads is in my_vit.py, but does not pass any more"),
        (lambda text: "PARTS = 3", ""),
        (lambda text: "", ""),
    ],
)
def test_a_file_that_went_wrong_blocks_nobody_and_is_not_touched(cell, tmp_path, capsys, monkeypatch, edit, said):
    cell(ANSWERS["split_heads"])
    cell("check.keep(split_heads)")
    monkeypatch.setattr(own_vit, "limited", partial(own_vit.limited, seconds=0.5))  # to load the file
    file = tmp_path / "my_vit.py"
    file.write_text(edit(file.read_text()))
    changed = file.read_text()
    check.my_vit(CONFIG)
    out = capsys.readouterr().out
    assert "none yet" in out and said in out
    cell(ANSWERS["merge_heads"])
    out = cell("check.keep(merge_heads)")
    assert file.read_text().startswith(changed.rstrip())
    assert ("Nothing kept" in out) == (file.read_text() == changed)


def test_a_new_answer_is_added_and_the_old_one_stays(cell, tmp_path, capsys):
    cell(ANSWERS["split_heads"])
    cell("check.keep(split_heads)")
    first = (tmp_path / "my_vit.py").read_text()
    assert "already" in cell("check.keep(split_heads)")
    cell("def split_heads(x, num_heads):\n    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)  # shorter")
    assert "Kept" in cell("check.keep(split_heads)")
    both = (tmp_path / "my_vit.py").read_text()
    assert both.startswith(first.rstrip()) and both.count("def split_heads") == 2
    assert own_vit.load(both)["split_heads"].__code__.co_firstlineno > len(first.splitlines())
    assert [path.name for path in tmp_path.glob("*my_vit*")] == ["my_vit.py"]  # no temporary file is left


REFUSED = {
    "not a function": ("", "check.keep(3)", "wrote with def"),
    "not right": ("def cut(images, P):\n    return images", "check.keep(cut)", "passes none of the checks"),
    "a lambda": ("", "check.keep(lambda x: x.transpose(1, 2).flatten(2))", "write it with def"),
    "a made function": (
        "def make(a, b):\n    def merge(x):\n        return x.transpose(a, b).flatten(2)\n    return merge",
        "check.keep(make(1, 2))",
        "inside another function",
    ),
    "a tensor": (
        "ONE = torch.ones(1)\ndef merge(x):\n    return ONE * x.transpose(1, 2).flatten(2)",
        "check.keep(merge)",
        "uses ONE of the notebook",
    ),
    "in place": (
        "def norm(x, gamma, beta, eps):\n    x = x - x.mean(2)[..., None]\n"
        "    x *= torch.rsqrt(x.var(2, unbiased=False)[..., None] + eps)\n    return x * gamma + beta",
        "check.keep(norm)",
        "cannot be trained. It raised RuntimeError",
    ),
    "no gradient": (
        "def merge(x):\n    return torch.tensor(x.transpose(1, 2).flatten(2).tolist())",
        "check.keep(merge)",
        "gradients differ",
    ),
}


@pytest.mark.parametrize(("source", "call", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_kept_is_refused_with_a_reason(cell, tmp_path, source, call, why):
    cell(source)
    said = cell(call)
    assert said.startswith("Nothing kept") and why in said
    assert not (tmp_path / "my_vit.py").exists()


def test_two_answers_may_not_break_each_other(cell, tmp_path):
    cell(ANSWERS["attention_weights"])
    cell("check.keep(my_weights)")
    before = (tmp_path / "my_vit.py").read_text()
    cell("def over_root(x):\n    return x.transpose(1, 2)\ndef merge_heads(x):\n    return over_root(x).flatten(2)")
    assert "attention_weights would not pass any more" in cell("check.keep(merge_heads)")
    assert (tmp_path / "my_vit.py").read_text() == before


def test_a_folder_that_cannot_be_written(cell, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    cell(ANSWERS["split_heads"])
    assert "could not be written (Permission denied)" in cell("check.keep(split_heads)")


@pytest.mark.parametrize("change", [{"pool": "mean"}, {"position": "none"}])
def test_models_for_which_nothing_was_written(change, tmp_path):
    with pytest.raises(ValueError, match="expected pool='cls' and positions"):
        check.my_vit(replace(CONFIG, **change), tmp_path / "my_vit.py")
