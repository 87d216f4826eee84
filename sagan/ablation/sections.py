"""The other sections of report.md: what was run, all scores, costs, endings, pictures, commands."""

import itertools
import math
import shlex
from collections import Counter
from dataclasses import replace
from statistics import fmean, median, stdev

from sagan.ablation.comparison import interval_text
from sagan.ablation.csv_files import Row
from sagan.ablation.metrics import name_and_network, readable, unit
from sagan.ablation.names import numbered_names
from sagan.ablation.plan import Plan
from sagan.ablation.results import ENDED
from sagan.ablation.statistics import MIN_PAIRS
from sagan.ablation.tables import PRINTED_WIDTH, Table, fitting, markdown
from sagan.ablation.variants import Job
from sagan.ablation.verdicts import Summary, protocols, scores_of
from sagan.evaluation.directions import direction
from sagan.runtime.wording import counted

SIGNS = {"saturated": "warned: D saturated", "vanished": "warned: G collapsed"}  # of training.health.CollapseWatch
COSTS = {
    "parameters": ("parameters", "{:,.0f}"),
    "flops": ("MFLOPs per image", "{:,.1f}"),
    "images_per_second": ("images/s", "{:.0f}"),
    "peak_memory_gib": ("peak memory, GiB", "{:.2f}"),
    "gamma_generator": ("mean abs. gamma in G", "{:.3f}"),
    "gamma_discriminator": ("in D", "{:.3f}"),
}
VERDICTS_WAIT = (
    " A comparison of at least five seeds gets its verdict once all of its runs have ended: stopping as soon as a "
    "verdict appears would raise the error rate."
)
MIXED = (
    "**The runs were scored under different protocols** (the column `protocol` of results.csv). Scores of different "
    "protocols must not be compared: only those of the most frequent one count."
)
GAP = readable("agreement_gap")
REPRODUCED = "To reproduce the whole plan:"
"""A line of every report, by which its folder is known."""


def heading(plan: Plan, results: list[Row], changes: list[str]) -> list[str]:
    """Return the question and the progress of the runs, with the `changes` of the design since the first results."""
    counts = Counter(str(row["status"]) for row in results)
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    seeds = "seed" if len(plan.seeds) == 1 else "seeds"
    size = f", size `{plan.size}`" if plan.size else ""
    explored = f" (exploratory variants: {numbers(plan.exploratory_seeds)})" if plan.exploratory_seeds else ""
    to_come = sum(n for state, n in counts.items() if state not in ENDED)
    interim = [
        "**The plan is not complete.**" + (VERDICTS_WAIT if plan.compared and len(plan.seeds) >= MIN_PAIRS else ""),
        "",
    ]
    return [
        f"# {plan.name}{size}",
        "",
        plan.question.strip(),
        "",
        f"{counted(len(plan.variants), 'variant')} of `{plan.preset}`, {seeds} {numbers(plan.seeds)}{explored}: "
        f"{counted(len(results), 'run')}, of which {states}. This page is made by `sagan ablate` from the records of "
        "the runs.",
        "",
        *(interim if to_come else []),
        *reservations(results, changes),
    ]


def reservations(results: list[Row], changes: list[str]) -> list[str]:
    """Return warnings about different protocols and about `changes` of the design, if there are any."""
    lines = [MIXED, ""] if len(protocols(results)) > 1 else []
    if changes:
        changed = f"**The design was changed after the first results**: {'; '.join(changes)}."
        lines += [f"{changed} A verdict is valid only for a design that is fixed before its runs.", ""]
    return lines


def numbers(values: list[int]) -> str:
    """Return numbers as text, separated by commas."""
    return ", ".join(map(str, values))


