"""The inputs of an update, random draws and images, as functions of the run's seed and the index of the update."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sagan.config import TrainingConfig
from sagan.runtime.distributed import rank, world_size
from sagan.runtime.draws import rng_for
from sagan.training.ema import ema_decay

Batch = tuple[Tensor, Tensor | None, Tensor | None]
"""Images, their labels, and which of them to mirror, as `TrainingBatches` yields them."""


@dataclass(frozen=True)
class Inputs:
    """This process's share of the inputs of an update, n images. Fields that an update does not use are None."""

    z: Tensor
    """Latents (n, z_dim)."""
    y: Tensor | None = None
    """Labels of the generated images (n,), None without classes."""
    uniform: Tensor | None = None
    """Draws from [0, 1) for augmentation, (m, 7): m = 2n in an update of D, real images first, else n."""
    real: Tensor | None = None
    """Real images, uint8 (n, C, H, W), or their indices, int64 (n,), if all images are on the device."""
    real_y: Tensor | None = None
    """Labels of the real images (n,), None without classes."""
    mirrored: Tensor | None = None
    """Which real images to mirror, bool (n,), None for none."""
    decay: Tensor | None = None
    """Decay of the moving average in this update of G, float32."""

    def parts(self, number: int) -> list["Inputs"]:
        """Return the inputs of each micro-batch."""
        if number == 1:
            return [self]
        groups = 1 if self.real is None else 2
        split: dict[str, Sequence[Tensor]] = {}
        for name, value in self.tensors().items():
            if name == "uniform":  # the rows are `groups` groups of n
                of_group = [rows.chunk(number) for rows in value.chunk(groups)]
                split[name] = [torch.cat(rows) for rows in zip(*of_group, strict=True)]
            else:
                split[name] = value.chunk(number) if value.ndim else [value] * number
        return [Inputs(**{name: values[i] for name, values in split.items()}) for i in range(number)]

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are not None, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def draw(training: TrainingConfig, z_dim: int, num_classes: int, purpose: str, index: int) -> Inputs:
    """Return the random inputs of update `index` of a purpose, on the CPU.

    They are drawn for the whole batch, and each process keeps its own rows, so the number of processes does not change
    them.
    """
    n, generator = training.batch_size, rng_for(training.seed, purpose, index)
    share = slice(rank() * n // world_size(), (rank() + 1) * n // world_size())
    z = torch.randn(n, z_dim, generator=generator)[share]
    y = torch.randint(num_classes, (n,), generator=generator)[share] if num_classes else None
    uniform = None
    if training.diffaugment:
        groups = 2 if purpose == "discriminator" else 1
        uniform = torch.rand(groups, n, 7, generator=generator)[:, share].flatten(0, 1)
    return Inputs(z, y, uniform)


def step_inputs(
    training: TrainingConfig, z_dim: int, num_classes: int, batches: Iterable[Batch], step: int
) -> Iterator[Inputs]:
    """Yield the inputs of all updates after `step` steps: `d_steps` updates of D, then one of G, and so on."""
    batches = iter(batches)
    while True:
        for i in range(training.d_steps):
            drawn = draw(training, z_dim, num_classes, "discriminator", step * training.d_steps + i)
            real, y, mirrored = next(batches)
            yield replace(drawn, real=real, real_y=y if num_classes else None, mirrored=mirrored)
        drawn = draw(training, z_dim, num_classes, "generator", step)
        step += 1
        decay = torch.tensor(ema_decay(step, training.ema_decay, training.ema_start), dtype=torch.float32)
        yield replace(drawn, decay=decay if training.ema_decay else None)
