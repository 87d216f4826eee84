"""Attention maps drawn over images, as in figure 5 of Zhang et al. 2019; gates as bars or masks.

Scales, for every picture here:

- Weights are coloured from black (0) over red to pale yellow: the largest weight of the panel, or four times the
  uniform weight where that is more, so that a nearly uniform row is dull all over. Weights that may be negative go
  from blue over black to orange, as far on either side as the largest absolute weight of the panel.
- A mask is coloured from black (its smallest value in the panel) to pale yellow (its largest); both stand below it.
- The white outline is `rows.most_attended`: the fewest keys that hold half of the weight.
- A panel's frame has the colour of its query, which is marked in it by a dot.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from sagan.attention import AttentionMap
from sagan.viewing import drawing
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import COLOURS, DIVERGING, HEAT
from sagan.viewing.queries import Point, automatic_queries
from sagan.viewing.rows import LEAST, SHARE, Row, most_attended, query_row, row_entropy

TILE = 192  # pixels, at least, of the longer side of a panel
WIDTH = 1400  # pixels of a picture, about, at most: strips stand in as many columns as fit
QUERIES = 5  # points on each image, as in the paper's figure
TOP = 4  # times the uniform weight, at least, is the top of the colour scale
VARIED = 4  # channels of a gate with many values that get a panel

Parts = dict[str, list[Image.Image]]  # what a picture shows -> a strip of panels for each image


def layer_pictures(
    view: LayerView,
    queries: list[list[Point]],
    *,
    title: str = "",
    tile: int = TILE,
    width: int = WIDTH,
    text: bool = True,
) -> dict[str, Image.Image]:
    """What a layer attended to, a strip for each image: part -> picture.

    queries: the points (y, x) of each image, in its pixels; kinds without queries draw none. The parts are `map`, and
    `heads` where there are several, `windows-2x2` and so on, `channels`, `positions` and `values` (of a gate); none
    for a layer without maps. `title` stands above everything else; without `text` there are panels only.
    """
    pictures: dict[str, Image.Image] = {}
    for m in view.maps:
        for part, strips in STRIPS[m.kind](view, m, queries, tile, text).items():
            again = sum(name.partition(".")[0] == part for name in pictures)
            body = drawing.in_columns(strips, width)
            if text:
                scale = legend(m, part)
                width_of_text = max(piece.width for piece in (body, *scale))
                lines = drawing.text_lines([f"{title}: {part}" if title else part, numbers(view, m)], width_of_text)
                body = drawing.in_a_column([lines, *scale, body])
            pictures[f"{part}.{again + 1}" if again else part] = body
    return pictures


def view_queries(view: LayerView, number: int = QUERIES) -> list[list[Point]]:
    """Automatic points for each image of a view."""
    return [automatic_queries(image, number) for image in view.images]


def board_images(views: list[LayerView], number: int = 4, queries: int = 3, tile: int = 96) -> dict[str, Tensor]:
    """Small pictures for TensorBoard: tag -> uint8 (3, H, W), of the first images of each view, without text.

    Tags are attention/generator.LAYER/generated/PART and so on; single heads are left out.
    """
    tagged = {}
    for view in views:
        points = [automatic_queries(image, queries) for image in view.images[:number]]
        for part, picture in layer_pictures(view, points, tile=tile, width=0, text=False).items():
            if part != "heads":
                tag = f"attention/{view.network}.{view.layer}/{view.source}/{part}"
                tagged[tag] = drawing.tensor(picture)
    return tagged


def numbers(view: LayerView, m: AttentionMap) -> str:
    """Gain, entropy and largest weight of a map in words, over all its images."""
    gain = "no gamma (1)" if view.gamma is None else f"gamma {view.gamma:.3f}"
    said = [f"{gain}{' (the layer is the identity)' if view.gamma == 0 else ''}"]
    w = m.weights
    if m.kind not in MATRICES:
        said.append(f"factors {_short(w.min())} to {_short(w.max())}, mean {_short(w.mean())}")
    elif m.distribution:
        keys = w.shape[-1]
        said.append(f"entropy {m.entropy():.1%} of ln {keys}")
        said.append(f"largest weight {_short(w.max())} = {w.max() * keys:.1f} x uniform")
    else:
        said.append(f"weights {_short(w.min())} to {_short(w.max())}, no distribution")
    return "; ".join(said)


def legend(m: AttentionMap, part: str) -> list[Image.Image]:
    """What colours and outlines of a picture mean; nothing for bars."""
    if part == "channels":
        return []
    if m.kind not in MATRICES:
        return [drawing.legend("smallest", HEAT, "largest factor of the panel")]
    outline = f"outlined: the fewest keys with {SHARE:.0%} of the weight, if over {LEAST} x the mean"
    if signed(m):
        return [drawing.legend("-largest", DIVERGING, f"largest weight of the panel; {outline}")]
    return [drawing.legend("0", HEAT, f"largest weight of the panel, or {TOP} x uniform if more; {outline}")]


def signed(m: AttentionMap) -> bool:
    """Whether weights of a map may be negative."""
    return not m.distribution and bool((m.weights < 0).any())


def _matrix(view: LayerView, m: AttentionMap, queries: list[list[Point]], tile: int, text: bool) -> Parts:
    """Image and a panel for each query; for several heads also a strip for each query, with a panel for each head."""
    same_for_all = m.query_size == (1, 1)
    windowed = m.kind == "windowed matrix"
    parts: Parts = {"map": [], "heads": []}
    for i, image in enumerate(view.images):
        points = [(0, 0)] if same_for_all else queries[i]
        rows = [query_row(m, i, point, image.shape[1:]) for point in points]
        marks = dict(enumerate([] if same_for_all else points))  # number -> point
        panels = [
            _row_panel(image, row.mean(), row, m, marks.get(k), COLOURS[k % len(COLOURS)], tile, text)
            for k, row in enumerate(rows)
        ]
        parts["map"].append(drawing.in_a_row([_image_panel(view, i, marks, tile, text), *panels]))
        for k, row in enumerate(rows if row_heads(m) > 1 else []):
            heads = [
                _row_panel(image, head, row, m, marks.get(k), COLOURS[k % len(COLOURS)], tile, text, f"head {h}: ")
                for h, head in enumerate(row.weights, 1)
            ]
            one = {k: marks[k]} if k in marks else {}
            parts["heads"].append(drawing.in_a_row([_image_panel(view, i, one, tile, text), *heads]))
    if windowed:
        grid = "x".join(str(q // k) for q, k in zip(m.query_size, m.key_size, strict=True))
        return {f"windows-{grid}": parts["map"]}
    return {part: strips for part, strips in parts.items() if strips}


def row_heads(m: AttentionMap) -> int:
    """Heads of a matrix; windows are no heads."""
    return m.weights.shape[1] if m.kind == "matrix" else 1


def _row_panel(
    image: Tensor,
    weights: Tensor,
    row: Row,
    m: AttentionMap,
    point: Point | None,
    colour: tuple,
    tile: int,
    text: bool,
    name: str = "",
) -> Image.Image:
    """Weights (h, w) of a row over the image, the most-attended region outlined and the query marked."""
    scale = drawing.scale_for(image.shape[1:], tile)
    t, stops = scaled_weights(weights, row.reach, signed(m))
    panel = drawing.overlay(drawing.rgb(image, scale), t, stops, row.reach)
    panel = drawing.picture(drawing.outlined(panel, most_attended(weights, row.reach)))
    if point is not None:
        drawing.mark(panel, *_middle(point, scale), colour)
    panel = drawing.framed(panel, colour if point is not None else "white")
    entropy = f", entropy {row_entropy(weights, row.reach):.0%}" if m.distribution else ""
    largest = weights.flatten()[weights.abs().argmax()]
    return (
        drawing.captioned(panel, f"{name}{'peak' if signed(m) else 'max'} {_short(largest)}{entropy}")
        if text
        else panel
    )


def scaled_weights(weights: Tensor, reach: Tensor, with_sign: bool) -> tuple[Tensor, tuple]:
    """Weights (h, w) in [0, 1] and the colours that they stand for, by the scales above."""
    largest = weights.abs().max().clamp(min=1e-30)
    if with_sign:
        return (weights / largest + 1) / 2, DIVERGING
    return weights / torch.maximum(largest, TOP * weights.sum() / reach.sum()), HEAT


def _spatial_gate(view: LayerView, m: AttentionMap, queries: list[list[Point]], tile: int, text: bool) -> Parts:
    strips = []
    for i in range(len(view.images)):
        panel = _mask_panel(view.images[i], m.weights[i, 0], m, "", tile, text)
        strips.append(drawing.in_a_row([_image_panel(view, i, {}, tile, text), panel]))
    return {"positions": strips}


def _full_gate(view: LayerView, m: AttentionMap, queries: list[list[Point]], tile: int, text: bool) -> Parts:
    """The mean over channels, and the channels that vary most over positions; bars where there is one position."""
    if m.weights.shape[2:] == (1, 1):
        return _bars(view, m.weights[:, :, 0, 0], tile, text)
    channels = m.weights.flatten(2).var(-1).mean(0).topk(min(VARIED, m.weights.shape[1])).indices.tolist()
    strips = []
    for i, image in enumerate(view.images):
        mean = _mask_panel(image, m.weights[i].mean(0), m, "mean: ", tile, text)
        single = [_mask_panel(image, m.weights[i, c], m, f"ch. {c}: ", tile, text) for c in channels]
        strips.append(drawing.in_a_row([_image_panel(view, i, {}, tile, text), mean, *single]))
    return {"values": strips}


def _mask_panel(image: Tensor, gate: Tensor, m: AttentionMap, name: str, tile: int, text: bool) -> Image.Image:
    """A gate (h, w) over the image, from its smallest value to its largest."""
    low, high = gate.min(), gate.max()
    cells = drawing.enlarge((gate - low) / (high - low).clamp(min=1e-12), m.query_size)
    panel = drawing.overlay(drawing.rgb(image, drawing.scale_for(image.shape[1:], tile)), cells)
    panel = drawing.framed(drawing.picture(panel), "white")
    return drawing.captioned(panel, f"{name}{_short(low)} to {_short(high)}") if text else panel


def _channel_gate(view: LayerView, m: AttentionMap, queries: list[list[Point]], tile: int, text: bool) -> Parts:
    return _bars(view, m.weights, tile, text)


def _bars(view: LayerView, gates: Tensor, tile: int, text: bool) -> Parts:
    """A bar for each channel of gates (N, C), on one scale."""
    strips = []
    for i in range(len(view.images)):
        image = _image_panel(view, i, {}, tile, text)
        chart = drawing.bars(gates[i], 4 * tile, image.height, COLOURS[i % len(COLOURS)])
        strips.append(drawing.in_a_row([image, chart]))
    return {"channels": strips}


def _image_panel(view: LayerView, i: int, marks: dict[int, Point], tile: int, text: bool) -> Image.Image:
    """An image of the view, with numbered points."""
    image = view.images[i]
    scale = drawing.scale_for(image.shape[1:], tile)
    panel = drawing.picture(drawing.rgb(image, scale))
    for k, point in marks.items():
        drawing.mark(panel, *_middle(point, scale), COLOURS[k % len(COLOURS)], k + 1)
    panel = drawing.framed(panel, "white")
    label = "" if view.labels is None else f", class {view.labels[i]}"
    return drawing.captioned(panel, f"{view.source}{label}") if text else panel


def _middle(point: Point, scale: int) -> tuple[float, float]:
    """The middle of a pixel after enlargement."""
    return (point[0] + 0.5) * scale - 0.5, (point[1] + 0.5) * scale - 0.5


def _short(value: Tensor) -> str:
    return f"{value.item():.2g}"


MATRICES = ("matrix", "windowed matrix")
STRIPS: dict[str, Callable[..., Parts]] = {
    "matrix": _matrix,
    "windowed matrix": _matrix,
    "channel gate": _channel_gate,
    "spatial gate": _spatial_gate,
    "full gate": _full_gate,
}
