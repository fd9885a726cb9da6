"""Checks of notebook 05, Vision Transformer."""

import torch
from torch import nn

from ..layers import EncoderBlock
from ..model import VisionTransformer, ViTConfig
from .verdict import Wrong, call, describe, exercise, expect_choice, expect_number, expect_tensor

__all__ = [
    "embed_tokens",
    "where_weights_live",
    "count_block",
    "count_macs",
    "smaller_patches",
    "read_out",
    "rename_weights",
]
EXACT = 1e-9  # relative tolerance where counts must agree to the last weight


@exercise
def where_weights_live(answer):
    """The letter of the part that holds most of ViT-B/16's weights: the MLPs."""
    why = {
        "a": (
            "patch embedding",
            "One patch times one matrix is only 768 x 768 weights, 0.7 % of the model. Every patch uses the same ones.",
        ),
        "b": (
            "attention holds most",
            "Attention has 4 matrices of D x D a block: q, k, v and the output. The other part of the block has more.",
        ),
        "d": (
            "positions and head",
            "Positions (197 x 768) and head (768 x 1000) are used once. The blocks repeat 12 times.",
        ),
    }
    expect_choice(answer, "c", why)
    return "An MLP has two matrices of D x 4D, attention four of D x D: 8 D^2 against 4 D^2, two thirds for the MLPs."


@exercise
def embed_tokens(answer):
    """A function of patch tokens `(B, N, D)`, class token and positions that returns `(B, 1 + N, D)`."""
    for B, N, D in ((1, 4, 8), (3, 6, 4), (2, 15, 12)):
        x, cls_token, pos = torch.randn(B, N, D), torch.randn(1, 1, D), torch.randn(1, 1 + N, D)
        cls = cls_token.expand(B, 1, D)
        try:
            found = call(answer, x, cls_token, pos)
        except RuntimeError as error:
            if B > 1 and "match except in dimension" in str(error):
                raise Wrong(
                    f"One image works, a batch of {B} does not: there is one class token for {B} images. "
                    "Repeat it with cls_token.expand(len(x), -1, -1).",
                    "class token not repeated",
                ) from None
            raise
        mistakes = (
            (
                "class token last",
                torch.cat([x, cls], dim=1) + pos,
                "the class token stands last. Its place is row 0: there the head reads, and row 0 of pos_embed is its.",
            ),
            (
                "positions before the class token",
                torch.cat([cls, x + pos[:, 1:]], dim=1),
                "the positions were added before the class token came, so the class token has none. "
                "Add all 1 + N rows after torch.cat.",
            ),
            (
                "positions shifted",
                torch.cat([cls, x + pos[:, :-1]], dim=1),
                "patch i got position i, but row 0 of pos_embed belongs to the class token: patch i has row i + 1.",
            ),
            ("no positions", torch.cat([cls, x], dim=1), "the positions are missing: no token knows where it is."),
            ("no class token", x + pos[:, 1:], "the class token is missing: expected 1 + N tokens, found N."),
        )
        expect_tensor(found, torch.cat([cls, x], dim=1) + pos, mistakes, what="the embedded tokens")
    return "Class token first, then the patches, then one position for each of the 1 + N rows."


@exercise
def count_block(answer):
    """A function of the width D and the MLP's hidden width that counts the weights of an encoder block."""
    for D, hidden in ((16, 64), (24, 48), (40, 200)):
        block = EncoderBlock(D, num_heads=4, mlp_ratio=hidden / D)
        right = sum(parameter.numel() for parameter in block.parameters())
        biases = 3 * D + D + hidden + D
        mistakes = (
            (
                "qkv bias forgotten",
                right - 3 * D,
                f"{3 * D} weights are missing at D = {D}: the bias of qkv, one number for each of its 3 D outputs.",
            ),
            (
                "biases forgotten",
                right - biases,
                "the biases of the four linear layers are missing: one number for each output.",
            ),
            ("norms forgotten", right - 4 * D, "the two LayerNorms are missing: each has D scales and D shifts."),
            (
                "norm shifts forgotten",
                right - 2 * D,
                "a LayerNorm has D shifts beside its D scales; there are two norms.",
            ),
            (
                "matrices only",
                right - biases - 4 * D,
                "only matrices are counted: biases and both LayerNorms are missing.",
            ),
            (
                "output projection forgotten",
                right - D * D - D,
                "attention's output projection is missing: once the heads are joined, a D x D matrix and its bias.",
            ),
            (
                "hidden width ignored",
                4 * D * D + 8 * D * D + 4 * D + 4 * D + D + 4 * D,
                "the MLP was counted with 4 D hidden units. Use the argument hidden.",
            ),
        )
        expect_number(call(answer, D, hidden), right, mistakes, EXACT, f"the weights of a block with D = {D}")
    return "Every matrix, bias, scale and shift of a block is counted: 12 D^2 + 13 D where hidden is 4 D."


@exercise
def count_macs(answer):
    """A function of N and D that counts the multiply-adds of an encoder block whose MLP is 4 D wide."""
    for N, D in ((17, 64), (65, 96), (197, 48)):
        linear, attention = 12 * N * D * D, 2 * N * N * D
        right = linear + attention
        mistakes = (
            (
                "attention forgotten",
                linear,
                "this counts the linear layers alone. Queries times keys and weights times values cost N * N * D each.",
            ),
            (
                "one attention product",
                linear + N * N * D,
                "attention multiplies twice: queries with keys, then weights with values. N * N * D each.",
            ),
            ("linear layers forgotten", attention, "the linear layers are missing: each costs N times its matrix."),
            ("FLOPs", 2 * right, "that is the count of FLOPs, two for each multiply-add. Multiply-adds are asked for."),
            (
                "one token",
                12 * D * D + attention,
                "the linear layers were counted for one token. Each of the N tokens goes through them.",
            ),
            (
                "output projection forgotten",
                right - N * D * D,
                "attention's output projection is missing: N * D * D more.",
            ),
            ("half an MLP", right - 4 * N * D * D, "the MLP has two matrices of D x 4 D: 8 * N * D * D in all."),
        )
        expect_number(call(answer, N, D), right, mistakes, EXACT, f"the multiply-adds of a block with N = {N}, D = {D}")
    return "12 N D^2 for the linear layers, which grow with N, and 2 N^2 D for attention, which grows with its square."


