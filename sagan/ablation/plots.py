"""Pictures of a report: a forest plot, a score against steps, and a score against cost."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator

from sagan.ablation.comparison import compared
from sagan.ablation.csv_files import Row
from sagan.ablation.figures import DPI, remove, save
from sagan.ablation.labels import label_points
from sagan.ablation.metrics import readable, unit
from sagan.ablation.names import room_for, short_names
from sagan.ablation.plan import Plan
from sagan.ablation.statistics import Interval
from sagan.ablation.styles import GREY, Style
from sagan.ablation.verdicts import MIN_INTERVAL, Summary, paired_differences, scores_of
from sagan.evaluation.directions import direction

COLUMNS = 4  # of small panels
TICKS = 4  # most on the axis of such a panel
SMALL = 8  # font size
BAND, BASELINE_BAND = 0.2, 0.1  # opacity
COSTS = {
    "parameters": "parameters of G and D",
    "flops": "FLOPs per image, forward through G and D",
    "images_per_second": "images/s in training",
}
SAME = 0.02  # costs whose largest and smallest differ by no more than this share
Curve = tuple[list[int], list[float]]
"""Steps, and the score after each."""


def axis_label(metric: str) -> str:
    """Return the label of an axis: the metric and which direction is better."""
    return f"{readable(metric)}{unit(metric)}, {direction(metric)}"


def forest(plan: Plan, results: list[Row], summaries: list[Summary], styles: dict[str, Style]) -> None:
    """Draw every run's score and its difference from the baseline, one line per variant, the best mean on top.

    A variant whose runs do not all have a score says how many have. Nothing is drawn if there is nothing to compare.
    """
    chosen = compared(plan, summaries)
    if len(chosen) < 2:
        return remove(plan.folder / "forest")
    names = short_names(plan.variants)
    size = (9.5 + room_for(names.values()), 0.3 * len(chosen) + 1.4)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for y, summary in enumerate(reversed(chosen)):
        style, scores = styles[summary.variant], scores_of(results, summary.variant, plan.metric)
        dots_and_interval(left, y, list(scores.values()), summary.score, style, 1.2)
        if summary.difference is not None:
            decided = summary.p is not None
            differences = paired_differences(results, summary.variant, plan.baseline, plan.metric)
            dots_and_interval(right, y, differences, summary.difference, style, 2.6 if decided else 1.0)
    reference = next((s.score.mean for s in chosen if s.role == "baseline"), math.nan)
    for axis, value in ((left, reference), (right, 0.0)):
        axis.axvline(value, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axis.grid(axis="x", alpha=0.25)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.tick_params(axis="y", length=0, labelsize=9)
        axis.tick_params(axis="x", labelsize=SMALL)
    if plan.margin:
        right.axvspan(-plan.margin, plan.margin, color=GREY, alpha=0.12, linewidth=0, zorder=0)
    runs = Counter(str(row["variant"]) for row in results)
    lost = {s.variant: f" ({s.seeds} of {runs[s.variant]})" for s in chosen if s.seeds < runs[s.variant]}
    left.set_yticks(range(len(chosen)), [names[s.variant] + lost.get(s.variant, "") for s in reversed(chosen)])
    left.set_ylim(-0.6, len(chosen) - 0.4)
    verdict_names(left, right, list(reversed(chosen)))
    left.set_xlabel(axis_label(plan.metric), fontsize=9)
    right.set_xlabel(textwrap.fill(f"difference to {names[plan.baseline]} with the same seed", 50), fontsize=9)
    handles = list(forest_legend(plan, chosen))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    save(figure, plan.folder / "forest")


def dots_and_interval(
    axis: Axes, y: float, values: list[float], interval: Interval, style: Style, linewidth: float
) -> None:
    """Draw the mean as a marker, the interval as a line if there is one, and every value as a dot below."""
    axis.plot(values, [y - 0.25] * len(values), "o", color=style.color, alpha=0.7, markersize=3.5, markeredgewidth=0)
    if not math.isnan(interval.low):
        axis.plot([interval.low, interval.high], [y, y], color=style.color, linewidth=linewidth, zorder=1)
    axis.plot(interval.mean, y, style.marker, color=style.color, markersize=7, markeredgecolor="white")


def verdict_names(left: Axes, right: Axes, chosen: list[Summary]) -> None:
    """Make the names of primary variants bold, and write the verdicts at the right edge."""
    for text, summary in zip(left.get_yticklabels(), chosen, strict=True):
        text.set_fontweight("bold" if summary.role == "primary" else "normal")
    for y, summary in enumerate(chosen):
        words = summary.verdict.partition(":")[0] or "baseline"
        weight = "bold" if summary.role == "primary" else "normal"
        right.annotate(words, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL, weight=weight)


def forest_legend(plan: Plan, chosen: list[Summary]) -> Iterable[Line2D | Patch]:
    """Yield a legend entry for each kind of mark in the forest plot."""
    yield Line2D([], [], color=GREY, marker="o", linestyle="none", alpha=0.7, markersize=3.5, label="one seed")
    yield Line2D([], [], color=GREY, marker="o", linestyle="none", markersize=7, label="mean")
    if any(s.p is not None for s in chosen):
        yield Line2D([], [], color=GREY, linewidth=2.6, label="the interval that the verdict uses (Holm)")
    if any(not math.isnan(s.score.low) for s in chosen):
        yield Line2D([], [], color=GREY, linewidth=1.0, label="95 % interval, uncorrected (three seeds or more)")
    if plan.margin:
        yield Patch(color=GREY, alpha=0.12, label="within the margin")
    base = short_names(plan.variants)[plan.baseline]
    yield Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label=f"{base} (baseline)")


def score_against_steps(plan: Plan, curves: list[Row], styles: dict[str, Style]) -> None:
    """Draw a panel per variant: its scores against steps, in front of the baseline's. Draw nothing without scores."""
    known = {v: seed_curves(curves, v, plan.metric) for v in styles}
    others = [v for v in known if known[v] and v != plan.baseline]
    if not others and not known.get(plan.baseline):
        return remove(plan.folder / "curves")
    others, names = others or [plan.baseline], short_names(plan.variants)
    steps = sorted({step for by_seed in known.values() for curve in by_seed.values() for step in curve[0]})
    columns = min(COLUMNS, len(others))
    rows = -(-len(others) // columns)
    size = (2.4 * columns + 0.8, 1.8 * rows + 1.0)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, variant in zip(axes.flat, others, strict=False):
        for name in dict.fromkeys((plan.baseline, variant)):
            draw_curves(axis, list(known[name].values()), styles[name], BAND if name == variant else BASELINE_BAND)
        axis.set_title(names[variant], fontsize=9)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=SMALL)
        axis.xaxis.set_major_locator(FixedLocator(steps) if len(steps) <= TICKS else MaxNLocator(TICKS, integer=True))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in list(axes.flat)[len(others) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(len(others) - columns, 0) : len(others)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel("training step", fontsize=9)
    figure.supylabel(axis_label(plan.metric), fontsize=9)
    handles = curve_legend(plan, known, styles)
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=SMALL, frameon=False)
    save(figure, plan.folder / "curves")


