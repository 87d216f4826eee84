"""Waiting for other processes, with messages and a time limit."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import DistError  # pyright: ignore[reportPrivateImportUsage]

from sagan.config import UserError
from sagan.runtime.wording import counted

FIRST_WORD, NEXT_WORD = 60.0, 600.0  # seconds of waiting before a process says so, and before it says so again
SECONDS = 0.2  # between two polls


def wait_until(
    arrived: Callable[[], bool], who: str, whom: Callable[[], str], patience: timedelta | None = None
) -> None:
    """Return once `arrived()`, saying now and then on stderr that `who` waits for `whom()`.

    Raise UserError after `patience`, None for no limit, or if the store that `arrived` looks into has ended.
    """
    start, next_word = time.monotonic(), FIRST_WORD
    try:
        while not arrived():
            waited = time.monotonic() - start
            if patience is not None and waited > patience.total_seconds():
                raise UserError(f"{who}: timed out after {length(waited)} of waiting for {whom()}")
            if waited > next_word:
                next_word += NEXT_WORD
                print(f"{who} has waited {length(waited)} for {whom()}", file=sys.stderr, flush=True)
            time.sleep(SECONDS)
    except DistError as error:  # the store ends with its process
        raise UserError(f"{who}: rank 0 exited while this process waited for the others") from error


def length(seconds: float) -> str:
    """Return a time in words: minutes, or seconds if it is shorter."""
    return counted(round(seconds / 60), "minute") if seconds >= 60 else counted(round(seconds), "second")
