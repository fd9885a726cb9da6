"""Checks of notebook 05, Vision Transformer."""

import re

import torch
import torch.nn.functional as F
from torch import nn

from ..model import VisionTransformer, ViTConfig
from .reference import chosen, stated, whole, written

__all__ = [
    "embed_tokens",
    "read_out",
    "loud_slip",
    "where_weights_live",
    "count_block",
    "count_macs",
    "smaller_patches",
    "image_side",
    "rename_weights",
]
EXACT = 1e-9  # relative tolerance where counts must agree to the last weight


@chosen(
    "c", "An MLP has two matrices of D x 4D, attention four of D x D: 8 D^2 against 4 D^2, two thirds for the MLPs."
)
def where_weights_live():
    """The letter of the part that holds most of ViT-B/16's weights: the MLPs."""
    once = "One patch times one matrix is only 768 x 768 weights, 0.7 % of the model. Every patch uses the same ones."
    four = "Attention has 4 matrices of D x D per block: q, k, v and the output. Count the rest of the block, too."
    ends = "Positions (197 x 768) and head (768 x 1000) are used once. The blocks repeat 12 times."
    return {"a": ("patch embedding", once), "b": ("attention holds most", four), "d": ("positions and head", ends)}


@chosen("a", "1 + N tokens and N positions cannot be added. The other two change no shape, so nothing complains.")
def loud_slip():
    """The letter of the slip in the assembly that PyTorch refuses."""
    last = "The rows have another order, but there are as many of them. Write the shapes beside each part."
    norm = "A LayerNorm gives the shape that it takes, so what follows fits with it and without."
    none = "Write the shapes beside each part of each line, with 64 patches: one sum has no answer."
    return {"b": ("order taken for shape", last), "c": ("norm taken for shape", norm), "d": ("none is loud", none)}


def tokens_to_embed():
    yield whole(1, 2, 2), whole(1, 1, 2), whole(1, 3, 2)
    for B, N, D in ((1, 4, 8), (3, 6, 4), (2, 15, 12), (2, 1, 3), (5, 4, 4)):
        yield torch.randn(B, N, D), torch.randn(1, 1, D), torch.randn(1, 1 + N, D)


@written("Class token first, then the patches, then one position for each row.", tokens_to_embed, together=3)
def embed_tokens(wrong, x, cls_token, pos_embed):
    """A function of patch tokens `(B, N, D)`, class token and positions that returns `(B, 1 + N, D)`."""
    single = "One image works, a batch does not: there is one class token. Repeat it: cls_token.expand(len(x), -1, -1)."
    cls = cls_token if wrong("class token not repeated", single) else cls_token.expand(len(x), -1, -1)
    own, shifted = pos_embed[:, :1], "Row 0 of pos_embed belongs to the class token: patch i, from 0, has row i + 1."
    others = pos_embed[:, :-1] if wrong("positions shifted", shifted) else pos_embed[:, 1:]
    early = "The class token has no position. Add all 1 + N rows after torch.cat."
    own = 0 * own if wrong("positions before the class token", early) else own
    others = 0 * others if wrong("patches without positions", "The patches have no positions.") else others
    positions = torch.cat([own, others], dim=1)
    if wrong("no positions", "The positions are missing: no token knows where it is."):
        positions, others = 0 * positions, 0 * others
    if wrong("no class token", "The class token is missing: 1 + N tokens are asked for."):
        return x + others
    last = "The class token stands last. Its place is row 0: there the head reads, and row 0 of pos_embed is its own."
    if wrong("class token last", last, 1):  # and its position with it
        return torch.cat([x + others, cls + positions[:, :1]], dim=1)
    rows = torch.cat([x, cls] if wrong("class token last", last) else [cls, x], dim=1)
    return rows * positions if wrong("positions multiplied", "Positions are added to the tokens.") else rows + positions


