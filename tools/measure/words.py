"""Make data/runs/words.json, what notebook 16 shows: what a picture-and-text model learns from captions of scenes.

    python tools/measure/words.py [--seconds 3000]
    python tools/measure/words.py --ship

A ViT (patches of 8, D 96) and a text encoder (D 64, 2 blocks) learn from scenes of one or two shapes. Six pairs of a
colour and a kind never occur together in training. All is tested on 2,000 scenes from another seed.

The record: `info`, and `runs`, each a dict with

- "loss" ("clip" or "siglip"), "batch", "steps", "depth" of the ViT, "text" ("blocks", or "bag": none, so that no word
  knows of another, only of its own place), "hard_negatives" (each picture of two shapes must also tell its sentence
  from the same one with the relation turned round), "negation" (half of the sentences say what is not there), "seed";
- fractions, 1 is best: "among_32" (its own sentence is the nearest of 32; sentences alike count as one), "seen" and
  "unseen" (the same, pictures without and with a held-out pair), "pair seen" and "pair unseen" (one shape: its pair of
  colour and kind out of all 36), "left_right", "above_below" (its own sentence is nearer than that with the relation
  turned round: 0.5 is chance), "count" (of one shape: "a star" is nearer than "a star left of a star", chance 0.5),
  "shuffled" (as "among_32", all sentences with their words in a random order), and "negated" of runs with negation
  ("... and no X" is nearer where there is no X than where there is one: chance 0.5);
- "temperature" at the end, "cpu_seconds" of training, in one thread.

Every run is written when it ends; started again, the tool goes on with the runs that are missing. `--ship` instead
trains data/words_scenes.safetensors, and keeps its record data/runs/words-scenes.json.
"""

import json
import random
import time
from dataclasses import replace
from functools import cache

import torch
from records import Record, a_line_a_run, machine, parser

from vit_tutorial import VisionTransformer, datasets, normalise
from vit_tutorial.datasets.scenes import COLOURS, KINDS, SIZES, phrase
from vit_tutorial.files import DATA, atomic_path
from vit_tutorial.machine.precision import autocast, bf16_pays
from vit_tutorial.training import RECIPES
from vit_tutorial.training.optimizer import make_optimizer
from vit_tutorial.training.schedule import warmup_cosine
from vit_tutorial.words import PictureText, TextEncoder, Tokenizer, clip_loss, save, siglip_loss

RECORD = DATA / "runs" / "words.json"
SHIPPED, SHIPPED_RECORD = DATA / "words_scenes.safetensors", DATA / "runs" / "words-scenes.json"
UNSEEN = tuple(zip(COLOURS, ("star", "ring", "circle", "square", "cross", "triangle"), strict=True))
RECIPE = replace(RECIPES["mae"], without_labels="", weight_decay=0.01, muon_learning_rate=1e-2)
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PICTURES = 51_200  # that a run sees, but the longer ones
USUAL = {"loss": "clip", "batch": 128, "steps": 400, "depth": 2, "text": "blocks"}
USUAL |= {"hard_negatives": False, "negation": False}
OTHERS = (
    {},
    {"text": "bag"},
    {"hard_negatives": True},
    {"negation": True},
    {"loss": "siglip"},
    *(
        {"loss": loss, "batch": batch, "steps": PICTURES // batch}
        for batch in (8, 32, 512)
        for loss in ("clip", "siglip")
    ),
    {"depth": 4, "steps": 2000},
    {"depth": 4, "steps": 2000, "hard_negatives": True},
)
SEEDS = (0, 1, 2)
DEVICE = torch.device("cpu")


def plan():
    """Every run as a dict, those of batch 8 last: they take longest."""
    runs = [USUAL | other | {"seed": seed} for seed in SEEDS for other in OTHERS]
    return sorted(runs, key=lambda run: run["batch"] == 8)


@cache
def scenes(split, count):
    data = datasets.scenes(split, count, objects=(1, 2))
    return data if split == "test" else data[~data.shows(UNSEEN)]


def turned(caption):
    """The same sentence with its relation turned round."""
    return " ".join(OPPOSITE.get(word, word) for word in caption.split())


def named(data, i, k):
    """Object k of picture i in words."""
    names = [list(SIZES), list(COLOURS), KINDS]
    return phrase(*(n[v[i, k]] for n, v in zip(names, (data.sizes, data.colours, data.kinds), strict=True)))


def negations(data, seed):
    """For each picture of two kinds "a small red star and no X", true (X is not there) and false (X is the other)."""
    draw, pairs = random.Random(seed), {}
    for i, kinds in enumerate(data.kinds.tolist()):
        absent = draw.choice([kind for number, kind in enumerate(KINDS) if number not in kinds])
        k = draw.randrange(1 + (kinds[1] >= 0))
        other = KINDS[kinds[1 - k]] if -1 < kinds[1] != kinds[0] else None
        pairs[i] = [f"{named(data, i, k)} and no {x}" for x in (absent, other)]
    return pairs


def fit(data, seed, loss, batch, steps, depth, text, hard_negatives, negation):
    """The model and the tokenizer after so many steps, and the CPU seconds."""
    torch.manual_seed(seed)
    start, captions = time.process_time(), list(data.captions)
    if negation:
        for i, (true, _) in negations(data, seed).items():
            captions[i] = captions[i] if i % 2 else true
    tokenizer = Tokenizer([*captions, *map(turned, captions)])
    vit = VisionTransformer(replace(RECIPE.model, depth=depth, num_classes=64))
    encoder = TextEncoder(len(tokenizer.words), depth=0 if text == "bag" else 2)
    model = PictureText(vit, encoder, 0.07 if loss == "clip" else 0.1)
    numbers, other = tokenizer(captions), tokenizer(map(turned, captions))
    optimizer = make_optimizer(model, RECIPE, bf16_pays("cpu"))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step / steps, 0.1))
    for _ in range(steps):
        index = torch.randint(len(data), (batch,))
        images, tokens = normalise(data.images[index], vit.config), numbers[index]
        with autocast(DEVICE):
            logits = model(images, torch.cat([tokens, other[index]]) if hard_negatives else tokens)
        logits, wrong = logits[:, :batch], logits[:, batch:]
        value = clip_loss(logits) if loss == "clip" else siglip_loss(logits, model.bias)
        if hard_negatives:
            there = (tokens != other[index]).any(dim=1)  # one shape has no relation
            value = value + torch.nn.functional.softplus(wrong.diag() - logits.diag())[there].mean()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return model.eval(), tokenizer, time.process_time() - start


