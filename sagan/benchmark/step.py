"""`sagan bench`: the cost of a training step, compared with the same model written plainly, in one run.

Useful FLOPs are those of the plain form (1 multiply-add = 2), whatever form is measured: so an algebraic saving shows
as speed, not as less work.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sagan.config import Config
from sagan.layers import Conv2d, power_iteration, spectral_weights
from sagan.runtime.device import activation_dtype, choose_device, device_name, keep_freed_memory, wait_for
from sagan.runtime.files import write_atomically
from sagan.runtime.wording import counted
from sagan.training.diagnostics import peak_memory
from sagan.training.losses import discriminator_hinge, generator_hinge
from sagan.training.memory import require_memory_for
from sagan.training.state import TrainState, build_state
from sagan.training.steps import draw, frozen, train_step

SECONDS = 30.0  # of measuring, about

Batches = Iterator[tuple[torch.Tensor, torch.Tensor | None]]
"""Real images and labels, update after update."""


def bench(config: Config, json_file: Path | None = None) -> dict:
    """Measure a preset's training step, print the result, and write it to `json_file` if one is given.

    The step as this program takes it and the plain one alternate, so that a machine's changing load meets both; each is
    given its fastest round.
    """
    if config.data.num_classes is None:
        config = replace(config, data=replace(config.data, num_classes=10))
    device = choose_device(config.device)
    require_memory_for(config, device)
    keep_freed_memory()
    dtype = activation_dtype(config.training.precision, device)
    fast, plain = build_state(config, device, dtype), plain_state(config, device)
    flops = useful_flops(plain)
    batches, plain_batches = noise_batches(fast), noise_batches(plain)
    steps = {"step": lambda: train_step(fast, batches), "plain": lambda: plain_step(plain, plain_batches)}
    seconds = fastest(steps, device)
    images = config.training.batch_size
    result = {
        "speedup_over_plain": seconds["plain"] / seconds["step"],
        "images_per_second": images / seconds["step"],
        "plain_images_per_second": images / seconds["plain"],
        "gflops": flops / seconds["step"] / 1e9,
        "plain_gflops": flops / seconds["plain"] / 1e9,
        "matmul_gflops": matmul_gflops(torch.float32, device),
        "useful_gflop_per_image": flops / images / 1e9,
        "seconds_per_step": seconds["step"],
        "peak_memory_gib": peak_memory(device),
        "precision": str(dtype).removeprefix("torch."),
        "batch_size": images,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if dtype != torch.float32:
        result["matmul_gflops_bf16"] = matmul_gflops(dtype, device)
    print(report(result))
    if json_file:
        write_atomically(json_file, lambda file: file.write(json.dumps(result, indent=2).encode()))
    return result


def noise_batches(state: TrainState) -> Batches:
    """Yield batches of noise with labels, in place of data."""
    for index in itertools.count():
        yield real_images(state), draw(state, "bench", index, groups=1).y


def plain_state(config: Config, device: torch.device) -> TrainState:
    """Return the same model in the default layout and float32, with resampling by its definition."""
    state = build_state(config, device, torch.float32)
    for network in state.networks.values():
        network.to(memory_format=torch.contiguous_format)
        setattr(network, "memory_format", torch.contiguous_format)  # noqa: B010  # both networks declare it
        for module in network.modules():
            if isinstance(module, Conv2d):
                module.fused = False
    return state


def plain_step(state: TrainState, batches: Batches) -> None:
    """Take the same step as most implementations write it: real and fake images in separate passes."""
    generator, discriminator = state.generator, state.discriminator
    of_g, of_d = (spectral_weights(network).values() for network in (generator, discriminator))
    for i in range(d_steps := state.config.training.d_steps):
        (real, y), draws = next(batches), draw(state, "discriminator", state.step * d_steps + i, groups=2)
        state.discriminator_optimizer.zero_grad()
        power_iteration(of_g)
        with torch.no_grad():
            fake = generator(draws.z, draws.y)
        power_iteration(of_d)
        real_logits = discriminator(real, y)
        fake_logits = discriminator(fake, draws.y)
        discriminator_hinge(real_logits, fake_logits).backward()
        state.discriminator_optimizer.step()
    draws = draw(state, "generator", state.step, groups=1)
    state.generator_optimizer.zero_grad()
    power_iteration(of_g)
    with frozen(discriminator):
        generator_hinge(discriminator(generator(draws.z, draws.y), draws.y)).backward()
    state.generator_optimizer.step()
    state.step += 1


def real_images(state: TrainState) -> torch.Tensor:
    """Return a batch of noise in place of data."""
    generator, n = state.generator, state.config.training.batch_size
    return torch.rand(n, generator.image_channels, *generator.size, device=state.device) * 2 - 1


def useful_flops(plain: TrainState) -> int:
    """Return the FLOPs of one plain step, which also warms it up."""
    batches = noise_batches(plain)
    with FlopCounterMode(display=False) as counter:
        plain_step(plain, batches)
    return counter.get_total_flops()


def fastest(functions: dict[str, Callable[[], None]], device: torch.device) -> dict[str, float]:
    """Return the seconds of each function's fastest call, in alternating rounds: at least three after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    with tqdm(total=SECONDS, desc="measuring", bar_format="{l_bar}{bar}", disable=None, leave=False) as bar:
        while len(times[next(iter(times))]) < 4 or time.perf_counter() - start < SECONDS:
            for name, function in functions.items():
                times[name].append(timed(function, device))
            bar.update(min(time.perf_counter() - start, SECONDS) - bar.n)
    return {name: min(values[1:]) for name, values in times.items()}


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call."""
    wait_for(device)
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def matmul_gflops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the GFLOP/s of the fastest product of square matrices; each takes about a second at most."""
    best = 0.0
    for n in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        seconds = timed(lambda a=a, b=b: a @ b, device)
        for _ in range(5 if seconds < 1 else 0):
            seconds = min(seconds, timed(lambda a=a, b=b: a @ b, device))
        best = max(best, 2 * n**3 / seconds / 1e9)
        if seconds > 1:
            break
    return best


def report(result: dict) -> str:
    """Return the result in words."""
    ceilings = {"float32": result["matmul_gflops"], "bfloat16": result.get("matmul_gflops_bf16", math.nan)}

    def line(name: str, precision: str, images_per_second: float, gflops: float) -> str:
        ceiling = ceilings[precision]
        return (
            f"  {name:13} {images_per_second:8.1f} images/s  {gflops:8.1f} useful GFLOP/s, {gflops / ceiling:.2f} of "
            f"the best {precision} matrix product ({ceiling:.0f} GFLOP/s)"
        )

    return "\n".join([
        f"{result['device']}, {counted(result['threads'], 'thread')}, {result['precision']}, "
        f"{result['batch_size']} images, torch {result['torch']}",
        line("this program", result["precision"], result["images_per_second"], result["gflops"]),
        line("plain", "float32", result["plain_images_per_second"], result["plain_gflops"]),
        f"  speedup over plain {result['speedup_over_plain']:.2f}; {result['useful_gflop_per_image']:.2f} useful GFLOP "
        f"an image and step; peak memory {result['peak_memory_gib']:.2f} GiB",
    ])  # fmt: skip
