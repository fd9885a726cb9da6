"""What is read is what runs: a class that a notebook builds is the class in the package.

Compared as syntax trees without docstrings; comments and layout do not count.
"""

import ast
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.py"))
# What the course builds in its cells, and where: each must be there, tagged `package`.
BUILT = {
    "PatchEmbedding": "01",
    "MultiHeadAttention": "03",
    "MLP": "04",
    "EncoderBlock": "04",
    "VisionTransformer": "05",
    "train_epoch": "06",
    "RotaryEmbedding": "13",
    "rotate": "13",
    "RMSNorm": "13",
    "LayerScale": "13",
    "SwiGLU": "13",
    "ModernAttention": "13",
    "ModernBlock": "13",
    "random_masking": "14",
    "take": "14",
    "patch_targets": "14",
    "encode": "14",
    "Decoder": "14",
    "MaskedAutoencoder": "14",
    "random_views": "14",
    "dino_loss": "14",
    "update_centre": "14",
    "update_teacher": "14",
    "entropies": "14",
    "DINOHead": "14",
    "DINO": "14",
    "patch_features": "15",
    "SegmentationViT": "15",
    "ObjectHead": "15",
    "TextEncoder": "16",
    "PictureText": "16",
}
DEFINITIONS = (ast.ClassDef, ast.FunctionDef)
OWN_TRIES = {"exercise", "solution"}  # cells whose names belong to the reader


def definitions(text):
    """{name: node} of the classes and functions at the top level."""
    return {node.name: node for node in ast.parse(text).body if isinstance(node, DEFINITIONS)}


def shape(node):
    """The syntax tree as text, without docstrings."""
    node = ast.parse(ast.unparse(node)).body[0]
    for part in ast.walk(node):
        if isinstance(part, DEFINITIONS) and ast.get_docstring(part, clean=False) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.dump(node, indent=1)


def package_definitions():
    """{name: [(file, node), ...]}: all that the package defines at the top level of its files."""
    found = {}
    for path in sorted((ROOT / "vit_tutorial").rglob("*.py")):
        for name, node in definitions(path.read_text(encoding="utf-8")).items():
            found.setdefault(name, []).append((path.relative_to(ROOT).as_posix(), node))
    return found


def notebook_definitions(text):
    """(name, node, tags) of the classes and functions that the cells define; the reader's own tries are left out."""
    return [
        (name, node, cell.metadata.get("tags", []))
        for cell in jupytext.reads(text, fmt="py:percent").cells
        if cell.cell_type == "code" and not OWN_TRIES & set(cell.metadata.get("tags", []))
        for name, node in definitions(cell.source).items()
    ]


def disagreements(text, package):
    """What a notebook's text defines otherwise than the package, one line each.

    A cell tagged `package` must define something that the package has. A cell without the tag may define helpers of
    its own, but not a second thing under the name of one of the classes in BUILT.
    """
    found = []
    for name, node, tags in notebook_definitions(text):
        if "package" in tags:
            if name not in package:
                found.append(f"{name} is tagged 'package', but vit_tutorial/ does not define it")
            elif shape(node) not in [shape(other) for _, other in package[name]]:
                files = ", ".join(file for file, _ in package[name])
                found.append(f"{name} differs from the one in {files}")
        elif name in BUILT:
            found.append(f"{name} has the name of the package's; tag its cell 'package', or call it something else")
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_defines_what_the_package_has(source):
    assert disagreements(source.read_text(encoding="utf-8"), package_definitions()) == []


@pytest.mark.parametrize(("name", "number"), BUILT.items())
def test_course_builds(name, number):
    sources = [path for path in SOURCES if path.name.startswith(number)]
    built = {
        defined: tags for path in sources for defined, _, tags in notebook_definitions(path.read_text(encoding="utf-8"))
    }
    assert "package" in built.get(name, []), f"notebook {number} must define {name} in a cell tagged 'package'"


PACKAGE = {"Scale": [("layers.py", ast.parse('class Scale:\n    """Doc."""\n    factor = 2\n').body[0])]}


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ('# %% tags=["package"]\nclass Scale:\n    factor = 2  # twice\n', None),
        ('# %% tags=["package"]\nclass Scale:\n    factor = 3\n', "differs from the one in layers.py"),
        ('# %% tags=["package"]\nclass Scale(list):\n    factor = 2\n', "differs"),
        ('# %% tags=["package"]\nclass Scale:\n    "Another text."\n    factor = 2\n', None),
        ('# %% tags=["package"]\ndef shift():\n    pass\n', "does not define it"),
        ("# %%\ndef shift():\n    pass\n", None),
        ("# %%\nclass MLP:\n    pass\n", "tag its cell"),
        ('# %% tags=["exercise"]\nclass MLP:\n    pass\n', None),
    ],
)
def test_a_difference_is_noticed(cell, complaint):
    found = disagreements(cell, PACKAGE)
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]