def noise(plan: Plan, results: list[Row]) -> list[str]:
    """Return how much scores vary with the training seed, and with the draw of z for the same weights."""
    column, rows = f"{plan.metric}_noise", []
    for variant in dict.fromkeys(str(row["variant"]) for row in results):
        scores = list(scores_of(results, variant, plan.metric).values())
        measured = [row for row in results if row["variant"] == variant and column in row]
        if measured:
            over_z = math.sqrt(fmean(float(row[column]) ** 2 for row in measured))
            over_seeds = f"{stdev(scores):.3g}" if len(scores) > 1 else ""
            draws = median(int(row["noise_draws"]) for row in measured)
            rows.append([f"`{variant}`", str(len(scores)), over_seeds, f"{draws:g}", f"{over_z:.3g}"])
    if not rows:
        return []
    head = ["variant", "seeds", "standard deviation over seeds", "draws of z", "standard deviation over draws"]
    return [
        "## Seed noise and evaluation noise",
        "",
        *markdown(Table(head, "lrrrr", rows)),
        "",
        f"{readable(plan.metric)}. Each run's final weights were scored on several draws of z; the last column is the "
        "root mean square over the runs. The variation over seeds contains that of one draw.",
        "",
    ]


def scores_table(summaries: list[Summary]) -> Table:
    """Return every metric of every variant."""
    metrics = list(dict.fromkeys(s.metric for s in summaries))
    cells = {(s.variant, s.metric): s for s in summaries}
    rows = []
    for variant in dict.fromkeys(s.variant for s in summaries):
        known = [cells.get((variant, m)) for m in metrics]
        seeds = max(s.seeds for s in known if s)
        few = [f" ({s.seeds} of {seeds})" if s and s.seeds < seeds else "" for s in known]
        scores = [f"{interval_text(s.score)}{of}" if s else "" for s, of in zip(known, few, strict=True)]
        rows.append([f"`{variant}`", str(seeds), *scores])
    return Table(["variant", "seeds", *map(readable, metrics)], "lr" + "l" * len(metrics), rows)


def narrow_scores_tables(summaries: list[Summary]) -> list[Table]:
    """Return the table of every metric in parts that fit a printed page, each of one feature extractor."""
    named = [name_and_network(metric) for metric in dict.fromkeys(s.metric for s in summaries)]
    whole = scores_table(summaries)
    whole = replace(whole, head=[*whole.head[:2], *(name for name, _ in named)])
    widths = [max(map(len, column)) for column in zip(whole.head, *whole.rows, strict=True)]
    tables = []
    for network, group in itertools.groupby(range(2, len(widths)), lambda column: named[column - 2][1]):
        for columns in fitting(list(group), widths, PRINTED_WIDTH - sum(widths[:2])):
            tables.append(part_of(whole, [0, 1, *columns], network))
    return tables or [whole]


def part_of(whole: Table, columns: list[int], network: str) -> Table:
    """Return some columns of a table, with the network of their features in a note."""
    head, *rows = ([line[i] for i in columns] for line in (whole.head, *whole.rows))
    note = f"Features of {network}." if network else "Gaps: degrees, or share of cells." if GAP in head else ""
    return Table(head, "".join(whole.align[i] for i in columns), rows, note)


def all_scores(summaries: list[Summary]) -> list[str]:
    """Return the table of every metric of every variant."""
    if not summaries:
        return []
    directions = (f"{readable(m)}{unit(m)}: {direction(m)}" for m in dict.fromkeys(s.metric for s in summaries))
    return [
        "## All scores",
        "",
        *markdown(scores_table(summaries)),
        "",
        "Means with 95 % intervals, from three seeds on, and none if all seeds have the same value. The intervals "
        f"ignore that some scores are bounded, for example by 0 and 1. {'; '.join(directions)}.",
        "",
    ]


def costs(results: list[Row]) -> list[str]:
    """Return the cost of each variant: medians over its runs."""
    rows = []
    for variant in dict.fromkeys(str(row["variant"]) for row in results):
        cells = [f"`{variant}`"]
        for column, (_, form) in COSTS.items():
            known = [float(row[column]) for row in results if row["variant"] == variant and column in row]
            cells.append(form.format(median(known) / (1e6 if column == "flops" else 1)) if known else "")
        rows.append(cells)
    if not rows:
        return []
    return [
        "## Cost of each variant, and gain of its attention",
        "",
        "Medians over the runs. FLOPs are those of one image's forward pass through G and D, with a multiply-add "
        "counted as two, as this program computes it: convolutions fused with resampling need fewer than the plain "
        "ones of the definition. images/s depend on what else the machine was doing. gamma is the gain of the "
        "attention at the end: near 0, the network does without attention.",
        "",
        *markdown(Table(["variant", *(title for title, _ in COSTS.values())], "l" + "r" * len(COSTS), rows)),
        "",
    ]


