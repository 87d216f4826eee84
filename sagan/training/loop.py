"""The training run: `train` = set up, loop, close. What a step does is in `steps.py`."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from sagan.checkpoint import (
    checkpoints,
    find_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
    write_atomically,
)
from sagan.config import Config, ConfigError
from sagan.data import Dataset, TrainingBatches, describe, open_data, resolve_num_classes
from sagan.device import activation_dtype, choose_device, keep_freed_memory
from sagan.distributed import barrier, is_main, main_first, process_group, rank, world_size
from sagan.images import image_grid, save_png
from sagan.parsing import refuse_changes, to_config, to_yaml
from sagan.training import measure
from sagan.training.evaluation import Evaluator, remember_if_best
from sagan.training.health import CollapseWatch, require_finite
from sagan.training.records import RunLog, prepare_run_dir
from sagan.training.signals import StopRequest, stop_requests
from sagan.training.state import TrainState, build_state
from sagan.training.steps import discriminator_step, draw, generator_step


@dataclass
class Run:
    """A run under way."""

    config: Config
    directory: Path
    state: TrainState
    data: Dataset
    log: RunLog
    evaluator: Evaluator | None


def train(config: Config) -> Path:
    """Trains, or goes on training, the run of `config.run_dir`, and returns that directory.

    Raises ConfigError where the run there has another configuration, UserError where data, disk or weights stop it.
    """
    device = choose_device(config.device)
    keep_freed_memory()
    with process_group(device):
        run = setup(config, device)
        try:
            if run.state.step < config.training.steps:
                with stop_requests() as stop:
                    fit(run, stop)
            farewell(run)
        finally:
            run.log.close()
    return run.directory


def setup(config: Config, device: torch.device) -> Run:
    """Opens everything that a run needs; what can be refused is refused before anything slow begins."""
    training, directory = config.training, Path(config.run_dir)
    if training.batch_size % (world_size() * training.micro_batches):
        raise ConfigError(
            f"training.batch_size {training.batch_size} cannot be split over {world_size()} processes and "
            f"training.micro_batches {training.micro_batches}"
        )
    config = continued(config, directory)
    if is_main():
        prepare_run_dir(directory)
        remove_leftovers(directory)
    barrier()
    evaluator = Evaluator.build(config, device)
    with main_first():  # one process downloads
        data = open_data(config.data)
    config = replace(config, data=replace(config.data, num_classes=resolve_num_classes(config.data, data)))

    state = build_state(config, device, activation_dtype(training.precision, device))
    found = checkpoints(directory)
    if found:
        state.restore(load_checkpoint(found[-1], device))
    log = RunLog(directory, state.step, active=is_main())
    if is_main():
        write_atomically(directory / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
    introduce(log, config, state, data)
    return Run(config, directory, state, data, log, evaluator)


def continued(config: Config, directory: Path) -> Config:
    """`config` as the run in `directory` may be continued with. Raises ConfigError where it may not be."""
    file = directory / "config.yaml"
    if not file.is_file():
        return config
    old = to_config(yaml.safe_load(file.read_text()))
    if config.data.num_classes is None:  # the run has found it out
        config = replace(config, data=replace(config.data, num_classes=old.data.num_classes))
    refuse_changes(old, config, directory)
    return config


def introduce(log: RunLog, config: Config, state: TrainState, data: Dataset) -> None:
    """Says what is trained, on what and where."""
    lines, warnings = describe(data)
    count = {n: sum(p.numel() for p in getattr(state, n).parameters()) for n in ("generator", "discriminator")}
    threads = f", {torch.get_num_threads()} threads" if state.device.type == "cpu" else ""
    log.say(
        f"run {config.run_dir}: step {state.step} of {config.training.steps}, {config.training.batch_size} images a step, "
        f"{world_size()} process{'es' if world_size() > 1 else ''} on {state.device}{threads}, "
        f"{str(state.generator.compute_dtype).removeprefix('torch.')}",
        f"generator {count['generator']:,} parameters, discriminator {count['discriminator']:,}",
        *lines,
        *(f"warning: {w}" for w in warnings),
    )


def fit(run: Run, stop: StopRequest) -> None:
    """The loop: updates, and at intervals records, grids, evaluations and checkpoints."""
    config, state = run.config, run.state
    d_steps, last = config.training.d_steps, config.training.steps
    batches = real_batches(run)
    throughput, watch = measure.Throughput(config.training.batch_size), CollapseWatch()
    throughput(state.step)
    z, y = measure.grid_inputs(state)
    if state.step == 0:
        show_real_images(run)
    with progress_bar(state.step, last) as bar:
        while state.step < last:
            for i in range(d_steps):
                index = state.step * d_steps + i
                metrics = discriminator_step(state, *next(batches), draw(state, "discriminator", index, groups=2))
            metrics |= generator_step(state, draw(state, "generator", state.step, groups=1))

            step, final = state.step, state.step == last
            stopping = stop.agreed()
            due = _due(config.logging.every, step) or final or step == 1
            if due or state.device.type == "cpu":  # on a GPU, a look at the losses waits for its queue
                values = {name: value.item() for name, value in metrics.items()}
                require_finite(state, {n: v for n, v in values.items() if n.startswith("loss/")})
                bar.set_postfix_str(progress(values, config, bar), refresh=False)
            if due:
                record(run, values, throughput(step), watch)
            bar.update()
            if _due(config.logging.images_every, step) or final:
                look(run, z, y)
            evaluating = run.evaluator and (_due(config.evaluation.every, step) or final)
            if _due(config.checkpoint.every, step) or final or stopping or evaluating:
                save(run)
            if evaluating:
                evaluate(run)
            if stopping:
                break


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


def record(run: Run, values: dict[str, float], images_per_second: float, watch: CollapseWatch) -> None:
    """Writes the record of a step; warns where it shows collapse."""
    state, optimizer = run.state, run.config.optimizer
    values = {
        **values,
        **measure.gradient_norms(state),
        **measure.gammas(state),
        "lr/generator": optimizer.generator_lr,
        "lr/discriminator": optimizer.discriminator_lr,
        "speed/images_per_second": images_per_second,
        "memory/peak_gib": measure.peak_memory(state.device),
    }
    run.log.record(state.step, values, images_seen=state.step * run.config.training.batch_size, time=time.time())
    run.log.say(*(f"step {state.step}: {text}" for text in watch.warnings(values)))


def look(run: Run, z: Tensor, y: Tensor | None) -> None:
    """The sample grid, the attention maps' entropy and the singular values."""
    state = run.state
    state.average_statistics()
    if not run.log.active:
        return
    grid = measure.sample_grid(state, z, y)
    save_png(grid, run.directory / "samples" / f"step-{state.step:08d}.png")
    run.log.image("samples/ema" if state.generator_ema is not None else "samples/generator", grid, state.step)
    entropies = measure.attention_entropies(state, z[:16], None if y is None else y[:16])
    run.log.record(state.step, {**entropies, **measure.singular_values(state)})


