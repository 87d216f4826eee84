"""Waiting for other processes, with messages and a time limit."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from torch.distributed import DistError

from sagan.config import UserError
from sagan.runtime.wording import counted

T = TypeVar("T")
FIRST_WORD, NEXT_WORD = 60.0, 600.0  # seconds of waiting before a process says so, and before it says so again
SECONDS = 0.2  # between two polls


def wait_until(
    arrived: Callable[[], bool], who: str, whom: Callable[[], str], patience: timedelta | None = None
) -> None:
    """Return once `arrived()`, saying now and then on stderr that `who` waits for `whom()`.

    Raise UserError after `patience`, None for no limit, or if the store that `arrived` looks into has ended. Both are
    called in a thread: the store of a process that has been stopped never answers.
    """
    problems: list[Exception] = []
    over, started = threading.Event(), time.monotonic()

    def poll() -> None:
        try:
            while not over.is_set() and not arrived():
                time.sleep(SECONDS)
        except Exception as error:
            problems.append(error)

    def words() -> str:
        return within(SECONDS * 10, whom) or "rank 0, whose store does not answer"

    thread, next_word = threading.Thread(target=poll, daemon=True), FIRST_WORD
    thread.start()
    try:
        while thread.is_alive():
            thread.join(SECONDS)
            waited = time.monotonic() - started
            if thread.is_alive() and patience is not None and waited > patience.total_seconds():
                raise UserError(f"{who}: timed out after {length(waited)} of waiting for {words()}")
            if thread.is_alive() and waited > next_word:
                next_word += NEXT_WORD
                print(f"{who} has waited {length(waited)} for {words()}", file=sys.stderr, flush=True)
    finally:
        over.set()
    for error in problems:
        if isinstance(error, DistError):  # the store ends with its process
            raise UserError(f"{who}: rank 0 exited while this process waited for the others") from error
        raise error


def within(seconds: float, ask: Callable[[], T]) -> T | None:
    """Return what `ask` returns, or None if that takes longer or its store has ended."""
    answers: list[T] = []

    def run() -> None:
        with suppress(DistError):
            answers.append(ask())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def length(seconds: float) -> str:
    """Return a time in words: minutes, or seconds if it is shorter."""
    return counted(round(seconds / 60), "minute") if seconds >= 60 else counted(round(seconds), "second")
