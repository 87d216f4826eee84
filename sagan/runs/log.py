"""The log of a run: metrics.jsonl (its record), log.txt (its terminal output) and TensorBoard's event files."""

import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from sagan.config import UserError
from sagan.runs.board import Board
from sagan.runs.dashboard import summaries_of, table
from sagan.runs.directory import checkpoints
from sagan.runs.records import forget_after
from sagan.runtime.wording import printable

Writer = TypeVar("Writer")
LOCK = ".lock"
BUSY = "another process is training there"


class RunLog:
    """The log of one run directory, a context manager. If `active` is false, every method does nothing.

    While it is open, no other process can open a log in the same directory: two runs there would overwrite each other's
    checkpoints. `begin` must be called before `record`, `image` and `blobs`, but not before `say`. Warnings that reach
    the logger `sagan`, such as that of a skipped image, are passed to `say` too. Every method raises UserError, naming
    the folder, if the disk is full or a file cannot be written.
    """

    def __init__(self, run_dir: Path, active: bool = True):
        self.active = active
        self.run_dir = run_dir
        self.text: TextIO | None = None
        self.metrics: TextIO | None = None
        self.board: Board | None = None
        self.handler = _Handler(self)
        self.lock = FileLock(run_dir / LOCK)

    def __enter__(self) -> "RunLog":
        if self.active:
            with self._writing():
                self._take()
                self.text = open(self.run_dir / "log.txt", "a", encoding="utf-8")
            logging.getLogger("sagan").addHandler(self.handler)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("sagan").removeHandler(self.handler)
        for writer in (self.board, self.metrics, self.text):
            with suppress(OSError):  # every line is flushed already; nothing may hide the error that ended the run
                if writer is not None:
                    writer.close()
        self.lock.release()

    def _take(self) -> None:
        try:
            self.lock.acquire(timeout=1)  # `in_progress` holds it for an instant
        except Timeout:
            raise UserError(f"run_dir {self.run_dir}: {BUSY}; wait for it or choose another run_dir") from None

    def begin(self, step: int) -> None:
        """Open the records for the steps after `step`. Drop records of these steps, which a resumed run repeats."""
        if not self.active:
            return
        forget_after(self.run_dir / "metrics.jsonl", step)
        with self._writing():
            self.metrics = open(self.run_dir / "metrics.jsonl", "a", encoding="utf-8")
            # Step 0 holds the real images, which a run that starts at step 0 writes again.
            self.board = Board(self.run_dir, purge_step=step + 1 if step else 0)

    def say(self, *lines: str) -> None:
        """Print lines above the progress bar and append them to log.txt."""
        if not self.active:
            return
        lines = tuple(map(printable, lines))  # names of classes and files may come from anyone
        with suppress(OSError):  # a closed terminal or pipe must not end a run; log.txt has the lines too
            for line in lines:
                tqdm.write(line)
        with self._writing():
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            text = _opened(self.text)
            text.write("".join(f"{stamp}  {line}\n" for line in lines))
            text.flush()

    def describe(self, configuration: dict[str, Any], text: str, metrics: list[str]) -> None:
        """Tell TensorBoard once how to chart a run and what its configuration is; see `dashboard.summaries_of`."""
        if not self.active:
            return
        with self._writing():
            board = _opened(self.board)
            for summary in summaries_of(configuration, text, metrics):
                board.summary(summary, 0)
            board.flush()

    def record(
        self,
        step: int,
        values: dict[str, float],
        *,
        group: str = "",
        charted: dict[str, float] | None = None,
        **extra: object,
    ) -> None:
        """Append a line to metrics.jsonl, and add the values to TensorBoard with `group` as a prefix of their names.

        `charted`, if given, holds the numbers that TensorBoard charts instead of the values, which it then shows as a
        table.
        """
        if not self.active:
            return
        with self._writing():
            metrics, board = _opened(self.metrics), _opened(self.board)
            # The record comes last, because a resumed run repeats whatever has no complete record.
            if charted is not None:
                board.text(next(iter(values)).partition("/")[0], table(values), step)
            shown = values if charted is None else charted
            board.scalars({f"{group}{name}": value for name, value in shown.items()}, step)
            board.flush()
            metrics.write(json.dumps({"step": step, **extra, **values}) + "\n")
            metrics.flush()

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Add a uint8 image (C, H, W) to TensorBoard."""
        if not self.active:
            return
        with self._writing():
            board = _opened(self.board)
            board.image(name, image, step)
            board.flush()

    def blobs(self, name: str, blobs: list[bytes], step: int, plugin: str) -> None:
        """Add a list of blobs to TensorBoard for one of its plugins.

        Add at most one list per name and step. If there are several, TensorBoard's two loaders keep different ones.
        """
        if not self.active:
            return
        with self._writing():
            board = _opened(self.board)
            board.blobs(name, blobs, step, plugin)
            board.flush()

    def require_folder(self) -> None:
        """Raise UserError if the run directory has been deleted or moved: only later writes would be in a new one."""
        if not self.active:
            return
        with self._writing():
            opened, there = os.fstat(_opened(self.metrics).fileno()), os.stat(self.run_dir / "metrics.jsonl")
            if not os.path.samestat(opened, there):
                raise FileNotFoundError(errno.ENOENT, "metrics.jsonl has been replaced")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            there = "Checkpoints are untouched" if checkpoints(self.run_dir) else "There is no checkpoint"
            fate = there if self.run_dir.is_dir() else "The folder has been deleted or moved"
            raise UserError(f"run_dir {self.run_dir}: the log cannot be written: {error}. {fate}.") from error


def in_progress(run_dir: Path) -> bool:
    """Return whether a process, which may be on another machine, is training in a run directory."""
    if not (run_dir / LOCK).is_file():
        return False
    try:
        with FileLock(run_dir / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only folder
        return False


def _opened(writer: Writer | None) -> Writer:
    if writer is None:
        raise RuntimeError("the log is not open")
    return writer


class _Handler(logging.Handler):
    """A handler that passes log messages to a RunLog."""

    def __init__(self, log: RunLog):
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.say(printable(f"{record.levelname.lower()}: {record.getMessage()}", keep=""))
