"""The report of a plan: tables, pictures and report.md, written from the records of its runs."""

import math
import re
from collections.abc import Collection
from pathlib import Path

from sagan.ablation import plots
from sagan.ablation.comparison import comparison, comparison_tables, left_out, narrow_comparison_tables, not_counted
from sagan.ablation.csv_files import Row, write_table
from sagan.ablation.design import changes_of_design, known_design
from sagan.ablation.memory import remember, remembered
from sagan.ablation.names import readable_names
from sagan.ablation.plan import Plan
from sagan.ablation.results import FIRST, LAST, collect, protocol, recorded
from sagan.ablation.samples import sample_sheet
from sagan.ablation.sections import (
    REPRODUCED,
    all_scores,
    costs,
    endings,
    gallery,
    heading,
    narrow_scores_tables,
    noise,
    provenance,
    reservations,
)
from sagan.ablation.styles import variant_styles
from sagan.ablation.tables import latex, markdown
from sagan.ablation.variants import Job
from sagan.ablation.verdicts import Summary, summarize, summary_rows
from sagan.config import UserError
from sagan.config.types import shown
from sagan.runtime.files import write_atomically
from sagan.runtime.wording import printable

BLOCK = re.compile(r"(<!-- results: begin -->\n).*?(<!-- results: end -->)", re.DOTALL)
"""The part of a README.md beside the tables that `sagan ablate` rewrites."""
UNCHANGED = "surrogateescape"
"""How bytes that are not UTF-8 pass through a page of the user's."""
LARGEST_DRAWN = 1e30
"""A picture leaves out larger values: beside them no other could be told apart, and the axes would overflow."""
PICTURES = [f"{name}.{kind}" for name in ("forest", "curves", "cost") for kind in ("png", "svg", "pdf")]
WRITTEN = ("report.md", "summary.csv", "curves.csv", "comparison.tex", "scores.tex", *PICTURES, "samples.png")


def refuse_foreign_files(plan: Plan, known: Collection[object]) -> None:
    """Raise UserError if a plan's report would replace a file that is not of an earlier report of the plan.

    `known` are the runs of this plan in the folder's results.csv, which prove that its report is this plan's.
    """
    folder, file = plan.folder, plan.folder / "report.md"
    report = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    found = [name for name in WRITTEN if (folder / name).exists()]
    name = report.partition("\n")[0].removeprefix("# ").partition(", size ")[0]
    move = "move it away, or give the plan a folder of its own"
    if found and REPRODUCED not in report and not (folder / "results.csv").is_file():
        raise UserError(
            f"{folder / found[0]}: no report of sagan ablate is beside it, and the report would replace it; {move}"
        )
    if REPRODUCED in report and not known and name != plan.name and printable(plan.question.strip()) not in report:
        raise UserError(f"{file}: the report of another plan, {shown(name)}; {move}")
    known_design(plan)  # a damaged file would prevent the report after all runs
    known_protocol(folder)


def write_report(plan: Plan, jobs: list[Job], command: list[str]) -> Path:
    """Write the tables, the pictures and report.md of a plan from the runs so far. Return the path of report.md.

    `command` are the words after `sagan ablate` that run the whole plan.

    The same records give the same files, byte for byte. Raise UserError, naming the file, if one cannot be written.
    """
    folder = plan.folder
    results, curves = collect(jobs, folder)
    summaries = summarize(results, plan.baseline, plan.metric, plan.compared, plan.margin)
    write_table(recorded(results), folder / "results.csv", FIRST, LAST)
    write_table(curves, folder / "curves.csv", ("variant", "seed", "step"))
    write_table(summary_rows(summaries), folder / "summary.csv", ("variant", "metric", "role"), ("verdict",))
    facts, changes = remembered_protocol(jobs, folder), changes_of_design(plan, results)
    draw(plan, jobs, drawable(results), drawable(curves))
    texts = {
        "report.md": printable(report_text(plan, jobs, command, results, summaries, facts, changes)),
        "comparison.tex": latex(*narrow_comparison_tables(plan, summaries)),
        "scores.tex": "\n".join(map(latex, narrow_scores_tables(summaries))),
    }
    readme = folder / "README.md"
    if readme.is_file() and BLOCK.search(old := readme.read_text("utf-8", errors=UNCHANGED)):
        texts["README.md"] = with_block(old, printable(results_block(plan, results, summaries, changes)))
    for name, text in texts.items():
        write_atomically(folder / name, lambda file, text=text: file.write(text.encode("utf-8", errors=UNCHANGED)))
    return folder / "report.md"


def report_text(
    plan: Plan,
    jobs: list[Job],
    command: list[str],
    results: list[Row],
    summaries: list[Summary],
    facts: dict,
    changes: list[str],
) -> str:
    """Return the content of report.md."""
    lines = [
        *heading(plan, results, changes),
        *comparison(plan, results, summaries),
        *noise(plan, results),
        *all_scores(summaries),
        *costs(recorded(results)),
        *endings(results, plan.metric),
        *gallery(plan),
        *provenance(jobs, facts, command, results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def drawable(rows: list[Row]) -> list[Row]:
    """Return rows with NaN, which pictures leave out, in place of values beyond LARGEST_DRAWN."""
    return [
        {k: math.nan if isinstance(v, float) and abs(v) > LARGEST_DRAWN else v for k, v in row.items()} for row in rows
    ]


def draw(plan: Plan, jobs: list[Job], results: list[Row], curves: list[Row]) -> None:
    """Draw every picture for which there are records."""
    summaries = summarize(results, plan.baseline, plan.metric, plan.compared, plan.margin)
    kinds = {job.variant: job.config.model.generator.attention.kind for job in jobs}
    styles = variant_styles(kinds, plan.baseline)
    plots.forest(plan, results, summaries, styles)
    plots.score_against_steps(plan, curves, styles)
    plots.score_against_cost(plan, results, summaries, styles)
    sample_sheet(jobs, plan.folder / "samples.png", plan.seeds[0], readable_names(plan.variants))


def remembered_protocol(jobs: list[Job], folder: Path) -> dict:
    """Return the protocol of the runs' scores, and keep it beside the tables in case the runs are deleted."""
    if facts := protocol(jobs):
        remember(facts, folder / "protocol.json")
    return known_protocol(folder)


def known_protocol(folder: Path) -> dict:
    """Return the protocol beside the tables; empty if there is none. Raise UserError if its file is damaged."""
    return remembered(folder / "protocol.json", "delete it, or restore the runs that it came from") or {}


def results_block(plan: Plan, results: list[Row], summaries: list[Summary], changes: list[str]) -> str:
    """Return the text between the markers of a README.md: the comparisons, and the runs and variants left out."""
    primary, exploratory = comparison_tables(plan, summaries)
    lines = ["<!-- written by sagan ablate from results.csv; do not edit -->", ""]
    lines += reservations(results, changes)
    lines += [*markdown(primary), ""] if primary.rows else []
    lines += [*markdown(exploratory), ""] if exploratory.rows else []
    return "\n".join([*lines, *not_counted(plan, results), *left_out(plan, summaries)]) + "\n"


def with_block(text: str, block: str) -> str:
    """Return a page with the block between its markers replaced."""
    return BLOCK.sub(lambda match: match[1] + block + match[2], text)
