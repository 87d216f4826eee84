"""The records of a run: their numbers are copied when a step is taken, and read some steps later."""

import time
from collections import deque
from typing import NamedTuple

import torch

from sagan.runtime.distributed import average
from sagan.runtime.host import HostCopy
from sagan.training import diagnostics
from sagan.training.health import CollapseWatch
from sagan.training.run import Due, Run
from sagan.training.state import TrainState
from sagan.training.steps import Metrics

LAG = 4  # steps: what a GPU still has to do while the host reads and writes a record
MOST_AHEAD = 2 * LAG  # steps that the host queues: a request to stop waits for all of them, and each holds its inputs


class PendingNumbers(NamedTuple):
    """The numbers of a step on their way to the host."""

    step: int
    names: list[str]
    rates: dict[str, float]
    copy: HostCopy
    record: bool
    """Whether they are for a record; if not, they are only checked and shown as progress."""


class RecordWriter:
    """The writer of a run's records.

    On a GPU, reading a number of the last step would wait for all queued work and then leave the GPU idle. So a record
    is written LAG steps after its step, or before anything else that is due. On a CPU nothing is queued: the numbers of
    every step are read at once.
    """

    def __init__(self, run: Run):
        self.run = run
        self.lag = lag_on(run.state.device)
        self.throughput = diagnostics.Throughput(run.config.training.batch_size, run.state.step)
        self.watch = CollapseWatch()
        self.pending: PendingNumbers | None = None
        self.queued: deque[torch.cuda.Event] = deque()

    def __call__(self, metrics: Metrics, due: Due) -> dict[str, float] | None:
        """Queue the numbers of a step, and write the record whose time has come. Return numbers that are newly known.

        Raise NonFiniteError before a bad number is recorded, and before anything else is due with one.
        """
        step, known = self.run.state.step, None
        if self.run.state.device.type == "cuda":
            self.stay_near()
        if due.anything:
            known = self.write()
        if due.record or self.lag == 0:
            self.pending = self.queue(metrics, due.record)
        if self.pending and (due.more or step >= self.pending.step + self.lag):
            known = self.write()
        if due.more:
            self.run.finite.require()
        return known

    def stay_near(self) -> None:
        """Wait for the step before the last MOST_AHEAD ones."""
        event = torch.cuda.Event()
        event.record()
        self.queued.append(event)
        if len(self.queued) > MOST_AHEAD:
            self.queued.popleft().synchronize()

    def queue(self, metrics: Metrics, record: bool) -> PendingNumbers:
        """Queue the copy of numbers: of the whole batch if they are for a record, else of this process's share."""
        state, values = self.run.state, metrics
        if record:
            means = {name: value.clone() for name, value in metrics.items()}  # callbacks get this process's own
            average(list(means.values()))
            values = means | diagnostics.gradient_norms(state) | diagnostics.gammas(state)
        copy = HostCopy([diagnostics.stacked(values), self.run.finite.first_bad], state.device)
        return PendingNumbers(state.step, list(values), learning_rates(state), copy, record)

    def write(self) -> dict[str, float] | None:
        """Wait for the pending step, write its record if it needs one, and return its numbers."""
        if self.pending is None:
            return None
        pending, self.pending = self.pending, None
        numbers, first_bad = pending.copy.wait()
        self.run.finite.require(first_bad)
        values = dict(zip(pending.names, numbers.tolist(), strict=True)) | pending.rates
        if pending.record:
            write_record(self.run, pending.step, values, self.throughput(pending.step), self.watch)
        return values


def learning_rates(state: TrainState) -> dict[str, float]:
    """Return the learning rates, which a callback may have changed."""
    groups = {name.removesuffix("_optimizer"): o.param_groups[0] for name, o in state.optimizers.items()}
    return {f"lr/{name}": float(group["lr"]) for name, group in groups.items()}


def lag_on(device: torch.device) -> int:
    """Return by how many steps the records of a run lag behind."""
    return 0 if device.type == "cpu" else LAG


def write_record(run: Run, step: int, values: dict[str, float], images_per_second: float, watch: CollapseWatch) -> None:
    """Write the record of a step, with a warning if it shows collapse."""
    config = run.config
    values = {
        **values,
        "speed/images_per_second": images_per_second,
        "memory/peak_gib": diagnostics.peak_memory(run.state.device),
    }
    run.log.record(step, values, images_seen=step * config.training.batch_size, time=time.time())
    for sign, text in watch.warnings(values).items():
        run.log.say(f"step {step}: warning: {text}")
        run.log.record(step, {}, warning=sign)
