"""From the records of runs to tables: results.csv (a row a run) and curves.csv (a row an evaluation).

The tables are themselves records: a run whose directory is gone keeps its row while the plan still asks for that run,
told by the digest of its configuration. So results that were committed need no second training.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median

from sagan.ablation.cost import network_cost
from sagan.ablation.jobs import evaluations, final_scores, run_config, status
from sagan.ablation.plan import Job
from sagan.config import UserError
from sagan.evaluation import comparable_terms
from sagan.runs.records import read_records
from sagan.runtime.files import write_atomically

Row = dict[str, str | float | int]

FIRST = ("variant", "seed", "steps")
# parameters: of G and D. flops: of one image's forward pass through both. images_per_second: median over the records.
LAST = ("gamma_generator", "gamma_discriminator", "parameters", "flops", "images_per_second", "peak_memory_gib",
        "warnings", "status", "reason", "config", "protocol")  # fmt: skip
TEXT = ("variant", "metric", "verdict", "status", "reason", "warnings", "config", "protocol")


def collect(jobs: list[Job], folder: Path) -> tuple[list[Row], list[Row]]:
    """The rows of results.csv and of curves.csv: from run directories, and for runs that have none from the tables in
    `folder`. Every job has a row of results."""
    kept, kept_curves = known_rows(folder, jobs)
    results, curves = [], []
    for job in jobs:
        key = (job.variant, job.seed)
        if key in kept and status(job)[0] != "finished":
            results.append(kept[key])
            curves += kept_curves.get(key, [])
        else:
            results.append(result_row(job))
            curves += curve_rows(job)
    return results, curves


def known_rows(folder: Path, jobs: list[Job]) -> tuple[dict[tuple, Row], dict[tuple, list[Row]]]:
    """The rows that the tables in `folder` have of finished or diverged runs which a plan still asks for, by
    (variant, seed)."""
    asked = {(job.variant, job.seed): job.digest for job in jobs}
    results, curves = {}, {}
    for row in read_table(folder / "results.csv"):
        key = (row["variant"], row["seed"])
        if asked.get(key, "") == row.get("config") and row["status"] in ("finished", "diverged"):
            results[key] = row
    for row in read_table(folder / "curves.csv"):
        key = (row["variant"], row["seed"])
        if key in results:
            curves.setdefault(key, []).append(row)
    return results, curves


def result_row(job: Job) -> Row:
    """What a run's directory says of it."""
    state, reason = status(job)
    records = [r for r in read_records(job.run_dir / "metrics.jsonl") if r["step"] <= job.steps]
    row: Row = {"variant": job.variant, "seed": job.seed, "steps": max((r["step"] for r in records), default=0)}
    scores = final_scores(job) if state == "finished" else None
    if scores is not None:
        row |= {**metrics_of(scores), "protocol": protocol_digest(scores)}
    speeds = [r["speed/images_per_second"] for r in records if r.get("speed/images_per_second")]
    memory = [r["memory/peak_gib"] for r in records if "memory/peak_gib" in r]
    row |= {f"gamma_{network}": value for network in ("generator", "discriminator")
            if (value := last_gamma(records, network)) is not None}  # fmt: skip
    config = run_config(job)
    row |= {} if config is None else network_cost(config)
    row |= {"images_per_second": median(speeds)} if speeds else {}
    row |= {"peak_memory_gib": max(memory)} if memory else {}
    signs = sorted({r["warning"] for r in records if "warning" in r})
    return row | {"warnings": " ".join(signs), "status": state, "reason": reason, "config": job.digest}


def curve_rows(job: Job) -> list[Row]:
    """A row for each evaluation of a run."""
    return [
        {"variant": job.variant, "seed": job.seed, "step": step, **metrics_of(record)}
        for step, record in sorted(evaluations(job).items())
    ]


def metrics_of(record: dict) -> Row:
    """The scores of an evaluation's record."""
    return {k: v for k, v in record.items() if k not in ("step", "evaluation", "time", "images_seen")}


def last_gamma(records: list[dict], network: str) -> float | None:
    """The mean of |gamma| over a network's attention layers in the newest record that has some."""
    for record in reversed(records):
        values = [abs(v) for k, v in record.items() if k.startswith(f"attention/gamma/{network}.")]
        if values:
            return fmean(values)
    return None


def protocol_digest(record: dict) -> str:
    """Of the protocol of an evaluation's record, but for its step and the program's versions."""
    terms = comparable_terms(record["evaluation"]["protocol"])
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:12]


def protocol(jobs: Iterable[Job]) -> dict:
    """The protocol of the first run that was scored, without the step; empty where none was."""
    for job in jobs:
        if scores := final_scores(job):
            return {k: v for k, v in scores["evaluation"]["protocol"].items() if k != "step"}
    return {}


def metric_names(rows: list[Row]) -> list[str]:
    """The columns of results or curves that are scores, in order."""
    fixed = {*FIRST, *LAST, "step"}
    return list(dict.fromkeys(k for row in rows for k in row if k not in fixed))


def write_table(rows: list[Row], file: Path, first: tuple[str, ...], last: tuple[str, ...] = ()) -> None:
    """Rows as CSV, with the columns `first` and `last` around all others; written whole or not at all."""
    between = dict.fromkeys(k for row in rows for k in row if k not in (*first, *last))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *between, *last], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.8g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    write_atomically(file, lambda f: f.write(text.getvalue().encode()))


def read_table(file: Path) -> list[Row]:
    """The rows of a CSV file, numbers as numbers, without empty cells; none where there is no file.

    Raises UserError where it is no such table.
    """
    if not file.is_file():
        return []
    with open(file, encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    if rows and "variant" not in rows[0]:
        raise UserError(f"{file}: expected a table with a column variant")
    return [{k: v if k in TEXT else number(v)
             for k, v in row.items() if k and v not in ("", None)} for row in rows]  # fmt: skip


def number(text: str) -> str | float | int:
    """A cell as a number where it is one."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
