"""RUN/best.json: the best checkpoint of a run so far."""

import json
from pathlib import Path

from sagan.config import UserError
from sagan.evaluation import Scores, comparable_terms
from sagan.runs.directory import checkpoint_path
from sagan.runtime.files import write_atomically


def read_best(run_dir: Path) -> dict | None:
    """Return the content of RUN/best.json, or None if there is no such file. Raise UserError if it is damaged."""
    file = run_dir / "best.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict) or "checkpoint" not in content:
            raise ValueError("it names no checkpoint")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({error}); delete it: the next evaluation writes a new one") from error
    return content


def best_checkpoint(run_dir: Path) -> Path | None:
    """Return the file that RUN/best.json names, or None without one. Raise UserError if RUN/best.json is damaged."""
    best = read_best(run_dir)
    return run_dir / "checkpoints" / best["checkpoint"] if best else None


def fid_of(scores: Scores) -> float | None:
    """Return the Frechet distance among the scores, whatever its extractor, or None if there is none."""
    return next((v for name, v in scores.values.items() if name.startswith("fid")), None)


def remember_if_best(scores: Scores, run_dir: Path, step: int) -> None:
    """Make RUN/best.json name the checkpoint of `step`, unless an earlier one has an equal or lower Frechet distance.

    An earlier checkpoint counts only if it still exists and was scored under the same protocol.
    """
    file, value = run_dir / "best.json", fid_of(scores)
    if value is None:
        return
    content = {"checkpoint": checkpoint_path(run_dir, step).name, "step": step, "fid": value, **scores.record()}
    best = read_best(run_dir)
    if best and (run_dir / "checkpoints" / best["checkpoint"]).is_file():
        terms = [comparable_terms(record["evaluation"]["protocol"]) for record in (best, content)]
        if best["fid"] <= value and terms[0] == terms[1]:
            return
    write_atomically(file, lambda f: f.write(json.dumps(content, indent=2).encode()))
