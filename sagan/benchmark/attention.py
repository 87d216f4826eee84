"""`sagan bench --attention`: the cost of each attention system in parameters, arithmetic, time and memory."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sagan.attention import KINDS, Attention, Place, build_attention
from sagan.config import AttentionConfig, ConfigError
from sagan.layers import initialize
from sagan.runtime.device import choose_device, device_name, full_float32, wait_for
from sagan.runtime.flops import forward_flops
from sagan.runtime.memory import require_memory
from sagan.runtime.wording import counted

MIB = 2**20


@dataclass(frozen=True)
class AttentionCost:
    """The cost of one kind with its default options on one map size, in a generator in training mode."""

    kind: str
    size: tuple[int, int]
    parameters: int
    gflops: float
    """Products and convolutions of a forward pass for one image; a multiply-add counts as two."""
    forward_ms: float
    training_ms: float
    """Forward and backward pass together."""
    peak_mib: float
    """Largest memory held during both passes, beyond weights and input."""


def measure(
    kinds: list[str] | None,
    sides: list[int],
    *,
    batch: int,
    channels: int,
    device: str,
    precision: Literal["float32", "bf16"],
    threads: int,
    repeats: int,
) -> str:
    """Return the table as Markdown, below a line about how it was measured. `kinds` None means all.

    Raise ConfigError, before anything is measured, if a kind cannot be built for one of the square maps.
    """
    place, sizes = choose_device(device), [(side, side) for side in sides]
    kinds = kinds or [name for name, cls in KINDS.items() if cls is not None]
    for kind in kinds:
        for size in sizes:
            _layer(kind, size, channels, spectral_norm=True)
    largest = 4 * 4 * batch * channels * max(sides) ** 2  # the map, its gradient, the result and its gradient
    require_memory(largest, place, f"batch {batch}, channels {channels}, sizes {sides}")
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with full_float32(place):
        rows = attention_costs(batch, channels, sizes, kinds=kinds, device=place, dtype=dtype, repeats=repeats)
    on = f", {counted(threads, 'thread')}" if place.type == "cpu" else ""
    head = f"{counted(batch, 'image')}, {counted(channels, 'channel')}, {precision}; {device_name(place)}{on}"
    return f"{head}; torch {torch.__version__}\n\n{markdown_table(rows)}"


def attention_costs(
    batch: int,
    channels: int,
    sizes: list[tuple[int, int]],
    *,
    kinds: list[str],
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
) -> list[AttentionCost]:
    """Return a row for every kind on every map size; times are the best of `repeats` passes over `batch` images."""
    return [_cost(kind, size, batch, channels, device, dtype, repeats) for size in sizes for kind in kinds]


def markdown_table(rows: list[AttentionCost]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| map | kind | parameters | GFLOPs / image | forward, ms | forward + backward, ms | peak, MiB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.size[0]}×{r.size[1]} | `{r.kind}` | {r.parameters:,} | {r.gflops:.3f} | {r.forward_ms:.1f} "
        f"| {r.training_ms:.1f} | {r.peak_mib:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def _layer(kind: str, size: tuple[int, int], channels: int, spectral_norm: bool) -> Attention:
    torch.manual_seed(0)
    layer = build_attention(AttentionConfig(kind=kind), Place(channels, size, spectral_norm, batch_norm=True))
    if not isinstance(layer, Attention):
        raise ConfigError(f"kind {kind}: expected a kind other than none")
    initialize(layer, "xavier")
    if layer.gamma is not None:
        nn.init.ones_(layer.gamma)
    return layer


def _cost(
    kind: str, size: tuple[int, int], batch: int, channels: int, device: torch.device, dtype: torch.dtype, repeats: int
) -> AttentionCost:
    layer = _layer(kind, size, channels, spectral_norm=True)
    layer.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in torch's stub
    x = torch.randn(batch, channels, *size, device=device).to(dtype, memory_format=torch.channels_last)
    x.requires_grad_()

    def forward() -> Tensor:
        return layer(x)

    def forward_and_backward() -> None:
        forward().backward(torch.ones_like(x))
        x.grad = None
        layer.zero_grad()

    forward_and_backward()  # the first pass also loads kernels
    return AttentionCost(
        kind,
        size,
        parameters=sum(p.numel() for p in layer.parameters()),
        gflops=_flops(kind, size, channels) / 1e9,
        forward_ms=_milliseconds(forward, device, repeats),
        training_ms=_milliseconds(forward_and_backward, device, repeats),
        peak_mib=_peak_bytes(forward_and_backward, device) / MIB,
    )


def _flops(kind: str, size: tuple[int, int], channels: int) -> int:
    """Return the FLOPs for one image, on the meta device because kernels may pad.

    Spectral norm is left out, because its work is per pass, not per image.
    """
    layer = _layer(kind, size, channels, spectral_norm=False).to("meta").eval()
    return forward_flops(layer, torch.empty(1, channels, *size, device="meta"))


def _milliseconds(work: Callable, device: torch.device, repeats: int) -> float:
    """Return the best time, because other load can only add to it. On a CPU, it is the CPU time of all threads."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(repeats):
        wait_for(device)
        start = clock()
        work()
        wait_for(device)
        times.append(1000 * (clock() - start))
    return min(times)


def _peak_bytes(work: Callable, device: torch.device) -> int:
    """Return the most bytes that tensors hold at once while `work` runs, in addition to those held before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with _StorageMeter() as meter:
        work()
    return meter.peak


class _StorageMeter(TorchDispatchMode):
    """A counter of the bytes held by tensors that operations create while it is active.

    Memory that a kernel allocates for itself and frees before it returns is not counted.
    """

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.known.update(t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.held += storage.nbytes()
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())

    def free(self, identity: int, size: int) -> None:
        self.known.discard(identity)
        self.held -= size
