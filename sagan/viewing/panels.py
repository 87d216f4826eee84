"""The panels of a picture: an image with its query points, or with a row of a matrix or a mask drawn over it.

Scales, for every picture of `overlays`:

- Weights are coloured from black (0) over red to pale yellow: the largest weight of the panel, or four times the
  uniform weight if that is more, so that a nearly uniform row is dull all over. Weights that may be negative go
  from blue over black to orange, as far on either side as the largest absolute weight of the panel.
- A mask is coloured from black (its smallest value in the panel) to pale yellow (its largest); both are printed below.
- The white outline is `rows.most_attended`: the fewest keys that hold half of the weight.
- A panel's frame has the colour of its query, which is marked in it by a dot.
"""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.viewing import drawing
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import COLOURS, DIVERGING, HEAT
from sagan.viewing.queries import Point
from sagan.viewing.rows import Row, most_attended, row_entropy

TOP = 4  # times the uniform weight, at least, is the top of the colour scale


@dataclass(frozen=True)
class Panels:
    """The panels of one map of a view; i is the number of an image in it."""

    view: LayerView
    map: AttentionMap
    tile: int
    """Least length in pixels of the longer side of a panel."""
    text: bool
    """Whether each has a line of text below it."""

    def image(self, i: int, marks: dict[int, Point]) -> Image.Image:
        """Return the image, with points by number, counted from 0."""
        panel = drawing.picture(self._enlarged(i))
        for k, point in marks.items():
            drawing.mark(panel, *self._middle(point), colour(k), k + 1)
        label = "" if self.view.labels is None else f", class {self.view.labels[i]}"
        return self._finished(panel, f"{self.view.source}{label}")

    def row(self, i: int, weights: Tensor, row: Row, k: int, point: Point | None, name: str = "") -> Image.Image:
        """Draw weights (h, w) of the row of query k, of all heads or one, over the greyed image.

        A `point` of None means that all queries share the row.
        """
        t, stops = scaled_weights(weights, row.reach, signed(self.map))
        panel = drawing.overlay(self._enlarged(i), t, stops, row.reach)
        panel = drawing.picture(drawing.outlined(panel, most_attended(weights, row.reach)))
        if point is not None:
            drawing.mark(panel, *self._middle(point), colour(k))
        largest = weights.flatten()[weights.abs().argmax()]
        said = f"{name}{'peak' if signed(self.map) else 'max'} {short(largest)}"
        said += f", entropy {row_entropy(weights, row.reach):.0%}" if self.map.distribution else ""
        return self._finished(panel, said, "white" if point is None else colour(k))

    def mask(self, i: int, gate: Tensor, name: str = "") -> Image.Image:
        """Draw a gate (h, w) over the greyed image."""
        low, high = gate.min(), gate.max()
        cells = drawing.enlarge((gate - low) / (high - low).clamp(min=1e-12), self.map.query_size)
        panel = drawing.picture(drawing.overlay(self._enlarged(i), cells))
        return self._finished(panel, f"{name}{short(low)} to {short(high)}")

    @property
    def _scale(self) -> int:
        return drawing.scale_for(self.view.images.shape[2:], self.tile)

    def _enlarged(self, i: int) -> Tensor:
        return drawing.rgb(self.view.images[i], self._scale)

    def _middle(self, point: Point) -> tuple[float, float]:
        """Return the middle of a pixel after enlargement."""
        return (point[0] + 0.5) * self._scale - 0.5, (point[1] + 0.5) * self._scale - 0.5

    def _finished(self, panel: Image.Image, said: str, frame: tuple | str = "white") -> Image.Image:
        panel = drawing.framed(panel, frame)
        return drawing.captioned(panel, said) if self.text else panel


def scaled_weights(weights: Tensor, reach: Tensor, with_sign: bool) -> tuple[Tensor, tuple]:
    """Return weights (h, w) scaled to [0, 1], and the colours of the scale, as described above."""
    largest = weights.abs().max().clamp(min=1e-30)
    if with_sign:
        return (weights / largest + 1) / 2, DIVERGING
    return weights / torch.maximum(largest, TOP * weights.sum() / reach.sum()), HEAT


def signed(m: AttentionMap) -> bool:
    """Return whether a map has negative weights."""
    return not m.distribution and bool((m.weights < 0).any())


def colour(k: int) -> tuple[int, int, int]:
    """Return the colour of query k."""
    return COLOURS[k % len(COLOURS)]


def short(value: Tensor) -> str:
    """Return a number in two digits."""
    return f"{value.item():.2g}"
