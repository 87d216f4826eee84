"""Figures as PNG, SVG and PDF files, the same bytes for the same figure; and labels that do not overlap."""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot, so that no window opens
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sagan.runtime.files import write_atomically

# No dates, and no names of programs with their versions.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FIXED: Any = {"svg.hashsalt": "sagan", "pdf.fonttype": 42}  # reproducible ids; selectable text
DPI = 130
TURNS = np.deg2rad([0, 180, 90, 270, 45, 135, 225, 315, 22, 158, 202, 338])
DARK = "#222222"
DISTANCES = (11, 16, 26, 40, 60, 85, 115, 150)  # points
GAP = 3  # points between a name and whatever is next to it


def save(figure: Figure, stem: Path, kinds: tuple[str, ...] = tuple(METADATA)) -> None:
    """Write a figure as STEM.png and so on, each file completely or not at all, and close it."""
    with matplotlib.rc_context(FIXED):
        for kind in kinds:
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=DPI, format=kind, metadata=METADATA[kind], bbox_inches="tight")
            write_atomically(stem.with_name(f"{stem.name}.{kind}"), lambda f, b=buffer: f.write(b.getvalue()))
    plt.close(figure)


def remove(stem: Path) -> None:
    """Delete the files of a figure that an earlier report had."""
    for kind in METADATA:
        stem.with_name(f"{stem.name}.{kind}").unlink(missing_ok=True)


def label_points(axes: Axes, points: dict[str, tuple[float, float]], fontsize: float) -> None:
    """Write the names of points next to them, as near as possible without covering a point or another name.

    Call it when the layout of the figure is final. A thin line joins a name to its point if it is far away.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, scale = figure.canvas.get_renderer(), figure.dpi / 72  # pyright: ignore[reportAttributeAccessIssue]
    places = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in places.values()]
    frame = axes.get_window_extent(renderer).padded(-GAP * scale)
    for name in sorted(points, key=lambda n: (-places[n][1], n)):
        text = axes.annotate(
            name,
            points[name],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=fontsize,
            color=DARK,
        )
        box = text.get_window_extent(renderer)
        offset = free_place(places[name], box, taken, frame, scale)
        text.set_position((offset[0] / scale, offset[1] / scale))
        taken.append(text.get_window_extent(renderer).padded(GAP * scale))
        distance = float(np.hypot(*offset)) / scale - box.width / scale / 2
        if distance > DISTANCES[0]:
            arrow = dict(arrowstyle="-", color=DARK, linewidth=0.5, alpha=0.6, shrinkA=0, shrinkB=3)
            axes.annotate("", points[name], xytext=text.get_position(), textcoords="offset points", arrowprops=arrow)
            text.set_zorder(5)


def free_place(place: np.ndarray, box: Bbox, taken: list[Bbox], frame: Bbox, scale: float) -> np.ndarray:
    """Return the nearest offset, in pixels, at which a box near a point covers nothing, or else the least bad one."""
    best, least = np.zeros(2), float("inf")
    for distance in DISTANCES:
        for turn in TURNS:
            reach = np.array([box.width / 2 + distance * scale * 0.6, box.height / 2 + distance * scale * 0.6])
            offset = np.array([np.cos(turn), np.sin(turn)]) * reach
            x, y = place + offset
            candidate = Bbox.from_bounds(x - box.width / 2, y - box.height / 2, box.width, box.height)
            covered = sum(_area(Bbox.intersection(candidate, other)) for other in taken)
            outside = box.width * box.height - _area(Bbox.intersection(candidate, frame))
            if covered + 10 * outside < least:
                best, least = offset, covered + 10 * outside
            if least <= 0:
                return best
    return best


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else box.width * box.height
