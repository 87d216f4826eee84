"""The loop from images to features, in batches and shared among processes.

Each process measures some of the batches that a single process would measure, and rank 0 collects the rows in the order
of the sample indices. Everything after that is a function of one ordered table. So scores do not depend on the number
of processes, and the batch size only changes how they are rounded.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from sagan.data.rules import Rule
from sagan.evaluation.extractors import Extractor
from sagan.runtime import distributed

GATHER_ROWS = 4096  # rows that a process sends at a time, which bounds the memory that a gather takes


class Features(NamedTuple):
    """What `extract` measures of n images, in the order of the images."""

    values: Tensor  # (n, d), float32, CPU
    logits: Tensor | None  # (n, k), float32, CPU; None if the extractor has none
    parts: Tensor | None = None  # (n, 2, columns), float32, CPU; None without a rule


def extract(
    images: Callable[[int, int], Tensor],
    n: int,
    extractor: Extractor,
    batch_size: int,
    title: str,
    rule: Rule | None = None,
) -> Features | None:
    """Return the features of images 0..n-1 on rank 0, None elsewhere; `images(start, stop)` returns uint8 (n, C, H, W).

    With a rule, also return the parts that it reads from each image.
    """
    rank, bounds = distributed.rank(), shares(n, batch_size, distributed.world_size())
    start, stop = bounds[rank : rank + 2]
    values = torch.empty(stop - start, extractor.feature_dim)
    logits = torch.empty(stop - start, extractor.logits_dim)
    parts = torch.empty(stop - start, 2 * rule.columns if rule else 0)
    # A log file gets one line per minute, a terminal a live bar.
    pause = 0.5 if sys.stderr.isatty() else 60
    with tqdm(total=stop - start, desc=title, unit="image", disable=rank > 0, mininterval=pause) as bar:
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            rows = slice(first - start, last - start)
            batch = images(first, last)
            values[rows], batch_logits = extractor(batch)
            if batch_logits is not None:
                logits[rows] = batch_logits
            if rule is not None:
                parts[rows] = rule.read(batch).flatten(1).cpu()
            bar.update(last - first)
    values, logits, parts = (gather_rows(local, bounds) for local in (values, logits, parts))
    if rank > 0:
        return None
    return Features(values, logits if extractor.logits_dim else None, parts.unflatten(1, (2, -1)) if rule else None)


def shares(n: int, batch_size: int, world: int) -> list[int]:
    """Return where the share of each process begins, and n.

    Shares are made of whole batches. If they cut a batch in two, other kernels could be chosen for its parts, which
    round differently.
    """
    batches = -(-n // batch_size)
    return [min(n, batch_size * (batches * r // world)) for r in range(world + 1)]


def gather_rows(local: Tensor, bounds: list[int]) -> Tensor:
    """Return the rows of all processes, in order, on rank 0; elsewhere the unchanged local rows.

    The rows of process r are bounds[r] to bounds[r + 1].
    """
    rank, world, n = distributed.rank(), distributed.world_size(), bounds[-1]
    if world == 1:
        return local
    longest = max(stop - start for start, stop in zip(bounds, bounds[1:], strict=False))
    table = torch.empty(n, local.shape[1]) if rank == 0 else local
    for first in range(0, longest, GATHER_ROWS):
        rows = min(GATHER_ROWS, longest - first)
        block = torch.zeros(rows, local.shape[1])  # on the CPU, over gloo; padded, because shares may differ in length
        mine = local[first : first + rows]
        block[: len(mine)] = mine
        blocks = [torch.empty_like(block) for _ in range(world)] if rank == 0 else None
        dist.gather(block, blocks)
        for r, received in enumerate(blocks or []):
            begin, end = min(bounds[r] + first, bounds[r + 1]), min(bounds[r] + first + rows, bounds[r + 1])
            table[begin:end] = received[: end - begin]
    return table
