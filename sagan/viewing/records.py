"""Encoding of a LayerView as a record in TensorBoard's log: one list of blobs per layer and step.

    [header, png 0, map 0 of image 0, map 1 of image 0, ..., png 1, map 0 of image 1, ...,
     png 0 without the layer, png 1 without the layer, ...]

The header is JSON. A map is zlib of: the lowest weight of each row (float32, at most 0), the highest (float32, at least
0), and each weight as one of 256 levels between the two (uint8); a level is off by at most (highest - lowest) / 510.
Every kind of map has the same form: in each of `groups` (heads, windows, channels) there is a row for each position of
the grid `queries`, and a row has a weight for each position of the grid `keys`. `plugin/record.py` reads this without
torch.
"""

import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.runtime.pictures import to_pil
from sagan.viewing.capture import LayerView

# Weights per image of a record: 32x32 queries and 16x16 keys. Four images are a megabyte, and half of that compressed.
MOST_WEIGHTS = 2**18
LARGEST_PICTURE = 64  # height and width; larger ones are halved, because four of 128x128 could take 200 kB


def record_tag(view: LayerView) -> str:
    """Return the tag of a layer's records.

    TensorBoard would lose one of two kinds of data under the same tag, so nothing else uses this prefix.
    """
    return f"attention-maps/{view.network}/{view.layer}/{view.source}"


def encode(view: LayerView, kind: str, *, most_weights: int = MOST_WEIGHTS, level: int = 1) -> list[bytes]:
    """Return the blobs of a view. `kind` is the configured attention kind, and `level` the compression level of zlib.

    Grids are halved until an image has at most `most_weights` weights. Entropy, minimum and maximum are those of the
    original map.
    """
    folded = [_Folded.of(m) for m in view.maps]
    stored = _fit(folded, most_weights)
    header = {
        "version": 1,
        "network": view.network,
        "layer": view.layer,
        "source": view.source,
        "kind": kind,
        "gamma": None if view.gamma is None else view.gamma if math.isfinite(view.gamma) else "NaN",
        "change": None if view.change is None else [_number(c) for c in view.change],
        "labels": None if view.labels is None else [_name(view.class_of(i)) for i in range(len(view.images))],
        "images": len(view.images),
        "without": view.without is not None,
        "size": list(view.images.shape[2:]),
        "maps": [_describe(*each) for each in zip(view.maps, folded, stored, strict=True)],
    }
    blobs = [json.dumps(header).encode()]
    for i, image in enumerate(view.images):
        blobs += [_png(image), *(_pack(m.weights[i].flatten(0, 1), level) for m in stored)]
    return blobs + [_png(image) for image in ([] if view.without is None else view.without)]


@dataclass(frozen=True)
class _Folded:
    """A map of any kind, as (N, groups, queries, keys)."""

    weights: Tensor
    queries: tuple[int, int]
    keys: tuple[int, int]
    is_gate: bool

    @staticmethod
    def of(m: AttentionMap) -> "_Folded":
        w, form = m.weights, m.form
        if not form.gate:
            keys = _pair(m.key_size or m.query_size)
            return _Folded(w, keys if form.windowed else _pair(m.query_size), keys, False)
        if form.positions:
            return _Folded(w.flatten(2)[:, :, None], (1, 1), _pair(w.shape[2:]), True)
        return _Folded(w[:, None, None], (1, 1), (1, w.shape[1]), True)

    @property
    def size(self) -> int:
        return self.weights[0].numel()

    def halved(self) -> "_Folded | None":
        """Return the map with the larger of its two grids halved in height and width; None if neither can be halved.

        Queries are averaged and weights of keys are summed, so a distribution remains one. Gates are averaged.
        """
        w, (n, g, _, k) = self.weights, self.weights.shape
        for of_queries in (True, False) if math.prod(self.queries) > math.prod(self.keys) else (False, True):
            height, width = self.queries if of_queries else self.keys
            if height % 2 or width % 2:
                continue
            half = (height // 2, width // 2)
            if of_queries:
                w = w.reshape(n, g, half[0], 2, half[1], 2, k).mean((3, 5)).flatten(2, 3)
                return replace(self, weights=w, queries=half)
            cells = w.reshape(n, g, -1, half[0], 2, half[1], 2)
            w = cells.mean((4, 6)) if self.is_gate else cells.sum((4, 6))
            return replace(self, weights=w.flatten(3), keys=half)
        return None


def _pair(size: Sequence[int]) -> tuple[int, int]:
    height, width = size
    return int(height), int(width)


def _fit(maps: list[_Folded], most_weights: int) -> list[_Folded]:
    """Return the maps, with the largest halved again and again until all together are small enough."""
    maps = list(maps)
    while sum(m.size for m in maps) > most_weights:
        largest = max(range(len(maps)), key=lambda i: maps[i].size)
        smaller = maps[largest].halved()
        if smaller is None:
            break
        maps[largest] = smaller
    return maps


def _describe(m: AttentionMap, whole: _Folded, stored: _Folded) -> dict:
    images = [replace(m, weights=m.weights[i : i + 1]) for i in range(len(m.weights))]
    return {
        "kind": m.kind,
        "groups": stored.weights.shape[1],
        "queries": list(stored.queries),
        "keys": list(stored.keys),
        "whole_queries": list(whole.queries),
        "whole_keys": list(whole.keys),
        "distribution": m.distribution,
        "entropy": [_number(image.entropy()) for image in images],
        "minimum": [_number(image.weights.min()) for image in images],
        "maximum": [_number(image.weights.max()) for image in images],
    }


def _pack(rows: Tensor, level: int) -> bytes:
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    levels = (rows - low[:, None]) / (high - low).clamp(min=1e-38)[:, None] * 255
    levels = levels.nan_to_num(0).round().clamp(0, 255).to(torch.uint8)
    numbers = torch.stack([low, high]).numpy().astype("<f4").tobytes()
    return zlib.compress(numbers + levels.numpy().tobytes(), level)  # levels above 1 gain little and take long


def _png(image: Tensor) -> bytes:
    while max(image.shape[1:]) > LARGEST_PICTURE:
        image = F.avg_pool2d(image[None].float(), 2)[0].round().to(torch.uint8)
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _number(value: float | Tensor | None) -> float | None:
    """Return a finite number, or None, because JSON has no other numbers."""
    return float(value) if value is not None and math.isfinite(value) else None


def _name(name: str | None) -> str:
    """Return the name of a class as a page shows it: shortened, and without bytes that are not valid text."""
    return (name or "").encode("utf-8", "replace").decode()[:100]
