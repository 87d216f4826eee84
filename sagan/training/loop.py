"""The training run: `train` sets it up, takes the steps and closes it. `steps.py` defines a step."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sagan.config import FROM_PYTHON, Config, EvaluationConfig, UserError, to_yaml
from sagan.data import Dataset, find_data, in_memory, with_num_classes
from sagan.data.given import wrap_dataset
from sagan.evaluation.reference import require_scorable
from sagan.evaluation.scores import MEASURES, suffix
from sagan.runs.best import write_best
from sagan.runs.checkpoints import newest_whole, prune
from sagan.runs.directory import checkpoints, configured_run_dir, prepare_run_dir, remove_leftovers
from sagan.runs.log import RunLog
from sagan.runs.records import evaluated
from sagan.runs.writer import CheckpointWriter
from sagan.runtime.device import activation_dtype, choose_device, full_float32, prepare
from sagan.runtime.distributed import (
    any_process,
    barrier,
    is_main,
    main_first,
    meet,
    process_group,
    require_agreement,
    run_on_main,
    world_size,
)
from sagan.runtime.files import write_atomically
from sagan.training import diagnostics
from sagan.training.evaluator import Evaluator
from sagan.training.feed import feed_of
from sagan.training.health import FiniteWatch, NonFiniteError
from sagan.training.least_memory import require_memory_for
from sagan.training.messages import Progress, farewell, introduction
from sagan.training.performance import updates_of_run
from sagan.training.recording import RecordWriter
from sagan.training.resume import (
    check_start,
    data_facts,
    finished,
    refuse_to_diverge_again,
    require_same_data,
    require_same_dtype,
    set_damaged_aside,
    shared_facts,
)
from sagan.training.run import (
    Callback,
    Run,
    due_after,
    evaluation_due,
    write_checkpoint,
    write_evaluation,
    write_real_images,
    write_samples,
)
from sagan.training.signals import StopRequest, stop_requests
from sagan.training.starting import start_from
from sagan.training.state import build_state
from sagan.training.steps import train_step


def train(config: Config, dataset: Any = None, callbacks: Sequence[Callback] = ()) -> Path:
    """Train the run of `config.run_dir`, or resume it from its newest good checkpoint. Return that directory.

    `dataset`, if given, replaces the data that `config.data` names: see `sagan.data.given.wrap_dataset`. A finished run
    whose last step is evaluated is left unchanged. Raise ConfigError if the run there has a different configuration or
    different data, and UserError if data or weights are missing or a file cannot be written.
    """
    device, directory, last = choose_device(config.device), configured_run_dir(config), config.training.steps
    if dataset is not None:
        config = replace(config, data=replace(config.data, source=FROM_PYTHON, path=None))
    prepare(device)
    with process_group(device):
        barrier()  # the main process may still be saving the previous run
        found, (saved, damaged) = run_on_main(lambda: (checkpoints(directory), newest_whole(directory)))
        require_agreement(shared_facts(config, saved))
        config = check_start(config, saved, dataset is not None)
        if saved and finished(config, saved):
            leave_finished(config, saved, dataset)
            return directory
        refuse_to_diverge_again(directory, saved)
        config, data, evaluator = find_inputs(config, device, dataset)
        require_agreement(data_facts(data))
        if is_main():
            prepare_run_dir(directory)
        with RunLog(directory, active=is_main()) as log:
            if is_main() and checkpoints(directory) != found:
                raise UserError(f"run_dir {directory}: another process has trained there since; run the command again")
            if saved:  # only once the lock is held and every process has read the directory
                set_damaged_aside(damaged, saved["step"], log)
            run = set_up(config, saved, data, evaluator, device, log, callbacks)
            del saved  # as large as the state itself
            exact = full_float32(device) if run.state.generator.compute_dtype == torch.float32 else nullcontext()
            answer = "stopping after this step; once more to stop at once, without saving it" if is_main() else ""
            with stop_requests(answer) as stop, run.writer, exact:
                try:
                    fit(run, stop)
                except NonFiniteError as error:
                    run.writer.wait()
                    log.record(error.step, {}, diverged=str(error))
                    raise
            log.say(*farewell(directory, run.state.step, last))
    return directory


def leave_finished(config: Config, saved: dict, dataset: Any) -> None:
    """Tidy up a finished run. Raise ConfigError if a data set is given that is not the one it was trained on."""
    directory = configured_run_dir(config)
    if dataset is not None:
        with main_first("opens the data"):
            require_same_data(saved, wrap_dataset(dataset, config.data), directory)
    if is_main():
        with suppress(UserError), RunLog(directory):  # unless it is busy or read-only
            tidy(config)
        print(*farewell(directory, saved["step"], config.training.steps), sep="\n")


def find_inputs(config: Config, device: torch.device, dataset: Any) -> tuple[Config, Dataset, Evaluator | None]:
    """Return the configuration with the number of classes, the data set, with no image read yet, and the evaluator.

    Raise UserError if something is missing.
    """
    with main_first("opens the data"):  # one process of each machine downloads
        data = find_data(config.data) if dataset is None else wrap_dataset(dataset, config.data)
    require_scorable(config.evaluation, len(data))
    config = with_num_classes(config, data)
    require_memory_for(config, device, world_size())
    with main_first("loads the extractor"):
        return config, data, Evaluator.build(config, device)


def set_up(
    config: Config,
    saved: dict | None,
    data: Dataset,
    evaluator: Evaluator | None,
    device: torch.device,
    log: RunLog,
    callbacks: Sequence[Callback],
) -> Run:
    """Return a run restored from the checkpoint `saved`, or at step 0 if that is None."""
    directory = configured_run_dir(config)
    dtype = activation_dtype(config.training.precision, device)
    if saved:
        require_same_dtype(saved, config, dtype)
    data = in_memory(data, config.data.memory_gb)
    meet("reads the images")
    require_agreement(data_facts(data))  # again: by now unreadable images have been skipped
    require_scorable(config.evaluation, len(data))
    state, start = build_state(config, device, dtype), []
    if saved:
        require_same_data(saved, data, directory)
        state.restore(saved)
    elif config.training.init_from:
        start = start_from(state, config.training.init_from)
    log.begin(state.step)
    if state.step == 0:
        told = replace(config, run_dir=None)  # TensorBoard names the run itself
        log.describe(asdict(told), to_yaml(told), metrics_of(config.evaluation))
    if is_main():
        write_atomically(directory / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
        tidy(config)
    log.say(*introduction(config, state, data), *start)
    writer = CheckpointWriter(directory, config.checkpoint.keep)
    return Run(config, directory, state, data, log, writer, evaluator, FiniteWatch(state), callbacks)


def metrics_of(config: EvaluationConfig) -> list[str]:
    """Return the tags of the scores that evaluations add to TensorBoard; an empty list without evaluations."""
    return [f"evaluation/{measure}{suffix(config.extractor.name)}" for measure in MEASURES] if config.every else []


def tidy(config: Config) -> None:
    """Finish what a kill may have interrupted after a checkpoint or an evaluation was written."""
    directory = configured_run_dir(config)
    remove_leftovers(directory)
    write_best(directory)
    prune(directory, config.checkpoint.keep)


def fit(run: Run, stop: StopRequest) -> None:
    """Take steps until the last one or a request to stop. After each, do what is due."""
    state, last = run.state, run.config.training.steps
    feed = feed_of(run)
    z, y = diagnostics.grid_inputs(state)
    catch_up(run)
    recorder = RecordWriter(run)
    feed.fetch()
    stopping = any_process(feed.failure is not None)
    with Progress(run.log, state.step, run.config) as progress, updates_of_run(state, stop) as updates:
        while state.step < last and not stopping:
            metrics = train_step(state, feed.take(), updates)
            run.finite.check(state.step, metrics)
            if state.step < last:
                feed.fetch()
            stopping = stop.agreed(run.stopping or feed.failure is not None)
            due = due_after(run, stopping)
            if due.anything:
                run.log.require_folder()
            progress(state.step, recorder(metrics, due))
            with recorder.throughput.paused(), progress.paused():
                if due.samples:
                    write_samples(run, z, y)
                for callback in run.callbacks:
                    callback.after_step(run, metrics)
                if due.checkpoint:
                    write_checkpoint(run)
                if due.evaluation:
                    write_evaluation(run)
    run.writer.wait()
    feed.require(state.step)


def catch_up(run: Run) -> None:
    """Write the real images of a new run, or the evaluation that an earlier stop prevented."""
    if run.state.step == 0:
        write_real_images(run)
    elif evaluation_due(run) and not evaluated(run.directory, run.state.step):
        write_evaluation(run)
