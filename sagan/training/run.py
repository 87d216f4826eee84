"""A run in progress, and what it does at intervals: records, samples, checkpoints, evaluations, callbacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sagan.config import Config
from sagan.data import Dataset
from sagan.evaluation import Scores
from sagan.layers import evaluating
from sagan.runs.best import write_best
from sagan.runs.checkpoints import prune
from sagan.runs.log import RunLog
from sagan.runs.writer import CheckpointWriter
from sagan.runtime.pictures import save_picture
from sagan.training import diagnostics
from sagan.training.evaluator import Evaluator
from sagan.training.health import FiniteWatch
from sagan.training.resume import data_facts
from sagan.training.state import TrainState


class Callback:
    """Base class of callbacks, which a caller adds to a run. Each method does nothing unless it is overridden.

    The methods are called in every process of the run, so they may use collective operations. The time spent in them
    does not count as training time. A callback that changes `run.state` changes the run: unless the change depends on
    the step alone, the run no longer resumes bit for bit. CUDA graphs keep the numbers with which they were captured,
    such as learning rates: on a GPU, change these with `training.performance` eager or compiled.

    To end a run early, call `run.stop()`. An exception ends it as well, but saves nothing.
    """

    def after_step(self, run: "Run", metrics: dict[str, Tensor]) -> None:
        """Handle a step before its checkpoint is written. On a GPU, its record may be written later.

        `metrics` holds losses, logits and accuracies by name, of this process's share of the batch, as scalars on the
        device: reading one waits for the GPU.
        """

    def after_evaluation(self, run: "Run", scores: Scores) -> None:
        """Handle an evaluation after it is recorded. The scores are the same in every process."""


@dataclass
class Run:
    """A run in progress."""

    config: Config
    directory: Path
    state: TrainState
    data: Dataset
    log: RunLog
    writer: CheckpointWriter
    evaluator: Evaluator | None
    finite: FiniteWatch
    callbacks: Sequence[Callback] = ()
    stopping: bool = False

    def stop(self) -> None:
        """Let the run take one more step and save itself, as on a signal. It is enough if one process calls this."""
        self.stopping = True


@dataclass(frozen=True)
class Due:
    """The actions due after a step."""

    record: bool
    attention: bool
    samples: bool
    checkpoint: bool
    evaluation: bool

    @property
    def anything(self) -> bool:
        """Return whether anything is due."""
        return self.record or self.more

    @property
    def more(self) -> bool:
        """Return whether more than a record is due."""
        return self.attention or self.samples or self.checkpoint or self.evaluation


def due_after(run: Run, stopping: bool) -> Due:
    """Return what is due after the step just taken. A run that is stopping saves, but evaluates only its final step."""
    config, step = run.config, run.state.step
    final, evaluation = step == config.training.steps, evaluation_due(run)
    return Due(
        record=is_due(config.logging.every, step) or final or step == 1,
        attention=attention_due(run),
        samples=is_due(config.logging.images_every, step) or final,
        checkpoint=is_due(config.checkpoint.every, step) or final or stopping or evaluation,
        evaluation=evaluation and (final or not stopping),  # `catch_up` does it when the run resumes
    )


def is_due(every: int, step: int) -> bool:
    """Return whether something that happens every `every` steps (0: never) is due after this step."""
    return every > 0 and step % every == 0


def attention_due(run: Run) -> bool:
    """Return whether the attention of the last step has to be recorded."""
    every, step = run.config.logging.attention_every, run.state.step
    return is_due(every, step) or (every > 0 and step == run.config.training.steps)


def evaluation_due(run: Run) -> bool:
    """Return whether the step just taken has to be evaluated."""
    step, config = run.state.step, run.config
    return run.evaluator is not None and (is_due(config.evaluation.every, step) or step == config.training.steps)


def write_samples(run: Run, z: Tensor, y: Tensor | None) -> None:
    """Write the sample grid and the singular values."""
    state = run.state
    state.average_statistics()
    if not run.log.active:
        return
    grid = diagnostics.sample_grid(state, z, y)
    save_picture(grid, run.directory / "samples" / f"step-{state.step:08d}.png")
    run.log.image("samples/ema" if state.generator_ema is not None else "samples/generator", grid, state.step)
    if values := diagnostics.singular_values(state):
        run.log.record(state.step, values, charted=diagnostics.of_each_network(values))


def write_real_images(run: Run) -> None:
    """Write a grid of real images."""
    if run.log.active:
        grid = diagnostics.real_grid(run.state, run.data)
        save_picture(grid, run.directory / "samples" / "real.png")
        run.log.image("samples/real", grid, 0)


def write_checkpoint(run: Run) -> None:
    """Begin to write a checkpoint, which takes place while training continues."""
    run.state.average_statistics()
    if run.log.active:
        run.writer.save({**run.state.checkpoint(), "data": data_facts(run.data)}, run.state.device)


def write_evaluation(run: Run) -> None:
    """Evaluate the generator, record its scores, and name its checkpoint in best.json if it is the best so far."""
    if run.evaluator is None:
        return
    run.writer.wait()  # no scores without their checkpoint
    state = run.state
    state.average_statistics()
    generator = state.eval_generator if run.config.evaluation.ema else state.generator
    with evaluating(generator):
        scores = run.evaluator(generator, run.data, state.step, ema=generator is state.generator_ema)
    if run.log.active:
        run.log.say("\n".join([f"step {state.step}: {scores.line()}", *scores.notes()]))
        run.log.record(state.step, scores.values, group="evaluation/", evaluation=scores.record()["evaluation"])
        write_best(run.directory)
        prune(run.directory, run.config.checkpoint.keep)  # the best so far may be another one now
    for callback in run.callbacks:
        callback.after_evaluation(run, scores)
