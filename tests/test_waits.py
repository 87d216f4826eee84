"""Processes under torchrun that wait for one that does not come, with limits of seconds in the place of minutes."""

import re
import subprocess
import sys

import pytest

from tests.test_torchrun import OPTIONS, tokens

SCRIPT = """
import os, signal, sys, time
from datetime import timedelta
from sagan.commands.app import main
from sagan.runtime import distributed, waiting
from sagan.training import loop

distributed.PATIENCE, waiting.FIRST_WORD = timedelta(seconds=5), 1.0
late, place = sys.argv[1].removesuffix(", no store").split()
if place != "start":  # both arrive, at a busy machine's pace
    meet = distributed.attempt_store
    distributed.attempt_store = lambda patience: meet(timedelta(minutes=2))
if os.environ["RANK"] == late:
    if place == "start":
        time.sleep(600)
    hang = {"later": lambda facts: time.sleep(600), "stopped": lambda facts: os.kill(os.getpid(), signal.SIGSTOP)}
    loop.require_agreement = hang.get(place)
sys.exit(main(sys.argv[2:]))
"""
ERRORS = {
    "1 start": "rank 0 of 2: timed out after [5-9] seconds of waiting for rank 1",
    "0 start": "rank 1 of 2: timed out after [5-9] seconds of waiting for rank 0",
    "0 start, no store": "rank 1 of 2: timed out after [5-9] seconds of waiting for rank 0, tried at .*",
    "1 later": "rank 0 of 2: rank 1 exited or did not respond within 5 seconds: Timed out waiting 5000ms .*",
    "0 later": "rank 1 of 2: rank 0 exited or did not respond within 5 seconds: Timed out waiting 5000ms .*",
    "0 stopped": "rank 1 of 2: rank 0 exited or did not respond within 5 seconds: Timed out waiting 5000ms .*",
}


@pytest.mark.slow
@pytest.mark.parametrize("late", ERRORS)
def test_a_wait_ends_with_a_line_that_says_who_waits_for_whom(late, tmp_path, monkeypatch):
    if "no store" in late:
        monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    train = ["train", "quickstart", *tokens({**OPTIONS, "run_dir": tmp_path / "run"})]
    done = subprocess.run([*launcher, script, late, *train], capture_output=True, text=True, timeout=250)
    lines = done.stderr.splitlines()
    assert done.returncode != 0
    (line,) = (line for line in lines if line.startswith("sagan train: error: "))
    assert re.fullmatch(f"sagan train: error: {ERRORS[late]}", line)
    if "start" in late:
        rank, other = ("0", "1") if late == "1 start" else ("1", "0")
        words = f"rank {rank} of 2 has waited [1-3] seconds? for rank {other}.*"
        assert len([line for line in lines if re.fullmatch(words, line)]) == 1
    assert "sagan/runtime" not in done.stderr  # no traceback but torchrun's own
