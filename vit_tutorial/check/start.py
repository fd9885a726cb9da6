"""Checks of notebook 00, Start here."""

import torch

from .verdict import Wrong, call, exercise, expect_choice, expect_number, expect_tensor

__all__ = ["token_count", "read_shape", "scale_pixels"]


@exercise
def token_count(answer):
    """How many patches a 32 x 32 image has at patch size 4."""
    expect_number(
        answer,
        64,
        [
            ("one side only", 8, "8 patches fit along one side; the image has 8 rows of them. Multiply."),
            ("pixels of a patch", 16, "16 is the number of pixels in one patch of 4 x 4; count the patches."),
            ("pixels of the image", 1024, "1024 is the number of pixels; a patch covers 16 of them."),
            ("class token counted", 65, "65 counts the class token too; the question is about patches."),
        ],
        what="the number of patches",
    )
    return "8 rows of 8 patches: the model sees 64 tokens where you see a picture."


@exercise
def scale_pixels(answer):
    """A function from uint8 images in 0..255 to floats in 0..1."""
    for shape in [(2, 3, 4, 5), (1, 1, 1, 1)]:
        images = torch.randint(1, 255, shape, dtype=torch.uint8)
        expected = images.float() / 255
        mistakes = [
            ("not scaled", images.float(), "the numbers are floats now, but still reach 255; divide by 255."),
            ("whole division", torch.zeros(shape), "every pixel became 0: // rounds down. Divide with /."),
            ("divided by 256", images.float() / 256, "white is 255, so dividing by 256 never reaches 1."),
            ("shifted", expected * 2 - 1, "this runs from -1 to 1; the task asks for 0 to 1."),
        ]
        found = call(answer, images)
        if isinstance(found, torch.Tensor) and not found.is_floating_point():
            raise Wrong(
                f"Expected floats, found {found.dtype}: whole numbers cannot lie between 0 and 1.", "not floats"
            )
        expect_tensor(found, expected, mistakes, what="the scaled images")
    return "Black is 0.0, white is 1.0, whatever the size of the batch."


@exercise
def read_shape(answer):
    """What `(16, 65, 128)` says when it is read as `(B, N, D)`."""
    expect_choice(
        answer,
        "b",
        {
            "a": ("batch and tokens swapped", "The batch comes first: B = 16. N = 65 tokens come second."),
            "c": ("tokens and width swapped", "N comes before D: 65 tokens, 128 numbers in each."),
            "d": ("batch taken for tokens", "A shape (B, N, D) begins with the batch: 16 images, not 16 tokens."),
        },
    )
    return "16 images, 65 tokens an image, 128 numbers a token."
