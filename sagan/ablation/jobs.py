"""One run of a plan: its own processes that train and evaluate, and a record of how they ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from sagan.ablation.outcomes import FAILURE, is_done, missing_draws, status
from sagan.ablation.variants import Job
from sagan.config import LOCAL, Config
from sagan.config.dotted import is_dotted, module_of
from sagan.runs.directory import checkpoint_path
from sagan.runs.log import BUSY, in_progress
from sagan.runtime.files import write_atomically
from sagan.training.health import NonFiniteError

LOCK = ".ablate.lock"  # in a run directory: held by the `sagan ablate` that runs it
OUTPUT = "output.txt"  # in a run directory: what the last processes printed
ERROR = re.compile("sagan (?:train|evaluate): error: ")  # before the reason, in what the process prints
SECONDS = 0.5  # between two checks of a process


def tell(line: str) -> None:
    """Print a line on stderr, above a progress bar."""
    with suppress(OSError):  # a closed terminal or pipe must not end the runs
        tqdm.write(line, sys.stderr)


def run_job(job: Job, folder: str, environment: dict[str, str], stopped: Callable[[], bool]) -> None:
    """Run the remaining commands of a job, in a working `folder`, until they end or `stopped()`.

    A training run that is stopped saves itself. A failure is recorded in the run's directory for `status`. If another
    process trains the run, for example because its `sagan ablate` was killed, wait for it, and resume the run if it is
    not done.
    """
    run_dir = Path(folder) / job.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    with alone(job, run_dir, stopped):
        if not is_done(as_found(job, run_dir)):
            run_to_its_end(job, run_dir, folder, environment, stopped)


@contextmanager
def alone(job: Job, run_dir: Path, stopped: Callable[[], bool]) -> Iterator[None]:
    """Keep other calls of `sagan ablate` away from a run for the duration of the block; wait for one that is there."""
    lock, told = FileLock(run_dir / LOCK), False
    while not (lock.is_locked or stopped()):
        try:
            lock.acquire(timeout=SECONDS)
        except Timeout:
            if not told:
                name = f"{job.variant}, seed {job.seed}"
                tell(f"{name}: another `sagan ablate` runs it, in {run_dir}; waiting for it")
            told = True
    try:
        yield
    finally:
        lock.release()


def run_to_its_end(
    job: Job, run_dir: Path, folder: str, environment: dict[str, str], stopped: Callable[[], bool]
) -> None:
    """Run the remaining commands of a job, after other processes that train it, and record a failure."""
    reason = BUSY
    while BUSY in reason and not stopped():
        if wait_for_others(job, run_dir, stopped):
            return
        (run_dir / FAILURE).unlink(missing_ok=True)
        (run_dir / OUTPUT).unlink(missing_ok=True)
        state, reason = run_commands(commands_left(job, run_dir), run_dir, folder, environment, stopped)
        if reason and BUSY not in reason:  # else another process was faster
            note_failure(run_dir, state, reason)


def wait_for_others(job: Job, run_dir: Path, stopped: Callable[[], bool]) -> bool:
    """Wait while another process trains the run, until `stopped()`. Return whether nothing is left to do."""
    if not in_progress(run_dir):
        return False
    name, found = f"{job.variant}, seed {job.seed}", as_found(job, run_dir)
    tell(f"{name}: {BUSY} already, in {run_dir}; waiting for it")
    while in_progress(run_dir) and not stopped():
        time.sleep(SECONDS)
    if stopped() or is_done(found):
        return True
    tell(f"{name}: the other process has ended; taking the run over")
    return False


def run_commands(
    commands: list[tuple[str, ...]],
    run_dir: Path,
    folder: str,
    environment: dict[str, str],
    stopped: Callable[[], bool],
) -> tuple[str, str]:
    """Run commands until one fails, or `stopped()`. Return how and why one failed, or two empty texts."""
    for command in commands:
        with open(run_dir / OUTPUT, "ab") as output:
            # A separate session: Ctrl-C on the terminal reaches only this program, which then asks each run once.
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code, asked = watch(process, stopped)
        if asked:
            break
        if code:
            return ending((run_dir / OUTPUT).read_text(errors="replace"), code)
    return "", ""


def as_found(job: Job, run_dir: Path) -> Job:
    """Return a job with the path to its run directory as seen from this process."""
    return replace(job, config=replace(job.config, run_dir=str(run_dir)))


def commands_left(job: Job, run_dir: Path) -> list[tuple[str, ...]]:
    """Return the remaining commands of a job, to run as `python -m ...`.

    They are the training, which ends with scores, and an evaluation of the final weights for each additional draw of
    latent vectors.

    `run_dir` is the job's, as seen from this process.
    """
    found = as_found(job, run_dir)
    trained = status(found)[0] == "finished"
    first = job.config.evaluation.seed
    seeds = missing_draws(found) if trained else range(first + 1, first + job.noise_draws)
    checkpoint, device = checkpoint_path(job.run_dir, job.steps).name, job.config.device
    evaluate = ("sagan", "evaluate", str(job.run_dir), "--checkpoint", checkpoint, "--device", device)
    draws = ((*evaluate, *vouched(job.config), "--seed", str(seed)) for seed in seeds)
    return [*([] if trained else [job.module]), *draws]


def vouched(config: Config) -> list[str]:
    """Return the options that a run's own file is not trusted to set, or that another machine may have set differently.

    They are the extractor, the place of the data, and modules with one's own code. The plan names them, and the user
    has started the plan.
    """
    extractor, model = config.evaluation.extractor, config.model
    options = ["--extractor.name", extractor.name]
    options += ["--extractor.weights", extractor.weights] if extractor.weights else []
    options += ["--data.path", str(config.data.path)] if config.data.source in LOCAL else []
    named = (model.generator.attention.kind, model.discriminator.attention.kind, config.data.source)
    modules = sorted({module_of(name) for name in named if is_dotted(name)})
    return [*options, *(["--trust_module", ",".join(modules)] if modules else [])]


def watch(process: subprocess.Popen, stopped: Callable[[], bool]) -> tuple[int, bool]:
    """Wait for a process to end, or ask it to end once `stopped()`. Return its exit code and whether it was asked."""
    try:
        while process.poll() is None and not stopped():
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
    finally:  # also if this is interrupted
        asked = process.poll() is None
        if asked:
            process.send_signal(signal.SIGTERM)
        code = process.wait()
    return code, asked


def note_failure(run_dir: Path, state: str, reason: str) -> None:
    """Record why a run ended early."""
    content = json.dumps({"status": state, "reason": reason})
    write_atomically(run_dir / FAILURE, lambda file: file.write(content.encode()))


def ending(output: str, code: int) -> tuple[str, str]:
    """Return how a process ended (diverged or failed), and why: its error, the signal that killed it, its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [ERROR.split(line, maxsplit=1)[1] for line in lines if ERROR.search(line)]
    # torchrun has its own exit code, and reports those of its processes.
    codes = {code, *map(int, re.findall(r"exitcode\s*:\s*(-?\d+)", output))}
    state = "diverged" if NonFiniteError.exit_code in codes else "failed"
    if errors:
        return state, errors[0]
    if code < 0:
        known = -code in {*signal.Signals}  # those of real time have no name
        return state, f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}"
    return state, lines[-1] if lines else f"exit code {code}"
