"""The state of a run, read from its directory. A damaged file makes that run "damaged" and affects no other."""

import json
from pathlib import Path

import yaml

from sagan.ablation.variants import Job
from sagan.config import Config, ConfigError, DamagedError, to_config
from sagan.config.errors import one_line
from sagan.config.plain_yaml import load_yaml
from sagan.evaluation import comparable_terms
from sagan.runs.directory import newest_step
from sagan.runs.log import in_progress
from sagan.runs.records import is_record, json_lines, last_recorded_step, own_evaluations

FAILURE = "failure.json"  # in a run directory: why the run ended early
MEASURED = ("speed/", "memory/", "attention/gamma/")  # prefixes of values that a report also needs
LARGEST = 2**63  # integers; much larger ones do not even fit into a float


def status(job: Job) -> tuple[str, str]:
    """Return the state of a job and the reason for it. The state is finished, in progress (in another process),
    diverged, failed, interrupted, waiting or damaged."""
    try:
        if reason := obstacle(job):
            return "failed", reason
        if final_scores(job) is not None:
            return "finished", missing_in_words(job)
        if in_progress(job.run_dir):
            return "in progress", f"at step {last_recorded_step(job.run_dir)} of {job.steps}"
        failure = read_failure(job.run_dir)
    except DamagedError as error:
        return "damaged", str(error)
    if failure:
        return failure
    step = newest_step(job.run_dir)
    return ("interrupted", f"at step {step} of {job.steps}") if step else ("waiting", "")


def obstacle(job: Job) -> str:
    """Return why a job cannot be run in its directory, or nothing. Raise DamagedError."""
    config = run_config(job)
    if config is not None and not job.is_run_of(config):
        return f"{job.run_dir} has a run with another configuration: remove it, or give the old settings"
    if (step := newest_step(job.run_dir)) > job.steps and final_scores(job) is None:
        return f"{job.run_dir} has been trained to step {step}, beyond the plan's {job.steps}, and not scored there"
    return ""


def is_done(job: Job) -> bool:
    """Return whether nothing is left to do for a job. A run that diverged is done: it would diverge again."""
    state, _ = status(job)
    return state == "diverged" or (state == "finished" and not missing_draws(job))


def read_failure(run_dir: Path) -> tuple[str, str] | None:
    """Return how and why a run ended early, or None if it did not. Raise DamagedError."""
    file = run_dir / FAILURE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
        if content["status"] not in ("diverged", "failed"):
            raise ValueError(f"status {beginning(content['status'])}")
        return content["status"], str(content["reason"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError(f"{file}: expected status and reason as JSON ({beginning(error)})") from None


def run_config(job: Job) -> Config | None:
    """Return the configuration in the run's directory, with the number of classes that were found.

    Return None if there is none yet. Raise DamagedError if it cannot be read.
    """
    file = job.run_dir / "config.yaml"
    if not file.is_file():
        return None
    try:
        content = load_yaml(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DamagedError(f"{file}: cannot be read as YAML ({beginning(error)})") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{file}: expected the options of a run, found {beginning(content)}")
    try:
        return to_config(content)
    except ConfigError as error:
        raise DamagedError(f"{file}: {beginning(error)}") from None


def records_of(job: Job) -> list[dict]:
    """Return the records of a run up to the job's last step. Raise DamagedError.

    Lines that a killed process left unfinished are ignored.
    """
    file = job.run_dir / "metrics.jsonl"
    try:
        records = list(json_lines(file))
    except OSError as error:
        raise DamagedError(f"{file}: cannot be read: {error.strerror}") from error
    if not records and file.is_file() and file.stat().st_size > 1000:  # more than one unfinished line
        raise DamagedError(f"{file}: expected records as JSON, found no line that is one")
    for record in records:
        if not is_record(record):
            raise DamagedError(f"{file}: expected records with a step, found {beginning(record)}")
        if wrong := flaw(record):
            raise DamagedError(f"{file}: {wrong} at step {record['step']}")
    return [r for r in records if r["step"] <= job.steps]


def flaw(record: dict) -> str | None:
    """Return what is wrong with a record that a report reads, or None."""
    if not isinstance(record.get("warning", ""), str):
        return f"expected a warning as text, found {beginning(record['warning'])}"
    numbers = {k: v for k, v in record.items() if k.startswith(MEASURED)}
    if "evaluation" in record:
        evaluation = record["evaluation"]
        protocol = evaluation.get("protocol") if isinstance(evaluation, dict) else None
        if not isinstance(protocol, dict) or type(protocol.get("seed", 0)) is not int:
            return "expected scores with their protocol"
        numbers = {k: v for k, v in record.items() if k != "evaluation"}
    for key, value in numbers.items():
        if type(value) not in (int, float) or (isinstance(value, int) and abs(value) > LARGEST):
            return f"expected a number as {key}, found {beginning(value)}"
    return None


def evaluations(job: Job) -> dict[int, dict]:
    """Return step -> record of the run's own evaluation at it, up to the job's last step. Raise DamagedError."""
    return own_evaluations(records_of(job))


def final_scores(job: Job) -> dict | None:
    """Return the record of the evaluation after the job's last step, or None. Raise DamagedError."""
    return evaluations(job).get(job.steps)


def final_draws(job: Job) -> dict[int, dict]:
    """Return seed of the latent vectors -> record of an evaluation of the final weights, the run's own first.

    All have the same protocol except for that seed. Raise DamagedError.
    """
    own = final_scores(job)
    if own is None:
        return {}
    draws = {job.config.evaluation.seed: own}
    for record in records_of(job):
        if "evaluation" in record and record["step"] == job.steps and _terms(record) == _terms(own):
            draws.setdefault(record["evaluation"]["protocol"].get("seed"), record)
    return draws


def _terms(record: dict) -> dict:
    terms = comparable_terms(record["evaluation"]["protocol"])
    return {k: v for k, v in terms.items() if k != "seed"}


def missing_draws(job: Job) -> list[int]:
    """Return the seeds of latent vectors with which a finished run has not yet been scored. Raise DamagedError."""
    first = job.config.evaluation.seed
    there = final_draws(job)
    return [seed for seed in range(first, first + job.noise_draws) if seed not in there]


def missing_in_words(job: Job) -> str:
    """Return how many draws of a finished run are not scored, and why if that is known. Raise DamagedError."""
    if not (left := len(missing_draws(job))):
        return ""
    failure = read_failure(job.run_dir)
    return f"{left} of {job.noise_draws} draws of z are not scored{f': {failure[1]}' if failure else ''}"


def beginning(value: object) -> str:
    """Return the beginning of a value's text, in one line."""
    return one_line(value)[:80]
