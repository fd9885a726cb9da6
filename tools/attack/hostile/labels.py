"""Labels that would be markup, formulas or control characters in a page, a figure or a terminal."""

from dataclasses import replace
from pathlib import Path

import torch

from vit_tutorial import VisionTransformer, drawings, plots, widgets

from .case import CONFIG, Case, cases

NASTY = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$\\frac{",
    "$x$",
    "a\nb\x1b[2J",
    "🐶 é 猫",
    "x" * 300,
    "&lt;",
)
IMAGES = torch.zeros(len(NASTY), 3, 16, 16, dtype=torch.uint8)
MODEL = VisionTransformer(replace(CONFIG, num_classes=len(NASTY), classes=NASTY)).eval()
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser")


def drawn(draw):
    """A figure or an explorer with nasty labels; what it gives the notebook has no HTML made of them."""

    def call():
        shown = draw()
        if hasattr(shown, "_repr_mimebundle_"):
            bundle, _ = shown._repr_mimebundle_()
        else:
            bundle = {"image/png": plots.png(shown)}
        html = f"{bundle.get('text/html', '')}{bundle.get('text/markdown', '')}"
        if "<script" in html or "<img" in html:
            raise AssertionError(html)
        return f"drawn: {', '.join(sorted(kind for kind in bundle if 'png' in kind))}"

    return lambda folder: call


def no_markup_in_the_pages():
    """No module of an explorer makes markup of text."""
    texts = {file.name: file.read_text("utf-8") for file in Path(widgets.__file__).parent.glob("static/*.js")}
    if found := [f"{name}: {word}" for name, text in texts.items() for word in MARKUP if word in text]:
        raise AssertionError(", ".join(found))
    return "text only"


DRAWN = {
    "plots.image_grid": lambda: plots.image_grid(IMAGES, NASTY),
    "plots.confusion_matrix": lambda: plots.confusion_matrix(torch.arange(8), torch.arange(8), NASTY),
    "drawings.vit_pipeline": lambda: drawings.vit_pipeline(MODEL, IMAGES[0]),
    "AttentionExplorer": lambda: widgets.AttentionExplorer(MODEL, IMAGES, titles=NASTY),
    "AttentionPlayground": lambda: widgets.AttentionPlayground(*[torch.ones(5, 2)] * 3, names=NASTY[:5]),
    "EncoderStepper": lambda: widgets.EncoderStepper(MODEL, IMAGES[0]),
}
SLOW = ("EncoderStepper", "vit_pipeline")
CASES = [
    *cases("labels", drawn, "report", {name: (draw, "drawn: image/png") for name, draw in DRAWN.items()}, SLOW),
    Case("labels", "explorers' pages", lambda folder: no_markup_in_the_pages, "report", "text only"),
]
