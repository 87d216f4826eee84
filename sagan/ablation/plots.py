"""Pictures of a report: a score against steps, a score against cost, and the same z and y through every variant."""

import io
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: no window
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import EngFormatter, MaxNLocator

from sagan.ablation.plan import Job
from sagan.ablation.results import Row
from sagan.ablation.statistics import Summary
from sagan.runs.directory import checkpoints
from sagan.runs.networks import load_generator
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import image_grid, to_uint8
from sagan.viewing.capture import fixed_inputs

GRID_IMAGES = 10
COLUMNS = 3  # of small panels


def score_against_steps(curves: list[Row], metric: str, baseline: str, file: Path) -> bool:
    """A panel for each variant: its mean over seeds in front of the baseline's, each in a band from the lowest to the
    highest seed. Says whether there was anything to draw."""
    points = series(curves, metric)
    if not points:
        return False
    others = [v for v in points if v != baseline] or [baseline]
    columns = min(COLUMNS, len(others))
    rows = -(-len(others) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.5 * rows + 0.4), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, variant in zip(axes.flat, others, strict=False):
        for name, color in ((baseline, "0.55"), (variant, "C0")):
            if name in points:
                steps, low, mean, high = points[name]
                axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
                axis.plot(steps, mean, color=color, marker="o", markersize=3, label=name)
        axis.set_title(variant, fontsize=10)
        axis.grid(alpha=0.25)
    for axis in list(axes.flat)[len(others) :]:
        axis.set_visible(False)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel(metric, fontsize=10)
    figure.suptitle(f"mean over seeds, band from lowest to highest seed; grey: {baseline}", fontsize=10)
    save(figure, file)
    return True


def series(curves: list[Row], metric: str) -> dict[str, np.ndarray]:
    """Variant -> rows (steps, lowest, mean, highest) over its seeds, at the steps that all of its seeds have."""
    result = {}
    for variant in dict.fromkeys(row["variant"] for row in curves):
        seeds: dict[int, dict[int, float]] = {}
        for row in curves:
            if row["variant"] == variant and metric in row:
                seeds.setdefault(row["seed"], {})[row["step"]] = row[metric]
        if not seeds:
            continue
        steps = sorted(set.intersection(*(set(s) for s in seeds.values())))
        values = np.array([[s[step] for step in steps] for s in seeds.values()])  # (seeds, steps)
        if steps:
            result[variant] = np.array([steps, values.min(0), values.mean(0), values.max(0)])
    return result


def score_against_cost(summaries: list[Summary], results: list[Row], metric: str, file: Path) -> bool:
    """Each variant's mean score with its 95 % interval over what it costs: parameters, FLOPs, and speed as measured.
    Says whether there was anything to draw."""
    chosen = [s for s in summaries if s.metric == metric]
    if not chosen:
        return False
    costs = {"parameters": "parameters of G and D", "flops": "FLOPs of a forward pass of one image",
             "images_per_second": "images/s in training"}  # fmt: skip
    figure, axes = plt.subplots(1, len(costs), figsize=(4 * len(costs) + 2, 4.4), sharey=True, layout="constrained")
    for axis, (column, label) in zip(axes, costs.items(), strict=True):
        for index, s in enumerate(chosen):
            known = [r[column] for r in results if r["variant"] == s.variant and column in r]
            if not known:
                continue
            x, y = float(np.median(known)), s.score.mean
            error = None if math.isnan(s.score.low) else [[y - s.score.low], [s.score.high - y]]
            style = dict(color=f"C{index % 10}", marker="os^D"[index // 10 % 4], label=s.variant)
            axis.errorbar(x, y, error, linestyle="none", markersize=5, capsize=2, linewidth=0.7, **style)
        axis.set_xlabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(f"{metric}, mean and 95 % interval", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    save(figure, file)
    return True


@torch.no_grad()
def sample_rows(jobs: list[Job], file: Path, seed: int) -> bool:
    """A row of images for every variant that has a checkpoint for a seed, all of the same z and y. Says whether there
    was anything to draw."""
    rows: dict[str, np.ndarray] = {}
    for job in jobs:
        if job.seed == seed and checkpoints(job.run_dir):
            generator = load_generator(job.run_dir)
            z, y = fixed_inputs(generator, GRID_IMAGES)
            grid = image_grid(to_uint8(generator(z, y)), GRID_IMAGES)
            rows[f"{job.variant}\nstep {generator.origin.step}"] = grid.permute(1, 2, 0).numpy()
    if not rows:
        return False
    height, width = next(iter(rows.values())).shape[:2]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(9, (8 * height / width + 0.12) * len(rows)), squeeze=False, layout="constrained"
    )
    for axis, (name, picture) in zip(axes[:, 0], rows.items(), strict=True):
        axis.imshow(picture, interpolation="nearest", aspect="equal")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    save(figure, file)
    return True


def save(figure, file: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    write_atomically(file, lambda f: f.write(buffer.getvalue()))
