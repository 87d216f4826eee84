"""`sagan ablate`: train and score the variants of a plan, and report how they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Gt, doc
from cyclopts import Parameter

from sagan.commands.options import Flat, Given, TrainOptions
from sagan.config import Config, ConfigError
from sagan.config.types import PositiveProcesses, as_text
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable

if TYPE_CHECKING:
    from sagan.ablation.variants import Job

WITH_POWER = "a number above 0, together with --power"


@dataclass(frozen=True)
class Options:
    """Which part of a plan to run, and how."""

    size: str | None = None
    """One of the plan's sizes; null: its first."""
    seeds: list[int] | None = None
    """Run only these of the plan's seeds; null: all."""
    variants: list[str] | None = None
    """Run only these variants; null: all. The report covers all variants that have results."""
    jobs: PositiveProcesses = 1
    """Runs at a time (with ray: per machine). They share the cores; each has its own GPU if there are several."""
    executor: Literal["local", "ray"] = "local"
    """local: processes on this machine; ray: the cluster of $RAY_ADDRESS, or one started here."""
    dry_run: bool = False
    """Print what would run, and stop: nothing is trained or written."""
    report_only: bool = False
    """Write the report from existing results, and train nothing."""
    power: bool = False
    """Print how large a difference the plan's seeds can show, from earlier results or power_sd, and train nothing."""
    power_sd: Annotated[float, Gt(0), doc(WITH_POWER)] | None = None
    """Standard deviation of paired differences, in units of the plan's metric; null: that of the results."""
    power_difference: Annotated[float, Gt(0), doc(WITH_POWER)] | None = None
    """A difference that the plan should be able to show: print how many seeds it needs."""


PlanFile = Annotated[str, Parameter(help="the name of a plan, such as attention-kinds, or a YAML file")]


def ablate(
    plan: PlanFile, /, *, given: Given, options: Flat[Options] = Options(), config: TrainOptions = Config()
) -> None:
    """Train and score every variant of a plan with every seed, and write tables, plots and report.md.

    PLAN is the name of a shipped plan or a YAML file. The report for plan.yaml is written to the same folder, and that
    for NAME.yaml to NAME/ beside it; a size other than the first has its own subfolder. If the plan comes with an
    installed package, the folder is NAME/ in the working directory.

    Each run has its own process and run directory. Finished runs are skipped, interrupted ones resumed, and failures
    reported: to continue, run the same command. Options of `sagan train` apply to every run that does not set them
    itself.

    examples:
      sagan ablate attention-kinds
      sagan ablate attention-kinds --power --power_sd 0.03 --power_difference 0.05
      sagan ablate experiments/attention-kinds/plan.yaml --size gpu --jobs 8
      sagan ablate experiments/attention-kinds/plan.yaml --report_only
    """
    overrides = given.of(Config)
    for setting in [] if options.power else given.starting("power_"):
        raise ConfigError(f"--{setting.key} {setting.value}: expected {WITH_POWER}")
    from sagan.ablation import running
    from sagan.ablation.plan import load_plan, plan_file
    from sagan.ablation.power_table import power_table
    from sagan.ablation.report import refuse_foreign_files, write_report
    from sagan.ablation.results import known_rows
    from sagan.ablation.variants import plan_jobs

    content = load_plan(plan_file(plan), options.size)
    variants = chosen("variants", options.variants, list(content.variants), plan)
    seeds = chosen("seeds", options.seeds, content.seeds, plan)
    jobs = plan_jobs(content, overrides)
    known = known_rows(content.folder, jobs)  # refuses the results of another plan
    wanted: list[Job] = [j for j in jobs if j.variant in variants and j.seed in seeds]
    if options.dry_run:
        return print(*map(printable, running.plan_of(wanted, set(known))), sep="\n")
    if options.power:
        return print(printable(power_table(content, jobs, options.power_sd, options.power_difference)))
    check_writable(content.folder, "the folder of the report", folder=True)
    refuse_foreign_files(content, known)
    if not options.report_only:
        running.run(wanted, set(known), options.executor, options.jobs)
    size = ["--size", options.size] if options.size else []
    whole = [plan, *size, *(word for s in overrides for word in (f"--{s.key}", as_text(s.value)))]
    print(printable(str(write_report(content, jobs, whole))))


def chosen(option: str, asked: Sequence[Any] | None, known: Sequence[Any], plan: str) -> Sequence[Any]:
    """Return the requested values, by default all known ones. Raise ConfigError for one that the plan does not have."""
    for value in asked or ():
        if value not in known:
            raise ConfigError(f"--{option} {value}: {plan} has {', '.join(map(str, known))}")
    return asked or known