@exercise
def smaller_patches(answer):
    """How many times as many multiply-adds ViT-B needs on 224 x 224 pixels with patches of 8 in place of 16."""
    mistakes = (
        (
            "attention's square forgotten",
            4.0,
            "four times as many tokens make the linear layers cost four times as much. Attention grows with N * N.",
        ),
        (
            "everything squared",
            16.0,
            "only attention's 2 N^2 D grows 16-fold. The linear layers, most of the cost, grow 4-fold.",
        ),
        (
            "one side only",
            2.0,
            "half the patch side doubles the rows and also the columns of the grid: four times as many tokens.",
        ),
        ("upside down", 0.2248, "that is the cost with large patches over the cost with small ones. Turn it over."),
    )
    expect_number(answer, 4.449, mistakes, 0.01, "the ratio of the multiply-adds")
    return "784 patches in place of 196: a little over four times the cost, and the model has almost the same weights."


@exercise
def read_out(answer):
    """A function of a model and the tokens after its last block that returns the logits."""
    for B, N, C in ((1, 4, 3), (4, 6, 10)):
        image_size = (8, 2 * N)  # patches of 4: 2 rows of N / 2
        model = VisionTransformer(ViTConfig(image_size, 4, num_classes=C, embed_dim=16, depth=1, num_heads=2)).eval()
        nn.init.normal_(model.norm.weight, mean=1.0, std=0.5)
        nn.init.normal_(model.norm.bias)
        nn.init.normal_(model.head.weight)
        tokens = 3 * torch.randn(B, 1 + N, 16) + 1
        with torch.no_grad():
            normed = model.norm(tokens)
            right = model.head(normed[:, 0])
            found = call(answer, model, tokens)
            mistakes = (
                (
                    "final norm missing",
                    model.head(tokens[:, 0]),
                    "the right token, but without the final norm. The head was trained on tokens of one scale.",
                ),
                (
                    "wrong token",
                    model.head(normed[:, -1]),
                    "this reads the last token, the patch in the lower right corner. The class token is row 0.",
                ),
                (
                    "wrong token and no norm",
                    model.head(tokens[:, -1]),
                    "two bugs are left: the last token is read, which is a patch, and the final norm is missing.",
                ),
                (
                    "mean with the class token",
                    model.head(normed.mean(dim=1)),
                    "this averages all tokens. The head of this model was trained on the class token, row 0.",
                ),
                (
                    "all tokens",
                    model.head(normed),
                    "every token went through the head: shape (B, 1 + N, classes). Choose the class token first.",
                ),
                ("probabilities", right.softmax(dim=-1), "these are probabilities. A model returns logits."),
            )
        expect_tensor(found, right, mistakes, what="the logits")
    return "Final norm, class token, head: the last three steps of every ViT of this kind."


OUTER_NAMES = {
    "conv_proj.weight": "patch_embed.proj.weight",
    "conv_proj.bias": "patch_embed.proj.bias",
    "class_token": "cls_token",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln.weight": "norm.weight",
    "encoder.ln.bias": "norm.bias",
    "heads.head.weight": "head.weight",
    "heads.head.bias": "head.bias",
}
BLOCK_NAMES = {
    "ln_1.weight": "norm1.weight",
    "ln_2.bias": "norm2.bias",
    "self_attention.in_proj_weight": "attn.qkv.weight",
    "self_attention.in_proj_bias": "attn.qkv.bias",
    "self_attention.out_proj.weight": "attn.proj.weight",
    "mlp.0.weight": "mlp.fc1.weight",
    "mlp.3.bias": "mlp.fc2.bias",
}


@exercise
def rename_weights(answer):
    """A function that turns a torchvision ViT's state-dict name into ours."""
    names = dict(OUTER_NAMES)
    for i in (0, 3, 11):
        names |= {f"encoder.layers.encoder_layer_{i}.{old}": f"blocks.{i}.{new}" for old, new in BLOCK_NAMES.items()}
    for old, new in names.items():
        found = call(answer, old)
        if found == new:
            continue
        message, mistake = f"{old} should become {new}, found {describe(found)}.", None
        if found == old:
            message, mistake = f"{message} No rule of yours applies to it.", "name not changed"
        elif "in_proj" in old and found == new.replace("qkv.", "qkv_"):
            message, mistake = f"{message} torchvision joins with an underscore here, we with a dot.", "underscore kept"
        elif "encoder_layer_11" in old and call(answer, old.replace("_11.", "_3.")) == new.replace("s.11.", "s.3."):
            message, mistake = f"{message} A block's number may have two digits.", "two digits"
        elif isinstance(found, str) and found.startswith(("encoder", "layers")):
            message, mistake = f"{message} The front of the name is still torchvision's.", "prefix kept"
        elif isinstance(found, str) and ".mlp." in old and ".fc" not in found:
            message, mistake = f"{message} In torchvision the MLP's layers 0 and 3 are the linear ones.", "mlp numbers"
        raise Wrong(message, mistake)
    return "Every weight of torchvision's model finds its place in ours, and no matrix had to be changed."
