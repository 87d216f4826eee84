"""report.md: what a plan asked, what came out, and what that does and does not show."""

import json
import math
import shlex
from collections import Counter
from pathlib import Path
from statistics import median

from sagan.ablation import plots
from sagan.ablation.plan import Job, Plan
from sagan.ablation.results import FIRST, LAST, Row, collect, protocol, write_table
from sagan.ablation.statistics import METHOD, Interval, Summary, lower_is_better, summarize, summary_rows
from sagan.runtime.files import write_atomically

SIGNS = {"saturated": "D saturated", "vanished": "G collapsed"}  # of training.health.CollapseWatch


def write_report(plan: Plan, jobs: list[Job], command: list[str]) -> Path:
    """Writes the tables, the pictures and report.md of a plan as far as its runs have got; returns report.md.

    Raises UserError, naming the file, where one cannot be written.
    """
    folder = plan.folder
    results, curves = collect(jobs, folder)
    summaries = summarize(results, plan.baseline)
    write_table(results, folder / "results.csv", FIRST, LAST)
    write_table(curves, folder / "curves.csv", ("variant", "seed", "step"))
    write_table(summary_rows(summaries), folder / "summary.csv", ("variant", "metric"), ("verdict",))
    facts = remembered_protocol(jobs, folder)
    plots.score_against_steps(curves, plan.metric, plan.baseline, folder / "curves.png")
    plots.score_against_cost(summaries, results, plan.metric, folder / "cost.png")
    plots.sample_rows(jobs, folder / "samples.png", plan.seeds[0])
    text = "\n".join([
        *heading(plan, results),
        *comparison(plan, summaries),
        *all_scores(summaries),
        *costs(results),
        *endings(results),
        *gallery(plan),
        *provenance(jobs, facts, command, {row["protocol"] for row in results if "protocol" in row}),
    ])  # fmt: skip
    write_atomically(folder / "report.md", lambda file: file.write((text.rstrip() + "\n").encode()))
    return folder / "report.md"


def remembered_protocol(jobs: list[Job], folder: Path) -> dict:
    """The protocol of the runs' scores; kept beside the tables for the day when the runs are gone."""
    file, facts = folder / "protocol.json", protocol(jobs)
    if facts:
        write_atomically(file, lambda f: f.write((json.dumps(facts, indent=2) + "\n").encode()))
    return json.loads(file.read_text()) if file.is_file() else {}


def heading(plan: Plan, results: list[Row]) -> list[str]:
    counts = Counter(row["status"] for row in results)
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    size = f", size `{plan.size}`" if plan.size else ""
    return [
        f"# {plan.name}{size}",
        "",
        plan.question.strip(),
        "",
        f"{len(plan.variants)} variants of `{plan.preset}`, seeds {', '.join(map(str, plan.seeds))}: {len(results)} "
        f"runs, of which {states}. This page is made by `sagan ablate` from the records of the runs.",
        "",
    ]


def comparison(plan: Plan, summaries: list[Summary]) -> list[str]:
    """The metric that the plan is about, variant by variant."""
    chosen = [s for s in summaries if s.metric == plan.metric]
    direction = "lower is better" if lower_is_better(plan.metric) else "higher is better"
    lines = [f"## {plan.metric} against `{plan.baseline}`", ""]
    if not chosen:
        return [*lines, "No run has been scored yet.", ""]
    order = sorted(chosen, key=lambda s: s.score.mean, reverse=not lower_is_better(plan.metric))
    lines += [
        f"Sorted by mean ({direction}). Intervals are 95 %; the last but one is the one that verdicts go by.",
        "",
        "| variant | seeds | mean | difference | difference, all comparisons at once | verdict |",
        "|---|---:|---|---|---|---|",
        *(
            f"| `{s.variant}` | {s.seeds} | {shown(s.score)} | {shown(s.difference)} | {shown(s.simultaneous)} "
            f"| {s.verdict or 'baseline'} |"
            for s in order
        ),
        "",
        *verdict(plan, chosen),
        "",
        METHOD.format(comparisons=sum(s.pairs > 1 for s in chosen)),
        "",
    ]
    return lines


def verdict(plan: Plan, chosen: list[Summary]) -> list[str]:
    """What the differences show, in words: a winner only where the intervals have one."""
    compared = [s for s in chosen if s.difference is not None]
    named = {word: [f"`{s.variant}`" for s in compared if s.verdict == word] for word in ("better", "worse")}
    lines = [f"{', '.join(names)}: {word} than `{plan.baseline}`." for word, names in named.items() if names]
    rest = len(compared) - sum(map(len, named.values()))
    if rest:
        lines.append(
            f"For {rest} of {len(compared)} variants these seeds show no difference to `{plan.baseline}`: that is no "
            "proof of equality. The width of an interval says how large a difference could have gone unseen."
        )
    hints = [
        f"`{s.variant}`"
        for s in compared
        if s.verdict == "no difference shown" and (s.difference.low > 0 or s.difference.high < 0)
    ]
    if hints:
        chance = (1 - 0.95) * len(compared)
        lines.append(
            f"A hint, not more: the 95 % interval of {', '.join(hints)} taken alone excludes 0; among {len(compared)} "
            f"comparisons {chance:.1f} would do so by chance."
        )
    return [line for text in lines for line in (text, "")][:-1]


