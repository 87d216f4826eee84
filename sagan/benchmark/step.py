"""`sagan bench`: the time of a training step in each form, in one run, and where it goes.

Useful FLOPs are those of the plain form (1 multiply-add = 2), whatever form is measured, so an algebraic saving counts
as speed. Executed FLOPs are those of this program's form.
"""

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

import torch
import torch.nn.functional as F
from tqdm import tqdm

from sagan.benchmark import Form
from sagan.benchmark.forms import (
    Step,
    counted_flops,
    mimicry_step,
    noise_inputs,
    our_step,
    plain_form,
)
from sagan.benchmark.in_words import report
from sagan.benchmark.parts import StepInParts, loaded_inputs
from sagan.config import Config
from sagan.config.errors import one_line
from sagan.runtime.device import activation_dtype, choose_device, device_name, full_float32, prepare, wait_for
from sagan.runtime.files import write_atomically
from sagan.training.diagnostics import peak_memory
from sagan.training.health import FiniteWatch
from sagan.training.least_memory import require_memory_for
from sagan.training.state import build_state

T = TypeVar("T")
FORMS = get_args(Form)
MODES = FORMS[:3]
SECONDS = 60.0  # spent on measuring the forms, approximately; a third of it on a GPU
CALLS = 10  # between two events on a GPU: its queue never runs dry
LONG = 0.3  # seconds: one such call is enough
PART_ROUNDS = 5
BAR = "{l_bar}{bar}"


def bench(config: Config, json_file: Path | None = None, forms: Sequence[str] | None = None) -> dict:
    """Measure a preset's training step, print the result, and write it to `json_file` if one is given.

    The forms take turns, so that changing load affects all of them. The result of each is the median of its rounds.
    `forms` are those of FORMS to measure in addition to `auto`; None: all that work here.
    """
    if config.data.num_classes is None:
        config = replace(config, data=replace(config.data, num_classes=10))
    device = choose_device(config.device)
    require_memory_for(config, device)
    prepare(device)
    dtype = activation_dtype(config.training.precision, device)

    def save(result: dict) -> None:
        if json_file:
            write_atomically(json_file, lambda file: file.write(json.dumps(result, indent=2).encode()))

    with full_float32(device):
        result = measured(config, device, dtype, forms)
        save(result)  # a limit on time may end what follows
        if found := attempt("parts", partial(parts, config, device, dtype)):
            result["parts"] = found
            save(result)
    print(report(result))
    return result


def measured(config: Config, device: torch.device, dtype: torch.dtype, forms: Sequence[str] | None) -> dict:
    """Return the speed of the forms, their FLOPs, memory and ceilings."""
    times, flops, memory = speeds(config, device, dtype, forms)
    median = {name: statistics.median(values) for name, values in times.items()}
    images = config.training.batch_size
    result = {
        "images_per_second": images / median["auto"],
        "seconds_per_step": median["auto"],
        "matmul_gflops": ceiling(torch.float32, device),
        "forms": {name: spread(values) for name, values in times.items()},
        "peak_memory_gib": memory,
        "precision": str(dtype).removeprefix("torch."),
        "tf32": False,
        "batch_size": images,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **comparisons(median, flops, images),
    }
    if dtype != torch.float32:
        result["matmul_gflops_bf16"] = ceiling(dtype, device)
    return result


def speeds(
    config: Config, device: torch.device, dtype: torch.dtype, forms: Sequence[str] | None
) -> tuple[dict[str, list[float]], dict[str, int], float]:
    """Return the seconds of each form, the FLOPs of a step (executed and useful), and the peak memory of `auto`.

    A form that fails here, for example because memory is short, is left out with everything that depends on it.
    """
    auto = our_step(config, device, dtype, "auto")
    auto()
    memory = peak_memory(device)  # before the other forms take theirs
    makers: dict[str, Callable[[], Step | None]] = {
        **{mode: partial(our_step, config, device, dtype, mode) for mode in MODES},
        "plain": partial(plain_form, config, device),
        "mimicry": partial(mimicry_step, config, device),
    }
    if forms is None and device.type == "cpu":  # where auto is eager
        forms = [name for name in FORMS if name not in ("eager", "graphs")]
    chosen = {name: makers[name] for name in forms or FORMS}
    made = {"auto": auto, **working(chosen)}
    eager = "eager" if device.type == "cuda" else "auto"  # graphs and compiled steps hide their FLOPs
    flops = {k: counted_flops(made[form]) for k, form in (("executed", eager), ("useful", "plain")) if form in made}
    return rounds(made, device), flops, memory


