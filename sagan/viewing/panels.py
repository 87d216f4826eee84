"""The panels of a picture: an image with query points, or with a row of a matrix or a mask drawn over it.

- Weights and factors are coloured from black through red to pale yellow, and weights that may be negative from blue
  through black to orange. `scales.py` defines which weights are at the ends of the scale.
- The white outline is `rows.most_attended`: the fewest keys that hold a share of the weight.
- A panel's frame has the colour of its query, which a dot marks. The ticks on the frame are the grid of the map.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.runtime.captions import drawable
from sagan.runtime.pictures import to_pil
from sagan.viewing import drawing
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import COLOURS
from sagan.viewing.queries import Point
from sagan.viewing.rows import SHARE, Row, most_attended, row_entropy
from sagan.viewing.scales import Range, Scale, range_of, shared, signed

MOST = 6  # significant digits, about those of float32


@dataclass(frozen=True)
class Panels:
    """The panels of one map of a view; i is the index of an image."""

    view: LayerView
    map: AttentionMap
    tile: int
    """Least length of a panel's longer side, in pixels."""
    text: bool
    """Whether each panel has a line of text below it."""
    scale: Scale = "zero"
    share: float = SHARE
    """Share of the weight that the outline encloses."""
    span: Range | None = None
    """The range of all panels, if they share one."""

    def sharing(self, drawn: Iterable[Tensor]) -> "Panels":
        """Return these panels with a range for all the drawn weights, if the panels of a picture share one."""
        return replace(self, span=shared(map(self.range, drawn))) if self.scale == "shared" else self

    def range(self, weights: Tensor) -> Range:
        """Return the range of the panel that draws these weights."""
        return self.span or range_of(weights, self.map, self.scale, math.prod(self.map.key_size or self.map.query_size))

    def image(self, i: int, marks: dict[int, Point]) -> Image.Image:
        """Return the image, with points by number, counted from 0."""
        panel = to_pil(self._enlarged(i))
        for k, point in marks.items():
            drawing.mark(panel, *self._middle(point), colour(k), k)
        name = self.view.class_of(i)
        label = f", {drawable(name) or f'class {self.view.labels[i]}'}" if name and self.view.labels is not None else ""
        return self._finished(panel, f"image {i}{label}")  # the heading says of which kind

    def row(self, i: int, weights: Tensor, row: Row, k: int, point: Point | None, name: str = "") -> Image.Image:
        """Draw weights (h, w) of query k's row, of one head or the mean over heads, over the greyed image.

        A `point` of None means that all queries share the row.
        """
        span = self.range(weights[row.reach])
        panel = drawing.overlay(self._enlarged(i), span.place(weights), span.stops, row.reach)
        panel = to_pil(drawing.outlined(panel, most_attended(weights, row.reach, self.share)))
        if point is not None:
            drawing.mark(panel, *self._middle(point), colour(k))
        largest = weights.flatten()[weights.abs().argmax()]
        said = name or ("" if point is None else f"{point[0]},{point[1]}: ")
        if self.scale == "stretch" and not signed(self.map):
            said += " to ".join(apart((span.low, span.high), 3))
        else:
            said += f"{'peak' if signed(self.map) else 'max'} {short(largest)}"
        said += f", entropy {row_entropy(weights, row.reach):.1%}" if self.map.distribution else ""
        return self._finished(panel, said, "white" if point is None else colour(k), weights.shape)

    def mask(self, i: int, gate: Tensor, name: str = "") -> Image.Image:
        """Draw a gate (h, w) over the greyed image."""
        span = self.range(gate)
        cells = drawing.enlarge(span.place(gate), self.map.query_size)
        panel = to_pil(drawing.overlay(self._enlarged(i), cells, span.stops))
        return self._finished(panel, f"{name}{' to '.join(apart((gate.min(), gate.max())))}", grid=gate.shape)

    @property
    def axis(self) -> tuple[float, float]:
        """Return the ends of the axis of bars, the same for all images: around 0 and 1, or around 0 for differences."""
        factors = self.map.weights.nan_to_num()
        if self.view.minus is not None:
            reach = max(factors.abs().max().item(), 1e-30)
            return -reach, reach
        return min(0.0, factors.min().item()), max(1.0, factors.max().item())

    @property
    def _scale(self) -> int:
        return drawing.scale_for(self.view.images.shape[2:], self.tile)

    def _enlarged(self, i: int) -> Tensor:
        return drawing.rgb(self.view.images[i], self._scale)

    def _middle(self, point: Point) -> tuple[float, float]:
        """Return the middle of a pixel after enlargement."""
        return (point[0] + 0.5) * self._scale - 0.5, (point[1] + 0.5) * self._scale - 0.5

    def _finished(self, panel: Image.Image, said: str, frame: tuple | str = "white", grid=None) -> Image.Image:
        panel = drawing.framed(panel, frame, grid if self.text else None)
        return drawing.captioned(panel, said) if self.text else panel


def colour(k: int) -> tuple[int, int, int]:
    """Return the colour of query k."""
    return COLOURS[k % len(COLOURS)]


def short(value: Tensor) -> str:
    """Return a number with two significant digits."""
    return f"{value.item():.2g}"


def apart(values: Sequence[Tensor | float], digits: int = 2) -> list[str]:
    """Return numbers with as many significant digits as the first two need to differ, between `digits` and MOST."""
    said = [f"{float(value):.{digits}g}" for value in values]
    return apart(values, digits + 1) if said[0] == said[1] and values[0] != values[1] and digits < MOST else said
