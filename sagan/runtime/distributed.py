"""The processes of one run, as `torchrun` starts them: gloo on a CPU, NCCL on GPUs.

Everything here also works in a single process without a process group.
"""

import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import DistError, Store, distributed_c10d  # pyright: ignore[reportPrivateImportUsage]

from sagan.config import ConfigError, UserError
from sagan.config.types import shown
from sagan.runtime.rendezvous import attempt_store
from sagan.runtime.wording import counted

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for an operation in which all processes take part
FIRST_WORD, NEXT_WORD = 60.0, 600.0  # seconds before a process says that it waits for the main one, and between repeats


def rank() -> int:
    """Return the rank of this process, 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process writes to disk and to the terminal."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started for the duration of the block; do nothing for a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world_size = attempt_store(PATIENCE)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
    try:
        require_own_gpus(device)
        yield
        dist.barrier()  # gloo's threads may abort a process whose peers have already left
    finally:
        dist.destroy_process_group()


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of x over all processes, with gradients; x itself for a single process."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


class _AllReduceSum(torch.autograd.Function):
    """A sum over processes with gradients.

    d(sum over ranks of loss_r)/dx needs the output gradients of every rank, so the backward pass sums them too.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone().contiguous()
        dist.all_reduce(total)
        return total


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; every process gets the same answer."""
    if world_size() == 1:
        return flag
    votes = torch.tensor([int(flag)])  # on the CPU, over gloo: on a GPU this would wait for queued work
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def average(tensors: list[Tensor]) -> None:
    """Replace each float tensor by its mean over the processes, in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([t.detach().flatten().float() for t in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    means = [m.view_as(t) for m, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]
    # torch's own DistributedDataParallel calls this private function too.
    torch._foreach_copy_([t.detach() for t in tensors], means)  # pyright: ignore[reportPrivateImportUsage]


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_first(what: str) -> Iterator[None]:
    """Run the block in the main process before the others enter it, however long that takes.

    `what` says what the main process does, such as "opens the data". The others report that they wait for it. Raise
    UserError in them if the main process ends first.
    """
    if world_size() == 1:
        yield
        return
    key = f"sagan/main first {next(_blocks)}"
    if is_main():
        yield
        _store().set(key, "done")
    else:
        _wait_for_main(key, what)
        yield


_blocks = itertools.count()  # all processes pass the same blocks in the same order


def _store() -> Store:
    return distributed_c10d._get_default_store()


def _wait_for_main(key: str, what: str) -> None:
    start = time.monotonic()
    next_word = FIRST_WORD
    while True:
        try:
            if _store().check([key]):
                return
        except (DistError, RuntimeError):  # the store ends with the main process
            raise UserError(f"rank {rank()}: rank 0, which {what}, ended while this process waited for it") from None
        if (waited := time.monotonic() - start) > next_word:
            next_word += NEXT_WORD
            minutes = counted(round(waited / 60), "minute")
            print(f"rank {rank()} has waited {minutes} for rank 0, which {what}", file=sys.stderr, flush=True)
        time.sleep(0.2)


def from_main(value: Any) -> Any:
    """Return the value of the main process in all processes; the values of the others are ignored."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box)
    return box[0]


def read_by_main(read: Callable[[], T]) -> T:
    """Return in all processes what `read` returns in the main one: only its machine may have the files.

    A UserError that `read` raises is raised in all of them.
    """
    result: tuple[Any, str | None] = None, None
    if is_main():
        try:
            result = read(), None
        except UserError as error:
            if world_size() == 1:
                raise
            result = None, str(error)
    value, problem = from_main(result)
    if problem is not None:
        raise UserError(problem)
    return value


def require_agreement(facts: dict[str, Any]) -> None:
    """Raise ConfigError, naming the rank and both values, if processes differ in something that they must share."""
    if world_size() == 1:
        return
    everyone: list[dict[str, Any]] = [{} for _ in range(world_size())]
    dist.all_gather_object(everyone, facts)
    for other, theirs in enumerate(everyone):
        for name, value in everyone[0].items():
            if theirs.get(name) != value:
                raise ConfigError(
                    f"rank {other}: {name} {shown(theirs.get(name))}, but rank 0 has {shown(value)}; "
                    "all processes of a run need the same"
                )


def require_own_gpus(device: torch.device) -> None:
    """Raise ConfigError if two processes have the same GPU."""
    if world_size() == 1 or device.type != "cuda":
        return
    gpus: list[str] = [""] * world_size()
    dist.all_gather_object(gpus, f"{socket.gethostname()}, GPU {torch.cuda.get_device_properties(device).uuid}")
    for other, gpu in enumerate(gpus):
        if (first := gpus.index(gpu)) != other:
            raise ConfigError(f"device {device}: ranks {first} and {other} share a GPU: {gpu}")
