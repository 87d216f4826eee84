"""The inputs of a step, fetched before the step begins."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from sagan.config import ConfigError, UserError
from sagan.data import TrainingBatches
from sagan.runtime.distributed import any_process, rank, world_size
from sagan.training.input_buffers import Block, InputBuffers, ahead, pack_inputs
from sagan.training.inputs import Inputs, step_inputs
from sagan.training.least_memory import memory_to_spare
from sagan.training.run import Run


class Feed:
    """The inputs of one step at a time, all fetched before the step begins, so that no step is left half done.

    `source` yields the inputs of `updates` updates per step. `place` moves them to the device when an update begins. A
    failure to fetch them is kept for later, so that the run can save the steps taken so far.
    """

    def __init__(self, source: Iterator[Any], updates: int, place: Callable[[Any], Inputs]):
        self.source = source
        self.updates = updates
        self.place = place
        self.ready: list[Any] = []
        self.failure: ConfigError | UserError | None = None

    def fetch(self) -> None:
        """Get the inputs of the next step, or set `failure`."""
        self.ready.clear()  # before the next ones are allocated
        try:
            self.ready += (next(self.source) for _ in range(self.updates))
        except (ConfigError, UserError) as error:  # ConfigError: an item of a data set from Python
            self.failure = error

    def take(self) -> Iterator[Inputs]:
        """Return an iterator over the inputs of a step."""
        return map(self.place, self.ready)

    def require(self, step: int) -> None:
        """Raise UserError, in all processes, if any of them could not get its inputs after `step`."""
        if not any_process(self.failure is not None):
            return
        reason = self.failure or "another process of this run could not read its images"
        saved = f"; step {step} is saved, and the same command resumes it" if step else ""
        raise UserError(f"{reason}{saved}") from self.failure


def feed_of(run: Run) -> Feed:
    """Return the inputs of this process's steps, from the first step not taken yet."""
    config, state, training = run.config, run.state, run.config.training
    batches = TrainingBatches(
        run.data,
        seed=training.seed,
        batch_size=training.batch_size,
        flip=config.data.flip,
        rank=rank(),
        world_size=world_size(),
        start=state.step * training.d_steps,
        workers=config.data.workers,
        device=state.device,
        spare=memory_to_spare(config, state.device, world_size()),
    )
    state.images = batches.resident
    generator = state.generator
    inputs = step_inputs(training, generator.z_dim, generator.num_classes, batches, state.step)
    updates = training.d_steps + 1
    if state.device.type == "cpu":
        return Feed(inputs, updates, lambda inputs: inputs)
    return Feed(ahead(packed(inputs, state.device), 2 * updates), updates, InputBuffers(state.device).load)


def packed(inputs: Iterator[Inputs], device: torch.device) -> Iterator[Block]:
    """Yield each update's inputs as a block, in pinned memory if it goes to a GPU."""
    on_gpu = device.type == "cuda"
    if on_gpu:  # a thread begins on the first GPU, and pinning would take memory there in every process of the machine
        torch.cuda.set_device(device)
    for of_update in inputs:
        yield pack_inputs(of_update, pin=on_gpu)