def working(makers: dict[str, Callable[[], Step | None]]) -> dict[str, Step]:
    """Return the forms that work here, each already called once. A maker returns None if its form is not installed."""

    def called(make: Callable[[], Step | None]) -> Step | None:
        if form := make():
            form()
        return form

    bar = tqdm(makers.items(), desc="preparing", bar_format=BAR, disable=None, leave=False)
    return {name: form for name, make in bar if (form := attempt(name, partial(called, make)))}


def attempt(name: str, function: Callable[[], T]) -> T | None:
    """Return the result of a function; if it fails, say so and return None: other measurements still count."""
    try:
        return function()
    except Exception as error:  # of the compiler, of a capture, or of memory
        print(f"{name}: left out: {one_line(error) or type(error).__name__}", file=sys.stderr)
        return None


def comparisons(median: dict[str, float], flops: dict[str, int], images: int) -> dict[str, float]:
    """Return the ratios of the forms' times and the rates of FLOPs, of those that were measured."""
    found = {}
    for form in ("plain", "mimicry"):
        if form in median:
            found[f"speedup_over_{form}"] = median[form] / median["auto"]
    if "plain" in median:
        found["plain_images_per_second"] = images / median["plain"]
        found["plain_gflops"] = flops["useful"] / median["plain"] / 1e9
    for kind, rate in (("useful", "gflops"), ("executed", "executed_gflops")):
        if kind in flops:
            found[rate] = flops[kind] / median["auto"] / 1e9
            found[f"{kind}_gflop_per_image"] = flops[kind] / images / 1e9
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    """Return the median, the fastest and the slowest of some times, and their number."""
    return {
        "median": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "rounds": len(seconds),
    }


def rounds(functions: dict[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each function's calls, in at least three alternating rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    start, seconds = time.perf_counter(), SECONDS if device.type == "cpu" else SECONDS / 3
    with tqdm(total=seconds, desc="measuring", bar_format=BAR, disable=None, leave=False) as bar:
        while len(times[next(iter(times))]) < 3 or time.perf_counter() - start < seconds:
            for name, function in functions.items():
                times[name].append(timed(function, device))
            bar.update(min(time.perf_counter() - start, seconds) - bar.n)
    return times


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call: on a GPU, the mean of several between two events in its queue."""
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    seconds = between_events(function, 1, device)
    return seconds if seconds > LONG else between_events(function, CALLS, device)


def between_events(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the mean seconds of calls between two events in a GPU's queue."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    for _ in range(calls):
        function()
    after.record()
    wait_for(device)
    return before.elapsed_time(after) / 1e3 / calls


def parts(config: Config, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Return the median seconds of each part of a step, measured by itself and eagerly."""
    state = build_state(config, device, dtype)
    inputs, loaded, watch = noise_inputs(state), loaded_inputs(config), FiniteWatch(state)
    seconds: dict[str, list[float]] = defaultdict(list)
    start = time.perf_counter()
    for done in range(PART_ROUNDS + 1):
        if done > 2 and time.perf_counter() - start > SECONDS / 4:
            break
        d_inputs = [next(inputs) for _ in range(config.training.d_steps)]
        step = StepInParts(state, watch, loaded, d_inputs, next(inputs))
        for name, part in step.parts().items():
            seconds[name].append(timed(part, device))
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """Return the GFLOP/s of the fastest matrix product or 3x3 convolution of several sizes.

    It takes the best of both, because on some CPUs the library for one is much faster than the library for the other.
    """
    best = 0.0
    for n in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        best = max(best, 2 * n**3 / quickest(lambda a=a, b=b: a @ b, device) / 1e9)
    for channels, images in ((128, 32), (256, 32)) if device.type == "cpu" else ((256, 256), (512, 256)):
        x = torch.randn(images, channels, 32, 32, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        flops = 2 * 9 * channels**2 * images * 32 * 32
        best = max(best, flops / quickest(lambda x=x, w=w: F.conv2d(x, w, padding=1), device) / 1e9)
    return best


@torch.no_grad()
def quickest(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of a few calls, or of a single call if it takes more than a second."""
    seconds = timed(function, device)
    for _ in range(6 if seconds < 1 else 0):
        seconds = min(seconds, timed(function, device))
    return seconds
