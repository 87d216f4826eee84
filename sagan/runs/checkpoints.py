"""Checkpoint files: written completely or not at all, found by name, loaded without running code from them."""

from pathlib import Path

import torch

from sagan.config import Config, ConfigError, UserError, to_config
from sagan.runs.best import best_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runtime.files import write_atomically


def find_checkpoint(run_or_file: str | Path, which: str | None = None) -> Path:
    """Return the checkpoint that a RUN argument means: a file, or the newest one of a run directory.

    `which` may be "best", the name of a file of the run, or a path. Raise UserError if there is no such file.
    """
    path = Path(run_or_file)
    if path.is_file() and which is None:
        return path
    if which == "best":
        best = best_checkpoint(path)
        if best is None:
            raise UserError(f"{path / 'best.json'}: not found; the first evaluation of a run writes it")
        return best
    if which is not None:
        named = [p for p in (Path(which), path / "checkpoints" / which, path / which) if p.is_file()]
        if not named:
            raise UserError(f"--checkpoint {which}: no such file, neither as given nor in {path / 'checkpoints'}")
        return named[0]
    found = checkpoints(path)
    if not found:
        raise UserError(f"{path}: neither a checkpoint file nor a run directory with checkpoints/step-*.pt")
    return found[-1]


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """Return the content of a checkpoint. Raise UserError, naming the file, if it cannot be read as one."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(f"{path}: cannot be read as a checkpoint: damaged or another kind of file ({error})") from error
    known = isinstance(content, dict) and {"step", "config", "generator"} <= content.keys()
    if not known or not isinstance(content["config"], dict):
        raise UserError(f"{path}: not a checkpoint of this program: expected step, config and generator in it")
    return content


def checkpoint_config(content: dict, path: Path) -> Config:
    """Return the configuration inside a checkpoint. Raise UserError, naming file and option, if it is damaged."""
    try:
        return to_config(content["config"])
    except ConfigError as error:
        raise UserError(f"{path}: the configuration in it is damaged: {error}") from error


def save_checkpoint(run_dir: Path, content: dict, keep: int) -> Path:
    """Write RUN/checkpoints/step-N.pt, then remove all checkpoints but the newest `keep` and the best.

    Raise UserError, naming the file, if it cannot be written; nothing is removed then.
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
