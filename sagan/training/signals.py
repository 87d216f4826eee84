"""Ctrl-C and SIGTERM end a run after the step that is under way."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sagan.runtime.distributed import any_process


class StopRequest:
    """Whether somebody asked the run to stop, and how."""

    def __init__(self):
        self.name: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None:  # the second time, at once
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def agreed(self) -> bool:
        """Whether any process of the run was asked; all of them get the same answer, so all stop at the same step."""
        return any_process(self.name is not None)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM for the length of the block; a thread beside the main one cannot, and goes without."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
