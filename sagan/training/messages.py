"""What a run tells its user: what it trains, how far it is, and what to do next."""

import os
import shlex
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from sagan.config import Config
from sagan.data import Dataset, summarize
from sagan.runs.directory import checkpoints
from sagan.runs.log import RunLog
from sagan.runtime.distributed import is_main, world_size
from sagan.training.state import TrainState


def introduction(config: Config, state: TrainState, data: Dataset) -> list[str]:
    """What is trained, on what and where; warnings about the data."""
    lines, warnings = summarize(data)
    count = {n: sum(p.numel() for p in getattr(state, n).parameters()) for n in ("generator", "discriminator")}
    processes = f"{world_size()} process{'es' if world_size() > 1 else ''}"
    threads = f", {torch.get_num_threads()} threads" if state.device.type == "cpu" else ""
    dtype = str(state.generator.compute_dtype).removeprefix("torch.")
    return [
        f"run {config.run_dir}: step {state.step} of {config.training.steps}, {config.training.batch_size} images a "
        f"step, {processes} on {state.device}{threads}, {dtype}",
        f"generator {count['generator']:,} parameters, discriminator {count['discriminator']:,}",
        *lines,
        *(f"warning: {w}" for w in warnings),
    ]


class Progress:
    """A bar with step, losses, images a second and time left; a context manager.

    Where no terminal would show it (stderr is a file or a pipe), a line of the log every half minute instead. Processes
    other than the main one show nothing.
    """

    SECONDS = 30.0  # between lines, where there is no bar

    def __init__(self, log: RunLog, step: int, config: Config):
        self.log, self.last, self.batch_size = log, config.training.steps, config.training.batch_size
        self.bar = tqdm(
            total=self.last,
            initial=step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            disable=None if is_main() else True,
        )
        self.losses = ""
        self.since = (step, time.perf_counter())  # of the line before

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()

    def __call__(self, step: int, values: dict[str, float] | None) -> None:
        """Shows that a step is done; `values` are None where its losses are not known yet."""
        if values is not None:
            self.losses = f"D {values['loss/discriminator']:.3f}, G {values['loss/generator']:+.3f}"
        if not self.bar.disable:
            rate = (self.bar.format_dict["rate"] or 0.0) * self.batch_size
            self.bar.set_postfix_str(f"{rate:.0f} images/s, {self.losses}", refresh=False)
            self.bar.update()
            return
        since, now = self.since, time.perf_counter()
        if now - since[1] >= self.SECONDS:
            rate = (step - since[0]) / (now - since[1])
            left = tqdm.format_interval((self.last - step) / rate)
            self.log.say(
                f"step {step} of {self.last}: {self.losses}, {rate * self.batch_size:.0f} images/s, {left} left"
            )
            self.since = step, now


def launcher() -> list[str]:
    """How this program was started, without its arguments: by itself, or by torchrun in several processes."""
    if world_size() == 1:
        return ["sagan"]
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    nodes = ["--nnodes", str(world_size() // here)] if here < world_size() else []
    return ["torchrun", *nodes, "--nproc_per_node", str(here), "-m", "sagan"]


def farewell(directory: Path, step: int, last: int) -> list[str]:
    """How far the run got, where everything lies, and what to do next."""
    checkpoint = (checkpoints(directory) or ["none"])[-1]
    if step < last:
        return [
            f"stopped after step {step} of {last}; saved {checkpoint}",
            f"the same command goes on: {shlex.join([*launcher(), *sys.argv[1:]])}",
        ]
    grids = sorted((directory / "samples").glob("step-*.png")) or ["none"]
    return [
        f"finished: {step} steps (a larger training.steps goes on)",
        f"  samples      {grids[-1]}",
        f"  checkpoint   {checkpoint}",
        f"  TensorBoard  tensorboard --logdir {directory}",
        "next:",
        f"  sagan sample {directory} --num 64",
        f"  sagan evaluate {directory} --extractor.name efficientnet-lite0 --num_samples 1000",
        f"  sagan export {directory}",
    ]
