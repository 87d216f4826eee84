"""The comparisons of a plan's primary metric with the baseline, in tables and in words."""

import math
from collections import Counter
from dataclasses import replace

from sagan.ablation.csv_files import Row
from sagan.ablation.metrics import readable
from sagan.ablation.plan import Plan
from sagan.ablation.statistics import ALPHA, Interval
from sagan.ablation.tables import Table, markdown
from sagan.ablation.verdicts import Summary, of_other_protocols, unscored
from sagan.evaluation.directions import direction, lower_is_better
from sagan.runtime.wording import counted

MOST_DECIMALS = 8  # the tables have as many digits
METHOD = (
    "Means are over seeds, with 95 % intervals by Student's t. Differences are paired: the variant's score minus the "
    "baseline's with the same seed. Verdicts come from paired t tests with Holm's correction for {tests}, so the "
    "chance that at least one of them calls a variant better or worse when it is neither is at most 5 %. The interval "
    "beside a verdict is the one that the verdict uses. Its confidence is 1 minus the level at which Holm's method "
    "tested that comparison, and it excludes 0 exactly if the verdict is better or worse. If there is no verdict, the "
    "interval is an uncorrected 95 % one, and whether it excludes 0 decides nothing."
)
EQUIVALENCE = (
    'The plan calls differences below {margin:g} too small to matter. "Equal within the margin" is the verdict of two '
    "one-sided t tests, also with Holm's correction and a chance of at most 5 % that any is wrong, in addition to the "
    "5 % for better and worse. The interval for equality then lies between -{margin:g} and {margin:g}."
)


def comparison(plan: Plan, results: list[Row], summaries: list[Summary]) -> list[str]:
    """Return the section of the report on the plan's primary metric."""
    lines = [f"## {readable(plan.metric)} against `{plan.baseline}`", ""]
    chosen = compared(plan, summaries)
    if len(chosen) < 2:
        lines += ["Nothing can be compared: no variant has two seeds with scores in common with the baseline.", ""]
        return lines + not_counted(plan, results)
    tests = counted(len(plan.compared), "primary comparison")
    primary, exploratory = comparison_tables(plan, summaries)
    lines += [f"The column `{plan.metric}` of the tables; {direction(plan.metric)}. Sorted by mean.", ""]
    if plan.compared:
        lines += [f"### {tests[0].upper()}{tests[1:]}, fixed by the plan", "", *markdown(primary), ""]
        lines += [*in_sentences(plan, chosen), METHOD.format(tests=f"the plan's {tests}"), ""]
        lines += [EQUIVALENCE.format(margin=plan.margin), ""] if plan.margin else []
    if exploratory.rows:
        lines += ["### Exploratory comparisons", "", *markdown(exploratory), "", *caution(chosen)]
    return lines + not_counted(plan, results) + left_out(plan, summaries)


def compared(plan: Plan, summaries: list[Summary]) -> list[Summary]:
    """Return the summaries of the baseline and of variants that share at least two seeds with it, best mean first."""
    chosen = [s for s in summaries if s.metric == plan.metric and (s.role == "baseline" or s.pairs > 1)]
    return sorted(chosen, key=lambda s: s.score.mean, reverse=not lower_is_better(plan.metric))


def comparison_tables(plan: Plan, summaries: list[Summary]) -> tuple[Table, Table]:
    """Return the tables of the primary comparisons, with the baseline, and of the exploratory ones.

    If the plan has no primary comparison, the baseline is in the other table.
    """
    equality = ["interval for equality"] if plan.margin else []
    head = ["variant", "seeds", "mean", f"difference to `{plan.baseline}`", "confidence", "p (Holm)", *equality]
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for s in compared(plan, summaries):
        confidence = "" if s.difference is None or math.isnan(s.difference.low) else percent(s.confidence or 0)
        p = "" if s.p is None else f"{s.p:.3f}" if s.p >= 0.001 else "< 0.001"
        pairs = f" ({counted(s.pairs, 'pair')})" if s.difference and s.pairs < s.seeds else ""
        row = [
            f"`{s.variant}`",
            str(s.seeds),
            interval_text(s.score),
            f"{interval_text(s.difference)}{pairs}",
            confidence,
            p,
        ]
        row += [bounds(s.equivalence)] if plan.margin else []
        rows[s.role == "exploratory" or not plan.compared].append([*row, s.verdict or "baseline"])
    align = "lrllrr" + "l" * len(equality) + "l"
    primary, exploratory = (Table([*head, "verdict"], align, rows[kind]) for kind in (False, True))
    return primary, exploratory


def narrow_comparison_tables(plan: Plan, summaries: list[Summary]) -> list[Table]:
    """Return the tables of the comparisons, with verdicts short enough for a printed page."""
    tables = comparison_tables(plan, summaries)
    return [replace(t, rows=[[*row[:-1], row[-1].partition(":")[0]] for row in t.rows]) for t in tables]


