"""Requests to stop."""

import os
import signal
import threading

import pytest

from sagan.training.signals import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_requests_a_stop_and_the_second_interrupts(number, monkeypatch):
    with stop_requests() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), number)
        assert stop.agreed()
        os.kill(os.getpid(), number)  # at once: the same request, sent to the process and to its group
        monkeypatch.setattr("sagan.training.signals.SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_stopping():
    """As after Ctrl-C in `sagan train 2>&1 | tee log`, which ends `tee`, too."""
    saved, (reader, writer) = os.dup(2), os.pipe()
    os.close(reader)
    os.dup2(writer, 2)  # to write there is an error now
    try:
        with stop_requests("stopping") as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.agreed()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writer)


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stop_requests() as stop:
        assert signal.getsignal(signal.SIGINT) is stop
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_no_signal_is_caught():
    answers = []

    def work():
        with stop_requests() as stop:
            answers.append(stop.agreed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