def seed_curves(curves: list[Row], variant: str, metric: str) -> dict[int, Curve]:
    """Return seed -> a variant's scores by step."""
    seeds: dict[int, dict[int, float]] = {}
    for row in curves:
        if row["variant"] == variant and metric in row:
            seeds.setdefault(int(row["seed"]), {})[int(row["step"])] = float(row[metric])
    return {seed: (sorted(by_step), [by_step[s] for s in sorted(by_step)]) for seed, by_step in seeds.items()}


def draw_curves(axis: Axes, curves: list[Curve], style: Style, band: float) -> None:
    """Draw complete curves as their mean in a band from lowest to highest seed, and the others seed by seed.

    `band` is the opacity of the band.
    """
    single = drawn_singly(curves)
    complete = [curve for curve in curves if curve not in single]
    look: dict[str, Any] = dict(color=style.color, linestyle=style.dash)
    if complete:
        last, values = complete[0][0], np.array([values for _, values in complete])  # (steps,), (seeds, steps)
        axis.fill_between(last, values.min(0), values.max(0), color=style.color, alpha=band, linewidth=0)
        axis.plot(last, values.mean(0), linewidth=1.6, marker=style.marker, markersize=3, **look)
    for steps, scores in single:
        axis.plot(steps, scores, linewidth=0.8, marker=style.marker, markersize=2, **look)


