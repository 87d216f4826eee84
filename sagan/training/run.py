"""A run in progress, and what it does at intervals: records, samples, checkpoints, evaluations, callbacks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sagan.config import Config
from sagan.data import Dataset
from sagan.evaluation import Scores
from sagan.layers import evaluating
from sagan.runs.best import remember_if_best
from sagan.runs.checkpoints import save_checkpoint
from sagan.runs.log import RunLog
from sagan.runtime.pictures import save_picture
from sagan.training import diagnostics
from sagan.training.evaluator import Evaluator
from sagan.training.health import CollapseWatch, FiniteWatch
from sagan.training.resume import data_facts
from sagan.training.state import TrainState


class Callback:
    """Base class for what a caller adds to a run. Each method does nothing unless it is overridden.

    The methods run in every process of a run, so a collective operation inside them is safe. Time spent in them does
    not count as training time. To change `run.state` is to change the run: it will no longer resume bit for bit unless
    the change depends on the step alone.
    """

    def after_step(self, run: "Run", metrics: dict[str, Tensor]) -> None:
        """Run after a step has been taken and recorded, and before it is saved.

        `metrics` holds losses, logits and accuracies by name, as scalars on the device: reading one waits for the GPU.
        """

    def after_evaluation(self, run: "Run", scores: Scores) -> None:
        """Run after an evaluation has been recorded. The scores are the same in every process."""


@dataclass
class Run:
    """A run in progress."""

    config: Config
    directory: Path
    state: TrainState
    data: Dataset
    log: RunLog
    evaluator: Evaluator | None
    finite: FiniteWatch
    callbacks: Sequence[Callback] = ()


@dataclass(frozen=True)
class Due:
    """What is to be done after a step."""

    record: bool
    samples: bool
    checkpoint: bool
    evaluation: bool

    @property
    def anything(self) -> bool:
        """Return whether anything is due."""
        return self.record or self.samples or self.checkpoint or self.evaluation


def due_after(run: Run, stopping: bool) -> Due:
    """Return what is due after the step just taken; a run that is stopping saves, and evaluates only at its end."""
    config, step = run.config, run.state.step
    final, evaluation = step == config.training.steps, evaluation_due(run)
    return Due(
        record=is_due(config.logging.every, step) or final or step == 1,
        samples=is_due(config.logging.images_every, step) or final,
        checkpoint=is_due(config.checkpoint.every, step) or final or stopping or evaluation,
        evaluation=evaluation and (final or not stopping),  # a resumed run makes up for a skipped one
    )


def is_due(every: int, step: int) -> bool:
    """Return whether something done every so many steps (0: never) is due after this one."""
    return every > 0 and step % every == 0


def evaluation_due(run: Run) -> bool:
    """Return whether the configuration asks for an evaluation of the step just taken."""
    step, config = run.state.step, run.config
    return run.evaluator is not None and (is_due(config.evaluation.every, step) or step == config.training.steps)


def write_record(run: Run, values: dict[str, float], images_per_second: float, watch: CollapseWatch) -> None:
    """Write the record of a step, and a warning if it shows collapse."""
    state, optimizer = run.state, run.config.optimizer
    values = {
        **values,
        **diagnostics.gradient_norms(state),
        **diagnostics.gammas(state),
        "lr/generator": optimizer.generator_lr,
        "lr/discriminator": optimizer.discriminator_lr,
        "speed/images_per_second": images_per_second,
        "memory/peak_gib": diagnostics.peak_memory(state.device),
    }
    run.log.record(state.step, values, images_seen=state.step * run.config.training.batch_size, time=time.time())
    for sign, text in watch.warnings(values).items():
        run.log.say(f"step {state.step}: warning: {text}")
        run.log.record(state.step, {}, warning=sign)


def write_samples(run: Run, z: Tensor, y: Tensor | None) -> None:
    """Write the sample grid and the singular values."""
    state = run.state
    state.average_statistics()
    if not run.log.active:
        return
    grid = diagnostics.sample_grid(state, z, y)
    save_picture(grid, run.directory / "samples" / f"step-{state.step:08d}.png")
    run.log.image("samples/ema" if state.generator_ema is not None else "samples/generator", grid, state.step)
    run.log.record(state.step, diagnostics.singular_values(state))


def write_real_images(run: Run) -> None:
    """Write a grid of real images."""
    if run.log.active:
        grid = diagnostics.real_grid(run.state, run.data)
        save_picture(grid, run.directory / "samples" / "real.png")
        run.log.image("samples/real", grid, 0)


def write_checkpoint(run: Run) -> None:
    """Write a checkpoint."""
    run.state.average_statistics()
    if run.log.active:
        content = {**run.state.checkpoint(), "data": data_facts(run.data)}
        save_checkpoint(run.directory, content, run.config.checkpoint.keep)


def evaluate_run(run: Run) -> None:
    """Score the generator, and remember its checkpoint if it is the best so far."""
    state = run.state
    state.average_statistics()
    ema = run.config.evaluation.ema and state.generator_ema is not None
    with evaluating(state.generator_ema if ema else state.generator) as generator:
        scores = run.evaluator(generator, run.data, state.step, ema=ema)
    if run.log.active:
        run.log.say("\n".join([f"step {state.step}: {scores.line()}", *scores.notes()]))
        run.log.record(state.step, scores.values, group="evaluation/", evaluation=scores.record()["evaluation"])
        remember_if_best(scores, run.directory, state.step)
    for callback in run.callbacks:
        callback.after_evaluation(run, scores)
