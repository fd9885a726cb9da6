"""Checks of notebook 00, Start here."""

import torch

from .reference import chosen, stated, written
from .verdict import Wrong, call

__all__ = ["token_count", "read_shape", "scale_pixels"]


@stated(
    "8 rows of 8 patches. With the class token the model works on 65 tokens.",
    "Expected the number of patches. How many fit along one side, 32 / 4, and how many such rows are there?",
)
def token_count(wrong):
    """How many patches a 32 x 32 image has at patch size 4."""
    return wrong.choose(
        64,
        ("one side only", "8 patches fit along one side; the image has 8 rows of them. Multiply.", 8),
        ("pixels, or a sum", "16 are the pixels of one patch, or 8 and 8 added up. Multiply rows by columns.", 16),
        ("one side divided", "You divided by 4 once; both sides are divided, so by 4 x 4.", 256),
        ("pixels of the image", "1024 is the number of pixels; a patch covers 16 of them.", 1024),
        ("channels counted", "A patch holds all three channels; they do not make three patches.", 192),
        ("class token counted", "65 counts the class token too; the question is about patches.", 65),
    )


def pixels():
    yield (torch.tensor([[[[204, 51]]], [[[102, 0]]]], dtype=torch.uint8),)
    for shape in ((2, 3, 4, 5), (3, 4, 5), (7, 9), (2, 2, 3, 4, 5)):
        images = torch.randint(1, 240, shape, dtype=torch.uint8)
        images.view(-1)[0] = 240  # none is white: the largest is not 255
        yield (images,)
    yield (torch.tensor([[[[0, 255], [128, 255]]]], dtype=torch.uint8),)


def floats(function, images):
    """What the function returns; `Wrong` where these are whole numbers."""
    found = call(function, images)
    if isinstance(found, torch.Tensor) and not found.is_floating_point():
        why = f"The result has the dtype {found.dtype}, and none of its numbers lies between 0 and 1. Expected floats:"
        raise Wrong(f"{why} divide with /, and leave what it gives as it is.", "not floats")
    return found


@written("Black is 0.0, white is 1.0, whatever the shape of the images.", pixels, use=floats, tolerance=0.0014)
def scale_pixels(wrong, images):
    """A function from uint8 images in 0..255 to floats in 0..1, of any precision: bfloat16 rounds by 0.002."""
    x = images.float()
    if wrong("whole division", "Nearly every pixel became 0: // rounds down. Divide with /."):
        return x // 255
    if wrong("stretched", "The darkest pixel became 0 and the brightest 1. Divide by 255, whatever is in the image."):
        return (x - x.min()) / (x.max() - x.min())
    scaled = x / wrong.choose(
        255,
        ("not scaled", "The numbers are floats now, but still reach 255; divide by 255.", 1),
        ("divided by 256", "White is 255, so dividing by 256 never reaches 1.", 256),
        ("divided by the largest", "The brightest pixel became 1, but only 255 is white. Divide by 255.", x.max()),
    )
    if wrong("inverted", "Black became 1 and white 0."):
        scaled = 1 - scaled
    return 2 * scaled - 1 if wrong("shifted", "This runs from -1 to 1; the task asks for 0 to 1.") else scaled


@chosen("b", "16 images, 65 tokens per image, 128 numbers per token.")
def read_shape():
    """What `(16, 65, 128)` says when it is read as `(B, N, D)`."""
    return {
        "a": ("batch and tokens swapped", "The batch comes first: the letters stand in the order of the sizes."),
        "c": ("tokens and width swapped", "N comes before D: first how many tokens, then how many numbers in each."),
        "d": ("batch taken for tokens", "A shape (B, N, D) begins with the batch: 16 images, not 16 tokens."),
    }
