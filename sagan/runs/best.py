"""RUN/best.json: the best checkpoint of a run so far. It is derived from the records and never read back."""

import json
import sys
from pathlib import Path

from sagan.evaluation import comparable_terms
from sagan.runs.directory import checkpoint_path
from sagan.runs.records import read_evaluations
from sagan.runtime.files import write_atomically


def best_evaluations(run_dir: Path) -> list[dict]:
    """Return, for each protocol of the run's own evaluations, the record with the lowest Frechet distance.

    Of equal ones, it is the earliest. Only evaluations whose checkpoint still exists are considered. The protocol that
    was used last comes last.
    """
    best: dict[str, dict] = {}
    for step, record in sorted(read_evaluations(run_dir / "metrics.jsonl").items()):
        if fid_of(record) is not None and checkpoint_path(run_dir, step).is_file():
            terms = json.dumps(comparable_terms(record["evaluation"]["protocol"]), sort_keys=True)
            best[terms] = min(best.pop(terms, record), record, key=lambda r: (fid_of(r), r["step"]))
    return list(best.values())


def best_evaluation(run_dir: Path) -> dict | None:
    """Return the record of the run's best evaluation under the protocol that was used last; None without any."""
    return next(reversed(best_evaluations(run_dir)), None)


def best_checkpoint(run_dir: Path) -> Path | None:
    """Return the file of the run's best checkpoint, None if no evaluation has found one."""
    record = best_evaluation(run_dir)
    return None if record is None else checkpoint_path(run_dir, record["step"])


def write_best(run_dir: Path) -> None:
    """Make RUN/best.json name the best checkpoint. Without one, remove the file."""
    file, record = run_dir / "best.json", best_evaluation(run_dir)
    if record is None:
        file.unlink(missing_ok=True)
        return
    content = {"checkpoint": checkpoint_path(run_dir, record["step"]).name, "fid": fid_of(record), **record}
    text = json.dumps(content, indent=2).encode()
    if not file.is_file() or file.read_bytes() != text:
        write_atomically(file, lambda f: f.write(text))


def fid_of(record: dict) -> float | None:
    """Return the Frechet distance in a record, whatever its extractor, or None if there is none."""
    values = (v for name, v in record.items() if name.startswith("fid"))
    largest = sys.float_info.max  # JSON may also hold integers that fit into no float
    return next((v for v in values if isinstance(v, int | float) and abs(v) <= largest), None)
