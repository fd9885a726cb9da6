"""The site's page "Try it on your own picture": the shipped ViT in the browser, with nothing behind it.

The page's own code is in tools/site/try, on top of the explorers' draw.js and weights.js. The build adds the model
as ONNX, ONNX Runtime for browsers (from npm, once), photographs, and what PyTorch says about two pictures, for the page
to compare. All of it is scripts, so the page also works from a folder, where a browser may fetch no data.
"""

import base64
import gzip
import io
import json
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import install_front_ends
import torch
from PIL import Image
from torch import nn

from vit_tutorial import datasets, export, normalise, weights
from vit_tutorial.files import CHECKPOINT, ROOT
from vit_tutorial.widgets.explorer import STATIC

PAGE = ROOT / "tools" / "site" / "try"
# One script, because a page from file:// may load no modules: each after those that it imports.
SHARED = ("draw.js", "weights.js")
MODULES = ("model.js", "picture.js", "card.js", "board.js", "square.js", "patches.js", "answer.js", "looks.js")
MODULES += ("engine.js", "app.js")
SAMPLES = ("cat", "rocket", "coffee", "astronaut")
MODULE_ONLY = re.compile(r"^import [^;]*;\n|^export default [^;]*;\n|^export ", re.MULTILINE)


class WithAttention(nn.Module):
    """A ViT whose forward pass also returns its attention weights: logits `(B, num_classes)`, `(L, B, H, N, N)`."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, images):
        x, maps = self.model.embed(images), []
        for block in self.model.blocks:
            x, weights = block(x, return_attention=True)
            maps.append(weights)
        return self.model.head(self.model.norm(x)[:, 0]), torch.stack(maps)


def packed(data):
    """Bytes as the page unpacks them: gzip in base64."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def part(values):
    """The script that gives the page `values`, a dict with one entry, the part's name: see `part` in engine.js."""
    return f"Object.assign((globalThis.tryParts ??= {{}}), {json.dumps(values)});\n"


def app(config):
    """All modules of the page as one script."""
    texts = [(STATIC / name).read_text(encoding="utf-8") for name in SHARED]
    texts += [f"const CONFIG = {json.dumps(asdict(config))};\n"]
    texts += [(PAGE / name).read_text(encoding="utf-8") for name in MODULES]
    return '"use strict";\n(() => {\n' + "\n".join(MODULE_ONLY.sub("", text) for text in texts) + "})();\n"


def webp(image):
    """A uint8 image `(3, Y, X)` as the address of a WebP file in itself, which loses nothing."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def reference(model):
    """What PyTorch says about two pictures, the cat and noise: pixels, logits and attention weights."""
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = torch.stack([datasets.sample_image("cat", 32), noise])
    with torch.no_grad():
        images = normalise(pixels, model.config)
        answers = {"pixels": pixels, "logits": model(images), "attention": model.attention_maps(images)}
    return {name: packed(tensor.numpy().tobytes()) for name, tensor in answers.items()}


def build(out):
    """Write the page into the folder `out`, which is emptied first.

    Raises `OSError` where npm cannot fetch ONNX Runtime, `ImportError` without the export extra.
    """
    install_front_ends.install("runtime")
    runtime = install_front_ends.RUNTIME
    model = weights.load(CHECKPOINT).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export.to_onnx(WithAttention(model), file, outputs=("logits", "attention"), resize=False)
        onnx = file.read_bytes()
    parts = {
        "runtime": {
            "worker": (PAGE / "worker.js").read_text(encoding="utf-8"),
            "ort": packed((runtime / "ort.wasm.bundle.min.mjs").read_bytes()),
            "wasm": packed((runtime / "ort-wasm-simd-threaded.wasm").read_bytes()),
        },
        "model": {"onnx": packed(onnx)},
        "samples": {name: webp(datasets.sample_image(name)) for name in SAMPLES},
        "reference": reference(model),
    }
    texts = {f"{name}.js": part({name: values}) for name, values in parts.items()}
    texts["app.js"] = app(model.config)
    texts["style.css"] = "".join(
        path.read_text(encoding="utf-8") for path in (STATIC / "explorer.css", PAGE / "style.css")
    )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in ("index.html", "theme.js"):
        shutil.copy(PAGE / name, out)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
