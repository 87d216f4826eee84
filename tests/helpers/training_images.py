"""What a training step makes of its batches."""

from itertools import islice

import torch

from sagan.data import TrainingBatches
from sagan.data.batches import to_float


def training_images(dataset, count, **options):
    """Return the first `count` batches as (real, y): float32 images in [-1, 1], mirrored where that is due."""
    batches, found = TrainingBatches(dataset, **options), []
    for images, y, mirrored in islice(batches, count):
        real = to_float(images if batches.resident is None else batches.dataset.batch(images).cpu())
        if mirrored is not None:
            real = torch.where(mirrored[:, None, None, None], real.flip(3), real)
        found.append((real, y))
    return found
