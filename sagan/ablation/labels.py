"""Names beside the points of a plot, placed such that none can be taken for the name of another point.

Lengths are in points of the page. Plain numbers, because numpy is slow for single ones.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from matplotlib.axes import Axes

Place: TypeAlias = tuple[float, float]
Line: TypeAlias = tuple[Place, Place]

DARK = "#222222"
TURNS = [math.radians(degrees) for degrees in (0, 180, 90, 270, 45, 135, 225, 315, 22, 158, 202, 338)]
DISTANCES = (6, 10, 16, 24, 34, 46, 60, 80)  # from a point to its name
MARKER = 4.0  # what a point takes up around itself
GAP = 3.0  # between a name and whatever is next to it
NEAR = 1.5  # a name needs no line if every other point is this many times as far away as its own
COVERS, OUTSIDE, CROSSES, LEADER, STRIKES = 1000, 5000, 400, 25, 15  # prices; a unit of distance costs 1
ORDERS = 8  # in which the names are placed, one after the other; the cheapest result is kept


class Box(NamedTuple):
    """A rectangle."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlaps(self, other: "Box", gap: float = 0.0) -> bool:
        """Return whether two rectangles have less than a gap between them."""
        across = self.x0 < other.x1 + gap and other.x0 < self.x1 + gap
        return across and self.y0 < other.y1 + gap and other.y0 < self.y1 + gap

    def nearest(self, place: Place) -> Place:
        """Return the place inside that is nearest to another."""
        return min(max(place[0], self.x0), self.x1), min(max(place[1], self.y0), self.y1)

    def crossed_by(self, line: Line) -> bool:
        """Return whether a line passes through."""
        (x, y), (x1, y1) = line
        low, high = 0.0, 1.0
        for start, along, edges in ((x, x1 - x, (self.x0, self.x1)), (y, y1 - y, (self.y0, self.y1))):
            if abs(along) < 1e-9:
                if not edges[0] < start < edges[1]:
                    return False
                continue
            shares = sorted((edge - start) / along for edge in edges)
            low, high = max(low, shares[0]), min(high, shares[1])
        return low < high


@dataclass
class Labels:
    """Names that have a place, the lines from some to their points, and what all of it costs."""

    boxes: dict[str, Box] = field(default_factory=dict)
    leaders: dict[str, Line] = field(default_factory=dict)
    price: float = 0.0


@dataclass(frozen=True)
class Labeller:
    """Finds places for names."""

    points: dict[str, Place]
    sizes: dict[str, tuple[float, float]]
    spans: list[Line]
    """Lines that names had better not cover."""
    frame: Box

    def best(self) -> Labels:
        """Return the cheapest labels of several attempts."""
        names = sorted(self.points)
        generator = random.Random(0)
        orders = [generator.sample(names, len(names)) for _ in range(ORDERS)]
        return min(map(self.labels, [names, *orders]), key=lambda labels: labels.price)

    def labels(self, order: list[str]) -> Labels:
        """Return labels whose names have each taken the cheapest place that was left."""
        labels = Labels()
        for name in order:
            choices = (self.priced(name, d, turn, labels) for d in DISTANCES for turn in TURNS)
            price, labels.boxes[name], leader = min(choices, key=lambda choice: choice[0])
            labels.price += price
            if leader:
                labels.leaders[name] = leader
        return labels

    def priced(self, name: str, far: float, turn: float, labels: Labels) -> tuple[float, Box, Line | None]:
        """Return a place for a name with its price, and the line to its point if it needs one."""
        own, others = self.points[name], [place for other, place in self.points.items() if other != name]
        box = box_at(own, self.sizes[name], far, turn)
        price = far + OUTSIDE * (self.frame != union(self.frame, box))
        price += COVERS * sum(box.overlaps(other, GAP) for other in labels.boxes.values())
        price += COVERS * sum(math.dist(place, box.nearest(place)) < MARKER for place in self.points.values())
        price += CROSSES * sum(map(box.crossed_by, labels.leaders.values()))
        price += STRIKES * sum(map(box.crossed_by, self.spans))
        edge = box.nearest(own)
        reach = math.dist(own, edge)
        if reach < DISTANCES[1] and all(math.dist(place, box.nearest(place)) > NEAR * reach for place in others):
            return price, box, None
        leader = (edge, own)
        price += LEADER + CROSSES * sum(from_line(place, leader) < MARKER for place in others)
        price += CROSSES * sum(other.crossed_by(leader) for other in labels.boxes.values())
        price += CROSSES * sum(cross(leader, other) for other in labels.leaders.values())
        return price, box, leader


