"""Processes that share one run, as `torchrun` starts them: gloo on a CPU, NCCL on GPUs. One alone needs none of it."""

import os
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=2)  # the others wait while the main process downloads data or measures features


def rank() -> int:
    """This process among those of the run, 0 where there is one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Processes of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes to disk and to the terminal."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device):
    """Joins the processes that `torchrun` started, for the length of the block; does nothing where there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # gloo's threads may abort a process whose peers have left already
    finally:
        dist.destroy_process_group()


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of x over all processes, with gradients; x itself where there is one."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


class _AllReduceSum(torch.autograd.Function):
    """d(sum over ranks of loss_r)/dx needs the output gradients of every rank: the backward pass adds them up too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone().contiguous()
        dist.all_reduce(total)
        return total


def any_process(flag: bool) -> bool:
    """Whether any process says so; every process gets the same answer."""
    if world_size() == 1:
        return flag
    votes = torch.tensor([int(flag)])  # on the CPU, over gloo: a GPU would have to wait for its queue
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def average(tensors: list[Tensor]) -> None:
    """Replaces each float tensor by its mean over the processes, in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([t.detach().flatten().float() for t in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def barrier() -> None:
    """Waits for the other processes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_first():
    """The main process runs the block before the others do."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()
