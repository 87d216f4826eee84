"""RUN/metrics.jsonl, the record of a run: one JSON object with a step per line."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sagan.config import UserError
from sagan.runs.contents import LARGEST_STEP
from sagan.runtime.distributed import any_process, is_main
from sagan.runtime.files import write_atomically

BY = "by"
"""The key of an evaluation's record that says which command made it; the run's own evaluations have none."""


def append_evaluation(run_dir: Path, record: dict, by: str) -> None:
    """Append an evaluation that `by` made to the metrics.jsonl of a run. Raise UserError."""
    path, record = run_dir / "metrics.jsonl", {**record, "evaluation": {**record["evaluation"], BY: by}}
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
    """Return the records of a metrics.jsonl. Other lines, such as one cut short by a kill, are ignored."""
    return [value for value in json_lines(file) if is_record(value)]


def json_lines(file: Path, containing: str = "") -> Iterator[Any]:
    """Yield the parsed content of each line that contains a text and is valid JSON."""
    if not file.is_file():
        return
    with open(file, encoding="utf-8", errors="replace") as lines:  # one at a time: a long run has many
        for line in lines:
            if containing in line:
                with suppress(ValueError, RecursionError):
                    yield json.loads(line)


def last_recorded_step(run_dir: Path) -> int:
    """Return the newest step in a run's metrics.jsonl, read from the end of the file."""
    file = run_dir / "metrics.jsonl"
    if not file.is_file():
        return 0
    size, window = file.stat().st_size, 2**15
    with open(file, "rb") as content:
        while True:
            content.seek(max(0, size - window))
            for line in reversed(content.read().splitlines()):
                with suppress(ValueError, RecursionError):
                    if is_record(record := json.loads(line)):
                        return record["step"]
            if window >= size:
                return 0
            window *= 8  # a record of many classes is long


def is_record(value: Any) -> bool:
    """Return whether the content of a line is a record: an object with a step that a checkpoint can have."""
    return isinstance(value, dict) and type(value.get("step")) is int and 0 <= value["step"] <= LARGEST_STEP


def own_evaluations(records: Iterable[dict]) -> dict[int, dict]:
    """Return step -> record of the run's own evaluation after it.

    The user may evaluate a step again with another protocol. Older versions did not mark such a record, but it always
    follows the run's own.
    """
    found: dict[int, dict] = {}
    for record in filter(is_own_evaluation, records):
        found.setdefault(record["step"], record)
    return found


def is_own_evaluation(record: dict) -> bool:
    """Return whether a record is of an evaluation that no other command is known to have made."""
    evaluation = record.get("evaluation")
    return isinstance(evaluation, dict) and isinstance(evaluation.get("protocol"), dict) and BY not in evaluation


def read_evaluations(file: Path) -> dict[int, dict]:
    """Return step -> record of the run's own evaluation after it, from a metrics.jsonl."""
    return own_evaluations(evaluation_records(file))


def evaluation_records(file: Path) -> Iterator[dict]:
    """Yield the records of evaluations in a metrics.jsonl."""
    return (value for value in json_lines(file, containing='"evaluation"') if is_record(value))


def forget_after(file: Path, step: int) -> None:
    """Remove the records of steps after `step`, because a resumed run repeats these steps."""
    if not file.is_file():
        return
    text = "".join(json.dumps(r) + "\n" for r in read_records(file) if r["step"] <= step)
    write_atomically(file, lambda f: f.write(text.encode()))


def evaluated(run_dir: Path, step: int) -> bool:
    """Return whether the run itself has scored a step. All processes get the answer of the main process."""
    records = evaluation_records(run_dir / "metrics.jsonl")
    return any_process(is_main() and any(r["step"] == step for r in records if is_own_evaluation(r)))
