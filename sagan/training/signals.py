"""Ctrl-C and SIGTERM stop a run after the current step."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from sagan.runtime.distributed import any_process

SECONDS = 2.0  # within which signals are one request: `timeout` sends two, and torchrun forwards the group's


class StopRequest:
    """A signal handler that records the first request to stop a run."""

    def __init__(self, answer: str = ""):
        self.answer = answer
        self.name: str | None = None
        self.since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.name is None:
            self.name, self.since = signal.Signals(number).name, now
            if self.answer:
                with suppress(OSError):  # a closed terminal or pipe must not keep the run from saving itself
                    os.write(2, f"\n{self.answer}\n".encode())  # `print` is not safe in a signal handler
        elif now - self.since > SECONDS:  # a second request; a checkpoint that is being written is finished first
            raise KeyboardInterrupt

    def agreed(self, failed: bool = False) -> bool:
        """Return whether any process got a request or `failed`. All get the same answer and stop at the same step."""
        return any_process(failed or self.name is not None)


@contextmanager
def stop_requests(answer: str = "") -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM for the duration of the block. Only the main thread can; others catch nothing.

    The first signal is answered with a line on stderr.
    """
    request = StopRequest(answer)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
