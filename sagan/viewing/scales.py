"""The colour scales of maps, by the weights at their two ends.

zero     from 0 to the largest weight of the panel, or four times the uniform weight if that is more: a nearly uniform
         map looks nearly uniform. Gates go from 0 to 1, or to their largest factor if that is more.
shared   the same with the largest weight of all panels of a picture, so that their colours can be compared.
stretch  from the smallest to the largest weight of each panel.

Weights of both signs always have 0 in the middle. `plugin/static/scales.js` has the same rules for the tab.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from torch import Tensor

from sagan.attention import AttentionMap
from sagan.viewing.drawing import DIVERGING, HEAT

TOP = 4  # times the uniform weight: least top of the scale

Scale = Literal["zero", "shared", "stretch"]


class Range(NamedTuple):
    """The weights at the two ends of a colour scale, and its colours."""

    low: float
    high: float
    stops: tuple = HEAT

    def place(self, weights: Tensor) -> Tensor:
        """Return the positions of weights on the scale, from 0 to 1."""
        return ((weights - self.low) / max(self.high - self.low, 1e-30)).nan_to_num(0).clamp(0, 1)


def range_of(weights: Tensor, m: AttentionMap, scale: Scale, cells: int) -> Range:
    """Return the range of a panel that shows these weights of a map; `cells` is the number of keys a query can see."""
    low, high = weights.min().item(), weights.max().item()
    if signed(m):
        reach = max(-low, high, 1e-30)
        return Range(-reach, reach, DIVERGING)
    if scale == "stretch":
        return Range(low, high)
    return Range(0.0, max(high, 1.0 if m.form.gate else TOP * weights.sum().item() / cells))


def shared(ranges: Iterable[Range]) -> Range:
    """Return the range that includes all the given ones, which have the same colours."""
    lows, highs, stops = zip(*ranges, strict=True)
    return Range(min(lows), max(highs), stops[0])


def signed(m: AttentionMap) -> bool:
    """Return whether a map has negative weights."""
    return not m.distribution and bool((m.weights < 0).any())
