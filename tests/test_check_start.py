"""Notebook 00's checks: right answers in several styles, and wrong ones by name."""

import numpy as np
import pytest
import torch

from vit_tutorial import check

RIGHT = [
    (check.token_count, 64),
    (check.token_count, (32 // 4) ** 2),
    (check.token_count, torch.tensor(64)),
    (check.scale_pixels, lambda x: x / 255),
    (check.scale_pixels, lambda x: x.float().div(255)),
    (check.scale_pixels, lambda x: torch.from_numpy(x.numpy().astype(np.float32) / 255)),
    (check.read_shape, "b"),
    (check.read_shape, "B"),
]
WRONG = [
    (check.token_count, 8, "one side only"),
    (check.token_count, 16, "pixels of a patch"),
    (check.token_count, 1024, "pixels of the image"),
    (check.token_count, 65, "class token counted"),
    (check.token_count, "64", "not a number"),
    (check.scale_pixels, lambda x: x.float(), "not scaled"),
    (check.scale_pixels, lambda x: x.float() // 255, "whole division"),
    (check.scale_pixels, lambda x: x / 256, "divided by 256"),
    (check.scale_pixels, lambda x: x / 127.5 - 1, "shifted"),
    (check.scale_pixels, lambda x: x // 255, "not floats"),
    (check.scale_pixels, lambda x: (x / 255).flatten(), "wrong shape"),
    (check.read_shape, "a", "batch and tokens swapped"),
    (check.read_shape, "c", "tokens and width swapped"),
    (check.read_shape, "d", "not a choice"),
]


@pytest.mark.parametrize("checker, answer", RIGHT)
def test_right_answers_pass(checker, answer):
    assert checker(answer).passed


@pytest.mark.parametrize("checker, answer, mistake", WRONG)
def test_wrong_answers_are_named(checker, answer, mistake):
    assert checker(answer).mistake == mistake
