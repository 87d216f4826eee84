"""Checkpoint files: written completely or not at all, found by name, loaded without running code from them."""

import errno
import itertools
import os
from pathlib import Path

import torch

from sagan.config import Config, ConfigError, DamagedError, UserError, to_config
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
            raise UserError(f"{path}: has no best checkpoint yet; the first evaluation in training finds one")
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
    """Return the content of a checkpoint.

    Raise DamagedError, naming the file, if it cannot be read as one; of a run's file, also naming the newest one of the
    run that can. Raise UserError if the file may be whole, but the system does not let us read it.
    """
    try:
        return read_checkpoint(path, device)
    except DamagedError as error:
        run_dir = path.parent.parent
        others = [p for p in reversed(checkpoints(run_dir)) if p != path] if path.parent.name == "checkpoints" else []
        whole = next((p for p in others if is_whole(p)), None)
        if whole is None:
            raise
        raise DamagedError(f"{error}; the newest one of the run that can be read: --checkpoint {whole.name}") from error


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """Return the content of a checkpoint. Raise as `load_checkpoint`, without a look at other files."""
    wrong = f"{path}: cannot be read as a checkpoint: damaged or another kind of file"
    try:
        open(path, "rb").close()
    except (FileNotFoundError, IsADirectoryError) as error:  # a dangling link, or a folder of that name
        raise DamagedError(f"{wrong} ({error.strerror})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        if "allocate memory" in str(error) or getattr(error, "errno", None) in (errno.EIO, errno.ESTALE):
            raise UserError(f"{path}: cannot be read: {error}") from error
        raise DamagedError(f"{wrong} ({error or 'empty'})") from error
    known = isinstance(content, dict) and {"step", "config", "generator"} <= content.keys()
    if not known or not isinstance(content["config"], dict):
        raise DamagedError(f"{path}: not a checkpoint of this program: expected step, config and generator in it")
    return content


def is_whole(path: Path) -> bool:
    """Return whether a file can be read as a checkpoint."""
    try:
        read_checkpoint(path)
    except UserError:
        return False
    return True


def newest_whole(run_dir: Path) -> tuple[dict | None, dict[Path, str]]:
    """Return the content of a run's newest checkpoint that can be read, and the damaged ones after it with the reason.

    The content is None for a run without checkpoints. Raise DamagedError if all are damaged, UserError if one may be
    whole but cannot be read.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoints(run_dir)):
        try:
            return read_checkpoint(path), damaged
        except DamagedError as error:
            damaged[path] = " ".join(str(error).split())
    if damaged:
        raise DamagedError(f"{next(iter(damaged.values()))}; no checkpoint of {run_dir} can be read")
    return None, damaged


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer taken for one, and return its new path."""
    names = (path.with_name(f"{path.name}.damaged{f'-{n}' if n > 1 else ''}") for n in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))
    try:
        path.rename(free)
    except OSError as error:
        raise UserError(f"{path}: damaged, and cannot be renamed: {error}") from error
    return free


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
        raise UserError(
            f"{error}. {'Earlier checkpoints are untouched.' * bool(checkpoints(run_dir))}".strip()
        ) from error
    best = best_checkpoint(run_dir)
    for old in checkpoints(run_dir)[:-keep]:
        if old != best and not old.is_dir():
            old.unlink(missing_ok=True)
    return path
