"""Checkpoint files: written completely or not at all, found by name, loaded without running code from them."""

import errno
import itertools
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch

from sagan.config import Config, ConfigError, DamagedError, UserError, to_config
from sagan.config.errors import one_line
from sagan.models.sizes import split_size
from sagan.runs.best import best_checkpoint, best_evaluations
from sagan.runs.contents import check_fields, digest, leaves
from sagan.runs.directory import checkpoint_path, checkpoints, run_directory
from sagan.runtime.files import write_atomically


def find_checkpoint(run_or_file: str | Path, which: str | None = None) -> Path:
    """Return the checkpoint that a RUN argument means: a file, or the newest one of a run directory.

    `which` may be "best", the name of a file of the run, or a path. Raise UserError if there is no such file.
    """
    path = Path(run_or_file).expanduser()
    if path.is_file() and which is None:
        return path
    if which == "best":
        if not path.is_dir():
            raise UserError(f"{path}: no such run directory, so there is no best checkpoint")
        best = best_checkpoint(path)
        if best is None:
            raise UserError(f"{path}: has no best checkpoint yet; the first evaluation in training finds one")
        return best
    if which is not None:
        named = [p for p in (path / "checkpoints" / which, path / which, Path(which)) if p.is_file()]
        if not named:
            raise UserError(f"--checkpoint {which}: no such file, neither as given nor in {path / 'checkpoints'}")
        return named[0]
    found = checkpoints(path)
    if not found:
        raise UserError(f"{path}: neither a checkpoint file nor a run directory with checkpoints/step-*.pt")
    return found[-1]


def pinned(run: str | Path, checkpoint: str | None) -> tuple[str | Path, str | None]:
    """Return a RUN and its checkpoint such that they keep their meaning while a run in progress writes the next one.

    A run directory becomes the file of its checkpoint. Raise UserError if it has no such file.
    """
    if isinstance(run, (str, Path)) and Path(run).expanduser().is_dir():  # what is no path is refused when it is read
        return find_checkpoint(run, checkpoint), None
    return run, checkpoint


def run_of(run: str | Path, checkpoint: str | None = None) -> Path | None:
    """Return the directory of the run whose weights a RUN and its checkpoint mean; None for a file outside of any run.

    Raise UserError if the checkpoint does not exist.
    """
    own = run_directory(run)
    if checkpoint is None:
        return own
    file = find_checkpoint(run, checkpoint)
    return own if own and file.resolve().is_relative_to(own.resolve()) else run_directory(file)


def load_checkpoint(path: Path) -> dict:
    """Return the content of a checkpoint, on the CPU.

    Its digest, if it has one, is checked and left out. Raise DamagedError, naming the file, if it cannot be read as a
    checkpoint, or if a field has a type or range that this program never writes. The error for a run's file also names
    the newest checkpoint of the run that can be read. Raise UserError if the file may be intact but the system cannot
    read it.
    """
    try:
        return read_checkpoint(path)
    except DamagedError as error:
        run_dir = path.parent.parent
        others = [p for p in reversed(checkpoints(run_dir)) if p != path] if path.parent.name == "checkpoints" else []
        whole = next((p for p in others if is_whole(p)), None)
        if whole is None:
            raise
        raise DamagedError(f"{error}; the newest one of the run that can be read: --checkpoint {whole.name}") from error


def read_checkpoint(path: Path) -> dict:
    """Return the content of a checkpoint. Raise errors as `load_checkpoint` does, without looking at other files."""
    wrong = f"{path}: cannot be read as a checkpoint: damaged or another kind of file"
    try:
        open(path, "rb").close()
    except (FileNotFoundError, IsADirectoryError) as error:  # a dangling link, or a folder of that name
        raise DamagedError(f"{wrong} ({error.strerror})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        _require_stored(path)
        with warnings.catch_warnings(action="ignore"):  # about kinds of tensors that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        if "allocate memory" in str(error) or getattr(error, "errno", None) in (errno.EIO, errno.ESTALE):
            raise UserError(f"{path}: cannot be read: {error}") from error
        raise DamagedError(f"{wrong} ({_reason(error)})") from error
    known = isinstance(content, dict) and {"step", "config", "generator"} <= content.keys()
    if not known or not isinstance(content["config"], dict):
        raise DamagedError(f"{path}: not a checkpoint of this program: expected step, config and generator in it")
    try:
        saved = content.pop("digest", None)
        found = digest(content) if saved is not None else None
        for _ in leaves(content) if saved is None else ():  # `digest` visits them too
            pass
        if saved != found:
            raise ValueError(f"its content has the digest {found}, but was saved with {saved}")
        check_fields(content)
    except ValueError as error:
        raise DamagedError(f"{path}: damaged: {error}") from error
    return content


def _require_stored(path: Path) -> None:
    """Raise ValueError if the parts of an archive add up to more than the file: compressed, or one part many times."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(part.file_size for part in archive.infolist())
        if claimed > path.stat().st_size:
            raise ValueError(f"it claims {claimed} bytes but has {path.stat().st_size}")


def _reason(error: Exception) -> str:
    """Return in a few words why torch cannot read a file, without torch's advice to load it less safely."""
    if isinstance(error, pickle.UnpicklingError):
        code = re.search(r"GLOBAL (\S+)", str(error))
        return (
            f"it holds {code[1]}, but only tensors and plain values are read" if code else "no tensors and plain values"
        )
    return one_line(error)[:200].partition(". ")[0] or "empty"


def is_whole(path: Path) -> bool:
    """Return whether a file can be read as a checkpoint."""
    try:
        read_checkpoint(path)
    except UserError:
        return False
    return True


def newest_whole(run_dir: Path) -> tuple[dict | None, dict[Path, str]]:
    """Return the content of a run's newest readable checkpoint, and the damaged ones after it (path -> reason).

    The content is None for a run without checkpoints. Raise DamagedError if all are damaged, and UserError if one may
    be intact but cannot be read.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoints(run_dir)):
        try:
            return read_checkpoint(path), damaged
        except DamagedError as error:
            damaged[path] = one_line(error)
    if damaged:
        raise DamagedError(f"{next(iter(damaged.values()))}; no checkpoint of {run_dir} can be read")
    return None, damaged


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it no longer counts as a checkpoint, and return its new path."""
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
        config = to_config(content["config"])
        split_size(config.data.size)
        return config
    except ConfigError as error:
        raise UserError(f"{path}: the configuration in it is damaged: {error}") from error


def save_checkpoint(run_dir: Path, content: dict, keep: int) -> Path:
    """Write RUN/checkpoints/step-N.pt, then remove all checkpoints but the newest `keep` and the best.

    The file also holds a digest of the content. Raise UserError, naming the file, if it cannot be written; then nothing
    is removed.
    """
    path = checkpoint_path(run_dir, content["step"])
    content = {**content, "digest": digest(content)}
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except UserError as error:
        untouched = ". Earlier checkpoints are untouched." if checkpoints(run_dir) else ""
        raise UserError(f"{error}{untouched}") from error
    prune(run_dir, keep)
    return path


def prune(run_dir: Path, keep: int) -> None:
    """Remove all checkpoints of a run but the newest `keep` and the best."""
    for old in checkpoints_to_remove(run_dir, keep):
        old.unlink(missing_ok=True)


def checkpoints_to_remove(run_dir: Path, keep: int) -> list[Path]:
    """Return all checkpoints of a run but the newest `keep` and the best, under each protocol of evaluations."""
    best = {checkpoint_path(run_dir, record["step"]) for record in best_evaluations(run_dir)}
    return [old for old in checkpoints(run_dir)[:-keep] if old not in best and not old.is_dir()]
