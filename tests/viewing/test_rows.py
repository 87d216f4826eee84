"""Rows of attention matrices on the grid of their keys, and the region that is attended most."""

from itertools import combinations
from math import log

import pytest
import torch
import torch.nn.functional as F

from sagan.attention import AttentionMap
from sagan.viewing.rows import LEAST, SHARE, most_attended, query_row, row_entropy


def everywhere(weights):
    return torch.ones_like(weights, dtype=torch.bool)


def test_the_row_of_a_pixel_is_that_of_the_position_that_covers_it():
    """Nearest up-sampling of the numbers of the positions says which one covers a pixel."""
    queries, keys, size = (4, 6), (2, 3), (16, 24)
    weights = torch.arange(2 * 24 * 6.0).view(1, 2, 24, 6)
    m = AttentionMap("matrix", weights, queries, keys)
    cover = F.interpolate(torch.arange(24.0).view(1, 1, *queries), size, mode="nearest")[0, 0].long()
    for y, x in [(0, 0), (0, 23), (15, 0), (15, 23), (6, 17), (3, 4)]:
        row = query_row(m, 0, (y, x), size)
        assert torch.equal(row.weights, weights[0, :, cover[y, x]].view(2, *keys))
        assert row.reach.all()
    assert torch.equal(query_row(m, 0, (0, 0), size).mean(), weights[0, :, 0].mean(0).view(keys))


def test_one_row_for_all_positions():
    weights = torch.arange(12.0).view(2, 1, 1, 6)
    m = AttentionMap("matrix", weights, (1, 1), (2, 3))
    assert torch.equal(query_row(m, 1, (15, 3), (16, 24)).weights[0], torch.arange(6.0, 12).view(2, 3))


def test_the_row_of_a_window_lies_in_it():
    """Windows of a map of 4 x 12, each 2 x 6, cut by `unfold`; weight k of a row is the number of its key."""
    size, window = (4, 12), (2, 6)
    numbers = torch.arange(1.0, 49).view(size)
    windows = numbers.unfold(0, 2, 2).unfold(1, 6, 6).reshape(4, 12)  # (windows, positions)
    weights = windows[:, None, :] + 1000 * windows[:, :, None]  # (windows, queries, keys)
    m = AttentionMap("windowed matrix", weights[None], size, window)
    for y, x in [(0, 0), (1, 5), (0, 6), (3, 2), (2, 11)]:
        row = query_row(m, 0, (8 * y + 3, 8 * x + 7), (32, 96))
        expected = torch.zeros(size)
        inside = torch.zeros(size, dtype=torch.bool)
        inside[y // 2 * 2 : y // 2 * 2 + 2, x // 6 * 6 : x // 6 * 6 + 6] = True
        expected[inside] = numbers[inside] + 1000 * numbers[y, x]
        assert torch.equal(row.weights[0], expected) and torch.equal(row.reach, inside)


@pytest.mark.parametrize("share", [0.2, SHARE, 0.9, 1.0])
def test_the_region_is_the_fewest_keys_with_a_share_of_the_weight(share):
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        w = torch.softmax(2 * torch.randn(8, generator=random), 0)
        fewest = next((n for n in range(1, 9) if w.sort(descending=True).values[:n].sum() >= share - 1e-6), 8)
        best = max(combinations(range(8), fewest), key=lambda keys: w[list(keys)].sum())
        expected = [k in best and w.max().item() >= LEAST / 8 for k in range(8)]
        assert most_attended(w.view(2, 4), everywhere(w.view(2, 4)), share).flatten().tolist() == expected


def test_regions_of_known_rows():
    def region(*weights):
        w = torch.tensor([weights])
        return most_attended(w, everywhere(w)).flatten().tolist()

    assert region(0.1, 0.7, 0.1, 0.1) == [False, True, False, False]
    assert region(0.4, 0.4, 0.1, 0.1) == [True, True, False, False]
    assert region(0.25, 0.25, 0.25, 0.25) == [False] * 4  # uniform
    assert region(0.3, 0.3, 0.2, 0.2) == [False] * 4  # nearly so
    assert region(0.1, -0.7, 0.1, 0.1) == [False, True, False, False]  # signed
    assert region(0.0, 0.0, 0.0, 0.0) == [False] * 4
    third = torch.full((1, 6), 1e-4)
    third[0, :3] = 1 / 3  # equals are in it or out of it together
    assert most_attended(third, everywhere(third)).flatten().tolist() == [True] * 3 + [False] * 3


def test_a_region_stays_in_reach_and_is_measured_by_what_is_in_reach():
    w, reach = torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bool)
    reach[:, :2] = True
    w[reach] = 0.25
    assert not most_attended(w, reach).any()  # uniform over its window
    w[0, 0], w[0, 1], w[1, 0], w[1, 1] = 0.7, 0.1, 0.1, 0.1
    assert most_attended(w, reach).nonzero().tolist() == [[0, 0]]


def test_entropy_of_known_rows():
    uniform = torch.full((2, 3), 1 / 6)
    assert row_entropy(uniform, everywhere(uniform)) == pytest.approx(1)
    w, reach = torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bool)
    reach[:, :2] = True
    w[0, 0] = w[1, 1] = 0.5
    assert row_entropy(w, reach) == pytest.approx(log(2) / log(4))
    w[0, 0], w[1, 1] = 1, 0
    assert row_entropy(w, reach) == 0
