"""A summary of results for every variant and metric, with verdicts for a plan's primary comparisons."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sagan.ablation.csv_files import Row
from sagan.ablation.results import ENDED, metric_names
from sagan.ablation.statistics import ALPHA, MIN_PAIRS, Decision, Interval, decide, mean_interval, why_untestable
from sagan.evaluation.directions import is_score, lower_is_better
from sagan.runtime.wording import counted

MIN_INTERVAL = 3
"""Fewest values for which an interval is shown: with two values it spans 25 standard errors and says nothing."""
Role = Literal["baseline", "primary", "exploratory"]


@dataclass(frozen=True)
class Summary:
    """The results of a variant's seeds for one metric."""

    variant: str
    metric: str
    role: Role
    seeds: int
    """Runs that finished with this score."""
    score: Interval
    """Mean over seeds, with its 95 % interval."""
    pairs: int = 0
    """Seeds for which both the variant and the baseline have this score."""
    difference: Interval | None = None
    """Difference from the baseline, with the verdict's interval or an uncorrected one; None without pairs."""
    confidence: float | None = None
    """Confidence of that interval."""
    p: float | None = None
    """p value of the paired t test, adjusted by Holm's method; None without a test."""
    equivalence: Interval | None = None
    """The interval that "equal within the margin" uses; None without a test or a margin."""
    verdict: str = ""
    """Empty for the baseline."""


def summarize(
    rows: list[Row], baseline: str, metric: str, primary: Sequence[str], margin: float | None = None
) -> list[Summary]:
    """Return a summary for every variant and metric of the finished rows, the primary `metric` first.

    The `primary` variants get verdicts on that metric, once all of their runs and of the baseline's have ended: to stop
    as soon as a verdict appears would raise the rate of errors. Everything else is exploratory. `rows` has a row for
    every run of the plan, whatever its state.
    """
    runs = {str(row["variant"]): [r for r in rows if r["variant"] == row["variant"]] for row in rows}
    metrics = sorted(filter(is_score, metric_names(rows)), key=lambda name: name != metric)
    summaries = []
    for name in metrics:
        scores = {v: scores_of(rows, v, name) for v in runs}
        differences = {v: paired_differences(rows, v, baseline, name) for v in runs if v != baseline}
        chosen = {v: differences[v] for v in primary} if name == metric else {}
        found = primary_decisions(runs, baseline, metric, chosen, margin)
        for v in (v for v in runs if scores[v]):
            if v == baseline:
                summaries.append(Summary(v, name, "baseline", len(scores[v]), shown_interval(list(scores[v].values()))))
            elif v in found:
                summaries.append(summary_of(v, name, "primary", scores[v], differences[v], found[v]))
            else:
                summaries.append(summary_of(v, name, "exploratory", scores[v], differences[v], "exploratory"))
    return summaries


def primary_decisions(
    runs: dict[str, list[Row]], baseline: str, metric: str, differences: dict[str, list[float]], margin: float | None
) -> dict[str, Decision | str]:
    """Return the decision on each primary comparison, or why it has no verdict.

    `runs` maps each variant to its rows, `differences` each primary one to its paired differences.
    """
    ended = {v: all(row["status"] in ENDED for row in own) for v, own in runs.items()}
    waiting = {v for v in differences if not (ended[v] and ended.get(baseline))}
    mixed = {v for v in differences if len(protocols([*runs[v], *runs.get(baseline, [])])) > 1}
    found: dict[str, Decision | str] = {}
    for v, decision in decide({v: [] if v in waiting | mixed else d for v, d in differences.items()}, margin).items():
        if v in mixed:
            found[v] = "no verdict: scored under different protocols"
        elif v in waiting and len(runs[v]) >= MIN_PAIRS:
            found[v] = f"no verdict yet: {len(differences[v])} of {counted(len(runs[v]), 'seed')}"
        elif decision is not None:
            found[v] = explained_by_lost_runs(in_words(decision, metric), v, baseline, runs, metric) or decision
        else:
            found[v] = f"no verdict: {why_untestable(differences[v])}"
    return found


def protocols(rows: list[Row]) -> set[str]:
    """Return the digests of the protocols under which runs were scored."""
    return {str(row["protocol"]) for row in rows if "protocol" in row}


def lost_runs(rows: list[Row], metric: str) -> str:
    """Return how many runs of a variant have no final score, such as "1 of 5 runs"; empty if all have one."""
    lost = sum(row["status"] != "finished" or metric not in row for row in rows)
    return f"{lost} of {counted(len(rows), 'run')}" if lost else ""


def unscored(rows: list[Row], metric: str) -> list[Row]:
    """Return the rows of runs that finished without a score: their images did not support the metric."""
    return [row for row in rows if row["status"] == "finished" and metric not in row]


