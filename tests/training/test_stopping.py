"""Runs in subprocesses that are stopped by a signal or killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sagan.commands.app import main
from sagan.config import to_yaml
from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoint_path, checkpoints
from sagan.runs.records import read_records
from sagan.training.loop import train


def command(config, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(config))
    return ["train", str(file)]


def start(arguments, patch="", **kwargs):
    code = f"import sys\nsys.argv[0] = 'sagan'\nfrom sagan.commands.app import main\n{patch}\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def wait_for_step(process, run_dir, step):
    deadline = time.monotonic() + 120
    while not any(r["step"] >= step for r in read_records(run_dir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_signal_a_run_finishes_the_step_saves_and_says_how_to_resume(make_config, tmp_path, number):
    run_dir = tmp_path / "run"
    config = make_config("training.steps=100000", "logging.every=1")
    arguments = command(config, tmp_path)
    process = start(arguments)
    wait_for_step(process, run_dir, 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    step = int(re.search(r"stopped after step (\d+) of 100000; saved (\S+)", out)[1])
    (saved,) = checkpoints(run_dir)
    assert saved == checkpoint_path(run_dir, step) and step >= 2 and str(saved) in out
    assert f"To resume, run: sagan train {arguments[1]}\n" in out
    assert max(r["step"] for r in read_records(run_dir / "metrics.jsonl")) == step

    if number == signal.SIGTERM:  # and the resumed run equals an uninterrupted one
        train(make_config(f"training.steps={step + 2}", "logging.every=1"))
        train(make_config(f"training.steps={step + 2}", "logging.every=1", f"run_dir={tmp_path / 'whole'}"))
        one, two = (load_checkpoint(checkpoint_path(d, step + 2))["generator"] for d in (run_dir, tmp_path / "whole"))
        assert all(torch.equal(one[name], two[name]) for name in one)


WORKERS = ("data.memory_gb=0", "data.workers=2", "training.steps=100000", "logging.every=1", "checkpoint.every=0")


def test_a_signal_to_the_whole_process_group_stops_a_run_that_reads_in_workers(make_config, tmp_path):
    """As `timeout` sends it: to the process, and at once to its group, which includes the workers."""
    run_dir = tmp_path / "run"
    process = start(command(make_config(*WORKERS), tmp_path), start_new_session=True)
    wait_for_step(process, run_dir, 2)
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err, err
    (saved,) = checkpoints(run_dir)
    assert f"saved {saved}" in out
    assert load_checkpoint(saved)["step"] == max(r["step"] for r in read_records(run_dir / "metrics.jsonl"))


def test_a_killed_worker_is_one_error_after_the_state_is_saved(make_config, tmp_path):
    run_dir = tmp_path / "run"
    arguments = command(make_config(*WORKERS), tmp_path)
    process = start(arguments)
    wait_for_step(process, run_dir, 2)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    os.kill(int(workers[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    (saved,) = checkpoints(run_dir)
    step = load_checkpoint(saved)["step"]
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert process.returncode == 1 and "Traceback" not in err, err
    assert "a worker process that reads images ended early (killed by SIGKILL)" in line
    assert f"step {step} is saved" in line

    config = make_config(*WORKERS, f"training.steps={step + 1}")
    whole = make_config(*WORKERS, f"training.steps={step + 1}", f"run_dir={tmp_path / 'whole'}")
    one, two = (load_checkpoint(checkpoint_path(train(c), step + 1))["generator"] for c in (config, whole))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_errors_end_the_command_with_one_line(make_config, tmp_path, capsys):
    (tmp_path / "file").touch()
    run_dir = tmp_path / "file" / "run"
    assert main(command(make_config(f"run_dir={run_dir}"), tmp_path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sagan train: error: run_dir {run_dir}: ")
