"""Where things lie in a run directory."""

import os
import re
from pathlib import Path

from sagan.config import UserError
from sagan.runtime.files import LEFTOVER

PATTERN = re.compile(r"step-(\d{8})\.pt")


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


def prepare_run_dir(run_dir: Path) -> None:
    """Makes the folders of a run. Raises UserError, naming the folder, where they cannot be written."""
    for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"run_dir {run_dir}: {folder} is, or lies below, a file; expected a folder") from error
        except OSError as error:
            raise UserError(f"run_dir {run_dir}: the folder cannot be made: {error}") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"run_dir {run_dir}: no permission to write in {folder}")


def remove_leftovers(run_dir: Path) -> None:
    """Deletes temporary files that a killed process left."""
    for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
        for file in folder.glob(".*.tmp"):
            if LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)


def run_directory(run: str | Path) -> Path | None:
    """The run directory that a RUN argument is, or lies in; None for a file on its own."""
    path = Path(run)
    parent = path.parent.parent
    within = path.parent.name == "checkpoints" and (parent / "config.yaml").is_file()
    return path if path.is_dir() else parent if within else None