def endings(results: list[Row], metric: str) -> list[str]:
    """Return how many runs diverged, collapsed or failed, and list the runs without a final score on the metric."""
    rows = []
    for variant in dict.fromkeys(str(row["variant"]) for row in results):
        chosen = [row for row in results if row["variant"] == variant]
        states, ended = Counter(row["status"] for row in chosen), [row for row in chosen if row["status"] in ENDED]
        signs = Counter(sign for row in ended for sign in str(row.get("warnings", "")).split())
        counts = (len(ended), states["diverged"], *(signs[sign] for sign in SIGNS), states["failed"])
        rows.append([f"`{variant}`", *map(str, counts)])
    table = Table(["variant", "runs that ended", "diverged", *SIGNS.values(), "failed"], "lrrrrr", rows)
    lines = ["## Divergence and collapse", "", *markdown(table), ""]
    lines += ["A run may warn of collapse and still recover.", ""]
    rest = [row for row in results if row["status"] != "finished" or metric not in row]
    if rest:
        lines += ["## Runs without a final score", ""]
        for row in rest:
            undefined = f"{readable(metric)} is undefined for the images" if row["status"] == "finished" else ""
            reason = undefined or row.get("reason")
            reason = f": {reason}" if reason else ""
            lines.append(f"- `{row['variant']}`, seed {row['seed']}: {row['status']}{reason}")
        lines.append("")
    return lines


def gallery(plan: Plan) -> list[str]:
    """Return the existing pictures, with links to their vector files, and what they call a variant by a number."""
    titles = {
        "forest": f"{readable(plan.metric)} of every run, and differences to `{plan.baseline}`",
        "curves": f"{readable(plan.metric)} against steps",
        "cost": f"{readable(plan.metric)} against cost",
        "samples": f"The same z and y through the variants whose runs were at hand, seed {plan.seeds[0]}",
    }
    lines = []
    for name, title in titles.items():
        if (plan.folder / f"{name}.png").is_file():
            kinds = [kind for kind in ("svg", "pdf") if (plan.folder / f"{name}.{kind}").is_file()]
            vectors = [f"[{kind.upper()}]({name}.{kind})" for kind in kinds]
            lines += [f"## {title}", "", f"![{title.replace('`', '')}]({name}.png)", ""]
            lines += [f"As {' and '.join(vectors)}.", ""] if vectors else []
    called = [f"`{v}` is called {name}" for v, name in numbered_names(plan.variants).items()] if lines else []
    return [*lines, f"In pictures, {', '.join(called)}.", ""] if called else lines


def provenance(jobs: list[Job], facts: dict, command: list[str], results: list[Row]) -> list[str]:
    """Return the protocol of the scores, and the command of every run."""
    one_of = [f"One of {len(protocols(results))}:", ""] if len(protocols(results)) > 1 else []
    protocol_lines = [f"- {name}: {value}" for name, value in facts.items()] or ["No run has been scored yet."]
    commands = [
        shlex.join(["sagan", *job.arguments] if job.processes == 1 else ["python", "-m", *job.module]) for job in jobs
    ]
    return [
        "## Protocol",
        "",
        *one_of,
        *protocol_lines,
        "",
        "## Commands",
        "",
        REPRODUCED,
        "",
        "```sh",
        shlex.join(["sagan", "ablate", *command]),
        "```",
        "",
        f"<details><summary>Each of the {len(jobs)} runs by itself</summary>",
        "",
        "```sh",
        *commands,
        "```",
        "",
        "</details>",
        "",
    ]
