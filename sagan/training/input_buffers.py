"""Inputs on their way to a GPU: one block of bytes per update, filled ahead by a thread and copied asynchronously.

Updates always find their inputs in the same place on the device, so that a CUDA graph can read them there.
"""

import math
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from sagan.training.inputs import Inputs

ALIGNMENT = 16  # bytes: at least the size of every element, so that each tensor can be a view of the block
Item = TypeVar("Item")


@dataclass(frozen=True)
class Field:
    """The position of a tensor in a block."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Return the size of the tensor in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, block: Tensor) -> Tensor:
        """Return the tensor as a view of the block."""
        return block[self.start : self.start + self.nbytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Block:
    """The inputs of an update in one piece of host memory."""

    layout: tuple[Field, ...]
    data: Tensor


def pack_inputs(inputs: Inputs, pin: bool) -> Block:
    """Copy inputs into a new block. Pinned memory can be copied while the host continues.

    torch caches pinned memory that is freed, and reuses it only after the copies queued from it have finished.
    """
    layout, start = [], 0
    for name, tensor in inputs.tensors().items():
        layout.append(Field(name, tensor.dtype, tuple(tensor.shape), start))
        start += math.ceil(layout[-1].nbytes / ALIGNMENT) * ALIGNMENT
    data = torch.empty(start, dtype=torch.uint8, pin_memory=pin)
    for field in layout:
        field.view(data).copy_(getattr(inputs, field.name))
    return Block(tuple(layout), data)


class InputBuffers:
    """Input buffers on a device: one for each layout of blocks, and so one for each kind of update."""

    def __init__(self, device: torch.device):
        self.device = device
        self.known: dict[tuple[Field, ...], tuple[Tensor, Inputs]] = {}

    def load(self, block: Block) -> Inputs:
        """Queue the copy of a block to its buffer, and return the inputs there, valid until the next such block."""
        if block.layout not in self.known:
            data = torch.empty(len(block.data), dtype=torch.uint8, device=self.device)
            self.known[block.layout] = data, Inputs(**{f.name: f.view(data) for f in block.layout})
        data, inputs = self.known[block.layout]
        data.copy_(block.data, non_blocking=True)
        return inputs


def ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Yield the items of an iterator, computed up to `depth` items ahead by a thread. Raise whatever it raises."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    closed = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not _put(ready, (item, None), closed):
                    return
        except BaseException as exception:  # the reader raises it
            error = exception
        _put(ready, (None, error or StopIteration()), closed)

    threading.Thread(target=work, name="inputs", daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        closed.set()


def _put(ready: queue.Queue, item: object, closed: threading.Event) -> bool:
    """Put an item into the queue, and return whether its reader is still there."""
    while not closed.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
