"""Quality versus variety: the scores of a generator at several truncations of its latent vectors."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sagan.config import EvaluationConfig
from sagan.data import Dataset
from sagan.evaluation import Extractor, Scores, evaluate
from sagan.evaluation.scores import NEIGHBOURS, suffix
from sagan.models.generator import Generator
from sagan.models.image_sampler import image_sampler
from sagan.models.origin import origin_of
from sagan.runtime.files import write_atomically
from sagan.runtime.pictures import free_path
from sagan.sampling.images import progress

TRUNCATIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 0.0)  # standard deviations of z; 0: no truncation
NUM = 1000  # images at each, by default
FEWEST = NEIGHBOURS + 1  # of each kind, for precision and recall
MEASURES = {"precision": "precision", "recall": "recall", "kid_mean": "KID", "fid": "Fréchet distance"}

Rows = list[tuple[float, dict[str, float]]]
"""Truncation and scores, by the names of MEASURES."""


def truncation_curve(
    generator: Generator, real: Dataset, extractor: Extractor, config: EvaluationConfig, batch_norm: str
) -> tuple[Rows, Scores]:
    """Return the scores at each of TRUNCATIONS, and the complete Scores of the last, which is not truncated.

    Precision is the share of generated images within the manifold of the real ones (quality). Recall is the share of
    real images within the manifold of the generated ones (variety). Source: Kynkäänniemi et al. 2019; Brock et al.
    2019, section 3.1.
    """
    ending, origin = suffix(extractor.name), origin_of(generator)
    found = [
        evaluate(
            image_sampler(generator, config.seed, truncation),
            num_classes=generator.num_classes,
            real=real,
            extractor=extractor,
            config=replace(config, truncation=truncation),
            protocol={"step": origin.step, "ema": origin.averaged, "batch_norm": batch_norm},
            class_names=origin.class_names,
        )
        for truncation in progress(TRUNCATIONS, "truncations")
    ]
    rows = [
        (truncation, {name: scores.values[name + ending] for name in MEASURES})
        for truncation, scores in zip(TRUNCATIONS, found, strict=True)
    ]
    return rows, found[-1]


def named(truncation: float) -> str:
    """Return a truncation as text."""
    return f"{truncation:g}" if truncation else "none"


def as_table(rows: Rows) -> str:
    """Return the scores as a table for a terminal."""
    head = ["truncation", *MEASURES.values()]
    lines = [[named(t), *(f"{scores[name]:.4g}" for name in MEASURES)] for t, scores in rows]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in (head, *lines))


def save_curve(rows: Rows, path: Path, extractor: str, title: str, overwrite: bool) -> list[Path]:
    """Write the plot and, beside it, a table of the same name with the suffix .csv; return both paths.

    Unless `overwrite`, a different plot at `path` is kept, and this one's name gets a suffix.
    """
    plot = _plot(rows, path.suffix[1:].replace("jpg", "jpeg"), extractor, title)
    path = path if overwrite else free_path(path, plot)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truncation", *(name + suffix(extractor) for name in MEASURES)])
    writer.writerows([[t, *(scores[name] for name in MEASURES)] for t, scores in rows])
    table = path.with_suffix(".csv")
    write_atomically(table, lambda file: file.write(text.getvalue().encode()))
    write_atomically(path, lambda file: file.write(plot))
    return [path, table]


def _plot(rows: Rows, kind: str, extractor: str, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    points = [(scores["recall"], scores["precision"]) for _, scores in rows]
    left.plot(*zip(*points, strict=True), marker="o")
    for (truncation, _), point in zip(rows, points, strict=True):
        left.annotate(named(truncation), point, textcoords="offset points", xytext=(6, 4), fontsize=8)
    left.set(xlabel="recall (variety)", ylabel="precision (quality)", title="at each truncation")
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ticks: Sequence[int] = range(len(rows))
    right.plot(ticks, [scores["fid"] for _, scores in rows], marker="o")
    right.set_xticks(ticks, [named(t) for t, _ in rows])
    right.set(xlabel="truncation, standard deviations", ylabel="Fréchet distance (lower is better)")
    right.set_ylim(0, 1.1 * max(scores["fid"] for _, scores in rows))
    figure.suptitle(f"{title}; features of {extractor}", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()
