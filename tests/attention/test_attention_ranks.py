"""For every kind, two gloo processes with half a batch each compute what one computes with the whole batch."""

import torch
import torch.distributed as dist
import torch.multiprocessing

from sagan.runtime.distributed import average
from tests.helpers.attention_kinds import CASES, build, images, open_gate


def gradients(layer: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    layer(x).sin().mean().backward()
    return [p.grad for p in layer.parameters()]


def compare(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    batch = images(number=4, size=(8, 12))
    for case in CASES:
        for batch_norm in {case.has_norm, False}:
            one = open_gate(build(case.kind, case.options, spectral_norm=True, batch_norm=batch_norm))
            expected = gradients(one, batch)
            two = build(case.kind, case.options, spectral_norm=True, batch_norm=batch_norm, norm={"sync": True})
            found = gradients(open_gate(two), batch[2 * rank : 2 * rank + 2])
            average(found)
            scale = max(g.abs().max() for g in expected)  # one scale for all: a bias before batch norm has gradient 0
            for name, a, b in zip(dict(one.named_parameters()), found, expected, strict=True):
                error = (a - b).abs().max() / scale
                assert error < (1e-3 if case.exact else 0.05), f"{case}: {name} differs by {error}"
    dist.barrier()  # a process that leaves early may abort its peer
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(compare, args=(str(tmp_path),), nprocs=2)