def all_scores(summaries: list[Summary]) -> list[str]:
    """Every metric of every variant."""
    metrics = list(dict.fromkeys(s.metric for s in summaries))
    if not metrics:
        return []
    cells = {(s.variant, s.metric): shown(s.score) for s in summaries}
    lines = ["## All scores", "", f"| variant | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
    for variant in dict.fromkeys(s.variant for s in summaries):
        lines.append(f"| `{variant}` | {' | '.join(cells.get((variant, m), '') for m in metrics)} |")
    return [*lines, ""]


def costs(results: list[Row]) -> list[str]:
    """What each variant costs: medians over its runs."""
    columns = {
        "parameters": ("parameters", "{:,.0f}"),
        "flops": ("MFLOPs an image", "{:,.1f}"),
        "images_per_second": ("images/s", "{:.0f}"),
        "peak_memory_gib": ("peak memory, GiB", "{:.2f}"),
        "gamma_generator": ("mean abs. gamma in G", "{:.3f}"),
        "gamma_discriminator": ("in D", "{:.3f}"),
    }
    lines = [
        "## What each costs, and how much of it training used",
        "",
        "Medians over the runs. FLOPs are of one image's forward pass through G and D, a multiply-add counted as two; "
        "images/s are as measured, with whatever else the machine was doing. gamma is the gain of the attention at the "
        "end: near 0 the network does without it.",
        "",
        f"| variant | {' | '.join(title for title, _ in columns.values())} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for variant in dict.fromkeys(row["variant"] for row in results):
        cells = []
        for column, (_, form) in columns.items():
            known = [row[column] for row in results if row["variant"] == variant and column in row]
            value = median(known) / (1e6 if column == "flops" else 1) if known else None
            cells.append("" if value is None else form.format(value))
        lines.append(f"| `{variant}` | {' | '.join(cells)} |")
    return [*lines, ""]


def endings(results: list[Row]) -> list[str]:
    """Divergence and collapse, counted; and every run that has no final score."""
    lines = ["## Divergence and collapse", "", "| variant | diverged | D saturated | G collapsed | failed |"]
    lines.append("|---|---:|---:|---:|---:|")
    for variant in dict.fromkeys(row["variant"] for row in results):
        rows = [row for row in results if row["variant"] == variant]
        states = Counter(row["status"] for row in rows)
        signs = Counter(sign for row in rows for sign in str(row.get("warnings", "")).split())
        counts = (states["diverged"], *(signs[sign] for sign in SIGNS), states["failed"])
        lines.append(f"| `{variant}` | {' | '.join(map(str, counts))} |")
    lines += ["", "Runs, of the variant's seeds. A run may warn of collapse and still recover.", ""]
    rest = [row for row in results if row["status"] != "finished"]
    if rest:
        lines += ["## Runs without a final score", ""]
        for row in rest:
            reason = f": {row['reason']}" if row.get("reason") else ""
            lines.append(f"- `{row['variant']}`, seed {row['seed']}: {row['status']}{reason}")
        lines.append("")
    return lines


def gallery(plan: Plan) -> list[str]:
    """The pictures that there are."""
    titles = {
        "curves.png": f"{plan.metric} against steps",
        "cost.png": f"{plan.metric} against cost",
        "samples.png": f"The same z and y through every variant, seed {plan.seeds[0]}",
    }
    there = {name: title for name, title in titles.items() if (plan.folder / name).is_file()}
    return [line for name, title in there.items() for line in (f"## {title}", "", f"![{title}]({name})", "")]


def provenance(jobs: list[Job], facts: dict, command: list[str], protocols: set[str]) -> list[str]:
    """The protocol of the scores, and the command of every run."""
    mixed = ["**The runs were scored under different protocols and do not compare**: see the column `protocol` of "
             "results.csv. One of them:", ""] if len(protocols) > 1 else []  # fmt: skip
    protocol_lines = [f"- {name}: {value}" for name, value in facts.items()] or ["No run has been scored yet."]
    commands = [
        shlex.join(["sagan", *job.arguments] if job.processes == 1 else ["python", "-m", *job.module]) for job in jobs
    ]
    return [
        "## Protocol",
        "",
        *mixed,
        *protocol_lines,
        "",
        "## Commands",
        "",
        "All of it:",
        "",
        "```sh",
        shlex.join(["sagan", "ablate", *(word for word in command if not word.startswith("--report-only"))]),
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


def shown(interval: Interval | None) -> str:
    """An interval as `1.23 [1.20, 1.26]`."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return f"{interval.mean:.4g}"
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"