def share(right, where=slice(None)):
    return round(right[where].float().mean().item(), 4)


@torch.no_grad()
def tested(model, tokenizer, test, seed):
    """What the record says of a model."""
    embed = lambda captions: model.embed_texts(tokenizer(list(captions)))  # noqa: E731
    vectors = torch.cat([model.embed_images(normalise(x, model.vit.config)) for x in test.images.split(100)])
    rows = range(len(test))

    def among(texts):
        """For each picture: is its own the nearest of 32 sentences?"""
        draw, right = random.Random(seed), []
        for i in rows:
            others = [j for j in draw.sample(rows, 40) if test.captions[j] != test.captions[i]][:31]
            cosines = texts[[i, *others]] @ vectors[i]
            right.append(bool(cosines[0] > cosines[1:].max()))
        return torch.tensor(right)

    def nearer(captions, others, which):
        own, other = embed(captions[i] for i in which), embed(others[i] for i in which)
        return share((vectors[which] * (own - other)).sum(dim=1) > 0)

    unseen, single = test.shows(UNSEEN), (test.kinds >= 0).sum(dim=1) == 1
    right = among(embed(test.captions))
    found = {"among_32": share(right), "seen": share(right, ~unseen), "unseen": share(right, unseen)}

    pairs = [(colour, kind) for colour in range(len(COLOURS)) for kind in range(len(KINDS))]
    sentences = [phrase(size, list(COLOURS)[c], KINDS[k]) for size in SIZES for c, k in pairs]
    classes = embed(sentences).view(2, len(pairs), -1).mean(dim=0)
    own = test.colours[:, 0] * len(KINDS) + test.kinds[:, 0]
    right = (vectors @ classes.T).argmax(dim=1) == own
    found |= {"pair seen": share(right, single & ~unseen), "pair unseen": share(right, single & unseen)}

    for name, words in (("left_right", ("left", "right")), ("above_below", ("above", "below"))):
        which = [
            i
            for i in rows
            if any(w in test.captions[i] for w in words) and turned(test.captions[i]) != test.captions[i]
        ]
        which = [i for i in which if named(test, i, 0) != named(test, i, 1)]
        found[name] = nearer(test.captions, [turned(c) for c in test.captions], which)
    twice = [f"{c} left of {c}" for c in test.captions]
    found["count"] = nearer(test.captions, twice, single.nonzero().flatten().tolist())

    shuffle = random.Random(seed)
    words = [Tokenizer.split(caption) for caption in test.captions]
    found["shuffled"] = share(among(embed(" ".join(shuffle.sample(w, len(w))) for w in words)))
    if "no" in tokenizer.numbers:
        pairs = negations(test, seed)
        which = [i for i in rows if not single[i] and test.kinds[i, 0] != test.kinds[i, 1]]
        found["negated"] = nearer([pairs[i][0] for i in rows], [pairs[i][1] for i in rows], which)
    return found | {"temperature": round(1 / model.scale.exp().item(), 4)}


def run(seed, **how):
    model, tokenizer, seconds = fit(scenes("train", 12_000), seed, **how)
    found = tested(model, tokenizer, scenes("test", 2000), seed) | {"cpu_seconds": round(seconds, 1)}
    print(how, found, flush=True)
    return found


def about():
    return machine() | {"bfloat16": bf16_pays("cpu"), "held-out pairs": UNSEEN, "tested": 2000}


def ship():
    """Train the model that the course ships, on 30,000 scenes, and keep it with its record."""
    how = USUAL | {"depth": 4, "steps": 3000}
    data = scenes("train", 30_000)
    model, tokenizer, seconds = fit(data, 0, **how)
    save(model, tokenizer, SHIPPED)
    found = tested(model, tokenizer, scenes("test", 2000), 0)
    record = about() | {"command": "python tools/measure/words.py --ship", "pictures": len(data)} | how
    record |= {"cpu_seconds": round(seconds, 1)} | found
    with atomic_path(SHIPPED_RECORD) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB, {found}")


def main():
    options = parser(__doc__, RECORD)
    options.add_argument("--ship", action="store_true", help="train the model that the course ships instead")
    args = options.parse_args()
    torch.set_num_threads(1)
    if args.ship:
        return ship()
    info = about() | {"command": "python tools/measure/words.py", "data": "scenes of one or two shapes, 12,000 drawn"}
    info["learnt from"] = len(scenes("train", 12_000))
    record = Record(args.out, {"info": info, "runs": []}, a_line_a_run, args.seconds)
    record.complete(plan(), record.content["runs"], run)


if __name__ == "__main__":
    main()