@written(
    "Every matrix, bias, scale and shift of a block is counted: 12 D^2 + 13 D where hidden is 4 D.",
    lambda: [(2, 3), (16, 64), (33, 24), (64, 200), (7, 12)],
    tolerance=EXACT,
)
def count_block(wrong, D, hidden):
    """A function of the width D and the MLP's hidden width that counts the weights of an encoder block."""
    if wrong("hidden width ignored", "The MLP is counted with 4 D hidden units. Use the argument hidden."):
        hidden = 4 * D
    four = "4 D weights are missing: as many as two LayerNorms have, 2 D each, or as qkv and proj have biases."
    two = "2 D weights are missing. A LayerNorm has D scales and D shifts, and there are two; qkv has 3 D biases."
    qkv = "3 D weights are missing: the bias of qkv, one number for each of its 3 D outputs."
    one = "D weights are missing: as many as proj or fc2 has biases, one for each output."
    vectors = wrong.choose(
        9 * D + hidden,
        ("biases forgotten", "The biases of the linear layers are missing, one for each output.", 4 * D),
        ("matrices only", "Only matrices are counted: biases and both LayerNorms are missing.", 0),
        ("4 D missing", four, 5 * D + hidden),
        ("qkv bias forgotten", qkv, 6 * D + hidden),
        ("2 D missing", two, 7 * D + hidden),
        ("D missing", one, 8 * D + hidden),
        ("hidden bias forgotten", "The bias of fc1 is missing: one number for each hidden unit.", 9 * D),
    )
    single = "qkv makes three vectors of each token: 3 D outputs, not D."
    single = wrong.choose(0, ("one of q, k, v", single, D * D + D), ("one of q, k, v", single, D * D))
    proj = wrong("output projection forgotten", "Attention's output projection is missing, D to D.") * (D * D + D)
    made = "The layer that makes queries, keys and values is missing, D to 3 D."
    if wrong("qkv forgotten", made):
        return D * D + 2 * D * hidden + 6 * D + hidden
    if wrong("MLP forgotten", "The MLP is missing: fc1 and fc2, matrices and biases."):
        return 4 * D * D + 8 * D
    half = wrong("half an MLP", "One matrix of the MLP is missing: fc1 is D x hidden, fc2 hidden x D.") * D * hidden
    return 4 * D * D + 2 * D * hidden + vectors - proj - 2 * single - half


@written(
    "12 N D^2 for the linear layers, which grow with N, and 2 N^2 D for attention, which grows with its square.",
    lambda: [(2, 3), (17, 64), (65, 96), (197, 48), (1, 8)],
    tolerance=EXACT,
)
def count_macs(wrong, N, D):
    """A function of N and D that counts the multiply-adds of an encoder block whose MLP is 4 D wide."""
    if wrong("N and D swapped", "N and D have changed places."):
        N, D = D, N
    pairs = "Two products between tokens are missing: queries with keys, weights with values, N * N * D each."
    pair = "Attention multiplies twice: queries with keys, then weights with values, N * N * D each."
    half = "4 N D^2 are missing: as much as one matrix of the MLP costs, or qkv and proj together."
    products = wrong.choose(2, ("attention forgotten", pairs, 0), ("one attention product", pair, 1))
    matrices = wrong.choose(
        12,
        ("linear layers forgotten", "The linear layers are missing: each costs N times its matrix.", 0),
        ("MLP forgotten", "The MLP is missing: two matrices of D x 4 D, for N tokens.", 4),
        ("MLP of width D", "The MLP goes from D to 4 D and back; here it stays at D.", 6),
        ("4 N D^2 missing", half, 8),
        ("qkv forgotten", "The matrix that makes queries, keys and values is missing: N * D * 3 D.", 9),
        ("one of q, k, v", "qkv makes three vectors of each token: N * D * 3 D.", 10),
        ("output projection forgotten", "Attention's output projection is missing: N * D * D more.", 11),
    )
    if wrong("weights counted", "These are the block's weights; each of its matrices is used for N tokens."):
        return 12 * D * D + 13 * D
    once = wrong("one token", "The linear layers are counted for one token; N go through them.")
    count = matrices * (1 if once else N) * D * D + products * N * N * D
    return 2 * count if wrong("FLOPs", "A multiply-add is two FLOPs. Asked are multiply-adds, half of this.") else count