def save(run: Run) -> None:
    """Writes a checkpoint, unless a weight is not finite."""
    require_finite(run.state, {})
    run.state.average_statistics()
    if run.log.active:
        save_checkpoint(run.directory, run.state.checkpoint(), run.config.checkpoint.keep)


def evaluate(run: Run) -> None:
    """Measures the shown generator; remembers its checkpoint if it is the best so far."""
    state = run.state
    state.average_statistics()
    with measure.evaluating(state.shown_generator) as generator:
        scores = run.evaluator(generator, run.data, state.step, ema=state.generator_ema is not None)
    if run.log.active:
        run.log.say(f"step {state.step}: {scores.report()}")
        run.log.record(state.step, scores.values, group="evaluation/", evaluation=scores.record()["evaluation"])
        remember_if_best(scores, run.directory, state.step)


def show_real_images(run: Run) -> None:
    """Adds a grid of real images to TensorBoard, laid out like the sample grid."""
    if not run.log.active:
        return
    labels, classes = run.data.labels.cpu(), run.state.generator.num_classes
    rows = [torch.nonzero(labels == c).flatten()[:10] for c in range(min(classes, 10))] or [torch.arange(100)]
    rows = [row for row in rows if len(row) == len(rows[0])]
    images = run.data.batch(torch.cat(rows).clamp(max=len(run.data) - 1)).cpu()
    grid = image_grid(images, 10)
    save_png(grid, run.directory / "samples" / "real.png")
    run.log.image("samples/real", grid, 0)


def progress_bar(step: int, last: int) -> tqdm:
    """Step, time left, steps a second; silent where no terminal shows it, and in all processes but one."""
    return tqdm(total=last, initial=step, unit="step", dynamic_ncols=True, disable=None if is_main() else True, mininterval=0.5)


def progress(values: dict[str, float], config: Config, bar: tqdm) -> str:
    """The losses and images a second, for the progress bar."""
    rate = (bar.format_dict["rate"] or 0.0) * config.training.batch_size
    return f"{rate:.0f} images/s, D {values['loss/discriminator']:.3f}, G {values['loss/generator']:+.3f}"


def farewell(run: Run) -> None:
    """Says how far the run got, where everything lies, and what to do next."""
    directory, step, last = run.directory, run.state.step, run.config.training.steps
    checkpoint = find_checkpoint(directory) if checkpoints(directory) else None
    if step < last:
        command = " ".join(["sagan", *sys.argv[1:]])
        run.log.say(f"stopped after step {step} of {last}; saved {checkpoint}", f"the same command goes on: {command}")
        return
    grids = sorted((directory / "samples").glob("step-*.png"))
    run.log.say(
        f"finished: {step} steps (a larger training.steps goes on)",
        f"  samples      {grids[-1] if grids else 'none'}",
        f"  checkpoint   {checkpoint}",
        f"  TensorBoard  tensorboard --logdir {directory}",
        "next:",
        f"  sagan sample {directory} --num 64",
        f"  sagan evaluate {directory} --extractor.name efficientnet-lite0 --num_samples 1000",
        f"  sagan export {directory}",
    )


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