def in_sentences(plan: Plan, chosen: list[Summary]) -> list[str]:
    """Return what the primary comparisons show, in words, with a blank line after each."""
    primary = [s for s in chosen if s.role == "primary"]
    lines = []
    for s in primary:
        if s.verdict.startswith(("better", "worse")):
            word, _, rest = s.verdict.partition(",")
            lines.append(f"`{s.variant}` is {word} than `{plan.baseline}`{',' if rest else ''}{rest}.")
        elif s.verdict.startswith("equal"):
            lines.append(f"`{s.variant}` is equal to `{plan.baseline}` within the margin of {plan.margin:g}.")
    undecided = [f"`{s.variant}`" for s in primary if s.verdict == "undecided"]
    if undecided:
        lines.append(
            f"Undecided: {', '.join(undecided)}. That does not prove equality. The width of an interval says how large "
            "a difference could have gone unnoticed."
        )
    reasons = dict.fromkeys(s.verdict for s in primary if s.verdict.startswith("no verdict"))
    for reason in reasons:
        names = ", ".join(f"`{s.variant}`" for s in primary if s.verdict == reason)
        lines.append(f"{names}: {reason}.")
    return [line for text in lines for line in (text, "")]


def caution(chosen: list[Summary]) -> list[str]:
    """Return a caution about how to read the intervals of exploratory comparisons."""
    explored = [s.difference for s in chosen if s.role == "exploratory" and s.difference]
    number = sum(not math.isnan(interval.low) for interval in explored)
    if number == 0:
        return ["No verdicts, and no intervals: these variants have too few seeds.", ""]
    many = "one in twenty such intervals excludes 0 by chance alone"
    if number > 1:
        many = f"of {number} such intervals about {number * ALPHA:.1f} exclude 0 by chance alone"
    return [f"No verdicts: the intervals are 95 % each, without a correction, and {many}.", ""]


def left_out(plan: Plan, summaries: list[Summary]) -> list[str]:
    """Return a line about the variants that have scores but share fewer than two seeds with the baseline."""
    few = [s for s in summaries if s.metric == plan.metric and s.role != "baseline" and s.pairs < 2]
    names = ", ".join(f"`{s.variant}`" for s in few)
    return [f"Not compared, with fewer than two seeds in common with `{plan.baseline}`: {names}.", ""] if few else []


def not_counted(plan: Plan, results: list[Row]) -> list[str]:
    """Return a line for each reason why no mean of the plan's metric includes some runs that have ended."""
    reasons = {
        f"Without a score, as {readable(plan.metric)} is undefined for their images": unscored(results, plan.metric),
        "Diverged": [row for row in results if row["status"] == "diverged"],
        "Scored under another protocol than most": of_other_protocols(results),
    }
    lines = [f"{reason}: {of_variants(rows, results)}." for reason, rows in reasons.items() if rows]
    return [line for text in lines for line in (text, "")]


def of_variants(rows: list[Row], results: list[Row]) -> str:
    """Return how many of each variant's runs `rows` has, such as "1 of 5 runs of `se`"."""
    counts, of = (Counter(str(row["variant"]) for row in some) for some in (rows, results))
    return ", ".join(f"{n} of {counted(of[variant], 'run')} of `{variant}`" for variant, n in counts.items())


def percent(fraction: float) -> str:
    """Return a fraction as a percentage, with three significant digits."""
    return f"{100 * fraction:.3g} %"


def interval_text(interval: Interval | None) -> str:
    """Return an interval as `1.23 [1.20, 1.26]`, or the mean alone if there are no bounds."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return f"{interval.mean:.4g}"
    return f"{with_decimals(interval.mean, decimals(interval))} {bounds(interval)}"


def bounds(interval: Interval | None) -> str:
    """Return the bounds of an interval as `[1.20, 1.26]`, or an empty text if there are none."""
    if interval is None or math.isnan(interval.low):
        return ""
    low, high = (with_decimals(bound, decimals(interval)) for bound in (interval.low, interval.high))
    return f"[{low}, {high}]"


def with_decimals(value: float, places: int) -> str:
    """Return a value with a number of decimals, and 0 without a sign."""
    return f"{round(value, places) + 0.0:.{places}f}"  # -0.0 + 0.0 is 0.0


def decimals(interval: Interval) -> int:
    """Return how many decimals an interval is worth: those of two significant digits of half its width, at most 8.

    There are more if a bound would look like 0 and is not.
    """
    half = (interval.high - interval.low) / 2
    places = 4 if half <= 0 or not math.isfinite(half) else min(MOST_DECIMALS, max(0, 1 - math.floor(math.log10(half))))
    while places < MOST_DECIMALS and any(b != 0 and round(b, places) == 0 for b in (interval.low, interval.high)):
        places += 1
    return places
