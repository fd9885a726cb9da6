"""Wrong answers to notebook 00's exercises, by name."""

RIGHT = []


def four_axes(images):
    B, C, Y, X = images.shape
    return (images / 255).reshape(B, C, Y, X)


def in_place(images):
    images //= 255
    return images


def divided_in_place(images):
    return images.div_(255)


def each_by_its_own(images):
    return images / images.flatten(1).max(dim=1).values.reshape(-1, *[1] * (images.ndim - 1))


def rounded(images):
    return (images / 255).round()


WRONG = [
    ("token_count", 16, "pixels, or a sum"),
    ("token_count", 65, "class token counted"),
    ("token_count", "sixty", "not a number"),
    ("scale_pixels", lambda x: x / 256, "divided by 256"),
    ("scale_pixels", lambda x: x.float() // 255, "whole division"),
    ("scale_pixels", lambda x: x // 255, "not floats"),
    ("scale_pixels", lambda x: (x / 255).to(x.dtype), "not floats"),
    ("scale_pixels", lambda x: (x / 255).int(), "not floats"),
    ("scale_pixels", lambda x: x.half(), "not scaled"),
    ("scale_pixels", lambda x: x / 127.5 - 1, "shifted"),
    ("scale_pixels", lambda x: x / 128 - 1, "divided by 256 + shifted"),
    ("scale_pixels", lambda x: 1 - x / x.max(), "divided by the largest + inverted"),
    ("scale_pixels", lambda x: (x / 255).flatten(), "wrong shape"),
    ("scale_pixels", lambda x: (x / 255).numpy(), "not a tensor"),
    ("scale_pixels", lambda x: x / 254, "factor"),
    ("scale_pixels", four_axes, "ValueError"),
    ("scale_pixels", in_place, "not floats"),
    ("scale_pixels", divided_in_place, "RuntimeError"),
    ("scale_pixels", rounded, "rounded"),
    ("scale_pixels", each_by_its_own, None),
    ("read_shape", "a", "batch and tokens swapped"),
    ("read_shape", "e", "not a choice"),
]
