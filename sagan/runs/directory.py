"""The layout of a run directory."""

import os
import re
from pathlib import Path

from sagan.config import Config, ConfigError, UserError
from sagan.runtime.files import LEFTOVER

PATTERN = re.compile(r"step-(\d{8,})\.pt")


def configured_run_dir(config: Config) -> Path:
    """Return the run directory of a configuration. Raise ConfigError if it has none."""
    if config.run_dir is None:
        raise ConfigError("run_dir null: expected a folder for the run")
    return Path(config.run_dir)


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Return the path of a step's checkpoint, such as RUN/checkpoints/step-00001000.pt."""
    return run_dir / "checkpoints" / f"step-{step:08d}.pt"


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = (p for p in (run_dir / "checkpoints").glob("step-*.pt") if PATTERN.fullmatch(p.name))
    return sorted(found, key=lambda path: (len(path.name), path.name))


def newest_step(run_dir: Path) -> int:
    """Return the step of the newest checkpoint of a run, 0 if there is none."""
    names = (PATTERN.fullmatch(path.name) for path in checkpoints(run_dir))
    return max((int(name[1]) for name in names if name), default=0)


def prepare_run_dir(run_dir: Path) -> None:
    """Create the folders of a run. Raise UserError, naming the folder, if one cannot be created or written to."""
    for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"run_dir {run_dir}: {folder} is a file or inside a file; expected a folder") from error
        except OSError as error:
            raise UserError(f"run_dir {run_dir}: the folder cannot be created: {error}") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"run_dir {run_dir}: no write permission in {folder}")


def remove_leftovers(run_dir: Path) -> None:
    """Delete temporary files left behind by a killed process."""
    for folder in (run_dir, run_dir / "checkpoints", run_dir / "samples"):
        for file in folder.glob(".*.tmp"):
            if LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)


def run_directory(run: str | Path) -> Path | None:
    """Return the run directory that a RUN argument names or is inside, or None for a file outside of any run."""
    path = Path(run).expanduser()
    parent = path.parent.parent
    within = path.parent.name == "checkpoints" and (parent / "config.yaml").is_file()
    return path if path.is_dir() else parent if within else None
