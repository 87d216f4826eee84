"""Atomic writes, and early checks that a path is writable."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sagan.config import UserError

LEFTOVER = re.compile(r"\..+\.\d+\.tmp")  # names of the temporary files of `write_atomically`


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call write(file) on a temporary file next to `path`, flush it to disk and rename it.

    Readers of `path` see either the old content or the new, never a part. A link stays a link, and the file that it
    leads to is written. Raise UserError, naming the file, if the disk is full or the folder is not writable; the old
    content then stays.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    except RuntimeError as error:
        # torch.save reports a full disk as an unrelated error about positions in the file.
        hidden = error.__context__
        if not isinstance(hidden, OSError) and "PytorchStreamWriter" not in str(error) + str(hidden):
            raise
        raise UserError(f"{path}: cannot be written: {hidden if isinstance(hidden, OSError) else error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not support it; the file is already in place
            os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path, option: str, *, folder: bool) -> None:
    """Raise UserError unless a file (or a folder) can be written at `path`. Call this before hours of work."""
    if path.exists() and path.is_dir() != folder:
        kinds = ("a file", "a folder")
        raise UserError(f"{option} {path}: is {kinds[path.is_dir()]}, expected {kinds[folder]}")
    if path.exists() and not folder and not path.is_file():
        raise UserError(f"{option} {path}: is neither a file nor a new name, so it cannot be replaced")
    target = path if folder else Path(os.path.realpath(path)).parent  # a file is replaced by a new one beside it
    existing = next(p for p in (target, *target.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise UserError(f"{option} {path}: cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written: no write permission in {existing}")
