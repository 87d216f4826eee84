"""`sagan ablate`: from a plan to a report."""

import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from sagan.ablation.executors import EXECUTORS
from sagan.ablation.outcomes import is_done, last_step, status
from sagan.ablation.plan import Plan, load_plan, plan_file
from sagan.ablation.power_table import power_table
from sagan.ablation.report import write_report
from sagan.ablation.results import known_rows
from sagan.ablation.variants import Job, plan_jobs
from sagan.config import ConfigError, UserError
from sagan.evaluation import build_extractor
from sagan.option_parser import Setting
from sagan.options import AblateOptions
from sagan.runtime.files import check_writable
from sagan.training.signals import stop_requests

OWN = {"run_dir": "a plan gives each run a directory of its own", "training.seed": "the plan's seeds set it"}
SECONDS = 30.0  # between lines, where there is no bar


def ablate(file: str, options: AblateOptions, overrides: list[Setting], command: list[str]) -> Path | str:
    """Train and score what a plan asks for and is not there yet, and write its report; return report.md.

    With `power`, return a table of what the plan's seeds can show, and train nothing.

    Raise ConfigError, UserError for a plan, option, folder or weights that are wrong, before anything is trained.
    """
    plan, jobs = prepare(file, options, overrides)
    if options.power:
        return power_table(plan, jobs, options.power_sd, options.power_difference)
    if not options.report_only:
        chosen = [j for j in jobs if j.variant in (options.variants or [j.variant])]
        chosen = [j for j in chosen if j.seed in (options.seeds or [j.seed])]
        require_inputs(chosen)
        run(chosen, plan, options)
    return write_report(plan, jobs, command)


def prepare(file: str, options: AblateOptions, overrides: list[Setting]) -> tuple[Plan, list[Job]]:
    """The plan and all its runs, every configuration checked."""
    for setting in overrides:
        if setting.key in OWN:
            raise ConfigError(f"--{setting.key} {setting.value}: {OWN[setting.key]}")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: expected a number above 0")
    for option in ("power_sd", "power_difference"):
        value = getattr(options, option)
        if value is not None and not (options.power and 0 < value < float("inf")):
            raise ConfigError(f"--{option} {value}: expected a number above 0, together with --power")
    plan = load_plan(plan_file(file), options.size)
    for option, known in (("variants", plan.variants), ("seeds", plan.seeds)):
        for chosen in getattr(options, option) or []:
            if chosen not in known:
                raise ConfigError(f"--{option} {chosen}: {file} has {', '.join(map(str, known))}")
    jobs = plan_jobs(plan, overrides)
    known_rows(plan.folder, jobs)  # refuses the results of another plan
    check_writable(plan.folder, "the folder of the report", folder=True)
    return plan, jobs


def require_inputs(jobs: list[Job]) -> None:
    """Refuses, before the first run, what would stop every run: folders and weights that are not there."""
    for path in {j.config.data.path for j in jobs if j.config.data.source in ("folder", "packed")}:
        if not Path(path).expanduser().is_dir():
            raise UserError(f"data.path {path}: no such folder; --data.path says where the images are")
    extractors = {repr(j.config.evaluation.extractor): j.config.evaluation.extractor for j in jobs}
    for extractor in extractors.values():
        build_extractor(extractor)


def run(jobs: list[Job], plan: Plan, options: AblateOptions) -> None:
    """Runs the jobs that are not finished. A run that diverged would do so again, and is left alone."""
    kept, _ = known_rows(plan.folder, jobs)
    waiting = [j for j in jobs if not is_done(j) and ((j.variant, j.seed) not in kept or status(j)[0] == "finished")]
    if not waiting:
        return
    with stop_requests() as stop, Display(jobs, waiting) as display:
        for ended in EXECUTORS[options.executor](waiting, options.jobs, lambda: stop.name is not None):
            display(ended)
    if stop.name is not None:
        print("stopped; runs under way have saved themselves, and the same command goes on")


class Display:
    """One bar for all runs: steps done of all steps, time left, runs that ended. A line every half minute where stderr
    is no terminal."""

    def __init__(self, jobs: list[Job], waiting: list[Job]):
        self.total = len(jobs)
        self.ended = Counter({"finished": len(jobs) - len(waiting)})
        self.steps = {job: last_step(job.run_dir) for job in waiting}
        self.bar = tqdm(total=sum(j.steps for j in waiting), initial=sum(self.steps.values()), unit="step",
                        dynamic_ncols=True, disable=None)  # fmt: skip
        self.start, self.since = (time.monotonic(), sum(self.steps.values())), time.monotonic()
        self.active = set(waiting)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()

    def __call__(self, ended: Job | None) -> None:
        if ended is not None:
            self.active.discard(ended)
            state, reason = status(ended)
            self.ended[state] += 1
            if state == "waiting":  # stopped before its turn came
                return
            tqdm.write(f"{ended.variant}, seed {ended.seed}: {state}{f' ({reason})' if reason else ''}", sys.stderr)
        for job in self.active:
            self.steps[job] = last_step(job.run_dir)
        done = sum(self.steps.values())
        runs = ", ".join(f"{n} {state}" for state, n in self.ended.items() if n and state != "waiting")
        if not self.bar.disable:
            self.bar.set_postfix_str(f"of {self.total} runs {runs or 'none ended'}", refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.since >= SECONDS:
            self.since = time.monotonic()
            rate = (done - self.start[1]) / (self.since - self.start[0])
            left = tqdm.format_interval((self.bar.total - done) / rate) if rate > 0 else "unknown time"
            tqdm.write(
                f"step {done} of {self.bar.total}; of {self.total} runs {runs or 'none ended'}; {left} left", sys.stderr
            )
