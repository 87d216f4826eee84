"""Procedural scenes: two equal coloured shapes far apart on a plain background, in ten classes.

A class is a colour and a shape. What varies within a class (size, shade, hue, offset, and the grey of the background)
is drawn once per image and shared by both parts: the second part is the first, mirrored through the centre. So pixels
half an image apart depend on each other. All classes share one layout. With a layout per class, a small generator would
learn colours long before positions, and draw any colour anywhere.

Image i is a function of i and the resolution. Edges are antialiased by exact distances.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sagan.config import ConfigError
from sagan.data.dataset import Dataset
from sagan.runtime.draws import rng_for

SEED = 0
SPLITS = {"train": range(0, 10_000), "test": range(10_000, 12_000)}  # numbers of the images
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


class SceneClass(NamedTuple):
    """A class of scenes: the colour and the shape of their parts."""

    name: str
    rgb: tuple[float, float, float]  # 0 to 1
    shape: str  # a key of DISTANCES


PLACE = -0.5  # x of the first part's centre from the image's, in half-widths; the second part mirrors it
CLASSES = (
    SceneClass("red discs", (0.92, 0.10, 0.10), "disc"),
    SceneClass("green squares", (0.10, 0.72, 0.15), "square"),
    SceneClass("blue triangles", (0.10, 0.25, 0.95), "triangle"),
    SceneClass("yellow rings", (0.98, 0.90, 0.10), "ring"),
    SceneClass("purple crosses", (0.58, 0.12, 0.80), "cross"),
    SceneClass("orange bars", (1.00, 0.52, 0.05), "bar"),
    SceneClass("cyan diamonds", (0.10, 0.88, 0.92), "diamond"),
    SceneClass("pink columns", (1.00, 0.45, 0.72), "column"),
    SceneClass("white discs", (0.98, 0.98, 0.98), "disc"),
    SceneClass("black frames", (0.03, 0.03, 0.03), "frame"),
)


def box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return the signed distance (along the larger axis) to a box with these half-sizes."""
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a triangle that stands on its base, with its tip at (0, -1)."""
    return np.maximum(y - 0.85, (2 * np.abs(x) - y - 1) / math.sqrt(5))


# Signed distance to each shape, negative inside. Shapes have a radius near 1 around the origin; y points down.
DISTANCES = {
    "disc": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: box(x, y, 0.9, 0.9),
    "triangle": triangle,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.72) - 0.28,
    "cross": lambda x, y: np.minimum(box(x, y, 1, 0.33), box(x, y, 0.33, 1)),
    "bar": lambda x, y: box(x, y, 1.05, 0.38),
    "diamond": lambda x, y: (np.abs(x) + np.abs(y) - 1.15) / math.sqrt(2),
    "column": lambda x, y: box(x, y, 0.42, 1.9),
    "frame": lambda x, y: np.abs(box(x, y, 0.68, 0.68)) - 0.26,
}


class ShapesDataset(Dataset):
    """The scenes of a split, drawn as needed; image i of a split has class i mod 10."""

    def __init__(self, size: tuple[int, int], channels: int, split: str = "train"):
        if split not in SPLITS:
            raise ConfigError(f"split {split!r}: shapes has {' and '.join(SPLITS)}")
        self.numbers = SPLITS[split]
        labels = torch.arange(self.numbers.start, self.numbers.stop) % len(CLASSES)
        super().__init__(labels, [c.name for c in CLASSES], size, channels, f"shapes ({split})")

    def batch(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(draw_scenes([self.numbers[i] for i in indices.tolist()], self.size, self.channels))


def draw_scenes(numbers: list[int], size: tuple[int, int], channels: int) -> np.ndarray:
    """Draw the scenes with these numbers: uint8 (n, channels, H, W)."""
    images = np.empty((len(numbers), channels, *size), np.uint8)
    labels = np.array(numbers, dtype=np.int64) % len(CLASSES)
    draws = np.array([variation(n) for n in numbers], np.float32).reshape(len(numbers), 6)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        images[members] = draw_class(CLASSES[label], draws[members], size, channels)
    return images


def variation(number: int) -> list[float]:
    """Return the six draws of a scene: radius, offset x and y, shade, hue, background; uniform in [-1, 1]."""
    return (2 * torch.rand(6, generator=rng_for(SEED, "shapes", number)) - 1).tolist()


def draw_class(kind: SceneClass, draws: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    """Draw scenes of one class from their draws (n, 6): uint8 (n, channels, H, W)."""
    radius, dx, dy, shade, hue, grey = draws.T[:, :, None, None]  # each (n, 1, 1)
    radius, x, y = 0.40 + 0.05 * radius, PLACE + 0.04 * dx, 0.10 * dy
    cover = np.maximum(coverage(kind.shape, x, y, radius, size), coverage(kind.shape, -x, -y, radius, size))
    color = np.array(kind.rgb, np.float32)[:, None, None, None] * (0.92 + 0.08 * shade)  # (3, n, 1, 1)
    color[1] = np.clip(color[1] + 0.05 * hue, 0, 1)
    scene = (0.45 + 0.10 * grey) * (1 - cover) + color * cover  # (3, n, H, W)
    if channels == 1:
        scene = np.tensordot(LUMA, scene, axes=1)[None]
    return np.rint(scene * 255).astype(np.uint8).transpose(1, 0, 2, 3)


def coverage(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the share of each pixel inside a shape at (x, y), in half-widths and half-heights from the centre.

    `radius` is a multiple of half the shorter side; all three are (n, 1, 1). The result is float32 (n, H, W) in [0, 1].
    """
    height, width = size
    scale = radius * (min(size) / 2)  # in pixels
    columns = np.arange(width, dtype=np.float32)[None, None, :] + 0.5 - width / 2 * (1 + x)
    rows = np.arange(height, dtype=np.float32)[None, :, None] + 0.5 - height / 2 * (1 + y)
    distance = DISTANCES[shape](columns / scale, rows / scale) * scale
    return np.clip(0.5 - distance, 0, 1)
