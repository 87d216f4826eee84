"""Training batches as a function of (seed, batch number): an endless sequence that can be resumed at any batch.

They depend neither on the number of processes nor on the number of workers.
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from sagan.config import ConfigError
from sagan.data.dataset import Dataset, MemoryDataset
from sagan.data.reading import read_ahead
from sagan.runtime.draws import rng_for


class TrainingBatches:
    """An endless iterable of (images, y, mirrored) for batch numbers start, start + 1, ....

    On the CPU, images is uint8, (n, C, H, W), y is int64, (n,), and mirrored is bool, (n,), or None for no flips, with
    n = batch_size // world_size. If all images are `resident` on an accelerator, images holds their indices instead.
    Batch b holds the draws b * batch_size ... (b + 1) * batch_size - 1 of one endless sequence, a permutation of the
    data set per epoch. Each rank takes a contiguous slice. Images in memory are moved to the device once if they fit;
    images on disk are read by `workers` processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        batch_size: int,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
        spare: int = 0,
    ):
        if batch_size % world_size:
            raise ConfigError(f"training.batch_size {batch_size}: not a multiple of the {world_size} processes")
        self.dataset = dataset.to(torch.device(device), spare)
        self.seed, self.batch_size, self.flip = seed, batch_size, flip
        self.share = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.start = start
        self.workers = 0 if isinstance(dataset, MemoryDataset) else workers

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        for images, y, mirrored in read_ahead(self.dataset, self.read, itertools.count(self.start), self.workers):
            yield images, y, mirrored if self.flip else None

    @property
    def resident(self) -> Tensor | None:
        """Return all images if they are on an accelerator, else None."""
        images = self.dataset.images if isinstance(self.dataset, MemoryDataset) else None
        return None if images is None or images.device.type == "cpu" else images

    def indices(self, number: int) -> Tensor:
        """Return this rank's image indices of batch `number`."""
        draws = torch.arange(number * self.batch_size, (number + 1) * self.batch_size)[self.share]
        count = len(self.dataset)
        epochs, places = draws // count, draws % count
        parts = [epoch_order(self.seed, e, count)[places[epochs == e]] for e in epochs.unique().tolist()]
        return torch.cat(parts)

    def mirrored(self, number: int) -> Tensor:
        """Return whether to mirror each of this rank's images of batch `number`. It is drawn for the whole batch."""
        draws = torch.rand(self.batch_size, generator=rng_for(self.seed, "flip", number))
        return (draws < 0.5)[self.share]

    def read(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return uint8 images (or indices), labels, and which images to mirror, of batch `number`."""
        indices = self.indices(number)
        images = self.dataset.batch(indices) if self.resident is None else indices
        return images, self.dataset.labels[indices], self.mirrored(number)


@lru_cache(maxsize=4)  # consecutive batches share an epoch or two; a permutation of a million takes 8 MB
def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """Return the order of the images in an epoch: a permutation of 0..count-1."""
    return torch.randperm(count, generator=rng_for(seed, "order", epoch))


def to_float(images: Tensor) -> Tensor:
    """Return uint8 values 0..255 as float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1)
