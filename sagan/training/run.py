"""A run under way, and what it does at intervals: records, looks, saves, evaluates."""

import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sagan.checkpoint import save_checkpoint
from sagan.config import Config
from sagan.data import Dataset
from sagan.images import save_png
from sagan.models.layers import evaluating
from sagan.training import measure
from sagan.training.evaluation import Evaluator, remember_if_best
from sagan.training.health import CollapseWatch, FiniteWatch
from sagan.training.records import RunLog
from sagan.training.resume import data_facts
from sagan.training.state import TrainState
from sagan.viewing.overlays import board_images
from sagan.viewing.plugin import NAME as PLUGIN
from sagan.viewing.records import encode, record_tag


@dataclass
class Run:
    """A run under way."""

    config: Config
    directory: Path
    state: TrainState
    data: Dataset
    log: RunLog
    evaluator: Evaluator | None
    finite: FiniteWatch


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
    for sign, text in watch.warnings(values).items():
        run.log.say(f"step {state.step}: warning: {text}")
        run.log.record(state.step, {}, warning=sign)


def look(run: Run, z: Tensor, y: Tensor | None) -> None:
    """The sample grid and the singular values."""
    state = run.state
    state.average_statistics()
    if not run.log.active:
        return
    grid = measure.sample_grid(state, z, y)
    save_png(grid, run.directory / "samples" / f"step-{state.step:08d}.png")
    run.log.image("samples/ema" if state.generator_ema is not None else "samples/generator", grid, state.step)
    run.log.record(state.step, measure.singular_values(state))


def view(run: Run) -> None:
    """The attention maps, for the tab in TensorBoard and drawn among its images, and their entropy."""
    state, model = run.state, run.config.model
    state.average_statistics()
    if not run.log.active:
        return
    views = measure.attention_views(state, run.data)
    for v in (v for v in views if v.maps):
        kind = getattr(model, v.network).attention.kind
        run.log.blobs(record_tag(v), encode(v, kind, run.data.class_names), state.step, plugin=PLUGIN)
    for name, picture in board_images(views).items():
        run.log.image(name, picture, state.step)
    if entropies := measure.attention_entropies(views):
        run.log.record(state.step, entropies)


def save(run: Run) -> None:
    """Writes a checkpoint."""
    run.state.average_statistics()
    if run.log.active:
        content = {**run.state.checkpoint(), "data": data_facts(run.data)}
        save_checkpoint(run.directory, content, run.config.checkpoint.keep)


def evaluation_due(run: Run) -> bool:
    """Whether the step just taken is to be evaluated."""
    step, config = run.state.step, run.config
    return run.evaluator is not None and (due(config.evaluation.every, step) or step == config.training.steps)


def evaluate(run: Run) -> None:
    """Measures the generator; remembers its checkpoint if it is the best so far."""
    state = run.state
    state.average_statistics()
    ema = run.config.evaluation.ema and state.generator_ema is not None
    with evaluating(state.generator_ema if ema else state.generator) as generator:
        scores = run.evaluator(generator, run.data, state.step, ema=ema)
    if run.log.active:
        run.log.say(f"step {state.step}: {scores.report()}")
        run.log.record(state.step, scores.values, group="evaluation/", evaluation=scores.record()["evaluation"])
        remember_if_best(scores, run.directory, state.step)


def show_real_images(run: Run) -> None:
    """Adds a grid of real images to TensorBoard and to the samples."""
    if run.log.active:
        grid = measure.real_grid(run.state, run.data)
        save_png(grid, run.directory / "samples" / "real.png")
        run.log.image("samples/real", grid, 0)


def due(every: int, step: int) -> bool:
    """Whether something that is done every so many steps (0: never) is done after this one."""
    return every > 0 and step % every == 0
