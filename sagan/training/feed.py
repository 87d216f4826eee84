"""The images of a step, fetched before the step begins."""

from collections.abc import Iterator

from torch import Tensor

from sagan.config import UserError
from sagan.runtime.distributed import any_process

Batch = tuple[Tensor, Tensor | None]


class Feed:
    """The batches of one step at a time: all are there before the step begins, so none is left half done.

    A failure to get them is kept for later, so that the run can save the steps taken so far.
    """

    def __init__(self, batches: Iterator[Batch], d_steps: int):
        self.batches = batches
        self.d_steps = d_steps
        self.ready: list[Batch] = []
        self.failure: UserError | None = None

    def fetch(self) -> None:
        """Get the batches of the next step, or set `failure`."""
        self.ready.clear()  # before the next ones take memory
        try:
            self.ready += (next(self.batches) for _ in range(self.d_steps))
        except UserError as error:
            self.failure = error

    def take(self) -> Iterator[Batch]:
        """Return an iterator over the batches of a step."""
        return iter(self.ready)

    def require(self, step: int) -> None:
        """Raise UserError, in all processes, if any of them could not get its batches after `step`."""
        if not any_process(self.failure is not None):
            return
        reason = self.failure or "another process of this run could not read its images"
        saved = f"; step {step} is saved, and the same command resumes it" if step else ""
        raise UserError(f"{reason}{saved}") from self.failure
