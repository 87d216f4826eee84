"""Procedural scenes of two parts, one in each half of a plain background, that share one random property.

========================  ================================================  ============================
source                    parts                                             shared
========================  ================================================  ============================
pairs                     two discs, each anywhere in its half              the hue
pairs-near                two discs on either side of the vertical centre   the hue
                          line, a few pixels apart
pairs-pattern             two square tiles, each anywhere in its half       a pattern of 4x4 cells, each
                                                                            black or white
========================  ================================================  ============================

Everything else is independent and uniform. So only a model that relates one half to the other draws parts that agree,
and `rule` measures whether they do. There are no classes. The numbers below are for 32x32 images; positions scale with
the sides, and parts with the shorter side.

Image i is a function of the source, i and the resolution.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sagan.config import ConfigError
from sagan.data.dataset import Dataset
from sagan.data.rules import CELLS, RADIUS, Rule, SameHue, SamePattern, cell_size
from sagan.data.shapes import coverage
from sagan.runtime.draws import rng_for

SEED = 0
SPLITS = {"train": range(0, 8_000), "test": range(8_000, 10_000)}  # numbers of the images
DRAWS = 7 + CELLS**2  # per scene: hue, background, x and y of both parts, height of the pair, cells
SATURATION, VALUE = 0.9, 0.95
DARK, LIGHT = 0.05, 0.95  # cells of a tile

Size = tuple[int, int]  # height, width


class PairsDataset(Dataset):
    """The scenes of a split, drawn as they are needed."""

    def __init__(self, source: str, size: Size, channels: int, split: str = "train"):
        if split not in SPLITS:
            raise ConfigError(f"split {split!r}: {source} has {' and '.join(SPLITS)}")
        self.kind = PAIRS[source]
        if channels not in self.kind.channels:
            raise ConfigError(f"data.channels {channels}: data.source {source} is about colour, so expected 3")
        self.numbers = SPLITS[split]
        super().__init__(torch.zeros(len(self.numbers), dtype=torch.long), [], size, channels, f"{source} ({split})")
        self.rule = self.kind.rule

    def batch(self, indices: Tensor) -> Tensor:
        draws = np.array([variation(self.numbers[i]) for i in indices.tolist()]).reshape(-1, DRAWS)
        scenes = self.kind.draw(draws, self.size)  # (n, 3 or 1, H, W)
        images = np.rint(255 * scenes).astype(np.uint8)
        return torch.from_numpy(np.repeat(images, self.channels // images.shape[1], axis=1))


def variation(number: int) -> np.ndarray:
    """Return the draws of a scene: float64 (DRAWS,), uniform in [0, 1). The sources share them."""
    return torch.rand(DRAWS, generator=rng_for(SEED, "pairs", number)).double().numpy()


def far_places(draws: np.ndarray) -> np.ndarray:
    """Return the centres (x, y) of parts anywhere in their halves: (2, 2, n), as fractions of the image's sides."""
    _, _, x1, y1, x2, y2 = draws.T[:6]
    return np.array([[5 + 6 * x1, 6 + 20 * y1], [21 + 6 * x2, 6 + 20 * y2]]) / 32


def near_places(draws: np.ndarray, size: Size) -> np.ndarray:
    """Return the centres of discs beside the centre line, as `far_places` does: 1 to 3 pixels lie between the discs if
    they stand at one height."""
    height, width = size
    _, _, x1, y1, x2, y2, y = draws.T[:7]
    radius = RADIUS * min(size)
    # Distances in radii: from the centre line, and from the common height of the pair.
    left, right = -1.125 - 0.25 * x1, 1.125 + 0.25 * x2
    first, second = 0.5 * y1 - 0.25, 0.5 * y2 - 0.25
    common = (7 + 18 * y) / 32
    offsets = np.array([[left, first], [right, second]]) * radius / np.array([width, height])[:, None]
    return np.stack([np.full_like(y, 0.5), common]) + offsets


def draw_far(draws: np.ndarray, size: Size) -> np.ndarray:
    """Draw the scenes of `pairs` from draws (n, DRAWS): (n, 3, H, W) in [0, 1]."""
    return draw_discs(draws, far_places(draws), size)


def draw_near(draws: np.ndarray, size: Size) -> np.ndarray:
    """Draw the scenes of `pairs-near` from draws (n, DRAWS): (n, 3, H, W) in [0, 1]."""
    return draw_discs(draws, near_places(draws, size), size)


def draw_discs(draws: np.ndarray, places: np.ndarray, size: Size) -> np.ndarray:
    """Draw two discs of one hue around `places` (2, 2, n), with antialiased edges: (n, 3, H, W) in [0, 1]."""
    first, second = (disc_coverage(place, size) for place in places)
    cover = np.maximum(first, second)[:, None]
    color = hsv_to_rgb(draws[:, 0])[..., None, None]  # (n, 3, 1, 1)
    return backgrounds(draws) * (1 - cover) + color * cover


def disc_coverage(place: np.ndarray, size: Size) -> np.ndarray:
    """Return the share of each pixel that lies inside a disc around `place` (2, n): (n, H, W)."""
    radius = np.full((place.shape[1], 1, 1), 2 * RADIUS)  # in half shorter sides
    x, y = (2 * place - 1)[..., None, None]  # in half sides from the centre
    return coverage("disc", x, y, radius, size)


def draw_tiles(draws: np.ndarray, size: Size) -> np.ndarray:
    """Draw the scenes of `pairs-pattern`, tiles on whole pixels: (n, 1, H, W) in [0, 1]."""
    n, cell = len(draws), cell_size(size)
    bits = draws[:, 7:].reshape(n, CELLS, CELLS) >= 0.5
    scenes = np.broadcast_to(backgrounds(draws), (n, 1, *size)).copy()
    for x, y in far_places(draws):
        corners = [np.rint(centre * side - CELLS * cell / 2) for centre, side in ((y, size[0]), (x, size[1]))]
        rows, columns = (
            (np.arange(side) - corner[:, None]).astype(int) // cell for corner, side in zip(corners, size, strict=True)
        )  # (n, H) and (n, W): the cell of each, beyond 0..CELLS - 1 outside the tile
        inside = [(0 <= index) & (index < CELLS) for index in (rows, columns)]
        cells = bits[np.arange(n)[:, None, None], rows[:, :, None] % CELLS, columns[:, None, :] % CELLS]  # (n, H, W)
        where = inside[0][:, :, None] & inside[1][:, None, :]
        scenes[:, 0][where] = np.where(cells, LIGHT, DARK)[where]
    return scenes


def backgrounds(draws: np.ndarray) -> np.ndarray:
    """Return the grey of each scene's background, 0.4 to 0.6: (n, 1, 1, 1)."""
    return (0.4 + 0.2 * draws[:, 1])[:, None, None, None]


def hsv_to_rgb(hue: np.ndarray) -> np.ndarray:
    """Return the colours of hues in [0, 1), at one saturation and value: (n, 3)."""
    sixths = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    return VALUE - VALUE * SATURATION * np.clip(np.minimum(sixths, 4 - sixths), 0, 1)


class Kind(NamedTuple):
    """A source of scenes of two parts."""

    draw: Callable[[np.ndarray, Size], np.ndarray]  # draws (n, DRAWS), size -> (n, 3 or 1, H, W) in [0, 1]
    rule: Rule
    channels: tuple[int, ...]  # the values that data.channels may have


PAIRS = {
    "pairs": Kind(draw_far, SameHue(), (3,)),
    "pairs-near": Kind(draw_near, SameHue(), (3,)),
    "pairs-pattern": Kind(draw_tiles, SamePattern(), (1, 3)),
}
