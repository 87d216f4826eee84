"""RUN/metrics.jsonl, the record of a run: one JSON object per line."""

import json
import os
from pathlib import Path

from sagan.config import UserError
from sagan.runtime.distributed import any_process, is_main
from sagan.runtime.files import write_atomically


def append_record(run_dir: Path, record: dict) -> None:
    """Append a line to the metrics.jsonl of a run that is not in progress. Raise UserError if this fails."""
    path = run_dir / "metrics.jsonl"
    try:
        with open(path, "a+b") as file:
            torn = False
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"  # a killed process left half a line: do not complete it
            file.write(b"\n" * torn + json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


def read_records(file: Path) -> list[dict]:
    """Return the records of a metrics.jsonl, without lines that a killed process left unfinished."""
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def forget_after(file: Path, step: int) -> None:
    """Remove the records of steps after `step`, because a resumed run repeats these steps."""
    if not file.is_file():
        return
    kept = [r for r in read_records(file) if r.get("step", 0) <= step]
    text = "".join(json.dumps(r) + "\n" for r in kept)
    write_atomically(file, lambda f: f.write(text.encode()))


def evaluated(run_dir: Path, step: int) -> bool:
    """Return whether the run has scores for a step. All processes get the answer of the main process."""
    if not is_main():
        return any_process(False)
    return any_process(
        any("evaluation" in r and r.get("step") == step for r in read_records(run_dir / "metrics.jsonl"))
    )
