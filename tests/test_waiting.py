"""Waits between processes: who is named, what has a limit, and what a silent store cannot stop."""

import re
import threading
from datetime import timedelta

import pytest
from torch.distributed import DistError, HashStore

from sagan.commands.app import main
from sagan.config import ConfigError, UserError
from sagan.presets import load_config
from sagan.runtime import rendezvous
from sagan.runtime.rendezvous import silent_ranks
from sagan.runtime.waiting import wait_until
from tests.test_distributed import run_processes

SLOW_WORK = """
import time
from datetime import timedelta
import torch
from sagan.config import UntrustedCode
from sagan.runtime import distributed, waiting
from sagan.runtime.distributed import main_first, meet, process_group, rank, run_on_main, require_agreement

waiting.FIRST_WORD, said = 1.0, []
waiting.print = lambda words, **more: said.append(words)

def slowly(on):
    if rank() == on:
        time.sleep(9)
    return rank()

def refuse():
    raise UntrustedCode("a file", ["some_module"])

meeting = distributed.attempt_store
distributed.attempt_store = lambda patience: meeting(timedelta(minutes=2))  # as slow as a busy machine is
distributed.PATIENCE = timedelta(seconds=6)
with process_group(torch.device("cpu")):
    said.clear()  # of processes that were slow to start
    with main_first("opens the data"):
        slowly(1)
    require_agreement({"step": 3})
    slowly(1)
    meet("reads the images")
    require_agreement({"step": 3})
    print("read", run_on_main(lambda: slowly(0), "computes the scores"))
    try:
        run_on_main(refuse)
    except UntrustedCode as error:
        print("refused", error.what, error.modules)
print(*dict.fromkeys(said), sep="\\n")
"""


def test_work_that_takes_longer_than_an_operation_may_is_waited_for(tmp_path):
    said = run_processes(load_config("quickstart"), tmp_path, script=SLOW_WORK)
    for words in said:
        assert words.startswith("read 0\nrefused a file ['some_module']\n")
    seconds = "has waited [1-9] seconds? for rank"
    for words, what in zip(
        said, ("1, which (opens the data|reads the images)", "0, which computes the scores"), strict=True
    ):
        lines = words.splitlines()[2:]
        assert lines and all(re.fullmatch(f"rank [01] {seconds} {what}", line) for line in lines), words


def test_a_store_that_never_answers_does_not_lift_the_limit():
    never = threading.Event().wait
    with pytest.raises(
        UserError, match="^rank 1: timed out after 1 second of waiting for rank 0, whose store does not"
    ):
        wait_until(never, "rank 1", never, timedelta(seconds=1))


def test_an_error_of_what_is_waited_for_is_raised():
    def fail(error):
        raise error

    with pytest.raises(ConfigError, match="^wrong$"):
        wait_until(lambda: fail(ConfigError("wrong")), "rank 1", str)
    with pytest.raises(UserError, match="^rank 1: rank 0 exited while this process waited for the others$"):
        wait_until(lambda: fail(DistError("gone")), "rank 1", str)


class Ended(HashStore):
    """A store whose process ends once it has been asked so often."""

    def __init__(self, questions):
        super().__init__()
        self.questions = questions

    def check(self, keys):
        self.questions -= 1
        if self.questions < 0:
            raise DistError("the connection is closed")
        return super().check(keys)


@pytest.mark.parametrize(
    ("reported", "questions", "silent"),
    [
        ([0, 1, 3], 1000, [2]),
        ([0, 1, 2, 3], 1000, []),
        ([1], 0, [0]),  # rank 0 has gone without a word
        ([2, 3], 4, [0]),  # it was there when the others were asked, and then gone
        ([0, 2], 4, [3]),  # it has reported, so it did not fail
    ],
)
def test_the_ranks_that_do_not_report_are_named(reported, questions, silent, monkeypatch):
    monkeypatch.setattr(rendezvous, "GRACE", timedelta(seconds=1))
    store = Ended(questions)
    for rank in reported:
        store.set(f"{rendezvous.FAILED}/{rank}", "")
    assert silent_ranks(store, 1, 4) == silent


def test_a_verb_of_one_process_is_refused_under_torchrun(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["pack", "quickstart", "--out", str(tmp_path / "packed")]) == 2
    assert "pack: uses one process, but torchrun has started 2" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
