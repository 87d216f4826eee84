"""What one query draws from: its row of an attention matrix, laid out on the grid of the keys."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.viewing.queries import Point

SHARE = 0.5  # of the weight that the most-attended region holds
LEAST = 1.5  # times the mean weight: what a key of that region has at least


@dataclass(frozen=True)
class Row:
    """The weights of one query on the grid of keys, which covers the whole image."""

    weights: Tensor
    """(heads, h, w), 0 where the query cannot look."""
    reach: Tensor
    """bool (h, w): the keys it draws from, all of them or those of its window."""

    def mean(self) -> Tensor:
        """The mean over heads, (h, w)."""
        return self.weights.mean(0)


def query_row(m: AttentionMap, image: int, query: Point, size: tuple[int, int]) -> Row:
    """The row of a `matrix` or `windowed matrix` for one image of the batch and a pixel of images of `size` (H, W)."""
    y, x = (p * cells // pixels for p, cells, pixels in zip(query, m.query_size, size, strict=True))
    height, width = m.key_size
    if not m.form.windowed:
        weights = m.weights[image, :, y * m.query_size[1] + x].unflatten(-1, m.key_size)  # (heads, h, w)
        return Row(weights, torch.ones(m.key_size, dtype=torch.bool))
    row, column = y // height, x // width
    window = row * (m.query_size[1] // width) + column
    inside = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
    weights, reach = torch.zeros(1, *m.query_size), torch.zeros(m.query_size, dtype=torch.bool)
    weights[inside] = m.weights[image, window, y % height * width + x % width].view(height, width)
    reach[inside] = True
    return Row(weights, reach)


def most_attended(weights: Tensor, reach: Tensor) -> Tensor:
    """bool (h, w): the fewest keys, largest first, that hold half of the weight, without those of less than 1.5 times
    the mean weight: a row that is nearly uniform has no such region.

    Equal weights are in it or out of it together. Of signed weights the absolute values count.
    """
    size = weights.abs().double() * reach
    ranked = size.flatten().sort(descending=True).values
    total = ranked.sum()
    enough = int((ranked.cumsum(0) < SHARE * total * (1 - 1e-6)).sum())  # the place at which the share is reached
    return (size >= ranked[enough]) & (size > LEAST * total / reach.sum())


def row_entropy(weights: Tensor, reach: Tensor) -> float:
    """Entropy of a row that is a distribution, as a fraction of ln(keys): 1 is uniform, 0 is one key."""
    w = weights[reach]
    return -torch.special.xlogy(w, w).sum().item() / math.log(max(len(w), 2))
