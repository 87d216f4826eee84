"""Rules: what every scene of a procedural source satisfies, and how to read it from an image.

A rule compares the part in the left half of an image with the part in the right half. It describes each part by a few
numbers and defines the gap between two descriptions, 0 for parts that agree. `sagan.evaluation.agreement` turns the
gaps into a score.
"""

from typing import Protocol

import torch
from torch import Tensor

RADIUS = 4 / 32  # of a disc, as a fraction of the shorter side
CELLS = 4  # along each side of a tile


class Rule(Protocol):
    """A property that the two parts of a scene share."""

    name: str
    """The rule and its version; part of the protocol of a score. Raise the version when `read` or `gap` changes."""
    unit: str
    """Unit of the gap, in the plural."""
    columns: int
    """Numbers that describe a part."""
    least_chance: float
    """If the gap between parts of different images is below this, the images are too alike to be scored."""

    def read(self, images: Tensor) -> Tensor:
        """Describe both parts of uint8 images (n, C, H, W): float32 (n, 2, columns), left part first.

        A missing part is NaN in every column.
        """
        ...

    def gap(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the gap between parts (..., columns), which broadcast: (...)."""
        ...


class SameHue:
    """Both parts have one hue. The gap is the angle between two hues on the colour circle, 0 to 180 degrees.

    The hue of a half is that of its mean colour, weighted by how much pixels differ from the image's median colour. A
    part is present if the weights add up to at least a quarter of a disc and the mean colour is not grey.
    """

    name = "same hue, version 1"
    unit = "degrees"
    columns = 1
    least_chance = 30.0  # a uniform hue gives 90
    SHARE = 0.25  # of a disc's area
    CHROMA = 0.1  # of 1 for a pure colour

    def read(self, images: Tensor) -> Tensor:
        colors = images.double() / 255  # (n, 3, H, W)
        weights = foreground(colors)  # (n, H, W)
        height, width = weights.shape[1:]
        halves = [(c.flatten(2), w.flatten(1)) for c, w in zip(colors.chunk(2, 3), weights.chunk(2, 2), strict=True)]
        mean = torch.stack([(c * w[:, None]).sum(2) / w.sum(1, keepdim=True) for c, w in halves], 1)  # (n, 2, 3)
        weight = torch.stack([w.sum(1) for _, w in halves], 1)  # (n, 2), in pixels
        red, green, blue = mean.unbind(2)
        x, y = red - (green + blue) / 2, (green - blue) * 3**0.5 / 2  # the plane of the colour circle
        hue = torch.rad2deg(torch.atan2(y, x))
        disc = torch.pi * (RADIUS * min(height, width)) ** 2
        missing = (weight < self.SHARE * disc) | ~(torch.hypot(x, y) >= self.CHROMA)  # no weight makes x and y NaN
        return hue.masked_fill(missing, torch.nan).float()[..., None]

    def gap(self, left: Tensor, right: Tensor) -> Tensor:
        turn = (left - right).squeeze(-1).abs()  # hues are in [-180, 180]
        return torch.minimum(turn, 360 - turn)


class SamePattern:
    """Both parts are tiles with one pattern of dark and light cells. The gap is the share of cells that differ, 0 to 1.

    The tile of a half is the square window with the most pixels that differ from the image's median colour. It is
    present if such pixels fill at least half of the window. A cell is light if its mean is above the median.
    """

    name = "same pattern, version 1"
    unit = "of 1"
    columns = CELLS**2
    least_chance = 1 / 6  # independent cells give 1/2, so the proportion is the same as for hues
    SHARE = 0.5  # of a tile's area

    def read(self, images: Tensor) -> Tensor:
        colors = images.double() / 255  # (n, C, H, W)
        grey = colors.mean(1) - colors.mean(1).flatten(1).median(1).values[:, None, None]  # (n, H, W), background 0
        weights = foreground(colors)
        cell = cell_size(images.shape[2:])
        halves = zip(grey.chunk(2, 2), weights.chunk(2, 2), strict=True)
        return torch.stack([self._tile(half, weight, cell) for half, weight in halves], 1)

    def _tile(self, grey: Tensor, weights: Tensor, cell: int) -> Tensor:
        """Read the tile in a half (n, H, W/2): (n, columns), 1 for light cells and 0 for dark ones, or NaN."""
        side, each = CELLS * cell, torch.arange(len(grey), device=grey.device)
        weight = weights.unfold(1, side, 1).unfold(2, side, 1).sum((3, 4))  # (n, rows, columns)
        most, place = weight.flatten(1).max(1)
        windows = grey.unfold(1, side, 1).unfold(2, side, 1)
        tile = windows[each, place // weight.shape[2], place % weight.shape[2]]  # (n, side, side)
        cells = tile.unflatten(2, (CELLS, cell)).unflatten(1, (CELLS, cell)).mean((2, 4)).flatten(1)
        return (cells > 0).float().masked_fill((most < self.SHARE * side**2)[:, None], torch.nan)

    def gap(self, left: Tensor, right: Tensor) -> Tensor:
        return (left - right).abs().mean(-1)


def foreground(colors: Tensor) -> Tensor:
    """Return how clearly each pixel differs from the median colour of its image, 0 to 1: (n, C, H, W) -> (n, H, W).

    Distances up to 0.15 of a channel's range, the background noise of a small generator, count as 0; from 0.3 on they
    count as 1.
    """
    median = colors.flatten(2).median(2).values[..., None, None]
    distance = (colors - median).square().sum(1).sqrt() * (3 / colors.shape[1]) ** 0.5  # as if grey were RGB
    return ((distance - 0.15) / 0.15).clamp(0, 1)


def cell_size(size: tuple[int, int] | torch.Size) -> int:
    """Return the side of a tile's cell in pixels, for images of a height and width: 2 at 32x32."""
    return max(1, round(min(size) / 16))
