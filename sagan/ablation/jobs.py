"""One run of a plan: a process of its own that trains and evaluates, and what became of it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from sagan.ablation.plan import Job
from sagan.config import Config, to_config
from sagan.runs.directory import newest_step
from sagan.runs.records import read_records
from sagan.runtime.files import write_atomically
from sagan.training.health import NonFiniteError

FAILURE = "failure.json"  # in a run directory: why the run ended before its time
OUTPUT = "output.txt"  # in a run directory: what the process printed last
ERROR = "sagan train: error: "  # before the reason, in what the process prints
SECONDS = 0.5  # between two looks at a process


def run_job(job: Job, folder: str, environment: dict[str, str], stopped: Callable[[], bool]) -> None:
    """Runs `sagan train ...` for a job in a working `folder`, until it ends, or saves itself because `stopped()`.

    A failure is written into the run's directory, for `status` to find.
    """
    if stopped():
        return
    run_dir = Path(folder) / job.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / FAILURE).unlink(missing_ok=True)
    with open(run_dir / OUTPUT, "wb") as output:
        # A session of its own: Ctrl-C on the terminal reaches this program alone, which then asks each run once.
        process = subprocess.Popen(
            [sys.executable, "-m", *job.module],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code, asked = watch(process, stopped)
    if code and not asked:
        note_failure(run_dir, *ending((run_dir / OUTPUT).read_text(errors="replace"), code))


def watch(process: subprocess.Popen, stopped: Callable[[], bool]) -> tuple[int, bool]:
    """Waits for a process to end, or asks it to once `stopped()`: its exit code, and whether it was asked."""
    try:
        while process.poll() is None and not stopped():
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
    finally:  # also where this is interrupted
        asked = process.poll() is None
        if asked:
            process.send_signal(signal.SIGTERM)
        code = process.wait()
    return code, asked


def note_failure(run_dir: Path, status: str, reason: str) -> None:
    """Writes down why a run ended before its time."""
    content = json.dumps({"status": status, "reason": reason})
    write_atomically(run_dir / FAILURE, lambda file: file.write(content.encode()))


def ending(output: str, code: int) -> tuple[str, str]:
    """How a process ended, diverged or failed, and why: its error, the signal that killed it, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.partition(ERROR)[2] for line in lines if ERROR in line]
    # torchrun has an exit code of its own, and reports those of its processes.
    codes = {code, *map(int, re.findall(r"exitcode\s*:\s*(-?\d+)", output))}
    status = "diverged" if NonFiniteError.exit_code in codes else "failed"
    if errors:
        return status, errors[0]
    if code < 0:
        return status, f"killed by {signal.Signals(-code).name}"
    return status, lines[-1] if lines else f"exit code {code}"


def status(job: Job) -> tuple[str, str]:
    """What became of a job so far, and why: finished, diverged, failed, interrupted or waiting."""
    config = run_config(job)
    if config is not None and not job.is_run_of(config):
        return "failed", f"{job.run_dir} holds a run of another configuration: remove it, or give the old settings"
    if final_scores(job) is not None:
        return "finished", ""
    failure = job.run_dir / FAILURE
    if failure.is_file():
        content = json.loads(failure.read_text())
        return content["status"], content["reason"]
    step = newest_step(job.run_dir)
    return ("interrupted", f"at step {step} of {job.steps}") if step else ("waiting", "")


def run_config(job: Job) -> Config | None:
    """The configuration that the run's directory holds, with the number of classes that it found; None before."""
    file = job.run_dir / "config.yaml"
    return to_config(yaml.safe_load(file.read_text())) if file.is_file() else None


def evaluations(job: Job) -> dict[int, dict]:
    """Step -> record of the evaluation after it, up to the job's last step. The first record of a step is the run's
    own; somebody may have evaluated it once more, in another way."""
    found = [r for r in read_records(job.run_dir / "metrics.jsonl") if "evaluation" in r and r["step"] <= job.steps]
    return {r["step"]: r for r in reversed(found)}


def final_scores(job: Job) -> dict | None:
    """The record of the evaluation after the job's last step, None where there is none."""
    return evaluations(job).get(job.steps)


def last_step(run_dir: Path) -> int:
    """The newest step that a run has written about, from the end of its record."""
    file = run_dir / "metrics.jsonl"
    if not file.is_file():
        return 0
    with open(file, "rb") as content:
        content.seek(0, os.SEEK_END)
        content.seek(max(0, content.tell() - 2**15))
        lines = content.read().splitlines()
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):
            return json.loads(line)["step"]
    return 0