def main_protocol(rows: list[Row]) -> str | None:
    """Return the digest of the protocol under which most runs were scored. Only their scores count.

    Of several such protocols it is that of the first run. Return None if no run, or an old table, has any.
    """
    counts = Counter(str(row["protocol"]) for row in rows if "protocol" in row)
    return counts.most_common(1)[0][0] if counts else None


def of_other_protocols(rows: list[Row]) -> list[Row]:
    """Return the rows of finished runs whose scores do not count, as most runs have another protocol."""
    main = main_protocol(rows)
    return [row for row in rows if row["status"] == "finished" and row.get("protocol") != main]


def scored(rows: list[Row], variant: str, metric: str) -> dict[int, Row]:
    """Return the rows of a variant's runs that have a final score under the main protocol of all `rows`, by seed."""
    main = main_protocol(rows)
    chosen = (row for row in rows if row["variant"] == variant and row["status"] == "finished" and metric in row)
    return {int(row["seed"]): row for row in chosen if row.get("protocol") == main}


def scores_of(rows: list[Row], variant: str, metric: str) -> dict[int, float]:
    """Return a variant's final scores by seed."""
    return {seed: float(row[metric]) for seed, row in scored(rows, variant, metric).items()}


def paired_differences(rows: list[Row], variant: str, baseline: str, metric: str) -> list[float]:
    """Return a variant's scores minus the baseline's, for the seeds that both have."""
    own, other = scores_of(rows, variant, metric), scores_of(rows, baseline, metric)
    return [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]


def shown_interval(values: list[float]) -> Interval:
    """Return the mean and its 95 % interval, without bounds for fewer than MIN_INTERVAL values or equal ones.

    Equal values, such as a recall of 0 in every run, do not show that there is no spread.
    """
    interval = mean_interval(values)
    known = len(values) >= MIN_INTERVAL and min(values) < max(values)
    return interval if known else Interval(interval.mean, math.nan, math.nan)


def summary_of(
    variant: str,
    metric: str,
    role: Role,
    scores: dict[int, float],
    differences: list[float],
    found: Decision | str,
) -> Summary:
    """Return the summary of a comparison from its decision, or from the words in the place of a verdict.

    Without a decision the interval is uncorrected.
    """
    decision = found if isinstance(found, Decision) else None
    return Summary(
        variant,
        metric,
        role,
        seeds=len(scores),
        score=shown_interval(list(scores.values())),
        pairs=len(differences),
        difference=decision.interval if decision else shown_interval(differences) if differences else None,
        confidence=decision.confidence if decision else 1 - ALPHA if differences else None,
        p=decision.p if decision else None,
        equivalence=decision.equivalence if decision else None,
        verdict=found if isinstance(found, str) else in_words(found, metric),
    )


def in_words(decision: Decision, metric: str) -> str:
    """Return a decision as better, worse, equal within the margin, or undecided.

    Raise ValueError if the metric has no better direction.
    """
    if (lower_better := lower_is_better(metric)) is None:
        raise ValueError("a metric without a better direction has no verdicts")
    if decision.outcome == "equal":
        return "equal within the margin"
    if decision.outcome == "undecided":
        return "undecided"
    word = "better" if (decision.outcome == "lower") == lower_better else "worse"
    return f"{word}, but within the margin" if decision.within_margin else word


def explained_by_lost_runs(verdict: str, variant: str, baseline: str, runs: dict[str, list[Row]], metric: str) -> str:
    """Return why there is no verdict if lost runs could explain it, as the others may be the lucky ones; else ""."""
    winners = {"better": [variant], "worse": [baseline], "equal": [variant, baseline]}
    suspects = winners.get(verdict.partition(" ")[0].rstrip(","), [])
    missing = [f"{lost} of {name}" for name in suspects if (lost := lost_runs(runs[name], metric))]
    return f"no verdict: {' and '.join(missing)} without a score" if missing else ""


def summary_rows(summaries: list[Summary]) -> list[Row]:
    """Return the rows of summary.csv; missing bounds are left empty."""
    rows = []
    for s in summaries:
        row: dict[str, str | float | int | None] = {"variant": s.variant, "metric": s.metric, "role": s.role}
        row |= {"seeds": s.seeds, "mean": s.score.mean, "low": s.score.low, "high": s.score.high, "pairs": s.pairs}
        if s.difference is not None:
            row |= {"difference": s.difference.mean, "difference_low": s.difference.low}
            row |= {"difference_high": s.difference.high, "confidence": s.confidence, "p_holm": s.p}
        if s.equivalence is not None:
            row |= {"equivalence_low": s.equivalence.low, "equivalence_high": s.equivalence.high}
        row["verdict"] = s.verdict
        rows.append({k: v for k, v in row.items() if v is not None and v == v})  # NaN is unequal to itself
    return rows
