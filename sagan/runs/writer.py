"""Checkpoints written by a thread while training continues."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from sagan.runs.checkpoints import save_checkpoint
from sagan.runtime.host import HostCopy


class CheckpointWriter:
    """The thread that writes the checkpoints of a run, one at a time; a context manager.

    A checkpoint is a copy of the state in main memory until it is written. Leaving the block waits for that, even after
    an error, so that nobody finds a run directory that still changes.
    """

    def __init__(self, run_dir: Path, keep: int):
        self.run_dir = run_dir
        self.keep = keep
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[Path] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.thread.shutdown()

    def save(self, content: dict[str, Any], device: torch.device) -> None:
        """Begin to write a checkpoint of what is on a device now, after waiting for the one before as `wait` does."""
        self.wait()
        copy = HostCopy(content, device)
        self.writing = self.thread.submit(lambda: save_checkpoint(self.run_dir, copy.wait(), self.keep))

    def wait(self) -> None:
        """Wait until the checkpoint is written. Raise UserError, naming the file, if it cannot be."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()
