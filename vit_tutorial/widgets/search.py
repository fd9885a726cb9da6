"""SearchExplorer: make a sentence, and see which pictures a model of pictures and words puts nearest to it."""

import re
from collections import defaultdict
from copy import deepcopy

import torch
from matplotlib.figure import Figure
from traitlets import Bytes, Dict, List, Unicode, validate

from .. import words
from ..datasets import scenes as draw_scenes
from ..datasets.scenes import COLOURS, KINDS, SIZES, Scenes
from ..files import DATA
from ..layers import check_images, image_sides
from ..model import normalise
from ..plots import draw_image
from .explorer import Explorer, float_bytes, module, pixel_bytes

SWAPPED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SHAPE = {"size": list(SIZES), "colour": list(COLOURS), "kind": list(KINDS)}
CHOICES = {**SHAPE, "relation": list(SWAPPED), **{f"other_{name}": options for name, options in SHAPE.items()}}
LONGEST = "a small red star left of a large blue ring"
FIRST = 12  # pictures that are counted
MOST = 120


class SearchExplorer(Explorer):
    """Make a sentence out of lists, and see which pictures a model of pictures and words puts nearest to it.

        SearchExplorer()                          # the model that the course ships, and 96 scenes
        SearchExplorer(model, tokenizer, scenes)  # words.PictureText, its words.Tokenizer, datasets.scenes(...)

    The sentence can be read (`sentence`), its words also set: `size`, `colour`, `kind`, `relation`, `other_size`,
    `other_colour` and `other_kind`; "" leaves one out, and without a relation there is no second shape. At first it is
    the caption of the first scene. A picture is right if it shows what the sentence says: of two shapes on a diagonal,
    one is left of the other and also above it. The page computes the sentence's vector itself, from the text encoder's
    weights in float32.

    Raises `ValueError` for a model and a tokenizer that do not fit, words that it lacks, and more than 120 scenes.
    """

    _esm = module("search.js")

    weights = Bytes().tag(sync=True)  # float32: the text encoder's, in the order of its state dict
    sizes = Dict().tag(sync=True)  # what the page needs to know of the text encoder
    vocabulary = List(Unicode()).tag(sync=True)  # the tokenizer's; the first has number 1
    choices = Dict(CHOICES).tag(sync=True)
    pictures = Bytes().tag(sync=True)  # (B, Y, X, 3) uint8
    side = List().tag(sync=True)  # Y, X
    vectors = Bytes().tag(sync=True)  # (B, out) float32, each of length 1
    captions = List(Unicode()).tag(sync=True)
    objects = List().tag(sync=True)  # of each picture: [size, colour, kind, column, row] of each object
    size = Unicode().tag(sync=True)
    colour = Unicode().tag(sync=True)
    kind = Unicode().tag(sync=True)
    relation = Unicode().tag(sync=True)
    other_size = Unicode().tag(sync=True)
    other_colour = Unicode().tag(sync=True)
    other_kind = Unicode().tag(sync=True)

    def __init__(self, model=None, tokenizer=None, scenes=None, **view):
        if model is None and tokenizer is None:
            model, tokenizer = words.load(DATA / "words_scenes.safetensors")
        check_fit(model, tokenizer)
        scenes = some_scenes() if scenes is None else scenes
        if not isinstance(scenes, Scenes) or not 1 <= len(scenes) <= MOST:
            found = f"{len(scenes)}" if isinstance(scenes, Scenes) else type(scenes).__name__
            raise ValueError(f'expected 1 to {MOST} datasets.scenes, found {found}; try scenes("test", 96)')
        config = model.vit.config
        check_images(scenes.images, config.in_channels, image_sides(config.image_size))
        self._model, self._tokenizer = deepcopy(model).cpu().float().eval(), tokenizer  # it may be trained on
        self._images = scenes.images.cpu()
        with torch.no_grad():
            self._vectors = self._model.embed_images(normalise(self._images, config))  # (B, out)
        super().__init__(
            weights=float_bytes(torch.cat([x.flatten() for x in self._model.text.state_dict().values()])),
            sizes=sizes_of(self._model.text),
            vocabulary=tokenizer.words,
            pictures=pixel_bytes(self._images),
            side=list(scenes.image_size),
            vectors=float_bytes(self._vectors),
            captions=list(scenes.captions),
            objects=objects_of(scenes),
            **words_of(scenes.captions[0]) | view,
        )

    @validate(*CHOICES)
    def _on_the_list(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if value not in ("", *CHOICES[name]):
            raise ValueError(f'expected {name} out of {CHOICES[name]}, or "" to leave it out, found {value!r:.60}')
        return value

    def _words(self, prefix=""):
        return [getattr(self, prefix + name) for name in SHAPE]

    def _sentence(self, relation):
        second = ["a", *self._words("other_")] if relation else []
        return " ".join(filter(None, ["a", *self._words(), relation, *second]))

    @property
    def sentence(self):
        """The sentence, worded like the captions of `datasets.scenes`."""
        return self._sentence(self.relation)

    def shown(self):
        """Which pictures show what the sentence says: `(B,)` bool."""
        axis = 3 if self.relation in ("left of", "right of") else 4
        sign = 1 if self.relation in ("left of", "above") else -1

        def fits(thing, wanted):
            return all(word in ("", found) for found, word in zip(thing[:3], wanted, strict=True))

        def stands(thing, things):
            others = [other for other in things if fits(other, self._words("other_"))]
            return not self.relation or any(sign * (other[axis] - thing[axis]) > 0 for other in others)

        def right(things):
            return any(fits(thing, self._words()) and stands(thing, things) for thing in things)

        return torch.tensor([right(things) for things in self.objects])

    @torch.no_grad()
    def cosines(self, sentence):
        """Of each picture's vector with that of a sentence, `(B,)`."""
        return self._vectors @ self._model.embed_texts(self._tokenizer([sentence]))[0]

    def __repr__(self):
        return f"SearchExplorer({len(self.objects)} pictures, {len(self.vocabulary)} words)"

    def ranking(self, sentence):
        """The pictures' numbers, the nearest first."""
        return self.cosines(sentence).argsort(descending=True, stable=True).tolist()

    def figure(self):
        cosines, right, first = self.cosines(self.sentence), self.shown(), self.ranking(self.sentence)[:FIRST]
        fig = Figure(figsize=(9.4, 3.7), layout="constrained")
        fig.suptitle(f"“{self.sentence}”", fontsize=11)
        axes = fig.subplots(2, FIRST // 2).flatten()
        for ax in axes:
            ax.set_axis_off()
        for ax, i in zip(axes, first, strict=False):
            draw_image(ax, self._images[i], f"{'✓' if right[i] else '✗'} {cosines[i]:z.2f}")
        n, count = len(first), len(right)
        alt = (
            f"The {n} of {count} pictures that are nearest to the sentence “{self.sentence}”, cosines from "
            f"{cosines[first[0]]:z.2f} down to {cosines[first[-1]]:z.2f}: right are "
            f"{right[first].sum()} of the first {n}, {right.sum()} of all {count}."
        )
        if self.relation:
            swapped = SWAPPED[self.relation]
            again = {*first} & {*self.ranking(self._sentence(swapped))[:FIRST]}
            alt += f" With “{swapped}” instead, {len(again)} of these {n} are among the first {n} again."
        return fig, alt


def check_fit(model, tokenizer):
    """Raises `ValueError` where the page cannot compute the model's text encoder, or the tokenizer is not its own."""
    if not isinstance(model, words.PictureText) or type(model.text) is not words.TextEncoder:
        found = f"PictureText with {type(model.text).__name__}" if hasattr(model, "text") else type(model).__name__
        raise ValueError(f"expected a words.PictureText with a words.TextEncoder, found {found}; words.load reads one")
    if not isinstance(tokenizer, words.Tokenizer):
        found = type(tokenizer).__name__
        raise ValueError(f"expected the words.Tokenizer of the model, found {found}; words.load reads both")
    embed, T = model.text.embed.num_embeddings - 1, model.text.pos_embed.shape[1]
    if (len(tokenizer.words), tokenizer.T) != (embed, T):
        raise ValueError(
            f"expected a tokenizer of {embed} words and T = {T}, as the text encoder was made for, found "
            f"{len(tokenizer.words)} words and T = {tokenizer.T}; take the one that the model was trained with"
        )
    if (pictures := model.vit.config.num_classes) != (out := model.text.head.out_features):
        raise ValueError(
            f"expected as many numbers for a picture as for a sentence, found {pictures} and {out}; "
            f"make the text encoder with out_dim={pictures}"
        )
    asked = ["a", *" ".join(sum(CHOICES.values(), [])).split()]
    if lacking := [word for word in asked if word not in tokenizer.numbers]:
        raise ValueError(
            f"expected a tokenizer that knows the words of scenes, found none for {lacking[0]!r}; "
            "make it of the captions of datasets.scenes"
        )
    if tokenizer.T < (longest := len(LONGEST.split())):
        raise ValueError(f"expected a tokenizer of at least T = {longest} for {LONGEST!r}, found T = {tokenizer.T}")


def sizes_of(text):
    blocks, D = text.blocks, text.embed.embedding_dim
    encoder = {"dim": D, "depth": len(blocks)}
    for block in blocks:
        encoder |= {"heads": block.attn.num_heads, "hidden": block.mlp.fc1.out_features}
    return {"T": text.pos_embed.shape[1], "out": text.head.out_features, "encoder": encoder}


def objects_of(scenes):
    """Of each picture its objects as [size, colour, kind, column, row]: words, and in which half it is, 0 or 1."""
    Y, X = scenes.image_size
    middles = scenes.boxes.unflatten(2, (2, 2)).mean(dim=2)  # (B, K, 2): x, y
    halves = (middles > torch.tensor([X, Y]) / 2).int().tolist()
    numbers = torch.stack([scenes.sizes, scenes.colours, scenes.kinds], dim=2).tolist()  # (B, K, 3), -1 for none
    return [
        [
            [*(names[n] for names, n in zip(SHAPE.values(), row, strict=True)), *half]
            for row, half in zip(rows, where, strict=True)
            if row[2] >= 0
        ]
        for rows, where in zip(numbers, halves, strict=True)
    ]


def words_of(caption):
    """The traits whose sentence this caption is; of more than two shapes, those of the first."""
    phrase = r"a (\w+) (\w+) (\w+)"
    return dict(
        zip(CHOICES, re.match(f"{phrase}(?: ({'|'.join(SWAPPED)}) {phrase})?", caption).groups(""), strict=True)
    )


def some_scenes():
    """96 test pictures: 48 of them in groups that show the same two shapes, one in several places as seen from the
    other, and 48 as they come."""
    pool, groups = draw_scenes("test", 2000, objects=(1, 2)), defaultdict(list)
    for i, caption in enumerate(pool.captions):
        groups[frozenset(re.findall(r"\ba \w+ \w+ \w+", caption))].append(i)
    alike = sorted((group for shapes, group in groups.items() if len(shapes) == 2), key=len, reverse=True)
    chosen = sum(alike, [])[:48]
    return pool[chosen + [i for i in range(len(pool)) if i not in chosen][:48]]
