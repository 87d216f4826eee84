"""`sagan bench --data`: do the images of a run arrive as fast as its training step consumes them?"""

import json
import time
from pathlib import Path

from sagan.benchmark import step
from sagan.benchmark.forms import noise_inputs
from sagan.config import Config
from sagan.data import Dataset, TrainingBatches, find_data, in_memory, with_num_classes
from sagan.runtime.device import activation_dtype, choose_device, device_name, full_float32, prepare, wait_for
from sagan.runtime.files import write_atomically
from sagan.runtime.wording import counted
from sagan.training.performance import choose_updates
from sagan.training.state import TrainState, build_state
from sagan.training.steps import train_step


def bench(config: Config, json_file: Path | None = None) -> dict:
    """Measure the data of a run and its step, print which is faster, and write the result to `json_file` if given.

    Each is measured by itself. Packed data are read from the disk, after the system's cache of them is dropped.
    """
    device = choose_device(config.device)
    prepare(device)
    data = find_data(config.data)
    data.forget_cached()
    data = in_memory(data, config.data.memory_gb)
    config = with_num_classes(config, data)
    state = build_state(config, device, activation_dtype(config.training.precision, device))
    with full_float32(device):  # as in training
        seconds = seconds_of_step(state)
    consumed = config.training.d_steps * config.training.batch_size / seconds
    delivered, ahead = delivered_per_second(config, data, state), batches_of(config, data, state).workers
    result = {
        "delivered_images_per_second": delivered,
        "consumed_images_per_second": consumed,
        "delivered_per_consumed": delivered / consumed,
        "seconds_per_step": seconds,
        "workers": ahead,
        "residence": data.residence,
        "data": data.source,
        "device": device_name(device),
    }
    print(report(result))
    if json_file:
        write_atomically(json_file, lambda file: file.write(json.dumps(result, indent=2).encode()))
    return result


def seconds_of_step(state: TrainState) -> float:
    """Return the seconds of the fastest training step, on images that are already loaded."""
    inputs, updates = noise_inputs(state), choose_updates(state)
    return min(step.rounds({"step": lambda: train_step(state, inputs, updates)}, state.device)["step"])


def batches_of(config: Config, data: Dataset, state: TrainState) -> TrainingBatches:
    """Return the batches of a run in one process."""
    return TrainingBatches(
        data,
        seed=config.training.seed,
        batch_size=config.training.batch_size,
        flip=config.data.flip,
        workers=config.data.workers,
        device=state.device,
    )


def delivered_per_second(config: Config, data: Dataset, state: TrainState) -> float:
    """Return the images per second that arrive on the device, after the first batch."""
    batches = iter(batches_of(config, data, state))
    next(batches)  # starts the workers
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < step.SECONDS / 2:
        count += len(next(batches)[0].to(state.device))
    wait_for(state.device)
    return count / (time.perf_counter() - start)


def report(result: dict) -> str:
    """Return the result as text."""
    ratio, ahead = result["delivered_per_consumed"], result["workers"]
    how = f"read ahead by {counted(ahead, 'process', 'processes')}" if ahead else "not read ahead"
    verdict = "the step is the bottleneck: the data keep up"
    if ratio < 1:
        verdict = "data is the bottleneck. More data.workers, data.memory_gb, a faster disk or `sagan pack` may help"
    elif not ahead:
        verdict = f"the step is the bottleneck; loading its images adds {1 / ratio:.1%} to its time"
    lines = [
        f"{result['device']}; {result['data']}, {result['residence']}, {how}",
        f"the data deliver  {result['delivered_images_per_second']:10.1f} images/s",
        f"the step consumes {result['consumed_images_per_second']:10.1f} images/s: {ratio:.2f} times as many arrive",
        verdict,
    ]
    return "\n  ".join(lines)
