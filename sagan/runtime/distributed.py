"""The processes of one run, as `torchrun` starts them: gloo on a CPU, NCCL on GPUs.

Everything here also works in a single process without a process group.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=2)  # how long the others wait for the main process to download data or compute features


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
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
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
def main_first() -> Iterator[None]:
    """Run the block in the main process before the others enter it."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()
