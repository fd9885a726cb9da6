"""Checks of notebook 16, Pictures and words: sentences as numbers, contrastive losses, search."""

import math
from itertools import count

import torch
import torch.nn.functional as F

from .. import words
from .facts import agree
from .reference import chosen, stated, whole, written
from .verdict import NotAttempted, Wrong, call

__all__ = [
    "word_numbers",
    "sentence_vector",
    "similarity",
    "clip_loss",
    "chance",
    "recall",
    "zero_shot",
    "siglip_loss",
    "what_it_reads",
    "negation",
]
READS, NEGATES = "b", "c"  # the right letters of the two that are chosen


def sentences():
    """Sentences, the numbers of their words and T; no word is known by its place alone."""
    yield "a red star", {"a": 1, "blue": 2, "red": 3, "ring": 4, "star": 5}, 5
    known = ["a", "and", "blue", "circle", "cross", "left", "of", "red", "ring", "small", "star", "white"]
    for sentence, T in (
        ("a small red star left of a blue ring", 12),  # a word twice
        ("A White CROSS, a Blue circle and a red Ring", 10),
        ("circle", 1),
        ("a small ring left of a small star", 8),  # as many words as there is room
        ("a dog left of a ring", 8),  # which is not known
        ("ring", 4),
    ):
        yield sentence, dict(zip(known, (torch.randperm(len(known)) + 1).tolist(), strict=True)), T


def encoded(function, sentence, numbers, T):
    """The list that a function gives; "an error" where it refuses a word that is not known."""
    try:
        found = call(function, sentence, numbers, T)
    except (NotAttempted, Wrong):
        raise
    except Exception:
        if set(sentence.lower().replace(",", "").split()) <= set(numbers):
            raise
        return "an error"
    return found.tolist() if hasattr(found, "tolist") else found


def usable(answer):
    """Raise `Wrong` where what is right in number cannot look up a vector."""
    if torch.as_tensor(encoded(answer, "a red", {"a": 1, "red": 2}, 3)).is_floating_point():
        raise Wrong("nn.Embedding looks vectors up by whole numbers; these are floats.", "dtype")


@written("Each word has its number, and 0 fills up what is left.", sentences, use=encoded, also=(usable,))
def word_numbers(wrong, sentence, numbers, T):
    """A function `(sentence, numbers, T) -> list of T ints`: the number of each word, then zeros."""
    capital = "Capital letters stay as they are; numbers knows words in small letters: lower()."
    text = sentence if wrong("capital letters kept", capital) else sentence.lower()
    text = text if wrong("commas kept", "A comma sticks to its word: take commas out.") else text.replace(",", "")
    once = "A word that comes twice is taken once; each place of the sentence has its number."
    units = wrong.choose(
        text.split(),
        ("letters for words", "This goes through letters; split() gives words.", list(text)),
        ("words once", once, list(dict.fromkeys(text.split()))),
        ("words sorted", "The words come in another order than the sentence's.", sorted(text.split())),
    )
    hides = "A word that numbers does not have gets {}. Nobody will notice: let it be an error."
    left_out = "A word that numbers does not have is left out. Nobody will notice: let it be an error."
    counted = count(1)
    look_up = wrong.choose(
        numbers.__getitem__,
        *(("unknown word hidden", hides.format(f"{x}"), lambda word, x=x: numbers.get(word, x)) for x in (0, -1, None)),
        ("unknown word hidden", hides.format("a new number"), lambda word: numbers.get(word, len(numbers) + 1)),
        ("words counted", "The words are counted; look their numbers up.", lambda word: next(counted)),
        ("words not looked up", "These are words; numbers has the number of each.", lambda word: word),
        ("places for words", "These are places in the dictionary; look the word's number up.", [*numbers].index),
        ("counted from 0", "Numbers are too small by 1: 0 is for empty places.", lambda word: numbers[word] - 1),
    )
    known = [word for word in units if word in numbers]
    units = known if wrong("unknown word left out", left_out) else units
    row = [look_up(word) for word in units]
    empty, more = [0] * (T - len(row)), "T is the length of the whole list: T - len(words) zeros follow."
    return wrong.choose(
        row + empty,
        ("zeros in front", "Zeros come first; they belong behind the words.", empty + row),
        ("not filled up", "The list is as long as the sentence; zeros fill it up to T.", row),
        ("T zeros added", more, row + [0] * T),
        ("filled with others", "Another number than 0 fills the list up.", row + [-1] * len(empty)),
        ("filled with others", "The last word fills the list up; 0 shall.", row + row[-1:] * len(empty)),
        ("one too short", "The list has T - 1 numbers.", row + empty[1:]),
        ("one too long", "The list has T + 1 numbers.", row + empty + [0]),
    )