def drawn_singly(curves: list[Curve]) -> list[Curve]:
    """Return the curves to draw seed by seed: those that miss steps, or all if fewer than MIN_INTERVAL are complete."""
    whole = max((steps for steps, _ in curves), key=len, default=[])
    short = [curve for curve in curves if curve[0] != whole]
    return short if len(curves) - len(short) >= MIN_INTERVAL else curves


def curve_legend(plan: Plan, known: dict[str, dict[int, Curve]], styles: dict[str, Style]) -> list[Line2D | Patch]:
    """Return the legend of the curves."""
    base = styles[plan.baseline]
    curves = [list(by_seed.values()) for by_seed in known.values()]
    look: dict[str, Any] = dict(color=base.color, marker=base.marker, markersize=3)
    handles: list[Line2D | Patch] = []
    if known[plan.baseline]:
        handles.append(Line2D([], [], label=f"{short_names(plan.variants)[plan.baseline]}, baseline", **look))
    if any(len(drawn_singly(of)) < len(of) for of in curves):
        handles.append(Line2D([], [], color=GREY, linewidth=1.6, label="mean over seeds"))
        handles.append(Patch(color=GREY, alpha=BAND, linewidth=0, label="lowest to highest seed, from three seeds on"))
    if any(map(drawn_singly, curves)):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="one seed"))
    return handles


def score_against_cost(plan: Plan, results: list[Row], summaries: list[Summary], styles: dict[str, Style]) -> None:
    """Draw the mean score of each compared variant, with its interval, against its costs, with a name at each point.

    There is a panel for each cost that differs between variants, and no figure if none does.
    """
    chosen = compared(plan, summaries)
    costs = {column: median_costs(results, column, [s.variant for s in chosen]) for column in COSTS}
    shown = [column for column, known in costs.items() if len(known) > 1 and differ(list(known.values()))]
    if len(chosen) < 2 or not shown:
        return remove(plan.folder / "cost")
    size = (4.3 * len(shown), 4.4)
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained", dpi=DPI)
    scores, names = {s.variant: s.score for s in chosen}, short_names(plan.variants)
    for axis, column in zip(axes.flat, shown, strict=True):
        for variant, cost in costs[column].items():
            point_and_interval(axis, cost, scores[variant], styles[variant])
        axis.margins(0.14)
        missing = ", ".join(names[v] for v in scores if v not in costs[column])
        lines = [COSTS[column], *textwrap.wrap(f"not measured: {missing}" if missing else "", 45)]
        axis.set_xlabel("\n".join(lines), fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.tick_params(labelsize=SMALL)
        axis.grid(alpha=0.25)
    few = "; hollow: no interval" if any(math.isnan(score.low) for score in scores.values()) else ""
    axes[0, 0].set_ylabel(f"mean {axis_label(plan.metric)}{few}", fontsize=9)
    figure.canvas.draw()  # makes the layout final
    figure.set_layout_engine("none")
    for axis, column in zip(axes.flat, shown, strict=True):
        points = {v: (cost, scores[v].mean) for v, cost in costs[column].items()}
        spans = [(x, scores[v].low, scores[v].high) for v, (x, _) in points.items() if not math.isnan(scores[v].low)]
        colors = {names[v]: styles[v].color for v in points}
        label_points(axis, {names[v]: point for v, point in points.items()}, colors, 7.5, spans)
    save(figure, plan.folder / "cost")


def median_costs(results: list[Row], column: str, variants: list[str]) -> dict[str, float]:
    """Return variant -> the median of a cost over its runs, for those that have it."""
    runs = {v: [float(row[column]) for row in results if row["variant"] == v and column in row] for v in variants}
    return {variant: float(np.median(known)) for variant, known in runs.items() if known}


def differ(costs: list[float]) -> bool:
    """Return whether costs differ by more than SAME."""
    return max(costs) > (1 + SAME) * min(costs)


def point_and_interval(axis: Axes, x: float, score: Interval, style: Style) -> None:
    """Draw a mean as a marker, hollow without an interval, and the interval as a thin line."""
    hollow = math.isnan(score.low)
    if not hollow:
        axis.plot([x, x], [score.low, score.high], color=style.color, linewidth=0.7, alpha=0.4, zorder=1)
    face, edge = ("white", style.color) if hollow else (style.color, "white")
    size, order = (7.5, 2) if style.marker == "s" else (6, 3)  # a circle hides no square
    axis.plot(x, score.mean, style.marker, color=face, markersize=size, markeredgecolor=edge, zorder=order)
