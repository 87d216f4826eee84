"""Images of a generator as functions of (seed, index), and the statistics of its batch norm."""

from collections.abc import Callable

import torch
from torch import Tensor

from sagan.config import EvaluationConfig
from sagan.layers import BatchNorm
from sagan.models.generator import Generator
from sagan.runtime.device import full_float32
from sagan.runtime.draws import labels, latents
from sagan.runtime.pictures import to_uint8


def image_sampler(
    generator: Generator, seed: int, truncation: float = 0.0
) -> Callable[[int, int, Tensor | None], Tensor]:
    """Return sample(start, stop, y) -> uint8 images (stop - start, C, H, W), on the generator's device.

    z is drawn per sample index, so an image does not depend on the batch size or the number of processes.
    """
    device = next(generator.parameters()).device

    @torch.no_grad()
    def sample(start: int, stop: int, y: Tensor | None) -> Tensor:
        z = latents(seed, "sample", start, stop, generator.z_dim, truncation).to(device)
        return to_uint8(generator(z, None if y is None else y.to(device)))

    return sample


@torch.no_grad()
def set_standing_statistics(generator: Generator, batches: int, batch_size: int, seed: int) -> None:
    """Replace the running statistics of batch norm by their mean over `batches` fresh batches of generated images.

    Every process draws the same batches, so the statistics need no synchronization, and the result does not depend on
    the number of processes. Their z is not truncated, so images of truncated z keep the contrast that they have with
    running statistics. Running statistics lag behind the weights. Source: Brock et al. 2019, section 3 ("standing
    statistics").
    """
    norms = [m for m in generator.modules() if isinstance(m, BatchNorm)]
    settings = [(norm.momentum, norm.sync) for norm in norms]
    device = next(generator.parameters()).device
    generator.train()
    for i in range(batches):
        for norm in norms:
            norm.momentum, norm.sync = 1 / (i + 1), False  # the mean of all batches so far
        start = i * batch_size
        y = labels(seed, "standing labels", start, start + batch_size, generator.num_classes)
        z = latents(seed, "standing", start, start + batch_size, generator.z_dim).to(device)
        generator(z, None if y is None else y.to(device))
    for norm, (momentum, sync) in zip(norms, settings, strict=True):
        norm.momentum, norm.sync = momentum, sync
    generator.eval()


def take_statistics(generator: Generator, config: EvaluationConfig) -> str:
    """Set batch norm's statistics as `config` says, and return their description for a score's protocol."""
    if config.standing_statistics:
        with full_float32(next(generator.parameters()).device):  # scores do not depend on the device
            set_standing_statistics(generator, config.standing_statistics, config.batch_size, config.seed)
    return statistics_in_words(config.standing_statistics, config.batch_size)


def statistics_in_words(batches: int, batch_size: int) -> str:
    """Return the description of batch norm's statistics, running for 0 batches, else standing."""
    return f"standing over {batches} batches of {batch_size}" if batches else "running"
