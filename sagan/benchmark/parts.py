"""A training step in parts that can run, and be timed, one at a time and eagerly."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sagan.config import Config
from sagan.data import MemoryDataset, TrainingBatches
from sagan.training import steps
from sagan.training.diagnostics import numbers
from sagan.training.health import FiniteWatch
from sagan.training.inputs import Inputs, step_inputs
from sagan.training.state import TrainState


@dataclass
class StepInParts:
    """One training step. Its parts run in the order of `parts`, because later ones use the results of earlier ones."""

    state: TrainState
    watch: FiniteWatch
    loaded: Iterator[Inputs]
    """Inputs that part `data` loads. The other parts do not use them."""
    d_inputs: list[Inputs]
    """The inputs of each update of D."""
    g_inputs: Inputs
    d_gradients: list[Tensor] = field(init=False)
    """Those of the last update of D."""
    g_gradients: list[Tensor] = field(init=False)
    d_metrics: steps.Metrics = field(init=False)
    g_metrics: steps.Metrics = field(init=False)

    def parts(self) -> dict[str, Callable[[], None]]:
        """Return the parts by their names in the report."""
        return {
            "data": self.load,
            "d": self.differentiate_d,
            "g": self.differentiate_g,
            "optimizer": self.optimize,
            "ema": self.average,
            "logging": self.log,
        }

    def load(self) -> None:
        """Load the inputs of a whole step."""
        for _ in range(len(self.d_inputs) + 1):
            next(self.loaded)

    def differentiate_d(self) -> None:
        """Compute the gradients of every update of D."""
        for inputs in self.d_inputs:
            self.d_gradients, self.d_metrics = steps.discriminator_gradients(self.state, inputs)

    def differentiate_g(self) -> None:
        """Compute the gradients of G."""
        self.g_gradients, self.g_metrics = steps.generator_gradients(self.state, self.g_inputs)

    def optimize(self) -> None:
        """Take all steps of Adam: one for each update of D, and one for G."""
        for d_inputs in self.d_inputs:
            steps.apply_to_discriminator(self.state, self.d_gradients, d_inputs)
        steps.adam_step(self.state.generator_optimizer, self.g_gradients)

    def average(self) -> None:
        """Update the moving average of G, if there is one."""
        if self.state.moving_average is not None and self.g_inputs.decay is not None:
            self.state.moving_average.update(self.g_inputs.decay)

    def log(self) -> None:
        """Check the metrics and read them, as for a record."""
        metrics = {**self.d_metrics, **self.g_metrics}
        self.watch.check(1, metrics)
        self.watch.require()
        numbers(metrics)


def loaded_inputs(config: Config) -> Iterator[Inputs]:
    """Return an iterator over the inputs of updates on the CPU, with images of noise loaded from memory."""
    data, training = config.data, config.training
    images = torch.randint(256, (1024, data.channels, *data.size), dtype=torch.uint8)
    labels = torch.zeros(1024, dtype=torch.long)
    batches = TrainingBatches(
        MemoryDataset(images, labels, [], "noise"), seed=0, batch_size=training.batch_size, flip=data.flip
    )
    z_dim = config.model.generator.z_dim
    return step_inputs(training, z_dim, data.num_classes or 0, batches, step=0)
