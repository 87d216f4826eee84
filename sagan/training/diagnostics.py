"""Measurements of a training state: gradient norms, gammas, singular values, memory, speed and image grids."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor, nn

from sagan.attention import attention_layers
from sagan.data import Dataset
from sagan.layers import Weights, evaluating, spectral_weights
from sagan.runtime.draws import latents
from sagan.runtime.pictures import image_grid, to_uint8
from sagan.training.state import TrainState

GRID_BATCH = 50  # images of a grid generated at a time


def numbers(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Return scalars as numbers. On a GPU this waits for queued work, once."""
    return dict(zip(scalars, stacked(scalars).tolist(), strict=True)) if scalars else {}


def stacked(scalars: Mapping[str, Tensor]) -> Tensor:
    """Return scalars, at least one, as a float32 vector on their device."""
    return torch.stack([s.detach().float() for s in scalars.values()])


def gradient_norms(state: TrainState) -> dict[str, Tensor]:
    """Return the L2 norm of the gradient of each network's last update."""
    return {"gradient/generator": _norm(state.generator), "gradient/discriminator": _norm(state.discriminator)}


def _norm(network: nn.Module) -> Tensor:
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    # torch's own gradient clipping calls this private function too.
    norms = torch._foreach_norm(gradients)
    return torch.stack(norms).norm()


def gammas(state: TrainState) -> dict[str, Tensor]:
    """Return gamma of every attention layer that has one."""
    return {
        f"attention/gamma/{network}.{name}": layer.gamma
        for network in ("generator", "discriminator")
        for name, layer in attention_layers(getattr(state, network)).items()
        if layer.gamma is not None
    }


def singular_values(state: TrainState) -> dict[str, float]:
    """Return the estimated largest singular value of every weight under spectral norm, before the division."""
    return numbers(
        {
            f"singular_value/{network}.{name}": layer.sigma()
            for network in ("generator", "discriminator")
            for name, layer in spectral_weights(getattr(state, network)).items()
        }
    )


def of_each_network(values: dict[str, float]) -> dict[str, float]:
    """Return the largest and the median singular value of each network, under names with the same prefix."""
    found: dict[str, list[float]] = {}
    for name, value in values.items():
        found.setdefault(name.partition(".")[0], []).append(value)
    return {
        f"{network}.{name}": of(several)
        for network, several in found.items()
        for name, of in (("largest", max), ("median", median))
    }


def grid_inputs(state: TrainState, columns: int = 10, rows: int = 10) -> tuple[Tensor, Tensor | None]:
    """Return the fixed z and y of the sample grid: a row for each of the first classes, a column for each z."""
    classes = min(state.generator.num_classes, rows)
    z = latents(state.config.training.seed, "grid", 0, columns * rows, state.generator.z_dim).to(state.device)
    if classes == 0:
        return z, None
    z = z[:columns].repeat(classes, 1)
    return z, torch.arange(classes, device=state.device).repeat_interleave(columns)


@torch.no_grad()
def sample_grid(state: TrainState, z: Tensor, y: Tensor | None, columns: int = 10) -> Tensor:
    """Return the images for z and y, of the moving average if there is one, as one uint8 image (C, H, W)."""
    parts = [slice(i, i + GRID_BATCH) for i in range(0, len(z), GRID_BATCH)]
    generator = state.eval_generator
    with evaluating(generator), Weights(generator).prepared(generator.compute_dtype, power_iteration=False):
        images = [to_uint8(generator(z[p], None if y is None else y[p])) for p in parts]
    return image_grid(torch.cat(images), columns)


def real_grid(state: TrainState, data: Dataset, columns: int = 10, rows: int = 10) -> Tensor:
    """Return real images in the layout of the sample grid, with white cells if a class has too few."""
    labels, classes = data.labels.cpu(), min(state.generator.num_classes, rows)
    chosen = [torch.nonzero(labels == c).flatten()[:columns] for c in range(classes)]
    chosen = chosen or list(torch.arange(min(columns * rows, len(data))).split(columns))
    cells = torch.full((len(chosen) * columns, data.channels, *data.size), 255, dtype=torch.uint8)
    for i, indices in enumerate(chosen):
        if len(indices):
            cells[i * columns : i * columns + len(indices)] = data.batch(indices).cpu()
    return image_grid(cells, columns)


def peak_memory(device: torch.device) -> float:
    """Return the peak memory so far, in GiB: of tensors on a GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Throughput:
    """A meter of training speed: each call returns the images per second since the previous call."""

    def __init__(self, batch_size: int, step: int):
        self.batch_size = batch_size
        self.step = step
        self.since = time.perf_counter()

    def __call__(self, step: int) -> float:
        """Return the images per second up to the end of `step`."""
        now = time.perf_counter()
        rate = (step - self.step) * self.batch_size / max(now - self.since, 1e-9)
        self.step, self.since = step, now
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent inside the block."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start
