"""The row of an attention matrix for one query, laid out on the grid of keys."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.viewing.queries import Point

SHARE = 0.5  # of the weight, held by the most-attended region
LEAST = 1.5  # times the mean weight: least maximum of a row that has such a region


@dataclass(frozen=True)
class Row:
    """The weights of one query on the grid of keys, which covers the whole image."""

    weights: Tensor
    """(heads, h, w), 0 for keys that the query cannot see."""
    reach: Tensor
    """bool (h, w): the keys that the query can see, which are all or those of its window."""

    def mean(self) -> Tensor:
        """Return the mean over heads, (h, w)."""
        return self.weights.mean(0)


def query_row(m: AttentionMap, image: int, query: Point, size: Sequence[int]) -> Row:
    """Return the row of a matrix or windowed matrix for one image of the batch and one pixel; `size` is (H, W)."""
    y, x = (p * cells // pixels for p, cells, pixels in zip(query, m.query_size, size, strict=True))
    key_size = m.key_size or m.query_size
    height, width = key_size
    if not m.form.windowed:
        weights = m.weights[image, :, y * m.query_size[1] + x].unflatten(-1, tuple(key_size))  # (heads, h, w)
        return Row(weights, torch.ones(height, width, dtype=torch.bool))
    row, column = y // height, x // width
    window = row * (m.query_size[1] // width) + column
    inside = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
    weights, reach = torch.zeros(1, *m.query_size), torch.zeros(m.query_size, dtype=torch.bool)
    weights[inside] = m.weights[image, window, y % height * width + x % width].view(height, width)
    reach[inside] = True
    return Row(weights, reach)


def most_attended(weights: Tensor, reach: Tensor, share: float = SHARE) -> Tensor:
    """Return the fewest keys that hold a share of the weight, as bool (h, w).

    A nearly uniform row, whose largest weight is below 1.5 times the mean, has no such region. Equal weights are either
    all in or all out. For signed weights, absolute values count. `plugin/static/maps.js` has the same rule.
    """
    size = weights.abs().double() * reach
    ranked = size.flatten().sort(descending=True).values
    total = ranked.sum()
    if not ranked[0] >= LEAST * total / reach.sum() or total == 0:
        return torch.zeros_like(reach)
    enough = int((ranked.cumsum(0) < share * total * (1 - 1e-6)).sum())  # the rank at which the share is reached
    return (size >= ranked[enough]) & (size > 0)


def row_entropy(weights: Tensor, reach: Tensor) -> float:
    """Return the entropy of a distribution as a fraction of ln(keys): 1 is uniform, 0 is a single key."""
    w = weights[reach]
    return -torch.special.xlogy(w, w).sum().item() / math.log(max(len(w), 2))
