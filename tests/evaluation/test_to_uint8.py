"""Float images to bytes."""

import torch

from sagan.runtime.pictures import to_uint8


def test_every_level_is_reached_and_comes_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)


def test_nearest_level_and_clamp():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 1.5])
    assert to_uint8(x).tolist() == [0, 0, 128, 255, 255]  # 127.5 rounds to even: 128
