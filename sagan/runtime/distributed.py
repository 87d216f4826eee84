"""The processes of one run, as `torchrun` starts them: gloo on a CPU, NCCL on GPUs.

Everything here also works in a single process without a process group.
"""

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import DistError, Store, distributed_c10d

from sagan.config import ConfigError, UserError
from sagan.config.types import shown
from sagan.runtime.device import started_processes
from sagan.runtime.rendezvous import attempt_store, await_everyone, in_words, silent_ranks
from sagan.runtime.waiting import length, wait_until

T = TypeVar("T")
FIRST, MET = "sagan/first", "sagan/met"
PATIENCE = timedelta(minutes=30)  # for an operation in which all processes take part


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
    """Join the processes that `torchrun` started for the duration of the block; do nothing for a single process.

    Raise UserError, naming it, if one of them does not arrive, ends early or does not respond for `PATIENCE`.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs are captured on the current device
    if started_processes()[0] == 1 or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world_size = attempt_store(PATIENCE)
    completed = False
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
        require_own_gpus(device)
        yield
        dist.barrier()  # gloo's threads may abort a process whose peers have already left
        completed = True
    except RuntimeError as error:
        if problem := lost_process(error):
            limit, silent = length(PATIENCE.total_seconds()), silent_ranks(store, rank, world_size)
            lost = f"{in_words(silent)} exited or did not respond within {limit}"
            what = lost if silent else "an operation in which all processes take part failed"
            raise UserError(f"rank {rank} of {world_size}: {what}: {problem}") from error
        raise
    finally:
        if dist.is_initialized():
            if not completed and device.type == "cuda":
                abort_nccl(device)
            dist.destroy_process_group()


def abort_nccl(device: torch.device) -> None:
    """End operations of NCCL that wait for a lost process: to leave the group would wait for them."""
    with suppress(RuntimeError, AttributeError):  # NCCL may not be set up yet
        dist.group.WORLD._get_backend(device).abort()  # pyright: ignore[reportOptionalMemberAccess]


def lost_process(error: RuntimeError) -> str:
    """Return what gloo or NCCL say about another process, nothing if the error is of another kind."""
    text, _, cause = str(error).partition("Last error:")  # NCCL's reason, at the end
    first = next(iter(text.splitlines()), "")
    if isinstance(error, DistError):
        return " ".join([first, *cause.split()])
    if "/gloo/" in first and not isinstance(error, UserError):  # [FILE:LINE] REASON. ADVICE
        return first.partition("] ")[2].partition(". ")[0]
    return ""


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
    """Replace each float tensor by its mean over the processes, in one message.

    A tensor must have the same memory layout in all processes.
    """
    if world_size() == 1 or not tensors:
        return
    stored = [in_memory_order(t.detach()) for t in tensors]
    flat = torch.cat([t.flatten().float() for t in stored])
    dist.all_reduce(flat)
    flat /= world_size()
    means = [m.view_as(t) for m, t in zip(flat.split([t.numel() for t in stored]), stored, strict=True)]
    # torch's own DistributedDataParallel calls this private function too.
    torch._foreach_copy_(stored, means)


def in_memory_order(tensor: Tensor) -> Tensor:
    """Return a view with dimensions in the order of memory: flattening a channels-last tensor then copies nothing."""
    return tensor.permute(sorted(range(tensor.ndim), key=lambda d: (-tensor.stride(d), -tensor.size(d))))


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def main_first(what: str) -> Iterator[None]:
    """Run the block in the main process, then in one process of each other machine, then in all others.

    So each machine downloads once, and a disk that machines share is written by the main process alone. All wait for
    all, as in `meet`. `what` says what the block does, such as "opens the data".
    """
    if world_size() == 1:
        yield
        return
    block, machine, local = next(_blocks), os.environ.get("GROUP_RANK", "0"), int(os.environ.get("LOCAL_RANK", rank()))
    if not is_main():
        first, where = (rank() - local, machine) if local else (0, "0")
        await_rank(first, f"{FIRST} {block}/{where}", what)
    yield
    if not local:
        _store().set(f"{FIRST} {block}/{machine}", "done")
    meet(what)


def meet(what: str) -> None:
    """Wait without a time limit until every process gets here, and report now and then for which ranks.

    `what` says what they do until then, such as "reads the images". Work that may take long on one machine ends with
    this: otherwise the others would wait in the next operation, which has a limit. Raise UserError if the main process
    ends first. If another one ends, the launcher ends the run.
    """
    if world_size() > 1:
        await_everyone(_store(), f"{MET} {next(_blocks)}", rank(), world_size(), f"rank {rank()}", what=what)


_blocks = itertools.count()  # all processes pass the same blocks in the same order


def _store() -> Store:
    return distributed_c10d._get_default_store()


def broadcast(value: Any) -> Any:
    """Return the value of the main process in all processes; the values of the others are ignored."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box)
    return box[0]


def run_on_main(work: Callable[[], T], what: str = "reads the run") -> T:
    """Return in all processes what `work` returns in the main one: only its machine may have the files.

    The others wait for it without a time limit. `what` says what it does. A ConfigError or UserError that `work` raises
    is raised in all of them.
    """
    value, problem = None, None
    if is_main():
        try:
            value = work()
        except (ConfigError, UserError) as error:
            problem = error
    if world_size() > 1:
        await_main(what)
    value, problem = broadcast((value, problem))
    if problem is not None:
        raise problem
    return value


def await_main(what: str) -> None:
    """Let the others wait without a time limit until the main process gets here."""
    key = f"{FIRST} {next(_blocks)}/main"
    if is_main():
        _store().set(key, "done")
    else:
        await_rank(0, key, what)


def await_rank(other: int, key: str, what: str) -> None:
    """Wait without a time limit until rank `other`, which does `what` until then, has set a key."""
    wait_until(lambda: _store().check([key]), f"rank {rank()}", lambda: f"rank {other}, which {what}")


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
