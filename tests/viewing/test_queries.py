"""Automatic query points."""

import pytest
import torch

from sagan.viewing.queries import automatic_queries


def random_image(channels, height, width, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (96, 64), (200, 130), (8, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_points_are_distinct_inside_and_in_order(size, channels):
    image = random_image(channels, *size)
    points = automatic_queries(image, 5)
    assert len(set(points)) == len(points) == 5 and points == sorted(points)
    assert all(0 <= y < size[0] and 0 <= x < size[1] for y, x in points)
    assert automatic_queries(image, 5) == points


def test_every_part_of_a_picture_has_its_point():
    """Four squares of one colour each, of which two are alike: a point in each, away from the edges."""
    image = torch.zeros(3, 24, 48, dtype=torch.uint8)
    image[0, :12, :24], image[1, :12, 24:], image[2, 12:, :24], image[0, 12:, 24:] = 255, 255, 255, 255
    points = automatic_queries(image, 4)
    assert {(y // 12, x // 24) for y, x in points} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert all(2 <= y % 12 < 10 and 4 <= x % 24 < 20 for y, x in points)


def test_a_small_thing_of_another_colour_has_a_point():
    image = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    image[:, 20:26, 3:9] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    assert any(20 <= y < 26 and 3 <= x < 9 for y, x in automatic_queries(image, 5))


def test_points_of_a_mirrored_image_are_mirrored():
    """y and x are treated alike, and neither is taken for the other."""
    image = torch.zeros(3, 16, 32, dtype=torch.uint8)
    image[0, 2:7, 20:27], image[1, 10:15, 3:12] = 255, 255
    points = automatic_queries(image, 3)
    flipped = automatic_queries(image.transpose(1, 2).contiguous(), 3)
    in_red = [(y, x) for y, x in points if image[0, y, x]]
    in_green = [(y, x) for y, x in points if image[1, y, x]]
    assert len(in_red) == len(in_green) == 1
    assert {(x, y) for y, x in flipped} >= {*in_red, *in_green}


def test_an_image_without_parts_is_covered_evenly():
    points = torch.tensor(automatic_queries(torch.full((1, 32, 32), 7, dtype=torch.uint8), 4)).double()
    assert torch.pdist(points).min() > 8
    assert len(automatic_queries(torch.zeros(3, 1, 2, dtype=torch.uint8), 5)) == 2
