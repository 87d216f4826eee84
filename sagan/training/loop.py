"""The training run: `train` = set up, loop, close. What a step does is in `steps.py`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sagan.checkpoint import remove_leftovers, write_atomically
from sagan.checks import check_writable
from sagan.config import Config, ConfigError
from sagan.data import Dataset, TrainingBatches, find_data, in_memory, resolve_num_classes
from sagan.device import activation_dtype, choose_device, keep_freed_memory
from sagan.distributed import average, barrier, is_main, main_first, process_group, rank, world_size
from sagan.evaluation.reference import require_real
from sagan.parsing import to_yaml
from sagan.training import measure
from sagan.training.evaluation import Evaluator, evaluated
from sagan.training.health import CollapseWatch, FiniteWatch
from sagan.training.messages import Progress, farewell, introduction
from sagan.training.records import RunLog, prepare_run_dir
from sagan.training.resume import (
    continued,
    finished,
    newest_checkpoint,
    require_same_data,
    require_same_dtype,
    restore,
)
from sagan.training.run import Run, due, evaluate, evaluation_due, look, record, save, show_real_images, view
from sagan.training.signals import StopRequest, stop_requests
from sagan.training.state import TrainState, build_state
from sagan.training.steps import discriminator_step, draw, generator_step


def train(config: Config) -> Path:
    """Trains, or goes on training, the run of `config.run_dir`, and returns that directory.

    Changes nothing where the run has taken all its steps already, and evaluated the last. Raises ConfigError where the
    run there has another configuration, UserError where data, disk or weights stop it.
    """
    device, directory, last = choose_device(config.device), Path(config.run_dir), config.training.steps
    keep_freed_memory()
    with process_group(device):
        barrier()  # the main process may be saving still what this program trained just before
        saved = newest_checkpoint(directory)
        config = prepare(config, saved)
        if finished(config, saved):
            if is_main():
                print(*farewell(directory, saved["step"], last), sep="\n")
            return directory
        data, evaluator = find_inputs(config, device)
        if is_main():
            prepare_run_dir(directory)
        with RunLog(directory, active=is_main()) as log:
            run = setup(config, saved, data, evaluator, device, log)
            del saved  # as large as the state itself
            with stop_requests() as stop:
                fit(run, stop)
            log.say(*farewell(directory, run.state.step, last))
    return directory


def prepare(config: Config, saved: dict | None) -> Config:
    """Refuses what can be refused before anything slow begins; the configuration to go on from `saved` with."""
    training, directory = config.training, Path(config.run_dir)
    if training.batch_size % (world_size() * training.micro_batches):
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be split over {world_size()} processes and "
            f"training.micro_batches {training.micro_batches}"
        )
    check_writable(directory, "run_dir", folder=True)
    return continued(config, saved, directory)


def find_inputs(config: Config, device: torch.device) -> tuple[Dataset, Evaluator | None]:
    """The data, nothing read yet, and the evaluator, which may be a download. Raises UserError where they lack."""
    with main_first():  # one process downloads
        data = find_data(config.data)
    if config.evaluation.every:
        require_real(config.evaluation.num_real, len(data), "evaluation.num_real")
    return data, Evaluator.build(config, device)


def setup(
    config: Config, saved: dict | None, data: Dataset, evaluator: Evaluator | None, device: torch.device, log: RunLog
) -> Run:
    """Everything that a run needs, as the checkpoint `saved` left it (None: at its beginning)."""
    directory = Path(config.run_dir)
    dtype = activation_dtype(config.training.precision, device)
    if saved:
        require_same_dtype(saved, config, dtype)
    data = in_memory(data, config.data.memory_gb)
    if evaluator:  # again: images that cannot be read may be gone by now
        require_real(config.evaluation.num_real, len(data), "evaluation.num_real")
    config = replace(config, data=replace(config.data, num_classes=resolve_num_classes(config.data, data)))
    state = build_state(config, device, dtype)
    if saved:
        require_same_data(saved, data, directory)
        restore(state, saved, directory)
    log.begin(state.step)
    if is_main():
        remove_leftovers(directory)
        write_atomically(directory / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
    log.say(*introduction(config, state, data))
    return Run(config, directory, state, data, log, evaluator, FiniteWatch(state))


def fit(run: Run, stop: StopRequest) -> None:
    """The loop: updates, and at intervals records, grids, checkpoints and evaluations."""
    config, state, last = run.config, run.state, run.config.training.steps
    batches = real_batches(run)
    throughput, watch = measure.Throughput(config.training.batch_size), CollapseWatch()
    z, y = measure.grid_inputs(state)
    if state.step == 0:
        show_real_images(run)
    elif evaluation_due(run) and not evaluated(run.directory, state.step):
        evaluate(run)  # the run was stopped before it
    throughput(state.step)
    with Progress(run.log, state.step, config) as progress:
        while state.step < last:
            metrics = train_step(state, batches)
            step, final = state.step, state.step == last
            run.finite.note(step, metrics)
            stopping = stop.agreed()
            recording = due(config.logging.every, step) or final or step == 1
            looking = due(config.logging.images_every, step) or final
            viewing = config.logging.attention_every > 0 and (due(config.logging.attention_every, step) or final)
            evaluating = evaluation_due(run)
            saving = due(config.checkpoint.every, step) or final or stopping or evaluating

            values = None
            # On a GPU, to look at numbers is to wait for its queue.
            if recording or looking or viewing or saving or state.device.type == "cpu":
                run.finite.require()
                values = read(metrics, everywhere=recording)
            if recording:
                record(run, values, throughput(step), watch)
            progress(step, values)
            if looking:
                look(run, z, y)
            if viewing:
                view(run)
            if saving:
                save(run)
            if evaluating and (final or not stopping):  # else a resumed run makes up for it
                evaluate(run)
            if looking or viewing or saving:
                throughput(step)  # measures training alone
            if stopping:
                break


def train_step(state: TrainState, batches: Iterator[tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
    """`d_steps` updates of D, of which the metrics are the last one's, and one update of G."""
    for i in range(d_steps := state.config.training.d_steps):
        index = state.step * d_steps + i
        metrics = discriminator_step(state, *next(batches), draw(state, "discriminator", index, groups=2))
    return metrics | generator_step(state, draw(state, "generator", state.step, groups=1))


def real_batches(run: Run) -> Iterator[tuple[Tensor, Tensor | None]]:
    """This process's real images and labels, from the first batch that the run has not used yet."""
    training = run.config.training
    batches = TrainingBatches(
        run.data,
        seed=training.seed,
        batch_size=training.batch_size,
        flip=run.config.data.flip,
        rank=rank(),
        world_size=world_size(),
        start=run.state.step * training.d_steps,
        workers=run.config.data.workers,
        device=run.state.device,
    )
    conditional = run.state.generator.num_classes > 0
    return ((real, y if conditional else None) for real, y in batches)


def read(metrics: dict[str, Tensor], everywhere: bool) -> dict[str, float]:
    """The metrics as numbers: of the whole batch if `everywhere`, which all processes must ask for, else of its share
    here."""
    if everywhere:
        average(list(metrics.values()))
    return {name: value.item() for name, value in metrics.items()}
