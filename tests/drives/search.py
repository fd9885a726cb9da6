"""SearchExplorer: a small model of drawn weights; sentences chosen from the lists, every cosine and verdict torch's."""

import torch
from front_ends import SWALLOWED
from playwright.sync_api import expect

from vit_tutorial import datasets, normalise
from vit_tutorial.datasets.scenes import COLOURS, KINDS, SIZES

MODEL = """
import torch
from vit_tutorial import VisionTransformer, ViTConfig, datasets
from vit_tutorial.words import PictureText, TextEncoder, Tokenizer
torch.manual_seed(0)
scenes = datasets.scenes("test", 200, objects=(1, 2))
tokenizer = Tokenizer(scenes.captions)
config = ViTConfig(image_size=32, patch_size=8, num_classes=64, embed_dim=32, depth=1, num_heads=4, pool="mean")
model = PictureText(VisionTransformer(config), TextEncoder(len(tokenizer.words))).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter.data, std=0.2)
"""
CELL = f"""{MODEL}
from vit_tutorial import widgets
explorer = widgets.SearchExplorer(model, tokenizer, scenes[:60])
explorer
"""


def expected():
    """Two functions: of a sentence, the cosines `(60,)`; of its words, the numbers of the pictures that show it."""
    made = {}
    exec(MODEL, made)
    model, tokenizer, scenes = made["model"], made["tokenizer"], datasets.scenes("test", 200, objects=(1, 2))[:60]
    with torch.no_grad():
        vectors = model.embed_images(normalise(scenes.images, model.vit.config))
    x, y = scenes.boxes.unflatten(2, (2, 2)).mean(dim=2).floor_divide(16).unbind(2)  # (60, 2): 0 or 1

    @torch.no_grad()
    def cosines(sentence):
        return vectors @ model.embed_texts(tokenizer([sentence]))[0]

    def fits(k, size, colour, kind):
        found = scenes.kinds[:, k] >= 0
        for word, names, numbers in (
            (size, list(SIZES), scenes.sizes),
            (colour, list(COLOURS), scenes.colours),
            (kind, KINDS, scenes.kinds),
        ):
            found &= (numbers[:, k] == names.index(word)) if word else True
        return found

    def shown(first, relation="", second=("", "", "")):
        found = torch.zeros(60, dtype=torch.bool)
        for k in range(2):
            place = {"left of": x[:, k] < x[:, 1 - k], "right of": x[:, k] > x[:, 1 - k], "": True}
            place |= {"above": y[:, k] < y[:, 1 - k], "below": y[:, k] > y[:, 1 - k]}
            found |= fits(k, *first) & place[relation] & (fits(1 - k, *second) if relation else True)
        return set(found.nonzero().flatten().tolist())

    return cosines, shown, scenes.captions


def drive(page, root, numbers):
    cosines, shown, captions = numbers
    first, second = root.get_by_role("group", name="First shape"), root.get_by_role("group", name="Second shape")
    relation, status = root.get_by_label("Relation", exact=True), root.get_by_role("status")
    swap = root.get_by_role("button", name="Swap")

    def shows(sentence, *words, swapped=None):
        """The pictures' order; it, their cosines and verdicts are torch's."""
        expect(root.locator(".vit-sentence")).to_have_text(f"“{sentence}”")
        found = root.locator("ol").evaluate_all(
            """(lists) => lists.flatMap((list) => [...list.children]).map((item) => [item.querySelector("img").alt,
              item.querySelector("b").getAttribute("aria-label"), item.className, item.textContent])"""
        )
        wanted = cosines(sentence)
        values = torch.tensor([float(text.split()[1]) for *_, text in found])
        torch.testing.assert_close(values, wanted.sort(descending=True).values, atol=6e-3, rtol=0)
        order = wanted.argsort(descending=True).tolist()
        right = shown(*words)
        assert [caption for caption, *_ in found] == [captions[i] for i in order]
        assert [verdict for _, verdict, *_ in found] == ["right" if i in right else "wrong" for i in order]
        marks = {"right": ("vit-right", "✓"), "wrong": ("", "✗")}
        assert all((name, text[0]) == marks[verdict] for _, verdict, name, text in found)
        top = set(order[:12])
        said = f"Right: {len(top & right)} of the first 12 pictures, {len(right)} of all 60."
        if swapped:
            other = sentence.replace(words[1], swapped)
            again = top & set(cosines(other).argsort(descending=True)[:12].tolist())
            said += f" With “{swapped}” instead, {len(again)} of these 12 are among the first 12 again."
        expect(status).to_have_text(said)
        return right

    # At first the caption of the first scene, and its picture is right.
    def choose(part, words):
        for name, word in words.items():
            (first if part == "First" else second).get_by_label(f"{part} shape: {name}").select_option(label=word)

    expect(root.locator(".vit-sentence")).to_have_text(f"“{captions[0]}”")
    expect(root.locator("li.vit-right").filter(has=page.get_by_alt_text(captions[0], exact=True))).not_to_have_count(0)
    relation.select_option(label="left of")
    choose("First", {"size": "any size", "colour": "any colour", "kind": "star"})
    choose("Second", {"size": "any size", "colour": "any colour", "kind": "ring"})
    star, ring = ("", "", "star"), ("", "", "ring")
    shows("a star left of a ring", star, "left of", ring, swapped="right of")
    expect(root.locator("ol.vit-first > li")).to_have_count(12)
    swap.click()
    shows("a star right of a ring", star, "right of", ring, swapped="left of")
    swap.click()
    shows("a star left of a ring", star, "left of", ring, swapped="right of")
    relation.select_option(label="above")
    shows("a star above a ring", star, "above", ring, swapped="below")
    swap.focus()
    page.keyboard.press("Enter")
    expect(relation).to_have_value("below")

    # Words left out: any kind, any second shape, no relation and so no second shape, nothing.
    choose("First", {"kind": "any kind"})
    choose("Second", {"kind": "any kind"})
    assert shows("a below a", ("", "", ""), "below", ("", "", ""), swapped="above")
    choose("Second", {"colour": "red"})
    choose("First", {"size": "small"})
    assert shows("a small below a red", ("small", "", ""), "below", ("", "red", ""), swapped="above")
    relation.select_option(label="no relation")
    shows("a small", ("small", "", ""))
    for control in (swap, *second.get_by_role("combobox").all()):
        expect(control).to_be_disabled()
    choose("First", {"size": "any size"})
    assert len(shows("a", ("", "", ""))) == 60

    # The keyboard alone.
    first.get_by_label("First shape: colour").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    shows("a red circle", ("", "red", "circle"))
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    shows("a red circle left of a red", ("", "red", "circle"), "left of", ("", "red", ""), swapped="right of")
    choose("Second", {"size": "large", "kind": "cross"})
    choose("First", {"size": "large"})
    sentence = "a large red circle left of a large red cross"
    shows(sentence, ("large", "red", "circle"), "left of", ("large", "red", "cross"), swapped="right of")
    rest = root.get_by_label("All other pictures, in their order")
    rest.focus()
    before = rest.evaluate("(node) => node.scrollTop")
    page.keyboard.press("End")
    page.wait_for_function("([node, before]) => node.scrollTop > before", arg=[rest.element_handle(), before])
    assert rest.evaluate(SWALLOWED) == []
