"""Requests to stop."""

import os
import signal
import threading

import pytest

from sagan.training.signals import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_and_a_second_one_insists(number):
    with stop_requests() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), number)
        assert stop.agreed()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stop_requests() as stop:
        assert signal.getsignal(signal.SIGINT) is stop
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_goes_without_signals():
    answers = []

    def work():
        with stop_requests() as stop:
            answers.append(stop.agreed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
