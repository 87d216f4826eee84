"""`sagan ablate PLAN --power`: what a plan's seeds can show, and how many seeds a given difference needs, as text."""

from sagan.ablation.metrics import readable
from sagan.ablation.plan import Plan
from sagan.ablation.power import MOST_SEEDS, POWER, deviation_interval, seeds_needed, smallest_effect
from sagan.ablation.results import collect
from sagan.ablation.statistics import ALPHA, MIN_PAIRS
from sagan.ablation.variants import Job
from sagan.ablation.verdicts import paired_differences
from sagan.config import ConfigError, UserError
from sagan.runtime.wording import counted

Deviations = dict[str, tuple[float, tuple[float, float] | None]]
"""Comparison -> standard deviation of its paired differences, and, if it was estimated, its bounds."""


def power_table(plan: Plan, jobs: list[Job], deviation: float | None, wanted: float | None) -> str:
    """Return a table with a row for each primary comparison, or a single one for a given standard deviation.

    Raise ConfigError if the plan has no primary comparisons, UserError if no standard deviation is known.
    """
    if not plan.compared:
        raise ConfigError(f"{plan.file}: primary: no comparisons: --power is about those that get a verdict")
    known: Deviations = {"as given": (deviation, None)} if deviation else known_deviations(plan, jobs)
    level, pairs = ALPHA / len(plan.compared), max(len(plan.seeds), MIN_PAIRS)
    head = ["comparison", "standard deviation", f"{pairs} seeds can show"]
    rows = [head + ([f"seeds for {wanted:g}"] if wanted else [])]
    for name, (value, bounds) in known.items():
        shown = f"{value:.3g}" + (f" [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else "")
        row = [name, shown, f"{smallest_effect(pairs, level) * value:.3g}" if value else "any difference"]
        if wanted:
            seeds = seeds_needed(wanted / value, level) if value else MIN_PAIRS
            row.append(f"{seeds}" if seeds else f"more than {MOST_SEEDS}")
        rows.append(row)
    return "\n".join([*explanation(plan, level), "", *aligned(rows), "", *notes(known)])


def known_deviations(plan: Plan, jobs: list[Job]) -> Deviations:
    """Return the standard deviations in the results, with 95 % bounds. Raise UserError if there are none."""
    results, _ = collect(jobs, plan.folder)
    known: Deviations = {}
    for variant in plan.compared:
        differences = paired_differences(results, variant, plan.baseline, plan.metric)
        if len(differences) > 1:
            value, low, high = deviation_interval(differences)
            known[f"{variant} - {plan.baseline} ({len(differences)} seeds)"] = value, (low, high)
    if not known:
        raise UserError(
            f"{plan.folder / 'results.csv'}: no primary variant has two seeds in common with {plan.baseline} yet; "
            "give a standard deviation of paired differences: --power_sd SD"
        )
    return known


def explanation(plan: Plan, level: float) -> list[str]:
    """Return the lines above the table."""
    count = len(plan.compared)
    size = f", size {plan.size}" if plan.size else ""
    seeds = counted(len(plan.seeds), "seed")
    few = f"; a verdict needs at least {MIN_PAIRS}" if len(plan.seeds) < MIN_PAIRS else ""
    tests = f"{count} primary comparison{'s' if count > 1 else ''} with {plan.baseline}"
    return [
        f"{plan.name}{size}: {readable(plan.metric)}, {tests}. The plan has {seeds}{few}.",
        f"The smallest true difference found with a chance of {POWER:.0%} by a paired t test at level {level:.2%}",
        f"({ALPHA:.0%} by Holm's method, at its strictest step), and the seeds that a wanted difference needs.",
    ]


def notes(known: Deviations) -> list[str]:
    """Return notes on how far to trust the standard deviations."""
    lines = ["The standard deviation is that of the paired differences: variant minus baseline with the same seed."]
    if any(bounds for _, bounds in known.values()):
        lines += [
            "In brackets: its 95 % interval. An estimate from few seeds is rough, and so is what follows from it:",
            "give a cautious value with --power_sd.",
        ]
    return lines


def aligned(rows: list[list[str]]) -> list[str]:
    """Return rows as lines, the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "   ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