def vit_b_macs(patch_size):
    """Multiply-adds of ViT-B on 224 x 224 pixels."""
    D, T = 768, 1 + (224 // patch_size) ** 2
    return 3 * 224 * 224 * D + 12 * (12 * T * D * D + 2 * T * T * D) + 1000 * D


@stated(
    "784 patches in place of 196: a little over four times the cost, and the model has almost the same weights.",
    "Add up mac_parts for either patch size, and divide.",
    tolerance=0.012,
)
def smaller_patches(wrong):
    """How many times as many multiply-adds ViT-B needs on 224 x 224 pixels with patches of 8 in place of 16."""
    ratio = vit_b_macs(8) / vit_b_macs(16)
    linear = "Four times as many tokens make the linear layers cost four times as much. Attention grows with N * N."
    square = "Only attention's 2 N^2 D grows 16-fold. The linear layers, most of the cost, grow 4-fold."
    side = "Half the patch side doubles the rows and also the columns of the grid: four times as many tokens."
    return wrong.choose(
        ratio,
        ("attention's square forgotten", linear, 4.0),
        ("everything squared", square, 16.0),
        ("one side only", side, 2.0),
        ("upside down", "That is the cost with large patches over the cost with small ones. Turn it over.", 1 / ratio),
        ("increase only", "That is what is added. Asked is the whole new cost over the old.", ratio - 1),
        ("in per cent", "That is in per cent. Asked is how many times.", 100 * ratio),
        ("weights compared", "The weights hardly change. Compare multiply-adds, mac_parts.", 1.0),
    )


@stated(
    "256 patches in 16 rows of 16, each 14 pixels wide. What no shape tells is num_heads: qkv is (3 D, D) with any.",
    "Find the rows of patches, then their pixels.",
)
def image_side(wrong):
    """The side in pixels of the square images of a model with 257 positions, a class token and patches of 14 pixels."""
    rows = "That is the number of rows of patches. Each has pixels."
    root = "One of the 257 rows is the class token's, and has no place in the image. Take it away before the root."
    return wrong.choose(
        224.0,
        ("rows of patches", rows, 16.0),
        ("class token counted", root, 257**0.5 * 14),
        ("class token counted", root, 257.0 * 14),
        ("patches counted", "That is the number of patches. They stand in rows and columns.", 256.0),
        ("one row of patches", "The 256 patches do not stand in one row, but in a square.", 256.0 * 14),
        ("area", "That is the number of pixels in the image. Asked is the side of the square.", 224.0**2),
        ("pixels of a patch", "That is one patch. Asked is the whole image.", 14.0),
        ("pixels of a patch", "That is one patch. Asked is the whole image.", 14.0**2),
    )


def ends_of_models():
    for B, N, C in ((1, 4, 3), (4, 6, 10), (3, 2, 5), (5, 4, 5)):
        config = ViTConfig((8, 2 * N), 4, num_classes=C, embed_dim=16, depth=1, num_heads=2)  # 2 rows of N / 2 patches
        model = VisionTransformer(config).train(B == 5).requires_grad_(B == 1)
        for parameter in (*model.norm.parameters(), *model.head.parameters()):
            nn.init.normal_(parameter)
        yield model, 3 * torch.randn(B, 1 + N, 16) + 1


@written("Final norm, class token, head: the last three steps of every ViT of this kind.", ends_of_models)
def read_out(wrong, model, tokens):
    """A function of a model and the tokens after its last block that returns the logits."""
    plain = wrong("scale and shift missing", "The norm has a scale and a shift, which were trained: call model.norm.")
    affine = () if plain else (model.norm.weight, model.norm.bias)
    bare = wrong("final norm missing", "The final norm is missing. The head was trained on tokens of one scale.")
    norm = lambda x: x if bare else F.layer_norm(x, x.shape[-1:], *affine, eps=model.norm.eps)  # noqa: E731
    last = "This reads the last token, the patch in the lower right corner. The class token is row 0."
    mean = "This averages tokens. The head of this model was trained on the class token, row 0."
    means = [f(x) for x in (tokens, tokens[:, 1:]) for f in (lambda x: norm(x).mean(1), lambda x: norm(x.mean(1)))]
    x = norm(tokens)
    features = wrong.choose(
        x[:, 0],
        ("wrong token", last, x[:, -1]),
        ("wrong token", "This reads row 1, the first patch. The class token is row 0.", x[:, 1]),
        *(("mean of the tokens", mean, x) for x in means),
        ("all tokens", "Every token goes through the head. Choose the class token first.", x),
        ("tokens of one image", "These are the tokens of image 0. The class token of each image is [:, 0].", x[0]),
    )
    bias = None if wrong("head without its bias", "The head's bias is missing: call model.head.") else model.head.bias
    if wrong("no head", "These are the features: model.head makes logits of them."):
        return features
    logits = F.linear(features, model.head.weight, bias)
    return logits.softmax(-1) if wrong("probabilities", "These are probabilities. A model returns logits.") else logits


RULES = {  # torchvision's words: ours, and what else is written for them
    "conv_proj.": ("patch_embed.proj.", ("proj left out", "patch_embed.")),
    "class_token": ("cls_token",),
    "encoder.pos_embedding": ("pos_embed", ("prefix kept", "encoder.pos_embed"), ("ending kept", "pos_embedding")),
    "layers.encoder_layer_": ("blocks.", ("prefix kept", "layers.blocks.")),
    "encoder.blocks.": ("blocks.",),
    "encoder.ln.": ("norm.", ("prefix kept", "encoder.norm."), ("ln kept", "ln.")),
    "ln_": ("norm", ("underscore kept", "norm_"), ("ln kept", "ln")),
    "self_attention.": ("attn.", ("self kept", "self_attn.")),
    "in_proj_": ("qkv.", ("underscore kept", "qkv_"), ("in_proj kept", "in_proj.")),
    "out_proj.": ("proj.",),
    "mlp.0": ("mlp.fc1", ("mlp numbers", "mlp.fc0"), ("fc1 and fc2 swapped", "mlp.fc2")),
    "mlp.3": ("mlp.fc2", ("mlp numbers", "mlp.fc3"), ("fc1 and fc2 swapped", "mlp.fc1")),
    "heads.head": ("head", ("heads kept", "heads"), ("head twice", "head.head")),
}


def torchvision_names():
    """The names of all weights of torchvision's ViT-B, and those of the last block of ViT-L."""
    parts = ("ln_1.", "self_attention.in_proj_", "self_attention.out_proj.", "ln_2.", "mlp.0.", "mlp.3.")
    parts = [f"encoder.layers.encoder_layer_{block}.{part}" for block in (*range(12), 23) for part in parts]
    parts = ("conv_proj.", "encoder.ln.", "heads.head.", *parts)
    names = [part + kind for part in parts for kind in ("weight", "bias")]
    return [(name,) for name in ("class_token", "encoder.pos_embedding", *names)]


@written("Each weight of torchvision's model finds its place in ours; no matrix had to be changed.", torchvision_names)
def rename_weights(wrong, name):
    """A function that turns a torchvision ViT's state-dict name into ours."""
    if wrong("no name changed", "The names come back as they were."):
        return name
    digits = 2 if wrong("two digits", "A block's number may have two digits, as 10 and 11 have.") else 3
    long = re.search(rf"_\d{{{digits}}}\.", name)
    for old, (ours, *slips) in RULES.items():
        new = ours
        for number, (mistake, other) in enumerate(slips):  # both rules of the MLP at once
            new = other if wrong(mistake, f"'{old}' becomes '{ours}', not '{other}'.", (old[:-1], number)) else new
        missing = wrong("rule missing", f"No rule of yours turns '{old}' into '{ours}'.", old)
        name = name if missing or long and "layers" in old else name.replace(old, new)
    return name
