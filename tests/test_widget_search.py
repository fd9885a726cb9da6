"""SearchExplorer: what it takes, what it sends, the picture in its place; the page computes the sentences' vectors."""

import base64
import itertools

import pytest
import torch
from front_ends import browser, watched_page

from vit_tutorial import VisionTransformer, ViTConfig, datasets, normalise, plots
from vit_tutorial.files import DATA
from vit_tutorial.widgets import SearchExplorer, search
from vit_tutorial.widgets.explorer import module
from vit_tutorial.words import PictureText, TextEncoder, Tokenizer

SCENES = datasets.scenes("test", 200, objects=(1, 2))
TOKENIZER = Tokenizer(SCENES.captions)
SOME, KNOWN = SCENES[:20], len(TOKENIZER.words)
SHIPPED = DATA / "words_scenes.safetensors"


def make(words=KNOWN, channels=3, text=TextEncoder, **options):
    torch.manual_seed(0)
    statistics = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    config = ViTConfig(32, 8, channels, 64, embed_dim=96, depth=1, num_heads=4, pool="mean", **statistics)
    model = PictureText(VisionTransformer(config), text(words, **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    return model


def choose(explorer, **words):
    """These words alone."""
    for name in search.CHOICES:
        setattr(explorer, name, words.get(name, ""))


def numbers(buffer):
    return torch.frombuffer(bytearray(buffer), dtype=torch.float32)


# ------------------------------------------------------------------------------------------------ the page's numbers


@pytest.fixture(scope="module")
def page():
    with browser() as running:
        page = watched_page(running)
        page.add_script_tag(content=module("sentences.js"))
        yield page


@pytest.mark.parametrize(
    "options",
    [{}, {"embed_dim": 36, "num_heads": 3, "depth": 1, "out_dim": 10}, {"depth": 0}, {"T": 10, "num_heads": 1}],
    ids=["shipped", "odd widths", "bag of words", "10 words"],
)
def test_the_page_computes_what_torch_does(page, options):
    model, tokenizer = make(**options).eval(), Tokenizer(SCENES.captions, options.get("T", 12))
    weights = torch.cat([x.flatten() for x in model.text.state_dict().values()])
    page.evaluate(
        """([sizes, words, weights]) => {
          const encoder = new SentenceEncoder(sizes, words, Float32Array.from(weights));
          window.vectors = (sentences) => sentences.map((sentence) => [...encoder.vector(sentence)]);
        }""",
        [search.sizes_of(model.text), tokenizer.words, weights.tolist()],
    )
    sentences = ["a", "a star", "a red left of a", search.LONGEST, *SCENES.captions[:20]]
    with torch.no_grad():
        wanted = model.embed_texts(tokenizer(sentences))
    found = torch.tensor(page.evaluate("(sentences) => vectors(sentences)", sentences))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)


# ------------------------------------------------------------------------------------------------ what is sent


def test_pictures_vectors_and_weights_are_sent_once_and_whole():
    model = make(out_dim=64).double()
    explorer = SearchExplorer(model, TOKENIZER, SOME)
    assert len(explorer.weights) == 4 * sum(p.numel() for p in model.text.parameters())
    assert bytes(explorer.pictures) == SOME.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    with torch.no_grad():
        wanted = model.float().embed_images(normalise(SOME.images, model.vit.config))
    torch.testing.assert_close(numbers(explorer.vectors).reshape(20, 64), wanted, atol=1e-6, rtol=0)
    assert model.training and explorer.captions == list(SOME.captions)
    before = explorer.figure()[1]
    with torch.no_grad():
        model.text.embed.weight += 1
    assert explorer.figure()[1] == before  # the page's model and the picture's are one


def test_96_scenes_are_sent_in_less_than_a_megabyte():
    explorer = SearchExplorer(make(), TOKENIZER)
    assert repr(explorer) == f"SearchExplorer(96 pictures, {KNOWN} words)"
    state = explorer.get_state()
    sent = sum(len(value) for value in state.values() if isinstance(value, (bytes, str, memoryview)))
    assert sent < 900_000
    assert explorer.sentence == explorer.captions[0] and explorer.shown().sum() > 1
    explorer.relation = search.SWAPPED[explorer.relation]
    assert explorer.shown().any()


@pytest.mark.skipif(not SHIPPED.exists(), reason="needs data/words_scenes.safetensors")
def test_the_shipped_model_finds_the_pictures_by_their_captions():
    explorer = SearchExplorer()
    found = [explorer.ranking(caption).index(i) < 12 for i, caption in enumerate(explorer.captions)]
    assert sum(found) > 80


# ------------------------------------------------------------------------------------------------ what is right


def test_a_caption_is_a_sentence_that_its_picture_shows():
    explorer = SearchExplorer(make(), TOKENIZER, SCENES[:100])
    for i, caption in enumerate(SCENES.captions[:100]):
        choose(explorer, **search.words_of(caption))
        assert explorer.sentence == caption and explorer.shown()[i]
        if explorer.relation:
            explorer.relation = search.SWAPPED[explorer.relation]
            alike = explorer._words() == explorer._words("other_")
            assert alike or not explorer.shown()[i]


def test_of_two_shapes_on_a_diagonal_both_relations_hold():
    explorer = SearchExplorer(make(), TOKENIZER, SCENES[:100])
    right = {}
    for relation in search.SWAPPED:
        choose(explorer, relation=relation)
        right[relation] = explorer.shown()
    two = SCENES.kinds[:100, 1] >= 0
    x, y = SCENES.boxes[:100].unflatten(2, (2, 2)).mean(dim=2).unbind(2)
    apart = ((x[:, 0] > 16) != (x[:, 1] > 16)) & two
    stacked = ((y[:, 0] > 16) != (y[:, 1] > 16)) & two
    assert right["left of"].equal(apart) and right["right of"].equal(apart)  # of any two, one is left of the other
    assert right["above"].equal(stacked) and (apart & stacked).any() and not (~apart & ~stacked & two).any()
    choose(explorer)
    assert explorer.sentence == "a" and explorer.shown().all()


# ------------------------------------------------------------------------------------------------ what is refused


class Other(TextEncoder):
    pass


SHORT, GREEK = Tokenizer(SCENES.captions, 9), Tokenizer([*SCENES.captions[1:2], *"αβγδεζηθικλμνξο"])


@pytest.mark.parametrize(
    ("model", "tokenizer", "scenes", "message"),
    [
        (make().text, TOKENIZER, SOME, "expected a words.PictureText .*, found TextEncoder; words.load reads one"),
        (make(text=Other), TOKENIZER, SOME, "found PictureText with Other"),
        (make(), None, SOME, "expected the words.Tokenizer of the model, found NoneType"),
        (None, TOKENIZER, SOME, "expected a words.PictureText .*, found NoneType"),
        (make(7), TOKENIZER, SOME, r"a tokenizer of 7 words and T = 12, .*, found \d+ words and T = 12; take the one"),
        (make(), SHORT, SOME, "found .* T = 9"),
        (make(T=9), SHORT, SOME, "at least T = 10 for 'a small red star left of a large blue ring', found T = 9"),
        (make(len(GREEK.words)), GREEK, SOME, "knows the words of scenes, found none for 'small'; make it of the"),
        (make(), TOKENIZER, SOME.images, "expected 1 to 120 datasets.scenes, found Tensor; try scenes"),
        (make(), TOKENIZER, SCENES[:0], "found 0"),
        (make(), TOKENIZER, SCENES, "found 200"),
        (make(channels=1), TOKENIZER, SOME, "expected 1 channels, found 3"),
        (make(out_dim=10), TOKENIZER, SOME, "as many numbers for a picture as for a sentence, found 64 and 10"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(model, tokenizer, scenes, message):
    with pytest.raises(ValueError, match=message) as caught:
        SearchExplorer(model, tokenizer, scenes)
    assert "\n" not in str(caught.value)


def test_view_can_be_read_and_set():
    explorer = SearchExplorer(make(), TOKENIZER, SOME, size="", relation="above", other_size="large")
    assert explorer.sentence.startswith("a " + " ".join(SOME.captions[0].split()[2:4]) + " above a large")
    three = datasets.scenes("test", 10, objects=(3, 4))
    first = SearchExplorer(make(), TOKENIZER, three)
    assert first.sentence == three.captions[0].split(",")[0] and first.shown()[0]
    choose(explorer, colour="red", kind="star", relation="above", other_size="large", other_kind="ring")
    assert explorer.sentence == "a red star above a large ring"
    explorer.set_state({"relation": "below", "kind": "", "other_kind": ""})  # as the page does it
    assert explorer.sentence == "a red below a large"
    for name, bad in (("colour", "orange"), ("relation", "inside"), ("other_kind", "red"), ("size", "Small")):
        before = getattr(explorer, name)
        with pytest.raises(ValueError, match=rf"expected {name} out of \['.*, or \"\" to leave it out, found '{bad}'"):
            setattr(explorer, name, bad)
        assert getattr(explorer, name) == before


# ------------------------------------------------------------------------------------------------ without a page


def test_the_picture_says_what_is_seen():
    model = make().eval()
    explorer = SearchExplorer(model, TOKENIZER, SCENES[:60])
    choose(explorer)
    with torch.no_grad():
        cosines = model.embed_images(normalise(SCENES.images[:60], model.vit.config)) @ model.embed_texts(
            TOKENIZER(["a"])
        ).squeeze(0)
    best = cosines.sort(descending=True).values
    figure, alt = explorer.figure()
    assert alt == (
        f"The 12 of 60 pictures that are nearest to the sentence “a”, cosines from {best[0]:z.2f} down to "
        f"{best[11]:z.2f}: right are 12 of the first 12, 60 of all 60."
    )
    first = plots.png(figure)
    assert [ax.get_title() for ax in figure.axes] == [f"✓ {cosine:z.2f}" for cosine in best[:12]]
    assert all(len(ax.images) == 1 for ax in figure.axes)
    choose(explorer, kind="star", relation="left of", other_kind="ring")
    figure, alt = explorer.figure()
    assert "“a star left of a ring”" in alt and "With “right of” instead, " in alt and plots.png(figure) != first
    data, metadata = explorer._repr_mimebundle_()
    assert data["text/plain"] == f"SearchExplorer(60 pictures, {KNOWN} words)" == repr(explorer)
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG" and metadata["image/png"]["alt"] == alt
    few = SearchExplorer(model, TOKENIZER, SCENES[:3])
    assert few.figure()[1].startswith("The 3 of 3 pictures")


def test_every_sentence_is_one_that_the_tokenizer_knows():
    explorer = SearchExplorer(make(), TOKENIZER, SOME)
    for words in itertools.product(("", "large"), ("", "white"), ("", "cross"), ("", *search.SWAPPED)):
        for name, word in zip(search.CHOICES, words, strict=False):
            setattr(explorer, name, word)
        assert explorer.cosines(explorer.sentence).shape == (20,)
