"""Checkpoint files: written whole or not at all, found by name, loaded without running code."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

import torch

from sagan.config import UserError

PATTERN = re.compile(r"step-(\d{8})\.pt")
LEFTOVER = re.compile(r"\..+\.\d+\.tmp")  # what `write_atomically` calls its temporary files


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """RUN/checkpoints/step-00001000.pt for step 1000."""
    return run_dir / "checkpoints" / f"step-{step:08d}.pt"


def checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(p for p in (run_dir / "checkpoints").glob("step-*.pt") if PATTERN.fullmatch(p.name))


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint of a run, 0 where there is none."""
    found = checkpoints(run_dir)
    return int(PATTERN.fullmatch(found[-1].name)[1]) if found else 0


def read_best(run_dir: Path) -> dict | None:
    """What RUN/best.json says of the best checkpoint so far, None where there is none. UserError if it is damaged."""
    file = run_dir / "best.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict) or "checkpoint" not in content:
            raise ValueError("it names no checkpoint")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({error}); delete it, and the next evaluation makes another") from error
    return content


def best_checkpoint(run_dir: Path) -> Path | None:
    """The file that RUN/best.json names, or None where there is none. Raises UserError where it is damaged."""
    best = read_best(run_dir)
    return run_dir / "checkpoints" / best["checkpoint"] if best else None


def find_checkpoint(run_or_file: str | Path, which: str | None = None) -> Path:
    """The checkpoint that a RUN argument means: its newest; `which` may be "best", a file of the run, or a path.

    Raises UserError where there is none.
    """
    path = Path(run_or_file)
    if path.is_file() and which is None:
        return path
    if which == "best":
        best = best_checkpoint(path)
        if best is None:
            raise UserError(f"{path / 'best.json'}: not found; a run has one after its first evaluation")
        return best
    if which is not None:
        named = [p for p in (Path(which), path / "checkpoints" / which, path / which) if p.is_file()]
        if not named:
            raise UserError(f"--checkpoint {which}: no such file, nor one in {path / 'checkpoints'}")
        return named[0]
    found = checkpoints(path)
    if not found:
        raise UserError(f"{path}: neither a checkpoint file nor a run directory with checkpoints/step-*.pt")
    return found[-1]


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """The content of a checkpoint. Raises UserError, naming the file, where it cannot be read as one."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{path}: cannot be read as a checkpoint; damaged, or something else ({error})") from error
    known = isinstance(content, dict) and {"step", "config", "generator"} <= content.keys()
    if not known or not isinstance(content["config"], dict):
        raise UserError(f"{path}: not a checkpoint of this program: step, config and generator expected")
    return content


def write_atomically(path: Path, write) -> None:
    """Calls write(file) on a temporary file beside `path`, flushes it to disk and renames it.

    Whoever reads `path` sees the old content or the new, never a part. Raises UserError, naming the file, where the
    disk is full or the folder cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch.save hides a full disk behind an error of its own about positions in the file.
        hidden = error.__context__
        reason = hidden if isinstance(hidden, OSError) and not isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_checkpoint(run_dir: Path, content: dict, keep: int) -> Path:
    """Writes RUN/checkpoints/step-N.pt, then removes all but the newest `keep` and the best.

    Raises UserError, naming the file, where it cannot be written; then nothing is removed.
    """
    path = checkpoint_path(run_dir, content["step"])
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except UserError as error:
        raise UserError(f"{error}. Earlier checkpoints are untouched.") from error
    best = best_checkpoint(run_dir)
    for old in checkpoints(run_dir)[:-keep]:
        if old != best:
            old.unlink(missing_ok=True)
    return path


def remove_leftovers(run_dir: Path) -> None:
    """Deletes temporary files that a killed process left."""
    for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
        for file in folder.glob(".*.tmp"):
            if LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and the file is in place already
            os.fsync(handle)
    finally:
        os.close(handle)
