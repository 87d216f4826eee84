"""Files that are written whole or not at all."""

import os
import re
from contextlib import suppress
from pathlib import Path

from sagan.config import UserError

LEFTOVER = re.compile(r"\..+\.\d+\.tmp")  # what `write_atomically` calls its temporary files


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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and the file is in place already
            os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path, option: str, *, folder: bool) -> None:
    """Looks, before hours of work, whether a file or a folder can be written there. Raises UserError."""
    if path.exists() and path.is_dir() != folder:
        kinds = ("a file", "a folder")
        raise UserError(f"{option} {path}: is {kinds[path.is_dir()]}, expected {kinds[folder]}")
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if existing != path and not existing.is_dir():
        raise UserError(f"{option} {path}: cannot be written, {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written, no permission in {existing}")