def label_points(
    axes: Axes,
    points: dict[str, tuple[float, float]],
    colors: dict[str, str],
    fontsize: float,
    spans: list[tuple[float, float, float]],
) -> None:
    """Write the name of each point beside it. Call it when the layout of the figure is final.

    A name covers no point and no other name, if there is room. If another point is nearly as close as its own, a line
    in the color of its point joins the two. `spans` are vertical lines, as (x, low, high), that names had better not
    cover.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, scale = figure.canvas.get_renderer(), 72 / figure.dpi  # pyright: ignore[reportAttributeAccessIssue]
    look: Any = dict(xytext=(0, 0), textcoords="offset points", ha="center", va="center", fontsize=fontsize, color=DARK)
    texts = {name: axes.annotate(name, point, zorder=5, **look) for name, point in points.items()}
    boxes = {name: text.get_window_extent(renderer) for name, text in texts.items()}

    def on_page(x: float, y: float) -> Place:
        across, up = axes.transData.transform((x, y)) * scale
        return float(across), float(up)

    labels = Labeller(
        points={name: on_page(*point) for name, point in points.items()},
        sizes={name: (box.width * scale, box.height * scale) for name, box in boxes.items()},
        spans=[(on_page(x, low), on_page(x, high)) for x, low, high in spans],
        frame=Box(*(edge * scale for edge in axes.get_window_extent(renderer).padded(-GAP / scale).extents)),
    ).best()
    for name, box in labels.boxes.items():
        own = on_page(*points[name])
        texts[name].set_position(((box.x0 + box.x1) / 2 - own[0], (box.y0 + box.y1) / 2 - own[1]))
        if leader := labels.leaders.get(name):
            end = (leader[0][0] - own[0], leader[0][1] - own[1])
            arrow = dict(arrowstyle="-", color=colors[name], linewidth=0.8, shrinkA=0, shrinkB=0)
            axes.annotate("", points[name], xytext=end, textcoords="offset points", arrowprops=arrow)


def box_at(place: Place, size: tuple[float, float], distance: float, turn: float) -> Box:
    """Return a rectangle of a size, in a direction from a place and about a distance away."""
    x = place[0] + math.cos(turn) * (size[0] / 2 + distance)
    y = place[1] + math.sin(turn) * (size[1] / 2 + distance)
    return Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def union(a: Box, b: Box) -> Box:
    """Return the smallest rectangle around two."""
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def from_line(place: Place, line: Line) -> float:
    """Return the distance between a place and a line."""
    (x, y), (x1, y1) = line
    along = (x1 - x, y1 - y)
    length = along[0] ** 2 + along[1] ** 2
    share = ((place[0] - x) * along[0] + (place[1] - y) * along[1]) / length if length else 0.0
    share = min(max(share, 0.0), 1.0)
    return math.dist(place, (x + share * along[0], y + share * along[1]))


def cross(first: Line, second: Line) -> bool:
    """Return whether two lines cross."""

    def left(line: Line, place: Place) -> bool:
        (x, y), (x1, y1) = line
        return (x1 - x) * (place[1] - y) > (y1 - y) * (place[0] - x)

    return left(first, second[0]) != left(first, second[1]) and left(second, first[0]) != left(second, first[1])
