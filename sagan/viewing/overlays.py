"""Attention maps drawn over images, as in figure 5 of Zhang et al. 2019; gates as bars or masks.

`panels.py` explains colours and outlines, and so does each picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.runtime.pictures import from_pil
from sagan.viewing import drawing
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import DIVERGING, HEAT
from sagan.viewing.panels import Panels, apart, colour, short
from sagan.viewing.queries import Point, automatic_queries
from sagan.viewing.rows import LEAST, SHARE, Row, query_row
from sagan.viewing.scales import TOP, Scale, signed

TILE = 192  # least length of a panel's longer side, in pixels
WIDTH = 1400  # approximate largest width of a picture, in pixels: strips go into as many columns as fit
QUERIES = 5  # points on each image, as in the paper's figure
VARIED = 4  # channels of a full gate that get a panel
IDLE = 0.01  # a layer that changes its input by less has almost no effect

Parts = dict[str, list[Image.Image]]  # part -> strips of panels, in the order of the images


def layer_pictures(
    view: LayerView,
    queries: list[list[Point]],
    *,
    title: str = "",
    tile: int = TILE,
    width: int = WIDTH,
    text: bool = True,
    scale: Scale = "zero",
    share: float = SHARE,
) -> dict[str, Image.Image]:
    """Return pictures of what a layer attends to, by part, with a strip for each image.

    `queries` are the points (y, x) of each image, in pixels; kinds without queries ignore them. The parts are `map`,
    the mean over heads, and `heads` if there are several; `windows-2x2` and so on; `channels`, `positions` and `values`
    of a gate. A layer without maps has no parts. `title` is the heading; without `text` there are only panels. Outlines
    enclose a `share` of the weight.
    """
    pictures: dict[str, Image.Image] = {}
    for m in view.maps:
        for part, strips in STRIPS[m.kind](Panels(view, m, tile, text, scale, share), queries).items():
            again = sum(name.partition(".")[0] == part for name in pictures)
            picture = drawing.in_columns(strips, width)
            if text:
                lines = [f"{title}: {part}" if title else part, numbers(view, m), *notices(view)]
                picture = headed(picture, lines, legend(m, part, scale, share))
            pictures[f"{part}.{again + 1}" if again else part] = picture
    return pictures


def view_queries(view: LayerView, number: int = QUERIES) -> list[list[Point]]:
    """Return automatic points for each image of a view."""
    return [automatic_queries(image, number) for image in view.images]


def board_images(views: list[LayerView], number: int = 4, queries: int = 3, tile: int = 96) -> dict[str, Tensor]:
    """Return small pictures of the first images of each view for TensorBoard, by tag: uint8 (3, H, W).

    Tags are views/generator.LAYER/generated/PART and so on. TensorBoard sorts its images, so samples come first. The
    pictures have no text and no single heads.
    """
    tagged = {}
    for view in views:
        few = view.first(number)
        few = replace(few, images=drawing.shrunk(few.images, tile))
        for part, picture in layer_pictures(few, view_queries(few, queries), tile=tile, width=0, text=False).items():
            if part.partition(".")[0] != "heads":
                tagged[f"views/{view.network}.{view.layer}/{view.source}/{part}"] = from_pil(picture)
    return tagged


def headed(body: Image.Image, lines: list[str], scale: Image.Image | None) -> Image.Image:
    """Return a picture under lines of text and, if it has one, its colour scale."""
    scales = [] if scale is None else [scale]
    width = max(piece.width for piece in (body, *scales))
    return drawing.in_a_column([drawing.text_lines(lines, width), *scales, body])


def numbers(view: LayerView, m: AttentionMap) -> str:
    """Return gain, entropy and largest weight of a map over all its images, as text."""
    said = [" minus ".join(gain(v) for v in (view, view.minus) if v is not None)]
    if view.change is not None and view.minus is None:
        said.append(f"the layer changes its input by {view.change.mean():.2%} (|y - x| / |x|)")
    w = m.weights
    if m.form.gate:
        low, high, mean = apart((w.min(), w.max(), w.mean()))
        said.append(f"factors {low} to {high}, mean {mean}")
    elif m.distribution:
        keys = w.shape[-1]
        said.append(f"entropy {m.entropy():.1%} of ln {keys}")
        said.append(f"largest weight {short(w.max())} = {w.max() * keys:.1f} x uniform")
    else:
        what = "a difference" if view.minus else "no distribution"
        said.append(f"weights {' to '.join(apart((w.min(), w.max())))}, {what}")
    return "; ".join(said)


def gain(view: LayerView) -> str:
    """Return gamma as text."""
    return "no gamma (counts as 1)" if view.gamma is None else f"gamma {view.gamma:z.3f}"


def notices(view: LayerView) -> list[str]:
    """Return a warning if the layer changes almost nothing, so that nobody reads meaning into its map."""
    if view.change is None or view.minus is not None or not view.change.mean() < IDLE:
        return []
    return ["Hardly in use: whatever the map looks like, the network would do nearly the same without this layer."]


def legend(m: AttentionMap, part: str, scale: Scale, share: float) -> Image.Image | None:
    """Return the legend for the colours and outlines of a picture, or None for bars."""
    if part == "channels":
        return None
    what, panel = ("factor" if m.form.gate else "weight"), ("all panels" if scale == "shared" else "the panel")
    notes = "; colours are blended with the image"
    if not m.form.gate:
        notes = f"; outlined: the fewest keys with {share:.0%} of the weight, if one is over {LEAST} x the mean{notes}"
    if signed(m):
        return drawing.legend("-largest", DIVERGING, f"largest {what} of {panel}{notes}")
    if scale == "stretch":
        return drawing.legend("smallest", HEAT, f"largest {what} of the panel. STRETCHED to its own range{notes}")
    least = "1" if m.form.gate else f"{TOP} x uniform"
    return drawing.legend("0", HEAT, f"largest {what} of {panel}, or {least} if more{notes}")


@dataclass(frozen=True)
class DrawnQuery:
    """A query of an image, with its row of the matrix."""

    number: int
    """Counted from 0 in each image; it decides the colour."""
    point: Point | None
    """None if all positions share the row."""
    row: Row


def drawn_queries(panels: Panels, i: int, points: list[Point]) -> list[DrawnQuery]:
    """Return the queries to draw for image i: one for each point, or a single one if all positions share a row."""
    m, size = panels.map, panels.view.images.shape[2:]
    if m.query_size == (1, 1) or not points:
        return [DrawnQuery(0, None, query_row(m, i, (0, 0), size))]
    return [DrawnQuery(number, point, query_row(m, i, point, size)) for number, point in enumerate(points)]


def marked(queries: list[DrawnQuery]) -> dict[int, Point]:
    """Return the points of queries by number."""
    return {query.number: query.point for query in queries if query.point is not None}


def matrix_strips(panels: Panels, queries: list[list[Point]]) -> Parts:
    """Draw the image and a panel per query. For several heads, also draw a strip per query with a panel per head."""
    m = panels.map
    by_image = [drawn_queries(panels, i, points) for i, points in enumerate(queries)]
    means = mean_strips(panels, by_image)
    if m.form.windowed:
        down, across = (q // k for q, k in zip(m.query_size, m.key_size or m.query_size, strict=True))
        return {f"windows-{down}x{across}": means}
    if m.weights.shape[1] == 1:
        return {"map": means}
    return {"map": means, "heads": head_strips(panels, by_image)}


def mean_strips(panels: Panels, by_image: list[list[DrawnQuery]]) -> list[Image.Image]:
    """Draw a strip per image: the image with its points, then the mean over heads for each query."""
    panels = panels.sharing(q.row.mean()[q.row.reach] for queries in by_image for q in queries)
    strips = []
    for i, queries in enumerate(by_image):
        rows = [panels.row(i, q.row.mean(), q.row, q.number, q.point) for q in queries]
        strips.append(drawing.in_a_row([panels.image(i, marked(queries)), *rows]))
    return strips


def head_strips(panels: Panels, by_image: list[list[DrawnQuery]]) -> list[Image.Image]:
    """Draw a strip per query: the image with its point, then every head."""
    panels = panels.sharing(w for queries in by_image for q in queries for w in q.row.weights[:, q.row.reach])
    strips = []
    for i, queries in enumerate(by_image):
        for q in queries:
            heads = [panels.row(i, w, q.row, q.number, q.point, f"head {h}: ") for h, w in enumerate(q.row.weights)]
            strips.append(drawing.in_a_row([panels.image(i, marked([q])), *heads]))
    return strips


def channel_strips(panels: Panels, queries: list[list[Point]]) -> Parts:
    """Draw the image and a bar per channel."""
    strips = []
    for i, gates in enumerate(panels.map.weights.flatten(1)):  # (C,)
        image = panels.image(i, {})
        strips.append(
            drawing.in_a_row([image, drawing.bars(gates, 4 * panels.tile, image.height, colour(i), panels.axis)])
        )
    return {"channels": strips}


def position_strips(panels: Panels, queries: list[list[Point]]) -> Parts:
    """Draw the image and the mask."""
    panels = panels.sharing(panels.map.weights[:, 0])
    masks = [panels.mask(i, gate[0]) for i, gate in enumerate(panels.map.weights)]
    return {"positions": [drawing.in_a_row([panels.image(i, {}), mask]) for i, mask in enumerate(masks)]}


def value_strips(panels: Panels, queries: list[list[Point]]) -> Parts:
    """Draw the image, the mean over channels, and the channels that vary most, or bars for a single position."""
    weights = panels.map.weights  # (N, C, h, w)
    if weights.shape[2:] == (1, 1):
        return channel_strips(panels, queries)
    varied = weights.flatten(2).var(-1).mean(0).topk(min(VARIED, weights.shape[1])).indices.tolist()
    panels = panels.sharing([*weights.mean(1), *weights[:, varied].flatten(0, 1)])
    strips = []
    for i, gate in enumerate(weights):
        single = [panels.mask(i, gate[c], f"channel {c}: ") for c in varied]
        strips.append(drawing.in_a_row([panels.image(i, {}), panels.mask(i, gate.mean(0), "mean: "), *single]))
    return {"values": strips}


STRIPS: dict[str, Callable[[Panels, list[list[Point]]], Parts]] = {
    "matrix": matrix_strips,
    "windowed matrix": matrix_strips,
    "channel gate": channel_strips,
    "spatial gate": position_strips,
    "full gate": value_strips,
}