def padded():
    """Vectors and tokens; what stands at empty places is not 0, and a word's vector may hold zeros."""
    yield torch.tensor([[[2.0, -4.0], [4.0, 0.0], [9.0, 5.0], [1.0, 7.0]]]), torch.tensor([[3, 1, 0, 0]])
    for B, T, D in ((3, 6, 4), (1, 1, 3), (4, 4, 4), (2, 5, 1), (5, 12, 7)):
        lengths = torch.randint(1, T + 1, (B, 1))
        lengths[0], lengths[-1] = T, max(1, T // 2)
        tokens = torch.randint(1, 9, (B, T)) * (torch.arange(T) < lengths)
        x = torch.randn(B, T, D) + 1
        x[0, 0, 0] = 0
        yield x, tokens
    yield x.permute(2, 1, 0).contiguous().permute(2, 1, 0), tokens.T.contiguous().T


@written("The mean of the words alone; nothing comes in from empty places.", padded)
def sentence_vector(wrong, x, tokens):
    """A function `(x (B, T, D), tokens (B, T)) -> (B, D)`: the mean over the places where a word stands."""
    T = x.shape[1]
    there = (tokens > 0)[:, :, None].expand_as(x)
    values = "The mask comes from the vectors, whose numbers may be anything. tokens says where words are: > 0."
    one = "Number 1 is a word too; only 0 is none."
    real = wrong.choose(
        there,
        ("all places counted", "Empty places count too; only those with tokens > 0 shall.", torch.ones_like(there)),
        ("mask of the vectors", values, x > 0),
        ("mask of the vectors", values, (x.sum(dim=2, keepdim=True) > 0).expand_as(x)),
        ("empty places kept", "This is the mean of the empty places.", ~there),
        ("word 1 left out", one, (tokens > 1)[:, :, None].expand_as(x)),
        ("one length for all", "Each sentence has its own length; this is the first one's.", there[:1].expand_as(x)),
    )
    numbers = "Words weigh as much as their numbers say; a mask is 1 or 0: tokens > 0."
    total = wrong.choose(
        (x * real).sum(dim=1),
        ("weighed by numbers", numbers, (x * tokens[:, :, None]).sum(dim=1)),
        ("empty places in the sum", "Empty places are in the sum: x times the mask first.", x.sum(dim=1)),
        ("summed over the batch", "This sums over sentences; sum over words, dim=1.", (x * real).sum(dim=0)),
        ("summed over D", "This sums over the D numbers of a word; sum over words, dim=1.", (x * real).sum(dim=2)),
    )
    own = "Each sentence is divided by its own number of words: sum over dim=1."
    count = wrong.choose(
        real.sum(dim=1),
        ("divided by T", "The sum is divided by all T places; divide by the number of words.", T),
        ("sum for mean", "The words are summed; divide by how many there are.", 1),
        ("divided by the batch", "This divides by the number of sentences.", len(x)),
        ("divided by another's", own, real[:, :, 0].sum()),
        ("divided by another's", own, there[..., 0].sum(dim=0)[:, None]),
        ("weighed by numbers", numbers, tokens.sum(dim=1, keepdim=True)),
    )
    return wrong.choose(
        total / count,
        ("largest for mean", "This is the largest number of the words; take their mean.", x.where(real, -9e9).amax(1)),
        ("first word alone", "This is the first word's vector; take the mean of all.", x[:, 0]),
        ("last place", "This is the vector at the last place.", x[:, -1]),
    )


def vectors():
    """Vectors of B pictures and B sentences, of all lengths."""
    yield torch.tensor([[2.0, 1.0, 2.0], [0.0, 3.0, 4.0]]), torch.tensor([[1.0, 2.0, 2.0], [4.0, 0.0, -3.0]]), 0.5
    for B, D, temperature in ((4, 3, 0.07), (1, 5, 2.0), (3, 3, 0.2), (2, 6, 1.0)):
        yield *(torch.randn(B, D) * 2 ** torch.randn(B, 1) for _ in "it"), temperature
    yield *(1e4 * torch.randn(5, 2, dtype=torch.float64) for _ in "it"), 0.01
    yield *(torch.randn(4, 3).T for _ in "it"), 0.3


@written("Row i is picture i with every sentence: directions alone, and the temperature sharpens.", vectors)
def similarity(wrong, images, texts, temperature):
    """A function `(images (B, D), texts (B, D), temperature) -> (B, B)`: cosines, divided by the temperature."""
    columns = "This gives each *column* length 1; each vector shall have it: dim=1."
    no_length = "{} do not have length 1, so that their lengths count."

    def normed(x):
        return wrong.choose(
            F.normalize(x, dim=1),
            ("not normalised", "Neither has length 1. A cosine divides by both lengths.", x),
            ("columns normed", columns, F.normalize(x, dim=0)),
            ("normed as a whole", "All vectors are divided by one length; each has its own.", x / x.norm()),
            (
                "length squared",
                "The *squared* length divides; a root is missing.",
                x / x.square().sum(dim=1, keepdim=True),
            ),
            ("sum for length", "A length is the root of a sum of squares.", F.normalize(x, 1)),
        )

    i, t = normed(images), normed(texts)
    i = images if wrong("pictures not normalised", no_length.format("Pictures")) else i
    t = texts if wrong("sentences not normalised", no_length.format("Sentences")) else t
    cosines = wrong.choose(
        i @ t.T,
        ("axes exchanged", "Row i is sentence i here; it shall be picture i: images @ texts.T.", t @ i.T),
        ("own pairs alone", "Only pairs i, i are here; every picture meets every sentence.", (i * t).sum(dim=1)),
        ("pictures with pictures", "Pictures are compared with pictures.", i @ i.T),
        ("summed over the batch", "This sums over pictures: (D, D). Sum over the D numbers.", i.T @ t),
        ("distances", "These are distances; a cosine is a product of vectors of length 1.", torch.cdist(i, t)),
    )
    times = "Cosines are multiplied by the temperature; divide, so that a low one sharpens."
    logits = wrong.choose(
        cosines / temperature,
        ("multiplied by the temperature", times, cosines * temperature),
        ("temperature not used", "The temperature is not used: divide by it.", cosines),
        *(("another temperature", f"Divide by temperature, not by {x}.", cosines / x) for x in (0.07, 0.1)),
        ("exponential", "Divide by the temperature itself, not by its exponential.", cosines / math.exp(temperature)),
        ("exponential", "The temperature stands in an exponential; divide by it.", cosines * math.exp(temperature)),
    )
    taken = wrong("softmax taken", "Logits are asked for; the loss has the softmax.")
    return logits.softmax(dim=1) if taken else logits


def scores(*more):
    """Logits, small ones first, and then such that their exponentials are infinite in float32."""

    def cases():
        yield torch.tensor([[2.0, 0.0], [1.0, -1.0]]), *more[:1]
        for n, B in enumerate((3, 1, 5, 8)):
            yield 3 * torch.randn(B, B), *more[n % 2 : n % 2 + 1]
        yield 600 * torch.rand(6, 6) - 300, *more[:1]
        yield torch.randn(4, 4, dtype=torch.float64).T, *more[:1]

    return cases


def trained(loss, *more):
    """A property: where the number is right, so is the gradient."""

    def learns(answer):
        logits = torch.arange(9.0).view(3, 3).cos().requires_grad_()
        with torch.enable_grad():
            found, right = answer(logits * 1, *more), loss(logits * 1, *more)
        if not getattr(found, "requires_grad", not isinstance(found, float)):
            why = "A loss is there to be trained by, and no gradient reaches the logits: no item, detach or numpy."
            raise Wrong(why, "no gradient")
        slopes = [torch.autograd.grad(x, logits)[0] for x in (found, right) if agree(found, right)]
        if slopes and not agree(*slopes, 1e-3):
            raise Wrong("The number is right, but a part of it passes no gradient on.", "gradient cut")

    return learns


INFINITE = "With large logits this is inf or nan: exponentials overflow, or all become 0. {} is safe."


@written("Each picture finds its sentence, and each sentence its picture.", scores(), also=(trained(words.clip_loss),))
def clip_loss(wrong, logits):
    """A function `(logits (B, B)) -> scalar`: the mean of both cross-entropies, of the rows and of the columns."""
    B = len(logits)
    large = INFINITE.format("log_softmax or cross_entropy")

    def each(x):
        """The loss of each row, `(B,)`: the right one stands on the diagonal."""
        logs = wrong.choose(
            x.log_softmax(dim=1),
            ("softmax twice", "cross_entropy has a softmax, and here it gets one more.", x.softmax(1).log_softmax(1)),
            ("logarithm missing", "These are probabilities; the loss is their logarithm.", x.softmax(1)),
            ("exp overflows", large, x.softmax(1).log()),
            ("exp overflows", large, (x.exp() / x.exp().sum(1, True)).log()),
            ("exp overflows", large, x - x.exp().sum(1, True).log()),
            ("softmax missing", "There is no softmax: nothing compares the right one with the others.", x),
            ("sigmoid for softmax", "A sigmoid looks at each pair alone; a softmax compares.", F.logsigmoid(x)),
            ("softmax over all pairs", "The softmax is over all pairs at once.", x.flatten().log_softmax(0).view(B, B)),
        )
        anyone = "All pairs count as right; only those on the diagonal are."
        return -wrong.choose(
            logs.diag(),
            ("all pairs right", anyone, logs.mean(dim=1)),
            ("all pairs right", anyone, logs.sum(dim=1)),
            ("first one right", "Sentence 0 counts as everyone's; picture i's is sentence i.", logs[:, 0]),
        )

    rows, columns = each(logits), each(logits.T)
    both = wrong.choose(
        (rows + columns) / 2,
        ("pictures only", "Only pictures look for sentences (rows). Columns too, logits.T; halve the sum.", rows),
        ("sentences only", "Only sentences look for pictures (columns). Rows too; halve the sum.", columns),
        ("both summed", "Both directions are summed; take their mean.", rows + columns),
        ("difference", "One direction is subtracted from the other; take their mean.", rows - columns),
    )
    loss = wrong.choose(
        both.mean(),
        ("sum for mean", "The batch is summed; take its mean.", both.sum()),
        ("divided by all pairs", "This divides by B * B pairs; B of them are right.", both.sum() / B**2),
        ("not one number", "One number is asked for, the mean over the batch.", both),
    )
    return -loss if wrong("sign", "The sign is missing: the less likely the right one, the larger the loss.") else loss


@stated(
    "Below these numbers nothing has been learned: 100/32 %, and ln 128.",
    "The first is a share of guesses, in per cent; for the second, give all captions of a batch the same probability.",
    tolerance=0.01,
)
def chance(wrong):
    """Guessing among 32 captions, in per cent, and the loss when all logits of 128 are alike: 3.125, 4.85."""
    guess = wrong.choose(
        100 / 32,
        ("share for per cent", "The first is a share of 1; per cent are asked for.", 1 / 32),
        ("batch for captions", "The first counts the batch; the test has its own number of captions.", 100 / 128),
        ("right or wrong", "The first is a toss of a coin. There are more captions than two.", 50.0),
        ("others counted", "The first counts how often a guess is wrong.", 100 - 100 / 32),
        ("captions counted", "The first is the number of captions; how often is one of them right?", 32.0),
    )
    kind = "The second has another base; cross-entropy takes the natural logarithm."
    return guess, wrong.choose(
        math.log(128),
        *(("another base", kind, x) for x in (7.0, math.log10(128))),
        ("captions for batch", "The second counts the captions of the test; the loss knows its batch.", math.log(32)),
        ("both summed", "The second is twice as large; the loss is the *mean* of both directions.", 2 * math.log(128)),
        ("sign", "The second has the wrong sign: a loss is minus a logarithm.", -math.log(128)),
        ("logarithm missing", "The second has no logarithm.", 128.0),
        *(("sure and right", "So small is the second for one who is sure and right.", x) for x in (0.0, 1 / 128)),
    )


@written(
    "Each pair answers for itself: do the two belong together?",
    scores(0.5, -2.0),
    also=(trained(words.siglip_loss, -0.7),),
)
def siglip_loss(wrong, logits, bias):
    """A function `(logits (B, B), bias) -> scalar`: -log sigmoid(sign * (logits + bias)), summed over a row's pairs."""
    B = len(logits)
    signs = 2 * torch.eye(B, dtype=logits.dtype) - 1  # (B, B)
    nothing = "Pairs that do not belong together get 0; their sign is -1."
    signs = wrong.choose(
        signs,
        ("signs exchanged", "The diagonal has -1 and the others +1; own pairs belong together: +1.", -signs),
        ("all signs +1", "All pairs count as belonging together; off the diagonal the sign is -1.", signs * signs),
        ("all signs -1", "No pair belongs together here; on the diagonal the sign is +1.", -signs * signs),
        ("zeros for signs", nothing, (signs + 1) / 2),
    )
    outside = "The bias stands outside: the sign multiplies logits + bias."
    z = wrong.choose(
        signs * (logits + bias),
        ("bias forgotten", "The bias is not used: add it to the logits.", signs * logits),
        ("bias subtracted", "The bias is subtracted; add it.", signs * (logits - bias)),
        ("bias outside the sign", outside, signs * logits + bias),
        ("bias outside the sign", outside, signs * logits - bias),
        ("bias multiplied", "The bias is multiplied; add it.", signs * logits * bias),
    )
    large = INFINITE.format("logsigmoid")
    losses = -wrong.choose(
        F.logsigmoid(z),
        ("exp overflows", large, z.sigmoid().log()),
        ("exp overflows", large, -(1 + (-z).exp()).log()),
        ("logarithm missing", "The logarithm is missing.", z.sigmoid()),
        ("logarithm missing", "1 - sigmoid is no logarithm: log sigmoid.", z.sigmoid() - 1),
        ("sigmoid missing", "The sigmoid is missing: log sigmoid.", z),
        ("softmax for sigmoid", "A softmax compares pairs; here each answers for itself.", z.log_softmax(dim=1)),
    )
    each = "This is the mean over all pairs: B times too small. Sum over a picture's pairs, mean over the pictures."
    loss = wrong.choose(
        losses.sum() / B,
        ("mean of all pairs", each, losses.mean()),
        ("sum of all pairs", "All pairs are summed; divide by the B pictures.", losses.sum()),
        ("own pairs only", "Only the diagonal counts; other pairs are to be told apart from it.", losses.diag().mean()),
        ("own pairs left out", "The diagonal does not count.", (losses.sum() - losses.trace()) / B),
        ("not one number", "One number is asked for; this is one for each picture.", losses.sum(dim=1)),
        ("not one number", "One number is asked for; this is one for each pair.", losses),
    )
    return -loss if wrong("sign", "The sign is missing: a loss is *minus* a logarithm.") else loss


def described():
    """Vectors of pictures and of classes, of very different lengths; no picture is as near to two classes."""
    classes = torch.tensor([[8.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    yield torch.tensor([[1.0, 2.0], [3.0, 1.0], [-4.0, -2.0], [1.0, 9.0]]), classes
    for M, K, D in ((9, 4, 3), (1, 5, 4), (6, 1, 2), (6, 6, 6), (30, 7, 5)):
        gap = 0.0
        while gap < 1e-4:
            images, classes = (torch.randn(n, D) * 4 ** torch.randn(n, 1) for n in (M, K))
            near = F.normalize(images, dim=1) @ F.normalize(classes, dim=1).T
            gap = near.sort(dim=1).values.diff(dim=1).min() if K > 1 else 1.0
        yield images, classes
    yield images.double(), classes.double()
    yield images.T.contiguous().T, classes.T.contiguous().T


@written("Each picture takes the class whose sentence points its way, and no class was ever trained.", described)
def zero_shot(wrong, image_vectors, class_vectors):
    """A function `(image_vectors (M, D), class_vectors (K, D)) -> (M,)`: the class with the largest cosine."""
    unit, lengths = lambda x, dim=1: F.normalize(x, dim=dim), class_vectors.norm(dim=1)
    dots = image_vectors @ class_vectors.T  # (M, K)
    longer = "This is {}, in which the lengths of the class vectors count. The cosine divides by them."
    columns = "This gives each *column* length 1; each class vector shall have it: dim=1."
    cosines = wrong.choose(
        unit(image_vectors) @ unit(class_vectors).T,
        ("dot products", longer.format("the dot product"), dots),
        ("distances", longer.format("the distance"), -torch.cdist(image_vectors, class_vectors)),
        ("columns normed", columns, unit(image_vectors, 0) @ unit(class_vectors, 0).T),
        ("columns normed", columns, image_vectors @ unit(class_vectors, 0).T),
        ("lengths multiplied", "The dot product is multiplied by the length; divide.", dots * lengths),
        ("lengths squared", "This divides by the *squared* length; a root is missing.", dots / lengths**2),
        ("sum for length", "A sum of absolute values is no length.", dots / class_vectors.abs().sum(1)),
        ("signs lost", "Signs are lost: a vector that points the other way is not alike.", dots.abs() / lengths),
    )
    return wrong.choose(
        cosines.argmax(dim=1),
        ("smallest cosine", "This is the class that is least alike: argmax.", cosines.argmin(dim=1)),
        ("a picture for each class", "This finds a picture for each class; argmax over dim=1.", cosines.argmax(dim=0)),
        ("cosines returned", "This is the largest cosine; argmax says whose it is.", cosines.amax(dim=1)),
        ("cosines returned", "These are all cosines; argmax says which is largest.", cosines),
        ("counted from 1", "Classes are counted from 0, as argmax does.", cosines.argmax(dim=1) + 1),
    )


def ranked():
    """Similarities of which no row has its own one twice, and k."""
    yield torch.tensor([[5.0, 1.0, 2.0], [7.0, 6.0, 4.0], [9.0, 8.0, 0.0]]), 2
    for M, k in ((8, 3), (7, 1), (1, 1), (6, 6), (20, 5)):
        yield torch.randperm(M * M).view(M, M) / (M * M) - 0.5, k
    yield torch.randperm(81).view(9, 9).double().T, 2
    ties = whole(12, 12, low=0, high=3) * 2  # others tie, the own one never
    yield ties + torch.diag(torch.randint(0, 3, (12,)) * 2 - ties.diag() + 1), 4


@written("That is recall at k, the score of every search by words.", ranked)
def recall(wrong, similarity, k):
    """A function `(similarity (M, M), k) -> float`: the share of rows whose own column is among the k largest."""
    M = len(similarity)
    columns = "This looks along columns: sentences look for pictures. Here each row looks for its column."
    x = similarity.T if wrong("columns for rows", columns) else similarity
    own = x.diag()[:, None]
    before = (x > own).sum(dim=1)  # (M,): how many are ahead of the own one
    hits = wrong.choose(
        before < k,
        ("one too many", "The own one may be in place k + 1 here: fewer than k are ahead of it.", before <= k),
        ("one too few", "Only k - 1 places count.", before < k - 1),
        ("place k alone", "Only place k counts, not those before it.", before == k - 1),
        ("k smallest", "This looks among the k smallest.", (x < own).sum(dim=1) < k),
        ("first place alone", "k is not used: only the first place counts.", before < 1),
        ("others of all rows", "This looks among the largest of all rows.", (x.flatten() > own).sum(dim=1) < k),
        ("values, not ranks", "Places are compared with k, not similarities.", own[:, 0] < k),
        ("first rows alone", "Is the row among the first k? Its own column shall be.", torch.arange(M) < k),
    ).float()
    return wrong.choose(
        hits.mean().item(),
        ("per cent", "These are per cent; a share of 1 is asked for.", 100 * hits.mean().item()),
        ("hits counted", "Hits are counted; divide by the number of rows.", hits.sum().item()),
        ("divided by k", "This divides by k too; it is no matter how many are looked at.", hits.mean().item() / k),
        ("divided by k", "This divides by k; divide by the number of rows.", hits.sum().item() / k),
        ("misses", "This is the share of misses.", 1 - hits.mean().item()),
        ("not one number", "One number is asked for; this is one for each row.", hits),
    )


@chosen(READS, "Which words there are tells nearly all captions apart; the vectors move a little, the answers hardly.")
def what_it_reads():
    """What shuffling the words of each caption does to the search: "b", nearly as many are found."""
    return {
        "a": ("order is all", "Chance would be 1 in 32. Compare both numbers with it."),
        "c": ("order is nothing", "The text encoder knows places. Take one caption: are its two vectors the same?"),
    }


@chosen(
    NEGATES, "Without its *no* the false sentence names what the picture shows, the true one a shape that is not there."
)
def negation():
    """How often a model that does not read *no* prefers "a star and no ring" to "... no cross": "c", seldom."""
    return {
        "a": ("star counts twice", "The star is in both sentences, so it cannot decide. What is left, without *no*?"),
        "b": ("both alike", "They differ in one word, which the model does read. Is that shape in the picture?"),
    }
