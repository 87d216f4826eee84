"""Tables from the records of runs: results.csv (one row per run) and curves.csv (one row per evaluation).

The tables are themselves records of the runs that finished or diverged: a run whose directory is gone keeps its rows,
identified by the digest of its configuration. So committed results need no retraining. Rows of runs that are not in the
plan come from another plan or other settings. They are never replaced; the plan is refused instead.
"""

import csv
import hashlib
import io
import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sagan.ablation.cost import network_cost
from sagan.ablation.outcomes import (
    evaluations,
    final_draws,
    final_scores,
    records_of,
    run_config,
    status,
)
from sagan.ablation.variants import Job
from sagan.config import DamagedError, UserError
from sagan.config.types import shown
from sagan.evaluation import comparable_terms
from sagan.evaluation.directions import is_score
from sagan.runtime.files import write_atomically
from sagan.runtime.wording import counted

Row = dict[str, str | float | int]

ENDED = ("finished", "diverged")
FIRST = ("variant", "seed", "steps")
# parameters: of G and D. flops: of one image's forward pass through both. images_per_second: median over the records.
# noise_draws: how often the final weights were scored; METRIC_noise: standard deviation of those scores.
LAST = (
    "noise_draws",
    "gamma_generator",
    "gamma_discriminator",
    "parameters",
    "flops",
    "images_per_second",
    "peak_memory_gib",
    "warnings",
    "status",
    "reason",
    "config",
    "protocol",
)
TEXT = ("variant", "metric", "role", "verdict", "status", "reason", "warnings", "config", "protocol")


class RunRows(NamedTuple):
    """The rows of one run in both tables."""

    result: Row
    curve: list[Row]
    """One row for each evaluation; empty unless the run has ended."""


def collect(jobs: list[Job], folder: Path) -> tuple[list[Row], list[Row]]:
    """Return a row for every job, whatever its state, and the rows of curves.csv for runs that ended.

    They come from run directories, or from the tables in `folder` for runs without a directory.
    """
    known = known_rows(folder, jobs)
    runs = [rows_of_run(job, known.get((job.variant, job.seed))) for job in jobs]
    results = [rounded(run.result) for run in runs]
    curves = [rounded(row) for run in runs for row in run.curve]
    return results, curves


def rows_of_run(job: Job, known: RunRows | None) -> RunRows:
    """Return the rows of a run from its directory. If it has not finished there, return those known from the tables."""
    if known is not None and status(job)[0] != "finished":
        return known
    result = result_row(job)
    return RunRows(result, curve_rows(job) if result["status"] in ENDED else [])


def rounded(row: Row) -> Row:
    """Return a row with numbers rounded as in a table, so that runs and their tables give the same report."""
    return {k: float(f"{v:.8g}") if isinstance(v, float) else v for k, v in row.items()}


def recorded(results: list[Row]) -> list[Row]:
    """Return the rows for results.csv: those of runs that finished or diverged."""
    return [row for row in results if row["status"] in ENDED]


def known_rows(folder: Path, jobs: list[Job]) -> dict[tuple, RunRows]:
    """Return the rows of runs that ended in the tables in `folder`, by (variant, seed).

    Raise UserError if there are rows of runs that are not in the plan, from another plan or other settings.
    """
    asked: dict[tuple, str] = {(job.variant, job.seed): job.digest for job in jobs}
    table = read_table(folder / "results.csv")
    if table and not all({"status", "config"} <= row.keys() for row in table):
        raise UserError(
            f"{folder / 'results.csv'}: not a table of sagan ablate, which has the columns status and config; move it "
            "away, or give the plan a folder of its own"
        )
    foreign = [row for row in table if asked.get((row["variant"], row.get("seed"))) != row["config"]]
    if foreign:
        count = counted(len(foreign), "run")
        raise UserError(
            f"{folder / 'results.csv'}: holds {count} that this plan does not contain, such as "
            f"{shown(foreign[0]['variant'])}, seed {shown(foreign[0].get('seed'))}: another plan's, or made with other "
            "settings. Move the file away, or restore the settings"
        )
    for row in table:
        if row["status"] not in ENDED:
            what = f"{shown(row['variant'])}, seed {row['seed']}: status {shown(row['status'])}"
            raise UserError(f"{folder / 'results.csv'}: {what}: expected {' or '.join(ENDED)}")
    curves = read_table(folder / "curves.csv")
    require_numbers(table, folder / "results.csv")
    require_numbers(curves, folder / "curves.csv")
    known: dict[tuple, RunRows] = {(row["variant"], row["seed"]): RunRows(row, []) for row in table}
    for row in curves:
        run = known.get((row["variant"], row.get("seed")))
        if run is not None and isinstance(row.get("step"), int):
            run.curve.append(row)
    return known


