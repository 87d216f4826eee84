"""Means over seeds, their intervals, and differences to a baseline: pure functions, on scipy."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from sagan.ablation.results import Row, metric_names

CONFIDENCE = 0.95
METHOD = (
    "Means are over seeds, with 95 % intervals by Student's t (`scipy.stats.t`). Differences are paired: the variant's "
    "score minus the baseline's with the same seed, with the 95 % interval of the mean difference by Student's t. A "
    "verdict is given only where the interval still excludes 0 when widened so that all {comparisons} comparisons of "
    "this metric with the baseline hold at once with 95 % confidence (Bonferroni)."
)


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What the seeds of a variant say about one metric."""

    variant: str
    metric: str
    seeds: int
    """Finished runs."""
    score: Interval
    pairs: int
    """Seeds that the variant and the baseline both finished."""
    difference: Interval | None
    """To the baseline; None for the baseline itself, and without pairs."""
    simultaneous: Interval | None
    """The difference, with the wider interval that verdicts need."""
    verdict: str


def mean_interval(values: list[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and confidence interval of the mean, by Student's t; the bounds of fewer than two values are NaN."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def lower_is_better(metric: str) -> bool:
    """Return whether a smaller score is better: true of distances and gaps, false of all other scores."""
    return metric.startswith(("fid", "kid", "intra_fid", "agreement_gap"))


def summarize(rows: list[Row], baseline: str) -> list[Summary]:
    """A summary for every variant and metric of the finished rows, in their order."""
    finished = [row for row in rows if row["status"] == "finished"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    metrics = [m for m in metric_names(rows) if not m.endswith("_n") and "_std" not in m and "_n_" not in m]
    lost = Counter(row["variant"] for row in rows if row["status"] in ("diverged", "failed"))
    summaries = []
    for metric in metrics:
        scores = {v: {r["seed"]: r[metric] for r in finished if r["variant"] == v and metric in r} for v in variants}
        reference = scores.get(baseline, {})
        # Those that have an interval: one pair compares nothing.
        comparisons = sum(v != baseline and len(scores[v].keys() & reference.keys()) > 1 for v in variants)
        summaries += [
            _summary(v, metric, scores[v], None if v == baseline else reference, comparisons, lost[v])
            for v in variants
            if scores[v]
        ]
    return summaries


def _summary(
    variant: str, metric: str, scores: dict[int, float], baseline: dict[int, float] | None, comparisons: int, lost: int
) -> Summary:
    score = mean_interval(list(scores.values()))
    seeds = sorted(scores.keys() & (baseline or {}).keys())
    if not seeds:
        return Summary(variant, metric, len(scores), score, 0, None, None, "" if baseline is None else "no pairs")
    differences = [scores[s] - baseline[s] for s in seeds]
    difference = mean_interval(differences)
    simultaneous = mean_interval(differences, 1 - (1 - CONFIDENCE) / max(comparisons, 1))
    verdict = verdict_of(simultaneous, lower_is_better(metric))
    if verdict == "better" and lost:  # the seeds that are left may be the lucky ones
        verdict = f"no verdict, {lost} runs did not finish"
    return Summary(variant, metric, len(scores), score, len(seeds), difference, simultaneous, verdict)


def verdict_of(difference: Interval, lower_better: bool) -> str:
    """What a difference to the baseline shows: better, worse, or nothing."""
    if math.isnan(difference.mean):
        return "no number"
    if math.isnan(difference.low):
        return "one seed shows nothing"
    if difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if (difference.high < 0) == lower_better else "worse"


def summary_rows(summaries: list[Summary]) -> list[Row]:
    """The rows of summary.csv."""
    rows = []
    for s in summaries:
        row: Row = {"variant": s.variant, "metric": s.metric, "seeds": s.seeds}
        row |= {"mean": s.score.mean, "low": s.score.low, "high": s.score.high}
        if s.difference is not None:
            row |= {"pairs": s.pairs, "difference": s.difference.mean}
            row |= {"difference_low": s.difference.low, "difference_high": s.difference.high}
            row |= {"simultaneous_low": s.simultaneous.low, "simultaneous_high": s.simultaneous.high}
        rows.append(row | {"verdict": s.verdict})
    return rows
