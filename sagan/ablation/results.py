"""Tables from the records of runs: results.csv (one row per run) and curves.csv (one row per evaluation).

The tables are themselves records of the runs that finished or diverged: a run whose directory is gone keeps its rows,
identified by the digest of its configuration. So committed results need no retraining. Rows of runs that are not in the
plan come from another plan or other settings. They are never replaced; the plan is refused instead.
"""

import hashlib
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sagan.ablation.cost import network_cost
from sagan.ablation.csv_files import TEXT, Row, read_table
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
from sagan.runtime.wording import counted

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
    curves = read_table(folder / "curves.csv")
    require_numbers(table, folder / "results.csv")
    require_numbers(curves, folder / "curves.csv")
    known: dict[tuple, RunRows] = {}
    for row in table:
        require_row(row, known, folder / "results.csv")
        known[row["variant"], row["seed"]] = RunRows(row, [])
    for row in curves:
        run = known.get((row["variant"], row.get("seed")))
        if run is not None and isinstance(row.get("step"), int):
            run.curve.append(row)
    return known


def require_row(row: Row, known: dict[tuple, RunRows], file: Path) -> None:
    """Raise UserError if a row of results.csv repeats one of the `known` rows, or cannot come from a run."""
    where = f"{file}: {shown(row['variant'])}, seed {row['seed']}"
    if (row["variant"], row["seed"]) in known:
        raise UserError(f"{where}: has two rows; keep one of them")
    if row["status"] not in ENDED:
        raise UserError(f"{where}: status {shown(row['status'])}: expected {' or '.join(ENDED)}")
    if any(column.endswith("_noise") for column in row) and not isinstance(row.get("noise_draws"), int):
        raise UserError(f"{where}: noise_draws {shown(row.get('noise_draws'))}: expected the number of draws")


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
    row: Row = {**metrics_of(scores), "protocol": protocol_digest(scores, job)}
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
        if protocol_digest(record, job) == protocol_digest(found[-1][1], job)
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


def protocol_digest(record: dict, job: Job) -> str:
    """Return twelve hexadecimal digits that identify the protocol of a run's score, apart from its step and versions.

    Whether averaged weights were scored counts as the plan asks for it: a variant without an average has no other.
    """
    terms = comparable_terms(record["evaluation"]["protocol"])
    if "ema" in terms:
        terms["ema"] = job.config.evaluation.ema
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