def require_numbers(table: list[Row], file: Path) -> None:
    """Raise UserError, naming file, row and column, if a cell that a report computes with is not a number."""
    for row in table:
        for column, value in row.items():
            if column not in TEXT and not isinstance(value, (int, float)):
                where = f"{shown(row['variant'])}, seed {shown(row.get('seed'))}"
                raise UserError(f"{file}: {where}: {column} {shown(value)}: expected a number")


def result_row(job: Job) -> Row:
    """Return the row of a run, read from its directory."""
    state, reason = status(job)
    row: Row = {"variant": job.variant, "seed": job.seed, "steps": 0}
    end: Row = {"status": state, "reason": reason, "config": job.digest}
    try:
        records = records_of(job)
    except DamagedError:  # `status` reports it
        return row | end
    row["steps"] = max((r["step"] for r in records), default=0)
    if state == "finished":
        row |= score_columns(job)
    speeds = [r["speed/images_per_second"] for r in records if r.get("speed/images_per_second")]
    memory = [r["memory/peak_gib"] for r in records if "memory/peak_gib" in r]
    for network in ("generator", "discriminator"):
        if (gamma := last_gamma(records, network)) is not None:
            row[f"gamma_{network}"] = gamma
    if state in ENDED and (config := run_config(job)) is not None:
        row |= network_cost(config)
    row |= {"images_per_second": statistics.median(speeds)} if speeds else {}
    row |= {"peak_memory_gib": max(memory)} if memory else {}
    row["warnings"] = " ".join(sorted({r["warning"] for r in records if "warning" in r}))
    return row | end


def score_columns(job: Job) -> Row:
    """Return a finished run's scores and the digest of their protocol. If there are scores on several draws of the
    latent vectors, add the number of draws and each score's standard deviation over them."""
    scores, draws = final_scores(job), list(final_draws(job).values())
    if scores is None:
        return {}
    row: Row = {**metrics_of(scores), "protocol": protocol_digest(scores)}
    if len(draws) > 1:
        row["noise_draws"] = len(draws)
        for name in filter(is_score, metrics_of(scores)):
            values = [d[name] for d in draws if name in d]  # a score can be undefined for some draws
            if len(values) > 1:
                row[f"{name}_noise"] = statistics.stdev(values)
    return row


def curve_rows(job: Job) -> list[Row]:
    """Return a row for each evaluation of a run under the protocol of its newest one."""
    found = sorted(evaluations(job).items())
    return [
        {"variant": job.variant, "seed": job.seed, "step": step, **metrics_of(record)}
        for step, record in found
        if protocol_digest(record) == protocol_digest(found[-1][1])
    ]


def metrics_of(record: dict) -> Row:
    """Return the scores of an evaluation's record."""
    return {k: v for k, v in record.items() if k not in ("step", "evaluation", "time", "images_seen")}


def last_gamma(records: list[dict], network: str) -> float | None:
    """Return the mean of |gamma| over a network's attention layers in the newest record that has any."""
    for record in reversed(records):
        values = [abs(v) for k, v in record.items() if k.startswith(f"attention/gamma/{network}.")]
        if values:
            return statistics.fmean(values)
    return None


def protocol_digest(record: dict) -> str:
    """Return twelve hexadecimal digits that identify the protocol of a score, apart from its step and versions."""
    terms = comparable_terms(record["evaluation"]["protocol"])
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:12]


def protocol(jobs: Iterable[Job]) -> dict:
    """Return the protocol of the first run that was scored, without the step; empty if there is none."""
    for job in jobs:
        if status(job)[0] == "finished" and (scores := final_scores(job)):
            return {k: v for k, v in scores["evaluation"]["protocol"].items() if k != "step"}
    return {}


def metric_names(rows: list[Row]) -> list[str]:
    """Return the columns of results or curves that were measured by evaluations, in order."""
    fixed = {*FIRST, *LAST, "step"}
    return list(dict.fromkeys(k for row in rows for k in row if k not in fixed))


def write_table(rows: list[Row], file: Path, first: tuple[str, ...], last: tuple[str, ...] = ()) -> None:
    """Write rows as CSV, with the columns `first` and `last` around all others, completely or not at all."""
    between = dict.fromkeys(k for row in rows for k in row if k not in (*first, *last))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *between, *last], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.8g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    write_atomically(file, lambda f: f.write(text.getvalue().encode()))


def read_table(file: Path) -> list[Row]:
    """Return the rows of a CSV file, with cells converted to numbers and empty ones dropped; [] without a file.

    Raise UserError if it is not such a table.
    """
    if not file.is_file():
        return []
    try:
        with open(file, encoding="utf-8-sig", newline="") as content:
            rows = list(csv.DictReader(content))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as a table: {error}") from error
    if rows and not all(row.get("variant") and (row.get("seed") or row.get("metric")) for row in rows):
        raise UserError(f"{file}: expected a table with the columns variant and seed")
    return [{k: v if k in TEXT else number(v) for k, v in row.items() if k and v not in ("", None)} for row in rows]


def number(text: str) -> str | float | int:
    """Return a cell as a number if it is one."""
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
