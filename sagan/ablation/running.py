"""Execution of the runs of a plan, with a progress display."""

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from sagan.ablation.executors import EXECUTORS
from sagan.ablation.jobs import tell
from sagan.ablation.outcomes import is_done, obstacle, status
from sagan.ablation.variants import Job
from sagan.config import LOCAL, DamagedError, UserError
from sagan.evaluation import build_extractor
from sagan.runs.records import last_recorded_step
from sagan.runtime.files import check_writable
from sagan.runtime.wording import counted
from sagan.training.signals import stop_requests

SECONDS = 30.0  # between lines, if there is no bar


def require_inputs(jobs: list[Job]) -> None:
    """Raise UserError, before the first run, if data or the extractor weights are missing, or no run can be written."""
    for job in jobs:
        check_writable(job.run_dir, "run_dir", folder=True)
    for path in {j.config.data.path for j in jobs if j.config.data.source in LOCAL}:
        if not Path(path or "").expanduser().exists():
            raise UserError(f"data.path {path}: no such folder or file; --data.path says where the images are")
    extractors = {repr(j.config.evaluation.extractor): j.config.evaluation.extractor for j in jobs}
    for extractor in extractors.values():
        build_extractor(extractor)


def run(jobs: list[Job], kept: set[tuple], executor: str, at_once: int) -> None:
    """Run the jobs that are not finished. A run that diverged would diverge again, and is left alone.

    `kept` are the runs that results.csv holds, as (variant, seed): not trained again even if their directory is gone.
    Raise UserError, before the first run, as `require_inputs` does.
    """
    waiting = remaining(jobs, kept)
    if not waiting:
        return
    require_inputs(waiting)
    with stop_requests() as stop, Display(jobs, waiting) as display:
        for ended in EXECUTORS[executor](waiting, at_once, lambda: stop.name is not None):
            display(ended)
    if stop.name is not None:
        print("stopped; the active runs have saved their state, and the same command resumes them")


def remaining(jobs: list[Job], kept: set[tuple]) -> list[Job]:
    """Return the jobs that `run` would run. A line says why if one of them cannot."""
    left = [j for j in jobs if not is_done(j) and ((j.variant, j.seed) not in kept or status(j)[0] == "finished")]
    return [j for j in left if can_start(j)]


def plan_of(jobs: list[Job], kept: set[tuple]) -> list[str]:
    """Return what `run` would do with each job, as text, and how many steps that takes in all."""
    left = remaining(jobs, kept)
    lines = []
    for job in jobs:
        state, reason = status(job)
        if state == "waiting" and job not in left:
            state, reason = "done", "its directory is gone; its row in results.csv is kept"
        lines.append(state_in_words(job, state, reason))
    steps = sum(job.steps - last_recorded_step(job.run_dir) for job in left)
    return [*lines, f"to run: {len(left)} of {counted(len(jobs), 'run')}, {counted(steps, 'step')}"]


def state_in_words(job: Job, state: str, reason: str) -> str:
    """Return a line about a job in a state that `status` returns."""
    return f"{job.variant}, seed {job.seed}: {state}{f' ({reason})' if reason else ''}"


def can_start(job: Job) -> bool:
    """Return whether a job can be run in its directory. If it cannot, a line says why."""
    try:
        reason = obstacle(job)
    except DamagedError:  # training may mend a damaged record
        return True
    if reason:
        tell(f"{job.variant}, seed {job.seed}: not started: {reason}")
    return not reason


class Display:
    """One progress bar for all runs, with steps, time left and the number of runs that ended.

    If stderr is not a terminal, a line is printed every half minute instead.
    """

    def __init__(self, jobs: list[Job], waiting: list[Job]):
        self.total = len(jobs)
        self.ended = Counter({"ended earlier": len(jobs) - len(waiting)})
        self.steps = {job: last_recorded_step(job.run_dir) for job in waiting}
        total, initial = sum(j.steps for j in waiting), sum(self.steps.values())
        self.bar = tqdm(total=total, initial=initial, unit="step", dynamic_ncols=True, disable=None)
        self.start = (time.monotonic(), initial)
        self.since = self.start[0]
        self.active = set(waiting)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exception) -> None:
        with suppress(OSError):  # of a closed terminal
            self.bar.close()

    def __call__(self, ended: Job | None) -> None:
        if ended is not None:
            self.active.discard(ended)
            state, reason = status(ended)
            self.ended[state] += 1
            if state == "waiting":  # stopped before it started
                return
            tell(state_in_words(ended, state, reason))
        for job in self.active:
            with suppress(OSError):  # of a network drive, for a moment
                self.steps[job] = last_recorded_step(job.run_dir)
        done = sum(self.steps.values())
        runs = ", ".join(f"{n} {state}" for state, n in self.ended.items() if n and state != "waiting")
        if not self.bar.disable:
            with suppress(OSError):  # of a closed terminal
                self.bar.set_postfix_str(f"of {self.total} runs {runs or 'none ended'}", refresh=False)
                self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.since >= SECONDS:
            self.since = time.monotonic()
            rate = (done - self.start[1]) / (self.since - self.start[0])
            left = tqdm.format_interval((self.bar.total - done) / rate) if rate > 0 else "unknown time"
            tell(f"step {done} of {self.bar.total}; of {self.total} runs {runs or 'none ended'}; {left} left")
